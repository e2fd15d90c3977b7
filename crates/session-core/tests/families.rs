//! Hosts that have addresses of IPv6 alone, by name, for clients of both families and for one of IPv4.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use sipora_session_core::{
    Answer, Error, IdSource, Incoming, SessionHandler, SipClient, StaticResolver, TokioNetwork,
};
use sipora_testkit::{Conditions, for_each_seed, seeds};
use support::*;

struct Inbox;

#[async_trait]
impl SessionHandler for Inbox {
    async fn on_message(&self, _: &Incoming<'_>) -> Answer {
        Answer::ok()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(address: &str) -> Arc<StaticResolver> {
    Arc::new(StaticResolver::new().with("example.com", ip(address)))
}

#[test]
fn a_registrar_with_ipv6_addresses_alone_is_registered_at_and_reaches_the_contact() {
    for_each_seed(seeds(), |network| async move {
        let server = server(
            Arc::new(network.host(ip("2001:db8::2"))),
            "[2001:db8::2]:5060",
            |request, _| grant(request, 600),
        )
        .await;
        let home = network.host_with(&[ip("192.0.2.1"), ip("2001:db8::1")]);
        let everywhere = builder(home.clone())
            .with_sip_port(5070)
            .with_resolver(names("2001:db8::2"))
            .with_handler(Arc::new(Inbox))
            .build()
            .await
            .unwrap();
        let v4 = builder(home)
            .with_id_source(IdSource::from_number(2))
            .with_bind_address(ip("192.0.2.1"))
            .with_resolver(names("2001:db8::2"))
            .build()
            .await
            .unwrap();
        let peer = builder(network.host(ip("2001:db8::9")))
            .with_id_source(IdSource::from_number(3))
            .build()
            .await
            .unwrap();
        assert!(
            peer.listeners().iter().all(|one| one.address.is_ipv6()),
            "the family that it has"
        );
        network.set_conditions(Conditions::rough());
        for (registrar, owed) in [
            ("sip:example.com", "sip:alice@[2001:db8::1]:5070"),
            (
                "sip:example.com;transport=tcp",
                "sip:alice@[2001:db8::1]:5070;transport=tcp",
            ),
        ] {
            let contact = everywhere.contact_uri("alice", registrar).await.unwrap();
            assert_eq!(contact, owed);
            for client in [&everywhere, &v4] {
                let bound = client
                    .register(registrar, "sip:alice@example.com", &contact, 600)
                    .await
                    .unwrap();
                assert_eq!(bound.expires, 600);
                let seen = server.seen.last();
                assert_eq!(seen.headers().via().unwrap().host_str(), "[2001:db8::1]");
            }
            let answer = peer.send_message(&contact, "hello", None).await.unwrap();
            assert_eq!(answer.status().as_u16(), 200, "the contact leads back");
        }
        let refused = v4.contact_uri("alice", "sip:example.com").await;
        assert!(
            matches!(refused, Err(Error::Transport { .. })),
            "nobody can reach it there: {refused:?}"
        );
    });
}

#[tokio::test]
async fn over_the_loopback_interface_of_ipv6() {
    let registrar = server(Arc::new(TokioNetwork::new()), "[::1]:0", |request, _| {
        grant(request, 600)
    })
    .await;
    let port = registrar.address.port();
    let client = builder(TokioNetwork::new())
        .with_resolver(names("::1"))
        .build()
        .await
        .unwrap();
    let v4 = builder(TokioNetwork::new())
        .with_bind_address(ip("127.0.0.1"))
        .with_resolver(names("::1"))
        .build()
        .await
        .unwrap();
    for transport in ["udp", "tcp"] {
        let uri = format!("sip:example.com:{port};transport={transport}");
        let contact = client.contact_uri("alice", &uri).await.unwrap();
        assert!(contact.starts_with("sip:alice@[::1]:"), "{contact}");
        for client in [&client, &v4] {
            let bound = client
                .register(&uri, "sip:alice@example.com", &contact, 600)
                .await
                .unwrap();
            assert_eq!(bound.expires, 600);
        }
    }
    client.shutdown().await;
    v4.shutdown().await;
    registrar.endpoint.shutdown().await;
}
