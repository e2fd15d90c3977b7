//! Location by NAPTR, SRV, A and AAAA records (RFC 3263), asked of a name server on the loopback interface.
#![cfg(feature = "dns")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod name_server;

use name_server::{NameServer, Zone};
use sipora_transport::{
    Destination, DnsResolver, ResolveError, Resolver, TokioNetwork, Transport, TransportConfig,
    Transports,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UdpSocket};

async fn resolver(zone: Zone) -> (DnsResolver, NameServer) {
    let server = NameServer::of(zone).await;
    let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
    let resolver = DnsResolver::with_servers(&[server.address]).unwrap();
    (resolver.with_transports(&all), server)
}

async fn found(resolver: &DnsResolver, uri: &str) -> Vec<String> {
    let found = resolver.resolve(&uri.parse().unwrap()).await.unwrap();
    found.iter().map(shown).collect()
}

fn shown(destination: &Destination) -> String {
    match &destination.server_name {
        Some(name) => format!("{destination} as {name}"),
        None => destination.to_string(),
    }
}

async fn error(resolver: &DnsResolver, uri: &str) -> ResolveError {
    resolver.resolve(&uri.parse().unwrap()).await.unwrap_err()
}

/// RFC 3263 §4.1, its example.
fn example() -> Zone {
    Zone::new()
        .naptr("example.com", 50, "SIPS+D2T", "_sips._tcp.example.com")
        .naptr("example.com", 90, "SIP+D2T", "_sip._tcp.example.com")
        .naptr("example.com", 100, "SIP+D2U", "_sip._udp.example.com")
        .srv("_sips._tcp.example.com", 0, 1, 5061, "server1.example.com")
        .srv("_sip._tcp.example.com", 0, 1, 5060, "server1.example.com")
        .srv("_sip._tcp.example.com", 1, 1, 5070, "server2.example.com")
        .srv("_sip._udp.example.com", 0, 1, 5080, "server2.example.com")
        .address("server1.example.com", "192.0.2.1")
        .address("server2.example.com", "192.0.2.2")
        .address("example.com", "192.0.2.80")
}

#[tokio::test]
async fn naptr_tells_the_transport_and_srv_the_servers() {
    let (resolver, _server) = resolver(example()).await;
    assert_eq!(
        found(&resolver, "sip:bob@Example.com").await,
        ["TLS 192.0.2.1:5061 as Example.com"]
    );
    let plain = resolver
        .clone()
        .with_transports(&[Transport::Udp, Transport::Tcp]);
    assert_eq!(
        found(&plain, "sip:bob@example.com").await,
        ["TCP 192.0.2.1:5060", "TCP 192.0.2.2:5070"]
    );
    assert_eq!(
        found(&plain, "sips:bob@example.com").await,
        ["TLS 192.0.2.1:5061 as example.com"],
        "sips is TLS, and the certificate is for the domain"
    );
}

#[tokio::test]
async fn a_transport_parameter_asks_for_no_naptr() {
    let (resolver, server) = resolver(example()).await;
    assert_eq!(
        found(&resolver, "sip:bob@example.com;transport=udp").await,
        ["UDP 192.0.2.2:5080"]
    );
    assert_eq!(
        found(&resolver, "sip:bob@example.com;transport=tls").await,
        ["TLS 192.0.2.1:5061 as example.com"]
    );
    assert!(
        !server
            .asked()
            .iter()
            .any(|question| question.starts_with("NAPTR")),
        "RFC 3263 §4.1"
    );
}

