//! Calls that we make.

use std::sync::Arc;

use crate::support::*;
use sipora_auth::AuthError;
use sipora_dialog_core::{Authorizer, Body, CallEnd, CallError, CallEvent};
use sipora_message::{HeaderName, Method, Request, Response};
use sipora_transaction_core::Target;

#[test]
fn a_call_to_a_sips_uri_does_not_go_on_in_clear() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let ask = sipora_dialog_core::Invite::new(
            uri(&format!("sips:bob@{BOB}")),
            uri("sips:alice@example.com"),
            uri(&format!("sips:alice@{ALICE}")),
        );
        let ask = ask
            .body(sdp("offer"))
            .via(Target::udp(BOB.parse().unwrap()));
        let _call = alice.dialogs.invite(ask, None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        // With a Contact that is none.
        phone.answer(&invite, 200, "b").await;
        pass(1_000).await;
        assert!(phone.all(Method::Ack).is_empty(), "there is no TLS here");
    });
}

#[test]
fn an_accepted_call_is_acknowledged_and_every_copy_of_its_2xx_again() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        assert!(is_progress(&call.next().await));
        for _ in 0..3 {
            phone.answer(&invite, 200, "b").await;
            pass(500).await;
        }
        assert!(matches!(call.next().await, Some(CallEvent::Answered(_))));
        let acks = phone.all(Method::Ack);
        assert_eq!(acks.len(), 3);
        for ack in &acks {
            assert_eq!(ack.uri_text(), format!("sip:bob@{BOB}"));
            assert_eq!(number(ack), number(&invite));
            assert_ne!(branch(ack), branch(&invite));
            assert_eq!(to_tag(ack), "b");
            assert!(ack.body().is_empty());
        }
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(number(&bye), number(&invite) + 1);
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        // A copy that comes when the call is over is acknowledged too.
        phone.answer(&invite, 200, "b").await;
        pass(100).await;
        assert_eq!(phone.count(Method::Ack), 4);
        assert_eq!(phone.count(Method::Bye), 1);
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn every_fork_is_acknowledged_and_all_but_the_first_are_ended() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        for tag in ["b1", "b2", "b3"] {
            phone.answer(&invite, 180, tag).await;
            assert!(is_progress(&call.next().await));
        }
        for tag in ["b2", "b1", "b4"] {
            phone.answer(&invite, 200, tag).await;
        }
        call.answered().await.unwrap();
        pass(100).await;
        let tags =
            |method| -> Vec<String> { phone.all(method).iter().map(|r| to_tag(r)).collect() };
        assert_eq!(tags(Method::Ack), ["b2", "b1", "b4"]);
        assert_eq!(tags(Method::Bye), ["b1", "b4"]);
        for bye in phone.all(Method::Bye) {
            phone.answer(&bye, 200, "b").await;
        }
        assert_eq!(alice.dialogs.call_metrics().calls, 1);
        assert_eq!(alice.dialogs.call_metrics().forks_ended, 2);
        call.hang_up().await.unwrap();
        let bye = phone.nth(Method::Bye, 2).await;
        assert_eq!(to_tag(&bye), "b2");
        phone.answer(&bye, 200, "b2").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        // A fork that answers after the end.
        phone.answer(&invite, 200, "b5").await;
        let bye = phone.nth(Method::Bye, 3).await;
        assert_eq!(to_tag(&bye), "b5");
        phone.answer(&bye, 200, "b5").await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_call_that_is_given_up_is_cancelled_once_it_rings() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        // Before the 100 that the phone's transaction sends after 200 ms.
        let invite = phone.first(Method::Invite).await;
        call.hang_up().await.unwrap();
        pass(100).await;
        assert_eq!(phone.count(Method::Cancel), 0);
        phone.answer(&invite, 180, "b").await;
        phone.first(Method::Cancel).await;
        phone.answer(&invite, 487, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Cancelled));
        assert!(matches!(call.hang_up().await, Err(CallError::Gone)));
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
        alice.assert_idle();
    });
}

