//! Multipart bodies, taken apart (RFC 5621, RFC 2046 §5.1).

use crate::classes::offset_in;
use crate::error::HeaderError;
use crate::headers::{Headers, MediaType};
use crate::index::{Index, index_part};
use crate::limits::Limits;
use crate::scan;

/// The parts of a `multipart/*` body.
///
/// Parts are bytes: what is in them may be binary, and is never decoded. A part may be multipart in its turn; how many
/// parts there are and how deep they nest is bounded by [`MultipartLimits`].
///
/// ```
/// use sipora_message::{Limits, Message, Multipart, MultipartLimits};
///
/// let message = Message::parse(&b"MESSAGE sip:a@b SIP/2.0\r\n\
///     Content-Type: multipart/mixed;boundary=b1\r\n\r\n\
///     --b1\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b1\r\n\r\n\x00\xff\r\n--b1--\r\n"[..], &Limits::default())?;
/// let kind = message.headers().content_type()?.unwrap();
/// let multipart = Multipart::parse(kind, message.body(), &MultipartLimits::default())?;
/// let bodies: Vec<_> = multipart.parts().iter().map(|part| part.body()).collect();
/// assert_eq!(bodies, [&b"hello"[..], b"\x00\xff"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Multipart<'a> {
    parts: Vec<Part<'a>>,
}

/// One part: header fields and bytes.
#[derive(Clone)]
pub struct Part<'a> {
    bytes: &'a [u8],
    index: Index,
    body: usize,
    limits: MultipartLimits,
}

/// What a multipart body may cost.
///
/// ```
/// let limits = sipora_message::MultipartLimits { depth: 1, ..Default::default() };
/// assert_eq!(limits.parts, 32);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultipartLimits {
    /// Parts of one body. Default 32: an INVITE with a session description, a location, a card and a picture has four.
    pub parts: usize,
    /// Levels of multipart inside multipart, the outermost included. Default 4: `mixed` around `alternative` around
    /// `related` around `signed` is the deepest that is written down anywhere. Each level is read once more.
    pub depth: usize,
    /// Header lines of one part. Default 16: MIME knows six.
    pub header_count: usize,
    /// Bytes of the header section of one part. Default 8 KiB.
    pub header_bytes: usize,
}

/// A body that is not the multipart it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at offset {offset} of the body")]
pub struct MultipartError {
    kind: MultipartErrorKind,
    offset: usize,
}

/// What is wrong with a multipart body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MultipartErrorKind {
    /// The media type is not `multipart/*`.
    #[error("not multipart")]
    NotMultipart,
    /// No `boundary` parameter, or one that RFC 2046 §5.1.1 does not allow: 1 to 70 characters, no space at the end.
    #[error("no boundary")]
    Boundary,
    /// The boundary does not occur.
    #[error("no part")]
    NoPart,
    /// The last boundary, with `--` behind it, is missing: the body may have been cut off.
    #[error("no closing boundary")]
    NotClosed,
    /// Header fields of a part that cannot be read.
    #[error("malformed header fields in a part")]
    Headers,
    /// [`MultipartLimits::parts`].
    #[error("more parts than the limit")]
    TooManyParts,
    /// [`MultipartLimits::depth`].
    #[error("nested deeper than the limit")]
    TooDeep,
}

impl Default for MultipartLimits {
    fn default() -> MultipartLimits {
        MultipartLimits {
            parts: 32,
            depth: 4,
            header_count: 16,
            header_bytes: 8 * 1024,
        }
    }
}

impl MultipartError {
    /// What is wrong.
    pub fn kind(&self) -> MultipartErrorKind {
        self.kind
    }

    /// The byte of the body at which it is wrong.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl<'a> Multipart<'a> {
    /// Takes a body apart at the boundary that its media type names. Preamble and epilogue are ignored, as RFC 2046
    /// §5.1.1 has it.
    pub fn parse(
        kind: MediaType<'_>,
        body: &'a [u8],
        limits: &MultipartLimits,
    ) -> Result<Multipart<'a>, MultipartError> {
        let refused = |kind, offset| MultipartError { kind, offset };
        if !kind.kind().eq_ignore_ascii_case("multipart") {
            return Err(refused(MultipartErrorKind::NotMultipart, 0));
        }
        let Some(inner) = limits.depth.checked_sub(1) else {
            return Err(refused(MultipartErrorKind::TooDeep, 0));
        };
        let boundary = kind.params().get("boundary").unwrap_or_default();
        if !is_boundary(&boundary) {
            return Err(refused(MultipartErrorKind::Boundary, 0));
        }
        let delimiter = format!("--{boundary}");
        let inner = MultipartLimits {
            depth: inner,
            ..*limits
        };
        let mut delimiters = Delimiters {
            body,
            delimiter: delimiter.as_bytes(),
            at: 0,
        };
        let mut parts = Vec::new();
        let Some(mut last) = delimiters.next() else {
            return Err(refused(MultipartErrorKind::NoPart, 0));
        };
        while !last.closes {
            let start = last.end;
            let Some(next) = delimiters.next() else {
                return Err(refused(MultipartErrorKind::NotClosed, body.len()));
            };
            if parts.len() >= limits.parts {
                return Err(refused(MultipartErrorKind::TooManyParts, start));
            }
            let bytes = body.get(start..next.start).unwrap_or_default();
            let part = Part::read(bytes, inner)
                .ok_or_else(|| refused(MultipartErrorKind::Headers, offset_in(body, bytes)))?;
            parts.push(part);
            last = next;
        }
        if parts.is_empty() {
            return Err(refused(MultipartErrorKind::NoPart, last.start));
        }
        Ok(Multipart { parts })
    }

    /// The parts in order; there is at least one.
    pub fn parts(&self) -> &[Part<'a>] {
        &self.parts
    }

    /// The first part of a media type, not looking into parts that are multipart themselves.
    pub fn find(&self, kind: &str, subtype: &str) -> Option<&Part<'a>> {
        self.parts.iter().find(|part| {
            part.content_type()
                .is_ok_and(|found| found.is(kind, subtype))
        })
    }

    /// The part with a Content-ID, with or without its angle brackets: what a `cid:` URI names (RFC 2392).
    pub fn by_content_id(&self, id: &str) -> Option<&Part<'a>> {
        let bare = |id: &str| id.trim_matches(['<', '>']).to_owned();
        let wanted = bare(id);
        self.parts
            .iter()
            .find(|part| part.content_id().is_some_and(|found| bare(found) == wanted))
    }
}

