//! [`CallState`]: a call that is up, as another process can go on with it.

use std::time::{Duration, Instant};

use sipora_message::Uri;

use super::packages::Packages;
use super::timer::{LONGEST, Left};
use crate::{Body, Dialog, DialogId};

/// Holds a call that is up, by itself: for another process, or another endpoint, to go on with.
///
/// [`Call::detach`](crate::Call::detach) gives it, and lets go of the call without a BYE;
/// [`UnifiedDialogApi::detach_calls`](crate::UnifiedDialogApi::detach_calls) does so with all of them.
/// [`UnifiedDialogApi::restore_call`](crate::UnifiedDialogApi::restore_call) makes the call of it again. With the feature `serde` it
/// can be written and read in between, in any format: what one version of this crate writes, later ones read. What is read was
/// checked: a value that no call can have is an error of the format's.
///
/// # What it holds
///
/// Ids, addresses, sequence numbers, route set and remote target of the dialog (RFC 3261 §12); our Contact; who began the call;
/// whether the peer takes UPDATE, and which packages of INFO; how long the session timer has to run, who refreshes, and what we
/// said of the session last, to refresh it with (RFC 4028). So the call can be changed, refreshed, referred, replaced (RFC 3891) and
/// ended by either side, as before.
///
/// # What it does not hold
///
/// - Credentials: they are given anew to who restores it.
/// - Times of day: the session timer is what is left of it. Who knows how long the call lay still says so to
///   [`after`](Self::after).
/// - Media, and what the peer has said of them: bodies are the application's, which keeps what it needs by the
///   [`dialog`](Self::dialog)'s name.
/// - Connections: requests go where the dialog leads. A peer that came by a connection of its own, and can be reached by no other
///   way, is reached again over the one by which its next request comes.
/// - What is under way: a call has a state only while nothing is, and it is not read but written at such a time. Subscriptions have
///   none at all.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(into = "super::saved::SavedCall", try_from = "super::saved::SavedCall")
)]
pub struct CallState {
    pub(super) dialog: Dialog,
    pub(super) is_caller: bool,
    /// Our Contact, as it is printed.
    pub(super) contact: Box<str>,
    pub(super) allows_update: bool,
    pub(super) packages: Option<Packages>,
    /// There was a REFER of the peer's.
    pub(super) was_referred: bool,
    /// An offer has been answered once.
    pub(super) has_session: bool,
    /// The peer came by a connection, with nobody between.
    pub(super) is_direct: bool,
    /// RSeq and CSeq of a reliable provisional answer of ours, whose PRACK may still come.
    pub(super) late_prack: Option<(u32, u32)>,
    pub(super) timer: Option<TimerState>,
    /// The ACKs to 2xx of which copies may still come.
    pub(super) acks: Vec<AckState>,
}

/// What is left of a session timer.
#[derive(Debug, Clone)]
pub(super) struct TimerState {
    pub(super) left: Left,
    /// What we have said of the session last.
    pub(super) description: Option<Body>,
}

/// An ACK, without the credentials of its INVITE.
#[derive(Debug, Clone)]
pub(super) struct AckState {
    pub(super) cseq: u32,
    pub(super) body: Option<Body>,
}

impl CallState {
    /// Names its dialog.
    pub fn dialog(&self) -> &DialogId {
        self.dialog.id()
    }

    /// Says whether we began the call.
    pub fn is_caller(&self) -> bool {
        self.is_caller
    }

    /// Who we are in the call, without display name, as text.
    pub fn local_uri(&self) -> &str {
        self.dialog.local_uri()
    }

    /// Who the peer is, without display name, as text.
    pub fn remote_uri(&self) -> &str {
        self.dialog.remote_uri()
    }

    /// Where the peer is reached in the call.
    pub fn remote_target(&self) -> &Uri {
        self.dialog.remote_target()
    }

    /// How long it is until the session is refreshed by us, or ended since the peer has not; none without a session timer.
    pub fn timer_due(&self) -> Option<Duration> {
        self.timer.as_ref().map(|timer| timer.left.due)
    }

    /// Says that so much time has passed since the call was let go of, of which the session timer knows nothing. Where that is more
    /// than was left, the session is refreshed, or ended, as soon as the call is restored.
    #[must_use]
    pub fn after(mut self, passed: Duration) -> Self {
        if let Some(timer) = &mut self.timer {
            timer.left.due = timer.left.due.saturating_sub(passed);
            timer.left.ends = timer.left.ends.saturating_sub(passed);
        }
        self
    }

    /// Says that we are to be reached elsewhere from now on. The peer hears of it with the next re-INVITE or UPDATE, of either
    /// side's, and what it sends until then goes where we were before.
    #[must_use]
    pub fn with_contact(mut self, contact: &Uri) -> Self {
        self.contact = format!("<{contact}>").into();
        self
    }
}

/// A time that is to come, from what is left until then. It is bounded, so that the sum is a time.
pub(super) fn at(now: Instant, left: Duration) -> Instant {
    now + left.min(Duration::from_secs(LONGEST.into()))
}
