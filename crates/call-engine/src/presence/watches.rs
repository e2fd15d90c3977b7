//! Who watches whom, and what is known of whom they watch: without I/O and without a clock.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use sipora_dialog_core::SubscriptionKey;
use sipora_message::Request;
use sipora_transport::FlowId;

use crate::AddressOfRecord;

/// Holds every watched address with what its registration was when it was last looked at, and the watchers.
#[derive(Default)]
pub(crate) struct Watches {
    addresses: HashMap<AddressOfRecord, Watched>,
    watchers: HashMap<SubscriptionKey, Watcher>,
    dialogs: HashMap<DialogKey, SubscriptionKey>,
    timers: BTreeSet<(Instant, AddressOfRecord)>,
    /// The connections that watched addresses are bound over: no more for each than it may have contacts.
    flows: HashMap<FlowId, BTreeSet<AddressOfRecord>>,
    looks: u64,
}

/// What is known of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registration {
    /// Whether anything is bound that can be reached.
    pub(crate) is_open: bool,
    /// When the last of these bindings ends. Those that end before change nothing that watchers see.
    pub(crate) until: Option<Instant>,
}

/// Call-ID and the subscriber's tag.
pub(crate) type DialogKey = (Box<str>, Box<str>);

struct Watched {
    subscriptions: HashSet<SubscriptionKey>,
    registration: Registration,
    /// Those of its connections that have not ended.
    flows: Vec<FlowId>,
    /// When the store is asked again.
    next_look: Option<Instant>,
    look: Option<Look>,
}

struct Watcher {
    address: AddressOfRecord,
    /// Who watches, if that is somebody of a served domain.
    watcher: Option<AddressOfRecord>,
    dialog: DialogKey,
    /// The last NOTIFY tells nothing.
    is_refused: bool,
}

/// A question to the store that is under way.
#[derive(Clone, Copy)]
struct Look {
    number: u64,
    /// Something has changed since it was asked.
    is_outdated: bool,
}

impl Watches {
    /// Takes a subscription that was accepted.
    pub(crate) fn begin(
        &mut self,
        key: SubscriptionKey,
        address: AddressOfRecord,
        watcher: Option<AddressOfRecord>,
        dialog: DialogKey,
        registration: Registration,
    ) {
        let is_new = !self.addresses.contains_key(&address);
        let watched = self.addresses.entry(address.clone());
        // What is known already has been kept right since it was seen; `registration` may be older.
        let watched = watched.or_insert_with(|| Watched {
            subscriptions: HashSet::new(),
            registration,
            flows: Vec::new(),
            next_look: None,
            look: None,
        });
        watched.subscriptions.insert(key);
        if is_new {
            self.look_at(&address, registration.until);
        }
        self.dialogs.insert(dialog.clone(), key);
        let watcher = Watcher {
            address,
            watcher,
            dialog,
            is_refused: false,
        };
        self.watchers.insert(key, watcher);
    }

    /// Forgets a subscription that has ended. Gives the address if nobody watches it any more.
    pub(crate) fn end(&mut self, key: SubscriptionKey) -> Option<AddressOfRecord> {
        let gone = self.watchers.remove(&key)?;
        self.dialogs.remove(&gone.dialog);
        let watched = self.addresses.get_mut(&gone.address)?;
        watched.subscriptions.remove(&key);
        if !watched.subscriptions.is_empty() {
            return None;
        }
        self.look_at(&gone.address, None);
        self.lives_on(&gone.address, std::iter::empty());
        self.addresses.remove(&gone.address);
        Some(gone.address)
    }

    pub(crate) fn address(&self, key: SubscriptionKey) -> Option<&AddressOfRecord> {
        self.watchers.get(&key).map(|watcher| &watcher.address)
    }

    pub(crate) fn watcher(&self, key: SubscriptionKey) -> Option<&AddressOfRecord> {
        self.watchers.get(&key)?.watcher.as_ref()
    }

    pub(crate) fn keys(&self) -> Vec<SubscriptionKey> {
        self.watchers.keys().copied().collect()
    }

    pub(crate) fn keys_of(&self, address: &AddressOfRecord) -> Vec<SubscriptionKey> {
        let watched = self.addresses.get(address);
        let keys = watched.map(|watched| watched.subscriptions.iter().copied());
        keys.into_iter().flatten().collect()
    }

