//! Session timers (RFC 4028).

use std::time::Duration;

use crate::support::*;
use sipora_dialog_core::{Body, Call, CallConfig, CallEnd, CallError, CallEvent};
use sipora_message::{HeaderName, Method, Request, Response, ResponseBuilder, StatusCode};
use sipora_testkit::{Conditions, for_each_seed, seeds};

fn timed(seconds: u64) -> CallConfig {
    let mut config = CallConfig::default();
    config.session_expires = Some(Duration::from_secs(seconds));
    config
}

fn expires(headers: sipora_message::Headers<'_>) -> String {
    let expires = headers.session_expires().unwrap();
    expires.map(|it| it.to_string()).unwrap_or_default()
}

/// The phone calls with these lines more, and Alice accepts.
async fn accepted(
    alice: &mut Agent,
    phone: &Phone,
    lines: &[(&str, &str)],
) -> (Call, InDialog, Response) {
    let mut invite = invite(ALICE);
    for (name, value) in lines {
        invite = invite.header(*name, value);
    }
    // What it says in every answer, too.
    let invite = invite.build().unwrap().edit();
    let invite = invite.body("application/sdp", sdp("his").bytes);
    let invite = invite.build().unwrap();
    phone.send(&invite, ALICE).await;
    let mut call = alice.incoming.next().await.unwrap();
    call.accept(sdp("hers")).await.unwrap();
    let response = phone.answer_to(&invite).await;
    let dialog = InDialog::of_response(&response);
    phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
    assert!(matches!(
        call.next().await,
        Some(CallEvent::Acknowledged(_))
    ));
    (call, dialog, response)
}

/// Alice calls, and the phone accepts like this.
async fn calls(
    alice: &Agent,
    phone: &Phone,
    edit: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
) -> (Call, Request) {
    let mut call = alice.calls(BOB).await;
    let invite = phone.first(Method::Invite).await;
    phone
        .answer_with(&invite, 200, "b", |builder| {
            edit(builder).body("application/sdp", "v=0\r\ns=his\r\n")
        })
        .await;
    call.answered().await.unwrap();
    (call, invite.request)
}

/// Seconds until the `nth` of a method comes.
async fn seconds_until(phone: &Phone, method: Method, nth: usize) -> (u64, Came) {
    let started = tokio::time::Instant::now();
    let came = loop {
        if let Some(came) = phone.all(method.clone()).get(nth) {
            break came.clone();
        }
        assert!(
            started.elapsed().as_secs() < 100_000,
            "no {method} number {nth}"
        );
        pass(100).await;
    };
    let seconds = (started.elapsed().as_millis() + 500) / 1_000;
    (u64::try_from(seconds).unwrap(), came)
}

async fn ok(phone: &Phone, came: &Came, expires: &str) {
    let is_invite = *came.method() == Method::Invite;
    phone
        .answer_with(came, 200, "b", |builder| {
            let builder = match expires {
                "" => builder,
                expires => builder.header(HeaderName::SessionExpires, expires),
            };
            match is_invite {
                true => builder.body("application/sdp", "v=0\r\ns=his\r\n"),
                false => builder,
            }
        })
        .await;
}

/// Table 2 of §9, and the Require that goes with it.
#[test]
fn the_2xx_says_who_refreshes_as_table_2_has_it() {
    let cases = [
        (
            vec![("Session-Expires", "1800")],
            "1800;refresher=uas",
            false,
        ),
        (
            vec![("Supported", "timer"), ("Session-Expires", "1800")],
            "1800;refresher=uac",
            true,
        ),
        (
            vec![
                ("Supported", "timer"),
                ("Session-Expires", "90;refresher=uac"),
            ],
            "90;refresher=uac",
            true,
        ),
        (
            vec![("Supported", "timer"), ("x", "600;refresher=uas")],
            "600;refresher=uas",
            true,
        ),
        (vec![("Supported", "timer")], "", false),
        (vec![], "", false),
    ];
    for (lines, expected, requires) in cases {
        scene(move |network| {
            let lines = lines.clone();
            async move {
                let mut alice = Agent::new(&network, ALICE, 1).await;
                let phone = Phone::new(&network).await;
                let (_call, _, response) = accepted(&mut alice, &phone, &lines).await;
                let headers = response.headers();
                assert_eq!(expires(headers), expected);
                assert_eq!(headers.require().any(|tag| tag == "timer"), requires);
                assert!(headers.supports("timer"));
            }
        });
    }
}

