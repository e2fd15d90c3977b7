//! Real sockets of the loopback interface.

use crate::stage::{Client, Order, Server, final_of, request, request_with, send};
use sipora_message::{Limits, Message, Method};
use sipora_testkit::audit::Auditor;
use sipora_transaction_core::{
    Endpoint, EndpointConfig, EndpointError, Event, RequestError, Target,
};
use sipora_transport::{Destination, Transport};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn server(
    watch: &Arc<Auditor>,
    methods: &[Method],
    invite: Option<u16>,
) -> (Endpoint, SocketAddr) {
    let mut builder = Endpoint::builder()
        .observer(Arc::clone(watch) as _)
        .config(shards(4))
        .listen(Transport::Udp, any_port())
        .listen(Transport::Tcp, any_port());
    builder.add_users(|_| {
        let (mut user, _seen) = Server::new(methods);
        user.invite = invite;
        user
    });
    let endpoint = builder.build().await.unwrap();
    let addresses = endpoint.local_addresses();
    assert_eq!(addresses[0].1, addresses[1].1, "UDP and TCP share the port");
    (endpoint, addresses[0].1)
}

fn shards(shards: usize) -> EndpointConfig {
    EndpointConfig {
        shards,
        ..EndpointConfig::default()
    }
}

async fn client(watch: &Arc<Auditor>) -> (Endpoint, sipora_transaction_core::UserHandle<Order>) {
    let mut builder = Endpoint::builder()
        .observer(Arc::clone(watch) as _)
        .listen(Transport::Udp, any_port());
    let handle = builder.add_user(Client::default());
    (builder.build().await.unwrap(), handle)
}

#[tokio::test]
async fn requests_are_answered_over_udp_and_tcp() {
    let watch = Arc::new(Auditor::new());
    let (one, address) = server(&watch, &[Method::Options, Method::Message], None).await;
    let (other, client) = client(&watch).await;
    for (target, transport) in [(Target::udp(address), "UDP"), (Target::tcp(address), "TCP")] {
        for number in 0..100 {
            let (_, mut events) =
                send(&client, request(Method::Options, number), target.clone()).await;
            let response = final_of(&mut events).await;
            assert_eq!(response.status().as_u16(), 200);
            assert_eq!(response.headers().via().unwrap().transport(), transport);
        }
    }
    let (_, mut events) = send(
        &client,
        request_with(Method::Message, 1_000, 5_000),
        Target::udp(address),
    )
    .await;
    assert_eq!(
        final_of(&mut events)
            .await
            .headers()
            .via()
            .unwrap()
            .transport(),
        "TCP"
    );
    one.shutdown().await;
    other.shutdown().await;
    watch.assert_clean();
}

#[tokio::test]
async fn an_invite_is_refused_and_acknowledged_and_another_one_cancelled() {
    let watch = Arc::new(Auditor::new());
    let (_one, address) = server(&watch, &[Method::Invite], Some(603)).await;
    let (_two, ringing) = server(&watch, &[Method::Invite], None).await;
    let (_other, client) = client(&watch).await;
    for target in [Target::udp(address), Target::tcp(address)] {
        let (_, mut events) = send(&client, request(Method::Invite, 1), target).await;
        assert_eq!(final_of(&mut events).await.status().as_u16(), 603);
    }
    for target in [Target::udp(ringing), Target::tcp(ringing)] {
        let (id, mut events) = send(&client, request(Method::Invite, 2), target).await;
        let Some(Event::Response { response, .. }) = events.recv().await else {
            panic!()
        };
        assert_eq!(response.status().as_u16(), 180);
        client.send(Order::Cancel(id)).await.unwrap();
        assert_eq!(final_of(&mut events).await.status().as_u16(), 487);
    }
    watch.assert_clean();
}

