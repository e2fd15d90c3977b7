//! REFER within calls (RFC 3515, RFC 4488), and the dialog that a call and its REFERs share (RFC 5057).

use crate::support::*;
use sipora_dialog_core::{
    Call, CallConfig, CallEnd, CallError, CallEvent, Refer, ReferReport, Referral,
};
use sipora_message::{HeaderName, Method, Request, StatusCode};
use sipora_testkit::audit::Rule;
use sipora_testkit::{Conditions, for_each_seed, seeds};

const CAROL: &str = "sip:carol@192.0.2.3:5060";

fn carol() -> Refer {
    Refer::to(uri(CAROL)).referred_by("<sip:alice@example.com>")
}

fn transferable() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config
}

fn header(request: &Request, name: &str) -> String {
    let name = HeaderName::from(name);
    let value = request.headers().text(&name);
    value.map(|value| value.into_owned()).unwrap_or_default()
}

/// A call of the phone's that Alice has answered, ACK and all.
async fn up(alice: &mut Agent, phone: &Phone) -> (Call, InDialog) {
    let (mut call, dialog) = answered(alice, phone).await;
    phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
    assert!(matches!(
        call.next().await,
        Some(CallEvent::Acknowledged(_))
    ));
    (call, dialog)
}

async fn report(call: &mut Call) -> ReferReport {
    loop {
        match call.next().await.unwrap() {
            CallEvent::ReferReport(report) => return *report,
            CallEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    }
}

async fn referral(call: &mut Call) -> Referral {
    loop {
        match call.next().await.unwrap() {
            CallEvent::Referred(referral) => return *referral,
            CallEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    }
}

/// A NOTIFY of the phone's about a REFER.
fn notify(dialog: &InDialog, cseq: u32, event: &str, state: &str, status: &str) -> Request {
    dialog
        .request(Method::Notify, cseq)
        .contact(format!("<sip:bob@{BOB}>"))
        .header(HeaderName::Event, event)
        .header(HeaderName::SubscriptionState, state)
        .body("message/sipfrag", format!("SIP/2.0 {status}\r\n"))
        .build()
        .unwrap()
}

fn refer(dialog: &InDialog, cseq: u32) -> sipora_message::RequestBuilder {
    dialog
        .request(Method::Refer, cseq)
        .contact(format!("<sip:bob@{BOB}>"))
        .header(HeaderName::ReferTo, format!("<{CAROL}>"))
}

/// Alice refers, and the phone answers with this status.
async fn refers(call: &Call, phone: &Phone, nth: usize, status: u16) -> (Request, Option<u64>) {
    let answering = async {
        let came = phone.nth(Method::Refer, nth).await;
        phone.answer(&came, status, "b").await;
        came.request
    };
    let (answer, request) = tokio::join!(call.refer(carol()), answering);
    let answer = answer.unwrap();
    assert_eq!(answer.response.status().as_u16(), status);
    (request, answer.id.map(|_| 1))
}

#[test]
fn a_refer_is_told_of_until_its_end() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        // RFC 3515 says 202, RFC 7647 §5 that it is a 200.
        let (refer, id) = refers(&call, &phone, 0, 202).await;
        assert!(id.is_some());
        assert_eq!(header(&refer, "Refer-To"), format!("<{CAROL}>"));
        assert_eq!(header(&refer, "Referred-By"), "<sip:alice@example.com>");
        assert!(
            refer.headers().contact().unwrap().is_some(),
            "it moves the target"
        );
        let steps = [
            ("active;expires=60", "100 Trying", 100, false),
            ("active;expires=59", "180 Ringing", 180, false),
            ("terminated;reason=noresource", "200 OK", 200, true),
        ];
        for (cseq, (state, line, status, is_over)) in (20..).zip(steps) {
            let notify = notify(&dialog, cseq, "refer", state, line);
            phone.send(&notify, ALICE).await;
            assert_eq!(phone.status_of(&notify).await, 200);
            let report = report(&mut call).await;
            assert_eq!(report.status.unwrap().as_u16(), status);
            assert_eq!(report.is_over, is_over);
            assert_eq!(report.has_succeeded(), is_over);
        }
        // It is over: nothing more is listened to, and the call goes on.
        let late = notify(&dialog, 30, "refer", "active", "100 Trying");
        phone.send(&late, ALICE).await;
        assert_eq!(phone.status_of(&late).await, 481);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(call.ended().await, CallEnd::HungUp));
        pass(120_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_notify_may_come_before_the_answer_to_its_refer() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let answering = async {
            let refer = phone.first(Method::Refer).await;
            let first = notify(&dialog, 20, "refer", "active;expires=60", "100 Trying");
            phone.send(&first, ALICE).await;
            assert_eq!(phone.status_of(&first).await, 200);
            phone.answer(&refer, 200, "b").await;
        };
        let (answer, ()) = tokio::join!(call.refer(carol()), answering);
        let id = answer.unwrap().id.unwrap();
        assert_eq!(report(&mut call).await.id, id);
    });
}

