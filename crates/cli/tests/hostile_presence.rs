//! Malformed and hostile SUBSCRIBE, PUBLISH and NOTIFY at a running server, and watchers that die: the status owed, and no
//! harm to anybody else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, Process, SIPORA, Server, password_of, run, write};

/// A socket that subscribes and publishes; it answers each NOTIFY with `answer`.
struct Phone {
    socket: UdpSocket,
    answer: &'static str,
    notifies: RefCell<Vec<String>>,
    serial: Cell<u32>,
}

impl Phone {
    fn new(server: SocketAddr) -> Phone {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        Phone {
            socket,
            answer: "200 OK",
            notifies: RefCell::default(),
            serial: Cell::new(0),
        }
    }

    /// A request about bob, with further header lines and a body.
    fn request(&self, method: &str, lines: &str, body: &str) -> String {
        let local = self.socket.local_addr().unwrap();
        let serial = self.serial.replace(self.serial.get() + 1);
        let length = body.len();
        format!(
            "{method} sip:bob@127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{local}-{serial};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:alice@127.0.0.1>;tag=t{serial}\r\n\
             To: <sip:bob@127.0.0.1>\r\n\
             Call-ID: {serial}@{local}\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:alice@{local}>\r\n\
             {lines}Content-Length: {length}\r\n\r\n{body}"
        )
    }

    fn subscribe(&self) -> String {
        self.exchange(&self.request("SUBSCRIBE", "Event: presence\r\nExpires: 600\r\n", ""))
    }

    fn publish(&self, body: &str) -> String {
        self.exchange(&self.request("PUBLISH", PRESENCE, body))
    }

    /// Sends until the final answer comes.
    fn exchange(&self, request: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let call_id = line(request, "Call-ID: ").to_owned();
        while Instant::now() < deadline {
            let _ = self.socket.send(request.as_bytes());
            let again = Instant::now() + Duration::from_millis(500);
            while Instant::now() < again {
                match self.receive() {
                    Some(text)
                        if text.starts_with("SIP/2.0 ")
                            && !text.starts_with("SIP/2.0 1")
                            && line(&text, "Call-ID: ") == call_id =>
                    {
                        return text;
                    }
                    _ => {}
                }
            }
        }
        panic!("no answer to {request}");
    }

    /// Takes what comes in a moment; a NOTIFY is answered and kept.
    fn receive(&self) -> Option<String> {
        let mut buffer = vec![0; 65_535];
        self.socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let length = self.socket.recv(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.starts_with("NOTIFY ") {
            let mut answer = format!("SIP/2.0 {}\r\n", self.answer);
            for name in ["Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: "] {
                answer.push_str(&format!("{name}{}\r\n", line(&text, name)));
            }
            answer.push_str("Content-Length: 0\r\n\r\n");
            let _ = self.socket.send(answer.as_bytes());
            self.notifies.borrow_mut().push(text.clone());
        }
        Some(text)
    }

    /// Waits until a NOTIFY with `part` in it has come.
    fn wait_for_notify(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.notifies.borrow().iter().any(|one| one.contains(part)) {
            let notifies = self.notifies.borrow();
            assert!(Instant::now() < deadline, "no {part} in {notifies:?}");
            drop(notifies);
            self.receive();
        }
    }
}

fn line<'a>(message: &'a str, name: &str) -> &'a str {
    let mut lines = message.lines();
    let found = lines.find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name}in {message}"))
}

fn status(answer: &str) -> u16 {
    answer[8..11].parse().unwrap()
}

/// Anybody may watch and publish; NOTIFYs follow each other at once.
fn open_server(settings: &str) -> Server {
    let configuration = format!("[presence]\nnotify_interval = 0\n{settings}");
    Server::start_with([""; 0], &configuration, &["--no-auth"])
}

fn document(inside: &str) -> String {
    format!(
        "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"pres:bob@127.0.0.1\">{inside}</presence>"
    )
}

