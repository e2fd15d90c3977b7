//! Messages from scratch.

mod address;
mod auth;
mod inline;
mod request;
mod response;
mod value;
mod via;

use std::fmt::{self, Display};
use std::io::Write;

use bytes::Bytes;

pub use address::Address;
pub(crate) use address::quote;
pub use auth::AuthBuf;
pub use request::RequestBuilder;
pub(crate) use request::request_of;
pub(crate) use response::response_of;
pub use response::{PrintedResponse, ResponseBuilder};
pub use value::HeaderValue;
pub(crate) use value::check_token;
pub use via::ViaBuf;

pub(crate) use inline::Inline;

use crate::error::BuildError;
use crate::header_name::{HeaderName, Known, OTHER};
use crate::index::{Head, index};
use crate::limits::Limits;

/// Header lines and a body that are to become a message. The first error is kept and comes out at the end, so that
/// builders chain.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    /// Printed already.
    lines: Inline<LINES>,
    /// One bit for each known name that is there.
    seen: u128,
    body: Bytes,
    error: Option<BuildError>,
}

impl Parts {
    pub(crate) fn header(&mut self, name: HeaderName, value: impl Display) {
        self.header_of(name, Value::Shown(format_args!("{value}")));
    }

    pub(crate) fn text(&mut self, name: HeaderName, value: &str) {
        self.header_of(name, Value::Text(value));
    }

    /// One for all kinds of values.
    fn header_of(&mut self, name: HeaderName, value: Value<'_>) {
        let bit = bit(&name);
        let result = if bit == CONTENT_LENGTH_BIT {
            Err(BuildError::Reserved(name))
        } else if SINGLE & self.seen & bit != 0 {
            Err(BuildError::Duplicate(name))
        } else {
            self.seen |= bit;
            print_value(&mut self.lines, &name, value)
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }

    pub(crate) fn body(&mut self, content_type: &str, body: Bytes) {
        self.header(HeaderName::ContentType, content_type);
        self.body = body;
    }

    pub(crate) fn fail(&mut self, error: BuildError) {
        self.error.get_or_insert(error);
    }

    pub(crate) fn take_error(&mut self) -> Result<(), BuildError> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Whether a header field with a known name is there.
    fn contains(&self, name: &HeaderName) -> bool {
        self.seen & bit(name) != 0
    }

    /// Whether one of the header fields is there that an answer copies from its request.
    fn contains_copied(&self) -> bool {
        self.seen & COPIED != 0
    }

    /// The header lines, Content-Length, the blank line and the body.
    fn print(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.lines.as_slice());
        print_body(out, &self.body);
    }

    /// How many bytes [`Parts::print`] prints.
    fn size(&self) -> usize {
        let digits = self
            .body
            .len()
            .checked_ilog10()
            .map_or(1, |log| log as usize + 1);
        self.lines.len() + CONTENT_LENGTH.len() + digits + 4 + self.body.len()
    }
}

/// Header fields and bodies may hold what does not belong into a log.
impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lines, body) = (self.lines.len(), self.body.len());
        write!(f, "{lines} octets of header fields, {body} of body")
    }
}

/// Room for header lines on the stack. A 200 to a REGISTER with four contacts takes 350 bytes, a challenge with two
/// algorithms 300.
const LINES: usize = 384;

const CONTENT_LENGTH: &str = "Content-Length: ";

/// Header fields of which a message has at most one: a bit for each.
const SINGLE: u128 = 1 << Known::From as u8
    | 1 << Known::To as u8
    | 1 << Known::CallId as u8
    | 1 << Known::CSeq as u8
    | 1 << Known::MaxForwards as u8
    | 1 << Known::ContentType as u8
    | 1 << Known::Expires as u8
    | 1 << Known::MinExpires as u8
    | 1 << Known::Date as u8
    | 1 << Known::UserAgent as u8
    | 1 << Known::Server as u8;

