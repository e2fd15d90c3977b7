//! What a message came over, and what an answer goes back over.

use crate::Transport;
use std::fmt;
use std::net::SocketAddr;

/// Names a flow: a UDP socket of ours, or one stream connection.
///
/// It carries its generation: ids are numbered through and never used twice by one [`Transports`](crate::Transports), so
/// the id of a closed connection never resolves to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u64);

impl FlowId {
    /// Names a flow by its number. For tests of what lies above the transport, and for stores that keep flows.
    pub const fn from_u64(number: u64) -> FlowId {
        FlowId(number)
    }

    /// Returns the number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Names the socket or connection alone. The ids of a UDP socket that is bound to a wildcard differ by the address of ours
    /// that peers write to; for all others this is the same id.
    pub const fn socket(self) -> FlowId {
        FlowId(self.0 & NUMBER)
    }

    /// Names a socket's flows over the address of ours that is remembered at a place.
    pub(crate) fn at(self, place: u16) -> FlowId {
        FlowId(self.0 & NUMBER | u64::from(place) << NUMBER.count_ones())
    }

    /// Returns the place of our address; zero where the socket has one only, or the system chooses.
    pub(crate) fn place(self) -> u16 {
        (self.0 >> NUMBER.count_ones()) as u16
    }
}

/// The bits that number sockets and connections through: a million a second for nine years. Those above are for the place of
/// an address of ours.
const NUMBER: u64 = (1 << 48) - 1;

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow-{}", self.0 & NUMBER)?;
        match self.place() {
            0 => Ok(()),
            place => write!(f, ".{place}"),
        }
    }
}

/// Holds a way to one peer: for UDP one of our sockets, our address and the peer's, else a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The socket or connection. All UDP peers that write to one socket at one address share an id.
    pub id: FlowId,
    /// The transport.
    pub transport: Transport,
    /// The peer's address.
    pub remote: SocketAddr,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.transport, self.remote, self.id)
    }
}

/// Tells why a flow ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed the connection between two messages. Reported once the requests that it sent have their answers, or
    /// after [`half_closed_timeout`](crate::TransportConfig::half_closed_timeout).
    ByPeer,
    /// The peer closed the connection in the middle of a message.
    InMessage,
    /// We closed it: [`Transports::close`](crate::Transports::close) or a shutdown.
    ByUs,
    /// Nothing came or went for [`idle_timeout`](crate::TransportConfig::idle_timeout), or a peer that connected to us did
    /// not begin within [`first_byte_timeout`](crate::TransportConfig::first_byte_timeout).
    Idle,
    /// A message was begun and not finished within
    /// [`partial_message_timeout`](crate::TransportConfig::partial_message_timeout).
    PartialMessage,
    /// The peer reads too slowly: the bound of what may wait was reached, or nothing was taken for
    /// [`write_timeout`](crate::TransportConfig::write_timeout).
    SlowReader,
    /// A ping of ours was not answered within [`pong_timeout`](crate::TransportConfig::pong_timeout): the peer, or a NAT on the
    /// way, has forgotten the connection (RFC 5626 §4.4.1).
    NoPong,
    /// The peer was to send keep-alives and has been silent for longer than that
    /// ([`Transports::expect_keep_alives`](crate::Transports::expect_keep_alives)): it has gone, or a NAT on the way has forgotten
    /// the connection.
    Silent,
    /// The bytes are no SIP messages, or where a message ends cannot be known.
    Framing,
    /// The operating system reported an error, such as a reset.
    Io(std::io::ErrorKind),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::ByPeer => f.write_str("closed by the peer"),
            CloseReason::InMessage => f.write_str("closed by the peer in the middle of a message"),
            CloseReason::ByUs => f.write_str("closed by us"),
            CloseReason::Idle => f.write_str("idle for too long"),
            CloseReason::PartialMessage => {
                f.write_str("a message was begun and not finished in time")
            }
            CloseReason::SlowReader => f.write_str("the peer reads too slowly"),
            CloseReason::NoPong => f.write_str("a ping was not answered"),
            CloseReason::Silent => f.write_str("no keep-alive came"),
            CloseReason::Framing => f.write_str("the bytes cannot be divided into messages"),
            CloseReason::Io(kind) => write!(f, "{kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flows_of_a_socket_differ_by_our_address_and_share_its_number() {
        let socket = FlowId::from_u64(7);
        assert_eq!((socket.place(), socket.socket()), (0, socket));
        let there = socket.at(3);
        assert_ne!(there, socket);
        assert_eq!((there.place(), there.socket()), (3, socket));
        assert_eq!(there.at(u16::MAX).at(0), socket);
        assert_eq!(format!("{socket} {there}"), "flow-7 flow-7.3");
    }
}
