//! Caps, and that nothing is left behind.

use crate::bench::{Bench, OWNER, ack, incoming, outgoing, parse, tcp, tcp_flow, udp, udp_flow};
use sipora_message::{HeaderName, Method, StatusCode};
use sipora_transaction_core::{Config, Event, OutgoingRequest, SendError};
use sipora_transport::{Flow, FlowId};

#[test]
fn a_full_table_of_server_transactions_answers_503_with_retry_after_and_keeps_nothing() {
    let config = Config {
        max_server_transactions: 2,
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    for number in 0..5 {
        bench.receive_request(
            &incoming("OPTIONS", &format!("z9hG4bK-{number}")),
            udp_flow(9),
        );
    }
    assert_eq!(bench.offered.len(), 2);
    let sent = bench.take_sent();
    assert_eq!(sent.len(), 3);
    for refusal in &sent {
        assert_eq!(refusal.response().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            refusal
                .response()
                .headers()
                .text(&HeaderName::RetryAfter)
                .unwrap(),
            "5"
        );
    }
    assert_eq!(bench.metrics().refused_for_lack_of_room, 3);
    // What was admitted is still known.
    assert!(
        bench
            .receive_request(&incoming("OPTIONS", "z9hG4bK-0"), udp_flow(9))
            .is_none()
    );
    assert!(bench.take_sent().is_empty());
}

#[test]
fn too_many_requests_of_our_own_are_refused() {
    let config = Config {
        max_requests: 1,
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let request = OutgoingRequest::new(outgoing(Method::Options), udp(2), OWNER);
    assert_eq!(
        bench.layer.send_request(bench.now, request),
        Err(SendError::Overloaded)
    );
    assert_eq!(bench.metrics().overloaded, 1);
}

#[test]
fn targets_beyond_the_limit_are_not_tried() {
    let config = Config {
        max_targets: 2,
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    for last in 2..6 {
        bench.unreachable.insert(udp(last).address);
    }
    bench.send(outgoing(Method::Options), &[udp(2), udp(3), udp(4), udp(5)]);
    assert_eq!(bench.opened, [udp(2), udp(3)]);
}

#[test]
fn a_draining_core_refuses_new_requests_and_finishes_old_ones() {
    let mut bench = Bench::new();
    let old = bench
        .receive_request(&incoming("OPTIONS", "z9hG4bK-1"), udp_flow(9))
        .unwrap();
    bench.layer.drain();
    assert!(!bench.layer.is_idle());
    assert!(
        bench
            .receive_request(&incoming("OPTIONS", "z9hG4bK-2"), udp_flow(9))
            .is_none()
    );
    assert_eq!(
        bench.one_sent().response().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    let request = OutgoingRequest::new(outgoing(Method::Options), udp(2), OWNER);
    assert_eq!(
        bench.layer.send_request(bench.now, request),
        Err(SendError::ShuttingDown)
    );
    assert!(bench.respond(&old, 200));
    assert!(bench.layer.is_idle());
}

#[test]
fn a_draining_core_lets_calls_end() {
    let mut bench = Bench::new();
    bench.layer.drain();
    let bye = OutgoingRequest::new(outgoing(Method::Bye), udp(2), OWNER);
    assert!(bench.layer.send_request(bench.now, bye).is_ok());
    assert!(!bench.layer.is_idle());
    let theirs = bench.receive_request(&incoming("BYE", "z9hG4bK-1"), udp_flow(9));
    assert!(bench.respond(&theirs.unwrap(), 200));
}

#[test]
fn two_thousand_exchanges_leave_nothing_behind() {
    let mut bench = Bench::new();
    for number in 0..2_000 {
        let branch = format!("z9hG4bK-{number}");
        let request = bench
            .receive_request(&incoming("REGISTER", &branch), udp_flow(9))
            .unwrap();
        bench.respond(&request, 200);
        let invite = bench
            .receive_request(&incoming("INVITE", &branch), udp_flow(9))
            .unwrap();
        bench.respond(&invite, 486);
        if number % 2 == 0 {
            bench.receive_request(&ack(&branch, "our-tag"), udp_flow(9));
        }
        bench.sent.clear();
        bench.send(outgoing(Method::Options), &[udp(2)]);
        let options = bench.one_sent();
        bench.answer(&options, 200);
        bench.offered.clear();
        bench.events.clear();
        let metrics = bench.metrics();
        let holders = metrics.server_transactions + metrics.client_transactions + metrics.requests;
        assert!(metrics.timer_entries <= 2 * holders + 65, "{metrics:?}");
    }
    bench.pass_ms(32_000);
    bench.assert_empty();
    assert_eq!(bench.metrics().timer_entries, 0);
}

#[test]
fn malformed_requests_are_answered_where_they_can_be() {
    let mut bench = Bench::new();
    let text = incoming("OPTIONS", "z9hG4bK-1").replace("Content-Length: 0", "Content-Length: 10");
    let error = sipora_message::Message::parse(
        text.replace('\n', "\r\n").into_bytes(),
        &Default::default(),
    )
    .unwrap_err();
    let layer = &mut bench.layer;
    layer.handle_malformed(
        error.request(),
        error.status(),
        "body too short",
        udp_flow(9),
    );
    layer.handle_malformed(None, StatusCode::BAD_REQUEST, "rubbish", udp_flow(9));
    bench.settle();
    let sent = bench.one_sent();
    let answer = sent.response();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.reason(), "Bad Request (body too short)");
    assert_eq!(bench.metrics().malformed_received, 2);
}

#[test]
fn a_request_with_a_broken_header_field_is_told_which() {
    let mut bench = Bench::new();
    let text = incoming("OPTIONS", "z9hG4bK-1").replace("CSeq: ", "CSeq: x");
    // The bench wants messages that are whole, and the answer copies the broken field: so the layer is asked directly.
    let now = bench.now;
    let unclaimed = bench.layer.handle_message(now, parse(&text), udp_flow(9));
    assert!(unclaimed.is_none());
    let answer = bench.layer.poll_transmit().unwrap();
    let line = answer.bytes.split(|byte| *byte == b'\r').next().unwrap();
    let line = std::str::from_utf8(line).unwrap();
    assert!(
        line.starts_with("SIP/2.0 400 Bad Request (CSeq: "),
        "{line}"
    );
}

#[test]
fn a_message_past_a_limit_gets_the_status_of_that_limit() {
    let mut bench = Bench::new();
    let text = incoming("OPTIONS", "z9hG4bK-1");
    let request = sipora_message::Request::parse(
        text.replace('\n', "\r\n").into_bytes(),
        &Default::default(),
    )
    .unwrap();
    bench.layer.handle_malformed(
        Some(&request),
        StatusCode::MESSAGE_TOO_LARGE,
        "header section too long",
        udp_flow(9),
    );
    bench.settle();
    assert_eq!(
        bench.one_sent().response().status(),
        StatusCode::MESSAGE_TOO_LARGE
    );
}

#[test]
fn ten_thousand_connections_that_close_at_once_fail_each_its_own_request() {
    let mut bench = Bench::new();
    let flows: Vec<Flow> = (1..=10_000)
        .map(|number| Flow {
            id: FlowId::from_u64(1_000 + number),
            ..tcp_flow(2)
        })
        .collect();
    for flow in &flows {
        let mut request = OutgoingRequest::new(outgoing(Method::Options), tcp(2), OWNER);
        request.targets.clear();
        request.flow = Some(*flow);
        bench.layer.send_request(bench.now, request).unwrap();
        bench.settle();
    }
    for (closed, flow) in flows.iter().enumerate() {
        bench.layer.handle_flow_closed(bench.now, flow.id);
        bench.settle();
        assert_eq!(bench.metrics().requests as usize, flows.len() - closed - 1);
    }
    assert_eq!(bench.take_events().len(), flows.len());
    bench.assert_empty();
}

#[test]
fn an_ack_and_a_bye_find_room_up_to_twice_as_many() {
    let config = Config {
        max_requests: 2,
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    let mut send = |method: Method| {
        let request = OutgoingRequest::new(outgoing(method), udp(2), OWNER);
        let sent = bench.layer.send_request(bench.now, request).map(drop);
        bench.settle();
        sent
    };
    send(Method::Invite).unwrap();
    send(Method::Options).unwrap();
    assert_eq!(send(Method::Options), Err(SendError::Overloaded));
    send(Method::Ack).unwrap();
    send(Method::Bye).unwrap();
    send(Method::Bye).unwrap();
    assert_eq!(send(Method::Bye), Err(SendError::Overloaded));
}

#[test]
fn too_many_client_transactions_are_refused_finished_ones_counted() {
    let config = Config {
        max_client_transactions: 1,
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    bench.send(outgoing(Method::Options), &[udp(2)]);
    let first = bench.one_sent();
    bench.answer(&first, 200);
    let request = || OutgoingRequest::new(outgoing(Method::Options), udp(2), OWNER);
    assert_eq!(
        bench.layer.send_request(bench.now, request()),
        Err(SendError::Overloaded)
    );
    bench.pass_ms(5_000);
    bench.layer.send_request(bench.now, request()).unwrap();
}

#[test]
fn a_call_can_be_cancelled_when_there_is_no_room_for_the_cancel() {
    let config = Config {
        max_server_transactions: 1,
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    let invite = bench
        .receive_request(&incoming("INVITE", "z9hG4bK1"), udp_flow(9))
        .unwrap();
    for _ in 0..2 {
        assert!(
            bench
                .receive_request(&incoming("CANCEL", "z9hG4bK1"), udp_flow(9))
                .is_none()
        );
        assert_eq!(bench.one_sent().response().status(), StatusCode::OK);
        assert!(matches!(
            bench.take_events()[..],
            [Event::Cancelled { transaction, .. }] if transaction == invite.transaction
        ));
    }
    bench.receive_request(&incoming("CANCEL", "z9hG4bK2"), udp_flow(9));
    let refusal = bench.one_sent();
    assert_eq!(refusal.response().status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn thousands_of_alarms_at_one_moment_leave_room_for_other_inputs() {
    let mut bench = Bench::new();
    for number in 0..3_000 {
        let text = incoming("INVITE", &format!("z9hG4bK-{number}"));
        bench.receive_request(&text, udp_flow(9));
    }
    bench.now.instant += std::time::Duration::from_millis(200);
    bench.layer.handle_timeout(bench.now);
    bench.settle();
    let first = bench.take_sent().len();
    assert!((1..3_000).contains(&first), "{first}");
    assert!(bench.layer.poll_timeout().unwrap() <= bench.now.instant);
    bench.pass_ms(0);
    assert_eq!(first + bench.take_sent().len(), 3_000);
}
