//! STUN on SIP's UDP sockets (RFC 5626 §4.4.2, §8).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{options, request};
use sipora_testkit::{Conditions, Packet, SimHost, SimNetwork, for_each_seed, seeds};
use sipora_transport::{
    Datagram, DatagramSocket, Destination, Flow, Network, StunFailure, TokioNetwork,
    TransportConfig, Transports, UdpListener,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const CLIENT: &str = "192.0.2.1:5060";
const SERVER: &str = "198.51.100.1:5060";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn host(network: &SimNetwork, text: &str) -> SimHost {
    network.host(address(text).ip())
}

fn transports(
    network: &SimNetwork,
    text: &str,
    config: TransportConfig,
) -> (Transports, UdpListener) {
    let (transports, _) = Transports::new(Arc::new(host(network, text)), config);
    let listener = transports.bind_udp(address(text), 1).unwrap().remove(0);
    (transports, listener)
}

fn server(network: &SimNetwork) -> (Transports, UdpListener) {
    transports(network, SERVER, TransportConfig::default())
}

/// Polls a listener, and fails if anything shows.
fn listen(mut listener: UdpListener) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let shown = listener.recv().await;
        panic!("shown: {shown:?}");
    })
}

/// A client with a flow to the server.
async fn client(network: &SimNetwork) -> (Transports, Flow) {
    let (client, listener) = transports(network, CLIENT, TransportConfig::default());
    let flow = client
        .open(&Destination::udp(address(SERVER)))
        .await
        .unwrap();
    listen(listener);
    (client, flow)
}

/// A socket of somebody who speaks for itself.
struct Peer(DatagramSocket);

impl Peer {
    fn on(network: &SimNetwork, text: &str) -> Peer {
        let host = host(network, text);
        Peer(host.bind_datagram(address(text), 1).unwrap().remove(0))
    }

    fn send(&self, bytes: &[u8], to: &str) {
        self.0.sender.try_send_to(bytes, address(to)).unwrap();
    }

    async fn receive(&mut self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 2_000];
        let received = std::future::poll_fn(|cx| self.0.receiver.poll_recv(cx, &mut buffer));
        match received.await.unwrap() {
            Datagram::Received { length, source, .. } => (buffer[..length].to_vec(), source),
            other => panic!("{other:?}"),
        }
    }

    async fn receive_soon(&mut self) -> Option<Vec<u8>> {
        let received = timeout(Duration::from_secs(5), self.receive()).await;
        received.ok().map(|(bytes, _)| bytes)
    }
}

const TRANSACTION: [u8; 12] = *b"transaction!";

fn stun(kind: u16, attributes: &[u8]) -> Vec<u8> {
    let mut message = kind.to_be_bytes().to_vec();
    message.extend((attributes.len() as u16).to_be_bytes());
    message.extend([0x21, 0x12, 0xa4, 0x42]);
    message.extend(TRANSACTION);
    message.extend(attributes);
    message
}

/// XOR-MAPPED-ADDRESS of an IPv4 address.
fn mapped(text: &str) -> Vec<u8> {
    let address = address(text);
    let IpAddr::V4(ip) = address.ip() else {
        panic!("no IPv4")
    };
    let port = address.port() ^ 0x2112;
    let mut attribute = vec![0, 0x20, 0, 8, 0, 1, (port >> 8) as u8, port as u8];
    let mask = [0x21, 0x12, 0xa4, 0x42];
    attribute.extend(ip.octets().iter().zip(mask).map(|(one, other)| one ^ other));
    attribute
}

/// The answer to a request as it came.
fn success(request: &[u8], attribute: &[u8]) -> Vec<u8> {
    let mut answer = stun(0x0101, attribute);
    answer.splice(8..20, request[8..20].iter().copied());
    answer
}

#[test]
fn a_binding_request_is_answered_with_where_it_came_from() {
    for_each_seed(0..1, |network| async move {
        let (server, listener) = server(&network);
        listen(listener);
        let mut peer = Peer::on(&network, "192.0.2.7:40000");
        peer.send(&stun(1, &[]), SERVER);
        let owed = stun(0x0101, &mapped("192.0.2.7:40000"));
        assert_eq!(peer.receive_soon().await, Some(owed));
        assert_eq!(server.metrics().stun_answered, 1);
    });
}

