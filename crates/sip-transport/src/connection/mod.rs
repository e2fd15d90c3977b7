//! One connection: a task that reads messages, and writes what is queued.

mod bytes;
mod keep_alive;
mod silence;
#[cfg(feature = "ws")]
pub(crate) mod web_socket;

use crate::handshake::Established;
use crate::metrics::count;
use crate::shared::Shared;
use crate::table::{Permit, Route};
use crate::{
    CloseReason, Direction, Flow, Inbound, Malformed, Payload, SendError, Stream, Transport,
    TransportConfig,
};
use ::bytes::Bytes;
use keep_alive::KeepAlive;
pub(crate) use keep_alive::shortened;
use silence::Silence;
use sipora_message::{Message, Method, ParseError, Request};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

/// A connection as the table holds it: what others may do to it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) flow: Flow,
    pub(crate) local: SocketAddr,
    /// What it is found by when another request goes the same way.
    pub(crate) route: Option<Route>,
    pub(crate) peer_domains: Box<[Box<str>]>,
    /// Where else it leads, as its peer says (RFC 5923).
    pub(crate) aliases: OnceLock<Box<[Route]>>,
    queue: mpsc::Sender<Bytes>,
    /// Bytes in the queue and in the write that is under way.
    waiting: AtomicUsize,
    limit: usize,
    /// Requests that came, less the final answers that were queued.
    unanswered: AtomicUsize,
    answered: Notify,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) silence: Silence,
    end: OnceLock<CloseReason>,
    ended: Notify,
}

impl Connection {
    /// Queues bytes. When there is no room the peer has not been reading: the connection ends.
    pub(crate) fn try_send(&self, message: Bytes) -> Result<(), SendError> {
        if self.end.get().is_some() {
            return Err(SendError::Closed);
        }
        let length = message.len();
        let is_final = is_final_response(&message);
        let waiting = self
            .waiting
            .fetch_add(length, Ordering::AcqRel)
            .saturating_add(length);
        if waiting > self.limit {
            self.end(CloseReason::SlowReader);
            return Err(SendError::Full);
        }
        match self.queue.try_send(message) {
            Ok(()) => {
                if is_final {
                    self.count_answer();
                }
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.end(CloseReason::SlowReader);
                Err(SendError::Full)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::Closed),
        }
    }

    /// Asks the task to end. The first reason counts.
    pub(crate) fn end(&self, reason: CloseReason) {
        if self.end.set(reason).is_ok() {
            self.ended.notify_one();
        }
    }

    fn count_answer(&self) {
        let fewer = |unanswered: usize| unanswered.checked_sub(1);
        let before = self
            .unanswered
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        // A user may repeat its 2xx, so that there are more answers than requests.
        if before == Ok(1) {
            self.answered.notify_one();
        }
    }

    /// Waits until every request that came has its final answer in the queue.
    async fn all_answered(&self) {
        while self.unanswered.load(Ordering::Acquire) > 0 {
            self.answered.notified().await;
        }
    }

    /// Waits until the end is asked for.
    async fn end_asked(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.end.get() {
                return reason.clone();
            }
            self.ended.notified().await;
        }
    }
}

/// What the task of a connection owns.
pub(crate) struct ConnectionTask {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    wire: Wire,
    queue: mpsc::Receiver<Bytes>,
    permit: Permit,
}

impl ConnectionTask {
    /// Enters a connection into the table. Its task has yet to [`run`](ConnectionTask::run).
    pub(crate) fn enter(
        shared: &Arc<Shared>,
        established: Established,
        flow: Flow,
        route: Option<Route>,
        local: SocketAddr,
        permit: Permit,
    ) -> ConnectionTask {
        let Established { wire, peer_domains } = established;
        let is_web_socket = matches!(flow.transport, Transport::Ws | Transport::Wss);
        let pings = match permit.is_accepted() {
            true if is_web_socket => shared.config.web_socket_ping,
            true => None,
            false => shared.config.keep_alive,
        };
        let (sender, queue) = mpsc::channel(shared.config.out_queue.max(1));
        let connection = Arc::new(Connection {
            flow,
            local,
            route,
            peer_domains,
            aliases: OnceLock::new(),
            queue: sender,
            waiting: AtomicUsize::new(0),
            limit: shared.config.out_buffer_bytes,
            unanswered: AtomicUsize::new(0),
            answered: Notify::new(),
            keep_alive: KeepAlive::new(pings),
            silence: Silence::default(),
            end: OnceLock::new(),
            ended: Notify::new(),
        });
        shared.table.add_connection(connection.clone());
        if shared.is_stopping() {
            // A shutdown has gone through the table already, or will find an end that is set.
            connection.end(CloseReason::ByUs);
        }
        ConnectionTask {
            shared: shared.clone(),
            connection,
            wire,
            queue,
            permit,
        }
    }

