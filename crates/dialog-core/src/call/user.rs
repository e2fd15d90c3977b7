//! The transaction user that runs [`Calls`] inside an endpoint.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{
    HeaderName, Host, Method, Reason, Request, Response, Scheme, StatusCode, Uri, UriRef,
};
use sipora_transaction_core::{
    Claim, Context, Event, IncomingRequest, RequestId, RequestOptions, Target, User,
};
use sipora_transport::{Destination, Flow, Transport};
use tokio::sync::{mpsc, oneshot};

use super::core::{CallKey, Calls, ExchangeKey, Output};
use super::event::{CallError, CallEvent, Invite};
use super::inbox::{Feeder, Inbox};
use super::outside_api::{OfferedRefer, OpenRefer};
use super::refer::{Refer, ReferAnswer, ReferId};
use super::referring::is_granted;
use super::rejection::Rejection;
use super::reliable::Answer;
use super::replacing::Related;
use super::request::CallRequest;
use super::shards::{Elsewhere, Letter, Ways};
use super::state::CallState;
use crate::numbered::Numbered;
use crate::{ApiError, Authorizer, Body, DialogId};

/// Claims every INVITE, and whatever stands in the dialog of a call.
pub(super) struct CallUser {
    pub(super) core: Calls,
    requests: Numbered<RequestId, Sent>,
    /// INVITEs that may be cancelled.
    invites: Numbered<ExchangeKey, RequestId>,
    links: Numbered<CallKey, Feeder>,
    /// Who waits for the answers to requests within calls.
    asked: Numbered<ExchangeKey, Reply>,
    incoming: mpsc::Sender<Offered>,
    pub(super) refers: mpsc::Sender<OfferedRefer>,
    pub(super) ways: Arc<Ways>,
    pub(super) shard: usize,
    pub(super) elsewhere: Elsewhere,
}

/// A request that was handed to the transaction layer.
#[derive(Debug, Clone, Copy)]
struct Sent {
    exchange: ExchangeKey,
    cseq: u32,
    at: Instant,
}

/// Who waits for the answer to a request.
enum Reply {
    Request(oneshot::Sender<Result<Response, CallError>>),
    Refer(ReferId, oneshot::Sender<Result<ReferAnswer, CallError>>),
}

impl Reply {
    fn send(self, outcome: Result<Response, CallError>) {
        // Who does not wait any more does not want it.
        match self {
            Self::Request(reply) => drop(reply.send(outcome)),
            Self::Refer(id, reply) => drop(reply.send(outcome.map(|response| ReferAnswer {
                id: is_granted(&response).then_some(id),
                response,
            }))),
        }
    }
}

/// A call on its way to an application.
pub(super) struct Offered {
    pub(super) key: CallKey,
    pub(super) invite: Option<Box<Request>>,
    /// None where it names no other call.
    pub(super) related: Option<Box<Related>>,
    pub(super) inbox: Inbox,
}

pub(super) enum Command {
    Invite(Box<Open>),
    Act(CallKey, Act, oneshot::Sender<Result<(), CallError>>),
    Ask(
        CallKey,
        Box<CallRequest>,
        oneshot::Sender<Result<Response, CallError>>,
    ),
    Refer(
        CallKey,
        Box<Refer>,
        oneshot::Sender<Result<ReferAnswer, CallError>>,
    ),
    ReferOutside(Box<OpenRefer>),
    Dialog(CallKey, oneshot::Sender<Result<DialogId, CallError>>),
    Export(CallKey, oneshot::Sender<Result<CallState, CallError>>),
    Detach(CallKey, oneshot::Sender<Result<CallState, CallError>>),
    DetachAll(oneshot::Sender<Vec<CallState>>),
    Restore(Box<Restore>),
    /// Nobody wants these any more.
    End(Vec<CallState>),
    /// Comes from another shard.
    Letter(Box<Letter>),
    /// Looks at what was abandoned, and written.
    Reap,
}

/// What is left to be done when something is dropped.
#[derive(Debug)]
pub(super) enum Left {
    /// The call is hung up.
    Call(CallKey),
    /// A REFER of the peer's is told of, or refused where that is not decided yet.
    Refer(CallKey, ReferId, Last),
}

impl Left {
    /// Where it is done.
    pub(super) fn call(&self) -> CallKey {
        let (Self::Call(key) | Self::Refer(key, ..)) = self;
        *key
    }
}

/// The last word on a REFER.
#[derive(Debug)]
pub(super) enum Last {
    Reported(StatusCode),
    Rejected(StatusCode),
}

