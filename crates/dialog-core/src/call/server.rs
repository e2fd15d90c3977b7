//! An INVITE of the peer's, from its arrival until its ACK.

use std::time::{Duration, Instant};

use sipora_message::{Method, PrintedResponse, RAck, Request, StatusCode};
use sipora_transaction_core::ServerTransactionId;

use super::extensions::Support;
use super::reliable::{Reliable, ReliableDue};
use super::session::Held;

/// What became of an INVITE of the peer's (RFC 3261 §13.3.1).
///
/// ```text
///             provisional answers          2xx again after T1, 2*T1 … T2
///                ┌──┐                         ┌──┐
///                ▼  │        2xx              ▼  │         ACK
///   INVITE ──▶ Pending ────────────────▶  Accepted ─────────────────▶ (over)
///                 │                           │
///                 │ 3xx-6xx, CANCEL, BYE      │ 64*T1 without ACK
///                 ▼                           ▼
///              (refused)              (not acknowledged: BYE)
/// ```
#[derive(Debug)]
pub(super) enum ServerState {
    /// Without a final answer. The answer sent last is repeated every minute (§13.3.1.1); where it was reliable, another such
    /// follows after two and a half (RFC 3262 §3).
    Pending {
        provisional: Option<Box<PrintedResponse>>,
        repeat: Option<Instant>,
        gives_up: Instant,
    },
    Accepted(Box<Retransmission>),
}

/// The 2xx on its way: the transaction user repeats it, over any transport (§13.3.1.4).
#[derive(Debug)]
pub(super) struct Retransmission {
    pub(super) response: PrintedResponse,
    pub(super) next: Instant,
    interval: Duration,
    pub(super) ends: Instant,
    /// It carries an offer, whose answer comes in the ACK.
    pub(super) has_offer: bool,
}

/// An INVITE of the peer's.
#[derive(Debug)]
pub(super) struct InviteServer {
    pub(super) transaction: ServerTransactionId,
    /// Forgotten with the final answer.
    pub(super) request: Option<Box<Request>>,
    pub(super) cseq: u32,
    /// It began the call.
    pub(super) is_first: bool,
    pub(super) has_offer: bool,
    pub(super) state: ServerState,
    /// What the peer says of reliable provisional answers.
    pub(super) peer_reliable: Support,
    /// Those that were sent.
    pub(super) reliable: Option<Box<Reliable>>,
    /// When it has expired, without a final answer (§13.3.1).
    pub(super) expires: Option<Instant>,
    /// One of them carries the answer to the INVITE's offer, or the offer: no description follows in its answers.
    pub(super) has_described: bool,
    /// It changes nothing, and the application has not heard of it.
    pub(super) is_refresh: bool,
    /// The peer has sent another since: it is there, whether the ACK of this one comes or not.
    pub(super) is_overtaken: bool,
    /// The application has heard that it does not wait any more.
    pub(super) is_withdrawn: bool,
    /// What held before a reliable provisional answer that has no PRACK yet answered its offer.
    pub(super) before: Option<Box<Held>>,
}

/// What the time asks for.
#[derive(Debug)]
pub(super) enum Due {
    Nothing,
    /// The provisional answer, or the 2xx, once more.
    Repeat(PrintedResponse),
    /// Another provisional answer, sent reliably as the last was.
    Extend(StatusCode),
    /// "The invitation is considered to be expired" (§13.3.1).
    Expired,
    /// Nobody acknowledged the reliable provisional answer.
    NotPracked,
    /// It rang for too long.
    GivesUp,
    /// Nobody acknowledged.
    NotAcknowledged,
}

