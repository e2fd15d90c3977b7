//! Section 3.1: what comes while the callee waits for the ACK.

use crate::patient::*;
use crate::support::*;
use sipora_dialog_core::{Call, CallEnd, CallEvent};
use sipora_message::{HeaderName, Method};

/// The phone calls, Alice accepts, and no ACK has come: Moratorium at Alice's.
async fn moratorium(alice: &mut Agent, phone: &Phone) -> (Call, InDialog) {
    accepted(alice, phone, invite(ALICE)).await
}

#[test]
fn section_3_1_1_callee_receives_initial_invite_retransmission_while_in_moratorium() {
    // The 180 and the first 200 are lost, so that the INVITE comes again: the network does it.
    race(|network| async move {
        let [hers, his] = [ALICE, BOB].map(|it| it.parse::<std::net::SocketAddr>().unwrap().ip());
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        network.part(hers, his);
        call.ring().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        pass(network.random(300..=3_000)).await;
        network.join(hers, his);
        let response = phone.answer_to(&invite).await;
        assert_eq!(response.status().as_u16(), 200);
        let dialog = InDialog::of_response(&response);
        moment(&network).await;
        phone.acknowledges(dialog.build(Method::Ack, 10)).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
        pass(5_000).await;
        assert_eq!(alice.dialogs.call_metrics().begun, 1, "no second call");
        let refused = |status: &u16| *status >= 300;
        assert!(!phone.seen.statuses(&invite).iter().any(refused));
        hangs_up(&mut call, &phone).await;
        quiet(&alice).await;
    });
}

#[test]
fn section_3_1_2_callee_receives_cancel_while_in_moratorium() {
    race(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        let patience = network.random(0..=200);
        let cancels = phone.send_and_cancel_after(&invite, ALICE, patience);
        let accepts = async {
            let call = alice.incoming.next().await.unwrap();
            call.ring().await.unwrap();
            moment(&network).await;
            let accepted = call.accept(sdp("answer")).await;
            (call, accepted)
        };
        let ((mut call, accepted), ()) = tokio::join!(accepts, cancels);
        let response = phone.answer_to(&invite).await;
        if accepted.is_err() {
            // The CANCEL was there before.
            assert_eq!(response.status().as_u16(), 487);
            assert!(matches!(end(&mut call).await, CallEnd::PeerCancelled(_)));
        } else {
            // "Bob's CANCEL has no effect": the call is up, and he ends it with BYE.
            assert_eq!(response.status().as_u16(), 200);
            let dialog = InDialog::of_response(&response);
            phone.acknowledges(dialog.build(Method::Ack, 10)).await;
            let next = call.next().await;
            assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
            let bye = dialog.build(Method::Bye, 11);
            phone.send(&bye, ALICE).await;
            assert_eq!(phone.status_of(&bye).await, 200);
            assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        }
        quiet(&alice).await;
    });
}

#[test]
fn section_3_1_2_caller_cancels_while_the_2xx_is_on_its_way() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.rings(&mut call, &invite, "b").await;
        // The 200 and the CANCEL cross.
        let hangs_up = async {
            moment(&network).await;
            call.hang_up().await.unwrap();
        };
        let accepts = async {
            moment(&network).await;
            phone.accepts(&invite, "b").await;
        };
        tokio::join!(hangs_up, accepts);
        phone.ack_to(&invite, "b").await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        let end = end(&mut call).await;
        assert!(
            matches!(end, CallEnd::Cancelled | CallEnd::HungUp),
            "{end:?}"
        );
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Bye), 1);
    });
}

#[test]
fn section_3_1_3_callee_receives_early_bye_while_in_moratorium() {
    race(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = moratorium(&mut alice, &phone).await;
        moment(&network).await;
        let bye = dialog.build(Method::Bye, 11);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        // What had left before may still come.
        pass(1_000).await;
        let before = phone.seen.accepted(10);
        phone.acknowledges(dialog.build(Method::Ack, 10)).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Bye), 0);
        assert_eq!(phone.seen.accepted(10), before, "no copy after the BYE");
    });
}

#[test]
fn section_3_1_3_caller_ends_the_early_dialog_while_the_2xx_is_on_its_way() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.rings(&mut call, &invite, "b").await;
        call.end_early("b").await.unwrap();
        moment(&network).await;
        phone.accepts(&invite, "b").await;
        phone.ack_to(&invite, "b").await;
        let bye = phone.first(Method::Bye).await;
        moment(&network).await;
        phone.answer(&bye, 200, "b").await;
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Bye), 1, "the early BYE was enough");
    });
}

#[test]
fn section_3_1_4_callee_receives_re_invite_while_in_moratorium_case_1() {
    race(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = moratorium(&mut alice, &phone).await;
        moment(&network).await;
        // The ACK is lost; the re-INVITE is not.
        let reinvite = dialog.build(Method::Invite, 11);
        phone.send(&reinvite, ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
        moment(&network).await;
        call.accept(sdp("answer 2")).await.unwrap();
        assert_eq!(phone.status_of(&reinvite).await, 200);
        let before = phone.seen.accepted(10);
        while phone.seen.accepted(10) == before {
            // "Alice retransmits" what has no ACK: the first too.
            pass(100).await;
        }
        let ack = dialog.build(Method::Ack, 10);
        phone.acknowledges(ack).await;
        moment(&network).await;
        phone.acknowledges(dialog.build(Method::Ack, 11)).await;
        for _ in 0..2 {
            let next = call.next().await;
            assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
        }
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        quiet(&alice).await;
    });
}

#[test]
fn section_3_1_5_callee_receives_re_invite_while_in_moratorium_case_2() {
    race(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        let invite = invite
            .edit()
            .remove(HeaderName::ContentType)
            .set(HeaderName::ContentDisposition, "render;handling=optional");
        let invite = invite.body("text/plain", "no offer").build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("offer 1")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        moment(&network).await;
        let reinvite = dialog.build(Method::Invite, 11);
        phone.send(&reinvite, ALICE).await;
        assert_eq!(phone.status_of(&reinvite).await, 491);
        let ack = dialog
            .request(Method::Ack, 10)
            .body("application/sdp", "v=0\r\ns=answer 1\r\n")
            .build()
            .unwrap();
        phone.acknowledges(ack).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
        moment(&network).await;
        let again = dialog.build(Method::Invite, 12);
        phone.send(&again, ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
        call.accept(sdp("answer 2")).await.unwrap();
        assert_eq!(phone.status_of(&again).await, 200);
        phone.acknowledges(dialog.build(Method::Ack, 12)).await;
        hangs_up(&mut call, &phone).await;
        quiet(&alice).await;
    });
}

#[test]
fn section_3_1_6_callee_receives_bye_while_in_moratorium() {
    race(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = moratorium(&mut alice, &phone).await;
        while phone.seen.accepted(10) < 2 {
            // The ACK was lost, so that the 2xx comes again.
            pass(100).await;
        }
        let bye = dialog.build(Method::Bye, 11);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        pass(1_000).await;
        let before = phone.seen.accepted(10);
        // The ACK that answers the copy comes after the BYE.
        phone.acknowledges(dialog.build(Method::Ack, 10)).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        quiet(&alice).await;
        assert_eq!(phone.seen.accepted(10), before, "no copy after the BYE");
    });
}

/// Alice ends what is up.
async fn hangs_up(call: &mut Call, phone: &Phone) {
    call.hang_up().await.unwrap();
    let bye = phone.first(Method::Bye).await;
    phone.answer(&bye, 200, "b").await;
    let end = end(call).await;
    assert!(matches!(end, CallEnd::HungUp), "{end:?}");
}