#[test]
fn who_wants_a_timer_has_one_with_every_peer_that_knows_them() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, timed(1800)).await;
        let phone = Phone::new(&network).await;
        let lines = [("Supported", "timer"), ("Min-SE", "2000")];
        let (_call, _, response) = accepted(&mut alice, &phone, &lines).await;
        assert_eq!(expires(response.headers()), "2000;refresher=uac");
    });
}

#[test]
fn a_session_that_is_too_short_gets_422_unless_the_peer_does_not_know_it() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.min_session_expires = Duration::from_secs(300);
        let mut alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let short = invite(ALICE)
            .header(HeaderName::Supported, "timer")
            .header(HeaderName::SessionExpires, "299")
            .build()
            .unwrap();
        phone.send(&short, ALICE).await;
        let answer = phone.answer_to(&short).await;
        assert_eq!(answer.status(), StatusCode::SESSION_INTERVAL_TOO_SMALL);
        assert_eq!(answer.headers().min_se().unwrap(), Some(300));
        assert!(to_tag_of(&answer).is_some());
        let old = invite(ALICE)
            .header(HeaderName::SessionExpires, "299")
            .call_id_again("old")
            .edit()
            .set(HeaderName::CSeq, "20 INVITE")
            .build()
            .unwrap();
        phone.send(&old, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        call.accept(sdp("hers")).await.unwrap();
        assert_eq!(phone.status_of(&old).await, 200);
    });
}

fn to_tag_of(response: &Response) -> Option<String> {
    let to = response.headers().to().unwrap();
    to.tag().map(str::to_owned)
}

#[test]
fn a_peer_that_does_not_refresh_is_hung_up_on_before_the_end() {
    // The minimum of 32 seconds and one third of the interval before it (§10).
    for (interval, after) in [("1800", 1768), ("90", 60)] {
        scene(move |network| async move {
            let mut alice = Agent::new(&network, ALICE, 1).await;
            let phone = Phone::new(&network).await;
            let lines = [("Supported", "timer"), ("Session-Expires", interval)];
            let (mut call, _, _) = accepted(&mut alice, &phone, &lines).await;
            let (waited, bye) = seconds_until(&phone, Method::Bye, 0).await;
            assert_eq!(waited, after);
            phone.answer(&bye, 200, "b").await;
            assert!(matches!(call.ended().await, CallEnd::Expired));
            pass(120_000).await;
            alice.assert_idle();
        });
    }
}

#[test]
fn a_refresh_of_the_peers_makes_the_session_last() {
    scene(|network| async move {
        let mut config = CallConfig::default();
        config.answers_refreshes = false;
        let mut alice = Agent::with(&network, ALICE, 1, config).await;
        let phone = Phone::new(&network).await;
        let lines = [("Supported", "timer"), ("Session-Expires", "600")];
        let (mut call, dialog, _) = accepted(&mut alice, &phone, &lines).await;
        for cseq in 11..14 {
            pass(500_000).await;
            let refresh = dialog
                .request(Method::Invite, cseq)
                .header(HeaderName::Supported, "timer")
                .header(HeaderName::SessionExpires, "600;refresher=uac")
                .build()
                .unwrap();
            phone.send(&refresh, ALICE).await;
            assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
            call.accept(sdp("hers")).await.unwrap();
            let answer = phone.answer_to(&refresh).await;
            assert_eq!(expires(answer.headers()), "600;refresher=uac");
            phone.send(&dialog.build(Method::Ack, cseq), ALICE).await;
            assert!(matches!(
                call.next().await,
                Some(CallEvent::Acknowledged(_))
            ));
        }
        assert_eq!(phone.count(Method::Bye), 0);
        // One without a timer turns it off (§9).
        let off = dialog.build(Method::Invite, 20);
        phone.send(&off, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("hers")).await.unwrap();
        phone.answer_to(&off).await;
        phone.send(&dialog.build(Method::Ack, 20), ALICE).await;
        pass(5_000_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
    });
}

#[test]
fn we_refresh_with_what_we_said_last_and_the_application_does_not_hear_of_it() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let lines = [
            ("Supported", "timer"),
            ("Session-Expires", "600;refresher=uas"),
            ("Min-SE", "120"),
        ];
        let (mut call, dialog, _) = accepted(&mut alice, &phone, &lines).await;
        let (waited, refresh) = seconds_until(&phone, Method::Invite, 0).await;
        assert_eq!(waited, 300);
        assert_eq!(expires(refresh.headers()), "600;refresher=uac");
        assert_eq!(refresh.headers().min_se().unwrap(), Some(120), "§7.4: MUST");
        assert!(refresh.headers().supports("timer"));
        assert_eq!(refresh.body(), b"v=0\r\ns=hers\r\n");
        ok(&phone, &refresh, "600;refresher=uac").await;
        // The session is changed, and refreshed so.
        pass(1_000).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let hold = phone.nth(Method::Invite, 1).await;
        assert_eq!(expires(hold.headers()), "600;refresher=uac");
        ok(&phone, &hold, "600;refresher=uac").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
        let (waited, refresh) = seconds_until(&phone, Method::Invite, 2).await;
        assert_eq!(waited, 300);
        assert_eq!(refresh.body(), b"v=0\r\ns=hold\r\n");
        ok(&phone, &refresh, "600;refresher=uac").await;
        phone.nth(Method::Ack, 2).await;
        phone.send(&dialog.build(Method::Bye, 30), ALICE).await;
        let ended = call.next().await;
        assert!(matches!(ended, Some(CallEvent::Ended(_))), "{ended:?}");
        pass(700_000).await;
        alice.assert_idle();
    });
}

