//! What ends calls by itself: Expires, descriptions that are owed and missing, the end of the endpoint.

use crate::support::*;
use sipora_dialog_core::{CallEnd, CallEvent};
use sipora_message::{HeaderName, Method, Request, StatusCode};

/// An INVITE of the phone's without an offer.
fn without_offer() -> Request {
    let invite = invite(ALICE).build().unwrap();
    let invite = invite.edit().remove(HeaderName::ContentType);
    let invite = invite.set(HeaderName::ContentDisposition, "render;handling=optional");
    invite.body("text/plain", "no offer").build().unwrap()
}

#[test]
fn an_invite_is_cancelled_when_it_has_expired() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let asks = alice.asks(BOB).body(sdp("offer")).expires(30);
        let mut call = alice.dialogs.invite(asks, None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        assert_eq!(invite.headers().expires(), Ok(Some(30)));
        phone.answer(&invite, 180, "b").await;
        pass(29_500).await;
        assert_eq!(phone.count(Method::Cancel), 0);
        pass(1_000).await;
        phone.first(Method::Cancel).await;
        phone.answer(&invite, 487, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Cancelled));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn an_invite_that_was_accepted_does_not_expire() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let asks = alice.asks(BOB).body(sdp("offer")).expires(30);
        let mut ours = alice.dialogs.invite(asks, None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 200, "b").await;
        ours.answered().await.unwrap();
        let asks = super::support::invite(ALICE).header(HeaderName::Expires, 30);
        let theirs = asks.build().unwrap();
        phone.send(&theirs, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&theirs).await);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        pass(60_000).await;
        assert_eq!(
            (phone.count(Method::Cancel), phone.count(Method::Bye)),
            (0, 0)
        );
        assert_eq!(alice.dialogs.call_metrics().calls, 2);
    });
}

#[test]
fn a_call_that_rings_past_its_expires_gets_487() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE)
            .header(HeaderName::Expires, 20)
            .build()
            .unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.ring().await.unwrap();
        pass(19_500).await;
        assert_eq!(phone.seen_finals(&invite), 0);
        assert_eq!(phone.status_of(&invite).await, 487);
        assert!(matches!(end(&mut call).await, CallEnd::NotAnswered));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_re_invite_expires_and_the_call_goes_on() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let reinvite = dialog
            .request(Method::Invite, 7)
            .header(HeaderName::Expires, 5);
        let reinvite = reinvite.build().unwrap();
        phone.send(&reinvite, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        assert_eq!(phone.status_of(&reinvite).await, 487);
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteCancelled)
        ));
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn a_re_invite_that_nobody_answers_gets_487_and_the_call_goes_on() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let reinvite = dialog.build(Method::Invite, 7);
        phone.send(&reinvite, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        pass(15 * 60_000 - 1_000).await;
        assert_eq!(phone.seen_finals(&reinvite), 0);
        // Not 480, by which the peer would end the call (RFC 5057 §5.1).
        assert_eq!(phone.status_of(&reinvite).await, 487);
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteCancelled)
        ));
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn an_expires_that_cannot_be_read_says_nothing() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE)
            .header(HeaderName::Expires, "soon")
            .build()
            .unwrap();
        phone.send(&invite, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        pass(60_000).await;
        call.accept(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&invite).await, 200);
    });
}

#[test]
fn a_2xx_without_the_answer_is_acknowledged_and_ended() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        for offers in [true, false] {
            let asks = match offers {
                true => alice.asks(BOB).body(sdp("offer")),
                false => alice.asks(BOB),
            };
            let nth = usize::from(!offers);
            let mut call = alice.dialogs.invite(asks, None).await.unwrap();
            let invite = phone.nth(Method::Invite, nth).await;
            phone
                .answer_with(&invite, 200, "b", |builder| builder)
                .await;
            phone.nth(Method::Ack, nth).await;
            let bye = phone.nth(Method::Bye, nth).await;
            phone.answer(&bye, 200, "b").await;
            let told = call.next().await;
            assert!(
                matches!(told, Some(CallEvent::Ended(CallEnd::NotDescribed))),
                "{told:?}"
            );
        }
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_preview_will_do_where_the_2xx_carries_nothing() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "b", |builder| {
                builder.body("application/sdp", "v=0\r\ns=preview\r\n")
            })
            .await;
        phone
            .answer_with(&invite, 200, "b", |builder| builder)
            .await;
        call.answered().await.unwrap();
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn a_2xx_that_overtakes_the_prack_with_our_answer_ends_the_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.dialogs.invite(alice.asks(BOB), None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "b", |builder| {
                builder
                    .header(HeaderName::Require, "100rel")
                    .header(HeaderName::RSeq, 1)
                    .body("application/sdp", "v=0\r\ns=offer\r\n")
            })
            .await;
        assert!(matches!(call.next().await, Some(CallEvent::EarlyOffer(_))));
        // It "MUST delay sending the 2xx until the provisional response is acknowledged".
        phone
            .answer_with(&invite, 200, "b", |builder| builder)
            .await;
        phone.first(Method::Ack).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::NotDescribed));
    });
}

