//! The phone refers.

use super::*;
use sipora_dialog_core::CallError;
use sipora_message::StatusCode;

#[test]
fn a_refer_is_accepted_and_told_of_until_its_end() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        let incoming = refers.next().await.unwrap();
        assert_eq!(incoming.referral().refer_to().unwrap().as_str(), CAROL);
        assert_eq!(incoming.target_dialog(), None);
        let too_early = incoming.report(StatusCode::RINGING).await;
        assert!(matches!(too_early, Err(CallError::NotNow(_))));
        incoming.accept().await.unwrap();
        assert_eq!(alice.dialogs.call_metrics().refers_outside, 1);
        // RFC 7647 §5: "MUST NOT reply with a 202".
        let answer = phone.answer_to(&request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let dialog = InDialog::of_response(&answer);
        let first = phone.first(Method::Notify).await;
        assert_eq!(header(first.headers(), "From"), dialog.remote);
        assert_eq!(header(first.headers(), "To"), dialog.local);
        assert_eq!(header(first.headers(), "Event"), "refer");
        let kind = header(first.headers(), "Content-Type");
        assert!(kind.starts_with("message/sipfrag"), "{kind}");
        assert_eq!(told(&phone, 0).await, says("active", "SIP/2.0 100 Trying"));
        incoming.report(StatusCode::RINGING).await.unwrap();
        assert_eq!(told(&phone, 1).await, says("active", "SIP/2.0 180 Ringing"));
        incoming.report(StatusCode::OK).await.unwrap();
        let last = says("terminated;reason=noresource", "SIP/2.0 200 OK");
        assert_eq!(told(&phone, 2).await, last);
        let mut incoming = incoming;
        incoming.ended().await;
        let too_late = incoming.report(StatusCode::OK).await;
        assert!(matches!(too_late, Err(CallError::Gone)));
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Notify), 3);
    });
}

#[test]
fn who_takes_no_refer_does_not_allow_it_and_who_takes_it_in_calls_alone_forbids_it() {
    scene(|network| async move {
        let none = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let answer = asked(&phone, &refer().build().unwrap()).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        let allow: Vec<Method> = answer.headers().allow().collect();
        assert!(allow.contains(&Method::Invite) && !allow.contains(&Method::Refer));
        none.shuts_down().await;
        let mut config = CallConfig::default();
        config.takes_refers = true;
        let _within = Agent::with(&network, "192.0.2.4:5060", 1, config).await;
        let again = refer_of("again", 11).build().unwrap();
        phone.send(&again, "192.0.2.4:5060").await;
        assert_eq!(phone.status_of(&again).await, 403);
    });
}

#[test]
fn a_refer_within_a_call_is_forbidden_where_it_is_taken_outside_alone() {
    scene(|network| async move {
        let (mut alice, _refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let (_call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let request = dialog
            .request(Method::Refer, 11)
            .contact(format!("<sip:bob@{BOB}>"))
            .header(HeaderName::ReferTo, format!("<{CAROL}>"))
            .build()
            .unwrap();
        assert_eq!(asked(&phone, &request).await.status().as_u16(), 403);
    });
}

#[test]
fn a_refer_can_be_refused_and_makes_nothing_then() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        let mut incoming = refers.next().await.unwrap();
        let invalid = incoming.reject(StatusCode::OK).await;
        assert!(matches!(invalid, Err(CallError::Invalid(_))));
        incoming.reject(StatusCode::DECLINE).await.unwrap();
        let answer = phone.answer_to(&request).await;
        assert_eq!(answer.status(), StatusCode::DECLINE);
        assert!(answer.headers().to().unwrap().tag().is_some());
        incoming.ended().await;
        assert!(matches!(incoming.accept().await, Err(CallError::Gone)));
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Notify), 0);
    });
}

#[test]
fn what_nobody_decides_is_accepted_and_can_be_refused_later() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        let incoming = refers.next().await.unwrap();
        assert_eq!(phone.status_of(&request).await, 200);
        assert_eq!(told(&phone, 0).await, says("pending", "SIP/2.0 100 Trying"));
        incoming.reject(StatusCode::FORBIDDEN).await.unwrap();
        // RFC 3515 §2.4.5: "the REFER request was accepted before approval ... and that approval was subsequently denied".
        let last = says("terminated;reason=rejected", "SIP/2.0 603 Decline");
        assert_eq!(told(&phone, 1).await, last);
        quiet(&alice).await;
    });
}

