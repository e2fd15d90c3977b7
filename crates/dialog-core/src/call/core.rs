//! [`Calls`]: every call of one endpoint, without I/O and without a clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sipora_message::{Method, PrintedResponse, RAck, Request, Response, StatusCode, Uri};
use sipora_transaction_core::{IdSource, ServerTransactionId, Target};
use sipora_transport::Flow;

use super::client::InviteClient;
use super::event::{CallEnd, CallError, CallEvent};
use super::handover::{Acknowledging, Detached};
use super::offered::Offered;
use super::outside::Outside;
use super::reason;
use super::refer::{ReferId, Referral};
use super::replacing::{Related, Replacing};
use super::server::{Due, InviteServer};
use super::session::{Session, SessionState};
use super::shards::first_number;
use super::timer::SessionTimer;
use super::update::Updating;
use super::{ALLOW, CallConfig, CallMetrics};
use crate::numbered::Numbered;
use crate::{ApiError, Authorizer, Body};

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

/// One call: an INVITE, the dialogs that came of it, and what goes on in them.
pub(super) struct Call {
    pub(super) local_tag: Box<str>,
    /// We sent the INVITE that began it: we own the Call-ID (RFC 3261 §14.1), and may end early dialogs with BYE (§15).
    pub(super) is_caller: bool,
    /// Our Contact, as it is printed.
    pub(super) contact: Box<str>,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    /// Its dialogs: several early ones, at most one that is confirmed.
    pub(super) sessions: Vec<Session>,
    /// Our INVITE, until it has its final answer and that its ACK.
    pub(super) client: Option<ExchangeKey>,
    /// The peer's INVITEs: at most one without final answer, and those whose ACK is still to come.
    pub(super) servers: Vec<InviteServer>,
    /// Requests of the application's without answer.
    pub(super) asking: u8,
    /// It is to end as soon as it may: there is no ACK yet (§15).
    pub(super) hangs_up: bool,
    /// A re-INVITE or UPDATE that met the peer's, and when it is sent again.
    pub(super) glare: Option<Box<Glare>>,
    /// An offer of the peer's in a PRACK or UPDATE, until the application answers it.
    pub(super) offered: Option<Box<Offered>>,
    /// Our UPDATE, until it has its final answer.
    pub(super) updating: Option<Box<Updating>>,
    /// An offer has been answered since the last re-INVITE, of either side, began (RFC 6141 §3.3).
    pub(super) has_changed: bool,
    /// Reliable provisional answers that we have acknowledged, and whose PRACK has no answer yet.
    pub(super) pracks: u8,
    /// A reliable provisional answer of ours whose PRACK may still come, after the ACK.
    pub(super) late_prack: Option<Box<RAck>>,
    /// The connection that the peer came by, with nobody between.
    pub(super) flow: Option<Box<Flow>>,
    /// It had one in another process, and takes that of the peer's next request.
    pub(super) wants_flow: bool,
    /// What is acknowledged once more, for another process.
    pub(super) acknowledging: Option<Box<Acknowledging>>,
    /// How long its session lasts, where that is limited.
    pub(super) timer: Option<Box<SessionTimer>>,
    /// It is no call but a REFER outside of dialogs.
    pub(super) outside: Option<Box<Outside>>,
    /// What it takes the place of once it is accepted.
    pub(super) replaces: Option<Box<Replacing>>,
    /// When our INVITE has expired (RFC 3261 §13.2.1).
    pub(super) expires: Option<Instant>,
    /// How it ends, where that is decided before it is over.
    pub(super) end: Option<Box<CallEnd>>,
    /// Why we end it: the value of Reason (RFC 3326).
    pub(super) reason: Option<Box<str>>,
    alarm: Option<Instant>,
}

pub(super) struct Glare {
    pub(super) at: Instant,
    pub(super) body: Option<Body>,
    pub(super) count: u8,
    /// It refreshes the session and changes nothing.
    pub(super) is_refresh: bool,
    /// It was an UPDATE, in the dialog with this tag of the peer's.
    pub(super) update: Option<Box<str>>,
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
                Due::Expired => return self.expired(key),
                Due::NotPracked => return self.not_pracked(key),
                Due::GivesUp => return self.rang_too_long(key),
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
            return self.refuse_offered(key, StatusCode::SERVER_TIMEOUT);
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

    /// Counts an INFO or MESSAGE that nobody had room for.
    /// A call came that nobody has room for.
    pub(crate) fn call_refused(&mut self) {
        self.metrics.refused_for_lack_of_room += 1;
    }

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

impl Call {
    pub(super) fn new(is_caller: bool, local_tag: &str, contact: String) -> Self {
        Self {
            local_tag: local_tag.into(),
            is_caller,
            contact: contact.into(),
            authorizer: None,
            sessions: Vec::new(),
            client: None,
            servers: Vec::new(),
            asking: 0,
            hangs_up: false,
            glare: None,
            offered: None,
            updating: None,
            has_changed: false,
            pracks: 0,
            late_prack: None,
            flow: None,
            wants_flow: false,
            acknowledging: None,
            timer: None,
            outside: None,
            replaces: None,
            expires: None,
            end: None,
            reason: None,
            alarm: None,
        }
    }

