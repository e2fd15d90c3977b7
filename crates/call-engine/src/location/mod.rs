//! The location service: which contacts are bound to which address-of-record.
//!
//! [`LocationStore`] is the seam: [`MemoryStore`] keeps everything in this process; a store of another kind implements
//! the trait and runs [`register`] inside its own transaction, so that the rules of RFC 3261 §10.3 stand in one place.

mod address;
mod binding;
mod change;
mod memory;
mod rules;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use address::AddressOfRecord;
pub use binding::{Binding, Origin};
pub use change::{Change, ContactChange, Update};
pub use memory::MemoryStore;
pub use rules::register;

/// Keeps the bindings of addresses-of-record.
///
/// Every method answers at once or later ([`Answer`]). The methods are called inside the task that moves messages: what
/// has to wait (a disk, a network) returns [`Answer::Later`] and does its waiting there.
pub trait LocationStore: Send + Sync + 'static {
    /// Applies the change that one REGISTER asks for, whole or not at all, and gives the bindings after it.
    ///
    /// It is one atomic step: between what [`register`] is shown of the address and what is stored of its result, no
    /// other change of the same address may happen (RFC 3261 §10.3: "REGISTER requests MUST also be processed
    /// atomically").
    fn apply(&self, change: Change, now: Timestamp) -> Answer<Result<Applied, ChangeError>>;

    /// Gives the bindings of an address that have not expired.
    fn bindings(
        &self,
        address: &AddressOfRecord,
        now: Timestamp,
    ) -> Answer<Result<Vec<Binding>, StoreError>>;

    /// Removes every binding of an address and says how many there were.
    fn remove(
        &self,
        address: &AddressOfRecord,
        now: Timestamp,
    ) -> Answer<Result<usize, StoreError>>;

    /// Gives a page of all bindings, at most `limit` addresses long, from a cursor that an earlier page gave.
    ///
    /// Bindings that exist from the first page to the last appear once. Others may or may not.
    fn page(
        &self,
        after: Option<&Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Answer<Result<Page, StoreError>>;

    /// Gives the number of bindings stored, those that have expired and are not yet swept included.
    fn count(&self) -> Answer<Result<usize, StoreError>>;

    /// Sweeps bindings that have expired, of at most `limit` addresses, and says how many.
    ///
    /// A binding that has expired is never shown, swept or not. A store that expires by itself needs no sweep.
    fn sweep(&self, now: Timestamp, limit: usize) -> usize {
        let _ = (now, limit);
        0
    }

    /// Says when [`sweep`](LocationStore::sweep) has something to do; `None` where nothing will expire.
    fn next_expiry(&self) -> Option<Timestamp> {
        None
    }
}

/// An answer that is there, or will be.
pub enum Answer<T> {
    /// The answer.
    Now(T),
    /// A future that gives the answer. It runs on the runtime, outside the task that moves messages. Where a request waits
    /// for it, it is dropped after 30 s and the request fails with 500.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T> Answer<T> {
    /// Wraps a future.
    pub fn later(future: impl Future<Output = T> + Send + 'static) -> Self {
        Answer::Later(Box::pin(future))
    }

    /// Waits for the answer, if it is not there yet.
    pub async fn wait(self) -> T {
        match self {
            Answer::Now(answer) => answer,
            Answer::Later(future) => future.await,
        }
    }
}

/// What a change left behind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Applied {
    /// All bindings of the address after the change.
    pub bindings: Vec<Binding>,
    /// Bindings that the change added: contacts that were not bound before.
    pub added: usize,
    /// Bindings that the change removed.
    pub removed: usize,
    /// A number that grows with every change of this address, to order what watchers are told.
    pub version: u64,
}

impl Applied {
    /// Describes a change that was stored under a version of the store's own.
    pub fn new(registered: Registered, version: u64) -> Self {
        Self {
            bindings: registered.bindings,
            added: registered.added,
            removed: registered.removed,
            version,
        }
    }
}

/// What [`register`] made of the bindings of an address.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Registered {
    /// All bindings of the address, to be stored in place of those that were.
    pub bindings: Vec<Binding>,
    /// Bindings of contacts that were not bound before.
    pub added: usize,
    /// Bindings that are gone.
    pub removed: usize,
}

/// Says why a change was not applied. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A binding was last changed under the same Call-ID by a request with the same or a higher CSeq (RFC 3261 §10.3
    /// steps 6 and 7: "the update MUST be aborted and the request fails").
    #[error("the CSeq {cseq} is not higher than {stored}, the last one of this Call-ID")]
    OutOfOrder {
        /// CSeq of the request.
        cseq: u32,
        /// CSeq stored with the binding.
        stored: u32,
    },
    /// The address would have more contacts than it may.
    #[error("more than {limit} contacts for one address")]
    TooManyContacts {
        /// Contacts that an address may have.
        limit: usize,
    },
    /// The store is full, and the change would add to it.
    #[error("the location store is full")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Says that a store could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("the location store failed: {0}")]
pub struct StoreError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl StoreError {
    /// Wraps what went wrong.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// A part of all bindings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Page {
    /// Addresses and their bindings.
    pub addresses: Vec<(AddressOfRecord, Vec<Binding>)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

impl Page {
    /// Makes a page.
    pub fn new(addresses: Vec<(AddressOfRecord, Vec<Binding>)>, next: Option<Cursor>) -> Self {
        Self { addresses, next }
    }
}

/// The place between two pages. Its text means something to the store that made it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Box<str>);

impl Cursor {
    /// Makes a cursor of a store's own text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The store's own text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A moment, in milliseconds since the UNIX epoch.
///
/// The engine's clock starts at the wall time and goes on by the monotonic clock, so a step of the wall clock neither
/// lengthens nor ends a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment that many milliseconds after the UNIX epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the UNIX epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `duration` later, or the last one that there is.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The time from this moment to a later one; zero when that is past.
    pub fn until(self, later: Timestamp) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(millis(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH
            .checked_add(Duration::from_millis(time.0))
            .unwrap_or(UNIX_EPOCH)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
