//! One task with its sockets, transactions and users.
//!
//! Nothing in here waits: the task polls its inputs by turns, deals with each at once, and sleeps until the next input or
//! the earliest alarm.

use super::core::Core;
use super::handle::{Command, Shared};
use super::router::Passed;
use super::signal::Signal;
use super::user::{AnyUser, Chair};
use super::{Claim, Context, observer};
use crate::{Event, IncomingRequest, Metrics, Owner, TransportFailure, default_answer};
use sipora_message::{Message, Method};
use sipora_transport::{Direction, Flow, FlowId, Inbound, InboundReceiver, Payload, UdpListener};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Waker, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::Sleep;

pub(super) struct Shard {
    pub(super) core: Core,
    /// In the order of claims.
    pub(super) users: Vec<Chair>,
    pub(super) sockets: Vec<UdpListener>,
    pub(super) inbound: InboundReceiver,
    pub(super) passed: mpsc::Receiver<Passed>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) shutdown: mpsc::Receiver<()>,
    pub(super) shared: Arc<Shared>,
    pub(super) allow: Vec<Method>,
    pub(super) batch: usize,
    pub(super) drain: Duration,
    pub(super) received: Vec<Inbound>,
    /// When a shutdown will wait no longer.
    pub(super) ends: Option<Instant>,
    pub(super) sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to, by the network's clock.
    pub(super) wakes: Option<Instant>,
    /// Raised by everything that wakes the task but its sockets, which have most of the work, and slow work, which is polled
    /// where there is any.
    pub(super) signal: Signal,
    /// The signal was raised since `sleep` was looked at.
    pub(super) may_ring: bool,
}

impl Shard {
    /// Runs until a shutdown is over.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Waker<'_>) -> Poll<()> {
        self.signal.follow(cx);
        for round in 0..ROUNDS {
            // The second round finds little to do in most cases, and so soon that it is still the same time.
            if round != 1 {
                self.core.now = self.core.transports.now();
            }
            if self.signal.take() {
                self.may_ring = true;
                if self.poll_told() {
                    // There may be more, and whoever has given something has not been asked to tell when there is.
                    self.signal.raise();
                }
            }
            let mut again = self.poll_sockets(cx);
            again |= self.alarms();
            // Last, as all of the above may begin it, and it is to be waited for.
            again |= self.poll_slow(cx);
            again |= !self.core.bound.is_empty();
            if self.has_ended() {
                self.publish();
                return Poll::Ready(());
            }
            if !again && !self.signal.is_raised() && self.poll_sleep().is_pending() {
                self.publish();
                return Poll::Pending;
            }
        }
        // Others on this runtime get their turn.
        self.publish();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls whatever raises the signal.
    fn poll_told(&mut self) -> bool {
        let waker = self.signal.waker().clone();
        let cx = &mut Waker::from_waker(&waker);
        let mut progress = self.poll_shutdown(cx);
        progress |= self.poll_commands(cx);
        progress |= self.poll_passed(cx);
        progress |= self.poll_streams(cx);
        progress |= self.poll_users(cx);
        progress
    }

    fn poll_shutdown(&mut self, cx: &mut Waker<'_>) -> bool {
        if self.ends.is_some() || self.shutdown.poll_recv(cx).is_pending() {
            return false;
        }
        // A closed channel means that the endpoint and its handles are gone: there is nobody left to run for.
        tracing::debug!("endpoint is shutting down");
        self.ends = self
            .core
            .now
            .instant
            .checked_add(self.drain)
            .or(Some(self.core.now.instant));
        self.core.layer.drain();
        for index in 0..self.users.len() {
            self.with_user(index, |user, context| user.on_shutdown(context));
            self.settle();
        }
        true
    }

