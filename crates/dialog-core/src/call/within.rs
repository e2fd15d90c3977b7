//! Requests of ours within dialogs, other than INVITE; how calls are ended.

use std::time::Instant;

use sipora_message::{HeaderName, Method, Reason, Response, StatusCode, Uri};
use sipora_transaction_core::Target;

use super::client::ClientState;
use super::core::{CallKey, Calls, Exchange, ExchangeKey, Output, Within};
use super::event::{CallEnd, CallError};
use super::reason;
use super::rejection::Rejection;
use super::session::{Session, SessionInput, SessionState};
use crate::user::{Retry, retry, with_credentials};

impl Calls {
    /// Ends a call, in the way that its state asks for (RFC 3261 §15): CANCEL while our INVITE has no final answer, 480 where
    /// the peer's has none, else BYE; after its ACK, where we accepted.
    pub(crate) fn hang_up(
        &mut self,
        key: CallKey,
        reason: Option<&Reason>,
    ) -> Result<(), CallError> {
        let call = self.call(key)?;
        if let Some(reason) = reason {
            call.reason = Some(reason.to_string().into());
        }
        if call.pending_server().is_some_and(|server| server.is_first) {
            let rejection = Rejection::new(StatusCode::TEMPORARILY_UNAVAILABLE);
            return self.reject(key, &rejection);
        }
        if call.confirmed().is_none() {
            let (client, reason) = (call.client, call.reason.clone());
            if let Some(exchange) = client {
                self.cancel(exchange, reason);
                self.end_after_accepted(key, exchange);
            }
            return Ok(());
        }
        // §15: "the callee's UA MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx response or
        // until the server transaction times out".
        if call.unacknowledged() {
            call.hangs_up = true;
            return Ok(());
        }
        self.bye(key, CallEnd::HungUp);
        self.settle(key);
        Ok(())
    }

    /// Ends a call whose INVITE was accepted in a dialog that is over already, while others ring: there is nothing to cancel any
    /// more, and "the caller's UA MAY send a BYE for ... early dialogs" (§15).
    fn end_after_accepted(&mut self, key: CallKey, exchange: ExchangeKey) {
        let client = self.exchanges.get(&exchange);
        let Some(Exchange::Invite(client)) = client else {
            return;
        };
        if client.state != ClientState::Accepted || client.within.is_some() {
            return;
        }
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        call.ends_as(CallEnd::HungUp);
        let reason = call.reason.clone();
        let ringing = call.sessions.iter();
        let ringing = ringing.filter(|session| session.state == SessionState::Early);
        let tags: Vec<Box<str>> = ringing.map(|it| it.remote_tag().into()).collect();
        for tag in tags {
            self.bye_for(key, &tag, reason.as_deref());
        }
        if let Some(call) = self.calls.get_mut(&key) {
            call.client = None;
        }
        self.settle(key);
    }

