//! Reliable provisional answers to calls that we are asked for (RFC 3262 §3, §5).

use crate::support::*;
use sipora_dialog_core::{
    Body, Call, CallConfig, CallEnd, CallError, CallEvent, CallRequest, Reliability,
};
use sipora_message::{HeaderName, Method, RAck, Request, Response, StatusCode};

const PROGRESS: StatusCode = StatusCode::SESSION_PROGRESS;

fn supporting() -> Request {
    let invite = invite(ALICE).header(HeaderName::Supported, "100rel");
    invite.build().unwrap()
}

fn without_offer() -> Request {
    let invite = supporting();
    let invite = invite.edit().remove(HeaderName::ContentType);
    let invite = invite.set(HeaderName::ContentDisposition, "render;handling=optional");
    invite.body("text/plain", "no offer").build().unwrap()
}

/// Another INVITE, as after a refusal.
fn numbered(invite: &Request, cseq: u32) -> Request {
    let cseq = format!("{cseq} INVITE");
    invite.edit().set(HeaderName::CSeq, cseq).build().unwrap()
}

/// The first answer, 100 excepted.
async fn first_answer(phone: &Phone, invite: &Request) -> Response {
    for _ in 0..2_000 {
        if !phone.seen.statuses(invite).is_empty() {
            return phone.seen.last_response();
        }
        pass(1).await;
    }
    panic!("nothing was answered");
}

fn rseq(response: &Response) -> u32 {
    assert!(response.headers().require().any(|tag| tag == "100rel"));
    response.headers().rseq().unwrap().unwrap()
}

fn prack(dialog: &InDialog, cseq: u32, rseq: u32) -> sipora_message::RequestBuilder {
    let rack = RAck {
        rseq,
        cseq: 10,
        method: Method::Invite,
    };
    let prack = dialog.request(Method::Prack, cseq);
    prack.header(HeaderName::RAck, rack)
}

/// The phone calls, and Alice answers with 183, reliably.
async fn early(alice: &mut Agent, phone: &Phone, invite: &Request) -> (Call, InDialog, u32) {
    phone.send(invite, ALICE).await;
    let call = alice.incoming.next().await.unwrap();
    let body = Some(sdp("early"));
    call.progress_reliably(PROGRESS, body).await.unwrap();
    let response = first_answer(phone, invite).await;
    (call, InDialog::of_response(&response), rseq(&response))
}

fn body_of(response: &Response) -> Option<Body> {
    let bytes = response.body().to_vec();
    (!bytes.is_empty()).then(|| Body::new("application/sdp", bytes))
}

#[test]
fn a_reliable_answer_is_repeated_until_its_prack_and_the_2xx_waits_for_it() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let (mut call, dialog, rseq) = early(&mut alice, &phone, &invite).await;
        assert!((1..1 << 31).contains(&rseq));
        call.accept(None).await.unwrap();
        assert!(matches!(call.accept(None).await, Err(CallError::Gone)));
        pass(8_000).await;
        let statuses = phone.seen.statuses(&invite);
        assert_eq!(
            statuses, [183; 5],
            "at once, and after 0.5, 1.5, 3.5, 7.5 s"
        );
        let prack = prack(&dialog, 11, rseq).build().unwrap();
        phone.send(&prack, ALICE).await;
        assert_eq!(phone.status_of(&prack).await, 200);
        let accepted = phone.answer_to(&invite).await;
        assert_eq!(accepted.status().as_u16(), 200);
        assert!(body_of(&accepted).is_none(), "the answer has been sent");
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ProgressAcknowledged(_))
        ));
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        pass(20_000).await;
        let copies = phone.seen.statuses(&invite);
        assert_eq!(copies.iter().filter(|status| **status == 183).count(), 5);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn without_a_prack_the_invite_is_refused_after_64_t1() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let (mut call, ..) = early(&mut alice, &phone, &invite).await;
        // Not even an acceptance helps.
        call.accept(None).await.unwrap();
        pass(31_000).await;
        assert_eq!(phone.seen_finals(&invite), 0);
        assert!(matches!(end(&mut call).await, CallEnd::NotAcknowledged));
        assert_eq!(phone.status_of(&invite).await, 504);
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_prack_for_nothing_gets_481_and_one_without_rack_400() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let (_call, dialog, rseq) = early(&mut alice, &phone, &invite).await;
        let wrong_invite = RAck {
            rseq,
            cseq: 9,
            method: Method::Invite,
        };
        let wrong_method = RAck {
            rseq,
            cseq: 10,
            method: Method::Update,
        };
        let prack = |cseq, rack: Option<RAck>| {
            let builder = dialog.request(Method::Prack, cseq);
            let builder = match rack {
                Some(rack) => builder.header(HeaderName::RAck, rack),
                None => builder,
            };
            builder.build().unwrap()
        };
        let right = RAck {
            cseq: 10,
            ..wrong_invite.clone()
        };
        let wrong_number = RAck {
            rseq: rseq + 1,
            ..right.clone()
        };
        let wanted = [
            (Some(wrong_invite), 481),
            (Some(wrong_method), 481),
            (Some(wrong_number), 481),
            (None, 400),
            (Some(right.clone()), 200),
            (Some(right), 481),
        ];
        for (cseq, (rack, status)) in (11..).zip(wanted) {
            let prack = prack(cseq, rack);
            phone.send(&prack, ALICE).await;
            assert_eq!(phone.status_of(&prack).await, status, "{prack:?}");
        }
    });
}