/// That nobody listens is told by the kernel (ICMP port unreachable), and nothing else moves these requests on: silence does
/// not, and timers B and F take 32 s.
#[tokio::test]
async fn ports_that_nobody_listens_at_give_way_to_the_next_target_at_once() {
    for (ip, number) in [("127.0.0.1", 1), ("127.0.0.1", 4), ("::1", 1), ("::1", 4)] {
        let any = SocketAddr::new(ip.parse().unwrap(), 0);
        let mut alive = Endpoint::builder().listen(Transport::Udp, any);
        let (mut user, seen) = Server::new(&[Method::Options, Method::Invite]);
        user.invite = Some(486);
        alive.add_user(user);
        let alive = alive.build().await.unwrap();
        let nobody = async || {
            let free = UdpSocket::bind(any).await.unwrap();
            free.local_addr().unwrap()
        };
        let mut config = shards(number);
        config.transactions.silence = None;
        let mut builder = Endpoint::builder()
            .config(config)
            .listen(Transport::Udp, any);
        let clients = builder.add_users(|_| Client::default());
        let other = builder.build().await.unwrap();
        let begun = std::time::Instant::now();
        for (client, number) in clients.iter().zip(1..) {
            for (method, owed) in [(Method::Options, 200), (Method::Invite, 486)] {
                // Others each time: those that have failed are tried last.
                let targets = [nobody().await, nobody().await, alive.local_addresses()[0].1];
                let target = Target::Destinations(targets.map(Destination::udp).into());
                let (_, mut events) = send(client, request(method, number), target).await;
                assert_eq!(final_of(&mut events).await.status().as_u16(), owed);
            }
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(16), "{ip}: {took:?}");
        assert_eq!(seen.lock().unwrap().offered.len(), 2 * clients.len());
        other.shutdown().await;
        alive.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_on_several_threads_serve_each_other() {
    let watch = Arc::new(Auditor::new());
    let (one, address) = server(&watch, &[Method::Options, Method::Invite], Some(486)).await;
    let mut builder = Endpoint::builder()
        .observer(Arc::clone(&watch) as _)
        .config(shards(4))
        .listen(Transport::Udp, any_port());
    let clients = builder.add_users(|_| Client::default());
    let other = builder.build().await.unwrap();
    let mut all = Vec::new();
    for number in 0..200 {
        let client = &clients[number as usize % 4];
        for target in [Target::udp(address), Target::tcp(address)] {
            for method in [Method::Options, Method::Invite] {
                let expected = if method == Method::Invite { 486 } else { 200 };
                let (_, events) = send(client, request(method, number), target.clone()).await;
                all.push((events, expected));
            }
        }
    }
    for (events, expected) in &mut all {
        assert_eq!(final_of(events).await.status().as_u16(), *expected);
    }
    let (server, client) = (one.handle(), other.handle());
    one.shutdown().await;
    other.shutdown().await;
    watch.assert_clean();
    // Of 800 requests from one socket and one connection, three quarters belong to another shard than the one that got them.
    assert!(server.metrics().passed_on > 100, "{:?}", server.metrics());
    assert!(client.metrics().passed_on > 100, "{:?}", client.metrics());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_closed_udp_port_fails_the_requests_of_every_shard_at_once() {
    let held = UdpSocket::bind(any_port()).await.unwrap();
    held.connect("127.0.0.1:9").await.unwrap();
    let closed = held.local_addr().unwrap();
    let mut builder = Endpoint::builder()
        .config(shards(4))
        .listen(Transport::Udp, any_port());
    let clients = builder.add_users(|_| Client::default());
    let _endpoint = builder.build().await.unwrap();
    let start = std::time::Instant::now();
    for client in &clients {
        let options = request(Method::Options, 1);
        let (_, mut events) = send(client, options, Target::udp(closed)).await;
        let event = events.recv().await.unwrap();
        let is_refused = matches!(
            event,
            Event::Failed {
                error: RequestError::Transport(_),
                ..
            }
        );
        assert!(is_refused, "{event:?}");
    }
    assert!(start.elapsed().as_secs() < 30, "no timer was waited for");
}

#[tokio::test]
async fn a_closed_udp_port_is_a_transport_failure_and_a_closed_tcp_port_too() {
    let watch = Arc::new(Auditor::new());
    // The ports are held, so that nobody else comes to listen there: a socket that belongs to another peer takes no
    // datagram of ours, and one that does not listen no connection.
    let held_udp = UdpSocket::bind(any_port()).await.unwrap();
    held_udp.connect("127.0.0.1:9").await.unwrap();
    let udp = held_udp.local_addr().unwrap();
    let held_tcp = TcpSocket::new_v4().unwrap();
    held_tcp.bind(any_port()).unwrap();
    let tcp = held_tcp.local_addr().unwrap();
    let (_other, client) = client(&watch).await;
    let mut targets = vec![Target::tcp(tcp)];
    if cfg!(target_os = "linux") {
        targets.push(Target::udp(udp));
    }
    for target in targets {
        let (_, mut events) = send(&client, request(Method::Options, 1), target).await;
        let event = events.recv().await.unwrap();
        assert!(
            matches!(
                event,
                Event::Failed {
                    error: RequestError::Transport(_),
                    ..
                }
            ),
            "{event:?}"
        );
    }
    watch.assert_clean();
}

#[tokio::test]
async fn an_occupied_port_is_an_error() {
    let watch = Arc::new(Auditor::new());
    let (_one, address) = server(&watch, &[], None).await;
    for transport in [Transport::Udp, Transport::Tcp] {
        let error = Endpoint::builder()
            .listen(transport, address)
            .build()
            .await
            .unwrap_err();
        assert!(matches!(error, EndpointError::Bind(error) if error.is_in_use()));
    }
    watch.assert_clean();
}

/// Frames of a stream: a bad request is answered, and the connection goes on.
#[tokio::test]
async fn a_malformed_request_on_a_stream_gets_400_and_the_next_one_its_answer() {
    let watch = Arc::new(Auditor::new());
    let (_one, address) = server(&watch, &[Method::Options], None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let options = |cseq: &str, branch: &str| {
        format!(
            "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: 1\r\nCSeq: {cseq}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    let both = options("huge OPTIONS", "1") + &options("2 OPTIONS", "2");
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while received
        .windows(4)
        .filter(|window| window == b"\r\n\r\n")
        .count()
        < 2
    {
        assert!(
            stream.read_buf(&mut received).await.unwrap() > 0,
            "the connection stays open"
        );
    }
    let text = String::from_utf8(received).unwrap();
    let statuses: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("SIP/2.0 "))
        .collect();
    assert_eq!(statuses.len(), 2, "{text}");
    assert!(statuses[0].starts_with("SIP/2.0 400"), "{text}");
    assert!(statuses[1].starts_with("SIP/2.0 200"), "{text}");
}

/// A thousand REGISTERs from one socket: each is answered, in bursts larger than a batch.
#[tokio::test]
async fn bursts_of_datagrams_are_all_answered() {
    let watch = Arc::new(Auditor::new());
    let (one, address) = server(&watch, &[Method::Register], None).await;
    let socket = UdpSocket::bind(any_port()).await.unwrap();
    let local = socket.local_addr().unwrap();
    let mut buffer = vec![0; 65_536];
    for burst in 0..10 {
        for number in 0..100 {
            let register = request(Method::Register, burst * 100 + number).with_top_via(&format!(
                "SIP/2.0/UDP {local};branch=z9hG4bK{burst}-{number};rport"
            ));
            socket.send_to(register.as_bytes(), address).await.unwrap();
        }
        for _ in 0..100 {
            let length = socket.recv(&mut buffer).await.unwrap();
            let message = Message::parse(buffer[..length].to_vec(), &Limits::default()).unwrap();
            assert_eq!(message.as_response().unwrap().status().as_u16(), 200);
        }
    }
    tokio::task::yield_now().await;
    assert_eq!(one.handle().metrics().requests_received, 1_000);
}
