//! What is asked for within a call, and changes nothing: INFO (RFC 6086), MESSAGE (RFC 3428).

use crate::phone::*;
use sipora_session_core::{
    Body, CallEvent, CallHandle, CallRequest, Error, Method, SessionManagerBuilder, SipResponse,
};

fn hello() -> CallRequest {
    CallRequest::message(Body::new("text/plain", "hello"))
}

fn floor() -> CallRequest {
    CallRequest::info_package("g.example", Some(Body::new("text/plain", "floor")))
}

async fn allow(call: &CallHandle) -> String {
    let answer = call.request(CallRequest::options()).await.unwrap();
    answer.header("Allow").unwrap().into_owned()
}

fn status(answer: Result<SipResponse, Error>) -> u16 {
    answer.unwrap().status().as_u16()
}

#[test]
fn messages_within_calls_are_taken_by_who_wants_them() {
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let mut bob = Phone::with(&network, BOB, |it| it.with_messages_in_calls()).await;
        let (hers, mut his) = up(&alice, &mut bob).await;
        assert_eq!(status(hers.request(hello()).await), 200);
        match his.next().await.unwrap() {
            CallEvent::Message(message) => {
                assert_eq!(message.method(), &Method::Message);
                assert_eq!(message.body(), b"hello");
            }
            other => panic!("{other:?}"),
        }
        assert!(allow(&hers).await.contains("MESSAGE"));
        // She has not asked for any.
        assert_eq!(status(his.request(hello()).await), 405);
        assert!(!allow(&his).await.contains("MESSAGE"));
    });
}

#[test]
fn packages_of_info_are_taken_by_their_names() {
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let takes = |it: SessionManagerBuilder| {
            it.with_info_package("conference")
                .with_info_package("g.example")
        };
        let mut bob = Phone::with(&network, BOB, takes).await;
        let (hers, mut his) = up(&alice, &mut bob).await;
        assert_eq!(status(hers.request(floor()).await), 200);
        match his.next().await.unwrap() {
            CallEvent::Info(info) => assert_eq!(info.body(), b"floor"),
            other => panic!("{other:?}"),
        }
        let other = CallRequest::info_package("other", None);
        let refused = hers.request(other).await;
        assert!(matches!(refused, Err(Error::NotNow { .. })), "{refused:?}");
        // She has named none.
        let refused = his.request(floor()).await;
        assert!(matches!(refused, Err(Error::NotNow { .. })), "{refused:?}");
    });
}

#[test]
fn a_package_of_info_whose_name_is_no_token_is_refused() {
    scene(|network| async move {
        for (host, name) in ["", "two words", "a,b", "a;b", "a\r\nVia: x"]
            .iter()
            .enumerate()
        {
            let builder = builder(&network, &format!("192.0.2.{}", host + 1));
            let builder = builder.with_info_package(name);
            let refused = builder.build_with_calls().await;
            assert!(
                matches!(refused, Err(Error::InvalidConfiguration { .. })),
                "{name}"
            );
        }
    });
}

#[test]
fn an_info_that_does_not_reach_the_peer_ends_no_call() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, _his) = up(&alice, &mut bob).await;
        // His port is closed now.
        drop(bob);
        let key = CallRequest::info(Body::new("application/dtmf-relay", "Signal=5"));
        let failed = hers.request(key).await;
        assert!(matches!(failed, Err(Error::Transport { .. })), "{failed:?}");
        // RFC 3261 §8.1.3.1: as if it were a 503, which ends no call.
        let second = tokio::time::Duration::from_secs(1);
        let event = tokio::time::timeout(second, hers.next()).await;
        assert!(event.is_err(), "{event:?}");
    });
}
