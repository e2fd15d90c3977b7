//! The shape that most header fields have: a value without separators, then parameters.

use std::fmt;

use super::Headers;
use super::address::Refused;
use crate::classes::{is_token, trim};
use crate::error::HeaderError;
use crate::grammar;
use crate::header_name::HeaderName;
use crate::params::Params;
use crate::scan;

/// `value *( SEMI generic-param )`
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    raw: &'a [u8],
    value: &'a str,
    params: Params<'a>,
}

impl<'a> Item<'a> {
    /// Reads a whole value; `allowed` tells of which bytes the part before the parameters may consist.
    pub(super) fn read(raw: &'a [u8], allowed: fn(u8) -> bool) -> Result<Item<'a>, Refused<'a>> {
        let raw = trim(raw);
        let length = scan::count_while(raw, |byte| allowed(*byte));
        let (value, rest) = raw.split_at_checked(length).unwrap_or((raw, &[]));
        if value.is_empty() {
            return Err(("no value", raw));
        }
        let value = scan::text(value).ok_or(("not UTF-8", value))?;
        let (after, params) = grammar::params(rest).map_err(|_| ("malformed parameters", rest))?;
        if !after.is_empty() {
            return Err(("something behind the value", after));
        }
        Ok(Item {
            raw,
            value,
            params: Params::new(params),
        })
    }

    pub(super) fn token(raw: &'a [u8]) -> Result<Item<'a>, Refused<'a>> {
        Item::read(raw, is_token)
    }

    pub(super) fn value(&self) -> &'a str {
        self.value
    }

    pub(super) fn params(&self) -> Params<'a> {
        self.params
    }

    pub(super) fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }
}

impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.raw))
    }
}

impl<'a> Headers<'a> {
    /// The value of a field that may be there only once, read by `read`.
    pub(super) fn one<T>(
        &self,
        name: HeaderName,
        read: impl FnOnce(&'a [u8]) -> Result<T, Refused<'a>>,
    ) -> Result<Option<T>, HeaderError> {
        let Some(value) = self.single(name.clone())? else {
            return Ok(None);
        };
        match read(value) {
            Ok(read) => Ok(Some(read)),
            Err((reason, at)) => Err(self.error(name, reason, at)),
        }
    }

    /// The elements of a comma list, each read by `read`.
    pub(super) fn each<T, F>(
        &self,
        name: &'static HeaderName,
        read: F,
    ) -> impl Iterator<Item = Result<T, HeaderError>> + use<'a, T, F>
    where
        F: Fn(&'a [u8]) -> Result<T, Refused<'a>>,
    {
        let headers = *self;
        self.list(name).map(move |value| {
            read(value).map_err(|(reason, at)| headers.error(name.clone(), reason, at))
        })
    }

    /// The value of a field that is one token.
    pub(super) fn one_token(&self, name: HeaderName) -> Result<Option<&'a str>, HeaderError> {
        self.one(name, |value| {
            let length = scan::count_while(value, |byte| is_token(*byte));
            match scan::text(value) {
                Some(text) if length == value.len() && length > 0 => Ok(text),
                _ => Err(("not a token", value)),
            }
        })
    }
}
