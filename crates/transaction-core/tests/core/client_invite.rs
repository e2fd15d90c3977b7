//! RFC 3261 §17.1.1, RFC 6026 §8.4.

use crate::bench::{Bench, outgoing, parse, tcp, udp, udp_flow};
use sipora_message::{HeaderName, Message, Method, Request, Response, StatusCode};
use sipora_transaction_core::{Config, Event, RequestError, Timers};
use std::time::Duration;

#[test]
fn an_unanswered_invite_is_sent_seven_times_over_udp_and_fails_after_64_t1() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    bench.pass_ms(31_999);
    assert_eq!(
        bench.sent_at(),
        [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]
    );
    assert!(bench.take_events().is_empty());
    bench.pass_ms(1);
    let events = bench.take_events();
    assert!(
        matches!(
            events[..],
            [Event::Failed {
                error: RequestError::Timeout,
                ..
            }]
        ),
        "{events:?}"
    );
    bench.assert_empty();
}

#[test]
fn retransmissions_are_identical() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    bench.pass_ms(4_000);
    let sent = bench.take_sent();
    assert_eq!(sent.len(), 4);
    assert!(
        sent.iter()
            .all(|one| one.message.as_bytes() == sent[0].message.as_bytes())
    );
}

#[test]
fn an_invite_is_sent_once_over_tcp_and_fails_after_64_t1() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[tcp(2)]);
    bench.pass_ms(32_000);
    assert_eq!(bench.sent_at(), [0]);
    assert_eq!(bench.statuses(), [0]);
    bench.assert_empty();
}

#[test]
fn timers_follow_the_t1_of_this_endpoint() {
    let config = Config {
        timers: Timers {
            t1: Duration::from_millis(100),
            ..Timers::default()
        },
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    bench.pass_ms(6_400);
    assert_eq!(bench.sent_at(), [0, 100, 300, 700, 1_500, 3_100, 6_300]);
    assert_eq!(bench.statuses(), [0]);
}

#[test]
fn a_provisional_answer_ends_retransmission_and_the_deadline() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.answer(&invite, 183);
    bench.pass(Duration::from_secs(600));
    assert!(bench.take_sent().is_empty());
    assert_eq!(bench.statuses(), [180, 183]);
    bench.answer(&invite, 200);
    assert_eq!(bench.statuses(), [200]);
}

#[test]
fn a_refusal_is_acknowledged_as_often_as_it_comes_and_delivered_once() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    for _ in 0..3 {
        bench.answer(&invite, 486);
        bench.pass_ms(1_000);
    }
    let sent = bench.take_sent();
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter()
            .all(|ack| ack.is(Method::Ack) && ack.flow == invite.flow)
    );
    assert_eq!(bench.statuses(), [486]);
    bench.assert_no_request_but_client();
}

#[test]
fn the_ack_of_a_refusal_repeats_the_via_and_routes_of_the_invite_and_the_to_of_the_answer() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    // What the response carries as Via (stamped, or worse) is not what the ACK repeats.
    let response = Response::for_request(invite.request(), StatusCode::BUSY_HERE)
        .to_tag("xyz")
        .build()
        .unwrap();
    let via = format!(
        "{};received=203.0.113.5",
        response.headers().text(&HeaderName::Via).unwrap()
    );
    let response = response.edit().set(HeaderName::Via, via).build().unwrap();
    bench.receive(Message::Response(response), udp_flow(2));

    let ack = bench.one_sent();
    let (invite, ack) = (invite.request(), ack.request());
    let values = |request: &Request, name: &HeaderName| -> Vec<Vec<u8>> {
        request.headers().all(name).map(<[u8]>::to_vec).collect()
    };
    assert_eq!(ack.method(), &Method::Ack);
    assert_eq!(ack.uri_text(), invite.uri_text());
    for name in [
        HeaderName::Via,
        HeaderName::From,
        HeaderName::CallId,
        HeaderName::Route,
    ] {
        assert_eq!(values(ack, &name), values(invite, &name), "{name:?}");
    }
    assert_eq!(ack.headers().count(&HeaderName::Via), 1);
    assert_eq!(ack.headers().to().unwrap().tag(), Some("xyz"));
    let cseq = ack.headers().cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (4711, Method::Ack));
    assert!(ack.body().is_empty());
}

#[test]
fn timer_d_keeps_the_transaction_for_32_s_over_udp() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 404);
    bench.take_sent();
    bench.pass_ms(31_999);
    bench.answer(&invite, 404);
    assert!(bench.one_sent().is(Method::Ack));
    bench.pass_ms(1);
    bench.assert_empty();
    bench.answer(&invite, 404);
    assert!(bench.take_sent().is_empty());
}

