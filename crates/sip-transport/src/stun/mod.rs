//! STUN on the SIP sockets, for keep-alives over UDP (RFC 5626 §4.4.2, §8): Binding requests are answered, and sent where
//! somebody wants to know whether a flow still lives.

mod message;

use crate::metrics::count;
use crate::random::Random;
use crate::shared::Shared;
use crate::table::{Resolved, Socket};
use crate::{Flow, FlowId};
use message::{StunMessage, TransactionId};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::{debug, trace};

pub(crate) use message::is_stun;

/// Says why a flow over UDP is not believed to live any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StunFailure {
    /// A Binding request and its six retransmissions got no answer within 39.5 s.
    #[error("no answer to STUN")]
    NoAnswer {
        /// There was one to an earlier request.
        was_answered: bool,
    },
    /// A Binding error response came.
    #[error("STUN was refused with {0}")]
    Refused(u16),
    /// The peer sees us at another address than before: a NAT has forgotten the old one, and what is sent there is lost.
    #[error("the address that the peer sees changed from {before} to {after}")]
    AddressChanged {
        /// What the peer saw first.
        before: SocketAddr,
        /// What it sees now.
        after: SocketAddr,
    },
    /// The flow is no socket of ours, or its socket is closed.
    #[error("the flow is closed")]
    Closed,
}

/// The STUN of all sockets: what waits for answers, and how much is answered.
#[derive(Debug)]
pub(crate) struct Stun {
    waiting: Mutex<HashMap<TransactionId, Waiting>>,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Waiting {
    socket: FlowId,
    peer: SocketAddr,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<SocketAddr, u16>;

impl Stun {
    pub(crate) fn new(now: Instant) -> Stun {
        Stun {
            waiting: Mutex::default(),
            pace: Mutex::new(Pace {
                since: now,
                answered: 0,
            }),
        }
    }

    /// Deals with a datagram that is no SIP message by its first octet. What is malformed is dropped in silence.
    pub(crate) fn take(
        &self,
        shared: &Shared,
        socket: FlowId,
        source: SocketAddr,
        datagram: &[u8],
    ) {
        let counters = &shared.counters;
        let read = match datagram.len() {
            0..=LARGEST => message::read(datagram),
            _ => None,
        };
        match read {
            Some(StunMessage::Request {
                transaction,
                unknown,
                has_fingerprint,
            }) => {
                let now = shared.network.now().instant;
                if !lock(&self.pace).admit(now, shared.config.stun_answers) {
                    return count(&counters.stun_dropped);
                }
                let Some(Resolved::Socket(own)) = shared.table.resolve(socket) else {
                    return;
                };
                let answer = message::answer(&transaction, &unknown, source, has_fingerprint);
                // What has no room is lost, as on the network; the peer asks again.
                match own.try_send(shared.local_at(&own, socket), &answer, source) {
                    Ok(()) => count(&counters.stun_answered),
                    Err(_) => count(&counters.stun_dropped),
                }
            }
            Some(StunMessage::Success {
                transaction,
                mapped,
            }) => self.answered(transaction, socket, source, Ok(mapped)),
            Some(StunMessage::Error { transaction, code }) => {
                self.answered(transaction, socket, source, Err(code));
            }
            None => {
                count(&counters.stun_dropped);
                trace!(peer = %source, flow = %socket, length = datagram.len(), "malformed STUN");
            }
        }
    }

    /// An answer counts where it comes from whom was asked, to the socket that asked.
    fn answered(
        &self,
        transaction: TransactionId,
        socket: FlowId,
        source: SocketAddr,
        answer: Answer,
    ) {
        let mut waiting = lock(&self.waiting);
        let is_asked = |one: &Waiting| one.socket == socket.socket() && one.peer == source;
        if waiting.get(&transaction).is_some_and(is_asked)
            && let Some(asked) = waiting.remove(&transaction)
        {
            // Nobody waits any more: as good as an answer that came too late.
            let _ = asked.answer.send(answer);
        }
    }

    /// Asks a peer once, with the retransmissions of RFC 5389 §7.2.1.
    async fn ask(&self, shared: &Shared, flow: &Flow) -> Result<SocketAddr, StunFailure> {
        let transaction = transaction(&shared.random);
        let (answer, mut answered) = oneshot::channel();
        let waiting = Waiting {
            socket: flow.id.socket(),
            peer: flow.remote,
            answer,
        };
        lock(&self.waiting).insert(transaction, waiting);
        let _forgets = Forget(self, transaction);
        let request = message::request(&transaction);
        let mut wait = RTO;
        for sent in 1..=TRANSMISSIONS {
            // A socket without room loses a datagram, as the network might.
            let socket = socket(shared, flow)?;
            let _ = socket.try_send(shared.local_at(&socket, flow.id), &request, flow.remote);
            count(&shared.counters.stun_sent);
            if sent == TRANSMISSIONS {
                wait = RTO * LAST_WAIT_IN_RTO;
            }
            match tokio::time::timeout(wait, &mut answered).await {
                Ok(Ok(Ok(mapped))) => return Ok(mapped),
                Ok(Ok(Err(code))) => return Err(StunFailure::Refused(code)),
                Ok(Err(_)) => return Err(StunFailure::Closed),
                Err(_) => wait *= 2,
            }
        }
        Err(StunFailure::NoAnswer {
            was_answered: false,
        })
    }
}

/// Unguessable, so that nobody beside the way can answer.
fn transaction(random: &Random) -> TransactionId {
    let mut transaction = TransactionId::default();
    let octets = [random.number(), random.number()].map(u64::to_ne_bytes);
    for (place, octet) in transaction.iter_mut().zip(octets.into_iter().flatten()) {
        *place = octet;
    }
    transaction
}

/// Asks the peer of a flow again and again, until an answer does not come, refuses, or differs.
pub(crate) async fn keep_alive(
    shared: &Arc<Shared>,
    flow: &Flow,
    interval: Duration,
) -> StunFailure {
    let mut first = None;
    loop {
        let mapped = match shared.stun.ask(shared, flow).await {
            Ok(mapped) => mapped,
            Err(mut failure) => {
                if let StunFailure::NoAnswer { was_answered } = &mut failure {
                    *was_answered = first.is_some();
                }
                count(&shared.counters.stun_failures);
                debug!(peer = %flow.remote, flow = %flow.id, %failure, "a flow has failed");
                return failure;
            }
        };
        let before = *first.get_or_insert(mapped);
        if before != mapped {
            count(&shared.counters.stun_failures);
            debug!(peer = %flow.remote, flow = %flow.id, %before, after = %mapped, "a flow has failed");
            return StunFailure::AddressChanged {
                before,
                after: mapped,
            };
        }
        tokio::time::sleep(crate::connection::shortened(interval, &shared.random)).await;
    }
}

fn socket(shared: &Shared, flow: &Flow) -> Result<Arc<Socket>, StunFailure> {
    match shared.table.resolve(flow.id) {
        Some(Resolved::Socket(socket)) => Ok(socket),
        _ => Err(StunFailure::Closed),
    }
}

/// Forgets a transaction whose future has ended or was dropped.
struct Forget<'a>(&'a Stun, TransactionId);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.0.waiting).remove(&self.1);
    }
}

