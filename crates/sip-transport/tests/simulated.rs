//! The rules of flows, on the simulated network in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use bytes::Bytes;
use common::{ok, options, request, response};
use sipora_message::{Message, Response, StatusCode};
use sipora_testkit::{Conditions, SimNetwork, fixtures, for_each_seed, seeds};
use sipora_transport::{
    Advertised, CloseReason, Destination, Flow, Inbound, InboundReceiver, Malformed, Network,
    OpenError, Payload, SendError, Stream, TransportConfig, Transports, response_route,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "198.51.100.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(host), port)
}

/// A server that listens for TCP on port 5060, and a host without anything to talk to it from.
struct Scene {
    peer: Arc<dyn Network>,
    server: Transports,
    inbound: InboundReceiver,
}

fn scene(network: SimNetwork, config: TransportConfig) -> Scene {
    let host = network.host(ip(SERVER));
    let peer = Arc::new(network.host(ip(CLIENT)));
    let (server, inbound) = Transports::new(Arc::new(host), config);
    server.listen_tcp(address(SERVER, 5060)).unwrap();
    Scene {
        peer,
        server,
        inbound,
    }
}

impl Scene {
    async fn connect(&self) -> Box<dyn Stream> {
        self.peer
            .connect(None, address(SERVER, 5060))
            .await
            .unwrap()
    }

    async fn malformed(&mut self) -> (Flow, Malformed) {
        let inbound = self.inbound.recv().await.unwrap();
        match inbound.payload {
            Payload::Malformed(malformed) => (inbound.flow, malformed),
            other => panic!("not malformed but {other:?}"),
        }
    }

    async fn closed(&mut self) -> CloseReason {
        let inbound = self.inbound.recv().await.unwrap();
        assert!(
            !self.server.is_open(inbound.flow.id),
            "a closed flow resolves no more"
        );
        match inbound.payload {
            Payload::Closed(reason) => reason,
            other => panic!("not closed but {other:?}"),
        }
    }
}

/// Runs a scenario once, in virtual time.
fn once<S: Future<Output = ()>>(mut scenario: impl FnMut(SimNetwork) -> S) {
    for_each_seed(0..1, |network| {
        // Bytes without transactions.
        network.auditor().turn_off();
        scenario(network)
    });
}

