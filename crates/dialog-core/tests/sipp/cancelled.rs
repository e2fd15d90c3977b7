//! CANCEL, and what it meets on its way (RFC 3261 §9).

use sipora_dialog_core::{Call, CallConfig, CallEnd, CallEvent};

use crate::peer::*;

async fn is_cancelled(call: &mut Call) {
    let end = call.ended().await;
    assert!(matches!(end, CallEnd::Cancelled), "{end:?}");
}

/// The peer gives its call up.
async fn is_withdrawn(call: &mut Call) {
    let end = call.ended().await;
    assert!(matches!(end, CallEnd::PeerCancelled(_)), "{end:?}");
}

/// The peer rings, and we give up.
async fn gives_up(call: &mut Call) {
    match call.next().await {
        Some(CallEvent::Progress(_)) => call.hang_up().await.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sipp_cancels_what_rings_and_no_call_fails() {
    let config = CallConfig::default();
    called_by("uac_cancel.xml", config, |mut call| async move {
        call.ring().await.unwrap();
        is_withdrawn(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn sipp_cancels_before_any_answer_and_no_call_fails() {
    let config = CallConfig::default();
    called_by("uac_cancel_at_once.xml", config, |mut call| async move {
        is_withdrawn(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn a_cancel_of_sipps_that_comes_after_the_200_changes_nothing() {
    let config = CallConfig::default();
    called_by("uac_cancel_late.xml", config, |mut call| async move {
        takes(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_cancel_calls_to_sipp_and_no_call_fails() {
    let config = CallConfig::default();
    calls_to("uas_cancelled.xml", config, |mut call| async move {
        gives_up(&mut call).await;
        is_cancelled(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn our_cancel_waits_until_sipp_has_answered_something() {
    let config = CallConfig::default();
    calls_to("uas_cancelled_early.xml", config, |mut call| async move {
        call.hang_up().await.unwrap();
        is_cancelled(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn a_200_of_sipps_that_meets_our_cancel_is_acknowledged_and_ended() {
    let config = CallConfig::default();
    calls_to("uas_cancelled_late.xml", config, |mut call| async move {
        gives_up(&mut call).await;
        is_cancelled(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn a_refusal_of_sipps_that_meets_our_cancel_ends_the_call() {
    let config = CallConfig::default();
    calls_to("uas_cancelled_refuses.xml", config, |mut call| async move {
        gives_up(&mut call).await;
        is_cancelled(&mut call).await;
    })
    .await;
}
