//! `sipora options` and `sipora register` at our own server: what they print, what they leave behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    DOMAIN, Outcome, PATIENCE, Process, SIPORA, Server, ok_to, password_of, run, sipora, write,
};
use serde_json::{Value, json};

/// A server whose one user is alice, and what the program needs to be her.
struct Alice {
    server: Server,
    password_file: String,
}

impl Alice {
    fn start() -> Alice {
        Alice::of(Server::start(["alice"]))
    }

    fn of(server: Server) -> Alice {
        let file = write(server.files.path(), "alice.password", &password_of("alice"));
        let password_file = file.to_str().unwrap().to_owned();
        Alice {
            server,
            password_file,
        }
    }

    fn address(&self) -> String {
        format!("sip:alice@{}", self.server.udp)
    }

    /// `sipora register` with her address and password.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SIPORA);
        command
            .args([
                "register",
                &self.address(),
                "--password-file",
                &self.password_file,
            ])
            .args(arguments);
        command
    }

    fn register(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments), PATIENCE)
    }

    /// The URIs that are bound to her address.
    fn bound(&self) -> Vec<String> {
        let outcome = self.register(&["--query", "--json"]);
        assert_eq!(outcome.code(), 0, "{outcome}");
        let bindings = object(&outcome)["bindings"].as_array().unwrap().clone();
        bindings
            .iter()
            .map(|binding| binding["uri"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The one JSON object on standard output.
fn object(outcome: &Outcome) -> Value {
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome}");
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

fn header<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let headers = object["headers"].as_array().unwrap();
    headers.iter().find(|header| header["name"] == name)?["value"].as_str()
}

// ---- options ----

#[test]
fn options_prints_the_answer_as_text() {
    let server = Server::start(["alice"]);
    let outcome = sipora(["options", &format!("sip:{}", server.udp)]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let mut lines = outcome.stdout.lines();
    assert_eq!(lines.next(), Some("200 OK"), "{outcome}");
    assert!(
        lines.any(|line| line.starts_with("  Allow: ") && line.contains("REGISTER")),
        "{outcome}"
    );
    assert!(outcome.stderr.is_empty(), "{outcome}");
}

#[test]
fn options_prints_the_answer_as_one_json_object() {
    let server = Server::start(["alice"]);
    for transport in ["udp", "tcp"] {
        let outcome = sipora([
            "options",
            &format!("sip:{}", server.udp),
            "--json",
            "--transport",
            transport,
        ]);
        assert_eq!(outcome.code(), 0, "{outcome}");
        let object = object(&outcome);
        assert_eq!(
            (&object["status"], &object["reason"]),
            (&json!(200), &json!("OK"))
        );
        assert!(
            header(&object, "Allow").unwrap().contains("REGISTER"),
            "{outcome}"
        );
        assert!(
            header(&object, "Via")
                .unwrap()
                .contains(&transport.to_uppercase()),
            "{outcome}"
        );
        for key in ["error", "expires", "bindings", "body"] {
            assert_eq!(object.get(key), Some(&Value::Null), "{key}: {outcome}");
        }
    }
}

#[test]
fn a_refused_options_is_data_and_status_1() {
    let server = Server::start(["alice"]);
    let uri = format!("sip:nobody@{}", server.udp);
    let text = sipora(["options", &uri]);
    assert_eq!(text.code(), 1, "{text}");
    assert!(text.stdout.starts_with("407 "), "{text}");
    assert_eq!(text.error_lines().len(), 1, "{text}");

    let outcome = sipora(["options", &uri, "--json"]);
    assert_eq!(outcome.code(), 1, "{outcome}");
    let object = object(&outcome);
    assert_eq!(object["status"], 407);
    let error = object["error"].as_str().unwrap();
    assert!(outcome.error_lines()[0].ends_with(error), "{outcome}");
}

#[test]
fn silence_ends_with_the_timeout_and_is_status_3() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("sip:{}", silent.local_addr().unwrap());
    let began = Instant::now();
    let outcome = sipora(["options", &uri, "--timeout", "0.7", "--json"]);
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(outcome.code(), 3, "{outcome}");
    let object = object(&outcome);
    assert_eq!(
        (&object["status"], &object["headers"]),
        (&Value::Null, &json!([]))
    );
    assert!(
        object["error"].as_str().unwrap().contains(&uri),
        "{outcome}"
    );
}

#[test]
fn messages_are_shown_on_standard_error_alone() {
    let server = Server::start(["alice"]);
    let outcome = sipora(["options", &format!("sip:{}", server.udp), "-v"]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let lines = outcome.error_lines();
    let title = |arrow: &str| format!("{arrow} udp {} ", server.udp);
    assert!(lines[0].starts_with(&title(">>>")), "{outcome}");
    assert!(lines[1].starts_with("OPTIONS sip:"), "{outcome}");
    let answer = lines
        .iter()
        .position(|line| line.starts_with(&title("<<<")))
        .unwrap();
    assert_eq!(lines[answer + 1], "SIP/2.0 200 OK", "{outcome}");
    assert!(outcome.stdout.starts_with("200 OK\n"), "{outcome}");
}

// ---- register ----

#[test]
fn a_binding_is_made_listed_and_removed() {
    for transport in ["udp", "tcp"] {
        let alice = Alice::start();
        let outcome = alice.register(&["--transport", transport]);
        assert_eq!(outcome.code(), 0, "{outcome}");
        let mut lines = outcome.stdout.lines();
        let expected = format!("registered {} for 3600 s", alice.address());
        assert_eq!(lines.next(), Some(expected.as_str()), "{outcome}");
        assert!(
            lines.next().unwrap().starts_with("  sip:alice@127.0.0.1:"),
            "{outcome}"
        );
        assert_eq!(alice.bound().len(), 1);

        let removed = alice.register(&["--remove", "--transport", transport]);
        assert_eq!(removed.code(), 0, "{removed}");
        assert_eq!(alice.bound(), Vec::<String>::new());
    }
}

#[test]
fn one_contact_is_removed_and_the_others_stay() {
    let alice = Alice::start();
    let (one, other) = (
        "sip:alice@192.0.2.1:5070",
        "sip:alice@192.0.2.2;transport=tcp",
    );
    for contact in [one, other] {
        let outcome = alice.register(&["--contact", contact, "--expires", "100", "--json"]);
        assert_eq!(outcome.code(), 0, "{outcome}");
        assert_eq!(object(&outcome)["expires"], 100);
    }
    let removed = alice.register(&["--remove", "--contact", one, "--json"]);
    assert_eq!(removed.code(), 0, "{removed}");
    assert_eq!(object(&removed)["bindings"][0]["uri"], other);
    assert_eq!(alice.bound(), [other]);
}

#[test]
fn what_is_too_brief_is_registered_for_the_least_that_is_granted() {
    let alice = Alice::start();
    let outcome = alice.register(&["--expires", "5", "--json"]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert_eq!(object(&outcome)["expires"], 60);
}

#[test]
fn who_has_too_many_contacts_is_told_how_to_get_rid_of_them() {
    let alice = Alice::of(Server::start_with(["alice"], "maximum_contacts = 2\n", &[]));
    for contact in ["sip:alice@192.0.2.1", "sip:alice@192.0.2.2"] {
        assert_eq!(alice.register(&["--contact", contact]).code(), 0);
    }
    let outcome = alice.register(&[]);
    assert_eq!(outcome.code(), 1, "{outcome}");
    let lines = outcome.error_lines();
    assert_eq!(lines.len(), 1, "{outcome}");
    for part in ["403 Too Many Contacts", "--remove", "--keep"] {
        assert!(lines[0].contains(part), "{part}: {outcome}");
    }
}

#[test]
fn a_registrar_and_a_proxy_can_be_other_than_the_domain() {
    let alice = Alice::start();
    let server = format!("sip:{}", alice.server.udp);
    // Nobody listens at port 9 of the address-of-record.
    for flag in ["--registrar", "--proxy"] {
        let address = format!("sip:alice@{DOMAIN}:9");
        let outcome = sipora([
            "register",
            &address,
            "--password-file",
            &alice.password_file,
            flag,
            &server,
        ]);
        assert_eq!(outcome.code(), 0, "{flag}: {outcome}");
    }
    assert_eq!(alice.bound().len(), 2);
}

#[test]
fn the_password_may_come_from_the_environment() {
    let alice = Alice::start();
    let mut command = Command::new(SIPORA);
    command
        .args(["register", &alice.address()])
        .env("SIPORA_PASSWORD", password_of("alice"));
    let outcome = run(&mut command, PATIENCE);
    assert_eq!(outcome.code(), 0, "{outcome}");
}

#[test]
fn who_gives_no_password_is_told_how_to() {
    let alice = Alice::start();
    for flag in [None, Some("--query"), Some("--remove")] {
        let mut command = Command::new(SIPORA);
        command
            .args(["register", &alice.address()])
            .args(flag)
            .env_remove("SIPORA_PASSWORD");
        let outcome = run(&mut command, PATIENCE);
        assert_eq!(outcome.code(), 1, "{flag:?}: {outcome}");
        assert_eq!(outcome.error_lines().len(), 1, "{outcome}");
        assert!(outcome.error_lines()[0].contains("401"), "{outcome}");
        assert!(
            outcome.error_lines()[0].contains("--password-file"),
            "{outcome}"
        );
        assert!(outcome.stdout.is_empty(), "{outcome}");
    }
}

#[test]
fn a_refusal_is_in_the_json_too() {
    let alice = Alice::start();
    let wrong = write(alice.server.files.path(), "wrong", "wrong");
    for action in [None, Some("--query"), Some("--remove")] {
        let mut command = Command::new(SIPORA);
        command
            .args([
                "register",
                &alice.address(),
                "--json",
                "--password-file",
                wrong.to_str().unwrap(),
            ])
            .args(action);
        let outcome = run(&mut command, PATIENCE);
        assert_eq!(outcome.code(), 1, "{action:?}: {outcome}");
        let object = object(&outcome);
        assert_eq!(object["status"], 401, "{action:?}: {outcome}");
        assert!(
            header(&object, "WWW-Authenticate").is_some(),
            "{action:?}: {outcome}"
        );
        assert_eq!(object["bindings"], Value::Null, "{action:?}: {outcome}");
    }
    assert_eq!(alice.bound(), Vec::<String>::new());
}

// ---- register --keep ----

#[test]
fn a_registration_that_is_kept_is_refreshed_and_in_the_end_removed() {
    for signal in ["TERM", "INT"] {
        let alice = Alice::of(Server::start_with(["alice"], common::SHORT_EXPIRES, &[]));
        let mut kept =
            Process::start(&mut alice.command(&["--keep", "--expires", "3", "--transport", "tcp"]));
        kept.wait_for("the registration", PATIENCE, |line| {
            line.starts_with("registered sip:").then_some(())
        });
        kept.wait_for("a refresh", PATIENCE, |line| {
            line.contains("Z registered for 3 s").then_some(())
        });
        assert_eq!(alice.bound().len(), 1);
        kept.signal(signal);
        let outcome = kept.wait(Duration::from_secs(6));
        assert_eq!(outcome.code(), 0, "{signal}: {outcome}");
        assert!(
            outcome
                .stdout
                .ends_with(&format!("Z unregistered {}\n", alice.address())),
            "{outcome}"
        );
        assert_eq!(alice.bound(), Vec::<String>::new(), "{signal}");
    }
}

#[test]
fn a_registration_that_is_kept_prints_one_json_object() {
    let alice = Alice::of(Server::start_with(["alice"], common::SHORT_EXPIRES, &[]));
    let mut kept = Process::start(&mut alice.command(&["--keep", "--expires", "3", "--json"]));
    kept.wait_for("a refresh", PATIENCE, |line| {
        line.contains("Z registered for 3 s").then_some(())
    });
    kept.signal("TERM");
    let outcome = kept.wait(Duration::from_secs(6));
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert_eq!(object(&outcome)["expires"], 3);
}

#[test]
fn a_removal_that_gets_no_answer_is_status_3_and_ends_soon() {
    let alice = Alice::start();
    let mut kept = Process::start(&mut alice.command(&["--keep", "--timeout", "2"]));
    kept.wait_for("the registration", PATIENCE, |line| {
        line.starts_with("registered sip:").then_some(())
    });
    // Nobody answers at that port from here on, though it stays taken.
    let udp = alice.server.udp;
    assert_eq!(alice.server.process.terminate(PATIENCE).code(), 0);
    let _silent = UdpSocket::bind(udp).unwrap();
    kept.signal("TERM");
    let outcome = kept.wait(Duration::from_secs(8));
    assert_eq!(outcome.code(), 3, "{outcome}");
    assert_eq!(outcome.error_lines().len(), 1, "{outcome}");
    assert!(
        outcome.error_lines()[0].contains("not unregistered"),
        "{outcome}"
    );
}

/// A registrar that a program stays registered at, and what comes to it beside REGISTERs.
fn keeps_open(how: &str, is_it: impl Fn(&[u8]) -> bool) {
    let registrar = UdpSocket::bind("127.0.0.1:0").unwrap();
    registrar.set_read_timeout(Some(PATIENCE)).unwrap();
    let alice = format!("sip:alice@{}", registrar.local_addr().unwrap());
    let _phone = Process::start(Command::new(SIPORA).args([
        "register",
        &alice,
        "--keep",
        "--udp-keep-alive",
        how,
    ]));
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, from) = registrar.recv_from(&mut buffer).expect(how);
        let datagram = &buffer[..length];
        if is_it(datagram) {
            return;
        }
        let register = String::from_utf8_lossy(datagram).into_owned();
        assert!(register.starts_with("REGISTER "), "{register}");
        let contact = register.lines().find(|line| line.starts_with("Contact: "));
        let granted = format!("{};expires=600\r\nContent-Length: 0", contact.unwrap());
        let answer = ok_to(&register).replace("Content-Length: 0", &granted);
        registrar.send_to(answer.as_bytes(), from).unwrap();
    }
}

#[test]
fn a_way_over_udp_is_kept_open_by_line_ends() {
    keeps_open("1", |datagram| datagram == b"\r\n\r\n");
}

#[test]
fn a_way_over_udp_is_kept_open_by_stun() {
    // A Binding request with the magic cookie (RFC 5389 §6).
    keeps_open("stun:1", |datagram| {
        datagram.starts_with(&[0, 1]) && datagram.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42])
    });
}

#[test]
fn keep_alives_that_are_none_are_wrong_usage() {
    for flags in [
        &["--keep", "--udp-keep-alive", "ice:1"][..],
        &["--udp-keep-alive", "29"],
        &["--keep-alive", "often"],
    ] {
        let outcome = sipora(["register", "sip:alice@127.0.0.1"].iter().chain(flags));
        assert_eq!(outcome.code(), 2, "{outcome}");
    }
}
