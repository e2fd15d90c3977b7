//! A user agent that does as its script says, and sends what a test tells it.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipora_dialog_core::{Subscribe, SubscriberApi, SubscriberConfig};
use sipora_message::{HeaderName, Method, Request, Response, StatusCode, Uri};
use sipora_testkit::{SimHost, SimNetwork};
use sipora_transaction_core::{
    Claim, Context, Endpoint, Event, IdSource, IncomingRequest, RequestOptions, Target, User,
    UserHandle,
};
use sipora_transport::Transport;

pub const US: &str = "192.0.2.1:5060";
pub const PEER: &str = "192.0.2.10:5060";

/// What a script does when a request comes.
pub enum Act {
    Answer(u16, Vec<(HeaderName, String)>),
    Send(Request),
}

pub fn answer(status: u16) -> Act {
    Act::Answer(status, Vec::new())
}

pub fn ok(expires: u32) -> Act {
    let contact = (HeaderName::Contact, format!("<sip:{PEER}>"));
    Act::Answer(
        200,
        vec![(HeaderName::Expires, expires.to_string()), contact],
    )
}

#[derive(Clone, Default)]
pub struct Seen {
    requests: Arc<Mutex<Vec<Request>>>,
    answers: Arc<Mutex<Vec<Response>>>,
}

impl Seen {
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn last(&self) -> Request {
        self.requests().pop().expect("a request")
    }

    pub fn answers(&self) -> Vec<Response> {
        self.answers.lock().unwrap().clone()
    }

    pub fn statuses(&self) -> Vec<u16> {
        self.answers()
            .iter()
            .map(|answer| answer.status().as_u16())
            .collect()
    }

    pub fn clear(&self) {
        self.requests.lock().unwrap().clear();
        self.answers.lock().unwrap().clear();
    }
}

type Script = Box<dyn FnMut(&Request) -> Vec<Act> + Send>;

struct Scripted {
    script: Script,
    seen: Seen,
    target: Target,
}

impl Scripted {
    fn send(&self, context: &mut Context<'_>, request: Request) {
        let target = self.target.clone();
        context
            .send(request, target, RequestOptions::default())
            .unwrap();
    }
}

impl User for Scripted {
    type Command = Request;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        self.seen.requests.lock().unwrap().push(request.clone());
        for act in (self.script)(request) {
            match act {
                Act::Answer(status, headers) => {
                    let mut builder = context.answer(request, StatusCode::new(status).unwrap());
                    for (name, value) in headers {
                        builder = builder.header(name, value);
                    }
                    context
                        .respond(incoming.transaction, builder.build().unwrap())
                        .unwrap();
                }
                Act::Send(request) => self.send(context, request),
            }
        }
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, event: Event) {
        if let Event::Response { response, .. } = event
            && response.status().is_final()
        {
            self.seen.answers.lock().unwrap().push(response);
        }
    }

    fn on_command(&mut self, context: &mut Context<'_>, request: Request) {
        self.send(context, request);
    }

    fn methods(&self) -> Vec<Method> {
        vec![Method::Subscribe, Method::Notify]
    }
}

pub struct Peer {
    pub endpoint: Endpoint,
    pub handle: UserHandle<Request>,
    pub seen: Seen,
}

impl Peer {
    pub async fn new(
        network: &SimNetwork,
        script: impl FnMut(&Request) -> Vec<Act> + Send + 'static,
    ) -> Self {
        Self::over(Transport::Udp, network, script).await
    }

    /// One that sends its own requests over this transport.
    pub async fn over(
        transport: Transport,
        network: &SimNetwork,
        script: impl FnMut(&Request) -> Vec<Act> + Send + 'static,
    ) -> Self {
        let seen = Seen::default();
        let mut builder = endpoint(network, PEER, 2);
        let handle = builder.add_user(Scripted {
            script: Box::new(script),
            seen: seen.clone(),
            target: Target::address(transport, US.parse().unwrap()),
        });
        Peer {
            endpoint: builder.build().await.unwrap(),
            handle,
            seen,
        }
    }