fn open(id: &str) -> String {
    document(&format!(
        "<tuple id=\"{id}\"><status><basic>open</basic></status></tuple>"
    ))
}

const PRESENCE: &str = "Event: presence\r\nExpires: 600\r\nContent-Type: application/pidf+xml\r\n";

#[test]
fn a_presence_document_that_is_none_gets_400_and_nobody_hears_of_it() {
    let server = open_server("");
    let watcher = Phone::new(server.udp);
    assert_eq!(status(&watcher.subscribe()), 200);
    watcher.wait_for_notify("closed");
    let publisher = Phone::new(server.udp);
    let bombs = [
        "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]>",
        "<!DOCTYPE x SYSTEM \"file:///etc/passwd\">",
    ];
    for body in [
        String::new(),
        "hello".to_owned(),
        "<presence".to_owned(),
        open("a")[..90].to_owned(),
        open("a").replace("urn:ietf:params:xml:ns:pidf", "urn:other"),
        open("a").replace(" entity=\"pres:bob@127.0.0.1\"", ""),
        open("a").replace("open", "ajar"),
        open("a").replace("</tuple>", "</tupel>"),
        document(&"<a>".repeat(3_000)),
        document(&format!("{}{}", "<a>".repeat(1_000), "</a>".repeat(1_000))),
        document("<note>&undeclared;</note>"),
        format!("{}{}", bombs[0], document("<note>&b;</note>")),
        format!("{}{}", bombs[1], open("a")),
        "\u{feff}\u{0}".to_owned(),
    ] {
        let answer = publisher.publish(&body);
        assert_eq!(status(&answer), 400, "{body:.200}: {answer}");
    }
    let long = document(&format!("<note>{}</note>", "x".repeat(20_000)));
    assert_eq!(status(&publisher.publish(&long)), 413);
    let text = "Event: presence\r\nExpires: 600\r\nContent-Type: text/plain\r\n";
    let answer = publisher.exchange(&publisher.request("PUBLISH", text, "open"));
    assert_eq!(status(&answer), 415, "{answer}");
    assert!(line(&answer, "Accept: ").contains("application/pidf+xml"));

    // What makes sense is heard, and was not kept from anybody by the rest.
    assert_eq!(status(&publisher.publish(&open("sense"))), 200);
    watcher.wait_for_notify("sense");
    assert_eq!(watcher.notifies.borrow().len(), 2);
}

#[test]
fn what_belongs_to_no_subscription_gets_481_and_what_nobody_serves_489() {
    let server = open_server("");
    let phone = Phone::new(server.udp);
    let notify = "Event: presence\r\nSubscription-State: active\r\n";
    let unknown = "Event: presence\r\nExpires: 600\r\n";
    let in_dialog = |method: &str, lines: &str| {
        let request = phone.request(method, lines, "");
        request.replace(
            "To: <sip:bob@127.0.0.1>",
            "To: <sip:bob@127.0.0.1>;tag=gone",
        )
    };
    let answer = phone.exchange(&in_dialog("SUBSCRIBE", unknown));
    assert_eq!(status(&answer), 481, "{answer}");
    // The server watches nobody: there is no NOTIFY that it would take (RFC 6665 §4.1.3).
    for request in [
        phone.request("NOTIFY", notify, ""),
        in_dialog("NOTIFY", notify),
    ] {
        let answer = phone.exchange(&request);
        assert_eq!(status(&answer), 481, "{request}{answer}");
    }
    for method in ["SUBSCRIBE", "PUBLISH"] {
        for lines in ["Event: juggling\r\n", "Event: presence.winfo\r\n", ""] {
            let answer = phone.exchange(&phone.request(method, lines, ""));
            assert_eq!(status(&answer), 489, "{method} {lines}{answer}");
            assert_eq!(line(&answer, "Allow-Events: "), "presence");
        }
    }
    server.assert_answers("requests without a subscription");
}

