//! An INVITE of ours, from its sending until no 2xx can come any more.

use std::sync::Arc;

use sipora_message::{HeaderName, Request, Uri};
use sipora_transaction_core::Target;

use super::CallKey;
use crate::{Authorizer, Body};

/// What became of an INVITE of ours (RFC 3261 §13.2, §9.1).
///
/// ```text
///               1xx                 2xx              no more 2xx (RFC 6026 §8.4)
///   Calling ─────────▶ Proceeding ───────▶ Accepted ─────────────────────────────▶ (gone)
///      │  2xx ─────────────│──────────────▶  ▲ ACK for each
///      │ cancel            │ cancel          │
///      ▼                   ▼                 │ 2xx: ACK, then BYE
///   Cancelling ◀───────────┘─────────────────┘
///
///   Calling, Proceeding, Cancelling ── 3xx-6xx, or no answer ──▶ (gone)
/// ```
///
/// That a CANCEL waits for the first provisional answer is the transaction layer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientState {
    Calling,
    Proceeding,
    Cancelling,
    Accepted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientInput {
    Provisional,
    Accepted,
    Cancel,
}

impl ClientState {
    /// Gives the state that follows; none where nothing changes.
    pub(super) fn on(self, input: ClientInput) -> Option<Self> {
        match (self, input) {
            (Self::Calling, ClientInput::Provisional) => Some(Self::Proceeding),
            (Self::Calling | Self::Proceeding, ClientInput::Cancel) => Some(Self::Cancelling),
            (Self::Calling | Self::Proceeding | Self::Cancelling, ClientInput::Accepted) => {
                Some(Self::Accepted)
            }
            _ => None,
        }
    }
}

/// An INVITE of ours.
pub(super) struct InviteClient {
    /// The call, which may be over before the INVITE is.
    pub(super) call: CallKey,
    /// The peer's tag in a re-INVITE; none in the INVITE that begins a call.
    pub(super) within: Option<Box<str>>,
    pub(super) state: ClientState,
    pub(super) cseq: u32,
    /// Where it went, which is the target of a dialog whose answer names none.
    pub(super) uri: Uri,
    /// As last sent; forgotten with its final answer.
    pub(super) request: Option<Box<Request>>,
    pub(super) body: Option<Body>,
    pub(super) target: Option<Target>,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    pub(super) retries: u8,
    /// A re-INVITE of ours that met the peer's was sent so often again.
    pub(super) glares: u8,
    /// The credentials that each ACK repeats (RFC 3261 §13.2.2.4, §22.1).
    pub(super) credentials: Vec<(HeaderName, String)>,
    pub(super) has_offer: bool,
    /// It refreshes the session, and the application does not hear of it.
    pub(super) is_refresh: bool,
    /// It was sent again with a longer Session-Expires so often.
    pub(super) lengthened: u8,
    pub(super) accepted: Vec<Accepted>,
}

/// One user agent that accepted.
pub(super) struct Accepted {
    pub(super) tag: Box<str>,
    /// What is sent for each copy of its 2xx; none until its offer has its answer.
    pub(super) ack: Option<(Request, Target)>,
}

impl InviteClient {
    /// Takes what happened; says whether anything has changed.
    pub(super) fn on(&mut self, input: ClientInput) -> bool {
        let Some(next) = self.state.on(input) else {
            return false;
        };
        self.state = next;
        true
    }
}

/// The credentials of a request.
pub(super) fn credentials(request: &Request) -> Vec<(HeaderName, String)> {
    let mut found = Vec::new();
    for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
        for value in request.headers().all(&name) {
            found.push((name.clone(), crate::dialog::unfolded(value)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::ClientInput::*;
    use super::ClientState as S;

    #[test]
    fn an_invite_is_answered_then_accepted() {
        assert_eq!(S::Calling.on(Provisional), Some(S::Proceeding));
        assert_eq!(
            S::Proceeding.on(super::ClientInput::Accepted),
            Some(S::Accepted)
        );
        assert_eq!(
            S::Calling.on(super::ClientInput::Accepted),
            Some(S::Accepted)
        );
    }

    #[test]
    fn a_cancelled_invite_can_still_be_accepted_and_nothing_else() {
        assert_eq!(S::Calling.on(Cancel), Some(S::Cancelling));
        assert_eq!(S::Cancelling.on(Provisional), None);
        assert_eq!(S::Cancelling.on(Cancel), None);
        assert_eq!(
            S::Cancelling.on(super::ClientInput::Accepted),
            Some(S::Accepted)
        );
        assert_eq!(S::Accepted.on(Cancel), None);
    }
}
