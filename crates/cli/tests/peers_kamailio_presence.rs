//! `sipora subscribe` and `sipora publish` at Kamailio: a presence server that we did not write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::kamailio::{Handled, Kamailio, presence_is_installed};
use common::{Outcome, PATIENCE, Process, SIPORA, password_of, run, write};
use serde_json::Value;

/// A command of `user` about alice.
fn command(
    kamailio: &Kamailio,
    transport: &str,
    verb: &str,
    user: &str,
    arguments: &[&str],
) -> Command {
    let password = write(kamailio.files.path(), user, &password_of(user));
    let port = kamailio.port;
    let mut command = Command::new(SIPORA);
    command
        .arg(verb)
        .arg(format!("sip:alice@127.0.0.1:{port};transport={transport}"))
        .args(["--user", user, "--password-file"])
        .arg(password)
        .args(arguments);
    command
}

fn watch(kamailio: &Kamailio, transport: &str, arguments: &[&str]) -> Process {
    let process = Process::start(&mut command(
        kamailio,
        transport,
        "subscribe",
        "bob",
        arguments,
    ));
    wait(&process, "subscribed to presence of sip:alice@127.0.0.1");
    process
}

fn publish(kamailio: &Kamailio, arguments: &[&str]) -> Outcome {
    run(
        &mut command(kamailio, "udp", "publish", "alice", arguments),
        PATIENCE,
    )
}

/// Waits for a line that begins with `start`, spaces aside.
fn wait(process: &Process, start: &str) -> String {
    process.wait_for(start, PATIENCE, |line| {
        line.trim_start()
            .starts_with(start)
            .then(|| line.to_owned())
    })
}

/// The last word of the line that `sipora publish` begins with.
fn entity_tag(printed: &str) -> String {
    let line = printed.lines().next().unwrap();
    let (_, tag) = line.split_once(", entity tag ").expect(line);
    tag.to_owned()
}

fn wait_until(what: &str, kamailio: &Kamailio, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        let printed = kamailio.process.printed();
        assert!(Instant::now() < deadline, "not in time: {what}\n{printed}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_watcher_is_told_what_is_published_until_both_end() {
    if !presence_is_installed() {
        return;
    }
    for transport in ["udp", "tcp"] {
        let kamailio = Kamailio::start_presence();
        let watcher = watch(&kamailio, transport, &[]);
        let arguments = ["--status", "open", "--note", "at lunch & <well>"];
        let mut presentity = command(&kamailio, transport, "publish", "alice", &arguments);
        let presentity = Process::start(&mut presentity);
        wait(&presentity, "published presence of sip:alice@127.0.0.1");
        wait(&watcher, "sip:alice@127.0.0.1 is open");
        wait_for_part(&watcher, "\"at lunch & <well>\"");

        let ended = presentity.terminate(PATIENCE);
        assert_eq!(ended.code(), 0, "{transport}: {ended}");
        let last = ended.stdout.lines().last().unwrap_or_default();
        assert!(last.contains(" removed presence of "), "{ended}");
        wait(&watcher, "sip:alice@127.0.0.1 is closed");

        let ended = watcher.terminate(PATIENCE);
        assert_eq!(ended.code(), 0, "{transport}: {ended}");
        let last = ended.stdout.lines().last().unwrap_or_default();
        assert!(last.contains(" unsubscribed from "), "{ended}");
        assert!(ended.stderr.is_empty(), "{transport}: {ended}");
        for method in ["SUBSCRIBE", "PUBLISH"] {
            let handled = kamailio.handled(method);
            let first = &handled[0].call_id;
            assert!(handled.iter().all(|one| one.call_id == *first));
            assert_eq!(handled.last().unwrap().expires, "0", "{handled:?}");
        }
    }
}

fn wait_for_part(process: &Process, part: &str) {
    process.wait_for(part, PATIENCE, |line| line.contains(part).then_some(()));
}

#[test]
fn what_lasts_seconds_is_refreshed_by_both() {
    if !presence_is_installed() {
        return;
    }
    let kamailio = Kamailio::start_presence();
    let watcher = watch(&kamailio, "udp", &["--expires", "4"]);
    let arguments = ["--status", "open", "--expires", "4"];
    let mut presentity = command(&kamailio, "udp", "publish", "alice", &arguments);
    let presentity = Process::start(&mut presentity);
    for method in ["SUBSCRIBE", "PUBLISH"] {
        wait_until("two refreshes", &kamailio, || {
            kamailio.handled(method).len() >= 3
        });
    }
    let is_refresh =
        |one: &Handled| one.body_length == 0 && !one.if_match.is_empty() && one.expires == "4";
    let publishes = kamailio.handled("PUBLISH");
    assert!(publishes[0].if_match.is_empty() && publishes[0].body_length > 0);
    assert!(publishes[1..].iter().all(is_refresh), "{publishes:?}");
    for pair in publishes[1..].windows(2) {
        assert_ne!(
            pair[0].if_match, pair[1].if_match,
            "each has a tag of its own"
        );
    }
    let ended = presentity.terminate(PATIENCE);
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stdout.contains("published for 4 s, refresh in "));
    let ended = watcher.terminate(PATIENCE);
    assert_eq!(ended.code(), 0, "{ended}");
}

