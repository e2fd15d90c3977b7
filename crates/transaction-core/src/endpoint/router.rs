//! Which shard a message belongs to, and the ways between shards.

use crate::ids;
use sipora_message::{Message, Method};
use sipora_transport::{Flow, FlowId, UdpListener};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Names the shard, of `shards`, that a message belongs to; `None` leaves it where it was received.
///
/// Requests that have to meet others of their dialog or transaction go by their Call-ID: INVITE, ACK, CANCEL, BYE,
/// SUBSCRIBE, NOTIFY, REFER, PRACK, UPDATE and whatever has a To tag. Responses go by the mark in our branch. It is a pure
/// function of its arguments, so that every shard comes to the same result.
pub fn owner(message: &Message, shards: usize, secret: u64) -> Option<usize> {
    if shards < 2 {
        return None;
    }
    let request = match message {
        Message::Request(request) => request,
        Message::Response(response) => {
            let via = response.headers().via().ok()?;
            return ids::shard_of(via.branch()?).filter(|shard| *shard < shards);
        }
    };
    let headers = request.headers();
    let by_method = matches!(
        request.method(),
        Method::Invite
            | Method::Ack
            | Method::Cancel
            | Method::Bye
            | Method::Subscribe
            | Method::Notify
            | Method::Refer
            | Method::Prack
            | Method::Update
    );
    if !by_method && !headers.to().is_ok_and(|to| to.tag().is_some()) {
        return None;
    }
    divide(headers.call_id().ok()?.as_bytes(), shards, secret)
}

/// What one shard hands to another.
pub(super) enum Passed {
    /// A message that belongs to the shard `home`: the other, unless it is a request about which the other's user at `place`
    /// in the order of claims is to be asked.
    Message {
        message: Message,
        flow: Flow,
        place: usize,
        home: usize,
    },
    /// A datagram from one of these sockets did not arrive. Which of them the network tells is not which of them sent it.
    Unreachable {
        sockets: Arc<[FlowId]>,
        flow: Flow,
        kind: ErrorKind,
    },
}

/// Knows the other shards.
pub(super) struct Router {
    pub(super) shard: usize,
    secret: u64,
    /// By number; the own one is among them.
    shards: Arc<[mpsc::Sender<Passed>]>,
    /// The sockets of each UDP listener, one a shard in their order.
    siblings: Vec<Arc<[FlowId]>>,
    /// Sockets of which each is there for every shard.
    lone: Vec<FlowId>,
    /// What waits for room in another shard's queue, because nobody would send it again.
    held: Option<Held>,
    pub(super) passed_on: u64,
    pub(super) not_passed_on: u64,
    pub(super) held_back: u64,
    pub(super) reports_not_passed_on: u64,
}

/// A message and its turn in the queue of the shard that it is for.
struct Held {
    passed: Passed,
    turn: Pin<Box<dyn Future<Output = Turn> + Send>>,
}

type Turn = Result<mpsc::OwnedPermit<Passed>, mpsc::error::SendError<()>>;

impl Router {
    pub(super) fn new(
        shard: usize,
        secret: u64,
        shards: Arc<[mpsc::Sender<Passed>]>,
        listeners: &[Vec<UdpListener>],
    ) -> Self {
        let ids = |listener: &Vec<UdpListener>| listener.iter().map(UdpListener::id).collect();
        let is_lone = |listener: &&Vec<UdpListener>| listener.len() < shards.len();
        Self {
            shard,
            secret,
            siblings: listeners.iter().map(ids).collect(),
            lone: listeners
                .iter()
                .filter(is_lone)
                .flatten()
                .map(UdpListener::id)
                .collect(),
            shards,
            held: None,
            passed_on: 0,
            not_passed_on: 0,
            held_back: 0,
            reports_not_passed_on: 0,
        }
    }

    /// Names the other shard that a message belongs to.
    pub(super) fn elsewhere(&self, message: &Message, flow: &Flow) -> Option<usize> {
        let shards = self.shards.len();
        if shards < 2 {
            return None;
        }
        let owner = owner(message, shards, self.secret).or_else(|| {
            // What one socket receives for all is divided as sockets would have done it: by peers.
            let is_request = matches!(message, Message::Request(_));
            let is_spread = is_request && self.lone.contains(&flow.id.socket());
            is_spread.then(|| divide(flow.remote, shards, self.secret))?
        });
        owner.filter(|owner| *owner != self.shard)
    }

