//! Calls that we are asked for.

use crate::support::*;
use sipora_dialog_core::{CallConfig, CallEnd, CallError, CallEvent};
use sipora_message::{HeaderName, Method, Request, Response, StatusCode};
use sipora_testkit::audit::Rule;
use sipora_transaction_core::Target;

#[test]
fn a_body_that_nobody_understands_gets_415_unless_it_is_optional() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.body_types = vec!["application/pidf+xml".into()];
        let mut alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let plain = invite(ALICE).build().unwrap();
        for (number, media, header, taken) in [
            (1, "text/plain", None, false),
            (
                2,
                "application/sdp",
                Some((HeaderName::ContentEncoding, "gzip")),
                false,
            ),
            (3, "Application/PIDF+xml", None, true),
            (4, "multipart/mixed;boundary=x", None, true),
            (
                5,
                "text/plain",
                Some((HeaderName::ContentDisposition, "render;handling=optional")),
                true,
            ),
        ] {
            let invite = plain.edit().remove(HeaderName::ContentType);
            let mut invite = invite.set(HeaderName::CallId, format!("c{number}"));
            if let Some((name, value)) = header {
                invite = invite.set(name, value);
            }
            let invite = invite.body(media, "--x").build().unwrap();
            phone.send(&invite, ALICE).await;
            if taken {
                alice.incoming.next().await.unwrap();
            } else {
                let answer = phone.answer_to(&invite).await;
                assert_eq!(
                    answer.status(),
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "{media}"
                );
                let accept = answer.headers().text(&HeaderName::Accept).unwrap();
                assert_eq!(accept, "application/sdp, application/pidf+xml");
                let encoding = answer.headers().text(&HeaderName::AcceptEncoding);
                assert_eq!(encoding.unwrap(), "identity");
            }
        }
    });
}

#[test]
fn a_sips_contact_alone_wants_a_sips_contact() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        let contact = format!("<sips:bob@{BOB}>");
        let invite = invite.edit().set(HeaderName::Contact, contact);
        let invite = invite.build().unwrap();
        phone.send(&invite, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let response = phone.answer_to(&invite).await;
        let contact = response.headers().contact().unwrap().unwrap();
        assert_eq!(contact.uri().as_str(), format!("sips:alice@{ALICE}"));
    });
}

#[test]
fn a_call_rings_is_accepted_and_acknowledged() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE)
            .header(HeaderName::RecordRoute, format!("<sip:{BOB};lr>"))
            .build()
            .unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        assert_eq!(call.invite().unwrap().body(), invite.body());
        call.ring().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let response = phone.answer_to(&invite).await;
        assert_eq!(response.status().as_u16(), 200);
        let headers = response.headers();
        assert!(headers.contains(&HeaderName::RecordRoute));
        assert!(headers.contains(&HeaderName::Allow));
        let contact = headers.contact().unwrap().unwrap().uri().to_string();
        assert_eq!(contact, format!("sip:alice@{ALICE}"));
        let dialog = InDialog::of_response(&response);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        assert!(matches!(call.ring().await, Err(CallError::Gone)));
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(routes(&bye), [format!("sip:{BOB};lr")]);
        assert_eq!(bye.uri_text(), format!("sip:bob@{BOB}"));
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

/// Over UDP and over TCP: the 2xx is the user agent's to repeat (RFC 3261 §13.3.1.4).
fn without_ack(target: fn(std::net::SocketAddr) -> Target) {
    scene(move |network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        phone.send_to(&invite, target(ALICE.parse().unwrap())).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        call.hang_up().await.unwrap();
        pass(31_000).await;
        assert_eq!(phone.count(Method::Bye), 0, "there is no ACK yet");
        let copies = phone.seen_finals(&invite);
        assert_eq!(
            copies, 10,
            "the first, and after 0.5, 1.5, 3.5, 7.5 … 27.5 s"
        );
        pass(2_000).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::NotAcknowledged));
        assert_eq!(phone.count(Method::Bye), 1);
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_2xx_is_repeated_until_64_t1_and_then_the_call_is_ended_over_udp() {
    without_ack(Target::udp);
}

#[test]
fn a_2xx_is_repeated_until_64_t1_and_then_the_call_is_ended_over_tcp() {
    without_ack(Target::tcp);
}

#[test]
fn who_hangs_up_before_the_ack_waits_for_it() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        call.hang_up().await.unwrap();
        pass(3_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
    });
}

