//! The flows of RFC 3665 §2, each on a good network and on a bad one.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;

use sipora_session_core::{
    Credentials, Error, HeaderName, IdSource, RegistrationHandle, SessionCoordinator, SipClient,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use support::*;

const REGISTRAR: &str = "sip:192.0.2.10";
const ALICE: &str = "sip:alice@example.com";
const CONTACT: &str = "sip:alice@192.0.2.1:5060";
const OTHER: &str = "sip:alice@192.0.2.1:5062";

struct Scene {
    bindings: Bindings,
    server: Server,
    client: Arc<SessionCoordinator>,
}

impl Scene {
    /// A registrar that wants the password `wonderland`; every other seed is a bad network.
    async fn new(network: &SimNetwork, password: &str) -> Self {
        if network.seed() % 2 == 1 {
            network.set_conditions(Conditions::rough());
        }
        let gate = Gate::server("example.com", "wonderland");
        let bindings = Bindings::default();
        let store = bindings.clone();
        let registrar = network.host("192.0.2.10".parse().unwrap());
        let server = server(
            Arc::new(registrar),
            "192.0.2.10:5060",
            move |request, now| {
                gate.check(request, now)
                    .unwrap_or_else(|| store.apply(request, now, 3600))
            },
        )
        .await;
        let client = builder(network.host("192.0.2.1".parse().unwrap()))
            .with_id_source(IdSource::from_number(network.seed()))
            .with_sip_port(5060)
            .with_credentials(Credentials::new("alice", password))
            .build()
            .await
            .unwrap();
        Scene {
            bindings,
            server,
            client,
        }
    }

    async fn registers(&self, contact: &str) -> RegistrationHandle {
        let registered = self.client.register(REGISTRAR, ALICE, contact, 3600);
        registered.await.unwrap()
    }

    async fn ends(self) {
        self.client.shutdown().await;
        self.server.endpoint.shutdown().await;
    }
}

#[test]
fn section_2_1_successful_new_registration() {
    for_each_seed(seeds(), |network| async move {
        let scene = Scene::new(&network, "wonderland").await;
        let registration = scene.registers(CONTACT).await;
        assert_eq!(registration.expires, 3600);
        assert!(scene.bindings.is_bound(CONTACT, now()));
        assert_eq!(scene.server.seen.count(), 2, "a challenge, and its answer");
        scene.ends().await;
    });
}

/// The second address is a SIP URI, and not one to be written to.
#[test]
fn section_2_2_update_of_contact_list() {
    for_each_seed(seeds(), |network| async move {
        let scene = Scene::new(&network, "wonderland").await;
        let _first = scene.registers(CONTACT).await;
        let second = scene.registers(OTHER).await;
        assert_eq!(scene.bindings.count(now()), 2);
        let response = second.response();
        let contacts = response.headers();
        let contacts = contacts.filter(|(name, _)| *name == HeaderName::Contact);
        assert_eq!(contacts.count(), 2, "the whole list is answered");
        scene.ends().await;
    });
}

#[test]
fn section_2_3_request_for_current_contact_list() {
    for_each_seed(seeds(), |network| async move {
        let scene = Scene::new(&network, "wonderland").await;
        let first = scene.registers(CONTACT).await;
        let _second = scene.registers(OTHER).await;
        let mut listed = first.query().await.unwrap();
        listed.sort_by(|one, other| one.uri.cmp(&other.uri));
        let uris: Vec<&str> = listed.iter().map(|binding| binding.uri.as_str()).collect();
        assert_eq!(uris, [CONTACT, OTHER]);
        assert!(listed[0].is_ours && !listed[1].is_ours);
        scene.ends().await;
    });
}

/// Each of our bindings by name: `*` would end those of others too.
#[test]
fn section_2_4_cancellation_of_registration() {
    for_each_seed(seeds(), |network| async move {
        let scene = Scene::new(&network, "wonderland").await;
        let first = scene.registers(CONTACT).await;
        let second = scene.registers(OTHER).await;
        first.unregister().await.unwrap();
        assert!(!scene.bindings.is_bound(CONTACT, now()));
        second.unregister().await.unwrap();
        assert_eq!(scene.bindings.count(now()), 0);
        scene.ends().await;
    });
}

#[test]
fn section_2_5_unsuccessful_registration() {
    for_each_seed(seeds(), |network| async move {
        let scene = Scene::new(&network, "looking-glass").await;
        let refused = scene.client.register(REGISTRAR, ALICE, CONTACT, 3600);
        let error = refused.await.unwrap_err();
        let is_refused = matches!(&error, Error::AuthenticationFailed { .. });
        assert!(is_refused, "{error:?}");
        pass(seconds(60)).await;
        assert_eq!(scene.server.seen.count(), 2, "it is not tried again");
        assert_eq!(scene.bindings.count(now()), 0);
        scene.ends().await;
    });
}
