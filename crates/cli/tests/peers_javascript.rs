//! JsSIP and SIP.js, phones for browsers, run by Node: they register over WebSocket, plain and secure, write to each other
//! through the server, and unregister. Their contacts are names that never resolve: only their connections lead to them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;
mod secure_server;

use std::path::Path;

use common::{DOMAIN, PATIENCE, Process, npm_packages, password_of, peer, peer_is_installed};
use secure_server::SecureServer;
use serde_json::json;

#[test]
fn jssip_writes_to_sip_js_and_is_answered_over_ws() {
    write_to_each_other("ws", ["jssip", "sipjs"]);
}

#[test]
fn sip_js_writes_to_jssip_and_is_answered_over_ws() {
    write_to_each_other("ws", ["sipjs", "jssip"]);
}

#[test]
fn jssip_writes_to_sip_js_and_is_answered_over_wss() {
    write_to_each_other("wss", ["jssip", "sipjs"]);
}

#[test]
fn sip_js_writes_to_jssip_and_is_answered_over_wss() {
    write_to_each_other("wss", ["sipjs", "jssip"]);
}

fn write_to_each_other(transport: &str, [first, second]: [&str; 2]) {
    if !peer_is_installed("node") {
        return;
    }
    let Some(packages) = npm_packages() else {
        return;
    };
    let server = SecureServer::start(["alice", "bob"]);
    let bob = Phone::start(&server, &packages, second, transport, "bob", |settings| {
        settings["answer"] = json!("Hello Alice, this is Bob: ¡olé!");
    });
    let alice = Phone::start(&server, &packages, first, transport, "alice", |settings| {
        settings["to"] = json!(format!("sip:bob@{DOMAIN}"));
        settings["say"] = json!("Hello Bob, this is Alice: grüß dich");
    });

    bob.says(&format!(
        "message from sip:alice@{DOMAIN}: Hello Bob, this is Alice: grüß dich"
    ));
    alice.says("sent: 200");
    alice.says(&format!(
        "message from sip:bob@{DOMAIN}: Hello Alice, this is Bob: ¡olé!"
    ));
    bob.says("sent: 200");
    alice.ends(&server);
    bob.ends(&server);
}

#[test]
fn a_wrong_password_is_refused_to_jssip_and_to_sip_js() {
    if !peer_is_installed("node") {
        return;
    }
    let Some(packages) = npm_packages() else {
        return;
    };
    let server = SecureServer::start(["alice"]);
    for script in ["jssip", "sipjs"] {
        let phone = start(&server, &packages, script, "ws", "alice", |settings| {
            settings["password"] = json!("looking-glass");
        });
        phone.wait_for("refusal", PATIENCE, |line| {
            line.starts_with("not registered: ").then_some(())
        });
    }
    assert_eq!(server.bindings("alice"), [""; 0]);
}

/// A phone that has registered.
struct Phone {
    process: Process,
    user: &'static str,
}

impl Phone {
    fn start(
        server: &SecureServer,
        packages: &Path,
        script: &str,
        transport: &str,
        user: &'static str,
        set: impl FnOnce(&mut serde_json::Value),
    ) -> Phone {
        let process = start(server, packages, script, transport, user, set);
        let contact = process.wait_for("registration", PATIENCE, |line| {
            line.strip_prefix("registered as ").map(str::to_owned)
        });
        assert!(contact.contains(".invalid"), "{contact}");
        let bindings = server.bindings(user);
        assert_eq!(bindings.len(), 1, "{bindings:?}");
        assert!(bindings[0].contains(".invalid"), "{bindings:?}");
        Phone { process, user }
    }

    fn says(&self, wanted: &str) {
        self.process
            .wait_for(wanted, PATIENCE, |line| (line == wanted).then_some(()));
    }

    /// An orderly end of the phone, after which the registrar has forgotten it.
    fn ends(self, server: &SecureServer) {
        let outcome = self.process.terminate(PATIENCE);
        assert_eq!(outcome.code(), 0, "{outcome}");
        assert!(outcome.stdout.contains("unregistered"), "{outcome}");
        assert_eq!(server.bindings(self.user), [""; 0]);
    }
}

fn start(
    server: &SecureServer,
    packages: &Path,
    script: &str,
    transport: &str,
    user: &str,
    set: impl FnOnce(&mut serde_json::Value),
) -> Process {
    let address = match transport {
        "ws" => server.ws,
        _ => server.wss,
    };
    let mut settings = json!({
        "packages": packages,
        "server": format!("{transport}://{address}"),
        "uri": format!("sip:{user}@{DOMAIN}"),
        "password": password_of(user),
    });
    set(&mut settings);
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/javascript");
    Process::start(
        peer("node")
            .arg(scripts.join(script).with_extension("mjs"))
            .arg(settings.to_string())
            .env("NODE_EXTRA_CA_CERTS", &server.root),
    )
}
