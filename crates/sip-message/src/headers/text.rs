//! For people: Subject, Organization, Priority, Timestamp (RFC 3261 §20.25, §20.26, §20.36, §20.38).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::Headers;
use super::address::Refused;
use crate::classes::{decimal, is_lws, trim};
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::scan;

/// How urgent a request is to its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority<'a> {
    /// `emergency`: life, limb or property are in danger.
    Emergency,
    /// `urgent`.
    Urgent,
    /// `normal`, also where there is no Priority.
    Normal,
    /// `non-urgent`.
    NonUrgent,
    /// Any other word.
    Other(&'a str),
}

/// When a request was sent by its sender's own clock, which a 100 gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp<'a> {
    /// The time as written, in seconds of no particular clock.
    pub time: &'a str,
    /// How long the server took to answer.
    pub delay: Option<Duration>,
}

impl<'a> Priority<'a> {
    /// The word.
    pub fn as_str(&self) -> &'a str {
        match self {
            Priority::Emergency => "emergency",
            Priority::Urgent => "urgent",
            Priority::Normal => "normal",
            Priority::NonUrgent => "non-urgent",
            Priority::Other(word) => word,
        }
    }

    fn read(word: &'a str) -> Priority<'a> {
        [
            Priority::Emergency,
            Priority::Urgent,
            Priority::Normal,
            Priority::NonUrgent,
        ]
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(word))
        .unwrap_or(Priority::Other(word))
    }
}

impl fmt::Display for Priority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> Timestamp<'a> {
    /// `1*DIGIT [ "." *DIGIT ] [ LWS delay ]`
    fn read(value: &'a [u8]) -> Result<Timestamp<'a>, Refused<'a>> {
        let length = scan::count_while(value, |byte| !is_lws(*byte));
        let (time, delay) = value.split_at_checked(length).unwrap_or((value, &[]));
        let delay = trim(delay);
        let is_time = |text: &[u8]| {
            let whole = scan::count_while(text, u8::is_ascii_digit);
            let rest = text.get(whole..).unwrap_or_default();
            let decimals = rest.strip_prefix(b".").unwrap_or(rest);
            scan::count_while(decimals, u8::is_ascii_digit) == decimals.len()
        };
        if !time.first().is_some_and(u8::is_ascii_digit) || !is_time(time) || !is_time(delay) {
            return Err(("not a number of seconds", value));
        }
        Ok(Timestamp {
            time: scan::text(time).unwrap_or(""),
            delay: if delay.is_empty() {
                None
            } else {
                Some(duration(delay).ok_or(("a delay past 2^32 seconds", delay))?)
            },
        })
    }
}

impl fmt::Display for Timestamp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.time)?;
        match self.delay {
            None => Ok(()),
            Some(delay) => write!(f, " {}.{:09}", delay.as_secs(), delay.subsec_nanos()),
        }
    }
}

impl<'a> Headers<'a> {
    /// What the call is about.
    pub fn subject(&self) -> Option<Cow<'a, str>> {
        self.text(&HeaderName::Subject)
    }

    /// The organization of the sender.
    pub fn organization(&self) -> Option<Cow<'a, str>> {
        self.text(&HeaderName::Organization)
    }

    /// How urgent the request is.
    pub fn priority(&self) -> Result<Option<Priority<'a>>, HeaderError> {
        Ok(self.one_token(HeaderName::Priority)?.map(Priority::read))
    }

    /// When the request was sent.
    pub fn timestamp(&self) -> Result<Option<Timestamp<'a>>, HeaderError> {
        self.one(HeaderName::Timestamp, Timestamp::read)
    }
}

/// Digits past nanoseconds are dropped.
fn duration(text: &[u8]) -> Option<Duration> {
    let dot = scan::find(b'.', text).unwrap_or(text.len());
    let whole = text.get(..dot)?;
    let seconds = if whole.is_empty() { 0 } else { decimal(whole)? };
    let mut nanos = 0;
    let mut scale = 100_000_000;
    for digit in text.get(dot + 1..).unwrap_or_default().iter().take(9) {
        nanos += u32::from(digit.wrapping_sub(b'0')) * scale;
        scale /= 10;
    }
    Some(Duration::new(u64::from(seconds), nanos))
}
