//! Calls that one process lets go of and another goes on with. With the feature `serde` their states are written and read in
//! between.

use std::time::Duration;

use crate::support::*;
use sipora_dialog_core::{
    Body, Call, CallConfig, CallEnd, CallError, CallEvent, CallRequest, CallState, Refer,
    UnifiedDialogApi,
};
use sipora_message::{HeaderName, Method, StatusCode};
use sipora_testkit::audit::Rule;
use sipora_transaction_core::Target;

/// The way of a state from one process to another.
pub fn travels(state: CallState) -> CallState {
    #[cfg(feature = "serde")]
    let state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    state
}

/// Lets go of every call, ends the process and starts the next, where the calls go on.
pub async fn replaced(agent: Agent, seed: u64, config: CallConfig) -> (Agent, Vec<Call>) {
    let states = agent.dialogs.detach_calls().await.unwrap();
    let address = agent.address.clone();
    let agent = Agent::on(agent.dies().await, &address, seed, config).await;
    let mut calls = Vec::new();
    for state in states {
        let call = agent.dialogs.restore_call(travels(state), None);
        calls.push(call.await.unwrap());
    }
    (agent, calls)
}

/// Does so with the only call there is; the old handle is dropped, and nothing follows from that.
async fn goes_on(agent: Agent, mut old: Call) -> (Agent, Call) {
    let (agent, mut calls) = replaced(agent, 77, CallConfig::default()).await;
    assert!(matches!(end(&mut old).await, CallEnd::Detached));
    drop(old);
    assert_eq!(calls.len(), 1);
    (agent, calls.remove(0))
}

/// A call of the phone's that Alice has answered, ACK and all.
async fn answered_up(alice: &mut Agent, phone: &Phone) -> (Call, InDialog) {
    let (mut call, dialog) = answered(alice, phone).await;
    phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
    let acknowledged = call.next().await;
    assert!(matches!(acknowledged, Some(CallEvent::Acknowledged(_))));
    (call, dialog)
}

#[test]
fn the_peer_ends_a_call_that_went_on_in_another_process() {
    for is_caller in [true, false] {
        scene(move |network| async move {
            let mut alice = Agent::new(&network, ALICE, 1).await;
            let phone = Phone::new(&network).await;
            let (call, dialog) = match is_caller {
                true => established(&alice, &phone).await,
                false => answered_up(&mut alice, &phone).await,
            };
            let (alice, mut call) = goes_on(alice, call).await;
            let bye = dialog.build(Method::Bye, 20);
            phone.send(&bye, ALICE).await;
            assert_eq!(phone.status_of(&bye).await, 200);
            assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
            assert_eq!(phone.count(Method::Bye), 0, "nobody has hung up for us");
            pass(120_000).await;
            alice.assert_idle();
        });
    }
}

#[test]
fn our_numbers_tags_and_routes_go_on() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        let routes_to = |hop: &str| format!("<sip:{hop}@{BOB};lr>;x=\"y, z\"");
        phone
            .answer_with(&invite, 200, "b", |builder| {
                builder
                    .header(HeaderName::RecordRoute, routes_to("far"))
                    .header(HeaderName::RecordRoute, routes_to("near"))
                    .body("application/sdp", "v=0\r\ns=answer\r\n")
            })
            .await;
        call.answered().await.unwrap();
        phone.first(Method::Ack).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let hold = phone.nth(Method::Invite, 1).await;
        phone.answer(&hold, 200, "b").await;
        phone.nth(Method::Ack, 1).await;
        let before = hold.request;

        let (_alice, mut call) = goes_on(alice, call).await;
        call.reinvite(Some(sdp("resume"))).await.unwrap();
        let resume = phone.nth(Method::Invite, 2).await;
        assert_eq!(number(&resume), number(&before) + 1);
        for name in [
            HeaderName::CallId,
            HeaderName::From,
            HeaderName::To,
            HeaderName::Contact,
        ] {
            let both = [&before, &resume.request].map(|it| it.headers().text(&name).unwrap());
            assert_eq!(both[0], both[1]);
        }
        assert_eq!(resume.uri_text(), before.uri_text());
        assert_eq!(
            routes(&resume),
            [format!("sip:near@{BOB};lr"), format!("sip:far@{BOB};lr")]
        );
        let route = resume.headers().first(&HeaderName::Route).unwrap();
        assert_eq!(route, routes_to("near").as_bytes());
        phone.answer(&resume, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(number(&bye), number(&before) + 2);
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
    });
}

