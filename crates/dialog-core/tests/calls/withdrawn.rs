//! Re-INVITEs of the peer's that the application does not answer: refused, or accepted where they have changed the session already
//! (RFC 6141 §3.3, §3.8), and told of once.

use crate::support::*;
use sipora_dialog_core::{Call, CallConfig, CallEvent};
use sipora_message::{HeaderName, Method, RAck, Request, RequestBuilder, StatusCode};
use sipora_testkit::SimNetwork;
use std::time::Duration;

/// A call with a re-INVITE of the phone's in it.
pub struct Asked {
    pub alice: Agent,
    pub phone: Phone,
    pub call: Call,
    pub dialog: InDialog,
    pub reinvite: Request,
    pub id: sipora_transaction_core::RequestId,
}

impl Asked {
    async fn new(network: &SimNetwork, edit: impl FnOnce(&InDialog) -> RequestBuilder) -> Self {
        let mut config = CallConfig::default();
        config.max_ringing = Duration::from_secs(60);
        Self::with(network, config, edit).await
    }

    /// Alice has answered its offer with a reliable 183.
    pub async fn early(network: &SimNetwork, config: CallConfig) -> Self {
        let asked = Self::with(network, config, offering).await;
        asked.progresses().await;
        asked
    }

    async fn with(
        network: &SimNetwork,
        config: CallConfig,
        edit: impl FnOnce(&InDialog) -> RequestBuilder,
    ) -> Self {
        let alice = Agent::with(network, ALICE, 1, config).await;
        let phone = Phone::new(network).await;
        let (mut call, dialog) = established(&alice, &phone).await;
        let reinvite = edit(&dialog).header(HeaderName::Supported, "100rel");
        let reinvite = reinvite.build().unwrap();
        let id = phone.begins(&reinvite, ALICE).await;
        assert!(matches!(call.next().await, Some(CallEvent::Reinvited(_))));
        Asked {
            alice,
            phone,
            call,
            dialog,
            reinvite,
            id,
        }
    }

    /// Alice answers with 183, reliably.
    async fn progresses(&self) {
        let status = StatusCode::SESSION_PROGRESS;
        let progressed = self.call.progress_reliably(status, Some(sdp("early")));
        progressed.await.unwrap();
        pass(5).await;
    }

    pub fn prack(&self) -> RequestBuilder {
        let numbers = self.phone.seen.numbers(&self.reinvite);
        let rack = RAck {
            rseq: *numbers.last().unwrap(),
            cseq: 20,
            method: Method::Invite,
        };
        let prack = self.dialog.request(Method::Prack, 21);
        prack.header(HeaderName::RAck, rack)
    }

    /// The phone acknowledges the 183, which completes the exchange.
    pub async fn agrees(&mut self) {
        let prack = self.prack().build().unwrap();
        self.phone.send(&prack, ALICE).await;
        assert_eq!(self.phone.status_of(&prack).await, 200);
        let told = self.call.next().await;
        assert!(matches!(told, Some(CallEvent::ProgressAcknowledged(_))));
    }

    /// The phone makes an offer as it acknowledges the 183.
    pub async fn offers_in_prack(&mut self) -> Request {
        let prack = self.prack().body("application/sdp", sdp("other").bytes);
        let prack = prack.build().unwrap();
        self.phone.send(&prack, ALICE).await;
        let told = self.call.next().await;
        assert!(matches!(told, Some(CallEvent::Offered(_))), "{told:?}");
        prack
    }

    async fn is_told(&mut self) {
        let told = self.call.next().await;
        assert!(
            matches!(told, Some(CallEvent::ReinviteCancelled)),
            "{told:?}"
        );
    }

    /// The call goes on, and says nothing more of the re-INVITE: both sides may ask for a change.
    async fn goes_on(mut self) {
        let asked = self.dialog.offering(Method::Invite, 30, "else");
        self.phone.send(&asked, ALICE).await;
        let told = self.call.next().await;
        assert!(matches!(told, Some(CallEvent::Reinvited(_))), "{told:?}");
        let refused = self.call.reject(StatusCode::NOT_ACCEPTABLE_HERE).await;
        refused.unwrap();
        assert_eq!(self.phone.status_of(&asked).await, 488);
        self.call.reinvite(Some(sdp("again"))).await.unwrap();
        let ours = self.phone.nth(Method::Invite, 1).await;
        self.phone.answer(&ours, 200, "b").await;
        let told = self.call.next().await;
        assert!(matches!(told, Some(CallEvent::ReinviteAccepted(_))));
        assert_eq!(self.phone.count(Method::Bye), 0);
        drop(self.alice);
    }

