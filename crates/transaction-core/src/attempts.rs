//! One request of ours, and the targets that it is tried at (RFC 3263 §4.3, RFC 3261 §18.1.1).

use crate::key::Key;
use crate::machine::{client_invite, client_non_invite};
use crate::packed::PackedFlow;
use crate::timers::{Entry, Tick, earlier};
use crate::{Owner, TransportFailure};
use sipora_message::{Method, Request, Response};
use sipora_transport::{Destination, Flow};
use std::collections::VecDeque;
use std::time::Duration;

/// A request on its way down, without a Via of ours.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OutgoingRequest {
    /// The request. Every attempt puts a Via with a branch of its own on top.
    pub request: Request,
    /// The targets, best first. With none, and no flow, the request waits for
    /// [`targets_found`](crate::TransactionLayer::targets_found).
    pub targets: Vec<Destination>,
    /// A flow to use instead of targets.
    pub flow: Option<Flow>,
    /// Time for all attempts together; an INVITE has it until its first answer. `None` is 64*T1.
    pub deadline: Option<Duration>,
    /// Timer C of a proxy (RFC 3261 §16.6 step 11), for an INVITE: how long it may ring after its latest provisional answer
    /// other than 100. It is cancelled then. `None` is [`Timers::ringing`](crate::Timers::ringing).
    pub timer_c: Option<Duration>,
    /// `keep` stands in our Via (RFC 6223).
    pub offers_keep_alives: bool,
    /// Who gets the events.
    pub owner: Owner,
}

impl OutgoingRequest {
    /// Makes a request to one target.
    pub fn new(request: Request, target: Destination, owner: Owner) -> Self {
        Self {
            request,
            targets: vec![target],
            flow: None,
            deadline: None,
            timer_c: None,
            offers_keep_alives: false,
            owner,
        }
    }
}

/// What a request still has ahead of it, and where it is now.
///
/// ```text
///   send_request ──▶ Waiting ── targets found ──▶ Opening ── flow ready ──▶ Running ──▶ final answer
///                       │                          ▲   │                       │
///                       │                          │   └── flow failed ──┐     │ 503, silence, transport error
///                       │                          └── next target ──────┴◀────┘ (never after a provisional)
///                       └─────────────── deadline, or no target left: Failed ◀──┘
/// ```
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) owner: Owner,
    pub(crate) request: Request,
    pub(crate) kind: Kind,
    pub(crate) hops: VecDeque<Hop>,
    /// The client transaction that speaks for the request now; 0 while there is none.
    pub(crate) current: u64,
    pub(crate) deadline: Option<Tick>,
    pub(crate) silence: Option<Tick>,
    /// Timer C, and when it goes off next. It counts once a provisional answer has come.
    pub(crate) timer_c: Duration,
    pub(crate) rings_until: Option<Tick>,
    pub(crate) queued: Option<Entry>,
    pub(crate) kept: Option<Box<Kept>>,
    pub(crate) cancel: Cancel,
    pub(crate) offers_keep_alives: bool,
    /// A provisional answer came: the request stays where it is.
    pub(crate) provisional: bool,
    /// An INVITE was accepted.
    pub(crate) accepted: bool,
    /// The user wants to hear no more of it.
    pub(crate) abandoned: bool,
}

/// What few requests have, and one at a time.
#[derive(Debug)]
pub(crate) enum Kept {
    /// A 503 that gave way to the next target, to be delivered should none answer better: over what it came, and whose it is.
    Unavailable(Response, Flow, Option<Destination>),
    /// Why it is to be cancelled: the value of Reason (RFC 3326).
    Reason(Box<str>),
}

