//! The four state machines of RFC 3261 §17, as changed by RFC 6026 and RFC 4320.
//!
//! A machine knows its state and nothing else: no message, no clock, no flow. It is told what happened and says what is to
//! be done. Each keeps two alarms, one for repeating and one for ending; the RFC's timer letters stand at the arms.

pub(crate) mod client_invite;
pub(crate) mod client_non_invite;
pub(crate) mod server_invite;
pub(crate) mod server_non_invite;

use crate::Timers;
use std::time::Duration;

/// What a machine wants done after an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reaction {
    /// Put the request, or the answer that came in or is the latest, on the wire.
    pub(crate) send: bool,
    /// Make a 100 Trying and put it on the wire.
    pub(crate) send_trying: bool,
    /// Acknowledge the refusal that came in.
    pub(crate) acknowledge: bool,
    /// Pass what came in to the transaction user.
    pub(crate) deliver: bool,
    /// Tell the transaction user.
    pub(crate) inform: Option<Notice>,
    /// The alarm for repeating: timers A, E, G, and the wait before 100.
    pub(crate) repeat: Alarm,
    /// The alarm for ending: timers B, D, F, H, I, J, K, L, M.
    pub(crate) end: Alarm,
}

/// What to do with an alarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Turn it off.
    Off,
    /// Set it.
    After(Duration),
}

/// What a transaction user has to be told beside messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Timer B or F fired.
    TimedOut,
    /// The flow failed.
    TransportFailed,
    /// An ACK came for a refusal.
    Acknowledged,
    /// Timer H fired.
    NotAcknowledged,
}

impl Reaction {
    /// Nothing is to be done.
    pub(crate) const NOTHING: Self = Self {
        send: false,
        send_trying: false,
        acknowledge: false,
        deliver: false,
        inform: None,
        repeat: Alarm::Keep,
        end: Alarm::Keep,
    };
}

/// Returns `base` doubled `times` times, at most `limit`.
fn doubled(base: Duration, times: u8, limit: Duration) -> Duration {
    let factor = 1_u32.checked_shl(u32::from(times)).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(limit)
}

/// Returns how long a wait is that only unreliable transports need: over the others it is zero, which ends the machine
/// at once.
fn unless_reliable(wait: Duration, reliable: bool) -> Option<Duration> {
    (!reliable && !wait.is_zero()).then_some(wait)
}

/// The alarms with which a client begins: repeat after T1 unless the transport is reliable, end after 64*T1.
fn client_start(timers: &Timers, reliable: bool) -> Reaction {
    Reaction {
        send: true,
        repeat: if reliable {
            Alarm::Off
        } else {
            Alarm::After(timers.t1)
        },
        end: Alarm::After(timers.transaction_timeout()),
        ..Reaction::NOTHING
    }
}
