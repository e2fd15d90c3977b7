//! Calls that are held and resumed (RFC 3264 §8.4, RFC 6337 §5.3), and otherwise changed.

use crate::phone::*;
use sipora_session_core::{CallEnd, CallEvent, CallHandle, Error, MediaDirection, StatusCode};
use sipora_testkit::{Conditions, for_each_seed, seeds};
use std::time::Duration;

const HERS: &str = "v=0\r\no=- 5 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const HIS: &str = "v=0\r\no=- 6 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n";

async fn talking(alice: &Phone, bob: &mut Phone) -> (CallHandle, CallHandle) {
    use sipora_session_core::SipClient;
    let mut hers = alice.client.call(&uri(BOB), Some(HERS)).await.unwrap();
    let mut his = bob.is_called().await;
    his.accept(HIS).await.unwrap();
    hers.answered().await.unwrap();
    assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
    (hers, his)
}

/// Takes the other's wish as it is: the direction offered, and that answered.
async fn takes(call: &mut CallHandle, own: &str) -> MediaDirection {
    let event = call.next().await.unwrap();
    assert!(matches!(event, CallEvent::ChangeRequested(_)), "{event:?}");
    let offered = MediaDirection::of(event.sdp().unwrap());
    call.accept(&offered.reversed().in_sdp(own)).await.unwrap();
    assert!(matches!(
        call.next().await,
        Some(CallEvent::Acknowledged(_))
    ));
    offered
}

async fn is_changed(call: &mut CallHandle) -> MediaDirection {
    let event = call.next().await.unwrap();
    assert!(matches!(event, CallEvent::Changed(_)), "{event:?}");
    MediaDirection::of(event.sdp().unwrap())
}

async fn hold_and_resume(call: &mut CallHandle, other: &mut CallHandle, own: &str) {
    call.hold().await.unwrap();
    let (offered, answered) = tokio::join!(takes(other, own), is_changed(call));
    assert_eq!(offered, MediaDirection::SendOnly);
    assert_eq!(answered, MediaDirection::RecvOnly);
    call.resume().await.unwrap();
    let (offered, answered) = tokio::join!(takes(other, own), is_changed(call));
    assert_eq!(offered, MediaDirection::SendRecv);
    assert_eq!(answered, MediaDirection::SendRecv);
}

#[test]
fn either_holds_and_resumes() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        hold_and_resume(&mut hers, &mut his, HIS).await;
        hold_and_resume(&mut his, &mut hers, HERS).await;
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

#[test]
fn both_hold_and_each_takes_back_its_own() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        hers.hold().await.unwrap();
        tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
        // His last description only receives: held, it does neither.
        his.hold().await.unwrap();
        let (offered, _) = tokio::join!(takes(&mut hers, HERS), is_changed(&mut his));
        assert_eq!(offered, MediaDirection::Inactive);
        hers.resume().await.unwrap();
        let (offered, _) = tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
        assert_eq!(offered, MediaDirection::RecvOnly);
        his.resume().await.unwrap();
        let (offered, _) = tokio::join!(takes(&mut hers, HERS), is_changed(&mut his));
        assert_eq!(offered, MediaDirection::SendRecv);
    });
}

/// RFC 3264 §8: a description that differs has a version of its own, also after one that was refused.
#[test]
fn a_hold_that_is_refused_changes_nothing_and_its_version_is_not_used_again() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let mut origins = Vec::new();
        for _ in 0..2 {
            hers.hold().await.unwrap();
            let event = his.next().await.unwrap();
            let sdp = event.sdp().unwrap();
            assert_eq!(MediaDirection::of(sdp), MediaDirection::SendOnly);
            origins.push(sdp.lines().nth(1).unwrap().to_owned());
            his.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
            match hers.next().await.unwrap() {
                CallEvent::ChangeRefused(answer) => assert_eq!(answer.status().as_u16(), 488),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            origins,
            ["o=- 5 2 IN IP4 192.0.2.1", "o=- 5 3 IN IP4 192.0.2.1"]
        );
        hers.hang_up().await.unwrap();
        assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
    });
}

