//! REFER outside of dialogs (RFC 3515 §2.4, RFC 4488, RFC 6665 §4.4.1, RFC 7647): the phone refers, or is referred.

mod sent;
mod taken;
mod together;

use crate::support::*;
use sipora_dialog_core::{CallConfig, IncomingRefers, Refer};
use sipora_message::{HeaderName, Method, Request, RequestBuilder, Response};
use sipora_testkit::SimNetwork;

const CAROL: &str = "sip:carol@192.0.2.3:5060";

fn carol() -> Refer {
    Refer::to(uri(CAROL)).referred_by("<sip:alice@example.com>")
}

/// Takes two REFERs outside of calls at once, in each shard.
fn referable(network: &SimNetwork) -> CallConfig {
    let mut config = CallConfig::default();
    config.max_refers_outside = 2 * shards(network);
    config
}

async fn alice_takes_refers(network: &SimNetwork) -> (Agent, IncomingRefers) {
    let mut alice = Agent::with(network, ALICE, 1, referable(network)).await;
    let refers = alice.incoming.take_refers().unwrap();
    assert!(alice.incoming.take_refers().is_none(), "once");
    (alice, refers)
}

fn header(headers: sipora_message::Headers<'_>, name: &str) -> String {
    let value = headers.text(&HeaderName::from(name));
    value.map(|value| value.into_owned()).unwrap_or_default()
}

/// A REFER of the phone's.
fn refer() -> RequestBuilder {
    refer_of("phone-refers", 10)
}

/// One of another dialog.
fn refer_of(call_id: &str, cseq: u32) -> RequestBuilder {
    Request::builder(Method::Refer, &uri(&format!("sip:alice@{ALICE}")))
        .from("<sip:bob@example.com>;tag=b")
        .to("<sip:alice@example.com>")
        .call_id(call_id)
        .cseq(cseq)
        .contact(format!("<sip:bob@{BOB}>"))
        .header(HeaderName::ReferTo, format!("<{CAROL}>"))
}

/// Sends a request of the phone's, and gives its answer.
async fn asked(phone: &Phone, request: &Request) -> Response {
    phone.send(request, ALICE).await;
    phone.answer_to(request).await
}

/// What a NOTIFY says: Subscription-State without its time, and the status.
fn said(notify: &Request) -> (String, String) {
    let state = header(notify.headers(), "Subscription-State");
    let state = match state.split_once(";expires=") {
        Some((state, seconds)) => {
            assert!(seconds.parse::<u32>().unwrap() <= 300);
            state.to_owned()
        }
        None => state,
    };
    let line = String::from_utf8(notify.body().to_vec()).unwrap();
    (state, line.trim_end().to_owned())
}

/// Waits for the `nth` NOTIFY, answers it, and gives what it says.
async fn told(phone: &Phone, nth: usize) -> (String, String) {
    let notify = phone.nth(Method::Notify, nth).await;
    phone.answer(&notify, 200, "b").await;
    said(&notify)
}

fn says(state: &str, line: &str) -> (String, String) {
    (state.to_owned(), line.to_owned())
}

/// Alice has forgotten everything.
async fn quiet(alice: &Agent) {
    pass(120_000).await;
    alice.assert_idle();
    assert_eq!(alice.dialogs.call_metrics().refers_outside, 0);
    assert_eq!(alice.dialogs.call_metrics().begun, 0, "a REFER is no call");
}
