//! dnsmasq, a name server, tells where our own programs find each other: by NAPTR and SRV records whose first target is dead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;
mod secure_server;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::{
    Outcome, PATIENCE, Process, Server, free_port, ok_to, peer, peer_is_installed, sipora, write,
};
use secure_server::{SecureServer, password_file};

/// Nobody else's (RFC 6761 §6.2).
const NAME: &str = "example.test";

#[test]
fn every_command_reaches_the_second_target_where_the_first_is_dead_over_udp() {
    reaches_the_second_target("udp", "SIP+D2U");
}

#[test]
fn every_command_reaches_the_second_target_where_the_first_is_dead_over_tcp() {
    reaches_the_second_target("tcp", "SIP+D2T");
}

fn reaches_the_second_target(transport: &str, service: &str) {
    if !peer_is_installed("dnsmasq") {
        return;
    }
    let server = Server::start_with(["alice", "bob"], "", &["--domain", NAME]);
    let alive = match transport {
        "udp" => server.udp,
        _ => server.tcp,
    };
    let service_name = format!("_sip._{transport}.{NAME}");
    let names = NameServer::start(&[
        format!("naptr-record={NAME},10,50,S,{service},,{service_name}"),
        format!("srv-host={service_name},one.{NAME},{},1,0", dead_port()),
        format!("srv-host={service_name},two.{NAME},{},2,0", alive.port()),
        format!("host-record=one.{NAME},127.0.0.1"),
        format!("host-record=two.{NAME},127.0.0.1"),
    ]);
    let bob = format!("sip:bob@{NAME}");
    let phone = Phone::start();
    let password = |user| password_file(&server, user).to_str().unwrap().to_owned();

    let outcome = names.sipora(&["options", &format!("sip:{NAME}")]);
    assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
    let outcome = names.sipora(&[
        "register",
        &bob,
        "--password-file",
        &password("bob"),
        "--contact",
        &phone.contact("bob"),
    ]);
    assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
    let alice = password("alice");
    let outcome = names.sipora(&[
        "message",
        &bob,
        "Hi",
        "--user",
        "alice",
        "--password-file",
        &alice,
    ]);
    assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
    for asked in [
        format!("query[NAPTR] {NAME}"),
        format!("query[SRV] {service_name}"),
    ] {
        assert!(names.printed().contains(&asked), "{}", names.printed());
    }
}

