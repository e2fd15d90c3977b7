//! Users and requests that the scenarios share.

use sipora_message::{Limits, Message, Method, Request, Response, StatusCode, Uri};
use sipora_testkit::SimNetwork;
use sipora_transaction_core::{
    Claim, Context, Direction, Endpoint, EndpointBuilder, EndpointConfig, Event, IdSource,
    IncomingRequest, MessageObserver, Observed, RequestId, RequestOptions, SendError,
    ServerTransactionId, Target, User, UserHandle,
};
use sipora_transport::{Flow, StaticResolver, Transport};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

pub fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

pub fn address(last: u8) -> SocketAddr {
    (ip(last), 5060).into()
}

/// Begins an endpoint at 192.0.2.`last`, UDP and TCP, on a simulated network: of one shard under even seeds, of four under
/// odd ones.
pub fn builder(network: &SimNetwork, last: u8) -> EndpointBuilder {
    Endpoint::builder()
        .network(Arc::new(network.host(ip(last))))
        .resolver(Arc::new(
            StaticResolver::new().with("server.example.com", ip(1)),
        ))
        .ids(IdSource::from_number(
            network.seed() * 100 + u64::from(last),
        ))
        .config(EndpointConfig {
            shards: [1, 4][usize::from(network.seed() % 2 == 1)],
            ..EndpointConfig::default()
        })
        .listen(Transport::Udp, address(last))
        .listen(Transport::Tcp, address(last))
}

pub fn request(method: Method, number: u32) -> Request {
    request_with(method, number, 0)
}

pub fn request_with(method: Method, number: u32, body: usize) -> Request {
    let builder = Request::builder(method, &Uri::parse("sip:bob@server.example.com").unwrap())
        .max_forwards(70)
        .from("<sip:alice@example.com>;tag=a73kszlfl")
        .to("<sip:bob@example.com>")
        .call_id(format!("call-{number}"))
        .cseq(1);
    if body > 0 {
        builder.body("text/plain", vec![b'x'; body])
    } else {
        builder
    }
    .build()
    .unwrap()
}

/// What a [`Server`] did.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests offered, by Call-ID and method.
    pub offered: HashMap<(String, Method), u32>,
    pub acknowledged: u32,
    pub not_acknowledged: u32,
    pub cancelled: u32,
    pub closed: u32,
    pub shutdowns: u32,
    pub last: Option<(ServerTransactionId, Request)>,
    pub flow: Option<Flow>,
}

pub type Shared<T> = Arc<Mutex<T>>;

/// Answers what it lists: INVITE with 180 and then what it was told to, or 487 once cancelled; the rest with 200.
pub struct Server {
    pub methods: Vec<Method>,
    pub invite: Option<u16>,
    /// Leaves requests unanswered.
    pub mute: bool,
    pub refuses_merged: bool,
    pub seen: Shared<Seen>,
    pub open: HashMap<ServerTransactionId, Request>,
}

impl Server {
    pub fn new(methods: &[Method]) -> (Self, Shared<Seen>) {
        let seen = Shared::default();
        let server = Self {
            methods: methods.to_vec(),
            invite: None,
            mute: false,
            refuses_merged: false,
            seen: Arc::clone(&seen),
            open: HashMap::new(),
        };
        (server, seen)
    }

    fn answer(
        context: &mut Context<'_>,
        transaction: ServerTransactionId,
        request: &Request,
        status: u16,
    ) {
        let answer = context
            .answer(request, StatusCode::new(status).unwrap())
            .build()
            .unwrap();
        context.respond(transaction, answer).unwrap();
    }
}

