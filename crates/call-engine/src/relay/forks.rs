//! The requests that are being relayed, and the branches of each.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use sipora_message::{Request, Uri};
use sipora_transaction_core::{IncomingRequest, RequestId};

use super::context::{Final, ResponseContext};
use crate::AddressOfRecord;

/// Holds every request that waits for the answers of contacts.
#[derive(Default)]
pub(crate) struct Forks {
    forks: HashMap<u64, Fork>,
    branches: HashMap<RequestId, Branch>,
    /// Address and branch of every request in `forks`: what comes back with that branch among its Vias runs in circles.
    passing: HashSet<(AddressOfRecord, Box<str>)>,
    /// Of the requests in `forks`.
    held: Held,
    /// The same, sender by sender.
    senders: HashMap<Sender, Held>,
    last: u64,
}

/// Who is to get a share of the room, and no more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// Who has proven it.
    User(AddressOfRecord),
    /// Whoever is there, where nobody proves anything.
    Source(IpAddr),
}

/// Says why a request may not wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Too many wait.
    ForAnybody,
    /// Too many of this sender's wait.
    ForThisSender,
}

/// What requests hold that wait.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    requests: usize,
    /// With those of their copies.
    bytes: usize,
}

impl Held {
    /// `limit` requests have room if they are no larger than requests are. One that is larger than all of that together has
    /// to be alone.
    fn has_room(&self, limit: usize, bytes: usize) -> bool {
        let all = self.bytes.saturating_add(bytes);
        let has_bytes = self.bytes == 0 || all <= limit.saturating_mul(USUAL_BYTES);
        self.requests < limit && has_bytes
    }

    fn add(&mut self, bytes: usize) {
        self.requests = self.requests.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn take_away(&mut self, bytes: usize) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// A request that was copied to contacts.
pub(crate) struct Fork {
    pub(crate) incoming: IncomingRequest,
    mark: (AddressOfRecord, Box<str>),
    context: ResponseContext,
    bytes: usize,
    sender: Sender,
}

/// One copy on its way.
pub(crate) struct Branch {
    fork: u64,
    /// What is tried, once, should the flow turn out to be gone.
    pub(crate) fallback: Option<(Request, Uri)>,
    pub(crate) deadline: Instant,
}

impl Branch {
    pub(crate) fn new(fallback: Option<(Request, Uri)>, deadline: Instant) -> Self {
        Self {
            fork: 0,
            fallback,
            deadline,
        }
    }
}

impl Forks {
    pub(crate) fn len(&self) -> usize {
        self.forks.len()
    }

    /// Says whether one more request of a sender may wait. The last of the room is kept from those who have their share.
    pub(crate) fn check_room(
        &self,
        limit: usize,
        sender: &Sender,
        bytes: usize,
    ) -> Result<(), NoRoom> {
        if !self.held.has_room(limit, bytes) {
            return Err(NoRoom::ForAnybody);
        }
        let share = (limit / SHARES).max(LEAST_SHARE);
        let held = self.senders.get(sender).copied().unwrap_or_default();
        match held.has_room(share, bytes) {
            true => Ok(()),
            false => Err(NoRoom::ForThisSender),
        }
    }

    /// Says whether a request has come through here on its way to the same address, and is still on that way.
    ///
    /// It is then a loop, and not a spiral, which comes back for another address (RFC 3261 §16.3 step 4), nor a request
    /// that was forked before it came here, whose copies have no branch of each other among their Vias. RFC 5393 §4.2: who
    /// forks MUST detect loops.
    pub(crate) fn is_loop(&self, address: &AddressOfRecord, request: &Request) -> bool {
        let below = request.headers().vias().skip(1).flatten();
        let mut branches = below.filter_map(|via| via.branch());
        branches.any(|branch| self.passing.contains(&(address.clone(), branch.into())))
    }

    /// Takes a request whose copies have left.
    pub(crate) fn begin(
        &mut self,
        incoming: IncomingRequest,
        address: AddressOfRecord,
        sender: Sender,
        branches: Vec<(RequestId, Branch)>,
    ) {
        let branch = incoming.request.headers().via();
        let branch = branch.ok().and_then(|via| via.branch()).unwrap_or_default();
        let mark = (address, branch.into());
        self.last = self.last.wrapping_add(1);
        self.passing.insert(mark.clone());
        let context = ResponseContext::new(branches.len());
        let bytes = size(&incoming.request, branches.len());
        self.held.add(bytes);
        self.senders.entry(sender.clone()).or_default().add(bytes);
        self.forks.insert(
            self.last,
            Fork {
                incoming,
                mark,
                context,
                bytes,
                sender,
            },
        );
        for (id, branch) in branches {
            self.put(id, branch, self.last);
        }
    }

    /// Takes a branch that goes on under another name.
    pub(crate) fn put_back(&mut self, id: RequestId, branch: Branch) {
        let fork = branch.fork;
        self.put(id, branch, fork);
    }

    fn put(&mut self, id: RequestId, branch: Branch, fork: u64) {
        self.branches.insert(id, Branch { fork, ..branch });
    }

    /// Gives the request that a branch is a copy of.
    pub(crate) fn incoming(&self, id: RequestId) -> Option<&IncomingRequest> {
        let branch = self.branches.get(&id)?;
        self.forks.get(&branch.fork).map(|fork| &fork.incoming)
    }

    pub(crate) fn take(&mut self, id: RequestId) -> Option<Branch> {
        self.branches.remove(&id)
    }

    /// Tells the context of a branch that was taken out how it ended. Gives what has to go back, and to which request.
    pub(crate) fn end(
        &mut self,
        branch: Branch,
        tell: impl FnOnce(&mut ResponseContext) -> Option<Final>,
    ) -> Option<(IncomingRequest, Final)> {
        let fork = self.forks.get_mut(&branch.fork)?;
        let given = tell(&mut fork.context);
        if !fork.context.is_over() {
            return given.map(|given| (fork.incoming.clone(), given));
        }
        let fork = self.forks.remove(&branch.fork)?;
        self.passing.remove(&fork.mark);
        self.held.take_away(fork.bytes);
        if let Some(held) = self.senders.get_mut(&fork.sender) {
            held.take_away(fork.bytes);
            if held.requests == 0 {
                self.senders.remove(&fork.sender);
            }
        }
        self.trim();
        given.map(|given| (fork.incoming, given))
    }

    /// Gives memory back that a burst took.
    fn trim(&mut self) {
        if self.forks.is_empty() && self.forks.capacity() > KEPT {
            self.forks.shrink_to(KEPT);
            self.branches.shrink_to(KEPT);
            self.passing.shrink_to(KEPT);
            self.senders.shrink_to(KEPT);
        }
    }
}

/// Bytes that a request and its copies hold.
pub(crate) fn size(request: &Request, copies: usize) -> usize {
    let each = request.as_bytes().len();
    each.saturating_mul(copies.saturating_add(1))
}

/// Bytes that a request and its copies may hold where all are pending that may be: a message of a datagram, on ten devices.
const USUAL_BYTES: usize = 16 * 1024;
/// One sender holds a tenth of the room at most: ten have to conspire to keep others out.
const SHARES: usize = 10;
/// Where there is room for few, a share is not less than what a person sends in haste.
const LEAST_SHARE: usize = 10;
/// Entries that room is kept for.
const KEPT: usize = 1024;
