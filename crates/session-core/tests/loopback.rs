//! The client on the operating system's sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;

use sipora_session_core::{Error, RegistrationState, SipClient, TokioNetwork};
use sipora_testkit::audit::Auditor;
use support::*;

async fn registers_refreshes_queries_unregisters(transport: &str) {
    let gate = Gate::server("localhost", "wonderland");
    let bindings = Bindings::default();
    let script = {
        let bindings = bindings.clone();
        move |request: &sipora_message::Request, now| {
            gate.check(request, now)
                .unwrap_or_else(|| bindings.apply(request, now, 3600))
        }
    };
    let auditor = Arc::new(Auditor::new());
    let network = Arc::new(TokioNetwork::new());
    let registrar = audited_server(network, "127.0.0.1:0", script, auditor.clone()).await;
    let uri = format!("sip:{};transport={transport}", registrar.address);
    let client = builder(TokioNetwork::new())
        .with_bind_address([127, 0, 0, 1].into())
        .with_observer(auditor.clone())
        .with_credentials(alice())
        .build()
        .await
        .unwrap();

    let contact = client.contact_uri("alice", &uri).await.unwrap();
    assert_eq!(
        contact.ends_with(";transport=tcp"),
        transport == "tcp",
        "{contact}"
    );
    let registration = client
        .register(&uri, "sip:alice@localhost", &contact, 600)
        .await
        .unwrap();
    assert_eq!(registration.expires, 600);
    assert!(registration.transaction_id.as_str().starts_with("z9hG4bK"));
    assert!(matches!(
        registration.state(),
        RegistrationState::Registered { expires: 600, .. }
    ));

    assert_eq!(registration.refresh().await.unwrap(), 600);
    let listed = registration.query().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].is_ours && listed[0].uri == contact);
    registration.unregister().await.unwrap();
    assert_eq!(bindings.count(now()), 0);
    let requests = registrar.seen.all();
    assert_eq!(
        requests.len(),
        5,
        "one challenge, and four that are answered at once"
    );
    assert!(
        requests
            .iter()
            .all(|request| request.headers().call_id() == requests[0].headers().call_id())
    );

    client.shutdown().await;
    registrar.endpoint.shutdown().await;
    assert!(auditor.seen() >= 10, "{}", auditor.seen());
    auditor.assert_clean();
}

#[tokio::test]
async fn over_udp() {
    registers_refreshes_queries_unregisters("udp").await;
}

#[tokio::test]
async fn over_tcp() {
    registers_refreshes_queries_unregisters("tcp").await;
}

#[tokio::test]
async fn a_connection_that_the_registrar_closes_is_replaced() {
    let mut is_first = true;
    let script = move |request: &sipora_message::Request, _| {
        let replies = grant(request, 3600).into_iter();
        let closes = std::mem::take(&mut is_first);
        let closed = |reply: Reply| match closes {
            true => reply.and_close(),
            false => reply,
        };
        replies.map(closed).collect()
    };
    let registrar = server(Arc::new(TokioNetwork::new()), "127.0.0.1:0", script).await;
    let uri = format!("sip:{};transport=tcp", registrar.address);
    let client = builder(TokioNetwork::new())
        .with_bind_address([127, 0, 0, 1].into())
        .build()
        .await
        .unwrap();
    let contact = client.contact_uri("alice", &uri).await.unwrap();
    let registration = client
        .register(&uri, "sip:alice@localhost", &contact, 3600)
        .await
        .unwrap();
    let mut states = registration.states();
    while registrar.seen.count() < 2
        || !matches!(registration.state(), RegistrationState::Registered { .. })
    {
        states.next().await.expect("the registration goes on");
    }
    client.shutdown().await;
    registrar.endpoint.shutdown().await;
}

#[tokio::test]
async fn an_occupied_port_is_named() {
    let first = builder(TokioNetwork::new())
        .with_bind_address([127, 0, 0, 1].into())
        .build()
        .await
        .unwrap();
    let port = first.local_address().port();
    let listeners = first.listeners();
    assert_eq!(listeners.len(), 2);
    assert_eq!(
        listeners[0].address, listeners[1].address,
        "UDP and TCP share the port"
    );
    let second = builder(TokioNetwork::new())
        .with_bind_address([127, 0, 0, 1].into())
        .with_sip_port(port)
        .build()
        .await;
    let Err(error @ Error::Listen { .. }) = second else {
        panic!("{second:?}")
    };
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_connection_is_a_transport_error() {
    let client = builder(TokioNetwork::new())
        .with_bind_address([127, 0, 0, 1].into())
        .build()
        .await
        .unwrap();
    // Bound and dropped: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let result = client
        .send_options(&format!("sip:{free};transport=tcp"))
        .await;
    assert!(matches!(result, Err(Error::Transport { .. })), "{result:?}");
}
