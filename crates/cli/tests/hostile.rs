//! Malformed and hostile input at a running server: the status owed or silence, never an end, never growth.
//!
//! The torture messages of RFC 4475 and RFC 5118 lie with the test kit; their manifests name the outcome of each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Server, UdpClient};

/// Room for allocator slack and for transactions that stay until Timer J; a leak of a message each is far beyond it.
const GROWTH_KIB: u64 = 24 * 1024;

// ---- fixtures ----

struct Fixture {
    name: String,
    outcome: String,
    bytes: Vec<u8>,
}

impl Fixture {
    fn method(&self) -> String {
        let line = self
            .bytes
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(line)
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    fn is_response(&self) -> bool {
        self.bytes.starts_with(b"SIP/2.0 ")
    }
}

fn fixtures() -> Vec<Fixture> {
    ["rfc4475", "rfc5118"]
        .into_iter()
        .flat_map(manifest)
        .collect()
}

fn manifest(rfc: &str) -> Vec<Fixture> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../testkit/fixtures")
        .join(rfc);
    let text = fs::read_to_string(directory.join("MANIFEST.tsv"))
        .expect("the fixtures lie beside this crate");
    let fixtures: Vec<_> = text
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            Fixture {
                name: columns[0].to_owned(),
                outcome: columns[4].to_owned(),
                bytes: fs::read(directory.join(columns[1])).expect("the manifest names it"),
            }
        })
        .collect();
    assert!(
        fixtures.len() >= 12,
        "{rfc}: only {} fixtures",
        fixtures.len()
    );
    fixtures
}

// ---- UDP ----

/// Makes a request wrong.
type Spoil = fn(&str) -> String;

#[test]
fn the_server_survives_every_torture_message_over_udp() {
    let server = open_server();
    let client = UdpClient::connect(server.udp);
    for fixture in fixtures() {
        client.socket.send(&fixture.bytes).unwrap();
        server.assert_answers(&fixture.name);
    }
}

#[test]
fn a_datagram_cut_anywhere_ends_nothing() {
    let server = open_server();
    let client = UdpClient::connect(server.udp);
    for fixture in fixtures() {
        for length in (0..fixture.bytes.len().min(700)).step_by(7) {
            let _ = client.socket.send(&fixture.bytes[..length]);
        }
        server.assert_answers(&format!("cuts of {}", fixture.name));
    }
}

#[test]
fn malformed_datagrams_do_not_make_the_server_grow() {
    let server = open_server();
    let client = UdpClient::connect(server.udp);
    let fixtures = fixtures();
    let mut noise = Noise(1);
    let flood = |rounds: usize, noise: &mut Noise| {
        for _ in 0..rounds {
            for fixture in &fixtures {
                let _ = client.socket.send(&noise.damage(&fixture.bytes));
            }
            let length = noise.below(60_000);
            let _ = client.socket.send(&noise.bytes(length));
            // Answers would fill our socket's queue, not the server's memory; read none, but let the server keep up.
            server.assert_answers("a round of damaged messages");
        }
    };
    flood(20, &mut noise);
    let before = server.resident_kib();
    flood(200, &mut noise);
    assert_growth_is_bounded(&server, before, "12,200 damaged datagrams");
}