/// Those that an answer copies, each once.
const COPIED: u128 = 1 << Known::From as u8
    | 1 << Known::To as u8
    | 1 << Known::CallId as u8
    | 1 << Known::CSeq as u8;

const CONTENT_LENGTH_BIT: u128 = 1 << Known::ContentLength as u8;

fn bit(name: &HeaderName) -> u128 {
    match name.id() {
        OTHER => 0,
        id => 1u128.checked_shl(u32::from(id)).unwrap_or(0),
    }
}

/// Prints a header line, or refuses what would make one header field two, or none.
pub(crate) fn print_checked(
    out: &mut impl Lines,
    name: &HeaderName,
    value: fmt::Arguments<'_>,
) -> Result<(), BuildError> {
    print_value(out, name, Value::Shown(value))
}

/// The value of a header line.
enum Value<'a> {
    Shown(fmt::Arguments<'a>),
    Text(&'a str),
}

fn print_value(
    out: &mut impl Lines,
    name: &HeaderName,
    value: Value<'_>,
) -> Result<(), BuildError> {
    if matches!(name, HeaderName::Other(_)) && !name.is_token() {
        return Err(BuildError::HeaderName(name.as_str().to_owned()));
    }
    let start = out.written().len();
    out.put(name.as_str().as_bytes());
    out.put(b": ");
    // Writing to memory cannot fail, a value of the caller's can.
    let printed = match value {
        Value::Shown(value) => fmt::Write::write_fmt(&mut Printer(out), value),
        Value::Text(text) => {
            out.put(text.as_bytes());
            Ok(())
        }
    };
    // Without an early end, so that it is done many bytes at a time.
    let injected = out.written().get(start..).is_some_and(|line| {
        line.iter()
            .fold(false, |found, byte| found | is_injection(*byte))
    });
    if injected || printed.is_err() {
        out.cut(start);
        return Err(BuildError::Injection(name.clone()));
    }
    out.put(b"\r\n");
    Ok(())
}

/// Where header lines are printed to.
pub(crate) trait Lines {
    fn put(&mut self, bytes: &[u8]);
    fn written(&self) -> &[u8];
    fn cut(&mut self, len: usize);
}

/// Prints text without the ways that errors of input and output would take.
struct Printer<'a, L>(&'a mut L);

impl<L: Lines> fmt::Write for Printer<'_, L> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put(text.as_bytes());
        Ok(())
    }
}

impl Lines for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn written(&self) -> &[u8] {
        self
    }

    fn cut(&mut self, len: usize) {
        self.truncate(len);
    }
}

impl<const N: usize> Lines for Inline<N> {
    fn put(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    fn written(&self) -> &[u8] {
        self.as_slice()
    }

    fn cut(&mut self, len: usize) {
        self.truncate(len);
    }
}

pub(crate) fn is_injection(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

pub(crate) fn print_line(out: &mut impl Write, name: &str, value: &[&[u8]]) {
    // Writing to memory cannot fail.
    let mut put = |bytes: &[u8]| drop(out.write_all(bytes));
    put(name.as_bytes());
    put(b": ");
    for piece in value {
        put(piece);
    }
    put(b"\r\n");
}

/// Content-Length (RFC 3261 §20.14), the blank line and the body.
pub(crate) fn print_body(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(CONTENT_LENGTH.as_bytes());
    push_decimal(out, body.len());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

fn push_decimal(out: &mut Vec<u8>, number: usize) {
    if let digit @ 0..10 = number {
        return out.push(b'0' + digit as u8);
    }
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_has_a_bit_of_its_own() {
        let mut seen = 0u128;
        for name in (0..OTHER).map_while(HeaderName::from_id) {
            assert_eq!(bit(&name).count_ones(), 1, "{name}");
            assert_eq!(seen & bit(&name), 0, "{name}");
            seen |= bit(&name);
        }
    }
}
