//! The flows of RFC 3665 §3, each on a good network and on a bad one.

use std::sync::Arc;

use crate::proxy::{Ways, proxy};
use crate::support::*;
use sipora_auth::Credentials;
use sipora_dialog_core::{Authorizer, Call, CallEnd, CallEvent, DigestAuthorizer, Invite};
use sipora_message::{Method, StatusCode};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::Target;

const PROXY_1: &str = "192.0.2.11:5060";
const PROXY_2: &str = "192.0.2.12:5060";

fn to(next: &str) -> Ways {
    Ways {
        next: next.to_owned(),
        ..Ways::default()
    }
}

/// Every other seed is a bad network.
fn set(network: &SimNetwork) {
    if network.seed() % 2 == 1 {
        network.set_conditions(Conditions::rough());
    }
}

fn via(alice: &Agent, proxy: &str) -> Invite {
    let invite = alice.asks(BOB).body(sdp("offer"));
    invite.via(Target::udp(proxy.parse().unwrap()))
}

async fn call(alice: &Agent, invite: Invite) -> Call {
    alice.dialogs.invite(invite, None).await.unwrap()
}

/// Bob rings, answers, and hangs up when he is told to.
async fn answers(bob: &mut Agent, hangs_up: bool) -> CallEnd {
    let mut call = bob.incoming.next().await.unwrap();
    call.ring().await.unwrap();
    call.accept(sdp("answer")).await.unwrap();
    match call.next().await {
        Some(CallEvent::Acknowledged(_)) => {}
        // The BYE has overtaken the ACK.
        Some(CallEvent::Ended(end)) if !hangs_up => return end,
        other => panic!("{other:?}"),
    }
    if hangs_up {
        call.hang_up().await.unwrap();
    }
    call.ended().await
}

async fn refuses(bob: &mut Agent, rings: bool, status: StatusCode) -> CallEnd {
    let mut call = bob.incoming.next().await.unwrap();
    if rings {
        call.ring().await.unwrap();
        pass(500).await;
    }
    call.reject(status).await.unwrap();
    call.ended().await
}

/// Alice talks until either hangs up.
async fn talks(mut call: Call, hangs_up: bool) -> CallEnd {
    call.answered().await.unwrap();
    if hangs_up {
        call.hang_up().await.unwrap();
    }
    call.ended().await
}

async fn quiet(alice: &Agent, bob: &Agent) {
    pass(120_000).await;
    alice.assert_idle();
    bob.assert_idle();
}

#[test]
fn section_3_1_successful_session_establishment() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let calling = call(&alice, alice.asks(BOB).body(sdp("offer"))).await;
        let (his, hers) = tokio::join!(answers(&mut bob, true), talks(calling, false));
        assert!(matches!(his, CallEnd::HungUp));
        assert!(matches!(hers, CallEnd::PeerHungUp(_)));
        quiet(&alice, &bob).await;
    });
}

#[test]
fn section_3_2_session_establishment_through_two_proxies() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let _one = proxy(&network, PROXY_1, to(PROXY_2)).await;
        let _two = proxy(&network, PROXY_2, to(BOB)).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let calling = call(&alice, via(&alice, PROXY_1)).await;
        let (his, hers) = tokio::join!(answers(&mut bob, true), talks(calling, false));
        assert!(matches!(his, CallEnd::HungUp));
        let CallEnd::PeerHungUp(bye) = hers else {
            panic!("{hers:?}");
        };
        assert_eq!(
            bye.headers().vias().count(),
            3,
            "the BYE came by both proxies"
        );
        quiet(&alice, &bob).await;
    });
}

#[test]
fn section_3_3_session_with_multiple_proxy_authentication() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let wants = |next: &str, realm| Ways {
            wants: Some(realm),
            ..to(next)
        };
        let _one = proxy(&network, PROXY_1, wants(PROXY_2, "atlanta")).await;
        let _two = proxy(&network, PROXY_2, wants(BOB, "biloxi")).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let authorizer = DigestAuthorizer::new([Credentials::new("alice", "wonderland")]);
        let authorizer: Arc<dyn Authorizer> = Arc::new(authorizer.unwrap());
        let calling = alice.dialogs.invite(via(&alice, PROXY_1), Some(authorizer));
        let calling = calling.await.unwrap();
        let (his, hers) = tokio::join!(answers(&mut bob, true), talks(calling, false));
        assert!(matches!(his, CallEnd::HungUp));
        assert!(matches!(hers, CallEnd::PeerHungUp(_)));
        quiet(&alice, &bob).await;
    });
}

#[test]
fn section_3_4_successful_session_with_proxy_failure() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let _two = proxy(&network, PROXY_2, to(BOB)).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        // Nobody is at the first.
        let Target::Destinations(mut proxies) = Target::udp(PROXY_1.parse().unwrap()) else {
            panic!("an address is a destination");
        };
        proxies.push(sipora_transport::Destination::udp(PROXY_2.parse().unwrap()));
        let invite = alice.asks(BOB).body(sdp("offer"));
        let calling = call(&alice, invite.via(Target::Destinations(proxies))).await;
        let (his, hers) = tokio::join!(answers(&mut bob, false), talks(calling, true));
        assert!(matches!(his, CallEnd::PeerHungUp(_)));
        assert!(matches!(hers, CallEnd::HungUp));
        quiet(&alice, &bob).await;
    });
}

#[test]
fn section_3_5_session_through_a_sip_alg() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        // To a user agent an ALG is a proxy that stays in the dialog.
        let _alg = proxy(&network, PROXY_1, to(BOB)).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let calling = call(&alice, via(&alice, PROXY_1)).await;
        let (his, hers) = tokio::join!(answers(&mut bob, false), talks(calling, true));
        assert!(matches!(his, CallEnd::PeerHungUp(_)));
        assert!(matches!(hers, CallEnd::HungUp));
        quiet(&alice, &bob).await;
    });
}

