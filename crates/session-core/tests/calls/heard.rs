//! What the peer says of the session is at hand, whichever message said it (RFC 3261 §13.2.1, RFC 3262 §5).

use crate::exchange::{Exchange, Said, exchange, exchange_for, said};
use crate::phone::*;
use sipora_message::{HeaderName, Method, Request};
use sipora_session_core::{CallEvent, CallHandle, SipClient, StatusCode};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

const HELD: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=held\r\n";

async fn is_reinvited(call: &mut CallHandle) {
    let event = call.next().await;
    assert!(
        matches!(event, Some(CallEvent::ChangeRequested(_))),
        "{event:?}"
    );
}

#[test]
fn the_answer_that_came_with_a_reliable_183_is_at_hand_when_the_call_is_up() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        network.set_conditions(Conditions::rough());
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        assert_eq!(his.remote_sdp().as_deref(), Some(OFFER));
        assert_eq!(hers.remote_sdp(), None);
        his.progress(StatusCode::SESSION_PROGRESS, Some(ANSWER))
            .await
            .unwrap();
        his.accept(ANSWER).await.unwrap();
        let answer = hers.answered().await.unwrap();
        assert!(answer.body().is_empty(), "it is not repeated");
        assert_eq!(hers.remote_sdp().as_deref(), Some(ANSWER));
        while !matches!(his.next().await, Some(CallEvent::Acknowledged(_))) {}
        assert_eq!(his.remote_sdp().as_deref(), Some(OFFER));
    });
}

#[test]
fn an_answer_in_the_ack_is_at_hand() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.client.call(&uri(BOB), None).await.unwrap();
        let mut his = bob.is_called().await;
        assert_eq!(his.remote_sdp(), None);
        his.accept(OFFER).await.unwrap();
        hers.answered().await.unwrap();
        assert_eq!(hers.remote_sdp().as_deref(), Some(OFFER));
        hers.acknowledge(ANSWER).await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
        assert_eq!(his.remote_sdp().as_deref(), Some(ANSWER));
    });
}

#[test]
fn an_offer_in_the_call_counts_once_it_is_accepted() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        assert_eq!(hers.remote_sdp().as_deref(), Some(ANSWER));

        hers.change(Some(HELD)).await.unwrap();
        is_reinvited(&mut his).await;
        assert_eq!(his.remote_sdp().as_deref(), Some(OFFER));
        his.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        assert!(matches!(
            hers.next().await,
            Some(CallEvent::ChangeRefused(_))
        ));
        assert_eq!(his.remote_sdp().as_deref(), Some(OFFER));

        hers.change(Some(HELD)).await.unwrap();
        is_reinvited(&mut his).await;
        his.accept(ANSWER).await.unwrap();
        assert!(matches!(hers.next().await, Some(CallEvent::Changed(_))));
        // Said again, it has the next version.
        let held = HELD.replace("o=- 1 2", "o=- 1 3");
        assert_eq!(his.remote_sdp().as_deref(), Some(&*held));
        assert_eq!(hers.remote_sdp().as_deref(), Some(ANSWER));
    });
}

/// A description in an unreliable provisional answer is "a "preview" of the answer" (RFC 6337 §3.1.1).
#[test]
fn what_was_a_preview_gives_way_to_the_answer_of_who_accepts() {
    const PREVIEW: &str = "v=0\r\no=- 3 1 IN IP4 192.0.2.9\r\ns=preview\r\n";
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let (_peer, _kept) = exchange(&network, BOB, |_, _| {
            vec![
                said(183, "one").with_sdp(PREVIEW),
                said(180, "other"),
                said(200, "one").with_sdp(ANSWER),
            ]
        })
        .await;
        let mut hers = alice.calls(BOB).await;
        assert!(matches!(hers.next().await, Some(CallEvent::Progress(_))));
        assert_eq!(hers.remote_sdp().as_deref(), Some(PREVIEW));
        let answer = hers.answered().await.unwrap();
        assert!(!answer.body().is_empty());
        assert_eq!(hers.remote_sdp().as_deref(), Some(ANSWER));
    });
}

