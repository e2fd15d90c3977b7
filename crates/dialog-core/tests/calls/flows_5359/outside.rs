//! What these flows say outside of dialogs: REFER without a subscription (RFC 4488) and MESSAGE.

use super::*;
use sipora_dialog_core::UnifiedDialogApi;
use sipora_message::{Method, Request, RequestBuilder, Response, StatusCode};
use sipora_transaction_core::{Claim, Context, Event, IncomingRequest, User};
use std::time::Duration;
use tokio::sync::mpsc;

/// A user agent whose application takes REFER and MESSAGE outside of dialogs.
pub struct Outside {
    pub agent: Agent,
    requests: mpsc::UnboundedReceiver<Request>,
}

struct Door(mpsc::UnboundedSender<Request>);

impl User for Door {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        let is_inside = request.headers().to().unwrap().tag().is_some();
        let builder = match request.method() {
            _ if is_inside => return Claim::Passed,
            Method::Message => context.answer(request, StatusCode::OK),
            Method::Refer => {
                assert_eq!(request.headers().text(&refer_sub()).unwrap(), "false");
                let builder = context.answer(request, StatusCode::ACCEPTED);
                builder.header(refer_sub(), "false")
            }
            _ => return Claim::Passed,
        };
        let response = builder.build().unwrap();
        context.respond(incoming.transaction, response).unwrap();
        self.0.send(request.clone()).unwrap();
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}

    fn methods(&self) -> Vec<Method> {
        vec![Method::Refer, Method::Message]
    }
}

impl Outside {
    pub async fn new(network: &SimNetwork, address: &str, seed: u64) -> Self {
        Self::on(site(network, address, seed), address).await
    }

    pub async fn on(mut site: Site, address: &str) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        site.0.add_user(Door(sender));
        let agent = Agent::beside(site, address, able()).await;
        Outside { agent, requests }
    }

    pub async fn came(&mut self) -> Request {
        self.requests.recv().await.unwrap()
    }

    /// Waits for a REFER, and says whom it names.
    pub async fn referred(&mut self) -> Uri {
        let request = self.came().await;
        let refer_to = request.headers().refer_to().unwrap().unwrap();
        refer_to.uri().to_owned()
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
    says(&agent.dialogs, request, to).await
}

pub async fn says(dialogs: &UnifiedDialogApi, request: Request, to: &str) -> Response {
    let timeout = Duration::from_secs(32);
    let sent = dialogs.send_non_dialog_request(request, to.parse().unwrap(), timeout);
    sent.await.unwrap()
}

/// Asks another user agent to call somebody, and to say nothing of it.
pub async fn refers(agent: &Agent, to: &str, whom: &Uri) {
    let refer = request(Method::Refer, &agent.address, to)
        .contact(format!("<sip:bob@{}>", agent.address))
        .header(HeaderName::ReferTo, format!("<{whom}>"))
        .header(refer_sub(), "false")
        .build()
        .unwrap();
    let answer = sends(agent, refer, to).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.headers().text(&refer_sub()).unwrap(), "false");
}

fn refer_sub() -> HeaderName {
    HeaderName::Other("Refer-Sub".into())
}
