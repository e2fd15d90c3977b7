//! Target refreshes by the sections of RFC 6141: what moves a dialog's target and what does not, and who loses its contact in the middle
//! of a re-INVITE. That requests go where a 2xx says, and not where a refusal does, is tested in `targets`.

use std::time::Duration;

use crate::support::*;
use sipora_dialog_core::{Call, CallEnd, CallEvent, CallRequest};
use sipora_message::{HeaderName, Method, Request, ResponseBuilder, StatusCode};
use sipora_testkit::{Conditions, SimNetwork};

const MOVED: &str = "192.0.2.77:5060";

/// Alice, whom the phone has called, and where the phone will have moved to.
async fn up(network: &SimNetwork) -> (Agent, Call, InDialog, Phone, Phone) {
    let mut alice = Agent::new(network, ALICE, 1).await;
    let phone = Phone::new(network).await;
    let moved = Phone::at(network, MOVED).await;
    let (mut call, dialog) = answered(&mut alice, &phone).await;
    phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
    assert!(matches!(
        call.next().await,
        Some(CallEvent::Acknowledged(_))
    ));
    (alice, call, dialog, phone, moved)
}

/// A re-INVITE of the phone's, which has moved.
fn moving(dialog: &InDialog, cseq: u32) -> Request {
    let request = dialog.build(Method::Invite, cseq);
    let edit = request
        .edit()
        .set(HeaderName::Contact, format!("<sip:bob@{MOVED}>"));
    edit.append(HeaderName::Supported, "100rel")
        .body("application/sdp", format!("v=0\r\ns=offer {cseq}\r\n"))
        .build()
        .unwrap()
}

fn to_moved(builder: ResponseBuilder) -> ResponseBuilder {
    builder
        .header(HeaderName::Contact, format!("<sip:bob@{MOVED}>"))
        .to_tag("b")
}

/// A request of Alice's comes here, and no other does there.
async fn is_reached(call: &Call, here: &Phone, there: &Phone) {
    let before = (here.count(Method::Options), there.count(Method::Options));
    let asking = call.request(CallRequest::options());
    let (answer, ()) = tokio::join!(asking, async {
        let options = here.nth(Method::Options, before.0).await;
        here.answer(&options, 200, "b").await;
    });
    assert!(answer.unwrap().status().is_success());
    assert_eq!(there.count(Method::Options), before.1);
}

async fn hangs_up(alice: &Agent, call: &mut Call, here: &Phone) {
    call.hang_up().await.unwrap();
    let bye = here.first(Method::Bye).await;
    here.answer(&bye, 200, "b").await;
    let end = end(call).await;
    assert!(matches!(end, CallEnd::HungUp), "{end:?}");
    pass(120_000).await;
    alice.assert_idle();
}

