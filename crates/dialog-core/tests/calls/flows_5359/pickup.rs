//! Sections 2.15 to 2.18: calls that are parked, picked up, tried again, and clicked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::outside::Outside;
use super::*;
use sipora_dialog_core::{
    Body, CustomPackage, Decision, EventPackage, EventSource, NotifierApi, NotifierConfig,
    NotifierSubscription, Offer, Refer, Subscribe, SubscriberApi, SubscriberConfig, Subscription,
};
use sipora_message::StatusCode;
use sipora_testkit::{for_each_seed, seeds};
use sipora_transaction_core::EndpointBuilder;

const DAN: &str = "192.0.2.4:5060";

fn package() -> Vec<Arc<dyn EventPackage>> {
    vec![Arc::new(CustomPackage::new("dialog").with_type(TYPE))]
}

/// What a user agent tells of its dialogs (RFC 4235), as its application writes it.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<String>>);

impl EventSource for Board {
    fn on_subscribe(&mut self, _: &Offer) -> Decision {
        Decision::Active
    }

    fn state(&mut self, _: &NotifierSubscription) -> Option<Body> {
        let info = self.0.lock().unwrap();
        Some(Body::new(TYPE, info.as_bytes().to_vec()))
    }
}

impl Board {
    fn shows(&self, dialog: &DialogId) {
        *self.0.lock().unwrap() = format!(
            "<dialog-info><dialog call-id=\"{}\" local-tag=\"{}\" remote-tag=\"{}\"/></dialog-info>",
            dialog.call_id, dialog.local_tag, dialog.remote_tag
        );
    }

    /// One that an agent has beside its calls.
    fn at(builder: &mut EndpointBuilder) -> (Self, NotifierApi) {
        let board = Self::default();
        let config = NotifierConfig::default();
        let api = NotifierApi::add_to(builder, config, package(), board.clone(), None);
        (board, api)
    }
}

/// The dialog that a notification tells of, as who is to be called knows it.
fn told_of(body: &[u8]) -> Option<sipora_message::DialogId> {
    let text = std::str::from_utf8(body).unwrap();
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let (call_id, local) = (field("call-id")?, field("local-tag")?);
    sipora_message::DialogId::new(call_id, field("remote-tag")?, local).ok()
}

fn watcher(builder: &mut EndpointBuilder) -> SubscriberApi {
    SubscriberApi::add_to(builder, SubscriberConfig::default(), package())
}

async fn watches(api: &SubscriberApi, own: &str, whom: &Uri, seconds: u32) -> Subscription {
    let subscribe = Subscribe {
        target: whom.clone(),
        from: uri("sip:watcher@example.com"),
        contact: uri(&format!("sip:watcher@{own}")),
        event: "dialog".to_owned(),
        expires: seconds,
        headers: Vec::new(),
    };
    let timeout = Duration::from_secs(32);
    api.subscribe(subscribe, None, timeout).await.unwrap()
}

