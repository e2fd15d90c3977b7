//! Offers that change nothing are answered with what was said last (RFC 4028 §7.4, RFC 3264 §8).

use crate::support::*;
use sipora_dialog_core::{Call, CallConfig, CallEnd, CallEvent};
use sipora_message::{HeaderName, Method, Request, RequestBuilder, ResponseBuilder, StatusCode};
use sipora_testkit::{Conditions, for_each_seed, seeds};
use std::time::Duration;

fn timed(builder: RequestBuilder) -> RequestBuilder {
    builder
        .header(HeaderName::Supported, "timer")
        .header(HeaderName::SessionExpires, "90;refresher=uac")
}

/// A call of the phone's, with a timer that it refreshes, and an answer of Alice's.
async fn up(alice: &mut Agent, phone: &Phone) -> (Call, InDialog) {
    let invite = timed(invite(ALICE)).build().unwrap();
    phone.send(&invite, ALICE).await;
    let mut call = alice.incoming.next().await.unwrap();
    call.accept(sdp("answer")).await.unwrap();
    let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
    phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
    let next = call.next().await;
    assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
    (call, dialog)
}

/// A re-INVITE or UPDATE with this description, and a timer.
fn offers(dialog: &InDialog, method: Method, cseq: u32, text: &str) -> Request {
    let request = timed(offering(dialog, method, cseq, text));
    request.build().unwrap()
}

fn without_timer(dialog: &InDialog, method: Method, cseq: u32, text: &str) -> Request {
    offering(dialog, method, cseq, text).build().unwrap()
}

fn offering(dialog: &InDialog, method: Method, cseq: u32, text: &str) -> RequestBuilder {
    let builder = Request::builder(method, &uri(&dialog.target))
        .from(&dialog.local)
        .to(&dialog.remote)
        .call_id(&dialog.call_id)
        .cseq(cseq)
        .contact(format!("<sip:bob@{BOB}>"));
    builder.body("application/sdp", sdp(text).bytes)
}

/// Sends one that Alice's application does not hear of, and gives what is answered.
async fn refreshes(phone: &Phone, refresh: &Request) -> String {
    phone.send(refresh, ALICE).await;
    let answer = phone.answer_to(refresh).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers().session_expires().unwrap().is_some());
    String::from_utf8(answer.body().to_vec()).unwrap()
}

fn text(what: &str) -> String {
    String::from_utf8(sdp(what).bytes.to_vec()).unwrap()
}

#[test]
fn a_refresh_is_answered_with_what_was_said_last_and_the_application_hears_nothing() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        for round in 0..5 {
            pass(45_000).await;
            assert_eq!(phone.count(Method::Bye), 0);
            let cseq = 11 + round;
            let refresh = offers(&dialog, Method::Invite, cseq, "offer");
            assert_eq!(refreshes(&phone, &refresh).await, text("answer"));
            phone.send(&dialog.build(Method::Ack, cseq), ALICE).await;
        }
        let update = offers(&dialog, Method::Update, 20, "offer");
        assert_eq!(refreshes(&phone, &update).await, text("answer"));
        let bye = dialog.build(Method::Bye, 21);
        phone.send(&bye, ALICE).await;
        let next = call.next().await;
        let end = matches!(next, Some(CallEvent::Ended(CallEnd::PeerHungUp(_))));
        assert!(end, "{next:?}");
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn an_offer_that_changes_something_is_the_applications_and_then_what_holds() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&mut alice, &phone).await;
        // What was refused does not hold, however often it is offered.
        for cseq in [11, 12] {
            let hold = offers(&dialog, Method::Invite, cseq, "hold");
            phone.send(&hold, ALICE).await;
            let next = call.next().await;
            assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
            call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
            assert_eq!(phone.status_of(&hold).await, 488);
        }
        let hold = offers(&dialog, Method::Invite, 13, "hold");
        phone.send(&hold, ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
        call.accept(sdp("held")).await.unwrap();
        assert_eq!(phone.status_of(&hold).await, 200);
        phone.send(&dialog.build(Method::Ack, 13), ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
        let refresh = offers(&dialog, Method::Invite, 14, "hold");
        assert_eq!(refreshes(&phone, &refresh).await, text("held"));
        phone.send(&dialog.build(Method::Ack, 14), ALICE).await;
        // What held before is a change now.
        let resume = offers(&dialog, Method::Update, 15, "offer");
        phone.send(&resume, ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Offered(_))), "{next:?}");
        call.answer(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&resume).await, 200);
        let refresh = offers(&dialog, Method::Invite, 16, "offer");
        assert_eq!(refreshes(&phone, &refresh).await, text("answer"));
        phone.send(&dialog.build(Method::Ack, 16), ALICE).await;
    });
}

