//! What we have said of the session: the ground for holding and resuming it.

use super::direction::{version, with_version};

/// The descriptions of ours in one call.
#[derive(Debug, Default)]
pub(super) struct Described {
    /// What the session is by.
    current: Option<Box<str>>,
    /// What was offered, and has no answer yet.
    offered: Option<Box<str>>,
    /// The present one is the answer to the offer of the peer's first INVITE, and was sent before that was accepted.
    is_early: bool,
    /// The highest version that was ever said: the peer may have seen it, even where it refused.
    version: u64,
}

impl Described {
    pub(super) fn new(sdp: Option<&str>) -> Self {
        let mut described = Self::default();
        if let Some(sdp) = sdp {
            described.says(sdp);
        }
        described
    }

    pub(super) fn says(&mut self, sdp: &str) {
        self.see(sdp);
        self.current = Some(sdp.into());
    }

    /// The peer takes the first description of several as the answer (RFC 3261 §13.2.1).
    pub(super) fn says_early(&mut self, sdp: &str) {
        if self.current.is_none() {
            self.says(sdp);
            self.is_early = true;
        }
    }

    /// The answer to an INVITE, which repeats what was said early.
    pub(super) fn accepts(&mut self, sdp: &str) {
        match std::mem::take(&mut self.is_early) {
            true => self.see(sdp),
            false => self.says(sdp),
        }
    }

    pub(super) fn current(&self) -> Option<Box<str>> {
        self.current.clone()
    }

    pub(super) fn offers(&mut self, sdp: &str) {
        self.see(sdp);
        self.offered = Some(sdp.into());
    }

    pub(super) fn accepted(&mut self) {
        if let Some(sdp) = self.offered.take() {
            self.current = Some(sdp);
        }
    }

    pub(super) fn refused(&mut self) {
        self.offered = None;
    }

    /// The present description, changed, under a version of its own.
    pub(super) fn changed(&self, change: fn(&str) -> String) -> Option<String> {
        let changed = change(self.current.as_deref()?);
        match version(&changed) {
            Some(version) if version <= self.version => {
                Some(with_version(&changed, self.version.saturating_add(1)))
            }
            _ => Some(changed),
        }
    }

    fn see(&mut self, sdp: &str) {
        self.version = self.version.max(version(sdp).unwrap_or_default());
    }
}
