//! The one table of flows, as its users see it.

use crate::connection::{Connection, ConnectionTask};
use crate::handshake;
use crate::listener::accept_loop;
use crate::local::LocalAddresses;
use crate::metrics::{Counters, count};
use crate::observer::Observer;
use crate::random::Random;
use crate::shared::{Paces, Shared};
use crate::stun::{self, Stun};
use crate::table::{Joined, Refusal, Resolved, Route, Table};
use crate::udp::Serves;
use crate::{
    BindError, CloseReason, Destination, Direction, Flow, FlowId, Inbound, InboundReceiver,
    MessageObserver, Metrics, Network, Now, OpenError, SendError, SentBy, StunFailure, Transport,
    TransportConfig, UdpListener,
};
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

/// Owns every flow: binds, connects, sends. Cheap to clone; the last clone dropped closes everything.
#[derive(Debug, Clone)]
pub struct Transports {
    owner: Arc<Owner>,
}

/// Owns the tasks. They hold only what is shared, so that dropping the last handle ends them.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

impl Transports {
    /// Makes an empty table over a network. What comes in over connections comes out of the receiver.
    pub fn new(
        network: Arc<dyn Network>,
        config: TransportConfig,
    ) -> (Transports, InboundReceiver) {
        Transports::make(network, config, Observer::default())
    }

    /// Makes an empty table whose every message `observer` sees.
    pub fn with_observer(
        network: Arc<dyn Network>,
        config: TransportConfig,
        observer: Arc<dyn MessageObserver>,
    ) -> (Transports, InboundReceiver) {
        Transports::make(network, config, Observer(Some(observer)))
    }

    fn make(
        network: Arc<dyn Network>,
        config: TransportConfig,
        observer: Observer,
    ) -> (Transports, InboundReceiver) {
        let (inbound, channel) = mpsc::channel(config.inbound_queue.max(1));
        let transports = Transports::over(network, config, observer, [inbound].into());
        (transports, InboundReceiver { channel })
    }

    /// Makes an empty table for a driver of several shards (one at least), with a receiver for each: what comes in over one
    /// connection comes out of one receiver, and its end ([`Payload::Closed`](crate::Payload::Closed)) out of every one: out of
    /// the others once that one's has been dropped, so that it may hand on before what it has got.
    pub fn sharded(
        network: Arc<dyn Network>,
        config: TransportConfig,
        observer: Option<Arc<dyn MessageObserver>>,
        shards: usize,
    ) -> (Transports, Vec<InboundReceiver>) {
        let (inbound, receivers): (Vec<_>, Vec<_>) = (0..shards.max(1))
            .map(|_| mpsc::channel(config.inbound_queue.max(1)))
            .map(|(sender, channel)| (sender, InboundReceiver { channel }))
            .unzip();
        let transports = Transports::over(network, config, Observer(observer), inbound.into());
        (transports, receivers)
    }

    fn over(
        network: Arc<dyn Network>,
        config: TransportConfig,
        observer: Observer,
        inbound: Box<[mpsc::Sender<Inbound>]>,
    ) -> Transports {
        let stun = Stun::new(network.now().instant);
        let random = Random::new(config.seed);
        let shared = Arc::new(Shared {
            network,
            stun,
            random,
            config,
            table: Arc::new(Table::default()),
            counters: Counters::default(),
            inbound,
            addresses: LocalAddresses::default(),
            observer,
            paces: Paces::default(),
            stopping: watch::Sender::new(false),
        });
        let owner = Arc::new(Owner {
            shared,
            tasks: Mutex::new(JoinSet::new()),
        });
        Transports { owner }
    }

    /// Returns the network.
    pub fn network(&self) -> &Arc<dyn Network> {
        &self.shared().network
    }

    /// Reads the network's clock.
    pub fn now(&self) -> Now {
        self.network().now()
    }

