//! Offers of ours in answers to the peer's INVITEs, which hold nothing before they are answered (RFC 3261 §13.2.2.4, RFC 3262 §5).

use std::time::Duration;

use crate::exchange::{Exchange, Said, exchange_for, said};
use crate::phone::*;
use crate::updated::{peer, sdp};
use sipora_dialog_core as below;
use sipora_message::{HeaderName, Method, Request, Uri};
use sipora_session_core::{CallEvent, CallHandle, StatusCode};
use sipora_testkit::SimNetwork;

pub const HERS: &str = "v=0\r\no=- 5 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
/// What she offers later.
const OTHER: &str = "v=0\r\no=- 5 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4010 RTP/AVP 0\r\n";
pub const HIS: &str = "v=0\r\no=- 6 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n";

const TIMED: &[(HeaderName, &str)] = &[
    (HeaderName::Supported, "timer"),
    (HeaderName::SessionExpires, "90;refresher=uas"),
];
pub const RELIABLY: &[(HeaderName, &str)] = &[(HeaderName::Supported, "100rel")];

/// He calls her, with an offer, and takes every one of hers.
pub async fn is_called(network: &SimNetwork) -> (Phone, Exchange, CallHandle) {
    let script = |_: &Request, _| vec![said(200, "x").with_sdp(HIS)];
    let bob = exchange_for(&[Method::Invite], network, BOB, script).await;
    let mut alice = Phone::new(network, ALICE).await;
    let answering = async {
        let mut call = alice.is_called().await;
        call.accept(HERS).await.unwrap();
        is_acknowledged(&mut call).await;
        call
    };
    let ((), call) = tokio::join!(bob.calls(ALICE), answering);
    (alice, bob, call)
}

pub async fn is_acknowledged(call: &mut CallHandle) {
    let event = call.next().await;
    assert!(
        matches!(event, Some(CallEvent::Acknowledged(_))),
        "{event:?}"
    );
}

pub async fn is_asked(call: &mut CallHandle) {
    let event = call.next().await;
    assert!(
        matches!(event, Some(CallEvent::ChangeRequested(_))),
        "{event:?}"
    );
}

/// He asks her for an offer, and acknowledges it with this answer or none.
async fn asks(bob: &Exchange, call: &mut CallHandle, answer: Option<&str>) {
    let invite = (Method::Invite, 2);
    let invite = bob.says(ALICE, invite, TIMED, None).await;
    is_asked(call).await;
    call.accept(OTHER).await.unwrap();
    let accepted = bob.kept.answer_to(&invite).await;
    assert_eq!(accepted.body(), OTHER.as_bytes());
    bob.says(ALICE, (Method::Ack, 2), &[], answer).await;
}

/// Her next offer: its origin, and whether it is of the stream that she has offered later.
async fn offered(bob: &Exchange) -> (String, bool) {
    let invite = bob.kept.nth(Method::Invite, 0).await;
    let offer = String::from_utf8(invite.body().to_vec()).unwrap();
    let origin = offer.lines().nth(1).unwrap().to_owned();
    (origin, offer.contains("m=audio 4010"))
}

/// RFC 3264 §8: what was offered had version 2, though nothing came of it.
#[test]
fn a_call_is_held_as_it_was_before_an_offer_that_the_ack_does_not_answer() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        asks(&bob, &mut call, None).await;
        is_acknowledged(&mut call).await;
        call.hold().await.unwrap();
        let expected = "o=- 5 3 IN IP4 192.0.2.1".to_owned();
        assert_eq!(offered(&bob).await, (expected, false));
        let event = call.next().await;
        assert!(matches!(event, Some(CallEvent::Changed(_))), "{event:?}");
    });
}

/// Bob calls, and answers her first INVITE so, his later ones with a session description; gives what she holds the call by after
/// that, once these events have come.
async fn held_after(
    network: &SimNetwork,
    answers: impl Fn(&Request) -> Vec<Said> + Send + 'static,
    events: &[fn(&CallEvent) -> bool],
) -> String {
    let mut first = None;
    let script = move |request: &Request, _| {
        let cseq = request.headers().cseq().unwrap().number;
        match *request.method() == Method::Invite && *first.get_or_insert(cseq) != cseq {
            true => vec![said(200, "x").with_sdp(HIS)],
            false => answers(request),
        }
    };
    let bob = exchange_for(&[Method::Invite, Method::Prack], network, BOB, script).await;
    let mut alice = Phone::new(network, ALICE).await;
    let answering = async {
        let mut call = alice.is_called().await;
        call.accept(HERS).await.unwrap();
        is_acknowledged(&mut call).await;
        call
    };
    let ((), mut call) = tokio::join!(bob.calls(ALICE), answering);
    call.change(Some(OTHER)).await.unwrap();
    for is_it in events {
        let event = call.next().await.unwrap();
        assert!(is_it(&event), "{event:?}");
    }
    call.hold().await.unwrap();
    let offer = bob.kept.nth(Method::Invite, 1).await;
    String::from_utf8(offer.body().to_vec()).unwrap()
}

