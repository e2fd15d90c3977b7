//! A proxy that stays in the dialogs of what it forwards (RFC 3261 §16): the middle of the flows of RFC 3665 and RFC 5359.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::endpoint;
use sipora_message::{HeaderName, Method, Request, Response, StatusCode};
use sipora_testkit::SimNetwork;
use sipora_transaction_core::{
    Claim, Context, Endpoint, Event, IncomingRequest, RequestError, RequestId, RequestOptions,
    ServerTransactionId, Target, User,
};

/// What a proxy does on its way.
#[derive(Clone, Default)]
pub struct Ways {
    /// Where requests without a Route go on to.
    pub next: String,
    /// Wants these credentials of INVITEs.
    pub wants: Option<&'static str>,
    /// Screens calls: refuses them with 403, and says where to hear why.
    pub screens: Option<String>,
    /// Where calls go on to that are refused, one after the other; who calls is told of each with 181.
    pub then: Vec<String>,
    /// How long a call may ring at one place, where there is another.
    pub patience: Option<Duration>,
}

struct Proxy {
    address: String,
    ways: Ways,
    forwarded: HashMap<RequestId, IncomingRequest>,
    copies: HashMap<ServerTransactionId, RequestId>,
    /// How many places have refused.
    tried: HashMap<ServerTransactionId, usize>,
    /// When a place has rung for long enough.
    alarms: Vec<(Instant, RequestId)>,
}

/// Starts one.
pub async fn proxy(network: &SimNetwork, address: &str, ways: Ways) -> Endpoint {
    let mut builder = endpoint(network, address, 77);
    builder.add_user(Proxy {
        address: address.to_owned(),
        ways,
        forwarded: HashMap::new(),
        copies: HashMap::new(),
        tried: HashMap::new(),
        alarms: Vec::new(),
    });
    builder.build().await.unwrap()
}

impl Proxy {
    fn forward(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) {
        let request = &incoming.request;
        let tried = self.tried.get(&incoming.transaction);
        let tried = tried.copied().unwrap_or_default();
        let (copy, next) = self.copy(request, tried);
        let target = Target::udp(next);
        let copy = context
            .send(copy, target, RequestOptions::forwarding())
            .unwrap();
        let begins = begins_call(request);
        if let Some(patience) = self.ways.patience.filter(|_| begins)
            && tried < self.ways.then.len()
        {
            self.alarms.push((context.now().instant + patience, copy));
        }
        if *request.method() != Method::Ack {
            self.forwarded.insert(copy, incoming.clone());
            self.copies.insert(incoming.transaction, copy);
        }
    }

    /// Takes off its own Route and puts on its Record-Route.
    fn copy(&self, request: &Request, tried: usize) -> (Request, SocketAddr) {
        let headers = request.headers();
        let hops = headers.max_forwards().unwrap().unwrap();
        let mut routes = headers
            .routes()
            .map(|route| route.unwrap().uri().to_owned());
        let mut edit = request.edit().set(HeaderName::MaxForwards, hops - 1);
        let mut next = routes.next();
        let own = |uri: &sipora_message::Uri| host_port(uri) == self.address;
        if next.as_ref().is_some_and(own) {
            edit = edit.remove_first_value(HeaderName::Route);
            next = routes.next();
        }
        let in_dialog = headers.to().unwrap().tag().is_some();
        if !in_dialog {
            edit = edit.prepend(
                HeaderName::RecordRoute,
                format!("<sip:{};lr>", self.address),
            );
        }
        let next = match next {
            Some(route) => host_port(&route),
            None if in_dialog => host_port(&request.to_uri().unwrap()),
            None if tried > 0 => self.ways.then[tried - 1].clone(),
            None => self.ways.next.clone(),
        };
        (edit.build().unwrap(), next.parse().unwrap())
    }

    fn answered(&mut self, context: &mut Context<'_>, copy: RequestId, response: &Response) {
        let Some(incoming) = self.forwarded.get(&copy).cloned() else {
            return;
        };
        let status = response.status();
        if status == StatusCode::TRYING {
            return;
        }
        if status.is_final() && !status.is_success() && self.goes_on(context, copy) {
            return;
        }
        let passed = response.edit().remove_first_value(HeaderName::Via).build();
        // One that came too late.
        let _ = context.respond(incoming.transaction, passed.unwrap());
        let is_invite = *incoming.request.method() == Method::Invite;
        if status.is_final() && !(is_invite && status.is_success()) {
            self.forget(copy);
        }
    }

