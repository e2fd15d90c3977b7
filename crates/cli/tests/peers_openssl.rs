//! OpenSSL's `s_client` at a TLS listener: a REGISTER by hand, with and without a certificate of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;
mod secure_server;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use common::{DOMAIN, PATIENCE, Process, SIPORA, password_of, peer, peer_is_installed, write};
use secure_server::authority::Authority;
use secure_server::{SecureServer, password_file};

#[test]
fn a_registration_by_hand_over_tls_gets_its_messages_on_the_same_connection() {
    if !peer_is_installed("openssl") {
        return;
    }
    let server = SecureServer::start(["alice", "bob"]);
    let challenged = s_client(&server, &[], &register(None));
    let nonce = challenged.wait_for("challenge", PATIENCE, |line| {
        let (_, rest) = line
            .strip_prefix("WWW-Authenticate: ")?
            .split_once("nonce=\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    });
    assert!(challenged.printed().contains("SIP/2.0 401 "));

    let registered = s_client(&server, &[], &register(Some(&nonce)));
    wait_for_line(&registered, "SIP/2.0 200 ");
    let bindings = server.bindings("alice");
    assert_eq!(bindings.len(), 1, "{bindings:?}");
    assert!(
        bindings[0].starts_with("sip:alice@hand.invalid"),
        "{bindings:?}"
    );

    // Nobody answers it, by hand.
    let password = password_file(&server.server, "bob");
    let _message = Process::start(
        Command::new(SIPORA)
            .args(["message", &format!("sip:alice@{}", server.server.udp)])
            .args([
                "To whom it may concern\n.",
                "--user",
                "bob",
                "--password-file",
            ])
            .arg(password),
    );
    wait_for_line(&registered, "MESSAGE sip:alice@hand.invalid");
    wait_for_line(&registered, "To whom it may concern");
}

#[test]
fn a_server_that_asks_for_a_certificate_talks_to_those_alone_who_show_one() {
    if !peer_is_installed("openssl") {
        return;
    }
    let server =
        SecureServer::start_with([""; 0], "", &["--no-auth", "--tls-client-auth", "required"]);
    let (certificate, key) = server.client_certificate("sip:alice@127.0.0.1");
    let shown = |certificate: &Path, key: &Path| {
        let flags = [("-cert", certificate), ("-key", key)];
        let flags = flags.map(|(flag, path)| [flag.to_owned(), path.to_str().unwrap().to_owned()]);
        s_client(&server, &flags.concat(), &register(None))
    };

    let refused = s_client(&server, &[], &register(None)).wait(PATIENCE);
    assert!(
        refused.stderr.contains("alert certificate required"),
        "{refused}"
    );
    assert!(!refused.stdout.contains("SIP/2.0"), "{refused}");

    let stranger = Authority::new().issue(&["sip:alice@127.0.0.1"]);
    let files = server.server.files.path();
    let (by_whom, its_key) = (
        write(files, "s.pem", &stranger.0),
        write(files, "s.key", &stranger.1),
    );
    let refused = shown(&by_whom, &its_key).wait(PATIENCE);
    assert!(refused.stderr.contains("alert"), "{refused}");
    assert!(!refused.stdout.contains("SIP/2.0"), "{refused}");

    let registered = shown(&certificate, &key);
    wait_for_line(&registered, "SIP/2.0 200 ");
    wait_for_line(&registered, "Contact: <sip:alice@hand.invalid");
}

#[test]
fn a_certificate_that_may_be_shown_need_not_be() {
    if !peer_is_installed("openssl") {
        return;
    }
    let server =
        SecureServer::start_with([""; 0], "", &["--no-auth", "--tls-client-auth", "optional"]);
    let registered = s_client(&server, &[], &register(None));
    wait_for_line(&registered, "SIP/2.0 200 ");
}

#[test]
fn old_versions_of_tls_are_refused_and_the_two_in_use_are_not() {
    if !peer_is_installed("openssl") {
        return;
    }
    let server = SecureServer::start_with([""; 0], "", &["--no-auth"]);
    for version in ["-tls1_2", "-tls1_3"] {
        let registered = s_client(&server, &[version.to_owned()], &register(None));
        wait_for_line(&registered, "SIP/2.0 200 ");
    }
    // At this level of security OpenSSL itself still speaks the old one.
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"].map(str::to_owned);
    let refused = s_client(&server, &old, &register(None)).wait(PATIENCE);
    assert!(refused.stderr.contains(" alert "), "{refused}");
    assert!(!refused.stdout.contains("SIP/2.0"), "{refused}");
}

/// Sends a text, and shows what comes, until the server ends the connection. It ends itself where it does not believe the
/// server.
fn s_client(server: &SecureServer, arguments: &[String], text: &str) -> Process {
    let text = write(server.server.files.path(), "request", text);
    let mut command = Command::new("sh");
    command
        .args(["-c", "request=$1; shift; exec \"$@\" <\"$request\"", "sh"])
        .arg(text)
        .arg(peer("openssl").get_program())
        .args(["s_client", "-quiet", "-verify_return_error", "-CAfile"])
        .arg(&server.root)
        .args(["-connect", &server.tls.to_string(), "-verify_ip", DOMAIN])
        .args(arguments);
    Process::start(&mut command)
}

fn wait_for_line(process: &Process, start: &str) {
    process.wait_for(start, PATIENCE, |line| {
        line.starts_with(start).then_some(())
    });
}

/// Alice's REGISTER, with credentials where there is a nonce.
fn register(nonce: Option<&str>) -> String {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let authorization = nonce.map_or_else(String::new, |nonce| {
        let uri = format!("sip:{DOMAIN}");
        let ha1 = md5(&format!("alice:{DOMAIN}:{}", password_of("alice")));
        let ha2 = md5(&format!("REGISTER:{uri}"));
        let response = md5(&format!("{ha1}:{nonce}:00000001:by-hand:auth:{ha2}"));
        format!(
            "Authorization: Digest username=\"alice\", realm=\"{DOMAIN}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"by-hand\"\r\n"
        )
    });
    format!(
        "REGISTER sip:{DOMAIN} SIP/2.0\r\n\
         Via: SIP/2.0/TLS hand.invalid;branch=z9hG4bK-{call};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@{DOMAIN}>;tag=1\r\n\
         To: <sip:alice@{DOMAIN}>\r\n\
         Call-ID: by-hand-{call}\r\n\
         CSeq: 1 REGISTER\r\n\
         Contact: <sip:alice@hand.invalid;transport=tls>;expires=60\r\n\
         {authorization}Content-Length: 0\r\n\r\n"
    )
}

/// OpenSSL's own, in hexadecimal digits.
fn md5(text: &str) -> String {
    let mut child = peer("openssl")
        .args(["dgst", "-md5", "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}