#[test]
fn a_refused_refer_is_not_told_of_and_the_call_goes_on() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = established(&alice, &phone).await;
        for (nth, status) in [603, 405, 501, 480].into_iter().enumerate() {
            let (_, id) = refers(&call, &phone, nth, status).await;
            assert!(id.is_none());
        }
        let notify = notify(&dialog, 20, "refer", "active;expires=60", "100 Trying");
        phone.send(&notify, ALICE).await;
        assert_eq!(phone.status_of(&notify).await, 481);
        assert_eq!(phone.count(Method::Bye), 0);
        drop(call);
    });
}

#[test]
fn who_wants_no_subscription_has_none_if_the_peer_agrees() {
    for agrees in [true, false] {
        scene(move |network| async move {
            let alice = Agent::new(&network, ALICE, 1).await;
            let phone = Phone::new(&network).await;
            let (call, _) = established(&alice, &phone).await;
            let answering = async {
                let came = phone.first(Method::Refer).await;
                assert_eq!(header(&came, "Refer-Sub"), "false");
                assert_eq!(header(&came, "Supported"), "norefersub");
                phone
                    .answer_with(&came, 200, "b", |builder| match agrees {
                        true => builder.header("Refer-Sub", "false"),
                        false => builder,
                    })
                    .await;
            };
            let asked = call.refer(carol().without_subscription());
            let (answer, ()) = tokio::join!(asked, answering);
            assert_eq!(answer.unwrap().id.is_none(), agrees);
        });
    }
}

#[test]
fn a_peer_that_tells_nothing_is_given_up() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        refers(&call, &phone, 0, 200).await;
        let silence = report(&mut call).await;
        assert!(silence.is_over && silence.status.is_none());
        // What it promised counts, and no longer than an hour.
        refers(&call, &phone, 1, 200).await;
        let number = number(&phone.nth(Method::Refer, 1).await.request);
        let event = format!("refer;id={number}");
        let first = notify(
            &dialog,
            20,
            &event,
            "active;expires=4000000000",
            "100 Trying",
        );
        phone.send(&first, ALICE).await;
        report(&mut call).await;
        let started = tokio::time::Instant::now();
        let silence = report(&mut call).await;
        assert!(silence.is_over && silence.status.is_none());
        let waited = started.elapsed().as_secs();
        assert!((3600..3700).contains(&waited), "{waited}");
    });
}

#[test]
fn notifies_of_several_refers_are_told_apart_by_number() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let mut ids = Vec::new();
        for nth in 0..4 {
            let answering = async {
                let came = phone.nth(Method::Refer, nth).await;
                phone.answer(&came, 200, "b").await;
                number(&came)
            };
            let (answer, cseq) = tokio::join!(call.refer(carol()), answering);
            ids.push((answer.unwrap().id.unwrap(), cseq));
        }
        assert!(matches!(call.refer(carol()).await, Err(CallError::Busy)));
        for (cseq, (id, number)) in (20..).zip(ids.clone()) {
            let event = format!("refer;id={number}");
            let notify = notify(&dialog, cseq, &event, "active;expires=60", "180 Ringing");
            phone.send(&notify, ALICE).await;
            assert_eq!(report(&mut call).await.id, id);
        }
        let bare = notify(&dialog, 30, "refer", "active;expires=60", "180 Ringing");
        phone.send(&bare, ALICE).await;
        assert_eq!(
            report(&mut call).await.id,
            ids[0].0,
            "the first may do without"
        );
        for (cseq, event) in [(31, "refer;id=77"), (32, "refer;id=x")] {
            let unknown = notify(&dialog, cseq, event, "active", "100 Trying");
            phone.send(&unknown, ALICE).await;
            assert_eq!(phone.status_of(&unknown).await, 481);
        }
    });
}

