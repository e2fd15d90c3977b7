//! The pace of NOTIFYs (RFC 6665 §5.4.10, RFC 3856 §6.10), and decisions that take their time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_dialog_core::{
    ApiError, Body, EventPackage, MessageSummaryPackage, Notifier, NotifierConfig, NotifierError,
    Offer, PresencePackage, Subscribed, SubscriptionKey, TerminationReason,
};
use sipora_message::{HeaderName, Request, Response, StatusCode, Uri};
use sipora_transaction_core::IdSource;
use sipora_transport::{Flow, FlowId, Transport};

struct Scene {
    notifier: Notifier,
    begin: Instant,
    now: Instant,
    package: &'static str,
    /// When each NOTIFY left, in milliseconds, and what it said.
    sent: Vec<(u64, String)>,
}

impl Scene {
    fn new(package: &'static str) -> Self {
        let packages: Vec<Arc<dyn EventPackage>> =
            vec![Arc::new(PresencePackage), Arc::new(MessageSummaryPackage)];
        let now = Instant::now();
        Scene {
            notifier: Notifier::new(
                NotifierConfig::default(),
                packages,
                IdSource::from_number(1),
            )
            .with_ends(),
            begin: now,
            now,
            package,
            sent: Vec::new(),
        }
    }

    fn flow() -> Flow {
        Flow {
            id: FlowId::from_u64(1),
            transport: Transport::Udp,
            remote: "192.0.2.10:5060".parse().unwrap(),
        }
    }

    fn request(&self, number: u32, to_tag: Option<&str>, branch: &str) -> Request {
        let tag = to_tag.map(|tag| format!(";tag={tag}")).unwrap_or_default();
        let text = format!(
            "SUBSCRIBE sip:alice@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK{branch}\r\n\
             From: <sip:b@h>;tag=1\r\nTo: <sip:alice@h>{tag}\r\nCall-ID: c\r\nCSeq: {number} SUBSCRIBE\r\n\
             Max-Forwards: 70\r\nContact: <sip:b@192.0.2.10>\r\nEvent: {}\r\nExpires: 600\r\n\r\n",
            self.package
        );
        Request::parse(text, &Default::default()).unwrap()
    }

    fn offer(&mut self, branch: &str) -> Offer {
        let request = self.request(1, None, branch);
        match self
            .notifier
            .handle_subscribe(self.now, &request, &Self::flow())
        {
            Subscribed::Offer(offer) => *offer,
            other => panic!("{other:?}"),
        }
    }

    fn accept(
        &mut self,
        offer: Offer,
        is_pending: bool,
    ) -> Result<(SubscriptionKey, Response), Response> {
        match self
            .notifier
            .accept(self.now, offer, is_pending, "sip:alice@h")
        {
            Ok((key, answer)) => Ok((key, answer.build().unwrap())),
            Err(answer) => Err(answer.build().unwrap()),
        }
    }

    fn begin(&mut self) -> (SubscriptionKey, Response) {
        let offer = self.offer("1");
        let begun = self.accept(offer, false).unwrap();
        self.drain(true);
        begun
    }

    fn refresh(&mut self, answer: &Response, number: u32) {
        let tag = answer.headers().to().unwrap().tag().unwrap().to_owned();
        let request = self.request(number, Some(&tag), "r");
        let answer = match self
            .notifier
            .handle_subscribe(self.now, &request, &Self::flow())
        {
            Subscribed::Answer(answer) => answer.build().unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(answer.status(), StatusCode::OK);
        self.drain(true);
    }

    /// Sends what is due; answered at once, or not yet.
    fn drain(&mut self, is_answered: bool) -> Vec<(SubscriptionKey, Request)> {
        let mut open = Vec::new();
        while let Some(key) = self.notifier.poll_due() {
            let body = Body::new("text/plain", "x");
            let notify = self.notifier.notify(self.now, key, Some(body)).unwrap();
            let state = notify
                .request
                .headers()
                .text(&HeaderName::SubscriptionState);
            let state = state.unwrap().split(';').next().unwrap().to_owned();
            let at = u64::try_from((self.now - self.begin).as_millis()).unwrap();
            self.sent.push((at, state));
            match is_answered {
                true => self.answer(key, &notify.request, StatusCode::OK, None),
                false => open.push((key, notify.request)),
            }
        }
        open
    }

    fn answer(
        &mut self,
        key: SubscriptionKey,
        notify: &Request,
        status: StatusCode,
        retry: Option<u32>,
    ) {
        let notify = notify
            .edit()
            .append(HeaderName::Via, "SIP/2.0/UDP h;branch=z9hG4bK9");
        let notify = notify.build().unwrap();
        let mut answer = Response::for_request(&notify, status);
        if let Some(seconds) = retry {
            answer = answer.header(HeaderName::RetryAfter, seconds);
        }
        let answer = answer.build().unwrap();
        let cseq = notify.headers().cseq().unwrap().number;
        self.notifier.handle_response(self.now, key, cseq, &answer);
    }

    fn changed(&mut self) {
        let resource = Uri::parse("sip:alice@h").unwrap();
        self.notifier.changed(self.now, self.package, &resource);
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while let Some(at) = self.notifier.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.notifier.handle_timeout(self.now);
            self.drain(true);
        }
        self.now = end;
    }