#[test]
fn a_refer_without_subscription_makes_no_dialog() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer()
            .header(HeaderName::from("Refer-Sub"), "false")
            .header(HeaderName::Require, "norefersub")
            .build()
            .unwrap();
        phone.send(&request, ALICE).await;
        let mut incoming = refers.next().await.unwrap();
        incoming.accept().await.unwrap();
        let answer = phone.answer_to(&request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(answer.headers(), "Refer-Sub"), "false");
        incoming.ended().await;
        // Who tells what comes of it need not know that nobody listens.
        incoming.report(StatusCode::OK).await.unwrap();
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Notify), 0);
    });
}

#[test]
fn refers_that_cannot_be_followed_are_refused() {
    scene(|network| async move {
        let (alice, _refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let plain = refer().build().unwrap();
        let two = format!("<{CAROL}>, <sip:dave@192.0.2.5>");
        let cases = [
            (plain.edit().remove(HeaderName::ReferTo), 400),
            (plain.edit().set(HeaderName::ReferTo, two), 400),
            (plain.edit().remove(HeaderName::Contact), 400),
            (plain.edit().append(HeaderName::Require, "explicitsub"), 420),
        ];
        for (cseq, (edit, status)) in (20..).zip(cases) {
            let edit = edit.set(HeaderName::CSeq, format!("{cseq} REFER"));
            let request = edit.build().unwrap();
            let answer = asked(&phone, &request).await;
            assert_eq!(answer.status().as_u16(), status, "{cseq}");
            assert!(answer.headers().to().unwrap().tag().is_some());
        }
        quiet(&alice).await;
    });
}

#[test]
fn more_than_there_may_be_at_once_are_refused_and_counted() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let most = 2 * shards(&network);
        let mut taken = Vec::new();
        let (mut accepted, mut refused) = (0, 0);
        for number in 0..4 * most {
            let call_id = format!("call-{number}");
            let request = refer_of(&call_id, 100 + number as u32).build().unwrap();
            phone.send(&request, ALICE).await;
            let next = tokio::time::timeout(std::time::Duration::from_secs(1), refers.next());
            match next.await {
                Ok(incoming) => {
                    let incoming = incoming.unwrap();
                    incoming.accept().await.unwrap();
                    assert_eq!(phone.status_of(&request).await, 200);
                    taken.push(incoming);
                    accepted += 1;
                }
                Err(_) => {
                    let answer = phone.answer_to(&request).await;
                    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                    assert!(answer.headers().contains(&HeaderName::RetryAfter));
                    refused += 1;
                }
            }
        }
        let metrics = alice.dialogs.call_metrics();
        assert_eq!(metrics.refers_outside, accepted);
        assert_eq!(metrics.refused_for_lack_of_room, refused);
        assert!(accepted <= most as u64 && refused > 0);
        // Nobody answers the NOTIFYs, and so nobody listens.
        for incoming in &mut taken {
            incoming.ended().await;
        }
        quiet(&alice).await;
    });
}

#[test]
fn the_subscription_is_refreshed_and_ended_by_subscribe() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        let mut incoming = refers.next().await.unwrap();
        incoming.accept().await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&request).await);
        assert_eq!(told(&phone, 0).await.0, "active");
        let subscribe = |cseq, event: &str, expires: u32| {
            let builder = dialog.request(Method::Subscribe, cseq);
            let builder = builder.contact(format!("<sip:bob@{BOB}>"));
            let builder = builder.header(HeaderName::Event, event);
            builder
                .header(HeaderName::Expires, expires)
                .build()
                .unwrap()
        };
        // RFC 3515 §2.4.4: "REFER is the only mechanism that can create a subscription to event refer".
        let other = subscribe(11, "refer;id=99", 60);
        assert_eq!(asked(&phone, &other).await.status().as_u16(), 403);
        let answer = asked(&phone, &subscribe(12, "refer", 100)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(answer.headers(), "Expires"), "100");
        assert_eq!(told(&phone, 1).await.0, "active");
        let answer = asked(&phone, &subscribe(13, "refer", 0)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(told(&phone, 2).await.0, "terminated;reason=timeout");
        incoming.ended().await;
        // There is no call in the dialog, and no dialog any more.
        let bye = dialog.build(Method::Bye, 14);
        assert_eq!(asked(&phone, &bye).await.status().as_u16(), 481);
        quiet(&alice).await;
    });
}

