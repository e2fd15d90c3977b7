//! Warning (RFC 3261 §20.43).

use std::borrow::Cow;
use std::fmt;

use super::Headers;
use crate::builder::quote;
use crate::classes::{decimal, is_lws};
use crate::error::HeaderError;
use crate::grammar::{lws, quoted_string, unquote};
use crate::header_name::HeaderName;
use crate::method::NotAToken;
use crate::scan;

/// One warning: a code, who gives it, and a text.
#[derive(Debug, Clone, Copy)]
pub struct WarningValue<'a> {
    /// Three digits, 300 to 399 as registered.
    pub code: u16,
    agent: &'a [u8],
    text: &'a [u8],
}

/// Warning to be printed.
///
/// ```
/// use sipora_message::Warning;
/// assert_eq!(Warning::new(305, "192.0.2.1", "No SDP")?.to_string(), r#"305 192.0.2.1 "No SDP""#);
/// # Ok::<(), sipora_message::NotAToken>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(String);

impl<'a> WarningValue<'a> {
    /// The host or the pseudonym of the server that gives the warning.
    pub fn agent(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.agent)
    }

    /// The text, without its quotes.
    pub fn text(&self) -> Cow<'a, str> {
        unquote(self.text)
    }

    /// `3DIGIT SP warn-agent SP quoted-string`
    fn read(value: &'a [u8]) -> Option<WarningValue<'a>> {
        let (code, rest) = value.split_at_checked(3)?;
        let code = u16::try_from(decimal(code)?).ok()?;
        let (rest, space) = lws(rest).ok()?;
        if space.is_empty() {
            return None;
        }
        let length = scan::position(rest, |byte| is_lws(*byte))?;
        let (agent, rest) = rest.split_at_checked(length)?;
        let (rest, _) = lws(rest).ok()?;
        let (rest, text) = quoted_string(rest).ok()?;
        rest.is_empty()
            .then_some(WarningValue { code, agent, text })
    }
}

impl Warning {
    /// A warning: a code of three digits, the host or pseudonym of who gives it, and a text for people.
    pub fn new(code: u16, agent: &str, text: &str) -> Result<Warning, NotAToken> {
        let bad_agent =
            |byte: u8| byte <= b' ' || byte == 0x7f || matches!(byte, b',' | b'"' | b'<' | b'>');
        let injected = text.bytes().any(crate::builder::is_injection);
        if !(100..=999).contains(&code)
            || agent.is_empty()
            || agent.bytes().any(bad_agent)
            || injected
        {
            return Err(NotAToken);
        }
        let mut line = format!("{code} {agent} ");
        quote(text, &mut line);
        Ok(Warning(line))
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> Headers<'a> {
    /// The warnings in order.
    pub fn warnings(
        &self,
    ) -> impl Iterator<Item = Result<WarningValue<'a>, HeaderError>> + use<'a> {
        let headers = *self;
        let name = &const { HeaderName::Warning };
        self.list(name).map(move |value| {
            WarningValue::read(value)
                .ok_or_else(|| headers.error(HeaderName::Warning, "malformed", value))
        })
    }
}
