//! What is said within calls and changes nothing: INFO (RFC 6086), MESSAGE, OPTIONS, and methods that nobody knows.

use crate::support::*;
use sipora_dialog_core::{
    ApiError, Body, Call, CallConfig, CallEnd, CallError, CallEvent, CallRequest,
};
use sipora_message::{HeaderName, Method, StatusCode};
use sipora_testkit::{Conditions, for_each_seed, seeds};

fn text(text: &str) -> Body {
    Body::new("text/plain", text.to_owned())
}

fn recv_info() -> HeaderName {
    HeaderName::from("Recv-Info")
}

fn info_package() -> HeaderName {
    HeaderName::from("Info-Package")
}

/// Takes the packages `g.one` and `g.two`, and MESSAGE.
fn open() -> CallConfig {
    let mut config = CallConfig::default();
    config.info_packages = vec!["g.one".into(), "g.two".into()];
    config.takes_messages = true;
    config
}

async fn next_info(call: &mut Call) -> sipora_message::Request {
    loop {
        match call.next().await.unwrap() {
            CallEvent::Info(info) => return info,
            CallEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    }
}

#[test]
fn an_info_without_a_package_reaches_the_application_and_gets_200() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        let info = dialog
            .request(Method::Info, 11)
            .body("application/dtmf-relay", "Signal=5\r\n")
            .build()
            .unwrap();
        phone.send(&info, ALICE).await;
        assert_eq!(phone.status_of(&info).await, 200);
        assert_eq!(next_info(&mut call).await.body(), b"Signal=5\r\n");
    });
}

#[test]
fn an_info_of_a_package_that_was_not_offered_gets_469_and_the_call_goes_on() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, open()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        let wrong = dialog
            .request(Method::Info, 11)
            .header(info_package(), "G.one")
            .build()
            .unwrap();
        phone.send(&wrong, ALICE).await;
        let answer = phone.answer_to(&wrong).await;
        assert_eq!(answer.status(), StatusCode::BAD_INFO_PACKAGE);
        assert_eq!(
            answer.headers().text(&recv_info()).unwrap(),
            "g.one, g.two",
            "469 says what would be taken (RFC 6086 §4.2.2)"
        );
        let right = dialog
            .request(Method::Info, 12)
            .header(info_package(), "g.two;level=3")
            .build()
            .unwrap();
        phone.send(&right, ALICE).await;
        assert_eq!(phone.status_of(&right).await, 200);
        let info = next_info(&mut call).await;
        assert_eq!(
            info.headers().text(&info_package()).unwrap(),
            "g.two;level=3"
        );
    });
}

#[test]
fn recv_info_is_in_every_invite_and_in_the_2xx_to_who_knows_it() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, open()).await;
        let phone = Phone::new(&network).await;
        let (_call, _) = established(&alice, &phone).await;
        let ours = phone.first(Method::Invite).await;
        assert_eq!(ours.headers().text(&recv_info()).unwrap(), "g.one, g.two");

        let mute = invite(ALICE).build().unwrap();
        phone.send(&mute, ALICE).await;
        let first = alice.incoming.next().await.unwrap();
        first.accept(sdp("answer")).await.unwrap();
        let answer = phone.answer_to(&mute).await;
        assert!(!answer.headers().contains(&recv_info()), "§5.2.3: MUST NOT");

        let knows = invite(ALICE)
            .header(recv_info(), "")
            .call_id_again("other")
            .edit()
            .set(HeaderName::CSeq, "20 INVITE")
            .build()
            .unwrap();
        phone.send(&knows, ALICE).await;
        let second = alice.incoming.next().await.unwrap();
        second.accept(sdp("answer")).await.unwrap();
        let answer = phone.answer_to(&knows).await;
        assert_eq!(answer.headers().text(&recv_info()).unwrap(), "g.one, g.two");
    });
}

#[test]
fn an_info_goes_only_to_who_takes_its_package_as_of_the_newest_recv_info() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        let accept = |builder: sipora_message::ResponseBuilder, packages: &str| {
            builder
                .header(recv_info(), packages)
                .body("application/sdp", "v=0\r\n")
        };
        phone
            .answer_with(&invite, 200, "b", |builder| accept(builder, "g.one"))
            .await;
        call.answered().await.unwrap();
        let refused = call
            .request(CallRequest::info_package("g.two", None))
            .await
            .unwrap_err();
        assert!(matches!(refused, CallError::NotNow(_)), "{refused}");
        let sent = call.request(CallRequest::info_package("g.one", Some(text("x"))));
        let (answer, ()) = tokio::join!(sent, async {
            let info = phone.first(Method::Info).await;
            let headers = info.headers();
            assert_eq!(headers.text(&info_package()).unwrap(), "g.one");
            assert_eq!(
                headers.text(&HeaderName::ContentDisposition).unwrap(),
                "Info-Package"
            );
            assert!(!headers.contains(&recv_info()), "§4.2.1: MUST NOT");
            phone.answer(&info, 200, "b").await;
        });
        assert_eq!(answer.unwrap().status(), StatusCode::OK);

        // A re-INVITE takes it back; one that is refused changes nothing (§5.2.4).
        for (status, allowed) in [(488, true), (200, false)] {
            call.reinvite(Some(sdp("again"))).await.unwrap();
            let again = phone.nth(Method::Invite, usize::from(!allowed) + 1).await;
            phone
                .answer_with(&again, status, "b", |builder| match status {
                    200 => accept(builder, ""),
                    _ => builder.header(recv_info(), ""),
                })
                .await;
            pass(100).await;
            let sent = call.request(CallRequest::info_package("g.one", None));
            if allowed {
                let info = async {
                    let info = phone.nth(Method::Info, 1).await;
                    phone.answer(&info, 200, "b").await;
                };
                let (answer, ()) = tokio::join!(sent, info);
                assert!(answer.is_ok());
            } else {
                assert!(matches!(sent.await, Err(CallError::NotNow(_))));
            }
        }
    });
}

