//! What the peer says of the session is at hand, whichever message said it (RFC 3261 §13.2.1, RFC 3262 §5).

use crate::exchange::{exchange, said};
use crate::phone::*;
use sipora_session_core::{CallEvent, CallHandle, SipClient, StatusCode};
use sipora_testkit::{Conditions, for_each_seed, seeds};

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
