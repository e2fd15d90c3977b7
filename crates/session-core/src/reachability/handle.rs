//! [`ReachabilityHandle`]: what a caller holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sipora_message::{StatusCode, Uri};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::Error;
use crate::states::{Life, States};

/// Whether a target can be reached, as the newest answer says.
///
/// ```text
///              +---------+
///              | Unknown |
///              +---------+
///      an answer |     | none, or one that says that nobody is there
///                v     v
///   +-----------+       +-------------+
///   | Reachable | <---> | Unreachable |
///   +-----------+       +-------------+
///                |     |
///                v     v
///              +---------+
///              | Stopped |
///              +---------+
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reachability {
    /// The first answer is awaited.
    Unknown,
    /// It answered.
    Reachable {
        /// From the request to its answer: name resolution, connecting and a retry with credentials included.
        round_trip: Duration,
        /// What it answered.
        status: StatusCode,
    },
    /// No answer came, or one that says that nobody is there.
    Unreachable {
        /// Why: [`Error::Timeout`], [`Error::Transport`], [`Error::Rejected`] and the like.
        error: Arc<Error>,
    },
    /// The coordinator has ended; nothing is asked any more.
    Stopped,
}

/// Follows whether a target can be reached: see [`ReachabilityHandle::states`].
pub type ReachabilityStates = States<Reachability>;

impl Reachability {
    /// Tells whether the newest answer says that somebody is there.
    pub fn is_reachable(&self) -> bool {
        matches!(self, Reachability::Reachable { .. })
    }
}

impl Life for Reachability {
    fn is_last(&self) -> bool {
        matches!(self, Reachability::Stopped)
    }
}

/// Asks a target with OPTIONS again and again, and tells whether it answers. Over a NAT or a firewall that keeps it open, too.
///
/// # What counts
///
/// Any final answer says that the target is there, 404 and 401 as well (RFC 3261 §11), but for those that somebody on the way
/// gives in its place: 408, 430, 480, 502, 503 and 504. No answer within the builder's request timeout, a name that does not
/// resolve and a connection that is refused say that it is not.
///
/// # When
///
/// The first OPTIONS goes out at once. After an answer, the next follows the interval after the one before, up to a tenth
/// sooner, at random. After a failure it waits that long from the failure on, then twice, four times, and from then on eight
/// times as long, or as Retry-After says, up to an hour. [`probe`](Self::probe) asks now. One request is under way at a time.
///
/// Dropped, it stops: a request that is under way is forgotten.
#[must_use = "a target is asked as long as its handle lives"]
pub struct ReachabilityHandle {
    target: Uri,
    states: watch::Receiver<Reachability>,
    probe: Arc<Notify>,
    task: AbortHandle,
}

impl ReachabilityHandle {
    pub(super) fn new(
        target: Uri,
        states: watch::Receiver<Reachability>,
        probe: Arc<Notify>,
        task: AbortHandle,
    ) -> Self {
        Self {
            target,
            states,
            probe,
            task,
        }
    }

    /// Who is asked.
    pub fn target_uri(&self) -> &str {
        self.target.as_str()
    }

    /// What the newest answer says.
    pub fn state(&self) -> Reachability {
        self.states.borrow().clone()
    }

    /// Follows what the answers say, beginning with the present state; each answer is a state, of which a slow reader sees
    /// the newest. Many readers may follow.
    pub fn states(&self) -> ReachabilityStates {
        States::new(self.states.clone())
    }

    /// Asks now, or once more after the request that is under way: the network may have changed.
    pub fn probe(&self) {
        self.probe.notify_one();
    }
}

impl Drop for ReachabilityHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for ReachabilityHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReachabilityHandle")
            .field("target", &self.target)
            .field("state", &*self.states.borrow())
            .finish_non_exhaustive()
    }
}
