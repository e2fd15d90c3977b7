//! What the peer has said of the session: what is sent there, and in which encoding, is by that.

use sipora_dialog_core::CallEvent as Event;
use sipora_message::{Headers, Request, Response};

use super::event::description;

/// The descriptions of the peer's in one call.
#[derive(Debug, Default)]
pub(super) struct Heard {
    current: Option<Box<str>>,
    /// What was offered in the call, and has no answer of ours yet.
    offered: Option<Box<str>>,
    /// What user agents answered to our INVITE that have not accepted it.
    early: Vec<Early>,
}

/// What one of several user agents answered.
#[derive(Debug)]
struct Early {
    tag: Box<str>,
    sdp: Box<str>,
    /// It came reliably, so that it is the answer, and what comes after it is none (RFC 3262 §5, RFC 6337 §3.1.1).
    is_answer: bool,
}

impl Heard {
    /// Begins with the peer's INVITE.
    pub(super) fn new(invite: Option<&Request>) -> Self {
        Self {
            current: invite.and_then(of_request),
            ..Self::default()
        }
    }

    /// Goes on from what the peer has said to another process.
    pub(super) fn restored(current: Option<Box<str>>) -> Self {
        Self {
            current,
            ..Self::default()
        }
    }

    pub(super) fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    pub(super) fn sees(&mut self, event: &Event) {
        match event {
            Event::Progress(response) | Event::EarlyOffer(response) => self.progressed(response),
            Event::Answered(response) => self.answered(response),
            Event::Acknowledged(request) | Event::ProgressAcknowledged(request) => {
                self.says(of_request(request));
            }
            Event::ReinviteAccepted(response) => {
                self.early = Vec::new();
                self.says(of_response(response));
            }
            Event::ReinviteRefused(_) | Event::ReinviteUndone(_) => self.early = Vec::new(),
            Event::ReinviteProgress(response)
            | Event::Refreshed(response)
            | Event::UpdateAccepted(response) => self.says(of_response(response)),
            Event::Reinvited(request) | Event::Offered(request) => {
                self.offered = of_request(request);
            }
            Event::ReinviteCancelled => self.offered = None,
            _ => {}
        }
    }

    /// We have taken its offer, if there was one.
    pub(super) fn accepted(&mut self) {
        let offered = self.offered.take();
        self.says(offered);
    }

    /// "the session remains unchanged" (RFC 3261 §14.1).
    pub(super) fn refused(&mut self) {
        self.offered = None;
    }

    fn says(&mut self, sdp: Option<Box<str>>) {
        let Some(sdp) = sdp else {
            return;
        };
        // An exchange in the only early dialog there is goes on from what was said there.
        if let [early] = self.early.as_mut_slice() {
            early.sdp = sdp.clone();
            early.is_answer = true;
        }
        self.current = Some(sdp);
    }

    fn progressed(&mut self, response: &Response) {
        let headers = response.headers();
        let Some(sdp) = of_response(response) else {
            return;
        };
        let is_answer = matches!(headers.rseq(), Ok(Some(_)));
        let tag = tag_of(headers);
        let known = self.early.iter_mut().find(|early| early.tag == tag);
        match known {
            // "MUST ignore any session descriptions in subsequent responses" (RFC 3261 §13.2.1).
            Some(early) if early.is_answer => return,
            Some(early) => {
                early.sdp = sdp.clone();
                early.is_answer = is_answer;
            }
            None => {
                if self.early.len() >= MOST_EARLY {
                    self.early.remove(0);
                }
                self.early.push(Early {
                    tag,
                    sdp: sdp.clone(),
                    is_answer,
                });
            }
        }
        self.current = Some(sdp);
    }

    fn answered(&mut self, response: &Response) {
        let tag = tag_of(response.headers());
        let early = std::mem::take(&mut self.early);
        let early = early.into_iter().find(|early| early.tag == tag);
        let said = of_response(response);
        self.current = match early {
            Some(early) if early.is_answer => Some(early.sdp),
            // Without one in the 2xx, what was a preview is all that there will be.
            early => said.or(early.map(|early| early.sdp)),
        };
    }
}

fn tag_of(headers: Headers<'_>) -> Box<str> {
    let to = headers.to();
    let tag = to.ok().and_then(|to| to.tag().map(Into::into));
    tag.unwrap_or_default()
}

fn of_request(request: &Request) -> Option<Box<str>> {
    description(&request.headers(), request.body()).map(Into::into)
}

fn of_response(response: &Response) -> Option<Box<str>> {
    description(&response.headers(), response.body()).map(Into::into)
}

/// User agents whose early media are remembered, of one call: who forks to more has one of the others accept.
const MOST_EARLY: usize = 16;
