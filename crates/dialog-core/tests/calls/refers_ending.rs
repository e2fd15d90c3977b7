//! REFERs of the peers' whose dialog ends: each has its answer, and each subscription its last NOTIFY (RFC 3515 §2.4.2, RFC 5057 §5.5,
//! RFC 6665 §4.2.2).

use crate::support::*;
use sipora_dialog_core::{Body, Call, CallConfig, CallEvent, CallRequest, Referral};
use sipora_message::{HeaderName, Method, Request, StatusCode};
use std::time::Duration;

pub fn transferable() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config
}

pub fn refer(dialog: &InDialog, cseq: u32) -> Request {
    dialog
        .bare(Method::Refer, cseq)
        .header(HeaderName::ReferTo, "<sip:carol@192.0.2.3>")
        .build()
        .unwrap()
}

pub async fn referral(call: &mut Call) -> Referral {
    loop {
        match call.next().await.unwrap() {
            CallEvent::Referred(referral) => return *referral,
            CallEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    }
}

fn terminated(phone: &Phone) -> usize {
    let is_last = |came: &&Came| {
        let name = HeaderName::from("Subscription-State");
        let state = came.headers().text(&name);
        state.is_some_and(|state| state.starts_with("terminated"))
    };
    phone.all(Method::Notify).iter().filter(is_last).count()
}

#[test]
fn a_refer_that_nobody_has_decided_about_is_answered_when_its_dialog_is_lost() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let request = refer(&dialog, 11);
        phone.send(&request, ALICE).await;
        referral(&mut call).await;
        let asks = tokio::spawn(async move {
            let info = CallRequest::info(Body::new("text/plain", "x"));
            let _ = call.request(info).await;
            call
        });
        let info = phone.first(Method::Info).await;
        phone.answer(&info, 404, "b").await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        let _call = asks.await.unwrap();
        pass(20_000).await;
        assert!(phone.seen_finals(&request) > 0, "the REFER has no answer");
    });
}

#[test]
fn a_refer_that_was_accepted_in_an_early_dialog_is_told_of_to_its_end() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        let dialog = InDialog::of_invite(&invite, "b");
        phone.send(&refer(&dialog, 3), ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "b").await;
        phone.answer(&invite, 486, "b").await;
        pass(100).await;
        let _ = call.report_refer(asked.id, StatusCode::OK).await;
        pass(1_000).await;
        assert_eq!(terminated(&phone), 1);
    });
}

#[test]
fn who_hangs_up_and_drops_the_call_tells_the_peer_that_nothing_will_come() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        phone.send(&refer(&dialog, 11), ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "b").await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        drop(call);
        pass(10).await;
        phone.answer(&bye, 200, "b").await;
        pass(1_000).await;
        assert_eq!(terminated(&phone), 1);
    });
}

#[test]
fn a_peer_that_refuses_the_notifies_of_two_refers_with_500_is_not_told_again_and_again() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        for cseq in [11, 12] {
            phone.send(&refer(&dialog, cseq), ALICE).await;
        }
        for _ in 0..2 {
            let asked = referral(&mut call).await;
            call.accept_refer(asked.id).await.unwrap();
        }
        for nth in 0..200 {
            let notify = phone.nth(Method::Notify, nth);
            let Ok(notify) = tokio::time::timeout(Duration::from_secs(4), notify).await else {
                break;
            };
            phone.answer(&notify, 500, "b").await;
        }
        let count = phone.count(Method::Notify);
        assert!(count < 20, "{count} within a few seconds");
    });
}

#[test]
fn a_fork_that_ends_while_a_refer_is_told_of_in_it_does_not_end_the_session_of_the_other() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "a").await;
        phone.answer(&invite, 180, "b").await;
        let dialog = InDialog::of_invite(&invite, "a");
        phone.send(&refer(&dialog, 3), ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "a").await;
        phone.send(&dialog.build(Method::Bye, 4), ALICE).await;
        pass(100).await;
        phone.answer(&invite, 200, "b").await;
        let told = call.next().await;
        assert!(!matches!(told, Some(CallEvent::SessionEnded)), "{told:?}");
    });
}

#[test]
fn a_call_is_not_handed_over_while_a_refer_is_told_of_in_a_fork_that_has_ended() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "a").await;
        phone.answer(&invite, 180, "b").await;
        let dialog = InDialog::of_invite(&invite, "a");
        phone.send(&refer(&dialog, 3), ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "a").await;
        phone.send(&dialog.build(Method::Bye, 4), ALICE).await;
        pass(100).await;
        phone.answer(&invite, 200, "b").await;
        pass(100).await;
        let _ = call.detach().await;
        let _ = call.report_refer(asked.id, StatusCode::OK).await;
        pass(300_000).await;
        assert_eq!(terminated(&phone), 1);
    });
}

#[test]
fn the_end_of_the_session_is_told_though_the_refer_that_is_told_of_was_in_another_fork() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "a").await;
        phone.answer(&invite, 180, "b").await;
        let dialog = InDialog::of_invite(&invite, "a");
        phone.send(&refer(&dialog, 3), ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "a").await;
        phone.send(&dialog.build(Method::Bye, 4), ALICE).await;
        pass(100).await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        let b = InDialog::of_invite(&invite, "b");
        phone.send(&b.build(Method::Bye, 4), ALICE).await;
        let told = tokio::time::timeout(Duration::from_secs(1), call.next()).await;
        assert!(
            matches!(told, Ok(Some(CallEvent::SessionEnded))),
            "{told:?}"
        );
    });
}
