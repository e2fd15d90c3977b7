//! A core with a clock that only the test moves.

use sipora_message::{HeaderName, Limits, Message, Method, Request, Response, StatusCode, Uri};
use sipora_transaction_core::{
    Config, Event, IdSource, IncomingRequest, Metrics, Open, OutgoingRequest, Owner, RequestId,
    TransactionLayer, TransportFailure,
};
use sipora_transport::{Destination, Flow, FlowId, Now, SentBy, Transport, stamp};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

pub const OWNER: Owner = Owner(3);

/// One message that left, and when.
#[derive(Debug, Clone)]
pub struct Sent {
    pub at: Duration,
    pub flow: Flow,
    pub message: Message,
}

impl Sent {
    pub fn request(&self) -> &Request {
        self.message.as_request().expect("a request")
    }

    pub fn response(&self) -> &Response {
        self.message.as_response().expect("a response")
    }

    pub fn branch(&self) -> &str {
        self.message.headers().via().unwrap().branch().unwrap()
    }

    pub fn is(&self, method: Method) -> bool {
        self.message
            .as_request()
            .is_some_and(|request| *request.method() == method)
    }
}

pub struct Bench {
    pub layer: TransactionLayer,
    start: Instant,
    pub now: Now,
    pub sent: Vec<Sent>,
    pub events: Vec<Event>,
    pub offered: Vec<IncomingRequest>,
    /// Destinations that a flow was asked for.
    pub opened: Vec<Destination>,
    /// Addresses that refuse connections.
    pub refusing: HashSet<Destination>,
    /// Flows are not given until this is off.
    pub hold: bool,
    pub held: Vec<Open>,
    /// Nothing can be sent to these.
    pub unreachable: HashSet<SocketAddr>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let start = Instant::now();
        Self {
            layer: TransactionLayer::new(config, IdSource::from_number(1)),
            start,
            now: Now {
                instant: start,
                wall: SystemTime::UNIX_EPOCH,
            },
            sent: Vec::new(),
            events: Vec::new(),
            offered: Vec::new(),
            opened: Vec::new(),
            refusing: HashSet::new(),
            hold: false,
            held: Vec::new(),
            unreachable: HashSet::new(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.now.instant - self.start
    }

    /// Sends a request to targets.
    pub fn send(&mut self, request: Request, targets: &[Destination]) -> RequestId {
        let mut outgoing = OutgoingRequest::new(request, targets[0].clone(), OWNER);
        outgoing.targets = targets.to_vec();
        let id = self.layer.send_request(self.now, outgoing).unwrap();
        self.settle();
        id
    }

    /// Lets a message come in.
    pub fn receive(&mut self, message: Message, flow: Flow) {
        if let Some(request) = self.layer.handle_message(self.now, message, flow) {
            self.layer.assign(request.transaction, OWNER);
            self.offered.push(request);
        }
        self.settle();
    }

    pub fn receive_request(&mut self, text: &str, flow: Flow) -> Option<IncomingRequest> {
        let before = self.offered.len();
        let Message::Request(request) = parse(text) else {
            panic!("no request: {text}");
        };
        self.receive(Message::Request(stamp(request, flow.remote)), flow);
        self.offered.get(before).cloned()
    }

    /// Lets the peer answer a request of ours.
    pub fn answer(&mut self, sent: &Sent, status: u16) {
        self.answer_with(sent, status, "their-tag");
    }

    pub fn answer_with(&mut self, sent: &Sent, status: u16, tag: &str) {
        let response = Response::for_request(sent.request(), StatusCode::new(status).unwrap());
        let response = response.to_tag(tag).build().unwrap();
        self.receive(Message::Response(response), sent.flow);
    }

    /// Answers a request that came in.
    pub fn respond(&mut self, request: &IncomingRequest, status: u16) -> bool {
        let response = Response::for_request(&request.request, StatusCode::new(status).unwrap());
        let response = response.to_tag("our-tag").build().unwrap();
        let taken = self
            .layer
            .respond(self.now, request.transaction, response)
            .is_ok();
        self.settle();
        taken
    }

    /// Lets time pass, every alarm going off at its moment.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while let Some(at) = self.layer.poll_timeout().filter(|at| *at <= end) {
            self.now.instant = self.now.instant.max(at);
            self.layer.handle_timeout(self.now);
            self.settle();
        }
        self.now.instant = end;
    }

    pub fn pass_ms(&mut self, time: u64) {
        self.pass(Duration::from_millis(time));
    }

    /// What was sent since last asked.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The only message that was sent since last asked.
    pub fn one_sent(&mut self) -> Sent {
        let mut sent = self.take_sent();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.remove(0)
    }

    /// Milliseconds at which messages left since last asked.
    pub fn sent_at(&mut self) -> Vec<u128> {
        self.take_sent()
            .iter()
            .map(|sent| sent.at.as_millis())
            .collect()
    }

    /// The statuses of the responses that the user got since last asked; 0 for a failure.
    pub fn statuses(&mut self) -> Vec<u16> {
        let status = |event: &Event| match event {
            Event::Response { response, .. } => Some(response.status().as_u16()),
            Event::Failed { .. } => Some(0),
            _ => None,
        };
        self.take_events().iter().filter_map(status).collect()
    }

    pub fn metrics(&self) -> Metrics {
        self.layer.metrics()
    }

    /// Nothing at all is kept.
    pub fn assert_empty(&self) {
        let metrics = self.metrics();
        assert_eq!(metrics.requests, 0, "requests");
        assert_eq!(metrics.client_transactions, 0, "client transactions");
        assert_eq!(metrics.server_transactions, 0, "server transactions");
        assert_eq!(metrics.unanswered, 0, "unanswered");
        assert!(self.layer.is_idle());
    }

    /// Gives the flows that were held back.
    pub fn release(&mut self) {
        self.hold = false;
        for open in std::mem::take(&mut self.held) {
            self.open(open);
        }
        self.settle();
    }

    pub fn settle(&mut self) {
        loop {
            if let Some(open) = self.layer.poll_open() {
                if let Open::Destination(_, destination) = &open {
                    self.opened.push(destination.clone());
                }
                if self.hold {
                    self.held.push(open);
                } else {
                    self.open(open);
                }
                continue;
            }
            if let Some(transmit) = self.layer.poll_transmit() {
                if self.unreachable.contains(&transmit.flow.remote) {
                    self.layer.handle_transport_error(
                        self.now,
                        transmit.purpose,
                        TransportFailure::Closed,
                    );
                    continue;
                }
                let message = Message::parse(transmit.bytes, &Limits::default()).unwrap();
                message.check().unwrap();
                self.sent.push(Sent {
                    at: self.elapsed(),
                    flow: transmit.flow,
                    message,
                });
                continue;
            }
            let Some((owner, event)) = self.layer.poll_event() else {
                return;
            };
            assert_eq!(owner, OWNER);
            self.events.push(event);
        }
    }

    fn open(&mut self, open: Open) {
        match open {
            Open::Destination(attempt, destination) if self.refusing.contains(&destination) => {
                self.layer
                    .flow_failed(self.now, attempt, TransportFailure::Refused);
            }
            Open::Destination(attempt, destination) => {
                let flow = flow_to(&destination);
                self.layer.flow_ready(self.now, attempt, flow, us());
            }
            Open::Flow(attempt, flow) => self.layer.flow_ready(self.now, attempt, flow, us()),
            _ => panic!("unknown wish"),
        }
    }
}

