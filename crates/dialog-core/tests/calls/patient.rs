//! A phone on a network that loses what it says: it says again what only it can say again.

use std::time::Duration;

use crate::support::*;
use sipora_dialog_core::{Call, CallEvent};
use sipora_message::{HeaderName, Method, Request, RequestBuilder, Response};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{Context, RequestOptions, Target};

/// Runs a race under many seeds. Under the first two the network is a perfect one, and what crosses does so at once, where user agents
/// have one shard and where they have four; under the others it loses, doubles and overtakes, and all take their time.
pub fn race<S: Future<Output = ()>>(mut scenario: impl FnMut(SimNetwork) -> S) {
    for_each_seed(seeds(), |network| {
        if network.seed() >= PERFECT {
            let slowest = Duration::from_millis(network.random(1..=150));
            network.set_conditions(Conditions {
                delay: Duration::from_millis(1)..=slowest,
                ..Conditions::rough()
            });
        }
        scenario(network)
    });
}

/// Time between two things that cross: none, some of what a message takes, or more than what is lost takes to come again.
pub async fn moment(network: &SimNetwork) {
    if network.seed() >= PERFECT {
        let most = match network.random(0..=3) {
            0 => 0,
            1 => 20,
            2 => 300,
            _ => 2_500,
        };
        pass(network.random(0..=most)).await;
    }
}

impl Phone {
    /// Accepts an INVITE, and says so again until the ACK comes (RFC 3261 §13.3.1.4).
    pub async fn accepts(&self, invite: &Came, tag: &str) {
        let response = self.accepting(invite, tag);
        let (seen, handle) = (self.seen.clone(), self.handle.clone());
        let (transaction, number, tag) = (invite.transaction, number(invite), tag.to_owned());
        self.says(transaction, response.clone()).await;
        tokio::spawn(async move {
            for again in 1..10 {
                // T1, doubled up to T2.
                pass((500 << again.min(4)) / 2).await;
                if seen.acks(number, &tag) > 0 {
                    return;
                }
                let response = response.clone();
                let wish = move |context: &mut Context<'_>| {
                    context.respond(transaction, response).unwrap();
                };
                if handle.send(Box::new(wish)).await.is_err() {
                    return;
                }
            }
        });
    }

    fn accepting(&self, invite: &Came, tag: &str) -> Response {
        Response::for_request(invite, sipora_message::StatusCode::OK)
            .to_tag(tag)
            .contact(format!("<sip:bob@{BOB}>"))
            .header(HeaderName::Allow, "INVITE, UPDATE")
            .body("application/sdp", "v=0\r\ns=answer\r\n")
            .build()
            .unwrap()
    }

    /// Acknowledges the 2xx to an INVITE of the phone's, and again whenever that comes again (RFC 3261 §13.2.2.4).
    pub async fn acknowledges(&self, ack: Request) {
        let (seen, handle) = (self.seen.clone(), self.handle.clone());
        let number = number(&ack);
        let mut heard = seen.accepted(number);
        self.send(&ack, ALICE).await;
        tokio::spawn(async move {
            for _ in 0..1_000 {
                pass(40).await;
                if seen.accepted(number) == heard {
                    continue;
                }
                heard = seen.accepted(number);
                let ack = ack.clone();
                let wish = move |context: &mut Context<'_>| {
                    let target = Target::udp(ALICE.parse().unwrap());
                    context
                        .send(ack, target, RequestOptions::default())
                        .unwrap();
                };
                if handle.send(Box::new(wish)).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Waits for the ACK to what was accepted by this tag.
    pub async fn ack_to(&self, invite: &Request, tag: &str) -> Came {
        let is_it = |ack: &Came| number(ack) == number(invite) && to_tag(ack) == tag;
        for _ in 0..20_000 {
            if let Some(ack) = self.all(Method::Ack).into_iter().find(is_it) {
                return ack;
            }
            pass(5).await;
        }
        panic!("no ACK of {tag} came");
    }

    /// Answers with 180 until it is heard.
    pub async fn rings(&self, call: &mut Call, invite: &Came, tag: &str) {
        loop {
            self.answer(invite, 180, tag).await;
            let heard = tokio::time::timeout(Duration::from_secs(1), call.next());
            match heard.await {
                Ok(Some(CallEvent::Progress(response)))
                    if response.headers().to().unwrap().tag() == Some(tag) =>
                {
                    return;
                }
                // Of another tag, that comes again.
                Ok(Some(CallEvent::Progress(_))) | Err(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A call of Alice's that the phone has accepted, with the phone's side of the dialog.
pub async fn up(alice: &Agent, phone: &Phone) -> (Call, InDialog) {
    let mut call = alice.calls(BOB).await;
    let invite = phone.first(Method::Invite).await;
    phone.accepts(&invite, "b").await;
    call.answered().await.unwrap();
    phone.ack_to(&invite, "b").await;
    (call, InDialog::of_invite(&invite, "b"))
}

/// A call of the phone's that Alice has accepted and the phone has acknowledged, with the phone's side of the dialog.
pub async fn taken(alice: &mut Agent, phone: &Phone) -> (Call, InDialog) {
    let allow = invite(ALICE).header(HeaderName::Allow, "INVITE, UPDATE");
    let (mut call, dialog) = accepted(alice, phone, allow).await;
    phone.acknowledges(dialog.build(Method::Ack, 10)).await;
    assert!(matches!(
        call.next().await,
        Some(CallEvent::Acknowledged(_))
    ));
    (call, dialog)
}

/// The phone calls, Alice accepts, and no ACK has come.
pub async fn accepted(
    alice: &mut Agent,
    phone: &Phone,
    invite: RequestBuilder,
) -> (Call, InDialog) {
    let invite = invite.build().unwrap();
    phone.send(&invite, ALICE).await;
    let call = alice.incoming.next().await.unwrap();
    call.ring().await.unwrap();
    call.accept(sdp("answer")).await.unwrap();
    let response = phone.answer_to(&invite).await;
    assert_eq!(response.status().as_u16(), 200);
    (call, InDialog::of_response(&response))
}

/// Alice has forgotten everything, in the time that transactions take.
pub async fn quiet(alice: &Agent) {
    pass(120_000).await;
    alice.assert_idle();
}

/// Seeds whose network is a perfect one.
const PERFECT: u64 = 2;