#[test]
fn a_notify_that_makes_no_sense_is_refused() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = established(&alice, &phone).await;
        refers(&call, &phone, 0, 200).await;
        let stateless = dialog
            .request(Method::Notify, 20)
            .header(HeaderName::Event, "refer")
            .build()
            .unwrap();
        phone.send(&stateless, ALICE).await;
        assert_eq!(phone.status_of(&stateless).await, 400);
        let wrong = dialog
            .request(Method::Notify, 21)
            .header(HeaderName::Event, "refer")
            .header(HeaderName::SubscriptionState, "active")
            .body("text/plain", "it rings")
            .build()
            .unwrap();
        phone.send(&wrong, ALICE).await;
        assert_eq!(phone.status_of(&wrong).await, 415);
        drop(call);
    });
}

#[test]
fn a_refer_of_the_peers_is_accepted_and_told_of() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        let request = refer(&dialog, 11)
            .header(HeaderName::ReferredBy, "<sip:bob@example.com>")
            .build()
            .unwrap();
        phone.send(&request, ALICE).await;
        let asked = referral(&mut call).await;
        assert_eq!(asked.refer_to().unwrap().as_str(), CAROL);
        assert_eq!(asked.referred_by().unwrap(), "<sip:bob@example.com>");
        let early = call.report_refer(asked.id, StatusCode::RINGING).await;
        assert!(matches!(early, Err(CallError::NotNow(_))));
        call.accept_refer(asked.id).await.unwrap();
        let answer = phone.answer_to(&request).await;
        assert_eq!(answer.status(), StatusCode::OK, "RFC 7647 §5: not 202");
        assert!(answer.headers().contact().unwrap().is_some());
        let mut reports = [StatusCode::RINGING, StatusCode::OK].into_iter();
        let steps = [
            ("SIP/2.0 100 Trying\r\n", "active;expires=300"),
            ("SIP/2.0 180 Ringing\r\n", "active;expires="),
            ("SIP/2.0 200 OK\r\n", "terminated;reason=noresource"),
        ];
        for (nth, (body, state)) in steps.into_iter().enumerate() {
            let notify = phone.nth(Method::Notify, nth).await;
            assert_eq!(std::str::from_utf8(notify.body()).unwrap(), body);
            assert!(header(&notify, "Subscription-State").starts_with(state));
            assert_eq!(header(&notify, "Event"), "refer");
            assert!(header(&notify, "Content-Type").starts_with("message/sipfrag"));
            phone.answer(&notify, 200, "b").await;
            if let Some(status) = reports.next() {
                call.report_refer(asked.id, status).await.unwrap();
            }
        }
        let again = call.report_refer(asked.id, StatusCode::OK).await;
        assert!(matches!(again, Err(CallError::Gone)));
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(call.ended().await, CallEnd::HungUp));
        pass(120_000).await;
        alice.assert_idle();
    });
}

#[test]
fn refers_that_cannot_be_followed_are_refused() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        let without = dialog.build(Method::Refer, 11);
        let twice = refer(&dialog, 12)
            .header(HeaderName::ReferTo, "<sip:dave@192.0.2.4>")
            .build()
            .unwrap();
        for request in [without, twice] {
            phone.send(&request, ALICE).await;
            assert_eq!(phone.status_of(&request).await, 400);
        }
        let wanted = refer(&dialog, 13).build().unwrap();
        phone.send(&wanted, ALICE).await;
        let asked = referral(&mut call).await;
        call.reject_refer(asked.id, StatusCode::DECLINE)
            .await
            .unwrap();
        assert_eq!(phone.status_of(&wanted).await, 603);
        let again = call.accept_refer(asked.id).await;
        assert!(matches!(again, Err(CallError::Gone)));
        let strange = refer(&dialog, 14)
            .header(HeaderName::Require, "explicitsub")
            .build()
            .unwrap();
        phone.send(&strange, ALICE).await;
        assert_eq!(phone.status_of(&strange).await, 420);
        pass(1_000).await;
        assert_eq!(phone.count(Method::Notify), 0);
    });
}

