//! How the agent hears of bindings that have changed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sipora_transaction_core::UserHandle;

use super::Command;
use crate::AddressOfRecord;

/// Tells the presence agent which of the addresses that it watches have changed.
///
/// It never holds more than the watched addresses, each once, however often they change. Whoever changes bindings tells, in
/// whatever task; the agent looks the address up again when it comes to it, so that it sees the last of several changes.
#[derive(Default)]
pub(crate) struct Changes {
    /// The watched addresses, each with whether it has changed.
    watched: Mutex<Watched>,
    agent: OnceLock<UserHandle<Command>>,
}

#[derive(Default)]
struct Watched {
    addresses: HashMap<AddressOfRecord, bool>,
    changed: Vec<AddressOfRecord>,
}

impl Changes {
    /// Says whom to wake.
    pub(crate) fn wake(&self, agent: UserHandle<Command>) {
        // Set once: an engine has one agent.
        _ = self.agent.set(agent);
    }

    /// Tells that the bindings of an address have changed, or may have.
    pub(crate) fn tell(&self, address: &AddressOfRecord) {
        let mut watched = self.lock();
        let Some(is_told) = watched.addresses.get_mut(address) else {
            return;
        };
        if std::mem::replace(is_told, true) {
            return;
        }
        watched.changed.push(address.clone());
        let is_first = watched.changed.len() == 1;
        drop(watched);
        if is_first && let Some(agent) = self.agent.get() {
            // Full: the agent takes the changes with the next of the commands that wait. Closed: nobody watches any more.
            _ = agent.try_send(Command::Changed);
        }
    }

    pub(super) fn watch(&self, address: &AddressOfRecord) {
        let mut watched = self.lock();
        if !watched.addresses.contains_key(address) {
            watched.addresses.insert(address.clone(), false);
        }
    }

    pub(super) fn forget(&self, address: &AddressOfRecord) {
        let mut watched = self.lock();
        if watched.addresses.remove(address) == Some(true) {
            watched.changed.retain(|one| one != address);
        }
    }

    /// Takes what has changed since.
    pub(super) fn take(&self) -> Vec<AddressOfRecord> {
        let mut watched = self.lock();
        let changed = std::mem::take(&mut watched.changed);
        for address in &changed {
            if let Some(is_told) = watched.addresses.get_mut(address) {
                *is_told = false;
            }
        }
        changed
    }

    // A thread that panicked under the lock left both whole enough: an address too many is looked up in vain.
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_watched_addresses_are_told_each_once_until_they_are_taken() {
        let changes = Changes::default();
        let [alice, bob] =
            ["alice", "bob"].map(|user| format!("sip:{user}@example.com").parse().unwrap());
        changes.watch(&alice);
        changes.watch(&alice);
        for _ in 0..3 {
            changes.tell(&alice);
            changes.tell(&bob);
        }
        assert!(changes.take().iter().eq([&alice]));
        assert!(changes.take().is_empty());
        changes.tell(&alice);
        changes.forget(&alice);
        assert!(changes.take().is_empty());
        changes.tell(&alice);
        assert!(changes.take().is_empty());
    }
}
