//! A client of session-core against the engine, over a network that loses, doubles and reorders, under many seeds.
//!
//! `SIPORA_SEEDS=1000` runs more of them, `SIPORA_SEED=n` one alone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sipora_call_engine::{CallCenterConfig, CallCenterEngine};
use sipora_session_core::{
    Credentials, Error, IdSource, RegistrationState, SessionCoordinator, SessionManagerBuilder,
    SipClient,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

const ALICE: &str = "sip:alice@example.com";
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
        .with_nonce_lifetime(Duration::from_secs(300))
        .with_expires(240, 60, 240)
        .with_id_source(IdSource::from_number(network.seed()))
        .with_network(Arc::new(network.host(ip(SERVER))));
    CallCenterEngine::new(config).await.unwrap()
}

async fn client(network: &SimNetwork, address: &str, password: &str) -> Arc<SessionCoordinator> {
    SessionManagerBuilder::new()
        .with_network(Arc::new(network.host(ip(address))))
        .with_bind_address(ip(address))
        .with_sip_port(5060)
        .with_id_source(IdSource::from_number(network.seed() ^ 0xa11ce))
        .with_credentials(Credentials::new("alice", password))
        .enable_sip_client()
        .build()
        .await
        .unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn is_bound(engine: &CallCenterEngine, contact: &str) -> bool {
    let bindings = engine.bindings(ALICE).await.unwrap();
    bindings.iter().any(|binding| binding.uri() == contact)
}

async fn scenario(network: SimNetwork, transport: &'static str) {
    network.set_conditions(Conditions::rough());
    let engine = engine(&network).await;
    let desk = client(&network, "192.0.2.1", "wonderland").await;
    let mobile = client(&network, "192.0.2.2", "wonderland").await;
    let registrar = format!("sip:{SERVER};transport={transport}");

    // Two devices; one of them falls silent and its binding expires, the other stays bound, past stale nonces and all.
    let contact = desk.contact_uri("alice", &registrar).await.unwrap();
    let registration = desk
        .register(&registrar, ALICE, &contact, 3600)
        .await
        .unwrap();
    assert_eq!(registration.expires, 240);
    let other_contact = mobile.contact_uri("alice", &registrar).await.unwrap();
    let other = mobile
        .register(&registrar, ALICE, &other_contact, 120)
        .await
        .unwrap();
    assert_eq!(other.expires, 120);
    assert_eq!(engine.binding_count().await.unwrap(), 2);
    drop(other);
    pass(121).await;
    assert!(!is_bound(&engine, &other_contact).await);
    for _ in 0..1800 {
        pass(1).await;
        assert!(
            is_bound(&engine, &contact).await,
            "the binding lapsed: {:?}",
            registration.state()
        );
    }
    assert_eq!(engine.binding_count().await.unwrap(), 1);

    // The network parts for longer than the binding lasts, and joins again.
    network.part(ip("192.0.2.1"), ip(SERVER));
    pass(900).await;
    assert_eq!(engine.binding_count().await.unwrap(), 0);
    network.join(ip("192.0.2.1"), ip(SERVER));
    let mut states = registration.states();
    while !matches!(
        states.next().await.unwrap(),
        RegistrationState::Registered { .. }
    ) {}
    assert!(is_bound(&engine, &contact).await);

    while let Err(error) = registration.unregister().await {
        assert!(error.is_temporary(), "{error:?}");
    }
    assert_eq!(engine.binding_count().await.unwrap(), 0);
    desk.shutdown().await;
    mobile.shutdown().await;

    let thief = client(&network, "192.0.2.3", "guess").await;
    let refused = loop {
        match thief
            .register(&registrar, ALICE, "sip:thief@192.0.2.3", 3600)
            .await
        {
            Err(error) if error.is_temporary() => {}
            other => break other.map(|_| ()),
        }
    };
    assert!(
        matches!(refused, Err(Error::AuthenticationFailed { .. })),
        "{refused:?}"
    );
    assert_eq!(engine.binding_count().await.unwrap(), 0);
    thief.shutdown().await;

    pass(60).await;
    let metrics = engine.metrics().transactions;
    assert_eq!(
        (metrics.server_transactions, metrics.timer_entries),
        (0, 0),
        "{metrics:?}"
    );
    engine.shutdown().await;
}

#[test]
fn registration_refresh_and_expiry_hold_over_bad_udp() {
    for_each_seed(seeds(), |network| scenario(network, "udp"));
}

#[test]
fn registration_refresh_and_expiry_hold_over_bad_tcp() {
    for_each_seed(seeds(), |network| scenario(network, "tcp"));
}

/// What a run looks like from outside: every packet, its time and its bytes.
fn transcript(seed: u64) -> Vec<String> {
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    for_each_seed([seed], move |network| {
        let seen = Arc::clone(&seen);
        network.observe(move |packet| seen.lock().unwrap().push(packet.to_string()));
        scenario(network, "udp")
    });
    let log = log.lock().unwrap();
    log.clone()
}

#[test]
fn a_seed_replays() {
    let (first, second) = (transcript(7), transcript(7));
    assert!(first.len() > 100, "{} packets", first.len());
    assert_eq!(first, second);
}
