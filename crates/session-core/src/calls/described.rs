//! What we have said of the session: the ground for holding and resuming it.

use super::direction::{version, with_version};

/// The descriptions of ours in one call.
#[derive(Debug, Default)]
pub(super) struct Described {
    /// What the session is by.
    current: Option<Box<str>>,
    /// What was offered, and has no answer yet.
    offered: Option<Box<str>>,
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
