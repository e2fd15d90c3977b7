//! Calls that take the place of others (RFC 3891), and Target-Dialog (RFC 4538).

use crate::support::*;
use sipora_dialog_core::{CallConfig, CallEnd, CallError, CallEvent, Refer};
use sipora_message::{HeaderName, Method, Request, RequestBuilder, StatusCode};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

fn replaceable() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_replaces = true;
    config.takes_refers = true;
    config
}

/// An INVITE of the phone's for another call, which names the dialog of the first.
fn replacing(dialog: &InDialog, more: &str) -> RequestBuilder {
    let tag = |side: &str| side.rsplit_once("tag=").unwrap().1.to_owned();
    let (theirs, ours) = (tag(&dialog.remote), tag(&dialog.local));
    let named = format!("{};to-tag={theirs};from-tag={ours}{more}", dialog.call_id);
    second().header(HeaderName::Replaces, named)
}

fn second() -> RequestBuilder {
    Request::builder(Method::Invite, &uri(&format!("sip:alice@{ALICE}")))
        .from("<sip:carol@example.com>;tag=c")
        .to("<sip:alice@example.com>")
        .call_id("second-call")
        .cseq(100)
        .contact(format!("<sip:carol@{BOB}>"))
        .body("application/sdp", "v=0\r\ns=offer\r\n")
}

async fn refused(phone: &Phone, request: RequestBuilder) -> u16 {
    let request = request.build().unwrap();
    phone.send(&request, ALICE).await;
    phone.status_of(&request).await
}

#[test]
fn a_call_that_is_accepted_takes_the_place_of_the_one_it_names() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let (mut old, dialog) = established(&alice, &phone).await;
        let invite = replacing(&dialog, "").build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut new = alice.incoming.next().await.unwrap();
        assert_eq!(new.replaces(), Some(old.key()));
        pass(1_000).await;
        assert_eq!(
            phone.count(Method::Bye),
            0,
            "nothing happens before it is accepted"
        );
        new.accept_replacing(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&invite).await, 200);
        let bye = phone.first(Method::Bye).await;
        assert_eq!(bye.headers().call_id().unwrap(), dialog.call_id);
        phone.answer(&bye, 200, "b").await;
        let end = end(&mut old).await;
        assert!(
            matches!(end, CallEnd::Replaced(by) if by == new.key()),
            "{end:?}"
        );
        let answer = phone.answer_to(&invite).await;
        let their = InDialog::of_response(&answer);
        phone.send(&their.build(Method::Ack, 100), ALICE).await;
        assert!(matches!(new.next().await, Some(CallEvent::Acknowledged(_))));
        let bye = their.build(Method::Bye, 101);
        phone.send(&bye, ALICE).await;
        assert!(matches!(new.ended().await, CallEnd::PeerHungUp(_)));
        pass(120_000).await;
        alice.assert_idle();
    });
}

/// Whoever takes every call that comes hangs up none of those that there are.
#[test]
fn a_call_that_would_replace_another_is_not_accepted_as_others_are() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let (mut old, dialog) = established(&alice, &phone).await;
        let invite = replacing(&dialog, "").build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut new = alice.incoming.next().await.unwrap();
        let accepted = new.accept(sdp("answer")).await;
        assert!(
            matches!(accepted, Err(CallError::NotNow(_))),
            "{accepted:?}"
        );
        pass(1_000).await;
        assert_eq!(phone.seen_finals(&invite), 0);
        assert_eq!(phone.count(Method::Bye), 0);
        new.accept_replacing(sdp("answer")).await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut old).await, CallEnd::Replaced(_)));
        let their = InDialog::of_response(&phone.answer_to(&invite).await);
        phone.send(&their.build(Method::Ack, 100), ALICE).await;
        assert!(matches!(new.next().await, Some(CallEvent::Acknowledged(_))));
        // What comes later in it replaces nothing.
        let reinvite = their.build(Method::Invite, 101);
        phone.send(&reinvite, ALICE).await;
        assert!(matches!(new.next().await, Some(CallEvent::Reinvited(_))));
        new.accept(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&reinvite).await, 200);
    });
}

/// "If the UA cannot accept the new INVITE ..., the UA MUST return an appropriate error response and MUST leave the matched dialog
/// unchanged" (§3).
#[test]
fn a_call_that_is_refused_leaves_the_one_it_names() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let (old, dialog) = established(&alice, &phone).await;
        let invite = replacing(&dialog, "").build().unwrap();
        phone.send(&invite, ALICE).await;
        let new = alice.incoming.next().await.unwrap();
        new.reject(StatusCode::FORBIDDEN).await.unwrap();
        assert_eq!(phone.status_of(&invite).await, 403);
        pass(1_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
        old.reinvite(Some(sdp("still there"))).await.unwrap();
    });
}