/// The park server is asked as the music server of section 2.3 is.
#[test]
fn section_2_15_call_park() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let mut alice = Agent::with(&network, ALICE, 1, able()).await;
        let mut bob = Agent::with(&network, BOB, 2, able()).await;
        let mut place = site(&network, CAROL, 3);
        let (board, _notifier) = Board::at(&mut place.0);
        let mut park = Outside::on(place, CAROL).await;
        let mut place = site(&network, DAN, 4);
        let subscriber = watcher(&mut place.0);
        let carol = Agent::beside(place, DAN, able()).await;
        let (parked, picks_up) = tokio::sync::oneshot::channel();
        let alices = async {
            let mut first = alice.calls(BOB).await;
            first.answered().await.unwrap();
            let (first, (second, third)) = tokio::join!(listens(&mut first), async {
                let mut second = alice.incoming.next().await.unwrap();
                second.accept_replacing(sdp("answer")).await.unwrap();
                tokio::join!(listens(&mut second), async {
                    let mut third = alice.incoming.next().await.unwrap();
                    third.accept_replacing(sdp("answer")).await.unwrap();
                    listens(&mut third).await
                })
            });
            (first, second, third)
        };
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut call).await;
            let place = in_place_of("alice", ALICE, &call.dialog().await.unwrap());
            let referring = outside::refers(&bob, CAROL, Refer::to(place));
            let (status, end) = tokio::join!(referring, listens(&mut call));
            assert_eq!(status, Some(StatusCode::OK));
            end
        };
        let parks = async {
            let refer = park.referred().await;
            let place = refer.referral().refer_to().unwrap();
            let mut call = takes_over(&park.agent, &place).await;
            let answer = call.answered().await.unwrap();
            refer.report(answer.status()).await.unwrap();
            board.shows(&call.dialog().await.unwrap());
            parked.send(()).unwrap();
            listens(&mut call).await
        };
        let carols = async {
            picks_up.await.unwrap();
            let server = uri(&format!("sip:park@{CAROL}"));
            let subscription = watches(&subscriber, DAN, &server, 0).await;
            let notification = subscription.next().await.unwrap();
            let replaced = told_of(notification.body()).unwrap();
            let mut call = calls_in_place_of(&carol, &replaced).await;
            call.answered().await.unwrap();
            pass(2_000).await;
            call.hang_up().await.unwrap();
            call.ended().await
        };
        let ((first, second, third), his, parked, hers) = tokio::join!(alices, bobs, parks, carols);
        assert!(matches!(first, CallEnd::Replaced(_)), "{first:?}");
        assert!(matches!(second, CallEnd::Replaced(_)), "{second:?}");
        assert!(matches!(third, CallEnd::PeerHungUp(_)), "{third:?}");
        assert!(matches!(his, CallEnd::PeerHungUp(_)), "{his:?}");
        assert!(matches!(parked, CallEnd::PeerHungUp(_)), "{parked:?}");
        assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
        quiet(&[alice, bob, park.agent, carol]).await;
    });
}

/// Calls Alice in the place of a call that she is in.
async fn calls_in_place_of(agent: &Agent, replaced: &sipora_message::DialogId) -> Call {
    let contact = uri(&format!("sip:own@{}", agent.address));
    let alice = uri(&format!("sip:alice@{ALICE}"));
    let invite = sipora_dialog_core::Invite::new(alice, uri("sip:own@example.com"), contact);
    let invite = invite.replaces(replaced).body(sdp("offer"));
    agent.dialogs.invite(invite, None).await.unwrap()
}

#[test]
fn section_2_16_call_pickup() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let mut alice = Agent::with(&network, ALICE, 1, able()).await;
        let mut place = site(&network, BOB, 2);
        let (board, _notifier) = Board::at(&mut place.0);
        let mut bob = Agent::beside(place, BOB, able()).await;
        let mut place = site(&network, CAROL, 3);
        let subscriber = watcher(&mut place.0);
        let bill = Agent::beside(place, CAROL, able()).await;
        let (rings, picks_up) = tokio::sync::oneshot::channel();
        let alices = async {
            let mut first = alice.calls(BOB).await;
            // The early dialog has to be there.
            while !is_progress(&first.next().await) {}
            tokio::join!(listens(&mut first), async {
                let mut second = alice.incoming.next().await.unwrap();
                second.accept_replacing(sdp("answer")).await.unwrap();
                acknowledged(&mut second).await;
                pass(2_000).await;
                second.hang_up().await.unwrap();
                second.ended().await
            })
        };
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            // Reliably, so that Alice hears of it.
            let status = StatusCode::RINGING;
            call.progress_reliably(status, Some(sdp("answer")))
                .await
                .unwrap();
            let next = call.next().await;
            assert!(matches!(next, Some(CallEvent::ProgressAcknowledged(_))));
            board.shows(&call.dialog().await.unwrap());
            rings.send(()).unwrap();
            listens(&mut call).await
        };
        let bills = async {
            picks_up.await.unwrap();
            let whom = uri(&format!("sip:bob@{BOB}"));
            let subscription = watches(&subscriber, CAROL, &whom, 0).await;
            let notification = subscription.next().await.unwrap();
            let replaced = told_of(notification.body()).unwrap().early_only();
            let mut call = calls_in_place_of(&bill, &replaced).await;
            call.answered().await.unwrap();
            listens(&mut call).await
        };
        let ((first, second), his, bills) = tokio::join!(alices, bobs, bills);
        assert!(matches!(first, CallEnd::Replaced(_)), "{first:?}");
        assert!(matches!(second, CallEnd::HungUp), "{second:?}");
        assert!(matches!(his, CallEnd::PeerCancelled(_)), "{his:?}");
        assert!(his.was_answered_elsewhere());
        assert!(matches!(bills, CallEnd::PeerHungUp(_)), "{bills:?}");
        quiet(&[alice, bob, bill]).await;
    });
}

