//! SIPp, an agent of ours, and the calls between them.

use std::future::Future;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sipora_dialog_core::{
    Body, Call, CallConfig, CallEnd, CallEvent, IncomingCalls, Invite, UnifiedDialogApi,
};
use sipora_message::Uri;
use sipora_transaction_core::{Endpoint, EndpointBuilder, EndpointConfig};
use sipora_transport::Transport;
use tokio::task::JoinSet;

/// Longer than an answer takes on a busy machine, as in the scenarios: SIPp fails calls in which something comes twice that it has
/// passed.
const T1: Duration = Duration::from_secs(5);

/// As the usual one is to T1.
const T2: Duration = T1.saturating_mul(8);

/// How long it waits for a message before it fails the call, so that it is counted and not waited for.
const PATIENCE: &str = "100000";

pub struct Agent {
    pub dialogs: UnifiedDialogApi,
    pub endpoint: Endpoint,
    pub port: u16,
}

impl Agent {
    pub async fn start(config: CallConfig) -> (Self, IncomingCalls) {
        Self::start_beside(config, |_| ()).await
    }

    /// Starts it behind another user of the endpoint.
    pub async fn start_beside(
        mut config: CallConfig,
        add: impl FnOnce(&mut EndpointBuilder),
    ) -> (Self, IncomingCalls) {
        let mut settings = EndpointConfig::default();
        settings.transactions.timers.t1 = T1;
        settings.transactions.timers.t2 = T2;
        (config.t1, config.t2) = (T1, T2);
        let mut builder = Endpoint::builder()
            .config(settings)
            .listen(Transport::Udp, "127.0.0.1:0".parse().unwrap());
        add(&mut builder);
        let (dialogs, incoming) = UnifiedDialogApi::add_with_calls(&mut builder, config);
        let endpoint = builder.build().await.unwrap();
        let port = endpoint.handle().local_addresses()[0].1.port();
        let agent = Self {
            dialogs,
            endpoint,
            port,
        };
        (agent, incoming)
    }

    pub fn uri(&self) -> Uri {
        Uri::parse(&format!("sip:alice@127.0.0.1:{}", self.port)).unwrap()
    }

    /// An INVITE without an offer to whom listens on `port`.
    pub fn invite(&self, port: u16) -> Invite {
        Invite::new(service(port), self.uri(), self.uri())
    }

    pub async fn calls(&self, invite: Invite) -> Call {
        self.dialogs.invite(invite, None).await.unwrap()
    }

    /// Waits until nothing is left of any call, no call, no request, no transaction, and ends.
    pub async fn forgets_everything(self, calls: u64) {
        let mut left = (0, 0, 0, 0);
        for round in 0..2_400 {
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
                self.endpoint.shutdown().await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            // Calls end because somebody ends them. What is left after that waits for copies, for 64*T1.
            if ours.calls == 0 && round % 20 == 19 {
                put_forward(64 * T1).await;
            }
        }
        panic!("calls, requests, server and client transactions left: {left:?}");
    }
}

