//! The header lines, one after the other.

use super::{Defect, Facts, Head, Index, Line, Span, StartLine, start_line};
use crate::classes::{decimal, is_lws, is_token, offset_in, trim};
use crate::error::ParseErrorKind;
use crate::header_name::{self, Known, OTHER, id_of, short_id};
use crate::limits::Limits;
use crate::scan;

pub(super) struct Indexer<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    lines: Lines<'a>,
    at: usize,
    content_length: Option<u32>,
    defect: Option<Defect>,
    ambiguous: bool,
}

const CONTENT_LENGTH: u8 = Known::ContentLength as u8;

impl<'a> Indexer<'a> {
    #[inline]
    pub(super) fn new(
        bytes: &'a [u8],
        limits: &'a Limits,
        room: &'a mut [Line; INLINE],
    ) -> Indexer<'a> {
        Indexer {
            bytes,
            limits,
            lines: Lines::new(room),
            at: 0,
            content_length: None,
            defect: None,
            ambiguous: false,
        }
    }

    /// Reads the first line.
    #[inline]
    pub(super) fn start_line(&mut self) -> Result<StartLine, Defect> {
        let read = start_line::read(self.bytes, self.limits, &mut self.lines.facts)?;
        let (start_line, end, defect) = read;
        self.at = end;
        self.defect = defect;
        Ok(start_line)
    }

    /// Reads the header section.
    #[inline]
    pub(super) fn run(&mut self, start_line: StartLine) -> Head {
        self.lines();
        Head {
            start_line,
            index: self.lines.finish(),
            body: self.at as u32,
            content_length: self.content_length,
            defect: self.defect.take(),
            ambiguous: self.ambiguous,
        }
    }

    /// Reads the rest of a message of which the first header fields were copied from another.
    #[inline]
    fn rest(bytes: &'a [u8], copies: Copies<'a>) -> Result<Head, Defect> {
        let mut indexer = Indexer {
            bytes,
            limits: &Limits::OWN,
            lines: copies.lines,
            at: 0,
            content_length: None,
            defect: None,
            ambiguous: false,
        };
        let start_line = indexer.start_line()?;
        indexer.at = copies.end.unwrap_or(indexer.at);
        Ok(indexer.run(start_line))
    }

    fn lines(&mut self) {
        loop {
            self.plain_lines();
            match self.bytes.get(self.at..) {
                Some([b'\r', b'\n', ..]) => {
                    self.at += 2;
                    break;
                }
                None | Some([]) => {
                    self.note(Defect::new(ParseErrorKind::NoBlankLine, self.at));
                    self.ambiguous = true;
                    break;
                }
                Some(_) => {}
            }
            if !self.line() {
                break;
            }
        }
        if self.at > self.limits.header_bytes {
            self.note(Defect::new(
                ParseErrorKind::HeadersTooLong,
                self.limits.header_bytes,
            ));
        }
    }

    /// Indexes header fields for as long as they are written as nearly all are, and within the limits: a short known
    /// name, the colon, at most one space, a value without folds, CR LF. Not inlined, so that the loop has the registers
    /// for itself.
    #[inline(never)]
    fn plain_lines(&mut self) {
        let room = self.limits.header_count.min(INLINE);
        // Within that no line can be too long, and lines that long are not written.
        let longest = self.limits.header_line.min(self.limits.header_bytes);
        let end = longest.min(self.bytes.len());
        let bytes = self.bytes.get(..end).unwrap_or_default();
        let mut rest = bytes.get(self.at..).unwrap_or_default();
        while let Some((name_len, id)) = short_id(rest)
            && self.lines.count < room
        {
            let Some(text) = rest.get(name_len + 1..) else {
                break;
            };
            let text = match text {
                [b' ', text @ ..] => text,
                text => text,
            };
            let learned = match Facts::reads_ahead(id) {
                true => self.lines.facts.learn_ahead(id, text),
                false => None,
            };
            let Some(length) = learned.or_else(|| plain_value(text)) else {
                break;
            };
            let (Some(value), Some(next)) = (text.get(..length), text.get(length + 2..)) else {
                break;
            };
            let value_at = bytes.len() - text.len();
            let line = Line {
                start: (bytes.len() - rest.len()) as u32,
                value: Span::new(value_at, value_at + length),
                name_len: name_len as u16,
                id,
                repeated: false,
            };
            if id == CONTENT_LENGTH {
                self.content_length(value, value_at);
            }
            self.lines.push(line, value, learned.is_some());
            rest = next;
            self.at = bytes.len() - next.len();
        }
    }

    /// Indexes one header field; `false` when nothing more can be read.
    fn line(&mut self) -> bool {
        let bytes = self.bytes;
        let start = self.at;
        if start > self.limits.header_bytes {
            self.ambiguous = true;
            return false;
        }
        let Name {
            length: name_len,
            colon,
            id,
        } = Name::at(bytes, start);
        let named =
            byte_at(bytes, colon) == b':' && (1..=usize::from(u16::MAX)).contains(&name_len);
        let Some((end, clean)) = self.line_end(if named { colon + 1 } else { start }) else {
            self.note(Defect::new(ParseErrorKind::NoBlankLine, bytes.len()));
            self.ambiguous = true;
            self.at = bytes.len();
            return false;
        };
        self.at = end + 2;
        if !named {
            self.note(Defect::new(ParseErrorKind::HeaderLine, colon));
            // A fold of nothing: another reader could take it for a header field, Content-Length among them.
            self.ambiguous |= is_lws(byte_at(bytes, start));
            return true;
        }
        if !clean {
            // What is copied into an answer must hold no line end of its own.
            return true;
        }
        if end - start > self.limits.header_line {
            self.note(Defect::within(ParseErrorKind::HeaderLineTooLong, start, id));
            self.ambiguous |= id == CONTENT_LENGTH;
            return true;
        }
        if self.lines.len() >= self.limits.header_count {
            self.note(Defect::within(ParseErrorKind::TooManyHeaders, start, id));
            self.ambiguous = true;
            return false;
        }
        let (value_start, value_end) = trimmed(bytes, colon + 1, end);
        let value = bytes.get(value_start..value_end).unwrap_or_default();
        if id == CONTENT_LENGTH {
            self.content_length(value, value_start);
        }
        let line = Line {
            start: start as u32,
            value: Span::new(value_start, value_end),
            name_len: name_len as u16,
            id,
            repeated: false,
        };
        self.lines.push(line, value, false);
        true
    }

    /// Where the CR LF stands that ends the line and its folds, and whether no other CR or LF stands before it.
    #[inline]
    fn line_end(&mut self, from: usize) -> Option<(usize, bool)> {
        let rest = self.bytes.get(from..)?;
        let length = scan::find2(b'\r', b'\n', rest)?;
        match rest.get(length..)? {
            [b'\r', b'\n', next, ..] if !matches!(next, b' ' | b'\t') => {
                Some((from + length, true))
            }
            _ => self.odd_line_end(from + length),
        }
    }

    /// The same, where the first CR or LF does not end the line, or ends the message.
    #[cold]
    fn odd_line_end(&mut self, mut at: usize) -> Option<(usize, bool)> {
        let mut clean = true;
        loop {
            match self.bytes.get(at..) {
                Some([b'\r', b'\n', b' ' | b'\t', ..]) => at += 3,
                Some([b'\r', b'\n', ..]) => return Some((at, clean)),
                _ => {
                    // Another reader could see a line end here, and with it other header fields.
                    self.note(Defect::new(ParseErrorKind::BareLineEnd, at));
                    self.ambiguous = true;
                    clean = false;
                    at += 1;
                }
            }
            at += scan::find2(b'\r', b'\n', self.bytes.get(at..)?)?;
        }
    }

    fn content_length(&mut self, value: &[u8], offset: usize) {
        let kind = match (decimal(value), self.content_length) {
            (None, _) => ParseErrorKind::ContentLength,
            (Some(new), Some(old)) if new != old => ParseErrorKind::ContentLengthConflict,
            (new, _) => {
                self.content_length = new;
                return;
            }
        };
        self.note(Defect::within(kind, offset, CONTENT_LENGTH));
        self.ambiguous = true;
    }

    fn note(&mut self, defect: Defect) {
        self.defect.get_or_insert(defect);
    }
}

