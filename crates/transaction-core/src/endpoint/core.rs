//! The transactions of a shard with their flows, and the slow work that is done for them elsewhere.

use super::observer;
use super::router::Router;
use crate::{AttemptId, Open, Purpose, RequestId, TransactionLayer, Transmit, TransportFailure};
use bytes::Bytes;
use sipora_message::{Limits, Response, Uri};
use sipora_transport::{
    Destination, Direction, Flow, Now, OpenError, Resolver, SendError, Transport, Transports,
    UdpListener, response_destination,
};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinSet;

/// What users reach through their [`Context`](super::Context).
pub(super) struct Core {
    pub(super) now: Now,
    pub(super) layer: TransactionLayer,
    pub(super) transports: Transports,
    pub(super) router: Router,
    pub(super) resolver: Arc<dyn Resolver>,
    /// Sockets that were bound on the way, for the shard to take over: one for each family of addresses at most.
    pub(super) bound: Vec<UdpListener>,
    slow: JoinSet<Done>,
    slow_limit: usize,
    /// Jobs for which there was no room. Each belongs to a request, whose own cap bounds this queue.
    waiting: VecDeque<Job>,
}

/// Work that takes time.
#[derive(Debug)]
pub(super) enum Job {
    /// Find the targets of a request.
    Resolve(RequestId, Uri),
    /// Open a flow for an attempt.
    Connect(AttemptId, Destination),
    /// Open a flow for an answer whose connection is gone (RFC 3261 §18.2.2).
    Answer(Destination, Bytes, Purpose),
}

impl Job {
    /// Says whether anybody waits for the outcome.
    fn is_wanted(&self, layer: &TransactionLayer) -> bool {
        match self {
            Job::Resolve(request, _) => layer.has_request(*request),
            Job::Connect(attempt, _) => layer.has_attempt(*attempt),
            Job::Answer(..) => true,
        }
    }
}

/// Its outcome.
pub(super) enum Done {
    Resolved(RequestId, Result<Vec<Destination>, TransportFailure>),
    Connected(AttemptId, Result<Flow, TransportFailure>),
    AnswerFlow(Result<Flow, TransportFailure>, Bytes, Purpose),
}

impl Core {
    pub(super) fn new(
        layer: TransactionLayer,
        transports: Transports,
        router: Router,
        resolver: Arc<dyn Resolver>,
        slow_limit: usize,
    ) -> Self {
        Self {
            now: transports.now(),
            layer,
            transports,
            router,
            resolver,
            bound: Vec::new(),
            slow: JoinSet::new(),
            slow_limit: slow_limit.max(1),
            waiting: VecDeque::new(),
        }
    }

    /// Starts a job, or lets it wait for its turn.
    pub(super) fn begin(&mut self, job: Job) {
        if self.slow.len() >= self.slow_limit {
            // Those whose request has ended meanwhile must not pile up behind names that take long.
            if self.waiting.len() >= self.layer.most_waiting() {
                let layer = &self.layer;
                self.waiting.retain(|job| job.is_wanted(layer));
            }
            self.waiting.push_back(job);
            return;
        }
        let (transports, resolver) = (self.transports.clone(), Arc::clone(&self.resolver));
        self.slow.spawn(perform(job, transports, resolver));
    }

