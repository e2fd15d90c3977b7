//! URIs that own their text.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::{Host, Parts, Scheme, TelRef, UriBuilder, UriError, UriRef, UrnRef, escape};
use crate::classes::URI_PARAM;

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

impl Uri {
    pub(super) fn from_parts(text: &str, parts: Parts) -> Uri {
        Uri {
            text: text.into(),
            parts,
        }
    }

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
        let builder = Uri::builder(host);
        let builder = match user {
            Some(user) => builder.user(user),
            None => builder,
        };
        match port {
            Some(port) => builder.port(port),
            None => builder,
        }
        .build()
    }

    /// Begins a SIP URI at its host; see [`UriBuilder`].
    pub fn builder(host: &str) -> UriBuilder {
        UriBuilder::new(host)
    }

    /// Makes a `tel:` URI of a number, visual separators and all. A local number needs a context (RFC 3966 §5.1.5):
    ///
    /// ```
    /// use sipora_message::Uri;
    /// assert_eq!(Uri::tel("+1-201-555-0123", None)?.as_str(), "tel:+1-201-555-0123");
    /// assert_eq!(Uri::tel("7042", Some("example.com"))?.as_str(), "tel:7042;phone-context=example.com");
    /// assert!(Uri::tel("7042", None).is_err());
    /// # Ok::<(), sipora_message::UriError>(())
    /// ```
    pub fn tel(number: &str, context: Option<&str>) -> Result<Uri, UriError> {
        let uri = Uri::parse(&format!("tel:{number}"))?;
        let uri = match context {
            Some(context) => uri.with_param("phone-context", Some(context))?,
            None => uri,
        };
        match uri.telephone() {
            Some(tel) if tel.number() == number && (tel.is_global() || tel.context().is_some()) => {
                Ok(uri)
            }
            Some(tel) if tel.number() == number => {
                Err(UriError::new("a local number without phone-context", 4))
            }
            _ => Err(UriError::new(
                "character not allowed in a telephone number",
                4,
            )),
        }
    }

    /// The same URI with a parameter set: replaced where it stands, else appended. The value is escaped here.
    /// URIs of schemes other than `sip`, `sips` and `tel` come back unchanged.
    pub fn with_param(&self, name: &str, value: Option<&str>) -> Result<Uri, UriError> {
        let uri = self.as_ref();
        if uri.scheme() == Scheme::Other {
            return Ok(self.clone());
        }
        let mut text = self.without(name);
        text.push(';');
        escape::encode(name, URI_PARAM, &mut text);
        if let Some(value) = value {
            text.push('=');
            escape::encode(value, URI_PARAM, &mut text);
        }
        if let Some(headers) = uri.piece(uri.parts.headers) {
            text.push('?');
            text.push_str(headers);
        }
        Uri::parse(&text)
    }

    /// The same URI as it may stand in a Request-URI: without headers and without the parameter `method` (RFC 3261
    /// §19.1.1), which a Contact or Refer-To may have. URIs of schemes other than `sip` and `sips` come back unchanged.
    ///
    /// ```
    /// use sipora_message::Uri;
    /// let uri = Uri::parse("sip:a?b@example.com;method=INVITE;x=1?Subject=y")?;
    /// assert_eq!(uri.to_request_uri().as_str(), "sip:a?b@example.com;x=1");
    /// # Ok::<(), sipora_message::UriError>(())
    /// ```
    pub fn to_request_uri(&self) -> Uri {
        match self.is_sip() {
            true => Uri::parse(&self.without("method")).unwrap_or_else(|_| self.clone()),
            false => self.clone(),
        }
    }

    /// The text without a parameter and without headers.
    fn without(&self, name: &str) -> String {
        let uri = self.as_ref();
        let start = self.text.get(..uri.parts.params_start() as usize);
        let mut text = start.unwrap_or("").to_owned();
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
        text
    }

    /// The same URI as a SIPS URI: "simply by changing the scheme from "sip" to "sips"" (RFC 5630 §5.1.1). URIs of other
    /// schemes come back unchanged.
    pub fn to_sips(&self) -> Uri {
        if self.scheme() != Scheme::Sip {
            return self.clone();
        }
        let rest = self.text.get("sip".len()..).unwrap_or_default();
        Uri::parse(&format!("sips{rest}")).unwrap_or_else(|_| self.clone())
    }

    /// The borrowed view.
    pub fn as_ref(&self) -> UriRef<'_> {
        UriRef::of_parts(&self.text, self.parts)
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

    /// See [`UriRef::header`].
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.as_ref().header(name)
    }

    /// See [`UriRef::telephone`].
    pub fn telephone(&self) -> Option<TelRef<'_>> {
        self.as_ref().telephone()
    }

    /// See [`UriRef::urn`].
    pub fn urn(&self) -> Option<UrnRef<'_>> {
        self.as_ref().urn()
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
