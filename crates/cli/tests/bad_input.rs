//! Bad input at the command line: one clear line on standard error, nothing on standard output, status 2; and the exit
//! statuses that scripts rely on: 0 success, 1 a final answer other than 2xx, 2 usage or local error, 3 no answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, Process, SIPORA, Server, password_of, sipora, write};

/// Runs `sipora` with these arguments, which it must refuse: status 2 and one line that names `culprit`.
fn refused(arguments: &[&str], culprit: &str) {
    let outcome = sipora(arguments);
    assert_eq!(outcome.code(), 2, "{arguments:?}: {outcome}");
    let lines = outcome.error_lines();
    assert_eq!(
        lines.len(),
        1,
        "{arguments:?} is not refused in one line: {outcome}"
    );
    assert!(
        lines[0].contains(culprit),
        "{arguments:?}: the line does not name {culprit}: {outcome}"
    );
    assert!(outcome.stdout.is_empty(), "{arguments:?}: {outcome}");
}

// ---- serve ----

#[test]
fn an_occupied_udp_port_is_refused() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    refused(
        &["serve", "--listen", &format!("udp:{address}"), "--no-auth"],
        &address,
    );
}

#[test]
fn an_occupied_tcp_port_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    refused(
        &["serve", "--listen", &format!("tcp:{address}"), "--no-auth"],
        &address,
    );
}

#[test]
fn a_port_that_another_sipora_serves_is_refused_and_the_first_goes_on() {
    let server = Server::start(["alice"]);
    for (transport, address) in [("udp", server.udp), ("tcp", server.tcp)] {
        let listen = format!("{transport}:{address}");
        refused(
            &["serve", "--listen", &listen, "--no-auth"],
            &address.to_string(),
        );
    }
    server.assert_answers("a second server that found the port occupied");
}

#[test]
fn one_occupied_port_of_two_opens_neither() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tcp = format!("tcp:{address}");
    refused(
        &[
            "serve",
            "--listen",
            "udp:127.0.0.1:0",
            "--listen",
            &tcp,
            "--no-auth",
        ],
        &address,
    );
}

#[test]
fn a_listener_that_cannot_be_read_is_refused() {
    for listen in [
        "127.0.0.1:5060",
        "sctp:127.0.0.1:5060",
        "udp:127.0.0.1",
        "udp:127.0.0.1:65536",
        "udp:",
        "",
    ] {
        refused(&["serve", "--listen", listen, "--no-auth"], "--listen");
    }
}

#[test]
fn an_address_that_is_not_ours_is_refused() {
    // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
    refused(
        &["serve", "--listen", "udp:192.0.2.1:0", "--no-auth"],
        "192.0.2.1",
    );
}

#[test]
fn a_users_file_that_cannot_be_read_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let missing = files.path().join("missing").to_str().unwrap().to_owned();
    let directory = files.path().to_str().unwrap().to_owned();
    for users in [&missing, &directory] {
        refused(
            &[
                "serve",
                "--listen",
                "udp:127.0.0.1:0",
                "--domain",
                "127.0.0.1",
                "--users",
                users,
            ],
            users,
        );
    }
}

#[test]
fn a_users_file_that_names_nobody_is_warned_about() {
    let files = tempfile::tempdir().unwrap();
    let users = write(files.path(), "users", "# nobody yet\n");
    let mut command = Command::new(SIPORA);
    command.args(["serve", "--listen", "udp:127.0.0.1:0", "--users"]);
    let server = Process::start(command.arg(users));
    server.wait_for("warning", PATIENCE, |line| {
        (line.contains("WARN") && line.contains("nobody can register")).then_some(())
    });
    let outcome = server.terminate(PATIENCE);
    assert_eq!(outcome.code(), 0, "{outcome}");
}

#[test]
fn a_users_file_without_permission_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let users = write(files.path(), "users", "alice:secret\n");
    std::fs::set_permissions(&users, PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::read(&users).is_ok() {
        eprintln!("skipped: root may read any file");
        return;
    }
    let users = users.to_str().unwrap();
    refused(
        &[
            "serve",
            "--listen",
            "udp:127.0.0.1:0",
            "--domain",
            "127.0.0.1",
            "--users",
            users,
        ],
        users,
    );
}

