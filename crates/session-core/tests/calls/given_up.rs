//! What is left of a transfer whose `follow` nobody waits for any more.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::phone::*;
use crate::transferred::{is_asked, offering, three};
use sipora_session_core::{CallEnd, CallEvent, Error};

/// Polls a future so often and drops it then: at once, or when it could go on. Gives what came of it where it was done before.
async fn polled<F: Future>(times: usize, is_at_once: bool, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 && is_at_once => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Bob begins to follow, and drops that after so many steps. Says whether he was done before.
fn dropped_after(times: usize, is_at_once: bool, keeps_wish: bool) -> bool {
    let is_done = std::cell::Cell::new(false);
    scene(|network| {
        let is_done = &is_done;
        async move {
            let (alice, mut bob, carol) = three(&network).await;
            let (mut hers, mut his) = up(&alice, &mut bob).await;
            let bobs = async {
                let wish = is_asked(&mut his).await;
                let following = his.follow(&wish, offering());
                let new = polled(times, is_at_once, following).await;
                is_done.set(new.is_some());
                drop(new);
                if keeps_wish {
                    // He may think about it again.
                    let _ = his
                        .refuse_transfer(&wish, sipora_session_core::StatusCode::DECLINE)
                        .await;
                }
            };
            let target = uri(CAROL);
            let (asked, ()) = tokio::join!(hers.transfer(&target), bobs);
            match asked {
                Ok(answer) => {
                    assert!(answer.is_success());
                    // She is told soon that nothing comes of it, and not when the time of her subscription is over.
                    let before = tokio::time::Instant::now();
                    let last = loop {
                        match hers.next().await.unwrap() {
                            CallEvent::TransferProgress(report) if report.is_over => break report,
                            CallEvent::TransferProgress(_) => {}
                            other => panic!("{other:?}"),
                        }
                    };
                    assert_eq!(last.status.map(|it| it.as_u16()), Some(487), "{times}");
                    assert!(before.elapsed().as_secs() < 5, "{:?}", before.elapsed());
                }
                Err(Error::Rejected(answer)) => assert_eq!(answer.status().as_u16(), 603),
                Err(other) => panic!("{other:?}"),
            }
            // The call that was to be transferred goes on until it is hung up.
            hers.hang_up().await.unwrap();
            assert!(matches!(hers.ended().await, CallEnd::HungUp));
            assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
            settle().await;
            for phone in [&alice, &bob, &carol] {
                phone.assert_idle();
            }
        }
    });
    is_done.get()
}

#[test]
fn a_follow_that_is_dropped_at_any_step_leaves_nothing_and_is_told_of() {
    for is_at_once in [true, false] {
        for keeps_wish in [true, false] {
            let mut times = 0;
            while !dropped_after(times, is_at_once, keeps_wish) {
                times += 1;
            }
            assert!(times > 1, "it has more than one step");
        }
    }
}
