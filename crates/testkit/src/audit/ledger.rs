//! What an auditor remembers.

use super::dialogs::Dialogs;
use super::{Rule, Sighting, Violation};
use bytes::Bytes;
use sipora_message::{Headers, Method, Request, Via};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) is_off: bool,
    pub(super) excused: HashSet<IpAddr>,
    pub(super) waived: HashSet<Rule>,
    pub(super) violations: Vec<Violation>,
    pub(super) seen: u64,
    pub(super) dialogs: Dialogs,
    records: HashMap<Key, Record>,
    /// What a host used a branch for first. Two hosts of a test may have the same seed, and so the same branches.
    branches: HashMap<(String, IpAddr), Key>,
    /// The 2xx of INVITEs: Call-ID and CSeq number.
    accepted: HashSet<(String, u32)>,
    order: VecDeque<Key>,
}

/// Names a transaction: branch, sent-by and method (RFC 3261 §17.2.3), in lower case but for the method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) branch: String,
    sent_by: String,
    pub(super) method: Method,
}

impl Key {
    pub(super) fn new(via: &Via<'_>, method: &Method) -> Option<Self> {
        let port = via.port().map(|port| format!(":{port}"));
        Some(Self {
            branch: via.branch()?.to_ascii_lowercase(),
            sent_by: format!("{}{}", via.host_str(), port.unwrap_or_default()).to_ascii_lowercase(),
            method: method.clone(),
        })
    }

    pub(super) fn of_method(&self, method: Method) -> Self {
        Self {
            method,
            ..self.clone()
        }
    }

    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.branch == other.branch && self.sent_by == other.sent_by
    }
}

/// A request that was seen, and what was answered to it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) request: Request,
    pub(super) source: IpAddr,
    pub(super) destination: SocketAddr,
    pub(super) is_provisional: bool,
    pub(super) finals: Vec<Final>,
}

#[derive(Debug, Clone)]
pub(super) struct Final {
    pub(super) status: u16,
    pub(super) to_tag: Option<String>,
    pub(super) bytes: Bytes,
}

impl Ledger {
    pub(super) fn object(&mut self, sighting: &Sighting<'_>, rule: Rule, reason: String) {
        let is_excused = self.excused.contains(&sighting.source.ip());
        if is_excused || self.waived.contains(&rule) || self.violations.len() >= MOST_VIOLATIONS {
            return;
        }
        let line = sighting.bytes.split(|byte| *byte == b'\r').next();
        self.violations.push(Violation {
            at: sighting.at,
            rule,
            reason,
            source: sighting.source,
            destination: sighting.destination,
            first_line: String::from_utf8_lossy(line.unwrap_or_default()).into_owned(),
        });
    }

    pub(super) fn record(&self, key: &Key) -> Option<&Record> {
        self.records.get(key)
    }

    pub(super) fn record_mut(&mut self, key: &Key) -> Option<&mut Record> {
        self.records.get_mut(key)
    }

    /// Finds the request that an ACK of a refusal or a CANCEL is for.
    pub(super) fn named_by(&self, key: &Key, source: IpAddr) -> Option<&Record> {
        let first = self.first_use(key, source)?;
        self.records.get(first).filter(|_| first.is_beside(key))
    }

    /// Says what a branch was used for first.
    pub(super) fn first_use(&self, key: &Key, source: IpAddr) -> Option<&Key> {
        self.branches.get(&(key.branch.clone(), source))
    }

    pub(super) fn begin(&mut self, key: Key, record: Record) {
        if self.order.len() >= MOST_RECORDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
        self.branches
            .entry((key.branch.clone(), record.source))
            .or_insert_with(|| key.clone());
        self.order.push_back(key.clone());
        self.records.insert(key, record);
    }

    fn forget(&mut self, key: &Key) {
        let Some(record) = self.records.remove(key) else {
            return;
        };
        if let Some(call) = call(record.request.headers()) {
            self.accepted.remove(&call);
        }
        let used = (key.branch.clone(), record.source);
        if self.branches.get(&used) == Some(key) {
            self.branches.remove(&used);
        }
    }

    pub(super) fn accept(&mut self, headers: Headers<'_>) {
        self.accepted.extend(call(headers));
    }

    pub(super) fn is_accepted(&self, headers: Headers<'_>) -> bool {
        call(headers).is_some_and(|call| self.accepted.contains(&call))
    }
}

fn call(headers: Headers<'_>) -> Option<(String, u32)> {
    let number = headers.cseq().ok()?.number;
    Some((headers.call_id().ok()?.to_owned(), number))
}

/// Transactions that are remembered.
const MOST_RECORDS: usize = 100_000;

/// Broken rules that are remembered.
const MOST_VIOLATIONS: usize = 1_000;
