//! Building an endpoint, and ending it.

use super::core::Core;
use super::handle::{Flows, Shared};
use super::listeners::{Listener, bind};
use super::router::Router;
use super::shard::Shard;
use super::signal::Signal;
use super::user::Chair;
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
use tokio::task::{JoinHandle, JoinSet};

/// Holds the settings of the driver.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Settings of the core.
    pub transactions: Config,
    /// Settings of the flows.
    pub transport: TransportConfig,
    /// Shards: tasks that divide the work among them, each with UDP sockets and transactions of its own. At most 128. Default
    /// 1, which serves some ten thousand requests a second and is all that a client needs. Each gets an equal part of the caps
    /// of [`Config`] (`max_server_transactions`, `max_requests`, `max_client_transactions`, `max_avoided`) and of
    /// [`slow_tasks`](Self::slow_tasks), rounded up, and is full when that is used up.
    pub shards: usize,
    /// Messages that one shard may have waiting from all the others, a quarter of them for answers only. Those past it are
    /// dropped, or over a connection refused with 503; an answer or an ACK that came over a connection waits for room, and
    /// nothing else is read from connections in its shard meanwhile. Default 1024: some ten milliseconds of a shard's work.
    pub shard_queue: usize,
    /// Inputs taken from one source before the others get their turn. Default 64: some hundred microseconds of work.
    pub batch: usize,
    /// Commands that wait for one user, in each shard, before [`CommandError::Full`](crate::CommandError::Full). Default 1024.
    pub command_queue: usize,
    /// Names being resolved and connections being opened at once by all shards; more wait their turn. Default 10,000, as many as
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
            shards: 1,
            shard_queue: 1024,
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
    listeners: Vec<Listener>,
    config: EndpointConfig,
    network: Option<Arc<dyn Network>>,
    resolver: Arc<dyn Resolver>,
    ids: IdSource,
    observer: Option<Arc<dyn MessageObserver>>,
    users: Vec<Seating>,
}

/// Who sits at one place in the order of claims.
enum Seating {
    /// One user, in the first shard.
    One(Chair),
    /// A user in each shard.
    Each(Vec<Chair>),
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
        self.listeners.push(Listener::At(transport, address));
        self
    }

    /// Listens on every address of the host, IPv4 and IPv6, on one port for both, UDP and TCP alike. A family that the host
    /// does not have is left out, if it has one; an occupied port is an error. Where the system chooses the port and the same
    /// cannot be had for both families, they have two.
    pub fn listen_everywhere(mut self, transport: Transport, port: u16) -> Self {
        self.listeners.push(Listener::Everywhere(transport, port));
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
    ///
    /// Where there are several shards it sits in the first, and the others hand requests of the methods that it
    /// [lists](User::methods) over to it.
    pub fn add_user<U: User>(&mut self, user: U) -> UserHandle<U::Command> {
        let (chair, handle) = self.seat(user);
        self.users.push(Seating::One(chair));
        handle
    }

    /// Adds a user at the end of the order of claims, one for each shard, which `make` makes from the shard's number. Each
    /// sees the requests of its own shard and the answers to what it sent, and has its own handle; what they have in common
    /// they have to share.
    pub fn add_users<U: User>(
        &mut self,
        mut make: impl FnMut(usize) -> U,
    ) -> Vec<UserHandle<U::Command>> {
        let (chairs, handles) = (0..self.shards())
            .map(|shard| self.seat(make(shard)))
            .unzip();
        self.users.push(Seating::Each(chairs));
        handles
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> usize {
        self.config.shards.clamp(1, MOST_SHARDS)
    }

    fn seat<U: User>(&self, user: U) -> (Chair, UserHandle<U::Command>) {
        let (sender, commands) = mpsc::channel(self.config.command_queue.max(1));
        let owner = Owner(u16::try_from(self.users.len()).unwrap_or(u16::MAX));
        (Chair::taken(user, commands), UserHandle { sender, owner })
    }

    /// Splits a source of identifiers off the endpoint's own, for a user that wants one.
    pub fn split_ids(&mut self) -> IdSource {
        self.ids.split()
    }

    /// Binds the listeners and starts the shards, on the runtime that this is called in. Fails when an address is taken.
    pub async fn build(self) -> Result<Endpoint, EndpointError> {
        if self.listeners.is_empty() {
            return Err(EndpointError::NoListener);
        }
        let network = match self.network {
            Some(network) => network,
            None => Arc::new(TokioNetwork::new()),
        };
        let shards = self.config.shards.clamp(1, MOST_SHARDS);
        let (mut ids, mut transport) = (self.ids, self.config.transport);
        if ids.is_short() && transport.seed.is_none() {
            transport.seed = Some(ids.number());
        }
        let (transports, inbound) = Transports::sharded(network, transport, self.observer, shards);
        let listeners = bind(&transports, &self.listeners, shards)?;
        let addresses = transports.listeners();
        for (transport, address) in &addresses {
            // Whoever has an endpoint tells people, from `local_addresses`.
            tracing::debug!(%transport, %address, "listening");
        }
        let shared = Arc::new(Shared::new(addresses, shards));
        let flows = Arc::new(Flows {
            transports: transports.clone(),
            resolver: Arc::clone(&self.resolver),
        });
        let secret = if shards > 1 { ids.number() } else { 0 };
        let (ways, passed): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| mpsc::channel(self.config.shard_queue.max(1)))
            .unzip();
        let ways: Arc<[_]> = ways.into();
        let routers: Vec<Router> = (0..shards)
            .map(|shard| Router::new(shard, secret, Arc::clone(&ways), &listeners))
            .collect();
        drop(ways);
        let allow = allowed(&self.users);
        let number = u8::try_from(shards).unwrap_or(1);
        let layers = TransactionLayer::shards(self.config.transactions, ids, number);
        let parts = layers
            .into_iter()
            .zip(routers)
            .zip(divide_users(self.users, shards)?)
            .zip(divide_sockets(listeners, shards))
            .zip(inbound)
            .zip(passed);
        let (mut commands, mut shutdowns, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        for (((((layer, router), users), sockets), inbound), passed) in parts {
            let (command, command_receiver) = mpsc::channel(self.config.command_queue.max(1));
            let (shutdown, shutdown_receiver) = mpsc::channel(1);
            commands.push(command);
            shutdowns.push(shutdown);
            let shard = Shard {
                core: Core::new(
                    layer,
                    transports.clone(),
                    router,
                    Arc::clone(&self.resolver),
                    self.config.slow_tasks.div_ceil(shards),
                ),
                users,
                sockets,
                inbound,
                passed,
                commands: command_receiver,
                shutdown: shutdown_receiver,
                shared: Arc::clone(&shared),
                allow: allow.clone(),
                batch: self.config.batch.max(1),
                drain: self.config.drain,
                received: Vec::new(),
                ends: None,
                sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
                wakes: None,
                signal: Signal::default(),
                may_ring: false,
            };
            tasks.spawn(shard.run());
        }
        let (ended, until_the_end) = mpsc::channel(1);
        let handle = EndpointHandle {
            ended,
            commands: commands.into(),
            shutdown: shutdowns.iter().map(mpsc::Sender::downgrade).collect(),
            flows: Arc::downgrade(&flows),
            shared,
        };
        Ok(Endpoint {
            handle,
            shutdown: shutdowns,
            task: tokio::spawn(async {
                supervise(tasks, flows).await;
                drop(until_the_end);
            }),
        })
    }
}

/// Waits for the end of every shard, and then closes the flows, which handles reach until then. A shard that panics takes
/// the others with it: what belongs to it would be lost for good.
async fn supervise(mut shards: JoinSet<()>, flows: Arc<Flows>) {
    while let Some(ended) = shards.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a shard of the endpoint failed");
            shards.abort_all();
        }
    }
    flows.transports.shutdown().await;
}

