//! Requests of ours: their targets, their deadline, their end.

use super::TransactionLayer;
use crate::attempts::{Cancel, Client, Exchange, Hop, Kept, Kind, Place, Setback};
use crate::timers::{Holder, Tick};
use crate::{
    AttemptId, Event, Open, OutgoingRequest, RequestError, RequestId, SendError, TransportFailure,
};
use sipora_message::{Method, Response, StatusCode};
use sipora_transport::{Destination, Flow, Now};
use std::collections::VecDeque;
use std::time::Duration;

impl TransactionLayer {
    /// Sends a request to the first of its targets and names it. The name stays the same through all attempts.
    ///
    /// An ACK, which is for a 2xx, is sent once; no event comes for it.
    pub fn send_request(
        &mut self,
        now: Now,
        outgoing: OutgoingRequest,
    ) -> Result<RequestId, SendError> {
        let OutgoingRequest {
            request,
            mut targets,
            flow,
            deadline,
            timer_c,
            offers_keep_alives,
            owner,
        } = outgoing;
        if *request.method() == Method::Cancel {
            return Err(SendError::CancelRefused);
        }
        let kind = Kind::of(request.method());
        // What a call cannot do without: its ACK stops retransmissions, and to end it makes room.
        let is_owed = matches!(request.method(), Method::Ack | Method::Bye);
        if self.draining && !is_owed {
            return Err(SendError::ShuttingDown);
        }
        let most = |limit: usize| limit.saturating_mul(if is_owed { 2 } else { 1 });
        let has_room = self.exchanges.len() < most(self.config.max_requests)
            && self.clients.len() < most(self.config.max_client_transactions);
        if !has_room {
            self.metrics.overloaded += 1;
            return Err(SendError::Overloaded);
        }
        match request.headers().cseq() {
            Ok(cseq) if cseq.method == *request.method() => {}
            Ok(_) => return Err(SendError::Invalid("CSeq names another method".into())),
            Err(error) => return Err(SendError::Invalid(error.to_string().into())),
        }
        let deadline = deadline.unwrap_or_else(|| self.config.timers.transaction_timeout());
        let deadline = Some(self.clock.after(now.instant, deadline));
        let timer_c = timer_c.unwrap_or(self.config.timers.ringing);
        let rings_until = Some(self.clock.after(now.instant, timer_c));
        self.put_avoided_last(now, &mut targets);
        let hops = flow
            .map(Hop::over)
            .into_iter()
            .chain(targets.into_iter().map(Hop::to));
        let hops: VecDeque<Hop> = hops.take(self.config.max_targets).collect();
        let waits = hops.is_empty();
        let id = self.exchanges.insert(Exchange {
            owner,
            request,
            kind,
            hops,
            current: 0,
            deadline,
            silence: None,
            timer_c,
            rings_until,
            queued: None,
            kept: None,
            cancel: Cancel::No,
            offers_keep_alives,
            provisional: false,
            accepted: false,
            abandoned: false,
        });
        self.arm(Holder::exchange(id));
        self.metrics.requests_sent += 1;
        if !waits {
            self.advance(now, id, None);
        }
        Ok(RequestId(id))
    }

    /// Takes the targets of a request that was sent without.
    pub fn targets_found(
        &mut self,
        now: Now,
        request: RequestId,
        targets: Result<Vec<Destination>, TransportFailure>,
    ) {
        let mut targets = targets;
        if let Ok(targets) = &mut targets {
            self.put_avoided_last(now, targets);
        }
        let limit = self.config.max_targets;
        let Some(exchange) = self.exchanges.get_mut(request.0) else {
            return;
        };
        if exchange.current != 0 || !exchange.hops.is_empty() {
            return;
        }
        let setback = match targets {
            Ok(targets) => {
                exchange.hops = targets.into_iter().map(Hop::to).take(limit).collect();
                None
            }
            Err(error) => Some(Setback::Transport(error)),
        };
        self.advance(now, request.0, setback);
    }

    /// Says whether a request of ours is still on its way.
    pub(crate) fn has_request(&self, request: RequestId) -> bool {
        self.exchanges.get(request.0).is_some()
    }

    /// Says whether an attempt is still to be made, or has been and has not ended.
    pub(crate) fn has_attempt(&self, attempt: AttemptId) -> bool {
        self.clients.get(attempt.0).is_some()
    }

    /// How many jobs may wait for their turn before it is looked which of them nobody wants: twice as many as are wanted at
    /// most.
    pub(crate) fn most_waiting(&self) -> usize {
        64 + 2 * self.exchanges.len()
    }

