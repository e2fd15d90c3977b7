//! Contacts whose connection has ended: passed over, told of at once, and back with their next REGISTER.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::watcher::Watcher;
use common::*;
use sipora_call_engine::{CallCenterConfig, CallCenterEngine, Network};
use sipora_message::{HeaderName, Limits, Request, Response, StatusCode};
use sipora_session_core::{
    Answer, Basic, IdSource, Incoming, RegistrationState, SessionHandler, SessionManagerBuilder,
    SipClient,
};
use sipora_testkit::{SimHost, SimNetwork, for_each_seed, seeds};
use sipora_transport::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BOB: &str = "sip:bob@example.com";
const DESK: &str = "192.0.2.21:5060";
const MOBILE: &str = "192.0.2.23";

/// A phone on a connection.
struct Connected {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    registers: u32,
}

impl Connected {
    async fn new(host: &SimHost) -> Connected {
        let server: SocketAddr = SERVER.parse().unwrap();
        Connected::on(host.connect(None, server).await.unwrap())
    }

    fn on(stream: Box<dyn Stream>) -> Connected {
        Connected {
            stream,
            buffer: Vec::new(),
            registers: 0,
        }
    }

    async fn register(&mut self, call_id: &str, cseq: u32, contact: &str) {
        self.registers += 1;
        let asked = register(cseq)
            .to(BOB)
            .from(BOB)
            .call_id(call_id)
            .contact(contact);
        let via = format!("SIP/2.0/TCP {MOBILE}:5060;branch=z9hG4bK{call_id}{cseq};rport");
        let text = asked.text(&via);
        self.stream.write_all(text.as_bytes()).await.unwrap();
        let head = self.message().await;
        assert!(head.starts_with(b"SIP/2.0 200"), "{}", text_of(&head));
    }

    async fn request(&mut self) -> Request {
        Request::parse(self.message().await, &Limits::default()).unwrap()
    }

    async fn message(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = whole(&self.buffer) {
                return self.buffer.drain(..end).collect();
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0);
        }
    }

    async fn answer(&mut self, request: &Request, status: StatusCode) {
        let answer = Response::for_request(request, status).to_tag("tcp");
        let answer = answer.build().unwrap();
        self.stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where the first message ends.
fn whole(buffer: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(buffer);
    let head = text.find("\r\n\r\n")? + 4;
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))?;
    let end = head + length.trim().parse::<usize>().unwrap();
    (buffer.len() >= end).then_some(end)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn break_connections(lab: &Lab) {
    let server: SocketAddr = SERVER.parse().unwrap();
    assert!(lab.network.reset(ip(MOBILE), server.ip()) > 0);
}

fn send(phone: &mut Phone, asked: &Ask) {
    let request = phone.request(asked);
    phone.send(request.as_bytes());
}

/// The answer, and how long it took.
async fn answered(phone: &mut Phone, call_id: &str) -> (Response, Duration) {
    let begun = tokio::time::Instant::now();
    send(phone, &message(BOB, "hello").call_id(call_id));
    let answer = phone.receive_final(Duration::from_secs(40)).await;
    (answer.expect("an answer"), begun.elapsed())
}

