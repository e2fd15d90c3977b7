//! What the session is by, on both sides, where descriptions come early, again, to several, too late, or nobody waits for what was said
//! (RFC 3261 §13.2.1, RFC 3264 §8, RFC 6141 §3).

use std::time::Duration;

use crate::exchange::{Said, exchange_for, said};
use crate::phone::*;
use crate::unanswered::{HERS, HIS, RELIABLY, is_acknowledged, is_asked, is_called};
use crate::updated::{peer, sdp};
use sipora_dialog_core as below;
use sipora_message::{HeaderName, Method, Request, Uri};
use sipora_session_core::{CallEvent, CallOptions, SipClient, StatusCode};

/// Another, whose version was not counted.
const OTHER: &str = "v=0\r\no=- 5 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4010 RTP/AVP 0\r\n";
const HIS_2: &str = "v=0\r\no=- 6 2 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4004 RTP/AVP 0\r\n";
const HIS_3: &str = "v=0\r\no=- 6 3 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4006 RTP/AVP 0\r\n";

fn reliably(sdp: &'static str) -> Said {
    let reliable = said(183, "x").with(HeaderName::Require, "100rel");
    reliable.with(HeaderName::RSeq, "7").with_sdp(sdp)
}

fn origin(sdp: &[u8]) -> String {
    let sdp = std::str::from_utf8(sdp).unwrap();
    sdp.lines().nth(1).unwrap().to_owned()
}

/// RFC 3261 §13.2.1: the first reliable description is the answer, what follows is ignored; in a re-INVITE too (§14.1).
#[test]
fn a_change_is_answered_by_the_first_reliable_description_and_not_by_the_2xx() {
    scene(|network| async move {
        let mut turn = 0;
        let script = move |request: &Request, _| match request.method() {
            Method::Prack => vec![said(200, "x")],
            _ => {
                turn += 1;
                match turn {
                    1 => vec![said(200, "x").with_sdp(HIS)],
                    _ => vec![reliably(HIS_2), said(200, "x").with_sdp(HIS_3)],
                }
            }
        };
        let methods = &[Method::Invite, Method::Prack];
        let _bob = exchange_for(methods, &network, BOB, script).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = alice.calls(BOB).await;
        call.answered().await.unwrap();
        call.change(Some(CHANGED)).await.unwrap();
        let event = call.next().await.unwrap();
        assert!(matches!(event, CallEvent::Changed(_)), "{event:?}");
        assert_eq!(call.remote_sdp().as_deref(), Some(HIS_2));
    });
}

/// Accepted while the PRACK is awaited, which never comes: the re-INVITE gets 504 and the session is as it was.
#[test]
fn a_change_that_is_withdrawn_after_it_was_accepted_has_changed_nothing() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let invite = (Method::Invite, 2);
        let invite = bob.says(ALICE, invite, RELIABLY, Some(HIS_2)).await;
        is_asked(&mut call).await;
        let progress = StatusCode::SESSION_PROGRESS;
        let other = OTHER.replace(" 5 1 ", " 5 2 ");
        call.progress(progress, Some(&other)).await.unwrap();
        // It waits for the PRACK.
        call.accept(&other).await.unwrap();
        assert_eq!(bob.kept.answer_to(&invite).await.status().as_u16(), 504);
        let event = call.next().await;
        assert!(
            matches!(event, Some(CallEvent::ChangeWithdrawn)),
            "{event:?}"
        );
        assert_eq!(call.remote_sdp().as_deref(), Some(OFFER));
        call.hold().await.unwrap();
        let invite = bob.kept.nth(Method::Invite, 0).await;
        let offer = String::from_utf8(invite.body().to_vec()).unwrap();
        assert!(offer.contains("m=audio 4000"), "{offer}");
    });
}

