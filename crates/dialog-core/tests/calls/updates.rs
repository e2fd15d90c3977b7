//! UPDATE, sent and received (RFC 3311), and re-INVITEs that it changes (RFC 6141).

use crate::support::*;
use sipora_dialog_core::{Call, CallEnd, CallError, CallEvent};
use sipora_message::{HeaderName, Method, RAck, Request, RequestBuilder, Response, StatusCode};

fn offering(builder: RequestBuilder, text: &str) -> Request {
    let body = sdp(text).bytes;
    builder.body("application/sdp", body).build().unwrap()
}

fn update(dialog: &InDialog, cseq: u32) -> RequestBuilder {
    let builder = dialog.request(Method::Update, cseq);
    builder.contact(format!("<sip:bob@{BOB}>"))
}

async fn answer_update(phone: &Phone, came: &Came, body: &'static str) {
    phone
        .answer_with(came, 200, "b", |builder| {
            let builder = builder.contact(format!("<sip:bob@{BOB}>"));
            match body {
                "" => builder,
                body => builder.body("application/sdp", body),
            }
        })
        .await;
}

/// Alice calls, and the phone, which understands UPDATE, answers.
async fn up(alice: &Agent, phone: &Phone) -> (Call, InDialog) {
    let mut call = alice.calls(BOB).await;
    let invite = phone.first(Method::Invite).await;
    phone
        .answer_with(&invite, 200, "b", |builder| {
            builder
                .header(HeaderName::Allow, "INVITE, ACK, BYE, UPDATE")
                .body("application/sdp", "v=0\r\ns=answer\r\n")
        })
        .await;
    call.answered().await.unwrap();
    phone.first(Method::Ack).await;
    (call, InDialog::of_invite(&invite, "b"))
}

/// Alice calls, and the phone has answered her offer reliably.
async fn early(alice: &Agent, phone: &Phone) -> (Call, InDialog, Came) {
    let mut call = alice.calls(BOB).await;
    let invite = phone.first(Method::Invite).await;
    phone
        .answer_with(&invite, 183, "b", |builder| {
            knows_updates(described(1, "answer")(builder))
        })
        .await;
    let prack = phone.first(Method::Prack).await;
    phone.answer(&prack, 200, "b").await;
    assert!(is_progress(&call.next().await));
    pass(5).await;
    (call, InDialog::of_invite(&invite, "b"), invite)
}

/// The phone calls, and Alice has answered its offer reliably; the phone has sent its PRACK.
async fn early_callee(alice: &mut Agent, phone: &Phone) -> (Call, InDialog, Request) {
    let invite = invite(ALICE)
        .header(HeaderName::Supported, "100rel")
        .header(HeaderName::Allow, "INVITE, ACK, BYE, PRACK, UPDATE")
        .build()
        .unwrap();
    phone.send(&invite, ALICE).await;
    let mut call = alice.incoming.next().await.unwrap();
    let body = Some(sdp("early"));
    let progress = StatusCode::SESSION_PROGRESS;
    call.progress_reliably(progress, body).await.unwrap();
    pass(5).await;
    let response = phone.seen.last_response();
    let dialog = InDialog::of_response(&response);
    let rack = RAck {
        rseq: response.headers().rseq().unwrap().unwrap(),
        cseq: 10,
        method: Method::Invite,
    };
    let prack = dialog
        .request(Method::Prack, 11)
        .header(HeaderName::RAck, rack);
    let prack = prack.build().unwrap();
    phone.send(&prack, ALICE).await;
    assert_eq!(phone.status_of(&prack).await, 200);
    let told = call.next().await;
    assert!(matches!(told, Some(CallEvent::ProgressAcknowledged(_))));
    (call, dialog, invite)
}

fn retry_after(response: &Response) -> bool {
    response.headers().contains(&HeaderName::RetryAfter)
}

