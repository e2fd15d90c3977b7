//! Sections 2.10 and 2.11: conferences of three, mixed by Bob.

use super::*;
use sipora_dialog_core::Invite;
use sipora_testkit::{for_each_seed, seeds};

#[test]
fn section_2_10_conference_of_three_third_party_is_added() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, mut carol] = agents(&network).await;
        let bobs = async {
            let mut first = bob.incoming.next().await.unwrap();
            first.ring().await.unwrap();
            first.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut first).await;
            changes(&mut first, "mixed").await;
            let mut second = bob.calls(CAROL).await;
            second.answered().await.unwrap();
            pass(2_000).await;
            first.hang_up().await.unwrap();
            second.hang_up().await.unwrap();
            (first.ended().await, second.ended().await)
        };
        let alices = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            listens(&mut call).await
        };
        let ((one, two), hers, (_, third)) = tokio::join!(bobs, alices, agrees(&mut carol));
        assert!(matches!(one, CallEnd::HungUp), "{one:?}");
        assert!(matches!(two, CallEnd::HungUp), "{two:?}");
        assert!(matches!(hers, CallEnd::PeerHungUp(_)), "{hers:?}");
        assert!(matches!(third, CallEnd::PeerHungUp(_)), "{third:?}");
        quiet(&[alice, bob, carol]).await;
    });
}

/// The application reads Join (RFC 3911), and finds the call that it names.
#[test]
fn section_2_11_conference_of_three_third_party_joins() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, carol] = agents(&network).await;
        let (tell, told) = tokio::sync::oneshot::channel();
        let bobs = async {
            let mut first = bob.incoming.next().await.unwrap();
            first.ring().await.unwrap();
            first.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut first).await;
            let dialog = first.dialog().await.unwrap();
            tell.send(dialog.clone()).unwrap();
            let mut second = bob.incoming.next().await.unwrap();
            let join = second.invite().unwrap().headers().join().unwrap().unwrap();
            assert_eq!(join.call_id(), &*dialog.call_id);
            assert_eq!(join.to_tag(), &*dialog.local_tag);
            assert_eq!(join.from_tag(), &*dialog.remote_tag);
            second.ring().await.unwrap();
            changes(&mut first, "mixed").await;
            second.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut second).await;
            pass(2_000).await;
            first.hang_up().await.unwrap();
            second.hang_up().await.unwrap();
            (first.ended().await, second.ended().await)
        };
        let alices = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            listens(&mut call).await
        };
        let carols = async {
            let dialog = told.await.unwrap();
            let join = format!(
                "{};from-tag={};to-tag={}",
                dialog.call_id, dialog.remote_tag, dialog.local_tag
            );
            let contact = uri(&format!("sip:carol@{CAROL}"));
            let bob = uri(&format!("sip:bob@{BOB}"));
            let invite = Invite::new(bob, uri("sip:carol@example.com"), contact)
                .header(HeaderName::Join, join)
                .body(sdp("offer"));
            let mut call = carol.dialogs.invite(invite, None).await.unwrap();
            call.answered().await.unwrap();
            listens(&mut call).await
        };
        let ((one, two), hers, third) = tokio::join!(bobs, alices, carols);
        assert!(matches!(one, CallEnd::HungUp), "{one:?}");
        assert!(matches!(two, CallEnd::HungUp), "{two:?}");
        assert!(matches!(hers, CallEnd::PeerHungUp(_)), "{hers:?}");
        assert!(matches!(third, CallEnd::PeerHungUp(_)), "{third:?}");
        quiet(&[alice, bob, carol]).await;
    });
}
