//! SIPp as the presence server of `sipora subscribe` and `sipora publish`, with what Kamailio does not do; and SIPp as the
//! watchers and publishers of `sipora serve`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::sipp::{LIMIT, sipp, succeeded, turn, wait_until_bound};
use common::{
    DOMAIN, PATIENCE, Process, SIPORA, Server, free_port, password_of, peer_is_installed, write,
};

const MODES: [(&str, &str); 2] = [("u1", "udp"), ("t1", "tcp")];

/// SIPp, which waits for one call of a scenario, and the program that makes it.
struct Call {
    files: tempfile::TempDir,
    scenario: &'static str,
    sipp: Process,
    client: Process,
}

impl Call {
    fn start(scenario: &'static str, mode: &str, transport: &str, arguments: &[&str]) -> Call {
        let files = tempfile::tempdir().unwrap();
        let port = free_port();
        let sipp = Process::start(&mut sipp(files.path(), scenario, mode, port, "1"));
        wait_until_bound(mode, port);
        let mut client = Command::new(SIPORA);
        client
            .arg(arguments[0])
            .arg(format!("sip:bob@127.0.0.1:{port};transport={transport}"))
            .args(&arguments[1..]);
        let client = Process::start(&mut client);
        Call {
            files,
            scenario,
            sipp,
            client,
        }
    }

    fn wait_for(&self, what: &str) {
        self.client
            .wait_for(what, PATIENCE, |line| line.contains(what).then_some(()));
    }

    /// Waits for SIPp's verdict, and gives what the program left.
    fn end(self) -> common::Outcome {
        let outcome = self.client.wait(PATIENCE);
        let verdict = self.sipp.wait(LIMIT);
        assert_eq!(
            verdict.status.code(),
            Some(0),
            "{} and {outcome}",
            self.scenario
        );
        succeeded(&verdict, self.files.path(), &[self.scenario]);
        outcome
    }
}

#[test]
fn a_notify_before_its_2xx_a_document_without_sense_and_an_end_for_some_time() {
    if !peer_is_installed("sipp") {
        return;
    }
    let _turn = turn();
    for (mode, transport) in MODES {
        let arguments = ["subscribe", "--expires", "600", "--count", "99"];
        let outcome = Call::start("notify.xml", mode, transport, &arguments).end();
        assert_eq!(outcome.code(), 1, "{outcome}");
        let lines: Vec<&str> = outcome
            .stdout
            .lines()
            .map(|line| line.split_once("Z ").map_or(line, |(_, rest)| rest))
            .collect();
        assert!(lines[0].starts_with("subscribed to presence of sip:bob@"));
        let told = [
            "pending for 600 s",
            "active for 599 s",
            "  sip:bob@127.0.0.1 is open",
            "    sipp open",
            "terminated: probation, again after 30 s",
        ];
        assert_eq!(lines[1..], told, "{outcome}");
        let errors = outcome.error_lines();
        assert!(
            errors.len() == 1 && errors[0].ends_with("probation; subscribe again after 30 s"),
            "{outcome}"
        );
    }
}

#[test]
fn a_subscription_is_refreshed_in_its_dialog_and_ended_by_a_signal() {
    if !peer_is_installed("sipp") {
        return;
    }
    let _turn = turn();
    for (mode, transport) in MODES {
        let arguments = ["subscribe", "--event", "message-summary"];
        let mut call = Call::start("notify_until_unsubscribed.xml", mode, transport, &arguments);
        call.wait_for("  no messages wait");
        call.wait_for("  messages wait");
        call.client.signal("INT");
        let outcome = call.end();
        assert_eq!(outcome.code(), 0, "{outcome}");
        assert!(outcome.stdout.contains(" unsubscribed from sip:bob@"));
        assert!(outcome.stderr.is_empty(), "{outcome}");
    }
}

