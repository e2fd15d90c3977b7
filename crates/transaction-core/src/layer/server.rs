//! Server transactions: requests that came in, and their answers.

use super::{TransactionLayer, set, trim};
use crate::key::ServerKey;
use crate::machine::{Notice, Reaction, server_invite, server_non_invite};
use crate::merged::Origin;
use crate::server::{Input, Live, Machine, Server, react};
use crate::timers::{Holder, Tick};
use crate::{Event, Gone, IncomingRequest, Owner, Purpose, ServerTransactionId, TransportFailure};
use bytes::Bytes;
use sipora_message::{
    HeaderName, Method, PrintedResponse, Request, Response, ResponseBuilder, StatusCode,
};
use sipora_transport::{Flow, Now, response_route};

impl TransactionLayer {
    /// Says which user a request belongs to; its events go there. A request that nobody claims is to be answered with
    /// [`respond_stateless`](Self::respond_stateless).
    pub fn assign(&mut self, transaction: ServerTransactionId, owner: Owner) {
        if let Some(server) = self.servers.get_mut(transaction.0) {
            server.owner = Some(owner);
        }
    }

    /// Refuses a request that this user has before it already, come by another way, with 482 (RFC 3261 §8.2.2.2). Says
    /// whether it did; if not, the user is to be asked, and [`remember_origin`](Self::remember_origin) called should it take
    /// the request.
    ///
    /// Only for users that serve requests: one that forwards them may rightly get a request twice (RFC 3261 §16.3 step 4),
    /// and what it forwards may come back for a user beside it.
    pub fn refuse_merged(&mut self, now: Now, incoming: &IncomingRequest, owner: Owner) -> bool {
        let origin = self.keys.origin(&incoming.request, owner);
        if !origin.is_some_and(|origin| self.origins.contains(origin)) {
            self.last_origin = Some((incoming.transaction, owner, origin));
            return false;
        }
        self.metrics.merged += 1;
        tracing::debug!(peer = %incoming.flow.remote, "merged request refused");
        let answer = self.answer(&incoming.request, StatusCode::LOOP_DETECTED);
        match answer.print() {
            Ok(response) => {
                self.assign(incoming.transaction, owner);
                self.set_origin(incoming.transaction, origin);
                // It was made just now, so it cannot be gone.
                let _ = self.respond(now, incoming.transaction, response);
            }
            Err(_) => self.forget(incoming.transaction),
        }
        true
    }

    /// Keeps in mind, for as long as its transaction is there, that a user has a request before it.
    pub fn remember_origin(&mut self, incoming: &IncomingRequest, owner: Owner) {
        if self.servers.get(incoming.transaction.0).is_some() {
            let origin = match self.last_origin.take() {
                Some((transaction, of, origin))
                    if (transaction, of) == (incoming.transaction, owner) =>
                {
                    origin
                }
                _ => self.keys.origin(&incoming.request, owner),
            };
            self.set_origin(incoming.transaction, origin);
        }
    }

    fn set_origin(&mut self, transaction: ServerTransactionId, origin: Option<Origin>) {
        let (Some(server), Some(origin)) = (self.servers.get_mut(transaction.0), origin) else {
            return;
        };
        if server.origin.is_none() {
            server.origin = Some(origin);
            self.origins.add(origin);
        }
    }

    /// Answers a transaction: with provisional answers as often as wanted, and one final one. To an INVITE that was
    /// accepted every further 2xx is sent, because its repetition is the user's (RFC 6026 §7.1).
    ///
    /// What RFC 4320 forbids is not sent: to a non-INVITE request a provisional answer other than 100, a 100 too early,
    /// and a 408, which ends the transaction in silence.
    pub fn respond(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        response: impl Into<PrintedResponse>,
    ) -> Result<(), Gone> {
        self.respond_printed(now, transaction, response.into())
    }

    fn respond_printed(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        response: PrintedResponse,
    ) -> Result<(), Gone> {
        let Some(server) = self.servers.get_mut(transaction.0) else {
            self.metrics.gone += 1;
            return Err(Gone);
        };
        let status = response.status();
        let again = matches!(server.machine, Machine::Invite(machine) if machine.state == server_invite::State::Accepted)
            && status.is_success();
        if !server.is_unanswered() && !again {
            self.metrics.gone += 1;
            return Err(Gone);
        }
        if !server.is_invite() && status.is_provisional() && status != StatusCode::TRYING {
            return Ok(());
        }
        if let Some(live) = server.live.as_mut().filter(|live| live.legacy) {
            live.answer_tag = Some(self.keys.tag_hash(tag_of(response.as_bytes()).as_deref()));
        }
        self.server_input(
            now,
            transaction.0,
            Input::Answer(status),
            Some(response.into_bytes()),
        );
        Ok(())
    }

