//! URIs: one text and the places of its parts, owned ([`Uri`]) or borrowed ([`UriRef`]).

mod aor;
mod builder;
mod compare;
mod escape;
mod host;
mod owned;
mod parse;
mod tel;
mod urn;

use std::borrow::Cow;
use std::fmt;

pub use aor::Aor;
pub use builder::UriBuilder;
pub use host::Host;
pub(crate) use host::{HostPort, host_port};
pub use owned::Uri;
use parse::Span;
pub(crate) use parse::{PackedUri, Parts};
pub use tel::TelRef;
pub use urn::UrnRef;

use crate::scan;

/// The scheme of a URI, compared without case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `sip:`, RFC 3261 §19.1.
    Sip,
    /// `sips:`, RFC 3261 §19.1.
    Sips,
    /// `tel:`, RFC 3966.
    Tel,
    /// Any other; [`UriRef::scheme_str`] has its text.
    Other,
}

/// A URI that borrows its text.
///
/// SIP and SIPS URIs are taken apart (RFC 3261 §19.1.1), `tel:` into number and parameters (RFC 3966); of any other
/// scheme the text after the colon is kept as it is.
#[derive(Clone, Copy)]
pub struct UriRef<'a> {
    /// UTF-8. What is asked for becomes text when it is asked for, which is seldom all of it.
    bytes: &'a [u8],
    parts: Parts,
}

impl<'a> UriRef<'a> {
    /// Parses a whole text as a URI.
    pub fn parse(text: &'a str) -> Result<UriRef<'a>, UriError> {
        UriRef::parse_bytes(text.as_bytes())
    }

    /// Parses what is known to be UTF-8.
    #[inline]
    pub(crate) fn parse_bytes(bytes: &'a [u8]) -> Result<UriRef<'a>, UriError> {
        Ok(UriRef {
            bytes,
            parts: Parts::parse(bytes)?,
        })
    }

    /// What was packed of the same text.
    #[inline(always)]
    pub(crate) fn unpack(bytes: &'a [u8], packed: &PackedUri) -> UriRef<'a> {
        UriRef {
            bytes,
            parts: Parts::unpack(packed, bytes.len()),
        }
    }

    pub(super) fn of_parts(text: &'a str, parts: Parts) -> UriRef<'a> {
        UriRef {
            bytes: text.as_bytes(),
            parts,
        }
    }

    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(super) fn piece(&self, span: Span) -> Option<&'a str> {
        scan::text(span.of(self.bytes)?)
    }

    #[inline]
    fn between(&self, start: u32, end: u32) -> &'a str {
        let bytes = self.bytes.get(start as usize..end as usize);
        scan::text(bytes.unwrap_or_default()).unwrap_or("")
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The text, untouched.
    pub fn as_str(&self) -> &'a str {
        scan::text(self.bytes).unwrap_or("")
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.parts.scheme
    }

    /// The scheme as written, without the colon.
    pub fn scheme_str(&self) -> &'a str {
        self.between(0, self.parts.scheme_end)
    }

    /// `true` for `sip:` and `sips:`.
    pub fn is_sip(&self) -> bool {
        matches!(self.parts.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// All that follows the scheme's colon, but for the parameters of a `tel:` URI.
    pub fn opaque(&self) -> &'a str {
        let end = match self.parts.scheme {
            Scheme::Tel => self.parts.host_end,
            _ => self.bytes.len() as u32,
        };
        self.between(self.parts.scheme_end + 1, end)
    }

    /// The user part as written, escapes and all. `None` where there is no `@`, and for other schemes.
    pub fn user(&self) -> Option<&'a str> {
        self.piece(self.parts.user)
    }

    /// The user part with each `%HH` replaced by its octet, once. Octets that are no UTF-8 become U+FFFD.
    pub fn user_decoded(&self) -> Option<Cow<'a, str>> {
        self.user().map(escape::decode_lossy)
    }