    fn times(&self) -> Vec<u64> {
        self.sent.iter().map(|(at, _)| *at).collect()
    }
}

#[test]
fn changes_between_become_one_at_the_end_of_the_interval() {
    let mut scene = Scene::new("presence");
    scene.begin();
    for _ in 0..4 {
        scene.pass(1000);
        scene.changed();
        scene.drain(true);
    }
    scene.pass(20_000);
    assert_eq!(scene.times(), [0, 5000], "one for the four");
    scene.changed();
    scene.drain(true);
    assert_eq!(
        scene.times(),
        [0, 5000, 24_000],
        "at once, the last is long ago"
    );
}

#[test]
fn a_package_without_an_interval_waits_for_nothing() {
    let mut scene = Scene::new("message-summary");
    scene.begin();
    for _ in 0..3 {
        scene.changed();
        scene.drain(true);
    }
    assert_eq!(scene.times(), [0, 0, 0, 0]);
}

#[test]
fn a_thousand_changes_a_second_are_one_notify_in_five() {
    let mut scene = Scene::new("presence");
    scene.begin();
    for _ in 0..30_000 {
        scene.changed();
        scene.drain(true);
        scene.pass(1);
    }
    let expected: Vec<u64> = (0..=6).map(|count| count * 5000).collect();
    assert_eq!(scene.times(), expected);
}

#[test]
fn what_a_subscribe_wants_and_the_end_do_not_wait() {
    let mut scene = Scene::new("presence");
    let (key, answer) = scene.begin();
    scene.pass(1000);
    scene.changed();
    scene.refresh(&answer, 2);
    assert_eq!(scene.times(), [0, 1000], "with it goes the change");
    scene.pass(4000);
    assert_eq!(scene.times().len(), 2);
    scene.changed();
    scene.drain(true);
    assert_eq!(scene.times().len(), 2, "counted from the last");
    let reason = TerminationReason::NoResource;
    scene
        .notifier
        .terminate(scene.now, key, &reason, None)
        .unwrap();
    scene.drain(true);
    assert_eq!(scene.sent.last().unwrap(), &(5000, "terminated".to_owned()));
    assert!(scene.notifier.is_empty() && scene.notifier.poll_timeout().is_none());
}

#[test]
fn one_that_is_allowed_soon_is_told_at_the_pace() {
    let mut scene = Scene::new("presence");
    let offer = scene.offer("1");
    let (key, _) = scene.accept(offer, true).unwrap();
    scene.drain(true);
    scene.pass(2000);
    scene.notifier.activate(scene.now, key).unwrap();
    scene.drain(true);
    scene.pass(10_000);
    let expected = [(0, "pending".to_owned()), (5000, "active".to_owned())];
    assert_eq!(scene.sent, expected);
}

#[test]
fn a_late_answer_keeps_the_next_one_back_no_longer_than_the_interval() {
    let mut scene = Scene::new("presence");
    scene.begin();
    scene.pass(10_000);
    scene.changed();
    let (key, notify) = scene.drain(false).remove(0);
    scene.pass(1000);
    scene.changed();
    scene.answer(key, &notify, StatusCode::OK, None);
    scene.drain(true);
    scene.pass(20_000);
    assert_eq!(scene.times(), [0, 10_000, 15_000]);
    scene.changed();
    let (key, notify) = scene.drain(false).remove(0);
    scene.changed();
    scene.pass(8000);
    assert_eq!(scene.times().len(), 4, "one at a time");
    scene.answer(key, &notify, StatusCode::OK, None);
    scene.drain(true);
    assert_eq!(*scene.times().last().unwrap(), 39_000);
}

#[test]
fn who_asks_to_be_left_alone_for_a_while_is_left_alone() {
    let mut scene = Scene::new("message-summary");
    let (_, answer) = scene.begin();
    scene.changed();
    let (key, notify) = scene.drain(false).remove(0);
    scene.answer(key, &notify, StatusCode::SERVICE_UNAVAILABLE, Some(30));
    scene.pass(10_000);
    scene.changed();
    scene.drain(true);
    assert_eq!(scene.times(), [0, 0]);
    scene.pass(30_000);
    assert_eq!(
        scene.times(),
        [0, 0, 30_000],
        "once more, with the newest state"
    );
    scene.refresh(&answer, 2);
    assert_eq!(scene.times().len(), 4);
}