/// Lists the methods that users may claim.
fn allowed(users: &[Seating]) -> Vec<Method> {
    let mut allow = Vec::new();
    for user in users {
        let chair = match user {
            Seating::One(chair) => Some(chair),
            Seating::Each(chairs) => chairs.first(),
        };
        for method in chair.map(Chair::methods).unwrap_or_default() {
            if !allow.contains(&method) {
                allow.push(method);
            }
        }
    }
    allow
}

/// Puts users in their shards. Fails when the number of shards was changed after some had been made.
fn divide_users(users: Vec<Seating>, shards: usize) -> Result<Vec<Vec<Chair>>, EndpointError> {
    let mut divided: Vec<Vec<Chair>> = (0..shards).map(|_| Vec::new()).collect();
    for seating in users {
        let chairs = match seating {
            Seating::Each(chairs) => chairs,
            Seating::One(chair) => {
                let methods = chair.methods();
                let others = (1..shards).map(|_| Chair::Elsewhere(methods.clone()));
                std::iter::once(chair.alone()).chain(others).collect()
            }
        };
        if chairs.len() != shards {
            return Err(EndpointError::ShardsChanged);
        }
        for (shard, chair) in divided.iter_mut().zip(chairs) {
            shard.push(chair);
        }
    }
    Ok(divided)
}

/// Gives each shard its socket of every listener. Listeners with a single one are dealt out.
fn divide_sockets(listeners: Vec<Vec<UdpListener>>, shards: usize) -> Vec<Vec<UdpListener>> {
    let mut divided: Vec<Vec<UdpListener>> = (0..shards).map(|_| Vec::new()).collect();
    for (index, sockets) in listeners.into_iter().enumerate() {
        let first = if sockets.len() < shards { index } else { 0 };
        for (number, socket) in sockets.into_iter().enumerate() {
            if let Some(shard) = divided.get_mut((first + number) % shards) {
                shard.push(socket);
            }
        }
    }
    divided
}

/// Shards that an endpoint has at most.
const MOST_SHARDS: usize = 128;

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

/// Owns the tasks that run a [`TransactionLayer`] each over its flows.
///
/// Dropped, it stops at once; [`shutdown`](Endpoint::shutdown) lets it finish what it has begun.
#[derive(Debug)]
pub struct Endpoint {
    handle: EndpointHandle,
    shutdown: Vec<mpsc::Sender<()>>,
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
    /// and ends the tasks.
    ///
    /// Users of the endpoint may end what they have ([`User::on_shutdown`](crate::User::on_shutdown)): the calls of
    /// `sipora-dialog-core` are hung up, refused or cancelled, and what the peers say to that is waited for in the same time.
    pub async fn shutdown(mut self) {
        for shutdown in &self.shutdown {
            // A full channel means that a handle has begun it.
            let _ = shutdown.try_send(());
        }
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