#[test]
fn a_refusal_over_tcp_is_acknowledged_and_nothing_is_kept() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[tcp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 404);
    assert!(bench.one_sent().is(Method::Ack));
    assert_eq!(bench.statuses(), [404]);
    bench.assert_empty();
}

#[test]
fn every_2xx_is_delivered_for_64_t1_and_none_is_acknowledged_here() {
    for target in [udp(2), tcp(2)] {
        let mut bench = Bench::new();
        let id = bench.send(outgoing(Method::Invite), &[target]);
        let invite = bench.one_sent();
        bench.answer(&invite, 180);
        bench.answer_with(&invite, 200, "one");
        bench.pass_ms(31_000);
        bench.answer_with(&invite, 200, "other");
        assert_eq!(bench.statuses(), [180, 200, 200]);
        bench.pass_ms(1_000);
        assert!(matches!(bench.take_events()[..], [Event::Ended { request }] if request == id));
        bench.answer_with(&invite, 200, "late");
        assert!(bench.take_events().is_empty());
        assert!(bench.take_sent().is_empty());
        bench.assert_empty();
    }
}

#[test]
fn a_refusal_after_a_2xx_is_ignored() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 200);
    bench.answer(&invite, 486);
    assert_eq!(bench.statuses(), [200]);
    assert!(bench.take_sent().is_empty());
}

#[test]
fn a_provisional_answer_after_the_final_one_is_ignored() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 486);
    bench.take_sent();
    bench.answer(&invite, 180);
    assert_eq!(bench.statuses(), [486]);
    assert!(bench.take_sent().is_empty());
}

#[test]
fn a_transport_error_ends_the_request_at_once() {
    let mut bench = Bench::new();
    bench.unreachable.insert(udp(2).address);
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let events = bench.take_events();
    assert!(
        matches!(
            events[..],
            [Event::Failed {
                error: RequestError::Transport(_),
                ..
            }]
        ),
        "{events:?}"
    );
    bench.assert_empty();
}

#[test]
fn an_ack_for_a_2xx_is_sent_once_with_a_branch_of_its_own_and_forgotten() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 200);
    bench.send(outgoing(Method::Ack), &[udp(2)]);
    let ack = bench.one_sent();
    assert!(ack.is(Method::Ack));
    assert_ne!(ack.branch(), invite.branch());
    bench.pass_ms(60_000);
    assert!(bench.take_sent().is_empty());
    bench.assert_empty();
}

impl Bench {
    fn assert_no_request_but_client(&self) {
        assert_eq!(self.metrics().requests, 0);
        assert_eq!(self.metrics().client_transactions, 1);
    }
}

#[test]
fn a_refusal_is_acknowledged_however_its_to_is_written() {
    for to in [
        "<sip:bob@example.com>\r\n\t;tag=x",
        "\"B\u{f6}b\" <sip:bob@example.com>;tag=x",
    ] {
        let mut bench = Bench::new();
        bench.send(outgoing(Method::Invite), &[udp(2)]);
        let invite = bench.one_sent();
        let headers = invite.request().headers();
        let via = headers.text(&HeaderName::Via).unwrap();
        let from = headers.text(&HeaderName::From).unwrap();
        let call_id = headers.call_id().unwrap();
        let refusal = format!(
            "SIP/2.0 486 Busy\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\r\n"
        );
        bench.receive(parse(&refusal), udp_flow(2));
        let ack = bench.one_sent();
        assert!(ack.is(Method::Ack), "{to:?}");
    }
}

#[test]
fn each_refusal_is_acknowledged_with_its_own_to_tag() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    for tag in ["one", "other"] {
        bench.answer_with(&invite, 486, tag);
        let ack = bench.one_sent();
        assert!(ack.is(Method::Ack));
        assert_eq!(ack.message.headers().to().unwrap().tag(), Some(tag));
    }
    assert_eq!(bench.statuses(), [486]);
}

#[test]
fn an_invite_goes_on_ringing_when_its_connection_ends_and_takes_the_answer_over_another() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[tcp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.layer.handle_flow_closed(bench.now, invite.flow.id);
    bench.settle();
    let mut later = invite.clone();
    later.flow.id = sipora_transport::FlowId::from_u64(101);
    bench.answer(&later, 200);
    assert_eq!(bench.statuses(), [180, 200]);
}

#[test]
fn the_ack_of_a_refusal_that_cannot_be_sent_ends_the_transaction() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.unreachable.insert(invite.flow.remote);
    bench.answer(&invite, 486);
    assert_eq!(bench.statuses(), [486]);
    bench.assert_empty();
}