    /// Binds `sockets` UDP sockets, one for each shard, to one address. They share the port, not the id. Where the system does
    /// not divide the peers of a port among sockets, it is one socket.
    ///
    /// Port 0 lets the network choose; [`UdpListener::local_addr`] tells. Has to be called inside a tokio runtime.
    pub fn bind_udp(
        &self,
        address: SocketAddr,
        sockets: usize,
    ) -> Result<Vec<UdpListener>, BindError> {
        let failed = |source| BindError {
            transport: Transport::Udp,
            address,
            source,
        };
        let shared = self.shared();
        let bound = shared
            .network
            .bind_datagram(address, sockets.max(1))
            .map_err(failed)?;
        bound
            .into_iter()
            .map(|socket| {
                let local = socket.sender.local_addr().map_err(failed)?;
                Ok(UdpListener::new(shared, socket, local, Serves::Everybody))
            })
            .collect()
    }

    /// Binds a UDP socket of the family of `remote`, on every address and a free port, for requests of ours and their answers:
    /// where no socket of that family is bound, and a host is found that has no other address. It is no listener, and what
    /// comes in without having been asked for is dropped.
    ///
    /// Has to be called inside a tokio runtime.
    pub fn bind_udp_for_answers(&self, remote: SocketAddr) -> Result<UdpListener, BindError> {
        let ip: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let address = SocketAddr::new(ip, 0);
        let failed = |source| BindError {
            transport: Transport::Udp,
            address,
            source,
        };
        let shared = self.shared();
        let bound = shared.network.bind_datagram(address, 1).map_err(failed)?;
        let socket = bound.into_iter().next();
        let socket = socket.ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
        let local = socket.sender.local_addr().map_err(failed)?;
        debug!(%local, "bound a socket for answers");
        Ok(UdpListener::new(shared, socket, local, Serves::Answers))
    }

    /// Listens for TCP connections and returns the address with its real port.
    ///
    /// Has to be called inside a tokio runtime.
    pub fn listen_tcp(&self, address: SocketAddr) -> Result<SocketAddr, BindError> {
        self.listen(Transport::Tcp, address)
    }

    /// Listens for connections of a transport and returns the address with its real port. For UDP, see
    /// [`bind_udp`](Transports::bind_udp).
    ///
    /// What is secure needs a certificate in [`TransportConfig::tls`]. Has to be called inside a tokio runtime.
    pub fn listen(
        &self,
        transport: Transport,
        address: SocketAddr,
    ) -> Result<SocketAddr, BindError> {
        let failed = |source| BindError {
            transport,
            address,
            source,
        };
        let shared = self.shared();
        handshake::can_accept(shared, transport).map_err(failed)?;
        let listener = shared.network.listen(address).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        shared.table.add_listener(transport, local);
        self.spawn(accept_loop(shared.clone(), listener, transport, local));
        Ok(local)
    }

    /// Binds UDP and TCP to the same port, which port 0 lets the network choose.
    ///
    /// Has to be called inside a tokio runtime.
    pub fn bind_udp_and_tcp(
        &self,
        address: SocketAddr,
        sockets: usize,
    ) -> Result<Vec<UdpListener>, BindError> {
        let mut tries = if address.port() == 0 {
            SAME_PORT_TRIES
        } else {
            1
        };
        loop {
            tries -= 1;
            let udp = self.bind_udp(address, sockets)?;
            let port = udp
                .first()
                .map_or(address.port(), |listener| listener.local_addr().port());
            match self.listen_tcp(SocketAddr::new(address.ip(), port)) {
                Ok(_) => return Ok(udp),
                // The port that UDP was given is taken for TCP: another.
                Err(error) if error.is_in_use() && tries > 0 => drop(udp),
                Err(error) => return Err(BindError { address, ..error }),
            }
        }
    }

    /// Returns what is listened on.
    pub fn listeners(&self) -> Vec<(Transport, SocketAddr)> {
        self.shared().table.listeners()
    }

