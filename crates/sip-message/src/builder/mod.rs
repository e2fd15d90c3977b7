//! Messages from scratch.

mod address;
mod request;
mod response;

use std::fmt::Display;

use bytes::Bytes;

pub use address::Address;
pub use request::RequestBuilder;
pub(crate) use request::request_of;
pub use response::ResponseBuilder;
pub(crate) use response::response_of;

use crate::error::BuildError;
use crate::header_name::HeaderName;
use crate::index::{Head, index};
use crate::limits::Limits;

/// Header lines and a body that are to become a message. The first error is kept and comes out at the end, so that
/// builders chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    lines: Vec<(HeaderName, Box<str>)>,
    body: Bytes,
    content_type: Option<Box<str>>,
    error: Option<BuildError>,
}

impl Parts {
    pub(crate) fn header(&mut self, name: HeaderName, value: impl Display) {
        if name == HeaderName::ContentLength {
            self.fail(BuildError::Reserved(name));
            return;
        }
        match checked_value(&name, value.to_string()) {
            Ok(value) if name == HeaderName::ContentType => self.content_type = Some(value.into()),
            Ok(value) => self.lines.push((name, value.into())),
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn body(&mut self, content_type: &str, body: Bytes) {
        self.header(HeaderName::ContentType, content_type);
        self.body = body;
    }

    pub(crate) fn fail(&mut self, error: BuildError) {
        self.error.get_or_insert(error);
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.lines.iter().any(|(found, _)| found == name)
    }

    /// Each header field of RFC 3261 that stands alone stands alone, and what must be there is there.
    fn complete(&self, required: &[HeaderName]) -> Result<(), BuildError> {
        for name in required {
            if !self.contains(name) {
                return Err(BuildError::Missing(name.clone()));
            }
        }
        for name in SINGLE {
            if self
                .lines
                .iter()
                .filter(|(found, _)| *found == name)
                .count()
                > 1
            {
                return Err(BuildError::Duplicate(name));
            }
        }
        Ok(())
    }

    fn print_lines(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.lines {
            print_line(out, name.as_str(), value.as_bytes());
        }
    }

    /// Content-Type, Content-Length, the blank line and the body.
    fn print_end(&self, out: &mut Vec<u8>) {
        if let Some(content_type) = &self.content_type {
            print_line(out, "Content-Type", content_type.as_bytes());
        }
        print_body(out, &self.body);
    }

    fn size(&self) -> usize {
        let line = |(name, value): &(HeaderName, Box<str>)| name.as_str().len() + value.len() + 4;
        self.lines.iter().map(line).sum::<usize>() + self.body.len() + 64
    }
}

/// Header fields of which a message has at most one.
const SINGLE: [HeaderName; 10] = [
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::MaxForwards,
    HeaderName::Expires,
    HeaderName::MinExpires,
    HeaderName::Date,
    HeaderName::UserAgent,
    HeaderName::Server,
];

/// Refuses what would make one header field two, or none.
pub(crate) fn checked_value(name: &HeaderName, value: String) -> Result<String, BuildError> {
    if !name.is_token() {
        return Err(BuildError::HeaderName(name.as_str().to_owned()));
    }
    if value.bytes().any(is_injection) {
        return Err(BuildError::Injection(name.clone()));
    }
    Ok(value)
}

pub(crate) fn is_injection(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

pub(crate) fn print_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Content-Length (RFC 3261 §20.14), the blank line and the body.
pub(crate) fn print_body(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// Indexes a message that was just printed.
pub(crate) fn index_own(out: Vec<u8>) -> Result<(Bytes, Head), BuildError> {
    if u32::try_from(out.len()).is_err() {
        return Err(BuildError::TooLarge);
    }
    let bytes = Bytes::from(out);
    match index(&bytes, &Limits::OWN) {
        Ok(head) if head.defect.is_none() => Ok((bytes, head)),
        _ => Err(BuildError::StartLine),
    }
}