#[tokio::test]
async fn a_port_or_a_number_asks_for_nothing_but_addresses() {
    let (resolver, server) = resolver(example()).await;
    assert_eq!(
        found(&resolver, "sip:bob@example.com:5099").await,
        ["UDP 192.0.2.80:5099"]
    );
    assert_eq!(
        found(&resolver, "sips:bob@example.com:5099").await,
        ["TLS 192.0.2.80:5099 as example.com"]
    );
    assert_eq!(server.asked(), ["A example.com", "AAAA example.com"]);
    assert_eq!(
        found(&resolver, "sip:192.0.2.7;transport=tcp").await,
        ["TCP 192.0.2.7:5060"]
    );
    assert_eq!(
        found(&resolver, "sips:bob@[2001:db8::7]").await,
        ["TLS [2001:db8::7]:5061 as [2001:db8::7]"]
    );
    assert_eq!(
        found(&resolver, "sip:bob@example.com;maddr=192.0.2.9").await,
        ["UDP 192.0.2.9:5060"]
    );
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn without_naptr_every_transport_that_we_speak_is_looked_for() {
    let zone = Zone::new()
        .srv("_sip._tcp.example.com", 0, 0, 5070, "a.example.com")
        .srv("_sips._tcp.example.com", 0, 0, 5071, "a.example.com")
        .address("a.example.com", "192.0.2.1")
        .without_naptr();
    let (resolver, _server) = resolver(zone).await;
    assert_eq!(
        found(&resolver, "sip:bob@example.com").await,
        ["TCP 192.0.2.1:5070", "TLS 192.0.2.1:5071 as example.com"]
    );
    assert_eq!(
        found(&resolver, "sips:bob@example.com").await,
        ["TLS 192.0.2.1:5071 as example.com"]
    );
}

#[tokio::test]
async fn without_any_record_of_a_service_the_domain_itself_is_asked() {
    let zone = Zone::new()
        .address("example.com", "192.0.2.1")
        .address("example.com", "2001:db8::1");
    let (resolver, _server) = resolver(zone).await;
    let mut addresses = found(&resolver, "sip:bob@example.com").await;
    addresses.sort();
    assert_eq!(
        addresses,
        ["UDP 192.0.2.1:5060", "UDP [2001:db8::1]:5060"],
        "RFC 3263 §4.1: SHOULD use UDP"
    );
    let secure = found(&resolver, "sips:bob@example.com").await;
    assert!(
        secure.contains(&"TLS 192.0.2.1:5061 as example.com".into()),
        "{secure:?}"
    );
    let web = found(&resolver, "sip:bob@example.com;transport=ws").await;
    assert!(
        web.contains(&"WS 192.0.2.1:80 as example.com".into()),
        "{web:?}"
    );
}

#[tokio::test]
async fn priorities_decide_and_weights_draw() {
    let mut zone = Zone::new();
    for (priority, weight, host) in [(10, 90, "often"), (10, 10, "seldom"), (20, 0, "last")] {
        let target = format!("{host}.example.com");
        zone = zone.srv("_sip._udp.example.com", priority, weight, 5060, &target);
    }
    for (host, ip) in [
        ("often", "192.0.2.1"),
        ("seldom", "192.0.2.2"),
        ("last", "192.0.2.3"),
    ] {
        zone = zone.address(&format!("{host}.example.com"), ip);
    }
    let (resolver, server) = resolver(zone).await;
    let mut often = 0;
    for _ in 0..200 {
        let order = found(&resolver, "sip:bob@example.com").await;
        assert_eq!(order.len(), 3);
        assert_eq!(order[2], "UDP 192.0.2.3:5060");
        often += usize::from(order[0] == "UDP 192.0.2.1:5060");
    }
    assert!((150..200).contains(&often), "{often} of 200");
    assert!(server.asked().len() < 20, "the rest came from memory");
}

#[tokio::test]
async fn answers_are_believed_as_long_as_they_say_and_no_longer() {
    let zone = Zone::new().address("example.com", "192.0.2.1");
    let (lasting, server) = resolver(zone.clone()).await;
    found(&lasting, "sip:bob@example.com").await;
    let first = server.asked();
    assert!(first.contains(&"NAPTR example.com".into()), "{first:?}");
    found(&lasting, "sip:bob@example.com").await;
    assert_eq!(
        server.asked(),
        Vec::<String>::new(),
        "also what is not there"
    );

    let (fleeting, server) = resolver(zone.ttl(0)).await;
    found(&fleeting, "sip:bob@example.com").await;
    server.asked();
    found(&fleeting, "sip:bob@example.com").await;
    assert!(!server.asked().is_empty());
}

#[tokio::test]
async fn what_leads_nowhere_is_told() {
    let zone = Zone::new()
        .srv("_sip._udp.none.example", 0, 0, 0, ".")
        .address("none.example", "192.0.2.1")
        .srv("_sip._udp.lost.example", 0, 0, 5060, "nowhere.example")
        .address("lost.example", "192.0.2.1");
    let (resolver, _server) = resolver(zone).await;
    // RFC 2782: "the service is decidedly not available at this domain", whatever address it has.
    assert_eq!(
        error(&resolver, "sip:bob@none.example").await,
        ResolveError::NotOffered("none.example".into())
    );
    for (uri, name) in [
        ("sip:bob@unknown.example", "unknown.example"),
        ("sip:bob@lost.example", "lost.example"),
    ] {
        assert_eq!(
            error(&resolver, uri).await,
            ResolveError::NotFound(name.into())
        );
    }
}

#[tokio::test]
async fn that_nobody_knows_the_servers_is_not_that_there_are_none() {
    let zone = Zone::new()
        .address("example.com", "192.0.2.1")
        .failing_srv();
    let (resolver, _server) = resolver(zone).await;
    let error = error(&resolver, "sip:bob@example.com").await;
    assert!(matches!(&error, ResolveError::Lookup { .. }), "{error:?}");
}

#[tokio::test]
async fn a_name_server_that_is_silent_is_not_waited_for() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let resolver = DnsResolver::with_servers(&[silent.local_addr().unwrap()])
        .unwrap()
        .with_timeout(Duration::from_millis(100));
    let error = error(&resolver, "sip:bob@example.com").await;
    assert_eq!(error, ResolveError::Timeout("example.com".into()));
}

