//! The tokio network, on real sockets of the loopback interface.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use bytes::Bytes;
use common::{ok, options, request, response};
use sipora_transport::{
    CloseReason, Destination, InboundReceiver, Network, OpenError, Payload, Resolver, SendError,
    SystemResolver, TokioNetwork, Transport, TransportConfig, Transports, response_route,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

fn transports() -> (Transports, InboundReceiver) {
    Transports::new(Arc::new(TokioNetwork::new()), TransportConfig::default())
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

#[tokio::test]
async fn a_request_and_its_response_go_over_udp() {
    let ((client, _c), (server, _s)) = (transports(), transports());
    let mut client_socket = client.bind_udp(any_port(), 1).unwrap().remove(0);
    let mut server_socket = server.bind_udp(any_port(), 1).unwrap().remove(0);
    assert_ne!(
        server_socket.local_addr().port(),
        0,
        "the real port is reported"
    );

    let flow = client
        .open(&Destination::udp(server_socket.local_addr()))
        .await
        .unwrap();
    client
        .try_send(&flow, options(&client, &flow, "1").to_bytes())
        .unwrap();

    let (back, received) = request(server_socket.recv().await);
    assert_eq!(back.remote, client_socket.local_addr());
    let via = received.headers().via().unwrap();
    assert_eq!(
        via.rport(),
        Some(Some(client_socket.local_addr().port())),
        "RFC 3581 §4"
    );
    assert_eq!(
        via.received(),
        Some(client_socket.local_addr().ip()),
        "RFC 3581 §4"
    );

    let route = response_route(&received, &back);
    server.try_send(&route.flow, ok(&received)).unwrap();
    assert_eq!(response(client_socket.recv().await).status().as_u16(), 200);
}

#[tokio::test]
async fn a_request_and_its_response_share_a_tcp_connection() {
    let ((client, mut client_in), (server, mut server_in)) = (transports(), transports());
    let listener = server.listen_tcp(any_port()).unwrap();

    let flow = client.open(&Destination::tcp(listener)).await.unwrap();
    client
        .try_send(&flow, options(&client, &flow, "1").to_bytes())
        .unwrap();
    let (back, received) = request(server_in.recv().await.unwrap());
    assert_eq!(back.transport, Transport::Tcp);
    server
        .try_send(&response_route(&received, &back).flow, ok(&received))
        .unwrap();

    let answer = client_in.recv().await.unwrap();
    assert_eq!(answer.flow, flow);
    assert_eq!(response(answer).status().as_u16(), 200);
    assert_eq!(
        client.open(&Destination::tcp(listener)).await.unwrap(),
        flow,
        "a live connection is used again"
    );
    assert_eq!(server.metrics().connections_open, 1);
}

#[tokio::test]
async fn an_occupied_port_is_an_error() {
    let (transports, _in) = transports();
    let udp = transports.bind_udp(any_port(), 1).unwrap();
    let error = transports.bind_udp(udp[0].local_addr(), 1).unwrap_err();
    assert!(error.is_in_use(), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on UDP {}: {}",
            udp[0].local_addr(),
            error.source
        )
    );

    let tcp = transports.listen_tcp(any_port()).unwrap();
    assert!(transports.listen_tcp(tcp).unwrap_err().is_in_use());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_occupied_port_is_an_error_also_where_its_holder_shares_it_among_shards() {
    let ((one, _i), (two, _j)) = (transports(), transports());
    let shards = one.bind_udp(any_port(), 4).unwrap();
    let address = shards[0].local_addr();
    assert!(shards.iter().all(|shard| shard.local_addr() == address));
    assert!(two.bind_udp(address, 4).unwrap_err().is_in_use());
    assert!(two.bind_udp(address, 1).unwrap_err().is_in_use());
    drop(shards);
    two.bind_udp(address, 4).unwrap();
}

#[cfg(any(not(target_os = "linux"), feature = "force-portable"))]
#[tokio::test]
async fn where_peers_are_not_divided_there_is_one_socket() {
    let (server, _in) = transports();
    assert_eq!(server.bind_udp(any_port(), 4).unwrap().len(), 1);
}

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
#[tokio::test]
async fn peers_are_divided_among_the_sockets_of_one_port() {
    let (server, _in) = transports();
    let mut shards = server.bind_udp(any_port(), 4).unwrap();
    let address = shards[0].local_addr();
    let message = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1\r\n\r\n";
    let mut peers = Vec::new();
    for _ in 0..64 {
        let peer = UdpSocket::bind(any_port()).await.unwrap();
        peer.send_to(message, address).await.unwrap();
        peers.push(peer);
    }
    let mut received = [0; 4];
    let mut batch = Vec::new();
    while received.iter().sum::<usize>() < peers.len() {
        std::future::poll_fn(|cx| {
            for (shard, count) in shards.iter_mut().zip(&mut received) {
                if let std::task::Poll::Ready(taken) = shard.poll_recv_batch(cx, &mut batch, 16) {
                    *count += taken;
                }
            }
            if batch.is_empty() {
                return std::task::Poll::Pending;
            }
            batch.clear();
            std::task::Poll::Ready(())
        })
        .await;
    }
    assert!(
        received.iter().filter(|count| **count > 0).count() > 1,
        "{received:?}"
    );
}

#[tokio::test]
async fn udp_and_tcp_get_the_same_port() {
    let (transports, _in) = transports();
    let udp = transports.bind_udp_and_tcp(any_port(), 1).unwrap();
    let address = udp[0].local_addr();
    assert_eq!(
        transports.listeners(),
        [(Transport::Udp, address), (Transport::Tcp, address)]
    );
    drop(udp);
    assert_eq!(transports.listeners(), [(Transport::Tcp, address)]);
}

#[tokio::test]
async fn the_largest_datagram_passes_and_a_larger_one_is_refused() {
    let (transports, _in) = transports();
    let mut socket = transports.bind_udp(any_port(), 1).unwrap().remove(0);
    let flow = transports
        .open(&Destination::udp(socket.local_addr()))
        .await
        .unwrap();
    let head = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1\r\n\r\n";
    let mut message = Bytes::from(format!("{head:x<65507}"));
    transports.try_send(&flow, message.clone()).unwrap();
    let (_, received) = request(socket.recv().await);
    assert_eq!(received.body().len(), 65_507 - head.len());

    message = [&message[..], b"x"].concat().into();
    assert_eq!(
        transports.try_send(&flow, message),
        Err(SendError::TooLarge)
    );
}

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
#[tokio::test]
async fn a_datagram_that_nobody_takes_is_reported_with_its_peer() {
    let (transports, _in) = transports();
    let mut socket = transports.bind_udp(any_port(), 1).unwrap().remove(0);
    let gone = UdpSocket::bind(any_port())
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let flow = transports.open(&Destination::udp(gone)).await.unwrap();
    transports
        .try_send(&flow, Bytes::from_static(b"\r\n\r\n"))
        .unwrap();

    let report = tokio::time::timeout(Duration::from_secs(5), socket.recv())
        .await
        .expect("a report");
    assert_eq!(report.flow.remote, gone);
    assert!(
        matches!(
            report.payload,
            Payload::Unreachable(io::ErrorKind::ConnectionRefused)
        ),
        "{report:?}"
    );
    assert_eq!(transports.metrics().unreachable, 1);
}

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
#[tokio::test]
async fn a_report_about_one_peer_spoils_nothing_for_another() {
    let (transports, _in) = transports();
    let mut socket = transports.bind_udp(any_port(), 1).unwrap().remove(0);
    let gone = UdpSocket::bind(any_port())
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let alive = UdpSocket::bind(any_port()).await.unwrap();
    let dead_flow = transports.open(&Destination::udp(gone)).await.unwrap();
    let live_flow = transports
        .open(&Destination::udp(alive.local_addr().unwrap()))
        .await
        .unwrap();
    for _ in 0..10 {
        transports
            .try_send(&dead_flow, Bytes::from_static(b"\r\n\r\n"))
            .unwrap();
        transports
            .try_send(&live_flow, Bytes::from_static(b"\r\n\r\n"))
            .unwrap();
    }
    let mut buffer = [0; 16];
    for _ in 0..10 {
        assert_eq!(alive.recv(&mut buffer).await.unwrap(), 4);
    }
    assert!(matches!(
        socket.recv().await.payload,
        Payload::Unreachable(_)
    ));
}

#[tokio::test]
async fn a_refused_connection_is_told_at_once() {
    let (transports, _in) = transports();
    let closed = TcpListener::bind(any_port())
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = transports
        .open(&Destination::tcp(closed))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Io {
                kind: io::ErrorKind::ConnectionRefused,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(transports.metrics().connections_failed, 1);
}

#[tokio::test]
async fn what_is_not_built_in_or_has_no_settings_is_said_to_be_unsupported() {
    let (transports, _in) = transports();
    for transport in [Transport::Tls, Transport::Ws, Transport::Wss] {
        if transport == Transport::Ws && cfg!(feature = "ws") {
            continue;
        }
        let error = transports
            .open(&Destination::new(transport, any_port()))
            .await
            .unwrap_err();
        assert_eq!(error, OpenError::Unsupported(transport));
    }
    let error = transports
        .open(&Destination::udp(any_port()))
        .await
        .unwrap_err();
    assert_eq!(error, OpenError::NoSocket(any_port()));
}

#[tokio::test]
async fn bound_to_a_wildcard_sent_by_is_an_address_that_the_peer_can_reach() {
    let (transports, _in) = transports();
    let socket = transports
        .bind_udp_and_tcp((Ipv4Addr::UNSPECIFIED, 0).into(), 1)
        .unwrap()
        .remove(0);
    let port = socket.local_addr().port();
    let peer = UdpSocket::bind(any_port()).await.unwrap();
    let flow = transports
        .open(&Destination::udp(peer.local_addr().unwrap()))
        .await
        .unwrap();
    assert_eq!(
        transports.sent_by(&flow).to_string(),
        format!("127.0.0.1:{port}")
    );

    let listener = TcpListener::bind(any_port()).await.unwrap();
    let flow = transports
        .open(&Destination::tcp(listener.local_addr().unwrap()))
        .await
        .unwrap();
    assert_eq!(
        transports.sent_by(&flow).to_string(),
        format!("127.0.0.1:{port}"),
        "where we listen"
    );
}

/// Writes to `server` and is written to by it, and says from where, at each of its addresses.
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
async fn exchanges_at(wildcard: &str, client: &str, addresses: &[&str]) {
    let (transports, _in) = transports();
    let mut socket = transports
        .bind_udp(wildcard.parse().unwrap(), 1)
        .unwrap()
        .remove(0);
    let client = UdpSocket::bind(client).await.unwrap();
    let mut buffer = [0; 2_000];
    for address in addresses {
        let address = SocketAddr::new(address.parse().unwrap(), socket.local_addr().port());
        let sent = "OPTIONS sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP client;rport;branch=z9hG4bK1\r\n\
            From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: call\r\nCSeq: 1 OPTIONS\r\n\
            Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
        client.send_to(sent.as_bytes(), address).await.unwrap();
        let (flow, received) = request(socket.recv().await);
        assert_eq!(flow.id.socket(), socket.id());
        assert_eq!(transports.local_addr(&flow), Some(address));
        let route = response_route(&received, &flow);
        transports.try_send(&route.flow, ok(&received)).unwrap();
        let (_, source) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!(source, address, "RFC 3581 §4");

        // What goes over the flow later, and what comes back.
        assert_eq!(transports.sent_by(&flow).to_string(), address.to_string());
        let asked = options(&transports, &flow, "2");
        transports.try_send(&flow, asked.to_bytes()).unwrap();
        let (_, source) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!(source, address);
        client.send_to(&ok(&asked), address).await.unwrap();
        let answer = socket.recv().await;
        assert_eq!(answer.flow, flow);
        response(answer);
    }
    assert_eq!(transports.metrics().local_addresses_unnamed, 0);
}

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
#[tokio::test]
async fn a_wildcard_socket_writes_from_the_address_that_it_was_written_to_at() {
    let addresses = ["127.0.0.2", "127.0.0.1", "127.0.0.3", "127.0.0.2"];
    exchanges_at("0.0.0.0:0", "127.0.0.1:0", &addresses).await;
}

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
#[tokio::test]
async fn an_ipv6_wildcard_socket_does_too_where_the_machine_has_it() {
    if UdpSocket::bind("[::1]:0").await.is_ok() {
        exchanges_at("[::]:0", "[::1]:0", &["::1", "::1"]).await;
    }
}

#[tokio::test]
async fn a_socket_bound_to_one_address_has_flows_of_one_id() {
    let (transports, _in) = transports();
    let mut socket = transports.bind_udp(any_port(), 1).unwrap().remove(0);
    let flow = transports
        .open(&Destination::udp(socket.local_addr()))
        .await
        .unwrap();
    let sent = options(&transports, &flow, "1");
    transports.try_send(&flow, sent.to_bytes()).unwrap();
    assert_eq!(request(socket.recv().await).0.id, socket.id());
}

#[tokio::test]
async fn ipv6_works_where_the_machine_has_it() {
    let (transports, _in) = transports();
    let Ok(mut sockets) = transports.bind_udp("[::1]:0".parse().unwrap(), 1) else {
        return;
    };
    let flow = transports
        .open(&Destination::udp(sockets[0].local_addr()))
        .await
        .unwrap();
    let port = sockets[0].local_addr().port();
    assert_eq!(
        transports.sent_by(&flow).to_string(),
        format!("[::1]:{port}")
    );
    transports
        .try_send(&flow, options(&transports, &flow, "1").to_bytes())
        .unwrap();
    let (back, received) = request(sockets[0].recv().await);
    assert_eq!(
        received.headers().via().unwrap().received(),
        Some(back.remote.ip())
    );
}

#[tokio::test]
async fn an_ipv6_wildcard_leaves_ipv4_to_others() {
    let (transports, _in) = transports();
    let Ok(v6) = transports.bind_udp_and_tcp("[::]:0".parse().unwrap(), 1) else {
        return;
    };
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6[0].local_addr().port()));
    match transports.bind_udp_and_tcp(v4, 1) {
        Ok(_) => {}
        // Somebody else may have the port on IPv4; we have not.
        Err(error) => assert!(TokioNetwork::new().bind_datagram(v4, 1).is_err(), "{error}"),
    }
}

#[tokio::test]
async fn a_crlf_ping_is_answered_with_one_crlf() {
    let (server, _in) = transports();
    let listener = server.listen_tcp(any_port()).unwrap();
    let mut peer = TcpStream::connect(listener).await.unwrap();
    peer.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    peer.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\r\n", "RFC 5626 §4.4.1");
    assert_eq!(server.metrics().pings_answered, 1);
}

#[tokio::test]
async fn a_reset_connection_is_reported() {
    let (server, mut inbound) = transports();
    let listener = server.listen_tcp(any_port()).unwrap();
    let mut peer = TcpStream::connect(listener).await.unwrap();
    // Reset before it is accepted, a connection never was one: exchange something first.
    peer.write_all(b"\r\n\r\n").await.unwrap();
    peer.read_exact(&mut [0; 2]).await.unwrap();
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
    let closed = inbound.recv().await.unwrap();
    assert!(
        matches!(
            closed.payload,
            Payload::Closed(CloseReason::Io(io::ErrorKind::ConnectionReset))
        ),
        "{:?}",
        closed.payload
    );
    assert!(!server.is_open(closed.flow.id));
}

#[tokio::test]
async fn shutdown_writes_what_is_queued_and_frees_the_ports() {
    let ((client, mut client_in), (server, mut server_in)) = (transports(), transports());
    let listener = server.listen_tcp(any_port()).unwrap();
    let flow = client.open(&Destination::tcp(listener)).await.unwrap();
    client
        .try_send(&flow, options(&client, &flow, "1").to_bytes())
        .unwrap();
    let (back, received) = request(server_in.recv().await.unwrap());
    server.try_send(&back, ok(&received)).unwrap();
    server.shutdown().await;

    assert_eq!(
        response(client_in.recv().await.unwrap()).status().as_u16(),
        200
    );
    let closed = client_in.recv().await.unwrap();
    assert!(
        matches!(closed.payload, Payload::Closed(CloseReason::ByPeer)),
        "{closed:?}"
    );
    assert_eq!(server.metrics().connections_open, 0);
    assert_eq!(
        server.open(&Destination::tcp(listener)).await,
        Err(OpenError::Shutdown)
    );
    TcpListener::bind(listener)
        .await
        .expect("the port is free again");
}

#[tokio::test]
async fn the_last_handle_dropped_closes_everything() {
    let (server, _in) = transports();
    let listener = server.listen_tcp(any_port()).unwrap();
    let mut peer = TcpStream::connect(listener).await.unwrap();
    peer.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    peer.read_exact(&mut pong).await.unwrap();
    drop(server);
    // Closed, whether by an end or a reset.
    assert_eq!(peer.read(&mut pong).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn the_system_resolver_reads_numbers_and_knows_localhost() {
    let resolver = SystemResolver::new();
    let found = resolver
        .resolve(&"sip:bob@192.0.2.1:5080;transport=tcp".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(found, [Destination::tcp("192.0.2.1:5080".parse().unwrap())]);
    let found = resolver
        .resolve(&"sip:localhost".parse().unwrap())
        .await
        .unwrap();
    assert!(
        found
            .iter()
            .all(|destination| destination.address.ip().is_loopback()),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .all(|destination| destination.address.port() == 5060)
    );
}

#[tokio::test]
async fn a_peer_that_has_shut_down_its_sending_side_gets_its_answer() {
    let (server, mut inbound) = transports();
    let address = server.listen_tcp(any_port()).unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let message = "OPTIONS sip:c@d SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                   To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(message.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let (flow, received) = request(inbound.recv().await.unwrap());
    // The end of the stream has come before the answer goes.
    while server.existing(&Destination::tcp(flow.remote)).is_some() {
        tokio::task::yield_now().await;
    }
    server.try_send(&flow, ok(&received)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("SIP/2.0 200 OK"), "{answer}");
    let closed = inbound.recv().await.unwrap();
    assert!(matches!(
        closed.payload,
        Payload::Closed(CloseReason::ByPeer)
    ));
}