#[test]
fn an_ack_without_the_answer_ends_the_call() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = without_offer();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("offer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        let told = call.next().await;
        assert!(
            matches!(told, Some(CallEvent::Ended(CallEnd::NotDescribed))),
            "{told:?}"
        );
    });
}

#[test]
fn the_end_of_the_endpoint_ends_every_call() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (up, _) = established(&alice, &phone).await;
        let rings = alice.calls(BOB).await;
        let ringing = phone.nth(Method::Invite, 1).await;
        phone.answer(&ringing, 180, "r").await;
        let asked = invite(ALICE).build().unwrap();
        phone.send(&asked, ALICE).await;
        let asks = alice.incoming.next().await.unwrap();
        asks.ring().await.unwrap();
        let accepted = asked.edit().set(HeaderName::CallId, "another");
        let accepted = accepted.set(HeaderName::CSeq, "77 INVITE").build().unwrap();
        phone.send(&accepted, ALICE).await;
        let answers = alice.incoming.next().await.unwrap();
        answers.accept(sdp("answer")).await.unwrap();
        phone.answer_to(&accepted).await;
        let calls = [up, rings, asks, answers];
        let answering = async {
            for nth in 0..2 {
                let bye = phone.nth(Method::Bye, nth).await;
                phone.answer(&bye, 200, "b").await;
            }
            phone.first(Method::Cancel).await;
            phone.answer(&ringing, 487, "r").await;
        };
        let before = tokio::time::Instant::now();
        tokio::join!(alice.shuts_down(), answering);
        assert!(before.elapsed().as_secs() < 5, "{:?}", before.elapsed());
        assert_eq!(phone.status_of(&asked).await, 480);
        let mut ends = Vec::new();
        for mut call in calls {
            ends.push(end(&mut call).await);
        }
        assert!(matches!(ends[0], CallEnd::HungUp), "{ends:?}");
        assert!(matches!(ends[1], CallEnd::Cancelled), "{ends:?}");
        assert!(matches!(ends[2], CallEnd::Rejected), "{ends:?}");
        assert!(matches!(ends[3], CallEnd::HungUp), "{ends:?}");
    });
}

#[test]
fn a_peer_that_is_silent_does_not_hold_up_the_end_for_long() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let before = tokio::time::Instant::now();
        let crossing = async {
            // The peer hangs up at the same time: it is answered still.
            phone.first(Method::Bye).await;
            let theirs = dialog.build(Method::Bye, 7);
            phone.send(&theirs, ALICE).await;
            assert_eq!(phone.status_of(&theirs).await, 200);
        };
        tokio::join!(alice.shuts_down(), crossing);
        let waited = before.elapsed().as_secs();
        assert!((4..7).contains(&waited), "{waited}");
        let told = end(&mut call).await;
        assert!(
            matches!(told, CallEnd::HungUp | CallEnd::Closed),
            "{told:?}"
        );
    });
}

#[test]
fn a_refusal_ends_what_waits_for_an_answer_too() {
    // A call that nobody has taken yet.
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        phone.send(&invite, ALICE).await;
        pass(50).await;
        alice.shuts_down().await;
        let status = phone.status_of(&invite).await;
        assert_eq!(status, StatusCode::TEMPORARILY_UNAVAILABLE.as_u16());
    });
}

#[test]
fn a_call_says_how_it_ended_as_often_as_it_is_asked() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 486, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Refused(_)));
        assert!(call.next().await.is_none());
        assert!(matches!(call.ended().await, CallEnd::Refused(_)));
        let answered = call.answered().await;
        let Err(CallEnd::Refused(answer)) = answered else {
            panic!("{answered:?}");
        };
        assert_eq!(answer.status(), StatusCode::BUSY_HERE);
        assert!(matches!(call.ended().await, CallEnd::Refused(_)));
    });
}
