//! Phones in terminals call each other: processes of the program, on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, MediaDirection, SessionCoordinator, SessionManagerBuilder,
    SipClient,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Long enough for a debug build on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where nobody listens.
fn closed_port() -> SocketAddr {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.local_addr().unwrap()
}

struct Terminal {
    process: Child,
    keyboard: ChildStdin,
    screen: Lines<BufReader<ChildStdout>>,
    uri: String,
}

impl Terminal {
    async fn open(user: &str) -> Terminal {
        let mut process = Command::new(env!("CARGO_BIN_EXE_call"))
            .arg(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut terminal = Terminal {
            keyboard: process.stdin.take().unwrap(),
            screen: BufReader::new(process.stdout.take().unwrap()).lines(),
            process,
            uri: String::new(),
        };
        let line = terminal.read().await;
        let (_, at) = line.split_once(" waits at ").expect("where it waits");
        terminal.uri = at.split(';').next().unwrap().to_owned();
        terminal
    }

    async fn types(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.keyboard.write_all(line.as_bytes()).await.unwrap();
    }

    async fn read(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.screen.next_line()).await;
        line.expect("a line in time")
            .unwrap()
            .expect("a line before the end")
    }

    async fn wants_to_hold(&mut self) -> String {
        self.types("hold").await;
        let line = self.read().await;
        assert!(line == "held" || line.starts_with("not done: "), "{line}");
        line
    }

    async fn shows(&mut self, expected: &str) {
        assert_eq!(self.read().await, expected);
    }

    async fn quits(mut self) {
        self.types("quit").await;
        self.ends().await;
    }

    #[cfg(unix)]
    async fn is_told_to_end(&self) {
        let process = self.process.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-TERM", &process]).status();
        assert!(kill.await.unwrap().success());
    }

    async fn ends(mut self) {
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        assert!(status.expect("an end in time").unwrap().success());
    }
}

async fn two() -> (Terminal, Terminal) {
    let (mut alice, mut bob) = (Terminal::open("alice").await, Terminal::open("bob").await);
    let uri = bob.uri.clone();
    alice.types(&format!("call {uri}")).await;
    alice.shows(&format!("calling {uri}")).await;
    bob.shows("sip:alice@127.0.0.1 calls; answer?").await;
    alice.shows("180 Ringing").await;
    (alice, bob)
}

#[tokio::test]
async fn a_call_is_answered_held_resumed_and_hung_up() {
    let (mut alice, mut bob) = two().await;
    bob.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    bob.shows("the call is up").await;
    alice.types("hold").await;
    bob.shows("the peer holds").await;
    alice.shows("held").await;
    alice.types("resume").await;
    bob.shows("the peer resumes").await;
    alice.shows("resumed").await;
    // What he has answered he has to see acknowledged before he can ask for something himself.
    while bob.wants_to_hold().await != "held" {}
    alice.shows("the peer holds").await;
    bob.types("hang up").await;
    alice.shows("over: the peer hung up").await;
    bob.shows("over: hung up").await;
    bob.types("hold").await;
    bob.shows("there is no call").await;
    alice.quits().await;
    bob.quits().await;
}

#[tokio::test]
async fn a_call_is_refused_and_one_is_cancelled_by_the_end_of_the_program() {
    let (mut alice, mut bob) = two().await;
    bob.types("reject").await;
    bob.shows("over: refused").await;
    alice.shows("over: rejected: 486 Busy Here").await;
    let uri = bob.uri.clone();
    alice.types(&format!("call {uri}")).await;
    alice.shows(&format!("calling {uri}")).await;
    bob.shows("sip:alice@127.0.0.1 calls; answer?").await;
    alice.shows("180 Ringing").await;
    alice.types("quit").await;
    alice.shows("over: cancelled").await;
    alice.ends().await;
    bob.shows("over: cancelled").await;
    bob.quits().await;
}

