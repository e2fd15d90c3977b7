//! The requests that are being relayed, and the branches of each.

use std::collections::{HashMap, HashSet};
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
    /// Bytes of the requests in `forks` and of their copies.
    bytes: usize,
    last: u64,
}

/// A request that was copied to contacts.
pub(crate) struct Fork {
    pub(crate) incoming: IncomingRequest,
    mark: (AddressOfRecord, Box<str>),
    context: ResponseContext,
    bytes: usize,
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

    /// Says whether one more request may wait: `limit` requests do, if they are no larger than requests are. One that is
    /// larger than all of that together has to be alone.
    pub(crate) fn has_room(&self, limit: usize, bytes: usize) -> bool {
        let all = self.bytes.saturating_add(bytes);
        let has_bytes = self.bytes == 0 || all <= limit.saturating_mul(USUAL_BYTES);
        self.len() < limit && has_bytes
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
        branches: Vec<(RequestId, Branch)>,
    ) {
        let branch = incoming.request.headers().via();
        let branch = branch.ok().and_then(|via| via.branch()).unwrap_or_default();
        let mark = (address, branch.into());
        self.last = self.last.wrapping_add(1);
        self.passing.insert(mark.clone());
        let context = ResponseContext::new(branches.len());
        let bytes = size(&incoming.request, branches.len());
        self.bytes = self.bytes.saturating_add(bytes);
        self.forks.insert(
            self.last,
            Fork {
                incoming,
                mark,
                context,
                bytes,
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
        self.bytes = self.bytes.saturating_sub(fork.bytes);
        self.trim();
        given.map(|given| (fork.incoming, given))
    }

    /// Gives memory back that a burst took.
    fn trim(&mut self) {
        if self.forks.is_empty() && self.forks.capacity() > KEPT {
            self.forks.shrink_to(KEPT);
            self.branches.shrink_to(KEPT);
            self.passing.shrink_to(KEPT);
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
/// Entries that room is kept for.
const KEPT: usize = 1024;