/// RFC 5621 §4: a description may be a part among others.
#[test]
fn a_description_among_other_parts_is_found() {
    const PARTS: &str = "--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: multipart/alternative;boundary=c\r\n\r\n\
                         --c\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--c--\r\n--b--\r\n";
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let (_peer, _kept) = exchange(&network, BOB, |_, _| {
            let kind = "multipart/mixed;boundary=b";
            vec![said(200, "one").with_sdp(PARTS).of_kind(kind)]
        })
        .await;
        let mut hers = alice.calls(BOB).await;
        hers.answered().await.unwrap();
        assert_eq!(hers.remote_sdp().as_deref(), Some("v=0\r\n"));
    });
}

const ONE: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.2\r\ns=one\r\n";
const TWO: &str = "v=0\r\no=- 1 3 IN IP4 192.0.2.2\r\ns=two\r\n";

fn reliably(sdp: &'static str) -> Said {
    let reliable = said(183, "x").with(HeaderName::Require, "100rel");
    reliable.with(HeaderName::RSeq, "7").with_sdp(sdp)
}

/// A call of hers that is up, to a peer that answers her later INVITEs, each in its turn, with these.
async fn answering(
    network: &SimNetwork,
    later: impl Fn(usize) -> Vec<Said> + Send + 'static,
) -> (Phone, Exchange, CallHandle) {
    let mut turn = 0;
    let script = move |request: &Request, _| match request.method() {
        Method::Prack => vec![said(200, "x")],
        _ => {
            turn += 1;
            match turn {
                1 => vec![said(200, "x").with_sdp(ANSWER)],
                _ => later(turn - 1),
            }
        }
    };
    let methods = &[Method::Invite, Method::Prack];
    let bob = exchange_for(methods, network, BOB, script).await;
    let alice = Phone::new(network, ALICE).await;
    let mut call = alice.calls(BOB).await;
    call.answered().await.unwrap();
    assert_eq!(call.remote_sdp().as_deref(), Some(ANSWER));
    (alice, bob, call)
}

async fn is_offered(call: &mut CallHandle, sdp: &str) {
    let event = call.next().await.unwrap();
    assert!(matches!(event, CallEvent::EarlyOffer(_)), "{event:?}");
    assert_eq!(event.sdp(), Some(sdp));
    assert_eq!(call.remote_sdp().as_deref(), Some(sdp));
}

async fn is_refused(call: &mut CallHandle) {
    let event = call.next().await.unwrap();
    assert!(matches!(event, CallEvent::ChangeRefused(_)), "{event:?}");
}

/// "the session remains unchanged" (RFC 3261 §14.1).
#[test]
fn an_early_offer_of_who_then_refuses_has_changed_nothing() {
    scene(|network| async move {
        let later = |_| vec![reliably(ONE), said(488, "x")];
        let (_alice, _bob, mut call) = answering(&network, later).await;
        call.change(None).await.unwrap();
        is_offered(&mut call, ONE).await;
        is_refused(&mut call).await;
        assert_eq!(call.remote_sdp().as_deref(), Some(ANSWER));
    });
}

/// RFC 6141 §3.3: what was exchanged before holds all the same.
#[test]
fn what_was_exchanged_early_has_changed_the_session_though_the_peer_refuses_then() {
    scene(|network| async move {
        let later = |_| vec![reliably(ONE), said(488, "x")];
        let (_alice, _bob, mut call) = answering(&network, later).await;
        call.change(Some(CHANGED)).await.unwrap();
        is_refused(&mut call).await;
        assert_eq!(call.remote_sdp().as_deref(), Some(ONE));
    });
}

#[test]
fn an_early_offer_that_was_answered_has_changed_the_session_though_the_peer_refuses_then() {
    scene(|network| async move {
        let script = |request: &Request, _| match request.method() {
            Method::Prack => vec![said(200, "x"), said(488, "x").of_invite()],
            _ if request.headers().to().unwrap().tag().is_none() => {
                vec![said(200, "x").with_sdp(ANSWER)]
            }
            _ => vec![reliably(ONE)],
        };
        let methods = &[Method::Invite, Method::Prack];
        let _bob = exchange_for(methods, &network, BOB, script).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = alice.calls(BOB).await;
        call.answered().await.unwrap();
        call.change(None).await.unwrap();
        is_offered(&mut call, ONE).await;
        call.acknowledge(CHANGED).await.unwrap();
        is_refused(&mut call).await;
        assert_eq!(call.remote_sdp().as_deref(), Some(ONE));
    });
}

