//! Users register while a crowd misbehaves: thousands that are silent, come and go, or try to hold the server up.
//!
//! A small crowd by default. `scripts/load-connections.sh` makes it a large one (`SIPORA_CROWD=full`), with a release build and
//! room for the files, and prints what it measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub
)]
#![cfg(target_os = "linux")]

#[path = "../../sip-transport/tests/authority/mod.rs"]
mod authority;
mod common;
#[path = "crowd/load.rs"]
mod load;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use authority::Authority;
use common::{PATIENCE, Process, SIPORA, listener, run, write};
use load::{Load, over_udp, register};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How many there are of each kind.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    idle: u32,
    churn: u32,
    /// Of each way to misbehave.
    hostile: u32,
    /// REGISTERs a second, half of them over UDP and half over TCP.
    rate: u32,
}

impl Sizes {
    fn of_this_run() -> Sizes {
        match std::env::var("SIPORA_CROWD").as_deref() {
            Ok("full") => Sizes {
                idle: 8_000,
                churn: 100_000,
                hostile: 100,
                rate: 500,
            },
            _ => Sizes {
                idle: 150,
                churn: 1_000,
                hostile: 5,
                rate: 50,
            },
        }
    }
}

struct Target {
    server: Process,
    udp: SocketAddr,
    tcp: SocketAddr,
    tls: SocketAddr,
    ws: SocketAddr,
    _files: tempfile::TempDir,
}

impl Target {
    fn start() -> Target {
        let (certificate, key) = Authority::new().issue(&["localhost"]);
        let files = tempfile::tempdir().unwrap();
        let certificate = write(files.path(), "cert.pem", &certificate);
        let key = write(files.path(), "key.pem", &key);
        let mut serve = Command::new(SIPORA);
        serve.args(["serve", "--no-auth", "--domain", "localhost"]);
        for transport in ["udp", "tcp", "tls", "ws"] {
            serve.args(["--listen", &format!("{transport}:127.0.0.1:0")]);
        }
        serve.arg("--tls-cert").arg(certificate);
        serve.arg("--tls-key").arg(key);
        let server = Process::start(&mut serve);
        let [udp, tcp, tls, ws] =
            ["udp", "tcp", "tls", "ws"].map(|transport| listener(&server, transport));
        Target {
            server,
            udp,
            tcp,
            tls,
            ws,
            _files: files,
        }
    }

    fn resident_kib(&self) -> u64 {
        status_kib(self.server.id(), "VmRSS:")
    }

    /// Seconds of processor time so far.
    fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.server.id())).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = rest
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        ticks as f64 / 100.0
    }

    /// Datagrams that came while the buffer of its socket was full, as the kernel counts them.
    fn datagrams_without_room(&self) -> u64 {
        let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
        let local = format!("0100007F:{:04X}", self.udp.port());
        let ours = |line: &&str| line.split_whitespace().nth(1) == Some(local.as_str());
        let socket = sockets.lines().find(ours).unwrap();
        socket.split_whitespace().last().unwrap().parse().unwrap()
    }

    fn has_told(&self, what: &str) -> bool {
        self.server.lines().iter().any(|line| line.contains(what))
    }
}

