//! Session timers: how calls whose peer has vanished end (RFC 4028).

use std::time::{Duration, Instant};

use sipora_message::{
    HeaderName, Headers, Method, Refresher, Request, RequestBuilder, Response, SessionExpires,
    StatusCode,
};

use super::CallConfig;
use super::core::{CallKey, Calls};
use super::event::{CallEnd, CallError, CallEvent};
use super::offer::is_description;
use super::refused::MAX_LENGTHENED;
use super::said::Said;
use super::state::at;
use crate::Body;

/// The session timer of a call.
///
/// ```text
///             2xx with Session-Expires                  half of it is over, and we refresh
///   (none) ───────────────────────────▶ Running ──────────────────────────────▶ Refreshing
///     ▲                                 ▲   │                                    │      │
///     │ 2xx without                     │   │ 2xx to a re-INVITE or UPDATE,      │ 2xx  │ refused:
///     └─────────────────────────────────┤   │ from either side                   │      │ later again
///                                       └───┴────────────────────────────────────┘      │
///                                       at its end, or 32 s before where the peer refreshes: BYE
/// ```
#[derive(Debug)]
pub(super) struct SessionTimer {
    interval: u32,
    /// We refresh, and not the peer.
    is_ours: bool,
    /// When to refresh, or to hang up.
    pub(super) at: Instant,
    /// When the session is over.
    ends: Instant,
    /// The longest Min-SE that was heard of.
    min_se: u32,
    /// The peer understands UPDATE.
    takes_update: bool,
    /// A refresh of ours has no answer.
    is_refreshing: bool,
    /// It was sent again at once, for a longer session, so often.
    lengthened: u8,
}

/// What is left of one, without the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) interval: u32,
    pub(super) is_ours: bool,
    /// Until it is refreshed, or ended.
    pub(super) due: Duration,
    /// Until the session is over.
    pub(super) ends: Duration,
    pub(super) min_se: u32,
    pub(super) takes_update: bool,
}

impl SessionTimer {
    pub(super) fn left(&self, now: Instant) -> Left {
        Left {
            interval: self.interval,
            is_ours: self.is_ours,
            due: self.at.saturating_duration_since(now),
            ends: self.ends.saturating_duration_since(now),
            min_se: self.min_se,
            takes_update: self.takes_update,
        }
    }
}

impl Left {
    /// The timer that goes on from now.
    pub(super) fn timer(self, now: Instant) -> SessionTimer {
        SessionTimer {
            interval: self.interval,
            is_ours: self.is_ours,
            at: at(now, self.due),
            ends: at(now, self.ends),
            min_se: self.min_se,
            takes_update: self.takes_update,
            is_refreshing: false,
            lengthened: 0,
        }
    }
}

/// What a 2xx has agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    interval: u32,
    is_ours: bool,
    min_se: u32,
    takes_update: bool,
}

/// The option tag of session timers.
pub(super) const TIMER: &str = "timer";

impl CallConfig {
    /// What our 2xx to a request agrees on (RFC 4028 §9).
    pub(super) fn agrees(&self, request: &Request) -> Option<(SessionExpires, Agreed)> {
        let headers = request.headers();
        let is_known = knows_timers(headers);
        let min_se = headers.min_se().ok().flatten().unwrap_or(MIN_SE);
        let expires = match headers.session_expires().ok().flatten() {
            // Table 2. Where we may choose, the side refreshes that has asked.
            Some(asked) => SessionExpires {
                seconds: asked.seconds,
                refresher: match asked.refresher {
                    _ if !is_known => Some(Refresher::Uas),
                    Some(refresher) => Some(refresher),
                    None => Some(Refresher::Uac),
                },
            },
            None if is_known => SessionExpires {
                seconds: self.wanted()?.max(min_se),
                refresher: Some(Refresher::Uac),
            },
            None => return None,
        };
        let agreed = Agreed {
            interval: expires.seconds,
            is_ours: expires.refresher == Some(Refresher::Uas),
            min_se,
            takes_update: takes_update(headers),
        };
        Some((expires, agreed))
    }

