//! The life of a registration: a state machine without I/O and without a clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RegistrationState;
use super::expiry::{Backoff, Jitter, refresh_after};
use crate::Error;

/// Decides when a binding is refreshed and what a failure means.
///
/// ```text
///                 +---------------------- Granted ----------------------+
///                 v                                                     |
///  new --> +------------+   Send (timer or caller)   +------------+     |
///          | Registered | -------------------------> | Refreshing | ----+
///          +------------+                            +------------+
///                 |           +----------+   temporary |   ^  |
///                 |           | Retrying | <-----------+   |  | permanent
///                 |           +----------+ ---- Send ------+  v
///                 |                |                       +--------+
///                 | Removed        | Removed               | Failed |
///                 v                v                       +--------+
///          +--------------------------+      Stop in any state
///          |       Unregistered       |   --------------------> Stopped
///          +--------------------------+      Refused in any state
///                                          --------------------> Failed
/// ```
///
/// The end of the flow that the binding was made over (`FlowLost`) leads from Registered to Recovering, and on to Refreshing
/// after a second at most. It does so from Retrying too, where the failure was that nothing was reached.
///
/// Failed, Unregistered and Stopped end it: no input changes them, and no timer runs.
#[derive(Debug)]
pub(crate) struct Machine {
    backoff: Backoff,
    /// Failures since the last 2xx.
    failures: u32,
    /// Flows that ended one after the other, none of which served for long.
    brief_flows: u32,
    granted: u32,
    /// When the registrar forgets the binding, counted from when we asked: never later than it does.
    bound_until: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Registered {
        refresh_at: Instant,
    },
    Refreshing,
    Retrying {
        retry_at: Instant,
        /// The registrar said nothing: a new flow may change that.
        was_unreached: bool,
    },
    Recovering {
        retry_at: Instant,
    },
    Ended,
}

/// What happens to a registration.
#[derive(Debug)]
pub(crate) enum Input {
    /// A REGISTER for our contact goes out.
    Send,
    /// It was answered with 2xx.
    Granted {
        /// For how many seconds.
        seconds: u32,
        /// When it went out.
        asked_at: Instant,
    },
    /// It failed.
    Failed(Arc<Error>),
    /// The registrar refused our credentials to a query or a removal: it would to a REGISTER for our contact as well.
    Refused(Arc<Error>),
    /// Our binding was removed, at our wish.
    Removed,
    /// The flow ended over which the registrar reaches us, having served for this long.
    FlowLost {
        /// Since the binding was made over it.
        age: Duration,
    },
    /// The coordinator or the handle is going away.
    Stop,
}

impl Machine {
    /// Begins with the first 2xx.
    pub(crate) fn new(
        now: Instant,
        seconds: u32,
        asked_at: Instant,
        backoff: Backoff,
        jitter: Jitter,
    ) -> (Self, RegistrationState) {
        let mut machine = Machine {
            backoff,
            failures: 0,
            brief_flows: 0,
            granted: 0,
            bound_until: now,
            phase: Phase::Refreshing,
        };
        let state = machine.grant(now, seconds, asked_at, jitter);
        (machine, state)
    }

