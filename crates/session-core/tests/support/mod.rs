//! A small registrar that does as its script says, on any network.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use sipora_auth::{Authenticator, AuthenticatorConfig, Challenger, Secret, Verdict};
use sipora_message::{HeaderName, Method, Request, StatusCode};
use sipora_session_core::{Credentials, IdSource, SessionManagerBuilder};
use sipora_testkit::audit::Auditor;
use sipora_transaction_core::{
    Claim, Context, Endpoint, EndpointConfig, Event, IncomingRequest, User,
};
use sipora_transport::{FlowId, Network, Transport};

/// What a script says to a request: final or provisional answers in order; none is silence.
pub type Replies = Vec<Reply>;

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(HeaderName, String)>,
    /// The connection ends behind it.
    pub closes: bool,
    /// What stands in the place of an offer of keep-alives (RFC 6223).
    pub keep: Option<u32>,
}

pub fn reply(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        closes: false,
        keep: None,
    }
}

impl Reply {
    pub fn and_close(mut self) -> Self {
        self.closes = true;
        self
    }

    pub fn and_keep(mut self, seconds: u32) -> Self {
        self.keep = Some(seconds);
        self
    }

    pub fn with(mut self, name: impl Into<HeaderName>, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }
}

/// 200 that grants our contact this many seconds.
pub fn grant(request: &Request, seconds: u32) -> Replies {
    let contact = contact_of(request).unwrap_or_else(|| "sip:nobody@invalid".to_owned());
    vec![reply(200).with(
        HeaderName::Contact,
        format!("<{contact}>;expires={seconds}"),
    )]
}

pub fn silence() -> Replies {
    Vec::new()
}

pub fn contact_of(request: &Request) -> Option<String> {
    let contacts = request.headers().contacts().unwrap();
    contacts
        .as_slice()
        .first()
        .map(|contact| contact.uri().as_str().to_owned())
}

pub fn expires_of(request: &Request) -> Option<u32> {
    request.headers().expires().unwrap()
}

/// The requests that a server got, each once, and when.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<(Instant, Request)>>>);