fn status_kib(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// A client's address in 127.0.0.0/8, each of which is a source of its own. The first belongs to the users.
fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f00_0101 + number)
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        match timeout(PATIENCE, socket.connect(to)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if Instant::now() > deadline => return Err(error),
            Ok(Err(_)) => sleep(Duration::from_millis(20)).await,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Sends a ping (RFC 5626 §4.4.1) and waits for its pong.
async fn is_alive(stream: &mut TcpStream) -> bool {
    let mut pong = [0; 2];
    stream.write_all(b"\r\n\r\n").await.is_ok()
        && timeout(PATIENCE, stream.read_exact(&mut pong))
            .await
            .is_ok_and(|read| read.is_ok())
}

/// Waits until the other side ends the connection, whichever way.
async fn is_cut_off(stream: &mut TcpStream, patience: Duration) -> bool {
    let mut buffer = [0; 4096];
    let end = async {
        while stream
            .read(&mut buffer)
            .await
            .is_ok_and(|length| length > 0)
        {}
    };
    timeout(patience, end).await.is_ok()
}

// ---- the crowd ----

/// Byte by byte, so that every one of them is a sign of life.
async fn slow_header(to: SocketAddr, from: Ipv4Addr) -> bool {
    let Ok(stream) = connect(from, to).await else {
        return false;
    };
    let (mut reader, mut writer) = stream.into_split();
    let drip = async {
        for byte in b"OPTIONS sip:localhost SIP/2.0\r\nSubject: "
            .iter()
            .chain([b'x'; 10_000].iter())
        {
            if writer.write_all(&[*byte]).await.is_err() {
                return true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        false
    };
    let mut buffer = [0; 100];
    tokio::select! {
        is_cut_off = drip => is_cut_off,
        end = reader.read(&mut buffer) => end.is_err() || end.is_ok_and(|length| length == 0),
    }
}

async fn endless_header(to: SocketAddr, from: Ipv4Addr) -> bool {
    let Ok(mut stream) = connect(from, to).await else {
        return false;
    };
    let _ = stream.write_all(b"OPTIONS sip:localhost SIP/2.0\r\n").await;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if stream.write_all(&[b'x'; 4_096]).await.is_err() {
            return true;
        }
    }
    false
}

async fn garbage(to: SocketAddr, from: Ipv4Addr) -> bool {
    let Ok(mut stream) = connect(from, to).await else {
        return false;
    };
    let bytes: Vec<u8> = (0..3_000_u32).map(|byte| (byte * 7 + 13) as u8).collect();
    let _ = stream.write_all(&bytes).await;
    is_cut_off(&mut stream, 3 * PATIENCE).await
}

/// Where a handshake is due, and where a first byte is.
async fn silence(to: SocketAddr, from: Ipv4Addr) -> bool {
    let Ok(mut stream) = connect(from, to).await else {
        return false;
    };
    is_cut_off(&mut stream, 4 * PATIENCE).await
}

/// Asks and asks, and reads nothing.
async fn slow_reader(to: SocketAddr, from: Ipv4Addr) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    // The less waits on our side, the sooner it does on the server's.
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind((from, 0).into()).unwrap();
    let Ok(mut stream) = socket.connect(to).await else {
        return false;
    };
    let local = stream.local_addr().unwrap();
    let options = |number| register(number, "TCP", local).replace("REGISTER", "OPTIONS");
    let requests: String = (1..=2_000).map(options).collect();
    let begin = Instant::now();
    let mut rest = requests.as_bytes();
    while begin.elapsed() < 6 * PATIENCE {
        // A request that did not go out whole goes on where it stopped, or the server would see rubbish.
        match timeout(Duration::from_secs(1), stream.write(rest)).await {
            Ok(Err(_)) => return true,
            Ok(Ok(written)) => rest = &rest[written..],
            Err(_) => {}
        }
        if rest.is_empty() {
            rest = requests.as_bytes();
        }
    }
    false
}

async fn reset_in_a_message(to: SocketAddr, from: Ipv4Addr) -> bool {
    let Ok(mut stream) = connect(from, to).await else {
        return false;
    };
    let _ = stream
        .write_all(b"OPTIONS sip:localhost SIP/2.0\r\nSubj")
        .await;
    stream.set_zero_linger().is_ok()
}

/// Says all that it wants to, and listens: the answer comes.
async fn half_close(to: SocketAddr, from: Ipv4Addr) -> bool {
    let Ok(mut stream) = connect(from, to).await else {
        return false;
    };
    let request = register(1, "TCP", stream.local_addr().unwrap()).replace("REGISTER", "OPTIONS");
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = timeout(3 * PATIENCE, stream.read_to_end(&mut answer)).await;
    read.is_ok() && answer.starts_with(b"SIP/2.0 200 ")
}

/// Comes and goes: with a word or without, in peace or with a reset.
async fn churn(to: SocketAddr, count: u32) -> u32 {
    let done = Arc::new(AtomicU32::new(0));
    let next = Arc::new(AtomicU32::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..50 {
        let (done, next) = (done.clone(), next.clone());
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                // Ports stay taken for a minute after a connection that ended in peace.
                let Ok(mut stream) = connect(source(1_000 + number / 500), to).await else {
                    continue;
                };
                let is_well = number % 2 == 0 || is_alive(&mut stream).await;
                if number % 4 < 2 {
                    let _ = stream.set_zero_linger();
                }
                done.fetch_add(u32::from(is_well), Ordering::Relaxed);
            }
        });
    }
    while workers.join_next().await.is_some() {}
    done.load(Ordering::Relaxed)
}

