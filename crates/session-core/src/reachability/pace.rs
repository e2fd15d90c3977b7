//! When to ask again: arithmetic without a clock.

use std::time::Duration;

use crate::registration::Jitter;

/// The wait between two requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    interval: Duration,
    /// Requests in a row that nobody answered.
    failures: u32,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            failures: 0,
        }
    }

    /// After an answer: the interval, up to a tenth less, so that what began together does not ask together.
    pub(super) fn after_answer(&mut self, jitter: Jitter) -> Duration {
        self.failures = 0;
        jitter.between(self.interval / 10 * 9, self.interval)
    }

    /// After a failure: the interval, then twice, four times and eight times as much, up to a tenth less; no less than
    /// Retry-After asks for, up to an hour.
    pub(super) fn after_failure(&mut self, asked: Option<Duration>, jitter: Jitter) -> Duration {
        let wait = self.interval * (1 << self.failures.min(MOST_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        let asked = asked.unwrap_or_default().min(MOST_ASKED);
        jitter.between(wait / 10 * 9, wait).max(asked)
    }
}

const MOST_DOUBLINGS: u32 = 3;

const MOST_ASKED: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_and_an_answer_ends_that() {
        let mut pace = Pace::new(Duration::from_secs(30));
        let latest = Jitter::new(1000);
        let waits: Vec<u64> = (0..6)
            .map(|_| pace.after_failure(None, latest).as_secs())
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 240, 240]);
        assert_eq!(pace.after_answer(latest).as_secs(), 30);
        let earliest = Jitter::new(0);
        assert_eq!(pace.after_answer(earliest).as_secs(), 27);
        assert_eq!(pace.after_failure(None, earliest).as_secs(), 27);
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        let wait = |seconds| {
            let asked = Some(Duration::from_secs(seconds));
            let mut pace = Pace::new(Duration::from_secs(30));
            pace.after_failure(asked, Jitter::new(1000)).as_secs()
        };
        assert_eq!((wait(5), wait(100), wait(u64::MAX)), (30, 100, 3600));
    }
}
