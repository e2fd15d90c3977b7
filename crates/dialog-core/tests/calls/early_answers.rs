//! INVITEs of the peers' that are answered early, in a reliable provisional answer: accepted or refused before its PRACK, and while an
//! offer in that is open (RFC 3262 §3, §5, RFC 6141 §3).

use crate::support::*;
use crate::withdrawn::Asked;
use sipora_dialog_core::{CallConfig, CallEvent};
use sipora_message::{HeaderName, Method, RAck, StatusCode};
use std::time::Duration;

#[test]
fn an_accepted_re_invite_gets_its_2xx_when_nobody_answers_the_offer_in_its_prack() {
    scene(|network| async move {
        let mut asked = Asked::early(&network, CallConfig::default()).await;
        let prack = asked.offers_in_prack().await;
        asked.call.accept(None).await.unwrap();
        assert_eq!(asked.phone.status_of(&prack).await, 504);
        // An hour.
        pass(3_600_000).await;
        assert_eq!(
            asked.phone.seen.statuses(&asked.reinvite).last(),
            Some(&200)
        );
        drop(asked.alice);
    });
}

#[test]
fn an_accepted_re_invite_gets_its_2xx_when_nobody_answers_the_offer_in_an_update() {
    scene(|network| async move {
        let mut asked = Asked::early(&network, CallConfig::default()).await;
        asked.agrees().await;
        let update = asked.dialog.offering(Method::Update, 22, "other");
        asked.phone.send(&update, ALICE).await;
        assert!(matches!(
            asked.call.next().await,
            Some(CallEvent::Offered(_))
        ));
        asked.call.accept(None).await.unwrap();
        assert_eq!(asked.phone.status_of(&update).await, 504);
        pass(3_600_000).await;
        assert_eq!(
            asked.phone.seen.statuses(&asked.reinvite).last(),
            Some(&200)
        );
    });
}

#[test]
fn a_cancelled_re_invite_gets_its_2xx_when_nobody_answers_the_offer_in_its_prack() {
    scene(|network| async move {
        let mut asked = Asked::early(&network, CallConfig::default()).await;
        let prack = asked.offers_in_prack().await;
        asked.phone.cancels(asked.id).await;
        assert_eq!(asked.phone.status_of(&prack).await, 504);
        pass(60_000).await;
        assert_eq!(
            asked.phone.seen.statuses(&asked.reinvite).last(),
            Some(&200)
        );
    });
}

#[test]
fn an_accepted_invite_gets_its_2xx_when_nobody_answers_the_offer_in_its_prack() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).header(HeaderName::Supported, "100rel");
        let invite = invite.build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.progress_reliably(StatusCode::SESSION_PROGRESS, Some(sdp("early")))
            .await
            .unwrap();
        pass(5).await;
        let dialog = InDialog::of_response(&phone.seen.last_response());
        let rack = RAck {
            rseq: *phone.seen.numbers(&invite).last().unwrap(),
            cseq: 10,
            method: Method::Invite,
        };
        let prack = dialog
            .bare(Method::Prack, 11)
            .header(HeaderName::RAck, rack);
        let prack = prack
            .body("application/sdp", sdp("other").bytes)
            .build()
            .unwrap();
        phone.send(&prack, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        call.accept(None).await.unwrap();
        assert_eq!(phone.status_of(&prack).await, 504);
        // An hour: past max_ringing and all else.
        pass(3_600_000).await;
        assert_eq!(phone.seen.statuses(&invite).last(), Some(&200));
    });
}

#[test]
fn what_was_answered_in_a_183_and_refused_is_not_told_again() {
    scene(|network| async move {
        let mut asked = Asked::early(&network, CallConfig::default()).await;
        asked
            .call
            .reject(StatusCode::NOT_ACCEPTABLE_HERE)
            .await
            .unwrap();
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 488);
        let again = asked.dialog.offering(Method::Invite, 30, "new offer");
        asked.phone.send(&again, ALICE).await;
        let told = tokio::time::timeout(Duration::from_secs(5), asked.call.next()).await;
        let body = asked.phone.seen.last_response().body().to_vec();
        assert!(
            matches!(told, Ok(Some(CallEvent::Reinvited(_)))),
            "{told:?}, and the phone has had {:?}",
            String::from_utf8_lossy(&body)
        );
    });
}

#[test]
fn what_was_answered_in_a_183_and_refused_is_not_what_refreshes_the_session() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.session_expires = Some(Duration::from_secs(600));
        let asked = Asked::early(&network, config).await;
        asked
            .call
            .reject(StatusCode::NOT_ACCEPTABLE_HERE)
            .await
            .unwrap();
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 488);
        pass(290_000).await;
        let refresh = asked.phone.nth(Method::Invite, 1).await;
        assert_eq!(refresh.body(), sdp("offer").bytes);
    });
}

#[test]
fn a_prack_that_crosses_the_refusal_of_its_re_invite_is_accepted() {
    scene(|network| async move {
        let asked = Asked::early(&network, CallConfig::default()).await;
        asked
            .call
            .reject(StatusCode::NOT_ACCEPTABLE_HERE)
            .await
            .unwrap();
        let prack = asked.prack().build().unwrap();
        asked.phone.send(&prack, ALICE).await;
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 488);
        assert_eq!(asked.phone.status_of(&prack).await, 200);
    });
}

#[test]
fn a_prack_that_crosses_the_487_of_its_re_invite_is_accepted() {
    scene(|network| async move {
        let asked = Asked::early(&network, CallConfig::default()).await;
        asked.phone.cancels(asked.id).await;
        let prack = asked.prack().build().unwrap();
        asked.phone.send(&prack, ALICE).await;
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 487);
        assert_eq!(asked.phone.status_of(&prack).await, 200);
    });
}

#[test]
fn an_offer_in_a_prack_of_a_re_invite_that_was_refused_is_not_accepted_without_an_answer() {
    scene(|network| async move {
        let mut asked = Asked::early(&network, CallConfig::default()).await;
        asked.phone.cancels(asked.id).await;
        let told = asked.call.next().await;
        assert!(
            matches!(told, Some(CallEvent::ReinviteCancelled)),
            "{told:?}"
        );
        let prack = asked.prack().body("application/sdp", sdp("other").bytes);
        let prack = prack.build().unwrap();
        asked.phone.send(&prack, ALICE).await;
        let answer = asked.phone.answer_to(&prack).await;
        assert!(
            !answer.status().is_success() || !answer.body().is_empty(),
            "{} without an answer",
            answer.status()
        );
    });
}

#[test]
fn a_2xx_that_waited_for_an_answer_does_not_wait_for_the_prack_of_an_answer_without_a_description()
{
    scene(|network| async move {
        let mut asked = Asked::early(&network, CallConfig::default()).await;
        let prack = asked.offers_in_prack().await;
        let ringing = asked.call.progress_reliably(StatusCode::RINGING, None);
        ringing.await.unwrap();
        asked.phone.cancels(asked.id).await;
        let told = asked.call.next().await;
        assert!(
            matches!(told, Some(CallEvent::ReinviteCancelled)),
            "{told:?}"
        );
        asked.call.answer(sdp("other answer")).await.unwrap();
        assert_eq!(asked.phone.status_of(&prack).await, 200);
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 200);
    });
}
