//! The races of RFC 5407 §3 that calls take part in, as their sections number them. The user agent is that of whom the
//! section tells; the phone plays the other. UPDATE (3.3.2) and REFER (3.3.3) are not here yet.

use crate::support::*;
use sipora_dialog_core::{Call, CallEnd, CallEvent};
use sipora_message::{Method, Request, Response};

/// The phone calls, Alice accepts, and no ACK has come: Moratorium at Alice's.
async fn moratorium(alice: &mut Agent, phone: &Phone) -> (Call, InDialog, Request) {
    let invite = invite(ALICE).build().unwrap();
    phone.send(&invite, ALICE).await;
    let call = alice.incoming.next().await.unwrap();
    call.ring().await.unwrap();
    call.accept(sdp("answer")).await.unwrap();
    let response = phone.answer_to(&invite).await;
    (call, InDialog::of_response(&response), invite)
}

#[test]
fn section_3_1_1_callee_receives_initial_invite_retransmission_while_in_moratorium() {
    // The 180 and the first 200 are lost, so that the INVITE comes again: the network does it.
    scene(|network| async move {
        let (hers, his) = (ALICE.parse::<std::net::SocketAddr>().unwrap(), BOB);
        let his: std::net::SocketAddr = his.parse().unwrap();
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        network.part(hers.ip(), his.ip());
        call.ring().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        pass(300).await;
        network.join(hers.ip(), his.ip());
        let response = phone.answer_to(&invite).await;
        assert_eq!(response.status().as_u16(), 200);
        let dialog = InDialog::of_response(&response);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        pass(5_000).await;
        assert_eq!(alice.dialogs.call_metrics().begun, 1, "no second call");
        assert_eq!(
            phone
                .seen
                .statuses(&invite)
                .iter()
                .filter(|s| **s >= 300)
                .count(),
            0
        );
    });
}

#[test]
fn section_3_1_2_callee_receives_cancel_while_in_moratorium() {
    // `callee::a_cancel_after_the_2xx_changes_nothing` is the callee's part; here is the caller's.
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        pass(5).await;
        // The 200 and the CANCEL cross.
        let (hung_up, ()) = tokio::join!(call.hang_up(), phone.answer(&invite, 200, "b"));
        hung_up.unwrap();
        phone.first(Method::Ack).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(
            end(&mut call).await,
            CallEnd::Cancelled | CallEnd::HungUp
        ));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn section_3_1_3_callee_receives_early_bye_while_in_moratorium() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog, invite) = moratorium(&mut alice, &phone).await;
        let bye = dialog.build(Method::Bye, 11);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
        assert_eq!(phone.seen_finals(&invite), 1, "no copy after the BYE");
        alice.assert_idle();
    });
}

#[test]
fn section_3_1_3_caller_ends_the_early_dialog_while_the_2xx_is_on_its_way() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        pass(5).await;
        call.end_early("b").await.unwrap();
        phone.answer(&invite, 200, "b").await;
        phone.first(Method::Ack).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 1, "the early BYE was enough");
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        alice.assert_idle();
    });
}

#[test]
fn section_3_1_4_callee_receives_re_invite_while_in_moratorium_case_1() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog, invite) = moratorium(&mut alice, &phone).await;
        // The ACK is lost; the re-INVITE is not.
        let reinvite = dialog.build(Method::Invite, 11);
        phone.send(&reinvite, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("answer 2")).await.unwrap();
        assert_eq!(phone.status_of(&reinvite).await, 200);
        pass(600).await;
        assert_eq!(phone.seen_finals(&invite), 2, "the first is repeated still");
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        phone.send(&dialog.build(Method::Ack, 11), ALICE).await;
        for _ in 0..2 {
            assert!(matches!(
                call.next().await,
                Some(CallEvent::Acknowledged(_))
            ));
        }
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn section_3_1_5_callee_receives_re_invite_while_in_moratorium_case_2() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        let invite = invite
            .edit()
            .remove(sipora_message::HeaderName::ContentType)
            .set(
                sipora_message::HeaderName::ContentDisposition,
                "render;handling=optional",
            );
        let invite = invite.body("text/plain", "no offer").build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("offer 1")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        let reinvite = dialog.build(Method::Invite, 11);
        phone.send(&reinvite, ALICE).await;
        assert_eq!(phone.status_of(&reinvite).await, 491);
        let ack = dialog
            .request(Method::Ack, 10)
            .body("application/sdp", "v=0\r\ns=answer 1\r\n")
            .build()
            .unwrap();
        phone.send(&ack, ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        let again = dialog.build(Method::Invite, 12);
        phone.send(&again, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
    });
}