#[test]
fn the_early_offer_of_an_invite_that_is_sent_again_counts() {
    scene(|network| async move {
        let later = |turn| match turn {
            1 => vec![reliably(ONE), said(491, "x")],
            _ => vec![reliably(TWO)],
        };
        let (_alice, _bob, mut call) = answering(&network, later).await;
        call.change(None).await.unwrap();
        is_offered(&mut call, ONE).await;
        is_offered(&mut call, TWO).await;
    });
}

#[test]
fn an_early_offer_of_an_invite_that_is_sent_again_has_changed_nothing() {
    scene(|network| async move {
        let later = |turn| match turn {
            1 => vec![reliably(ONE), said(491, "x")],
            _ => vec![said(488, "x")],
        };
        let (_alice, _bob, mut call) = answering(&network, later).await;
        call.change(None).await.unwrap();
        is_offered(&mut call, ONE).await;
        is_refused(&mut call).await;
        assert_eq!(call.remote_sdp().as_deref(), Some(ANSWER));
    });
}

/// He calls her: her end of the call.
async fn is_called(alice: &mut Phone, bob: &Exchange) -> CallHandle {
    let answering = async {
        let mut call = alice.is_called().await;
        call.accept(ANSWER).await.unwrap();
        let event = call.next().await.unwrap();
        assert!(matches!(event, CallEvent::Acknowledged(_)), "{event:?}");
        call
    };
    tokio::join!(bob.calls(ALICE), answering).1
}

/// While the INVITE waits to be sent again, the peer's own comes.
#[test]
fn an_early_offer_of_an_invite_that_met_the_peers_has_changed_nothing() {
    scene(|network| async move {
        let later = |_: &Request, _| vec![reliably(ONE), said(491, "x")];
        let bob = exchange_for(&[Method::Invite], &network, BOB, later).await;
        let mut alice = Phone::new(&network, ALICE).await;
        let mut call = is_called(&mut alice, &bob).await;
        call.change(None).await.unwrap();
        is_offered(&mut call, ONE).await;
        bob.says(ALICE, (Method::Invite, 2), &[], Some(HELD)).await;
        is_reinvited(&mut call).await;
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        assert_eq!(call.remote_sdp().as_deref(), Some(OFFER));
    });
}

/// RFC 6141 §3.3: a re-INVITE that has changed the session before nobody answers it is accepted.
#[test]
fn an_offer_that_was_answered_early_counts_though_nobody_accepts_it() {
    const WAITS: &[(HeaderName, &str)] = &[
        (HeaderName::Supported, "100rel"),
        (HeaderName::Expires, "5"),
    ];
    scene(|network| async move {
        let nothing = |_: &Request, _| Vec::new();
        let bob = exchange_for(&[Method::Invite], &network, BOB, nothing).await;
        let mut alice = Phone::new(&network, ALICE).await;
        let mut call = is_called(&mut alice, &bob).await;
        let invite = (Method::Invite, 2);
        let invite = bob.says(ALICE, invite, WAITS, Some(HELD)).await;
        is_reinvited(&mut call).await;
        let progress = StatusCode::SESSION_PROGRESS;
        call.progress(progress, Some(CHANGED)).await.unwrap();
        let early = bob.kept.progress_of(&invite, 183).await;
        let rack = format!("{} 2 INVITE", early.headers().rseq().unwrap().unwrap());
        let rack = [(HeaderName::RAck, rack.as_str())];
        bob.says(ALICE, (Method::Prack, 3), &rack, None).await;
        assert!(bob.kept.answer_to(&invite).await.status().is_success());
        let event = call.next().await.unwrap();
        assert!(
            matches!(event, CallEvent::ProgressAcknowledged(_)),
            "{event:?}"
        );
        let event = call.next().await.unwrap();
        assert!(matches!(event, CallEvent::ChangeWithdrawn), "{event:?}");
        assert_eq!(call.remote_sdp().as_deref(), Some(HELD));
    });
}