fn message(head: &str, body: &str) -> String {
    format!(
        "{head} SIP/2.0\r\nVia: SIP/2.0/TCP {CLIENT};branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
         Call-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn messages_come_out_whole_however_the_network_cuts_them() {
    for_each_seed(seeds(), |network| async move {
        network.auditor().turn_off();
        network.set_conditions(Conditions {
            fragmentation: 0.9,
            ..Conditions::rough()
        });
        let mut scene = scene(network, TransportConfig::default());
        let mut stream = scene.connect().await;
        for number in 0..20 {
            stream
                .write_all(message(&format!("OPTIONS sip:{number}@d"), "body").as_bytes())
                .await
                .unwrap();
        }
        for number in 0..20 {
            let (_, received) = request(scene.inbound.recv().await.unwrap());
            assert_eq!(received.uri_text(), format!("sip:{number}@d"));
            assert_eq!(received.body(), b"body");
        }
        drop(stream);
        assert_eq!(scene.closed().await, CloseReason::ByPeer);
    });
}

#[test]
fn a_message_that_is_begun_and_not_finished_closes_its_connection() {
    once(|network| async move {
        let mut scene = scene(network, TransportConfig::default());
        let mut stream = scene.connect().await;
        let start = Instant::now();
        // A byte every now and then does not keep it open: what counts is when the message began.
        for byte in b"OPTIONS" {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(scene.closed().await, CloseReason::PartialMessage);
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(scene.server.metrics().partial_messages, 1);
    });
}

#[test]
fn an_idle_connection_is_closed_and_traffic_either_way_keeps_it_open() {
    once(|network| async move {
        let mut scene = scene(network, TransportConfig::default());
        let mut stream = scene.connect().await;
        stream
            .write_all(message("OPTIONS sip:c@d", "").as_bytes())
            .await
            .unwrap();
        let (flow, received) = request(scene.inbound.recv().await.unwrap());
        tokio::time::sleep(Duration::from_secs(7_000)).await;
        scene.server.try_send(&flow, ok(&received)).unwrap();
        tokio::time::sleep(Duration::from_secs(7_000)).await;
        assert!(scene.server.is_open(flow.id));
        assert_eq!(scene.closed().await, CloseReason::Idle);
        assert_eq!(scene.server.metrics().idle_closed, 1);
    });
}

#[test]
fn a_slow_reader_is_cut_off_and_delays_nobody() {
    once(|network| async move {
        let config = TransportConfig {
            out_buffer_bytes: 256 * 1024,
            ..Default::default()
        };
        let mut scene = scene(network, config);
        let mut stream = scene.connect().await;
        stream
            .write_all(message("OPTIONS sip:c@d", "").as_bytes())
            .await
            .unwrap();
        let (flow, _) = request(scene.inbound.recv().await.unwrap());
        let start = Instant::now();
        let chunk = Bytes::from(vec![b'x'; 60 * 1024]);
        let error = loop {
            if let Err(error) = scene.server.try_send(&flow, chunk.clone()) {
                break error;
            }
        };
        assert_eq!(error, SendError::Full);
        assert_eq!(start.elapsed(), Duration::ZERO, "nothing waited");
        assert_eq!(scene.server.try_send(&flow, chunk), Err(SendError::Closed));
        assert_eq!(scene.closed().await, CloseReason::SlowReader);
        assert_eq!(scene.server.metrics().slow_readers, 1);
    });
}

#[test]
fn a_peer_that_takes_nothing_for_ten_seconds_is_cut_off() {
    once(|network| async move {
        let mut scene = scene(network, TransportConfig::default());
        let mut stream = scene.connect().await;
        stream
            .write_all(message("OPTIONS sip:c@d", "").as_bytes())
            .await
            .unwrap();
        let (flow, _) = request(scene.inbound.recv().await.unwrap());
        let start = Instant::now();
        scene
            .server
            .try_send(&flow, Bytes::from(vec![b'x'; 100 * 1024]))
            .unwrap();
        assert_eq!(scene.closed().await, CloseReason::SlowReader);
        assert_eq!(start.elapsed().as_secs(), 10);
    });
}

#[test]
fn while_the_driver_is_busy_a_connection_is_not_read_and_nothing_is_lost() {
    once(|network| async move {
        let config = TransportConfig {
            inbound_queue: 2,
            ..Default::default()
        };
        let mut scene = scene(network, config);
        let mut stream = scene.connect().await;
        let writer = async {
            for number in 0..2_000 {
                stream
                    .write_all(message(&format!("OPTIONS sip:{number}@d"), "").as_bytes())
                    .await
                    .unwrap();
            }
        };
        let blocked = timeout(Duration::from_secs(5), writer).await;
        assert!(blocked.is_err(), "the peer has to wait");
        for number in 0..100 {
            let (_, received) = request(scene.inbound.recv().await.unwrap());
            assert_eq!(received.uri_text(), format!("sip:{number}@d"));
        }
    });
}

#[test]
fn who_asks_once_waits_for_few_of_those_that_ask_all_the_time() {
    once(|network| async move {
        let mut scene = scene(network.clone(), TransportConfig::default());
        let mut flood = scene.connect().await;
        let requests = message("OPTIONS sip:flood@d", "").repeat(5_000);
        let flooding = flood.write_all(requests.as_bytes());
        let blocked = timeout(Duration::from_secs(5), flooding).await;
        assert!(blocked.is_err(), "more than waits anywhere");
        let mut other = scene.connect().await;
        let request_of_other = message("OPTIONS sip:other@d", "");
        other.write_all(request_of_other.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut before = 0;
        while request(scene.inbound.recv().await.unwrap()).1.uri_text() != "sip:other@d" {
            before += 1;
        }
        // Those that waited, and those that came while they were dealt with.
        assert!((100..=256).contains(&before), "{before}");
    });
}

#[test]
fn those_who_open_the_same_at_once_share_one_connection() {
    once(|network| async move {
        let scene = scene(network.clone(), TransportConfig::default());
        let (client, _in) = Transports::new(scene.peer.clone(), TransportConfig::default());
        let destination = Destination::tcp(address(SERVER, 5060));
        // The first gives up; the attempt goes on for the others.
        let gives_up = timeout(Duration::from_micros(1), client.open(&destination));
        let (first, second, third) = tokio::join!(
            gives_up,
            client.open(&destination),
            client.open(&destination)
        );
        assert!(first.is_err());
        assert_eq!(second.as_ref().unwrap(), third.as_ref().unwrap());
        assert_eq!(client.open(&destination).await, second);
        assert_eq!(client.metrics().connections_opened, 1);
    });
}

#[test]
fn a_host_that_does_not_answer_is_given_up_in_time() {
    once(|network| async move {
        let scene = scene(network.clone(), TransportConfig::default());
        let (client, _in) = Transports::new(scene.peer.clone(), TransportConfig::default());
        let start = Instant::now();
        let nobody = address("203.0.113.99", 5060);
        assert_eq!(
            client.open(&Destination::tcp(nobody)).await,
            Err(OpenError::Timeout(nobody))
        );
        assert_eq!(start.elapsed(), Duration::from_secs(8));
        let error = client
            .open(&Destination::tcp(address(SERVER, 5999)))
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            OpenError::Io {
                kind: io::ErrorKind::ConnectionRefused,
                ..
            }
        ));
    });
}

#[test]
fn a_flow_id_never_resolves_to_a_later_connection() {
    once(|network| async move {
        let mut scene = scene(network.clone(), TransportConfig::default());
        let (client, mut client_in) =
            Transports::new(scene.peer.clone(), TransportConfig::default());
        let destination = Destination::tcp(address(SERVER, 5060));
        let first = client.open(&destination).await.unwrap();
        network.reset(ip(CLIENT), ip(SERVER));
        let closed = client_in.recv().await.unwrap();
        assert_eq!(closed.flow, first);
        assert!(matches!(
            closed.payload,
            Payload::Closed(CloseReason::Io(io::ErrorKind::ConnectionReset))
        ));
        scene.closed().await;
        let second = client.open(&destination).await.unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(
            client.try_send(&first, Bytes::from_static(b"x")),
            Err(SendError::Closed)
        );
        assert!(client.try_send(&second, Bytes::from_static(b"x")).is_ok());
    });
}

#[test]
fn a_response_whose_connection_is_gone_goes_to_the_sent_by_port() {
    once(|network| async move {
        let mut scene = scene(network.clone(), TransportConfig::default());
        let (client, mut client_in) =
            Transports::new(scene.peer.clone(), TransportConfig::default());
        client.listen_tcp(address(CLIENT, 5070)).unwrap();
        let flow = client
            .open(&Destination::tcp(address(SERVER, 5060)))
            .await
            .unwrap();
        assert_eq!(
            client.sent_by(&flow).to_string(),
            format!("{CLIENT}:5070"),
            "where we listen"
        );
        client
            .try_send(&flow, options(&client, &flow, "1").to_bytes())
            .unwrap();
        let (back, received) = request(scene.inbound.recv().await.unwrap());
        network.reset(ip(CLIENT), ip(SERVER));
        scene.closed().await;
        assert!(matches!(
            client_in.recv().await.unwrap().payload,
            Payload::Closed(_)
        ));

        let route = response_route(&received, &back);
        assert_eq!(
            scene.server.try_send(&route.flow, ok(&received)),
            Err(SendError::Closed)
        );
        let again = scene.server.open(&route.fallback.unwrap()).await.unwrap();
        scene.server.try_send(&again, ok(&received)).unwrap();
        assert_eq!(
            response(client_in.recv().await.unwrap()).status(),
            StatusCode::OK
        );
    });
}

#[test]
fn connections_past_the_limits_are_refused_and_counted() {
    once(|network| async move {
        let config = TransportConfig {
            max_connections: 3,
            max_connections_per_source: 2,
            ..Default::default()
        };
        let scene = scene(network.clone(), config);
        let other = network.host(ip("192.0.2.2"));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(scene.connect().await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.server.metrics().refused_per_source, 1);
        assert_eq!(scene.server.metrics().connections_open, 2);
        assert_eq!(
            held[2].read(&mut [0; 1]).await.unwrap(),
            0,
            "the third was closed"
        );

        for _ in 0..2 {
            held.push(other.connect(None, address(SERVER, 5060)).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.server.metrics().refused_total, 1);
        let error = scene
            .server
            .open(&Destination::tcp(address(CLIENT, 5060)))
            .await
            .unwrap_err();
        assert_eq!(error, OpenError::TooManyConnections);

        held.clear();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.server.metrics().connections_open, 0);
    });
}

#[test]
fn a_response_with_another_via_is_discarded() {
    once(|network| async move {
        let (host, peer) = (network.host(ip(CLIENT)), network.host(ip(SERVER)));
        let (client, _in) = Transports::new(Arc::new(host), TransportConfig::default());
        let (server, _server_in) = Transports::new(Arc::new(peer), TransportConfig::default());
        let mut socket = client
            .bind_udp(address("0.0.0.0", 5060), 1)
            .unwrap()
            .remove(0);
        let mut server_socket = server.bind_udp(address(SERVER, 5060), 1).unwrap().remove(0);
        let flow = client
            .open(&Destination::udp(address(SERVER, 5060)))
            .await
            .unwrap();
        let sent = options(&client, &flow, "1");
        client.try_send(&flow, sent.to_bytes()).unwrap();
        let (back, received) = request(server_socket.recv().await);

        let answer = String::from_utf8(ok(&received).to_vec()).unwrap();
        for other in ["203.0.113.5:5060", "192.0.2.1:5999", "example.com:5060"] {
            let foreign = answer.replace("UDP 192.0.2.1:5060", &format!("UDP {other}"));
            assert_ne!(foreign, answer);
            server.try_send(&back, foreign.into()).unwrap();
        }
        server.try_send(&back, answer.into()).unwrap();
        assert_eq!(response(socket.recv().await).status(), StatusCode::OK);
        assert_eq!(
            client.metrics().responses_misdirected,
            3,
            "RFC 3261 §18.1.2"
        );
    });
}

#[test]
fn the_advertised_host_is_in_sent_by_and_its_responses_come_in() {
    once(|network| async move {
        let (host, peer) = (network.host(ip(CLIENT)), network.host(ip(SERVER)));
        let advertised = Advertised {
            host: "sip.example.com".into(),
            port: None,
        };
        let config = TransportConfig {
            advertised: Some(advertised),
            ..Default::default()
        };
        let (client, _in) = Transports::new(Arc::new(host), config);
        let (server, _server_in) = Transports::new(Arc::new(peer), TransportConfig::default());
        let mut socket = client.bind_udp(address(CLIENT, 5070), 1).unwrap().remove(0);
        let mut server_socket = server.bind_udp(address(SERVER, 5060), 1).unwrap().remove(0);
        let flow = client
            .open(&Destination::udp(address(SERVER, 5060)))
            .await
            .unwrap();
        assert_eq!(client.sent_by(&flow).to_string(), "sip.example.com:5070");
        client
            .try_send(&flow, options(&client, &flow, "1").to_bytes())
            .unwrap();
        let (back, received) = request(server_socket.recv().await);
        server
            .try_send(&response_route(&received, &back).flow, ok(&received))
            .unwrap();
        assert_eq!(response(socket.recv().await).status(), StatusCode::OK);
    });
}

#[test]
fn keep_alives_over_udp_do_not_show() {
    once(|network| async move {
        let (host, peer) = (network.host(ip(SERVER)), network.host(ip(CLIENT)));
        let (server, _in) = Transports::new(Arc::new(host), TransportConfig::default());
        let mut socket = server.bind_udp(address(SERVER, 5060), 1).unwrap().remove(0);
        let sender = peer
            .bind_datagram(address(CLIENT, 5060), 1)
            .unwrap()
            .remove(0)
            .sender;
        for keep_alive in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0\0\0\0"] {
            sender.try_send_to(keep_alive, socket.local_addr()).unwrap();
        }
        sender
            .try_send_to(
                message("OPTIONS sip:c@d", "").as_bytes(),
                socket.local_addr(),
            )
            .unwrap();
        request(socket.recv().await);
        assert_eq!(server.metrics().keep_alives_ignored, 4);
    });
}

/// Sends one torture message over a connection, and returns what comes before the connection has been silent for a second.
async fn torture(name: &str, network: SimNetwork) -> (Scene, Box<dyn Stream>, Vec<Inbound>) {
    let mut scene = scene(network, TransportConfig::default());
    let mut stream = scene.connect().await;
    stream
        .write_all(&fixtures::message(name).bytes)
        .await
        .unwrap();
    let mut inbound = Vec::new();
    while let Ok(Some(next)) = timeout(Duration::from_millis(500), scene.inbound.recv()).await {
        inbound.push(next);
    }
    (scene, stream, inbound)
}

#[test]
fn where_a_message_ends_nobody_knows_a_400_can_be_sent_before_the_connection_closes() {
    for name in ["ncl", "mcl01", "inv2543"] {
        once(|network| async move {
            let (mut scene, mut stream, inbound) = torture(name, network).await;
            let Some(Inbound {
                flow,
                payload: Payload::Malformed(malformed),
                ..
            }) = inbound.into_iter().next()
            else {
                panic!("{name} is malformed");
            };
            assert!(malformed.closes, "{name}");
            let request = malformed.request.expect("enough for a 400");
            let refusal = Response::for_request(&request, malformed.status)
                .build()
                .unwrap();
            scene.server.try_send(&flow, refusal.to_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(
                answer.starts_with(b"SIP/2.0 400 "),
                "{name}: {}",
                String::from_utf8_lossy(&answer)
            );
            assert_eq!(scene.closed().await, CloseReason::Framing, "{name}");
        });
    }
}

#[test]
fn a_body_that_does_not_come_is_waited_for_in_silence() {
    once(|network| async move {
        let (mut scene, _stream, inbound) = torture("clerr", network).await;
        assert!(inbound.is_empty(), "{inbound:?}");
        assert_eq!(scene.closed().await, CloseReason::PartialMessage);
    });
}

#[test]
fn two_messages_in_one_piece_come_out_as_two_and_what_is_none_closes() {
    once(|network| async move {
        let (mut scene, _stream, inbound) = torture("dblreq", network).await;
        let methods: Vec<String> = inbound
            .iter()
            .filter_map(|inbound| match &inbound.payload {
                Payload::Message(Message::Request(request)) => Some(request.method().to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(methods, ["REGISTER", "INVITE"]);
        let last = inbound.last().map(|inbound| &inbound.payload);
        assert!(
            matches!(last, Some(Payload::Malformed(malformed)) if malformed.closes),
            "five octets that are no message"
        );
        assert_eq!(scene.closed().await, CloseReason::Framing);
    });
}

#[test]
fn rubbish_closes_its_connection() {
    once(|network| async move {
        let mut scene = scene(network, TransportConfig::default());
        let mut stream = scene.connect().await;
        stream
            .write_all(b"\x16\x03\x01 no SIP at all\r\n\r\n")
            .await
            .unwrap();
        let (_, malformed) = scene.malformed().await;
        assert!(malformed.closes && malformed.request.is_none());
        assert_eq!(scene.closed().await, CloseReason::Framing);
        assert_eq!(scene.server.metrics().framing_errors, 1);
    });
}

#[test]
fn every_torture_message_is_survived_over_udp_and_those_owed_a_400_leave_enough_for_it() {
    once(|network| async move {
        let (host, peer) = (network.host(ip(SERVER)), network.host(ip(CLIENT)));
        let (server, _in) = Transports::new(Arc::new(host), TransportConfig::default());
        let mut socket = server.bind_udp(address(SERVER, 5060), 1).unwrap().remove(0);
        let sender = peer
            .bind_datagram(address(CLIENT, 5060), 1)
            .unwrap()
            .remove(0)
            .sender;
        for fixture in fixtures::rfc4475().into_iter().chain(fixtures::rfc5118()) {
            sender
                .try_send_to(&fixture.bytes, socket.local_addr())
                .unwrap();
            let inbound = match timeout(Duration::from_secs(1), socket.recv()).await {
                Ok(inbound) => inbound,
                // Responses whose Via is not ours.
                Err(_) => {
                    assert!(
                        fixture.bytes.starts_with(b"SIP/"),
                        "{} is a request",
                        fixture.name
                    );
                    continue;
                }
            };
            let request = match inbound.payload {
                Payload::Message(Message::Request(request)) => request,
                Payload::Malformed(Malformed {
                    request: Some(request),
                    closes: false,
                    ..
                }) => request,
                Payload::Malformed(malformed) => {
                    assert!(fixture.outcome == "drop", "{}: {malformed:?}", fixture.name);
                    continue;
                }
                other => panic!("{}: {other:?}", fixture.name),
            };
            let Ok(via) = request.headers().via() else {
                continue;
            };
            let is_stamped =
                via.received() == Some(ip(CLIENT)) || via.host().ip() == Some(ip(CLIENT));
            assert!(is_stamped, "{}: {via:?}", fixture.name);
        }
    });
}

#[test]
fn transports_can_be_shut_down_while_a_connection_is_being_opened() {
    once(|network| async move {
        let scene = scene(network.clone(), TransportConfig::default());
        let (client, inbound) = Transports::new(scene.peer.clone(), TransportConfig::default());
        drop(inbound);
        network.part(ip(CLIENT), ip(SERVER));
        let destination = Destination::tcp(address(SERVER, 5060));
        let start = Instant::now();
        let (opened, ()) = tokio::join!(client.open(&destination), client.shutdown());
        assert_eq!(opened, Err(OpenError::Shutdown));
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}
