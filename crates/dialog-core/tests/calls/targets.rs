//! Where the requests of a call go: by which Contact, Record-Route and connection.

use crate::support::*;
use sipora_dialog_core::{CallEnd, CallError, CallEvent, CallRequest, Invite};
use sipora_message::{HeaderName, Method, Request, Response, StatusCode};
use sipora_testkit::audit::Rule;
use sipora_testkit::{for_each_seed, seeds};
use sipora_transaction_core::Target;
use sipora_transport::{Destination, Transport};

/// With a Contact that nobody can reach, as a browser has it.
fn from_a_browser(request: &Request) -> Request {
    let contact = "<sip:bob@192.0.2.200;transport=tcp>";
    let edited = request.edit().set(HeaderName::Contact, contact);
    edited.build().unwrap()
}

fn over_tcp() -> Target {
    let alice = ALICE.parse().unwrap();
    Target::Destinations(vec![Destination::new(Transport::Tcp, alice)])
}

#[test]
fn a_peer_that_comes_by_a_new_connection_is_reached_over_it() {
    for_each_seed(seeds(), |network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = from_a_browser(&invite(ALICE).build().unwrap());
        phone.send_to(&invite, over_tcp()).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        let ack = dialog.build(Method::Ack, 10);
        phone.send_to(&ack, over_tcp()).await;
        let event = call.next().await;
        assert!(matches!(event, Some(CallEvent::Acknowledged(_))));
        // Its connection is lost, and it comes by another, from another address.
        drop(phone);
        pass(network.random(1..=5_000)).await;
        let phone = Phone::at(&network, "192.0.2.3:5060").await;
        if network.random(0..=1) == 0 {
            let reinvite = from_a_browser(&dialog.build(Method::Invite, 11));
            phone.send_to(&reinvite, over_tcp()).await;
            let event = call.next().await;
            assert!(matches!(event, Some(CallEvent::Reinvited(_))));
            call.accept(sdp("answer")).await.unwrap();
            assert_eq!(phone.status_of(&reinvite).await, 200);
            let ack = dialog.build(Method::Ack, 11);
            phone.send_to(&ack, over_tcp()).await;
            let event = call.next().await;
            assert!(matches!(event, Some(CallEvent::Acknowledged(_))));
        } else {
            let options = dialog.build(Method::Options, 11);
            phone.send_to(&options, over_tcp()).await;
            assert_eq!(phone.status_of(&options).await, 200);
        }
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
    });
}

#[test]
fn a_request_out_of_order_does_not_show_where_the_peer_is() {
    scene(|network| async move {
        network.auditor().waive(Rule::Sequence);
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = from_a_browser(&invite(ALICE).build().unwrap());
        phone.send_to(&invite, over_tcp()).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        phone
            .send_to(&dialog.build(Method::Ack, 10), over_tcp())
            .await;
        call.next().await;
        let stranger = Phone::at(&network, "192.0.2.3:5060").await;
        let old = dialog.build(Method::Options, 9);
        stranger.send_to(&old, over_tcp()).await;
        assert_eq!(stranger.status_of(&old).await, 500);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        assert_eq!(stranger.count(Method::Bye), 0);
    });
}

#[test]
fn a_2xx_whose_record_route_cannot_be_read_is_acknowledged_all_the_same() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone
            .answer_with(&invite, 200, "b", |builder| {
                let builder = builder.header(HeaderName::RecordRoute, "<<<");
                builder.body("application/sdp", "v=0\r\n")
            })
            .await;
        call.answered().await.unwrap();
        let ack = phone.first(Method::Ack).await;
        assert_eq!(ack.uri_text(), format!("sip:bob@{BOB}"));
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn a_subscribe_that_is_refused_does_not_move_the_target() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        call.next().await;
        let subscribe = dialog
            .request(Method::Subscribe, 11)
            .contact("<sip:bob@192.0.2.222>")
            .header(HeaderName::Event, "refer")
            .build()
            .unwrap();
        phone.send(&subscribe, ALICE).await;
        assert_eq!(phone.status_of(&subscribe).await, 403);
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        end(&mut call).await;
    });
}

/// "The Contact header field MUST be present and contain exactly one SIP or SIPS URI" (RFC 3261 §8.1.1.8).
#[test]
fn an_invite_whose_contact_is_not_one_sip_uri_gets_400() {
    let contacts = [
        "<tel:+123>",
        "<mailto:a@b>",
        "*",
        "<http://h/>",
        "<urn:x:y>",
        "<sip:a@h>, <sip:b@h>",
    ];
    for contact in contacts {
        scene(|network| async move {
            let alice = Agent::new(&network, ALICE, 1).await;
            let phone = Phone::new(&network).await;
            let invite = invite(ALICE).build().unwrap();
            let edited = invite.edit().set(HeaderName::Contact, contact);
            let invite = edited.build().unwrap();
            phone.send(&invite, ALICE).await;
            assert_eq!(phone.status_of(&invite).await, 400, "{contact}");
            pass(40_000).await;
            assert_eq!(alice.dialogs.call_metrics().begun, 0);
        });
    }
}

#[test]
fn a_reinvite_whose_contact_is_no_sip_uri_does_not_move_the_target() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        let status = sipora_message::StatusCode::OK;
        let response = sipora_message::Response::for_request(&reinvite, status)
            .contact("<tel:+123>")
            .body("application/sdp", "v=0\r\n");
        phone.answer_as_is(&reinvite, response).await;
        let ack = phone.nth(Method::Ack, 1).await;
        assert_eq!(ack.uri_text(), format!("sip:bob@{BOB}"));
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        end(&mut call).await;
    });
}