    pub(crate) fn flow(&self) -> Flow {
        self.connection.flow
    }

    /// Reads and writes until the connection ends, and reports that.
    pub(crate) async fn run(self) {
        let ConnectionTask {
            shared,
            connection,
            wire,
            mut queue,
            permit,
        } = self;
        let flow = connection.flow;
        let link = Link {
            shared: &shared,
            connection: &connection,
            is_accepted: permit.is_accepted(),
        };
        let reason = match wire {
            Wire::Bytes(stream) => bytes::run(&link, stream, &mut queue).await,
            #[cfg(feature = "ws")]
            Wire::WebSocket(socket) => web_socket::run(&link, *socket, &mut queue).await,
        };
        drop((queue, permit));
        count_end(&shared, &flow, &reason);
        debug!(peer = %flow.remote, flow = %flow.id, transport = %flow.transport, %reason, "connection closed");
        let report = report_end(&shared, flow, reason);
        // A shutdown does not wait for a driver that has stopped to listen.
        if shared.is_stopping() {
            let _ = timeout(shared.config.linger, report).await;
        } else {
            report.await;
        }
    }
}

/// Tells every shard, as each may have used the connection, that it has ended: first the one that has read from it. What that
/// got before may be for others, whom the end must not reach first.
async fn report_end(shared: &Shared, flow: Flow, reason: CloseReason) {
    let end = || Inbound::new(flow, Payload::Closed(reason.clone()));
    let home = shared.index_of(flow.id);
    let (until_dropped, dealt_with) = oneshot::channel();
    if let Some(shard) = shared.inbound.get(home) {
        let end = Inbound {
            until_dropped: Some(until_dropped),
            ..end()
        };
        // Nobody to tell when a receiver is gone.
        let _ = shard.send(end).await;
    }
    if shared.inbound.len() > 1 {
        let _ = dealt_with.await;
    }
    let others = shared.inbound.iter().enumerate();
    for (_, shard) in others.filter(|(index, _)| *index != home) {
        let _ = shard.send(end()).await;
    }
}

/// What messages go over: bytes that have to be divided, or a transport that keeps them apart.
#[derive(Debug)]
pub(crate) enum Wire {
    Bytes(Box<dyn Stream>),
    #[cfg(feature = "ws")]
    WebSocket(Box<web_socket::WebSocket>),
}

/// What both kinds of wire need.
pub(super) struct Link<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    is_accepted: bool,
}

