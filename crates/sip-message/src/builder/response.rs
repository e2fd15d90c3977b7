//! Responses, from scratch or to a request (RFC 3261 §8.2.6).

use std::fmt::Display;

use bytes::Bytes;

use super::{Inline, Parts, index_own, is_injection};
use crate::classes::is_token;
use crate::cursor::Piece;
use crate::error::BuildError;
use crate::header_name::{HeaderName, Known};
use crate::index::{Copies, Head, Line, ROOM, Span, StartLine, lines_of};
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

    /// Appends a header line whose value is a text: what [`header`](Self::header) does, for less.
    pub fn text(mut self, name: impl Into<HeaderName>, value: &str) -> ResponseBuilder {
        self.parts.text(name.into(), value);
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
        let mut room = ROOM;
        let mut copies = Copies::new(&mut room);
        let out = self.printed(Some(&mut copies))?;
        match copies.index(&out) {
            Ok(head) if head.defect.is_none() => response(Bytes::from(out), head),
            _ => Err(BuildError::StartLine),
        }
    }

    /// Prints the response for who only sends it: saves the time that its index takes.
    ///
    /// ```
    /// use sipora_message::{Request, Response, StatusCode};
    ///
    /// let options = Request::parse(
    ///     "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@example.com>;tag=1\r\n\
    ///      To: <sip:bob@example.com>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n",
    ///     &Default::default(),
    /// )?;
    /// let answer = Response::for_request(&options, StatusCode::OK).to_tag("2").print()?;
    /// assert_eq!(answer.status(), StatusCode::OK);
    /// assert!(answer.as_bytes().starts_with(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn print(mut self) -> Result<PrintedResponse, BuildError> {
        let out = self.printed(None)?;
        let printed = PrintedResponse {
            status: self.status,
            bytes: Bytes::from(out),
        };
        debug_assert!(
            self.build()
                .is_ok_and(|built| built.as_bytes() == printed.as_bytes())
        );
        Ok(printed)
    }

    fn printed(&mut self, copies: Option<&mut Copies<'_>>) -> Result<Vec<u8>, BuildError> {
        self.parts.take_error()?;
        if let Some(name) = self.given_twice() {
            return Err(BuildError::Duplicate(name));
        }
        let reason = self
            .reason
            .as_deref()
            .unwrap_or(self.status.default_reason());
        let tag = match self.adds_tag() {
            true => self.to_tag.as_slice(),
            false => &[],
        };
        // What is kept for retransmissions is kept at its size.
        let size = START_LINE + reason.len() + self.copied_size(tag) + self.parts.size();
        if u32::try_from(size).is_err() {
            return Err(BuildError::TooLarge);
        }
        let mut out = Vec::with_capacity(size);
        let [hundreds, tens, ones] = digits(self.status);
        out.extend_from_slice(b"SIP/2.0 ");
        out.extend_from_slice(&[hundreds, tens, ones, b' ']);
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.copy(&mut out, copies, tag);
        self.parts.print(&mut out);
        debug_assert_eq!(out.len(), size);
        Ok(out)
    }

    /// A header field that is copied and given besides.
    fn given_twice(&self) -> Option<HeaderName> {
        self.request.as_ref()?;
        if !self.parts.contains_copied() {
            return None;
        }
        let names = [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
        ];
        names.into_iter().find(|name| self.parts.contains(name))
    }

    /// Whether the copied To gets a tag.
    fn adds_tag(&self) -> bool {
        let to = |request: &Request| match request.headers().first(&HeaderName::To) {
            Some(value) => !has_tag(request, value),
            None => false,
        };
        self.to_tag.len() > 0 && self.request.as_ref().is_some_and(to)
    }

    /// The lines that come from the request: how each begins, and where it is there.
    #[inline]
    fn copied(&self) -> impl Iterator<Item = (&'static [u8], &Line)> {
        let is_trying = self.status == StatusCode::TRYING;
        let fields: [(&'static [u8], Known, usize); 7] = [
            (b"Via: ", Known::Via, usize::MAX),
            (
                b"Record-Route: ",
                Known::RecordRoute,
                if self.record_route { usize::MAX } else { 0 },
            ),
            (
                b"Timestamp: ",
                Known::Timestamp,
                if is_trying { usize::MAX } else { 0 },
            ),
            (b"From: ", Known::From, 1),
            (b"To: ", Known::To, 1),
            (b"Call-ID: ", Known::CallId, 1),
            (b"CSeq: ", Known::CSeq, 1),
        ];
        let index = self.request.as_ref().map(|request| &request.raw.index);
        index.into_iter().flat_map(move |index| {
            fields
                .into_iter()
                .filter(|(.., count)| *count > 0)
                .flat_map(move |(start, name, count)| {
                    lines_of(index, name as u8)
                        .take(count)
                        .map(move |line| (start, line))
                })
        })
    }

    fn copied_size(&self, tag: &[u8]) -> usize {
        let value = |line: &Line| line.value.end.saturating_sub(line.value.start) as usize;
        let lines = self
            .copied()
            .map(|(start, line)| start.len() + value(line) + 2);
        let tag = match tag {
            [] => 0,
            tag => TAG_NAME.len() + tag.len(),
        };
        lines.sum::<usize>() + tag
    }

    /// Copies lines of the request, and notes them where somebody wants to know where they are.
    #[inline]
    fn copy(&self, out: &mut Vec<u8>, mut copies: Option<&mut Copies<'_>>, tag: &[u8]) {
        let Some(request) = &self.request else {
            return;
        };
        let source = &request.raw.bytes;
        if let Some(copies) = &mut copies {
            copies.facts().repeat(request.raw.index.facts());
        }
        for (name, line) in self.copied() {
            let start = out.len();
            let whole = source.get(line.start as usize..line.value.end as usize);
            let value = line.value.of(source);
            match whole {
                // How everybody writes it.
                Some(whole)
                    if whole.len() == name.len() + value.len() && whole.starts_with(name) =>
                {
                    out.extend_from_slice(whole);
                }
                _ => {
                    out.extend_from_slice(name);
                    out.extend_from_slice(value);
                }
            }
            let is_tagged = line.id == Known::To as u8 && !tag.is_empty();
            if is_tagged {
                out.extend_from_slice(TAG_NAME);
                out.extend_from_slice(tag);
            }
            if let Some(copies) = &mut copies {
                if is_tagged {
                    note_tag(copies, value, tag);
                }
                copies.push(Line {
                    start: start as u32,
                    value: Span::new(start + name.len(), out.len()),
                    name_len: name.len() as u16 - 2,
                    id: line.id,
                    repeated: false,
                });
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Notes where the tag is behind a value of `To`.
fn note_tag(copies: &mut Copies<'_>, value: &[u8], tag: &[u8]) {
    let at = u16::try_from(value.len() + TAG_NAME.len());
    match (at, u16::try_from(tag.len())) {
        (Ok(at), Ok(len)) if at.checked_add(len).is_some_and(|end| end < u16::MAX) => {
            copies.facts().tag_to(Piece { at, len });
        }
        // Too long for what facts can say.
        _ => copies.facts().forget_to(),
    }
}

/// The bytes of a response, and what it says in three digits: all that it takes to send it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrintedResponse {
    status: StatusCode,
    bytes: Bytes,
}

impl PrintedResponse {
    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The response as it will be sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, keeping the buffer.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl std::fmt::Debug for PrintedResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (status, octets) = (self.status, self.bytes.len());
        write!(f, "PrintedResponse({status}, {octets} octets)")
    }
}

impl From<Response> for PrintedResponse {
    fn from(response: Response) -> PrintedResponse {
        PrintedResponse {
            status: response.status(),
            bytes: response.into_bytes(),
        }
    }
}

fn digits(status: StatusCode) -> [u8; 3] {
    let digit = |number: u16| b'0' + (number % 10) as u8;
    let code = status.as_u16();
    [digit(code / 100), digit(code / 10), digit(code)]
}

/// `SIP/2.0 200 ` and the line end.
const START_LINE: usize = 14;

/// Room for a tag on the stack; 64 bits in hexadecimal take 16.
const TAG: usize = 48;

const TAG_NAME: &[u8] = b";tag=";

/// A To that its grammar refuses is searched as text: to answer it with two tags would be worse than with none.
fn has_tag(request: &Request, value: &[u8]) -> bool {
    match request.headers().to() {
        Ok(to) => !to.params().is_empty() && to.params().contains("tag"),
        Err(_) => memchr::memmem::find(&value.to_ascii_lowercase(), b"tag").is_some(),
    }
}

/// Makes a response of bytes that were just printed.
pub(crate) fn response_of(out: Vec<u8>) -> Result<Response, BuildError> {
    let (bytes, head) = index_own(out)?;
    response(bytes, head)
}

fn response(bytes: Bytes, head: Head) -> Result<Response, BuildError> {
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