#[test]
fn a_hold_that_nobody_waits_for_is_known_when_it_is_taken_back() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let hold = tokio::time::timeout(Duration::ZERO, hers.hold()).await;
        assert!(hold.is_err(), "{hold:?}");
        let (offered, _) = tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
        assert_eq!(offered, MediaDirection::SendOnly);
        hers.resume().await.unwrap();
        let event = his.next().await.unwrap();
        let sdp = event.sdp().unwrap();
        assert_eq!(MediaDirection::of(sdp), MediaDirection::SendRecv);
        assert!(sdp.contains("o=- 5 3 IN"), "{sdp}");
    });
}

/// Nobody has heard that it was refused.
async fn hold_is_refused_unheard(call: &CallHandle) {
    let hold = tokio::time::timeout(Duration::ZERO, call.hold()).await;
    assert!(hold.is_err(), "{hold:?}");
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[test]
fn a_hold_that_nobody_waits_for_is_not_taken_for_the_change_that_it_met() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let wanted = HERS.replace(" 5 1 ", " 5 2 ").replace("4000", "4010");
        hers.change(Some(&wanted)).await.unwrap();
        hold_is_refused_unheard(&hers).await;
        tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
        hers.resume().await.unwrap();
        let event = his.next().await.unwrap();
        let sdp = event.sdp().unwrap();
        assert!(sdp.contains("m=audio 4010"), "{sdp}");
    });
}

#[test]
fn a_hold_that_nobody_waits_for_is_not_what_an_offer_of_the_peers_is_met_with() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        his.change(Some(CHANGED)).await.unwrap();
        let event = hers.next().await.unwrap();
        assert!(matches!(event, CallEvent::ChangeRequested(_)), "{event:?}");
        hold_is_refused_unheard(&hers).await;
        hers.accept(HERS).await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Changed(_))));
        let event = hers.next().await.unwrap();
        assert!(matches!(event, CallEvent::Acknowledged(_)), "{event:?}");
        hers.change(None).await.unwrap();
        assert!(matches!(
            his.next().await,
            Some(CallEvent::ChangeRequested(_))
        ));
        his.accept(HIS).await.unwrap();
        assert!(matches!(hers.next().await, Some(CallEvent::Changed(_))));
        // It is what she has said before.
        hers.acknowledge(HERS).await.unwrap();
        assert_eq!(his.next().await.unwrap().sdp(), Some(HERS));
    });
}

#[test]
fn a_hold_that_meets_another_leaves_that_as_it_is() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let (one, other) = tokio::join!(hers.hold(), hers.resume());
        assert!(one.is_ok(), "{one:?}");
        assert!(matches!(other, Err(Error::NotNow { .. })), "{other:?}");
        let (offered, _) = tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
        assert_eq!(offered, MediaDirection::SendOnly);
        hers.resume().await.unwrap();
        let event = his.next().await.unwrap();
        let sdp = event.sdp().unwrap();
        assert_eq!(MediaDirection::of(sdp), MediaDirection::SendRecv);
        assert!(sdp.contains("o=- 5 3 IN"), "{sdp}");
    });
}

/// The offer is in the 200 to the first INVITE, and its answer in the ACK.
#[test]
fn who_was_called_without_an_offer_holds_when_the_call_is_up() {
    use sipora_session_core::SipClient;
    for is_read in [true, false] {
        scene(|network| async move {
            let (alice, mut bob) = two(&network).await;
            let mut hers = alice.client.call(&uri(BOB), None).await.unwrap();
            let mut his = bob.is_called().await;
            his.accept(HIS).await.unwrap();
            hers.answered().await.unwrap();
            assert!(matches!(his.hold().await, Err(Error::NotNow { .. })));
            hers.acknowledge(HERS).await.unwrap();
            match is_read {
                true => assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_)))),
                false => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            his.hold().await.unwrap();
            let event = hers.next().await.unwrap();
            let sdp = event.sdp().unwrap();
            assert!(sdp.contains("o=- 6 2 IN"), "{sdp}");
            assert_eq!(MediaDirection::of(sdp), MediaDirection::SendOnly);
        });
    }
}

#[test]
fn who_only_waits_for_the_end_lets_nothing_be_changed() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let waiting = tokio::spawn(async move { his.ended().await });
        hers.change(Some(CHANGED)).await.unwrap();
        assert!(matches!(
            hers.next().await,
            Some(CallEvent::ChangeRefused(_))
        ));
        hers.hang_up().await.unwrap();
        assert!(matches!(waiting.await.unwrap(), CallEnd::PeerHungUp(_)));
    });
}

