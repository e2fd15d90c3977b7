//! REFERs of the peer's, and what we tell of them (RFC 3515 §2.4.2, RFC 6665 §4.2).

use std::time::Instant;

use sipora_message::{HeaderName, Headers, Request, StatusCode};
use sipora_transaction_core::{IncomingRequest, ServerTransactionId};

use super::core::{CallKey, Calls};
use super::event::{CallError, CallEvent};
use super::refer::{MOST_REFERS, ReferId, Referral, refer_sub, without_subscription};
use super::session::SessionState;

/// A REFER of the peer's, and the subscription that it makes, as a notifier sees it.
///
/// ```text
///              nobody decides                 accepted
///   REFER ──▶ Asked ────────▶ Pending ──────────────────▶ Active ──┐ NOTIFY with each
///               │ accepted        │                  ▲      │ ▲────┘ provisional answer
///               │─────────────────│──────────────────┘      │
///               │ refused         │ refused                 │ final answer, or its time is over
///               ▼                 ▼                         ▼
///            (refused)       Over: NOTIFY 603          Over: the last NOTIFY
/// ```
///
/// One NOTIFY is on its way at a time; what changes meanwhile is told in the next, since each is "a complete statement of the
/// status of the referred action" (RFC 3515 §2.4.5).
#[derive(Debug)]
pub(super) struct Referred {
    pub(super) id: ReferId,
    /// The number of the REFER.
    pub(super) cseq: u32,
    /// NOTIFYs name it by that number: "for the second and subsequent REFER requests a UA receives in a given dialog" (§2.4.6).
    pub(super) is_named: bool,
    pub(super) stage: Stage,
    pub(super) status: StatusCode,
    /// When it is decided without the application, and when the subscription ends.
    pub(super) ends: Instant,
    /// A NOTIFY has no answer yet.
    pub(super) is_telling: bool,
    /// What it says has changed since.
    pub(super) is_stale: bool,
    /// So often, one after the other, it was refused as one that was overtaken.
    pub(super) overtaken: u8,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The REFER has no answer yet.
    Asked(ServerTransactionId, Box<Request>),
    Pending,
    Active,
    /// One NOTIFY more is to be answered, with this reason.
    Over(&'static str),
    /// Nobody wants to hear of it (RFC 4488); kept for nothing but its name.
    Silent,
}

impl Referred {
    /// One that waits for the application, and for its answer, until then.
    pub(super) fn asked(
        id: ReferId,
        incoming: &IncomingRequest,
        is_named: bool,
        ends: Instant,
    ) -> Self {
        let request = &incoming.request;
        Self {
            id,
            cseq: request.headers().cseq().map_or(0, |cseq| cseq.number),
            is_named,
            stage: Stage::Asked(incoming.transaction, Box::new(request.clone())),
            status: StatusCode::TRYING,
            ends,
            is_telling: false,
            is_stale: false,
            overtaken: 0,
        }
    }

    /// It keeps the dialog alive, or wants an answer.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.stage, Stage::Silent)
    }
}

impl Calls {
    /// Takes a REFER within a dialog. Its CSeq is in order.
    pub(super) fn asked_to_refer(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        key: CallKey,
        tag: &str,
    ) {
        let request = &incoming.request;
        // "MUST return a 400 (Bad Request) if the request contained zero or more than one Refer-To header field values"
        // (RFC 3515 §2.4.2).
        if !matches!(request.headers().refer_to(), Ok(Some(_))) {
            let builder = self.begin(request, StatusCode::BAD_REQUEST);
            let builder = builder.reason("Bad Request (Refer-To)");
            return self.respond(incoming.transaction, builder);
        }
        let id = ReferId(self.next_exchange().0);
        let patience = self.config.refer_patience();
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session else {
            return;
        };
        let extras = session.extras();
        extras.referred.retain(Referred::is_live);
        if extras.referred.len() >= MOST_REFERS {
            // RFC 5057 §5.6: "returning a 603 Decline is the safest way to refuse a new usage".
            let builder = self.begin(request, StatusCode::DECLINE);
            return self.respond(incoming.transaction, builder);
        }
        let is_named = std::mem::replace(&mut extras.was_referred, true);
        let asked = Referred::asked(id, incoming, is_named, now + patience);
        extras.referred.push(asked);
        let request = request.clone();
        self.tell(key, CallEvent::Referred(Box::new(Referral { id, request })));
    }

