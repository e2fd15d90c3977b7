//! SIPp registers a thousand users with digest, each challenged once; none may fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{DOMAIN, Server, free_port, password_of, peer, peer_is_installed, run, write};

static TURN: Mutex<()> = Mutex::new(());

const USERS: usize = 1_000;
const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sipp/register.xml");

#[test]
fn sipp_registers_a_thousand_users_over_udp() {
    registers_all("u1", |server| server.udp);
}

#[test]
fn sipp_registers_a_thousand_users_over_one_tcp_connection() {
    registers_all("t1", |server| server.tcp);
}

#[test]
fn sipp_registers_a_thousand_users_over_a_tcp_connection_each() {
    registers_all("tn", |server| server.tcp);
}

/// SIPp's transport modes: `u1` and `t1` use one socket for all calls, `tn` one for each (a hundred at a time).
fn registers_all(mode: &str, address: impl Fn(&Server) -> SocketAddr) {
    if !peer_is_installed("sipp") {
        return;
    }
    // One after the other: a port that is found free is held for a moment by whatever another thread forks just then.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(users());
    let files = tempfile::tempdir().unwrap();
    let injected: String = users()
        .map(|user| {
            format!(
                "{user};{DOMAIN};[authentication username={user} password={}]\n",
                password_of(&user)
            )
        })
        .collect();
    let users_file = write(
        files.path(),
        "users.csv",
        &format!("SEQUENTIAL\n{injected}"),
    );

    let calls = USERS.to_string();
    let outcome = run(
        peer("sipp")
            .current_dir(files.path())
            .arg(address(&server).to_string())
            .args(["-sf", SCENARIO, "-inf"])
            .arg(users_file)
            .args([
                "-m",
                &calls,
                "-l",
                "100",
                "-r",
                "500",
                "-t",
                mode,
                "-i",
                "127.0.0.1",
            ])
            // Left to itself, SIPp binds 5060 with SO_REUSEADDR and listens later: of two that start at the same time
            // on one machine both get it, and one fails when it listens.
            .args(["-p", &free_port().to_string()])
            .args([
                "-nostdin",
                "-skip_rlimit",
                "-timeout",
                "60s",
                "-timeout_error",
            ])
            .args([
                "-trace_err",
                "-error_file",
                "errors",
                "-trace_stat",
                "-stf",
                "statistics",
                "-fd",
                "1",
            ]),
        Duration::from_secs(90),
    );

    let errors = std::fs::read_to_string(files.path().join("errors")).unwrap_or_default();
    assert_eq!(outcome.code(), 0, "{outcome}\n--- errors\n{errors}");
    let statistics = statistics(&files.path().join("statistics"));
    let count = |name: &str| {
        statistics
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(count("SuccessfulCall(C)"), Some(calls), "{errors}");
    assert_eq!(count("FailedCall(C)").as_deref(), Some("0"), "{errors}");
}

fn users() -> impl Iterator<Item = String> {
    (1..=USERS).map(|number| format!("user{number:04}"))
}

/// SIPp's last line of statistics under its headings.
fn statistics(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).expect("SIPp writes it with -trace_stat");
    let mut lines = text.lines();
    let headings = lines.next().expect("a line of headings").split(';');
    let values = lines.next_back().expect("a line of figures").split(';');
    headings
        .zip(values)
        .map(|(heading, value)| (heading.to_owned(), value.to_owned()))
        .collect()
}