#[test]
fn a_line_of_the_users_file_that_is_no_user_is_named_without_its_secret() {
    let files = tempfile::tempdir().unwrap();
    let users = write(
        files.path(),
        "users",
        "alice:secret\nhunter2-without-a-user\nbob:secret\n",
    );
    let users = users.to_str().unwrap();
    let arguments = [
        "serve",
        "--listen",
        "udp:127.0.0.1:0",
        "--domain",
        "127.0.0.1",
        "--users",
        users,
    ];
    refused(&arguments, &format!("{users}:2"));
    let outcome = sipora(arguments);
    assert!(
        !format!("{outcome}").contains("hunter2"),
        "a line that may be a password is repeated: {outcome}"
    );
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let missing = files.path().join("missing.toml");
    let cases = [
        missing,
        write(files.path(), "syntax.toml", "[registrar\n"),
        write(
            files.path(),
            "unknown.toml",
            "no_such_setting_is_known = true\n",
        ),
        write(files.path(), "not-utf-8.toml", "x = 1\n"),
    ];
    std::fs::write(&cases[3], b"x = \"\xff\xfe\"\n").unwrap();
    for configuration in &cases {
        let configuration = configuration.to_str().unwrap();
        refused(
            &[
                "serve",
                "--listen",
                "udp:127.0.0.1:0",
                "--no-auth",
                "--config",
                configuration,
            ],
            configuration,
        );
    }
}

#[test]
fn a_configuration_error_names_line_and_column() {
    let files = tempfile::tempdir().unwrap();
    let configuration = write(
        files.path(),
        "sipora.toml",
        "# first line\n\nno_such_setting_is_known = true\n",
    );
    let configuration = configuration.to_str().unwrap();
    let arguments = [
        "serve",
        "--listen",
        "udp:127.0.0.1:0",
        "--no-auth",
        "--config",
        configuration,
    ];
    refused(&arguments, &format!("{configuration}:3:1"));
    refused(&arguments, "no_such_setting_is_known");
}

#[test]
fn a_digest_algorithm_that_is_unknown_is_refused() {
    refused(
        &[
            "serve",
            "--listen",
            "udp:127.0.0.1:0",
            "--no-auth",
            "--digest",
            "MD5,SHA-3",
        ],
        "SHA-3",
    );
}

// ---- flags ----

#[test]
fn a_bad_flag_is_refused_by_every_command() {
    refused(&["--no-such-flag"], "--no-such-flag");
    refused(&["serve", "--no-such-flag"], "--no-such-flag");
    refused(
        &["register", "sip:alice@127.0.0.1", "--no-such-flag"],
        "--no-such-flag",
    );
    refused(
        &["options", "sip:127.0.0.1", "--no-such-flag"],
        "--no-such-flag",
    );
}

#[test]
fn a_missing_or_unknown_command_is_refused() {
    refused(&["no-such-command"], "no-such-command");
    refused(&["options"], "URI");
    refused(&["register"], "URI");
}

#[test]
fn a_flag_without_its_value_is_refused() {
    refused(&["serve", "--listen"], "--listen");
    refused(&["serve", "--users"], "--users");
    refused(&["register", "sip:alice@127.0.0.1", "--user"], "--user");
}

#[test]
fn help_and_version_are_not_errors() {
    for arguments in [
        vec!["--help"],
        vec!["--version"],
        vec!["serve", "--help"],
        vec!["register", "--help"],
    ] {
        let outcome = sipora(&arguments);
        assert_eq!(outcome.code(), 0, "{arguments:?}: {outcome}");
        assert!(
            !outcome.stdout.is_empty() && outcome.stderr.is_empty(),
            "{arguments:?}: {outcome}"
        );
    }
}

// ---- client ----

#[test]
fn a_uri_that_cannot_be_read_is_refused() {
    for uri in [
        "",
        "alice",
        "sip:",
        "sip:alice@",
        "sip:alice@[::1",
        "sip:alice@127.0.0.1:99999",
        "mailto:alice@x",
    ] {
        refused(&["options", uri], uri);
        refused(&["register", uri], uri);
    }
}

#[test]
fn a_password_file_that_cannot_be_read_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let missing = files.path().join("missing");
    let missing = missing.to_str().unwrap();
    refused(
        &[
            "register",
            "sip:alice@127.0.0.1",
            "--user",
            "alice",
            "--password-file",
            missing,
        ],
        missing,
    );
}

