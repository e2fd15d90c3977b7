//! Registration over a network that loses, doubles and reorders, under many seeds.
//!
//! `SIPORA_SEEDS=1000` runs more of them, `SIPORA_SEED=n` one alone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;

use sipora_session_core::{IdSource, RegistrationState, SipClient};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use support::*;

async fn scenario(network: SimNetwork, transport: &'static str) {
    network.set_conditions(Conditions::rough());
    let gate = Gate::short_lived("example.com", "wonderland", seconds(300));
    let bindings = Bindings::default();
    let store = bindings.clone();
    let registrar = network.host("192.0.2.10".parse().unwrap());
    let server = server(
        Arc::new(registrar),
        "192.0.2.10:5060",
        move |request, now| {
            gate.check(request, now)
                .unwrap_or_else(|| store.apply(request, now, 240))
        },
    )
    .await;
    let client = builder(network.host("192.0.2.1".parse().unwrap()))
        .with_id_source(IdSource::from_number(network.seed()))
        .with_sip_port(5060)
        .with_credentials(alice())
        .build()
        .await
        .unwrap();
    let uri = format!("sip:192.0.2.10;transport={transport}");
    let contact = client.contact_uri("alice", &uri).await.unwrap();
    let registration = client
        .register(&uri, "sip:alice@example.com", &contact, 3600)
        .await
        .unwrap();
    assert_eq!(registration.expires, 240);

    for _ in 0..1800 {
        pass(seconds(1)).await;
        assert!(
            bindings.is_bound(&contact, now()),
            "the binding lapsed: {:?}",
            registration.state()
        );
    }
    assert_eq!(bindings.count(now()), 1);

    // The network parts for longer than the binding lasts, and joins again.
    network.part("192.0.2.1".parse().unwrap(), "192.0.2.10".parse().unwrap());
    pass(seconds(900)).await;
    assert!(!bindings.is_bound(&contact, now()));
    assert!(registration.expires_in().is_zero());
    assert!(
        !registration.state().is_terminal(),
        "{:?}",
        registration.state()
    );
    network.join("192.0.2.1".parse().unwrap(), "192.0.2.10".parse().unwrap());
    let mut states = registration.states();
    while !matches!(
        states.next().await.unwrap(),
        RegistrationState::Registered { .. }
    ) {}
    assert!(bindings.is_bound(&contact, now()));

    while let Err(error) = registration.unregister().await {
        assert!(error.is_temporary(), "{error:?}");
    }
    assert_eq!(bindings.count(now()), 0);
    let requests = server.seen.all();
    let number = |request: &sipora_message::Request| request.headers().cseq().unwrap().number;
    assert!(
        requests
            .windows(2)
            .all(|pair| number(&pair[0]) < number(&pair[1])),
        "CSeq goes up"
    );
    client.shutdown().await;
    server.endpoint.shutdown().await;
}

#[test]
fn a_binding_holds_over_bad_udp() {
    for_each_seed(seeds(), |network| scenario(network, "udp"));
}

#[test]
fn a_binding_holds_over_bad_tcp() {
    for_each_seed(seeds(), |network| scenario(network, "tcp"));
}
