//! `sipora subscribe` and `sipora publish` at our own server: what they print, how they end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::net::UdpSocket;
use std::process::Command;

use common::{DOMAIN, Outcome, PATIENCE, Process, SIPORA, Server, password_of, run, sipora, write};
use serde_json::Value;

/// A server with alice, who watches, and bob, who is watched; NOTIFYs follow each other at once.
struct Users {
    server: Server,
}

impl Users {
    fn start() -> Users {
        let configuration = "[presence]\nnotify_interval = 0\nminimum = 1\n";
        let server = Server::start_with(["alice", "bob"], configuration, &[]);
        Users { server }
    }

    /// A command of `user` about bob.
    fn command(&self, verb: &str, user: &str, transport: &str, arguments: &[&str]) -> Command {
        let address = match transport {
            "udp" => self.server.udp,
            _ => self.server.tcp,
        };
        let password = write(self.server.files.path(), user, &password_of(user));
        let mut command = Command::new(SIPORA);
        command
            .arg(verb)
            .arg(format!("sip:bob@{address};transport={transport}"))
            .args(["--user", user, "--password-file"])
            .arg(password)
            .args(arguments);
        command
    }

    fn watch(&self, transport: &str, arguments: &[&str]) -> Process {
        Process::start(&mut self.command("subscribe", "alice", transport, arguments))
    }

    /// Starts the server again, at the UDP port that it had, when it has ended.
    fn restart(self, arguments: &[&str]) -> Users {
        let Server {
            process,
            udp,
            tcp,
            files,
        } = self.server;
        process.wait(PATIENCE);
        let mut command = Command::new(SIPORA);
        command
            .args(["serve", "--listen", &format!("udp:{udp}")])
            .args(["--domain", DOMAIN, "--users"])
            .arg(files.path().join("users"))
            .args(arguments);
        let process = Process::start(&mut command);
        wait(&process, "listening on udp ");
        Users {
            server: Server {
                process,
                udp,
                tcp,
                files,
            },
        }
    }

    fn publish(&self, arguments: &[&str]) -> Outcome {
        run(
            &mut self.command("publish", "bob", "udp", arguments),
            PATIENCE,
        )
    }
}

fn wait(process: &Process, part: &str) {
    process.wait_for(part, PATIENCE, |line| line.contains(part).then_some(()));
}

#[test]
fn a_watcher_hears_who_registers_and_what_is_published() {
    let users = Users::start();
    for transport in ["udp", "tcp"] {
        let watcher = users.watch(transport, &[]);
        wait(&watcher, "    registration closed at sip:bob@127.0.0.1");

        let mut phone = users.command("register", "bob", transport, &["--keep"]);
        let phone = Process::start(&mut phone);
        wait(&watcher, "    registration open at sip:bob@127.0.0.1");

        let arguments = ["--status", "closed", "--note", "at lunch"];
        let mut presentity = users.command("publish", "bob", transport, &arguments);
        let presentity = Process::start(&mut presentity);
        wait(&watcher, " closed at sip:bob@127.0.0.1, \"at lunch\"");
        // The watcher may hear of it before the answer is there.
        wait(&presentity, "published presence of ");
        wait(&phone, "registered sip:bob@");

        for process in [presentity, phone, watcher] {
            let ended = process.terminate(PATIENCE);
            assert_eq!(ended.code(), 0, "{transport}: {ended}");
            assert!(ended.stderr.is_empty(), "{transport}: {ended}");
        }
        let left = run(
            &mut users.command("subscribe", "alice", transport, &["--expires", "0"]),
            PATIENCE,
        );
        assert!(left.stdout.contains(" is closed\n"), "{transport}: {left}");
        assert!(!left.stdout.contains("lunch"), "{transport}: {left}");
    }
}

