//! RFC 3261 §9.

use crate::bench::{Bench, incoming, outgoing, tcp, udp, udp_flow};
use sipora_message::{HeaderName, Method, StatusCode};
use sipora_transaction_core::{Event, RequestError};

#[test]
fn cancel_waits_for_a_provisional_answer() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.layer.cancel(bench.now, id);
    bench.settle();
    bench.pass_ms(100);
    assert!(bench.take_sent().is_empty());
    bench.answer(&invite, 100);
    let cancel = bench.one_sent();
    assert!(cancel.is(Method::Cancel));
    bench.answer(&cancel, 200);
    bench.answer(&invite, 487);
    assert!(bench.one_sent().is(Method::Ack));
    assert_eq!(bench.statuses(), [100, 487]);
    bench.pass_ms(40_000);
    bench.assert_empty();
}

#[test]
fn cancel_repeats_branch_routes_and_the_rest_of_the_invite() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.layer.cancel(bench.now, id);
    bench.layer.cancel(bench.now, id);
    bench.settle();
    let sent = bench.one_sent();
    let (invite, cancel) = (invite.request(), sent.request());
    assert_eq!(cancel.uri_text(), invite.uri_text());
    for name in [
        HeaderName::Via,
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
        HeaderName::Route,
    ] {
        let values = |request: &sipora_message::Request| -> Vec<Vec<u8>> {
            request.headers().all(&name).map(<[u8]>::to_vec).collect()
        };
        assert_eq!(values(cancel), values(invite), "{name:?}");
    }
    let cseq = cancel.headers().cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (4711, Method::Cancel));
    assert!(!cancel.headers().contains(&HeaderName::Require));
}

#[test]
fn a_cancel_says_why_now_or_when_it_may_be_sent() {
    let why = "Q.850;cause=16;text=\"Terminated\"";
    for rings in [true, false] {
        let mut bench = Bench::new();
        let id = bench.send(outgoing(Method::Invite), &[udp(2)]);
        let invite = bench.one_sent();
        if rings {
            bench.answer(&invite, 180);
        }
        bench.layer.cancel_because(bench.now, id, Some(why));
        bench.settle();
        if !rings {
            bench.answer(&invite, 180);
        }
        let sent = bench.one_sent();
        let reason = sent.request().headers().text(&HeaderName::Reason);
        assert_eq!(reason.as_deref(), Some(why));
    }
}

#[test]
fn a_cancel_goes_out_without_a_reason_that_cannot_be_written() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    let why = "SIP\r\nContact: <sip:somebody@else>";
    bench.layer.cancel_because(bench.now, id, Some(why));
    bench.settle();
    let sent = bench.one_sent();
    assert!(sent.is(Method::Cancel));
    assert!(!sent.request().headers().contains(&HeaderName::Reason));
    assert!(!sent.request().headers().contains(&HeaderName::Contact));
}

#[test]
fn cancel_is_a_transaction_of_its_own_and_is_repeated_over_udp() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.layer.cancel(bench.now, id);
    bench.settle();
    bench.pass_ms(1_600);
    assert_eq!(bench.sent_at(), [0, 500, 1_500]);
}

#[test]
fn a_2xx_that_crosses_the_cancel_is_delivered() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.layer.cancel(bench.now, id);
    bench.settle();
    bench.answer(&invite, 200);
    assert_eq!(bench.statuses(), [180, 200]);
}

#[test]
fn an_invite_that_never_ends_after_cancel_counts_as_cancelled_after_64_t1() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.pass_ms(60_000);
    bench.layer.cancel(bench.now, id);
    bench.settle();
    let cancel = bench.one_sent();
    bench.answer(&cancel, 481);
    bench.pass_ms(31_999);
    assert_eq!(bench.statuses(), [180]);
    bench.pass_ms(1);
    assert!(matches!(
        bench.take_events()[..],
        [Event::Failed {
            error: RequestError::Cancelled,
            ..
        }]
    ));
    bench.assert_empty();
}