#[test]
fn a_user_agent_that_follows_no_refers_says_so() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (_call, dialog) = up(&mut alice, &phone).await;
        let request = refer(&dialog, 11).build().unwrap();
        phone.send(&request, ALICE).await;
        let answer = phone.answer_to(&request).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(
            answer
                .headers()
                .allow()
                .all(|method| method != Method::Refer)
        );
    });
}

#[test]
fn what_nobody_decides_is_accepted_and_can_be_refused_later() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        let request = refer(&dialog, 11).build().unwrap();
        phone.send(&request, ALICE).await;
        let asked = referral(&mut call).await;
        let started = tokio::time::Instant::now();
        assert_eq!(phone.status_of(&request).await, 200);
        assert_eq!(
            started.elapsed().as_secs(),
            16,
            "half of the client's patience"
        );
        let pending = phone.first(Method::Notify).await;
        assert!(header(&pending, "Subscription-State").starts_with("pending;expires="));
        assert_eq!(pending.body(), b"SIP/2.0 100 Trying\r\n");
        phone.answer(&pending, 200, "b").await;
        call.reject_refer(asked.id, StatusCode::DECLINE)
            .await
            .unwrap();
        let refused = phone.nth(Method::Notify, 1).await;
        assert_eq!(
            header(&refused, "Subscription-State"),
            "terminated;reason=rejected"
        );
        assert!(refused.body().starts_with(b"SIP/2.0 603 "));
        phone.answer(&refused, 200, "b").await;
    });
}

#[test]
fn a_refer_without_subscription_is_told_of_by_nobody() {
    for (name, value) in [("Refer-Sub", "false;x=y"), ("Require", "nosub")] {
        scene(move |network| async move {
            let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
            let phone = Phone::new(&network).await;
            let (mut call, dialog) = up(&mut alice, &phone).await;
            let request = refer(&dialog, 11).header(name, value).build().unwrap();
            phone.send(&request, ALICE).await;
            let asked = referral(&mut call).await;
            call.accept_refer(asked.id).await.unwrap();
            let answer = phone.answer_to(&request).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let sub = answer.headers().text(&HeaderName::from("Refer-Sub"));
            assert_eq!(sub.unwrap(), "false");
            call.report_refer(asked.id, StatusCode::OK).await.unwrap();
            pass(1_000).await;
            assert_eq!(phone.count(Method::Notify), 0);
            // The dialog does not linger for it.
            let bye = dialog.build(Method::Bye, 12);
            phone.send(&bye, ALICE).await;
            assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        });
    }
}

#[test]
fn one_notify_is_under_way_and_the_next_has_what_is_newest() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        let request = refer(&dialog, 11).build().unwrap();
        phone.send(&request, ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        for status in [
            StatusCode::RINGING,
            StatusCode::SESSION_PROGRESS,
            StatusCode::OK,
        ] {
            call.report_refer(asked.id, status).await.unwrap();
        }
        pass(400).await;
        assert_eq!(phone.count(Method::Notify), 1);
        phone.answer(&first, 200, "b").await;
        let last = phone.nth(Method::Notify, 1).await;
        assert_eq!(last.body(), b"SIP/2.0 200 OK\r\n");
        phone.answer(&last, 200, "b").await;
        pass(1_000).await;
        assert_eq!(phone.count(Method::Notify), 2);
    });
}

#[test]
fn the_second_refer_is_told_of_by_number_and_the_fifth_is_refused() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        for (nth, cseq) in (11..15).enumerate() {
            let request = refer(&dialog, cseq).build().unwrap();
            phone.send(&request, ALICE).await;
            let asked = referral(&mut call).await;
            call.accept_refer(asked.id).await.unwrap();
            let notify = phone.nth(Method::Notify, nth).await;
            let event = match nth {
                0 => "refer".to_owned(),
                _ => format!("refer;id={cseq}"),
            };
            assert_eq!(header(&notify, "Event"), event);
            phone.answer(&notify, 200, "b").await;
        }
        let fifth = refer(&dialog, 15).build().unwrap();
        phone.send(&fifth, ALICE).await;
        assert_eq!(phone.status_of(&fifth).await, 603);
    });
}

