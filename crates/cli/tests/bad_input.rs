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

#[test]
fn a_value_of_the_configuration_that_cannot_be_used_is_named_with_file_line_and_key() {
    let files = tempfile::tempdir().unwrap();
    for (text, culprit) in [
        (
            "[expires]\nminimum = 4000\nmaximum = 100\n",
            "2:11: expires.minimum",
        ),
        ("\nmaximum_contacts = 0\n", "2:20: maximum_contacts"),
        ("listen = []\n", "1:10: the list is empty"),
        ("digest = [\"MD5\", \"MD5\"]\n", "1:10: MD5 is there twice"),
    ] {
        let path = write(files.path(), "sipora.toml", text);
        let path = path.to_str().unwrap();
        refused(
            &["serve", "--no-auth", "--config", path],
            &format!("{path}:{culprit}"),
        );
    }
}

#[test]
fn a_listener_whose_name_does_not_resolve_says_so() {
    let listen = ["serve", "--no-auth", "--listen", "udp:nosuch.invalid:5062"];
    refused(&listen, "\"nosuch.invalid\" does not resolve");
}

#[test]
fn a_digest_algorithm_named_twice_is_refused() {
    refused(
        &["serve", "--no-auth", "--digest", "MD5,MD5"],
        "MD5 is there twice",
    );
}

// ---- what is allowed, and seldom meant ----

#[test]
fn a_server_without_authentication_that_others_can_reach_warns_once() {
    let warned = |address: &str| {
        let mut command = Command::new(SIPORA);
        let listen = ["udp", "tcp"].map(|transport| format!("{transport}:{address}:0"));
        command.args([
            "serve",
            "--no-auth",
            "--listen",
            &listen[0],
            "--listen",
            &listen[1],
        ]);
        let server = Process::start(&mut command);
        common::listener(&server, "tcp");
        let outcome = server.terminate(PATIENCE);
        assert_eq!(outcome.code(), 0, "{outcome}");
        let lines = outcome.error_lines();
        let warnings = lines
            .iter()
            .filter(|line| line.contains("without authentication"));
        warnings.count()
    };
    assert_eq!(warned("0.0.0.0"), 1);
    assert_eq!(warned("127.0.0.1"), 0);
}

#[test]
fn the_limit_of_open_files_is_raised_and_one_that_is_too_low_is_warned_about() {
    let serve = "exec \"$0\" serve --no-auth --listen udp:127.0.0.1:0";
    for (limits, warns) in [("ulimit -Sn 64", false), ("ulimit -n 512", true)] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limits} && {serve}"), SIPORA]);
        let server = Process::start(&mut command);
        common::listener(&server, "udp");
        let path = format!("/proc/{}/limits", server.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.starts_with("Max open files")) {
            let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
            assert_eq!(numbers[0], numbers[1], "soft and hard limit: {line}");
            if !warns && numbers[1].parse().is_ok_and(|limit: u64| limit < 10_064) {
                eprintln!("skipped: the hard limit of this machine is low");
                continue;
            }
        }
        let outcome = server.terminate(PATIENCE);
        assert_eq!(outcome.code(), 0, "{outcome}");
        assert_eq!(
            outcome.stderr.contains("open files are too few"),
            warns,
            "{outcome}"
        );
    }
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
fn what_is_to_be_watched_or_published_has_to_make_sense() {
    let uri = "sip:alice@127.0.0.1";
    for (arguments, culprit) in [
        (&["subscribe", "alice"][..], "alice"),
        (&["subscribe"], "URI"),
        (&["subscribe", uri, "--from", "bob"], "--from 'bob'"),
        (&["subscribe", uri, "--count", "0"], "--count"),
        (&["subscribe", uri, "--expires", "soon"], "--expires"),
        (&["subscribe", uri, "--raw", "--json"], "--json"),
        (&["subscribe", uri, "--event", "two words"], "--event"),
        (&["subscribe", uri, "--event", ""], "--event"),
        (&["publish", "alice", "--status", "open"], "alice"),
        (&["publish", uri], "--status"),
        (&["publish", uri, "--once"], "--status"),
        (&["publish", uri, "--status", "away"], "away"),
        (
            &["publish", uri, "--status", "open", "--expires", "0"],
            "--expires",
        ),
        (
            &["publish", uri, "--status", "open", "--event", "dialog"],
            "--body-file",
        ),
        (
            &["publish", uri, "--status", "open", "--body-file", "f"],
            "--body-file",
        ),
        (
            &["publish", uri, "--body-file", "/nonexistent"],
            "/nonexistent",
        ),
        (
            &[
                "publish",
                uri,
                "--body-file",
                "/dev/null",
                "--content-type",
                "text",
            ],
            "--content-type",
        ),
        (
            &["publish", uri, "--body-file", "/dev/null", "--event", "a b"],
            "--event",
        ),
        (&["publish", uri, "--remove"], "--etag"),
        (&["publish", uri, "--etag", "a b"], "--etag"),
        (&["publish", uri, "--etag", ""], "--etag"),
        (
            &["publish", uri, "--etag", "t", "--remove", "--note", "n"],
            "--remove",
        ),
    ] {
        refused(arguments, culprit);
    }
}

