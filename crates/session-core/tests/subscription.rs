//! Subscriptions of a client to a notifier over a simulated network, in virtual time.
#![cfg(feature = "pidf")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::{Arc, Mutex};

use sipora_dialog_core::{
    Body, Decision, EventPackage, EventSource, MessageSummaryPackage, NotifierApi, NotifierConfig,
    NotifierSubscription, Offer, PresencePackage, SubscriptionKey,
};
use sipora_message::{HeaderName, StatusCode, Uri};
use sipora_session_core::{
    Basic, Error, IdSource, SessionCoordinator, SipClient, SubscriptionEnd, SubscriptionHandle,
    SubscriptionState, TerminationReason, Transport,
};
use sipora_testkit::SimNetwork;
use sipora_transaction_core::Endpoint;
use support::*;

const BOB: &str = "sip:bob@192.0.2.10";
const OPEN: &str = "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:bob@example.com'>\
    <tuple id='1'><status><basic>open</basic></status></tuple></presence>";
const SUMMARY: &str = "Messages-Waiting: yes\r\nVoice-Message: 1/2\r\n";

#[derive(Clone)]
struct Board {
    text: Arc<Mutex<&'static str>>,
    decision: Decision,
    seen: Arc<Mutex<Vec<sipora_message::Request>>>,
    keys: Arc<Mutex<Vec<SubscriptionKey>>>,
}

impl EventSource for Board {
    fn on_subscribe(&mut self, offer: &Offer) -> Decision {
        self.seen.lock().unwrap().push(offer.request().clone());
        self.decision
    }

    fn on_accepted(&mut self, subscription: &NotifierSubscription) {
        self.keys.lock().unwrap().push(subscription.key);
    }

    fn state(&mut self, subscription: &NotifierSubscription) -> Option<Body> {
        let (content_type, text) = match subscription.package.as_str() {
            "presence" => ("application/pidf+xml", *self.text.lock().unwrap()),
            _ => ("application/simple-message-summary", SUMMARY),
        };
        Some(Body::new(content_type, text))
    }
}

struct Scene {
    client: Arc<SessionCoordinator>,
    notifier: NotifierApi,
    board: Board,
    network: SimNetwork,
    _server: Endpoint,
}

impl Scene {
    async fn new(decision: Decision) -> Self {
        let network = SimNetwork::new(1);
        let address = "192.0.2.10:5060".parse().unwrap();
        let mut builder = Endpoint::builder()
            .network(Arc::new(network.host("192.0.2.10".parse().unwrap())))
            .ids(IdSource::from_number(7))
            .listen(Transport::Udp, address)
            .listen(Transport::Tcp, address);
        let board = Board {
            text: Arc::new(Mutex::new(OPEN)),
            decision,
            seen: Arc::default(),
            keys: Arc::default(),
        };
        let packages: Vec<Arc<dyn EventPackage>> =
            vec![Arc::new(PresencePackage), Arc::new(MessageSummaryPackage)];
        let config = NotifierConfig::default();
        let notifier = NotifierApi::add_to(&mut builder, config, packages, board.clone(), None);
        Scene {
            client: support::builder(network.host("192.0.2.1".parse().unwrap()))
                .with_identity("sip:alice@example.com")
                .with_sip_port(5070)
                .build()
                .await
                .unwrap(),
            notifier,
            board,
            _server: builder.build().await.unwrap(),
            network,
        }
    }

    async fn subscribe(&self) -> SubscriptionHandle {
        self.client.subscribe(BOB, "presence", 600).await.unwrap()
    }

