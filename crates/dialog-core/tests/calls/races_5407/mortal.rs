//! Sections 3.2 and 3.3.3: what comes after a BYE has been sent.

use crate::patient::*;
use crate::support::*;
use sipora_dialog_core::{CallConfig, CallEnd, CallEvent, Refer};
use sipora_message::{HeaderName, Method};

#[test]
fn section_3_2_1_bye_crosses_bye() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        call.hang_up().await.unwrap();
        moment(&network).await;
        let theirs = dialog.build(Method::Bye, 7);
        phone.send(&theirs, ALICE).await;
        assert_eq!(phone.status_of(&theirs).await, 200);
        let ours = phone.first(Method::Bye).await;
        moment(&network).await;
        phone.answer(&ours, 200, "b").await;
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        quiet(&alice).await;
    });
}

#[test]
fn section_3_2_2_re_invite_comes_while_in_mortal() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        call.hang_up().await.unwrap();
        moment(&network).await;
        let reinvite = dialog.build(Method::Invite, 7);
        phone.send(&reinvite, ALICE).await;
        assert_eq!(phone.status_of(&reinvite).await, 481);
        let bye = phone.first(Method::Bye).await;
        moment(&network).await;
        phone.answer(&bye, 200, "b").await;
        let next = call.next().await;
        assert!(
            matches!(next, Some(CallEvent::Ended(CallEnd::HungUp))),
            "nothing was offered: {next:?}"
        );
        quiet(&alice).await;
    });
}

#[test]
fn section_3_2_3_200_for_re_invite_comes_while_in_mortal() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        moment(&network).await;
        let bye = dialog.build(Method::Bye, 7);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        moment(&network).await;
        phone.accepts(&reinvite, "b").await;
        phone.ack_to(&reinvite, "b").await;
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Bye), 0, "its BYE was enough");
    });
}

#[test]
fn section_3_2_3_our_own_bye_does_not_wait_for_our_re_invite() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = up(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        moment(&network).await;
        phone.accepts(&reinvite, "b").await;
        phone.ack_to(&reinvite, "b").await;
        moment(&network).await;
        phone.answer(&bye, 200, "b").await;
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Bye), 1);
    });
}

#[test]
fn section_3_2_4_ack_crosses_a_bye_of_the_callee() {
    // Our callee waits for the ACK (RFC 3261 §15); the phone does not. Where its 200 is lost, its BYE comes first.
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.rings(&mut call, &invite, "b").await;
        phone.accepts(&invite, "b").await;
        moment(&network).await;
        let bye = InDialog::of_invite(&invite, "b").build(Method::Bye, 7);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        phone.ack_to(&invite, "b").await;
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        quiet(&alice).await;
    });
}

fn transferable() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config
}

#[test]
fn section_3_3_3_refer_comes_while_in_mortal() {
    race(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        call.hang_up().await.unwrap();
        moment(&network).await;
        let refer = dialog.request(Method::Refer, 7);
        let refer = refer.contact(format!("<sip:bob@{BOB}>"));
        let refer = refer.header(HeaderName::ReferTo, "<sip:carol@192.0.2.3>");
        let refer = refer.build().unwrap();
        phone.send(&refer, ALICE).await;
        assert_eq!(phone.status_of(&refer).await, 481);
        let bye = phone.first(Method::Bye).await;
        moment(&network).await;
        phone.answer(&bye, 200, "b").await;
        let next = call.next().await;
        assert!(
            matches!(next, Some(CallEvent::Ended(CallEnd::HungUp))),
            "nothing was offered: {next:?}"
        );
        quiet(&alice).await;
    });
}

#[test]
fn section_3_3_3_our_refer_is_refused_by_who_has_sent_its_bye() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        let crosses = async {
            let refer = phone.first(Method::Refer).await;
            moment(&network).await;
            let bye = dialog.build(Method::Bye, 7);
            phone.send(&bye, ALICE).await;
            assert_eq!(phone.status_of(&bye).await, 200);
            moment(&network).await;
            phone.answer(&refer, 481, "b").await;
        };
        let refer = Refer::to(uri("sip:carol@192.0.2.3"));
        let (answer, ()) = tokio::join!(call.refer(refer), crosses);
        let answer = answer.unwrap();
        assert_eq!(answer.response.status().as_u16(), 481);
        assert!(answer.id.is_none());
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Bye), 0, "its BYE was enough");
    });
}