#[tokio::test]
async fn a_caller_is_sent_elsewhere_and_a_second_one_hears_that_it_is_busy() {
    let (mut alice, mut bob) = two().await;
    let mut carol = Terminal::open("carol").await;
    bob.types(&format!("redirect {}", carol.uri)).await;
    bob.shows("over: refused").await;
    let place = carol.uri.clone();
    alice.shows(&format!("sent on to {place}")).await;
    carol.shows("sip:alice@127.0.0.1 calls; answer?").await;
    alice.shows("180 Ringing").await;
    bob.types(&format!("call {place}")).await;
    bob.shows(&format!("calling {place}")).await;
    bob.shows("over: rejected: 486 Busy Here").await;
    carol.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    alice.types("hang up").await;
    carol.shows("the call is up").await;
    carol.shows("over: the peer hung up").await;
    alice.shows("over: hung up").await;
    for phone in [alice, bob, carol] {
        phone.quits().await;
    }
}

/// What comes next, in any order.
async fn reads(terminal: &mut Terminal, lines: &[&str]) {
    let mut read = Vec::new();
    for _ in lines {
        read.push(terminal.read().await);
    }
    read.sort_unstable();
    let mut lines = lines.to_vec();
    lines.sort_unstable();
    assert_eq!(read, lines);
}

#[tokio::test]
async fn a_call_is_transferred_to_who_was_asked_before() {
    let (mut alice, mut bob) = two().await;
    let mut carol = Terminal::open("carol").await;
    bob.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    bob.shows("the call is up").await;
    let place = carol.uri.clone();
    alice.types(&format!("consult {place}")).await;
    carol.shows("sip:alice@127.0.0.1 calls; answer?").await;
    bob.shows("the peer holds").await;
    carol.types("answer").await;
    carol.shows("the call is up").await;
    let calling = format!("calling {place}");
    reads(
        &mut alice,
        &[&calling, "held", "180 Ringing", "200 OK: the call is up"],
    )
    .await;

    alice.types("transfer").await;
    let asked = bob.read().await;
    assert!(asked.ends_with("; follow or decline?"), "{asked}");
    bob.types("follow").await;
    carol
        .shows("sip:bob@127.0.0.1 takes the place of sip:alice@127.0.0.1")
        .await;
    reads(
        &mut alice,
        &[
            "the peer goes along",
            "transferred",
            "over: the peer hung up",
            "aside, over: hung up",
        ],
    )
    .await;
    let line = bob.read().await;
    assert!(line.starts_with("calling sip:"), "{line}");
    reads(
        &mut bob,
        &["200 OK: the call is up", "aside, over: the peer hung up"],
    )
    .await;
    carol
        .shows("aside, over: another has taken its place")
        .await;
    bob.types("hang up").await;
    bob.shows("over: hung up").await;
    carol.shows("over: the peer hung up").await;
    for phone in [alice, bob, carol] {
        phone.quits().await;
    }
}

/// Alice and bob in a call, and carol, whom alice has called to ask her; all of alice's lines are read.
async fn three() -> (Terminal, Terminal, Terminal) {
    let (mut alice, mut bob) = two().await;
    let carol = Terminal::open("carol").await;
    bob.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    bob.shows("the call is up").await;
    let mut carol = consults(&mut alice, carol, &["held"]).await;
    bob.shows("the peer holds").await;
    carol.shows("sip:alice@127.0.0.1 calls; answer?").await;
    (alice, bob, carol)
}

async fn consults(alice: &mut Terminal, carol: Terminal, besides: &[&str]) -> Terminal {
    alice.types(&format!("consult {}", carol.uri)).await;
    let calling = format!("calling {}", carol.uri);
    let lines = [&[calling.as_str(), "180 Ringing"], besides].concat();
    reads(alice, &lines).await;
    carol
}

fn back_with(bob: &Terminal) -> String {
    format!("back with {}, who is held", bob.uri)
}

async fn is_resumed(alice: &mut Terminal, bob: &mut Terminal) {
    alice.types("resume").await;
    bob.shows("the peer resumes").await;
    alice.shows("resumed").await;
}