    /// Accepts a REFER of the peer's: the reference is followed from now on.
    pub(crate) fn accept_refer(
        &mut self,
        now: Instant,
        key: CallKey,
        id: ReferId,
    ) -> Result<(), CallError> {
        let (tag, referred) = self.referred(key, id)?;
        match &referred.stage {
            Stage::Asked(..) => self.grant(now, key, &tag, id, true),
            Stage::Pending => {
                referred.stage = Stage::Active;
                self.tell_of(now, key, &tag, id);
            }
            _ => return Err(CallError::Gone),
        }
        self.settle(key);
        Ok(())
    }

    /// Refuses a REFER of the peer's. One that has its answer already, since nobody decided in time, is told 603.
    pub(crate) fn reject_refer(
        &mut self,
        now: Instant,
        key: CallKey,
        id: ReferId,
        status: StatusCode,
    ) -> Result<(), CallError> {
        if !status.is_final() || status.is_success() {
            return Err(CallError::Invalid(format!("{status} is not 300 to 699")));
        }
        let patience = self.config.request_timeout * 2;
        let (tag, referred) = self.referred(key, id)?;
        match &referred.stage {
            Stage::Asked(..) => self.refuse_refer(key, &tag, id, status),
            Stage::Pending => {
                referred.status = StatusCode::DECLINE;
                referred.stage = Stage::Over("rejected");
                referred.ends = now + patience;
                self.tell_of(now, key, &tag, id);
            }
            _ => return Err(CallError::Gone),
        }
        self.settle(key);
        Ok(())
    }

    /// Tells the peer how the request stands that its REFER asked for. A final status is the last.
    pub(crate) fn report_refer(
        &mut self,
        now: Instant,
        key: CallKey,
        id: ReferId,
        status: StatusCode,
    ) -> Result<(), CallError> {
        let patience = self.config.request_timeout * 2;
        let (tag, referred) = self.referred(key, id)?;
        match referred.stage {
            Stage::Active => {}
            Stage::Silent => return Ok(()),
            Stage::Asked(..) | Stage::Pending => {
                return Err(CallError::NotNow("the REFER is not accepted yet"));
            }
            Stage::Over(_) => return Err(CallError::Gone),
        }
        if referred.status == status && !status.is_final() {
            return Ok(());
        }
        referred.status = status;
        if status.is_final() {
            // §2.4.7: "MUST indicate the subscription has been "terminated" with a reason of "noresource"".
            referred.stage = Stage::Over("noresource");
            referred.ends = now + patience;
        }
        self.tell_of(now, key, &tag, id);
        self.settle(key);
        Ok(())
    }

    /// Takes a SUBSCRIBE that refreshes or ends the subscription of a REFER (RFC 3515 §2.4.4). Its CSeq is in order.
    pub(super) fn refer_subscribed(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        key: CallKey,
        tag: &str,
    ) {
        let request = &incoming.request;
        let headers = request.headers();
        let longest = u32::try_from(self.config.refer_expires.as_secs()).unwrap_or(u32::MAX);
        let patience = self.config.request_timeout * 2;
        let contact = match self.calls.get(&key) {
            Some(call) => call.contact.clone(),
            None => return,
        };
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let found = session.and_then(|session| {
            let (all, dialog) = session.referred_and_dialog();
            let found = find(all, headers)?;
            dialog.refresh_target(headers);
            Some(found)
        });
        let Some(referred) = found else {
            // "If a SUBSCRIBE request for event refer is received for a subscription that does not already exist, it MUST be
            // rejected with a 403."
            let builder = self.begin(request, StatusCode::FORBIDDEN);
            return self.respond(incoming.transaction, builder);
        };
        let wanted = headers.expires().ok().flatten().unwrap_or(longest);
        let expires = wanted.min(longest);
        let id = referred.id;
        referred.ends = now + std::time::Duration::from_secs(u64::from(expires));
        if expires == 0 {
            referred.stage = Stage::Over("timeout");
            referred.ends = now + patience;
        }
        let builder = self
            .begin(request, StatusCode::OK)
            .contact(contact)
            .header(HeaderName::Expires, expires);
        self.respond(incoming.transaction, builder);
        self.tell_of(now, key, tag, id);
    }

