//! The simulated network keeps its own promises.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sipora_testkit::{Conditions, Fate, Packet, SimHost, SimNetwork};
use sipora_transport::{Datagram, DatagramReceiver, DatagramSocket, Network};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// Runs a scenario whose bytes are no messages.
fn for_each_seed<S: Future<Output = ()>>(
    seeds: impl IntoIterator<Item = u64>,
    mut scenario: impl FnMut(SimNetwork) -> S,
) {
    sipora_testkit::for_each_seed(seeds, |network| {
        network.auditor().turn_off();
        scenario(network)
    });
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn bind(host: &SimHost, address: &str) -> DatagramSocket {
    host.bind_datagram(at(address), 1).unwrap().remove(0)
}

async fn receive(receiver: &mut Box<dyn DatagramReceiver>) -> (Datagram, Vec<u8>) {
    let mut buffer = vec![0; 1_500];
    let datagram = std::future::poll_fn(|cx| receiver.poll_recv(cx, &mut buffer))
        .await
        .unwrap();
    if let Datagram::Received { length, .. } = datagram {
        buffer.truncate(length);
    }
    (datagram, buffer)
}

/// Sends a hundred numbered datagrams one way and returns those that arrive, in their order.
async fn hundred(network: &SimNetwork, conditions: Conditions) -> Vec<u8> {
    network.set_conditions(conditions);
    let (one, two) = (network.host(ip("192.0.2.1")), network.host(ip("192.0.2.2")));
    let (from, mut to) = (bind(&one, "192.0.2.1:1"), bind(&two, "192.0.2.2:2"));
    for number in 0..100 {
        from.sender
            .try_send_to(&[number], at("192.0.2.2:2"))
            .unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut arrived = Vec::new();
    while let Ok((_, bytes)) = timeout(Duration::from_secs(1), receive(&mut to.receiver)).await {
        arrived.push(bytes[0]);
    }
    arrived
}

fn counted(number: u64, conditions: &Conditions) -> Vec<Vec<u8>> {
    let results = Arc::new(Mutex::new(Vec::new()));
    for_each_seed(0..number, |network| {
        let results = results.clone();
        async move {
            let arrived = hundred(&network, conditions.clone()).await;
            results.lock().unwrap().push(arrived);
        }
    });
    Arc::into_inner(results).unwrap().into_inner().unwrap()
}

#[test]
fn a_perfect_network_loses_nothing_and_keeps_the_order() {
    let all: Vec<u8> = (0..100).collect();
    assert_eq!(counted(2, &Conditions::perfect()), [all.clone(), all]);
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let (first, second) = (
        counted(3, &Conditions::rough()),
        counted(3, &Conditions::rough()),
    );
    assert_eq!(first, second);
    assert_ne!(first[0], first[1]);
}

#[test]
fn loss_duplication_and_reordering_happen_about_as_often_as_asked() {
    let perfect = Conditions::perfect();
    let lossy = counted(
        5,
        &Conditions {
            loss: 0.2,
            ..perfect.clone()
        },
    )
    .concat();
    assert!((350..450).contains(&lossy.len()), "{} of 500", lossy.len());
    let twice = counted(
        5,
        &Conditions {
            duplication: 0.2,
            ..perfect.clone()
        },
    )
    .concat();
    assert!((550..650).contains(&twice.len()), "{} of 500", twice.len());
    let reordered = counted(
        1,
        &Conditions {
            reordering: 0.2,
            ..perfect
        },
    )
    .concat();
    assert_eq!(reordered.len(), 100);
    assert!(!reordered.is_sorted());
}

#[test]
fn jitter_alone_reorders_nothing() {
    let delay = Duration::from_millis(1)..=Duration::from_millis(100);
    let arrived = counted(
        1,
        &Conditions {
            delay,
            ..Conditions::perfect()
        },
    )
    .concat();
    assert_eq!(arrived, (0..100).collect::<Vec<u8>>());
}

#[test]
fn a_port_that_nobody_has_is_reported_to_the_sender() {
    for_each_seed(0..1, |network| async move {
        let host = network.host(ip("192.0.2.1"));
        network.host(ip("192.0.2.2"));
        let mut socket = bind(&host, "0.0.0.0:5060");
        socket.sender.try_send_to(b"x", at("192.0.2.2:9")).unwrap();
        let (report, _) = receive(&mut socket.receiver).await;
        let expected = Datagram::Unreachable {
            remote: at("192.0.2.2:9"),
            kind: io::ErrorKind::ConnectionRefused,
        };
        assert_eq!(report, expected);
        assert_eq!(network.packets()[0].fate, Fate::Unreachable);
        assert_eq!(
            network.packets()[0].source,
            at("192.0.2.1:5060"),
            "a wildcard sends from the host's address"
        );
    });
}

#[test]
fn an_occupied_address_is_an_error_until_its_socket_is_gone() {
    for_each_seed(0..1, |network| async move {
        let host = network.host(ip("192.0.2.1"));
        let held = bind(&host, "0.0.0.0:5060");
        let error = host.bind_datagram(at("192.0.2.1:5060"), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let listener = host.listen(at("192.0.2.1:5060")).unwrap();
        assert_eq!(
            host.listen(at("0.0.0.0:5060")).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop((held, listener));
        host.listen(at("0.0.0.0:5060")).unwrap();
        bind(&host, "192.0.2.1:5060");
        assert_eq!(
            host.bind_datagram(at("192.0.2.9:1"), 1).unwrap_err().kind(),
            io::ErrorKind::AddrNotAvailable
        );
    });
}

#[test]
fn parted_hosts_lose_datagrams_and_stall_connections_until_they_are_joined() {
    for_each_seed(0..1, |network| async move {
        let (one, two) = (network.host(ip("192.0.2.1")), network.host(ip("192.0.2.2")));
        let mut listener = two.listen(at("192.0.2.2:5060")).unwrap();
        let mut near = one.connect(None, at("192.0.2.2:5060")).await.unwrap();
        let mut far = listener.accept().await.unwrap();
        network.part(ip("192.0.2.2"), ip("192.0.2.1"));
        near.write_all(b"hello").await.unwrap();
        let mut buffer = [0; 5];
        assert!(
            timeout(Duration::from_secs(60), far.read(&mut buffer))
                .await
                .is_err()
        );
        let opening = one.connect(None, at("192.0.2.2:5060"));
        assert!(timeout(Duration::from_secs(60), opening).await.is_err());
        network.join(ip("192.0.2.1"), ip("192.0.2.2"));
        far.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"hello");

        assert_eq!(network.reset(ip("192.0.2.1"), ip("192.0.2.2")), 1);
        assert_eq!(
            far.read(&mut buffer).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        assert_eq!(
            near.write(b"x").await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn a_connection_takes_its_time_keeps_its_order_and_ends() {
    for_each_seed(0..5, |network| async move {
        let delay = Duration::from_millis(50);
        let conditions = Conditions {
            delay: delay..=delay,
            fragmentation: 0.5,
            ..Conditions::perfect()
        };
        network.set_conditions(conditions);
        let (one, two) = (network.host(ip("192.0.2.1")), network.host(ip("192.0.2.2")));
        let mut listener = two.listen(at("192.0.2.2:5060")).unwrap();
        let start = Instant::now();
        let mut near = one.connect(None, at("192.0.2.2:5060")).await.unwrap();
        assert_eq!(start.elapsed(), 2 * delay);
        let mut far = listener.accept().await.unwrap();
        let sent: Vec<u8> = (0..200_000).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
            near
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        drop(far);
        let mut near = writer.await.unwrap();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn connections_are_recorded_message_by_message() {
    for_each_seed(0..1, |network| async move {
        let (one, two) = (network.host(ip("192.0.2.1")), network.host(ip("192.0.2.2")));
        let _listener = two.listen(at("192.0.2.2:5060")).unwrap();
        let mut near = one.connect(None, at("192.0.2.2:5060")).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        network.observe(move |packet: &Packet| sink.lock().unwrap().push(packet.first_line()));
        near.write_all(b"BYE sip:a SIP/2.0\r\nContent-Le")
            .await
            .unwrap();
        near.write_all(
            b"ngth: 0\r\n\r\nOPTIONS sip:b SIP/2.0\r\nContent-Length: 0\r\n\r\nrub\r\nbish\r\n\r\n",
        )
        .await
        .unwrap();
        assert_eq!(
            *seen.lock().unwrap(),
            ["BYE sip:a SIP/2.0", "OPTIONS sip:b SIP/2.0", "rub"]
        );
    });
}

#[test]
fn a_seed_that_fails_fails_the_test_and_the_clock_is_virtual() {
    let failed = catch_unwind(AssertUnwindSafe(|| {
        for_each_seed(
            [1, 2, 3],
            |network| async move { assert_ne!(network.seed(), 2) },
        );
    }));
    assert!(failed.is_err());
    for_each_seed(0..1, |network| async move {
        let host = network.host(ip("192.0.2.1"));
        let before = host.now();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let after = host.now();
        assert_eq!(after.instant - before.instant, Duration::from_secs(3_600));
        assert_eq!(
            after.wall.duration_since(before.wall).unwrap(),
            Duration::from_secs(3_600)
        );
    });
}
