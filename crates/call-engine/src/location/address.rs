//! Addresses-of-record as keys of a location service.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sipora_message::{Aor, Uri, UriRef};

use crate::Error;

/// An address-of-record in the one form that it is stored under: user and domain.
///
/// The canonical form of RFC 3261 §10.3 step 5 (no parameters, nothing escaped), and beyond it without
///
/// - the scheme: "The registrar MUST consider AORs that are identical except for one having the SIP scheme and the other
///   having the SIPS scheme to be equivalent" (RFC 5630 §5.2);
/// - the port: a domain is served whatever the port.
///
/// The domain is in lower case; the user keeps its case. Cheap to clone.
///
/// ```
/// use sipora_call_engine::AddressOfRecord;
///
/// let one: AddressOfRecord = "sip:%61lice@Example.com;user=phone".parse()?;
/// let two: AddressOfRecord = "sips:alice@example.com:5061".parse()?;
/// assert_eq!(one, two);
/// assert_eq!((one.user(), one.domain()), ("alice", "example.com"));
/// assert_eq!(one.to_string(), "sip:alice@example.com");
/// # Ok::<(), sipora_call_engine::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressOfRecord(Arc<str>);

impl AddressOfRecord {
    /// Makes the address of a SIP or SIPS URI that has a user; `None` of any other.
    pub fn from_uri<'a>(uri: impl Into<UriRef<'a>>) -> Option<Self> {
        let uri: UriRef<'a> = uri.into();
        // Empty or not there: nobody's address.
        let user = uri.user().filter(|user| !user.is_empty())?;
        let host = uri.host_str();
        if uri.is_sip() && !user.contains('%') && !host.starts_with('[') {
            // As nearly all are written: the canonical form but for the case of the host.
            let mut key = String::with_capacity(user.len() + 1 + host.len());
            key.push_str(user);
            key.push('@');
            key.push_str(host);
            if let Some(host) = key.get_mut(user.len() + 1..) {
                host.make_ascii_lowercase();
            }
            return Some(Self(key.into()));
        }
        let canonical = Aor::from_uri(uri).ok()?;
        // Between the scheme and the port there is nothing but user and host.
        let (_, rest) = canonical.as_str().split_once(':')?;
        let port = uri
            .port()
            .map_or(0, |port| 2 + port.checked_ilog10().unwrap_or(0));
        let end = rest.len().checked_sub(port as usize)?;
        Some(Self(rest.get(..end)?.into()))
    }

    /// The user, not escaped.
    pub fn user(&self) -> &str {
        self.split().0
    }

    /// The domain: a name in lower case, or an address.
    pub fn domain(&self) -> &str {
        self.split().1
    }

    /// User and domain as one text, `alice@example.com`, nothing escaped: the key to store under.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address whose [`as_str`](AddressOfRecord::as_str) this was, as a store reads it back.
    pub fn from_key(key: &str) -> Option<Self> {
        let (user, domain) = key.rsplit_once('@')?;
        (!user.is_empty() && !domain.is_empty()).then(|| Self(key.into()))
    }

    /// The SIP URI of the address.
    pub fn to_uri(&self) -> Option<Uri> {
        let (user, domain) = self.split();
        Uri::sip(Some(user), domain, None).ok()
    }

    pub(super) fn shared(&self) -> &Arc<str> {
        &self.0
    }

    pub(super) fn from_shared(key: Arc<str>) -> Self {
        Self(key)
    }

    // A host holds no `@`, so the last one ends the user.
    fn split(&self) -> (&str, &str) {
        let at = self.0.bytes().rposition(|byte| byte == b'@');
        let parts = at.and_then(|at| Some((self.0.get(..at)?, self.0.get(at + 1..)?)));
        parts.unwrap_or(("", &self.0))
    }
}

impl FromStr for AddressOfRecord {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason: String| Error::InvalidUri {
            uri: text.to_owned(),
            reason,
        };
        let uri = UriRef::parse(text).map_err(|error| invalid(error.to_string()))?;
        Self::from_uri(uri)
            .ok_or_else(|| invalid("an address-of-record is a SIP URI with a user".to_owned()))
    }
}

impl fmt::Display for AddressOfRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_uri() {
            Some(uri) => uri.fmt(formatter),
            None => write!(formatter, "sip:{}", self.0),
        }
    }
}

impl fmt::Debug for AddressOfRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("AddressOfRecord")
            .field(&self.0)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> AddressOfRecord {
        text.parse().unwrap()
    }

    #[test]
    fn parameters_escapes_scheme_and_port_do_not_tell_addresses_apart() {
        for text in [
            "sip:alice@example.com;transport=tcp",
            "sip:%61%6Cice@EXAMPLE.com",
            "sips:alice@example.com",
            "sip:alice:secret@example.com:5070?subject=x",
        ] {
            assert_eq!(address(text), address("sip:alice@example.com"), "{text}");
        }
    }

    #[test]
    fn an_address_is_the_canonical_form_without_scheme_and_port() {
        for text in [
            "sip:alice@Example.COM",
            "sips:Bob.1@192.0.2.1:5061",
            "sip:a%40b@example.com",
            "sip:a;b?c,d@h:5060;x=y",
            "sip:a@[2001:DB8::1]:5070",
        ] {
            let canonical = Aor::from_uri(UriRef::parse(text).unwrap()).unwrap();
            let canonical = canonical.without_port();
            let (_, rest) = canonical.as_str().split_once(':').unwrap();
            assert_eq!(address(text).as_str(), rest, "{text}");
        }
    }

    #[test]
    fn the_case_of_a_user_and_an_escaped_nul_do() {
        assert_ne!(
            address("sip:Alice@example.com"),
            address("sip:alice@example.com")
        );
        assert_ne!(
            address("sip:null-%00-null@example.com"),
            address("sip:null-@example.com")
        );
    }

    #[test]
    fn a_user_that_holds_an_at_sign_is_escaped_again() {
        let odd = address("sip:a%40b@example.com");
        assert_eq!((odd.user(), odd.domain()), ("a@b", "example.com"));
        assert_eq!(address(&odd.to_string()), odd);
        assert_eq!(AddressOfRecord::from_key(odd.as_str()), Some(odd));
    }

    #[test]
    fn ipv6_domains_have_one_form() {
        assert_eq!(address("sip:a@[2001:db8:0::1]").domain(), "[2001:db8::1]");
    }

    #[test]
    fn only_a_sip_uri_with_a_user_is_an_address() {
        for text in [
            "sip:example.com",
            "tel:+1555",
            "isbn:2983792873",
            "alice",
            "sip:@example.com",
        ] {
            assert!(text.parse::<AddressOfRecord>().is_err(), "{text}");
        }
    }
}