#[test]
fn what_has_to_be_understood_and_is_not_is_named() {
    for_each_seed(0..1, |network| async move {
        let (_server, listener) = server(&network);
        listen(listener);
        let mut peer = Peer::on(&network, "192.0.2.7:40000");
        // PRIORITY has to be understood, SOFTWARE has not.
        peer.send(
            &stun(1, b"\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x22\x00\x02Hi\0\0"),
            SERVER,
        );
        let answer = peer.receive_soon().await.unwrap();
        assert_eq!(answer[..2], [0x01, 0x11]);
        assert_eq!(answer[8..20], TRANSACTION);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains("Unknown Attribute"), "{text}");
        assert!(
            answer.ends_with(&[0x00, 0x0a, 0, 2, 0x00, 0x24, 0, 0]),
            "{answer:?}"
        );
    });
}

#[test]
fn what_is_malformed_gets_no_answer_and_is_shown_to_nobody() {
    for_each_seed(0..1, |network| async move {
        let (server, mut listener) = server(&network);
        let mut peer = Peer::on(&network, "192.0.2.7:40000");
        network.auditor().excuse("192.0.2.7".parse().unwrap());
        let mut another_cookie = stun(1, &[]);
        another_cookie[4] = 0;
        let mut wrong_length = stun(1, &[]);
        wrong_length[3] = 4;
        let large = stun(
            1,
            &[0x80, 0x22, 0x04, 0x00]
                .into_iter()
                .chain([b'x'; 1024])
                .collect::<Vec<_>>(),
        );
        let garbage = [
            vec![1],
            vec![0, 1, 2],
            stun(1, &[])[..19].to_vec(),
            another_cookie,
            wrong_length,
            large,
            // An indication, and an answer to nothing.
            stun(0x0011, &[]),
            stun(0x0101, &mapped("192.0.2.7:40000")),
        ];
        for bytes in &garbage {
            peer.send(bytes, SERVER);
        }
        let (client, flow) = client(&network).await;
        client
            .try_send(&flow, options(&client, &flow, "1").to_bytes())
            .unwrap();
        let (flow, _) = request(listener.recv().await);
        assert_eq!(flow.remote, address(CLIENT), "the first that is shown");
        assert_eq!(peer.receive_soon().await, None);
        let metrics = server.metrics();
        // But for the answer, of which nobody says that it is malformed.
        assert_eq!(metrics.stun_dropped, garbage.len() as u64 - 1);
        assert_eq!((metrics.stun_answered, metrics.malformed), (0, 0));
    });
}

#[test]
fn no_more_is_answered_in_a_second_than_the_settings_say() {
    for_each_seed(0..1, |network| async move {
        let config = TransportConfig {
            stun_answers: 10,
            ..Default::default()
        };
        let (server, listener) = transports(&network, SERVER, config);
        listen(listener);
        let mut peer = Peer::on(&network, "192.0.2.7:40000");
        for _ in 0..100 {
            peer.send(&stun(1, &[]), SERVER);
        }
        sleep(Duration::from_millis(100)).await;
        let metrics = server.metrics();
        assert_eq!((metrics.stun_answered, metrics.stun_dropped), (10, 90));
        sleep(Duration::from_secs(1)).await;
        while peer.receive_soon().await.is_some() {}
        peer.send(&stun(1, &[]), SERVER);
        assert!(peer.receive_soon().await.is_some());
    });
}

#[test]
fn a_flow_whose_peer_answers_lives_on_however_bad_the_way() {
    for_each_seed(seeds(), |network| async move {
        // Half of that loss: of a hundred thousand requests no seven are lost in a row, with their answers.
        network.set_conditions(Conditions {
            loss: 0.05,
            ..Conditions::rough()
        });
        let (_server, listener) = server(&network);
        listen(listener);
        let (client, flow) = client(&network).await;
        let keep_alive = client.stun_keep_alive(flow, Duration::from_secs(29));
        let mut keep_alive = std::pin::pin!(keep_alive);
        let ended = timeout(Duration::from_secs(3_600), &mut keep_alive).await;
        assert!(ended.is_err(), "{ended:?}");
        // Each wait is between 23 and 29 s; some requests go twice.
        let sent = client.metrics().stun_sent;
        assert!((120..=220).contains(&sent), "{sent}");
        network.part(address(CLIENT).ip(), address(SERVER).ip());
        let begun = Instant::now();
        let was_answered = true;
        assert_eq!(keep_alive.await, StunFailure::NoAnswer { was_answered });
        let waited = begun.elapsed();
        assert!(
            waited <= Duration::from_millis(29_000 + 39_500 + 500),
            "{waited:?}"
        );
        assert_eq!(client.metrics().stun_failures, 1);
    });
}