#[test]
fn an_update_changes_the_session_and_moves_the_target() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = up(&alice, &phone).await;
        call.update(Some(sdp("hold"))).await.unwrap();
        let ours = phone.first(Method::Update).await;
        assert_eq!(ours.body(), sdp("hold").bytes.as_ref());
        assert!(ours.headers().contact().unwrap().is_some());
        assert!(
            ours.headers()
                .allow()
                .any(|method| method == Method::Update)
        );
        // Until it is answered there is no other, and no re-INVITE.
        let second = call.update(None).await;
        assert!(matches!(second, Err(CallError::NotNow(_))));
        let reinvite = call.reinvite(None).await;
        assert!(matches!(reinvite, Err(CallError::NotNow(_))));
        phone
            .answer_with(&ours, 200, "b", |builder| {
                builder
                    .contact("<sip:moved@192.0.2.2:5060>")
                    .body("application/sdp", "v=0\r\ns=held\r\n")
            })
            .await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        call.update(None).await.unwrap();
        let again = phone.nth(Method::Update, 1).await;
        assert_eq!(again.uri_text(), "sip:moved@192.0.2.2:5060");
        answer_update(&phone, &again, "").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn who_has_not_said_that_it_knows_update_gets_none() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, _) = established(&alice, &phone).await;
        let refused = call.update(Some(sdp("hold"))).await;
        assert!(matches!(refused, Err(CallError::NotSupported("UPDATE"))));
        assert_eq!(phone.count(Method::Update), 0);
    });
}

#[test]
fn a_refused_update_leaves_the_session_and_481_ends_the_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = up(&alice, &phone).await;
        for (nth, status) in [488, 504, 500].into_iter().enumerate() {
            call.update(Some(sdp("hold"))).await.unwrap();
            let ours = phone.nth(Method::Update, nth).await;
            phone.answer(&ours, status, "b").await;
            assert!(matches!(
                call.next().await,
                Some(CallEvent::UpdateRefused(_))
            ));
        }
        call.update(None).await.unwrap();
        let ours = phone.nth(Method::Update, 3).await;
        phone.answer(&ours, 481, "b").await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Lost));
    });
}

#[test]
fn an_update_without_any_answer_ends_the_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = up(&alice, &phone).await;
        call.update(Some(sdp("hold"))).await.unwrap();
        pass(33_000).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::Lost));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn an_answer_that_is_owed_and_missing_changes_nothing() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = up(&alice, &phone).await;
        call.update(Some(sdp("hold"))).await.unwrap();
        let ours = phone.first(Method::Update).await;
        answer_update(&phone, &ours, "").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        call.update(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn an_update_that_meets_an_offer_waits_and_is_sent_again() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        call.update(Some(sdp("hers"))).await.unwrap();
        let ours = phone.first(Method::Update).await;
        let theirs = offering(update(&dialog, 5), "theirs");
        phone.send(&theirs, ALICE).await;
        assert_eq!(phone.status_of(&theirs).await, 491);
        phone.answer(&ours, 491, "b").await;
        let before = tokio::time::Instant::now();
        // Meanwhile the peer's turn comes.
        let retried = offering(update(&dialog, 6), "theirs");
        phone.send(&retried, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        call.answer(sdp("fine")).await.unwrap();
        assert_eq!(phone.status_of(&retried).await, 200);
        let again = phone.nth(Method::Update, 1).await;
        // She owns the Call-ID.
        let waited = before.elapsed().as_millis();
        assert!((2_095..=4_105).contains(&waited), "{waited}");
        assert_eq!(again.body(), sdp("hers").bytes.as_ref());
        assert_eq!(number(&again), number(&ours) + 1);
        answer_update(&phone, &again, "v=0\r\ns=fine\r\n").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
    });
}

#[test]
fn a_new_offer_takes_the_place_of_the_one_in_an_update_that_waits_and_has_no_other_way() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = up(&alice, &phone).await;
        call.update(Some(sdp("hers"))).await.unwrap();
        let ours = phone.first(Method::Update).await;
        let open = call.reoffer(sdp("other")).await;
        assert!(matches!(open, Err(CallError::Gone)), "{open:?}");
        phone.answer(&ours, 491, "b").await;
        pass(100).await;
        for change in [
            call.update(Some(sdp("other"))).await,
            call.reinvite(Some(sdp("other"))).await,
        ] {
            assert!(matches!(change, Err(CallError::NotNow(_))), "{change:?}");
        }
        call.reoffer(sdp("other")).await.unwrap();
        let again = phone.nth(Method::Update, 1).await;
        assert_eq!(again.body(), sdp("other").bytes);
        answer_update(&phone, &again, "v=0\r\ns=fine\r\n").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        // One that offers nothing has nothing to be replaced.
        call.update(None).await.unwrap();
        let bare = phone.nth(Method::Update, 2).await;
        phone.answer(&bare, 491, "b").await;
        pass(100).await;
        let nothing = call.reoffer(sdp("other")).await;
        assert!(matches!(nothing, Err(CallError::Gone)), "{nothing:?}");
        let again = phone.nth(Method::Update, 3).await;
        assert!(again.body().is_empty());
    });
}