    /// Answers a transaction with a final response and forgets it: a copy of the request will be a new request, and its
    /// answer should have the same To tag ([`keyed_tag`](Self::keyed_tag)).
    pub fn respond_stateless(
        &mut self,
        transaction: ServerTransactionId,
        response: impl Into<PrintedResponse>,
    ) -> Result<(), Gone> {
        let server = self
            .servers
            .get(transaction.0)
            .filter(|server| server.is_unanswered());
        let Some(route) = server.map(|server| Flow::from(server.route)) else {
            self.metrics.gone += 1;
            return Err(Gone);
        };
        self.remove_server(transaction.0);
        self.metrics.stateless_answers_sent += 1;
        self.transmit(route, response.into().into_bytes(), Purpose::Stateless);
        Ok(())
    }

    /// Forgets a transaction without an answer.
    pub fn forget(&mut self, transaction: ServerTransactionId) {
        self.remove_server(transaction.0);
    }

    /// Forgets a transaction that was begun for another shard's request.
    pub(crate) fn hand_over(&mut self, transaction: ServerTransactionId) {
        if self.servers.get(transaction.0).is_some() {
            self.metrics.requests_received = self.metrics.requests_received.saturating_sub(1);
            self.remove_server(transaction.0);
        }
    }

    /// Refuses a request with a stateless 503, for lack of room elsewhere.
    pub(crate) fn refuse_for_lack_of_room(&mut self, request: &Request, flow: Flow) {
        self.metrics.refused_for_lack_of_room += 1;
        self.unavailable(request, flow);
    }

    /// Begins an answer, with a To tag that is the same for every copy of the request.
    pub fn answer(&self, request: &Request, status: StatusCode) -> ResponseBuilder {
        let builder = Response::for_request(request, status);
        if status == StatusCode::TRYING {
            // §8.2.6.2: "a tag MAY be present" in 100; without one it cannot be mistaken for an early dialog's.
            return builder;
        }
        builder.to_tag(self.keys.tag(request).as_str())
    }

    pub(super) fn handle_request(
        &mut self,
        now: Now,
        request: Request,
        flow: Flow,
    ) -> Option<IncomingRequest> {
        let Some(found) = self.keys.of_request(&request) else {
            self.metrics.malformed_received += 1;
            self.reject_malformed(&request, StatusCode::BAD_REQUEST, "unreadable Via", flow);
            return None;
        };
        let is_ack = *request.method() == Method::Ack;
        let mut key = found.key;
        if let Some(&id) = self.server_keys.get(&key) {
            if !found.legacy || self.legacy_matches(id, &request, is_ack) {
                return self.handle_known(now, id, request, flow, is_ack);
            }
            key = self
                .keys
                .salted(key, request.headers().to().ok().and_then(|to| to.tag()));
            if let Some(&id) = self.server_keys.get(&key) {
                return self.handle_known(now, id, request, flow, is_ack);
            }
        }
        if let Err(rejection) = request.check() {
            self.metrics.malformed_received += 1;
            if !is_ack {
                self.reject(&request, rejection.status, &rejection.reason, flow);
            }
            tracing::debug!(peer = %flow.remote, reason = %rejection, "request rejected");
            return None;
        }
        if is_ack {
            // An ACK to a 2xx is a transaction of its own (§13.2.2.4); nobody answers it.
            return Some(IncomingRequest {
                request,
                transaction: ServerTransactionId(0),
                flow,
            });
        }
        self.begin_server(now, ServerKey { key, ..found }, request, flow)
    }

    pub(super) fn reject_malformed(
        &mut self,
        request: &Request,
        status: StatusCode,
        reason: &str,
        flow: Flow,
    ) {
        // A Via that cannot be read is copied all the same, and the answer goes to where the request came from. Without
        // any there is nothing that an answer could be matched by.
        let has_via = request.headers().contains(&HeaderName::Via);
        if *request.method() == Method::Ack || !has_via {
            tracing::debug!(peer = %flow.remote, reason, "malformed request dropped");
            return;
        }
        tracing::debug!(peer = %flow.remote, reason, "malformed request rejected");
        // What cannot be parsed may still name a version that nobody speaks (RFC 3261 §21.5.6).
        match request.check() {
            Err(rejection) if status == StatusCode::BAD_REQUEST => {
                self.reject(request, rejection.status, &rejection.reason, flow);
            }
            _ => self.reject(request, status, reason, flow),
        }
    }