#[test]
fn an_answer_of_the_peers_is_known_again_when_it_offers_the_same() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.session_expires = Some(Duration::from_secs(90));
        let alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        let body = sdp("theirs").bytes;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                builder
                    .header(HeaderName::SessionExpires, "90;refresher=uas")
                    .header(HeaderName::Require, "timer")
                    .body("application/sdp", body)
            })
            .await;
        call.answered().await.unwrap();
        phone.first(Method::Ack).await;
        let dialog = InDialog::of_invite(&invite, "b");
        let refresh = offers(&dialog, Method::Invite, 7, "theirs");
        assert_eq!(refreshes(&phone, &refresh).await, text("offer"));
        phone.send(&dialog.build(Method::Ack, 7), ALICE).await;
    });
}

/// Who has no timer refreshes too, to see whether we are there; also where it has moved meanwhile.
#[test]
fn an_offer_that_changes_nothing_is_answered_without_a_timer_too() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
        for (cseq, method) in [(11, Method::Invite), (12, Method::Update)] {
            let refresh = without_timer(&dialog, method.clone(), cseq, "offer");
            phone.send(&refresh, ALICE).await;
            let answer = phone.answer_to(&refresh).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.body(), sdp("answer").bytes);
            assert!(answer.headers().session_expires().unwrap().is_none());
            if method == Method::Invite {
                phone.send(&dialog.build(Method::Ack, cseq), ALICE).await;
            }
        }
        // What we say ourselves is what holds then.
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let hold = phone.first(Method::Invite).await;
        phone.answer(&hold, 200, "b").await;
        let next = call.next().await;
        let is_held = matches!(next, Some(CallEvent::ReinviteAccepted(_)));
        assert!(is_held, "{next:?}");
        let refresh = without_timer(&dialog, Method::Invite, 13, "answer");
        phone.send(&refresh, ALICE).await;
        let answer = phone.answer_to(&refresh).await;
        assert_eq!(answer.body(), sdp("hold").bytes);
        phone.send(&dialog.build(Method::Ack, 13), ALICE).await;
        phone.send(&dialog.build(Method::Bye, 14), ALICE).await;
        let next = call.next().await;
        let end = matches!(next, Some(CallEvent::Ended(CallEnd::PeerHungUp(_))));
        assert!(end, "{next:?}");
        pass(40_000).await;
        alice.assert_idle();
    });
}

/// The answer may come before the 2xx, and the offer from either side (RFC 6337 §2.2).
#[test]
fn what_was_said_reliably_before_the_2xx_is_known_too() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "b", |builder| {
                builder
                    .header(HeaderName::Require, "100rel")
                    .header(HeaderName::RSeq, 7)
                    .header(HeaderName::Allow, "INVITE, ACK, BYE, PRACK, UPDATE")
                    .body("application/sdp", sdp("early").bytes)
            })
            .await;
        let prack = phone.first(Method::Prack).await;
        phone.answer(&prack, 200, "b").await;
        pass(100).await;
        // It is changed once more before that.
        call.update(Some(sdp("later"))).await.unwrap();
        let update = phone.first(Method::Update).await;
        phone
            .answer_with(&update, 200, "b", |builder| {
                builder.body("application/sdp", sdp("agreed").bytes)
            })
            .await;
        phone
            .answer_with(&invite, 200, "b", |builder| builder)
            .await;
        call.answered().await.unwrap();
        phone.first(Method::Ack).await;
        let dialog = InDialog::of_invite(&invite, "b");
        let refresh = without_timer(&dialog, Method::Invite, 7, "agreed");
        phone.send(&refresh, ALICE).await;
        let answer = phone.answer_to(&refresh).await;
        assert_eq!(answer.body(), sdp("later").bytes);
        phone.send(&dialog.build(Method::Ack, 7), ALICE).await;
        let old = without_timer(&dialog, Method::Invite, 8, "early");
        phone.send(&old, ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
    });
}