#[test]
fn there_is_one_at_a_time_and_the_others_follow_in_order() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let (call, dialog, first) = early(&mut alice, &phone, &invite).await;
        for _ in 0..8 {
            let status = StatusCode::RINGING;
            call.progress_reliably(status, None).await.unwrap();
        }
        let ninth = call.progress_reliably(StatusCode::RINGING, None).await;
        assert!(matches!(ninth, Err(CallError::NotNow(_))));
        assert_eq!(phone.seen.statuses(&invite), [183]);
        for nth in 0..3 {
            let prack = prack(&dialog, 11 + nth, first + nth).build().unwrap();
            phone.send(&prack, ALICE).await;
            assert_eq!(phone.status_of(&prack).await, 200);
            pass(20).await;
        }
        let numbers = phone.seen.numbers(&invite);
        assert_eq!(numbers, [first, first + 1, first + 2, first + 3]);
    });
}

#[test]
fn who_requires_it_gets_every_answer_reliably() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).header(HeaderName::Require, "100rel");
        let invite = invite.build().unwrap();
        phone.send(&invite, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        call.ring().await.unwrap();
        let response = first_answer(&phone, &invite).await;
        let (dialog, rseq) = (InDialog::of_response(&response), rseq(&response));
        // It carries no description: the 2xx need not wait.
        call.accept(sdp("answer")).await.unwrap();
        let accepted = phone.answer_to(&invite).await;
        assert_eq!(body_of(&accepted), Some(sdp("answer")));
        // Its PRACK is taken all the same, after the 2xx and even after the ACK.
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let prack = prack(&dialog, 11, rseq).build().unwrap();
        phone.send(&prack, ALICE).await;
        assert_eq!(phone.status_of(&prack).await, 200);
        pass(3_000).await;
        let statuses = phone.seen.statuses(&invite);
        assert_eq!(statuses.iter().filter(|status| **status == 180).count(), 1);
    });
}

#[test]
fn who_supports_it_gets_early_media_reliably_and_ringing_not() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        phone.send(&invite, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        call.ring().await.unwrap();
        let ringing = first_answer(&phone, &invite).await;
        assert_eq!(ringing.headers().rseq(), Ok(None));
        call.progress(PROGRESS, Some(sdp("early"))).await.unwrap();
        pass(5).await;
        let early = phone.seen.last_response();
        let rseq = rseq(&early);
        assert!(
            early
                .headers()
                .allow()
                .any(|method| method == Method::Prack)
        );
        let dialog = InDialog::of_response(&early);
        phone
            .send(&prack(&dialog, 11, rseq).build().unwrap(), ALICE)
            .await;
        // A description once more is left out, reliable or not.
        call.progress(PROGRESS, Some(sdp("early"))).await.unwrap();
        pass(5).await;
        assert!(body_of(&phone.seen.last_response()).is_none());
        call.accept(sdp("answer")).await.unwrap();
        let accepted = phone.answer_to(&invite).await;
        assert!(body_of(&accepted).is_none());
    });
}

#[test]
fn who_does_not_know_it_gets_nothing_reliably() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        phone.send(&invite, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        let refused = call.progress_reliably(PROGRESS, None).await;
        assert!(matches!(refused, Err(CallError::NotSupported("100rel"))));
        call.progress(PROGRESS, Some(sdp("early"))).await.unwrap();
        let early = first_answer(&phone, &invite).await;
        assert_eq!(early.headers().rseq(), Ok(None));
        // It was a preview: the answer is still owed.
        assert!(matches!(
            call.accept(None).await,
            Err(CallError::BodyNeeded(_))
        ));
        call.accept(sdp("early")).await.unwrap();
        let accepted = phone.answer_to(&invite).await;
        assert_eq!(body_of(&accepted), Some(sdp("early")));
    });
}

