//! OPTIONS again and again, in virtual time (RFC 3261 §11).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipora_message::HeaderName;
use sipora_session_core::{
    Error, IdSource, Reachability, ReachabilityHandle, SessionCoordinator, SipClient,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use support::*;

const TRUNK: &str = "sip:192.0.2.10";

struct Scene {
    network: SimNetwork,
    client: Arc<SessionCoordinator>,
    server: Server,
    /// 0 for silence.
    status: Arc<AtomicU16>,
    retry_after: Arc<Mutex<Option<u32>>>,
}

impl Scene {
    async fn new(status: u16) -> Self {
        Self::on(SimNetwork::new(1), status).await
    }

    async fn on(network: SimNetwork, status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let retry_after = Arc::<Mutex<Option<u32>>>::default();
        let (says, wait) = (status.clone(), retry_after.clone());
        let host = network.host("192.0.2.10".parse().unwrap());
        let server = server(Arc::new(host), "192.0.2.10:5060", move |_, _| {
            match (says.load(Ordering::Relaxed), *wait.lock().unwrap()) {
                (0, _) => silence(),
                (status, None) => vec![reply(status)],
                (status, Some(wait)) => vec![reply(status).with(HeaderName::RetryAfter, wait)],
            }
        });
        let client = builder(network.host("192.0.2.1".parse().unwrap()))
            .with_id_source(IdSource::from_number(network.seed()))
            .with_sip_port(5060);
        Scene {
            server: server.await,
            client: client.build().await.unwrap(),
            status,
            retry_after,
            network,
        }
    }

    async fn watch(&self, interval: u64) -> ReachabilityHandle {
        let watch = self.client.watch_reachability(TRUNK, seconds(interval));
        watch.await.unwrap()
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// The seconds between one request and the next.
    fn gaps(&self) -> Vec<f32> {
        let times = self.server.seen.times();
        let gaps = times.windows(2).map(|two| (two[1] - two[0]).as_secs_f32());
        gaps.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_answers_is_reachable_and_is_asked_again() {
    let scene = Scene::new(200).await;
    let trunk = scene.watch(30).await;
    assert!(matches!(trunk.state(), Reachability::Unknown));
    assert_eq!(trunk.target_uri(), TRUNK);
    let mut states = trunk.states();
    assert!(matches!(states.next().await, Some(Reachability::Unknown)));
    let Some(Reachability::Reachable { round_trip, status }) = states.next().await else {
        panic!("{:?}", trunk.state());
    };
    assert_eq!(status.as_u16(), 200);
    assert!(
        round_trip > Duration::ZERO && round_trip < seconds(1),
        "{round_trip:?}"
    );
    pass(seconds(300)).await;
    let gaps = scene.gaps();
    assert!((10..=11).contains(&gaps.len()), "{gaps:?}");
    assert!(
        gaps.iter().all(|gap| (26.9..=30.1).contains(gap)),
        "{gaps:?}"
    );
    let first = gaps[0];
    assert!(
        gaps.iter().any(|gap| (gap - first).abs() > 0.01),
        "they are jittered"
    );
}

#[tokio::test(start_paused = true)]
async fn any_answer_counts_but_those_that_are_given_for_somebody_absent() {
    for status in [
        200, 302, 400, 401, 403, 404, 405, 481, 486, 500, 501, 600, 603,
    ] {
        let scene = Scene::new(status).await;
        let trunk = scene.watch(30).await;
        pass(seconds(1)).await;
        let state = trunk.state();
        assert!(state.is_reachable(), "{status}: {state:?}");
    }
    // No server of ours sends 408 (RFC 4320 §4.2).
    for status in [430, 480, 502, 503, 504] {
        let scene = Scene::new(status).await;
        let trunk = scene.watch(30).await;
        pass(seconds(1)).await;
        let Reachability::Unreachable { error } = trunk.state() else {
            panic!("{status}: {:?}", trunk.state());
        };
        assert_eq!(error.response().unwrap().status().as_u16(), status);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_unreachable_in_time_and_asked_less_and_less() {
    let scene = Scene::new(0).await;
    let trunk = scene.watch(60).await;
    pass(seconds(31)).await;
    assert!(matches!(trunk.state(), Reachability::Unknown));
    pass(seconds(2)).await;
    let Reachability::Unreachable { error } = trunk.state() else {
        panic!("{:?}", trunk.state());
    };
    assert!(matches!(*error, Error::Timeout { .. }), "{error:?}");
    pass(seconds(3000)).await;
    let gaps = scene.gaps();
    // What it waits after each, and the 32 s that each takes.
    for (gap, factor) in gaps.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0]) {
        let wait = gap - 32.0;
        assert!(
            (factor * 54.0 - 1.0..=factor * 60.0 + 1.0).contains(&wait),
            "{gaps:?}"
        );
    }
    assert!(gaps.len() >= 5, "{gaps:?}");

    scene.says(200);
    trunk.probe();
    pass(seconds(1)).await;
    assert!(trunk.state().is_reachable());
    scene.server.seen.clear();
    pass(seconds(130)).await;
    assert_eq!(scene.server.seen.count(), 2, "at the old pace");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed() {
    let scene = Scene::new(503).await;
    *scene.retry_after.lock().unwrap() = Some(500);
    let _trunk = scene.watch(10).await;
    pass(seconds(490)).await;
    assert_eq!(scene.server.seen.count(), 1);
    pass(seconds(20)).await;
    assert_eq!(scene.server.seen.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_there_is_unreachable_and_tcp_says_so_at_once() {
    let scene = Scene::new(200).await;
    let interval = seconds(30);
    let target = "sip:192.0.2.10:5999;transport=tcp";
    let nobody = scene.client.watch_reachability(target, interval).await;
    let nobody = nobody.unwrap();
    pass(seconds(1)).await;
    let Reachability::Unreachable { error } = nobody.state() else {
        panic!("{:?}", nobody.state());
    };
    assert!(matches!(*error, Error::Transport { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_asks_no_more() {
    let scene = Scene::new(200).await;
    let trunk = scene.watch(1).await;
    pass(seconds(10)).await;
    drop(trunk);
    let before = scene.server.seen.count();
    pass(seconds(100)).await;
    assert_eq!(scene.server.seen.count(), before);

    // Even while a request is under way: no copy of it leaves.
    scene.says(0);
    let trunk = scene.watch(1).await;
    pass(Duration::from_millis(700)).await;
    drop(trunk);
    pass(Duration::from_millis(100)).await;
    let sent = scene.network.packets().len();
    pass(seconds(100)).await;
    let lines: Vec<_> = scene.network.packets()[sent..]
        .iter()
        .map(|packet| packet.first_line())
        .filter(|line| line.starts_with("OPTIONS"))
        .collect();
    assert!(lines.is_empty(), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_the_last_state() {
    let scene = Scene::new(200).await;
    let trunk = scene.watch(30).await;
    let mut states = trunk.states();
    pass(seconds(1)).await;
    assert!(states.next().await.unwrap().is_reachable());
    scene.client.shutdown().await;
    assert!(matches!(states.next().await, Some(Reachability::Stopped)));
    assert!(states.next().await.is_none());
    trunk.probe();
    let late = scene.client.watch_reachability(TRUNK, seconds(30)).await;
    assert!(matches!(late, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn bad_arguments_are_told_apart() {
    let scene = Scene::new(200).await;
    for interval in [Duration::ZERO, Duration::from_millis(999), seconds(86_401)] {
        let error = scene.client.watch_reachability(TRUNK, interval).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, Error::InvalidConfiguration { .. }),
            "{error:?}"
        );
    }
    let error = scene.client.watch_reachability("tel:+1", seconds(30)).await;
    assert!(matches!(error, Err(Error::InvalidUri { .. })));
    let client: Arc<dyn SipClient> = scene.client.clone();
    assert!(client.watch_reachability(TRUNK, seconds(30)).await.is_ok());
    assert!(scene.server.seen.count() <= 1);
}

async fn comes_and_goes(network: SimNetwork) {
    network.set_conditions(Conditions::rough());
    let scene = Scene::on(network, 200).await;
    let trunk = scene.watch(20).await;
    let ways = ("192.0.2.1".parse().unwrap(), "192.0.2.10".parse().unwrap());
    for _ in 0..3 {
        pass(seconds(200)).await;
        assert!(trunk.state().is_reachable(), "{:?}", trunk.state());
        scene.network.part(ways.0, ways.1);
        pass(seconds(60)).await;
        let state = trunk.state();
        assert!(
            matches!(state, Reachability::Unreachable { .. }),
            "{state:?}"
        );
        scene.network.join(ways.0, ways.1);
    }
    scene.client.shutdown().await;
    scene.server.endpoint.shutdown().await;
}

#[test]
fn a_bad_network_is_not_taken_for_none_nor_none_for_a_bad_one() {
    for_each_seed(seeds(), comes_and_goes);
}