impl Link<'_> {
    fn config(&self) -> &TransportConfig {
        &self.shared.config
    }

    /// How long nothing at all may come at first: a peer that connected has something to say, while one that we connected to
    /// waits for us.
    fn first_patience(&self) -> Duration {
        let config = self.config();
        match self.is_accepted {
            true => config.first_byte_timeout.min(config.idle_timeout),
            false => config.idle_timeout,
        }
    }

    /// Makes the connection's id resolve no more, and tells whether what was queued before should still be written: where
    /// the peer may be reading.
    fn leave(&self, reason: &CloseReason) -> bool {
        self.shared.table.remove_connection(self.connection);
        self.connection.end(reason.clone());
        matches!(
            reason,
            CloseReason::ByUs
                | CloseReason::ByPeer
                | CloseReason::InMessage
                | CloseReason::Framing
                | CloseReason::Idle
        )
    }

    /// Hands a message on.
    async fn message(&self, message: Message) -> Result<(), CloseReason> {
        let (shared, connection) = (self.shared, self.connection);
        count(&shared.counters.stream_messages_received);
        if let Message::Request(request) = &message {
            self.alias(request);
        }
        self.observe(message.as_bytes());
        match shared.enter(message, &connection.flow, connection.local) {
            Some(inbound) => self.deliver(inbound).await,
            None => Ok(()),
        }
    }

    /// Remembers where the peer says that it listens, if what goes there may come over this connection instead.
    ///
    /// RFC 5923 §9.2: "If the client does not present a certificate, the server MUST proceed as if the \"alias\" header field
    /// parameter was not present". Who it is over TCP nobody can tell.
    fn alias(&self, request: &Request) {
        let connection = self.connection;
        let may_be_reused = self.is_accepted
            && connection.flow.transport == Transport::Tls
            && !connection.peer_domains.is_empty()
            && connection.aliases.get().is_none();
        if !may_be_reused {
            return;
        }
        let Ok(via) = request.headers().via() else {
            return;
        };
        if !via.transport().eq_ignore_ascii_case("TLS") || !via.params().contains("alias") {
            return;
        }
        // §8.2: the source address, and the port of sent-by or 5061.
        let port = via.port().unwrap_or(Transport::Tls.default_port());
        let address = SocketAddr::new(connection.flow.remote.ip(), port);
        count(&self.shared.counters.aliases);
        self.shared.table.add_alias(connection, address);
    }

    /// Hands on what could be read of bytes that are no message.
    async fn malformed(
        &self,
        bytes: &[u8],
        error: &ParseError,
        closes: bool,
    ) -> Result<(), CloseReason> {
        let flow = self.connection.flow;
        self.observe(bytes);
        count(&self.shared.counters.malformed);
        let malformed = Malformed::new(error, flow.remote, closes);
        debug!(peer = %flow.remote, flow = %flow.id, reason = %malformed.reason, "malformed message");
        self.deliver(Inbound::new(flow, Payload::Malformed(malformed)))
            .await?;
        if closes {
            Err(CloseReason::Framing)
        } else {
            Ok(())
        }
    }

    fn observe(&self, bytes: &[u8]) {
        let Connection { flow, local, .. } = self.connection;
        self.shared.observe(Direction::In, flow, *local, bytes);
    }

    async fn deliver(&self, inbound: Inbound) -> Result<(), CloseReason> {
        let request = match &inbound.payload {
            Payload::Message(Message::Request(request)) => Some(request),
            Payload::Malformed(malformed) => malformed.request.as_ref(),
            _ => None,
        };
        if request.is_some_and(|request| *request.method() != Method::Ack) {
            self.connection.unanswered.fetch_add(1, Ordering::AcqRel);
        }
        let shard = self.shared.shard_of(inbound.flow.id);
        // The driver is gone: whoever reads on reads for nobody.
        let sent = shard.ok_or(CloseReason::ByUs)?.send(inbound).await;
        sent.map_err(|_| CloseReason::ByUs)
    }

    /// RFC 5626 §4.4.1: a double CRLF MUST be answered with a single CRLF.
    fn answer_ping(&self) -> Result<(), CloseReason> {
        count(&self.shared.counters.pings_answered);
        self.connection
            .try_send(Bytes::from_static(PONG))
            .map_err(|_| CloseReason::SlowReader)
    }
}

/// Tells a final response by its first bytes: what leaves was printed by us, or by a proxy's peer and checked.
fn is_final_response(message: &[u8]) -> bool {
    message
        .strip_prefix(b"SIP/2.0 ")
        .and_then(|rest| rest.first())
        .is_some_and(|class| *class != b'1')
}

/// Counts an end that a limit brought about, and tells of it.
fn count_end(shared: &Shared, flow: &Flow, reason: &CloseReason) {
    let (counters, paces) = (&shared.counters, &shared.paces);
    let (counter, pace) = match reason {
        CloseReason::SlowReader => (&counters.slow_readers, &paces.slow_readers),
        CloseReason::Idle => (&counters.idle_closed, &paces.idle),
        CloseReason::PartialMessage => (&counters.partial_messages, &paces.partial_messages),
        CloseReason::Framing => (&counters.framing_errors, &paces.framing),
        CloseReason::NoPong => (&counters.pongs_missed, &paces.pongs),
        CloseReason::Silent => (&counters.silent_closed, &paces.silent),
        CloseReason::Io(ErrorKind::TimedOut) => (&counters.timed_out, &paces.timed_out),
        _ => return,
    };
    count(counter);
    let Some(held_back) = pace.admit(shared.network.now().instant) else {
        return;
    };
    let (peer, transport) = (flow.remote, flow.transport);
    match reason {
        // Nobody did anything, so that there is nothing to do about it.
        CloseReason::Idle | CloseReason::NoPong | CloseReason::Silent | CloseReason::Io(_) => {
            info!(%peer, %transport, %reason, held_back, "connection closed");
        }
        _ => warn!(%peer, %transport, %reason, held_back, "connection cut off"),
    }
}

/// When something last went over the connection, whichever way.
#[derive(Debug)]
struct Activity {
    start: Instant,
    milliseconds: AtomicU64,
    /// When something last came.
    received: AtomicU64,
}

impl Activity {
    fn new() -> Activity {
        Activity {
            start: Instant::now(),
            milliseconds: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    fn read(&self) {
        self.received.store(self.elapsed(), Ordering::Relaxed);
        self.touch();
    }

    fn touch(&self) {
        self.milliseconds.store(self.elapsed(), Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn last_read(&self) -> Instant {
        self.start + Duration::from_millis(self.received.load(Ordering::Relaxed))
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }
}

/// RFC 5626 §4.4.1.
const PING: &[u8] = b"\r\n\r\n";
const PONG: &[u8] = b"\r\n";
