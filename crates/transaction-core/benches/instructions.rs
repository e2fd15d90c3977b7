//! Instructions of whole exchanges, both ends, without sockets, counted by callgrind: the same on every run.
//!
//! The limits are the recorded baseline with two percent on top; a run that exceeds one fails. When a change makes
//! something cheaper, its limit goes down with it. Needs valgrind and `cargo install gungraun-runner`.
#![allow(clippy::unwrap_used, missing_docs)]

use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use sipora_message::{Limits, Message, Method, Request, StatusCode, Uri};
use sipora_transaction_core::{Config, IdSource, Open, OutgoingRequest, Owner, TransactionLayer};
use sipora_transport::{Destination, Flow, FlowId, Now, SentBy, Transport, stamp};
use std::time::{Duration, Instant, SystemTime};

/// Instructions of 100 exchanges of a REGISTER and its 200, with the alarms that end them.
const NON_INVITE: u64 = 4_102_124;
/// Instructions of 100 exchanges of an INVITE, its 180, its 486 and their ACK, with the alarms that end them.
const INVITE: u64 = 7_664_237;
/// Instructions of the server's part of the first: a REGISTER as bytes comes in, and its 200 goes out as bytes.
const SERVER: u64 = 2_069_894;

const EXCHANGES: usize = 100;

fn limit(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, instructions * 102 / 100)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// One end.
struct End {
    layer: TransactionLayer,
    flow: Flow,
    local: SentBy,
}

impl End {
    fn new(own: u8, peer: u8) -> Self {
        let address = |last| ([192, 0, 2, last], 5060).into();
        Self {
            layer: TransactionLayer::new(Config::default(), IdSource::from_number(own.into())),
            flow: Flow {
                id: FlowId::from_u64(1),
                transport: Transport::Udp,
                remote: address(peer),
            },
            local: SentBy {
                host: format!("192.0.2.{own}").into(),
                port: 5060,
                alias: false,
            },
        }
    }

    /// Takes what has to be sent, and forgets events.
    fn out(&mut self, now: Now) -> Vec<bytes::Bytes> {
        let mut sent = Vec::new();
        loop {
            if let Some(Open::Destination(attempt, _)) = self.layer.poll_open() {
                let (flow, local) = (self.flow, self.local.clone());
                self.layer.flow_ready(now, attempt, flow, local);
            } else if let Some(transmit) = self.layer.poll_transmit() {
                sent.push(transmit.bytes);
            } else if self.layer.poll_event().is_none() {
                return sent;
            }
        }
    }

    /// Takes datagrams in, and answers requests with these statuses.
    fn take(&mut self, now: Now, datagrams: Vec<bytes::Bytes>, statuses: &[StatusCode]) {
        for datagram in datagrams {
            let message = Message::parse(datagram, &Limits::default()).unwrap();
            let message = match message {
                Message::Request(request) => stamp(request, self.flow.remote).into(),
                response => response,
            };
            let Some(incoming) = self.layer.handle_message(now, message, self.flow) else {
                continue;
            };
            self.layer.assign(incoming.transaction, Owner(0));
            for status in statuses {
                let answer = self.layer.answer(&incoming.request, *status);
                let answer = answer.build().unwrap();
                self.layer
                    .respond(now, incoming.transaction, answer)
                    .unwrap();
            }
        }
    }

    fn pass(&mut self, mut now: Now, time: Duration) {
        let end = now.instant + time;
        while let Some(at) = self.layer.poll_timeout().filter(|at| *at <= end) {
            now.instant = at;
            self.layer.handle_timeout(now);
            self.out(now);
        }
    }
}

struct Pair {
    client: End,
    server: End,
    now: Now,
    requests: Vec<Request>,
    datagrams: Vec<bytes::Bytes>,
}

fn pair(method: Method) -> Pair {
    let uri = Uri::parse("sip:example.com").unwrap();
    let request = |number: usize| {
        Request::builder(method.clone(), &uri)
            .max_forwards(70)
            .from("\"Alice\" <sip:alice@example.com>;tag=9fxced76sl")
            .to("<sip:alice@example.com>")
            .call_id(format!("3848276298220188511-{number}"))
            .cseq(1)
            .contact("<sip:alice@192.0.2.1:5060>;expires=3600")
            .build()
            .unwrap()
    };
    let requests: Vec<Request> = (0..EXCHANGES).map(request).collect();
    let via =
        |number: usize| format!("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKbench{number};rport");
    let datagrams = requests
        .iter()
        .enumerate()
        .map(|(number, request)| request.with_top_via(&via(number)).to_bytes());
    Pair {
        client: End::new(1, 2),
        server: End::new(2, 1),
        now: Now {
            instant: Instant::now(),
            wall: SystemTime::UNIX_EPOCH,
        },
        datagrams: datagrams.collect(),
        requests,
    }
}

fn exchange(mut pair: Pair, statuses: &[StatusCode]) -> Pair {
    let now = pair.now;
    for request in std::mem::take(&mut pair.requests) {
        let target = Destination::udp(pair.client.flow.remote);
        let request = OutgoingRequest::new(request, target, Owner(0));
        pair.client.layer.send_request(now, request).unwrap();
        let asked = pair.client.out(now);
        pair.server.take(now, asked, statuses);
        let answered = pair.server.out(now);
        pair.client.take(now, answered, &[]);
        let acknowledged = pair.client.out(now);
        pair.server.take(now, acknowledged, &[]);
        pair.server.out(now);
    }
    pair.client.pass(now, Duration::from_secs(40));
    pair.server.pass(now, Duration::from_secs(40));
    pair
}

#[library_benchmark(config = limit(NON_INVITE), setup = pair)]
#[bench::hundred(Method::Register)]
fn non_invite(pair: Pair) -> Pair {
    exchange(pair, &[StatusCode::OK])
}

#[library_benchmark(config = limit(INVITE), setup = pair)]
#[bench::hundred(Method::Invite)]
fn invite(pair: Pair) -> Pair {
    exchange(pair, &[StatusCode::RINGING, StatusCode::BUSY_HERE])
}

#[library_benchmark(config = limit(SERVER), setup = pair)]
#[bench::hundred(Method::Register)]
fn server(mut pair: Pair) -> Pair {
    for datagram in std::mem::take(&mut pair.datagrams) {
        pair.server
            .take(pair.now, vec![datagram], &[StatusCode::OK]);
        pair.server.out(pair.now);
    }
    pair
}

library_benchmark_group!(name = exchanges, benchmarks = [non_invite, invite, server]);
main!(library_benchmark_groups = exchanges);
