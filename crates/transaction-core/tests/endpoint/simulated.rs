//! Exchanges over a network that loses, repeats and reorders, under many seeds.

use crate::stage::{
    Client, Order, Server, address, builder, final_of, ip, pass, request, request_with, send,
};
use sipora_message::{Method, Uri};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{
    Endpoint, EndpointConfig, EndpointError, Event, IdSource, RequestError, Target,
};
use sipora_transport::{Network, StaticResolver, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

fn assert_empty(endpoint: &Endpoint) {
    let metrics = endpoint.handle().metrics();
    assert_eq!(metrics.requests, 0, "{metrics:?}");
    assert_eq!(metrics.client_transactions, 0, "{metrics:?}");
    assert_eq!(metrics.server_transactions, 0, "{metrics:?}");
    assert_eq!(metrics.unanswered, 0, "{metrics:?}");
    assert_eq!(metrics.timer_entries, 0, "{metrics:?}");
}

#[test]
fn every_request_is_seen_once_and_answered_once_over_a_rough_network() {
    for_each_seed(seeds(), |network| async move {
        let (server, seen) = Server::new(&[Method::Register]);
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();

        network.set_conditions(Conditions::rough());
        let mut all = Vec::new();
        for number in 0..40 {
            all.push(
                send(
                    &client,
                    request(Method::Register, number),
                    Target::udp(address(1)),
                )
                .await
                .1,
            );
        }
        for events in &mut all {
            assert_eq!(final_of(events).await.status().as_u16(), 200);
        }
        pass(70).await;
        for events in &mut all {
            assert!(events.try_recv().is_err(), "one final answer");
        }
        let seen = seen.lock().unwrap();
        assert_eq!(seen.offered.len(), 40);
        assert!(
            seen.offered.values().all(|&times| times == 1),
            "{:?}",
            seen.offered
        );
        assert_empty(&one);
        assert_empty(&other);
    });
}

#[test]
fn every_refused_invite_is_acknowledged_over_a_rough_network() {
    for_each_seed(seeds(), |network| async move {
        let (mut server, seen) = Server::new(&[Method::Invite]);
        server.invite = Some(486);
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();

        network.set_conditions(Conditions::rough());
        let mut all = Vec::new();
        for number in 0..20 {
            all.push(
                send(
                    &client,
                    request(Method::Invite, number),
                    Target::udp(address(1)),
                )
                .await
                .1,
            );
        }
        for events in &mut all {
            assert_eq!(final_of(events).await.status().as_u16(), 486);
        }
        pass(70).await;
        let seen = seen.lock().unwrap();
        assert_eq!((seen.acknowledged, seen.not_acknowledged), (20, 0));
        assert!(
            seen.offered.values().all(|&times| times == 1),
            "{:?}",
            seen.offered
        );
        assert_empty(&one);
        assert_empty(&other);
    });
}

#[test]
fn cancel_ends_every_ringing_invite_over_a_rough_network() {
    for_each_seed(seeds(), |network| async move {
        let (server, seen) = Server::new(&[Method::Invite]);
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();

        network.set_conditions(Conditions::rough());
        let mut all = Vec::new();
        for number in 0..20 {
            let (id, events) = send(
                &client,
                request(Method::Invite, number),
                Target::udp(address(1)),
            )
            .await;
            // Some before the first provisional answer, some after.
            let wait = std::time::Duration::from_millis(network.random(0..=3_000));
            tokio::time::sleep(wait).await;
            client.send(Order::Cancel(id)).await.unwrap();
            all.push(events);
        }
        for events in &mut all {
            assert_eq!(final_of(events).await.status().as_u16(), 487);
        }
        // The alarm of an INVITE that was not forgotten goes off for nobody.
        pass(31 * 60).await;
        let seen = seen.lock().unwrap();
        assert_eq!((seen.cancelled, seen.acknowledged), (20, 20));
        assert_empty(&one);
        assert_empty(&other);
    });
}

#[test]
fn a_silent_first_target_costs_4_s_and_no_answer() {
    for_each_seed(seeds(), |network| async move {
        let (server, _seen) = Server::new(&[Method::Options]);
        let mut one = builder(&network, 1);
        one.add_user(server);
        let _one = one.build().await.unwrap();
        // There is a host, but nothing of what is sent to it arrives.
        let _silent = builder(&network, 3).build().await.unwrap();
        network.part(ip(2), ip(3));
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();

        let Target::Destinations(mut targets) = Target::udp(address(3)) else {
            panic!()
        };
        let Target::Destinations(second) = Target::udp(address(1)) else {
            panic!()
        };
        targets.extend(second);
        let start = tokio::time::Instant::now();
        let (_, mut events) = send(
            &client,
            request(Method::Options, 1),
            Target::Destinations(targets),
        )
        .await;
        assert_eq!(final_of(&mut events).await.status().as_u16(), 200);
        let taken = start.elapsed().as_millis();
        assert!((4_000..4_100).contains(&taken), "{taken} ms");
    });
}

#[test]
fn a_target_that_was_silent_costs_the_next_requests_nothing() {
    for_each_seed(seeds(), |network| async move {
        let (server, _seen) = Server::new(&[Method::Options]);
        let mut one = builder(&network, 1);
        one.add_user(server);
        let _one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();
        let _silent = network.host(ip(3));
        network.set_conditions(Conditions {
            loss: 0.0,
            ..Conditions::rough()
        });
        let targets = || {
            let destination = sipora_transport::Destination::udp;
            Target::Destinations(vec![destination(address(3)), destination(address(1))])
        };
        for (number, most) in [(0, 5_000), (1, 3_000), (2, 3_000)] {
            let began = tokio::time::Instant::now();
            let (_, mut events) = send(&client, request(Method::Options, number), targets()).await;
            assert_eq!(final_of(&mut events).await.status().as_u16(), 200);
            assert!(began.elapsed().as_millis() < most, "{:?}", began.elapsed());
        }
        assert_eq!(other.handle().metrics().attempts_advanced, 1);
    });
}

#[test]
fn a_name_is_resolved_and_answers_over_tcp_survive_fragmentation() {
    for_each_seed(seeds(), |network| async move {
        let (server, seen) = Server::new(&[Method::Message]);
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();

        network.set_conditions(Conditions::rough());
        let uri = Uri::parse("sip:bob@server.example.com;transport=tcp").unwrap();
        let mut all = Vec::new();
        for number in 0..20 {
            let body = usize::try_from(network.random(0..=20_000)).unwrap();
            let request = request_with(Method::Message, number, body);
            all.push(send(&client, request, Target::Uri(uri.clone())).await.1);
        }
        for events in &mut all {
            assert_eq!(final_of(events).await.status().as_u16(), 200);
        }
        assert!(
            seen.lock()
                .unwrap()
                .offered
                .values()
                .all(|&times| times == 1)
        );
        pass(70).await;
        assert_empty(&one);
        assert_empty(&other);
        let connections = network
            .packets()
            .iter()
            .filter(|packet| packet.transport == Transport::Tcp)
            .count();
        assert!(connections >= 40, "everything went over TCP");
    });
}

#[test]
fn a_large_request_moves_to_tcp_and_back_to_udp_when_nobody_listens_there() {
    for_each_seed(seeds(), |network| async move {
        let (server, _seen) = Server::new(&[Method::Message]);
        let mut one = builder(&network, 1);
        one.add_user(server);
        let _one = one.build().await.unwrap();
        let mut udp_only = Endpoint::builder()
            .network(std::sync::Arc::new(network.host(ip(3))))
            .listen(Transport::Udp, address(3));
        let (server, _seen) = Server::new(&[Method::Message]);
        udp_only.add_user(server);
        let _udp_only = udp_only.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();

        for (last, transport) in [(1, "TCP"), (3, "UDP")] {
            let message = request_with(Method::Message, u32::from(last), 3_000);
            let (_, mut events) = send(&client, message, Target::udp(address(last))).await;
            let response = final_of(&mut events).await;
            assert_eq!(response.status().as_u16(), 200);
            assert_eq!(response.headers().via().unwrap().transport(), transport);
        }
    });
}

#[test]
fn a_connection_that_breaks_fails_its_requests_at_once_and_says_so() {
    for_each_seed(seeds(), |network| async move {
        let (mut server, seen) = Server::new(&[Method::Options]);
        server.mute = true;
        let mut one = builder(&network, 1);
        one.add_user(server);
        let _one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();

        let (_, mut events) = send(
            &client,
            request(Method::Options, 1),
            Target::tcp(address(1)),
        )
        .await;
        pass(1).await;
        assert_eq!(network.reset(ip(1), ip(2)), 1);
        let start = tokio::time::Instant::now();
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
        assert!(start.elapsed().as_millis() < 100);
        pass(1).await;
        assert_eq!(seen.lock().unwrap().closed, 1, "users hear of it");
    });
}

#[test]
fn a_port_that_nobody_listens_on_is_a_transport_failure_where_the_network_says_so() {
    for_each_seed(seeds(), |network| async move {
        let _host = network.host(ip(1));
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();
        network.set_conditions(Conditions {
            reports_unreachable: true,
            ..Conditions::perfect()
        });
        let (_, mut events) = send(
            &client,
            request(Method::Options, 1),
            Target::udp(address(1)),
        )
        .await;
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
    });
}

#[test]
fn an_answer_whose_connection_is_gone_comes_over_a_new_one() {
    for_each_seed(seeds(), |network| async move {
        let (mut server, seen) = Server::new(&[Method::Options]);
        server.mute = true;
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();

        let (_, _events) = send(
            &client,
            request(Method::Options, 1),
            Target::tcp(address(1)),
        )
        .await;
        pass(1).await;
        network.reset(ip(1), ip(2));
        pass(1).await;
        let (transaction, request) = seen.lock().unwrap().last.clone().unwrap();
        let answer =
            sipora_message::Response::for_request(&request, sipora_message::StatusCode::OK);
        let answer = answer.to_tag("x").build().unwrap();
        one.handle()
            .respond(transaction, answer)
            .await
            .unwrap()
            .unwrap();
        pass(1).await;
        // It came to the listener that our Via names; its request is over by then.
        assert_eq!(other.handle().metrics().responses_unmatched, 1);
    });
}

/// A resolver that knows addresses of IPv6 alone, for endpoints that listen on IPv4 alone.
#[test]
fn a_host_of_the_other_family_alone_is_reached_and_answers() {
    for_each_seed(seeds(), |network| async move {
        let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let (server, seen) = Server::new(&[Method::Register, Method::Invite]);
        let mut one = Endpoint::builder()
            .network(Arc::new(network.host(v6(1))))
            .ids(IdSource::from_number(network.seed()))
            .listen_everywhere(Transport::Udp, 5060)
            .listen_everywhere(Transport::Tcp, 5060);
        one.add_user(Server {
            invite: Some(486),
            ..server
        });
        let one = one.build().await.unwrap();
        let listens = one.local_addresses();
        let everywhere: SocketAddr = "[::]:5060".parse().unwrap();
        assert_eq!(
            listens,
            [(Transport::Udp, everywhere), (Transport::Tcp, everywhere)],
            "the family that it has"
        );
        let mut other = Endpoint::builder()
            .network(Arc::new(network.host_with(&[ip(2), v6(2)])))
            .resolver(Arc::new(
                StaticResolver::new().with("server.example.com", v6(1)),
            ))
            .ids(IdSource::from_number(network.seed() + 1))
            .config(EndpointConfig {
                shards: [1, 4][usize::from(network.seed() % 2 == 1)],
                ..EndpointConfig::default()
            })
            .listen(Transport::Udp, address(2))
            .listen(Transport::Tcp, address(2));
        let (unasked, uninvited) = Server::new(&[Method::Options]);
        other.add_user(unasked);
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();

        network.set_conditions(Conditions::rough());
        for transport in ["udp", "tcp"] {
            let uri = format!("sip:server.example.com;transport={transport}");
            let target = || Target::Uri(Uri::parse(&uri).unwrap());
            for (method, owed) in [(Method::Register, 200), (Method::Invite, 486)] {
                let number = u32::from(transport == "tcp");
                let (_, mut events) = send(&client, request(method, number), target()).await;
                assert_eq!(final_of(&mut events).await.status().as_u16(), owed);
            }
        }
        pass(70).await;
        assert_eq!(other.local_addresses().len(), 2, "it listens where it did");
        // Whoever sends to the socket without having been asked gets no answer.
        network.set_conditions(Conditions::perfect());
        let packets = network.packets();
        let datagrams = packets
            .iter()
            .filter(|packet| packet.transport == Transport::Udp);
        let mut sources = datagrams.map(|packet| packet.source);
        let socket = sources.find(|source| source.ip() == v6(2)).unwrap();
        let stranger = network.host(v6(3));
        let mut stranger = stranger
            .bind_datagram((v6(3), 5060).into(), 1)
            .unwrap()
            .remove(0);
        let via = "Via: SIP/2.0/UDP [2001:db8::3];branch=z9hG4bKunasked\r\n";
        let options = String::from_utf8(request(Method::Options, 9).as_bytes().to_vec()).unwrap();
        let options = options.replacen("\r\n", &format!("\r\n{via}"), 1);
        stranger
            .sender
            .try_send_to(options.as_bytes(), socket)
            .unwrap();
        let mut buffer = [0; 2048];
        let answer = std::future::poll_fn(|cx| stranger.receiver.poll_recv(cx, &mut buffer));
        let answer = tokio::time::timeout(Duration::from_secs(40), answer).await;
        assert!(answer.is_err(), "{answer:?}");
        assert!(uninvited.lock().unwrap().offered.is_empty());
        assert!(other.handle().transport_metrics().requests_unwanted >= 1);
        assert!(!seen.lock().unwrap().offered.is_empty());
        assert_empty(&one);
        assert_empty(&other);
    });
}

#[tokio::test(start_paused = true)]
async fn a_port_of_every_address_is_one_for_both_families() {
    let network = SimNetwork::new(1);
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
    let host = Arc::new(network.host_with(&[ip(1), v6]));
    let everywhere = |port| {
        Endpoint::builder()
            .network(host.clone())
            .listen_everywhere(Transport::Udp, port)
            .listen_everywhere(Transport::Tcp, port)
            .build()
    };
    let first = everywhere(0).await.unwrap();
    let addresses = first.local_addresses();
    let port = addresses[0].1.port();
    let listens: Vec<String> = addresses
        .iter()
        .map(|(transport, address)| format!("{transport} {}", address.ip()))
        .collect();
    assert_eq!(listens, ["UDP 0.0.0.0", "TCP 0.0.0.0", "UDP ::", "TCP ::"]);
    assert!(addresses.iter().all(|(_, address)| address.port() == port));
    first.shutdown().await;
    // Occupied for one family alone.
    let other = Endpoint::builder()
        .network(host.clone())
        .listen(Transport::Udp, (v6, port).into())
        .build()
        .await
        .unwrap();
    let error = everywhere(port).await.unwrap_err();
    assert!(
        matches!(&error, EndpointError::Bind(error) if error.is_in_use()),
        "{error}"
    );
    other.shutdown().await;
}