#[test]
fn a_subscription_that_cannot_be_refreshed_ends_and_says_why() {
    let mut users = Users::start();
    let watcher = users.watch("udp", &["--expires", "2"]);
    wait(&watcher, "    registration closed at sip:bob@127.0.0.1");
    users.server.process.signal("KILL");
    let ended = watcher.wait(PATIENCE);
    assert_eq!(ended.code(), 3, "{ended}");
    let words = "could not be refreshed in time: cannot reach the target: connection refused";
    assert!(ended.stderr.contains(words), "{ended}");
}

#[test]
fn a_subscription_and_a_publication_outlive_the_seconds_that_they_were_granted() {
    let users = Users::start();
    let arguments = ["--status", "open", "--expires", "2"];
    let mut presentity = users.command("publish", "bob", "udp", &arguments);
    let presentity = Process::start(&mut presentity);
    wait(&presentity, "published presence of ");
    let watcher = users.watch("udp", &["--expires", "2", "--count", "4", "--json"]);
    // The first NOTIFY, and one after each refresh.
    let watched = watcher.wait(PATIENCE);
    assert_eq!(watched.code(), 0, "{watched}");
    let objects: Vec<Value> = watched
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 5, "{watched}");
    assert_eq!(objects[0]["expires"], 2, "{watched}");
    for notified in &objects[1..] {
        assert_eq!(notified["state"], "active", "{watched}");
        assert_eq!(notified["presence"]["status"], "open", "{watched}");
    }
    let lines = watched.error_lines();
    assert!(lines.len() == 1 && lines[0].contains(" unsubscribed from "));
    let ended = presentity.terminate(PATIENCE);
    assert_eq!(ended.code(), 0, "{ended}");
}

#[test]
fn raw_prints_the_bodies_and_nothing_else() {
    let users = Users::start();
    let watched = users.watch("udp", &["--raw", "--count", "1"]);
    let watched = watched.wait(PATIENCE);
    assert_eq!(watched.code(), 0, "{watched}");
    assert!(watched.stdout.starts_with("<?xml "), "{watched}");
    assert!(watched.stdout.trim_end().ends_with("</presence>"));
    let lines = watched.error_lines();
    assert_eq!(lines.len(), 2, "{watched}");
    assert!(lines[0].contains(" subscribed to presence of sip:bob@"));
    assert!(lines[1].contains(" unsubscribed from sip:bob@"));
}

#[test]
fn a_watcher_comes_again_when_its_server_was_restarted() {
    let mut users = Users::start();
    let watcher = users.watch("udp", &[]);
    wait(&watcher, " is closed");
    users.server.process.signal("TERM");
    wait(&watcher, "deactivated; subscribing again");
    // Until the server is there again, tries fail, and pauses grow.
    wait(&watcher, "; subscribing again in 1 s");
    let users = users.restart(&[]);
    wait(&watcher, " subscribed again to presence of sip:bob@");
    let published = users.publish(&["--note", "back", "--once"]);
    assert_eq!(published.code(), 0, "{published}");
    wait(&watcher, "\"back\"");
    let ended = watcher.terminate(PATIENCE);
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(
        ended.stdout.contains(" terminated: deactivated\n"),
        "{ended}"
    );
    assert!(ended.stdout.contains(" unsubscribed from "), "{ended}");
}

#[test]
fn what_the_server_has_forgotten_needs_no_removal() {
    let mut users = Users::start();
    let watcher = users.watch("udp", &[]);
    wait(&watcher, " is closed");
    let mut presentity = users.command("publish", "bob", "udp", &["--status", "open"]);
    let presentity = Process::start(&mut presentity);
    wait(&presentity, "published presence of ");

    users.server.process.signal("KILL");
    let mut users = users.restart(&[]);
    let ended = watcher.terminate(PATIENCE);
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(
        ended
            .stdout
            .contains(" already ended at the server: sip:bob@"),
        "{ended}"
    );

    users.server.process.signal("KILL");
    let _users = users.restart(&["--no-presence"]);
    let ended = presentity.terminate(PATIENCE);
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(
        ended.stdout.contains(" already ended at the server: "),
        "{ended}"
    );
    assert!(ended.stderr.is_empty(), "{ended}");
}

