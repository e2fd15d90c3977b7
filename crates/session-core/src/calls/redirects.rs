//! Where a call goes that is redirected (RFC 3261 §8.1.3.4).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use sipora_message::{Method, Q, Response, Scheme, StatusCode, Uri};

use super::heard::Heard;
use super::owed::Owed;
use super::{CallEnd, CallEvent, CallHandle};
use crate::Error;

/// The places that a call may still go to.
pub(super) struct Redirects {
    /// Places that may be called beside the first.
    left: usize,
    is_secure: bool,
    waiting: VecDeque<Uri>,
    /// "the client MUST NOT add any given URI to the target set more than once".
    known: Vec<Uri>,
    /// How the last place refused; none while one is being called.
    refused: Option<Error>,
}

impl Redirects {
    pub(super) fn new(places: usize, first: &Uri) -> Self {
        Self {
            left: places.min(MAX_PLACES),
            is_secure: first.scheme() == Scheme::Sips,
            waiting: VecDeque::new(),
            known: vec![first.clone()],
            refused: None,
        }
    }

    /// Takes how a place refused; gives it back where there is nowhere left to go.
    pub(super) fn refused(&mut self, error: Error) -> Option<Error> {
        if let Error::Rejected(response) = &error {
            let status = response.status();
            if FOLLOWED.contains(&status) {
                self.add(response.message());
            }
            if status.as_u16() >= 600 {
                // "the UAC SHOULD NOT" go on: it speaks for everybody (§21.6).
                self.waiting.clear();
            }
        }
        match self.waiting.is_empty() {
            true => Some(error),
            false => {
                self.refused = Some(error);
                None
            }
        }
    }

    /// Says whether redirections are followed at all.
    pub(super) fn is_on(&self) -> bool {
        self.left > 0 || self.known.len() > 1
    }

    /// Says whether the next place is due.
    pub(super) fn is_due(&self) -> bool {
        self.refused.is_some()
    }

    /// The next place, which stays the next until it is [called](Self::called).
    pub(super) fn next(&self) -> Option<&Uri> {
        self.waiting.front()
    }

    pub(super) fn called(&mut self) -> Option<Uri> {
        self.refused = None;
        self.waiting.pop_front()
    }

    fn add(&mut self, response: &Response) {
        let Ok(contacts) = response.headers().contacts() else {
            return;
        };
        let mut places: Vec<_> = contacts.as_slice().iter().collect();
        // Best first; "Contact values without q-values are considered 1.0" (§16.6). The sort keeps the order of equals.
        places.sort_by_key(|contact| std::cmp::Reverse(contact.q().unwrap_or(Q::ONE)));
        for contact in places {
            let uri = contact.uri();
            let wanted = uri.param("method").flatten();
            let may_be = uri.is_sip()
                && !uri.has_headers()
                && wanted.is_none_or(|method| method == Method::Invite.as_str())
                && (!self.is_secure || uri.scheme() == Scheme::Sips);
            if !may_be || self.left == 0 {
                continue;
            }
            // RFC 3261 §19.1.5: "The method parameter MUST NOT be placed in the Request-URI."
            let place = uri.to_owned().to_request_uri();
            if !self.known.iter().any(|known| place.equivalent(known)) {
                self.left -= 1;
                self.known.push(place.clone());
                self.waiting.push_back(place);
            }
        }
    }
}

impl CallHandle {
    /// Follows a redirection; an event tells of it, or that the call is over.
    pub(super) async fn call_next_place(&mut self) -> Option<CallEvent> {
        loop {
            let outgoing = self
                .outgoing
                .as_mut()
                .filter(|out| out.redirects.is_due())?;
            if self.hangs_up.load(Ordering::Relaxed) {
                return Some(self.over(CallEnd::Cancelled));
            }
            let place = outgoing.redirects.next()?.clone();
            let called = outgoing.call(&place).await;
            outgoing.redirects.called();
            match called {
                Ok(call) => {
                    self.call = call;
                    let sdp = outgoing.sdp.clone();
                    self.described().redirected(sdp.as_deref());
                    *self.heard() = Heard::default();
                    *self.owed() = Owed::default();
                    return Some(CallEvent::Redirected(place));
                }
                Err(error) => {
                    let end = self.ended_with(CallEnd::Failed(error));
                    if end.is_some() {
                        return end;
                    }
                }
            }
        }
    }

    /// Takes the end of the call at one place; none where there is another to go to.
    pub(super) fn ended_with(&mut self, end: CallEnd) -> Option<CallEvent> {
        let end = match (end, &mut self.outgoing) {
            (CallEnd::Failed(error), Some(outgoing)) => {
                CallEnd::Failed(outgoing.redirects.refused(error)?)
            }
            (end, _) => end,
        };
        Some(self.over(end))
    }
}

/// 305 names a proxy, and 380 says in its body what else there is.
const FOLLOWED: [StatusCode; 3] = [
    StatusCode::MULTIPLE_CHOICES,
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::MOVED_TEMPORARILY,
];

/// Places that one call goes to: nobody waits for more to ring.
const MAX_PLACES: usize = 32;