#[test]
fn extensions_that_are_required_are_refused_by_name() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.reliability = Reliability::Never;
        let _never = Agent::with(&network, "192.0.2.7:5060", 7, config).await;
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        for (cseq, to, tags, unknown) in [
            (3, "192.0.2.7:5060", "100rel", "100rel"),
            (4, ALICE, "100rel, foo", "foo"),
        ] {
            let invite = invite(to).header(HeaderName::Require, tags);
            let invite = numbered(&invite.build().unwrap(), cseq);
            phone.send(&invite, to).await;
            let refusal = phone.answer_to(&invite).await;
            assert_eq!(refusal.status().as_u16(), 420);
            let listed: Vec<&str> = refusal.headers().unsupported().collect();
            assert_eq!(listed, [unknown]);
        }
        // In a dialog too, which goes on.
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let reinvite = dialog
            .request(Method::Invite, 11)
            .header(HeaderName::Require, "foo");
        let reinvite = reinvite.build().unwrap();
        phone.send(&reinvite, ALICE).await;
        assert_eq!(phone.status_of(&reinvite).await, 420);
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        call.hang_up().await.unwrap();
    });
}

#[test]
fn who_wants_it_always_refuses_those_who_do_not_know_it() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.reliability = Reliability::Required;
        let mut alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let unable = numbered(&invite(ALICE).build().unwrap(), 9);
        phone.send(&unable, ALICE).await;
        let refusal = phone.answer_to(&unable).await;
        assert_eq!(refusal.status().as_u16(), 421);
        let required: Vec<&str> = refusal.headers().require().collect();
        assert_eq!(required, ["100rel"]);
        let able = supporting();
        phone.send(&able, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        call.ring().await.unwrap();
        rseq(&first_answer(&phone, &able).await);
    });
}

#[test]
fn without_an_offer_the_first_reliable_answer_makes_one_and_the_prack_answers_it() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = without_offer();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        let bare = call.progress_reliably(PROGRESS, None).await;
        assert!(matches!(bare, Err(CallError::BodyNeeded(_))));
        call.progress_reliably(PROGRESS, Some(sdp("offer")))
            .await
            .unwrap();
        let early = first_answer(&phone, &invite).await;
        assert_eq!(body_of(&early), Some(sdp("offer")));
        call.accept(None).await.unwrap();
        let dialog = InDialog::of_response(&early);
        let prack = prack(&dialog, 11, rseq(&early)).body("application/sdp", sdp("answer").bytes);
        let prack = prack.build().unwrap();
        phone.send(&prack, ALICE).await;
        assert_eq!(phone.status_of(&prack).await, 200);
        let Some(CallEvent::ProgressAcknowledged(told)) = call.next().await else {
            panic!("no PRACK");
        };
        assert_eq!(told.body(), prack.body());
        assert!(body_of(&phone.answer_to(&invite).await).is_none());
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn a_prack_that_leaves_our_offer_without_answer_ends_the_call() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = without_offer();
        let (mut call, dialog, rseq) = early(&mut alice, &phone, &invite).await;
        let prack = prack(&dialog, 11, rseq).build().unwrap();
        phone.send(&prack, ALICE).await;
        assert_eq!(phone.status_of(&prack).await, 200);
        assert_eq!(phone.status_of(&invite).await, 400);
        assert!(matches!(end(&mut call).await, CallEnd::NotDescribed));
    });
}

#[test]
fn an_offer_in_the_prack_is_answered_in_its_2xx_and_the_call_waits_for_that() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let (mut call, dialog, rseq) = early(&mut alice, &phone, &invite).await;
        let prack = prack(&dialog, 11, rseq).body("application/sdp", sdp("offer 2").bytes);
        let prack = prack.build().unwrap();
        phone.send(&prack, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        call.accept(None).await.unwrap();
        pass(1_000).await;
        assert_eq!(phone.seen_finals(&invite), 0);
        assert_eq!(phone.seen.statuses(&invite), [183], "the PRACK has come");
        call.answer(sdp("answer 2")).await.unwrap();
        assert!(matches!(
            call.answer(sdp("again")).await,
            Err(CallError::Gone)
        ));
        let answer = phone.answer_to(&prack).await;
        assert_eq!(body_of(&answer), Some(sdp("answer 2")));
        assert_eq!(phone.status_of(&invite).await, 200);
    });
}

