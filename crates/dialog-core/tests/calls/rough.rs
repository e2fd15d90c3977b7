//! Calls between two user agents on a network that loses, repeats and overtakes.

use crate::support::*;
use sipora_dialog_core::{Call, CallEnd, CallError, CallEvent};
use sipora_message::StatusCode;
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

async fn two(network: &SimNetwork) -> (Agent, Agent) {
    network.set_conditions(Conditions::rough());
    let alice = Agent::new(network, ALICE, 1).await;
    let bob = Agent::new(network, BOB, 2).await;
    (alice, bob)
}

/// Both forget everything, in the time that transactions take.
async fn quiet(agents: [&Agent; 2]) {
    pass(120_000).await;
    for agent in agents {
        agent.assert_idle();
    }
}

#[test]
fn a_call_is_made_changed_and_ended() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let (to, caller_ends) = (network.random(0..=1) == 0, network.random(0..=1) == 0);
        let answering = async move {
            let mut call = bob.incoming.next().await.unwrap();
            call.ring().await.unwrap();
            pass(network.random(0..=3_000)).await;
            call.accept(sdp("answer")).await.unwrap();
            loop {
                match call.next().await.unwrap() {
                    CallEvent::Reinvited(_) => {
                        call.accept(sdp("held")).await.unwrap();
                        if !caller_ends {
                            call.hang_up().await.unwrap();
                        }
                    }
                    CallEvent::Ended(end) => break (bob, end),
                    _ => {}
                }
            }
        };
        let calling = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            let hold = if to { Some(sdp("hold")) } else { None };
            call.reinvite(hold).await.unwrap();
            loop {
                match call.next().await.unwrap() {
                    CallEvent::ReinviteAccepted(_) => {
                        if !to {
                            call.acknowledge(sdp("answer")).await.unwrap();
                        }
                        if caller_ends {
                            call.hang_up().await.unwrap();
                        }
                    }
                    CallEvent::Ended(end) => break end,
                    _ => {}
                }
            }
        };
        let ((bob, his), hers) = tokio::join!(answering, calling);
        let (one, other) = match caller_ends {
            true => (hers, his),
            false => (his, hers),
        };
        assert!(matches!(one, CallEnd::HungUp), "{one:?}");
        assert!(matches!(other, CallEnd::PeerHungUp(_)), "{other:?}");
        quiet([&alice, &bob]).await;
    });
}

/// The caller gives up at any time, and the callee accepts at any time: either way both agree, and nothing is left.
#[test]
fn whenever_a_call_is_given_up_both_agree_that_it_is_over() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let (patience, thought) = (network.random(0..=2_000), network.random(0..=2_000));
        let hears = network.random(0..=3) > 0;
        let answering = async move {
            // A call that was given up before it was sent never comes.
            let coming = bob.incoming.next();
            let coming = tokio::time::timeout(std::time::Duration::from_secs(40), coming);
            if let Ok(Some(mut call)) = coming.await {
                if hears {
                    let _ = call.ring().await;
                }
                pass(thought).await;
                let accepted = call.accept(sdp("answer")).await;
                let end = call.ended().await;
                match accepted {
                    // The CANCEL had come, or comes too late; then the BYE ends it.
                    Ok(()) => assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}"),
                    Err(_) => assert!(matches!(end, CallEnd::PeerCancelled(_)), "{end:?}"),
                }
            }
            bob
        };
        let calling = async {
            let mut call = alice.calls(BOB).await;
            pass(patience).await;
            call.hang_up().await.unwrap();
            let end = call.ended().await;
            assert!(
                matches!(end, CallEnd::Cancelled | CallEnd::HungUp),
                "{end:?}"
            );
        };
        let (bob, ()) = tokio::join!(answering, calling);
        quiet([&alice, &bob]).await;
    });
}

