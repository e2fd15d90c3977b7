//! The ways that NOTIFYs take: back over the flow of the SUBSCRIBE where that leads to the subscriber, else by URI.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::IpAddr;
use std::sync::Arc;

use sipora_dialog_core::{
    Body, Decision, EventSource, NotifierApi, NotifierConfig, NotifierSubscription, Offer,
    PresencePackage,
};
use sipora_message::{HeaderName, Method, Request, RequestBuilder, Response, Uri};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::Endpoint;
use sipora_transport::{Network, Transport};
use support::*;

/// Behind the NAT; nobody has it.
const INSIDE: &str = "10.0.0.7:5060";
/// A proxy, or where a Contact leads.
const ELSEWHERE: &str = "192.0.2.77";

struct Board(usize);

impl EventSource for Board {
    fn on_subscribe(&mut self, _: &Offer) -> Decision {
        Decision::Active
    }

    fn state(&mut self, _: &NotifierSubscription) -> Option<Body> {
        Some(Body::new("application/pidf+xml", "x".repeat(self.0)))
    }
}

struct Scene {
    network: SimNetwork,
    peer: Peer,
    api: NotifierApi,
    _endpoint: Endpoint,
}

impl Scene {
    async fn new(transport: Transport, body: usize) -> Self {
        let network = SimNetwork::new(1);
        Self::on(network, transport, body).await
    }

    async fn on(network: SimNetwork, transport: Transport, body: usize) -> Self {
        let peer = Peer::over(transport, &network, |_| vec![answer(200)]).await;
        let mut builder = endpoint(&network, US, 1);
        let api = NotifierApi::add_to(
            &mut builder,
            NotifierConfig::default(),
            vec![Arc::new(PresencePackage)],
            Board(body),
            None,
        );
        Scene {
            network,
            peer,
            api,
            _endpoint: builder.build().await.unwrap(),
        }
    }

    async fn changed(&self) {
        let resource = Uri::parse(&format!("sip:alice@{US}")).unwrap();
        self.api.changed("presence", &resource).await.unwrap();
        pass(6000).await;
    }

    fn notifies(&self) -> usize {
        self.peer.seen.requests().len()
    }

    /// Breaks every connection between the two.
    fn reset(&self) {
        let ip = |address: &str| address.parse::<std::net::SocketAddr>().unwrap().ip();
        assert!(self.network.reset(ip(US), ip(PEER)) > 0);
    }

    /// NOTIFYs that were sent to this host, whether or not anybody is there.
    fn sent_to(&self, host: &str) -> usize {
        let host: IpAddr = host.parse().unwrap();
        let packets = self.network.packets();
        let is_notify = |line: String| line.starts_with("NOTIFY");
        packets
            .iter()
            .filter(|packet| packet.destination.ip() == host && is_notify(packet.first_line()))
            .count()
    }
}

fn ask(cseq: u32, contact: &str) -> RequestBuilder {
    let target = Uri::parse(&format!("sip:alice@{US}")).unwrap();
    Request::builder(Method::Subscribe, &target)
        .from("<sip:bob@example.com>;tag=b")
        .call_id("calling")
        .cseq(cseq)
        .contact(format!("<{contact}>"))
        .expires(600)
        .header(HeaderName::Event, "presence")
}

fn first(contact: &str) -> Request {
    let builder = ask(1, contact).to("<sip:alice@example.com>");
    builder.build().unwrap()
}

