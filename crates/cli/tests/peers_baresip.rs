//! baresip, a phone, registers at the server, stays registered past several refreshes, chats through it, publishes its
//! presence and watches that of others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;
mod secure_server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    DOMAIN, PATIENCE, Process, SHORT_EXPIRES, SIPORA, Server, free_port, password_of, peer,
    peer_is_installed, run, sipora, write,
};
use secure_server::SecureServer;

/// Seconds that baresip asks for. It refreshes at nine tenths of what it is granted.
const INTERVAL: u32 = 4;

#[test]
fn baresip_stays_registered_past_its_refreshes_over_udp() {
    stays_registered("udp", |server| server.udp);
}

#[test]
fn baresip_stays_registered_past_its_refreshes_over_tcp() {
    stays_registered("tcp", |server| server.tcp);
}

fn stays_registered(transport: &str, address: impl Fn(&Server) -> SocketAddr) {
    if !peer_is_installed("baresip") || !peer_is_installed("sipsak") {
        return;
    }
    let server = Server::start_with(["alice"], SHORT_EXPIRES, &[]);
    let phone = start_phone(&server, transport, address(&server));

    phone.wait_for("answer 200 to REGISTER", PATIENCE, |line| {
        line.starts_with("SIP/2.0 200 ").then_some(())
    });
    let registered = Instant::now();
    wait_for_answers(&phone, 3);
    let passed = registered.elapsed();
    assert!(
        passed > Duration::from_secs(u64::from(INTERVAL)),
        "two refreshes within {passed:?}: the granted time was not used:\n{}",
        phone.printed()
    );
    // Without the refreshes the first binding would be gone by now.
    let listed = bindings(&server);
    assert!(
        listed.contains("Contact: <sip:alice-"),
        "after two refreshes:\n{listed}\n{}",
        phone.printed()
    );

    // An orderly end of baresip removes its binding.
    let printed = phone.terminate(PATIENCE);
    let listed = bindings(&server);
    assert!(
        !listed.contains("Contact: "),
        "after baresip ended:\n{listed}\n{printed}"
    );
}

#[test]
fn baresip_sends_and_receives_messages_through_the_server_over_udp() {
    chats("udp", |server| server.udp);
}

#[test]
fn baresip_sends_and_receives_messages_through_the_server_over_tcp() {
    chats("tcp", |server| server.tcp);
}

fn chats(transport: &str, address: impl Fn(&Server) -> SocketAddr) {
    if !peer_is_installed("baresip") {
        return;
    }
    let server = Server::start_with(["alice", "bob"], SHORT_EXPIRES, &[]);
    let address = address(&server);
    chats_at(&server, transport, address, "", &[]);
}

/// The same over TLS, where baresip and our own command believe the server by the root that they are given.
#[test]
fn baresip_registers_and_sends_and_receives_messages_over_tls() {
    if !peer_is_installed("baresip") {
        return;
    }
    let secure = SecureServer::start_with(["alice", "bob"], SHORT_EXPIRES, &[]);
    let root = secure.root.to_str().unwrap();
    let believes = format!("sip_cafile {root}\n");
    let trusting = ["--tls-ca", root];
    chats_at(&secure.server, "tls", secure.tls, &believes, &trusting);
}

fn chats_at(
    server: &Server,
    transport: &str,
    address: SocketAddr,
    settings: &str,
    trusting: &[&str],
) {
    let control = free_port();
    let modules =
        format!("module_app ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{control}\n{settings}");
    let phone = start_phone_with(server, transport, address, &modules);
    phone.wait_for("answer 200 to REGISTER", PATIENCE, |line| {
        line.starts_with("SIP/2.0 200 ").then_some(())
    });

    // To baresip: the message is shown, and the 200 is baresip's own.
    let password = write(server.files.path(), "bob.password", &password_of("bob"));
    let target = format!("sip:alice@{address};transport={transport}");
    let sent = run(
        Command::new(SIPORA)
            .args(["message", &target, "Hello from Bob", "--user", "bob", "-v"])
            .args(trusting)
            .arg("--password-file")
            .arg(&password),
        PATIENCE,
    );
    assert_eq!(sent.code(), 0, "{sent}\n{}", phone.printed());
    phone.wait_for("message", PATIENCE, |line| {
        line.contains("Hello from Bob").then_some(())
    });

    // From baresip, to a socket that answers for bob.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let contact = format!("sip:bob@{}", socket.local_addr().unwrap());
    let bound = sipora([
        "register".as_ref(),
        format!("sip:bob@{}", server.udp).as_ref(),
        "--password-file".as_ref(),
        password.as_os_str(),
        "--contact".as_ref(),
        contact.as_ref(),
    ]);
    assert_eq!(bound.code(), 0, "{bound}");
    command(
        control,
        r#"{"command":"message","params":"Hello from Alice"}"#,
    );
    let message = receive(&socket, &phone);
    assert!(message.starts_with("MESSAGE "), "{message}");
    assert!(message.ends_with("Hello from Alice"), "{message}");
    assert!(message.contains("sip:alice@127.0.0.1"), "{message}");
    phone.wait_for("answer to its MESSAGE", PATIENCE, |line| {
        line.starts_with("Server: Bob's socket").then_some(())
    });
}

