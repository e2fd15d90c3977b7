//! Watching users: SUBSCRIBE and NOTIFY for the event presence (RFC 3856, RFC 6665).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use common::watcher::*;
use common::*;
use sipora_call_engine::Network;
use sipora_call_engine::{
    AddressOfRecord, CallCenterConfig, PresenceConfig, WatcherDecision, WatcherPolicy,
};
use sipora_message::{
    HeaderName, Limits, Message, Request, Response, StatusCode, SubscriptionPhase,
};
use sipora_session_core::Basic;

const BOB: &str = "192.0.2.21:5060";
const CAROL: &str = "192.0.2.22:5060";

fn guarded(config: CallCenterConfig) -> CallCenterConfig {
    config
        .with_domain("example.com")
        .with_domain("example.net")
        .with_user("alice", "wonderland")
        .with_user("bob", "builder")
}

/// Registers alice's phone for that many seconds, in an open lab.
async fn bind(lab: &mut Lab, cseq: u32, seconds: u32) {
    let asked = register(cseq).contact(&format!("<sip:alice@192.0.2.7>;expires={seconds}"));
    assert_eq!(status(&lab.phone.ask(&asked).await), 200);
}

/// An open lab and a watcher of alice's.
async fn watched() -> (Lab, Watcher) {
    let lab = open_lab().await;
    let mut watcher = Watcher::new(&lab.network, BOB);
    assert_eq!(status(&watcher.watch().await), 200);
    (lab, watcher)
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_a_user_register_and_unregister() {
    let (mut lab, mut watcher) = watched().await;
    let first = watcher.told(2).await.expect("a NOTIFY at once");
    assert_eq!(first.phase, SubscriptionPhase::Active);
    assert_eq!(first.expires, Some(3600));
    assert_eq!(first.basic(), Some(Basic::Closed));
    let presence = first.presence.unwrap();
    assert_eq!(presence.entity, "pres:alice@example.com");
    assert_eq!(
        presence.tuples[0].contact.as_deref(),
        Some("sip:alice@example.com")
    );
    after(10).await;
    bind(&mut lab, 1, 600).await;
    assert_eq!(watcher.basic().await, Some(Basic::Open));
    after(10).await;
    // A refresh, and a second contact, are no news.
    bind(&mut lab, 2, 600).await;
    let second = register(3).contact("<sip:alice@192.0.2.8>;expires=600");
    assert_eq!(status(&lab.phone.ask(&second).await), 200);
    assert!(watcher.told(20).await.is_none());
    bind(&mut lab, 4, 0).await;
    assert!(watcher.told(20).await.is_none(), "one is still bound");
    let all = register(5).contact("*").with("Expires: 0");
    assert_eq!(status(&lab.phone.ask(&all).await), 200);
    assert_eq!(watcher.basic().await, Some(Basic::Closed));
    let metrics = lab.engine.metrics().presence;
    assert_eq!(
        (
            metrics.subscribes,
            metrics.subscriptions,
            metrics.notifies,
            metrics.notifies_failed
        ),
        (1, 1, 3, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_registered_already_is_open_at_once() {
    let mut lab = open_lab().await;
    bind(&mut lab, 1, 600).await;
    let mut watcher = Watcher::new(&lab.network, BOB);
    let answer = watcher.watch().await;
    assert_eq!(answer.headers().expires().unwrap(), Some(3600));
    assert_eq!(
        contacts(&answer),
        ["<sip:alice@192.0.2.1:5060>"],
        "where we are, for the dialog"
    );
    assert_eq!(watcher.basic().await, Some(Basic::Open));
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_expires_closes_without_any_message() {
    let (mut lab, mut watcher) = watched().await;
    watcher.told(2).await.unwrap();
    bind(&mut lab, 1, 60).await;
    after(4).await;
    assert_eq!(watcher.told(2).await.unwrap().basic(), Some(Basic::Open));
    // Refreshed, and shortened: the last word counts.
    bind(&mut lab, 2, 3600).await;
    bind(&mut lab, 3, 60).await;
    assert!(watcher.told(59).await.is_none());
    assert_eq!(watcher.told(2).await.unwrap().basic(), Some(Basic::Closed));
}

#[tokio::test(start_paused = true)]
async fn of_two_bindings_the_one_that_expires_last_counts() {
    let mut lab = open_lab().await;
    bind(&mut lab, 1, 60).await;
    let second = register(2).contact("<sip:alice@192.0.2.8>;expires=120");
    assert_eq!(status(&lab.phone.ask(&second).await), 200);
    let mut watcher = Watcher::new(&lab.network, BOB);
    watcher.watch().await;
    assert_eq!(watcher.basic().await, Some(Basic::Open));
    assert!(watcher.told(118).await.is_none());
    assert_eq!(watcher.told(3).await.unwrap().basic(), Some(Basic::Closed));
}

#[tokio::test(start_paused = true)]
async fn bindings_that_the_program_removes_are_seen_to_go() {
    let (mut lab, mut watcher) = watched().await;
    watcher.told(2).await.unwrap();
    bind(&mut lab, 1, 600).await;
    assert_eq!(watcher.told(6).await.unwrap().basic(), Some(Basic::Open));
    let removed = lab.engine.remove_bindings("sip:alice@example.com").await;
    assert_eq!(removed.unwrap(), 1);
    assert_eq!(watcher.told(6).await.unwrap().basic(), Some(Basic::Closed));
}

#[tokio::test(start_paused = true)]
async fn every_watcher_is_told_whatever_it_called_the_user() {
    let (mut lab, mut bob) = watched().await;
    let mut carol = Watcher::new(&lab.network, CAROL);
    carol.ask = carol.ask.uri("sips:alice@EXAMPLE.com:5061;x=y");
    assert_eq!(status(&carol.watch().await), 200);
    assert_eq!(bob.basic().await, Some(Basic::Closed));
    assert_eq!(carol.basic().await, Some(Basic::Closed));
    after(6).await;
    bind(&mut lab, 1, 600).await;
    assert_eq!(bob.basic().await, Some(Basic::Open));
    assert_eq!(carol.basic().await, Some(Basic::Open));
    assert_eq!(lab.engine.metrics().presence.subscriptions, 2);
}

/// RFC 5630 §5.1.1: "When presented with a SIPS URI, a UAC MUST NOT change it to a SIP URI", nor send to it in clear.
#[tokio::test(start_paused = true)]
async fn a_watcher_with_a_sips_contact_is_told_nothing_in_clear() {
    let lab = open_lab().await;
    let phone = Phone::new(&lab.network, CAROL);
    let mut carol = Watcher::with(phone, "sips:carol@192.0.2.22");
    carol.ask = carol.ask.uri("sips:alice@example.com");
    assert_eq!(status(&carol.watch().await), 200);
    assert!(carol.notify(Duration::from_secs(60)).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_fast_are_told_in_one_after_five_seconds() {
    let (mut lab, mut watcher) = watched().await;
    watcher.told(2).await.unwrap();
    for cseq in 1..=10 {
        bind(&mut lab, cseq, 600 * (cseq % 2)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bind(&mut lab, 11, 600).await;
    assert!(watcher.told(3).await.is_none());
    assert_eq!(watcher.told(3).await.unwrap().basic(), Some(Basic::Open));
    assert!(watcher.told(20).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_configurable() {
    let mut lab = lab(|config| {
        let settings = PresenceConfig::new().with_notify_interval(Duration::from_secs(60));
        config
            .with_domain("example.com")
            .without_authentication()
            .with_presence(settings)
    })
    .await;
    let mut watcher = Watcher::new(&lab.network, BOB);
    watcher.watch().await;
    watcher.told(2).await.unwrap();
    bind(&mut lab, 1, 600).await;
    assert!(watcher.told(58).await.is_none());
    assert_eq!(watcher.told(3).await.unwrap().basic(), Some(Basic::Open));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_lasts_as_long_as_it_is_refreshed() {
    let (lab, mut watcher) = watched().await;
    watcher.told(2).await.unwrap();
    after(3000).await;
    let answer = watcher.subscribe(&["Expires: 60"]).await;
    assert_eq!(answer.headers().expires().unwrap(), Some(60));
    let told = watcher.told(2).await.expect("the state with each refresh");
    assert_eq!(
        (told.expires, told.basic()),
        (Some(60), Some(Basic::Closed))
    );
    assert!(watcher.told(58).await.is_none());
    let last = watcher.told(3).await.unwrap();
    assert_eq!(last.phase, SubscriptionPhase::Terminated);
    assert_eq!(last.reason.as_deref(), Some("timeout"));
    after(1).await;
    assert_eq!(lab.engine.metrics().presence.subscriptions, 0);
    assert_eq!(status(&watcher.subscribe(&["Expires: 60"]).await), 481);
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_and_fetching_get_one_last_notify() {
    let (lab, mut watcher) = watched().await;
    watcher.told(2).await.unwrap();
    assert_eq!(status(&watcher.subscribe(&["Expires: 0"]).await), 200);
    let last = watcher.told(2).await.unwrap();
    assert_eq!(last.phase, SubscriptionPhase::Terminated);
    let mut fetcher = Watcher::new(&lab.network, CAROL);
    assert_eq!(status(&fetcher.subscribe(&["Expires: 0"]).await), 200);
    let fetched = fetcher.told(2).await.unwrap();
    assert_eq!(fetched.phase, SubscriptionPhase::Terminated);
    assert_eq!(fetched.basic(), Some(Basic::Closed));
    assert_eq!(lab.engine.metrics().presence.subscriptions, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_subscribe_does_wrong_it_is_told() {
    let lab = open_lab().await;
    let mut phone = Watcher::new(&lab.network, BOB);
    let asked = |call_id: &str| subscribe(call_id).contact("<sip:bob@192.0.2.21>");
    let event = "Event: presence";
    let rows = [
        (asked("1"), 489),
        (asked("2").with("Event: dialog"), 489),
        (asked("3").with(event).with("Expires: 59"), 423),
        (asked("4").with(event).with("Accept: text/plain"), 406),
        (asked("5").with(event).with("Require: eventlist"), 420),
        (asked("6").with(event).uri("tel:+12125550101"), 416),
        (asked("7").with(event).uri("sip:example.com"), 404),
        (
            asked("8").with(event).uri("sip:alice@elsewhere.example"),
            404,
        ),
        (
            asked("9")
                .with(event)
                .with("Route: <sip:elsewhere.example;lr>"),
            403,
        ),
        (subscribe("10").with(event), 400),
        (asked("11").with(event).within_nothing(), 481),
        (asked("12").with(event).with("Expires: x"), 400),
        (
            asked("13").with(&format!("{event};x={}", "y".repeat(2_000))),
            513,
        ),
        (
            asked("14")
                .with(event)
                .with(&format!("Record-Route: <sip:{};lr>", "p".repeat(2_000))),
            513,
        ),
    ];
    for (asked, owed) in rows {
        let answer = phone.send(&asked).await;
        let what = format!("{} {}", asked.call_id, asked.uri);
        assert_eq!(status(&answer), owed, "{what}");
        match owed {
            489 => assert_eq!(
                header(&answer, HeaderName::AllowEvents).unwrap(),
                "presence"
            ),
            423 => assert_eq!(header(&answer, HeaderName::MinExpires).unwrap(), "60"),
            _ => {}
        }
    }
    assert!(phone.told(40).await.is_none());
    let metrics = lab.engine.metrics().presence;
    assert_eq!((metrics.subscribes, metrics.subscriptions), (14, 0));
    assert_eq!(
        (
            metrics.bad_events,
            metrics.too_brief,
            metrics.bad_requests,
            metrics.not_found,
            metrics.forbidden,
            metrics.unknown_subscriptions
        ),
        (2, 1, 5, 2, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_notify_outside_any_subscription_gets_481_with_presence_and_without() {
    for has_presence in [true, false] {
        let mut lab = lab(|config| match has_presence {
            true => guarded(config),
            false => guarded(config).without_presence(),
        })
        .await;
        let notify = |number: u32, uri: &str| {
            let asked = Ask {
                method: "NOTIFY",
                ..options(uri).call_id(&format!("notify-{number}"))
            };
            asked.with("Subscription-State: active;expires=60")
        };
        let rows = [
            notify(1, "sip:alice@example.com").with("Event: presence"),
            notify(2, "sip:alice@example.com")
                .with("Event: presence")
                .within_nothing(),
            // Some phones keep their bindings in a NAT alive with these.
            notify(3, "sip:example.com").with("Event: keep-alive"),
            notify(4, "sip:192.0.2.1"),
        ];
        for asked in rows {
            let answer = lab.phone.ask(&asked).await;
            assert_eq!(status(&answer), 481, "{}", asked.call_id);
        }
        let answer = lab.phone.ask(&options("sip:example.com")).await;
        let allow = header(&answer, HeaderName::Allow).unwrap();
        assert!(!allow.contains("NOTIFY"), "{allow}");
        let metrics = lab.engine.metrics();
        assert_eq!(metrics.transactions.server_transactions, 1, "the OPTIONS");
        let counted = metrics.presence.unknown_subscriptions;
        assert_eq!(counted, if has_presence { 4 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn watchers_prove_who_they_are() {
    let lab = lab(guarded).await;
    let mut stranger = Watcher::new(&lab.network, CAROL);
    let answer = stranger.watch().await;
    assert_eq!(status(&answer), 401);
    assert!(header(&answer, HeaderName::WwwAuthenticate).is_some());
    let mut guess = Watcher::new(&lab.network, "192.0.2.23:5060").logged_in("bob", "guess");
    assert_eq!(status(&guess.watch().await), 401);
    let mut mallory = Watcher::new(&lab.network, "192.0.2.24:5060").logged_in("bob", "builder");
    mallory.ask = mallory.ask.from("sip:alice@example.com");
    assert_eq!(status(&mallory.watch().await), 403);

    let mut bob = Watcher::new(&lab.network, BOB).logged_in("bob", "builder");
    assert_eq!(status(&bob.watch().await), 200);
    assert_eq!(bob.basic().await, Some(Basic::Closed));
    bob.ask.call_id = "second".into();
    bob.ask.to = "<sip:nobody@example.com>".into();
    bob.ask.uri = "sip:nobody@example.com".into();
    assert_eq!(status(&bob.watch().await), 404);
    let metrics = lab.engine.metrics().presence;
    assert_eq!((metrics.challenges, metrics.wrong_credentials), (5, 1));
    assert_eq!((metrics.forbidden, metrics.not_found), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_authenticated_and_nobody_else_s() {
    let lab = lab(guarded).await;
    let mut bob = Watcher::new(&lab.network, BOB).logged_in("bob", "builder");
    assert_eq!(status(&bob.watch().await), 200);
    bob.told(2).await.unwrap();
    // Without credentials.
    let stolen = bob.ask.clone().with("Event: presence").with("Expires: 0");
    let mut mallory = Watcher::new(&lab.network, CAROL);
    assert_eq!(status(&mallory.send(&stolen).await), 401);
    // With credentials of somebody else, who knows the dialog.
    let mut mallory =
        Watcher::new(&lab.network, "192.0.2.23:5060").logged_in("alice", "wonderland");
    mallory.ask = bob.ask.clone().from("sip:alice@example.com");
    assert_eq!(status(&mallory.subscribe(&["Expires: 0"]).await), 403);
    assert!(bob.told(10).await.is_none(), "nothing has happened");
    assert_eq!(status(&bob.subscribe(&["Expires: 600"]).await), 200);
    assert_eq!(bob.told(2).await.unwrap().expires, Some(600));
    // Within a dialog there are no strangers.
    let nowhere = subscribe("x")
        .from("sip:x@elsewhere.example")
        .within_nothing();
    let answer = mallory.send(&nowhere.with("Event: presence")).await;
    assert_eq!(status(&answer), 481);
}

#[tokio::test(start_paused = true)]
async fn who_watches_a_user_that_is_removed_is_told_when_the_server_next_looks() {
    let lab = lab(guarded).await;
    let mut bob = Watcher::new(&lab.network, BOB).logged_in("bob", "builder");
    bob.watch().await;
    bob.told(2).await.unwrap();
    assert!(lab.engine.users().unwrap().remove("alice"));
    assert_eq!(status(&bob.subscribe(&["Expires: 600"]).await), 200);
    let last = bob.told(2).await.unwrap();
    assert_eq!(last.phase, SubscriptionPhase::Terminated);
    assert_eq!(last.reason.as_deref(), Some("noresource"));
    assert!(last.presence.is_none());
    assert_eq!(lab.engine.metrics().presence.subscriptions, 0);
}

/// Bob waits until he is allowed; carol may not watch.
#[derive(Default)]
struct Strict(AtomicU8);

const BOB_WAITS: u8 = 0;
const BOB_MAY: u8 = 1;
const BOB_MAY_NOT: u8 = 2;

impl WatcherPolicy for Strict {
    fn decide(
        &self,
        watcher: Option<&AddressOfRecord>,
        watched: &AddressOfRecord,
    ) -> WatcherDecision {
        assert_eq!(watched.user(), "alice");
        match (
            watcher.map(AddressOfRecord::user),
            self.0.load(Ordering::SeqCst),
        ) {
            (Some("bob"), BOB_MAY) => WatcherDecision::Allow,
            (Some("bob"), BOB_WAITS) => WatcherDecision::Pending,
            _ => WatcherDecision::Refuse,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_refuse_and_may_make_up_its_mind() {
    let policy = Arc::new(Strict::default());
    let given = Arc::clone(&policy);
    let lab = lab(|config| {
        let config = guarded(config).with_user("carol", "singer");
        config.with_watcher_policy(given)
    })
    .await;
    let mut carol = Watcher::new(&lab.network, CAROL).logged_in("carol", "singer");
    assert_eq!(status(&carol.watch().await), 403);
    // Herself, whatever the policy says of her.
    let mut alice = Watcher::new(&lab.network, "192.0.2.23:5060").logged_in("alice", "wonderland");
    assert_eq!(status(&alice.watch().await), 200);
    assert_eq!(alice.basic().await, Some(Basic::Closed));

    let mut bob = Watcher::new(&lab.network, BOB).logged_in("bob", "builder");
    assert_eq!(status(&bob.watch().await), 200);
    let pending = bob.told(2).await.unwrap();
    assert_eq!(pending.phase, SubscriptionPhase::Pending);
    assert!(pending.presence.is_none(), "nobody has allowed it");
    policy.0.store(BOB_MAY, Ordering::SeqCst);
    let address = "sip:alice@example.com";
    lab.engine.reconsider_watchers(address).await.unwrap();
    let active = bob.told(6).await.unwrap();
    assert_eq!(active.phase, SubscriptionPhase::Active);
    assert_eq!(active.basic(), Some(Basic::Closed));
    assert!(alice.told(10).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_may_watch_no_longer_is_told_that_and_nothing_else() {
    let policy = Arc::new(Strict::default());
    policy.0.store(BOB_MAY, Ordering::SeqCst);
    let given = Arc::clone(&policy);
    let lab = lab(|config| guarded(config).with_watcher_policy(given)).await;
    let mut bob = Watcher::new(&lab.network, BOB).logged_in("bob", "builder");
    bob.watch().await;
    assert!(bob.told(2).await.unwrap().presence.is_some());
    // Where somebody is active already, an undecided policy changes nothing.
    let address = "sip:alice@example.com";
    policy.0.store(BOB_WAITS, Ordering::SeqCst);
    lab.engine.reconsider_watchers(address).await.unwrap();
    assert!(bob.told(10).await.is_none());
    policy.0.store(BOB_MAY_NOT, Ordering::SeqCst);
    lab.engine.reconsider_watchers(address).await.unwrap();
    let last = bob.told(2).await.unwrap();
    assert_eq!(last.phase, SubscriptionPhase::Terminated);
    assert_eq!(last.reason.as_deref(), Some("rejected"));
    assert!(last.presence.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_notify_that_is_refused_or_never_answered_ends_the_subscription() {
    let (mut lab, mut watcher) = watched().await;
    let first = watcher.notify(Duration::from_secs(2)).await.unwrap();
    watcher.phone.reply(&first, 481, &[]);
    after(6).await;
    assert_eq!(lab.engine.metrics().presence.subscriptions, 0);
    bind(&mut lab, 1, 600).await;
    assert!(watcher.told(40).await.is_none());

    let mut silent = Watcher::new(&lab.network, CAROL);
    silent.watch().await;
    assert_eq!(lab.engine.metrics().presence.subscriptions, 1);
    after(33).await;
    let metrics = lab.engine.metrics().presence;
    assert_eq!((metrics.subscriptions, metrics.notifies_failed), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_notify_goes_where_the_subscribe_came_from_through_a_nat() {
    let mut lab = open_lab().await;
    let phone = Phone::new(&lab.network, BOB);
    // Nobody has that address.
    let mut watcher = Watcher::with(phone, "sip:bob@10.0.0.7:5060");
    assert_eq!(status(&watcher.watch().await), 200);
    let told = watcher.told(2).await.expect("through the NAT");
    assert_eq!(told.request.uri_text(), "sip:bob@10.0.0.7:5060");
    after(6).await;
    bind(&mut lab, 1, 600).await;
    assert_eq!(watcher.basic().await, Some(Basic::Open));
}

#[tokio::test(start_paused = true)]
async fn a_notify_goes_over_the_connection_that_only_the_watcher_can_open() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut lab = open_lab().await;
    let host = lab.network.host("192.0.2.23".parse().unwrap());
    let server = SERVER.parse().unwrap();
    let mut phone = host.connect(None, server).await.unwrap();
    let asked = subscribe("tcp")
        .with("Event: presence")
        .contact("<sip:bob@a7.invalid;transport=tcp>");
    let via = "SIP/2.0/TCP a7.invalid;branch=z9hG4bKtcp;rport";
    phone.write_all(asked.text(via).as_bytes()).await.unwrap();
    let mut buffer = Vec::new();
    for basic in ["closed", "open"] {
        let owed = format!("<basic>{basic}</basic>");
        while !String::from_utf8_lossy(&buffer).contains(&owed) {
            assert_ne!(phone.read_buf(&mut buffer).await.unwrap(), 0);
        }
        let text = String::from_utf8_lossy(&buffer).into_owned();
        let notify = &text[text.find("NOTIFY ").unwrap()..];
        let notify = Request::parse(notify.to_owned(), &Limits::default()).unwrap();
        assert_eq!(notify.uri_text(), "sip:bob@a7.invalid;transport=tcp");
        let answer = Response::for_request(&notify, StatusCode::OK);
        let answer = answer.build().unwrap();
        phone.write_all(answer.as_bytes()).await.unwrap();
        buffer.clear();
        if basic == "closed" {
            bind(&mut lab, 1, 600).await;
        }
    }
    // The connection is gone, and nobody else is at that Contact.
    drop(phone);
    after(6).await;
    bind(&mut lab, 2, 0).await;
    after(40).await;
    assert_eq!(lab.engine.metrics().presence.subscriptions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_notify_follows_the_route_set_of_the_dialog() {
    let lab = open_lab().await;
    let mut watcher = Watcher::new(&lab.network, BOB);
    let mut proxy = Watcher::new(&lab.network, CAROL);
    let route = "Record-Route: <sip:192.0.2.22:5060;lr>";
    assert_eq!(status(&watcher.subscribe(&[route]).await), 200);
    let told = proxy.told(2).await.expect("by way of the proxy");
    let mut routes = told.request.headers().routes();
    let route = routes.next().unwrap().unwrap().uri().as_str().to_owned();
    assert_eq!(route, "sip:192.0.2.22:5060;lr");
    assert!(watcher.told(10).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_subscriptions_from_one_source_meet_the_limit_and_others_are_served() {
    let lab = open_lab().await;
    let mut flood = Watcher::new(&lab.network, BOB);
    let (mut accepted, mut refused) = (0, 0);
    for number in 0..10_000 {
        let asked = subscribe(&format!("call-{number}")).contact("<sip:bob@192.0.2.21>");
        let request = flood.phone.request(&asked.with("Event: presence"));
        flood.phone.send(request.as_bytes());
        if number % 50 != 49 {
            continue;
        }
        while let Some(message) = flood.phone.next(Duration::from_millis(5)).await {
            let answer = match message {
                Message::Response(answer) => answer,
                Message::Request(notify) => {
                    flood.phone.reply(&notify, 200, &[]);
                    continue;
                }
            };
            match status(&answer) {
                200 => accepted += 1,
                503 => {
                    assert!(answer.headers().retry_after().unwrap().is_some());
                    refused += 1;
                }
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!((accepted, refused), (5_000, 5_000));
    let metrics = lab.engine.metrics().presence;
    assert_eq!((metrics.subscriptions, metrics.over_limit), (5_000, 5_000));
    let mut other = Watcher::new(&lab.network, CAROL);
    assert_eq!(status(&other.watch().await), 200);
    assert_eq!(other.basic().await, Some(Basic::Closed));
}

#[tokio::test(start_paused = true)]
async fn the_total_of_subscriptions_is_limited() {
    let lab = lab(|config| {
        let settings = PresenceConfig::new().with_max_subscriptions(1, 10);
        config
            .with_domain("example.com")
            .without_authentication()
            .with_presence(settings)
    })
    .await;
    let mut bob = Watcher::new(&lab.network, BOB);
    let mut carol = Watcher::new(&lab.network, CAROL);
    assert_eq!(status(&bob.watch().await), 200);
    let refused = carol.watch().await;
    assert_eq!(status(&refused), 503);
    assert!(refused.headers().retry_after().unwrap().is_some());
    // Who is there goes on, and makes room when it leaves.
    bob.told(2).await.unwrap();
    assert_eq!(status(&bob.subscribe(&["Expires: 0"]).await), 200);
    bob.told(2).await.unwrap();
    assert_eq!(status(&carol.watch().await), 200);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_watchers_to_subscribe_elsewhere() {
    let (lab, mut watcher) = watched().await;
    watcher.told(2).await.unwrap();
    let engine = Arc::clone(&lab.engine);
    let shutdown = tokio::spawn(async move { engine.shutdown().await });
    let last = watcher.told(2).await.expect("a last NOTIFY");
    assert_eq!(last.phase, SubscriptionPhase::Terminated);
    assert_eq!(last.reason.as_deref(), Some("deactivated"));
    shutdown.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_presence_subscribe_and_publish_are_methods_that_are_not_allowed() {
    let lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .without_presence()
    })
    .await;
    let mut watcher = Watcher::new(&lab.network, BOB);
    let answer = watcher.watch().await;
    assert_eq!(status(&answer), 405);
    assert_eq!(
        header(&answer, HeaderName::Allow).unwrap(),
        "MESSAGE, OPTIONS, REGISTER"
    );
    let answer = watcher.send(&options("sip:example.com")).await;
    assert_eq!(
        header(&answer, HeaderName::Allow).unwrap(),
        "REGISTER, OPTIONS"
    );
    assert!(header(&answer, HeaderName::AllowEvents).is_none());
    // Asked of an engine without an agent, it does nothing.
    let address = "sip:alice@example.com";
    lab.engine.reconsider_watchers(address).await.unwrap();
}