#[test]
fn what_somebody_else_removed_is_published_anew() {
    if !presence_is_installed() {
        return;
    }
    let kamailio = Kamailio::start_presence();
    let arguments = ["--status", "open", "--expires", "4"];
    let mut presentity = command(&kamailio, "udp", "publish", "alice", &arguments);
    let presentity = Process::start(&mut presentity);
    let tag = entity_tag(&wait(&presentity, "published presence of"));
    let removed = publish(&kamailio, &["--etag", &tag, "--remove"]);
    assert_eq!(removed.code(), 0, "{removed}");
    assert!(removed.stdout.starts_with("removed presence of "));

    // The refresh gets 412; RFC 3903 §5 has the whole published again, without a tag.
    wait_until("a second document", &kamailio, || {
        let publishes = kamailio.handled("PUBLISH");
        let whole = publishes.iter().filter(|one| one.body_length > 0);
        whole.filter(|one| one.if_match.is_empty()).count() == 2
    });
    let fetched = run(
        &mut command(&kamailio, "udp", "subscribe", "bob", &["--expires", "0"]),
        PATIENCE,
    );
    assert_eq!(fetched.code(), 0, "{fetched}");
    assert!(fetched.stdout.contains("is open"), "{fetched}");
    let ended = presentity.terminate(PATIENCE);
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stderr.is_empty(), "{ended}");
}

#[test]
fn an_entity_tag_changes_refreshes_and_removes_across_runs() {
    if !presence_is_installed() {
        return;
    }
    let kamailio = Kamailio::start_presence();
    let first = publish(&kamailio, &["--status", "open", "--once"]);
    assert_eq!(first.code(), 0, "{first}");
    let first = entity_tag(&first.stdout);
    let watcher = watch(&kamailio, "udp", &[]);
    wait(&watcher, "sip:alice@127.0.0.1 is open");

    let arguments = [
        "--etag",
        &first,
        "--status",
        "closed",
        "--note",
        "gone home",
    ];
    let changed = publish(&kamailio, &arguments);
    assert_eq!(changed.code(), 0, "{changed}");
    wait(&watcher, "sip:alice@127.0.0.1 is closed");
    wait_for_part(&watcher, "\"gone home\"");
    let second = entity_tag(&changed.stdout);

    let refreshed = publish(&kamailio, &["--etag", &second, "--expires", "60", "--json"]);
    assert_eq!(refreshed.code(), 0, "{refreshed}");
    let report: Value = serde_json::from_str(&refreshed.stdout).unwrap();
    assert_eq!(report["expires"], 60, "{refreshed}");
    let third = report["entity_tag"].as_str().unwrap();

    let stale = publish(&kamailio, &["--etag", &first]);
    assert_eq!(stale.code(), 1, "{stale}");
    let lines = stale.error_lines();
    assert!(
        lines.len() == 1 && lines[0].contains("412") && lines[0].contains("without --etag"),
        "{stale}"
    );
    let removed = publish(&kamailio, &["--etag", third, "--remove"]);
    assert_eq!(removed.code(), 0, "{removed}");
    let gone = publish(&kamailio, &["--etag", third, "--remove"]);
    assert_eq!(gone.code(), 1, "{gone}");
}

