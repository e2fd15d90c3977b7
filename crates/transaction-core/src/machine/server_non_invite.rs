//! The non-INVITE server transaction (RFC 3261 §17.2.2, RFC 4320 §4.1).

use super::{Alarm, Notice, Reaction, unless_reliable};
use crate::Timers;

/// The states of RFC 3261 figure 8.
///
/// ```text
///                                  |Request received
///                                  |pass to TU
///                                  V
///                            +-----------+
///                            |           |
///                            | Trying    |-------------+
///                            |           |             |
///                            +-----------+             |200-699 from TU
///                                |                     |send response
///                                |1xx from TU          |
///                                |send response        |
///                                |                     |
///             Request            V      1xx from TU    |
///             send response+-----------+send response  |
///                 +--------|           |--------+      |
///                 |        | Proceeding|        |      |
///                 +------->|           |<-------+      |
///          +<--------------|           |               |
///          |Trnsprt Err    +-----------+               |
///          |Inform TU            |                     |
///          |                     |                     |
///          |                     |200-699 from TU      |
///          |                     |send response        |
///          |  Request            V                     |
///          |  send response+-----------+               |
///          |      +--------|           |               |
///          |      |        | Completed |<--------------+
///          |      +------->|           |
///          +<--------------|           |
///          |Trnsprt Err    +-----------+
///          |Inform TU            |
///          |                     |Timer J fires
///          |                     |-
///          |                     V
///          |               +-----------+
///          +-------------->| Terminated|
///                          +-----------+
/// ```
///
/// RFC 4320 §4.1 adds: no 1xx but 100, and that not before a client's Timer E has reached T2; then it is owed.
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
    /// The request came again.
    Request,
    /// The user answers with 100.
    Provisional,
    /// The user answers with 200-699.
    Final,
    TransportError,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) state: State,
    /// RFC 4320 §4.1 forbids 100 over unreliable transports until the alarm has gone off.
    trying_allowed: bool,
}

impl Machine {
    pub(crate) fn start(timers: &Timers, reliable: bool) -> (Self, Reaction) {
        let repeat = Alarm::After(timers.non_invite_trying());
        let machine = Self {
            state: State::Trying,
            trying_allowed: reliable,
        };
        let end = Alarm::After(timers.transaction_timeout());
        (
            machine,
            Reaction {
                deliver: true,
                repeat,
                end,
                ..Reaction::NOTHING
            },
        )
    }

    pub(crate) fn on(&mut self, input: Input, timers: &Timers, reliable: bool) -> Reaction {
        match (self.state, input) {
            // RFC 4320 §4.1: "MUST respond to a non-INVITE request with a Status-Code of 100 if it has not otherwise
            // responded after the amount of time it takes a client transaction's Timer E to be reset to T2".
            (State::Trying, Input::Repeat) => {
                self.state = State::Proceeding;
                self.trying_allowed = true;
                Reaction {
                    send_trying: true,
                    repeat: Alarm::Off,
                    ..Reaction::NOTHING
                }
            }
            // §17.2.2: in Trying "any further request retransmissions are discarded"; in Proceeding the latest
            // provisional is sent again.
            (State::Proceeding, Input::Request) => Reaction {
                send: true,
                ..Reaction::NOTHING
            },
            (State::Trying | State::Proceeding, Input::Provisional) if self.trying_allowed => {
                self.state = State::Proceeding;
                Reaction {
                    send: true,
                    repeat: Alarm::Off,
                    ..Reaction::NOTHING
                }
            }
            // Timer J: "64*T1 seconds for unreliable transports, and zero seconds for reliable transports".
            (State::Trying | State::Proceeding, Input::Final) => {
                let wait = unless_reliable(timers.transaction_timeout(), reliable);
                self.state = if wait.is_some() {
                    State::Completed
                } else {
                    State::Terminated
                };
                Reaction {
                    send: true,
                    repeat: Alarm::Off,
                    end: wait.map_or(Alarm::Off, Alarm::After),
                    ..Reaction::NOTHING
                }
            }
            (State::Completed, Input::Request) => Reaction {
                send: true,
                ..Reaction::NOTHING
            },
            // An answer that comes after the client's Timer F reaches nobody (RFC 4320 §4.2), and a user that never answers
            // must not cost memory for ever.
            (State::Trying | State::Proceeding, Input::End) => {
                self.state = State::Terminated;
                Reaction::NOTHING
            }
            // Timer J.
            (State::Completed, Input::End) => {
                self.state = State::Terminated;
                Reaction::NOTHING
            }
            (State::Proceeding | State::Completed, Input::TransportError) => {
                self.state = State::Terminated;
                Reaction {
                    inform: Some(Notice::TransportFailed),
                    ..Reaction::NOTHING
                }
            }
            // "Any other final responses passed by the TU ... MUST be discarded while in the Completed state."
            _ => Reaction::NOTHING,
        }
    }
}