    /// Refuses a request that is wrong in itself. "The Reason-Phrase SHOULD identify the syntax problem in more detail"
    /// (RFC 3261 §21.4.1).
    fn reject(&mut self, request: &Request, status: StatusCode, reason: &str, flow: Flow) {
        let mut builder = self.answer(request, status);
        let is_phrase = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if status == StatusCode::BAD_REQUEST && reason.len() <= 200 && reason.bytes().all(is_phrase)
        {
            builder = builder.reason(&format!("{} ({reason})", status.default_reason()));
        }
        self.send_stateless(request, flow, builder);
    }

    pub(super) fn server_transport_error(
        &mut self,
        now: Now,
        id: ServerTransactionId,
        error: TransportFailure,
    ) {
        let Some(server) = self.servers.get(id.0) else {
            return;
        };
        let owner = server.owner;
        self.server_input(now, id.0, Input::TransportError, None);
        if let Some(owner) = owner {
            self.events.push_back((
                owner,
                Event::AnswerFailed {
                    transaction: id,
                    error,
                },
            ));
        }
    }

    pub(super) fn server_alarm(&mut self, now: Now, id: u64) {
        let tick = self.clock.now(now.instant);
        let Some(server) = self.servers.get_mut(id) else {
            return;
        };
        server.queued = None;
        let due = |time: Option<Tick>| time.is_some_and(|time| time.is_due(tick));
        if due(server.end) {
            server.end = None;
            if server.is_invite() && server.is_unanswered() {
                self.refuse_forgotten(now, id);
            } else {
                self.server_input(now, id, Input::End, None);
            }
        } else if let Some(live) = server.live.as_mut().filter(|live| due(live.repeat)) {
            live.repeat = None;
            self.server_input(now, id, Input::Repeat, None);
        }
        self.arm(Holder::server(id));
    }

    /// Answers an INVITE for its user, who has had [`Timers::forgotten`](crate::Timers::forgotten) for it.
    fn refuse_forgotten(&mut self, now: Now, id: u64) {
        self.metrics.never_answered += 1;
        let server = self.servers.get(id);
        let request = server.and_then(|server| server.live.as_ref()?.request.clone());
        let tag = server.and_then(|server| tag_of(server.answer(&self.shelf)));
        let response = request.and_then(|request| {
            let builder = Response::for_request(&request, StatusCode::REQUEST_TIMEOUT);
            let tag = tag.unwrap_or_else(|| self.keys.tag(&request).as_str().to_owned());
            builder.to_tag(&tag).print().ok()
        });
        match response {
            // It is unanswered, so that it cannot be gone.
            Some(response) => drop(self.respond(now, ServerTransactionId(id), response)),
            None => self.remove_server(id),
        }
    }

    /// A request that is known: a retransmission, or the ACK of a refusal.
    fn handle_known(
        &mut self,
        now: Now,
        id: u64,
        request: Request,
        flow: Flow,
        is_ack: bool,
    ) -> Option<IncomingRequest> {
        if is_ack {
            let deliver = self.server_input(now, id, Input::Ack, None).deliver;
            return deliver.then(|| IncomingRequest {
                request,
                transaction: ServerTransactionId(0),
                flow,
            });
        }
        self.metrics.retransmissions_received += 1;
        if let Some(server) = self.servers.get_mut(id) {
            // A copy that came over another connection shows that the first is of no use any more.
            if flow.transport.is_stream() && server.route.transport == flow.transport {
                server.route = flow.into();
            }
        }
        self.server_input(now, id, Input::Request, None);
        None
    }

    /// §17.2.3: without the magic cookie, To tags have to agree too: that of an ACK with the answer's, any other with the
    /// first request's.
    fn legacy_matches(&self, id: u64, request: &Request, is_ack: bool) -> bool {
        let Some(live) = self.servers.get(id).and_then(|server| server.live.as_ref()) else {
            return true;
        };
        let tag = self
            .keys
            .tag_hash(request.headers().to().ok().and_then(|to| to.tag()));
        if is_ack {
            live.answer_tag == Some(tag)
        } else {
            live.request_tag == tag
        }
    }