#[test]
fn what_names_no_call_that_can_be_replaced_gets_what_section_3_says() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let (mut old, dialog) = established(&alice, &phone).await;
        let cseq = |builder: RequestBuilder, cseq: u32| {
            let request = builder.build().unwrap().edit();
            request
                .set(HeaderName::CSeq, format!("{cseq} INVITE"))
                .build()
                .unwrap()
        };
        let status = async |request: Request| {
            phone.send(&request, ALICE).await;
            phone.status_of(&request).await
        };
        let early_only = cseq(replacing(&dialog, ";early-only"), 101);
        assert_eq!(status(early_only).await, 486);
        let other = |named: &str| second().header(HeaderName::Replaces, named.to_owned());
        let tags = "to-tag=x;from-tag=b";
        let named = format!("{};{tags}", dialog.call_id);
        assert_eq!(status(cseq(other(&named), 102)).await, 481, "another tag");
        let named = format!("other;{}", replaced_tags(&dialog));
        assert_eq!(
            status(cseq(other(&named), 103)).await,
            481,
            "another Call-ID"
        );
        let twice = replacing(&dialog, "").header(HeaderName::Replaces, format!("x;{tags}"));
        assert_eq!(status(cseq(twice, 104)).await, 400);
        let tagless = other(&format!("{};to-tag=x", dialog.call_id));
        assert_eq!(status(cseq(tagless, 105)).await, 400);
        let both = replacing(&dialog, "").header(HeaderName::Join, format!("x;{tags}"));
        assert_eq!(status(cseq(both, 106)).await, 400, "contradictory");
        let info = dialog
            .request(Method::Info, 11)
            .header(HeaderName::Replaces, format!("x;{tags}"))
            .build()
            .unwrap();
        phone.send(&info, ALICE).await;
        assert_eq!(phone.status_of(&info).await, 400, "no INVITE");
        // Whom it would replace has just hung up.
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        assert!(matches!(end(&mut old).await, CallEnd::PeerHungUp(_)));
        assert_eq!(status(cseq(replacing(&dialog, ""), 107)).await, 603);
        assert!(
            tokio::time::timeout(std::time::Duration::from_secs(1), alice.incoming.next())
                .await
                .is_err(),
            "nobody was rung"
        );
    });
}

fn replaced_tags(dialog: &InDialog) -> String {
    let tag = |side: &str| side.rsplit_once("tag=").unwrap().1.to_owned();
    format!(
        "to-tag={};from-tag={}",
        tag(&dialog.remote),
        tag(&dialog.local)
    )
}

#[test]
fn a_call_that_rings_at_us_cannot_be_replaced() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let first = invite(ALICE).build().unwrap();
        phone.send(&first, ALICE).await;
        let ringing = alice.incoming.next().await.unwrap();
        ringing.ring().await.unwrap();
        pass(100).await;
        let dialog = InDialog::of_response(&phone.seen.last_response());
        assert_eq!(refused(&phone, replacing(&dialog, "")).await, 481);
        ringing.accept(sdp("answer")).await.unwrap();
    });
}

#[test]
fn a_call_of_ours_that_rings_is_cancelled_for_the_one_that_replaces_it() {
    for early_only in ["", ";early-only"] {
        scene(move |network| async move {
            let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
            let phone = Phone::new(&network).await;
            let mut old = alice.calls(BOB).await;
            let ours = phone.first(Method::Invite).await;
            phone.answer(&ours, 180, "b").await;
            assert!(is_progress(&old.next().await));
            let dialog = InDialog::of_invite(&ours, "b");
            let invite = replacing(&dialog, early_only).build().unwrap();
            phone.send(&invite, ALICE).await;
            let new = alice.incoming.next().await.unwrap();
            assert_eq!(new.replaces(), Some(old.key()));
            new.accept_replacing(sdp("answer")).await.unwrap();
            phone.first(Method::Cancel).await;
            phone.answer(&ours, 487, "b").await;
            assert!(matches!(end(&mut old).await, CallEnd::Replaced(by) if by == new.key()));
        });
    }
}

/// What was still to be replaced when it began to ring is not when it is accepted.
#[test]
fn a_call_that_comes_too_late_is_refused_as_it_is_accepted() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let (mut old, dialog) = established(&alice, &phone).await;
        let invite = replacing(&dialog, "").build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut new = alice.incoming.next().await.unwrap();
        new.ring().await.unwrap();
        phone.send(&dialog.build(Method::Bye, 12), ALICE).await;
        assert!(matches!(end(&mut old).await, CallEnd::PeerHungUp(_)));
        let accepted = new.accept_replacing(sdp("answer")).await;
        assert!(matches!(accepted, Err(CallError::Gone)));
        assert_eq!(phone.status_of(&invite).await, 603);
        assert!(matches!(end(&mut new).await, CallEnd::Rejected));
    });
}

