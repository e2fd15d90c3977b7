//! Peers, and proxies before them, that ask within a call who we are (RFC 3261 §22).

use crate::exchange::{Exchange, Kept, Said, exchange_for, said};
use crate::phone::*;
use crate::support::{Gate, Now, alice};
use sipora_message::{HeaderName, Method, Request};
use sipora_session_core::{Body, CallEnd, CallEvent, CallHandle, CallRequest, Error};
use sipora_testkit::SimNetwork;

/// Everything that can be challenged.
const ALL: &[Method] = &[
    Method::Invite,
    Method::Bye,
    Method::Info,
    Method::Refer,
    Method::Update,
];

const BODY: &str = "v=0\r\no=- 6 1 IN IP4 192.0.2.2\r\ns=-\r\n";

/// A peer that lets those requests within a dialog pass that have the right credentials.
async fn suspicious(network: &SimNetwork, gate: Gate) -> Exchange {
    let script = move |request: &Request, now: Now| {
        let is_first = request.headers().to().unwrap().tag().is_none();
        let challenge = gate.check(request, now).filter(|_| !is_first);
        let mut answer = match challenge {
            Some(replies) => Said {
                headers: replies[0].headers.clone(),
                ..said(replies[0].status, "callee")
            },
            None => said(200, "callee"),
        };
        if answer.status == 200 && *request.method() == Method::Invite {
            answer = answer.with_sdp(BODY);
        }
        vec![answer]
    };
    exchange_for(ALL, network, BOB, script).await
}

/// A call that is up with such a peer, by whoever of the two.
async fn is_up(phone: &mut Phone, peer: &Exchange, we_call: bool) -> CallHandle {
    if we_call {
        let mut call = phone.calls(BOB).await;
        call.answered().await.unwrap();
        return call;
    }
    let answering = async {
        let mut call = phone.is_called().await;
        call.accept(OFFER).await.unwrap();
        let acknowledged = call.next().await;
        assert!(matches!(acknowledged, Some(CallEvent::Acknowledged(_))));
        call
    };
    let ((), call) = tokio::join!(peer.calls(ALICE), answering);
    call
}

fn is_signed(request: &Request) -> bool {
    let headers = request.headers();
    headers.contains(&HeaderName::Authorization)
        || headers.contains(&HeaderName::ProxyAuthorization)
}

/// How many requests of a method within the call came with credentials.
fn signed(kept: &Kept, method: Method) -> usize {
    let all = kept.all(method);
    all.iter().filter(|request| is_signed(request)).count()
}

#[test]
fn requests_within_a_call_are_answered_with_credentials_whoever_has_called() {
    let gates = [Gate::server, Gate::proxy];
    for (gate, we_call) in gates
        .into_iter()
        .flat_map(|gate| [(gate, true), (gate, false)])
    {
        scene(|network| async move {
            let peer = suspicious(&network, gate("example.com", "wonderland")).await;
            let builder = |builder| credentials(builder);
            let mut phone = Phone::with(&network, ALICE, builder).await;
            let mut call = is_up(&mut phone, &peer, we_call).await;

            // An ACK can neither be challenged nor sent again: it has what its INVITE had (§22.1).
            call.change(Some(OFFER)).await.unwrap();
            let changed = call.next().await.unwrap();
            assert!(matches!(changed, CallEvent::Changed(_)), "{changed:?}");
            assert_eq!(signed(&peer.kept, Method::Invite), 1);
            peer.kept.nth(Method::Ack, usize::from(we_call)).await;
            assert_eq!(signed(&peer.kept, Method::Ack), 1);

            let key = CallRequest::info(Body::new("application/dtmf-relay", "Signal=5"));
            assert!(call.request(key).await.unwrap().is_success());
            assert_eq!(signed(&peer.kept, Method::Info), 1);
            assert!(call.transfer(&uri(CAROL)).await.unwrap().is_success());
            assert_eq!(signed(&peer.kept, Method::Refer), 1);
            call.hang_up().await.unwrap();
            loop {
                match call.next().await.unwrap() {
                    CallEvent::SessionEnded | CallEvent::TransferProgress(_) => {}
                    CallEvent::Ended(end) => break assert!(matches!(end, CallEnd::HungUp)),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(signed(&peer.kept, Method::Bye), 1);
            let numbers = numbers(&peer.kept);
            assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
            settle().await;
            phone.assert_idle();
        });
    }
}

/// The numbers of what came within the call, ACKs apart, in the order in which it came.
fn numbers(kept: &Kept) -> Vec<u32> {
    let is_other = |request: &Request| *request.method() != Method::Ack;
    let all = kept.everything().into_iter().filter(is_other);
    all.map(|request| request.headers().cseq().unwrap().number)
        .collect()
}

fn credentials(
    builder: sipora_session_core::SessionManagerBuilder,
) -> sipora_session_core::SessionManagerBuilder {
    builder.with_credentials(alice())
}

#[test]
fn without_the_right_credentials_a_challenge_within_a_call_is_told() {
    for we_call in [true, false] {
        scene(|network| async move {
            let peer = suspicious(&network, Gate::server("example.com", "another")).await;
            let mut phone = Phone::with(&network, ALICE, credentials).await;
            let mut call = is_up(&mut phone, &peer, we_call).await;
            call.change(Some(OFFER)).await.unwrap();
            match call.next().await.unwrap() {
                CallEvent::ChangeRefused(answer) => assert_eq!(answer.status().as_u16(), 401),
                other => panic!("{other:?}"),
            }
            assert_eq!(signed(&peer.kept, Method::Invite), 1, "sent once");
            match call.transfer(&uri(CAROL)).await {
                Err(Error::Rejected(answer)) => assert_eq!(answer.status().as_u16(), 401),
                other => panic!("{other:?}"),
            }
            // The call is over for us in any case (§15.1.1).
            call.hang_up().await.unwrap();
            assert!(matches!(call.ended().await, CallEnd::HungUp));
            settle().await;
            phone.assert_idle();
        });
    }
}
