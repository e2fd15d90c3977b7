//! Calls that we make.

use crate::exchange::{exchange, said};
use crate::phone::*;
use crate::support::{Gate, alice, pass, seconds};
use sipora_message::{HeaderName, Method};
use sipora_session_core::{
    Body, CallEnd, CallEvent, CallOptions, CallRequest, Credentials, Error, SipClient, StatusCode,
};

#[test]
fn a_call_rings_is_answered_and_is_hung_up_by_either() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        for caller_ends in [true, false] {
            let mut hers = alice.calls(BOB).await;
            let mut his = bob.is_called().await;
            assert!(his.is_incoming() && !hers.is_incoming());
            assert_eq!(his.remote_uri(), "sip:user-1@example.com");
            assert_eq!(hers.remote_uri(), "sip:somebody@192.0.2.2");
            assert_eq!(his.sdp(), Some(OFFER));
            his.ring().await.unwrap();
            match hers.next().await.unwrap() {
                CallEvent::Progress(answer) => assert_eq!(answer.status(), StatusCode::RINGING),
                other => panic!("{other:?}"),
            }
            his.accept(ANSWER).await.unwrap();
            let answered = hers.next().await.unwrap();
            assert!(matches!(answered, CallEvent::Answered(_)));
            assert_eq!(answered.sdp(), Some(ANSWER));
            let up = his.next().await.unwrap();
            assert!(matches!(up, CallEvent::Acknowledged(_)));
            assert_eq!(up.sdp(), None);
            let (first, second) = match caller_ends {
                true => (&mut hers, &mut his),
                false => (&mut his, &mut hers),
            };
            first.hang_up().await.unwrap();
            assert!(matches!(first.ended().await, CallEnd::HungUp));
            assert!(matches!(second.ended().await, CallEnd::PeerHungUp(_)));
            assert!(first.next().await.is_none() && second.next().await.is_none());
            assert!(matches!(first.hang_up().await, Err(Error::TooLate)));
        }
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

#[test]
fn early_media_come_before_the_answer() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let his = bob.is_called().await;
        let progress = StatusCode::SESSION_PROGRESS;
        his.progress(progress, Some(ANSWER)).await.unwrap();
        let event = hers.next().await.unwrap();
        assert!(matches!(&event, CallEvent::Progress(answer) if answer.status() == progress));
        assert_eq!(event.sdp(), Some(ANSWER));
        his.accept(ANSWER).await.unwrap();
        assert!(hers.answered().await.is_ok());
    });
}

#[test]
fn without_an_offer_the_peer_makes_it_and_the_ack_has_the_answer() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.client.call(&uri(BOB), None).await.unwrap();
        let mut his = bob.is_called().await;
        assert_eq!(his.sdp(), None);
        let refused = his.accept("").await;
        assert!(
            matches!(refused, Err(Error::InvalidRequest { .. })),
            "{refused:?}"
        );
        his.accept(OFFER).await.unwrap();
        let answered = hers.next().await.unwrap();
        assert_eq!(answered.sdp(), Some(OFFER));
        hers.acknowledge(ANSWER).await.unwrap();
        assert_eq!(his.next().await.unwrap().sdp(), Some(ANSWER));
    });
}

#[test]
fn a_refusal_is_the_error_of_who_waits_for_the_answer() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.reject(StatusCode::BUSY_HERE).await.unwrap();
        match hers.answered().await {
            Err(Error::Rejected(answer)) => assert_eq!(answer.status(), StatusCode::BUSY_HERE),
            other => panic!("{other:?}"),
        }
        assert!(matches!(his.ended().await, CallEnd::Rejected));
        assert!(matches!(hers.answered().await, Err(Error::Rejected(_))));
    });
}

#[test]
fn a_call_that_is_hung_up_while_it_rings_is_cancelled() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.ring().await.unwrap();
        assert!(matches!(hers.next().await, Some(CallEvent::Progress(_))));
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::Cancelled));
        assert!(matches!(his.ended().await, CallEnd::PeerCancelled(_)));
        // The callee was too slow.
        assert!(matches!(his.accept(ANSWER).await, Err(Error::TooLate)));
    });
}