    /// Gives a flow to a destination: a live connection if there is one (RFC 3261 §18.1.1 recommends it), else a new one.
    /// Those who ask for the same at once share one attempt, which goes on though one of them gives up.
    pub async fn open(&self, destination: &Destination) -> Result<Flow, OpenError> {
        let Destination {
            transport, address, ..
        } = *destination;
        if let Some(flow) = self.existing(destination) {
            return Ok(flow);
        }
        let shared = self.shared();
        match transport {
            Transport::Udp => return Err(OpenError::NoSocket(address)),
            stream if handshake::can_connect(shared, stream) => {}
            other => return Err(OpenError::Unsupported(other)),
        }
        if shared.is_stopping() {
            return Err(OpenError::Shutdown);
        }
        let told = match shared.table.join_opening(Route::to(destination)) {
            Joined::Exists(connection) => return Ok(connection.flow),
            Joined::Waiting(told) => told,
            Joined::First(told) => {
                self.spawn(open_connection(shared.clone(), destination.clone()));
                told
            }
        };
        let id = told.await.map_err(|_| OpenError::Shutdown)??;
        Ok(Flow {
            id,
            transport,
            remote: address,
        })
    }

    /// Gives a flow that needs no waiting: UDP, or a connection that is open.
    pub fn existing(&self, destination: &Destination) -> Option<Flow> {
        let Destination {
            transport, address, ..
        } = *destination;
        let shared = self.shared();
        if transport.is_stream() {
            return shared
                .table
                .connection_to(&Route::to(destination))
                .map(|connection| connection.flow);
        }
        let source = || shared.addresses.towards(address, &*shared.network, shared);
        let socket = shared.table.socket_towards(address, source)?;
        Some(Flow {
            id: socket.id,
            transport,
            remote: address,
        })
    }

    /// Queues a message on a flow, or fails at once. Never waits: a connection without room is cut off, a socket without
    /// room drops the datagram as the network might.
    pub fn try_send(&self, flow: &Flow, message: Bytes) -> Result<(), SendError> {
        let shared = self.shared();
        match shared.table.resolve(flow.id).ok_or(SendError::Closed)? {
            Resolved::Socket(socket) => {
                let local = shared.local_at(&socket, flow.id);
                shared.observe(Direction::Out, flow, local, &message);
                let sent = socket.try_send(local, &message, flow.remote);
                self.datagram_outcome(flow, sent)
            }
            Resolved::Connection(connection) => {
                shared.observe(Direction::Out, flow, connection.local, &message);
                self.queue(&connection, message)
            }
        }
    }

