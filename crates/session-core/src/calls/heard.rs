//! What the peer has said of the session: what is sent there, and in which encoding, is by that.

use sipora_dialog_core::CallEvent as Event;
use sipora_message::{Headers, Method, Request, Response};

use super::event::description;

/// The descriptions of the peer's in one call.
#[derive(Debug, Default)]
pub(super) struct Heard {
    current: Option<Box<str>>,
    /// What was offered in the call, and has no answer of ours yet.
    offered: Option<Box<str>>,
    /// It has one in a provisional answer, which counts once it is acknowledged.
    is_answered: bool,
    /// What held before an offer was taken by a 2xx that may wait for a PRACK, and come to nothing.
    before: Option<Option<Box<str>>>,
    /// The number of the peer's INVITE that has no offer: its ACK has an answer.
    asks: Option<u32>,
    /// What was said to an INVITE of ours that is not accepted.
    early: Option<Early>,
}

/// What was said to one INVITE before it is accepted. A challenge, or the peer's own that it meets (491), has it sent again under
/// another number, and what was said to it before is over.
#[derive(Debug)]
struct Early {
    cseq: u32,
    /// What the peer had said before, which holds again where nothing comes of the INVITE.
    before: Option<Box<str>>,
    /// An exchange is complete, and holds whatever becomes of the INVITE (RFC 6141 §3.3).
    is_settled: bool,
    said: Vec<SaidEarly>,
}

/// What one of several user agents answered.
#[derive(Debug)]
struct SaidEarly {
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
            asks: invite.and_then(asking),
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
            Event::Acknowledged(ack) => {
                self.before = None;
                if self.asks.take_if(|cseq| *cseq == cseq_of(ack)).is_some() {
                    self.says(of_request(ack));
                }
            }
            Event::ProgressAcknowledged(prack) => {
                self.before = None;
                self.settles_early();
                self.says(of_request(prack));
            }
            Event::ReinviteAccepted(response) => {
                self.begins(response);
                let early = self.early.take();
                // "MUST ignore any session descriptions in subsequent responses" (RFC 3261 §13.2.1).
                if early.is_none_or(|early| early.said.iter().all(|said| !said.is_answer)) {
                    self.says(of_response(response));
                }
            }
            Event::ReinviteRefused(_) => self.goes_back(),
            Event::ReinviteUndone(_) => self.early = None,
            Event::ReinviteProgress(response) => {
                self.progressed(response);
                self.acknowledged();
            }
            Event::Refreshed(response) | Event::UpdateAccepted(response) => {
                self.says(of_response(response));
            }
            Event::Reinvited(request) => {
                // Ours has met it, and is over for now.
                self.goes_back();
                self.before = None;
                if let Some(cseq) = asking(request) {
                    self.asks = Some(cseq);
                }
                self.takes_offer(request);
            }
            Event::Offered(request) => {
                if *request.method() == Method::Prack {
                    self.settles_early();
                }
                self.takes_offer(request);
            }
            Event::ReinviteCancelled => {
                self.refused();
                if let Some(before) = self.before.take() {
                    self.current = before;
                }
            }
            _ => {}
        }
    }

    fn takes_offer(&mut self, request: &Request) {
        self.offered = of_request(request);
        self.is_answered = false;
    }

    /// We have answered its offer, if there was one, and not accepted its INVITE yet.
    pub(super) fn answered_early(&mut self) {
        self.is_answered = self.offered.is_some();
    }

    /// A provisional answer of ours was acknowledged.
    fn settles_early(&mut self) {
        if self.is_answered {
            self.accepted();
            self.before = None;
        }
    }

    /// We have taken its offer, if there was one.
    pub(super) fn accepted(&mut self) {
        self.is_answered = false;
        let offered = self.offered.take();
        self.says(offered);
    }

    /// We have taken that of an INVITE, which may be over before it hears of that.
    pub(super) fn accepted_invite(&mut self) {
        if self.offered.is_some() {
            self.before = Some(self.current.clone());
        }
        self.accepted();
    }

    /// "the session remains unchanged" (RFC 3261 §14.1).
    pub(super) fn refused(&mut self) {
        self.offered = None;
        self.is_answered = false;
    }

    /// We have answered an offer that came before the INVITE is accepted.
    pub(super) fn acknowledged(&mut self) {
        if let Some(early) = &mut self.early {
            early.is_settled = true;
        }
    }

    fn says(&mut self, sdp: Option<Box<str>>) {
        let Some(sdp) = sdp else {
            return;
        };
        if let Some(early) = &mut self.early {
            early.is_settled = true;
            // An exchange in the only early dialog there is goes on from what was said there.
            if let [said] = early.said.as_mut_slice() {
                said.sdp = sdp.clone();
                said.is_answer = true;
            }
        }
        self.current = Some(sdp);
    }

    /// What was said to an INVITE is over where this is an answer to another.
    fn begins(&mut self, response: &Response) {
        let cseq = number_of(response);
        if self.early.as_ref().is_some_and(|early| early.cseq != cseq) {
            self.goes_back();
        }
    }

    /// Nothing has come of an INVITE of ours.
    fn goes_back(&mut self) {
        if let Some(early) = self.early.take()
            && !early.is_settled
        {
            self.current = early.before;
        }
    }

    fn progressed(&mut self, response: &Response) {
        self.begins(response);
        let headers = response.headers();
        let Some(sdp) = of_response(response) else {
            return;
        };
        let is_answer = matches!(headers.rseq(), Ok(Some(_)));
        let tag = tag_of(headers);
        let early = self.early.get_or_insert_with(|| Early {
            cseq: number_of(response),
            before: self.current.clone(),
            is_settled: false,
            said: Vec::new(),
        });
        let known = early.said.iter_mut().find(|said| said.tag == tag);
        match known {
            // "MUST ignore any session descriptions in subsequent responses" (RFC 3261 §13.2.1).
            Some(said) if said.is_answer => return,
            Some(said) => {
                said.sdp = sdp.clone();
                said.is_answer = is_answer;
            }
            None => {
                if early.said.len() >= MOST_EARLY {
                    early.said.remove(0);
                }
                early.said.push(SaidEarly {
                    tag,
                    sdp: sdp.clone(),
                    is_answer,
                });
            }
        }
        self.current = Some(sdp);
    }

    fn answered(&mut self, response: &Response) {
        self.begins(response);
        let tag = tag_of(response.headers());
        let mut early = self.early.take().into_iter().flat_map(|early| early.said);
        let early = early.find(|said| said.tag == tag);
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

fn number_of(response: &Response) -> u32 {
    response.headers().cseq().map_or(0, |cseq| cseq.number)
}

fn cseq_of(request: &Request) -> u32 {
    request.headers().cseq().map_or(0, |cseq| cseq.number)
}

/// The number of an INVITE that has no offer.
fn asking(invite: &Request) -> Option<u32> {
    of_request(invite).is_none().then(|| cseq_of(invite))
}

fn of_request(request: &Request) -> Option<Box<str>> {
    description(&request.headers(), request.body()).map(Into::into)
}

fn of_response(response: &Response) -> Option<Box<str>> {
    description(&response.headers(), response.body()).map(Into::into)
}

/// User agents whose early media are remembered, of one call: who forks to more has one of the others accept.
const MOST_EARLY: usize = 16;
