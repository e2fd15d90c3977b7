//! Calls that ring elsewhere are picked up (RFC 3891, RFC 5359 §2.16).

use crate::attended::{ends_with, is_up, status};
use crate::phone::*;
use crate::transferred::{offering, three};
use sipora_session_core::message::DialogId;
use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, CallOptions, Error, Response, SipClient,
};
use sipora_testkit::{Conditions, for_each_seed, seeds};
use std::time::Duration;

/// A dialog of the caller's with who rings, as the caller sees it.
fn ringing(answer: &Response) -> DialogId {
    let headers = answer.headers();
    let tag = |tag: Option<&str>| tag.unwrap().to_owned();
    let (ours, theirs) = (
        tag(headers.from().unwrap().tag()),
        tag(headers.to().unwrap().tag()),
    );
    let named = DialogId::new(headers.call_id().unwrap(), &ours, &theirs);
    named.unwrap().early_only()
}

async fn rings(call: &mut CallHandle) -> DialogId {
    match call.next().await.unwrap() {
        CallEvent::Progress(answer) => ringing(answer.message()),
        other => panic!("{other:?}"),
    }
}

/// RFC 5359 §2.16: Carol takes the call that rings at Bob.
#[test]
fn a_call_that_rings_is_picked_up_elsewhere_and_is_cancelled_where_it_rang() {
    scene(|network| async move {
        let (mut alice, mut bob, carol) = three(&network).await;
        let mut to_bob = alice.calls(BOB).await;
        let mut rung = bob.is_called().await;
        rung.ring().await.unwrap();
        let options = offering().replacing(&rings(&mut to_bob).await);
        let mut carols = carol.client.call_with(&uri(ALICE), options).await.unwrap();
        let mut new = alice.is_called().await;
        assert_eq!(new.replaces(), Some(to_bob.key()));
        new.accept_replacing(ANSWER).await.unwrap();
        assert!(carols.answered().await.is_ok());
        let end = to_bob.ended().await;
        assert!(matches!(end, CallEnd::Replaced(by) if by == new.key()));
        let end = rung.ended().await;
        assert!(matches!(end, CallEnd::PeerCancelled(_)), "{end:?}");
        assert!(end.was_answered_elsewhere());
        carols.hang_up().await.unwrap();
        assert!(matches!(new.ended().await, CallEnd::PeerHungUp(_)));
        carols.ended().await;
        ends_with([&alice, &bob, &carol]).await;
    });
}

/// RFC 3891 §3: with early-only, "the UA rejects the request with a 486 Busy response" for a dialog that is confirmed.
#[test]
fn what_was_answered_meanwhile_is_not_picked_up() {
    scene(|network| async move {
        let (mut alice, mut bob, carol) = three(&network).await;
        let mut to_bob = alice.calls(BOB).await;
        let mut rung = bob.is_called().await;
        rung.ring().await.unwrap();
        let options = offering().replacing(&rings(&mut to_bob).await);

        // It is answered between the INVITE that wants it and the decision.
        let picks_up = async |options: &CallOptions| {
            let options = options.clone();
            carol.client.call_with(&uri(ALICE), options).await.unwrap()
        };
        let mut carols = picks_up(&options).await;
        let new = alice.is_called().await;
        assert_eq!(new.replaces(), Some(to_bob.key()));
        rung.accept(ANSWER).await.unwrap();
        to_bob.answered().await.unwrap();
        assert!(matches!(
            new.accept_replacing(ANSWER).await,
            Err(Error::TooLate)
        ));
        let refused = carols.answered().await;
        assert_eq!(status(refused.map(|_| 200)), 486);

        // And it was answered before.
        let mut carols = picks_up(&options).await;
        let refused = carols.answered().await;
        assert_eq!(status(refused.map(|_| 200)), 486);
        assert!(matches!(
            rung.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        is_up(&mut to_bob, &mut rung).await;
    });
}

/// Bob may answer at any time: either he has the call, or Carol does, and never both.
#[test]
fn a_call_is_picked_up_or_answered_and_never_both_on_bad_networks() {
    for_each_seed(seeds(), |network| async move {
        let (mut alice, mut bob, carol) = three(&network).await;
        let mut to_bob = alice.calls(BOB).await;
        let rung = bob.is_called().await;
        rung.ring().await.unwrap();
        let options = offering().replacing(&rings(&mut to_bob).await);
        network.set_conditions(Conditions::rough());
        let (answers, decides) = (network.random(0..=3_000), network.random(0..=2_000));
        let pause = |milliseconds| tokio::time::sleep(Duration::from_millis(milliseconds));
        let bobs = async {
            pause(answers).await;
            let accepted = rung.accept(ANSWER).await;
            assert!(matches!(accepted, Ok(()) | Err(Error::TooLate)));
            rung
        };
        let carols = async {
            let to_alice = carol.client.call_with(&uri(ALICE), options).await;
            let mut call = to_alice.unwrap();
            let answered = call.answered().await;
            (call, answered.map(|answer| answer.status().as_u16()))
        };
        let deciding = async {
            tokio::select! {
                answer = to_bob.answered() => {
                    // Nobody else has it then; whoever wants it is refused without being asked.
                    answer.unwrap();
                    (to_bob, None)
                }
                new = alice.is_called() => {
                    let new = async { pause(decides).await; new };
                    tokio::select! {
                        answer = to_bob.answered() => {
                            answer.unwrap();
                            (to_bob, None)
                        }
                        new = new => {
                            assert_eq!(new.replaces(), Some(to_bob.key()));
                            match new.accept_replacing(ANSWER).await {
                                Ok(()) => {
                                    let end = to_bob.ended().await;
                                    let by = new.key();
                                    assert!(matches!(end, CallEnd::Replaced(it) if it == by));
                                    (to_bob, Some(new))
                                }
                                Err(Error::TooLate) => {
                                    to_bob.answered().await.unwrap();
                                    (to_bob, None)
                                }
                                Err(other) => panic!("{other:?}"),
                            }
                        }
                    }
                }
            }
        };
        let (mut rung, (mut carols, answered), (mut to_bob, new)) =
            tokio::join!(bobs, carols, deciding);
        match new {
            Some(mut new) => {
                assert_eq!(status(answered), 200);
                let end = rung.ended().await;
                let is_over = matches!(end, CallEnd::PeerCancelled(_) | CallEnd::PeerHungUp(_));
                assert!(is_over, "{end:?}");
                carols.hang_up().await.unwrap();
                let (hers, ours) = tokio::join!(carols.ended(), new.ended());
                assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
                assert!(matches!(ours, CallEnd::PeerHungUp(_)), "{ours:?}");
            }
            None => {
                let status = status(answered);
                assert!(matches!(status, 480 | 486), "{status}");
                to_bob.hang_up().await.unwrap();
                let (ours, his) = tokio::join!(to_bob.ended(), rung.ended());
                assert!(matches!(ours, CallEnd::HungUp), "{ours:?}");
                assert!(matches!(his, CallEnd::PeerHungUp(_)), "{his:?}");
            }
        }
        settle().await;
        ends_with([&alice, &bob, &carol]).await;
    });
}
