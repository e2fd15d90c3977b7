//! Refreshes of sessions that last for a time, and their end (RFC 4028 §7, §10).

use std::time::{Duration, Instant};

use sipora_message::{
    HeaderName, Method, Refresher, RequestBuilder, Response, SessionExpires, StatusCode,
};

use super::{Agreed, LONGEST, MIN_SE, SessionTimer, due};
use crate::Body;
use crate::call::core::{CallKey, Calls};
use crate::call::event::{CallEnd, CallError, CallEvent};
use crate::call::offer::is_description;
use crate::call::refused::MAX_LENGTHENED;
use crate::call::said::Said;

impl Calls {
    /// Adds what a re-INVITE, UPDATE or first INVITE of ours says of the timer (RFC 4028 §7.1, §7.4).
    pub(in crate::call) fn add_timer(
        &self,
        call: Option<CallKey>,
        builder: RequestBuilder,
    ) -> RequestBuilder {
        let call = call.and_then(|key| self.calls.get(&key));
        let learned = call.map_or(0, |call| call.min_se);
        let timer = call.and_then(|call| call.timer.as_ref());
        let (expires, min_se) = match timer {
            Some(timer) => {
                // "The role of refresher does not change on each refresh."
                let refresher = match timer.is_ours {
                    true => Refresher::Uac,
                    false => Refresher::Uas,
                };
                let min_se = timer.min_se.max(learned);
                let expires = SessionExpires {
                    seconds: timer.interval.max(min_se),
                    refresher: Some(refresher),
                };
                (Some(expires), min_se)
            }
            // "It is RECOMMENDED that the parameter be omitted so that it can be selected by the negotiation."
            None => {
                let seconds = self.config.wanted();
                let min_se = self.config.min_se().max(learned);
                let expires = seconds.map(|seconds| SessionExpires {
                    seconds: seconds.max(min_se),
                    refresher: None,
                });
                (expires, min_se)
            }
        };
        let Some(expires) = expires else {
            return builder;
        };
        let builder = builder.header(HeaderName::SessionExpires, expires);
        match min_se > MIN_SE {
            true => builder.header(HeaderName::MinSe, min_se),
            false => builder,
        }
    }

    /// A 2xx to an INVITE or UPDATE has come or gone: the session is refreshed, or has no timer any more.
    pub(in crate::call) fn refreshed(
        &mut self,
        now: Instant,
        key: CallKey,
        agreed: Option<Agreed>,
    ) {
        let floor = self.config.min_se();
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(agreed) = agreed.filter(|_| call.is_up()) else {
            call.timer = None;
            return;
        };
        // Nobody may have us refresh all the time (RFC 4028 §11).
        let interval = agreed.interval.max(floor.min(MIN_SE));
        let lasts = Duration::from_secs(u64::from(interval.min(LONGEST)));
        let ends = now + lasts;
        let before = call.timer.take();
        let (min_se, knew_update) = match before {
            Some(before) => (before.min_se, before.takes_update),
            None => (MIN_SE, false),
        };
        call.timer = Some(Box::new(SessionTimer {
            interval,
            is_ours: agreed.is_ours,
            at: due(agreed.is_ours, ends, lasts),
            ends,
            min_se: min_se.max(agreed.min_se),
            takes_update: agreed.takes_update || knew_update,
            is_refreshing: false,
            lengthened: 0,
        }));
    }

    /// What a 2xx to the INVITE that waits for its answer agrees on.
    pub(in crate::call) fn agreed_with(&self, key: CallKey) -> Option<(SessionExpires, Agreed)> {
        let mut servers = self.calls.get(&key)?.servers.iter();
        let server = servers.find(|server| server.is_pending())?;
        self.config.agrees(server.request.as_deref()?)
    }

    /// The time has come to refresh the session, or to end it.
    pub(in crate::call) fn timer_due(&mut self, now: Instant, key: CallKey) {
        let timer = self
            .calls
            .get_mut(&key)
            .and_then(|call| call.timer.as_mut());
        let Some(timer) = timer.filter(|timer| timer.at <= now) else {
            return;
        };
        if !timer.is_ours || timer.ends <= now {
            // RFC 4028 §10: "it SHOULD send a BYE to terminate the session, slightly before the session expiration".
            return self.bye(key, CallEnd::Expired);
        }
        // Where it gets no answer, or a refusal, or something else is under way, it is tried again until the session ends.
        let left = timer.ends.saturating_duration_since(now);
        timer.at = now + (left / 2).max(RETRY).min(left);
        if timer.is_refreshing {
            return;
        }
        self.refresh(key);
    }