/// Both change the session at once, again and again: in the end both have their way (RFC 3261 §14.1).
#[test]
fn reinvites_that_meet_are_both_carried_out() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let calling = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            call
        };
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            let Some(CallEvent::Acknowledged(_)) = call.next().await else {
                panic!("no ACK");
            };
            call
        };
        let (mut hers, mut his) = tokio::join!(calling, answering);
        let (one, other) = tokio::join!(
            hers.reinvite(Some(sdp("hers"))),
            his.reinvite(Some(sdp("his")))
        );
        one.unwrap();
        other.unwrap();
        async fn carry_on(call: &mut sipora_dialog_core::Call) {
            let (mut ours, mut theirs) = (false, false);
            while !(ours && theirs) {
                match call.next().await.unwrap() {
                    CallEvent::Reinvited(_) => call.accept(sdp("fine")).await.unwrap(),
                    CallEvent::Acknowledged(_) => theirs = true,
                    CallEvent::ReinviteAccepted(_) => ours = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        tokio::join!(carry_on(&mut hers), carry_on(&mut his));
        // Both hang up at once (RFC 5407 §3.2.1).
        let (one, other) = tokio::join!(hers.hang_up(), his.hang_up());
        one.unwrap();
        other.unwrap();
        let (one, other) = tokio::join!(hers.ended(), his.ended());
        for end in [one, other] {
            assert!(
                matches!(end, CallEnd::HungUp | CallEnd::PeerHungUp(_)),
                "{end:?}"
            );
        }
        quiet([&alice, &bob]).await;
    });
}

/// The callee answers reliably, again and again, accepts at once or later, and takes the PRACKs (RFC 3262).
#[test]
fn reliable_answers_come_all_and_in_order() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let (offers, more, thought) = (
            network.random(0..=1) == 0,
            network.random(0..=3),
            network.random(0..=3_000),
        );
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            let progress = StatusCode::SESSION_PROGRESS;
            let body = Some(sdp("first"));
            call.progress_reliably(progress, body).await.unwrap();
            for _ in 0..more {
                call.progress_reliably(progress, None).await.unwrap();
            }
            let mut acknowledged = 0;
            while acknowledged <= more {
                match call.next().await.unwrap() {
                    CallEvent::ProgressAcknowledged(prack) => {
                        assert_eq!(prack.body().is_empty(), offers || acknowledged > 0);
                        acknowledged += 1;
                    }
                    other => panic!("{other:?}"),
                }
                if acknowledged == 1 && thought < 1_000 {
                    break;
                }
            }
            pass(thought).await;
            call.accept(None).await.unwrap();
            call.ended().await
        };
        let calling = async {
            let body = offers.then(|| sdp("offer"));
            let mut invite = alice.asks(BOB);
            if let Some(body) = body {
                invite = invite.body(body);
            }
            let mut call = alice.dialogs.invite(invite, None).await.unwrap();
            let mut told = 0;
            loop {
                match call.next().await.unwrap() {
                    CallEvent::Progress(response) => {
                        told += 1;
                        assert!(response.body().is_empty() || told == 1);
                    }
                    CallEvent::EarlyOffer(response) => {
                        told += 1;
                        let to = response.headers().to().unwrap();
                        let tag = to.tag().unwrap().to_owned();
                        call.acknowledge_progress(&tag, sdp("answer"))
                            .await
                            .unwrap();
                    }
                    CallEvent::Answered(response) => {
                        assert!(response.body().is_empty());
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!((1..=more + 1).contains(&told));
            call.hang_up().await.unwrap();
            assert!(matches!(call.ended().await, CallEnd::HungUp));
        };
        let (end, ()) = tokio::join!(answering, calling);
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        quiet([&alice, &bob]).await;
    });
}

/// How one side changes the session, and what it is told.
#[derive(Clone, Copy)]
enum Change {
    Reinvite,
    Update,
    /// Without an offer: it may cross anything.
    Refresh,
}

impl Change {
    fn drawn(network: &SimNetwork) -> Self {
        match network.random(0..=4) {
            0 | 1 => Self::Reinvite,
            2 | 3 => Self::Update,
            _ => Self::Refresh,
        }
    }

    async fn begins(self, call: &Call) -> Result<(), CallError> {
        match self {
            Self::Reinvite => call.reinvite(Some(sdp("mine"))).await,
            Self::Update => call.update(Some(sdp("mine"))).await,
            Self::Refresh => call.update(None).await,
        }
    }
}

