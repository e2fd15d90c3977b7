//! Every limit of connections, on real sockets of the loopback interface: what is past it is cut off, counted, and told to the
//! operator.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use bytes::Bytes;
use common::request;
use sipora_message::Limits;
use sipora_transport::{
    CloseReason, DatagramSocket, Destination, Flow, InboundReceiver, Metrics, Network, Now,
    OpenError, Payload, SendError, Stream, StreamListener, TokioNetwork, TransportConfig,
    Transports,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::subscriber::DefaultGuard;

/// A limit that is over soon.
const SOON: Duration = Duration::from_millis(100);

/// For what has to happen, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, and the log of this thread, in which it runs.
struct Scene {
    server: Transports,
    inbound: InboundReceiver,
    address: SocketAddr,
    log: Log,
}

fn scene(config: TransportConfig) -> Scene {
    scene_on(Arc::new(TokioNetwork::new()), config)
}

fn scene_on(network: Arc<dyn Network>, config: TransportConfig) -> Scene {
    let log = Log::start();
    let (server, inbound) = Transports::new(network, config);
    let address = server.listen_tcp((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    Scene {
        server,
        inbound,
        address,
        log,
    }
}

impl Scene {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection that the server has seen.
    async fn connected(&self) -> TcpStream {
        let mut stream = self.connect().await;
        assert!(is_alive(&mut stream).await);
        stream
    }

    /// A connection that a request came over, which waits for its answer.
    async fn asked(&mut self) -> (TcpStream, Flow) {
        let mut stream = self.connect().await;
        stream.write_all(OPTIONS.as_bytes()).await.unwrap();
        let (flow, _) = request(self.inbound.recv().await.unwrap());
        (stream, flow)
    }

    async fn closed(&mut self) -> CloseReason {
        loop {
            let inbound = timeout(PATIENCE, self.inbound.recv()).await.unwrap();
            if let Payload::Closed(reason) = inbound.unwrap().payload {
                return reason;
            }
        }
    }

    /// Waits until something has been counted.
    async fn counted(&self, is_counted: impl Fn(Metrics) -> bool) {
        let begin = Instant::now();
        while !is_counted(self.server.metrics()) {
            assert!(begin.elapsed() < PATIENCE, "{:?}", self.server.metrics());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The one line about what a limit did to somebody: it names the peer, and how many such lines were left out.
    fn line(&self, level: &str, event: &str) -> String {
        let lines = self.log.lines();
        let mut found = lines
            .iter()
            .filter(|line| line.starts_with(level) && line.contains(event));
        let (Some(line), None) = (found.next(), found.next()) else {
            panic!("not one line of {event:?} in {lines:#?}");
        };
        assert!(line.contains("held_back=0"), "{line}");
        line.clone()
    }
}

/// What is logged for operators in this thread, for as long as it lives.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Log {
    fn start() -> Log {
        let text = Arc::new(Mutex::new(Vec::new()));
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || Writer(writer.clone()))
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        Log { text, _guard }
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const OPTIONS: &str = "OPTIONS sip:c@d SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
     To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

/// Sends a ping (RFC 5626 §4.4.1) and waits for its pong.
async fn is_alive(stream: &mut TcpStream) -> bool {
    let mut pong = [0; 2];
    let exchange = async {
        stream.write_all(b"\r\n\r\n").await?;
        stream.read_exact(&mut pong).await
    };
    timeout(PATIENCE, exchange).await.unwrap().is_ok()
}

async fn is_cut_off(stream: &mut TcpStream) {
    let end = async {
        while stream
            .read(&mut [0; 4096])
            .await
            .is_ok_and(|length| length > 0)
        {}
    };
    timeout(PATIENCE, end).await.unwrap();
}

async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn connections_past_the_limit_in_all_are_refused_until_one_ends() {
    let scene = scene(TransportConfig {
        max_connections: 2,
        ..Default::default()
    });
    let (_first, second) = (scene.connected().await, scene.connected().await);
    let mut third = scene.connect().await;
    is_cut_off(&mut third).await;
    assert_eq!(scene.server.metrics().refused_total, 1);
    assert_eq!(scene.server.metrics().refused_per_source, 0);
    assert_eq!(scene.server.metrics().connections_open, 2);
    let line = scene.line("WARN", "connection refused: too many");
    let peer = third.local_addr().unwrap();
    assert!(line.contains(&format!("peer={peer}")), "{line}");
    assert!(line.contains("refusal=Total"), "{line}");

    drop(second);
    scene.counted(|metrics| metrics.connections_open == 1).await;
    scene.connected().await;
    assert_eq!(scene.server.metrics().refused_total, 1);
}

#[tokio::test]
async fn a_connection_of_ours_past_the_limit_in_all_is_not_opened() {
    let scene = scene(TransportConfig {
        max_connections: 1,
        ..Default::default()
    });
    let _held = scene.connected().await;
    let elsewhere = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let elsewhere = elsewhere.await.unwrap().local_addr().unwrap();
    let opened = scene.server.open(&Destination::tcp(elsewhere)).await;
    assert_eq!(opened.unwrap_err(), OpenError::TooManyConnections);
    assert_eq!(scene.server.metrics().refused_total, 1);
    let line = scene.line("WARN", "connection not opened: too many");
    assert!(line.contains(&format!("peer={elsewhere}")), "{line}");
}

// Sources on loopback other than 127.0.0.1 are there on Linux without being asked for.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_past_the_limit_of_their_source_are_refused_and_others_are_not() {
    let scene = scene(TransportConfig {
        max_connections_per_source: 2,
        ..Default::default()
    });
    let _held = [scene.connected().await, scene.connected().await];
    let mut third = scene.connect().await;
    is_cut_off(&mut third).await;
    assert_eq!(scene.server.metrics().refused_per_source, 1);
    assert_eq!(scene.server.metrics().refused_total, 0);
    let line = scene.line("WARN", "connection refused: too many");
    let peer = third.local_addr().unwrap();
    assert!(line.contains(&format!("peer={peer}")), "{line}");
    assert!(line.contains("refusal=PerSource"), "{line}");

    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), scene.address).await;
    assert!(is_alive(&mut other).await);
}

#[cfg(feature = "ws")]
#[tokio::test]
async fn a_handshake_has_a_limited_time() {
    let scene = scene(TransportConfig {
        handshake_timeout: SOON,
        ..Default::default()
    });
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let address = scene
        .server
        .listen(sipora_transport::Transport::Ws, address)
        .unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    is_cut_off(&mut stream).await;
    scene.counted(|metrics| metrics.connections_open == 0).await;
    assert_eq!(scene.server.metrics().handshakes_timed_out, 1);
    assert_eq!(scene.server.metrics().handshakes_failed, 1);
    let line = scene.line("WARN", "handshake failed");
    let peer = stream.local_addr().unwrap();
    assert!(line.contains(&format!("peer={peer}")), "{line}");
    assert!(line.contains("error=timed out"), "{line}");
}

#[cfg(feature = "ws")]
#[tokio::test]
async fn a_handshake_that_fails_at_once_took_no_time() {
    let scene = scene(TransportConfig::default());
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let address = scene
        .server
        .listen(sipora_transport::Transport::Ws, address)
        .unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"OPTIONS sip:c@d SIP/2.0\r\n\r\n")
        .await
        .unwrap();
    is_cut_off(&mut stream).await;
    scene.counted(|metrics| metrics.connections_open == 0).await;
    assert_eq!(scene.server.metrics().handshakes_failed, 1);
    assert_eq!(scene.server.metrics().handshakes_timed_out, 0);
    scene.line("WARN", "handshake failed");
}

#[tokio::test]
async fn a_connection_without_a_first_byte_has_a_limited_time() {
    let mut scene = scene(TransportConfig {
        first_byte_timeout: SOON,
        ..Default::default()
    });
    let stream = scene.connect().await;
    assert_eq!(scene.closed().await, CloseReason::Idle);
    let line = cut_off(&scene, "INFO", "connection closed", &stream);
    assert!(line.contains("reason=idle for too long"), "{line}");
    assert_eq!(scene.server.metrics().idle_closed, 1);
}

#[tokio::test]
async fn silence_between_messages_has_a_limited_time() {
    let mut scene = scene(TransportConfig {
        idle_timeout: SOON,
        ..Default::default()
    });
    let (stream, _) = scene.asked().await;
    assert_eq!(scene.closed().await, CloseReason::Idle);
    let line = cut_off(&scene, "INFO", "connection closed", &stream);
    assert!(line.contains("reason=idle for too long"), "{line}");
    assert_eq!(scene.server.metrics().idle_closed, 1);
}

#[tokio::test]
async fn a_message_that_is_begun_has_a_limited_time() {
    let mut scene = scene(TransportConfig {
        partial_message_timeout: SOON,
        ..Default::default()
    });
    let (mut stream, _) = scene.asked().await;
    stream.write_all(b"OPTIONS").await.unwrap();
    assert_eq!(scene.closed().await, CloseReason::PartialMessage);
    let line = cut_off(&scene, "WARN", "connection cut off", &stream);
    let why = "reason=a message was begun and not finished in time";
    assert!(line.contains(why), "{line}");
    assert_eq!(scene.server.metrics().partial_messages, 1);
}

#[tokio::test]
async fn bytes_that_wait_for_the_end_of_their_message_are_limited() {
    let endless = "x".repeat(2_000);
    for what in [
        format!("OPTIONS sip:c@d SIP/2.0\r\nSubject: {endless}"),
        format!("OPTIONS sip:{endless}"),
        OPTIONS.replace("Content-Length: 0", "Content-Length: 2000"),
    ] {
        let mut scene = scene(TransportConfig {
            linger: SOON,
            message: Limits {
                start_line: 1_000,
                header_bytes: 1_500,
                body: 1_000,
                ..Default::default()
            },
            ..Default::default()
        });
        let (mut stream, _) = scene.asked().await;
        stream.write_all(what.as_bytes()).await.unwrap();
        assert_eq!(scene.closed().await, CloseReason::Framing, "{what}");
        let line = cut_off(&scene, "WARN", "connection cut off", &stream);
        let why = "reason=the bytes cannot be divided into messages";
        assert!(line.contains(why), "{line}");
        assert_eq!(scene.server.metrics().framing_errors, 1);
    }
}

#[tokio::test]
async fn bytes_and_messages_that_wait_to_be_written_are_limited() {
    for config in [
        TransportConfig {
            out_buffer_bytes: 100_000,
            ..Default::default()
        },
        TransportConfig {
            out_queue: 2,
            ..Default::default()
        },
    ] {
        let mut scene = scene(config);
        let (stream, flow) = scene.asked().await;
        // Nothing is written meanwhile: the connection's task runs in this thread.
        let message = Bytes::from(vec![b'x'; 40_000]);
        let sent = [(); 3].map(|()| scene.server.try_send(&flow, message.clone()));
        assert_eq!(sent, [Ok(()), Ok(()), Err(SendError::Full)]);
        assert_eq!(scene.closed().await, CloseReason::SlowReader);
        assert_slow_reader(&scene, &stream);
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_has_a_limited_time() {
    let mut scene = scene(TransportConfig {
        write_timeout: SOON,
        out_buffer_bytes: usize::MAX,
        ..Default::default()
    });
    let (stream, flow) = scene.asked().await;
    // More than the buffers of both sides hold.
    let message = Bytes::from(vec![b'x'; 64 * 1024 * 1024]);
    scene.server.try_send(&flow, message).unwrap();
    assert_eq!(scene.closed().await, CloseReason::SlowReader);
    assert_slow_reader(&scene, &stream);
}

fn assert_slow_reader(scene: &Scene, stream: &TcpStream) {
    let line = cut_off(scene, "WARN", "connection cut off", stream);
    assert!(line.contains("reason=the peer reads too slowly"), "{line}");
    assert_eq!(scene.server.metrics().slow_readers, 1);
}

#[tokio::test]
async fn a_ping_of_ours_has_to_be_answered_in_a_limited_time() {
    let mut scene = scene(TransportConfig {
        pong_timeout: SOON,
        ..Default::default()
    });
    let (stream, flow) = scene.asked().await;
    scene.server.keep_alive(flow.id, Some(SOON));
    assert_eq!(scene.closed().await, CloseReason::NoPong);
    let line = cut_off(&scene, "INFO", "connection closed", &stream);
    assert!(line.contains("reason=a ping was not answered"), "{line}");
    assert_eq!(scene.server.metrics().pongs_missed, 1);
}

#[tokio::test]
async fn keep_alives_that_are_expected_have_to_come_in_a_limited_time() {
    let mut scene = scene(TransportConfig::default());
    let (stream, flow) = scene.asked().await;
    scene.server.expect_keep_alives(flow.id, Some(SOON));
    assert_eq!(scene.closed().await, CloseReason::Silent);
    let line = cut_off(&scene, "INFO", "connection closed", &stream);
    assert!(line.contains("reason=no keep-alive came"), "{line}");
    assert_eq!(scene.server.metrics().silent_closed, 1);
}

/// The line about the end of this connection. It was counted before the end was told.
fn cut_off(scene: &Scene, level: &str, event: &str, stream: &TcpStream) -> String {
    let line = scene.line(level, event);
    let peer = stream.local_addr().unwrap();
    assert!(line.contains(&format!("peer={peer}")), "{line}");
    assert!(line.contains("transport=TCP"), "{line}");
    assert_eq!(scene.server.metrics().connections_open, 0);
    line
}

#[tokio::test]
async fn a_flood_is_counted_whole_and_told_in_few_lines() {
    let scene = scene(TransportConfig {
        max_connections: 0,
        ..Default::default()
    });
    let begin = Instant::now();
    for _ in 0..200 {
        is_cut_off(&mut scene.connect().await).await;
    }
    assert_eq!(scene.server.metrics().refused_total, 200);
    let lines = scene.log.lines();
    let most = 1 + begin.elapsed().as_secs() as usize;
    assert!((1..=most).contains(&lines.len()), "{lines:#?}");
}

/// A connection whose peer takes nothing of what is sent to it, as the operating system finds out.
#[derive(Debug)]
struct Unheard(Box<dyn Stream>);

impl AsyncRead for Unheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Unheard {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stream for Unheard {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}

#[tokio::test]
async fn what_the_operating_system_waited_for_in_vain_is_counted_and_told() {
    let network = Arc::new(Faulty {
        network: TokioNetwork::new(),
        failures: 0,
        is_unheard: true,
    });
    let mut scene = scene_on(network, TransportConfig::default());
    let (stream, flow) = scene.asked().await;
    scene
        .server
        .try_send(&flow, Bytes::from_static(b"x"))
        .unwrap();
    let closed = scene.closed().await;
    assert_eq!(closed, CloseReason::Io(io::ErrorKind::TimedOut));
    let line = cut_off(&scene, "INFO", "connection closed", &stream);
    assert!(line.contains("reason=timed out"), "{line}");
    assert_eq!(scene.server.metrics().timed_out, 1);
}

/// The operating system's network with something wrong.
#[derive(Debug)]
struct Faulty {
    network: TokioNetwork,
    /// So often a file is missing for a connection that would be accepted.
    failures: u32,
    is_unheard: bool,
}

#[derive(Debug)]
struct Failing {
    listener: Box<dyn StreamListener>,
    failures: u32,
    is_unheard: bool,
}

#[async_trait::async_trait]
impl Network for Faulty {
    fn now(&self) -> Now {
        self.network.now()
    }

    fn local_ip_for(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        self.network.local_ip_for(remote)
    }

    fn bind_datagram(&self, local: SocketAddr, sockets: usize) -> io::Result<Vec<DatagramSocket>> {
        self.network.bind_datagram(local, sockets)
    }

    fn listen(&self, local: SocketAddr) -> io::Result<Box<dyn StreamListener>> {
        Ok(Box::new(Failing {
            listener: self.network.listen(local)?,
            failures: self.failures,
            is_unheard: self.is_unheard,
        }))
    }

    async fn connect(
        &self,
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<Box<dyn Stream>> {
        self.network.connect(local, remote).await
    }
}

#[async_trait::async_trait]
impl StreamListener for Failing {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn accept(&mut self) -> io::Result<Box<dyn Stream>> {
        match self.failures.checked_sub(1) {
            Some(left) => {
                self.failures = left;
                // EMFILE
                Err(io::Error::from_raw_os_error(24))
            }
            None if self.is_unheard => Ok(Box::new(Unheard(self.listener.accept().await?))),
            None => self.listener.accept().await,
        }
    }
}

#[tokio::test]
async fn a_failure_to_accept_is_told_and_the_connection_waits_until_it_is_over() {
    let network = Arc::new(Faulty {
        network: TokioNetwork::new(),
        failures: 3,
        is_unheard: false,
    });
    let scene = scene_on(network, TransportConfig::default());
    scene.connected().await;
    assert_eq!(scene.server.metrics().accept_errors, 3);
    let line = scene.line("WARN", "cannot accept");
    assert!(line.contains(&format!("local={}", scene.address)), "{line}");
    assert!(line.contains("open files"), "{line}");
}
