//! INVITEs of ours that several user agents answer (RFC 3261 §13.2.2.4): whatever the others do, one call is told of, and all else is
//! acknowledged and ended.

use crate::support::*;
use sipora_dialog_core::{CallConfig, CallEnd, CallError, CallEvent};
use sipora_message::{HeaderName, Method, StatusCode};
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

/// Two early dialogs: that of `a` has a session, that of `b` has none.
async fn two_forks(alice: &Agent, phone: &Phone) -> (sipora_dialog_core::Call, Came) {
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
async fn is_settled(call: &mut sipora_dialog_core::Call, phone: &Phone, invite: &Came) {
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
fn an_offer_of_ours_in_a_dialog_that_ends_does_not_count_in_the_one_that_is_accepted() {
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
