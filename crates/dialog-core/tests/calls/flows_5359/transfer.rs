//! Sections 2.4 to 2.6: transfers.

use super::outside::Outside;
use super::*;
use sipora_dialog_core::Refer;
use sipora_message::{Method, StatusCode};
use sipora_testkit::{for_each_seed, seeds};

/// Who is referred calls whom it is told to, tells what comes of it, and stays in the new call until that ends.
async fn follows(agent: &Agent, call: &mut Call, own: &str) -> (CallEnd, Option<CallEnd>) {
    let referral = loop {
        match call.next().await.unwrap() {
            CallEvent::Referred(referral) => break *referral,
            CallEvent::Reinvited(_) => call.accept(sdp("agreed")).await.unwrap(),
            CallEvent::Ended(end) => return (end, None),
            _ => {}
        }
    };
    call.accept_refer(referral.id).await.unwrap();
    let contact = uri(&format!("sip:own@{own}"));
    let invite = referral.invite(uri("sip:own@example.com"), contact);
    let invite = invite.unwrap().body(sdp("offer"));
    let mut new = agent.dialogs.invite(invite, None).await.unwrap();
    let (status, has_new) = match new.answered().await {
        Ok(answer) => (answer.status(), true),
        Err(CallEnd::Refused(answer)) => (answer.status(), false),
        Err(end) => panic!("{end:?}"),
    };
    // Who referred may have gone without waiting for it.
    let _ = call.report_refer(referral.id, status).await;
    let over = async {
        match has_new {
            true => Some(listens(&mut new).await),
            false => None,
        }
    };
    tokio::join!(listens(call), over)
}

/// Refers, waits for what comes of it, and hangs up; gives the status that was reported.
async fn transfers(call: &mut Call, refer: Refer) -> StatusCode {
    let answer = call.refer(refer).await.unwrap();
    assert!(answer.response.status().is_success());
    let status = loop {
        match call.next().await.unwrap() {
            CallEvent::ReferReport(report) if report.is_over => break report.status.unwrap(),
            CallEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    };
    call.hang_up().await.unwrap();
    assert!(matches!(call.ended().await, CallEnd::HungUp));
    status
}

#[test]
fn section_2_4_transfer_unattended() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, mut carol] = agents(&network).await;
        let accepts = network.random(0..=2) > 0;
        // Bob, who is called, transfers Alice to Carol.
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            // The ACK has to have come: an offer is only made after it.
            acknowledged(&mut call).await;
            changes(&mut call, "hold").await;
            let carol = uri(&format!("sip:carol@{CAROL}"));
            let refer = Refer::to(carol).referred_by("<sip:bob@example.com>");
            transfers(&mut call, refer).await
        };
        let alices = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            follows(&alice, &mut call, ALICE).await
        };
        let carols = async {
            let mut call = carol.incoming.next().await.unwrap();
            let referred_by = call.invite().unwrap().headers().referred_by();
            assert_eq!(
                referred_by.unwrap().unwrap().uri().as_str(),
                "sip:bob@example.com"
            );
            if !accepts {
                call.reject(StatusCode::BUSY_HERE).await.unwrap();
                return call.ended().await;
            }
            call.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut call).await;
            pass(2_000).await;
            call.hang_up().await.unwrap();
            call.ended().await
        };
        let (status, (with_bob, with_carol), carols) = tokio::join!(bobs, alices, carols);
        assert!(matches!(with_bob, CallEnd::PeerHungUp(_)), "{with_bob:?}");
        if accepts {
            assert_eq!(status, StatusCode::OK);
            assert!(matches!(with_carol, Some(CallEnd::PeerHungUp(_))));
            assert!(matches!(carols, CallEnd::HungUp));
        } else {
            assert_eq!(status, StatusCode::BUSY_HERE);
            assert!(with_carol.is_none());
            assert!(matches!(carols, CallEnd::Rejected));
        }
        quiet(&[alice, bob, carol]).await;
    });
}

#[test]
fn section_2_5_transfer_attended() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, mut carol] = agents(&network).await;
        // Bob, who is called, asks Carol, and transfers Alice to her.
        let bobs = async {
            let mut first = bob.incoming.next().await.unwrap();
            first.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut first).await;
            changes(&mut first, "hold").await;
            let mut second = bob.calls(CAROL).await;
            second.answered().await.unwrap();
            changes(&mut second, "hold").await;
            let refer = Refer::to_call(&second).referred_by("<sip:bob@example.com>");
            let (status, end) = tokio::join!(transfers(&mut first, refer), listens(&mut second));
            assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
            status
        };
        let alices = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            follows(&alice, &mut call, ALICE).await
        };
        let carols = async {
            let mut old = carol.incoming.next().await.unwrap();
            old.accept(sdp("answer")).await.unwrap();
            let (old, new) = tokio::join!(listens(&mut old), async {
                let mut new = carol.incoming.next().await.unwrap();
                assert!(new.replaces().is_some());
                new.accept_replacing(sdp("answer")).await.unwrap();
                acknowledged(&mut new).await;
                pass(2_000).await;
                new.hang_up().await.unwrap();
                new.ended().await
            });
            assert!(matches!(old, CallEnd::Replaced(_)), "{old:?}");
            new
        };
        let (status, (with_bob, with_carol), with_alice) = tokio::join!(bobs, alices, carols);
        assert_eq!(status, StatusCode::OK);
        assert!(matches!(with_bob, CallEnd::PeerHungUp(_)));
        assert!(matches!(with_carol, Some(CallEnd::PeerHungUp(_))));
        assert!(matches!(with_alice, CallEnd::HungUp));
        quiet(&[alice, bob, carol]).await;
    });
}

#[test]
fn section_2_6_transfer_by_instant_message() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let mut alice = Agent::with(&network, ALICE, 1, able()).await;
        let mut bob = Agent::with(&network, BOB, 2, able()).await;
        let mut carol = Outside::new(&network, CAROL, 3).await;
        let alices = async {
            let mut first = alice.calls(BOB).await;
            first.answered().await.unwrap();
            tokio::join!(listens(&mut first), async {
                let mut second = alice.incoming.next().await.unwrap();
                second.accept_replacing(sdp("answer")).await.unwrap();
                listens(&mut second).await
            })
        };
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut call).await;
            let place = in_place_of("alice", ALICE, &call.dialog().await.unwrap());
            let text = place.as_str().to_owned();
            let message = outside::request(Method::Message, BOB, CAROL);
            let message = message.body("text/plain", text).build().unwrap();
            let answer = outside::sends(&bob, message, CAROL).await;
            assert_eq!(answer.status(), StatusCode::OK);
            listens(&mut call).await
        };
        let carols = async {
            let message = carol.came().await;
            let place = uri(std::str::from_utf8(message.body()).unwrap());
            let mut call = takes_over(&carol.agent, &place).await;
            call.answered().await.unwrap();
            pass(2_000).await;
            call.hang_up().await.unwrap();
            call.ended().await
        };
        let ((first, second), his, hers) = tokio::join!(alices, bobs, carols);
        assert!(matches!(first, CallEnd::Replaced(_)), "{first:?}");
        assert!(matches!(second, CallEnd::PeerHungUp(_)), "{second:?}");
        assert!(matches!(his, CallEnd::PeerHungUp(_)), "{his:?}");
        assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
        quiet(&[alice, bob, carol.agent]).await;
    });
}
