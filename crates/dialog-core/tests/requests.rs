//! Requests through an endpoint over a simulated network, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sipora_auth::{AuthError, Credentials};
use sipora_dialog_core::{
    ApiError, Authorizer, DigestAuthorizer, Target, UnifiedDialogApi, next_hop,
};
use sipora_message::{HeaderName, Limits, Method, Request, Response, StatusCode, Uri};
use sipora_testkit::{Conditions, SimHost, SimNetwork};
use sipora_transaction_core::{
    Claim, Context, Endpoint, EndpointConfig, Event, IdSource, IncomingRequest, User,
};
use sipora_transport::{Destination, ResolveError, Resolver, Transport};

type Script = Box<dyn FnMut(&Request) -> Vec<(u16, Vec<(HeaderName, String)>)> + Send>;

struct Scripted {
    script: Script,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl User for Scripted {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        self.seen.lock().unwrap().push(incoming.request.clone());
        for (status, headers) in (self.script)(&incoming.request) {
            let mut builder = context.answer(&incoming.request, StatusCode::new(status).unwrap());
            for (name, value) in headers {
                builder = builder.header(name, value);
            }
            context
                .respond(incoming.transaction, builder.build().unwrap())
                .unwrap();
        }
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}
}

struct Scene {
    network: SimNetwork,
    dialogs: UnifiedDialogApi,
    client: Endpoint,
    _server: Endpoint,
    seen: Arc<Mutex<Vec<Request>>>,
}

fn server_address() -> SocketAddr {
    "192.0.2.10:5060".parse().unwrap()
}

fn host(network: &SimNetwork, address: &str) -> Arc<SimHost> {
    Arc::new(network.host(address.parse().unwrap()))
}

impl Scene {
    async fn new(
        script: impl FnMut(&Request) -> Vec<(u16, Vec<(HeaderName, String)>)> + Send + 'static,
    ) -> Self {
        Self::with(script, |builder| builder).await
    }

