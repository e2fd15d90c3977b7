//! WebSocket connections (RFC 7118): one message a frame, so that nothing has to be divided.

use super::{Activity, Link, PING, PONG};
use crate::{CloseReason, Destination, Stream, TransportConfig};
use ::bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use sipora_message::Message;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as Frame, Utf8Bytes};
use tracing::trace;

/// A connection on which both sides have agreed to speak SIP.
#[derive(Debug)]
pub(crate) struct WebSocket {
    socket: Socket,
    meter: Arc<Meter>,
}

type Socket = WebSocketStream<Metered>;

impl WebSocket {
    /// Shakes hands as a server. A client that does not offer the subprotocol `sip` gets a 400 (RFC 7118 §4.1), and whoever
    /// does not speak WebSocket, or another version, what [`refuse`] says.
    pub(crate) async fn accept(
        config: &TransportConfig,
        stream: Box<dyn Stream>,
    ) -> io::Result<WebSocket> {
        let (mut stream, meter) = Metered::new(stream);
        let limits = Some(limits(config));
        let shaken =
            tokio_tungstenite::accept_hdr_async_with_config(&mut stream, agree, limits).await;
        if let Err(error) = shaken {
            // Best effort: whoever does not read it has gone, or does not care.
            let _ = timeout(config.linger, refuse(&mut stream, &error)).await;
            return Err(failure(error));
        }
        // No bytes are left behind: the library refuses what comes before the handshake has ended.
        let socket = Socket::from_raw_socket(stream, Role::Server, limits).await;
        Ok(WebSocket { socket, meter })
    }

    /// Shakes hands as a client. A server that does not agree to the subprotocol `sip` is left.
    pub(crate) async fn connect(
        config: &TransportConfig,
        stream: Box<dyn Stream>,
        destination: &Destination,
    ) -> io::Result<WebSocket> {
        let request = ClientRequestBuilder::new(uri(config, destination)?)
            .with_sub_protocol(SUBPROTOCOL.to_str().unwrap_or_default());
        let (stream, meter) = Metered::new(stream);
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(limits(config)))
                .await
                .map_err(io::Error::other)?;
        Ok(WebSocket { socket, meter })
    }
}

/// Whoever asked for something else than WebSocket, as health checks and people with browsers do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoWebSocket(Error);

/// Tells whether a handshake failed because nobody wanted WebSocket: a request of plain HTTP, or a connection without one.
pub(crate) fn is_visit(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|error| error.is::<NoWebSocket>())
}

