//! Calls that are sent elsewhere (RFC 3261 §8.1.3.4, §13.3.1.2).

use crate::exchange::{exchange, said};
use crate::phone::*;
use sipora_message::{HeaderName, Method};
use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, CallOptions, Error, SipClient, StatusCode,
};

const PLACES: [&str; 3] = [
    "<sip:last@192.0.2.4>;q=0.1, <sip:first@192.0.2.2>;q=0.9",
    "<tel:+15551234>, <mailto:carol@example.com>, <sip:x@192.0.2.9?Subject=no>",
    "<sip:somebody@192.0.2.3>, <sip:then@192.0.2.2>;q=0.5",
];

async fn follows(alice: &Phone, to: &str, places: usize) -> CallHandle {
    let options = CallOptions::new().with_sdp(OFFER).follow_redirects(places);
    alice.client.call_with(&uri(to), options).await.unwrap()
}

/// Reads until the end: the places that it went to, and the end.
async fn places(call: &mut CallHandle) -> (Vec<String>, CallEnd) {
    let mut places = Vec::new();
    loop {
        match call.next().await.unwrap() {
            CallEvent::Redirected(place) => places.push(place.as_str().to_owned()),
            CallEvent::Ended(end) => return (places, end),
            _ => {}
        }
    }
}

#[test]
fn a_redirection_that_is_not_followed_ends_the_call_and_says_where_to() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.redirect(&["sip:carol@192.0.2.3", "tel:+15551234"])
            .await
            .unwrap();
        assert!(matches!(his.ended().await, CallEnd::Rejected));
        match hers.answered().await {
            Err(Error::Rejected(answer)) => {
                assert_eq!(answer.status().as_u16(), 302);
                let places: Vec<_> = answer.headers_named("Contact").collect();
                assert_eq!(
                    places.join(", "),
                    "<sip:carol@192.0.2.3>;q=1, <tel:+15551234>;q=0.5"
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_redirection_is_followed_with_the_same_to_and_offer() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut carol = Phone::new(&network, CAROL).await;
        let mut hers = follows(&alice, BOB, 1).await;
        let his = bob.is_called().await;
        his.redirect(&["sip:carol@192.0.2.3:5060;transport=tcp"])
            .await
            .unwrap();
        let taking = async {
            let call = carol.is_called().await;
            call.ring().await.unwrap();
            call.accept(ANSWER).await.unwrap();
            call
        };
        let (event, mut theirs) = tokio::join!(hers.next(), taking);
        let place = "sip:carol@192.0.2.3:5060;transport=tcp";
        assert!(matches!(event, Some(CallEvent::Redirected(to)) if to.as_str() == place));
        assert!(hers.answered().await.is_ok());
        let invite = theirs.take_invite().unwrap();
        assert_eq!(invite.headers().to().unwrap().uri().as_str(), uri(BOB));
        assert_eq!(invite.body(), OFFER.as_bytes());
        // The contact leads back by the transport that leads there.
        let contact = invite.headers().contact().unwrap().unwrap();
        assert_eq!(contact.uri().transport(), Some("tcp"));
        hers.hang_up().await.unwrap();
        assert!(matches!(theirs.ended().await, CallEnd::PeerHungUp(_)));
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        settle().await;
        for phone in [&alice, &bob, &carol] {
            phone.assert_idle();
        }
    });
}

#[test]
fn an_early_offer_of_who_redirects_wants_no_answer_at_the_next_place() {
    scene(|network| async move {
        let script = |_: &sipora_message::Request, _| {
            let offer = said(183, "c").with(HeaderName::Require, "100rel");
            let offer = offer.with(HeaderName::RSeq, "1").with_sdp(OFFER);
            let elsewhere = said(302, "c").with(HeaderName::Contact, format!("<{}>", uri(BOB)));
            vec![offer, elsewhere]
        };
        let (_carol, _) = exchange(&network, CAROL, script).await;
        let mut bob = Phone::new(&network, BOB).await;
        let alice = Phone::new(&network, ALICE).await;
        let options = CallOptions::new().follow_redirects(1);
        let mut hers = alice.client.call_with(&uri(CAROL), options).await.unwrap();
        assert!(matches!(hers.next().await, Some(CallEvent::EarlyOffer(_))));
        let taking = async {
            let mut call = bob.is_called().await;
            let progress = StatusCode::SESSION_PROGRESS;
            call.progress(progress, Some(OFFER)).await.unwrap();
            call.next().await
        };
        let answering = async {
            assert!(matches!(hers.next().await, Some(CallEvent::Redirected(_))));
            assert!(matches!(hers.next().await, Some(CallEvent::EarlyOffer(_))));
            hers.acknowledge(ANSWER).await.unwrap();
        };
        let (event, ()) = tokio::join!(taking, answering);
        let event = event.unwrap();
        assert!(
            matches!(event, CallEvent::ProgressAcknowledged(_)),
            "{event:?}"
        );
        assert_eq!(event.sdp(), Some(ANSWER));
    });
}

