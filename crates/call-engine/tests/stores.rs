//! Stores that take their time, fail, or break: what their users see.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use sipora_call_engine::{
    AddressOfRecord, Answer, Applied, Binding, Change, ChangeError, Cursor, LocationStore,
    MemoryStore, Page, Secret, StoreError, Timestamp, UserStore, Users,
};

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
        let address = address.clone();
        self.later(move |inner| inner.bindings(&address, now))
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
    assert_eq!(
        status(&lab.phone.ask(&options("sip:alice@example.com")).await),
        480
    );
    assert_eq!(
        status(&lab.phone.ask(&options("sip:nobody@example.com")).await),
        404
    );
    assert_eq!(
        status(&lab.phone.ask(&options("sip:broken@example.com")).await),
        500
    );
}