#[test]
fn a_dropped_call_is_cancelled() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        drop(call);
        phone.first(Method::Cancel).await;
        phone.answer(&invite, 487, "b").await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_2xx_that_crosses_the_cancel_is_acknowledged_and_ended() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        call.hang_up().await.unwrap();
        phone.answer(&invite, 200, "b").await;
        let ack = phone.first(Method::Ack).await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(number(&ack), number(&invite));
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Cancelled));
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 1);
        alice.assert_idle();
    });
}

#[test]
fn an_offer_in_the_2xx_is_answered_in_the_ack() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = alice.asks(BOB);
        let mut call = alice.dialogs.invite(invite, None).await.unwrap();
        assert!(matches!(
            call.acknowledge(sdp("early")).await,
            Err(CallError::NotNow(_))
        ));
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        phone.answer(&invite, 200, "b").await;
        assert_eq!(phone.count(Method::Ack), 0, "nothing to say yet");
        assert!(matches!(
            call.reinvite(Some(sdp("other"))).await,
            Err(CallError::NotNow(_))
        ));
        call.acknowledge(sdp("answer")).await.unwrap();
        phone.answer(&invite, 200, "b").await;
        pass(100).await;
        let acks = phone.all(Method::Ack);
        assert_eq!(acks.len(), 2);
        assert!(acks.iter().all(|ack| ack.body() == sdp("answer").bytes));
        assert!(matches!(
            call.acknowledge(sdp("again")).await,
            Err(CallError::Gone)
        ));
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        end(&mut call).await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn requests_follow_the_route_set_of_the_2xx_to_the_contact() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        for (at, first) in [";lr", ""].into_iter().enumerate() {
            let mut call = alice.calls(BOB).await;
            let invite = phone.nth(Method::Invite, at).await;
            // The route of the 180 is not that of the 2xx (RFC 3261 §13.2.2.4).
            phone
                .answer_with(&invite, 180, "b", |builder| {
                    builder.header(HeaderName::RecordRoute, "<sip:192.0.2.77;lr>")
                })
                .await;
            phone
                .answer_with(&invite, 200, "b", |builder| {
                    builder
                        .header(HeaderName::RecordRoute, "<sip:far.example.com;lr>")
                        .header(HeaderName::RecordRoute, format!("<sip:{BOB}{first}>"))
                        .body("application/sdp", "v=0\r\n")
                })
                .await;
            call.answered().await.unwrap();
            call.hang_up().await.unwrap();
            let ack = phone.nth(Method::Ack, at).await;
            let bye = phone.nth(Method::Bye, at).await;
            let contact = format!("sip:bob@{BOB}");
            for request in [&ack, &bye] {
                if first.is_empty() {
                    assert_eq!(request.uri_text(), format!("sip:{BOB}"));
                    let rest = ["sip:far.example.com;lr", &contact];
                    assert_eq!(routes(request), rest);
                } else {
                    assert_eq!(request.uri_text(), contact);
                    let all = [&format!("sip:{BOB};lr"), "sip:far.example.com;lr"];
                    assert_eq!(routes(request), all);
                }
            }
            phone.answer(&bye, 200, "b").await;
            end(&mut call).await;
        }
    });
}

/// Answers every challenge with one word.
struct Word;

impl Authorizer for Word {
    fn authorize(
        &self,
        _: &Request,
        _: &Response,
        _: &str,
    ) -> Result<Vec<(HeaderName, String)>, AuthError> {
        Ok(vec![(
            HeaderName::ProxyAuthorization,
            "Word open".to_owned(),
        )])
    }
}

