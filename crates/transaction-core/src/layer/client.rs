//! Client transactions: one attempt, or one CANCEL, on the wire.

use super::{TransactionLayer, set, trim};
use crate::attempts::{Client, Hop, Kind, Machine, Place, Running, Setback};
use crate::machine::{Notice, Reaction, client_invite, client_non_invite};
use crate::timers::{Holder, Tick};
use crate::{AttemptId, Purpose, RequestError, TransportFailure};
use sipora_message::{HeaderName, Method, Request, Response, StatusCode};
use sipora_transport::{Destination, Flow, Now, SentBy, Transport};
use std::fmt::Write;

/// What happens to a client transaction of either kind.
#[derive(Debug, Clone, Copy)]
enum Input {
    Repeat,
    End,
    Response(StatusCode),
    TransportError,
}

impl TransactionLayer {
    /// Takes the flow that an attempt asked for: its Via is made, and the request sent.
    pub fn flow_ready(&mut self, now: Now, attempt: AttemptId, flow: Flow, sent_by: SentBy) {
        let Some(client) = self.clients.get(attempt.0) else {
            return;
        };
        if client.running.is_some() {
            return;
        }
        let (exchange_id, hop) = (client.exchange, client.hop.clone());
        let Some(exchange) = self.exchanges.get(exchange_id) else {
            self.remove_client(attempt.0);
            return;
        };
        let branch = self.ids.branch();
        let mut via = via(flow.transport, &sent_by, branch.as_str());
        if exchange.offers_keep_alives {
            via.push_str(";keep");
        }
        let sent = exchange.request.with_top_via(&via);
        let bytes = sent.to_bytes();
        let kind = exchange.kind;
        if flow.transport == Transport::Udp
            && !hop.any_size
            && bytes.len() > self.config.datagram_limit
        {
            self.prefer_stream(now, exchange_id, attempt.0, hop);
            return;
        }
        if kind == Kind::Ack {
            // §13.2.2.4: an ACK to a 2xx is a transaction of nobody; it is passed to the transport.
            self.remove_client(attempt.0);
            self.remove_exchange(exchange_id);
            self.transmit(flow, bytes, Purpose::Detached);
            return;
        }
        let key = self.keys.client(
            branch.as_str(),
            &sent_by.host,
            Some(sent_by.port),
            sent.method(),
        );
        let reliable = flow.transport.is_reliable();
        let (machine, reaction) = match kind {
            Kind::Invite => {
                let (machine, reaction) =
                    client_invite::Machine::start(&self.config.timers, reliable);
                (Machine::Invite(machine), reaction)
            }
            _ => {
                let (machine, reaction) =
                    client_non_invite::Machine::start(&self.config.timers, reliable);
                (Machine::NonInvite(machine), reaction)
            }
        };
        self.start(
            now,
            attempt.0,
            Running {
                machine,
                key,
                flow: flow.into(),
                sent,
            },
            reaction,
        );
    }

    /// Finds the transaction that a response is for (§17.1.3); what is for none is dropped (RFC 6026 §7.2).
    pub(super) fn handle_response(&mut self, now: Now, response: Response, flow: Flow) {
        let id = self
            .keys
            .of_response(&response)
            .and_then(|key| self.client_keys.get(&key).copied());
        let Some(id) = id else {
            self.metrics.responses_unmatched += 1;
            tracing::debug!(peer = %flow.remote, status = response.status().as_u16(), "response matches no request");
            return;
        };
        if let Err(rejection) = response.check() {
            self.metrics.malformed_received += 1;
            tracing::debug!(peer = %flow.remote, reason = %rejection, "response dropped");
            return;
        }
        self.metrics.responses_received += 1;
        self.client_input(
            now,
            id,
            Input::Response(response.status()),
            Some((response, flow)),
        );
    }

    pub(super) fn client_transport_error(&mut self, now: Now, id: u64, error: TransportFailure) {
        let Some(client) = self.clients.get(id) else {
            return;
        };
        let exchange = client.exchange;
        let before = client.running.is_some();
        let waits = client
            .running
            .as_ref()
            .is_some_and(|running| !running.machine.has_final_answer());
        if waits {
            self.avoid(now, id, None);
        }
        self.client_input(now, id, Input::TransportError, None);
        if before && self.clients.get(id).is_none() {
            let is_current = self
                .exchanges
                .get(exchange)
                .is_some_and(|exchange| exchange.current == id);
            if is_current {
                self.advance_or_fail(now, exchange, Setback::Transport(error));
            }
        }
    }