#[test]
fn garbage_in_authorization_is_challenged_or_refused_and_ends_nothing() {
    let server = Server::start(["alice"]);
    let long = format!("Digest username=\"{}\"", "a".repeat(3_000));
    let values = [
        "Digest",
        "Digest ,,,,",
        "Digest username=",
        "Digest username=\"alice",
        "Digest username=\"alice\", username=\"bob\"",
        "Digest username=\"alice\", realm=\"127.0.0.1\", nonce=\"x\", uri=\"sip:127.0.0.1\", response=\"\"",
        "Digest username=\"alice\", realm=\"127.0.0.1\", nonce=\"\", uri=\"\", response=\"zz\", nc=zzzzzzzz, qop=auth, cnonce=\"\"",
        "Digest username=\"alice\", realm=\"127.0.0.1\", nonce=\"x\", uri=\"sip:127.0.0.1\", response=\"0\", qop=auth-int",
        "Digest username=\"alice\", realm=\"127.0.0.1\", nonce=\"x\", uri=\"sip:127.0.0.1\", algorithm=ROT13, response=\"0\"",
        "Basic YWxpY2U6c2VjcmV0",
        "\u{0}\u{1}",
        "",
        long.as_str(),
    ];
    for (serial, value) in values.iter().enumerate() {
        let client = UdpClient::connect(server.udp);
        let request = register_request(&client, serial, &format!("Authorization: {value}\r\n"), "");
        let answer = client
            .exchange(&request)
            .unwrap_or_else(|| panic!("no answer to Authorization: {value}"));
        let status = status(&answer);
        assert!(
            [400, 401, 403].contains(&status),
            "Authorization: {value}: {answer}"
        );
    }
    server.assert_answers("garbage in Authorization");
}

#[test]
fn the_status_owed_is_the_status_given_over_udp() {
    let server = open_server();
    let cases: [(&str, u16, Spoil); 9] = [
        ("a q above 1", 400, |request| {
            request.replace(">\r\nExp", ">;q=1.5\r\nExp")
        }),
        ("a CSeq that is no number", 400, |request| {
            request.replace("CSeq: 1 ", "CSeq: one ")
        }),
        ("a CSeq of another method", 400, |request| {
            request.replace("1 REGISTER", "1 OPTIONS")
        }),
        ("no To", 400, |request| without_line(request, "To: ")),
        ("no Call-ID", 400, |request| {
            without_line(request, "Call-ID: ")
        }),
        ("two From headers", 400, |request| {
            request.replace("To: ", "From: <sip:mallory@127.0.0.1>;tag=2\r\nTo: ")
        }),
        ("a Content-Length beyond the datagram", 400, |request| {
            request.replace("Length: 0", "Length: 99")
        }),
        ("an unknown method", 501, |request| {
            request.replace("REGISTER", "JUGGLE")
        }),
        ("an unknown scheme", 416, |request| {
            request.replace("REGISTER sip:", "REGISTER nobodyknows:")
        }),
    ];
    for (serial, (what, owed, spoil)) in cases.into_iter().enumerate() {
        let client = UdpClient::connect(server.udp);
        let request = spoil(&register_request(&client, serial, "", ""));
        let answer = client
            .exchange(&request)
            .unwrap_or_else(|| panic!("{what}: no answer to\n{request}"));
        let given = status(&answer);
        // A method that is not known may also be one that is not allowed here.
        let allowed = given == owed || (owed == 501 && given == 405);
        assert!(
            allowed,
            "{what} is owed {owed}:\n{answer}\n--- to\n{request}"
        );
    }
    server.assert_answers("requests that are wrong");
}

// ---- TCP ----

/// Their end cannot be told from their bytes, or they are two messages (see the README of the fixtures): what is owed
/// on a stream is a close, sooner or later, and no status.
const NOT_FRAMED: [&str; 6] = ["dblreq", "clerr", "ncl", "mcl01", "inv2543", "baddn"];

