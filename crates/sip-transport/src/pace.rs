//! Log lines that strangers cause, as many as they like: few are written.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one log line of a kind through in a period and counts the others.
#[derive(Debug)]
pub(crate) struct Pace {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Pace {
    pub(crate) fn new(period: Duration) -> Pace {
        Pace {
            period,
            state: Mutex::default(),
        }
    }

    /// Says whether a line may be written now: `None`, or how many were held back since the last one.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let early = |last: Instant| now.saturating_duration_since(last) < self.period;
        if state.last.is_some_and(early) {
            state.held_back = state.held_back.saturating_add(1);
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

/// A line a second. The counters tell the rest.
impl Default for Pace {
    fn default() -> Pace {
        Pace::new(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_a_line_a_period_and_tells_how_many_were_held_back() {
        let (start, period) = (Instant::now(), Duration::from_secs(1));
        let pace = Pace::new(period);
        assert_eq!(pace.admit(start), Some(0));
        let written = (1..1000).filter_map(|n| pace.admit(start + Duration::from_millis(n)));
        assert_eq!(written.count(), 0);
        assert_eq!(pace.admit(start + period), Some(999));
        assert_eq!(pace.admit(start + 2 * period), Some(0));
    }
}