#[test]
fn a_watcher_refuses_notifies_that_are_not_its_own() {
    let server = open_server("");
    let uri = format!("sip:bob@{}", server.udp);
    let mut command = Command::new(SIPORA);
    let watcher = Process::start(command.args(["subscribe", &uri, "-v"]));
    wait_for_closed(&watcher);
    // Messages are shown on the other stream, by a thread of its own, perhaps later.
    let contact = watcher.wait_for("a Contact", PATIENCE, |line| {
        let (_, contact) = line.split_once("Contact: <sip:")?;
        let (contact, _) = contact.split_once('>')?;
        Some(contact.to_owned())
    });
    watcher.wait_for("a Call-ID", PATIENCE, |line| {
        line.contains("Call-ID: ").then_some(())
    });
    let printed = watcher.printed();
    let (_, address) = contact.rsplit_once('@').unwrap_or(("", &contact));
    let phone = Phone::new(address.parse().unwrap());
    let own = line(&printed, "Call-ID: ").to_owned();
    let notify = "Event: presence\r\nSubscription-State: terminated\r\n";
    let stranger = phone.request("NOTIFY", notify, "");
    // The right Call-ID is not enough: the tags count too.
    let liar = phone.request("NOTIFY", notify, "");
    let call_id = line(&liar, "Call-ID: ").to_owned();
    let liar = liar.replace(&call_id, &own).replace("CSeq: 1", "CSeq: 99");
    for request in [stranger, liar] {
        let answer = phone.exchange(&request);
        assert_eq!(status(&answer), 481, "{request}{answer}");
    }
    let outcome = watcher.terminate(PATIENCE);
    assert_eq!(outcome.code(), 0, "{outcome}");
    assert!(outcome.stdout.contains(" unsubscribed from "), "{outcome}");
}

fn wait_for_closed(watcher: &Process) {
    watcher.wait_for("first NOTIFY", PATIENCE, |line| {
        line.contains(" is closed").then_some(())
    });
}

#[test]
fn a_subscribe_that_cannot_be_served_is_told_why() {
    let server = open_server("");
    let phone = Phone::new(server.udp);
    let subscribe = |lines: &str| phone.request("SUBSCRIBE", lines, "");
    let plain = || subscribe("Event: presence\r\nExpires: 600\r\n");
    for (request, owed) in [
        (subscribe("Event: presence\r\nExpires: 5\r\n"), 423),
        (subscribe("Event: presence\r\nExpires: soon\r\n"), 400),
        (subscribe("Event: presence\r\nEvent: presence\r\n"), 400),
        (subscribe("Event: ;;\r\n"), 400),
        (subscribe("Event: presence\r\nAccept: text/plain\r\n"), 406),
        (subscribe("Event: presence\r\nRequire: juggling\r\n"), 420),
        (plain().replace("Contact:", "X-Contact:"), 400),
        (plain().replace("Contact: <", "Contact: *, <"), 400),
        (
            plain().replace("sip:bob@127.0.0.1 SIP", "sip:127.0.0.1 SIP"),
            404,
        ),
        (
            plain().replace("sip:bob@127.0.0.1 SIP", "sip:bob@other.example SIP"),
            404,
        ),
    ] {
        let answer = phone.exchange(&request);
        assert_eq!(status(&answer), owed, "{request}{answer}");
    }
    assert!(phone.notifies.borrow().is_empty());
    server.assert_answers("SUBSCRIBEs that cannot be served");
}

