//! A user agent of this crate, and a phone that does what a test tells it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipora_auth::AuthError;
use sipora_dialog_core::{
    Authorizer, Body, Call, CallConfig, CallEnd, CallEvent, IncomingCalls, Invite, UnifiedDialogApi,
};
use sipora_message::{
    HeaderName, Method, Request, RequestBuilder, Response, ResponseBuilder, StatusCode, Uri,
};
use sipora_testkit::{SimHost, SimNetwork, for_each_seed};
use sipora_transaction_core::{
    Claim, Context, Endpoint, EndpointConfig, Event, IdSource, IncomingRequest, RequestId,
    RequestOptions, ServerTransactionId, Target, User, UserHandle,
};
use sipora_transport::Transport;

pub const ALICE: &str = "192.0.2.1:5060";
pub const BOB: &str = "192.0.2.2:5060";

pub fn sdp(text: &str) -> Body {
    Body::new("application/sdp", format!("v=0\r\ns={text}\r\n"))
}

pub fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap()
}

pub async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Runs one scenario on a perfect network, the auditor watching: where user agents have one shard, and where they have four.
pub fn scene<S: Future<Output = ()>>(scenario: impl FnMut(SimNetwork) -> S) {
    for_each_seed(0..2, scenario);
}

/// One shard under even seeds, four under odd ones.
pub fn shards(network: &SimNetwork) -> usize {
    match network.seed() % 2 {
        0 => 1,
        _ => 4,
    }
}

/// An endpoint that is being built, and where.
pub type Site = (sipora_transaction_core::EndpointBuilder, SimHost);

pub fn site(network: &SimNetwork, address: &str, seed: u64) -> Site {
    let host = host(network, address);
    (endpoint_on(host.clone(), address, seed), host)
}

/// A user agent of this crate.
pub struct Agent {
    pub dialogs: UnifiedDialogApi,
    pub incoming: IncomingCalls,
    pub address: String,
    endpoint: Endpoint,
    host: SimHost,
}

impl Agent {
    pub async fn new(network: &SimNetwork, address: &str, seed: u64) -> Self {
        Self::with(network, address, seed, CallConfig::default()).await
    }

    pub async fn with(network: &SimNetwork, address: &str, seed: u64, config: CallConfig) -> Self {
        let host = host(network, address);
        Self::on(host, address, seed, config).await
    }

    pub async fn on(host: SimHost, address: &str, seed: u64, config: CallConfig) -> Self {
        let shards = shards(host.network());
        Self::sharded(host, address, (seed, shards), config).await
    }

    pub async fn sharded(
        host: SimHost,
        address: &str,
        (seed, shards): (u64, usize),
        config: CallConfig,
    ) -> Self {
        let settings = EndpointConfig {
            shards,
            ..EndpointConfig::default()
        };
        let builder = endpoint_on(host.clone(), address, seed).config(settings);
        Self::beside((builder, host), address, config).await
    }

    /// One beside other users of its endpoint.
    pub async fn beside((mut builder, host): Site, address: &str, config: CallConfig) -> Self {
        let (dialogs, incoming) = UnifiedDialogApi::add_with_calls(&mut builder, config);
        Agent {
            dialogs,
            incoming,
            address: address.to_owned(),
            endpoint: builder.build().await.unwrap(),
            host,
        }
    }

    /// Ends at once, as a process does, and gives its host to the next.
    pub async fn dies(self) -> SimHost {
        let host = self.host.clone();
        drop(self);
        pass(1).await;
        host
    }

    pub fn asks(&self, to: &str) -> Invite {
        let contact = uri(&format!("sip:alice@{}", self.address));
        Invite::new(
            uri(&format!("sip:bob@{to}")),
            uri("sip:alice@example.com"),
            contact,
        )
    }

    /// Calls with an offer.
    pub async fn calls(&self, to: &str) -> Call {
        let invite = self.asks(to).body(sdp("offer"));
        self.dialogs.invite(invite, None).await.unwrap()
    }

