//! Answers from several phones (RFC 3261 §13.2.2.4).

use sipora_dialog_core::{CallConfig, CallEvent};

use crate::peer::*;

#[tokio::test]
async fn of_two_200s_of_sipps_one_call_is_kept_and_the_other_ended() {
    let config = CallConfig::default();
    calls_to("uas_forked.xml", config, |mut call| async move {
        // Two phones ring, and one between them has early media.
        for status in [180, 183, 180] {
            match call.next().await {
                Some(CallEvent::Progress(answer)) => assert_eq!(answer.status().as_u16(), status),
                other => panic!("{other:?}"),
            }
        }
        let answer = call.answered().await.unwrap();
        let to = answer.headers().to().unwrap();
        assert!(to.tag().unwrap().contains("TagB"), "{to:?}");
        is_hung_up(&mut call).await;
    })
    .await;
}
