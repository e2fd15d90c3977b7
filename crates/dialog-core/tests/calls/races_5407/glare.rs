//! Sections 3.3.1 and 3.3.2: changes of the session that cross, and how long each side waits then (RFC 3261 §14.1, RFC 3311 §5.3).

use std::cell::RefCell;
use std::time::Duration;

use crate::patient::*;
use crate::support::*;
use sipora_dialog_core::{Call, CallEnd, CallEvent};
use sipora_message::{Method, Request};
use sipora_testkit::{Fate, SimNetwork};

/// The two ways to change a session.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Change {
    Invite,
    Update,
}

impl Change {
    fn drawn(network: &SimNetwork) -> Self {
        match network.random(0..=1) {
            0 => Self::Invite,
            _ => Self::Update,
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Invite => Method::Invite,
            Self::Update => Method::Update,
        }
    }

    /// Alice's request.
    async fn begins(self, call: &Call) {
        let body = Some(sdp("hers"));
        match self {
            Self::Invite => call.reinvite(body).await.unwrap(),
            Self::Update => call.update(body).await.unwrap(),
        }
    }

    /// The phone's.
    fn of_phone(self, dialog: &InDialog, cseq: u32) -> Request {
        let builder = dialog.request(self.method(), cseq);
        match self {
            Self::Invite => builder,
            Self::Update => builder
                .contact(format!("<sip:bob@{BOB}>"))
                .body("application/sdp", "v=0\r\ns=new offer\r\n"),
        }
        .build()
        .unwrap()
    }

    /// The phone agrees to hers.
    async fn agrees(self, phone: &Phone, came: &Came) {
        match self {
            Self::Invite => phone.accepts(came, "b").await,
            Self::Update => {
                let edit = |builder: sipora_message::ResponseBuilder| {
                    let builder = builder.contact(format!("<sip:bob@{BOB}>"));
                    builder.body("application/sdp", "v=0\r\ns=fine\r\n")
                };
                phone.answer_with(came, 200, "b", edit).await;
            }
        }
    }

    /// Alice agrees to the phone's.
    async fn is_agreed_to(self, call: &mut Call, phone: &Phone, dialog: &InDialog, cseq: u32) {
        let theirs = self.of_phone(dialog, cseq);
        phone.send(&theirs, ALICE).await;
        match (self, heard(call).await) {
            (Self::Invite, CallEvent::Reinvited(_)) => call.accept(sdp("fine")).await.unwrap(),
            (Self::Update, CallEvent::Offered(_)) => call.answer(sdp("fine")).await.unwrap(),
            (_, other) => panic!("{other:?}"),
        }
        assert_eq!(phone.status_of(&theirs).await, 200);
        if self == Self::Invite {
            phone.acknowledges(dialog.build(Method::Ack, cseq)).await;
        }
    }
}

/// The next event that tells of more than an ACK.
async fn heard(call: &mut Call) -> CallEvent {
    loop {
        match call.next().await.unwrap() {
            CallEvent::Acknowledged(_) => {}
            event => return event,
        }
    }
}

/// A request of Alice's with a higher number.
async fn again(phone: &Phone, refused: &Request) -> Came {
    let is_it = |came: &Came| number(came) > number(refused);
    for _ in 0..20_000 {
        let all = phone.all(refused.method().clone());
        if let Some(came) = all.into_iter().find(is_it) {
            return came;
        }
        pass(5).await;
    }
    panic!("it was not sent again");
}

