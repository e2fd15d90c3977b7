//! Both are ours.

use super::*;
use sipora_dialog_core::{CallEnd, OutgoingRefer};
use sipora_message::StatusCode;
use sipora_testkit::{Conditions, for_each_seed, seeds};

fn to(address: &str, refer: Refer) -> OutgoingRefer {
    OutgoingRefer::new(
        uri(&format!("sip:bob@{address}")),
        uri("sip:alice@example.com"),
        uri(&format!("sip:alice@{ALICE}")),
        refer,
    )
}

/// What is reported in the end is what is heard, whatever the network does, and nothing is left.
#[test]
fn what_is_reported_is_heard_on_bad_networks() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::with(&network, BOB, 2, referable(&network)).await;
        let mut refers = bob.incoming.take_refers().unwrap();
        let (thinks, rings) = (network.random(0..=20_000), network.random(0..=3_000));
        let does = network.random(0..=4);
        let taking = async {
            let incoming = refers.next().await.unwrap();
            pass(thinks).await;
            match does {
                0 => return incoming.reject(StatusCode::DECLINE).await.unwrap(),
                1 => return drop(incoming),
                _ => incoming.accept().await.unwrap(),
            }
            pass(rings).await;
            let _ = incoming.report(StatusCode::RINGING).await;
            pass(rings).await;
            let mut incoming = incoming;
            if does != 2 {
                // Her NOTIFY may have got no answer.
                let _ = incoming.report(StatusCode::BUSY_HERE).await;
                incoming.ended().await;
            }
        };
        let sending = async {
            let sent = alice.dialogs.refer(to(BOB, carol()), None).await;
            let mut sent = sent.unwrap();
            let mut last = None;
            while let Some(report) = sent.next().await {
                assert!(last.is_none(), "nothing comes after the end");
                if report.is_over {
                    last = Some(report.status.map(|status| status.as_u16()));
                }
            }
            let is_granted = sent.answer().id.is_some();
            assert_eq!(last.is_some(), is_granted);
            (sent.answer().response.status().as_u16(), last.flatten())
        };
        let ((), (answer, last)) = tokio::join!(taking, sending);
        match (does, answer) {
            (0 | 1, 603) => assert_eq!(last, None),
            // It was accepted before it was decided.
            (0, 200) => assert_eq!(last, Some(603)),
            (1, 200) => assert_eq!(last, Some(100)),
            (2, 200) => assert!(matches!(last, Some(100 | 180)), "{last:?}"),
            (_, 200) => assert_eq!(last, Some(486)),
            other => panic!("{other:?}"),
        }
        pass(700_000).await;
        for agent in [&alice, &bob] {
            agent.assert_idle();
            assert_eq!(agent.dialogs.call_metrics().refers_outside, 0);
        }
    });
}

/// RFC 7647 §4: an attended transfer whose REFER stands outside of the call, and names it.
#[test]
fn a_call_is_transferred_from_outside_of_it() {
    scene(|network| async move {
        let address = "192.0.2.3:5060";
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::with(&network, BOB, 2, referable(&network)).await;
        let mut refers = bob.incoming.take_refers().unwrap();
        let mut config = CallConfig::default();
        config.takes_replaces = true;
        let mut carol = Agent::with(&network, address, 3, config).await;
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            let incoming = refers.next().await.unwrap();
            assert_eq!(incoming.target_dialog(), Some(call.key()));
            incoming.accept().await.unwrap();
            let here = uri(&format!("sip:bob@{BOB}"));
            let invite = incoming.referral().invite(uri("sip:bob@example.com"), here);
            let invite = invite.unwrap().body(sdp("offer"));
            let mut new = bob.dialogs.invite(invite, None).await.unwrap();
            let answer = new.answered().await.unwrap();
            incoming.report(answer.status()).await.unwrap();
            let over = call.ended().await;
            new.hang_up().await.unwrap();
            (over, new.ended().await)
        };
        let carols = async {
            let mut old = carol.incoming.next().await.unwrap();
            old.accept(sdp("answer")).await.unwrap();
            let mut new = carol.incoming.next().await.unwrap();
            assert_eq!(new.replaces(), Some(old.key()));
            new.accept_replacing(sdp("answer")).await.unwrap();
            (old.ended().await, new.ended().await)
        };
        let alices = async {
            let mut first = alice.calls(BOB).await;
            first.answered().await.unwrap();
            let mut second = alice.calls(address).await;
            second.answered().await.unwrap();
            let dialog = first.dialog().await.unwrap();
            let refer = Refer::to_call(&second).target_dialog(&dialog.target_dialog().unwrap());
            let mut sent = alice.dialogs.refer(to(BOB, refer), None).await.unwrap();
            let report = loop {
                let report = sent.next().await.unwrap();
                if report.is_over {
                    break report;
                }
            };
            assert!(report.has_succeeded());
            first.hang_up().await.unwrap();
            assert!(matches!(first.ended().await, CallEnd::HungUp));
            end(&mut second).await
        };
        let (second, (with_alice, bobs_new), (old, new)) = tokio::join!(alices, bobs, carols);
        assert!(matches!(second, CallEnd::PeerHungUp(_)), "{second:?}");
        assert!(
            matches!(with_alice, CallEnd::PeerHungUp(_)),
            "{with_alice:?}"
        );
        assert!(matches!(bobs_new, CallEnd::HungUp), "{bobs_new:?}");
        assert!(matches!(old, CallEnd::Replaced(_)), "{old:?}");
        assert!(matches!(new, CallEnd::PeerHungUp(_)), "{new:?}");
        pass(120_000).await;
        for agent in [&alice, &bob, &carol] {
            agent.assert_idle();
        }
    });
}
