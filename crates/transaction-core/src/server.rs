//! A request that came in, and its answer.

use crate::key::Key;
use crate::machine::{Reaction, server_invite, server_non_invite};
use crate::merged::Origin;
use crate::packed::PackedFlow;
use crate::shelf::{Kept, Shelf};
use crate::timers::{Entry, Tick, earlier};
use crate::{Owner, Timers};
use bytes::Bytes;
use sipora_message::{Request, Response, StatusCode};

/// A request that came in. Once it has its final answer, what is left of it is its key and that answer.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) key: Key,
    /// Where answers go (§18.2.2).
    pub(crate) route: PackedFlow,
    pub(crate) machine: Machine,
    /// The final answer, unless [`Live`] has it.
    pub(crate) answer: Option<Kept>,
    pub(crate) end: Option<Tick>,
    pub(crate) queued: Option<Entry>,
    pub(crate) owner: Option<Owner>,
    /// By which merged requests are found, where its user refuses them.
    pub(crate) origin: Option<Origin>,
    pub(crate) live: Option<Box<Live>>,
}

/// What only a transaction without a final answer needs, and an INVITE until its end. Or one whose final answer is very long.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Taken when the final answer is there.
    pub(crate) request: Option<Request>,
    /// The latest provisional answer, which may have to wait for long, or a final one that is too long for the shelf. Empty
    /// where there is none.
    pub(crate) answer: Box<[u8]>,
    pub(crate) repeat: Option<Tick>,
    /// For RFC 2543 peers, whose INVITE and ACK differ in nothing but the To tag.
    pub(crate) legacy: bool,
    pub(crate) request_tag: u64,
    pub(crate) answer_tag: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Machine {
    Invite(server_invite::Machine),
    NonInvite(server_non_invite::Machine),
}

/// What happens to a server transaction of either kind.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    Repeat,
    End,
    Request,
    Ack,
    Answer(StatusCode),
    TransportError,
}

impl Server {
    pub(crate) fn next_alarm(&self) -> Option<Tick> {
        earlier(self.end, self.live.as_ref().and_then(|live| live.repeat))
    }

    pub(crate) fn is_unanswered(&self) -> bool {
        match self.machine {
            Machine::Invite(machine) => machine.state == server_invite::State::Proceeding,
            Machine::NonInvite(machine) => matches!(
                machine.state,
                server_non_invite::State::Trying | server_non_invite::State::Proceeding
            ),
        }
    }

    pub(crate) fn is_terminated(&self) -> bool {
        match self.machine {
            Machine::Invite(machine) => machine.state == server_invite::State::Terminated,
            Machine::NonInvite(machine) => machine.state == server_non_invite::State::Terminated,
        }
    }

    pub(crate) fn is_invite(&self) -> bool {
        matches!(self.machine, Machine::Invite(_))
    }

    /// Keeps a new answer and returns what has to go on the wire, if anything.
    pub(crate) fn bytes_to_send(
        &mut self,
        shelf: &mut Shelf,
        reaction: Reaction,
        input: Input,
        answer: Option<Bytes>,
    ) -> Option<Bytes> {
        if !self.is_invite() && matches!(input, Input::Answer(StatusCode::REQUEST_TIMEOUT)) {
            // RFC 4320 §4.2: "MUST NOT send a response with a Status-Code of 408 to a non-INVITE request".
            self.drop_answer(shelf);
            return None;
        }
        if reaction.send_trying {
            let request = self.live.as_ref()?.request.as_ref()?;
            let trying = Response::for_request(request, StatusCode::TRYING)
                .print()
                .ok()?;
            self.keep(shelf, trying.as_bytes());
            return Some(trying.into_bytes());
        }
        if !reaction.send {
            return None;
        }
        match answer {
            Some(bytes) => {
                if !self.is_terminated() {
                    self.keep(shelf, &bytes);
                }
                Some(bytes)
            }
            None => {
                let answer = self.answer(shelf);
                (!answer.is_empty()).then(|| Bytes::copy_from_slice(answer))
            }
        }
    }

    /// The latest answer; empty before the first.
    pub(crate) fn answer<'a>(&'a self, shelf: &'a Shelf) -> &'a [u8] {
        match (&self.answer, &self.live) {
            (Some(kept), _) => shelf.get(*kept),
            (None, Some(live)) => &live.answer,
            (None, None) => &[],
        }
    }

    /// Keeps an answer in the place of the one before, at its exact size.
    fn keep(&mut self, shelf: &mut Shelf, bytes: &[u8]) {
        self.drop_answer(shelf);
        if !self.is_unanswered() {
            self.answer = shelf.insert(bytes);
        }
        if self.answer.is_none() {
            self.live.get_or_insert_default().answer = bytes.into();
        }
    }

    pub(crate) fn drop_answer(&mut self, shelf: &mut Shelf) {
        if let Some(kept) = self.answer.take() {
            shelf.remove(kept);
        }
        if let Some(live) = &mut self.live {
            live.answer = Box::default();
        }
    }

    /// Lets go of what a final answer has made needless.
    pub(crate) fn shrink(&mut self) {
        if !self.is_invite() && self.live.as_ref().is_none_or(|live| live.answer.is_empty()) {
            self.live = None;
        } else if let Some(live) = self.live.as_mut() {
            live.request = None;
        }
    }
}

pub(crate) fn react(
    machine: &mut Machine,
    input: Input,
    timers: &Timers,
    reliable: bool,
) -> Reaction {
    match machine {
        Machine::Invite(machine) => {
            let input = match input {
                Input::Repeat => server_invite::Input::Repeat,
                Input::End => server_invite::Input::End,
                Input::Request => server_invite::Input::Request,
                Input::Ack => server_invite::Input::Ack,
                Input::TransportError => server_invite::Input::TransportError,
                Input::Answer(status) if status.is_provisional() => {
                    server_invite::Input::Provisional
                }
                Input::Answer(status) if status.is_success() => server_invite::Input::Success,
                Input::Answer(_) => server_invite::Input::Refusal,
            };
            machine.on(input, timers, reliable)
        }
        Machine::NonInvite(machine) => {
            let input = match input {
                Input::Repeat => server_non_invite::Input::Repeat,
                Input::End => server_non_invite::Input::End,
                Input::Request => server_non_invite::Input::Request,
                Input::Ack => return Reaction::NOTHING,
                Input::TransportError => server_non_invite::Input::TransportError,
                Input::Answer(status) if status.is_provisional() => {
                    server_non_invite::Input::Provisional
                }
                Input::Answer(_) => server_non_invite::Input::Final,
            };
            machine.on(input, timers, reliable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timers::NODE_SIZE;

    /// A completed transaction with an answer of 400 bytes may take 600: its slot, its place in the map of keys (a key, a slot
    /// number and a control byte, at the mean load of two thirds), its entry in the timer queue, what merged requests are known by, and the answer.
    #[test]
    fn a_completed_transaction_stays_within_its_budget() {
        let slot = size_of::<Server>() + 8;
        let map = (size_of::<(Key, u64)>() + 1) * 3 / 2;
        let origin = (size_of::<(Origin, u32)>() + 1) * 3 / 2;
        assert!(
            slot + map + NODE_SIZE + origin + 400 <= 600,
            "{slot} + {map} + {NODE_SIZE} + {origin} + 400"
        );
    }
}
