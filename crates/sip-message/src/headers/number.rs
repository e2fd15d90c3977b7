//! Header fields that are a number: Max-Forwards, Expires, Min-Expires, Retry-After (RFC 3261 §20.19 to §20.33),
//! Flow-Timer (RFC 5626 §5.4).

use std::borrow::Cow;

use super::Headers;
use crate::classes::decimal;
use crate::error::HeaderError;
use crate::grammar::{self, lws};
use crate::header_name::HeaderName;
use crate::params::Params;
use crate::scan;

/// When to try again (RFC 3261 §20.33).
#[derive(Debug, Clone, Copy)]
pub struct RetryAfter<'a> {
    /// Seconds from now.
    pub seconds: u32,
    comment: Option<&'a [u8]>,
    params: Params<'a>,
}

impl<'a> RetryAfter<'a> {
    /// The comment, without its brackets.
    pub fn comment(&self) -> Option<Cow<'a, str>> {
        self.comment.map(super::text)
    }

    /// The parameters.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// For how many seconds the called party will be there (`duration`).
    pub fn duration(&self) -> Option<u32> {
        decimal(self.params.token("duration")?.as_bytes())
    }
}

impl<'a> Headers<'a> {
    /// How many hops are left (RFC 3261 §20.22), 0 to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        if let Some(hops) = self.facts().max_forwards() {
            return Ok(Some(hops));
        }
        let Some(value) = self.single(HeaderName::MaxForwards)? else {
            return Ok(None);
        };
        match decimal(value).and_then(|number| u8::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.error(HeaderName::MaxForwards, "not 0 to 255", value)),
        }
    }

    /// Expires in seconds (RFC 3261 §20.19). A registrar takes a malformed one for 3600 (§10.2).
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.seconds(HeaderName::Expires)
    }

    /// The shortest time that the registrar grants (RFC 3261 §20.23).
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.seconds(HeaderName::MinExpires)
    }

    /// When to try again. Numbers past 32 bits are an error: no legal range is defined (RFC 4475 §3.1.2.5).
    pub fn retry_after(&self) -> Result<Option<RetryAfter<'a>>, HeaderError> {
        let Some(value) = self.single(HeaderName::RetryAfter)? else {
            return Ok(None);
        };
        let refused = |at: &[u8]| self.error(HeaderName::RetryAfter, "not a number of seconds", at);
        let digits = scan::count_while(value, u8::is_ascii_digit);
        let (number, rest) = value
            .split_at_checked(digits)
            .ok_or_else(|| refused(value))?;
        let seconds = decimal(number).ok_or_else(|| refused(value))?;
        let (rest, comment) = comment(rest).ok_or_else(|| refused(rest))?;
        let (rest, params) = grammar::params(rest).map_err(|_| refused(rest))?;
        if !rest.is_empty() {
            return Err(refused(rest));
        }
        Ok(Some(RetryAfter {
            seconds,
            comment,
            params: Params::new(params),
        }))
    }

    /// After how many seconds without a keep-alive the edge takes the flow for dead (RFC 5626 §5.4).
    pub fn flow_timer(&self) -> Result<Option<u32>, HeaderError> {
        self.seconds(HeaderName::FlowTimer)
    }

    fn seconds(&self, name: HeaderName) -> Result<Option<u32>, HeaderError> {
        let Some(value) = self.single(name.clone())? else {
            return Ok(None);
        };
        match decimal(value) {
            Some(number) => Ok(Some(number)),
            None => Err(self.error(name, "not a number of seconds below 2^32", value)),
        }
    }
}

/// `[ comment ]`: brackets nest, a backslash escapes. Gives the rest and what is inside.
fn comment(input: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (start, _) = lws(input).ok()?;
    if start.first() != Some(&b'(') {
        return Some((start, None));
    }
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        match start.get(at)? {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some((start.get(at..)?, start.get(1..at - 1)));
        }
    }
}
