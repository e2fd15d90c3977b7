//! Alice and bob see each other: two processes of the program, and a server, on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Stdio;
use std::time::Duration;

use sipora_call_engine::{CallCenterConfig, CallCenterEngine, PresenceConfig};
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
        let mut process = Command::new(env!("CARGO_BIN_EXE_presence_example"))
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
        assert!(line.starts_with(&format!("you are sip:{user}@")), "{line}");
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

async fn see_each_other(transport: &str) {
    let config = CallCenterConfig::new()
        .with_udp_listener("127.0.0.1:0")
        .with_tcp_listener("127.0.0.1:0")
        // Each change is a line of its own.
        .with_presence(PresenceConfig::new().with_notify_interval(Duration::ZERO))
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
    assert_eq!(alice.read().await, "pres:bob@127.0.0.1 is away");
    let mut bob = Terminal::open(&server, "bob", "alice", "builder").await;
    assert_eq!(bob.read().await, "pres:alice@127.0.0.1 is there: here");
    assert_eq!(alice.read().await, "pres:bob@127.0.0.1 is there: here");

    bob.write("at lunch, bei Müller & Sohn").await;
    let line = "pres:bob@127.0.0.1 is there: at lunch, bei Müller & Sohn";
    assert_eq!(alice.read().await, line);
    alice.write("").await;
    assert_eq!(bob.read().await, "pres:alice@127.0.0.1 is away");

    bob.close().await;
    assert_eq!(alice.read().await, "pres:bob@127.0.0.1 is away");
    alice.interrupt().await;
    let presence = engine.metrics().presence;
    assert_eq!((presence.subscriptions, presence.publications), (0, 0));
    engine.shutdown().await;
}

#[tokio::test]
async fn two_users_see_each_other_over_udp() {
    see_each_other("udp").await;
}

#[tokio::test]
async fn two_users_see_each_other_over_tcp() {
    see_each_other("tcp").await;
}
