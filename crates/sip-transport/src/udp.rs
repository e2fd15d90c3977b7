//! A UDP socket in the hands of a driver.

use crate::inbound::Stamped;
use crate::metrics::count;
use crate::plain_via;
use crate::shared::Shared;
use crate::stun;
use crate::table::Socket;
use crate::{
    Datagram, DatagramReceiver, DatagramSocket, Direction, Flow, FlowId, Inbound, Malformed,
    Payload, Transport,
};
use bytes::Bytes;
use sipora_message::Message;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;
use tracing::{debug, trace, warn};

/// Receives the messages of one UDP socket. Whoever holds it polls it; dropped, the socket closes.
pub struct UdpListener {
    id: FlowId,
    local: SocketAddr,
    serves: Serves,
    receiver: Box<dyn DatagramReceiver>,
    shared: Arc<Shared>,
    /// Filled and emptied within one call; a message is copied out at its exact size.
    buffer: Box<[u8]>,
    /// The address of ours that was last written to, and the flows there.
    written_to: Option<(IpAddr, FlowId)>,
    /// Errors of the socket since the last datagram.
    errors: u32,
    /// Until when a socket that keeps failing is left alone.
    pause: Option<Pin<Box<Sleep>>>,
}

impl UdpListener {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        socket: DatagramSocket,
        local: SocketAddr,
        serves: Serves,
    ) -> UdpListener {
        let id = shared.table.next_id();
        shared.table.add_socket(Socket {
            id,
            local,
            sender: socket.sender,
        });
        if serves == Serves::Everybody {
            shared.table.add_listener(Transport::Udp, local);
        }
        UdpListener {
            id,
            local,
            serves,
            receiver: socket.receiver,
            shared: shared.clone(),
            buffer: vec![0; LARGEST_DATAGRAM].into_boxed_slice(),
            written_to: None,
            errors: 0,
            pause: None,
        }
    }

    /// Returns the id of the flows over this socket: what [`FlowId::socket`] says of every one of them.
    pub fn id(&self) -> FlowId {
        self.id
    }

    /// Returns the address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next. May be cancelled without loss.
    pub async fn recv(&mut self) -> Inbound {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next. Keep-alives (empty datagrams, line ends, STUN) do not show; nor do responses that are not for us.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let datagram = match ready!(self.receiver.poll_recv(cx, &mut self.buffer)) {
                Ok(datagram) => datagram,
                Err(error) => {
                    count(&self.shared.counters.socket_errors);
                    self.errors += 1;
                    debug!(local = %self.local, %error, "socket error");
                    if self.errors >= MANY_ERRORS {
                        // A socket that only fails must not keep a processor busy.
                        warn!(local = %self.local, %error, "the socket keeps failing");
                        self.errors = 0;
                        self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                    }
                    continue;
                }
            };
            self.errors = 0;
            if let Some(inbound) = self.take(datagram) {
                return Poll::Ready(inbound);
            }
        }
    }

    /// Appends up to `limit` at once to `batch` and returns how many; pending when there is none.
    pub fn poll_recv_batch(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Inbound>,
        limit: usize,
    ) -> Poll<usize> {
        let mut taken = 0;
        while taken < limit {
            match self.poll_recv(cx) {
                Poll::Ready(inbound) => {
                    batch.push(inbound);
                    taken += 1;
                }
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(taken)
    }

    /// What peers who write to an address of ours have for a flow, where the socket is bound to a wildcard.
    fn id_at(&mut self, local: IpAddr) -> FlowId {
        match self.written_to {
            Some((ip, id)) if ip == local => id,
            _ => {
                let Shared {
                    addresses,
                    counters,
                    ..
                } = &*self.shared;
                let id = addresses.flow_at(self.id, local, counters);
                self.written_to = Some((local, id));
                id
            }
        }
    }

    fn flow(id: FlowId, remote: SocketAddr) -> Flow {
        Flow {
            id,
            transport: Transport::Udp,
            remote,
        }
    }

    fn take(&mut self, datagram: Datagram) -> Option<Inbound> {
        let (length, source, (id, local)) = match datagram {
            Datagram::Received {
                length,
                source,
                local: None,
            } => (length, source, (self.id, self.local)),
            Datagram::Received {
                length,
                source,
                local: Some(ip),
            } => {
                let local = SocketAddr::new(ip, self.local.port());
                (length, source, (self.id_at(ip), local))
            }
            Datagram::Unreachable { remote, kind } => {
                count(&self.shared.counters.unreachable);
                debug!(peer = %remote, flow = %self.id, %kind, "datagram did not arrive");
                let flow = Self::flow(self.id, remote);
                return Some(Inbound::new(flow, Payload::Unreachable(kind)));
            }
        };
        let counters = &self.shared.counters;
        count(&counters.datagrams_received);
        let bytes = self.buffer.get(..length).unwrap_or_default();
        trace!(peer = %source, flow = %id, length, "received");
        if is_keep_alive(bytes) {
            count(&counters.keep_alives_ignored);
            return None;
        }
        if stun::is_stun(bytes) {
            self.shared.stun.take(&self.shared, id, source, bytes);
            return None;
        }
        if self.serves == Serves::Answers && !is_answer(bytes) {
            count(&counters.requests_unwanted);
            return None;
        }
        let flow = Self::flow(id, source);
        self.shared.observe(Direction::In, &flow, local, bytes);
        if let Some(inbound) = self.take_plain(bytes, &flow) {
            return Some(inbound);
        }
        match Message::parse(Bytes::copy_from_slice(bytes), &self.shared.config.message) {
            Ok(message) => self.shared.enter(message, &flow, local),
            Err(error) => {
                count(&counters.malformed);
                debug!(peer = %source, flow = %id, %error, "malformed datagram");
                let malformed = Malformed::new(&error, source, false);
                Some(Inbound::new(flow, Payload::Malformed(malformed)))
            }
        }
    }

    /// Takes a request that could be stamped before it was parsed.
    fn take_plain(&self, bytes: &[u8], flow: &Flow) -> Option<Inbound> {
        let (stamped, added) = plain_via::stamped_datagram(bytes, flow.remote)?;
        let parsed = Message::parse(stamped, &self.shared.config.message).ok()?;
        // What is wrong with the datagram is found out, and stamped as far as it can be, as it stands.
        parsed.headers().via().ok()?;
        Some(Inbound {
            stamped: Stamped::With(added),
            ..Inbound::new(*flow, Payload::Message(parsed))
        })
    }
}

impl Drop for UdpListener {
    fn drop(&mut self) {
        self.shared.table.remove_socket(self.id);
        if self.serves == Serves::Everybody {
            self.shared
                .table
                .remove_listener(Transport::Udp, self.local);
        }
    }
}

impl fmt::Debug for UdpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpListener")
            .field("id", &self.id)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    /// Whoever sends to it.
    Everybody,
    /// Those whom we have asked something.
    Answers,
}

