//! UPDATEs of ours (RFC 3311 §5.1, §5.3).

use std::time::Instant;

use sipora_message::{HeaderName, Method, Response, StatusCode};

use super::core::{CallKey, Calls, Exchange, Within};
use super::effect::{Effect, of_error, of_status};
use super::event::{CallEnd, CallError, CallEvent};
use super::offer::{check_described, has_description, is_description};
use super::reason;
use super::record::Glare;
use super::said::{Said, fingerprint};
use crate::{ApiError, Body};

/// An UPDATE of ours without its final answer.
pub(super) struct Updating {
    /// The peer's tag.
    pub(super) tag: Box<str>,
    body: Option<Body>,
    /// It met an offer of the peer's, and was sent so often again.
    glares: u8,
    /// It refreshes the session, and the application does not hear of it.
    pub(super) is_refresh: bool,
}

impl Updating {
    /// It carries an offer in the dialog with this tag of the peer's.
    pub(super) fn offers_in(&self, tag: &str) -> bool {
        *self.tag == *tag && is_description(self.body.as_ref(), &[])
    }
}

impl Calls {
    /// Sends an UPDATE in the dialog that is confirmed, or in the only early one; in that of `tag` where it is given.
    pub(crate) fn update(
        &mut self,
        key: CallKey,
        tag: Option<&str>,
        body: Option<Body>,
    ) -> Result<(), CallError> {
        check_described(body.as_ref())?;
        let call = self.call(key)?;
        let tag: Box<str> = match tag {
            Some(tag) => tag.into(),
            None if call.sessions.is_empty() && call.is_to_come() => {
                return Err(CallError::NotNow("there is no dialog yet"));
            }
            None if call.sessions.is_empty() => return Err(CallError::Gone),
            None => match call.only_session() {
                Some(session) => session.remote_tag().into(),
                None => return Err(CallError::NotNow("there are several early dialogs")),
            },
        };
        if call.glare.is_some() {
            return Err(CallError::NotNow("another change is in progress"));
        }
        self.update_again(key, tag, body, 0, false)
    }

    /// Sends an UPDATE, perhaps once more (§5.3), or to refresh the session.
    pub(super) fn update_again(
        &mut self,
        key: CallKey,
        tag: Box<str>,
        body: Option<Body>,
        glares: u8,
        is_refresh: bool,
    ) -> Result<(), CallError> {
        let has_offer = is_description(body.as_ref(), &[]);
        let call = self.call(key)?;
        let contact = call.contact.clone();
        // RFC 6337 §4.3, UAC-UU: "while an UPDATE transaction is incomplete, a UA must not send another".
        if call.updating.is_some() {
            return Err(CallError::NotNow("another UPDATE is in progress"));
        }
        // UAC-IU: nor while the answers to our re-INVITE may make an offer, or a PRACK has no answer.
        let is_asking = match call
            .client
            .and_then(|exchange| self.exchanges.get(&exchange))
        {
            Some(Exchange::Invite(client)) => {
                client.within.is_some() && !client.has_offer && !client.has_described(&tag)
            }
            _ => false,
        };
        let call = self.call(key)?;
        if !call.is_caller && !call.has_answered() {
            return Err(CallError::NotNow("the peer knows of no dialog yet"));
        }
        let is_unsettled = is_asking || call.has_unsettled_invite();
        let session = call.session(&tag).ok_or(CallError::Gone)?;
        let has_open_prack = session.pracks > 0;
        if !session.is_up() {
            return Err(CallError::Gone);
        }
        // §4: an Allow that lists UPDATE says that it may be sent.
        if !session.allows_update {
            return Err(CallError::NotSupported("UPDATE"));
        }
        if has_offer && (is_unsettled || !session.may_offer()) {
            return Err(CallError::NotNow("an offer has no answer yet"));
        }
        if has_offer && has_open_prack {
            return Err(CallError::NotNow("our PRACK has no answer yet"));
        }
        let builder = self.begin_within(key, &tag, Method::Update);
        let mut builder = builder
            .ok_or(CallError::Gone)?
            .contact(contact)
            .header(HeaderName::Allow, &self.allow);
        if self.calls.get(&key).is_some_and(|call| call.is_up()) {
            builder = self.add_timer(Some(key), builder);
        }
        let supported = self.config.supported();
        if !supported.is_empty() {
            builder = builder.header(HeaderName::Supported, supported.join(", "));
        }
        if let Some(body) = &body {
            builder = builder.body(&body.content_type, body.bytes.clone());
        }
        let request = builder
            .build()
            .map_err(|error| CallError::Invalid(error.to_string()))?;
        self.send_in_dialog(key, &tag, request);
        let call = self.call(key)?;
        if let (true, Some(session)) = (has_offer, call.session(&tag)) {
            session.offer.offer_sent();
        }
        call.updating = Some(Box::new(Updating {
            tag,
            body,
            glares,
            is_refresh,
        }));
        Ok(())
    }

