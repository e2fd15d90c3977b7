//! Section 3.3.3 of RFC 5407 and what its appendices explain.

use std::sync::Arc;

use crate::support::*;
use sipora_auth::Credentials;
use sipora_dialog_core::{Authorizer, CallConfig, CallEnd, CallEvent, DigestAuthorizer, Refer};
use sipora_message::{HeaderName, Method};

fn transferable() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config
}

#[test]
fn section_3_3_3_refer_comes_while_in_mortal() {
    scene(|network| async move {
        let alice = Agent::with(&network, ALICE, 1, transferable()).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        call.hang_up().await.unwrap();
        let refer = dialog.request(Method::Refer, 7);
        let refer = refer.contact(format!("<sip:bob@{BOB}>"));
        let refer = refer.header(HeaderName::ReferTo, "<sip:carol@192.0.2.3>");
        let refer = refer.build().unwrap();
        phone.send(&refer, ALICE).await;
        assert_eq!(phone.status_of(&refer).await, 481);
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        let next = call.next().await;
        assert!(
            matches!(next, Some(CallEvent::Ended(CallEnd::HungUp))),
            "nothing was offered"
        );
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn section_3_3_3_our_refer_is_refused_by_who_has_sent_its_bye() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let crosses = async {
            let refer = phone.first(Method::Refer).await;
            let bye = dialog.build(Method::Bye, 7);
            phone.send(&bye, ALICE).await;
            assert_eq!(phone.status_of(&bye).await, 200);
            phone.answer(&refer, 481, "b").await;
        };
        let refer = Refer::to(uri("sip:carol@192.0.2.3"));
        let (answer, ()) = tokio::join!(call.refer(refer), crosses);
        let answer = answer.unwrap();
        assert_eq!(answer.response.status().as_u16(), 481);
        assert!(answer.id.is_none());
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        assert_eq!(phone.count(Method::Bye), 0, "its BYE was enough");
        alice.assert_idle();
    });
}

#[test]
fn appendix_a_bye_in_the_early_dialog_and_a_2xx_from_elsewhere() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "a").await;
        assert!(is_progress(&call.next().await));
        call.end_early("a").await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(to_tag(&bye), "a");
        phone.answer(&bye, 200, "a").await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        assert_eq!(to_tag(&phone.first(Method::Ack).await.request), "b");
        call.hang_up().await.unwrap();
        let bye = phone.nth(Method::Bye, 1).await;
        assert_eq!(to_tag(&bye), "b");
        phone.answer(&bye, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn appendix_b_a_re_invite_that_its_bye_has_overtaken_is_refused() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = answered(&mut alice, &phone).await;
        phone.send(&dialog.build(Method::Ack, 10), ALICE).await;
        network
            .auditor()
            .waive(sipora_testkit::audit::Rule::AfterBye);
        network
            .auditor()
            .waive(sipora_testkit::audit::Rule::Sequence);
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        let reinvite = dialog.build(Method::Invite, 11);
        phone.send(&reinvite, ALICE).await;
        assert_eq!(phone.status_of(&reinvite).await, 481);
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn appendix_c_a_cancel_ends_an_early_dialog_and_no_confirmed_one() {
    scene(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let early = invite(ALICE).build().unwrap();
        let (mut call, ()) = tokio::join!(
            async {
                let call = alice.incoming.next().await.unwrap();
                call.ring().await.unwrap();
                call
            },
            phone.send_and_cancel_after(&early, ALICE, 100)
        );
        assert!(matches!(end(&mut call).await, CallEnd::PeerCancelled(_)));
        assert_eq!(phone.status_of(&early).await, 487);
        let confirmed = invite(ALICE).call_id_again("another-call");
        let confirmed = confirmed.edit().set(HeaderName::CSeq, "20 INVITE");
        let confirmed = confirmed.build().unwrap();
        let sends = phone.send_and_cancel_after(&confirmed, ALICE, 0);
        let accepts = async {
            let call = alice.incoming.next().await.unwrap();
            call.accept(sdp("answer")).await.unwrap();
            call
        };
        let (mut call, ()) = tokio::join!(accepts, sends);
        let response = phone.answer_to(&confirmed).await;
        assert_eq!(response.status().as_u16(), 200);
        let dialog = InDialog::of_response(&response);
        phone.send(&dialog.build(Method::Ack, 20), ALICE).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
        let bye = dialog.build(Method::Bye, 21);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        assert!(matches!(end(&mut call).await, CallEnd::PeerHungUp(_)));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn appendix_d_a_bye_is_authenticated_in_mortal_and_nothing_else_is_taken() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let authorizer = DigestAuthorizer::new([Credentials::new("alice", "wonderland")]);
        let authorizer: Arc<dyn Authorizer> = Arc::new(authorizer.unwrap());
        let asked = alice.asks(BOB).body(sdp("offer"));
        let mut call = alice.dialogs.invite(asked, Some(authorizer)).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 200, "b").await;
        call.answered().await.unwrap();
        phone.first(Method::Ack).await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        let dialog = InDialog::of_invite(&invite, "b");
        let info = dialog.build(Method::Info, 7);
        phone.send(&info, ALICE).await;
        assert_eq!(phone.status_of(&info).await, 481);
        let challenge = "Digest realm=\"biloxi\", nonce=\"n1\", algorithm=MD5";
        phone
            .answer_with(&bye, 401, "b", |builder| {
                builder.header(HeaderName::WwwAuthenticate, challenge)
            })
            .await;
        let again = phone.nth(Method::Bye, 1).await;
        assert!(again.headers().contains(&HeaderName::Authorization));
        assert_eq!(number(&again), number(&bye) + 1);
        phone.answer(&again, 200, "b").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}

#[test]
fn appendix_e_the_other_early_dialogs_end_with_the_first_2xx() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.answer(&invite, 180, "a").await;
        phone.answer(&invite, 180, "b").await;
        phone.answer(&invite, 200, "a").await;
        call.answered().await.unwrap();
        assert_eq!(to_tag(&phone.first(Method::Ack).await.request), "a");
        let dialog = call.dialog().await.unwrap();
        assert_eq!(&*dialog.remote_tag, "a");
        assert!(call.end_early("b").await.is_err(), "it is gone");
        pass(5_000).await;
        assert_eq!(phone.count(Method::Bye), 0);
        // It had been accepted there too, and is told so late.
        phone.answer(&invite, 200, "b").await;
        let ack = phone.nth(Method::Ack, 1).await;
        assert_eq!(to_tag(&ack), "b");
        let bye = phone.first(Method::Bye).await;
        assert_eq!(to_tag(&bye), "b");
        phone.answer(&bye, 200, "b").await;
        call.hang_up().await.unwrap();
        let bye = phone.nth(Method::Bye, 1).await;
        assert_eq!(to_tag(&bye), "a");
        phone.answer(&bye, 200, "a").await;
        assert!(matches!(end(&mut call).await, CallEnd::HungUp));
        pass(40_000).await;
        alice.assert_idle();
    });
}
