//! Building an endpoint, and ending it.

use super::core::Core;
use super::handle::{Flows, Shared};
use super::shard::{Shard, seat};
use super::user::AnyUser;
use super::{EndpointHandle, User, UserHandle};
use crate::{Config, EndpointError, IdSource, Owner, TransactionLayer};
use sipora_message::Method;
use sipora_transport::{
    MessageObserver, Network, Resolver, SystemResolver, TokioNetwork, Transport, TransportConfig,
    Transports, UdpListener,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Holds the settings of the driver.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Settings of the core.
    pub transactions: Config,
    /// Settings of the flows.
    pub transport: TransportConfig,
    /// Inputs taken from one source before the others get their turn. Default 64: some hundred microseconds of work.
    pub batch: usize,
    /// Commands that wait for one user before [`CommandError::Full`](crate::CommandError::Full). Default 1024.
    pub command_queue: usize,
    /// Names being resolved and connections being opened at once; more wait their turn. Default 10,000, as many as
    /// connections: each is a small task, and some hundred requests to a peer that does not answer must not keep others
    /// waiting.
    pub slow_tasks: usize,
    /// Time that a shutdown leaves to what is in flight. Default 5 s.
    pub drain: Duration,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            transactions: Config::default(),
            transport: TransportConfig::default(),
            batch: 64,
            command_queue: 1024,
            slow_tasks: 10_000,
            drain: Duration::from_secs(5),
        }
    }
}

/// Builds an [`Endpoint`].
///
/// Users are added in the order in which they are asked about requests.
pub struct EndpointBuilder {
    listeners: Vec<(Transport, SocketAddr)>,
    config: EndpointConfig,
    network: Option<Arc<dyn Network>>,
    resolver: Arc<dyn Resolver>,
    ids: IdSource,
    observer: Option<Arc<dyn MessageObserver>>,
    users: Vec<Box<dyn AnyUser>>,
}

impl EndpointBuilder {
    /// Begins an endpoint on real sockets, without listeners and users.
    pub fn new() -> Self {
        Self {
            listeners: Vec::new(),
            config: EndpointConfig::default(),
            network: None,
            resolver: Arc::new(SystemResolver::new()),
            ids: IdSource::unpredictable(),
            observer: None,
            users: Vec::new(),
        }
    }

    /// Listens on an address, of which an endpoint needs at least one. Port 0 lets the system choose; UDP and TCP on the
    /// same address, port 0 or not, get the same port. TLS needs a certificate in [`TransportConfig::tls`].
    pub fn listen(mut self, transport: Transport, address: SocketAddr) -> Self {
        self.listeners.push((transport, address));
        self
    }

    /// Replaces the settings. To be called before [`add_user`](Self::add_user).
    pub fn config(mut self, config: EndpointConfig) -> Self {
        self.config = config;
        self
    }