#[test]
fn an_invite_that_was_cancelled_and_never_answered_says_so() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2), udp(3)]);
    bench.layer.cancel(bench.now, id);
    bench.settle();
    bench.pass_ms(32_000);
    assert!(matches!(
        bench.take_events()[..],
        [Event::Failed {
            error: RequestError::Cancelled,
            ..
        }]
    ));
    assert!(
        bench
            .take_sent()
            .iter()
            .all(|sent| sent.is(Method::Invite) && sent.flow == udp_flow(2))
    );
    bench.assert_empty();
}

#[test]
fn a_request_that_is_no_invite_is_cancelled_without_a_cancel() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Options), &[udp(2)]);
    bench.take_sent();
    bench.layer.cancel(bench.now, id);
    bench.settle();
    assert!(matches!(
        bench.take_events()[..],
        [Event::Failed {
            error: RequestError::Cancelled,
            ..
        }]
    ));
    bench.pass_ms(60_000);
    assert!(bench.take_sent().is_empty());
    bench.assert_empty();
}

#[test]
fn an_invite_that_waits_for_its_flow_is_never_sent_once_cancelled() {
    let mut bench = Bench::new();
    bench.hold = true;
    let id = bench.send(outgoing(Method::Invite), &[tcp(2)]);
    bench.layer.cancel(bench.now, id);
    bench.settle();
    assert!(matches!(
        bench.take_events()[..],
        [Event::Failed {
            error: RequestError::Cancelled,
            ..
        }]
    ));
    bench.release();
    assert!(bench.take_sent().is_empty());
    bench.assert_empty();
}

#[test]
fn an_abandoned_request_is_heard_of_no_more() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Options), &[udp(2)]);
    let options = bench.one_sent();
    bench.layer.abandon(bench.now, id);
    bench.answer(&options, 200);
    bench.pass_ms(60_000);
    assert!(bench.take_events().is_empty());
    assert!(bench.take_sent().is_empty());
    bench.assert_empty();
}

#[test]
fn an_abandoned_invite_is_cancelled_and_a_2xx_is_still_delivered() {
    let mut bench = Bench::new();
    let id = bench.send(outgoing(Method::Invite), &[udp(2)]);
    let invite = bench.one_sent();
    bench.layer.abandon(bench.now, id);
    bench.answer(&invite, 180);
    assert!(bench.one_sent().is(Method::Cancel));
    assert!(bench.take_events().is_empty());
    bench.answer(&invite, 200);
    assert_eq!(bench.statuses(), [200]);
}

#[test]
fn cancel_of_an_open_invite_gets_200_and_tells_the_user_who_owes_487() {
    let mut bench = Bench::new();
    let invite = bench
        .receive_request(&incoming("INVITE", "z9hG4bK-1"), udp_flow(9))
        .unwrap();
    bench.respond(&invite, 180);
    bench.take_sent();
    assert!(
        bench
            .receive_request(&incoming("CANCEL", "z9hG4bK-1"), udp_flow(9))
            .is_none()
    );
    let answer = bench.one_sent();
    assert_eq!(answer.response().status(), StatusCode::OK);
    assert_eq!(
        answer.response().headers().cseq().unwrap().method,
        Method::Cancel
    );
    assert_eq!(
        answer.response().headers().to().unwrap().tag(),
        Some("our-tag"),
        "that of the INVITE's answer"
    );
    assert!(
        matches!(bench.take_events()[..], [Event::Cancelled { transaction, .. }] if transaction == invite.transaction)
    );
    assert!(bench.respond(&invite, 487));
    assert_eq!(bench.one_sent().response().status().as_u16(), 487);
    // A copy of the CANCEL is answered again and tells nobody.
    bench.receive_request(&incoming("CANCEL", "z9hG4bK-1"), udp_flow(9));
    assert_eq!(
        bench.one_sent().message.as_bytes(),
        answer.message.as_bytes()
    );
    assert!(bench.take_events().is_empty());
}

