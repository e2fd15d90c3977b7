//! Session timers: how calls whose peer has vanished end (RFC 4028).

use std::time::{Duration, Instant};

use sipora_message::{Headers, Method, Refresher, Request, Response, SessionExpires};

use super::CallConfig;
use super::state::at;

mod refreshing;

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
    pub(super) fn left(&self, now: Instant, learned: u32) -> Left {
        Left {
            interval: self.interval,
            is_ours: self.is_ours,
            due: self.at.saturating_duration_since(now),
            ends: self.ends.saturating_duration_since(now),
            min_se: self.min_se.max(learned),
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
