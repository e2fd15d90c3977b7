//! The program on bad networks: connections that are reset in the middle of a message, half of a connection closed, ports
//! that nobody listens at, and datagrams that are lost and late.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    PATIENCE, Process, SIPORA, Server, free_port, listener, ok_to, options_request, password_of,
    sipora, write,
};

/// Longer than any request lives, on a machine with much else to do.
const LOSSY_PATIENCE: Duration = Duration::from_secs(90);

/// Well below the 32 s after which silence is taken for an answer.
const AT_ONCE: Duration = Duration::from_secs(15);

#[test]
fn connections_reset_in_the_middle_of_a_request_harm_nobody_else() {
    let server = Server::start(["alice"]);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(server.tcp).unwrap();
        let request = options_request(&stream.local_addr().unwrap(), "TCP", server.tcp);
        stream.write_all(request.as_bytes()).unwrap();
        // The answer is there, and is not read: then the end of the connection is a reset.
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(stream.peek(&mut [0; 1]).unwrap() > 0);
        stream
            .write_all(&request.as_bytes()[..request.len() / 2])
            .unwrap();
    }
    server.assert_answers("resets");
    let outcome = sipora(["options", &format!("sip:{};transport=tcp", server.tcp)]);
    assert_eq!(outcome.code(), 0, "{outcome}");
}

#[test]
fn an_answer_that_breaks_off_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("sip:{};transport=tcp", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // What is not read makes the end a reset.
            let _ = stream.peek(&mut [0; 1]);
            let _ = stream.write_all(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 127.0");
        }
    });
    let started = Instant::now();
    let outcome = sipora(["options", &target]);
    assert_eq!(outcome.code(), 3, "{outcome}");
    assert!(
        started.elapsed() < AT_ONCE,
        "{:?}: {outcome}",
        started.elapsed()
    );
}

#[test]
fn who_has_closed_its_half_of_a_connection_gets_its_answer() {
    let server = Server::start(["alice"]);
    let mut stream = TcpStream::connect(server.tcp).unwrap();
    let request = options_request(&stream.local_addr().unwrap(), "TCP", server.tcp);
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    // The server closes its half too, after the answer.
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_that_nobody_listens_at_is_told_at_once_over_udp() {
    let started = Instant::now();
    let outcome = sipora(["options", &format!("sip:127.0.0.1:{}", free_port())]);
    assert_eq!(outcome.code(), 3, "{outcome}");
    assert!(outcome.stderr.contains("refused"), "{outcome}");
    assert!(
        started.elapsed() < AT_ONCE,
        "{:?}: {outcome}",
        started.elapsed()
    );
}

#[test]
fn registrations_and_messages_succeed_where_a_fifth_is_lost_and_the_rest_comes_200_ms_late() {
    let server = Server::start(USERS);
    let here = LOOPBACK;
    let relay = relay((here, here), server.udp, 5, Duration::from_millis(200));
    let sites = Sites {
        client: || Command::new(SIPORA),
        beside_server: || Command::new(SIPORA),
        files: server.files.path(),
        server: server.udp,
        relay,
        phone: phone(here),
    };
    sites.register_and_write();
}

#[test]
fn registrations_and_messages_succeed_between_hosts_where_a_fifth_is_lost_and_the_rest_comes_late()
{
    let Some(hosts) = Hosts::start() else {
        eprintln!("skipped: network namespaces are not permitted here");
        return;
    };
    let files = tempfile::tempdir().unwrap();
    let lines: String = USERS
        .iter()
        .map(|user| format!("{user}:{}\n", password_of(user)))
        .collect();
    let mut serve = hosts.server.command();
    serve.arg("serve").arg("--listen");
    serve.arg(format!("udp:{}:0", hosts.server.inner));
    serve.args(["--domain", &hosts.client.outer.to_string()]);
    serve
        .arg("--users")
        .arg(write(files.path(), "users", &lines));
    let process = Process::start(&mut serve);
    let server = listener(&process, "udp");
    let between = (hosts.client.outer.into(), hosts.server.outer.into());
    let sites = Sites {
        client: || hosts.client.command(),
        beside_server: || hosts.server.command(),
        files: files.path(),
        server,
        relay: relay(between, server, 5, Duration::from_millis(200)),
        phone: phone(hosts.server.outer.into()),
    };
    sites.register_and_write();
}

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Two hosts besides this one, each a network namespace at a cable of its own to this one.
struct Hosts {
    client: Host,
    server: Host,
}

struct Host {
    namespace: String,
    /// Its own address, and that of this host at the other end of its cable.
    inner: Ipv4Addr,
    outer: Ipv4Addr,
}

impl Hosts {
    fn start() -> Option<Self> {
        let net = (std::process::id() % 256) as u8;
        Some(Self {
            client: Host::start("c", net, 0)?,
            server: Host::start("s", net, 4)?,
        })
    }
}

impl Host {
    fn start(side: &str, net: u8, start: u8) -> Option<Self> {
        let id = std::process::id();
        // It is dropped, and with it what there is of it, where something is not permitted.
        let host = Self {
            namespace: format!("sipora-{id}-{side}"),
            outer: Ipv4Addr::new(10, 213, net, start + 1),
            inner: Ipv4Addr::new(10, 213, net, start + 2),
        };
        let (name, near, far) = (
            &host.namespace,
            format!("sp{side}{id}"),
            format!("sq{side}{id}"),
        );
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {near} type veth peer name {far}"))?;
        ip(&format!("link set {far} netns {name}"))?;
        ip(&format!("addr add {}/30 dev {near}", host.outer))?;
        ip(&format!("link set {near} up"))?;
        ip(&format!("-n {name} addr add {}/30 dev {far}", host.inner))?;
        ip(&format!("-n {name} link set {far} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        Some(host)
    }

    /// The program, on that host.
    fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, SIPORA]);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its cable goes with it.
        ip(&format!("netns del {}", self.namespace));
    }
}