/// The length of the value that `text` begins with, if it begins and ends without white space, has no fold, and its
/// line is not the last.
#[inline]
fn plain_value(text: &[u8]) -> Option<usize> {
    let length = scan::line_end(text)?;
    let (value, [b'\r', b'\n', next, ..]) = text.split_at_checked(length)? else {
        return None;
    };
    let is_plain =
        !is_lws(*value.first()?) && !is_lws(*value.last()?) && !matches!(next, b' ' | b'\t');
    is_plain.then_some(length)
}

/// The name of a header field, as it was found in front of its colon.
struct Name {
    length: usize,
    /// Where the colon is, or what stands in its place.
    colon: usize,
    id: u8,
}

impl Name {
    #[inline]
    fn at(bytes: &[u8], start: usize) -> Name {
        // The short way: a short name that is known, and no white space in front of the colon.
        let rest = bytes.get(start..).unwrap_or_default();
        if let Some((length, id)) = short_id(rest) {
            let colon = start + length;
            return Name { length, colon, id };
        }
        // A long one.
        let near = start
            .saturating_add(header_name::LONGEST + 1)
            .min(bytes.len());
        if let Some(length) = scan::find(b':', bytes.get(start..near).unwrap_or_default()) {
            let id = id_of(bytes.get(start..start + length).unwrap_or_default());
            if id != OTHER {
                let colon = start + length;
                return Name { length, colon, id };
            }
        }
        Name::of_any(bytes, start)
    }

    fn of_any(bytes: &[u8], start: usize) -> Name {
        let mut end = start;
        while is_token(byte_at(bytes, end)) {
            end += 1;
        }
        let mut colon = end;
        while matches!(byte_at(bytes, colon), b' ' | b'\t') {
            colon += 1;
        }
        Name {
            length: end - start,
            colon,
            id: id_of(bytes.get(start..end).unwrap_or_default()),
        }
    }
}

