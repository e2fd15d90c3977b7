//! Telephone numbers (RFC 3966).

use super::{Scheme, UriRef};

/// A telephone number with its parameters.
///
/// ```
/// use sipora_message::Uri;
///
/// let uri = Uri::parse("tel:+1-(201)-555-0123;ext=22")?;
/// let tel = uri.telephone().unwrap();
/// assert!(tel.is_global());
/// assert_eq!((tel.digits().as_str(), tel.extension()), ("+12015550123", Some("22")));
///
/// let gateway = Uri::parse("sip:7042;phone-context=example.com@gw;user=phone")?;
/// assert_eq!(gateway.telephone().unwrap().context(), Some("example.com"));
/// # Ok::<(), sipora_message::UriError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelRef<'a> {
    number: &'a str,
    /// `name=value` pieces with semicolons between them.
    params: &'a str,
}

impl<'a> TelRef<'a> {
    /// The number as written, visual separators and all.
    pub fn number(&self) -> &'a str {
        self.number
    }

    /// The number without visual separators, letters in upper case: what to dial.
    pub fn digits(&self) -> String {
        let mut digits = self.number.replace(['-', '.', '(', ')'], "");
        digits.make_ascii_uppercase();
        digits
    }

    /// Whether the number is unique in the world: it begins with a plus sign and the country code.
    pub fn is_global(&self) -> bool {
        self.number.starts_with('+')
    }

    /// `phone-context`, in which a local number is unique: a domain, or the digits that a global number begins with.
    pub fn context(&self) -> Option<&'a str> {
        self.param("phone-context").flatten()
    }

    /// `ext`: the extension behind the number.
    pub fn extension(&self) -> Option<&'a str> {
        self.param("ext").flatten()
    }

    /// `isub`: the ISDN subaddress, as written.
    pub fn isdn_subaddress(&self) -> Option<&'a str> {
        self.param("isub").flatten()
    }

    /// A parameter: `None` when absent, `Some(None)` without a value. Names compare without case.
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        self.params()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The parameters in order, as written.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        self.params
            .split(';')
            .filter(|piece| !piece.is_empty())
            .map(|piece| match piece.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (piece, None),
            })
    }

    pub(super) fn of(uri: UriRef<'a>) -> Option<TelRef<'a>> {
        match uri.scheme() {
            Scheme::Tel => Some(TelRef {
                number: uri.opaque(),
                params: uri.piece(uri.parts.params).unwrap_or(""),
            }),
            Scheme::Sip | Scheme::Sips => {
                let is_phone = uri
                    .param("user")
                    .flatten()
                    .is_some_and(|user| user.eq_ignore_ascii_case("phone"));
                let user = uri.user().filter(|_| is_phone)?;
                let (number, params) = user.split_once(';').unwrap_or((user, ""));
                Some(TelRef { number, params })
            }
            Scheme::Other => None,
        }
    }
}
