//! The index of a message: one pass over the header section, offsets into one buffer.
//!
//! Everything that is known of a message lies in one allocation: the [`Facts`], then the lines in order. Of each known
//! name the facts have the place of its first line, so that no accessor goes through the lines; and of the header
//! fields that every message is asked for (Via, From, To, Call-ID, CSeq, Contact, Max-Forwards, next to the
//! Request-URI) what they hold, packed. The parsers of the typed accessors find it out while the lines are indexed, so
//! that [`check`](crate::check) and the accessors, which every server calls one after the other, need not parse again.
//! What does not fit into its fact (a URI with a password, a Via with odd white space, a second From) has none, and
//! is parsed by whoever asks: a fact saves time and never changes an answer.

mod facts;
mod lines;
mod start_line;

pub(crate) use facts::Facts;
use lines::Indexer;
pub(crate) use lines::{Copies, ROOM};
pub(crate) use start_line::{is_start_line, leading_line_ends};

use triomphe::{Arc, HeaderSlice};

use crate::error::ParseErrorKind;
use crate::header_name::HeaderName;
use crate::limits::Limits;
use crate::method::Method;
use crate::scan;
use crate::status::StatusCode;

/// A piece of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// One header field. Lines lie next to each other, so a line ends where the next one starts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Line {
    pub(crate) start: u32,
    pub(crate) value: Span,
    pub(crate) name_len: u16,
    pub(crate) id: u8,
    /// Whether a later line has the same name; kept for known names only.
    pub(crate) repeated: bool,
}

/// Lines and facts. Clones share them.
#[derive(Clone)]
pub(crate) struct Index(Arc<Table>);

/// What an [`Index`] points to.
pub(crate) type Table = HeaderSlice<Facts, [Line]>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StartLine {
    Request {
        method: Method,
        uri: Span,
        version: Span,
        /// Single spaces only, as the grammar has it.
        exact: bool,
    },
    Response {
        version: Span,
        status: StatusCode,
        reason: Span,
    },
}

/// All that is known of a message but its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) start_line: StartLine,
    pub(crate) index: Index,
    /// Behind the blank line.
    pub(crate) body: u32,
    pub(crate) content_length: Option<u32>,
    /// The first thing wrong with the header section.
    pub(crate) defect: Option<Defect>,
    /// Whether readers could disagree on where this message ends.
    pub(crate) ambiguous: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Defect {
    pub(crate) kind: ParseErrorKind,
    pub(crate) offset: usize,
    pub(crate) header: Option<HeaderName>,
}

impl Index {
    pub(crate) fn new(facts: Facts, lines: &[Line]) -> Index {
        Index(Arc::from_header_and_slice(facts, lines))
    }

    /// Of lines that are elsewhere now, but in the same order.
    pub(crate) fn of_moved(facts: Facts, lines: impl ExactSizeIterator<Item = Line>) -> Index {
        Index(Arc::from_header_and_iter(facts, lines))
    }

    /// Of lines that were not read from their bytes, with what is known of the fields that are still the same.
    pub(crate) fn of_lines(mut facts: Facts, lines: &mut [Line]) -> Index {
        facts.forget_places();
        for line in lines.iter_mut() {
            line.repeated = false;
        }
        for at in 0..lines.len() {
            if let Some(line) = lines.get(at)
                && let Some(first) = facts.place(line.id, at)
                && let Some(first) = lines.get_mut(first)
            {
                first.repeated = true;
            }
        }
        facts.forget_what_is_far();
        Index::new(facts, lines)
    }

    #[inline]
    pub(crate) fn table(&self) -> &Table {
        &self.0
    }

    #[inline]
    pub(crate) fn facts(&self) -> &Facts {
        &self.0.header
    }

    #[inline]
    pub(crate) fn lines(&self) -> &[Line] {
        &self.0.slice
    }
}

/// The lines that have the id.
#[inline]
pub(crate) fn lines_of(index: &Index, id: u8) -> impl Iterator<Item = &Line> {
    filed(index.table(), id)
        .iter()
        .filter(move |line| line.id == id)
}

/// All lines that have the id, perhaps among others; none of them stands in front.
#[inline]
pub(crate) fn filed(table: &Table, id: u8) -> &[Line] {
    let lines = &table.slice;
    match table.header.first(id) {
        facts::First::Nowhere => &[],
        facts::First::From(at) => lines.get(at..).unwrap_or_default(),
        facts::First::At(at) => match lines.get(at) {
            Some(line) if !line.repeated => std::slice::from_ref(line),
            _ => lines.get(at..).unwrap_or_default(),
        },
    }
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Span {
        // Buffers are checked to be shorter than 4 GiB before they are indexed.
        Span {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(crate) fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    pub(crate) fn text<'a>(&self, bytes: &'a [u8]) -> &'a str {
        scan::text(self.of(bytes)).unwrap_or("")
    }
}

impl Defect {
    pub(crate) fn new(kind: ParseErrorKind, offset: usize) -> Defect {
        Defect {
            kind,
            offset,
            header: None,
        }
    }

    fn within(kind: ParseErrorKind, offset: usize, header: u8) -> Defect {
        Defect {
            kind,
            offset,
            header: HeaderName::from_id(header),
        }
    }
}

/// Indexes the header section at the start of `bytes`. An error means that not even the start line could be read;
/// other defects are noted in the head, which then holds the lines that could be read.
pub(crate) fn index(bytes: &[u8], limits: &Limits) -> Result<Head, Defect> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Defect::new(ParseErrorKind::HeadersTooLong, 0));
    }
    if bytes.is_empty() {
        return Err(Defect::new(ParseErrorKind::Empty, 0));
    }
    let mut room = ROOM;
    let mut indexer = Indexer::new(bytes, limits, &mut room);
    let start_line = indexer.start_line()?;
    Ok(indexer.run(start_line))
}

/// Indexes header fields without a start line in front of them, as parts of a body have them.
pub(crate) fn index_section(bytes: &[u8], limits: &Limits) -> Result<Head, Defect> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Defect::new(ParseErrorKind::HeadersTooLong, 0));
    }
    let none = StartLine::Response {
        version: Span::default(),
        status: StatusCode::OK,
        reason: Span::default(),
    };
    let mut room = ROOM;
    Ok(Indexer::new(bytes, limits, &mut room).run(none))
}

/// The header lines of a part of a body, and where its own body begins; `None` where they cannot be read. A part
/// without header fields begins with its blank line (RFC 2046 §5.1).
pub(crate) fn index_part(bytes: &[u8], limits: &Limits) -> Option<(Index, usize)> {
    let head = index_section(bytes, limits).ok()?;
    match head.defect {
        // RFC 2046 §5.1.1 lets a part end with its header fields, the blank line being the delimiter's.
        Some(defect) if defect.kind != ParseErrorKind::NoBlankLine => None,
        Some(_) if !bytes.is_empty() && !bytes.ends_with(b"\r\n") => None,
        _ => Some((head.index, head.body as usize)),
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}
