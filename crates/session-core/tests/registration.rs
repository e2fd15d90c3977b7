//! Registrations over a simulated network, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use sipora_message::{HeaderName, Method, Request};
use sipora_session_core::{
    Credentials, Error, RegistrationHandle, RegistrationState, SessionCoordinator, SipClient,
};
use sipora_testkit::{Fate, SimHost, SimNetwork};
use support::*;

const REGISTRAR: &str = "sip:192.0.2.10";
const ALICE: &str = "sip:alice@example.com";
const CONTACT: &str = "sip:alice@192.0.2.1:5060";

struct Scene {
    network: SimNetwork,
    client: Arc<SessionCoordinator>,
    server: Server,
}

impl Scene {
    async fn new(script: impl FnMut(&Request, Now) -> Replies + Send + 'static) -> Self {
        Self::with(script, |builder| builder).await
    }

    async fn with(
        script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
        settings: impl FnOnce(
            sipora_session_core::SessionManagerBuilder,
        ) -> sipora_session_core::SessionManagerBuilder,
    ) -> Self {
        let network = SimNetwork::new(1);
        let host = |address: &str| -> SimHost { network.host(address.parse().unwrap()) };
        let server = server(Arc::new(host("192.0.2.10")), "192.0.2.10:5060", script).await;
        let builder = builder(host("192.0.2.1")).with_sip_port(5060);
        let client = settings(builder).build().await.unwrap();
        Scene {
            network,
            client,
            server,
        }
    }

    async fn register(&self, expires: u32) -> Result<RegistrationHandle, Error> {
        self.client
            .register(REGISTRAR, ALICE, CONTACT, expires)
            .await
    }

    fn seen(&self) -> &Seen {
        &self.server.seen
    }

    fn datagrams_to_server(&self) -> usize {
        let packets = self.network.packets();
        packets
            .iter()
            .filter(|packet| packet.destination == self.server.address)
            .count()
    }
}

fn cseq(request: &Request) -> u32 {
    request.headers().cseq().unwrap().number
}

fn status(error: &Error) -> Option<u16> {
    error.response().map(|response| response.status().as_u16())
}

#[tokio::test(start_paused = true)]
async fn refreshes_keep_the_call_id_raise_cseq_and_come_in_time() {
    let bindings = Bindings::default();
    let store = bindings.clone();
    let scene = Scene::new(move |request, now| store.apply(request, now, 600)).await;
    let registration = scene.register(3600).await.unwrap();
    assert_eq!(
        registration.expires, 600,
        "what was granted, not what was asked for"
    );
    for _ in 0..3600 {
        pass(seconds(1)).await;
        assert!(bindings.is_bound(CONTACT, now()), "the binding lapsed");
    }
    let requests = scene.seen().all();
    assert!(
        (7..=9).contains(&requests.len()),
        "{} REGISTERs in an hour",
        requests.len()
    );
    for pair in requests.windows(2) {
        let (one, two) = (pair[0].headers(), pair[1].headers());
        assert_eq!(one.call_id(), two.call_id());
        assert_eq!(one.from().unwrap().tag(), two.from().unwrap().tag());
        assert_eq!(cseq(&pair[0]) + 1, cseq(&pair[1]));
        assert_ne!(one.via().unwrap().branch(), two.via().unwrap().branch());
    }
    let first = requests[0].headers();
    assert_eq!(requests[0].uri_text(), REGISTRAR);
    assert_eq!(first.to().unwrap().uri().as_str(), ALICE);
    assert_eq!(first.from().unwrap().uri().as_str(), ALICE);
    assert!(first.to().unwrap().tag().is_none());
    let left = registration.expires_in();
    assert!(left > seconds(59) && left <= seconds(600), "{left:?}");
    assert_eq!(registration.granted(), 600);
}