    /// Ends the endpoint, in good order.
    pub async fn shuts_down(self) {
        self.endpoint.shutdown().await;
    }

    /// Nothing is left of any call.
    pub fn assert_idle(&self) {
        let metrics = self.dialogs.call_metrics();
        assert_eq!((metrics.calls, metrics.exchanges), (0, 0), "{metrics:?}");
        assert_eq!(metrics.begun, metrics.ended);
    }
}

pub fn endpoint(
    network: &SimNetwork,
    address: &str,
    seed: u64,
) -> sipora_transaction_core::EndpointBuilder {
    endpoint_on(host(network, address), address, seed)
}

pub fn host(network: &SimNetwork, address: &str) -> SimHost {
    let address: std::net::SocketAddr = address.parse().unwrap();
    network.host(address.ip())
}

fn endpoint_on(
    host: SimHost,
    address: &str,
    seed: u64,
) -> sipora_transaction_core::EndpointBuilder {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let seed = seed ^ host.network().seed() << 8;
    Endpoint::builder()
        .network(Arc::new(host))
        .ids(IdSource::from_number(seed))
        .listen(Transport::Udp, address)
        .listen(Transport::Tcp, address)
}

/// A phone at [`BOB`]: it answers and sends what a test says, and remembers what came.
pub struct Phone {
    pub seen: Seen,
    pub handle: UserHandle<Wish>,
    _endpoint: Endpoint,
}

#[derive(Clone, Default)]
pub struct Seen {
    requests: Arc<Mutex<Vec<Came>>>,
    responses: Arc<Mutex<Vec<Response>>>,
}

impl Seen {
    /// What was answered to a request, 100 excepted.
    pub fn statuses(&self, request: &Request) -> Vec<u16> {
        let cseq = request.headers().cseq().unwrap();
        let responses = self.responses.lock().unwrap();
        let of = |response: &&Response| response.headers().cseq().unwrap() == cseq;
        let statuses = responses.iter().filter(of).map(|r| r.status().as_u16());
        statuses.filter(|status| *status > 100).collect()
    }

    /// The numbers of the reliable provisional answers to a request, in order.
    pub fn numbers(&self, request: &Request) -> Vec<u32> {
        let cseq = request.headers().cseq().unwrap();
        let responses = self.responses.lock().unwrap();
        let of = |response: &&Response| response.headers().cseq().unwrap() == cseq;
        let numbers = responses.iter().filter(of);
        numbers
            .filter_map(|response| response.headers().rseq().unwrap())
            .collect()
    }

    /// How often a 2xx to the INVITE with this number came.
    pub fn accepted(&self, number: u32) -> usize {
        let responses = self.responses.lock().unwrap();
        let is_it = |response: &&Response| {
            let cseq = response.headers().cseq().unwrap();
            response.status().is_success() && cseq.method == Method::Invite && cseq.number == number
        };
        responses.iter().filter(is_it).count()
    }

    /// How many ACKs of this number came to this tag.
    pub fn acks(&self, of: u32, tag: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        let is_it = |came: &&Came| {
            *came.method() == Method::Ack && number(came) == of && to_tag(came) == tag
        };
        requests.iter().filter(is_it).count()
    }

    /// All that came, in order.
    pub fn everything(&self) -> (Vec<Came>, Vec<Response>) {
        let requests = self.requests.lock().unwrap().clone();
        (requests, self.responses.lock().unwrap().clone())
    }

    pub fn last_response(&self) -> Response {
        self.responses.lock().unwrap().last().unwrap().clone()
    }
}

#[derive(Clone)]
pub struct Came {
    pub request: Request,
    pub transaction: ServerTransactionId,
}

impl std::ops::Deref for Came {
    type Target = Request;
    fn deref(&self) -> &Request {
        &self.request
    }
}