    /// Names the shard that the dialogs with a Call-ID belong to.
    pub(super) fn home(&self, call_id: &str) -> usize {
        let shards = self.shards.len();
        let home = (shards > 1).then(|| divide(call_id.as_bytes(), shards, self.secret));
        home.flatten().unwrap_or(0)
    }

    /// The socket of this shard that is bound where another's is.
    pub(super) fn own(&self, socket: FlowId) -> FlowId {
        if self.shards.len() < 2 {
            return socket;
        }
        self.siblings(socket)
            .and_then(|siblings| siblings.get(self.shard).copied())
            .unwrap_or(socket)
    }

    /// All sockets that are bound where this one is.
    pub(super) fn siblings(&self, socket: FlowId) -> Option<&Arc<[FlowId]>> {
        self.siblings
            .iter()
            .find(|siblings| siblings.contains(&socket.socket()))
    }

    /// Hands something to another shard, or gives it back when that has no room. Requests leave some room to answers, which
    /// end what others began.
    ///
    /// An answer or an ACK that came over a connection will not be sent again. One of them is held until there is room, and
    /// nothing is to be read from connections as long as it [is](Self::is_holding), so that they keep their order.
    pub(super) fn pass_on(&mut self, shard: usize, passed: Passed) -> Option<Passed> {
        let Some(way) = self.shards.get(shard) else {
            return Some(passed);
        };
        let begins = matches!(
            &passed,
            Passed::Message {
                message: Message::Request(_),
                ..
            }
        );
        let left = if begins && !has_room(way) {
            Some(passed)
        } else {
            let sent = way.try_send(passed);
            sent.err().map(mpsc::error::TrySendError::into_inner)
        };
        match left {
            None => self.passed_on += 1,
            Some(passed) if self.held.is_none() && is_sent_once(&passed) => {
                let turn = Box::pin(way.clone().reserve_owned());
                self.held = Some(Held { passed, turn });
                self.held_back += 1;
            }
            Some(passed) => {
                self.not_passed_on += 1;
                return Some(passed);
            }
        }
        None
    }

    /// Says whether a message waits for room.
    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Hands over what waits for room, if there is some. Says whether it did.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let Poll::Ready(turn) = held.turn.as_mut().poll(cx) else {
            return false;
        };
        if let Some(Held { passed, .. }) = self.held.take() {
            match turn {
                Ok(room) => {
                    room.send(passed);
                    self.passed_on += 1;
                }
                // The other shard has ended.
                Err(_) => self.not_passed_on += 1,
            }
        }
        true
    }

    /// Tells every other shard that a datagram did not arrive. One that has no room, with what is kept for answers set aside,
    /// finds out by its timers, and it is counted: a stranger can make as many reports as he likes.
    pub(super) fn unreachable(&mut self, sockets: &Arc<[FlowId]>, flow: Flow, kind: ErrorKind) {
        for shard in (0..self.shards.len()).filter(|shard| *shard != self.shard) {
            let way = self.shards.get(shard);
            let told = way.filter(|way| has_room(way)).is_some_and(|way| {
                let sockets = Arc::clone(sockets);
                let report = Passed::Unreachable {
                    sockets,
                    flow,
                    kind,
                };
                way.try_send(report).is_ok()
            });
            self.reports_not_passed_on += u64::from(!told);
        }
    }
}

/// Whether its sender takes it for delivered: what comes over a connection is not sent again, and neither an answer nor an ACK
/// can be refused.
fn is_sent_once(passed: &Passed) -> bool {
    let Passed::Message { message, flow, .. } = passed else {
        return false;
    };
    let is_refusable = match message {
        Message::Request(request) => *request.method() != Method::Ack,
        Message::Response(_) => false,
    };
    flow.transport.is_reliable() && !is_refusable
}

/// Whether a queue has room for more than answers.
fn has_room(way: &mpsc::Sender<Passed>) -> bool {
    way.capacity() > way.max_capacity() / RESERVED
}

fn divide(value: impl Hash, shards: usize, secret: u64) -> Option<usize> {
    let mut hash = DefaultHasher::new();
    hash.write_u64(secret);
    value.hash(&mut hash);
    usize::try_from(hash.finish() % shards as u64).ok()
}

/// Of a queue between shards, one part in so many is for answers only.
const RESERVED: usize = 4;
