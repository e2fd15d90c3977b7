//! Authentication-Info and Proxy-Authentication-Info (RFC 3261 §20.6, RFC 7615, RFC 7616 §3.5).

use std::borrow::Cow;

use super::Headers;
use crate::classes::is_lws;
use crate::error::HeaderError;
use crate::grammar::{lws, param, separator, unquote};
use crate::header_name::HeaderName;
use crate::scan;

/// What a server says after credentials were accepted: a list of parameters without a scheme.
#[derive(Debug, Clone, Copy)]
pub struct AuthenticationInfo<'a> {
    raw: &'a [u8],
}

impl<'a> AuthenticationInfo<'a> {
    /// The parameters in order, quotes and escapes resolved.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        let mut rest = self.raw;
        std::iter::from_fn(move || {
            let start = scan::position(rest, |byte| *byte != b',' && !is_lws(*byte))?;
            let (after, (name, value)) = param(rest.get(start..)?).ok()?;
            rest = after;
            Some((
                scan::text(name).unwrap_or(""),
                unquote(value.unwrap_or_default()),
            ))
        })
    }

    /// The first parameter of that name, in any case.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.params()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The nonce for the next request.
    pub fn next_nonce(&self) -> Option<Cow<'a, str>> {
        self.param("nextnonce")
    }

    /// The proof that the server knows the secret too.
    pub fn response_auth(&self) -> Option<Cow<'a, str>> {
        self.param("rspauth")
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    fn read(raw: &'a [u8]) -> Option<AuthenticationInfo<'a>> {
        let mut rest = raw;
        loop {
            let (after, (_, value)) = param(rest).ok()?;
            value?;
            let (after, _) = lws(after).ok()?;
            if after.is_empty() {
                return Some(AuthenticationInfo { raw });
            }
            (rest, _) = separator(',')(after).ok()?;
        }
    }
}

impl<'a> Headers<'a> {
    /// What the server says after credentials were accepted; `name` is Authentication-Info or
    /// Proxy-Authentication-Info.
    pub fn authentication_info(
        &self,
        name: &HeaderName,
    ) -> Result<Option<AuthenticationInfo<'a>>, HeaderError> {
        self.one(name.clone(), |value| {
            AuthenticationInfo::read(value).ok_or(("malformed", value))
        })
    }
}