fn again(answer: &Response, contact: &str) -> Request {
    let to = answer.headers().text(&HeaderName::To).unwrap().into_owned();
    ask(2, contact).to(to).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_behind_a_nat_is_told_through_it() {
    let scene = Scene::new(Transport::Udp, 10).await;
    let contact = format!("sip:bob@{INSIDE}");
    assert_eq!(scene.peer.says(first(&contact)).await, 200);
    scene.changed().await;
    assert_eq!(scene.notifies(), 2);
    assert_eq!(scene.peer.seen.last().uri_text(), contact);
}

#[tokio::test(start_paused = true)]
async fn over_tcp_a_contact_that_leads_nowhere_does_no_harm() {
    let scene = Scene::new(Transport::Tcp, 10).await;
    let contact = "sip:bob@a7.invalid;transport=ws";
    assert_eq!(scene.peer.says(first(contact)).await, 200);
    scene.changed().await;
    assert_eq!(scene.notifies(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_no_datagram_holds_goes_to_the_same_address_over_tcp() {
    let scene = Scene::new(Transport::Udp, 3000).await;
    let contact = format!("sip:bob@{INSIDE}");
    assert_eq!(scene.peer.says(first(&contact)).await, 200);
    assert_eq!(scene.notifies(), 1);
    assert_eq!(scene.peer.seen.last().body().len(), 3000);
    let via = scene.peer.seen.last();
    let via = via.headers().via().unwrap().transport().to_owned();
    assert_eq!(via, "TCP");
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_closed_leaves_the_contact() {
    let scene = Scene::new(Transport::Tcp, 10).await;
    let contact = format!("sip:bob@{PEER};transport=tcp");
    assert_eq!(scene.peer.says(first(&contact)).await, 200);
    scene.reset();
    scene.changed().await;
    assert_eq!(scene.notifies(), 2, "over a connection of our own");
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_breaks_under_a_notify_leaves_the_contact() {
    let scene = Scene::new(Transport::Tcp, 10).await;
    let contact = format!("sip:bob@{PEER};transport=tcp");
    assert_eq!(scene.peer.says(first(&contact)).await, 200);
    // Nobody has heard yet that the connection is gone.
    let resource = Uri::parse(&format!("sip:alice@{US}")).unwrap();
    pass(5000).await;
    scene.reset();
    scene.api.changed("presence", &resource).await.unwrap();
    pass(1000).await;
    assert_eq!(scene.notifies(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_reached_any_more_is_forgotten() {
    let scene = Scene::new(Transport::Tcp, 10).await;
    let contact = "sip:bob@a7.invalid;transport=tcp";
    let accepted = scene.peer.say(first(contact)).await.remove(0);
    scene.reset();
    scene.changed().await;
    assert_eq!(scene.notifies(), 1);
    assert_eq!(scene.peer.says(again(&accepted, contact)).await, 481);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_over_a_new_connection_brings_the_way_with_it() {
    let scene = Scene::new(Transport::Tcp, 10).await;
    let contact = "sip:bob@a7.invalid;transport=tcp";
    let accepted = scene.peer.say(first(contact)).await.remove(0);
    scene.reset();
    assert_eq!(scene.peer.says(again(&accepted, contact)).await, 200);
    scene.changed().await;
    assert_eq!(scene.notifies(), 3);
}

#[tokio::test(start_paused = true)]
async fn with_a_route_it_goes_by_the_route() {
    let scene = Scene::new(Transport::Udp, 10).await;
    let route = format!("<sip:{ELSEWHERE};lr>");
    let request = ask(1, &format!("sip:bob@{INSIDE}"))
        .to("<sip:alice@example.com>")
        .header(HeaderName::RecordRoute, route);
    assert_eq!(scene.peer.says(request.build().unwrap()).await, 200);
    assert!(scene.sent_to(ELSEWHERE) > 0);
    assert_eq!(scene.notifies(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_stays_out_of_the_dialog_is_left_out() {
    let scene = Scene::new(Transport::Udp, 10).await;
    let request = ask(1, &format!("sip:bob@{ELSEWHERE}"))
        .to("<sip:alice@example.com>")
        .header(
            HeaderName::Via,
            format!("SIP/2.0/UDP {ELSEWHERE};branch=z9hG4bKinner"),
        );
    scene
        .peer
        .handle
        .send(request.build().unwrap())
        .await
        .unwrap();
    pass(1000).await;
    assert!(scene.sent_to(ELSEWHERE) > 0);
    assert_eq!(scene.notifies(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_listens_elsewhere_than_it_sends_from_is_told_there() {
    // RFC 3261 §18.2.2, §12.2.1.1: without `rport`, answers go to the port in Via, and requests to the Contact.
    let (sends, listens) = ("192.0.2.20:40000", "192.0.2.20:5070");
    for (rport, expected) in [("", listens), (";rport", sends)] {
        let scene = Scene::new(Transport::Udp, 10).await;
        let text = format!(
            "SUBSCRIBE sip:alice@{US} SIP/2.0\r\nVia: SIP/2.0/UDP {listens};branch=z9hG4bK1{rport}\r\n\
             From: <sip:bob@h>;tag=1\r\nTo: <sip:alice@h>\r\nCall-ID: c\r\nCSeq: 1 SUBSCRIBE\r\n\
             Max-Forwards: 70\r\nContact: <sip:bob@{listens}>\r\nEvent: presence\r\nExpires: 600\r\n\r\n"
        );
        let host = scene.network.host("192.0.2.20".parse().unwrap());
        let socket = host
            .bind_datagram(sends.parse().unwrap(), 1)
            .unwrap()
            .remove(0);
        let us = US.parse().unwrap();
        socket.sender.try_send_to(text.as_bytes(), us).unwrap();
        pass(1000).await;
        let packets = scene.network.packets();
        for start in ["SIP/2.0 200", "NOTIFY"] {
            let mut ours = packets.iter().filter(|packet| packet.source == us);
            let packet = ours.find(|packet| packet.first_line().starts_with(start));
            let to = packet.unwrap().destination.to_string();
            assert_eq!(to, expected, "{start}{rport}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_by_sips_is_reached_by_sips() {
    // RFC 3261 §12.1.1: "the Contact header field in the response MUST be a SIPS URI".
    let target = Uri::parse(&format!("sips:alice@{US}")).unwrap();
    let contact = format!("sips:bob@{PEER}");
    let ask = |target: &Uri| {
        let request = first(&contact);
        request.edit().uri(target).build().unwrap()
    };
    let scene = Scene::new(Transport::Tcp, 10).await;
    let answer = scene.peer.say(ask(&target)).await.remove(0);
    assert_eq!(answer.status().as_u16(), 200);
    let contact = answer.headers().text(&HeaderName::Contact).unwrap();
    assert!(contact.starts_with("<sips:alice@"), "{contact}");
}

async fn through_a_bad_nat(network: SimNetwork) {
    network.set_conditions(Conditions::rough());
    let scene = Scene::on(network, Transport::Udp, 10).await;
    let contact = format!("sip:bob@{INSIDE}");
    let request = first(&contact);
    scene.peer.handle.send(request).await.unwrap();
    pass(40_000).await;
    let before = scene.notifies();
    assert!(before >= 1);
    scene.changed().await;
    pass(40_000).await;
    assert!(scene.notifies() > before);
}

#[test]
fn a_nat_and_a_bad_network_together_keep_nothing_back() {
    for_each_seed(seeds(), through_a_bad_nat);
}