const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn a_contact_whose_connection_has_ended_is_passed_over_until_it_registers_again() {
    let mut lab = open_lab().await;
    let mut desk = Phone::new(&lab.network, DESK);
    let bound = register(1).to(BOB).from(BOB).call_id("desk");
    let bound = bound.contact("<sip:bob@192.0.2.21>");
    assert_eq!(status(&desk.ask(&bound).await), 200);
    let host = lab.network.host(ip(MOBILE));
    let contact = "<sip:bob@a8f3.invalid;transport=tcp>";
    let mut mobile = Connected::new(&host).await;
    mobile.register("mobile", 1, contact).await;
    assert_eq!(lab.engine.unreachable_count().await.unwrap(), 0);

    break_connections(&lab);
    after(1).await;
    let bindings = lab.engine.bindings(BOB).await.unwrap();
    let mut reached: Vec<_> = bindings
        .iter()
        .map(|one| (one.uri().contains("invalid"), lab.engine.is_reachable(one)))
        .collect();
    reached.sort_unstable();
    assert_eq!(
        reached,
        [(false, true), (true, false)],
        "it stays, and is marked"
    );
    assert_eq!(lab.engine.unreachable_count().await.unwrap(), 1);
    send(&mut lab.phone, &message(BOB, "hello").call_id("one"));
    let copy = desk.receive_request().await.unwrap();
    desk.reply(&copy, 486, &[]);
    // Nobody waits for the other one.
    let answer = lab.phone.receive().await.expect("the best answer there is");
    assert_eq!(status(&answer), 486);
    let metrics = lab.engine.metrics().relay;
    assert_eq!((metrics.branches, metrics.unreachable), (1, 1));

    let mut mobile = Connected::new(&host).await;
    mobile.register("mobile", 2, contact).await;
    assert_eq!(lab.engine.unreachable_count().await.unwrap(), 0);
    assert_eq!(lab.engine.bindings(BOB).await.unwrap().len(), 2, "the same");
    send(&mut lab.phone, &message(BOB, "hello").call_id("two"));
    let copy = mobile.request().await;
    mobile.answer(&copy, StatusCode::OK).await;
    let answer = lab.phone.receive_final(Duration::from_secs(5)).await;
    assert_eq!(status(&answer.unwrap()), 200);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_is_left_to_be_reached_the_sender_hears_so_at_once() {
    for (contact, owed) in [
        ("<sip:bob@a8f3.invalid;transport=ws>", 480),
        // Of another network than the one it came from.
        ("<sip:bob@10.0.0.7:5060;transport=tcp>", 480),
        // RFC 5626 §5.3: who is to be reached by a flow alone.
        ("<sip:bob@192.0.2.23;transport=tcp;ob>", 430),
        (
            "<sip:bob@192.0.2.23;transport=tcp>;+sip.instance=\"<urn:uuid:1>\";reg-id=1",
            430,
        ),
    ] {
        let mut lab = open_lab().await;
        let host = lab.network.host(ip(MOBILE));
        let mut mobile = Connected::new(&host).await;
        mobile.register("mobile", 1, contact).await;
        break_connections(&lab);
        after(1).await;
        let (answer, waited) = answered(&mut lab.phone, "one").await;
        assert_eq!(status(&answer), owed, "{contact}");
        assert!(waited < AT_ONCE, "{contact}: {waited:?}");
        assert_eq!(lab.engine.metrics().relay.unavailable, 1);
    }
}

/// Somebody who watches bob.
async fn watcher_of_bob(lab: &Lab) -> Watcher {
    let mut watcher = Watcher::new(&lab.network, "192.0.2.22:5060");
    watcher.ask = watcher.ask.uri(BOB).to(BOB).from("sip:carol@example.com");
    assert_eq!(status(&watcher.watch().await), 200);
    watcher
}

#[tokio::test(start_paused = true)]
async fn watchers_see_who_has_lost_the_only_connection_close_and_come_back() {
    for shards in [1, 4] {
        let settings = |config: CallCenterConfig| {
            let config = config.with_domain("example.com").without_authentication();
            config.with_shards(shards)
        };
        let lab = lab(settings).await;
        let host = lab.network.host(ip(MOBILE));
        let contact = "<sip:bob@a8f3.invalid;transport=tcp>";
        let mut mobile = Connected::new(&host).await;
        mobile.register("mobile", 1, contact).await;
        let mut watcher = watcher_of_bob(&lab).await;
        assert_eq!(watcher.basic().await, Some(Basic::Open));
        after(60).await;

        break_connections(&lab);
        let told = watcher.told(9).await;
        assert!(told.is_none(), "it may be back in a moment: {told:?}");
        assert_eq!(watcher.basic().await, Some(Basic::Closed));
        let mut late = Watcher::new(&lab.network, "192.0.2.24:5060");
        late.ask = late.ask.uri(BOB).to(BOB).from("sip:dave@example.com");
        assert_eq!(status(&late.watch().await), 200);
        assert_eq!(late.basic().await, Some(Basic::Closed), "who asks now");
        assert_eq!(lab.engine.bindings(BOB).await.unwrap().len(), 1, "it stays");

        after(60).await;
        let mut mobile = Connected::new(&host).await;
        mobile.register("mobile", 2, contact).await;
        assert_eq!(watcher.basic().await, Some(Basic::Open));
        assert_eq!(late.basic().await, Some(Basic::Open));
    }
}

#[tokio::test(start_paused = true)]
async fn watchers_do_not_hear_of_a_phone_that_is_back_at_once_or_has_another_way() {
    let lab = open_lab().await;
    let host = lab.network.host(ip(MOBILE));
    let contact = "<sip:bob@a8f3.invalid;transport=tcp>";
    let mut mobile = Connected::new(&host).await;
    mobile.register("mobile", 1, contact).await;
    let mut watcher = watcher_of_bob(&lab).await;
    assert_eq!(watcher.basic().await, Some(Basic::Open));
    after(60).await;
    // Back within the time that it has.
    break_connections(&lab);
    after(5).await;
    let mut mobile = Connected::new(&host).await;
    mobile.register("mobile", 2, contact).await;
    assert!(watcher.told(60).await.is_none());
    // A second phone, which anybody reaches.
    let mut desk = Phone::new(&lab.network, DESK);
    let bound = register(1).to(BOB).from(BOB).call_id("desk");
    let bound = bound.contact("<sip:bob@192.0.2.21>;expires=600");
    assert_eq!(status(&desk.ask(&bound).await), 200);
    break_connections(&lab);
    assert!(watcher.told(400).await.is_none());
    // When that one's time is over, nobody is left.
    let told = watcher.told(300).await.expect("a NOTIFY");
    assert_eq!(told.basic(), Some(Basic::Closed));
}

#[tokio::test(start_paused = true)]
async fn watchers_see_who_listens_for_connections_open_without_one() {
    let lab = open_lab().await;
    let host = lab.network.host(ip(MOBILE));
    let mut mobile = Connected::new(&host).await;
    mobile
        .register("mobile", 1, "<sip:bob@192.0.2.23;transport=tcp>")
        .await;
    let mut watcher = watcher_of_bob(&lab).await;
    assert_eq!(watcher.basic().await, Some(Basic::Open));
    after(60).await;
    break_connections(&lab);
    assert!(watcher.told(60).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_under_a_message_is_told_at_once() {
    let mut lab = open_lab().await;
    let host = lab.network.host(ip(MOBILE));
    let mut mobile = Connected::new(&host).await;
    mobile
        .register("mobile", 1, "<sip:bob@a8f3.invalid;transport=tcp>")
        .await;
    let begun = tokio::time::Instant::now();
    send(&mut lab.phone, &message(BOB, "hello"));
    mobile.request().await;
    break_connections(&lab);
    let answer = lab
        .phone
        .receive_final(Duration::from_secs(40))
        .await
        .unwrap();
    assert_eq!(status(&answer), 480);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_listens_is_connected_to() {
    let mut lab = open_lab().await;
    let host = lab.network.host(ip(MOBILE));
    let mut listener = host.listen("192.0.2.23:5060".parse().unwrap()).unwrap();
    let mut mobile = Connected::new(&host).await;
    mobile
        .register("mobile", 1, "<sip:bob@192.0.2.23;transport=tcp>")
        .await;
    break_connections(&lab);
    after(1).await;
    assert_eq!(lab.engine.unreachable_count().await.unwrap(), 0);
    send(&mut lab.phone, &message(BOB, "hello"));
    let mut again = Connected::on(listener.accept().await.unwrap());
    let copy = again.request().await;
    again.answer(&copy, StatusCode::OK).await;
    let answer = lab.phone.receive_final(Duration::from_secs(5)).await;
    assert_eq!(status(&answer.unwrap()), 200);
}

#[tokio::test(start_paused = true)]
async fn what_goes_to_a_sips_address_goes_to_sips_contacts_alone() {
    let mut lab = open_lab().await;
    let mut desk = Phone::new(&lab.network, DESK);
    let bound = register(1).to(BOB).from(BOB).call_id("desk");
    let bound = bound.contact("<sip:bob@192.0.2.21>");
    assert_eq!(status(&desk.ask(&bound).await), 200);
    let sips = message("sips:bob@example.com", "hello").call_id("sips");
    let answer = lab.phone.ask(&sips).await;
    assert_eq!(status(&answer), 480);
    let warning = header(&answer, HeaderName::Warning).unwrap();
    assert_eq!(warning, "380 sipora \"SIPS Not Allowed\"");

    // A contact that wants TLS, registered without it.
    let bound = register(2).to(BOB).from(BOB).call_id("desk");
    let bound = bound
        .uri("sips:example.com")
        .contact("<sips:bob@192.0.2.21>, <sip:bob@192.0.2.21>;expires=0");
    assert_eq!(status(&desk.ask(&bound).await), 200);
    for uri in [BOB, "sips:bob@example.com"] {
        let answer = lab.phone.ask(&message(uri, "hello").call_id(uri)).await;
        assert_eq!(status(&answer), 480);
        let warning = header(&answer, HeaderName::Warning).unwrap();
        assert_eq!(warning, "381 sipora \"SIPS Required\"", "{uri}");
    }
    assert!(desk.receive_request().await.is_none());
}

struct Inbox;

#[async_trait]
impl SessionHandler for Inbox {
    async fn on_message(&self, _: &Incoming<'_>) -> Answer {
        Answer::ok()
    }
}

/// A client of session-core whose connections are reset at any time: who writes to it hears at once that it is away, or that
/// the message has arrived; and it comes back by itself.
#[test]
fn clients_come_back_by_themselves_and_senders_never_wait_for_who_is_away() {
    for_each_seed(seeds(), |network: SimNetwork| async move {
        let server: SocketAddr = SERVER.parse().unwrap();
        let config = CallCenterConfig::new()
            .with_udp_listener(SERVER)
            .with_tcp_listener(SERVER)
            .with_domain("example.com")
            .with_id_source(IdSource::from_number(network.seed()))
            .with_network(Arc::new(network.host(server.ip())))
            .without_authentication();
        let engine = CallCenterEngine::new(config).await.unwrap();
        let client = |address: &str| {
            SessionManagerBuilder::new()
                .with_network(Arc::new(network.host(ip(address))))
                .with_bind_address(ip(address))
                .with_id_source(IdSource::from_number(network.seed() + 1))
                .with_outbound_proxy(&format!("sip:{}", server.ip()))
                .with_handler(Arc::new(Inbox))
                .enable_sip_client()
        };
        let alice = client("192.0.2.7").build().await.unwrap();
        let proxy = format!("sip:{};transport=tcp", server.ip());
        let bob = client(MOBILE).with_outbound_proxy(&proxy);
        let bob = bob.build().await.unwrap();
        let contact = "sip:bob@a8f3.invalid;transport=tcp";
        let bound = bob.register("sip:example.com", BOB, contact, 600).await;
        let bound = bound.unwrap();
        for _ in 0..30 {
            let pause = network.random(0..=100_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let breaks = network.random(0..=1) == 1;
            if breaks {
                network.reset(ip(MOBILE), server.ip());
            }
            let begun = tokio::time::Instant::now();
            let answer = alice.send_message(BOB, "hello", None).await.unwrap();
            let status = answer.status().as_u16();
            assert!(status == 200 || (breaks && status == 480), "{status}");
            assert!(begun.elapsed() < AT_ONCE, "{status}: {:?}", begun.elapsed());
            let mut states = bound.states();
            let is_bound = |state: RegistrationState| match state {
                RegistrationState::Registered { .. } => true,
                state => panic_if_ended(&state),
            };
            tokio::time::sleep(Duration::from_millis(100)).await;
            while !is_bound(states.next().await.unwrap()) {}
            let answer = alice.send_message(BOB, "again", None).await.unwrap();
            assert_eq!(answer.status().as_u16(), 200);
        }
        bob.shutdown().await;
        alice.shutdown().await;
        engine.shutdown().await;
    });
}

fn panic_if_ended(state: &RegistrationState) -> bool {
    assert!(!state.is_terminal(), "{state}");
    false
}