#[test]
fn the_peers_numbers_go_on_and_its_reinvites_are_offered() {
    scene(|network| async move {
        network.auditor().waive(Rule::Sequence);
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = answered_up(&mut alice, &phone).await;
        let (_alice, mut call) = goes_on(alice, call).await;
        let old = dialog.build(Method::Info, 10);
        phone.send(&old, ALICE).await;
        assert_eq!(phone.status_of(&old).await, 500, "10 was the INVITE's");
        let hold = dialog.build(Method::Invite, 11);
        phone.send(&hold, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        call.accept(sdp("held")).await.unwrap();
        assert_eq!(phone.status_of(&hold).await, 200);
        phone.send(&dialog.build(Method::Ack, 11), ALICE).await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::Acknowledged(_))
        ));
    });
}

#[test]
fn what_the_peer_takes_is_known_in_the_other_process() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                builder
                    .header(HeaderName::Allow, "INVITE, ACK, BYE, UPDATE, INFO")
                    .header("Recv-Info", "g.one, g.two")
                    .body("application/sdp", "v=0\r\ns=answer\r\n")
            })
            .await;
        call.answered().await.unwrap();
        phone.first(Method::Ack).await;
        let (_alice, call) = goes_on(alice, call).await;
        let other = call.request(CallRequest::info_package("g.three", None));
        assert!(matches!(other.await, Err(CallError::NotNow(_))));
        let asking = tokio::spawn(async move {
            let info = CallRequest::info_package("g.two", None);
            let response = call.request(info).await.unwrap();
            (call, response)
        });
        let info = phone.first(Method::Info).await;
        phone.answer(&info, 200, "b").await;
        let (call, response) = asking.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        call.update(Some(sdp("moved"))).await.unwrap();
        phone.first(Method::Update).await;
    });
}

/// An interval, who refreshes, and what becomes of the call when it is handed over after `before` seconds and lies still for
/// `between`.
fn timed(refresher: &'static str, before: u64, between: u64, is_said: bool) -> (u64, Method) {
    let (sender, receiver) = std::sync::mpsc::channel();
    scene(move |network| {
        let sender = sender.clone();
        async move {
            let mut alice = Agent::new(&network, ALICE, 1).await;
            let phone = Phone::new(&network).await;
            let invite = invite(ALICE)
                .header(HeaderName::Supported, "timer")
                .header(
                    HeaderName::SessionExpires,
                    format!("600;refresher={refresher}"),
                )
                .build()
                .unwrap();
            let started = tokio::time::Instant::now();
            phone.send(&invite, ALICE).await;
            let call = alice.incoming.next().await.unwrap();
            call.accept(sdp("hers")).await.unwrap();
            let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
            phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
            pass(before * 1_000).await;

            let state = call.detach().await.unwrap();
            let address = alice.address.clone();
            let host = alice.dies().await;
            pass(between * 1_000).await;
            let alice = Agent::on(host, &address, 2, CallConfig::default()).await;
            let passed = if is_said { between } else { 0 };
            let state = travels(state).after(Duration::from_secs(passed));
            let mut call = alice.dialogs.restore_call(state, None).await.unwrap();
            let came = loop {
                let of = |method| phone.all(method).first().cloned();
                match of(Method::Bye).or(of(Method::Invite)) {
                    Some(came) => break came,
                    None => pass(100).await,
                }
            };
            let seconds = (started.elapsed().as_millis() + 500) / 1_000;
            if *came.method() == Method::Bye {
                phone.answer(&came, 200, "b").await;
                assert!(matches!(call.ended().await, CallEnd::Expired));
            } else {
                assert_eq!(came.body(), b"v=0\r\ns=hers\r\n", "what we said last");
            }
            sender
                .send((seconds as u64, came.method().clone()))
                .unwrap();
        }
    });
    receiver.recv().unwrap()
}

