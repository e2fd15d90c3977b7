//! The notifier of RFC 6665 §4.2 against a scripted subscriber, in virtual time; both sides together, over bad networks.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sipora_dialog_core::{
    Body, Decision, EventPackage, EventSource, Notifier, NotifierApi, NotifierConfig,
    NotifierSubscription, Offer, PresencePackage, Subscribed, SubscriptionEnd, SubscriptionKey,
    SubscriptionState, TerminationReason,
};
use sipora_message::{HeaderName, Method, Request, Response, StatusCode, Uri};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{Endpoint, IdSource};
use sipora_transport::{Flow, FlowId, Transport};
use support::*;

#[derive(Clone)]
struct Board {
    text: Arc<Mutex<String>>,
    decision: Arc<Mutex<Decision>>,
    keys: Arc<Mutex<Vec<SubscriptionKey>>>,
}

impl Board {
    fn new(decision: Decision) -> Self {
        Board {
            text: Arc::new(Mutex::new("one".to_owned())),
            decision: Arc::new(Mutex::new(decision)),
            keys: Arc::default(),
        }
    }

    fn write(&self, text: &str) {
        *self.text.lock().unwrap() = text.to_owned();
    }

    fn key(&self) -> SubscriptionKey {
        *self.keys.lock().unwrap().last().unwrap()
    }
}

impl EventSource for Board {
    fn on_subscribe(&mut self, offer: &Offer) -> Decision {
        assert_eq!(offer.package(), "presence");
        *self.decision.lock().unwrap()
    }

    fn on_accepted(&mut self, subscription: &NotifierSubscription) {
        self.keys.lock().unwrap().push(subscription.key);
    }

    fn state(&mut self, _: &NotifierSubscription) -> Option<Body> {
        let text = self.text.lock().unwrap().clone();
        Some(Body::new("application/pidf+xml", text))
    }
}

fn packages() -> Vec<Arc<dyn EventPackage>> {
    vec![Arc::new(PresencePackage)]
}

struct Scene {
    peer: Peer,
    api: NotifierApi,
    board: Board,
    _endpoint: Endpoint,
}

impl Scene {
    async fn new(
        decision: Decision,
        script: impl FnMut(&Request) -> Vec<Act> + Send + 'static,
    ) -> Self {
        let network = SimNetwork::new(1);
        let peer = Peer::new(&network, script).await;
        let mut builder = endpoint(&network, US, 1);
        let board = Board::new(decision);
        let config = NotifierConfig::default();
        let api = NotifierApi::add_to(&mut builder, config, packages(), board.clone(), None);
        Scene {
            peer,
            api,
            board,
            _endpoint: builder.build().await.unwrap(),
        }
    }

    async fn changed(&self) {
        let resource = Uri::parse(&format!("sip:alice@{US}")).unwrap();
        self.api.changed("presence", &resource).await.unwrap();
        // The pace of presence (RFC 3856 §6.10).
        pass(5000).await;
    }

    fn states(&self) -> Vec<String> {
        self.peer.seen.requests().iter().map(state_of).collect()
    }
}

fn fine(_: &Request) -> Vec<Act> {
    vec![answer(200)]
}

fn ask(cseq: u32, expires: u32) -> sipora_message::RequestBuilder {
    Request::builder(
        Method::Subscribe,
        &Uri::parse(&format!("sip:alice@{US}")).unwrap(),
    )
    .from("<sip:bob@example.com>;tag=b")
    .call_id("calling")
    .cseq(cseq)
    .contact(format!("<sip:bob@{PEER}>"))
    .expires(expires)
}

fn first(cseq: u32, expires: u32) -> Request {
    plain(ask(cseq, expires))
}

fn plain(builder: sipora_message::RequestBuilder) -> Request {
    let builder = builder.to("<sip:alice@example.com>");
    builder
        .header(HeaderName::Event, "presence")
        .build()
        .unwrap()
}