    /// Replaces the network. Default [`TokioNetwork`].
    pub fn network(mut self, network: Arc<dyn Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// Replaces the resolver. Default [`SystemResolver`].
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Replaces the source of identifiers. Default unpredictable.
    pub fn ids(mut self, ids: IdSource) -> Self {
        self.ids = ids;
        self
    }

    /// Sets the hook that sees every message, as it stands on the wire.
    pub fn observer(mut self, observer: Arc<dyn MessageObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Adds a user at the end of the order of claims.
    pub fn add_user<U: User>(&mut self, user: U) -> UserHandle<U::Command> {
        let (sender, commands) = mpsc::channel(self.config.command_queue.max(1));
        let owner = Owner(u16::try_from(self.users.len()).unwrap_or(u16::MAX));
        self.users.push(seat(user, commands));
        UserHandle { sender, owner }
    }

    /// Splits a source of identifiers off the endpoint's own, for a user that wants one.
    pub fn split_ids(&mut self) -> IdSource {
        self.ids.split()
    }

    /// Binds the listeners and starts the task, on the runtime that this is called in. Fails when an address is taken.
    pub async fn build(self) -> Result<Endpoint, EndpointError> {
        if self.listeners.is_empty() {
            return Err(EndpointError::NoListener);
        }
        let network = match self.network {
            Some(network) => network,
            None => Arc::new(TokioNetwork::new()),
        };
        let transport = self.config.transport;
        let (transports, inbound) = match self.observer {
            Some(observer) => Transports::with_observer(network, transport, observer),
            None => Transports::new(network, transport),
        };
        let sockets = bind(&transports, &self.listeners)?;
        let listeners = transports.listeners();
        for (transport, address) in &listeners {
            tracing::info!(%transport, %address, "listening");
        }
        let shared = Arc::new(Shared::new(listeners));
        let flows = Arc::new(Flows {
            transports: transports.clone(),
            resolver: Arc::clone(&self.resolver),
        });
        let (commands, command_receiver) = mpsc::channel(self.config.command_queue.max(1));
        let (shutdown, shutdown_receiver) = mpsc::channel(1);
        let mut allow: Vec<Method> = Vec::new();
        for method in self.users.iter().flat_map(|user| user.methods()) {
            if !allow.contains(&method) {
                allow.push(method);
            }
        }
        let layer = TransactionLayer::new(self.config.transactions, self.ids);
        let shard = Shard {
            core: Core::new(layer, transports, self.resolver, self.config.slow_tasks),
            users: self.users,
            sockets,
            inbound,
            commands: command_receiver,
            shutdown: shutdown_receiver,
            shared: Arc::clone(&shared),
            allow,
            batch: self.config.batch.max(1),
            drain: self.config.drain,
            received: Vec::new(),
            ends: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            wakes: None,
        };
        let handle = EndpointHandle {
            commands,
            shutdown: shutdown.downgrade(),
            flows: Arc::downgrade(&flows),
            shared,
        };
        let task = tokio::spawn(async move {
            // Handles reach the flows for as long as the shard runs.
            let _flows = flows;
            shard.run().await;
        });
        Ok(Endpoint {
            handle,
            shutdown,
            task,
        })
    }
}

impl Default for EndpointBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for EndpointBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EndpointBuilder")
            .field("listeners", &self.listeners)
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Owns the task that runs a [`TransactionLayer`] over its flows.
///
/// Dropped, it stops at once; [`shutdown`](Endpoint::shutdown) lets it finish what it has begun.
#[derive(Debug)]
pub struct Endpoint {
    handle: EndpointHandle,
    shutdown: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// Begins a builder.
    pub fn builder() -> EndpointBuilder {
        EndpointBuilder::new()
    }

    /// Returns a handle.
    pub fn handle(&self) -> EndpointHandle {
        self.handle.clone()
    }

    /// Returns the transports and addresses that it listens on.
    pub fn local_addresses(&self) -> Vec<(Transport, SocketAddr)> {
        self.handle.local_addresses()
    }

    /// Answers new requests with 503, lets what is in flight finish within [`EndpointConfig::drain`], closes every flow
    /// and ends the task.
    pub async fn shutdown(mut self) {
        // A full channel means that a handle has begun it.
        let _ = self.shutdown.try_send(());
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!("the endpoint's task panicked");
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds every listener. UDP and TCP on one address share a port.
fn bind(
    transports: &Transports,
    listeners: &[(Transport, SocketAddr)],
) -> Result<Vec<UdpListener>, EndpointError> {
    let mut sockets = Vec::new();
    for &(transport, address) in listeners {
        let has_both = |other| listeners.contains(&(other, address));
        match transport {
            Transport::Udp if has_both(Transport::Tcp) => {
                sockets.extend(transports.bind_udp_and_tcp(address, 1)?)
            }
            Transport::Udp => sockets.extend(transports.bind_udp(address, 1)?),
            Transport::Tcp if has_both(Transport::Udp) => {}
            stream => {
                transports.listen(stream, address)?;
            }
        }
    }
    Ok(sockets)
}
