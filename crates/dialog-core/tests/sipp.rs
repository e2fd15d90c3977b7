//! Calls with SIPp, over real UDP. Skipped where SIPp is not installed, unless `SIPORA_REQUIRE_PEERS` is set.
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
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use sipora_dialog_core::{
    Body, Call, CallConfig, CallEnd, CallEvent, IncomingCalls, Invite, UnifiedDialogApi,
};
use sipora_message::{StatusCode, Uri};
use sipora_transaction_core::{Endpoint, EndpointConfig};
use sipora_transport::Transport;

const T1: Duration = Duration::from_millis(250);

struct Agent {
    dialogs: UnifiedDialogApi,
    endpoint: Endpoint,
    port: u16,
}

async fn agent() -> (Agent, IncomingCalls) {
    let mut settings = EndpointConfig::default();
    // What is kept for 64*T1 is gone sooner, and the test ends.
    settings.transactions.timers.t1 = T1;
    let mut config = CallConfig::default();
    config.t1 = T1;
    let mut builder = Endpoint::builder()
        .config(settings)
        .listen(Transport::Udp, "127.0.0.1:0".parse().unwrap());
    let (dialogs, incoming) = UnifiedDialogApi::add_with_calls(&mut builder, config);
    let endpoint = builder.build().await.unwrap();
    let port = endpoint.handle().local_addresses()[0].1.port();
    let agent = Agent {
        dialogs,
        endpoint,
        port,
    };
    (agent, incoming)
}

impl Agent {
    async fn calls(&self, port: u16) -> Call {
        let uri = |user: &str, port: u16| Uri::parse(&format!("sip:{user}@127.0.0.1:{port}"));
        let (to, from) = (
            uri("service", port).unwrap(),
            uri("alice", self.port).unwrap(),
        );
        let invite = Invite::new(to, from.clone(), from).body(sdp());
        self.dialogs.invite(invite, None).await.unwrap()
    }

    /// Waits until nothing is left of any call: no call, no request, no transaction.
    async fn forgets_everything(&self, calls: u64) {
        let mut left = (0, 0, 0, 0);
        for _ in 0..2_400 {
            let (ours, below) = (
                self.dialogs.call_metrics(),
                self.endpoint.handle().metrics(),
            );
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
            // Metrics are as of the last turn: the endpoint is made to take one.
            let _ = self.dialogs.is_closed();
        }
        panic!("calls, requests, server and client transactions left: {left:?}");
    }
}

fn sdp() -> Body {
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    Body::new("application/sdp", sdp)
}

/// SIPp, killed when the test is over.
struct Sipp(Child);