#[test]
fn an_offer_in_the_prack_can_be_refused_and_the_prack_comes_again_without() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let (mut call, dialog, rseq) = early(&mut alice, &phone, &invite).await;
        for (cseq, waits) in [(11, false), (12, true)] {
            let prack = prack(&dialog, cseq, rseq).body("application/sdp", sdp("offer 2").bytes);
            let prack = prack.build().unwrap();
            phone.send(&prack, ALICE).await;
            if cseq == 12 {
                // RFC 6337 §2.3: it may come once more, but without the offer.
                assert_eq!(phone.status_of(&prack).await, 488);
                continue;
            }
            assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
            assert!(!waits);
            call.refuse(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
            assert_eq!(phone.status_of(&prack).await, 488);
        }
        let bare = prack(&dialog, 13, rseq).build().unwrap();
        phone.send(&bare, ALICE).await;
        assert_eq!(phone.status_of(&bare).await, 200);
        call.accept(None).await.unwrap();
        assert_eq!(phone.status_of(&invite).await, 200);
    });
}

#[test]
fn an_offer_in_a_prack_that_nobody_answers_gets_504_in_time() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let (call, dialog, rseq) = early(&mut alice, &phone, &invite).await;
        let prack = prack(&dialog, 11, rseq).body("application/sdp", sdp("offer 2").bytes);
        let prack = prack.build().unwrap();
        phone.send(&prack, ALICE).await;
        pass(17_000).await;
        assert_eq!(phone.status_of(&prack).await, 504);
        assert!(matches!(
            call.answer(sdp("late")).await,
            Err(CallError::Gone)
        ));
    });
}

#[test]
fn an_offer_has_no_place_in_the_prack_of_an_answer_that_carries_none() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        phone.send(&invite, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        call.progress_reliably(StatusCode::RINGING, None)
            .await
            .unwrap();
        let ringing = first_answer(&phone, &invite).await;
        let (dialog, rseq) = (InDialog::of_response(&ringing), rseq(&ringing));
        let offering = prack(&dialog, 11, rseq).body("application/sdp", sdp("offer 2").bytes);
        let offering = offering.build().unwrap();
        phone.send(&offering, ALICE).await;
        assert_eq!(phone.status_of(&offering).await, 488);
        let bare = prack(&dialog, 12, rseq).build().unwrap();
        phone.send(&bare, ALICE).await;
        assert_eq!(phone.status_of(&bare).await, 200);
    });
}

#[test]
fn a_cancelled_invite_is_answered_reliably_no_more() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let taking = async {
            let call = alice.incoming.next().await.unwrap();
            let body = Some(sdp("early"));
            call.progress_reliably(PROGRESS, body).await.unwrap();
            call.accept(None).await.unwrap();
            call
        };
        let (mut call, ()) = tokio::join!(taking, phone.send_and_cancel_after(&invite, ALICE, 50));
        assert_eq!(phone.status_of(&invite).await, 487);
        assert!(matches!(end(&mut call).await, CallEnd::PeerCancelled(_)));
        pass(40_000).await;
        assert_eq!(phone.seen.statuses(&invite), [183, 487]);
        alice.assert_idle();
    });
}

#[test]
fn a_long_ringing_is_told_again_every_two_and_a_half_minutes() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = supporting();
        let (_call, dialog, first) = early(&mut alice, &phone, &invite).await;
        let acknowledge = |nth: u32| prack(&dialog, 11 + nth, first + nth).build().unwrap();
        phone.send(&acknowledge(0), ALICE).await;
        pass(149_000).await;
        assert_eq!(phone.seen.numbers(&invite), [first]);
        pass(1_200).await;
        assert_eq!(phone.seen.numbers(&invite), [first, first + 1]);
        assert!(body_of(&phone.seen.last_response()).is_none());
        phone.send(&acknowledge(1), ALICE).await;
        pass(150_000).await;
        assert_eq!(phone.seen.numbers(&invite), [first, first + 1, first + 2]);
    });
}

#[test]
fn a_reliable_answer_that_could_not_be_made_has_made_no_dialog() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        phone.send(&without_offer(), ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        let bare = call.progress_reliably(PROGRESS, None).await;
        assert!(matches!(bare, Err(CallError::BodyNeeded(_))));
        let early = call.request(CallRequest::options()).await;
        assert!(matches!(early, Err(CallError::NotNow(_))), "{early:?}");
        assert_eq!(phone.count(Method::Options), 0);
    });
}
