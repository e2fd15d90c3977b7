//! Requests.

use bytes::Bytes;

use crate::builder::RequestBuilder;
use crate::classes::{offset_in, trim};
use crate::edit::Edit;
use crate::error::{ParseError, ParseErrorKind, Rejection};
use crate::header_name::Known;
use crate::headers::Headers;
use crate::index::{Index, Line, Span, lines_of};
use crate::limits::Limits;
use crate::message::{Message, Raw, text};
use crate::method::Method;
use crate::scan;
use crate::uri::{Uri, UriError, UriRef};

/// A request (RFC 3261 §7.1).
///
/// ```
/// use sipora_message::{Method, Request, Uri};
///
/// let request = Request::builder(Method::Options, &Uri::parse("sip:bob@example.com")?)
///     .from("<sip:alice@example.com>;tag=1")
///     .to("<sip:bob@example.com>")
///     .call_id("a84b4c76e66710")
///     .cseq(1)
///     .build()?;
/// assert_eq!(request.method(), &Method::Options);
/// assert_eq!(request.headers().from()?.tag(), Some("1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Request {
    pub(crate) raw: Raw,
    pub(crate) method: Method,
    pub(crate) uri: Span,
    pub(crate) version: Span,
    pub(crate) exact: bool,
}

impl Request {
    /// Parses a datagram that has to be a request; see [`Message::parse`].
    pub fn parse(bytes: impl Into<Bytes>, limits: &Limits) -> Result<Request, ParseError> {
        match Message::parse(bytes, limits)? {
            Message::Request(request) => Ok(request),
            Message::Response(_) => Err(ParseError::new(ParseErrorKind::StartLine, 0, None, None)),
        }
    }