/// The UPDATE that was read got its 504; a re-INVITE that was not read is not what is accepted.
#[test]
fn what_accepts_an_update_does_not_accept_a_reinvite_that_nobody_has_read() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let update = (Method::Update, 2);
        let update = bob.says(ALICE, update, &[], Some(HIS_2)).await;
        is_asked(&mut call).await;
        assert_eq!(bob.kept.answer_to(&update).await.status().as_u16(), 504);
        let invite = (Method::Invite, 3);
        let invite = bob.says(ALICE, invite, &[], Some(HIS_3)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let accepted = call.accept(HERS).await;
        if accepted.is_ok() {
            let answer = bob.kept.answer_to(&invite).await;
            assert_eq!(
                call.remote_sdp().as_deref(),
                Some(HIS_3),
                "what was accepted, with {}",
                answer.status()
            );
        }
        assert!(accepted.is_err(), "{accepted:?}");
    });
}

/// The re-INVITE that was read has expired (487).
#[test]
fn what_accepts_a_change_does_not_accept_the_next_that_nobody_has_read() {
    const EXPIRES: &[(HeaderName, &str)] = &[(HeaderName::Expires, "5")];
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let invite = (Method::Invite, 2);
        let invite = bob.says(ALICE, invite, EXPIRES, Some(HIS_2)).await;
        is_asked(&mut call).await;
        assert_eq!(bob.kept.answer_to(&invite).await.status().as_u16(), 487);
        let invite = (Method::Invite, 3);
        let _ = bob.says(ALICE, invite, &[], Some(HIS_3)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let accepted = call.accept(HERS).await;
        if accepted.is_ok() {
            assert_eq!(call.remote_sdp().as_deref(), Some(HIS_3));
        }
        assert!(accepted.is_err(), "{accepted:?}");
    });
}

/// The ACK to a 2xx that answered an offer has nothing to say (RFC 3261 §13.2.1, RFC 6337 §2).
#[test]
fn a_description_in_an_ack_that_owes_no_answer_is_none() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let invite = (Method::Invite, 2);
        let invite = bob.says(ALICE, invite, &[], Some(HIS_2)).await;
        is_asked(&mut call).await;
        call.accept(HERS).await.unwrap();
        bob.kept.answer_to(&invite).await;
        bob.says(ALICE, (Method::Ack, 2), &[], Some(HIS_3)).await;
        is_acknowledged(&mut call).await;
        assert_eq!(call.remote_sdp().as_deref(), Some(HIS_2));
    });
}

/// RFC 3264 §8, and what the docs of CallHandle say of o=.
#[test]
fn an_early_answer_in_the_call_that_differs_has_the_next_version() {
    for headers in [RELIABLY, &[]] {
        scene(|network| async move {
            let (_alice, bob, mut call) = is_called(&network).await;
            let invite = (Method::Invite, 2);
            let invite = bob.says(ALICE, invite, headers, Some(HIS_2)).await;
            is_asked(&mut call).await;
            let progress = StatusCode::SESSION_PROGRESS;
            call.progress(progress, Some(OTHER)).await.unwrap();
            let early = bob.kept.progress_of(&invite, 183).await;
            assert_eq!(origin(early.body()), "o=- 5 2 IN IP4 192.0.2.1");
        });
    }
}

#[test]
fn an_answer_after_an_early_one_that_differs_has_the_next_version() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let invite = (Method::Invite, 2);
        let invite = bob.says(ALICE, invite, &[], Some(HIS_2)).await;
        is_asked(&mut call).await;
        let progress = StatusCode::SESSION_PROGRESS;
        call.progress(progress, Some(OTHER)).await.unwrap();
        call.accept(OTHER).await.unwrap();
        let answer = bob.kept.answer_to(&invite).await;
        assert_eq!(origin(answer.body()), "o=- 5 2 IN IP4 192.0.2.1");
    });
}