#[test]
fn a_refused_tcp_connection_is_no_answer() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let outcome = sipora(["options", &format!("sip:{address};transport=tcp")]);
    assert_eq!(outcome.code(), 3, "{outcome}");
    assert_eq!(outcome.error_lines().len(), 1, "{outcome}");
}

#[test]
fn a_silent_peer_is_no_answer() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("sip:alice@{}", silent.local_addr().unwrap());
    let outcome = sipora(["register", &uri, "--timeout", "1"]);
    assert_eq!(outcome.code(), 3, "{outcome}");
    assert_eq!(outcome.error_lines().len(), 1, "{outcome}");
}

#[test]
fn options_and_register_at_our_own_server_succeed_over_udp_and_tcp() {
    let server = Server::start(["alice"]);
    let password = write(server.files.path(), "password", &password_of("alice"));
    let password = password.to_str().unwrap();
    for (transport, address) in [("udp", server.udp), ("tcp", server.tcp)] {
        let pinged = sipora(["options", &format!("sip:{address};transport={transport}")]);
        assert_eq!(pinged.code(), 0, "{transport}: {pinged}");
        let uri = format!("sip:alice@{address};transport={transport}");
        let registered = sipora([
            "register",
            &uri,
            "--user",
            "alice",
            "--password-file",
            password,
        ]);
        assert_eq!(registered.code(), 0, "{transport}: {registered}");
    }
}

#[test]
fn a_refused_registration_at_our_own_server_is_status_1() {
    let server = Server::start(["alice", "bob"]);
    let wrong = write(server.files.path(), "wrong", "wrong");
    let bobs = write(server.files.path(), "bobs", &password_of("bob"));
    let alice = format!("sip:alice@{}", server.udp);
    for (user, password, status) in [
        ("alice", &wrong, "401"),
        ("bob", &bobs, "403"),
        ("nobody", &wrong, "401"),
    ] {
        let outcome = sipora([
            "register",
            &alice,
            "--user",
            user,
            "--password-file",
            password.to_str().unwrap(),
        ]);
        assert_eq!(outcome.code(), 1, "{user}: {outcome}");
        let lines = outcome.error_lines();
        assert_eq!(lines.len(), 1, "{user}: one clear line: {outcome}");
        assert!(
            lines[0].contains(status),
            "{user}: the line does not name {status}: {outcome}"
        );
    }
}

// ---- the end ----

#[test]
fn sigterm_ends_the_server_with_0_within_five_seconds() {
    let server = Server::start(["alice"]);
    server.assert_answers("start");
    // A connection that says nothing and one that stopped within a message must not hold the end up.
    let idle = TcpStream::connect(server.tcp).unwrap();
    let mut half = TcpStream::connect(server.tcp).unwrap();
    std::io::Write::write_all(&mut half, b"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: ").unwrap();

    let started = Instant::now();
    let outcome = server.process.terminate(Duration::from_secs(8));
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert!(
        started.elapsed() < Duration::from_millis(5_500),
        "took {:?}",
        started.elapsed()
    );
    for mut connection in [idle, half] {
        connection
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut rest = Vec::new();
        // Closed or reset, but over: a time-out would be an error of another kind.
        if let Err(error) = connection.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}

#[test]
fn the_port_is_free_again_after_sigterm() {
    let server = Server::start(["alice"]);
    let (udp, tcp) = (server.udp, server.tcp);
    // A connection of ours is still open as the server ends: its port is in TIME_WAIT then.
    let _open = TcpStream::connect(tcp).unwrap();
    assert_eq!(server.process.terminate(PATIENCE).code(), 0);

    let mut command = Command::new(SIPORA);
    command.args([
        "serve",
        "--no-auth",
        "--listen",
        &format!("udp:{udp}"),
        "--listen",
        &format!("tcp:{tcp}"),
    ]);
    let again = Process::start(&mut command);
    assert_eq!(common::listener(&again, "udp"), udp);
    assert_eq!(common::listener(&again, "tcp"), tcp);
    assert_eq!(again.terminate(PATIENCE).code(), 0);
}

#[test]
fn sigint_ends_the_server_with_0() {
    let mut server = Server::start(["alice"]);
    server.process.signal("INT");
    let outcome = server.process.wait(Duration::from_secs(8));
    assert_eq!(outcome.code(), 0, "{outcome}");
}
