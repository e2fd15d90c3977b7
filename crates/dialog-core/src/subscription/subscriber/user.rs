//! The transaction user that runs a [`Subscriber`] inside an endpoint.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{Method, Request, Response};
use sipora_transaction_core::{Claim, Context, Event, IncomingRequest, Target, User};
use sipora_transport::{Flow, FlowId};
use tokio::sync::{mpsc, oneshot, watch};

use super::inbox::{Feeder, Inbox};
use super::{
    Notification, Subscribe, Subscriber, SubscriberEvent, SubscriptionEnd, SubscriptionId,
    SubscriptionState,
};
use crate::outbox::{Outbox, Outcome, Outgoing};
use crate::user::Abandoned;
use crate::{ApiError, Authorizer};

/// Claims every NOTIFY: one that belongs to no subscription gets 481.
pub(super) struct SubscriberUser {
    pub(super) core: Subscriber,
    outbox: Outbox<SubscriptionId>,
    links: HashMap<SubscriptionId, Link>,
    /// Subscriptions that their keys have opened.
    opened: HashMap<u64, SubscriptionId>,
    abandoned: Arc<Abandoned>,
}

pub(super) enum Command {
    Open(Box<Open>),
    Refresh(u64, u8, oneshot::Sender<Result<Response, ApiError>>),
    Terminate(u64, u8),
    /// Looks at what was abandoned.
    Reap,
}

pub(super) struct Open {
    pub(super) key: u64,
    pub(super) subscribe: Subscribe,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    pub(super) timeout: Duration,
    pub(super) reply: oneshot::Sender<Result<Opened, SubscriptionEnd>>,
}

/// What an application gets.
pub(super) struct Opened {
    pub(super) key: u64,
    pub(super) place: u8,
    pub(super) response: Option<Response>,
    pub(super) inbox: Inbox,
    pub(super) states: watch::Receiver<SubscriptionState>,
    pub(super) forks: Option<mpsc::Receiver<Opened>>,
}

/// The way to an application.
struct Link {
    key: u64,
    authorizer: Option<Arc<dyn Authorizer>>,
    timeout: Duration,
    feeder: Feeder,
    states: watch::Sender<SubscriptionState>,
    /// Kept until the SUBSCRIBE is accepted.
    opening: Option<Opening>,
    refreshing: Vec<oneshot::Sender<Result<Response, ApiError>>>,
    forks: Option<mpsc::Sender<Opened>>,
    /// The connection that the last SUBSCRIBE was accepted over, and since when that one serves. None once its end was heard
    /// of.
    flow: Option<(FlowId, Instant)>,
}

struct Opening {
    reply: oneshot::Sender<Result<Opened, SubscriptionEnd>>,
    opened: Opened,
}

impl SubscriberUser {
    pub(super) fn new(core: Subscriber, abandoned: Arc<Abandoned>) -> Self {
        Self {
            core,
            outbox: Outbox::new(),
            links: HashMap::new(),
            opened: HashMap::new(),
            abandoned,
        }
    }

    fn open(&mut self, context: &mut Context<'_>, open: Open) {
        let Open {
            key,
            subscribe,
            authorizer,
            timeout,
            reply,
        } = open;
        if reply.is_closed() {
            return;
        }
        let id = match self.core.subscribe(context.now().instant, subscribe) {
            Ok(id) => id,
            Err(error) => {
                let error = match error {
                    super::SubscribeError::TooMany => ApiError::Busy { cseq: None },
                    super::SubscribeError::Invalid(reason) => ApiError::InvalidRequest {
                        header: "SUBSCRIBE".to_owned(),
                        reason,
                    },
                };
                // Who waited may have gone; then there is nobody to tell.
                let _ = reply.send(Err(SubscriptionEnd::NoAnswer(error)));
                return;
            }
        };
        let (forks, receiver) = mpsc::channel(FORKS);
        let (mut link, mut opened) = link(key, 0, authorizer, timeout);
        opened.forks = Some(receiver);
        link.forks = Some(forks);
        link.opening = Some(Opening { reply, opened });
        self.opened.insert(key, id);
        self.links.insert(id, link);
    }

    /// Moves everything that the core wants moved.
    fn drain(&mut self, context: &mut Context<'_>) {
        loop {
            if let Some(event) = self.core.poll_event() {
                self.tell(event);
                continue;
            }
            let Some(request) = self.core.poll_request() else {
                return;
            };
            let Some(link) = self.links.get(&request.id) else {
                continue;
            };
            let outgoing = Outgoing {
                key: request.id,
                request: request.request,
                target: Target::Uri(request.next_hop),
                fallback: None,
                authorizer: link.authorizer.clone(),
                timeout: link.timeout,
            };
            if let Some(outcome) = self.outbox.send(context, outgoing) {
                self.settle(context, outcome);
            }
        }
    }

