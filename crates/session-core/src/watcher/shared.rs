//! What a watcher's handle wishes, on its way into the endpoint.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sipora_dialog_core::{Body, Offer, TerminationReason};
use sipora_message::Uri;
use tokio::sync::watch;

use super::WatcherEnd;

/// One subscription, as its handle and the endpoint both see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: u64,
    pub(crate) event: String,
    pub(crate) resource: Uri,
    pub(crate) subscriber: String,
    pub(crate) expires: u32,
    wishes: Mutex<Wishes>,
    pub(crate) end: watch::Sender<Option<WatcherEnd>>,
}

/// What the application wants, the newest of each: wishes that nobody has looked at yet become one.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) body: Option<Body>,
    pub(crate) has_changed: bool,
    pub(crate) is_allowed: bool,
    pub(crate) ending: Option<(TerminationReason, Option<u32>)>,
    /// It stands on the board already.
    is_noted: bool,
}

impl Shared {
    pub(crate) fn new(id: u64, offer: &Offer) -> Self {
        Self {
            id,
            event: offer.package().to_owned(),
            resource: offer.resource().clone(),
            subscriber: offer.subscriber().to_owned(),
            expires: offer.expires(),
            wishes: Mutex::default(),
            end: watch::Sender::new(None),
        }
    }

    pub(crate) fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the handle that it is over. The first end is the one that counts.
    pub(crate) fn finish(&self, end: WatcherEnd) {
        self.end.send_if_modified(|told| {
            let is_first = told.is_none();
            if is_first {
                *told = Some(end);
            }
            is_first
        });
    }
}

/// The watchers whose wishes have changed. It names each once, so that it never holds more than there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<Vec<u64>>>);

impl Board {
    /// Makes a wish.
    pub(crate) fn wish(&self, shared: &Shared, wish: impl FnOnce(&mut Wishes)) {
        let mut wishes = shared.wishes();
        wish(&mut wishes);
        if std::mem::replace(&mut wishes.is_noted, true) {
            return;
        }
        drop(wishes);
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.push(shared.id);
    }

    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wishes {
    /// Takes off the board.
    pub(super) fn look(&mut self) -> Looked {
        self.is_noted = false;
        Looked {
            has_changed: std::mem::take(&mut self.has_changed),
            is_allowed: std::mem::take(&mut self.is_allowed),
            ending: self.ending.take(),
        }
    }
}

/// What was wished since it was looked last.
pub(super) struct Looked {
    pub(super) has_changed: bool,
    pub(super) is_allowed: bool,
    pub(super) ending: Option<(TerminationReason, Option<u32>)>,
}