#[test]
fn early_only_does_not_replace_a_call_that_was_answered_meanwhile() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let mut old = alice.calls(BOB).await;
        let ours = phone.first(Method::Invite).await;
        phone.answer(&ours, 180, "b").await;
        assert!(is_progress(&old.next().await));
        let dialog = InDialog::of_invite(&ours, "b");
        let invite = replacing(&dialog, ";early-only").build().unwrap();
        phone.send(&invite, ALICE).await;
        let new = alice.incoming.next().await.unwrap();
        phone.answer(&ours, 200, "b").await;
        old.answered().await.unwrap();
        assert!(matches!(
            new.accept_replacing(sdp("answer")).await,
            Err(CallError::Gone)
        ));
        assert_eq!(phone.status_of(&invite).await, 486);
        assert_eq!(phone.count(Method::Bye), 0);
    });
}

/// We accepted the old call, and its ACK has not come: the BYE waits for it (RFC 3261 §15).
#[test]
fn a_call_without_its_ack_is_replaced_when_that_has_come() {
    scene(|network| async move {
        let mut alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let (mut old, dialog) = answered(&mut alice, &phone).await;
        let invite = replacing(&dialog, "").build().unwrap();
        phone.send(&invite, ALICE).await;
        let new = alice.incoming.next().await.unwrap();
        new.accept_replacing(sdp("answer")).await.unwrap();
        pass(1_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut old).await, CallEnd::Replaced(_)));
    });
}

#[test]
fn who_replaces_nothing_takes_it_as_a_call_or_says_that_it_cannot() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (_old, dialog) = established(&alice, &phone).await;
        let required = replacing(&dialog, "").header(HeaderName::Require, "replaces");
        assert_eq!(refused(&phone, required).await, 420);
        let invite = replacing(&dialog, "").call_id_again("third");
        phone.send(&invite, ALICE).await;
        let new = alice.incoming.next().await.unwrap();
        assert_eq!(new.replaces(), None);
        new.accept(sdp("answer")).await.unwrap();
        pass(1_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
    });
}

#[test]
fn an_invite_says_whom_it_replaces_and_requires_that_it_is_understood() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, replaceable()).await;
        let phone = Phone::new(&network).await;
        let (old, dialog) = established(&alice, &phone).await;
        let named = old.dialog().await.unwrap();
        let invite = alice.asks(BOB).body(sdp("offer"));
        let invite = invite
            .replaces(&named.replaces().unwrap())
            .target_dialog(&named.target_dialog().unwrap());
        let _new = alice.dialogs.invite(invite, None).await.unwrap();
        let came = phone.nth(Method::Invite, 1).await;
        let headers = came.headers();
        let replaces = headers.replaces().unwrap().unwrap();
        let tag = |side: &str| side.rsplit_once("tag=").unwrap().1.to_owned();
        assert_eq!(replaces.call_id(), dialog.call_id);
        assert_eq!(
            replaces.to_tag(),
            tag(&dialog.local),
            "the tag of who receives it"
        );
        assert_eq!(replaces.from_tag(), tag(&dialog.remote));
        assert!(headers.require().any(|option| option == "replaces"));
        let target = headers.target_dialog().unwrap().unwrap();
        assert_eq!(target.local_tag(), tag(&dialog.remote));
        assert_eq!(target.remote_tag(), tag(&dialog.local));
    });
}

#[test]
fn target_dialog_names_a_call_of_ours_or_none() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (old, dialog) = established(&alice, &phone).await;
        let tag = |side: &str| side.rsplit_once("tag=").unwrap().1.to_owned();
        let (theirs, ours) = (tag(&dialog.remote), tag(&dialog.local));
        let names = [
            (
                format!("{};local-tag={ours};remote-tag={theirs}", dialog.call_id),
                true,
            ),
            (
                format!("{};local-tag={theirs};remote-tag={ours}", dialog.call_id),
                false,
            ),
            (format!("x;local-tag={ours};remote-tag={theirs}"), false),
        ];
        for (nth, (named, is_known)) in names.into_iter().enumerate() {
            let invite = second()
                .header(HeaderName::TargetDialog, named)
                .header(HeaderName::Require, "tdialog")
                .call_id_again(&format!("call-{nth}"));
            phone.send(&invite, ALICE).await;
            let new = alice.incoming.next().await.unwrap();
            assert_eq!(new.target_dialog(), is_known.then_some(old.key()));
        }
    });
}