#[test]
fn section_3_1_6_callee_receives_bye_while_in_moratorium() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog, invite) = moratorium(&mut alice, &phone).await;
        pass(600).await;
        let before = phone.seen_finals(&invite);
        assert_eq!(before, 2);
        let bye = dialog.build(Method::Bye, 11);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        // The ACK that answers the copy comes after the BYE.
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        assert_eq!(phone.seen_finals(&invite), before);
        alice.assert_idle();
    });
}

#[test]
fn section_3_2_1_bye_crosses_bye() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        call.hang_up().await.unwrap();
        let theirs = dialog.build(Method::Bye, 7);
        phone.send(&theirs, ALICE).await;
        assert_eq!(phone.status_of(&theirs).await, 200);
        let ours = phone.first(Method::Bye).await;
        phone.answer(&ours, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn section_3_2_2_re_invite_comes_while_in_mortal() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        call.hang_up().await.unwrap();
        let reinvite = dialog.build(Method::Invite, 7);
        phone.send(&reinvite, ALICE).await;
        assert_eq!(phone.status_of(&reinvite).await, 481);
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(
            matches!(call.next().await, Some(CallEvent::Ended(_))),
            "nothing was offered"
        );
    });
}

#[test]
fn section_3_2_3_200_for_re_invite_comes_while_in_mortal() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        let bye = dialog.build(Method::Bye, 7);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        phone.answer(&reinvite, 200, "b").await;
        let ack = phone.nth(Method::Ack, 1).await;
        assert_eq!(number(&ack), number(&reinvite));
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn section_3_2_3_our_own_bye_does_not_wait_for_our_re_invite() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&reinvite, 200, "b").await;
        phone.nth(Method::Ack, 1).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 1);
        alice.assert_idle();
    });
}

#[test]
fn section_3_2_4_ack_crosses_a_bye_of_the_callee() {
    // Our callee waits for the ACK (RFC 3261 §15); the phone does not, and its BYE finds the caller established.
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        let bye = InDialog::of_invite(&invite, "b").build(Method::Bye, 7);
        let ((), ()) = tokio::join!(phone.answer(&invite, 200, "b"), phone.send(&bye, ALICE));
        assert_eq!(phone.status_of(&bye).await, 200);
        phone.first(Method::Ack).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn section_3_3_1_re_invite_crossover() {
    // Both sides are ours in `rough::reinvites_that_meet_are_both_carried_out`; here, who waits how long.
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        call.next().await;
        call.reinvite(Some(sdp("F6"))).await.unwrap();
        let theirs = dialog.build(Method::Invite, 11);
        phone.send(&theirs, ALICE).await;
        let refusal: Response = phone.answer_to(&theirs).await;
        assert_eq!(refusal.status().as_u16(), 491);
        let ours = phone.first(Method::Invite).await;
        phone.answer(&ours, 491, "b").await;
        let before = tokio::time::Instant::now();
        let again = phone.nth(Method::Invite, 1).await;
        // She does not own the Call-ID: 0 to 2 s.
        assert!(
            before.elapsed().as_millis() <= 2_100,
            "{:?}",
            before.elapsed()
        );
        phone.answer(&again, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
        let retried = dialog.build(Method::Invite, 12);
        phone.send(&retried, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&retried).await, 200);
    });
}

#[test]
fn section_3_3_2_update_and_re_invite_crossover() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).header(sipora_message::HeaderName::Allow, "INVITE, UPDATE");
        let invite = invite.build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        call.next().await;
        // F5, of ours, and F6.
        call.update(Some(sdp("F5"))).await.unwrap();
        let update = phone.first(Method::Update).await;
        let theirs = dialog.build(Method::Invite, 11);
        phone.send(&theirs, ALICE).await;
        assert_eq!(phone.status_of(&theirs).await, 491);
        phone.answer(&update, 491, "b").await;
        let before = tokio::time::Instant::now();
        let again = phone.nth(Method::Update, 1).await;
        // She does not own the Call-ID: 0 to 2 s.
        assert!(before.elapsed().as_millis() <= 2_100);
        phone
            .answer_with(&again, 200, "b", |builder| {
                let builder = builder.contact(format!("<sip:bob@{BOB}>"));
                builder.body("application/sdp", "v=0\r\ns=F14\r\n")
            })
            .await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        // "When an UPDATE for session refresh that doesn't contain a session description and a re-INVITE cross each other, both
        // requests succeed with 200."
        call.update(None).await.unwrap();
        let refresh = phone.nth(Method::Update, 2).await;
        let retried = dialog.build(Method::Invite, 12);
        phone.send(&retried, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&retried).await, 200);
        phone.answer(&refresh, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
    });
}
