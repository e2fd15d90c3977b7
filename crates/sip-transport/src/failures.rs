//! Lookups that failed a moment ago, so that not everybody waits for a name server that is dead.

use crate::ResolveError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Remembers failed lookups until their time is over. Clones share what they remember.
///
/// RFC 2308 §7: a server that is dead or fails may be remembered as such, "no longer than five (5) minutes".
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures(Arc<Mutex<BTreeMap<String, Failure>>>);

#[derive(Debug, Clone)]
struct Failure {
    until: Instant,
    error: ResolveError,
}

impl Failures {
    /// What went wrong with the same question lately.
    pub(crate) fn recent(&self, now: Instant, question: &str) -> Option<ResolveError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = all.get(question)?;
        if failure.until > now {
            return Some(failure.error.clone());
        }
        all.remove(question);
        None
    }

    /// Remembers a failure. A full memory takes no more.
    pub(crate) fn remember(
        &self,
        now: Instant,
        question: String,
        error: ResolveError,
        time: Duration,
    ) {
        let Some(until) = now.checked_add(time) else {
            return;
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, failure| failure.until > now);
        }
        if all.len() < MOST {
            all.insert(question, Failure { until, error });
        }
    }
}

/// How long it is believed that nobody tells where a host is: those who write to it at once wait once, and a name server that
/// is back is found soon.
pub(crate) const NOBODY_KNOWS: Duration = Duration::from_secs(5);

/// Failures that are remembered: each of them took seconds, so that this many within a few are more than there can be but for
/// an attack.
const MOST: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(host: &str) -> ResolveError {
        ResolveError::Timeout(host.into())
    }

    #[test]
    fn a_failure_is_remembered_for_its_time_alone() {
        let failures = Failures::default();
        let now = Instant::now();
        failures.remember(now, "a".into(), error("a"), NOBODY_KNOWS);
        let soon = now + Duration::from_secs(4);
        assert_eq!(failures.recent(soon, "a"), Some(error("a")));
        assert_eq!(failures.clone().recent(soon, "b"), None);
        assert_eq!(failures.recent(now + NOBODY_KNOWS, "a"), None);
    }

    #[test]
    fn the_memory_keeps_within_its_cap_and_makes_room_for_what_is_new() {
        let failures = Failures::default();
        let now = Instant::now();
        for number in 0..2 * MOST {
            failures.remember(now, number.to_string(), error("x"), NOBODY_KNOWS);
        }
        assert_eq!(failures.0.lock().unwrap().len(), MOST);
        let later = now + NOBODY_KNOWS;
        failures.remember(later, "new".into(), error("new"), NOBODY_KNOWS);
        assert_eq!(failures.recent(later, "new"), Some(error("new")));
        assert_eq!(failures.0.lock().unwrap().len(), 1);
    }
}
