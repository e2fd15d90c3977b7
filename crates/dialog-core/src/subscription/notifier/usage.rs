//! One subscription to what we tell: a usage of one dialog.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sipora_message::Uri;
use sipora_transport::Flow;

use super::NotifierEnd;
use crate::Dialog;
use crate::subscription::timing::later;

pub(super) struct Usage {
    pub(super) dialog: Dialog,
    /// As it was written, which NOTIFYs repeat.
    pub(super) event: String,
    pub(super) event_id: Option<String>,
    pub(super) resource: Uri,
    pub(super) source: IpAddr,
    pub(super) flow: Option<Flow>,
    /// The least time between two NOTIFYs.
    pub(super) interval: Duration,
    pub(super) contact: String,
    pub(super) is_pending: bool,
    pub(super) expires_at: Instant,
    /// What the last NOTIFY, which is owed, will say.
    pub(super) ending: Option<Ending>,
    pub(super) is_sending: bool,
    pub(super) is_due: bool,
    /// Whether the NOTIFY that is due waits for nothing but the answer to the one before.
    pub(super) is_prompt: bool,
    pub(super) is_queued: bool,
    /// A NOTIFY that can wait is not sent before: the one before was sent just now, or was refused for the moment.
    pub(super) not_before: Option<Instant>,
    pub(super) scheduled: Option<Instant>,
}

/// Why a subscription is to end.
pub(super) struct Ending {
    pub(super) reason: String,
    pub(super) retry_after: Option<u32>,
    pub(super) end: NotifierEnd,
}

impl Ending {
    /// `timeout`: not refreshed, or ended by the subscriber.
    pub(super) fn timeout(end: NotifierEnd) -> Self {
        Self {
            reason: "timeout".to_owned(),
            retry_after: None,
            end,
        }
    }
}

impl Usage {
    pub(super) fn package(&self) -> &str {
        let name = self.event.split(';').next();
        name.unwrap_or_default().trim()
    }

    /// When the NOTIFY that is due may leave, where that is later than now; its answer is waited for first.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        let waits = self.is_due && !self.is_sending && !self.is_prompt;
        self.not_before.filter(|at| waits && *at > now)
    }

    /// Owes the same once more, after a time.
    pub(super) fn try_again(&mut self, now: Instant, wait: Duration) {
        self.is_due = true;
        self.not_before = self.not_before.max(Some(later(now, wait)));
    }
}

/// Whether a NOTIFY waits for its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// Something changed: the package's interval counts.
    Change,
    /// A SUBSCRIBE wants it, or it is the last.
    Prompt,
}