#[test]
fn info_goes_both_ways_while_it_rings() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.incoming.next().await.unwrap();
        let early = his.request(CallRequest::info(text("too early"))).await;
        assert!(matches!(early, Err(CallError::NotNow(_))), "{early:?}");
        his.ring().await.unwrap();
        assert!(is_progress(&hers.next().await));
        let answer = his.request(CallRequest::info(text("soon"))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(next_info(&mut hers).await.body(), b"soon");
        let answer = hers.request(CallRequest::info(text("hurry"))).await;
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
        assert_eq!(next_info(&mut his).await.body(), b"hurry");
    });
}

#[test]
fn who_is_forked_to_is_asked_by_tag() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "one").await;
        phone.answer(&invite, 180, "two").await;
        pass(100).await;
        let ambiguous = call.request(CallRequest::info(text("who?"))).await;
        assert!(matches!(ambiguous, Err(CallError::Gone)));
        let sent = call.request(CallRequest::info(text("you")).to_tag("two"));
        let (answer, ()) = tokio::join!(sent, async {
            let info = phone.first(Method::Info).await;
            assert_eq!(to_tag(&info), "two");
            // It may be that it has overtaken the 180 there (RFC 6086 §4.2.1): no reason to end anything.
            phone.answer(&info, 481, "two").await;
        });
        assert_eq!(answer.unwrap().status(), StatusCode::CALL_DOES_NOT_EXIST);
        pass(100).await;
        assert_eq!(phone.count(Method::Cancel) + phone.count(Method::Bye), 0);
    });
}

/// The application sleeps: what it has not read does not grow, and the sender is told.
#[test]
fn what_nobody_reads_is_refused_with_500_and_costs_the_call_nothing() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        let mut statuses = Vec::new();
        for cseq in 11..61 {
            let info = dialog.build(Method::Info, cseq);
            phone.send(&info, ALICE).await;
            let answer = phone.answer_to(&info).await;
            let waits = answer.headers().contains(&HeaderName::RetryAfter);
            assert_eq!(waits, answer.status() != StatusCode::OK);
            statuses.push(answer.status().as_u16());
        }
        let taken = statuses.iter().take_while(|status| **status == 200).count();
        assert_eq!(taken, 16);
        assert!(statuses[taken..].iter().all(|status| *status == 500));
        assert_eq!(alice.dialogs.call_metrics().messages_refused, 34);
        for _ in 0..taken {
            next_info(&mut call).await;
        }
        let info = dialog.build(Method::Info, 61);
        phone.send(&info, ALICE).await;
        assert_eq!(phone.status_of(&info).await, 200);
    });
}

#[test]
fn a_message_is_taken_only_by_who_shows_it() {
    for takes in [false, true] {
        scene(move |network| async move {
            let config = if takes { open() } else { CallConfig::default() };
            let mut alice = Agent::with(&network, ALICE, 1, config).await;
            let phone = Phone::new(&network).await;
            let (mut call, dialog) = answered(&mut alice, &phone).await;
            let message = dialog
                .request(Method::Message, 11)
                .body("text/plain", "hello")
                .build()
                .unwrap();
            phone.send(&message, ALICE).await;
            let answer = phone.answer_to(&message).await;
            if takes {
                assert_eq!(answer.status(), StatusCode::OK);
                loop {
                    if let Some(CallEvent::Message(message)) = call.next().await {
                        break assert_eq!(message.body(), b"hello");
                    }
                }
            } else {
                assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
                let mut allow = answer.headers().allow();
                assert!(allow.all(|method| method != Method::Message));
            }
        });
    }
}

