//! Exchanges within a call that come to nothing: the session and the call go on as they were (RFC 3261 §14.1, RFC 6141 §3).

use crate::support::*;
use sipora_dialog_core::{Call, CallConfig, CallEvent};
use sipora_message::{HeaderName, Method, StatusCode};
use std::time::Duration;

/// A call of ours to the phone, which has answered.
async fn up(alice: &Agent, phone: &Phone, extra: &[(HeaderName, &str)]) -> (Call, InDialog) {
    let mut call = alice.calls(BOB).await;
    let invite = phone.first(Method::Invite).await;
    phone
        .answer_with(&invite, 200, "b", |builder| {
            let builder = builder.body("application/sdp", "v=0\r\ns=answer\r\n");
            let add = |builder, (name, value): &(HeaderName, &str)| {
                sipora_message::ResponseBuilder::header(builder, name.clone(), value)
            };
            extra.iter().fold(builder, add)
        })
        .await;
    call.answered().await.unwrap();
    phone.first(Method::Ack).await;
    (call, InDialog::of_invite(&invite, "b"))
}

const UPDATES: [(HeaderName, &str); 1] = [(HeaderName::Allow, "INVITE, ACK, BYE, PRACK, UPDATE")];

/// We refresh by re-INVITE.
const REFRESHED: [(HeaderName, &str); 3] = [
    (HeaderName::Allow, "INVITE, ACK, BYE, PRACK"),
    (HeaderName::Require, "timer"),
    (HeaderName::SessionExpires, "600;refresher=uac"),
];

fn with_timer() -> CallConfig {
    let mut config = CallConfig::default();
    config.session_expires = Some(Duration::from_secs(600));
    config
}

/// Both sides may ask for a change.
async fn is_settled(call: &mut Call, phone: &Phone, dialog: &InDialog, cseq: u32) {
    let asked = dialog.build(Method::Invite, cseq);
    phone.send(&asked, ALICE).await;
    assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
    call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
    assert_eq!(phone.status_of(&asked).await, 488);
    let before = phone.count(Method::Invite);
    call.reinvite(Some(sdp("again"))).await.unwrap();
    let ours = phone.nth(Method::Invite, before).await;
    phone.answer(&ours, 200, "b").await;
    assert!(matches!(
        call.next().await,
        Some(CallEvent::ReinviteAccepted(_))
    ));
}

#[test]
fn the_offer_of_a_reinvite_that_is_refused_beside_an_update_without_one_is_open_no_more() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone, &UPDATES).await;
        let first = dialog.build(Method::Invite, 5);
        phone.send(&first, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.update(None).await.unwrap();
        let ours = phone.first(Method::Update).await;
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        assert_eq!(phone.status_of(&first).await, 488);
        phone.answer(&ours, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        is_settled(&mut call, &phone, &dialog, 6).await;
    });
}

#[test]
fn so_is_that_of_a_reinvite_of_ours() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone, &UPDATES).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 100, "b").await;
        call.update(None).await.unwrap();
        let ours = phone.first(Method::Update).await;
        phone.answer(&reinvite, 488, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteRefused(_))
        ));
        phone.answer(&ours, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        is_settled(&mut call, &phone, &dialog, 6).await;
    });
}

#[test]
fn an_offer_in_a_183_is_closed_by_a_2xx_that_does_not_wait_for_its_prack() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone, &UPDATES).await;
        call.reinvite(None).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone
            .answer_with(&reinvite, 183, "b", described(7, "early"))
            .await;
        assert!(matches!(call.next().await, Some(CallEvent::EarlyOffer(_))));
        phone
            .answer_with(&reinvite, 200, "b", |builder| builder)
            .await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
        assert!(call.acknowledge_progress("b", sdp("late")).await.is_err());
        is_settled(&mut call, &phone, &dialog, 6).await;
    });
}

#[test]
fn a_refresh_that_is_undone_is_tried_again() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, with_timer()).await;
        let phone = Phone::new(&network).await;
        let (_call, _) = up(&alice, &phone, &REFRESHED).await;
        pass(290_000).await;
        let refresh = phone.nth(Method::Invite, 1).await;
        phone
            .answer_with(&refresh, 183, "b", described(7, "answer"))
            .await;
        let prack = phone.first(Method::Prack).await;
        phone.answer(&prack, 200, "b").await;
        phone.answer(&refresh, 500, "b").await;
        pass(290_000).await;
        assert!(phone.count(Method::Invite) > 2);
        assert_eq!(phone.count(Method::Bye), 0);
    });
}

#[test]
fn what_was_offered_in_a_183_and_withdrawn_is_not_told_again() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        let asks = dialog
            .bare(Method::Invite, 11)
            .header(HeaderName::Supported, "100rel")
            .build()
            .unwrap();
        let id = phone.begins(&asks, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.progress_reliably(StatusCode::SESSION_PROGRESS, Some(sdp("never agreed")))
            .await
            .unwrap();
        pass(100).await;
        phone.cancels(id).await;
        assert_eq!(phone.status_of(&asks).await, 487);
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteCancelled)
        ));
        let refresh = dialog
            .bare(Method::Invite, 12)
            .body("application/sdp", sdp("offer").bytes)
            .build()
            .unwrap();
        phone.send(&refresh, ALICE).await;
        assert!(
            matches!(call.next().await, Some(CallEvent::Reinvited(_))),
            "the application says what holds"
        );
    });
}

#[test]
fn what_was_offered_in_a_2xx_and_not_answered_is_not_refreshed() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, with_timer()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone, &REFRESHED).await;
        let asks = dialog
            .bare(Method::Invite, 5)
            .header(HeaderName::Supported, "timer")
            .header(HeaderName::SessionExpires, "600;refresher=uas")
            .build()
            .unwrap();
        phone.send(&asks, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("unanswered")).await.unwrap();
        assert_eq!(phone.status_of(&asks).await, 200);
        phone.send(&dialog.build(Method::Ack, 5), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        assert!(matches!(call.next().await, Some(CallEvent::RefreshDue)));
        assert_eq!(phone.count(Method::Invite), 1);
    });
}

#[test]
fn who_has_hung_up_takes_no_reinvite_and_gets_its_bye_out() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = answered(&mut alice, &phone).await;
        call.hang_up().await.unwrap();
        let again = dialog
            .bare(Method::Invite, 11)
            .body("application/sdp", sdp("offer").bytes)
            .build()
            .unwrap();
        phone.send(&again, ALICE).await;
        assert_eq!(phone.status_of(&again).await, 500);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        phone.first(Method::Bye).await;
    });
}

#[test]
fn a_refer_in_an_early_dialog_that_ends_is_declined() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.takes_refers = true;
        let alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        call.next().await.unwrap();
        let dialog = InDialog::of_invite(&invite, "b");
        let refer = dialog
            .bare(Method::Refer, 3)
            .header(HeaderName::ReferTo, "<sip:carol@192.0.2.3>")
            .build()
            .unwrap();
        phone.send(&refer, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Referred(_))));
        phone.answer(&invite, 486, "b").await;
        assert_eq!(phone.status_of(&refer).await, 603);
    });
}

#[test]
fn of_two_forks_that_cross_the_cancel_neither_is_told_of_the_other() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        call.hang_up().await.unwrap();
        phone.first(Method::Cancel).await;
        phone.answer(&invite, 200, "b").await;
        phone.answer(&invite, 200, "c").await;
        phone.nth(Method::Bye, 1).await;
        for bye in phone.all(Method::Bye) {
            assert!(bye.headers().text(&HeaderName::Reason).is_none());
        }
    });
}
