//! Instant messages (RFC 3428), both ways, over a simulated network.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sipora_message::{HeaderName, Method, Request};
use sipora_session_core::{
    Answer, Error, Incoming, SessionCoordinator, SessionHandler, SessionManagerBuilder, SipClient,
    SipResponse, StatusCode, Transport,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use support::*;

const BOB: &str = "sip:bob@192.0.2.2";

/// What an application saw of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    from: String,
    kind: String,
    text: String,
    over: Transport,
}

/// Keeps every message, and answers as it is told.
#[derive(Clone)]
struct Reader {
    read: Arc<Mutex<Vec<Message>>>,
    answer: Answer,
}

impl Reader {
    fn new(answer: Answer) -> Self {
        Reader {
            read: Arc::default(),
            answer,
        }
    }

    fn texts(&self) -> Vec<String> {
        let read = self.read.lock().unwrap();
        read.iter().map(|message| message.text.clone()).collect()
    }
}

#[async_trait]
impl SessionHandler for Reader {
    async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
        assert_eq!(*incoming.request().method(), Method::Message);
        assert_eq!(incoming.body(), incoming.text().as_bytes());
        self.read.lock().unwrap().push(Message {
            from: incoming.from().to_owned(),
            kind: incoming.content_type().unwrap().into_owned(),
            text: incoming.text().into_owned(),
            over: incoming.transport(),
        });
        self.answer.clone()
    }
}

/// A sender with an identity, and bob with a handler.
struct Scene {
    alice: Arc<SessionCoordinator>,
    bob: Arc<SessionCoordinator>,
    network: SimNetwork,
}

async fn scene(handler: Option<Arc<dyn SessionHandler>>) -> Scene {
    on(SimNetwork::new(1), handler).await
}

async fn on(network: SimNetwork, handler: Option<Arc<dyn SessionHandler>>) -> Scene {
    let mut bob = SessionManagerBuilder::new()
        .with_network(Arc::new(network.host("192.0.2.2".parse().unwrap())))
        .with_sip_port(5060);
    if let Some(handler) = handler {
        bob = bob.with_handler(handler);
    }
    Scene {
        alice: builder(network.host("192.0.2.1".parse().unwrap()))
            .with_identity("sip:alice@example.com")
            .build()
            .await
            .unwrap(),
        bob: bob.build().await.unwrap(),
        network,
    }
}

impl Scene {
    async fn say(&self, text: &str) -> SipResponse {
        self.alice.send_message(BOB, text, None).await.unwrap()
    }
}

/// A server at 192.0.2.10 and a client whose requests it answers as the script says.
async fn scripted(
    script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
    settings: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
) -> (Server, Arc<SessionCoordinator>) {
    let network = SimNetwork::new(1);
    let host = network.host("192.0.2.10".parse().unwrap());
    let server = server(Arc::new(host), "192.0.2.10:5060", script).await;
    let builder = builder(network.host("192.0.2.1".parse().unwrap()));
    let client = settings(builder).build().await.unwrap();
    (server, client)
}

#[tokio::test(start_paused = true)]
async fn a_message_arrives_with_its_sender_its_type_and_its_text() {
    let reader = Reader::new(Answer::ok());
    let scene = scene(Some(Arc::new(reader.clone()))).await;
    let answer = scene.say("Grüße, Bob").await;
    assert_eq!(answer.status().as_u16(), 200);
    let message = Message {
        from: "sip:alice@example.com".to_owned(),
        kind: "text/plain;charset=UTF-8".to_owned(),
        text: "Grüße, Bob".to_owned(),
        over: Transport::Udp,
    };
    assert_eq!(*reader.read.lock().unwrap(), [message]);
}

