//! Calls with baresip, a phone, over real UDP: both ways, held, resumed and transferred by either, refused and cancelled. Skipped where it is not
//! installed, unless `SIPORA_REQUIRE_PEERS` is set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, CallOptions, Error, IncomingCalls, MediaDirection,
    SessionCoordinator, SessionManagerBuilder, SipClient, TransferReport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its first codec, and a port that nobody listens on.
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: nothing in {PATIENCE:?}"))
}

/// baresip without sound, which is told what to do over its `ctrl_tcp`; killed when the test is over.
struct Baresip {
    process: Child,
    folder: PathBuf,
    control: TcpStream,
    /// What it said that nobody has looked at.
    said: String,
}

impl Baresip {
    /// `None` where it is not installed.
    async fn start(name: &str) -> Option<Self> {
        if let Err(error) = Command::new("baresip").arg("-h").output() {
            assert!(
                std::env::var_os("SIPORA_REQUIRE_PEERS").is_none(),
                "baresip cannot be run ({error}), and SIPORA_REQUIRE_PEERS is set; scripts/install-test-peers.sh installs it"
            );
            eprintln!("skipped: baresip cannot be run ({error})");
            return None;
        }
        let folder = format!("sipora-calls-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let control = free_port();
        let modules = ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules"];
        let modules = modules.into_iter().find(|path| Path::new(path).is_dir());
        let config = format!(
            "sip_listen 127.0.0.1:0\nnet_interface 127.0.0.1\ndns_server 127.0.0.1:9\n\
             audio_player aubridge,nil\naudio_source aubridge,nil\naudio_alert none\n\
             module_path {}\nmodule g711.so\nmodule aubridge.so\n\
             module_app account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
             ctrl_tcp_listen 127.0.0.1:{control}\n",
            modules.expect("baresip comes with its modules")
        );
        let account = "<sip:phone@127.0.0.1>;regint=0;answermode=manual;audio_codecs=pcmu\n";
        let files = [
            ("config", config.as_str()),
            ("accounts", account),
            ("contacts", ""),
            ("uuid", ""),
        ];
        for (file, text) in files {
            std::fs::write(folder.join(file), text).unwrap();
        }
        // `-t` ends it should this test be killed.
        let process = Command::new("baresip")
            .args(["-4", "-t", "300", "-f"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let connecting = async {
            loop {
                match TcpStream::connect(("127.0.0.1", control)).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        Some(Self {
            process,
            folder,
            control: in_time("its control", connecting).await,
            said: String::new(),
        })
    }

    /// Gives it a command: JSON in a netstring.
    async fn does(&mut self, command: &str, parameter: &str) {
        let json = format!(r#"{{"command":"{command}","params":"{parameter}"}}"#);
        let netstring = format!("{}:{json},", json.len());
        self.control.write_all(netstring.as_bytes()).await.unwrap();
    }

    /// Waits until it tells of an event of this type, and passes over what came before.
    async fn tells(&mut self, event: &str) {
        let wanted = format!(r#""type":"{event}""#);
        let reading = async {
            loop {
                if let Some(at) = self.said.find(&wanted) {
                    self.said.drain(..at + wanted.len());
                    return;
                }
                let mut buffer = [0; 4096];
                let length = self.control.read(&mut buffer).await.unwrap();
                assert!(length > 0, "baresip has ended: {}", self.said);
                self.said
                    .push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        };
        in_time(event, reading).await;
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

struct Us {
    client: Arc<SessionCoordinator>,
    calls: IncomingCalls,
    phone: Baresip,
}

async fn client() -> (Arc<SessionCoordinator>, IncomingCalls) {
    let built = SessionManagerBuilder::new()
        .with_bind_address([127, 0, 0, 1].into())
        .with_identity("sip:us@127.0.0.1")
        .with_transfers()
        .enable_sip_client()
        .build_with_calls()
        .await;
    built.unwrap()
}

/// Starts both.
async fn both(name: &str) -> Option<Us> {
    let phone = Baresip::start(name).await?;
    let (client, calls) = client().await;
    Some(Us {
        client,
        calls,
        phone,
    })
}

impl Us {
    /// baresip calls; gives its call, which rings here.
    async fn are_called(&mut self) -> CallHandle {
        let uri = format!("sip:us@{}", self.client.local_address());
        self.phone.does("dial", &uri).await;
        let call = in_time("its INVITE", self.calls.next()).await.unwrap();
        call.ring().await.unwrap();
        self.phone.tells("CALL_RINGING").await;
        call
    }

    /// Where baresip can be called, as the Contact of a call of its own says, which is refused.
    async fn find(&mut self) -> String {
        let call = self.are_called().await;
        let invite = call.invite().unwrap();
        let contact = invite.headers().contact().unwrap().unwrap();
        let uri = contact.uri().as_str().to_owned();
        call.reject(sipora_session_core::StatusCode::BUSY_HERE)
            .await
            .unwrap();
        self.phone.tells("CALL_CLOSED").await;
        uri
    }

    async fn call(&mut self, uri: &str) -> CallHandle {
        let mut call = self.client.call(uri, Some(SDP)).await.unwrap();
        self.phone.tells("CALL_INCOMING").await;
        let rings = next(&mut call).await;
        assert!(
            matches!(&rings, CallEvent::Progress(answer) if answer.status().as_u16() == 180),
            "{rings:?}"
        );
        call
    }

    async fn end(self) {
        let metrics = self.client.call_metrics();
        assert_eq!((metrics.calls, metrics.begun), (0, metrics.ended));
        self.client.shutdown().await;
    }
}

async fn next(call: &mut CallHandle) -> CallEvent {
    in_time("an event", call.next()).await.expect("no end yet")
}

/// Goes along with what baresip wants, and gives the direction that it offers.
async fn goes_along(call: &mut CallHandle) -> MediaDirection {
    let wish = next(call).await;
    assert!(matches!(wish, CallEvent::ChangeRequested(_)), "{wish:?}");
    let offered = MediaDirection::of(wish.sdp().unwrap());
    call.accept(&offered.reversed().in_sdp(SDP)).await.unwrap();
    let up = next(call).await;
    assert!(matches!(up, CallEvent::Acknowledged(_)), "{up:?}");
    offered
}

async fn changed(call: &mut CallHandle) -> MediaDirection {
    let event = next(call).await;
    assert!(matches!(event, CallEvent::Changed(_)), "{event:?}");
    MediaDirection::of(event.sdp().unwrap())
}

/// The last that is told of a transfer.
async fn told(call: &mut CallHandle) -> TransferReport {
    loop {
        match next(call).await {
            CallEvent::TransferProgress(report) if report.is_over => return report,
            CallEvent::TransferProgress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A call of ours with another program of this crate, both sides of it.
async fn up(us: &Us, there: &str, others_calls: &mut IncomingCalls) -> (CallHandle, CallHandle) {
    let mut ours = us.client.call(there, Some(SDP)).await.unwrap();
    let mut theirs = in_time("our INVITE", others_calls.next()).await.unwrap();
    theirs.accept(SDP).await.unwrap();
    in_time("its 200", ours.answered()).await.unwrap();
    let acknowledged = next(&mut theirs).await;
    assert!(matches!(acknowledged, CallEvent::Acknowledged(_)));
    (ours, theirs)
}

#[tokio::test]
async fn baresip_calls_us_holds_resumes_and_hangs_up() {
    let Some(mut us) = both("calls").await else {
        return;
    };
    let mut call = us.are_called().await;
    assert_eq!(call.remote_uri(), "sip:phone@127.0.0.1");
    assert!(call.sdp().is_some_and(|offer| offer.contains("PCMU")));
    call.accept(SDP).await.unwrap();
    us.phone.tells("CALL_ESTABLISHED").await;
    assert!(matches!(next(&mut call).await, CallEvent::Acknowledged(_)));
    us.phone.does("hold", "").await;
    assert!(!goes_along(&mut call).await.receives());
    us.phone.does("resume", "").await;
    assert_eq!(goes_along(&mut call).await, MediaDirection::SendRecv);
    us.phone.does("hangup", "").await;
    let end = in_time("the end", call.ended()).await;
    assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
    us.end().await;
}

#[tokio::test]
async fn we_call_baresip_hold_resume_and_hang_up() {
    let Some(mut us) = both("called").await else {
        return;
    };
    let uri = us.find().await;
    let mut call = us.call(&uri).await;
    us.phone.does("accept", "").await;
    let answer = in_time("its answer", call.answered()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    us.phone.tells("CALL_ESTABLISHED").await;
    call.hold().await.unwrap();
    assert!(!changed(&mut call).await.sends());
    call.resume().await.unwrap();
    assert_eq!(changed(&mut call).await, MediaDirection::SendRecv);
    call.hang_up().await.unwrap();
    us.phone.tells("CALL_CLOSED").await;
    assert!(matches!(
        in_time("the end", call.ended()).await,
        CallEnd::HungUp
    ));
    us.end().await;
}

#[tokio::test]
async fn either_gives_up_before_the_call_is_answered() {
    let Some(mut us) = both("given-up").await else {
        return;
    };
    // baresip refuses ours, and cancels its own.
    let uri = us.find().await;
    let mut call = us.call(&uri).await;
    us.phone.does("hangup", "").await;
    match in_time("its refusal", call.answered()).await {
        Err(Error::Rejected(answer)) => assert!(answer.status().as_u16() >= 400, "{answer:?}"),
        other => panic!("{other:?}"),
    }
    let mut call = us.are_called().await;
    us.phone.does("hangup", "").await;
    let end = in_time("its CANCEL", call.ended()).await;
    assert!(matches!(end, CallEnd::PeerCancelled(_)), "{end:?}");
    // We refuse one of its own in `find`; we cancel ours.
    let mut call = us.call(&uri).await;
    call.hang_up().await.unwrap();
    us.phone.tells("CALL_CLOSED").await;
    let end = in_time("the end", call.ended()).await;
    assert!(matches!(end, CallEnd::Cancelled), "{end:?}");
    us.end().await;
}

#[tokio::test]
async fn we_transfer_baresip_and_baresip_transfers_us() {
    let Some(mut us) = both("transferred").await else {
        return;
    };
    let (other, mut others_calls) = client().await;
    let there = format!("sip:other@{}", other.local_address());

    // baresip calls us, and is transferred.
    let mut call = us.are_called().await;
    call.accept(SDP).await.unwrap();
    us.phone.tells("CALL_ESTABLISHED").await;
    assert!(matches!(next(&mut call).await, CallEvent::Acknowledged(_)));
    assert!(call.transfer(&there).await.unwrap().is_success());
    let mut new = in_time("its new call", others_calls.next()).await.unwrap();
    assert_eq!(new.remote_uri(), "sip:phone@127.0.0.1");
    new.accept_replacing(SDP).await.unwrap();
    us.phone.tells("CALL_ESTABLISHED").await;
    let told = told(&mut call).await;
    assert!(told.has_succeeded(), "{told:?}");
    // baresip may hang up once it is in the new call; else we do.
    let _ = call.hang_up().await;
    in_time("the end", call.ended()).await;
    new.hang_up().await.unwrap();
    in_time("the end", new.ended()).await;

    // It calls us again, and transfers us.
    let mut call = us.are_called().await;
    call.accept(SDP).await.unwrap();
    us.phone.tells("CALL_ESTABLISHED").await;
    assert!(matches!(next(&mut call).await, CallEvent::Acknowledged(_)));
    us.phone.does("transfer", &there).await;
    let wish = loop {
        match next(&mut call).await {
            CallEvent::TransferRequested(wish) => break wish,
            // It holds first.
            CallEvent::ChangeRequested(_) => call.accept(SDP).await.unwrap(),
            CallEvent::Acknowledged(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wish.target().unwrap().as_str(), there);
    let mut new = call
        .follow(&wish, CallOptions::new().with_sdp(SDP))
        .await
        .unwrap();
    let taking = async {
        let call = others_calls.next().await.unwrap();
        call.accept(SDP).await.unwrap();
        call
    };
    let (answered, mut taken) = tokio::join!(new.answered(), in_time("our call", taking));
    assert!(answered.is_ok());
    // baresip hangs up when it hears of the 200.
    let end = in_time("the end", call.ended()).await;
    assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
    new.hang_up().await.unwrap();
    in_time("the end", new.ended()).await;
    in_time("the end", taken.ended()).await;
    other.shutdown().await;
    us.end().await;
}

/// baresip 1.0 knows no Replaces. As the one who is to be replaced it says so (420); as the one who is sent on it leaves the header of
/// Refer-To in the Request-URI, which gets 400. Either way the transfer comes to nothing, is told so, and both calls go on; a baresip
/// that has learnt it makes the new call.
#[tokio::test]
async fn an_attended_transfer_with_baresip_succeeds_or_leaves_both_calls_as_they_were() {
    let Some(mut us) = both("attended").await else {
        return;
    };
    let (other, mut others_calls) = client().await;
    let there = format!("sip:other@{}", other.local_address());
    let mut call = us.are_called().await;
    call.accept(SDP).await.unwrap();
    us.phone.tells("CALL_ESTABLISHED").await;
    assert!(matches!(next(&mut call).await, CallEvent::Acknowledged(_)));
    let (mut ours, mut theirs) = up(&us, &there, &mut others_calls).await;

    // It is the target: the other is sent on to it.
    let follows = async {
        let CallEvent::TransferRequested(wish) = next(&mut theirs).await else {
            panic!("no transfer");
        };
        let options = CallOptions::new().with_sdp(SDP);
        let mut new = theirs.follow(&wish, options).await.unwrap();
        in_time("what it says", new.answered()).await.map(|_| new)
    };
    let (asked, new) = tokio::join!(ours.transfer_to(&call), follows);
    assert!(asked.unwrap().is_success());
    let report = told(&mut ours).await;
    assert_eq!(report.has_succeeded(), new.is_ok(), "{report:?}");
    match new {
        Ok(new) => {
            // It has taken our place.
            new.hang_up().await.unwrap();
            in_time("the end", call.ended()).await;
        }
        Err(error) => {
            assert!(matches!(error, Error::Rejected(_)), "{error:?}");
            // It is sent on to the other.
            assert!(call.transfer_to(&ours).await.unwrap().is_success());
            let replacing = async {
                let new = others_calls.next().await.unwrap();
                assert_eq!(new.replaces(), Some(theirs.key()));
                new.accept_replacing(SDP).await.unwrap();
            };
            let report = tokio::select! {
                report = told(&mut call) => report,
                () = async { replacing.await; std::future::pending().await } => unreachable!(),
            };
            if !report.has_succeeded() {
                // Nothing has happened to either call.
                for call in [&mut call, &mut ours] {
                    call.hold().await.unwrap();
                }
                let wish = next(&mut theirs).await;
                assert!(matches!(wish, CallEvent::ChangeRequested(_)), "{wish:?}");
                theirs.accept(SDP).await.unwrap();
                assert!(matches!(next(&mut ours).await, CallEvent::Changed(_)));
                assert!(matches!(next(&mut call).await, CallEvent::Changed(_)));
            }
            call.hang_up().await.unwrap();
            in_time("the end", call.ended()).await;
        }
    }
    // It may have ended with the transfer.
    let _ = ours.hang_up().await;
    in_time("the end", ours.ended()).await;
    in_time("the end", theirs.ended()).await;
    other.shutdown().await;
    us.end().await;
}