fn ip(arguments: &str) -> Option<()> {
    let outcome = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .ok()?;
    outcome.status.success().then_some(())
}

/// Who is where, on a bad network.
struct Sites<'a, C, S> {
    /// Starts the program where clients are.
    client: C,
    /// Starts it where the server is.
    beside_server: S,
    files: &'a Path,
    server: SocketAddr,
    /// Where clients reach the server.
    relay: SocketAddr,
    phone: SocketAddr,
}

impl<C: Fn() -> Command, S: Fn() -> Command> Sites<'_, C, S> {
    fn register_and_write(&self) {
        let (server, relay, phone) = (self.server, self.relay, self.phone);
        let run = |mut command: Command, user: &str, arguments: &[&str]| {
            let password = write(self.files, user, &password_of(user));
            command.args(arguments).arg("--password-file").arg(password);
            Process::start(&mut command)
        };
        let register = |command: Command, user: &str, server: SocketAddr| {
            let (uri, contact) = (
                format!("sip:{user}@{}", relay.ip()),
                format!("sip:{user}@{phone}"),
            );
            let registrar = format!("sip:{server}");
            let arguments = [
                "register",
                &uri,
                "--registrar",
                &registrar,
                "--contact",
                &contact,
            ];
            run(command, user, &arguments)
        };
        all(USERS
            .map(|user| register((self.client)(), user, relay))
            .into());
        // Behind the relay somebody is always thought to be there, and the program is not: now the phone is at the contact.
        all(USERS
            .map(|user| register((self.beside_server)(), user, server))
            .into());
        let message = |(from, to): (&str, &str)| {
            let uri = format!("sip:{to}@{relay}");
            let arguments = ["message", &uri, "Are you there?", "--user", from];
            run((self.client)(), from, &arguments)
        };
        let pairs = USERS.into_iter().zip(USERS.into_iter().cycle().skip(1));
        all(pairs.map(message).collect());
    }
}

fn all(processes: Vec<Process>) {
    for process in processes {
        let outcome = process.wait(LOSSY_PATIENCE);
        assert_eq!(outcome.code(), 0, "{outcome}");
    }
}

/// Stands between clients and a server over UDP, with an address on each side: of each direction one datagram in `lost` is
/// lost, the others are late.
fn relay(
    (front, back): (IpAddr, IpAddr),
    server: SocketAddr,
    lost: u64,
    delay: Duration,
) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind((front, 0)).unwrap());
    let address = front.local_addr().unwrap();
    let chance = Arc::new(Mutex::new(0x5152_4f50_5349_u64));
    // It ends with the test's process.
    thread::spawn(move || {
        let mut clients: Vec<(SocketAddr, Sender<Vec<u8>>)> = Vec::new();
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = front.recv_from(&mut buffer) {
            if !clients.iter().any(|(client, _)| *client == from) {
                // A socket for each client, as a NAT has a port.
                let back = Arc::new(UdpSocket::bind((back, 0)).unwrap());
                back.connect(server).unwrap();
                let out = Arc::clone(&back);
                let late = late(delay, move |bytes| drop(out.send(bytes)));
                clients.push((from, late));
                let (front, chance) = (Arc::clone(&front), Arc::clone(&chance));
                thread::spawn(move || {
                    let late = self::late(delay, move |bytes| drop(front.send_to(bytes, from)));
                    let mut buffer = vec![0; 65_535];
                    while let Ok(length) = back.recv(&mut buffer) {
                        if !is_lost(&chance, lost) {
                            let _ = late.send(buffer[..length].to_vec());
                        }
                    }
                });
            }
            let known = clients.iter().find(|(client, _)| *client == from);
            if let Some((_, late)) = known
                && !is_lost(&chance, lost)
            {
                let _ = late.send(buffer[..length].to_vec());
            }
        }
    });
    address
}

/// Passes on what it is given, in order, each after a delay.
fn late(delay: Duration, send: impl Fn(&[u8]) + Send + 'static) -> Sender<Vec<u8>> {
    let (sender, receiver) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (at, bytes) in receiver {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            send(&bytes);
        }
    });
    let (stamped, unstamped) = channel::<Vec<u8>>();
    thread::spawn(move || {
        for bytes in unstamped {
            let _ = sender.send((Instant::now() + delay, bytes));
        }
    });
    stamped
}

/// One in `lost`, drawn by xorshift from a fixed seed.
fn is_lost(chance: &Mutex<u64>, lost: u64) -> bool {
    let mut state = chance.lock().unwrap();
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.is_multiple_of(lost)
}

/// A socket that answers every request with 200.
fn phone(at: IpAddr) -> SocketAddr {
    let socket = UdpSocket::bind((at, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = ok_to(&String::from_utf8_lossy(&buffer[..length]));
            let _ = socket.send_to(answer.as_bytes(), from);
        }
    });
    address
}
