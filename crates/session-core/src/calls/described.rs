//! What we have said of the session: the ground for holding and resuming it.

use std::borrow::Cow;

use sipora_dialog_core::CallEvent as Event;

use super::direction::{is_same_origin, version, with_version};

/// The descriptions of ours in one call.
#[derive(Debug, Default)]
pub(super) struct Described {
    /// What the session is by.
    current: Option<Box<str>>,
    /// What was offered, and has no answer yet.
    offered: Option<Offered>,
    /// The present one is the answer to the offer of the peer's first INVITE, and was sent before that was accepted.
    is_early: bool,
    /// The highest version that was ever said: the peer may have seen it, even where it refused.
    version: u64,
}

/// An offer of ours.
#[derive(Debug, Clone)]
pub(super) struct Offered {
    pub(super) sdp: Box<str>,
    /// How it was made of what the session is by; none where the application has made it.
    change: Option<Change>,
}

/// Changes a description: holds the peer, or takes that back.
pub(super) type Change = fn(&str) -> String;

impl Described {
    pub(super) fn new(sdp: Option<&str>) -> Self {
        let mut described = Self::default();
        if let Some(sdp) = sdp {
            described.says(sdp);
        }
        described
    }

    /// Goes on from what another process has said.
    pub(super) fn restored(current: Option<Box<str>>, version: u64) -> Self {
        Self {
            current,
            version,
            ..Self::default()
        }
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

    /// The highest version that was ever said.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Takes an offer that is about to be made, and gives what was before: an offer that is under way already, and the version.
    pub(super) fn offers(&mut self, sdp: &str, change: Option<Change>) -> (Option<Offered>, u64) {
        let before = (self.offered.take(), self.version);
        let sdp = sdp.into();
        self.offers_as(Offered { sdp, change });
        before
    }

    /// The offer was not made: its version is free (RFC 3264 §8: "MUST increment by one").
    pub(super) fn not_offered(&mut self, before: (Option<Offered>, u64)) {
        (self.offered, self.version) = before;
    }

    pub(super) fn offers_as(&mut self, offered: Offered) {
        self.see(&offered.sdp);
        self.offered = Some(offered);
    }

    pub(super) fn offered(&self) -> Option<Offered> {
        self.offered.clone()
    }

    /// Takes what came of an offer.
    pub(super) fn sees(&mut self, event: &Event) {
        match event {
            Event::ReinviteAccepted(_) => {
                if let Some(offered) = self.offered.take() {
                    self.current = Some(offered.sdp);
                }
            }
            Event::ReinviteRefused(_) | Event::ReinviteUndone(_) => self.offered = None,
            _ => {}
        }
    }

    /// The present description, changed, under a version of its own.
    pub(super) fn changed(&self, change: Change) -> Option<String> {
        let changed = change(self.current.as_deref()?);
        Some(newer(&changed, self.version).into_owned())
    }

    /// A description of the application's, under a version of its own where it differs from what was said: "If the version in the
    /// origin line does not increment, the SDP MUST be identical to the SDP with that version number" (RFC 3264 §8).
    pub(super) fn next<'a>(&self, sdp: &'a str) -> Cow<'a, str> {
        let is_known = |known: &str| known == sdp || !is_same_origin(known, sdp);
        match self.current.as_deref() {
            // What follows an early answer repeats it.
            Some(current) if !self.is_early && !is_known(current) => newer(sdp, self.version),
            _ => Cow::Borrowed(sdp),
        }
    }

    /// The offer that has no answer yet, made anew for a session that is by `said` from now on.
    pub(super) fn offered_after(&self, said: &str) -> Option<Offered> {
        let offered = self.offered.as_ref()?;
        let again = match offered.change {
            Some(change) => Cow::Owned(change(said)),
            None => Cow::Borrowed(&*offered.sdp),
        };
        let highest = self.version.max(version(said).unwrap_or_default());
        Some(Offered {
            sdp: newer(&again, highest).into(),
            change: offered.change,
        })
    }

    fn see(&mut self, sdp: &str) {
        self.version = self.version.max(version(sdp).unwrap_or_default());
    }
}

/// The description under a version above this one.
fn newer(sdp: &str, than: u64) -> Cow<'_, str> {
    match version(sdp) {
        Some(version) if version <= than => Cow::Owned(with_version(sdp, than.saturating_add(1))),
        _ => Cow::Borrowed(sdp),
    }
}