#[test]
fn an_invite_asks_for_a_timer_and_is_sent_again_for_422() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(1800)).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let first = phone.first(Method::Invite).await;
        assert_eq!(expires(first.headers()), "1800");
        for (nth, min_se) in [(0, "3600"), (1, "5000")] {
            let invite = phone.nth(Method::Invite, nth).await;
            phone
                .answer_with(&invite, 422, "b", |builder| {
                    builder.header(HeaderName::MinSe, min_se)
                })
                .await;
        }
        let third = phone.nth(Method::Invite, 2).await;
        assert_eq!(expires(third.headers()), "5000");
        assert_eq!(third.headers().min_se().unwrap(), Some(5000));
        assert_eq!(number(&third.request), 3);
        assert_eq!(
            third.headers().call_id().unwrap(),
            first.headers().call_id().unwrap()
        );
        ok(&phone, &third, "5000;refresher=uac").await;
        call.answered().await.unwrap();
        let (waited, refresh) = seconds_until(&phone, Method::Invite, 3).await;
        assert_eq!(waited, 2500);
        assert_eq!(
            refresh.headers().min_se().unwrap(),
            None,
            "cleared with the dialog (§7.4)"
        );
        assert_eq!(refresh.body(), b"v=0\r\ns=offer\r\n");
    });
}

/// RFC 4028 §7.3 as a new try of the same INVITE: it follows what was sent in its early dialogs, which are over with it.
#[test]
fn an_invite_that_is_sent_again_for_422_follows_the_pracks_of_the_last() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(1800)).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let first = phone.first(Method::Invite).await;
        phone
            .answer_with(&first, 183, "b", |builder| {
                builder
                    .header(HeaderName::Require, "100rel")
                    .header(HeaderName::RSeq, 7)
                    .body("application/sdp", "v=0\r\ns=early\r\n")
            })
            .await;
        let prack = phone.first(Method::Prack).await;
        assert_eq!(number(&prack.request), 2);
        phone.answer(&prack, 200, "b").await;
        phone
            .answer_with(&first, 422, "b", |builder| {
                builder.header(HeaderName::MinSe, 3600)
            })
            .await;
        let second = phone.nth(Method::Invite, 1).await;
        assert_eq!(number(&second.request), 3);
        let early = call.end_early("b").await;
        assert!(matches!(early, Err(CallError::Gone)), "{early:?}");
        // What the last one was told reliably counts for nothing.
        ok(&phone, &second, "3600;refresher=uac").await;
        let answered = call.answered().await.unwrap();
        assert_eq!(answered.body(), b"v=0\r\ns=his\r\n");
        phone.first(Method::Ack).await;
        pass(1_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
    });
}

