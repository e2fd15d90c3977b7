//! TLS and WebSocket, from client to client through the server.
#![cfg(all(feature = "ws", any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../sip-transport/tests/authority/mod.rs"]
mod authority;

use std::sync::Arc;

use async_trait::async_trait;
use authority::Authority;
use futures_util::{SinkExt, StreamExt};
use sipora_call_engine::{CallCenterConfig, CallCenterEngine, Tls, Transport};
use sipora_session_core::{
    Answer, Error, Incoming, SessionCoordinator, SessionHandler, SessionManagerBuilder, SipClient,
    StaticResolver, StatusCode,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{WebSocketStream, client_async};

async fn server(tls: Tls) -> Arc<CallCenterEngine> {
    let config = CallCenterConfig::new()
        .with_tls_listener("127.0.0.1:0")
        .with_ws_listener("127.0.0.1:0")
        .with_wss_listener("127.0.0.1:0")
        .with_domain("example.com")
        .with_tls(tls)
        .without_authentication();
    CallCenterEngine::new(config).await.unwrap()
}

fn port(engine: &CallCenterEngine, transport: Transport) -> u16 {
    let listeners = engine.listeners();
    let listener = listeners.iter().find(|one| one.transport == transport);
    listener.unwrap().address.port()
}

async fn client(tls: Tls, messages: mpsc::UnboundedSender<String>) -> Arc<SessionCoordinator> {
    client_with(tls, Inbox(messages)).await
}

async fn client_with(tls: Tls, handler: impl SessionHandler) -> Arc<SessionCoordinator> {
    let names = StaticResolver::new().with("example.com", [127, 0, 0, 1].into());
    SessionManagerBuilder::new()
        .with_bind_address([127, 0, 0, 1].into())
        .with_resolver(Arc::new(names))
        .with_tls(tls)
        .with_handler(Arc::new(handler))
        .enable_sip_client()
        .build()
        .await
        .unwrap()
}

struct Inbox(mpsc::UnboundedSender<String>);

#[async_trait]
impl SessionHandler for Inbox {
    async fn on_message(&self, message: &Incoming<'_>) -> Answer {
        let body = String::from_utf8_lossy(message.request().body()).into_owned();
        self.0.send(body).unwrap();
        Answer::ok()
    }
}

#[tokio::test]
async fn a_message_goes_from_tls_to_tls_over_the_connections_of_the_registrations() {
    let authority = Authority::new();
    let engine = server(authority.config(&["example.com"]).build().unwrap()).await;
    let port = port(&engine, Transport::Tls);
    let tls = authority.config(&[]).build().unwrap();
    let (inbox, mut messages) = mpsc::unbounded_channel();
    let bob = client(tls.clone(), inbox.clone()).await;
    let registrar = format!("sip:example.com:{port};transport=tls");
    let contact = bob.contact_uri("bob", &registrar).await.unwrap();
    assert!(contact.ends_with(";ob;transport=tls"), "{contact}");
    let registration = bob
        .register(&registrar, "sip:bob@example.com", &contact, 600)
        .await
        .unwrap();

    let alice = client(tls, inbox.clone()).await;
    let target = format!("sip:bob@example.com:{port};transport=tls");
    let answer = alice.send_message(&target, "hello", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(messages.recv().await.unwrap(), "hello");
    drop(registration);

    // Somebody whom this client does not believe.
    let stranger = client(Authority::new().config(&[]).build().unwrap(), inbox).await;
    let refused = stranger.send_options(&target).await;
    assert!(
        matches!(refused, Err(Error::Transport { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn sips_goes_over_the_tls_connections_of_sips_contacts_and_to_nobody_else() {
    let authority = Authority::new();
    let engine = server(authority.config(&["example.com"]).build().unwrap()).await;
    let port = port(&engine, Transport::Tls);
    let tls = authority.config(&[]).build().unwrap();
    let (inbox, mut messages) = mpsc::unbounded_channel();
    let bob = client(tls.clone(), inbox.clone()).await;
    let registrar = format!("sips:example.com:{port}");
    let contact = bob.contact_uri("bob", &registrar).await.unwrap();
    assert!(contact.starts_with("sips:bob@"), "{contact}");
    let _bob = bob
        .register(&registrar, "sips:bob@example.com", &contact, 600)
        .await
        .unwrap();
    let alice = client(tls.clone(), inbox.clone()).await;
    // RFC 5630 §5.3: a SIP request reaches a SIPS contact too, over TLS and with a SIP Request-URI.
    for target in [
        format!("sips:bob@example.com:{port}"),
        format!("sip:bob@example.com:{port};transport=tls"),
    ] {
        let answer = alice.send_message(&target, &target, None).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{target}");
        assert_eq!(messages.recv().await.unwrap(), target);
    }

    // The transport is secure, the contact does not say so.
    let carol = client(tls, inbox).await;
    let registrar = format!("sip:example.com:{port};transport=tls");
    let contact = carol.contact_uri("carol", &registrar).await.unwrap();
    let _carol = carol
        .register(&registrar, "sip:carol@example.com", &contact, 600)
        .await
        .unwrap();
    let target = format!("sips:carol@example.com:{port}");
    let answer = alice.send_message(&target, "no", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARILY_UNAVAILABLE);
    let message = answer.message();
    let warning = message.headers().text(&"Warning".into()).unwrap();
    assert!(warning.starts_with("380 "), "{warning}");
    assert!(messages.try_recv().is_err());
}

/// Tells of every MESSAGE its Request-URI, and the transports of its Vias.
struct Hops(mpsc::UnboundedSender<(String, Vec<String>)>);

#[async_trait]
impl SessionHandler for Hops {
    async fn on_message(&self, message: &Incoming<'_>) -> Answer {
        let request = message.request();
        let vias = request.headers().vias().filter_map(Result::ok);
        let vias = vias.map(|via| via.transport().to_owned()).collect();
        self.0.send((request.uri_text().to_owned(), vias)).unwrap();
        Answer::ok()
    }
}

#[tokio::test]
async fn sips_over_websocket_is_tls_on_every_hop() {
    let authority = Authority::new();
    let engine = server(authority.config(&["example.com"]).build().unwrap()).await;
    let [tls_port, ws, wss] =
        [Transport::Tls, Transport::Ws, Transport::Wss].map(|transport| port(&engine, transport));
    let tls = authority.config(&[]).build().unwrap();
    let (hops, mut messages) = mpsc::unbounded_channel();
    let bob = client_with(tls.clone(), Hops(hops.clone())).await;
    let registrar = format!("sips:example.com:{wss};transport=ws");
    let contact = bob.contact_uri("bob", &registrar).await.unwrap();
    assert!(contact.starts_with("sips:bob@"), "{contact}");
    assert!(contact.ends_with(".invalid;transport=ws"), "{contact}");
    let _bob = bob
        .register(&registrar, "sips:bob@example.com", &contact, 600)
        .await
        .unwrap();
    let bound = engine.bindings("sip:bob@example.com").await.unwrap();
    assert_eq!(bound[0].transport(), Transport::Wss);

    let alice = client_with(tls.clone(), Hops(hops.clone())).await;
    for (target, first) in [
        (format!("sips:bob@example.com:{wss};transport=ws"), "WSS"),
        (format!("sips:bob@example.com:{tls_port}"), "TLS"),
    ] {
        let answer = alice.send_message(&target, "hello", None).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{target}");
        let (uri, vias) = messages.recv().await.unwrap();
        assert_eq!(uri, contact, "RFC 5630 §5.3: SIPS stays SIPS");
        assert_eq!(vias, ["WSS", first]);
    }

    // Who has registered without TLS is not reached by it, RFC 5630 §5.3.
    let carol = client_with(tls.clone(), Hops(hops)).await;
    let registrar = format!("sip:example.com:{ws};transport=ws");
    let contact = carol.contact_uri("carol", &registrar).await.unwrap();
    let _carol = carol
        .register(&registrar, "sip:carol@example.com", &contact, 600)
        .await
        .unwrap();
    let target = format!("sips:carol@example.com:{wss};transport=ws");
    let answer = alice.send_message(&target, "no", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARILY_UNAVAILABLE);
    let warning = answer.message().headers().text(&"Warning".into()).unwrap();
    assert!(warning.starts_with("380 "), "{warning}");
    // And nothing of a SIPS request is sent to a port that speaks no TLS.
    let target = format!("sips:bob@example.com:{ws};transport=ws");
    let refused = alice.send_message(&target, "no", None).await;
    assert!(
        matches!(refused, Err(Error::Transport { .. })),
        "{refused:?}"
    );
    assert!(messages.try_recv().is_err());
}

#[tokio::test]
async fn a_client_of_websocket_has_a_contact_that_exists_nowhere_and_is_reached() {
    let authority = Authority::new();
    let engine = server(authority.config(&["example.com"]).build().unwrap()).await;
    let port = port(&engine, Transport::Ws);
    let tls = authority.config(&[]).build().unwrap();
    let (inbox, mut messages) = mpsc::unbounded_channel();
    let bob = client(tls.clone(), inbox.clone()).await;
    let registrar = format!("sip:example.com:{port};transport=ws");
    let contact = bob.contact_uri("bob", &registrar).await.unwrap();
    assert!(contact.ends_with(".invalid;transport=ws"), "{contact}");
    assert_eq!(bob.contact_uri("bob", &registrar).await.unwrap(), contact);
    let _registration = bob
        .register(&registrar, "sip:bob@example.com", &contact, 600)
        .await
        .unwrap();
    let alice = client(tls, inbox).await;
    let target = format!("sip:bob@example.com:{port};transport=ws");
    let answer = alice.send_message(&target, "hello", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(messages.recv().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_client_that_listens_for_tls_is_connected_to_by_the_name_of_its_certificate() {
    let authority = Authority::new();
    let own = |names: &[&str]| authority.config(names).build().unwrap();
    let (inbox, mut messages) = mpsc::unbounded_channel();
    let names = StaticResolver::new().with("pbx.example.com", [127, 0, 0, 1].into());
    let begin = || {
        SessionManagerBuilder::new()
            .with_bind_address([127, 0, 0, 1].into())
            .with_resolver(Arc::new(names.clone()))
            .enable_sip_client()
    };
    let refused = begin()
        .with_tls(own(&[]))
        .with_tls_listener(0)
        .build()
        .await;
    assert!(matches!(refused, Err(Error::InvalidConfiguration { .. })));
    let pbx = begin()
        .with_tls(own(&["pbx.example.com"]))
        .with_tls_listener(0)
        .with_handler(Arc::new(Inbox(inbox)))
        .build()
        .await
        .unwrap();
    let listeners = pbx.listeners();
    let listener = listeners.iter().find(|one| one.transport == Transport::Tls);
    let port = listener.unwrap().address.port();
    let target = format!("sips:carol@pbx.example.com:{port}");
    let contact = pbx.contact_uri("carol", &target).await.unwrap();
    assert_eq!(contact, format!("sips:carol@127.0.0.1:{port}"), "no `ob`");
    let alice = begin().with_tls(own(&[])).build().await.unwrap();
    let answer = alice.send_message(&target, "hello", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(messages.recv().await.unwrap(), "hello");
}

type Browser = WebSocketStream<TcpStream>;

async fn browser(port: u16) -> Browser {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = ClientRequestBuilder::new(format!("ws://127.0.0.1:{port}/").parse().unwrap())
        .with_sub_protocol("sip");
    client_async(request, stream).await.unwrap().0
}

async fn next(browser: &mut Browser) -> String {
    loop {
        let frame = browser.next().await.unwrap().unwrap();
        if let Frame::Text(text) = frame {
            return text.to_string();
        }
    }
}

/// As clients in browsers write it (RFC 7118 §8): names that do not exist, and no Content-Length.
fn request(line: &str, to: &str, rest: &str) -> String {
    let method = line.split(' ').next().unwrap();
    format!(
        "{line} SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK{to}{method}\r\nMax-Forwards: 70\r\n\
         From: <sip:{to}@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: {to}{method}\r\n\
         CSeq: 1 {method}\r\n{rest}"
    )
}

#[tokio::test]
async fn a_contact_that_does_not_exist_is_reached_by_its_websocket_and_by_nothing_else() {
    let tls = Authority::new().config(&["example.com"]).build().unwrap();
    let engine = server(tls).await;
    let port = port(&engine, Transport::Ws);
    let mut bob = browser(port).await;
    let register = request(
        "REGISTER sip:example.com",
        "bob",
        "Contact: <sip:bob@df7jal23ls0d.invalid;transport=ws>\r\nExpires: 600\r\n\r\n",
    );
    bob.send(Frame::text(register)).await.unwrap();
    assert!(next(&mut bob).await.starts_with("SIP/2.0 200"));

    let mut alice = browser(port).await;
    let message = |name| {
        let rest = "Content-Type: text/plain\r\n\r\nhello";
        Frame::text(request("MESSAGE sip:bob@example.com", name, rest))
    };
    alice.send(message("alice")).await.unwrap();
    let received = next(&mut bob).await;
    assert!(
        received.starts_with("MESSAGE sip:bob@df7jal23ls0d.invalid;transport=ws SIP/2.0"),
        "{received}"
    );
    assert!(received.ends_with("\r\n\r\nhello"), "{received}");
    let lines = |name: &str| {
        let of = |line: &&str| line.to_ascii_lowercase().starts_with(name);
        let found: Vec<&str> = received.lines().filter(of).collect();
        found.join("\r\n")
    };
    let headers = ["via:", "from:", "to:", "call-id:", "cseq:"].map(lines);
    let ok = format!("SIP/2.0 200 OK\r\n{}\r\n\r\n", headers.join("\r\n"));
    bob.send(Frame::text(ok.replace(
        "To: <sip:bob@example.com>",
        "To: <sip:bob@example.com>;tag=2",
    )))
    .await
    .unwrap();
    assert!(next(&mut alice).await.starts_with("SIP/2.0 200"));

    // Without its connection it is nowhere, and the sender learns that at once.
    bob.close(None).await.unwrap();
    while bob.next().await.is_some() {}
    alice.send(message("again")).await.unwrap();
    let answer = next(&mut alice).await;
    assert!(answer.starts_with("SIP/2.0 480"), "{answer}");
}
