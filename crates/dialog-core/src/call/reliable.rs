//! Provisional answers of ours that are sent reliably (RFC 3262 §3).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sipora_message::{HeaderName, PrintedResponse, RAck, StatusCode};

use crate::Body;

/// The reliable provisional answers to one INVITE of the peer's, one after the other.
///
/// ```text
///             1xx with RSeq                again after T1, 2*T1, 4*T1 …
///                                            ┌──┐
///   Idle ─────────────────────────────────▶  ▼  │
///    ▲                                    Unacknowledged ───▶ (64*T1: the INVITE is refused)
///    │                                       │
///    └───────────────────────────────────────┘
///             PRACK; the next that waits, or the 2xx, follows
/// ```
///
/// "The UAS MUST NOT send a second reliable provisional response until the first is acknowledged", and "it is RECOMMENDED"
/// for the later ones: there is one at a time, always.
#[derive(Debug, Default)]
pub(super) struct Reliable {
    /// The number and status of the one sent last, acknowledged or not.
    last: Option<(u32, StatusCode)>,
    sent: Option<Sent>,
    /// Its PRACK was refused for what it carried, and may come once more without (RFC 6337 §2.3).
    again: bool,
    /// Those that the application has sent meanwhile.
    waiting: VecDeque<Answer>,
    /// The 2xx that waits for the PRACK.
    pub(super) accept: Option<Answer>,
}

/// An answer of the application's.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Option<Body>,
    pub(super) headers: Vec<(HeaderName, String)>,
}

/// What a reliable answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    Nothing,
    Offer,
    Answer,
}

#[derive(Debug)]
struct Sent {
    /// None once the INVITE has its final answer: it is repeated no more, but may still be acknowledged.
    response: Option<Box<PrintedResponse>>,
    next: Instant,
    interval: Duration,
    ends: Instant,
    carries: Carries,
}

/// A reliable answer to a re-INVITE that was refused then, and whose PRACK may still come.
pub(super) struct Refused {
    pub(super) rack: RAck,
    /// It carried an offer, which the PRACK answers.
    pub(super) has_offered: bool,
}

/// What the time asks for.
#[derive(Debug)]
pub(super) enum ReliableDue {
    Nothing,
    Repeat(PrintedResponse),
    NotAcknowledged,
}

impl Reliable {
    /// The number that the next has: "greater by exactly one"; the first is drawn by `first` from 1 to 2^31-1. None when they
    /// are used up: "RSeq numbers MUST NOT wrap around".
    pub(super) fn next_number(&self, first: impl FnOnce() -> u32) -> Option<u32> {
        match self.last {
            Some((last, _)) => last.checked_add(1),
            None => Some(first()),
        }
    }

    pub(super) fn has_sent(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.sent.is_some()
    }

    /// Says whether a 2xx has to wait: "any of the unacknowledged reliable provisional responses contained a session
    /// description".
    pub(super) fn holds_2xx(&self) -> bool {
        let sent = self.sent.as_ref();
        sent.is_some_and(|sent| sent.carries != Carries::Nothing)
    }

    /// Lets one wait for its turn; says whether there was room.
    pub(super) fn wait(&mut self, answer: Answer) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.push_back(answer);
        true
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Answer> {
        self.waiting.iter()
    }

    pub(super) fn next_waiting(&mut self) -> Option<Answer> {
        self.waiting.pop_front()
    }

    /// "A UAS MUST NOT send new reliable provisional responses ... after sending a final response".
    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Takes the answer that has just been sent.
    pub(super) fn sent(
        &mut self,
        now: Instant,
        t1: Duration,
        rseq: u32,
        response: PrintedResponse,
        carries: Carries,
    ) {
        self.last = Some((rseq, response.status()));
        self.again = false;
        self.sent = Some(Sent {
            response: Some(Box::new(response)),
            next: now + t1,
            interval: t1,
            ends: now + t1 * 64,
            carries,
        });
    }

    /// Stops the repetition since the INVITE has its final answer: "it SHOULD NOT continue to retransmit the unacknowledged
    /// reliable provisional responses, but it MUST be prepared to process PRACK requests for those".
    pub(super) fn stop(&mut self) {
        self.waiting.clear();
        if let Some(sent) = &mut self.sent {
            sent.response = None;
        }
    }

    /// What the answer with this number carries, if a PRACK for it is awaited.
    pub(super) fn awaited(&self, rseq: u32) -> Option<Carries> {
        self.last.filter(|(last, _)| *last == rseq)?;
        match &self.sent {
            Some(sent) => Some(sent.carries),
            None if self.again => Some(Carries::Nothing),
            None => None,
        }
    }

