//! What transactions cost, alive, completed and gone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use allocation_counter::measure;
use sipora_message::{Limits, Message, Method, Request, Response, StatusCode, Uri};
use sipora_transaction_core::{
    Config, IdSource, IncomingRequest, Open, OutgoingRequest, Owner, TransactionLayer,
};
use sipora_transport::{Destination, Flow, FlowId, Now, SentBy, Transport};
use std::time::{Duration, Instant, SystemTime};

/// Where vectors and maps are nearly full, as they are at their largest.
const MANY: usize = 7_000;

struct Core {
    layer: TransactionLayer,
    now: Now,
}

fn flow() -> Flow {
    Flow {
        id: FlowId::from_u64(1),
        transport: Transport::Udp,
        remote: ([192, 0, 2, 9], 5060).into(),
    }
}

fn us() -> SentBy {
    SentBy {
        host: "192.0.2.1".into(),
        port: 5060,
        alias: false,
    }
}

fn incoming(method: &str, number: usize) -> Request {
    let text = format!(
        "{method} sip:example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{number};rport=5060;received=192.0.2.9\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=88sja8x{number}\r\n\
         To: <sip:alice@example.com>\r\nCall-ID: {number}@192.0.2.9\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:alice@192.0.2.9>\r\nContent-Length: 0\r\n\r\n"
    );
    Request::parse(text.into_bytes(), &Limits::default()).unwrap()
}

fn outgoing(method: Method, number: usize) -> Request {
    Request::builder(method, &Uri::parse("sip:example.com").unwrap())
        .max_forwards(70)
        .from("<sip:alice@example.com>;tag=88sja8x")
        .to("<sip:alice@example.com>")
        .call_id(format!("{number}@192.0.2.9"))
        .cseq(1)
        .build()
        .unwrap()
}

impl Core {
    fn new() -> Self {
        Self {
            layer: TransactionLayer::new(Config::default(), IdSource::from_number(1)),
            now: Now {
                instant: Instant::now(),
                wall: SystemTime::UNIX_EPOCH,
            },
        }
    }

    fn receive(&mut self, request: Request) -> IncomingRequest {
        let request = Message::Request(request);
        let offered = self.layer.handle_message(self.now, request, flow());
        let offered = offered.unwrap();
        self.layer.assign(offered.transaction, Owner(0));
        self.layer.remember_origin(&offered, Owner(0));
        offered
    }

    /// Answers with 400 bytes.
    fn answer(&mut self, incoming: &IncomingRequest, status: StatusCode) {
        let answer = |padding: usize| {
            let answer = Response::for_request(&incoming.request, status).to_tag("a");
            answer.reason(&"x".repeat(padding)).build().unwrap()
        };
        let bare = answer(1).as_bytes().len();
        let answer = answer(401 - bare);
        assert_eq!(answer.as_bytes().len(), 400);
        let transaction = incoming.transaction;
        self.layer.respond(self.now, transaction, answer).unwrap();
        self.drain();
    }

    fn send(&mut self, method: Method, number: usize) {
        let request = outgoing(method, number);
        let target = Destination::udp(flow().remote);
        let request = OutgoingRequest::new(request, target, Owner(0));
        self.layer.send_request(self.now, request).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            if let Some(Open::Destination(attempt, _)) = self.layer.poll_open() {
                self.layer.flow_ready(self.now, attempt, flow(), us());
                continue;
            }
            if self.layer.poll_transmit().is_none() && self.layer.poll_event().is_none() {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while let Some(at) = self.layer.poll_timeout().filter(|at| *at <= end) {
            self.now.instant = self.now.instant.max(at);
            self.layer.handle_timeout(self.now);
            self.drain();
        }
        self.now.instant = end;
    }

    fn assert_empty(&self) {
        let metrics = self.layer.metrics();
        assert_eq!(metrics.server_transactions, 0);
        assert_eq!(metrics.client_transactions, 0);
        assert_eq!(metrics.requests, 0);
        assert_eq!(metrics.timer_entries, 0);
        assert_eq!(metrics.origins, 0);
    }
}

/// Bytes that `work` leaves on the heap.
fn left_by(work: impl FnOnce()) -> usize {
    usize::try_from(measure(work).bytes_current).unwrap()
}

#[test]
fn a_live_transaction_costs_at_most_700_bytes_beside_its_message() {
    for method in ["REGISTER", "INVITE"] {
        let mut messages = Vec::with_capacity(MANY);
        let alone = left_by(|| messages.extend((0..MANY).map(|number| incoming(method, number))));
        drop(messages);
        let mut core = Core::new();
        let all = left_by(|| {
            for number in 0..MANY {
                core.receive(incoming(method, number));
            }
        });
        let each = (all - alone) / MANY;
        assert!(each <= 700, "{method}: {each}");
    }
}

/// The request with its list of targets, and its client transaction: two things, and two copies of the message.
#[test]
fn a_live_request_of_ours_costs_at_most_700_bytes_beside_what_is_sent() {
    for method in [Method::Register, Method::Invite] {
        let mut core = Core::new();
        let all = left_by(|| {
            for number in 0..MANY {
                core.send(method.clone(), number);
            }
        });
        // As it came down, and with its Via.
        let alone = left_by(|| {
            std::mem::forget(outgoing(method.clone(), 10_000));
            let via = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK12345678901234567890;rport";
            std::mem::forget(outgoing(method.clone(), 10_000).with_top_via(via));
        });
        let each = all / MANY - alone;
        assert!(each <= 700, "{method}: {each}");
    }
}

#[test]
fn a_completed_transaction_costs_at_most_600_bytes_with_an_answer_of_400() {
    let mut core = Core::new();
    let all = left_by(|| {
        for number in 0..MANY {
            let register = core.receive(incoming("REGISTER", number));
            core.answer(&register, StatusCode::OK);
        }
    });
    let each = all / MANY;
    assert!(each <= 600, "{each}");
}

#[test]
fn nothing_is_retained_once_the_timers_are_over() {
    let mut core = Core::new();
    let left = left_by(|| {
        for number in 0..MANY {
            let register = core.receive(incoming("REGISTER", number));
            core.answer(&register, StatusCode::OK);
            core.receive(incoming("MESSAGE", number));
            core.send(Method::Options, number);
            core.send(Method::Invite, number);
        }
        core.pass(Duration::from_secs(33));
    });
    core.assert_empty();
    // Room for the first thousand of each kind stays, and for the first 32 KiB of answers.
    assert!(left < 432 * 1024, "{left}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes a minute without optimisation")]
fn half_a_million_live_transactions_are_kept_and_each_is_found() {
    let mut core = Core::new();
    for number in 0..500_000 {
        core.receive(incoming("REGISTER", number));
    }
    assert_eq!(core.layer.metrics().unanswered, 500_000);
    for number in (0..500_000).step_by(50_021) {
        let copy = Message::Request(incoming("REGISTER", number));
        let offered = core.layer.handle_message(core.now, copy, flow());
        assert!(offered.is_none());
    }
    assert_eq!(core.layer.metrics().retransmissions_received, 10);
    core.pass(Duration::from_secs(33));
    core.assert_empty();
}