pub type Wish = Box<dyn FnOnce(&mut Context<'_>) + Send>;

struct Robot(Seen);

impl User for Robot {
    type Command = Wish;

    fn on_request(&mut self, _: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        self.0.requests.lock().unwrap().push(Came {
            request: incoming.request.clone(),
            transaction: incoming.transaction,
        });
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, event: Event) {
        match event {
            Event::Response { response, .. } => self.0.responses.lock().unwrap().push(response),
            Event::Cancelled {
                transaction,
                cancel,
            } => self.0.requests.lock().unwrap().push(Came {
                request: cancel,
                transaction,
            }),
            _ => {}
        }
    }

    fn on_command(&mut self, context: &mut Context<'_>, wish: Wish) {
        wish(context);
    }
}

impl Phone {
    pub async fn new(network: &SimNetwork) -> Self {
        Self::at(network, BOB).await
    }

    pub async fn at(network: &SimNetwork, address: &str) -> Self {
        let seen = Seen::default();
        let mut builder = endpoint(network, address, 99);
        let handle = builder.add_user(Robot(seen.clone()));
        Phone {
            seen,
            handle,
            _endpoint: builder.build().await.unwrap(),
        }
    }

    /// Those of this method that came, in order. A CANCEL has the transaction of its INVITE.
    pub fn all(&self, method: Method) -> Vec<Came> {
        let requests = self.seen.requests.lock().unwrap();
        let of = |came: &&Came| *came.request.method() == method;
        requests.iter().filter(of).cloned().collect()
    }

    pub fn count(&self, method: Method) -> usize {
        self.all(method).len()
    }

    /// Waits for the `nth` (from 0) of a method.
    pub async fn nth(&self, method: Method, nth: usize) -> Came {
        for _ in 0..20_000 {
            if let Some(came) = self.all(method.clone()).get(nth) {
                return came.clone();
            }
            pass(5).await;
        }
        panic!("no {method} number {nth} came");
    }

    pub async fn first(&self, method: Method) -> Came {
        self.nth(method, 0).await
    }

    /// Waits for the final answer to a request of the phone's.
    pub async fn answer_to(&self, request: &Request) -> Response {
        let cseq = request.headers().cseq().unwrap();
        for _ in 0..20_000 {
            let responses = self.seen.responses.lock().unwrap().clone();
            let found = responses.into_iter().find(|response| {
                response.status().is_final() && response.headers().cseq().unwrap() == cseq
            });
            if let Some(response) = found {
                return response;
            }
            pass(5).await;
        }
        panic!("no answer to {}", request.method());
    }

    pub async fn status_of(&self, request: &Request) -> u16 {
        self.answer_to(request).await.status().as_u16()
    }

    async fn does(&self, wish: impl FnOnce(&mut Context<'_>) + Send + 'static) {
        self.handle.send(Box::new(wish)).await.unwrap();
        pass(1).await;
    }

    pub async fn answer_with(
        &self,
        came: &Came,
        status: u16,
        tag: &str,
        edit: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
    ) {
        let status = StatusCode::new(status).unwrap();
        let mut builder = Response::for_request(&came.request, status).to_tag(tag);
        if *came.method() == Method::Invite && status.as_u16() < 300 {
            builder = builder.contact(format!("<sip:bob@{BOB}>"));
        }
        let response = edit(builder).build().unwrap();
        self.says(came.transaction, response).await;
    }

    pub async fn says(&self, transaction: ServerTransactionId, response: Response) {
        self.does(move |context| context.respond(transaction, response).unwrap())
            .await;
    }

    /// Answers; a 2xx to an INVITE carries an answer.
    pub async fn answer(&self, came: &Came, status: u16, tag: &str) {
        let has_body = *came.method() == Method::Invite && (200..300).contains(&status);
        self.answer_with(came, status, tag, |builder| match has_body {
            true => builder.body("application/sdp", "v=0\r\ns=answer\r\n"),
            false => builder,
        })
        .await;
    }

    pub async fn answer_as_is(&self, came: &Came, builder: ResponseBuilder) {
        let (transaction, response) = (came.transaction, builder.build().unwrap());
        self.does(move |context| context.respond(transaction, response).unwrap())
            .await;
    }

    /// How many final answers came to a request, copies included.
    pub fn seen_finals(&self, request: &Request) -> usize {
        let statuses = self.seen.statuses(request);
        statuses.into_iter().filter(|status| *status >= 200).count()
    }

    pub async fn send(&self, request: &Request, to: &str) {
        let target = Target::udp(to.parse().unwrap());
        self.send_to(request, target).await;
    }

    pub async fn send_to(&self, request: &Request, target: Target) {
        let request = request.clone();
        self.does(move |context| {
            context
                .send(request, target, RequestOptions::default())
                .unwrap();
        })
        .await;
    }

    /// Cancels the INVITE that the phone sent last.
    pub async fn send_and_cancel_after(&self, request: &Request, to: &str, milliseconds: u64) {
        let id = self.begins(request, to).await;
        pass(milliseconds).await;
        self.cancels(id).await;
    }

    /// Sends a request, to be cancelled.
    pub async fn begins(&self, request: &Request, to: &str) -> RequestId {
        let target = Target::udp(to.parse().unwrap());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let request = request.clone();
        self.does(move |context| {
            let options = RequestOptions::default();
            let _ = sender.send(context.send(request, target, options).unwrap());
        })
        .await;
        receiver.await.unwrap()
    }

    pub async fn cancels(&self, id: RequestId) {
        self.does(move |context| context.cancel(id)).await;
    }
}

/// Makes a provisional answer reliable (RFC 3262).
pub fn reliable(rseq: u32) -> impl FnOnce(ResponseBuilder) -> ResponseBuilder {
    move |builder| {
        builder
            .header(HeaderName::Require, "100rel")
            .header(HeaderName::RSeq, rseq)
    }
}

/// Does so, with a description.
pub fn described(rseq: u32, text: &'static str) -> impl FnOnce(ResponseBuilder) -> ResponseBuilder {
    move |builder| reliable(rseq)(builder).body("application/sdp", sdp(text).bytes)
}

/// Says that the phone knows PRACK and UPDATE.
pub fn knows_updates(builder: ResponseBuilder) -> ResponseBuilder {
    builder.header(HeaderName::Allow, "INVITE, ACK, BYE, PRACK, UPDATE")
}

/// An INVITE of the phone's, with an offer.
pub fn invite(to: &str) -> RequestBuilder {
    Request::builder(Method::Invite, &uri(&format!("sip:alice@{to}")))
        .from("<sip:bob@example.com>;tag=b")
        .to("<sip:alice@example.com>")
        .call_id("phone-call")
        .cseq(10)
        .contact(format!("<sip:bob@{BOB}>"))
        .body("application/sdp", "v=0\r\ns=offer\r\n")
}

pub trait CallIdAgain {
    fn call_id_again(self, call_id: &str) -> Request;
}

impl CallIdAgain for RequestBuilder {
    /// Builds it as another call.
    fn call_id_again(self, call_id: &str) -> Request {
        let request = self.build().unwrap();
        request
            .edit()
            .set(HeaderName::CallId, call_id)
            .build()
            .unwrap()
    }
}

/// A request of the phone's in the dialog that its INVITE, or that of the agent, has made.
pub struct InDialog {
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub target: String,
}

impl InDialog {
    /// The phone was called.
    pub fn of_invite(invite: &Request, tag: &str) -> Self {
        let headers = invite.headers();
        let text = |name| headers.text(&name).unwrap().into_owned();
        InDialog {
            call_id: text(HeaderName::CallId),
            local: format!("{};tag={tag}", text(HeaderName::To)),
            remote: text(HeaderName::From),
            target: headers.contact().unwrap().unwrap().uri().to_string(),
        }
    }

    /// The phone called.
    pub fn of_response(response: &Response) -> Self {
        let headers = response.headers();
        let text = |name| headers.text(&name).unwrap().into_owned();
        InDialog {
            call_id: text(HeaderName::CallId),
            local: text(HeaderName::From),
            remote: text(HeaderName::To),
            target: headers.contact().unwrap().unwrap().uri().to_string(),
        }
    }

    /// One with a Contact, and no description.
    pub fn bare(&self, method: Method, cseq: u32) -> RequestBuilder {
        Request::builder(method, &uri(&self.target))
            .from(&self.local)
            .to(&self.remote)
            .call_id(&self.call_id)
            .cseq(cseq)
            .contact(format!("<sip:bob@{BOB}>"))
    }

    /// One with a Contact and a description.
    pub fn offering(&self, method: Method, cseq: u32, text: &str) -> Request {
        let builder = self.bare(method, cseq);
        let builder = builder.body("application/sdp", sdp(text).bytes);
        builder.build().unwrap()
    }

    pub fn request(&self, method: Method, cseq: u32) -> RequestBuilder {
        let builder = Request::builder(method.clone(), &uri(&self.target))
            .from(&self.local)
            .to(&self.remote)
            .call_id(&self.call_id)
            .cseq(cseq);
        match method {
            Method::Invite => builder
                .contact(format!("<sip:bob@{BOB}>"))
                .body("application/sdp", "v=0\r\ns=new offer\r\n"),
            _ => builder,
        }
    }

    pub fn build(&self, method: Method, cseq: u32) -> Request {
        self.request(method, cseq).build().unwrap()
    }
}

pub async fn end(call: &mut Call) -> CallEnd {
    loop {
        match call.next().await {
            Some(CallEvent::Ended(end)) => return end,
            Some(_) => {}
            None => panic!("it had ended before"),
        }
    }
}

pub fn number(request: &Request) -> u32 {
    request.headers().cseq().unwrap().number
}

pub fn branch(request: &Request) -> String {
    let via = request.headers().via().unwrap();
    via.branch().unwrap().to_owned()
}

pub fn to_tag(request: &Request) -> String {
    let to = request.headers().to().unwrap();
    to.tag().unwrap_or_default().to_owned()
}

pub fn routes(request: &Request) -> Vec<String> {
    let routes = request.headers().routes();
    routes
        .map(|route| route.unwrap().uri().to_string())
        .collect()
}

/// Has an answer to every challenge.
struct Word;

impl Authorizer for Word {
    fn authorize(
        &self,
        _: &Request,
        _: &Response,
        _: &str,
    ) -> Result<Vec<(HeaderName, String)>, AuthError> {
        Ok(vec![(
            HeaderName::ProxyAuthorization,
            "Word open".to_owned(),
        )])
    }
}

pub fn credentials() -> Option<Arc<dyn Authorizer>> {
    Some(Arc::new(Word))
}

pub fn is_progress(event: &Option<CallEvent>) -> bool {
    matches!(event, Some(CallEvent::Progress(_)))
}

/// A call of Alice's that the phone has answered, with the phone's side of the dialog.
pub async fn established(alice: &Agent, phone: &Phone) -> (Call, InDialog) {
    let mut call = alice.calls(BOB).await;
    let invite = phone.first(Method::Invite).await;
    phone.answer(&invite, 200, "b").await;
    call.answered().await.unwrap();
    phone.first(Method::Ack).await;
    (call, InDialog::of_invite(&invite, "b"))
}

/// A call of the phone's that Alice has answered, with the phone's side of the dialog.
pub async fn answered(alice: &mut Agent, phone: &Phone) -> (Call, InDialog) {
    let invite = invite(ALICE).build().unwrap();
    phone.send(&invite, ALICE).await;
    let call = alice.incoming.next().await.unwrap();
    call.accept(sdp("answer")).await.unwrap();
    let response = phone.answer_to(&invite).await;
    (call, InDialog::of_response(&response))
}
