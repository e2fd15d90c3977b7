//! What the operating system can do and safe Rust cannot ask for. The only unsafe code of the family.

#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
mod arrivals;
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
mod linux;
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
mod local;
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
pub(crate) use arrivals::Arrivals;
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
pub(crate) use linux::{Registered, next_report, register, report_undelivered, reported};
#[cfg(all(target_os = "linux", not(feature = "force-portable")))]
pub(crate) use local::{send_from, tell_local};

/// Whether several UDP sockets at one address share its peers: elsewhere `SO_REUSEPORT` gives all of them to one socket, or
/// is not there.
pub(crate) const DIVIDES_PEERS: bool =
    cfg!(all(target_os = "linux", not(feature = "force-portable")));

/// A datagram that has arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) length: usize,
    pub(crate) source: std::net::SocketAddr,
    /// The address of ours that it came to, where the system was asked to tell.
    pub(crate) local: Option<std::net::IpAddr>,
}

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
    use super::{Arrived, Report};
    use std::io;
    use std::net::{IpAddr, SocketAddr, UdpSocket};
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
    pub(crate) struct Arrivals {
        _nothing: (),
    }

    impl Arrivals {
        /// Does not know our addresses, whatever is asked for.
        pub(crate) fn new(_tells_local: bool) -> Arrivals {
            Arrivals { _nothing: () }
        }

        /// Receives the next datagram into `buffer`.
        pub(crate) fn poll_next(
            &mut self,
            cx: &mut Context<'_>,
            socket: &Registered,
            buffer: &mut [u8],
        ) -> Poll<io::Result<Arrived>> {
            let mut space = ReadBuf::new(buffer);
            let source = ready!(socket.poll_recv_from(cx, &mut space))?;
            Poll::Ready(Ok(Arrived {
                length: space.filled().len(),
                source,
                local: None,
            }))
        }
    }

    /// Does nothing: each system has a way of its own.
    pub(crate) fn tell_local(_socket: &UdpSocket, _v6: bool) -> io::Result<()> {
        Ok(())
    }

    /// Sends from the address that the system chooses.
    pub(crate) fn send_from(
        socket: &UdpSocket,
        _local: IpAddr,
        bytes: &[u8],
        remote: SocketAddr,
    ) -> io::Result<usize> {
        socket.send_to(bytes, remote)
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
    Arrivals, Registered, next_report, register, report_undelivered, reported, send_from,
    tell_local,
};