#[test]
fn a_subscription_is_refreshed_ended_and_not_begun_by_subscribe() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        let subscribe = |cseq: u32, expires: u32| {
            dialog
                .request(Method::Subscribe, cseq)
                .contact(format!("<sip:bob@{BOB}>"))
                .header(HeaderName::Event, "refer")
                .expires(expires)
                .build()
                .unwrap()
        };
        let none = subscribe(11, 60);
        phone.send(&none, ALICE).await;
        assert_eq!(phone.status_of(&none).await, 403);
        let request = refer(&dialog, 12).build().unwrap();
        phone.send(&request, ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "b").await;
        pass(200_000).await;
        let refresh = subscribe(13, 4_000);
        phone.send(&refresh, ALICE).await;
        let answer = phone.answer_to(&refresh).await;
        assert_eq!(answer.headers().expires().unwrap(), Some(300));
        let again = phone.nth(Method::Notify, 1).await;
        assert_eq!(header(&again, "Subscription-State"), "active;expires=300");
        phone.answer(&again, 200, "b").await;
        pass(200_000).await;
        assert_eq!(phone.count(Method::Notify), 2, "its time was not over");
        let leave = subscribe(14, 0);
        phone.send(&leave, ALICE).await;
        assert_eq!(phone.status_of(&leave).await, 200);
        let last = phone.nth(Method::Notify, 2).await;
        assert_eq!(
            header(&last, "Subscription-State"),
            "terminated;reason=timeout"
        );
        phone.answer(&last, 200, "b").await;
        let late = call.report_refer(asked.id, StatusCode::OK).await;
        assert!(matches!(late, Err(CallError::Gone)));
    });
}

#[test]
fn what_is_not_decided_by_its_time_ends_with_timeout() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        let request = refer(&dialog, 11).build().unwrap();
        phone.send(&request, ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "b").await;
        pass(301_000).await;
        let last = phone.nth(Method::Notify, 1).await;
        assert_eq!(
            header(&last, "Subscription-State"),
            "terminated;reason=timeout"
        );
        phone.answer(&last, 200, "b").await;
        drop(call);
    });
}

/// RFC 5057 §5.1, §5.2: a NOTIFY that fails ends its subscription and not the call.
#[test]
fn a_refused_notify_ends_the_subscription_and_not_the_call() {
    for (status, ends) in [(481, true), (489, true), (405, true), (500, false)] {
        scene(move |network| async move {
            let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
            let phone = Phone::new(&network).await;
            let (mut call, dialog) = up(&mut alice, &phone).await;
            let request = refer(&dialog, 11).build().unwrap();
            phone.send(&request, ALICE).await;
            let asked = referral(&mut call).await;
            call.accept_refer(asked.id).await.unwrap();
            let first = phone.first(Method::Notify).await;
            phone.answer(&first, status, "b").await;
            pass(100).await;
            let told = call.report_refer(asked.id, StatusCode::RINGING).await;
            assert_eq!(matches!(told, Err(CallError::Gone)), ends, "{status}");
            assert_eq!(phone.count(Method::Bye), 0);
            call.reinvite(Some(sdp("still there"))).await.unwrap();
        });
    }
}

#[test]
fn a_refused_notify_of_a_lost_dialog_ends_the_call_too() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        let request = refer(&dialog, 11).build().unwrap();
        phone.send(&request, ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 404, "b").await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(call.ended().await, CallEnd::Lost));
    });
}

/// RFC 5057 §5.5: "ending an invite usage with a BYE does not terminate any active Event: refer subscriptions".
#[test]
fn after_the_bye_the_outcome_is_still_told() {
    scene(|network| async move {
        network.auditor().waive(Rule::AfterBye);
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        let request = refer(&dialog, 11).build().unwrap();
        phone.send(&request, ALICE).await;
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "b").await;
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        assert!(matches!(call.next().await, Some(CallEvent::SessionEnded)));
        // The call in the dialog is over, whatever is asked of it.
        for (cseq, method) in (13..).zip([Method::Bye, Method::Invite, Method::Info]) {
            let late = dialog.build(method, cseq);
            phone.send(&late, ALICE).await;
            assert_eq!(phone.status_of(&late).await, 481);
        }
        assert!(matches!(call.reinvite(None).await, Err(CallError::Gone)));
        call.report_refer(asked.id, StatusCode::OK).await.unwrap();
        let last = phone.nth(Method::Notify, 1).await;
        phone.answer(&last, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        let late = dialog.build(Method::Options, 20);
        phone.send(&late, ALICE).await;
        assert_eq!(phone.status_of(&late).await, 481, "the dialog is gone");
        pass(120_000).await;
        alice.assert_idle();
    });
}

