//! Reliable provisional answers of ours, and the PRACKs for them (RFC 3262 §3, §5).

use std::time::Instant;

use sipora_message::{HeaderName, Method, StatusCode};
use sipora_transaction_core::IncomingRequest;

use super::core::{CallKey, Calls, Output};
use super::event::{CallEnd, CallError, CallEvent};
use super::extensions::RELIABLE;
use super::offer::{has_description, is_description};
use super::reliable::{Answer, Carries};
use super::said::{Said, fingerprint};
use super::server::InviteServer;

impl Calls {
    pub(super) fn progress_reliably(
        &mut self,
        now: Instant,
        key: CallKey,
        answer: Answer,
    ) -> Result<(), CallError> {
        let server = self.call(key)?.pending_server().ok_or(CallError::Gone)?;
        let owes_offer = server.owes_offer();
        let reliable = server.reliable.get_or_insert_default();
        if reliable.accept.is_some() {
            return Err(CallError::Gone);
        }
        let describes = |answer: &Answer| is_description(answer.body.as_ref(), &answer.headers);
        if owes_offer && !describes(&answer) && !reliable.waiting().any(describes) {
            return Err(CallError::BodyNeeded(
                "the first reliable answer to an INVITE without an offer makes one",
            ));
        }
        if !reliable.is_busy() {
            return self.send_reliably(now, key, answer);
        }
        match reliable.wait(answer) {
            true => Ok(()),
            false => Err(CallError::NotNow(
                "provisional answers wait for their acknowledgement",
            )),
        }
    }

    fn send_reliably(
        &mut self,
        now: Instant,
        key: CallKey,
        answer: Answer,
    ) -> Result<(), CallError> {
        // "It is RECOMMENDED that it be chosen uniformly" from 1 to 2^31-1.
        let first = self.ids.number_in(1, (1 << 31) - 1);
        let t1 = self.config.t1;
        let server = self.call(key)?.pending_server().ok_or(CallError::Gone)?;
        let reliable = server.reliable.get_or_insert_default();
        let rseq = reliable.next_number(|| u32::try_from(first).unwrap_or(1));
        let rseq = rseq.ok_or(CallError::NotNow("the numbers of RSeq are used up"))?;
        let Answer {
            status,
            mut body,
            mut headers,
        } = answer;
        if server.has_described {
            body = None;
        }
        let carries = match is_description(body.as_ref(), &headers) {
            false => Carries::Nothing,
            true if server.has_offer => Carries::Answer,
            true => Carries::Offer,
        };
        headers.push((HeaderName::Require, RELIABLE.to_owned()));
        headers.push((HeaderName::RSeq, rseq.to_string()));
        let (transaction, response) = self.response(key, status, body.as_ref(), &headers)?;
        let call = self.call(key)?;
        let mut is_first = true;
        let mut request = None;
        if let Some(server) = call.pending_server() {
            server.has_described |= carries != Carries::Nothing;
            server.rang_reliably(now);
            if let Some(reliable) = &mut server.reliable {
                reliable.sent(now, t1, rseq, response.clone(), carries);
            }
            is_first = server.is_first;
            request = server.request.clone();
        }
        let session = match is_first {
            true => call.sessions.first_mut(),
            false => call.confirmed(),
        };
        let mut before = None;
        if let Some(session) = session {
            if !is_first && carries == Carries::Answer {
                before = Some(Box::new(session.holds()));
            }
            match carries {
                Carries::Nothing => {}
                Carries::Answer => session.offer.answer_sent(),
                Carries::Offer => session.offer.offer_sent(),
            }
            if carries != Carries::Nothing {
                session.said = body.map(Said::from);
            }
            // RFC 6141 §4.6: the target of a re-INVITE holds once it has a reliable answer.
            if let (false, Some(request)) = (is_first, request) {
                session.dialog.refresh_target(request.headers());
            }
        }
        if let (Some(_), Some(server)) = (&before, call.pending_server()) {
            server.before = before;
        }
        self.outputs
            .push_back(Output::Respond(transaction, response));
        Ok(())
    }