    /// Says how it ends, unless that is decided already.
    pub(super) fn ends_as(&mut self, end: CallEnd) {
        self.end.get_or_insert_with(|| Box::new(end));
    }

    pub(super) fn session(&mut self, remote_tag: &str) -> Option<&mut Session> {
        let matches = |session: &&mut Session| session.remote_tag() == remote_tag;
        self.sessions.iter_mut().find(matches)
    }

    /// The dialog that is confirmed.
    pub(super) fn confirmed(&mut self) -> Option<&mut Session> {
        self.sessions
            .iter_mut()
            .find(|session| session.is_confirmed())
    }

    /// The dialog that is confirmed, or the only early one.
    pub(super) fn only_session(&mut self) -> Option<&mut Session> {
        let at = self.sessions.iter().position(Session::is_confirmed);
        match (at, self.sessions.len()) {
            (Some(at), _) => self.sessions.get_mut(at),
            (None, 1) => self.sessions.first_mut(),
            _ => None,
        }
    }

    /// The peer has had an answer to its INVITE that makes a dialog.
    pub(super) fn has_answered(&self) -> bool {
        let mut servers = self.servers.iter();
        !servers.any(|server| server.is_first && server.is_silent())
    }

    /// It has a dialog that is confirmed, and no BYE is on its way.
    pub(super) fn is_up(&self) -> bool {
        self.sessions.iter().any(Session::is_confirmed)
    }

    /// It has not been accepted, and may be.
    pub(super) fn is_to_come(&self) -> bool {
        let mut sessions = self.sessions.iter();
        self.end.is_none() && sessions.all(|session| session.state == SessionState::Early)
    }

    pub(super) fn has_early(&self) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|session| session.state == SessionState::Early)
    }

    /// The peer's INVITE that has no final answer.
    pub(super) fn pending_server(&mut self) -> Option<&mut InviteServer> {
        self.servers.iter_mut().find(|server| server.is_pending())
    }

    /// Says whether an INVITE of the peer's keeps offers out of UPDATEs: one without an offer, to which we shall make one, or one
    /// with a reliable provisional answer that describes and has no PRACK yet (RFC 6337 §4.3, UAC-IU, UAS-IsU).
    pub(super) fn has_unsettled_invite(&self) -> bool {
        let mut servers = self.servers.iter();
        servers.any(|server| {
            let reliable = server.reliable.as_ref();
            let holds = reliable.is_some_and(|reliable| reliable.holds_2xx());
            holds || (server.is_pending() && server.owes_offer())
        })
    }

    pub(super) fn unacknowledged(&self) -> bool {
        self.servers.iter().any(|server| !server.is_pending())
    }

    /// Where a request of its dialogs goes: by its route set, or back over the connection that the peer came by, since who
    /// sits behind a NAT or in a browser can be reached in no other way.
    pub(super) fn way(&self, next_hop: &Uri) -> (Target, Option<Uri>) {
        match &self.flow {
            Some(flow) => (Target::Flow(**flow), Some(next_hop.clone())),
            None => (Target::Uri(next_hop.clone()), None),
        }
    }

    pub(super) fn add_session(&mut self, session: Session) {
        // Most calls have one; four, which a vector begins with, are most of what a call holds.
        self.sessions.reserve_exact(1);
        self.sessions.push(session);
    }

    pub(super) fn add_server(&mut self, server: InviteServer) {
        self.servers.reserve_exact(1);
        self.servers.push(server);
    }

    /// A call that is up holds no more than it needs: it is so for most of its life.
    fn trim(&mut self, answers_refreshes: bool) {
        if !answers_refreshes && self.timer.is_none() && self.servers.is_empty() {
            let up = self.sessions.iter_mut().filter(|it| it.is_confirmed());
            up.for_each(|session| session.said = None);
        }
        if self.servers.is_empty() && self.servers.capacity() > 0 {
            self.servers = Vec::new();
        }
        if self.sessions.len() == 1 && self.sessions.capacity() > 1 {
            self.sessions.shrink_to_fit();
        }
    }

    fn is_over(&self) -> bool {
        let is_open = self.outside.as_ref().is_some_and(|it| it.is_open());
        let is_empty = self.sessions.is_empty() && self.servers.is_empty();
        is_empty && self.client.is_none() && !is_open
    }

    fn deadline(&self) -> Option<Instant> {
        let servers = self.servers.iter().map(InviteServer::deadline);
        let glare = self.glare.as_ref().map(|glare| glare.at);
        let refers = self.sessions.iter().filter_map(Session::refer_deadline);
        let offered = self.offered.as_ref().map(|offered| offered.gives_up);
        let timer = self.timer.as_ref().map(|timer| timer.at);
        let again = self.acknowledging.as_ref().map(|again| again.next);
        let outside = self.outside.as_ref().and_then(|it| it.deadline());
        let ours = [glare, offered, timer, again, self.expires, outside];
        servers
            .chain(ours.into_iter().flatten())
            .chain(refers)
            .min()
    }
}
