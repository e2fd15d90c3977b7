//! What the peer waits for that is no INVITE.

use std::collections::VecDeque;

use sipora_dialog_core::CallEvent as Event;

/// Which offers of the peer's wait for their answer.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// One in an UPDATE or a PRACK.
    pub(super) offer: bool,
    /// The peer has asked for a change, ever.
    pub(super) was_asked: bool,
    /// Those in reliable provisional answers to our INVITE: the tags of who has sent them, each a fork, of which there are 32.
    pub(super) early_answers: VecDeque<Box<str>>,
}

impl Owed {
    pub(super) fn sees(&mut self, event: &Event) {
        self.was_asked |= matches!(event, Event::Offered(_) | Event::Reinvited(_));
        match event {
            Event::Offered(_) => self.offer = true,
            // An INVITE that comes later is what the application speaks of next.
            Event::Reinvited(_) => self.offer = false,
            Event::EarlyOffer(response) => {
                let to = response.headers().to();
                let tag = to.ok().and_then(|to| to.tag().map(Into::into));
                let tag = tag.unwrap_or_default();
                self.early_answers.retain(|known| *known != tag);
                self.early_answers.push_back(tag);
            }
            // Those of an INVITE that is over are not wanted any more.
            Event::Answered(_)
            | Event::ReinviteAccepted(_)
            | Event::ReinviteRefused(_)
            | Event::ReinviteUndone(_) => self.early_answers = VecDeque::new(),
            _ => {}
        }
    }
}
