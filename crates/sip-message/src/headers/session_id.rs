//! Session-ID (RFC 7989).

use std::fmt;

use super::Headers;
use super::address::Refused;
use super::item::Item;
use crate::error::HeaderError;
use crate::header_name::HeaderName;

/// The two halves of a session's identifier, each chosen by one of the user agents.
///
/// Letters are read in either case and printed in lower case, as RFC 7989 §5 has them.
///
/// ```
/// use sipora_message::SessionId;
///
/// let id = SessionId { local: 0xab30317f1a784dc48ff824d0d3715d86, remote: Some(SessionId::NIL) };
/// assert_eq!(id.to_string(), "ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The half of the sender.
    pub local: u128,
    /// The half of the receiver as the sender knows it; `None` where an older peer sends only its own (RFC 7329).
    pub remote: Option<u128>,
}

impl SessionId {
    /// What stands for a half that is not known yet.
    pub const NIL: u128 = 0;

    fn read(value: &[u8]) -> Result<SessionId, Refused<'_>> {
        let refused = ("not 32 hexadecimal digits", value);
        let item = Item::token(value)?;
        let remote = match item.params().find("remote") {
            None => None,
            Some(param) => Some(param.raw_value().and_then(half).ok_or(refused)?),
        };
        Ok(SessionId {
            local: half(item.value().as_bytes()).ok_or(refused)?,
            remote,
        })
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.local)?;
        match self.remote {
            Some(remote) => write!(f, ";remote={remote:032x}"),
            None => Ok(()),
        }
    }
}

impl<'a> Headers<'a> {
    /// The identifier of the session, which no back-to-back user agent changes.
    pub fn session_id(&self) -> Result<Option<SessionId>, HeaderError> {
        self.one(HeaderName::SessionId, SessionId::read)
    }
}

fn half(text: &[u8]) -> Option<u128> {
    // `from_str_radix` would take a sign too.
    if text.len() != 32 || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}