/// The answer to a refresh may say what is new.
#[test]
fn the_answer_to_a_refresh_is_told_where_it_differs() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(90)).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = calls(&alice, &phone, |builder| {
            builder.header(HeaderName::SessionExpires, "90;refresher=uac")
        })
        .await;
        for (nth, text) in [(1, "his"), (2, "elsewhere"), (3, "elsewhere")] {
            let refresh = phone.nth(Method::Invite, nth).await;
            phone
                .answer_with(&refresh, 200, "b", |builder| {
                    builder
                        .header(HeaderName::SessionExpires, "90;refresher=uac")
                        .body("application/sdp", format!("v=0\r\ns={text}\r\n"))
                })
                .await;
        }
        pass(1_000).await;
        let event = call.next().await;
        let Some(CallEvent::Refreshed(answer)) = event else {
            panic!("{event:?}");
        };
        assert_eq!(answer.body(), b"v=0\r\ns=elsewhere\r\n");
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        let event = call.next().await;
        assert!(
            matches!(event, Some(CallEvent::Ended(CallEnd::HungUp))),
            "one of them was new: {event:?}"
        );
    });
}

/// The application says what holds, and hears of neither answer.
#[test]
fn a_refresh_of_the_applications_is_told_of_no_more_than_others() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let lines = [
            ("Supported", "timer"),
            ("Session-Expires", "600;refresher=uas"),
        ];
        let (mut call, _, _) = accepted(&mut alice, &phone, &lines).await;
        let nothing = call.refresh(Body::new("text/plain", "x")).await;
        assert!(
            matches!(nothing, Err(CallError::BodyNeeded(_))),
            "{nothing:?}"
        );
        call.refresh(sdp("hers")).await.unwrap();
        let refresh = phone.nth(Method::Invite, 0).await;
        phone.answer(&refresh, 488, "b").await;
        pass(1_000).await;
        call.refresh(sdp("hers")).await.unwrap();
        let refresh = phone.nth(Method::Invite, 1).await;
        ok(&phone, &refresh, "600;refresher=uac").await;
        pass(1_000).await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        let event = call.next().await;
        assert!(
            matches!(event, Some(CallEvent::Ended(CallEnd::HungUp))),
            "{event:?}"
        );
    });
}

/// A refresh that meets the peer's change (491) is no refresh any more: the change was one, and what it said before holds no more.
#[test]
fn a_refresh_that_met_a_change_is_not_sent_again() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let lines = [
            ("Supported", "timer"),
            ("Session-Expires", "600;refresher=uas"),
        ];
        let (mut call, dialog, _) = accepted(&mut alice, &phone, &lines).await;
        let (_, refresh) = seconds_until(&phone, Method::Invite, 0).await;
        let change = dialog
            .request(Method::Invite, 11)
            .header(HeaderName::Supported, "timer")
            .header(HeaderName::SessionExpires, "600;refresher=uas")
            .build()
            .unwrap();
        phone.answer(&refresh, 491, "b").await;
        phone.send(&change, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("changed")).await.unwrap();
        phone.answer_to(&change).await;
        phone.send(&dialog.build(Method::Ack, 11), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        let (waited, refresh) = seconds_until(&phone, Method::Invite, 1).await;
        assert!((299..=300).contains(&waited), "{waited}");
        assert_eq!(refresh.body(), sdp("changed").bytes);
    });
}

#[test]
fn a_422_that_asks_for_nothing_longer_is_a_refusal() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(1800)).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 422, "b", |builder| {
                builder.header(HeaderName::MinSe, "90")
            })
            .await;
        assert!(matches!(call.answered().await, Err(CallEnd::Refused(_))));
    });
}

#[test]
fn a_peer_without_timers_is_refreshed_by_who_wants_them_and_else_not() {
    for wants in [true, false] {
        scene(move |network| async move {
            let config = if wants {
                timed(600)
            } else {
                CallConfig::default()
            };
            let alice = Agent::with(&network, ALICE, 1, config).await;
            let phone = Phone::new(&network).await;
            let (_call, _) = calls(&alice, &phone, |builder| builder).await;
            pass(301_000).await;
            assert_eq!(phone.count(Method::Invite), if wants { 2 } else { 1 });
        });
    }
}

