//! REFERs of ours, and what the peer tells of them (RFC 3515 §2.4.1, RFC 6665 §4.1).

use std::time::{Duration, Instant};

use sipora_message::{
    HeaderName, Headers, Method, Request, Response, StatusCode, SubscriptionPhase,
};
use sipora_transaction_core::IncomingRequest;

use super::core::{CallKey, Calls, ExchangeKey};
use super::event::{CallError, CallEvent};
use super::outgoing::FIRST_CSEQ;
use super::refer::{
    MOST_REFERS, REFER, Refer, ReferId, ReferReport, ReferTo, reported, without_subscription,
};

/// A REFER of ours whose outcome the peer is to tell: an implicit subscription, as a subscriber sees it.
///
/// ```text
///   REFER ──▶ Sent ── 2xx ──▶ Granted ── NOTIFY: terminated, or its time is over ──▶ (gone)
///              │  NOTIFY before the 2xx: as Granted
///              └── refused, or 2xx with Refer-Sub: false ──▶ (gone)
/// ```
#[derive(Debug)]
pub(super) struct Referring {
    pub(super) id: ReferId,
    /// The number of the REFER as last sent, which is the `id` of its NOTIFYs (RFC 3515 §2.4.6).
    pub(super) cseq: u32,
    /// When the peer is given up.
    pub(super) ends: Instant,
}

impl Calls {
    /// Refers the peer to somebody else. The outcome of the REFER is that of the exchange that is given.
    pub(crate) fn refer(
        &mut self,
        now: Instant,
        key: CallKey,
        refer: Refer,
    ) -> Result<(ReferId, ExchangeKey), CallError> {
        let refer_to = self.refer_to(&refer)?;
        let patience = self.config.request_timeout + self.config.t1 * 64;
        let call = self.call(key)?;
        let contact = call.contact.clone();
        if call.is_to_come() {
            return Err(CallError::NotNow("the call is not up yet"));
        }
        let session = call.confirmed().ok_or(CallError::Gone)?;
        if session.extras().referring.len() >= MOST_REFERS {
            return Err(CallError::Busy);
        }
        let tag: Box<str> = session.remote_tag().into();
        let builder = self.begin_within(key, &tag, Method::Refer);
        let builder = builder.ok_or(CallError::Gone)?.contact(contact);
        let request = refer
            .add_to(builder, refer_to)
            .build()
            .map_err(|error| CallError::Invalid(error.to_string()))?;
        let name = self.next_exchange();
        let id = ReferId(name.0);
        let call = self.call(key)?;
        call.asking += 1;
        if let Some(session) = call.session(&tag) {
            // "MUST be prepared to receive a NOTIFY before the REFER transaction completes" (§2.4.4).
            let cseq = session.dialog.local_cseq().unwrap_or(FIRST_CSEQ);
            session.extras().referring.push(Referring {
                id,
                cseq,
                ends: now + patience,
            });
        }
        self.send_for_refer(key, &tag, request, Some(name), Some(id));
        self.settle(key);
        Ok((id, name))
    }

    /// Whom a REFER names, as Refer-To says it.
    pub(super) fn refer_to(&mut self, refer: &Refer) -> Result<String, CallError> {
        match &refer.to {
            ReferTo::Uri(uri) => Ok(uri.clone()),
            ReferTo::Call(other, address) => self.refer_to_call(*other, address.as_ref()),
        }
    }

    /// Takes the end of a REFER of ours.
    pub(super) fn refer_answered(
        &mut self,
        now: Instant,
        key: CallKey,
        tag: &str,
        id: ReferId,
        response: Option<&Response>,
    ) {
        if self.outside_answered(now, key, response) || response.is_some_and(is_granted) {
            return;
        }
        let Some(session) = self.calls.get_mut(&key).and_then(|call| call.session(tag)) else {
            return;
        };
        session
            .extras()
            .referring
            .retain(|referring| referring.id != id);
        self.leave_if_done(key, tag);
    }