    /// Names the subscription that a SUBSCRIBE is within; the notifier looks at our tag.
    pub(crate) fn of_dialog(&self, request: &Request) -> Option<SubscriptionKey> {
        self.dialogs.get(&dialog_key(request)?).copied()
    }

    /// Remembers that a watcher is told nothing more: it is refused after all, or there is nobody to watch.
    pub(crate) fn refuse(&mut self, key: SubscriptionKey) {
        if let Some(watcher) = self.watchers.get_mut(&key) {
            watcher.is_refused = true;
        }
    }

    /// What a NOTIFY of a subscription is about; `None` where it tells nothing.
    pub(crate) fn told(&self, key: SubscriptionKey) -> Option<(&AddressOfRecord, Registration)> {
        let watcher = self.watchers.get(&key)?;
        let watched = self.addresses.get(&watcher.address)?;
        (!watcher.is_refused).then_some((&watcher.address, watched.registration))
    }

    /// Names the question if the store is to be asked now. If it is being asked already, it is asked once more after that.
    pub(crate) fn begin_look(&mut self, address: &AddressOfRecord) -> Option<u64> {
        let watched = self.addresses.get_mut(address)?;
        if let Some(look) = &mut watched.look {
            look.is_outdated = true;
            return None;
        }
        self.looks += 1;
        watched.look = Some(Look {
            number: self.looks,
            is_outdated: false,
        });
        Some(self.looks)
    }

    /// Ends a question: `None` for one of watchers who are gone, else whether the store has to be asked once more.
    pub(crate) fn end_look(&mut self, address: &AddressOfRecord, number: u64) -> Option<bool> {
        let watched = self.addresses.get_mut(address)?;
        let look = watched.look.filter(|look| look.number == number)?;
        watched.look = None;
        Some(look.is_outdated)
    }

    /// Takes what the store says. Gives whether watchers have something to hear.
    pub(crate) fn seen(&mut self, address: &AddressOfRecord, registration: Registration) -> bool {
        self.look_at(address, registration.until);
        let Some(watched) = self.addresses.get_mut(address) else {
            return false;
        };
        let before = std::mem::replace(&mut watched.registration, registration);
        before.is_open != registration.is_open
    }

    /// Sets when the store is asked about an address the next time.
    pub(crate) fn look_at(&mut self, address: &AddressOfRecord, at: Option<Instant>) {
        let Some(watched) = self.addresses.get_mut(address) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut watched.next_look, at) {
            self.timers.remove(&(before, address.clone()));
        }
        if let Some(at) = at {
            self.timers.insert((at, address.clone()));
        }
    }

    /// As [`look_at`](Self::look_at), but no later than is planned.
    pub(crate) fn look_before(&mut self, address: &AddressOfRecord, at: Option<Instant>) {
        let planned = self.addresses.get(address).and_then(|one| one.next_look);
        let earlier = [planned, at].into_iter().flatten().min();
        self.look_at(address, earlier);
    }

    /// Remembers the connections that an address is bound over, in the place of those known before.
    pub(crate) fn lives_on(
        &mut self,
        address: &AddressOfRecord,
        flows: impl Iterator<Item = FlowId>,
    ) {
        let Some(watched) = self.addresses.get_mut(address) else {
            return;
        };
        let after: Vec<FlowId> = flows.collect();
        for before in std::mem::replace(&mut watched.flows, after) {
            if let Entry::Occupied(mut those) = self.flows.entry(before) {
                those.get_mut().remove(address);
                if those.get().is_empty() {
                    those.remove();
                }
            }
        }
        for flow in &watched.flows {
            self.flows.entry(*flow).or_default().insert(address.clone());
        }
    }

    /// Names the addresses that are bound over a connection, which has ended.
    pub(crate) fn those_on(&mut self, flow: FlowId) -> Vec<AddressOfRecord> {
        self.flows.remove(&flow).into_iter().flatten().collect()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Names the addresses whose time to be looked at has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<AddressOfRecord> {
        let mut due = Vec::new();
        while let Some((at, address)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.look_at(&address, None);
            due.push(address);
        }
        due
    }
}

/// Call-ID and From tag of a request.
pub(crate) fn dialog_key(request: &Request) -> Option<DialogKey> {
    let headers = request.headers();
    let tag = headers.from().ok()?.tag()?.into();
    Some((headers.call_id().ok()?.into(), tag))
}
