//! RFC 3261 §17.2.2, RFC 4320.

use crate::bench::{Bench, incoming, tcp_flow, udp_flow};
use sipora_message::{HeaderName, Response, StatusCode};
use sipora_transaction_core::Event;

const BRANCH: &str = "z9hG4bK-1";

fn register() -> String {
    incoming("REGISTER", BRANCH)
}

#[test]
fn copies_are_discarded_before_the_answer_and_get_the_answer_after_it_for_64_t1() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), udp_flow(9)).unwrap();
    assert!(bench.receive_request(&register(), udp_flow(9)).is_none());
    assert!(bench.take_sent().is_empty());
    assert!(bench.respond(&request, 200));
    let answer = bench.one_sent();
    bench.pass_ms(31_999);
    assert!(bench.receive_request(&register(), udp_flow(9)).is_none());
    assert_eq!(
        bench.one_sent().message.as_bytes(),
        answer.message.as_bytes()
    );
    bench.pass_ms(1);
    bench.assert_empty();
    assert!(
        bench.receive_request(&register(), udp_flow(9)).is_some(),
        "now it is a new request"
    );
}

#[test]
fn an_answer_too_long_to_be_kept_beside_others_is_repeated_as_well() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), udp_flow(9)).unwrap();
    let response = Response::for_request(&request.request, StatusCode::OK)
        .to_tag("a")
        .body("text/plain", "x".repeat(5_000))
        .build()
        .unwrap();
    let bytes = response.to_bytes();
    bench
        .layer
        .respond(bench.now, request.transaction, response)
        .unwrap();
    bench.settle();
    bench.take_sent();
    assert!(bench.receive_request(&register(), udp_flow(9)).is_none());
    assert_eq!(bench.one_sent().message.as_bytes(), bytes);
    bench.pass_ms(32_000);
    bench.assert_empty();
}

#[test]
fn over_tcp_nothing_is_kept_after_the_answer() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), tcp_flow(9)).unwrap();
    assert!(bench.respond(&request, 200));
    assert_eq!(bench.sent_at(), [0]);
    bench.assert_empty();
}

#[test]
fn there_is_one_final_answer() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), udp_flow(9)).unwrap();
    assert!(bench.respond(&request, 200));
    assert!(!bench.respond(&request, 500));
    assert!(!bench.respond(&request, 200));
    assert_eq!(bench.take_sent().len(), 1);
    assert_eq!(bench.metrics().answers_sent, 1);
    assert_eq!(bench.metrics().gone, 2);
}

#[test]
fn trying_is_owed_once_timer_e_has_reached_t2_and_not_before() {
    for flow in [udp_flow(9), tcp_flow(9)] {
        let mut bench = Bench::new();
        let request = bench.receive_request(&register(), flow).unwrap();
        bench.pass_ms(3_499);
        assert!(bench.take_sent().is_empty());
        bench.pass_ms(1);
        assert_eq!(bench.one_sent().response().status(), StatusCode::TRYING);
        bench.receive_request(&register(), flow);
        assert_eq!(bench.one_sent().response().status(), StatusCode::TRYING);
        assert!(bench.respond(&request, 200));
        assert_eq!(bench.one_sent().response().status(), StatusCode::OK);
    }
}

#[test]
fn a_user_cannot_send_trying_early_over_udp_but_can_over_tcp() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), udp_flow(9)).unwrap();
    bench.respond(&request, 100);
    assert!(bench.take_sent().is_empty());
    let request = bench
        .receive_request(&incoming("REGISTER", "z9hG4bK-2"), tcp_flow(9))
        .unwrap();
    bench.respond(&request, 100);
    assert_eq!(bench.take_sent().len(), 1);
}

#[test]
fn no_other_provisional_answer_is_ever_sent() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), tcp_flow(9)).unwrap();
    bench.respond(&request, 183);
    bench.pass_ms(3_500);
    assert_eq!(bench.one_sent().response().status(), StatusCode::TRYING);
}

#[test]
fn a_408_ends_the_transaction_in_silence() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), udp_flow(9)).unwrap();
    assert!(bench.respond(&request, 408));
    bench.receive_request(&register(), udp_flow(9));
    bench.pass_ms(10_000);
    assert!(bench.take_sent().is_empty());
    assert!(!bench.respond(&request, 200));
}

#[test]
fn a_transport_error_ends_the_transaction_and_is_reported() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), udp_flow(9)).unwrap();
    bench.pass_ms(3_400);
    bench.unreachable.insert(udp_flow(9).remote);
    bench.pass_ms(100);
    assert!(
        matches!(bench.take_events()[..], [Event::AnswerFailed { transaction, .. }] if transaction == request.transaction)
    );
    bench.assert_empty();
}

