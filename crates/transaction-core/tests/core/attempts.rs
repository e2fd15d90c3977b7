//! Several targets (RFC 3263 §4.3) and large requests (RFC 3261 §18.1.1).

use crate::bench::{Bench, OWNER, outgoing, outgoing_of, tcp, udp, udp_flow};
use sipora_message::Method;
use sipora_transaction_core::{Config, Event, OutgoingRequest, RequestError, TransportFailure};
use sipora_transport::Transport;
use std::collections::HashSet;
use std::time::Duration;

#[test]
fn silence_moves_a_request_on_after_4_s_with_another_branch_and_the_same_id() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    let sent = bench.take_sent();
    let to: Vec<_> = sent
        .iter()
        .map(|sent| (sent.at.as_millis(), sent.flow.remote.ip().to_string()))
        .collect();
    let expected = [
        (0, "192.0.2.2"),
        (500, "192.0.2.2"),
        (1_500, "192.0.2.2"),
        (3_500, "192.0.2.2"),
        (4_000, "192.0.2.3"),
    ];
    assert_eq!(to, expected.map(|(at, ip)| (at, ip.to_owned())));
    assert_ne!(sent[0].branch(), sent[4].branch());
    assert_eq!(
        sent[4]
            .request()
            .headers()
            .count(&sipora_message::HeaderName::Via),
        1
    );
    bench.answer(&sent[4], 200);
    let events = bench.take_events();
    let [
        Event::Response {
            request,
            destination,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*request, destination.as_ref()), (id, Some(&udp(3))));
    assert_eq!(bench.metrics().attempts_advanced, 1);
    bench.pass_ms(5_000);
    bench.assert_empty();
}

#[test]
fn the_last_target_is_waited_for() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
    bench.pass_ms(31_999);
    assert!(bench.take_events().is_empty());
    let last = bench.take_sent();
    assert_eq!(last.last().unwrap().flow, udp_flow(3));
    bench.pass_ms(1);
    assert_eq!(bench.statuses(), [0], "one deadline for all attempts");
    bench.assert_empty();
}

#[test]
fn silence_can_be_configured_away_and_timeout_still_moves_on() {
    let config = Config {
        silence: None,
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    let mut request = OutgoingRequest::new(outgoing(Method::Options), udp(2), OWNER);
    request.targets.push(udp(3));
    request.deadline = Some(Duration::from_secs(60));
    bench.layer.send_request(bench.now, request).unwrap();
    bench.settle();
    bench.pass_ms(31_999);
    assert!(
        bench
            .take_sent()
            .iter()
            .all(|sent| sent.flow == udp_flow(2))
    );
    bench.pass_ms(1);
    assert_eq!(bench.one_sent().flow, udp_flow(3));
}

#[test]
fn a_transport_error_moves_a_request_on_at_once() {
    let mut bench = Bench::new();
    bench.refusing.insert(tcp(2));
    bench.unreachable.insert(udp(3).address);
    bench.send(outgoing(Method::Options), &[tcp(2), udp(3), udp(4)]);
    assert_eq!(bench.one_sent().flow, udp_flow(4));
    assert_eq!(bench.metrics().attempts_advanced, 2);
}

#[test]
fn an_unreachable_datagram_moves_its_request_on() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
    bench.take_sent();
    bench
        .layer
        .handle_unreachable(bench.now, udp_flow(2), TransportFailure::Refused);
    bench.settle();
    assert_eq!(bench.one_sent().flow, udp_flow(3));
}

#[test]
fn a_503_moves_a_request_on_and_is_delivered_when_nobody_does_better() {
    let mut bench = Bench::new();
    bench.unreachable.insert(udp(4).address);
    bench.send(outgoing(Method::Options), &[udp(2), udp(3), udp(4)]);
    let first = bench.one_sent();
    bench.answer(&first, 503);
    assert!(bench.take_events().is_empty());
    let second = bench.one_sent();
    assert_eq!(second.flow, udp_flow(3));
    bench.answer(&second, 503);
    assert_eq!(bench.statuses(), [503]);
    bench.assert_empty();
}