#[tokio::test]
async fn after_a_consultation_that_is_refused_the_first_call_goes_on() {
    let (mut alice, mut bob, mut carol) = three().await;
    carol.types("reject").await;
    alice.shows("over: rejected: 486 Busy Here").await;
    alice.shows(&back_with(&bob)).await;
    is_resumed(&mut alice, &mut bob).await;
    alice.types("hang up").await;
    alice.shows("over: hung up").await;
    bob.shows("over: the peer hung up").await;
    for phone in [alice, bob, carol] {
        phone.quits().await;
    }
}

#[tokio::test]
async fn whoever_ends_a_consultation_the_first_call_can_consult_again() {
    let (mut alice, mut bob, mut carol) = three().await;
    alice.types("hang up").await;
    alice.shows("over: cancelled").await;
    alice.shows(&back_with(&bob)).await;
    carol.shows("over: cancelled").await;

    // It is held already.
    let mut carol = consults(&mut alice, carol, &[]).await;
    carol.shows("sip:alice@127.0.0.1 calls; answer?").await;
    carol.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    carol.shows("the call is up").await;
    carol.types("hang up").await;
    alice.shows("over: the peer hung up").await;
    alice.shows(&back_with(&bob)).await;
    carol.shows("over: hung up").await;

    let nobody = closed_port();
    let place = format!("sip:nobody@{nobody}");
    alice.types(&format!("consult {place}")).await;
    alice.shows(&format!("calling {place}")).await;
    let line = alice.read().await;
    assert!(line.starts_with("over: cannot reach the peer"), "{line}");
    alice.shows(&back_with(&bob)).await;

    let place = carol.uri.clone();
    alice.types(&format!("transfer {place}")).await;
    let asked = bob.read().await;
    assert!(asked.ends_with("; follow or decline?"), "{asked}");
    bob.types("follow").await;
    bob.shows(&format!("calling {place}")).await;
    alice.shows("the peer goes along").await;
    for phone in [alice, bob, carol] {
        drop(phone);
    }
}

#[tokio::test]
async fn after_an_attended_transfer_that_is_declined_and_the_end_of_the_consultation_the_first_call_goes_on()
 {
    let (mut alice, mut bob, mut carol) = three().await;
    carol.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    carol.shows("the call is up").await;
    alice.types("transfer").await;
    let asked = bob.read().await;
    assert!(asked.ends_with("; follow or decline?"), "{asked}");
    bob.types("decline").await;
    alice.shows("not done: rejected: 603 Decline").await;
    alice.types("hang up").await;
    alice.shows("over: hung up").await;
    alice.shows(&back_with(&bob)).await;
    carol.shows("over: the peer hung up").await;
    is_resumed(&mut alice, &mut bob).await;
    bob.types("hang up").await;
    bob.shows("over: hung up").await;
    alice.shows("over: the peer hung up").await;
    for phone in [alice, bob, carol] {
        phone.quits().await;
    }
}

#[tokio::test]
async fn who_is_sent_on_to_somebody_who_refuses_is_back_with_who_has_sent_them() {
    let (mut alice, mut bob) = two().await;
    let mut carol = Terminal::open("carol").await;
    bob.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    bob.shows("the call is up").await;
    alice.types(&format!("transfer {}", carol.uri)).await;
    let asked = bob.read().await;
    assert!(asked.ends_with("; follow or decline?"), "{asked}");
    bob.types("follow").await;
    bob.shows(&format!("calling {}", carol.uri)).await;
    alice.shows("the peer goes along").await;
    carol.shows("sip:bob@127.0.0.1 calls; answer?").await;
    bob.shows("180 Ringing").await;
    carol.types("reject").await;
    carol.shows("over: refused").await;
    alice.shows("not transferred: 486").await;
    bob.shows("over: rejected: 486 Busy Here").await;
    bob.shows("back with sip:alice@127.0.0.1").await;
    bob.types("hang up").await;
    bob.shows("over: hung up").await;
    alice.shows("over: the peer hung up").await;
    for phone in [alice, bob, carol] {
        phone.quits().await;
    }
}

