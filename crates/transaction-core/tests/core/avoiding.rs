//! Targets that failed are tried after the others for a while.

use crate::bench::{Bench, OWNER, outgoing, outgoing_of, tcp, udp, udp_flow};
use sipora_message::{HeaderName, Method, Response, StatusCode};
use sipora_transaction_core::{Config, OutgoingRequest, TransportFailure};
use sipora_transport::{Destination, Transport};
use std::time::Duration;

/// Sends a request and tells where it went first.
fn first_of(bench: &mut Bench, targets: &[Destination]) -> Destination {
    bench.take_sent();
    bench.opened.clear();
    bench.send(outgoing(Method::Options), targets);
    bench.opened[0].clone()
}

/// The first target is silent, and the request is answered by the second.
fn with_a_silent_target() -> Bench {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    let last = bench.take_sent().pop().unwrap();
    bench.answer(&last, 200);
    bench
}

#[test]
fn a_silent_target_is_passed_over_for_30_s() {
    let mut bench = with_a_silent_target();
    assert_eq!(bench.metrics().targets_avoided, 1);
    bench.pass_ms(29_999);
    assert_eq!(first_of(&mut bench, &[udp(2), udp(3)]), udp(3));
    assert_eq!(bench.metrics().targets_passed_over, 1);
    bench.pass_ms(1);
    assert_eq!(first_of(&mut bench, &[udp(2), udp(3)]), udp(2));
}

#[test]
fn a_target_that_is_avoided_is_still_the_last_resort() {
    let mut bench = with_a_silent_target();
    assert_eq!(first_of(&mut bench, &[udp(2)]), udp(2));
    bench.unreachable.insert(udp(3).address);
    assert_eq!(first_of(&mut bench, &[udp(2), udp(3)]), udp(3));
    assert_eq!(bench.one_sent().flow, udp_flow(2));
}

#[test]
fn an_answer_ends_it() {
    for status in [100, 200, 404] {
        let mut bench = with_a_silent_target();
        bench.send(outgoing(Method::Options), &[udp(2)]);
        let sent = bench.take_sent().pop().unwrap();
        bench.answer(&sent, status);
        assert_eq!(first_of(&mut bench, &[udp(2), udp(3)]), udp(2), "{status}");
    }
}

#[test]
fn refused_connections_unreachable_peers_and_503_are_failures_and_other_refusals_are_not() {
    let mut bench = Bench::new();
    bench.refusing.insert(tcp(2));
    bench.send(outgoing(Method::Options), &[tcp(2)]);
    assert_eq!(first_of(&mut bench, &[tcp(2), tcp(3)]), tcp(3));

    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    bench
        .layer
        .handle_unreachable(bench.now, udp_flow(2), TransportFailure::Refused);
    bench.settle();
    assert_eq!(first_of(&mut bench, &[udp(2), udp(3)]), udp(3));

    for (status, first) in [(503, udp(3)), (500, udp(2)), (404, udp(2))] {
        let mut bench = Bench::new();
        bench.send(outgoing(Method::Options), &[udp(2)]);
        let sent = bench.one_sent();
        bench.answer(&sent, status);
        assert_eq!(first_of(&mut bench, &[udp(2), udp(3)]), first, "{status}");
    }
}

#[test]
fn a_connection_that_ends_once_all_is_answered_is_no_failure() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[tcp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 200);
    bench.layer.handle_flow_closed(bench.now, invite.flow.id);
    bench.settle();
    assert_eq!(bench.metrics().targets_avoided, 0);
}

#[test]
fn a_503_is_heeded_for_as_long_as_it_says_up_to_an_hour() {
    for (retry_after, seconds) in [("5", 30), ("120", 120), ("86400", 3_600), ("soon", 30)] {
        let mut bench = Bench::new();
        bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
        let sent = bench.one_sent();
        let refusal = Response::for_request(sent.request(), StatusCode::SERVICE_UNAVAILABLE)
            .to_tag("theirs")
            .header(HeaderName::RetryAfter, retry_after)
            .build()
            .unwrap();
        bench.receive(refusal.into(), sent.flow);
        let second = bench.one_sent();
        assert_eq!(second.flow, udp_flow(3));
        bench.answer(&second, 200);
        bench.pass_ms(seconds * 1_000 - 1);
        assert_eq!(
            first_of(&mut bench, &[udp(2), udp(3)]),
            udp(3),
            "{retry_after}"
        );
        bench.pass_ms(1);
        assert_eq!(
            first_of(&mut bench, &[udp(2), udp(3)]),
            udp(2),
            "{retry_after}"
        );
    }
}

#[test]
fn targets_that_are_found_later_are_sorted_too() {
    let mut bench = with_a_silent_target();
    bench.opened.clear();
    let mut request = OutgoingRequest::new(outgoing(Method::Options), udp(2), OWNER);
    request.targets.clear();
    let id = bench.layer.send_request(bench.now, request).unwrap();
    bench
        .layer
        .targets_found(bench.now, id, Ok(vec![udp(2), udp(3), udp(4)]));
    bench.settle();
    assert_eq!(bench.opened, [udp(3)]);
}

#[test]
fn a_large_request_does_not_wait_again_for_tcp_that_could_not_be_had() {
    let mut bench = Bench::new();
    bench.refusing.insert(tcp(2));
    for _ in 0..2 {
        bench.send(outgoing_of(Method::Message, 2_000), &[udp(2)]);
        assert_eq!(bench.one_sent().flow.transport, Transport::Udp);
    }
    let tried = bench.opened.iter().filter(|target| **target == tcp(2));
    assert_eq!(tried.count(), 1);
    bench.refusing.clear();
    bench.pass_ms(30_000);
    bench.take_sent();
    bench.send(outgoing_of(Method::Message, 2_000), &[udp(2)]);
    assert_eq!(bench.one_sent().flow.transport, Transport::Tcp);
}

#[test]
fn it_can_be_made_longer_and_configured_away() {
    for (avoid, first) in [(None, udp(2)), (Some(Duration::from_secs(60)), udp(3))] {
        let config = Config {
            avoid,
            ..Config::default()
        };
        let mut bench = Bench::with(config);
        bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
        bench.pass_ms(4_000);
        let last = bench.take_sent().pop().unwrap();
        bench.answer(&last, 200);
        bench.pass_ms(59_000);
        assert_eq!(first_of(&mut bench, &[udp(2), udp(3)]), first);
    }
}

#[test]
fn one_deadline_counts_for_all_targets_together() {
    let mut bench = Bench::new();
    let mut request = OutgoingRequest::new(outgoing(Method::Options), udp(2), OWNER);
    request.targets = vec![udp(2), udp(3), udp(4)];
    request.deadline = Some(Duration::from_secs(6));
    bench.layer.send_request(bench.now, request).unwrap();
    bench.settle();
    bench.pass_ms(5_999);
    assert!(bench.take_events().is_empty());
    bench.pass_ms(1);
    assert_eq!(bench.statuses(), [0]);
    assert!(
        bench
            .take_sent()
            .iter()
            .all(|sent| sent.flow != udp_flow(4))
    );
    bench.pass_ms(40_000);
    bench.assert_empty();
}

#[test]
fn cancel_follows_an_invite_to_its_present_target() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    let second = bench.take_sent().pop().unwrap();
    assert_eq!(second.flow, udp_flow(3));
    bench.answer(&second, 180);
    bench.layer.cancel(bench.now, id);
    bench.settle();
    let cancel = bench.one_sent();
    assert!(cancel.is(Method::Cancel) && cancel.flow == udp_flow(3));
    assert_eq!(cancel.branch(), second.branch());
}
