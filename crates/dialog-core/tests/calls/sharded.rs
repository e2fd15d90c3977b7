//! Calls of an endpoint with four shards, where each lives in the one that its Call-ID leads to. Every other test of calls has
//! four under odd seeds too; these are about calls that have to do with each other, and are made with so many Call-IDs that
//! every pair of shards has some.

use std::future::poll_fn;
use std::net::SocketAddr;

use crate::handover::travels;
use crate::support::*;
use sipora_dialog_core::{
    Call, CallConfig, CallEnd, CallError, CallEvent, CallRequest, IncomingCalls, Invite, Refer,
    UnifiedDialogApi,
};
use sipora_message::{HeaderName, Method, Request, StatusCode};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{Endpoint, EndpointConfig};
use sipora_transport::{Datagram, DatagramReceiver, DatagramSocket, Network, Transport};

const SHARDS: usize = 4;

/// Calls of one kind: with as many, no shard is left out.
const MANY: usize = 24;

async fn agent(network: &SimNetwork, address: &str, seed: u64) -> Agent {
    let mut config = CallConfig::default();
    config.takes_replaces = true;
    config.takes_refers = true;
    let host = host(network, address);
    Agent::sharded(host, address, (seed, SHARDS), config).await
}

/// A call of Alice's, the `nth`, that the phone has answered.
async fn up(alice: &Agent, phone: &Phone, nth: usize) -> (Call, InDialog) {
    let call_id = format!("call-{nth}");
    let invite = alice.asks(BOB).body(sdp("offer")).call_id(&call_id);
    let mut call = alice.dialogs.invite(invite, None).await.unwrap();
    let invite = with_id(phone, Method::Invite, &call_id).await;
    phone.answer(&invite, 200, &format!("b{nth}")).await;
    call.answered().await.unwrap();
    (call, InDialog::of_invite(&invite, &format!("b{nth}")))
}

/// Waits for a request with this Call-ID.
async fn with_id(phone: &Phone, method: Method, call_id: &str) -> Came {
    for _ in 0..20_000 {
        let all = phone.all(method.clone()).into_iter();
        let mut all = all.filter(|came| came.headers().call_id().unwrap() == call_id);
        match all.next() {
            Some(came) => return came,
            None => pass(5).await,
        }
    }
    panic!("no {method} of {call_id} came");
}

/// An INVITE of the phone's, the `nth`, that names the dialog in Replaces and Target-Dialog.
fn naming(dialog: &InDialog, nth: usize, more: &str) -> Request {
    let tag = |side: &str| side.rsplit_once("tag=").unwrap().1.to_owned();
    let (theirs, ours) = (tag(&dialog.remote), tag(&dialog.local));
    let id = &dialog.call_id;
    Request::builder(Method::Invite, &uri(&format!("sip:alice@{ALICE}")))
        .from(format!("<sip:carol@example.com>;tag=c{nth}"))
        .to("<sip:alice@example.com>")
        .call_id(format!("second-{nth}"))
        .cseq(100 + u32::try_from(nth).unwrap())
        .contact(format!("<sip:carol@{BOB}>"))
        .header(
            HeaderName::Replaces,
            format!("{id};to-tag={theirs};from-tag={ours}{more}"),
        )
        .header(
            HeaderName::TargetDialog,
            format!("{id};local-tag={ours};remote-tag={theirs}"),
        )
        .body("application/sdp", "v=0\r\ns=offer\r\n")
        .build()
        .unwrap()
}

async fn status(phone: &Phone, request: &Request) -> u16 {
    phone.send(request, ALICE).await;
    phone.status_of(request).await
}

