//! Stores that take their time, fail, or break: what their users see.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::watcher::Watcher;
use common::*;
use sipora_call_engine::{
    AddressOfRecord, Answer, Applied, Binding, Change, ChangeError, ContactChange, Cursor,
    LocationStore, MemoryStore, Origin, Page, Secret, StoreError, Timestamp, Transport, Update,
    UserStore, Users,
};
use sipora_session_core::Basic;

/// A store behind a wire: every answer takes a second.
#[derive(Default)]
struct Slow {
    inner: Arc<MemoryStore>,
    how: How,
    at_once: Arc<AtomicUsize>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum How {
    #[default]
    Well,
    Failing,
    Panicking,
    Stuck,
}

impl Slow {
    fn later<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MemoryStore) -> Answer<Result<T, StoreError>> + Send + 'static,
    ) -> Answer<Result<T, StoreError>> {
        let (inner, how, at_once) = (Arc::clone(&self.inner), self.how, Arc::clone(&self.at_once));
        Answer::later(async move {
            at_once.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            match how {
                How::Well => work(&inner).wait().await,
                How::Failing => Err(StoreError::new("the disk is gone")),
                How::Panicking => panic!("a store that breaks"),
                How::Stuck => std::future::pending().await,
            }
        })
    }
}

impl LocationStore for Slow {
    fn apply(&self, change: Change, now: Timestamp) -> Answer<Result<Applied, ChangeError>> {
        let inner = Arc::clone(&self.inner);
        let waited = self.later(|_| Answer::Now(Ok(())));
        Answer::later(async move {
            waited.wait().await?;
            inner.apply(change, now).wait().await
        })
    }

    fn bindings(
        &self,
        address: &AddressOfRecord,
        now: Timestamp,
    ) -> Answer<Result<Vec<Binding>, StoreError>> {
        // As they are now: old by the time that they arrive.
        let found = self.inner.bindings(address, now);
        self.later(move |_| found)
    }

    fn remove(
        &self,
        address: &AddressOfRecord,
        now: Timestamp,
    ) -> Answer<Result<usize, StoreError>> {
        let address = address.clone();
        self.later(move |inner| inner.remove(&address, now))
    }

