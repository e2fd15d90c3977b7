//! SIP over WebSocket (RFC 7118).
#![cfg(feature = "ws")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod authority;
mod common;

use bytes::Bytes;
use common::{ok, options, request, response};
use futures_util::{SinkExt, StreamExt};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transport::{
    CloseReason, Destination, InboundReceiver, Network, OpenError, Payload, Stream, Transport,
    TransportConfig, Transports, response_route,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "198.51.100.1:80";

type Browser = WebSocketStream<Box<dyn Stream>>;

fn server_address() -> SocketAddr {
    SERVER.parse().unwrap()
}

/// Runs a scenario for each seed. Nobody reads along: what goes over the wire here is no SIP until it is unwrapped.
fn over<S: Future<Output = ()>>(
    seeds: impl IntoIterator<Item = u64>,
    mut scenario: impl FnMut(SimNetwork) -> S,
) {
    for_each_seed(seeds, |network| {
        network.auditor().turn_off();
        scenario(network)
    });
}

fn once<S: Future<Output = ()>>(scenario: impl FnMut(SimNetwork) -> S) {
    over(0..1, scenario);
}

fn server_with(network: &SimNetwork, config: TransportConfig) -> (Transports, InboundReceiver) {
    let host = network.host(server_address().ip());
    let (server, inbound) = Transports::new(Arc::new(host), config);
    server.listen(Transport::Ws, server_address()).unwrap();
    (server, inbound)
}

fn server(network: &SimNetwork) -> (Transports, InboundReceiver) {
    server_with(network, TransportConfig::default())
}

async fn raw(network: &SimNetwork) -> Box<dyn Stream> {
    let host = network.host(CLIENT.parse::<IpAddr>().unwrap());
    host.connect(None, server_address()).await.unwrap()
}

/// Somebody else's client.
async fn browser(network: &SimNetwork) -> Browser {
    let request = ClientRequestBuilder::new("ws://sip.example.com/path".parse().unwrap())
        .with_sub_protocol("sip");
    let (socket, response) = client_async(request, raw(network).await).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "sip");
    socket
}

/// As a browser writes it: a name that does not exist, and no Content-Length.
fn options_of_a_browser(number: u32, body: &str) -> String {
    format!(
        "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: x\r\n\
         CSeq: {number} OPTIONS\r\nContact: <sip:alice@df7jal23ls0d.invalid;transport=ws>\r\n\r\n{body}"
    )
}

async fn closed(inbound: &mut InboundReceiver) -> CloseReason {
    match inbound.recv().await.unwrap().payload {
        Payload::Closed(reason) => reason,
        other => panic!("not closed but {other:?}"),
    }
}

#[test]
fn a_request_and_its_response_go_over_websocket_however_the_network_cuts_them() {
    over(seeds(), |network| async move {
        network.set_conditions(Conditions {
            fragmentation: 0.9,
            ..Conditions::rough()
        });
        let (server, mut server_in) = server(&network);
        let host = network.host(CLIENT.parse::<IpAddr>().unwrap());
        let (client, mut client_in) = Transports::new(Arc::new(host), TransportConfig::default());
        let destination = Destination {
            transport: Transport::Ws,
            address: server_address(),
            server_name: Some("sip.example.com".into()),
        };
        let flow = client.open(&destination).await.unwrap();
        for branch in ["1", "2", "3"] {
            let sent = options(&client, &flow, branch);
            client.try_send(&flow, sent.to_bytes()).unwrap();
            let (back, received) = request(server_in.recv().await.unwrap());
            assert_eq!(back.transport, Transport::Ws);
            assert_eq!(received.headers().via().unwrap().transport(), "WS");
            let route = response_route(&received, &back);
            assert_eq!(route.fallback, None);
            server.try_send(&route.flow, ok(&received)).unwrap();
            let answer = response(client_in.recv().await.unwrap());
            assert_eq!(answer.status().as_u16(), 200);
        }
        assert_eq!(client.open(&destination).await.unwrap(), flow);
        assert_eq!(server.metrics().connections_open, 1);
        client.close(flow.id);
        assert_eq!(closed(&mut server_in).await, CloseReason::ByPeer);
    });
}

