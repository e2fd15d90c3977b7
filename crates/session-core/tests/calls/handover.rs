//! Calls that one process lets go of, and another goes on with. With the feature `serde` their states are written and read in between.

use std::time::Duration;

use crate::exchange::{Said, exchange_for, said};
use crate::phone::*;
use crate::support::Gate;
use crate::transferred::{is_asked, offering, three, told};
use sipora_message::{HeaderName, Method, Request};
use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, CallState, Credentials, Error, IdSource, MediaDirection,
    SessionManagerBuilder,
};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};

const HERS: &str = "v=0\r\no=- 5 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const HIS: &str = "v=0\r\no=- 6 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n";

/// The way of a state from one process to another.
fn travels(state: CallState) -> CallState {
    #[cfg(feature = "serde")]
    let state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    state
}

/// Lets go of a call as soon as that can be.
async fn lets_go(call: &mut CallHandle) -> CallState {
    for _ in 0..2_000 {
        match call.detach().await {
            Ok(state) => return state,
            Err(Error::NotNow { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("something is under way for ever");
}

/// Ends a process, and starts its successor at the same address, with ids of its own.
async fn succeeded(
    phone: Phone,
    network: &SimNetwork,
    edit: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
) -> Phone {
    let (host, address) = (phone.host.clone(), phone.address);
    phone.client.shutdown().await;
    drop(phone);
    let ids = IdSource::from_number(network.random(1_000..=u64::MAX));
    Phone::on(host, address, |builder| edit(builder.with_id_source(ids))).await
}

/// Does all that with a phone that has this call and no other.
async fn goes_on(phone: Phone, mut call: CallHandle, network: &SimNetwork) -> (Phone, CallHandle) {
    let state = travels(lets_go(&mut call).await);
    assert_eq!(state.is_incoming(), call.is_incoming());
    assert!(matches!(call.ended().await, CallEnd::Detached));
    drop(call);
    let phone = succeeded(phone, network, |builder| builder).await;
    let call = phone.client.restore_call(state, None).await.unwrap();
    (phone, call)
}

async fn talking(alice: &Phone, bob: &mut Phone) -> (CallHandle, CallHandle) {
    use sipora_session_core::SipClient;
    let mut hers = alice.client.call(&uri(BOB), Some(HERS)).await.unwrap();
    let mut his = bob.is_called().await;
    his.accept(HIS).await.unwrap();
    hers.answered().await.unwrap();
    assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
    (hers, his)
}

/// One holds, and the other takes it: what was offered.
async fn holds(one: &mut CallHandle, other: &mut CallHandle, own: &str) -> String {
    one.hold().await.unwrap();
    let wish = other.next().await.unwrap();
    let offered = wish.sdp().unwrap().to_owned();
    assert_eq!(MediaDirection::of(&offered), MediaDirection::SendOnly);
    let answer = MediaDirection::RecvOnly.in_sdp(own);
    other.accept(&answer).await.unwrap();
    assert!(matches!(one.next().await, Some(CallEvent::Changed(_))));
    let acknowledged = other.next().await;
    assert!(matches!(acknowledged, Some(CallEvent::Acknowledged(_))));
    offered
}

fn origin(sdp: &str) -> &str {
    sdp.lines().nth(1).unwrap()
}

#[test]
fn who_has_called_goes_on_in_another_process() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let offered = holds(&mut hers, &mut his, HIS).await;
        assert_eq!(origin(&offered), "o=- 5 2 IN IP4 192.0.2.1");

        let (alice, mut hers) = goes_on(alice, hers, &network).await;
        assert!(!hers.is_incoming() && hers.invite().is_none());
        assert_eq!(hers.remote_uri(), uri(BOB));
        let heard = hers.remote_sdp().unwrap();
        assert_eq!(MediaDirection::of(&heard), MediaDirection::RecvOnly);
        // The hold is taken back, in a description of the next version.
        hers.resume().await.unwrap();
        let wish = his.next().await.unwrap();
        assert_eq!(
            MediaDirection::of(wish.sdp().unwrap()),
            MediaDirection::SendRecv
        );
        assert_eq!(origin(wish.sdp().unwrap()), "o=- 5 3 IN IP4 192.0.2.1");
        his.accept(&MediaDirection::SendRecv.in_sdp(HIS))
            .await
            .unwrap();
        assert!(matches!(hers.next().await, Some(CallEvent::Changed(_))));
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
        // So does a change of the peer's, and its end.
        holds(&mut his, &mut hers, HERS).await;
        his.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::PeerHungUp(_)));
        assert!(matches!(his.ended().await, CallEnd::HungUp));
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

#[test]
fn who_was_called_goes_on_in_another_process() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, his) = talking(&alice, &mut bob).await;
        let (bob, mut his) = goes_on(bob, his, &network).await;
        assert!(his.is_incoming());
        assert_eq!(his.remote_uri(), "sip:user-1@example.com");
        assert_eq!(his.remote_sdp().as_deref(), Some(HERS));
        holds(&mut hers, &mut his, HIS).await;
        his.hang_up().await.unwrap();
        assert!(matches!(his.ended().await, CallEnd::HungUp));
        assert!(matches!(hers.ended().await, CallEnd::PeerHungUp(_)));
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

/// A peer that asks within a call who we are; `ours` says whether we begin it.
async fn is_challenged(network: SimNetwork, ours: bool, own: Option<Credentials>) {
    let gate = Gate::proxy("example.com", "wonderland");
    let script = move |request: &Request, now| {
        let is_first = request.headers().to().unwrap().tag().is_none();
        let refusal = gate.check(request, now).filter(|_| !is_first);
        let answer = match refusal {
            Some(replies) => Said {
                headers: replies[0].headers.clone(),
                ..said(replies[0].status, "callee")
            },
            None => said(200, "callee"),
        };
        let is_invite = answer.status == 200 && *request.method() == Method::Invite;
        vec![match is_invite {
            true => answer.with_sdp(HIS),
            false => answer,
        }]
    };
    const CHALLENGED: &[Method] = &[Method::Invite, Method::Bye];
    let peer = exchange_for(CHALLENGED, &network, BOB, script).await;
    let mut alice = Phone::new(&network, ALICE).await;
    let mut call = match ours {
        true => {
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            call
        }
        false => {
            let answering = async {
                let mut call = alice.is_called().await;
                call.accept(HERS).await.unwrap();
                let acknowledged = call.next().await;
                assert!(matches!(acknowledged, Some(CallEvent::Acknowledged(_))));
                call
            };
            tokio::join!(peer.calls(ALICE), answering).1
        }
    };
    let state = travels(lets_go(&mut call).await);
    // Credentials are what the new process is given.
    let shared = own.is_none();
    let alice = succeeded(alice, &network, |builder| match shared {
        true => builder.with_credentials(crate::support::alice()),
        false => builder,
    })
    .await;
    let mut call = alice.client.restore_call(state, own).await.unwrap();
    call.change(Some(HERS)).await.unwrap();
    let changed = call.next().await.unwrap();
    assert!(matches!(changed, CallEvent::Changed(_)), "{changed:?}");
    call.hang_up().await.unwrap();
    assert!(matches!(call.ended().await, CallEnd::HungUp));
    for method in [Method::Invite, Method::Bye] {
        let last = peer.kept.all(method.clone()).pop().unwrap();
        let headers = last.headers();
        assert!(
            headers.contains(&HeaderName::ProxyAuthorization),
            "{method}"
        );
    }
    settle().await;
    alice.assert_idle();
}

#[test]
fn challenges_are_answered_with_the_credentials_of_who_goes_on() {
    for ours in [true, false] {
        scene(|network| is_challenged(network, ours, None));
        scene(|network| is_challenged(network, ours, Some(crate::support::alice())));
    }
}

#[test]
fn only_a_call_that_is_up_and_quiet_is_let_go_of() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        for call in [&mut hers, &mut his] {
            let refused = call.detach().await;
            assert!(matches!(refused, Err(Error::NotNow { .. })), "{refused:?}");
        }
        his.accept(HIS).await.unwrap();
        hers.answered().await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
        his.change(Some(CHANGED)).await.unwrap();
        let refused = his.detach().await;
        assert!(matches!(refused, Err(Error::NotNow { .. })), "{refused:?}");
        assert!(matches!(
            hers.next().await,
            Some(CallEvent::ChangeRequested(_))
        ));
        let refused = hers.detach().await;
        assert!(matches!(refused, Err(Error::NotNow { .. })), "{refused:?}");
        // It goes on as if nothing had been asked for.
        hers.accept(HERS).await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Changed(_))));
        his.hang_up().await.unwrap();
        his.ended().await;
        hers.ended().await;
        for call in [&mut hers, &mut his] {
            let refused = call.detach().await;
            assert!(matches!(refused, Err(Error::TooLate)), "{refused:?}");
        }
    });
}