/// An offer of ours that was never answered is not what holds.
#[test]
fn an_offer_in_a_2xx_without_an_answer_in_its_ack_leaves_what_holds_unknown() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        call.next().await.unwrap();
        let asks = Request::builder(Method::Invite, &uri(&dialog.target))
            .from(&dialog.local)
            .to(&dialog.remote)
            .call_id(&dialog.call_id)
            .cseq(11)
            .contact(format!("<sip:bob@{BOB}>"));
        let asks = asks.build().unwrap();
        phone.send(&asks, ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
        call.accept(sdp("unanswered")).await.unwrap();
        phone.answer_to(&asks).await;
        phone.send(&dialog.build(Method::Ack, 11), ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
        let refresh = without_timer(&dialog, Method::Invite, 12, "offer");
        phone.send(&refresh, ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
    });
}

#[test]
fn where_the_application_wants_it_every_offer_is_told_of() {
    for has_timer in [true, false] {
        scene(move |network| async move {
            let mut config = CallConfig::default();
            config.answers_refreshes = false;
            let mut alice = Agent::with(&network, ALICE, 1, config).await;
            let phone = Phone::new(&network).await;
            let (mut call, dialog) = match has_timer {
                true => up(&mut alice, &phone).await,
                false => {
                    let (mut call, dialog) = answered(&mut alice, &phone).await;
                    phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
                    call.next().await.unwrap();
                    (call, dialog)
                }
            };
            let refresh = offers(&dialog, Method::Invite, 11, "offer");
            phone.send(&refresh, ALICE).await;
            let next = call.next().await;
            assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
            call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
            assert_eq!(phone.status_of(&refresh).await, 488);
        });
    }
}

#[test]
fn refreshes_are_answered_on_bad_networks_while_the_application_waits_for_the_end() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let mut config = CallConfig::default();
        config.session_expires = Some(Duration::from_secs(600));
        let alice = Agent::with(&network, ALICE, 1, config.clone()).await;
        let mut bob = Agent::with(&network, BOB, 2, config).await;
        let calling = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            for _ in 0..3 {
                pass(20_000).await;
                call.reinvite(Some(sdp("offer"))).await.unwrap();
                match call.next().await {
                    Some(CallEvent::ReinviteAccepted(answer)) => {
                        assert_eq!(answer.body(), sdp("answer").bytes);
                    }
                    other => panic!("{other:?}"),
                }
            }
            call.hang_up().await.unwrap();
            call.ended().await
        };
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            call.ended().await
        };
        let (hers, his) = tokio::join!(calling, answering);
        assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
        assert!(matches!(his, CallEnd::PeerHungUp(_)), "{his:?}");
        pass(120_000).await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

fn by_update(builder: ResponseBuilder) -> ResponseBuilder {
    builder
        .header(HeaderName::Allow, "INVITE, ACK, BYE, UPDATE")
        .header(HeaderName::SessionExpires, "90;refresher=uac")
        .header(HeaderName::Require, "timer")
        .body("application/sdp", "v=0\r\ns=answer\r\n")
}

#[test]
fn a_re_invite_that_waits_after_glare_outlives_a_refresh_that_meets_the_peers_too() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.session_expires = Some(Duration::from_secs(90));
        let alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer_with(&invite, 200, "b", by_update).await;
        call.answered().await.unwrap();
        pass(44_000).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 491, "b").await;
        let refresh = phone.first(Method::Update).await;
        phone.answer(&refresh, 491, "b").await;
        let refresh = phone.nth(Method::Update, 1).await;
        phone
            .answer_with(&refresh, 200, "b", |builder| {
                builder
                    .contact(format!("<sip:bob@{BOB}>"))
                    .header(HeaderName::SessionExpires, "90;refresher=uac")
            })
            .await;
        pass(20_000).await;
        assert_eq!(phone.count(Method::Invite), 3, "the hold is sent again");
    });
}

