//! Others subscribe to what an application tells; NOTIFYs come that nobody asked for. Two coordinators, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sipora_message::{HeaderName, Method, Uri};
use sipora_session_core::{
    Answer, CustomPackage, Error, Incoming, SessionCoordinator, SessionHandler,
    SessionManagerBuilder, SipClient, StatusCode, SubscribeAnswer, SubscriptionEnd,
    SubscriptionHandle, SubscriptionState, TerminationReason, Watcher, WatcherEnd,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use support::*;

const STATION: &str = "sip:station@192.0.2.2";
const PLAIN: &str = "text/plain";

/// What the station does with who asks.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Open,
    Ask,
    Shut,
    Success,
    Slow,
    Broken,
    Careless,
    Leaving,
}

#[derive(Clone)]
struct Station {
    mood: Arc<Mutex<Mood>>,
    watchers: Arc<Mutex<Vec<Arc<Watcher>>>>,
    notified: Arc<Mutex<Vec<String>>>,
}

impl Station {
    fn new(mood: Mood) -> Self {
        Station {
            mood: Arc::new(Mutex::new(mood)),
            watchers: Arc::default(),
            notified: Arc::default(),
        }
    }

    fn watcher(&self) -> Arc<Watcher> {
        self.watchers.lock().unwrap().last().unwrap().clone()
    }
}

#[async_trait]
impl SessionHandler for Station {
    async fn on_subscribe(&self, incoming: &Incoming<'_>, watcher: Watcher) -> SubscribeAnswer {
        assert_eq!(incoming.event().as_deref(), Some("weather"));
        assert_eq!(watcher.event(), "weather");
        assert_eq!(watcher.resource().as_str(), STATION);
        assert_eq!(watcher.subscriber(), incoming.from());
        let mood = *self.mood.lock().unwrap();
        watcher.notify(PLAIN, "sunny").unwrap();
        let watcher = Arc::new(watcher);
        if mood != Mood::Careless {
            self.watchers.lock().unwrap().push(watcher.clone());
        }
        match mood {
            Mood::Open | Mood::Careless => SubscribeAnswer::Active,
            Mood::Ask => SubscribeAnswer::Pending,
            Mood::Shut => {
                let answer = Answer::new(StatusCode::FORBIDDEN).with_reason("Members Only");
                SubscribeAnswer::Refuse(answer)
            }
            Mood::Success => SubscribeAnswer::Refuse(Answer::ok()),
            Mood::Slow => {
                pass(seconds(60)).await;
                SubscribeAnswer::Active
            }
            Mood::Broken => panic!("as the test wants it"),
            Mood::Leaving => {
                watcher
                    .terminate(TerminationReason::NoResource, None)
                    .unwrap();
                SubscribeAnswer::Active
            }
        }
    }

    async fn on_notify(&self, incoming: &Incoming<'_>) -> Answer {
        let Some(Ok(summary)) = incoming.message_summary() else {
            return Answer::new(StatusCode::BAD_REQUEST);
        };
        let event = incoming.event().unwrap();
        let line = format!("{event} {}", summary.waiting);
        self.notified.lock().unwrap().push(line);
        Answer::ok()
    }
}

struct Scene {
    network: SimNetwork,
    alice: Arc<SessionCoordinator>,
    host: Arc<SessionCoordinator>,
    station: Station,
}

impl Scene {
    async fn new(mood: Mood) -> Self {
        Self::on(SimNetwork::new(1), mood, |builder| builder).await
    }