    pub(super) fn client_alarm(&mut self, now: Now, id: u64) {
        let tick = self.clock.now(now.instant);
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        client.queued = None;
        let due = |time: Option<Tick>| time.is_some_and(|time| time.is_due(tick));
        if due(client.end) {
            client.end = None;
            self.client_input(now, id, Input::End, None);
        } else if due(client.repeat) {
            client.repeat = None;
            self.client_input(now, id, Input::Repeat, None);
        }
        self.arm(Holder::client(id));
    }

    /// Sends a CANCEL for an INVITE that has a provisional answer, once (§9.1), with this value of Reason (RFC 3326).
    pub(super) fn send_cancel(&mut self, now: Now, id: u64, reason: Option<&str>) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let Some(running) = client.running.as_ref().filter(|_| !client.cancelled) else {
            return;
        };
        client.cancelled = true;
        let flow = Flow::from(running.flow);
        let Some(sent) = derived(
            &running.sent,
            Method::Cancel,
            None,
            self.config.max_forwards,
        ) else {
            return;
        };
        let sent = match reason.map(|reason| sent.edit().append(HeaderName::Reason, reason).build())
        {
            Some(Ok(explained)) => explained,
            _ => sent,
        };
        let headers = sent.headers();
        let Ok(top) = headers.via() else {
            return;
        };
        let key = self.keys.client(
            top.branch().unwrap_or(""),
            top.host_str(),
            top.port(),
            &Method::Cancel,
        );
        let reliable = flow.transport.is_reliable();
        let (machine, reaction) = client_non_invite::Machine::start(&self.config.timers, reliable);
        let cancel = self.clients.insert(Client::new(0, None, Hop::over(flow)));
        let running = Running {
            machine: Machine::NonInvite(machine),
            key,
            flow: flow.into(),
            sent,
        };
        self.start(now, cancel, running, reaction);
    }

    pub(super) fn remove_client(&mut self, id: u64) {
        let Some(client) = self.clients.remove(id) else {
            return;
        };
        self.disarm(client.queued);
        if let Some(running) = client.running {
            self.client_keys.remove(&running.key);
            let way = self.way(&running.flow.into());
            self.clients_on.remove(&(way, id));
        }
        trim(&mut self.clients, &mut self.client_keys);
    }

    fn start(&mut self, now: Now, id: u64, running: Running, reaction: Reaction) {
        let flow = Flow::from(running.flow);
        let way = self.way(&flow);
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        self.client_keys.insert(running.key, id);
        self.clients_on.insert((way, id));
        set(&mut client.repeat, reaction.repeat, &mut self.clock, now);
        set(&mut client.end, reaction.end, &mut self.clock, now);
        let bytes = running.sent.to_bytes();
        client.running = Some(running);
        self.arm(Holder::client(id));
        self.transmit(flow, bytes, Purpose::Attempt(AttemptId(id)));
    }

    fn client_input(
        &mut self,
        now: Now,
        id: u64,
        input: Input,
        response: Option<(Response, Flow)>,
    ) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let Some(running) = client.running.as_mut() else {
            return;
        };
        let reliable = running.flow.transport.is_reliable();
        let reaction = react(&mut running.machine, input, &self.config.timers, reliable);
        let terminated = running.machine.is_terminated();
        set(&mut client.repeat, reaction.repeat, &mut self.clock, now);
        set(&mut client.end, reaction.end, &mut self.clock, now);
        let (exchange, hop, flow) = (
            client.exchange,
            client.hop.clone(),
            Flow::from(running.flow),
        );
        if reaction.send {
            let bytes = running.sent.to_bytes();
            self.metrics.retransmissions_sent += 1;
            self.transmit(flow, bytes, Purpose::Attempt(AttemptId(id)));
        }
        if let (true, Some((response, _))) = (reaction.acknowledge, &response) {
            self.send_ack(id, response);
        }
        if !terminated {
            self.arm(Holder::client(id));
        }
        if reaction.deliver
            && let Some((response, flow)) = response
        {
            self.deliver(now, id, response, flow, &hop);
        }
        if reaction.inform == Some(Notice::TimedOut) {
            self.avoid(now, id, None);
        }
        if terminated {
            self.remove_client(id);
            self.accepted_ended(exchange, id);
        }
        if reaction.inform == Some(Notice::TimedOut) {
            let is_current = self
                .exchanges
                .get(exchange)
                .is_some_and(|exchange| exchange.current == id);
            if is_current {
                self.advance_or_fail(now, exchange, Setback::TimedOut);
            }
        }
    }

    /// A request that has a provisional answer stays with its target and fails with it.
    fn advance_or_fail(&mut self, now: Now, id: u64, setback: Setback) {
        let stays = self
            .exchanges
            .get(id)
            .is_some_and(|exchange| exchange.provisional);
        if !stays {
            self.advance(now, id, Some(setback));
            return;
        }
        let cancelled = self
            .exchanges
            .get(id)
            .is_some_and(|exchange| exchange.cancel != crate::attempts::Cancel::No);
        let error = match setback {
            _ if cancelled => RequestError::Cancelled,
            Setback::Transport(error) => RequestError::Transport(error),
            _ => RequestError::Timeout,
        };
        self.fail(id, error);
    }

    /// §18.1.1: a request that may not fit a datagram "MUST be sent using an RFC 2914 congestion controlled transport
    /// protocol, such as TCP"; when that cannot be had, it "SHOULD retry the request, using UDP".
    fn prefer_stream(&mut self, now: Now, id: u64, attempt: u64, hop: Hop) {
        let Some(destination) = hop.destination().cloned() else {
            return;
        };
        self.remove_client(attempt);
        let tick = self.clock.now(now.instant);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let stream = Destination {
            transport: Transport::Tcp,
            ..destination.clone()
        };
        // Where TCP could not be had a short while ago, it is not waited for again.
        let has_stream = !self.avoided.is_unreachable(tick, &stream);
        let datagram = Hop {
            place: Place::Destination(destination),
            only_after_refusal: has_stream,
            any_size: true,
        };
        exchange.hops.push_front(datagram);
        if has_stream {
            exchange.hops.push_front(Hop {
                any_size: true,
                ..Hop::to(stream)
            });
        }
        self.advance(now, id, None);
    }

    /// Acknowledges a refusal (§17.1.1.3).
    fn send_ack(&mut self, id: u64, response: &Response) {
        let Some(running) = self
            .clients
            .get(id)
            .and_then(|client| client.running.as_ref())
        else {
            return;
        };
        let flow = Flow::from(running.flow);
        let Some(ack) = derived(
            &running.sent,
            Method::Ack,
            Some(response),
            self.config.max_forwards,
        ) else {
            return;
        };
        self.transmit(flow, ack.to_bytes(), Purpose::Attempt(AttemptId(id)));
    }
}

