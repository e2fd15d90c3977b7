//! Devices that offer to send keep-alives (RFC 6223), and what happens when these do not come.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use sipora_message::{Limits, Response};
use sipora_session_core::{IdSource, RegistrationState, SessionManagerBuilder, SipClient};
use sipora_testkit::{SimNetwork, for_each_seed, seeds};
use sipora_transport::{Network, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const BOB: &str = "sip:bob@example.com";
const MOBILE: &str = "192.0.2.23";
const CONTACT: &str = "<sip:bob@a8f3.invalid;transport=tcp>";

/// A device on a connection.
struct Device(Box<dyn Stream>);

impl Device {
    async fn new(network: &SimNetwork) -> Device {
        let server: SocketAddr = SERVER.parse().unwrap();
        let host = network.host(MOBILE.parse().unwrap());
        Device(host.connect(None, server).await.unwrap())
    }

    async fn ask(&mut self, asked: &Ask, via: &str) -> Response {
        let via = format!("SIP/2.0/TCP {MOBILE}:5060;branch=z9hG4bK{}", via);
        self.0.write_all(asked.text(&via).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        // No answer here has a body.
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(self.0.read_buf(&mut head).await.unwrap(), 0);
        }
        Response::parse(head, &Limits::default()).unwrap()
    }

    /// Registers with these parameters after the branch of its Via, and gives that of the answer.
    async fn register(&mut self, cseq: u32, parameters: &str) -> String {
        let via = format!("{cseq}{parameters}");
        let answer = self.ask(&bob(cseq).contact(CONTACT), &via).await;
        assert_eq!(status(&answer), 200);
        top_via(&answer)
    }

    async fn ping(&mut self) {
        self.0.write_all(b"\r\n\r\n").await.unwrap();
        let mut pong = [0; 2];
        self.0.read_exact(&mut pong).await.unwrap();
    }

    /// Whether the server has ended the connection within so many seconds.
    async fn is_ended_within(&mut self, seconds: u64) -> bool {
        let mut byte = [0; 1];
        let end = self.0.read(&mut byte);
        timeout(Duration::from_secs(seconds), end).await.is_ok()
    }
}

fn bob(cseq: u32) -> Ask {
    register(cseq).to(BOB).from(BOB).call_id("mobile")
}

fn top_via(answer: &Response) -> String {
    let via = answer.headers().via().unwrap();
    String::from_utf8(via.as_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_offers_keep_alives_is_told_how_often_they_are_wanted() {
    let lab = open_lab().await;
    let mut device = Device::new(&lab.network).await;
    for (cseq, offered, answered) in [
        (1, ";keep", ";keep=120"),
        (
            2,
            ";rport;keep;x=\"a;keep\"",
            ";rport=PORT;keep=120;x=\"a;keep\"",
        ),
        (3, ";KEEP ;x", ";KEEP=120 ;x"),
        // Not an offer, but the word of somebody who received one.
        (4, ";keep=7", ";keep=7"),
        (5, "", ""),
    ] {
        let via = device.register(cseq, offered).await;
        let (_, after) = via.split_once(&format!("z9hG4bK{cseq}")).unwrap();
        let port = after
            .split("rport=")
            .nth(1)
            .and_then(|rest| rest.split(';').next());
        let answered = answered.replace("PORT", port.unwrap_or_default());
        assert_eq!(after.replace(&format!(";received={MOBILE}"), ""), answered);
    }
}

#[tokio::test(start_paused = true)]
async fn over_udp_keep_alives_are_wanted_as_often_as_nats_forget() {
    let mut lab = open_lab().await;
    let asked = bob(1).contact("<sip:bob@192.0.2.7>");
    let text = asked.text("SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKudp;keep");
    lab.phone.send(text.as_bytes());
    let answer = lab.phone.receive().await.unwrap();
    assert_eq!(status(&answer), 200);
    assert!(
        top_via(&answer).ends_with(";keep=29"),
        "{}",
        top_via(&answer)
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_binds_nothing_wants_no_keep_alives() {
    let lab = open_lab().await;
    let mut device = Device::new(&lab.network).await;
    let elsewhere = bob(1).to("sip:bob@elsewhere.example").contact(CONTACT);
    let query = bob(2);
    let removal = bob(3).contact(CONTACT).with("Expires: 0");
    for (asked, owed) in [(elsewhere, 404), (query, 200), (removal, 200)] {
        let answer = device
            .ask(&asked, &format!("{owed}{};keep", asked.text("").len()))
            .await;
        assert_eq!(status(&answer), owed);
        assert!(top_via(&answer).ends_with(";keep"), "{}", top_via(&answer));
    }
    assert!(!device.is_ended_within(3_600).await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_keep_alives_stay_away_is_closed_and_its_binding_passed_over() {
    let mut lab = open_lab().await;
    let mut device = Device::new(&lab.network).await;
    device.register(1, ";keep").await;
    for _ in 0..20 {
        after(120).await;
        device.ping().await;
    }
    assert_eq!(lab.engine.unreachable_count().await.unwrap(), 0);
    // Gone without a word: no end of the connection comes, and no answer to anything.
    let server: SocketAddr = SERVER.parse().unwrap();
    lab.network.part(MOBILE.parse().unwrap(), server.ip());
    after(149).await;
    assert_eq!(lab.engine.metrics().transport.connections_open, 1);
    after(2).await;
    let metrics = lab.engine.metrics().transport;
    assert_eq!((metrics.connections_open, metrics.silent_closed), (0, 1));
    assert_eq!(lab.engine.unreachable_count().await.unwrap(), 1);
    // Nobody waits for a device that is known to be gone.
    let answer = lab.phone.ask(&message(BOB, "hello")).await;
    assert_eq!(status(&answer), 480);
}

#[tokio::test(start_paused = true)]
async fn who_offers_no_keep_alives_may_be_silent() {
    let lab = open_lab().await;
    let mut device = Device::new(&lab.network).await;
    device.register(1, "").await;
    assert!(!device.is_ended_within(3_600).await);
    assert_eq!(lab.engine.metrics().transport.silent_closed, 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_registration_over_a_connection_decides() {
    let lab = open_lab().await;
    let mut device = Device::new(&lab.network).await;
    device.register(1, ";keep").await;
    device.register(2, "").await;
    assert!(!device.is_ended_within(3_600).await);
    device.register(3, ";keep").await;
    let removal = bob(4).contact(CONTACT).with("Expires: 0");
    assert_eq!(status(&device.ask(&removal, "removal;keep").await), 200);
    assert!(!device.is_ended_within(3_600).await);
    device.register(5, ";keep").await;
    assert!(!device.is_ended_within(149).await);
    assert!(device.is_ended_within(2).await);
}

/// The client of this workspace offers keep-alives, is told how often they are wanted, and sends them: it stays connected while
/// nothing else is sent, and it is noticed when it has gone.
#[test]
fn a_client_that_offers_keep_alives_stays_connected_until_it_has_gone() {
    for_each_seed(seeds(), |network| async move {
        let engine = engine(&network, |config| {
            config.with_domain("example.com").without_authentication()
        })
        .await;
        let mobile = network.host(MOBILE.parse().unwrap());
        let client = SessionManagerBuilder::new()
            .with_network(Arc::new(mobile))
            .with_id_source(IdSource::from_number(network.seed()))
            .enable_sip_client();
        let client = client.build().await.unwrap();
        let registrar = format!("sip:{SERVER};transport=tcp");
        let contact = client.contact_uri("bob", &registrar).await.unwrap();
        let registration = client.register(&registrar, BOB, &contact, 3600).await;
        let registration = registration.unwrap();
        after(2_000).await;
        let metrics = engine.metrics().transport;
        assert_eq!((metrics.connections_open, metrics.silent_closed), (1, 0));
        assert!(matches!(
            registration.state(),
            RegistrationState::Registered { .. }
        ));
        let server: SocketAddr = SERVER.parse().unwrap();
        network.part(MOBILE.parse().unwrap(), server.ip());
        after(151).await;
        let metrics = engine.metrics().transport;
        assert_eq!((metrics.connections_open, metrics.silent_closed), (0, 1));
        client.shutdown().await;
    });
}

/// Over UDP the offer that is taken says that STUN is answered: the client finds out by it that the way is lost.
#[tokio::test(start_paused = true)]
async fn over_udp_a_client_whose_offer_was_taken_asks_by_stun() {
    let network = SimNetwork::new(1);
    let engine = engine(&network, |config| {
        config.with_domain("example.com").without_authentication()
    })
    .await;
    let mobile = network.host(MOBILE.parse().unwrap());
    let client = SessionManagerBuilder::new()
        .with_network(Arc::new(mobile))
        .with_id_source(IdSource::from_number(1))
        .enable_sip_client();
    let client = client.build().await.unwrap();
    let registrar = format!("sip:{SERVER}");
    let contact = client.contact_uri("bob", &registrar).await.unwrap();
    let registered = client.register(&registrar, BOB, &contact, 36_000).await;
    let registration = registered.unwrap();
    let mut states = registration.states();
    after(600).await;
    let answered = engine.metrics().transport.stun_answered;
    // Every 29 s, less a fifth at most.
    assert!((20..=27).contains(&answered), "{answered}");
    let server: SocketAddr = SERVER.parse().unwrap();
    network.part(MOBILE.parse().unwrap(), server.ip());
    let lost = async {
        while let Some(state) = states.next().await {
            if matches!(state, RegistrationState::FlowLost { .. }) {
                break;
            }
        }
    };
    timeout(Duration::from_secs(75), lost).await.unwrap();
    client.shutdown().await;
}