fn again(answer: &Response, cseq: u32, expires: u32) -> Request {
    let to = answer.headers().text(&HeaderName::To).unwrap().into_owned();
    ask(cseq, expires)
        .to(to)
        .header(HeaderName::Event, "presence")
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_subscription_gets_its_2xx_and_at_once_a_notify() {
    let scene = Scene::new(Decision::Active, fine).await;
    let route = format!("<sip:{PEER};lr>");
    let request = plain(ask(5, 7200).header(HeaderName::RecordRoute, &route));
    let answer = scene.peer.say(request).await.remove(0);
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        answer.headers().expires().unwrap(),
        Some(3600),
        "shortened, never longer"
    );
    assert_eq!(
        answer.headers().text(&HeaderName::RecordRoute).unwrap(),
        route
    );
    assert_eq!(
        answer.headers().text(&HeaderName::Contact).unwrap(),
        format!("<sip:alice@{US}>")
    );
    let notify = scene.peer.seen.last();
    let headers = notify.headers();
    assert_eq!(notify.uri_text(), format!("sip:bob@{PEER}"));
    assert_eq!(headers.text(&HeaderName::Route).unwrap(), route);
    assert_eq!(
        headers.from().unwrap().tag(),
        answer.headers().to().unwrap().tag()
    );
    assert_eq!(headers.to().unwrap().tag(), Some("b"));
    assert_eq!(headers.text(&HeaderName::Event).unwrap(), "presence");
    assert_eq!(state_of(&notify), "active;expires=3600");
    assert_eq!(notify.body(), b"one");
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_and_those_under_way_become_one() {
    let slow = Arc::new(Mutex::new(false));
    let is_slow = slow.clone();
    let scene = Scene::new(Decision::Active, move |_| match *is_slow.lock().unwrap() {
        true => Vec::new(),
        false => vec![answer(200)],
    })
    .await;
    scene.peer.say(first(1, 600)).await;
    scene.board.write("two");
    scene.changed().await;
    assert_eq!(scene.peer.seen.last().body(), b"two");
    *slow.lock().unwrap() = true;
    scene.board.write("three");
    scene.changed().await;
    let before = scene.peer.seen.requests().len();
    for text in ["four", "five", "six"] {
        scene.board.write(text);
        scene.changed().await;
    }
    assert_eq!(scene.peer.seen.requests().len(), before, "one at a time");
    // The one that is not answered takes the subscription with it (RFC 6665 §4.2.2).
    pass(40_000).await;
    *slow.lock().unwrap() = false;
    scene.changed().await;
    assert_eq!(scene.peer.seen.requests().len(), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_refreshed_ends_with_timeout_and_what_is_goes_on() {
    let scene = Scene::new(Decision::Active, fine).await;
    let answer = scene.peer.say(first(1, 60)).await.remove(0);
    pass(50_000).await;
    assert_eq!(scene.peer.says(again(&answer, 3, 60)).await, 200);
    pass(50_000).await;
    assert_eq!(scene.states(), ["active;expires=60", "active;expires=60"]);
    pass(15_000).await;
    assert_eq!(scene.states().last().unwrap(), "terminated;reason=timeout");
    assert_eq!(scene.peer.says(again(&answer, 4, 60)).await, 481);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_of_zero_ends_it_and_fetches() {
    let scene = Scene::new(Decision::Active, fine).await;
    let answer = scene.peer.say(first(1, 600)).await.remove(0);
    assert_eq!(scene.peer.says(again(&answer, 2, 0)).await, 200);
    assert_eq!(
        scene.states(),
        ["active;expires=600", "terminated;reason=timeout"]
    );
    scene.peer.seen.clear();
    assert_eq!(scene.peer.says(first(3, 0)).await, 200);
    assert_eq!(scene.states(), ["terminated;reason=timeout"]);
    assert_eq!(scene.peer.seen.last().body(), b"one");
}

#[tokio::test(start_paused = true)]
async fn what_a_subscriber_does_wrong_it_is_told() {
    let scene = Scene::new(Decision::Active, fine).await;
    let with = |name, value: &str| plain(ask(1, 600).header(name, value));
    let event = |event: &str| {
        let builder = ask(1, 600).to("<sip:alice@example.com>");
        builder.header(HeaderName::Event, event).build().unwrap()
    };
    let bad_event = scene.peer.say(event("dialog")).await.remove(0);
    assert_eq!(bad_event.status().as_u16(), 489);
    assert_eq!(
        bad_event.headers().text(&HeaderName::AllowEvents).unwrap(),
        "presence"
    );
    let no_event = ask(1, 600).to("<sip:alice@example.com>").build().unwrap();
    assert_eq!(scene.peer.says(no_event).await, 489);
    let brief = scene.peer.say(first(1, 30)).await.remove(0);
    assert_eq!(brief.status().as_u16(), 423);
    assert_eq!(brief.headers().min_expires().unwrap(), Some(60));
    assert_eq!(
        scene
            .peer
            .says(with(HeaderName::Accept, "text/html, text/plain"))
            .await,
        406
    );
    assert_eq!(
        scene
            .peer
            .says(with(HeaderName::Require, "eventlist"))
            .await,
        420
    );
    // A filter that the package has no use for (RFC 3261 §8.2.3).
    let filter = ask(1, 600).body("application/simple-filter+xml", "<filter/>");
    let foreign = scene.peer.say(plain(filter)).await.remove(0);
    assert_eq!(foreign.status().as_u16(), 415);
    assert_eq!(foreign.headers().text(&HeaderName::Accept).unwrap(), "");
    assert!(scene.peer.seen.requests().is_empty(), "nobody is notified");

    let answer = scene
        .peer
        .say(with(HeaderName::Accept, "text/html, application/*;q=0.5"))
        .await
        .remove(0);
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(
        scene.peer.says(first(1, 600)).await,
        482,
        "the same by another way"
    );
    assert_eq!(scene.peer.says(again(&answer, 1, 600)).await, 500);
    let to = answer.headers().text(&HeaderName::To).unwrap().into_owned();
    let shared = ask(2, 600)
        .to(&to)
        .header(HeaderName::Event, "presence;id=2")
        .build()
        .unwrap();
    assert_eq!(scene.peer.says(shared).await, 403);
    let lost = ask(3, 600)
        .to("<sip:alice@example.com>;tag=x")
        .header(HeaderName::Event, "presence");
    assert_eq!(scene.peer.says(lost.build().unwrap()).await, 481);
    assert_eq!(scene.peer.says(again(&answer, 9, 600)).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_makes_no_subscription() {
    let scene = Scene::new(Decision::Refuse(StatusCode::FORBIDDEN), fine).await;
    assert_eq!(scene.peer.says(first(1, 600)).await, 403);
    scene.changed().await;
    assert!(scene.peer.seen.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_told_nothing_until_it_is_allowed() {
    let scene = Scene::new(Decision::Pending, fine).await;
    assert_eq!(scene.peer.says(first(1, 600)).await, 200);
    assert!(scene.peer.seen.last().body().is_empty());
    scene.changed().await;
    assert_eq!(scene.states(), ["pending;expires=600"]);
    scene.api.activate(scene.board.key()).await.unwrap();
    pass(1000).await;
    assert_eq!(scene.states().last().unwrap(), "active;expires=595");
    assert_eq!(scene.peer.seen.last().body(), b"one");
}

#[tokio::test(start_paused = true)]
async fn an_application_ends_a_subscription_and_says_why() {
    let scene = Scene::new(Decision::Pending, fine).await;
    let answer = scene.peer.say(first(1, 600)).await.remove(0);
    let key = scene.board.key();
    let reason = TerminationReason::GiveUp;
    scene.api.terminate(key, reason, Some(90)).await.unwrap();
    pass(1000).await;
    assert_eq!(
        scene.states().last().unwrap(),
        "terminated;reason=giveup;retry-after=90"
    );
    assert_eq!(scene.peer.says(again(&answer, 2, 600)).await, 481);
}

#[tokio::test(start_paused = true)]
async fn refused_notifies_end_a_subscription_or_are_sent_again() {
    for (status, headers, expected) in [
        (481, vec![], 1),
        (489, vec![], 1),
        (500, vec![], 2),
        (503, vec![(HeaderName::RetryAfter, "30".to_owned())], 3),
    ] {
        let count = Arc::new(Mutex::new(0));
        let scene = Scene::new(Decision::Active, move |_| {
            *count.lock().unwrap() += 1;
            match *count.lock().unwrap() {
                1 => vec![Act::Answer(status, headers.clone())],
                _ => vec![answer(200)],
            }
        })
        .await;
        scene.peer.say(first(1, 600)).await;
        pass(40_000).await;
        scene.changed().await;
        assert_eq!(scene.peer.seen.requests().len(), expected, "{status}");
    }
}

#[test]
fn ten_thousand_subscriptions_from_one_source_meet_a_limit() {
    let config = NotifierConfig::default();
    let limit = config.max_per_source;
    let mut notifier = Notifier::new(config, packages(), IdSource::from_number(1));
    let now = Instant::now();
    let mut ask = |source: [u8; 4], number: usize| {
        let text = format!(
            "SUBSCRIBE sip:alice@{US} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bK{number}\r\n\
             From: <sip:b@h>;tag={number}\r\nTo: <sip:alice@h>\r\nCall-ID: c{number}\r\nCSeq: 1 SUBSCRIBE\r\n\
             Max-Forwards: 70\r\nContact: <sip:b@{PEER}>\r\nEvent: presence\r\n\r\n"
        );
        let request = Request::parse(text, &Default::default()).unwrap();
        let flow = Flow {
            id: FlowId::from_u64(1),
            transport: Transport::Udp,
            remote: (IpAddr::from(source), 5060).into(),
        };
        match notifier.handle_subscribe(now, &request, &flow) {
            Subscribed::Offer(offer) => {
                let accepted = notifier.accept(now, *offer, false, "sip:alice@h");
                accepted.unwrap().1.build().unwrap()
            }
            Subscribed::Answer(answer) => answer.build().unwrap(),
            _ => panic!("something new"),
        }
    };
    for number in 0..10_000 {
        let answer = ask([198, 51, 100, 1], number);
        if number < limit {
            assert_eq!(answer.status(), StatusCode::OK);
        } else {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers().retry_after().unwrap().is_some());
            assert_eq!(answer.reason(), "Too Many Subscriptions From One Address");
        }
    }
    assert_eq!(
        ask([198, 51, 100, 2], 10_000).status(),
        StatusCode::OK,
        "others are let in"
    );
    assert_eq!(notifier.len(), limit + 1);
    // Everything is given back.
    notifier.handle_timeout(now + Duration::from_secs(3601));
    while let Some(key) = notifier.poll_due() {
        notifier.notify(now, key, None).unwrap();
    }
    assert!(notifier.is_empty());
    assert!(notifier.poll_timeout().is_none());
    assert!(format!("{notifier:?}").contains("subscriptions: 0"));
}

async fn both_sides(network: SimNetwork) {
    network.set_conditions(Conditions::rough());
    let board = Board::new(Decision::Active);
    let mut builder = endpoint(&network, PEER, 2);
    let config = NotifierConfig {
        max_expires: 240,
        ..NotifierConfig::default()
    };
    let notifier = NotifierApi::add_to(&mut builder, config, packages(), board.clone(), None);
    let server = builder.build().await.unwrap();
    let mut builder = endpoint(&network, US, network.seed());
    let subscriber = subscriber(&mut builder, Default::default());
    let client = builder.build().await.unwrap();
    let resource = Uri::parse(&format!("sip:bob@{PEER}")).unwrap();

    let timeout = Duration::from_secs(32);
    let subscription = loop {
        match subscriber
            .subscribe(subscribe("presence", 3600), None, timeout)
            .await
        {
            Ok(subscription) => break subscription,
            Err(end) => assert!(matches!(end, SubscriptionEnd::NoAnswer(_)), "{end:?}"),
        }
    };
    let mut last = 0;
    for round in 1..=20u32 {
        board.write(&round.to_string());
        notifier.changed("presence", &resource).await.unwrap();
        pass(60_000).await;
        let state = subscription.state();
        assert!(
            matches!(state, SubscriptionState::Active { .. }),
            "{state:?}"
        );
        // In order, and the newest is there in the end.
        while last < round {
            let body = subscription.next().await.unwrap().body().to_vec();
            let told: u32 = std::str::from_utf8(&body).unwrap().parse().unwrap_or(0);
            assert!(told >= last, "{told} after {last}");
            last = told;
        }
    }
    let end = subscription.terminate().await;
    assert!(
        matches!(
            end,
            SubscriptionEnd::Unsubscribed | SubscriptionEnd::NoAnswer(_)
        ),
        "{end:?}"
    );
    client.shutdown().await;
    server.shutdown().await;
}

#[test]
fn a_subscription_holds_over_bad_udp() {
    for_each_seed(seeds(), both_sides);
}