#[test]
fn what_was_not_read_yet_is_in_the_state_and_is_read_afterwards() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        hers.hold().await.unwrap();
        let wish = his.next().await.unwrap();
        let answer = MediaDirection::RecvOnly.in_sdp(HIS);
        assert!(wish.sdp().is_some());
        his.accept(&answer).await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
        // A copy for the case of a failure has it too, and the call stays.
        for state in [hers.export().await.unwrap(), hers.detach().await.unwrap()] {
            let ours = state.local_sdp().unwrap();
            assert_eq!(MediaDirection::of(ours), MediaDirection::SendOnly);
            assert_eq!(state.remote_sdp(), Some(&*answer));
            assert_eq!(state.local_uri(), "sip:user-1@example.com");
            assert_eq!(state.remote_uri(), uri(BOB));
        }
        assert!(matches!(hers.next().await, Some(CallEvent::Changed(_))));
        let end = hers.next().await;
        assert!(matches!(end, Some(CallEvent::Ended(CallEnd::Detached))));
        assert!(hers.next().await.is_none());
        drop(hers);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let metrics = bob.client.call_metrics();
        assert_eq!(metrics.calls, 1, "nobody has hung up");
    });
}

#[test]
fn a_call_is_here_once_and_only_where_calls_are() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, _his) = talking(&alice, &mut bob).await;
        let state = hers.export().await.unwrap();
        let twice = alice.client.restore_call(state.clone(), None).await;
        assert!(
            matches!(twice, Err(Error::InvalidRequest { .. })),
            "{twice:?}"
        );
        let without = builder(&network, CAROL).build().await.unwrap();
        let refused = without.restore_call(state.clone(), None).await;
        assert!(
            matches!(refused, Err(Error::NotSupported { .. })),
            "{refused:?}"
        );
        alice.client.shutdown().await;
        let refused = alice.client.restore_call(state, None).await;
        assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    });
}

