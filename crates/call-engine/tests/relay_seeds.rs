//! Clients of session-core that chat through the engine, over a network that loses, doubles and reorders, under many seeds.
//!
//! `SIPORA_SEEDS=1000` runs more of them, `SIPORA_SEED=n` one alone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sipora_call_engine::{CallCenterConfig, CallCenterEngine};
use sipora_session_core::{
    Answer, Credentials, IdSource, Incoming, RegistrationHandle, SessionCoordinator,
    SessionHandler, SessionManagerBuilder, SipClient,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

const SERVER: &str = "192.0.2.10";

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

/// Texts as they were read.
#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl SessionHandler for Inbox {
    async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
        assert_eq!(incoming.from(), "sip:alice@example.com");
        self.0.lock().unwrap().push(incoming.text().into_owned());
        Answer::ok()
    }
}

struct Device {
    client: Arc<SessionCoordinator>,
    inbox: Inbox,
}

impl Device {
    async fn new(network: &SimNetwork, address: &str, user: &str, password: &str) -> Device {
        let inbox = Inbox::default();
        let client = SessionManagerBuilder::new()
            .with_network(Arc::new(network.host(ip(address))))
            .with_bind_address(ip(address))
            .with_sip_port(5060)
            .with_identity(&format!("sip:{user}@example.com"))
            .with_credentials(Credentials::new(user, password))
            .with_outbound_proxy(&format!("sip:{SERVER}"))
            .with_id_source(IdSource::from_number(
                network.seed() ^ u64::from(address.as_bytes()[8]),
            ))
            .with_handler(Arc::new(inbox.clone()))
            .enable_sip_client()
            .build()
            .await
            .unwrap();
        Device { client, inbox }
    }

    async fn register(&self, transport: &str) -> RegistrationHandle {
        let registrar = format!("sip:{SERVER};transport={transport}");
        let contact = self.client.contact_uri("bob", &registrar).await.unwrap();
        loop {
            let bob = "sip:bob@example.com";
            match self
                .client
                .register("sip:example.com", bob, &contact, 3600)
                .await
            {
                Ok(registration) => return registration,
                Err(error) => assert!(error.is_temporary(), "{error:?}"),
            }
        }
    }
}

/// Every message that was acknowledged is on one of bob's devices at least, none is on a device twice, and every sender is
/// answered in time.
async fn scenario(network: SimNetwork) {
    network.set_conditions(Conditions::rough());
    let engine = engine(&network).await;
    let alice = Device::new(&network, "192.0.2.1", "alice", "wonderland").await;
    let desk = Device::new(&network, "192.0.2.2", "bob", "builder").await;
    let mobile = Device::new(&network, "192.0.2.3", "bob", "builder").await;
    let _desk = desk.register("udp").await;
    let _mobile = mobile.register("udp").await;
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        if number == 10 {
            // One device is out of reach; the other goes on.
            network.part(ip("192.0.2.3"), ip(SERVER));
        }
        let text = format!("{number}:{}", "x".repeat(number * 100));
        let sent = alice
            .client
            .send_message("sip:bob@example.com", &text, None);
        match sent.await {
            Ok(answer) if answer.is_success() => acknowledged.push(text),
            Ok(answer) => assert_eq!(answer.status().as_u16(), 480),
            Err(error) => assert!(error.is_temporary(), "{error:?}"),
        }
    }
    assert!(acknowledged.len() > 10, "{} arrived", acknowledged.len());
    let (desk_read, mobile_read) = (
        desk.inbox.0.lock().unwrap().clone(),
        mobile.inbox.0.lock().unwrap().clone(),
    );
    for text in &acknowledged {
        assert!(desk_read.contains(text) || mobile_read.contains(text));
    }
    for read in [desk_read, mobile_read] {
        let mut once = read.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), read.len(), "a message was read twice");
    }

    // Nobody is left: told so, and not with silence.
    network.part(ip("192.0.2.2"), ip(SERVER));
    let begun = tokio::time::Instant::now();
    match alice
        .client
        .send_message("sip:bob@example.com", "x", None)
        .await
    {
        Ok(answer) => assert_eq!(answer.status().as_u16(), 480),
        Err(error) => assert!(error.is_temporary(), "{error:?}"),
    }
    assert!(begun.elapsed() <= Duration::from_secs(33));

    tokio::time::sleep(Duration::from_secs(90)).await;
    let metrics = engine.metrics();
    assert_eq!(metrics.relay.pending, 0);
    assert_eq!(
        (
            metrics.transactions.requests,
            metrics.transactions.unanswered
        ),
        (0, 0),
        "{metrics:?}"
    );
    for device in [alice, desk, mobile] {
        device.client.shutdown().await;
    }
    engine.shutdown().await;
}

#[test]
fn messages_arrive_once_or_their_sender_is_told_over_a_bad_network() {
    for_each_seed(seeds(), scenario);
}
