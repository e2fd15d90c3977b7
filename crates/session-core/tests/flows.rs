//! Connections that end under registrations (RFC 5626 §4.4, §4.5), over a simulated network, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sipora_message::{HeaderName, Request};
use sipora_session_core::{
    IdSource, RegistrationHandle, RegistrationState, SessionCoordinator, SessionManagerBuilder,
    SipClient, UdpKeepAlive,
};
use sipora_testkit::{Conditions, Packet, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::EndpointConfig;
use support::*;

const REGISTRAR: &str = "sip:192.0.2.10;transport=tcp";
const ALICE: &str = "sip:alice@example.com";
const CONTACT: &str = "sip:alice@192.0.2.1:5060;transport=tcp";

struct Scene {
    network: SimNetwork,
    client: Arc<SessionCoordinator>,
    server: Server,
}

fn client_ip() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn server_ip() -> IpAddr {
    "192.0.2.10".parse().unwrap()
}

impl Scene {
    async fn new(script: impl FnMut(&Request, Now) -> Replies + Send + 'static) -> Self {
        Self::with(SimNetwork::new(1), script, |builder| builder).await
    }

    async fn with(
        network: SimNetwork,
        script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
        settings: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Self {
        Self::at(EndpointConfig::default(), network, script, settings).await
    }

    async fn at(
        config: EndpointConfig,
        network: SimNetwork,
        script: impl FnMut(&Request, Now) -> Replies + Send + 'static,
        settings: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Self {
        let host = Arc::new(network.host(server_ip()));
        let server = server_with(host, "192.0.2.10:5060", config, script).await;
        let builder = builder(network.host(client_ip()))
            .with_id_source(IdSource::from_number(network.seed()))
            .with_sip_port(5060);
        let client = settings(builder).build().await.unwrap();
        Scene {
            network,
            client,
            server,
        }
    }

    async fn register(&self, expires: u32) -> RegistrationHandle {
        let registered = self.client.register(REGISTRAR, ALICE, CONTACT, expires);
        registered.await.unwrap()
    }

    async fn register_over_udp(&self, user: &str) -> RegistrationHandle {
        let (address, contact) = (
            format!("sip:{user}@example.com"),
            format!("sip:{user}@192.0.2.1:5060"),
        );
        let registered = self
            .client
            .register("sip:192.0.2.10", &address, &contact, 36_000);
        registered.await.unwrap()
    }

    /// Datagrams of the client that begin so.
    fn sent(&self, beginning: &[u8]) -> usize {
        let packets = self.network.packets();
        let is_one = |packet: &&Packet| {
            packet.source.ip() == client_ip() && packet.bytes.starts_with(beginning)
        };
        packets.iter().filter(is_one).count()
    }

    fn reset(&self) -> usize {
        self.network.reset(client_ip(), server_ip())
    }

    fn count(&self) -> usize {
        self.server.seen.count()
    }
}

/// Passes over states until one of these.
async fn until(
    registration: &RegistrationHandle,
    is_it: impl Fn(&RegistrationState) -> bool,
) -> RegistrationState {
    let mut states = registration.states();
    loop {
        let state = states.next().await.expect("it has ended");
        if is_it(&state) {
            return state;
        }
    }
}

fn is_registered(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Registered { .. })
}

fn is_lost(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::FlowLost { .. })
}

fn is_retrying(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Retrying { .. })
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_reset_is_replaced_at_once() {
    let scene = Scene::new(|request, _| grant(request, 3600)).await;
    let registration = scene.register(3600).await;
    for times in 2..5 {
        pass(seconds(60)).await;
        assert_eq!(scene.reset(), 1);
        let begun = now();
        let RegistrationState::FlowLost {
            retry_in,
            expires_in,
        } = until(&registration, is_lost).await
        else {
            unreachable!()
        };
        assert!(retry_in <= seconds(1) && expires_in > seconds(3500));
        until(&registration, is_registered).await;
        assert!(now() - begun < seconds(3), "{:?}", now() - begun);
        assert_eq!(scene.count(), times);
    }
    let requests = scene.server.seen.all();
    let call_id = |request: &Request| request.headers().call_id().unwrap().to_owned();
    assert!(
        requests
            .iter()
            .all(|one| call_id(one) == call_id(&requests[0]))
    );
}

#[tokio::test(start_paused = true)]
async fn a_registrar_that_closes_the_connection_gets_a_new_one() {
    let closes = Arc::new(AtomicBool::new(false));
    let script = closes.clone();
    let scene = Scene::new(move |request, _| {
        let mut replies = grant(request, 3600);
        if script.swap(false, Ordering::SeqCst) {
            replies = replies.into_iter().map(Reply::and_close).collect();
        }
        replies
    })
    .await;
    let registration = scene.register(3600).await;
    pass(seconds(60)).await;
    closes.store(true, Ordering::SeqCst);
    registration.refresh().await.unwrap();
    assert_eq!(scene.count(), 2);
    pass(seconds(2)).await;
    assert_eq!(scene.count(), 3);
    assert!(is_registered(&registration.state()));
}

#[tokio::test(start_paused = true)]
async fn a_registrar_that_closes_every_connection_is_not_registered_with_in_a_loop() {
    let scene = Scene::new(|request, _| {
        let replies = grant(request, 3600).into_iter();
        replies.map(Reply::and_close).collect()
    })
    .await;
    let registration = scene.register(3600).await;
    pass(seconds(86_400)).await;
    let count = scene.count();
    // Twice an hour at most, once the back-off has grown; refreshes alone would be 24 to 30.
    assert!((30..=120).contains(&count), "{count}");
    assert!(!registration.state().is_terminal());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_leads_nowhere_is_noticed_by_a_ping_and_replaced_with_back_off() {
    let scene = Scene::new(|request, _| grant(request, 36_000)).await;
    let registration = scene.register(36_000).await;
    pass(seconds(600)).await;
    assert_eq!(scene.count(), 1);
    scene.network.part(client_ip(), server_ip());
    let begun = now();
    until(&registration, is_lost).await;
    assert!(now() - begun <= seconds(131), "{:?}", now() - begun);
    let RegistrationState::Retrying { retry_in, .. } = until(&registration, is_retrying).await
    else {
        unreachable!()
    };
    assert!((seconds(30)..=seconds(60)).contains(&retry_in));
    pass(seconds(3600)).await;
    assert_eq!(scene.count(), 1);
    scene.network.join(client_ip(), server_ip());
    until(&registration, is_registered).await;
    pass(seconds(600)).await;
    assert_eq!(scene.count(), 2, "{:?}", registration.state());
}

#[tokio::test(start_paused = true)]
async fn flow_timer_says_how_often_a_registrar_is_pinged() {
    let scene = Scene::new(|request, _| {
        let replies = grant(request, 36_000).into_iter();
        replies
            .map(|reply| reply.with(HeaderName::FlowTimer, 20))
            .collect()
    })
    .await;
    let registration = scene.register(36_000).await;
    pass(seconds(90)).await;
    scene.network.part(client_ip(), server_ip());
    let begun = now();
    until(&registration, is_lost).await;
    assert!(now() - begun <= seconds(31), "{:?}", now() - begun);
}

#[tokio::test(start_paused = true)]
async fn without_pings_a_dead_connection_is_noticed_at_the_next_refresh() {
    let settings = |builder: SessionManagerBuilder| builder.without_keep_alive();
    let script = |request: &Request, _: Now| grant(request, 3600);
    let scene = Scene::with(SimNetwork::new(1), script, settings).await;
    let registration = scene.register(3600).await;
    scene.network.part(client_ip(), server_ip());
    pass(seconds(2900)).await;
    assert!(is_registered(&registration.state()));
    pass(seconds(600)).await;
    assert!(!is_registered(&registration.state()));
}

#[tokio::test(start_paused = true)]
async fn many_registrations_over_one_connection_come_back_over_one_and_not_all_at_once() {
    let scene = Scene::new(|request, _| grant(request, 36_000)).await;
    let mut registrations = Vec::new();
    for user in 0..100 {
        let contact = format!("sip:{user}@192.0.2.1:5060;transport=tcp");
        let address = format!("sip:{user}@example.com");
        let registered = scene.client.register(REGISTRAR, &address, &contact, 36_000);
        registrations.push(registered.await.unwrap());
    }
    pass(seconds(600)).await;
    scene.server.seen.clear();
    assert_eq!(scene.reset(), 1, "they share one");
    pass(seconds(5)).await;
    assert!(registrations.iter().all(|one| is_registered(&one.state())));
    assert_eq!(scene.count(), 100, "each once");
    let times = scene.server.seen.times();
    let span = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    assert!(span > Duration::from_millis(700), "{span:?}");
    assert_eq!(scene.reset(), 1, "and share one again");
}

#[tokio::test(start_paused = true)]
async fn who_has_ended_a_registration_does_not_care_for_its_connection() {
    let scene = Scene::new(|request, _| grant(request, 3600)).await;
    let removed = scene.register(3600).await;
    removed.unregister().await.unwrap();
    drop(scene.register(3600).await);
    pass(seconds(60)).await;
    scene.server.seen.clear();
    assert_eq!(scene.reset(), 1);
    pass(seconds(600)).await;
    assert_eq!(scene.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_sent_once_over_the_new_connection() {
    let gate = Gate::server("example.com", "wonderland");
    let wicket = gate.clone();
    let script = move |request: &Request, now: Now| {
        gate.check(request, now)
            .unwrap_or_else(|| grant(request, 3600))
    };
    let settings = |builder: SessionManagerBuilder| builder.with_credentials(alice());
    let scene = Scene::with(SimNetwork::new(1), script, settings).await;
    let registration = scene.register(3600).await;
    pass(seconds(60)).await;
    scene.server.seen.clear();
    scene.reset();
    pass(seconds(10)).await;
    assert!(is_registered(&registration.state()));
    assert_eq!(scene.count(), 1, "the nonce still holds");
    // Refused over the new connection: an end, and no loop.
    wicket.set_password("looking-glass");
    pass(seconds(60)).await;
    scene.server.seen.clear();
    scene.reset();
    pass(seconds(3600)).await;
    let state = registration.state();
    assert!(matches!(state, RegistrationState::Failed(_)), "{state:?}");
    assert!(scene.count() <= 2, "{}", scene.count());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_whose_connection_is_reset_is_sent_again_at_once() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let script = is_silent.clone();
    let scene = Scene::new(move |request, _| match script.load(Ordering::SeqCst) {
        true => silence(),
        false => grant(request, 3600),
    })
    .await;
    let registration = scene.register(3600).await;
    pass(seconds(60)).await;
    is_silent.store(true, Ordering::SeqCst);
    let refresh = registration.refresh();
    let meanwhile = async {
        pass(seconds(2)).await;
        scene.reset();
        is_silent.store(false, Ordering::SeqCst);
    };
    let (refreshed, ()) = tokio::join!(refresh, meanwhile);
    let begun = now();
    if let Err(error) = refreshed {
        assert!(error.is_temporary(), "{error}");
    }
    until(&registration, is_registered).await;
    assert!(now() - begun < seconds(3), "{:?}", now() - begun);
}

#[tokio::test(start_paused = true)]
async fn a_registrar_that_asks_for_patience_and_hangs_up_gets_it() {
    let is_busy = Arc::new(AtomicBool::new(false));
    let script = is_busy.clone();
    let scene = Scene::new(move |request, _| match script.load(Ordering::SeqCst) {
        true => vec![reply(503).with(HeaderName::RetryAfter, 300).and_close()],
        false => grant(request, 3600),
    })
    .await;
    let registration = scene.register(3600).await;
    pass(seconds(60)).await;
    is_busy.store(true, Ordering::SeqCst);
    registration.refresh().await.unwrap_err();
    let count = scene.count();
    pass(seconds(295)).await;
    assert_eq!(scene.count(), count);
    is_busy.store(false, Ordering::SeqCst);
    until(&registration, is_registered).await;
}

const STUN: &[u8] = &[0, 1];

fn with_stun(builder: SessionManagerBuilder) -> SessionManagerBuilder {
    builder.with_udp_keep_alive(UdpKeepAlive::Stun(seconds(29)))
}

#[tokio::test(start_paused = true)]
async fn a_way_over_udp_that_is_lost_is_found_out_by_stun_and_registered_over_again() {
    let script = |request: &Request, _: Now| grant(request, 36_000);
    let scene = Scene::with(SimNetwork::new(1), script, with_stun).await;
    let registration = scene.register_over_udp("alice").await;
    pass(seconds(600)).await;
    assert!(is_registered(&registration.state()));
    assert_eq!(scene.count(), 1);
    scene.network.part(client_ip(), server_ip());
    let begun = now();
    until(&registration, is_lost).await;
    assert!(now() - begun <= seconds(70), "{:?}", now() - begun);
    scene.network.join(client_ip(), server_ip());
    until(&registration, is_registered).await;
    assert!(now() - begun <= seconds(75), "{:?}", now() - begun);
    let stun = scene.sent(STUN);
    pass(seconds(600)).await;
    assert_eq!(scene.count(), 2);
    assert!(scene.sent(STUN) > stun + 18, "it goes on");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_by_stun_who_has_not_said_that_it_answers() {
    let scene = Scene::new(|request, _| grant(request, 36_000)).await;
    let _registration = scene.register_over_udp("alice").await;
    pass(seconds(3600)).await;
    assert_eq!(scene.sent(STUN), 0);
    for (name, value) in [
        (HeaderName::FlowTimer, "25"),
        (HeaderName::Path, "<sip:edge.example.com;lr;ob>"),
    ] {
        let script = move |request: &Request, _: Now| {
            let replies = grant(request, 36_000).into_iter();
            let name = name.clone();
            replies
                .map(|reply| reply.with(name.clone(), value))
                .collect()
        };
        let scene = Scene::new(script).await;
        let _registration = scene.register_over_udp("alice").await;
        pass(seconds(3600)).await;
        let sent = scene.sent(STUN);
        assert!((120..=185).contains(&sent), "{value}: {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn registrations_over_one_way_are_kept_alive_together_and_no_longer_than_they_last() {
    let script = |request: &Request, _: Now| grant(request, 36_000);
    let scene = Scene::with(SimNetwork::new(1), script, with_stun).await;
    let mut registrations = Vec::new();
    for user in ["alice", "bob", "carol"] {
        registrations.push(scene.register_over_udp(user).await);
    }
    pass(seconds(2900)).await;
    let sent = scene.sent(STUN);
    assert!((100..=125).contains(&sent), "{sent}");
    registrations.pop().unwrap().unregister().await.unwrap();
    registrations.pop();
    pass(seconds(2900)).await;
    assert!(scene.sent(STUN) >= 200);
    registrations.pop();
    pass(seconds(60)).await;
    let sent = scene.sent(STUN);
    pass(seconds(2900)).await;
    assert_eq!(scene.sent(STUN), sent);
}

#[tokio::test(start_paused = true)]
async fn a_registrar_that_answers_no_stun_is_not_registered_with_in_a_loop() {
    let mut config = EndpointConfig::default();
    config.transport.stun_answers = 0;
    let script = |request: &Request, _: Now| grant(request, 3600);
    let scene = Scene::at(config, SimNetwork::new(1), script, with_stun).await;
    let registration = scene.register_over_udp("alice").await;
    pass(seconds(86_400)).await;
    let count = scene.count();
    assert!((30..=120).contains(&count), "{count}");
    assert!(!registration.state().is_terminal());
}

#[tokio::test(start_paused = true)]
async fn line_ends_keep_a_way_open_and_find_nothing_out() {
    let settings = |builder: SessionManagerBuilder| {
        builder.with_udp_keep_alive(UdpKeepAlive::LineEnds(seconds(29)))
    };
    let script = |request: &Request, _: Now| grant(request, 36_000);
    let scene = Scene::with(SimNetwork::new(1), script, settings).await;
    let registration = scene.register_over_udp("alice").await;
    pass(seconds(2900)).await;
    let sent = scene.sent(b"\r\n");
    assert!((99..=125).contains(&sent), "{sent}");
    assert_eq!(scene.sent(STUN), 0);
    scene.network.part(client_ip(), server_ip());
    pass(seconds(2900)).await;
    assert!(is_registered(&registration.state()));
}

/// Resets at any time, on a bad network: who wants to be bound is, most of the time, and nobody floods the registrar.
#[test]
fn a_binding_survives_resets_at_any_time() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let script = |request: &Request, _: Now| grant(request, 600);
        let scene = Scene::with(network, script, |builder| builder).await;
        let registration = scene.register(600).await;
        let mut resets = 0;
        for _ in 0..40 {
            let wait = scene.network.random(0..=200_000);
            pass(Duration::from_millis(wait)).await;
            resets += scene.reset();
        }
        until(&registration, is_registered).await;
        let count = scene.count();
        assert!(count <= 2 * resets + 40, "{count} for {resets} resets");
        scene.client.shutdown().await;
        let state = registration.state();
        assert!(matches!(state, RegistrationState::Stopped), "{state:?}");
        scene.server.endpoint.shutdown().await;
    });
}

fn keeping(seconds: u32) -> impl FnMut(&Request, Now) -> Replies + Send + 'static {
    move |request, _| {
        let replies = grant(request, 36_000).into_iter();
        replies.map(|reply| reply.and_keep(seconds)).collect()
    }
}

fn offers(request: &Request) -> bool {
    let via = request.headers().via().unwrap();
    via.params().contains("keep")
}

#[tokio::test(start_paused = true)]
async fn keep_alives_are_offered_by_what_binds_and_by_nothing_else() {
    let script = |request: &Request, _: Now| grant(request, 36_000);
    let scene = Scene::new(script).await;
    let registration = scene.register(36_000).await;
    registration.refresh().await.unwrap();
    registration.query().await.unwrap();
    registration.unregister().await.unwrap();
    scene.client.send_options(REGISTRAR).await.unwrap();
    let offered: Vec<_> = scene.server.seen.all().iter().map(offers).collect();
    assert_eq!(offered, [true, true, false, false, false]);

    let settings = |builder: SessionManagerBuilder| builder.without_keep_alive();
    let scene = Scene::with(SimNetwork::new(1), script, settings).await;
    let _registration = scene.register(36_000).await;
    assert!(!offers(&scene.server.seen.last()));
}

#[tokio::test(start_paused = true)]
async fn keep_alives_that_were_offered_come_as_often_as_they_are_wanted() {
    // As Flow-Timer would: the shorter of two counts.
    for (keep, timer) in [(20, 0), (20, 600), (600, 20)] {
        let mut script = keeping(keep);
        let scene = Scene::new(move |request, now| {
            let replies = script(request, now).into_iter();
            replies
                .map(|reply| reply.with(HeaderName::FlowTimer, timer))
                .collect()
        })
        .await;
        let registration = scene.register(36_000).await;
        pass(seconds(90)).await;
        scene.network.part(client_ip(), server_ip());
        let begun = now();
        until(&registration, is_lost).await;
        assert!(now() - begun <= seconds(31), "{:?}", now() - begun);
    }
}

#[tokio::test(start_paused = true)]
async fn over_udp_keep_alives_that_were_offered_are_stun_from_their_taking_to_their_end() {
    // 0: they are wanted, and how often is for us to say.
    for (keep, expected) in [(25, 140..=185), (0, 120..=155), (60, 58..=78)] {
        let scene = Scene::new(keeping(keep)).await;
        let _registration = scene.register_over_udp("alice").await;
        pass(seconds(3600)).await;
        let sent = scene.sent(STUN);
        assert!(expected.contains(&sent), "{keep}: {sent}");
    }

    // Each REGISTER offers them anew: the answer may want them at other times, or not any more.
    let mut answers = [Some(60), Some(10), None].into_iter();
    let scene = Scene::new(move |request, _| {
        let mut replies = grant(request, 36_000);
        replies[0].keep = answers.next().flatten();
        replies
    })
    .await;
    let registration = scene.register_over_udp("alice").await;
    for expected in [10..=13, 60..=76, 0..=0] {
        let before = scene.sent(STUN);
        pass(seconds(600)).await;
        let sent = scene.sent(STUN) - before;
        assert!(expected.contains(&sent), "{expected:?}: {sent}");
        registration.refresh().await.unwrap();
    }
    assert!(is_registered(&registration.state()));
}
