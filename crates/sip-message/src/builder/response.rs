//! Responses, from scratch or to a request (RFC 3261 §8.2.6).

use std::fmt::Display;
use std::io::Write;

use bytes::Bytes;

use super::{Inline, Parts, index_own, is_injection, print_line};
use crate::classes::is_token;
use crate::error::BuildError;
use crate::header_name::HeaderName;
use crate::index::StartLine;
use crate::message::Raw;
use crate::request::Request;
use crate::response::Response;
use crate::status::StatusCode;

/// Builds a response. To a request it copies what RFC 3261 §8.2.6.2 asks for, byte for byte, as far as the request
/// has it; Content-Length is computed.
#[derive(Debug, Clone)]
#[must_use]
pub struct ResponseBuilder {
    status: StatusCode,
    reason: Option<Box<str>>,
    request: Option<Request>,
    /// Empty where none is given.
    to_tag: Inline<TAG>,
    record_route: bool,
    parts: Parts,
}

impl ResponseBuilder {
    pub(crate) fn new(status: StatusCode, request: Option<Request>) -> ResponseBuilder {
        ResponseBuilder {
            status,
            reason: None,
            request,
            to_tag: Inline::default(),
            record_route: false,
            parts: Parts::default(),
        }
    }

    /// Sets the reason phrase; without it the status's own is printed.
    pub fn reason(mut self, reason: &str) -> ResponseBuilder {
        if reason.bytes().any(is_injection) {
            self.parts.fail(BuildError::StartLine);
        }
        self.reason = Some(reason.into());
        self
    }

    /// Adds a tag to the copied To if it has none: "the UAS MUST add a tag to the To header field in the response"
    /// (RFC 3261 §8.2.6.2).
    pub fn to_tag(mut self, tag: &str) -> ResponseBuilder {
        if tag.is_empty() || !tag.bytes().all(is_token) {
            self.parts.fail(BuildError::Injection(HeaderName::To));
        }
        self.to_tag.clear();
        self.to_tag.push(tag.as_bytes());
        self
    }

    /// Copies the Record-Route lines too, as answers that make a dialog do (RFC 3261 §12.1.1).
    pub fn record_route(mut self) -> ResponseBuilder {
        self.record_route = true;
        self
    }

    /// Appends a header line; lists may be given in several lines.
    pub fn header(mut self, name: impl Into<HeaderName>, value: impl Display) -> ResponseBuilder {
        self.parts.header(name.into(), value);
        self
    }

    /// Appends a Contact.
    pub fn contact(self, value: impl Display) -> ResponseBuilder {
        self.header(HeaderName::Contact, value)
    }

    /// Sets the body and its Content-Type.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> ResponseBuilder {
        self.parts.body(content_type, body.into());
        self
    }

    /// Prints the response and indexes it.
    pub fn build(mut self) -> Result<Response, BuildError> {
        self.parts.take_error()?;
        let reason = self
            .reason
            .as_deref()
            .unwrap_or(self.status.default_reason());
        let status = self.status;
        let adds_tag = self.adds_tag();
        // Printed twice, first for its size: what is kept for retransmissions is kept at its size.
        let mut size = Size(self.parts.size());
        self.copy(&mut size, adds_tag)?;
        let mut out = Vec::with_capacity(size.0 + START_LINE + reason.len());
        // Writing to a vector cannot fail.
        let _ = write!(out, "SIP/2.0 {status} {reason}\r\n");
        self.copy(&mut out, adds_tag)?;
        self.parts.print(&mut out);
        response_of(out)
    }

    /// Whether the copied To gets a tag.
    fn adds_tag(&self) -> bool {
        let to = |request: &Request| match request.headers().first(&HeaderName::To) {
            Some(value) => !has_tag(request, value),
            None => false,
        };
        self.to_tag.len() > 0 && self.request.as_ref().is_some_and(to)
    }

    /// The lines that come from the request.
    fn copy(&self, out: &mut impl Write, adds_tag: bool) -> Result<(), BuildError> {
        let Some(request) = &self.request else {
            return Ok(());
        };
        let headers = request.headers();
        let mut copy_all = |name: HeaderName| {
            for value in headers.all(&name) {
                print_line(out, name.as_str(), &[value]);
            }
        };
        copy_all(HeaderName::Via);
        if self.record_route {
            copy_all(HeaderName::RecordRoute);
        }
        if self.status == StatusCode::TRYING {
            copy_all(HeaderName::Timestamp);
        }
        for name in [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
        ] {
            if self.parts.contains(&name) {
                return Err(BuildError::Duplicate(name));
            }
            let Some(value) = headers.first(&name) else {
                continue;
            };
            if name == HeaderName::To && adds_tag {
                let tag = self.to_tag.as_slice();
                print_line(out, name.as_str(), &[value, b";tag=", tag]);
            } else {
                print_line(out, name.as_str(), &[value]);
            }
        }
        Ok(())
    }
}

/// Counts what is printed.
struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `SIP/2.0 200 ` and the line end.
const START_LINE: usize = 14;

/// Room for a tag on the stack; 64 bits in hexadecimal take 16.
const TAG: usize = 48;

/// A To that its grammar refuses is searched as text: to answer it with two tags would be worse than with none.
fn has_tag(request: &Request, value: &[u8]) -> bool {
    match request.headers().to() {
        Ok(to) => to.params().contains("tag"),
        Err(_) => memchr::memmem::find(&value.to_ascii_lowercase(), b"tag").is_some(),
    }
}

/// Makes a response of bytes that were just printed.
pub(crate) fn response_of(out: Vec<u8>) -> Result<Response, BuildError> {
    let (bytes, head) = index_own(out)?;
    let StartLine::Response {
        version,
        status,
        reason,
    } = head.start_line
    else {
        return Err(BuildError::StartLine);
    };
    Ok(Response {
        raw: Raw {
            bytes,
            index: head.index,
            body: head.body,
        },
        version,
        status,
        reason,
    })
}
