//! Session timers (RFC 4028). When all calls are up, the clock is put forward to where something is due.

use std::future::Future;
use std::time::Duration;

use sipora_dialog_core::{Call, CallConfig, CallEnd};
use tokio::sync::mpsc;

use crate::peer::*;

/// Half of the 90 s that the calls last, and a little.
const REFRESH: Duration = Duration::from_secs(46);

/// As long as they last, less the third of it before which who waits for a refresh gives up, and a little.
const EXPIRY: Duration = Duration::from_secs(61);

fn timed() -> CallConfig {
    let mut config = CallConfig::default();
    config.session_expires = Some(Duration::from_secs(90));
    config
}

/// Calls that are up, one after the other.
struct Up {
    sender: mpsc::Sender<()>,
    receiver: mpsc::Receiver<()>,
}

impl Up {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(16);
        Self { sender, receiver }
    }

    /// When all are up, puts the clock forward.
    async fn wait(mut self, by: Duration) {
        drop(self.sender);
        for _ in 0..calls() {
            // None where there is no SIPp.
            if self.receiver.recv().await.is_none() {
                return;
            }
        }
        put_forward(by).await;
    }
}

/// SIPp calls us; the clock is put forward when every call is up; then the call ends like this.
async fn called_for<T>(name: &str, config: CallConfig, by: Duration, end: fn(Call) -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    let up = Up::new();
    let sender = up.sender.clone();
    let calls = called_by(name, config, move |mut call| {
        let sender = sender.clone();
        async move {
            takes(&mut call).await;
            sender.send(()).await.unwrap();
            end(call).await;
        }
    });
    tokio::join!(calls, up.wait(by));
}

/// As [`called_for`], with calls of ours.
async fn calls_for<T>(name: &str, by: Duration, end: fn(Call) -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    let up = Up::new();
    let sender = up.sender.clone();
    let calls = calls_to(name, timed(), move |mut call| {
        let sender = sender.clone();
        async move {
            call.answered().await.unwrap();
            sender.send(()).await.unwrap();
            end(call).await;
        }
    });
    tokio::join!(calls, up.wait(by));
}

async fn hung_up(mut call: Call) {
    is_hung_up(&mut call).await;
}

async fn expires(mut call: Call) {
    let end = call.ended().await;
    assert!(matches!(end, CallEnd::Expired), "{end:?}");
}

#[tokio::test]
async fn we_refresh_sipps_calls_by_update() {
    let config = CallConfig::default();
    called_for("uac_timer_update.xml", config, REFRESH, hung_up).await;
}

#[tokio::test]
async fn we_refresh_sipps_calls_by_re_invite_where_it_knows_no_update() {
    let config = CallConfig::default();
    called_for("uac_timer_reinvite.xml", config, REFRESH, hung_up).await;
}

#[tokio::test]
async fn we_refresh_our_calls_by_update() {
    calls_for("uas_timer_update.xml", REFRESH, hung_up).await;
}

#[tokio::test]
async fn we_refresh_our_calls_by_re_invite_where_sipp_knows_no_update() {
    calls_for("uas_timer_reinvite.xml", REFRESH, hung_up).await;
}

#[tokio::test]
async fn sipp_refreshes_its_calls_by_update_and_by_re_invite() {
    let config = CallConfig::default();
    called_by("uac_timer_refreshes.xml", config, refreshed_by_sipp).await;
}

#[tokio::test]
async fn sipp_refreshes_our_calls_by_update_and_by_re_invite() {
    calls_to("uas_timer_refreshes.xml", timed(), |mut call| async move {
        call.answered().await.unwrap();
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn calls_of_sipps_end_that_it_does_not_refresh() {
    let config = CallConfig::default();
    called_for("uac_timer_expires.xml", config, EXPIRY, expires).await;
}

#[tokio::test]
async fn calls_of_ours_end_that_sipp_does_not_refresh() {
    calls_for("uas_timer_expires.xml", EXPIRY, expires).await;
}

#[tokio::test]
async fn sipp_asks_for_a_longer_session_where_ours_is_to_be_longer() {
    let config = CallConfig::default();
    called_by("uac_timer_too_short.xml", config, |mut call| async move {
        takes(&mut call).await;
        is_hung_up(&mut call).await;
    })
    .await;
}

#[tokio::test]
async fn we_ask_for_a_longer_session_where_sipps_is_to_be_longer() {
    calls_to("uas_timer_too_short.xml", timed(), |mut call| async move {
        call.answered().await.unwrap();
        hangs_up(&mut call).await;
    })
    .await;
}

/// What refreshes the session alone is answered without us, by UPDATE and by re-INVITE.
async fn refreshed_by_sipp(mut call: Call) {
    takes(&mut call).await;
    is_hung_up(&mut call).await;
}
