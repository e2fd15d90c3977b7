//! Calls that go from process to process on a network that loses, repeats and overtakes, and between real sockets.

use std::time::Duration;

use crate::handover::travels;
use crate::support::*;
use sipora_dialog_core::{
    Call, CallConfig, CallEnd, CallError, CallEvent, Invite, UnifiedDialogApi,
};
use sipora_message::{Method, StatusCode};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::Endpoint;
use sipora_transport::Transport;

/// Hands the call over as soon as it is quiet, and starts the next process some time after.
async fn hands_over(agent: Agent, mut call: Call, network: &SimNetwork) -> (Agent, Call) {
    let state = loop {
        match call.detach().await {
            Ok(state) => break travels(state),
            Err(CallError::NotNow(_)) => pass(100).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(end(&mut call).await, CallEnd::Detached));
    let address = agent.address.clone();
    let host = agent.dies().await;
    let between = network.random(0..=5_000);
    pass(between).await;
    let agent = Agent::on(host, &address, network.random(0..=1 << 40), timed()).await;
    let state = state.after(Duration::from_millis(between));
    let call = agent.dialogs.restore_call(state, None).await.unwrap();
    (agent, call)
}

/// Half of it is more than a refresh takes that is lost again and again.
fn timed() -> CallConfig {
    let mut config = CallConfig::default();
    config.session_expires = Some(Duration::from_secs(300));
    config
}

/// Follows the other's changes, and ends with the call.
async fn talks(call: &mut Call) -> CallEnd {
    loop {
        match call.next().await.unwrap() {
            CallEvent::Reinvited(_) => call.accept(sdp("fine")).await.unwrap(),
            CallEvent::Offered(_) => call.answer(sdp("fine")).await.unwrap(),
            CallEvent::Ended(end) => return end,
            _ => {}
        }
    }
}

/// Either side is replaced, at any moment that is quiet; the session is refreshed for minutes, changed by one of them, and
/// ended by one of them. Both agree, and nothing is left.
#[test]
fn a_call_survives_the_processes_of_both_sides() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let alice = Agent::with(&network, ALICE, 1, timed()).await;
        let mut bob = Agent::with(&network, BOB, 2, timed()).await;
        let (calling, answering) = (
            async {
                let mut call = alice.calls(BOB).await;
                call.answered().await.unwrap();
                call
            },
            async {
                let mut call = bob.incoming.next().await.unwrap();
                call.accept(sdp("answer")).await.unwrap();
                let acknowledged = call.next().await;
                assert!(matches!(acknowledged, Some(CallEvent::Acknowledged(_))));
                call
            },
        );
        let (hers, his) = tokio::join!(calling, answering);
        let (mut alice, mut hers) = (alice, hers);
        let (mut bob, mut his) = (bob, his);
        if network.random(0..=2) > 0 {
            (alice, hers) = hands_over(alice, hers, &network).await;
        }
        if network.random(0..=2) > 0 {
            (bob, his) = hands_over(bob, his, &network).await;
        }
        let (patience, ours) = (network.random(0..=700_000), network.random(0..=1) == 0);
        let changing = network.random(0..=1) == 0;
        let ending = async {
            let (mine, changes) = (&mut hers, changing);
            let waits = pass(patience);
            tokio::pin!(waits);
            let mut asked = false;
            let mut hung_up = false;
            loop {
                tokio::select! {
                    event = mine.next() => match event.unwrap() {
                        CallEvent::Reinvited(_) => mine.accept(sdp("fine")).await.unwrap(),
                        CallEvent::Offered(_) => mine.answer(sdp("fine")).await.unwrap(),
                        CallEvent::Ended(end) => break end,
                        _ => {}
                    },
                    () = pass(1_000), if changes && !asked => {
                        asked = mine.reinvite(Some(sdp("hold"))).await.is_ok();
                    }
                    () = &mut waits, if ours && !hung_up => {
                        hung_up = true;
                        mine.hang_up().await.unwrap();
                    }
                }
            }
        };
        let other = async {
            let waits = pass(patience);
            tokio::pin!(waits);
            if ours {
                return talks(&mut his).await;
            }
            loop {
                tokio::select! {
                    event = his.next() => match event.unwrap() {
                        CallEvent::Reinvited(_) => his.accept(sdp("fine")).await.unwrap(),
                        CallEvent::Offered(_) => his.answer(sdp("fine")).await.unwrap(),
                        CallEvent::Ended(end) => break end,
                        _ => {}
                    },
                    () = &mut waits => {
                        his.hang_up().await.unwrap();
                        break talks(&mut his).await;
                    }
                }
            }
        };
        let (hers, his) = tokio::join!(ending, other);
        let (one, other) = if ours { (hers, his) } else { (his, hers) };
        assert!(matches!(one, CallEnd::HungUp), "{one:?}");
        assert!(matches!(other, CallEnd::PeerHungUp(_)), "{other:?}");
        pass(120_000).await;
        for agent in [&alice, &bob] {
            agent.assert_idle();
        }
    });
}

/// On sockets of the system: Bob's side moves to another endpoint, on another port, and tells Alice.
#[tokio::test]
async fn a_call_moves_between_two_endpoints_of_the_system() {
    async fn agent() -> (
        Endpoint,
        UnifiedDialogApi,
        sipora_dialog_core::IncomingCalls,
        String,
    ) {
        let mut builder =
            Endpoint::builder().listen(Transport::Udp, "127.0.0.1:0".parse().unwrap());
        let config = CallConfig::default();
        let (dialogs, incoming) = UnifiedDialogApi::add_with_calls(&mut builder, config);
        let endpoint = builder.build().await.unwrap();
        let (_, address) = endpoint.local_addresses()[0];
        (endpoint, dialogs, incoming, address.to_string())
    }
    let (_alice, hers, _incoming, at) = agent().await;
    let (bob, _, mut incoming, to) = agent().await;
    let alice = uri(&format!("sip:alice@{at}"));
    let invite = Invite::new(uri(&format!("sip:bob@{to}")), alice.clone(), alice);
    let mut call = hers.invite(invite.body(sdp("offer")), None).await.unwrap();
    let mut his = incoming.next().await.unwrap();
    his.accept(sdp("answer")).await.unwrap();
    call.answered().await.unwrap();
    assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));

    let state = his.detach().await.unwrap();
    bob.shutdown().await;
    assert!(matches!(his.ended().await, CallEnd::Detached));
    let (_next, dialogs, _incoming, at) = agent().await;
    let state = travels(state).with_contact(&uri(&format!("sip:bob@{at}")));
    let mut his = dialogs.restore_call(state, None).await.unwrap();
    his.reinvite(Some(sdp("here"))).await.unwrap();
    assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
    call.accept(sdp("there")).await.unwrap();
    assert!(matches!(
        his.next().await,
        Some(CallEvent::ReinviteAccepted(_))
    ));
    // Until the ACK has come she may not hang up, and does not.
    call.hang_up().await.unwrap();
    assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
    assert!(matches!(call.ended().await, CallEnd::HungUp));
}

#[test]
fn a_call_whose_first_ack_was_lost_and_overtaken_can_be_handed_over() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        let reinvite = dialog.build(Method::Invite, 11);
        phone.send(&reinvite, ALICE).await;
        let told = call.next().await;
        assert!(matches!(told, Some(CallEvent::Reinvited(_))), "{told:?}");
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        pass(60_000).await;
        let state = call.export().await;
        assert!(state.is_ok(), "{state:?}");
    });
}
