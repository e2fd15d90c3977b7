//! Calls between two clients on networks that lose, repeat and overtake.

use crate::phone::*;
use sipora_session_core::{CallEnd, CallEvent, Error};
use sipora_testkit::{Conditions, for_each_seed, seeds};

/// Whoever does what, and whenever, both agree that it is over, and nothing is left.
#[test]
fn calls_are_made_taken_and_ended_on_bad_networks() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let (alice, mut bob) = two(&network).await;
        let accepts = network.random(0..=3) > 0;
        let talks = network.random(0..=4_000);
        let gives_up = network.random(0..=6_000);
        let pause =
            |milliseconds| tokio::time::sleep(std::time::Duration::from_millis(milliseconds));
        let thinks = network.random(0..=4_000);
        let answering = async {
            let mut call = bob.is_called().await;
            // The caller may be faster with each of these.
            let _ = call.ring().await;
            pause(thinks).await;
            let said = match accepts {
                true => call.accept(ANSWER).await,
                false => {
                    call.reject(sipora_session_core::StatusCode::BUSY_HERE)
                        .await
                }
            };
            assert!(matches!(said, Ok(()) | Err(Error::TooLate)), "{said:?}");
            call.ended().await
        };
        let calling = async {
            let mut call = alice.calls(BOB).await;
            let waited =
                tokio::time::timeout(std::time::Duration::from_millis(gives_up), call.answered());
            match waited.await {
                Ok(Ok(_)) => pause(talks).await,
                Ok(Err(error)) => return CallEnd::Failed(error),
                Err(_) => {}
            }
            let hung_up = call.hang_up().await;
            assert!(
                matches!(hung_up, Ok(()) | Err(Error::TooLate)),
                "{hung_up:?}"
            );
            while let Some(event) = call.next().await {
                if let CallEvent::Ended(end) = event {
                    return end;
                }
            }
            CallEnd::Closed
        };
        let both = async { tokio::join!(answering, calling) };
        // An INVITE may have been cancelled before it came.
        let both = tokio::time::timeout(std::time::Duration::from_secs(600), both);
        let both = both.await;
        if let Ok((his, hers)) = &both {
            let agrees = match (hers, his) {
                (CallEnd::HungUp, CallEnd::PeerHungUp(_) | CallEnd::NotAcknowledged) => true,
                (CallEnd::Cancelled, CallEnd::PeerCancelled(_) | CallEnd::Rejected) => true,
                // It was accepted as it was cancelled.
                (CallEnd::Cancelled, CallEnd::PeerHungUp(_)) => true,
                (CallEnd::Failed(Error::Rejected(answer)), CallEnd::Rejected) => {
                    answer.status().as_u16() == 486
                }
                _ => false,
            };
            assert!(agrees, "{hers:?}, {his:?}");
        } else {
            // Who has heard of the call is at its end by now.
            assert_eq!(bob.client.call_metrics().begun, 0, "it goes on for ever");
        }
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}
