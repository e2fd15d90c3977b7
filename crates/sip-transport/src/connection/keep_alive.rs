//! Finding out whether the peer is still there (RFC 5626 §4.4.1): a ping now and then, and its pong in time.

use super::{Link, PING};
use crate::CloseReason;
use crate::metrics::count;
use crate::random::Random;
use ::bytes::Bytes;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How often a connection is pinged, and what came back.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    pings: watch::Sender<Option<Pings>>,
    /// Whether a pong is waited for.
    waiting: Mutex<bool>,
    answered: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pings {
    every: Duration,
    /// Nobody has said that the peer answers. "A UA that did not register using outbound registration cannot expect a CRLF in
    /// response" (RFC 5626 §4.4) until there was one.
    is_attempt: bool,
}

impl KeepAlive {
    pub(super) fn new(interval: Option<Duration>) -> KeepAlive {
        KeepAlive {
            pings: watch::Sender::new(interval.map(Pings::expected)),
            waiting: Mutex::new(false),
            answered: Notify::new(),
        }
    }

    /// Pings this often from now on, or no more.
    pub(crate) fn set(&self, interval: Option<Duration>) {
        self.change(interval.map(Pings::expected));
    }

    /// Pings this often from now on, and expects pongs once there was one. Leaves alone what was set for good.
    pub(crate) fn attempt(&self, every: Duration) {
        let is_set = |pings: Pings| !pings.is_attempt;
        if !self.pings.borrow().is_some_and(is_set) {
            let is_attempt = true;
            self.change(Some(Pings { every, is_attempt }));
        }
    }

    /// What is as it was begins no new wait.
    fn change(&self, pings: Option<Pings>) {
        self.pings.send_if_modified(|current| {
            let is_other = *current != pings;
            *current = pings;
            is_other
        });
    }