pub fn us() -> SentBy {
    SentBy {
        host: "192.0.2.1".into(),
        port: 5060,
        alias: false,
    }
}

pub fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 5060))
}

pub fn udp(last: u8) -> Destination {
    Destination::udp(address(last))
}

pub fn tcp(last: u8) -> Destination {
    Destination::tcp(address(last))
}

pub fn flow_to(destination: &Destination) -> Flow {
    let id = FlowId::from_u64(if destination.transport == Transport::Udp {
        1
    } else {
        100
    });
    Flow {
        id,
        transport: destination.transport,
        remote: destination.address,
    }
}

pub fn udp_flow(last: u8) -> Flow {
    flow_to(&udp(last))
}

pub fn tcp_flow(last: u8) -> Flow {
    flow_to(&tcp(last))
}

pub fn parse(text: &str) -> Message {
    let text = text
        .trim_start()
        .replace("\r\n", "\n")
        .replace('\n', "\r\n");
    Message::parse(text.into_bytes(), &Limits::default()).unwrap()
}

/// A request of ours, as it comes down: without a Via.
pub fn outgoing(method: Method) -> Request {
    outgoing_of(method, 0)
}

/// The same with a body.
pub fn outgoing_of(method: Method, body: usize) -> Request {
    let uri = Uri::parse("sip:bob@example.com").unwrap();
    let builder = Request::builder(method, &uri)
        .max_forwards(70)
        .header(HeaderName::Route, "<sip:one.example.com;lr>")
        .header(HeaderName::Route, "<sip:two.example.com;lr>")
        .from("\"Alice\" <sip:alice@example.com>;tag=a73kszlfl")
        .to("Bob <sip:bob@example.com>")
        .call_id("1j9FpLxk3uxtm8tn@192.0.2.1")
        .cseq(4711);
    if body > 0 {
        builder.body("text/plain", vec![b'x'; body])
    } else {
        builder
    }
    .build()
    .unwrap()
}

/// A request of a peer.
pub fn incoming(method: &str, branch: &str) -> String {
    format!(
        "{method} sip:bob@192.0.2.1 SIP/2.0\n\
         Via: SIP/2.0/UDP 192.0.2.9:5060;branch={branch}\n\
         Max-Forwards: 70\n\
         From: <sip:alice@example.com>;tag=88sja8x\n\
         To: <sip:bob@example.com>\n\
         Call-ID: 987asjd97y7atg\n\
         CSeq: 986759 {method}\n\
         Contact: <sip:alice@192.0.2.9>\n\
         Content-Length: 0\n\n"
    )
}

/// The ACK of a peer to our answer.
pub fn ack(branch: &str, tag: &str) -> String {
    let to = format!("To: <sip:bob@example.com>;tag={tag}");
    incoming("ACK", branch).replace("To: <sip:bob@example.com>", &to)
}
