//! Where a request is to go.

use crate::Transport;
use std::fmt;
use std::net::SocketAddr;

/// Holds one place to send a request to, as location (RFC 3263) yields it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The transport.
    pub transport: Transport,
    /// The address.
    pub address: SocketAddr,
    /// The name that a TLS certificate must carry (RFC 5922 §4), and that a WebSocket server is asked for: the host of the URI
    /// before any DNS lookup.
    pub server_name: Option<Box<str>>,
}

impl Destination {
    /// Names a destination without a TLS name.
    pub fn new(transport: Transport, address: SocketAddr) -> Destination {
        Destination {
            transport,
            address,
            server_name: None,
        }
    }

    /// Names a destination over UDP.
    pub fn udp(address: SocketAddr) -> Destination {
        Destination::new(Transport::Udp, address)
    }

    /// Names a destination over TCP.
    pub fn tcp(address: SocketAddr) -> Destination {
        Destination::new(Transport::Tcp, address)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport, self.address)
    }
}
