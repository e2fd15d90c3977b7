//! Publications of a client at a scripted server over a simulated network, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use sipora_message::{HeaderName, Request};
use sipora_session_core::{
    Error, IdSource, PublicationHandle, PublicationState, SessionCoordinator, SipClient,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use support::*;

const BOB: &str = "sip:bob@192.0.2.10";

/// What a server keeps of one publisher (RFC 3903 §6).
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    tag: Option<String>,
    body: String,
    until: Option<Instant>,
    count: u32,
}

impl Store {
    fn apply(&self, request: &Request, now: Instant, maximum: u32) -> Replies {
        let mut kept = self.0.lock().unwrap();
        if kept.until.is_some_and(|until| until <= now) {
            *kept = Kept {
                count: kept.count,
                ..Kept::default()
            };
        }
        let tag = request.headers().sip_if_match().unwrap();
        if tag.is_some() && tag != kept.tag.as_deref() {
            return vec![reply(412)];
        }
        let expires = expires_of(request).unwrap().min(maximum);
        if !request.body().is_empty() {
            kept.body = String::from_utf8(request.body().to_vec()).unwrap();
        }
        kept.count += 1;
        let tag = format!("tag{}", kept.count);
        kept.tag = (expires > 0).then(|| tag.clone());
        kept.until = Some(now + seconds(expires.into()));
        let answer = reply(200).with(HeaderName::SipEtag, tag);
        vec![answer.with(HeaderName::Expires, expires)]
    }

    fn body(&self, now: Instant) -> Option<String> {
        let kept = self.0.lock().unwrap();
        let is_there = kept.tag.is_some() && kept.until.is_some_and(|until| until > now);
        is_there.then(|| kept.body.clone())
    }

    fn lose(&self) {
        self.0.lock().unwrap().tag = None;
    }
}

struct Scene {
    client: Arc<SessionCoordinator>,
    server: Server,
}

impl Scene {
    async fn new(script: impl FnMut(&Request, Now) -> Replies + Send + 'static) -> Self {
        let network = SimNetwork::new(1);
        let host = network.host("192.0.2.10".parse().unwrap());
        Scene {
            server: server(Arc::new(host), "192.0.2.10:5060", script).await,
            client: builder(network.host("192.0.2.1".parse().unwrap()))
                .with_identity("sip:bob@example.com")
                .with_credentials(alice())
                .build()
                .await
                .unwrap(),
        }
    }

    async fn publish(&self) -> Result<PublicationHandle, Error> {
        self.client
            .publish(BOB, "presence", "text/plain", "one", 3600)
            .await
    }

    /// SIP-If-Match, Expires and body of each PUBLISH.
    fn seen(&self) -> Vec<(Option<String>, Option<u32>, String)> {
        let seen = self.server.seen.all();
        seen.iter()
            .map(|request| {
                let tag = request.headers().sip_if_match().unwrap().map(str::to_owned);
                let body = String::from_utf8(request.body().to_vec()).unwrap();
                (tag, expires_of(request), body)
            })
            .collect()
    }
}

