//! One subscription: a usage of one dialog.

use std::time::{Duration, Instant};

use sipora_message::{SubscriptionPhase, SubscriptionStateRef};

use super::{RefreshFailure, SubscriptionState};
use crate::Dialog;
use crate::subscription::refresh_after;
use crate::subscription::timing::later;

/// The times and the phase of a subscription (RFC 6665 §4.1.2, figure 1).
///
/// ```text
///            SUBSCRIBE
///                |
///                v          NOTIFY pending
///          +-------------+ -----------------> +---------+
///          | notify_wait |                    | pending |----+
///          +-------------+                    +---------+    |
///            |        | NOTIFY active              | NOTIFY  | NOTIFY terminated,
///   refused, |        +-----------> +--------+ <---+ active  | refresh refused (404, 405, 410, 416,
///   timer N, |                      | active |               | 480-485, 489, 501, 604), timer N,
///   NOTIFY   |                      +--------+               | expired
///   termin.  |                           |                   |
///            +--------------> terminated <-------------------+
/// ```
#[derive(Debug)]
pub(super) struct Usage {
    /// None until the first NOTIFY (RFC 6665 §4.4.1).
    pub(super) dialog: Option<Dialog>,
    pub(super) phase: Phase,
    /// The request under way.
    pub(super) sending: Option<Sending>,
    pub(super) expires_at: Option<Instant>,
    pub(super) refresh_at: Option<Instant>,
    /// Timer N: a NOTIFY has to come until then.
    pub(super) notify_by: Option<Instant>,
    /// The alarm that is set.
    pub(super) scheduled: Option<Instant>,
    /// Refreshes that failed in a row.
    pub(super) failures: u32,
    /// What became of the last one that failed.
    pub(super) failure: Option<Box<RefreshFailure>>,
    /// Flows that ended one after the other, none of which served for long.
    pub(super) brief_flows: u32,
    pub(super) leaving: Leaving,
    /// Whether the first SUBSCRIBE has been accepted.
    pub(super) is_accepted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    NotifyWait,
    Pending,
    Active,
}

/// A SUBSCRIBE under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending {
    pub(super) asked: u32,
    pub(super) at: Instant,
    /// A NOTIFY has come since.
    pub(super) is_heard: bool,
    /// It told the expiry, and knows better than the answer.
    pub(super) is_timed: bool,
    /// A 423 has been obeyed.
    pub(super) is_second: bool,
    /// The application wants to know how it ends.
    pub(super) is_wanted: bool,
}

/// Whether the subscription is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// As soon as a SUBSCRIBE can be sent.
    Wanted,
    /// The SUBSCRIBE with an expiry of zero is out.
    Said,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self {
            dialog: None,
            phase: Phase::NotifyWait,
            sending: None,
            expires_at: None,
            refresh_at: None,
            notify_by: None,
            scheduled: None,
            failures: 0,
            failure: None,
            brief_flows: 0,
            leaving: Leaving::No,
            is_accepted: false,
        }
    }

    /// The next time at which something is due. While a SUBSCRIBE is out, its answer decides what comes next.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.sending.is_some() {
            return None;
        }
        [self.expires_at, self.refresh_at, self.notify_by]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes a 2xx: what it grants counts from when it was asked for, unless a NOTIFY has said so since.
    pub(super) fn granted(&mut self, sending: Sending, seconds: u32, jitter: u16) {
        self.is_accepted = true;
        self.failures = 0;
        self.failure = None;
        if seconds > 0 && !sending.is_timed {
            self.lasts(sending.at, seconds, jitter);
        }
    }

    /// Takes the Subscription-State of a NOTIFY that goes on: its `expires` is "the authoritative subscription duration"
    /// (RFC 6665 §4.1.3).
    pub(super) fn notified(
        &mut self,
        now: Instant,
        state: &SubscriptionStateRef<'_>,
        asked: u32,
        jitter: u16,
    ) {
        self.phase = match state.phase() {
            SubscriptionPhase::Active => Phase::Active,
            _ => Phase::Pending,
        };
        // Where the end was asked for, only the end stops timer N: another NOTIFY may have crossed the SUBSCRIBE.
        if asked > 0 && self.leaving != Leaving::Said {
            self.notify_by = None;
        }
        if let Some(sending) = &mut self.sending {
            sending.is_heard = true;
            sending.is_timed |= state.expires().is_some();
        }
        match state.expires() {
            Some(seconds) => self.lasts(now, seconds, jitter),
            // Before the 2xx, what was asked for is the best that is known.
            None if self.expires_at.is_none() && asked > 0 => self.lasts(now, asked, jitter),
            None => {}
        }
    }

    fn lasts(&mut self, from: Instant, seconds: u32, jitter: u16) {
        self.expires_at = Some(later(from, Duration::from_secs(seconds.into())));
        self.refresh_at = match self.leaving {
            Leaving::No => Some(later(from, refresh_after(seconds, jitter))),
            _ => None,
        };
    }

    pub(super) fn state(&self, now: Instant) -> SubscriptionState {
        let expires_in = self
            .expires_at
            .map(|at| at.saturating_duration_since(now))
            .unwrap_or_default();
        match self.phase {
            Phase::NotifyWait => SubscriptionState::Waiting,
            Phase::Pending => SubscriptionState::Pending { expires_in },
            Phase::Active => SubscriptionState::Active { expires_in },
        }
    }
}

impl Sending {
    pub(super) fn new(asked: u32, at: Instant) -> Self {
        Self {
            asked,
            at,
            is_heard: false,
            is_timed: false,
            is_second: false,
            is_wanted: false,
        }
    }
}