    /// The password as written. RFC 3261 §19.1.1 recommends against it.
    pub fn password(&self) -> Option<&'a str> {
        self.piece(self.parts.password)
    }

    /// The host; an empty name for schemes other than `sip` and `sips`.
    pub fn host(&self) -> Host<'a> {
        Host::read(self.host_str())
    }

    /// The host as written, brackets included; empty for schemes other than `sip` and `sips`.
    pub fn host_str(&self) -> &'a str {
        if self.is_sip() {
            self.between(self.parts.host_start, self.parts.host_end)
        } else {
            ""
        }
    }

    /// The port, if the URI says one.
    pub fn port(&self) -> Option<u16> {
        self.parts.port
    }

    /// A parameter: `None` when absent, `Some(None)` without a value, else the value as written.
    /// Names compare without case and after unescaping (RFC 3261 §19.1.4).
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        self.params()
            .find(|(found, _)| escape::eq_ignore_case(found, name))
            .map(|(_, value)| value)
    }

    /// The parameters in order, as written.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        pairs(self.piece(self.parts.params), ';').map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        })
    }

    /// The headers behind the `?` in order, as written (escaped).
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        pairs(self.piece(self.parts.headers), '&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// The first header of that name behind the `?`, unescaped; names compare without case.
    pub fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        self.headers()
            .find(|(found, _)| escape::eq_ignore_case(found, name))
            .map(|(_, value)| escape::decode_lossy(value))
    }

    /// Whether there is a `?` part. It has no place in a Request-URI (RFC 3261 §19.1.1).
    pub fn has_headers(&self) -> bool {
        self.parts.headers.is_some()
    }

    /// The value of the `transport` parameter.
    pub fn transport(&self) -> Option<&'a str> {
        self.param("transport").flatten()
    }

    /// The value of the `maddr` parameter.
    pub fn maddr(&self) -> Option<&'a str> {
        self.param("maddr").flatten()
    }

    /// Whether the `lr` parameter marks a loose router (RFC 3261 §19.1.1).
    pub fn is_loose_router(&self) -> bool {
        self.param("lr").is_some()
    }

    /// Whether two URIs are the same resource by RFC 3261 §19.1.4 (`tel:` by RFC 3966 §4, others octet by octet).
    ///
    /// The relation is not transitive: parameters that only one of two URIs has are mostly ignored. So there is no
    /// `PartialEq`; compare pairwise.
    ///
    /// ```
    /// use sipora_message::Uri;
    /// let uri = |text| Uri::parse(text).unwrap();
    /// let (plain, on, off) = (
    ///     uri("sip:carol@chicago.com"),
    ///     uri("sip:carol@chicago.com;security=on"),
    ///     uri("sip:carol@chicago.com;security=off"),
    /// );
    /// assert!(plain.equivalent(&on) && plain.equivalent(&off) && !on.equivalent(&off));
    /// ```
    pub fn equivalent<'b>(&self, other: impl Into<UriRef<'b>>) -> bool {
        compare::equivalent(*self, other.into())
    }

    /// The telephone number of a `tel:` URI, or of a SIP URI whose user part is one (`user=phone`, RFC 3261 §19.1.6).
    pub fn telephone(&self) -> Option<TelRef<'a>> {
        TelRef::of(*self)
    }

    /// The namespace and name of a `urn:` URI (RFC 8141).
    pub fn urn(&self) -> Option<UrnRef<'a>> {
        UrnRef::of(*self)
    }

    /// An owned copy.
    pub fn to_owned(&self) -> Uri {
        Uri::from_parts(self.as_str(), self.parts)
    }
}

impl<'a> From<&UriRef<'a>> for UriRef<'a> {
    fn from(uri: &UriRef<'a>) -> UriRef<'a> {
        *uri
    }
}

impl fmt::Display for UriRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for UriRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UriRef").field(&self.as_str()).finish()
    }
}

/// A text that is no URI: what is wrong, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid URI: {reason} at offset {offset}")]
pub struct UriError {
    pub(crate) reason: &'static str,
    pub(crate) offset: usize,
}

impl UriError {
    pub(crate) const fn new(reason: &'static str, offset: usize) -> UriError {
        UriError { reason, offset }
    }

    /// What is wrong, in a few words.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The byte of the text at which it is wrong.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

fn pairs(text: Option<&str>, separator: char) -> impl Iterator<Item = &str> {
    text.into_iter()
        .flat_map(move |text| text.split(separator))
        .inspect(|piece| scan::visit(piece.len() + 1))
}