fn react(machine: &mut Machine, input: Input, timers: &crate::Timers, reliable: bool) -> Reaction {
    match machine {
        Machine::Invite(machine) => {
            let input = match input {
                Input::Repeat => client_invite::Input::Repeat,
                Input::End => client_invite::Input::End,
                Input::TransportError => client_invite::Input::TransportError,
                Input::Response(status) if status.is_provisional() => {
                    client_invite::Input::Provisional
                }
                Input::Response(status) if status.is_success() => client_invite::Input::Success,
                Input::Response(_) => client_invite::Input::Refusal,
            };
            machine.on(input, timers, reliable)
        }
        Machine::NonInvite(machine) => {
            let input = match input {
                Input::Repeat => client_non_invite::Input::Repeat,
                Input::End => client_non_invite::Input::End,
                Input::TransportError => client_non_invite::Input::TransportError,
                Input::Response(status) if status.is_provisional() => {
                    client_non_invite::Input::Provisional
                }
                Input::Response(_) => client_non_invite::Input::Final,
            };
            machine.on(input, timers, reliable)
        }
    }
}

/// Makes the ACK or CANCEL of a request that was sent.
///
/// §17.1.1.3 and §9.1: Request-URI, Call-ID, From, the number of CSeq and all Route values are those of the request;
/// the single Via is its top one; To comes from the response that is acknowledged, or else from the request.
fn derived(
    sent: &Request,
    method: Method,
    response: Option<&Response>,
    max_forwards: u8,
) -> Option<Request> {
    let headers = sent.headers();
    let to = response
        .map_or(headers, Response::headers)
        .text(&HeaderName::To)?;
    let mut builder = Request::builder(method, sent.uri().ok()?)
        .via(headers.text(&HeaderName::Via)?)
        .max_forwards(max_forwards)
        .from(headers.text(&HeaderName::From)?)
        .to(to)
        .call_id(headers.text(&HeaderName::CallId)?)
        .cseq(headers.cseq().ok()?.number);
    for route in headers.all(&HeaderName::Route) {
        builder = builder.route(String::from_utf8_lossy(route));
    }
    builder.build().ok()
}

/// The value of a Via of ours, with `rport` so that the answer comes back through a NAT (RFC 3581 §3).
fn via(transport: Transport, sent_by: &SentBy, branch: &str) -> String {
    let mut value = String::with_capacity(96);
    // Writing to a string cannot fail.
    let _ = write!(
        value,
        "SIP/2.0/{} {sent_by};branch={branch};rport",
        transport.as_str()
    );
    if sent_by.alias {
        value.push_str(";alias");
    }
    value
}