/// "On sending a reliable provisional response ... the UA MUST replace the dialog's remote target URI"; "the UAS would not revert to the
/// pre-re-INVITE remote target" (§4.4), which makes target refreshes "not atomic" (§4.3).
#[test]
fn section_4_6_a_reliable_provisional_answer_moves_the_target_whatever_follows() {
    scene(|network| async move {
        let (alice, mut call, dialog, phone, moved) = up(&network).await;
        let reinvite = moving(&dialog, 11);
        phone.send(&reinvite, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        let progress = StatusCode::SESSION_PROGRESS;
        call.progress_reliably(progress, None).await.unwrap();
        pass(100).await;
        let number = phone.seen.numbers(&reinvite)[0];
        let rack = format!("{number} 11 INVITE");
        let prack = dialog
            .request(Method::Prack, 12)
            .header(HeaderName::RAck, rack);
        let prack = prack.build().unwrap();
        moved.send(&prack, ALICE).await;
        assert_eq!(moved.status_of(&prack).await, 200);
        is_reached(&call, &moved, &phone).await;
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        assert_eq!(phone.status_of(&reinvite).await, 488);
        is_reached(&call, &moved, &phone).await;
        hangs_up(&alice, &mut call, &moved).await;
    });
}

/// "If instead ... the UA generates an error response to the target-refresh request, the UA MUST NOT update".
#[test]
fn section_4_6_an_unreliable_provisional_answer_and_a_refusal_leave_the_target() {
    scene(|network| async move {
        let (alice, mut call, dialog, phone, moved) = up(&network).await;
        let reinvite = moving(&dialog, 11);
        phone.send(&reinvite, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.ring().await.unwrap();
        is_reached(&call, &phone, &moved).await;
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        assert_eq!(phone.status_of(&reinvite).await, 488);
        is_reached(&call, &phone, &moved).await;
        hangs_up(&alice, &mut call, &phone).await;
    });
}

/// "If a UA receives a reliable provisional response or a 2xx response to a target-refresh request, the UA MUST replace the dialog's
/// remote target URI"; "an unreliable provisional response ..., the UA MUST NOT".
#[test]
fn section_4_7_of_provisional_answers_only_reliable_ones_move_the_target() {
    for is_reliable in [true, false] {
        scene(|network| async move {
            let (alice, mut call, _, phone, moved) = up(&network).await;
            call.reinvite(Some(sdp("hold"))).await.unwrap();
            let reinvite = phone.first(Method::Invite).await;
            let answer =
                sipora_message::Response::for_request(&reinvite, StatusCode::SESSION_PROGRESS);
            let answer = to_moved(answer);
            let (here, there) = match is_reliable {
                true => {
                    phone.answer_as_is(&reinvite, reliable(1)(answer)).await;
                    let prack = moved.first(Method::Prack).await;
                    moved.answer(&prack, 200, "b").await;
                    (&moved, &phone)
                }
                false => {
                    phone.answer_as_is(&reinvite, answer).await;
                    (&phone, &moved)
                }
            };
            is_reached(&call, here, there).await;
            // The final answer is an error: what has moved has moved.
            phone.answer(&reinvite, 488, "b").await;
            loop {
                match call.next().await.unwrap() {
                    CallEvent::ReinviteRefused(_) | CallEvent::ReinviteUndone(_) => break,
                    CallEvent::Ended(end) => panic!("{end:?}"),
                    _ => {}
                }
            }
            is_reached(&call, here, there).await;
            hangs_up(&alice, &mut call, here).await;
        });
    }
}

/// "Unreliable provisional responses cannot refresh the target" of an early dialog that is established already.
#[test]
fn section_4_9_early_dialogs_are_moved_by_reliable_answers_alone() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let moved = Phone::at(&network, MOVED).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        assert!(is_progress(&call.next().await));
        let answer =
            || sipora_message::Response::for_request(&invite, StatusCode::SESSION_PROGRESS);
        phone.answer_as_is(&invite, to_moved(answer())).await;
        assert!(is_progress(&call.next().await));
        is_reached(&call, &phone, &moved).await;
        phone
            .answer_as_is(&invite, reliable(1)(to_moved(answer())))
            .await;
        let prack = moved.first(Method::Prack).await;
        moved.answer(&prack, 200, "b").await;
        is_reached(&call, &moved, &phone).await;
        // "On receiving a 2xx ..., the UAC recomputes the whole route set": the target is that of the 2xx.
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        phone.first(Method::Ack).await;
        is_reached(&call, &phone, &moved).await;
        hangs_up(&alice, &mut call, &phone).await;
    });
}

