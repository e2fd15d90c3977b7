//! Addresses: From, To, Route, Record-Route, Path, Service-Route and their kin (RFC 3261 §20.10, §20.20, §20.34).

use std::borrow::Cow;

use super::{Header, Headers};
use crate::classes::{is_lws, trim};
use crate::error::HeaderError;
use crate::grammar::{self, skip_lws};
use crate::header_name::{HeaderName, Known};
use crate::params::Params;
use crate::scan;
use crate::uri::UriRef;

/// An address as it stands in From, To, Contact or Route: a URI, perhaps a display name, and parameters.
#[derive(Clone, Copy)]
pub struct NameAddr<'a> {
    pub(super) raw: &'a [u8],
    pub(super) display: Option<&'a [u8]>,
    pub(super) uri: UriRef<'a>,
    pub(super) params: Params<'a>,
    pub(super) tag: Option<&'a [u8]>,
}

/// A refusal: why, and the bytes at which.
pub(crate) type Refused<'a> = (&'static str, &'a [u8]);

/// What follows an element of a list, and the element.
pub(crate) type Element<'a, T> = Result<(&'a [u8], T), Refused<'a>>;

impl<'a> NameAddr<'a> {
    /// The display name as text, quotes and escapes resolved; `None` if there is none.
    pub fn display(&self) -> Option<Cow<'a, str>> {
        self.display.map(super::display)
    }

    /// The URI, without angle brackets.
    pub fn uri(&self) -> UriRef<'a> {
        self.uri
    }

    /// The parameters of the header value; those of the URI are its own.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// The `tag` parameter of From and To (RFC 3261 §19.3). An empty or unreadable one is none.
    pub fn tag(&self) -> Option<&'a str> {
        scan::text(self.tag?).filter(|tag| !tag.is_empty())
    }

    /// The whole value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// Reads one address at the start of `input`; gives the rest, which is empty or begins with a comma.
    #[inline]
    pub(crate) fn read(input: &'a [u8]) -> Element<'a, NameAddr<'a>> {
        NameAddr::read_seen(input, |_, _| {})
    }

    /// The same; `see` is given each parameter on the way.
    #[inline]
    pub(super) fn read_seen(
        input: &'a [u8],
        see: impl FnMut(&'a [u8], Option<&'a [u8]>),
    ) -> Element<'a, NameAddr<'a>> {
        let start = skip_lws(input);
        let (display, rest) = match start.first() {
            Some(b'<') => (None, start),
            _ => match grammar::display_name(start) {
                Ok((rest, name)) if rest.first() == Some(&b'<') => (Some(trim(name)), rest),
                Ok((rest, name)) if name.first() == Some(&b'"') => match skip_lws(rest) {
                    rest if rest.first() == Some(&b'<') => (Some(name), rest),
                    _ => return Err(("no < behind the display name", rest)),
                },
                Ok((rest, _)) if rest.first() == Some(&b':') => {
                    return NameAddr::read_addr_spec(start, see);
                }
                Ok((rest, _)) if rest.first() == Some(&b'"') => {
                    return Err(("unbalanced quote", rest));
                }
                Ok((rest, _)) => return Err(("no address", rest)),
                Err(_) => return Err(("unbalanced quote", start)),
            },
        };
        let inner = rest.get(1..).unwrap_or_default();
        let Some(length) = scan::near(b'>', inner) else {
            return Err(("no > behind the URI", rest));
        };
        let uri = inner.get(..length).unwrap_or_default();
        let after = inner.get(length + 1..).unwrap_or_default();
        NameAddr::finish(
            start,
            display.filter(|name| !name.is_empty()),
            uri,
            after,
            see,
        )
    }

    /// `addr-spec` without brackets: comma, question mark and semicolon end the URI (RFC 3261 §20.10).
    fn read_addr_spec(
        start: &'a [u8],
        see: impl FnMut(&'a [u8], Option<&'a [u8]>),
    ) -> Element<'a, NameAddr<'a>> {
        let ends =
            |byte: &u8| is_lws(*byte) || matches!(*byte, b';' | b',' | b'?' | b'<' | b'>' | b'"');
        let length = scan::position(start, ends).unwrap_or(start.len());
        let (uri, after) = start.split_at_checked(length).unwrap_or((start, &[]));
        if after.first() == Some(&b'?') {
            return Err(("a URI with headers outside angle brackets", after));
        }
        NameAddr::finish(start, None, uri, after, see)
    }

    #[inline]
    fn finish(
        start: &'a [u8],
        display: Option<&'a [u8]>,
        uri: &'a [u8],
        after: &'a [u8],
        mut see: impl FnMut(&'a [u8], Option<&'a [u8]>),
    ) -> Element<'a, NameAddr<'a>> {
        if !scan::is_text(uri) {
            return Err(("a URI that is no UTF-8", uri));
        }
        let uri = UriRef::parse_bytes(uri).map_err(|error| {
            (
                error.reason(),
                uri.get(error.offset()..).unwrap_or_default(),
            )
        })?;
        let mut tag = None;
        let see = |name: &'a [u8], value: Option<&'a [u8]>| {
            see(name, value);
            if tag.is_none() && name.eq_ignore_ascii_case(b"tag") {
                tag = Some(value);
            }
        };
        let (rest, params) =
            grammar::params_seen(after, see).map_err(|_| ("malformed parameters", after))?;
        if !matches!(rest.first(), None | Some(b',')) {
            return Err(("something behind the address", rest));
        }
        let length = start.len() - rest.len();
        let address = NameAddr {
            raw: trim(start.get(..length).unwrap_or_default()),
            display,
            uri,
            params: Params::new(params),
            tag: tag.flatten(),
        };
        Ok((rest, address))
    }
}

