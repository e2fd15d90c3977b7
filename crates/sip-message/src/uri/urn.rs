//! Names (RFC 8141): `urn:service:sos` (RFC 5031), `urn:uuid:…` of an instance (RFC 5626).

use super::UriRef;

/// The parts of a `urn:` URI.
///
/// ```
/// use sipora_message::Uri;
///
/// let uri = Uri::parse("urn:service:sos.fire")?;
/// let urn = uri.urn().unwrap();
/// assert_eq!((urn.namespace(), urn.name()), ("service", "sos.fire"));
/// assert!(uri.equivalent(&Uri::parse("URN:SERVICE:sos.fire")?));
/// # Ok::<(), sipora_message::UriError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct UrnRef<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl<'a> UrnRef<'a> {
    /// The namespace, compared without case: `uuid`, `service`, `gsma`.
    pub fn namespace(&self) -> &'a str {
        self.namespace
    }

    /// The name inside the namespace, without the components behind it (`?+`, `?=`, `#`), which do not count.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// RFC 8141 §3.1: the namespace compares without case, the name with it, but for the hexadecimal digits of escapes.
    /// UUIDs are hexadecimal digits all over.
    pub(super) fn equivalent(&self, other: &UrnRef<'_>) -> bool {
        if !self.namespace.eq_ignore_ascii_case(other.namespace) {
            return false;
        }
        if self.namespace.eq_ignore_ascii_case("uuid") {
            return self.name.eq_ignore_ascii_case(other.name);
        }
        folded(self.name).eq(folded(other.name))
    }

    pub(super) fn of(uri: UriRef<'a>) -> Option<UrnRef<'a>> {
        if !uri.scheme_str().eq_ignore_ascii_case("urn") {
            return None;
        }
        let (namespace, rest) = uri.opaque().split_once(':')?;
        let end = [rest.find("?+"), rest.find("?="), rest.find('#')]
            .into_iter()
            .flatten()
            .min();
        let name = end.map_or(Some(rest), |end| rest.get(..end))?;
        if namespace.is_empty() || name.is_empty() {
            return None;
        }
        Some(UrnRef { namespace, name })
    }
}

/// The bytes of a name, the two digits behind each `%` in upper case.
fn folded(name: &str) -> impl Iterator<Item = u8> + '_ {
    let mut digits = 0;
    name.bytes().map(move |byte| {
        if digits > 0 {
            digits -= 1;
            return byte.to_ascii_uppercase();
        }
        if byte == b'%' {
            digits = 2;
        }
        byte
    })
}
