//! [`IncomingCalls`]: the calls that others make.

use std::fmt;
use std::sync::Arc;

use super::CallHandle;
use crate::outgoing::Outbound;

/// Gives the calls that come in, one after the other:
/// [`build_with_calls`](crate::SessionManagerBuilder::build_with_calls) makes it.
///
/// 256 wait to be taken; the next gets 503. Dropped, every call that comes, and every one that waits, gets 480 (Temporarily
/// Unavailable): so does an application that only calls others.
#[must_use = "dropped, every call is refused"]
pub struct IncomingCalls {
    calls: sipora_dialog_core::IncomingCalls,
    outbound: Arc<Outbound>,
}

impl IncomingCalls {
    pub(crate) fn new(calls: sipora_dialog_core::IncomingCalls, outbound: Arc<Outbound>) -> Self {
        Self { calls, outbound }
    }

    /// Waits for the next call; `None` when the coordinator was shut down. Nothing is lost when the future is dropped.
    ///
    /// The caller has heard 100 and nothing else: [`ring`](CallHandle::ring) is the application's. It may have been cancelled
    /// by now.
    pub async fn next(&mut self) -> Option<CallHandle> {
        let call = self.calls.next().await?;
        Some(CallHandle::incoming(call, &self.outbound))
    }
}

impl fmt::Debug for IncomingCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingCalls").finish_non_exhaustive()
    }
}
