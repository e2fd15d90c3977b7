//! Sessions that the peer finds too short: 422 to what we send in a call (RFC 4028 §7.3, §7.4).

use crate::support::*;
use sipora_dialog_core::{CallConfig, CallEvent};
use sipora_message::{HeaderName, Method};
use std::time::Duration;

#[test]
fn a_hold_that_met_a_422_goes_through_in_the_end() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.session_expires = Some(Duration::from_secs(90));
        let alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        for nth in 1..5 {
            call.reinvite(Some(sdp("hold"))).await.unwrap();
            let reinvite = phone.nth(Method::Invite, nth).await;
            let expires = reinvite.headers().session_expires().unwrap().unwrap();
            if expires.seconds >= 1800 {
                return;
            }
            phone
                .answer_with(&reinvite, 422, "b", |builder| {
                    builder.header(HeaderName::MinSe, 1800)
                })
                .await;
            let told = call.next().await;
            assert!(matches!(told, Some(CallEvent::ReinviteRefused(_))));
        }
        panic!("no re-INVITE of the application's can get through");
    });
}

#[test]
fn a_re_invite_that_was_too_short_goes_with_the_min_se_of_its_422_when_it_is_asked_for_again() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.session_expires = Some(Duration::from_secs(90));
        let alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone
            .answer_with(&reinvite, 422, "b", |builder| {
                builder.header(HeaderName::MinSe, 1800)
            })
            .await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteRefused(_))
        ));
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let again = phone.nth(Method::Invite, 2).await;
        assert_eq!(again.headers().min_se().unwrap(), Some(1800));
        assert!(again.headers().session_expires().unwrap().unwrap().seconds >= 1800);
    });
}

#[test]
fn a_peer_that_wants_ever_longer_sessions_does_not_make_us_refresh_all_the_time() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.session_expires = Some(Duration::from_secs(90));
        let alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let (_call, _) = established(&alice, &phone).await;
        pass(44_900).await;
        for nth in 1..200 {
            let Ok(refresh) =
                tokio::time::timeout(Duration::from_secs(4), phone.nth(Method::Invite, nth)).await
            else {
                break;
            };
            phone
                .answer_with(&refresh, 422, "b", |builder| {
                    builder.header(HeaderName::MinSe, 90 + nth)
                })
                .await;
        }
        let count = phone.count(Method::Invite);
        assert!(count < 20, "{count} within a few seconds");
    });
}

#[test]
fn the_min_se_of_a_422_is_known_in_the_next_process() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.session_expires = Some(Duration::from_secs(90));
        let alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone
            .answer_with(&reinvite, 422, "b", |it| it.header(HeaderName::MinSe, 1800))
            .await;
        let told = call.next().await;
        assert!(matches!(told, Some(CallEvent::ReinviteRefused(_))));
        let state = call.detach().await.unwrap();
        let call = alice.dialogs.restore_call(state, None).await.unwrap();
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let again = phone.nth(Method::Invite, 2).await;
        assert_eq!(again.headers().min_se().unwrap(), Some(1800));
    });
}
