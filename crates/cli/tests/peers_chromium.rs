//! Chromium without a screen, with JsSIP in a page that the test serves: it registers over secure WebSocket, is written to,
//! and unregisters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;
mod secure_server;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    DOMAIN, PATIENCE, Process, npm_packages, password_of, peer, peer_is_installed, run, sipora,
};
use secure_server::{SecureServer, password_file};
use serde_json::json;

/// A browser takes long to start, and much longer beside others that do.
const BROWSER_PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn jssip_in_a_page_registers_is_written_to_and_unregisters_over_wss() {
    if !peer_is_installed("chromium") || !peer_is_installed("openssl") {
        return;
    }
    let Some(packages) = npm_packages() else {
        return;
    };
    let server = SecureServer::start(["alice", "bob"]);
    let script = std::fs::read(packages.join("jssip.bundle.js")).unwrap();
    let web = WebServer::start(script);
    let settings = json!({
        "server": format!("wss://{}", server.wss),
        "uri": format!("sip:alice@{DOMAIN}"),
        "password": password_of("alice"),
    });
    let page = format!("http://{}/#{}", web.address, escaped(&settings.to_string()));
    let browser = browser(&server, &page);

    let contact = web.wait_for(&browser, "registered as ");
    assert!(contact.contains(".invalid"), "{contact}");
    let bindings = server.bindings("alice");
    assert_eq!(bindings.len(), 1, "{bindings:?}");
    assert!(bindings[0].contains(".invalid"), "{bindings:?}");

    let write = |text: &str| {
        let password = password_file(&server.server, "bob");
        let alice = format!("sip:alice@{}", server.server.udp);
        let password = password.to_str().unwrap();
        let outcome = sipora([
            "message",
            &alice,
            text,
            "--user",
            "bob",
            "--password-file",
            password,
        ]);
        // The 200 is the page's own.
        assert_eq!(outcome.code(), 0, "{outcome}\n{}", browser.printed());
    };
    write("Hello page");
    let text = web.wait_for(&browser, "message from ");
    assert_eq!(text, format!("sip:bob@{DOMAIN}: Hello page"));
    write("Goodbye");
    web.wait_for(&browser, "unregistered");
    assert_eq!(server.bindings("alice"), [""; 0]);
}

/// A browser that shows a page, and believes the server by the fingerprint of its key.
fn browser(server: &SecureServer, page: &str) -> Process {
    let profile = server.server.files.path().join("chromium");
    let mut command = peer("chromium");
    command
        .args(["--headless=new", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--no-default-browser-check"])
        // It keeps to itself: no updates, no reports, no address of anybody but ours.
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--disable-sync",
            "--disable-extensions",
            "--no-proxy-server",
        ])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        // Containers, where these tests run as root, allow no sandbox. The page is ours.
        .arg("--no-sandbox")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!(
            "--ignore-certificate-errors-spki-list={}",
            fingerprint(&server.certificate)
        ))
        .args(["--enable-logging=stderr", "--v=0", page]);
    Process::start(&mut command)
}

/// The SHA-256 of a certificate's key, in base64.
fn fingerprint(certificate: &Path) -> String {
    let openssl = peer("openssl").get_program().to_owned();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "\"$1\" x509 -in \"$2\" -pubkey -noout | \"$1\" pkey -pubin -outform der | \
             \"$1\" dgst -sha256 -binary | \"$1\" base64",
            "sh",
        ])
        .arg(openssl)
        .arg(certificate);
    let outcome = run(&mut command, PATIENCE);
    assert_eq!(outcome.stdout.trim().len(), 44, "{outcome}");
    outcome.stdout.trim().to_owned()
}

/// For behind the `#` of an address.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Serves the page and its script, and takes down what the page says.
struct WebServer {
    address: SocketAddr,
    said: Receiver<String>,
}

impl WebServer {
    fn start(script: Vec<u8>) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, said) = channel();
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sender, script) = (sender.clone(), script.clone());
                thread::spawn(move || answer(stream, &sender, &script));
            }
        });
        WebServer { address, said }
    }

    /// What follows `start` in the next thing that is said to begin with it.
    fn wait_for(&self, browser: &Process, start: &str) -> String {
        let deadline = Instant::now() + BROWSER_PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(said) = self.said.recv_timeout(left) else {
                panic!("the page did not say {start:?}:\n{}", browser.printed());
            };
            match said.strip_prefix(start) {
                Some(rest) => return rest.to_owned(),
                None => assert!(!said.starts_with("error"), "{said}"),
            }
        }
    }
}

/// One request a connection.
fn answer(stream: TcpStream, said: &Sender<String>, script: &[u8]) {
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    let mut length = 0;
    // A browser opens connections that it does not use.
    if reader.read_line(&mut request).unwrap_or(0) == 0 {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) < 3 {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, kind, content): (_, _, &[u8]) = match path {
        "/" => (
            "200 OK",
            "text/html",
            include_bytes!("javascript/page.html"),
        ),
        "/jssip.js" => ("200 OK", "text/javascript", script),
        "/said" => {
            let _ = said.send(String::from_utf8_lossy(&body).into_owned());
            ("200 OK", "text/plain", b"")
        }
        _ => ("404 Not Found", "text/plain", b""),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    let _ = (&stream).write_all(head.as_bytes());
    let _ = (&stream).write_all(content);
}
