//! The operating system's network, through tokio.

use crate::network::{
    Datagram, DatagramReceiver, DatagramSender, DatagramSocket, Network, Stream, StreamListener,
};
use crate::{Now, sys};
use async_trait::async_trait;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Is the operating system's network.
///
/// - An occupied address is an error, also when its holder would share it.
/// - An IPv6 wildcard (`::`) takes IPv6 only; bind `0.0.0.0` beside it. So no address is ever an IPv4 address in IPv6
///   clothes, which no Via can carry.
/// - On Linux, what goes back to a peer that wrote to a UDP socket bound to a wildcard leaves from the address that the peer
///   wrote to; elsewhere from the one that the system chooses. Bind each address there.
/// - On Linux, ICMP errors name the peer that a datagram did not reach; elsewhere they are not reported.
/// - On Linux, several sockets at one UDP address share its peers (`SO_REUSEPORT`), each peer's datagrams going to one of
///   them; elsewhere there is one socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioNetwork {
    _private: (),
}

impl TokioNetwork {
    /// Makes the network. Its sockets must be made inside a tokio runtime.
    pub const fn new() -> TokioNetwork {
        TokioNetwork { _private: () }
    }
}

#[async_trait]
impl Network for TokioNetwork {
    fn now(&self) -> Now {
        // Tokio's clock is the system's unless a test has paused it, and then timers obey it.
        Now {
            instant: tokio::time::Instant::now().into_std(),
            wall: SystemTime::now(),
        }
    }

    fn local_ip_for(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        // Connecting a UDP socket sends nothing; it makes the kernel choose the route and with it the source address.
        let probe = std::net::UdpSocket::bind(wildcard(remote))?;
        probe.connect(remote)?;
        Ok(probe.local_addr()?.ip())
    }

    fn bind_datagram(&self, local: SocketAddr, sockets: usize) -> io::Result<Vec<DatagramSocket>> {
        let first = datagram(local)?;
        // The first is bound without SO_REUSEPORT, so that an address anybody has is refused, also when its holder would
        // share it. Only then is it opened to its siblings; there is no moment at which the address is free.
        first.bind(&local.into())?;
        let local = local_of(&first)?;
        let mut bound = vec![first];
        let sockets = if sys::DIVIDES_PEERS { sockets } else { 1 };
        if sockets > 1 {
            share_port(&bound[0])?;
        }
        for _ in 1..sockets {
            let sibling = datagram(local)?;
            share_port(&sibling)?;
            sibling.bind(&local.into())?;
            bound.push(sibling);
        }
        bound
            .into_iter()
            .map(|socket| into_datagram_socket(socket, local))
            .collect()
    }

