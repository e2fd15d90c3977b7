//! A peer that answers as its script says, calls where it is told to, and keeps what came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipora_message::{HeaderName, Method, Request, Response, StatusCode, Uri};
use sipora_session_core::IdSource;
use sipora_testkit::SimNetwork;
use sipora_transaction_core::{
    Claim, Context, Endpoint, Event, IncomingRequest, RequestOptions, Target, User, UserHandle,
};
use sipora_transport::Transport;

use crate::phone::OFFER;
use crate::support::Now;

/// One answer: status, To tag, header fields, body.
#[derive(Clone)]
pub struct Said {
    pub status: u16,
    pub tag: &'static str,
    pub headers: Vec<(HeaderName, String)>,
    pub sdp: Option<&'static str>,
    pub kind: &'static str,
    /// It answers the last INVITE, and not what came now.
    pub of_invite: bool,
}

pub fn said(status: u16, tag: &'static str) -> Said {
    Said {
        status,
        tag,
        headers: Vec::new(),
        sdp: None,
        kind: "application/sdp",
        of_invite: false,
    }
}

impl Said {
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn with_sdp(mut self, sdp: &'static str) -> Self {
        self.sdp = Some(sdp);
        self
    }

    pub fn of_invite(mut self) -> Self {
        self.of_invite = true;
        self
    }

    pub fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }
}

type Script = Box<dyn FnMut(&Request, Now) -> Vec<Said> + Send>;

#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<Request>>>, Arc<Mutex<Vec<Response>>>);

