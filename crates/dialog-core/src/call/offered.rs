//! Offers of the peer's that come in an UPDATE or a PRACK, and their answers (RFC 3311 §5.2, RFC 3262 §5).

use std::time::Instant;

use sipora_message::{HeaderName, Method, Request, StatusCode};
use sipora_transaction_core::{IncomingRequest, ServerTransactionId};

use super::core::{CallKey, Calls};
use super::event::{CallError, CallEvent};
use super::offer::{has_description, is_description};
use super::said::{Said, fingerprint};
use super::timer::{TIMER, knows_timers};
use crate::Body;

/// A request of the peer's that is no INVITE, carries an offer, and waits for our answer.
pub(super) struct Offered {
    pub(super) transaction: ServerTransactionId,
    pub(super) request: Request,
    /// The peer's tag.
    pub(super) tag: Box<str>,
    pub(super) gives_up: Instant,
}

impl Calls {
    /// Takes an UPDATE. Its CSeq is in order.
    pub(super) fn updated(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        key: CallKey,
        tag: &str,
    ) {
        let request = &incoming.request;
        let has_offer = has_description(request.headers(), request.body());
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        if self.config.is_too_short(request) {
            let min_se = self.config.min_se();
            let builder = self.begin(request, StatusCode::SESSION_INTERVAL_TOO_SMALL);
            let builder = builder.header(HeaderName::MinSe, min_se);
            return self.respond(incoming.transaction, builder);
        }
        // "A UAS that receives an UPDATE before it has generated a final response to a previous UPDATE on the same dialog MUST
        // return a 500 response".
        if call.offered.is_some() {
            return self.refuse_for_now(incoming);
        }
        // RFC 6337 §4.3: ours crosses it (UAS-UcU, UAS-IcU), or we have not finished (UAS-IsU).
        let crosses = call.client.is_some() || call.updating.is_some();
        let is_unsettled = call.has_unsettled_invite();
        let Some(session) = call.session(tag) else {
            return;
        };
        session.learn(request.headers());
        if has_offer && session.offer.is_ours() && crosses {
            let builder = self.begin(request, StatusCode::REQUEST_PENDING);
            return self.respond(incoming.transaction, builder);
        }
        if has_offer && (is_unsettled || !session.may_offer()) {
            return self.refuse_for_now(incoming);
        }
        if has_offer {
            let heard = fingerprint(request.headers(), request.body());
            session.offer.offer_received(heard);
            return match self.unchanged(key) {
                Some(said) => {
                    self.answered_offer(key, tag, &said);
                    self.accept_update(now, request, incoming.transaction, (key, tag), Some(&said));
                }
                None => self.offer_came(now, incoming, key, tag),
            };
        }
        self.accept_update(now, request, incoming.transaction, (key, tag), None);
    }

    /// "A 500 response ..., and MUST include a Retry-After header field with a randomly chosen value between 0 and 10 seconds".
    pub(super) fn refuse_for_now(&mut self, incoming: &IncomingRequest) {
        let seconds = self.ids.number_in(0, 10);
        let builder = self.begin(&incoming.request, StatusCode::SERVER_INTERNAL_ERROR);
        let builder = builder.header(HeaderName::RetryAfter, seconds);
        self.respond(incoming.transaction, builder);
    }

    /// Lets the application answer the offer in a request.
    pub(super) fn offer_came(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        key: CallKey,
        tag: &str,
    ) {
        let gives_up = now + self.config.t1 * OFFER_PATIENCE;
        let request = incoming.request.clone();
        if let Ok(call) = self.call(key) {
            call.offered = Some(Box::new(Offered {
                transaction: incoming.transaction,
                request: request.clone(),
                tag: tag.into(),
                gives_up,
            }));
        }
        self.tell(key, CallEvent::Offered(request));
    }

    /// Answers the offer in a request of the peer's that is no INVITE.
    pub(crate) fn answer_offer(
        &mut self,
        now: Instant,
        key: CallKey,
        body: &Body,
    ) -> Result<(), CallError> {
        if !is_description(Some(body), &[]) {
            return Err(CallError::BodyNeeded("an offer wants its answer"));
        }
        let call = self.call(key)?;
        let offered = call.offered.take().ok_or(CallError::Gone)?;
        call.has_changed = true;
        self.answered_offer(key, &offered.tag, body);
        let (request, transaction) = (&offered.request, offered.transaction);
        if *request.method() == Method::Update {
            self.accept_update(now, request, transaction, (key, &offered.tag), Some(body));
        } else {
            let builder = self.begin(request, StatusCode::OK);
            let builder = builder.body(&body.content_type, body.bytes.clone());
            self.respond(transaction, builder);
        }
        self.after_prack(now, key);
        self.settle(key);
        Ok(())
    }

    fn answered_offer(&mut self, key: CallKey, tag: &str, body: &Body) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        if let Some(session) = session {
            session.offer.answer_sent();
            session.said = Some(Said::from(body.clone()));
        }
    }

    fn accept_update(
        &mut self,
        now: Instant,
        request: &Request,
        transaction: ServerTransactionId,
        (key, tag): (CallKey, &str),
        body: Option<&Body>,
    ) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let contact = call.contact.clone();
        if let Some(session) = call.session(tag) {
            // RFC 6141 §4.6: the target moves with the 2xx.
            session.dialog.refresh_target(request.headers());
        }
        let supported = self.config.supported().join(", ");
        let builder = self.begin(request, StatusCode::OK);
        let mut builder = builder
            .contact(contact)
            .header(HeaderName::Allow, &self.allow);
        if !supported.is_empty() {
            builder = builder.header(HeaderName::Supported, supported);
        }
        let is_up = self.calls.get(&key).is_some_and(|call| call.is_up());
        let timer = self.config.agrees(request).filter(|_| is_up);
        if let Some((expires, _)) = timer {
            builder = builder.header(HeaderName::SessionExpires, expires);
            if knows_timers(request.headers()) {
                builder = builder.header(HeaderName::Require, TIMER);
            }
        }
        if let Some(body) = body {
            builder = builder.body(&body.content_type, body.bytes.clone());
        }
        self.respond(transaction, builder);
        if is_up {
            self.refreshed(now, key, timer.map(|(_, agreed)| agreed));
        }
    }

    /// Refuses the offer in a request of the peer's that is no INVITE: the session is as before.
    pub(crate) fn refuse_offer(
        &mut self,
        now: Instant,
        key: CallKey,
        status: StatusCode,
    ) -> Result<(), CallError> {
        if !status.is_final() || status.is_success() {
            return Err(CallError::Invalid(format!("{status} is not 300 to 699")));
        }
        if self.call(key)?.offered.is_none() {
            return Err(CallError::Gone);
        }
        self.refuse_offered(key, status);
        self.after_prack(now, key);
        self.settle(key);
        Ok(())
    }

    pub(super) fn refuse_offered(&mut self, key: CallKey, status: StatusCode) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(offered) = call.offered.take() else {
            return;
        };
        if let Some(session) = call.session(&offered.tag) {
            session.offer.withdrawn();
        }
        if *offered.request.method() == Method::Prack
            && let Some(server) = call.pending_server()
            && let Some(reliable) = &mut server.reliable
        {
            reliable.may_come_again();
        }
        let builder = self.begin(&offered.request, status);
        self.respond(offered.transaction, builder);
    }
}

/// How many T1 an application has for the answer to an offer in a PRACK or UPDATE: half of what the peer waits.
const OFFER_PATIENCE: u32 = 32;
