//! The INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §8.5 and §8.6).

use super::{Alarm, Notice, Reaction, doubled, unless_reliable};
use crate::Timers;

/// The states of RFC 6026 figure 7.
///
/// ```text
///                                      |INVITE
///                                      |pass INV to TU
///                   INVITE             V send 100 if TU won't in 200 ms
///                   send response+------------+
///                       +--------|            |--------+ 101-199 from TU
///                       |        |            |        | send response
///                       +------->|            |<-------+
///                                | Proceeding |
///                                |            |--------+ Transport Err.
///                                |            |        | Inform TU
///                                |            |<-------+
///                                +------------+
///                   300-699 from TU |    |2xx from TU
///                   send response   |    |send response
///                    +--------------+    +------------+
///                    |                                |
///   INVITE           V          Timer G fires         |
///   send response +-----------+ send response         |
///        +--------|           |--------+              |
///        |        |           |        |              |
///        +------->| Completed |<-------+      INVITE  |  Transport Err.
///                 |           |               -       |  Inform TU
///        +--------|           |----+          +-----+ |  +---+
///        |        +-----------+    | ACK      |     | v  |   v
///        |          ^   |          | -        |  +------------+
///        |          |   |          |          |  |            |---+ ACK
///        +----------+   |          |          +->|  Accepted  |   | to TU
///        Transport Err. |          |             |            |<--+
///        Inform TU      |          V             +------------+
///                       |      +-----------+        |  ^     |
///                       |      |           |        |  |     |
///                       |      | Confirmed |        |  +-----+
///                       |      |           |        |  2xx from TU
///         Timer H fires |      +-----------+        |  send response
///         -             |          |                |
///                       |          | Timer I fires  |
///                       |          | -              | Timer L fires
///                       |          V                | -
///                       |        +------------+     |
///                       |        |            |<----+
///                       +------->| Terminated |
///                                |            |
///                                +------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

/// What happens to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Repeat,
    End,
    /// The INVITE came again.
    Request,
    Ack,
    /// The user answers with 1xx.
    Provisional,
    /// The user answers with 2xx.
    Success,
    /// The user answers with 300-699.
    Refusal,
    TransportError,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) state: State,
    repeats: u8,
}

impl Machine {
    /// §17.2.1: the INVITE goes to the user, and 100 follows "unless it knows that the TU will generate a provisional or
    /// final response within 200 ms".
    pub(crate) fn start(timers: &Timers) -> (Self, Reaction) {
        let repeat = Alarm::After(timers.trying);
        (
            Self {
                state: State::Proceeding,
                repeats: 0,
            },
            Reaction {
                deliver: true,
                repeat,
                end: Alarm::After(timers.forgotten),
                ..Reaction::NOTHING
            },
        )
    }

    pub(crate) fn on(&mut self, input: Input, timers: &Timers, reliable: bool) -> Reaction {
        match (self.state, input) {
            (State::Proceeding, Input::Repeat) => Reaction {
                send_trying: true,
                repeat: Alarm::Off,
                ..Reaction::NOTHING
            },
            // "the most recent provisional response ... MUST be passed to the transport layer for retransmission".
            (State::Proceeding, Input::Request) => Reaction {
                send: true,
                ..Reaction::NOTHING
            },
            (State::Proceeding, Input::Provisional) => Reaction {
                send: true,
                repeat: Alarm::Off,
                end: Alarm::After(timers.forgotten),
                ..Reaction::NOTHING
            },
            // RFC 6026 §7.1: "MUST transition to the Accepted state and set Timer L to 64*T1".
            (State::Proceeding, Input::Success) => {
                self.state = State::Accepted;
                let wait = timers.transaction_timeout();
                Reaction {
                    send: true,
                    repeat: Alarm::Off,
                    end: Alarm::After(wait),
                    ..Reaction::NOTHING
                }
            }
            // "For unreliable transports, timer G is set to fire in T1 seconds"; Timer H "for all transports".
            (State::Proceeding, Input::Refusal) => {
                self.state = State::Completed;
                Reaction {
                    send: true,
                    repeat: unless_reliable(timers.t1, reliable).map_or(Alarm::Off, Alarm::After),
                    end: Alarm::After(timers.transaction_timeout()),
                    ..Reaction::NOTHING
                }
            }
            (State::Completed, Input::Request) => Reaction {
                send: true,
                ..Reaction::NOTHING
            },
            // Timer G: "reset with MIN(2*T1, T2) seconds", doubling up to T2.
            (State::Completed, Input::Repeat) => {
                self.repeats = self.repeats.saturating_add(1);
                let wait = doubled(timers.t1, self.repeats, timers.t2);
                Reaction {
                    send: true,
                    repeat: Alarm::After(wait),
                    ..Reaction::NOTHING
                }
            }
            // Timer I: "T4 seconds for unreliable transports, and zero seconds for reliable transports".
            (State::Completed, Input::Ack) => {
                let wait = unless_reliable(timers.t4, reliable);
                self.state = if wait.is_some() {
                    State::Confirmed
                } else {
                    State::Terminated
                };
                Reaction {
                    inform: Some(Notice::Acknowledged),
                    repeat: Alarm::Off,
                    end: wait.map_or(Alarm::Off, Alarm::After),
                    ..Reaction::NOTHING
                }
            }
            // Timer H: "the ACK was never received ... MUST indicate to the TU that a transaction failure has occurred".
            (State::Completed, Input::End) => {
                self.state = State::Terminated;
                Reaction {
                    inform: Some(Notice::NotAcknowledged),
                    repeat: Alarm::Off,
                    ..Reaction::NOTHING
                }
            }
            // Timer I; Timer L.
            (State::Confirmed | State::Accepted, Input::End) => {
                self.state = State::Terminated;
                Reaction::NOTHING
            }
            // RFC 6026 §7.1: "Any retransmission of the 2xx response passed from the TU ... MUST be passed to the
            // transport layer".
            (State::Accepted, Input::Success) => Reaction {
                send: true,
                ..Reaction::NOTHING
            },
            // RFC 6026 §7.1: "Any ACKs received from the network while in the Accepted state MUST be passed directly to
            // the TU and not absorbed."
            (State::Accepted, Input::Ack) => Reaction {
                deliver: true,
                ..Reaction::NOTHING
            },
            // RFC 6026 §7.1: "MUST NOT discard transaction state based only on encountering a non-recoverable transport
            // error when sending a response".
            (State::Proceeding | State::Completed | State::Accepted, Input::TransportError) => {
                Reaction {
                    inform: Some(Notice::TransportFailed),
                    ..Reaction::NOTHING
                }
            }
            _ => Reaction::NOTHING,
        }
    }
}