    /// A place has refused a call: the next is tried, if there is one.
    fn goes_on(&mut self, context: &mut Context<'_>, copy: RequestId) -> bool {
        let Some(incoming) = self.forwarded.get(&copy).cloned() else {
            return false;
        };
        let tried = self.tried.get(&incoming.transaction);
        let tried = tried.copied().unwrap_or_default();
        if !begins_call(&incoming.request) || tried >= self.ways.then.len() {
            return false;
        }
        self.forget(copy);
        self.tried.insert(incoming.transaction, tried + 1);
        let status = StatusCode::CALL_IS_BEING_FORWARDED;
        let answer = context.answer(&incoming.request, status).build().unwrap();
        context.respond(incoming.transaction, answer).unwrap();
        self.forward(context, &incoming);
        true
    }

    fn forget(&mut self, copy: RequestId) -> Option<IncomingRequest> {
        let incoming = self.forwarded.remove(&copy)?;
        self.copies.remove(&incoming.transaction);
        Some(incoming)
    }
}

impl User for Proxy {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        if *request.method() == Method::Cancel {
            return Claim::Passed;
        }
        if let (Some(realm), true) = (self.ways.wants, begins_call(request)) {
            let mut given = request.headers().all(&HeaderName::ProxyAuthorization);
            let is_known = |value: &[u8]| {
                String::from_utf8_lossy(value).contains(&format!("realm=\"{realm}\""))
            };
            if !given.any(is_known) {
                let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
                let answer = context.answer(request, status).header(
                    HeaderName::ProxyAuthenticate,
                    format!("Digest realm=\"{realm}\", nonce=\"{realm}1\", algorithm=MD5"),
                );
                context
                    .respond(incoming.transaction, answer.build().unwrap())
                    .unwrap();
                return Claim::Taken;
            }
        }
        if let (Some(why), true) = (&self.ways.screens, begins_call(request)) {
            let answer = context.answer(request, StatusCode::FORBIDDEN);
            let answer = answer.reason("Screening Failure");
            let answer = answer.header(HeaderName::ErrorInfo, format!("<{why}>"));
            let answer = answer.build().unwrap();
            context.respond(incoming.transaction, answer).unwrap();
            return Claim::Taken;
        }
        self.forward(context, incoming);
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Response {
                request, response, ..
            } => self.answered(context, request, &response),
            Event::Failed { request, .. } if self.goes_on(context, request) => {}
            Event::Failed { request, error } => {
                if let Some(incoming) = self.forget(request) {
                    let status = match error {
                        RequestError::Cancelled => StatusCode::REQUEST_TERMINATED,
                        _ => StatusCode::TEMPORARILY_UNAVAILABLE,
                    };
                    let answer = context.answer(&incoming.request, status).build();
                    let _ = context.respond(incoming.transaction, answer.unwrap());
                }
            }
            Event::Ended { request } => drop(self.forget(request)),
            Event::Cancelled {
                transaction,
                cancel,
            } => {
                let reason = cancel.headers().text(&HeaderName::Reason);
                match (self.copies.get(&transaction), reason) {
                    (Some(copy), Some(reason)) => context.cancel_because(*copy, &reason),
                    (Some(copy), None) => context.cancel(*copy),
                    (None, _) => {}
                }
            }
            _ => {}
        }
    }

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now().instant;
        for (_, copy) in self.alarms.extract_if(.., |(at, _)| *at <= now) {
            context.cancel(copy);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.alarms.iter().map(|(at, _)| *at).min()
    }
}

fn begins_call(request: &Request) -> bool {
    *request.method() == Method::Invite && request.headers().to().unwrap().tag().is_none()
}

fn host_port(uri: &sipora_message::Uri) -> String {
    format!("{}:{}", uri.host_str(), uri.port().unwrap_or(5060))
}
