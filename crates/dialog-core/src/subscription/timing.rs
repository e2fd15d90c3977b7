//! When to refresh, and when to try again: arithmetic without a clock.

use std::time::{Duration, Instant};

/// When to refresh what was granted for `seconds`, counted from the request: half-way when that is below 120 s, else 60 s
/// or a tenth before the end, whichever is earlier. `jitter`, in thousandths, takes up to a tenth off, so that what began
/// together is not refreshed together; a refresh never comes after the end.
pub fn refresh_after(seconds: u32, jitter: u16) -> Duration {
    let granted = Duration::from_secs(seconds.into());
    let latest = if seconds < 120 {
        granted / 2
    } else {
        (granted - Duration::from_secs(60)).min(granted / 10 * 9)
    };
    latest - latest / 10_000 * u32::from(jitter.min(1000))
}

/// How long to wait after a number of failures in a row: 30 s, doubled with each up to half an hour, no less than the peer
/// asked for, up to a day.
pub(super) fn retry_after(failures: u32, asked: Option<u32>) -> Duration {
    let wait = Duration::from_secs(30 << failures.saturating_sub(1).min(6));
    let asked = Duration::from_secs(asked.unwrap_or_default().min(86_400).into());
    wait.min(Duration::from_secs(1800)).max(asked)
}

/// Adds nothing where the sum would overflow.
pub(super) fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or(from)
}

/// The whole seconds that are left, rounded up: what lasts half a second more is not over.
pub(super) fn seconds_left(until: Instant, now: Instant) -> u32 {
    let left = until.saturating_duration_since(now);
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_comes_before_the_end() {
        for seconds in (1..=200).chain([599, 600, 601, 3600, u32::MAX]) {
            let end = Duration::from_secs(seconds.into());
            let (early, late) = (refresh_after(seconds, 1000), refresh_after(seconds, 0));
            assert!(early <= late && late < end, "{seconds}: {early:?} {late:?}");
            assert!(early >= end * 4 / 10, "{seconds}: {early:?} is too eager");
        }
        assert_eq!(refresh_after(3600, 0), Duration::from_secs(3240));
    }

    #[test]
    fn waits_double_and_obey_the_peer() {
        let seconds = |failures, asked| retry_after(failures, asked).as_secs();
        assert_eq!(
            (seconds(1, None), seconds(2, None), seconds(99, None)),
            (30, 60, 1800)
        );
        assert_eq!(
            (
                seconds(1, Some(5)),
                seconds(1, Some(500)),
                seconds(1, Some(u32::MAX))
            ),
            (30, 500, 86_400)
        );
    }
}
