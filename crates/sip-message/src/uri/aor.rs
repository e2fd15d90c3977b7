//! Addresses-of-record as keys.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::{Host, Scheme, Uri, UriError, UriRef, escape};

/// An address-of-record in the canonical form of RFC 3261 §10.3 step 5, the key of a location service.
///
/// "All URI parameters MUST be removed (including the user-param), and any escaped characters MUST be converted to
/// their unescaped form." So what is left is scheme, user, host and port: `sip:` and `sips:`, and a URI with and
/// without `:5060`, are different keys, as §19.1.4 compares them. Password and headers go too, since neither names
/// anybody. Scheme and host are in lower case, IPv6 addresses in their shortest form; the user keeps its case.
///
/// ```
/// use sipora_message::{Aor, Uri};
///
/// let one = Aor::from_uri(&Uri::parse("sip:%61lice@Example.COM;user=phone")?)?;
/// let two = Aor::from_uri(&Uri::parse("SIP:alice@example.com;transport=tcp")?)?;
/// assert_eq!(one, two);
/// assert_eq!(one.as_str(), "sip:alice@example.com");
/// # Ok::<(), sipora_message::UriError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aor(Box<str>);

impl Aor {
    /// Makes the key of a SIP or SIPS URI. Other schemes have no address-of-record (RFC 3261 §10.3), and a user that
    /// is no UTF-8 once unescaped has no text.
    pub fn from_uri<'a>(uri: impl Into<UriRef<'a>>) -> Result<Aor, UriError> {
        let uri: UriRef<'a> = uri.into();
        let scheme = match uri.scheme() {
            Scheme::Sip => "sip:",
            Scheme::Sips => "sips:",
            _ => {
                return Err(UriError::new(
                    "an address-of-record is a SIP or SIPS URI",
                    0,
                ));
            }
        };
        let user = match uri.user() {
            Some(user) if user.contains('%') => {
                let bytes: Vec<u8> = escape::decode(user).collect();
                let user = String::from_utf8(bytes)
                    .map_err(|_| UriError::new("the user is no UTF-8", scheme.len()))?;
                Some(Cow::Owned(user))
            }
            user => user.map(Cow::Borrowed),
        };
        let host = uri.host_str();
        let port = uri.port();
        let user_len = user.as_ref().map_or(0, |user| user.len() + 1);
        let port_len = port.map_or(0, |_| 6);
        let mut key = String::with_capacity(scheme.len() + user_len + host.len() + port_len);
        key.push_str(scheme);
        if let Some(user) = user {
            key.push_str(&user);
            key.push('@');
        }
        match host.starts_with('[') {
            // Writing to a string cannot fail.
            true => drop(write!(key, "{}", Canonical(uri.host()))),
            // An IPv4 address is written in one way only.
            false => {
                key.push_str(host);
                let start = key.len() - host.len();
                if let Some(host) = key.get_mut(start..) {
                    host.make_ascii_lowercase();
                }
            }
        }
        if let Some(port) = port {
            let _ = write!(key, ":{port}");
        }
        Ok(Aor(key.into()))
    }

    /// The key. It is no URI: nothing in it is escaped.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scheme, `sip` or `sips`.
    pub fn scheme(&self) -> Scheme {
        if self.0.starts_with("sips:") {
            Scheme::Sips
        } else {
            Scheme::Sip
        }
    }

    /// The user, not escaped.
    pub fn user(&self) -> Option<&str> {
        let rest = self.after_scheme();
        last(b'@', rest).and_then(|at| rest.get(..at))
    }

    /// The host in lower case, brackets included.
    pub fn host(&self) -> &str {
        let host = self.host_port();
        match last(b':', host) {
            Some(colon) if !host.ends_with(']') => host.get(..colon).unwrap_or(host),
            _ => host,
        }
    }

    /// The port, if the URI said one.
    pub fn port(&self) -> Option<u16> {
        self.host_port().get(self.host().len() + 1..)?.parse().ok()
    }

    /// The same key without its port, for a registrar that serves a domain whatever the port.
    pub fn without_port(&self) -> Aor {
        let extra = self.host_port().len() - self.host().len();
        Aor(self.0.get(..self.0.len() - extra).unwrap_or(&self.0).into())
    }

    /// The URI that this key stands for, escaped again.
    pub fn to_uri(&self) -> Result<Uri, UriError> {
        let mut builder = Uri::builder(self.host());
        if self.scheme() == Scheme::Sips {
            builder = builder.secure();
        }
        if let Some(user) = self.user() {
            builder = builder.user(user);
        }
        if let Some(port) = self.port() {
            builder = builder.port(port);
        }
        builder.build()
    }

    fn after_scheme(&self) -> &str {
        let scheme = match self.scheme() {
            Scheme::Sips => 5,
            _ => 4,
        };
        self.0.get(scheme..).unwrap_or("")
    }

    // A host holds no `@`, so the last one ends the user.
    fn host_port(&self) -> &str {
        let rest = self.after_scheme();
        last(b'@', rest)
            .and_then(|at| rest.get(at + 1..))
            .unwrap_or(rest)
    }
}

/// The last place of an ASCII character in a short text.
fn last(needle: u8, text: &str) -> Option<usize> {
    text.bytes().rposition(|byte| byte == needle)
}

/// Prints a host in lower case.
struct Canonical<'a>(Host<'a>);

impl fmt::Display for Canonical<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Host::Name(name) => f.write_str(&name.to_ascii_lowercase()),
            address => address.fmt(f),
        }
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Aor").field(&self.0).finish()
    }
}
