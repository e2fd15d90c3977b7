//! RFC 3261 §17.1.2.

use crate::bench::{Bench, outgoing, tcp, tcp_flow, udp};
use sipora_message::Method;
use sipora_transaction_core::{Event, OutgoingRequest, RequestError, SendError};
use std::time::Duration;

#[test]
fn an_unanswered_request_is_repeated_with_doubling_intervals_up_to_t2() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    bench.pass_ms(32_000);
    let expected = [
        0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    assert_eq!(bench.sent_at(), expected);
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
    assert_eq!(bench.metrics().timeouts, 1);
    bench.assert_empty();
}

#[test]
fn a_request_is_sent_once_over_tcp() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[tcp(2)]);
    bench.pass_ms(32_000);
    assert_eq!(bench.sent_at(), [0]);
    assert_eq!(bench.statuses(), [0]);
    bench.assert_empty();
}

#[test]
fn after_a_provisional_answer_it_is_repeated_every_t2_and_still_times_out() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let options = bench.one_sent();
    bench.pass_ms(100);
    bench.answer(&options, 100);
    bench.pass_ms(31_900);
    assert_eq!(
        bench.sent_at(),
        [500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500]
    );
    assert_eq!(bench.statuses(), [100, 0]);
    bench.assert_empty();
}

#[test]
fn the_final_answer_is_delivered_once_and_its_copies_are_absorbed_for_t4() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let options = bench.one_sent();
    bench.answer(&options, 200);
    bench.answer(&options, 200);
    bench.answer(&options, 404);
    assert_eq!(bench.statuses(), [200]);
    bench.pass_ms(4_999);
    assert_eq!(bench.metrics().client_transactions, 1);
    bench.pass_ms(1);
    bench.assert_empty();
    assert!(bench.take_sent().is_empty());
    assert_eq!(bench.metrics().responses_unmatched, 0);
    bench.answer(&options, 200);
    assert_eq!(bench.metrics().responses_unmatched, 1);
}

#[test]
fn over_tcp_nothing_is_kept_after_the_final_answer() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[tcp(2)]);
    let options = bench.one_sent();
    bench.answer(&options, 404);
    assert_eq!(bench.statuses(), [404]);
    bench.assert_empty();
}

#[test]
fn an_error_while_it_is_repeated_ends_the_request() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    bench.unreachable.insert(udp(2).address);
    bench.pass_ms(500);
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
fn a_closed_connection_ends_the_requests_that_wait_on_it() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[tcp(2)]);
    bench.send(outgoing(Method::Options), &[udp(2)]);
    bench.layer.handle_flow_closed(bench.now, tcp_flow(2).id);
    bench.settle();
    assert_eq!(bench.statuses(), [0]);
    assert_eq!(bench.metrics().requests, 1);
}

#[test]
fn a_shorter_deadline_ends_it_sooner_and_says_timeout() {
    let mut bench = Bench::new();
    let mut request = OutgoingRequest::new(outgoing(Method::Options), udp(2), crate::bench::OWNER);
    request.deadline = Some(Duration::from_millis(1_000));
    bench.layer.send_request(bench.now, request).unwrap();
    bench.settle();
    bench.pass_ms(1_000);
    assert_eq!(bench.sent_at(), [0, 500]);
    assert!(matches!(
        bench.take_events()[..],
        [Event::Failed {
            error: RequestError::Timeout,
            ..
        }]
    ));
    bench.assert_empty();
}

#[test]
fn the_via_names_transport_sent_by_branch_and_rport() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[tcp(2)]);
    let sent = bench.one_sent();
    let via = sent
        .message
        .headers()
        .text(&sipora_message::HeaderName::Via)
        .unwrap()
        .into_owned();
    assert_eq!(
        via,
        format!("SIP/2.0/TCP 192.0.2.1:5060;branch={};rport", sent.branch())
    );
    assert!(sent.branch().starts_with("z9hG4bK"));
}

#[test]
fn a_cancel_cannot_be_sent_as_a_request() {
    let mut bench = Bench::new();
    let request = OutgoingRequest::new(outgoing(Method::Cancel), udp(2), crate::bench::OWNER);
    assert_eq!(
        bench.layer.send_request(bench.now, request),
        Err(SendError::CancelRefused)
    );
}

#[test]
fn a_late_copy_of_the_answer_is_dropped_after_timer_k() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let sent = bench.one_sent();
    bench.answer(&sent, 200);
    bench.pass_ms(5_000);
    bench.answer(&sent, 200);
    assert_eq!(bench.statuses(), [200]);
    assert_eq!(bench.metrics().responses_unmatched, 1);
    bench.assert_empty();
}

#[test]
fn a_second_final_answer_is_never_delivered() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let sent = bench.one_sent();
    bench.answer(&sent, 200);
    bench.answer(&sent, 500);
    bench.answer(&sent, 100);
    assert_eq!(bench.statuses(), [200]);
}
