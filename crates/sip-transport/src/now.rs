//! The clock's two readings.

use std::time::{Instant, SystemTime};

/// Holds one reading of the clock: monotonic for timers, wall for what people and peers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic reading: everything that is compared or waited for.
    pub instant: Instant,
    /// The wall clock's reading: nonces, logs, what is stored.
    pub wall: SystemTime,
}

impl Now {
    /// Reads the operating system's clocks.
    ///
    /// Cores take their time as an argument; drivers ask [`Network::now`](crate::Network::now) instead, which is virtual
    /// on a simulated network.
    pub fn from_system() -> Now {
        Now {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}