impl InviteServer {
    /// "If a reliable provisional response is the first reliable message sent back to the UAC, and the INVITE did not contain an
    /// offer, one MUST appear in that reliable provisional response" (RFC 3262 §5).
    pub(super) fn owes_offer(&self) -> bool {
        !self.has_offer && !self.has_described
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, ServerState::Pending { .. })
    }

    /// The reliable provisional answer whose PRACK may still come after the final answer: the UAS "MUST be prepared to process PRACK
    /// requests for those outstanding responses" (RFC 3262 §3).
    pub(super) fn late_prack(&self) -> Option<RAck> {
        let rseq = self.reliable.as_ref()?.unacknowledged()?;
        Some(RAck {
            rseq,
            cseq: self.cseq,
            method: Method::Invite,
        })
    }

    /// Its 2xx waits for a PRACK, or for the answer to an offer in one: both have their time.
    fn is_accepted(&self) -> bool {
        let reliable = self.reliable.as_deref();
        reliable.is_some_and(|reliable| reliable.accept.is_some())
    }

    /// It has had no answer but 100.
    pub(super) fn is_silent(&self) -> bool {
        let is_silent = matches!(
            self.state,
            ServerState::Pending {
                provisional: None,
                ..
            }
        );
        let reliable = self.reliable.as_deref();
        is_silent && !reliable.is_some_and(Reliable::has_sent)
    }

    /// Takes the provisional answer that has just been sent, unreliably.
    pub(super) fn rang(&mut self, now: Instant, response: PrintedResponse) {
        if let ServerState::Pending {
            provisional,
            repeat,
            ..
        } = &mut self.state
        {
            *provisional = Some(Box::new(response));
            *repeat = Some(now + PROVISIONAL_INTERVAL);
        }
    }

    /// Another was sent, reliably.
    pub(super) fn rang_reliably(&mut self, now: Instant) {
        if let ServerState::Pending {
            provisional,
            repeat,
            ..
        } = &mut self.state
        {
            *provisional = None;
            *repeat = Some(now + RELIABLE_INTERVAL);
        }
    }

    /// Takes the 2xx, whose repetition begins.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        response: PrintedResponse,
        has_offer: bool,
        t1: Duration,
    ) {
        self.request = None;
        if let Some(reliable) = &mut self.reliable {
            reliable.stop();
        }
        self.state = ServerState::Accepted(Box::new(Retransmission {
            response,
            next: now + t1,
            interval: t1,
            ends: now + t1 * 64,
            has_offer,
        }));
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            ServerState::Pending {
                repeat, gives_up, ..
            } => {
                let reliable = self.reliable.as_deref();
                let reliable = reliable.and_then(|reliable| reliable.deadline());
                let over = [self.expires, Some(*gives_up)];
                let over = over.into_iter().filter(|_| !self.is_accepted());
                let earlier = [*repeat, reliable].into_iter().chain(over);
                earlier.flatten().min()
            }
            ServerState::Accepted(sent) => Some(sent.next.min(sent.ends)),
        }
    }

    pub(super) fn due(&mut self, now: Instant, t2: Duration) -> Due {
        if let Some(reliable) = self.reliable.as_mut() {
            match reliable.due(now) {
                ReliableDue::Nothing => {}
                ReliableDue::Repeat(response) => return Due::Repeat(response),
                ReliableDue::NotAcknowledged => return Due::NotPracked,
            }
        }
        let is_accepted = self.is_accepted();
        let has_expired = !is_accepted && self.expires.is_some_and(|at| at <= now);
        match &mut self.state {
            ServerState::Pending { .. } if has_expired => Due::Expired,
            ServerState::Pending { gives_up, .. } if !is_accepted && *gives_up <= now => {
                Due::GivesUp
            }
            ServerState::Pending {
                provisional: Some(provisional),
                repeat: Some(repeat),
                ..
            } if *repeat <= now => {
                *repeat = now + PROVISIONAL_INTERVAL;
                Due::Repeat((**provisional).clone())
            }
            ServerState::Pending {
                repeat: Some(repeat),
                ..
            } if *repeat <= now => {
                *repeat = now + RELIABLE_INTERVAL;
                let last = self
                    .reliable
                    .as_ref()
                    .and_then(|reliable| reliable.status());
                last.map_or(Due::Nothing, Due::Extend)
            }
            ServerState::Accepted(sent) if sent.ends <= now => Due::NotAcknowledged,
            ServerState::Accepted(sent) if sent.next <= now => {
                sent.interval = (sent.interval * 2).min(t2);
                sent.next = now + sent.interval;
                Due::Repeat(sent.response.clone())
            }
            _ => Due::Nothing,
        }
    }
}

/// "The UAS SHOULD send a non-100 provisional response at every minute" (RFC 3261 §13.3.1.1), lest a proxy cancel.
pub(super) const PROVISIONAL_INTERVAL: Duration = Duration::from_secs(60);

/// "In which case the UAS SHOULD send provisional responses once every two and a half minutes" (RFC 3262 §3).
pub(super) const RELIABLE_INTERVAL: Duration = Duration::from_secs(150);

#[cfg(test)]
mod tests {
    use super::*;
    use sipora_message::{Response, Uri};

    #[test]
    fn a_2xx_is_repeated_from_t1_to_t2_until_64_t1_have_passed() {
        let start = Instant::now();
        let (t1, t2) = (Duration::from_millis(500), Duration::from_secs(4));
        let request = Request::builder(Method::Invite, &Uri::parse("sip:h").unwrap())
            .via("SIP/2.0/UDP h;branch=z9hG4bK1")
            .from("<sip:a@h>;tag=1")
            .to("<sip:h>")
            .call_id("c")
            .cseq(1)
            .build()
            .unwrap();
        let response = Response::for_request(&request, StatusCode::OK)
            .to_tag("b")
            .print()
            .unwrap();
        let mut server = InviteServer {
            transaction: transaction(),
            request: None,
            cseq: 1,
            is_first: true,
            has_offer: false,
            state: ServerState::Pending {
                provisional: None,
                repeat: None,
                gives_up: start,
            },
            peer_reliable: Support::No,
            reliable: None,
            expires: None,
            has_described: false,
            is_refresh: false,
            is_overtaken: false,
            is_withdrawn: false,
            before: None,
        };
        server.accept(start, response, true, t1);
        let mut sent = Vec::new();
        loop {
            let now = server.deadline().unwrap();
            match server.due(now, t2) {
                Due::Repeat(_) => sent.push((now - start).as_millis()),
                Due::NotAcknowledged => {
                    assert_eq!(now - start, Duration::from_secs(32));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sent[..5], [500, 1500, 3500, 7500, 11_500]);
        assert_eq!(sent.len(), 10);
    }

    fn transaction() -> ServerTransactionId {
        let mut layer = sipora_transaction_core::TransactionLayer::new(
            Default::default(),
            sipora_transaction_core::IdSource::from_number(1),
        );
        let invite = "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
            To: <sip:h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n";
        let message = sipora_message::Message::parse(invite, &Default::default()).unwrap();
        let flow = sipora_transport::Flow {
            id: sipora_transport::FlowId::from_u64(1),
            transport: sipora_transport::Transport::Udp,
            remote: "192.0.2.1:5060".parse().unwrap(),
        };
        let now = sipora_transport::Now::from_system();
        layer
            .handle_message(now, message, flow)
            .unwrap()
            .transaction
    }
}
