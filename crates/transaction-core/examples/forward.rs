//! Forwards every request to one server and its answers back: a stateful proxy (RFC 3261 §16) with one way.
//!
//! ```sh
//! cargo run --example forward -- 127.0.0.1:5060 192.0.2.7:5060
//! ```
//!
//! CANCEL, ACK and Timer C are the endpoint's work. Nothing is record-routed, so that requests of a dialog go past it; a
//! Route that names it is not taken off.

use sipora_message::{HeaderName, Method, Request, Response, StatusCode};
use sipora_transaction_core::{
    Claim, Context, Endpoint, Event, Gone, IncomingRequest, RequestError, RequestId,
    RequestOptions, ServerTransactionId, Target, User,
};
use sipora_transport::Transport;
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;

/// Forwards requests.
pub struct Forwarder {
    downstream: SocketAddr,
    /// The requests that were forwarded, by the name of their copy.
    forwarded: HashMap<RequestId, IncomingRequest>,
    /// The same, by the transaction that a CANCEL names.
    copies: HashMap<ServerTransactionId, RequestId>,
}

impl Forwarder {
    /// Makes a proxy in front of `downstream`.
    pub fn new(downstream: SocketAddr) -> Self {
        Self {
            downstream,
            forwarded: HashMap::new(),
            copies: HashMap::new(),
        }
    }

    /// §16.3 and §16.6: looks whether a request may go on, and sends its copy.
    fn forward(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
    ) -> Result<(), StatusCode> {
        let copy = copy_of(&incoming.request)?;
        let target = Target::udp(self.downstream);
        let sent = context.send(copy, target, RequestOptions::forwarding());
        let copy = sent.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        // An ACK to a 2xx is sent once, and nothing comes back.
        if *incoming.request.method() != Method::Ack {
            self.forwarded.insert(copy, incoming.clone());
            self.copies.insert(incoming.transaction, copy);
        }
        Ok(())
    }

    /// §16.7: passes a response on.
    fn answered(&mut self, context: &mut Context<'_>, copy: RequestId, response: &Response) {
        let Some(incoming) = self.forwarded.get(&copy) else {
            return;
        };
        let (status, transaction) = (response.status(), incoming.transaction);
        match status {
            // It went from hop to hop (step 5); the endpoint makes one of its own.
            StatusCode::TRYING => return,
            // It would say of us what is true of the server alone (step 6).
            StatusCode::SERVICE_UNAVAILABLE => {
                let own = refuse(context, incoming, StatusCode::SERVER_INTERNAL_ERROR);
                report(own);
            }
            _ => {
                let passed = response.edit().remove_first_value(HeaderName::Via).build();
                match passed {
                    Ok(passed) => report(context.respond(transaction, passed)),
                    Err(_) => report(refuse(context, incoming, StatusCode::BAD_GATEWAY)),
                }
            }
        }
        // An INVITE that was accepted may be accepted again by somebody else, until it has ended.
        let is_invite = *incoming.request.method() == Method::Invite;
        if status.is_final() && !(is_invite && status.is_success()) {
            self.forget(copy);
        }
    }

    /// §16.8 and §16.9: there is no final response.
    fn failed(&mut self, context: &mut Context<'_>, copy: RequestId, error: &RequestError) {
        if let Some(incoming) = self.forget(copy) {
            let status = match error {
                RequestError::Cancelled => StatusCode::REQUEST_TERMINATED,
                RequestError::Timeout => StatusCode::REQUEST_TIMEOUT,
                _ => StatusCode::SERVER_INTERNAL_ERROR,
            };
            report(refuse(context, &incoming, status));
        }
    }

    fn forget(&mut self, copy: RequestId) -> Option<IncomingRequest> {
        let incoming = self.forwarded.remove(&copy)?;
        self.copies.remove(&incoming.transaction);
        Some(incoming)
    }
}

impl User for Forwarder {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        // A CANCEL that gets here names nothing that is forwarded: 481.
        if *incoming.request.method() == Method::Cancel {
            return Claim::Passed;
        }
        if let Err(status) = self.forward(context, incoming)
            && *incoming.request.method() != Method::Ack
        {
            report(refuse(context, incoming, status));
        }
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Response {
                request, response, ..
            } => self.answered(context, request, &response),
            Event::Failed { request, error } => self.failed(context, request, &error),
            Event::Ended { request } => drop(self.forget(request)),
            // §16.10: the CANCEL goes on to where its request went; the 487 comes back as a response.
            Event::Cancelled { transaction, .. } => {
                if let Some(copy) = self.copies.get(&transaction) {
                    context.cancel(*copy);
                }
            }
            _ => {}
        }
    }

    fn on_command(&mut self, _context: &mut Context<'_>, (): ()) {}
}

/// §16.3 steps 3 and 5, §16.6 steps 1 and 3: the endpoint puts the Via on top.
fn copy_of(request: &Request) -> Result<Request, StatusCode> {
    let headers = request.headers();
    if headers.contains(&HeaderName::ProxyRequire) {
        return Err(StatusCode::BAD_EXTENSION);
    }
    let hops = match headers.max_forwards() {
        Ok(Some(0)) => return Err(StatusCode::TOO_MANY_HOPS),
        Ok(Some(hops)) => hops - 1,
        Ok(None) => 70,
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    let copy = request.edit().set(HeaderName::MaxForwards, hops);
    copy.build().map_err(|_| StatusCode::BAD_REQUEST)
}

fn refuse(
    context: &mut Context<'_>,
    incoming: &IncomingRequest,
    status: StatusCode,
) -> Result<(), Gone> {
    let mut answer = context.answer(&incoming.request, status);
    if let Some(unsupported) = incoming.request.headers().text(&HeaderName::ProxyRequire)
        && status == StatusCode::BAD_EXTENSION
    {
        answer = answer.header(HeaderName::Unsupported, unsupported);
    }
    match answer.build() {
        Ok(answer) => context.respond(incoming.transaction, answer),
        Err(_) => Err(Gone),
    }
}

fn report(outcome: Result<(), Gone>) {
    if outcome.is_err() {
        tracing::debug!("the answer came too late");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [local, downstream] = arguments.as_slice() else {
        return Err("usage: forward <address to listen on> <address to forward to>".into());
    };
    let local: SocketAddr = local.parse()?;
    let mut builder = Endpoint::builder()
        .listen(Transport::Udp, local)
        .listen(Transport::Tcp, local);
    builder.add_user(Forwarder::new(downstream.parse()?));
    let endpoint = builder.build().await?;
    tokio::signal::ctrl_c().await?;
    endpoint.shutdown().await;
    Ok(())
}