#[test]
fn a_cancelled_call_gets_487_and_takes_no_answer_any_more() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        let taking = async {
            let call = alice.incoming.next().await.unwrap();
            call.ring().await.unwrap();
            call
        };
        let (mut call, ()) = tokio::join!(taking, phone.send_and_cancel_after(&invite, ALICE, 50));
        assert_eq!(phone.status_of(&invite).await, 487);
        assert!(matches!(
            call.accept(sdp("late")).await,
            Err(CallError::Gone)
        ));
        assert!(matches!(end(&mut call).await, CallEnd::PeerCancelled(_)));
        pass(1).await;
        alice.assert_idle();
    });
}

#[test]
fn a_cancel_after_the_2xx_changes_nothing() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        network.set_conditions(sipora_testkit::Conditions {
            delay: std::time::Duration::from_millis(30)..=std::time::Duration::from_millis(30),
            ..sipora_testkit::Conditions::perfect()
        });
        let invite = invite(ALICE).build().unwrap();
        let taking = async {
            let call = alice.incoming.next().await.unwrap();
            call.ring().await.unwrap();
            pass(40).await;
            call.accept(sdp("answer")).await.unwrap();
            call
        };
        let (mut call, ()) = tokio::join!(taking, phone.send_and_cancel_after(&invite, ALICE, 70));
        let response = phone.answer_to(&invite).await;
        assert_eq!(response.status().as_u16(), 200);
        let dialog = InDialog::of_response(&response);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        phone.send(&dialog.build(Method::Bye, 11), ALICE).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
    });
}

#[test]
fn sequence_numbers_may_skip_and_must_not_fall() {
    scene(|network| async move {
        network.auditor().waive(Rule::Sequence);
        network.auditor().waive(Rule::AfterBye);
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let mut says = Vec::new();
        for (method, cseq) in [
            (Method::Options, 15),
            (Method::Options, 14),
            (Method::Invite, 13),
            (Method::Bye, 12),
            (Method::Info, 16),
            (Method::Other("FOO".into()), 17),
        ] {
            let request = dialog.build(method, cseq);
            phone.send(&request, ALICE).await;
            says.push(phone.status_of(&request).await);
        }
        assert_eq!(says[..4], [200, 500, 500, 500]);
        assert!(says[4] != 481 && says[5] == 501, "{says:?}");
        let bye = dialog.build(Method::Bye, 18);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        let late = dialog.build(Method::Invite, 19);
        phone.send(&late, ALICE).await;
        assert_eq!(phone.status_of(&late).await, 481);
    });
}

#[test]
fn what_stands_in_no_dialog_gets_481() {
    scene(|network| async move {
        network.auditor().waive(Rule::Dialog);
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let other = |edit: fn(&mut InDialog)| {
            let mut dialog = InDialog {
                call_id: dialog.call_id.clone(),
                local: dialog.local.clone(),
                remote: dialog.remote.clone(),
                target: dialog.target.clone(),
            };
            edit(&mut dialog);
            dialog
        };
        let strangers = [
            other(|dialog| dialog.call_id.push('x')),
            other(|dialog| dialog.local.push('x')),
            other(|dialog| dialog.remote.push('x')),
        ];
        for (cseq, dialog) in (20..).zip(strangers) {
            let bye = dialog.build(Method::Bye, cseq);
            phone.send(&bye, ALICE).await;
            assert_eq!(phone.status_of(&bye).await, 481);
        }
        assert_eq!(alice.dialogs.call_metrics().calls, 1);
        drop(call);
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_bye_while_it_rings_is_answered_and_the_invite_gets_487() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.ring().await.unwrap();
        pass(10).await;
        let ringing = phone.seen.last_response();
        let bye = InDialog::of_response(&ringing).build(Method::Bye, 11);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        assert_eq!(phone.status_of(&invite).await, 487);
        end(&mut call).await;
        pass(1).await;
        alice.assert_idle();
    });
}