#[tokio::test]
async fn a_consultation_with_what_is_no_uri_holds_nobody() {
    let (mut alice, mut bob) = two().await;
    bob.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    bob.shows("the call is up").await;
    for (typed, said) in [
        (
            "consult carol",
            "not done: `carol` is no SIP URI, as sip:bob@host is",
        ),
        (
            "consult",
            "name a SIP URI as well, as in consult sip:bob@host",
        ),
        (
            "consult sip:carol@h?Subject=x",
            "not done: `sip:carol@h?Subject=x`: URI headers have no place here (RFC 3261 §19.1.1)",
        ),
        (
            "consult sip:carol@h;transport=sctp",
            "not done: the transport `sctp` is not implemented in this version",
        ),
    ] {
        alice.types(typed).await;
        alice.shows(said).await;
    }
    alice.types("hang up").await;
    alice.shows("over: hung up").await;
    bob.shows("over: the peer hung up").await;
    alice.quits().await;
    bob.quits().await;
}

#[tokio::test]
async fn what_does_not_fit_is_answered_by_a_sentence() {
    let (mut alice, mut bob) = two().await;
    bob.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    bob.shows("the call is up").await;
    for (typed, said) in [
        ("answer", "the call is up already"),
        ("reject", "the call is up already: hang up ends it"),
        (
            "redirect sip:carol@h",
            "the call is up already: transfer sends the peer on",
        ),
        ("follow", "there is nothing to follow"),
        ("decline", "there is nothing to decline"),
        ("call sip:carol@h", "there is a call already"),
        (
            "transfer carol",
            "not done: `carol` is no SIP URI, as sip:bob@host is",
        ),
    ] {
        bob.types(typed).await;
        bob.shows(said).await;
    }
    bob.types("hang up").await;
    bob.shows("over: hung up").await;
    alice.shows("over: the peer hung up").await;
    alice.types("call bob").await;
    alice
        .shows("not done: `bob` is no SIP URI, as sip:bob@host is")
        .await;
    alice.types("call").await;
    alice
        .shows("name a SIP URI as well, as in call sip:bob@host")
        .await;
    let uri = bob.uri.clone();
    alice.types(&format!("call {uri}")).await;
    alice.shows(&format!("calling {uri}")).await;
    alice.shows("180 Ringing").await;
    alice.types("answer").await;
    alice
        .shows("the call is our own: it is for the peer to answer")
        .await;
    alice.types("hang up").await;
    alice.shows("over: cancelled").await;
    bob.shows("sip:alice@127.0.0.1 calls; answer?").await;
    bob.shows("over: cancelled").await;
    alice.quits().await;
    bob.quits().await;
}

#[tokio::test]
async fn a_hold_that_reaches_nobody_says_so() {
    let (mut alice, mut bob) = two().await;
    bob.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    bob.shows("the call is up").await;
    bob.process.kill().await.unwrap();
    alice.types("hold").await;
    alice.shows("not held: the peer cannot be reached").await;
    alice.types("quit").await;
    alice.shows("over: hung up").await;
    alice.ends().await;
}

