//! Errors of parsing and of typed header access.

use std::fmt;

use crate::header_name::HeaderName;
use crate::request::Request;
use crate::status::StatusCode;

/// Bytes that are no message that this crate could represent.
///
/// Where the bytes were a request, [`ParseError::request`] holds what could be read of it, so that a server can still
/// answer with [`ParseError::status`] (RFC 3261 §8.2.6.2).
#[derive(Clone)]
pub struct ParseError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ParseErrorKind,
    offset: usize,
    header: Option<HeaderName>,
    request: Option<Request>,
}

/// What was wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Nothing but CR LF, as keep-alives are.
    #[error("no message, only line ends")]
    Empty,
    /// The first line is neither a request line nor a status line.
    #[error("not a SIP start line")]
    StartLine,
    /// The status code is not 100 to 699.
    #[error("status code out of range")]
    StatusCode,
    /// A line without a colon, or with a name that is no token.
    #[error("not a header field")]
    HeaderLine,
    /// A CR or LF that ends no line: what one reader takes for a line end and another does not.
    #[error("bare CR or LF in the header section")]
    BareLineEnd,
    /// The blank line behind the header fields is missing.
    #[error("the header section does not end")]
    NoBlankLine,
    /// A Content-Length that is no number below 2^32.
    #[error("Content-Length is not a number")]
    ContentLength,
    /// Two Content-Length fields that differ.
    #[error("Content-Length fields that contradict each other")]
    ContentLengthConflict,
    /// More bytes promised than there are.
    #[error("the body is shorter than Content-Length")]
    BodyTooShort,
    /// On a stream, no Content-Length at all (RFC 3261 §18.3).
    #[error("no Content-Length on a stream")]
    NoContentLength,
    /// [`Limits::start_line`](crate::Limits).
    #[error("start line longer than the limit")]
    StartLineTooLong,
    /// [`Limits::header_line`](crate::Limits).
    #[error("header field longer than the limit")]
    HeaderLineTooLong,
    /// [`Limits::header_count`](crate::Limits).
    #[error("more header fields than the limit")]
    TooManyHeaders,
    /// [`Limits::header_bytes`](crate::Limits).
    #[error("header section longer than the limit")]
    HeadersTooLong,
    /// [`Limits::body`](crate::Limits).
    #[error("body longer than the limit")]
    BodyTooLong,
}

impl ParseError {
    pub(crate) fn new(
        kind: ParseErrorKind,
        offset: usize,
        header: Option<HeaderName>,
        request: Option<Request>,
    ) -> ParseError {
        ParseError(Box::new(Inner {
            kind,
            offset,
            header,
            request,
        }))
    }

    /// What was wrong.
    pub fn kind(&self) -> ParseErrorKind {
        self.0.kind
    }

    /// The byte at which it was wrong.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// The header field in which it was wrong, if it was one.
    pub fn header(&self) -> Option<&HeaderName> {
        self.0.header.as_ref()
    }

    /// What could be read of a request; `None` for responses and for what has no readable request line.
    pub fn request(&self) -> Option<&Request> {
        self.0.request.as_ref()
    }

    /// The status that a request so broken is owed.
    pub fn status(&self) -> StatusCode {
        match self.0.kind {
            ParseErrorKind::StartLineTooLong => StatusCode::REQUEST_URI_TOO_LONG,
            ParseErrorKind::BodyTooLong => StatusCode::REQUEST_ENTITY_TOO_LARGE,
            ParseErrorKind::HeaderLineTooLong
            | ParseErrorKind::TooManyHeaders
            | ParseErrorKind::HeadersTooLong => StatusCode::MESSAGE_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Debug for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParseError")
            .field("kind", &self.0.kind)
            .field("offset", &self.0.offset)
            .field("header", &self.0.header)
            .field("request", &self.0.request.is_some())
            .finish()
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.0.kind, self.0.offset)?;
        match &self.0.header {
            Some(header) => write!(f, " ({header})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.kind)
    }
}

/// A header field that is missing or that its grammar refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header}: {reason} at offset {offset}")]
pub struct HeaderError {
    pub(crate) header: HeaderName,
    pub(crate) reason: &'static str,
    pub(crate) offset: usize,
    pub(crate) missing: bool,
}

impl HeaderError {
    pub(crate) fn missing(header: HeaderName, offset: usize) -> HeaderError {
        HeaderError {
            header,
            reason: "missing",
            offset,
            missing: true,
        }
    }

    /// The header field.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// What is wrong with it, in a few words.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The byte of the message at which it is wrong.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the field is not there at all.
    pub fn is_missing(&self) -> bool {
        self.missing
    }
}

/// Why a message is refused that could be read: the status owed, the header field and the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {reason} at offset {offset}")]
#[non_exhaustive]
pub struct Rejection {
    /// The status that the request is owed. A response with a defect is dropped instead (RFC 3261 §8.1.3).
    pub status: StatusCode,
    /// The header field that is wrong; `None` for the start line.
    pub header: Option<HeaderName>,
    /// The byte of the message at which it is wrong.
    pub offset: usize,
    /// What is wrong, fit for a reason phrase or a Warning.
    pub reason: std::borrow::Cow<'static, str>,
}

impl Rejection {
    pub(crate) fn new(
        status: StatusCode,
        header: Option<HeaderName>,
        offset: usize,
        reason: &'static str,
    ) -> Rejection {
        Rejection {
            status,
            header,
            offset,
            reason: reason.into(),
        }
    }
}

impl From<HeaderError> for Rejection {
    fn from(error: HeaderError) -> Rejection {
        Rejection {
            status: StatusCode::BAD_REQUEST,
            reason: format!("{}: {}", error.header, error.reason).into(),
            header: Some(error.header),
            offset: error.offset,
        }
    }
}

/// A message that the builders or an edit refuse to make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// CR, LF or NUL in a value, a reason phrase or a name: one header field could become two.
    #[error("{0}: line end or NUL in the value")]
    Injection(HeaderName),
    /// A header name that is no token.
    #[error("{0:?} is no header name")]
    HeaderName(String),
    /// A header field without which there is no message (RFC 3261 §8.1.1).
    #[error("{0} is missing")]
    Missing(HeaderName),
    /// A header field that may be there only once.
    #[error("{0} is there twice")]
    Duplicate(HeaderName),
    /// A header field that the builder writes itself.
    #[error("{0} is written by the builder")]
    Reserved(HeaderName),
    /// A method or reason phrase with characters that it cannot hold.
    #[error("invalid start line")]
    StartLine,
    /// A multipart boundary that RFC 2046 does not allow, or that occurs in a part.
    #[error("unusable multipart boundary")]
    Boundary,
    /// Larger than 32-bit offsets reach.
    #[error("message larger than 4 GiB")]
    TooLarge,
}
