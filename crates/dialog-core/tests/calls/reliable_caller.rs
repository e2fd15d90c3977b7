//! Reliable provisional answers to calls that we make (RFC 3262 §4, §5).

use crate::support::*;
use sipora_dialog_core::{Call, CallConfig, CallEnd, CallError, CallEvent, Reliability};
use sipora_message::{HeaderName, Method, RAck, Request};

fn rack(prack: &Request) -> RAck {
    prack.headers().rack().unwrap().unwrap()
}

async fn without_offer(alice: &Agent) -> Call {
    alice.dialogs.invite(alice.asks(BOB), None).await.unwrap()
}

#[test]
fn a_reliable_answer_is_acknowledged_in_its_early_dialog() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        let supported: Vec<&str> = invite.headers().supported().collect();
        assert!(supported.contains(&"100rel"), "{supported:?}");
        assert!(
            invite
                .headers()
                .allow()
                .any(|method| method == Method::Prack)
        );
        phone
            .answer_with(&invite, 180, "b", |builder| {
                let route = format!("<sip:{BOB};lr>");
                reliable(700)(builder).header(HeaderName::RecordRoute, route)
            })
            .await;
        let prack = phone.first(Method::Prack).await;
        assert_eq!(rack(&prack).to_string(), "700 1 INVITE");
        assert_eq!((number(&prack), to_tag(&prack)), (2, "b".to_owned()));
        assert_eq!(routes(&prack), [format!("sip:{BOB};lr")]);
        assert!(is_progress(&call.next().await));
        phone.answer(&prack, 200, "b").await;
        phone.answer(&invite, 200, "b").await;
        let ack = phone.first(Method::Ack).await;
        assert_eq!(
            number(&ack),
            1,
            "that of the INVITE, whatever was sent since"
        );
        call.answered().await.unwrap();
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(number(&bye), 3);
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn copies_and_answers_out_of_order_are_neither_acknowledged_nor_told() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        for rseq in [7, 7, 9, 6, 8] {
            phone.answer_with(&invite, 180, "b", reliable(rseq)).await;
            pass(20).await;
        }
        for nth in 0..2 {
            let prack = phone.nth(Method::Prack, nth).await;
            phone.answer(&prack, 200, "b").await;
            assert!(is_progress(&call.next().await));
        }
        let numbers = phone.all(Method::Prack);
        let numbers: Vec<u32> = numbers.iter().map(|prack| rack(prack).rseq).collect();
        assert_eq!(numbers, [7, 8]);
        phone.answer(&invite, 200, "b").await;
        assert!(matches!(call.next().await, Some(CallEvent::Answered(_))));
    });
}

#[test]
fn each_fork_counts_for_itself() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let _call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        for (tag, rseq) in [("b1", 10), ("b2", 90), ("b2", 91), ("b1", 11)] {
            phone.answer_with(&invite, 183, tag, reliable(rseq)).await;
            pass(20).await;
        }
        let pracks = phone.all(Method::Prack);
        let seen: Vec<(String, u32, u32)> = pracks
            .iter()
            .map(|prack| (to_tag(prack), rack(prack).rseq, number(prack)))
            .collect();
        let of = |tag: &str, rseq, cseq| (tag.to_owned(), rseq, cseq);
        let wanted = [
            of("b1", 10, 2),
            of("b2", 90, 2),
            of("b2", 91, 3),
            of("b1", 11, 3),
        ];
        assert_eq!(seen, wanted);
        for prack in pracks {
            phone.answer(&prack, 200, &to_tag(&prack)).await;
        }
    });
}

#[test]
fn what_cannot_be_reliable_is_not_acknowledged() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        // 100 never is; without Require, RSeq says nothing.
        phone.answer_with(&invite, 100, "b", reliable(3)).await;
        phone
            .answer_with(&invite, 180, "b", |builder| {
                builder.header(HeaderName::RSeq, 3)
            })
            .await;
        assert!(is_progress(&call.next().await));
        pass(1_000).await;
        assert_eq!(phone.count(Method::Prack), 0);
    });
}

#[test]
fn an_invite_says_what_the_configuration_says() {
    scene(|network| async move {
        let phone = Phone::new(&network).await;
        for (nth, policy) in [Reliability::Never, Reliability::Required]
            .into_iter()
            .enumerate()
        {
            let mut config = CallConfig::default();
            config.reliability = policy;
            let address = format!("192.0.2.{}:5060", 10 + nth);
            let agent = Agent::with(&network, &address, 1 + nth as u64, config).await;
            let _call = agent.calls(BOB).await;
            let invite = phone.nth(Method::Invite, nth).await;
            let headers = invite.headers();
            let (requires, supports) = (headers.require().count(), headers.supports("100rel"));
            match policy {
                Reliability::Required => assert_eq!((requires, supports), (1, false)),
                _ => assert_eq!((requires, supports), (0, false)),
            }
            phone.answer(&invite, 486, "b").await;
        }
    });
}

