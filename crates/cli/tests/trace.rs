//! What `sipora serve` and the client commands write of their messages, as other people's programs read it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

#[path = "../../sip-transport/tests/authority/mod.rs"]
mod authority;
mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use authority::Authority;
use common::{
    Outcome, PATIENCE, Process, SIPORA, Server, UdpClient, free_port, listener, peer,
    peer_is_installed, run, sipora, write,
};
use sipora_transport::Pem;

/// A server on every transport, and somebody who asks it over each of them.
struct Everywhere {
    server: Process,
    files: tempfile::TempDir,
}

impl Everywhere {
    fn start(traces: &[&str]) -> Everywhere {
        let authority = Authority::new();
        let (certificate, key) = authority.issue(&["localhost"]);
        let Pem::Bytes(root) = authority.pem() else {
            panic!("bytes")
        };
        let files = tempfile::tempdir().unwrap();
        write(files.path(), "ca.pem", std::str::from_utf8(&root).unwrap());
        write(files.path(), "cert.pem", &certificate);
        write(files.path(), "key.pem", &key);
        let mut serve = Command::new(SIPORA);
        serve.current_dir(files.path());
        serve.args(["serve", "--no-auth", "--domain", "localhost"]);
        serve.args(["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
        for transport in TRANSPORTS {
            serve.args(["--listen", &format!("{transport}:127.0.0.1:0")]);
        }
        serve.args(traces);
        let server = Process::start(&mut serve);
        Everywhere { server, files }
    }

    fn address(&self, transport: &str) -> SocketAddr {
        listener(&self.server, transport)
    }

    /// Asks over a transport, and gives what the client said on standard error with `-v`.
    fn ask(&self, transport: &str) -> Outcome {
        let port = self.address(transport).port();
        let host = match transport {
            "tls" | "wss" => "localhost",
            _ => "127.0.0.1",
        };
        let target = format!("sip:{host}:{port};transport={transport}");
        let root = self.files.path().join("ca.pem");
        let outcome = sipora(["options", &target, "--tls-ca", root.to_str().unwrap()]);
        assert_eq!(outcome.code(), 0, "{outcome}");
        outcome
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.files.path().join(name)
    }
}

/// What sngrep made of what it was shown: the number of dialogs that it counted last.
fn dialogs(outcome: &str) -> Option<u32> {
    let (_, last) = outcome.rsplit_once("Dialog count: ")?;
    let digits = last.split(|character: char| !character.is_ascii_digit());
    digits.into_iter().next()?.parse().ok()
}

fn read_by_tcpdump(capture: &Path) -> String {
    let mut tcpdump = peer("tcpdump");
    // It gives up its rights as root, with which it could not read the file.
    tcpdump.args(["-nn", "-vv", "-A", "-Z", "root", "-r"]);
    if run(Command::new("id").arg("-u"), PATIENCE).stdout.trim() != "0" {
        tcpdump = peer("tcpdump");
        tcpdump.args(["-nn", "-vv", "-A", "-r"]);
    }
    let outcome = run(tcpdump.arg(capture), PATIENCE);
    assert_eq!(outcome.code(), 0, "{outcome}");
    outcome.stdout
}

#[test]
fn a_capture_of_every_transport_is_read_by_tcpdump_and_sngrep() {
    if !peer_is_installed("tcpdump") || !peer_is_installed("sngrep") {
        return;
    }
    let everywhere = Everywhere::start(&["--pcap", "trace.pcap"]);
    for transport in TRANSPORTS {
        everywhere.ask(transport);
    }
    let ports = TRANSPORTS.map(|transport| everywhere.address(transport).port());
    let capture = everywhere.path("trace.pcap");
    let outcome = everywhere.server.terminate(PATIENCE);
    assert_eq!(outcome.code(), 0, "{outcome}");

    let shown = read_by_tcpdump(&capture);
    assert_eq!(
        shown.matches("OPTIONS sip:").count(),
        TRANSPORTS.len(),
        "{shown}"
    );
    assert_eq!(
        shown.matches("SIP/2.0 200 OK").count(),
        TRANSPORTS.len(),
        "{shown}"
    );
    for port in ports {
        assert!(shown.contains(&format!(".{port} > 127.0.0.1.")), "{shown}");
        assert!(shown.contains(&format!(" > 127.0.0.1.{port}: ")), "{shown}");
    }
    // Three transports as datagrams, two as connections, each of which opens with three packets.
    assert_eq!(shown.matches("[udp sum ok]").count(), 3 * 2, "{shown}");
    assert_eq!(shown.matches("(correct)").count(), 2 * 5, "{shown}");
    assert!(
        !shown.contains("bad ") && !shown.contains("incorrect"),
        "{shown}"
    );

    let outcome = run(peer("sngrep").args(["-N", "-I"]).arg(&capture), PATIENCE);
    assert_eq!(dialogs(&outcome.stdout), Some(5), "{outcome}");
}

#[test]
fn a_collector_gets_every_message() {
    if !peer_is_installed("tcpdump") || !peer_is_installed("sngrep") {
        return;
    }
    let port = free_port();
    let files = tempfile::tempdir().unwrap();
    let capture = files.path().join("collected.pcap");
    let listen = format!("udp:127.0.0.1:{port}");
    // It counts on one line, which it never ends.
    let counts = files.path().join("counts");
    let mut collector = Command::new("sh");
    collector
        .args(["-c", "exec \"$0\" -N -L \"$1\" -O \"$2\" > \"$3\""])
        .arg(peer("sngrep").get_program())
        .arg(&listen)
        .args([&capture, &counts]);
    let mut collector = Process::start(&mut collector);
    wait_until("sngrep listens", || is_bound(port));
    let everywhere = Everywhere::start(&["--hep", &format!("127.0.0.1:{port}")]);
    for transport in TRANSPORTS {
        everywhere.ask(transport);
    }
    assert_eq!(everywhere.server.terminate(PATIENCE).code(), 0);
    wait_until("sngrep has counted", || {
        fs::read_to_string(&counts).is_ok_and(|counts| dialogs(&counts) == Some(5))
    });
    collector.signal("INT");
    collector.wait(PATIENCE);
    let shown = read_by_tcpdump(&capture);
    assert_eq!(
        shown.matches("OPTIONS sip:").count(),
        TRANSPORTS.len(),
        "{shown}"
    );
}

#[test]
fn a_text_trace_shows_what_came_and_went_and_escapes_what_is_hostile() {
    let everywhere = Everywhere::start(&["--trace", "trace.txt"]);
    for transport in TRANSPORTS {
        everywhere.ask(transport);
    }
    let udp = UdpClient::connect(everywhere.address("udp"));
    udp.socket.send(b"\x1b[2Jrubbish\r\n").unwrap();
    let trace = everywhere.path("trace.txt");
    wait_until("the rubbish is written", || {
        fs::read_to_string(&trace).is_ok_and(|text| text.contains("\n\\x1b[2Jrubbish\n"))
    });
    let text = fs::read_to_string(&trace).unwrap();
    for transport in TRANSPORTS {
        let local = everywhere.address(transport);
        for (arrow, word) in [("<<<", "to"), (">>>", "from")] {
            let title = text.lines().find(|line| {
                line.starts_with(&format!("{arrow} {transport} 127.0.0.1:"))
                    && line.contains(&format!(" {word} {local} "))
            });
            assert!(title.is_some(), "{arrow} {transport}: {text}");
        }
    }
}

#[test]
fn a_hangup_opens_the_files_again_that_were_moved_away() {
    let mut server = Server::start_with(
        ["alice"],
        "pcap = \"trace.pcap\"\ntrace = \"trace.txt\"\n",
        &[],
    );
    let path = |name: &str| server.files.path().join(name);
    server.assert_answers("the start");
    wait_until("something is written", || {
        fs::metadata(path("trace.txt")).is_ok_and(|file| file.len() > 0)
    });
    for name in ["trace.pcap", "trace.txt"] {
        fs::rename(path(name), path(&format!("{name}.1"))).unwrap();
    }
    server.process.signal("HUP");
    server
        .process
        .wait_for("traces opened again", PATIENCE, |line| {
            line.contains("traces opened again").then_some(())
        });
    server.assert_answers("the hangup");
    let path = |name: &str| server.files.path().join(name);
    wait_until("the new files grow", || {
        fs::metadata(path("trace.txt")).is_ok_and(|file| file.len() > 0)
            && fs::metadata(path("trace.pcap")).is_ok_and(|file| file.len() > 24)
    });
    let old = fs::read_to_string(path("trace.txt.1")).unwrap();
    assert_eq!(old.matches("OPTIONS sip:").count(), 1, "{old}");
}

#[test]
fn a_full_disk_is_told_and_the_server_goes_on() {
    let server = Server::start_with(["alice"], "", &["--trace", "/dev/full"]);
    server.assert_answers("a trace that cannot be written");
    server
        .process
        .wait_for("a line about the trace", PATIENCE, |line| {
            let is_it = line.contains("the trace cannot be written") && line.contains("/dev/full");
            is_it.then_some(())
        });
    server.assert_answers("that line");
}

#[test]
fn a_trace_that_cannot_be_begun_is_wrong_usage() {
    let files = tempfile::tempdir().unwrap();
    let letter = write(files.path(), "letter", "Dear Alice, this is no capture.\n");
    let letter = letter.to_str().unwrap();
    for (flags, says) in [
        (&["--pcap", letter][..], "--pcap"),
        (&["--trace", "/nowhere/trace.txt"], "--trace /nowhere"),
        (&["--hep", "nowhere"], "--hep 'nowhere'"),
        (&["--hep-id", "7"], "--hep HOST:PORT"),
    ] {
        for command in [&["serve", "--no-auth"][..], &["options", "sip:127.0.0.1:9"]] {
            let outcome = sipora([command, flags].concat());
            assert_eq!(outcome.code(), 2, "{outcome}");
            assert!(outcome.stderr.contains(says), "{outcome}");
        }
    }
    assert_eq!(
        fs::read_to_string(letter).unwrap(),
        "Dear Alice, this is no capture.\n"
    );
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether somebody has the UDP port.
fn is_bound(port: u16) -> bool {
    std::net::UdpSocket::bind(("127.0.0.1", port)).is_err()
}

const TRANSPORTS: [&str; 5] = ["udp", "tcp", "tls", "ws", "wss"];
