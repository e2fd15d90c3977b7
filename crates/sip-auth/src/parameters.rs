//! The parameters of challenges and credentials: read once, each at most once, and printed.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use sipora_message::AuthValue;

use crate::error::AuthError;

/// The parameters of one challenge or one set of credentials, unquoted, in order.
pub(crate) struct Parameters<'a> {
    is_digest: bool,
    is_utf8: bool,
    list: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> From<AuthValue<'a>> for Parameters<'a> {
    fn from(value: AuthValue<'a>) -> Self {
        Parameters {
            is_digest: value.is("Digest"),
            is_utf8: std::str::from_utf8(value.as_bytes()).is_ok(),
            list: value.params().collect(),
        }
    }
}

impl Parameters<'_> {
    pub(crate) fn is_digest(&self) -> bool {
        self.is_digest
    }

    /// Gives a parameter by name. A parameter may occur once only (RFC 7235 §2.1).
    pub(crate) fn unique(&self, name: &'static str) -> Result<Option<&str>, AuthError> {
        let mut values = self
            .list
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref());
        let first = values.next();
        if values.next().is_some() {
            return Err(AuthError::Duplicate { parameter: name });
        }
        // What was no UTF-8 has become U+FFFD, and would be hashed as that.
        if !self.is_utf8 && first.is_some_and(|value| value.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(AuthError::NotUtf8 { parameter: name });
        }
        Ok(first)
    }

    pub(crate) fn required(&self, name: &'static str) -> Result<String, AuthError> {
        self.unique(name)?
            .map(str::to_owned)
            .ok_or(AuthError::Missing { parameter: name })
    }
}

/// Prints parameters after a scheme, quoting what RFC 7616 §3.3 and §3.4 want quoted.
pub(crate) struct Printer<'f, 'b> {
    f: &'f mut fmt::Formatter<'b>,
    separator: &'static str,
}

impl<'f, 'b> Printer<'f, 'b> {
    pub(crate) fn digest(f: &'f mut fmt::Formatter<'b>) -> Result<Self, fmt::Error> {
        f.write_str("Digest ")?;
        Ok(Printer { f, separator: "" })
    }

    pub(crate) fn quoted(&mut self, name: &str, value: &str) -> fmt::Result {
        self.begin(name)?;
        self.f.write_str("=\"")?;
        self.separator = ", ";
        let is_odd = |c: char| matches!(c, '"' | '\\' | '\r' | '\n' | '\0');
        for run in value.split_inclusive(is_odd) {
            let odd = run.chars().next_back().filter(|last| is_odd(*last));
            let plain = run.len() - odd.map_or(0, char::len_utf8);
            self.f.write_str(run.get(..plain).unwrap_or_default())?;
            // A quoted-pair must not hold CR, LF (RFC 3261 §25.1); nothing that arrives here has them.
            if let Some(odd @ ('"' | '\\')) = odd {
                self.f.write_char('\\')?;
                self.f.write_char(odd)?;
            }
        }
        self.f.write_char('"')
    }

    pub(crate) fn plain(&mut self, name: &str, value: &str) -> fmt::Result {
        self.begin(name)?;
        self.f.write_str("=")?;
        self.separator = ", ";
        self.f.write_str(value)
    }

    fn begin(&mut self, name: &str) -> fmt::Result {
        self.f.write_str(self.separator)?;
        self.f.write_str(name)
    }
}

/// Tells whether `text` can stand inside a quoted-string.
pub(crate) fn is_quotable(text: &str) -> bool {
    !text
        .bytes()
        .any(|byte| matches!(byte, b'\r' | b'\n' | b'\0'))
}