#[tokio::test(start_paused = true)]
async fn any_type_is_sent_and_an_empty_body_too() {
    let reader = Reader::new(Answer::ok());
    let scene = scene(Some(Arc::new(reader.clone()))).await;
    for (kind, body) in [
        ("application/im-iscomposing+xml", "<x/>"),
        ("message/cpim", "a: b\r\n\r\nc"),
        ("text/html; charset=\"utf-8\"", ""),
    ] {
        let sent = scene.alice.send_message(BOB, body, Some(kind)).await;
        assert_eq!(sent.unwrap().status().as_u16(), 200, "{kind}");
        let read = reader.read.lock().unwrap();
        let last = read.last().unwrap();
        assert_eq!((last.kind.as_str(), last.text.as_str()), (kind, body));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_type_or_no_target_is_refused_and_nothing_is_sent() {
    let scene = scene(None).await;
    for kind in ["", "text", "text/plain\r\nVia: evil", "/", "text/"] {
        let refused = scene.alice.send_message(BOB, "x", Some(kind)).await;
        assert!(
            matches!(&refused, Err(Error::InvalidRequest { header, .. }) if header == "Content-Type"),
            "{kind:?}: {refused:?}"
        );
    }
    for target in ["bob", "tel:+123", "sip:bob@192.0.2.2?subject=x"] {
        let refused = scene.alice.send_message(target, "x", None).await;
        assert!(matches!(refused, Err(Error::InvalidUri { .. })), "{target}");
    }
    let off = scene.bob.send_message(BOB, "x", None).await;
    assert!(matches!(off, Err(Error::NotSupported { .. })), "{off:?}");
    assert!(scene.network.packets().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_has_no_contact_and_makes_no_dialog() {
    let (server, client) = scripted(|_, _| vec![reply(202)], |builder| builder).await;
    for _ in 0..2 {
        let answer = client
            .send_message("sip:bob@192.0.2.10", "hello", None)
            .await;
        assert_eq!(answer.unwrap().status().as_u16(), 202);
    }
    let seen = server.seen.all();
    let call_id = |request: &Request| request.headers().call_id().unwrap().to_owned();
    assert_ne!(call_id(&seen[0]), call_id(&seen[1]));
    for request in seen {
        let headers = request.headers();
        assert!(!headers.contains(&HeaderName::Contact));
        assert!(headers.to().unwrap().tag().is_none());
        assert_eq!(headers.max_forwards().unwrap(), Some(70));
    }
}

#[tokio::test(start_paused = true)]
async fn challenges_of_proxy_and_receiver_are_answered_and_refusals_are_data() {
    let (proxy, receiver) = (
        Gate::proxy("proxy.example", "wonderland"),
        Gate::server("example.com", "wonderland"),
    );
    let check = proxy.clone();
    let (server, client) = scripted(
        move |request, now| {
            let challenged = check.check(request, now);
            let challenged = challenged.or_else(|| receiver.check(request, now));
            challenged.unwrap_or_else(|| vec![reply(200)])
        },
        |builder| builder.with_credentials(alice()),
    )
    .await;
    let answer = client
        .send_message("sip:bob@192.0.2.10", "hello", None)
        .await;
    assert_eq!(answer.unwrap().status().as_u16(), 200);
    let cseqs: Vec<_> = server
        .seen
        .all()
        .iter()
        .map(|request| request.headers().cseq().unwrap().number)
        .collect();
    assert_eq!(cseqs, [1, 2, 3]);
    assert!(
        server
            .seen
            .all()
            .iter()
            .all(|request| request.body() == b"hello")
    );
    proxy.set_password("changed");
    let answer = client
        .send_message("sip:bob@192.0.2.10", "hello", None)
        .await;
    assert_eq!(answer.unwrap().status().as_u16(), 407);
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_a_datagram_goes_over_tcp() {
    let reader = Reader::new(Answer::ok());
    let scene = scene(Some(Arc::new(reader.clone()))).await;
    let long = "x".repeat(100_000);
    assert_eq!(scene.say(&long).await.status().as_u16(), 200);
    assert_eq!(scene.say("short").await.status().as_u16(), 200);
    let read = reader.read.lock().unwrap();
    assert_eq!(
        (read[0].over, read[0].text.len()),
        (Transport::Tcp, 100_000)
    );
    assert_eq!(read[1].over, Transport::Udp);
}

#[tokio::test(start_paused = true)]
async fn one_message_at_a_time_goes_to_a_target_and_they_arrive_in_order() {
    let pending = Arc::new(AtomicUsize::new(0));
    struct Slow(Arc<AtomicUsize>, Reader);
    #[async_trait]
    impl SessionHandler for Slow {
        async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
            assert_eq!(self.0.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            pass(seconds(1)).await;
            self.0.fetch_sub(1, Ordering::SeqCst);
            self.1.on_message(incoming).await
        }
    }
    let reader = Reader::new(Answer::ok());
    let scene = scene(Some(Arc::new(Slow(pending, reader.clone())))).await;
    let said: Vec<String> = (0..5).map(|number| number.to_string()).collect();
    let (alice, said) = (&scene.alice, &said);
    let (a, b, c, d, e) = tokio::join!(
        alice.send_message(BOB, &said[0], None),
        alice.send_message(BOB, &said[1], None),
        alice.send_message(BOB, &said[2], None),
        alice.send_message(BOB, &said[3], None),
        alice.send_message(BOB, &said[4], None),
    );
    for sent in [a, b, c, d, e] {
        assert_eq!(sent.unwrap().status().as_u16(), 200);
    }
    assert_eq!(reader.texts(), *said);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_waits_no_longer_than_a_request_may_take() {
    let (server, client) = scripted(|_, _| silence(), |builder| builder).await;
    let begun = tokio::time::Instant::now();
    let target = "sip:bob@192.0.2.10";
    let (one, two, other) = tokio::join!(
        client.send_message(target, "one", None),
        client.send_message(target, "two", None),
        client.send_message("sip:carol@192.0.2.10", "one", None),
    );
    for sent in [one, two, other] {
        assert!(matches!(sent, Err(Error::Timeout { .. })), "{sent:?}");
    }
    assert!(begun.elapsed() <= seconds(33), "{:?}", begun.elapsed());
    assert_eq!(server.seen.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_given_up_lets_the_next_one_go() {
    let (server, client) = scripted(
        |request, _| match request.body() {
            b"one" => silence(),
            _ => vec![reply(200)],
        },
        |builder| builder,
    )
    .await;
    let target = "sip:bob@192.0.2.10";
    let one = client.send_message(target, "one", None);
    assert!(tokio::time::timeout(seconds(1), one).await.is_err());
    let two = client.send_message(target, "two", None).await.unwrap();
    assert_eq!(two.status().as_u16(), 200);
    assert_eq!(server.seen.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_messages_says_405_and_what_it_takes() {
    struct Deaf;
    impl SessionHandler for Deaf {}
    let deaf = Some(Arc::new(Deaf) as Arc<dyn SessionHandler>);
    for (handler, allow) in [(None, "OPTIONS"), (deaf, "OPTIONS, NOTIFY")] {
        let answer = scene(handler).await.say("hello").await;
        assert_eq!(answer.status().as_u16(), 405);
        assert_eq!(answer.header("Allow").as_deref(), Some(allow));
    }
}

#[tokio::test(start_paused = true)]
async fn the_application_may_refuse_and_a_2xx_has_no_body() {
    let refusal = Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .with_header("Accept", "text/plain")
        .with_body("text/plain", "what is that?");
    let answer = scene(Some(Arc::new(Reader::new(refusal))))
        .await
        .say("hello")
        .await;
    assert_eq!(answer.status().as_u16(), 415);
    assert_eq!(answer.header("Accept").as_deref(), Some("text/plain"));
    assert_eq!(answer.body(), b"what is that?");
    let talkative = Answer::ok().with_body("text/plain", "thanks");
    let answer = scene(Some(Arc::new(Reader::new(talkative))))
        .await
        .say("hello")
        .await;
    assert_eq!((answer.status().as_u16(), answer.body()), (200, &b""[..]));
    assert!(answer.header("Contact").is_none() && answer.header("Content-Type").is_none());
}

#[tokio::test(start_paused = true)]
async fn where_messages_are_read_options_says_so() {
    let scene = scene(Some(Arc::new(Reader::new(Answer::ok())))).await;
    let answer = scene.alice.send_options(BOB).await.unwrap();
    assert_eq!(
        answer.header("Allow").as_deref(),
        Some("OPTIONS, MESSAGE, NOTIFY")
    );
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_or_sleeps_is_500_and_one_that_is_full_is_503() {
    struct Broken;
    #[async_trait]
    impl SessionHandler for Broken {
        async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
            match &*incoming.text() {
                "panic" => panic!("the application is broken"),
                "sleep" => pass(seconds(1000)).await,
                _ => {}
            }
            Answer::ok()
        }
    }
    let scene = scene(Some(Arc::new(Broken))).await;
    assert_eq!(scene.say("panic").await.status().as_u16(), 500);
    let begun = tokio::time::Instant::now();
    assert_eq!(scene.say("sleep").await.status().as_u16(), 500);
    assert!((5..=6).contains(&begun.elapsed().as_secs()));
    assert_eq!(scene.say("hello").await.status().as_u16(), 200);

    let scene = Arc::new(scene);
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..200 {
        let scene = scene.clone();
        senders.spawn(async move {
            let target = format!("sip:{number}@192.0.2.2");
            let sent = scene.alice.send_message(&target, "sleep", None).await;
            sent.unwrap().status().as_u16()
        });
    }
    let mut statuses = senders.join_all().await;
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [500, 503]);
}

#[tokio::test(start_paused = true)]
async fn a_message_inside_a_dialog_that_nobody_has_is_481() {
    let scene = scene(Some(Arc::new(Reader::new(Answer::ok())))).await;
    let target = sipora_message::Uri::parse(BOB).unwrap();
    let request = scene
        .alice
        .request(Method::Message, &target)
        .build()
        .unwrap();
    let request = request
        .edit()
        .set(HeaderName::To, format!("<{BOB}>;tag=1"))
        .build()
        .unwrap();
    let answer = scene
        .alice
        .send_raw_request(request, seconds(10))
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 481);
}

#[test]
fn over_a_bad_network_every_message_that_is_acknowledged_was_read_once() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let reader = Reader::new(Answer::ok());
        let scene = on(network, Some(Arc::new(reader.clone()))).await;
        let mut acknowledged = Vec::new();
        for number in 0..20 {
            let text = format!("{number}:{}", "x".repeat(number * 100));
            match scene.alice.send_message(BOB, &text, None).await {
                Ok(answer) => {
                    assert_eq!(answer.status().as_u16(), 200);
                    acknowledged.push(text);
                }
                Err(error) => assert!(error.is_temporary(), "{error:?}"),
            }
        }
        let mut read = reader.texts();
        assert!(acknowledged.iter().all(|text| read.contains(text)));
        let copies = read.len();
        read.dedup();
        assert_eq!(read.len(), copies, "a message was read twice");
    });
}
