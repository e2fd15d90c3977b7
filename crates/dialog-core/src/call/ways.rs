//! The ways from one shard to the users of all: what is written to them, and what they count.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sipora_transaction_core::UserHandle;

use super::CallMetrics;
use super::command::{Command, Left};
use super::core::CallKey;
use super::event::CallError;
use super::metrics::Published;
use super::state::CallState;
use crate::user::Abandoned;

/// The ways to the users of all shards.
pub(super) struct Ways {
    first: Way,
    others: Box<[Way]>,
    next: AtomicUsize,
}

/// The way to the user of one shard.
#[derive(Default)]
pub(super) struct Way {
    user: OnceLock<UserHandle<Command>>,
    pub(super) abandoned: Abandoned<Left>,
    pub(super) published: Published,
    /// What other shards have written; none once the user is gone. A full command queue can refuse the word that there is
    /// something, but the commands that fill it make the user look here. Each letter belongs to an INVITE that waits, of which
    /// there are [`MOST_FINDING`] in a shard, to a call that is accepted, or to somebody who waits.
    letters: Mutex<Letters>,
}

#[derive(Default)]
struct Letters {
    waiting: VecDeque<Command>,
    is_closed: bool,
}

impl Ways {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            first: Way::default(),
            others: (1..shards).map(|_| Way::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn shards(&self) -> usize {
        1 + self.others.len()
    }

    pub(super) fn way(&self, shard: usize) -> &Way {
        let other = shard.checked_sub(1).and_then(|at| self.others.get(at));
        other.unwrap_or(&self.first)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Way> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Takes the handles of the users, by shard.
    pub(super) fn lead_to(&self, users: Vec<UserHandle<Command>>) {
        for (way, user) in self.all().zip(users) {
            // It has none yet.
            let _ = way.user.set(user);
        }
    }

    /// The shard in which the next call begins.
    pub(super) fn next(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.shards()
    }

    pub(super) fn metrics(&self) -> CallMetrics {
        let mut sum = CallMetrics::default();
        for way in self.all() {
            sum.add(&way.published.load());
        }
        sum
    }

    /// Tells the user of a shard something, waiting for room.
    pub(super) async fn send(&self, shard: usize, command: Command) -> Result<(), CallError> {
        let user = self.way(shard).user.get().ok_or(CallError::Closed)?;
        user.send(command).await.map_err(|_| CallError::Closed)
    }

    /// Says what is to be done for somebody who does not wait.
    pub(super) fn leave(&self, left: Left) {
        let way = self.way(left.call().shard());
        way.abandoned.push(left);
        way.wake();
    }

    /// Ends calls that were let go of for somebody who does not want them any more.
    pub(super) fn end(&self, states: Vec<CallState>) {
        // Where the endpoint has ended nobody can.
        let _ = self.post(0, Command::End(states));
    }

    /// Writes to another shard; says whether there is somebody to read it.
    pub(super) fn post(&self, shard: usize, letter: Command) -> bool {
        let way = self.way(shard);
        let mut letters = way.letters();
        if letters.is_closed {
            return false;
        }
        letters.waiting.push_back(letter);
        drop(letters);
        way.wake();
        true
    }

    /// What other shards have written.
    pub(super) fn letters(&self, shard: usize) -> VecDeque<Command> {
        match self.others.is_empty() {
            true => VecDeque::new(),
            false => std::mem::take(&mut self.way(shard).letters().waiting),
        }
    }

    /// The user of a shard is gone: who waits for it waits no longer.
    pub(super) fn close(&self, shard: usize) {
        let mut letters = self.way(shard).letters();
        letters.is_closed = true;
        let unread = std::mem::take(&mut letters.waiting);
        drop(letters);
        drop(unread);
    }
}

impl Way {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(user) = self.user.get() {
            // A full queue means that commands wait, and each of them makes the user look.
            let _ = user.try_send(Command::Reap);
        }
    }
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways")
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}

impl CallKey {
    /// The shard that a call lives in.
    pub(super) fn shard(self) -> usize {
        usize::try_from(self.0 >> SHARD_BITS).unwrap_or(0)
    }
}

/// The first of the numbers that a shard names calls and requests by.
pub(super) fn first_number(shard: usize) -> u64 {
    (shard as u64) << SHARD_BITS
}

/// Where in the name of a call its shard stands. No endpoint has as many calls.
const SHARD_BITS: u32 = 56;