#[test]
fn an_update_of_the_peer_s_is_answered_by_the_application_and_only_one_at_a_time() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        let first = offering(update(&dialog, 5), "offer");
        phone.send(&first, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        // §5.2: neither another UPDATE, nor a re-INVITE (RFC 6337 §4.3).
        let second = update(&dialog, 6).build().unwrap();
        phone.send(&second, ALICE).await;
        let refusal = phone.answer_to(&second).await;
        assert_eq!(
            (refusal.status().as_u16(), retry_after(&refusal)),
            (500, true)
        );
        let reinvite = dialog.build(Method::Invite, 7);
        phone.send(&reinvite, ALICE).await;
        let refusal = phone.answer_to(&reinvite).await;
        assert_eq!(
            (refusal.status().as_u16(), retry_after(&refusal)),
            (500, true)
        );
        assert!(matches!(
            call.reinvite(None).await,
            Err(CallError::NotNow(_))
        ));
        let empty = call
            .answer(sipora_dialog_core::Body::new("text/plain", "no"))
            .await;
        assert!(matches!(empty, Err(CallError::BodyNeeded(_))));
        call.answer(sdp("answer")).await.unwrap();
        let answer = phone.answer_to(&first).await;
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.body(), sdp("answer").bytes.as_ref());
        assert!(answer.headers().contact().unwrap().is_some());
        // Refused, it changes nothing.
        let third = offering(update(&dialog, 8), "another");
        phone.send(&third, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        call.refuse(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        assert_eq!(phone.status_of(&third).await, 488);
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn an_update_without_an_offer_moves_the_target_and_asks_nobody() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = up(&alice, &phone).await;
        let moved = dialog.request(Method::Update, 5);
        let moved = moved.contact("<sip:moved@192.0.2.2:5060>").build().unwrap();
        phone.send(&moved, ALICE).await;
        assert_eq!(phone.status_of(&moved).await, 200);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(bye.uri_text(), "sip:moved@192.0.2.2:5060");
    });
}

#[test]
fn an_update_that_nobody_answers_gets_504_and_the_end_of_the_call_487() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        let slow = offering(update(&dialog, 5), "offer");
        phone.send(&slow, ALICE).await;
        pass(17_000).await;
        assert_eq!(phone.status_of(&slow).await, 504);
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        let late = offering(update(&dialog, 6), "offer");
        phone.send(&late, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        call.hang_up().await.unwrap();
        assert_eq!(phone.status_of(&late).await, 487);
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
    });
}

#[test]
fn in_an_early_dialog_the_caller_updates_once_there_is_a_session() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _, invite) = early(&alice, &phone).await;
        call.update_early("b", Some(sdp("hold"))).await.unwrap();
        let ours = phone.first(Method::Update).await;
        assert_eq!((number(&ours), to_tag(&ours)), (3, "b".to_owned()));
        answer_update(&phone, &ours, "v=0\r\ns=held\r\n").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        phone
            .answer_with(&invite, 200, "b", |builder| builder)
            .await;
        let ack = phone.first(Method::Ack).await;
        assert_eq!(number(&ack), 1);
        assert!(matches!(call.next().await, Some(CallEvent::Answered(_))));
    });
}

#[test]
fn before_there_is_a_session_an_early_dialog_takes_no_offer() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 183, "b", |builder| {
                // A preview is no answer (RFC 6337 §3.1.1).
                builder
                    .header(HeaderName::Allow, "INVITE, UPDATE")
                    .body("application/sdp", "v=0\r\ns=preview\r\n")
            })
            .await;
        assert!(is_progress(&call.next().await));
        let refused = call.update(Some(sdp("hold"))).await;
        assert!(matches!(refused, Err(CallError::NotNow(_))));
        // The peer's would meet our offer, which has no answer.
        let dialog = InDialog::of_invite(&invite, "b");
        let theirs = offering(update(&dialog, 5), "offer");
        phone.send(&theirs, ALICE).await;
        assert_eq!(phone.status_of(&theirs).await, 491);
        // One that only moves the target is welcome.
        let bare = update(&dialog, 6).build().unwrap();
        phone.send(&bare, ALICE).await;
        assert_eq!(phone.status_of(&bare).await, 200);
    });
}