    fn settle(&mut self, context: &mut Context<'_>, outcome: Outcome<SubscriptionId>) {
        let (id, now) = (outcome.key, context.now().instant);
        match outcome.result {
            Ok(exchange) => {
                let (cseq, response) = (exchange.cseq, &exchange.response);
                if response.status().is_success() {
                    self.lives_on(context, id, exchange.flow);
                }
                self.core
                    .handle_response(now, id, cseq, response, exchange.refusal);
                // Its end may have been told before the answer was taken.
                if !context.is_open(exchange.flow.id) {
                    self.flow_closed(now, exchange.flow.id);
                }
            }
            Err(error) => self.core.handle_failure(now, id, error),
        }
    }

    fn lives_on(&mut self, context: &mut Context<'_>, id: SubscriptionId, flow: Flow) {
        let now = context.now().instant;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if !flow.transport.is_stream() {
            link.flow = None;
            return;
        }
        let before = link.flow.filter(|(before, _)| *before == flow.id);
        link.flow = before.or(Some((flow.id, now)));
        if let Some(interval) = self.core.config.keep_alive {
            context.try_keep_alive(flow.id, interval);
        }
    }

    /// A connection has ended; whatever lives on it needs another.
    fn flow_closed(&mut self, now: Instant, flow: FlowId) {
        let mut lost = Vec::new();
        for (id, link) in &mut self.links {
            if let Some((_, since)) = link.flow.take_if(|(id, _)| *id == flow) {
                lost.push((*id, now.saturating_duration_since(since)));
            }
        }
        // In an order that does not depend on the map's.
        lost.sort_unstable();
        for (id, served) in lost {
            self.core.handle_flow_lost(now, id, served);
        }
    }

    fn tell(&mut self, event: SubscriberEvent) {
        match event {
            SubscriberEvent::Accepted { id, response } => {
                let opening = self.links.get_mut(&id).and_then(|link| link.opening.take());
                if let Some(Opening { reply, mut opened }) = opening {
                    opened.response = response;
                    // A future that was dropped is reaped.
                    let _ = reply.send(Ok(opened));
                }
            }
            SubscriberEvent::Refreshed { id, result } => {
                if let Some(link) = self.links.get_mut(&id) {
                    for reply in link.refreshing.drain(..) {
                        let _ = reply.send(result.clone());
                    }
                }
            }
            SubscriberEvent::Forked { origin, id } => self.fork(origin, id),
            SubscriberEvent::Notified { id, notification } => self.notified(id, *notification),
            SubscriberEvent::State { id, state } => self.changed(id, state),
        }
    }

    fn notified(&mut self, id: SubscriptionId, notification: Notification) {
        if let Some(link) = self.links.get(&id) {
            link.feeder.push(notification);
        }
    }

    fn fork(&mut self, origin: SubscriptionId, id: SubscriptionId) {
        let Some(first) = self.links.get(&origin) else {
            return;
        };
        let authorizer = first.authorizer.clone();
        let (link, opened) = link(first.key, id.place, authorizer, first.timeout);
        let forks = first.forks.clone();
        self.links.insert(id, link);
        // Nobody takes it: it is given up.
        if forks.is_none_or(|forks| forks.try_send(opened).is_err()) {
            self.core.forget(id);
        }
    }

    fn changed(&mut self, id: SubscriptionId, state: SubscriptionState) {
        let SubscriptionState::Terminated(end) = &state else {
            if let Some(link) = self.links.get(&id) {
                link.states.send_replace(state);
            }
            return;
        };
        let Some(mut link) = self.links.remove(&id) else {
            return;
        };
        if let Some(Opening { reply, .. }) = link.opening.take() {
            let _ = reply.send(Err(end.clone()));
        }
        link.states.send_replace(state);
        if !self.core.knows(id) {
            self.opened.remove(&link.key);
        }
    }

    fn reap(&mut self, context: &mut Context<'_>) {
        for word in self.abandoned.take() {
            let (key, place) = split(word);
            let Some(id) = self.id(key, place) else {
                continue;
            };
            self.give_up(context, id);
            // Forks that nobody took go with the first.
            for place in 1..=u8::MAX {
                let fork = SubscriptionId { place, ..id };
                match self.links.get(&fork) {
                    Some(link) if link.states.is_closed() => self.give_up(context, fork),
                    Some(_) => {}
                    None if place >= MAX_FORKS => break,
                    None => {}
                }
            }
        }
    }