#[tokio::test]
async fn a_dead_name_server_among_others_costs_nothing() {
    let dead = [
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    ];
    let server = NameServer::of(example()).await;
    let addresses = [
        dead[0].local_addr().unwrap(),
        dead[1].local_addr().unwrap(),
        server.address,
    ];
    let patience = Duration::from_millis(1_400);
    let resolver = DnsResolver::with_servers(&addresses)
        .unwrap()
        .with_timeout(patience);
    assert_eq!(
        found(&resolver, "sip:bob@example.com").await,
        ["TCP 192.0.2.1:5060", "TCP 192.0.2.2:5070"],
        "in less time than one question may take"
    );
}

#[tokio::test]
async fn name_servers_that_are_all_dead_cost_seconds_once() {
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    dead.set_nonblocking(true).unwrap();
    let resolver = DnsResolver::with_servers(&[dead.local_addr().unwrap()]).unwrap();
    let started = Instant::now();
    let first = error(&resolver, "sip:bob@example.com").await;
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    let mut buffer = [0; 512];
    while dead.recv(&mut buffer).is_ok() {}
    let again = error(&resolver.clone(), "sip:alice@example.com").await;
    assert_eq!(again, first);
    assert!(dead.recv(&mut buffer).is_err(), "nobody was asked");
}

#[tokio::test]
async fn a_failure_is_not_asked_for_again_at_once() {
    let zone = Zone::new()
        .srv("_sip._udp.example.com", 0, 0, 5060, "a.example.com")
        .address("example.com", "192.0.2.1")
        .failing_srv()
        .without_naptr();
    let (resolver, server) = resolver(zone).await;
    let first = error(&resolver, "sip:bob@example.com").await;
    assert!(matches!(first, ResolveError::Lookup { .. }), "{first:?}");
    assert!(!server.asked().is_empty());
    assert_eq!(error(&resolver, "sip:bob@example.com").await, first);
    assert_eq!(server.asked(), Vec::<String>::new());
    let direct = found(&resolver, "sip:bob@example.com:5070").await;
    assert_eq!(direct, ["UDP 192.0.2.1:5070"], "another question");
    // The type that this server does not know is not asked for at every name, but only other services.
    let error = error(&resolver, "sips:bob@example.com").await;
    assert!(matches!(error, ResolveError::Lookup { .. }), "{error:?}");
    let asked = server.asked();
    assert!(asked.contains(&"SRV _sips._tcp.example.com".into()));
    assert!(!asked.contains(&"NAPTR example.com".into()), "{asked:?}");
}

#[tokio::test]
async fn the_next_target_is_there_when_the_first_is_dead() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead_port = dead.local_addr().unwrap().port();
    drop(dead);
    let network = || Arc::new(TokioNetwork::new());
    let (server, _in) = Transports::new(network(), TransportConfig::default());
    let alive = server.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let name = "_sip._tcp.example.com";
    let zone = Zone::new()
        .naptr("example.com", 10, "SIP+D2T", name)
        .srv(name, 1, 0, dead_port, "one.example.com")
        .srv(name, 2, 0, alive.port(), "two.example.com")
        .address("one.example.com", "127.0.0.1")
        .address("two.example.com", "127.0.0.1");
    let (resolver, _server) = resolver(zone).await;
    let uri = "sip:bob@example.com".parse().unwrap();
    let destinations = resolver.resolve(&uri).await.unwrap();
    let (client, _in) = Transports::new(network(), TransportConfig::default());
    assert!(client.open(&destinations[0]).await.is_err());
    assert_eq!(client.open(&destinations[1]).await.unwrap().remote, alive);
}