impl<'a> Part<'a> {
    /// The header fields: Content-Type, Content-Disposition, Content-ID and others, read as those of a message are.
    pub fn headers(&self) -> Headers<'_> {
        Headers::new(self.bytes, &self.index, self.body)
    }

    /// The bytes of the part, as they are.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(self.body..).unwrap_or_default()
    }

    /// What the part is; `text/plain` where it does not say (RFC 2046 §5.1).
    pub fn content_type(&self) -> Result<MediaType<'_>, HeaderError> {
        match self.headers().content_type()? {
            Some(kind) => Ok(kind),
            None => Ok(MediaType::text_plain()),
        }
    }

    /// Content-ID as written, angle brackets included.
    pub fn content_id(&self) -> Option<&str> {
        self.headers()
            .first(&crate::HeaderName::from("Content-ID"))
            .and_then(scan::text)
    }

    /// Header fields and body as they stand between the boundaries.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Takes a part apart that is multipart itself, one level nearer to [`MultipartLimits::depth`].
    pub fn multipart(&self) -> Result<Multipart<'a>, MultipartError> {
        match self.content_type() {
            Ok(kind) => Multipart::parse(kind, self.body(), &self.limits),
            Err(_) => Err(MultipartError {
                kind: MultipartErrorKind::NotMultipart,
                offset: 0,
            }),
        }
    }

    fn read(bytes: &'a [u8], limits: MultipartLimits) -> Option<Part<'a>> {
        let allowed = Limits {
            header_line: limits.header_bytes,
            header_count: limits.header_count,
            header_bytes: limits.header_bytes,
            ..Limits::default()
        };
        let (index, body) = index_part(bytes, &allowed)?;
        Some(Part {
            bytes,
            index,
            body,
            limits,
        })
    }
}

impl std::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("headers", &self.headers())
            .field("body", &self.body().len())
            .finish()
    }
}

/// One delimiter line, with the line end in front of it, which belongs to it (RFC 2046 §5.1.1).
struct Delimiter {
    start: usize,
    end: usize,
    closes: bool,
}

struct Delimiters<'a> {
    body: &'a [u8],
    delimiter: &'a [u8],
    at: usize,
}

impl Delimiters<'_> {
    fn next(&mut self) -> Option<Delimiter> {
        loop {
            let found = self.at + scan::find_text(self.delimiter, self.body.get(self.at..)?)?;
            let after = found + self.delimiter.len();
            // Go on behind the first byte of what was no delimiter after all; a dash repeats, a boundary need not.
            self.at = found + 1;
            let starts_line = found == 0 || self.body.get(..found)?.ends_with(b"\r\n");
            if !starts_line {
                continue;
            }
            let rest = self.body.get(after..)?;
            let closes = rest.starts_with(b"--");
            let rest = if closes { rest.get(2..)? } else { rest };
            let blank = scan::count_while(rest, |byte| matches!(byte, b' ' | b'\t'));
            let rest = rest.get(blank..)?;
            let ends_line = rest.starts_with(b"\r\n") || (closes && rest.is_empty());
            if !ends_line {
                continue;
            }
            let line_end = self.body.len() - rest.len();
            // The line end stays: it may be the one in front of the next delimiter.
            self.at = line_end;
            return Some(Delimiter {
                start: found.saturating_sub(2),
                end: (line_end + 2).min(self.body.len()),
                closes,
            });
        }
    }
}

/// RFC 2046 §5.1.1: "1 to 70 characters from a set of characters known to be very robust", no space at the end.
pub(super) fn is_boundary(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=70).contains(&text.len()) && text.bytes().all(allowed) && !text.ends_with(' ')
}
