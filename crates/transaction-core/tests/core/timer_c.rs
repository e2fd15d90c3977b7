//! Timer C (RFC 3261 §16.6 step 11, §16.7 step 2, §16.8).

use crate::bench::{Bench, OWNER, outgoing, tcp, udp};
use sipora_message::Method;
use sipora_transaction_core::{
    Config, Event, OutgoingRequest, RequestError, RequestOptions, Timers,
};
use sipora_transport::Destination;
use std::time::Duration;

const TIMER_C: u64 = RequestOptions::TIMER_C.as_millis() as u64;

/// Sends an INVITE as a proxy does.
fn forward(bench: &mut Bench, target: Destination) {
    let mut invite = OutgoingRequest::new(outgoing(Method::Invite), target, OWNER);
    invite.timer_c = Some(RequestOptions::TIMER_C);
    bench.layer.send_request(bench.now, invite).unwrap();
    bench.settle();
}

#[test]
fn timer_c_is_longer_than_three_minutes() {
    assert!(RequestOptions::TIMER_C > Duration::from_secs(180));
    assert_eq!(
        RequestOptions::forwarding().timer_c,
        Some(RequestOptions::TIMER_C)
    );
}

#[test]
fn an_invite_that_rings_for_too_long_is_cancelled_and_its_487_delivered() {
    for target in [udp(2), tcp(2)] {
        let mut bench = Bench::new();
        forward(&mut bench, target);
        let invite = bench.one_sent();
        bench.answer(&invite, 180);
        bench.pass_ms(TIMER_C - 1);
        assert!(bench.take_sent().is_empty());
        bench.pass_ms(1);
        let cancel = bench.one_sent();
        assert!(cancel.is(Method::Cancel));
        assert_eq!(cancel.branch(), invite.branch());
        bench.answer(&cancel, 200);
        bench.answer(&invite, 487);
        assert_eq!(bench.statuses(), [180, 487]);
        assert_eq!(bench.metrics().rang_too_long, 1);
        bench.pass_ms(40_000);
        bench.assert_empty();
    }
}

#[test]
fn provisional_answers_from_101_on_set_it_back_and_trying_does_not() {
    for (status, sets_back) in [
        (100, false),
        (101, true),
        (180, true),
        (183, true),
        (199, true),
    ] {
        let mut bench = Bench::new();
        forward(&mut bench, udp(2));
        let invite = bench.one_sent();
        bench.answer(&invite, 100);
        bench.pass_ms(100_000);
        bench.answer(&invite, status);
        bench.pass_ms(TIMER_C - 100_000);
        assert_eq!(bench.take_sent().is_empty(), sets_back, "{status}");
        bench.pass_ms(99_999);
        bench.take_sent();
        assert_eq!(bench.metrics().rang_too_long, u64::from(!sets_back));
        bench.pass_ms(1);
        assert_eq!(bench.metrics().rang_too_long, 1, "{status}");
    }
}

#[test]
fn without_any_answer_the_request_fails_before_timer_c_and_is_not_cancelled() {
    let mut bench = Bench::new();
    forward(&mut bench, tcp(2));
    bench.pass_ms(TIMER_C * 2);
    assert_eq!(bench.take_sent().len(), 1);
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
fn a_cancel_that_nobody_heeds_ends_the_request_after_64_t1() {
    let mut bench = Bench::new();
    forward(&mut bench, udp(2));
    let invite = bench.one_sent();
    bench.answer(&invite, 100);
    bench.pass_ms(TIMER_C + 32_000);
    let events = bench.take_events();
    assert!(
        matches!(
            events[..],
            [
                Event::Response { .. },
                Event::Failed {
                    error: RequestError::Cancelled,
                    ..
                }
            ]
        ),
        "{events:?}"
    );
    bench.assert_empty();
}

#[test]
fn an_answer_turns_it_off() {
    for status in [200, 486] {
        let mut bench = Bench::new();
        forward(&mut bench, udp(2));
        let invite = bench.one_sent();
        bench.answer(&invite, 180);
        bench.answer(&invite, status);
        bench.take_sent();
        bench.pass_ms(TIMER_C * 2);
        assert!(bench.take_sent().is_empty(), "{status}");
        assert_eq!(bench.metrics().rang_too_long, 0);
        bench.assert_empty();
    }
}

#[test]
fn a_user_agent_rings_for_half_an_hour_unless_told_otherwise() {
    let mut bench = Bench::new();
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.pass_ms(30 * 60 * 1000 - 1);
    assert!(bench.take_sent().is_empty());
    bench.pass_ms(1);
    assert!(bench.one_sent().is(Method::Cancel));

    let config = Config {
        timers: Timers {
            ringing: Duration::from_secs(60),
            ..Timers::default()
        },
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.pass_ms(60_000);
    assert!(bench.one_sent().is(Method::Cancel));
}
