//! Calls that are transferred (RFC 3515, RFC 3891, RFC 5589).

use crate::exchange::{exchange, exchange_for, said};
use crate::phone::*;
use sipora_message::{HeaderName, Method, Request};
use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, CallOptions, Error, StatusCode, TransferReport, TransferRequest,
};
use std::time::Duration;

use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

pub async fn three(network: &SimNetwork) -> (Phone, Phone, Phone) {
    let allowing =
        async |address| Phone::with(network, address, |builder| builder.with_transfers()).await;
    (
        allowing(ALICE).await,
        allowing(BOB).await,
        allowing(CAROL).await,
    )
}

pub async fn is_asked(call: &mut CallHandle) -> TransferRequest {
    match call.next().await.unwrap() {
        CallEvent::TransferRequested(wish) => wish,
        other => panic!("{other:?}"),
    }
}

/// Reads what is told of a transfer until nothing more will be.
pub async fn told(call: &mut CallHandle) -> Vec<TransferReport> {
    let mut told = Vec::new();
    while !told
        .last()
        .is_some_and(|report: &TransferReport| report.is_over)
    {
        match call.next().await.unwrap() {
            CallEvent::TransferProgress(report) => told.push(report),
            other => panic!("{other:?}"),
        }
    }
    told
}

pub fn offering() -> CallOptions {
    CallOptions::new().with_sdp(OFFER)
}

