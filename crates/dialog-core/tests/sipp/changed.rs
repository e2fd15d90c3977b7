//! Sessions that are agreed on late, and changed: delayed offers, re-INVITE (RFC 3261 §14), UPDATE (RFC 3311).

use sipora_dialog_core::{Call, CallConfig, CallEvent};
use sipora_message::StatusCode;

use crate::peer::*;

#[tokio::test]
async fn sipp_answers_our_offer_in_its_ack_and_no_call_fails() {
    let config = CallConfig::default();
    called_by("uac_delayed_offer.xml", config, |mut call| async move {
        assert!(takes(&mut call).await > 0);
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_answer_sipps_offer_in_our_ack_and_no_call_fails() {
    let config = CallConfig::default();
    let without_offer = async |agent: &Agent, port| agent.calls(agent.invite(port)).await;
    calling(
        "uas_delayed_offer.xml",
        config,
        calls(),
        without_offer,
        |mut call| async move {
            let answer = call.answered().await.unwrap();
            assert!(!answer.body().is_empty());
            call.acknowledge(sdp()).await.unwrap();
            hangs_up(&mut call).await;
        },
    )
    .await;
}

#[tokio::test]
async fn sipp_changes_the_session_by_re_invite_and_no_call_fails() {
    let config = CallConfig::default();
    called_by("uac_reinvite.xml", config, |mut call| async move {
        takes(&mut call).await;
        // It holds; then it asks for an offer.
        for offers in [true, false] {
            match call.next().await {
                Some(CallEvent::Reinvited(invite)) => {
                    assert_eq!(!invite.body().is_empty(), offers);
                }
                other => panic!("{other:?}"),
            }
            call.accept(sdp()).await.unwrap();
            assert_eq!(is_acknowledged(&mut call).await > 0, !offers);
        }
        match call.next().await {
            Some(CallEvent::Reinvited(_)) => {}
            other => panic!("{other:?}"),
        }
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_change_the_session_by_re_invite_and_no_call_fails() {
    let config = CallConfig::default();
    calls_to("uas_reinvite.xml", config, |mut call| async move {
        call.answered().await.unwrap();
        call.reinvite(Some(sdp())).await.unwrap();
        is_changed(&mut call).await;
        call.reinvite(None).await.unwrap();
        is_changed(&mut call).await;
        call.acknowledge(sdp()).await.unwrap();
        call.reinvite(Some(sdp())).await.unwrap();
        match call.next().await {
            Some(CallEvent::ReinviteRefused(answer)) => {
                assert_eq!(answer.status().as_u16(), 488);
            }
            other => panic!("{other:?}"),
        }
        hangs_up(&mut call).await;
    })
    .await;
}

async fn is_changed(call: &mut Call) {
    match call.next().await {
        Some(CallEvent::ReinviteAccepted(answer)) => assert!(!answer.body().is_empty()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_re_invite_that_sipp_refuses_for_glare_comes_again() {
    let config = CallConfig::default();
    calls_to("uas_glare.xml", config, |mut call| async move {
        call.answered().await.unwrap();
        call.reinvite(Some(sdp())).await.unwrap();
        is_changed(&mut call).await;
        hangs_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn sipp_changes_the_session_by_update_and_no_call_fails() {
    let config = CallConfig::default();
    called_by("uac_update.xml", config, |mut call| async move {
        takes(&mut call).await;
        match call.next().await {
            Some(CallEvent::Offered(_)) => call.answer(sdp()).await.unwrap(),
            other => panic!("{other:?}"),
        }
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_change_the_session_by_update_and_no_call_fails() {
    let config = CallConfig::default();
    calls_to("uas_update.xml", config, |mut call| async move {
        call.answered().await.unwrap();
        call.update(Some(sdp())).await.unwrap();
        match call.next().await {
            Some(CallEvent::UpdateAccepted(response)) => assert!(!response.body().is_empty()),
            other => panic!("{other:?}"),
        }
        hangs_up(&mut call).await;
    })
    .await;
}
