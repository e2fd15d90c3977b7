//! Reason (RFC 3326).

use std::borrow::Cow;
use std::fmt;

use super::Headers;
use super::item::Item;
use crate::builder::HeaderValue;
use crate::classes::decimal;
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::method::NotAToken;
use crate::params::Params;

/// Why a request was sent.
#[derive(Debug, Clone, Copy)]
pub struct ReasonRef<'a>(Item<'a>);

/// Reason to be printed.
///
/// ```
/// use sipora_message::Reason;
///
/// let reason = Reason::new("SIP")?.with_cause(200).with_text("Call completed elsewhere")?;
/// assert_eq!(reason.to_string(), r#"SIP;cause=200;text="Call completed elsewhere""#);
/// # Ok::<(), sipora_message::NotAToken>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(HeaderValue);

impl<'a> ReasonRef<'a> {
    /// Whose cause it is: `SIP`, `Q.850` or another registered protocol.
    pub fn protocol(&self) -> &'a str {
        self.0.value()
    }

    /// The cause: a status for `SIP`, a cause value for `Q.850`.
    pub fn cause(&self) -> Option<u32> {
        decimal(self.0.params().find("cause")?.raw_value()?)
    }

    /// A text for people.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        self.0.params().get("text")
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.0.params()
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0.as_bytes()
    }
}

impl Reason {
    /// A reason in the words of a protocol.
    pub fn new(protocol: &str) -> Result<Reason, NotAToken> {
        HeaderValue::new(protocol).map(Reason)
    }

    /// Adds the cause.
    pub fn with_cause(mut self, cause: u32) -> Reason {
        self.0.push_number("cause", cause);
        self
    }

    /// Adds a text for people, in quotes.
    pub fn with_text(mut self, text: &str) -> Result<Reason, NotAToken> {
        self.0.push_quoted("text", text)?;
        Ok(self)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> Headers<'a> {
    /// Why the request was sent, one value a protocol.
    pub fn reasons(&self) -> impl Iterator<Item = Result<ReasonRef<'a>, HeaderError>> + use<'a> {
        self.each(&const { HeaderName::Reason }, |value| {
            Item::token(value).map(ReasonRef)
        })
    }
}
