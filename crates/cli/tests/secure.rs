//! `sipora serve` over TLS, and our own commands at it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;
mod secure_server;

use std::process::Command;

use common::{PATIENCE, Process, SIPORA, listener, sipora, write};
use secure_server::{SecureServer, authority::Authority};
use sipora_transport::Pem;

#[test]
fn a_client_believes_a_server_over_tls_by_the_roots_that_it_is_given() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"]);
    let Pem::Bytes(root) = authority.pem() else {
        panic!("bytes")
    };
    let files = tempfile::tempdir().unwrap();
    let root = write(files.path(), "ca.pem", std::str::from_utf8(&root).unwrap());
    let certificate = write(files.path(), "cert.pem", &certificate);
    let key = write(files.path(), "key.pem", &key);
    let mut serve = Command::new(SIPORA);
    serve
        .args(["serve", "--no-auth", "--listen", "tls:127.0.0.1:0"])
        .args(["--listen", "ws:127.0.0.1:0", "--domain", "localhost"])
        .arg("--tls-cert")
        .arg(&certificate)
        .arg("--tls-key")
        .arg(&key);
    let server = Process::start(&mut serve);
    let (port, web) = (
        listener(&server, "tls").port(),
        listener(&server, "ws").port(),
    );
    let root = root.to_str().unwrap();

    let target = format!("sip:localhost:{port};transport=tls");
    let outcome = sipora(["options", &target, "--tls-ca", root]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let alice = format!("sip:alice@localhost:{port}");
    let outcome = sipora(["register", &alice, "--transport", "tls", "--tls-ca", root]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let outcome = sipora(["options", &format!("sip:127.0.0.1:{web};transport=ws")]);
    assert_eq!(outcome.code(), 0, "{outcome}");

    // RFC 5630 §5.1.1: what goes to a SIPS URI leaves over TLS, though the proxy is named without; in clear, nobody answers.
    let proxy = format!("sip:localhost:{port};transport=tcp");
    let outcome = sipora([
        "options",
        "sips:localhost",
        "--proxy",
        &proxy,
        "--tls-ca",
        root,
    ]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let outcome = sipora([
        "options",
        "sip:localhost",
        "--proxy",
        &proxy,
        "--timeout",
        "2",
    ]);
    assert_ne!(outcome.code(), 0, "{outcome}");

    // The certificate is for the name, not for its address.
    let numeric = format!("sip:127.0.0.1:{port};transport=tls");
    let outcome = sipora(["options", &numeric, "--tls-ca", root]);
    assert_ne!(outcome.code(), 0, "{outcome}");
    // The system's roots do not know who issued it.
    let outcome = sipora(["options", &target]);
    assert_ne!(outcome.code(), 0, "{outcome}");
    server.terminate(PATIENCE);
}

#[test]
fn a_client_shows_its_certificate_where_one_is_demanded() {
    let server = SecureServer::start_with(["alice"], "", &["--tls-client-auth", "required"]);
    let (certificate, key) = server.client_certificate("alice.example.com");
    let target = format!("sip:localhost:{};transport=tls", server.tls.port());
    let options = [
        "options",
        &target,
        "--tls-ca",
        server.root.to_str().unwrap(),
    ];
    let shown = [
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let outcome = sipora(options.iter().chain(&shown).copied());
    assert_eq!(outcome.code(), 0, "{outcome}");
    let outcome = sipora(options);
    assert_ne!(outcome.code(), 0, "{outcome}");
}

#[test]
fn what_is_wrong_with_certificate_and_key_is_told() {
    let authority = Authority::new();
    let (certificate, _) = authority.issue(&["localhost"]);
    let (_, other) = authority.issue(&["localhost"]);
    let files = tempfile::tempdir().unwrap();
    let file =
        |name: &str, text: &str| write(files.path(), name, text).to_str().unwrap().to_owned();
    let certificate = file("cert.pem", &certificate);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (key, problem) in [
        (file("other.pem", &other), "does not belong to the key"),
        (file("encrypted.pem", encrypted), "it is encrypted"),
        (file("der.pem", "0\u{1}\u{2}"), "it is not in PEM"),
    ] {
        let listen = ["serve", "--no-auth", "--listen", "tls:127.0.0.1:0"];
        let tls = ["--tls-cert", &certificate, "--tls-key", &key];
        let outcome = sipora(listen.iter().chain(&tls).copied());
        assert_eq!(outcome.code(), 2, "{outcome}");
        assert!(outcome.stderr.contains(problem), "{outcome}");
        assert!(outcome.stderr.contains(&key), "{outcome}");
    }
}

#[test]
fn a_tls_listener_without_a_certificate_is_refused_at_once() {
    let outcome = sipora(["serve", "--no-auth", "--listen", "tls:127.0.0.1:0"]);
    assert_eq!(outcome.code(), 2, "{outcome}");
}