/// In an early dialog.
#[test]
fn an_answer_to_an_early_update_that_differs_has_the_next_version() {
    scene(|network| async move {
        let mut bob = Phone::new(&network, BOB).await;
        let (_endpoint, dialogs, _incoming) = peer(&network).await;
        let parse = |text: String| Uri::parse(&text).unwrap();
        let from = parse("sip:carol@example.com".to_owned());
        let contact = parse(format!("sip:carol@{CAROL}"));
        let invite = below::Invite::new(parse(uri(BOB)), from, contact).body(sdp(HIS));
        let mut theirs = dialogs.invite(invite, None).await.unwrap();
        let mut call = bob.is_called().await;
        let progress = StatusCode::SESSION_PROGRESS;
        call.progress(progress, Some(HERS)).await.unwrap();
        let event = theirs.next().await.unwrap();
        assert!(matches!(event, below::CallEvent::Progress(_)), "{event:?}");
        let event = call.next().await.unwrap();
        assert!(
            matches!(event, CallEvent::ProgressAcknowledged(_)),
            "{event:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
        theirs.update(Some(sdp(HIS_2))).await.unwrap();
        is_asked(&mut call).await;
        call.accept(OTHER).await.unwrap();
        let event = theirs.next().await.unwrap();
        let below::CallEvent::UpdateAccepted(answer) = event else {
            panic!("{event:?}")
        };
        assert_eq!(origin(answer.body()), "o=- 5 2 IN IP4 192.0.2.1");
    });
}

/// As with `hold`: whoever stops waiting may have sent it all the same.
#[test]
fn an_acceptance_that_nobody_waits_for_is_known_when_the_call_is_held() {
    scene(|network| async move {
        let script = |_: &Request, _| vec![said(200, "x").with_sdp(HIS)];
        let bob = exchange_for(&[Method::Invite], &network, BOB, script).await;
        let mut alice = Phone::new(&network, ALICE).await;
        let answering = async {
            let mut call = alice.is_called().await;
            let accepted = tokio::time::timeout(Duration::ZERO, call.accept(HERS)).await;
            assert!(accepted.is_err(), "{accepted:?}");
            is_acknowledged(&mut call).await;
            call
        };
        let ((), mut call) = tokio::join!(bob.calls(ALICE), answering);
        let held = call.hold().await;
        assert!(held.is_ok(), "{held:?}");
        let state = call.next().await;
        assert!(matches!(state, Some(CallEvent::Changed(_))), "{state:?}");
    });
}

#[test]
fn what_was_accepted_though_nobody_waited_for_that_is_what_the_peer_says() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let invite = (Method::Invite, 2);
        let invite = bob.says(ALICE, invite, &[], Some(HIS_2)).await;
        is_asked(&mut call).await;
        let other = OTHER.replace(" 5 1 ", " 5 2 ");
        let accepted = tokio::time::timeout(Duration::ZERO, call.accept(&other)).await;
        assert!(accepted.is_err(), "{accepted:?}");
        assert!(bob.kept.answer_to(&invite).await.status().is_success());
        bob.says(ALICE, (Method::Ack, 2), &[], None).await;
        is_acknowledged(&mut call).await;
        assert_eq!(call.remote_sdp().as_deref(), Some(HIS_2));
        call.hold().await.unwrap();
        let invite = bob.kept.nth(Method::Invite, 0).await;
        let offer = String::from_utf8(invite.body().to_vec()).unwrap();
        assert!(offer.contains("m=audio 4010"), "{offer}");
        assert_eq!(origin(invite.body()), "o=- 5 3 IN IP4 192.0.2.1");
    });
}

/// The answer to an offer of the peer's, in the ACK.
#[test]
fn an_acknowledgement_that_nobody_waits_for_is_known_when_the_call_is_held() {
    scene(|network| async move {
        let script = |_: &Request, _| vec![said(200, "x").with_sdp(HIS)];
        let bob = exchange_for(&[Method::Invite], &network, BOB, script).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = alice.client.call(&uri(BOB), None).await.unwrap();
        call.answered().await.unwrap();
        let said = tokio::time::timeout(Duration::ZERO, call.acknowledge(HERS)).await;
        assert!(said.is_err(), "{said:?}");
        assert_eq!(bob.kept.nth(Method::Ack, 0).await.body(), HERS.as_bytes());
        let held = call.hold().await;
        assert!(held.is_ok(), "{held:?}");
    });
}

