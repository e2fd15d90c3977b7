//! Moments, and the clock that tells them.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A moment, in milliseconds since the first that the clock was told, modulo 2^32. Two of them compare rightly as long as
/// they are less than 24 days apart, and no wait is longer than [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick(pub(super) NonZeroU32);

impl Tick {
    fn of(millis: u64) -> Self {
        // Zero stands for none; once in 49 days an alarm is a millisecond late.
        Self(NonZeroU32::new(millis as u32).unwrap_or(NonZeroU32::MIN))
    }

    fn since(self, other: Self) -> i32 {
        self.0.get().wrapping_sub(other.0.get()) as i32
    }

    /// Says whether the moment has come.
    pub(crate) fn is_due(self, now: Self) -> bool {
        now.since(self) >= 0
    }
}

/// Returns the earlier of two moments that may be none.
pub(crate) fn earlier(one: Option<Tick>, other: Option<Tick>) -> Option<Tick> {
    match (one, other) {
        (Some(one), Some(other)) if one.is_due(other) => Some(one),
        (Some(_), Some(other)) => Some(other),
        (one, other) => one.or(other),
    }
}

/// Tells moments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    start: Option<Instant>,
}

impl Clock {
    /// The millisecond that an instant lies in.
    pub(crate) fn now(&mut self, instant: Instant) -> Tick {
        Tick::of(self.millis(instant))
    }

    /// The first millisecond that begins when `wait` is over.
    pub(crate) fn after(&mut self, instant: Instant, wait: Duration) -> Tick {
        let start = *self.start.get_or_insert(instant);
        let end = instant.saturating_duration_since(start) + wait.min(LONGEST);
        let whole = millis(end);
        let begun = u64::from(!end.subsec_nanos().is_multiple_of(1_000_000));
        Tick::of(FIRST + whole + begun)
    }

    pub(super) fn millis(&mut self, instant: Instant) -> u64 {
        let start = *self.start.get_or_insert(instant);
        FIRST + millis(instant.saturating_duration_since(start))
    }

    pub(super) fn instant(&self, millis: u64) -> Option<Instant> {
        self.start?
            .checked_add(Duration::from_millis(millis.saturating_sub(FIRST)))
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

/// What the clock calls its first millisecond.
const FIRST: u64 = 1;

/// The longest wait: twelve days, half of what two ticks may be apart.
const LONGEST: Duration = Duration::from_secs(12 * 24 * 3600);
