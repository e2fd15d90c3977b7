//! What still comes after a BYE has gone out or come in: "the UA MUST NOT send any new requests" (RFC 5407 §2), and every 2xx wants
//! its ACK all the same.

use crate::support::*;
use sipora_dialog_core::{Call, CallEnd, CallRequest};
use sipora_message::{HeaderName, Method};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

/// A call of Alice's, who knows what to say to challenges.
async fn authorized(alice: &Agent, phone: &Phone) -> (Call, Came) {
    let invite = alice.asks(BOB).body(sdp("offer"));
    let mut call = alice.dialogs.invite(invite, credentials()).await.unwrap();
    let invite = phone.first(Method::Invite).await;
    phone.answer(&invite, 200, "b").await;
    call.answered().await.unwrap();
    (call, invite)
}

#[test]
fn a_reinvite_that_is_challenged_after_the_bye_is_not_sent_again() {
    for_each_seed(seeds(), |network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = authorized(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        let is_ours = network.random(0..=1) == 0;
        if is_ours {
            call.hang_up().await.unwrap();
            let bye = phone.first(Method::Bye).await;
            // The challenge comes before the answer to the BYE, or after it.
            if network.random(0..=1) == 0 {
                phone.answer(&bye, 200, "b").await;
                phone.answer(&reinvite, 407, "b").await;
            } else {
                phone.answer(&reinvite, 407, "b").await;
                phone.answer(&bye, 200, "b").await;
            }
        } else {
            let bye = InDialog::of_invite(&invite, "b").build(Method::Bye, 7);
            phone.send(&bye, ALICE).await;
            assert_eq!(phone.status_of(&bye).await, 200);
            phone.answer(&reinvite, 407, "b").await;
        }
        let end = end(&mut call).await;
        assert_eq!(matches!(end, CallEnd::HungUp), is_ours, "{end:?}");
        pass(40_000).await;
        assert_eq!(phone.count(Method::Invite), 2);
        alice.assert_idle();
    });
}

#[test]
fn a_request_that_is_challenged_after_the_bye_is_not_sent_again() {
    for_each_seed(seeds(), |network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = authorized(&alice, &phone).await;
        let asking = alice_asks(&call, &phone).await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        if network.random(0..=1) == 0 {
            phone.answer(&bye, 200, "b").await;
            phone.answer(&asking, 407, "b").await;
        } else {
            phone.answer(&asking, 407, "b").await;
            phone.answer(&bye, 200, "b").await;
        }
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        assert_eq!(phone.count(Method::Info), 1);
        alice.assert_idle();
    });
}

/// Sends an INFO whose outcome nobody waits for.
async fn alice_asks(call: &Call, phone: &Phone) -> Came {
    let asking = call.request(CallRequest::info(sdp("signal")));
    let _ = tokio::time::timeout(std::time::Duration::from_millis(20), asking).await;
    phone.first(Method::Info).await
}

