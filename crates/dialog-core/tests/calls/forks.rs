//! INVITEs of ours that several user agents answer (RFC 3261 §13.2.2.4): whatever the others do, one call is told of, and all else is
//! acknowledged and ended.

use crate::support::*;
use sipora_dialog_core::{CallEnd, CallError, CallEvent};
use sipora_message::Method;
use sipora_testkit::{for_each_seed, seeds};

/// Answers each BYE that comes, until the call is over; says for which dialogs they were, and how the call ended.
async fn answers_byes(
    phone: &Phone,
    call: &mut sipora_dialog_core::Call,
) -> (Vec<String>, CallEnd) {
    let mut tags = Vec::new();
    loop {
        for bye in phone.all(Method::Bye).into_iter().skip(tags.len()) {
            let tag = to_tag(&bye);
            phone.answer(&bye, 200, &tag).await;
            tags.push(tag);
        }
        let event = tokio::time::timeout(std::time::Duration::from_millis(10), call.next()).await;
        match event.map(Option::unwrap) {
            Ok(CallEvent::Ended(end)) => {
                tags.sort();
                return (tags, end);
            }
            Ok(CallEvent::Answered(_)) => panic!("a call that was given up came back"),
            Ok(_) | Err(_) => {}
        }
    }
}

#[test]
fn a_fork_that_accepts_while_the_call_is_being_ended_is_ended_too() {
    for_each_seed(seeds(), |network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b1").await;
        phone.answer(&invite, 180, "b2").await;
        phone.answer(&invite, 200, "b1").await;
        call.answered().await.unwrap();
        call.hang_up().await.unwrap();
        // Before the BYE, before its answer, or after it.
        let accepting = async {
            pass(network.random(0..=30)).await;
            phone.answer(&invite, 200, "b2").await;
        };
        let ((tags, end), ()) = tokio::join!(answers_byes(&phone, &mut call), accepting);
        assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        // The second may come after the end.
        if tags.len() < 2 {
            let bye = phone.nth(Method::Bye, 1).await;
            assert_eq!(to_tag(&bye), "b2");
            phone.answer(&bye, 200, "b2").await;
        }
        let mut acks: Vec<String> = phone.all(Method::Ack).iter().map(|it| to_tag(it)).collect();
        acks.dedup();
        assert_eq!(acks, ["b1", "b2"]);
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 2);
        assert_eq!(alice.dialogs.call_metrics().forks_ended, 1);
        alice.assert_idle();
    });
}

#[test]
fn a_cancel_that_two_2xx_cross_ends_both() {
    for_each_seed(seeds(), |network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b1").await;
        phone.answer(&invite, 180, "b2").await;
        pass(5).await;
        call.hang_up().await.unwrap();
        phone.answer(&invite, 200, "b1").await;
        let accepting = async {
            pass(network.random(0..=30)).await;
            phone.answer(&invite, 200, "b2").await;
            phone.nth(Method::Ack, 1).await
        };
        let ((_, end), last) = tokio::join!(answers_byes(&phone, &mut call), accepting);
        assert!(matches!(end, CallEnd::Cancelled), "{end:?}");
        assert_eq!(to_tag(&last), "b2");
        pass(20).await;
        let byes: Vec<Came> = phone.all(Method::Bye);
        assert_eq!(byes.len(), 2);
        phone.answer(&byes[1], 200, "b2").await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_fork_that_accepts_after_one_that_described_nothing_is_ended() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 200, "b1", |builder| builder)
            .await;
        phone.first(Method::Bye).await;
        phone.answer(&invite, 200, "b2").await;
        let (tags, end) = answers_byes(&phone, &mut call).await;
        assert_eq!(tags, ["b1", "b2"]);
        assert!(matches!(end, CallEnd::NotDescribed), "{end:?}");
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_late_fork_does_not_take_the_ack_of_a_delayed_offer() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = alice.asks(BOB);
        let mut call = alice.dialogs.invite(invite, None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 200, "b1").await;
        call.answered().await.unwrap();
        // The application has no answer ready yet.
        phone.answer(&invite, 200, "b2").await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(to_tag(&bye), "b2");
        phone.answer(&bye, 200, "b2").await;
        call.acknowledge(sdp("answer")).await.unwrap();
        let ack = phone.nth(Method::Ack, 1).await;
        assert_eq!(to_tag(&ack), "b1");
        assert_eq!(ack.body(), sdp("answer").bytes);
        call.hang_up().await.unwrap();
        answers_byes_but(&phone, &mut call, 1).await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

/// Answers the BYE that comes after so many.
async fn answers_byes_but(phone: &Phone, call: &mut sipora_dialog_core::Call, before: usize) {
    let bye = phone.nth(Method::Bye, before).await;
    phone.answer(&bye, 200, &to_tag(&bye)).await;
    end(call).await;
}

#[test]
fn a_late_fork_does_not_let_two_reinvites_out() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 200, "b1").await;
        call.answered().await.unwrap();
        call.reinvite(None).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&invite, 200, "b2").await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b2").await;
        let second = call.reinvite(None).await;
        assert!(matches!(second, Err(CallError::NotNow(_))), "{second:?}");
        phone.answer(&reinvite, 200, "b1").await;
        let event = call.next().await;
        assert!(matches!(event, Some(CallEvent::ReinviteAccepted(_))));
        call.acknowledge(sdp("hold")).await.unwrap();
        call.hang_up().await.unwrap();
        answers_byes_but(&phone, &mut call, 1).await;
        pass(40_000).await;
        assert_eq!(phone.count(Method::Invite), 2);
        alice.assert_idle();
    });
}