#[test]
fn in_an_early_dialog_the_callee_updates_once_its_answer_is_acknowledged() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog, invite) = early_callee(&mut alice, &phone).await;
        call.update(Some(sdp("no early media"))).await.unwrap();
        let ours = phone.first(Method::Update).await;
        // Ours is under way: the peer's meets it.
        let theirs = offering(update(&dialog, 12), "offer");
        phone.send(&theirs, ALICE).await;
        let status = phone.status_of(&theirs).await;
        assert_eq!(status, 491);
        answer_update(&phone, &ours, "v=0\r\ns=fine\r\n").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        let theirs = offering(update(&dialog, 13), "offer");
        phone.send(&theirs, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        // The 2xx waits for the answer to it.
        call.accept(None).await.unwrap();
        pass(500).await;
        assert_eq!(phone.seen_finals(&invite), 0);
        call.answer(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&theirs).await, 200);
        assert_eq!(phone.status_of(&invite).await, 200);
    });
}

#[test]
fn an_update_before_the_prack_of_our_answer_is_refused_for_now() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE)
            .header(HeaderName::Supported, "100rel")
            .header(HeaderName::Allow, "INVITE, UPDATE")
            .build()
            .unwrap();
        phone.send(&invite, ALICE).await;
        let call = alice.incoming.next().await.unwrap();
        let progress = StatusCode::SESSION_PROGRESS;
        call.progress_reliably(progress, Some(sdp("early")))
            .await
            .unwrap();
        pass(5).await;
        let refused = call.update(Some(sdp("hold"))).await;
        assert!(matches!(refused, Err(CallError::NotNow(_))));
        let dialog = InDialog::of_response(&phone.seen.last_response());
        let theirs = offering(update(&dialog, 11), "offer");
        phone.send(&theirs, ALICE).await;
        let refusal = phone.answer_to(&theirs).await;
        assert_eq!(
            (refusal.status().as_u16(), retry_after(&refusal)),
            (500, true)
        );
    });
}

#[test]
fn an_early_dialog_that_the_peer_has_forgotten_is_given_up() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _, invite) = early_callee(&mut alice, &phone).await;
        call.update(None).await.unwrap();
        let ours = phone.first(Method::Update).await;
        phone.answer(&ours, 481, "b").await;
        // A callee sends no BYE in an early dialog (RFC 3261 §15).
        assert_eq!(phone.status_of(&invite).await, 500);
        assert!(matches!(end(&mut call).await, CallEnd::Lost));
        assert_eq!(phone.count(Method::Bye), 0);
    });
}

/// A re-INVITE of the phone's that Alice has answered reliably; the phone has sent its PRACK.
async fn changed(call: &mut Call, phone: &Phone, dialog: &InDialog) -> Request {
    let reinvite = dialog
        .request(Method::Invite, 20)
        .header(HeaderName::Supported, "100rel");
    let reinvite = reinvite.build().unwrap();
    phone.send(&reinvite, ALICE).await;
    assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
    let progress = StatusCode::SESSION_PROGRESS;
    call.progress_reliably(progress, Some(sdp("audio only")))
        .await
        .unwrap();
    pass(5).await;
    let rack = RAck {
        rseq: phone
            .seen
            .last_response()
            .headers()
            .rseq()
            .unwrap()
            .unwrap(),
        cseq: 20,
        method: Method::Invite,
    };
    let prack = dialog
        .request(Method::Prack, 21)
        .header(HeaderName::RAck, rack);
    let prack = prack.build().unwrap();
    phone.send(&prack, ALICE).await;
    assert_eq!(phone.status_of(&prack).await, 200);
    let told = call.next().await;
    assert!(matches!(told, Some(CallEvent::ProgressAcknowledged(_))));
    reinvite
}

