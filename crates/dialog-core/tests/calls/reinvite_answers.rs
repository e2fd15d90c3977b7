//! Answers to re-INVITEs of ours whose To tag is not the dialog's, against RFC 3261 §8.2.6.2.

use crate::support::*;
use sipora_dialog_core::{Call, CallEnd, CallError, CallEvent};
use sipora_message::{HeaderName, Method, Response, StatusCode};
use sipora_testkit::audit::Rule;
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

/// Accepts a request with this To tag, or none.
async fn accepts_as(phone: &Phone, came: &Came, tag: Option<&str>) {
    let mut to = "<sip:bob@example.com>".to_owned();
    if let Some(tag) = tag {
        to = format!("{to};tag={tag}");
    }
    let asked = came.request.edit().set(HeaderName::To, to).build().unwrap();
    let builder = Response::for_request(&asked, StatusCode::OK)
        .contact(format!("<sip:bob@{BOB}>"))
        .body("application/sdp", sdp("his").bytes);
    phone.answer_as_is(came, builder).await;
}

/// What the phone does here is wrong.
fn waive(network: &SimNetwork) {
    network.auditor().waive(Rule::Answer);
    network.auditor().waive(Rule::Dialog);
    network.auditor().waive(Rule::Sequence);
}

async fn with_tag(phone: &Phone, method: Method, tag: &str) -> Came {
    for _ in 0..20_000 {
        let all = phone.all(method.clone());
        if let Some(came) = all.iter().find(|came| to_tag(came) == tag) {
            return came.clone();
        }
        pass(5).await;
    }
    panic!("no {method} for {tag}");
}

async fn changes(call: &mut Call, phone: &Phone, nth: usize) {
    call.reinvite(Some(sdp("again"))).await.unwrap();
    let again = phone.nth(Method::Invite, nth).await;
    phone.answer(&again, 200, "b").await;
    let next = call.next().await;
    assert!(
        matches!(next, Some(CallEvent::ReinviteAccepted(_))),
        "{next:?}"
    );
}

/// "The UAC core MUST generate an ACK request for each 2xx" (§13.2.2.4), whose dialog nobody wants; the peer may still answer.
#[test]
fn a_reinvite_that_another_accepts_is_acknowledged_and_ended_there_and_waits_for_its_peer() {
    scene(|network| async move {
        waive(&network);
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        for _ in 0..2 {
            accepts_as(&phone, &reinvite, Some("stranger")).await;
        }
        let bye = with_tag(&phone, Method::Bye, "stranger").await;
        phone.answer(&bye, 200, "stranger").await;
        pass(1_000).await;
        let acks = phone.all(Method::Ack);
        let acks = acks.iter().filter(|ack| to_tag(ack) == "stranger");
        let acks: Vec<_> = acks.collect();
        assert_eq!(acks.len(), 2, "one for each copy");
        assert!(acks.iter().all(|ack| number(ack) == number(&reinvite)));
        assert_eq!(phone.count(Method::Bye), 1);
        phone.answer(&reinvite, 200, "b").await;
        let next = call.next().await;
        assert!(
            matches!(next, Some(CallEvent::ReinviteAccepted(_))),
            "{next:?}"
        );
        pass(100).await;
        let acks = phone.all(Method::Ack);
        assert_eq!(to_tag(acks.last().unwrap()), "b");
        changes(&mut call, &phone, 2).await;
        // When no more can come nothing happens.
        pass(60_000).await;
        call.hang_up().await.unwrap();
        let bye = phone.nth(Method::Bye, 1).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(60_000).await;
        alice.assert_idle();
    });
}

/// For the dialog that is silence: "a UAC SHOULD also terminate a dialog if no response at all is received" (§12.2.1.2).
#[test]
fn a_reinvite_that_only_others_accept_ends_the_call_as_silence_does() {
    scene(|network| async move {
        waive(&network);
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        accepts_as(&phone, &reinvite, Some("stranger")).await;
        let bye = with_tag(&phone, Method::Bye, "stranger").await;
        phone.answer(&bye, 200, "stranger").await;
        let again = call.reinvite(Some(sdp("again"))).await;
        assert!(matches!(again, Err(CallError::NotNow(_))), "{again:?}");
        pass(30_000).await;
        assert_eq!(phone.count(Method::Bye), 1);
        let bye = with_tag(&phone, Method::Bye, "b").await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Lost));
        pass(60_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_2xx_without_a_tag_is_the_peers() {
    scene(|network| async move {
        waive(&network);
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        accepts_as(&phone, &reinvite, None).await;
        let next = call.next().await;
        assert!(
            matches!(next, Some(CallEvent::ReinviteAccepted(_))),
            "{next:?}"
        );
        let ack = phone.nth(Method::Ack, 1).await;
        assert_eq!(to_tag(&ack), "b");
        changes(&mut call, &phone, 2).await;
    });
}

/// The peer has given up waiting for the answer to its offer, and says nothing of it.
#[test]
fn an_offer_in_a_2xx_that_nobody_answers_ends_the_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(None).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 200, "b").await;
        pass(60_000).await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(phone.count(Method::Ack), 2, "it is owed all the same");
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(60_000).await;
        alice.assert_idle();
    });
}

#[test]
fn strangers_that_accept_reinvites_leave_nothing_behind_on_bad_networks() {
    for_each_seed(seeds(), |network| async move {
        waive(&network);
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        network.set_conditions(Conditions::rough());
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        let is_answered = network.random(0..=1) == 0;
        // What is lost is said again, as by a user agent.
        for round in 0..6 {
            accepts_as(&phone, &reinvite, Some("stranger")).await;
            if is_answered && round > 1 {
                phone.answer(&reinvite, 200, "b").await;
            }
            pass(network.random(10..=500)).await;
        }
        let bye = with_tag(&phone, Method::Bye, "stranger").await;
        phone.answer(&bye, 200, "stranger").await;
        if is_answered {
            let next = call.next().await;
            let is_accepted = matches!(next, Some(CallEvent::ReinviteAccepted(_)));
            assert!(is_accepted, "{next:?}");
            call.hang_up().await.unwrap();
        }
        let bye = with_tag(&phone, Method::Bye, "b").await;
        phone.answer(&bye, 200, "b").await;
        let ended = end(&mut call).await;
        match is_answered {
            true => assert!(matches!(ended, CallEnd::HungUp), "{ended:?}"),
            false => assert!(matches!(ended, CallEnd::Lost), "{ended:?}"),
        }
        pass(120_000).await;
        alice.assert_idle();
    });
}
