//! NOTIFYs of ours that tell what came of a REFER of the peer's (RFC 3515 §2.4.5).

use std::time::Instant;

use sipora_message::{HeaderName, Method, SubscriptionState};

use super::core::{CallKey, Calls};
use super::effect::Effect;
use super::refer::{REFER, ReferId};
use super::referred::Stage;
use super::session::SessionState;

impl Calls {
    /// Sends a NOTIFY with what is known, now or after the one that is on its way.
    pub(super) fn tell_of(&mut self, now: Instant, key: CallKey, tag: &str, id: ReferId) {
        let contact = match self.calls.get(&key) {
            Some(call) => call.contact.clone(),
            None => return,
        };
        // RFC 5407 §2: in Mortal, "the UA MUST NOT send any new requests". One that overtook the BYE would have it refused with 500.
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let is_mortal = session.is_some_and(|it| it.state == SessionState::Mortal);
        let Ok((_, referred)) = self.referred(key, id) else {
            return;
        };
        if referred.is_telling || is_mortal {
            referred.is_stale = true;
            return;
        }
        let left = referred.ends.saturating_duration_since(now).as_secs();
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let state = match referred.stage {
            Stage::Pending => SubscriptionState::pending(left).to_string(),
            Stage::Active => SubscriptionState::active(left).to_string(),
            Stage::Over(reason) => format!("terminated;reason={reason}"),
            Stage::Asked(..) | Stage::Silent => return,
        };
        let event = match referred.is_named {
            true => format!("{REFER};id={}", referred.cseq),
            false => REFER.to_owned(),
        };
        let status = referred.status;
        referred.is_telling = true;
        referred.is_stale = false;
        let builder = self.begin_within(key, tag, Method::Notify);
        let request = builder.and_then(|builder| {
            let line = format!(
                "SIP/2.0 {} {}\r\n",
                status.as_u16(),
                status.default_reason()
            );
            builder
                .contact(contact)
                .header(HeaderName::Event, event)
                .header(HeaderName::SubscriptionState, state)
                .body("message/sipfrag;version=2.0", line)
                .build()
                .ok()
        });
        if let Some(request) = request {
            self.send_for_refer(key, tag, request, None, Some(id));
        }
    }

    /// Sends what waited for the answer to a BYE.
    pub(super) fn tell_what_waits(&mut self, now: Instant, key: CallKey, tag: &str) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session.filter(|session| session.has_extras()) else {
            return;
        };
        let referred = session.extras().referred.iter();
        let waits = referred.filter(|it| !it.is_telling && it.is_stale);
        let waits: Vec<ReferId> = waits.map(|referred| referred.id).collect();
        for id in waits {
            self.tell_of(now, key, tag, id);
        }
    }

    /// Takes the answer to a NOTIFY of ours, or that there is none. One that another request has overtaken was refused with 500
    /// (RFC 3261 §12.2.2), and is sent again.
    pub(super) fn told(
        &mut self,
        now: Instant,
        (key, tag): (CallKey, &str),
        id: ReferId,
        effect: Effect,
        is_overtaken: bool,
    ) {
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let Some(session) = session else {
            return;
        };
        let referred = &mut session.extras().referred;
        let Some(at) = referred.iter().position(|referred| referred.id == id) else {
            return self.leave_if_done(key, tag);
        };
        if effect != Effect::Transaction {
            // RFC 6665 §4.2.2, RFC 5057 §5.1: the subscription is gone, and the call is not.
            referred.remove(at);
            return self.leave_if_done(key, tag);
        }
        let Some(referred) = referred.get_mut(at) else {
            return;
        };
        referred.is_telling = false;
        referred.is_stale |= is_overtaken && referred.overtaken < MOST_OVERTAKEN;
        referred.overtaken = match is_overtaken {
            true => referred.overtaken.saturating_add(1),
            false => 0,
        };
        let is_over = matches!(referred.stage, Stage::Over(_));
        if referred.is_stale {
            self.tell_of(now, key, tag, id);
        } else if is_over {
            self.drop_referred(key, tag, id);
        }
    }
}

/// Times that a NOTIFY is sent again for 500. Who refuses more of them does so for another reason.
const MOST_OVERTAKEN: u8 = 4;