#[test]
fn a_bye_that_is_challenged_is_sent_again() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = authorized(&alice, &phone).await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 407, "b").await;
        let again = phone.nth(Method::Bye, 1).await;
        assert_eq!(number(&again), number(&bye) + 1);
        phone.answer(&again, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn the_ack_of_a_reinvite_follows_the_route_set_whenever_its_2xx_comes() {
    for_each_seed(seeds(), |network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                let route = format!("<sip:{BOB};lr>");
                let builder = builder.header(HeaderName::RecordRoute, route);
                builder.body("application/sdp", "v=0\r\n")
            })
            .await;
        call.answered().await.unwrap();
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        let route = [format!("sip:{BOB};lr")];
        assert_eq!(routes(&reinvite), route);
        let when = network.random(0..=2);
        if when > 0 {
            call.hang_up().await.unwrap();
            let bye = phone.first(Method::Bye).await;
            if when > 1 {
                phone.answer(&bye, 200, "b").await;
            }
        }
        // Proxies need not record-route again.
        phone.answer(&reinvite, 200, "b").await;
        let ack = phone.nth(Method::Ack, 1).await;
        assert_eq!(number(&ack), number(&reinvite));
        assert_eq!(routes(&ack), route);
        call.hang_up().await.unwrap_or_default();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(routes(&bye), route);
        if when < 2 {
            phone.answer(&bye, 200, "b").await;
        }
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

/// What is under way when the call is ended.
async fn begins(call: &Call, phone: &Phone, which: u64) -> Option<Came> {
    match which {
        0 => None,
        1 => Some(alice_asks(call, phone).await),
        _ => {
            call.reinvite(Some(sdp("hold"))).await.unwrap();
            Some(phone.nth(Method::Invite, 1).await)
        }
    }
}

/// Answers until the ACK comes.
async fn accepts(phone: &Phone, invite: &Came, tag: &str) {
    let acknowledged = || phone.all(Method::Ack).iter().any(|ack| to_tag(ack) == tag);
    while !acknowledged() {
        phone.answer(invite, 200, tag).await;
        pass(500).await;
    }
}

async fn pause(network: &SimNetwork) {
    pass(network.random(0..=1_500)).await;
}

/// Between our BYE and its answer, other forks accept, what was under way is challenged, and so is the BYE, on a network that loses,
/// repeats and overtakes: everything is acknowledged and ended, once, and nothing else is said after the BYE.
#[test]
fn whatever_comes_between_a_bye_and_its_answer_the_call_is_over_everywhere() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = alice.asks(BOB).body(sdp("offer"));
        let mut call = alice.dialogs.invite(invite, credentials()).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        for tag in ["b1", "b2", "b3"] {
            phone.answer(&invite, 180, tag).await;
        }
        pause(&network).await;
        // It may not have heard of this one.
        let was_early = call.end_early("b3").await.is_ok();
        accepts(&phone, &invite, "b1").await;
        call.answered().await.unwrap();
        let under_way = begins(&call, &phone, network.random(0..=2)).await;
        call.hang_up().await.unwrap();
        let ended = async {
            let end = end(&mut call).await;
            assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        };
        let forks = async {
            pause(&network).await;
            accepts(&phone, &invite, "b2").await;
            pause(&network).await;
            accepts(&phone, &invite, "b3").await;
        };
        let challenges = async {
            pause(&network).await;
            if let Some(under_way) = under_way {
                phone.answer(&under_way, 407, "b1").await;
            }
        };
        let (first, challenged) = (network.random(0..=1_500), network.random(0..=1) == 0);
        let byes = async {
            pass(first).await;
            let mut seen = 0;
            for _ in 0..6_000 {
                for bye in phone.all(Method::Bye).into_iter().skip(seen) {
                    seen += 1;
                    let status = if challenged && seen == 1 { 407 } else { 200 };
                    phone.answer(&bye, status, &to_tag(&bye)).await;
                }
                pass(10).await;
            }
        };
        tokio::join!(ended, forks, challenges, byes);
        for (tag, most) in [("b1", 2), ("b2", 2), ("b3", 2)] {
            let byes = phone.all(Method::Bye);
            let of_tag = |bye: &&Came| to_tag(bye) == tag;
            let numbers: Vec<u32> = byes.iter().filter(of_tag).map(|it| number(it)).collect();
            assert!((1..=most).contains(&numbers.len()), "{tag}: {numbers:?}");
            for method in [Method::Invite, Method::Info] {
                for later in phone.all(method).iter().filter(of_tag) {
                    assert!(number(later) < numbers[0], "after the BYE");
                }
            }
        }
        if was_early {
            let byes = phone.all(Method::Bye);
            let of_b3 = byes.iter().filter(|bye| to_tag(bye) == "b3");
            assert!(of_b3.count() <= 1 + usize::from(challenged));
        }
        pass(120_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_2xx_with_an_offer_is_acknowledged_when_the_peer_hangs_up_before_its_answer() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.dialogs.invite(alice.asks(BOB), None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        let dialog = InDialog::of_invite(&invite, "b");
        let bye = dialog.build(Method::Bye, 5);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        end(&mut call).await;
        // A copy that was on its way.
        phone.answer(&invite, 200, "b").await;
        pass(40_000).await;
        assert!(phone.count(Method::Ack) > 0);
        alice.assert_idle();
    });
}

#[test]
fn our_re_invite_is_not_kept_when_the_peer_hangs_up_and_says_nothing_more_of_it() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 100, "b").await;
        let bye = dialog.build(Method::Bye, 20);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        end(&mut call).await;
        pass(600_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_bye_that_met_the_peers_and_is_challenged_is_not_sent_again() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = authorized(&alice, &phone).await;
        call.hang_up().await.unwrap();
        let ours = phone.first(Method::Bye).await;
        let theirs = InDialog::of_invite(&invite, "b").build(Method::Bye, 5);
        phone.send(&theirs, ALICE).await;
        assert_eq!(phone.status_of(&theirs).await, 200);
        phone.answer(&ours, 407, "b").await;
        end(&mut call).await;
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 1);
        alice.assert_idle();
    });
}
