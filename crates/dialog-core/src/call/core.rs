//! [`Calls`]: every call of one endpoint, without I/O and without a clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sipora_message::{Method, PrintedResponse, Request, Response, StatusCode, Uri};
use sipora_transaction_core::{IdSource, ServerTransactionId, Target};

use super::client::InviteClient;
use super::event::{CallEnd, CallError, CallEvent};
use super::handover::Detached;
use super::outside::Outside;
use super::reason;
use super::record::Call;
use super::refer::{ReferId, Referral};
use super::replacing::Related;
use super::server::Due;
use super::session::Session;
use super::ways::first_number;
use super::{ALLOW, CallConfig, CallMetrics};
use crate::numbered::Numbered;
use crate::{ApiError, Authorizer};

/// Names a call. Never used twice by one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey(pub(super) u64);

/// Names a request of a call's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ExchangeKey(pub(super) u64);

/// What the core wants done, in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a request; an ACK has no exchange. `fallback` is where it goes when the target's flow is gone.
    Send {
        exchange: Option<ExchangeKey>,
        request: Request,
        target: Target,
        fallback: Option<Uri>,
    },
    /// Cancel an INVITE, for this reason.
    Cancel(ExchangeKey, Option<Box<str>>),
    /// Answer a request.
    Respond(ServerTransactionId, PrintedResponse),
    /// Tell the application of a request if there is room, and answer it so.
    Pass {
        call: CallKey,
        event: CallEvent,
        transaction: ServerTransactionId,
        taken: PrintedResponse,
        full: PrintedResponse,
    },
    /// What became of a request that the application has asked for.
    Outcome(ExchangeKey, Result<Response, ApiError>),
    /// Somebody calls.
    Incoming(CallKey, Request, Related),
    /// Somebody refers us, outside of dialogs.
    Referred(CallKey, Box<Referral>, Related),
    /// Tell the application.
    Event(CallKey, CallEvent),
    /// A call ends, since another has taken its place.
    Replaced { old: CallKey, by: CallKey },
}

/// Holds every call of one endpoint.
///
/// What comes in passes `handle_request`, `handle_cancelled`, `handle_response`, `handle_failed`, `handle_ended` and
/// `handle_timeout`; after each of them, and after every wish of an application, `poll_output` says what to do.
pub(crate) struct Calls {
    pub(super) config: CallConfig,
    pub(super) ids: IdSource,
    /// What we understand in a call.
    pub(super) allow: Box<str>,
    /// The extensions that we understand.
    pub(super) supported: Box<str>,
    /// The packages of INFO that we take.
    pub(super) recv_info: Box<str>,
    /// Dialogs whose calls have ended, the newest last.
    pub(super) ended: VecDeque<u64>,
    /// Dialogs whose calls go on elsewhere.
    pub(super) detached: Detached,
    pub(super) calls: Numbered<CallKey, Box<Call>>,
    /// Our tags. The peer's tag, which differs where an INVITE was forked, is looked for in the call.
    pub(super) by_tag: HashMap<Box<str>, CallKey>,
    pub(super) exchanges: Numbered<ExchangeKey, Exchange>,
    /// The peers' INVITEs without final answer.
    pub(super) pending: Numbered<ServerTransactionId, CallKey>,
    alarms: BTreeSet<(Instant, CallKey)>,
    /// How many of `calls` are REFERs outside of dialogs.
    pub(super) refers: Refers,
    pub(super) outputs: VecDeque<Output>,
    next: u64,
    pub(super) metrics: CallMetrics,
}

/// REFERs outside of dialogs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refers {
    pub(super) ours: usize,
    pub(super) theirs: usize,
}

impl Refers {
    fn of(&mut self, outside: &Outside) -> &mut usize {
        match outside {
            Outside::Ours(_) => &mut self.ours,
            Outside::Theirs => &mut self.theirs,
        }
    }
}

/// A request of ours without its final answer, or an INVITE that may still be accepted once more.
pub(super) enum Exchange {
    Invite(Box<InviteClient>),
    Within(Box<Within>),
}

/// A request within a dialog, other than INVITE.
pub(super) struct Within {
    pub(super) call: CallKey,
    pub(super) tag: Box<str>,
    pub(super) method: Method,
    pub(super) request: Request,
    pub(super) cseq: u32,
    pub(super) retries: u8,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    /// What the application knows it by.
    pub(super) asked: Option<ExchangeKey>,
    /// The REFER that it is, or tells of.
    pub(super) refer: Option<ReferId>,
}

impl Calls {
    pub(crate) fn new(config: CallConfig, ids: IdSource) -> Self {
        let mut allow = ALLOW.to_owned();
        if config.takes_messages {
            allow += ", MESSAGE";
        }
        if config.knows_refer() {
            allow += ", REFER, SUBSCRIBE";
        }
        Self {
            allow: allow.into(),
            supported: config.supported().join(", ").into(),
            ended: VecDeque::new(),
            detached: Detached::default(),
            recv_info: config.info_packages.join(", ").into(),
            config,
            ids,
            calls: Numbered::default(),
            by_tag: HashMap::new(),
            exchanges: Numbered::default(),
            pending: Numbered::default(),
            alarms: BTreeSet::new(),
            refers: Refers::default(),
            outputs: VecDeque::new(),
            next: 0,
            metrics: CallMetrics::default(),
        }
    }

    /// Makes these the calls of one shard of several.
    pub(crate) fn of_shard(mut self, shard: usize, shards: usize) -> Self {
        self.next = first_number(shard);
        let shards = shards.max(1);
        self.config.max_calls = self.config.max_calls.div_ceil(shards);
        self.config.max_refers_outside = self.config.max_refers_outside.div_ceil(shards);
        self
    }

