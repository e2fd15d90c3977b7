//! URIs: one text and the places of its parts, owned ([`Uri`]) or borrowed ([`UriRef`]).

mod aor;
mod compare;
mod escape;
mod host;
mod parse;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

pub use aor::Aor;
pub use host::Host;
pub(crate) use host::{HostPort, host_port};
pub(crate) use parse::Parts;

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
    text: &'a str,
    parts: Parts,
}

/// A URI that owns its text.
///
/// ```
/// use sipora_message::{Host, Uri};
///
/// let uri = Uri::parse("sip:alice%40home@[2001:db8::1]:5070;transport=tcp")?;
/// assert_eq!(uri.user_decoded().as_deref(), Some("alice@home"));
/// assert_eq!(uri.host(), Host::V6("2001:db8::1".parse()?));
/// assert_eq!((uri.port(), uri.transport()), (Some(5070), Some("tcp")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Uri {
    text: Box<str>,
    parts: Parts,
}

impl<'a> UriRef<'a> {
    /// Parses a whole text as a URI.
    pub fn parse(text: &'a str) -> Result<UriRef<'a>, UriError> {
        Ok(UriRef {
            text,
            parts: Parts::parse(text)?,
        })
    }

    /// The text, untouched.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.parts.scheme
    }

    /// The scheme as written, without the colon.
    pub fn scheme_str(&self) -> &'a str {
        self.text
            .get(..self.parts.scheme_end as usize)
            .unwrap_or("")
    }

    /// `true` for `sip:` and `sips:`.
    pub fn is_sip(&self) -> bool {
        matches!(self.parts.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// All that follows the scheme's colon, but for the parameters of a `tel:` URI.
    pub fn opaque(&self) -> &'a str {
        let start = self.parts.scheme_end as usize + 1;
        let end = match self.parts.scheme {
            Scheme::Tel => self.parts.host_end as usize,
            _ => self.text.len(),
        };
        self.text.get(start..end).unwrap_or("")
    }

    /// The user part as written, escapes and all. `None` where there is no `@`, and for other schemes.
    pub fn user(&self) -> Option<&'a str> {
        self.parts.user.of(self.text)
    }

    /// The user part with each `%HH` replaced by its octet, once. Octets that are no UTF-8 become U+FFFD.
    pub fn user_decoded(&self) -> Option<Cow<'a, str>> {
        self.user().map(escape::decode_lossy)
    }

    /// The password as written. RFC 3261 §19.1.1 recommends against it.
    pub fn password(&self) -> Option<&'a str> {
        self.parts.password.of(self.text)
    }

    /// The host; an empty name for schemes other than `sip` and `sips`.
    pub fn host(&self) -> Host<'a> {
        Host::read(self.host_str())
    }

    /// The host as written, brackets included; empty for schemes other than `sip` and `sips`.
    pub fn host_str(&self) -> &'a str {
        if self.is_sip() {
            self.text
                .get(self.parts.host_start as usize..self.parts.host_end as usize)
                .unwrap_or("")
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
        pairs(self.parts.params.of(self.text), ';').map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        })
    }

    /// The headers behind the `?` in order, as written (escaped).
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        pairs(self.parts.headers.of(self.text), '&')
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
        self.parts.headers.of(self.text).is_some()
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

    /// An owned copy.
    pub fn to_owned(&self) -> Uri {
        Uri {
            text: self.text.into(),
            parts: self.parts,
        }
    }
}