fn failure(error: Error) -> io::Error {
    match error {
        Error::Protocol(
            ProtocolError::HandshakeIncomplete
            | ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader,
        ) => io::Error::other(NoWebSocket(error)),
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

/// Answers what is no handshake. RFC 6455 §4.2.1: "the server MUST stop processing the client's handshake and return an HTTP
/// response with an appropriate error code (such as 400 Bad Request)"; §4.2.2, §4.4: 426 tells which version we speak, and RFC
/// 9110 §15.5.22 has it say so to those who asked for no upgrade at all.
async fn refuse(stream: &mut Metered, error: &Error) -> io::Result<()> {
    let answer = match error {
        // The library has written what `agree` said.
        Error::Http(_) => return Ok(()),
        Error::Io(_) | Error::Protocol(ProtocolError::HandshakeIncomplete) => return Ok(()),
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => UPGRADE_REQUIRED,
        _ => BAD_REQUEST,
    };
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // What has come and is not read makes the kernel reset the connection, and the answer is lost with it.
    let mut rest = tokio::io::AsyncReadExt::take(stream, MOST_DISCARDED);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

// The library's callback has this error, and makes it once for a connection at most.
#[allow(clippy::result_large_err)]
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let mut offers = request
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if offers.any(|offer| SUBPROTOCOL == offer.trim_ascii()) {
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(Some("the subprotocol `sip` is required\n".into()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    Err(refusal)
}

fn uri(config: &TransportConfig, destination: &Destination) -> io::Result<Uri> {
    let address = destination.address;
    let host = match destination.server_name.as_deref() {
        Some(name) if name.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{name}]"),
        Some(name) => name.to_owned(),
        None if address.is_ipv6() => format!("[{}]", address.ip()),
        None => address.ip().to_string(),
    };
    let path = config.web_socket_path.trim_start_matches('/');
    let (transport, port) = (destination.transport, address.port());
    let text = match port == transport.default_port() {
        true => format!("{}://{host}/{path}", transport.parameter()),
        false => format!("{}://{host}:{port}/{path}", transport.parameter()),
    };
    text.parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("no address: {text}")))
}

fn limits(config: &TransportConfig) -> WebSocketConfig {
    let limits = &config.message;
    let largest = limits.header_bytes.saturating_add(limits.body);
    let waiting = config.out_buffer_bytes.saturating_add(FRAME_HEADERS);
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        // Everything is handed to the network at once. One message of ours at most waits for it, and pongs, which the library
        // would collect without end for a peer that pings and does not read.
        .write_buffer_size(0)
        .max_write_buffer_size(waiting)
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
}

/// Reads and writes until the connection ends.
pub(super) async fn run(
    link: &Link<'_>,
    socket: WebSocket,
    queue: &mut mpsc::Receiver<Bytes>,
) -> CloseReason {
    let WebSocket { socket, meter } = socket;
    meter.message_ended();
    let (mut sink, stream) = socket.split();
    let mut complaint = None;
    let reason = tokio::select! {
        biased;
        reason = read(link, stream, &meter, &mut complaint) => reason,
        reason = write(link, &mut sink, queue, &meter) => reason,
        reason = link.keep_alive() => reason,
        reason = link.silence(&meter.activity) => reason,
        reason = link.connection.end_asked() => reason,
    };
    if link.leave(&reason) {
        let _ = timeout(link.config().linger, flush(&mut sink, queue, complaint)).await;
    }
    reason
}

/// Hands on what comes. While the driver has no room, nothing more is read. Where the peer breaks the protocol, `complaint` says
/// how.
async fn read(
    link: &Link<'_>,
    mut stream: SplitStream<Socket>,
    meter: &Meter,
    complaint: &mut Option<CloseFrame>,
) -> CloseReason {
    let config = link.config();
    let mut patience = link.first_patience();
    loop {
        let deadline = match meter.partial_since() {
            Some(since) => since + config.partial_message_timeout,
            None => meter.activity.last() + patience,
        };
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            // From now on it is another deadline.
            () = meter.begun.notified() => continue,
            () = sleep_until(deadline) => {
                if meter.partial_since().is_some() {
                    return CloseReason::PartialMessage;
                }
                if meter.activity.last() + patience > Instant::now() {
                    continue;
                }
                return CloseReason::Idle;
            }
        };
        let was_partial = meter.partial_since().is_some();
        match &next {
            Some(Ok(Frame::Ping(payload) | Frame::Pong(payload))) => {
                meter.control_frame_ended(control_frame_length(payload, link.is_accepted));
            }
            _ => meter.message_ended(),
        }
        patience = config.idle_timeout;
        let taken = match next {
            Some(Ok(Frame::Text(text))) => take(link, text.into()).await,
            Some(Ok(Frame::Binary(bytes))) => take(link, bytes).await,
            Some(Ok(Frame::Pong(_))) => {
                link.connection.keep_alive.pong();
                Ok(())
            }
            Some(Ok(Frame::Close(_))) | None => Err(CloseReason::ByPeer),
            // The library has answered a ping by itself.
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => {
                *complaint = complaint_about(&error);
                Err(ending(&error, was_partial))
            }
        };
        if let Err(reason) = taken {
            return reason;
        }
    }
}

/// Deals with one frame.
async fn take(link: &Link<'_>, frame: Bytes) -> Result<(), CloseReason> {
    let flow = link.connection.flow;
    trace!(peer = %flow.remote, flow = %flow.id, length = frame.len(), "received");
    // Browsers cannot send pings, so that clients in them send those of RFC 5626.
    if frame == PING {
        return link.answer_ping();
    }
    if frame == PONG {
        link.connection.keep_alive.pong();
        return Ok(());
    }
    if frame.is_empty() {
        return Ok(());
    }
    // As a datagram: the frame ends where the message does, and Content-Length need not be there (RFC 7118 §5).
    match Message::parse(frame.clone(), &link.config().message) {
        Ok(message) => link.message(message).await,
        Err(error) => link.malformed(&frame, &error, false).await,
    }
}

fn ending(error: &Error, was_partial: bool) -> CloseReason {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => CloseReason::ByPeer,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) if was_partial => {
            CloseReason::InMessage
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseReason::ByPeer,
        Error::Io(error) => CloseReason::Io(error.kind()),
        Error::WriteBufferFull(_) => CloseReason::SlowReader,
        _ => CloseReason::Framing,
    }
}

/// What a peer is told that breaks the protocol: the codes of RFC 6455 §7.4.1.
fn complaint_about(error: &Error) -> Option<CloseFrame> {
    let code = match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        Error::Protocol(_) => CloseCode::Protocol,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Capacity(_) => CloseCode::Size,
        _ => return None,
    };
    Some(CloseFrame {
        code,
        reason: Utf8Bytes::default(),
    })
}

/// RFC 6455 §5.2, §5.5: two bytes, the mask of a client, and 125 bytes at most.
fn control_frame_length(payload: &Bytes, is_masked: bool) -> usize {
    let mask = if is_masked { 4 } else { 0 };
    payload.len().saturating_add(2 + mask)
}

