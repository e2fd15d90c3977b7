//! A peer that answers as its script says, and keeps what came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipora_message::{HeaderName, Method, Request, Response, StatusCode};
use sipora_session_core::IdSource;
use sipora_testkit::SimNetwork;
use sipora_transaction_core::{Claim, Context, Endpoint, Event, IncomingRequest, User};
use sipora_transport::Transport;

use crate::support::Now;

/// One answer: status, To tag, header fields, body.
#[derive(Clone)]
pub struct Said {
    pub status: u16,
    pub tag: &'static str,
    pub headers: Vec<(HeaderName, String)>,
    pub sdp: Option<&'static str>,
}

pub fn said(status: u16, tag: &'static str) -> Said {
    Said {
        status,
        tag,
        headers: Vec::new(),
        sdp: None,
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
}

type Script = Box<dyn FnMut(&Request, Now) -> Vec<Said> + Send>;

#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<Request>>>);

impl Kept {
    pub fn all(&self, method: Method) -> Vec<Request> {
        let kept = self.0.lock().unwrap();
        let of = |request: &&Request| *request.method() == method;
        kept.iter().filter(of).cloned().collect()
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

struct Scripted {
    script: Script,
    kept: Kept,
    address: SocketAddr,
}

/// Starts one; what the script answers to nothing but INVITE, OPTIONS and BYE get 200.
pub async fn exchange(
    network: &SimNetwork,
    address: &str,
    script: impl FnMut(&Request, Now) -> Vec<Said> + Send + 'static,
) -> (Endpoint, Kept) {
    let kept = Kept::default();
    let address = SocketAddr::new(address.parse().unwrap(), 5060);
    let mut builder = Endpoint::builder()
        .network(Arc::new(network.host(address.ip())))
        .ids(IdSource::from_number(7))
        .listen(Transport::Udp, address)
        .listen(Transport::Tcp, address);
    builder.add_user(Scripted {
        script: Box::new(script),
        kept: kept.clone(),
        address,
    });
    (builder.build().await.unwrap(), kept)
}

impl User for Scripted {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        self.kept.0.lock().unwrap().push(request.clone());
        let answers = match request.method() {
            Method::Ack => Vec::new(),
            Method::Invite => {
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
            let status = StatusCode::new(answer.status).unwrap();
            let mut builder = Response::for_request(request, status).to_tag(answer.tag);
            if *request.method() == Method::Invite && answer.status < 300 {
                builder = builder.contact(format!("<sip:{}>", self.address));
            }
            for (name, value) in answer.headers {
                builder = builder.header(name, value);
            }
            if let Some(sdp) = answer.sdp {
                builder = builder.body("application/sdp", sdp);
            }
            context
                .respond(incoming.transaction, builder.build().unwrap())
                .unwrap();
        }
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
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

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}
}