    /// Sends what waited for a PRACK: the 2xx, or the next provisional answer.
    pub(super) fn after_prack(&mut self, now: Instant, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let has_open_offer = call.offered.is_some();
        let Some(reliable) = call
            .pending_server()
            .and_then(|server| server.reliable.as_mut())
        else {
            return;
        };
        // A 2xx waits for what describes alone.
        let is_busy = match reliable.accept {
            Some(_) => reliable.holds_2xx(),
            None => reliable.is_busy(),
        };
        if is_busy {
            return;
        }
        let sent = match reliable.accept.take() {
            Some(answer) if has_open_offer => {
                reliable.accept = Some(answer);
                return;
            }
            Some(answer) => self.accept_now(now, key, answer),
            None => match reliable.next_waiting() {
                Some(answer) => self.send_reliably(now, key, answer),
                None => return,
            },
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "an answer that waited for a PRACK cannot be sent");
        }
    }

    /// Another provisional answer, lest a proxy cancel.
    pub(super) fn extend_ringing(&mut self, now: Instant, key: CallKey, status: StatusCode) {
        let answer = Answer {
            status,
            body: None,
            headers: Vec::new(),
        };
        let server = self
            .calls
            .get_mut(&key)
            .and_then(|call| call.pending_server());
        let is_busy = server.is_none_or(|server| {
            let reliable = server.reliable.as_ref();
            reliable.is_some_and(|reliable| reliable.is_busy() || reliable.accept.is_some())
        });
        if !is_busy {
            // Where the numbers are used up, the proxy decides.
            let _ = self.send_reliably(now, key, answer);
        }
    }

    /// Takes a PRACK. Its CSeq is in order.
    pub(super) fn pracked(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        key: CallKey,
        tag: &str,
    ) {
        let request = &incoming.request;
        let Ok(Some(rack)) = request.headers().rack() else {
            let builder = self.begin(request, StatusCode::BAD_REQUEST);
            let builder = builder.reason("Bad Request (RAck is missing, or cannot be read)");
            return self.respond(incoming.transaction, builder);
        };
        let describes = has_description(request.headers(), request.body());
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let refused = call.refused.take_if(|it| it.rack == rack);
        let is_late = call.late_prack.as_ref().is_some_and(|late| **late == rack);
        let may_answer = refused.as_ref().is_some_and(|it| it.has_offered);
        if describes && !may_answer && (refused.is_some() || is_late) {
            // RFC 3262 §5: an offer wants its answer in the 2xx, and the INVITE is over. It may come again without.
            call.refused = refused;
            let builder = self.begin(request, StatusCode::NOT_ACCEPTABLE_HERE);
            let builder = builder.reason("Not Acceptable Here (this is no time for an offer)");
            return self.respond(incoming.transaction, builder);
        }
        if refused.is_some() {
            // Nothing comes of it any more.
            let builder = self.begin(request, StatusCode::OK);
            return self.respond(incoming.transaction, builder);
        }
        if call.late_prack.take_if(|late| **late == rack).is_some() {
            let builder = self.begin(request, StatusCode::OK);
            self.respond(incoming.transaction, builder);
            return self.tell(key, CallEvent::ProgressAcknowledged(request.clone()));
        }
        let is_meant =
            |server: &&mut InviteServer| server.cseq == rack.cseq && rack.method == Method::Invite;
        let server = call.servers.iter_mut().find(is_meant);
        let reliable = server.and_then(|server| server.reliable.as_mut());
        let awaited = reliable
            .as_ref()
            .and_then(|reliable| reliable.awaited(rack.rseq));
        let (Some(reliable), Some(carries)) = (reliable, awaited) else {
            // §3: "that does not match any unacknowledged reliable provisional response, the UAS MUST respond ... with a 481".
            let builder = self.begin(request, StatusCode::CALL_DOES_NOT_EXIST);
            return self.respond(incoming.transaction, builder);
        };
        // RFC 6337 §2.2, pattern 5: "only if the reliable response that it acknowledges contains an answer".
        let offers = describes && carries != Carries::Offer;
        if offers && (carries != Carries::Answer || call.offered.is_some()) {
            let builder = self.begin(request, StatusCode::NOT_ACCEPTABLE_HERE);
            let builder = builder.reason("Not Acceptable Here (this is no time for an offer)");
            return self.respond(incoming.transaction, builder);
        }
        reliable.acknowledged();
        if carries == Carries::Answer
            && let Some(server) = call.pending_server()
        {
            server.before = None;
        }
        // RFC 6141 §3.3: an exchange that is complete has changed the session.
        call.has_changed |= match carries {
            Carries::Nothing => false,
            Carries::Answer => true,
            Carries::Offer => describes,
        };
        if let Some(session) = call.session(tag) {
            let heard = fingerprint(request.headers(), request.body());
            match (carries, describes) {
                (Carries::Offer, true) => drop(session.offer.answer_received(heard)),
                (Carries::Answer, true) => session.offer.offer_received(heard),
                _ => {}
            }
        }
        if offers {
            return self.offer_came(now, incoming, key, tag);
        }
        let builder = self.begin(request, StatusCode::OK);
        self.respond(incoming.transaction, builder);
        if carries == Carries::Offer && !describes {
            // §5: "it MUST generate an answer in the PRACK". No session can come of this.
            return self.give_up_pending(key, StatusCode::BAD_REQUEST, CallEnd::NotDescribed);
        }
        self.tell(key, CallEvent::ProgressAcknowledged(request.clone()));
        self.after_prack(now, key);
    }
}