    fn page(
        &self,
        after: Option<&Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Answer<Result<Page, StoreError>> {
        let after = after.cloned();
        self.later(move |inner| inner.page(after.as_ref(), limit, now))
    }

    fn count(&self) -> Answer<Result<usize, StoreError>> {
        self.later(|inner| inner.count())
    }
}

async fn slow_lab(how: How) -> Lab {
    lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_location_store(Arc::new(Slow {
                how,
                ..Slow::default()
            }))
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_store_and_others_do_not_wait_for_it() {
    let mut lab = slow_lab(How::Well).await;
    let first = lab.phone.request(&register(1).contact("<sip:a@192.0.2.1>"));
    lab.phone.send(first.as_bytes());
    assert_eq!(
        status(&lab.phone.ask(&options("sip:example.com")).await),
        200
    );
    let answer = lab.phone.receive().await.unwrap();
    assert_eq!((status(&answer), contacts(&answer).len()), (200, 1));
    assert_eq!(contacts(&lab.phone.ask(&register(2)).await).len(), 1);
    assert_eq!(lab.engine.binding_count().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_breaks_is_answered_with_500() {
    for how in [How::Failing, How::Panicking] {
        let mut lab = slow_lab(how).await;
        assert_eq!(
            status(
                &lab.phone
                    .ask(&register(1).contact("<sip:a@192.0.2.1>"))
                    .await
            ),
            500
        );
        assert_eq!(status(&lab.phone.ask(&register(2)).await), 500);
        assert_eq!(lab.engine.metrics().registrar.store_failures, 2);
        assert_eq!(
            status(&lab.phone.ask(&options("sip:example.com")).await),
            200
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up_before_the_client_gives_up() {
    let mut lab = slow_lab(How::Stuck).await;
    // More than may run at once: those that wait for their turn have waited as long.
    for number in 0..300 {
        let asked = register(1).call_id(&format!("call-{number}"));
        let request = lab.phone.request(&asked);
        lab.phone.send(request.as_bytes());
    }
    after(31).await;
    let mut refused = 0;
    while let Some(answer) = lab.phone.receive().await {
        match status(&answer) {
            100 => {}
            500 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(refused, 300);
    assert_eq!(lab.engine.metrics().registrar.store_failures, 300);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_store_holds_so_many_requests_and_the_rest_is_told_to_come_later() {
    let mut lab = slow_lab(How::Well).await;
    let mut refused = 0;
    for number in 0..3000 {
        let asked = register(1)
            .call_id(&format!("call-{number}"))
            .contact("<sip:a@192.0.2.1>");
        let request = lab.phone.request(&asked);
        lab.phone.send(request.as_bytes());
        if number % 100 == 99 {
            // Lets what was sent arrive.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let mut answered = 0;
    while let Some(answer) = lab.phone.receive().await {
        match status(&answer) {
            100 => {}
            200 | 403 => answered += 1,
            503 => {
                assert!(answer.headers().retry_after().unwrap().is_some());
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(answered + refused, 3000);
    assert!(refused > 0, "nothing was refused");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_finishes_what_waits_for_a_store_and_takes_nothing_new() {
    let mut lab = slow_lab(How::Well).await;
    let first = lab.phone.request(&register(1).contact("<sip:a@192.0.2.1>"));
    lab.phone.send(first.as_bytes());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let engine = Arc::clone(&lab.engine);
    let shutdown = tokio::spawn(async move { engine.shutdown().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = lab.phone.ask(&options("sip:example.com")).await;
    assert_eq!(status(&refused), 503);
    let answer = lab.phone.receive().await.unwrap();
    assert_eq!((status(&answer), contacts(&answer).len()), (200, 1));
    shutdown.await.unwrap();
    assert_eq!(lab.engine.binding_count().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_the_last_state_however_long_the_store_takes() {
    let mut lab = slow_lab(How::Well).await;
    let mut watcher = Watcher::new(&lab.network, "192.0.2.21:5060");
    assert_eq!(status(&watcher.watch().await), 200);
    assert_eq!(watcher.basic().await, Some(Basic::Closed));
    // Each change while the look for the one before is under way.
    for cseq in 1..=7 {
        let expires = 60 * (cseq % 2);
        let contact = format!("<sip:a@192.0.2.1>;expires={expires}");
        let request = lab.phone.request(&register(cseq).contact(&contact));
        lab.phone.send(request.as_bytes());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut last = watcher.told(10).await.expect("a change");
    while let Some(told) = watcher.told(10).await {
        last = told;
    }
    assert_eq!(last.basic(), Some(Basic::Open));
    assert_eq!(lab.engine.binding_count().await.unwrap(), 1);
    // And its end, of which nobody tells.
    assert_eq!(watcher.told(50).await.unwrap().basic(), Some(Basic::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_change_while_a_subscribe_waits_for_the_store_is_not_missed() {
    let mut lab = slow_lab(How::Well).await;
    let request = lab.phone.request(&register(1).contact("<sip:a@192.0.2.1>"));
    lab.phone.send(request.as_bytes());
    // Asked before the binding is stored, answered after.
    tokio::time::sleep(Duration::from_millis(990)).await;
    let mut watcher = Watcher::new(&lab.network, "192.0.2.21:5060");
    assert_eq!(status(&watcher.watch().await), 200);
    let mut last = watcher.told(2).await.expect("a NOTIFY");
    while let Some(told) = watcher.told(10).await {
        last = told;
    }
    assert_eq!(last.basic(), Some(Basic::Open));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_breaks_lets_nobody_watch_and_is_no_news() {
    for how in [How::Failing, How::Panicking] {
        let lab = slow_lab(how).await;
        let mut watcher = Watcher::new(&lab.network, "192.0.2.21:5060");
        assert_eq!(status(&watcher.watch().await), 500);
        assert!(watcher.told(10).await.is_none());
        assert_eq!(lab.engine.metrics().presence.subscriptions, 0);
    }
}

/// A store at hand, in which another task binds something the moment after it was asked.
#[derive(Default)]
struct Raced {
    inner: MemoryStore,
    coming: Mutex<Option<Change>>,
    /// What it has done it calls a failure.
    is_liar: bool,
}

impl LocationStore for Raced {
    fn apply(&self, change: Change, now: Timestamp) -> Answer<Result<Applied, ChangeError>> {
        let applied = self.inner.apply(change, now);
        match self.is_liar {
            true => Answer::Now(Err(StoreError::new("the answer was lost").into())),
            false => applied,
        }
    }

    fn bindings(
        &self,
        address: &AddressOfRecord,
        now: Timestamp,
    ) -> Answer<Result<Vec<Binding>, StoreError>> {
        let found = self.inner.bindings(address, now);
        if let Some(change) = self.coming.lock().unwrap().take() {
            assert!(matches!(self.inner.apply(change, now), Answer::Now(Ok(_))));
        }
        found
    }

    fn remove(
        &self,
        address: &AddressOfRecord,
        now: Timestamp,
    ) -> Answer<Result<usize, StoreError>> {
        self.inner.remove(address, now)
    }

    fn page(
        &self,
        after: Option<&Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Answer<Result<Page, StoreError>> {
        self.inner.page(after, limit, now)
    }

    fn count(&self) -> Answer<Result<usize, StoreError>> {
        self.inner.count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_right_after_a_subscribe_has_asked_the_store_is_not_missed() {
    let store = Arc::new(Raced::default());
    let given = Arc::clone(&store);
    let lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_location_store(given)
    })
    .await;
    let contact = ContactChange::new("sip:a@192.0.2.7".parse().unwrap(), 600);
    let flow = Origin {
        transport: Transport::Udp,
        source: "192.0.2.7:5060".parse().unwrap(),
        flow: None,
    };
    let address = "sip:alice@example.com".parse().unwrap();
    let change = Change::new(
        address,
        "elsewhere",
        1,
        Update::Contacts(vec![contact]),
        flow,
    );
    *store.coming.lock().unwrap() = Some(change);
    let mut watcher = Watcher::new(&lab.network, "192.0.2.21:5060");
    assert_eq!(status(&watcher.watch().await), 200);
    let mut last = watcher.told(2).await.expect("a NOTIFY");
    while let Some(told) = watcher.told(10).await {
        last = told;
    }
    assert_eq!(last.basic(), Some(Basic::Open));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_store_made_and_called_a_failure_is_seen() {
    let store = Raced {
        is_liar: true,
        ..Raced::default()
    };
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_location_store(Arc::new(store))
    })
    .await;
    let mut watcher = Watcher::new(&lab.network, "192.0.2.21:5060");
    watcher.watch().await;
    assert_eq!(watcher.basic().await, Some(Basic::Closed));
    let asked = register(1).contact("<sip:a@192.0.2.7>");
    assert_eq!(status(&lab.phone.ask(&asked).await), 500);
    let told = watcher.told(6).await.expect("the change");
    assert_eq!(told.basic(), Some(Basic::Open));
}

/// Users behind a wire.
struct SlowUsers(Arc<Users>);

impl UserStore for SlowUsers {
    fn secret(&self, user: &str, domain: &str) -> Answer<Result<Option<Secret>, StoreError>> {
        let (users, user, domain) = (Arc::clone(&self.0), user.to_owned(), domain.to_owned());
        Answer::later(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if user == "broken" {
                return Err(StoreError::new("no such table"));
            }
            users.secret(&user, &domain).wait().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn users_may_come_from_a_store_that_takes_its_time() {
    let users = Arc::new(Users::new());
    users.add("alice", "wonderland").unwrap();
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .with_user_store(Arc::new(SlowUsers(users)))
    })
    .await;
    assert!(lab.engine.users().is_none());
    let asked = register(1).contact("<sip:a@192.0.2.1>");
    assert_eq!(
        status(&lab.phone.ask_as(&asked, "alice", "wonderland").await),
        200
    );
    assert_eq!(
        status(
            &lab.phone
                .ask_as(&asked.clone().call_id("2"), "alice", "guess")
                .await
        ),
        401
    );
    assert_eq!(
        status(
            &lab.phone
                .ask_as(&asked.clone().call_id("3"), "nobody", "guess")
                .await
        ),
        401
    );
    assert_eq!(
        status(
            &lab.phone
                .ask_as(&asked.clone().call_id("4"), "broken", "guess")
                .await
        ),
        500
    );
    let mut watcher =
        Watcher::new(&lab.network, "192.0.2.21:5060").logged_in("alice", "wonderland");
    assert_eq!(status(&watcher.watch().await), 200);
    assert_eq!(watcher.basic().await, Some(Basic::Open));
    assert_eq!(status(&watcher.subscribe(&["Expires: 0"]).await), 200);
    // Whose credentials, then whether there is such a user: each question takes its time.
    for (number, (uri, owed)) in [
        ("sip:nobody@example.com", 404),
        ("sip:broken@example.com", 500),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = message(uri, "hello").call_id(&format!("message-{number}"));
        let answer = lab.phone.ask_as(&asked, "alice", "wonderland").await;
        assert_eq!(status(&answer), owed, "{uri}");
    }
}
