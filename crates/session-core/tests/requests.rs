//! OPTIONS, raw requests, settings and errors over a simulated network.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use sipora_message::{HeaderName, Limits, Method, Request, Uri};
use sipora_session_core::{
    Error, SessionCoordinator, SessionManagerBuilder, SipClient, StaticResolver, TransportFailure,
};
use sipora_testkit::{SimHost, SimNetwork};
use support::*;

const SERVER: &str = "sip:192.0.2.10";

struct Scene {
    network: SimNetwork,
    client: Arc<SessionCoordinator>,
    server: Server,
}

fn host(network: &SimNetwork, address: &str) -> SimHost {
    network.host(address.parse().unwrap())
}

impl Scene {
    async fn new(script: impl FnMut(&Request, Now) -> Replies + Send + 'static) -> Self {
        Self::with(script, |builder| builder).await
    }

    async fn with(
        script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
        settings: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Self {
        let network = SimNetwork::new(1);
        let server = server(
            Arc::new(host(&network, "192.0.2.10")),
            "192.0.2.10:5060",
            script,
        )
        .await;
        let builder = builder(host(&network, "192.0.2.1")).with_sip_port(5060);
        let client = settings(builder).build().await.unwrap();
        Scene {
            network,
            client,
            server,
        }
    }

    async fn raw(&self, request: Request) -> Result<u16, Error> {
        let answer = self.client.send_raw_request(request, seconds(10)).await?;
        Ok(answer.status().as_u16())
    }
}

/// A request of which only some header fields are there.
fn sketch(start_line: &str, headers: &str) -> Request {
    let text = format!("{start_line} SIP/2.0\r\n{headers}Content-Length: 0\r\n\r\n");
    Request::parse(text.into_bytes(), &Limits::default()).unwrap()
}

fn invalid_header(result: Result<u16, Error>) -> String {
    match result {
        Err(Error::InvalidRequest { header, .. }) => header,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn any_final_answer_to_options_is_data() {
    for status in [200, 302, 404, 486, 503, 603] {
        let scene = Scene::new(move |_, _| vec![reply(status).with("X-Why", "because")]).await;
        let answer = scene.client.send_options(SERVER).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.header("x-why").as_deref(), Some("because"));
        let request = scene.server.seen.last();
        assert_eq!(
            request.headers().from().unwrap().uri().as_str(),
            "sip:anonymous@anonymous.invalid"
        );
        assert_eq!(request.headers().to().unwrap().uri().as_str(), SERVER);
        assert!(
            request
                .headers()
                .user_agent()
                .unwrap()
                .starts_with("Sipora/")
        );
        assert_eq!(request.headers().max_forwards().unwrap(), Some(70));
    }
}

#[tokio::test(start_paused = true)]
async fn options_answers_challenges_and_gives_the_refusal_as_data() {
    let gate = Gate::server("example.com", "wonderland");
    let check = gate.clone();
    let scene = Scene::with(
        move |request, now| {
            check
                .check(request, now)
                .unwrap_or_else(|| vec![reply(200)])
        },
        |builder| builder.with_credentials(alice()),
    )
    .await;
    assert_eq!(
        scene
            .client
            .send_options(SERVER)
            .await
            .unwrap()
            .status()
            .as_u16(),
        200
    );
    assert_eq!(scene.server.seen.count(), 2);
    assert_eq!(
        scene
            .client
            .send_options(SERVER)
            .await
            .unwrap()
            .status()
            .as_u16(),
        200
    );
    assert_eq!(
        scene.server.seen.count(),
        3,
        "the second is answered at once"
    );
    gate.set_password("changed");
    scene.server.seen.clear();
    assert_eq!(
        scene
            .client
            .send_options(SERVER)
            .await
            .unwrap()
            .status()
            .as_u16(),
        401
    );
    assert!(scene.server.seen.count() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_raw_request_carries_extra_headers_and_a_body() {
    let scene = Scene::new(|_, _| vec![reply(202)]).await;
    let target = Uri::parse("sip:bob@192.0.2.10").unwrap();
    let request = scene
        .client
        .request(Method::Message, &target)
        .header("X-Ticket", "4711")
        .header("X-Ticket", "4712")
        .body("text/plain", "hello")
        .build()
        .unwrap();
    assert_eq!(scene.raw(request).await.unwrap(), 202);
    let seen = scene.server.seen.last();
    let tickets: Vec<_> = seen.headers().all(&HeaderName::from("X-Ticket")).collect();
    assert_eq!(tickets, [b"4711", b"4712"]);
    assert_eq!(seen.body(), b"hello");
}

#[tokio::test(start_paused = true)]
async fn a_raw_request_gets_what_it_lacks_and_keeps_what_it_has() {
    let scene = Scene::with(
        |_, _| vec![reply(200)],
        |builder| {
            builder
                .with_identity("sip:me@example.com")
                .with_user_agent("Test/1")
        },
    )
    .await;
    scene
        .raw(sketch("OPTIONS sip:bob@192.0.2.10", ""))
        .await
        .unwrap();
    let bare = scene.server.seen.last();
    let headers = bare.headers();
    assert_eq!(headers.to().unwrap().uri().as_str(), "sip:bob@192.0.2.10");
    assert_eq!(headers.from().unwrap().uri().as_str(), "sip:me@example.com");
    assert!(headers.from().unwrap().tag().is_some());
    assert!(headers.call_id().is_ok() && headers.cseq().is_ok());
    assert_eq!(headers.max_forwards().unwrap(), Some(70));
    assert_eq!(headers.user_agent().unwrap(), "Test/1");

    let own = "To: <sip:other@example.com>\r\nFrom: \"Me\" <sip:i@example.com>\r\nCall-ID: mine\r\nCSeq: 7 INFO\r\n\
               Max-Forwards: 3\r\nUser-Agent: Mine\r\n";
    scene
        .raw(sketch("INFO sip:bob@192.0.2.10", own))
        .await
        .unwrap();
    let seen = scene.server.seen.last();
    let headers = seen.headers();
    assert_eq!(
        headers.to().unwrap().uri().as_str(),
        "sip:other@example.com"
    );
    let from = headers.from().unwrap();
    assert_eq!(from.display().unwrap(), "Me");
    assert!(from.tag().is_some(), "the tag alone was added");
    assert_eq!(headers.call_id().unwrap(), "mine");
    assert_eq!(headers.cseq().unwrap().number, 7);
    assert_eq!(headers.max_forwards().unwrap(), Some(3));
    assert_eq!(headers.user_agent().unwrap(), "Mine");
}

#[tokio::test(start_paused = true)]
async fn raw_requests_that_cannot_be_sent_are_refused_with_the_header() {
    let scene = Scene::new(|_, _| vec![reply(200)]).await;
    let target = "sip:bob@192.0.2.10";
    for method in ["INVITE", "ACK", "CANCEL"] {
        let result = scene.raw(sketch(&format!("{method} {target}"), "")).await;
        assert_eq!(invalid_header(result), "method", "{method}");
    }
    let via = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n";
    assert_eq!(
        invalid_header(scene.raw(sketch(&format!("INFO {target}"), via)).await),
        "Via"
    );
    let result = scene
        .raw(sketch(&format!("INFO {target}"), "CSeq: 1 OPTIONS\r\n"))
        .await;
    assert_eq!(invalid_header(result), "CSeq");
    let result = scene
        .raw(sketch(
            &format!("INFO {target}"),
            "CSeq: 2147483648 INFO\r\n",
        ))
        .await;
    assert_eq!(invalid_header(result), "CSeq");
    assert_eq!(
        invalid_header(scene.raw(sketch("REGISTER sip:192.0.2.10", "")).await),
        "To"
    );
    assert_eq!(
        invalid_header(scene.raw(sketch("INFO tel:+1555", "")).await),
        "Request-URI"
    );
    let twice = "From: <sip:a@h>;tag=1\r\nFrom: <sip:b@h>;tag=2\r\n";
    assert_eq!(
        invalid_header(scene.raw(sketch(&format!("INFO {target}"), twice)).await),
        "From"
    );
    assert_eq!(
        invalid_header(
            scene
                .raw(sketch(&format!("INFO {target}"), "Call-ID: a b\r\n"))
                .await
        ),
        "Call-ID"
    );
    assert_eq!(scene.server.seen.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn raw_requests_are_authenticated_unless_they_are_already() {
    let gate = Gate::server("example.com", "wonderland");
    let scene = Scene::with(
        move |request, now| gate.check(request, now).unwrap_or_else(|| vec![reply(200)]),
        |builder| builder.with_credentials(alice()),
    )
    .await;
    assert_eq!(
        scene
            .raw(sketch("INFO sip:192.0.2.10", "CSeq: 5 INFO\r\n"))
            .await
            .unwrap(),
        200
    );
    let numbers: Vec<u32> = scene
        .server
        .seen
        .all()
        .iter()
        .map(|request| request.headers().cseq().unwrap().number)
        .collect();
    assert_eq!(numbers, [5, 6]);
    scene.server.seen.clear();
    let own = "Authorization: Digest username=\"x\", realm=\"example.com\", nonce=\"n\", uri=\"sip:h\", response=\"00\"\r\n";
    assert_eq!(
        scene.raw(sketch("INFO sip:192.0.2.10", own)).await.unwrap(),
        401
    );
    assert_eq!(scene.server.seen.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_raw_request_follows_its_own_route_and_else_the_proxy() {
    let scene = Scene::with(
        |_, _| vec![reply(200)],
        |builder| builder.with_outbound_proxy("sip:192.0.2.10"),
    )
    .await;
    scene
        .raw(sketch("INFO sip:bob@nowhere.invalid", ""))
        .await
        .unwrap();
    let seen = scene.server.seen.last();
    assert_eq!(seen.uri_text(), "sip:bob@nowhere.invalid");
    assert_eq!(
        seen.headers().text(&HeaderName::Route).unwrap(),
        "<sip:192.0.2.10;lr>"
    );
    let own = "Route: <sip:192.0.2.10:5060;lr;mine>\r\n";
    scene
        .raw(sketch("INFO sip:bob@nowhere.invalid", own))
        .await
        .unwrap();
    let seen = scene.server.seen.last();
    assert_eq!(
        seen.headers().text(&HeaderName::Route).unwrap(),
        "<sip:192.0.2.10:5060;lr;mine>"
    );
    assert_eq!(seen.headers().count(&HeaderName::Route), 1);
}

#[tokio::test(start_paused = true)]
async fn a_large_request_over_udp_moves_to_tcp() {
    let scene = Scene::new(|_, _| vec![reply(200)]).await;
    let target = Uri::parse(SERVER).unwrap();
    let request = scene
        .client
        .request(Method::Message, &target)
        .body("text/plain", vec![b'x'; 3000])
        .build()
        .unwrap();
    assert_eq!(scene.raw(request).await.unwrap(), 200);
    assert_eq!(
        scene
            .server
            .seen
            .last()
            .headers()
            .via()
            .unwrap()
            .transport(),
        "TCP"
    );
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_raw_request_bounds_it() {
    let scene = Scene::new(|_, _| vec![reply(100)]).await;
    let begun = tokio::time::Instant::now();
    let request = sketch("INFO sip:192.0.2.10", "");
    let result = scene.client.send_raw_request(request, seconds(3)).await;
    assert!(
        matches!(result, Err(Error::Timeout { after }) if after == seconds(3)),
        "{result:?}"
    );
    assert_eq!(begun.elapsed().as_secs(), 3);
    assert_eq!(scene.client.metrics().requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_zero_sends_nothing() {
    let scene = Scene::new(|_, _| vec![reply(200)]).await;
    let result = scene
        .client
        .send_raw_request(sketch("INFO sip:192.0.2.10", ""), Duration::ZERO)
        .await;
    assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
    pass(seconds(1)).await;
    assert_eq!(scene.server.seen.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn targets_that_cannot_be_reached_are_transport_errors() {
    let scene = Scene::new(|_, _| vec![reply(200)]).await;
    for target in ["sip:192.0.2.10:9;transport=tcp", "sip:192.0.2.10:9"] {
        let result = scene.client.send_options(target).await;
        assert!(
            matches!(result, Err(Error::Transport { .. })),
            "{target}: {result:?}"
        );
    }
    let scene = Scene::with(
        |_, _| vec![reply(200)],
        |b| b.with_resolver(Arc::new(StaticResolver::new())),
    )
    .await;
    let result = scene.client.send_options("sip:nowhere.invalid").await;
    let Err(Error::Transport {
        source: TransportFailure::Resolve(_),
    }) = result
    else {
        panic!("{result:?}")
    };
}

#[tokio::test(start_paused = true)]
async fn without_a_client_everything_says_how_to_get_one() {
    let network = SimNetwork::new(1);
    let client = SessionManagerBuilder::new()
        .with_network(Arc::new(host(&network, "192.0.2.1")))
        .build()
        .await
        .unwrap();
    let results = [
        client
            .register(SERVER, "sip:a@h", "sip:a@h", 60)
            .await
            .map(drop),
        client
            .register_with_credentials(SERVER, "sip:a@h", "sip:a@h", 60, alice())
            .await
            .map(drop),
        client.send_options(SERVER).await.map(drop),
        client
            .send_raw_request(sketch("INFO sip:192.0.2.10", ""), seconds(1))
            .await
            .map(drop),
    ];
    for result in results {
        let Err(error @ Error::NotSupported { .. }) = result else {
            panic!("{result:?}")
        };
        assert!(error.to_string().contains("enable_sip_client"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_arc_and_a_trait_object_are_clients_too() {
    let scene = Scene::new(|_, _| vec![reply(200)]).await;
    async fn ask(client: impl SipClient) -> u16 {
        client.send_options(SERVER).await.unwrap().status().as_u16()
    }
    assert_eq!(ask(scene.client.clone()).await, 200);
    let object: Arc<dyn SipClient> = scene.client.clone();
    assert_eq!(ask(object).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_leaves_nothing_behind() {
    let scene = Scene::new(|_, _| silence()).await;
    for _ in 0..50 {
        let wait = tokio::time::timeout(seconds(1), scene.client.send_options(SERVER)).await;
        assert!(wait.is_err());
    }
    pass(Duration::from_millis(100)).await;
    assert_eq!(scene.client.metrics().requests, 0);
    let sent = || {
        scene
            .network
            .packets()
            .iter()
            .filter(|p| p.destination == scene.server.address)
            .count()
    };
    let before = sent();
    pass(seconds(60)).await;
    assert_eq!(sent(), before);
}

#[tokio::test(start_paused = true)]
async fn the_contact_leads_here_over_the_targets_transport() {
    let scene = Scene::new(|_, _| vec![reply(200)]).await;
    let contact =
        async |user: &str, target: &str| scene.client.contact_uri(user, target).await.unwrap();
    assert_eq!(contact("alice", SERVER).await, "sip:alice@192.0.2.1:5060");
    assert_eq!(
        contact("alice", "sip:192.0.2.10;transport=tcp").await,
        "sip:alice@192.0.2.1:5060;transport=tcp"
    );
    assert_eq!(
        contact("a b@c", SERVER).await,
        "sip:a%20b%40c@192.0.2.1:5060"
    );
    assert_eq!(contact("", SERVER).await, "sip:192.0.2.1:5060");
    let error = scene
        .client
        .contact_uri("alice", "tel:+1")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::InvalidUri {
                argument: "target_uri",
                ..
            }
        ),
        "{error:?}"
    );
    let error = scene
        .client
        .contact_uri("alice", "sip:[2001:db8::1]")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_contact_stands_in_brackets() {
    let network = SimNetwork::new(1);
    let client = builder(host(&network, "2001:db8::1"))
        .with_bind_address("::".parse().unwrap())
        .with_sip_port(5060)
        .build()
        .await
        .unwrap();
    let server = server(
        Arc::new(host(&network, "2001:db8::2")),
        "[2001:db8::2]:5060",
        |_, _| vec![reply(200)],
    )
    .await;
    assert_eq!(
        client
            .send_options("sip:[2001:db8::2]")
            .await
            .unwrap()
            .status()
            .as_u16(),
        200
    );
    let contact = client
        .contact_uri("alice", "sip:[2001:db8::2]")
        .await
        .unwrap();
    assert_eq!(contact, "sip:alice@[2001:db8::1]:5060");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn the_advertised_address_stands_in_via_and_contact() {
    let cases = [
        ("sip.example.com", "sip.example.com:5060"),
        ("203.0.113.5:40000", "203.0.113.5:40000"),
        ("2001:db8::5", "[2001:db8::5]:5060"),
    ];
    for (advertised, expected) in cases {
        let scene = Scene::with(
            |_, _| vec![reply(200)],
            |builder| builder.with_advertised_address(advertised),
        )
        .await;
        scene.client.send_options(SERVER).await.unwrap();
        let seen = scene.server.seen.last();
        let via = seen.headers().via().unwrap();
        assert_eq!(
            format!("{}:{}", via.host_str(), via.port().unwrap()),
            expected
        );
        let contact = scene.client.contact_uri("alice", SERVER).await.unwrap();
        assert_eq!(contact, format!("sip:alice@{expected}"));
    }
}

#[tokio::test(start_paused = true)]
async fn bad_settings_are_named_by_build() {
    let network = SimNetwork::new(1);
    let base = host(&network, "192.0.2.1");
    let fails = async |settings: fn(SessionManagerBuilder) -> SessionManagerBuilder| {
        settings(builder(base.clone())).build().await.unwrap_err()
    };
    let setting = |error: Error| match error {
        Error::InvalidConfiguration { setting, .. } => setting,
        Error::InvalidUri { argument, .. } => argument,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        setting(fails(|b| b.with_advertised_address("not a host")).await),
        "with_advertised_address"
    );
    assert_eq!(
        setting(fails(|b| b.with_advertised_address("0.0.0.0")).await),
        "with_advertised_address"
    );
    assert_eq!(
        setting(fails(|b| b.with_advertised_address("a@b")).await),
        "with_advertised_address"
    );
    assert_eq!(
        setting(fails(|b| b.with_outbound_proxy("proxy.example.com")).await),
        "with_outbound_proxy"
    );
    assert_eq!(
        setting(fails(|b| b.with_identity("tel:+1")).await),
        "with_identity"
    );
    assert_eq!(
        setting(fails(|b| b.with_user_agent("a\r\nEvil: 1")).await),
        "with_user_agent"
    );
    assert_eq!(
        setting(fails(|b| b.with_request_timeout(Duration::ZERO)).await),
        "with_request_timeout"
    );
    assert_eq!(
        setting(fails(|b| b.with_registration_backoff(Duration::ZERO, seconds(1))).await),
        "with_registration_backoff"
    );
    assert!(matches!(
        fails(|b| b.with_outbound_proxy("sips:p")).await,
        Error::NotImplemented { .. }
    ));
    assert!(matches!(
        fails(|b| b.with_bind_address([198, 51, 100, 1].into())).await,
        Error::Listen { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn an_occupied_port_is_an_error_and_a_free_one_is_shared_by_both_transports() {
    let network = SimNetwork::new(1);
    let base = host(&network, "192.0.2.1");
    let first = builder(base.clone()).build().await.unwrap();
    let listeners = first.listeners();
    assert_eq!(listeners.len(), 2);
    assert_eq!(listeners[0].address.port(), listeners[1].address.port());
    assert_eq!(first.local_address(), listeners[0].address);
    assert_eq!(
        listeners[0].to_string(),
        format!("udp 0.0.0.0:{}", listeners[0].address.port())
    );
    let second = builder(base)
        .with_sip_port(listeners[0].address.port())
        .build()
        .await;
    assert!(matches!(second, Err(Error::Listen { .. })), "{second:?}");
}
