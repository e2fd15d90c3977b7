//! What was said of the session last, by both sides: offers that change nothing are told again what their sender knows.

use std::hash::{DefaultHasher, Hash, Hasher};

use sipora_message::{HeaderName, Headers, Request};

use super::core::{CallKey, Calls};
use super::offer::has_description;
use crate::Body;

/// A session description of ours, to be said again. Each call holds one for as long as it is up, and nothing beside its octets.
#[derive(Debug, Clone)]
pub(super) enum Said {
    Sdp(Box<[u8]>),
    /// Of another type.
    Other(Box<Body>),
}

impl Said {
    /// What a request of ours carries.
    pub(super) fn in_request(request: &Request) -> Option<Self> {
        let headers = request.headers();
        if !has_description(headers, request.body()) {
            return None;
        }
        let kind = headers.text(&HeaderName::ContentType)?;
        // A copy, lest the whole request be kept.
        Some(Self::from(Body::new(&kind, request.body().to_vec())))
    }

    pub(super) fn body(&self) -> Body {
        match self {
            Self::Sdp(text) => Body::new(SDP, text.to_vec()),
            Self::Other(body) => (**body).clone(),
        }
    }
}

impl From<Body> for Said {
    fn from(body: Body) -> Self {
        match body.content_type == SDP {
            true => Self::Sdp(Vec::from(body.bytes).into()),
            false => Self::Other(Box::new(body)),
        }
    }
}

impl Calls {
    /// What we have said last, where an offer of the peer's, which is open, is what it said last itself: an unchanged version of its
    /// origin means that all of it is (RFC 3264 §8), and its answer is unchanged too. So the peer refreshes the session (RFC 4028
    /// §7.4), or looks whether we are there.
    pub(super) fn unchanged(&mut self, key: CallKey) -> Option<Body> {
        if !self.config.answers_refreshes {
            return None;
        }
        let session = self.calls.get_mut(&key)?.confirmed()?;
        let said = session.said.as_ref()?;
        session.offer.is_known().then(|| said.body())
    }
}

/// Names the session description in a message; 0 where there is none. Of a peer's descriptions two in four thousand million are alike.
pub(super) fn fingerprint(headers: Headers<'_>, body: &[u8]) -> u32 {
    if !has_description(headers, body) {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let half = hasher.finish() >> 32;
    u32::try_from(half).unwrap_or_default().max(1)
}

const SDP: &str = "application/sdp";