#[cfg(unix)]
#[tokio::test]
async fn who_is_told_to_end_hangs_up_first() {
    let (mut alice, mut bob) = two().await;
    bob.types("answer").await;
    alice.shows("200 OK: the call is up").await;
    bob.shows("the call is up").await;
    alice.is_told_to_end().await;
    alice.shows("over: hung up").await;
    alice.ends().await;
    bob.shows("over: the peer hung up").await;
    bob.quits().await;

    let mut alice = Terminal::open("alice").await;
    let (client, mut call) = in_a_call(&mut alice).await;
    alice.types("transfer sip:carol@127.0.0.1:9").await;
    let wish = next(&mut call).await;
    assert!(matches!(wish, CallEvent::TransferRequested(_)), "{wish:?}");
    alice.is_told_to_end().await;
    alice.shows("over: hung up").await;
    alice.ends().await;
    client.shutdown().await;
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

/// A program of the crate that is in a call with a terminal.
async fn in_a_call(alice: &mut Terminal) -> (Arc<SessionCoordinator>, CallHandle) {
    let built = SessionManagerBuilder::new()
        .with_bind_address([127, 0, 0, 1].into())
        .with_identity("sip:program@127.0.0.1")
        .with_transfers()
        .enable_sip_client()
        .build_with_calls();
    let (client, _calls) = built.await.unwrap();
    let mut call = client.call(&alice.uri, Some(SDP)).await.unwrap();
    alice.shows("sip:program@127.0.0.1 calls; answer?").await;
    alice.types("answer").await;
    call.answered().await.unwrap();
    alice.shows("the call is up").await;
    (client, call)
}

async fn next(call: &mut CallHandle) -> CallEvent {
    let event = tokio::time::timeout(PATIENCE, call.next()).await;
    event.expect("an event in time").expect("no end yet")
}

/// What the terminal says of the session, asked by a change that wants both directions, or says nothing.
async fn says(call: &mut CallHandle, offer: Option<&str>) -> MediaDirection {
    call.change(offer).await.unwrap();
    let event = next(call).await;
    assert!(matches!(event, CallEvent::Changed(_)), "{event:?}");
    let said = MediaDirection::of(event.sdp().unwrap());
    if offer.is_none() {
        let answer = said.reversed().in_sdp(SDP);
        call.acknowledge(&answer).await.unwrap();
    }
    said
}

#[tokio::test]
async fn who_holds_goes_on_holding_whatever_the_peer_wants_to_change() {
    let mut alice = Terminal::open("alice").await;
    let (client, mut call) = in_a_call(&mut alice).await;
    alice.types("hold").await;
    let wish = next(&mut call).await;
    assert!(matches!(wish, CallEvent::ChangeRequested(_)), "{wish:?}");
    let held = MediaDirection::RecvOnly.in_sdp(SDP);
    call.accept(&held).await.unwrap();
    alice.shows("held").await;
    let acknowledged = next(&mut call).await;
    assert!(
        matches!(acknowledged, CallEvent::Acknowledged(_)),
        "{acknowledged:?}"
    );

    let both_ways = MediaDirection::SendRecv.in_sdp(SDP);
    let said = says(&mut call, Some(&both_ways)).await;
    assert_eq!(said, MediaDirection::SendOnly);
    alice.shows("the peer resumes").await;
    assert_eq!(says(&mut call, None).await, MediaDirection::SendOnly);
    let inactive = MediaDirection::Inactive.in_sdp(SDP);
    let said = says(&mut call, Some(&inactive)).await;
    assert_eq!(said, MediaDirection::Inactive);
    alice.shows("the peer holds").await;
    call.hang_up().await.unwrap();
    alice.shows("over: the peer hung up").await;
    alice.quits().await;
    client.shutdown().await;
}

#[tokio::test]
async fn who_transfers_can_hang_up_while_the_peer_thinks() {
    let mut alice = Terminal::open("alice").await;
    let (client, mut call) = in_a_call(&mut alice).await;
    alice.types("transfer sip:carol@127.0.0.1:9").await;
    let wish = next(&mut call).await;
    assert!(matches!(wish, CallEvent::TransferRequested(_)), "{wish:?}");
    alice.types("hold").await;
    alice
        .shows("the peer has not said yet whether it goes along; hang up, or wait")
        .await;
    alice.types("hang up").await;
    let over = next(&mut call).await;
    assert!(
        matches!(
            over,
            CallEvent::SessionEnded | CallEvent::Ended(CallEnd::PeerHungUp(_))
        ),
        "{over:?}"
    );
    // The peer's user has not decided before that.
    drop(wish);
    alice.shows("over: hung up").await;
    alice.quits().await;
    client.shutdown().await;
}
