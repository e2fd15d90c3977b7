//! One stream connection: a task that frames what comes, and writes what is queued.

use crate::handshake::Established;
use crate::metrics::count;
use crate::shared::Shared;
use crate::table::{Permit, Route};
use crate::{CloseReason, Flow, Inbound, Malformed, Payload, SendError, Stream};
use bytes::{Buf, Bytes};
use sipora_message::{Frame, Message, Method, StreamFramer};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, trace};

/// A connection as the table holds it: what others may do to it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) flow: Flow,
    pub(crate) local: SocketAddr,
    pub(crate) route: Route,
    pub(crate) peer_domains: Box<[Box<str>]>,
    queue: mpsc::Sender<Bytes>,
    /// Bytes in the queue and in the write that is under way.
    waiting: AtomicUsize,
    limit: usize,
    /// Requests that came, less the final answers that were queued.
    unanswered: AtomicUsize,
    answered: Notify,
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
    stream: Box<dyn Stream>,
    queue: mpsc::Receiver<Bytes>,
    permit: Permit,
}

impl ConnectionTask {
    /// Enters a connection into the table. Its task has yet to [`run`](ConnectionTask::run).
    pub(crate) fn enter(
        shared: &Arc<Shared>,
        established: Established,
        flow: Flow,
        route: Route,
        local: SocketAddr,
        permit: Permit,
    ) -> ConnectionTask {
        let Established {
            stream,
            peer_domains,
        } = established;
        let (sender, queue) = mpsc::channel(shared.config.out_queue.max(1));
        let connection = Arc::new(Connection {
            flow,
            local,
            route,
            peer_domains,
            queue: sender,
            waiting: AtomicUsize::new(0),
            limit: shared.config.out_buffer_bytes,
            unanswered: AtomicUsize::new(0),
            answered: Notify::new(),
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
            stream,
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
            stream,
            mut queue,
            permit,
        } = self;
        let flow = connection.flow;
        let (reader, mut writer) = tokio::io::split(stream);
        let activity = Activity::new();
        // What is being written outlives the future that writes it, so that what is flushed begins where that left off.
        let mut writing = Bytes::new();

        let reason = tokio::select! {
            // In this order, so that a message which has come is seen before what was asked for later.
            biased;
            reason = receive(&shared, &connection, reader, &activity, permit.is_accepted()) => reason,
            reason = write(&shared, &connection, &mut writer, &mut queue, &mut writing, &activity) => reason,
            reason = connection.end_asked() => reason,
        };

        // From here the id resolves no more; what was queued before is still written where the peer may be reading.
        shared.table.remove_connection(&connection);
        connection.end(reason.clone());
        if matches!(
            reason,
            CloseReason::ByUs
                | CloseReason::ByPeer
                | CloseReason::InMessage
                | CloseReason::Framing
                | CloseReason::Idle
        ) {
            let _ = timeout(
                shared.config.linger,
                flush(&mut writer, &mut queue, writing),
            )
            .await;
        }
        drop((writer, queue, permit));
        count_end(&shared, &reason);
        debug!(peer = %flow.remote, flow = %flow.id, transport = %flow.transport, %reason, "connection closed");
        // Nobody to tell when the receiver is gone; and a shutdown does not wait for a driver that has stopped to listen.
        let report = shared
            .inbound
            .send(Inbound::new(flow, Payload::Closed(reason)));
        if shared.is_stopping() {
            let _ = timeout(shared.config.linger, report).await;
        } else {
            let _ = report.await;
        }
    }
}

/// Reads until nothing more will come, and then waits for the answers to what came: a peer that has sent all it wants to
/// say (TCP's half-close) may still listen.
async fn receive<R>(
    shared: &Shared,
    connection: &Connection,
    reader: R,
    activity: &Activity,
    is_accepted: bool,
) -> CloseReason
where
    R: AsyncRead + Unpin,
{
    let reason = read(shared, connection, reader, activity, is_accepted).await;
    if matches!(reason, CloseReason::ByPeer | CloseReason::InMessage) {
        // Whoever wants to send a request to this peer opens another connection.
        shared.table.remove_route(connection);
        let _ = timeout(shared.config.half_closed_timeout, connection.all_answered()).await;
    }
    reason
}

/// Divides what comes into messages, and hands them on. While the driver has no room, nothing more is read.
async fn read<R>(
    shared: &Shared,
    connection: &Connection,
    mut reader: R,
    activity: &Activity,
    is_accepted: bool,
) -> CloseReason
where
    R: AsyncRead + Unpin,
{
    let config = &shared.config;
    let mut framer = StreamFramer::new(config.message);
    let mut buffer = vec![0; READ_BUFFER].into_boxed_slice();
    // Since when a message has been unfinished.
    let mut partial: Option<Instant> = None;
    // A peer that connected has something to say; one that we connected to waits for us.
    let mut patience = match is_accepted {
        true => config.first_byte_timeout.min(config.idle_timeout),
        false => config.idle_timeout,
    };
    loop {
        let deadline = match partial {
            Some(since) => since + config.partial_message_timeout,
            None => activity.last() + patience,
        };
        let length = match timeout_at(deadline, reader.read(&mut buffer)).await {
            Ok(Ok(0)) if framer.is_partial() => return CloseReason::InMessage,
            Ok(Ok(0)) => return CloseReason::ByPeer,
            Ok(Ok(length)) => length,
            Ok(Err(error)) => return CloseReason::Io(error.kind()),
            Err(_) if partial.is_some() => return CloseReason::PartialMessage,
            // Something has been written meanwhile: idle is silence both ways.
            Err(_) if activity.last() + patience > Instant::now() => continue,
            Err(_) => return CloseReason::Idle,
        };
        activity.touch();
        patience = config.idle_timeout;
        trace!(peer = %connection.flow.remote, flow = %connection.flow.id, length, "received");

        framer.push(buffer.get(..length).unwrap_or_default());
        let mut completed = false;
        while let Some(frame) = framer.next() {
            completed = true;
            if let Err(reason) = take(shared, connection, frame).await {
                discard(&mut reader, &mut buffer, config.linger).await;
                return reason;
            }
        }
        partial = match framer.is_partial() {
            false => None,
            true if completed => Some(Instant::now()),
            true => partial.or_else(|| Some(Instant::now())),
        };
    }
}

/// Deals with one frame. `Err`: nothing can be framed any more.
async fn take(shared: &Shared, connection: &Connection, frame: Frame) -> Result<(), CloseReason> {
    let flow = connection.flow;
    let inbound = match frame {
        Frame::Message(message) => {
            count(&shared.counters.stream_messages_received);
            match shared.enter(message, &flow, connection.local) {
                Some(inbound) => inbound,
                None => return Ok(()),
            }
        }
        Frame::Ping => {
            count(&shared.counters.pings_answered);
            // RFC 5626 §4.4.1: a double CRLF MUST be answered with a single CRLF.
            return connection
                .try_send(Bytes::from_static(b"\r\n"))
                .map_err(|_| CloseReason::SlowReader);
        }
        Frame::Error(error) => {
            count(&shared.counters.malformed);
            let malformed = Malformed::new(error.error(), flow.remote, !error.is_recoverable());
            debug!(peer = %flow.remote, flow = %flow.id, reason = %malformed.reason, "malformed message");
            Inbound::new(flow, Payload::Malformed(malformed))
        }
        // An answer to a ping: it has done its work by coming.
        _ => return Ok(()),
    };
    let closes = matches!(&inbound.payload, Payload::Malformed(malformed) if malformed.closes);
    let request = match &inbound.payload {
        Payload::Message(Message::Request(request)) => Some(request),
        Payload::Malformed(malformed) => malformed.request.as_ref(),
        _ => None,
    };
    if request.is_some_and(|request| *request.method() != Method::Ack) {
        connection.unanswered.fetch_add(1, Ordering::AcqRel);
    }
    // The driver is gone: whoever reads on reads for nobody.
    shared
        .inbound
        .send(inbound)
        .await
        .map_err(|_| CloseReason::ByUs)?;
    if closes {
        Err(CloseReason::Framing)
    } else {
        Ok(())
    }
}

/// Reads and forgets for a while: a socket closed with unread bytes is reset, and the reset would overtake our 400.
async fn discard<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut [u8], linger: Duration) {
    let _ = timeout(linger, async {
        while reader.read(buffer).await.is_ok_and(|length| length > 0) {}
    })
    .await;
}