#[test]
fn an_unknown_user_is_404_for_who_is_known_and_nothing_for_who_is_not() {
    let server = Server::start(["alice", "bob"]);
    let watch = |user: &str, arguments: &[&str]| {
        let uri = format!("sip:{user}@{}", server.udp);
        let mut command = Command::new(SIPORA);
        run(command.args(["subscribe", &uri]).args(arguments), PATIENCE)
    };
    let password = write(server.files.path(), "alice", &password_of("alice"));
    let password = password.to_str().unwrap();
    let alice = ["--user", "alice", "--password-file", password];
    let outcome = watch("nobody", &alice);
    assert_eq!(outcome.code(), 1, "{outcome}");
    assert!(outcome.stderr.contains("404 Not Found"), "{outcome}");
    // Who has shown no password learns of nobody whether there is one.
    for user in ["nobody", "bob"] {
        let outcome = watch(user, &[]);
        assert_eq!(outcome.code(), 1, "{outcome}");
        assert!(outcome.stderr.contains("401 Unauthorized"), "{outcome}");
    }
    // Alice watches under no other name.
    let bob = [&alice[..], &["--from", "sip:bob@127.0.0.1"]].concat();
    let outcome = watch("bob", &bob);
    assert_eq!(outcome.code(), 1, "{outcome}");
    assert!(outcome.stderr.contains("403"), "{outcome}");
}

#[test]
fn one_address_takes_only_its_share_and_harms_no_other_user() {
    let server = open_server(
        "maximum_subscriptions_from_one_address = 50\nmaximum_publications_from_one_address = 5\n",
    );
    let phone = Phone::new(server.udp);
    let statuses: Vec<u16> = (0..60).map(|_| status(&phone.subscribe())).collect();
    assert!(statuses[..50].iter().all(|status| *status == 200));
    assert!(statuses[50..].iter().all(|status| *status == 503));
    let answer = phone.subscribe();
    assert!(line(&answer, "Retry-After: ").parse::<u32>().unwrap() > 0);
    for number in 0..8 {
        let answer = phone.publish(&open("x"));
        let owed = if number < 5 { 200 } else { 503 };
        assert_eq!(status(&answer), owed, "{answer}");
    }
    server.assert_answers("more subscriptions than one address may have");
}

// ---- watchers that die ----

/// One watcher has room. Whether the server still counts one that died shows in whether the next is let in.
const ONE: &str = "maximum_subscriptions_from_one_address = 1\n";

#[test]
fn a_watcher_that_was_killed_is_dropped_when_its_notify_fails() {
    for transport in ["udp", "tcp"] {
        let server = open_server(ONE);
        let address = match transport {
            "udp" => server.udp,
            _ => server.tcp,
        };
        let uri = format!("sip:bob@{address};transport={transport}");
        let mut command = Command::new(SIPORA);
        let mut watcher = Process::start(command.args(["subscribe", &uri]));
        wait_for_closed(&watcher);
        let phone = Phone::new(server.udp);
        assert_eq!(status(&phone.subscribe()), 503, "{transport}");
        watcher.signal("KILL");

        assert_eq!(status(&phone.publish(&open("news"))), 200);
        wait_until_let_in(&phone, transport);
        phone.wait_for_notify("news");
    }
}

#[test]
fn a_watcher_that_knows_nothing_any_more_is_dropped_at_once() {
    let server = open_server(ONE);
    let mut watcher = Phone::new(server.udp);
    assert_eq!(status(&watcher.subscribe()), 200);
    watcher.wait_for_notify("closed");
    // The program behind the address was started again.
    watcher.answer = "481 Subscription Does Not Exist";
    let phone = Phone::new(server.udp);
    assert_eq!(status(&phone.subscribe()), 503);
    assert_eq!(status(&phone.publish(&open("news"))), 200);
    watcher.wait_for_notify("news");
    wait_until_let_in(&phone, "481");
    assert_eq!(watcher.notifies.borrow().len(), 2);
}

fn wait_until_let_in(phone: &Phone, what: &str) {
    let deadline = Instant::now() + LONG;
    while status(&phone.subscribe()) != 200 {
        assert!(
            Instant::now() < deadline,
            "{what}: the dead is still counted"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// 64 × T1, and some patience.
const LONG: Duration = Duration::from_secs(50);
