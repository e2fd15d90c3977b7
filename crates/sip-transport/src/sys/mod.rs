//! What the operating system can do and safe Rust cannot ask for. The only unsafe code of the family.

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
mod arrivals;
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
mod linux;
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
pub(crate) use arrivals::Arrivals;
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
pub(crate) use linux::{Registered, next_report, register, report_undelivered, reported};

/// Whether several UDP sockets at one address share its peers: elsewhere `SO_REUSEPORT` gives all of them to one socket, or
/// is not there.
pub(crate) const DIVIDES_PEERS: bool =
    cfg!(all(target_os = "linux", not(feature = "force-portable")));

/// A datagram that did not arrive, as the network reported it.
#[cfg_attr(feature = "force-portable", allow(dead_code))]
pub(crate) struct Report {
    /// Where the datagram was to go.
    pub(crate) remote: std::net::SocketAddr,
    /// What the report means.
    pub(crate) kind: std::io::ErrorKind,
}

#[cfg(not(all(target_os = "linux", not(feature = "force-portable"))))]
mod portable {
    use super::Report;
    use std::io;
    use std::net::{SocketAddr, UdpSocket};
    use std::sync::Arc;
    use std::task::{Context, Poll, ready};
    use tokio::io::ReadBuf;

    /// A socket that tokio waits for.
    pub(crate) type Registered = Arc<tokio::net::UdpSocket>;

    /// Registers a socket with tokio.
    pub(crate) fn register(socket: Arc<UdpSocket>) -> io::Result<Registered> {
        Ok(Arc::new(tokio::net::UdpSocket::from_std(
            socket.try_clone()?,
        )?))
    }

    /// Waits for ever.
    pub(crate) async fn reported(_socket: Registered) {
        std::future::pending().await
    }

    /// Receives datagrams one by one.
    #[derive(Default)]
    pub(crate) struct Arrivals {
        _nothing: (),
    }

    impl Arrivals {
        /// Receives the next datagram into `buffer`: its length and its source.
        pub(crate) fn poll_next(
            &mut self,
            cx: &mut Context<'_>,
            socket: &Registered,
            buffer: &mut [u8],
        ) -> Poll<io::Result<(usize, SocketAddr)>> {
            let mut space = ReadBuf::new(buffer);
            let source = ready!(socket.poll_recv_from(cx, &mut space))?;
            Poll::Ready(Ok((space.filled().len(), source)))
        }
    }

    /// Does nothing: other systems do not say which datagram a report is about.
    pub(crate) fn report_undelivered(_socket: &UdpSocket, _v6: bool) -> io::Result<()> {
        Ok(())
    }

    /// Has nothing.
    pub(crate) fn next_report(_socket: &UdpSocket) -> io::Result<Option<Report>> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
#[cfg(not(all(target_os = "linux", not(feature = "force-portable"))))]
pub(crate) use portable::{
    Arrivals, Registered, next_report, register, report_undelivered, reported,
};