#[test]
fn section_3_6_session_via_redirect_and_proxy_servers_with_sdp_in_ack() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let mut redirect = Agent::new(&network, PROXY_1, 3).await;
        let _proxy = proxy(&network, PROXY_2, to(BOB)).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let mut first = call(&alice, alice.asks(PROXY_1)).await;
        let redirecting = async {
            let call = redirect.incoming.next().await.unwrap();
            call.redirect(&[uri(&format!("sip:bob@{BOB}"))])
                .await
                .unwrap();
            call
        };
        let (_redirecting, moved) = tokio::join!(redirecting, first.answered());
        let Err(CallEnd::Refused(moved)) = moved else {
            panic!("302");
        };
        let place = moved.headers().contact().unwrap().unwrap().uri().to_owned();
        let contact = uri(&format!("sip:alice@{ALICE}"));
        let invite = Invite::new(place, uri("sip:alice@example.com"), contact);
        let target = Target::udp(PROXY_2.parse().unwrap());
        let mut calling = call(&alice, invite.via(target)).await;
        let alices = async {
            calling.answered().await.unwrap();
            calling.acknowledge(sdp("answer")).await.unwrap();
            calling.ended().await
        };
        let (his, hers) = tokio::join!(answers(&mut bob, true), alices);
        assert!(matches!(his, CallEnd::HungUp));
        assert!(matches!(hers, CallEnd::PeerHungUp(_)));
        quiet(&alice, &bob).await;
    });
}

#[test]
fn section_3_7_session_with_re_invite() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let mut calling = call(&alice, alice.asks(BOB).body(sdp("offer"))).await;
        let alices = async {
            calling.answered().await.unwrap();
            loop {
                match calling.next().await.unwrap() {
                    CallEvent::Reinvited(_) => calling.accept(sdp("new answer")).await.unwrap(),
                    CallEvent::Acknowledged(_) => break,
                    other => panic!("{other:?}"),
                }
            }
            calling.hang_up().await.unwrap();
            calling.ended().await
        };
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            call.next().await.unwrap();
            call.reinvite(Some(sdp("new address"))).await.unwrap();
            let changed = call.next().await;
            assert!(matches!(changed, Some(CallEvent::ReinviteAccepted(_))));
            call.ended().await
        };
        let (his, hers) = tokio::join!(bobs, alices);
        assert!(matches!(his, CallEnd::PeerHungUp(_)));
        assert!(matches!(hers, CallEnd::HungUp));
        quiet(&alice, &bob).await;
    });
}

#[test]
fn section_3_8_unsuccessful_no_answer() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let _one = proxy(&network, PROXY_1, to(PROXY_2)).await;
        let _two = proxy(&network, PROXY_2, to(BOB)).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let mut calling = call(&alice, via(&alice, PROXY_1)).await;
        let alices = async {
            pass(10_000).await;
            calling.hang_up().await.unwrap();
            calling.ended().await
        };
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.ring().await.unwrap();
            call.ended().await
        };
        let (his, hers) = tokio::join!(bobs, alices);
        assert!(matches!(his, CallEnd::PeerCancelled(_)), "{his:?}");
        assert!(matches!(hers, CallEnd::Cancelled), "{hers:?}");
        quiet(&alice, &bob).await;
    });
}

/// Sections 3.9 and 3.11: through two proxies to Bob, who refuses.
fn refused(rings: bool, status: StatusCode) {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let _one = proxy(&network, PROXY_1, to(PROXY_2)).await;
        let _two = proxy(&network, PROXY_2, to(BOB)).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut bob = Agent::new(&network, BOB, 2).await;
        let mut calling = call(&alice, via(&alice, PROXY_1)).await;
        let (his, hers) = tokio::join!(refuses(&mut bob, rings, status), calling.ended());
        assert!(matches!(his, CallEnd::Rejected));
        let CallEnd::Refused(response) = hers else {
            panic!("{hers:?}");
        };
        assert_eq!(response.status(), status);
        quiet(&alice, &bob).await;
    });
}

#[test]
fn section_3_9_unsuccessful_busy() {
    refused(false, StatusCode::BUSY_HERE);
}

#[test]
fn section_3_10_unsuccessful_no_response_from_user_agent() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let _one = proxy(&network, PROXY_1, to(PROXY_2)).await;
        let _two = proxy(&network, PROXY_2, to(BOB)).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let mut calling = call(&alice, via(&alice, PROXY_1)).await;
        let CallEnd::Refused(response) = calling.ended().await else {
            panic!("the proxy says 480");
        };
        assert_eq!(response.status(), StatusCode::TEMPORARILY_UNAVAILABLE);
        pass(120_000).await;
        alice.assert_idle();
    });
}

#[test]
fn section_3_11_unsuccessful_temporarily_unavailable() {
    refused(true, StatusCode::TEMPORARILY_UNAVAILABLE);
}

/// Not in RFC 3665: the CANCEL waits at each hop for a provisional answer (RFC 3261 §9.1).
#[test]
fn a_caller_behind_two_proxies_gives_up_before_anything_is_heard() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let _one = proxy(&network, PROXY_1, to(PROXY_2)).await;
        let _two = proxy(&network, PROXY_2, to(BOB)).await;
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut calling = call(&alice, via(&alice, PROXY_1)).await;
        calling.hang_up().await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "b").await;
        phone.first(Method::Cancel).await;
        phone.answer(&invite, 487, "b").await;
        assert!(matches!(calling.ended().await, CallEnd::Cancelled));
        pass(120_000).await;
        alice.assert_idle();
    });
}
