//! Warning (RFC 3261 §20.43).

use std::borrow::Cow;

use super::Headers;
use crate::classes::decimal;
use crate::error::HeaderError;
use crate::grammar::{lws, quoted_string, unquote};
use crate::header_name::HeaderName;

/// One warning: a code, who gives it, and a text.
#[derive(Debug, Clone, Copy)]
pub struct WarningValue<'a> {
    /// Three digits, 300 to 399 as registered.
    pub code: u16,
    agent: &'a [u8],
    text: &'a [u8],
}

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
        let length = rest.iter().position(|byte| crate::classes::is_lws(*byte))?;
        let (agent, rest) = rest.split_at_checked(length)?;
        let (rest, _) = lws(rest).ok()?;
        let (rest, text) = quoted_string(rest).ok()?;
        rest.is_empty()
            .then_some(WarningValue { code, agent, text })
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
