//! SIPp sends messages through the server to SIPp, which answers each; none may be lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::net::SocketAddr;

use common::sipp::{LIMIT, sipp, succeeded, turn, wait_until_bound};
use common::{DOMAIN, Process, Server, free_port, password_of, peer_is_installed, write};

const MESSAGES: &str = "300";
const SCENARIOS: [&str; 3] = ["register.xml", "receive_message.xml", "message.xml"];

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
    let _turn = turn();
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
    succeeded(
        &Process::start(&mut register).wait(LIMIT),
        files,
        &SCENARIOS,
    );
    let mut receive = sipp(files, "receive_message.xml", mode, port, MESSAGES);
    let receiving = Process::start(&mut receive);
    wait_until_bound(mode, port);

    let mut send = sipp(files, "message.xml", mode, free_port(), MESSAGES);
    send.arg("-inf").arg(sender).arg(to.to_string());
    send.args(["-r", "200", "-l", "50"]);
    succeeded(&Process::start(&mut send).wait(LIMIT), files, &SCENARIOS);
    succeeded(&receiving.wait(LIMIT), files, &SCENARIOS);
    server.assert_answers("SIPp's messages");
}
