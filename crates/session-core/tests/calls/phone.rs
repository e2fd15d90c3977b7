//! A user agent of this crate.

use std::sync::Arc;
use std::time::Duration;

use sipora_session_core::{
    CallEvent, CallHandle, IdSource, IncomingCalls, SessionCoordinator, SessionManagerBuilder,
    SipClient,
};
use sipora_testkit::{SimHost, SimNetwork, for_each_seed};

pub const ALICE: &str = "192.0.2.1";
pub const BOB: &str = "192.0.2.2";
pub const CAROL: &str = "192.0.2.3";

pub const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=offer\r\n";
/// Another, for later: what says the same again is answered without anybody hearing of it.
pub const CHANGED: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=changed\r\n";
pub const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=answer\r\n";

pub struct Phone {
    pub client: Arc<SessionCoordinator>,
    pub calls: IncomingCalls,
    pub address: &'static str,
    pub host: SimHost,
}

impl Phone {
    pub async fn new(network: &SimNetwork, address: &'static str) -> Self {
        Self::with(network, address, |builder| builder).await
    }

    pub async fn with(
        network: &SimNetwork,
        address: &'static str,
        edit: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Self {
        Self::on(network.host(address.parse().unwrap()), address, edit).await
    }

    /// Starts one on a host that is there.
    pub async fn on(
        host: SimHost,
        address: &'static str,
        edit: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Self {
        let builder = edit(builder_on(host.clone()));
        let (client, calls) = builder.build_with_calls().await.unwrap();
        Phone {
            client,
            calls,
            address,
            host,
        }
    }

    /// Calls with an offer.
    pub async fn calls(&self, other: &str) -> CallHandle {
        self.client.call(&uri(other), Some(OFFER)).await.unwrap()
    }

    pub async fn is_called(&mut self) -> CallHandle {
        self.calls.next().await.unwrap()
    }

    /// Nothing is left of any call.
    pub fn assert_idle(&self) {
        let metrics = self.client.call_metrics();
        assert_eq!((metrics.calls, metrics.exchanges), (0, 0), "{metrics:?}");
        assert_eq!(metrics.begun, metrics.ended, "{metrics:?}");
        let below = self.client.metrics();
        let left = (
            below.requests,
            below.client_transactions,
            below.server_transactions,
        );
        assert_eq!(left, (0, 0, 0), "{below:?}");
    }
}

/// A client at this address, port 5060.
pub fn builder(network: &SimNetwork, address: &str) -> SessionManagerBuilder {
    builder_on(network.host(address.parse().unwrap()))
}

fn builder_on(host: SimHost) -> SessionManagerBuilder {
    let address = host.address().to_string();
    let last: u64 = address.rsplit('.').next().unwrap().parse().unwrap();
    let ids = IdSource::from_number(last ^ host.network().seed() << 8);
    SessionManagerBuilder::new()
        .with_network(Arc::new(host))
        .with_id_source(ids)
        .with_identity(&format!("sip:user-{last}@example.com"))
        .with_sip_port(5060)
        .enable_sip_client()
}

pub fn uri(address: &str) -> String {
    format!("sip:somebody@{address}")
}

/// Two that can call each other.
pub async fn two(network: &SimNetwork) -> (Phone, Phone) {
    (
        Phone::new(network, ALICE).await,
        Phone::new(network, BOB).await,
    )
}

/// A call that is up: the caller's end of it, and the other.
pub async fn up(alice: &Phone, bob: &mut Phone) -> (CallHandle, CallHandle) {
    let mut hers = alice.calls(bob.address).await;
    let mut his = bob.is_called().await;
    his.accept(ANSWER).await.unwrap();
    hers.answered().await.unwrap();
    assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
    (hers, his)
}

/// Runs one scenario on a perfect network, the auditor watching.
pub fn scene<S: Future<Output = ()>>(scenario: impl FnMut(SimNetwork) -> S) {
    for_each_seed(0..1, scenario);
}

/// Lets everything that transactions keep run out.
pub async fn settle() {
    tokio::time::sleep(Duration::from_secs(120)).await;
}