    /// Cancels a request.
    ///
    /// An INVITE that has a provisional answer gets a CANCEL (RFC 3261 §9.1), and one that has none yet gets it with its
    /// first; its end then comes as a response, usually 487. Any other request, and an INVITE that has not been sent, ends
    /// at once with [`RequestError::Cancelled`].
    pub fn cancel(&mut self, now: Now, request: RequestId) {
        self.cancel_because(now, request, None);
    }

    /// Does what [`cancel`](Self::cancel) does, and says why, with this value of Reason (RFC 3326): a proxy "SHOULD copy it" from the
    /// CANCEL that it got. A value that no header field can have is left out.
    pub fn cancel_because(&mut self, now: Now, request: RequestId, reason: Option<&str>) {
        let timeout = self.config.timers.transaction_timeout();
        let Some(exchange) = self.exchanges.get_mut(request.0) else {
            return;
        };
        if exchange.accepted || exchange.cancel != Cancel::No {
            return;
        }
        let current = exchange.current;
        let sent = self
            .clients
            .get(current)
            .is_some_and(|client| client.running.is_some());
        if exchange.kind != Kind::Invite || !sent {
            self.fail(request.0, RequestError::Cancelled);
            return;
        }
        if let Some(reason) = reason {
            exchange.kept = Some(Box::new(Kept::Reason(reason.into())));
        }
        if !exchange.provisional {
            exchange.cancel = Cancel::Wanted;
            exchange.silence = None;
            return;
        }
        exchange.cancel = Cancel::Sent;
        // §9.1: without a final answer within 64*T1 the INVITE counts as cancelled.
        exchange.deadline = Some(self.clock.after(now.instant, timeout));
        let reason = exchange.take_reason();
        self.arm(Holder::exchange(request.0));
        self.send_cancel(now, current, reason.as_deref());
    }

    /// Forgets a request: its events are no longer wanted, save every 2xx of an INVITE, which still wants its ACK. An
    /// INVITE is cancelled.
    pub fn abandon(&mut self, now: Now, request: RequestId) {
        let Some(exchange) = self.exchanges.get_mut(request.0) else {
            return;
        };
        exchange.abandoned = true;
        self.cancel(now, request);
    }

    /// Takes the news that no flow could be had for an attempt.
    pub fn flow_failed(&mut self, now: Now, attempt: AttemptId, error: TransportFailure) {
        let Some(client) = self.clients.get(attempt.0) else {
            return;
        };
        if client.running.is_some() {
            return;
        }
        let exchange = client.exchange;
        self.metrics.transport_errors += 1;
        self.avoid(now, attempt.0, None);
        self.remove_client(attempt.0);
        self.advance(now, exchange, Some(Setback::Transport(error)));
    }

    fn put_avoided_last(&mut self, now: Now, targets: &mut [Destination]) {
        let tick = self.clock.now(now.instant);
        self.metrics.targets_passed_over += self.avoided.sort(tick, targets);
    }

    /// Remembers that the target of an attempt has failed.
    pub(super) fn avoid(&mut self, now: Now, client: u64, retry_after: Option<Duration>) {
        let Some(time) = self.config.avoid else {
            return;
        };
        let Some(client) = self.clients.get(client) else {
            return;
        };
        if let Some(target) = client.hop.destination() {
            let time = retry_after.map_or(time, |after| after.min(LONGEST_AVOIDED).max(time));
            let until = self.clock.after(now.instant, time);
            let tick = self.clock.now(now.instant);
            let unreachable = client.running.is_none();
            self.avoided.insert(tick, target, until, unreachable);
        }
    }

    /// Goes on to the next target, or ends the request where there is none.
    pub(super) fn advance(&mut self, now: Now, id: u64, setback: Option<Setback>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.cancel != Cancel::No {
            self.fail(id, RequestError::Cancelled);
            return;
        }
        let unreachable = matches!(setback, Some(Setback::Transport(_)))
            || self
                .clients
                .get(exchange.current)
                .is_some_and(|client| client.running.is_none());
        let Some(hop) = exchange.next_hop(unreachable) else {
            let error = match setback {
                Some(Setback::Transport(error)) => RequestError::Transport(error),
                Some(Setback::Silence | Setback::TimedOut | Setback::Unavailable) => {
                    RequestError::Timeout
                }
                None => RequestError::Transport(TransportFailure::Resolve(
                    "the name has no addresses".into(),
                )),
            };
            self.fail(id, error);
            return;
        };
        if let Some(setback) = setback {
            self.metrics.attempts_advanced += 1;
            tracing::debug!(request = %RequestId(id), ?setback, "trying the next target");
        }
        self.supersede(id);
        self.attempt(now, id, hop);
    }

