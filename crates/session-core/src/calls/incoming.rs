//! [`IncomingCalls`]: the calls that others make.

use super::CallHandle;

/// Gives the calls that come in, one after the other:
/// [`build_with_calls`](crate::SessionManagerBuilder::build_with_calls) makes it.
///
/// 256 wait to be taken; the next gets 503. Dropped, every call that comes, and every one that waits, gets 480 (Temporarily
/// Unavailable): so does an application that only calls others.
#[derive(Debug)]
#[must_use = "dropped, every call is refused"]
pub struct IncomingCalls {
    calls: sipora_dialog_core::IncomingCalls,
}

impl IncomingCalls {
    pub(crate) fn new(calls: sipora_dialog_core::IncomingCalls) -> Self {
        Self { calls }
    }

    /// Waits for the next call; `None` when the coordinator was shut down. Nothing is lost when the future is dropped.
    ///
    /// The caller has heard 100 and nothing else: [`ring`](CallHandle::ring) is the application's. It may have been cancelled
    /// by now.
    pub async fn next(&mut self) -> Option<CallHandle> {
        let call = self.calls.next().await?;
        Some(CallHandle::incoming(call))
    }
}
