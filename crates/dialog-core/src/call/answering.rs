//! What is answered to the peers' INVITEs, by the application or for reasons of ours (RFC 3261 §13.3, §9.2).

use std::time::Instant;

use sipora_message::{HeaderName, PrintedResponse, Request, Response, StatusCode};
use sipora_transaction_core::ServerTransactionId;

use super::Reliability;
use super::command::Act;
use super::core::{CallKey, Calls, Output};
use super::event::{CallEnd, CallError};
use super::extensions::{RELIABLE, Support};
use super::offer::is_description;
use super::packages::{knows_packages, recv_info};
use super::rejection::Rejection;
use super::reliable::{Answer, Refused};
use super::said::Said;
use super::server::InviteServer;
use super::session::SessionInput;
use super::timer::{TIMER, knows_timers};
use crate::Body;

impl Calls {
    /// Says whether what waits for this answer is what the application has read.
    pub(super) fn waits_for_answer(&self, key: CallKey, read: Option<u32>, act: &Act) -> bool {
        let Some(call) = self.calls.get(&key) else {
            return true;
        };
        let number = |request: &Request| request.headers().cseq().ok().map(|cseq| cseq.number);
        if matches!(act, Act::Answer(_) | Act::Refuse(_)) {
            let offered = call.offered.as_ref();
            return offered.is_none_or(|offered| number(&offered.request) == read);
        }
        let pending = call.servers.iter().find(|server| server.is_pending());
        pending.is_none_or(|server| server.is_first || Some(server.cseq) == read)
    }

    /// Sends a provisional answer to the peer's INVITE, which makes an early dialog. It is sent reliably where the peer requires
    /// it, where `reliably` asks for it, and, as [`Reliability`] says, where the peer supports it.
    pub(crate) fn progress(
        &mut self,
        now: Instant,
        key: CallKey,
        mut answer: Answer,
        reliably: bool,
    ) -> Result<(), CallError> {
        let status = answer.status;
        if !status.is_provisional() || status == StatusCode::TRYING {
            return Err(CallError::Invalid(format!("{status} is not 101 to 199")));
        }
        let always = self.config.reliability == Reliability::Required;
        let server = self.call(key)?.pending_server().ok_or(CallError::Gone)?;
        let describes = is_description(answer.body.as_ref(), &answer.headers);
        if describes && server.has_described {
            // RFC 6337 §3.1.1: "the UAS should not include any SDPs in subsequent responses to the INVITE".
            answer.body = None;
        }
        let owes_offer = server.owes_offer() && !describes;
        let is_reliable = match server.peer_reliable {
            Support::Required => true,
            Support::Supported => reliably || describes || (always && !owes_offer),
            Support::No if reliably => return Err(CallError::NotSupported(RELIABLE)),
            Support::No => false,
        };
        if is_reliable {
            self.progress_reliably(now, key, answer)?;
        } else {
            let Answer { body, headers, .. } = answer;
            let (transaction, response) = self.response(key, status, body.as_ref(), &headers)?;
            if let Some(server) = self.call(key)?.pending_server() {
                server.rang(now, response.clone());
            }
            self.outputs
                .push_back(Output::Respond(transaction, response));
        }
        self.settle(key);
        Ok(())
    }

