//! Peers that said that they send keep-alives, and do not.

use super::{Activity, Link};
use crate::CloseReason;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long the peer of a connection may be silent.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// Milliseconds; zero for as long as it likes.
    longest: AtomicU64,
    changed: Notify,
}

impl Silence {
    pub(crate) fn set(&self, longest: Option<Duration>) {
        let longest = longest.map_or(0, |longest| {
            u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)
        });
        if self.longest.swap(longest, Ordering::Relaxed) != longest {
            self.changed.notify_one();
        }
    }

    fn longest(&self) -> Option<Duration> {
        let longest = self.longest.load(Ordering::Relaxed);
        (longest > 0).then(|| Duration::from_millis(longest))
    }
}

impl Link<'_> {
    /// Waits until nothing has come for longer than that.
    pub(super) async fn silence(&self, activity: &Activity) -> CloseReason {
        let silence = &self.connection.silence;
        loop {
            let longest = silence.longest();
            let deadline = longest.and_then(|longest| activity.last_read().checked_add(longest));
            let Some(deadline) = deadline else {
                silence.changed.notified().await;
                continue;
            };
            if deadline <= Instant::now() {
                return CloseReason::Silent;
            }
            tokio::select! {
                // Something may have come meanwhile.
                () = sleep_until(deadline) => {}
                () = silence.changed.notified() => {}
            }
        }
    }
}
