//! What the appendices explain.

use std::sync::Arc;
use std::time::Duration;

use crate::patient::*;
use crate::support::*;
use sipora_auth::Credentials;
use sipora_dialog_core::{Authorizer, CallEnd, CallEvent, DigestAuthorizer};
use sipora_message::{HeaderName, Method};
use sipora_testkit::Conditions;
use sipora_testkit::audit::Rule;

#[test]
fn appendix_a_bye_in_the_early_dialog_and_a_2xx_from_elsewhere() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.rings(&mut call, &invite, "a").await;
        call.end_early("a").await.unwrap();
        let bye = phone.first(Method::Bye).await;
        assert_eq!(to_tag(&bye), "a");
        let accepts = async {
            moment(&network).await;
            phone.accepts(&invite, "b").await;
        };
        let answers = async {
            moment(&network).await;
            phone.answer(&bye, 200, "a").await;
        };
        tokio::join!(accepts, answers);
        call.answered().await.unwrap();
        phone.ack_to(&invite, "b").await;
        call.hang_up().await.unwrap();
        let bye = phone.nth(Method::Bye, 1).await;
        assert_eq!(to_tag(&bye), "b");
        phone.answer(&bye, 200, "b").await;
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        quiet(&alice).await;
        assert_eq!(phone.count(Method::Bye), 2);
    });
}

#[test]
fn appendix_b_a_re_invite_that_its_bye_has_overtaken_is_refused() {
    race(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, dialog) = taken(&mut alice, &phone).await;
        network.auditor().waive(Rule::AfterBye);
        network.auditor().waive(Rule::Sequence);
        let bye = dialog.build(Method::Bye, 12);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        moment(&network).await;
        let reinvite = dialog.build(Method::Invite, 11);
        phone.send(&reinvite, ALICE).await;
        assert_eq!(phone.status_of(&reinvite).await, 481);
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        quiet(&alice).await;
    });
}

#[test]
fn appendix_c_a_cancel_ends_an_early_dialog() {
    race(|network| async move {
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        let patience = network.random(0..=500);
        let (mut call, ()) = tokio::join!(
            async {
                let call = alice.incoming.next().await.unwrap();
                // The CANCEL may be there already.
                let _ = call.ring().await;
                call
            },
            phone.send_and_cancel_after(&invite, ALICE, patience)
        );
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::PeerCancelled(_)), "{end:?}");
        assert_eq!(phone.status_of(&invite).await, 487);
        quiet(&alice).await;
    });
}

#[test]
fn appendix_c_a_cancel_does_nothing_to_a_confirmed_dialog() {
    race(|network| async move {
        let [hers, his] = [ALICE, BOB].map(|it| it.parse::<std::net::SocketAddr>().unwrap().ip());
        let mut alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let invite = invite(ALICE).build().unwrap();
        let sent = phone.begins(&invite, ALICE).await;
        let mut call = alice.incoming.next().await.unwrap();
        while !phone.seen.statuses(&invite).contains(&180) {
            call.ring().await.unwrap();
            pass(1_000).await;
        }
        let slow = Conditions {
            delay: Duration::from_millis(400)..=Duration::from_millis(900),
            ..Conditions::rough()
        };
        network.set_way(hers, his, slow);
        call.accept(sdp("answer")).await.unwrap();
        phone.cancels(sent).await;
        let response = phone.answer_to(&invite).await;
        assert_eq!(response.status().as_u16(), 200);
        let packets = network.packets();
        let mut lines = packets.iter().map(|packet| packet.first_line());
        assert!(lines.any(|line| line.starts_with("CANCEL")));
        let dialog = InDialog::of_response(&response);
        phone.acknowledges(dialog.build(Method::Ack, 10)).await;
        let next = call.next().await;
        assert!(matches!(next, Some(CallEvent::Acknowledged(_))), "{next:?}");
        let bye = dialog.build(Method::Bye, 11);
        phone.send(&bye, ALICE).await;
        assert_eq!(phone.status_of(&bye).await, 200);
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::PeerHungUp(_)), "{end:?}");
        quiet(&alice).await;
    });
}

#[test]
fn appendix_d_a_bye_is_authenticated_in_mortal_and_nothing_else_is_taken() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let authorizer = DigestAuthorizer::new([Credentials::new("alice", "wonderland")]);
        let authorizer: Arc<dyn Authorizer> = Arc::new(authorizer.unwrap());
        let asked = alice.asks(BOB).body(sdp("offer"));
        let mut call = alice.dialogs.invite(asked, Some(authorizer)).await.unwrap();
        let invite = phone.first(Method::Invite).await;
        phone.accepts(&invite, "b").await;
        call.answered().await.unwrap();
        phone.ack_to(&invite, "b").await;
        call.hang_up().await.unwrap();
        let bye = phone.first(Method::Bye).await;
        let dialog = InDialog::of_invite(&invite, "b");
        let info = dialog.build(Method::Info, 7);
        phone.send(&info, ALICE).await;
        assert_eq!(phone.status_of(&info).await, 481);
        moment(&network).await;
        let challenge = "Digest realm=\"biloxi\", nonce=\"n1\", algorithm=MD5";
        phone
            .answer_with(&bye, 401, "b", |builder| {
                builder.header(HeaderName::WwwAuthenticate, challenge)
            })
            .await;
        let again = phone.nth(Method::Bye, 1).await;
        assert!(again.headers().contains(&HeaderName::Authorization));
        assert_eq!(number(&again), number(&bye) + 1);
        let info = dialog.build(Method::Info, 8);
        phone.send(&info, ALICE).await;
        assert_eq!(phone.status_of(&info).await, 481, "it is as over as before");
        phone.answer(&again, 200, "b").await;
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        quiet(&alice).await;
    });
}

#[test]
fn appendix_e_the_other_early_dialogs_end_with_the_first_2xx() {
    race(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let mut call = alice.calls(BOB).await;
        let invite = phone.first(Method::Invite).await;
        phone.rings(&mut call, &invite, "a").await;
        phone.rings(&mut call, &invite, "b").await;
        moment(&network).await;
        phone.accepts(&invite, "a").await;
        call.answered().await.unwrap();
        phone.ack_to(&invite, "a").await;
        let dialog = call.dialog().await.unwrap();
        assert_eq!(&*dialog.remote_tag, "a");
        assert!(call.end_early("b").await.is_err(), "it is gone");
        pass(network.random(0..=5_000)).await;
        assert_eq!(phone.count(Method::Bye), 0);
        // It had been accepted there too, and is told so late.
        phone.accepts(&invite, "b").await;
        phone.ack_to(&invite, "b").await;
        let bye = phone.first(Method::Bye).await;
        assert_eq!(to_tag(&bye), "b");
        phone.answer(&bye, 200, "b").await;
        call.hang_up().await.unwrap();
        let bye = phone.nth(Method::Bye, 1).await;
        assert_eq!(to_tag(&bye), "a");
        phone.answer(&bye, 200, "a").await;
        let end = end(&mut call).await;
        assert!(matches!(end, CallEnd::HungUp), "{end:?}");
        quiet(&alice).await;
    });
}
