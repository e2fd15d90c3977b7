//! How accepted connections end: half closed, silent, or in the middle of something.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{ok, request};
use sipora_message::{Response, StatusCode};
use sipora_testkit::{SimNetwork, for_each_seed};
use sipora_transport::{
    CloseReason, Destination, Flow, InboundReceiver, Network, Payload, Stream, TransportConfig,
    Transports,
};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

const SERVER: &str = "198.51.100.1:5060";

fn server_address() -> SocketAddr {
    SERVER.parse().unwrap()
}

/// A server with one connection from a peer that speaks bytes.
async fn connected(network: &SimNetwork) -> (Transports, InboundReceiver, Box<dyn Stream>) {
    let host = network.host(server_address().ip());
    let (server, inbound) = Transports::new(std::sync::Arc::new(host), TransportConfig::default());
    server.listen_tcp(server_address()).unwrap();
    let peer: IpAddr = "192.0.2.1".parse().unwrap();
    let stream = network.host(peer).connect(None, server_address()).await;
    (server, inbound, stream.unwrap())
}

fn options(number: u32) -> String {
    format!(
        "OPTIONS sip:c@d SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK{number}\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

async fn reason(inbound: &mut InboundReceiver) -> CloseReason {
    match inbound.recv().await.unwrap().payload {
        Payload::Closed(reason) => reason,
        other => panic!("not closed but {other:?}"),
    }
}

async fn nothing_comes(inbound: &mut InboundReceiver) {
    let next = timeout(Duration::from_millis(500), inbound.recv()).await;
    assert!(next.is_err(), "{next:?}");
}

fn once<S: Future<Output = ()>>(mut scenario: impl FnMut(SimNetwork) -> S) {
    for_each_seed(0..1, |network| {
        // Bytes without transactions.
        network.auditor().turn_off();
        scenario(network)
    });
}

#[test]
fn a_peer_that_only_listens_any_more_gets_its_answers_and_the_connection_ends_with_the_last() {
    once(|network| async move {
        let (server, mut inbound, mut stream) = connected(&network).await;
        stream.write_all(options(1).as_bytes()).await.unwrap();
        stream.write_all(options(2).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let (flow, first) = request(inbound.recv().await.unwrap());
        let (_, second) = request(inbound.recv().await.unwrap());
        nothing_comes(&mut inbound).await;
        let trying = Response::for_request(&second, StatusCode::TRYING);
        for answer in [ok(&first), trying.build().unwrap().to_bytes(), ok(&second)] {
            sleep(Duration::from_secs(3)).await;
            server.try_send(&flow, answer).unwrap();
        }
        let start = Instant::now();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("SIP/2.0 200 OK").count(), 2, "{answers}");
        assert_eq!(
            answers.matches("SIP/2.0 100 Trying").count(),
            1,
            "{answers}"
        );
        assert_eq!(reason(&mut inbound).await, CloseReason::ByPeer);
        assert!(!server.is_open(flow.id));
        assert!(start.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn nobody_is_sent_a_request_over_a_connection_whose_peer_only_listens() {
    once(|network| async move {
        let (server, mut inbound, mut stream) = connected(&network).await;
        stream.write_all(options(1).as_bytes()).await.unwrap();
        let (flow, _) = request(inbound.recv().await.unwrap());
        let back = Destination::tcp(flow.remote);
        assert_eq!(
            server.existing(&back).map(|flow: Flow| flow.id),
            Some(flow.id)
        );
        stream.shutdown().await.unwrap();
        nothing_comes(&mut inbound).await;
        assert!(server.is_open(flow.id), "the answer can still go out");
        assert_eq!(server.existing(&back), None);
    });
}

#[test]
fn a_peer_that_only_listens_is_not_waited_for_longer_than_a_transaction_lasts() {
    once(|network| async move {
        let (_server, mut inbound, mut stream) = connected(&network).await;
        let start = Instant::now();
        stream.write_all(options(1).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        request(inbound.recv().await.unwrap());
        assert_eq!(reason(&mut inbound).await, CloseReason::ByPeer);
        let waited = start.elapsed();
        assert!(
            (Duration::from_secs(32)..Duration::from_secs(34)).contains(&waited),
            "{waited:?}"
        );
    });
}

#[test]
fn an_answered_peer_that_closes_is_reported_at_once() {
    once(|network| async move {
        let (server, mut inbound, mut stream) = connected(&network).await;
        stream.write_all(options(1).as_bytes()).await.unwrap();
        let (flow, received) = request(inbound.recv().await.unwrap());
        server.try_send(&flow, ok(&received)).unwrap();
        let mut answer = [0; 64];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        drop(stream);
        let start = Instant::now();
        assert_eq!(reason(&mut inbound).await, CloseReason::ByPeer);
        assert!(start.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn a_request_before_one_that_breaks_off_gets_its_answer() {
    once(|network| async move {
        let (server, mut inbound, mut stream) = connected(&network).await;
        stream.write_all(options(1).as_bytes()).await.unwrap();
        stream.write_all(b"OPTIONS sip:c@d SIP").await.unwrap();
        stream.shutdown().await.unwrap();
        let (flow, received) = request(inbound.recv().await.unwrap());
        sleep(Duration::from_secs(3)).await;
        server.try_send(&flow, ok(&received)).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert!(answers.starts_with("SIP/2.0 200 OK"), "{answers}");
        assert_eq!(reason(&mut inbound).await, CloseReason::InMessage);
    });
}

#[test]
fn a_connection_that_never_says_anything_is_closed_soon_and_one_that_pings_is_not() {
    once(|network| async move {
        let (server, mut inbound, silent) = connected(&network).await;
        let peer: IpAddr = "192.0.2.2".parse().unwrap();
        let stream = network.host(peer).connect(None, server_address()).await;
        let mut pinging = stream.unwrap();
        pinging.write_all(b"\r\n\r\n").await.unwrap();
        let start = Instant::now();
        assert_eq!(reason(&mut inbound).await, CloseReason::Idle);
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(61), "{waited:?}");
        assert_eq!(server.metrics().idle_closed, 1);
        sleep(Duration::from_secs(3_600)).await;
        assert_eq!(server.metrics().connections_open, 1);
        drop((silent, pinging));
    });
}
