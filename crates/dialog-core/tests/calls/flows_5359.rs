//! The flows of RFC 5359 §2 that two or three user agents have among themselves, each on a good network and on a bad one.

use crate::support::*;
use sipora_dialog_core::{Call, CallConfig, CallEnd, CallEvent, Refer};
use sipora_message::StatusCode;
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

const CAROL: &str = "192.0.2.3:5060";

/// Every other seed is a bad network.
fn set(network: &SimNetwork) {
    if network.seed() % 2 == 1 {
        network.set_conditions(Conditions::rough());
    }
}

fn able() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config.takes_replaces = true;
    config
}

async fn agents(network: &SimNetwork) -> [Agent; 3] {
    set(network);
    [
        Agent::with(network, ALICE, 1, able()).await,
        Agent::with(network, BOB, 2, able()).await,
        Agent::with(network, CAROL, 3, able()).await,
    ]
}

async fn quiet(agents: &[Agent]) {
    pass(400_000).await;
    for agent in agents {
        agent.assert_idle();
    }
}

/// Takes the next call, and says yes to whatever is wanted of it until it ends, but to REFER.
async fn agrees(agent: &mut Agent) -> (Call, CallEnd) {
    let mut call = agent.incoming.next().await.unwrap();
    call.accept(sdp("answer")).await.unwrap();
    let end = listens(&mut call).await;
    (call, end)
}

async fn listens(call: &mut Call) -> CallEnd {
    loop {
        match call.next().await.unwrap() {
            CallEvent::Reinvited(_) => call.accept(sdp("agreed")).await.unwrap(),
            CallEvent::Ended(end) => return end,
            _ => {}
        }
    }
}

/// Changes the session, and waits until it is changed.
async fn changes(call: &mut Call, what: &str) {
    call.reinvite(Some(sdp(what))).await.unwrap();
    loop {
        match call.next().await.unwrap() {
            CallEvent::ReinviteAccepted(_) => return,
            CallEvent::ReinviteRefused(response) => panic!("{}", response.status()),
            CallEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    }
}

#[test]
fn section_2_1_call_hold() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, _] = agents(&network).await;
        let calling = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            changes(&mut call, "hold").await;
            pass(1_000).await;
            changes(&mut call, "resume").await;
            call.hang_up().await.unwrap();
            call.ended().await
        };
        let ((_, his), hers) = tokio::join!(agrees(&mut bob), calling);
        assert!(matches!(hers, CallEnd::HungUp));
        assert!(matches!(his, CallEnd::PeerHungUp(_)));
        quiet(&[alice, bob]).await;
    });
}

#[test]
fn section_2_2_consultation_hold() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, mut carol] = agents(&network).await;
        let calling = async {
            let mut first = alice.calls(BOB).await;
            first.answered().await.unwrap();
            changes(&mut first, "hold").await;
            let mut second = alice.calls(CAROL).await;
            second.answered().await.unwrap();
            second.hang_up().await.unwrap();
            assert!(matches!(second.ended().await, CallEnd::HungUp));
            changes(&mut first, "resume").await;
            first.hang_up().await.unwrap();
            first.ended().await
        };
        let ((_, his), (_, third), hers) =
            tokio::join!(agrees(&mut bob), agrees(&mut carol), calling);
        assert!(matches!(hers, CallEnd::HungUp));
        assert!(matches!(his, CallEnd::PeerHungUp(_)));
        assert!(matches!(third, CallEnd::PeerHungUp(_)));
        quiet(&[alice, bob, carol]).await;
    });
}

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
            while !matches!(call.next().await, Some(CallEvent::Acknowledged(_))) {}
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
            while !matches!(call.next().await, Some(CallEvent::Acknowledged(_))) {}
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
            while !matches!(first.next().await, Some(CallEvent::Acknowledged(_))) {}
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
                new.accept(sdp("answer")).await.unwrap();
                while !matches!(new.next().await, Some(CallEvent::Acknowledged(_))) {}
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
