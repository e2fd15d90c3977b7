//! INVITEs of the peers' that come to nothing before the application has answered them (RFC 3261 §9.2, §13.3.1, RFC 3262 §3).

use std::time::Instant;

use sipora_message::{Request, StatusCode};
use sipora_transaction_core::ServerTransactionId;

use super::core::{CallKey, Calls};
use super::event::{CallEnd, CallEvent};

impl Calls {
    /// Takes a CANCEL for an INVITE without final answer: "the UAS ... SHOULD immediately respond ... with a 487"
    /// (RFC 3261 §9.2). The CANCEL has its 200 already.
    pub(crate) fn handle_cancelled(
        &mut self,
        now: Instant,
        transaction: ServerTransactionId,
        cancel: Request,
    ) {
        let Some(&key) = self.pending.get(&transaction) else {
            return;
        };
        self.withdrawn(now, key, CallEnd::PeerCancelled(cancel));
        self.settle(key);
    }

    /// Takes the news that a transaction takes no more answers.
    pub(crate) fn handle_gone(&mut self, transaction: ServerTransactionId) {
        let Some(key) = self.pending.remove(&transaction) else {
            return;
        };
        self.tell_withdrawn(key, |calls| calls.not_accepted(key, CallEnd::NotAnswered));
        self.settle(key);
    }

    /// "When the timer fires, the invitation is considered to be expired" (RFC 3261 §13.3.1).
    pub(super) fn expired(&mut self, now: Instant, key: CallKey) {
        self.withdrawn(now, key, CallEnd::NotAnswered);
    }

    pub(super) fn rang_too_long(&mut self, now: Instant, key: CallKey) {
        let call = self.calls.get_mut(&key);
        let server = call.and_then(|call| call.pending_server());
        if server.is_some_and(|server| !server.is_first) {
            // 480 would end the call (RFC 5057 §5.1).
            return self.expired(now, key);
        }
        let status = StatusCode::TEMPORARILY_UNAVAILABLE;
        self.refuse_pending_as(key, status, CallEnd::NotAnswered);
    }

    /// "If a reliable provisional response is retransmitted for 64*T1 seconds without reception of a corresponding PRACK, the
    /// UAS SHOULD reject the original request with a 5xx response" (RFC 3262 §3).
    pub(super) fn not_pracked(&mut self, key: CallKey) {
        self.give_up_pending(key, StatusCode::SERVER_TIMEOUT, CallEnd::NotAcknowledged);
    }

    /// Refuses the peer's INVITE for a reason of ours.
    pub(super) fn give_up_pending(&mut self, key: CallKey, status: StatusCode, end: CallEnd) {
        self.tell_withdrawn(key, |calls| calls.refuse_pending_as(key, status, end));
    }

    /// The peer's INVITE is over before anybody has answered it: "a 487 (Request Terminated) response SHOULD be generated"
    /// (RFC 3261 §13.3.1). But where "some of its requested changes had already been executed, the UAS would return a 2xx response
    /// instead" (RFC 6141 §3.8, §3.3).
    fn withdrawn(&mut self, now: Instant, key: CallKey, end: CallEnd) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let has_changed = call.has_changed;
        let is_executed = call
            .pending_server()
            .is_some_and(|server| !server.is_first && server.has_described && has_changed);
        if !is_executed {
            return self.give_up_pending(key, StatusCode::REQUEST_TERMINATED, end);
        }
        self.tell_withdrawn(key, |calls| {
            // Where the application has accepted, it waits already.
            let _ = calls.accept_as(now, key, None);
        });
    }

    /// Ends the peer's INVITE so, and tells the application, once, that it does not wait any more, where that is a re-INVITE.
    fn tell_withdrawn(&mut self, key: CallKey, end: impl FnOnce(&mut Self)) {
        let call = self.calls.get_mut(&key);
        let server = call.and_then(|call| call.pending_server());
        let is_news = server.is_some_and(|server| {
            !server.is_first && !std::mem::replace(&mut server.is_withdrawn, true)
        });
        end(self);
        if is_news {
            self.tell(key, CallEvent::ReinviteCancelled);
        }
    }
}