#[test]
fn challenges_are_answered_and_the_ack_repeats_the_credentials() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = alice.asks(BOB).body(sdp("offer"));
        let mut call = alice
            .dialogs
            .invite(invite, Some(Arc::new(Word)))
            .await
            .unwrap();
        let first = phone.first(Method::Invite).await;
        phone.answer(&first, 407, "p").await;
        let second = phone.nth(Method::Invite, 1).await;
        assert_eq!(number(&second), number(&first) + 1);
        assert_eq!(to_tag(&second), "");
        assert_eq!(second.headers().call_id(), first.headers().call_id());
        phone.answer(&second, 200, "b").await;
        call.answered().await.unwrap();
        let is_ours = |ack: &Came| to_tag(ack) == "b";
        pass(10).await;
        let ack = phone.all(Method::Ack).into_iter().find(is_ours).unwrap();
        assert_eq!(number(&ack), number(&second));
        let credentials = ack.headers().text(&HeaderName::ProxyAuthorization).unwrap();
        assert_eq!(credentials, "Word open");
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 407, "b").await;
        let again = phone.nth(Method::Bye, 1).await;
        assert_eq!(number(&again), number(&bye) + 1);
        phone.answer(&again, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
    });
}

#[test]
fn a_refusal_ends_the_call_and_tells_why() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        phone.answer(&invite, 486, "b").await;
        let CallEnd::Refused(response) = end(&mut call).await else {
            panic!("it was refused");
        };
        assert_eq!(response.status().as_u16(), 486);
        assert!(call.next().await.is_none());
        pass(1).await;
        alice.assert_idle();
    });
}

#[test]
fn a_bye_in_the_last_early_dialog_gives_the_call_up() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        let bye = InDialog::of_invite(&invite, "b").build(Method::Bye, 7);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        phone.first(Method::Cancel).await;
        phone.answer(&invite, 487, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn one_early_dialog_can_be_ended_while_the_others_ring() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b1").await;
        phone.answer(&invite, 180, "b2").await;
        pass(10).await;
        call.end_early("b1").await.unwrap();
        assert!(matches!(call.end_early("b9").await, Err(CallError::Gone)));
        let bye = phone.first(Method::Bye).await;
        assert_eq!(to_tag(&bye), "b1");
        phone.answer(&bye, 200, "b1").await;
        assert_eq!(phone.count(Method::Cancel), 0);
        phone.answer(&invite, 200, "b2").await;
        call.answered().await.unwrap();
        call.hang_up().await.unwrap();
        let bye = phone.nth(Method::Bye, 1).await;
        phone.answer(&bye, 200, "b2").await;
        end(&mut call).await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_reinvite_moves_the_target_and_its_own_ack_follows() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let elsewhere = Phone::at(&network, "192.0.2.22:5060").await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        assert!(matches!(
            call.reinvite(Some(sdp("hold"))).await,
            Err(CallError::NotNow(_))
        ));
        let reinvite = phone.nth(Method::Invite, 1).await;
        assert_eq!(number(&reinvite), 2);
        assert_eq!(to_tag(&reinvite), "b");
        assert!(reinvite.headers().contact().unwrap().is_some());
        phone
            .answer_with(&reinvite, 200, "b", |builder| {
                builder.body("application/sdp", "v=0\r\n")
            })
            .await;
        pass(10).await;
        assert_eq!(number(&phone.nth(Method::Ack, 1).await.request), 2);
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
        // The next one moves the target.
        call.reinvite(Some(sdp("resume"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 2).await;
        let response = Response::for_request(&reinvite, sipora_message::StatusCode::OK)
            .contact("<sip:bob@192.0.2.22>")
            .body("application/sdp", "v=0\r\n");
        phone.answer_as_is(&reinvite, response).await;
        let ack = elsewhere.first(Method::Ack).await;
        assert_eq!(ack.uri_text(), "sip:bob@192.0.2.22");
        call.hang_up().await.unwrap();
        let bye = elsewhere.first(Method::Bye).await;
        elsewhere.answer(&bye, 200, "b").await;
        end(&mut call).await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_reinvite_that_finds_no_way_leaves_the_session_as_503_does() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        // It is started anew, and meanwhile nobody listens at its port.
        drop(phone);
        pass(100).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let Some(CallEvent::ReinviteRefused(response)) = call.next().await else {
            panic!("the call goes on");
        };
        assert_eq!(response.status().as_u16(), 503);
        // Nobody has sent it.
        assert!(response.headers().first(&HeaderName::Via).is_none());
        // It is there to be tried again.
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteRefused(_))
        ));
    });
}

