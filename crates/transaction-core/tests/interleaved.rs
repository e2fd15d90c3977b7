//! Resident memory where an application keeps a little of each request, in a process of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sipora_message::{HeaderName, Limits, Message, Request, Response, StatusCode};
use sipora_transaction_core::{Config, IdSource, Owner, TransactionLayer};
use sipora_transport::{Flow, FlowId, Now, Transport};
use std::time::Duration;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<usize>().unwrap() * 1024
}

/// What the application keeps of a request, as a registrar keeps a binding.
const KEPT: usize = 120;
const REQUESTS: usize = 60_000;

#[test]
fn once_transactions_are_over_memory_holds_what_the_application_keeps_and_little_else() {
    let flow = Flow {
        id: FlowId::from_u64(1),
        transport: Transport::Udp,
        remote: ([192, 0, 2, 9], 5060).into(),
    };
    let mut layer = TransactionLayer::new(Config::default(), IdSource::from_number(1));
    let mut now = Now::from_system();
    let mut kept: Vec<Box<[u8]>> = Vec::with_capacity(REQUESTS);
    kept.resize(REQUESTS, Box::default());
    let before = resident();
    for (number, place) in kept.iter_mut().enumerate() {
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{number};rport=5060;received=192.0.2.9\r\n\
             Max-Forwards: 70\r\nFrom: <sip:u{number}@example.com>;tag=88sja8x{number}\r\n\
             To: <sip:u{number}@example.com>\r\nCall-ID: {number}@192.0.2.9\r\nCSeq: 1 REGISTER\r\n\
             Contact: <sip:u{number}@192.0.2.9>\r\nContent-Length: 0\r\n\r\n"
        );
        let request = Request::parse(text.into_bytes(), &Limits::default()).unwrap();
        let incoming = layer.handle_message(now, Message::Request(request), flow);
        let incoming = incoming.unwrap();
        layer.assign(incoming.transaction, Owner(0));
        *place = vec![b'x'; KEPT].into();
        let answer = Response::for_request(&incoming.request, StatusCode::OK)
            .to_tag("a")
            .header(HeaderName::Contact, "<sip:u@192.0.2.9>;expires=3600")
            .build()
            .unwrap();
        layer.respond(now, incoming.transaction, answer).unwrap();
        while layer.poll_transmit().is_some() {}
    }
    let most = resident().saturating_sub(before) / REQUESTS;
    now.instant += Duration::from_secs(40);
    while layer.poll_timeout().is_some_and(|at| at <= now.instant) {
        layer.handle_timeout(now);
    }
    assert_eq!(layer.metrics().server_transactions, 0);
    assert!(kept.iter().all(|text| text.len() == KEPT));
    let grown = resident().saturating_sub(before) / REQUESTS;
    // The allocator rounds up and keeps some of what is freed.
    assert!(
        grown < KEPT + 100 && most > 400,
        "{grown} bytes a request, of {most} before"
    );
}