    fn begin_server(
        &mut self,
        now: Now,
        found: ServerKey,
        request: Request,
        flow: Flow,
    ) -> Option<IncomingRequest> {
        let is_cancel = *request.method() == Method::Cancel;
        let is_bye = *request.method() == Method::Bye;
        if self.draining && !is_cancel && !is_bye {
            self.unavailable(&request, flow);
            return None;
        }
        if self.servers.len() >= self.config.max_server_transactions {
            self.metrics.refused_for_lack_of_room += 1;
            // To end a call takes no room, and makes some.
            match self.cancelled_by(&request).filter(|_| is_cancel) {
                Some(invite) => {
                    let builder = self.answer_to_cancel(&request, invite);
                    self.send_stateless(&request, flow, builder);
                    self.tell_cancelled(invite, request);
                }
                None => self.unavailable(&request, flow),
            }
            return None;
        }
        let reliable = flow.transport.is_reliable();
        let timers = &self.config.timers;
        let (machine, reaction) = if *request.method() == Method::Invite {
            let (machine, reaction) = server_invite::Machine::start(timers);
            (Machine::Invite(machine), reaction)
        } else {
            let (machine, reaction) = server_non_invite::Machine::start(timers, reliable);
            (Machine::NonInvite(machine), reaction)
        };
        let request_tag = match found.legacy {
            true => self
                .keys
                .tag_hash(request.headers().to().ok().and_then(|to| to.tag())),
            false => 0,
        };
        let mut live = Live {
            request: Some(request.clone()),
            legacy: found.legacy,
            request_tag,
            ..Live::default()
        };
        set(&mut live.repeat, reaction.repeat, &mut self.clock, now);
        let mut end = None;
        set(&mut end, reaction.end, &mut self.clock, now);
        let id = self.servers.insert(Server {
            key: found.key,
            route: response_route(&request, &flow).flow.into(),
            machine,
            answer: None,
            end,
            queued: None,
            owner: None,
            origin: None,
            live: Some(Box::new(live)),
        });
        self.server_keys.insert(found.key, id);
        self.arm(Holder::server(id));
        self.metrics.requests_received += 1;
        self.metrics.unanswered += 1;
        if is_cancel {
            return self.handle_cancel(now, id, request, flow);
        }
        Some(IncomingRequest {
            request,
            transaction: ServerTransactionId(id),
            flow,
        })
    }

    /// Answers a CANCEL whose request is known with 200, and tells the user when there is still something to cancel
    /// (§9.2). Any other goes to the users, and to 481 after them.
    fn handle_cancel(
        &mut self,
        now: Now,
        id: u64,
        cancel: Request,
        flow: Flow,
    ) -> Option<IncomingRequest> {
        let Some(invite) = self.cancelled_by(&cancel) else {
            return Some(IncomingRequest {
                request: cancel,
                transaction: ServerTransactionId(id),
                flow,
            });
        };
        if let Ok(response) = self.answer_to_cancel(&cancel, invite).print() {
            // The transaction was made just now, so it cannot be gone.
            let _ = self.respond(now, ServerTransactionId(id), response);
        }
        self.tell_cancelled(invite, cancel);
        None
    }

    /// "the To tag of the response to the CANCEL and the To tag in the response to the original request SHOULD be the
    /// same": the keyed tag leaves out the method, and an answer that is there already is asked for its own.
    fn answer_to_cancel(&self, cancel: &Request, cancelled: u64) -> ResponseBuilder {
        let server = self.servers.get(cancelled);
        match server.and_then(|server| tag_of(server.answer(&self.shelf))) {
            Some(tag) => Response::for_request(cancel, StatusCode::OK).to_tag(&tag),
            None => self.answer(cancel, StatusCode::OK),
        }
    }

    /// Tells the user of an INVITE without final answer that it was cancelled.
    fn tell_cancelled(&mut self, invite: u64, cancel: Request) {
        let server = self
            .servers
            .get(invite)
            .filter(|server| server.is_invite() && server.is_unanswered());
        if let Some(owner) = server.and_then(|server| server.owner) {
            let event = Event::Cancelled {
                transaction: ServerTransactionId(invite),
                cancel,
            };
            self.events.push_back((owner, event));
        }
    }