impl NameAddr<'_> {
    /// Whether both are the same bytes of the same buffer.
    pub(super) fn is_same(&self, other: &NameAddr<'_>) -> bool {
        let places = |address: &NameAddr<'_>| {
            let optional =
                [address.display, address.tag].map(|part| part.map(<[u8]>::as_ptr_range));
            let parts = [
                address.raw,
                address.uri.as_bytes(),
                address.params.as_bytes(),
            ];
            (parts.map(<[u8]>::as_ptr_range), optional)
        };
        places(self) == places(other) && self.uri.parts() == other.uri.parts()
    }
}

impl std::fmt::Debug for NameAddr<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.raw))
    }
}

impl<'a> Headers<'a> {
    /// Who sends (RFC 3261 §20.20).
    #[inline(always)]
    pub fn from(&self) -> Result<NameAddr<'a>, HeaderError> {
        match self.facts().from() {
            Some(packed) => Ok(packed.open(self.learned_value(Known::From as u8))),
            None => self.address(HeaderName::From),
        }
    }

    /// To whom (RFC 3261 §20.39).
    #[inline(always)]
    pub fn to(&self) -> Result<NameAddr<'a>, HeaderError> {
        match self.facts().to() {
            Some(packed) => Ok(packed.open(self.learned_value(Known::To as u8))),
            None => self.address(HeaderName::To),
        }
    }

    /// The Route values from the top (RFC 3261 §20.34).
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::Route)
    }

    /// The Record-Route values from the top (RFC 3261 §20.30).
    pub fn record_routes(
        &self,
    ) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::RecordRoute)
    }

    /// The Path values from the top (RFC 3327).
    pub fn path(&self) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::Path)
    }

    /// The Service-Route values from the top (RFC 3608).
    pub fn service_route(
        &self,
    ) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::ServiceRoute)
    }

    /// The addresses of any header field that lists them. The first malformed one ends the walk through its line.
    pub fn addresses(
        &self,
        name: &HeaderName,
    ) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses_read(name, NameAddr::read)
    }

    /// The same with a reader of its own.
    pub(super) fn addresses_read<T>(
        &self,
        name: &HeaderName,
        read: fn(&'a [u8]) -> Element<'a, T>,
    ) -> impl Iterator<Item = Result<T, HeaderError>> + use<'a, T> {
        let headers = *self;
        let (id, name) = (name.id(), name.clone());
        let mut lines = self.filed(id);
        let mut rest: &'a [u8] = &[];
        std::iter::from_fn(move || {
            while rest.is_empty() {
                rest = lines
                    .by_ref()
                    .map(|line| Header::of(headers.bytes, line))
                    .find(|line| line.is_filed(id, &name))?
                    .value();
                if rest.is_empty() {
                    return Some(Err(headers.error(name.clone(), "empty", rest)));
                }
            }
            let (after, result) = match read(rest) {
                Ok((after, address)) => (after, Ok(address)),
                Err((reason, at)) => (&[][..], Err(headers.error(name.clone(), reason, at))),
            };
            // A comma with nothing behind it is dropped, as empty list elements are.
            rest = trim(after.get(1..).unwrap_or_default());
            Some(result)
        })
    }

    /// The address of a field that may be there only once, and with one address.
    pub(super) fn optional_address(
        &self,
        name: HeaderName,
    ) -> Result<Option<NameAddr<'a>>, HeaderError> {
        match self.single(name.clone())? {
            Some(value) => self.read_address(name, value).map(Some),
            None => Ok(None),
        }
    }

    fn address(&self, name: HeaderName) -> Result<NameAddr<'a>, HeaderError> {
        let value = self.required(&name)?;
        self.read_address(name, value)
    }

    #[inline]
    fn read_address(&self, name: HeaderName, value: &'a [u8]) -> Result<NameAddr<'a>, HeaderError> {
        match NameAddr::read(value) {
            Ok(([], address)) => Ok(address),
            Ok((rest, _)) => Err(self.error(name, "more than one address", rest)),
            Err((reason, at)) => Err(self.error(name, reason, at)),
        }
    }
}