#[test]
fn the_present_state_is_fetched_as_text_as_json_and_raw() {
    if !presence_is_installed() {
        return;
    }
    let kamailio = Kamailio::start_presence();
    let document = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:alice@127.0.0.1\">\
         <tuple id=\"desk\"><status><basic>open</basic></status>\
         <contact priority=\"0.5\">sip:alice@192.0.2.7</contact></tuple></presence>";
    let file = write(kamailio.files.path(), "alice.xml", document);
    let published = publish(
        &kamailio,
        &["--body-file", file.to_str().unwrap(), "--once"],
    );
    assert_eq!(published.code(), 0, "{published}");
    let fetch = |arguments: &[&str]| {
        let arguments = [&["--expires", "0"], arguments].concat();
        let mut command = command(&kamailio, "tcp", "subscribe", "bob", &arguments);
        let outcome = run(&mut command, PATIENCE);
        assert_eq!(outcome.code(), 0, "{outcome}");
        assert!(outcome.stderr.is_empty(), "{outcome}");
        outcome.stdout
    };
    let text = fetch(&[]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("Z terminated: timeout"), "{text}");
    assert_eq!(lines[1], "  sip:alice@127.0.0.1 is open");
    assert_eq!(
        lines[2],
        "    desk open at sip:alice@192.0.2.7, priority 0.5"
    );

    let json = fetch(&["--json"]);
    let objects: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 2, "{json}");
    // The NOTIFY that overtakes the 2xx ends a fetch before its status is known.
    let status = &objects[0]["status"];
    assert!(*status == 200 || status.is_null(), "{json}");
    assert!(objects[0]["error"].is_null(), "{json}");
    assert_eq!(objects[1]["state"], "terminated", "{json}");
    let tuple = &objects[1]["presence"]["tuples"][0];
    assert_eq!(tuple["contact"], "sip:alice@192.0.2.7", "{json}");
    assert_eq!(tuple["priority"], 0.5, "{json}");

    let raw = fetch(&["--raw"]);
    assert!(raw.starts_with("<?xml"), "{raw}");
    assert!(raw.trim_end().ends_with("</presence>"), "{raw}");
}

#[test]
fn a_mailbox_is_watched_too() {
    if !presence_is_installed() {
        return;
    }
    let kamailio = Kamailio::start_presence();
    let summary = "Messages-Waiting: yes\r\nMessage-Account: sip:alice@127.0.0.1\r\nVoice-Message: 2/8 (0/2)\r\n";
    let file = write(kamailio.files.path(), "mailbox", summary);
    let mailbox = ["--event", "message-summary"];
    let body = [
        "--once",
        "--content-type",
        "application/simple-message-summary",
        "--body-file",
        file.to_str().unwrap(),
    ];
    let published = publish(&kamailio, &[&mailbox[..], &body].concat());
    assert_eq!(published.code(), 0, "{published}");
    let arguments = [&mailbox[..], &["--count", "1"]].concat();
    let told = run(
        &mut command(&kamailio, "udp", "subscribe", "alice", &arguments),
        PATIENCE,
    );
    assert_eq!(told.code(), 0, "{told}");
    for line in [
        "  messages wait for sip:alice@127.0.0.1",
        "    voice-message: 2 new, 8 old (urgent: 0 new, 2 old)",
    ] {
        assert!(told.stdout.lines().any(|one| one == line), "{line}: {told}");
    }
    assert!(told.stdout.contains(" unsubscribed from "), "{told}");
}

#[test]
fn a_time_that_is_too_brief_is_made_longer() {
    if !presence_is_installed() {
        return;
    }
    let kamailio = Kamailio::start_presence();
    let arguments = ["--expires", "2", "--count", "1"];
    let outcome = run(
        &mut command(&kamailio, "udp", "subscribe", "bob", &arguments),
        PATIENCE,
    );
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert!(outcome.stdout.contains(" for 4 s\n"), "{outcome}");
}

#[test]
fn what_kamailio_refuses_is_status_1_and_one_line() {
    if !presence_is_installed() {
        return;
    }
    let kamailio = Kamailio::start_presence();
    let refused = |command: &mut Command, culprit: &str| {
        let outcome = run(command, PATIENCE);
        assert_eq!(outcome.code(), 1, "{outcome}");
        let lines = outcome.error_lines();
        assert!(lines.len() == 1 && lines[0].contains(culprit), "{outcome}");
        assert!(outcome.stdout.is_empty(), "{outcome}");
    };
    let unknown = ["--event", "juggling"];
    refused(
        &mut command(&kamailio, "udp", "subscribe", "bob", &unknown),
        "489",
    );
    let no_document = write(kamailio.files.path(), "no.xml", "<presence");
    let no_document = ["--once", "--body-file", no_document.to_str().unwrap()];
    refused(
        &mut command(&kamailio, "udp", "publish", "alice", &no_document),
        "415",
    );
    let open = ["--status", "open", "--once"];
    // Kamailio asks for the password of who is in From: alice, whatever bob's credentials are.
    refused(
        &mut command(&kamailio, "udp", "publish", "bob", &open),
        "401",
    );
    let mut wrong = command(&kamailio, "udp", "subscribe", "bob", &[]);
    write(kamailio.files.path(), "bob", "wrong");
    refused(&mut wrong, "401");
}
