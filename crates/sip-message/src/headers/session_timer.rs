//! Session-Expires and Min-SE (RFC 4028 §4 and §5).

use std::fmt;

use super::Headers;
use super::address::Refused;
use super::item::Item;
use crate::classes::decimal;
use crate::error::HeaderError;
use crate::header_name::HeaderName;

/// How long a session lasts unless it is refreshed, and who refreshes it.
///
/// ```
/// use sipora_message::{Refresher, SessionExpires};
///
/// let timer = SessionExpires { seconds: 1800, refresher: Some(Refresher::Uac) };
/// assert_eq!(timer.to_string(), "1800;refresher=uac");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionExpires {
    /// The interval.
    pub seconds: u32,
    /// Who refreshes; `None` where that is left to the answering side.
    pub refresher: Option<Refresher>,
}

/// The side that refreshes a session, by its role in the request that carries the header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refresher {
    /// The side that sent the request.
    Uac,
    /// The side that answers it.
    Uas,
}

impl SessionExpires {
    fn read(value: &[u8]) -> Result<SessionExpires, Refused<'_>> {
        let item = Item::token(value)?;
        let refresher = match item.params().find("refresher") {
            None => None,
            Some(param) => match param.raw_value() {
                Some(text) if text.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
                Some(text) if text.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
                _ => return Err(("a refresher that is neither uac nor uas", value)),
            },
        };
        Ok(SessionExpires {
            seconds: seconds(item, value)?,
            refresher,
        })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seconds)?;
        match self.refresher {
            None => Ok(()),
            Some(refresher) => write!(f, ";refresher={refresher}"),
        }
    }
}

impl fmt::Display for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refresher::Uac => "uac",
            Refresher::Uas => "uas",
        })
    }
}

impl<'a> Headers<'a> {
    /// The session interval.
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, HeaderError> {
        self.one(HeaderName::SessionExpires, SessionExpires::read)
    }

    /// The shortest session interval that everybody on the way accepts, in seconds; 90 where it is not said
    /// (RFC 4028 §5), which is not filled in here.
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        self.one(HeaderName::MinSe, |value| {
            seconds(Item::token(value)?, value)
        })
    }
}

fn seconds<'a>(item: Item<'a>, value: &'a [u8]) -> Result<u32, Refused<'a>> {
    decimal(item.value().as_bytes()).ok_or(("not a number of seconds below 2^32", value))
}
