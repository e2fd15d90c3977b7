//! What the peer waits for that is no INVITE.

use sipora_dialog_core::CallEvent as Event;

/// Which offers of the peer's wait for their answer.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// One in an UPDATE or a PRACK.
    pub(super) offer: bool,
    /// One in a reliable provisional answer to our INVITE: the tag of who has sent it.
    pub(super) early_answer: Option<Box<str>>,
}

impl Owed {
    pub(super) fn sees(&mut self, event: &Event) {
        match event {
            Event::Offered(_) => self.offer = true,
            // An INVITE that comes later is what the application speaks of next.
            Event::Reinvited(_) => self.offer = false,
            Event::EarlyOffer(response) => {
                let to = response.headers().to();
                let tag = to.ok().and_then(|to| to.tag().map(Into::into));
                self.early_answer = Some(tag.unwrap_or_default());
            }
            Event::Answered(_) => self.early_answer = None,
            _ => {}
        }
    }
}
