//! What callers want of a registration, while they wait for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::Binding;
use crate::{Error, Result};

/// What a handle asks of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Refresh,
    Query,
    Unregister,
}

/// Holds each operation that is wanted once, in the order of first asking, and everybody who waits for it.
///
/// So whoever asks for what others wait for shares its outcome, and what was asked for stays wanted when nobody waits any
/// more. It holds no more than there are callers at once.
#[derive(Default)]
pub(crate) struct Inbox {
    wanted: Mutex<Wanted>,
    changed: Notify,
}

#[derive(Default)]
pub(crate) struct Wanted {
    closed: bool,
    order: Vec<Operation>,
    refresh: Waiters<u32>,
    query: Waiters<Vec<Binding>>,
    unregister: Waiters<()>,
}

type Waiters<T> = Vec<oneshot::Sender<Result<T>>>;

/// Names the callers who wait for one kind of operation.
pub(crate) trait Answered: Clone {
    const OPERATION: Operation;
    fn waiters(wanted: &mut Wanted) -> &mut Waiters<Self>;
}

impl Answered for u32 {
    const OPERATION: Operation = Operation::Refresh;
    fn waiters(wanted: &mut Wanted) -> &mut Waiters<Self> {
        &mut wanted.refresh
    }
}

impl Answered for Vec<Binding> {
    const OPERATION: Operation = Operation::Query;
    fn waiters(wanted: &mut Wanted) -> &mut Waiters<Self> {
        &mut wanted.query
    }
}

impl Answered for () {
    const OPERATION: Operation = Operation::Unregister;
    fn waiters(wanted: &mut Wanted) -> &mut Waiters<Self> {
        &mut wanted.unregister
    }
}

impl Inbox {
    /// Asks for an operation and waits for its outcome. Dropped, it gives up the wait alone.
    pub(crate) async fn ask<T: Answered>(&self) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        {
            let mut wanted = self.lock();
            if wanted.closed {
                return Err(Error::Closed);
            }
            let waiters = T::waiters(&mut wanted);
            waiters.retain(|waiter| !waiter.is_closed());
            waiters.push(reply);
            if !wanted.order.contains(&T::OPERATION) {
                wanted.order.push(T::OPERATION);
            }
        }
        self.changed.notify_one();
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Waits until something is wanted, and names what was wanted first.
    pub(crate) async fn next(&self) -> Operation {
        loop {
            if let Some(first) = self.lock().order.first().copied() {
                return first;
            }
            self.changed.notified().await;
        }
    }

    /// Takes everybody who waits for an operation; it is not wanted any more.
    pub(crate) fn take<T: Answered>(&self) -> Waiters<T> {
        let mut wanted = self.lock();
        wanted.order.retain(|operation| *operation != T::OPERATION);
        std::mem::take(T::waiters(&mut wanted))
    }

    /// Tells everybody who waits that the registration has ended, and whoever asks later.
    pub(crate) fn close(&self) {
        *self.lock() = Wanted {
            closed: true,
            ..Wanted::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells an outcome to those who still wait for it.
pub(crate) fn tell<T: Answered>(waiters: Waiters<T>, outcome: &Result<T>) {
    for waiter in waiters {
        let _ = waiter.send(outcome.clone());
    }
}