    fn datagram_outcome(&self, flow: &Flow, sent: io::Result<()>) -> Result<(), SendError> {
        let counters = &self.shared().counters;
        let Err(error) = sent else {
            count(&counters.datagrams_sent);
            return Ok(());
        };
        debug!(peer = %flow.remote, flow = %flow.id, %error, "datagram not sent");
        match error.kind() {
            // ENOBUFS has no kind of its own, and means the same.
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
                count(&counters.datagrams_dropped);
                let shared = self.shared();
                let pace = &shared.paces.dropped_datagrams;
                if let Some(held_back) = pace.admit(shared.network.now().instant) {
                    warn!(peer = %flow.remote, %error, held_back, "datagram dropped: the socket has no room");
                }
                Ok(())
            }
            _ if is_too_large(&error) => Err(SendError::TooLarge),
            kind => Err(SendError::Io(kind)),
        }
    }

    fn queue(&self, connection: &Connection, message: Bytes) -> Result<(), SendError> {
        let shared = self.shared();
        let queued = connection.try_send(message);
        match queued {
            Ok(()) => count(&shared.counters.stream_messages_sent),
            // Cut off: from now on its id resolves no more. The task reports the end.
            Err(_) => shared.table.remove_connection(connection),
        }
        queued
    }

    /// Tells whether a flow can still be sent on.
    pub fn is_open(&self, flow: FlowId) -> bool {
        self.shared().table.resolve(flow).is_some()
    }

    /// Returns our address on a flow: that which the peer wrote to, or for a flow that begins with us as bound, a wildcard for a
    /// socket that is bound to one.
    pub fn local_addr(&self, flow: &Flow) -> Option<SocketAddr> {
        self.shared().local_addr(flow)
    }

    /// Returns what a Via sent on the flow must carry: the advertised host, or an address of ours that its peer can reach,
    /// and the port we listen on (RFC 3261 §18.1.1). A response whose top Via carries anything else does not come in.
    pub fn sent_by(&self, flow: &Flow) -> SentBy {
        self.shared().sent_by(flow)
    }

    /// Returns the SIP domains, in lower case, that the peer of a connection has proved to be by its certificate (RFC 5922
    /// §7.1): for decisions about whom to trust (§7.4). Empty for a client that showed none, and for what is not secure.
    pub fn peer_domains(&self, flow: FlowId) -> Vec<Box<str>> {
        match self.shared().table.resolve(flow) {
            Some(Resolved::Connection(connection)) => connection.peer_domains.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Pings the peer of a connection this often from now on, or no more, whatever
    /// [`keep_alive`](crate::TransportConfig::keep_alive) says: for peers that tell how often they want it (RFC 5626 §5.4,
    /// `Flow-Timer`). When a pong does not come in time, the connection is closed and reported as
    /// [`CloseReason::NoPong`]. Nothing happens for UDP.
    pub fn keep_alive(&self, flow: FlowId, interval: Option<Duration>) {
        if let Some(Resolved::Connection(connection)) = self.shared().table.resolve(flow) {
            connection.keep_alive.set(interval);
        }
    }

    /// Pings the peer of a connection this often from now on without knowing whether it answers, and the first time within two
    /// seconds. RFC 5626 §4.4: a ping may always be sent, and who did not ask for pongs "cannot expect" one; once one has come,
    /// a missing one ends the connection as with [`keep_alive`](Transports::keep_alive), which is left alone where it was set.
    /// Nothing happens for UDP.
    pub fn try_keep_alive(&self, flow: FlowId, interval: Duration) {
        if let Some(Resolved::Connection(connection)) = self.shared().table.resolve(flow) {
            connection.keep_alive.attempt(interval);
        }
    }

    /// Closes a connection, as [`CloseReason::Silent`], over which nothing has come for this long: for peers that have been told
    /// how often keep-alives are wanted (RFC 5626 §4.4: "the number of seconds the server is prepared to wait without seeing
    /// keep-alives before it could consider the corresponding flow dead"), and a grace more for the way. `None` expects none any
    /// more, as at the beginning. Nothing happens for UDP.
    pub fn expect_keep_alives(&self, flow: FlowId, within: Option<Duration>) {
        if let Some(Resolved::Connection(connection)) = self.shared().table.resolve(flow) {
            connection.silence.set(within);
        }
    }

    /// Asks the peer of a UDP flow by STUN, now and after each wait of a random 80 to 100 % of the interval, whether it is there
    /// (RFC 5626 §4.4.2), and ends when the flow is not to be believed in any more. Dropped, it asks no more.
    ///
    /// Only for peers that are known to speak STUN on their SIP port: RFC 5626 §8 wants "an explicit indication". Without a
    /// Flow-Timer it recommends an interval of 29 s.
    pub fn stun_keep_alive(
        &self,
        flow: Flow,
        interval: Duration,
    ) -> impl Future<Output = StunFailure> + Send + use<> {
        let shared = self.shared().clone();
        async move { stun::keep_alive(&shared, &flow, interval).await }
    }

    /// Sends line ends over a flow, which keep the way through a NAT open. Over UDP nobody answers them, and nothing is learned.
    pub fn send_line_ends(&self, flow: &Flow) -> Result<(), SendError> {
        self.try_send(flow, Bytes::from_static(b"\r\n\r\n"))
    }

    /// Closes a connection once what is queued on it has been written. UDP flows stay.
    pub fn close(&self, flow: FlowId) {
        let table = &self.shared().table;
        if let Some(Resolved::Connection(connection)) = table.resolve(flow) {
            table.remove_connection(&connection);
            connection.end(CloseReason::ByUs);
        }
    }

    /// Returns what has been counted.
    pub fn metrics(&self) -> Metrics {
        let shared = self.shared();
        Metrics {
            connections_open: shared.table.connections() as u64,
            ..shared.counters.snapshot()
        }
    }

    /// Stops listening, writes what is queued, closes every connection and waits for their tasks.
    ///
    /// Connections report their end through the [`InboundReceiver`], and wait
    /// [`linger`](crate::TransportConfig::linger) at most for one that nobody empties.
    pub async fn shutdown(&self) {
        let shared = self.shared();
        shared.stopping.send_replace(true);
        shared.table.abandon_openings();
        shared.table.close_all(&CloseReason::ByUs);
        let mut tasks = std::mem::take(&mut *self.tasks());
        while tasks.join_next().await.is_some() {}
        info!("transports shut down");
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.owner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        // Forget those that have ended, so that the set holds no more than what runs.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// Opens a connection, tells everyone who waits for it, and then is its task.
async fn open_connection(shared: Arc<Shared>, destination: Destination) {
    let opened = connect(&shared, &destination).await;
    let outcome = match &opened {
        Ok(task) => Ok(task.flow().id),
        Err(error) => {
            count(&shared.counters.connections_failed);
            debug!(peer = %destination.address, transport = %destination.transport, %error, "no connection");
            Err(error.clone())
        }
    };
    shared
        .table
        .finish_opening(&Route::to(&destination), &outcome);
    if let Ok(task) = opened {
        task.run().await;
    }
}

async fn connect(
    shared: &Arc<Shared>,
    destination: &Destination,
) -> Result<ConnectionTask, OpenError> {
    let Destination {
        transport, address, ..
    } = *destination;
    let permit = shared
        .table
        .admit(None, shared.admission())
        .map_err(|refusal| {
            debug_assert_eq!(refusal, Refusal::Total);
            count(&shared.counters.refused_total);
            if let Some(held_back) = shared
                .paces
                .refused_total
                .admit(shared.network.now().instant)
            {
                warn!(peer = %address, %transport, held_back, "connection not opened: too many");
            }
            OpenError::TooManyConnections
        })?;
    let failed = |error: io::Error| OpenError::Io {
        address,
        kind: error.kind(),
        message: error.to_string(),
    };
    let mut stopping = shared.stopping.subscribe();
    let attempt = shared.network.connect(local_for(shared, address), address);
    let stream = tokio::select! {
        biased;
        stream = timeout(shared.config.connect_timeout, attempt) => {
            stream.map_err(|_| OpenError::Timeout(address))?.map_err(failed)?
        }
        _ = stopping.wait_for(|stopping| *stopping) => return Err(OpenError::Shutdown),
    };
    let local = stream.local_addr().map_err(failed)?;
    let established = tokio::select! {
        biased;
        established = handshake::connect(shared, stream, destination) => established,
        _ = stopping.wait_for(|stopping| *stopping) => return Err(OpenError::Shutdown),
    };
    let established = established.map_err(|error| {
        count(&shared.counters.handshakes_failed);
        OpenError::Handshake {
            transport,
            address,
            message: error.to_string(),
        }
    })?;
    let flow = Flow {
        id: shared.table.next_id(),
        transport,
        remote: address,
    };
    count(&shared.counters.connections_opened);
    debug!(peer = %address, flow = %flow.id, %transport, "connection opened");
    let route = Some(Route::to(destination));
    Ok(ConnectionTask::enter(
        shared,
        established,
        flow,
        route,
        local,
        permit,
    ))
}

/// Chooses the address to connect from: one that we listen on, so that a peer which goes by addresses knows us, unless it
/// cannot reach that far.
fn local_for(shared: &Shared, remote: SocketAddr) -> Option<IpAddr> {
    let listeners = shared.table.listeners();
    let reaches = |ip: &IpAddr| {
        ip.is_ipv4() == remote.is_ipv4() && ip.is_loopback() == remote.ip().is_loopback()
    };
    listeners
        .into_iter()
        .map(|(_, local)| local.ip())
        .filter(|ip| !ip.is_unspecified())
        .find(reaches)
}

#[cfg(unix)]
fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

#[cfg(not(unix))]
fn is_too_large(error: &io::Error) -> bool {
    // WSAEMSGSIZE
    error.raw_os_error() == Some(10_040)
}

/// Ports that are tried when UDP and TCP are to share one that the network chooses.
const SAME_PORT_TRIES: usize = 16;
