//! What calls count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Holds counts of the calls of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CallMetrics {
    /// Calls there are now, those that ring included.
    pub calls: u64,
    /// REFERs outside of calls there are now that are told of, ours and the peers'.
    pub refers_outside: u64,
    /// Requests of calls there are now: in flight, and INVITEs whose 2xx might come once more.
    pub exchanges: u64,
    /// Calls that were begun, by either side, or [restored](crate::UnifiedDialogApi::restore_call).
    pub begun: u64,
    /// Calls that have ended, or were [let go of](crate::Call::detach).
    pub ended: u64,
    /// Calls that were refused for lack of room: among all, or among those that wait to be taken.
    pub refused_for_lack_of_room: u64,
    /// Further 2xx to a forked INVITE, which were acknowledged and ended with BYE.
    pub forks_ended: u64,
    /// INFO and MESSAGE that were refused since the application had not read those before.
    pub messages_refused: u64,
}

impl CallMetrics {
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.refers_outside += other.refers_outside;
        self.exchanges += other.exchanges;
        self.begun += other.begun;
        self.ended += other.ended;
        self.refused_for_lack_of_room += other.refused_for_lack_of_room;
        self.forks_ended += other.forks_ended;
        self.messages_refused += other.messages_refused;
    }
}

/// Shows metrics to other tasks.
#[derive(Debug, Default)]
pub(super) struct Published {
    counts: [AtomicU64; 8],
}

impl Published {
    pub(super) fn store(&self, metrics: &CallMetrics) {
        let values = [
            metrics.calls,
            metrics.refers_outside,
            metrics.exchanges,
            metrics.begun,
            metrics.ended,
            metrics.refused_for_lack_of_room,
            metrics.forks_ended,
            metrics.messages_refused,
        ];
        for (count, value) in self.counts.iter().zip(values) {
            count.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn load(&self) -> CallMetrics {
        let [
            calls,
            refers_outside,
            exchanges,
            begun,
            ended,
            refused_for_lack_of_room,
            forks_ended,
            messages_refused,
        ] = self
            .counts
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        CallMetrics {
            calls,
            refers_outside,
            exchanges,
            begun,
            ended,
            refused_for_lack_of_room,
            forks_ended,
            messages_refused,
        }
    }
}
