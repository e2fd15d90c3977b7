//! The hook that sees every message, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod authority;
mod common;

use common::{ok, options, request, response};
use sipora_transport::{
    Destination, Direction, Inbound, InboundReceiver, MessageObserver, Observed, Payload,
    TokioNetwork, Transport, TransportConfig, Transports, UdpListener, response_route,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    direction: Direction,
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Record(Mutex<Vec<Seen>>);

impl Record {
    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl MessageObserver for Record {
    fn on_message(&self, message: &Observed<'_>) {
        self.0.lock().unwrap().push(Seen {
            direction: message.direction,
            transport: message.flow.transport,
            local: message.local,
            remote: message.flow.remote,
            bytes: message.bytes.to_vec(),
        });
    }
}

/// Transports on loopback and what was seen of them.
struct Side {
    transports: Transports,
    inbound: InboundReceiver,
    socket: UdpListener,
    record: Arc<Record>,
}

impl Side {
    fn new(bind: &str, config: TransportConfig) -> Side {
        let record = Arc::new(Record::default());
        let network = Arc::new(TokioNetwork::new());
        let (transports, inbound) = Transports::with_observer(network, config, record.clone());
        let socket = transports.bind_udp(bind.parse().unwrap(), 1).unwrap();
        Side {
            transports,
            inbound,
            socket: socket.into_iter().next().unwrap(),
            record,
        }
    }

    async fn next(&mut self) -> Inbound {
        tokio::select! {
            inbound = self.socket.recv() => inbound,
            Some(inbound) = self.inbound.recv() => inbound,
        }
    }

    fn address(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Udp => self.socket.local_addr(),
            stream => {
                let any = "127.0.0.1:0".parse().unwrap();
                self.transports.listen(stream, any).unwrap()
            }
        }
    }
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
fn configs() -> (TransportConfig, TransportConfig) {
    let authority = authority::Authority::new();
    let with = |names: &[&str]| TransportConfig {
        tls: Some(authority.config(names).build().unwrap()),
        ..Default::default()
    };
    (with(&["example.com"]), with(&[]))
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
fn configs() -> (TransportConfig, TransportConfig) {
    Default::default()
}

fn transports() -> Vec<Transport> {
    let has_tls = cfg!(any(feature = "tls-ring", feature = "tls-aws-lc-rs"));
    let mut all = vec![Transport::Udp, Transport::Tcp];
    all.extend(has_tls.then_some(Transport::Tls));
    all.extend(cfg!(feature = "ws").then_some(Transport::Ws));
    all.extend((has_tls && cfg!(feature = "ws")).then_some(Transport::Wss));
    all
}

#[tokio::test]
async fn both_sides_see_the_same_bytes_and_addresses_over_every_transport() {
    let (of_server, of_client) = configs();
    let mut server = Side::new("127.0.0.1:0", of_server);
    let mut client = Side::new("127.0.0.1:0", of_client);
    for transport in transports() {
        let destination = Destination {
            transport,
            address: server.address(transport),
            server_name: Some("example.com".into()),
        };
        let flow = client.transports.open(&destination).await.unwrap();
        let sent = options(&client.transports, &flow, "1");
        client.transports.try_send(&flow, sent.to_bytes()).unwrap();
        let (back, received) = request(server.next().await);
        let answer = ok(&received);
        let back = response_route(&received, &back).flow;
        server.transports.try_send(&back, answer.clone()).unwrap();
        response(client.next().await);

        let seen = |direction, local, remote, bytes: &[u8]| Seen {
            direction,
            transport,
            local,
            remote,
            bytes: bytes.to_vec(),
        };
        let ours = client.transports.local_addr(&flow).unwrap();
        let theirs = destination.address;
        let of_client = [
            seen(Direction::Out, ours, theirs, sent.as_bytes()),
            seen(Direction::In, ours, theirs, &answer),
        ];
        // As it was on the wire: without what the server has put into the Via since.
        let of_server = [
            seen(Direction::In, theirs, ours, sent.as_bytes()),
            seen(Direction::Out, theirs, ours, &answer),
        ];
        assert_eq!(client.record.take(), of_client);
        assert_eq!(server.record.take(), of_server);
    }
}

#[tokio::test]
async fn what_is_no_message_is_seen_and_what_is_no_attempt_at_one_is_not() {
    let mut server = Side::new("127.0.0.1:0", TransportConfig::default());
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.address(Transport::Udp);
    udp.send_to(b"\r\n\r\n", address).await.unwrap();
    udp.send_to(b"rubbish\r\n", address).await.unwrap();
    assert!(matches!(server.next().await.payload, Payload::Malformed(_)));

    let address = server.address(Transport::Tcp);
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let (no_from, rest) = (
        "OPTIONS sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n",
        "GET /",
    );
    tcp.write_all(format!("\r\n\r\n{no_from}{rest}").as_bytes())
        .await
        .unwrap();
    assert!(matches!(server.next().await.payload, Payload::Malformed(_)));
    let mut pong = [0; 2];
    tcp.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\r\n");

    let seen: Vec<_> = server.record.take();
    let seen: Vec<_> = seen
        .iter()
        .map(|seen| (seen.direction, &seen.bytes[..]))
        .collect();
    let expected = [b"rubbish\r\n", no_from.as_bytes()];
    assert_eq!(seen, expected.map(|bytes| (Direction::In, bytes)));
}

#[tokio::test]
async fn a_socket_on_a_wildcard_is_seen_with_the_address_that_the_peer_knows() {
    let mut server = Side::new("0.0.0.0:0", TransportConfig::default());
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.socket.local_addr().port();
    udp.send_to(b"rubbish", ("127.0.0.1", port)).await.unwrap();
    server.next().await;
    let seen = server.record.take();
    assert_eq!(seen[0].local, SocketAddr::from(([127, 0, 0, 1], port)));
}

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
#[tokio::test]
async fn a_socket_on_a_wildcard_is_seen_with_the_address_that_was_written_to() {
    let mut server = Side::new("0.0.0.0:0", TransportConfig::default());
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.socket.local_addr().port();
    udp.send_to(b"rubbish", ("127.0.0.2", port)).await.unwrap();
    let flow = server.next().await.flow;
    server.transports.send_line_ends(&flow).unwrap();
    let seen = server.record.take();
    let address = SocketAddr::from(([127, 0, 0, 2], port));
    let both = [(Direction::In, address), (Direction::Out, address)];
    let seen = seen.iter().map(|seen| (seen.direction, seen.local));
    assert_eq!(seen.collect::<Vec<_>>(), both);
}
