//! Phones in terminals call each other: processes of the program, on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Long enough for a debug build on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

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
