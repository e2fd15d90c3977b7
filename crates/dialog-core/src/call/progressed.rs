//! Provisional answers to INVITEs of ours, and the PRACKs for those that are reliable (RFC 3262 §4, §5).

use sipora_message::{HeaderName, Method, RAck, Response};

use super::client::{ClientState, InviteClient};
use super::core::{CallKey, Calls, Exchange};
use super::event::{CallError, CallEvent};
use super::extensions::RELIABLE;
use super::offer::{has_description, is_description};
use super::said::{Said, fingerprint};
use super::session::{SessionState, to_tag};
use crate::Body;

impl Calls {
    /// Takes a provisional answer, 100 excepted, to an INVITE of ours.
    pub(super) fn progressed(&mut self, client: &mut InviteClient, response: Response) {
        let headers = response.headers();
        // It was sent before the BYE came.
        if to_tag(headers).is_some_and(|tag| client.has_ended(&tag)) {
            return;
        }
        let is_reliable = headers
            .require()
            .any(|tag| tag.eq_ignore_ascii_case(RELIABLE));
        let rseq = headers.rseq().ok().flatten().filter(|_| is_reliable);
        let Some(rseq) = rseq else {
            if client.within.is_none() {
                self.rings(client, response);
            }
            return;
        };
        // "The provisional response MUST establish a dialog": without a tag it cannot.
        let Some(tag) = to_tag(headers) else {
            return;
        };
        let call = self.calls.get_mut(&client.call);
        let session = call.and_then(|call| call.session(&tag));
        let pracks = session.map_or(0, |session| session.pracks);
        let is_late = client.state == ClientState::Accepted;
        // What follows an offer is acknowledged after it, in order: its PRACK carries the answer (§5).
        let is_early = client.awaits_answer(&tag) || !client.is_in_order(&tag, rseq);
        if is_late || pracks >= MAX_PRACKS || is_early {
            // It comes again, where it matters.
            return;
        }
        if client.within.is_none() {
            return self.rings_reliably(client, response, &tag, rseq);
        }
        let describes = has_description(headers, response.body());
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        let session = call.session(&tag).filter(|session| session.is_confirmed());
        let Some(session) = session else {
            return;
        };
        // RFC 6141 §4.7: "a reliable provisional response or a 2xx".
        session.dialog.refresh_target(headers);
        session.learn(headers);
        let is_first = client.progress(&tag, rseq, describes);
        let heard = fingerprint(headers, response.body());
        let mut is_new = false;
        match is_first {
            true if client.has_offer => {
                is_new = session.offer.answer_received(heard);
                session.said = client.offered();
                call.has_changed = true;
            }
            true => {
                session.offer.offer_received(heard);
                return self.tell(client.call, CallEvent::EarlyOffer(response));
            }
            false => {}
        }
        // The peer gives up where it does not come.
        let _ = self.send_prack(client, &tag, None);
        match client.is_refresh {
            false if is_first => self.tell(client.call, CallEvent::ReinviteProgress(response)),
            true if is_new => self.tell(client.call, CallEvent::Refreshed(response)),
            _ => {}
        }
    }

    fn rings_reliably(
        &mut self,
        client: &mut InviteClient,
        response: Response,
        tag: &str,
        rseq: u32,
    ) {
        self.add_early(client, &response, tag);
        let headers = response.headers();
        let describes = has_description(headers, response.body());
        let session = self
            .calls
            .get_mut(&client.call)
            .and_then(|call| call.session(tag));
        let Some(session) = session.filter(|session| session.state == SessionState::Early) else {
            return;
        };
        session.dialog.refresh_target(headers);
        session.learn(headers);
        let is_first = client.progress(tag, rseq, describes);
        let awaits = is_first && !client.has_offer && client.state != ClientState::Cancelling;
        let heard = fingerprint(headers, response.body());
        match is_first {
            true if client.has_offer => {
                session.offer.answer_received(heard);
                session.said = client.offered();
            }
            true => session.offer.offer_received(heard),
            false => {}
        }
        if is_first && !client.has_offer && !awaits {
            // It is being cancelled: nobody wants this session.
            return;
        }
        if awaits {
            return self.tell(client.call, CallEvent::EarlyOffer(response));
        }
        // The peer gives up where it does not come.
        let _ = self.send_prack(client, tag, None);
        self.tell(client.call, CallEvent::Progress(response));
    }

    /// Answers the offer in a reliable provisional answer, in its PRACK: "it MUST generate an answer in the PRACK" (§5).
    pub(crate) fn acknowledge_progress(
        &mut self,
        key: CallKey,
        tag: &str,
        body: &Body,
    ) -> Result<(), CallError> {
        if !is_description(Some(body), &[]) {
            return Err(CallError::BodyNeeded("an offer wants its answer"));
        }
        let call = self.call(key)?;
        let exchange = call.client.ok_or(CallError::Gone)?;
        // A fork may have had its BYE, while the INVITE still waits for its ACK in another.
        let session = call.session(tag).filter(|session| session.is_up());
        session.ok_or(CallError::Gone)?;
        let Some(Exchange::Invite(mut client)) = self.exchanges.remove(&exchange) else {
            return Err(CallError::Gone);
        };
        let mut progress = client.progress.iter_mut();
        let waiting = progress.find(|known| &*known.tag == tag && known.awaits_answer);
        let sent = match waiting {
            Some(waiting) => {
                waiting.awaits_answer = false;
                self.send_prack(&client, tag, Some(body))
            }
            None => Err(CallError::Gone),
        };
        self.exchanges.insert(exchange, Exchange::Invite(client));
        sent
    }

    fn send_prack(
        &mut self,
        client: &InviteClient,
        tag: &str,
        body: Option<&Body>,
    ) -> Result<(), CallError> {
        let known = client.progress.iter().find(|known| &*known.tag == tag);
        let rack = RAck {
            rseq: known.ok_or(CallError::Gone)?.rseq,
            cseq: client.cseq,
            method: Method::Invite,
        };
        let builder = self.begin_within(client.call, tag, Method::Prack);
        let mut builder = builder.ok_or(CallError::Gone)?;
        builder = builder.header(HeaderName::RAck, rack);
        if let Some(body) = body {
            builder = builder.body(&body.content_type, body.bytes.clone());
        }
        let request = builder
            .build()
            .map_err(|error| CallError::Invalid(error.to_string()))?;
        self.send_in_dialog(client.call, tag, request);
        let call = self.call(client.call)?;
        call.has_changed |= body.is_some();
        if let Some(session) = call.session(tag) {
            session.pracks = session.pracks.saturating_add(1);
            if let Some(body) = body {
                session.offer.answer_sent();
                session.said = Some(Said::from(body.clone()));
            }
        }
        Ok(())
    }
}

/// PRACKs of one dialog without answer, before further reliable provisional answers wait until they come again.
const MAX_PRACKS: u8 = 8;
