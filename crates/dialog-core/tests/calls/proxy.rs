//! A proxy that stays in the dialogs of what it forwards (RFC 3261 §16): the middle of the flows of RFC 3665.

use std::collections::HashMap;
use std::net::SocketAddr;

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
}

struct Proxy {
    address: String,
    ways: Ways,
    forwarded: HashMap<RequestId, IncomingRequest>,
    copies: HashMap<ServerTransactionId, RequestId>,
}

/// Starts one.
pub async fn proxy(network: &SimNetwork, address: &str, ways: Ways) -> Endpoint {
    let mut builder = endpoint(network, address, 77);
    builder.add_user(Proxy {
        address: address.to_owned(),
        ways,
        forwarded: HashMap::new(),
        copies: HashMap::new(),
    });
    builder.build().await.unwrap()
}

impl Proxy {
    fn forward(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) {
        let request = &incoming.request;
        let (copy, next) = self.copy(request);
        let target = Target::udp(next);
        let copy = context
            .send(copy, target, RequestOptions::forwarding())
            .unwrap();
        if *request.method() != Method::Ack {
            self.forwarded.insert(copy, incoming.clone());
            self.copies.insert(incoming.transaction, copy);
        }
    }

    /// Takes off its own Route and puts on its Record-Route.
    fn copy(&self, request: &Request) -> (Request, SocketAddr) {
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
            None => self.ways.next.clone(),
        };
        (edit.build().unwrap(), next.parse().unwrap())
    }

    fn answered(&mut self, context: &mut Context<'_>, copy: RequestId, response: &Response) {
        let Some(incoming) = self.forwarded.get(&copy) else {
            return;
        };
        let status = response.status();
        if status == StatusCode::TRYING {
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
        if let (Some(realm), Method::Invite) = (self.ways.wants, request.method())
            && request.headers().to().unwrap().tag().is_none()
        {
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
        self.forward(context, incoming);
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Response {
                request, response, ..
            } => self.answered(context, request, &response),
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
            Event::Cancelled { transaction, .. } => {
                if let Some(copy) = self.copies.get(&transaction) {
                    context.cancel(*copy);
                }
            }
            _ => {}
        }
    }

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}
}

fn host_port(uri: &sipora_message::Uri) -> String {
    format!("{}:{}", uri.host_str(), uri.port().unwrap_or(5060))
}
