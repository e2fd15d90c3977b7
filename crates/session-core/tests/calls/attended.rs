//! Attended transfer (RFC 5589 §7, RFC 5359 §2.5), and calls that take the place of others without one (RFC 3891).

use crate::phone::*;
use crate::transferred::{is_asked, offering, three, told};
use sipora_session_core::{CallEnd, CallEvent, CallHandle, Error, StatusCode};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use std::time::Duration;

/// Alice speaks with Bob, and with Carol. Her ends, and theirs.
struct Consulted {
    alice: Phone,
    bob: Phone,
    carol: Phone,
    to_bob: CallHandle,
    bobs: CallHandle,
    to_carol: CallHandle,
    carols: CallHandle,
}

async fn consulted(network: &SimNetwork) -> Consulted {
    let (alice, mut bob, mut carol) = three(network).await;
    let (to_bob, bobs) = up(&alice, &mut bob).await;
    let (to_carol, carols) = up(&alice, &mut carol).await;
    Consulted {
        alice,
        bob,
        carol,
        to_bob,
        bobs,
        to_carol,
        carols,
    }
}

/// Follows what the peer asks for: the new call, and how it was answered.
async fn follows(call: &mut CallHandle) -> (CallHandle, Result<u16, Error>) {
    let wish = is_asked(call).await;
    assert!(wish.is_attended());
    let mut new = call.follow(&wish, offering()).await.unwrap();
    let answered = new.answered().await;
    (new, answered.map(|answer| answer.status().as_u16()))
}

pub fn status(answered: Result<u16, Error>) -> u16 {
    match answered {
        Ok(status) => status,
        Err(Error::Rejected(answer)) => answer.status().as_u16(),
        Err(other) => panic!("{other:?}"),
    }
}

/// The session goes on.
pub async fn is_up(one: &mut CallHandle, other: &mut CallHandle) {
    one.change(Some(CHANGED)).await.unwrap();
    loop {
        match other.next().await.unwrap() {
            CallEvent::ChangeRequested(_) => break other.accept(ANSWER).await.unwrap(),
            CallEvent::Acknowledged(_) | CallEvent::TransferProgress(_) => {}
            unexpected => panic!("{unexpected:?}"),
        }
    }
    assert!(matches!(one.next().await, Some(CallEvent::Changed(_))));
}

pub async fn ends_with(phones: [&Phone; 3]) {
    settle().await;
    for phone in phones {
        phone.assert_idle();
    }
}

#[test]
fn an_attended_transfer_takes_the_place_of_the_call_that_asked_for_it() {
    scene(|network| async move {
        let Consulted {
            alice,
            bob,
            mut carol,
            mut to_bob,
            mut bobs,
            mut to_carol,
            mut carols,
        } = consulted(&network).await;
        let replacing = async {
            let new = carol.is_called().await;
            assert_eq!(new.replaces(), Some(carols.key()));
            let by = new.referred_by();
            assert_eq!(by.as_deref(), Some("<sip:user-1@example.com>"));
            new.accept_replacing(ANSWER).await.unwrap();
            let end = carols.ended().await;
            assert!(matches!(end, CallEnd::Replaced(by) if by == new.key()));
            new
        };
        let asks = to_bob.transfer_to(&to_carol);
        let (asked, (mut new, answered), mut theirs) =
            tokio::join!(asks, follows(&mut bobs), replacing);
        assert!(asked.unwrap().is_success());
        assert_eq!(status(answered), 200);
        assert!(told(&mut to_bob).await.last().unwrap().has_succeeded());
        assert!(matches!(to_carol.ended().await, CallEnd::PeerHungUp(_)));
        to_bob.hang_up().await.unwrap();
        assert!(matches!(to_bob.ended().await, CallEnd::HungUp));
        assert!(matches!(bobs.ended().await, CallEnd::PeerHungUp(_)));
        theirs.hang_up().await.unwrap();
        assert!(matches!(theirs.ended().await, CallEnd::HungUp));
        assert!(matches!(new.ended().await, CallEnd::PeerHungUp(_)));
        ends_with([&alice, &bob, &carol]).await;
    });
}

