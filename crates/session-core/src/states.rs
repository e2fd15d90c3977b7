//! States as a stream that a slow reader cannot fill.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::watch;

/// What has a last state.
pub trait Life: Clone + Send + Sync + 'static {
    /// Tells whether no other state follows.
    fn is_last(&self) -> bool;
}

/// Follows the states of something.
///
/// It begins with the present state. A slow reader misses states in between, never the newest; the last is a terminal one,
/// and after it comes `None`.
pub struct States<S> {
    receiver: Option<watch::Receiver<S>>,
    is_seen: bool,
    change: Option<Change<S>>,
}

type Change<S> = Pin<Box<dyn Future<Output = (bool, watch::Receiver<S>)> + Send>>;

impl<S: Life> States<S> {
    pub(crate) fn new(receiver: watch::Receiver<S>) -> Self {
        Self {
            receiver: Some(receiver),
            is_seen: false,
            change: None,
        }
    }

    /// Waits for the next state. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<S> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn newest(&mut self, mut receiver: watch::Receiver<S>) -> S {
        let state = receiver.borrow_and_update().clone();
        self.is_seen = true;
        self.receiver = (!state.is_last()).then_some(receiver);
        state
    }
}

impl<S: Life> Stream for States<S> {
    type Item = S;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S>> {
        if self.change.is_none() {
            let Some(mut receiver) = self.receiver.take() else {
                return Poll::Ready(None);
            };
            if !self.is_seen {
                return Poll::Ready(Some(self.newest(receiver)));
            }
            self.change = Some(Box::pin(async move {
                let is_alive = receiver.changed().await.is_ok();
                (is_alive, receiver)
            }));
        }
        let Some(mut change) = self.change.take() else {
            return Poll::Ready(None);
        };
        match change.as_mut().poll(context) {
            Poll::Ready((is_alive, receiver)) => {
                Poll::Ready(is_alive.then(|| self.newest(receiver)))
            }
            Poll::Pending => {
                self.change = Some(change);
                Poll::Pending
            }
        }
    }
}

impl<S> Unpin for States<S> {}

impl<S> fmt::Debug for States<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").finish_non_exhaustive()
    }
}
