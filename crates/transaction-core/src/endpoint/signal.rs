//! Tells a task which of its inputs woke it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// A flag that inputs raise when they wake the task.
///
/// To poll an input costs a few hundred instructions, whether or not it has anything. Those that seldom have anything are
/// polled with the waker of a signal, and polled again only after it was raised.
#[derive(Debug)]
pub(super) struct Signal {
    state: Arc<State>,
    /// Wakes the task and says so in `state`.
    waker: Waker,
}

#[derive(Debug)]
struct State {
    raised: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Default for Signal {
    /// Raised, as no input has been asked yet.
    fn default() -> Self {
        let state = Arc::new(State {
            raised: AtomicBool::new(true),
            task: Mutex::new(None),
        });
        Self {
            waker: Waker::from(Arc::clone(&state)),
            state,
        }
    }
}

impl Signal {
    /// Says which task is to be woken. To be called each time that the task is polled, before [`take`](Self::take).
    pub(super) fn follow(&self, cx: &Context<'_>) {
        let mut task = self
            .state
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }

    /// The waker to poll inputs with.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Says whether it was raised, and lowers it. Inputs have to be polled after that, not before.
    pub(super) fn take(&self) -> bool {
        // The plain look is enough where it was not raised: whoever raises it wakes the task after that.
        self.is_raised() && self.state.raised.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_raised(&self) -> bool {
        self.state.raised.load(Ordering::Acquire)
    }

    /// Raises it without waking the task, which is running.
    pub(super) fn raise(&self) {
        self.state.raised.store(true, Ordering::Release);
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[test]
    fn whoever_wakes_it_wakes_the_task_that_was_polled_last() {
        let (first, last) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let signal = Signal::default();
        assert!(signal.take(), "nothing has been asked yet");
        assert!(!signal.take());
        for task in [&first, &last] {
            signal.follow(&Context::from_waker(&Waker::from(Arc::clone(task))));
        }
        signal.waker().wake_by_ref();
        assert!(!first.0.load(Ordering::Acquire));
        assert!(last.0.load(Ordering::Acquire));
        assert!(signal.take());
        assert!(!signal.take());
    }
}