    /// Takes the PRACK.
    pub(super) fn acknowledged(&mut self) {
        self.again = false;
        self.sent = None;
    }

    /// The status of the one sent last.
    pub(super) fn status(&self) -> Option<StatusCode> {
        self.last.map(|(_, status)| status)
    }

    /// The number of one that is not acknowledged.
    pub(super) fn unacknowledged(&self) -> Option<u32> {
        self.sent.as_ref()?;
        self.last.map(|(rseq, _)| rseq)
    }

    /// The PRACK was refused for its offer.
    pub(super) fn may_come_again(&mut self) {
        self.again = true;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let sent = self.sent.as_ref()?;
        sent.response.as_ref()?;
        Some(sent.next.min(sent.ends))
    }

    pub(super) fn due(&mut self, now: Instant) -> ReliableDue {
        let Some(sent) = &mut self.sent else {
            return ReliableDue::Nothing;
        };
        let Some(response) = &sent.response else {
            return ReliableDue::Nothing;
        };
        if sent.ends <= now {
            return ReliableDue::NotAcknowledged;
        }
        if sent.next > now {
            return ReliableDue::Nothing;
        }
        // No cap at T2: "retransmissions of PRACK take place independently of reception of 1xx".
        sent.interval *= 2;
        sent.next = now + sent.interval;
        ReliableDue::Repeat((**response).clone())
    }
}

/// Reliable answers of an application that wait for the PRACK of the one before; more are refused. Nobody has as much to say
/// in one round trip.
const MAX_WAITING: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use sipora_message::{Method, Request, Response, Uri};

    const T1: Duration = Duration::from_millis(500);

    fn ringing() -> PrintedResponse {
        let request = Request::builder(Method::Invite, &Uri::parse("sip:h").unwrap())
            .via("SIP/2.0/UDP h;branch=z9hG4bK1")
            .from("<sip:a@h>;tag=1")
            .to("<sip:h>")
            .call_id("c")
            .cseq(1)
            .build()
            .unwrap();
        Response::for_request(&request, StatusCode::RINGING)
            .to_tag("b")
            .print()
            .unwrap()
    }

    #[test]
    fn a_reliable_answer_is_repeated_ever_more_slowly_until_64_t1_have_passed() {
        let start = Instant::now();
        let mut reliable = Reliable::default();
        reliable.sent(start, T1, 7, ringing(), Carries::Nothing);
        let mut sent = Vec::new();
        loop {
            let now = reliable.deadline().unwrap();
            match reliable.due(now) {
                ReliableDue::Repeat(_) => sent.push((now - start).as_millis()),
                ReliableDue::NotAcknowledged => {
                    assert_eq!(now - start, T1 * 64);
                    break;
                }
                ReliableDue::Nothing => panic!("it was due"),
            }
        }
        assert_eq!(sent, [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    }

    #[test]
    fn numbers_go_up_by_one_and_end() {
        let mut reliable = Reliable::default();
        assert_eq!(reliable.next_number(|| 41), Some(41));
        reliable.sent(Instant::now(), T1, 41, ringing(), Carries::Nothing);
        assert_eq!(reliable.next_number(|| 1), Some(42));
        reliable.sent(Instant::now(), T1, u32::MAX, ringing(), Carries::Nothing);
        assert_eq!(reliable.next_number(|| 1), None);
    }

    #[test]
    fn only_the_last_number_is_awaited_and_only_once() {
        let mut reliable = Reliable::default();
        reliable.sent(Instant::now(), T1, 41, ringing(), Carries::Answer);
        assert_eq!(reliable.awaited(40), None);
        assert_eq!(reliable.awaited(41), Some(Carries::Answer));
        assert!(reliable.holds_2xx());
        reliable.acknowledged();
        assert_eq!(reliable.awaited(41), None);
        assert!(!reliable.holds_2xx());
        reliable.may_come_again();
        assert_eq!(reliable.awaited(41), Some(Carries::Nothing));
    }

    #[test]
    fn after_the_final_answer_nothing_is_repeated_and_a_prack_still_matches() {
        let start = Instant::now();
        let mut reliable = Reliable::default();
        reliable.sent(start, T1, 41, ringing(), Carries::Nothing);
        reliable.stop();
        assert_eq!(reliable.deadline(), None);
        assert!(matches!(
            reliable.due(start + T1 * 65),
            ReliableDue::Nothing
        ));
        assert_eq!(reliable.awaited(41), Some(Carries::Nothing));
    }
}
