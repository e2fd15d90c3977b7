//! Header fields: the lines in order, and typed views that parse on demand.

mod address;
mod auth;
mod auth_info;
mod contact;
mod content;
mod cseq;
mod date;
mod dialog_id;
mod event;
mod feature;
mod history;
mod identity;
mod info;
mod item;
mod list;
mod negotiation;
mod number;
mod option_tags;
mod packed;
mod preference;
mod publication;
mod reason;
mod refer;
mod reliability;
mod session_id;
mod session_timer;
mod text;
mod via;
mod warning;

use std::borrow::Cow;

pub use address::NameAddr;
pub use auth::AuthValue;
pub use auth_info::AuthenticationInfo;
pub use contact::{ContactRef, Contacts, InvalidQ, Q};
pub use content::MediaType;
pub use cseq::CSeq;
pub use date::format_date;
pub use dialog_id::{DialogId, DialogIdRef, InvalidDialogId, TargetDialog, TargetDialogRef};
pub use event::{EventRef, SubscriptionPhase, SubscriptionState, SubscriptionStateRef};
pub use feature::{Feature, FeatureValue};
pub use history::{HistoryInfoRef, TargetChange};
pub use identity::Privacy;
pub(crate) use list::first_element;
pub use negotiation::{AcceptedRef, ContentDispositionRef};
pub use number::RetryAfter;
pub use preference::{ContactPreference, ContactPreferenceRef, Disposition};
pub use reason::{Reason, ReasonRef};
pub use reliability::RAck;
pub use session_id::SessionId;
pub use session_timer::{Refresher, SessionExpires};
pub use text::{Priority, Timestamp};
pub use via::Via;

pub(crate) use cseq::plain as plain_cseq;
pub(crate) use packed::{PackedAddress, PackedContact, PackedVia};
pub use warning::{Warning, WarningValue};

use crate::classes::{offset_in, trim};
use crate::error::HeaderError;
use crate::grammar::unquote;
use crate::header_name::{HeaderName, Known, OTHER};
use crate::index::{Facts, Index, Line, Table, filed};
use crate::scan;

/// The header fields of a message.
///
/// Compact forms, folds, comma lists and repeated lines look the same through the typed accessors, each of which
/// parses what it is asked for and nothing else. A field that is malformed is an error of its own accessor alone.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    index: &'a Table,
    end: usize,
}

/// One header line.
#[derive(Clone, Copy)]
pub struct Header<'a> {
    bytes: &'a [u8],
    line: Line,
}

impl<'a> Headers<'a> {
    pub(crate) fn new(bytes: &'a [u8], index: &'a Index, end: usize) -> Headers<'a> {
        Headers {
            bytes,
            index: index.table(),
            end,
        }
    }

    /// All lines in order.
    pub fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = Header<'a>> + ExactSizeIterator + use<'a> {
        let bytes = self.bytes;
        let lines = self.index.slice.iter();
        lines.map(move |line| Header { bytes, line: *line })
    }

    /// The line at a place, counted from 0.
    pub fn nth(&self, at: usize) -> Option<Header<'a>> {
        let line = *self.index.slice.get(at)?;
        Some(Header {
            bytes: self.bytes,
            line,
        })
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.index.slice.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.slice.is_empty()
    }

    /// The value of the first line of that name, white space around it cut off, folds still in it.
    pub fn first(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all lines of that name.
    pub fn all<'n>(&self, name: &'n HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let bytes = self.bytes;
        let id = name.id();
        let is_named =
            move |line: &&Line| id != OTHER || Header::of(bytes, line).is_called(name.as_str());
        self.filed(id)
            .filter(is_named)
            .map(move |line| line.value.of(bytes))
    }

    /// The lines with that id.
    #[inline]
    fn filed(&self, id: u8) -> impl Iterator<Item = &'a Line> + use<'a> {
        filed(self.index, id).iter().filter(move |line| {
            scan::visit(1);
            line.id == id
        })
    }

    /// What is known already.
    #[inline]
    fn facts(&self) -> &'a Facts {
        &self.index.header
    }

    /// The value of the first line with that id, of which the facts know something.
    #[inline(always)]
    fn learned_value(&self, id: u8) -> &'a [u8] {
        let line = self.index.slice.get(self.facts().learned(id));
        line.map_or(&[], |line| line.value.of(self.bytes))
    }

    /// Whether no other line has that id, of which the facts know something.
    #[inline]
    fn is_alone(&self, id: u8) -> bool {
        let line = self.index.slice.get(self.facts().learned(id));
        line.is_some_and(|line| !line.repeated)
    }

    /// The values of all lines of that name, cut at each comma that is neither in quotes nor in angle brackets.
    pub fn list<'n>(&self, name: &'n HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.all(name).flat_map(list::elements)
    }

    /// The number of lines of that name.
    pub fn count(&self, name: &HeaderName) -> usize {
        self.all(name).count()
    }

    /// Whether there is a line of that name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.first(name).is_some()
    }

    /// The first value of that name as text: folds become spaces, octets that are no UTF-8 become U+FFFD.
    pub fn text(&self, name: &HeaderName) -> Option<Cow<'a, str>> {
        self.first(name).map(text)
    }

    /// The program that sent the request (RFC 3261 §20.41).
    pub fn user_agent(&self) -> Option<Cow<'a, str>> {
        self.text(&HeaderName::UserAgent)
    }

    /// The program that sent the response (RFC 3261 §20.35).
    pub fn server(&self) -> Option<Cow<'a, str>> {
        self.text(&HeaderName::Server)
    }

    /// The Call-ID (RFC 3261 §20.8). Compared octet by octet.
    pub fn call_id(&self) -> Result<&'a str, HeaderError> {
        let value = match self.facts().has_call_id() {
            true => self.learned_value(Known::CallId as u8),
            false => self.required(&HeaderName::CallId)?,
        };
        if !self.facts().has_call_id() && !is_call_id(value) {
            return Err(self.error(HeaderName::CallId, "empty, or with white space", value));
        }
        scan::text(value).ok_or_else(|| self.error(HeaderName::CallId, "not UTF-8", value))
    }

    /// The value of a field that may be there only once: `None` if absent, an error if twice.
    fn single(&self, name: HeaderName) -> Result<Option<&'a [u8]>, HeaderError> {
        self.only(&name)
    }

    #[inline]
    fn only(&self, name: &HeaderName) -> Result<Option<&'a [u8]>, HeaderError> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            Some(second) => Err(self.error(name.clone(), "given twice", second)),
            None => Ok(first),
        }
    }

    #[inline]
    fn required(&self, name: &HeaderName) -> Result<&'a [u8], HeaderError> {
        match self.only(name)? {
            Some(value) => Ok(value),
            None => Err(HeaderError::missing(name.clone(), self.end)),
        }
    }

    #[cold]
    fn error(&self, header: HeaderName, reason: &'static str, at: &[u8]) -> HeaderError {
        HeaderError {
            header,
            reason,
            offset: offset_in(self.bytes, at),
            missing: false,
        }
    }
}

