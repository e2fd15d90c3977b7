//! What an application answers to the peer: to its INVITE, and to its offers.

use sipora_message::{HeaderName, StatusCode, Uri};

use super::Call;
use crate::Body;
use crate::call::command::Act;
use crate::call::event::CallError;
use crate::call::rejection::Rejection;
use crate::call::reliable::Answer;

impl Call {
    /// Answers the peer's INVITE with 180.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where it has its final answer.
    pub async fn ring(&self) -> Result<(), CallError> {
        self.progress(StatusCode::RINGING, None).await
    }

    /// Answers the peer's INVITE with 101 to 199, as often as wanted; a `body` is early media. The answer sent last is repeated
    /// every minute (RFC 3261 §13.3.1.1). It is sent as [`progress_reliably`](Self::progress_reliably) does where the peer
    /// requires that, or supports it and there is a session description in it.
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring); [`CallError::Invalid`] for any other status.
    pub async fn progress(&self, status: StatusCode, body: Option<Body>) -> Result<(), CallError> {
        self.progresses(status, body, false).await
    }

    /// Answers the peer's INVITE with 101 to 199, reliably (RFC 3262): it is repeated until its PRACK comes, of which
    /// [`CallEvent::ProgressAcknowledged`](crate::CallEvent::ProgressAcknowledged) tells, and where none has come after 64*T1 the INVITE is refused with 504.
    ///
    /// One is on its way at a time; up to eight wait for their turn. The first `body` is the answer to the INVITE's offer, or the
    /// offer where it has none, and the answer to that comes in the PRACK. [`accept`](Self::accept) then needs no body, and waits
    /// for the PRACK.
    ///
    /// # Errors
    ///
    /// As [`progress`](Self::progress); [`CallError::NotSupported`] where the peer does not know it or
    /// [`CallConfig::reliability`](crate::CallConfig::reliability) excludes it, [`CallError::BodyNeeded`] where an offer has to be made.
    pub async fn progress_reliably(
        &self,
        status: StatusCode,
        body: Option<Body>,
    ) -> Result<(), CallError> {
        self.progresses(status, body, true).await
    }

    async fn progresses(
        &self,
        status: StatusCode,
        body: Option<Body>,
        reliably: bool,
    ) -> Result<(), CallError> {
        let answer = Answer {
            status,
            body,
            headers: Vec::new(),
        };
        self.answers(Act::Progress(answer, reliably)).await
    }

    /// Accepts the peer's INVITE, the first or the one that [`CallEvent::Reinvited`](crate::CallEvent::Reinvited) told of. `body` is the answer to its
    /// offer, or the offer where it has none; [`CallEvent::Acknowledged`](crate::CallEvent::Acknowledged) follows, or the end of the call after 64*T1. Where a
    /// reliable provisional answer carried it, `None` is enough, and a body is left out (RFC 6337 §3.1.1); the 2xx then waits for
    /// the PRACK of that answer.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where it has its final answer, as after a CANCEL; [`CallError::BodyNeeded`] where `body` is no session
    /// description; [`CallError::NotNow`] where another call would be hung up for this one:
    /// [`accept_replacing`](Self::accept_replacing).
    pub async fn accept(&self, body: impl Into<Option<Body>>) -> Result<(), CallError> {
        self.answers(Act::Accept(body.into())).await
    }

    /// Accepts the peer's INVITE as [`accept`](Self::accept) does, and has the call take the place of the one that it
    /// [`replaces`](Self::replaces), which is hung up, whoever holds it: "the UA MUST verify that the initiator of the new INVITE is
    /// authorized to replace the matched dialog" (RFC 3891 §3), and who calls this has. A call that replaces none is accepted as by
    /// `accept`, which is also for what comes later in this one.
    ///
    /// # Errors
    ///
    /// As there; [`CallError::Gone`] too where the other call has ended meanwhile: this one was refused for it, with 603.
    pub async fn accept_replacing(&self, body: impl Into<Option<Body>>) -> Result<(), CallError> {
        self.act(Act::AcceptReplacing(body.into())).await
    }

    /// Refuses the peer's INVITE, the first or a later one, with 300 to 699. To refuse a later one changes nothing;
    /// it cannot be refused ([`CallError::NotNow`]) once an offer has been answered within it, by PRACK or UPDATE (RFC 6141 §3.3).
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring); [`CallError::Invalid`] for any other status.
    pub async fn reject(&self, status: StatusCode) -> Result<(), CallError> {
        self.reject_with(Rejection::new(status)).await
    }

    /// Does what [`reject`](Self::reject) does, and says more: a reason phrase, header fields, a body.
    ///
    /// # Errors
    ///
    /// As there; [`CallError::Invalid`] for what cannot be sent too, and then nothing is refused yet.
    pub async fn reject_with(&self, rejection: Rejection) -> Result<(), CallError> {
        self.answers(Act::Reject(rejection)).await
    }

    /// Sends the peer elsewhere, with 302 (RFC 3261 §13.3.1.2); the first place is best, and says so by its q where there are
    /// several.
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring); [`CallError::Invalid`] for no place at all.
    pub async fn redirect(&self, places: &[Uri]) -> Result<(), CallError> {
        if places.is_empty() {
            return Err(CallError::Invalid("there is no place to go to".to_owned()));
        }
        let mut rejection = Rejection::new(StatusCode::MOVED_TEMPORARILY);
        for (at, uri) in places.iter().enumerate() {
            let contact = match places.len() {
                1 => format!("<{uri}>"),
                all => format!("<{uri}>;q={}", preference(at, all)),
            };
            rejection = rejection.header(HeaderName::Contact, contact);
        }
        self.reject_with(rejection).await
    }

    /// Answers the offer that came with the 2xx to an INVITE of ours that had none, in the ACK.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] or [`CallError::NotNow`] where nothing waits for it.
    pub async fn acknowledge(&self, body: Body) -> Result<(), CallError> {
        self.act(Act::Acknowledge(body)).await
    }

    /// Answers the offer in a reliable provisional answer to an INVITE of ours that had none, from the user agent with this To
    /// tag, in the PRACK ([`CallEvent::EarlyOffer`](crate::CallEvent::EarlyOffer)).
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where no such answer waits for it; [`CallError::BodyNeeded`] where `body` is no session description.
    pub async fn acknowledge_progress(&self, to_tag: &str, body: Body) -> Result<(), CallError> {
        self.act(Act::AcknowledgeProgress(to_tag.into(), body))
            .await
    }

    /// Answers the offer that [`CallEvent::Offered`](crate::CallEvent::Offered) told of.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where there is none, or it has been refused meanwhile; [`CallError::BodyNeeded`] where `body` is no
    /// session description.
    pub async fn answer(&self, body: Body) -> Result<(), CallError> {
        self.answers(Act::Answer(body)).await
    }

    /// Refuses the offer that [`CallEvent::Offered`](crate::CallEvent::Offered) told of, with 300 to 699, as a rule 488: the session is as it was.
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer); [`CallError::Invalid`] for any other status.
    pub async fn refuse(&self, status: StatusCode) -> Result<(), CallError> {
        self.answers(Act::Refuse(status)).await
    }
}

/// The q of a place among others, from 1 down to above 0: values without q are all alike (RFC 3261 §16.6).
fn preference(at: usize, all: usize) -> String {
    let thousandths = 1000 * all.saturating_sub(at) / all.max(1);
    let q = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    q.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::preference;

    #[test]
    fn each_place_is_preferred_to_the_next() {
        let all = |count| (0..count).map(move |at| preference(at, count));
        assert_eq!(all(2).collect::<Vec<_>>(), ["1", "0.5"]);
        assert_eq!(all(3).collect::<Vec<_>>(), ["1", "0.666", "0.333"]);
        assert_eq!(all(1000).next_back().as_deref(), Some("0.001"));
    }
}