    /// A REFER of ours was sent again, with credentials.
    pub(super) fn refer_renumbered(&mut self, key: CallKey, tag: &str, id: ReferId, cseq: u32) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session else {
            return;
        };
        let mut referring = session.extras().referring.iter_mut();
        if let Some(referring) = referring.find(|referring| referring.id == id) {
            referring.cseq = cseq;
        }
    }

    /// Takes a NOTIFY of a REFER's. Its CSeq is in order.
    pub(super) fn notified(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        key: CallKey,
        tag: &str,
    ) {
        let request = &incoming.request;
        let status = self.notified_status(now, request, key, tag);
        let builder = self.begin(request, status);
        let builder = match status {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                builder.header(HeaderName::Accept, "message/sipfrag")
            }
            _ => builder,
        };
        self.respond(incoming.transaction, builder);
        self.leave_if_done(key, tag);
    }

    fn notified_status(
        &mut self,
        now: Instant,
        request: &Request,
        key: CallKey,
        tag: &str,
    ) -> StatusCode {
        let headers = request.headers();
        let t1 = self.config.t1;
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session else {
            return StatusCode::CALL_DOES_NOT_EXIST;
        };
        let (referring, dialog) = session.referring_and_dialog();
        // RFC 6665 §4.1.3: what matches no subscription gets 481.
        let Some(at) = matching(referring, headers) else {
            return StatusCode::CALL_DOES_NOT_EXIST;
        };
        let Ok(Some(state)) = headers.subscription_state() else {
            return StatusCode::BAD_REQUEST;
        };
        if !request.body().is_empty() && !is_fragment(headers) {
            return StatusCode::UNSUPPORTED_MEDIA_TYPE;
        }
        dialog.refresh_target(headers);
        let is_over = state.phase() == SubscriptionPhase::Terminated;
        let id = match is_over {
            true => referring.remove(at).id,
            false => {
                let Some(referring) = referring.get_mut(at) else {
                    return StatusCode::CALL_DOES_NOT_EXIST;
                };
                let seconds = state.expires().unwrap_or(DEFAULT_SECONDS);
                let left = Duration::from_secs(u64::from(seconds.min(MOST_SECONDS)));
                // It may be on its way as the time ends.
                referring.ends = now + left + t1 * 64;
                referring.id
            }
        };
        let report = ReferReport {
            id,
            status: reported(request.body()),
            notify: Some(request.clone()),
            is_over,
        };
        self.tell(key, CallEvent::ReferReport(Box::new(report)));
        StatusCode::OK
    }

    /// Gives up peers that have fallen silent.
    pub(super) fn referring_timeout(&mut self, now: Instant, key: CallKey, tag: &str) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session else {
            return;
        };
        let mut silent = Vec::new();
        session.extras().referring.retain(|referring| {
            let is_silent = referring.ends <= now;
            if is_silent {
                silent.push(referring.id);
            }
            !is_silent
        });
        for id in silent {
            let report = ReferReport {
                id,
                status: None,
                notify: None,
                is_over: true,
            };
            self.tell(key, CallEvent::ReferReport(Box::new(report)));
        }
        self.leave_if_done(key, tag);
    }
}

/// Says whether an answer to a REFER has made a subscription. 204 is what RFC 5839 has for none.
pub(super) fn is_granted(response: &Response) -> bool {
    let status = response.status();
    status.is_success()
        && status != StatusCode::NO_NOTIFICATION
        && !without_subscription(response.headers())
}

/// The subscription that a NOTIFY is about: that of the REFER with the number in `id`. One without `id` is about the first REFER,
/// which alone may do without (RFC 3515 §2.4.6).
fn matching(referring: &[Referring], headers: Headers<'_>) -> Option<usize> {
    let event = headers.event().ok().flatten()?;
    if !event.package().eq_ignore_ascii_case(REFER) {
        return None;
    }
    match event.id() {
        Some(id) => {
            let cseq: u32 = id.parse().ok()?;
            referring
                .iter()
                .position(|referring| referring.cseq == cseq)
        }
        None => {
            let first = referring.iter().map(|referring| referring.cseq).min()?;
            referring
                .iter()
                .position(|referring| referring.cseq == first)
        }
    }
}

fn is_fragment(headers: Headers<'_>) -> bool {
    let kind = headers.content_type().ok().flatten();
    kind.is_some_and(|kind| kind.is("message", "sipfrag"))
}

/// How long a subscription lasts whose NOTIFY does not say.
const DEFAULT_SECONDS: u32 = 60;

/// The longest that a peer is waited for, between two NOTIFYs, whatever it says.
const MOST_SECONDS: u32 = 3600;