#[tokio::test(start_paused = true)]
async fn refreshes_spread_over_time() {
    let scene = Scene::new(|request, _| grant(request, 600)).await;
    let _registration = scene.register(600).await.unwrap();
    pass(seconds(6000)).await;
    let times = scene.seen().times();
    let gaps: Vec<u64> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect();
    assert!(gaps.iter().all(|gap| (485..=541).contains(gap)), "{gaps:?}");
    assert!(
        gaps.iter().any(|gap| *gap != gaps[0]),
        "no jitter: {gaps:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_states_tell_the_story() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let registration = scene.register(60).await.unwrap();
    let mut states = registration.states();
    assert!(matches!(
        states.next().await,
        Some(RegistrationState::Registered { expires: 60, .. })
    ));
    assert!(matches!(
        states.next().await,
        Some(RegistrationState::Refreshing { .. })
    ));
    assert!(matches!(
        states.next().await,
        Some(RegistrationState::Registered { .. })
    ));
    registration.unregister().await.unwrap();
    assert!(matches!(
        states.next().await,
        Some(RegistrationState::Unregistered)
    ));
    assert!(states.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn too_brief_is_tried_once_more_with_the_registrars_minimum() {
    let scene = Scene::new(|request, _| match expires_of(request) {
        Some(asked) if asked < 120 => vec![reply(423).with(HeaderName::MinExpires, 120)],
        Some(asked) => grant(request, asked),
        None => vec![reply(200)],
    })
    .await;
    let registration = scene.register(60).await.unwrap();
    assert_eq!(registration.expires, 120);
    assert_eq!(scene.seen().count(), 2);
    assert_eq!(registration.refresh().await.unwrap(), 120);
    assert_eq!(
        scene.seen().count(),
        3,
        "a refresh knows the minimum already"
    );
    let asked: Vec<u32> = scene.seen().all().iter().map(cseq).collect();
    assert_eq!(asked, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn too_brief_twice_is_a_rejection() {
    let minimum = AtomicU32::new(100);
    let scene = Scene::new(move |_, _| {
        let next = minimum.fetch_add(100, Ordering::Relaxed);
        vec![reply(423).with(HeaderName::MinExpires, next)]
    })
    .await;
    let error = scene.register(60).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(_)));
    assert_eq!(status(&error), Some(423));
    assert_eq!(scene.seen().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn too_brief_without_a_minimum_is_a_rejection_at_once() {
    let scene = Scene::new(|_, _| vec![reply(423)]).await;
    assert_eq!(status(&scene.register(60).await.unwrap_err()), Some(423));
    assert_eq!(scene.seen().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn challenges_are_answered_and_refreshes_are_not_challenged_again() {
    let gate = Gate::server("example.com", "wonderland");
    let scene = Scene::with(
        move |request, now| {
            gate.check(request, now)
                .unwrap_or_else(|| grant(request, 600))
        },
        |builder| builder.with_credentials(alice()),
    )
    .await;
    let registration = scene.register(600).await.unwrap();
    assert_eq!(scene.seen().count(), 2);
    let requests = scene.seen().all();
    assert_eq!(cseq(&requests[1]), cseq(&requests[0]) + 1);
    assert_eq!(
        requests[0].headers().call_id(),
        requests[1].headers().call_id()
    );
    registration.refresh().await.unwrap();
    registration.query().await.unwrap();
    registration.unregister().await.unwrap();
    assert_eq!(scene.seen().count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_stale_nonce_is_replaced_without_an_error() {
    let gate = Gate::short_lived("example.com", "wonderland", seconds(100));
    let scene = Scene::with(
        move |request, now| {
            gate.check(request, now)
                .unwrap_or_else(|| grant(request, 600))
        },
        |builder| builder.with_credentials(alice()),
    )
    .await;
    let registration = scene.register(600).await.unwrap();
    let mut states = registration.states();
    pass(seconds(3000)).await;
    assert!(matches!(
        registration.state(),
        RegistrationState::Registered { .. }
    ));
    assert!(
        scene.seen().count() >= 10,
        "each refresh finds its nonce expired: {}",
        scene.seen().count()
    );
    assert!(!matches!(
        states.next().await,
        Some(RegistrationState::Retrying { .. })
    ));
    let numbers: Vec<u32> = scene.seen().all().iter().map(cseq).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "{numbers:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_sent_once() {
    let gate = Gate::server("example.com", "wonderland");
    let scene = Scene::with(
        move |request, now| {
            gate.check(request, now)
                .unwrap_or_else(|| grant(request, 600))
        },
        |builder| builder.with_credentials(Credentials::new("alice", "looking-glass")),
    )
    .await;
    let error = scene.register(600).await.unwrap_err();
    assert!(
        matches!(&error, Error::AuthenticationFailed { .. }),
        "{error:?}"
    );
    assert_eq!(status(&error), Some(401));
    assert!(error.to_string().contains("example.com"), "{error}");
    pass(seconds(3600)).await;
    assert_eq!(scene.seen().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_password_that_becomes_wrong_ends_the_registration() {
    let gate = Gate::server("example.com", "wonderland");
    let check = gate.clone();
    let scene = Scene::with(
        move |request, now| {
            check
                .check(request, now)
                .unwrap_or_else(|| grant(request, 600))
        },
        |builder| builder.with_credentials(alice()),
    )
    .await;
    let registration = scene.register(600).await.unwrap();
    gate.set_password("changed");
    scene.seen().clear();
    pass(seconds(3600)).await;
    let RegistrationState::Failed(error) = registration.state() else {
        panic!("{:?}", registration.state());
    };
    assert!(
        matches!(*error, Error::AuthenticationFailed { .. }),
        "{error:?}"
    );
    assert!(
        scene.seen().count() <= 2,
        "it loops: {}",
        scene.seen().count()
    );
    scene.seen().clear();
    let refreshed = registration.refresh().await.map(|_| ());
    for outcome in [refreshed, registration.unregister().await] {
        let ended = outcome.unwrap_err();
        assert!(
            matches!(ended, Error::RegistrationEnded { .. }),
            "{ended:?}"
        );
        assert_eq!(
            ended.to_string(),
            format!("the registration has ended: {error}")
        );
        assert_eq!(ended.response().unwrap().status().as_u16(), 401);
    }
    assert_eq!(scene.seen().count(), 0);
    let mut states = registration.states();
    assert!(states.next().await.is_some_and(|state| state.is_terminal()));
    assert!(states.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_credentials_a_challenge_is_a_rejection() {
    let gate = Gate::server("example.com", "wonderland");
    let scene = Scene::new(move |request, now| gate.check(request, now).unwrap()).await;
    let error = scene.register(600).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(_)), "{error:?}");
    assert_eq!(status(&error), Some(401));
    assert_eq!(scene.seen().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_for_another_realm_are_an_authentication_failure_and_stay_home() {
    let gate = Gate::server("example.com", "wonderland");
    let scene = Scene::with(
        move |request, now| gate.check(request, now).unwrap(),
        |builder| builder.with_credentials(alice().for_realm("elsewhere.example")),
    )
    .await;
    let error = scene.register(600).await.unwrap_err();
    assert!(
        matches!(error, Error::AuthenticationFailed { .. }),
        "{error:?}"
    );
    assert_eq!(scene.seen().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_and_a_registrar_each_get_their_own_credentials() {
    let proxy = Gate::proxy("proxy.example", "tea-party");
    let registrar = Gate::server("example.com", "wonderland");
    let scene = Scene::with(
        move |request, now| {
            proxy
                .check(request, now)
                .or_else(|| registrar.check(request, now))
                .unwrap_or_else(|| grant(request, 600))
        },
        |builder| {
            builder
                .with_credentials(Credentials::new("alice", "tea-party").for_realm("proxy.example"))
                .with_credentials(alice().for_realm("example.com"))
        },
    )
    .await;
    let registration = scene.register(600).await.unwrap();
    assert_eq!(scene.seen().count(), 3);
    registration.refresh().await.unwrap();
    assert_eq!(
        scene.seen().count(),
        4,
        "both are answered before they ask again"
    );
    let last = scene.seen().last();
    assert!(last.headers().contains(&HeaderName::Authorization));
    assert!(last.headers().contains(&HeaderName::ProxyAuthorization));
}

#[tokio::test(start_paused = true)]
async fn credentials_of_the_registration_come_before_those_of_the_coordinator() {
    let proxy = Gate::proxy("proxy.example", "tea-party");
    let registrar = Gate::server("example.com", "wonderland");
    let scene = Scene::with(
        move |request, now| {
            proxy
                .check(request, now)
                .or_else(|| registrar.check(request, now))
                .unwrap_or_else(|| grant(request, 600))
        },
        |builder| {
            builder
                .with_credentials(Credentials::new("alice", "tea-party").for_realm("proxy.example"))
                .with_credentials(Credentials::new("alice", "not-this").for_realm("example.com"))
        },
    )
    .await;
    let registration = scene
        .client
        .register_with_credentials(REGISTRAR, ALICE, CONTACT, 600, alice())
        .await;
    let registration = registration.unwrap();
    registration.unregister().await.unwrap();
    assert!(matches!(
        scene.register(600).await,
        Err(Error::AuthenticationFailed { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_silent_registrar_is_asked_with_back_off_until_it_is_back() {
    let answering = Arc::new(AtomicBool::new(true));
    let switch = answering.clone();
    let scene = Scene::new(move |request, _| match switch.load(Ordering::Relaxed) {
        true => grant(request, 120),
        false => silence(),
    })
    .await;
    let registration = scene.register(120).await.unwrap();
    answering.store(false, Ordering::Relaxed);
    scene.seen().clear();
    pass(seconds(3600)).await;
    let RegistrationState::Retrying {
        error, expires_in, ..
    } = registration.state()
    else {
        panic!("{:?}", registration.state());
    };
    assert!(matches!(*error, Error::Timeout { .. }), "{error:?}");
    assert!(expires_in.is_zero());
    assert!(registration.expires_in().is_zero());
    let tries = scene.seen().count();
    assert!((4..=9).contains(&tries), "{tries} tries in an hour");
    let times = scene.seen().times();
    // A transaction takes 32 s; the waits after it grow.
    let waits: Vec<u64> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs() - 32)
        .collect();
    assert!((30..=61).contains(&waits[0]), "{waits:?}");
    assert!((60..=121).contains(&waits[1]), "{waits:?}");
    assert!((120..=241).contains(&waits[2]), "{waits:?}");

    answering.store(true, Ordering::Relaxed);
    let mut states = registration.states();
    while !matches!(
        states.next().await.unwrap(),
        RegistrationState::Registered { .. }
    ) {}
    assert!(registration.expires_in() > seconds(100));
    let numbers: Vec<u32> = scene.seen().all().iter().map(cseq).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "{numbers:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for() {
    let status = Arc::new(AtomicU16::new(200));
    let script = status.clone();
    let scene = Scene::new(move |request, _| match script.load(Ordering::Relaxed) {
        200 => grant(request, 120),
        other => vec![reply(other).with(HeaderName::RetryAfter, 1000)],
    })
    .await;
    let registration = scene.register(120).await.unwrap();
    status.store(503, Ordering::Relaxed);
    scene.seen().clear();
    pass(seconds(1000)).await;
    assert_eq!(scene.seen().count(), 1);
    let RegistrationState::Retrying { retry_in, .. } = registration.state() else {
        panic!("{:?}", registration.state());
    };
    assert!((1000..=1100).contains(&retry_in.as_secs()), "{retry_in:?}");
    status.store(200, Ordering::Relaxed);
    pass(seconds(200)).await;
    assert!(matches!(
        registration.state(),
        RegistrationState::Registered { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_ends_the_registration() {
    for refusal in [400, 403, 404, 603] {
        let status = Arc::new(AtomicU16::new(200));
        let script = status.clone();
        let scene = Scene::new(move |request, _| match script.load(Ordering::Relaxed) {
            200 => grant(request, 120),
            other => vec![reply(other)],
        })
        .await;
        let registration = scene.register(120).await.unwrap();
        status.store(refusal, Ordering::Relaxed);
        pass(seconds(7200)).await;
        assert_eq!(scene.seen().count(), 2, "{refusal}");
        assert!(
            matches!(registration.state(), RegistrationState::Failed(_)),
            "{refusal}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_register_that_fails_leaves_nothing_behind() {
    let scene = Scene::new(|_, _| vec![reply(503)]).await;
    assert_eq!(status(&scene.register(120).await.unwrap_err()), Some(503));
    pass(seconds(3600)).await;
    assert_eq!(scene.seen().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_ends_all_traffic() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let registration = scene.register(60).await.unwrap();
    let mut states = registration.states();
    pass(seconds(100)).await;
    drop(registration);
    let before = scene.datagrams_to_server();
    pass(seconds(3600)).await;
    assert_eq!(
        scene.datagrams_to_server(),
        before,
        "nothing is sent, not even a removal"
    );
    let mut last = None;
    while let Some(state) = states.next().await {
        last = Some(state);
    }
    assert!(matches!(last, Some(RegistrationState::Stopped)), "{last:?}");
    assert_eq!(scene.client.metrics().requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_handle_dropped_during_a_refresh_ends_the_retransmissions() {
    let answering = Arc::new(AtomicBool::new(true));
    let switch = answering.clone();
    let scene = Scene::new(move |request, _| match switch.load(Ordering::Relaxed) {
        true => grant(request, 60),
        false => silence(),
    })
    .await;
    let registration = scene.register(60).await.unwrap();
    answering.store(false, Ordering::Relaxed);
    let mut states = registration.states();
    while !matches!(
        states.next().await.unwrap(),
        RegistrationState::Refreshing { .. }
    ) {}
    pass(seconds(1)).await;
    drop(registration);
    pass(Duration::from_millis(100)).await;
    let before = scene.datagrams_to_server();
    pass(seconds(60)).await;
    assert_eq!(scene.datagrams_to_server(), before);
    assert_eq!(scene.client.metrics().requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_ends_the_retransmissions() {
    let scene = Scene::new(|_, _| silence()).await;
    let wait = tokio::time::timeout(seconds(2), scene.register(60)).await;
    assert!(wait.is_err());
    pass(Duration::from_millis(100)).await;
    let before = scene.datagrams_to_server();
    assert!(before >= 3, "it was sent and sent again: {before}");
    pass(seconds(60)).await;
    assert_eq!(scene.datagrams_to_server(), before);
    assert_eq!(scene.client.metrics().requests, 0);
}

#[tokio::test(start_paused = true)]
async fn the_public_fields_can_be_moved_out() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let registration = scene.register(60).await.unwrap();
    let contact: String = registration.contact_uri;
    let registrar: String = registration.registrar_uri;
    assert_eq!((contact.as_str(), registrar.as_str()), (CONTACT, REGISTRAR));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_registrations_and_closes_everything() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let registration = scene.register(60).await.unwrap();
    let before = tokio::time::Instant::now();
    scene.client.shutdown().await;
    assert!(before.elapsed() < seconds(6));
    assert!(matches!(registration.state(), RegistrationState::Stopped));
    assert!(matches!(registration.refresh().await, Err(Error::Closed)));
    assert!(matches!(registration.query().await, Err(Error::Closed)));
    assert!(matches!(
        registration.unregister().await,
        Err(Error::Closed)
    ));
    assert!(matches!(scene.register(60).await, Err(Error::Closed)));
    assert!(matches!(
        scene.client.send_options(REGISTRAR).await,
        Err(Error::Closed)
    ));
    scene.client.shutdown().await;
    let sent = scene.datagrams_to_server();
    pass(seconds(3600)).await;
    assert_eq!(scene.datagrams_to_server(), sent);
}

#[tokio::test(start_paused = true)]
async fn shutdown_tells_who_waits() {
    let scene = Scene::new(|_, _| silence()).await;
    let client = scene.client.clone();
    let waiting = tokio::spawn(async move { client.register(REGISTRAR, ALICE, CONTACT, 60).await });
    pass(seconds(1)).await;
    scene.client.shutdown().await;
    let result = waiting.await.unwrap();
    assert!(matches!(result, Err(Error::Closed)), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_coordinator_takes_its_registrations_along() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let registration = scene.register(60).await.unwrap();
    let Scene {
        client,
        network,
        server,
    } = scene;
    drop(client);
    pass(seconds(1)).await;
    assert!(matches!(registration.state(), RegistrationState::Stopped));
    let sent = network.packets().len();
    pass(seconds(3600)).await;
    assert_eq!(network.packets().len(), sent);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn query_lists_and_unregister_removes_ours_alone() {
    let bindings = Bindings::default();
    let desk = "sip:alice@198.51.100.7";
    bindings.add(desk, now() + seconds(500));
    let store = bindings.clone();
    let scene = Scene::new(move |request, now| store.apply(request, now, 3600)).await;
    let registration = scene.register(3600).await.unwrap();
    assert_eq!(
        registration.expires, 3600,
        "ours, not the first that is listed"
    );
    let mut listed = registration.query().await.unwrap();
    listed.sort_by_key(|binding| binding.expires);
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].uri.as_str(), listed[0].is_ours), (desk, false));
    assert_eq!((listed[1].uri.as_str(), listed[1].is_ours), (CONTACT, true));
    assert!((499..=500).contains(&listed[0].expires));
    let query = scene.seen().last();
    assert!(
        !query.headers().contains(&HeaderName::Contact)
            && !query.headers().contains(&HeaderName::Expires)
    );

    registration.unregister().await.unwrap();
    assert!(bindings.is_bound(desk, now()) && !bindings.is_bound(CONTACT, now()));
    assert!(registration.expires_in().is_zero());
    assert!(matches!(
        registration.state(),
        RegistrationState::Unregistered
    ));
    registration.unregister().await.unwrap();
    assert!(matches!(registration.query().await, Err(Error::Closed)));
    let sent = scene.seen().count();
    pass(seconds(7200)).await;
    assert_eq!(scene.seen().count(), sent);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_of_zero_removes_and_keeps_nothing_alive() {
    let bindings = Bindings::default();
    bindings.add(CONTACT, now() + seconds(500));
    let store = bindings.clone();
    let scene = Scene::new(move |request, now| store.apply(request, now, 3600)).await;
    let registration = scene.register(0).await.unwrap();
    assert!(!bindings.is_bound(CONTACT, now()));
    assert_eq!(registration.expires, 0);
    assert!(matches!(
        registration.state(),
        RegistrationState::Unregistered
    ));
    registration.unregister().await.unwrap();
    pass(seconds(3600)).await;
    assert_eq!(scene.seen().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_unregister_is_told_and_the_registration_goes_on() {
    let scene = Scene::new(|request, _| match expires_of(request) {
        Some(0) => vec![reply(500)],
        _ => grant(request, 60),
    })
    .await;
    let registration = scene.register(60).await.unwrap();
    assert_eq!(
        status(&registration.unregister().await.unwrap_err()),
        Some(500)
    );
    assert!(matches!(
        registration.state(),
        RegistrationState::Registered { .. }
    ));
    scene.seen().clear();
    pass(seconds(100)).await;
    assert!(scene.seen().count() >= 2, "refreshes go on");
}

#[tokio::test(start_paused = true)]
async fn one_register_at_a_time() {
    // From the second REGISTER on nothing is answered, so each takes the 32 s of a timeout.
    let answering = Arc::new(AtomicBool::new(true));
    let switch = answering.clone();
    let scene = Scene::new(move |request, _| match switch.load(Ordering::Relaxed) {
        true => grant(request, 60),
        false => silence(),
    })
    .await;
    let registration = Arc::new(scene.register(60).await.unwrap());
    answering.store(false, Ordering::Relaxed);
    scene.seen().clear();
    let begun = now();
    let (one, two) = (registration.clone(), registration.clone());
    let (refresh, removal) = tokio::join!(
        tokio::spawn(async move { one.refresh().await.map(drop) }),
        tokio::spawn(async move { two.unregister().await }),
    );
    assert!(matches!(refresh.unwrap(), Err(Error::Timeout { .. })));
    assert!(matches!(removal.unwrap(), Err(Error::Timeout { .. })));
    let times = scene.seen().times();
    assert_eq!(times.len(), 2);
    assert!(times[0] - begun < seconds(1));
    assert!(
        times[1] - times[0] >= seconds(32),
        "the second waited for the end of the first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_does_not_undo_what_was_asked_for() {
    let bindings = Bindings::default();
    let store = bindings.clone();
    let scene = Scene::new(move |request, now| store.apply(request, now, 3600)).await;
    let registration = scene.register(600).await.unwrap();
    let wait = tokio::time::timeout(Duration::from_micros(10), registration.unregister()).await;
    assert!(wait.is_err());
    pass(seconds(1)).await;
    assert!(!bindings.is_bound(CONTACT, now()));
    assert!(matches!(
        registration.state(),
        RegistrationState::Unregistered
    ));
}

#[tokio::test(start_paused = true)]
async fn a_2xx_that_grants_nothing_makes_no_sense() {
    let scene = Scene::new(|request, _| grant(request, 0)).await;
    let error = scene.register(60).await.unwrap_err();
    assert!(matches!(error, Error::ProtocolError { .. }), "{error:?}");
    assert_eq!(status(&error), Some(200));
}

#[tokio::test(start_paused = true)]
async fn provisional_answers_end_nothing() {
    let scene = Scene::new(|request, _| {
        let mut replies = vec![reply(100), reply(183)];
        replies.extend(grant(request, 60));
        replies
    })
    .await;
    assert_eq!(scene.register(60).await.unwrap().expires, 60);
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_a_timeout_after_the_time_allowed() {
    let scene = Scene::with(
        |_, _| silence(),
        |builder| builder.with_request_timeout(seconds(10)),
    )
    .await;
    let begun = tokio::time::Instant::now();
    let error = scene.register(60).await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { after } if after == seconds(10)),
        "{error:?}"
    );
    assert!((10..=11).contains(&begun.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn the_time_allowed_bounds_the_retry_after_423_too() {
    let scene = Scene::with(
        |request, _| match expires_of(request) {
            Some(60) => vec![reply(423).with(HeaderName::MinExpires, 120)],
            _ => silence(),
        },
        |builder| builder.with_request_timeout(seconds(10)),
    )
    .await;
    let begun = tokio::time::Instant::now();
    let error = scene.register(60).await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { after } if after.as_secs() == 10),
        "{error}"
    );
    assert!((10..=11).contains(&begun.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn bad_uris_are_refused_before_anything_is_sent() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let cases = [
        ("sip:alice@192.0.2.10", ALICE, CONTACT, "registrar_uri", 4),
        (
            "sip:192.0.2.10?Subject=x",
            ALICE,
            CONTACT,
            "registrar_uri",
            14,
        ),
        ("tel:+1", ALICE, CONTACT, "registrar_uri", 0),
        (
            REGISTRAR,
            "mailto:alice@example.com",
            CONTACT,
            "from_uri",
            0,
        ),
        (REGISTRAR, ALICE, "*", "contact_uri", 0),
    ];
    for (registrar, from, contact, wrong, place) in cases {
        let error = scene
            .client
            .register(registrar, from, contact, 60)
            .await
            .unwrap_err();
        let Error::InvalidUri {
            argument, offset, ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!((*argument, *offset), (wrong, place), "{error}");
    }
    let secure = scene
        .client
        .register("sips:192.0.2.10", ALICE, CONTACT, 60)
        .await;
    assert!(
        matches!(secure, Err(Error::NotImplemented { .. })),
        "{secure:?}"
    );
    assert_eq!(scene.seen().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn registrations_go_through_the_outbound_proxy() {
    let scene = Scene::with(
        |request, _| grant(request, 60),
        |builder| builder.with_outbound_proxy("sip:192.0.2.10"),
    )
    .await;
    let registration = scene
        .client
        .register("sip:example.com", ALICE, CONTACT, 60)
        .await
        .unwrap();
    let request = scene.seen().last();
    assert_eq!(request.uri_text(), "sip:example.com");
    assert_eq!(
        request.headers().text(&HeaderName::Route).unwrap(),
        "<sip:192.0.2.10;lr>"
    );
    registration.unregister().await.unwrap();
    let first_copies = scene
        .network
        .packets()
        .iter()
        .filter(|packet| packet.fate == Fate::Unreachable)
        .count();
    assert_eq!(first_copies, 0);
}

#[tokio::test(start_paused = true)]
async fn methods_are_registers_only() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let _registration = scene.register(60).await.unwrap();
    pass(seconds(600)).await;
    assert!(
        scene
            .seen()
            .all()
            .iter()
            .all(|request| *request.method() == Method::Register)
    );
}

#[tokio::test(start_paused = true)]
async fn a_grant_of_years_is_believed() {
    for granted in [31_536_000, u32::MAX] {
        let scene = Scene::new(move |request, _| grant(request, granted)).await;
        let registration = scene.register(granted).await.unwrap();
        pass(seconds(10 * 86_400)).await;
        assert_eq!(scene.seen().count(), 1, "{granted}");
        assert_eq!(registration.granted(), granted);
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_unregister_at_once_both_succeed() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let registration = scene.register(60).await.unwrap();
    let (one, two) = tokio::join!(registration.unregister(), registration.unregister());
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!(scene.seen().count(), 2, "it is removed once");
}

#[tokio::test(start_paused = true)]
async fn who_wants_a_refresh_while_one_is_under_way_shares_it() {
    let scene = Scene::new(|request, _| grant(request, 60)).await;
    let registration = scene.register(60).await.unwrap();
    scene.seen().clear();
    let (one, two) = tokio::join!(registration.refresh(), registration.refresh());
    assert_eq!((one.unwrap(), two.unwrap()), (60, 60));
    assert_eq!(scene.seen().count(), 1, "two callers at once");

    let mut states = registration.states();
    while !matches!(
        states.next().await,
        Some(RegistrationState::Refreshing { .. })
    ) {}
    scene.seen().clear();
    assert_eq!(registration.refresh().await.unwrap(), 60);
    assert_eq!(scene.seen().count(), 1, "a caller and the timer");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_is_done_however_many_gave_up_the_wait() {
    let bindings = Bindings::default();
    let store = bindings.clone();
    let answering = Arc::new(AtomicBool::new(true));
    let switch = answering.clone();
    let scene = Scene::new(move |request, now| match switch.load(Ordering::Relaxed) {
        true => store.apply(request, now, 3600),
        false => silence(),
    })
    .await;
    let registration = scene.register(600).await.unwrap();
    answering.store(false, Ordering::Relaxed);
    for _ in 0..50 {
        let wait = tokio::time::timeout(Duration::from_millis(10), registration.query()).await;
        assert!(wait.is_err());
    }
    let wait = tokio::time::timeout(Duration::from_millis(10), registration.unregister()).await;
    assert!(wait.is_err());
    scene.seen().clear();
    pass(seconds(20)).await;
    answering.store(true, Ordering::Relaxed);
    pass(seconds(60)).await;
    assert!(!bindings.is_bound(CONTACT, now()));
    assert!(matches!(
        registration.state(),
        RegistrationState::Unregistered
    ));
    assert!(
        scene.seen().count() <= 2,
        "fifty that gave up cost one more query at most: {}",
        scene.seen().count()
    );
}

#[tokio::test(start_paused = true)]
async fn credentials_of_proxy_and_registrar_are_counted_together() {
    let proxy = Gate::proxy("proxy.example", "tea-party");
    let registrar = Gate::server("example.com", "wonderland");
    let scene = Scene::with(
        move |request, now| {
            proxy
                .check(request, now)
                .or_else(|| registrar.check(request, now))
                .unwrap_or_else(|| grant(request, 600))
        },
        |builder| builder.with_credentials(Credentials::new("alice", "tea-party")),
    )
    .await;
    let registration = scene
        .client
        .register_with_credentials(REGISTRAR, ALICE, CONTACT, 600, alice())
        .await
        .unwrap();
    assert_eq!(
        scene.seen().count(),
        3,
        "407, 401, 200: what the proxy was told is no replay"
    );
    registration.refresh().await.unwrap();
    assert_eq!(scene.seen().count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_broke_between_refreshes_is_opened_again() {
    let scene = Scene::new(|request, _| grant(request, 600)).await;
    let registration = scene
        .client
        .register("sip:192.0.2.10;transport=tcp", ALICE, CONTACT, 600)
        .await
        .unwrap();
    for round in 0..5 {
        let broken = scene
            .network
            .reset("192.0.2.1".parse().unwrap(), "192.0.2.10".parse().unwrap());
        assert_eq!(broken, 1, "round {round}");
        scene.seen().clear();
        let mut states = registration.states();
        while !matches!(
            states.next().await,
            Some(RegistrationState::Refreshing { .. })
        ) {}
        assert!(
            matches!(
                states.next().await,
                Some(RegistrationState::Registered { .. })
            ),
            "{:?}",
            registration.state()
        );
        assert_eq!(scene.seen().count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn times_without_end_are_bounded() {
    let answering = Arc::new(AtomicBool::new(true));
    let switch = answering.clone();
    let scene = Scene::with(
        move |request, _| match switch.load(Ordering::Relaxed) {
            true => grant(request, 60),
            false => silence(),
        },
        |builder| {
            builder
                .with_request_timeout(Duration::MAX)
                .with_registration_backoff(Duration::MAX, Duration::MAX)
        },
    )
    .await;
    let registration = scene.register(60).await.unwrap();
    scene.client.contact_uri("alice", REGISTRAR).await.unwrap();
    answering.store(false, Ordering::Relaxed);
    pass(seconds(120)).await;
    assert!(
        matches!(registration.state(), RegistrationState::Retrying { .. }),
        "{:?}",
        registration.state()
    );
}

#[tokio::test(start_paused = true)]
async fn a_redirection_is_a_refusal_with_its_contacts() {
    let scene =
        Scene::new(|_, _| vec![reply(302).with(HeaderName::Contact, "<sip:192.0.2.11>")]).await;
    let error = scene.register(60).await.unwrap_err();
    assert_eq!(status(&error), Some(302));
    assert_eq!(
        error.response().unwrap().header("Contact").as_deref(),
        Some("<sip:192.0.2.11>")
    );
    pass(seconds(3600)).await;
    assert_eq!(scene.seen().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_registrar_that_lists_nothing_or_strangers_is_refreshed_in_time() {
    for (contacts, latest) in [
        (vec![], 540),
        (vec!["<sip:bob@192.0.2.77>;expires=90"], 45),
        // Ours was rewritten, and another device of the same address-of-record is there too.
        (
            vec![
                "<sip:alice@203.0.113.5:1024>;expires=60",
                "<sip:alice@203.0.113.5:1025>;expires=20",
            ],
            30,
        ),
    ] {
        let lines = contacts.clone();
        let scene = Scene::new(move |_, _| {
            let answer = lines.iter().fold(reply(200), |answer, line| {
                answer.with(HeaderName::Contact, line)
            });
            vec![answer]
        })
        .await;
        let _registration = scene.register(600).await.unwrap();
        pass(seconds(latest + 1)).await;
        assert_eq!(scene.seen().count(), 2, "{contacts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_under_way_at_the_shutdown_is_finished() {
    let bindings = Bindings::default();
    let store = bindings.clone();
    let scene = Scene::new(move |request, now| store.apply(request, now, 600)).await;
    let registration = scene.register(600).await.unwrap();
    let (removal, ()) = tokio::join!(registration.unregister(), async {
        tokio::time::sleep(Duration::from_micros(10)).await;
        scene.client.shutdown().await;
    });
    assert!(removal.is_ok(), "{removal:?}");
    assert!(!bindings.is_bound(CONTACT, now()));
    assert!(matches!(
        registration.state(),
        RegistrationState::Unregistered
    ));
}

#[tokio::test(start_paused = true)]
async fn a_password_refused_to_a_query_or_a_removal_is_not_sent_by_a_refresh() {
    for removes in [false, true] {
        let gate = Gate::server("example.com", "wonderland");
        let check = gate.clone();
        let scene = Scene::with(
            move |request, now| {
                check
                    .check(request, now)
                    .unwrap_or_else(|| grant(request, 600))
            },
            |builder| builder.with_credentials(alice()),
        )
        .await;
        let registration = scene.register(600).await.unwrap();
        gate.set_password("changed");
        scene.seen().clear();
        let outcome = match removes {
            true => registration.unregister().await,
            false => registration.query().await.map(drop),
        };
        assert!(matches!(outcome, Err(Error::AuthenticationFailed { .. })));
        let sent = scene.seen().count();
        pass(seconds(3600)).await;
        assert_eq!(scene.seen().count(), sent, "it went out again");
        assert!(
            matches!(registration.state(), RegistrationState::Failed(_)),
            "{:?}",
            registration.state()
        );
    }
}