#[test]
fn a_request_is_sent_seven_times_and_given_up_after_39_5_seconds() {
    for_each_seed(0..1, |network| async move {
        network.set_conditions(Conditions {
            reports_unreachable: false,
            ..Conditions::perfect()
        });
        let (client, flow) = client(&network).await;
        let begun = Instant::now();
        let ended = client.stun_keep_alive(flow, Duration::from_secs(29)).await;
        let was_answered = false;
        assert_eq!(ended, StunFailure::NoAnswer { was_answered });
        assert_eq!(begun.elapsed(), Duration::from_millis(39_500));
        let packets: Vec<Packet> = network.packets();
        assert!(
            packets
                .iter()
                .all(|packet| packet.bytes == packets[0].bytes),
            "one transaction"
        );
        // RFC 5389 §7.2.1.
        let after = |packet: &Packet| (packet.at - packets[0].at).as_millis();
        let times: Vec<_> = packets.iter().map(after).collect();
        assert_eq!(times, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    });
}

#[test]
fn another_mapped_address_than_before_ends_the_flow() {
    for_each_seed(0..1, |network| async move {
        let mut peer = Peer::on(&network, SERVER);
        let (client, flow) = client(&network).await;
        let answers = tokio::spawn(async move {
            for port in [40_000, 40_000, 40_001] {
                let (request, source) = peer.receive().await;
                let seen = mapped(&format!("203.0.113.9:{port}"));
                peer.send(&success(&request, &seen), &source.to_string());
            }
        });
        let ended = client.stun_keep_alive(flow, Duration::from_secs(29)).await;
        let owed = StunFailure::AddressChanged {
            before: address("203.0.113.9:40000"),
            after: address("203.0.113.9:40001"),
        };
        assert_eq!(ended, owed);
        answers.await.unwrap();
    });
}

#[test]
fn an_error_response_ends_the_flow() {
    for_each_seed(0..1, |network| async move {
        let mut peer = Peer::on(&network, SERVER);
        let (client, flow) = client(&network).await;
        tokio::spawn(async move {
            let (request, source) = peer.receive().await;
            let mut answer = success(&request, &[0, 9, 0, 4, 0, 0, 5, 0]);
            answer[1] = 0x11;
            peer.send(&answer, &source.to_string());
        });
        let ended = client.stun_keep_alive(flow, Duration::from_secs(29)).await;
        assert_eq!(ended, StunFailure::Refused(500));
    });
}

#[test]
fn answers_of_strangers_and_of_other_transactions_do_not_count() {
    for_each_seed(0..1, |network| async move {
        let mut peer = Peer::on(&network, SERVER);
        let stranger = Peer::on(&network, "203.0.113.66:5060");
        let (client, flow) = client(&network).await;
        tokio::spawn(async move {
            loop {
                let (request, source) = peer.receive().await;
                let source = source.to_string();
                let answer = success(&request, &mapped(CLIENT));
                stranger.send(&answer, &source);
                peer.send(&stun(0x0101, &mapped(CLIENT)), &source);
                // Without the address it is no answer.
                peer.send(&success(&request, &[]), &source);
            }
        });
        let ended = client.stun_keep_alive(flow, Duration::from_secs(29)).await;
        let was_answered = false;
        assert_eq!(ended, StunFailure::NoAnswer { was_answered });
    });
}

#[test]
fn nothing_is_asked_for_who_does_not_wait_any_more() {
    for_each_seed(0..1, |network| async move {
        let (_server, listener) = server(&network);
        listen(listener);
        let (client, flow) = client(&network).await;
        let asked = client.stun_keep_alive(flow, Duration::from_secs(29));
        assert!(timeout(Duration::from_secs(60), asked).await.is_err());
        let sent = client.metrics().stun_sent;
        assert!(sent >= 2, "{sent}");
        sleep(Duration::from_secs(600)).await;
        assert_eq!(client.metrics().stun_sent, sent);
        let gone = Flow {
            id: sipora_transport::FlowId::from_u64(1_000_000),
            ..flow
        };
        let ended = client.stun_keep_alive(gone, Duration::from_secs(29)).await;
        assert_eq!(ended, StunFailure::Closed);
    });
}

#[test]
fn line_ends_are_no_message_and_get_no_answer() {
    for_each_seed(0..1, |network| async move {
        let (server, listener) = server(&network);
        listen(listener);
        let (client, flow) = client(&network).await;
        client.send_line_ends(&flow).unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(server.metrics().keep_alives_ignored, 1);
        assert_eq!(server.metrics().datagrams_sent, 0);
    });
}

#[tokio::test]
async fn over_real_sockets_a_request_is_answered() {
    let one = |at: &str| {
        let (transports, _) =
            Transports::new(Arc::new(TokioNetwork::new()), TransportConfig::default());
        let listener = transports.bind_udp(address(at), 1).unwrap().remove(0);
        (transports, listener)
    };
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let ((server, server_in), (client, client_in)) = (one(at), one(at));
        let peer = Destination::udp(server_in.local_addr());
        listen(server_in);
        listen(client_in);
        let flow = client.open(&peer).await.unwrap();
        // Answered once, it waits; then it is asked no more.
        let asked = client.stun_keep_alive(flow, Duration::from_secs(3_600));
        let answered = async {
            while server.metrics().stun_answered == 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ended = asked => panic!("{ended}"),
            answered = timeout(Duration::from_secs(60), answered) => answered.unwrap(),
        }
    }
}