impl Exchange {
    /// Takes why it is cancelled.
    pub(crate) fn take_reason(&mut self) -> Option<Box<str>> {
        match *self
            .kept
            .take_if(|kept| matches!(**kept, Kept::Reason(_)))?
        {
            Kept::Reason(reason) => Some(reason),
            Kept::Unavailable(..) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Invite,
    NonInvite,
    /// An ACK to a 2xx: sent once, answered never.
    Ack,
}

impl Kind {
    pub(crate) fn of(method: &Method) -> Self {
        match method {
            Method::Invite => Self::Invite,
            Method::Ack => Self::Ack,
            _ => Self::NonInvite,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancel {
    No,
    /// To be sent with the first provisional answer (RFC 3261 §9.1).
    Wanted,
    Sent,
}

/// One place to try.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    pub(crate) place: Place,
    /// §18.1.1: a large request goes over UDP after all, but only when TCP could not be had.
    pub(crate) only_after_refusal: bool,
    /// The size of the request has been considered.
    pub(crate) any_size: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Place {
    Destination(Destination),
    Flow(Flow),
}

impl Hop {
    pub(crate) fn to(destination: Destination) -> Self {
        Self {
            place: Place::Destination(destination),
            only_after_refusal: false,
            any_size: false,
        }
    }

    pub(crate) fn over(flow: Flow) -> Self {
        Self {
            place: Place::Flow(flow),
            only_after_refusal: false,
            any_size: true,
        }
    }

    pub(crate) fn destination(&self) -> Option<&Destination> {
        match &self.place {
            Place::Destination(destination) => Some(destination),
            Place::Flow(_) => None,
        }
    }
}

/// Why an attempt ended without a final answer that counts.
#[derive(Debug)]
pub(crate) enum Setback {
    Transport(TransportFailure),
    Silence,
    TimedOut,
    /// 503; the response waits in [`Exchange::kept`].
    Unavailable,
}

impl Exchange {
    /// Takes the next target that is worth trying after what happened.
    pub(crate) fn next_hop(&mut self, unreachable: bool) -> Option<Hop> {
        while let Some(hop) = self.hops.pop_front() {
            if self.hops.is_empty() {
                // Most requests have one target, and most of their life none left.
                self.hops = VecDeque::new();
            }
            if unreachable || !hop.only_after_refusal {
                return Some(hop);
            }
        }
        None
    }

    /// Says whether there is another target for a request whose present one is silent.
    pub(crate) fn has_hop(&self, unreachable: bool) -> bool {
        self.hops
            .iter()
            .any(|hop| unreachable || !hop.only_after_refusal)
    }

    pub(crate) fn next_alarm(&self) -> Option<Tick> {
        earlier(self.deadline, self.silence)
    }
}

/// One attempt, or a CANCEL.
#[derive(Debug)]
pub(crate) struct Client {
    /// The request it is for; 0 for a CANCEL.
    pub(crate) exchange: u64,
    /// Who hears of a 2xx that comes when the request is over.
    pub(crate) owner: Option<Owner>,
    pub(crate) hop: Hop,
    /// Absent while its flow is being opened.
    pub(crate) running: Option<Running>,
    pub(crate) repeat: Option<Tick>,
    pub(crate) end: Option<Tick>,
    pub(crate) queued: Option<Entry>,
    /// The request has gone on to another target, or is over. Only INVITEs live on like this, to be cancelled should they ring.
    pub(crate) superseded: bool,
    /// A CANCEL was sent for it.
    pub(crate) cancelled: bool,
}

/// A client transaction: its message is on the wire.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) machine: Machine,
    pub(crate) key: Key,
    pub(crate) flow: PackedFlow,
    /// The request with its Via, from which ACK and CANCEL are made.
    pub(crate) sent: Request,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Machine {
    Invite(client_invite::Machine),
    NonInvite(client_non_invite::Machine),
}

impl Client {
    pub(crate) fn new(exchange: u64, owner: Option<Owner>, hop: Hop) -> Self {
        Self {
            exchange,
            owner,
            hop,
            running: None,
            repeat: None,
            end: None,
            queued: None,
            superseded: false,
            cancelled: false,
        }
    }

    /// The request goes on without it. It is not sent again, lest it ring only now; should it ring, it is cancelled.
    pub(crate) fn set_aside(&mut self) {
        self.superseded = true;
        self.repeat = None;
    }

    pub(crate) fn next_alarm(&self) -> Option<Tick> {
        earlier(self.repeat, self.end)
    }
}

impl Machine {
    pub(crate) fn has_final_answer(&self) -> bool {
        match self {
            Self::Invite(machine) => matches!(
                machine.state,
                client_invite::State::Completed | client_invite::State::Accepted
            ),
            Self::NonInvite(machine) => machine.state == client_non_invite::State::Completed,
        }
    }

    pub(crate) fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.state == client_invite::State::Terminated,
            Self::NonInvite(machine) => machine.state == client_non_invite::State::Terminated,
        }
    }
}