#[test]
fn a_handle_that_is_dropped_hangs_up() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.ring().await.unwrap();
        hers.next().await.unwrap();
        drop(hers);
        assert!(matches!(his.ended().await, CallEnd::PeerCancelled(_)));

        let mut hers = alice.calls(BOB).await;
        drop(bob.is_called().await);
        match hers.answered().await {
            Err(Error::Rejected(answer)) => assert_eq!(answer.status().as_u16(), 480),
            other => panic!("{other:?}"),
        }

        let (hers, mut his) = up(&alice, &mut bob).await;
        drop(hers);
        assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

#[test]
fn a_peer_that_says_nothing_is_a_timeout() {
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let (_peer, _) = exchange(&network, BOB, |_, _| Vec::new()).await;
        network.part([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let end = alice.calls(BOB).await.answered().await;
        assert!(matches!(end, Err(Error::Timeout { .. })), "{end:?}");
    });
}

#[test]
fn challenges_are_answered_and_every_request_of_the_call_carries_credentials() {
    scene(|network| async move {
        let gate = Gate::proxy("example.com", "wonderland");
        let script = move |request: &sipora_message::Request, now| match gate.check(request, now) {
            Some(replies) => {
                let mut challenge = said(replies[0].status, "no");
                challenge.headers.clone_from(&replies[0].headers);
                vec![challenge]
            }
            None => vec![said(180, "yes"), said(200, "yes").with_sdp(ANSWER)],
        };
        let (_peer, kept) = exchange(&network, BOB, script).await;
        let caller =
            Phone::with(&network, ALICE, |builder| builder.with_credentials(alice())).await;
        let mut call = caller.calls(BOB).await;
        assert!(call.answered().await.is_ok());
        call.hang_up().await.unwrap();
        call.ended().await;
        let invites = kept.all(Method::Invite);
        assert_eq!(invites.len(), 2);
        let number = |at: usize| invites[at].headers().cseq().unwrap().number;
        assert_eq!(number(1), number(0) + 1);
        assert_eq!(
            invites[0].headers().call_id(),
            invites[1].headers().call_id()
        );
        let ack = kept.all(Method::Ack).pop().unwrap();
        let bye = kept.nth(Method::Bye, 0).await;
        for request in [&invites[1], &ack, &bye] {
            let given = request.headers().first(&HeaderName::ProxyAuthorization);
            assert!(given.is_some(), "{}", request.method());
        }
    });
}

