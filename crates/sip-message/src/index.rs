//! The index of a message: one pass over the header section, offsets into one buffer.

use std::sync::Arc;

use crate::classes::{decimal, is_lws, is_token, offset_in, trim};
use crate::error::ParseErrorKind;
use crate::header_name::{self, HeaderName, OTHER, id_of};
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
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Line {
    pub(crate) start: u32,
    pub(crate) value: Span,
    pub(crate) name_len: u16,
    pub(crate) id: u8,
}

#[derive(Debug, Clone)]
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
    pub(crate) lines: Arc<[Line]>,
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
    let (start_line, end, too_long) = start_line(bytes, limits)?;
    Ok(header_section(bytes, limits, start_line, end, too_long))
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
    Ok(header_section(bytes, limits, none, 0, None))
}

/// The header lines of a part of a body, and where its own body begins; `None` where they cannot be read. A part
/// without header fields begins with its blank line (RFC 2046 §5.1).
pub(crate) fn index_part(bytes: &[u8], limits: &Limits) -> Option<(Arc<[Line]>, usize)> {
    let head = index_section(bytes, limits).ok()?;
    match head.defect {
        // RFC 2046 §5.1.1 lets a part end with its header fields, the blank line being the delimiter's.
        Some(defect) if defect.kind != ParseErrorKind::NoBlankLine => None,
        Some(_) if !bytes.is_empty() && !bytes.ends_with(b"\r\n") => None,
        _ => Some((head.lines, head.body as usize)),
    }
}

/// Whether the first line is a start line: it has the version first or last, and a space that no header name has.
pub(crate) fn is_start_line(bytes: &[u8]) -> bool {
    let length = scan::find(b'\r', bytes).unwrap_or(bytes.len());
    let line = bytes.get(..length).unwrap_or_default();
    let last = scan::rfind(b' ', line).and_then(|at| line.get(at + 1..));
    is_sip_version(line)
        || last.is_some_and(|last| is_sip_version(last) && request_line(line).is_ok())
}

fn header_section(
    bytes: &[u8],
    limits: &Limits,
    start_line: StartLine,
    at: usize,
    defect: Option<Defect>,
) -> Head {
    let mut indexer = Indexer {
        bytes,
        limits,
        lines: Lines::new(),
        at,
        content_length: None,
        defect,
        ambiguous: false,
    };
    indexer.run();
    Head {
        start_line,
        lines: indexer.lines.finish(),
        body: indexer.at as u32,
        content_length: indexer.content_length,
        defect: indexer.defect,
        ambiguous: indexer.ambiguous,
    }
}

/// How many bytes of CR LF stand in front of the start line.
pub(crate) fn leading_line_ends(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes.get(at..at + 2) == Some(b"\r\n") {
        at += 2;
    }
    at
}

fn start_line(bytes: &[u8], limits: &Limits) -> Result<(StartLine, usize, Option<Defect>), Defect> {
    let length = scan::find2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    let line = bytes.get(..length).unwrap_or_default();
    if bytes.get(length..length + 2) != Some(b"\r\n") {
        return Err(Defect::new(ParseErrorKind::StartLine, length));
    }
    let mut defect = None;
    if length > limits.start_line {
        defect = Some(Defect::new(
            ParseErrorKind::StartLineTooLong,
            limits.start_line,
        ));
    }
    let start_line = if is_sip_version(line) {
        status_line(line)?
    } else {
        let (request_line, is_text) = request_line(line)?;
        if !is_text {
            defect.get_or_insert(Defect::new(ParseErrorKind::StartLine, 0));
        }
        request_line
    };
    Ok((start_line, length + 2, defect))
}

fn is_sip_version(text: &[u8]) -> bool {
    text.get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
}