/// "A UAC that accepts a target refresh within a re-INVITE MUST ignore transport and timeout errors when generating an ACK request for a
/// non-2xx final response."
#[test]
fn section_5_3_an_ack_that_finds_nobody_any_more_ends_nothing() {
    scene(|network| async move {
        let (alice, mut call, _, phone, moved) = up(&network).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.first(Method::Invite).await;
        let answer = sipora_message::Response::for_request(&reinvite, StatusCode::SESSION_PROGRESS);
        let answer = reliable(1)(to_moved(answer));
        phone.answer_as_is(&reinvite, answer).await;
        let prack = moved.first(Method::Prack).await;
        moved.answer(&prack, 200, "b").await;
        let [hers, his] = [ALICE, BOB].map(|it| it.parse::<std::net::SocketAddr>().unwrap().ip());
        let slow = Conditions {
            delay: Duration::from_millis(100)..=Duration::from_millis(100),
            ..Conditions::perfect()
        };
        network.set_way(his, hers, slow);
        phone.answer(&reinvite, 488, "b").await;
        drop(phone);
        loop {
            match call.next().await.unwrap() {
                CallEvent::ReinviteRefused(_) | CallEvent::ReinviteUndone(_) => break,
                CallEvent::Ended(end) => panic!("{end:?}"),
                _ => {}
            }
        }
        pass(1_000).await;
        let packets = network.packets();
        let unreachable = packets.iter().filter(|packet| {
            packet.first_line().starts_with("ACK")
                && packet.fate == sipora_testkit::Fate::Unreachable
        });
        assert!(unreachable.count() > 0);
        // "Additionally, UAC SHOULD generate a new re-INVITE in order to make sure that both UAs have a common view".
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let again = moved.first(Method::Invite).await;
        let accepted = sipora_message::Response::for_request(&again, StatusCode::OK);
        let accepted = to_moved(accepted).body("application/sdp", "v=0\r\ns=held\r\n");
        moved.answer_as_is(&again, accepted).await;
        let next = call.next().await;
        assert!(
            matches!(next, Some(CallEvent::ReinviteAccepted(_))),
            "{next:?}"
        );
        moved.first(Method::Ack).await;
        hangs_up(&alice, &mut call, &moved).await;
    });
}

/// "A UAS that accepts a target refresh within a re-INVITE and never receives an ACK request after having sent a final response to the
/// re-INVITE SHOULD NOT terminate the dialog if the UA has received a new re-INVITE with a higher CSeq".
#[test]
fn section_5_4_who_has_lost_its_contact_and_comes_again_keeps_the_call() {
    for comes_again in [true, false] {
        scene(|network| async move {
            let (alice, mut call, dialog, phone, moved) = up(&network).await;
            let reinvite = moving(&dialog, 11);
            phone.send(&reinvite, ALICE).await;
            assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
            call.accept(sdp("answer")).await.unwrap();
            // The answer to it finds nobody, and so there is no ACK.
            drop(phone);
            pass(5_000).await;
            if comes_again {
                let reinvite = moving(&dialog, 12);
                moved.send(&reinvite, ALICE).await;
                assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
                call.accept(sdp("answer")).await.unwrap();
                assert_eq!(moved.status_of(&reinvite).await, 200);
                moved.send(&dialog.build(Method::Ack, 12), ALICE).await;
                assert!(matches!(
                    call.next().await,
                    Some(CallEvent::Acknowledged(_))
                ));
            }
            pass(40_000).await;
            if comes_again {
                assert_eq!(moved.count(Method::Bye), 0, "it goes on");
                hangs_up(&alice, &mut call, &moved).await;
            } else {
                let bye = moved.first(Method::Bye).await;
                moved.answer(&bye, 200, "b").await;
                let end = end(&mut call).await;
                assert!(matches!(end, CallEnd::NotAcknowledged), "{end:?}");
                pass(120_000).await;
                alice.assert_idle();
            }
        });
    }
}

/// So it is where it hangs up meanwhile: the BYE waits for the ACK that still may come, and for no other.
#[test]
fn section_5_4_the_bye_does_not_wait_for_an_ack_for_ever() {
    scene(|network| async move {
        let (alice, mut call, dialog, phone, moved) = up(&network).await;
        phone.send(&moving(&dialog, 11), ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("answer")).await.unwrap();
        drop(phone);
        pass(5_000).await;
        let reinvite = moving(&dialog, 12);
        moved.send(&reinvite, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("answer")).await.unwrap();
        assert_eq!(moved.status_of(&reinvite).await, 200);
        moved.send(&dialog.build(Method::Ack, 12), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        hangs_up(&alice, &mut call, &moved).await;
    });
}