/// Whoever has called whom: the tags of a call that came in stand the other way round.
#[test]
fn whom_we_transfer_to_may_have_called_us() {
    scene(|network| async move {
        let (mut alice, bob, mut carol) = three(&network).await;
        let (mut bobs, mut from_bob) = up(&bob, &mut alice).await;
        let (mut carols, from_carol) = up(&carol, &mut alice).await;
        let replacing = async {
            let new = carol.is_called().await;
            assert_eq!(new.replaces(), Some(carols.key()));
            new.accept_replacing(ANSWER).await.unwrap();
            assert!(matches!(carols.ended().await, CallEnd::Replaced(_)));
            new
        };
        let asks = from_bob.transfer_to(&from_carol);
        let (asked, (_new, answered), _theirs) = tokio::join!(asks, follows(&mut bobs), replacing);
        assert!(asked.unwrap().is_success());
        assert_eq!(status(answered), 200);
        assert!(told(&mut from_bob).await.last().unwrap().has_succeeded());
    });
}

/// RFC 5589 §7.5; what does not know Replaces must not take it for a call.
#[test]
fn whom_we_transfer_to_is_called_at_its_address_where_its_contact_leads_nowhere() {
    scene(|network| async move {
        let mut all = consulted(&network).await;
        let address = format!("sip:carol@{CAROL};x=y");
        let asks = all.to_bob.transfer_to_address(&all.to_carol, &address);
        let following = async {
            let wish = is_asked(&mut all.bobs).await;
            let named = wish.target().unwrap();
            assert_eq!(named.header("Require").as_deref(), Some("replaces"));
            let mut new = all.bobs.follow(&wish, offering()).await.unwrap();
            assert_eq!(new.remote_uri(), address);
            new.answered().await.unwrap();
            new
        };
        let replacing = async {
            let new = all.carol.is_called().await;
            assert_eq!(new.replaces(), Some(all.carols.key()));
            let invite = new.invite().unwrap();
            assert_eq!(invite.uri_text(), address);
            let required: Vec<_> = invite.headers().require().collect();
            assert_eq!(required, ["replaces"]);
            new.accept_replacing(ANSWER).await.unwrap();
            new
        };
        let (asked, _new, _theirs) = tokio::join!(asks, following, replacing);
        assert!(asked.unwrap().is_success());
        assert!(told(&mut all.to_bob).await.last().unwrap().has_succeeded());
        assert!(matches!(all.carols.ended().await, CallEnd::Replaced(_)));
        let wrong = all.to_bob.transfer_to_address(&all.to_carol, "carol").await;
        assert!(matches!(wrong, Err(Error::InvalidUri { .. })), "{wrong:?}");
    });
}

/// RFC 3891 §3: who does not let itself be replaced "MUST leave the matched dialog unchanged".
#[test]
fn a_call_that_may_not_take_the_place_of_another_is_refused_and_both_go_on() {
    scene(|network| async move {
        let mut all = consulted(&network).await;
        let refusing = async {
            let new = all.carol.is_called().await;
            assert_eq!(new.replaces(), Some(all.carols.key()));
            new.reject(StatusCode::FORBIDDEN).await.unwrap();
        };
        let asks = all.to_bob.transfer_to(&all.to_carol);
        let (asked, (_, answered), ()) = tokio::join!(asks, follows(&mut all.bobs), refusing);
        assert!(asked.unwrap().is_success());
        assert_eq!(status(answered), 403);
        let told = told(&mut all.to_bob).await;
        assert_eq!(told.last().unwrap().status, Some(StatusCode::FORBIDDEN));
        is_up(&mut all.to_carol, &mut all.carols).await;
        is_up(&mut all.to_bob, &mut all.bobs).await;
    });
}

