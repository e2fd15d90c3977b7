//! A machine with several addresses, all of which one socket listens on.

use crate::stage::{Client, Order, Seen, Server, Shared, address, final_of, ip, request, send};
use sipora_message::Method;
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{
    Endpoint, EndpointBuilder, EndpointConfig, Event, IdSource, Target, UserHandle,
};
use sipora_transport::{Flow, Transport};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Begins an endpoint at 192.0.2.1 and 192.0.2.9, of one shard under even seeds, of four under odd ones.
fn wildcard(network: &SimNetwork) -> EndpointBuilder {
    Endpoint::builder()
        .network(Arc::new(network.host_with(&[ip(1), ip(9)])))
        .ids(IdSource::from_number(network.seed()))
        .config(EndpointConfig {
            shards: [1, 4][usize::from(network.seed() % 2 == 1)],
            ..EndpointConfig::default()
        })
        .listen(Transport::Udp, (Ipv4Addr::UNSPECIFIED, 5060).into())
}

/// Begins an endpoint at 192.0.2.2.
fn peer(network: &SimNetwork) -> EndpointBuilder {
    Endpoint::builder()
        .network(Arc::new(network.host(ip(2))))
        .ids(IdSource::from_number(network.seed() + 1_000_000))
        .listen(Transport::Udp, address(2))
}

/// Adds a user that answers, and one that sends.
fn users(builder: &mut EndpointBuilder) -> (Shared<Seen>, UserHandle<Order>) {
    let (mut server, seen) = Server::new(&[Method::Options, Method::Invite]);
    server.invite = Some(486);
    builder.add_user(server);
    (seen, builder.add_user(Client::default()))
}

/// Sends a request and gives the status of its answer.
async fn ask(client: &UserHandle<Order>, method: Method, number: u32, target: Target) -> u16 {
    let (_, mut events) = send(client, request(method, number), target).await;
    final_of(&mut events).await.status().as_u16()
}

fn last_flow(seen: &Shared<Seen>) -> Flow {
    seen.lock().unwrap().flow.unwrap()
}

#[test]
fn answers_and_requests_over_a_flow_leave_from_the_address_that_its_peer_writes_to() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let mut one = wildcard(&network);
        let (seen, client) = users(&mut one);
        let _one = one.build().await.unwrap();
        let mut two = peer(&network);
        let (asked, two_client) = users(&mut two);
        let _two = two.build().await.unwrap();

        let there = || Target::udp(address(9));
        assert_eq!(ask(&two_client, Method::Options, 1, there()).await, 200);
        assert_eq!(ask(&two_client, Method::Invite, 2, there()).await, 486);
        let back = Target::Flow(last_flow(&seen));
        assert_eq!(ask(&client, Method::Options, 3, back.clone()).await, 200);
        assert_eq!(ask(&client, Method::Invite, 4, back).await, 486);
        let (_, received) = asked.lock().unwrap().last.clone().unwrap();
        let via = received.headers().via().unwrap();
        assert_eq!(via.host().ip(), Some(ip(9)));

        for packet in network.packets() {
            let ours = [packet.source, packet.destination].map(|end| end.ip());
            assert!(ours.contains(&ip(9)), "{packet:?}");
        }
    });
}

#[test]
fn a_report_fails_what_was_sent_from_whichever_address() {
    for_each_seed(seeds(), |network| async move {
        let mut one = wildcard(&network);
        let (seen, client) = users(&mut one);
        let _one = one.build().await.unwrap();
        let mut two = peer(&network);
        let (_, two_client) = users(&mut two);
        let two = two.build().await.unwrap();
        let there = Target::udp(address(9));
        assert_eq!(ask(&two_client, Method::Options, 1, there).await, 200);
        two.shutdown().await;

        let back = Target::Flow(last_flow(&seen));
        let (_, mut events) = send(&client, request(Method::Options, 2), back).await;
        let failed = timeout(Duration::from_secs(1), events.recv()).await;
        assert!(
            matches!(failed, Ok(Some(Event::Failed { .. }))),
            "{failed:?}"
        );
    });
}