    /// What a 2xx to our request agrees on (RFC 4028 §7.2).
    pub(super) fn agreed(&self, response: &Response) -> Option<Agreed> {
        let headers = response.headers();
        let (interval, is_ours) = match headers.session_expires().ok().flatten() {
            Some(expires) => (expires.seconds, expires.refresher != Some(Refresher::Uas)),
            // "If the UAC still wishes to use the session timer (which is purely for its benefit alone), it has to perform them."
            None => (self.wanted()?, true),
        };
        Some(Agreed {
            interval,
            is_ours,
            min_se: MIN_SE,
            takes_update: takes_update(headers),
        })
    }

    /// Says whether a request asks for too short a session: "MAY reject the INVITE request with a 422" (RFC 4028 §9). Who does
    /// not know 422 is not refused with it.
    pub(super) fn is_too_short(&self, request: &Request) -> bool {
        let headers = request.headers();
        let asked = headers.session_expires().ok().flatten();
        knows_timers(headers) && asked.is_some_and(|asked| asked.seconds < self.min_se())
    }

    /// "This minimum interval MUST NOT be lower than 90 seconds" (RFC 4028 §9).
    pub(super) fn min_se(&self) -> u32 {
        seconds(self.min_session_expires).max(MIN_SE)
    }

    fn wanted(&self) -> Option<u32> {
        Some(seconds(self.session_expires?).max(self.min_se()))
    }
}

impl Calls {
    /// Adds what a re-INVITE, UPDATE or first INVITE of ours says of the timer (RFC 4028 §7.1, §7.4).
    pub(super) fn add_timer(
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
    pub(super) fn refreshed(&mut self, now: Instant, key: CallKey, agreed: Option<Agreed>) {
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
    pub(super) fn agreed_with(&self, key: CallKey) -> Option<(SessionExpires, Agreed)> {
        let mut servers = self.calls.get(&key)?.servers.iter();
        let server = servers.find(|server| server.is_pending())?;
        self.config.agrees(server.request.as_deref()?)
    }

    /// The time has come to refresh the session, or to end it.
    pub(super) fn timer_due(&mut self, now: Instant, key: CallKey) {
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
    pub(super) fn is_refreshing(&self, key: CallKey) -> bool {
        let timer = self.calls.get(&key).and_then(|call| call.timer.as_ref());
        timer.is_some_and(|timer| timer.is_refreshing)
    }

    /// Takes the refusal of a re-INVITE or UPDATE that was to refresh the session; says whether it was one.
    pub(super) fn refresh_refused(
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
    pub(super) fn learn_min_se(&mut self, key: CallKey, response: &Response) {
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

/// "It is RECOMMENDED that this refresh be sent once half the session interval has elapsed" (§7.2); who waits for it hangs up "the
/// minimum of 32 seconds and one third of the session interval" before its end (§10).
fn due(is_ours: bool, ends: Instant, lasts: Duration) -> Instant {
    let before = match is_ours {
        true => lasts / 2,
        false => (lasts / 3).min(Duration::from_secs(32)),
    };
    ends.checked_sub(before).unwrap_or(ends)
}

/// Says whether the sender knows session timers: they are in Supported even where they are required (RFC 4028 §7.1).
pub(super) fn knows_timers(headers: Headers<'_>) -> bool {
    let is_timer = |tag: &str| tag.eq_ignore_ascii_case(TIMER);
    headers.supports(TIMER) || headers.require().any(is_timer)
}

fn takes_update(headers: Headers<'_>) -> bool {
    headers.allow().any(|method| method == Method::Update)
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// RFC 4028 §4: "The absolute minimum for the Session-Expires header field is 90 seconds", which is also what Min-SE is by default.
const MIN_SE: u32 = 90;

/// Longer sessions are refreshed once a year.
pub(super) const LONGEST: u32 = 365 * 86_400;

/// How soon a refresh is tried again, at the soonest.
const RETRY: Duration = Duration::from_secs(5);
