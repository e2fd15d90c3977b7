//! Events on their way to an application that may be slow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::event::{CallEnd, CallEvent};

/// A bounded queue. When it is full, a provisional answer is given up first, then the oldest event; the end never is.
#[derive(Debug, Clone)]
pub(super) struct Inbox(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Box<CallEvent>>,
    is_closed: bool,
    waker: Option<Waker>,
}

/// The end that fills it; dropped, it closes the queue.
#[derive(Debug)]
pub(super) struct Feeder {
    inbox: Inbox,
    has_ended: bool,
}

impl Inbox {
    pub(super) fn new() -> (Feeder, Self) {
        let inbox = Inbox(Arc::default());
        let feeder = Feeder {
            inbox: inbox.clone(),
            has_ended: false,
        };
        (feeder, inbox)
    }

    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<CallEvent>> {
        let mut queue = self.lock();
        if let Some(event) = queue.waiting.pop_front() {
            if queue.waiting.is_empty() {
                // Calls are quiet most of their time.
                queue.waiting = VecDeque::new();
            }
            return Poll::Ready(Some(*event));
        }
        if queue.is_closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Says whether the last event has been put in.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_closed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeder {
    /// Puts in what the peer may send as often as it likes, if the reader has kept up; says whether it did.
    pub(super) fn offer(&mut self, event: CallEvent) -> bool {
        let has_room = self.inbox.lock().waiting.len() < CAPACITY / 2;
        if has_room {
            self.push(event);
        }
        has_room
    }

    pub(super) fn push(&mut self, event: CallEvent) {
        self.has_ended |= matches!(event, CallEvent::Ended(_));
        let mut queue = self.inbox.lock();
        if queue.waiting.len() >= CAPACITY {
            let mut waiting = queue.waiting.iter();
            let place = waiting.position(|event| is_passing(event));
            let place = place.unwrap_or(0);
            queue.waiting.remove(place);
        }
        if queue.waiting.capacity() == 0 {
            queue.waiting.reserve_exact(1);
        }
        queue.waiting.push_back(Box::new(event));
        wake(queue);
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if !self.has_ended {
            self.push(CallEvent::Ended(CallEnd::Closed));
        }
        let mut queue = self.inbox.lock();
        queue.is_closed = true;
        wake(queue);
    }
}

/// What the next of its kind makes good.
fn is_passing(event: &CallEvent) -> bool {
    match event {
        CallEvent::Progress(_) => true,
        CallEvent::ReferReport(report) => !report.is_over,
        _ => false,
    }
}

fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Events that wait for one reader. Answered, re-INVITEs and the end come one at a time; what comes often is provisional.
const CAPACITY: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use sipora_message::{Response, StatusCode};

    fn progress() -> CallEvent {
        let builder = Response::builder(StatusCode::RINGING)
            .header(sipora_message::HeaderName::From, "<sip:a@h>;tag=1")
            .header(sipora_message::HeaderName::To, "<sip:h>;tag=2")
            .header(sipora_message::HeaderName::CallId, "c")
            .header(sipora_message::HeaderName::CSeq, "1 INVITE");
        CallEvent::Progress(builder.build().unwrap())
    }

    #[test]
    fn a_full_queue_gives_up_provisional_answers_and_keeps_the_end() {
        let (mut feeder, inbox) = Inbox::new();
        feeder.push(CallEvent::ReinviteCancelled);
        for _ in 0..2 * CAPACITY {
            feeder.push(progress());
        }
        feeder.push(CallEvent::Ended(CallEnd::HungUp));
        drop(feeder);
        let mut context = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        while let Poll::Ready(Some(event)) = inbox.poll_next(&mut context) {
            seen.push(event);
        }
        assert_eq!(seen.len(), CAPACITY);
        assert!(matches!(seen.first(), Some(CallEvent::ReinviteCancelled)));
        assert!(matches!(seen.last(), Some(CallEvent::Ended(_))));
    }
}