#[test]
fn who_has_moved_says_so() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, mut his) = talking(&alice, &mut bob).await;
        let state = travels(lets_go(&mut hers).await);
        assert!(matches!(
            state.clone().with_contact("*"),
            Err(Error::InvalidUri { .. })
        ));
        alice.client.shutdown().await;
        let elsewhere = Phone::new(&network, CAROL).await;
        let contact = elsewhere.client.contact_uri("alice", &uri(BOB)).await;
        let state = state.with_contact(&contact.unwrap()).unwrap();
        let mut hers = elsewhere.client.restore_call(state, None).await.unwrap();
        holds(&mut hers, &mut his, HIS).await;
        his.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::PeerHungUp(_)));
        assert!(matches!(his.ended().await, CallEnd::HungUp));
    });
}

#[test]
fn who_has_us_call_hears_that_it_came_to_something_before_it_goes_on_elsewhere() {
    scene(|network| async move {
        let (alice, mut bob, mut carol) = three(&network).await;
        let (mut hers, mut his) = up(&alice, &mut bob).await;
        let bobs = async {
            let wish = is_asked(&mut his).await;
            let mut new = his.follow(&wish, offering()).await.unwrap();
            // Nothing of it is read here.
            lets_go(&mut new).await
        };
        let carols = async {
            let call = carol.is_called().await;
            call.accept(ANSWER).await.unwrap();
            call
        };
        let transfer = uri(CAROL);
        let (asked, state, mut theirs) = tokio::join!(hers.transfer(&transfer), bobs, carols);
        assert!(asked.unwrap().is_success());
        assert!(told(&mut hers).await.last().unwrap().has_succeeded());
        hers.hang_up().await.unwrap();
        his.ended().await;
        let bob = succeeded(bob, &network, |builder| builder).await;
        let mut new = bob.client.restore_call(state, None).await.unwrap();
        new.hang_up().await.unwrap();
        assert!(matches!(new.ended().await, CallEnd::HungUp));
        assert!(matches!(theirs.ended().await, CallEnd::PeerHungUp(_)));
    });
}

/// Whenever one side is replaced, the call is held and resumed by either, ends on both sides, and nothing is left.
#[test]
fn calls_go_on_in_other_processes_on_bad_networks() {
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let (alice, mut bob) = two(&network).await;
        let mut hers = {
            use sipora_session_core::SipClient;
            alice.client.call(&uri(BOB), Some(HERS)).await.unwrap()
        };
        let mut his = bob.is_called().await;
        his.accept(HIS).await.unwrap();
        hers.answered().await.unwrap();
        let pause = network.random(0..=3_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let taking = tokio::spawn(async move {
            while let Some(event) = his.next().await {
                match event {
                    CallEvent::ChangeRequested(_) => {
                        let wish = MediaDirection::of(event.sdp().unwrap());
                        // It may be withdrawn, or over.
                        let _ = his.accept(&wish.reversed().in_sdp(HIS)).await;
                    }
                    CallEvent::Ended(end) => return end,
                    _ => {}
                }
            }
            CallEnd::Closed
        });
        let mut alice = alice;
        for _ in 0..2 {
            (alice, hers) = goes_on(alice, hers, &network).await;
            hers.hold().await.unwrap();
            let changed = hers.next().await.unwrap();
            assert!(matches!(changed, CallEvent::Changed(_)), "{changed:?}");
        }
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        let ended = taking.await.unwrap();
        assert!(matches!(ended, CallEnd::PeerHungUp(_)), "{ended:?}");
        settle().await;
        alice.assert_idle();
        bob.assert_idle();
    });
}

#[cfg(feature = "serde")]
#[test]
fn what_no_call_can_say_is_not_read() {
    use serde_json::{Value, json};
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let (mut hers, _his) = talking(&alice, &mut bob).await;
        let state = hers.export().await.unwrap();
        let value = serde_json::to_value(&state).unwrap();
        let read: CallState = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
        let wrong: [(&str, Value); 5] = [
            ("/version", json!(2)),
            ("/local_sdp", json!("")),
            ("/remote_sdp", json!("")),
            ("/local_sdp_version", json!(-1)),
            ("/call/version", json!(2)),
        ];
        for (field, wrong) in wrong {
            let mut value = value.clone();
            *value.pointer_mut(field).unwrap() = wrong;
            assert!(
                serde_json::from_value::<CallState>(value).is_err(),
                "{field}"
            );
        }
    });
}
