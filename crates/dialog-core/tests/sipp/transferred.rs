//! REFER and what is told of it (RFC 3515).

use sipora_dialog_core::{Call, CallConfig, CallEvent, Refer};
use sipora_message::{StatusCode, Uri};

use crate::peer::*;

fn follows() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config
}

fn carol() -> Refer {
    Refer::to(Uri::parse("sip:carol@example.com").unwrap())
}

/// The peer wants us to call Carol; we say that we have.
pub async fn is_transferred(call: &mut Call) {
    let referral = match call.next().await {
        Some(CallEvent::Referred(referral)) => referral,
        other => panic!("{other:?}"),
    };
    let target = referral.refer_to().unwrap();
    assert_eq!(target.as_str(), "sip:carol@example.com");
    call.accept_refer(referral.id).await.unwrap();
    call.report_refer(referral.id, StatusCode::OK)
        .await
        .unwrap();
}

/// We transfer the peer to Carol, and it says that it has called her.
pub async fn transfers(call: &mut Call) {
    let answer = call.refer(carol()).await.unwrap();
    assert_eq!(answer.response.status().as_u16(), 202);
    let mut told = Vec::new();
    loop {
        match call.next().await {
            Some(CallEvent::ReferReport(report)) => {
                told.push(report.status.unwrap().as_u16());
                if report.is_over {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, [100, 200]);
}

#[tokio::test]
async fn sipp_transfers_us_and_no_call_fails() {
    called_by("uac_refer.xml", follows(), |mut call| async move {
        takes(&mut call).await;
        is_transferred(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_transfer_sipp_and_no_call_fails() {
    calls_to("uas_refer.xml", follows(), |mut call| async move {
        call.answered().await.unwrap();
        transfers(&mut call).await;
        hangs_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn sipp_refuses_to_be_transferred_and_the_call_goes_on() {
    calls_to("uas_refer_refused.xml", follows(), |mut call| async move {
        call.answered().await.unwrap();
        let answer = call.refer(carol()).await.unwrap();
        assert_eq!(answer.response.status().as_u16(), 603);
        assert!(answer.id.is_none());
        hangs_up(&mut call).await;
    })
    .await;
}
