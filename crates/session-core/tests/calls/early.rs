//! What happens before a call is answered: early media, forks (RFC 3261 §13.2.2.4), and CANCEL that crosses the answer (§9.1).

use crate::exchange::{Said, exchange, exchange_for, said};
use crate::phone::*;
use sipora_message::{HeaderName, Method, Request};
use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, Error, MediaDirection, SipClient, StatusCode,
};
use sipora_testkit::SimNetwork;
use std::time::Duration;

const ONE: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.11\r\ns=one\r\n";
const TWO: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.12\r\ns=two\r\n";

/// Status, who says it, and the description.
async fn heard(call: &mut CallHandle) -> (u16, String, Option<String>) {
    let event = call.next().await.unwrap();
    let (CallEvent::Progress(answer) | CallEvent::Answered(answer)) = &event else {
        panic!("{event:?}");
    };
    let tag = answer.to_tag().unwrap().to_owned();
    let sdp = event.sdp().map(str::to_owned);
    (answer.status().as_u16(), tag, sdp)
}

#[test]
fn early_media_of_several_are_told_apart_and_who_accepts_is_named() {
    scene(|network| async move {
        let script = |_: &Request, _| {
            vec![
                said(180, "three"),
                said(183, "one").with_sdp(ONE),
                said(183, "two").with_sdp(TWO),
                said(180, "one"),
                said(200, "two").with_sdp(TWO),
            ]
        };
        let (_peer, kept) = exchange(&network, BOB, script).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = alice.calls(BOB).await;
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            (180, "three", None),
            (183, "one", text(ONE)),
            (183, "two", text(TWO)),
            (180, "one", None),
            (200, "two", text(TWO)),
        ];
        for (status, tag, sdp) in expected {
            assert_eq!(heard(&mut call).await, (status, tag.to_owned(), sdp));
        }
        call.hang_up().await.unwrap();
        assert!(matches!(call.ended().await, CallEnd::HungUp));
        let bye = kept.nth(Method::Bye, 0).await;
        assert_eq!(bye.headers().to().unwrap().tag(), Some("two"));
        assert_eq!(kept.all(Method::Bye).len(), 1, "nobody else has accepted");
        settle().await;
        alice.assert_idle();
    });
}

/// RFC 3262 §4: each of them gets its PRACK, in its own dialog.
#[test]
fn early_media_that_come_reliably_are_acknowledged_to_each() {
    scene(|network| async move {
        let script = |request: &Request, _| match request.method() {
            Method::Prack => {
                let tag = request.headers().to().unwrap();
                vec![said(
                    200,
                    if tag.tag() == Some("one") {
                        "one"
                    } else {
                        "two"
                    },
                )]
            }
            _ => {
                let reliable = |said: Said| {
                    said.with(HeaderName::Require, "100rel")
                        .with(HeaderName::RSeq, "7")
                };
                vec![
                    reliable(said(183, "one").with_sdp(ONE)),
                    reliable(said(183, "two").with_sdp(TWO)),
                ]
            }
        };
        let methods = &[Method::Invite, Method::Prack];
        let peer = exchange_for(methods, &network, BOB, script).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = alice.calls(BOB).await;
        assert_eq!(heard(&mut call).await.1, "one");
        assert_eq!(heard(&mut call).await.1, "two");
        peer.kept.nth(Method::Prack, 1).await;
        let mut tags: Vec<_> = peer
            .kept
            .all(Method::Prack)
            .iter()
            .map(|prack| prack.headers().to().unwrap().tag().unwrap().to_owned())
            .collect();
        tags.sort_unstable();
        assert_eq!(tags, ["one", "two"]);
        call.hang_up().await.unwrap();
        assert!(matches!(call.ended().await, CallEnd::Cancelled));
        settle().await;
        alice.assert_idle();
    });
}

/// The caller takes the first description as the answer (§13.2.1), and so do we: what holds the call changes that one.
#[test]
fn early_media_are_the_answer_whatever_is_said_at_the_end() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let early = "v=0\r\no=- 8 4 IN IP4 192.0.2.2\r\ns=early\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n";
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        let progress = StatusCode::SESSION_PROGRESS;
        his.progress(progress, Some(early)).await.unwrap();
        let event = hers.next().await.unwrap();
        assert_eq!(event.sdp(), Some(early));
        let event = his.next().await.unwrap();
        assert!(
            matches!(event, CallEvent::ProgressAcknowledged(_)),
            "{event:?}"
        );
        assert_eq!(event.sdp(), None);
        his.accept(ANSWER).await.unwrap();
        hers.answered().await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
        his.hold().await.unwrap();
        let event = hers.next().await.unwrap();
        let offer = event.sdp().unwrap();
        assert!(
            offer.contains("s=early") && offer.contains("o=- 8 5 IN"),
            "{offer}"
        );
        assert_eq!(MediaDirection::of(offer), MediaDirection::SendOnly);
    });
}

