//! The example `forward`, between a client and a server, over a rough network.

#[allow(dead_code)]
#[path = "../../examples/forward.rs"]
mod forward;

use crate::stage::{
    Client, Order, Seen, Server, Shared, address, builder, final_of, pass, request, send,
};
use forward::Forwarder;
use sipora_message::{HeaderName, Method, Response};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{Endpoint, Event, RequestOptions, Target, UserHandle};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

struct Way {
    client: UserHandle<Order>,
    seen: Shared<Seen>,
    /// Client, proxy and server.
    endpoints: [Endpoint; 3],
}

impl Way {
    /// A server that answers INVITE with `invite`, or rings, and a proxy in front of it.
    async fn new(network: &SimNetwork, invite: Option<u16>) -> Self {
        let methods = [Method::Invite, Method::Ack, Method::Options];
        let (mut server, seen) = Server::new(&methods);
        server.invite = invite;
        let mut one = builder(network, 1);
        one.add_user(server);
        let mut proxy = builder(network, 3);
        proxy.add_user(Forwarder::new(address(1)));
        let mut other = builder(network, 2);
        let client = other.add_user(Client::default());
        Self {
            client,
            seen,
            endpoints: [
                other.build().await.unwrap(),
                proxy.build().await.unwrap(),
                one.build().await.unwrap(),
            ],
        }
    }

    async fn send(
        &self,
        method: Method,
        number: u32,
    ) -> (sipora_transaction_core::RequestId, UnboundedReceiver<Event>) {
        send(
            &self.client,
            request(method, number),
            Target::udp(address(3)),
        )
        .await
    }

    /// Every timer is over, and nothing is left anywhere.
    async fn leaves_nothing(&self) {
        pass(70).await;
        for endpoint in &self.endpoints {
            let metrics = endpoint.handle().metrics();
            assert_eq!(metrics.requests, 0, "{metrics:?}");
            assert_eq!(metrics.client_transactions, 0, "{metrics:?}");
            assert_eq!(metrics.server_transactions, 0, "{metrics:?}");
            assert_eq!(metrics.timer_entries, 0, "{metrics:?}");
        }
    }
}

/// One Via is left: ours.
fn status(response: &Response) -> u16 {
    assert_eq!(response.headers().count(&HeaderName::Via), 1);
    response.status().as_u16()
}

#[test]
fn requests_go_on_and_answers_come_back() {
    for_each_seed(seeds(), |network| async move {
        let way = Way::new(&network, None).await;
        network.set_conditions(Conditions::rough());
        let mut all = Vec::new();
        for number in 0..20 {
            all.push(way.send(Method::Options, number).await.1);
        }
        for events in &mut all {
            assert_eq!(status(&final_of(events).await), 200);
        }
        let seen = way.seen.lock().unwrap().offered.clone();
        assert_eq!((seen.len(), seen.values().sum::<u32>()), (20, 20));
        way.leaves_nothing().await;
    });
}

#[test]
fn a_refused_call_is_acknowledged_on_both_ways() {
    for_each_seed(seeds(), |network| async move {
        let way = Way::new(&network, Some(486)).await;
        network.set_conditions(Conditions::rough());
        for number in 0..5 {
            let (_, mut events) = way.send(Method::Invite, number).await;
            assert_eq!(status(&final_of(&mut events).await), 486);
        }
        way.leaves_nothing().await;
        let seen = way.seen.lock().unwrap();
        assert_eq!((seen.acknowledged, seen.not_acknowledged), (5, 0));
    });
}

#[test]
fn an_accepted_call_is_acknowledged_through_the_proxy() {
    for_each_seed(seeds(), |network| async move {
        let way = Way::new(&network, Some(200)).await;
        // The server of this test does not repeat its 200.
        network.set_conditions(Conditions {
            loss: 0.0,
            ..Conditions::rough()
        });
        let (_, mut events) = way.send(Method::Invite, 1).await;
        let accepted = final_of(&mut events).await;
        assert_eq!(status(&accepted), 200);
        let to = accepted.headers().text(&HeaderName::To).unwrap();
        let ack = request(Method::Ack, 1).edit().set(HeaderName::To, to);
        let ack = ack.build().unwrap();
        send(&way.client, ack, Target::udp(address(3))).await;
        way.leaves_nothing().await;
        let seen = way.seen.lock().unwrap();
        let acks = seen.offered.get(&("call-1".to_owned(), Method::Ack));
        assert!(acks.is_some(), "{seen:?}");
    });
}

#[test]
fn a_call_that_is_cancelled_ends_on_both_ways() {
    for_each_seed(seeds(), |network| async move {
        let way = Way::new(&network, None).await;
        network.set_conditions(Conditions::rough());
        let mut all = Vec::new();
        for number in 0..10 {
            let (id, events) = way.send(Method::Invite, number).await;
            let wait = Duration::from_millis(network.random(0..=2_000));
            tokio::time::sleep(wait).await;
            way.client.send(Order::Cancel(id)).await.unwrap();
            all.push(events);
        }
        for events in &mut all {
            assert_eq!(status(&final_of(events).await), 487);
        }
        way.leaves_nothing().await;
        let seen = way.seen.lock().unwrap();
        assert!(seen.cancelled <= 10);
        assert_eq!(seen.cancelled, seen.acknowledged);
    });
}

#[test]
fn a_call_that_rings_for_too_long_is_cancelled_by_timer_c() {
    for_each_seed(seeds(), |network| async move {
        let way = Way::new(&network, None).await;
        network.set_conditions(Conditions::rough());
        let began = tokio::time::Instant::now();
        let (_, mut events) = way.send(Method::Invite, 1).await;
        assert_eq!(status(&final_of(&mut events).await), 487);
        assert!(began.elapsed() >= RequestOptions::TIMER_C);
        assert_eq!(way.endpoints[1].handle().metrics().rang_too_long, 1);
        way.leaves_nothing().await;
    });
}

#[test]
fn a_server_that_is_gone_is_told_to_the_client() {
    for_each_seed(0..3, |network| async move {
        let mut way = Way::new(&network, None).await;
        let [.., server] = &mut way.endpoints;
        let gone = builder(&network, 4).build().await.unwrap();
        std::mem::replace(server, gone).shutdown().await;
        let (_, mut events) = way.send(Method::Invite, 1).await;
        assert_eq!(status(&final_of(&mut events).await), 500);
        way.leaves_nothing().await;
    });
}

#[test]
fn what_may_not_go_on_is_refused_by_the_proxy() {
    for_each_seed(0..1, |network| async move {
        let way = Way::new(&network, None).await;
        let plain = request(Method::Options, 1);
        let hops = plain.edit().set(HeaderName::MaxForwards, 0);
        let extension = plain.edit().append(HeaderName::ProxyRequire, "sec-agree");
        for (edited, expected) in [(hops, 483), (extension, 420)] {
            let edited = edited.build().unwrap();
            let (_, mut events) = send(&way.client, edited, Target::udp(address(3))).await;
            let answer = final_of(&mut events).await;
            assert_eq!(status(&answer), expected);
            let unsupported = answer.headers().text(&HeaderName::Unsupported);
            assert_eq!(unsupported.is_some(), expected == 420);
        }
        assert!(way.seen.lock().unwrap().offered.is_empty());
    });
}