#[test]
fn a_503_of_the_only_target_is_delivered() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let first = bench.one_sent();
    bench.answer(&first, 503);
    assert_eq!(bench.statuses(), [503]);
}

#[test]
fn other_answers_do_not_move_a_request_on() {
    for status in [404, 486, 500, 603] {
        let mut bench = Bench::new();
        bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
        let first = bench.one_sent();
        bench.answer(&first, status);
        assert_eq!(bench.statuses(), [status]);
        assert!(bench.take_sent().is_empty());
    }
}

#[test]
fn after_a_provisional_answer_nothing_moves_a_request_on() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
    let first = bench.one_sent();
    bench.answer(&first, 100);
    bench.pass_ms(10_000);
    assert!(
        bench
            .take_sent()
            .iter()
            .all(|sent| sent.flow == udp_flow(2))
    );
    bench.answer(&first, 503);
    assert_eq!(bench.statuses(), [100, 503]);
    assert!(bench.take_sent().is_empty());
}

#[test]
fn after_a_provisional_answer_a_transport_error_ends_the_request() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2), udp(3)]);
    let first = bench.one_sent();
    bench.answer(&first, 100);
    bench
        .layer
        .handle_unreachable(bench.now, udp_flow(2), TransportFailure::Refused);
    bench.settle();
    let events = bench.take_events();
    let expected = RequestError::Transport(TransportFailure::Refused);
    assert!(
        matches!(&events[1..], [Event::Failed { error, .. }] if *error == expected),
        "{events:?}"
    );
    bench.assert_empty();
}

#[test]
fn an_invite_refused_with_503_is_acknowledged_and_tried_elsewhere() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    let first = bench.one_sent();
    bench.answer(&first, 503);
    let sent = bench.take_sent();
    assert!(sent[0].is(Method::Ack) && sent[0].flow == udp_flow(2));
    assert!(sent[1].is(Method::Invite) && sent[1].flow == udp_flow(3));
    // The first target repeats its refusal, and has it acknowledged again.
    bench.answer(&first, 503);
    assert!(bench.one_sent().is(Method::Ack));
    assert!(bench.take_events().is_empty());
}

#[test]
fn an_invite_that_rings_after_it_moved_on_is_cancelled_there() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    let sent = bench.take_sent();
    let (first, second) = (&sent[0], sent.last().unwrap());
    assert_eq!(second.flow, udp_flow(3));
    bench.answer(first, 180);
    let cancel = bench.one_sent();
    assert!(cancel.is(Method::Cancel) && cancel.flow == udp_flow(2));
    assert_eq!(cancel.branch(), first.branch());
    assert!(bench.take_events().is_empty());
    bench.answer(first, 487);
    assert!(bench.one_sent().is(Method::Ack));
    bench.answer(second, 200);
    assert_eq!(bench.statuses(), [200]);
}

#[test]
fn an_invite_accepted_by_an_earlier_target_is_cancelled_at_the_later_one() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    let sent = bench.take_sent();
    let (first, second) = (sent[0].clone(), sent.last().unwrap().clone());
    bench.answer(&second, 180);
    bench.answer(&first, 200);
    assert_eq!(bench.statuses(), [180, 200]);
    let cancel = bench.one_sent();
    assert!(cancel.is(Method::Cancel) && cancel.flow == udp_flow(3));
    bench.answer(&second, 487);
    bench.pass_ms(32_000);
    let events = bench.take_events();
    assert!(
        matches!(events[..], [Event::Ended { request }] if request == id),
        "{events:?}"
    );
    bench.pass_ms(32_000);
    bench.assert_empty();
}

#[test]
fn a_request_over_1300_bytes_goes_over_tcp_instead_of_udp() {
    let mut bench = Bench::new();
    bench.send(outgoing_of(Method::Message, 2_000), &[udp(2)]);
    let sent = bench.one_sent();
    assert_eq!(sent.flow.transport, Transport::Tcp);
    assert_eq!(sent.message.headers().via().unwrap().transport(), "TCP");
    assert_eq!(bench.opened, [udp(2), tcp(2)]);
}