    /// Begins an attempt at one target: its flow is asked for.
    fn attempt(&mut self, now: Now, id: u64, hop: Hop) {
        let place = hop.place.clone();
        let silence = self.config.silence;
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let client = self
            .clients
            .insert(Client::new(id, Some(exchange.owner), hop));
        exchange.current = client;
        exchange.silence = silence
            .filter(|_| exchange.has_hop(true))
            .map(|wait| self.clock.after(now.instant, wait));
        self.arm(Holder::exchange(id));
        self.opens.push_back(match place {
            Place::Destination(destination) => Open::Destination(AttemptId(client), destination),
            Place::Flow(flow) => Open::Flow(AttemptId(client), flow),
        });
    }

    /// Puts the present attempt aside. An INVITE that was sent lives on, to be cancelled should it ring after all.
    fn supersede(&mut self, id: u64) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let current = std::mem::take(&mut exchange.current);
        let lives_on = exchange.kind == Kind::Invite;
        match self.clients.get_mut(current) {
            Some(client) if lives_on && client.running.is_some() => client.set_aside(),
            Some(_) => self.remove_client(current),
            None => {}
        }
    }

    /// Takes a response to an attempt at a request.
    pub(super) fn deliver(
        &mut self,
        now: Now,
        client_id: u64,
        response: Response,
        flow: Flow,
        hop: &Hop,
    ) {
        let Some(client) = self.clients.get(client_id) else {
            return;
        };
        let (superseded, owner) = (client.superseded, client.owner);
        self.note_answer(now, client_id, &response);
        let Some(client) = self.clients.get(client_id) else {
            return;
        };
        let is_invite =
            matches!(&client.running, Some(running) if *running.sent.method() == Method::Invite);
        let id = client.exchange;
        let status = response.status();
        if superseded && status.is_provisional() {
            // The request went elsewhere meanwhile: this one must not go on ringing.
            let is_accepted = self.exchanges.get(id).is_some_and(|it| it.accepted);
            self.send_cancel(now, client_id, is_accepted.then_some(ELSEWHERE));
            return;
        }
        let Some(exchange) = self.exchanges.get_mut(id) else {
            // An earlier target accepted the INVITE when its user had given up on it: the session is there all the same,
            // and only the user can end it.
            if let (true, true, Some(owner)) = (is_invite, status.is_success(), owner) {
                let event = Event::Response {
                    request: RequestId(id),
                    response,
                    flow,
                    destination: hop.destination().cloned(),
                };
                self.events.push_back((owner, event));
            }
            return;
        };
        if status.is_provisional() {
            self.deliver_provisional(now, id, client_id, response, flow, hop);
            return;
        }
        if exchange.kind == Kind::Invite && status.is_success() {
            // Who accepts after another has is told of as well, and ends nothing.
            let is_first = !std::mem::replace(&mut exchange.accepted, true);
            exchange.deadline = None;
            exchange.silence = None;
            let rival = exchange.current;
            let provisional = exchange.provisional;
            if is_first {
                exchange.current = client_id;
            }
            let event = Event::Response {
                request: RequestId(id),
                response,
                flow,
                destination: hop.destination().cloned(),
            };
            self.events.push_back((exchange.owner, event));
            if is_first && rival != client_id && rival != 0 {
                self.drop_rival(now, rival, provisional);
            }
            return;
        }
        if superseded {
            return;
        }
        // RFC 3263 §4.3: 503 is a failure of the target.
        let may_advance =
            exchange.cancel == Cancel::No && !exchange.provisional && exchange.has_hop(false);
        if status == StatusCode::SERVICE_UNAVAILABLE && may_advance {
            let unavailable = Kept::Unavailable(response, flow, hop.destination().cloned());
            exchange.kept = Some(Box::new(unavailable));
            self.advance(now, id, Some(Setback::Unavailable));
            return;
        }
        let Some(exchange) = self.remove_exchange(id) else {
            return;
        };
        if exchange.abandoned {
            return;
        }
        let event = Event::Response {
            request: RequestId(id),
            response,
            flow,
            destination: hop.destination().cloned(),
        };
        self.events.push_back((exchange.owner, event));
    }

    /// Whoever answers is there, and whoever answers 503 is not to be asked again for as long as it says (§21.5.4).
    fn note_answer(&mut self, now: Now, client_id: u64, response: &Response) {
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            let after = response.headers().retry_after().ok().flatten();
            let after = after.map(|after| Duration::from_secs(after.seconds.into()));
            self.avoid(now, client_id, after);
        } else if let Some(client) = self.clients.get(client_id)
            && let Some(target) = client.hop.destination()
        {
            self.avoided.remove(target);
        }
    }

    fn deliver_provisional(
        &mut self,
        now: Now,
        id: u64,
        client_id: u64,
        response: Response,
        flow: Flow,
        hop: &Hop,
    ) {
        let timeout = self.config.timers.transaction_timeout();
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.provisional = true;
        exchange.silence = None;
        if exchange.kind == Kind::Invite && exchange.cancel == Cancel::No {
            // §16.7 step 2: Timer C "MUST be reset" by "a provisional response with status codes 101 to 199 inclusive".
            if response.status() != StatusCode::TRYING {
                exchange.rings_until = Some(self.clock.after(now.instant, exchange.timer_c));
            }
            exchange.deadline = exchange.rings_until;
            self.arm(Holder::exchange(id));
        }
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if !exchange.abandoned {
            let event = Event::Response {
                request: RequestId(id),
                response,
                flow,
                destination: hop.destination().cloned(),
            };
            self.events.push_back((exchange.owner, event));
        }
        if exchange.cancel == Cancel::Wanted {
            exchange.cancel = Cancel::Sent;
            exchange.deadline = Some(self.clock.after(now.instant, timeout));
            let reason = exchange.take_reason();
            self.arm(Holder::exchange(id));
            self.send_cancel(now, client_id, reason.as_deref());
        }
    }

    /// An earlier attempt was accepted after all: the present one is put aside.
    fn drop_rival(&mut self, now: Now, rival: u64, provisional: bool) {
        let Some(client) = self.clients.get_mut(rival) else {
            return;
        };
        if client.running.is_none() {
            self.remove_client(rival);
            return;
        }
        client.set_aside();
        if provisional {
            self.send_cancel(now, rival, Some(ELSEWHERE));
        }
    }

    /// Takes the end of a client transaction whose INVITE was accepted.
    pub(super) fn accepted_ended(&mut self, id: u64, client_id: u64) {
        let ended = self
            .exchanges
            .get(id)
            .is_some_and(|exchange| exchange.accepted && exchange.current == client_id);
        if !ended {
            return;
        }
        if let Some(exchange) = self.remove_exchange(id) {
            self.events.push_back((
                exchange.owner,
                Event::Ended {
                    request: RequestId(id),
                },
            ));
        }
    }

    pub(super) fn remove_exchange(&mut self, id: u64) -> Option<Exchange> {
        let exchange = self.exchanges.remove(id)?;
        self.disarm(exchange.queued);
        self.exchanges.trim();
        Some(exchange)
    }

    /// Ends a request without a final answer, or with the 503 that an earlier target gave.
    pub(super) fn fail(&mut self, id: u64, error: RequestError) {
        let Some(exchange) = self.remove_exchange(id) else {
            return;
        };
        match self.clients.get_mut(exchange.current) {
            // It was sent and may ring yet: it is cancelled then. Its Timer B ends it else.
            Some(client)
                if exchange.kind == Kind::Invite
                    && client.running.is_some()
                    && !exchange.provisional =>
            {
                client.set_aside()
            }
            _ => self.remove_client(exchange.current),
        }
        if error == RequestError::Timeout {
            self.metrics.timeouts += 1;
        }
        if exchange.abandoned || exchange.kind == Kind::Ack {
            return;
        }
        let request = RequestId(id);
        let kept = exchange.kept.filter(|_| error != RequestError::Cancelled);
        let event = match kept.map(|kept| *kept) {
            Some(Kept::Unavailable(response, flow, destination)) => Event::Response {
                request,
                response,
                flow,
                destination,
            },
            _ => Event::Failed { request, error },
        };
        self.events.push_back((exchange.owner, event));
    }

    pub(super) fn exchange_alarm(&mut self, now: Now, id: u64) {
        let tick = self.clock.now(now.instant);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.queued = None;
        let due = |time: Option<Tick>| time.is_some_and(|time| time.is_due(tick));
        let rings = exchange.kind == Kind::Invite && exchange.provisional;
        if due(exchange.deadline) && rings && exchange.cancel == Cancel::No {
            // §16.8: "the proxy MUST generate a CANCEL request matching that transaction".
            self.metrics.rang_too_long += 1;
            self.cancel(now, RequestId(id));
            return;
        }
        if due(exchange.deadline) {
            let error = match exchange.cancel {
                Cancel::No => RequestError::Timeout,
                Cancel::Wanted | Cancel::Sent => RequestError::Cancelled,
            };
            self.fail(id, error);
            return;
        }
        if due(exchange.silence) {
            exchange.silence = None;
            let opening = self
                .clients
                .get(exchange.current)
                .is_some_and(|client| client.running.is_none());
            if exchange.has_hop(opening) {
                let current = exchange.current;
                self.avoid(now, current, None);
                self.advance(now, id, Some(Setback::Silence));
            }
        }
        self.arm(Holder::exchange(id));
    }
}

/// The longest `Retry-After` of a 503 that is heeded: a server that names a day may be back in an hour.
const LONGEST_AVOIDED: Duration = Duration::from_secs(3600);

/// RFC 3326 §3.1: an INVITE is cancelled at one place since another has accepted it, and is no call that was missed.
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";