impl Uri {
    /// Parses a whole text as a URI.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        UriRef::parse(text).map(|uri| uri.to_owned())
    }

    /// Makes a SIP URI of a user that is not escaped yet, a host (IPv6 with or without brackets) and a port.
    ///
    /// ```
    /// use sipora_message::Uri;
    /// assert_eq!(Uri::sip(Some("a b@c"), "::1", Some(5070))?.as_str(), "sip:a%20b%40c@[::1]:5070");
    /// # Ok::<(), sipora_message::UriError>(())
    /// ```
    pub fn sip(user: Option<&str>, host: &str, port: Option<u16>) -> Result<Uri, UriError> {
        Uri::build("sip", user, host, port)
    }

    fn build(
        scheme: &str,
        user: Option<&str>,
        host: &str,
        port: Option<u16>,
    ) -> Result<Uri, UriError> {
        let mut text = String::with_capacity(scheme.len() + host.len() + 32);
        text.push_str(scheme);
        text.push(':');
        if let Some(user) = user {
            escape::encode(user, crate::classes::USER, &mut text);
            text.push('@');
        }
        if host.contains(':') && !host.starts_with('[') {
            text.push('[');
            text.push_str(host);
            text.push(']');
        } else {
            text.push_str(host);
        }
        if let Some(port) = port {
            text.push(':');
            text.push_str(&port.to_string());
        }
        Uri::parse(&text)
    }

    /// The same URI with a parameter set: replaced where it stands, else appended. The value is escaped here.
    /// URIs of other schemes come back unchanged.
    pub fn with_param(&self, name: &str, value: Option<&str>) -> Result<Uri, UriError> {
        let uri = self.as_ref();
        if !uri.is_sip() {
            return Ok(self.clone());
        }
        let mut text = uri
            .text
            .get(..uri.parts.params_start() as usize)
            .unwrap_or("")
            .to_owned();
        for (found, kept) in uri
            .params()
            .filter(|(found, _)| !escape::eq_ignore_case(found, name))
        {
            text.push(';');
            text.push_str(found);
            if let Some(kept) = kept {
                text.push('=');
                text.push_str(kept);
            }
        }
        text.push(';');
        escape::encode(name, crate::classes::URI_PARAM, &mut text);
        if let Some(value) = value {
            text.push('=');
            escape::encode(value, crate::classes::URI_PARAM, &mut text);
        }
        if let Some(headers) = uri.parts.headers.of(uri.text) {
            text.push('?');
            text.push_str(headers);
        }
        Uri::parse(&text)
    }

    /// The borrowed view.
    pub fn as_ref(&self) -> UriRef<'_> {
        UriRef {
            text: &self.text,
            parts: self.parts,
        }
    }

    /// See [`UriRef::as_str`].
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// See [`UriRef::scheme`].
    pub fn scheme(&self) -> Scheme {
        self.parts.scheme
    }

    /// See [`UriRef::scheme_str`].
    pub fn scheme_str(&self) -> &str {
        self.as_ref().scheme_str()
    }

    /// See [`UriRef::is_sip`].
    pub fn is_sip(&self) -> bool {
        self.as_ref().is_sip()
    }

    /// See [`UriRef::opaque`].
    pub fn opaque(&self) -> &str {
        self.as_ref().opaque()
    }

    /// See [`UriRef::user`].
    pub fn user(&self) -> Option<&str> {
        self.as_ref().user()
    }

    /// See [`UriRef::user_decoded`].
    pub fn user_decoded(&self) -> Option<Cow<'_, str>> {
        self.as_ref().user_decoded()
    }

    /// See [`UriRef::password`].
    pub fn password(&self) -> Option<&str> {
        self.as_ref().password()
    }

    /// See [`UriRef::host`].
    pub fn host(&self) -> Host<'_> {
        self.as_ref().host()
    }

    /// See [`UriRef::host_str`].
    pub fn host_str(&self) -> &str {
        self.as_ref().host_str()
    }

    /// See [`UriRef::port`].
    pub fn port(&self) -> Option<u16> {
        self.parts.port
    }

    /// See [`UriRef::param`].
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        self.as_ref().param(name)
    }

    /// See [`UriRef::params`].
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.as_ref().params()
    }

    /// See [`UriRef::headers`].
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.as_ref().headers()
    }

    /// See [`UriRef::has_headers`].
    pub fn has_headers(&self) -> bool {
        self.as_ref().has_headers()
    }

    /// See [`UriRef::transport`].
    pub fn transport(&self) -> Option<&str> {
        self.as_ref().transport()
    }

    /// See [`UriRef::maddr`].
    pub fn maddr(&self) -> Option<&str> {
        self.as_ref().maddr()
    }

    /// See [`UriRef::is_loose_router`].
    pub fn is_loose_router(&self) -> bool {
        self.as_ref().is_loose_router()
    }

    /// See [`UriRef::equivalent`].
    pub fn equivalent<'b>(&self, other: impl Into<UriRef<'b>>) -> bool {
        self.as_ref().equivalent(other)
    }
}

impl<'a> From<&'a Uri> for UriRef<'a> {
    fn from(uri: &'a Uri) -> UriRef<'a> {
        uri.as_ref()
    }
}

impl<'a> From<&UriRef<'a>> for UriRef<'a> {
    fn from(uri: &UriRef<'a>) -> UriRef<'a> {
        *uri
    }
}

impl From<UriRef<'_>> for Uri {
    fn from(uri: UriRef<'_>) -> Uri {
        uri.to_owned()
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        Uri::parse(text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Uri").field(&self.text).finish()
    }
}

impl fmt::Display for UriRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl fmt::Debug for UriRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UriRef").field(&self.text).finish()
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
    text.into_iter().flat_map(move |text| text.split(separator))
}
