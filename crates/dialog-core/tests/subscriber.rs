//! The subscriber of RFC 6665 §4.1 against a scripted notifier, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sipora_auth::AuthError;
use sipora_dialog_core::{
    ApiError, Authorizer, PresencePackage, RefreshFailure, Resubscribe, Subscribe, Subscriber,
    SubscriberApi, SubscriberConfig, SubscriberEvent, Subscription, SubscriptionEnd,
    SubscriptionState, TerminationReason,
};
use sipora_message::{HeaderName, Request, Response, StatusCode};
use sipora_testkit::SimNetwork;
use sipora_transaction_core::{Endpoint, IdSource};
use support::*;

const PIDF: &str = "application/pidf+xml";

struct Scene {
    peer: Peer,
    api: SubscriberApi,
    _endpoint: Endpoint,
}

impl Scene {
    async fn new(script: impl FnMut(&Request) -> Vec<Act> + Send + 'static) -> Self {
        Self::with(SubscriberConfig::default(), script).await
    }

    async fn with(
        config: SubscriberConfig,
        script: impl FnMut(&Request) -> Vec<Act> + Send + 'static,
    ) -> Self {
        let network = SimNetwork::new(1);
        let peer = Peer::new(&network, script).await;
        let mut builder = endpoint(&network, US, 1);
        let api = subscriber(&mut builder, config);
        Scene {
            peer,
            api,
            _endpoint: builder.build().await.unwrap(),
        }
    }

    async fn subscribe(&self, event: &str, expires: u32) -> Result<Subscription, SubscriptionEnd> {
        self.open(subscribe(event, expires), None).await
    }

