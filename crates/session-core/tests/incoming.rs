//! What a coordinator answers to requests that come in.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sipora_message::{Method, Uri};
use sipora_session_core::{
    Answer, Incoming, SessionCoordinator, SessionHandler, SessionManagerBuilder, SipClient,
    SipResponse, StatusCode, Transport,
};
use sipora_testkit::SimNetwork;
use support::*;

struct Scene {
    asker: Arc<SessionCoordinator>,
    asked: Arc<SessionCoordinator>,
}

impl Scene {
    async fn new(settings: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder) -> Self {
        let network = SimNetwork::new(1);
        let asked = SessionManagerBuilder::new()
            .with_network(Arc::new(network.host("192.0.2.2".parse().unwrap())))
            .with_sip_port(5060);
        Scene {
            asker: builder(network.host("192.0.2.1".parse().unwrap()))
                .build()
                .await
                .unwrap(),
            asked: settings(asked).build().await.unwrap(),
        }
    }

    async fn options(&self) -> SipResponse {
        self.asker.send_options("sip:bob@192.0.2.2").await.unwrap()
    }

    async fn raw(&self, method: Method, header: Option<(&str, &str)>) -> SipResponse {
        let target = Uri::parse("sip:bob@192.0.2.2").unwrap();
        let mut builder = self.asker.request(method, &target);
        if let Some((name, value)) = header {
            builder = builder.header(name, value);
        }
        self.asker
            .send_raw_request(builder.build().unwrap(), seconds(40))
            .await
            .unwrap()
    }
}

/// RFC 3261 §8.2.3, whoever answers.
#[tokio::test(start_paused = true)]
async fn options_with_a_body_that_nobody_understands_gets_415() {
    let handler = || Arc::new(Handler(Answer::ok));
    let plain = Scene::new(|builder| builder).await;
    let handled = Scene::new(|builder| builder.with_handler(handler())).await;
    for scene in [plain, handled] {
        let target = Uri::parse("sip:bob@192.0.2.2").unwrap();
        let ask = async |kind: &str, disposition: &str| {
            let request = scene.asker.request(Method::Options, &target);
            let request = request.header("Content-Disposition", disposition);
            let request = request.body(kind, "v=0\r\n").build().unwrap();
            let answer = scene.asker.send_raw_request(request, seconds(40));
            answer.await.unwrap()
        };
        let refused = ask("text/plain", "render").await;
        assert_eq!(refused.status().as_u16(), 415);
        assert_eq!(refused.header("Accept").unwrap(), "application/sdp");
        assert_eq!(refused.header("Accept-Encoding").unwrap(), "identity");
        let optional = ask("text/plain", "render;handling=optional").await;
        assert_eq!(optional.status().as_u16(), 200);
        let known = ask("application/sdp", "session").await;
        assert_eq!(known.status().as_u16(), 200);
    }
}

struct Handler<F>(F);

#[async_trait]
impl<F> SessionHandler for Handler<F>
where
    F: Fn() -> Answer + Send + Sync + 'static,
{
    async fn on_options(&self, incoming: &Incoming<'_>) -> Answer {
        assert_eq!(incoming.source().ip().to_string(), "192.0.2.1");
        assert_eq!(incoming.transport(), Transport::Udp);
        assert_eq!(*incoming.request().method(), Method::Options);
        (self.0)()
    }
}