#[test]
fn a_publication_is_made_longer_forgotten_made_anew_refreshed_and_removed() {
    if !peer_is_installed("sipp") {
        return;
    }
    let _turn = turn();
    for (mode, transport) in MODES {
        let arguments = ["publish", "--status", "closed", "--expires", "2"];
        let mut call = Call::start("publication.xml", mode, transport, &arguments);
        call.wait_for("published presence of sip:bob@");
        call.wait_for("published for 3 s, refresh in ");
        call.wait_for("published for 4 s, refresh in ");
        call.client.signal("TERM");
        let outcome = call.end();
        assert_eq!(outcome.code(), 0, "{outcome}");
        assert!(outcome.stdout.contains(" for 4 s, entity tag first\n"));
        assert!(outcome.stdout.contains(" removed presence of sip:bob@"));
        assert!(outcome.stderr.is_empty(), "{outcome}");
    }
}

// ---- SIPp at our own server ----

const CALLS: usize = 100;

/// A server with a user for each call, and alice who watches them; with no pause between two NOTIFYs.
fn server() -> Server {
    let users = (0..CALLS).map(user).chain(["alice".to_owned()]);
    Server::start_with(users, "[presence]\nnotify_interval = 0\n", &["-v"])
}

fn user(number: usize) -> String {
    format!("user{number:03}")
}

/// Writes a line for each call: the user, and the credentials of `sender`.
fn injected(server: &Server, name: &str, sender: impl Fn(usize) -> String) -> PathBuf {
    let line = |number| {
        let (user, sender) = (user(number), sender(number));
        let password = password_of(&sender);
        format!("{user};{DOMAIN};[authentication username={sender} password={password}]\n")
    };
    let lines: String = (0..CALLS).map(line).collect();
    write(server.files.path(), name, &format!("SEQUENTIAL\n{lines}"))
}

fn start(server: &Server, scenario: &str, mode: &str, users: &Path) -> Process {
    let files = server.files.path();
    let mut command = sipp(files, scenario, mode, free_port(), &CALLS.to_string());
    let address = match mode.starts_with('u') {
        true => server.udp,
        false => server.tcp,
    };
    command.arg(address.to_string()).arg("-inf").arg(users);
    command.args(["-r", "100", "-l", &CALLS.to_string()]);
    Process::start(&mut command)
}

#[test]
fn sipp_watches_what_sipp_publishes_at_our_server() {
    if !peer_is_installed("sipp") {
        return;
    }
    let _turn = turn();
    for (mode, _) in MODES {
        let server = server();
        let watchers = injected(&server, "watchers.csv", |_| "alice".to_owned());
        let publishers = injected(&server, "publishers.csv", user);
        let watching = start(&server, "watch.xml", mode, &watchers);
        wait_until_subscribed(&server, CALLS);
        let publishing = start(&server, "publish_once.xml", mode, &publishers);
        let scenarios = ["watch.xml", "publish_once.xml"];
        succeeded(&publishing.wait(LIMIT), server.files.path(), &scenarios);
        succeeded(&watching.wait(LIMIT), server.files.path(), &scenarios);
        server.assert_answers("SIPp's watchers");
    }
}

/// The server's log has a line for each.
fn wait_until_subscribed(server: &Server, wanted: usize) {
    let deadline = Instant::now() + PATIENCE;
    let count = || {
        let lines = server.process.lines();
        lines
            .iter()
            .filter(|line| line.contains(" subscribed "))
            .count()
    };
    while count() < wanted {
        assert!(
            Instant::now() < deadline,
            "{} of {wanted} subscribed:\n{}",
            count(),
            server.process.printed()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn sipp_publishes_refreshes_modifies_and_removes_at_our_server() {
    if !peer_is_installed("sipp") {
        return;
    }
    let _turn = turn();
    for (mode, _) in MODES {
        let server = server();
        let users = injected(&server, "publishers.csv", user);
        let publishing = start(&server, "publish.xml", mode, &users);
        let outcome = publishing.wait(LIMIT);
        succeeded(&outcome, server.files.path(), &["publish.xml"]);
        server.assert_answers("SIPp's publications");
    }
}
