//! Why calls end, as BYE and CANCEL say it (RFC 3326).

use crate::proxy::{Ways, proxy};
use crate::support::*;
use sipora_dialog_core::{CallEnd, Invite};
use sipora_message::{HeaderName, Method, Reason, Request};
use sipora_testkit::{Conditions, for_each_seed, seeds};
use sipora_transaction_core::Target;

const PROXY: &str = "192.0.2.11:5060";

fn released() -> Reason {
    let reason = Reason::new("Q.850").unwrap().with_cause(16);
    reason.with_text("Terminated").unwrap()
}

fn said(request: &Request) -> Option<(String, u32)> {
    let reason = request.headers().reasons().next()?.unwrap();
    Some((reason.protocol().to_owned(), reason.cause().unwrap()))
}

fn sip(cause: u32) -> Option<(String, u32)> {
    Some(("SIP".to_owned(), cause))
}

fn q850() -> Option<(String, u32)> {
    Some(("Q.850".to_owned(), 16))
}

#[test]
fn a_bye_says_what_the_application_gives_and_nothing_else() {
    for gives in [true, false] {
        scene(move |network| async move {
            let alice = Agent::new(&network, ALICE, 1).await;
            let phone = Phone::new(&network).await;
            let (mut call, _) = established(&alice, &phone).await;
            match gives {
                true => call.hang_up_because(released()).await.unwrap(),
                false => call.hang_up().await.unwrap(),
            }
            let bye = phone.first(Method::Bye).await;
            assert_eq!(said(&bye), q850().filter(|_| gives));
            phone.answer(&bye, 200, "b").await;
            assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        });
    }
}

#[test]
fn a_bye_that_waits_for_the_ack_still_says_why() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        call.hang_up_because(released()).await.unwrap();
        pass(1_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(said(&bye), q850());
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
    });
}

#[test]
fn a_cancel_says_why_and_so_does_the_bye_to_a_2xx_that_crosses_it() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        // It waits for the first provisional answer.
        call.hang_up_because(released()).await.unwrap();
        phone.answer(&invite, 180, "b").await;
        assert_eq!(said(&phone.first(Method::Cancel).await.request), q850());
        phone.answer(&invite, 200, "b").await;
        phone.first(Method::Ack).await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(said(&bye), q850());
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Cancelled));
    });
}

#[test]
fn an_expired_invite_is_cancelled_as_not_answered() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let asks = alice.asks(BOB).body(sdp("offer")).expires(30);
        let _call = alice.dialogs.invite(asks, None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        assert_eq!(said(&phone.first(Method::Cancel).await.request), sip(408));
        phone.answer(&invite, 487, "b").await;
    });
}

#[test]
fn who_accepts_after_another_is_told_that_it_is_answered_elsewhere() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 200, "a").await;
        call.answered().await.unwrap();
        phone.answer(&invite, 200, "b").await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!((to_tag(&bye).as_str(), said(&bye)), ("b", sip(200)));
        phone.answer(&bye, 200, "b").await;
        call.hang_up().await.unwrap();
        let bye = phone.nth(Method::Bye, 1).await;
        assert_eq!((to_tag(&bye).as_str(), said(&bye)), ("a", None));
        phone.answer(&bye, 200, "a").await;
        end(&mut call).await;
    });
}

#[test]
fn a_call_that_is_lost_ends_with_the_answer_that_ended_it() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 481, "b").await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(said(&bye), sip(481));
        phone.answer(&bye, 481, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Lost));
    });
}

#[test]
fn a_2xx_that_nobody_acknowledges_and_one_that_describes_nothing_say_so() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = answered(&mut alice, &phone).await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(said(&bye), sip(408));
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::NotAcknowledged));

        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer_with(&invite, 200, "b", |it| it).await;
        let bye = phone.nth(Method::Bye, 1).await;
        assert_eq!(said(&bye), sip(488));
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::NotDescribed));
    });
}

#[test]
fn a_session_that_nobody_refreshes_says_so() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE)
            .header(HeaderName::Supported, "timer")
            .header(HeaderName::SessionExpires, "90;refresher=uac");
        let invite = invite.build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(said(&bye), sip(408));
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Expired));
    });
}

fn through_the_proxy(alice: &Agent) -> Invite {
    let invite = alice.asks(BOB).body(sdp("offer"));
    invite.via(Target::udp(PROXY.parse().unwrap()))
}

/// §2: a proxy "SHOULD copy it into the new CANCEL request".
#[test]
fn who_is_called_hears_why_the_caller_gave_up() {
    for_each_seed(seeds(), |network| async move {
        if network.seed() % 2 == 1 {
            network.set_conditions(Conditions::rough());
        }
        let ways = Ways {
            next: BOB.to_owned(),
            ..Ways::default()
        };
        let _proxy = proxy(&network, PROXY, ways).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let (accepts, elsewhere) = (network.random(0..=1) > 0, network.random(0..=1) > 0);
        let reason = match elsewhere {
            true => Reason::new("SIP").unwrap().with_cause(200),
            false => released(),
        };
        let expected = match elsewhere {
            true => sip(200),
            false => q850(),
        };
        let calling = async {
            let invite = through_the_proxy(&alice);
            let mut call = alice.dialogs.invite(invite, None).await.unwrap();
            match accepts {
                true => drop(call.answered().await.unwrap()),
                false => pass(5_000).await,
            }
            call.hang_up_because(reason).await.unwrap();
            call.ended().await;
        };
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.ring().await.unwrap();
            if accepts {
                call.accept(sdp("answer")).await.unwrap();
            }
            call.ended().await
        };
        let (end, ()) = tokio::join!(answering, calling);
        assert_eq!(end.was_answered_elsewhere(), elsewhere);
        match (&end, accepts) {
            (CallEnd::PeerHungUp(request), true) | (CallEnd::PeerCancelled(request), false) => {
                assert_eq!(said(request), expected);
            }
            _ => panic!("{end:?}"),
        }
        pass(120_000).await;
        alice.assert_idle();
        bob.assert_idle();
    });
}