#[test]
fn a_stateless_answer_keeps_nothing_and_every_copy_gets_the_same() {
    let mut bench = Bench::new();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request = bench.receive_request(&register(), udp_flow(9)).unwrap();
        let answer = bench
            .layer
            .answer(&request.request, StatusCode::UNAUTHORIZED)
            .build()
            .unwrap();
        bench
            .layer
            .respond_stateless(request.transaction, answer)
            .unwrap();
        bench.settle();
        answers.push(bench.one_sent().message.to_bytes());
        bench.assert_empty();
        assert!(!bench.respond(&request, 200));
    }
    assert_eq!(answers[0], answers[1]);
    let tag = Response::parse(answers[0].clone(), &Default::default()).unwrap();
    assert_eq!(tag.headers().to().unwrap().tag().unwrap().len(), 16);
}

#[test]
fn keyed_tags_differ_by_request_and_by_endpoint() {
    let mut bench = Bench::new();
    let one = bench.receive_request(&register(), udp_flow(9)).unwrap();
    let other = bench
        .receive_request(&incoming("REGISTER", "z9hG4bK-2"), udp_flow(9))
        .unwrap();
    assert_ne!(
        bench.layer.keyed_tag(&one.request),
        bench.layer.keyed_tag(&other.request)
    );
    let stranger = sipora_transaction_core::TransactionLayer::new(
        Default::default(),
        sipora_transaction_core::IdSource::from_number(2),
    );
    assert_ne!(
        stranger.keyed_tag(&one.request),
        bench.layer.keyed_tag(&one.request)
    );
}

#[test]
fn keyed_tags_of_requests_without_a_branch_differ_by_call_from_tag_and_number() {
    let mut bench = Bench::new();
    let legacy = incoming("REGISTER", "z9hG4bK-1").replace(";branch=z9hG4bK-1", "");
    let mut tags = std::collections::HashSet::new();
    let (call_id, cseq) = ("Call-ID: ", "CSeq: ");
    let texts = [
        legacy.clone(),
        legacy.replace(call_id, "Call-ID: another-"),
        legacy.replace(cseq, "CSeq: 9"),
    ];
    for text in &texts {
        let request = bench.receive_request(text, udp_flow(9)).unwrap();
        assert!(
            tags.insert(bench.layer.keyed_tag(&request.request)),
            "{text}"
        );
    }
}

#[test]
fn the_answer_goes_where_rport_received_and_sent_by_say() {
    let mut bench = Bench::new();
    let from = |text: &str, port: u16, bench: &mut Bench| {
        let mut flow = udp_flow(200);
        flow.remote.set_port(port);
        let request = bench.receive_request(text, flow).unwrap();
        bench.respond(&request, 200);
        bench.one_sent().flow.remote
    };
    // RFC 3261 §18.2.2: without rport the port of sent-by, at the address it came from.
    let plain = incoming("OPTIONS", "z9hG4bK-a").replace("192.0.2.9:5060", "host.example.com:5070");
    assert_eq!(
        from(&plain, 40_000, &mut bench).to_string(),
        "192.0.2.200:5070"
    );
    // RFC 3581 §4: with rport the port that it came from.
    let rport = incoming("OPTIONS", "z9hG4bK-b").replace("branch", "rport;branch");
    assert_eq!(
        from(&rport, 40_000, &mut bench).to_string(),
        "192.0.2.200:40000"
    );
}

#[test]
fn a_request_that_fails_its_check_is_answered_and_not_offered() {
    let mut bench = Bench::new();
    let text = register().replace("CSeq: 986759 REGISTER", "CSeq: 986759 INVITE");
    assert!(bench.receive_request(&text, udp_flow(9)).is_none());
    let answer = bench.one_sent();
    assert_eq!(answer.response().status(), StatusCode::BAD_REQUEST);
    assert!(answer.response().headers().contains(&HeaderName::CallId));
    bench.assert_empty();
}

#[test]
fn a_bad_ack_is_never_answered() {
    let mut bench = Bench::new();
    let text = incoming("ACK", BRANCH).replace("CSeq: 986759 ACK", "CSeq: 986759 INVITE");
    assert!(bench.receive_request(&text, udp_flow(9)).is_none());
    assert!(bench.take_sent().is_empty());
}

#[test]
fn the_answer_of_a_version_that_nobody_speaks_is_505() {
    let mut bench = Bench::new();
    let text = register().replace("192.0.2.1 SIP/2.0", "192.0.2.1 SIP/7.0");
    assert!(bench.receive_request(&text, udp_flow(9)).is_none());
    assert_eq!(
        bench.one_sent().response().status(),
        StatusCode::VERSION_NOT_SUPPORTED
    );
}

#[test]
fn a_request_that_no_user_answers_is_forgotten_when_its_client_has_given_up() {
    let mut bench = Bench::new();
    let request = bench.receive_request(&register(), udp_flow(9)).unwrap();
    bench.pass_ms(31_999);
    assert_eq!(bench.metrics().unanswered, 1);
    bench.pass_ms(1);
    bench.assert_empty();
    assert_eq!(bench.metrics().never_answered, 1);
    assert!(!bench.respond(&request, 200));
}
