//! The engine's clock.

use std::time::Instant;

use sipora_transport::Now;

use crate::Timestamp;

/// Tells the time of bindings: the wall time at the start, and from there on the monotonic clock.
///
/// So a wall clock that is set anew neither ends a binding before its time nor keeps it beyond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Timestamp,
    origin: Instant,
}

impl Clock {
    pub(crate) fn starting(now: Now) -> Self {
        Self {
            start: Timestamp::from(now.wall),
            origin: now.instant,
        }
    }

    pub(crate) fn timestamp(&self, now: Now) -> Timestamp {
        self.start
            .after(now.instant.saturating_duration_since(self.origin))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_moves_nothing() {
        let start = Now::from_system();
        let clock = Clock::starting(start);
        let later = Now {
            instant: start.instant + Duration::from_secs(10),
            wall: start.wall + Duration::from_secs(100_000),
        };
        let passed = clock.timestamp(start).until(clock.timestamp(later));
        assert_eq!(passed, Duration::from_secs(10));
    }
}