#[test]
fn a_call_takes_the_place_of_one_in_any_shard() {
    for_each_seed(0..1, |network| async move {
        let mut alice = agent(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        for nth in 0..MANY {
            let (mut old, dialog) = up(&alice, &phone, nth).await;
            let invite = naming(&dialog, nth, "");
            phone.send(&invite, ALICE).await;
            let new = alice.incoming.next().await.unwrap();
            assert_eq!(new.replaces(), Some(old.key()));
            assert_eq!(new.target_dialog(), Some(old.key()));
            new.accept_replacing(sdp("answer")).await.unwrap();
            let answer = phone.answer_to(&invite).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let there = InDialog::of_response(&answer);
            let ack = there.build(Method::Ack, number(&invite));
            phone.send(&ack, ALICE).await;
            let bye = with_id(&phone, Method::Bye, &dialog.call_id).await;
            phone.answer(&bye, 200, "b").await;
            let ended = end(&mut old).await;
            assert!(matches!(ended, CallEnd::Replaced(key) if key == new.key()));
            drop(new);
            let bye = with_id(&phone, Method::Bye, &there.call_id).await;
            phone.answer(&bye, 200, "b").await;
        }
        pass(60_000).await;
        alice.assert_idle();
    });
}

async fn received(receiver: &mut dyn DatagramReceiver) -> String {
    let mut buffer = [0; 4096];
    loop {
        let datagram = poll_fn(|cx| receiver.poll_recv(cx, &mut buffer)).await;
        if let Datagram::Received { length, .. } = datagram.unwrap() {
            break String::from_utf8(buffer[..length].to_vec()).unwrap();
        }
    }
}

/// The CANCEL comes in the same moment, before the other shard has been able to look.
#[test]
fn an_invite_that_waits_for_another_shard_can_be_cancelled() {
    for_each_seed(0..1, |network| async move {
        let alice = agent(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let socket = network.host("192.0.2.3".parse().unwrap());
        let from: SocketAddr = "192.0.2.3:5060".parse().unwrap();
        // Who cancels so soon breaks §9.1.
        network.auditor().excuse(from.ip());
        let mut sockets = socket.bind_datagram(from, 1).unwrap();
        let DatagramSocket {
            sender,
            mut receiver,
        } = sockets.pop().unwrap();
        for nth in 0..MANY {
            let (old, dialog) = up(&alice, &phone, nth).await;
            let via = format!("SIP/2.0/UDP {from};branch=z9hG4bK{nth}");
            let invite = naming(&dialog, nth, "").edit();
            let invite = invite.prepend(HeaderName::Via, &via).build().unwrap();
            let text = String::from_utf8(invite.as_bytes().to_vec()).unwrap();
            let (head, _) = text.split_once("Replaces:").unwrap();
            let cancel = head.replace("INVITE", "CANCEL") + "Content-Length: 0\r\n\r\n";
            let to = ALICE.parse().unwrap();
            sender.try_send_to(invite.as_bytes(), to).unwrap();
            sender.try_send_to(cancel.as_bytes(), to).unwrap();
            let mut statuses = Vec::new();
            while statuses.len() < 2 {
                let text = received(&mut *receiver).await;
                let status: u16 = text[8..11].parse().unwrap();
                let is_copy = !text.contains(&format!("second-{nth}\r\n"));
                if status >= 200 && !is_copy {
                    statuses.push(status);
                }
            }
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 487]);
            drop(old);
            let bye = with_id(&phone, Method::Bye, &dialog.call_id).await;
            phone.answer(&bye, 200, "b").await;
        }
        pass(60_000).await;
        alice.assert_idle();
    });
}