#[test]
fn a_session_timer_goes_on_where_it_was() {
    // Half of the interval where we refresh, and 32 s before its end where the peer has to.
    assert_eq!(timed("uas", 100, 50, true), (300, Method::Invite));
    assert_eq!(timed("uac", 100, 50, true), (568, Method::Bye));
    // Nobody has said how long it lay still.
    assert_eq!(timed("uas", 100, 50, false), (350, Method::Invite));
    assert_eq!(timed("uac", 100, 50, false), (618, Method::Bye));
}

/// What was said without a timer stays behind; the peer begins one by an UPDATE that says nothing of the session.
#[test]
fn a_refresh_asks_the_application_for_what_was_said_in_another_process() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = answered_up(&mut alice, &phone).await;
        let (alice, mut call) = goes_on(alice, call).await;
        let early = call.refresh(sdp("answer")).await;
        assert!(matches!(early, Err(CallError::NotNow(_))), "{early:?}");
        let update = dialog
            .request(Method::Update, 20)
            .contact(format!("<sip:bob@{BOB}>"))
            .header(HeaderName::Supported, "timer")
            .header(HeaderName::SessionExpires, "600;refresher=uas")
            .build()
            .unwrap();
        phone.send(&update, ALICE).await;
        assert_eq!(phone.status_of(&update).await, 200);
        pass(299_000).await;
        assert_eq!(phone.count(Method::Invite), 0);
        let due = call.next().await;
        assert!(matches!(due, Some(CallEvent::RefreshDue)), "{due:?}");
        call.refresh(sdp("answer")).await.unwrap();
        let refresh = phone.first(Method::Invite).await;
        assert_eq!(refresh.body(), sdp("answer").bytes);
        phone
            .answer_with(&refresh, 200, "b", |builder| {
                builder
                    .header(HeaderName::SessionExpires, "600;refresher=uac")
                    .body("application/sdp", sdp("offer").bytes)
            })
            .await;
        // Now it is known.
        pass(250_000).await;
        let refresh = phone.nth(Method::Invite, 1).await;
        assert_eq!(refresh.body(), sdp("answer").bytes);
        phone.answer(&refresh, 488, "b").await;
        phone.send(&dialog.build(Method::Bye, 21), ALICE).await;
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(120_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_session_timer_that_ran_out_meanwhile_is_obeyed_at_once() {
    assert_eq!(timed("uas", 100, 400, true), (500, Method::Invite));
    assert_eq!(timed("uas", 100, 700, true), (800, Method::Bye));
    assert_eq!(timed("uac", 100, 480, true), (580, Method::Bye));
}

async fn not_now(call: &Call) {
    let (exported, detached) = (call.export().await, call.detach().await);
    assert!(
        matches!(exported, Err(CallError::NotNow(_))),
        "{exported:?}"
    );
    assert!(
        matches!(detached, Err(CallError::NotNow(_))),
        "{detached:?}"
    );
}

#[test]
fn a_call_of_ours_is_let_go_of_only_while_nothing_is_under_way() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        not_now(&call).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 180, "b", |builder| {
                builder.header(HeaderName::Allow, "INVITE, ACK, BYE, UPDATE")
            })
            .await;
        assert!(is_progress(&call.next().await));
        not_now(&call).await;
        assert!(alice.dialogs.detach_calls().await.unwrap().is_empty());
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        let state = call.export().await.unwrap();
        assert!(state.is_caller());
        assert_eq!(state.dialog(), &call.dialog().await.unwrap());
        assert_eq!(state.local_uri(), "sip:alice@example.com");
        assert_eq!(state.remote_uri(), format!("sip:bob@{BOB}"));
        assert_eq!(state.remote_target().as_str(), format!("sip:bob@{BOB}"));
        assert_eq!(state.timer_due(), None);

        call.reinvite(Some(sdp("hold"))).await.unwrap();
        not_now(&call).await;
        let hold = phone.nth(Method::Invite, 1).await;
        phone.answer(&hold, 491, "b").await;
        pass(100).await;
        // It is to be sent again.
        not_now(&call).await;
        let hold = phone.nth(Method::Invite, 2).await;
        phone.answer(&hold, 200, "b").await;
        pass(100).await;
        call.export().await.unwrap();

        call.update(Some(sdp("more"))).await.unwrap();
        not_now(&call).await;
        let update = phone.first(Method::Update).await;
        phone.answer(&update, 488, "b").await;
        pass(100).await;

        let info = call.request(CallRequest::info(Body::new("text/plain", "x")));
        tokio::pin!(info);
        tokio::select! {
            answer = &mut info => panic!("{answer:?}"),
            () = pass(100) => {}
        }
        not_now(&call).await;
        let came = phone.first(Method::Info).await;
        phone.answer(&came, 200, "b").await;
        info.await.unwrap();

        let refer = call.refer(Refer::to(uri("sip:carol@192.0.2.3")));
        let accept = async {
            let refer = phone.first(Method::Refer).await;
            phone.answer(&refer, 202, "b").await;
            pass(10).await;
        };
        let (referred, ()) = tokio::join!(refer, accept);
        assert!(referred.unwrap().id.is_some());
        not_now(&call).await;

        call.hang_up().await.unwrap();
        assert!(matches!(call.detach().await, Err(CallError::Gone)));
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        pass(100).await;
        assert!(matches!(call.export().await, Err(CallError::Gone)));
    });
}

