//! A pace for log lines that strangers can cause.

use std::time::{Duration, Instant};

/// Lets some lines of a kind through and counts the others, so that nobody can fill a disk from afar.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the present period began.
    began: Option<Instant>,
    written: u32,
    held_back: u64,
}

impl Pace {
    /// Says whether a line may be written now: `None`, or how many were held back since the last one.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let over = |began: Instant| now.saturating_duration_since(began) >= PERIOD;
        if self.began.is_none_or(over) {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written >= LINES {
            self.held_back = self.held_back.saturating_add(1);
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.held_back))
    }
}

/// A line a second, of which a handful may come at once: what a person makes with a mistyped password is all there.
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_ten_lines_in_ten_seconds_and_tells_how_many_were_held_back() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let written = (0..1000)
            .filter_map(|n| pace.admit(at(n)))
            .collect::<Vec<_>>();
        assert_eq!(written, [0; 10]);
        assert_eq!(pace.admit(at(9_999)), None);
        assert_eq!(pace.admit(at(10_000)), Some(991));
        assert_eq!(pace.admit(at(10_001)), Some(0));
    }
}