#[tokio::test(start_paused = true)]
async fn options_is_answered_with_what_the_client_can_do() {
    let scene = Scene::new(|builder| builder).await;
    let answer = scene.options().await;
    assert_eq!(answer.status().as_u16(), 200);
    for (name, value) in [
        ("Allow", "OPTIONS"),
        ("Accept-Encoding", "identity"),
        ("Accept-Language", "en"),
    ] {
        assert_eq!(answer.header(name).as_deref(), Some(value), "{name}");
    }
    assert!(answer.header("Accept").is_some() && answer.header("Supported").is_some());
    assert!(answer.header("Server").unwrap().starts_with("Sipora/"));
    assert!(answer.message().headers().to().unwrap().tag().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_can_subscribe_says_that_it_takes_notify() {
    let scene = Scene::new(SessionManagerBuilder::enable_sip_client).await;
    let answer = scene.options().await;
    assert_eq!(answer.header("Allow").as_deref(), Some("OPTIONS, NOTIFY"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_options_gets_the_status_that_is_owed() {
    let scene = Scene::new(|builder| builder).await;
    let answer = scene.raw(Method::Message, None).await;
    assert_eq!(answer.status().as_u16(), 405);
    assert_eq!(answer.header("Allow").as_deref(), Some("OPTIONS"));
    assert_eq!(
        scene
            .raw(Method::Other("DANCE".into()), None)
            .await
            .status()
            .as_u16(),
        501
    );
    let answer = scene
        .raw(Method::Options, Some(("Require", "100rel")))
        .await;
    assert_eq!(answer.status().as_u16(), 420);
    assert_eq!(answer.header("Unsupported").as_deref(), Some("100rel"));
}

#[tokio::test(start_paused = true)]
async fn the_application_answers_in_its_own_words() {
    let handler = Handler(|| {
        Answer::new(StatusCode::BUSY_HERE)
            .with_reason("In a meeting")
            .with_header("X-Until", "noon")
            .with_body("text/plain", "later")
    });
    let scene = Scene::new(|builder| builder.with_handler(Arc::new(handler))).await;
    let answer = scene.options().await;
    assert_eq!(
        (answer.status().as_u16(), answer.reason().as_ref()),
        (486, "In a meeting")
    );
    assert_eq!(answer.header("X-Until").as_deref(), Some("noon"));
    assert_eq!(answer.body(), b"later");
    assert!(answer.header("Allow").is_none());
}

#[tokio::test(start_paused = true)]
async fn what_the_application_sets_is_not_set_twice() {
    let handler = Handler(|| {
        Answer::ok()
            .with_header("Accept", "text/plain")
            .with_header("Server", "Mine")
    });
    let scene = Scene::new(|builder| builder.with_handler(Arc::new(handler))).await;
    let answer = scene.options().await;
    assert_eq!(
        answer.headers_named("Accept").collect::<Vec<_>>(),
        ["text/plain"]
    );
    assert_eq!(answer.headers_named("Server").collect::<Vec<_>>(), ["Mine"]);
    assert_eq!(
        answer.header("Allow").as_deref(),
        Some("OPTIONS, MESSAGE, NOTIFY")
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_sent_is_500() {
    for answer in [
        Answer::ok().with_header("X-Evil", "a\r\nVia: b"),
        Answer::new(StatusCode::RINGING),
        Answer::ok().with_reason("a\r\nb"),
    ] {
        let handler = Handler(move || answer.clone());
        let scene = Scene::new(|builder| builder.with_handler(Arc::new(handler))).await;
        assert_eq!(scene.options().await.status().as_u16(), 500);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_is_500_and_the_next_request_is_answered() {
    let calls = AtomicUsize::new(0);
    let handler = Handler(move || match calls.fetch_add(1, Ordering::Relaxed) {
        0 => panic!("the application is broken"),
        _ => Answer::ok(),
    });
    let scene = Scene::new(|builder| builder.with_handler(Arc::new(handler))).await;
    assert_eq!(scene.options().await.status().as_u16(), 500);
    assert_eq!(scene.options().await.status().as_u16(), 200);
}

struct Slow;

#[async_trait]
impl SessionHandler for Slow {
    async fn on_options(&self, _: &Incoming<'_>) -> Answer {
        pass(seconds(1000)).await;
        Answer::ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_500_in_time() {
    let scene = Scene::new(|builder| builder.with_handler(Arc::new(Slow))).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(scene.options().await.status().as_u16(), 500);
    assert!(
        (5..=6).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn more_than_the_application_can_take_is_503() {
    let scene = Arc::new(Scene::new(|builder| builder.with_handler(Arc::new(Slow))).await);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let scene = scene.clone();
        asked.spawn(async move { scene.options().await });
    }
    let (mut refused, mut given_up) = (0, 0);
    while let Some(answer) = asked.join_next().await {
        let answer = answer.unwrap();
        match answer.status().as_u16() {
            503 => {
                assert!(answer.header("Retry-After").is_some());
                refused += 1;
            }
            500 => given_up += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(refused + given_up, 200);
    assert!((30..=72).contains(&refused), "{refused} refused");
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_until_the_shutdown_and_not_after() {
    let scene = Scene::new(|builder| builder).await;
    scene.asked.shutdown().await;
    assert!(scene.asker.send_options("sip:192.0.2.2").await.is_err());
}

struct Pondering;

#[async_trait]
impl SessionHandler for Pondering {
    async fn on_options(&self, _: &Incoming<'_>) -> Answer {
        pass(seconds(1)).await;
        Answer::ok()
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_application_is_answering_is_answered_before_the_end() {
    let scene = Scene::new(|builder| builder.with_handler(Arc::new(Pondering))).await;
    let (answer, ()) = tokio::join!(scene.options(), async {
        pass(Duration::from_millis(500)).await;
        scene.asked.shutdown().await;
    });
    assert_eq!(answer.status(), StatusCode::OK);
}