/// Sessions of 90 s.
fn short() -> CallConfig {
    let mut config = CallConfig::default();
    config.session_expires = Some(Duration::from_secs(90));
    config
}

fn refreshed(builder: ResponseBuilder) -> ResponseBuilder {
    builder
        .contact(format!("<sip:bob@{BOB}>"))
        .header(HeaderName::SessionExpires, "90;refresher=uac")
}

/// A call whose refresh by UPDATE is on its way beside a re-INVITE of the application's, both without an answer.
async fn both_open(alice: &Agent, phone: &Phone) -> (Call, Came, Came) {
    let mut call = alice.calls(BOB).await;
    let invite = phone.first(Method::Invite).await;
    phone.answer_with(&invite, 200, "b", by_update).await;
    call.answered().await.unwrap();
    pass(44_000).await;
    call.reinvite(Some(sdp("hold"))).await.unwrap();
    let reinvite = phone.nth(Method::Invite, 1).await;
    let refresh = phone.first(Method::Update).await;
    (call, reinvite, refresh)
}

#[test]
fn a_re_invite_that_met_491_outlives_the_491_of_a_refresh_that_was_on_its_way() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, short()).await;
        let phone = Phone::new(&network).await;
        let (_call, reinvite, refresh) = both_open(&alice, &phone).await;
        phone.answer(&reinvite, 491, "b").await;
        phone.answer(&refresh, 491, "b").await;
        pass(10_000).await;
        if let Some(refresh) = phone.all(Method::Update).get(1) {
            phone.answer_with(refresh, 200, "b", refreshed).await;
        }
        pass(20_000).await;
        assert_eq!(phone.count(Method::Invite), 3, "the hold is sent again");
    });
}

#[test]
fn a_refresh_that_met_491_is_sent_again_though_a_re_invite_met_it_too() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, short()).await;
        let phone = Phone::new(&network).await;
        let (mut call, reinvite, refresh) = both_open(&alice, &phone).await;
        phone.answer(&refresh, 491, "b").await;
        phone.answer(&reinvite, 491, "b").await;
        let again = phone.nth(Method::Invite, 2).await;
        phone.answer(&again, 488, "b").await;
        let told = call.next().await;
        assert!(
            matches!(told, Some(CallEvent::ReinviteRefused(_))),
            "{told:?}"
        );
        let before = phone.count(Method::Update);
        pass(35_000).await;
        assert!(
            phone.count(Method::Update) > before,
            "the session is refreshed"
        );
    });
}

#[test]
fn a_change_of_the_applications_that_met_491_is_not_forgotten_for_its_update_that_met_it_too() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, CallConfig::default()).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                knows_updates(builder).body("application/sdp", "v=0\r\ns=answer\r\n")
            })
            .await;
        call.answered().await.unwrap();
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        call.update(None).await.unwrap();
        let update = phone.first(Method::Update).await;
        phone.answer(&reinvite, 491, "b").await;
        phone.answer(&update, 491, "b").await;
        pass(10_000).await;
        if let Some(update) = phone.all(Method::Update).get(1) {
            phone
                .answer_with(update, 200, "b", |it| {
                    it.contact(format!("<sip:bob@{BOB}>"))
                })
                .await;
        }
        pass(20_000).await;
        assert_eq!(phone.count(Method::Invite), 3, "the hold is sent again");
    });
}

#[test]
fn a_refresh_that_is_answered_reliably_first_is_not_told_of_as_a_change() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, short()).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        let refresh = phone.nth(Method::Invite, 1).await;
        phone
            .answer_with(&refresh, 183, "b", described(1, "answer"))
            .await;
        let prack = phone.first(Method::Prack).await;
        phone.answer(&prack, 200, "b").await;
        phone.answer_with(&refresh, 200, "b", |it| it).await;
        let told = tokio::time::timeout(Duration::from_secs(5), call.next()).await;
        assert!(told.is_err(), "{told:?}");
    });
}