    /// Sends a request, waits a second, and gives the answers that came.
    pub async fn say(&self, request: Request) -> Vec<Response> {
        let before = self.seen.answers().len();
        self.handle.send(request).await.unwrap();
        pass(1000).await;
        self.seen.answers().split_off(before)
    }

    pub async fn says(&self, request: Request) -> u16 {
        self.say(request)
            .await
            .last()
            .map_or(0, |answer| answer.status().as_u16())
    }
}

pub fn endpoint(
    network: &SimNetwork,
    address: &str,
    seed: u64,
) -> sipora_transaction_core::EndpointBuilder {
    let address: SocketAddr = address.parse().unwrap();
    let host: SimHost = network.host(address.ip());
    Endpoint::builder()
        .network(Arc::new(host))
        .ids(IdSource::from_number(seed))
        .listen(Transport::Udp, address)
        .listen(Transport::Tcp, address)
}

pub async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

pub fn subscribe(event: &str, expires: u32) -> Subscribe {
    Subscribe {
        target: Uri::parse(&format!("sip:bob@{PEER}")).unwrap(),
        from: Uri::parse("sip:alice@example.com").unwrap(),
        contact: Uri::parse(&format!("sip:alice@{US}")).unwrap(),
        event: event.to_owned(),
        expires,
        headers: Vec::new(),
    }
}

pub fn subscriber(
    builder: &mut sipora_transaction_core::EndpointBuilder,
    config: SubscriberConfig,
) -> SubscriberApi {
    SubscriberApi::add_to(
        builder,
        config,
        vec![
            Arc::new(sipora_dialog_core::PresencePackage),
            Arc::new(sipora_dialog_core::MessageSummaryPackage),
        ],
    )
}

/// A NOTIFY in the dialog that a SUBSCRIBE asks for, from the notifier with this tag.
pub struct Notify {
    pub call_id: String,
    pub to: String,
    pub tag: String,
    pub cseq: u32,
    pub event: Option<String>,
    pub state: Option<String>,
    pub body: Option<(String, String)>,
    pub extra: Vec<(HeaderName, String)>,
}

impl Notify {
    pub fn to(subscribe: &Request, tag: &str, cseq: u32, state: &str) -> Self {
        let headers = subscribe.headers();
        Notify {
            call_id: headers.call_id().unwrap().to_owned(),
            to: headers.text(&HeaderName::From).unwrap().into_owned(),
            tag: tag.to_owned(),
            cseq,
            event: headers
                .text(&HeaderName::Event)
                .map(|event| event.into_owned()),
            state: Some(state.to_owned()),
            body: None,
            extra: vec![(HeaderName::Contact, format!("<sip:bob@{PEER}>"))],
        }
    }

    pub fn body(mut self, content_type: &str, body: &str) -> Self {
        self.body = Some((content_type.to_owned(), body.to_owned()));
        self
    }

    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.extra.push((name, value.to_owned()));
        self
    }

    pub fn build(self) -> Request {
        let mut builder = Request::builder(
            Method::Notify,
            &Uri::parse(&format!("sip:alice@{US}")).unwrap(),
        )
        .from(format!("<sip:bob@{PEER}>;tag={}", self.tag))
        .to(self.to)
        .call_id(self.call_id)
        .cseq(self.cseq);
        for (name, value) in [
            (HeaderName::Event, self.event),
            (HeaderName::SubscriptionState, self.state),
        ] {
            if let Some(value) = value {
                builder = builder.header(name, value);
            }
        }
        for (name, value) in self.extra {
            builder = builder.header(name, value);
        }
        if let Some((content_type, body)) = self.body {
            builder = builder.body(&content_type, body);
        }
        builder.build().unwrap()
    }
}

pub fn expires_of(request: &Request) -> Option<u32> {
    request.headers().expires().unwrap()
}

pub fn state_of(notify: &Request) -> String {
    notify
        .headers()
        .text(&HeaderName::SubscriptionState)
        .unwrap()
        .into_owned()
}
