//! The scenarios that come with SIPp.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sipora_dialog_core::CallConfig;
use sipora_message::{Method, Request, Response, StatusCode};
use sipora_transaction_core::{Claim, Context, Event, IncomingRequest, User};

use crate::peer::*;

#[tokio::test]
async fn sipps_uac_calls_us_and_no_call_fails() {
    called_by("uac", CallConfig::default(), |mut call| async move {
        takes(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_call_sipps_uas_and_no_call_fails() {
    calls_to("uas", CallConfig::default(), |mut call| async move {
        call.answered().await.unwrap();
        hangs_up(&mut call).await;
    })
    .await;
}

/// It picks our answer to pieces with regular expressions, and has other header fields in its ACK.
#[tokio::test]
async fn sipps_regexp_calls_us_and_no_call_fails() {
    called_by("regexp", CallConfig::default(), |mut call| async move {
        takes(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

/// It registers first, names the call as its REGISTER, and has a Request-URI of its own in every request.
#[tokio::test]
async fn sipps_branchc_registers_calls_us_and_no_call_fails() {
    let (agent, incoming) = Agent::start_beside(CallConfig::default(), |builder| {
        builder.add_user(Registrar);
    })
    .await;
    called(agent, incoming, "branchc", calls(), |mut call| async move {
        takes(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

/// It wants a REGISTER with the Call-ID of the call before it, refuses who is not called `ua2`, and sends 100 after 180.
#[tokio::test]
async fn we_register_with_sipps_branchs_call_it_and_no_call_fails() {
    let number = AtomicU64::new(0);
    let begin = async |agent: &Agent, port| {
        let name = format!("branch-{}", number.fetch_add(1, Ordering::Relaxed));
        let us = format!("sip:ua2@127.0.0.1:{}", agent.port);
        let register = Request::builder(Method::Register, &service(port))
            .from(format!("<{us}>;tag=a"))
            .to(format!("<{us}>"))
            .call_id(&name)
            .cseq(1)
            .contact(format!("<{us}>"))
            .build()
            .unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let registered =
            agent
                .dialogs
                .send_non_dialog_request(register, to, Duration::from_secs(120));
        assert!(registered.await.unwrap().status().is_success());
        let invite = agent.invite(port).from(format!("<{us}>")).call_id(name);
        agent.calls(invite.body(sdp())).await
    };
    let config = CallConfig::default();
    calling("branchs", config, calls(), begin, |mut call| async move {
        call.answered().await.unwrap();
        hangs_up(&mut call).await;
    })
    .await;
}

/// Answers REGISTER, and remembers nothing.
struct Registrar;

impl User for Registrar {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        if *request.method() != Method::Register {
            return Claim::Passed;
        }
        let answer = Response::for_request(request, StatusCode::OK).to_tag("registrar");
        let answer = answer.build().unwrap();
        context.respond(incoming.transaction, answer).unwrap();
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}

    fn methods(&self) -> Vec<Method> {
        vec![Method::Register]
    }
}
