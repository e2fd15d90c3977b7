//! RFC 3261 §17.1.3, §17.2.3, §18.1.2.

use crate::bench::{Bench, ack, incoming, outgoing, udp, udp_flow};
use sipora_message::{HeaderName, Message, Method, Response, StatusCode};
use sipora_transaction_core::Event;

#[test]
fn a_response_with_a_foreign_branch_sent_by_or_method_is_dropped() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let options = bench.one_sent();
    let good = Response::for_request(options.request(), StatusCode::OK)
        .to_tag("x")
        .build()
        .unwrap();
    let via = good.headers().text(&HeaderName::Via).unwrap().into_owned();
    let bad = [
        good.edit()
            .set(
                HeaderName::Via,
                via.replace("branch=z9hG4bK", "branch=z9hG4bKx"),
            )
            .build()
            .unwrap(),
        good.edit()
            .set(
                HeaderName::Via,
                via.replace("192.0.2.1:5060", "192.0.2.77:5060"),
            )
            .build()
            .unwrap(),
        good.edit()
            .set(
                HeaderName::Via,
                via.replace("192.0.2.1:5060", "192.0.2.1:5061"),
            )
            .build()
            .unwrap(),
        good.edit()
            .set(HeaderName::CSeq, "4711 MESSAGE")
            .build()
            .unwrap(),
    ];
    for response in bad {
        bench.receive(Message::Response(response), udp_flow(2));
    }
    assert!(bench.take_events().is_empty());
    assert_eq!(bench.metrics().responses_unmatched, 4);
    bench.receive(Message::Response(good), udp_flow(2));
    assert_eq!(bench.statuses(), [200]);
}

#[test]
fn a_branch_matches_without_regard_to_case() {
    let mut bench = Bench::new();
    let request = bench
        .receive_request(&incoming("OPTIONS", "z9hG4bKabc"), udp_flow(9))
        .unwrap();
    bench.respond(&request, 200);
    assert!(
        bench
            .receive_request(&incoming("OPTIONS", "Z9HG4BKABC"), udp_flow(9))
            .is_none()
    );
    assert_eq!(bench.take_sent().len(), 2);
}

#[test]
fn branch_sent_by_and_method_each_make_another_transaction() {
    let mut bench = Bench::new();
    let base = incoming("OPTIONS", "z9hG4bKabc");
    assert!(bench.receive_request(&base, udp_flow(9)).is_some());
    for other in [
        base.replace("z9hG4bKabc", "z9hG4bKabd"),
        base.replace("192.0.2.9:5060;", "192.0.2.8:5060;"),
        base.replace("192.0.2.9:5060;", "192.0.2.9:5061;"),
        incoming("MESSAGE", "z9hG4bKabc"),
    ] {
        assert!(
            bench.receive_request(&other, udp_flow(9)).is_some(),
            "{other}"
        );
    }
    assert_eq!(bench.metrics().server_transactions, 5);
}

#[test]
fn a_copy_that_came_another_way_is_still_a_copy() {
    let mut bench = Bench::new();
    let text = incoming("OPTIONS", "z9hG4bKabc");
    assert!(bench.receive_request(&text, udp_flow(9)).is_some());
    assert!(bench.receive_request(&text, udp_flow(10)).is_none());
}

/// RFC 2543 has no magic cookie: the whole request identifies it.
#[test]
fn a_request_without_the_cookie_matches_by_its_fields() {
    for branch in ["1", "z9hG4bK"] {
        let mut bench = Bench::new();
        let base = incoming("OPTIONS", branch);
        let request = bench.receive_request(&base, udp_flow(9)).unwrap();
        bench.respond(&request, 200);
        bench.take_sent();
        assert!(bench.receive_request(&base, udp_flow(9)).is_none());
        assert_eq!(bench.take_sent().len(), 1);
        for other in [
            base.replace("sip:bob@192.0.2.1", "sip:carol@192.0.2.1"),
            base.replace("tag=88sja8x", "tag=another"),
            base.replace("987asjd97y7atg", "another"),
            base.replace("986759", "986760"),
            base.replace("192.0.2.9:5060;", "192.0.2.9:5070;"),
        ] {
            assert!(
                bench.receive_request(&other, udp_flow(9)).is_some(),
                "{other}"
            );
        }
    }
}

#[test]
fn a_request_without_the_cookie_and_with_another_to_tag_is_another_one() {
    let mut bench = Bench::new();
    let base = incoming("INVITE", "1");
    let other = base.replace(
        "To: <sip:bob@example.com>",
        "To: <sip:bob@example.com>;tag=t",
    );
    assert!(bench.receive_request(&base, udp_flow(9)).is_some());
    assert!(bench.receive_request(&other, udp_flow(9)).is_some());
    assert!(bench.receive_request(&base, udp_flow(9)).is_none());
    assert!(bench.receive_request(&other, udp_flow(9)).is_none());
}

#[test]
fn an_ack_without_the_cookie_matches_by_the_to_tag_of_our_answer() {
    let mut bench = Bench::new();
    let request = bench
        .receive_request(&incoming("INVITE", "1"), udp_flow(9))
        .unwrap();
    bench.respond(&request, 486);
    assert!(
        bench
            .receive_request(&ack("1", "stranger"), udp_flow(9))
            .is_some(),
        "not ours: to the users"
    );
    assert!(bench.take_events().is_empty());
    assert!(
        bench
            .receive_request(&ack("1", "our-tag"), udp_flow(9))
            .is_none()
    );
    assert!(matches!(
        bench.take_events()[..],
        [Event::Acknowledged { .. }]
    ));
}

/// RFC 6026 §6.
#[test]
fn an_ack_without_the_cookie_goes_up_when_the_invite_was_accepted() {
    let mut bench = Bench::new();
    let request = bench
        .receive_request(&incoming("INVITE", "1"), udp_flow(9))
        .unwrap();
    bench.respond(&request, 200);
    let ack = bench
        .receive_request(&ack("1", "our-tag"), udp_flow(9))
        .unwrap();
    assert_eq!(ack.request.method(), &Method::Ack);
}

#[test]
fn a_response_that_fails_its_check_is_dropped_and_the_request_goes_on() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let options = bench.one_sent();
    let good = Response::for_request(options.request(), StatusCode::OK)
        .to_tag("x")
        .build()
        .unwrap();
    let bad = good.edit().remove(&HeaderName::CallId).build().unwrap();
    bench.receive(Message::Response(bad), udp_flow(2));
    assert!(bench.take_events().is_empty());
    bench.answer(&options, 200);
    assert_eq!(bench.statuses(), [200]);
}