#[test]
fn who_counts_notifications_ends_when_the_server_does() {
    let users = Users::start();
    let watcher = users.watch("tcp", &["--count", "9"]);
    wait(&watcher, " is closed");
    let ended = users.server.process.terminate(PATIENCE);
    assert_eq!(ended.code(), 0, "{ended}");
    let outcome = watcher.wait(PATIENCE);
    assert_eq!(outcome.code(), 1, "{outcome}");
    assert!(outcome.stdout.contains(" terminated: deactivated\n"));
    let lines = outcome.error_lines();
    assert!(
        lines.len() == 1 && lines[0].ends_with("deactivated; subscribe again"),
        "{outcome}"
    );
}

#[test]
fn a_publication_goes_on_from_run_to_run_by_its_entity_tag() {
    let users = Users::start();
    let published = users.publish(&["--note", "hello", "--once", "--json"]);
    assert_eq!(published.code(), 0, "{published}");
    let report: Value = serde_json::from_str(&published.stdout).unwrap();
    let tag = report["entity_tag"].as_str().unwrap();
    let removed = users.publish(&["--etag", tag, "--remove"]);
    assert_eq!(removed.code(), 0, "{removed}");
    assert!(removed.stdout.starts_with("removed presence of sip:bob@"));
    let gone = users.publish(&["--etag", tag, "--json"]);
    assert_eq!(gone.code(), 1, "{gone}");
    let report: Value = serde_json::from_str(&gone.stdout).unwrap();
    assert_eq!(report["status"], 412, "{gone}");
    let error = report["error"].as_str().unwrap();
    assert!(error.contains("without --etag"), "{gone}");
}

#[test]
fn who_publishes_for_another_or_without_a_password_is_refused() {
    let users = Users::start();
    let arguments = ["--status", "open", "--once"];
    let foreign = run(
        &mut users.command("publish", "alice", "udp", &arguments),
        PATIENCE,
    );
    assert_eq!(foreign.code(), 1, "{foreign}");
    assert!(foreign.stderr.contains("403"), "{foreign}");
    let uri = format!("sip:bob@{}", users.server.udp);
    let stranger = sipora(["publish", &uri, "--status", "open", "--once", "--json"]);
    assert_eq!(stranger.code(), 1, "{stranger}");
    let report: Value = serde_json::from_str(&stranger.stdout).unwrap();
    assert_eq!(report["status"], 401, "{stranger}");
    assert!(stranger.stderr.contains("--password-file"), "{stranger}");
}

#[test]
fn a_server_without_presence_refuses_and_does_not_offer_it() {
    let server = Server::start_with(["alice"], "", &["--no-presence"]);
    let uri = format!("sip:alice@{}", server.udp);
    for arguments in [
        &["subscribe", &uri][..],
        &["publish", &uri, "--status", "open"],
    ] {
        let outcome = sipora(arguments);
        assert_eq!(outcome.code(), 1, "{outcome}");
        assert!(outcome.stderr.contains(" answered 405 "), "{outcome}");
    }
    let asked = sipora(["options", &format!("sip:{}", server.udp)]);
    assert!(!asked.stdout.contains("SUBSCRIBE"), "{asked}");
}

#[test]
fn silence_is_status_3_and_so_is_a_signal_before_the_answer() {
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("sip:bob@{}", deaf.local_addr().unwrap());
    for arguments in [
        &["subscribe", uri.as_str()][..],
        &["publish", &uri, "--status", "open"],
    ] {
        let outcome = sipora([arguments, &["--timeout", "0.5"]].concat());
        assert_eq!(outcome.code(), 3, "{outcome}");
        assert_eq!(outcome.error_lines().len(), 1, "{outcome}");

        let mut command = Command::new(SIPORA);
        let process = Process::start(command.args(arguments).arg("-v"));
        wait(&process, ">>> udp ");
        let outcome = process.terminate(PATIENCE);
        assert_eq!(outcome.code(), 3, "{outcome}");
        assert!(outcome.stderr.contains("stopped before"), "{outcome}");
    }
}
