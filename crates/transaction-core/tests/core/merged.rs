//! RFC 3261 §8.2.2.2: one request that comes by two ways.

use crate::bench::{Bench, OWNER, ack, incoming, tcp_flow, udp_flow};
use sipora_transaction_core::{IncomingRequest, Owner};

/// Lets a request come in and treats it as a server does.
fn offer(bench: &mut Bench, text: &str) -> Option<IncomingRequest> {
    let request = bench.receive_request(text, udp_flow(9))?;
    if bench.layer.refuse_merged(bench.now, &request, OWNER) {
        bench.settle();
        return None;
    }
    bench.layer.remember_origin(&request, OWNER);
    Some(request)
}

fn status(bench: &mut Bench) -> u16 {
    bench.one_sent().response().status().as_u16()
}

#[test]
fn a_request_that_came_by_another_way_is_refused_with_482() {
    for method in ["INVITE", "MESSAGE"] {
        let mut bench = Bench::new();
        let first = offer(&mut bench, &incoming(method, "z9hG4bKone")).unwrap();
        assert!(offer(&mut bench, &incoming(method, "z9hG4bKtwo")).is_none());
        let refusal = bench.one_sent();
        assert_eq!(refusal.response().status().as_u16(), 482);
        assert_eq!(refusal.branch(), "z9hG4bKtwo");
        assert!(refusal.message.headers().to().unwrap().tag().is_some());
        assert_eq!(bench.metrics().merged, 1);
        // The first is still there to be answered.
        assert!(bench.respond(&first, 200));
    }
}

#[test]
fn an_answered_request_still_makes_the_next_copy_a_merged_one() {
    let mut bench = Bench::new();
    let first = offer(&mut bench, &incoming("MESSAGE", "z9hG4bKone")).unwrap();
    bench.respond(&first, 200);
    bench.take_sent();
    bench.pass_ms(31_000);
    assert!(offer(&mut bench, &incoming("MESSAGE", "z9hG4bKtwo")).is_none());
    assert_eq!(status(&mut bench), 482);
    // That copy is a transaction too: as long as it is there, a third is no new request.
    bench.pass_ms(31_000);
    assert!(offer(&mut bench, &incoming("MESSAGE", "z9hG4bKthree")).is_none());
    assert_eq!(status(&mut bench), 482);
    bench.pass_ms(33_000);
    assert!(offer(&mut bench, &incoming("MESSAGE", "z9hG4bKfour")).is_some());
}

#[test]
fn a_retransmission_is_no_merged_request() {
    let mut bench = Bench::new();
    let first = offer(&mut bench, &incoming("MESSAGE", "z9hG4bKone")).unwrap();
    bench.respond(&first, 200);
    assert_eq!(status(&mut bench), 200);
    assert!(offer(&mut bench, &incoming("MESSAGE", "z9hG4bKone")).is_none());
    assert_eq!(status(&mut bench), 200);
    assert_eq!(bench.metrics().merged, 0);
}

#[test]
fn a_retransmission_of_a_merged_request_gets_its_482_again_and_its_ack_ends_it() {
    let mut bench = Bench::new();
    offer(&mut bench, &incoming("INVITE", "z9hG4bKone")).unwrap();
    offer(&mut bench, &incoming("INVITE", "z9hG4bKtwo"));
    let refusal = bench.one_sent();
    assert!(offer(&mut bench, &incoming("INVITE", "z9hG4bKtwo")).is_none());
    assert_eq!(
        bench.one_sent().response().as_bytes(),
        refusal.response().as_bytes()
    );
    assert_eq!(bench.metrics().merged, 1);
    let tag = refusal
        .message
        .headers()
        .to()
        .unwrap()
        .tag()
        .unwrap()
        .to_owned();
    bench.receive_request(&ack("z9hG4bKtwo", &tag), udp_flow(9));
    bench.pass_ms(5_000);
    assert_eq!(bench.metrics().server_transactions, 1);
}

#[test]
fn requests_of_a_dialog_are_never_merged() {
    let mut bench = Bench::new();
    let inside = |branch| {
        incoming("MESSAGE", branch).replace(
            "To: <sip:bob@example.com>",
            "To: <sip:bob@example.com>;tag=314",
        )
    };
    assert!(offer(&mut bench, &inside("z9hG4bKone")).is_some());
    assert!(offer(&mut bench, &inside("z9hG4bKtwo")).is_some());
    assert_eq!(bench.metrics().origins, 0);
}

#[test]
fn call_id_from_tag_cseq_and_method_each_make_another_request() {
    let mut bench = Bench::new();
    assert!(offer(&mut bench, &incoming("MESSAGE", "z9hG4bK1")).is_some());
    let others = [
        incoming("MESSAGE", "z9hG4bK2").replace("987asjd97y7atg", "another"),
        incoming("MESSAGE", "z9hG4bK3").replace("88sja8x", "another"),
        incoming("MESSAGE", "z9hG4bK4").replace("986759", "986760"),
        incoming("OPTIONS", "z9hG4bK5"),
    ];
    for other in others {
        assert!(offer(&mut bench, &other).is_some(), "{other}");
    }
}

#[test]
fn each_branch_of_a_forked_call_is_cancelled_by_its_own_cancel() {
    let mut bench = Bench::new();
    offer(&mut bench, &incoming("INVITE", "z9hG4bKone")).unwrap();
    offer(&mut bench, &incoming("INVITE", "z9hG4bKtwo"));
    bench.take_sent();
    for branch in ["z9hG4bKone", "z9hG4bKtwo"] {
        offer(&mut bench, &incoming("CANCEL", branch));
        assert_eq!(status(&mut bench), 200, "{branch}");
    }
}

#[test]
fn what_another_user_has_before_it_makes_no_request_a_merged_one() {
    let mut bench = Bench::new();
    let first = bench
        .receive_request(&incoming("MESSAGE", "z9hG4bKone"), udp_flow(9))
        .unwrap();
    bench.layer.remember_origin(&first, Owner(0));
    assert!(offer(&mut bench, &incoming("MESSAGE", "z9hG4bKtwo")).is_some());
}

#[test]
fn nothing_is_remembered_of_what_is_over() {
    let mut bench = Bench::new();
    // Over a connection nothing is left once the answer is there, and nothing of a stateless answer.
    let over_tcp = incoming("MESSAGE", "z9hG4bKone").replace("/UDP", "/TCP");
    let first = bench.receive_request(&over_tcp, tcp_flow(9)).unwrap();
    bench.layer.remember_origin(&first, OWNER);
    assert_eq!(bench.metrics().origins, 1);
    bench.respond(&first, 200);
    assert_eq!(bench.metrics().origins, 0);
    bench.layer.remember_origin(&first, OWNER);
    assert_eq!(bench.metrics().origins, 0);

    let second = offer(&mut bench, &incoming("OPTIONS", "z9hG4bKtwo")).unwrap();
    assert_eq!(bench.metrics().origins, 1);
    bench.respond(&second, 200);
    bench.pass_ms(32_000);
    assert_eq!(bench.metrics().origins, 0);
    bench.assert_empty();
}
