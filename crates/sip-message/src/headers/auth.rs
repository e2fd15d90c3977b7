//! The grammar of challenges and credentials (RFC 3261 §20.7, §20.27, §20.28, §20.44; RFC 7235 §2.1).
//!
//! What the parameters mean is not this crate's business.

use std::borrow::Cow;

use nom::Parser;
use nom::combinator::opt;

use super::Headers;
use crate::classes::{is_lws, trim};
use crate::error::HeaderError;
use crate::grammar::{lws, param, separator, token, unquote};
use crate::header_name::HeaderName;
use crate::scan;

/// One challenge or one set of credentials: a scheme and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct AuthValue<'a> {
    scheme: &'a str,
    /// What follows the scheme.
    raw: &'a [u8],
    has_params: bool,
}

impl<'a> AuthValue<'a> {
    /// The scheme as written; compare it without case.
    pub fn scheme(&self) -> &'a str {
        self.scheme
    }

    /// Whether the scheme is the one named, in any case.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The parameters in order, quotes and escapes resolved. Schemes without parameters (`Bearer abc==`) have none.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        self.raw_params()
            .map(|(name, value)| (scan::text(name).unwrap_or(""), unquote(value)))
    }

    /// The first parameter of that name, in any case.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.raw_param(name).map(unquote)
    }

    /// The value of a parameter as written, quotes included.
    pub fn raw_param(&self, name: &str) -> Option<&'a [u8]> {
        self.raw_params()
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// How often a parameter of that name occurs.
    pub fn count(&self, name: &str) -> usize {
        self.raw_params()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .count()
    }

    /// All that follows the scheme, as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    fn raw_params(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = if self.has_params { self.raw } else { &[] };
        std::iter::from_fn(move || {
            let start = scan::position(rest, |byte| *byte != b',' && !is_lws(*byte))?;
            let (after, (name, value)) = param(rest.get(start..)?).ok()?;
            rest = after;
            Some((name, value.unwrap_or_default()))
        })
    }

    /// Reads one value at the start of `input`; gives the rest, which is empty or the next value of the line.
    fn read(input: &'a [u8]) -> Option<(&'a [u8], AuthValue<'a>)> {
        let (start, scheme) = token(input).ok()?;
        let scheme = scan::text(scheme)?;
        let (start, _) = lws(start).ok()?;
        if let Some((length, rest)) = params_len(start) {
            let value = AuthValue {
                scheme,
                raw: trim(start.get(..length)?),
                has_params: length > 0,
            };
            return Some((rest, value));
        }
        // No parameters: what other schemes call token68 is kept as it is, to the end of the line.
        if scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let value = AuthValue {
            scheme,
            raw: start,
            has_params: false,
        };
        Some((&[], value))
    }
}

/// How long `name=value *( COMMA name=value )` is, and what follows: nothing, or the next value of the line. A token
/// that no equals sign follows is a scheme, since every parameter has a value. `None` where it is something else.
fn params_len(input: &[u8]) -> Option<(usize, &[u8])> {
    if input.first() == Some(&b',') {
        return Some((0, skip_commas(input)?));
    }
    let mut rest = input;
    while !rest.is_empty() {
        let (after, (_, value)) = param(rest).ok()?;
        // `dGVzdA==` is no parameter.
        value.filter(|value| !value.starts_with(b"="))?;
        let (after, _) = lws(after).ok()?;
        let length = input.len() - after.len();
        if after.is_empty() {
            return Some((length, after));
        }
        let next = skip_commas(after)?;
        if next.is_empty() || begins_value(next) {
            return Some((length, next));
        }
        rest = next;
    }
    Some((input.len() - rest.len(), rest))
}

/// `1*COMMA`: empty elements are skipped, as RFC 7235 has it.
fn skip_commas(input: &[u8]) -> Option<&[u8]> {
    let (mut rest, _) = separator(',')(input).ok()?;
    while let Ok((after, Some(_))) = opt(separator(',')).parse(rest) {
        rest = after;
    }
    Some(rest)
}

fn begins_value(input: &[u8]) -> bool {
    let Ok((rest, _)) = token(input) else {
        return false;
    };
    let Ok((after, space)) = lws(rest) else {
        return false;
    };
    match after.first() {
        None | Some(b',') => true,
        Some(next) => !space.is_empty() && *next != b'=',
    }
}

impl<'a> Headers<'a> {
    /// The challenges of WWW-Authenticate or Proxy-Authenticate, each line with one or several of them, in order.
    pub fn challenges(
        &self,
        name: &HeaderName,
    ) -> impl Iterator<Item = Result<AuthValue<'a>, HeaderError>> + use<'a> {
        self.auth_values(name)
    }

    /// The credentials of Authorization or Proxy-Authorization, in order.
    pub fn credentials(
        &self,
        name: &HeaderName,
    ) -> impl Iterator<Item = Result<AuthValue<'a>, HeaderError>> + use<'a> {
        self.auth_values(name)
    }

    fn auth_values(
        &self,
        name: &HeaderName,
    ) -> impl Iterator<Item = Result<AuthValue<'a>, HeaderError>> + use<'a> {
        let headers = *self;
        let name = name.clone();
        let mut lines = self.iter();
        let mut rest: &'a [u8] = &[];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                rest = lines.by_ref().find(|line| line.is(&name))?.value();
            }
            let Some((after, value)) = AuthValue::read(rest) else {
                let error = headers.error(name.clone(), "malformed", rest);
                rest = &[];
                return Some(Err(error));
            };
            rest = after;
            Some(Ok(value))
        })
    }
}
