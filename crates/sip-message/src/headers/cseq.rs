//! CSeq (RFC 3261 §20.16).

use std::fmt;

use super::Headers;
use crate::classes::{decimal, leading_decimal};
use crate::error::HeaderError;
use crate::grammar::{lws, token};
use crate::header_name::HeaderName;
use crate::method::Method;

/// The place of a request in its sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CSeq {
    /// The number. Senders keep it below 2^31 (RFC 3261 §8.1.1.5); any 32-bit number is read.
    pub number: u32,
    /// The method of the request.
    pub method: Method,
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

impl<'a> Headers<'a> {
    /// The sequence number and method.
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        if let Some(fact) = self.facts().cseq()
            && let Some(method) = fact.method()
        {
            let number = fact.number;
            return Ok(CSeq { number, method });
        }
        let value = self.required(&HeaderName::CSeq)?;
        let (number, method) = self.cseq_parts(value)?;
        let number = decimal(number).ok_or_else(|| {
            self.error(HeaderName::CSeq, "a number that is not below 2^32", value)
        })?;
        match Method::from_bytes(method) {
            Some(method) => Ok(CSeq { number, method }),
            None => Err(self.error(HeaderName::CSeq, "no method", value)),
        }
    }

    fn cseq_parts(&self, value: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), HeaderError> {
        let refused = || self.error(HeaderName::CSeq, "not a number and a method", value);
        let (rest, number) = token(value).map_err(|_| refused())?;
        let (rest, space) = lws(rest).map_err(|_| refused())?;
        let (rest, method) = token(rest).map_err(|_| refused())?;
        if space.is_empty() || !rest.is_empty() {
            return Err(refused());
        }
        Ok((number, method))
    }
}

/// How everybody writes it: digits, one space, a method that is known, here by its place in [`Method::KNOWN`].
#[inline]
pub(crate) fn plain(value: &[u8]) -> Option<(u32, u8)> {
    let (digits, number) = leading_decimal(value);
    let [b' ', method @ ..] = value.get(digits..)? else {
        return None;
    };
    Some((number?, Method::known(method)?.place()?))
}
