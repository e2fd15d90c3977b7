//! What the relay counts.

use std::sync::atomic::{AtomicU64, Ordering};

use sipora_message::StatusCode;

/// Holds what the relay has counted so far. All but `pending` only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RelayMetrics {
    /// MESSAGE and OPTIONS requests to users, retransmissions not counted.
    pub requests: u64,
    /// Copies sent to contacts.
    pub branches: u64,
    /// Contacts that were passed over: the connection that they registered over has ended, and it is for them to open another.
    pub unreachable: u64,
    /// Answers of contacts that went back.
    pub answers: u64,
    /// Challenges: 407 to requests without credentials, or with a nonce that is too old.
    pub challenges: u64,
    /// Credentials that were wrong: 407 again.
    pub wrong_credentials: u64,
    /// Refused with 403: a From that is not the sender's, or a Route to elsewhere.
    pub forbidden: u64,
    /// Refused with 404: no such user.
    pub not_found: u64,
    /// Answered 480: nothing bound, nothing that can be reached, or nobody answered in time. Or 430, where flows alone lead to
    /// a contact and they have ended.
    pub unavailable: u64,
    /// Refused with 482 or 483.
    pub loops: u64,
    /// Refused with 503: too many requests are being relayed, or wait for a store.
    pub overloaded: u64,
    /// Those among them whose sender has its share of the room.
    pub over_share: u64,
    /// Refused with any other status.
    pub other_refusals: u64,
    /// Requests that wait for contacts now.
    pub pending: u64,
}

#[derive(Debug, Default)]
pub(crate) struct RelayCounters {
    pub(crate) requests: AtomicU64,
    pub(crate) branches: AtomicU64,
    pub(crate) answers: AtomicU64,
    pub(crate) unreachable: AtomicU64,
    pub(crate) challenges: AtomicU64,
    pub(crate) wrong_credentials: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) over_share: AtomicU64,
    forbidden: AtomicU64,
    not_found: AtomicU64,
    unavailable: AtomicU64,
    loops: AtomicU64,
    overloaded: AtomicU64,
    other_refusals: AtomicU64,
}

impl RelayCounters {
    pub(crate) fn refused(&self, status: StatusCode) {
        let counter = match status {
            StatusCode::FORBIDDEN => &self.forbidden,
            StatusCode::NOT_FOUND => &self.not_found,
            StatusCode::TEMPORARILY_UNAVAILABLE => &self.unavailable,
            _ if status.as_u16() == 430 => &self.unavailable,
            StatusCode::LOOP_DETECTED | StatusCode::TOO_MANY_HOPS => &self.loops,
            StatusCode::SERVICE_UNAVAILABLE => &self.overloaded,
            _ => &self.other_refusals,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> RelayMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayMetrics {
            requests: read(&self.requests),
            branches: read(&self.branches),
            unreachable: read(&self.unreachable),
            answers: read(&self.answers),
            challenges: read(&self.challenges),
            wrong_credentials: read(&self.wrong_credentials),
            forbidden: read(&self.forbidden),
            not_found: read(&self.not_found),
            unavailable: read(&self.unavailable),
            loops: read(&self.loops),
            overloaded: read(&self.overloaded),
            over_share: read(&self.over_share),
            other_refusals: read(&self.other_refusals),
            pending: read(&self.pending),
        }
    }
}
