//! Resident memory after a flood, in a process of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sipora_message::{Limits, Message, Request, Response, StatusCode};
use sipora_transaction_core::{Config, IdSource, Owner, TransactionLayer};
use sipora_transport::{Flow, FlowId, Now, Transport};
use std::time::Duration;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<usize>().unwrap() * 1024
}

#[test]
fn sixty_thousand_invites_that_nobody_acknowledges_leave_no_60_mb_behind() {
    let flow = Flow {
        id: FlowId::from_u64(1),
        transport: Transport::Udp,
        remote: ([192, 0, 2, 9], 5060).into(),
    };
    let mut layer = TransactionLayer::new(Config::default(), IdSource::from_number(1));
    let mut now = Now::from_system();
    let before = resident();
    for number in 0..60_000 {
        let text = format!(
            "INVITE sip:bob@example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{number};rport=5060;received=192.0.2.9\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=88sja8x{number}\r\n\
             To: <sip:bob@example.com>\r\nCall-ID: {number}@192.0.2.9\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@192.0.2.9>\r\nContent-Length: 0\r\n\r\n"
        );
        let invite = Request::parse(text.into_bytes(), &Limits::default()).unwrap();
        let incoming = layer.handle_message(now, Message::Request(invite), flow);
        let incoming = incoming.unwrap();
        layer.assign(incoming.transaction, Owner(0));
        let refusal = Response::for_request(&incoming.request, StatusCode::BUSY_HERE);
        let refusal = refusal.to_tag("a").build().unwrap();
        layer.respond(now, incoming.transaction, refusal).unwrap();
        while layer.poll_transmit().is_some() {}
    }
    let end = now.instant + Duration::from_secs(40);
    let mut repeated = 0_u32;
    while let Some(at) = layer.poll_timeout().filter(|at| *at <= end) {
        now.instant = now.instant.max(at);
        layer.handle_timeout(now);
        while layer.poll_transmit().is_some() {
            repeated += 1;
        }
        while layer.poll_event().is_some() {}
    }
    assert_eq!(repeated, 60_000 * 10);
    assert_eq!(layer.metrics().server_transactions, 0);
    let grown = resident().saturating_sub(before);
    assert!(grown < 60 * 1024 * 1024, "{grown}");
}