#[test]
fn options_says_what_is_understood_and_unknown_methods_get_501_or_405() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, open()).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = answered(&mut alice, &phone).await;
        let options = dialog.build(Method::Options, 11);
        phone.send(&options, ALICE).await;
        let answer = phone.answer_to(&options).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let headers = answer.headers();
        let allowed: Vec<Method> = headers.allow().collect();
        for method in [Method::Invite, Method::Bye, Method::Info, Method::Message] {
            assert!(allowed.contains(&method), "{allowed:?}");
        }
        assert_eq!(
            headers.text(&HeaderName::Accept).unwrap(),
            "application/sdp"
        );
        assert_eq!(headers.text(&recv_info()).unwrap(), "g.one, g.two");
        let cases = [
            (Method::Other("FROBNICATE".into()), 501),
            (Method::Publish, 405),
            (Method::Register, 405),
        ];
        for (cseq, (method, status)) in (12..).zip(cases) {
            let request = dialog.build(method, cseq);
            phone.send(&request, ALICE).await;
            let answer = phone.answer_to(&request).await;
            assert_eq!(answer.status().as_u16(), status);
            assert!(answer.headers().contains(&HeaderName::Allow));
        }
        let alive = call.request(CallRequest::options());
        let (answer, ()) = tokio::join!(alive, async {
            let options = phone.first(Method::Options).await;
            phone.answer(&options, 200, "b").await;
        });
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    });
}

/// RFC 5057 §5: 481 to an INFO ends the call, 404 whatever it answers, and 481 to what belongs to no usage nothing.
#[test]
fn what_a_refusal_ends_is_as_its_table_says() {
    let cases = [
        (CallRequest::info(text("x")), Method::Info, 481, true),
        (CallRequest::info(text("x")), Method::Info, 404, true),
        (CallRequest::info(text("x")), Method::Info, 405, false),
        (CallRequest::info(text("x")), Method::Info, 415, false),
        (CallRequest::info(text("x")), Method::Info, 469, false),
        (CallRequest::info(text("x")), Method::Info, 500, false),
        (CallRequest::options(), Method::Options, 481, false),
        (CallRequest::options(), Method::Options, 404, true),
        (CallRequest::message(text("x")), Method::Message, 481, false),
    ];
    for (request, method, status, ends) in cases {
        scene(move |network| {
            let (request, method) = (request.clone(), method.clone());
            async move {
                let alice = Agent::new(&network, ALICE, 1).await;
                let phone = Phone::new(&network).await;
                let (mut call, _) = established(&alice, &phone).await;
                let answering = async {
                    let came = phone.first(method).await;
                    phone.answer(&came, status, "b").await;
                };
                let (answer, ()) = tokio::join!(call.request(request), answering);
                assert_eq!(answer.unwrap().status().as_u16(), status);
                pass(100).await;
                assert_eq!(phone.count(Method::Bye) == 1, ends, "{status}");
                if ends {
                    let bye = phone.first(Method::Bye).await;
                    phone.answer(&bye, 200, "b").await;
                    assert!(matches!(call.ended().await, CallEnd::Lost));
                }
            }
        });
    }
}

#[test]
fn silence_ends_the_call_and_is_told() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        let answer = call.request(CallRequest::info(text("x"))).await;
        assert!(
            matches!(answer, Err(CallError::Failed(ApiError::Timeout { .. }))),
            "{answer:?}"
        );
        assert!(matches!(call.ended().await, CallEnd::Lost));
        pass(120_000).await;
        alice.assert_idle();
    });
}

#[test]
fn no_more_than_sixteen_requests_are_under_way_in_a_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, _) = established(&alice, &phone).await;
        let call = std::sync::Arc::new(call);
        let asking: Vec<_> = (0..16)
            .map(|_| {
                let call = call.clone();
                tokio::spawn(async move { call.request(CallRequest::options()).await })
            })
            .collect();
        phone.nth(Method::Options, 15).await;
        let refused = call.request(CallRequest::options()).await;
        assert!(matches!(refused, Err(CallError::Busy)));
        for came in phone.all(Method::Options) {
            phone.answer(&came, 200, "b").await;
        }
        for asked in asking {
            assert!(asked.await.unwrap().is_ok());
        }
        let answering = async {
            let came = phone.nth(Method::Options, 16).await;
            phone.answer(&came, 200, "b").await;
        };
        let (answer, ()) = tokio::join!(call.request(CallRequest::options()), answering);
        assert!(answer.is_ok());
    });
}

/// On a bad network every INFO comes once, in order, and every sender hears so, whoever hangs up in the end.
#[test]
fn info_comes_once_and_in_order_over_a_bad_network() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let alice = Agent::with(&network, ALICE, 1, open()).await;
        let mut bob = Agent::with(&network, BOB, 2, open()).await;
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            let mut came = Vec::new();
            loop {
                match call.next().await.unwrap() {
                    CallEvent::Info(info) => came.push(info.body().to_vec()),
                    CallEvent::Ended(_) => break came,
                    _ => {}
                }
            }
        };
        let calling = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            let mut sent = Vec::new();
            for number in 0..5 {
                let body = number.to_string();
                let request = match number % 2 {
                    0 => CallRequest::info(text(&body)),
                    _ => CallRequest::info_package("g.one", Some(text(&body))),
                };
                let answer = call.request(request).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
                sent.push(body.into_bytes());
            }
            call.hang_up().await.unwrap();
            call.ended().await;
            sent
        };
        let (came, sent) = tokio::join!(answering, calling);
        assert_eq!(came, sent);
        pass(120_000).await;
        alice.assert_idle();
        bob.assert_idle();
    });
}