/// How the phone says where it is from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    ByReinvite,
    ByUpdate,
    InItsAnswerToReinvite,
    InItsAnswerToUpdate,
}

const MOVED: &str = "192.0.2.77:5060";

/// "The remote target URI ... MUST be replaced" (RFC 3261 §12.2.1.2, §12.2.2) by what is accepted, and by nothing else: "a re-INVITE
/// that is refused" leaves it (RFC 6141 §4.8).
#[test]
fn requests_go_where_the_last_contact_says_that_came_with_what_was_accepted() {
    use Says::*;
    for how in [
        ByReinvite,
        ByUpdate,
        InItsAnswerToReinvite,
        InItsAnswerToUpdate,
    ] {
        for is_accepted in [true, false] {
            moves(how, is_accepted);
        }
    }
}

fn moves(how: Says, is_accepted: bool) {
    for_each_seed(0..2, |network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let moved = Phone::at(&network, MOVED).await;
        let invite = invite(ALICE).header(HeaderName::Allow, "INVITE, ACK, BYE, UPDATE");
        let invite = invite.build().unwrap();
        phone.send(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        call.accept(sdp("answer")).await.unwrap();
        let dialog = InDialog::of_response(&phone.answer_to(&invite).await);
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        call.next().await.unwrap();
        let contact = format!("<sip:bob@{MOVED}>");
        match how {
            Says::ByReinvite | Says::ByUpdate => {
                let method = match how {
                    Says::ByReinvite => Method::Invite,
                    _ => Method::Update,
                };
                let request = Request::builder(method, &uri(&dialog.target))
                    .from(&dialog.local)
                    .to(&dialog.remote)
                    .call_id(&dialog.call_id)
                    .cseq(11)
                    .contact(&contact)
                    .body("application/sdp", sdp("moved").bytes);
                let request = request.build().unwrap();
                phone.send(&request, ALICE).await;
                let event = call.next().await;
                let busy = StatusCode::NOT_ACCEPTABLE_HERE;
                match event {
                    Some(CallEvent::Reinvited(_)) if is_accepted => {
                        call.accept(sdp("answer")).await.unwrap();
                    }
                    Some(CallEvent::Reinvited(_)) => call.reject(busy).await.unwrap(),
                    Some(CallEvent::Offered(_)) if is_accepted => {
                        call.answer(sdp("answer")).await.unwrap();
                    }
                    Some(CallEvent::Offered(_)) => call.refuse(busy).await.unwrap(),
                    event => panic!("{event:?}"),
                }
                let status = phone.status_of(&request).await;
                assert_eq!(status, if is_accepted { 200 } else { 488 });
                if how == Says::ByReinvite && is_accepted {
                    moved.send(&dialog.build(Method::Ack, 11), ALICE).await;
                }
            }
            Says::InItsAnswerToReinvite | Says::InItsAnswerToUpdate => {
                let came = match how {
                    Says::InItsAnswerToReinvite => {
                        call.reinvite(Some(sdp("hold"))).await.unwrap();
                        phone.first(Method::Invite).await
                    }
                    _ => {
                        call.update(Some(sdp("hold"))).await.unwrap();
                        phone.first(Method::Update).await
                    }
                };
                let status = if is_accepted { 200 } else { 488 };
                let status = StatusCode::new(status).unwrap();
                let mut answer = Response::for_request(&came, status).contact(&contact);
                if is_accepted {
                    answer = answer.body("application/sdp", sdp("held").bytes);
                }
                phone.answer_as_is(&came, answer).await;
                let event = call.next().await;
                let is_told = match event {
                    Some(CallEvent::ReinviteAccepted(_) | CallEvent::UpdateAccepted(_)) => {
                        is_accepted
                    }
                    Some(CallEvent::ReinviteRefused(_) | CallEvent::UpdateRefused(_)) => {
                        !is_accepted
                    }
                    _ => false,
                };
                assert!(is_told, "{how:?} {event:?}");
            }
        }
        let (here, elsewhere) = match is_accepted {
            true => (&moved, &phone),
            false => (&phone, &moved),
        };
        if how == Says::InItsAnswerToReinvite && is_accepted {
            here.first(Method::Ack).await;
        }
        // Whatever is asked next, and the last of all.
        let asking = call.request(CallRequest::options());
        let (answer, ()) = tokio::join!(asking, async {
            let options = here.first(Method::Options).await;
            here.answer(&options, 200, "b").await;
        });
        assert!(answer.unwrap().status().is_success());
        pass(100).await;
        call.hang_up().await.unwrap();
        let bye = here.first(Method::Bye).await;
        here.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp), "{how:?}");
        assert_eq!(elsewhere.count(Method::Options), 0, "{how:?}");
        assert_eq!(elsewhere.count(Method::Bye), 0, "{how:?}");
    });
}

/// RFC 3261 §19.1.1, table 1: a Request-URI has neither.
#[test]
fn nothing_is_called_that_asks_for_another_method_or_for_header_fields() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        for ending in [";method=BYE", ";method=INVITE", "?Subject=x"] {
            let target = uri(&format!("sip:bob@{BOB}{ending}"));
            let us = uri(&format!("sip:alice@{ALICE}"));
            let called = alice
                .dialogs
                .invite(Invite::new(target, us.clone(), us), None);
            let called = called.await;
            assert!(matches!(called, Err(CallError::Invalid(_))), "{called:?}");
        }
        assert!(network.packets().is_empty());
    });
}
