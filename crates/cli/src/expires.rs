//! How long bindings, subscriptions and publications may last.

use serde::Deserialize;

/// Bounds of what a client may ask for, in seconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "ExpiresTable")]
pub(crate) struct Expires {
    /// Granted where the client names no expiry.
    pub(crate) default: u32,
    /// Below it, the answer is 423 (Interval Too Brief).
    pub(crate) minimum: u32,
    /// Above it, this is granted.
    pub(crate) maximum: u32,
}

impl Default for Expires {
    fn default() -> Expires {
        Expires {
            default: 3600,
            minimum: 60,
            maximum: 7200,
        }
    }
}

/// What stands in the file, whether or not it can be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ExpiresTable {
    default: u32,
    minimum: u32,
    maximum: u32,
}

impl Default for ExpiresTable {
    fn default() -> ExpiresTable {
        let Expires {
            default,
            minimum,
            maximum,
        } = Expires::default();
        ExpiresTable {
            default,
            minimum,
            maximum,
        }
    }
}

impl TryFrom<ExpiresTable> for Expires {
    type Error = String;

    fn try_from(table: ExpiresTable) -> Result<Expires, String> {
        let ExpiresTable {
            default,
            minimum,
            maximum,
        } = table;
        // RFC 3261 §10.3 lets nobody refuse an hour.
        Expires::checked("expires", default, minimum, maximum)
    }
}

impl Expires {
    /// Checks the three of the table `table`.
    pub(crate) fn checked(
        table: &str,
        default: u32,
        minimum: u32,
        maximum: u32,
    ) -> Result<Expires, String> {
        if !(1..=3600).contains(&minimum) {
            return Err(format!(
                "{table}.minimum is from 1 to 3600, and not {minimum}"
            ));
        }
        if maximum < minimum {
            return Err(format!(
                "{table}.maximum is {maximum}, below {table}.minimum, which is {minimum}"
            ));
        }
        if !(minimum..=maximum).contains(&default) {
            return Err(format!(
                "{table}.default lies between minimum ({minimum}) and maximum ({maximum}), and is {default}"
            ));
        }
        Ok(Expires {
            default,
            minimum,
            maximum,
        })
    }
}