    /// Takes the outcome of one job.
    pub(super) fn poll_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(Some(outcome)) = self.slow.poll_join_next(cx) else {
            return false;
        };
        while let Some(job) = self.waiting.pop_front() {
            if job.is_wanted(&self.layer) {
                self.begin(job);
                break;
            }
        }
        match outcome {
            Ok(Done::Resolved(request, targets)) => {
                self.layer.targets_found(self.now, request, targets)
            }
            Ok(Done::Connected(attempt, Ok(flow))) => self.flow_ready(attempt, flow),
            Ok(Done::Connected(attempt, Err(error))) => {
                self.layer.flow_failed(self.now, attempt, error)
            }
            Ok(Done::AnswerFlow(Ok(flow), bytes, purpose)) => {
                if let Err(error) = self.put(&flow, bytes) {
                    self.layer
                        .handle_transport_error(self.now, purpose, send_failure(&error));
                }
            }
            Ok(Done::AnswerFlow(Err(error), _, purpose)) => {
                self.layer.handle_transport_error(self.now, purpose, error);
            }
            Err(error) => tracing::error!(%error, "a resolver or connection task failed"),
        }
        true
    }

    pub(super) fn has_slow_work(&self) -> bool {
        !self.slow.is_empty() || !self.waiting.is_empty()
    }

    /// Does what the core wants of the flows, until it wants nothing more.
    pub(super) fn flush(&mut self) {
        loop {
            if let Some(open) = self.layer.poll_open() {
                self.open(open);
                continue;
            }
            let Some(transmit) = self.layer.poll_transmit() else {
                return;
            };
            self.send(transmit);
        }
    }

    fn open(&mut self, open: Open) {
        match open {
            Open::Destination(attempt, destination) => match self.existing(&destination) {
                Some(flow) => {
                    let id = self.router.own(flow.id);
                    self.flow_ready(attempt, Flow { id, ..flow });
                }
                None => self.begin(Job::Connect(attempt, destination)),
            },
            Open::Flow(attempt, flow) if self.transports.is_open(flow.id) => {
                self.flow_ready(attempt, flow)
            }
            Open::Flow(attempt, _) => {
                self.layer
                    .flow_failed(self.now, attempt, TransportFailure::Closed)
            }
        }
    }

    /// A flow that needs no waiting. A host that has addresses of one family alone is reached by that, whatever we listen on:
    /// over UDP that takes a socket of the family, as connections have one of their own.
    fn existing(&mut self, destination: &Destination) -> Option<Flow> {
        let found = self.transports.existing(destination);
        if found.is_some() || destination.transport != Transport::Udp {
            return found;
        }
        match self.transports.bind_udp_for_answers(destination.address) {
            Ok(socket) => {
                self.bound.push(socket);
                self.transports.existing(destination)
            }
            Err(error) => {
                tracing::debug!(peer = %destination.address, %error, "no socket of the family");
                None
            }
        }
    }

    fn flow_ready(&mut self, attempt: AttemptId, flow: Flow) {
        let sent_by = self.transports.sent_by(&flow);
        self.layer.flow_ready(self.now, attempt, flow, sent_by);
    }

    fn send(&mut self, transmit: Transmit) {
        let Transmit {
            flow,
            bytes,
            purpose,
        } = transmit;
        // Only a stream can be closed, and then the bytes are wanted once more.
        let kept = flow.transport.is_stream().then(|| bytes.clone());
        let Err(error) = self.put(&flow, bytes) else {
            return;
        };
        tracing::debug!(peer = %flow.remote, %error, "message not sent");
        // Not for stateless answers, and not when there is no room: strangers must not make us connect at their pleasure.
        let may_connect =
            matches!(purpose, Purpose::Answer(_)) && self.slow.len() < self.slow_limit;
        if let Some(bytes) = kept.filter(|_| may_connect && error == SendError::Closed) {
            // §18.2.2: "If that connection is no longer open, the server SHOULD open a connection to the IP address in the
            // received parameter ... using the port in the sent-by value".
            let response = Response::parse(bytes.clone(), &Limits::default()).ok();
            let address =
                response.and_then(|response| response_destination(&response, flow.transport));
            if let Some(address) = address {
                self.begin(Job::Answer(
                    Destination::new(flow.transport, address),
                    bytes,
                    purpose,
                ));
                return;
            }
        }
        self.layer
            .handle_transport_error(self.now, purpose, send_failure(&error));
    }

    fn put(&self, flow: &Flow, bytes: Bytes) -> Result<(), SendError> {
        observer::log(Direction::Out, flow, &bytes);
        self.transports.try_send(flow, bytes)
    }
}

async fn perform(job: Job, transports: Transports, resolver: Arc<dyn Resolver>) -> Done {
    match job {
        Job::Resolve(request, uri) => {
            let found = resolver.resolve(&uri).await;
            Done::Resolved(
                request,
                found.map_err(|error| TransportFailure::Resolve(error.to_string().into())),
            )
        }
        Job::Connect(attempt, destination) => Done::Connected(
            attempt,
            transports
                .open(&destination)
                .await
                .map_err(|error| open_failure(&error)),
        ),
        Job::Answer(destination, bytes, purpose) => {
            let flow = transports
                .open(&destination)
                .await
                .map_err(|error| open_failure(&error));
            Done::AnswerFlow(flow, bytes, purpose)
        }
    }
}

pub(super) fn open_failure(error: &OpenError) -> TransportFailure {
    match error {
        OpenError::Io {
            kind: ErrorKind::ConnectionRefused,
            ..
        } => TransportFailure::Refused,
        error => TransportFailure::Other(error.to_string().into()),
    }
}

fn send_failure(error: &SendError) -> TransportFailure {
    match error {
        SendError::Closed => TransportFailure::Closed,
        SendError::Io(ErrorKind::ConnectionRefused) => TransportFailure::Refused,
        error => TransportFailure::Other(error.to_string().into()),
    }
}