#[test]
fn a_refused_reinvite_leaves_the_session_and_481_ends_it() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("video"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 488, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteRefused(_))
        ));
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 2).await;
        phone.answer(&reinvite, 481, "b").await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 481, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Lost));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn glare_waits_and_tries_again() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 491, "b").await;
        let before = tokio::time::Instant::now();
        let again = phone.nth(Method::Invite, 2).await;
        let waited = before.elapsed().as_millis();
        // The owner of the Call-ID (RFC 3261 §14.1).
        assert!((2_100..=4_100).contains(&waited), "{waited}");
        assert_eq!(again.body(), reinvite.body());
        assert_eq!(number(&again), number(&reinvite) + 1);
        phone.answer(&again, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
    });
}

/// RFC 3264 §8: what was agreed on while the re-INVITE waits may want another offer, and then another version.
#[test]
fn an_offer_that_waits_after_glare_can_be_replaced_and_no_other() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        let early = call.reoffer(sdp("other")).await;
        assert!(matches!(early, Err(CallError::Gone)), "{early:?}");
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        let open = call.reoffer(sdp("other")).await;
        assert!(matches!(open, Err(CallError::Gone)), "{open:?}");
        phone.answer(&reinvite, 491, "b").await;
        pass(100).await;
        let nothing = call.reoffer(Body::new("text/plain", "x")).await;
        assert!(
            matches!(nothing, Err(CallError::BodyNeeded(_))),
            "{nothing:?}"
        );
        call.reoffer(sdp("other")).await.unwrap();
        let again = phone.nth(Method::Invite, 2).await;
        assert_eq!(again.body(), sdp("other").bytes);
        phone.answer(&again, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
    });
}

#[test]
fn a_call_that_nobody_answers_fails() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        network.set_conditions(sipora_testkit::Conditions {
            reports_unreachable: false,
            ..sipora_testkit::Conditions::perfect()
        });
        let mut call = alice.calls(BOB).await;
        assert!(matches!(end(&mut call).await, CallEnd::Failed(_)));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_call_whose_future_is_dropped_is_given_up() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let calling = alice
            .dialogs
            .invite(alice.asks(BOB).body(sdp("offer")), None);
        let mut calling = Box::pin(calling);
        // Its command is on its way, and its answer is not waited for.
        assert!(futures_poll(calling.as_mut()).is_pending());
        pass(10).await;
        drop(calling);
        pass(10).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        phone.first(Method::Cancel).await;
        phone.answer(&invite, 487, "b").await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn the_call_id_that_the_application_gives_is_kept_throughout_the_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = alice.asks(BOB).call_id("redirected@h").body(sdp("offer"));
        let mut call = alice.dialogs.invite(invite, None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        assert_eq!(invite.headers().call_id(), Ok("redirected@h"));
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(bye.headers().call_id(), Ok("redirected@h"));
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));

        // A line end would make two header fields of it.
        let invite = alice.asks(BOB).call_id("a\r\nSubject: b");
        let refused = alice.dialogs.invite(invite, None).await.unwrap_err();
        assert!(matches!(refused, CallError::Invalid(_)), "{refused:?}");
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_description_that_says_nothing_is_refused_before_it_is_sent() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let empty = || sipora_dialog_core::Body::new("application/sdp", "");
        let invite = alice.asks(BOB).body(empty());
        let called = alice.dialogs.invite(invite, None).await;
        assert!(matches!(called, Err(CallError::BodyNeeded(_))));
        let (call, _) = established(&alice, &phone).await;
        for asked in [
            call.reinvite(Some(empty())).await,
            call.update(Some(empty())).await,
        ] {
            assert!(matches!(asked, Err(CallError::BodyNeeded(_))), "{asked:?}");
        }
        assert_eq!(phone.count(Method::Invite), 1);
    });
}