pub(super) struct Open {
    pub(super) invite: Invite,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    pub(super) reply: oneshot::Sender<Result<Offered, CallError>>,
}

pub(super) struct Restore {
    pub(super) state: CallState,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    pub(super) reply: oneshot::Sender<Result<Offered, CallError>>,
}

/// What an application wants of a call.
pub(super) enum Act {
    /// And whether it is to be sent reliably.
    Progress(Answer, bool),
    Accept(Option<Body>),
    /// The call may take the place of the one that it names.
    AcceptReplacing(Option<Body>),
    Reject(Rejection),
    Acknowledge(Body),
    AcknowledgeProgress(Box<str>, Body),
    Answer(Body),
    Refuse(StatusCode),
    Reinvite(Option<Body>),
    Reoffer(Body),
    Refresh(Body),
    Update(Option<Box<str>>, Option<Body>),
    EndEarly(Box<str>),
    AcceptRefer(ReferId),
    RejectRefer(ReferId, StatusCode),
    ReportRefer(ReferId, StatusCode),
    HangUp(Option<Reason>),
}

impl CallUser {
    pub(super) fn new(
        core: Calls,
        (incoming, refers): (mpsc::Sender<Offered>, mpsc::Sender<OfferedRefer>),
        ways: Arc<Ways>,
        shard: usize,
    ) -> Self {
        Self {
            core,
            requests: Numbered::default(),
            invites: Numbered::default(),
            links: Numbered::default(),
            asked: Numbered::default(),
            incoming,
            refers,
            ways,
            shard,
            elsewhere: Elsewhere::default(),
        }
    }

    fn open(&mut self, context: &mut Context<'_>, mut open: Box<Open>) {
        if self.has_others() {
            // What comes of the call comes to the shard that its Call-ID leads to.
            let call_id = match open.invite.call_id.take() {
                Some(call_id) => call_id,
                None => self.call_id(context),
            };
            let home = context.home(&call_id);
            open.invite.call_id = Some(call_id);
            if home != self.shard {
                return self.hand_over(home, Command::Invite(open));
            }
        }
        let Open {
            invite,
            authorizer,
            reply,
        } = *open;
        if reply.is_closed() {
            return;
        }
        let now = context.now().instant;
        let key = self.core.invite(now, invite, authorizer);
        self.begun(key, reply);
    }

    /// A Call-ID that leads here: one in as many as there are shards does.
    pub(super) fn call_id(&self, context: &mut Context<'_>) -> String {
        loop {
            let call_id = context.ids().call_id();
            if context.home(call_id.as_str()) == self.shard {
                return call_id.as_str().to_owned();
            }
        }
    }

    fn restore(&mut self, context: &mut Context<'_>, restore: Box<Restore>) {
        let home = context.home(&restore.state.dialog().call_id);
        if home != self.shard {
            return self.hand_over(home, Command::Restore(restore));
        }
        let Restore {
            state,
            authorizer,
            reply,
        } = *restore;
        if reply.is_closed() {
            return;
        }
        let now = context.now().instant;
        let key = self.core.restore(now, state, authorizer);
        self.begun(key, reply);
    }