    async fn open(
        &self,
        subscribe: Subscribe,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<Subscription, SubscriptionEnd> {
        let timeout = Duration::from_secs(32);
        self.api.subscribe(subscribe, authorizer, timeout).await
    }
}

/// Accepts for as long as is asked, and notifies at once; the number of a NOTIFY is that of its SUBSCRIBE.
fn plain(request: &Request) -> Vec<Act> {
    let expires = expires_of(request).unwrap();
    let state = match expires {
        0 => "terminated;reason=timeout".to_owned(),
        left => format!("active;expires={left}"),
    };
    vec![ok(expires), notify(request, &state)]
}

fn notify(subscribe: &Request, state: &str) -> Act {
    let cseq = subscribe.headers().cseq().unwrap().number;
    Act::Send(Notify::to(subscribe, "n", cseq, state).build())
}

fn is_active(subscription: &Subscription) -> bool {
    matches!(subscription.state(), SubscriptionState::Active { .. })
}

fn end(subscription: &Subscription) -> SubscriptionEnd {
    match subscription.state() {
        SubscriptionState::Terminated(end) => end,
        other => panic!("not over: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_accepted_then_active_and_tells_what_it_is_told() {
    let scene = Scene::new(|request| {
        let notify = Notify::to(request, "n", 7, "active;expires=600").body(PIDF, "<presence/>");
        vec![ok(600), Act::Send(notify.build())]
    })
    .await;
    let subscription = scene.subscribe("presence", 3600).await.unwrap();
    assert_eq!(subscription.response().unwrap().status().as_u16(), 200);
    let notification = subscription.next().await.unwrap();
    assert_eq!(notification.body(), b"<presence/>");
    assert_eq!(notification.content_type().as_deref(), Some(PIDF));
    let SubscriptionState::Active { expires_in } = subscription.state() else {
        panic!("{:?}", subscription.state());
    };
    assert_eq!(expires_in.as_secs(), 600);
    let request = scene.peer.seen.last();
    let text = |name| request.headers().text(&name).unwrap().into_owned();
    assert_eq!(text(HeaderName::Event), "presence");
    assert_eq!(text(HeaderName::Accept), PIDF);
    assert_eq!(text(HeaderName::Contact), format!("<sip:alice@{US}>"));
    assert_eq!(expires_of(&request), Some(3600));
    pass(1000).await;
    assert_eq!(scene.peer.seen.statuses(), [200]);
}

#[tokio::test(start_paused = true)]
async fn a_notify_before_the_2xx_is_kept() {
    let scene = Scene::new(|request| vec![notify(request, "pending;expires=500"), ok(600)]).await;
    let subscription = scene.subscribe("presence", 3600).await.unwrap();
    assert!(subscription.next().await.is_some());
    let SubscriptionState::Pending { expires_in } = subscription.state() else {
        panic!("{:?}", subscription.state());
    };
    assert!(
        expires_in.as_secs() <= 500,
        "the NOTIFY has the authority: {expires_in:?}"
    );
    pass(60_000).await;
    assert!(!subscription.state().is_terminal(), "timer N is over");
}

#[tokio::test(start_paused = true)]
async fn a_lost_2xx_does_not_matter_when_a_notify_came() {
    let scene = Scene::new(|request| vec![notify(request, "active;expires=600")]).await;
    let subscription = scene.subscribe("presence", 3600).await.unwrap();
    assert!(subscription.response().is_none());
    assert!(is_active(&subscription));
}

#[tokio::test(start_paused = true)]
async fn refreshes_go_within_the_dialog_of_the_notify_and_come_in_time() {
    let scene = Scene::new(|request| {
        let cseq = request.headers().cseq().unwrap().number;
        let notify = Notify::to(request, "n", cseq, "active;expires=600")
            .header(HeaderName::RecordRoute, &format!("<sip:{PEER};lr>"));
        vec![ok(600), Act::Send(notify.build())]
    })
    .await;
    let subscription = scene.subscribe("presence", 3600).await.unwrap();
    let first = scene.peer.seen.last();
    scene.peer.seen.clear();
    for round in 1..4 {
        pass(540_000).await;
        assert!(is_active(&subscription));
        assert_eq!(scene.peer.seen.requests().len(), round);
    }
    let refresh = scene.peer.seen.requests().remove(0);
    let (headers, before) = (refresh.headers(), first.headers());
    assert_eq!(refresh.uri_text(), format!("sip:bob@{PEER}"));
    assert_eq!(
        headers.text(&HeaderName::Route).unwrap(),
        format!("<sip:{PEER};lr>")
    );
    assert_eq!(headers.to().unwrap().tag(), Some("n"));
    assert_eq!(headers.call_id(), before.call_id());
    assert_eq!(headers.from().unwrap().tag(), before.from().unwrap().tag());
    assert_eq!(
        headers.cseq().unwrap().number,
        before.cseq().unwrap().number + 1
    );
    assert_eq!(expires_of(&refresh), Some(3600));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_on_demand_gives_its_answer() {
    let scene = Scene::new(plain).await;
    let subscription = scene.subscribe("presence", 600).await.unwrap();
    pass(1000).await;
    let answer = subscription.refresh().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(scene.peer.seen.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn terminate_asks_for_an_expiry_of_zero_and_waits_for_the_last_notify() {
    let scene = Scene::new(plain).await;
    let subscription = scene.subscribe("presence", 600).await.unwrap();
    subscription.next().await.unwrap();
    let ended = subscription.terminate().await;
    assert!(matches!(ended, SubscriptionEnd::Unsubscribed), "{ended:?}");
    let last = scene.peer.seen.last();
    assert_eq!(expires_of(&last), Some(0));
    assert!(
        subscription.next().await.is_some(),
        "the last NOTIFY can be read"
    );
    assert!(subscription.next().await.is_none());
    let late = Notify::to(&last, "n", 9, "active;expires=60").build();
    assert_eq!(scene.peer.says(late).await, 481);
    assert!(matches!(
        subscription.refresh().await,
        Err(ApiError::Cancelled { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn terminate_ends_without_a_last_notify_too() {
    let scene = Scene::new(|request| match expires_of(request) {
        Some(0) => vec![ok(0)],
        _ => plain(request),
    })
    .await;
    let subscription = scene.subscribe("presence", 600).await.unwrap();
    pass(1000).await;
    let before = tokio::time::Instant::now();
    let ended = subscription.terminate().await;
    assert!(matches!(ended, SubscriptionEnd::Unsubscribed), "{ended:?}");
    assert_eq!(before.elapsed().as_secs(), 32);
}

#[tokio::test(start_paused = true)]
async fn terminate_before_the_first_notify_waits_for_it_and_its_dialog() {
    let scene = Scene::new(|request| match expires_of(request) {
        Some(0) => plain(request),
        _ => vec![ok(600)],
    })
    .await;
    let subscription = Arc::new(scene.subscribe("presence", 600).await.unwrap());
    let ending = subscription.clone();
    let ended = tokio::spawn(async move { ending.terminate().await });
    pass(5000).await;
    assert_eq!(
        scene.peer.seen.requests().len(),
        1,
        "there is no dialog yet"
    );
    let first = Notify::to(&scene.peer.seen.last(), "n", 1, "active;expires=600").build();
    assert_eq!(scene.peer.says(first).await, 200);
    let ended = ended.await.unwrap();
    assert!(matches!(ended, SubscriptionEnd::Unsubscribed), "{ended:?}");
    assert_eq!(expires_of(&scene.peer.seen.last()), Some(0));
}

#[tokio::test(start_paused = true)]
async fn an_expiry_of_zero_fetches_the_present_state() {
    let scene = Scene::new(plain).await;
    let subscription = scene.subscribe("presence", 0).await.unwrap();
    assert!(subscription.next().await.is_some());
    assert!(subscription.next().await.is_none());
    assert!(matches!(end(&subscription), SubscriptionEnd::Unsubscribed));
}

#[tokio::test(start_paused = true)]
async fn terminate_ends_in_time_whatever_else_is_told_meanwhile() {
    for is_early in [true, false] {
        let scene = Scene::new(move |request| match expires_of(request) {
            // A change crosses the last SUBSCRIBE, and no last NOTIFY comes.
            Some(0) if is_early => vec![notify(request, "active;expires=590"), ok(0)],
            Some(0) => vec![ok(0), notify(request, "active;expires=590")],
            _ => plain(request),
        })
        .await;
        let subscription = scene.subscribe("presence", 600).await.unwrap();
        pass(1000).await;
        let before = tokio::time::Instant::now();
        let ended = subscription.terminate().await;
        assert!(matches!(ended, SubscriptionEnd::Unsubscribed), "{ended:?}");
        assert_eq!(before.elapsed().as_secs(), 32, "{is_early}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_in_time_whatever_the_notifier_makes_of_it() {
    for script in [
        |request: &Request| vec![notify(request, "active"), ok(0)],
        |request: &Request| vec![ok(0), notify(request, "active")],
        |request: &Request| vec![notify(request, "active")],
    ] {
        let scene = Scene::new(script).await;
        let subscription = scene.subscribe("presence", 0).await.unwrap();
        assert!(subscription.next().await.is_some());
        pass(33_000).await;
        assert!(matches!(end(&subscription), SubscriptionEnd::Unsubscribed));
    }
    let silent = Scene::new(|_| vec![answer(204)]).await;
    let subscription = silent.subscribe("presence", 0).await.unwrap();
    pass(33_000).await;
    assert!(matches!(end(&subscription), SubscriptionEnd::NoNotify));
}

#[tokio::test(start_paused = true)]
async fn a_notifier_ends_it_with_reason_and_retry_after() {
    let scene = Scene::new(plain).await;
    let subscription = scene.subscribe("presence", 600).await.unwrap();
    pass(1000).await;
    let first = scene.peer.seen.last();
    let state = "terminated;reason=probation;retry-after=90;expires=77";
    let last = Notify::to(&first, "n", 9, state).build();
    assert_eq!(scene.peer.says(last).await, 200);
    let ended = end(&subscription);
    let wait = Duration::from_secs(90);
    assert_eq!(ended.resubscribe(), Some(Resubscribe::After(wait)));
    let SubscriptionEnd::ByNotifier { reason, .. } = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(reason, TerminationReason::Probation);
}

#[tokio::test(start_paused = true)]
async fn notifies_that_make_no_sense_get_what_they_are_owed_and_change_nothing() {
    let scene = Scene::new(plain).await;
    let subscription = scene.subscribe("presence", 600).await.unwrap();
    pass(1000).await;
    subscription.next().await.unwrap();
    let first = scene.peer.seen.last();
    let notify = |cseq| Notify::to(&first, "n", cseq, "terminated;reason=rejected");
    let stranger = Notify {
        call_id: "another".to_owned(),
        ..notify(20)
    };
    let untagged = Notify {
        to: "<sip:alice@example.com>".to_owned(),
        ..notify(20)
    };
    let forked = Notify {
        tag: "other".to_owned(),
        ..notify(20)
    };
    let other_event = Notify {
        event: Some("dialog".to_owned()),
        ..notify(20)
    };
    let other_id = Notify {
        event: Some("presence;id=7".to_owned()),
        ..notify(20)
    };
    let no_event = Notify {
        event: None,
        ..notify(20)
    };
    let no_state = Notify {
        state: None,
        ..notify(20)
    };
    let cases = [
        (stranger, 481),
        (untagged, 481),
        (forked, 481),
        (other_event, 489),
        (other_id, 489),
        (no_event, 489),
        (no_state, 400),
        (notify(20).body("text/plain", "hello"), 415),
        (notify(20).header(HeaderName::Require, "eventlist"), 420),
        (notify(1), 500),
    ];
    for (case, status) in cases {
        assert_eq!(scene.peer.says(case.build()).await, status);
        assert!(is_active(&subscription), "{status}");
    }
    let answers = scene.peer.seen.answers();
    let of = |status| {
        answers
            .iter()
            .find(|answer| answer.status().as_u16() == status)
            .unwrap()
    };
    assert_eq!(of(415).headers().text(&HeaderName::Accept).unwrap(), PIDF);
    let allowed = answers
        .iter()
        .filter_map(|answer| answer.headers().text(&HeaderName::AllowEvents));
    assert_eq!(allowed.collect::<Vec<_>>(), ["presence", "presence"]);
    let good = Notify::to(&first, "n", 20, "active;expires=60").build();
    assert_eq!(scene.peer.says(good).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_given_back_and_nothing_is_kept() {
    let scene = Scene::new(|_| vec![answer(403)]).await;
    let refused = scene.subscribe("presence", 600).await.unwrap_err();
    let SubscriptionEnd::Refused { response, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(response.status().as_u16(), 403);
    let late = Notify::to(&scene.peer.seen.last(), "n", 1, "active;expires=60").build();
    assert_eq!(scene.peer.says(late).await, 481);
}

#[tokio::test(start_paused = true)]
async fn refusals_that_end_a_subscription_end_it_and_others_do_not() {
    for (status, ends) in [
        (481, true),
        (404, true),
        (489, true),
        (500, false),
        (403, false),
    ] {
        let count = Arc::new(Mutex::new(0));
        let scene = Scene::new(move |request| {
            *count.lock().unwrap() += 1;
            match *count.lock().unwrap() {
                2 => vec![answer(status)],
                _ => plain(request),
            }
        })
        .await;
        let subscription = scene.subscribe("presence", 600).await.unwrap();
        pass(541_000).await;
        assert_eq!(subscription.state().is_terminal(), ends, "{status}");
        if !ends {
            // Tried again before the end.
            pass(58_000).await;
            assert_eq!(scene.peer.seen.requests().len(), 3, "{status}");
            pass(60_000).await;
            assert!(is_active(&subscription), "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_refreshed_expires() {
    let scene = Scene::new(|request| match request.headers().to().unwrap().tag() {
        None => plain(request),
        Some(_) => vec![answer(500)],
    })
    .await;
    let subscription = scene.subscribe("presence", 600).await.unwrap();
    pass(599_000).await;
    assert!(is_active(&subscription));
    pass(2000).await;
    let SubscriptionEnd::Expired { cause: Some(cause) } = end(&subscription) else {
        panic!("{:?}", end(&subscription));
    };
    assert!(
        matches!(&*cause, RefreshFailure::Refused { status, .. } if status.as_u16() == 500),
        "{cause}"
    );
}

#[tokio::test(start_paused = true)]
async fn too_brief_is_tried_once_more_with_the_minimum() {
    let scene = Scene::new(|request| match expires_of(request) {
        Some(600) => plain(request),
        _ => vec![Act::Answer(
            423,
            vec![(HeaderName::MinExpires, "600".to_owned())],
        )],
    })
    .await;
    let subscription = scene.subscribe("presence", 60).await.unwrap();
    pass(1000).await;
    assert!(is_active(&subscription));
    let asked: Vec<_> = scene.peer.seen.requests().iter().map(expires_of).collect();
    assert_eq!(asked, [Some(60), Some(600)]);
    let numbers = scene.peer.seen.requests();
    let number = |at: usize| numbers[at].headers().cseq().unwrap().number;
    assert_eq!(number(1), number(0) + 1);

    let stubborn = Scene::new(|_| {
        vec![Act::Answer(
            423,
            vec![(HeaderName::MinExpires, "9999".to_owned())],
        )]
    })
    .await;
    let refused = stubborn.subscribe("presence", 60).await;
    assert!(matches!(refused, Err(SubscriptionEnd::Refused { .. })));
    assert_eq!(stubborn.peer.seen.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_notify_timer_n_ends_it() {
    let scene = Scene::new(|_| vec![ok(600)]).await;
    let subscription = scene.subscribe("presence", 600).await.unwrap();
    pass(31_000).await;
    assert!(matches!(subscription.state(), SubscriptionState::Waiting));
    pass(2000).await;
    assert!(matches!(end(&subscription), SubscriptionEnd::NoNotify));
    let late = Notify::to(&scene.peer.seen.last(), "n", 1, "active;expires=60").build();
    assert_eq!(scene.peer.says(late).await, 481);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_no_notify_follows_ends_it_but_for_204() {
    for (status, ends) in [(200, true), (204, false)] {
        let scene = Scene::new(move |request| match request.headers().to().unwrap().tag() {
            None => plain(request),
            Some(_) => vec![answer(status)],
        })
        .await;
        let subscription = scene.subscribe("presence", 600).await.unwrap();
        pass(580_000).await;
        assert_eq!(subscription.state().is_terminal(), ends, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forked_subscribe_makes_a_subscription_for_each_dialog_where_its_package_says_so() {
    let script = |request: &Request| {
        let fork = |tag| Act::Send(Notify::to(request, tag, 1, "active;expires=600").build());
        match request.headers().to().unwrap().tag() {
            None => vec![fork("one"), ok(600), fork("two")],
            Some(_) => plain(request),
        }
    };
    let scene = Scene::new(script).await;
    let mut first = scene.subscribe("message-summary", 600).await.unwrap();
    let second = first.next_fork().await.unwrap();
    assert!(first.next().await.is_some() && second.next().await.is_some());
    scene.peer.seen.clear();
    first.refresh().await.unwrap();
    second.refresh().await.unwrap();
    let tags: Vec<_> = scene
        .peer
        .seen
        .requests()
        .iter()
        .map(|request| request.headers().to().unwrap().tag().unwrap().to_owned())
        .collect();
    assert_eq!(tags, ["one", "two"]);

    let late = Notify::to(&scene.peer.seen.last(), "three", 1, "active;expires=600").build();
    pass(40_000).await;
    assert_eq!(scene.peer.says(late).await, 481, "after timer N");

    let scene = Scene::new(script).await;
    let presence = scene.subscribe("presence", 600).await.unwrap();
    pass(1000).await;
    assert!(is_active(&presence));
    assert_eq!(scene.peer.seen.statuses(), [200, 481]);
}

#[tokio::test(start_paused = true)]
async fn forks_that_nobody_takes_go_with_the_first() {
    let scene = Scene::new(|request| {
        let fork = |tag| Act::Send(Notify::to(request, tag, 1, "active;expires=600").build());
        vec![fork("one"), fork("two"), ok(600)]
    })
    .await;
    let subscription = scene.subscribe("message-summary", 600).await.unwrap();
    pass(1000).await;
    drop(subscription);
    pass(1000).await;
    for tag in ["one", "two"] {
        let late = Notify::to(&scene.peer.seen.last(), tag, 2, "active;expires=600").build();
        assert_eq!(scene.peer.says(late).await, 481, "{tag}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_is_silent_and_its_next_notify_gets_481() {
    let scene = Scene::new(plain).await;
    drop(scene.subscribe("presence", 600).await.unwrap());
    pass(1000).await;
    let late = Notify::to(&scene.peer.seen.last(), "n", 9, "active;expires=60").build();
    assert_eq!(scene.peer.says(late).await, 481);
    pass(1_000_000).await;
    assert_eq!(scene.peer.seen.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_leaves_nothing_behind() {
    let scene = Scene::new(|_| Vec::new()).await;
    let wait = Duration::from_secs(1);
    let dropped = tokio::time::timeout(wait, scene.subscribe("presence", 600)).await;
    assert!(dropped.is_err());
    pass(1000).await;
    let late = Notify::to(&scene.peer.seen.last(), "n", 1, "active;expires=60").build();
    assert_eq!(scene.peer.says(late).await, 481);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_loses_the_oldest_and_is_told_how_many() {
    let scene = Scene::new(plain).await;
    let subscription = scene.subscribe("presence", 600).await.unwrap();
    pass(1000).await;
    let first = scene.peer.seen.last();
    for cseq in 2..=40 {
        let more = Notify::to(&first, "n", cseq, "active;expires=600").build();
        assert_eq!(scene.peer.says(more).await, 200);
    }
    let oldest = subscription.next().await.unwrap();
    assert_eq!(oldest.missed, 8);
    assert_eq!(oldest.request.headers().cseq().unwrap().number, 9);
    assert_eq!(subscription.next().await.unwrap().missed, 0);
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_subscriptions_than_the_limit_says() {
    let config = SubscriberConfig {
        max_subscriptions: 2,
        ..SubscriberConfig::default()
    };
    let scene = Scene::with(config, plain).await;
    let first = scene.subscribe("presence", 600).await.unwrap();
    let _second = scene.subscribe("presence", 600).await.unwrap();
    let busy = || async {
        let third = scene.subscribe("presence", 600).await;
        matches!(third, Err(SubscriptionEnd::NoAnswer(ApiError::Busy { .. })))
    };
    assert!(busy().await);
    pass(1000).await;
    first.terminate().await;
    assert!(!busy().await);
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout() {
    let scene = Scene::new(|_| Vec::new()).await;
    let silent = scene.subscribe("presence", 600).await;
    assert!(matches!(
        silent,
        Err(SubscriptionEnd::NoAnswer(ApiError::Timeout { .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_refused_with_the_reason() {
    let scene = Scene::new(plain).await;
    for event in ["", "a b", "presence\r\nX: y"] {
        let refused = scene.subscribe(event, 600).await;
        assert!(
            matches!(
                &refused,
                Err(SubscriptionEnd::NoAnswer(ApiError::InvalidRequest { .. }))
            ),
            "{event:?}: {refused:?}"
        );
    }
    assert!(scene.peer.seen.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_endpoint_is_the_end_of_its_subscriptions() {
    let Scene {
        api,
        _endpoint,
        peer,
    } = Scene::new(plain).await;
    let timeout = Duration::from_secs(32);
    let subscription = api
        .subscribe(subscribe("presence", 600), None, timeout)
        .await
        .unwrap();
    _endpoint.shutdown().await;
    assert!(matches!(end(&subscription), SubscriptionEnd::Stopped));
    assert!(matches!(
        subscription.terminate().await,
        SubscriptionEnd::Stopped
    ));
    let closed = api
        .subscribe(subscribe("presence", 600), None, timeout)
        .await;
    assert!(matches!(
        closed,
        Err(SubscriptionEnd::NoAnswer(ApiError::Cancelled { .. }))
    ));
    peer.endpoint.shutdown().await;
}

struct Password;

impl Authorizer for Password {
    fn authorize(
        &self,
        _: &Request,
        _: &Response,
        _: &str,
    ) -> Result<Vec<(HeaderName, String)>, AuthError> {
        Ok(vec![(
            HeaderName::Authorization,
            "Pass word=\"1\"".to_owned(),
        )])
    }
}

#[tokio::test(start_paused = true)]
async fn challenges_are_answered_for_the_first_and_for_refreshes() {
    let scene =
        Scene::new(
            |request| match request.headers().contains(&HeaderName::Authorization) {
                true => plain(request),
                false => vec![answer(401)],
            },
        )
        .await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Password);
    let subscription = scene
        .open(subscribe("presence", 600), Some(authorizer))
        .await
        .unwrap();
    pass(1000).await;
    subscription.refresh().await.unwrap();
    let numbers: Vec<_> = scene
        .peer
        .seen
        .requests()
        .iter()
        .map(|request| request.headers().cseq().unwrap().number)
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_fork_counts_on_from_the_retry_that_made_it() {
    let scene = Scene::new(|request| {
        let fork = |tag| Act::Send(Notify::to(request, tag, 1, "active;expires=600").build());
        let is_first = request.headers().to().unwrap().tag().is_none();
        match request.headers().contains(&HeaderName::Authorization) {
            // The 2xx is lost.
            true if is_first => vec![fork("one"), fork("two")],
            true => vec![ok(600)],
            false => vec![answer(401)],
        }
    })
    .await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Password);
    let opened = scene.open(subscribe("message-summary", 600), Some(authorizer));
    let mut first = opened.await.unwrap();
    let second = first.next_fork().await.unwrap();
    scene.peer.seen.clear();
    second.refresh().await.unwrap();
    let refresh = scene.peer.seen.requests().remove(0);
    assert_eq!(refresh.headers().to().unwrap().tag(), Some("two"));
    assert_eq!(refresh.headers().cseq().unwrap().number, 3);
}

/// The order of messages is the caller's to choose: no network is between.
struct Bare {
    core: Subscriber,
    now: Instant,
}

impl Bare {
    fn new() -> Self {
        let ids = IdSource::from_seed([1; 32]);
        let packages: Vec<Arc<dyn sipora_dialog_core::EventPackage>> =
            vec![Arc::new(PresencePackage)];
        Bare {
            core: Subscriber::new(SubscriberConfig::default(), packages, ids),
            now: Instant::now(),
        }
    }

    /// Sends what is to be sent, and hears a NOTIFY before its 2xx.
    fn hears(&mut self, cseq: u32, state: &str, granted: u32) -> Vec<SubscriberEvent> {
        let sent = self.core.poll_request().expect("a SUBSCRIBE");
        let number = sent.request.headers().cseq().unwrap().number;
        let notify = Notify::to(&sent.request, "n", cseq, state).build();
        let owed = self.core.handle_notify(self.now, &notify);
        assert_eq!(owed.status, StatusCode::OK);
        let response = Response::for_request(&sent.request, StatusCode::OK)
            .to_tag("n")
            .header(HeaderName::Expires, granted)
            .build()
            .unwrap();
        self.core
            .handle_response(self.now, sent.id, number, &response, None);
        std::iter::from_fn(|| self.core.poll_event()).collect()
    }

    fn waits(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.core.handle_timeout(self.now);
    }
}

#[test]
fn a_notify_that_overtakes_the_2xx_is_told_first_and_knows_the_time() {
    let mut bare = Bare::new();
    bare.core
        .subscribe(bare.now, subscribe("presence", 3600))
        .unwrap();
    let events = bare.hears(1, "pending;expires=500", 600);
    let notified = |event: &SubscriberEvent| matches!(event, SubscriberEvent::Notified { .. });
    let accepted = |event: &SubscriberEvent| matches!(event, SubscriberEvent::Accepted { .. });
    assert_eq!(events.iter().filter(|event| accepted(event)).count(), 1);
    let told = events.iter().position(notified).unwrap();
    assert!(told < events.iter().position(accepted).unwrap());
    let refresh = bare.core.poll_timeout().unwrap() - bare.now;
    assert!(refresh <= Duration::from_secs(440), "{refresh:?}");
}

#[test]
fn who_has_read_a_notification_sees_the_state_that_it_told() {
    let mut bare = Bare::new();
    bare.core
        .subscribe(bare.now, subscribe("presence", 600))
        .unwrap();
    let events = bare.hears(1, "pending;expires=500", 600);
    let told = |event: &SubscriberEvent| matches!(event, SubscriberEvent::Notified { .. });
    let pending = |event: &SubscriberEvent| {
        let SubscriberEvent::State { state, .. } = event else {
            return false;
        };
        matches!(state, SubscriptionState::Pending { .. })
    };
    let known = events.iter().position(pending).unwrap();
    assert!(known < events.iter().position(told).unwrap(), "{events:?}");
}

#[test]
fn what_overtakes_the_2xx_to_an_expiry_of_zero_does_not_keep_it() {
    let mut fetch = Bare::new();
    fetch
        .core
        .subscribe(fetch.now, subscribe("presence", 0))
        .unwrap();
    fetch.hears(1, "active", 0);
    fetch.waits(32);
    assert!(fetch.core.is_empty());

    let mut bare = Bare::new();
    let id = bare
        .core
        .subscribe(bare.now, subscribe("presence", 600))
        .unwrap();
    bare.hears(1, "active;expires=600", 600);
    assert!(bare.core.terminate(bare.now, id));
    bare.hears(2, "active;expires=590", 0);
    bare.waits(31);
    assert_eq!(bare.core.len(), 1);
    bare.waits(1);
    assert!(bare.core.is_empty());
}
