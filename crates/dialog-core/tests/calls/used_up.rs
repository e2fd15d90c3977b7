//! Calls whose numbers are used up: "MUST be less than 2**31" (RFC 3261 §8.1.1.5).

use crate::refers_ending::{refer, referral, transferable};
use crate::support::*;
use sipora_dialog_core::{Call, CallEvent};
use sipora_message::Method;
use std::time::Duration;

/// The call with this number as the last that was used.
async fn from(alice: &Agent, call: &mut Call, last: u32) -> Call {
    let state = call.detach().await.unwrap();
    let mut value = serde_json::to_value(&state).unwrap();
    *value.pointer_mut("/dialog/local_cseq").unwrap() = serde_json::json!(last);
    let state = serde_json::from_value(value).unwrap();
    alice.dialogs.restore_call(state, None).await.unwrap()
}

#[test]
fn a_change_that_met_491_is_told_of_where_the_numbers_are_used_up() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        let mut call = from(&alice, &mut call, 2_147_483_646).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 491, "b").await;
        let told = tokio::time::timeout(Duration::from_secs(30), call.next()).await;
        assert!(
            matches!(told, Ok(Some(CallEvent::ReinviteRefused(_)))),
            "{told:?}"
        );
    });
}

#[test]
fn a_refer_without_an_answer_gets_one_as_a_call_ends_whose_numbers_are_used_up() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let mut call = from(&alice, &mut call, 2_147_483_647).await;
        let request = refer(&dialog, 11);
        phone.send(&request, ALICE).await;
        referral(&mut call).await;
        call.hang_up().await.unwrap();
        pass(20_000).await;
        assert!(phone.seen_finals(&request) > 0, "the REFER has no answer");
    });
}
