//! Fragments of messages: `message/sipfrag` (RFC 3420).

use bytes::{Bytes, BytesMut};

use crate::error::{ParseError, ParseErrorKind};
use crate::headers::Headers;
use crate::index::{Index, StartLine, index, index_section, is_start_line};
use crate::limits::Limits;
use crate::message::text;
use crate::method::Method;
use crate::status::StatusCode;

/// Part of a message: perhaps a start line, some header fields, perhaps a body. The body of the NOTIFY that tells how a
/// REFER went is one.
///
/// ```
/// use sipora_message::{Fragment, FragmentStart, Limits, StatusCode};
///
/// // Many peers leave out the line end.
/// let fragment = Fragment::parse("SIP/2.0 180 Ringing", &Limits::default())?;
/// assert_eq!(fragment.status(), Some(StatusCode::RINGING));
/// assert!(fragment.headers().is_empty());
/// # Ok::<(), sipora_message::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Fragment {
    pub(crate) bytes: Bytes,
    pub(crate) start_line: Option<StartLine>,
    index: Index,
    /// Where the body begins; the end of the bytes where there is none.
    body: usize,
    has_body: bool,
}

/// The start line of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FragmentStart<'a> {
    /// A request line.
    Request {
        /// The method.
        method: &'a Method,
        /// The Request-URI as written.
        uri: &'a str,
    },
    /// A status line.
    Response {
        /// The status code.
        status: StatusCode,
        /// The reason phrase.
        reason: &'a str,
    },
    /// No start line: header fields alone.
    None,
}

impl Fragment {
    /// Parses a body of type `message/sipfrag`. A last line without its line end is read as if it had one.
    pub fn parse(bytes: impl Into<Bytes>, limits: &Limits) -> Result<Fragment, ParseError> {
        let bytes = ended(bytes.into());
        let refused = |kind, offset, header| ParseError::new(kind, offset, header, None);
        if bytes.is_empty() {
            return Err(refused(ParseErrorKind::Empty, 0, None));
        }
        // A header field may begin like a status line, but none has a space in its name.
        let result = if is_start_line(&bytes) {
            index(&bytes, limits).map(|head| (Some(head.start_line.clone()), head))
        } else {
            index_section(&bytes, limits).map(|head| (None, head))
        };
        let (start_line, mut head) =
            result.map_err(|defect| refused(defect.kind, defect.offset, defect.header))?;
        // "sipfrag = [ start-line ] *message-header [ CRLF [ message-body ] ]": no blank line is needed.
        let ends = head.defect.as_ref().is_some_and(|defect| {
            matches!(defect.kind, ParseErrorKind::NoBlankLine) && defect.offset == bytes.len()
        });
        match head.defect.take() {
            Some(defect) if !ends => {
                return Err(refused(defect.kind, defect.offset, defect.header));
            }
            _ => {}
        }
        let body = head.body as usize;
        if bytes.len().saturating_sub(body) > limits.body {
            return Err(refused(ParseErrorKind::BodyTooLong, body, None));
        }
        Ok(Fragment {
            start_line,
            index: head.index,
            body,
            has_body: !ends,
            bytes,
        })
    }

    /// The start line.
    pub fn start(&self) -> FragmentStart<'_> {
        match &self.start_line {
            None => FragmentStart::None,
            Some(StartLine::Request { method, uri, .. }) => FragmentStart::Request {
                method,
                uri: text(&self.bytes, *uri),
            },
            Some(StartLine::Response { status, reason, .. }) => FragmentStart::Response {
                status: *status,
                reason: text(&self.bytes, *reason),
            },
        }
    }

    /// The status, if the fragment begins with a status line: how a REFER went (RFC 3515 §2.4.5).
    pub fn status(&self) -> Option<StatusCode> {
        match self.start() {
            FragmentStart::Response { status, .. } => Some(status),
            _ => None,
        }
    }

    /// The header fields.
    pub fn headers(&self) -> Headers<'_> {
        Headers::new(&self.bytes, &self.index, self.body)
    }

    /// The body; `None` where not even a blank line follows the header fields.
    pub fn body(&self) -> Option<&[u8]> {
        self.has_body
            .then(|| self.bytes.get(self.body..).unwrap_or_default())
    }

    /// The fragment, with the last line end if it was missing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The same bytes with a line end, unless they have one or hold a body.
fn ended(bytes: Bytes) -> Bytes {
    if bytes.is_empty()
        || bytes.ends_with(b"\r\n")
        || crate::scan::find_text(b"\r\n\r\n", &bytes).is_some()
    {
        return bytes;
    }
    let mut longer = BytesMut::with_capacity(bytes.len() + 2);
    longer.extend_from_slice(&bytes);
    longer.extend_from_slice(b"\r\n");
    longer.freeze()
}