#[test]
fn an_offer_of_ours_that_the_2xx_does_not_answer_holds_nothing() {
    scene(|network| async move {
        let answers = |_: &Request| vec![said(200, "x")];
        let changed: fn(&CallEvent) -> bool = |event| matches!(event, CallEvent::Changed(_));
        let offer = held_after(&network, answers, &[changed]).await;
        assert!(offer.contains("m=audio 4000"), "{offer}");
        assert!(offer.contains("o=- 5 3 IN"), "{offer}");
    });
}

/// RFC 6141 §3.3: what was executed has changed the session.
#[test]
fn an_offer_of_ours_that_was_answered_early_holds_though_the_peer_refuses_then() {
    scene(|network| async move {
        let answers = |request: &Request| match request.method() {
            Method::Prack => vec![said(200, "x"), said(488, "x").of_invite()],
            _ => vec![
                said(183, "x")
                    .with(HeaderName::Require, "100rel")
                    .with(HeaderName::RSeq, "7")
                    .with_sdp(HIS),
            ],
        };
        let refused: fn(&CallEvent) -> bool = |event| matches!(event, CallEvent::ChangeRefused(_));
        let offer = held_after(&network, answers, &[refused]).await;
        assert!(offer.contains("m=audio 4010"), "{offer}");
        assert!(offer.contains("o=- 5 3 IN"), "{offer}");
    });
}

#[test]
fn a_session_is_refreshed_by_what_held_before_an_offer_that_the_ack_does_not_answer() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        asks(&bob, &mut call, None).await;
        is_acknowledged(&mut call).await;
        let minute = Duration::from_secs(60);
        let event = tokio::time::timeout(minute, call.next()).await;
        assert!(event.is_err(), "{event:?}");
        let refresh = bob.kept.all(Method::Invite).remove(0);
        assert_eq!(refresh.body(), HERS.as_bytes());
    });
}

#[test]
fn a_call_goes_on_elsewhere_without_an_offer_that_the_ack_did_not_answer() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        asks(&bob, &mut call, None).await;
        // Whether the event was read does not matter.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let state = call.export().await.unwrap();
        assert_eq!(state.local_sdp(), Some(HERS));
        is_acknowledged(&mut call).await;
        let state = call.detach().await.unwrap();
        assert_eq!(state.local_sdp(), Some(HERS));
    });
}

#[test]
fn a_call_is_held_by_an_offer_that_the_ack_has_answered_be_that_read_or_not() {
    for is_read in [true, false] {
        scene(|network| async move {
            let (_alice, bob, mut call) = is_called(&network).await;
            asks(&bob, &mut call, Some(HIS)).await;
            match is_read {
                true => is_acknowledged(&mut call).await,
                false => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            call.hold().await.unwrap();
            let expected = "o=- 5 3 IN IP4 192.0.2.1".to_owned();
            assert_eq!(offered(&bob).await, (expected, true));
        });
    }
}

/// Another INVITE may be answered before the ACK of the one before comes: that ACK owes no answer.
#[test]
fn the_ack_of_an_earlier_invite_leaves_an_offer_open() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let offer = HIS.replace(" 6 1 ", " 6 2 ");
        let first = (Method::Invite, 2);
        let first = bob.says(ALICE, first, &[], Some(&offer)).await;
        is_asked(&mut call).await;
        call.accept(HERS).await.unwrap();
        bob.kept.answer_to(&first).await;
        let second = bob.says(ALICE, (Method::Invite, 3), &[], None).await;
        is_asked(&mut call).await;
        call.accept(OTHER).await.unwrap();
        bob.kept.answer_to(&second).await;
        bob.says(ALICE, (Method::Ack, 2), &[], None).await;
        is_acknowledged(&mut call).await;
        bob.says(ALICE, (Method::Ack, 3), &[], Some(HIS)).await;
        is_acknowledged(&mut call).await;
        call.hold().await.unwrap();
        assert!(offered(&bob).await.1);
    });
}

/// RFC 3262 §5: "it MUST generate an answer in the PRACK".
#[test]
fn an_early_offer_that_the_prack_does_not_answer_holds_nothing() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let invite = (Method::Invite, 2);
        let invite = bob.says(ALICE, invite, RELIABLY, None).await;
        is_asked(&mut call).await;
        let progress = StatusCode::SESSION_PROGRESS;
        call.progress(progress, Some(OTHER)).await.unwrap();
        // It waits for the PRACK.
        call.accept(OTHER).await.unwrap();
        let early = bob.kept.progress_of(&invite, 183).await;
        let rseq = early.headers().rseq().unwrap().unwrap();
        let rack = format!("{rseq} 2 INVITE");
        let rack = [(HeaderName::RAck, rack.as_str())];
        bob.says(ALICE, (Method::Prack, 3), &rack, None).await;
        assert_eq!(bob.kept.answer_to(&invite).await.status().as_u16(), 400);
        let event = call.next().await;
        assert!(
            matches!(event, Some(CallEvent::ChangeWithdrawn)),
            "{event:?}"
        );
        call.hold().await.unwrap();
        let expected = "o=- 5 3 IN IP4 192.0.2.1".to_owned();
        assert_eq!(offered(&bob).await, (expected, false));
    });
}