#[test]
fn a_wrong_password_is_sent_once_and_told() {
    scene(|network| async move {
        let gate = Gate::server("example.com", "another");
        let script = move |request: &sipora_message::Request, now| {
            let replies = gate.check(request, now).expect("refused");
            let mut challenge = said(replies[0].status, "no");
            challenge.headers.clone_from(&replies[0].headers);
            vec![challenge]
        };
        let (_peer, kept) = exchange(&network, BOB, script).await;
        let caller = Phone::new(&network, ALICE).await;
        // None: the challenge is the answer.
        match caller.calls(BOB).await.answered().await {
            Err(Error::Rejected(answer)) => assert_eq!(answer.status().as_u16(), 401),
            other => panic!("{other:?}"),
        }
        assert_eq!(kept.all(Method::Invite).len(), 1);
        let own = Credentials::new("alice", "wonderland");
        let options = CallOptions::new().with_sdp(OFFER).with_credentials(own);
        let mut call = caller.client.call_with(&uri(BOB), options).await.unwrap();
        match call.answered().await {
            Err(Error::AuthenticationFailed { response, .. }) => {
                assert_eq!(response.status().as_u16(), 401);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(kept.all(Method::Invite).len(), 3);
    });
}

#[test]
fn of_two_that_accept_the_first_has_the_call_and_the_other_is_hung_up() {
    scene(|network| async move {
        let script = |_: &sipora_message::Request, _| {
            vec![
                said(180, "one"),
                said(180, "two"),
                said(200, "two").with_sdp(ANSWER),
                said(200, "one").with_sdp(ANSWER),
            ]
        };
        let (_peer, kept) = exchange(&network, BOB, script).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = alice.calls(BOB).await;
        let answer = call.answered().await.unwrap();
        let to = answer
            .message()
            .headers()
            .to()
            .unwrap()
            .tag()
            .map(str::to_owned);
        assert_eq!(to.as_deref(), Some("two"));
        let bye = kept.nth(Method::Bye, 0).await;
        assert_eq!(bye.headers().to().unwrap().tag(), Some("one"));
        let tags: Vec<_> = kept
            .all(Method::Ack)
            .iter()
            .map(|ack| ack.headers().to().unwrap().tag().unwrap().to_owned())
            .collect();
        assert!(tags.contains(&"one".to_owned()) && tags.contains(&"two".to_owned()));
        assert_eq!(alice.client.call_metrics().forks_ended, 1);
        call.hang_up().await.unwrap();
        assert!(matches!(call.ended().await, CallEnd::HungUp));
        settle().await;
        alice.assert_idle();
    });
}

#[test]
fn an_invite_says_who_calls_from_where_and_by_which_way() {
    scene(|network| async move {
        let (_peer, kept) = exchange(&network, CAROL, |_, _| vec![said(486, "busy")]).await;
        let proxy = format!("sip:{CAROL};transport=tcp");
        let alice = Phone::with(&network, ALICE, |builder| {
            builder.with_outbound_proxy(&proxy).with_user_agent("Test")
        })
        .await;
        let options = CallOptions::new()
            .with_from("sip:alice@example.com")
            .with_display_name("Alice \"A\" Liddell")
            .with_header("Subject", "Lunch");
        let mut call = alice
            .client
            .call_with("sip:bob@example.com", options)
            .await
            .unwrap();
        assert!(call.answered().await.is_err());
        let invite = kept.nth(Method::Invite, 0).await;
        let headers = invite.headers();
        assert_eq!(invite.uri_text(), "sip:bob@example.com");
        let from = headers.from().unwrap();
        assert_eq!(from.uri().as_str(), "sip:alice@example.com");
        assert_eq!(from.display().as_deref(), Some("Alice \"A\" Liddell"));
        let text = |name| headers.first(&name).map(String::from_utf8_lossy).unwrap();
        assert_eq!(text(HeaderName::Route), format!("<{proxy};lr>"));
        let contact = "<sip:alice@192.0.2.1:5060;transport=tcp>";
        assert_eq!(text(HeaderName::Contact), contact);
        assert_eq!(text(HeaderName::Subject), "Lunch");
        assert_eq!(text(HeaderName::UserAgent), "Test");
        assert!(headers.first(&HeaderName::ContentType).is_none());
    });
}

#[test]
fn what_is_no_option_of_a_call_is_refused_before_anything_is_sent() {
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let refused = |options: CallOptions| {
            let client = alice.client.clone();
            async move { client.call_with(&uri(BOB), options).await.unwrap_err() }
        };
        let error = refused(CallOptions::new().with_from("nobody")).await;
        assert!(matches!(error, Error::InvalidUri { .. }), "{error:?}");
        let error = refused(CallOptions::new().with_header("Subject", "a\r\nb")).await;
        assert!(matches!(error, Error::InvalidRequest { .. }), "{error:?}");
        let error = alice.client.call("bob", None).await.unwrap_err();
        assert!(matches!(error, Error::InvalidUri { .. }), "{error:?}");
        let error = alice.client.call("sips:bob@192.0.2.2", None).await;
        assert!(matches!(error, Err(Error::NotImplemented { .. })));
        pass(seconds(1)).await;
        alice.assert_idle();
    });
}

#[test]
fn who_was_built_without_calls_makes_none() {
    scene(|network| async move {
        let client = builder(&network, ALICE).build().await.unwrap();
        let error = client.call(&uri(BOB), Some(OFFER)).await.unwrap_err();
        assert!(matches!(error, Error::NotSupported { .. }), "{error}");
        assert!(error.to_string().contains("build_with_calls"), "{error}");

        let host = network.host(CAROL.parse().unwrap());
        let only_answers = sipora_session_core::SessionManagerBuilder::new()
            .with_network(std::sync::Arc::new(host));
        let (client, _calls) = only_answers.build_with_calls().await.unwrap();
        let error = client.call(&uri(BOB), Some(OFFER)).await.unwrap_err();
        assert!(error.to_string().contains("enable_sip_client"), "{error}");
    });
}

#[test]
fn keys_that_are_pressed_go_within_the_call() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (hers, mut his) = up(&alice, &mut bob).await;
        let key = || CallRequest::info(Body::new("application/dtmf-relay", "Signal=5"));
        let answer = hers.request(key()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        match his.next().await.unwrap() {
            CallEvent::Info(info) => assert_eq!(info.body(), b"Signal=5"),
            other => panic!("{other:?}"),
        }
        hers.hang_up().await.unwrap();
        his.ended().await;
        assert!(matches!(his.request(key()).await, Err(Error::TooLate)));
    });
}
