//! Header values to be printed, in the shape that most header fields have.

use std::fmt;

use super::address::push_value;
use crate::classes::is_token;
use crate::headers::Q;
use crate::method::NotAToken;

/// A header value to be printed: a token and parameters, `presence;id=7`.
///
/// What would not be read back is refused when it is put in, so that printing cannot fail.
///
/// ```
/// use sipora_message::HeaderValue;
///
/// let disposition = HeaderValue::new("session")?.with_param("handling", Some("optional"))?;
/// assert_eq!(disposition.to_string(), "session;handling=optional");
/// let kind = HeaderValue::media_type("multipart", "mixed")?.with_param("boundary", Some("a b"))?;
/// assert_eq!(kind.to_string(), "multipart/mixed;boundary=\"a b\"");
/// assert!(HeaderValue::new("presence, dialog").is_err());
/// # Ok::<(), sipora_message::NotAToken>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderValue {
    text: String,
}

impl HeaderValue {
    /// A value that is a token.
    pub fn new(value: &str) -> Result<HeaderValue, NotAToken> {
        check_token(value)?;
        Ok(HeaderValue { text: value.into() })
    }

    /// A value that is a number, as of Session-Expires or Retry-After.
    pub fn number(value: u32) -> HeaderValue {
        HeaderValue {
            text: value.to_string(),
        }
    }

    /// A media type (RFC 3261 §20.15) or a range of them, which has `*` in place of one or both names.
    pub fn media_type(kind: &str, subtype: &str) -> Result<HeaderValue, NotAToken> {
        check_token(kind)?;
        check_token(subtype)?;
        Ok(HeaderValue {
            text: format!("{kind}/{subtype}"),
        })
    }

    /// Adds a parameter; its value goes in quotes unless it is a token. Line ends and NUL are refused, for no quoting
    /// makes them fit into a header field.
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Result<HeaderValue, NotAToken> {
        self.push_param(name, value)?;
        Ok(self)
    }

    /// Adds a preference, for Accept and its kin.
    pub fn with_q(mut self, q: Q) -> HeaderValue {
        self.text.push_str(&format!(";q={q}"));
        self
    }

    /// The value as it is printed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn from_text(text: String) -> HeaderValue {
        HeaderValue { text }
    }

    pub(crate) fn push_param(&mut self, name: &str, value: Option<&str>) -> Result<(), NotAToken> {
        check_token(name)?;
        if value.is_some_and(|value| value.bytes().any(super::is_injection)) {
            return Err(NotAToken);
        }
        self.text.push(';');
        self.text.push_str(name);
        if let Some(value) = value {
            self.text.push('=');
            push_value(value, &mut self.text);
        }
        Ok(())
    }

    /// Adds a parameter whose value is in quotes even if it is a token.
    pub(crate) fn push_quoted(&mut self, name: &str, value: &str) -> Result<(), NotAToken> {
        check_token(name)?;
        if value.bytes().any(super::is_injection) {
            return Err(NotAToken);
        }
        self.text.push(';');
        self.text.push_str(name);
        self.text.push('=');
        super::address::quote(value, &mut self.text);
        Ok(())
    }

    /// Adds a parameter whose value has to be a token.
    pub(crate) fn push_token(&mut self, name: &str, value: &str) -> Result<(), NotAToken> {
        check_token(value)?;
        self.push_param(name, Some(value))
    }

    pub(crate) fn push_number(&mut self, name: &str, value: u32) {
        self.text.push_str(&format!(";{name}={value}"));
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(crate) fn check_token(text: &str) -> Result<(), NotAToken> {
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(NotAToken);
    }
    Ok(())
}
