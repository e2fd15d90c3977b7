//! Everything at once between two user agents, over a network that loses, doubles and reorders, under many seeds.
//!
//! `SIPORA_SEEDS=1000` runs more of them, `SIPORA_SEED=n` one alone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sipora_session_core::{
    Answer, CustomPackage, Error, IdSource, Incoming, ReachabilityHandle, SessionCoordinator,
    SessionHandler, SipClient, SubscribeAnswer, SubscriptionHandle, SubscriptionState, Watcher,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use support::*;

const PLAIN: &str = "text/plain";

/// Reads messages, and tells what it is doing.
#[derive(Clone, Default)]
struct Person {
    read: Arc<Mutex<Vec<String>>>,
    watchers: Arc<Mutex<Vec<Watcher>>>,
    mood: Arc<Mutex<String>>,
}

impl Person {
    fn feels(&self, mood: &str) {
        *self.mood.lock().unwrap() = mood.to_owned();
        let mut watchers = self.watchers.lock().unwrap();
        watchers.retain(|watcher| watcher.notify(PLAIN, mood.to_owned()).is_ok());
    }
}

#[async_trait]
impl SessionHandler for Person {
    async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
        self.read.lock().unwrap().push(incoming.text().into_owned());
        Answer::ok()
    }

    async fn on_subscribe(&self, _: &Incoming<'_>, watcher: Watcher) -> SubscribeAnswer {
        watcher
            .notify(PLAIN, self.mood.lock().unwrap().clone())
            .unwrap();
        self.watchers.lock().unwrap().push(watcher);
        SubscribeAnswer::Active
    }
}

struct Side {
    person: Person,
    client: Arc<SessionCoordinator>,
    uri: String,
}

impl Side {
    async fn new(network: &SimNetwork, address: &str, transport: &str, seed: u64) -> Self {
        let person = Person::default();
        let host = network.host(address.parse().unwrap());
        let client = builder(host)
            .with_id_source(IdSource::from_number(seed))
            .with_identity(&format!("sip:person@{address}"))
            .with_sip_port(5060)
            .with_event_package(CustomPackage::new("mood").with_type(PLAIN))
            .with_handler(Arc::new(person.clone()));
        Side {
            person,
            client: client.build().await.unwrap(),
            uri: format!("sip:person@{address};transport={transport}"),
        }
    }

    /// Subscribes to the other, however often it takes.
    async fn subscribe(&self, other: &Side) -> SubscriptionHandle {
        loop {
            match self.client.subscribe(&other.uri, "mood", 600).await {
                Ok(subscription) => return subscription,
                Err(error) => assert!(error.is_temporary(), "{error:?}"),
            }
        }
    }

    async fn watch(&self, other: &Side) -> ReachabilityHandle {
        let watch = self.client.watch_reachability(&other.uri, seconds(30));
        watch.await.unwrap()
    }

    /// Sends a message, and says whether it is known to have arrived.
    async fn say(&self, other: &Side, text: &str) -> bool {
        match self.client.send_message(&other.uri, text, None).await {
            Ok(answer) => answer.is_success(),
            Err(Error::Timeout { .. } | Error::Transport { .. }) => false,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Reads until this mood is told.
async fn reads(subscription: &mut SubscriptionHandle, mood: &str) {
    let told = async {
        while let Some(told) = subscription.next().await {
            if told.body() == mood.as_bytes() {
                return true;
            }
        }
        false
    };
    let told = tokio::time::timeout(Duration::from_secs(60), told).await;
    assert_eq!(told, Ok(true), "{mood}: {:?}", subscription.state());
}

async fn scenario(network: SimNetwork, transport: &'static str) {
    network.set_conditions(Conditions::rough());
    let seed = network.seed();
    let alice = Side::new(&network, "192.0.2.1", transport, seed).await;
    let bob = Side::new(&network, "192.0.2.2", transport, seed + 1_000_000).await;
    alice.person.feels("happy");
    bob.person.feels("sad");
    let (mut of_bob, mut of_alice) = tokio::join!(alice.subscribe(&bob), bob.subscribe(&alice));
    let (there, here) = tokio::join!(alice.watch(&bob), bob.watch(&alice));
    tokio::join!(reads(&mut of_bob, "sad"), reads(&mut of_alice, "happy"));

    let mut arrived = (BTreeSet::new(), BTreeSet::new());
    for round in 0..8 {
        let mood = format!("mood {round}");
        alice.person.feels(&mood);
        bob.person.feels(&mood);
        let text = format!("message {round}");
        let (to_bob, to_alice) = tokio::join!(alice.say(&bob, &text), bob.say(&alice, &text));
        if to_bob {
            arrived.0.insert(text.clone());
        }
        if to_alice {
            arrived.1.insert(text);
        }
        tokio::join!(reads(&mut of_bob, &mood), reads(&mut of_alice, &mood));
        pass(seconds(60)).await;
    }
    // What was confirmed was read, once, and in order.
    for (confirmed, person) in [(&arrived.0, &bob.person), (&arrived.1, &alice.person)] {
        let read = person.read.lock().unwrap().clone();
        let once: BTreeSet<String> = read.iter().cloned().collect();
        assert_eq!(once.len(), read.len(), "{read:?}");
        assert!(confirmed.is_subset(&once), "{confirmed:?} {read:?}");
        assert!(confirmed.len() >= 7, "{confirmed:?}");
    }
    for subscription in [&of_bob, &of_alice] {
        let state = subscription.state();
        assert!(
            matches!(state, SubscriptionState::Active { .. }),
            "{state:?}"
        );
    }
    assert!(there.state().is_reachable() && here.state().is_reachable());

    // The network parts for longer than a subscription lasts: both sides notice, and begin anew.
    let ways: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
    network.part(ways[0], ways[1]);
    pass(seconds(700)).await;
    assert!(of_bob.state().is_terminal() && of_alice.state().is_terminal());
    assert!(!there.state().is_reachable() && !here.state().is_reachable());
    assert_eq!(alice.client.watcher_count() + bob.client.watcher_count(), 0);
    assert!(!alice.say(&bob, "lost").await);
    network.join(ways[0], ways[1]);
    there.probe();
    here.probe();
    let (mut of_bob, mut of_alice) = tokio::join!(alice.subscribe(&bob), bob.subscribe(&alice));
    alice.person.feels("back");
    bob.person.feels("back");
    tokio::join!(reads(&mut of_bob, "back"), reads(&mut of_alice, "back"));
    pass(seconds(40)).await;
    assert!(there.state().is_reachable() && here.state().is_reachable());

    // Nothing is left behind.
    let (one, other) = tokio::join!(of_bob.terminate(), of_alice.terminate());
    for end in [one, other] {
        assert!(end.is_ok() || end.is_err_and(|error| error.is_temporary()));
    }
    drop((there, here, of_bob, of_alice));
    pass(seconds(700)).await;
    for side in [&alice, &bob] {
        assert_eq!(side.client.watcher_count(), 0);
        let metrics = side.client.metrics();
        assert_eq!(
            (metrics.requests, metrics.unanswered),
            (0, 0),
            "{metrics:?}"
        );
        side.client.shutdown().await;
    }
}

#[test]
fn two_user_agents_tell_each_other_everything_over_bad_udp() {
    for_each_seed(seeds(), |network| scenario(network, "udp"));
}

#[test]
fn two_user_agents_tell_each_other_everything_over_slow_tcp() {
    for_each_seed(seeds().step_by(4), |network| scenario(network, "tcp"));
}
