//! REFERs of ours outside of dialogs: every NOTIFY that answers one makes a dialog (RFC 3515 §2.4.4, RFC 6665 §4.4.1).

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{HeaderName, Method, Request, Response};
use sipora_transaction_core::{IncomingRequest, Target};

use super::answered::MAX_FORKS;
use super::core::{CallKey, Calls, ExchangeKey, Within};
use super::event::{CallError, CallEvent};
use super::offer::OfferAnswer;
use super::outgoing::FIRST_CSEQ;
use super::outside_api::OutgoingRefer;
use super::record::Call;
use super::refer::{REFER, ReferId, ReferReport};
use super::referring::{Referring, is_granted};
use super::session::{Session, SessionState};
use crate::{Authorizer, Dialog};

/// A REFER outside of dialogs. It takes the place of an INVITE: what is kept of it is a call without a session, whose dialogs linger
/// from their beginning.
#[derive(Debug)]
pub(super) enum Outside {
    /// The peer's: it has one dialog from the start.
    Theirs,
    Ours(Asked),
}

/// A REFER of ours, until it is known where its outcome is told.
///
/// ```text
///   REFER ──▶ Sent ── 2xx ──▶ Granted ── no NOTIFY in the time of Timer N ──▶ Closed
///               │                 │ NOTIFY with a new tag: a dialog             ▲
///               └── refused, or 2xx with Refer-Sub: false ──────────────────────┘
/// ```
///
/// A NOTIFY makes a dialog while it is Sent, too: the 2xx may be slower, or be lost.
#[derive(Debug)]
pub(super) struct Asked {
    id: ReferId,
    /// The number of the REFER as last sent.
    cseq: u32,
    call_id: Box<str>,
    stage: Stage,
    /// The tags of those whose NOTIFYs have made dialogs. One that is over is not made again: what comes late was overtaken.
    heard: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sent,
    /// Until when dialogs are made.
    Granted(Instant),
    Closed,
}

impl Outside {
    /// There may be a dialog yet: the first, while there is none.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Theirs => false,
            Self::Ours(asked) => match asked.stage {
                Stage::Sent => true,
                Stage::Granted(_) => asked.heard.is_empty(),
                Stage::Closed => false,
            },
        }
    }

    /// When nobody will tell anything any more.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Ours(Asked {
                stage: Stage::Granted(until),
                heard,
                ..
            }) if heard.is_empty() => Some(*until),
            _ => None,
        }
    }

    /// The application has gone.
    pub(super) fn close(&mut self) {
        if let Self::Ours(asked) = self {
            asked.stage = Stage::Closed;
        }
    }
}