#[test]
fn the_answer_in_a_reliable_answer_counts_and_that_in_the_2xx_does_not() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "b", described(1, "answer"))
            .await;
        let prack = phone.first(Method::Prack).await;
        assert!(prack.body().is_empty());
        phone.answer(&prack, 200, "b").await;
        phone
            .answer_with(&invite, 200, "b", |builder| builder)
            .await;
        let ack = phone.first(Method::Ack).await;
        assert!(ack.body().is_empty());
        call.answered().await.unwrap();
        // Nothing is open: the session can be changed.
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn an_offer_in_a_reliable_answer_is_answered_in_the_prack() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = without_offer(&alice).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "b", described(1, "offer"))
            .await;
        assert!(matches!(call.next().await, Some(CallEvent::EarlyOffer(_))));
        pass(400).await;
        assert_eq!(phone.count(Method::Prack), 0, "it waits for the answer");
        let wrong = call.acknowledge_progress("c", sdp("answer")).await;
        assert!(matches!(wrong, Err(CallError::Gone)));
        call.acknowledge_progress("b", sdp("answer")).await.unwrap();
        let again = call.acknowledge_progress("b", sdp("answer")).await;
        assert!(matches!(again, Err(CallError::Gone)));
        let prack = phone.first(Method::Prack).await;
        assert_eq!(prack.body(), sdp("answer").bytes.as_ref());
        phone.answer(&prack, 200, "b").await;
        // A description in the 2xx would be no offer any more.
        phone.answer(&invite, 200, "b").await;
        let ack = phone.first(Method::Ack).await;
        assert!(ack.body().is_empty());
        assert!(matches!(call.next().await, Some(CallEvent::Answered(_))));
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn a_prack_without_its_200_ends_nothing() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer_with(&invite, 180, "b", reliable(1)).await;
        let prack = phone.first(Method::Prack).await;
        phone.answer(&prack, 481, "b").await;
        phone.answer_with(&invite, 180, "b", reliable(2)).await;
        phone.nth(Method::Prack, 1).await;
        pass(35_000).await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_flood_of_reliable_answers_is_not_met_with_one_of_pracks() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let _call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        for rseq in 1..=20 {
            phone.answer_with(&invite, 180, "b", reliable(rseq)).await;
        }
        pass(100).await;
        let pracks = phone.all(Method::Prack);
        assert_eq!(pracks.len(), 8);
        for prack in pracks {
            phone.answer(&prack, 200, "b").await;
        }
        phone.answer_with(&invite, 180, "b", reliable(9)).await;
        let next = phone.nth(Method::Prack, 8).await;
        assert_eq!(rack(&next).rseq, 9);
        phone.answer(&next, 200, "b").await;
    });
}

#[test]
fn a_reliable_answer_to_a_re_invite_changes_the_session_at_once() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("video too"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone
            .answer_with(&reinvite, 183, "b", described(5, "audio only"))
            .await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteProgress(_))
        ));
        let prack = phone.first(Method::Prack).await;
        let cseq = number(&reinvite);
        assert_eq!((rack(&prack).cseq, number(&prack)), (cseq, cseq + 1));
        phone.answer(&prack, 200, "b").await;
        phone
            .answer_with(&reinvite, 200, "b", |builder| builder)
            .await;
        let ack = phone.nth(Method::Ack, 1).await;
        assert_eq!(number(&ack), cseq);
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn what_follows_an_offer_before_its_answer_is_acknowledged_after_it() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = without_offer(&alice).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "b", described(7, "early"))
            .await;
        assert!(matches!(call.next().await, Some(CallEvent::EarlyOffer(_))));
        // It "MUST NOT" be sent yet (RFC 3262 §3).
        phone.answer_with(&invite, 180, "b", reliable(8)).await;
        pass(100).await;
        assert_eq!(phone.count(Method::Prack), 0);
        call.acknowledge_progress("b", sdp("answer")).await.unwrap();
        let prack = phone.first(Method::Prack).await;
        assert_eq!(rack(&prack).rseq, 7);
        assert!(!prack.body().is_empty());
        phone.answer(&prack, 200, "b").await;
        phone.answer_with(&invite, 180, "b", reliable(8)).await;
        let prack = phone.nth(Method::Prack, 1).await;
        assert_eq!(rack(&prack).rseq, 8);
    });
}