fn row(tag: &str, expires: u32, body: &str) -> (Option<String>, Option<u32>, String) {
    let tag = (!tag.is_empty()).then(|| tag.to_owned());
    (tag, Some(expires), body.to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_four_operations_carry_tag_body_and_expiry_as_the_table_says() {
    let store = Store::default();
    let kept = store.clone();
    let scene = Scene::new(move |request, now| kept.apply(request, now.instant, 600)).await;
    let publication = scene.publish().await.unwrap();
    assert_eq!(publication.granted(), 600);
    assert_eq!(publication.entity_tag().as_deref(), Some("tag1"));
    assert_eq!(publication.refresh().await.unwrap(), 600);
    publication.modify("text/plain", "two").await.unwrap();
    assert_eq!(store.body(now()).as_deref(), Some("two"));
    publication.remove().await.unwrap();
    assert_eq!(store.body(now()), None);
    publication.remove().await.unwrap();
    assert_eq!(
        scene.seen(),
        [
            row("", 3600, "one"),
            row("tag1", 3600, ""),
            row("tag2", 3600, "two"),
            row("tag3", 0, ""),
        ]
    );
    let mut states = publication.states();
    assert!(matches!(
        states.next().await,
        Some(PublicationState::Removed)
    ));
    assert!(states.next().await.is_none());
    assert!(matches!(publication.refresh().await, Err(Error::Closed)));
    let request = scene.server.seen.all().remove(0);
    let headers = request.headers();
    assert_eq!(headers.text(&HeaderName::Event).unwrap(), "presence");
    assert_eq!(headers.text(&HeaderName::To).unwrap(), format!("<{BOB}>"));
    assert!(
        headers
            .text(&HeaderName::From)
            .unwrap()
            .starts_with("<sip:bob@example.com>")
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_refreshed_in_time() {
    let store = Store::default();
    let kept = store.clone();
    let scene = Scene::new(move |request, now| kept.apply(request, now.instant, 300)).await;
    let publication = scene.publish().await.unwrap();
    for _ in 0..600 {
        pass(seconds(3)).await;
        assert_eq!(store.body(now()).as_deref(), Some("one"));
    }
    assert!(publication.expires_in() > seconds(0));
    drop(publication);
    scene.server.seen.clear();
    pass(seconds(600)).await;
    assert_eq!(store.body(now()), None);
    assert_eq!(scene.server.seen.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_412_the_tag_is_forgotten_and_the_whole_published_anew() {
    let store = Store::default();
    let kept = store.clone();
    let scene = Scene::new(move |request, now| kept.apply(request, now.instant, 600)).await;
    let publication = scene.publish().await.unwrap();
    store.lose();
    assert_eq!(publication.refresh().await.unwrap(), 600);
    store.lose();
    publication.modify("text/plain", "two").await.unwrap();
    assert_eq!(
        scene.seen(),
        [
            row("", 3600, "one"),
            row("tag1", 3600, ""),
            row("", 3600, "one"),
            row("tag2", 3600, "two"),
            row("", 3600, "two"),
        ]
    );
    store.lose();
    publication.remove().await.unwrap();
    assert!(matches!(publication.state(), PublicationState::Removed));
}

#[tokio::test(start_paused = true)]
async fn challenges_and_423_are_answered_once() {
    let gate = Gate::server("example.com", "wonderland");
    let scene = Scene::new(move |request, now| {
        gate.check(request, now)
            .unwrap_or_else(|| match expires_of(request) {
                Some(3600) => vec![reply(423).with(HeaderName::MinExpires, 7200)],
                _ => vec![reply(200).with(HeaderName::SipEtag, "x")],
            })
    })
    .await;
    let publication = scene.publish().await.unwrap();
    assert_eq!(publication.granted(), 7200);
    assert_eq!(scene.server.seen.count(), 3);

    let scene = Scene::new(|_, _| vec![reply(423).with(HeaderName::MinExpires, 7200)]).await;
    let refused = scene.publish().await.unwrap_err();
    assert_eq!(refused.response().unwrap().status().as_u16(), 423);
    assert_eq!(scene.server.seen.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn refusals_bad_answers_and_bad_arguments_are_told_apart() {
    for status in [489, 412, 423, 200] {
        let scene = Scene::new(move |_, _| vec![reply(status)]).await;
        let refused = scene.publish().await.unwrap_err();
        match status {
            200 => assert!(
                matches!(refused, Error::ProtocolError { .. }),
                "{refused:?}"
            ),
            _ => assert!(matches!(refused, Error::Rejected(_)), "{refused:?}"),
        }
        assert_eq!(scene.server.seen.count(), 1, "{status}");
    }
    let scene = Scene::new(|_, _| silence()).await;
    let client = &scene.client;
    let zero = client
        .publish(BOB, "presence", "text/plain", "one", 0)
        .await;
    assert!(matches!(zero, Err(Error::InvalidRequest { .. })));
    let bad = client
        .publish("bob", "presence", "text/plain", "one", 60)
        .await;
    assert!(matches!(bad, Err(Error::InvalidUri { .. })));
    assert!(matches!(scene.publish().await, Err(Error::Timeout { .. })));
    client.shutdown().await;
    assert!(matches!(scene.publish().await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_does_not_arrive_is_made_up_for() {
    let store = Store::default();
    let is_down = Arc::new(Mutex::new(false));
    let (kept, down) = (store.clone(), is_down.clone());
    let scene = Scene::new(move |request, now| match *down.lock().unwrap() {
        true => vec![reply(503)],
        false => kept.apply(request, now.instant, 600),
    })
    .await;
    let publication = scene.publish().await.unwrap();
    *is_down.lock().unwrap() = true;
    assert!(publication.modify("text/plain", "two").await.is_err());
    assert!(matches!(
        publication.state(),
        PublicationState::Retrying { .. }
    ));
    *is_down.lock().unwrap() = false;
    pass(seconds(120)).await;
    assert_eq!(store.body(now()).as_deref(), Some("two"));
}

async fn scenario(network: SimNetwork) {
    network.set_conditions(Conditions::rough());
    let store = Store::default();
    let kept = store.clone();
    let host = Arc::new(network.host("192.0.2.10".parse().unwrap()));
    let server = server(host, "192.0.2.10:5060", move |request, now| {
        kept.apply(request, now.instant, 240)
    })
    .await;
    let client = builder(network.host("192.0.2.1".parse().unwrap()))
        .with_id_source(IdSource::from_number(network.seed()))
        .build()
        .await
        .unwrap();
    let publication = client
        .publish(BOB, "presence", "text/plain", "0", 3600)
        .await
        .unwrap();
    for round in 1..=10u32 {
        let body = round.to_string();
        publication.modify("text/plain", &body).await.unwrap();
        for _ in 0..60 {
            assert_eq!(
                store.body(now()),
                Some(body.clone()),
                "{:?}",
                publication.state()
            );
            pass(seconds(5)).await;
        }
    }
    publication.remove().await.unwrap();
    assert_eq!(store.body(now()), None);
    client.shutdown().await;
    server.endpoint.shutdown().await;
}

#[test]
fn a_publication_holds_over_bad_udp() {
    for_each_seed(seeds(), scenario);
}
