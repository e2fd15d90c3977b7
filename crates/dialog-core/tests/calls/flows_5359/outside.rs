//! What these flows say outside of dialogs: REFER (RFC 3515, RFC 4488) and MESSAGE.

use super::*;
use sipora_dialog_core::{IncomingRefer, IncomingRefers, OutgoingRefer, Refer};
use sipora_message::{Method, Request, RequestBuilder, Response, StatusCode};
use sipora_transaction_core::{Claim, Context, Event, IncomingRequest, User};
use std::time::Duration;
use tokio::sync::mpsc;

/// A user agent whose application takes REFER and MESSAGE outside of dialogs.
pub struct Outside {
    pub agent: Agent,
    messages: mpsc::UnboundedReceiver<Request>,
    refers: IncomingRefers,
}

struct Door(mpsc::UnboundedSender<Request>);

impl User for Door {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        let is_inside = request.headers().to().unwrap().tag().is_some();
        if is_inside || *request.method() != Method::Message {
            return Claim::Passed;
        }
        let response = context.answer(request, StatusCode::OK).build().unwrap();
        context.respond(incoming.transaction, response).unwrap();
        self.0.send(request.clone()).unwrap();
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}

    fn methods(&self) -> Vec<Method> {
        vec![Method::Message]
    }
}

impl Outside {
    pub async fn new(network: &SimNetwork, address: &str, seed: u64) -> Self {
        Self::on(site(network, address, seed), address).await
    }

    pub async fn on(mut site: Site, address: &str) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        site.0.add_user(Door(sender));
        let mut agent = Agent::beside(site, address, able()).await;
        let refers = agent.incoming.take_refers().unwrap();
        Outside {
            agent,
            messages,
            refers,
        }
    }

    /// Waits for a MESSAGE.
    pub async fn came(&mut self) -> Request {
        self.messages.recv().await.unwrap()
    }

    /// Waits for a REFER, and takes it.
    pub async fn referred(&mut self) -> IncomingRefer {
        let refer = self.refers.next().await.unwrap();
        refer.accept().await.unwrap();
        refer
    }
}

pub fn request(method: Method, from: &str, to: &str) -> RequestBuilder {
    Request::builder(method, &uri(&format!("sip:{to}")))
        .from(format!("<sip:bob@{from}>;tag=outside"))
        .to(format!("<sip:{to}>"))
        .call_id(format!("outside-{from}"))
        .cseq(1)
}

pub async fn sends(agent: &Agent, request: Request, to: &str) -> Response {
    let timeout = Duration::from_secs(32);
    let to = to.parse().unwrap();
    let sent = agent.dialogs.send_non_dialog_request(request, to, timeout);
    sent.await.unwrap()
}

/// Asks another user agent to call somebody, and gives what came of it in the end, where that is told.
pub async fn refers(agent: &Agent, to: &str, refer: Refer) -> Option<StatusCode> {
    let refer = OutgoingRefer::new(
        uri(&format!("sip:{to}")),
        uri("sip:own@example.com"),
        uri(&format!("sip:own@{}", agent.address)),
        refer,
    );
    let mut sent = agent.dialogs.refer(refer, None).await.unwrap();
    assert_eq!(sent.answer().response.status(), StatusCode::OK);
    let mut last = None;
    while let Some(report) = sent.next().await {
        assert!(last.is_none(), "nothing comes after the end");
        if report.is_over {
            last = report.status;
        }
    }
    last
}