#[test]
fn a_call_of_the_peers_is_let_go_of_only_while_nothing_is_under_way() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        not_now(&call).await;
        call.ring().await.unwrap();
        not_now(&call).await;
        call.accept(sdp("answer")).await.unwrap();
        // Its ACK is to come.
        not_now(&call).await;
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        call.next().await.unwrap();
        assert!(!call.export().await.unwrap().is_caller());

        let hold = dialog.build(Method::Invite, 11);
        phone.send(&hold, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        not_now(&call).await;
        call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        let update = dialog.request(Method::Update, 12);
        let update = update.contact(format!("<sip:bob@{BOB}>"));
        let update = update.body("application/sdp", "v=0\r\n").build().unwrap();
        phone.send(&update, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Offered(_))));
        not_now(&call).await;
        call.refuse(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        let state = call.detach().await.unwrap();
        assert!(matches!(call.detach().await, Err(CallError::Gone)));
        assert!(matches!(end(&mut call).await, CallEnd::Detached));
        assert_eq!(state.remote_uri(), "sip:bob@example.com");
        pass(60_000).await;
        alice.assert_idle();
    });
}

#[test]
fn what_comes_between_two_processes_is_answered_by_the_second() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = answered_up(&mut alice, &phone).await;
        let state = call.detach().await.unwrap();
        let bye = dialog.build(Method::Bye, 11);
        phone.send(&bye, ALICE).await;
        pass(2_000).await;
        assert!(phone.seen.statuses(&bye).is_empty());
        let config = CallConfig::default();
        let alice = Agent::on(alice.dies().await, ALICE, 2, config).await;
        let state = travels(state);
        let mut call = alice.dialogs.restore_call(state, None).await.unwrap();
        assert_eq!(phone.status_of(&bye).await, 200);
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
    });
}

