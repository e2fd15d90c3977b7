//! Pings on connections that we opened (RFC 5626 §4.4.1), and connections that die without a word.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{options, request};
use sipora_testkit::{SimNetwork, for_each_seed, seeds};
use sipora_transport::{
    CloseReason, Destination, Flow, InboundReceiver, Network, Payload, TransportConfig, Transports,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "198.51.100.1:5060";

fn server_address() -> SocketAddr {
    SERVER.parse().unwrap()
}

fn client_ip() -> IpAddr {
    CLIENT.parse().unwrap()
}

fn every(seconds: u64) -> TransportConfig {
    TransportConfig {
        keep_alive: Some(Duration::from_secs(seconds)),
        ..Default::default()
    }
}

fn server(network: &SimNetwork) -> (Transports, InboundReceiver) {
    let host = network.host(server_address().ip());
    let (server, inbound) = Transports::new(Arc::new(host), TransportConfig::default());
    server.listen_tcp(server_address()).unwrap();
    (server, inbound)
}

async fn client(
    network: &SimNetwork,
    config: TransportConfig,
) -> (Transports, InboundReceiver, Flow) {
    let host = network.host(client_ip());
    let (client, inbound) = Transports::new(Arc::new(host), config);
    let flow = client.open(&Destination::tcp(server_address())).await;
    (client, inbound, flow.unwrap())
}

/// A server waits 30 s for the first message of who connects, and longer from then on.
async fn greet(client: &Transports, flow: &Flow, server: &mut InboundReceiver) {
    let greeting = options(client, flow, "1");
    client.try_send(flow, greeting.to_bytes()).unwrap();
    request(server.recv().await.unwrap());
}

async fn closed(inbound: &mut InboundReceiver) -> CloseReason {
    match inbound.recv().await.unwrap().payload {
        Payload::Closed(reason) => reason,
        other => panic!("not closed but {other:?}"),
    }
}

#[test]
fn a_server_that_answers_pings_keeps_its_connection() {
    for_each_seed(seeds(), |network| async move {
        let (server, mut server_in) = server(&network);
        let (client, mut client_in, flow) = client(&network, every(120)).await;
        greet(&client, &flow, &mut server_in).await;
        sleep(Duration::from_secs(12 * 3_600)).await;
        assert!(client.is_open(flow.id) && client_in.try_recv().is_none());
        // Each wait is between 96 and 120 s.
        let sent = client.metrics().pings_sent;
        assert!((350..=450).contains(&sent), "{sent}");
        assert_eq!(server.metrics().pings_answered, sent);
        assert_eq!(client.metrics().pongs_missed, 0);
    });
}

#[test]
fn a_connection_that_leads_nowhere_any_more_is_reported_within_its_interval_and_10_seconds() {
    for_each_seed(seeds(), |network| async move {
        let (_server, mut server_in) = server(&network);
        let (client, mut client_in, flow) = client(&network, every(30)).await;
        greet(&client, &flow, &mut server_in).await;
        sleep(Duration::from_secs(100)).await;
        network.part(client_ip(), server_address().ip());
        let start = Instant::now();
        assert_eq!(closed(&mut client_in).await, CloseReason::NoPong);
        let waited = start.elapsed();
        assert!(waited <= Duration::from_secs(41), "{waited:?}");
        assert!(!client.is_open(flow.id));
        assert_eq!(client.metrics().pongs_missed, 1);
    });
}

#[test]
fn a_server_that_does_not_know_pings_is_given_up_10_seconds_after_the_first() {
    for_each_seed(0..1, |network| async move {
        let host = network.host(server_address().ip());
        let mut listener = host.listen(server_address()).unwrap();
        let (_client, mut client_in, _) = client(&network, every(100)).await;
        let mut peer = listener.accept().await.unwrap();
        let mut ping = [0; 4];
        peer.read_exact(&mut ping).await.unwrap();
        assert_eq!(&ping, b"\r\n\r\n");
        let start = Instant::now();
        assert_eq!(closed(&mut client_in).await, CloseReason::NoPong);
        let waited = start.elapsed();
        let around = Duration::from_millis(9_500)..Duration::from_millis(10_500);
        assert!(around.contains(&waited), "{waited:?}");
    });
}

#[test]
fn a_pong_that_nobody_waited_for_does_not_stand_for_the_next() {
    for_each_seed(0..1, |network| async move {
        let host = network.host(server_address().ip());
        let mut listener = host.listen(server_address()).unwrap();
        let (client, mut client_in, _) = client(&network, every(100)).await;
        let mut peer = listener.accept().await.unwrap();
        peer.write_all(b"\r\n").await.unwrap();
        assert_eq!(closed(&mut client_in).await, CloseReason::NoPong);
        assert_eq!(client.metrics().pings_sent, 1);
    });
}

#[test]
fn nobody_is_pinged_who_was_not_asked_for_and_one_connection_may_have_its_own_interval() {
    for_each_seed(0..1, |network| async move {
        let (_server, mut server_in) = server(&network);
        let (client, _client_in, flow) = client(&network, TransportConfig::default()).await;
        greet(&client, &flow, &mut server_in).await;
        sleep(Duration::from_secs(3_600)).await;
        assert_eq!(client.metrics().pings_sent, 0);
        client.keep_alive(flow.id, Some(Duration::from_secs(60)));
        sleep(Duration::from_secs(600)).await;
        let sent = client.metrics().pings_sent;
        assert!((9..=12).contains(&sent), "{sent}");
        client.keep_alive(flow.id, None);
        sleep(Duration::from_secs(600)).await;
        assert_eq!(client.metrics().pings_sent, sent);
        let nothing = timeout(Duration::from_secs(1), server_in.recv()).await;
        assert!(nothing.is_err(), "pings are no messages: {nothing:?}");
    });
}

#[test]
fn a_server_that_may_not_know_pings_is_given_up_only_once_it_has_answered_one() {
    for_each_seed(0..1, |network| async move {
        let host = network.host(server_address().ip());
        let mut listener = host.listen(server_address()).unwrap();
        let (client, mut client_in, flow) = client(&network, TransportConfig::default()).await;
        let mut peer = listener.accept().await.unwrap();
        client.try_keep_alive(flow.id, Duration::from_secs(60));
        let mut ping = [0; 4];
        let start = Instant::now();
        peer.read_exact(&mut ping).await.unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "found out at once"
        );
        for _ in 0..5 {
            peer.read_exact(&mut ping).await.unwrap();
            assert_eq!(&ping, b"\r\n\r\n");
        }
        assert!(client.is_open(flow.id) && client_in.try_recv().is_none());
        // Pongs from now on, and then none any more.
        peer.write_all(b"\r\n").await.unwrap();
        for _ in 0..5 {
            peer.read_exact(&mut ping).await.unwrap();
            // Asked for again, as at each refresh: it begins no new wait.
            client.try_keep_alive(flow.id, Duration::from_secs(60));
            peer.write_all(b"\r\n").await.unwrap();
        }
        peer.read_exact(&mut ping).await.unwrap();
        let start = Instant::now();
        assert_eq!(closed(&mut client_in).await, CloseReason::NoPong);
        assert!(start.elapsed() < Duration::from_secs(11));
    });
}