/// §7.2: "UACs MUST be prepared to receive a Session-Expires header field in a response, even if none were present in the request."
#[test]
fn a_timer_that_was_not_asked_for_is_kept() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let timer = |builder: ResponseBuilder| {
            builder
                .header(HeaderName::Require, "timer")
                .header(HeaderName::SessionExpires, "600;refresher=uas")
        };
        let (mut call, _) = calls(&alice, &phone, timer).await;
        let (waited, bye) = seconds_until(&phone, Method::Bye, 0).await;
        assert_eq!(waited, 568);
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(call.ended().await, CallEnd::Expired));
    });
}

#[test]
fn who_understands_update_is_refreshed_by_it_without_an_offer() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(600)).await;
        let phone = Phone::new(&network).await;
        let (_call, _) = calls(&alice, &phone, |builder| {
            builder
                .header(HeaderName::Allow, "INVITE, ACK, BYE, UPDATE")
                .header(HeaderName::SessionExpires, "600;refresher=uac")
        })
        .await;
        let (waited, update) = seconds_until(&phone, Method::Update, 0).await;
        assert_eq!(waited, 300);
        assert_eq!(expires(update.headers()), "600;refresher=uac");
        assert!(update.headers().supports("timer"));
        assert!(update.headers().contact().unwrap().is_some());
        assert!(update.body().is_empty());
        ok(&phone, &update, "600;refresher=uac").await;
        // It changes its mind about UPDATE.
        let (waited, update) = seconds_until(&phone, Method::Update, 1).await;
        assert_eq!(waited, 300);
        phone.answer(&update, 405, "b").await;
        let refresh = phone.nth(Method::Invite, 1).await;
        ok(&phone, &refresh, "600;refresher=uac").await;
        assert_eq!(phone.count(Method::Bye), 0);
    });
}

/// The call is refreshed by us, and the peer takes UPDATE.
fn by_update(builder: ResponseBuilder) -> ResponseBuilder {
    builder
        .header(HeaderName::Allow, "INVITE, ACK, BYE, UPDATE")
        .header(HeaderName::SessionExpires, "90;refresher=uac")
        .header(HeaderName::Require, "timer")
}

#[test]
fn a_peer_that_takes_update_no_more_is_refreshed_by_reinvite() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(90)).await;
        let phone = Phone::new(&network).await;
        let (mut call, invite) = calls(&alice, &phone, by_update).await;
        let dialog = InDialog::of_invite(&invite, "b");
        let theirs = dialog
            .request(Method::Invite, 7)
            .header(HeaderName::Allow, "INVITE, ACK, BYE")
            .header(HeaderName::Supported, "timer")
            .header(HeaderName::SessionExpires, "90;refresher=uas")
            .build()
            .unwrap();
        phone.send(&theirs, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&theirs).await, 200);
        phone.send(&dialog.build(Method::Ack, 7), ALICE).await;
        let (seconds, refresh) = seconds_until(&phone, Method::Invite, 1).await;
        assert!((44..=46).contains(&seconds), "{seconds}");
        assert_eq!(phone.count(Method::Update), 0);
        assert_eq!(refresh.body(), sdp("answer").bytes);
        ok(&phone, &refresh, "90;refresher=uac").await;
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
    });
}

/// A refresh meets something of the peer's, waits, and is refused then: the application hears of none of it, and there are others.
#[test]
fn a_refresh_by_update_that_meets_the_peers_is_still_a_refresh() {
    for_each_seed(seeds(), |network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(90)).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = calls(&alice, &phone, by_update).await;
        let first = phone.first(Method::Update).await;
        phone.answer(&first, 491, "b").await;
        let second = phone.nth(Method::Update, 1).await;
        phone.answer(&second, 500, "b").await;
        let third = phone.nth(Method::Update, 2).await;
        ok(&phone, &third, "90;refresher=uac").await;
        assert_eq!(phone.count(Method::Bye), 0);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        let event = call.next().await;
        assert!(
            matches!(event, Some(CallEvent::Ended(CallEnd::HungUp))),
            "{event:?}"
        );
    });
}

#[test]
fn a_refused_refresh_is_tried_again_until_the_session_ends() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(600)).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = calls(&alice, &phone, |builder| {
            builder.header(HeaderName::SessionExpires, "600;refresher=uac")
        })
        .await;
        let started = tokio::time::Instant::now();
        let mut nth = 1;
        while phone.count(Method::Bye) == 0 {
            if let Some(refresh) = phone.all(Method::Invite).get(nth) {
                phone.answer(refresh, 500, "b").await;
                nth += 1;
            }
            pass(100).await;
        }
        assert_eq!(started.elapsed().as_secs(), 600);
        assert!((4..20).contains(&nth), "{nth} refreshes");
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(call.ended().await, CallEnd::Expired));
    });
}

