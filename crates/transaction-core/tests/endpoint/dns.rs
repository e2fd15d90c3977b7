//! Location by a name server on the loopback interface.

use crate::name_server::{NameServer, Zone};
use crate::stage::{Client, Server, final_of, request, send};
use sipora_message::Method;
use sipora_transaction_core::{Endpoint, EndpointConfig, Event, RequestError, Target};
use sipora_transport::{DnsResolver, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};

#[tokio::test]
async fn a_request_goes_on_to_the_second_server_when_the_first_is_dead() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let dead = TcpListener::bind(any).await.unwrap();
    let dead_port = dead.local_addr().unwrap().port();
    drop(dead);
    let mut server = Endpoint::builder().listen(Transport::Tcp, any);
    let (user, seen) = Server::new(&[Method::Options]);
    server.add_user(user);
    let server = server.build().await.unwrap();
    let alive = server.local_addresses()[0].1.port();

    let service = "_sip._tcp.example.com";
    let zone = Zone::new()
        .naptr("example.com", 10, "SIP+D2T", service)
        .srv(service, 1, 0, dead_port, "one.example.com")
        .srv(service, 2, 0, alive, "two.example.com")
        .address("one.example.com", "127.0.0.1")
        .address("two.example.com", "127.0.0.1");
    let names = NameServer::of(zone).await;
    let resolver = DnsResolver::with_servers(&[names.address]).unwrap();
    let mut client = Endpoint::builder()
        .listen(Transport::Tcp, any)
        .resolver(Arc::new(resolver));
    let handle = client.add_user(Client::default());
    let _client = client.build().await.unwrap();
    let target = Target::Uri("sip:bob@example.com".parse().unwrap());
    let (_, mut events) = send(&handle, request(Method::Options, 1), target).await;
    assert_eq!(final_of(&mut events).await.status().as_u16(), 200);
    assert_eq!(seen.lock().unwrap().offered.len(), 1);
}

#[tokio::test]
async fn the_deadline_of_a_request_is_that_of_its_lookup_too() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let dead = UdpSocket::bind(any).await.unwrap();
    let resolver = DnsResolver::with_servers(&[dead.local_addr().unwrap()]).unwrap();
    let mut client = Endpoint::builder()
        .listen(Transport::Udp, any)
        .resolver(Arc::new(resolver));
    let mut config = EndpointConfig::default();
    // 64 * T1 is less than a second, and than any answer takes that does not come.
    config.transactions.timers.t1 = Duration::from_millis(10);
    client = client.config(config);
    let handle = client.add_user(Client::default());
    let _client = client.build().await.unwrap();
    let target = Target::Uri("sip:bob@example.com".parse().unwrap());
    let (_, mut events) = send(&handle, request(Method::Options, 1), target).await;
    let event = events.recv().await.unwrap();
    assert!(
        matches!(
            &event,
            Event::Failed {
                error: RequestError::Timeout,
                ..
            }
        ),
        "{event:?}"
    );
}