#[test]
fn a_dialog_that_nobody_went_on_with_is_unknown_after_a_while() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = answered_up(&mut alice, &phone).await;
        call.detach().await.unwrap();
        pass(33_000).await;
        let info = dialog.build(Method::Info, 11);
        phone.send(&info, ALICE).await;
        assert_eq!(phone.status_of(&info).await, 481);
    });
}

#[test]
fn an_endpoint_that_shuts_down_says_nothing_in_calls_that_were_let_go_of() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (quiet, dialog) = answered_up(&mut alice, &phone).await;
        let loud = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        assert_eq!(alice.dialogs.detach_calls().await.unwrap().len(), 1);
        let down = tokio::spawn(alice.shuts_down());
        pass(100).await;
        // The call that rang is given up, and a BYE in the other is for who comes next.
        let bye = dialog.build(Method::Bye, 11);
        phone.send(&bye, ALICE).await;
        phone.answer(&invite, 200, "b").await;
        down.await.unwrap();
        assert!(phone.seen.statuses(&bye).is_empty());
        assert!(phone.all(Method::Bye).iter().all(|bye| {
            bye.headers().call_id().unwrap() == invite.headers().call_id().unwrap()
        }));
        drop((quiet, loud));
    });
}

#[test]
fn a_call_is_restored_once_and_where_there_is_room() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        let state = call.export().await.unwrap();
        let again = alice.dialogs.restore_call(state.clone(), None).await;
        assert!(matches!(again, Err(CallError::Invalid(_))), "{again:?}");
        call.detach().await.unwrap();
        assert!(matches!(end(&mut call).await, CallEnd::Detached));

        let mut config = CallConfig::default();
        config.max_calls = 1;
        let alice = Agent::on(alice.dies().await, ALICE, 2, config).await;
        // As many as there are shards, each of which has room for one.
        let mut full = Vec::new();
        for _ in 0..shards(&network) {
            full.push(alice.calls(BOB).await);
        }
        let busy = alice.dialogs.restore_call(state.clone(), None).await;
        assert!(matches!(busy, Err(CallError::Busy)), "{busy:?}");
        drop(full);
        phone.nth(Method::Invite, 1).await;

        let mut builder = endpoint(&network, "192.0.2.9:5060", 3);
        let without = UnifiedDialogApi::add_to(&mut builder);
        let refused = without.restore_call(state, None).await;
        assert!(matches!(refused, Err(CallError::NotEnabled)), "{refused:?}");
    });
}

#[test]
fn a_call_goes_on_at_another_address_once_the_peer_was_told() {
    scene(|network| async move {
        const CAROL: &str = "192.0.2.7:5070";
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, _) = answered_up(&mut alice, &phone).await;
        let contact = uri(&format!("sip:alice@{CAROL}"));
        let state = travels(call.detach().await.unwrap()).with_contact(&contact);
        let other = Agent::new(&network, CAROL, 2).await;
        let mut call = other.dialogs.restore_call(state, None).await.unwrap();
        call.reinvite(Some(sdp("here"))).await.unwrap();
        let came = phone.first(Method::Invite).await;
        let told = came.headers().contact().unwrap().unwrap().uri().to_string();
        assert_eq!(told, contact.as_str());
        phone.answer(&came, 200, "b").await;
        assert!(matches!(
            call.next().await,
            Some(CallEvent::ReinviteAccepted(_))
        ));
        let dialog = InDialog {
            call_id: came.headers().call_id().unwrap().to_owned(),
            local: came.headers().text(&HeaderName::To).unwrap().into_owned(),
            remote: came.headers().text(&HeaderName::From).unwrap().into_owned(),
            target: contact.to_string(),
        };
        let bye = dialog.build(Method::Bye, 11);
        phone.send(&bye, CAROL).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
    });
}