#[test]
fn a_hold_that_comes_too_early_uses_up_no_version() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        hers.hold().await.unwrap();
        assert!(matches!(hers.resume().await, Err(Error::NotNow { .. })));
        tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
        hers.resume().await.unwrap();
        let event = his.next().await.unwrap();
        let sdp = event.sdp().unwrap();
        assert!(sdp.contains("o=- 5 3 IN"), "{sdp}");
        assert_eq!(MediaDirection::of(sdp), MediaDirection::SendRecv);
    });
}

#[test]
fn an_offer_can_be_asked_for_and_is_answered() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        hers.change(None).await.unwrap();
        let asked = his.next().await.unwrap();
        assert!(matches!(asked, CallEvent::ChangeRequested(_)) && asked.sdp().is_none());
        his.accept(HIS).await.unwrap();
        assert_eq!(hers.next().await.unwrap().sdp(), Some(HIS));
        hers.acknowledge(HERS).await.unwrap();
        assert_eq!(his.next().await.unwrap().sdp(), Some(HERS));
    });
}

#[test]
fn there_is_nothing_to_hold_before_the_call_is_up_or_when_it_is_over() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        assert!(matches!(hers.hold().await, Err(Error::NotNow { .. })));
        assert!(matches!(his.hold().await, Err(Error::NotNow { .. })));
        his.accept(HIS).await.unwrap();
        hers.answered().await.unwrap();
        hers.hang_up().await.unwrap();
        hers.ended().await;
        his.ended().await;
        assert!(matches!(his.resume().await, Err(Error::TooLate)));
    });
}

/// RFC 3261 §14.1: both re-INVITEs get 491; the callee's is sent again after 0 to 2 s, the caller's after 2.1 to 4 s, and neither
/// application hears of any of that.
#[test]
fn two_changes_that_meet_are_made_one_after_the_other() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let (one, other) = tokio::join!(hers.hold(), his.hold());
        assert!(one.is_ok() && other.is_ok());
        let begun = tokio::time::Instant::now();
        // His comes first; then hers, which her phone remembers.
        let (offered, answered) = tokio::join!(takes(&mut hers, HERS), is_changed(&mut his));
        assert_eq!(offered, MediaDirection::SendOnly);
        assert_eq!(answered, MediaDirection::RecvOnly);
        assert!(begun.elapsed() < Duration::from_millis(2_100));
        let (offered, _) = tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
        assert!(!offered.receives(), "{offered:?}");
        let waited = begun.elapsed();
        let bounds = Duration::from_millis(2_100)..Duration::from_millis(4_100);
        assert!(bounds.contains(&waited), "{waited:?}");
        let packets = network.packets();
        let pending = packets.iter().map(ToString::to_string);
        let pending = pending.filter(|line| line.contains("SIP/2.0 491"));
        assert_eq!(pending.count(), 2);
    });
}

/// RFC 3264 §8: where a description differs from the last, its version is higher; so it is after 491, when the peer's change has been
/// answered meanwhile, and with answers whose version the application does not count.
#[test]
fn a_hold_that_met_the_peers_is_made_anew_from_what_was_agreed_meanwhile() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let (one, other) = tokio::join!(hers.hold(), his.hold());
        assert!(one.is_ok() && other.is_ok());
        // His comes first, and she answers by the description that the call began with: version 2 once more.
        let answers = async {
            let event = hers.next().await.unwrap();
            assert!(matches!(event, CallEvent::ChangeRequested(_)), "{event:?}");
            hers.accept(&MediaDirection::RecvOnly.in_sdp(HERS))
                .await
                .unwrap();
        };
        let (event, ()) = tokio::join!(his.next(), answers);
        let event = event.unwrap();
        assert!(matches!(event, CallEvent::Changed(_)), "{event:?}");
        let answer = event.sdp().unwrap();
        assert_eq!(MediaDirection::of(answer), MediaDirection::RecvOnly);
        assert!(answer.contains("o=- 5 3 IN"), "her hold was 2: {answer}");
        let event = his.next().await.unwrap();
        assert!(matches!(event, CallEvent::ChangeRequested(_)), "{event:?}");
        let offer = event.sdp().unwrap();
        assert_eq!(MediaDirection::of(offer), MediaDirection::Inactive);
        assert!(offer.contains("o=- 5 4 IN"), "{offer}");
        his.accept(&MediaDirection::Inactive.in_sdp(HIS))
            .await
            .unwrap();
        let event = hers.next().await.unwrap();
        assert!(matches!(event, CallEvent::Acknowledged(_)), "{event:?}");
        let event = hers.next().await.unwrap();
        assert!(matches!(event, CallEvent::Changed(_)), "{event:?}");
        assert!(event.sdp().unwrap().contains("o=- 6 3 IN"), "{event:?}");
        // What was agreed at last is what is resumed.
        hers.resume().await.unwrap();
        let (offered, _) = tokio::join!(
            async {
                assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
                takes(&mut his, HIS).await
            },
            is_changed(&mut hers)
        );
        assert_eq!(offered, MediaDirection::RecvOnly);
    });
}