#[test]
fn a_body_that_is_empty_no_text_or_too_long_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let uri = "sip:alice@127.0.0.1";
    for (name, body) in [
        ("empty", b"\n".to_vec()),
        ("binary", vec![0xff, 0xfe]),
        ("long", vec![b'x'; 1 << 21]),
    ] {
        let path = files.path().join(name);
        std::fs::write(&path, body).unwrap();
        let path = path.to_str().unwrap();
        refused(&["publish", uri, "--body-file", path], path);
    }
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
        vec!["subscribe", "--help"],
        vec!["publish", "--help"],
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
        "mailto:alice",
        "127.0.0.1",
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
fn sighup_reads_the_users_file_again_and_a_broken_one_changes_nothing() {
    let mut server = Server::start(["alice"]);
    let users = server.files.path().join("users");
    let secret = write(server.files.path(), "secret", "secret");
    let uri = format!("sip:bob@{}", server.udp);
    let bob = || {
        let secret = secret.to_str().unwrap();
        sipora(["register", &uri, "--query", "--password-file", secret]).code()
    };
    assert_eq!(bob(), 1);
    std::fs::write(&users, "bob:secret\n").unwrap();
    server.process.signal("HUP");
    server.process.wait_for("the reload", PATIENCE, |line| {
        line.contains("users read again, there are 1").then_some(())
    });
    assert_eq!(bob(), 0);
    std::fs::write(&users, "nobody at all\n").unwrap();
    server.process.signal("HUP");
    server.process.wait_for("the complaint", PATIENCE, |line| {
        (line.contains("users stay as they were") && line.contains("users:1:")).then_some(())
    });
    assert_eq!(bob(), 0);
    assert_eq!(server.process.terminate(PATIENCE).code(), 0);
}

#[test]
fn wrong_credentials_are_logged_with_the_username_that_was_sent() {
    let server = Server::start(["alice"]);
    let wrong = write(server.files.path(), "wrong", "wrong");
    let uri = format!("sip:alice@{}", server.udp);
    let wrong = wrong.to_str().unwrap();
    let outcome = sipora([
        "register",
        &uri,
        "--user",
        "ali ce",
        "--password-file",
        wrong,
    ]);
    assert_eq!(outcome.code(), 1, "{outcome}");
    server.process.wait_for("the line", PATIENCE, |line| {
        (line.contains("wrong credentials") && line.contains("ali ce")).then_some(())
    });
}

#[test]
fn a_client_that_is_stopped_says_so_in_one_line_with_status_3() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let uri = format!("sip:alice@{}", silent.local_addr().unwrap());
    for (signal, arguments) in [
        ("INT", ["options", &uri].as_slice()),
        ("TERM", &["register", &uri]),
        ("INT", &["register", &uri, "--query"]),
        ("TERM", &["register", &uri, "--remove"]),
        ("TERM", &["register", &uri, "--keep"]),
    ] {
        let mut client = Process::start(Command::new(SIPORA).args(arguments));
        silent.recv(&mut [0; 2048]).expect("a request");
        client.signal(signal);
        let outcome = client.wait(PATIENCE);
        assert_eq!(outcome.code(), 3, "{arguments:?}: {outcome}");
        let lines = outcome.error_lines();
        assert_eq!(
            lines,
            [format!(
                "sipora: SIG{signal}: stopped before an answer came"
            )]
        );
        assert!(outcome.stdout.is_empty(), "{outcome}");
        // What it sent again meanwhile is not what the next one sends.
        silent.set_nonblocking(true).unwrap();
        while silent.recv(&mut [0; 2048]).is_ok() {}
        silent.set_nonblocking(false).unwrap();
    }
}

#[test]
fn sigint_ends_the_server_with_0() {
    let mut server = Server::start(["alice"]);
    server.process.signal("INT");
    let outcome = server.process.wait(Duration::from_secs(8));
    assert_eq!(outcome.code(), 0, "{outcome}");
}
