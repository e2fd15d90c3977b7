//! The non-INVITE client transaction (RFC 3261 §17.1.2).

use super::{Alarm, Notice, Reaction, client_start, doubled, unless_reliable};
use crate::Timers;

/// The states of RFC 3261 figure 6.
///
/// ```text
///                                   |Request from TU
///                                   |send request
///               Timer E             V
///               send request  +-----------+
///                   +---------|           |-------------------+
///                   |         |  Trying   |  Timer F          |
///                   +-------->|           |  or Transport Err.|
///                             +-----------+  inform TU        |
///                200-699         |  |                         |
///                resp. to TU     |  |1xx                      |
///                +---------------+  |resp. to TU              |
///                |                  |                         |
///                |   Timer E        V       Timer F           |
///                |   send req +-----------+ or Transport Err. |
///                |  +---------|           | inform TU         |
///                |  |         |Proceeding |------------------>|
///                |  +-------->|           |-----+             |
///                |            +-----------+     |1xx          |
///                |              |      ^        |resp to TU   |
///                | 200-699      |      +--------+             |
///                | resp. to TU  |                             |
///                |              |                             |
///                |              V                             |
///                |            +-----------+                   |
///                |            |           |                   |
///                |            | Completed |                   |
///                +----------->|           |                   |
///                             +-----------+                   |
///                                |   |                        |
///                                +---+ Timer K                |
///                                      -                      |
///                                      V                      |
///                             +------------+                  |
///                             | Terminated |<-----------------+
///                             +------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

/// What happens to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Repeat,
    End,
    Provisional,
    Final,
    TransportError,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) state: State,
    repeats: u8,
}

impl Machine {
    /// §17.1.2.2: the request is sent; Timer F starts always, Timer E with T1 over unreliable transports.
    pub(crate) fn start(timers: &Timers, reliable: bool) -> (Self, Reaction) {
        (
            Self {
                state: State::Trying,
                repeats: 0,
            },
            client_start(timers, reliable),
        )
    }

    pub(crate) fn on(&mut self, input: Input, timers: &Timers, reliable: bool) -> Reaction {
        match (self.state, input) {
            // Timer E: "the timer is reset, but this time with a value of MIN(2*T1, T2)", and so on.
            (State::Trying, Input::Repeat) => {
                self.repeats = self.repeats.saturating_add(1);
                let wait = doubled(timers.t1, self.repeats, timers.t2);
                Reaction {
                    send: true,
                    repeat: Alarm::After(wait),
                    ..Reaction::NOTHING
                }
            }
            // "If Timer E fires while in the Proceeding state ... Timer E will be reset with a value of T2 seconds."
            (State::Proceeding, Input::Repeat) => Reaction {
                send: true,
                repeat: Alarm::After(timers.t2),
                ..Reaction::NOTHING
            },
            (State::Trying | State::Proceeding, Input::End) => self.fail(Notice::TimedOut),
            (State::Trying | State::Proceeding, Input::TransportError) => {
                self.fail(Notice::TransportFailed)
            }
            (State::Trying | State::Proceeding, Input::Provisional) => {
                self.state = State::Proceeding;
                Reaction {
                    deliver: true,
                    ..Reaction::NOTHING
                }
            }
            // "Timer K ... T4 seconds for unreliable transports, and zero seconds for reliable transports."
            (State::Trying | State::Proceeding, Input::Final) => {
                let wait = unless_reliable(timers.t4, reliable);
                self.state = if wait.is_some() {
                    State::Completed
                } else {
                    State::Terminated
                };
                Reaction {
                    deliver: true,
                    repeat: Alarm::Off,
                    end: wait.map_or(Alarm::Off, Alarm::After),
                    ..Reaction::NOTHING
                }
            }
            // Timer K.
            (State::Completed, Input::End) => {
                self.state = State::Terminated;
                Reaction::NOTHING
            }
            // Completed "exists to buffer any additional response retransmissions".
            _ => Reaction::NOTHING,
        }
    }

    fn fail(&mut self, notice: Notice) -> Reaction {
        self.state = State::Terminated;
        Reaction {
            inform: Some(notice),
            repeat: Alarm::Off,
            end: Alarm::Off,
            ..Reaction::NOTHING
        }
    }
}
