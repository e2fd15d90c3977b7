//! Offers of peers that come by UPDATE (RFC 3311) and in reliable provisional answers (RFC 3262).

use std::sync::Arc;

use crate::phone::*;
use sipora_dialog_core as below;
use sipora_message::Uri;
use sipora_session_core::{CallEnd, CallEvent, Error, SipClient, StatusCode};
use sipora_testkit::SimNetwork;
use sipora_transaction_core::{Endpoint, IdSource};
use sipora_transport::Transport;

const HOLD: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.3\r\ns=hold\r\n";
const HELD: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.2\r\ns=held\r\n";

pub fn sdp(text: &'static str) -> below::Body {
    below::Body::new("application/sdp", text)
}

/// A peer at [`CAROL`] that does more than this crate asks for.
pub async fn peer(
    network: &SimNetwork,
) -> (Endpoint, below::UnifiedDialogApi, below::IncomingCalls) {
    let host = network.host(CAROL.parse().unwrap());
    let mut builder = Endpoint::builder()
        .network(Arc::new(host))
        .ids(IdSource::from_number(77 ^ network.seed() << 8))
        .listen(Transport::Udp, format!("{CAROL}:5060").parse().unwrap());
    let config = below::CallConfig::default();
    let (dialogs, incoming) = below::UnifiedDialogApi::add_with_calls(&mut builder, config);
    (builder.build().await.unwrap(), dialogs, incoming)
}

#[test]
fn an_update_with_an_offer_is_answered_or_refused_as_a_change() {
    scene(|network| async move {
        let mut bob = Phone::new(&network, BOB).await;
        let (_endpoint, dialogs, _incoming) = peer(&network).await;
        let parse = |text: String| Uri::parse(&text).unwrap();
        let from = parse("sip:carol@example.com".to_owned());
        let contact = parse(format!("sip:carol@{CAROL}"));
        let invite = below::Invite::new(parse(uri(BOB)), from, contact).body(sdp(OFFER));
        let mut hers = dialogs.invite(invite, None).await.unwrap();
        let mut his = bob.is_called().await;
        his.accept(ANSWER).await.unwrap();
        hers.answered().await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));

        hers.update(Some(sdp(HOLD))).await.unwrap();
        let event = his.next().await.unwrap();
        assert!(matches!(event, CallEvent::ChangeRequested(_)), "{event:?}");
        assert_eq!(event.sdp(), Some(HOLD));
        his.accept(HELD).await.unwrap();
        let event = hers.next().await.unwrap();
        let below::CallEvent::UpdateAccepted(answer) = event else {
            panic!("{event:?}")
        };
        assert_eq!(answer.body(), HELD.as_bytes());

        hers.update(Some(sdp(OFFER))).await.unwrap();
        let event = his.next().await.unwrap();
        assert!(matches!(event, CallEvent::ChangeRequested(_)), "{event:?}");
        his.reject(StatusCode::NOT_ACCEPTABLE_HERE).await.unwrap();
        let event = hers.next().await.unwrap();
        let below::CallEvent::UpdateRefused(answer) = event else {
            panic!("{event:?}")
        };
        assert_eq!(answer.status(), StatusCode::NOT_ACCEPTABLE_HERE);

        // One without an offer is nobody's business.
        hers.update(None).await.unwrap();
        let event = hers.next().await.unwrap();
        let is_accepted = matches!(event, below::CallEvent::UpdateAccepted(_));
        assert!(is_accepted, "{event:?}");
        hers.hang_up().await.unwrap();
        assert!(matches!(his.ended().await, CallEnd::PeerHungUp(_)));
    });
}

/// The answer to an UPDATE that is none, and the refusal of one that is none, leave it to be answered.
#[test]
fn what_cannot_be_said_to_an_update_does_not_lose_it() {
    scene(|network| async move {
        let mut bob = Phone::new(&network, BOB).await;
        let (_endpoint, dialogs, _incoming) = peer(&network).await;
        let parse = |text: String| Uri::parse(&text).unwrap();
        let from = parse("sip:carol@example.com".to_owned());
        let contact = parse(format!("sip:carol@{CAROL}"));
        let invite = below::Invite::new(parse(uri(BOB)), from, contact).body(sdp(OFFER));
        let mut hers = dialogs.invite(invite, None).await.unwrap();
        let mut his = bob.is_called().await;
        his.accept(ANSWER).await.unwrap();
        hers.answered().await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));

        hers.update(Some(sdp(HOLD))).await.unwrap();
        let event = his.next().await.unwrap();
        assert!(matches!(event, CallEvent::ChangeRequested(_)), "{event:?}");
        let refused = his.reject(StatusCode::OK).await;
        assert!(
            matches!(refused, Err(Error::InvalidRequest { .. })),
            "{refused:?}"
        );
        let accepted = his.accept("").await;
        assert!(
            matches!(accepted, Err(Error::InvalidRequest { .. })),
            "{accepted:?}"
        );
        his.accept(HELD).await.unwrap();
        let event = hers.next().await.unwrap();
        let below::CallEvent::UpdateAccepted(answer) = event else {
            panic!("{event:?}")
        };
        assert_eq!(answer.body(), HELD.as_bytes());
        let again = his.accept(HELD).await;
        assert!(matches!(again, Err(Error::TooLate)), "{again:?}");
    });
}

#[test]
fn an_offer_in_a_reliable_provisional_answer_is_answered_before_the_call_is() {
    scene(|network| async move {
        let alice = Phone::new(&network, ALICE).await;
        let (_endpoint, _dialogs, mut incoming) = peer(&network).await;
        let mut hers = alice.client.call(&uri(CAROL), None).await.unwrap();
        let mut theirs = incoming.next().await.unwrap();
        let progress = StatusCode::SESSION_PROGRESS;
        theirs
            .progress_reliably(progress, Some(sdp(ANSWER)))
            .await
            .unwrap();
        let event = hers.next().await.unwrap();
        assert!(matches!(event, CallEvent::EarlyOffer(_)), "{event:?}");
        assert_eq!(event.sdp(), Some(ANSWER));
        hers.acknowledge(HELD).await.unwrap();
        let event = theirs.next().await.unwrap();
        let below::CallEvent::ProgressAcknowledged(prack) = event else {
            panic!("{event:?}")
        };
        assert_eq!(prack.body(), HELD.as_bytes());
        theirs.accept(None).await.unwrap();
        assert!(hers.answered().await.is_ok());
        hers.hang_up().await.unwrap();
        assert!(matches!(hers.ended().await, CallEnd::HungUp));
        settle().await;
        alice.assert_idle();
    });
}