#[test]
fn the_tag_of_the_answer_to_cancel_is_the_keyed_one_while_the_invite_has_none() {
    let mut bench = Bench::new();
    let invite = bench
        .receive_request(&incoming("INVITE", "z9hG4bK-1"), udp_flow(9))
        .unwrap();
    bench.receive_request(&incoming("CANCEL", "z9hG4bK-1"), udp_flow(9));
    let tag = bench.layer.keyed_tag(&invite.request);
    assert_eq!(
        bench.one_sent().response().headers().to().unwrap().tag(),
        Some(tag.as_str())
    );
}

#[test]
fn cancel_after_the_final_answer_gets_200_and_changes_nothing() {
    for status in [200, 486] {
        let mut bench = Bench::new();
        let invite = bench
            .receive_request(&incoming("INVITE", "z9hG4bK-1"), udp_flow(9))
            .unwrap();
        bench.respond(&invite, status);
        bench.take_sent();
        bench.receive_request(&incoming("CANCEL", "z9hG4bK-1"), udp_flow(9));
        assert_eq!(bench.one_sent().response().status(), StatusCode::OK);
        assert!(bench.take_events().is_empty());
    }
}

#[test]
fn cancel_of_another_method_gets_200_and_changes_nothing() {
    let mut bench = Bench::new();
    let request = bench
        .receive_request(&incoming("REGISTER", "z9hG4bK-1"), udp_flow(9))
        .unwrap();
    assert!(
        bench
            .receive_request(&incoming("CANCEL", "z9hG4bK-1"), udp_flow(9))
            .is_none()
    );
    assert_eq!(bench.one_sent().response().status(), StatusCode::OK);
    assert!(bench.take_events().is_empty());
    assert!(bench.respond(&request, 200));
}

#[test]
fn cancel_without_its_request_goes_to_the_users() {
    let mut bench = Bench::new();
    let offered = bench
        .receive_request(&incoming("CANCEL", "z9hG4bK-1"), udp_flow(9))
        .unwrap();
    assert_eq!(offered.request.method(), &Method::Cancel);
    assert!(bench.respond(&offered, 481));
}

#[test]
fn cancel_carries_no_require_and_no_credentials() {
    let mut bench = Bench::new();
    let invite = outgoing(Method::Invite)
        .edit()
        .append(HeaderName::Require, "100rel")
        .append(HeaderName::ProxyRequire, "sec-agree")
        .append(HeaderName::Authorization, "Digest username=\"alice\"")
        .build()
        .unwrap();
    let id = bench.send(invite, &[udp(2)]);
    let invite = bench.one_sent();
    bench.answer(&invite, 180);
    bench.layer.cancel(bench.now, id);
    bench.settle();
    let cancel = bench.one_sent();
    for name in [
        HeaderName::Require,
        HeaderName::ProxyRequire,
        HeaderName::Authorization,
    ] {
        // §9.1: "MUST NOT contain any Require or Proxy-Require header fields".
        assert!(!cancel.message.headers().contains(&name), "{name:?}");
    }
}

#[test]
fn cancel_without_the_cookie_finds_its_invite() {
    let legacy = |method| incoming(method, "1").replace(";branch=1", "");
    let mut bench = Bench::new();
    let invite = bench
        .receive_request(&legacy("INVITE"), udp_flow(9))
        .unwrap();
    assert!(
        bench
            .receive_request(&legacy("CANCEL"), udp_flow(9))
            .is_none()
    );
    assert_eq!(bench.one_sent().response().status(), StatusCode::OK);
    assert!(matches!(
        bench.take_events()[..],
        [Event::Cancelled { transaction, .. }] if transaction == invite.transaction
    ));
}

#[test]
fn a_copy_of_a_cancel_gets_the_same_answer_and_tells_nobody_again() {
    let mut bench = Bench::new();
    bench.receive_request(&incoming("INVITE", "z9hG4bK1"), udp_flow(9));
    bench.receive_request(&incoming("CANCEL", "z9hG4bK1"), udp_flow(9));
    let first = bench.one_sent();
    assert_eq!(bench.take_events().len(), 1);
    bench.receive_request(&incoming("CANCEL", "z9hG4bK1"), udp_flow(9));
    assert_eq!(
        bench.one_sent().response().as_bytes(),
        first.response().as_bytes()
    );
    assert!(bench.take_events().is_empty());
}
