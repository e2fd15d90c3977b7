//! What can go wrong with sockets and flows.

use crate::Transport;
use std::io;
use std::net::SocketAddr;

/// Says that a listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {transport} {address}: {source}")]
pub struct BindError {
    /// The transport.
    pub transport: Transport,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// The operating system's answer.
    pub source: io::Error,
}

impl BindError {
    /// Tells whether another socket, of this or another process, has the address.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// Says why no flow to a destination could be had.
///
/// It is cloneable because everyone who waited for the same connection is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This build does not speak the transport, or its settings lack what it needs.
    #[error("transport {0} is not supported")]
    Unsupported(Transport),
    /// No UDP socket of the address's family is bound.
    #[error("no UDP socket is bound that can reach {0}")]
    NoSocket(SocketAddr),
    /// The connection did not come about in time.
    #[error("no connection to {0} in time")]
    Timeout(SocketAddr),
    /// The handshake failed: the peer's certificate is not believed or not for the name, or the peer does not speak the
    /// transport.
    #[error("no {transport} with {address}: {message}")]
    Handshake {
        /// The transport.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        message: String,
    },
    /// [`max_connections`](crate::TransportConfig::max_connections) is reached.
    #[error("too many connections")]
    TooManyConnections,
    /// The transports have been shut down.
    #[error("the transports are shut down")]
    Shutdown,
    /// The operating system refused: connection refused, no route, no permission.
    #[error("cannot connect to {address}: {message}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The operating system's words.
        message: String,
    },
}

/// Says why a message was not taken for sending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The flow is closed, or never was one of these transports'.
    #[error("the flow is closed")]
    Closed,
    /// The peer reads too slowly; the flow has been cut off.
    #[error("the peer reads too slowly; the connection was cut off")]
    Full,
    /// The datagram is larger than the network takes (RFC 3261 §18.1.1 has TCP for that).
    #[error("the datagram is too large")]
    TooLarge,
    /// The operating system refused: no route, no permission, unreachable.
    #[error("cannot send: {0}")]
    Io(io::ErrorKind),
}
