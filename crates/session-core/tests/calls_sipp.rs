//! Calls with SIPp, over real UDP, both ways. Skipped where it is not installed, unless `SIPORA_REQUIRE_PEERS` is set.
//!
//! `SIPORA_CALLS` and `SIPORA_RATE` (calls a second) raise the load; the defaults leave room on a machine that does much else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

use std::net::UdpSocket;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sipora_session_core::{
    CallEnd, CallHandle, IncomingCalls, SessionCoordinator, SessionManagerBuilder, SipClient,
    Timers,
};

/// What is kept for 64 × T1 is gone sooner, and the test ends.
const T1: Duration = Duration::from_millis(250);

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

async fn client() -> (Arc<SessionCoordinator>, IncomingCalls) {
    let timers = Timers {
        t1: T1,
        ..Timers::default()
    };
    let built = SessionManagerBuilder::new()
        .with_bind_address([127, 0, 0, 1].into())
        .with_identity("sip:alice@127.0.0.1")
        .with_timers(timers)
        .enable_sip_client()
        .build_with_calls()
        .await;
    built.unwrap()
}

/// Waits until nothing is left of any call: no call, no request, no transaction.
async fn forgets_everything(client: &SessionCoordinator, calls: u64) {
    let mut left = (0, 0, 0, 0);
    for _ in 0..2_400 {
        let (ours, below) = (client.call_metrics(), client.metrics());
        left = (
            ours.calls,
            ours.exchanges,
            below.server_transactions,
            below.client_transactions + below.requests,
        );
        if left == (0, 0, 0, 0) {
            assert_eq!((ours.begun, ours.ended), (calls, calls));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("calls, requests, server and client transactions left: {left:?}");
}

/// SIPp, killed when the test is over.
struct Sipp(Child);

impl Sipp {
    /// `None` where it is not installed.
    fn start(arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new("sipp");
        // A call that goes wrong fails and is counted, rather than waited for.
        command
            .args(arguments)
            .args(["-i", "127.0.0.1", "-nostdin", "-recv_timeout", "100000"])
            .args(["-timeout", "400", "-timeout_error"])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) => {
                assert!(
                    std::env::var_os("SIPORA_REQUIRE_PEERS").is_none(),
                    "sipp cannot be run ({error}), and SIPORA_REQUIRE_PEERS is set; scripts/install-test-peers.sh installs it"
                );
                eprintln!("skipped: sipp cannot be run ({error})");
                None
            }
        }
    }

    async fn ends(mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| value.parse().unwrap())
}

fn calls() -> u64 {
    number("SIPORA_CALLS", 200)
}

fn rate() -> u64 {
    number("SIPORA_RATE", 40)
}

async fn talks(mut call: CallHandle) {
    call.answered().await.unwrap();
    call.hang_up().await.unwrap();
    let end = call.ended().await;
    assert!(matches!(end, CallEnd::HungUp), "{end:?}");
}

#[tokio::test]
async fn sipps_uas_answers_every_call_of_ours_and_nothing_is_kept() {
    let (client, _calls) = client().await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let arguments = [
        "-sn",
        "uas",
        "-p",
        &port.to_string(),
        "-m",
        &calls().to_string(),
    ];
    let Some(sipp) = Sipp::start(&arguments) else {
        return;
    };
    // It listens once nobody else can.
    while UdpSocket::bind(("127.0.0.1", port)).is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut clock = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate()).unwrap());
    let uri = format!("sip:service@127.0.0.1:{port}");
    let mut talking = Vec::new();
    for _ in 0..calls() {
        clock.tick().await;
        let call = client.call(&uri, Some(SDP)).await.unwrap();
        talking.push(tokio::spawn(talks(call)));
    }
    for talk in talking {
        talk.await.unwrap();
    }
    assert!(
        sipp.ends().await.success(),
        "SIPp counted calls that failed"
    );
    forgets_everything(&client, calls()).await;
    client.shutdown().await;
}

#[tokio::test]
async fn sipps_uac_has_every_call_answered_and_nothing_is_kept() {
    let (client, mut incoming) = client().await;
    tokio::spawn(async move {
        while let Some(mut call) = incoming.next().await {
            tokio::spawn(async move {
                call.ring().await.unwrap();
                call.accept(SDP).await.unwrap();
                call.ended().await
            });
        }
    });
    let us = client.local_address().to_string();
    let (calls, rate) = (calls().to_string(), rate().to_string());
    let Some(sipp) = Sipp::start(&["-sn", "uac", &us, "-m", &calls, "-r", &rate]) else {
        return;
    };
    assert!(
        sipp.ends().await.success(),
        "SIPp counted calls that failed"
    );
    forgets_everything(&client, calls.parse().unwrap()).await;
    client.shutdown().await;
}