impl Kept {
    /// Waits for the final answer to a request of the peer's own.
    pub async fn answer_to(&self, request: &Request) -> Response {
        let cseq = request.headers().cseq().unwrap();
        for _ in 0..20_000 {
            let responses = self.1.lock().unwrap().clone();
            let is_answer = |response: &Response| {
                response.status().is_final() && response.headers().cseq().unwrap() == cseq
            };
            if let Some(response) = responses.into_iter().find(is_answer) {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no answer to {}", request.method());
    }

    /// Waits for a provisional answer to a request of the peer's own.
    pub async fn progress_of(&self, request: &Request, status: u16) -> Response {
        let cseq = request.headers().cseq().unwrap();
        for _ in 0..20_000 {
            let responses = self.1.lock().unwrap().clone();
            let is_meant = |response: &Response| {
                response.status().as_u16() == status && response.headers().cseq().unwrap() == cseq
            };
            if let Some(response) = responses.into_iter().find(is_meant) {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no {status} to {}", request.method());
    }

    pub fn all(&self, method: Method) -> Vec<Request> {
        let kept = self.0.lock().unwrap();
        let of = |request: &&Request| *request.method() == method;
        kept.iter().filter(of).cloned().collect()
    }

    pub fn everything(&self) -> Vec<Request> {
        self.0.lock().unwrap().clone()
    }

    pub async fn nth(&self, method: Method, nth: usize) -> Request {
        for _ in 0..20_000 {
            if let Some(request) = self.all(method.clone()).get(nth) {
                return request.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no {method} number {nth} came");
    }
}

/// One that answers more than INVITE by its script.
pub struct Exchange {
    pub kept: Kept,
    handle: UserHandle<Wish>,
    address: SocketAddr,
    _endpoint: Endpoint,
}

type Wish = Box<dyn FnOnce(&mut Context<'_>) + Send>;

impl Exchange {
    async fn sends(&self, request: &Request, to: &str) {
        let target = Target::udp(format!("{to}:5060").parse().unwrap());
        let request = request.clone();
        let wish: Wish = Box::new(move |context| {
            let options = RequestOptions::default();
            context.send(request, target, options).unwrap();
        });
        self.handle.send(wish).await.unwrap();
    }

    /// Calls, with an offer, and acknowledges what is answered.
    pub async fn calls(&self, to: &str) {
        let uri = Uri::parse(&format!("sip:somebody@{to}")).unwrap();
        let begin = |method: Method, to: &str| {
            Request::builder(method, &uri)
                .from("<sip:exchange@example.com>;tag=x")
                .to(to)
                .call_id("a-call-of-the-exchange")
                .cseq(1)
                .contact(format!("<sip:{}>", self.address))
        };
        let invite = begin(Method::Invite, &format!("<{uri}>"));
        let invite = invite.body("application/sdp", OFFER).build().unwrap();
        self.sends(&invite, to).await;
        let answer = self.kept.answer_to(&invite).await;
        assert!(answer.status().is_success());
        let callee = answer.headers().text(&HeaderName::To).unwrap();
        let ack = begin(Method::Ack, &callee).build().unwrap();
        self.sends(&ack, to).await;
    }

    /// Sends a request within the call that it has begun, with these header fields.
    pub async fn says(
        &self,
        to: &str,
        (method, cseq): (Method, u32),
        headers: &[(HeaderName, &str)],
        sdp: Option<&str>,
    ) -> Request {
        let answers = self.kept.1.lock().unwrap().clone();
        let mut tags = answers.iter().filter(|it| it.status().is_success());
        let callee = tags.next().unwrap().headers().text(&HeaderName::To);
        let uri = Uri::parse(&format!("sip:somebody@{to}")).unwrap();
        let mut builder = Request::builder(method, &uri)
            .from("<sip:exchange@example.com>;tag=x")
            .to(callee.unwrap())
            .call_id("a-call-of-the-exchange")
            .cseq(cseq)
            .contact(format!("<sip:{}>", self.address));
        for (name, value) in headers {
            builder = builder.header(name.clone(), *value);
        }
        if let Some(sdp) = sdp {
            builder = builder.body("application/sdp", sdp.to_owned());
        }
        let request = builder.build().unwrap();
        self.sends(&request, to).await;
        request
    }
}

struct Scripted {
    script: Script,
    methods: &'static [Method],
    kept: Kept,
    address: SocketAddr,
    /// The last INVITE.
    invite: Option<IncomingRequest>,
}

/// Starts one; what the script answers to nothing but INVITE, OPTIONS and BYE get 200.
pub async fn exchange(
    network: &SimNetwork,
    address: &str,
    script: impl FnMut(&Request, Now) -> Vec<Said> + Send + 'static,
) -> (Endpoint, Kept) {
    let exchange = exchange_for(&[Method::Invite], network, address, script).await;
    (exchange._endpoint, exchange.kept)
}

/// Starts one whose script answers these methods.
pub async fn exchange_for(
    methods: &'static [Method],
    network: &SimNetwork,
    address: &str,
    script: impl FnMut(&Request, Now) -> Vec<Said> + Send + 'static,
) -> Exchange {
    let kept = Kept::default();
    let address = SocketAddr::new(address.parse().unwrap(), 5060);
    let mut builder = Endpoint::builder()
        .network(Arc::new(network.host(address.ip())))
        .ids(IdSource::from_number(7))
        .listen(Transport::Udp, address)
        .listen(Transport::Tcp, address);
    let handle = builder.add_user(Scripted {
        script: Box::new(script),
        methods,
        kept: kept.clone(),
        address,
        invite: None,
    });
    Exchange {
        kept,
        handle,
        address,
        _endpoint: builder.build().await.unwrap(),
    }
}

impl User for Scripted {
    type Command = Wish;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        self.kept.0.lock().unwrap().push(request.clone());
        if *request.method() == Method::Invite {
            self.invite = Some(incoming.clone());
        }
        let answers = match request.method() {
            Method::Ack => Vec::new(),
            method if self.methods.contains(method) => {
                let now = context.now();
                let now = Now {
                    instant: now.instant,
                    wall: now.wall,
                };
                (self.script)(request, now)
            }
            _ => vec![said(200, "x")],
        };
        for answer in answers {
            let incoming = match &self.invite {
                Some(invite) if answer.of_invite => invite,
                _ => incoming,
            };
            let request = &incoming.request;
            let status = StatusCode::new(answer.status).unwrap();
            let mut builder = Response::for_request(request, status).to_tag(answer.tag);
            if matches!(request.method(), Method::Invite | Method::Refer) && answer.status < 300 {
                builder = builder.contact(format!("<sip:{}>", self.address));
            }
            for (name, value) in answer.headers {
                builder = builder.header(name, value);
            }
            if let Some(sdp) = answer.sdp {
                builder = builder.body(answer.kind, sdp);
            }
            context
                .respond(incoming.transaction, builder.build().unwrap())
                .unwrap();
        }
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        if let Event::Response { response, .. } = &event {
            self.kept.1.lock().unwrap().push(response.clone());
        }
        if let Event::Cancelled {
            transaction,
            cancel,
        } = event
        {
            self.kept.0.lock().unwrap().push(cancel.clone());
            let invites = self.kept.all(Method::Invite);
            let invite = invites.last().unwrap();
            let terminated = Response::for_request(invite, StatusCode::REQUEST_TERMINATED);
            let _ = context.respond(transaction, terminated.to_tag("x").build().unwrap());
        }
    }

    fn on_command(&mut self, context: &mut Context<'_>, wish: Wish) {
        wish(context);
    }
}