#[test]
fn text_and_binary_frames_carry_one_message_each_that_needs_no_content_length() {
    once(|network| async move {
        let (server, mut inbound) = server(&network);
        let mut browser = browser(&network).await;
        let frames = [
            Frame::text(options_of_a_browser(1, "the body")),
            Frame::binary(options_of_a_browser(2, "the body")),
        ];
        for frame in frames {
            browser.send(frame).await.unwrap();
            let (flow, received) = request(inbound.recv().await.unwrap());
            assert_eq!(received.body(), b"the body");
            server.try_send(&flow, ok(&received)).unwrap();
            let answer = browser.next().await.unwrap().unwrap();
            assert!(answer.is_text(), "{answer:?}");
            assert!(answer.to_text().unwrap().starts_with("SIP/2.0 200 OK"));
            // RFC 7118 §4.2: what is not UTF-8 MUST be sent within a binary message.
            let pushed =
                Bytes::from_static(b"MESSAGE sip:a@df7jal23ls0d.invalid SIP/2.0\r\n\r\n\xff");
            server.try_send(&flow, pushed.clone()).unwrap();
            assert_eq!(
                browser.next().await.unwrap().unwrap(),
                Frame::Binary(pushed)
            );
        }
    });
}

#[test]
fn who_does_not_offer_the_subprotocol_sip_is_refused() {
    once(|network| async move {
        let (server, _inbound) = server(&network);
        let host = network.host(CLIENT.parse::<IpAddr>().unwrap());
        for offer in ["", "Sec-WebSocket-Protocol: xmpp, sipx\r\n"] {
            let mut stream = host.connect(None, server_address()).await.unwrap();
            let request = format!(
                "GET / HTTP/1.1\r\nHost: sip.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}Sec-WebSocket-Version: 13\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
        assert_eq!(server.metrics().handshakes_failed, 2);
        assert_eq!(server.metrics().connections_open, 0);
        // The one among several.
        let mut stream = host.connect(None, server_address()).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: sip.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp, sip\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 512];
        let length = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase();
        assert!(
            answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{answer}"
        );
        assert!(
            answer.contains("sec-websocket-protocol: sip\r\n"),
            "{answer}"
        );
    });
}

#[test]
fn what_is_no_handshake_is_answered_as_http_has_it() {
    once(|network| async move {
        let (server, _inbound) = server(&network);
        let host = network.host(CLIENT.parse::<IpAddr>().unwrap());
        let shakes = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Protocol: sip\r\n";
        let keyed = format!("{shakes}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
        let cases = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 426),
            (format!("{keyed}Sec-WebSocket-Version: 12\r\n\r\n"), 426),
            (format!("{keyed}\r\n"), 426),
            (format!("{shakes}Sec-WebSocket-Version: 13\r\n\r\n"), 400),
            (
                format!("{keyed}Sec-WebSocket-Version: 13\r\n\r\n").replace("GET", "POST"),
                400,
            ),
            ("OPTIONS sip:a SIP/2.0\r\n\r\n".to_owned(), 400),
        ];
        for (request, status) in &cases {
            let mut stream = host.connect(None, server_address()).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let begins = answer.starts_with(&format!("HTTP/1.1 {status} "));
            assert!(begins, "{request}{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())));
            // RFC 6455 §4.2.2, §4.4.
            let tells = ["Upgrade: websocket", "Sec-WebSocket-Version: 13"];
            for line in tells.map(|line| format!("\r\n{line}\r\n")) {
                assert_eq!(answer.contains(&line), *status == 426, "{request}{answer}");
            }
        }
        sleep(Duration::from_secs(2)).await;
        assert_eq!(server.metrics().handshakes_failed, cases.len() as u64);
        assert_eq!(server.metrics().connections_open, 0);
    });
}

#[test]
fn who_breaks_the_protocol_is_told_how() {
    let huge = 1_u64 << 40;
    let mut terabyte = vec![0x82, 0xff];
    terabyte.extend(huge.to_be_bytes());
    terabyte.extend([0; 4]);
    let cases = [
        ("no mask", vec![0x81, 1, b'a'], CloseCode::Protocol),
        (
            "no UTF-8",
            vec![0x81, 0x81, 0, 0, 0, 0, 0xff],
            CloseCode::Invalid,
        ),
        ("too large", terabyte, CloseCode::Size),
    ];
    for (name, frame, code) in &cases {
        once(|network| async move {
            let (_server, mut inbound) = server(&network);
            let mut browser = browser(&network).await;
            browser.get_mut().write_all(frame).await.unwrap();
            match browser.next().await {
                Some(Ok(Frame::Close(Some(close)))) => assert_eq!(close.code, *code, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
            assert_eq!(closed(&mut inbound).await, CloseReason::Framing, "{name}");
        });
    }
}

#[test]
fn a_server_that_does_not_agree_to_sip_is_left() {
    once(|network| async move {
        let host = network.host(server_address().ip());
        let mut listener = host.listen(server_address()).unwrap();
        let client_host = network.host(CLIENT.parse::<IpAddr>().unwrap());
        let (client, _in) = Transports::new(Arc::new(client_host), TransportConfig::default());
        let destination = Destination::new(Transport::Ws, server_address());
        let serve =
            async { tokio_tungstenite::accept_async(listener.accept().await.unwrap()).await };
        let (opened, _socket) = tokio::join!(client.open(&destination), serve);
        let error = opened.unwrap_err();
        assert!(matches!(&error, OpenError::Handshake { .. }), "{error:?}");
        assert_eq!(client.metrics().connections_open, 0);
    });
}

#[test]
fn what_is_no_message_is_reported_and_what_is_too_large_ends_the_connection() {
    once(|network| async move {
        let (_server, mut inbound) = server(&network);
        let mut browser = browser(&network).await;
        browser.send(Frame::text("HELLO")).await.unwrap();
        let reported = inbound.recv().await.unwrap();
        assert!(
            matches!(&reported.payload, Payload::Malformed(malformed) if !malformed.closes),
            "{reported:?}"
        );
        // Whatever else is in the frame is none: a frame MUST NOT contain more than one.
        let one = options_of_a_browser(1, "").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n");
        browser
            .send(Frame::text(format!("{one}{one}")))
            .await
            .unwrap();
        request(inbound.recv().await.unwrap());
        let huge = "x".repeat(2 * 1024 * 1024);
        let _ = browser.send(Frame::text(huge)).await;
        assert_eq!(closed(&mut inbound).await, CloseReason::Framing);
    });
}

#[test]
fn a_message_that_is_begun_and_not_finished_closes_its_connection() {
    once(|network| async move {
        let (server, mut inbound) = server(&network);
        let browser = browser(&network).await;
        let mut stream = browser.into_inner();
        // A masked text frame of 100 bytes, of which one comes every second.
        stream
            .write_all(&[0x81, 0x80 | 100, 1, 2, 3, 4])
            .await
            .unwrap();
        let start = Instant::now();
        let dribble = async {
            while stream.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let reason = tokio::select! {
            reason = closed(&mut inbound) => reason,
            () = dribble => panic!("cut off before it was reported"),
        };
        assert_eq!(reason, CloseReason::PartialMessage);
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(server.metrics().partial_messages, 1);
    });
}

#[test]
fn who_does_not_shake_hands_is_cut_off() {
    once(|network| async move {
        let (server, _inbound) = server(&network);
        let mut slow = raw(&network).await;
        slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n")
            .await
            .unwrap();
        let start = Instant::now();
        let _ = slow.read_to_end(&mut Vec::new()).await;
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(server.metrics().handshakes_failed, 1);
        assert_eq!(server.metrics().connections_open, 0);
    });
}

#[test]
fn an_endless_head_of_http_is_not_collected() {
    once(|network| async move {
        let (server, _inbound) = server(&network);
        let mut endless = raw(&network).await;
        endless.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let line = format!("X: {}\r\n", "y".repeat(1_000));
        let mut sent = 0;
        while endless.write_all(line.as_bytes()).await.is_ok() {
            sent += line.len();
            assert!(sent < 4 * 1024 * 1024, "it is still being read");
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.metrics().handshakes_failed, 1);
    });
}

#[test]
fn a_browser_is_pinged_and_one_that_has_gone_is_reported() {
    once(|network| async move {
        let (server, mut inbound) = server(&network);
        let mut browser = browser(&network).await;
        browser
            .send(Frame::text(options_of_a_browser(1, "")))
            .await
            .unwrap();
        let (flow, _) = request(inbound.recv().await.unwrap());
        // Its library answers while it reads.
        let _ = timeout(Duration::from_secs(3_600), async {
            while let Some(Ok(frame)) = browser.next().await {
                assert!(frame.is_ping(), "{frame:?}");
            }
        })
        .await;
        assert!(server.is_open(flow.id));
        let sent = server.metrics().pings_sent;
        assert!((110..=160).contains(&sent), "{sent}");
        let start = Instant::now();
        network.part(CLIENT.parse().unwrap(), server_address().ip());
        assert_eq!(closed(&mut inbound).await, CloseReason::NoPong);
        assert!(
            start.elapsed() <= Duration::from_secs(41),
            "{:?}",
            start.elapsed()
        );
    });
}

#[test]
fn pings_of_either_kind_are_answered() {
    once(|network| async move {
        let (server, _inbound) = server(&network);
        let mut browser = browser(&network).await;
        browser
            .send(Frame::Ping(Bytes::from_static(b"there?")))
            .await
            .unwrap();
        let pong = browser.next().await.unwrap().unwrap();
        assert_eq!(pong, Frame::Pong(Bytes::from_static(b"there?")));
        browser.send(Frame::text("\r\n\r\n")).await.unwrap();
        assert_eq!(browser.next().await.unwrap().unwrap(), Frame::text("\r\n"));
        assert_eq!(server.metrics().pings_answered, 1);
    });
}

#[test]
fn a_message_in_fragments_with_pings_between_them_has_no_more_time_than_any() {
    once(|network| async move {
        let (_server, mut inbound) = server(&network);
        let mut stream = browser(&network).await.into_inner();
        let start = Instant::now();
        let dribble = async {
            // A masked text frame of no bytes that is not the last of its message.
            let _ = stream.write_all(&[0x01, 0x80, 1, 2, 3, 4]).await;
            // Masked pings: RFC 6455 §5.4 lets them stand between the fragments.
            while stream.write_all(&[0x89, 0x80, 1, 2, 3, 4]).await.is_ok() {
                sleep(Duration::from_secs(5)).await;
            }
        };
        let reason = tokio::select! {
            reason = closed(&mut inbound) => reason,
            () = dribble => panic!("cut off before it was reported"),
            () = sleep(Duration::from_secs(60)) => panic!("it has been unfinished for a minute"),
        };
        assert_eq!(reason, CloseReason::PartialMessage);
        assert_eq!(start.elapsed().as_secs(), 10);
    });
}

#[test]
fn pings_however_they_are_cut_are_no_unfinished_message() {
    once(|network| async move {
        let config = TransportConfig {
            web_socket_ping: None,
            ..Default::default()
        };
        let (server, mut inbound) = server_with(&network, config);
        let mut stream = browser(&network).await.into_inner();
        for _ in 0..8 {
            stream.write_all(&[0x89, 0x80, 1, 2]).await.unwrap();
            sleep(Duration::from_secs(4)).await;
            // The end of it, and the whole of another.
            let cut = [3, 4, 0x89, 0x82, 1, 2, 3, 4, b'h', b'i'];
            stream.write_all(&cut).await.unwrap();
            sleep(Duration::from_secs(8)).await;
        }
        assert_eq!(server.metrics().connections_open, 1);
        assert!(inbound.try_recv().is_none());
        stream.write_all(&[0x89]).await.unwrap();
        assert_eq!(closed(&mut inbound).await, CloseReason::PartialMessage);
    });
}

#[test]
fn pongs_for_a_peer_that_does_not_read_are_not_collected() {
    once(|network| async move {
        let bound = 64 * 1024;
        let config = TransportConfig {
            out_buffer_bytes: bound,
            web_socket_ping: None,
            ..Default::default()
        };
        let (_server, _inbound) = server_with(&network, config);
        let mut stream = browser(&network).await.into_inner();
        let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
        ping.resize(ping.len() + 125, b'x');
        let flood = ping.repeat(1_000);
        for _ in 0..32 {
            stream.write_all(&flood).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        let mut received = 0;
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(Ok(length)) = timeout(Duration::from_secs(1), stream.read(&mut buffer)).await
            && length > 0
        {
            received += length;
        }
        // What the network holds comes on top.
        assert!(received > bound / 2, "{received}");
        assert!(received < 1024 * 1024, "{received}");
    });
}

#[test]
fn a_slow_reader_is_cut_off() {
    once(|network| async move {
        let (server, mut inbound) = server(&network);
        let mut browser = browser(&network).await;
        browser
            .send(Frame::text(options_of_a_browser(1, "")))
            .await
            .unwrap();
        let (flow, _) = request(inbound.recv().await.unwrap());
        let message = Bytes::from(format!(
            "MESSAGE sip:a SIP/2.0\r\n\r\n{}",
            "x".repeat(60_000)
        ));
        let start = Instant::now();
        while server.try_send(&flow, message.clone()).is_ok() {
            sleep(Duration::from_millis(1)).await;
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        assert_eq!(closed(&mut inbound).await, CloseReason::SlowReader);
        assert_eq!(server.metrics().slow_readers, 1);
    });
}

#[test]
fn what_is_queued_is_written_before_the_farewell() {
    once(|network| async move {
        let (server, mut inbound) = server(&network);
        let mut browser = browser(&network).await;
        browser
            .send(Frame::text(options_of_a_browser(1, "")))
            .await
            .unwrap();
        let (flow, received) = request(inbound.recv().await.unwrap());
        for _ in 0..3 {
            server.try_send(&flow, ok(&received)).unwrap();
        }
        server.close(flow.id);
        for _ in 0..3 {
            assert!(browser.next().await.unwrap().unwrap().is_text());
        }
        assert!(browser.next().await.unwrap().unwrap().is_close());
        assert_eq!(closed(&mut inbound).await, CloseReason::ByUs);
    });
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
#[test]
fn secure_websocket_is_websocket_within_tls_by_the_rules_of_the_web() {
    use authority::Authority;

    once(|network| async move {
        let authority = Authority::new();
        let address = SocketAddr::new(server_address().ip(), 443);
        let config = |names: &[&str]| TransportConfig {
            tls: Some(authority.config(names).build().unwrap()),
            ..Default::default()
        };
        let host = network.host(address.ip());
        let (server, mut server_in) = Transports::new(Arc::new(host), config(&["*.example.com"]));
        server.listen(Transport::Wss, address).unwrap();
        let host = network.host(CLIENT.parse::<IpAddr>().unwrap());
        let (client, mut client_in) = Transports::new(Arc::new(host), config(&[]));
        let to = |name: &str| Destination {
            transport: Transport::Wss,
            address,
            server_name: Some(name.into()),
        };
        let flow = client.open(&to("sip.example.com")).await.unwrap();
        client
            .try_send(&flow, options(&client, &flow, "1").to_bytes())
            .unwrap();
        let (back, received) = request(server_in.recv().await.unwrap());
        assert_eq!(received.headers().via().unwrap().transport(), "WSS");
        server.try_send(&back, ok(&received)).unwrap();
        response(client_in.recv().await.unwrap());
        assert!(client.open(&to("sip.example.org")).await.is_err());
    });
}