    async fn with(
        script: impl FnMut(&Request) -> Vec<(u16, Vec<(HeaderName, String)>)> + Send + 'static,
        settings: impl FnOnce(
            sipora_transaction_core::EndpointBuilder,
        ) -> sipora_transaction_core::EndpointBuilder,
    ) -> Self {
        let network = SimNetwork::new(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut builder = Endpoint::builder()
            .network(host(&network, "192.0.2.10"))
            .ids(IdSource::from_number(2))
            .listen(Transport::Udp, server_address())
            .listen(Transport::Tcp, server_address());
        builder.add_user(Scripted {
            script: Box::new(script),
            seen: seen.clone(),
        });
        let server = builder.build().await.unwrap();
        let local = "192.0.2.1:5060".parse().unwrap();
        let builder = Endpoint::builder()
            .network(host(&network, "192.0.2.1"))
            .ids(IdSource::from_number(1))
            .listen(Transport::Udp, local)
            .listen(Transport::Tcp, local);
        let mut builder = settings(builder);
        let dialogs = UnifiedDialogApi::add_to(&mut builder);
        let client = builder.build().await.unwrap();
        Scene {
            network,
            dialogs,
            client,
            _server: server,
            seen,
        }
    }

    async fn send(&self, request: Request, timeout: Duration) -> Result<Response, ApiError> {
        self.dialogs
            .send_non_dialog_request(request, server_address(), timeout)
            .await
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    fn sent(&self) -> usize {
        self.network
            .packets()
            .iter()
            .filter(|packet| packet.destination == server_address())
            .count()
    }

    async fn assert_nothing_is_left(&self) {
        pass(100).await;
        assert_eq!(self.client.handle().metrics().requests, 0);
        assert_eq!(self.client.handle().metrics().unanswered, 0);
        let sent = self.sent();
        pass(120_000).await;
        assert_eq!(self.sent(), sent, "retransmissions go on");
    }
}

fn request(method: Method, uri: &str) -> Request {
    Request::builder(method, &Uri::parse(uri).unwrap())
        .to(format!("<{uri}>"))
        .from("<sip:alice@example.com>;tag=a1")
        .call_id("one@example.com")
        .cseq(1)
        .build()
        .unwrap()
}

fn options() -> Request {
    request(Method::Options, "sip:192.0.2.10")
}

async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn any_method_with_one_final_answer_is_sent_and_any_final_answer_is_ok() {
    let scene = Scene::new(|request| {
        let status = request
            .headers()
            .text(&HeaderName::from("X-Status"))
            .unwrap()
            .parse()
            .unwrap();
        vec![(status, vec![])]
    })
    .await;
    let methods = [
        Method::Register,
        Method::Options,
        Method::Message,
        Method::Info,
        Method::Publish,
        Method::Other("DANCE".into()),
    ];
    for (method, status) in methods.into_iter().zip([200, 302, 404, 500, 603, 401]) {
        let request = request(method, "sip:192.0.2.10")
            .edit()
            .set("X-Status", status)
            .build()
            .unwrap();
        let response = scene.send(request, 10 * SECOND).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
    }
}

#[tokio::test(start_paused = true)]
async fn provisional_answers_do_not_end_the_wait() {
    let scene = Scene::new(|_| vec![(100, vec![]), (180, vec![]), (200, vec![])]).await;
    assert_eq!(
        scene.send(options(), 10 * SECOND).await.unwrap().status(),
        StatusCode::OK
    );
    let scene = Scene::new(|_| vec![(100, vec![])]).await;
    let result = scene.send(options(), 10 * SECOND).await;
    assert!(
        matches!(result, Err(ApiError::Timeout { .. })),
        "{result:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn invite_ack_and_cancel_are_refused_and_say_what_sends_them() {
    let scene = Scene::new(|_| vec![(200, vec![])]).await;
    for refused in [Method::Invite, Method::Ack, Method::Cancel] {
        let error = scene
            .send(request(refused.clone(), "sip:192.0.2.10"), SECOND)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, ApiError::MethodNotAllowed { method, .. } if *method == refused),
            "{error:?}"
        );
    }
    assert_eq!(scene.sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_request_is_refused_by_the_header_that_is_wrong() {
    let scene = Scene::new(|_| vec![(200, vec![])]).await;
    let wrong = async |request: Request| match scene.send(request, SECOND).await {
        Err(ApiError::InvalidRequest { header, .. }) => header,
        other => panic!("{other:?}"),
    };
    for name in [
        HeaderName::To,
        HeaderName::From,
        HeaderName::CallId,
        HeaderName::CSeq,
        HeaderName::MaxForwards,
    ] {
        assert_eq!(
            wrong(options().edit().remove(name.clone()).build().unwrap()).await,
            name.as_str()
        );
    }
    let edit = |name: &str, value: &str| options().edit().set(name, value).build().unwrap();
    assert_eq!(wrong(edit("From", "<sip:alice@example.com>")).await, "From");
    assert_eq!(wrong(edit("CSeq", "1 INFO")).await, "CSeq");
    assert_eq!(wrong(edit("CSeq", "4294967296 OPTIONS")).await, "CSeq");
    assert_eq!(wrong(edit("CSeq", "2147483648 OPTIONS")).await, "CSeq");
    assert_eq!(wrong(edit("Max-Forwards", "many")).await, "Max-Forwards");
    assert_eq!(
        wrong(edit("Via", "SIP/2.0/UDP h;branch=z9hG4bKx")).await,
        "Via"
    );
    assert_eq!(scene.sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_a_timeout_at_the_time_given() {
    let scene = Scene::new(|_| vec![]).await;
    let begun = tokio::time::Instant::now();
    let error = scene.send(options(), 7 * SECOND).await.unwrap_err();
    assert_eq!(
        error,
        ApiError::Timeout {
            after: 7 * SECOND,
            cseq: Some(1)
        }
    );
    assert_eq!(begun.elapsed().as_secs(), 7);
    scene.assert_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_ends_after_64_t1_however_long_the_wait_may_be() {
    let scene = Scene::new(|_| vec![]).await;
    let begun = tokio::time::Instant::now();
    let error = scene.send(options(), Duration::MAX).await.unwrap_err();
    assert_eq!(error.to_string(), "no final answer within 32s");
    assert_eq!(begun.elapsed().as_secs(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_and_an_unreachable_port_are_transport_errors() {
    let scene = Scene::new(|_| vec![(200, vec![])]).await;
    let nobody: SocketAddr = "192.0.2.10:9".parse().unwrap();
    for uri in [
        "sip:192.0.2.10;transport=tcp",
        "sip:192.0.2.10",
        "sips:192.0.2.10",
        "sip:192.0.2.10;transport=ws",
    ] {
        let request = request(Method::Options, uri);
        let result = scene
            .dialogs
            .send_non_dialog_request(request, nobody, 10 * SECOND)
            .await;
        assert!(
            matches!(result, Err(ApiError::Transport { .. })),
            "{uri}: {result:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_destination_beats_route_and_request_uri() {
    let scene = Scene::new(|_| vec![(200, vec![])]).await;
    for transport in ["udp", "tcp"] {
        let uri = format!("sip:bob@nowhere.invalid;transport={transport}");
        let request = request(Method::Options, &uri)
            .edit()
            .set("Route", "<sip:elsewhere.invalid;lr>")
            .build()
            .unwrap();
        assert_eq!(
            scene.send(request, SECOND).await.unwrap().status(),
            StatusCode::OK
        );
        let seen = scene.seen().pop().unwrap();
        assert_eq!(seen.uri_text(), uri);
        assert_eq!(
            seen.headers().text(&HeaderName::Route).unwrap(),
            "<sip:elsewhere.invalid;lr>"
        );
        assert!(
            seen.headers()
                .via()
                .unwrap()
                .transport()
                .eq_ignore_ascii_case(transport)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_a_cancellation() {
    let scene = Scene::new(|_| vec![]).await;
    let dialogs = scene.dialogs.clone();
    let waiting = tokio::spawn(async move {
        dialogs
            .send_non_dialog_request(options(), server_address(), 30 * SECOND)
            .await
    });
    pass(100).await;
    scene.client.shutdown().await;
    let result = waiting.await.unwrap();
    assert!(
        matches!(result, Err(ApiError::Cancelled { .. })),
        "{result:?}"
    );
    assert!(scene.dialogs.is_closed());
    let result = scene
        .dialogs
        .send_non_dialog_request(options(), server_address(), SECOND)
        .await;
    assert!(
        matches!(result, Err(ApiError::Cancelled { cseq: None })),
        "{result:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_leaves_nothing_behind() {
    let scene = Scene::new(|_| vec![]).await;
    for wait in [0, 1, 700, 3000] {
        let given_up = tokio::time::timeout(
            Duration::from_millis(wait),
            scene.send(options(), 30 * SECOND),
        )
        .await;
        assert!(given_up.is_err());
    }
    scene.assert_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn futures_dropped_while_the_queue_is_full_leave_nothing_behind() {
    let config = EndpointConfig {
        command_queue: 2,
        ..EndpointConfig::default()
    };
    let scene = Scene::with(|_| vec![], |builder| builder.config(config)).await;
    let scene = Arc::new(scene);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let scene = scene.clone();
        tasks.spawn(async move { scene.send(options(), 30 * SECOND).await });
    }
    pass(50).await;
    assert_eq!(scene.client.handle().metrics().requests, 100);
    tasks.shutdown().await;
    scene.assert_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_busy() {
    let mut config = EndpointConfig::default();
    config.transactions.max_requests = 1;
    let scene = Scene::with(|_| vec![], |builder| builder.config(config)).await;
    let (one, two) = tokio::join!(
        scene.send(options(), 5 * SECOND),
        scene.send(options(), 5 * SECOND)
    );
    assert!(matches!(one, Err(ApiError::Timeout { .. })), "{one:?}");
    assert_eq!(two.unwrap_err(), ApiError::Busy { cseq: None });
}

#[derive(Debug)]
struct Hanging;

#[async_trait]
impl Resolver for Hanging {
    async fn resolve(&self, _: &Uri) -> Result<Vec<Destination>, ResolveError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn the_timeout_covers_name_resolution() {
    let scene = Scene::with(
        |_| vec![(200, vec![])],
        |builder| builder.resolver(Arc::new(Hanging)),
    )
    .await;
    let target = Target::Uri(Uri::parse("sip:example.com").unwrap());
    let begun = tokio::time::Instant::now();
    let result = scene
        .dialogs
        .send_request_to(options(), target, 4 * SECOND)
        .await;
    assert!(
        matches!(result, Err(ApiError::Timeout { .. })),
        "{result:?}"
    );
    assert_eq!(begun.elapsed().as_secs(), 4);
    assert_eq!(scene.client.handle().metrics().requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_a_uri_an_address_or_a_flow() {
    let scene = Scene::new(|_| vec![(200, vec![])]).await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Never);
    let uri = Target::Uri(Uri::parse("sip:192.0.2.10;transport=tcp").unwrap());
    let exchange = scene
        .dialogs
        .send_authorized(options(), uri, authorizer, SECOND)
        .await
        .unwrap();
    assert_eq!(exchange.flow.transport, Transport::Tcp);
    assert_eq!(exchange.destination.unwrap().address, server_address());
    let branch = exchange
        .response
        .headers()
        .via()
        .unwrap()
        .branch()
        .unwrap()
        .to_owned();
    assert_eq!(exchange.transaction_id.as_str(), branch);
    for target in [
        Target::Flow(exchange.flow),
        Target::udp(server_address()),
        Target::tcp(server_address()),
    ] {
        assert!(
            scene
                .dialogs
                .send_request_to(options(), target, SECOND)
                .await
                .is_ok()
        );
    }
}

struct Never;

impl Authorizer for Never {
    fn authorize(
        &self,
        _: &Request,
        _: &Response,
        _: &str,
    ) -> Result<Vec<(HeaderName, String)>, AuthError> {
        Err(AuthError::NoCredentials {
            realm: "nowhere".into(),
        })
    }
}

/// Answers every challenge with another number, for ever.
#[derive(Default)]
struct Stubborn(AtomicU32);

impl Authorizer for Stubborn {
    fn authorize(
        &self,
        _: &Request,
        _: &Response,
        _: &str,
    ) -> Result<Vec<(HeaderName, String)>, AuthError> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(vec![(
            HeaderName::Authorization,
            format!("Test number={number}"),
        )])
    }
}

fn challenge() -> Vec<(HeaderName, String)> {
    vec![(
        HeaderName::WwwAuthenticate,
        "Digest realm=\"r\", nonce=\"n\"".to_owned(),
    )]
}

fn to_server() -> Target {
    Target::udp(server_address())
}

#[tokio::test(start_paused = true)]
async fn a_retry_has_a_new_branch_and_the_next_cseq_and_keeps_call_id_and_tag() {
    let scene =
        Scene::new(
            |request| match request.headers().contains(&HeaderName::Authorization) {
                false => vec![(401, challenge())],
                true => vec![(200, vec![])],
            },
        )
        .await;
    let authorizer = Arc::new(Stubborn::default());
    let exchange = scene
        .dialogs
        .send_authorized(options(), to_server(), authorizer, SECOND)
        .await
        .unwrap();
    assert_eq!(exchange.response.status(), StatusCode::OK);
    assert_eq!((exchange.cseq, exchange.retries), (2, 1));
    assert_eq!(exchange.request.headers().cseq().unwrap().number, 2);
    let seen = scene.seen();
    let (one, two) = (seen[0].headers(), seen[1].headers());
    assert_eq!(one.call_id(), two.call_id());
    assert_eq!(one.from().unwrap().tag(), two.from().unwrap().tag());
    assert_ne!(one.via().unwrap().branch(), two.via().unwrap().branch());
    assert_eq!(two.cseq().unwrap().number, 2);
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_never_gives_up_is_stopped() {
    let scene = Scene::new(|_| vec![(401, challenge())]).await;
    let authorizer = Arc::new(Stubborn::default());
    let exchange = scene
        .dialogs
        .send_authorized(options(), to_server(), authorizer, 30 * SECOND)
        .await
        .unwrap();
    assert_eq!(exchange.response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(exchange.retries, 6);
    assert_eq!(scene.seen().len(), 7);
    let headers = exchange.request.headers();
    assert_eq!(
        headers.all(&HeaderName::Authorization).count(),
        1,
        "the old answer is replaced"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_to_answer_comes_back_with_the_challenge() {
    let scene = Scene::new(|_| vec![(407, challenge())]).await;
    let exchange = scene
        .dialogs
        .send_authorized(options(), to_server(), Arc::new(Never), SECOND)
        .await
        .unwrap();
    assert_eq!(exchange.response.status().as_u16(), 407);
    assert_eq!(
        exchange.refusal,
        Some(AuthError::NoCredentials {
            realm: "nowhere".into()
        })
    );
    assert_eq!(exchange.retries, 0);
}

#[tokio::test(start_paused = true)]
async fn errors_after_a_retry_name_the_cseq_last_sent() {
    let scene =
        Scene::new(
            |request| match request.headers().contains(&HeaderName::Authorization) {
                false => vec![(401, challenge())],
                true => vec![],
            },
        )
        .await;
    let authorizer = Arc::new(Stubborn::default());
    let error = scene
        .dialogs
        .send_authorized(options(), to_server(), authorizer, 3 * SECOND)
        .await
        .unwrap_err();
    assert!(matches!(error, ApiError::Timeout { .. }));
    assert_eq!(error.cseq(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn the_retry_goes_to_the_target_that_challenged() {
    let scene =
        Scene::new(
            |request| match request.headers().contains(&HeaderName::Authorization) {
                false => vec![(401, challenge())],
                true => vec![(200, vec![])],
            },
        )
        .await;
    // The first address is silent; the second answers, and the retry goes there at once.
    let silent = host(&scene.network, "192.0.2.11");
    let black_hole = Conditions {
        loss: 1.0,
        ..Conditions::perfect()
    };
    scene
        .network
        .set_way("192.0.2.1".parse().unwrap(), silent.address(), black_hole);
    let targets = vec![
        Destination::udp(SocketAddr::new(silent.address(), 5060)),
        Destination::udp(server_address()),
    ];
    let begun = tokio::time::Instant::now();
    let exchange = scene
        .dialogs
        .send_authorized(
            options(),
            Target::Destinations(targets),
            Arc::new(Stubborn::default()),
            30 * SECOND,
        )
        .await
        .unwrap();
    assert_eq!(exchange.response.status(), StatusCode::OK);
    assert!(
        begun.elapsed() < 6 * SECOND,
        "silence was waited for once: {:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn digest_credentials_answer_and_then_come_first() {
    let scene = Scene::new(
        |request| match request.headers().first(&HeaderName::Authorization) {
            None => vec![(
                401,
                vec![(
                    HeaderName::WwwAuthenticate,
                    "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"".into(),
                )],
            )],
            Some(_) => vec![(200, vec![])],
        },
    )
    .await;
    let authorizer =
        Arc::new(DigestAuthorizer::new([Credentials::new("alice", "wonderland")]).unwrap());
    let first = scene
        .dialogs
        .send_authorized(options(), to_server(), authorizer.clone(), SECOND)
        .await
        .unwrap();
    let second = scene
        .dialogs
        .send_authorized(options(), to_server(), authorizer, SECOND)
        .await
        .unwrap();
    assert_eq!((first.retries, second.retries), (1, 0));
    let values: Vec<String> = scene
        .seen()
        .iter()
        .filter_map(|request| {
            request
                .headers()
                .text(&HeaderName::Authorization)
                .map(|text| text.into_owned())
        })
        .collect();
    assert!(
        values[0].contains("nc=00000001") && values[1].contains("nc=00000002"),
        "{values:?}"
    );
}

#[test]
fn no_credentials_make_no_authorizer() {
    assert!(DigestAuthorizer::new([]).is_none());
}

#[test]
fn the_next_hop_is_a_loose_route_or_the_request_uri() {
    let hop = |uri: &str, route: Option<&str>| {
        let route = route
            .map(|route| format!("Route: {route}\r\n"))
            .unwrap_or_default();
        let text = format!("INFO {uri} SIP/2.0\r\n{route}\r\n");
        let request = Request::parse(text.into_bytes(), &Limits::default()).unwrap();
        next_hop(&request)
            .map(|uri| uri.to_string())
            .map_err(|error| match error {
                ApiError::InvalidRequest { header, .. } => header,
                other => panic!("{other:?}"),
            })
    };
    assert_eq!(hop("sip:b@h", None).unwrap(), "sip:b@h");
    assert_eq!(
        hop("sip:b@h", Some("<sip:p;lr>, <sip:q;lr>")).unwrap(),
        "sip:p;lr"
    );
    assert_eq!(hop("sip:b@h", Some("<sip:strict>")).unwrap(), "sip:b@h");
    assert_eq!(hop("tel:+1", Some("<sip:p;lr>")).unwrap(), "sip:p;lr");
    assert_eq!(hop("tel:+1", None).unwrap_err(), "Request-URI");
    assert_eq!(hop("sip:b@h", Some("<sip:")).unwrap_err(), "Route");
}