    /// Begins a request from scratch; see [`RequestBuilder`].
    pub fn builder<'a>(method: Method, uri: impl Into<UriRef<'a>>) -> RequestBuilder {
        RequestBuilder::new(method, uri.into().as_str())
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The Request-URI as written.
    pub fn uri_text(&self) -> &str {
        text(&self.raw.bytes, self.uri)
    }

    /// The Request-URI.
    #[inline(always)]
    pub fn uri(&self) -> Result<UriRef<'_>, UriError> {
        match self.raw.index.facts().uri() {
            Some(packed) => Ok(UriRef::unpack(self.uri.of(&self.raw.bytes), packed)),
            None => UriRef::parse(self.uri_text()),
        }
    }

    /// The version as written, `SIP/2.0` if all is well.
    pub fn version(&self) -> &str {
        text(&self.raw.bytes, self.version)
    }

    /// The header fields.
    pub fn headers(&self) -> Headers<'_> {
        self.raw.headers()
    }

    /// The body, without the blank line.
    pub fn body(&self) -> &[u8] {
        self.raw.body()
    }

    /// The request as received, or as it will be sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw.bytes
    }

    /// The same, sharing the buffer.
    pub fn to_bytes(&self) -> Bytes {
        self.raw.bytes.clone()
    }

    /// The same, keeping the buffer alone.
    pub fn into_bytes(self) -> Bytes {
        self.raw.bytes
    }

    /// Whether the request is fit to be processed (RFC 3261 §8.1.1 and §8.2), and if not, the status it is owed.
    ///
    /// This is syntax alone: version (505); the Request-URI; one From, To, Call-ID, CSeq, and a top Via, each by its
    /// grammar; CSeq's method; Max-Forwards and Contact where they are there (400). Which methods (405, 501), schemes
    /// (416), extensions (420) and bodies (415) are served is for the user agent to say. A CSeq with another method
    /// than an unknown one in the start line gets 501 (RFC 4475 §3.1.2.18). Malformed Expires and Date do not reject a
    /// request: "a UAS SHOULD ignore any malformed header fields that are not necessary".
    pub fn check(&self) -> Result<(), Rejection> {
        crate::check::request(self)
    }

    /// The same request with a Via line in front of all others.
    ///
    /// A line end or NUL in `value` would make it two header fields; each becomes a space.
    pub fn with_top_via(&self, value: &str) -> Request {
        let source = &self.raw.bytes;
        let value = trim(value.as_bytes());
        let lines = self.raw.index.lines();
        let first = match lines.first() {
            Some(line) => line.start,
            None => self.start_line_end(),
        };
        let (before, after) = source
            .split_at_checked(first as usize)
            .unwrap_or((source, &[]));
        let mut out = Vec::with_capacity(source.len() + value.len() + 7);
        out.extend_from_slice(before);
        out.extend_from_slice(b"Via: ");
        out.extend(value.iter().copied().map(without_line_end));
        out.extend_from_slice(b"\r\n");
        let added = (out.len() - before.len()) as u32;
        out.extend_from_slice(after);
        let value_len = added.saturating_sub(7);
        let via = Line {
            start: first,
            value: Span {
                start: first + 5,
                end: first + 5 + value_len,
            },
            name_len: 3,
            id: Known::Via as u8,
            repeated: false,
        };
        let moved = lines.iter().map(|line| Line {
            start: line.start.saturating_add(added),
            value: Span {
                start: line.value.start.saturating_add(added),
                end: line.value.end.saturating_add(added),
            },
            ..*line
        });
        let mut lines: Vec<Line> = std::iter::once(via).chain(moved).collect();
        let mut facts = *self.raw.index.facts();
        facts.learn_via(via.value.of(&out));
        Request {
            raw: Raw {
                index: Index::of_lines(facts, &mut lines),
                bytes: Bytes::from(out),
                body: self.raw.body.saturating_add(added),
            },
            ..self.clone()
        }
    }

    /// The same request with its top Via replaced, other values of its line untouched: how a receiver stamps it (RFC 3261
    /// §18.2.1, RFC 3581 §4). The index moves along, so that nothing is parsed again. `None` where the top Via cannot be
    /// read.
    ///
    /// A line end or NUL in `value` would make it two header fields; each becomes a space.
    ///
    /// ```
    /// # use sipora_message::{HeaderName, Limits, Request};
    /// let text = "OPTIONS sip:b@b SIP/2.0\r\nv: SIP/2.0/UDP a;rport, SIP/2.0/UDP b\r\nCall-ID: x\r\n\r\n";
    /// let request = Request::parse(text, &Limits::default())?;
    /// let stamped = request.with_top_via_replaced(b"SIP/2.0/UDP a;rport=5070").unwrap();
    /// assert_eq!(stamped.headers().via()?.rport(), Some(Some(5070)));
    /// assert_eq!(stamped.headers().vias().count(), 2);
    /// assert_eq!(stamped.headers().call_id()?, "x");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_top_via_replaced(&self, value: &[u8]) -> Option<Request> {
        let value = trim(value);
        let source = &self.raw.bytes;
        let headers = self.headers();
        let via = headers.via().ok()?;
        let old = via.as_bytes();
        let start = offset_in(source, old);
        let (before, rest) = source.split_at_checked(start)?;
        let after = rest.get(old.len()..)?;
        let mut out = Vec::with_capacity(source.len() - old.len() + value.len());
        out.extend_from_slice(before);
        out.extend(value.iter().copied().map(without_line_end));
        out.extend_from_slice(after);
        let (removed, added) = (old.len() as u32, value.len() as u32);
        let moved = |offset: u32| match offset as usize > start {
            true => offset.saturating_sub(removed).saturating_add(added),
            false => offset,
        };
        let moved_line = |line: &Line| Line {
            start: moved(line.start),
            value: Span {
                start: moved(line.value.start),
                end: moved(line.value.end),
            },
            ..*line
        };
        let lines = self.raw.index.lines().iter().map(moved_line);
        let mut facts = *self.raw.index.facts();
        let top = lines_of(&self.raw.index, Known::Via as u8).next();
        facts.learn_via(top.map_or(&[], |line| moved_line(line).value.of(&out)));
        Some(Request {
            raw: Raw {
                index: Index::of_moved(facts, lines),
                bytes: Bytes::from(out),
                body: moved(self.raw.body),
            },
            method: self.method.clone(),
            uri: self.uri,
            version: self.version,
            exact: self.exact,
        })
    }

    /// Where the header section begins. What could be read of a broken request may not have its blank line.
    fn start_line_end(&self) -> u32 {
        let end = self.version.end;
        let rest = self.raw.bytes.get(end as usize..).unwrap_or_default();
        scan::find(b'\n', rest).map_or(end, |length| end + length as u32 + 1)
    }

    /// Begins a copy with changes; what is not changed keeps its bytes.
    pub fn edit(&self) -> Edit<Request> {
        Edit::new(self.clone(), self.raw.clone())
    }

    /// The owned Request-URI.
    pub fn to_uri(&self) -> Result<Uri, UriError> {
        Uri::parse(self.uri_text())
    }
}

/// Keeps a value in its line.
fn without_line_end(byte: u8) -> u8 {
    match byte {
        b'\r' | b'\n' | 0 => b' ',
        byte => byte,
    }
}