/// An offer of the application's own says the same after 491 as before, under a version that follows what was answered meanwhile.
#[test]
fn an_offer_of_the_applications_that_met_the_peers_keeps_its_text_and_not_its_version() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let wanted = HERS.replace(" 5 1 ", " 5 2 ").replace("4000", "4010");
        let (one, other) = tokio::join!(hers.change(Some(&wanted)), his.hold());
        assert!(one.is_ok() && other.is_ok());
        tokio::join!(takes(&mut hers, HERS), is_changed(&mut his));
        let event = his.next().await.unwrap();
        assert!(matches!(event, CallEvent::ChangeRequested(_)), "{event:?}");
        assert_eq!(
            event.sdp().unwrap(),
            wanted.replace(" 5 2 ", " 5 4 "),
            "3 is her answer"
        );
    });
}

/// Both hold at once, again and again: one of them waits (491), and both come through.
#[test]
fn both_hold_at_once_on_bad_networks() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        network.set_conditions(Conditions::rough());
        let holds = async |call: &mut CallHandle, own: &str| {
            let (mut is_asked, mut is_held) = (false, false);
            // The peer may be faster; then it is held after that.
            let mut is_under_way = call.hold().await.is_ok();
            while !(is_asked && is_held) {
                match call.next().await.unwrap() {
                    CallEvent::ChangeRequested(_) => call.accept(own).await.unwrap(),
                    CallEvent::Acknowledged(_) => {
                        is_asked = true;
                        if !is_under_way {
                            call.hold().await.unwrap();
                            is_under_way = true;
                        }
                    }
                    CallEvent::Changed(_) => is_held = true,
                    other => panic!("{other:?}"),
                }
            }
        };
        let both = async { tokio::join!(holds(&mut hers, HERS), holds(&mut his, HIS)) };
        let both = tokio::time::timeout(std::time::Duration::from_secs(300), both);
        assert!(both.await.is_ok());
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        let end = his.ended().await;
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

#[test]
fn who_holds_or_resumes_once_more_asks_once_more() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        for _ in 0..2 {
            hers.hold().await.unwrap();
            let (offered, _) = tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
            assert_eq!(offered, MediaDirection::SendOnly);
        }
        for _ in 0..2 {
            hers.resume().await.unwrap();
            let (offered, _) = tokio::join!(takes(&mut his, HIS), is_changed(&mut hers));
            assert_eq!(offered, MediaDirection::SendRecv);
        }
    });
}

/// RFC 3261 §8.1.3.1: an error of the transport is taken for a 503.
#[test]
fn a_hold_that_does_not_reach_the_peer_is_refused_with_503_and_the_call_stays_up() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, _his) = talking(&alice, &mut bob).await;
        // His port is closed now.
        drop(bob);
        hers.hold().await.unwrap();
        match hers.next().await.unwrap() {
            CallEvent::ChangeRefused(answer) => assert_eq!(answer.status().as_u16(), 503),
            other => panic!("{other:?}"),
        }
        let next = tokio::time::timeout(Duration::from_secs(600), hers.next()).await;
        assert!(next.is_err(), "{next:?}");
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
    });
}

/// 64*T1 for the re-INVITE, and as long for the BYE.
#[test]
fn a_hold_that_a_silent_peer_never_answers_is_the_end_of_the_call() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, _his) = talking(&alice, &mut bob).await;
        network.part(ALICE.parse().unwrap(), BOB.parse().unwrap());
        let since = tokio::time::Instant::now();
        hers.hold().await.unwrap();
        let event = hers.next().await.unwrap();
        assert!(
            matches!(event, CallEvent::Ended(CallEnd::Lost)),
            "{event:?}"
        );
        let waited = since.elapsed().as_secs();
        assert!((64..66).contains(&waited), "{waited} s");
    });
}