    /// A pong has come. Tells whether it was waited for; one that was not means nothing.
    pub(super) fn pong(&self) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let was_waiting = std::mem::take(&mut *waiting);
        if was_waiting {
            self.answered.notify_one();
        }
        was_waiting
    }

    fn give_up(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn expect_pong(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl Pings {
    fn expected(every: Duration) -> Pings {
        let is_attempt = false;
        Pings { every, is_attempt }
    }

    /// Time to the next ping. Whether the peer answers at all is found out at once, before it matters.
    fn wait(self, has_pinged: bool, random: &Random) -> Duration {
        match self.is_attempt && !has_pinged {
            true => shortened(self.every.min(FIRST_ATTEMPT), random),
            false => shortened(self.every, random),
        }
    }
}

impl Link<'_> {
    /// Pings as often as it was asked for, until a pong does not come.
    pub(super) async fn keep_alive(&self) -> CloseReason {
        let keep_alive = &self.connection.keep_alive;
        let mut changes = keep_alive.pings.subscribe();
        let (mut has_pinged, mut has_answered) = (false, false);
        loop {
            let pings = *changes.borrow_and_update();
            let wait = async {
                match pings {
                    Some(pings) => {
                        tokio::time::sleep(pings.wait(has_pinged, &self.shared.random)).await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                // The sender is part of the connection, which outlives its task.
                _ = changes.changed() => continue,
            }
            has_pinged = true;
            keep_alive.expect_pong();
            count(&self.shared.counters.pings_sent);
            if self.connection.try_send(Bytes::from_static(PING)).is_err() {
                // There was no room, so that the connection ends for that.
                std::future::pending::<()>().await;
            }
            // "If a pong is not received within 10 seconds ... the client MUST treat the flow as failed."
            let pong = keep_alive.answered.notified();
            if timeout(self.config().pong_timeout, pong).await.is_ok() {
                has_answered = true;
                continue;
            }
            let is_expected = |pings: Pings| has_answered || !pings.is_attempt;
            if changes.borrow().is_some_and(is_expected) {
                return CloseReason::NoPong;
            }
            // Line ends that come from now on answer nothing.
            keep_alive.give_up();
        }
    }
}

/// How soon a ping is tried on a peer that nobody knows to answer.
const FIRST_ATTEMPT: Duration = Duration::from_secs(2);

/// Tells the line ends of pongs from those of pings: a ping that the network has cut in two looks like two pongs, and two pongs
/// look like a ping.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    /// The last frame was a single line end, which a framer counts as the first half of a ping.
    counted: bool,
    /// A line end that answered nothing: it may be the first half of a ping.
    loose: bool,
}

/// What line ends mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The peer wants a pong.
    Ping,
    /// A pong that was waited for, or nothing.
    Other,
}

impl LineEnds {
    /// A single line end.
    pub(super) fn single(&mut self, keep_alive: &KeepAlive) -> Meaning {
        self.counted = true;
        self.one(keep_alive)
    }

    /// What a framer counts as two: its half may have been our pong.
    pub(super) fn double(&mut self, keep_alive: &KeepAlive) -> Meaning {
        if std::mem::take(&mut self.counted) {
            return self.one(keep_alive);
        }
        self.loose = false;
        Meaning::Ping
    }

    /// Something else came.
    pub(super) fn message(&mut self) {
        *self = LineEnds::default();
    }

    fn one(&mut self, keep_alive: &KeepAlive) -> Meaning {
        if keep_alive.pong() {
            self.loose = false;
            return Meaning::Other;
        }
        self.loose = !self.loose;
        if self.loose {
            Meaning::Other
        } else {
            Meaning::Ping
        }
    }
}

/// RFC 5626 §4.4.1: each wait is a random one between 80 and 100 % of the interval, so that those who began together, when a
/// server came back, do not stay together.
pub(crate) fn shortened(interval: Duration, random: &Random) -> Duration {
    let per_mille = u32::try_from(800 + random.number() % 201).unwrap_or(1_000);
    // What does not fit would be some hundred million years.
    interval
        .checked_mul(per_mille)
        .map_or(interval, |product| product / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pongs_one_after_the_other_are_no_ping() {
        let (keep_alive, mut line_ends) = (KeepAlive::new(None), LineEnds::default());
        for _ in 0..3 {
            // As a framer tells them: every second one completes a double line end.
            keep_alive.expect_pong();
            assert_eq!(line_ends.single(&keep_alive), Meaning::Other);
            assert!(!keep_alive.pong(), "it has been taken");
            keep_alive.expect_pong();
            assert_eq!(line_ends.double(&keep_alive), Meaning::Other);
            assert!(!keep_alive.pong(), "it has been taken");
        }
    }

    #[test]
    fn a_ping_is_one_whether_it_was_cut_or_not() {
        let (keep_alive, mut line_ends) = (KeepAlive::new(None), LineEnds::default());
        assert_eq!(line_ends.double(&keep_alive), Meaning::Ping);
        assert_eq!(line_ends.single(&keep_alive), Meaning::Other);
        assert_eq!(line_ends.double(&keep_alive), Meaning::Ping);
        // Behind a pong, so that a framer counts the wrong halves.
        keep_alive.expect_pong();
        assert_eq!(line_ends.single(&keep_alive), Meaning::Other);
        assert_eq!(line_ends.double(&keep_alive), Meaning::Other);
        assert_eq!(line_ends.single(&keep_alive), Meaning::Ping);
    }

    #[test]
    fn an_interval_beyond_all_reason_is_none_that_overflows() {
        let random = Random::new(None);
        assert!(shortened(Duration::MAX, &random) <= Duration::MAX);
        assert_eq!(shortened(Duration::ZERO, &random), Duration::ZERO);
    }

    #[test]
    fn waits_are_between_80_and_100_percent_and_differ() {
        let interval = Duration::from_secs(100);
        let random = Random::new(None);
        let waits: Vec<_> = (0..100).map(|_| shortened(interval, &random)).collect();
        let range = Duration::from_secs(80)..=interval;
        assert!(waits.iter().all(|wait| range.contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }
}