    /// Gives a call that has begun here to who wanted it.
    fn begun(
        &mut self,
        key: Result<CallKey, CallError>,
        reply: oneshot::Sender<Result<Offered, CallError>>,
    ) {
        match key {
            Ok(key) => {
                let inbox = self.link(key);
                let offered = Offered {
                    key,
                    invite: None,
                    related: None,
                    inbox,
                };
                if reply.send(Ok(offered)).is_err() {
                    let _ = self.core.hang_up(key, None);
                }
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn link(&mut self, key: CallKey) -> Inbox {
        let (feeder, inbox) = Inbox::new();
        self.links.insert(key, feeder);
        inbox
    }

    pub(super) fn act(&mut self, now: Instant, key: CallKey, act: Act) -> Result<(), CallError> {
        match act {
            Act::Progress(answer, reliably) => self.core.progress(now, key, answer, reliably),
            Act::Accept(body) => self.core.accept(now, key, body),
            Act::AcceptReplacing(body) => self.core.accept_replacing(now, key, body),
            Act::Reject(rejection) => self.core.reject(key, &rejection),
            Act::Acknowledge(body) => self.core.acknowledge(key, body),
            Act::AcknowledgeProgress(tag, body) => self.core.acknowledge_progress(key, &tag, &body),
            Act::Answer(body) => self.core.answer_offer(now, key, &body),
            Act::Refuse(status) => self.core.refuse_offer(now, key, status),
            Act::Reinvite(body) => self.core.reinvite(key, body),
            Act::Reoffer(body) => self.core.reoffer(key, body),
            Act::Refresh(body) => self.core.refresh_with(key, body),
            Act::Update(tag, body) => self.core.update(key, tag.as_deref(), body),
            Act::EndEarly(tag) => self.core.end_early(key, &tag),
            Act::AcceptRefer(id) => self.core.accept_refer(now, key, id),
            Act::RejectRefer(id, status) => self.core.reject_refer(now, key, id, status),
            Act::ReportRefer(id, status) => self.core.report_refer(now, key, id, status),
            Act::HangUp(reason) => self.core.hang_up(key, reason.as_ref()),
        }
    }

    fn reap(&mut self, now: Instant) {
        let mut calls = Vec::new();
        // Where it is over already there is nothing to end, and nobody to tell.
        for left in self.ways.way(self.shard).abandoned.take() {
            let _ = match left {
                Left::Call(key) => {
                    calls.push(key);
                    Ok(())
                }
                Left::Refer(key, id, Last::Reported(status)) => {
                    self.core.report_refer(now, key, id, status)
                }
                Left::Refer(key, id, Last::Rejected(status)) => {
                    self.core.reject_refer(now, key, id, status)
                }
            };
        }
        // A call that is dropped with what it has to tell tells it first.
        for key in calls {
            let _ = self.core.abandon(now, key);
        }
    }

    /// Does everything that the core wants done.
    fn drain(&mut self, context: &mut Context<'_>) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Send {
                    exchange,
                    request,
                    target,
                    fallback,
                } => self.send(context, exchange, request, target, fallback),
                Output::Cancel(exchange, reason) => match (self.invites.get(&exchange), reason) {
                    (Some(request), Some(why)) => context.cancel_because(*request, &why),
                    (Some(request), None) => context.cancel(*request),
                    (None, _) => {}
                },
                Output::Respond(transaction, response) => {
                    if context.respond(transaction, response).is_err() {
                        self.core.handle_gone(transaction);
                    }
                }
                Output::Pass {
                    call,
                    event,
                    transaction,
                    taken,
                    full,
                } => {
                    let link = self.links.get_mut(&call);
                    let is_taken = link.is_some_and(|feeder| feeder.offer(event));
                    if !is_taken {
                        self.core.message_refused();
                    }
                    let answer = if is_taken { taken } else { full };
                    // It waits for its answer since just now.
                    let _ = context.respond(transaction, answer);
                }
                Output::Outcome(asked, outcome) => {
                    if let Some(reply) = self.asked.remove(&asked) {
                        reply.send(outcome.map_err(CallError::Failed));
                    }
                }
                Output::Incoming(key, request, related) => self.offer(key, request, related),
                Output::Referred(key, referral, related) => {
                    self.offer_refer(context.now().instant, key, *referral, related);
                }
                Output::Event(key, event) => self.tell(key, event),
                Output::Replaced { old, by } if old.shard() == self.shard => {
                    self.core.replaced(old, by);
                }
                Output::Replaced { old, by } => self.tell_replaced(old, by),
            }
        }
        let way = self.ways.way(self.shard);
        way.published.store(&self.core.metrics());
    }

    fn send(
        &mut self,
        context: &mut Context<'_>,
        exchange: Option<ExchangeKey>,
        request: Request,
        target: Target,
        fallback: Option<Uri>,
    ) {
        let target = match (target, fallback) {
            (Target::Flow(flow), Some(uri)) if !context.is_open(flow.id) => locate(uri),
            (Target::Uri(uri), _) => locate(uri),
            (target, _) => target,
        };
        let is_invite = *request.method() == Method::Invite;
        let cseq = request.headers().cseq().map_or(0, |cseq| cseq.number);
        let options = match is_invite {
            true => RequestOptions::default(),
            false => RequestOptions::with_deadline(self.core.config().request_timeout),
        };
        match (context.send(request, target, options), exchange) {
            (Ok(id), Some(exchange)) => {
                let at = context.now().instant;
                self.requests.insert(id, Sent { exchange, cseq, at });
                if is_invite {
                    self.invites.insert(exchange, id);
                }
            }
            (Err(error), Some(exchange)) => {
                let error = ApiError::from_send(error, None);
                let now = context.now().instant;
                self.core.handle_failed(now, exchange, error);
            }
            (Err(error), None) => tracing::debug!(%error, "an ACK could not be sent"),
            (Ok(_), None) => {}
        }
    }