    /// Decides what nobody has decided, and ends subscriptions whose time is over.
    pub(super) fn referred_timeout(&mut self, now: Instant, key: CallKey, tag: &str) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session else {
            return;
        };
        let due = |referred: &&Referred| referred.ends <= now;
        let due = session.extras().referred.iter().filter(due);
        let due: Vec<ReferId> = due.map(|referred| referred.id).collect();
        let patience = self.config.request_timeout * 2;
        for id in due {
            let Ok((_, referred)) = self.referred(key, id) else {
                continue;
            };
            match &referred.stage {
                // "If no final response has been generated according to the rules above, the UA MUST return a 202 Accepted
                // response before the REFER transaction expires" (RFC 3515 §2.4.2), which is 200 now (RFC 7647 §5).
                Stage::Asked(..) => self.grant(now, key, tag, id, false),
                Stage::Silent => {
                    self.drop_referred(key, tag, id);
                }
                // The last NOTIFY has no answer, after all its time.
                Stage::Over(_) => self.drop_referred(key, tag, id),
                Stage::Pending | Stage::Active => {
                    referred.stage = Stage::Over("timeout");
                    referred.ends = now + patience;
                    self.tell_of(now, key, tag, id);
                }
            }
        }
    }

    /// The INVITE is not accepted, and its early dialogs end: so do the REFERs that came in them.
    pub(super) fn drop_early_refers(&mut self, key: CallKey) {
        let sessions = self.calls.get(&key).map(|call| &call.sessions);
        let early = sessions.into_iter().flatten();
        let referred = early.filter(|it| it.has_extras() && it.state == SessionState::Early);
        let referred: Vec<Box<str>> = referred.map(|it| it.remote_tag().into()).collect();
        for tag in referred {
            let session = self.calls.get_mut(&key).and_then(|call| call.session(&tag));
            let all = session.map(|session| session.extras().referred.iter());
            // The last word does not say how long it holds.
            let ends = all.and_then(|all| all.map(|referred| referred.ends).max());
            self.drop_refers(ends, key, &tag);
        }
    }

    /// The dialog ends, or the application has gone: REFERs without answer are refused, and the rest is told for the last time.
    pub(super) fn drop_refers(&mut self, now: Option<Instant>, key: CallKey, tag: &str) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session.filter(|session| session.has_extras()) else {
            return;
        };
        let referred = session.extras().referred.iter();
        let all: Vec<ReferId> = referred.map(|referred| referred.id).collect();
        let patience = self.config.request_timeout * 2;
        for id in all {
            let Ok((_, referred)) = self.referred(key, id) else {
                continue;
            };
            match (&referred.stage, now) {
                (Stage::Asked(..), _) => {
                    self.refuse_refer(key, tag, id, StatusCode::DECLINE);
                }
                (Stage::Pending | Stage::Active, Some(now)) => {
                    referred.stage = Stage::Over("giveup");
                    referred.ends = now + patience;
                    // A NOTIFY without answer is overtaken: there will be nobody to wait for it.
                    referred.is_telling = false;
                    self.tell_of(now, key, tag, id);
                }
                // The last word waits behind another.
                (Stage::Over(_), Some(now)) if referred.is_stale => {
                    referred.is_telling = false;
                    self.tell_of(now, key, tag, id);
                }
                _ => {}
            }
        }
    }

    /// Answers a REFER with 200: there is a subscription now, unless nobody wants one.
    fn grant(&mut self, now: Instant, key: CallKey, tag: &str, id: ReferId, is_active: bool) {
        let expires = self.config.refer_expires;
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let contact = call.contact.clone();
        let Some(session) = call.session(tag) else {
            return;
        };
        let (referred, dialog) = session.referred_and_dialog();
        let Some(referred) = referred.iter_mut().find(|referred| referred.id == id) else {
            return;
        };
        let stage = if is_active {
            Stage::Active
        } else {
            Stage::Pending
        };
        let Stage::Asked(transaction, request) = std::mem::replace(&mut referred.stage, stage)
        else {
            return;
        };
        // RFC 5057 §5.4: a REFER moves the target.
        dialog.refresh_target(request.headers());
        referred.ends = now + expires;
        let is_silent = asks_for_silence(request.headers());
        if is_silent {
            referred.stage = Stage::Silent;
        }
        let builder = self.begin_for_refer(key, &request, StatusCode::OK);
        let mut builder = builder.contact(contact);
        if is_silent {
            // RFC 4488 §4: "it MUST insert the "Refer-Sub" header field set to "false" in the 2xx".
            builder = builder.header(refer_sub(), "false");
        }
        self.respond(transaction, builder);
        match is_silent {
            // "Consequently, no new dialog is created if this REFER was issued outside any existing dialog" (RFC 4488 §4).
            true => self.leave_if_done(key, tag),
            // "The creation of a subscription ... always results in an immediate NOTIFY" (RFC 3515 §2.4.4).
            false => self.tell_of(now, key, tag, id),
        }
    }

    fn refuse_refer(&mut self, key: CallKey, tag: &str, id: ReferId, status: StatusCode) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session else {
            return;
        };
        let all = &mut session.extras().referred;
        let Some(at) = all.iter().position(|referred| referred.id == id) else {
            return;
        };
        if let Stage::Asked(transaction, request) = all.remove(at).stage {
            let builder = self.begin_for_refer(key, &request, status);
            self.respond(transaction, builder);
        }
        self.leave_if_done(key, tag);
    }

    pub(super) fn drop_referred(&mut self, key: CallKey, tag: &str, id: ReferId) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        if let Some(session) = session {
            session
                .extras()
                .referred
                .retain(|referred| referred.id != id);
        }
        self.leave_if_done(key, tag);
    }

    pub(super) fn referred(
        &mut self,
        key: CallKey,
        id: ReferId,
    ) -> Result<(Box<str>, &mut Referred), CallError> {
        let call = self.call(key)?;
        for session in call.sessions.iter_mut().filter(|it| it.has_extras()) {
            let tag: Box<str> = session.remote_tag().into();
            let mut referred = session.extras().referred.iter_mut();
            if let Some(referred) = referred.find(|referred| referred.id == id) {
                return Ok((tag, referred));
            }
        }
        Err(CallError::Gone)
    }
}

/// The subscription that a SUBSCRIBE is about.
fn find<'a>(referred: &'a mut [Referred], headers: Headers<'_>) -> Option<&'a mut Referred> {
    let event = headers.event().ok().flatten()?;
    let cseq: Option<u32> = match event.id() {
        Some(id) => Some(id.parse().ok()?),
        None => None,
    };
    referred
        .iter_mut()
        .filter(|referred| matches!(referred.stage, Stage::Pending | Stage::Active))
        .find(|referred| match cseq {
            Some(cseq) => referred.cseq == cseq,
            None => !referred.is_named,
        })
}

/// RFC 4488 §4, RFC 7614 §5: the REFER asks for no subscription, or requires that there is none.
pub(super) fn asks_for_silence(headers: Headers<'_>) -> bool {
    let mut required = headers.require();
    without_subscription(headers) || required.any(|tag| tag.eq_ignore_ascii_case("nosub"))
}
