//! Two early dialogs of one INVITE of ours: what is open in the one that ends counts no more, and the numbers of its requests do
//! (RFC 3261 §12.2.1.1, §13.2.2.4, §15).

use crate::support::*;
use sipora_dialog_core::{Call, CallConfig, CallError, CallEvent};
use sipora_message::{HeaderName, Method, Request, RequestBuilder, StatusCode};
use std::time::Duration;

/// Two early dialogs: that of `a` has a session, that of `b` has none.
async fn two_forks(alice: &Agent, phone: &Phone) -> (Call, Came) {
    let mut call = alice.calls(BOB).await;
    let invite = phone.first(Method::Invite).await;
    phone
        .answer_with(&invite, 183, "a", |builder| {
            knows_updates(described(1, "answer")(builder))
        })
        .await;
    let prack = phone.first(Method::Prack).await;
    phone.answer(&prack, 200, "a").await;
    phone.answer(&invite, 180, "b").await;
    for _ in 0..2 {
        assert!(is_progress(&call.next().await));
    }
    (call, invite)
}

/// Both sides may ask for a change in the dialog of `b`.
async fn is_settled(call: &mut Call, phone: &Phone, invite: &Came) {
    let dialog = InDialog::of_invite(invite, "b");
    for cseq in [6, 7] {
        let asks = dialog.offering(Method::Invite, cseq, "change");
        phone.send(&asks, ALICE).await;
        let told = call.next().await;
        assert!(matches!(told, Some(CallEvent::Reinvited(_))), "{told:?}");
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        assert_eq!(phone.status_of(&asks).await, 488);
    }
    let before = phone.count(Method::Invite);
    call.reinvite(Some(sdp("again"))).await.unwrap();
    let ours = phone.nth(Method::Invite, before).await;
    phone.answer(&ours, 200, "b").await;
    let told = call.next().await;
    assert!(matches!(told, Some(CallEvent::ReinviteAccepted(_))));
}

#[test]
fn an_offer_of_ours_in_a_dialog_that_ends_is_told_of_and_does_not_count_in_the_one_that_is_accepted()
 {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        call.update_early("a", Some(sdp("early change")))
            .await
            .unwrap();
        let update = phone.first(Method::Update).await;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                knows_updates(builder).body("application/sdp", sdp("answer").bytes)
            })
            .await;
        call.answered().await.unwrap();
        let told = call.next().await;
        assert!(matches!(told, Some(CallEvent::UpdateFailed(_))), "{told:?}");
        is_settled(&mut call, &phone, &invite).await;
        // Nor does it keep an UPDATE from going there, of which its answer says nothing.
        call.update(Some(sdp("change"))).await.unwrap();
        let ours = phone.nth(Method::Update, 1).await;
        assert_eq!(to_tag(&ours), "b");
        phone.answer(&update, 488, "a").await;
        phone
            .answer_with(&ours, 200, "b", |builder| {
                builder
                    .contact(format!("<sip:bob@{BOB}>"))
                    .body("application/sdp", "v=0\r\ns=changed\r\n")
            })
            .await;
        let told = call.next().await;
        assert!(
            matches!(told, Some(CallEvent::UpdateAccepted(_))),
            "{told:?}"
        );
    });
}

#[test]
fn an_offer_of_the_peer_s_in_a_dialog_that_ends_is_refused_and_does_not_count_in_the_other() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        let a = InDialog::of_invite(&invite, "a");
        let update = a.offering(Method::Update, 5, "early change");
        phone.send(&update, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        assert_eq!(phone.status_of(&update).await, 487);
        let late = call.answer(sdp("too late")).await;
        assert!(matches!(late, Err(CallError::Gone)), "{late:?}");
        is_settled(&mut call, &phone, &invite).await;
    });
}

#[test]
fn a_refer_in_a_dialog_that_ends_is_declined() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.takes_refers = true;
        let alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        let dialog = InDialog::of_invite(&invite, "a");
        let refer = dialog
            .bare(Method::Refer, 5)
            .header(HeaderName::ReferTo, "<sip:carol@192.0.2.3>")
            .build()
            .unwrap();
        phone.send(&refer, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Referred(_))));
        phone.answer(&invite, 200, "b").await;
        assert_eq!(phone.status_of(&refer).await, 603);
        call.answered().await.unwrap();
        is_settled(&mut call, &phone, &invite).await;
    });
}

#[test]
fn the_bye_of_a_fork_that_accepts_later_is_numbered_after_its_pracks_and_updates() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        call.update_early("a", None).await.unwrap();
        let update = phone.first(Method::Update).await;
        phone
            .answer_with(&update, 200, "a", |builder| {
                builder.contact(format!("<sip:bob@{BOB}>"))
            })
            .await;
        assert_eq!(number(&update), 3, "after the PRACK");
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        phone.answer(&invite, 200, "a").await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(to_tag(&bye), "a");
        assert!(number(&bye) > 3, "its CSeq is {}", number(&bye));
    });
}

#[test]
fn the_bye_of_a_fork_that_crosses_the_cancel_is_numbered_after_its_prack() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, invite) = two_forks(&alice, &phone).await;
        call.hang_up().await.unwrap();
        phone.answer(&invite, 200, "b").await;
        phone.answer(&invite, 200, "a").await;
        let byes = [
            phone.first(Method::Bye).await,
            phone.nth(Method::Bye, 1).await,
        ];
        let bye = byes.iter().find(|bye| to_tag(bye) == "a").unwrap();
        assert!(number(bye) > 2, "its CSeq is {}", number(bye));
    });
}

