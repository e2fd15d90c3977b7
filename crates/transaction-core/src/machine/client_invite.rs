//! The INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §8.4).

use super::{Alarm, Notice, Reaction, client_start, doubled, unless_reliable};
use crate::Timers;
use std::time::Duration;

/// The states of RFC 6026 figure 5.
///
/// ```text
///                                    |INVITE from TU
///                  Timer A fires     |INVITE sent      Timer B fires
///                  Reset A,          V                 or Transport Err.
///                  INVITE sent +-----------+           inform TU
///                    +---------|           |--------------------------+
///                    |         |  Calling  |                          |
///                    +-------->|           |-----------+              |
///   300-699                    +-----------+ 2xx       |              |
///   ACK sent                      |  |       2xx to TU |              |
///   resp. to TU                   |  |1xx              |              |
///   +-----------------------------+  |1xx to TU        |              |
///   |                                |                 |              |
///   |                1xx             V                 |              |
///   |                1xx to TU +-----------+           |              |
///   |                +---------|           |           |              |
///   |                |         |Proceeding |           |              |
///   |                +-------->|           |           |              |
///   |                          +-----------+ 2xx       |              |
///   |         300-699             |    |     2xx to TU |              |
///   |         ACK sent,  +--------+    +---------------+              |
///   |         resp. to TU|                             |              |
///   |                    |                             |              |
///   |                    V                             V              |
///   |              +-----------+                   +----------+       |
///   +------------->|           |Transport Err.     |          |       |
///                  | Completed |Inform TU          | Accepted |       |
///               +--|           |-------+           |          |-+     |
///       300-699 |  +-----------+       |           +----------+ |     |
///       ACK sent|    ^  |              |               |  ^     |     |
///               |    |  |              |               |  |     |     |
///               +----+  |              |               |  +-----+     |
///                       |Timer D fires |  Timer M fires|    2xx       |
///                       |-             |             - |    2xx to TU |
///                       +--------+     |   +-----------+              |
///                                V     V   V                          |
///                               +------------+                        |
///                               | Terminated |<-----------------------+
///                               +------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

/// What happens to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Repeat,
    End,
    Provisional,
    Success,
    Refusal,
    TransportError,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) state: State,
    repeats: u8,
}

impl Machine {
    /// §17.1.1.2: the INVITE is sent; Timer A starts with T1 over unreliable transports only, Timer B always.
    pub(crate) fn start(timers: &Timers, reliable: bool) -> (Self, Reaction) {
        (
            Self {
                state: State::Calling,
                repeats: 0,
            },
            client_start(timers, reliable),
        )
    }

    pub(crate) fn on(&mut self, input: Input, timers: &Timers, reliable: bool) -> Reaction {
        match (self.state, input) {
            // Timer A: "it is reset ... with a value of 2*T1" and doubles at every retransmission, without limit.
            (State::Calling, Input::Repeat) => {
                self.repeats = self.repeats.saturating_add(1);
                let wait = doubled(timers.t1, self.repeats, Duration::MAX);
                Reaction {
                    send: true,
                    repeat: Alarm::After(wait),
                    ..Reaction::NOTHING
                }
            }
            // Timer B: the user is told of a timeout, and no ACK is made.
            (State::Calling, Input::End) => self.fail(Notice::TimedOut),
            (State::Calling, Input::TransportError) => self.fail(Notice::TransportFailed),
            // §17.1.1.2: in Proceeding the client "SHOULD NOT retransmit the request any longer".
            (State::Calling | State::Proceeding, Input::Provisional) => {
                self.state = State::Proceeding;
                Reaction {
                    deliver: true,
                    repeat: Alarm::Off,
                    end: Alarm::Off,
                    ..Reaction::NOTHING
                }
            }
            // RFC 6026 §8.4: "MUST transition to the Accepted state, and Timer M MUST be started with a value of 64*T1";
            // over any transport. The ACK is the user's.
            (State::Calling | State::Proceeding, Input::Success) => {
                self.state = State::Accepted;
                let wait = timers.transaction_timeout();
                Reaction {
                    deliver: true,
                    repeat: Alarm::Off,
                    end: Alarm::After(wait),
                    ..Reaction::NOTHING
                }
            }
            // §17.1.1.2: "MUST generate an ACK request, even if the transport is reliable"; Timer D is at least 32 s over
            // unreliable transports and zero over the others.
            (State::Calling | State::Proceeding, Input::Refusal) => {
                let wait = unless_reliable(timers.d, reliable);
                self.state = if wait.is_some() {
                    State::Completed
                } else {
                    State::Terminated
                };
                Reaction {
                    acknowledge: true,
                    deliver: true,
                    repeat: Alarm::Off,
                    end: wait.map_or(Alarm::Off, Alarm::After),
                    ..Reaction::NOTHING
                }
            }
            // §17.1.1.2: the ACK is sent again, "but the newly received response MUST NOT be passed up".
            (State::Completed, Input::Refusal) => Reaction {
                acknowledge: true,
                ..Reaction::NOTHING
            },
            (State::Completed, Input::TransportError) => self.fail(Notice::TransportFailed),
            // Timer D; Timer M.
            (State::Completed | State::Accepted, Input::End) => {
                self.state = State::Terminated;
                Reaction::NOTHING
            }
            // RFC 6026 §7.2: "A 2xx response received while in the Accepted state MUST be passed to the TU".
            (State::Accepted, Input::Success) => Reaction {
                deliver: true,
                ..Reaction::NOTHING
            },
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