#[test]
fn a_first_target_that_is_silent_costs_four_seconds() {
    if !peer_is_installed("dnsmasq") {
        return;
    }
    let server = Server::start_with([""; 0], "", &["--no-auth", "--domain", NAME]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    // Without a NAPTR record.
    let names = NameServer::start(&[
        format!("srv-host=_sip._udp.{NAME},one.{NAME},{},1,0", silent.port()),
        format!(
            "srv-host=_sip._udp.{NAME},one.{NAME},{},2,0",
            server.udp.port()
        ),
        format!("host-record=one.{NAME},127.0.0.1"),
    ]);
    let started = Instant::now();
    let outcome = names.sipora(&["register", &format!("sip:alice@{NAME}")]);
    assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
    assert!(started.elapsed() > Duration::from_secs(3), "{outcome}");
}

#[test]
fn a_domain_that_wants_tls_gets_it_and_shows_a_certificate_for_the_domain() {
    if !peer_is_installed("dnsmasq") {
        return;
    }
    let server = SecureServer::start_named(NAME, &["--no-auth", "--domain", NAME]);
    let names = NameServer::start(&[
        format!("naptr-record={NAME},10,50,S,SIPS+D2T,,_sips._tcp.{NAME}"),
        format!("naptr-record={NAME},20,50,S,SIP+D2U,,_sip._udp.{NAME}"),
        format!("srv-host=_sips._tcp.{NAME},one.{NAME},{},1,0", dead_port()),
        format!(
            "srv-host=_sips._tcp.{NAME},two.{NAME},{},2,0",
            server.tls.port()
        ),
        format!("host-record=one.{NAME},127.0.0.1"),
        format!("host-record=two.{NAME},127.0.0.1"),
    ]);
    let root = server.root.to_str().unwrap();
    for uri in [format!("sip:{NAME}"), format!("sips:{NAME}")] {
        let outcome = names.sipora(&["options", &uri, "--tls-ca", root, "-v"]);
        assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
        assert!(outcome.stderr.contains("SIP/2.0/TLS"), "{outcome}");
    }
}

#[test]
fn a_name_with_a_port_is_looked_up_as_an_address_alone() {
    if !peer_is_installed("dnsmasq") {
        return;
    }
    let server = Server::start_with([""; 0], "", &["--no-auth", "--domain", NAME]);
    let names = NameServer::start(&[
        format!("srv-host=_sip._udp.{NAME},{NAME},{},1,0", dead_port()),
        format!("host-record={NAME},127.0.0.1"),
    ]);
    let target = format!("sip:{NAME}:{}", server.udp.port());
    let outcome = names.sipora(&["options", &target]);
    assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
    assert!(
        !names.printed().contains("query[SRV]"),
        "{}",
        names.printed()
    );
}

#[test]
fn the_server_finds_a_contact_by_its_srv_records() {
    if !peer_is_installed("dnsmasq") {
        return;
    }
    let phone = Phone::start();
    let names = NameServer::start(&[
        format!(
            "srv-host=_sip._udp.bob.{NAME},bob.{NAME},{},1,0",
            dead_port()
        ),
        format!(
            "srv-host=_sip._udp.bob.{NAME},bob.{NAME},{},2,0",
            phone.address.port()
        ),
        format!("host-record=bob.{NAME},127.0.0.1"),
    ]);
    let server = Server::start_with([""; 0], "", &["--no-auth", "--dns-server", &names.address]);
    let bob = format!("sip:bob@{}", server.udp);
    let contact = format!("sip:bob@bob.{NAME}");
    let outcome = sipora(["register", &bob, "--contact", &contact]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let outcome = sipora(["message", &bob, "Hello", "--from", "sip:alice@127.0.0.1"]);
    assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
}

/// A name that has an AAAA record and no other.
#[test]
fn a_server_with_an_ipv6_address_alone_is_reached_by_name() {
    if !peer_is_installed("dnsmasq") {
        return;
    }
    let server = Server::start_with(
        [""; 0],
        "",
        &[
            "--no-auth",
            "--domain",
            NAME,
            "--domain",
            &format!("six.{NAME}"),
            "--listen",
            "udp:[::1]:0",
            "--listen",
            "tcp:[::1]:0",
        ],
    );
    let v6 = |transport: &str| -> SocketAddr {
        let prefix = format!("listening on {transport} ");
        server.process.wait_for(&prefix, PATIENCE, |line| {
            let address = line.strip_prefix(&prefix)?.parse().ok();
            address.filter(SocketAddr::is_ipv6)
        })
    };
    let (udp, tcp) = (v6("udp"), v6("tcp"));
    let names = NameServer::start(&[
        format!("srv-host=_sip._udp.{NAME},six.{NAME},{},1,0", udp.port()),
        format!("srv-host=_sip._tcp.{NAME},six.{NAME},{},1,0", tcp.port()),
        format!("host-record=six.{NAME},::1"),
    ]);
    for target in [
        format!("sip:{NAME}"),
        format!("sip:{NAME};transport=tcp"),
        format!("sip:six.{NAME}:{}", udp.port()),
    ] {
        let outcome = names.sipora(&["options", &target, "-v"]);
        assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
        assert!(outcome.stderr.contains("[::1]"), "{outcome}");
    }
    let outcome = names.sipora(&["register", &format!("sip:alice@{NAME}")]);
    assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
    assert!(outcome.stdout.contains("sip:alice@[::1]:"), "{outcome}");
}

#[test]
fn the_server_reaches_a_contact_with_an_ipv6_address_alone_by_name() {
    if !peer_is_installed("dnsmasq") {
        return;
    }
    let phone = Phone::start_at("[::1]:0");
    let names = NameServer::start(&[
        format!(
            "srv-host=_sip._udp.bob.{NAME},six.{NAME},{},1,0",
            phone.address.port()
        ),
        format!("host-record=six.{NAME},::1"),
    ]);
    // It listens on IPv4 alone.
    let server = Server::start_with([""; 0], "", &["--no-auth", "--dns-server", &names.address]);
    let bob = format!("sip:bob@{}", server.udp);
    let contact = format!("sip:bob@bob.{NAME}");
    let outcome = sipora(["register", &bob, "--contact", &contact]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let outcome = sipora(["message", &bob, "Hello", "--from", "sip:alice@127.0.0.1"]);
    assert_eq!(outcome.code(), 0, "{outcome}\n{}", names.printed());
    assert!(
        names.printed().contains(&format!("query[AAAA] six.{NAME}")),
        "{}",
        names.printed()
    );
}

#[test]
fn a_name_that_nobody_knows_is_status_3_and_names_itself() {
    if !peer_is_installed("dnsmasq") {
        return;
    }
    let names = NameServer::start(&[]);
    let outcome = names.sipora(&["options", &format!("sip:nobody.{NAME}")]);
    assert_eq!(outcome.code(), 3, "{outcome}");
    assert!(
        outcome.stderr.contains(&format!("nobody.{NAME}")),
        "{outcome}"
    );
    // Neither the hosts file nor the loopback name needs a name server.
    let server = Server::start_with([""; 0], "", &["--no-auth", "--domain", "localhost"]);
    let target = format!("sip:localhost:{}", server.udp.port());
    let outcome = names.sipora(&["options", &target]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let outcome = sipora(["options", &target]);
    assert_eq!(outcome.code(), 0, "{outcome}");
}

/// dnsmasq on a port of its own, with these records and no others.
struct NameServer {
    process: Process,
    address: String,
}

impl NameServer {
    fn start(records: &[String]) -> NameServer {
        let files = tempfile::tempdir().unwrap();
        // It picks no port by itself.
        let port = free_port();
        let mut settings = format!(
            "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nlog-queries\n\
             local=/{NAME}/\n"
        );
        for record in records {
            settings.push_str(record);
            settings.push('\n');
        }
        let settings = write(files.path(), "dnsmasq.conf", &settings);
        let mut command = peer("dnsmasq");
        command
            .args(["--no-daemon", "--pid-file="])
            .arg(format!("--conf-file={}", settings.display()));
        let process = Process::start(&mut command);
        process.wait_for("start", PATIENCE, |line| {
            line.contains(": started, version").then_some(())
        });
        NameServer {
            process,
            address: format!("127.0.0.1:{port}"),
        }
    }

    /// Runs `sipora` so that it asks this name server.
    fn sipora(&self, arguments: &[&str]) -> Outcome {
        let own = ["--dns-server", &self.address];
        sipora(arguments.iter().chain(&own))
    }

    fn printed(&self) -> String {
        self.process.printed()
    }
}

/// A bare socket that answers every request with 200.
struct Phone {
    address: SocketAddr,
}

impl Phone {
    fn start() -> Phone {
        Phone::start_at("127.0.0.1:0")
    }

    fn start_at(address: &str) -> Phone {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = ok_to(&String::from_utf8_lossy(&buffer[..length]));
                let _ = socket.send_to(answer.as_bytes(), from);
            }
        });
        Phone { address }
    }

    fn contact(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.address)
    }
}

/// A port that nobody listens at, over UDP or TCP.
fn dead_port() -> u16 {
    free_port()
}
