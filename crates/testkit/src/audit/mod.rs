//! Watches messages for what RFC 3261 forbids, however a test came to send them.
//!
//! Every [`SimNetwork`](crate::SimNetwork) has an [`Auditor`] that sees all its packets, and
//! [`for_each_seed`](crate::for_each_seed) fails a scenario that broke a rule. As an observer it sees what endpoints
//! on real sockets send, over every transport.

mod answers;
mod dialogs;
mod ledger;
mod requests;

use crate::Packet;
use ledger::{Ledger, Record};
use sipora_message::{Limits, Message};
use sipora_transport::{Direction, MessageObserver, Observed, Transport};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Names what is watched over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// What is sent is a whole message with all that every message needs (RFC 3261 §8.1.1).
    Readable,
    /// A branch has the magic cookie and names one request; only its ACK and CANCEL share it (§8.1.1.7).
    Branch,
    /// The top Via names the transport; a response carries the Via values of its request (§18.1.1, §8.2.6.2).
    Via,
    /// Every request has Max-Forwards, one less with each hop (§8.1.1.6, §16.6).
    MaxForwards,
    /// Content-Length is there on a stream, and true everywhere (§18.3, §20.14).
    ContentLength,
    /// The ACK of a refusal repeats its INVITE and takes To from the refusal; that of a 2xx has a branch of its own
    /// (§17.1.1.3, §13.2.2.4).
    Ack,
    /// A CANCEL repeats its request, which has had a provisional answer (§9.1).
    Cancel,
    /// What is sent again is the same octets, and is not sent again over a stream (§17.1.1.2, §17.1.2.2).
    Retransmission,
    /// A response answers a request, and copies From, To, Call-ID and CSeq (§8.2.6.2).
    Answer,
    /// There is one final answer, and nothing but it comes after it (§17.2).
    FinalAnswer,
    /// A request with a To tag names a dialog that was made (§12.2): the tags of both sides are kept.
    Dialog,
    /// The numbers of CSeq go up in each direction of a dialog (§12.2.1.1).
    Sequence,
    /// The route set of a confirmed dialog is kept (§12.2).
    RouteSet,
    /// Nothing new is said in a dialog by who has sent its BYE, or answered it (§15, RFC 5407 §2).
    AfterBye,
    /// A request that is no INVITE gets no 1xx but 100, and no 408 (RFC 4320 §4).
    NonInvite,
}

/// Tells of a broken rule.
#[derive(Debug, Clone)]
pub struct Violation {
    /// When, by the clock of whoever saw it.
    pub at: Duration,
    /// Which rule.
    pub rule: Rule,
    /// What is wrong.
    pub reason: String,
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// The start line.
    pub first_line: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        write!(
            f,
            "{at:.3}s {:?}: {} ({} > {}: {})",
            self.rule, self.reason, self.source, self.destination, self.first_line
        )
    }
}

/// Is one message on its way.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// When it was sent.
    pub at: Duration,
    /// By what.
    pub transport: Transport,
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> From<&'a Packet> for Sighting<'a> {
    fn from(packet: &'a Packet) -> Self {
        Self {
            at: packet.at,
            transport: packet.transport,
            source: packet.source,
            destination: packet.destination,
            bytes: &packet.bytes,
        }
    }
}

/// Watches messages in the order in which they are sent. It remembers the last 100,000 transactions.
#[derive(Debug, Default)]
pub struct Auditor {
    ledger: Mutex<Ledger>,
    began: OnceLock<Instant>,
}

/// Watches real traffic: what each endpoint that it observes sends, before any of it can arrive. Give the same auditor to
/// all of them, and it sees every message once.
impl MessageObserver for Auditor {
    fn on_message(&self, message: &Observed<'_>) {
        if message.direction == Direction::In {
            return;
        }
        let now = message.now.instant;
        let began = *self.began.get_or_init(|| now);
        self.see(Sighting {
            at: now.saturating_duration_since(began),
            transport: message.flow.transport,
            source: message.local,
            destination: message.flow.remote,
            bytes: message.bytes,
        });
    }
}

impl Auditor {
    /// Makes an auditor that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at one message.
    pub fn see(&self, sighting: Sighting<'_>) {
        let mut ledger = self.ledger();
        if ledger.is_off || sighting.bytes.iter().all(|byte| b"\r\n".contains(byte)) {
            return;
        }
        if sighting.transport == Transport::Udp && is_stun(sighting.bytes) {
            return;
        }
        ledger.seen += 1;
        let message = match Message::parse(sighting.bytes.to_vec(), &Limits::default()) {
            Ok(message) => message,
            Err(error) => return ledger.object(&sighting, Rule::Readable, error.to_string()),
        };
        if let Err(rejection) = message.check() {
            return ledger.object(&sighting, Rule::Readable, rejection.to_string());
        }
        length(&mut ledger, &sighting, &message);
        match message {
            Message::Request(request) => requests::see(&mut ledger, &sighting, request),
            Message::Response(response) => answers::see(&mut ledger, &sighting, &response),
        }
    }

    /// Lets an address send what it likes: a test's own peer that misbehaves.
    pub fn excuse(&self, address: IpAddr) {
        self.ledger().excused.insert(address);
    }

    /// Looks away from one rule that a test breaks on purpose.
    pub fn waive(&self, rule: Rule) {
        self.ledger().waived.insert(rule);
    }

    /// Looks away from everything.
    pub fn turn_off(&self) {
        self.ledger().is_off = true;
    }

    /// Returns how many messages were looked at.
    pub fn seen(&self) -> u64 {
        self.ledger().seen
    }

    /// Returns what was found, the first thousand.
    pub fn violations(&self) -> Vec<Violation> {
        self.ledger().violations.clone()
    }

    /// Panics when a rule was broken.
    pub fn assert_clean(&self) {
        let violations = self.violations();
        let Some(first) = violations.first() else {
            return;
        };
        panic!(
            "the auditor objects {} times, first: {first}",
            violations.len()
        );
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn length(ledger: &mut Ledger, sighting: &Sighting<'_>, message: &Message) {
    let stated = message.headers().content_length().ok().flatten();
    // The parser leaves out what lies beyond the body.
    let body = message.body().len() + sighting.bytes.len() - message.as_bytes().len();
    match stated {
        Some(stated) if stated as usize == body => {}
        Some(stated) => {
            let reason = format!("Content-Length is {stated} and the body {body}");
            ledger.object(sighting, Rule::ContentLength, reason);
        }
        None if sighting.transport.is_stream() => {
            let reason = "no Content-Length on a stream".to_owned();
            ledger.object(sighting, Rule::ContentLength, reason);
        }
        None => {}
    }
}

/// RFC 5626 §8: STUN shares SIP's UDP port. RFC 5389 §6: two zero bits, a length that is that of the rest, the magic cookie.
fn is_stun(bytes: &[u8]) -> bool {
    let Some((header, rest)) = bytes.split_at_checked(20) else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    header[0] < 2 && header[4..8] == [0x21, 0x12, 0xa4, 0x42] && length == rest.len()
}
