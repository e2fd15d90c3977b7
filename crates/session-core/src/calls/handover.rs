//! Calls that go on in another process: let go of here, and restored there.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::described::Described;
use super::heard::Heard;
use super::state::Said;
use super::{CallEvent, CallHandle, CallState};
use crate::outgoing::Outbound;
use crate::{Credentials, Result};

impl CallHandle {
    /// Gives the state of the call, for another process that is to go on with it should this one fail. What happens in the call
    /// afterwards is not in it: to hand the call over, [`detach`](Self::detach) it.
    ///
    /// # Errors
    ///
    /// As [`detach`](Self::detach).
    pub async fn export(&mut self) -> Result<CallState> {
        let call = self.call.export().await?;
        self.gather();
        let said = self.said();
        Ok(CallState { call, said })
    }

    /// Lets go of the call without a word to the peer, and gives its state, for
    /// [`SessionCoordinator::restore_call`](crate::SessionCoordinator::restore_call) in the process that takes the place of this one.
    /// Its last event is [`CallEnd::Detached`](crate::CallEnd::Detached); those before it that were not read yet still are. Dropped
    /// after this, the call goes on. What the peer sends in it gets no answer here for 64 × T1, so that copies of it find who goes
    /// on; while the coordinator shuts down, 503 if it is no BYE.
    ///
    /// It is a call that is up, with nothing under way: requests and changes of either side have their answers and ACKs, and no transfer is told of
    /// any more.
    ///
    /// ```no_run
    /// # async fn example(mut call: sipora_session_core::CallHandle) -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::{CallState, Error};
    /// use std::time::Duration;
    ///
    /// async fn hand_over(call: &mut sipora_session_core::CallHandle) -> Result<CallState, Error> {
    ///     for _ in 0..10 {
    ///         match call.detach().await {
    ///             Err(Error::NotNow { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
    ///             done => return done,
    ///         }
    ///     }
    ///     // The peer says nothing: whoever waits longer than this for it loses the other calls.
    ///     call.detach().await
    /// }
    /// # hand_over(&mut call).await?; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotNow`](crate::Error::NotNow) while something is under way, or before the call is up, and the call is as it was: a
    /// moment later it may be possible. [`Error::TooLate`](crate::Error::TooLate) where the call is over, or ends. A future that is
    /// dropped has left the call as it was, or has ended it.
    pub async fn detach(&mut self) -> Result<CallState> {
        let call = self.call.detach().await?;
        // From here on nothing is waited for: dropped, the call would be nobody's.
        self.gather();
        if let Some(mut reporter) = self.reporter.take() {
            reporter.has_succeeded();
        }
        let said = self.said();
        Ok(CallState { call, said })
    }

    /// Looks at the events that wait, so that what was said of the session is what they say.
    fn gather(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        while self.end.is_none() {
            let Poll::Ready(event) = self.call.poll_next(&mut context) else {
                return;
            };
            let event = self.sees(event);
            self.due.extend(event);
            if self.due.len() > MOST_DUE {
                // As there: provisional answers are given up first. The end is the last, and never is.
                let is_passing = |event: &CallEvent| matches!(event, CallEvent::Progress(_));
                let place = self.due.iter().position(is_passing);
                self.due.remove(place.unwrap_or(0));
            }
        }
    }

    fn said(&self) -> Said {
        let described = self.described();
        Said {
            ours: described.current(),
            version: described.version(),
            theirs: self.heard().current().map(Into::into),
        }
    }
}

/// Goes on with a call of another process'.
pub(crate) async fn restore(
    outbound: &Arc<Outbound>,
    state: CallState,
    credentials: Option<Credentials>,
) -> Result<CallHandle> {
    let CallState { call, said } = state;
    let is_incoming = !call.is_caller();
    let remote = call.remote_uri().into();
    let own = (!is_incoming).then(|| call.local_uri().into());
    let authorizer = match credentials {
        Some(own) => outbound.authorizer_for(Some(own)).0,
        None => outbound.authorizer.clone(),
    };
    let call = outbound.dialogs.restore_call(call, Some(authorizer));
    let restored = CallHandle::new(call.await?, is_incoming, outbound);
    Ok(CallHandle {
        local: own.unwrap_or(restored.local),
        remote,
        described: Mutex::new(Described::restored(said.ours, said.version)),
        heard: Mutex::new(Heard::restored(said.theirs)),
        ..restored
    })
}

/// Events that wait here, as many as dialog-core keeps.
const MOST_DUE: usize = 32;
