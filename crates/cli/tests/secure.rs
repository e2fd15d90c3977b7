//! `sipora serve` over TLS, and our own commands at it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

#[path = "../../sip-transport/tests/authority/mod.rs"]
mod authority;
mod common;

use std::process::Command;

use authority::Authority;
use common::{PATIENCE, Process, SIPORA, listener, sipora, write};
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
fn a_tls_listener_without_a_certificate_is_refused_at_once() {
    let outcome = sipora(["serve", "--no-auth", "--listen", "tls:127.0.0.1:0"]);
    assert_eq!(outcome.code(), 2, "{outcome}");
}