    /// Ends every call: the endpoint ends. A call whose ACK is still to come gets its BYE at once, against §15, as there is nobody
    /// who could send it later.
    pub(crate) fn end_everything(&mut self) {
        let mut keys: Vec<CallKey> = self.calls.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.refuse_outside(key);
            let hung_up = self.hang_up(key, None);
            let waits = self.calls.get(&key).is_some_and(|call| call.hangs_up);
            if hung_up.is_ok() && waits {
                self.bye(key, CallEnd::HungUp);
                self.settle(key);
            }
        }
    }

    /// Ends one early dialog of our INVITE with BYE; the INVITE goes on with the others. "The caller's UA MAY send a BYE for
    /// either confirmed or early dialogs, and the callee's UA ... MUST NOT send a BYE on early dialogs" (RFC 3261 §15).
    pub(crate) fn end_early(&mut self, key: CallKey, tag: &str) -> Result<(), CallError> {
        let call = self.call(key)?;
        if !call.is_caller {
            return Err(CallError::NotNow(
                "only the caller ends early dialogs with BYE",
            ));
        }
        let session = call.session(tag).ok_or(CallError::Gone)?;
        if session.state != SessionState::Early {
            return Err(CallError::Gone);
        }
        self.bye_for(key, tag, None);
        Ok(())
    }

    /// Sends the BYE of the dialog that is confirmed.
    pub(super) fn bye(&mut self, key: CallKey, end: CallEnd) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        call.hangs_up = false;
        call.glare = None;
        call.timer = None;
        call.updating = None;
        if call.reason.is_none() {
            call.reason = reason::of_end(&end).map(Box::from);
        }
        call.ends_as(end);
        // §15.1.2: "a UAS MUST still respond to any pending requests": the end of the dialog is the end of its re-INVITE.
        if call.pending_server().is_some() {
            self.refuse_pending(key, StatusCode::REQUEST_TERMINATED);
        }
        self.let_go_of_invite(key);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        call.servers.clear();
        self.refuse_offered(key, StatusCode::REQUEST_TERMINATED);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let reason = call.reason.take();
        if let Some(session) = call.confirmed() {
            let tag: Box<str> = session.remote_tag().into();
            self.bye_for(key, &tag, reason.as_deref());
        }
    }

    /// Finishes our INVITE before the BYE of its dialog, of either side.
    pub(super) fn let_go_of_invite(&mut self, key: CallKey) {
        let client = self.calls.get(&key).and_then(|call| call.client);
        let Some(exchange) = client else {
            return;
        };
        // An offer that we never answered; the ACK is owed all the same.
        if self.awaits_ack(exchange) {
            let _ = self.send_ack(exchange, None);
        }
        // Lest a peer be waited for that says nothing more of a re-INVITE.
        self.cancel(exchange, None);
        if let Some(call) = self.calls.get_mut(&key) {
            call.client = None;
        }
    }

    /// Sends the BYE of a dialog, with this value of Reason (RFC 3326).
    pub(super) fn bye_for(&mut self, key: CallKey, tag: &str, reason: Option<&str>) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(session) = call.session(tag) else {
            return;
        };
        let was_early = session.state == SessionState::Early;
        session.on(SessionInput::ByeSent);
        if was_early {
            self.early_ended(key, tag);
            self.drop_open(key);
        }
        let bye = self.begin_within(key, tag, Method::Bye);
        let bye = bye.map(|builder| match reason {
            Some(reason) => builder.header(HeaderName::Reason, reason),
            None => builder,
        });
        match bye.and_then(|builder| builder.build().ok()) {
            Some(bye) => self.send_in_dialog(key, tag, bye),
            // Its numbers are used up: nothing can be said in it any more.
            None => {
                self.drop_refers(None, key, tag);
                if let Some(call) = self.calls.get_mut(&key) {
                    call.sessions.retain(|session| session.remote_tag() != tag);
                }
            }
        }
    }

    /// Remembers that an early dialog of our INVITE was ended with BYE: what was sent in it before may still come, and changes
    /// nothing (RFC 5407 §3.1.3).
    pub(super) fn early_ended(&mut self, key: CallKey, tag: &str) {
        let exchange = self.calls.get(&key).and_then(|call| call.client);
        let exchange = exchange.and_then(|exchange| self.exchanges.get_mut(&exchange));
        if let Some(Exchange::Invite(client)) = exchange
            && client.within.is_none()
            && !client.has_ended(tag)
        {
            client.ended.push(tag.into());
        }
    }

    pub(super) fn send_within(
        &mut self,
        mut within: Within,
        target: Target,
        fallback: Option<Uri>,
    ) {
        if let Some(authorizer) = within.authorizer.as_ref().filter(|_| within.retries == 0) {
            let headers = authorizer.preempt(&within.request, self.ids.tag().as_str());
            if !headers.is_empty()
                && let Ok(request) = with_credentials(&within.request, &headers, None)
            {
                within.request = request;
            }
        }
        let exchange = self.next_exchange();
        self.outputs.push_back(Output::Send {
            exchange: Some(exchange),
            request: within.request.clone(),
            target,
            fallback,
        });
        self.exchanges
            .insert(exchange, Exchange::Within(Box::new(within)));
    }

    /// Takes an answer to a request within a dialog.
    pub(super) fn within_answered(
        &mut self,
        now: Instant,
        exchange: ExchangeKey,
        mut within: Box<Within>,
        response: Response,
        from: Target,
    ) {
        if response.status().is_provisional() {
            self.exchanges.insert(exchange, Exchange::Within(within));
            return;
        }
        if let Some(authorizer) = within.authorizer.clone() {
            authorizer.learn(&within.request, &response);
            let is_outside = self.is_outside(&within);
            let session = self
                .calls
                .get_mut(&within.call)
                .and_then(|call| call.session(&within.tag));
            let may_go_again = match is_outside {
                true => true,
                false => may_go_again(&within.method, session.as_deref()),
            };
            if !may_go_again {
                return self.within_ended(now, *within, Ok(response));
            }
            let last = session
                .as_ref()
                .and_then(|session| session.dialog.local_cseq());
            let last = last.unwrap_or(within.cseq).max(within.cseq);
            let cnonce = self.ids.tag();
            let again = retry(
                &within.request,
                last,
                within.retries,
                &*authorizer,
                &response,
                cnonce.as_str(),
            );
            if let Retry::Send(request) = again {
                if let Some(session) = session {
                    session.dialog.sent(last + 1);
                }
                within.request = *request;
                within.cseq = last + 1;
                within.retries += 1;
                if let (Method::Refer, Some(id)) = (&within.method, within.refer) {
                    self.refer_renumbered(within.call, &within.tag, id, within.cseq);
                    self.outside_renumbered(within.call, within.cseq);
                }
                return self.send_within(*within, from, None);
            }
        }
        self.within_ended(now, *within, Ok(response));
    }

    /// Gives up our INVITE since the peer has ended its last early dialog.
    pub(super) fn cancel_if_alone(&mut self, key: CallKey) {
        let Some(call) = self.calls.get(&key) else {
            return;
        };
        let (Some(exchange), false) = (call.client, call.has_early()) else {
            return;
        };
        let is_open = match self.exchanges.get(&exchange) {
            Some(Exchange::Invite(client)) => client.state != ClientState::Accepted,
            _ => false,
        };
        if is_open {
            self.cancel(exchange, None);
        }
    }
}

/// Says whether a request may be sent once more in its dialog, with credentials: not while a BYE of ours is on its way, nor after
/// it, when "the UA MUST NOT send any new requests" (RFC 5407 §2). The BYE itself may, unless the peer's has met it, and what tells of
/// REFERs in a dialog that is kept for them.
fn may_go_again(method: &Method, session: Option<&Session>) -> bool {
    let both_ended = session.is_some_and(|session| session.both_ended);
    match session.map(|session| session.state) {
        _ if *method == Method::Bye => !both_ended,
        Some(SessionState::Lingering) => matches!(method, Method::Notify | Method::Subscribe),
        Some(SessionState::Mortal) | None => false,
        Some(_) => true,
    }
}