#[test]
fn a_reinvite_whose_early_offer_is_never_acknowledged_is_withdrawn() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let invite = (Method::Invite, 2);
        let invite = bob.says(ALICE, invite, RELIABLY, None).await;
        is_asked(&mut call).await;
        let progress = StatusCode::SESSION_PROGRESS;
        call.progress(progress, Some(OTHER)).await.unwrap();
        assert_eq!(bob.kept.answer_to(&invite).await.status().as_u16(), 504);
        let event = call.next().await;
        assert!(
            matches!(event, Some(CallEvent::ChangeWithdrawn)),
            "{event:?}"
        );
        call.hold().await.unwrap();
        assert!(!offered(&bob).await.1);
    });
}

/// A call between a peer that does more than this crate asks for, who has called, and Bob.
async fn with_peer(network: &SimNetwork, scenario: impl AsyncFnOnce(below::Call, CallHandle)) {
    let mut bob = Phone::new(network, BOB).await;
    let (_endpoint, dialogs, _incoming) = peer(network).await;
    let parse = |text: String| Uri::parse(&text).unwrap();
    let from = parse("sip:carol@example.com".to_owned());
    let contact = parse(format!("sip:carol@{CAROL}"));
    let invite = below::Invite::new(parse(uri(BOB)), from, contact).body(sdp(HIS));
    let mut theirs = dialogs.invite(invite, None).await.unwrap();
    let mut call = bob.is_called().await;
    call.accept(HERS).await.unwrap();
    theirs.answered().await.unwrap();
    is_acknowledged(&mut call).await;
    scenario(theirs, call).await;
}

/// What the peer is offered when it is held.
async fn held(theirs: &mut below::Call, call: &CallHandle) -> String {
    call.hold().await.unwrap();
    match theirs.next().await.unwrap() {
        below::CallEvent::Reinvited(invite) => String::from_utf8(invite.body().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_early_offer_that_the_prack_answers_holds_whatever_is_said_at_the_end() {
    scene(|network| async move {
        with_peer(&network, async |mut theirs, mut call| {
            theirs.reinvite(None).await.unwrap();
            is_asked(&mut call).await;
            let progress = StatusCode::SESSION_PROGRESS;
            call.progress(progress, Some(OTHER)).await.unwrap();
            let event = theirs.next().await.unwrap();
            let below::CallEvent::EarlyOffer(early) = event else {
                panic!("{event:?}")
            };
            let tag = early.headers().to().unwrap().tag().unwrap().to_owned();
            theirs.acknowledge_progress(&tag, sdp(HIS)).await.unwrap();
            let event = call.next().await.unwrap();
            assert!(
                matches!(event, CallEvent::ProgressAcknowledged(_)),
                "{event:?}"
            );
            call.accept(HERS).await.unwrap();
            let event = theirs.next().await.unwrap();
            let below::CallEvent::ReinviteAccepted(accepted) = event else {
                panic!("{event:?}")
            };
            assert!(accepted.body().is_empty());
            is_acknowledged(&mut call).await;
            let offer = held(&mut theirs, &call).await;
            assert!(offer.contains("m=audio 4010"), "{offer}");
        })
        .await;
    });
}

/// The same with an answer: the peer takes the first that comes reliably (RFC 3261 §13.2.1).
#[test]
fn an_early_answer_in_the_call_holds_whatever_is_said_at_the_end() {
    scene(|network| async move {
        with_peer(&network, async |mut theirs, mut call| {
            theirs.reinvite(Some(sdp(CHANGED))).await.unwrap();
            is_asked(&mut call).await;
            let progress = StatusCode::SESSION_PROGRESS;
            call.progress(progress, Some(OTHER)).await.unwrap();
            call.accept(HERS).await.unwrap();
            for _ in 0..2 {
                theirs.next().await.unwrap();
            }
            let event = call.next().await.unwrap();
            assert!(
                matches!(event, CallEvent::ProgressAcknowledged(_)),
                "{event:?}"
            );
            is_acknowledged(&mut call).await;
            let offer = held(&mut theirs, &call).await;
            assert!(offer.contains("m=audio 4010"), "{offer}");
            assert!(offer.contains("o=- 5 3 IN"), "{offer}");
        })
        .await;
    });
}