#[test]
fn a_peer_that_ends_one_early_dialog_of_several_does_not_say_how_the_call_ends() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b1").await;
        phone.answer(&invite, 180, "b2").await;
        let bye = InDialog::of_invite(&invite, "b1").build(Method::Bye, 7);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        assert_eq!(phone.count(Method::Cancel), 0, "the other rings");
        phone.answer(&invite, 486, "b2").await;
        let told = end(&mut call).await;
        assert!(matches!(told, CallEnd::Refused(_)), "{told:?}");
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn an_early_dialog_that_was_ended_stays_ended_whatever_was_on_its_way() {
    for_each_seed(seeds(), |network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        let others_ring = network.random(0..=1) == 0;
        phone.answer(&invite, 180, "b").await;
        if others_ring {
            phone.answer(&invite, 180, "c").await;
        }
        pass(5).await;
        call.end_early("b").await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        pass(10).await;
        // A provisional answer and the 2xx had been sent before the BYE came; the first copies were lost.
        if network.random(0..=1) == 0 {
            let reliable = network.random(0..=1) == 0;
            phone
                .answer_with(&invite, 183, "b", |builder| match reliable {
                    true => builder.header("Require", "100rel").header("RSeq", "7"),
                    false => builder,
                })
                .await;
        }
        phone.answer(&invite, 200, "b").await;
        let ack = phone.first(Method::Ack).await;
        assert_eq!(to_tag(&ack), "b");
        if others_ring {
            phone.answer(&invite, 200, "c").await;
            call.answered().await.unwrap();
            call.hang_up().await.unwrap();
            answers_byes_but(&phone, &mut call, 1).await;
        } else {
            while let Some(event) = call.next().await {
                match event {
                    CallEvent::Ended(end) => assert!(matches!(end, CallEnd::HungUp), "{end:?}"),
                    event => assert!(is_progress(&Some(event)), "it came back"),
                }
            }
        }
        pass(40_000).await;
        let of_b = |bye: &&Came| to_tag(bye) == "b";
        assert_eq!(phone.all(Method::Bye).iter().filter(of_b).count(), 1);
        assert_eq!(phone.count(Method::Prack), 0);
        alice.assert_idle();
    });
}

#[test]
fn the_offer_of_a_fork_that_was_ended_is_not_answered_any_more() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.dialogs.invite(alice.asks(BOB), None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "b", described(7, "early"))
            .await;
        assert!(matches!(call.next().await, Some(CallEvent::EarlyOffer(_))));
        phone.answer(&invite, 200, "c").await;
        call.answered().await.unwrap();
        phone.answer(&invite, 200, "b").await;
        phone.first(Method::Bye).await;
        let late = call.acknowledge_progress("b", sdp("late")).await;
        assert_eq!(late, Err(CallError::Gone));
        call.acknowledge(sdp("answer")).await.unwrap();
        pass(100).await;
        assert_eq!(phone.count(Method::Prack), 0);
    });
}