    fn poll_commands(&mut self, cx: &mut Waker<'_>) -> bool {
        let mut progress = false;
        for _ in 0..self.batch {
            let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) else {
                break;
            };
            progress = true;
            match command {
                Command::Respond(transaction, response, reply) => {
                    // Who does not wait for the outcome does not want it.
                    let _ = reply.send(self.core.layer.respond(
                        self.core.now,
                        transaction,
                        response,
                    ));
                }
            }
            self.settle();
        }
        progress
    }

    fn poll_slow(&mut self, cx: &mut Waker<'_>) -> bool {
        let mut progress = false;
        while self.core.has_slow_work() && self.core.poll_slow(cx) {
            self.settle();
            progress = true;
        }
        progress
    }

    fn poll_passed(&mut self, cx: &mut Waker<'_>) -> bool {
        let mut progress = false;
        for _ in 0..self.batch {
            let Poll::Ready(Some(passed)) = self.passed.poll_recv(cx) else {
                break;
            };
            self.take_passed(passed);
            progress = true;
        }
        progress
    }

    fn poll_streams(&mut self, cx: &mut Waker<'_>) -> bool {
        let mut progress = self.core.router.poll_held(cx);
        for _ in 0..self.batch {
            if self.core.router.is_holding() {
                break;
            }
            let Poll::Ready(Some(inbound)) = self.inbound.poll_recv(cx) else {
                break;
            };
            self.take(inbound);
            progress = true;
        }
        progress
    }

    /// Takes what has come in, and says whether there may be more. Where there is not, the task is woken when there is.
    fn poll_sockets(&mut self, cx: &mut Waker<'_>) -> bool {
        let mut more = false;
        self.sockets.append(&mut self.core.bound);
        for index in 0..self.sockets.len() {
            let Some(socket) = self.sockets.get_mut(index) else {
                break;
            };
            let mut received = std::mem::take(&mut self.received);
            if let Poll::Ready(taken) = socket.poll_recv_batch(cx, &mut received, self.batch) {
                more |= taken >= self.batch;
                for inbound in received.drain(..) {
                    self.take(inbound);
                }
            }
            self.received = received;
        }
        more
    }

    fn poll_users(&mut self, cx: &mut Waker<'_>) -> bool {
        let mut progress = false;
        for index in 0..self.users.len() {
            for _ in 0..self.batch {
                let Some(Chair::Taken { user, .. }) = self.users.get_mut(index) else {
                    break;
                };
                let mut context = Context::new(&mut self.core, place(index));
                if !user.poll_command(cx, &mut context) {
                    break;
                }
                self.settle();
                progress = true;
            }
        }
        progress
    }

    /// Lets every alarm go off that is due.
    fn alarms(&mut self) -> bool {
        let now = self.core.now;
        let due = |time: Option<Instant>| time.is_some_and(|time| time <= now.instant);
        let mut progress = false;
        if due(self.core.layer.poll_timeout()) {
            self.core.layer.handle_timeout(now);
            self.settle();
            progress = true;
        }
        for index in 0..self.users.len() {
            if self
                .users
                .get(index)
                .is_some_and(|chair| due(chair.next_timeout()))
            {
                self.with_user(index, |user, context| user.on_timeout(context));
                self.settle();
                progress = true;
            }
        }
        progress
    }

    /// Sets the alarm clock to the earliest alarm and looks at it.
    ///
    /// It is set anew only when it would ring too late: one that rings too early costs less than setting it each time. It
    /// raises the signal when it rings, and is not looked at before.
    fn poll_sleep(&mut self) -> Poll<()> {
        let users = self.users.iter().filter_map(Chair::next_timeout).min();
        let alarms = [self.core.layer.poll_timeout(), users, self.looks_again()];
        let Some(next) = alarms.into_iter().flatten().min() else {
            return Poll::Pending;
        };
        if self.wakes.is_none_or(|wakes| next < wakes) {
            let wait = next.saturating_duration_since(self.core.now.instant);
            self.sleep
                .as_mut()
                .reset(tokio::time::Instant::now() + wait);
            self.wakes = Some(next);
        } else if !self.may_ring {
            return Poll::Pending;
        }
        self.may_ring = false;
        let cx = &mut Waker::from_waker(self.signal.waker());
        let sleep = self.sleep.as_mut().poll(cx);
        if sleep.is_ready() {
            self.wakes = None;
        }
        sleep
    }

    /// Deals with one thing that another shard has handed over.
    fn take_passed(&mut self, passed: Passed) {
        match passed {
            Passed::Message {
                message,
                flow,
                place,
                home,
            } => self.receive(message, flow, place, home),
            Passed::Unreachable {
                sockets,
                flow,
                kind,
            } => self.unreachable(&sockets, flow, kind),
        }
        self.settle();
    }

    /// Deals with one thing that came in.
    fn take(&mut self, inbound: Inbound) {
        if observer::logs()
            && let Some(received) = inbound.as_received()
        {
            observer::log(Direction::In, &inbound.flow, &received);
        }
        let Inbound { flow, payload, .. } = inbound;
        match payload {
            Payload::Message(message) => match self.core.router.elsewhere(&message, &flow) {
                Some(shard) => self.pass_on(shard, message, flow, 0, shard),
                None => self.receive(message, flow, 0, self.core.router.shard),
            },
            Payload::Malformed(malformed) => {
                tracing::debug!(peer = %flow.remote, reason = malformed.reason, "malformed message");
                self.core.layer.handle_malformed(
                    malformed.request.as_ref(),
                    malformed.status,
                    &malformed.reason,
                    flow,
                );
            }
            Payload::Closed(reason) => {
                tracing::debug!(peer = %flow.remote, %reason, "connection ended");
                // What came over it before has been handed over by now, and answers requests that would fail.
                for _ in 0..self.passed.len() {
                    if let Ok(passed) = self.passed.try_recv() {
                        self.take_passed(passed);
                    }
                }
                self.closed(flow);
            }
            Payload::Unreachable(kind) => {
                let siblings = self.core.router.siblings(flow.id).cloned();
                let sockets = siblings.unwrap_or_else(|| [flow.id].into());
                self.core.router.unreachable(&sockets, flow, kind);
                self.unreachable(&sockets, flow, kind);
            }
            _ => {}
        }
        self.settle();
    }

    /// Deals with a message that has come to its place; a request that is new is offered from the user at `place` on.
    fn receive(&mut self, message: Message, flow: Flow, place: usize, home: usize) {
        let now = self.core.now;
        if let Some(request) = self.core.layer.handle_message(now, message, flow) {
            self.offer(request, place, home);
        }
    }

    /// Hands a message to the shard that it belongs to. When there is no room, UDP may send it again, and who sent a request
    /// over a connection, where nobody does, is told; an answer or an ACK that came over one waits.
    fn pass_on(&mut self, shard: usize, message: Message, flow: Flow, place: usize, home: usize) {
        let message = Passed::Message {
            message,
            flow,
            place,
            home,
        };
        let Some(Passed::Message { message, .. }) = self.core.router.pass_on(shard, message) else {
            return;
        };
        tracing::debug!(peer = %flow.remote, shard, "no room for a message of another shard");
        if let Message::Request(request) = message
            && flow.transport.is_reliable()
            && *request.method() != Method::Ack
        {
            self.core.layer.refuse_for_lack_of_room(&request, flow);
        }
    }

    fn unreachable(&mut self, sockets: &[FlowId], flow: Flow, kind: ErrorKind) {
        let error = match kind {
            ErrorKind::ConnectionRefused => TransportFailure::Refused,
            kind => TransportFailure::Other(kind.to_string().into()),
        };
        for &id in sockets {
            let flow = Flow { id, ..flow };
            self.core
                .layer
                .handle_unreachable(self.core.now, flow, error.clone());
        }
    }

    fn closed(&mut self, flow: Flow) {
        self.core.layer.handle_flow_closed(self.core.now, flow.id);
        self.settle();
        for index in 0..self.users.len() {
            self.with_user(index, |user, context| {
                user.on_event(context, Event::FlowClosed { flow: flow.id })
            });
            self.settle();
        }
    }

    /// Asks one user after the other whether a request is theirs, and answers it for them when it is nobody's. The users of
    /// one shard alone are asked where the request belongs, those of all shards where they are.
    fn offer(&mut self, request: IncomingRequest, from: usize, home: usize) {
        let here = self.core.router.shard;
        for index in from..self.users.len() {
            let elsewhere = match self.users.get(index) {
                Some(Chair::Taken { is_alone, .. }) if *is_alone || here == home => None,
                Some(Chair::Taken { .. }) => Some(home),
                Some(chair) if chair.wants(&request.request) => Some(FIRST),
                _ => continue,
            };
            if let Some(shard) = elsewhere {
                // Its transaction is begun there, where every copy of it will come to.
                self.core.layer.hand_over(request.transaction);
                let message = Message::Request(request.request);
                return self.pass_on(shard, message, request.flow, index, home);
            }
            let Some(Chair::Taken { user, .. }) = self.users.get_mut(index) else {
                continue;
            };
            let refuses_merged = user.refuses_merged(&request);
            if refuses_merged
                && self
                    .core
                    .layer
                    .refuse_merged(self.core.now, &request, place(index))
            {
                return;
            }
            // Assigned first: a user that answers at once may get events before it returns.
            self.core.layer.assign(request.transaction, place(index));
            let mut context = Context::new(&mut self.core, place(index));
            if user.on_request(&mut context, &request) == Claim::Taken {
                if refuses_merged {
                    self.core.layer.remember_origin(&request, place(index));
                }
                return;
            }
        }
        let tag = self.core.layer.keyed_tag(&request.request);
        let answer = default_answer(&request.request, &self.allow)
            .map(|builder| builder.to_tag(tag.as_str()).print());
        match answer {
            Some(Ok(response)) => {
                // A user that passes on a request which it has answered has answered it all the same.
                let _ = self
                    .core
                    .layer
                    .respond_stateless(request.transaction, response);
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %request.flow.remote, %error, "no answer can be made to the request");
                self.core.layer.forget(request.transaction);
            }
            None => {}
        }
    }

    /// Hands events to users and bytes to flows until nothing is left to hand over.
    fn settle(&mut self) {
        loop {
            self.core.flush();
            let Some((owner, event)) = self.core.layer.poll_event() else {
                return;
            };
            self.with_user(usize::from(owner.0), |user, context| {
                user.on_event(context, event)
            });
        }
    }

    fn with_user(&mut self, index: usize, call: impl FnOnce(&mut dyn AnyUser, &mut Context<'_>)) {
        if let Some(Chair::Taken { user, .. }) = self.users.get_mut(index) {
            call(
                user.as_mut(),
                &mut Context::new(&mut self.core, place(index)),
            );
        }
    }

    fn has_ended(&self) -> bool {
        let Some(ends) = self.ends else {
            return false;
        };
        let idle = self.core.layer.is_idle() && !self.core.has_slow_work();
        // The shards end together: what one receives may be for another.
        self.shared.set_idle(self.core.router.shard, idle) || ends <= self.core.now.instant
    }

    /// When to see whether a shutdown is over.
    fn looks_again(&self) -> Option<Instant> {
        let ends = self.ends?;
        let soon = self.core.now.instant.checked_add(LOOK_AGAIN);
        let others = self.core.layer.is_idle() && self.shared.shards() > 1;
        soon.filter(|soon| others && *soon < ends).or(Some(ends))
    }

    fn publish(&self) {
        let metrics = Metrics {
            passed_on: self.core.router.passed_on,
            not_passed_on: self.core.router.not_passed_on,
            held_back: self.core.router.held_back,
            reports_not_passed_on: self.core.router.reports_not_passed_on,
            ..self.core.layer.metrics()
        };
        self.shared.publish(self.core.router.shard, metrics);
    }
}

fn place(index: usize) -> Owner {
    Owner(u16::try_from(index).unwrap_or(u16::MAX))
}

/// The shard of users of which there is one.
const FIRST: usize = 0;

/// Rounds over all inputs before other tasks get a turn.
const ROUNDS: usize = 8;

/// How often a shard without work looks whether the others are done too, in a shutdown.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