#[test]
fn who_calls_without_an_offer_answers_the_early_one() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.client.call(&uri(BOB), None).await.unwrap();
        let mut his = bob.is_called().await;
        let progress = StatusCode::SESSION_PROGRESS;
        his.progress(progress, Some(OFFER)).await.unwrap();
        let event = hers.next().await.unwrap();
        assert!(matches!(event, CallEvent::EarlyOffer(_)), "{event:?}");
        hers.acknowledge(ANSWER).await.unwrap();
        let event = his.next().await.unwrap();
        assert!(
            matches!(event, CallEvent::ProgressAcknowledged(_)),
            "{event:?}"
        );
        assert_eq!(event.sdp(), Some(ANSWER));
        his.accept(OFFER).await.unwrap();
        hers.answered().await.unwrap();
        hers.hang_up().await.unwrap();
        assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
    });
}

/// The start lines that went over the network from one host, those of one method or status.
fn sent(network: &SimNetwork, from: &str, what: &str) -> usize {
    let packets = network.packets();
    let lines = packets.iter().map(ToString::to_string);
    lines
        .filter(|line| line.contains(&format!("UDP {from}:5060 >")) && line.contains(what))
        .count()
}

/// §9.1: the 200 that crosses the CANCEL makes a dialog, which is acknowledged and ended at once (§15).
#[test]
fn a_call_that_is_accepted_as_it_is_cancelled_is_acknowledged_and_hung_up() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.ring().await.unwrap();
        assert!(matches!(hers.next().await, Some(CallEvent::Progress(_))));
        // Neither has heard of the other's.
        let (cancelled, accepted) = tokio::join!(hers.hang_up(), his.accept(ANSWER));
        assert!(cancelled.is_ok() && accepted.is_ok());
        let (ours, theirs) = tokio::join!(hers.ended(), his.ended());
        assert!(matches!(ours, CallEnd::Cancelled), "{ours:?}");
        assert!(matches!(theirs, CallEnd::PeerHungUp(_)), "{theirs:?}");
        for line in [" CANCEL sip:", " ACK sip:", " BYE sip:"] {
            assert_eq!(sent(&network, ALICE, line), 1, "{line}");
        }
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

/// As above, but the answer has been read before: then it is a call like others, and BYE ends it.
#[test]
fn a_call_that_is_hung_up_once_it_is_answered_gets_no_cancel() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.ring().await.unwrap();
        his.accept(ANSWER).await.unwrap();
        // It is here, and the application has not looked.
        tokio::time::sleep(Duration::from_millis(100)).await;
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
        assert_eq!(sent(&network, ALICE, " CANCEL sip:"), 0);
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

/// RFC 3262 §5, without an offer of ours: each fork makes its own, and each is answered, in the order that they were told in.
#[test]
fn offers_of_several_before_one_accepts_are_answered_one_after_the_other() {
    scene(|network| async move {
        let script = |_: &Request, _| {
            let offers = |tag, sdp| {
                let reliably = said(183, tag).with(HeaderName::Require, "100rel");
                reliably.with(HeaderName::RSeq, "1").with_sdp(sdp)
            };
            vec![offers("one", ONE), offers("two", TWO)]
        };
        let (_peer, kept) = exchange(&network, BOB, script).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = alice.client.call(&uri(BOB), None).await.unwrap();
        for offer in [ONE, TWO] {
            let event = call.next().await.unwrap();
            assert!(matches!(event, CallEvent::EarlyOffer(_)), "{event:?}");
            assert_eq!(event.sdp(), Some(offer));
        }
        let nothing = call.acknowledge("").await;
        assert!(
            matches!(nothing, Err(Error::InvalidRequest { .. })),
            "{nothing:?}"
        );
        call.acknowledge(ANSWER).await.unwrap();
        call.acknowledge(OFFER).await.unwrap();
        kept.nth(Method::Prack, 1).await;
        let pracks = kept.all(Method::Prack);
        let told = pracks.iter().map(|prack| {
            let to = prack.headers().to().unwrap();
            (to.tag().unwrap().to_owned(), prack.body().to_vec())
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("one".to_owned(), ANSWER.as_bytes().to_vec()),
                ("two".to_owned(), OFFER.as_bytes().to_vec()),
            ]
        );
    });
}

/// §9.1: "If no provisional response has been received, the CANCEL request MUST NOT be sent".
#[test]
fn a_call_that_nobody_has_heard_of_yet_is_cancelled_when_somebody_has() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        network.part([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut hers = alice.calls(BOB).await;
        hers.hang_up().await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(sent(&network, ALICE, " CANCEL sip:"), 0);
        network.join([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut his = bob.is_called().await;
        // 100 comes by itself.
        let (ours, theirs) = tokio::join!(hers.ended(), his.ended());
        assert!(matches!(ours, CallEnd::Cancelled), "{ours:?}");
        assert!(matches!(theirs, CallEnd::PeerCancelled(_)), "{theirs:?}");
        assert!(matches!(his.accept(ANSWER).await, Err(Error::TooLate)));
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}
