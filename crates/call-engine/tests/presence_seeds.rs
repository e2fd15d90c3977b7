//! Watchers and a user of session-core who registers and publishes, over a network that loses, doubles and reorders, under
//! many seeds.
//!
//! `SIPORA_SEEDS=1000` runs more of them, `SIPORA_SEED=n` one alone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipora_call_engine::{CallCenterConfig, CallCenterEngine};
use sipora_session_core::{
    Basic, Credentials, IdSource, Presence, SessionCoordinator, SessionManagerBuilder, SipClient,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

const SERVER: &str = "192.0.2.10";
const ALICE: &str = "sip:alice@example.com";
const PIDF: &str = "application/pidf+xml";

async fn engine(network: &SimNetwork) -> Arc<CallCenterEngine> {
    let address = format!("{SERVER}:5060");
    let shards = [1, 4][usize::from(network.seed() % 2 == 1)];
    let config = CallCenterConfig::new()
        .with_shards(shards)
        .with_udp_listener(&address)
        .with_tcp_listener(&address)
        .with_domain("example.com")
        .with_user("alice", "wonderland")
        .with_user("bob", "builder")
        .with_id_source(IdSource::from_number(network.seed()))
        .with_network(Arc::new(network.host(ip(SERVER))));
    CallCenterEngine::new(config).await.unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn client(
    network: &SimNetwork,
    address: &str,
    user: &str,
    password: &str,
) -> Arc<SessionCoordinator> {
    SessionManagerBuilder::new()
        .with_network(Arc::new(network.host(ip(address))))
        .with_bind_address(ip(address))
        .with_sip_port(5060)
        .with_identity(&format!("sip:{user}@example.com"))
        .with_credentials(Credentials::new(user, password))
        .with_outbound_proxy(&format!("sip:{SERVER}"))
        .with_id_source(IdSource::from_number(
            network.seed() ^ u64::from(address.as_bytes()[8]),
        ))
        .enable_sip_client()
        .build()
        .await
        .unwrap()
}

/// Watches alice for as long as the network lives, anew when a subscription ends, and keeps what was told last.
fn watch(client: &Arc<SessionCoordinator>) -> Arc<Mutex<Option<Presence>>> {
    let last = Arc::new(Mutex::new(None));
    let (client, told) = (Arc::clone(client), Arc::clone(&last));
    tokio::spawn(async move {
        loop {
            let Ok(mut subscription) = client.subscribe(ALICE, "presence", 3600).await else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            while let Some(notification) = subscription.next().await {
                if let Some(presence) = notification.presence() {
                    *told.lock().unwrap() = Some(presence.unwrap());
                }
            }
        }
    });
    last
}

fn document(basic: &str) -> String {
    format!(
        "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='{ALICE}'><tuple id='t'>\
         <status><basic>{basic}</basic></status></tuple></presence>"
    )
}

/// Whatever alice does, and whoever is out of reach for a while: in the end every watcher knows what the server knows.
async fn scenario(network: SimNetwork) {
    network.set_conditions(Conditions::rough());
    let engine = engine(&network).await;
    let alice = client(&network, "192.0.2.1", "alice", "wonderland").await;
    let bob = client(&network, "192.0.2.2", "bob", "builder").await;
    let elsewhere = client(&network, "192.0.2.3", "bob", "builder").await;
    // For so long that no refresh helps.
    let watchers = [watch(&bob), watch(&elsewhere)];
    let contact = alice
        .contact_uri("alice", &format!("sip:{SERVER}"))
        .await
        .unwrap();
    let (mut registration, mut publication) = (None, None);
    for step in 0..12 {
        // Out of reach, but not for as long as a NOTIFY is sent again.
        match step {
            6 => network.part(ip("192.0.2.3"), ip(SERVER)),
            7 => network.join(ip("192.0.2.3"), ip(SERVER)),
            _ => {}
        }
        match network.random(0..=3) {
            0 => {
                let registrar = "sip:example.com";
                let registered = alice.register(registrar, ALICE, &contact, 600).await;
                registration = registered.ok().or(registration);
            }
            1 => {
                if let Some(registration) = registration.take() {
                    _ = registration.unregister().await;
                }
            }
            2 => {
                let basic = ["open", "closed"][usize::from(network.random(0..=1) == 0)];
                publication = match publication.take() {
                    None => {
                        let body = document(basic);
                        let published = alice.publish(ALICE, "presence", PIDF, &body, 600).await;
                        published.ok()
                    }
                    Some(publication) => {
                        _ = publication.modify(PIDF, &document(basic)).await;
                        Some(publication)
                    }
                };
            }
            _ => {
                if let Some(publication) = publication.take() {
                    _ = publication.remove().await;
                }
            }
        }
        let pause = Duration::from_millis(network.random(0..=8_000));
        tokio::time::sleep(pause).await;
    }
    // Retransmissions of the last NOTIFYs.
    tokio::time::sleep(Duration::from_secs(70)).await;

    let bindings = engine.bindings(ALICE).await.unwrap();
    let metrics = engine.metrics().presence;
    let owed = match bindings.is_empty() {
        true => Basic::Closed,
        false => Basic::Open,
    };
    for watcher in &watchers {
        let told = watcher.lock().unwrap().clone().expect("a document");
        assert_eq!(told.entity, "pres:alice@example.com");
        let mut tuples = told.tuples.iter();
        let registration = tuples.find(|tuple| tuple.id == "registration").unwrap();
        assert_eq!(registration.basic, Some(owed), "{metrics:?}");
        let published = u64::try_from(told.tuples.len()).unwrap() - 1;
        assert_eq!(published, metrics.publications, "{metrics:?}");
    }
    let [one, other] = watchers.map(|watcher| watcher.lock().unwrap().clone());
    assert_eq!(one, other);
    assert!(metrics.subscriptions >= 2, "{metrics:?}");
    for client in [alice, bob, elsewhere] {
        client.shutdown().await;
    }
    engine.shutdown().await;
}

#[test]
fn watchers_know_in_the_end_what_the_registrar_knows_over_a_bad_network() {
    for_each_seed(seeds(), scenario);
}
