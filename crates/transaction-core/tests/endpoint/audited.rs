//! The auditor at every transport, on real sockets: nothing that endpoints send breaks a rule.

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
use crate::authority::Authority;
use crate::stage::{Client, Order, Server, final_of, request, request_with, send};
use sipora_message::Method;
use sipora_testkit::audit::Auditor;
use sipora_transaction_core::{Endpoint, EndpointConfig, Event, Target, UserHandle};
use sipora_transport::{Destination, Transport};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Settings of a server and of a client that believes it.
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
fn configs() -> (EndpointConfig, EndpointConfig) {
    let authority = Authority::new();
    let with = |names: &[&str]| {
        let mut config = EndpointConfig::default();
        config.transport.tls = Some(authority.config(names).build().unwrap());
        config
    };
    (with(&["example.com"]), with(&[]))
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
fn configs() -> (EndpointConfig, EndpointConfig) {
    Default::default()
}

struct Sides {
    auditor: Arc<Auditor>,
    client: UserHandle<Order>,
    /// To a server that refuses INVITEs, and to one that lets them ring.
    refusing: Target,
    ringing: Target,
    endpoints: Vec<Endpoint>,
}

impl Sides {
    async fn over(transport: Transport) -> Sides {
        let auditor = Arc::new(Auditor::new());
        let (of_server, of_client) = configs();
        let mut endpoints = Vec::new();
        let mut targets = Vec::new();
        for invite in [Some(603), None] {
            let mut builder = Endpoint::builder()
                .config(of_server.clone())
                .observer(auditor.clone())
                .listen(transport, any_port());
            let (mut user, _seen) =
                Server::new(&[Method::Options, Method::Message, Method::Invite]);
            user.invite = invite;
            builder.add_user(user);
            let endpoint = builder.build().await.unwrap();
            targets.push(Target::Destinations(vec![Destination {
                transport,
                address: endpoint.local_addresses()[0].1,
                server_name: Some("example.com".into()),
            }]));
            endpoints.push(endpoint);
        }
        let mut builder = Endpoint::builder()
            .config(of_client)
            .observer(auditor.clone())
            .listen(Transport::Udp, any_port());
        let client = builder.add_user(Client::default());
        endpoints.push(builder.build().await.unwrap());
        let [refusing, ringing] = targets.try_into().unwrap();
        Sides {
            auditor,
            client,
            refusing,
            ringing,
            endpoints,
        }
    }
}

async fn nothing_breaks_a_rule_over(transport: Transport) {
    let sides = Sides::over(transport).await;
    let client = &sides.client;
    for number in 0..20 {
        let options = request(Method::Options, number);
        let (_, mut events) = send(client, options, sides.refusing.clone()).await;
        assert_eq!(final_of(&mut events).await.status().as_u16(), 200);
    }
    let message = request_with(Method::Message, 100, 900);
    let (_, mut events) = send(client, message, sides.refusing.clone()).await;
    assert_eq!(final_of(&mut events).await.status().as_u16(), 200);

    let invite = request(Method::Invite, 200);
    let (_, mut events) = send(client, invite, sides.refusing.clone()).await;
    assert_eq!(final_of(&mut events).await.status().as_u16(), 603);

    let invite = request(Method::Invite, 300);
    let (id, mut events) = send(client, invite, sides.ringing.clone()).await;
    let Some(Event::Response { response, .. }) = events.recv().await else {
        panic!("no response")
    };
    assert_eq!(response.status().as_u16(), 180);
    client.send(Order::Cancel(id)).await.unwrap();
    assert_eq!(final_of(&mut events).await.status().as_u16(), 487);

    for endpoint in sides.endpoints {
        endpoint.shutdown().await;
    }
    // 21 requests with an answer each; INVITE, 180, 603, ACK; INVITE, 180, CANCEL, its 200, 487, ACK. Datagrams may be sent again.
    let seen = sides.auditor.seen();
    match transport {
        Transport::Udp => assert!(seen >= 52, "{seen}"),
        _ => assert_eq!(seen, 52),
    }
    sides.auditor.assert_clean();
}

#[tokio::test]
async fn nothing_over_udp_breaks_a_rule() {
    nothing_breaks_a_rule_over(Transport::Udp).await;
}

#[tokio::test]
async fn nothing_over_tcp_breaks_a_rule() {
    nothing_breaks_a_rule_over(Transport::Tcp).await;
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
#[tokio::test]
async fn nothing_over_tls_breaks_a_rule() {
    nothing_breaks_a_rule_over(Transport::Tls).await;
}

#[cfg(feature = "ws")]
#[tokio::test]
async fn nothing_over_web_socket_breaks_a_rule() {
    nothing_breaks_a_rule_over(Transport::Ws).await;
}

#[cfg(all(feature = "ws", any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
#[tokio::test]
async fn nothing_over_secure_web_socket_breaks_a_rule() {
    nothing_breaks_a_rule_over(Transport::Wss).await;
}