#[test]
fn an_attempt_does_not_replace_what_was_set() {
    for_each_seed(0..1, |network| async move {
        let (_server, mut server_in) = server(&network);
        let (client, _client_in, flow) = client(&network, every(120)).await;
        greet(&client, &flow, &mut server_in).await;
        client.try_keep_alive(flow.id, Duration::from_secs(10));
        sleep(Duration::from_secs(600)).await;
        let sent = client.metrics().pings_sent;
        assert!((5..=7).contains(&sent), "{sent}");
    });
}

#[test]
fn a_peer_whose_keep_alives_come_stays_and_one_that_has_gone_without_a_word_is_closed_in_time() {
    for_each_seed(seeds(), |network| async move {
        let (server, mut server_in) = server(&network);
        let (client, _client_in, flow) = client(&network, every(120)).await;
        let greeting = options(&client, &flow, "1");
        client.try_send(&flow, greeting.to_bytes()).unwrap();
        let (back, _) = request(server_in.recv().await.unwrap());
        server.expect_keep_alives(back.id, Some(Duration::from_secs(150)));
        sleep(Duration::from_secs(3_600)).await;
        assert!(server.is_open(back.id) && server_in.try_recv().is_none());
        network.part(client_ip(), server_address().ip());
        let start = Instant::now();
        assert_eq!(closed(&mut server_in).await, CloseReason::Silent);
        let waited = start.elapsed().as_secs();
        assert!((29..=151).contains(&waited), "{waited} s");
        assert_eq!(server.metrics().silent_closed, 1);
    });
}

#[test]
fn what_is_sent_to_a_peer_is_no_keep_alive_of_its_own() {
    for_each_seed(0..1, |network| async move {
        // Bytes without transactions.
        network.auditor().turn_off();
        let (server, mut server_in) = server(&network);
        let (client, _client_in, flow) = client(&network, TransportConfig::default()).await;
        greet(&client, &flow, &mut server_in).await;
        let back = server.existing(&Destination::tcp(client.local_addr(&flow).unwrap()));
        let back = back.unwrap();
        server.expect_keep_alives(back.id, Some(Duration::from_secs(150)));
        let start = Instant::now();
        let tells = async {
            loop {
                sleep(Duration::from_secs(10)).await;
                let request = options(&server, &back, "2");
                let _ = server.try_send(&back, request.to_bytes());
            }
        };
        tokio::select! {
            reason = closed(&mut server_in) => assert_eq!(reason, CloseReason::Silent),
            () = tells => {}
        }
        let waited = start.elapsed().as_secs_f64();
        assert!((149.9..150.1).contains(&waited), "{waited} s");
    });
}

#[test]
fn how_long_a_peer_may_be_silent_can_be_changed_at_any_time() {
    for_each_seed(0..1, |network| async move {
        let (server, mut server_in) = server(&network);
        let (client, _client_in, flow) = client(&network, TransportConfig::default()).await;
        greet(&client, &flow, &mut server_in).await;
        let back = server.existing(&Destination::tcp(client.local_addr(&flow).unwrap()));
        let back = back.unwrap().id;
        server.expect_keep_alives(back, Some(Duration::from_secs(150)));
        sleep(Duration::from_secs(149)).await;
        server.expect_keep_alives(back, None);
        sleep(Duration::from_secs(3_600)).await;
        assert!(server.is_open(back));
        // Longer than any clock runs.
        server.expect_keep_alives(back, Some(Duration::MAX));
        sleep(Duration::from_secs(1)).await;
        assert!(server.is_open(back));
        // It has been silent for longer already.
        server.expect_keep_alives(back, Some(Duration::from_secs(150)));
        let closed = timeout(Duration::from_secs(1), closed(&mut server_in));
        assert_eq!(closed.await.unwrap(), CloseReason::Silent);
    });
}