#[test]
fn the_limit_counts_the_whole_request_with_its_via() {
    let size = |body| {
        let mut bench = Bench::new();
        bench.send(outgoing_of(Method::Message, body), &[tcp(2)]);
        bench.one_sent().message.as_bytes().len()
    };
    // The Via of TCP is as long as that of UDP. A body of 900 has three digits of Content-Length, as has the one sought.
    let body = 900 + 1_300 - size(900);
    assert!(body < 1_000, "{body}");
    for (body, transport) in [(body, Transport::Udp), (body + 1, Transport::Tcp)] {
        let mut bench = Bench::new();
        bench.send(outgoing_of(Method::Message, body), &[udp(2)]);
        assert_eq!(bench.one_sent().flow.transport, transport);
    }
}

#[test]
fn a_large_request_goes_over_udp_after_all_when_tcp_is_refused() {
    let mut bench = Bench::new();
    bench.refusing.insert(tcp(2));
    bench.send(outgoing_of(Method::Message, 2_000), &[udp(2), udp(3)]);
    let sent = bench.one_sent();
    assert_eq!(sent.flow, udp_flow(2));
    assert_eq!(sent.message.headers().via().unwrap().transport(), "UDP");
}

#[test]
fn a_large_request_that_tcp_took_is_not_repeated_over_udp() {
    let mut bench = Bench::new();
    bench.send(outgoing_of(Method::Message, 2_000), &[udp(2)]);
    bench.pass_ms(32_000);
    let sent = bench.one_sent();
    assert_eq!(sent.flow.transport, Transport::Tcp);
    assert_eq!(bench.statuses(), [0]);
    bench.assert_empty();
}

#[test]
fn a_connection_that_never_opens_gives_way_to_the_next_target() {
    let mut bench = Bench::new();
    bench.hold = true;
    bench.send(outgoing(Method::Options), &[tcp(2), tcp(3)]);
    bench.hold = false;
    bench.pass_ms(4_000);
    let sent = bench.one_sent();
    assert_eq!(sent.flow.remote, tcp(3).address);
    // Should it open after all, nothing is sent on it.
    bench.release();
    assert!(bench.take_sent().is_empty());
}

#[test]
fn when_every_target_fails_the_last_failure_is_told() {
    let mut bench = Bench::new();
    bench.refusing = HashSet::from([tcp(2), tcp(3)]);
    bench.send(outgoing(Method::Options), &[tcp(2), tcp(3)]);
    let events = bench.take_events();
    let expected = RequestError::Transport(TransportFailure::Refused);
    assert!(
        matches!(&events[..], [Event::Failed { error, .. }] if *error == expected),
        "{events:?}"
    );
    bench.assert_empty();
}

#[test]
fn targets_may_be_found_later_and_the_deadline_runs_meanwhile() {
    let mut bench = Bench::new();
    let mut request = OutgoingRequest::new(outgoing(Method::Options), udp(2), OWNER);
    request.targets.clear();
    let id = bench
        .layer
        .send_request(bench.now, request.clone())
        .unwrap();
    bench.pass_ms(1_000);
    bench.layer.targets_found(bench.now, id, Ok(vec![udp(2)]));
    bench.settle();
    assert_eq!(bench.sent_at(), [1_000]);

    let id = bench
        .layer
        .send_request(bench.now, request.clone())
        .unwrap();
    bench.layer.targets_found(
        bench.now,
        id,
        Err(TransportFailure::Resolve("no such name".into())),
    );
    bench.settle();
    assert!(matches!(
        bench.take_events()[..],
        [Event::Failed {
            error: RequestError::Transport(TransportFailure::Resolve(_)),
            ..
        }]
    ));

    bench.layer.send_request(bench.now, request).unwrap();
    bench.pass_ms(32_000);
    let timeouts = bench.take_events();
    assert!(timeouts.iter().all(|event| matches!(
        event,
        Event::Failed {
            error: RequestError::Timeout,
            ..
        }
    )));
    assert_eq!(timeouts.len(), 2);
    bench.assert_empty();
}

