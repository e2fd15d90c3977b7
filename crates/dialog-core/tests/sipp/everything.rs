//! Calls with all of it: PRACK, session timer, UPDATE, re-INVITE, REFER.

use std::time::Duration;

use sipora_dialog_core::{CallConfig, CallEvent};
use sipora_message::StatusCode;

use crate::peer::*;
use crate::transferred::{is_transferred, transfers};

fn everything() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config.session_expires = Some(Duration::from_secs(1_800));
    config
}

#[tokio::test]
async fn sipp_does_everything_in_a_call_and_no_call_fails() {
    called_by("uac_everything.xml", everything(), |mut call| async move {
        let status = StatusCode::SESSION_PROGRESS;
        call.progress_reliably(status, Some(sdp())).await.unwrap();
        call.accept(None).await.unwrap();
        match call.next().await {
            Some(CallEvent::ProgressAcknowledged(_)) => {}
            other => panic!("{other:?}"),
        }
        is_acknowledged(&mut call).await;
        match call.next().await {
            Some(CallEvent::Offered(_)) => call.answer(sdp()).await.unwrap(),
            other => panic!("{other:?}"),
        }
        match call.next().await {
            Some(CallEvent::Reinvited(_)) => call.accept(sdp()).await.unwrap(),
            other => panic!("{other:?}"),
        }
        is_acknowledged(&mut call).await;
        is_transferred(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_do_everything_in_a_call_to_sipp_and_no_call_fails() {
    calls_to("uas_everything.xml", everything(), |mut call| async move {
        match call.next().await {
            Some(CallEvent::Progress(answer)) => assert!(!answer.body().is_empty()),
            other => panic!("{other:?}"),
        }
        call.answered().await.unwrap();
        call.update(Some(sdp())).await.unwrap();
        match call.next().await {
            Some(CallEvent::UpdateAccepted(answer)) => assert!(!answer.body().is_empty()),
            other => panic!("{other:?}"),
        }
        call.reinvite(Some(sdp())).await.unwrap();
        match call.next().await {
            Some(CallEvent::ReinviteAccepted(answer)) => assert!(!answer.body().is_empty()),
            other => panic!("{other:?}"),
        }
        transfers(&mut call).await;
        hangs_up(&mut call).await;
    })
    .await;
}
