//! Sections 2.7 to 2.9 and 2.12 to 2.14: calls that a proxy forwards, and screens.

use std::sync::Arc;

use super::*;
use crate::proxy::{Ways, proxy};
use sipora_auth::Credentials;
use sipora_dialog_core::{Authorizer, DigestAuthorizer, Invite};
use sipora_message::{Method, StatusCode};
use sipora_testkit::{for_each_seed, seeds};
use sipora_transaction_core::Target;
use std::time::Duration;

const PROXY: &str = "192.0.2.11:5060";
const OTHERS: [&str; 2] = ["192.0.2.4:5060", "192.0.2.5:5060"];

fn to(next: &str) -> Ways {
    Ways {
        next: next.to_owned(),
        ..Ways::default()
    }
}

fn via_proxy(alice: &Agent) -> Invite {
    let invite = alice.asks(BOB).body(sdp("offer"));
    invite.via(Target::udp(PROXY.parse().unwrap()))
}

/// Calls through the proxy, talks, and hangs up; gives the statuses that were heard before the 2xx.
async fn talks(alice: &Agent) -> (Vec<u16>, CallEnd) {
    let mut call = alice.dialogs.invite(via_proxy(alice), None).await.unwrap();
    let mut heard = Vec::new();
    loop {
        match call.next().await.unwrap() {
            CallEvent::Progress(response) => heard.push(response.status().as_u16()),
            CallEvent::Answered(_) => break,
            other => panic!("{other:?}"),
        }
    }
    pass(2_000).await;
    call.hang_up().await.unwrap();
    (heard, call.ended().await)
}

/// Rings, and answers at once, until the other side hangs up.
async fn answers(agent: &mut Agent) -> CallEnd {
    let mut call = agent.incoming.next().await.unwrap();
    call.ring().await.unwrap();
    call.accept(sdp("answer")).await.unwrap();
    listens(&mut call).await
}

async fn refuses(agent: &mut Agent, status: StatusCode) -> CallEnd {
    let mut call = agent.incoming.next().await.unwrap();
    call.reject(status).await.unwrap();
    call.ended().await
}

/// Rings until it is cancelled.
async fn only_rings(agent: &mut Agent) -> CallEnd {
    let mut call = agent.incoming.next().await.unwrap();
    call.ring().await.unwrap();
    call.ended().await
}

fn authorizer() -> Arc<dyn Authorizer> {
    let authorizer = DigestAuthorizer::new([Credentials::new("alice", "wonderland")]);
    Arc::new(authorizer.unwrap())
}

#[test]
fn section_2_7_call_forwarding_unconditional() {
    for_each_seed(seeds(), |network| async move {
        let [alice, bob, mut carol] = agents(&network).await;
        let _proxy = proxy(&network, PROXY, to(CAROL)).await;
        let ((_, hers), his) = tokio::join!(talks(&alice), answers(&mut carol));
        assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
        assert!(matches!(his, CallEnd::PeerHungUp(_)), "{his:?}");
        quiet(&[alice, bob, carol]).await;
    });
}

#[test]
fn section_2_8_call_forwarding_busy() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, mut carol] = agents(&network).await;
        let ways = Ways {
            then: vec![CAROL.to_owned()],
            ..to(BOB)
        };
        let _proxy = proxy(&network, PROXY, ways).await;
        let ((heard, hers), one, two) = tokio::join!(
            talks(&alice),
            refuses(&mut bob, StatusCode::BUSY_HERE),
            answers(&mut carol)
        );
        if network.seed() % 2 == 0 {
            assert_eq!(heard, [181, 180]);
        }
        assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
        assert!(matches!(one, CallEnd::Rejected), "{one:?}");
        assert!(matches!(two, CallEnd::PeerHungUp(_)), "{two:?}");
        quiet(&[alice, bob, carol]).await;
    });
}

#[test]
fn section_2_9_call_forwarding_no_answer() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, mut carol] = agents(&network).await;
        let ways = Ways {
            then: vec![CAROL.to_owned()],
            patience: Some(Duration::from_secs(20)),
            ..to(BOB)
        };
        let _proxy = proxy(&network, PROXY, ways).await;
        let ((heard, hers), one, two) =
            tokio::join!(talks(&alice), only_rings(&mut bob), answers(&mut carol));
        if network.seed() % 2 == 0 {
            assert_eq!(heard, [180, 181, 180]);
        }
        assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
        assert!(matches!(one, CallEnd::PeerCancelled(_)), "{one:?}");
        assert!(matches!(two, CallEnd::PeerHungUp(_)), "{two:?}");
        quiet(&[alice, bob, carol]).await;
    });
}