#[test]
fn an_attended_transfer_refers_to_the_other_call() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (to_bob, _) = established(&alice, &phone).await;
        let to_carol = alice.calls(BOB).await;
        let early = to_bob.refer(Refer::to_call(&to_carol)).await;
        assert!(matches!(early, Err(CallError::NotNow(_))), "{early:?}");
        let invite = phone.nth(Method::Invite, 1).await;
        phone.answer(&invite, 200, "c+d~e%").await;
        phone.nth(Method::Ack, 1).await;
        let carols = InDialog::of_invite(&invite, "c+d~e%");
        let answering = async {
            let refer = phone.first(Method::Refer).await;
            let target = refer.headers().refer_to().unwrap().unwrap();
            let replaces: sipora_message::DialogId =
                target.uri().header("Replaces").unwrap().parse().unwrap();
            assert_eq!(replaces.call_id(), carols.call_id);
            assert_eq!(replaces.to_tag(), "c+d~e%");
            assert!(carols.remote.ends_with(replaces.from_tag()));
            assert_eq!(
                target.uri().user(),
                Some("bob"),
                "the Contact of who is called"
            );
            phone.answer(&refer, 603, "b").await;
        };
        let (answer, ()) = tokio::join!(to_bob.refer(Refer::to_call(&to_carol)), answering);
        assert!(answer.unwrap().id.is_none());
    });
}

/// Three user agents: Alice talks to Bob and to Carol, and transfers Bob to Carol, on a network that loses and repeats.
async fn transfer(network: &SimNetwork) {
    const CAROL: &str = "192.0.2.3:5060";
    network.set_conditions(Conditions::rough());
    let alice = Agent::with(network, ALICE, 1, replaceable()).await;
    let mut bob = Agent::with(network, BOB, 2, replaceable()).await;
    let mut carol = Agent::with(network, CAROL, 3, replaceable()).await;
    let bobs = async {
        let mut call = bob.incoming.next().await.unwrap();
        call.accept(sdp("bob")).await.unwrap();
        let referral = loop {
            match call.next().await.unwrap() {
                CallEvent::Referred(referral) => break *referral,
                CallEvent::Reinvited(_) => call.accept(sdp("held")).await.unwrap(),
                CallEvent::Ended(end) => panic!("{end:?}"),
                _ => {}
            }
        };
        call.accept_refer(referral.id).await.unwrap();
        let contact = uri(&format!("sip:bob@{BOB}"));
        let invite = referral.invite(uri("sip:bob@example.com"), contact);
        let invite = invite.unwrap().body(sdp("bob"));
        let mut new = bob.dialogs.invite(invite, None).await.unwrap();
        let answer = new.answered().await.unwrap();
        let _ = call.report_refer(referral.id, answer.status()).await;
        assert!(matches!(call.ended().await, CallEnd::PeerHungUp(_)));
        pass(500).await;
        new.hang_up().await.unwrap();
        assert!(matches!(new.ended().await, CallEnd::HungUp));
    };
    let carols = async {
        let mut old = carol.incoming.next().await.unwrap();
        old.accept(sdp("carol")).await.unwrap();
        let mut new = carol.incoming.next().await.unwrap();
        assert_eq!(new.replaces(), Some(old.key()));
        assert!(
            new.invite()
                .unwrap()
                .headers()
                .referred_by()
                .unwrap()
                .is_some()
        );
        new.accept_replacing(sdp("carol")).await.unwrap();
        let (old, new) = tokio::join!(old.ended(), new.ended());
        assert!(matches!(old, CallEnd::Replaced(_)), "{old:?}");
        assert!(matches!(new, CallEnd::PeerHungUp(_)), "{new:?}");
    };
    let alices = async {
        let mut to_bob = alice.calls(BOB).await;
        to_bob.answered().await.unwrap();
        to_bob.reinvite(Some(sdp("hold"))).await.unwrap();
        while !matches!(to_bob.next().await, Some(CallEvent::ReinviteAccepted(_))) {}
        let mut to_carol = alice.calls(CAROL).await;
        to_carol.answered().await.unwrap();
        let refer = Refer::to_call(&to_carol).referred_by("<sip:alice@example.com>");
        let answer = to_bob.refer(refer).await.unwrap();
        assert!(answer.id.is_some());
        assert!(matches!(to_carol.ended().await, CallEnd::PeerHungUp(_)));
        loop {
            match to_bob.next().await.unwrap() {
                CallEvent::ReferReport(report) if report.is_over => {
                    break assert!(report.has_succeeded());
                }
                CallEvent::Ended(end) => panic!("{end:?}"),
                _ => {}
            }
        }
        to_bob.hang_up().await.unwrap();
        assert!(matches!(to_bob.ended().await, CallEnd::HungUp));
    };
    tokio::join!(bobs, carols, alices);
    pass(400_000).await;
    for agent in [&alice, &bob, &carol] {
        agent.assert_idle();
    }
}

#[test]
fn an_attended_transfer_succeeds_over_a_bad_network() {
    for_each_seed(seeds(), |network| async move { transfer(&network).await });
}