    /// Refreshes the session: by UPDATE, which "SHOULD NOT contain an offer", or by re-INVITE with what we said last
    /// (RFC 4028 §7.4).
    fn refresh(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        // A change that waits to be sent again refreshes the session too.
        if call.glare.is_some() {
            return;
        }
        let Some(timer) = &mut call.timer else {
            return;
        };
        let takes_update = timer.takes_update;
        let Some(session) = call.confirmed() else {
            return;
        };
        // What the peer has said last holds.
        if takes_update && session.allows_update {
            let tag: Box<str> = session.remote_tag().into();
            if self.update_again(key, tag, None, 0, true).is_ok()
                && let Ok(call) = self.call(key)
                && let Some(timer) = &mut call.timer
            {
                timer.is_refreshing = true;
            }
            return;
        }
        match session.said.as_ref().map(Said::body) {
            // Where something else is under way it is tried again.
            Some(body) => drop(self.refresh_by_invite(key, body)),
            None => self.tell(key, CallEvent::RefreshDue),
        }
    }

    /// Refreshes the session by re-INVITE with what the application says holds.
    pub(crate) fn refresh_with(&mut self, key: CallKey, body: Body) -> Result<(), CallError> {
        if !is_description(Some(&body), &[]) {
            return Err(CallError::BodyNeeded("a refresh says what holds"));
        }
        if self.call(key)?.timer.is_none() {
            return Err(CallError::NotNow("the session has no timer"));
        }
        self.refresh_by_invite(key, body)
    }

    fn refresh_by_invite(&mut self, key: CallKey, body: Body) -> Result<(), CallError> {
        self.reinvite_again(key, Some(body), 0, true)?;
        if let Some(timer) = &mut self.call(key)?.timer {
            timer.is_refreshing = true;
        }
        Ok(())
    }

    /// Says whether a refresh is still wanted: it may have been the peer's own that ours met.
    pub(in crate::call) fn is_refreshing(&self, key: CallKey) -> bool {
        let timer = self.calls.get(&key).and_then(|call| call.timer.as_ref());
        timer.is_some_and(|timer| timer.is_refreshing)
    }

    /// Takes the refusal of a re-INVITE or UPDATE that was to refresh the session; says whether it was one.
    pub(in crate::call) fn refresh_refused(
        &mut self,
        now: Instant,
        key: CallKey,
        response: Option<&Response>,
        method: Method,
    ) {
        let timer = self
            .calls
            .get_mut(&key)
            .and_then(|call| call.timer.as_mut());
        let Some(timer) = timer.filter(|timer| timer.is_refreshing) else {
            return;
        };
        timer.is_refreshing = false;
        let Some(response) = response else {
            return;
        };
        let is_update = method == Method::Update;
        let status = response.status();
        let min_se = response.headers().min_se().ok().flatten();
        let is_longer = min_se.is_some_and(|min_se| min_se > timer.min_se);
        if status == StatusCode::SESSION_INTERVAL_TOO_SMALL && is_longer {
            timer.min_se = min_se.unwrap_or(timer.min_se);
            if timer.lengthened < MAX_LENGTHENED {
                timer.lengthened += 1;
                timer.at = now;
            }
        } else if is_update && matches!(status.as_u16(), 405 | 501) {
            timer.takes_update = false;
            timer.at = now;
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            // §10: "follow the rules specific to that response code and retry the session refresh if possible".
            timer.at = (now + TRIES_AGAIN).min(timer.ends);
        }
    }

    /// Takes note of a 422 to a re-INVITE or UPDATE: the Min-SE of the next "MUST be the largest value among all Min-SE header field
    /// values returned in all 422 responses" (RFC 4028 §7.4).
    pub(in crate::call) fn learn_min_se(&mut self, key: CallKey, response: &Response) {
        let min_se = response.headers().min_se().ok().flatten();
        if let (StatusCode::SESSION_INTERVAL_TOO_SMALL, Some(min_se)) = (response.status(), min_se)
            && let Some(call) = self.calls.get_mut(&key)
        {
            call.min_se = call.min_se.max(min_se);
        }
    }
}

/// How soon a refresh is tried again that found no way, or no room.
const TRIES_AGAIN: Duration = Duration::from_secs(10);

/// How soon a refresh is tried again, at the soonest.
const RETRY: Duration = Duration::from_secs(5);