    /// Takes the end of an UPDATE of ours: its final answer, or none.
    pub(super) fn update_ended(
        &mut self,
        now: Instant,
        within: &Within,
        outcome: Result<Response, ApiError>,
    ) {
        let key = within.call;
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        // One whose early dialog has ended meanwhile is not waited for.
        let updating = call.updating.take_if(|it| it.tag == within.tag);
        let Some(updating) = updating else {
            return;
        };
        let Updating {
            tag,
            body,
            glares,
            is_refresh,
        } = *updating;
        let has_offer = is_description(body.as_ref(), &[]);
        let Some(session) = call.session(&tag).filter(|session| session.is_up()) else {
            return;
        };
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                if has_offer {
                    session.offer.withdrawn();
                }
                return match of_error(&Method::Update, &error) {
                    Effect::Transaction if is_refresh => {
                        self.refresh_refused(now, key, None, Method::Update);
                    }
                    Effect::Transaction => self.tell(key, CallEvent::UpdateFailed(error)),
                    _ => self.dialog_lost(key, &tag, None),
                };
            }
        };
        let status = response.status();
        if status.is_success() {
            session.dialog.refresh_target(response.headers());
            session.learn(response.headers());
            if has_offer && has_description(response.headers(), response.body()) {
                let heard = fingerprint(response.headers(), response.body());
                session.offer.answer_received(heard);
                session.said = body.map(Said::from);
                call.has_changed = true;
            } else if has_offer {
                // The peer owes the answer; without it nothing has changed.
                session.offer.withdrawn();
            }
            // Every UPDATE refreshes the session (RFC 4028 §7.2).
            let agreed = self.config.agreed(&response);
            self.refreshed(now, key, agreed);
            if !is_refresh {
                self.tell(key, CallEvent::UpdateAccepted(response));
            }
            return;
        }
        self.learn_min_se(key, &response);
        let Some(session) = self.calls.get_mut(&key).and_then(|it| it.session(&tag)) else {
            return;
        };
        if has_offer {
            // "The session parameters MUST remain unchanged, as if no UPDATE had been issued."
            session.offer.withdrawn();
        }
        match status {
            StatusCode::REQUEST_PENDING if glares < super::MAX_GLARES => {
                let glare = Glare {
                    at: now + self.glare_wait(key),
                    body,
                    count: glares + 1,
                    update: Some(tag),
                    is_refresh,
                };
                self.waits_after_glare(now, key, glare, response);
            }
            status if of_status(&Method::Update, status) != Effect::Transaction => {
                self.dialog_lost(key, &tag, Some(reason::of_status(status)));
            }
            _ if is_refresh => {
                self.refresh_refused(now, key, Some(&response), Method::Update);
            }
            _ => self.tell(key, CallEvent::UpdateRefused(response)),
        }
    }

    /// Ends a dialog that the peer does not know any more (RFC 3261 §12.2.1.2), confirmed or early.
    fn dialog_lost(&mut self, key: CallKey, tag: &str, reason: Option<Box<str>>) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        if call
            .session(tag)
            .is_some_and(|session| session.is_confirmed())
        {
            call.reason = reason;
            return self.bye(key, CallEnd::Lost);
        }
        if call.is_caller {
            // The INVITE goes on with the others, where there are any.
            self.bye_for(key, tag, None);
            let call = self.calls.get(&key).filter(|call| !call.has_early());
            if let Some(exchange) = call.and_then(|call| call.client) {
                self.cancel(exchange, None);
            }
            return;
        }
        // §15: "the callee's UA MUST NOT send a BYE on early dialogs".
        self.refuse_pending_as(key, StatusCode::SERVER_INTERNAL_ERROR, CallEnd::Lost);
    }
}
