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
    Basic, Error, IdSource, SessionCoordinator, SessionManagerBuilder, SipClient, SubscriptionEnd,
    SubscriptionHandle, SubscriptionState, TerminationReason, Transport,
};
use sipora_testkit::{SimNetwork, for_each_seed, seeds};
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

/// Bob, over a connection.
const BOB_BY_TCP: &str = "sip:bob@192.0.2.10;transport=tcp";
const CLOSED: &str = "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:bob@example.com'>\
    <tuple id='1'><status><basic>closed</basic></status></tuple></presence>";

struct Scene {
    client: Arc<SessionCoordinator>,
    notifier: NotifierApi,
    board: Board,
    network: SimNetwork,
    _server: Endpoint,
}

impl Scene {
    async fn new(decision: Decision) -> Self {
        Self::with(SimNetwork::new(1), decision, |builder| builder).await
    }

    async fn with(
        network: SimNetwork,
        decision: Decision,
        settings: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Self {
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
            client: settings(support::builder(network.host("192.0.2.1".parse().unwrap())))
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

    async fn subscribe_by_tcp(&self) -> SubscriptionHandle {
        let subscribed = self.client.subscribe(BOB_BY_TCP, "presence", 3600).await;
        subscribed.unwrap()
    }

    /// SUBSCRIBEs that the client has sent over connections.
    fn subscribes(&self) -> usize {
        let packets = self.network.packets();
        let sent = packets
            .iter()
            .filter(|packet| packet.bytes.starts_with(b"SUBSCRIBE "));
        sent.count()
    }

    fn ends() -> [std::net::IpAddr; 2] {
        ["192.0.2.1", "192.0.2.10"].map(|ip| ip.parse().unwrap())
    }

    fn reset(&self) -> usize {
        let [client, server] = Self::ends();
        self.network.reset(client, server)
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

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_connection_ends_is_refreshed_over_another_at_once() {
    let scene = Scene::new(Decision::Active).await;
    let mut bob = scene.subscribe_by_tcp().await;
    assert_eq!(
        bob.presence().next().await.unwrap().unwrap().basic(),
        Some(Basic::Open)
    );
    for round in 1..4 {
        pass(seconds(60)).await;
        assert!(scene.reset() > 0);
        // It could be told over a connection that the notifier opens; over a NAT it could not.
        *scene.board.text.lock().unwrap() = [OPEN, CLOSED][round % 2];
        let begun = now();
        let told = bob.presence().next().await.unwrap().unwrap();
        assert_eq!(told.basic(), Some([Basic::Open, Basic::Closed][round % 2]));
        assert!(now() - begun < seconds(7), "{:?}", now() - begun);
        assert_eq!(scene.subscribes(), round + 1);
        assert!(matches!(bob.state(), SubscriptionState::Active { .. }));
    }
    bob.terminate().await.unwrap();
    scene.reset();
    pass(seconds(100)).await;
    assert_eq!(scene.subscribes(), 5, "who has left does not come back");
}

#[tokio::test(start_paused = true)]
async fn a_notifier_that_closes_every_connection_is_not_subscribed_to_in_a_loop() {
    let scene = Scene::new(Decision::Active).await;
    let bob = scene.subscribe_by_tcp().await;
    for _ in 0..50 {
        pass(seconds(2)).await;
        scene.reset();
    }
    let subscribes = scene.subscribes();
    assert!((3..=5).contains(&subscribes), "{subscribes}");
    assert!(matches!(bob.state(), SubscriptionState::Active { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_leads_nowhere_is_found_out_by_a_ping_and_replaced() {
    for (pings, owed) in [(true, 2), (false, 1)] {
        let network = SimNetwork::new(1);
        let scene = Scene::with(network, Decision::Active, |builder| match pings {
            true => builder,
            false => builder.without_keep_alive(),
        })
        .await;
        let bob = scene.subscribe_by_tcp().await;
        pass(seconds(10)).await;
        let [client, server] = Scene::ends();
        scene.network.part(client, server);
        pass(seconds(150)).await;
        scene.network.join(client, server);
        pass(seconds(120)).await;
        assert!(scene.subscribes() >= owed, "{}", scene.subscribes());
        assert_eq!(scene.subscribes() == 1, !pings);
        assert!(matches!(bob.state(), SubscriptionState::Active { .. }));
    }
}

#[test]
fn what_has_changed_is_heard_whenever_connections_are_reset() {
    for_each_seed(seeds(), |network| async move {
        let scene = Scene::with(network, Decision::Active, |builder| builder).await;
        let mut bob = scene.subscribe_by_tcp().await;
        let mut basic = bob.presence().next().await.unwrap().unwrap().basic();
        for round in 1..12 {
            let pause = scene.network.random(0..=40_000);
            pass(std::time::Duration::from_millis(pause)).await;
            *scene.board.text.lock().unwrap() = [OPEN, CLOSED][round % 2];
            let owed = Some([Basic::Open, Basic::Closed][round % 2]);
            let reset_first = scene.network.random(0..=1) == 1;
            if reset_first {
                scene.reset();
            }
            scene.changed().await;
            if !reset_first {
                scene.reset();
            }
            // With back-off, where connections have ended soon after each other.
            let heard = tokio::time::timeout(seconds(1_900), async {
                while basic != owed {
                    basic = bob.presence().next().await.unwrap().unwrap().basic();
                }
            });
            heard.await.expect("it is told in the end");
            assert!(matches!(bob.state(), SubscriptionState::Active { .. }));
        }
    });
}