/// Writes what is queued, one message after the other.
async fn write(
    link: &Link<'_>,
    sink: &mut SplitSink<Socket, Frame>,
    queue: &mut mpsc::Receiver<Bytes>,
    meter: &Meter,
) -> CloseReason {
    while let Some(message) = queue.recv().await {
        let length = message.len();
        if let Err(error) = sink.start_send_unpin(frame(message)) {
            return ending(&error, false);
        }
        loop {
            match timeout(link.config().write_timeout, sink.flush()).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => return ending(&error, false),
                // Some of it has been taken.
                Err(_) if meter.wrote_within(link.config().write_timeout) => {}
                Err(_) => return CloseReason::SlowReader,
            }
        }
        link.connection.waiting.fetch_sub(length, Ordering::AcqRel);
    }
    // The table holds a sender while the connection is in it.
    CloseReason::ByUs
}

/// Writes what is still queued, and says farewell.
async fn flush(
    sink: &mut SplitSink<Socket, Frame>,
    queue: &mut mpsc::Receiver<Bytes>,
    complaint: Option<CloseFrame>,
) -> Result<(), Error> {
    queue.close();
    sink.flush().await?;
    while let Some(message) = queue.recv().await {
        sink.send(frame(message)).await?;
    }
    sink.send(Frame::Close(complaint)).await?;
    sink.close().await
}

/// RFC 7118 §4.2: text or binary. Text is what clients in browsers like, and it has to be UTF-8.
fn frame(message: Bytes) -> Frame {
    if message == PING {
        return Frame::Ping(Bytes::new());
    }
    match std::str::from_utf8(&message) {
        Ok(_) => match message.clone().try_into() {
            Ok(text) => Frame::Text(text),
            Err(_) => Frame::Binary(message),
        },
        Err(_) => Frame::Binary(message),
    }
}

/// What the library does not tell: when bytes last came and went, and since when a message has been unfinished.
#[derive(Debug)]
struct Meter {
    activity: Activity,
    /// Milliseconds since the start, and one more; zero for never.
    partial: AtomicU64,
    /// Bytes that came since the last message, less those of control frames.
    unfinished: AtomicUsize,
    written: AtomicU64,
    begun: Notify,
}

impl Meter {
    fn elapsed(&self) -> u64 {
        let elapsed = self.activity.start.elapsed().as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn read(&self, length: usize) {
        self.activity.read();
        self.unfinished.fetch_add(length, Ordering::Relaxed);
        let first =
            self.partial
                .compare_exchange(0, self.elapsed(), Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            self.begun.notify_one();
        }
    }

    fn wrote(&self) {
        self.activity.touch();
        self.written.store(self.elapsed(), Ordering::Relaxed);
    }

    fn wrote_within(&self, time: Duration) -> bool {
        let ago = self
            .elapsed()
            .saturating_sub(self.written.load(Ordering::Relaxed));
        u128::from(ago) < time.as_millis()
    }

    fn partial_since(&self) -> Option<Instant> {
        let since = self.partial.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.activity.start + Duration::from_millis(since))
    }

    fn message_ended(&self) {
        self.unfinished.store(0, Ordering::Relaxed);
        self.partial.store(0, Ordering::Relaxed);
    }

    /// RFC 6455 §5.4: such a frame may stand between the fragments of a message, which it does not finish.
    fn control_frame_ended(&self, length: usize) {
        let unfinished = self.unfinished.load(Ordering::Relaxed);
        let unfinished = unfinished.saturating_sub(length);
        self.unfinished.store(unfinished, Ordering::Relaxed);
        if unfinished == 0 {
            self.partial.store(0, Ordering::Relaxed);
        }
    }
}

/// A connection whose bytes are noticed.
#[derive(Debug)]
struct Metered {
    stream: Box<dyn Stream>,
    meter: Arc<Meter>,
}

impl Metered {
    fn new(stream: Box<dyn Stream>) -> (Metered, Arc<Meter>) {
        let meter = Arc::new(Meter {
            activity: Activity::new(),
            partial: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            begun: Notify::new(),
        });
        let metered = Metered {
            stream,
            meter: meter.clone(),
        };
        (metered, meter)
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let length = buffer.filled().len().saturating_sub(before);
        if length > 0 {
            self.meter.read(length);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.meter.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// RFC 6455 §4.2.2, item 4; §4.4.
const UPGRADE_REQUIRED: &[u8] =
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
    Sec-WebSocket-Version: 13\r\nContent-Type: text/plain\r\nContent-Length: 40\r\n\r\n\
    SIP over WebSocket (RFC 7118) is spoken\n";

const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Bytes that are still taken from a client that has been refused.
const MOST_DISCARDED: u64 = 64 * 1024;

/// RFC 7118 §4.1: "the string "sip"" is the subprotocol, which client and server MUST agree on.
const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("sip");

/// Bytes read at once. The library's own would be 128 KiB a connection.
const BUFFER: usize = 4 * 1024;

/// What frames put before messages, with room to spare for some pongs.
const FRAME_HEADERS: usize = 1024;