    async fn changed(&self) {
        let bob = Uri::parse(BOB).unwrap();
        self.notifier.changed("presence", &bob).await.unwrap();
        // The pace of presence (RFC 3856 §6.10).
        pass(seconds(6)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn presence_is_told_as_octets_and_as_a_document() {
    let scene = Scene::new(Decision::Active).await;
    let mut bob = scene.subscribe().await;
    assert_eq!((bob.target_uri(), bob.event()), (BOB, "presence"));
    let told = bob.next().await.unwrap();
    assert_eq!(told.body(), OPEN.as_bytes());
    assert_eq!(told.presence().unwrap().unwrap().basic(), Some(Basic::Open));
    assert!(told.message_summary().is_none());
    assert!(bob.response().unwrap().is_success());
    let state = bob.state();
    assert!(
        matches!(state, SubscriptionState::Active { .. }),
        "{state:?}"
    );
    let request = scene.board.seen.lock().unwrap().remove(0);
    let text = |name| request.headers().text(&name).unwrap().into_owned();
    assert_eq!(text(HeaderName::Contact), "<sip:alice@192.0.2.1:5070>");
    assert!(text(HeaderName::From).starts_with("<sip:alice@example.com>;tag="));
    assert!(text(HeaderName::UserAgent).starts_with("Sipora/"));

    scene.changed().await;
    bob.terminate().await.unwrap();
    assert!(bob.next().await.is_some(), "the change");
    assert!(bob.next().await.is_some(), "the last word");
    assert!(bob.next().await.is_none());
    bob.terminate().await.unwrap();
    assert!(matches!(bob.refresh().await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_is_told_as_a_message_summary_over_tcp_too() {
    let scene = Scene::new(Decision::Active).await;
    let uri = format!("{BOB};transport=tcp");
    let mut mailbox = scene
        .client
        .subscribe(&uri, "message-summary", 600)
        .await
        .unwrap();
    let told = mailbox.next().await.unwrap();
    let summary = told.message_summary().unwrap().unwrap();
    assert!(summary.waiting);
    assert_eq!(summary.class("voice-message").unwrap().old, 2);
    assert!(told.presence().is_none());
    let request = scene.board.seen.lock().unwrap().remove(0);
    let contact = request
        .headers()
        .text(&HeaderName::Contact)
        .unwrap()
        .into_owned();
    assert_eq!(contact, "<sip:alice@192.0.2.1:5070;transport=tcp>");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_document_gets_400_and_harms_nobody() {
    let scene = Scene::new(Decision::Active).await;
    let mut bob = scene.subscribe().await;
    bob.next().await.unwrap();
    *scene.board.text.lock().unwrap() = "<presence";
    scene.changed().await;
    let lines: Vec<String> = scene
        .network
        .packets()
        .iter()
        .map(|packet| packet.first_line())
        .collect();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("SIP/2.0 400 PIDF")),
        "{lines:?}"
    );
    *scene.board.text.lock().unwrap() = OPEN;
    scene.changed().await;
    assert_eq!(bob.next().await.unwrap().body(), OPEN.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn the_states_go_from_pending_to_active_to_the_end_with_its_reason() {
    let scene = Scene::new(Decision::Pending).await;
    let bob = scene.subscribe().await;
    let mut states = bob.states();
    let mut seen = Vec::new();
    let key = loop {
        if let Some(key) = scene.board.keys.lock().unwrap().last() {
            break *key;
        }
        pass(seconds(1)).await;
    };
    pass(seconds(1)).await;
    seen.push(states.next().await.unwrap());
    scene.notifier.activate(key).await.unwrap();
    seen.push(states.next().await.unwrap());
    scene
        .notifier
        .terminate(key, TerminationReason::NoResource, None)
        .await
        .unwrap();
    seen.push(states.next().await.unwrap());
    assert!(states.next().await.is_none());
    assert!(
        matches!(
            &seen[..],
            [
                SubscriptionState::Pending { .. },
                SubscriptionState::Active { .. },
                SubscriptionState::Terminated(SubscriptionEnd::ByNotifier {
                    reason: TerminationReason::NoResource,
                    ..
                })
            ]
        ),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_refreshed_for_as_long_as_its_handle_lives() {
    let scene = Scene::new(Decision::Active).await;
    let bob = scene.subscribe().await;
    for _ in 0..60 {
        pass(seconds(60)).await;
        let state = bob.state();
        assert!(
            matches!(state, SubscriptionState::Active { .. }),
            "{state:?}"
        );
    }
    assert_eq!(bob.refresh().await.unwrap(), 600);
    drop(bob);
    pass(seconds(1)).await;
    scene.changed().await;
    let last = scene.network.packets().pop().unwrap().first_line();
    assert!(last.starts_with("SIP/2.0 481"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn refusals_and_bad_arguments_are_told_apart() {
    let scene = Scene::new(Decision::Refuse(StatusCode::FORBIDDEN)).await;
    let refused = scene
        .client
        .subscribe(BOB, "presence", 600)
        .await
        .unwrap_err();
    assert_eq!(refused.response().unwrap().status(), StatusCode::FORBIDDEN);
    let unknown = scene
        .client
        .subscribe(BOB, "dialog", 600)
        .await
        .unwrap_err();
    assert_eq!(unknown.response().unwrap().status(), StatusCode::BAD_EVENT);
    let wrong = scene
        .client
        .subscribe(BOB, "no event", 600)
        .await
        .unwrap_err();
    assert!(matches!(wrong, Error::InvalidRequest { .. }), "{wrong:?}");
    let wrong = scene
        .client
        .subscribe("tel:+1", "presence", 600)
        .await
        .unwrap_err();
    assert!(matches!(wrong, Error::InvalidUri { .. }), "{wrong:?}");
    let nobody = scene
        .client
        .subscribe("sip:192.0.2.99", "presence", 600)
        .await
        .unwrap_err();
    assert!(nobody.is_temporary(), "{nobody:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_it() {
    let scene = Scene::new(Decision::Active).await;
    let mut bob = scene.subscribe().await;
    bob.next().await.unwrap();
    scene.client.shutdown().await;
    assert!(bob.next().await.is_none());
    let state = bob.state();
    assert!(
        matches!(
            state,
            SubscriptionState::Terminated(SubscriptionEnd::Stopped)
        ),
        "{state:?}"
    );
    assert!(matches!(bob.terminate().await, Err(Error::Closed)));
    let late = scene.client.subscribe(BOB, "presence", 600).await;
    assert!(matches!(late, Err(Error::Closed)));
}