    fn listen(&self, local: SocketAddr) -> io::Result<Box<dyn StreamListener>> {
        let socket = Socket::new(
            Domain::for_address(local),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A port whose last connections are in TIME_WAIT may be listened on again; on Unix this does not let two listen.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        socket.listen(BACKLOG)?;
        Ok(Box::new(TokioListener {
            listener: TcpListener::from_std(socket.into())?,
        }))
    }

    async fn connect(
        &self,
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<Box<dyn Stream>> {
        let socket = if remote.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(local) = local.filter(|ip| !ip.is_unspecified()) {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        let stream = socket.connect(remote).await?;
        prepare(&stream);
        Ok(Box::new(stream))
    }
}

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1_024;

/// Bytes asked for each UDP socket's receive buffer: a thousand REGISTER at once. The kernel may give less.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// Time without traffic after which the kernel probes whether the peer is still there, and the time between probes.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(30));

/// Time for which a peer may leave unacknowledged what was sent, before its connection counts as broken. Keep-alive does
/// not run then, and the kernel's own patience of a quarter of an hour would let request after request time out on a
/// connection that a NAT has forgotten: so it is less than the 32 s of a transaction.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

fn wildcard(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn datagram(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    if socket
        .recv_buffer_size()
        .is_ok_and(|size| size < RECEIVE_BUFFER)
    {
        // Best effort: a smaller buffer loses datagrams of a burst, which are retransmitted.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    Ok(socket)
}

#[cfg(unix)]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(unix))]
fn share_port(_socket: &Socket) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system does not divide a UDP port among sockets",
    ))
}

fn local_of(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no IP address"))
}

fn into_datagram_socket(socket: Socket, local: SocketAddr) -> io::Result<DatagramSocket> {
    let socket = Arc::new(UdpSocket::from(socket));
    sys::report_undelivered(&socket, local.is_ipv6())?;
    // Who is bound to one address knows it, and does not pay for being told.
    let tells_local = local.ip().is_unspecified();
    if tells_local {
        sys::tell_local(&socket, local.is_ipv6())?;
    }
    let registered = sys::register(socket.clone())?;
    let receiver = Box::new(TokioReceiver {
        reports: Box::pin(sys::reported(registered.clone())),
        arrivals: sys::Arrivals::new(tells_local),
        draining: false,
        registered,
        socket: socket.clone(),
    });
    let sender = Arc::new(TokioSender { socket, local });
    Ok(DatagramSocket { sender, receiver })
}

#[derive(Debug)]
struct TokioSender {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
}

impl DatagramSender for TokioSender {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn try_send_to(&self, bytes: &[u8], remote: SocketAddr) -> io::Result<()> {
        // The system call itself, as tokio's own would fail until it has once seen the socket writable.
        let (socket, remote) = (SockRef::from(&*self.socket), SockAddr::from(remote));
        match socket.send_to(bytes, &remote) {
            // A report about an earlier datagram fails the next call, whomever that is to, and is thereby forgotten; the
            // receiver finds its particulars in the error queue.
            Err(error) if is_late_report(&error) => socket.send_to(bytes, &remote),
            result => result,
        }
        .map(|_| ())
    }

    fn try_send_from(&self, local: IpAddr, bytes: &[u8], remote: SocketAddr) -> io::Result<()> {
        match sys::send_from(&self.socket, local, bytes, remote) {
            Err(error) if is_late_report(&error) => {
                sys::send_from(&self.socket, local, bytes, remote)
            }
            result => result,
        }
        .map(|_| ())
    }
}

fn is_late_report(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    ) || cfg!(target_os = "linux") && matches!(error.raw_os_error(), Some(EPROTO | ENOPROTOOPT))
}

/// Linux's words for a parameter problem and for a protocol that is unreachable.
const EPROTO: i32 = 71;
const ENOPROTOOPT: i32 = 92;

struct TokioReceiver {
    socket: Arc<UdpSocket>,
    registered: sys::Registered,
    arrivals: sys::Arrivals,
    /// Resolves when the error queue has something.
    reports: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The error queue may have more.
    draining: bool,
}

impl DatagramReceiver for TokioReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Datagram>> {
        loop {
            while self.draining {
                match sys::next_report(&self.socket) {
                    Ok(Some(report)) => {
                        return Poll::Ready(Ok(Datagram::Unreachable {
                            remote: report.remote,
                            kind: report.kind,
                        }));
                    }
                    Ok(None) => {}
                    Err(_) => self.draining = false,
                }
            }
            match self.arrivals.poll_next(cx, &self.registered, buffer) {
                Poll::Ready(Ok(arrived)) => {
                    return Poll::Ready(Ok(Datagram::Received {
                        length: arrived.length,
                        source: arrived.source,
                        local: arrived.local,
                    }));
                }
                Poll::Ready(Err(error)) if is_late_report(&error) => {
                    self.draining = true;
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            if self.reports.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Only then is the queue drained, so that what comes meanwhile wakes us again.
            self.reports = Box::pin(sys::reported(self.registered.clone()));
            self.draining = true;
        }
    }
}

impl fmt::Debug for TokioReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioReceiver")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct TokioListener {
    listener: TcpListener,
}

#[async_trait]
impl StreamListener for TokioListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn accept(&mut self) -> io::Result<Box<dyn Stream>> {
        let (stream, _) = self.listener.accept().await?;
        prepare(&stream);
        Ok(Box::new(stream))
    }
}

/// Sends messages at once, and lets the kernel notice peers that are gone.
fn prepare(stream: &TcpStream) {
    // Best effort, both: a connection that refuses has been reset and fails when it is read.
    let _ = stream.set_nodelay(true);
    let (time, interval) = KEEPALIVE;
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(interval));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

impl Stream for TcpStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::local_addr(self)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::peer_addr(self)
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_a_nat_forgot_ends_before_its_transaction_does() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        prepare(&stream);
        let patience = SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert!(
            patience.is_some_and(|patience| patience < Duration::from_secs(32)),
            "{patience:?}"
        );
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }
}
