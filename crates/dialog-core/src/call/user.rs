//! The transaction user that runs [`Calls`] inside an endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{Method, Request, Response, Scheme, StatusCode, Uri};
use sipora_transaction_core::{
    Claim, Context, Event, IncomingRequest, RequestId, RequestOptions, Target, User,
};
use tokio::sync::{mpsc, oneshot};

use super::command::{Command, Offered};
use super::core::{CallKey, Calls, ExchangeKey, Output};
use super::event::{CallError, CallEvent};
use super::inbox::Feeder;
use super::outside_api::OfferedRefer;
use super::places::{contact, locate};
use super::refer::{ReferAnswer, ReferId};
use super::referring::is_granted;
use super::rejection::Rejection;
use super::replacing::Related;
use super::shards::Elsewhere;
use super::ways::Ways;
use crate::ApiError;
use crate::numbered::Numbered;

/// Claims every INVITE, and whatever stands in the dialog of a call.
pub(super) struct CallUser {
    pub(super) core: Calls,
    requests: Numbered<RequestId, Sent>,
    /// INVITEs that may be cancelled.
    invites: Numbered<ExchangeKey, RequestId>,
    pub(super) links: Numbered<CallKey, Feeder>,
    /// Who waits for the answers to requests within calls.
    pub(super) asked: Numbered<ExchangeKey, Reply>,
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
pub(super) enum Reply {
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
        if begins_with_foreign_scheme(&incoming.request) {
            // The endpoint refuses it with 416.
            return Claim::Passed;
        }
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
        if self.core.config().answers_options {
            methods.push(Method::Options);
        }
        methods
    }
}

/// It stands outside of dialogs, and its Request-URI names nobody that can be called (RFC 3261 §8.2.2.1).
fn begins_with_foreign_scheme(request: &Request) -> bool {
    let is_known = |scheme| matches!(scheme, Scheme::Sip | Scheme::Sips | Scheme::Tel);
    let begins = matches!(
        request.method(),
        Method::Invite | Method::Refer | Method::Options
    ) && request.headers().to().is_ok_and(|to| to.tag().is_none());
    begins && !request.uri().is_ok_and(|uri| is_known(uri.scheme()))
}

impl Drop for CallUser {
    fn drop(&mut self) {
        self.ways.close(self.shard);
    }
}
