//! Offers that change nothing: the peer refreshes the session (RFC 4028 §7.4), and is told again what it knows.

use std::hash::{DefaultHasher, Hash, Hasher};

use sipora_message::{Headers, Request};

use super::core::{CallKey, Calls};
use super::offer::has_description;
use crate::Body;

impl Calls {
    /// What we have said last, where an offer of the peer's is what it said last itself: an unchanged version of its origin means
    /// that all of it is (RFC 3264 §8), and its answer is unchanged too. None in a session without a timer, which nobody has to
    /// refresh: what was said of it is not kept.
    pub(super) fn unchanged(&mut self, key: CallKey, offer: &Request) -> Option<Body> {
        let heard = fingerprint(offer.headers(), offer.body())?;
        let call = self.calls.get_mut(&key)?;
        let said = call.timer.as_ref()?.description()?.clone();
        let is_known = call.confirmed()?.offer.heard == heard;
        (self.config.answers_refreshes && is_known).then_some(said)
    }
}

/// Names the session description in a message. Never 0.
pub(super) fn fingerprint(headers: Headers<'_>, body: &[u8]) -> Option<u64> {
    if !has_description(headers, body) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    Some(hasher.finish().max(1))
}
