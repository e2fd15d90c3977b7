//! RFC 3261 §17.2.1, RFC 6026 §8.5 and §8.6.

use crate::bench::{Bench, ack, incoming, tcp_flow, udp_flow};
use sipora_message::{HeaderName, Method, StatusCode};
use sipora_transaction_core::Event;
use std::time::Duration;

const BRANCH: &str = "z9hG4bK-1";

fn invite() -> String {
    incoming("INVITE", BRANCH)
}

#[test]
fn trying_is_sent_after_200_ms_of_silence_and_repeats_for_copies() {
    let mut bench = Bench::new();
    assert!(bench.receive_request(&invite(), udp_flow(9)).is_some());
    bench.pass_ms(199);
    assert!(bench.receive_request(&invite(), udp_flow(9)).is_none());
    assert!(bench.take_sent().is_empty());
    bench.pass_ms(1);
    let trying = bench.one_sent();
    assert_eq!(trying.response().status(), StatusCode::TRYING);
    assert_eq!(trying.response().headers().to().unwrap().tag(), None);
    assert!(bench.receive_request(&invite(), udp_flow(9)).is_none());
    assert_eq!(
        bench.one_sent().message.as_bytes(),
        trying.message.as_bytes()
    );
    bench.pass_ms(60_000);
    assert!(bench.take_sent().is_empty());
}

#[test]
fn an_early_provisional_answer_makes_trying_needless_and_the_latest_is_repeated() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    assert!(bench.respond(&request, 180));
    assert!(bench.respond(&request, 183));
    bench.pass_ms(1_000);
    let statuses: Vec<_> = bench
        .take_sent()
        .iter()
        .map(|sent| sent.response().status().as_u16())
        .collect();
    assert_eq!(statuses, [180, 183]);
    bench.receive_request(&invite(), udp_flow(9));
    assert_eq!(bench.one_sent().response().status().as_u16(), 183);
}

#[test]
fn an_answer_that_makes_trying_needless_leaves_no_alarm_for_it() {
    let mut bench = Bench::new();
    let start = bench.now.instant;
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    let trying = bench.layer.poll_timeout().unwrap() - start;
    assert!(trying <= Duration::from_millis(200), "{trying:?}");
    assert!(bench.respond(&request, 200));
    // What is next is the end of the transaction, 64*T1 ahead: the queue may want to be looked at earlier, but not as early.
    let next = bench.layer.poll_timeout().unwrap() - start;
    assert!(next > Duration::from_secs(1), "{next:?}");
}

#[test]
fn a_refusal_is_repeated_up_to_t2_until_64_t1_and_then_reported() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    assert!(bench.respond(&request, 486));
    bench.pass_ms(32_000);
    let expected = [
        0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    assert_eq!(bench.sent_at(), expected);
    let events = bench.take_events();
    assert!(
        matches!(events[..], [Event::NotAcknowledged { transaction }] if transaction == request.transaction)
    );
    bench.assert_empty();
}

#[test]
fn a_refusal_over_tcp_is_sent_once_and_still_waits_for_its_ack() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), tcp_flow(9)).unwrap();
    assert!(bench.respond(&request, 486));
    bench.pass_ms(31_999);
    assert_eq!(bench.sent_at(), [0]);
    assert_eq!(bench.metrics().server_transactions, 1);
    bench.receive_request(&ack(BRANCH, "our-tag"), tcp_flow(9));
    assert!(matches!(
        bench.take_events()[..],
        [Event::Acknowledged { .. }]
    ));
    bench.assert_empty();
}

#[test]
fn the_ack_of_a_refusal_ends_repetition_and_its_copies_are_absorbed_for_t4() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    bench.respond(&request, 486);
    bench.pass_ms(700);
    assert_eq!(bench.sent_at(), [0, 500]);
    for _ in 0..3 {
        assert!(
            bench
                .receive_request(&ack(BRANCH, "our-tag"), udp_flow(9))
                .is_none()
        );
    }
    assert!(bench.receive_request(&invite(), udp_flow(9)).is_none());
    assert!(matches!(
        bench.take_events()[..],
        [Event::Acknowledged { .. }]
    ));
    bench.pass_ms(4_999);
    assert!(bench.take_sent().is_empty());
    assert_eq!(bench.metrics().server_transactions, 1);
    bench.pass_ms(1);
    bench.assert_empty();
}

#[test]
fn a_copy_of_the_invite_gets_the_refusal_again() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    bench.respond(&request, 603);
    let refusal = bench.one_sent();
    bench.receive_request(&invite(), udp_flow(9));
    assert_eq!(
        bench.one_sent().message.as_bytes(),
        refusal.message.as_bytes()
    );
}

#[test]
fn accepted_absorbs_copies_sends_repeated_2xx_and_passes_acks_up_for_64_t1() {
    for flow in [udp_flow(9), tcp_flow(9)] {
        let mut bench = Bench::new();
        let request = bench.receive_request(&invite(), flow).unwrap();
        assert!(bench.respond(&request, 200));
        assert!(bench.receive_request(&invite(), flow).is_none());
        bench.pass_ms(1_000);
        assert_eq!(
            bench.sent_at(),
            [0],
            "the machine does not repeat 2xx by itself"
        );
        assert!(bench.respond(&request, 200), "the user does");
        assert_eq!(bench.sent_at(), [1_000]);
        // Not even an ACK with the INVITE's branch is absorbed.
        let passed = bench
            .receive_request(&ack(BRANCH, "our-tag"), flow)
            .unwrap();
        assert_eq!(passed.request.method(), &Method::Ack);
        bench.pass_ms(30_999);
        assert!(bench.respond(&request, 200));
        bench.pass_ms(1);
        bench.assert_empty();
        assert!(!bench.respond(&request, 200));
    }
}

