//! A user who writes to himself: notes from one device to all of them, the sending one among them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sipora_call_engine::{CallCenterConfig, CallCenterEngine};
use sipora_session_core::{
    Answer, Credentials, IdSource, Incoming, RegistrationHandle, SessionCoordinator,
    SessionHandler, SessionManagerBuilder, SipClient, TokioNetwork,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transport::Network;

const SERVER: &str = "192.0.2.10";
const ALICE: &str = "sip:alice@example.com";

async fn engine(network: Arc<dyn Network>, address: &str, seed: u64) -> Arc<CallCenterEngine> {
    let config = CallCenterConfig::new()
        .with_udp_listener(address)
        .with_tcp_listener(address)
        .with_domain("example.com")
        .with_user("alice", "wonderland")
        .with_id_source(IdSource::from_number(seed))
        .with_network(network);
    CallCenterEngine::new(config).await.unwrap()
}

#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<String>>>);

impl Inbox {
    fn read(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[async_trait]
impl SessionHandler for Inbox {
    async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
        assert_eq!(incoming.from(), ALICE);
        self.0.lock().unwrap().push(incoming.text().into_owned());
        Answer::ok()
    }
}

struct Device {
    client: Arc<SessionCoordinator>,
    inbox: Inbox,
    _bound: Vec<RegistrationHandle>,
}

impl Device {
    /// Registers so many contacts of alice's at `server`, over a transport.
    async fn new(
        network: Arc<dyn Network>,
        address: IpAddr,
        server: &str,
        transport: &str,
        contacts: usize,
        seed: u64,
    ) -> Device {
        let inbox = Inbox::default();
        let proxy = format!("sip:{server};transport={transport}");
        let client = SessionManagerBuilder::new()
            .with_network(network)
            .with_bind_address(address)
            .with_identity(ALICE)
            .with_credentials(Credentials::new("alice", "wonderland"))
            .with_outbound_proxy(&proxy)
            .with_id_source(IdSource::from_number(seed))
            .with_handler(Arc::new(inbox.clone()))
            .enable_sip_client()
            .build()
            .await
            .unwrap();
        let mut bound = Vec::new();
        for number in 0..contacts {
            let user = format!("alice-{number}");
            let contact = client.contact_uri(&user, &proxy).await.unwrap();
            bound.push(register(&client, &contact).await);
        }
        Device {
            client,
            inbox,
            _bound: bound,
        }
    }

    async fn note(&self, text: &str) {
        let answer = self.client.send_message(ALICE, text, None).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{text}");
    }
}

/// A bad network may lose all there is of a first REGISTER.
async fn register(client: &SessionCoordinator, contact: &str) -> RegistrationHandle {
    loop {
        match client
            .register("sip:example.com", ALICE, contact, 600)
            .await
        {
            Ok(bound) => return bound,
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// So many devices with so many contacts each; every one writes, and every one reads it once.
async fn notes(network: SimNetwork, devices: u8, contacts: usize) {
    let seed = network.seed();
    let host = Arc::new(network.host(ip(SERVER)));
    let engine = engine(host, &format!("{SERVER}:5060"), seed).await;
    let mut all = Vec::new();
    for number in 0..devices {
        let address = ip(&format!("192.0.2.{}", 20 + number));
        let transport = ["udp", "tcp"][usize::from(number % 2)];
        let host = Arc::new(network.host(address));
        let seed = seed ^ u64::from(number + 1);
        all.push(Device::new(host, address, SERVER, transport, contacts, seed).await);
    }
    assert_eq!(
        engine.binding_count().await.unwrap(),
        usize::from(devices) * contacts
    );
    for (number, device) in all.iter().enumerate() {
        let text = format!("note {number}");
        device.note(&text).await;
        // The first answer is the sender's; the other copies arrive when they do.
        tokio::time::sleep(Duration::from_secs(40)).await;
        for reader in &all {
            let read = reader.inbox.read();
            assert_eq!(read, std::slice::from_ref(&text), "{number}");
        }
    }
    let metrics = engine.metrics().relay;
    assert_eq!((metrics.loops, metrics.pending), (0, 0));
    for device in &all {
        device.client.shutdown().await;
    }
    engine.shutdown().await;
}

#[test]
fn one_contact_gets_the_note_that_it_wrote() {
    for_each_seed(0..1, |network| notes(network, 1, 1));
}

#[test]
fn every_device_gets_the_note_once_the_one_that_wrote_it_too() {
    for_each_seed(0..1, |network| notes(network, 4, 1));
}

/// Both copies end at one user agent: RFC 3261 §8.2.2.2, the second is refused with 482 and nobody reads it.
#[test]
fn two_contacts_of_one_device_are_one_reader() {
    for_each_seed(0..1, |network| notes(network, 1, 2));
}

#[test]
fn over_a_bad_network_every_note_arrives_once() {
    for_each_seed(seeds(), |network| {
        network.set_conditions(Conditions::rough());
        notes(network, 2, 1)
    });
}

#[tokio::test]
async fn over_real_sockets_a_note_comes_back() {
    let engine = engine(Arc::new(TokioNetwork::new()), "127.0.0.1:0", 7).await;
    let server = engine.listeners()[0].address.to_string();
    for transport in ["udp", "tcp"] {
        let network = Arc::new(TokioNetwork::new());
        let local = ip("127.0.0.1");
        let device = Device::new(network, local, &server, transport, 1, 8).await;
        device.note("remember").await;
        assert_eq!(device.inbox.read(), ["remember"], "{transport}");
        engine.remove_bindings(ALICE).await.unwrap();
        device.client.shutdown().await;
    }
    engine.shutdown().await;
}
