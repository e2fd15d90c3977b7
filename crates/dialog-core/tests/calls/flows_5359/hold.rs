//! Sections 2.1 to 2.3: hold.

use super::outside::Outside;
use super::*;
use sipora_dialog_core::{CallEnd, Refer};
use sipora_message::StatusCode;
use sipora_testkit::{for_each_seed, seeds};

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

/// The music server calls Alice in Bob's place. The NOTIFYs tell Bob that it has, and no more: which dialog that made, which they could
/// tell him too, he hears in another way.
#[test]
fn section_2_3_music_on_hold() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let mut alice = Agent::with(&network, ALICE, 1, able()).await;
        let mut bob = Agent::with(&network, BOB, 2, able()).await;
        let mut music = Outside::new(&network, CAROL, 3).await;
        let (tell, told) = tokio::sync::oneshot::channel();
        let alices = async {
            let mut first = alice.calls(BOB).await;
            first.answered().await.unwrap();
            let (first, (second, third)) = tokio::join!(listens(&mut first), async {
                let mut second = alice.incoming.next().await.unwrap();
                second.accept_replacing(sdp("answer")).await.unwrap();
                let key = second.key();
                tokio::join!(listens(&mut second), async {
                    let mut third = alice.incoming.next().await.unwrap();
                    assert_eq!(third.replaces(), Some(key));
                    third.accept_replacing(sdp("answer")).await.unwrap();
                    listens(&mut third).await
                })
            });
            (first, second, third)
        };
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut call).await;
            changes(&mut call, "hold").await;
            let place = in_place_of("alice", ALICE, &call.dialog().await.unwrap());
            let referring = outside::refers(&bob, CAROL, Refer::to(place));
            let (status, replaced) = tokio::join!(referring, listens(&mut call));
            assert_eq!(status, Some(StatusCode::OK));
            let place = told.await.unwrap();
            pass(5_000).await;
            let mut back = takes_over(&bob, &place).await;
            back.answered().await.unwrap();
            pass(2_000).await;
            back.hang_up().await.unwrap();
            (replaced, back.ended().await)
        };
        let plays = async {
            let refer = music.referred().await;
            let place = refer.referral().refer_to().unwrap();
            let mut call = takes_over(&music.agent, &place).await;
            let answer = call.answered().await.unwrap();
            refer.report(answer.status()).await.unwrap();
            let place = in_place_of("alice", ALICE, &call.dialog().await.unwrap());
            tell.send(place).unwrap();
            listens(&mut call).await
        };
        let ((first, second, third), (replaced, back), played) = tokio::join!(alices, bobs, plays);
        assert!(matches!(first, CallEnd::Replaced(_)), "{first:?}");
        assert!(matches!(second, CallEnd::Replaced(_)), "{second:?}");
        assert!(matches!(third, CallEnd::PeerHungUp(_)), "{third:?}");
        assert!(matches!(replaced, CallEnd::PeerHungUp(_)), "{replaced:?}");
        assert!(matches!(back, CallEnd::HungUp), "{back:?}");
        assert!(matches!(played, CallEnd::PeerHungUp(_)), "{played:?}");
        quiet(&[alice, bob, music.agent]).await;
    });
}
