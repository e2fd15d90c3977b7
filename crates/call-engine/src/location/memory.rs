//! Bindings in the memory of this process.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    AddressOfRecord, Answer, Applied, Binding, Change, ChangeError, Cursor, LocationStore, Page,
    StoreError, Timestamp, register,
};

/// Keeps bindings in memory: gone with the process, and never later than now.
///
/// It is divided into shards, each with its own lock, held for one operation on one address. Each shard queues its
/// addresses by their next expiry, so that sweeping costs what has expired and nothing else. A binding with a contact
/// and a Call-ID of ordinary length takes less than 400 bytes, everything included; parameters of the Contact, such as an
/// instance id, come on top as they are.
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    max_bindings: usize,
    count: AtomicUsize,
    version: AtomicU64,
}

#[derive(Default)]
struct Shard {
    addresses: HashMap<Arc<str>, Entry>,
    /// When each address has to be looked at, one entry an address: the earliest expiry of its bindings, or earlier.
    queue: BTreeSet<(Timestamp, Arc<str>)>,
}

struct Entry {
    bindings: Box<[Binding]>,
    queued: Timestamp,
}

impl MemoryStore {
    /// Makes an empty store for at most [`MemoryStore::DEFAULT_MAX_BINDINGS`] bindings.
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            max_bindings: Self::DEFAULT_MAX_BINDINGS,
            count: AtomicUsize::new(0),
            version: AtomicU64::new(0),
        }
    }

    /// Bindings that a store holds by default: a million, in less than 400 MB.
    pub const DEFAULT_MAX_BINDINGS: usize = 1_000_000;

    /// Sets how many bindings the store holds. When it is full, new contacts are refused; refreshes and removals go on.
    pub fn with_max_bindings(mut self, limit: usize) -> Self {
        self.max_bindings = limit;
        self
    }

    fn change(&self, change: &Change, now: Timestamp) -> Result<Applied, ChangeError> {
        let key = change.address.shared();
        let mut shard = self.shard(key);
        let before = shard
            .addresses
            .get(key)
            .map_or(&[][..], |entry| &entry.bindings);
        let registered = register(before, change, now)?;
        let before = before.len();
        let after = registered.bindings.len();
        if registered.added > 0 && after > before {
            self.reserve(after - before)?;
        } else {
            self.settle(before, after);
        }
        shard.store(key, &registered.bindings);
        // Taken under the shard's lock, so that versions of one address grow in the order of its changes.
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        Ok(Applied::new(registered, version))
    }

    /// Takes room for `more` bindings, if there is so much.
    fn reserve(&self, more: usize) -> Result<(), ChangeError> {
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count
                    .checked_add(more)
                    .filter(|count| *count <= self.max_bindings)
            })
            .map(|_| ())
            .map_err(|_| ChangeError::Full)
    }

    fn settle(&self, before: usize, after: usize) {
        if after > before {
            self.count.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.count.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    fn live(&self, address: &AddressOfRecord, now: Timestamp) -> Vec<Binding> {
        let key = address.shared();
        let shard = self.shard(key);
        shard
            .addresses
            .get(key)
            .map_or_else(Vec::new, |entry| entry.live(now))
    }

    fn remove_all(&self, address: &AddressOfRecord, now: Timestamp) -> usize {
        let key = address.shared();
        let mut shard = self.shard(key);
        let Some(entry) = shard.addresses.get(key) else {
            return 0;
        };
        let (live, all) = (entry.live(now).len(), entry.bindings.len());
        shard.store(key, &[]);
        self.settle(all, 0);
        live
    }

    /// Walks the shards in order, and the addresses of a shard in the order of their text.
    fn page_after(
        &self,
        after: Option<&Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let (mut number, mut last) = match after {
            Some(cursor) => parse_cursor(cursor)?,
            None => (0, None),
        };
        let mut addresses: Vec<(AddressOfRecord, Vec<Binding>)> = Vec::new();
        while let Some(shard) = self.shards.get(number) {
            let shard = lock(shard);
            let mut keys: Vec<&Arc<str>> = shard
                .addresses
                .keys()
                .filter(|key| last.as_deref().is_none_or(|last| ***key > *last))
                .collect();
            keys.sort_unstable();
            for key in keys {
                if addresses.len() >= limit {
                    // The shard, and the last of its addresses that was shown.
                    let next = Cursor::new(format!("{number}/{}", last.unwrap_or_default()));
                    return Ok(Page::new(addresses, Some(next)));
                }
                let live = shard
                    .addresses
                    .get(key)
                    .map_or_else(Vec::new, |entry| entry.live(now));
                if !live.is_empty() {
                    addresses.push((AddressOfRecord::from_shared(Arc::clone(key)), live));
                }
                last = Some(String::from(&**key));
            }
            last = None;
            number += 1;
        }
        Ok(Page::new(addresses, None))
    }

    fn sweep_shards(&self, now: Timestamp, limit: usize) -> usize {
        let mut swept = 0;
        let mut looked_at = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            while looked_at < limit {
                let Some(key) = shard.due(now) else { break };
                looked_at += 1;
                let (before, live) = shard.addresses.get(&key).map_or((0, Vec::new()), |entry| {
                    (entry.bindings.len(), entry.live(now))
                });
                shard.store(&key, &live);
                self.settle(before, live.len());
                swept += before - live.len();
            }
        }
        swept
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        // FNV-1a, without a secret: who aims at one shard only has its lock for himself. Each map has a keyed hash.
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // Always in range: there are SHARDS of them.
        lock(&self.shards[(hash >> 32) as usize % SHARDS])
    }
}

