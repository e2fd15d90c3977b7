//! How calls end.

use sipora_dialog_core::{CallEnd as End, CallKey};
use sipora_message::Request;

use crate::{Error, SipResponse};

/// Says how a call ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallEnd {
    /// Our INVITE came to nothing: [`Error::Rejected`] with what the peer said, a redirection too where it is not followed;
    /// [`Error::AuthenticationFailed`], [`Error::Timeout`], [`Error::Transport`].
    Failed(Error),
    /// We cancelled our INVITE before it was accepted; or it was accepted too late, and ended with BYE.
    Cancelled,
    /// The peer cancelled its INVITE before we accepted it. The CANCEL may say why, in Reason (RFC 3326):
    /// [`was_answered_elsewhere`](Self::was_answered_elsewhere).
    PeerCancelled(Request),
    /// We refused the peer's INVITE, or sent the peer elsewhere.
    Rejected,
    /// The peer's INVITE rang for too long: for 15 minutes, or past its Expires.
    NotAnswered,
    /// We sent BYE.
    HungUp,
    /// The peer sent BYE, which may say why in Reason (RFC 3326): [`headers`](Request::headers) and their `reasons` read it.
    PeerHungUp(Request),
    /// What we accepted was never acknowledged; we sent BYE (RFC 3261 §13.3.1.4).
    NotAcknowledged,
    /// The peer owed an offer, or the answer to one, and sent none: there can be no session. The call was ended, or refused.
    NotDescribed,
    /// The peer does not know the call any more, or is silent: it has not answered a request within the call, and not the BYE after
    /// that. Each is waited for for 64 × T1 (32 s), so that this comes 64 s after a [`change`](crate::CallHandle::change) that nobody
    /// answers. What does not get to the peer, since nobody listens at its address any more, say, ends no call (RFC 3261 §8.1.3.1).
    Lost,
    /// The session was not refreshed in time (RFC 4028 §10); we sent BYE.
    Expired,
    /// Another call, which we accepted, has taken its place: [`CallHandle::replaces`](crate::CallHandle::replaces). It was hung up.
    Replaced(CallKey),
    /// We let go of it, and another process goes on with it: [`CallHandle::detach`](crate::CallHandle::detach).
    Detached,
    /// The coordinator was shut down.
    Closed,
}

impl CallEnd {
    /// Says whether the peer has given up its call since somebody else has accepted it: nobody has missed it (RFC 3326 §3.1).
    pub fn was_answered_elsewhere(&self) -> bool {
        match self {
            Self::PeerCancelled(it) => End::PeerCancelled(it.clone()).was_answered_elsewhere(),
            Self::PeerHungUp(it) => End::PeerHungUp(it.clone()).was_answered_elsewhere(),
            _ => false,
        }
    }

    pub(super) fn of(end: End, has_credentials: bool) -> Self {
        match end {
            End::Refused(response) => {
                Self::Failed(refusal(SipResponse::from(response), has_credentials))
            }
            End::Failed(error) => Self::Failed(error.into()),
            End::Cancelled => Self::Cancelled,
            End::PeerCancelled(cancel) => Self::PeerCancelled(cancel),
            End::Rejected => Self::Rejected,
            End::NotAnswered => Self::NotAnswered,
            End::HungUp => Self::HungUp,
            End::PeerHungUp(bye) => Self::PeerHungUp(bye),
            End::NotAcknowledged => Self::NotAcknowledged,
            End::NotDescribed => Self::NotDescribed,
            End::Replaced(by) => Self::Replaced(by),
            End::Lost => Self::Lost,
            End::Expired => Self::Expired,
            End::Detached => Self::Detached,
            _ => Self::Closed,
        }
    }
}

fn refusal(response: SipResponse, has_credentials: bool) -> Error {
    let is_challenge = matches!(response.status().as_u16(), 401 | 407);
    if !is_challenge || !has_credentials {
        return Error::Rejected(response);
    }
    let reason = "the peer keeps asking for credentials".to_owned();
    Error::AuthenticationFailed { reason, response }
}