impl<'a> Header<'a> {
    /// The name, whatever its spelling.
    pub fn name(&self) -> HeaderName {
        HeaderName::from_id(self.line.id)
            .unwrap_or_else(|| HeaderName::Other(self.raw_name().into()))
    }

    /// The name as written.
    pub fn raw_name(&self) -> &'a str {
        let start = self.line.start as usize;
        self.bytes
            .get(start..start + usize::from(self.line.name_len))
            .and_then(|name| scan::text(name))
            .unwrap_or("")
    }

    /// Whether this is the field of that name.
    pub fn is(&self, name: &HeaderName) -> bool {
        self.is_filed(name.id(), name)
    }

    /// The value, white space around it cut off, folds still in it.
    pub fn value(&self) -> &'a [u8] {
        self.line.value.of(self.bytes)
    }

    /// The value as text: folds become spaces, octets that are no UTF-8 become U+FFFD.
    pub fn text(&self) -> Cow<'a, str> {
        text(self.value())
    }

    /// The byte of the message at which the line starts.
    pub fn offset(&self) -> usize {
        self.line.start as usize
    }

    #[inline]
    fn is_filed(&self, id: u8, name: &HeaderName) -> bool {
        scan::visit(1);
        self.line.id == id && (id != OTHER || self.is_called(name.as_str()))
    }

    fn of(bytes: &'a [u8], line: &Line) -> Header<'a> {
        Header { bytes, line: *line }
    }

    fn is_called(&self, name: &str) -> bool {
        self.raw_name().eq_ignore_ascii_case(name)
    }
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl std::fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.raw_name(), self.text())
    }
}

/// Whether a value has bytes, and none of white space.
#[inline]
fn is_call_id(value: &[u8]) -> bool {
    // Without an early end, so that it is done many bytes at a time.
    let has_space = |found, byte: &u8| found | (*byte <= b' ') | (*byte == 0x7f);
    scan::visit(value.len());
    !value.is_empty() && !value.iter().fold(false, has_space)
}

/// The same, and of ASCII alone.
#[inline]
pub(crate) fn is_plain_call_id(value: &[u8]) -> bool {
    scan::visit(value.len());
    !value.is_empty()
        && value
            .iter()
            .fold(true, |plain, byte| plain & byte.is_ascii_graphic())
}

/// Folds to spaces, bytes to text. A value that happens to stand in quotes keeps them.
fn text(value: &[u8]) -> Cow<'_, str> {
    if scan::find(b'\r', value).is_none() {
        return String::from_utf8_lossy(value);
    }
    let mut lines = value.split(|byte| *byte == b'\n').map(trim);
    let mut out = lines.next().unwrap_or_default().to_vec();
    for line in lines.filter(|line| !line.is_empty()) {
        out.push(b' ');
        out.extend_from_slice(line);
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

/// A display name or comment as text.
fn display(raw: &[u8]) -> Cow<'_, str> {
    unquote(raw)
}
