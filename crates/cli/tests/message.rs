//! `sipora message` at our own server: what it sends, what it prints, how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Outcome, PATIENCE, Process, SIPORA, Server, password_of, run, sipora, write};
use serde_json::Value;

/// A server with alice and bob, and a bare socket that is bob's phone.
struct Chat {
    server: Server,
    phone: UdpSocket,
    passwords: [String; 2],
}

impl Chat {
    fn start() -> Chat {
        let server = Server::start(["alice", "bob"]);
        let password = |user: &str| {
            let file = write(server.files.path(), user, &password_of(user));
            file.to_str().unwrap().to_owned()
        };
        let passwords = [password("alice"), password("bob")];
        let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
        Chat {
            server,
            phone,
            passwords,
        }
    }

    /// Binds bob's address to the phone. The socket that the REGISTER came from is gone then, so the server finds the phone
    /// by its contact.
    fn bind(&self) {
        let contact = format!("sip:bob@{}", self.phone.local_addr().unwrap());
        let outcome = sipora([
            "register",
            &format!("sip:bob@{}", self.server.udp),
            "--password-file",
            &self.passwords[1],
            "--contact",
            &contact,
        ]);
        assert_eq!(outcome.code(), 0, "{outcome}");
    }

    fn bob(&self) -> String {
        format!("sip:bob@{}", self.server.udp)
    }

    /// Alice's message to bob.
    fn command(&self, text: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(SIPORA);
        command
            .args(["message", &self.bob(), text, "--user", "alice"])
            .args(["--password-file", &self.passwords[0]])
            .args(arguments);
        command
    }

    /// Runs a command, and answers the message that comes of it.
    fn run(&self, command: &mut Command, status: &str) -> (Outcome, String) {
        let process = Process::start(command);
        let message = self.answer(status);
        (process.wait(PATIENCE), message)
    }

    /// Waits for a message and answers it.
    fn answer(&self, status: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 65_535];
        self.phone
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        while Instant::now() < deadline {
            let Ok((length, from)) = self.phone.recv_from(&mut buffer) else {
                continue;
            };
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if request.starts_with("MESSAGE ") {
                self.reply(&request, status, from);
                return request;
            }
        }
        panic!("no message came:\n{}", self.server.process.printed());
    }

    fn reply(&self, request: &str, status: &str, to: SocketAddr) {
        let mut answer = format!("SIP/2.0 {status}\r\n");
        for line in request.lines() {
            let name = line.split(':').next().unwrap_or_default();
            match name {
                "Via" | "From" | "Call-ID" | "CSeq" => answer.push_str(line),
                "To" => answer.push_str(&format!("{line};tag=phone")),
                _ => continue,
            }
            answer.push_str("\r\n");
        }
        answer.push_str("Content-Length: 0\r\n\r\n");
        self.phone.send_to(answer.as_bytes(), to).unwrap();
    }
}

#[test]
fn a_message_is_delivered_and_the_answer_printed() {
    let chat = Chat::start();
    chat.bind();
    let (outcome, message) = chat.run(&mut chat.command("Grüße", &[]), "200 OK");
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert_eq!(outcome.stdout.lines().next(), Some("200 OK"), "{outcome}");
    assert!(outcome.stderr.is_empty(), "{outcome}");
    for part in [
        "From: <sip:alice@127.0.0.1>;tag=",
        "\r\nContent-Type: text/plain;charset=UTF-8\r\n",
        "\r\n\r\nGrüße",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("Proxy-Authorization"), "{message}");
}

#[test]
fn standard_input_type_and_sender_can_be_others() {
    let chat = Chat::start();
    chat.bind();
    let mut command = Command::new("sh");
    command
        .args(["-c", "printf '<b>one</b>\\ntwo' | \"$@\"", "sh", SIPORA])
        .args(["message", &chat.bob(), "-", "--from", "sip:alice@127.0.0.1"])
        .args(["--content-type", "text/html"])
        .env("SIPORA_PASSWORD", password_of("alice"));
    let (outcome, message) = chat.run(&mut command, "202 Accepted");
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert!(
        message.contains("\r\nContent-Type: text/html\r\n"),
        "{message}"
    );
    assert!(message.ends_with("\r\n\r\n<b>one</b>\ntwo"), "{message}");
}

