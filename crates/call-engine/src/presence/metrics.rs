//! What the presence agent counts.

use std::sync::atomic::{AtomicU64, Ordering};

use sipora_message::StatusCode;

use crate::metrics::count;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Holds what the presence agent has counted so far. All but `subscriptions`, `publications` and
        /// `publication_bytes` only grow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct PresenceMetrics { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct PresenceCounters { $(pub(crate) $name: AtomicU64,)* }

        impl PresenceCounters {
            pub(crate) fn snapshot(&self) -> PresenceMetrics {
                PresenceMetrics { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Subscriptions now.
    subscriptions,
    /// Publications now.
    publications,
    /// Bytes of the documents that are published now, as they were sent or as they are passed on, whichever is more.
    publication_bytes,
    /// SUBSCRIBE requests, retransmissions not counted.
    subscribes,
    /// PUBLISH requests, retransmissions not counted.
    publishes,
    /// NOTIFY requests sent.
    notifies,
    /// NOTIFY requests that were refused or not answered; most of them end their subscription.
    notifies_failed,
    /// Challenges: 401 to requests without credentials, or with a nonce that is too old.
    challenges,
    /// Credentials that were wrong: 401 again.
    wrong_credentials,
    /// Refused with 400, 406, 413, 415, 416 or 420.
    bad_requests,
    /// Refused with 403: somebody else's address, a watcher who may not watch.
    forbidden,
    /// Refused with 404: no such user.
    not_found,
    /// Refused with 412: what was to be refreshed, modified or removed is not published.
    precondition_failed,
    /// Refused with 423: an expiry below the minimum.
    too_brief,
    /// Refused with 481: no such subscription.
    unknown_subscriptions,
    /// Refused with 489: another event than presence.
    bad_events,
    /// Refused with 503: a limit is reached, or too many requests wait for a store.
    over_limit,
    /// Refused with any other status.
    other_refusals,
}

impl PresenceCounters {
    pub(super) fn refused(&self, status: StatusCode) {
        count(match status.as_u16() {
            400 | 406 | 413 | 415 | 416 | 420 => &self.bad_requests,
            403 => &self.forbidden,
            404 => &self.not_found,
            412 => &self.precondition_failed,
            423 => &self.too_brief,
            481 => &self.unknown_subscriptions,
            489 => &self.bad_events,
            503 => &self.over_limit,
            _ => &self.other_refusals,
        });
    }

    pub(super) fn set(&self, gauge: &AtomicU64, number: usize) {
        gauge.store(number as u64, Ordering::Relaxed);
    }
}