    pub(crate) fn config(&self) -> &CallConfig {
        &self.config
    }

    /// What is to be done next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When `handle_timeout` wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    pub(crate) fn metrics(&self) -> CallMetrics {
        let refers = self.refers.ours + self.refers.theirs;
        CallMetrics {
            calls: self.calls.len().saturating_sub(refers) as u64,
            refers_outside: refers as u64,
            exchanges: self.exchanges.len() as u64,
            ..self.metrics
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.alarms.first() {
            if at > now {
                return;
            }
            self.alarms.pop_first();
            if let Some(call) = self.calls.get_mut(&key) {
                call.alarm = None;
                self.call_timeout(now, key);
                self.settle(key);
            }
        }
    }

    fn call_timeout(&mut self, now: Instant, key: CallKey) {
        let t2 = self.config.t2;
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let mut at = 0;
        while let Some(server) = call.servers.get_mut(at) {
            at += 1;
            match server.due(now, t2) {
                Due::Nothing => {}
                Due::Repeat(response) => {
                    let transaction = server.transaction;
                    self.outputs
                        .push_back(Output::Respond(transaction, response));
                }
                Due::Extend(status) => return self.extend_ringing(now, key, status),
                Due::Expired => return self.expired(now, key),
                Due::NotPracked => return self.not_pracked(key),
                Due::GivesUp => return self.rang_too_long(now, key),
                Due::NotAcknowledged => return self.not_acknowledged(key, at - 1),
            }
        }
        let due = |session: &&Session| session.refer_deadline().is_some_and(|at| at <= now);
        let due = call.sessions.iter().filter(due);
        let due: Vec<Box<str>> = due.map(|session| session.remote_tag().into()).collect();
        for tag in due {
            self.referring_timeout(now, key, &tag);
            self.referred_timeout(now, key, &tag);
        }
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        if call.expires.take_if(|at| *at <= now).is_some() {
            // §13.2.1: "the UAC core SHOULD generate a CANCEL request".
            if let Some(exchange) = call.client {
                self.cancel(exchange, Some(reason::UNANSWERED.into()));
            }
            return;
        }
        if call
            .offered
            .as_ref()
            .is_some_and(|offered| offered.gives_up <= now)
        {
            // RFC 3311 §5.2: who cannot answer without asking somebody "SHOULD reject the request with a 504".
            self.refuse_offered(key, StatusCode::SERVER_TIMEOUT);
            return self.after_prack(now, key);
        }
        if let Some(glare) = call.glare.take_if(|glare| glare.at <= now) {
            self.again_after_glare(key, *glare);
        }
        self.outside_timeout(now, key);
        self.acknowledge_again(now, key);
        self.timer_due(now, key);
    }

    pub(super) fn next_call(&mut self) -> CallKey {
        self.next += 1;
        CallKey(self.next)
    }

    pub(super) fn next_exchange(&mut self) -> ExchangeKey {
        self.next += 1;
        ExchangeKey(self.next)
    }

    /// A tag that no call has.
    pub(super) fn insert(&mut self, key: CallKey, call: Call) {
        match &call.outside {
            Some(outside) => *self.refers.of(outside) += 1,
            None => self.metrics.begun += 1,
        }
        self.by_tag.insert(call.local_tag.clone(), key);
        self.calls.insert(key, Box::new(call));
    }

    pub(super) fn tell(&mut self, key: CallKey, event: CallEvent) {
        self.outputs.push_back(Output::Event(key, event));
    }

    /// Brings the alarm of a call up to date, and lets go of a call that is over.
    pub(super) fn settle(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        if call.is_over() {
            self.refuse_offered(key, StatusCode::REQUEST_TERMINATED);
            return self.remove(key);
        }
        call.trim(self.config.answers_refreshes);
        let next = call.deadline();
        if next != call.alarm {
            if let Some(old) = call.alarm.take() {
                self.alarms.remove(&(old, key));
            }
            if let Some(next) = next {
                self.alarms.insert((next, key));
            }
            call.alarm = next;
        }
    }

    fn remove(&mut self, key: CallKey) {
        let Some(mut call) = self.calls.remove(&key) else {
            return;
        };
        self.by_tag.remove(&call.local_tag);
        if let Some(alarm) = call.alarm {
            self.alarms.remove(&(alarm, key));
        }
        let end = call.end.take().map_or(CallEnd::Cancelled, |end| *end);
        match &call.outside {
            Some(outside) => *self.refers.of(outside) -= 1,
            None => self.metrics.ended += 1,
        }
        self.tell(key, CallEvent::Ended(end));
        // A busy hour must not be paid for ever.
        if self.calls.capacity() > 64 && self.calls.len() < self.calls.capacity() / 8 {
            self.calls.shrink_to_fit();
            self.by_tag.shrink_to_fit();
        }
    }

    /// Counts a call that nobody has room for.
    pub(crate) fn call_refused(&mut self) {
        self.metrics.refused_for_lack_of_room += 1;
    }

    /// Counts an INFO or MESSAGE that nobody had room for.
    pub(crate) fn message_refused(&mut self) {
        self.metrics.messages_refused += 1;
    }

    /// Drops the exchange of a request that is over.
    pub(super) fn forget(&mut self, key: ExchangeKey) {
        self.exchanges.remove(&key);
        if self.exchanges.capacity() > 64 && self.exchanges.len() < self.exchanges.capacity() / 8 {
            self.exchanges.shrink_to_fit();
        }
    }

    pub(super) fn call(&mut self, key: CallKey) -> Result<&mut Call, CallError> {
        self.calls
            .get_mut(&key)
            .map(Box::as_mut)
            .ok_or(CallError::Gone)
    }
}
