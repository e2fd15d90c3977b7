//! An INVITE of ours, from its sending until no 2xx can come any more.

use std::sync::Arc;

use sipora_message::{HeaderName, Request, Response, Uri};
use sipora_transaction_core::Target;

use super::CallKey;
use super::said::Said;
use super::session::to_tag;
use crate::{Authorizer, Body, Dialog, DialogError};

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
    /// Early dialogs that were ended with BYE, by either side, by the peer's tags: nothing brings them back.
    pub(super) ended: Vec<Box<str>>,
    /// The number of the last request in early dialogs that have ended without BYE, by the peer's tags, where others have followed the
    /// INVITE.
    pub(super) numbers: Vec<(Box<str>, u32)>,
    /// The dialog of a re-INVITE as it was, whose 2xx may come when the call is over.
    pub(super) dialog: Option<Box<Dialog>>,
    /// Where the reliable provisional answers of each dialog stand.
    pub(super) progress: Vec<Progress>,
}

/// The reliable provisional answers of one dialog (RFC 3262 §4).
pub(super) struct Progress {
    pub(super) tag: Box<str>,
    /// The number of the last in order.
    pub(super) rseq: u32,
    /// One of them carried a session description.
    pub(super) has_described: bool,
    /// The last carries an offer, and its PRACK waits for the answer of the application.
    pub(super) awaits_answer: bool,
}

/// One user agent that accepted.
pub(super) struct Accepted {
    pub(super) tag: Box<str>,
    /// What is sent for each copy of its 2xx; none until its offer has its answer.
    pub(super) ack: Option<Acknowledgment>,
}

/// An ACK to a 2xx, as it was sent.
#[derive(Clone)]
pub(super) struct Acknowledgment {
    pub(super) request: Request,
    pub(super) target: Target,
    /// Where it goes when the target's flow is gone.
    pub(super) next_hop: Uri,
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

    /// What it offers, while it is known.
    pub(super) fn offered(&self) -> Option<Said> {
        match &self.body {
            _ if !self.has_offer => None,
            Some(body) => Some(Said::from(body.clone())),
            None => Said::in_request(self.request.as_ref()?),
        }
    }

    /// Whose answer this is, by the peer's tag. One that has none, though the request has, names no other dialog than the request.
    pub(super) fn tag_of(&self, response: &Response) -> Box<str> {
        let within = self.within.clone();
        let named = to_tag(response.headers());
        match within {
            // A peer of RFC 2543 has none.
            Some(within) if within.is_empty() => within,
            Some(within) => named.unwrap_or(within),
            None => named.unwrap_or_default(),
        }
    }

    /// Notes where the numbers of early dialogs stand that end.
    pub(super) fn leaves(&mut self, numbers: Vec<(Box<str>, u32)>) {
        let follows = |(_, number): &(Box<str>, u32)| *number > self.cseq;
        let numbers: Vec<_> = numbers.into_iter().filter(follows).collect();
        self.numbers.extend(numbers);
    }

    /// The dialog of who has accepted the INVITE, which may go on from an early one.
    pub(super) fn dialog_of(&self, tag: &str, response: &Response) -> Result<Dialog, DialogError> {
        let mut dialog = Dialog::of_invite(self.cseq, response, &self.uri)?;
        if let Some((_, number)) = self.numbers.iter().find(|(of, _)| **of == *tag) {
            dialog.sent(*number);
        }
        Ok(dialog)
    }

    /// An early dialog was ended with BYE.
    pub(super) fn has_ended(&self, tag: &str) -> bool {
        self.ended.iter().any(|ended| &**ended == tag)
    }

    /// Says whether a reliable provisional answer is the next in its dialog. "If the UAC receives another reliable provisional
    /// response to the same request, and its RSeq value is not one higher than the value of the sequence number, that response
    /// MUST NOT be acknowledged with a PRACK, and MUST NOT be processed further" (RFC 3262 §4).
    pub(super) fn is_in_order(&self, tag: &str, rseq: u32) -> bool {
        let known = self.progress.iter().find(|known| &*known.tag == tag);
        known.is_none_or(|known| known.rseq.checked_add(1) == Some(rseq))
    }

    /// Takes the next; says whether it is the first of its dialog that carries a description. "MUST treat the first session
    /// description it receives as the answer, and MUST ignore" others (RFC 3261 §13.2.1).
    pub(super) fn progress(&mut self, tag: &str, rseq: u32, describes: bool) -> bool {
        if let Some(known) = self.progress.iter_mut().find(|known| &*known.tag == tag) {
            let is_first = describes && !known.has_described;
            known.rseq = rseq;
            known.has_described |= describes;
            known.awaits_answer = is_first && !self.has_offer;
            return is_first;
        }
        self.progress.push(Progress {
            tag: tag.into(),
            rseq,
            has_described: describes,
            awaits_answer: describes && !self.has_offer,
        });
        describes
    }

    /// Says whether an offer in a reliable provisional answer of the dialog has had no answer.
    pub(super) fn awaits_answer(&self, tag: &str) -> bool {
        let mut progress = self.progress.iter();
        progress.any(|known| &*known.tag == tag && known.awaits_answer)
    }

    /// Says whether a reliable provisional answer of the dialog carried a session description.
    pub(super) fn has_described(&self, tag: &str) -> bool {
        let mut progress = self.progress.iter();
        progress.any(|known| &*known.tag == tag && known.has_described)
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