#[test]
fn who_writes_to_himself_reads_it_at_his_phone() {
    let chat = Chat::start();
    chat.bind();
    let mut command = Command::new(SIPORA);
    command
        .args(["message", &chat.bob(), "Buy milk", "--user", "bob"])
        .args(["--password-file", &chat.passwords[1]]);
    let (outcome, message) = chat.run(&mut command, "200 OK");
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert!(
        message.contains("From: <sip:bob@127.0.0.1>;tag="),
        "{message}"
    );
    assert!(message.ends_with("\r\n\r\nBuy milk"), "{message}");
}

#[test]
fn a_text_may_begin_with_a_hyphen() {
    let chat = Chat::start();
    chat.bind();
    let (outcome, message) = chat.run(&mut chat.command("-v is a flag", &[]), "200 OK");
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert!(message.ends_with("\r\n\r\n-v is a flag"), "{message}");
}

#[test]
fn a_refusal_is_status_1_as_text_and_as_json() {
    let chat = Chat::start();
    let outcome = run(&mut chat.command("hello", &[]), PATIENCE);
    assert_eq!(outcome.code(), 1, "{outcome}");
    assert!(
        outcome.stderr.contains("480 Temporarily Unavailable"),
        "{outcome}"
    );
    chat.bind();
    let (outcome, _) = chat.run(&mut chat.command("hello", &["--json"]), "603 Decline");
    assert_eq!(outcome.code(), 1, "{outcome}");
    let object: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(object["status"], 603, "{outcome}");
    assert!(object["error"].as_str().unwrap().contains("603 Decline"));
}

#[test]
fn who_is_not_known_to_the_server_is_told_how_to_be() {
    let chat = Chat::start();
    let outcome = sipora(["message", &chat.bob(), "hello"]);
    assert_eq!(outcome.code(), 1, "{outcome}");
    assert!(
        outcome.stderr.contains("407") && outcome.stderr.contains("--user"),
        "{outcome}"
    );
    let arguments = ["--from", "sip:bob@127.0.0.1"];
    let outcome = run(&mut chat.command("hello", &arguments), PATIENCE);
    assert_eq!(outcome.code(), 1, "{outcome}");
    assert!(outcome.stderr.contains("403"), "{outcome}");
}

#[test]
fn a_wrong_password_is_called_one_in_the_words_of_every_command() {
    let chat = Chat::start();
    let wrong = write(chat.server.files.path(), "wrong", "looking-glass");
    let bob = chat.bob();
    for arguments in [
        &["message", bob.as_str(), "hello"][..],
        &["options", &bob],
        &["subscribe", &bob],
    ] {
        let mut command = Command::new(SIPORA);
        command
            .args(arguments)
            .args(["--user", "alice", "--password-file"])
            .arg(&wrong);
        let outcome = run(&mut command, PATIENCE);
        assert_eq!(outcome.code(), 1, "{outcome}");
        let words =
            ": authentication failed: the credentials for realm \"127.0.0.1\" were rejected (40";
        assert!(outcome.stderr.contains(words), "{outcome}");
        assert_eq!(outcome.error_lines().len(), 1, "{outcome}");
    }
}

#[test]
fn wrong_usage_is_status_2_and_silence_status_3() {
    for arguments in [
        &["message", "bob", "hello"][..],
        &["message", "sip:bob@127.0.0.1"],
        &["message", "sip:bob@127.0.0.1", "hello", "--from", "alice"],
        &[
            "message",
            "sip:bob@127.0.0.1",
            "hello",
            "--content-type",
            "text",
        ],
    ] {
        let outcome = sipora(arguments);
        assert_eq!(outcome.code(), 2, "{arguments:?}: {outcome}");
        assert_eq!(outcome.error_lines().len(), 1, "{outcome}");
    }
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = format!("sip:bob@{}", deaf.local_addr().unwrap());
    let outcome = sipora(["message", &target, "hello", "--timeout", "0.5"]);
    assert_eq!(outcome.code(), 3, "{outcome}");
}

#[test]
fn options_reach_a_user_too() {
    let chat = Chat::start();
    let mut command = Command::new(SIPORA);
    command
        .args(["options", &chat.bob(), "--user", "alice"])
        .args(["--password-file", &chat.passwords[0]]);
    let outcome = run(&mut command, PATIENCE);
    assert_eq!(outcome.code(), 1, "{outcome}");
    assert!(outcome.stderr.contains("480"), "{outcome}");
}
