//! Provisional answers: early media, and PRACK (RFC 3262).

use sipora_dialog_core::{Call, CallConfig, CallEvent};
use sipora_message::StatusCode;

use crate::peer::*;

async fn hears_early_media(call: &mut Call) {
    match call.next().await {
        Some(CallEvent::Progress(response)) => {
            assert_eq!(response.status().as_u16(), 183);
            assert!(!response.body().is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sipp_hears_our_early_media_and_no_call_fails() {
    let config = CallConfig::default();
    called_by("uac_early_media.xml", config, |mut call| async move {
        let status = StatusCode::SESSION_PROGRESS;
        call.progress(status, Some(sdp())).await.unwrap();
        call.accept(sdp()).await.unwrap();
        is_acknowledged(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_hear_sipps_early_media_and_no_call_fails() {
    let config = CallConfig::default();
    calls_to("uas_early_media.xml", config, |mut call| async move {
        hears_early_media(&mut call).await;
        call.answered().await.unwrap();
        hangs_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn sipp_acknowledges_our_early_media_and_no_call_fails() {
    let config = CallConfig::default();
    called_by("uac_prack.xml", config, |mut call| async move {
        let status = StatusCode::SESSION_PROGRESS;
        call.progress_reliably(status, Some(sdp())).await.unwrap();
        call.accept(None).await.unwrap();
        match call.next().await {
            Some(CallEvent::ProgressAcknowledged(_)) => {}
            other => panic!("{other:?}"),
        }
        is_acknowledged(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_acknowledge_sipps_early_media_and_no_call_fails() {
    let config = CallConfig::default();
    calls_to("uas_prack.xml", config, |mut call| async move {
        hears_early_media(&mut call).await;
        call.answered().await.unwrap();
        hangs_up(&mut call).await;
    })
    .await;
}