    fn give_up(&mut self, context: &mut Context<'_>, id: SubscriptionId) {
        self.outbox.abandon(context, |other| other == id);
        self.core.forget(id);
    }

    fn id(&self, key: u64, place: u8) -> Option<SubscriptionId> {
        let first = self.opened.get(&key)?;
        Some(SubscriptionId { place, ..*first })
    }
}

fn link(
    key: u64,
    place: u8,
    authorizer: Option<Arc<dyn Authorizer>>,
    timeout: Duration,
) -> (Link, Opened) {
    let (feeder, inbox) = Inbox::new();
    let (states, receiver) = watch::channel(SubscriptionState::Waiting);
    let link = Link {
        key,
        authorizer,
        timeout,
        feeder,
        states,
        opening: None,
        refreshing: Vec::new(),
        forks: None,
        flow: None,
    };
    let opened = Opened {
        key,
        place,
        response: None,
        inbox,
        states: receiver,
        forks: None,
    };
    (link, opened)
}

impl Drop for Link {
    fn drop(&mut self) {
        self.states.send_if_modified(|state| {
            let is_open = !state.is_terminal();
            if is_open {
                *state = SubscriptionState::Terminated(SubscriptionEnd::Stopped);
            }
            is_open
        });
    }
}

impl User for SubscriberUser {
    type Command = Command;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        // Extensions that are required get the endpoint's 420.
        if *request.method() != Method::Notify || request.headers().require().next().is_some() {
            return Claim::Passed;
        }
        if self.core.leaves_unsolicited() && is_unsolicited(request) {
            return Claim::Passed;
        }
        // "REFER is the only mechanism that can create a subscription to event refer" (RFC 3515 §2.4.4): calls send it.
        if is_of_refer(request) {
            return Claim::Passed;
        }
        let answer = self.core.handle_notify(context.now().instant, request);
        let mut builder = context.answer(request, answer.status);
        if let Some(reason) = &answer.reason {
            builder = builder.reason(&printable(reason));
        }
        for (name, value) in answer.headers {
            builder = builder.header(name, value);
        }
        let call_id = request.headers().call_id().unwrap_or_default();
        if !answer.status.is_success() {
            tracing::debug!(call_id, peer = %incoming.flow, status = %answer.status, "a NOTIFY is refused");
        }
        if let Ok(response) = builder.build() {
            let _ = match answer.status.is_success() {
                true => context.respond(incoming.transaction, response),
                // Nothing has changed: a copy gets the same.
                false => context.respond_stateless(incoming.transaction, response),
            };
        }
        self.drain(context);
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        if let Event::FlowClosed { flow } = event {
            self.flow_closed(context.now().instant, flow);
        } else if let Some(outcome) = self.outbox.on_event(context, event) {
            self.settle(context, outcome);
        }
        self.drain(context);
    }

    fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
        self.reap(context);
        let now = context.now().instant;
        match command {
            Command::Open(open) => self.open(context, *open),
            Command::Refresh(key, place, reply) => {
                let id = self.id(key, place);
                let is_sent = id.is_some_and(|id| self.core.refresh(now, id));
                if let Some(link) = id.and_then(|id| self.links.get_mut(&id))
                    && is_sent
                {
                    link.refreshing.push(reply);
                }
            }
            Command::Terminate(key, place) => {
                if let Some(id) = self.id(key, place) {
                    self.core.terminate(now, id);
                }
            }
            Command::Reap => {}
        }
        self.drain(context);
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        self.core.handle_timeout(context.now().instant);
        self.drain(context);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }

    fn methods(&self) -> Vec<Method> {
        vec![Method::Notify]
    }
}

fn is_of_refer(notify: &Request) -> bool {
    let event = notify.headers().event();
    event.is_ok_and(|event| event.is_some_and(|it| it.package().eq_ignore_ascii_case("refer")))
}

/// Whether no SUBSCRIBE can have asked for a NOTIFY: its To would have our tag.
fn is_unsolicited(notify: &Request) -> bool {
    notify.headers().to().is_ok_and(|to| to.tag().is_none())
}

/// A reason phrase without what it cannot hold.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// Packs a key and a place into one word of [`Abandoned`].
pub(super) fn join(key: u64, place: u8) -> u64 {
    key << 8 | u64::from(place)
}

fn split(word: u64) -> (u64, u8) {
    (word >> 8, (word & 0xff) as u8)
}

/// Forked subscriptions that wait for one reader; more are given up.
const FORKS: usize = 8;

/// The highest place that is looked at.
const MAX_FORKS: u8 = 32;