/// Both change the session at once, by re-INVITE or by UPDATE: in the end both have their way (RFC 5407 §3.3.1, §3.3.2).
#[test]
fn changes_of_any_kind_that_meet_are_both_carried_out() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let calling = async {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            call
        };
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            let Some(CallEvent::Acknowledged(_)) = call.next().await else {
                panic!("no ACK");
            };
            call
        };
        let (mut hers, mut his) = tokio::join!(calling, answering);
        let (her_change, his_change) = (Change::drawn(&network), Change::drawn(&network));
        let pause = network.random(0..=200);
        async fn carry_on(call: &mut Call, ours: Change, theirs: Change, pause: u64) {
            pass(pause).await;
            // A refresh is told to nobody.
            let mut told = matches!(theirs, Change::Refresh);
            let (mut begun, mut done) = (false, false);
            while !(told && done) {
                // Theirs may have come, and waits for its answer.
                if !begun {
                    begun = ours.begins(call).await.is_ok();
                }
                let event = call.next();
                let event = tokio::time::timeout(std::time::Duration::from_millis(100), event);
                let Ok(event) = event.await else {
                    continue;
                };
                match event.unwrap() {
                    CallEvent::Reinvited(_) => call.accept(sdp("fine")).await.unwrap(),
                    CallEvent::Offered(_) => {
                        call.answer(sdp("fine")).await.unwrap();
                        told = true;
                    }
                    CallEvent::Acknowledged(_) => told = true,
                    CallEvent::ReinviteAccepted(_) | CallEvent::UpdateAccepted(_) => done = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        tokio::join!(
            carry_on(&mut hers, her_change, his_change, 0),
            carry_on(&mut his, his_change, her_change, pause)
        );
        let (one, other) = tokio::join!(hers.hang_up(), his.hang_up());
        one.unwrap();
        other.unwrap();
        tokio::join!(hers.ended(), his.ended());
        quiet([&alice, &bob]).await;
    });
}

/// The session of an early dialog is changed by both sides, again and again, until the call is accepted.
#[test]
fn an_early_session_is_changed_by_both_sides_and_the_call_is_accepted() {
    for_each_seed(seeds(), |network| async move {
        let (alice, mut bob) = two(&network).await;
        let rings = network.random(1..=4_000);
        let answering = async {
            let mut call = bob.incoming.next().await.unwrap();
            let progress = StatusCode::SESSION_PROGRESS;
            let body = Some(sdp("early"));
            call.progress_reliably(progress, body).await.unwrap();
            let accepts = tokio::time::sleep(std::time::Duration::from_millis(rings));
            tokio::pin!(accepts);
            let (mut has_accepted, mut has_changed) = (false, false);
            loop {
                let event = tokio::select! {
                    event = call.next() => event.unwrap(),
                    () = &mut accepts, if !has_accepted => {
                        has_accepted = true;
                        call.accept(None).await.unwrap();
                        continue;
                    }
                };
                match event {
                    CallEvent::ProgressAcknowledged(_) if !has_changed => {
                        has_changed = true;
                        // Hers may be here already, or the call have been accepted.
                        let _ = call.update(Some(sdp("his"))).await;
                    }
                    CallEvent::Offered(_) => call.answer(sdp("fine")).await.unwrap(),
                    CallEvent::Ended(end) => break end,
                    _ => {}
                }
            }
        };
        let calling = async {
            let mut call = alice.calls(BOB).await;
            let mut has_changed = false;
            loop {
                match call.next().await.unwrap() {
                    CallEvent::Progress(_) if !has_changed => {
                        has_changed = true;
                        pass(network.random(0..=1_500)).await;
                        let _ = call.update(Some(sdp("hers"))).await;
                    }
                    CallEvent::Offered(_) => call.answer(sdp("fine")).await.unwrap(),
                    CallEvent::Answered(_) => break,
                    CallEvent::Progress(_) | CallEvent::UpdateAccepted(_) => {}
                    CallEvent::UpdateRefused(response) => {
                        // The other's turn: later (RFC 3311 §5.2).
                        assert_eq!(response.status().as_u16(), 500);
                    }
                    other => panic!("{other:?}"),
                }
            }
            pass(3_000).await;
            call.hang_up().await.unwrap();
            call.ended().await
        };
        let (his, hers) = tokio::join!(answering, calling);
        assert!(matches!(his, CallEnd::PeerHungUp(_)), "{his:?}");
        assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
        quiet([&alice, &bob]).await;
    });
}