    /// Names the time at which the next REGISTER is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Registered { refresh_at } => Some(refresh_at),
            Phase::Retrying { retry_at, .. } | Phase::Recovering { retry_at } => Some(retry_at),
            Phase::Refreshing | Phase::Ended => None,
        }
    }

    /// Tells how long the binding still lasts.
    pub(crate) fn expires_in(&self, now: Instant) -> Duration {
        self.bound_until.saturating_duration_since(now)
    }

    /// Takes an input and gives the state that it leads to; `None` when it changes nothing.
    pub(crate) fn on(
        &mut self,
        now: Instant,
        input: Input,
        jitter: Jitter,
    ) -> Option<RegistrationState> {
        match (self.phase, input) {
            (Phase::Ended, _) => None,
            (_, Input::Stop) => Some(self.end(RegistrationState::Stopped)),
            (_, Input::Refused(error)) => Some(self.end(RegistrationState::Failed(error))),
            (_, Input::Removed) => {
                self.bound_until = now;
                Some(self.end(RegistrationState::Unregistered))
            }
            (
                Phase::Registered { .. } | Phase::Retrying { .. } | Phase::Recovering { .. },
                Input::Send,
            ) => {
                self.phase = Phase::Refreshing;
                let expires_in = self.expires_in(now);
                Some(RegistrationState::Refreshing { expires_in })
            }
            (Phase::Refreshing, Input::Granted { seconds, asked_at }) => {
                Some(self.grant(now, seconds, asked_at, jitter))
            }
            (Phase::Refreshing, Input::Failed(error)) if error.is_temporary() => {
                self.failures = self.failures.saturating_add(1);
                let retry_in = self
                    .backoff
                    .wait(self.failures, error.retry_after(), jitter);
                self.phase = Phase::Retrying {
                    retry_at: now + retry_in,
                    was_unreached: error.response().is_none(),
                };
                let expires_in = self.expires_in(now);
                Some(RegistrationState::Retrying {
                    error,
                    retry_in,
                    expires_in,
                })
            }
            (Phase::Refreshing, Input::Failed(error)) => {
                Some(self.end(RegistrationState::Failed(error)))
            }
            (
                Phase::Registered {
                    refresh_at: planned,
                }
                | Phase::Retrying {
                    retry_at: planned,
                    was_unreached: true,
                },
                Input::FlowLost { age },
            ) => Some(self.recover(now, age, planned, jitter)),
            (Phase::Refreshing, Input::Send)
            | (
                Phase::Registered { .. } | Phase::Retrying { .. } | Phase::Recovering { .. },
                Input::Granted { .. } | Input::Failed(_),
            )
            // A registrar that asked to be left alone is, whatever it did to the connection.
            | (
                Phase::Refreshing | Phase::Retrying { .. } | Phase::Recovering { .. },
                Input::FlowLost { .. },
            ) => None,
        }
    }

    fn grant(
        &mut self,
        now: Instant,
        seconds: u32,
        asked_at: Instant,
        jitter: Jitter,
    ) -> RegistrationState {
        let after = refresh_after(seconds, jitter);
        // The time counts from when we asked, but a slow answer to a short grant must not end in a busy loop.
        let earliest = now + after.min(Duration::from_secs(1));
        let refresh_at = (asked_at + after).max(earliest);
        self.failures = 0;
        self.granted = seconds;
        self.bound_until = asked_at + Duration::from_secs(seconds.into());
        self.phase = Phase::Registered { refresh_at };
        RegistrationState::Registered {
            expires: seconds,
            refresh_in: refresh_at.saturating_duration_since(now),
        }
    }

    /// RFC 5626 §4.5: a flow that failed is replaced at once, and after failures with back-off. A flow that served for less
    /// than the back-off's base counts as one: a registrar that closes every connection is not to be registered with in a
    /// loop.
    fn recover(
        &mut self,
        now: Instant,
        age: Duration,
        planned: Instant,
        jitter: Jitter,
    ) -> RegistrationState {
        if age >= self.backoff.base {
            self.brief_flows = 0;
        }
        let wait = match self.brief_flows {
            0 => jitter.between(Duration::ZERO, SPREAD),
            failures => self.backoff.wait(failures, None, jitter),
        };
        self.brief_flows = self.brief_flows.saturating_add(1);
        let retry_at = planned.min(now + wait);
        self.phase = Phase::Recovering { retry_at };
        RegistrationState::FlowLost {
            retry_in: retry_at.saturating_duration_since(now),
            expires_in: self.expires_in(now),
        }
    }

    fn end(&mut self, state: RegistrationState) -> RegistrationState {
        self.phase = Phase::Ended;
        state
    }
}

/// What those whose connections a server took along when it ended spread over.
const SPREAD: Duration = Duration::from_secs(1);

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