    /// Accepts the peer's INVITE, first or later, with 200. It waits for the PRACK of a reliable provisional answer that carries
    /// a session description: "the UAS MUST delay sending the 2xx until the provisional response is acknowledged"
    /// (RFC 3262 §5); and for the answer to an offer in that PRACK.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        key: CallKey,
        body: Option<Body>,
    ) -> Result<(), CallError> {
        if self.call(key)?.replaces.is_some() {
            return Err(CallError::NotNow(
                "it replaces another call: accept_replacing accepts it",
            ));
        }
        self.accept_as(now, key, body)
    }

    /// Does so, and lets the call take the place of the one that it names (RFC 3891).
    pub(crate) fn accept_replacing(
        &mut self,
        now: Instant,
        key: CallKey,
        body: Option<Body>,
    ) -> Result<(), CallError> {
        self.check_replaced(key)?;
        self.accept_as(now, key, body)
    }

    pub(super) fn accept_as(
        &mut self,
        now: Instant,
        key: CallKey,
        body: Option<Body>,
    ) -> Result<(), CallError> {
        let call = self.call(key)?;
        let has_open_offer = call.offered.is_some();
        let server = call.pending_server().ok_or(CallError::Gone)?;
        let mut answer = Answer {
            status: StatusCode::OK,
            body,
            headers: Vec::new(),
        };
        if server.has_described {
            // RFC 6337 §3.1.1: no description follows the answer that was sent reliably.
            answer.body = None;
        } else if !is_description(answer.body.as_ref(), &answer.headers) {
            // §13.3.1.4: the 2xx answers the offer of the INVITE, or makes one.
            return Err(CallError::BodyNeeded(match server.has_offer {
                true => "the INVITE carries an offer",
                false => "the 2xx to an INVITE without an offer makes one",
            }));
        }
        if let Some(reliable) = &mut server.reliable {
            if reliable.accept.is_some() {
                return Err(CallError::Gone);
            }
            reliable.drop_waiting();
            if reliable.holds_2xx() || has_open_offer {
                reliable.accept = Some(answer);
                return Ok(());
            }
        }
        self.accept_now(now, key, answer)?;
        self.settle(key);
        Ok(())
    }

    pub(super) fn accept_now(
        &mut self,
        now: Instant,
        key: CallKey,
        answer: Answer,
    ) -> Result<(), CallError> {
        let Answer {
            status,
            body,
            headers,
        } = answer;
        let (transaction, response) = self.response(key, status, body.as_ref(), &headers)?;
        let t1 = self.config.t1;
        let agreed = self.agreed_with(key);
        let call = self.call(key)?;
        let Some(server) = call.pending_server() else {
            return Err(CallError::Gone);
        };
        let (is_first, request) = (server.is_first, server.request.take());
        let (has_offer, has_described) = (server.has_offer, server.has_described);
        server.accept(now, response.clone(), !has_offer && !has_described, t1);
        let session = match is_first {
            true => call.sessions.first_mut(),
            false => call.confirmed(),
        };
        if let Some(session) = session {
            match has_offer {
                _ if has_described => {}
                true => session.offer.answer_sent(),
                false => session.offer.offer_sent(),
            }
            if !has_described {
                session.said = body.map(Said::from);
            }
            match request {
                // §12.2.2, RFC 6141 §4.8: the target moves with the 2xx; a re-INVITE that is refused changes nothing.
                Some(request) if !is_first => {
                    session.dialog.refresh_target(request.headers());
                    // RFC 6086 §5.2.4: what a refused re-INVITE says of packages does not count.
                    session.learn(request.headers());
                }
                _ => session.on(SessionInput::Accepted),
            }
        }
        self.pending.remove(&transaction);
        self.outputs
            .push_back(Output::Respond(transaction, response));
        self.refreshed(now, key, agreed.map(|(_, agreed)| agreed));
        self.take_place(key);
        Ok(())
    }

    /// Refuses the peer's INVITE, first or later, with 300 to 699.
    pub(crate) fn reject(&mut self, key: CallKey, rejection: &Rejection) -> Result<(), CallError> {
        let status = rejection.status;
        if !status.is_final() || status.is_success() {
            return Err(CallError::Invalid(format!("{status} is not 300 to 699")));
        }
        // RFC 6141 §3.3: "if any of the changes requested in a re-INVITE or in any transaction within it have already been
        // executed, the UAS SHOULD return a 2xx response".
        let call = self.call(key)?;
        let has_changed = call.has_changed;
        if has_changed && call.pending_server().is_some_and(|server| !server.is_first) {
            return Err(CallError::NotNow(
                "the session has changed since the re-INVITE came: accept it, and change it back",
            ));
        }
        let (reason, body) = (rejection.reason.as_deref(), rejection.body.as_ref());
        let (transaction, response) =
            self.response_as(key, (status, reason), body, &rejection.headers)?;
        self.refused_with(key, transaction, response, CallEnd::Rejected);
        self.settle(key);
        Ok(())
    }

    /// Refuses the peer's INVITE for a reason of ours.
    pub(super) fn refuse_pending(&mut self, key: CallKey, status: StatusCode) {
        self.refuse_pending_as(key, status, CallEnd::Cancelled);
    }

    pub(super) fn refuse_pending_as(&mut self, key: CallKey, status: StatusCode, end: CallEnd) {
        match self.response(key, status, None, &[]) {
            Ok((transaction, response)) => self.refused_with(key, transaction, response, end),
            // Its transaction ends without us.
            Err(_) => {
                let call = self.calls.get_mut(&key);
                if let Some(server) = call.and_then(|call| call.pending_server()) {
                    let transaction = server.transaction;
                    self.pending.remove(&transaction);
                }
                self.not_accepted(key, end);
            }
        }
    }

    fn refused_with(
        &mut self,
        key: CallKey,
        transaction: ServerTransactionId,
        response: PrintedResponse,
        end: CallEnd,
    ) {
        self.pending.remove(&transaction);
        self.outputs
            .push_back(Output::Respond(transaction, response));
        self.not_accepted(key, end);
    }

    /// The peer's INVITE is over, and was not accepted.
    pub(super) fn not_accepted(&mut self, key: CallKey, end: CallEnd) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(at) = call.servers.iter().position(InviteServer::is_pending) else {
            return;
        };
        let server = call.servers.remove(at);
        let is_first = server.is_first;
        let tag: Option<Box<str>> = call.confirmed().map(|session| session.remote_tag().into());
        let is_open = tag.is_some_and(|tag| !call.updates_with_offer(&tag));
        if is_first {
            call.ends_as(end);
            self.drop_early_refers(key);
            if let Some(call) = self.calls.get_mut(&key) {
                call.sessions.clear();
            }
            self.refuse_offered(key, StatusCode::REQUEST_TERMINATED);
            return;
        }
        let reliable = server.reliable.as_ref();
        let has_offered = !server.has_offer && reliable.is_some_and(|it| it.holds_2xx());
        let refused = |rack| Box::new(Refused { rack, has_offered });
        call.refused = server.late_prack().map(refused);
        match (call.confirmed(), server.before) {
            (Some(session), Some(before)) => session.restores(*before),
            (Some(session), None) if is_open => session.answer_withdrawn(),
            _ => {}
        }
    }

    /// Makes an answer to the peer's INVITE that has no final one.
    pub(super) fn response(
        &mut self,
        key: CallKey,
        status: StatusCode,
        body: Option<&Body>,
        headers: &[(HeaderName, String)],
    ) -> Result<(ServerTransactionId, PrintedResponse), CallError> {
        self.response_as(key, (status, None), body, headers)
    }

    /// Does so, with a reason phrase.
    fn response_as(
        &mut self,
        key: CallKey,
        (status, reason): (StatusCode, Option<&str>),
        body: Option<&Body>,
        headers: &[(HeaderName, String)],
    ) -> Result<(ServerTransactionId, PrintedResponse), CallError> {
        let call = self.calls.get(&key).ok_or(CallError::Gone)?;
        let mut servers = call.servers.iter();
        let server = servers.find(|server| server.is_pending());
        let server = server.ok_or(CallError::Gone)?;
        let request = server.request.as_ref().ok_or(CallError::Gone)?;
        let mut builder = Response::for_request(request, status).to_tag(&call.local_tag);
        if let Some(reason) = reason {
            builder = builder.reason(reason);
        }
        // §12.1.1: answers that make a dialog copy Record-Route and have a Contact; that of a redirection is where to go.
        if status.is_provisional() || status.is_success() {
            builder = builder.record_route().contact(&call.contact);
        }
        if status.is_success()
            && let Some((expires, _)) = self.config.agrees(request)
        {
            builder = builder.header(HeaderName::SessionExpires, expires);
            // RFC 4028 §9: a MUST where the peer is to refresh, else a SHOULD where it knows timers.
            if knows_timers(request.headers()) {
                builder = builder.header(HeaderName::Require, TIMER);
            }
        }
        // RFC 3311 §4, RFC 3261 §20.37: in what is sent reliably.
        let is_reliable = headers.iter().any(|(name, _)| *name == HeaderName::RSeq);
        if status.is_success() || is_reliable {
            builder = builder.header(HeaderName::Allow, &self.allow);
            if !self.supported.is_empty() {
                builder = builder.header(HeaderName::Supported, &self.supported);
            }
            // RFC 6086 §5.2.3: "MUST include a Recv-Info header field in a reliable 18x/2xx response" to a request that has
            // one, and "MUST NOT" to others.
            if knows_packages(request.headers()) {
                builder = builder.header(recv_info(), &self.recv_info);
            }
        }
        if let Some(product) = &self.config.product {
            builder = builder.header(HeaderName::Server, product);
        }
        for (name, value) in headers {
            builder = builder.header(name.clone(), value);
        }
        if let Some(body) = body {
            builder = builder.body(&body.content_type, body.bytes.clone());
        }
        let response = builder
            .print()
            .map_err(|error| CallError::Invalid(error.to_string()))?;
        Ok((server.transaction, response))
    }
}