#[test]
fn a_name_without_addresses_fails_the_request() {
    let mut bench = Bench::new();
    let mut request = OutgoingRequest::new(outgoing(Method::Options), udp(2), OWNER);
    request.targets.clear();
    let id = bench.layer.send_request(bench.now, request).unwrap();
    bench.layer.targets_found(bench.now, id, Ok(Vec::new()));
    bench.settle();
    assert!(matches!(
        bench.take_events()[..],
        [Event::Failed {
            error: RequestError::Transport(_),
            ..
        }]
    ));
}

#[test]
fn a_2xx_of_an_earlier_target_is_delivered_even_when_the_request_is_over() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    let sent = bench.take_sent();
    let (first, second) = (sent[0].clone(), sent.last().unwrap().clone());
    bench.answer(&second, 486);
    assert_eq!(bench.statuses(), [486]);
    bench.answer(&first, 200);
    let events = bench.take_events();
    assert!(
        matches!(events[..], [Event::Response { request, .. }] if request == id),
        "{events:?}"
    );
    bench.pass_ms(32_000);
    bench.assert_empty();
}

#[test]
fn a_large_request_that_tcp_refused_with_503_goes_to_the_next_target_over_tcp() {
    let mut bench = Bench::new();
    bench.send(outgoing_of(Method::Message, 2_000), &[udp(2), udp(3)]);
    let first = bench.one_sent();
    bench.answer(&first, 503);
    let second = bench.one_sent();
    assert_eq!(second.flow.transport, Transport::Tcp);
    assert_eq!(second.flow.remote, udp(3).address);
}

#[test]
fn an_invite_that_goes_on_ringing_after_it_moved_on_is_cancelled_once() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    let first = bench.take_sent()[0].clone();
    for _ in 0..3 {
        bench.answer(&first, 180);
    }
    assert!(bench.one_sent().is(Method::Cancel));
}

#[test]
fn a_second_2xx_from_another_target_cancels_nobody_who_has_accepted() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    let sent = bench.take_sent();
    let (first, second) = (sent[0].clone(), sent.last().unwrap().clone());
    bench.answer(&second, 180);
    bench.answer(&first, 200);
    assert!(bench.one_sent().is(Method::Cancel), "the one that rings");
    bench.answer(&second, 200);
    bench.answer(&first, 200);
    assert_eq!(bench.statuses(), [180, 200, 200, 200]);
    // The CANCEL goes on being sent until it is answered; there is no other.
    let cancels = bench.take_sent();
    assert!(cancels.is_empty(), "{cancels:#?}");
    bench.pass_ms(64_000);
    bench.assert_empty();
}

#[test]
fn an_invite_that_rings_after_its_deadline_is_cancelled() {
    let mut bench = Bench::new();
    let mut request = OutgoingRequest::new(outgoing(Method::Invite), udp(2), crate::bench::OWNER);
    request.deadline = Some(Duration::from_millis(2_000));
    bench.layer.send_request(bench.now, request).unwrap();
    bench.settle();
    bench.pass_ms(2_000);
    assert_eq!(bench.statuses(), [0]);
    let first = bench.take_sent().remove(0);
    assert_eq!(bench.metrics().requests, 0);
    bench.pass_ms(2_000);
    assert!(bench.take_sent().is_empty(), "nobody wants it any more");
    bench.answer(&first, 180);
    assert!(bench.one_sent().is(Method::Cancel));
    bench.answer(&first, 487);
    assert!(bench.one_sent().is(Method::Ack));
    assert!(bench.take_events().is_empty());
    bench.pass_ms(64_000);
    bench.assert_empty();
}

#[test]
fn an_invite_that_moved_on_is_not_sent_to_its_earlier_target_again() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    bench.pass_ms(4_000);
    bench.take_sent();
    bench.pass_ms(20_000);
    let sent = bench.take_sent();
    assert!(!sent.is_empty());
    assert!(
        sent.iter().all(|sent| sent.flow == udp_flow(3)),
        "{sent:#?}"
    );
}