    fn offer(&mut self, key: CallKey, request: Request, related: Related) {
        let inbox = self.link(key);
        let offered = Offered {
            key,
            invite: Some(Box::new(request)),
            related: Some(related).filter(Related::is_any).map(Box::new),
            inbox,
        };
        let status = match self.incoming.try_send(offered) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.core.call_refused();
                StatusCode::SERVICE_UNAVAILABLE
            }
            Err(mpsc::error::TrySendError::Closed(_)) => StatusCode::TEMPORARILY_UNAVAILABLE,
        };
        // It was offered just now, so that it waits for an answer.
        let _ = self.core.reject(key, &Rejection::new(status));
    }

    fn tell(&mut self, key: CallKey, event: CallEvent) {
        if let CallEvent::Ended(_) = event {
            if let Some(mut feeder) = self.links.remove(&key) {
                feeder.push(event);
            }
            if self.links.capacity() > 64 && self.links.len() < self.links.capacity() / 8 {
                self.links.shrink_to_fit();
            }
        } else if let Some(feeder) = self.links.get_mut(&key) {
            feeder.push(event);
        }
    }

    fn forget(&mut self, id: RequestId) -> Option<Sent> {
        let sent = self.requests.remove(&id)?;
        if self.invites.get(&sent.exchange) == Some(&id) {
            self.invites.remove(&sent.exchange);
        }
        if self.requests.capacity() > 64 && self.requests.len() < self.requests.capacity() / 8 {
            self.requests.shrink_to_fit();
            self.invites.shrink_to_fit();
        }
        Some(sent)
    }
}

impl User for CallUser {
    type Command = Command;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        if self.asks_others(context, incoming) {
            return Claim::Taken;
        }
        let now = context.now().instant;
        let is_taken = self.core.handle_request(now, incoming, || {
            let contact = contact(context, &incoming.request, &incoming.flow);
            (context.keyed_tag(&incoming.request), contact)
        });
        if !is_taken && self.core.is_detached(now, &incoming.request) {
            // Who has the call now answers a copy of it.
            context.forget(incoming.transaction);
            return Claim::Taken;
        }
        if !is_taken {
            return Claim::Passed;
        }
        self.drain(context);
        Claim::Taken
    }

    fn refuses_merged(&self, incoming: &IncomingRequest) -> bool {
        matches!(incoming.request.method(), Method::Invite | Method::Refer)
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        let now = context.now().instant;
        match event {
            Event::Response {
                request,
                response,
                flow,
                destination,
            } => {
                let status = response.status();
                let cseq = response.headers().cseq();
                let accepts =
                    status.is_success() && cseq.is_ok_and(|cseq| cseq.method == Method::Invite);
                let sent = match status.is_provisional() || accepts {
                    true => self.requests.get(&request).copied(),
                    false => self.forget(request),
                };
                match sent {
                    Some(sent) => {
                        let exchange = sent.exchange;
                        self.core
                            .handle_response(now, exchange, response, flow, destination);
                    }
                    None if accepts => self.core.handle_stray(&response),
                    None => {}
                }
            }
            Event::Failed { request, error } => {
                if let Some(sent) = self.forget(request) {
                    let waited = now.saturating_duration_since(sent.at);
                    let waited = Duration::from_secs(waited.as_secs());
                    let error = ApiError::from_request(error, waited, sent.cseq);
                    self.core.handle_failed(now, sent.exchange, error);
                }
            }
            Event::Ended { request } => {
                if let Some(sent) = self.forget(request) {
                    self.core.handle_ended(sent.exchange);
                }
            }
            Event::Cancelled {
                transaction,
                cancel,
            } => {
                if !self.cancels_finding(context, transaction) {
                    self.core.handle_cancelled(now, transaction, cancel);
                }
            }
            _ => return,
        }
        self.drain(context);
    }

    fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
        self.reap(context.now().instant);
        for letter in self.ways.letters(self.shard) {
            self.obey(context, letter);
        }
        self.obey(context, command);
        self.drain(context);
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        self.core.handle_timeout(context.now().instant);
        self.drain(context);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }

    fn on_shutdown(&mut self, context: &mut Context<'_>) {
        self.give_up_finding(context);
        self.core.end_everything();
        self.drain(context);
    }

    fn methods(&self) -> Vec<Method> {
        let mut methods = vec![
            Method::Invite,
            Method::Ack,
            Method::Cancel,
            Method::Bye,
            Method::Info,
            Method::Notify,
            Method::Prack,
            Method::Update,
        ];
        if self.core.config().knows_refer() {
            methods.push(Method::Refer);
        }
        methods
    }
}

impl Drop for CallUser {
    fn drop(&mut self) {
        self.ways.close(self.shard);
    }
}