impl Shard {
    /// Stores the bindings of an address and keeps its place in the queue right.
    fn store(&mut self, key: &Arc<str>, bindings: &[Binding]) {
        let earliest = bindings.iter().map(Binding::expires_at).min();
        let Some(earliest) = earliest else {
            if let Some((key, entry)) = self.addresses.remove_entry(key) {
                self.queue.remove(&(entry.queued, key));
            }
            return;
        };
        let bindings: Box<[Binding]> = bindings.into();
        if let Some(entry) = self.addresses.get_mut(key) {
            entry.bindings = bindings;
            // A refresh moves the expiry away: the entry stays where it is and moves when its time comes, so that a
            // refresh costs nothing here.
            if earliest >= entry.queued {
                return;
            }
            let mut place = (entry.queued, Arc::clone(key));
            // Taken out, it is the very text that the map holds; one text an address is kept.
            if let Some(taken) = self.queue.take(&place) {
                place = taken;
            }
            entry.queued = earliest;
            self.queue.insert((earliest, place.1));
            return;
        }
        self.queue.insert((earliest, Arc::clone(key)));
        self.addresses.insert(
            Arc::clone(key),
            Entry {
                bindings,
                queued: earliest,
            },
        );
    }

    /// Gives an address that has to be looked at now, and queues it as of now, to be moved by [`Shard::store`].
    fn due(&mut self, now: Timestamp) -> Option<Arc<str>> {
        let (at, _) = self.queue.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        let entry = self.addresses.get_mut(&key)?;
        // Never reached by a clock: whatever is stored next is earlier, and so is queued.
        entry.queued = Timestamp::from_millis(u64::MAX);
        Some(key)
    }
}

impl Entry {
    fn live(&self, now: Timestamp) -> Vec<Binding> {
        self.bindings
            .iter()
            .filter(|binding| !binding.is_expired(now))
            .cloned()
            .collect()
    }
}

impl LocationStore for MemoryStore {
    fn apply(&self, change: Change, now: Timestamp) -> Answer<Result<Applied, ChangeError>> {
        Answer::Now(self.change(&change, now))
    }

    fn bindings(
        &self,
        address: &AddressOfRecord,
        now: Timestamp,
    ) -> Answer<Result<Vec<Binding>, StoreError>> {
        Answer::Now(Ok(self.live(address, now)))
    }

    fn remove(
        &self,
        address: &AddressOfRecord,
        now: Timestamp,
    ) -> Answer<Result<usize, StoreError>> {
        Answer::Now(Ok(self.remove_all(address, now)))
    }