#[test]
fn a_refresh_that_is_too_short_goes_again_at_once_with_what_is_wanted() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, timed(600)).await;
        let phone = Phone::new(&network).await;
        let (_call, _) = calls(&alice, &phone, |builder| {
            builder.header(HeaderName::SessionExpires, "600;refresher=uac")
        })
        .await;
        let (_, refresh) = seconds_until(&phone, Method::Invite, 1).await;
        phone
            .answer_with(&refresh, 422, "b", |builder| {
                builder.header(HeaderName::MinSe, "900")
            })
            .await;
        let (waited, again) = seconds_until(&phone, Method::Invite, 2).await;
        assert_eq!(waited, 0);
        assert_eq!(expires(again.headers()), "900;refresher=uac");
        assert_eq!(again.headers().min_se().unwrap(), Some(900));
        ok(&phone, &again, "900;refresher=uac").await;
        let (waited, _) = seconds_until(&phone, Method::Invite, 3).await;
        assert_eq!(waited, 450);
    });
}

#[test]
fn a_refresh_without_an_answer_ends_the_call() {
    for status in [481, 0] {
        scene(move |network| async move {
            let alice = Agent::with(&network, ALICE, 1, timed(600)).await;
            let phone = Phone::new(&network).await;
            let (mut call, _) = calls(&alice, &phone, |builder| {
                builder.header(HeaderName::SessionExpires, "600;refresher=uac")
            })
            .await;
            let (_, refresh) = seconds_until(&phone, Method::Invite, 1).await;
            if status > 0 {
                phone.answer(&refresh, status, "b").await;
                let bye = phone.first(Method::Bye).await;
                phone.answer(&bye, 200, "b").await;
                assert!(matches!(call.ended().await, CallEnd::Lost));
            } else {
                // Only 100 Trying came, after 200 ms: the INVITE waits, and the session does not.
                let (waited, bye) = seconds_until(&phone, Method::Bye, 0).await;
                assert_eq!(waited, 300);
                phone.answer(&bye, 200, "b").await;
                assert!(matches!(call.ended().await, CallEnd::Expired));
            }
        });
    }
}

/// §11.1: who asks for a refresh every second does not get it.
#[test]
fn nobody_makes_us_refresh_all_the_time() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (_call, _) = calls(&alice, &phone, |builder| {
            builder.header(HeaderName::SessionExpires, "1;refresher=uac")
        })
        .await;
        let (waited, _) = seconds_until(&phone, Method::Invite, 1).await;
        assert_eq!(waited, 45);
    });
}

/// On a bad network, a call with timers stays up for hours whoever refreshes; and when the network is gone, both sides end it.
#[test]
fn a_call_stays_up_as_long_as_it_is_refreshed_and_no_longer() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let interval = network.random(120..=1_800);
        let mut agents = [timed(interval), CallConfig::default()];
        if network.random(0..=1) == 0 {
            agents.reverse();
        }
        let [hers, his] = agents;
        let alice = Agent::with(&network, ALICE, 1, hers).await;
        let mut bob = Agent::with(&network, BOB, 2, his).await;
        async fn holds(call: &mut Call) -> CallEnd {
            loop {
                match call.next().await.unwrap() {
                    CallEvent::Reinvited(_) => call.accept(sdp("same")).await.unwrap(),
                    CallEvent::Ended(end) => break end,
                    CallEvent::Acknowledged(_) | CallEvent::Progress(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("his")).await.unwrap();
            holds(&mut call).await
        };
        let calling = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            holds(&mut call).await
        };
        let cutting = async {
            pass(4 * 3_600_000).await;
            assert_eq!(alice.dialogs.call_metrics().calls, 1, "it is still up");
            network.part("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        };
        let (his, hers, ()) = tokio::join!(answering, calling, cutting);
        for end in [his, hers] {
            // The network may go while a refresh waits for its ACK.
            let is_over = matches!(
                end,
                CallEnd::Expired | CallEnd::Lost | CallEnd::NotAcknowledged
            );
            assert!(is_over, "{end:?}");
        }
        pass(120_000).await;
        alice.assert_idle();
        bob.assert_idle();
    });
}