#[test]
fn a_blind_transfer_is_followed_and_told_of() {
    scene(|network| async move {
        let (alice, mut bob, mut carol) = three(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let bobs = async {
            let wish = is_asked(&mut his).await;
            assert!(!wish.is_attended());
            assert_eq!(wish.target().unwrap().as_str(), uri(CAROL));
            let by = wish.referred_by().unwrap();
            assert_eq!(by, "<sip:user-1@example.com>");
            let mut new = his.follow(&wish, offering()).await.unwrap();
            assert_eq!(new.remote_uri(), uri(CAROL));
            new.answered().await.unwrap();
            new
        };
        let carols = async {
            let call = carol.is_called().await;
            let invite = call.invite().unwrap();
            let by = invite.headers().text(&"Referred-By".into()).unwrap();
            assert_eq!(by, "<sip:user-1@example.com>");
            call.ring().await.unwrap();
            call.accept(ANSWER).await.unwrap();
            call
        };
        let transfer = uri(CAROL);
        let asks = hers.transfer(&transfer);
        let (asked, mut new, mut theirs) = tokio::join!(asks, bobs, carols);
        assert!(asked.unwrap().is_success());
        let told = told(&mut hers).await;
        assert!(told.last().unwrap().has_succeeded(), "{told:?}");
        // Who has transferred hangs up (RFC 5589 §6).
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
        new.hang_up().await.unwrap();
        assert!(matches!(new.ended().await, CallEnd::HungUp));
        assert!(matches!(theirs.ended().await, CallEnd::PeerHungUp(_)));
        settle().await;
        for phone in [&alice, &bob, &carol] {
            phone.assert_idle();
        }
    });
}

/// The side of an attended transfer that is transferred: its INVITE takes the place of the call that Refer-To names (RFC 3891 §3).
#[test]
fn what_a_transfer_replaces_is_named_in_the_invite_and_nothing_that_does_harm() {
    scene(|network| async move {
        let (alice, mut bob, _carol) = three(&network).await;
        let (_peer, kept) = exchange(&network, "192.0.2.4", |_, _| vec![said(603, "n")]).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let named = "sip:dave@192.0.2.4;method=INVITE?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2&Subject=Lunch&Route=no&Priority=no";
        let bobs = async {
            let wish = is_asked(&mut his).await;
            assert!(wish.is_attended());
            let mut new = his.follow(&wish, offering()).await.unwrap();
            assert!(new.answered().await.is_err());
        };
        let (asked, ()) = tokio::join!(hers.transfer(named), bobs);
        assert!(asked.unwrap().is_success());
        let invite = kept.nth(Method::Invite, 0).await;
        assert_eq!(invite.uri_text(), "sip:dave@192.0.2.4");
        let text = |name: HeaderName| invite.headers().text(&name).map(|text| text.into_owned());
        let replaces = text(HeaderName::Replaces);
        assert_eq!(replaces.as_deref(), Some("x@y;to-tag=1;from-tag=2"));
        assert_eq!(text(HeaderName::Require).as_deref(), Some("replaces"));
        assert_eq!(text(HeaderName::Subject).as_deref(), Some("Lunch"));
        assert_eq!(text(HeaderName::Priority), None);
        assert_eq!(text(HeaderName::Route), None);
        assert_eq!(
            told(&mut hers).await.last().unwrap().status,
            Some(StatusCode::DECLINE)
        );

        // What is no call is refused, and that is told.
        let bobs = async {
            let wish = is_asked(&mut his).await;
            let followed = his.follow(&wish, offering()).await;
            assert!(
                matches!(followed, Err(Error::InvalidRequest { .. })),
                "{followed:?}"
            );
        };
        let (asked, ()) = tokio::join!(hers.transfer("sip:dave@192.0.2.4;method=BYE"), bobs);
        assert!(asked.unwrap().is_success());
        let told = told(&mut hers).await;
        assert_eq!(
            told.last().unwrap().status,
            Some(StatusCode::SERVICE_UNAVAILABLE)
        );
    });
}

#[test]
fn a_transfer_that_fails_is_told_and_the_call_goes_on() {
    scene(|network| async move {
        let (alice, mut bob, mut carol) = three(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let bobs = async {
            let wish = is_asked(&mut his).await;
            let mut new = his.follow(&wish, offering()).await.unwrap();
            assert!(matches!(new.answered().await, Err(Error::Rejected(_))));
        };
        let carols = async {
            let call = carol.is_called().await;
            call.reject(StatusCode::BUSY_HERE).await.unwrap();
        };
        let transfer = uri(CAROL);
        let (asked, (), ()) = tokio::join!(hers.transfer(&transfer), bobs, carols);
        assert!(asked.unwrap().is_success());
        let told = told(&mut hers).await;
        assert_eq!(told.last().unwrap().status, Some(StatusCode::BUSY_HERE));
        goes_on(&mut hers, &mut his).await;
    });
}

/// The session can still be changed.
async fn goes_on(hers: &mut CallHandle, his: &mut CallHandle) {
    hers.change(Some(CHANGED)).await.unwrap();
    let wish = his.next().await;
    assert!(matches!(wish, Some(CallEvent::ChangeRequested(_))));
    his.accept(ANSWER).await.unwrap();
    assert!(matches!(hers.next().await, Some(CallEvent::Changed(_))));
}

/// RFC 5057 §5.1: some refusals end the call with the transfer, and most do not; 480, which would end it for a NOTIFY, says nothing
/// of the call but that nobody is there to be transferred.
#[test]
fn a_transfer_that_is_refused_leaves_the_call_unless_that_is_not_known_any_more() {
    for (status, is_over) in [
        (480, false),
        (403, false),
        (405, false),
        (429, false),
        (503, false),
        (603, false),
        (404, true),
        (481, true),
    ] {
        scene(|network| async move {
            let methods = &[Method::Invite, Method::Refer];
            let script = move |request: &Request, _| match request.method() {
                Method::Refer => vec![said(status, "callee")],
                _ => vec![said(200, "callee").with_sdp(ANSWER)],
            };
            let peer = exchange_for(methods, &network, BOB, script).await;
            let alice = Phone::new(&network, ALICE).await;
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            match call.transfer(&uri(CAROL)).await {
                Err(Error::Rejected(answer)) => assert_eq!(answer.status().as_u16(), status),
                other => panic!("{other:?}"),
            }
            if is_over {
                assert!(matches!(call.ended().await, CallEnd::Lost), "{status}");
            } else {
                call.change(Some(OFFER)).await.unwrap();
                let changed = call.next().await;
                assert!(matches!(changed, Some(CallEvent::Changed(_))), "{status}");
                call.hang_up().await.unwrap();
                assert!(matches!(call.ended().await, CallEnd::HungUp), "{status}");
            }
            peer.kept.nth(Method::Bye, 0).await;
            settle().await;
            alice.assert_idle();
        });
    }
}

/// Whoever asked for it need not wait for five minutes.
#[test]
fn who_gives_up_a_call_that_a_transfer_asked_for_says_so() {
    scene(|network| async move {
        let (alice, mut bob, mut carol) = three(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let transfer = uri(CAROL);
        let gives_up = async {
            let wish = is_asked(&mut his).await;
            drop(his.follow(&wish, offering()).await.unwrap());
        };
        let (asked, ()) = tokio::join!(hers.transfer(&transfer), gives_up);
        assert!(asked.unwrap().is_success());
        let last = told(&mut hers).await.pop().unwrap();
        assert_eq!(last.status, Some(StatusCode::REQUEST_TERMINATED));
        let mut rung = carol.is_called().await;
        assert!(matches!(rung.ended().await, CallEnd::PeerCancelled(_)));
        goes_on(&mut hers, &mut his).await;
    });
}

#[test]
fn a_transfer_is_refused_by_who_does_not_want_it_or_allows_none() {
    scene(|network| async move {
        let (alice, mut bob, _carol) = three(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let refuses = async {
            let wish = is_asked(&mut his).await;
            his.refuse_transfer(&wish, StatusCode::DECLINE)
                .await
                .unwrap();
            assert!(matches!(
                his.follow(&wish, offering()).await,
                Err(Error::TooLate)
            ));
        };
        let transfer = uri(CAROL);
        let (asked, ()) = tokio::join!(hers.transfer(&transfer), refuses);
        match asked {
            Err(Error::Rejected(answer)) => assert_eq!(answer.status(), StatusCode::DECLINE),
            other => panic!("{other:?}"),
        }
        goes_on(&mut hers, &mut his).await;
        assert!(matches!(
            hers.transfer("carol").await,
            Err(Error::InvalidUri { .. })
        ));

        let mut dave = Phone::new(&network, "192.0.2.4").await;
        let (hers, _his) = up(&alice, &mut dave).await;
        match hers.transfer(&transfer).await {
            Err(Error::Rejected(answer)) => assert_eq!(answer.status().as_u16(), 405),
            other => panic!("{other:?}"),
        }
    });
}

/// An application that has no arm for it.
#[test]
fn a_transfer_that_is_passed_over_is_refused_at_once_and_the_call_ends_with_bye() {
    scene(|network| async move {
        let (alice, mut bob, _carol) = three(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let passing = tokio::spawn(async move {
            while let Some(event) = his.next().await {
                if let CallEvent::Ended(end) = event {
                    return end;
                }
            }
            panic!("it has no end");
        });
        let begins = tokio::time::Instant::now();
        match hers.transfer(&uri(CAROL)).await {
            Err(Error::Rejected(answer)) => assert_eq!(answer.status(), StatusCode::DECLINE),
            other => panic!("{other:?}"),
        }
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        assert!(matches!(passing.await.unwrap(), CallEnd::PeerHungUp(_)));
        assert!(begins.elapsed() < Duration::from_secs(2));
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

/// RFC 3515 §2.4.2: it is accepted when nobody has decided; that is taken back when nobody will.
#[test]
fn a_transfer_that_is_given_up_late_is_told_and_the_call_ends_with_bye() {
    scene(|network| async move {
        let (alice, mut bob, _carol) = three(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let transfer = uri(CAROL);
        let (asked, wish) = tokio::join!(hers.transfer(&transfer), is_asked(&mut his));
        assert!(asked.unwrap().is_success());
        drop(wish.clone());
        drop(wish);
        let told = told(&mut hers).await;
        assert_eq!(told.last().unwrap().status, Some(StatusCode::DECLINE));
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

#[test]
fn a_new_call_that_is_dropped_together_with_the_old_one_is_told_of() {
    for its_call_first in [false, true] {
        scene(|network| async move {
            let (alice, mut bob, mut carol) = three(&network).await;
            let (mut hers, mut his) = up(&alice, &mut bob).await;
            let transfer = uri(CAROL);
            let follows = async {
                let wish = is_asked(&mut his).await;
                let mut new = his.follow(&wish, offering()).await.unwrap();
                let rung = carol.is_called().await;
                rung.ring().await.unwrap();
                assert!(matches!(new.next().await, Some(CallEvent::Progress(_))));
                (new, rung)
            };
            let (asked, (new, mut rung)) = tokio::join!(hers.transfer(&transfer), follows);
            assert!(asked.unwrap().is_success());
            match its_call_first {
                true => drop((his, new)),
                false => drop((new, his)),
            }
            let mut last = None;
            while let Some(event) = hers.next().await {
                if let CallEvent::TransferProgress(report) = event {
                    last = report.status;
                }
            }
            assert_eq!(last, Some(StatusCode::REQUEST_TERMINATED));
            assert!(matches!(rung.ended().await, CallEnd::PeerCancelled(_)));
        });
    }
}

#[test]
fn who_only_waits_for_the_end_is_not_transferred() {
    scene(|network| async move {
        let (alice, mut bob, _carol) = three(&network).await;
        let (hers, mut his) = up(&alice, &mut bob).await;
        let waiting = tokio::spawn(async move { his.ended().await });
        let refused = hers.transfer(&uri(CAROL)).await;
        assert!(matches!(refused, Err(Error::Rejected(_))), "{refused:?}");
        hers.hang_up().await.unwrap();
        assert!(matches!(waiting.await.unwrap(), CallEnd::PeerHungUp(_)));
    });
}

#[test]
fn calls_are_transferred_on_bad_networks() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob, mut carol) = three(&network).await;
        let (mut to_bob, mut bobs) = up(&alice, &mut bob).await;
        network.set_conditions(Conditions::rough());
        let following = async {
            let wish = is_asked(&mut bobs).await;
            let mut new = bobs.follow(&wish, offering()).await.unwrap();
            new.answered().await.unwrap();
            new
        };
        let taking = async {
            let new = carol.is_called().await;
            new.ring().await.unwrap();
            new.accept(ANSWER).await.unwrap();
            new
        };
        let place = uri(CAROL);
        let asking = to_bob.transfer(&place);
        let (asked, new, theirs) = tokio::join!(asking, following, taking);
        assert!(asked.unwrap().is_success());
        assert!(told(&mut to_bob).await.last().unwrap().has_succeeded());
        to_bob.hang_up().await.unwrap();
        drop((to_bob, bobs, new, theirs));
        settle().await;
        settle().await;
        for phone in [&alice, &bob, &carol] {
            phone.assert_idle();
        }
    });
}
