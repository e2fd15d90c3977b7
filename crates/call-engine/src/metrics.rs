//! Counters.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Holds what the registrar has counted so far; the numbers only grow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct RegistrarMetrics { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> RegistrarMetrics {
                RegistrarMetrics { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// REGISTER requests, retransmissions not counted.
    registers,
    /// Those answered 200 that changed bindings.
    updates,
    /// Those answered 200 that asked for bindings alone.
    queries,
    /// Challenges: 401 to requests without credentials, or with a nonce that is too old.
    challenges,
    /// Credentials that were wrong: 401 again.
    wrong_credentials,
    /// Refused with 400: malformed contacts, credentials or `*`.
    bad_requests,
    /// Refused with 403: somebody else's address, or too many contacts.
    forbidden,
    /// Refused with 404: a domain that is not served here.
    not_found,
    /// Refused with 420: an extension that is not supported here.
    bad_extensions,
    /// Refused with 423: an expiry below the minimum.
    too_brief,
    /// Refused with 500 because the CSeq was not higher than the last one.
    out_of_order,
    /// Refused with 500 because a store failed.
    store_failures,
    /// Refused with 503: the location store is full, or too many requests wait for a store.
    overloaded,
    /// Bindings added.
    bindings_added,
    /// Bindings removed by requests.
    bindings_removed,
    /// Bindings that expired and were swept.
    bindings_expired,
    /// OPTIONS requests.
    options,
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts some.
pub(crate) fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(number as u64, Ordering::Relaxed);
}