#[test]
fn no_more_events_wait_where_the_state_is_exported_meanwhile() {
    scene(|network| async move {
        let (_alice, bob, mut call) = is_called(&network).await;
        let mut cseq = 2;
        for _ in 0..8 {
            for _ in 0..20 {
                bob.says(ALICE, (Method::Info, cseq), &[], None).await;
                cseq += 1;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            call.export().await.unwrap();
        }
        let mut waiting = 0;
        while tokio::time::timeout(Duration::from_millis(1), call.next())
            .await
            .is_ok()
        {
            waiting += 1;
        }
        assert!(waiting <= 64, "{waiting}");
    });
}

/// What was said to one user agent is not what was said to another.
#[test]
fn a_call_is_held_by_what_was_said_to_the_fork_that_has_accepted() {
    scene(|network| async move {
        let mut pracks = 0;
        let mut invites = 0;
        let script = move |request: &Request, _| match request.method() {
            Method::Prack => {
                pracks += 1;
                let taken = said(200, "one").of_invite();
                match pracks {
                    2 => vec![said(200, "x"), taken],
                    _ => vec![said(200, "x")],
                }
            }
            _ => {
                invites += 1;
                let early = |tag, sdp| {
                    let early = said(183, tag).with(HeaderName::Require, "100rel");
                    early.with(HeaderName::RSeq, "7").with_sdp(sdp)
                };
                match invites {
                    1 => vec![early("one", HIS), early("two", HIS_2)],
                    _ => vec![said(200, "one").with_sdp(HIS_3)],
                }
            }
        };
        let methods = &[Method::Invite, Method::Prack];
        let bob = exchange_for(methods, &network, BOB, script).await;
        let alice = Phone::new(&network, ALICE).await;
        let mut call = alice.client.call(&uri(BOB), None).await.unwrap();
        for answer in [HERS, &OTHER.replace(" 5 1 ", " 5 2 ")] {
            let event = call.next().await.unwrap();
            assert!(matches!(event, CallEvent::EarlyOffer(_)), "{event:?}");
            call.acknowledge(answer).await.unwrap();
        }
        let answer = call.answered().await.unwrap();
        assert_eq!(answer.to_tag(), Some("one"));
        assert_eq!(call.remote_sdp().as_deref(), Some(HIS));
        call.hold().await.unwrap();
        let offer = bob.kept.nth(Method::Invite, 1).await;
        let offer = String::from_utf8(offer.body().to_vec()).unwrap();
        assert!(offer.contains("m=audio 4000"), "{offer}");
    });
}

/// Nor is what was said at the place that has redirected the call then.
#[test]
fn a_call_that_went_elsewhere_is_held_by_what_was_said_there() {
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let mut bob = Phone::new(&network, BOB).await;
        let (_endpoint, _dialogs, mut incoming) = peer(&network).await;
        let options = CallOptions::new().with_sdp(HERS).follow_redirects(1);
        let mut call = alice.client.call_with(&uri(CAROL), options).await.unwrap();
        let mut theirs = incoming.next().await.unwrap();
        let progress = StatusCode::SESSION_PROGRESS;
        theirs
            .progress_reliably(progress, Some(sdp(HIS)))
            .await
            .unwrap();
        let event = call.next().await.unwrap();
        assert!(matches!(event, CallEvent::Progress(_)), "{event:?}");
        theirs.next().await.unwrap();
        theirs.update(Some(sdp(HIS_2))).await.unwrap();
        is_asked(&mut call).await;
        call.accept(&OTHER.replace(" 5 1 ", " 5 2 ")).await.unwrap();
        theirs.next().await.unwrap();
        let place = Uri::parse(&uri(BOB)).unwrap();
        theirs.redirect(&[place]).await.unwrap();
        let event = call.next().await.unwrap();
        assert!(matches!(event, CallEvent::Redirected(_)), "{event:?}");
        let mut his = bob.is_called().await;
        his.accept(HIS).await.unwrap();
        call.answered().await.unwrap();
        is_acknowledged(&mut his).await;
        call.hold().await.unwrap();
        let event = his.next().await.unwrap();
        let offer = event.sdp().unwrap();
        assert!(offer.contains("m=audio 4000"), "{offer}");
    });
}