#[test]
fn baresip_publishes_and_watches_over_udp() {
    sees_and_is_seen("udp", |server| server.udp);
}

#[test]
fn baresip_publishes_and_watches_over_tcp() {
    sees_and_is_seen("tcp", |server| server.tcp);
}

fn sees_and_is_seen(transport: &str, address: impl Fn(&Server) -> SocketAddr) {
    if !peer_is_installed("baresip") {
        return;
    }
    let settings = format!("{SHORT_EXPIRES}[presence]\nnotify_interval = 0\n");
    let server = Server::start_with(["alice", "bob"], &settings, &[]);
    let address = address(&server);
    let password = write(server.files.path(), "bob.password", &password_of("bob"));
    let bob = |verb: &str, whom: &str, arguments: &[&str]| {
        let uri = format!("sip:{whom}@{address};transport={transport}");
        let mut command = Command::new(SIPORA);
        command.args([verb, &uri, "--user", "bob", "--password-file"]);
        Process::start(command.arg(&password).args(arguments))
    };
    let watcher = bob("subscribe", "alice", &[]);
    watcher.wait_for("first NOTIFY", PATIENCE, |line| {
        line.contains(" is closed").then_some(())
    });

    // What baresip publishes is told to bob; its tuple is called t and a number.
    let phone = start_phone_with(&server, transport, address, "module_app presence.so\n");
    watcher.wait_for("baresip's tuple", PATIENCE, |line| {
        let (_, tuple) = line.trim().split_once(".t")?;
        tuple.contains(" open at sip:alice@").then_some(())
    });

    // Bob comes and goes, and baresip shows it.
    phone.wait_for("first NOTIFY", PATIENCE, |line| {
        line.contains("entity=\"pres:bob@").then_some(())
    });
    let registered = bob("register", "bob", &["--keep"]);
    let shows = |from: &str, to: &str| {
        phone.wait_for(to, PATIENCE, |line| {
            let (_, change) = line.split_once(" changed status from ")?;
            let (before, after) = change.split_once(" to ")?;
            (before.contains(from) && after.contains(to)).then_some(())
        });
    };
    shows("Offline", "Online");
    assert_eq!(registered.terminate(PATIENCE).code(), 0);
    shows("Online", "Offline");

    // At its end baresip removes what it has published. It may have published twice, as its second PUBLISH does not wait for
    // the entity tag of the first; then the first is left until it expires.
    let before = tuples(&watcher);
    assert!((1..=2).contains(&before), "{}", watcher.printed());
    phone.terminate(PATIENCE);
    let deadline = Instant::now() + PATIENCE;
    // Twice in a row: what is seen once may be half of a notification.
    let mut fewer = 0;
    while fewer < 2 {
        assert!(Instant::now() < deadline, "{}", watcher.printed());
        std::thread::sleep(Duration::from_millis(50));
        fewer = if tuples(&watcher) < before {
            fewer + 1
        } else {
            0
        };
    }
    assert_eq!(watcher.terminate(PATIENCE).code(), 0);
}

/// Counts the tuples of baresip's in the newest notification.
fn tuples(watcher: &Process) -> usize {
    let lines = watcher.lines();
    let newest = lines.iter().rev().take_while(|line| line.starts_with("  "));
    newest.filter(|line| line.contains(".t")).count()
}

/// Gives a command to baresip's `ctrl_tcp`: JSON in a netstring.
fn command(control: u16, json: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", control)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(format!("{}:{json},", json.len()).as_bytes())
        .unwrap();
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).expect("an answer to the command");
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.contains("\"ok\":true"), "{answer}");
}