#[test]
fn a_call_that_was_hung_up_is_not_answered_by_another_fork_after_all() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        call.end_early("a").await.unwrap();
        let bye = phone.first(Method::Bye).await;
        // It crosses the BYE.
        phone.answer(&invite, 200, "a").await;
        phone.answer(&bye, 200, "a").await;
        pass(5).await;
        call.hang_up().await.unwrap();
        phone.answer(&invite, 200, "b").await;
        let told = tokio::time::timeout(Duration::from_secs(5), call.next()).await;
        assert!(
            !matches!(told, Ok(Some(CallEvent::Answered(_)))),
            "it was hung up before"
        );
        let bye = phone.nth(Method::Bye, 1).await;
        assert_eq!(to_tag(&bye), "b");
    });
}

#[test]
fn an_update_of_ours_in_an_early_dialog_whose_bye_has_no_answer_does_not_hold_up_the_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        call.update_early("a", Some(sdp("change"))).await.unwrap();
        phone.first(Method::Update).await;
        call.end_early("a").await.unwrap();
        phone.first(Method::Bye).await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn an_update_of_the_peers_in_an_early_dialog_whose_bye_has_no_answer_does_not_hold_up_the_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        let a = InDialog::of_invite(&invite, "a");
        let update = a.offering(Method::Update, 5, "early change");
        phone.send(&update, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        call.end_early("a").await.unwrap();
        phone.first(Method::Bye).await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        pass(100).await;
        assert_eq!(phone.seen.statuses(&update), [487]);
        let b = InDialog::of_invite(&invite, "b");
        let asks = b.offering(Method::Invite, 6, "change");
        phone.send(&asks, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
    });
}

#[test]
fn an_update_of_the_peers_is_answered_when_the_peer_ends_its_early_dialog() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        let a = InDialog::of_invite(&invite, "a");
        let update = a.offering(Method::Update, 5, "early change");
        phone.send(&update, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        let bye = a.build(Method::Bye, 6);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        pass(100).await;
        assert_eq!(phone.seen.statuses(&update), [487]);
    });
}

#[test]
fn an_update_that_waits_after_glare_in_a_dialog_that_ends_is_waited_for_no_more() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = two_forks(&alice, &phone).await;
        call.update_early("a", Some(sdp("change"))).await.unwrap();
        let update = phone.first(Method::Update).await;
        phone.answer(&update, 491, "a").await;
        pass(5).await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn a_prack_in_a_fork_that_was_not_taken_does_not_keep_the_call_from_changing() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "a", described(1, "answer"))
            .await;
        phone.first(Method::Prack).await;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                knows_updates(builder).body("application/sdp", sdp("answer").bytes)
            })
            .await;
        call.answered().await.unwrap();
        pass(1_000).await;
        call.update(Some(sdp("change"))).await.unwrap();
    });
}

#[test]
fn a_tag_of_a_first_try_that_was_ended_counts_no_more_when_the_invite_is_sent_again() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = alice.asks(BOB).body(sdp("offer"));
        let mut call = alice.dialogs.invite(invite, credentials()).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "a").await;
        assert!(is_progress(&call.next().await));
        call.end_early("a").await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "a").await;
        phone
            .answer_with(&invite, 407, "p", |it| {
                it.header(HeaderName::ProxyAuthenticate, "Word open")
            })
            .await;
        let again = phone.nth(Method::Invite, 1).await;
        phone.answer(&again, 200, "a").await;
        pass(5_000).await;
        let up = phone.count(Method::Bye) > 1 || call.export().await.is_ok();
        assert!(up, "the peer's call is up, and ours is not");
    });
}

/// An INVITE of Carol's that names an early dialog of Alice's.
fn replacing(dialog: &InDialog) -> RequestBuilder {
    let tag = |side: &str| side.rsplit_once("tag=").unwrap().1.to_owned();
    let (theirs, ours) = (tag(&dialog.remote), tag(&dialog.local));
    let named = format!("{};to-tag={theirs};from-tag={ours}", dialog.call_id);
    Request::builder(Method::Invite, &uri(&format!("sip:alice@{ALICE}")))
        .from("<sip:carol@example.com>;tag=c")
        .to("<sip:alice@example.com>")
        .call_id("second-call")
        .cseq(100)
        .contact(format!("<sip:carol@{BOB}>"))
        .body("application/sdp", "v=0\r\ns=offer\r\n")
        .header(HeaderName::Replaces, named)
}

#[test]
fn what_replaces_an_early_dialog_that_has_just_been_cancelled_is_declined() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        pass(100).await;
        call.hang_up().await.unwrap();
        phone.first(Method::Cancel).await;
        phone.answer(&invite, 487, "b").await;
        pass(100).await;
        let request = replacing(&InDialog::of_invite(&invite, "b"))
            .build()
            .unwrap();
        phone.send(&request, ALICE).await;
        assert_eq!(phone.status_of(&request).await, 603);
    });
}

#[test]
fn what_replaces_the_fork_that_was_not_taken_is_declined() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "a").await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        pass(100).await;
        let request = replacing(&InDialog::of_invite(&invite, "a"))
            .build()
            .unwrap();
        phone.send(&request, ALICE).await;
        assert_eq!(phone.status_of(&request).await, 603);
    });
}

fn replaceable() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_replaces = true;
    config
}