#[test]
fn every_torture_message_gets_the_status_owed_over_tcp() {
    let server = open_server();
    let mut wrong = Vec::new();
    for fixture in fixtures() {
        if NOT_FRAMED.contains(&fixture.name.as_str()) {
            continue;
        }
        let answer = exchange_over_tcp(server.tcp, &fixture.bytes);
        if let Err(complaint) = judge(&fixture, answer.as_deref()) {
            wrong.push(format!(
                "{} ({}): {complaint}",
                fixture.name, fixture.outcome
            ));
        }
        server.assert_answers(&fixture.name);
    }
    assert!(
        wrong.is_empty(),
        "{} of the torture messages:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn what_has_no_end_over_tcp_harms_nobody() {
    let server = open_server();
    for fixture in fixtures()
        .iter()
        .filter(|fixture| NOT_FRAMED.contains(&fixture.name.as_str()))
    {
        let mut stream = TcpStream::connect(server.tcp).unwrap();
        let _ = stream.write_all(&fixture.bytes);
        server.assert_answers(&fixture.name);
    }
}

#[test]
fn endless_input_over_tcp_is_cut_off_and_does_not_make_the_server_grow() {
    let server = open_server();
    let endless: [(&str, &[u8], &[u8]); 6] = [
        ("a line without end", b"", &[b'a'; 4096]),
        (
            "a header line without end",
            b"OPTIONS sip:127.0.0.1 SIP/2.0\r\nSubject: ",
            &[b'a'; 4096],
        ),
        (
            "folds without end",
            b"OPTIONS sip:127.0.0.1 SIP/2.0\r\nSubject: x\r\n",
            b" y\r\n",
        ),
        (
            "headers without end",
            b"OPTIONS sip:127.0.0.1 SIP/2.0\r\n",
            b"X: y\r\n",
        ),
        (
            "carriage returns without end",
            b"OPTIONS sip:127.0.0.1 SIP/2.0\r\n",
            &[b'\r'; 4096],
        ),
        ("binary without end", b"", &[0; 4096]),
    ];
    let before = server.resident_kib();
    for (what, opening, piece) in endless {
        // A server may read on for a moment, so that its 400 is not lost in a reset; then the connection has to end.
        let streams: Vec<_> = (0..8)
            .map(|_| TcpStream::connect(server.tcp).unwrap())
            .collect();
        std::thread::scope(|scope| {
            for mut stream in streams {
                scope.spawn(move || {
                    let cut_off = push(&mut stream, opening, piece, Duration::from_secs(10));
                    assert!(cut_off, "{what}: taken for ten seconds");
                });
            }
            // Beside the flood, not after it.
            server.assert_answers(what);
            assert_growth_is_bounded(&server, before, what);
        });
        assert_growth_is_bounded(&server, before, what);
    }
}

#[test]
fn a_flood_of_pings_over_tcp_does_not_make_the_server_grow() {
    let server = open_server();
    let before = server.resident_kib();
    // We never read the pongs: the server may stop reading or end the connection, but not keep them all.
    let mut stream = TcpStream::connect(server.tcp).unwrap();
    push(
        &mut stream,
        b"\r\n\r\n",
        b"\r\n\r\n",
        Duration::from_secs(3),
    );
    server.assert_answers("a flood of pings");
    assert_growth_is_bounded(&server, before, "a flood of pings");
}

#[test]
fn a_body_that_never_comes_is_not_reserved() {
    let server = open_server();
    let before = server.resident_kib();
    let mut streams = Vec::new();
    for length in [
        "65535",
        "1048576",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(server.tcp).unwrap();
            let head =
                format!("MESSAGE sip:127.0.0.1 SIP/2.0\r\nContent-Length: {length}\r\n\r\nfew");
            let _ = stream.write_all(head.as_bytes());
            streams.push(stream);
        }
        server.assert_answers(&format!("Content-Length {length}"));
    }
    assert_growth_is_bounded(&server, before, "bodies that were announced");
}

#[test]
fn connections_that_say_nothing_delay_nobody() {
    let server = open_server();
    let silent: Vec<_> = (0..50)
        .map_while(|_| TcpStream::connect(server.tcp).ok())
        .collect();
    let started = Instant::now();
    server.assert_answers("silent connections");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "took {:?} beside {} others",
        started.elapsed(),
        silent.len()
    );
}

// ---- helpers ----

/// A registrar for the domain of the torture messages that asks nobody for credentials.
fn open_server() -> Server {
    Server::start_with(
        Vec::<String>::new(),
        "",
        &["--domain", "example.com", "--no-auth"],
    )
}

