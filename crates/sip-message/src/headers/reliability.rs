//! RAck and RSeq: reliable provisional responses (RFC 3262 §7).

use std::fmt;

use nom::Parser;
use nom::sequence::separated_pair;

use super::Headers;
use super::address::Refused;
use crate::classes::{decimal, is_lws};
use crate::error::HeaderError;
use crate::grammar::token;
use crate::header_name::HeaderName;
use crate::method::Method;

/// The provisional response that a PRACK acknowledges.
///
/// ```
/// use sipora_message::{Method, RAck};
///
/// let rack = RAck { rseq: 776656, cseq: 1, method: Method::Invite };
/// assert_eq!(rack.to_string(), "776656 1 INVITE");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RAck {
    /// The number of its RSeq.
    pub rseq: u32,
    /// The number of its CSeq.
    pub cseq: u32,
    /// The method of its CSeq.
    pub method: Method,
}

impl RAck {
    fn read(value: &[u8]) -> Result<RAck, Refused<'_>> {
        let space = || nom::bytes::complete::take_while1(is_lws);
        let parsed = separated_pair(token, space(), separated_pair(token, space(), token));
        let Ok(([], (rseq, (cseq, method)))) = { parsed }.parse(value) else {
            return Err(("not two numbers and a method", value));
        };
        let number = |text| decimal(text).ok_or(("a number that is not below 2^32", text));
        Ok(RAck {
            rseq: number(rseq)?,
            cseq: number(cseq)?,
            method: Method::from_bytes(method).ok_or(("no method", method))?,
        })
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.rseq, self.cseq, self.method)
    }
}

impl<'a> Headers<'a> {
    /// The provisional response that is acknowledged.
    pub fn rack(&self) -> Result<Option<RAck>, HeaderError> {
        self.one(HeaderName::RAck, RAck::read)
    }

    /// The number of a reliable provisional response, "from 1 to 2**32 - 1".
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.one(HeaderName::RSeq, |value| {
            decimal(value)
                .filter(|number| *number > 0)
                .ok_or(("not a number from 1 to 2^32 - 1", value))
        })
    }
}
