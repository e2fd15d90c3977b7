//! `sips` over TLS.

use crate::authority::Authority;
use crate::stage::{Client, Server, final_of, ip, pass, request, send};
use sipora_message::{Method, Response, StatusCode};
use sipora_testkit::{SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{
    Endpoint, EndpointBuilder, EndpointConfig, EndpointError, Event, Target,
};
use sipora_transport::{
    Destination, StaticResolver, TlsConfig, Transport, TransportConfig, Transports,
};
use std::sync::Arc;

/// An endpoint at 192.0.2.`last` that listens for TCP, and for what follows.
fn builder(network: &SimNetwork, last: u8, tls: TlsConfig) -> EndpointBuilder {
    let resolver = StaticResolver::new().with("server.example.com", ip(1));
    let config = EndpointConfig {
        transport: TransportConfig {
            tls: Some(tls.build().unwrap()),
            ..Default::default()
        },
        ..Default::default()
    };
    Endpoint::builder()
        .network(Arc::new(network.host(ip(last))))
        .resolver(Arc::new(resolver.with("other.example.com", ip(1))))
        .config(config)
        .listen(Transport::Tcp, (ip(last), 5060).into())
}

fn uri(text: &str) -> Target {
    Target::Uri(text.parse().unwrap())
}

#[test]
fn a_sips_uri_is_reached_by_tls_at_5061_and_by_nothing_else() {
    for_each_seed(seeds(), |network| async move {
        let authority = Authority::new();
        let tls = authority.config(&["sip:server.example.com"]);
        let mut server = builder(&network, 1, tls).listen(Transport::Tls, (ip(1), 5061).into());
        let (user, seen) = Server::new(&[Method::Options]);
        server.add_user(user);
        let server = server.build().await.unwrap();
        assert_eq!(
            server.local_addresses()[1],
            (Transport::Tls, (ip(1), 5061).into())
        );

        let mut client = builder(&network, 2, authority.config(&[]));
        let handle = client.add_user(Client::default());
        let _client = client.build().await.unwrap();
        let target = uri("sips:bob@server.example.com");
        let (_, mut events) = send(&handle, request(Method::Options, 1), target).await;
        assert_eq!(final_of(&mut events).await.status().as_u16(), 200);
        let (_, received) = seen.lock().unwrap().last.clone().unwrap();
        assert_eq!(received.headers().via().unwrap().transport(), "TLS");

        // The same address, but not who was asked for.
        let target = uri("sips:bob@other.example.com");
        let (_, mut events) = send(&handle, request(Method::Options, 2), target).await;
        let failed = events.recv().await.unwrap();
        assert!(matches!(failed, Event::Failed { .. }), "{failed:?}");
        assert_eq!(seen.lock().unwrap().offered.len(), 1);
    });
}

#[test]
fn a_tls_listener_without_a_certificate_is_an_error() {
    for_each_seed(0..1, |network| async move {
        let tls = Authority::new().config(&[]);
        let built = builder(&network, 1, tls).listen(Transport::Tls, (ip(1), 5061).into());
        let error = built.build().await.unwrap_err();
        assert!(matches!(&error, EndpointError::Bind(_)), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    });
}

#[test]
fn an_answer_whose_connection_is_gone_is_not_given_to_a_stranger_who_has_connected() {
    for_each_seed(0..5, |network| async move {
        // What goes over the wire here is no SIP until it is unwrapped.
        network.auditor().turn_off();
        let authority = Authority::new();
        let tls = authority.config(&["sip:server.example.com"]);
        let mut endpoint = builder(&network, 1, tls).listen(Transport::Tls, (ip(1), 5061).into());
        let (mut server, seen) = Server::new(&[Method::Options]);
        server.mute = true;
        endpoint.add_user(server);
        let endpoint = endpoint.build().await.unwrap();

        // Two clients behind one address, neither with a certificate.
        let host = Arc::new(network.host(ip(2)));
        let client = || {
            let config = TransportConfig {
                tls: Some(authority.config(&[]).build().unwrap()),
                ..Default::default()
            };
            Transports::new(host.clone(), config)
        };
        let destination = Destination {
            transport: Transport::Tls,
            address: (ip(1), 5061).into(),
            server_name: Some("server.example.com".into()),
        };
        let (victim, _victim_in) = client();
        let flow = victim.open(&destination).await.unwrap();
        // It listens, it says, where the stranger will come from: the next port.
        let port = victim.local_addr(&flow).unwrap().port() + 1;
        let via = format!("SIP/2.0/TLS 192.0.2.2:{port};branch=z9hG4bK1");
        let asked = request(Method::Options, 1).with_top_via(&via);
        victim.try_send(&flow, asked.to_bytes()).unwrap();
        pass(1).await;
        network.reset(ip(1), ip(2));
        let (stranger, mut stranger_in) = client();
        let flow = stranger.open(&destination).await.unwrap();
        assert_eq!(stranger.local_addr(&flow).unwrap().port(), port);
        pass(1).await;
        let (transaction, asked) = seen.lock().unwrap().last.clone().unwrap();
        let answer = Response::for_request(&asked, StatusCode::OK).to_tag("x");
        let answer = answer.build().unwrap();
        let outcome = endpoint.handle().respond(transaction, answer).await;
        assert_eq!(outcome, Ok(Ok(())));
        pass(1).await;
        assert!(stranger_in.try_recv().is_none(), "the stranger has it");
    });
}