impl Calls {
    /// Refers somebody with whom there is no dialog. The outcome of the REFER is that of the exchange that is given.
    pub(crate) fn refer_outside(
        &mut self,
        outgoing: OutgoingRefer,
        call_id: &str,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<(CallKey, ReferId, ExchangeKey), CallError> {
        if self.calls.len() >= self.config.max_calls {
            self.metrics.refused_for_lack_of_room += 1;
            return Err(CallError::Busy);
        }
        let refer_to = self.refer_to(&outgoing.refer)?;
        let tag = self.ids.tag();
        let contact = format!("<{}>", outgoing.contact);
        let builder = Request::builder(Method::Refer, &outgoing.uri)
            .from(format!("{};tag={tag}", outgoing.from))
            .to(&outgoing.to)
            .call_id(call_id)
            .cseq(FIRST_CSEQ)
            .contact(&contact)
            .header(HeaderName::Allow, &self.allow);
        let builder = outgoing.refer.add_to(builder, refer_to);
        let builder = match &self.config.product {
            Some(product) => builder.header(HeaderName::UserAgent, product),
            None => builder,
        };
        let request = builder
            .build()
            .map_err(|error| CallError::Invalid(error.to_string()))?;
        let target = match outgoing.target {
            Some(target) => target,
            None => crate::next_hop(&request)
                .map(Target::Uri)
                .map_err(|error| CallError::Invalid(error.to_string()))?,
        };
        let key = self.next_call();
        let name = self.next_exchange();
        let id = ReferId(name.0);
        let mut call = Call::new(true, tag.as_str(), contact);
        call.authorizer = authorizer.clone();
        call.outside = Some(Box::new(Outside::Ours(Asked {
            id,
            cseq: FIRST_CSEQ,
            call_id: call_id.into(),
            stage: Stage::Sent,
            heard: Vec::new(),
        })));
        self.insert(key, call);
        let within = Within {
            call: key,
            tag: Box::default(),
            method: Method::Refer,
            cseq: FIRST_CSEQ,
            request,
            retries: 0,
            authorizer,
            asked: Some(name),
            refer: Some(id),
        };
        self.send_within(within, target, None);
        Ok((key, id, name))
    }

    /// Takes a NOTIFY within no dialog that is known: says whether a REFER of ours asked for it, so that it makes one. One REFER may be
    /// answered by several user agents (RFC 3515 §3.9).
    pub(super) fn first_notify(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        our_tag: &str,
    ) -> bool {
        let request = &incoming.request;
        let Some((key, dialog, referring)) = self.makes_dialog(now, request, our_tag) else {
            return false;
        };
        if let Some(unknown) = self.config.not_understood(request) {
            self.refuse_extension(incoming, &unknown);
            return true;
        }
        let tag = dialog.id().remote_tag.clone();
        let mut session = Session::new(dialog, OfferAnswer::default());
        session.state = SessionState::Lingering;
        session.extras().referring.push(referring);
        if let Some(call) = self.calls.get_mut(&key) {
            if let Some(Outside::Ours(asked)) = call.outside.as_deref_mut() {
                asked.heard.push(tag.clone());
            }
            call.add_session(session);
        }
        self.notified(now, incoming, key, &tag);
        self.settle(key);
        true
    }

    fn makes_dialog(
        &self,
        now: Instant,
        notify: &Request,
        our_tag: &str,
    ) -> Option<(CallKey, Dialog, Referring)> {
        let key = *self.by_tag.get(our_tag)?;
        let call = self.calls.get(&key)?;
        let Some(Outside::Ours(asked)) = call.outside.as_deref() else {
            return None;
        };
        let is_open = match asked.stage {
            Stage::Sent => true,
            Stage::Granted(until) => now < until,
            Stage::Closed => false,
        };
        let headers = notify.headers();
        let is_same = headers.call_id().ok()? == &*asked.call_id;
        if !is_open || !is_same || asked.heard.len() >= MAX_FORKS {
            return None;
        }
        // What cannot be understood makes nothing.
        let event = headers.event().ok()??;
        let is_named = event.package().eq_ignore_ascii_case(REFER)
            && event.id().is_none_or(|id| id.parse() == Ok(asked.cseq));
        headers.subscription_state().ok()??;
        let from = headers.from().ok()?;
        let tag = from.tag().filter(|_| is_named)?;
        if asked.heard.iter().any(|heard| **heard == *tag) {
            return None;
        }
        let dialog = Dialog::of_notify(notify, asked.cseq).ok()?;
        let referring = Referring {
            id: asked.id,
            cseq: asked.cseq,
            ends: now + self.timer_n(),
        };
        Some((key, dialog, referring))
    }

    /// Takes the end of a REFER of ours outside of dialogs; says whether it was one.
    pub(super) fn outside_answered(
        &mut self,
        now: Instant,
        key: CallKey,
        response: Option<&Response>,
    ) -> bool {
        let until = now + self.timer_n();
        let outside = self.calls.get_mut(&key).and_then(|it| it.outside.as_mut());
        let Some(Outside::Ours(asked)) = outside.map(Box::as_mut) else {
            return false;
        };
        asked.stage = match response.is_some_and(is_granted) && asked.stage != Stage::Closed {
            true => Stage::Granted(until),
            false => Stage::Closed,
        };
        true
    }

    /// It was sent again, with credentials.
    pub(super) fn outside_renumbered(&mut self, key: CallKey, cseq: u32) {
        let outside = self.calls.get_mut(&key).and_then(|it| it.outside.as_mut());
        if let Some(Outside::Ours(asked)) = outside.map(Box::as_mut) {
            asked.cseq = cseq;
        }
    }

    /// It may be sent again: it is not given up.
    pub(super) fn is_outside(&self, within: &Within) -> bool {
        let call = self.calls.get(&within.call);
        within.tag.is_empty() && call.is_some_and(|call| call.outside.is_some())
    }

    /// "If Timer N expires prior to the receipt of a NOTIFY request, the subscription is considered failed" (RFC 6665 §4.1.2.4).
    pub(super) fn outside_timeout(&mut self, now: Instant, key: CallKey) {
        let outside = self.calls.get_mut(&key).and_then(|it| it.outside.as_mut());
        let Some(Outside::Ours(asked)) = outside.map(Box::as_mut) else {
            return;
        };
        if !matches!(asked.stage, Stage::Granted(until) if until <= now) {
            return;
        }
        asked.stage = Stage::Closed;
        if asked.heard.is_empty() {
            let report = ReferReport {
                id: asked.id,
                status: None,
                notify: None,
                is_over: true,
            };
            self.tell(key, CallEvent::ReferReport(Box::new(report)));
        }
    }

    fn timer_n(&self) -> Duration {
        self.config.t1 * TIMER_N
    }
}

/// The time of Timer N, in T1 (RFC 6665 §4.1.2).
const TIMER_N: u32 = 64;