#[test]
fn section_2_17_automatic_redial() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let mut place = site(&network, ALICE, 1);
        let subscriber = watcher(&mut place.0);
        let alice = Agent::beside(place, ALICE, able()).await;
        let mut place = site(&network, BOB, 2);
        let (board, notifier) = Board::at(&mut place.0);
        let mut bob = Agent::beside(place, BOB, able()).await;
        let resource = uri(&format!("sip:bob@{BOB}"));
        *board.0.lock().unwrap() = "busy".to_owned();
        let alices = async {
            let mut call = alice.calls(BOB).await;
            let refused = call.answered().await.unwrap_err();
            assert!(
                matches!(&refused, CallEnd::Refused(it) if it.status() == StatusCode::BUSY_HERE)
            );
            let subscription = watches(&subscriber, ALICE, &resource, 3600).await;
            // Each NOTIFY tells the whole; what a late one says is told again by the next.
            while subscription.next().await.unwrap().body() != b"idle" {}
            let mut call = alice.calls(BOB).await;
            call.answered().await.unwrap();
            while subscription.next().await.unwrap().body() != b"talks" {}
            subscription.terminate().await;
            call.hang_up().await.unwrap();
            call.ended().await
        };
        let bobs = async {
            let mut call = bob.incoming.next().await.unwrap();
            call.reject(StatusCode::BUSY_HERE).await.unwrap();
            assert!(matches!(call.ended().await, CallEnd::Rejected));
            pass(60_000).await;
            *board.0.lock().unwrap() = "idle".to_owned();
            notifier.changed("dialog", &resource).await.unwrap();
            let mut call = bob.incoming.next().await.unwrap();
            call.ring().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            acknowledged(&mut call).await;
            *board.0.lock().unwrap() = "talks".to_owned();
            notifier.changed("dialog", &resource).await.unwrap();
            listens(&mut call).await
        };
        let (hers, his) = tokio::join!(alices, bobs);
        assert!(matches!(hers, CallEnd::HungUp), "{hers:?}");
        assert!(matches!(his, CallEnd::PeerHungUp(_)), "{his:?}");
        quiet(&[alice, bob]).await;
    });
}

#[test]
fn section_2_18_click_to_dial() {
    for_each_seed(seeds(), |network| async move {
        set(&network);
        let computer = Agent::new(&network, ALICE, 1).await;
        let mut bob = Outside::new(&network, BOB, 2).await;
        let mut carol = Agent::new(&network, CAROL, 3).await;
        let clicks = async {
            let carol = uri(&format!("sip:carol@{CAROL}"));
            let refer = Refer::to(carol).referred_by("<sip:pc@example.com>");
            let status = outside::refers(&computer, BOB, refer.without_subscription()).await;
            assert_eq!(status, None, "nothing is told");
        };
        let bobs = async {
            let refer = bob.referred().await;
            let contact = uri(&format!("sip:bob@{BOB}"));
            let invite = refer.referral().invite(uri("sip:bob@example.com"), contact);
            let invite = invite.unwrap().body(sdp("offer"));
            let mut call = bob.agent.dialogs.invite(invite, None).await.unwrap();
            let answer = call.answered().await.unwrap();
            refer.report(answer.status()).await.unwrap();
            pass(2_000).await;
            call.hang_up().await.unwrap();
            call.ended().await
        };
        let carols = async {
            let mut call = carol.incoming.next().await.unwrap();
            let invite = call.invite().unwrap();
            assert!(invite.headers().referred_by().unwrap().is_some());
            call.ring().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            listens(&mut call).await
        };
        let ((), his, hers) = tokio::join!(clicks, bobs, carols);
        assert!(matches!(his, CallEnd::HungUp), "{his:?}");
        assert!(matches!(hers, CallEnd::PeerHungUp(_)), "{hers:?}");
        quiet(&[computer, bob.agent, carol]).await;
    });
}

const TYPE: &str = "application/dialog-info+xml";