#[test]
fn section_2_12_find_me() {
    for_each_seed(seeds(), |network| async move {
        let [alice, mut bob, mut carol] = agents(&network).await;
        let [second, third] = OTHERS;
        let mut second_phone = Agent::new(&network, second, 4).await;
        let mut third_phone = Agent::new(&network, third, 5).await;
        let ways = Ways {
            then: [second, third, CAROL].map(str::to_owned).to_vec(),
            patience: Some(Duration::from_secs(20)),
            ..to(BOB)
        };
        let _proxy = proxy(&network, PROXY, ways).await;
        let calling = async {
            let invite = via_proxy(&alice);
            let mut call = alice.dialogs.invite(invite, None).await.unwrap();
            call.answered().await.unwrap();
            call.ended().await
        };
        let finds = async {
            let call = carol.incoming.next().await.unwrap();
            call.ring().await.unwrap();
            talks_and_hangs_up(call).await
        };
        let (hers, one, two, three, four) = tokio::join!(
            calling,
            only_rings(&mut bob),
            refuses(&mut second_phone, StatusCode::TEMPORARILY_UNAVAILABLE),
            refuses(&mut third_phone, StatusCode::BUSY_HERE),
            finds
        );
        assert!(matches!(hers, CallEnd::PeerHungUp(_)), "{hers:?}");
        assert!(matches!(one, CallEnd::PeerCancelled(_)), "{one:?}");
        assert!(matches!(two, CallEnd::Rejected), "{two:?}");
        assert!(matches!(three, CallEnd::Rejected), "{three:?}");
        assert!(matches!(four, CallEnd::HungUp), "{four:?}");
        quiet(&[alice, bob, carol, second_phone, third_phone]).await;
    });
}

/// Calls, is refused by who screens calls, and hears why.
async fn hears_why(alice: &Agent, invite: Invite) -> CallEnd {
    let mut call = alice
        .dialogs
        .invite(invite, Some(authorizer()))
        .await
        .unwrap();
    let refused = call.answered().await.unwrap_err();
    let CallEnd::Refused(response) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.reason(), "Screening Failure");
    let why = response.headers().text(&HeaderName::ErrorInfo).unwrap();
    let why = why.trim_start_matches('<').trim_end_matches('>');
    let contact = uri(&format!("sip:alice@{ALICE}"));
    let invite = Invite::new(uri(why), uri("sip:alice@example.com"), contact);
    let invite = invite.body(sdp("offer"));
    let mut call = alice.dialogs.invite(invite, None).await.unwrap();
    call.answered().await.unwrap();
    call.ended().await
}

fn screens() -> Ways {
    Ways {
        wants: Some("screen"),
        screens: Some(format!("sip:screened@{CAROL}")),
        ..to(BOB)
    }
}

#[test]
fn section_2_13_call_management_incoming_call_screening() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let alice = Agent::with(&network, ALICE, 1, able()).await;
        let bob = Phone::new(&network).await;
        let mut announcement = Agent::with(&network, CAROL, 3, able()).await;
        let _proxy = proxy(&network, PROXY, screens()).await;
        let calling = async {
            let mut call = alice.calls(BOB).await;
            let refused = call.answered().await.unwrap_err();
            let CallEnd::Refused(response) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(response.status(), StatusCode::USE_PROXY);
            let proxy = response.headers().contact().unwrap().unwrap();
            let invite = alice.asks(BOB).body(sdp("offer"));
            let invite = invite.header(HeaderName::Route, format!("<{};lr>", proxy.uri()));
            hears_why(&alice, invite).await
        };
        let sends_to_the_proxy = async {
            let invite = bob.first(Method::Invite).await;
            bob.answer_with(&invite, 305, "b", |builder| {
                builder.contact(format!("<sip:{PROXY}>"))
            })
            .await;
        };
        let announces = async {
            let call = announcement.incoming.next().await.unwrap();
            talks_and_hangs_up(call).await
        };
        let (hers, (), its) = tokio::join!(calling, sends_to_the_proxy, announces);
        assert!(matches!(hers, CallEnd::PeerHungUp(_)), "{hers:?}");
        assert!(matches!(its, CallEnd::HungUp), "{its:?}");
        quiet(&[alice, announcement]).await;
        assert_eq!(bob.count(Method::Invite), 1, "none came by the proxy");
    });
}

#[test]
fn section_2_14_call_management_outgoing_call_screening() {
    for_each_seed(seeds(), |network| async move {
        let [alice, bob, mut announcement] = agents(&network).await;
        let _proxy = proxy(&network, PROXY, screens()).await;
        let announces = async {
            let call = announcement.incoming.next().await.unwrap();
            talks_and_hangs_up(call).await
        };
        let (hers, its) = tokio::join!(hears_why(&alice, via_proxy(&alice)), announces);
        assert!(matches!(hers, CallEnd::PeerHungUp(_)), "{hers:?}");
        assert!(matches!(its, CallEnd::HungUp), "{its:?}");
        assert_eq!(bob.dialogs.call_metrics().begun, 0);
        quiet(&[alice, bob, announcement]).await;
    });
}
