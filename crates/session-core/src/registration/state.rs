//! What a registration is doing, as a value and as a stream of values.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::watch;

use crate::Error;

/// Tells what a registration is doing. Durations count from the moment at which the state was entered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RegistrationState {
    /// The contact is bound.
    Registered {
        /// For how many seconds, as granted last.
        expires: u32,
        /// When it will be refreshed.
        refresh_in: Duration,
    },
    /// A REGISTER for the contact is under way.
    Refreshing {
        /// How long the contact stays bound without it; zero when it is not bound any more.
        expires_in: Duration,
    },
    /// The last REGISTER failed for a reason that may pass; it will be sent again.
    Retrying {
        /// The failure.
        error: Arc<Error>,
        /// When it will be sent again.
        retry_in: Duration,
        /// How long the contact stays bound without it; zero when it is not bound any more.
        expires_in: Duration,
    },
    /// The connection over which the registrar reaches us ended, and its requests with it; or the way over UDP did. A REGISTER over a new one follows,
    /// within a second; connections that end soon after each other are replaced with the waits of
    /// [`Retrying`](Self::Retrying).
    FlowLost {
        /// When it will be sent.
        retry_in: Duration,
        /// How long the contact stays bound without it.
        expires_in: Duration,
    },
    /// The registrar refused for good; nothing is sent any more. The binding, if one is left, expires by itself.
    Failed(Arc<Error>),
    /// The contact was removed at the caller's wish, or registered with an expiry of zero.
    Unregistered,
    /// The handle was dropped or the coordinator shut down; the binding expires by itself.
    Stopped,
}

impl RegistrationState {
    /// Tells whether the registration has ended: nothing is sent any more, and no other state follows.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            RegistrationState::Failed(_)
                | RegistrationState::Unregistered
                | RegistrationState::Stopped
        )
    }
}

/// Prints a state in a few words, for people.
impl fmt::Display for RegistrationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistrationState::Registered {
                expires,
                refresh_in,
            } => {
                write!(
                    f,
                    "registered for {expires} s, refresh in {} s",
                    refresh_in.as_secs()
                )
            }
            RegistrationState::Refreshing { .. } => f.write_str("refreshing"),
            RegistrationState::Retrying {
                error,
                retry_in,
                expires_in,
            } => {
                let bound = if expires_in.is_zero() {
                    "not bound"
                } else {
                    "still bound"
                };
                write!(f, "{bound}, next try in {} s: {error}", retry_in.as_secs())
            }
            RegistrationState::FlowLost { retry_in, .. } => {
                // Less than a second is "at once".
                match retry_in.as_secs() {
                    0 => f.write_str("connection lost, registering again"),
                    seconds => write!(f, "connection lost, registering again in {seconds} s"),
                }
            }
            RegistrationState::Failed(error) => write!(f, "failed: {error}"),
            RegistrationState::Unregistered => f.write_str("unregistered"),
            RegistrationState::Stopped => f.write_str("stopped"),
        }
    }
}

/// Follows the states of a registration.
///
/// It begins with the present state. A slow reader misses states in between, never the newest; the last is a
/// [terminal](RegistrationState::is_terminal) one, and after it comes `None`.
pub struct RegistrationStates {
    receiver: Option<watch::Receiver<RegistrationState>>,
    seen: bool,
    change: Option<Change>,
}

type Change = Pin<Box<dyn Future<Output = (bool, watch::Receiver<RegistrationState>)> + Send>>;

impl RegistrationStates {
    pub(crate) fn new(receiver: watch::Receiver<RegistrationState>) -> Self {
        Self {
            receiver: Some(receiver),
            seen: false,
            change: None,
        }
    }

    /// Waits for the next state. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<RegistrationState> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn newest(&mut self, mut receiver: watch::Receiver<RegistrationState>) -> RegistrationState {
        let state = receiver.borrow_and_update().clone();
        self.seen = true;
        self.receiver = (!state.is_terminal()).then_some(receiver);
        state
    }
}

impl Stream for RegistrationStates {
    type Item = RegistrationState;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<RegistrationState>> {
        if let Some(mut change) = self.change.take() {
            let Poll::Ready((alive, receiver)) = change.as_mut().poll(context) else {
                self.change = Some(change);
                return Poll::Pending;
            };
            return Poll::Ready(alive.then(|| self.newest(receiver)));
        }
        let Some(mut receiver) = self.receiver.take() else {
            return Poll::Ready(None);
        };
        if !self.seen {
            return Poll::Ready(Some(self.newest(receiver)));
        }
        self.change = Some(Box::pin(async move {
            let alive = receiver.changed().await.is_ok();
            (alive, receiver)
        }));
        self.poll_next(context)
    }
}

impl fmt::Debug for RegistrationStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationStates").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(expires: u32) -> RegistrationState {
        RegistrationState::Registered {
            expires,
            refresh_in: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_and_then_the_end() {
        let (sender, receiver) = watch::channel(registered(1));
        let mut states = RegistrationStates::new(receiver);
        assert!(matches!(
            states.next().await,
            Some(RegistrationState::Registered { expires: 1, .. })
        ));
        sender.send_replace(registered(2));
        sender.send_replace(registered(3));
        assert!(matches!(
            states.next().await,
            Some(RegistrationState::Registered { expires: 3, .. })
        ));
        sender.send_replace(RegistrationState::Stopped);
        drop(sender);
        assert!(matches!(
            states.next().await,
            Some(RegistrationState::Stopped)
        ));
        assert!(states.next().await.is_none());
        assert!(states.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_comes_late_gets_the_end() {
        let (sender, receiver) = watch::channel(RegistrationState::Unregistered);
        drop(sender);
        let mut states = RegistrationStates::new(receiver);
        assert!(matches!(
            states.next().await,
            Some(RegistrationState::Unregistered)
        ));
        assert!(states.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let (sender, receiver) = watch::channel(registered(1));
        let mut states = RegistrationStates::new(receiver);
        states.next().await;
        let wait = tokio::time::timeout(Duration::from_secs(1), states.next()).await;
        assert!(wait.is_err());
        sender.send_replace(registered(2));
        assert!(matches!(
            states.next().await,
            Some(RegistrationState::Registered { expires: 2, .. })
        ));
    }
}
