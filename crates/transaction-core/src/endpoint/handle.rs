//! What a program holds of an endpoint.

use super::core::open_failure;
use crate::slab::shard_of;
use crate::{CommandError, Gone, Metrics, ServerTransactionId, TransportFailure};
use sipora_message::{Response, Uri};
use sipora_transport::{
    Destination, Flow, FlowId, Resolver, SentBy, StunFailure, Transport, Transports,
};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Speaks to an endpoint from any task. Cheap to clone; holding one keeps nothing alive.
#[derive(Debug, Clone)]
pub struct EndpointHandle {
    /// To each shard.
    pub(super) commands: Arc<[mpsc::Sender<Command>]>,
    pub(super) shutdown: Arc<[mpsc::WeakSender<()>]>,
    /// Nothing is ever sent; it closes at the very end.
    pub(super) ended: mpsc::Sender<Infallible>,
    pub(super) flows: Weak<Flows>,
    pub(super) shared: Arc<Shared>,
}

/// What a handle asks of the shard.
#[derive(Debug)]
pub(super) enum Command {
    Respond(
        ServerTransactionId,
        Response,
        oneshot::Sender<Result<(), Gone>>,
    ),
}

/// What handles may read at any time.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) listeners: Vec<(Transport, SocketAddr)>,
    shards: Box<[Published]>,
}

/// What one shard tells.
#[derive(Debug, Default)]
struct Published {
    metrics: Mutex<Metrics>,
    /// It waits for nothing any more.
    idle: AtomicBool,
}

/// What handles may use for as long as the endpoint runs.
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) transports: Transports,
    pub(super) resolver: Arc<dyn Resolver>,
}

impl Shared {
    pub(super) fn new(listeners: Vec<(Transport, SocketAddr)>, shards: usize) -> Self {
        Self {
            listeners,
            shards: (0..shards).map(|_| Published::default()).collect(),
        }
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn publish(&self, shard: usize, metrics: Metrics) {
        if let Some(shard) = self.shards.get(shard) {
            *shard.metrics.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
        }
    }

    /// Says whether a shard waits for nothing any more; returns whether all of them do not.
    pub(super) fn set_idle(&self, shard: usize, idle: bool) -> bool {
        if let Some(shard) = self.shards.get(shard) {
            shard.idle.store(idle, Ordering::Release);
        }
        self.shards
            .iter()
            .all(|shard| shard.idle.load(Ordering::Acquire))
    }

    fn metrics(&self) -> Metrics {
        let mut sum = Metrics::default();
        for shard in &self.shards {
            sum.add(&shard.metrics.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }
}

impl EndpointHandle {
    /// Answers a transaction from outside the endpoint's task. `Ok(Err(Gone))`: the answer came too late.
    pub async fn respond(
        &self,
        transaction: ServerTransactionId,
        response: Response,
    ) -> Result<Result<(), Gone>, CommandError> {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Respond(transaction, response, reply);
        let Some(shard) = self.commands.get(shard_of(transaction.0)) else {
            // Made by another endpoint.
            return Ok(Err(Gone));
        };
        shard
            .send(command)
            .await
            .map_err(|_| CommandError::Closed)?;
        outcome.await.map_err(|_| CommandError::Closed)
    }

    /// Returns the transports and addresses that the endpoint listens on.
    pub fn local_addresses(&self) -> Vec<(Transport, SocketAddr)> {
        self.shared.listeners.clone()
    }

    /// Returns what the endpoint counted, all shards together, as of their last turns.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// Returns what the flows counted; zeros once the endpoint has ended.
    pub fn transport_metrics(&self) -> sipora_transport::Metrics {
        self.flows
            .upgrade()
            .map(|flows| flows.transports.metrics())
            .unwrap_or_default()
    }

    /// Finds where a URI leads (RFC 3263), best target first.
    pub async fn resolve(&self, target: &Uri) -> Result<Vec<Destination>, TransportFailure> {
        let flows = self.flows.upgrade().ok_or(TransportFailure::Closed)?;
        let found = flows.resolver.resolve(target).await;
        found.map_err(|error| TransportFailure::Resolve(error.to_string().into()))
    }

    /// Returns the host and port of ours that a peer at this destination can reach, for a Contact. Opens a connection where
    /// the transport needs one.
    pub async fn sent_by(&self, destination: &Destination) -> Result<SentBy, TransportFailure> {
        let flows = self.flows.upgrade().ok_or(TransportFailure::Closed)?;
        let flow = match flows.transports.existing(destination) {
            Some(flow) => flow,
            None => flows
                .transports
                .open(destination)
                .await
                .map_err(|error| open_failure(&error))?,
        };
        Ok(flows.transports.sent_by(&flow))
    }

    /// Says whether a flow can still be sent on.
    pub fn is_open(&self, flow: FlowId) -> bool {
        let flows = self.flows.upgrade();
        flows.is_some_and(|flows| flows.transports.is_open(flow))
    }

    /// Pings the peer of a connection this often: [`Transports::keep_alive`].
    pub fn keep_alive(&self, flow: FlowId, interval: Option<Duration>) {
        if let Some(flows) = self.flows.upgrade() {
            flows.transports.keep_alive(flow, interval);
        }
    }

    /// Pings the peer of a connection of which nobody knows whether it answers: [`Transports::try_keep_alive`].
    pub fn try_keep_alive(&self, flow: FlowId, interval: Duration) {
        if let Some(flows) = self.flows.upgrade() {
            flows.transports.try_keep_alive(flow, interval);
        }
    }

    /// Asks the peer of a UDP flow by STUN until it is not to be believed in any more: [`Transports::stun_keep_alive`].
    pub fn stun_keep_alive(
        &self,
        flow: Flow,
        interval: Duration,
    ) -> impl Future<Output = StunFailure> + Send + use<> {
        let flows = self.flows.upgrade();
        let asks = flows.map(|flows| flows.transports.stun_keep_alive(flow, interval));
        async move {
            match asks {
                Some(asks) => asks.await,
                None => StunFailure::Closed,
            }
        }
    }

    /// Sends line ends over a flow, so that a NAT keeps it. What is lost is lost.
    pub fn send_line_ends(&self, flow: &Flow) {
        if let Some(flows) = self.flows.upgrade() {
            let _ = flows.transports.send_line_ends(flow);
        }
    }

    /// Begins the shutdown and returns at once; [`Endpoint::shutdown`](super::Endpoint::shutdown) waits for its end.
    pub fn begin_shutdown(&self) {
        for shutdown in self.shutdown.iter().filter_map(mpsc::WeakSender::upgrade) {
            // A full channel means that it has begun.
            let _ = shutdown.try_send(());
        }
    }

    /// Waits until the endpoint has ended.
    pub async fn closed(&self) {
        self.ended.closed().await;
    }

    /// Says whether the endpoint has ended.
    pub fn is_closed(&self) -> bool {
        self.ended.is_closed()
    }
}