/// RFC 3261 §7.2: a Status-Line begins with the version, a Request-Line with a method.
fn is_answer(bytes: &[u8]) -> bool {
    bytes
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
}

/// Tells keep-alives from messages: nothing, line ends (RFC 5626 §4.4.1 sends them on streams, and devices on UDP too), or the
/// zero bytes that some devices send.
fn is_keep_alive(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| matches!(byte, b'\r' | b'\n' | b' ' | 0))
}

/// The largest payload that UDP's length field allows.
const LARGEST_DATAGRAM: usize = 65_535;

/// Errors in a row after which a socket is left alone for a while.
const MANY_ERRORS: u32 = 64;

/// That while.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_zeros_and_nothing_are_keep_alives() {
        for keep_alive in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b"\n"] {
            assert!(is_keep_alive(keep_alive), "{keep_alive:?}");
        }
        assert!(!is_keep_alive(b"\r\nOPTIONS sip:a SIP/2.0\r\n"));
    }

    #[test]
    fn answers_begin_with_the_version() {
        assert!(is_answer(b"SIP/2.0 200 OK\r\n"));
        assert!(is_answer(b"sip/2.0 200 OK\r\n"));
        assert!(!is_answer(b"OPTIONS sip:a SIP/2.0\r\n"));
        assert!(!is_answer(b"SIP"));
    }
}
