//! [`CallState`]: a call that is up, for another process to go on with.

use std::time::Duration;

use sipora_dialog_core::CallState as State;

use crate::{Result, uri};

/// Holds a call that is up, by itself: for another process, or another coordinator, to go on with.
///
/// [`CallHandle::detach`](crate::CallHandle::detach) gives it, and lets go of the call without a BYE;
/// [`SessionCoordinator::restore_call`](crate::SessionCoordinator::restore_call) makes a handle of it again. With the feature `serde`
/// it can be written and read in between, in any format: what one version of this crate writes, later ones read. What is read was
/// checked: a value that no call can have is an error of the format's.
///
/// It has the dialog, with ids, numbers and routes; our Contact; what the peer understands; what is left of the session timer; and
/// what both sides have said of the session. So the call is held, changed, refreshed, transferred and ended by either side, as before.
///
/// It has no credentials, which are given to who restores it, but what session descriptions carry: keys of SRTP, where the application
/// puts them there. It has no connections: a peer that can be reached by no way but the one it came by is reached again with its next
/// request. Media are the application's, which keeps what it needs beside it.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(into = "super::saved::SavedCall", try_from = "super::saved::SavedCall")
)]
pub struct CallState {
    pub(super) call: State,
    pub(super) said: Said,
}

/// What was said of the session.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) ours: Option<Box<str>>,
    /// The highest version that we ever gave it.
    pub(super) version: u64,
    pub(super) theirs: Option<Box<str>>,
}

impl CallState {
    /// Says whether the peer has called.
    pub fn is_incoming(&self) -> bool {
        !self.call.is_caller()
    }

    /// Who we are in the call: the URI of our From or To.
    pub fn local_uri(&self) -> &str {
        self.call.local_uri()
    }

    /// Who the peer is: the URI of its From or To.
    pub fn remote_uri(&self) -> &str {
        self.call.remote_uri()
    }

    /// What we have said of the session.
    pub fn local_sdp(&self) -> Option<&str> {
        self.said.ours.as_deref()
    }

    /// What the peer has said of it, as [`CallHandle::remote_sdp`](crate::CallHandle::remote_sdp) does.
    pub fn remote_sdp(&self) -> Option<&str> {
        self.said.theirs.as_deref()
    }

    /// Says that so much time has passed since the call was let go of, of which its session timer (RFC 4028) knows nothing. Where
    /// that is more than was left, the session is refreshed, or ended, as soon as the call is restored.
    #[must_use]
    pub fn after(self, passed: Duration) -> Self {
        Self {
            call: self.call.after(passed),
            ..self
        }
    }

    /// Says that we are to be reached elsewhere from now on. The peer hears of it with the next [`change`](crate::CallHandle::change)
    /// of either side's, and what it sends until then goes where we were before.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUri`](crate::Error::InvalidUri).
    pub fn with_contact(self, contact_uri: &str) -> Result<Self> {
        let contact = uri::contact("contact_uri", contact_uri)?;
        Ok(Self {
            call: self.call.with_contact(&contact),
            ..self
        })
    }
}