/// `Method SP Request-URI SP SIP-Version`. What lies between the first and the last space is the URI, spaces and all,
/// so that the validator can refuse it with the status owed. Tells also whether URI and version are UTF-8.
fn request_line(line: &[u8]) -> Result<(StartLine, bool), Defect> {
    let refused = |at: usize| Defect::new(ParseErrorKind::StartLine, at);
    let method_len = scan::find(b' ', line).ok_or(refused(line.len()))?;
    let method = line.get(..method_len).and_then(Method::from_bytes);
    let method = method.ok_or(refused(0))?;
    let rest = trim(line.get(method_len..).unwrap_or_default());
    let uri_len = scan::rfind(b' ', rest).ok_or(refused(line.len()))?;
    let version = rest.get(uri_len + 1..).unwrap_or_default();
    if !is_sip_version(version) {
        return Err(refused(offset_in(line, version)));
    }
    let uri = trim(rest.get(..uri_len).unwrap_or_default());
    let place = |part: &[u8]| {
        let at = offset_in(line, part);
        Span::new(at, at + part.len())
    };
    let is_text = scan::text(uri).is_some() && scan::text(version).is_some();
    let start_line = StartLine::Request {
        exact: method_len + uri.len() + version.len() + 2 == line.len(),
        method,
        uri: place(uri),
        version: place(version),
    };
    Ok((start_line, is_text))
}

/// `SIP-Version SP Status-Code SP Reason-Phrase`; the last space may be missing (RFC 4475 §3.1.1.13).
fn status_line(line: &[u8]) -> Result<StartLine, Defect> {
    let version_len =
        scan::find(b' ', line).ok_or(Defect::new(ParseErrorKind::StartLine, line.len()))?;
    let code_at = version_len + 1;
    let rest = line.get(code_at..).unwrap_or_default();
    let code_len = scan::find(b' ', rest).unwrap_or(rest.len());
    let status = match rest.get(..code_len) {
        Some(code) if code_len == 3 => decimal(code),
        _ => None,
    };
    let status = status
        .and_then(|code| u16::try_from(code).ok())
        .and_then(StatusCode::new)
        .ok_or(Defect::new(ParseErrorKind::StatusCode, code_at))?;
    let reason_at = (code_at + code_len + 1).min(line.len());
    Ok(StartLine::Response {
        version: Span::new(0, version_len),
        status,
        reason: Span::new(reason_at, line.len()),
    })
}

struct Indexer<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    lines: Lines,
    at: usize,
    content_length: Option<u32>,
    defect: Option<Defect>,
    ambiguous: bool,
}

impl Indexer<'_> {
    fn run(&mut self) {
        loop {
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
            self.ambiguous |= id == HeaderName::ContentLength.known_id();
            return true;
        }
        if self.lines.len() >= self.limits.header_count {
            self.note(Defect::within(ParseErrorKind::TooManyHeaders, start, id));
            self.ambiguous = true;
            return false;
        }
        let (value_start, value_end) = trimmed(bytes, colon + 1, end);
        if id == HeaderName::ContentLength.known_id() {
            let value = bytes.get(value_start..value_end).unwrap_or_default();
            self.content_length(value, value_start);
        }
        self.lines.push(Line {
            start: start as u32,
            value: Span::new(value_start, value_end),
            name_len: name_len as u16,
            id,
        });
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
        let id = HeaderName::ContentLength.known_id();
        let kind = match (decimal(value), self.content_length) {
            (None, _) => ParseErrorKind::ContentLength,
            (Some(new), Some(old)) if new != old => ParseErrorKind::ContentLengthConflict,
            (new, _) => {
                self.content_length = new;
                return;
            }
        };
        self.note(Defect::within(kind, offset, id));
        self.ambiguous = true;
    }

    fn note(&mut self, defect: Defect) {
        self.defect.get_or_insert(defect);
    }
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
        // The short way: a name that is known, and no white space in front of the colon.
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
struct Lines {
    inline: [Line; INLINE],
    count: usize,
    spilled: Vec<Line>,
}

const INLINE: usize = 64;

impl Lines {
    fn new() -> Lines {
        Lines {
            inline: [Line::default(); INLINE],
            count: 0,
            spilled: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.count + self.spilled.len()
    }

    fn push(&mut self, line: Line) {
        if let Some(slot) = self.inline.get_mut(self.count) {
            *slot = line;
            self.count += 1;
            return;
        }
        self.spilled.push(line);
    }

    fn finish(self) -> Arc<[Line]> {
        let inline = self.inline.get(..self.count).unwrap_or_default();
        if self.spilled.is_empty() {
            return Arc::from(inline);
        }
        Arc::from([inline, &self.spilled].concat())
    }
}