/// The time from the first 491 that reached Alice until her request left anew.
fn waited(network: &SimNetwork, refused: &Request, again: &Request) -> Duration {
    let cseq = |request: &Request| format!("CSeq: {} {}\r\n", number(request), request.method());
    let is_about =
        |bytes: &[u8], request: &Request| String::from_utf8_lossy(bytes).contains(&cseq(request));
    let (mut came, mut left) = (None::<Duration>, None::<Duration>);
    for packet in network.packets() {
        let line = packet.first_line();
        if line.starts_with("SIP/2.0 491") && is_about(&packet.bytes, refused) {
            let after = match packet.fate {
                Fate::Delivered(after) => after,
                Fate::Duplicated(one, two) => one.min(two),
                Fate::Lost | Fate::Unreachable => continue,
            };
            // The clock that wakes a receiver has whole milliseconds.
            let at = (packet.at + after).as_micros().div_ceil(1_000);
            let at = Duration::from_millis(u64::try_from(at).unwrap());
            came = Some(came.map_or(at, |before| before.min(at)));
        }
        if !line.starts_with("SIP/2.0") && is_about(&packet.bytes, again) {
            left.get_or_insert(packet.at);
        }
    }
    left.unwrap() - came.unwrap()
}

/// Both change the session at once, each gets 491, and Alice's goes again first. Gives the time that she waited.
async fn crossover(network: &SimNetwork, is_owner: bool, (ours, theirs): (Change, Change)) -> u64 {
    let mut alice = Agent::new(network, ALICE, 1).await;
    let phone = Phone::new(network).await;
    let (mut call, dialog) = match is_owner {
        true => up(&alice, &phone).await,
        false => taken(&mut alice, &phone).await,
    };
    ours.begins(&call).await;
    let nth = usize::from(is_owner && ours == Change::Invite);
    let hers = phone.nth(ours.method(), nth).await;
    moment(network).await;
    let his = theirs.of_phone(&dialog, 11);
    phone.send(&his, ALICE).await;
    assert_eq!(phone.status_of(&his).await, 491, "{ours:?} and {theirs:?}");
    phone.answer(&hers, 491, "b").await;
    let again = again(&phone, &hers).await;
    let waited = waited(network, &hers, &again);
    moment(network).await;
    ours.agrees(&phone, &again).await;
    match (ours, heard(&mut call).await) {
        (Change::Invite, CallEvent::ReinviteAccepted(_)) => {
            phone.ack_to(&again, "b").await;
        }
        (Change::Update, CallEvent::UpdateAccepted(_)) => {}
        (_, other) => panic!("{other:?}"),
    }
    moment(network).await;
    theirs.is_agreed_to(&mut call, &phone, &dialog, 12).await;
    let bye = dialog.build(Method::Bye, 13);
    phone.send(&bye, ALICE).await;
    assert_eq!(phone.status_of(&bye).await, 200);
    let end = end(&mut call).await;
    assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
    quiet(&alice).await;
    assert_eq!(
        waited.subsec_micros() % 10_000,
        0,
        "units of 10 ms: {waited:?}"
    );
    u64::try_from(waited.as_millis()).unwrap()
}

/// Runs a crossing under many seeds: she waits as long as §14.1 lets her, no longer, and not always as long.
fn bounds(is_owner: bool, changes: impl Fn(&SimNetwork) -> (Change, Change)) {
    let times = RefCell::new(Vec::new());
    let (low, high) = match is_owner {
        true => (2_100, 4_000),
        false => (0, 2_000),
    };
    race(async |network| {
        let time = crossover(&network, is_owner, changes(&network)).await;
        assert!((low..=high).contains(&time), "{time} ms");
        times.borrow_mut().push(time);
    });
    let times = times.into_inner();
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(
        times.len() == 1 || most - least > (high - low) / 2,
        "{times:?}"
    );
}

#[test]
fn section_3_3_1_re_invite_crossover_who_owns_the_call_id_waits_two_to_four_seconds() {
    bounds(true, |_| (Change::Invite, Change::Invite));
}

#[test]
fn section_3_3_1_re_invite_crossover_who_does_not_own_the_call_id_waits_two_seconds_at_most() {
    bounds(false, |_| (Change::Invite, Change::Invite));
}