impl Seen {
    pub fn all(&self) -> Vec<Request> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|(_, request)| request.clone())
            .collect()
    }

    pub fn times(&self) -> Vec<Instant> {
        self.0.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn last(&self) -> Request {
        self.all().pop().expect("something was seen")
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

pub struct Server {
    pub endpoint: Endpoint,
    pub seen: Seen,
    pub address: SocketAddr,
}

/// Starts a server that answers REGISTER, OPTIONS, MESSAGE and INFO as `script` says. `address` may have port 0.
pub async fn server(
    network: Arc<dyn Network>,
    address: &str,
    script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
) -> Server {
    let auditor = Arc::new(Auditor::new());
    audited_server(network, address, script, auditor).await
}

/// As [`server`], with an auditor that watches what it sends.
pub async fn audited_server(
    network: Arc<dyn Network>,
    address: &str,
    script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
    auditor: Arc<Auditor>,
) -> Server {
    start(network, address, EndpointConfig::default(), script, auditor).await
}

pub async fn server_with(
    network: Arc<dyn Network>,
    address: &str,
    config: EndpointConfig,
    script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
) -> Server {
    start(network, address, config, script, Arc::new(Auditor::new())).await
}

async fn start(
    network: Arc<dyn Network>,
    address: &str,
    config: EndpointConfig,
    script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
    auditor: Arc<Auditor>,
) -> Server {
    let seen = Seen::default();
    let address: SocketAddr = address.parse().unwrap();
    let mut builder = Endpoint::builder()
        .config(config)
        .network(network)
        .observer(auditor)
        .ids(IdSource::from_number(7))
        .listen(Transport::Udp, address)
        .listen(Transport::Tcp, address);
    builder.add_user(Scripted {
        script: Box::new(script),
        seen: seen.clone(),
        closing: Vec::new(),
    });
    let endpoint = builder.build().await.unwrap();
    let address = endpoint.local_addresses()[0].1;
    Server {
        endpoint,
        seen,
        address,
    }
}

#[derive(Clone, Copy)]
pub struct Now {
    pub instant: Instant,
    pub wall: SystemTime,
}

type Script = Box<dyn FnMut(&Request, Now) -> Replies + Send>;

struct Scripted {
    script: Script,
    seen: Seen,
    /// Connections to be closed once what was answered has left.
    closing: Vec<(Instant, FlowId)>,
}

impl User for Scripted {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        if !self.methods().contains(request.method()) {
            return Claim::Passed;
        }
        let now = context.now();
        self.seen
            .0
            .lock()
            .unwrap()
            .push((now.instant, request.clone()));
        let now = Now {
            instant: now.instant,
            wall: now.wall,
        };
        for reply in (self.script)(request, now) {
            let asked = match reply.keep {
                Some(seconds) => with_keep(request, seconds),
                None => request.clone(),
            };
            let mut builder = context.answer(&asked, StatusCode::new(reply.status).unwrap());
            for (name, value) in reply.headers {
                builder = builder.header(name, value);
            }
            context
                .respond(incoming.transaction, builder.build().unwrap())
                .unwrap();
            if reply.closes {
                self.closing.push((now.instant, incoming.flow.id));
            }
        }
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        for (_, flow) in self.closing.drain(..) {
            context.close(flow);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.closing.first().map(|(at, _)| *at)
    }

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}

    fn methods(&self) -> Vec<Method> {
        vec![
            Method::Register,
            Method::Options,
            Method::Message,
            Method::Info,
            Method::Publish,
        ]
    }
}

/// Takes the offer of keep-alives that the top Via has to make.
fn with_keep(request: &Request, seconds: u32) -> Request {
    let via = request.headers().via().unwrap();
    let via = String::from_utf8(via.as_bytes().to_vec()).unwrap();
    let (before, after) = via.split_once(";keep").expect("an offer");
    assert!(!after.starts_with('='), "{via}");
    let via = format!("{before};keep={seconds}{after}");
    request.with_top_via_replaced(via.as_bytes()).unwrap()
}

/// A gate that lets the user alice, with a password that can be changed, pass.
#[derive(Clone)]
pub struct Gate {
    authenticator: Arc<Authenticator>,
    password: Arc<Mutex<String>>,
    status: u16,
}

impl Gate {
    pub fn server(realm: &str, password: &str) -> Self {
        Self::new(AuthenticatorConfig::new(realm), password, 401)
    }

    pub fn proxy(realm: &str, password: &str) -> Self {
        Self::new(
            AuthenticatorConfig::new(realm).challenger(Challenger::Proxy),
            password,
            407,
        )
    }

    pub fn short_lived(realm: &str, password: &str, lifetime: Duration) -> Self {
        Self::new(
            AuthenticatorConfig::new(realm).nonce_lifetime(lifetime),
            password,
            401,
        )
    }

    fn new(config: AuthenticatorConfig, password: &str, status: u16) -> Self {
        Gate {
            authenticator: Arc::new(Authenticator::new([9; 32], config)),
            password: Arc::new(Mutex::new(password.to_owned())),
            status,
        }
    }

    pub fn set_password(&self, password: &str) {
        *self.password.lock().unwrap() = password.to_owned();
    }

    /// `None`: let it pass.
    pub fn check(&self, request: &Request, now: Now) -> Option<Replies> {
        let password = self.password.lock().unwrap().clone();
        let users = move |_realm: &str, name: &str| {
            (name == "alice").then(|| Secret::password(password.as_str()))
        };
        match self
            .authenticator
            .verify(now.wall, request, &users, |_| true)
        {
            Verdict::Accepted(_) => None,
            Verdict::Challenge { stale, .. } => {
                let mut refusal = reply(self.status);
                refusal.headers = self.authenticator.challenge(now.wall, request, stale);
                Some(vec![refusal])
            }
            other => panic!("malformed credentials: {other:?}"),
        }
    }
}

/// The bindings of one address-of-record, kept by the plain rules.
#[derive(Clone, Default)]
pub struct Bindings(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Bindings {
    /// Answers a REGISTER: at most `maximum` seconds.
    pub fn apply(&self, request: &Request, now: Now, maximum: u32) -> Replies {
        let mut bindings = self.0.lock().unwrap();
        bindings.retain(|_, until| *until > now.instant);
        if let Some(contact) = contact_of(request) {
            match expires_of(request).unwrap_or(3600).min(maximum) {
                0 => drop(bindings.remove(&contact)),
                seconds => drop(
                    bindings.insert(contact, now.instant + Duration::from_secs(seconds.into())),
                ),
            }
        }
        let mut answer = reply(200);
        for (contact, until) in bindings.iter() {
            let left = until
                .saturating_duration_since(now.instant)
                .as_secs_f64()
                .round();
            answer = answer.with(HeaderName::Contact, format!("<{contact}>;expires={left}"));
        }
        vec![answer]
    }

    pub fn add(&self, contact: &str, until: Instant) {
        self.0.lock().unwrap().insert(contact.to_owned(), until);
    }

    pub fn is_bound(&self, contact: &str, now: Instant) -> bool {
        self.0
            .lock()
            .unwrap()
            .get(contact)
            .is_some_and(|until| *until > now)
    }

    pub fn count(&self, now: Instant) -> usize {
        self.0
            .lock()
            .unwrap()
            .values()
            .filter(|until| **until > now)
            .count()
    }
}

pub fn alice() -> Credentials {
    Credentials::new("alice", "wonderland")
}

pub fn builder(network: impl Network) -> SessionManagerBuilder {
    SessionManagerBuilder::new()
        .with_network(Arc::new(network))
        .with_id_source(IdSource::from_number(1))
        .enable_sip_client()
}

pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