/// Who takes every call that comes hangs up none of those that there are.
#[test]
fn a_call_that_would_replace_another_is_not_accepted_as_others_are() {
    scene(|network| async move {
        let mut all = consulted(&network).await;
        let following = async {
            let wish = is_asked(&mut all.bobs).await;
            all.bobs.follow(&wish, offering()).await.unwrap()
        };
        let (asked, mut theirs) = tokio::join!(all.to_bob.transfer_to(&all.to_carol), following);
        assert!(asked.unwrap().is_success());
        let deciding = async {
            let mut new = all.carol.is_called().await;
            assert_eq!(new.replaces(), Some(all.carols.key()));
            let accepted = new.accept(ANSWER).await;
            assert!(
                matches!(accepted, Err(Error::NotNow { .. })),
                "{accepted:?}"
            );
            // It goes on, until somebody agrees.
            all.carols.change(Some(CHANGED)).await.unwrap();
            let event = all.carols.next().await;
            assert!(matches!(event, Some(CallEvent::Changed(_))), "{event:?}");
            new.accept_replacing(ANSWER).await.unwrap();
            let end = all.carols.ended().await;
            assert!(matches!(end, CallEnd::Replaced(by) if by == new.key()));
            assert!(matches!(new.next().await, Some(CallEvent::Acknowledged(_))));
            new
        };
        let consents = async {
            let event = all.to_carol.next().await;
            assert!(
                matches!(event, Some(CallEvent::ChangeRequested(_))),
                "{event:?}"
            );
            all.to_carol.accept(OFFER).await.unwrap();
        };
        let (mut new, answered, ()) = tokio::join!(deciding, theirs.answered(), consents);
        assert!(answered.is_ok(), "{answered:?}");
        // What comes later in it is for accept again.
        theirs.change(Some(CHANGED)).await.unwrap();
        let event = new.next().await;
        assert!(
            matches!(event, Some(CallEvent::ChangeRequested(_))),
            "{event:?}"
        );
        new.accept(ANSWER).await.unwrap();
        let event = theirs.next().await;
        assert!(matches!(event, Some(CallEvent::Changed(_))), "{event:?}");
    });
}

/// 420: the INVITE requires what its target was not built for.
#[test]
fn who_allows_no_transfers_is_not_transferred_to() {
    scene(|network| async move {
        let (alice, mut bob, _) = three(&network).await;
        let mut dave = Phone::new(&network, "192.0.2.4").await;
        let (mut to_bob, mut bobs) = up(&alice, &mut bob).await;
        let (mut to_dave, mut daves) = up(&alice, &mut dave).await;
        let asks = to_bob.transfer_to(&to_dave);
        let (asked, (_, answered)) = tokio::join!(asks, follows(&mut bobs));
        assert!(asked.unwrap().is_success());
        assert_eq!(status(answered), 420);
        let told = told(&mut to_bob).await;
        assert_eq!(told.last().unwrap().status, Some(StatusCode::BAD_EXTENSION));
        is_up(&mut to_dave, &mut daves).await;
    });
}

#[test]
fn what_replaces_a_call_that_nobody_knows_gets_481_and_one_that_is_over_603() {
    scene(|network| async move {
        let mut all = consulted(&network).await;
        let unknown = format!("{}?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2", uri(CAROL));
        let asks = all.to_bob.transfer(&unknown);
        let (asked, (_, answered)) = tokio::join!(asks, follows(&mut all.bobs));
        assert!(asked.unwrap().is_success());
        assert_eq!(status(answered), 481);
        let last = told(&mut all.to_bob).await.pop().unwrap();
        assert_eq!(last.status, Some(StatusCode::CALL_DOES_NOT_EXIST));

        // Carol hangs up while Bob is being told about her.
        let asked = all.to_bob.transfer_to(&all.to_carol);
        let wished = async {
            let wish = is_asked(&mut all.bobs).await;
            all.carols.hang_up().await.unwrap();
            assert!(matches!(all.carols.ended().await, CallEnd::HungUp));
            let mut new = all.bobs.follow(&wish, offering()).await.unwrap();
            new.answered().await.map(|answer| answer.status().as_u16())
        };
        let (asked, answered) = tokio::join!(asked, wished);
        assert!(asked.unwrap().is_success());
        assert_eq!(status(answered), 603);
        let last = told(&mut all.to_bob).await.pop().unwrap();
        assert_eq!(last.status, Some(StatusCode::DECLINE));
        assert!(matches!(all.to_carol.ended().await, CallEnd::PeerHungUp(_)));
        is_up(&mut all.to_bob, &mut all.bobs).await;
        assert!(all.carol.client.call_metrics().calls == 0);
    });
}