#[test]
fn an_offer_waits_and_its_twin_is_told_that_it_is_one() {
    let mut scene = Scene::new("presence");
    let (one, other) = (scene.offer("1"), scene.offer("2"));
    assert_eq!((one.package(), one.subscriber()), ("presence", "sip:b@h"));
    assert_eq!(one.flow(), &Scene::flow());
    scene.pass(3000);
    scene.accept(one, false).unwrap();
    scene.drain(true);
    let refusal = scene.accept(other, false).unwrap_err();
    assert_eq!(refusal.status(), StatusCode::LOOP_DETECTED);
    assert!(refusal.headers().to().unwrap().tag().is_some());
    assert_eq!(scene.notifier.len(), 1);
    scene.drain(true);
    assert_eq!(scene.times(), [3000]);
    // The time that was granted begins with the answer.
    scene.pass(599_000);
    assert_eq!(scene.notifier.len(), 1);
    scene.pass(1000);
    assert_eq!(
        scene.sent.last().unwrap(),
        &(603_000, "terminated".to_owned())
    );
}

#[test]
fn a_limit_that_was_reached_meanwhile_counts() {
    let mut scene = Scene::new("presence");
    let config = NotifierConfig {
        max_subscriptions: 1,
        ..NotifierConfig::default()
    };
    let packages: Vec<Arc<dyn EventPackage>> = vec![Arc::new(PresencePackage)];
    scene.notifier = Notifier::new(config, packages, IdSource::from_number(1));
    let offer = scene.offer("1");
    let text = String::from_utf8(scene.request(1, None, "3").as_bytes().to_vec()).unwrap();
    let request = Request::parse(
        text.replace("Call-ID: c", "Call-ID: d"),
        &Default::default(),
    );
    let Subscribed::Offer(other) =
        scene
            .notifier
            .handle_subscribe(scene.now, &request.unwrap(), &Scene::flow())
    else {
        panic!("no offer");
    };
    scene.accept(*other, false).unwrap();
    let refusal = scene.accept(offer.clone(), false).unwrap_err();
    assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refusal.headers().retry_after().unwrap().is_some());
    let refused = offer.refuse(StatusCode::FORBIDDEN).build().unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.headers().to().unwrap().tag().is_some());
}

#[test]
fn who_watches_what_can_be_looked_at() {
    let mut scene = Scene::new("presence");
    let (key, _) = scene.begin();
    let alice = Uri::parse("sip:alice@h;transport=tcp").unwrap();
    let watching: Vec<_> = scene.notifier.watching(&alice).collect();
    assert_eq!(watching.len(), 1);
    assert_eq!(
        (watching[0].key, &*watching[0].subscriber),
        (key, "sip:b@h")
    );
    assert_eq!(
        watching[0].expires_at,
        scene.begin + Duration::from_secs(600)
    );
    let bob = Uri::parse("sip:bob@h").unwrap();
    assert_eq!(scene.notifier.watching(&bob).count(), 0);
}

#[test]
fn each_end_is_told_with_its_cause() {
    let end = |act: &dyn Fn(&mut Scene, SubscriptionKey, &Response)| {
        let mut scene = Scene::new("message-summary");
        let (key, answer) = scene.begin();
        act(&mut scene, key, &answer);
        scene.drain(true);
        let (ended, end) = scene.notifier.poll_ended().unwrap();
        assert_eq!(ended, key);
        assert!(scene.notifier.poll_ended().is_none());
        format!("{end:?}")
    };
    let expired = end(&|scene, _, _| scene.pass(600_000));
    assert_eq!(expired, "Expired");
    let ours = end(&|scene, key, _| {
        let reason = TerminationReason::NoResource;
        let ended = scene.notifier.terminate(scene.now, key, &reason, None);
        ended.unwrap();
    });
    assert_eq!(ours, "Terminated");
    let refused = end(&|scene, key, _| {
        scene.notifier.changed_for(scene.now, key);
        let (key, notify) = scene.drain(false).remove(0);
        scene.answer(key, &notify, StatusCode::CALL_DOES_NOT_EXIST, None);
    });
    assert!(refused.starts_with("Refused("), "{refused}");
    let lost = end(&|scene, key, _| {
        scene.changed();
        scene.drain(false);
        let error = ApiError::Timeout {
            after: Duration::from_secs(32),
            cseq: Some(2),
        };
        scene.notifier.handle_failure(scene.now, key, &error);
    });
    assert!(lost.starts_with("Unreachable(Timeout"), "{lost}");
    let left = end(&|scene, _, answer| {
        let tag = answer.headers().to().unwrap().tag().unwrap().to_owned();
        let request = scene.request(2, Some(&tag), "e");
        let text = String::from_utf8(request.as_bytes().to_vec()).unwrap();
        let text = text.replace("Expires: 600", "Expires: 0");
        let request = Request::parse(text, &Default::default()).unwrap();
        scene
            .notifier
            .handle_subscribe(scene.now, &request, &Scene::flow());
    });
    assert_eq!(left, "Unsubscribed");
}