#[test]
fn after_a_2xx_a_refusal_comes_too_late() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    assert!(bench.respond(&request, 200));
    assert!(!bench.respond(&request, 486));
    assert!(!bench.respond(&request, 180));
    assert_eq!(bench.take_sent().len(), 1);
}

#[test]
fn after_a_refusal_a_2xx_comes_too_late() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    assert!(bench.respond(&request, 486));
    assert!(!bench.respond(&request, 200));
    assert_eq!(bench.take_sent().len(), 1);
    assert_eq!(bench.metrics().gone, 1);
}

#[test]
fn a_transport_error_is_reported_and_the_transaction_goes_on() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    bench.unreachable.insert(udp_flow(9).remote);
    bench.respond(&request, 486);
    assert!(matches!(
        bench.take_events()[..],
        [Event::AnswerFailed { .. }]
    ));
    bench.unreachable.clear();
    bench.pass_ms(500);
    assert_eq!(bench.sent_at(), [500]);
    assert!(
        bench.receive_request(&invite(), udp_flow(9)).is_none(),
        "a copy is no new request"
    );
}

#[test]
fn an_ack_that_matches_nothing_goes_to_the_users_and_takes_no_answer() {
    let mut bench = Bench::new();
    let request = bench
        .receive_request(&ack("z9hG4bK-other", "x"), udp_flow(9))
        .unwrap();
    assert_eq!(request.request.method(), &Method::Ack);
    assert!(!bench.respond(&request, 200));
    assert!(bench.take_sent().is_empty());
    bench.assert_empty();
}

#[test]
fn an_invite_that_its_user_forgets_is_answered_408_in_the_end_and_leaves_nothing() {
    let mut bench = Bench::new();
    let invite = bench
        .receive_request(&incoming("INVITE", "z9hG4bK1"), udp_flow(2))
        .unwrap();
    bench.pass_ms(20 * 60_000);
    assert!(bench.respond(&invite, 180));
    bench.take_sent();
    bench.pass_ms(29 * 60_000);
    assert_eq!(bench.metrics().unanswered, 1, "it may ring for long");
    bench.pass_ms(2 * 60_000);
    let statuses: Vec<u16> = bench
        .take_sent()
        .iter()
        .map(|sent| sent.response().status().as_u16())
        .collect();
    assert!(
        !statuses.is_empty() && statuses.iter().all(|status| *status == 408),
        "{statuses:?}"
    );
    assert_eq!(bench.metrics().never_answered, 1);
    assert!(!bench.respond(&invite, 200), "too late");
    bench.assert_empty();
}

#[test]
fn trying_carries_the_timestamp_of_the_invite_and_no_tag() {
    let mut bench = Bench::new();
    let invite = invite().replace("Max-Forwards", "Timestamp: 54.25\nMax-Forwards");
    bench.receive_request(&invite, udp_flow(9));
    bench.pass_ms(200);
    let trying = bench.one_sent();
    let headers = trying.message.headers();
    assert!(
        headers
            .text(&HeaderName::Timestamp)
            .unwrap()
            .starts_with("54.25")
    );
    assert_eq!(headers.to().unwrap().tag(), None);
}

#[test]
fn timers_l_and_h_run_over_tcp_too() {
    let over_tcp = invite().replace("/UDP", "/TCP");
    let mut bench = Bench::new();
    let request = bench.receive_request(&over_tcp, tcp_flow(9)).unwrap();
    bench.respond(&request, 200);
    bench.pass_ms(31_999);
    assert_eq!(bench.metrics().server_transactions, 1);
    bench.pass_ms(1);
    bench.assert_empty();

    let mut bench = Bench::new();
    let request = bench.receive_request(&over_tcp, tcp_flow(9)).unwrap();
    bench.respond(&request, 486);
    bench.pass_ms(32_000);
    assert!(matches!(
        bench.take_events()[..],
        [Event::NotAcknowledged { .. }]
    ));
    bench.assert_empty();
}

#[test]
fn over_tcp_nothing_is_kept_once_a_refusal_is_acknowledged() {
    let mut bench = Bench::new();
    let over_tcp = |text: String| text.replace("/UDP", "/TCP");
    let request = bench
        .receive_request(&over_tcp(invite()), tcp_flow(9))
        .unwrap();
    bench.respond(&request, 486);
    bench.receive_request(&over_tcp(ack(BRANCH, "our-tag")), tcp_flow(9));
    bench.assert_empty();
}

#[test]
fn an_ack_before_any_answer_is_absorbed() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&invite(), udp_flow(9)).unwrap();
    let early = bench.receive_request(&ack(BRANCH, "x"), udp_flow(9));
    assert!(early.is_none());
    assert!(bench.respond(&request, 200));
}