#[test]
fn a_transfer_that_names_no_call_to_replace_is_not_followed() {
    scene(|network| async move {
        let (alice, mut bob, _carol) = three(&network).await;
        let (mut to_bob, mut bobs) = up(&alice, &mut bob).await;
        let named = format!("{}?Replaces=without-tags", uri(CAROL));
        let following = async {
            let wish = is_asked(&mut bobs).await;
            assert!(wish.is_attended());
            let followed = bobs.follow(&wish, offering()).await;
            assert!(matches!(followed, Err(Error::InvalidRequest { .. })));
        };
        let (asked, ()) = tokio::join!(to_bob.transfer(&named), following);
        assert!(asked.unwrap().is_success());
        let last = told(&mut to_bob).await.pop().unwrap();
        assert_eq!(last.status, Some(StatusCode::SERVICE_UNAVAILABLE));
    });
}

#[test]
fn only_another_call_of_ours_that_is_up_can_be_transferred_to() {
    scene(|network| async move {
        let all = consulted(&network).await;
        let wrong = |asked: Result<_, Error>| {
            assert!(
                matches!(asked, Err(Error::InvalidRequest { .. })),
                "{asked:?}"
            );
        };
        wrong(all.to_bob.transfer_to(&all.to_bob).await);
        wrong(all.to_bob.transfer_to(&all.carols).await);
        let (alice, mut bob) = (all.alice, all.bob);
        let rings = alice.calls(BOB).await;
        let asked = all.to_bob.transfer_to(&rings).await;
        assert!(matches!(asked, Err(Error::NotNow { .. })), "{asked:?}");
        let _rung = bob.is_called().await;
        let asked = rings.transfer_to(&all.to_carol).await;
        assert!(matches!(asked, Err(Error::NotNow { .. })), "{asked:?}");
    });
}

#[test]
fn calls_are_transferred_with_attendance_on_bad_networks() {
    for_each_seed(seeds(), |network| async move {
        let Consulted {
            alice,
            bob,
            mut carol,
            mut to_bob,
            mut bobs,
            mut to_carol,
            mut carols,
        } = consulted(&network).await;
        network.set_conditions(Conditions::rough());
        let (accepts, thinks) = (network.random(0..=3) > 0, network.random(0..=4_000));
        let deciding = async {
            let new = carol.is_called().await;
            assert_eq!(new.replaces(), Some(carols.key()));
            tokio::time::sleep(Duration::from_millis(thinks)).await;
            match accepts {
                true => {
                    new.accept_replacing(ANSWER).await.unwrap();
                    let end = carols.ended().await;
                    assert!(matches!(end, CallEnd::Replaced(by) if by == new.key()));
                }
                false => new.reject(StatusCode::DECLINE).await.unwrap(),
            }
            new
        };
        let asks = to_bob.transfer_to(&to_carol);
        let (asked, (mut new, answered), mut theirs) =
            tokio::join!(asks, follows(&mut bobs), deciding);
        assert!(asked.unwrap().is_success());
        assert_eq!(status(answered), if accepts { 200 } else { 603 });
        let last = told(&mut to_bob).await.pop().unwrap();
        assert_eq!(last.has_succeeded(), accepts);
        match accepts {
            true => {
                let end = to_carol.ended().await;
                assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
            }
            false => to_carol.hang_up().await.unwrap(),
        }
        to_bob.hang_up().await.unwrap();
        let (ours, his) = tokio::join!(to_bob.ended(), bobs.ended());
        assert!(matches!(ours, CallEnd::HungUp), "{ours:?}");
        assert!(matches!(his, CallEnd::PeerHungUp(_)), "{his:?}");
        if accepts {
            new.hang_up().await.unwrap();
            let (his, hers) = tokio::join!(new.ended(), theirs.ended());
            assert!(matches!(his, CallEnd::HungUp), "{his:?}");
            assert!(matches!(hers, CallEnd::PeerHungUp(_)), "{hers:?}");
        }
        drop((to_bob, to_carol, bobs, carols, new, theirs));
        settle().await;
        ends_with([&alice, &bob, &carol]).await;
    });
}
