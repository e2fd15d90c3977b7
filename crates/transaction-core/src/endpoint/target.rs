//! Where a request goes.

use sipora_message::Uri;
use sipora_transport::{Destination, Flow};
use std::net::SocketAddr;
use std::time::Duration;

/// Names where a request is to go.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Target {
    /// A URI to be located by RFC 3263: the next hop, which is the first Route or else the Request-URI.
    Uri(Uri),
    /// Addresses that are known already, in the order in which they are tried.
    Destinations(Vec<Destination>),
    /// A flow that is there already, and no other.
    Flow(Flow),
}

impl Target {
    /// Names an address over UDP.
    pub fn udp(address: SocketAddr) -> Self {
        Self::address(sipora_transport::Transport::Udp, address)
    }

    /// Names an address over TCP.
    pub fn tcp(address: SocketAddr) -> Self {
        Self::address(sipora_transport::Transport::Tcp, address)
    }

    /// Names an address over a transport that needs no server name.
    pub fn address(transport: sipora_transport::Transport, address: SocketAddr) -> Self {
        Self::Destinations(vec![Destination {
            transport,
            address,
            server_name: None,
        }])
    }
}

/// Settings of one request.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RequestOptions {
    /// Time for all attempts together, from now to the final answer (for an INVITE: to the first answer). Default 64*T1,
    /// which is also what the last attempt gets at most.
    pub deadline: Option<Duration>,
    /// Timer C (RFC 3261 §16.6 step 11): how long an INVITE may ring after its latest provisional answer other than 100
    /// before it is cancelled. A proxy sets it to [`TIMER_C`](Self::TIMER_C). Default
    /// [`Timers::ringing`](crate::Timers::ringing), for user agents.
    pub timer_c: Option<Duration>,
    /// Offers to keep the way of the request alive (`keep` in our Via, RFC 6223). An answer whose top Via has a value there takes
    /// that: then keep-alives MUST come, at least as often as the value says, in seconds, where it is not 0. To send them is for
    /// who has offered it. Default no.
    pub offers_keep_alives: bool,
}

impl RequestOptions {
    /// Sets the time for all attempts together.
    pub fn with_deadline(deadline: Duration) -> Self {
        Self {
            deadline: Some(deadline),
            ..Self::default()
        }
    }

    /// Returns what a proxy forwards with.
    pub fn forwarding() -> Self {
        Self {
            timer_c: Some(Self::TIMER_C),
            ..Self::default()
        }
    }

    /// What Timer C is set to: it "MUST be larger than 3 minutes" (RFC 3261 §16.6 step 11), and a user agent server that
    /// needs longer speaks up every minute (§13.3.1.1).
    pub const TIMER_C: Duration = Duration::from_secs(185);
}
