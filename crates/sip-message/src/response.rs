//! Responses.

use std::borrow::Cow;

use bytes::Bytes;

use crate::builder::ResponseBuilder;
use crate::edit::Edit;
use crate::error::{ParseError, ParseErrorKind, Rejection};
use crate::headers::Headers;
use crate::index::Span;
use crate::limits::Limits;
use crate::message::{Message, Raw, text};
use crate::request::Request;
use crate::status::StatusCode;

/// A response (RFC 3261 §7.2).
#[derive(Clone)]
pub struct Response {
    pub(crate) raw: Raw,
    pub(crate) version: Span,
    pub(crate) status: StatusCode,
    pub(crate) reason: Span,
}

impl Response {
    /// Parses a datagram that has to be a response; see [`Message::parse`].
    pub fn parse(bytes: impl Into<Bytes>, limits: &Limits) -> Result<Response, ParseError> {
        match Message::parse(bytes, limits)? {
            Message::Response(response) => Ok(response),
            Message::Request(_) => Err(ParseError::new(ParseErrorKind::StartLine, 0, None, None)),
        }
    }

    /// Begins a response from scratch.
    pub fn builder(status: StatusCode) -> ResponseBuilder {
        ResponseBuilder::new(status, None)
    }

    /// Begins the answer to a request: every Via, From, To, Call-ID and CSeq are copied (RFC 3261 §8.2.6.2), and
    /// Timestamp into a 100 (§8.2.6.1).
    pub fn for_request(request: &Request, status: StatusCode) -> ResponseBuilder {
        ResponseBuilder::new(status, Some(request.clone()))
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason phrase; octets that are no UTF-8 become U+FFFD.
    pub fn reason(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.reason.of(&self.raw.bytes))
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

    /// The response as received, or as it will be sent.
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

    /// Whether the response is fit to be matched to its transaction: version, top Via, From, To, Call-ID and CSeq.
    /// One that is not is dropped; nothing is ever sent in return, so the status in the rejection means nothing.
    pub fn check(&self) -> Result<(), Rejection> {
        crate::check::response(self)
    }

    /// Begins a copy with changes; what is not changed keeps its bytes.
    pub fn edit(&self) -> Edit<Response> {
        Edit::new(self.clone(), self.raw.clone())
    }
}