#[test]
fn on_a_wildcard_socket_the_answer_comes_from_where_was_asked() {
    for_each_seed(0..1, |network| async move {
        let addresses = ["198.51.100.1", "198.51.100.2"].map(|ip| ip.parse().unwrap());
        let host = network.host_with(&addresses);
        let (server, _in) = Transports::new(Arc::new(host), TransportConfig::default());
        let mut sockets = server.bind_udp(address("0.0.0.0:5060"), 1).unwrap();
        listen(sockets.remove(0));
        let mut peer = Peer::on(&network, "192.0.2.7:40000");
        for asked in ["198.51.100.2:5060", "198.51.100.1:5060"] {
            peer.send(&stun(1, &[]), asked);
            assert_eq!(peer.receive().await.1, address(asked));
        }
    });
}

#[test]
fn a_flow_over_a_wildcard_socket_lives_where_its_peer_answers() {
    for_each_seed(0..1, |network| async move {
        let addresses = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let host = network.host_with(&addresses);
        let (client, _in) = Transports::new(Arc::new(host), TransportConfig::default());
        let mut sockets = client.bind_udp(address("0.0.0.0:5060"), 1).unwrap();
        let mut socket = sockets.remove(0);
        let (server, listener) = server(&network);
        listen(listener);
        let ours = client.open(&Destination::udp(address(SERVER))).await;
        let second = Destination::udp(address("192.0.2.2:5060"));
        let theirs = server.open(&second).await.unwrap();
        let sent = options(&server, &theirs, "1");
        server.try_send(&theirs, sent.to_bytes()).unwrap();
        let (back, _) = request(socket.recv().await);
        listen(socket);
        // One begins with us, over whatever address the system chooses, and one with the server's request to the second.
        for flow in [ours.unwrap(), back] {
            let lives = client.stun_keep_alive(flow, Duration::from_secs(10));
            assert!(timeout(Duration::from_secs(60), lives).await.is_err());
        }
        let asked = |packet: &&Packet| packet.source == address("192.0.2.2:5060");
        assert!(network.packets().iter().filter(asked).count() >= 6);
    });
}

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
#[tokio::test]
async fn on_a_real_wildcard_socket_the_answer_comes_from_where_was_asked() {
    let (server, _in) = Transports::new(Arc::new(TokioNetwork::new()), TransportConfig::default());
    let socket = server.bind_udp(address("0.0.0.0:0"), 1).unwrap().remove(0);
    let asked = SocketAddr::from(([127, 0, 0, 2], socket.local_addr().port()));
    listen(socket);
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    peer.send_to(&stun(1, &[]), asked).await.unwrap();
    let (_, source) = peer.recv_from(&mut [0; 100]).await.unwrap();
    assert_eq!(source, asked);
}