impl CallUser {
    fn obey(&mut self, context: &mut Context<'_>, command: Command) {
        match command {
            Command::Invite(open) => self.open(context, open),
            Command::Act(key, act @ Act::AcceptReplacing(_), reply) => {
                self.accept_replacing(context, key, act, reply);
            }
            // Who would tell what comes of it has gone without knowing that it is accepted.
            Command::Act(_, Act::AcceptRefer(_), reply) if reply.is_closed() => {}
            Command::Act(key, act, reply) => {
                let result = self.act(context.now().instant, key, act);
                // Who does not wait for the outcome does not want it.
                let _ = reply.send(result);
            }
            Command::Ask(key, request, reply) => match self.core.ask(key, *request) {
                Ok(asked) => drop(self.asked.insert(asked, Reply::Request(reply))),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Dialog(key, reply) => drop(reply.send(self.core.dialog(key))),
            // Who does not wait for the state does not want it, and the call stays.
            Command::Export(_, reply) | Command::Detach(_, reply) if reply.is_closed() => {}
            Command::DetachAll(reply) if reply.is_closed() => {}
            Command::Export(key, reply) => {
                let now = context.now().instant;
                drop(reply.send(self.core.export(now, key)));
            }
            Command::Detach(key, reply) => {
                let now = context.now().instant;
                if let Err(Ok(state)) = reply.send(self.core.detach(now, key)) {
                    self.core.end_detached(now, [state]);
                }
            }
            Command::DetachAll(reply) => {
                let now = context.now().instant;
                if let Err(states) = reply.send(self.core.detach_all(now)) {
                    self.core.end_detached(now, states);
                }
            }
            Command::Restore(restore) => self.restore(context, restore),
            Command::End(states) => self.core.end_detached(context.now().instant, states),
            Command::Letter(letter) => self.read(context, *letter),
            Command::Refer(key, refer, reply) => {
                let Some((refer, reply)) = self.refers_elsewhere(key, refer, reply) else {
                    return;
                };
                let now = context.now().instant;
                match self.core.refer(now, key, *refer) {
                    Ok((id, asked)) => self.wait_for_refer(asked, id, reply),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Command::ReferOutside(open) => self.refer_outside(context, *open),
            Command::Reap => {}
        }
    }

    /// Keeps who waits for the answer to a REFER.
    pub(super) fn wait_for_refer(
        &mut self,
        asked: ExchangeKey,
        id: ReferId,
        reply: oneshot::Sender<Result<ReferAnswer, CallError>>,
    ) {
        self.asked.insert(asked, Reply::Refer(id, reply));
    }
}

/// Spares the resolver a URI that says its address itself (RFC 3263 §4.1, §4.2).
fn locate(uri: Uri) -> Target {
    let ip = match uri.host() {
        Host::V4(address) => IpAddr::V4(address),
        Host::V6(address) => IpAddr::V6(address),
        Host::Name(_) => return Target::Uri(uri),
    };
    let is_plain = uri.scheme() == Scheme::Sip && uri.maddr().is_none();
    let transport = match uri.transport() {
        None => Some(Transport::Udp),
        Some(name) if name.eq_ignore_ascii_case("udp") => Some(Transport::Udp),
        Some(name) if name.eq_ignore_ascii_case("tcp") => Some(Transport::Tcp),
        Some(_) => None,
    };
    match transport.filter(|_| is_plain) {
        Some(transport) => {
            let address = SocketAddr::new(ip, uri.port().unwrap_or(5060));
            Target::Destinations(vec![Destination::new(transport, address)])
        }
        None => Target::Uri(uri),
    }
}

/// Where the peer of a flow reaches us in the call that its INVITE begins.
pub(super) fn contact(context: &Context<'_>, request: &Request, flow: &Flow) -> String {
    let uri = request.uri().ok();
    let is_sips = |uri: UriRef<'_>| uri.scheme() == Scheme::Sips;
    // RFC 3261 §12.1.1: a Request-URI that is SIPS wants a SIPS Contact, and so does the first Record-Route, or the Contact where
    // there is none.
    let headers = request.headers();
    let routed = headers.addresses(&HeaderName::RecordRoute).next();
    let asks = match &routed {
        Some(route) => route.as_ref().is_ok_and(|route| is_sips(route.uri())),
        None => {
            let contact = headers.contact().ok().flatten();
            contact.is_some_and(|contact| is_sips(contact.uri()))
        }
    };
    let is_secure = asks || uri.is_some_and(is_sips);
    let user = uri.and_then(|uri| uri.user());
    crate::contact::field_of_flow(context, flow, user, is_secure)
}