/// RFC 3261 §13.2.2.4: each copy of a 2xx has its ACK again. In the other process those copies are nobody's.
#[test]
fn an_ack_that_was_lost_is_made_good_by_the_other_process() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.dialogs.invite(alice.asks(BOB), None).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                builder.body("application/sdp", "v=0\r\ns=offer\r\n")
            })
            .await;
        call.answered().await.unwrap();
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        network.part(one, two);
        call.acknowledge(sdp("answer")).await.unwrap();
        pass(100).await;
        assert_eq!(phone.count(Method::Ack), 0);
        network.join(one, two);
        let (_alice, call) = goes_on(alice, call).await;
        let ack = phone.first(Method::Ack).await;
        assert_eq!(number(&ack), number(&invite));
        assert_eq!(ack.body(), &sdp("answer").bytes[..]);
        pass(60_000).await;
        let acks = phone.count(Method::Ack);
        assert!((8..=10).contains(&acks), "at the pace of a 2xx: {acks}");
        // Nothing of it follows the BYE.
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        pass(60_000).await;
        assert_eq!(phone.count(Method::Ack), acks);
    });
}

#[test]
fn no_ack_follows_a_bye_in_a_call_that_was_restored() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, _) = established(&alice, &phone).await;
        let (alice, call) = goes_on(alice, call).await;
        pass(100).await;
        let acks = phone.count(Method::Ack);
        assert_eq!(acks, 2);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        pass(20_000).await;
        phone.answer(&bye, 200, "b").await;
        pass(60_000).await;
        assert_eq!(phone.count(Method::Ack), acks);
        alice.assert_idle();
    });
}

#[test]
fn a_peer_behind_its_own_connection_is_reached_over_its_next() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let to = Target::Uri(uri(&format!("sip:{ALICE};transport=tcp")));
        let invite = invite(ALICE);
        let invite = invite.build().unwrap().edit();
        // Nobody can be reached there.
        let invite = invite
            .set(HeaderName::Contact, "<sip:bob@192.0.2.250;transport=tcp>")
            .build()
            .unwrap();
        phone.send_to(&invite, to.clone()).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        phone
            .send_to(&dialog.build(Method::Ack, 10), to.clone())
            .await;
        call.next().await.unwrap();
        let (_alice, mut call) = goes_on(alice, call).await;
        let info = dialog.build(Method::Info, 11);
        phone.send_to(&info, to).await;
        assert_eq!(phone.status_of(&info).await, 200);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
    });
}

#[test]
fn a_call_that_went_on_elsewhere_is_replaced_and_named_there() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (call, dialog) = established(&alice, &phone).await;
        let id = call.dialog().await.unwrap();
        let mut config = CallConfig::default();
        config.takes_replaces = true;
        let (mut alice, mut calls) = replaced(alice, 5, config).await;
        let tag = |side: &str| side.rsplit_once("tag=").unwrap().1.to_owned();
        let (ours, theirs) = (tag(&dialog.remote), tag(&dialog.local));
        assert_eq!((&*id.local_tag, &*id.remote_tag), (&*ours, &*theirs));
        let named = format!("{};to-tag={ours};from-tag={theirs}", dialog.call_id);
        let target = format!("{};local-tag={theirs};remote-tag={ours}", dialog.call_id);
        let invite = invite(ALICE)
            .header(HeaderName::Replaces, named)
            .header(HeaderName::TargetDialog, target)
            .call_id_again("second");
        phone.send(&invite, ALICE).await;
        let new = alice.incoming.next().await.unwrap();
        assert_eq!(new.replaces(), Some(calls[0].key()));
        assert_eq!(new.target_dialog(), Some(calls[0].key()));
        new.accept_replacing(sdp("answer")).await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(bye.headers().call_id().unwrap(), dialog.call_id);
        phone.answer(&bye, 200, "b").await;
        let ended = end(&mut calls[0]).await;
        assert!(matches!(ended, CallEnd::Replaced(key) if key == new.key()));
        drop(call);
    });
}