#[test]
fn one_subscriber_alone_can_be_told() {
    let mut scene = Scene::new("message-summary");
    let (key, _) = scene.begin();
    scene.notifier.changed_for(scene.now, key);
    scene.drain(true);
    assert_eq!(scene.times(), [0, 0]);
}

#[test]
fn a_subscriber_that_wants_it_again_at_once_and_always_does_not_get_it_so() {
    let mut scene = Scene::new("message-summary");
    scene.begin();
    scene.changed();
    for _ in 0..100 {
        for (key, notify) in scene.drain(false) {
            scene.answer(key, &notify, StatusCode::SERVICE_UNAVAILABLE, Some(0));
        }
    }
    assert_eq!(scene.times(), [0, 0]);
    scene.pass(60_000);
    assert_eq!(scene.times().len(), 3, "it is not forgotten either");
}

#[test]
fn who_is_allowed_when_it_is_over_is_told_nothing() {
    let mut scene = Scene::new("presence");
    let offer = scene.offer("1");
    let (key, _) = scene.accept(offer, true).unwrap();
    scene.drain(true);
    let reason = TerminationReason::Rejected;
    let ended = scene.notifier.terminate(scene.now, key, &reason, None);
    ended.unwrap();
    let late = scene.notifier.activate(scene.now, key);
    assert_eq!(late, Err(NotifierError::Unknown));
    assert!(scene.notifier.subscription(key).unwrap().is_pending);
}

#[test]
fn an_event_may_be_written_in_any_way_that_is_one() {
    for event in [
        "presence;ID=7",
        "presence ; id = 7",
        "presence;x=1;Id=7",
        "presence;x=1;\r\n id=7",
        "presence\r\nRecord-Route: <sip:h;lr>;a=\r\n b",
        "presence;x=\"\u{e4}\"",
    ] {
        let mut scene = Scene::new(event);
        let (_, answer) = scene.begin();
        scene.refresh(&answer, 2);
        assert_eq!(scene.times(), [0, 0], "{event}");
    }
}

#[test]
fn what_would_take_too_much_to_remember_is_too_large() {
    let long = "x".repeat(10_000);
    let fields = [
        ("Event: presence", format!("Event: presence;id={long}")),
        ("<sip:b@192.0.2.10>", format!("<sip:{long}@192.0.2.10>")),
        ("Call-ID: c", format!("Call-ID: {long}")),
        ("<sip:b@h>;tag=1", format!("<sip:b@h>;tag={long}")),
        (
            "Max-Forwards: 70",
            format!("Record-Route: <sip:h;lr;k={long}>"),
        ),
    ];
    let with = |request: &Request, (from, to): &(&str, String)| {
        let text = String::from_utf8(request.as_bytes().to_vec()).unwrap();
        assert!(text.contains(from), "{from}");
        Request::parse(text.replace(from, to), &Default::default()).unwrap()
    };
    let mut scene = Scene::new("presence");
    let (_, answer) = scene.begin();
    let status = |scene: &mut Scene, request: Request| {
        let (now, flow) = (scene.now, Scene::flow());
        match scene.notifier.handle_subscribe(now, &request, &flow) {
            Subscribed::Answer(answer) => answer.build().unwrap().status(),
            other => panic!("{other:?}"),
        }
    };
    for field in &fields {
        let request = with(&scene.request(1, None, "2"), field);
        let status = status(&mut scene, request);
        assert_eq!(status, StatusCode::MESSAGE_TOO_LARGE, "{}", field.0);
    }
    // Nor by a refresh, which brings a new Contact.
    let tag = answer.headers().to().unwrap().tag().unwrap().to_owned();
    let request = with(&scene.request(2, Some(&tag), "3"), &fields[1]);
    let refused = status(&mut scene, request);
    assert_eq!(refused, StatusCode::MESSAGE_TOO_LARGE);
    scene.refresh(&answer, 3);
    // What is not kept may be large.
    let identity = format!("Max-Forwards: 70\r\nIdentity: {long}");
    let request = with(
        &scene.request(1, None, "4"),
        &("Max-Forwards: 70", identity),
    );
    let request = with(&request, &("Call-ID: c", "Call-ID: d".to_owned()));
    let taken = scene
        .notifier
        .handle_subscribe(scene.now, &request, &Scene::flow());
    assert!(matches!(taken, Subscribed::Offer(_)), "{taken:?}");
}