impl Sipp {
    /// `None` where it is not installed.
    fn start(arguments: &[String]) -> Option<Self> {
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

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn scenario(name: &str) -> String {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.extend(["tests", "scenarios", name]);
    path.to_str().unwrap().to_owned()
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// What we do with a call of SIPp's.
#[derive(Clone, Copy)]
enum Way {
    /// It rings, until it is cancelled.
    Rings,
    /// It is answered as the example does.
    Accepts,
    /// It has early media, reliably, and is accepted.
    EarlyMedia,
}

/// Answers each call until the test ends.
fn answering(mut incoming: IncomingCalls, way: Way) {
    tokio::spawn(async move {
        while let Some(mut call) = incoming.next().await {
            tokio::spawn(async move {
                // A caller that was faster has cancelled.
                let _ = match way {
                    Way::Rings | Way::Accepts => call.ring().await,
                    Way::EarlyMedia => {
                        let status = StatusCode::SESSION_PROGRESS;
                        call.progress_reliably(status, Some(sdp())).await
                    }
                };
                let _ = match way {
                    Way::Rings => Ok(()),
                    Way::Accepts => call.accept(sdp()).await,
                    Way::EarlyMedia => call.accept(None).await,
                };
                loop {
                    match call.next().await {
                        Some(CallEvent::Ended(end)) => return end,
                        Some(CallEvent::Offered(_)) => call.answer(sdp()).await.unwrap(),
                        Some(_) => {}
                        None => panic!("it had ended before"),
                    }
                }
            });
        }
    });
}

async fn called_by(mut arguments: Vec<String>, way: Way) {
    let (agent, incoming) = agent().await;
    answering(incoming, way);
    arguments.push(format!("127.0.0.1:{}", agent.port));
    arguments.extend(strings(&[
        "-m",
        &calls().to_string(),
        "-r",
        &rate().to_string(),
    ]));
    let Some(sipp) = Sipp::start(&arguments) else {
        return;
    };
    assert!(
        sipp.ends().await.success(),
        "SIPp counted calls that failed"
    );
    agent.forgets_everything(calls()).await;
    agent.endpoint.shutdown().await;
}

async fn calls_to(arguments: Vec<String>, talk: fn(Call) -> tokio::task::JoinHandle<()>) {
    let (agent, _incoming) = agent().await;
    let port = free_port();
    let mut arguments = arguments;
    arguments.extend(strings(&[
        "-p",
        &port.to_string(),
        "-m",
        &calls().to_string(),
    ]));
    let Some(sipp) = Sipp::start(&arguments) else {
        return;
    };
    // It listens once nobody else can.
    while UdpSocket::bind(("127.0.0.1", port)).is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pause = Duration::from_secs(1) / u32::try_from(rate()).unwrap();
    let mut clock = tokio::time::interval(pause);
    let mut talks = Vec::new();
    for _ in 0..calls() {
        clock.tick().await;
        talks.push(talk(agent.calls(port).await));
    }
    for talk in talks {
        talk.await.unwrap();
    }
    assert!(
        sipp.ends().await.success(),
        "SIPp counted calls that failed"
    );
    agent.forgets_everything(calls()).await;
    agent.endpoint.shutdown().await;
}

#[tokio::test]
async fn sipps_uac_calls_us_and_no_call_fails() {
    called_by(strings(&["-sn", "uac"]), Way::Accepts).await;
}

#[tokio::test]
async fn sipps_uac_cancels_and_no_call_fails() {
    called_by(strings(&["-sf", &scenario("uac_cancel.xml")]), Way::Rings).await;
}

#[tokio::test]
async fn sipps_uac_acknowledges_early_media_and_no_call_fails() {
    called_by(
        strings(&["-sf", &scenario("uac_prack.xml")]),
        Way::EarlyMedia,
    )
    .await;
}

#[tokio::test]
async fn sipps_uac_changes_the_session_by_update_and_no_call_fails() {
    called_by(strings(&["-sf", &scenario("uac_update.xml")]), Way::Accepts).await;
}

#[tokio::test]
async fn we_change_the_session_by_update_and_no_call_fails() {
    let talk = |mut call: Call| {
        tokio::spawn(async move {
            call.answered().await.unwrap();
            call.update(Some(sdp())).await.unwrap();
            match call.next().await {
                Some(CallEvent::UpdateAccepted(response)) => assert!(!response.body().is_empty()),
                other => panic!("{other:?}"),
            }
            call.hang_up().await.unwrap();
            let end = call.ended().await;
            assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        })
    };
    calls_to(strings(&["-sf", &scenario("uas_update.xml")]), talk).await;
}

#[tokio::test]
async fn we_acknowledge_sipps_early_media_and_no_call_fails() {
    let talk = |mut call: Call| {
        tokio::spawn(async move {
            match call.next().await {
                Some(CallEvent::Progress(response)) => assert!(!response.body().is_empty()),
                other => panic!("{other:?}"),
            }
            call.answered().await.unwrap();
            call.hang_up().await.unwrap();
            let end = call.ended().await;
            assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        })
    };
    calls_to(strings(&["-sf", &scenario("uas_prack.xml")]), talk).await;
}

#[tokio::test]
async fn we_call_sipps_uas_and_no_call_fails() {
    let talk = |mut call: Call| {
        tokio::spawn(async move {
            call.answered().await.unwrap();
            call.hang_up().await.unwrap();
            let end = call.ended().await;
            assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        })
    };
    calls_to(strings(&["-sn", "uas"]), talk).await;
}

#[tokio::test]
async fn we_cancel_calls_to_sipp_and_no_call_fails() {
    let talk = |mut call: Call| {
        tokio::spawn(async move {
            loop {
                match call.next().await {
                    Some(CallEvent::Progress(_)) => call.hang_up().await.unwrap(),
                    Some(CallEvent::Ended(end)) => {
                        assert!(matches!(end, CallEnd::Cancelled), "{end:?}");
                        return;
                    }
                    other => panic!("{other:?}"),
                }
            }
        })
    };
    calls_to(strings(&["-sf", &scenario("uas_cancelled.xml")]), talk).await;
}