    fn page(
        &self,
        after: Option<&Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Answer<Result<Page, StoreError>> {
        Answer::Now(self.page_after(after, limit.max(1), now))
    }

    fn count(&self) -> Answer<Result<usize, StoreError>> {
        Answer::Now(Ok(self.count.load(Ordering::Relaxed)))
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> usize {
        self.sweep_shards(now, limit)
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.shards
            .iter()
            .filter_map(|shard| lock(shard).queue.first().map(|(at, _)| *at))
            .min()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MemoryStore")
            .field("count", &self.count)
            .field("max_bindings", &self.max_bindings)
            .finish_non_exhaustive()
    }
}

/// Enough that the cores of one machine seldom meet, few enough to be walked for the next expiry.
const SHARDS: usize = 64;

/// A thread that panicked under the lock left the shard whole: each operation changes it by one assignment.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse_cursor(cursor: &Cursor) -> Result<(usize, Option<String>), StoreError> {
    let unknown = || StoreError::new("a cursor that this store did not make");
    let (number, last) = cursor.as_str().split_once('/').ok_or_else(unknown)?;
    let number = number.parse().map_err(|_| unknown())?;
    Ok((number, (!last.is_empty()).then(|| last.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sipora_message::Uri;
    use sipora_transport::Transport;

    use super::*;
    use crate::{ContactChange, Origin, Update};

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn at(seconds: u64) -> Timestamp {
        START.after(Duration::from_secs(seconds))
    }

    fn address(user: &str) -> AddressOfRecord {
        format!("sip:{user}@example.com").parse().unwrap()
    }

    fn bind(
        store: &MemoryStore,
        user: &str,
        cseq: u32,
        expires: u32,
        now: Timestamp,
    ) -> Result<Applied, ChangeError> {
        let origin = Origin {
            transport: Transport::Udp,
            source: "192.0.2.7:5060".parse().unwrap(),
            flow: None,
        };
        let contact = ContactChange::new(
            Uri::parse(&format!("sip:{user}@192.0.2.7")).unwrap(),
            expires,
        );
        let change = Change::new(
            address(user),
            "one",
            cseq,
            Update::Contacts(vec![contact]),
            origin,
        );
        store.change(&change, now)
    }

    fn count(store: &MemoryStore) -> usize {
        store.count.load(Ordering::Relaxed)
    }

    /// Entries and queue of every shard agree, and the gauge with both.
    fn assert_whole(store: &MemoryStore) {
        let mut bindings = 0;
        for shard in &store.shards {
            let shard = lock(shard);
            assert_eq!(shard.addresses.len(), shard.queue.len());
            for (at, key) in &shard.queue {
                let entry = &shard.addresses[key];
                assert_eq!(entry.queued, *at);
                assert!(
                    entry
                        .bindings
                        .iter()
                        .all(|binding| binding.expires_at() >= *at)
                );
                bindings += entry.bindings.len();
            }
        }
        assert_eq!(bindings, count(store));
    }

    #[test]
    fn what_has_expired_is_never_shown_and_is_swept_when_its_time_comes() {
        let store = MemoryStore::new();
        bind(&store, "alice", 1, 60, at(0)).unwrap();
        bind(&store, "bob", 1, 90, at(0)).unwrap();
        assert_eq!(store.next_expiry(), Some(at(60)));
        assert_eq!(store.live(&address("alice"), at(59)).len(), 1);
        assert!(store.live(&address("alice"), at(60)).is_empty());
        assert_eq!(store.sweep(at(59), 100), 0);
        assert_eq!(store.sweep(at(60), 100), 1);
        assert_eq!((count(&store), store.next_expiry()), (1, Some(at(90))));
        assert_whole(&store);
    }

    #[test]
    fn a_refreshed_binding_outlives_its_first_expiry() {
        let store = MemoryStore::new();
        bind(&store, "alice", 1, 60, at(0)).unwrap();
        bind(&store, "alice", 2, 60, at(30)).unwrap();
        assert_whole(&store);
        assert_eq!(store.sweep(at(60), 100), 0);
        assert_eq!(store.live(&address("alice"), at(89)).len(), 1);
        assert_eq!(store.next_expiry(), Some(at(90)));
        assert_whole(&store);
        assert_eq!(store.sweep(at(90), 100), 1);
        assert_eq!((count(&store), store.next_expiry()), (0, None));
        assert_whole(&store);
    }

    #[test]
    fn a_shorter_expiry_comes_to_the_front() {
        let store = MemoryStore::new();
        bind(&store, "alice", 1, 3600, at(0)).unwrap();
        bind(&store, "alice", 2, 60, at(0)).unwrap();
        assert_eq!(store.next_expiry(), Some(at(60)));
        assert_whole(&store);
    }

    #[test]
    fn however_often_a_binding_is_refreshed_the_queue_has_one_entry_for_its_address() {
        let store = MemoryStore::new();
        for number in 0..500 {
            bind(&store, "alice", number, 7200 - number, at(0)).unwrap();
            bind(&store, "bob", number, 3600 + number, at(0)).unwrap();
        }
        assert_whole(&store);
        assert_eq!(count(&store), 2);
    }

    #[test]
    fn removing_leaves_nothing_behind() {
        let store = MemoryStore::new();
        bind(&store, "alice", 1, 60, at(0)).unwrap();
        bind(&store, "alice", 2, 0, at(1)).unwrap();
        bind(&store, "bob", 1, 60, at(0)).unwrap();
        assert_eq!(store.remove_all(&address("bob"), at(1)), 1);
        assert_eq!(store.remove_all(&address("bob"), at(1)), 0);
        assert_whole(&store);
        assert_eq!((count(&store), store.next_expiry()), (0, None));
    }

    #[test]
    fn a_full_store_refuses_new_bindings_and_keeps_refreshing_old_ones() {
        let store = MemoryStore::new().with_max_bindings(2);
        bind(&store, "alice", 1, 60, at(0)).unwrap();
        bind(&store, "bob", 1, 60, at(0)).unwrap();
        assert!(matches!(
            bind(&store, "carol", 1, 60, at(0)),
            Err(ChangeError::Full)
        ));
        bind(&store, "alice", 2, 60, at(0)).unwrap();
        bind(&store, "bob", 2, 0, at(0)).unwrap();
        bind(&store, "carol", 1, 60, at(0)).unwrap();
        assert_whole(&store);
    }

    #[test]
    fn versions_grow_with_each_change() {
        let store = MemoryStore::new();
        let first = bind(&store, "alice", 1, 60, at(0)).unwrap().version;
        let second = bind(&store, "alice", 2, 60, at(0)).unwrap().version;
        assert!(second > first);
    }

    #[test]
    fn pages_show_every_binding_once() {
        let store = MemoryStore::new();
        let users: Vec<String> = (0..300).map(|number| format!("user{number:03}")).collect();
        for user in &users {
            bind(&store, user, 1, 60, at(0)).unwrap();
        }
        for limit in [1, 7, 300, 1000] {
            let mut seen = Vec::new();
            let mut cursor = None;
            loop {
                let page = store.page_after(cursor.as_ref(), limit, at(0)).unwrap();
                assert!(page.addresses.len() <= limit);
                seen.extend(
                    page.addresses
                        .iter()
                        .map(|(address, _)| address.user().to_owned()),
                );
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            seen.sort();
            assert_eq!(seen, users, "{limit}");
        }
        assert!(
            store
                .page_after(Some(&Cursor::new("elsewhere")), 1, at(0))
                .is_err()
        );
        assert!(
            store
                .page_after(None, 1000, at(60))
                .unwrap()
                .addresses
                .is_empty()
        );
    }

    #[test]
    fn a_sweep_looks_at_no_more_addresses_than_it_may() {
        let store = MemoryStore::new();
        for number in 0..50 {
            bind(&store, &format!("user{number}"), 1, 60, at(0)).unwrap();
        }
        assert_eq!(store.sweep(at(60), 20), 20);
        assert_eq!(store.sweep(at(60), 100), 30);
        assert_whole(&store);
    }

    #[test]
    fn threads_that_register_at_once_lose_nothing() {
        let store = MemoryStore::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..200 {
                        bind(
                            store,
                            &format!("user{}", number % 50),
                            number * 4 + thread,
                            60,
                            at(0),
                        )
                        .ok();
                    }
                });
            }
        });
        assert_eq!(count(&store), 50);
        assert_whole(&store);
    }
}
