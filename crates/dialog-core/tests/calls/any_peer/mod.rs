//! Calls with a peer that does anything, in any order, and then comes to its senses: the call goes on or ends, every request of the
//! peer's is answered once, and nothing is left.

mod peer;

use crate::support::*;
use peer::Peer;
use sipora_dialog_core::{
    Body, Call, CallConfig, CallEvent, CallRequest, Refer, ReferId, Reliability,
};
use sipora_message::{HeaderName, Method, Request, StatusCode};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Draws one of several.
fn one<T: Clone>(network: &SimNetwork, of: &[T]) -> T {
    of[network.random(0..=of.len() as u64 - 1) as usize].clone()
}

/// Once in `n` times.
fn once_in(network: &SimNetwork, n: u64) -> bool {
    network.random(1..=n) == 1
}

fn described_at_random(network: &SimNetwork) -> Option<Body> {
    let text = one(network, &["hold", "resume", "other"]);
    (!once_in(network, 3)).then(|| sdp(text))
}

/// Alice's application.
struct Application {
    network: SimNetwork,
    call: Call,
    refers: Vec<ReferId>,
    early: Vec<String>,
    ends: u32,
    /// Re-INVITEs and UPDATEs that were begun, and those of which it was told what came of them; and accepted re-INVITEs.
    begun: u32,
    told: u32,
    changed: u32,
    session_ended: bool,
}

impl Application {
    /// Reads all events there are; a good one does what they ask for.
    async fn reads(&mut self, is_good: bool) {
        let network = self.network.clone();
        while let Ok(Some(event)) = timeout(Duration::from_millis(1), self.call.next()).await {
            assert_eq!(self.ends, 0, "something came after the end");
            let reacts = is_good || once_in(&network, 2);
            self.told += u32::from(is_outcome(&event));
            match event {
                CallEvent::Ended(_) => self.ends += 1,
                CallEvent::SessionEnded => self.session_ended = true,
                CallEvent::Referred(referral) => self.refers.push(referral.id),
                CallEvent::Progress(response) | CallEvent::EarlyOffer(response) => {
                    let tag = response.headers().to().unwrap().tag().unwrap_or_default();
                    self.early.push(tag.to_owned());
                    if reacts {
                        let _ = self.call.acknowledge_progress(tag, sdp("answer")).await;
                    }
                }
                CallEvent::Answered(_) | CallEvent::ReinviteAccepted(_) => {
                    self.changed += u32::from(matches!(event, CallEvent::ReinviteAccepted(_)));
                    if reacts {
                        let _ = self.call.acknowledge(sdp("answer")).await;
                    }
                }
                CallEvent::Offered(_) if reacts => {
                    let _ = self.call.answer(sdp("answer")).await;
                }
                CallEvent::Reinvited(_) if reacts => {
                    let _ = self.call.accept(sdp("answer")).await;
                }
                _ => {}
            }
        }
    }

    /// Does anything, and does not care what comes of it.
    async fn steps(&mut self) {
        let (call, network) = (&self.call, &self.network);
        let body = described_at_random(network);
        let given = sdp("given");
        let tag = match self.early.is_empty() {
            true => String::new(),
            false => one(network, &self.early),
        };
        let refusal = one(
            network,
            &[488, 486, 302, 500].map(|it| StatusCode::new(it).unwrap()),
        );
        let refer = self.refers.last().copied();
        let briefly = Duration::from_millis(one(network, &[1, 1, 100]));
        let (ringing, fine) = (StatusCode::RINGING, StatusCode::OK);
        let progress = StatusCode::SESSION_PROGRESS;
        let choice = network.random(0..=24);
        let outcome = match (choice, refer) {
            (0, _) => call.progress(progress, body).await,
            (1 | 2, _) => call.progress_reliably(progress, body).await,
            (3 | 4, _) => call.accept(body).await,
            (5, _) if once_in(network, 4) => call.reject(refusal).await,
            (6 | 7, _) => call.reinvite(body).await,
            (8 | 9, _) => call.update(body).await,
            (10 | 11, _) => call.acknowledge(given).await,
            (12 | 13, _) => call.acknowledge_progress(&tag, given).await,
            (14 | 15, _) => call.answer(given).await,
            (16, _) => call.refuse(refusal).await,
            (17, _) => {
                let info = CallRequest::info(Body::new("text/plain", "hello"));
                let _ = timeout(briefly, call.request(info)).await;
                Ok(())
            }
            (18, _) => {
                let refer = Refer::to(uri("sip:carol@192.0.2.3"));
                let _ = timeout(briefly, call.refer(refer)).await;
                Ok(())
            }
            (19, Some(id)) => call.accept_refer(id).await,
            (20, Some(id)) => call.reject_refer(id, refusal).await,
            (21, Some(id)) => call.report_refer(id, one(network, &[ringing, fine])).await,
            (22, _) if once_in(network, 4) => call.end_early(&tag).await,
            (23, _) => call.export().await.map(drop),
            (24, _) if once_in(network, 25) => call.hang_up().await,
            _ => Ok(()),
        };
        self.begun += u32::from((6..=9).contains(&choice) && outcome.is_ok());
    }
}

