//! A call, and how it stands.

use sipora_session_core::{
    CallEvent, CallHandle, Error, MediaDirection, SipResponse, TransferReport, TransferRequest,
};

use crate::words::{said, shown};

pub(crate) struct Talk {
    pub(crate) call: CallHandle,
    /// We have accepted it.
    pub(crate) is_answered: bool,
    pub(crate) is_up: bool,
    /// We hold the peer.
    holds: bool,
    /// Whether we shall, once the peer has agreed.
    shall_hold: bool,
    /// What the peer asks for.
    pub(crate) wish: Option<TransferRequest>,
    /// The peer goes along with a transfer, and has not told yet what came of it.
    pub(crate) transfers: bool,
    /// There is nothing to be done in it any more.
    pub(crate) is_ending: bool,
}

impl Talk {
    pub(crate) fn new(call: CallHandle) -> Self {
        Self {
            call,
            is_answered: false,
            is_up: false,
            holds: false,
            shall_hold: false,
            wish: None,
            transfers: false,
            is_ending: false,
        }
    }

    pub(crate) async fn hold(&mut self) -> Result<(), Error> {
        self.call.hold().await?;
        self.shall_hold = true;
        Ok(())
    }

    /// Holds the peer, unless it is held, or about to be.
    pub(crate) async fn waits(&mut self) -> Result<(), Error> {
        match self.shall_hold {
            true => Ok(()),
            false => self.hold().await,
        }
    }

    pub(crate) async fn resume(&mut self) -> Result<(), Error> {
        self.call.resume().await?;
        self.shall_hold = false;
        Ok(())
    }

    /// The peer has agreed.
    pub(crate) fn has_changed(&mut self) {
        self.holds = self.shall_hold;
        println!("{}", if self.holds { "held" } else { "resumed" });
    }

    /// The peer has not agreed, or has not heard of it.
    pub(crate) fn has_not_changed(&mut self, answer: &SipResponse) {
        let wanted = if self.shall_hold { "held" } else { "resumed" };
        self.shall_hold = self.holds;
        match is_made_here(answer) {
            true => println!("not {wanted}: the peer cannot be reached"),
            false => println!("refused: {} {}", answer.status(), shown(&answer.reason())),
        }
    }

    /// Goes along with what the peer wants to change.
    pub(crate) async fn changes(&self, offer: Option<&str>, own: &str) {
        let answer = self.answer_to(offer, own);
        let Some(offer) = offer else {
            // It asks what we say of the session, which stays as it is.
            let _ = self.call.accept(&answer).await;
            return;
        };
        match self.call.accept(&answer).await {
            Ok(()) if !MediaDirection::of(offer).receives() => println!("the peer holds"),
            Ok(()) => println!("the peer resumes"),
            Err(error) => println!("not changed: {}", said(&error)),
        }
    }

    /// What we say to an offer, or without one: whoever is held only receives, and whom we hold sends nothing. The version in `o=` is
    /// for `accept` to count.
    pub(crate) fn answer_to(&self, offer: Option<&str>, own: &str) -> String {
        let wanted = offer.map_or(MediaDirection::SendRecv, |offer| {
            MediaDirection::of(offer).reversed()
        });
        let direction = match (self.holds, wanted.sends()) {
            (false, _) => wanted,
            (true, true) => MediaDirection::SendOnly,
            (true, false) => MediaDirection::Inactive,
        };
        direction.in_sdp(own)
    }

    /// Says what came of a transfer; the call that asked for it has done its part when it has succeeded.
    pub(crate) async fn hears_of_transfer(&mut self, report: &TransferReport) {
        if !report.is_over {
            return;
        }
        self.transfers = false;
        match report.status {
            Some(_) if report.has_succeeded() => {
                println!("transferred");
                self.is_ending = true;
                let _ = self.call.hang_up().await;
            }
            Some(status) => println!("not transferred: {status}"),
            None => println!("not transferred, as it seems"),
        }
    }

    /// Whom it is with, and how.
    pub(crate) fn with(&self) -> String {
        let with = shown(self.call.remote_uri());
        match self.shall_hold {
            true => format!("{with}, who is held"),
            false => with,
        }
    }
}

/// Waits for the next event of a call, if there is one.
pub(crate) async fn next(talk: &mut Option<Talk>) -> CallEvent {
    if let Some(talk) = talk
        && let Some(event) = talk.call.next().await
    {
        return event;
    }
    std::future::pending().await
}

/// A 503 that stands for an error of the transport (RFC 3261 §8.1.3.1) has not come by any way.
fn is_made_here(answer: &SipResponse) -> bool {
    answer.header("Via").is_none()
}