fn register_request(client: &UdpClient, serial: usize, headers: &str, body: &str) -> String {
    let local = client.local();
    format!(
        "REGISTER sip:127.0.0.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};branch=z9hG4bK-register-{serial};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@127.0.0.1>;tag=1\r\n\
         To: <sip:alice@127.0.0.1>\r\n\
         Call-ID: {serial}@{local}\r\n\
         CSeq: 1 REGISTER\r\n\
         Contact: <sip:alice@{local}>\r\n\
         Expires: 600\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn without_line(request: &str, start: &str) -> String {
    request
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with(start))
        .collect()
}

fn status(answer: &str) -> u16 {
    answer
        .strip_prefix("SIP/2.0 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

/// Sends one message on a connection of its own; the first final answer that comes, if one does.
fn exchange_over_tcp(server: SocketAddr, message: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(1_500)))
        .unwrap();
    stream.write_all(message).unwrap();
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&received);
        let answers = text
            .match_indices("SIP/2.0 ")
            .filter(|(at, _)| *at == 0 || text[..*at].ends_with("\r\n\r\n"));
        let last = answers
            .map(|(at, _)| &text[at..])
            .find(|answer| status(answer) >= 200 && answer.contains("\r\n\r\n"));
        if let Some(last) = last {
            return Some(last.to_owned());
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(length) => received.extend_from_slice(&piece[..length]),
        }
    }
}

/// Compares an answer with the outcome that the manifest names. A server that serves no calls may say so (405, 501) of
/// an INVITE before it looks at anything else (RFC 3261 §8.2.1); what is only owed to be read may get any status but 400.
fn judge(fixture: &Fixture, answer: Option<&str>) -> Result<(), String> {
    let given = answer.map(status);
    if fixture.is_response() || fixture.outcome == "drop" || fixture.method() == "ACK" {
        return match given {
            None => Ok(()),
            Some(status) => Err(format!("is owed silence, got {status}")),
        };
    }
    let Some(given) = given else {
        return Err("no answer".to_owned());
    };
    let fits = fixture
        .outcome
        .split("-or-")
        .any(|outcome| match outcome.parse::<u16>() {
            Ok(owed) => given == owed || (owed == 501 && given == 405),
            Err(_) => given != 400 && given < 600,
        });
    let refused_by_method = [405, 501].contains(&given)
        && fixture.method() != "REGISTER"
        && fixture.method() != "OPTIONS"
        && ["406", "415", "416", "420", "404"]
            .iter()
            .any(|status| fixture.outcome.contains(status));
    if fits || refused_by_method {
        return Ok(());
    }
    Err(format!(
        "got {}",
        answer
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
    ))
}

/// Writes until the other side ends the connection; whether it did so before `limit`.
fn push(stream: &mut TcpStream, opening: &[u8], piece: &[u8], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let piece = piece.repeat(16_384_usize.div_ceil(piece.len()));
    let mut next = opening;
    while Instant::now() < deadline {
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        match stream.write(next) {
            Ok(_) => next = &piece,
            // The other side has stopped reading, which bounds it too, but it must not stay so.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

fn assert_growth_is_bounded(server: &Server, before: u64, what: &str) {
    let after = server.resident_kib();
    assert!(
        after < before + GROWTH_KIB,
        "{what}: from {before} KiB to {after} KiB"
    );
}

/// Noise that is the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    /// The message with a few bytes changed, dropped or doubled.
    fn damage(&mut self, message: &[u8]) -> Vec<u8> {
        let mut damaged = message.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(damaged.len());
            match self.below(3) {
                0 => damaged[at] = self.next().to_be_bytes()[0],
                1 => drop(damaged.remove(at)),
                _ => damaged.insert(at, damaged[at]),
            }
        }
        damaged
    }
}
