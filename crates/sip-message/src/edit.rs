//! Copies with changes.

use std::fmt::Display;
use std::io::Write;

use bytes::Bytes;

use crate::builder::{is_injection, print_body, print_checked, request_of, response_of};
use crate::classes::offset_in;
use crate::error::BuildError;
use crate::header_name::HeaderName;
use crate::headers::first_element;
use crate::message::Raw;
use crate::request::Request;
use crate::response::Response;
use crate::scan;
use crate::uri::UriRef;

/// A copy of a message with changes: lines that are not changed keep their bytes, order and spelling.
///
/// The first error is kept and comes out of `build`, so that changes chain.
#[derive(Clone)]
#[must_use]
pub struct Edit<M> {
    pub(crate) message: M,
    raw: Raw,
    start_line: Option<Vec<u8>>,
    lines: Vec<Piece>,
    body: Option<Bytes>,
    error: Option<BuildError>,
}

#[derive(Clone)]
enum Piece {
    /// A line of the source, by its place.
    Kept(usize),
    /// A line as it is printed, its end included.
    New(HeaderName, Vec<u8>),
}

/// The first value of a comma list in its line.
struct FirstValue {
    /// The line's place in the message.
    place: usize,
    line: Vec<u8>,
    start: usize,
    len: usize,
    /// Where the second value begins.
    rest: Option<usize>,
}

impl FirstValue {
    fn replaced_by(&self, value: &[u8]) -> Vec<u8> {
        let before = self.line.get(..self.start).unwrap_or_default();
        let after = self.line.get(self.start + self.len..).unwrap_or_default();
        [before, value, after].concat()
    }

    fn removed(&self) -> Option<Vec<u8>> {
        let before = self.line.get(..self.start)?;
        let after = self.line.get(self.rest?..)?;
        Some([before, after].concat())
    }
}

impl<M> Edit<M> {
    pub(crate) fn new(message: M, raw: Raw) -> Edit<M> {
        Edit {
            message,
            lines: (0..raw.index.lines().len()).map(Piece::Kept).collect(),
            raw,
            start_line: None,
            body: None,
            error: None,
        }
    }

    /// Replaces all lines of that name by one, at the place of the first; appends it where there was none.
    pub fn set(mut self, name: impl Into<HeaderName>, value: impl Display) -> Edit<M> {
        let name = name.into();
        let Some(piece) = self.piece(&name, value) else {
            return self;
        };
        let place = self.lines.iter().position(|line| self.is(line, &name));
        match place {
            Some(place) => {
                self = self.remove(&name);
                self.lines.insert(place, piece);
            }
            None => self.lines.push(piece),
        }
        self
    }

    /// Removes all lines of that name.
    pub fn remove(mut self, name: impl Into<HeaderName>) -> Edit<M> {
        let name = name.into();
        let lines = std::mem::take(&mut self.lines);
        self.lines = lines
            .into_iter()
            .filter(|line| !self.is(line, &name))
            .collect();
        self
    }

    /// Appends a line behind all others.
    pub fn append(mut self, name: impl Into<HeaderName>, value: impl Display) -> Edit<M> {
        if let Some(piece) = self.piece(&name.into(), value) {
            self.lines.push(piece);
        }
        self
    }

    /// Puts a line in front of the first of its name, or of all others: how proxies add Via, Record-Route and Path.
    pub fn prepend(mut self, name: impl Into<HeaderName>, value: impl Display) -> Edit<M> {
        let name = name.into();
        if let Some(piece) = self.piece(&name, value) {
            let place = self
                .lines
                .iter()
                .position(|line| self.is(line, &name))
                .unwrap_or(0);
            self.lines.insert(place, piece);
        }
        self
    }

    /// Replaces the first value of a comma list, wherever its commas and lines are: how the receiver stamps the top
    /// Via (RFC 3261 §18.2.1). All around the value keeps its bytes. Nothing happens where there is no such header
    /// field.
    pub fn set_first_value(mut self, name: impl Into<HeaderName>, value: impl Display) -> Edit<M> {
        let name = name.into();
        let Some(first) = self.first_value(&name) else {
            return self;
        };
        let mut printed = Vec::new();
        // Writing to a vector cannot fail, a value of the caller's can.
        let result = write!(printed, "{value}");
        if result.is_err() || printed.iter().copied().any(is_injection) {
            self.fail(BuildError::Injection(name));
            return self;
        }
        let line = first.replaced_by(&printed);
        self.put(first.place, Piece::New(name, line));
        self
    }

    /// Removes the first value of a comma list: how a proxy takes off its own Via or Route. All around the value keeps
    /// its bytes; a line that is left without values goes too.
    pub fn remove_first_value(mut self, name: impl Into<HeaderName>) -> Edit<M> {
        let name = name.into();
        let Some(first) = self.first_value(&name) else {
            return self;
        };
        let place = first.place;
        match first.removed() {
            Some(line) => self.put(place, Piece::New(name, line)),
            None => drop(self.lines.remove(place)),
        }
        self
    }