impl User for Server {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        if !self.methods.contains(request.method()) {
            return Claim::Passed;
        }
        let call_id = request.headers().call_id().unwrap().to_owned();
        {
            let mut seen = self.seen.lock().unwrap();
            *seen
                .offered
                .entry((call_id, request.method().clone()))
                .or_default() += 1;
            seen.last = Some((incoming.transaction, request.clone()));
            seen.flow = Some(incoming.flow);
        }
        if self.mute || *request.method() == Method::Ack {
            return Claim::Taken;
        }
        if *request.method() != Method::Invite {
            Self::answer(context, incoming.transaction, request, 200);
            return Claim::Taken;
        }
        Self::answer(context, incoming.transaction, request, 180);
        match self.invite {
            Some(status) => Self::answer(context, incoming.transaction, request, status),
            None => {
                self.open.insert(incoming.transaction, request.clone());
            }
        }
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        let mut seen = self.seen.lock().unwrap();
        match event {
            Event::Cancelled { transaction, .. } => {
                seen.cancelled += 1;
                let invite = self.open.remove(&transaction).unwrap();
                Self::answer(context, transaction, &invite, 487);
            }
            Event::Acknowledged { .. } => seen.acknowledged += 1,
            Event::NotAcknowledged { .. } => seen.not_acknowledged += 1,
            Event::FlowClosed { .. } => seen.closed += 1,
            _ => {}
        }
    }

    fn refuses_merged(&self, _request: &IncomingRequest) -> bool {
        self.refuses_merged
    }

    fn on_command(&mut self, _context: &mut Context<'_>, _command: ()) {}

    fn on_shutdown(&mut self, _context: &mut Context<'_>) {
        self.seen.lock().unwrap().shutdowns += 1;
    }

    fn methods(&self) -> Vec<Method> {
        self.methods.clone()
    }
}

pub enum Order {
    Send(
        Box<Request>,
        Target,
        mpsc::UnboundedSender<Event>,
        oneshot::Sender<Result<RequestId, SendError>>,
    ),
    Cancel(RequestId),
}

/// Sends what it is told to, and passes every event on.
#[derive(Default)]
pub struct Client {
    waiting: HashMap<RequestId, mpsc::UnboundedSender<Event>>,
}

impl User for Client {
    type Command = Order;

    fn on_request(&mut self, _context: &mut Context<'_>, _request: &IncomingRequest) -> Claim {
        Claim::Passed
    }

    fn on_event(&mut self, _context: &mut Context<'_>, event: Event) {
        let (Event::Response { request, .. }
        | Event::Failed { request, .. }
        | Event::Ended { request }) = &event
        else {
            return;
        };
        let _ = self.waiting[request].send(event);
    }

    fn on_command(&mut self, context: &mut Context<'_>, order: Order) {
        match order {
            Order::Send(request, target, events, reply) => {
                let id = context.send(*request, target, RequestOptions::default());
                if let Ok(id) = &id {
                    self.waiting.insert(*id, events);
                }
                let _ = reply.send(id);
            }
            Order::Cancel(id) => context.cancel(id),
        }
    }
}

/// Sends a request and gives its events.
pub async fn send(
    client: &UserHandle<Order>,
    request: Request,
    target: Target,
) -> (RequestId, mpsc::UnboundedReceiver<Event>) {
    let (events, receiver) = mpsc::unbounded_channel();
    let (reply, id) = oneshot::channel();
    client
        .send(Order::Send(Box::new(request), target, events, reply))
        .await
        .unwrap();
    (id.await.unwrap().unwrap(), receiver)
}

/// The next final response, provisional ones passed over; panics where the request failed.
pub async fn final_of(events: &mut mpsc::UnboundedReceiver<Event>) -> Response {
    loop {
        match events.recv().await.expect("an event") {
            Event::Response { response, .. } if response.status().is_final() => return response,
            Event::Response { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

/// Keeps every message that left.
#[derive(Default)]
pub struct Outbox {
    pub sent: Mutex<Vec<Message>>,
}

impl MessageObserver for Outbox {
    fn on_message(&self, message: &Observed<'_>) {
        if message.direction == Direction::Out {
            self.sent
                .lock()
                .unwrap()
                .push(Message::parse(message.bytes.to_vec(), &Limits::default()).unwrap());
        }
    }
}

pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