/// Waits for a request at a bare socket, and answers it with 200.
fn receive(socket: &UdpSocket, phone: &Process) -> String {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 65_535];
    let (length, from) = socket
        .recv_from(&mut buffer)
        .unwrap_or_else(|error| panic!("nothing came: {error}\n{}", phone.printed()));
    let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let copied = ["Via", "From", "To", "Call-ID", "CSeq"];
    let lines = request.split("\r\n").filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        copied.contains(&name)
    });
    let lines: Vec<String> = lines
        .map(|line| match line.starts_with("To") {
            true => format!("{line};tag=bob"),
            false => line.to_owned(),
        })
        .collect();
    let answer = format!(
        "SIP/2.0 200 OK\r\n{}\r\nServer: Bob's socket\r\nContent-Length: 0\r\n\r\n",
        lines.join("\r\n")
    );
    socket.send_to(answer.as_bytes(), from).unwrap();
    request
}

fn wait_for_answers(phone: &Process, wanted: usize) {
    let deadline =
        Instant::now() + PATIENCE + Duration::from_secs(u64::from(INTERVAL) * wanted as u64);
    loop {
        let answers = phone
            .lines()
            .iter()
            .filter(|line| line.starts_with("SIP/2.0 200 "))
            .count();
        if answers >= wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{answers} of {wanted} answers 200:\n{}",
            phone.printed()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The bindings as the server lists them to sipsak, which asks without a Contact.
fn bindings(server: &Server) -> String {
    let uri = format!("sip:alice@{DOMAIN}:{}", server.udp.port());
    let password = password_of("alice");
    let queried = run(
        peer("sipsak").args([
            "-vvv", "-i", "-U", "-C", "empty", "-u", "alice", "-a", &password, "-s", &uri,
        ]),
        PATIENCE,
    );
    assert_eq!(queried.code(), 0, "{queried}");
    // Only the last answer: what stands before it is the challenge.
    let (_, answer) = queried
        .stdout
        .rsplit_once("SIP/2.0 200")
        .expect("an answer that sipsak took for success");
    answer.to_owned()
}

/// A phone without sound, picture or terminal: three modules, one account, loopback only, a trace of every message.
fn start_phone(server: &Server, transport: &str, address: SocketAddr) -> Process {
    start_phone_with(server, transport, address, "")
}

/// The same, with further modules and bob among its contacts. With the module for it, it watches him and publishes for alice.
fn start_phone_with(
    server: &Server,
    transport: &str,
    address: SocketAddr,
    modules: &str,
) -> Process {
    let directory = server.files.path().join("baresip");
    std::fs::create_dir(&directory).unwrap();
    write(
        &directory,
        "config",
        &format!(
            "sip_listen 127.0.0.1:0\n\
             net_interface 127.0.0.1\n\
             dns_server 127.0.0.1:9\n\
             audio_player none\naudio_source none\naudio_alert none\n\
             module_path {}\n\
             module_app account.so\nmodule_app menu.so\nmodule_app contact.so\n{modules}",
            module_path(),
        ),
    );
    // Left to itself it registers over TLS, and sends messages over UDP to the same port.
    let outbound = match transport {
        "tls" => format!(";outbound=\"sip:{address};transport=tls\""),
        _ => String::new(),
    };
    write(
        &directory,
        "accounts",
        &format!(
            "<sip:alice@{address};transport={transport}>;auth_user=alice;auth_pass={};regint={INTERVAL};pubint=60{outbound}\n",
            password_of("alice")
        ),
    );
    let bob = format!("sip:bob@{address};transport={transport}");
    write(
        &directory,
        "contacts",
        &format!("\"Bob\" <{bob}>;presence=p2p\n"),
    );
    write(&directory, "current_contact", &bob);
    write(&directory, "uuid", "");
    // baresip writes whole blocks into a pipe; stdbuf makes that lines. `-t` ends it should this test be killed.
    let baresip = peer("baresip").get_program().to_owned();
    Process::start(
        Command::new("stdbuf")
            .arg("-oL")
            .arg(baresip)
            .args(["-4", "-s", "-t", "120", "-f"])
            .arg(&directory),
    )
}

fn module_path() -> &'static str {
    ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules"]
        .into_iter()
        .find(|path| Path::new(path).is_dir())
        .expect("baresip comes with its modules")
}
