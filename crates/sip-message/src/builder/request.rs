//! Requests from scratch (RFC 3261 §8.1.1).

use std::fmt::Display;

use bytes::Bytes;

use super::{Parts, index_own, print_line};
use crate::error::BuildError;
use crate::header_name::HeaderName;
use crate::index::StartLine;
use crate::message::Raw;
use crate::method::Method;
use crate::request::Request;

/// Builds a request: From, To, Call-ID and CSeq have to be given, Max-Forwards is 70 unless given, Content-Length is
/// computed. A Via is not asked for, since each attempt to send the request prints its own.
///
/// Values are text as it stands on the wire; a line end or NUL in one makes [`RequestBuilder::build`] fail.
#[derive(Debug, Clone)]
#[must_use]
pub struct RequestBuilder {
    method: Method,
    uri: Box<str>,
    parts: Parts,
}

/// RFC 3261 §8.1.1.6: "This value SHOULD be 70."
const MAX_FORWARDS: &str = "70";

/// `Max-Forwards: 70` and its line end.
const MAX_FORWARDS_LINE: usize = 18;

/// The start line without method and URI: ` `, ` SIP/2.0` and the line end.
const START_LINE: usize = 11;

impl RequestBuilder {
    pub(crate) fn new(method: Method, uri: &str) -> RequestBuilder {
        RequestBuilder {
            method,
            uri: uri.into(),
            parts: Parts::default(),
        }
    }

    /// Appends a header line; lists may be given in several lines.
    pub fn header(mut self, name: impl Into<HeaderName>, value: impl Display) -> RequestBuilder {
        self.parts.header(name.into(), value);
        self
    }

    /// Appends a Via line.
    pub fn via(self, value: impl Display) -> RequestBuilder {
        self.header(HeaderName::Via, value)
    }

    /// Sets From: an [`Address`](crate::Address) or its text, with the tag.
    pub fn from(self, value: impl Display) -> RequestBuilder {
        self.header(HeaderName::From, value)
    }

    /// Sets To.
    pub fn to(self, value: impl Display) -> RequestBuilder {
        self.header(HeaderName::To, value)
    }

    /// Sets Call-ID.
    pub fn call_id(self, value: impl Display) -> RequestBuilder {
        self.header(HeaderName::CallId, value)
    }

    /// Sets the number of CSeq; its method is the request's.
    pub fn cseq(self, number: u32) -> RequestBuilder {
        let value = format!("{number} {}", self.method);
        self.header(HeaderName::CSeq, value)
    }

    /// Sets Max-Forwards.
    pub fn max_forwards(self, hops: u8) -> RequestBuilder {
        self.header(HeaderName::MaxForwards, hops)
    }

    /// Appends a Contact.
    pub fn contact(self, value: impl Display) -> RequestBuilder {
        self.header(HeaderName::Contact, value)
    }

    /// Appends a Route.
    pub fn route(self, value: impl Display) -> RequestBuilder {
        self.header(HeaderName::Route, value)
    }

    /// Sets Expires.
    pub fn expires(self, seconds: u32) -> RequestBuilder {
        self.header(HeaderName::Expires, seconds)
    }

    /// Sets the body and its Content-Type.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> RequestBuilder {
        self.parts.body(content_type, body.into());
        self
    }

    /// Prints the request and indexes it.
    pub fn build(mut self) -> Result<Request, BuildError> {
        self.parts.take_error()?;
        for name in [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
        ] {
            if !self.parts.contains(&name) {
                return Err(BuildError::Missing(name));
            }
        }
        if Method::from_bytes(self.method.as_str().as_bytes()).is_none() {
            return Err(BuildError::StartLine);
        }
        let hops = if self.parts.contains(&HeaderName::MaxForwards) {
            0
        } else {
            MAX_FORWARDS_LINE
        };
        let start_line = self.method.as_str().len() + self.uri.len() + START_LINE;
        let mut out = Vec::with_capacity(start_line + hops + self.parts.size());
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.uri.as_bytes());
        out.extend_from_slice(b" SIP/2.0\r\n");
        if !self.parts.contains(&HeaderName::MaxForwards) {
            print_line(&mut out, "Max-Forwards", &[MAX_FORWARDS.as_bytes()]);
        }
        self.parts.print(&mut out);
        request_of(out)
    }
}

/// Makes a request of bytes that were just printed.
pub(crate) fn request_of(out: Vec<u8>) -> Result<Request, BuildError> {
    let (bytes, head) = index_own(out)?;
    let StartLine::Request {
        method,
        uri,
        version,
        exact,
    } = head.start_line
    else {
        return Err(BuildError::StartLine);
    };
    if !exact {
        return Err(BuildError::StartLine);
    }
    Ok(Request {
        raw: Raw {
            bytes,
            index: head.index,
            body: head.body,
        },
        method,
        uri,
        version,
        exact,
    })
}
