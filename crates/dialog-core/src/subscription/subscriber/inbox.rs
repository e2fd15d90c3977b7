//! Notifications on their way to an application that may be slow.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Notification;

/// A bounded queue that gives up the oldest: the newest notification says most.
#[derive(Debug, Clone)]
pub(super) struct Inbox(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Notification>,
    /// Given up since the last one that was read.
    missed: u64,
    is_closed: bool,
    waker: Option<Waker>,
}

/// The end that fills it; dropped, it closes the queue.
#[derive(Debug)]
pub(super) struct Feeder(Inbox);

impl Inbox {
    pub(super) fn new() -> (Feeder, Self) {
        let inbox = Inbox(Arc::default());
        (Feeder(inbox.clone()), inbox)
    }

    /// Waits for the next; `None` when there will be none.
    pub(super) async fn next(&self) -> Option<Notification> {
        poll_fn(|context| self.poll_next(context)).await
    }

    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Notification>> {
        let mut queue = self.lock();
        if let Some(mut notification) = queue.waiting.pop_front() {
            notification.missed = std::mem::take(&mut queue.missed);
            return Poll::Ready(Some(notification));
        }
        if queue.is_closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeder {
    pub(super) fn push(&self, notification: Notification) {
        let mut queue = self.0.lock();
        if queue.waiting.len() >= CAPACITY {
            queue.waiting.pop_front();
            queue.missed += 1;
        }
        queue.waiting.push_back(notification);
        wake(queue);
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        wake(queue);
    }
}

fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Notifications that wait for one reader.
pub(super) const CAPACITY: usize = 32;
