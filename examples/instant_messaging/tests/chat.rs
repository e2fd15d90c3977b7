//! Alice and bob chat: two processes of the program, and a server, on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Stdio;
use std::time::Duration;

use sipora_call_engine::{CallCenterConfig, CallCenterEngine};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Long enough for a debug build on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Terminal {
    process: Child,
    keyboard: Option<ChildStdin>,
    screen: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    async fn open(server: &str, user: &str, other: &str, password: &str) -> Terminal {
        let mut process = Command::new(env!("CARGO_BIN_EXE_instant_messaging"))
            .args([server, user, other])
            .env("SIPORA_PASSWORD", password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let screen = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut terminal = Terminal {
            keyboard: process.stdin.take(),
            process,
            screen,
        };
        let line = terminal.read().await;
        assert!(line.starts_with("registered as "), "{line}");
        terminal
    }

    async fn write(&mut self, line: &str) {
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn read(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.screen.next_line()).await;
        line.expect("a line in time")
            .unwrap()
            .expect("a line before the end")
    }

    /// Presses Ctrl-C, and waits for the end of the program, whose input stays open.
    async fn interrupt(mut self) {
        let id = self.process.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-INT", &id]).status().await;
        assert!(kill.unwrap().success());
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        assert!(status.expect("an end in time").unwrap().success());
    }

    /// Ends the input, and waits for the end of the program.
    async fn close(mut self) {
        drop(self.keyboard.take());
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        assert!(status.expect("an end in time").unwrap().success());
    }
}

async fn chat(transport: &str) {
    let config = CallCenterConfig::new()
        .with_udp_listener("127.0.0.1:0")
        .with_tcp_listener("127.0.0.1:0")
        .with_user("alice", "wonderland")
        .with_user("bob", "builder");
    let engine = CallCenterEngine::new(config).await.unwrap();
    let listeners = engine.listeners();
    let listener = listeners
        .iter()
        .find(|listener| listener.to_string().starts_with(transport))
        .unwrap();
    let server = format!("sip:{};transport={transport}", listener.address);

    let mut alice = Terminal::open(&server, "alice", "bob", "wonderland").await;
    alice.write("anybody there?").await;
    assert_eq!(
        alice.read().await,
        "not delivered: 480 Temporarily Unavailable"
    );

    let mut bob = Terminal::open(&server, "bob", "alice", "builder").await;
    alice.write("Lunch?").await;
    assert_eq!(bob.read().await, "sip:alice@127.0.0.1: Lunch?");
    bob.write("At noon, bei Müller.").await;
    assert_eq!(
        alice.read().await,
        "sip:bob@127.0.0.1: At noon, bei Müller."
    );
    let long = "so long ".repeat(500);
    bob.write(&long).await;
    assert_eq!(alice.read().await, format!("sip:bob@127.0.0.1: {long}"));

    bob.close().await;
    alice.interrupt().await;
    assert_eq!(engine.binding_count().await.unwrap(), 0);
    engine.shutdown().await;
}

#[tokio::test]
async fn two_users_chat_over_udp() {
    chat("udp").await;
}

#[tokio::test]
async fn two_users_chat_over_tcp() {
    chat("tcp").await;
}