async fn hold(to: SocketAddr, count: u32) -> Vec<TcpStream> {
    let mut waiting = JoinSet::new();
    let mut held = Vec::new();
    for number in 0..count {
        waiting.spawn(async move {
            // Below the limit of one source.
            let mut stream = connect(source(1 + number / 2_000), to).await.unwrap();
            assert!(is_alive(&mut stream).await);
            stream
        });
        if waiting.len() >= 100 {
            held.push(waiting.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(stream) = waiting.join_next().await {
        held.push(stream.unwrap());
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_register_while_a_crowd_misbehaves() {
    let sizes = Sizes::of_this_run();
    let target = Target::start();
    let before = target.resident_kib();
    let begin = Instant::now();
    let mut held = hold(target.tcp, sizes.idle).await;
    let with_idle = target.resident_kib();
    let bytes = (with_idle.saturating_sub(before)) * 1_024 / u64::from(sizes.idle);
    eprintln!(
        "{} idle connections in {:.1} s: {bytes} bytes of resident memory each ({before} to {with_idle} KiB)",
        sizes.idle,
        begin.elapsed().as_secs_f64()
    );

    let load = Arc::new(Load::default());
    let users = load.start((target.udp, target.tcp), sizes.rate);
    let (begin, processor) = (Instant::now(), target.processor_seconds());
    let (udp_and_tcp, tls, ws) = (target.tcp, target.tls, target.ws);
    let mut crowd: JoinSet<(&str, bool)> = JoinSet::new();
    for number in 0..sizes.hostile {
        let from = source(100 + number % 10);
        crowd.spawn(async move { ("slow header", slow_header(udp_and_tcp, from).await) });
        crowd.spawn(async move { ("endless header", endless_header(udp_and_tcp, from).await) });
        crowd.spawn(async move { ("garbage at TLS", garbage(tls, from).await) });
        crowd.spawn(async move { ("garbage at WebSocket", garbage(ws, from).await) });
        crowd.spawn(async move { ("silence at TLS", silence(tls, from).await) });
        crowd.spawn(async move { ("silence at WebSocket", silence(ws, from).await) });
        if sizes.idle > 1_000 {
            // Half a minute.
            crowd.spawn(async move { ("silence", silence(udp_and_tcp, from).await) });
        }
        crowd.spawn(async move { ("slow reader", slow_reader(udp_and_tcp, from).await) });
        crowd.spawn(async move {
            (
                "reset in a message",
                reset_in_a_message(udp_and_tcp, from).await,
            )
        });
        crowd.spawn(async move { ("half close", half_close(udp_and_tcp, from).await) });
    }
    let churned = churn(target.tcp, sizes.churn).await;
    let churning = begin.elapsed().as_secs_f64();
    let mut failed = Vec::new();
    while let Some(outcome) = crowd.join_next().await {
        let (what, is_well) = outcome.unwrap();
        if !is_well {
            failed.push(what);
        }
    }
    load.end();
    tokio::task::block_in_place(|| users.join()).unwrap();

    eprintln!(
        "{churned} of {} connections came and went in {churning:.1} s; {} of each way to misbehave, all over in {:.1} s",
        sizes.churn,
        sizes.hostile,
        begin.elapsed().as_secs_f64()
    );
    eprintln!("REGISTERs over UDP: {}", load.udp);
    eprintln!("REGISTERs over TCP: {}", load.tcp);
    eprintln!(
        "the load was late by {:.1} ms at most; {} datagrams found no room in the server's buffer",
        load.latest().as_secs_f64() * 1e3,
        target.datagrams_without_room()
    );
    eprintln!(
        "the server took {:.1} s of processor time and had {} KiB resident at the end, {} at most",
        target.processor_seconds() - processor,
        target.resident_kib(),
        status_kib(target.server.id(), "VmHWM:")
    );
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(churned, sizes.churn);
    for users in [&load.udp, &load.tcp] {
        assert!(users.sent() > 0 && users.succeeded() * 100 >= users.sent() * 99);
    }
    for stream in &mut held {
        assert!(is_alive(stream).await, "who is silent stays");
    }
    for what in [
        "a message was begun and not finished in time",
        "the bytes cannot be divided into messages",
        "handshake failed",
    ] {
        assert!(target.has_told(what), "{what}: {}", target.server.printed());
    }
    // Whoever is first: the server where a lot waits, the operating system where what it has sent is not taken for 30 s.
    let is_told =
        ["the peer reads too slowly", "reason=timed out"].map(|what| target.has_told(what));
    assert!(is_told.contains(&true), "{}", target.server.printed());
    let lines = target.server.lines().len();
    assert!(lines < 2_000, "{lines} lines");
    assert_eq!(target.server.terminate(PATIENCE).code(), 0);
}

const HAS_FILES: &str = "SIPORA_CROWD_HAS_FILES";

/// Sources beyond their share are refused, and others are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_beyond_its_share_is_refused_and_others_are_not() {
    if std::env::var_os(HAS_FILES).is_none() {
        // More files than a process has by default: it runs once more, in a process that has them.
        let name = "a_source_beyond_its_share_is_refused_and_others_are_not";
        let mut again = Command::new("sh");
        again.args(["-c", "ulimit -n 4000 && exec \"$0\" --exact \"$1\""]);
        again.arg(std::env::current_exe().unwrap()).arg(name);
        let outcome = run(again.env(HAS_FILES, "yes"), 6 * PATIENCE);
        assert_eq!(outcome.code(), 0, "{outcome}");
        return;
    }
    let target = Target::start();
    let mut held = Vec::new();
    for _ in 0..2_500 {
        let mut stream = connect(source(1), target.tcp).await.unwrap();
        assert!(is_alive(&mut stream).await);
        held.push(stream);
    }
    let mut stream = connect(source(1), target.tcp).await.unwrap();
    assert!(!is_alive(&mut stream).await);
    let mut stream = connect(source(2), target.tcp).await.unwrap();
    assert!(is_alive(&mut stream).await);
    target.server.wait_for("a line about it", PATIENCE, |line| {
        line.contains("connection refused: too many").then_some(())
    });
}

/// Out of files: no connection is accepted any more, and that is all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_out_of_files_goes_on_and_accepts_again_when_there_are_some() {
    let mut serve = Command::new("sh");
    serve.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\"", SIPORA]);
    serve.args(["serve", "--no-auth", "--domain", "localhost"]);
    serve.args(["--listen", "udp:127.0.0.1:0", "--listen", "tcp:127.0.0.1:0"]);
    let server = Process::start(&mut serve);
    let (udp, tcp) = (listener(&server, "udp"), listener(&server, "tcp"));
    // The kernel completes connections that nobody accepts.
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(connect(source(1), tcp).await.unwrap());
    }
    server.wait_for("a line about it", PATIENCE, |line| {
        line.contains("cannot accept").then_some(())
    });
    let mut alive = 0;
    for stream in held.iter_mut().take(20) {
        alive += u32::from(is_alive(stream).await);
    }
    assert_eq!(alive, 20, "who was accepted is served");
    let answer = timeout(PATIENCE, over_udp(1, udp)).await.unwrap();
    assert_eq!(answer.unwrap(), 200);

    // A server that spins takes all the time there is; this one tries ten times a second.
    let ticks = |id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let ticks = rest.split(' ').skip(11).take(2);
        ticks
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    let before = ticks(server.id());
    sleep(Duration::from_secs(2)).await;
    let spent = ticks(server.id()) - before;
    assert!(spent < 100, "{spent} hundredths of 2 s");

    held.clear();
    let mut stream = connect(source(1), tcp).await.unwrap();
    assert!(is_alive(&mut stream).await);
    assert_eq!(server.terminate(PATIENCE).code(), 0);
}
