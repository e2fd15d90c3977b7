//! The seam between this crate and a network, real or simulated.

use crate::Now;
use async_trait::async_trait;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};

/// Makes sockets and tells the time.
///
/// [`TokioNetwork`](crate::TokioNetwork) is the operating system's; the test kit has a simulated one. Everything above is
/// written against this trait and so runs on either.
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Reads the clock. Never runs backwards in `instant`, and agrees with tokio's timers.
    fn now(&self) -> Now;

    /// Returns the address of ours that packets to `remote` leave from.
    fn local_ip_for(&self, remote: SocketAddr) -> io::Result<IpAddr>;

    /// Binds `sockets` (at least one) UDP sockets to one address, among which the network divides the peers; one socket alone
    /// where it cannot.
    ///
    /// An address that any other socket has, of this or another process, is an error. Port 0 lets the network choose.
    fn bind_datagram(&self, local: SocketAddr, sockets: usize) -> io::Result<Vec<DatagramSocket>>;

    /// Listens for connections. An occupied address is an error; port 0 lets the network choose.
    fn listen(&self, local: SocketAddr) -> io::Result<Box<dyn StreamListener>>;

    /// Connects, from the address `local` if given. The caller bounds the time.
    async fn connect(
        &self,
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<Box<dyn Stream>>;
}

/// Holds the two ends of a UDP socket: who receives is one, who sends are many.
#[derive(Debug)]
pub struct DatagramSocket {
    /// The sending end.
    pub sender: Arc<dyn DatagramSender>,
    /// The receiving end.
    pub receiver: Box<dyn DatagramReceiver>,
}

/// Sends datagrams.
pub trait DatagramSender: fmt::Debug + Send + Sync + 'static {
    /// Returns the address that the socket is bound to.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Sends one datagram, or fails at once: `WouldBlock` when there is no room.
    fn try_send_to(&self, bytes: &[u8], remote: SocketAddr) -> io::Result<()>;

    /// Sends one datagram from an address of ours. Only a socket that is bound to a wildcard is asked for it, and only for an
    /// address at which it has received ([`Datagram::Received`]).
    fn try_send_from(&self, _local: IpAddr, bytes: &[u8], remote: SocketAddr) -> io::Result<()> {
        self.try_send_to(bytes, remote)
    }
}

/// Receives datagrams.
pub trait DatagramReceiver: fmt::Debug + Send + 'static {
    /// Receives one datagram into `buffer`; what does not fit is lost.
    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Datagram>>;
}

/// Tells what came out of a UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Datagram {
    /// The first `length` bytes of the buffer came from `source`.
    Received {
        /// The number of bytes.
        length: usize,
        /// The sender.
        source: SocketAddr,
        /// The address of ours that they came to: where the socket is bound to a wildcard, and the network tells.
        local: Option<IpAddr>,
    },
    /// The network reported that a datagram to `remote` did not arrive.
    Unreachable {
        /// Where it was to go.
        remote: SocketAddr,
        /// What was reported.
        kind: io::ErrorKind,
    },
}

/// Accepts connections.
#[async_trait]
pub trait StreamListener: fmt::Debug + Send + 'static {
    /// Returns the address that it listens on.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Accepts one connection. May be cancelled without loss.
    async fn accept(&mut self) -> io::Result<Box<dyn Stream>>;
}

/// Is a connection: bytes in order, both ways.
pub trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static {
    /// Returns our address.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Returns the peer's address.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
}
