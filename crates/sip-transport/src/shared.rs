//! What the handles, the listeners and the connection tasks have in common.

use crate::inbound::Stamped;
use crate::local::LocalAddresses;
use crate::metrics::{Counters, count};
use crate::observer::Observer;
use crate::pace::Pace;
use crate::random::Random;
use crate::stun::Stun;
use crate::table::{Admission, Resolved, Socket, Table};
use crate::{
    Direction, Flow, FlowId, Inbound, Network, Observed, Payload, SentBy, Transport,
    TransportConfig, via,
};
use sipora_message::{Message, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tracing::debug;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) config: TransportConfig,
    pub(crate) table: Arc<Table>,
    pub(crate) counters: Counters,
    /// One for each shard of the driver; never empty.
    pub(crate) inbound: Box<[mpsc::Sender<Inbound>]>,
    pub(crate) addresses: LocalAddresses,
    pub(crate) observer: Observer,
    pub(crate) stun: Stun,
    pub(crate) random: Random,
    pub(crate) paces: Paces,
    /// True once there is to be no new connection.
    pub(crate) stopping: watch::Sender<bool>,
}

/// Of the log lines about what peers cause.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    /// Apart from those of one source, whose flood would hide that the table is full.
    pub(crate) refused_total: Pace,
    pub(crate) refused_per_source: Pace,
    pub(crate) handshakes: Pace,
    pub(crate) visits: Pace,
    pub(crate) slow_readers: Pace,
    pub(crate) idle: Pace,
    pub(crate) partial_messages: Pace,
    pub(crate) framing: Pace,
    pub(crate) pongs: Pace,
    pub(crate) silent: Pace,
    pub(crate) timed_out: Pace,
    pub(crate) dropped_datagrams: Pace,
}

impl Shared {
    pub(crate) fn admission(&self) -> Admission {
        Admission {
            total: self.config.max_connections,
            per_source: self.config.max_connections_per_source,
        }
    }

    /// Names the driver's shard that gets what comes in over a connection: always the same for one.
    pub(crate) fn shard_of(&self, flow: FlowId) -> Option<&mpsc::Sender<Inbound>> {
        self.inbound.get(self.index_of(flow))
    }

    pub(crate) fn index_of(&self, flow: FlowId) -> usize {
        let shards = self.inbound.len().max(1) as u64;
        usize::try_from(flow.as_u64() % shards).unwrap_or(0)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Shows bytes to whoever watches. Costs a look at a pointer where nobody does.
    #[inline]
    pub(crate) fn observe(
        &self,
        direction: Direction,
        flow: &Flow,
        local: SocketAddr,
        bytes: &[u8],
    ) {
        if self.observer.0.is_some() {
            self.show(direction, flow, local, bytes);
        }
    }

    #[cold]
    fn show(&self, direction: Direction, flow: &Flow, mut local: SocketAddr, bytes: &[u8]) {
        let Some(observer) = &self.observer.0 else {
            return;
        };
        if local.ip().is_unspecified() {
            local.set_ip(self.addresses.towards(flow.remote, &*self.network, self));
        }
        observer.on_message(&Observed {
            now: self.network.now(),
            direction,
            flow: *flow,
            local,
            bytes,
        });
    }

    /// Does what the transport owes a message that comes in: a request's top Via is stamped, a response that is not for us is
    /// discarded.
    pub(crate) fn enter(
        &self,
        message: Message,
        flow: &Flow,
        local: SocketAddr,
    ) -> Option<Inbound> {
        let (message, stamped) = match message {
            Message::Request(request) => match via::stamped(&request, flow.remote) {
                Some(stamped) => {
                    let received = Stamped::Replaced(request.into_bytes());
                    (Message::Request(stamped), received)
                }
                None => (Message::Request(request), Stamped::Not),
            },
            Message::Response(response) if !self.is_ours(&response, flow.transport, local) => {
                count(&self.counters.responses_misdirected);
                debug!(peer = %flow.remote, flow = %flow.id, "response discarded: its top Via is not ours");
                return None;
            }
            response => (response, Stamped::Not),
        };
        Some(Inbound {
            stamped,
            ..Inbound::new(*flow, Payload::Message(message))
        })
    }

    /// RFC 3261 §18.1.2: a response whose top sent-by is not what we insert MUST be discarded silently.
    fn is_ours(&self, response: &Response, transport: Transport, local: SocketAddr) -> bool {
        let Ok(via) = response.headers().via() else {
            return false;
        };
        let port = via.port().unwrap_or(transport.default_port());
        let advertised = self.config.advertised.as_ref();
        let port_is_ours = port == local.port()
            || advertised.is_some_and(|advertised| advertised.port == Some(port))
            || self.table.listens_on(port);
        port_is_ours && self.addresses.is_ours(via.host(), local.ip(), advertised)
    }

    pub(crate) fn local_addr(&self, flow: &Flow) -> Option<SocketAddr> {
        match self.table.resolve(flow.id)? {
            Resolved::Socket(socket) => Some(self.local_at(&socket, flow.id)),
            Resolved::Connection(connection) => Some(connection.local),
        }
    }

    /// The address that a flow over a socket leads from: what the socket is bound to, unless that is a wildcard and the peer
    /// has written to one of its addresses.
    pub(crate) fn local_at(&self, socket: &Socket, flow: FlowId) -> SocketAddr {
        match self.addresses.of_flow(flow) {
            Some(ip) => SocketAddr::new(ip, socket.local.port()),
            None => socket.local,
        }
    }

    pub(crate) fn sent_by(&self, flow: &Flow) -> SentBy {
        let local = self.local_addr(flow);
        let advertised = self.config.advertised.as_ref();
        let ip = match local
            .map(|local| local.ip())
            .filter(|ip| !ip.is_unspecified())
        {
            Some(ip) => ip,
            None => self.addresses.towards(flow.remote, &*self.network, self),
        };
        let port = advertised
            .and_then(|advertised| advertised.port)
            .unwrap_or_else(|| self.port(flow, local, ip));
        let alias = self.wants_alias(flow, ip);
        match advertised {
            Some(advertised) => SentBy {
                host: bracketed(&advertised.host),
                port,
                alias,
            },
            None => {
                self.addresses.remember(ip);
                SentBy {
                    alias,
                    ..SentBy::from(SocketAddr::new(ip, port))
                }
            }
        }
    }

    /// RFC 5923: what is not TLS cannot be proved to be ours, and where nobody listens nothing is to be replaced.
    fn wants_alias(&self, flow: &Flow, ip: std::net::IpAddr) -> bool {
        let tls = self.config.tls.as_ref();
        flow.transport == Transport::Tls
            && tls.is_some_and(crate::Tls::has_certificate)
            && self
                .table
                .listener_for(Transport::Tls, SocketAddr::new(ip, 0))
                .is_some()
    }

    /// A UDP socket's own port; for connections the port we listen on, as that is where a response comes to when the
    /// connection is gone (RFC 3261 §18.2.2), else the connection's own.
    fn port(&self, flow: &Flow, local: Option<SocketAddr>, ip: std::net::IpAddr) -> u16 {
        if let (Transport::Udp, Some(local)) = (flow.transport, local) {
            return local.port();
        }
        let listener = self
            .table
            .listener_for(flow.transport, SocketAddr::new(ip, 0));
        listener
            .or(local)
            .map_or(flow.transport.default_port(), |address| address.port())
    }
}

/// Puts an IPv6 address into the brackets that a Via needs (RFC 3261 §25.1, `IPv6reference`).
fn bracketed(host: &str) -> Box<str> {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]").into(),
        Err(_) => host.into(),
    }
}