#[test]
fn section_3_3_2_update_and_re_invite_crossover_who_owns_the_call_id_waits_two_to_four_seconds() {
    bounds(true, with_update);
}

#[test]
fn section_3_3_2_update_and_re_invite_crossover_who_does_not_own_the_call_id_waits_two_seconds_at_most()
 {
    bounds(false, with_update);
}

/// One of the two is an UPDATE, or both are.
fn with_update(network: &SimNetwork) -> (Change, Change) {
    match Change::drawn(network) {
        Change::Invite => (Change::Invite, Change::Update),
        Change::Update => (Change::Update, Change::drawn(network)),
    }
}

/// Who owns the Call-ID waits longer, so that the other comes first as a rule; either way both have theirs.
#[test]
fn section_3_3_1_both_change_the_session_in_turn_whoever_is_first() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = up(&alice, &phone).await;
        let (ours, theirs) = (Change::drawn(&network), Change::drawn(&network));
        ours.begins(&call).await;
        let nth = usize::from(ours == Change::Invite);
        let hers = phone.nth(ours.method(), nth).await;
        let his = theirs.of_phone(&dialog, 11);
        phone.send(&his, ALICE).await;
        assert_eq!(phone.status_of(&his).await, 491);
        phone.answer(&hers, 491, "b").await;
        // The phone's is sent again within 2 s, and hers not before 2.1 s, unless the 491 comes late.
        let goes_again = async {
            pass(10 * network.random(0..=200)).await;
            for cseq in 12.. {
                let his = theirs.of_phone(&dialog, cseq);
                phone.send(&his, ALICE).await;
                let status = phone.status_of(&his).await;
                if status == 200 {
                    if theirs == Change::Invite {
                        phone.acknowledges(dialog.build(Method::Ack, cseq)).await;
                    }
                    return cseq;
                }
                assert!(matches!(status, 491 | 500), "{status}");
                pass(10 * network.random(0..=200)).await;
            }
            unreachable!("numbers do not end")
        };
        let answers = async {
            let again = again(&phone, &hers).await;
            assert!(waited(&network, &hers, &again) >= Duration::from_millis(2_100));
            ours.agrees(&phone, &again).await;
        };
        let listens = async {
            let (mut hers, mut his) = (false, false);
            while !(hers && his) {
                match heard(&mut call).await {
                    CallEvent::Reinvited(_) => {
                        call.accept(sdp("fine")).await.unwrap();
                        his = true;
                    }
                    CallEvent::Offered(_) => {
                        call.answer(sdp("fine")).await.unwrap();
                        his = true;
                    }
                    CallEvent::ReinviteAccepted(_) | CallEvent::UpdateAccepted(_) => hers = true,
                    other => panic!("{other:?}"),
                }
            }
        };
        let (cseq, (), ()) = tokio::join!(goes_again, answers, listens);
        let bye = dialog.build(Method::Bye, cseq + 1);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        quiet(&alice).await;
    });
}

/// "When an UPDATE for session refresh that doesn't contain a session description and a re-INVITE cross each other, both requests
/// succeed with 200."
#[test]
fn section_3_3_2_a_refresh_and_a_re_invite_cross_and_both_succeed() {
    race(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = taken(&mut alice, &phone).await;
        call.update(None).await.unwrap();
        let refresh = phone.first(Method::Update).await;
        moment(&network).await;
        let reinvite = dialog.build(Method::Invite, 11);
        phone.send(&reinvite, ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Reinvited(_))), "{next:?}");
        moment(&network).await;
        call.accept(sdp("answer")).await.unwrap();
        assert_eq!(phone.status_of(&reinvite).await, 200);
        phone.acknowledges(dialog.build(Method::Ack, 11)).await;
        phone.answer(&refresh, 200, "b").await;
        let next = heard(&mut call).await;
        assert!(matches!(next, CallEvent::UpdateAccepted(_)), "{next:?}");
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        quiet(&alice).await;
    });
}
