//! Calls that others make.

use crate::phone::*;
use crate::support::{pass, seconds};
use sipora_message::HeaderName;
use sipora_session_core::{Answer, CallEnd, CallEvent, Error, SipClient, StatusCode};

fn status(refused: Result<sipora_session_core::SipResponse, Error>) -> u16 {
    match refused {
        Err(Error::Rejected(answer)) => answer.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_was_built_without_calls_refuses_them_with_405() {
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let _bob = builder(&network, BOB).build().await.unwrap();
        assert_eq!(status(alice.calls(BOB).await.answered().await), 405);
    });
}

#[test]
fn calls_that_nobody_will_take_get_480() {
    scene(|network| async move {
        let (alice, bob) = two(&network).await;
        let mut waits = alice.calls(BOB).await;
        pass(seconds(1)).await;
        let Phone { client, calls, .. } = bob;
        drop(calls);
        assert_eq!(status(waits.answered().await), 480);
        assert_eq!(status(alice.calls(BOB).await.answered().await), 480);
        client.shutdown().await;
    });
}

#[test]
fn calls_that_wait_to_be_taken_are_bounded() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut calls = Vec::new();
        for _ in 0..257 {
            calls.push(alice.calls(BOB).await);
        }
        let mut last = calls.pop().unwrap();
        assert_eq!(status(last.answered().await), 503);
        // There is room again.
        let his = bob.is_called().await;
        his.accept(ANSWER).await.unwrap();
        assert!(calls[0].answered().await.is_ok());
        let mut again = alice.calls(BOB).await;
        assert!(
            tokio::time::timeout(seconds(5), again.answered())
                .await
                .is_err()
        );
    });
}

#[test]
fn options_say_that_calls_are_taken() {
    scene(|network| async move {
        let (alice, _bob) = two(&network).await;
        let answer = alice.client.send_options(&uri(BOB)).await.unwrap();
        let allow = answer.header("Allow").unwrap();
        for method in ["INVITE", "ACK", "CANCEL", "BYE", "INFO", "PRACK", "UPDATE"] {
            assert!(allow.split(", ").any(|one| one == method), "{allow}");
        }
        // "The response to the OPTIONS is constructed using the same rules as ... for an INVITE" (RFC 3261 §11.2).
        let supported = answer.header("Supported").unwrap();
        assert_eq!(supported, "100rel, timer, tdialog");
        assert!(!allow.contains("REFER"), "{allow}");
        let transfers = Phone::with(&network, CAROL, |builder| builder.with_transfers()).await;
        let answer = alice.client.send_options(&uri(transfers.address)).await;
        let answer = answer.unwrap();
        assert!(answer.header("Allow").unwrap().contains("REFER"));
        assert!(answer.header("Supported").unwrap().contains("replaces"));
    });
}

#[test]
fn an_invite_can_be_read_and_let_go() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let _hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        let invite = his.take_invite().unwrap();
        assert!(invite.headers().first(&HeaderName::Allow).is_some());
        assert!(his.invite().is_none() && his.sdp().is_none());
        assert_eq!(his.remote_uri(), "sip:user-1@example.com");
        his.accept(ANSWER).await.unwrap();
    });
}

#[test]
fn a_refusal_says_why() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        // What cannot be sent refuses nothing.
        let broken = Answer::new(StatusCode::BUSY_HERE).with_reason("At\r\nlunch");
        let invalid = his.reject_with(broken).await;
        assert!(
            matches!(invalid, Err(Error::InvalidRequest { .. })),
            "{invalid:?}"
        );
        his.ring().await.unwrap();
        let at_lunch = Answer::new(StatusCode::BUSY_HERE)
            .with_reason("At lunch")
            .with_header("Retry-After", "1800")
            .with_header("Reason", "Q.850;cause=17")
            .with_body("text/plain", "Soup");
        his.reject_with(at_lunch).await.unwrap();
        match hers.answered().await {
            Err(Error::Rejected(answer)) => {
                assert_eq!(answer.status(), StatusCode::BUSY_HERE);
                assert_eq!(answer.reason(), "At lunch");
                assert_eq!(answer.header("Retry-After").as_deref(), Some("1800"));
                assert_eq!(answer.header("Reason").as_deref(), Some("Q.850;cause=17"));
                assert_eq!(answer.body(), b"Soup");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(his.ended().await, CallEnd::Rejected));

        // A wish to change the session, too.
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        hers.change(Some(CHANGED)).await.unwrap();
        let wish = his.next().await;
        assert!(matches!(wish, Some(CallEvent::ChangeRequested(_))));
        let no_video = Answer::new(StatusCode::NOT_ACCEPTABLE_HERE)
            .with_header("Warning", "304 192.0.2.2 \"No video\"");
        his.reject_with(no_video).await.unwrap();
        match hers.next().await.unwrap() {
            CallEvent::ChangeRefused(answer) => {
                assert!(answer.header("Warning").unwrap().contains("No video"));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn what_makes_no_sense_for_a_call_is_refused() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let his = bob.is_called().await;
        let invalid = |result: Result<(), Error>| {
            assert!(
                matches!(result, Err(Error::InvalidRequest { .. })),
                "{result:?}"
            );
        };
        invalid(his.progress(StatusCode::OK, None).await);
        invalid(his.reject(StatusCode::RINGING).await);
        let places = his.redirect(&["nowhere"]).await;
        assert!(
            matches!(places, Err(Error::InvalidUri { .. })),
            "{places:?}"
        );
        // The caller can neither answer itself nor change what is not there.
        let unasked = [hers.accept(ANSWER).await, hers.ring().await];
        assert!(
            unasked
                .iter()
                .all(|it| matches!(it, Err(Error::NotNow { .. }))),
            "{unasked:?}"
        );
        assert!(matches!(
            hers.change(Some(OFFER)).await,
            Err(Error::NotNow { .. })
        ));
        his.accept(ANSWER).await.unwrap();
        assert!(hers.answered().await.is_ok());
        assert!(matches!(
            hers.acknowledge(ANSWER).await,
            Err(Error::TooLate)
        ));
    });
}

#[test]
fn a_call_that_nobody_answers_is_refused_after_a_quarter_of_an_hour() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.ring().await.unwrap();
        assert!(matches!(his.ended().await, CallEnd::NotAnswered));
        assert_eq!(status(hers.answered().await), 480);
    });
}

#[test]
fn a_shutdown_refuses_what_rings_and_hangs_up_what_is_up() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let mut rings = alice.calls(BOB).await;
        let mut rung = bob.is_called().await;
        bob.client.shutdown().await;
        assert_eq!(status(rings.answered().await), 480);
        let end = rung.ended().await;
        assert!(matches!(end, CallEnd::Rejected), "{end:?}");
        let end = his.ended().await;
        assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        assert!(matches!(hers.ended().await, CallEnd::PeerHungUp(_)));
        assert!(bob.calls.next().await.is_none());
        assert!(matches!(his.hang_up().await, Err(Error::Closed)));
        let refused = bob.client.call(&uri(ALICE), Some(OFFER)).await;
        assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
        settle().await;
        alice.assert_idle();
    });
}
