//! sipsak registers at the server, queries it, pings it.
//!
//! sipsak cuts a port of five digits from the URIs that it writes (`sip:127.0.0.1:15060` becomes `sip:127.0.0.1:1506`),
//! so these tests also show that a served domain matches whatever the port.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::net::SocketAddr;

use common::{DOMAIN, Outcome, PATIENCE, Server, peer, peer_is_installed, run};

const CONTACT: &str = "sip:alice@127.0.0.1:9";

/// `sipsak -U`: a REGISTER, and again with credentials when it is challenged. sipsak ends with 0 on a 2xx; with
/// `-q` also only if the answer matches.
fn register(transport: &str, server: SocketAddr, password: &str, arguments: &[&str]) -> Outcome {
    let uri = format!("sip:alice@{DOMAIN}:{}", server.port());
    let mut command = peer("sipsak");
    command.args([
        "-vvv", "-i", "-U", "-E", transport, "-u", "alice", "-a", password, "-s", &uri,
    ]);
    run(command.args(arguments), PATIENCE)
}

fn registers_queries_and_removes(transport: &str, server: SocketAddr) {
    let password = common::password_of("alice");
    let listed = format!("Contact: .*<{CONTACT}>.*expires=[0-9]");

    let registered = register(
        transport,
        server,
        &password,
        &["-C", CONTACT, "-x", "120", "-q", &listed],
    );
    assert_eq!(registered.code(), 0, "register: {registered}");
    assert!(
        registered.stdout.contains("SIP/2.0 401 "),
        "nothing was challenged: {registered}"
    );

    let queried = register(
        transport,
        server,
        &password,
        &["-C", "empty", "-q", &listed],
    );
    assert_eq!(queried.code(), 0, "query: {queried}");

    let removed = register(transport, server, &password, &["-C", "star", "-x", "0"]);
    assert_eq!(removed.code(), 0, "remove: {removed}");

    let queried = register(transport, server, &password, &["-C", "empty"]);
    assert_eq!(queried.code(), 0, "query after removal: {queried}");
    assert!(
        !queried.stdout.contains(CONTACT),
        "the binding is still there: {queried}"
    );
}

#[test]
fn sipsak_registers_queries_and_removes_over_udp() {
    if !peer_is_installed("sipsak") {
        return;
    }
    let server = Server::start(["alice"]);
    registers_queries_and_removes("udp", server.udp);
}

#[test]
fn sipsak_registers_queries_and_removes_over_tcp() {
    if !peer_is_installed("sipsak") {
        return;
    }
    let server = Server::start(["alice"]);
    registers_queries_and_removes("tcp", server.tcp);
}

#[test]
fn sipsak_with_a_wrong_password_is_not_registered() {
    if !peer_is_installed("sipsak") {
        return;
    }
    let server = Server::start(["alice"]);
    let refused = register("udp", server.udp, "wrong", &["-C", CONTACT, "-x", "120"]);
    assert_eq!(refused.code(), 2, "{refused}");

    let queried = register(
        "udp",
        server.udp,
        &common::password_of("alice"),
        &["-C", "empty"],
    );
    assert_eq!(queried.code(), 0, "{queried}");
    assert!(
        !queried.stdout.contains(CONTACT),
        "the refused binding was stored: {queried}"
    );
}

#[test]
fn sipsak_pings_with_options_over_udp_and_tcp() {
    if !peer_is_installed("sipsak") {
        return;
    }
    let server = Server::start(["alice"]);
    for (transport, address) in [("udp", server.udp), ("tcp", server.tcp)] {
        let uri = format!("sip:{address}");
        let pinged = run(
            peer("sipsak").args(["-vv", "-E", transport, "-s", &uri]),
            PATIENCE,
        );
        assert_eq!(pinged.code(), 0, "{transport}: {pinged}");
        assert!(
            pinged.stdout.contains("SIP/2.0 200 "),
            "{transport}: {pinged}"
        );
    }
}