#[test]
fn places_are_called_best_first_none_twice_and_no_further_than_allowed() {
    for (allowed, expected) in [(10, 3), (2, 2), (0, 0)] {
        scene(|network| async move {
            // Carol redirects, and what she names redirects again, in a circle.
            let redirects = |_: &sipora_message::Request, _| {
                let mut redirection = said(302, "r");
                for places in PLACES {
                    redirection = redirection.with(HeaderName::Contact, places);
                }
                vec![redirection]
            };
            let (_carol, _) = exchange(&network, CAROL, redirects).await;
            let (_bob, bobs) = exchange(&network, BOB, redirects).await;
            let (_last, lasts) = exchange(&network, "192.0.2.4", |_, _| vec![said(404, "n")]).await;
            let alice = Phone::new(&network, ALICE).await;
            let mut call = follows(&alice, CAROL, allowed).await;
            let (went, end) = places(&mut call).await;
            let all = [
                "sip:first@192.0.2.2",
                "sip:then@192.0.2.2",
                "sip:last@192.0.2.4",
            ];
            assert_eq!(went, all[..expected], "{allowed}");
            let status = match end {
                CallEnd::Failed(Error::Rejected(answer)) => answer.status().as_u16(),
                other => panic!("{other:?}"),
            };
            assert_eq!(status, if allowed == 10 { 404 } else { 302 });
            let count = bobs.all(Method::Invite).len() + lasts.all(Method::Invite).len();
            assert_eq!(count, expected);
            settle().await;
            alice.assert_idle();
        });
    }
}

/// RFC 3261 §19.1.5.
#[test]
fn a_place_that_asks_for_something_else_than_a_call_is_not_called() {
    scene(|network| async move {
        let redirects = |_: &sipora_message::Request, _| {
            let places = [
                "<sip:bye@192.0.2.2;method=BYE>",
                "<sip:headers@192.0.2.2?Subject=x>",
                "<sip:bob@192.0.2.2;method=INVITE>",
                "<sip:bob@192.0.2.2>",
            ];
            let redirection = said(302, "r").with(HeaderName::Contact, places.join(", "));
            vec![redirection]
        };
        let (_carol, _) = exchange(&network, CAROL, redirects).await;
        let (_bob, bobs) = exchange(&network, BOB, |_, _| vec![said(404, "n")]).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = follows(&alice, CAROL, 10).await;
        let (went, _) = places(&mut call).await;
        assert_eq!(went, ["sip:bob@192.0.2.2"]);
        let invites = bobs.all(Method::Invite);
        let called: Vec<_> = invites.iter().map(|invite| invite.uri_text()).collect();
        assert_eq!(called, ["sip:bob@192.0.2.2"]);
    });
}

#[test]
fn who_refuses_for_everybody_ends_the_search() {
    scene(|network| async move {
        let redirects = |_: &sipora_message::Request, _| {
            let places = "<sip:a@192.0.2.2>, <sip:b@192.0.2.2>";
            vec![said(300, "r").with(HeaderName::Contact, places)]
        };
        let (_carol, _) = exchange(&network, CAROL, redirects).await;
        let (_bob, kept) = exchange(&network, BOB, |_, _| vec![said(603, "d")]).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = follows(&alice, CAROL, 5).await;
        match places(&mut call).await {
            (went, CallEnd::Failed(Error::Rejected(answer))) => {
                assert_eq!((went.len(), answer.status().as_u16()), (1, 603));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(kept.all(Method::Invite).len(), 1);
    });
}

#[test]
fn a_proxy_that_has_to_be_used_and_another_service_are_no_places_to_call() {
    for status in [305, 380] {
        scene(|network| async move {
            let redirects = move |_: &sipora_message::Request, _| {
                vec![said(status, "r").with(HeaderName::Contact, "<sip:a@192.0.2.2>")]
            };
            let (_carol, _) = exchange(&network, CAROL, redirects).await;
            let alice = Phone::new(&network, ALICE).await;
            let mut call = follows(&alice, CAROL, 5).await;
            let (went, end) = places(&mut call).await;
            assert!(
                went.is_empty() && matches!(end, CallEnd::Failed(_)),
                "{end:?}"
            );
        });
    }
}

#[test]
fn who_hangs_up_is_not_sent_elsewhere() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let carol = Phone::new(&network, CAROL).await;
        let mut hers = follows(&alice, BOB, 5).await;
        bob.is_called()
            .await
            .redirect(&["sip:carol@192.0.2.3"])
            .await
            .unwrap();
        // The answer has come, and nobody has read it.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::Cancelled));
        assert_eq!(carol.client.call_metrics().begun, 0);
        assert!(matches!(hers.hang_up().await, Err(Error::TooLate)));
        settle().await;
        alice.assert_idle();
    });
}

#[test]
fn a_place_that_cannot_be_reached_is_passed_over() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut carol = Phone::new(&network, CAROL).await;
        let mut hers = follows(&alice, BOB, 5).await;
        let places = ["sip:x@192.0.2.3;transport=tls", "sip:carol@192.0.2.3"];
        bob.is_called().await.redirect(&places).await.unwrap();
        let taking = async {
            let call = carol.is_called().await;
            call.accept(ANSWER).await.unwrap();
            call
        };
        let (answered, _call) = tokio::join!(hers.answered(), taking);
        assert!(answered.is_ok(), "{answered:?}");
    });
}