    /// Replaces the body and its Content-Type; Content-Length follows.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Edit<M> {
        self.body = Some(body.into());
        self.set(HeaderName::ContentType, content_type)
    }

    /// Where the first value of that name is.
    fn first_value(&self, name: &HeaderName) -> Option<FirstValue> {
        let place = self.lines.iter().position(|line| self.is(line, name))?;
        let line = match self.lines.get(place)? {
            Piece::New(_, line) => line.as_slice(),
            Piece::Kept(at) => self.raw.bytes.get(self.kept(*at))?,
        };
        let value_at = scan::find(b':', line)? + 1;
        let (element, rest) = first_element(line.get(value_at..)?);
        let (start, len) = match element {
            // Nothing but commas: all of it up to the line end.
            [] => (value_at, line.len().saturating_sub(value_at + 2)),
            element => (offset_in(line, element), element.len()),
        };
        Some(FirstValue {
            place,
            start,
            len,
            rest: (!rest.is_empty()).then(|| offset_in(line, rest)),
            line: line.to_vec(),
        })
    }

    /// The bytes of a line of the source, its end included.
    fn kept(&self, at: usize) -> std::ops::Range<usize> {
        let end = self.raw.body.saturating_sub(2);
        let start = |at: usize| {
            self.raw
                .index
                .lines()
                .get(at)
                .map_or(end, |line| line.start) as usize
        };
        start(at)..start(at + 1)
    }

    fn put(&mut self, place: usize, piece: Piece) {
        if let Some(slot) = self.lines.get_mut(place) {
            *slot = piece;
        }
    }

    fn piece(&mut self, name: &HeaderName, value: impl Display) -> Option<Piece> {
        let mut line = Vec::new();
        // Compared, not matched: `Other("l")` is a Content-Length too.
        let result = if *name == HeaderName::ContentLength {
            Err(BuildError::Reserved(name.clone()))
        } else {
            print_checked(&mut line, name, format_args!("{value}"))
        };
        match result {
            Ok(()) => Some(Piece::New(name.clone(), line)),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    fn is(&self, piece: &Piece, name: &HeaderName) -> bool {
        match piece {
            Piece::Kept(at) => self
                .raw
                .headers()
                .nth(*at)
                .is_some_and(|line| line.is(name)),
            Piece::New(found, _) => found == name,
        }
    }

    fn fail(&mut self, error: BuildError) {
        self.error.get_or_insert(error);
    }

    fn print(self) -> Result<(M, Vec<u8>), BuildError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let source = &self.raw.bytes;
        let lines = self.raw.index.lines();
        let body = self.body.as_deref().unwrap_or(self.raw.body());
        let added = self.lines.iter().map(|piece| match piece {
            Piece::New(_, line) => line.len(),
            Piece::Kept(_) => 0,
        });
        let replaced = self.body.as_deref().map_or(0, |body| body.len() + 32);
        let start_line = self.start_line.as_ref().map_or(0, Vec::len);
        let size = source.len() + start_line + added.sum::<usize>() + replaced;
        let mut out = Vec::with_capacity(size);
        match &self.start_line {
            Some(line) => out.extend_from_slice(line),
            None => out.extend_from_slice(source.get(..self.kept(0).start).unwrap_or_default()),
        }
        for piece in &self.lines {
            match piece {
                Piece::New(_, line) => out.extend_from_slice(line),
                Piece::Kept(at) => {
                    let is_length = lines
                        .get(*at)
                        .is_some_and(|line| line.id == HeaderName::ContentLength.id());
                    if !is_length || self.body.is_none() {
                        out.extend_from_slice(source.get(self.kept(*at)).unwrap_or_default());
                    }
                }
            }
        }
        match &self.body {
            Some(body) => print_body(&mut out, body),
            None => {
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(body);
            }
        }
        // What was replaced or removed leaves room that nobody needs.
        out.shrink_to_fit();
        Ok((self.message, out))
    }
}

impl Edit<Request> {
    /// Replaces the Request-URI.
    pub fn uri<'a>(mut self, uri: impl Into<UriRef<'a>>) -> Edit<Request> {
        let uri = uri.into();
        if uri
            .as_str()
            .bytes()
            .any(|byte| byte <= b' ' || is_injection(byte))
        {
            self.fail(BuildError::StartLine);
        }
        self.start_line = Some(format!("{} {uri} SIP/2.0\r\n", self.message.method()).into_bytes());
        self
    }

    /// Prints the request and indexes it.
    pub fn build(self) -> Result<Request, BuildError> {
        let (_, out) = self.print()?;
        request_of(out)
    }
}

impl Edit<Response> {
    /// Prints the response and indexes it.
    pub fn build(self) -> Result<Response, BuildError> {
        let (_, out) = self.print()?;
        response_of(out)
    }
}