    /// §9.2: the transaction of the same branch and sent-by, of any method but CANCEL and ACK.
    fn cancelled_by(&self, cancel: &Request) -> Option<u64> {
        CANCELLABLE.iter().find_map(|method| {
            let found = self.keys.of_request_as(cancel, method)?;
            self.server_keys.get(&found.key).copied()
        })
    }

    /// Tells a transaction what happened and does what its machine wants.
    fn server_input(&mut self, now: Now, id: u64, input: Input, answer: Option<Bytes>) -> Reaction {
        let Some(server) = self.servers.get_mut(id) else {
            return Reaction::NOTHING;
        };
        let was_unanswered = server.is_unanswered();
        let reliable = server.route.transport.is_reliable();
        let reaction = react(&mut server.machine, input, &self.config.timers, reliable);
        set(&mut server.end, reaction.end, &mut self.clock, now);
        if let Some(live) = server.live.as_mut() {
            set(&mut live.repeat, reaction.repeat, &mut self.clock, now);
        }
        let bytes = server.bytes_to_send(&mut self.shelf, reaction, input, answer);
        if was_unanswered && !server.is_unanswered() {
            server.shrink();
            self.metrics.unanswered = self.metrics.unanswered.saturating_sub(1);
            if matches!(input, Input::End) {
                self.metrics.never_answered += 1;
            }
        }
        let (route, owner, terminated) = (
            Flow::from(server.route),
            server.owner,
            server.is_terminated(),
        );
        let transaction = ServerTransactionId(id);
        if let Some(bytes) = bytes {
            match input {
                Input::Answer(status) if status.is_final() => self.metrics.answers_sent += 1,
                Input::Repeat | Input::Request => self.metrics.retransmissions_sent += 1,
                _ => {}
            }
            self.transmit(route, bytes, Purpose::Answer(transaction));
        }
        let event = match reaction.inform {
            Some(Notice::Acknowledged) => Some(Event::Acknowledged { transaction }),
            Some(Notice::NotAcknowledged) => Some(Event::NotAcknowledged { transaction }),
            _ => None,
        };
        if let (Some(owner), Some(event)) = (owner, event) {
            self.events.push_back((owner, event));
        }
        if terminated {
            self.remove_server(id);
        } else {
            self.arm(Holder::server(id));
        }
        reaction
    }

    fn remove_server(&mut self, id: u64) {
        let Some(mut server) = self.servers.remove(id) else {
            return;
        };
        server.drop_answer(&mut self.shelf);
        self.disarm(server.queued);
        self.server_keys.remove(&server.key);
        if let Some(origin) = server.origin {
            self.origins.remove(origin);
        }
        trim(&mut self.servers, &mut self.server_keys);
        if server.is_unanswered() {
            self.metrics.unanswered = self.metrics.unanswered.saturating_sub(1);
        }
    }

    /// §21.5.4: a server that is out of room or about to end says when to come again.
    fn unavailable(&mut self, request: &Request, flow: Flow) {
        let builder = self.answer(request, StatusCode::SERVICE_UNAVAILABLE);
        let builder = builder.header(HeaderName::RetryAfter, self.config.retry_after.to_string());
        self.send_stateless(request, flow, builder);
    }

    fn send_stateless(&mut self, request: &Request, flow: Flow, builder: ResponseBuilder) {
        let Ok(response) = builder.print() else {
            tracing::debug!(peer = %flow.remote, "no answer can be made to the request");
            return;
        };
        self.metrics.stateless_answers_sent += 1;
        self.transmit(
            response_route(request, &flow).flow,
            response.into_bytes(),
            Purpose::Stateless,
        );
    }
}

/// Reads the To tag of an answer that was sent.
fn tag_of(answer: &[u8]) -> Option<String> {
    let bytes = Bytes::copy_from_slice(answer);
    let response = Response::parse(bytes, &sipora_message::Limits::default()).ok()?;
    response.headers().to().ok()?.tag().map(str::to_owned)
}

/// What a CANCEL may name; INVITE first, because only that has an effect.
const CANCELLABLE: [Method; 12] = [
    Method::Invite,
    Method::Register,
    Method::Options,
    Method::Message,
    Method::Subscribe,
    Method::Notify,
    Method::Publish,
    Method::Bye,
    Method::Info,
    Method::Prack,
    Method::Update,
    Method::Refer,
];
