//! SIPp sends messages through the server to SIPp, which answers each; none may be lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{
    DOMAIN, Outcome, Process, Server, free_port, password_of, peer, peer_is_installed, write,
};

static TURN: Mutex<()> = Mutex::new(());

const MESSAGES: &str = "300";
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn sipp_sends_messages_to_sipp_over_udp() {
    relays_all("u1", |server| server.udp);
}

#[test]
fn sipp_sends_messages_to_sipp_over_tcp() {
    relays_all("t1", |server| server.tcp);
}

fn relays_all(mode: &str, address: impl Fn(&Server) -> SocketAddr) {
    if !peer_is_installed("sipp") {
        return;
    }
    // One after the other: a port that is found free is held for a moment by whatever another thread forks just then.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(["alice", "bob"]);
    let to = address(&server);
    let credentials = |user: &str| {
        let password = password_of(user);
        format!("[authentication username={user} password={password}]")
    };
    let files = server.files.path();
    let receiver = write(
        files,
        "receiver.csv",
        &format!("SEQUENTIAL\nbob;{DOMAIN};{}\n", credentials("bob")),
    );
    let sender = write(
        files,
        "sender.csv",
        &format!("SEQUENTIAL\nalice;bob;{DOMAIN};{}\n", credentials("alice")),
    );

    // The receiver registers, and answers at the same port what comes afterwards.
    let port = free_port();
    let mut register = sipp(files, "register.xml", mode, port, "1");
    register.arg("-inf").arg(receiver).arg(to.to_string());
    succeeded(&Process::start(&mut register).wait(LIMIT), files);
    let mut receive = sipp(files, "receive_message.xml", mode, port, MESSAGES);
    let receiving = Process::start(&mut receive);
    wait_until_bound(mode, port);

    let mut send = sipp(files, "message.xml", mode, free_port(), MESSAGES);
    send.arg("-inf").arg(sender).arg(to.to_string());
    send.args(["-r", "200", "-l", "50"]);
    succeeded(&Process::start(&mut send).wait(LIMIT), files);
    succeeded(&receiving.wait(LIMIT), files);
    server.assert_answers("SIPp's messages");
}

fn sipp(files: &Path, scenario: &str, mode: &str, port: u16, calls: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sipp");
    let mut command = peer("sipp");
    command
        .current_dir(files)
        .arg("-sf")
        .arg(folder.join(scenario))
        .args(["-m", calls, "-t", mode, "-i", "127.0.0.1"])
        .args(["-p", &port.to_string()])
        .args(["-nostdin", "-skip_rlimit", "-timeout", "60s"])
        .args(["-timeout_error", "-trace_err", "-error_file"])
        .arg(format!("{scenario}.errors"));
    command
}

/// SIPp does not say when it listens.
fn wait_until_bound(mode: &str, port: u16) {
    let is_bound = || match mode.starts_with('u') {
        true => std::net::UdpSocket::bind(("127.0.0.1", port)).is_err(),
        false => std::net::TcpListener::bind(("127.0.0.1", port)).is_err(),
    };
    for _ in 0..400 {
        if is_bound() {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("SIPp does not listen");
}

/// SIPp ends with 0 when every call went as its scenario says.
fn succeeded(outcome: &Outcome, files: &Path) {
    let errors = ["register", "receive_message", "message"].map(|name| {
        std::fs::read_to_string(files.join(format!("{name}.xml.errors"))).unwrap_or_default()
    });
    assert_eq!(
        outcome.code(),
        0,
        "{outcome}\n--- errors\n{}",
        errors.join("\n")
    );
}