/// Says what came of a change of hers.
fn is_outcome(event: &CallEvent) -> bool {
    use CallEvent::*;
    let of_reinvite = matches!(
        event,
        ReinviteAccepted(_) | ReinviteRefused(_) | ReinviteUndone(_)
    );
    let of_update = matches!(
        event,
        UpdateAccepted(_) | UpdateRefused(_) | UpdateFailed(_)
    );
    of_reinvite || of_update
}

/// Both behave for a while, or until one is content.
async fn behave(
    peer: &mut Peer,
    hers: &mut Application,
    seconds: u64,
    is_done: impl Fn(&Peer, &Application) -> bool,
) {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until && !is_done(peer, hers) {
        peer.behaves().await;
        hers.reads(true).await;
        pass(100).await;
    }
}

/// Alice's settings.
fn any_config(network: &SimNetwork) -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config.takes_replaces = true;
    config.info_packages = vec!["g.example".to_owned()];
    config.session_expires = once_in(network, 3).then_some(Duration::from_secs(120));
    config.reliability = one(
        network,
        &[
            Reliability::Supported,
            Reliability::Supported,
            Reliability::Never,
        ],
    );
    config.authorizer = credentials();
    config
}

/// The INVITE of a call of the phone's.
fn first_invite(network: &SimNetwork) -> Request {
    let outside = InDialog {
        call_id: "phone-call".to_owned(),
        local: "<sip:bob@example.com>;tag=b".to_owned(),
        remote: "<sip:alice@example.com>".to_owned(),
        target: format!("sip:alice@{ALICE}"),
    };
    let allow = "INVITE, ACK, BYE, PRACK, UPDATE";
    let mut builder = outside
        .bare(Method::Invite, 10)
        .header(HeaderName::Allow, allow);
    if once_in(network, 2) {
        builder = builder.header(HeaderName::Supported, "100rel");
    }
    if let Some(body) = described_at_random(network) {
        builder = builder.body("application/sdp", body.bytes);
    }
    builder.build().unwrap()
}

/// Both sides may change the session once more.
async fn still_changes(peer: &mut Peer, hers: &mut Application) {
    let dialog = hers.call.dialog().await.unwrap();
    let dialog = peer.dialog(Some(&dialog.remote_tag)).unwrap();
    for turn in 0.. {
        let number = peer.next_number();
        let asked = dialog.offering(Method::Invite, number, "fresh");
        peer.sends(asked.clone()).await;
        behave(peer, hers, 60, |peer, _| peer.phone.seen_finals(&asked) > 0).await;
        let statuses = peer.phone.seen.statuses(&asked);
        if statuses.contains(&200) {
            break;
        }
        assert!(turn < 10, "the phone's changes are refused: {statuses:?}");
        behave(peer, hers, 5, |_, _| false).await;
    }
    for turn in 0.. {
        let before = hers.changed;
        let outcome = hers.call.reinvite(Some(sdp("mine"))).await;
        hers.begun += u32::from(outcome.is_ok());
        behave(peer, hers, 30, |_, hers| hers.changed > before).await;
        if hers.changed > before {
            break;
        }
        assert!(turn < 10, "Alice changes nothing any more: {outcome:?}");
    }
    assert!(hers.ends == 0 && !hers.session_ended, "it has ended");
    assert_eq!(hers.told, hers.begun, "of each change it is told once");
}