/// How many requests were answered within the second that runs.
#[derive(Debug)]
struct Pace {
    since: Instant,
    answered: u32,
}

impl Pace {
    fn admit(&mut self, now: Instant, limit: u32) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Pace {
                since: now,
                answered: 0,
            };
        }
        let admitted = self.answered < limit;
        self.answered = self.answered.saturating_add(1);
        admitted
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// RFC 5389 §7.1: where the path is not known, messages have no more than 548 octets over IPv4; a keep-alive has some dozens.
const LARGEST: usize = 548;
/// RFC 5389 §7.2.1: "RTO […] SHOULD be configurable and SHOULD have a default of 500 ms".
const RTO: Duration = Duration::from_millis(500);
/// `Rc`.
const TRANSMISSIONS: u32 = 7;
/// `Rm`.
const LAST_WAIT_IN_RTO: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_answered_in_a_second_than_is_allowed() {
        let start = Instant::now();
        let mut pace = Pace {
            since: start,
            answered: 0,
        };
        let at = |millis| start + Duration::from_millis(millis);
        let admitted = (0..1_000)
            .filter(|millis| pace.admit(at(*millis), 10))
            .count();
        assert_eq!(admitted, 10);
        assert!(pace.admit(at(1_000), 10));
    }

    #[test]
    fn transactions_differ() {
        let random = Random::new(None);
        let all: std::collections::HashSet<_> = (0..1_000).map(|_| transaction(&random)).collect();
        assert_eq!(all.len(), 1_000);
    }
}