    async fn on(
        network: SimNetwork,
        mood: Mood,
        settings: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Self {
        let station = Station::new(mood);
        let package = CustomPackage::new("weather")
            .with_type(PLAIN)
            .with_interval(seconds(10));
        let host = SessionManagerBuilder::new()
            .with_network(Arc::new(network.host("192.0.2.2".parse().unwrap())))
            .with_id_source(sipora_session_core::IdSource::from_number(9))
            .with_sip_port(5060)
            .with_event_package(package)
            .with_handler(Arc::new(station.clone()));
        Scene {
            alice: builder(network.host("192.0.2.1".parse().unwrap()))
                .with_identity("sip:alice@example.com")
                .with_sip_port(5060)
                .build()
                .await
                .unwrap(),
            host: settings(host).build().await.unwrap(),
            station,
            network,
        }
    }

    async fn subscribe(&self) -> Result<SubscriptionHandle, Error> {
        self.alice.subscribe(STATION, "weather", 600).await
    }

    async fn refusal(&self) -> sipora_session_core::SipResponse {
        let error = self.subscribe().await.unwrap_err();
        error.response().unwrap().clone()
    }
}

async fn text(handle: &mut SubscriptionHandle) -> String {
    let told = handle.next().await.unwrap();
    String::from_utf8(told.body().to_vec()).unwrap()
}

fn reason(state: SubscriptionState) -> TerminationReason {
    match state {
        SubscriptionState::Terminated(SubscriptionEnd::ByNotifier { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_tells_what_it_is_asked_and_what_changes() {
    let scene = Scene::new(Mood::Open).await;
    let mut weather = scene.subscribe().await.unwrap();
    assert_eq!(text(&mut weather).await, "sunny");
    assert!(matches!(weather.state(), SubscriptionState::Active { .. }));
    assert_eq!(scene.host.watcher_count(), 1);
    let watcher = scene.station.watcher();
    assert_eq!(watcher.expires(), 600);
    for change in ["cloudy", "rain", "snow"] {
        watcher.notify(PLAIN, change).unwrap();
        pass(seconds(1)).await;
    }
    assert_eq!(text(&mut weather).await, "snow", "at the package's pace");
    for wrong in ["", "text", "text/", "text/plain\r\nEvil: 1", "text plain/x"] {
        let error = watcher.notify(wrong, "x").unwrap_err();
        assert!(matches!(error, Error::InvalidRequest { .. }), "{wrong:?}");
    }
    assert_eq!(weather.refresh().await.unwrap(), 600);
    assert_eq!(text(&mut weather).await, "snow", "again, as it was asked");
    assert!(watcher.end().is_none());
    weather.terminate().await.unwrap();
    assert!(matches!(watcher.ended().await, WatcherEnd::Unsubscribed));
    assert!(matches!(watcher.notify(PLAIN, "fog"), Err(Error::Closed)));
    pass(seconds(1)).await;
    assert_eq!(scene.host.watcher_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_pending_hears_nothing_until_it_is_allowed() {
    let scene = Scene::new(Mood::Ask).await;
    let mut weather = scene.subscribe().await.unwrap();
    assert_eq!(text(&mut weather).await, "");
    pass(seconds(20)).await;
    assert!(matches!(weather.state(), SubscriptionState::Pending { .. }));
    let watcher = scene.station.watcher();
    watcher.notify(PLAIN, "hail").unwrap();
    pass(seconds(20)).await;
    watcher.allow().unwrap();
    assert_eq!(text(&mut weather).await, "hail");
    assert!(matches!(weather.state(), SubscriptionState::Active { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_application_ends_a_subscription_with_its_reason() {
    let scene = Scene::new(Mood::Open).await;
    let mut weather = scene.subscribe().await.unwrap();
    text(&mut weather).await;
    let watcher = scene.station.watcher();
    watcher
        .terminate(TerminationReason::GiveUp, Some(seconds(90)))
        .unwrap();
    assert!(matches!(watcher.ended().await, WatcherEnd::Terminated));
    pass(seconds(1)).await;
    let SubscriptionState::Terminated(end) = weather.state() else {
        panic!("{:?}", weather.state());
    };
    assert_eq!(
        end.resubscribe(),
        Some(sipora_session_core::Resubscribe::After(seconds(90)))
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_wished_before_the_answer_holds_after_it() {
    let scene = Scene::new(Mood::Leaving).await;
    let mut weather = scene.subscribe().await.unwrap();
    assert_eq!(text(&mut weather).await, "sunny");
    pass(seconds(1)).await;
    assert_eq!(reason(weather.state()), TerminationReason::NoResource);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_is_dropped_ends_politely() {
    let scene = Scene::new(Mood::Careless).await;
    let mut weather = scene.subscribe().await.unwrap();
    text(&mut weather).await;
    pass(seconds(1)).await;
    assert_eq!(reason(weather.state()), TerminationReason::Probation);
    assert_eq!(scene.host.watcher_count(), 0);

    *scene.station.mood.lock().unwrap() = Mood::Open;
    let mut weather = scene.subscribe().await.unwrap();
    text(&mut weather).await;
    scene.station.watchers.lock().unwrap().clear();
    pass(seconds(1)).await;
    assert_eq!(reason(weather.state()), TerminationReason::Probation);
}

#[tokio::test(start_paused = true)]
async fn refusals_failures_and_delays_have_their_statuses() {
    for (mood, status) in [
        (Mood::Shut, 403),
        (Mood::Success, 500),
        (Mood::Slow, 500),
        (Mood::Broken, 500),
    ] {
        let scene = Scene::new(mood).await;
        let answer = scene.refusal().await;
        assert_eq!(answer.status().as_u16(), status);
        if mood == Mood::Shut {
            assert_eq!(answer.reason(), "Members Only");
        }
        assert!(answer.header("Server").is_some());
        pass(seconds(60)).await;
        assert!(matches!(
            scene.station.watcher().end(),
            Some(WatcherEnd::Stopped)
        ));
        assert_eq!(scene.host.watcher_count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn other_events_get_489_and_what_there_is_instead() {
    let scene = Scene::new(Mood::Open).await;
    let refused = scene.alice.subscribe(STATION, "dialog", 600).await;
    let refused = refused.unwrap_err();
    let answer = refused.response().unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_EVENT);
    assert_eq!(answer.header("Allow-Events").as_deref(), Some("weather"));
    let answer = scene.alice.send_options(STATION).await.unwrap();
    assert_eq!(
        answer.header("Allow").as_deref(),
        Some("OPTIONS, MESSAGE, NOTIFY, SUBSCRIBE")
    );
    assert_eq!(answer.header("Allow-Events").as_deref(), Some("weather"));
}

struct Silent;

impl SessionHandler for Silent {}

#[tokio::test(start_paused = true)]
async fn by_default_nothing_is_served() {
    let network = SimNetwork::new(1);
    let with = |address: &str| {
        SessionManagerBuilder::new()
            .with_network(Arc::new(network.host(address.parse().unwrap())))
            .with_sip_port(5060)
    };
    let without_package = with("192.0.2.2").with_handler(Arc::new(Silent));
    let _one = without_package.build().await.unwrap();
    let without_answer = with("192.0.2.3")
        .with_event_package(CustomPackage::new("weather"))
        .with_handler(Arc::new(Silent));
    let _two = without_answer.build().await.unwrap();
    let _three = with("192.0.2.4").build().await.unwrap();
    let alice = builder(network.host("192.0.2.1".parse().unwrap()));
    let alice = alice.build().await.unwrap();
    for (host, status, events) in [
        ("192.0.2.2", 489, None),
        ("192.0.2.3", 489, Some("weather")),
        ("192.0.2.4", 405, None),
    ] {
        let target = format!("sip:{host}");
        let refused = alice.subscribe(&target, "weather", 600).await.unwrap_err();
        let answer = refused.response().unwrap();
        assert_eq!(answer.status().as_u16(), status, "{host}");
        assert_eq!(answer.header("Allow-Events").as_deref(), events);
    }
}

#[tokio::test]
async fn a_package_wants_a_handler_and_a_name_of_its_own() {
    let builder = || SessionManagerBuilder::new().with_bind_address([127, 0, 0, 1].into());
    let alone = builder().with_event_package(CustomPackage::new("weather"));
    let nameless = builder()
        .with_event_package(CustomPackage::new("no name"))
        .with_handler(Arc::new(Silent));
    let twice = builder()
        .with_event_package(CustomPackage::new("weather"))
        .with_event_package(CustomPackage::new("weather"))
        .with_handler(Arc::new(Silent));
    for builder in [alone, nameless, twice] {
        let error = builder.build().await.unwrap_err();
        assert!(matches!(error, Error::InvalidConfiguration { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_who_wait_are_sent_away_and_the_others_are_served() {
    let scene = Scene::new(Mood::Slow).await;
    let alice = scene.alice.clone();
    let asked: Vec<_> = (0..200)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.subscribe(STATION, "weather", 600).await })
        })
        .collect();
    let mut statuses = Vec::new();
    for asked in asked {
        let error = asked.await.unwrap().unwrap_err();
        statuses.push(error.response().unwrap().status().as_u16());
    }
    let busy = statuses.iter().filter(|status| **status == 503).count();
    assert!((30..=72).contains(&busy), "{busy} refused");
    assert!(statuses.iter().all(|status| matches!(status, 500 | 503)));
    *scene.station.mood.lock().unwrap() = Mood::Open;
    let _weather = scene.subscribe().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_gone_is_noticed() {
    let scene = Scene::new(Mood::Open).await;
    let mut weather = scene.subscribe().await.unwrap();
    text(&mut weather).await;
    let watcher = scene.station.watcher();
    drop(weather);
    pass(seconds(11)).await;
    watcher.notify(PLAIN, "fog").unwrap();
    let end = watcher.ended().await;
    assert!(
        matches!(end, WatcherEnd::Refused(StatusCode::CALL_DOES_NOT_EXIST)),
        "{end:?}"
    );

    let _weather = scene.subscribe().await.unwrap();
    pass(seconds(11)).await;
    let watcher = scene.station.watcher();
    let ip = |text: &str| text.parse().unwrap();
    scene.network.part(ip("192.0.2.1"), ip("192.0.2.2"));
    watcher.notify(PLAIN, "mist").unwrap();
    let end = watcher.ended().await;
    assert!(matches!(end, WatcherEnd::Unreachable(_)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_every_watcher() {
    let scene = Scene::new(Mood::Open).await;
    let mut weather = scene.subscribe().await.unwrap();
    text(&mut weather).await;
    let watcher = scene.station.watcher();
    scene.host.shutdown().await;
    let end = tokio::time::timeout(seconds(1), watcher.ended()).await;
    assert!(matches!(end.unwrap(), WatcherEnd::Stopped));
    assert!(matches!(watcher.notify(PLAIN, "x"), Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn one_request_that_comes_by_two_ways_is_asked_about_once() {
    let scene = Scene::new(Mood::Open).await;
    let request = |method, name: HeaderName, value: &str| {
        let target = Uri::parse(STATION).unwrap();
        let request = scene.alice.request(method, &target);
        let request = request.header(name, value).contact("<sip:192.0.2.1>");
        request.build().unwrap()
    };
    let subscribe = request(Method::Subscribe, HeaderName::Event, "weather");
    let message = request(Method::Notify, HeaderName::Event, "message-summary");
    let message = message
        .edit()
        .body("application/simple-message-summary", WAITING)
        .build()
        .unwrap();
    for request in [subscribe, message] {
        let one = scene.alice.send_raw_request(request.clone(), seconds(20));
        let other = scene.alice.send_raw_request(request, seconds(20));
        let (one, other) = tokio::join!(one, other);
        let mut statuses = [one, other].map(|answer| answer.unwrap().status().as_u16());
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 482]);
    }
    assert_eq!(scene.station.watchers.lock().unwrap().len(), 1);
    assert_eq!(scene.station.notified.lock().unwrap().len(), 1);
    assert_eq!(scene.host.metrics().merged, 2);
}

/// The next number of what nobody asked for.
static NEXT: AtomicU32 = AtomicU32::new(7);

async fn notify(scene: &Scene, to_tag: &str, event: Option<&str>, body: &str) -> u16 {
    let target = Uri::parse(STATION).unwrap();
    let mut request = sipora_message::Request::builder(Method::Notify, &target)
        .to(format!("<{STATION}>{to_tag}"))
        .from("<sip:voicemail@example.com>;tag=v")
        .call_id("unasked")
        .cseq(NEXT.fetch_add(1, Ordering::Relaxed))
        .header(HeaderName::SubscriptionState, "terminated")
        .contact("<sip:192.0.2.1>")
        .body("application/simple-message-summary", body.to_owned());
    if let Some(event) = event {
        request = request.header(HeaderName::Event, event);
    }
    let request = request.build().unwrap();
    let answer = scene.alice.send_raw_request(request, seconds(20)).await;
    answer.unwrap().status().as_u16()
}

const WAITING: &str = "Messages-Waiting: yes\r\nVoice-Message: 1/0\r\n";

#[tokio::test(start_paused = true)]
async fn a_notify_that_nobody_asked_for_is_taken_by_who_wants_it() {
    // With a client or without one: its subscriptions leave it alone.
    for settings in [
        |builder| builder,
        SessionManagerBuilder::enable_sip_client as fn(SessionManagerBuilder) -> _,
    ] {
        let scene = Scene::on(SimNetwork::new(1), Mood::Open, settings).await;
        assert_eq!(
            notify(&scene, "", Some("message-summary"), WAITING).await,
            200
        );
        assert_eq!(
            *scene.station.notified.lock().unwrap(),
            ["message-summary true"]
        );
        assert_eq!(notify(&scene, "", Some("message-summary"), "x").await, 400);
        assert_eq!(notify(&scene, "", None, WAITING).await, 489);
        let of_a_dialog = notify(&scene, ";tag=gone", Some("message-summary"), WAITING);
        assert_eq!(of_a_dialog.await, 481);
        assert_eq!(scene.station.notified.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_notify_that_nobody_asked_for_is_481_by_default() {
    for is_client in [false, true] {
        let network = SimNetwork::new(1);
        let mut host = SessionManagerBuilder::new()
            .with_network(Arc::new(network.host("192.0.2.2".parse().unwrap())))
            .with_sip_port(5060)
            .with_handler(Arc::new(Silent));
        if is_client {
            host = host.enable_sip_client();
        }
        let host = host.build().await.unwrap();
        let alice = builder(network.host("192.0.2.1".parse().unwrap()));
        let scene = Scene {
            alice: alice.build().await.unwrap(),
            host,
            station: Station::new(Mood::Open),
            network,
        };
        let status = notify(&scene, "", Some("message-summary"), WAITING).await;
        assert_eq!(status, 481);
        scene.host.shutdown().await;
        scene.alice.shutdown().await;
    }
}

async fn over_a_bad_network(network: SimNetwork) {
    network.set_conditions(Conditions::rough());
    let scene = Scene::on(network, Mood::Ask, |builder| builder).await;
    let mut weather = loop {
        match scene.subscribe().await {
            Ok(weather) => break weather,
            Err(error) => assert!(error.is_temporary(), "{error:?}"),
        }
    };
    let watcher = scene.station.watcher();
    watcher.allow().unwrap();
    for round in 1..=10 {
        let report = round.to_string();
        watcher.notify(PLAIN, report.clone()).unwrap();
        pass(seconds(60)).await;
        // In the end the newest is there.
        let mut last = String::new();
        while last != report {
            last = tokio::time::timeout(Duration::ZERO, text(&mut weather))
                .await
                .unwrap_or_else(|_| panic!("{last} and not {report}"));
        }
    }
    watcher
        .terminate(TerminationReason::NoResource, None)
        .unwrap();
    assert!(matches!(watcher.ended().await, WatcherEnd::Terminated));
    scene.host.shutdown().await;
    scene.alice.shutdown().await;
}

#[test]
fn a_bad_network_keeps_the_newest_report_from_nobody() {
    for_each_seed(seeds(), over_a_bad_network);
}