#[test]
fn what_is_dropped_is_refused_or_given_up() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        drop(refers.next().await.unwrap());
        assert_eq!(phone.status_of(&request).await, 603);
        let request = refer_of("another", 11).build().unwrap();
        phone.send(&request, ALICE).await;
        let incoming = refers.next().await.unwrap();
        incoming.accept().await.unwrap();
        assert_eq!(told(&phone, 0).await.0, "active");
        drop(incoming);
        assert_eq!(told(&phone, 1).await.0, "terminated;reason=giveup");
        let request = refer_of("a-third", 12).build().unwrap();
        phone.send(&request, ALICE).await;
        pass(100).await;
        drop(refers);
        assert_eq!(phone.status_of(&request).await, 603, "it was offered");
        let request = refer_of("a-fourth", 13).build().unwrap();
        assert_eq!(asked(&phone, &request).await.status().as_u16(), 480);
        quiet(&alice).await;
    });
}

#[test]
fn a_refused_notify_ends_it() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        let mut incoming = refers.next().await.unwrap();
        incoming.accept().await.unwrap();
        let notify = phone.first(Method::Notify).await;
        phone.answer(&notify, 481, "b").await;
        incoming.ended().await;
        let gone = incoming.report(StatusCode::OK).await;
        assert!(matches!(gone, Err(CallError::Gone)));
        quiet(&alice).await;
    });
}

#[test]
fn its_time_ends_it() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        let mut incoming = refers.next().await.unwrap();
        incoming.accept().await.unwrap();
        assert_eq!(told(&phone, 0).await.0, "active");
        pass(5 * 60 * 1_000).await;
        assert_eq!(told(&phone, 1).await.0, "terminated;reason=timeout");
        incoming.ended().await;
        quiet(&alice).await;
    });
}

#[test]
fn notifies_follow_the_route_set_of_the_refer() {
    scene(|network| async move {
        let (_alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let route = format!("<sip:{BOB};lr>");
        let request = refer().header(HeaderName::RecordRoute, &route);
        let request = request.build().unwrap();
        let request = request
            .edit()
            .set(HeaderName::Contact, "<sip:bob@192.0.2.77>");
        let request = request.build().unwrap();
        phone.send(&request, ALICE).await;
        let incoming = refers.next().await.unwrap();
        incoming.accept().await.unwrap();
        let answer = phone.answer_to(&request).await;
        assert_eq!(header(answer.headers(), "Record-Route"), route);
        let notify = phone.first(Method::Notify).await;
        assert_eq!(notify.uri_text(), "sip:bob@192.0.2.77");
        assert_eq!(routes(&notify), [format!("sip:{BOB};lr")]);
    });
}

#[test]
fn it_may_name_a_call_that_the_peer_is_in() {
    scene(|network| async move {
        let (mut alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let tags = |text: &str| text.rsplit_once("tag=").unwrap().1.to_owned();
        let (ours, theirs) = (tags(&dialog.local), tags(&dialog.remote));
        // With several shards, the call lives in another than the REFER as a rule.
        for number in 0..8 {
            let named = format!("{};local-tag={ours};remote-tag={theirs}", dialog.call_id);
            let request = refer_of(&format!("refer-{number}"), 20 + number)
                .header(HeaderName::TargetDialog, named)
                .header(HeaderName::Require, "tdialog");
            let request = request.build().unwrap();
            phone.send(&request, ALICE).await;
            let incoming = refers.next().await.unwrap();
            assert_eq!(incoming.target_dialog(), Some(call.key()));
            incoming.reject(StatusCode::DECLINE).await.unwrap();
            assert_eq!(phone.status_of(&request).await, 603);
        }
    });
}

#[test]
fn one_refer_that_came_by_two_ways_is_one() {
    scene(|network| async move {
        let (_alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        let incoming = refers.next().await.unwrap();
        // The same CSeq, From tag and Call-ID with another branch.
        phone.send(&request, ALICE).await;
        pass(100).await;
        assert_eq!(phone.status_of(&request).await, 482);
        incoming.accept().await.unwrap();
        pass(100).await;
        assert!(phone.seen.statuses(&request).contains(&200));
    });
}

#[test]
fn an_endpoint_that_ends_refuses_what_is_not_decided() {
    scene(|network| async move {
        let (alice, mut refers) = alice_takes_refers(&network).await;
        let phone = Phone::new(&network).await;
        let request = refer().build().unwrap();
        phone.send(&request, ALICE).await;
        let mut incoming = refers.next().await.unwrap();
        alice.shuts_down().await;
        assert_eq!(phone.status_of(&request).await, 603);
        incoming.ended().await;
        assert!(refers.next().await.is_none());
    });
}