    async fn acknowledges(&mut self) {
        let ack = self.dialog.build(Method::Ack, 20);
        self.phone.send(&ack, ALICE).await;
        let told = self.call.next().await;
        assert!(matches!(told, Some(CallEvent::Acknowledged(_))), "{told:?}");
    }
}

fn offering(dialog: &InDialog) -> RequestBuilder {
    dialog.request(Method::Invite, 20)
}

fn offering_for_ten_seconds(dialog: &InDialog) -> RequestBuilder {
    offering(dialog).header(HeaderName::Expires, 10)
}

fn asking(dialog: &InDialog) -> RequestBuilder {
    dialog.bare(Method::Invite, 20)
}

#[test]
fn without_a_prack_it_is_refused_with_504_and_the_application_hears_of_it() {
    scene(|network| async move {
        let mut asked = Asked::new(&network, offering).await;
        asked.progresses().await;
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 504);
        asked.is_told().await;
        asked.goes_on().await;
    });
}

#[test]
fn with_a_prack_that_answers_nothing_it_is_refused_with_400_and_has_changed_nothing() {
    scene(|network| async move {
        let mut asked = Asked::new(&network, asking).await;
        asked.progresses().await;
        let prack = asked.prack().build().unwrap();
        asked.phone.send(&prack, ALICE).await;
        assert_eq!(asked.phone.status_of(&prack).await, 200);
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 400);
        asked.is_told().await;
        asked.goes_on().await;
    });
}

#[test]
fn one_that_expires_after_it_has_changed_the_session_is_accepted() {
    scene(|network| async move {
        let mut asked = Asked::new(&network, offering_for_ten_seconds).await;
        asked.progresses().await;
        asked.agrees().await;
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 200);
        asked.is_told().await;
        asked.acknowledges().await;
        asked.goes_on().await;
    });
}

#[test]
fn one_that_waits_for_too_long_after_it_has_changed_the_session_is_accepted() {
    scene(|network| async move {
        let mut asked = Asked::new(&network, offering).await;
        asked.progresses().await;
        asked.agrees().await;
        asked.is_told().await;
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 200);
        asked.acknowledges().await;
        asked.goes_on().await;
    });
}

#[test]
fn one_that_expires_and_has_changed_nothing_is_refused_with_487() {
    scene(|network| async move {
        let mut asked = Asked::new(&network, offering_for_ten_seconds).await;
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 487);
        asked.is_told().await;
        asked.goes_on().await;
    });
}

#[test]
fn one_that_is_cancelled_while_an_offer_in_its_prack_is_open_is_told_of_once_and_accepted_after_that()
 {
    scene(|network| async move {
        let mut asked = Asked::new(&network, offering_for_ten_seconds).await;
        asked.progresses().await;
        let prack = asked.offers_in_prack().await;
        asked.phone.cancels(asked.id).await;
        asked.is_told().await;
        // It has expired meanwhile, and its 2xx still waits for the answer.
        pass(11_000).await;
        assert_eq!(asked.phone.seen_finals(&asked.reinvite), 0);
        asked.call.answer(sdp("answer")).await.unwrap();
        assert_eq!(asked.phone.status_of(&prack).await, 200);
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 200);
        asked.acknowledges().await;
        asked.goes_on().await;
    });
}

#[test]
fn one_that_was_accepted_in_time_does_not_expire_while_the_2xx_waits_for_a_prack() {
    scene(|network| async move {
        let mut asked = Asked::new(&network, offering_for_ten_seconds).await;
        asked.progresses().await;
        asked.call.accept(None).await.unwrap();
        pass(11_000).await;
        assert_eq!(asked.phone.seen_finals(&asked.reinvite), 0);
        asked.agrees().await;
        assert_eq!(asked.phone.status_of(&asked.reinvite).await, 200);
        asked.acknowledges().await;
        asked.goes_on().await;
    });
}

#[test]
fn our_own_is_cancelled_before_the_bye() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut call, _) = established(&alice, &phone).await;
        call.reinvite(Some(sdp("hold"))).await.unwrap();
        let reinvite = phone.nth(Method::Invite, 1).await;
        phone.answer(&reinvite, 100, "b").await;
        call.hang_up().await.unwrap();
        phone.first(Method::Cancel).await;
        let bye = phone.first(Method::Bye).await;
        phone.answer(&bye, 200, "b").await;
        end(&mut call).await;
        // The phone says nothing of the re-INVITE any more.
        pass(40_000).await;
        alice.assert_idle();
    });
}