#[test]
fn who_refers_and_hangs_up_still_hears_the_outcome() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        refers(&call, &phone, 0, 200).await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        // A NOTIFY that crosses the BYE is taken too.
        let first = notify(&dialog, 20, "refer", "active;expires=60", "100 Trying");
        phone.send(&first, ALICE).await;
        assert_eq!(phone.status_of(&first).await, 200);
        phone.answer(&bye, 200, "b").await;
        assert!(!report(&mut call).await.is_over);
        assert!(matches!(call.next().await, Some(CallEvent::SessionEnded)));
        let last = notify(
            &dialog,
            21,
            "refer",
            "terminated;reason=noresource",
            "486 Busy",
        );
        phone.send(&last, ALICE).await;
        let report = report(&mut call).await;
        assert!(report.is_over && !report.has_succeeded());
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(120_000).await;
        alice.assert_idle();
    });
}

#[test]
fn who_drops_the_call_tells_the_peer_that_nothing_will_come() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        for cseq in [11, 12] {
            let request = refer(&dialog, cseq).build().unwrap();
            phone.send(&request, ALICE).await;
        }
        let asked = referral(&mut call).await;
        call.accept_refer(asked.id).await.unwrap();
        let first = phone.first(Method::Notify).await;
        phone.answer(&first, 200, "b").await;
        drop(call);
        let last = phone.nth(Method::Notify, 1).await;
        assert_eq!(
            header(&last, "Subscription-State"),
            "terminated;reason=giveup"
        );
        phone.answer(&last, 200, "b").await;
        assert_eq!(
            phone.status_of(&refer(&dialog, 12).build().unwrap()).await,
            603
        );
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        pass(120_000).await;
        alice.assert_idle();
    });
}

/// Bob is referred to by Alice again and again on a bad network, and hangs up or is hung up on at any time: what he reports in
/// the end is what she hears, or neither hears anything more, and nothing is left.
#[test]
fn what_is_reported_is_heard_whoever_hangs_up_when() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let mut bob = Agent::with(&network, BOB, 2, transferable()).await;
        let (hangs_up, after) = (network.random(0..=2), network.random(0..=4_000));
        let thinks = network.random(0..=3_000);
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            loop {
                match call.next().await.unwrap() {
                    CallEvent::Referred(referral) => {
                        let id = referral.id;
                        call.accept_refer(id).await.unwrap();
                        pass(thinks).await;
                        for status in [StatusCode::RINGING, StatusCode::BUSY_HERE] {
                            // She may have gone without a word.
                            let _ = call.report_refer(id, status).await;
                        }
                        if hangs_up == 1 {
                            let _ = call.hang_up().await;
                        }
                    }
                    CallEvent::Ended(_) => break,
                    _ => {}
                }
            }
        };
        let calling = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            let answer = call.refer(carol()).await;
            if hangs_up == 0 {
                pass(after).await;
                let _ = call.hang_up().await;
            }
            let granted = answer.is_ok_and(|answer| answer.id.is_some());
            let mut last = None;
            loop {
                match call.next().await.unwrap() {
                    CallEvent::ReferReport(report) => {
                        assert!(last.is_none(), "nothing comes after the end");
                        if report.is_over {
                            last = Some(report.status);
                            if hangs_up == 2 {
                                let _ = call.hang_up().await;
                            }
                        }
                    }
                    CallEvent::Ended(_) => break,
                    _ => {}
                }
            }
            assert_eq!(last.is_some(), granted);
            if let Some(Some(status)) = last {
                assert_eq!(status, StatusCode::BUSY_HERE);
            }
        };
        tokio::join!(answering, calling);
        pass(700_000).await;
        alice.assert_idle();
        bob.assert_idle();
    });
}
