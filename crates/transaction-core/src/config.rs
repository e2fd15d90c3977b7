//! Settings of the core: timers and caps.

use std::time::Duration;

/// Holds the timer values of RFC 3261 table 4 for one endpoint.
///
/// Every value belongs to the endpoint that it was given to; two endpoints in one process may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timers {
    /// Estimate of the round-trip time; base of timers A, B, E, F, G, H, J, L and M. Default 500 ms (RFC 3261 §17.1.1.1).
    pub t1: Duration,
    /// Longest interval between retransmissions of non-INVITE requests and INVITE answers. Default 4 s.
    pub t2: Duration,
    /// Longest time a message stays in the network; timers I and K. Default 5 s.
    pub t4: Duration,
    /// Timer D, how long an INVITE client answers repeated refusals over UDP. Default 32 s, the least that
    /// RFC 6026 §8.4 allows.
    pub d: Duration,
    /// How long the transaction user may stay silent before an INVITE is answered with 100. Default 200 ms (§17.2.1).
    pub trying: Duration,
    /// How long an INVITE waits for its user's next answer before the core refuses it with 408. Default 30 minutes: no
    /// phone rings for longer, and a user that queues calls answers 182 every minute (§13.3.1.1). A user that forgets a
    /// call must not cost memory for ever.
    pub forgotten: Duration,
    /// How long an INVITE of ours may ring after its latest provisional answer other than 100 before it is cancelled, where
    /// [`RequestOptions::timer_c`](crate::RequestOptions::timer_c) says nothing. Default 30 minutes: a user agent rings for as
    /// long as it likes, but a peer that vanished must not cost memory for ever.
    pub ringing: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            d: Duration::from_secs(32),
            trying: Duration::from_millis(200),
            forgotten: Duration::from_secs(30 * 60),
            ringing: Duration::from_secs(30 * 60),
        }
    }
}

impl Timers {
    /// Returns 64*T1: timers B, F, H, J, L and M.
    pub fn transaction_timeout(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// Returns the time after which a client's Timer E has been reset to T2, the moment at which RFC 4320 §4.1 wants
    /// a 100 to a non-INVITE request that has no answer yet (3.5 s with the defaults).
    pub fn non_invite_trying(&self) -> Duration {
        let mut interval = self.t1;
        let mut elapsed = Duration::ZERO;
        while interval < self.t2 && !interval.is_zero() {
            elapsed = elapsed.saturating_add(interval);
            interval = interval.saturating_mul(2);
        }
        elapsed
    }
}

/// Holds the settings of a [`TransactionLayer`](crate::TransactionLayer).
#[derive(Debug, Clone)]
pub struct Config {
    /// Timer values.
    pub timers: Timers,
    /// How long a target may stay silent before the next one is tried; `None` waits for the transaction timeout.
    /// Default 4 s: three retransmissions over UDP have been lost by then.
    pub silence: Option<Duration>,
    /// How long a target that failed is tried after the others of a request: one that could not be reached, was silent or
    /// answered 503; a 503 with a longer `Retry-After` is heeded, up to an hour. An answer ends it. `None` forgets failures at
    /// once. Default 30 s: long enough that not every request pays 4 s for a server that is down, and short enough that one
    /// that is back gets its share.
    pub avoid: Option<Duration>,
    /// Targets remembered as failed at once. Default 10,000, as many as connections: about a megabyte.
    pub max_avoided: usize,
    /// Requests larger than this leave over TCP although UDP was asked for (RFC 3261 §18.1.1). Default 1300 bytes.
    pub datagram_limit: usize,
    /// Server transactions that are kept at once, completed ones included; more are refused with a stateless 503.
    /// Default 500,000: at 32 s each that is 15,000 requests a second.
    pub max_server_transactions: usize,
    /// Requests of our own in flight at once; more are refused with [`SendError::Overloaded`](crate::SendError). An ACK and a
    /// BYE, which calls cannot do without, find room up to twice as many. Default 100,000.
    pub max_requests: usize,
    /// Client transactions kept at once, completed ones, CANCELs and attempts that were given up included; more requests are
    /// refused with [`SendError::Overloaded`](crate::SendError), an ACK and a BYE at twice as many. Default 500,000, as many as
    /// server transactions.
    pub max_client_transactions: usize,
    /// Targets that are tried for one request; the rest of a longer list is ignored. Default 16.
    pub max_targets: usize,
    /// `Max-Forwards` of the ACK and CANCEL that the core makes. Default 70 (RFC 3261 §8.1.1.6).
    pub max_forwards: u8,
    /// Seconds in the `Retry-After` of a 503 that the core sends for lack of room. Default 5.
    pub retry_after: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timers: Timers::default(),
            silence: Some(Duration::from_secs(4)),
            avoid: Some(Duration::from_secs(30)),
            max_avoided: 10_000,
            datagram_limit: 1300,
            max_server_transactions: 500_000,
            max_requests: 100_000,
            max_client_transactions: 500_000,
            max_targets: 16,
            max_forwards: 70,
            retry_after: 5,
        }
    }
}