#[test]
fn a_reinvite_is_offered_and_only_one_at_a_time() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        call.next().await;
        let first = dialog.build(Method::Invite, 11);
        phone.send(&first, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        let second = dialog.build(Method::Invite, 12);
        phone.send(&second, ALICE).await;
        let refusal = phone.answer_to(&second).await;
        assert_eq!(refusal.status().as_u16(), 500);
        let after = refusal.headers().retry_after().unwrap().unwrap().seconds;
        assert!(after <= 10);
        assert!(matches!(
            call.reinvite(None).await,
            Err(CallError::NotNow(_))
        ));
        call.accept(sdp("second answer")).await.unwrap();
        assert_eq!(phone.status_of(&first).await, 200);
        phone.send(&dialog.build(Method::Ack, 11), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        // Ours is under way: the phone's gets 491.
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let ours = phone.first(Method::Invite).await;
        let crossing = dialog.build(Method::Invite, 13);
        phone.send(&crossing, ALICE).await;
        assert_eq!(phone.status_of(&crossing).await, 491);
        phone.answer(&ours, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
        // One that is refused changes nothing, its Contact neither.
        let moved = dialog
            .request(Method::Options, 14)
            .contact("<sip:bob@192.0.2.99>")
            .build()
            .unwrap();
        phone.send(&moved, ALICE).await;
        let refused = dialog.build(Method::Invite, 15);
        phone.send(&refused, ALICE).await;
        call.next().await;
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        assert_eq!(phone.status_of(&refused).await, 488);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(bye.uri_text(), format!("sip:bob@{BOB}"));
        phone.answer(&bye, 200, "b").await;
        end(&mut call).await;
    });
}

#[test]
fn a_reinvite_can_be_cancelled_and_the_call_goes_on() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        call.next().await;
        let reinvite = dialog.build(Method::Invite, 11);
        // The 100 after 200 ms is what it waits for.
        phone.send_and_cancel_after(&reinvite, ALICE, 250).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteCancelled)
        ));
        assert_eq!(phone.status_of(&reinvite).await, 487);
        assert!(matches!(
            call.accept(sdp("late")).await,
            Err(CallError::Gone)
        ));
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
    });
}

#[test]
fn an_invite_without_an_offer_wants_one_and_the_ack_answers_it() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = Request::builder(Method::Invite, &uri(&format!("sip:alice@{ALICE}")))
            .from("<sip:bob@example.com>;tag=b")
            .to("<sip:alice@example.com>")
            .call_id("no-offer")
            .cseq(10)
            .contact(format!("<sip:bob@{BOB}>"))
            .build()
            .unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        let text = sipora_dialog_core::Body::new("text/plain", "hello");
        assert!(matches!(
            call.accept(text).await,
            Err(CallError::BodyNeeded(_))
        ));
        call.accept(sdp("offer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        let ack = dialog
            .request(Method::Ack, 10)
            .body("application/sdp", "v=0\r\ns=answer\r\n")
            .build()
            .unwrap();
        phone.send(&ack, ALICE).await;
        let Some(CallEvent::Acknowledged(ack)) = call.next().await else {
            panic!("the ACK came");
        };
        assert_eq!(ack.body(), sdp("answer").bytes);
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        end(&mut call).await;
    });
}

#[test]
fn an_invite_without_contact_gets_400() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = Request::builder(Method::Invite, &uri(&format!("sip:alice@{ALICE}")))
            .from("<sip:bob@example.com>;tag=b")
            .to("<sip:alice@example.com>")
            .call_id("no-contact")
            .cseq(10)
            .build()
            .unwrap();
        phone.send(&invite, ALICE).await;
        assert_eq!(phone.status_of(&invite).await, 400);
        alice.assert_idle();
    });
}

#[test]
fn ringing_is_repeated_every_minute_and_ends_after_its_time() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.ring().await.unwrap();
        pass(200_000).await;
        assert_eq!(phone.seen.statuses(&invite), [180, 180, 180, 180]);
        pass(720_000).await;
        assert_eq!(phone.status_of(&invite).await, 480);
        assert!(matches!(end(&mut call).await, CallEnd::NotAnswered));
        pass(1).await;
        alice.assert_idle();
    });
}

#[test]
fn refusals_and_redirections_end_the_call() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let first = invite(ALICE).call_id_again("one");
        phone.send(&first, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        assert!(matches!(
            call.reject(StatusCode::OK).await,
            Err(CallError::Invalid(_))
        ));
        call.reject(StatusCode::BUSY_HERE).await.unwrap();
        assert_eq!(phone.status_of(&first).await, 486);
        assert!(matches!(end(&mut call).await, CallEnd::Rejected));
        let second = invite(ALICE).call_id_again("two");
        phone.send(&second, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        call.redirect(&[uri("sip:carol@192.0.2.3")]).await.unwrap();
        pass(100).await;
        let moved = phone.seen.last_response();
        assert_eq!(moved.status().as_u16(), 302);
        let contact = moved
            .headers()
            .contact()
            .unwrap()
            .unwrap()
            .uri()
            .to_string();
        assert_eq!(contact, "sip:carol@192.0.2.3");
        let third = invite(ALICE).call_id_again("three");
        phone.send(&third, ALICE).await;
        drop(alice.incoming.next().await.unwrap());
        pass(100).await;
        assert_eq!(phone.seen.last_response().status().as_u16(), 480);
        alice.assert_idle();
    });
}

