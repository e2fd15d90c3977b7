//! Who is asked about a request, and what is answered when nobody takes it (RFC 3261 §8.2).

use crate::stage::{Client, Server, address, builder, final_of, pass, request, send};
use sipora_message::{HeaderName, Method, Request, Response};
use sipora_testkit::audit::Rule;
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::Target;

/// Sends one request to an endpoint with a server for MESSAGE.
async fn answer_to(network: &SimNetwork, request: Request) -> Response {
    let mut one = builder(network, 1);
    one.add_user(Server::new(&[Method::Message]).0);
    one.add_user(Server::new(&[Method::Message, Method::Publish]).0);
    let _one = one.build().await.unwrap();
    let mut other = builder(network, 2);
    let client = other.add_user(Client::default());
    let _other = other.build().await.unwrap();
    let (_, mut events) = send(&client, request, Target::udp(address(1))).await;
    final_of(&mut events).await
}

#[test]
fn users_are_asked_in_order_until_one_takes_the_request() {
    for_each_seed(0..1, |network| async move {
        let (first, seen_first) = Server::new(&[Method::Message]);
        let (second, seen_second) = Server::new(&[Method::Message, Method::Options]);
        let mut one = builder(&network, 1);
        one.add_user(first);
        one.add_user(second);
        let _one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();
        for method in [Method::Message, Method::Options] {
            let (_, mut events) = send(&client, request(method, 1), Target::udp(address(1))).await;
            assert_eq!(final_of(&mut events).await.status().as_u16(), 200);
        }
        let methods = |seen: &crate::stage::Shared<crate::stage::Seen>| -> Vec<Method> {
            seen.lock()
                .unwrap()
                .offered
                .keys()
                .map(|(_, method)| method.clone())
                .collect()
        };
        assert_eq!(methods(&seen_first), [Method::Message]);
        assert_eq!(methods(&seen_second), [Method::Options]);
    });
}

#[test]
fn a_known_method_that_nobody_takes_gets_405_with_what_is_allowed() {
    for_each_seed(0..1, |network| async move {
        let response = answer_to(&network, request(Method::Register, 1)).await;
        assert_eq!(response.status().as_u16(), 405);
        assert_eq!(
            response.headers().text(&HeaderName::Allow).unwrap(),
            "MESSAGE, PUBLISH"
        );
        assert!(response.headers().to().unwrap().tag().is_some());
    });
}

#[test]
fn an_unknown_method_gets_501() {
    for_each_seed(0..1, |network| async move {
        let response = answer_to(&network, request(Method::Other("NEWMETHOD".into()), 1)).await;
        assert_eq!(response.status().as_u16(), 501);
    });
}

#[test]
fn an_unknown_scheme_gets_416() {
    for_each_seed(0..1, |network| async move {
        let uri = sipora_message::Uri::parse("urn:service:sos").unwrap();
        let request = request(Method::Options, 1)
            .edit()
            .uri(&uri)
            .build()
            .unwrap();
        assert_eq!(answer_to(&network, request).await.status().as_u16(), 416);
    });
}

/// RFC 3261 §15.1.2, RFC 3262 §3: what stands in a dialog alone finds none.
#[test]
fn a_method_that_is_allowed_in_dialogs_alone_gets_481_outside() {
    let bye = request(Method::Bye, 1);
    let status = |allow: &[Method]| {
        let answer = sipora_transaction_core::default_answer(&bye, allow);
        let answer = answer.unwrap().to_tag("t").build().unwrap();
        answer.status().as_u16()
    };
    assert_eq!(status(&[Method::Bye, Method::Options]), 481);
    assert_eq!(status(&[Method::Options]), 405);
}

#[test]
fn a_required_extension_gets_420_naming_it() {
    for_each_seed(0..1, |network| async move {
        let request = request(Method::Options, 1)
            .edit()
            .append(HeaderName::Require, "foo, bar")
            .build()
            .unwrap();
        let response = answer_to(&network, request).await;
        assert_eq!(response.status().as_u16(), 420);
        assert_eq!(
            response.headers().text(&HeaderName::Unsupported).unwrap(),
            "foo, bar"
        );
    });
}

#[test]
fn a_request_of_a_dialog_that_is_not_there_gets_481() {
    for_each_seed(0..1, |network| async move {
        network.auditor().waive(Rule::Dialog);
        let request = request(Method::Bye, 1)
            .edit()
            .set(HeaderName::To, "<sip:bob@example.com>;tag=1")
            .build()
            .unwrap();
        let response = answer_to(&network, request).await;
        assert_eq!(response.status().as_u16(), 481);
        assert_eq!(response.headers().to().unwrap().tag(), Some("1"));
    });
}

/// Sends one request by two ways and gives the statuses, sorted, and how often a server saw it.
async fn by_two_ways(
    network: &SimNetwork,
    method: Method,
    refuses_merged: bool,
) -> (Vec<u16>, u32) {
    let (mut server, seen) = Server::new(&[Method::Invite, Method::Message]);
    server.refuses_merged = refuses_merged;
    server.invite = Some(486);
    let mut one = builder(network, 1);
    one.add_user(server);
    let one = one.build().await.unwrap();
    let mut other = builder(network, 2);
    let client = other.add_user(Client::default());
    let _other = other.build().await.unwrap();
    // Without loss, so that one way is not over before the other begins: then nothing is merged (§8.2.2.2).
    network.set_conditions(Conditions {
        loss: 0.0,
        ..Conditions::rough()
    });
    let mut ways = Vec::new();
    for _ in 0..2 {
        let (_, events) = send(&client, request(method.clone(), 1), Target::udp(address(1))).await;
        ways.push(events);
    }
    let mut statuses = Vec::new();
    for events in &mut ways {
        statuses.push(final_of(events).await.status().as_u16());
    }
    pass(70).await;
    let metrics = one.handle().metrics();
    assert_eq!((metrics.server_transactions, metrics.origins), (0, 0));
    assert_eq!(metrics.merged, u64::from(refuses_merged));
    statuses.sort_unstable();
    let offered = seen.lock().unwrap().offered.values().sum();
    (statuses, offered)
}

#[test]
fn a_user_agent_gets_a_request_once_though_it_came_by_two_ways_and_the_other_is_482() {
    for_each_seed(seeds(), |network| async move {
        let outcome = by_two_ways(&network, Method::Message, true).await;
        assert_eq!(outcome, (vec![200, 482], 1));
    });
    for_each_seed(seeds(), |network| async move {
        let outcome = by_two_ways(&network, Method::Invite, true).await;
        assert_eq!(outcome, (vec![482, 486], 1));
    });
}

#[test]
fn a_proxy_gets_a_request_as_often_as_it_comes() {
    for_each_seed(seeds(), |network| async move {
        let outcome = by_two_ways(&network, Method::Message, false).await;
        assert_eq!(outcome, (vec![200, 200], 2));
    });
}