/// Writes what is queued.
async fn write<W>(
    shared: &Shared,
    connection: &Connection,
    writer: &mut W,
    queue: &mut mpsc::Receiver<Bytes>,
    writing: &mut Bytes,
    activity: &Activity,
) -> CloseReason
where
    W: AsyncWrite + Unpin,
{
    while let Some(message) = queue.recv().await {
        *writing = message;
        while !writing.is_empty() {
            match timeout(shared.config.write_timeout, writer.write(writing)).await {
                Ok(Ok(0)) => return CloseReason::Io(std::io::ErrorKind::WriteZero),
                Ok(Ok(length)) => {
                    writing.advance(length);
                    connection.waiting.fetch_sub(length, Ordering::AcqRel);
                    activity.touch();
                }
                Ok(Err(error)) => return CloseReason::Io(error.kind()),
                Err(_) => return CloseReason::SlowReader,
            }
        }
        // TLS takes bytes before the network does, some ten thousand at most; this waits until they are on their way.
        match timeout(shared.config.write_timeout, writer.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return CloseReason::Io(error.kind()),
            Err(_) => return CloseReason::SlowReader,
        }
    }
    // The table holds a sender while the connection is in it.
    CloseReason::ByUs
}

/// Writes what is still queued and says that no more will come.
async fn flush<W>(
    writer: &mut W,
    queue: &mut mpsc::Receiver<Bytes>,
    writing: Bytes,
) -> std::io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    queue.close();
    writer.write_all(&writing).await?;
    while let Some(message) = queue.recv().await {
        writer.write_all(&message).await?;
    }
    writer.shutdown().await
}

/// Tells a final response by its first bytes: what leaves was printed by us, or by a proxy's peer and checked.
fn is_final_response(message: &[u8]) -> bool {
    message
        .strip_prefix(b"SIP/2.0 ")
        .and_then(|rest| rest.first())
        .is_some_and(|class| *class != b'1')
}

fn count_end(shared: &Shared, reason: &CloseReason) {
    let counters = &shared.counters;
    match reason {
        CloseReason::SlowReader => count(&counters.slow_readers),
        CloseReason::Idle => count(&counters.idle_closed),
        CloseReason::PartialMessage => count(&counters.partial_messages),
        CloseReason::Framing => count(&counters.framing_errors),
        _ => {}
    }
}

/// When something last went over the connection, whichever way.
struct Activity {
    start: Instant,
    milliseconds: AtomicU64,
}

impl Activity {
    fn new() -> Activity {
        Activity {
            start: Instant::now(),
            milliseconds: AtomicU64::new(0),
        }
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(elapsed, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }
}

/// Bytes read at once: a few messages of the usual size. Kept small, as every connection has one.
const READ_BUFFER: usize = 4 * 1024;