#[inline]
fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The same range without white space at its ends.
#[inline]
fn trimmed(bytes: &[u8], start: usize, end: usize) -> (usize, usize) {
    let value = bytes.get(start..end).unwrap_or_default();
    // The short way: one space in front and none behind.
    if let [b' ', first, .., last] = value
        && !is_lws(*first)
        && !is_lws(*last)
    {
        return (start + 1, end);
    }
    let value = trim(value);
    let start = offset_in(bytes, value);
    (start, start + value.len())
}

/// Lines are gathered on the stack, so that a message of up to [`INLINE`] lines costs one allocation of its exact size.
struct Lines<'a> {
    facts: Facts,
    inline: &'a mut [Line; INLINE],
    count: usize,
    spilled: Vec<Line>,
}

const INLINE: usize = 48;

/// Header lines that were copied from one message to the front of another, in order. They are not read again, nor is what
/// is known of them.
pub(crate) struct Copies<'a> {
    lines: Lines<'a>,
    end: Option<usize>,
}

impl<'a> Copies<'a> {
    #[inline]
    pub(crate) fn new(room: &'a mut Room) -> Copies<'a> {
        Copies {
            lines: Lines::new(room),
            end: None,
        }
    }

    /// Takes in a line, whose line end is CR LF right behind its value.
    #[inline]
    pub(crate) fn push(&mut self, line: Line) {
        self.end = Some(line.value.end as usize + 2);
        self.lines.push(line, &[], true);
    }

    /// What is known, to be told what is known of the copied lines.
    #[inline]
    pub(crate) fn facts(&mut self) -> &mut Facts {
        &mut self.lines.facts
    }

    /// Indexes the message that the lines were copied to.
    #[inline]
    pub(crate) fn index(self, bytes: &'a [u8]) -> Result<Head, Defect> {
        let head = Indexer::rest(bytes, self);
        #[cfg(debug_assertions)]
        if let Ok(head) = &head {
            same_as_read(head, bytes);
        }
        head
    }
}

/// Holds an index against that of who reads the whole message.
#[cfg(debug_assertions)]
fn same_as_read(head: &Head, bytes: &[u8]) {
    let mut room = ROOM;
    let mut read = Indexer::new(bytes, &Limits::OWN, &mut room);
    assert!(
        read.start_line()
            .is_ok_and(|start_line| start_line == head.start_line)
    );
    read.lines();
    assert_eq!(head.body as usize, read.at);
    assert_eq!(head.content_length, read.content_length);
    assert_eq!(head.defect.is_none(), read.defect.is_none());
    let lines = read.lines;
    let (inline, spilled) = head.index.lines().split_at(lines.count);
    assert_eq!(inline, lines.inline.get(..lines.count).unwrap_or_default());
    assert_eq!(spilled, lines.spilled);
    assert!(head.index.facts().agrees_with(&lines.facts));
}

/// Room for the lines of [`Copies`], on the stack of whoever makes them.
pub(crate) type Room = [Line; INLINE];

/// What [`Lines`] takes from the stack of whoever reads them, since to move it would cost more than to fill it.
pub(crate) const ROOM: Room = [Line {
    start: 0,
    value: Span { start: 0, end: 0 },
    name_len: 0,
    id: 0,
    repeated: false,
}; INLINE];

impl<'a> Lines<'a> {
    #[inline]
    fn new(inline: &'a mut [Line; INLINE]) -> Lines<'a> {
        Lines {
            facts: Facts::default(),
            inline,
            count: 0,
            spilled: Vec::new(),
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.count + self.spilled.len()
    }

    /// Takes a line in; `learned` tells that what it holds is known already.
    #[inline(always)]
    fn push(&mut self, line: Line, value: &[u8], learned: bool) {
        let at = self.count;
        let Some(slot) = self.inline.get_mut(at) else {
            return self.spill(line);
        };
        *slot = line;
        self.count = at + 1;
        match self.facts.place(line.id, at) {
            None if !learned && Facts::holds(line.id) => self.facts.learn(line.id, value),
            None => {}
            Some(first) => self.repeat(line.id, first),
        }
    }

    /// Takes a line in behind those for which there is room; nothing is learned of it, or known any more.
    #[cold]
    fn spill(&mut self, line: Line) {
        match self.facts.place(line.id, self.len()) {
            Some(first) => self.repeat(line.id, first),
            None => self.facts.unlearn(line.id),
        }
        self.spilled.push(line);
    }

    #[cold]
    fn repeat(&mut self, id: u8, first: usize) {
        self.facts.unlearn(id);
        let line = match self.inline.get_mut(first) {
            Some(line) => Some(line),
            None => self.spilled.get_mut(first - INLINE),
        };
        if let Some(line) = line {
            line.repeated = true;
        }
    }

    fn finish(&self) -> Index {
        let inline = self.inline.get(..self.count).unwrap_or_default();
        if self.spilled.is_empty() {
            return Index::new(self.facts, inline);
        }
        Index::new(self.facts, &[inline, &self.spilled].concat())
    }
}