/// Every request of the phone's has one final answer, and every 2xx of its has its ACK; the numbers go up.
fn check_messages(network: &SimNetwork, peer: &Peer) {
    for (request, _) in peer.sent.iter().filter(|it| it.1.is_some()) {
        let statuses = peer.phone.seen.statuses(request);
        let mut finals: Vec<_> = statuses.into_iter().filter(|it| *it >= 200).collect();
        if *request.method() == Method::Invite {
            finals.dedup();
        }
        assert_eq!(finals.len(), 1, "{finals:?} to\n{request:?}");
    }
    let packets = network.packets();
    let mut cancels = packets
        .iter()
        .filter(|it| it.first_line().starts_with("CANCEL"));
    let cancelled = cancels.next().map(|it| it.at);
    let is_in_time = |at| cancelled.is_none_or(|it| at < it + Duration::from_secs(32));
    for said in peer.said.iter().filter(|it| it.accepts) {
        // A cancelled INVITE is forgotten after that time (RFC 3261 §9.1).
        if to_tag(&said.invite).is_empty() && !is_in_time(said.at) {
            continue;
        }
        let number = number(&said.invite);
        let acks = peer.phone.seen.acks(number, &said.tag);
        assert!(acks > 0, "no ACK of {number} to {}", said.tag);
    }
    let mut last: BTreeMap<String, u32> = BTreeMap::new();
    for came in peer.phone.seen.everything().0 {
        if matches!(came.method(), Method::Ack | Method::Cancel) {
            continue;
        }
        let before = last.insert(to_tag(&came), number(&came));
        assert!(
            before < Some(number(&came)),
            "{before:?} before\n{:?}",
            came.request
        );
    }
}

#[test]
fn whatever_a_peer_does_calls_go_on_or_end_and_nothing_is_left() {
    for_each_seed(seeds(), |network| async move {
        network.auditor().excuse([192, 0, 2, 2].into());
        network.set_conditions(Conditions {
            delay: Duration::from_millis(1)..=Duration::from_millis(50),
            ..Conditions::perfect()
        });
        let mut alice = Agent::with(&network, ALICE, 1, any_config(&network)).await;
        let has_called = once_in(&network, 2);
        let mut peer = Peer::new(&network, has_called).await;
        let call = match has_called {
            true => {
                peer.sends(first_invite(&network)).await;
                alice.incoming.next().await.unwrap()
            }
            false => {
                let mut asks = alice.asks(BOB);
                if let Some(body) = described_at_random(&network) {
                    asks = asks.body(body);
                }
                alice.dialogs.invite(asks, credentials()).await.unwrap()
            }
        };
        let mut hers = Application {
            network: network.clone(),
            call,
            refers: Vec::new(),
            early: Vec::new(),
            ends: 0,
            begun: 0,
            told: 0,
            changed: 0,
            session_ended: false,
        };
        for _ in 0..network.random(40..=80) {
            match once_in(&network, 2) {
                true => peer.steps().await,
                false => hers.steps().await,
            }
            hers.reads(false).await;
            pass(network.random(0..=one(&network, &[0, 0, 50, 1_000, 5_000]))).await;
        }
        // What was read before is answered now.
        let _ = hers.call.accept(sdp("late")).await;
        let _ = hers.call.answer(sdp("late")).await;
        let _ = hers.call.acknowledge(sdp("late")).await;
        for tag in hers.early.clone() {
            let _ = hers.call.acknowledge_progress(&tag, sdp("late")).await;
        }
        behave(&mut peer, &mut hers, 180, |_, _| false).await;
        let is_up = hers.ends == 0 && !hers.session_ended && !peer.sent_bye();
        if is_up && peer.phone.count(Method::Bye) == 0 {
            still_changes(&mut peer, &mut hers).await;
        }
        let _ = hers.call.hang_up().await;
        behave(&mut peer, &mut hers, 600, |_, hers| hers.ends > 0).await;
        assert_eq!(hers.ends, 1, "it has not ended");
        assert!(hers.call.next().await.is_none());
        behave(&mut peer, &mut hers, 60, |_, _| false).await;
        pass(3_600_000).await;
        check_messages(&network, &peer);
        alice.assert_idle();
        assert!(network.packets().len() < 5_000);
    });
}