/// Puts the clock forward, for everything in this process.
pub async fn put_forward(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

/// Who listens on a port.
pub fn service(port: u16) -> Uri {
    Uri::parse(&format!("sip:service@127.0.0.1:{port}")).unwrap()
}

pub fn sdp() -> Body {
    let sdp = "v=0\r\no=sipora 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    Body::new("application/sdp", sdp)
}

/// SIPp, killed when the test is over.
pub struct Sipp(Child);

impl Sipp {
    /// `None` where it is not installed.
    pub fn start(arguments: &[String]) -> Option<Self> {
        let mut command = Command::new("sipp");
        command
            .args(arguments)
            .args(["-i", "127.0.0.1", "-nostdin", "-recv_timeout", PATIENCE])
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

    /// Waits until it has had all its calls, of which none may fail.
    async fn ends(mut self) {
        while !self.has_ended() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn has_ended(&mut self) -> bool {
        let status = self.0.try_wait().unwrap();
        assert!(
            status.is_none_or(|status| status.success()),
            "SIPp counted calls that failed, or cannot read its scenario"
        );
        status.is_some()
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

/// How many calls there are in a test.
pub fn calls() -> u64 {
    number("SIPORA_CALLS", 100)
}

fn rate() -> u64 {
    number("SIPORA_RATE", 50)
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What SIPp does: one of its own scenarios, or one of `tests/scenarios`.
pub fn scenario(name: &str) -> Vec<String> {
    let Some(file) = name.strip_suffix(".xml") else {
        return strings(&["-sn", name]);
    };
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.extend(["tests", "scenarios", file]);
    path.set_extension("xml");
    strings(&["-sf", path.to_str().unwrap()])
}

/// SIPp calls us; `talk` is what we do with each call, to its end.
pub async fn called_by<F, T>(name: &str, config: CallConfig, talk: F)
where
    F: Fn(Call) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let (agent, incoming) = Agent::start(config).await;
    called(agent, incoming, name, calls(), talk).await;
}

/// As [`called_by`], with an agent and a number of calls.
pub async fn called<F, T>(
    agent: Agent,
    mut incoming: IncomingCalls,
    name: &str,
    calls: u64,
    talk: F,
) where
    F: Fn(Call) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let mut arguments = scenario(name);
    arguments.push(format!("127.0.0.1:{}", agent.port));
    let (count, rate) = (calls.to_string(), rate().to_string());
    arguments.extend(strings(&["-m", &count, "-r", &rate]));
    let Some(sipp) = Sipp::start(&arguments) else {
        return;
    };
    let mut talks = JoinSet::new();
    let taking = async {
        for _ in 0..calls {
            talks.spawn(talk(incoming.next().await.unwrap()));
        }
        while let Some(talk) = talks.join_next().await {
            talk.unwrap();
        }
    };
    tokio::join!(taking, sipp.ends());
    agent.forgets_everything(calls).await;
}

/// We call SIPp, with an offer; `talk` is what we do with each call, to its end.
pub async fn calls_to<F, T>(name: &str, config: CallConfig, talk: F)
where
    F: Fn(Call) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let begin = async |agent: &Agent, port| agent.calls(agent.invite(port).body(sdp())).await;
    calling(name, config, calls(), begin, talk).await;
}

/// As [`calls_to`], with a number of calls, and how they begin: with SIPp on this port.
pub async fn calling<F, T>(
    name: &str,
    config: CallConfig,
    calls: u64,
    begin: impl AsyncFn(&Agent, u16) -> Call,
    talk: F,
) where
    F: Fn(Call) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let Some((sipp, port)) = listening(name, calls).await else {
        return;
    };
    let (agent, _incoming) = Agent::start(config).await;
    let making = async {
        let pause = Duration::from_secs(1) / u32::try_from(rate()).unwrap();
        let mut clock = tokio::time::interval(pause);
        let mut talks = JoinSet::new();
        for _ in 0..calls {
            clock.tick().await;
            talks.spawn(talk(begin(&agent, port).await));
        }
        while let Some(talk) = talks.join_next().await {
            talk.unwrap();
        }
    };
    tokio::join!(making, sipp.ends());
    agent.forgets_everything(calls).await;
}

/// SIPp as it waits for this many calls, and the port that it does so on.
async fn listening(name: &str, calls: u64) -> Option<(Sipp, u16)> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let mut arguments = scenario(name);
    let (number, count) = (port.to_string(), calls.to_string());
    arguments.extend(strings(&["-p", &number, "-m", &count]));
    let mut sipp = Sipp::start(&arguments)?;
    // It listens once nobody else can.
    while UdpSocket::bind(("127.0.0.1", port)).is_ok() && !sipp.has_ended() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some((sipp, port))
}

/// The call goes on until the peer hangs up, and nothing else happens in it but what is passed over.
pub async fn is_hung_up(call: &mut Call) {
    match call.next().await {
        Some(CallEvent::Ended(CallEnd::PeerHungUp(_))) => {}
        other => panic!("{other:?}"),
    }
}

/// We hang up, and that is how it ends.
pub async fn hangs_up(call: &mut Call) {
    call.hang_up().await.unwrap();
    match call.next().await {
        Some(CallEvent::Ended(CallEnd::HungUp)) => {}
        other => panic!("{other:?}"),
    }
}

/// The ACK to our 2xx comes next; gives the length of its body.
pub async fn is_acknowledged(call: &mut Call) -> usize {
    match call.next().await {
        Some(CallEvent::Acknowledged(ack)) => ack.body().len(),
        other => panic!("{other:?}"),
    }
}

/// It rings, and is accepted with a description and acknowledged.
pub async fn takes(call: &mut Call) -> usize {
    call.ring().await.unwrap();
    call.accept(sdp()).await.unwrap();
    is_acknowledged(call).await
}