#[test]
fn more_calls_than_there_may_be_are_refused() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.max_calls = 1;
        // Several have room for one each.
        let shards = 1;
        let here = host(&network, ALICE);
        let mut alice = Agent::sharded(here, ALICE, (1, shards), config).await;
        let phone = Phone::new(&network).await;
        let first = invite(ALICE).call_id_again("one");
        phone.send(&first, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        let second = invite(ALICE).call_id_again("two");
        phone.send(&second, ALICE).await;
        pass(100).await;
        let refusal: Response = phone.seen.last_response();
        assert_eq!(refusal.status().as_u16(), 503);
        assert!(refusal.headers().retry_after().unwrap().is_some());
        assert_eq!(alice.dialogs.call_metrics().refused_for_lack_of_room, 1);
        let invite = alice.asks(BOB);
        let more = alice.dialogs.invite(invite, None).await;
        assert!(matches!(more, Err(CallError::Busy)));
        drop(call);
    });
}

#[test]
fn calls_that_nobody_has_taken_are_refused_when_nobody_takes_calls_any_more() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let waiting = invite(ALICE).call_id_again("one");
        phone.send(&waiting, ALICE).await;
        pass(50).await;
        drop(alice.incoming);
        assert_eq!(phone.status_of(&waiting).await, 480);
        let late = invite(ALICE).call_id_again("two");
        phone.send(&late, ALICE).await;
        pass(50).await;
        assert_eq!(phone.seen.last_response().status().as_u16(), 480);
        let metrics = alice.dialogs.call_metrics();
        assert_eq!((metrics.calls, metrics.begun), (0, 2));
    });
}

/// RFC 3261 §8.2.2.1.
#[test]
fn a_scheme_that_nobody_can_be_called_by_gets_416() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        for (cseq, wanted) in [(1, "http://example.com/"), (2, "mailto:alice@example.com")] {
            let cseq = format!("{cseq} INVITE");
            let invite = invite(ALICE).build().unwrap();
            let invite = invite.edit().uri(&uri(wanted)).set(HeaderName::CSeq, cseq);
            let invite = invite.build().unwrap();
            phone.send(&invite, ALICE).await;
            assert_eq!(phone.status_of(&invite).await, 416);
        }
        alice.assert_idle();
    });
}

/// RFC 3261 §11.2: as an INVITE would be answered.
#[test]
fn options_outside_of_calls_are_answered_where_that_is_wanted() {
    scene(|network| async move {
        let phone = Phone::new(&network).await;
        let ping = |cseq: u32| {
            Request::builder(Method::Options, &uri(&format!("sip:{ALICE}")))
                .from("<sip:bob@example.com>;tag=b")
                .to("<sip:alice@example.com>")
                .call_id("ping")
                .cseq(cseq)
        };
        let alice = Agent::new(&network, ALICE, 1).await;
        let first = ping(1).build().unwrap();
        phone.send(&first, ALICE).await;
        assert_eq!(phone.status_of(&first).await, 405);
        let host = alice.dies().await;
        let mut config = CallConfig::default();
        config.answers_options = true;
        config.max_calls = 4;
        let mut alice = Agent::on(host, ALICE, 2, config).await;
        let second = ping(2).build().unwrap();
        phone.send(&second, ALICE).await;
        let answer = phone.answer_to(&second).await;
        assert_eq!(answer.status().as_u16(), 200);
        let headers = answer.headers();
        assert!(headers.to().unwrap().tag().is_some());
        assert!(headers.allow().any(|method| method == Method::Options));
        assert!(headers.supported().any(|tag| tag == "100rel"));
        assert_eq!(
            headers.text(&HeaderName::Accept).unwrap(),
            "application/sdp"
        );
        let third = ping(3).header(HeaderName::Require, "foo").build().unwrap();
        phone.send(&third, ALICE).await;
        assert_eq!(phone.status_of(&third).await, 420);
        // One shard has room for four calls, or each of four for one.
        let mut calls = Vec::new();
        for number in 0..16 {
            let call_id = format!("call-{number}");
            phone
                .send(&invite(ALICE).call_id_again(&call_id), ALICE)
                .await;
            let wait = alice.incoming.next();
            let call = tokio::time::timeout(std::time::Duration::from_millis(10), wait).await;
            calls.extend(call);
        }
        let full = ping(4).build().unwrap();
        phone.send(&full, ALICE).await;
        assert_eq!(phone.status_of(&full).await, 503);
    });
}