#[test]
fn what_names_no_call_that_can_be_replaced_gets_the_same_from_every_shard() {
    for_each_seed(0..1, |network| async move {
        let mut alice = agent(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        for nth in 0..MANY {
            let (mut old, dialog) = up(&alice, &phone, nth).await;
            let early = naming(&dialog, 1_000 + nth, ";early-only");
            assert_eq!(status(&phone, &early).await, 486);
            let unknown = InDialog {
                call_id: format!("unknown-{nth}"),
                local: dialog.local.clone(),
                remote: dialog.remote.clone(),
                target: dialog.target.clone(),
            };
            let nobody = naming(&unknown, 2_000 + nth, "");
            assert_eq!(status(&phone, &nobody).await, 481);

            // It ends before the other is accepted.
            let late = naming(&dialog, nth, "");
            phone.send(&late, ALICE).await;
            let mut new = alice.incoming.next().await.unwrap();
            let bye = dialog.build(Method::Bye, 5_000 + u32::try_from(nth).unwrap());
            assert_eq!(status(&phone, &bye).await, 200);
            assert!(matches!(end(&mut old).await, CallEnd::PeerHungUp(_)));
            let accepted = new.accept_replacing(sdp("answer")).await;
            assert!(matches!(accepted, Err(CallError::Gone)), "{accepted:?}");
            assert_eq!(phone.status_of(&late).await, 603);
            assert!(matches!(end(&mut new).await, CallEnd::Rejected));
            let again = naming(&dialog, 3_000 + nth, "");
            assert_eq!(status(&phone, &again).await, 603);
        }
        pass(60_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_refer_names_a_call_of_any_shard() {
    for_each_seed(0..1, |network| async move {
        let alice = agent(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (first, dialog) = up(&alice, &phone, 0).await;
        for nth in 1..MANY {
            let (other, there) = up(&alice, &phone, nth).await;
            let refer = first.refer(Refer::to_call(&other).without_subscription());
            let answering = async {
                let refer = phone.nth(Method::Refer, nth - 1).await;
                phone.answer(&refer, 603, "b").await;
                refer
            };
            let (answered, refer) = tokio::join!(refer, answering);
            assert_eq!(answered.unwrap().response.status(), StatusCode::DECLINE);
            assert_eq!(refer.headers().call_id().unwrap(), dialog.call_id);
            let to = refer.headers().text(&HeaderName::ReferTo).unwrap();
            assert!(to.contains(&there.call_id), "{to}");
            other.hang_up().await.unwrap();
            let bye = with_id(&phone, Method::Bye, &there.call_id).await;
            phone.answer(&bye, 200, "b").await;
            let gone = first.refer(Refer::to_call(&other)).await;
            assert!(matches!(gone, Err(CallError::Gone | CallError::NotNow(_))));
        }
    });
}

#[test]
fn the_end_of_the_endpoint_ends_the_calls_of_every_shard() {
    for_each_seed(0..1, |network| async move {
        let alice = agent(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut calls = Vec::new();
        for nth in 0..MANY {
            calls.push(up(&alice, &phone, nth).await);
        }
        let down = tokio::spawn(alice.shuts_down());
        for (mut call, dialog) in calls {
            let bye = with_id(&phone, Method::Bye, &dialog.call_id).await;
            phone.answer(&bye, 200, "b").await;
            assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        }
        down.await.unwrap();
    });
}

#[test]
fn calls_go_on_in_a_process_with_another_number_of_shards() {
    for (before, after) in [(1, 4), (4, 3), (4, 1)] {
        for_each_seed(0..1, move |network| async move {
            let config = CallConfig::default();
            let here = host(&network, ALICE);
            let alice = Agent::sharded(here, ALICE, (1, before), config.clone()).await;
            let phone = Phone::new(&network).await;
            let mut old = Vec::new();
            for nth in 0..MANY {
                old.push(up(&alice, &phone, nth).await);
            }
            let states = alice.dialogs.detach_calls().await.unwrap();
            assert_eq!(states.len(), MANY);
            assert_eq!(alice.dialogs.call_metrics().calls, 0);
            let here = alice.dies().await;
            let alice = Agent::sharded(here, ALICE, (2, after), config).await;
            let mut calls = Vec::new();
            for state in states {
                let restored = alice.dialogs.restore_call(travels(state.clone()), None);
                calls.push(restored.await.unwrap());
                let again = alice.dialogs.restore_call(state, None).await;
                assert!(matches!(again, Err(CallError::Invalid(_))));
            }
            for (nth, (mut call, dialog)) in old.into_iter().enumerate() {
                assert!(matches!(end(&mut call).await, CallEnd::Detached));
                let info = dialog.build(Method::Info, 1_000 + u32::try_from(nth).unwrap());
                assert_eq!(status(&phone, &info).await, 200);
            }
            drop(calls);
            for nth in 0..MANY {
                let bye = with_id(&phone, Method::Bye, &format!("call-{nth}")).await;
                phone.answer(&bye, 200, "b").await;
            }
            pass(60_000).await;
            alice.assert_idle();
        });
    }
}

/// Accepts so many calls, follows what the callers change, and waits for the end of all.
async fn answers(incoming: &mut IncomingCalls, count: usize) {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        let mut call = incoming.next().await.unwrap();
        calls.spawn(async move {
            call.ring().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            loop {
                match call.next().await.unwrap() {
                    CallEvent::Reinvited(_) => call.accept(sdp("held")).await.unwrap(),
                    CallEvent::Ended(end) => break end,
                    _ => {}
                }
            }
        });
    }
    while let Some(end) = calls.join_next().await {
        let end = end.unwrap();
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
    }
}

/// Talks in a call of ours, and hangs up.
async fn talks(mut call: Call) {
    call.answered().await.unwrap();
    let answer = call.request(CallRequest::options()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // The peer's ACK may still be on its way.
    while let Err(error) = call.reinvite(Some(sdp("hold"))).await {
        assert!(matches!(error, CallError::NotNow(_)), "{error}");
        pass(100).await;
    }
    loop {
        match call.next().await.unwrap() {
            CallEvent::ReinviteAccepted(_) => break,
            CallEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    }
    call.hang_up().await.unwrap();
    assert!(matches!(end(&mut call).await, CallEnd::HungUp));
}

/// With whatever is said in a call, on a network that loses.
#[test]
fn calls_of_all_shards_are_made_talked_in_and_ended_at_once() {
    const CALLS: usize = 8;
    for_each_seed(seeds(), |network| async move {
        network.set_conditions(Conditions::rough());
        let alice = agent(&network, ALICE, 1).await;
        let mut bob = agent(&network, BOB, 2).await;
        let mut calling = tokio::task::JoinSet::new();
        for _ in 0..CALLS {
            calling.spawn(talks(alice.calls(BOB).await));
        }
        answers(&mut bob.incoming, CALLS).await;
        while let Some(called) = calling.join_next().await {
            called.unwrap();
        }
        pass(120_000).await;
        for agent in [&alice, &bob] {
            agent.assert_idle();
            assert_eq!(agent.dialogs.call_metrics().begun, CALLS as u64);
        }
    });
}

/// On sockets of the system, which divides what comes in among the shards as it likes, and on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_between_endpoints_of_the_system_live_in_all_shards() {
    async fn agent() -> (Endpoint, UnifiedDialogApi, IncomingCalls, String) {
        let settings = EndpointConfig {
            shards: SHARDS,
            ..EndpointConfig::default()
        };
        let mut builder = Endpoint::builder()
            .config(settings)
            .listen(Transport::Udp, "127.0.0.1:0".parse().unwrap());
        let config = CallConfig::default();
        let (dialogs, incoming) = UnifiedDialogApi::add_with_calls(&mut builder, config);
        let endpoint = builder.build().await.unwrap();
        let (_, address) = endpoint.local_addresses()[0];
        (endpoint, dialogs, incoming, address.to_string())
    }
    const CALLS: usize = 40;
    let (alice, hers, _incoming, at) = agent().await;
    let (bob, his, mut incoming, to) = agent().await;
    let mut calling = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let me = uri(&format!("sip:alice@{at}"));
        let invite = Invite::new(uri(&format!("sip:bob@{to}")), me.clone(), me);
        let call = hers.invite(invite.body(sdp("offer")), None).await.unwrap();
        calling.spawn(talks(call));
    }
    answers(&mut incoming, CALLS).await;
    while let Some(called) = calling.join_next().await {
        called.unwrap();
    }
    let passed_on = [&alice, &bob].map(|it| it.handle().metrics().passed_on);
    assert!(passed_on.iter().sum::<u64>() > 0, "{passed_on:?}");
    // What is counted is seen after the turn in which it was told.
    for dialogs in [&hers, &his] {
        while dialogs.call_metrics().ended < CALLS as u64 {
            tokio::task::yield_now().await;
        }
        assert_eq!(dialogs.call_metrics().calls, 0);
    }
}