#[test]
fn a_re_invite_that_has_changed_the_session_is_changed_back_and_accepted() {
    // RFC 6141 §3.1, figure 3.
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        let reinvite = changed(&mut call, &phone, &dialog).await;
        let refused = call.reject(StatusCode::DECLINE).await;
        assert!(matches!(refused, Err(CallError::NotNow(_))));
        call.update(Some(sdp("no video"))).await.unwrap();
        let ours = phone.first(Method::Update).await;
        answer_update(&phone, &ours, "v=0\r\ns=fine\r\n").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::UpdateAccepted(_))
        ));
        call.accept(None).await.unwrap();
        let accepted = phone.answer_to(&reinvite).await;
        assert_eq!(accepted.status().as_u16(), 200);
        assert!(accepted.body().is_empty());
        phone.send(&dialog.build(Method::Ack, 20), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
        call.reinvite(Some(sdp("hold"))).await.unwrap();
    });
}

#[test]
fn our_re_invite_that_is_refused_after_it_has_changed_the_session_leaves_doubt() {
    // RFC 6141 §3.4.
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = up(&alice, &phone).await;
        call.reinvite(Some(sdp("video too"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone
            .answer_with(&reinvite, 183, "b", described(9, "audio only"))
            .await;
        let prack = phone.first(Method::Prack).await;
        phone.answer(&prack, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteProgress(_))
        ));
        phone.answer(&reinvite, 603, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteUndone(_))
        ));
        call.reinvite(Some(sdp("as before"))).await.unwrap();
        let again = phone.nth(Method::Invite, 2).await;
        phone.answer(&again, 603, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteRefused(_))
        ));
    });
}

#[test]
fn a_cancelled_re_invite_that_has_changed_the_session_is_accepted() {
    // RFC 6141 §3.8.
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        let reinvite = dialog
            .request(Method::Invite, 20)
            .header(HeaderName::Supported, "100rel");
        let reinvite = reinvite.build().unwrap();
        let taking = async {
            assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
            let progress = StatusCode::SESSION_PROGRESS;
            call.progress_reliably(progress, Some(sdp("audio")))
                .await
                .unwrap();
            pass(5).await;
            let rack = RAck {
                rseq: phone
                    .seen
                    .last_response()
                    .headers()
                    .rseq()
                    .unwrap()
                    .unwrap(),
                cseq: 20,
                method: Method::Invite,
            };
            let prack = dialog
                .request(Method::Prack, 21)
                .header(HeaderName::RAck, rack);
            phone.send(&prack.build().unwrap(), ALICE).await;
        };
        tokio::join!(taking, phone.send_and_cancel_after(&reinvite, ALICE, 100));
        assert_eq!(phone.status_of(&reinvite).await, 200);
        let told = call.next().await;
        assert!(matches!(told, Some(CallEvent::ProgressAcknowledged(_))));
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteCancelled)
        ));
        phone.send(&dialog.build(Method::Ack, 20), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
    });
}

#[test]
fn an_update_that_cannot_go_again_after_it_met_the_peers_is_told() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                let builder = builder.header(HeaderName::Allow, "INVITE, ACK, BYE, UPDATE");
                builder.body("application/sdp", "v=0\r\n")
            })
            .await;
        call.answered().await.unwrap();
        call.update(Some(sdp("hold"))).await.unwrap();
        let update = phone.first(Method::Update).await;
        phone.answer(&update, 491, "b").await;
        // The peer's own says that it takes UPDATE no more.
        let dialog = InDialog::of_invite(&invite, "b");
        let theirs = dialog.request(Method::Invite, 7);
        let theirs = theirs.header(HeaderName::Allow, "INVITE, ACK, BYE");
        let theirs = theirs.build().unwrap();
        phone.send(&theirs, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&theirs).await, 200);
        phone.send(&dialog.build(Method::Ack, 7), ALICE).await;
        let event = call.next().await;
        assert!(matches!(event, Some(CallEvent::Acknowledged(_))));
        let event = call.next().await;
        assert!(
            matches!(event, Some(CallEvent::UpdateFailed(_))),
            "{event:?}"
        );
        assert_eq!(phone.count(Method::Update), 1);
        // The session is as it was, and can be changed otherwise.
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        phone.nth(Method::Invite, 1).await;
    });
}

#[test]
fn what_it_is_too_early_for_is_not_said_to_be_too_late() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let call = alice.calls(BOB).await;
        phone.first(Method::Invite).await;
        let early = call.update(None).await;
        assert!(matches!(early, Err(CallError::NotNow(_))), "{early:?}");
    });
}
