//! What an endpoint listens on.

use crate::EndpointError;
use sipora_transport::{BindError, Transport, Transports, UdpListener};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What one call of the builder asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// One address.
    At(Transport, SocketAddr),
    /// This port, of every address of the host.
    Everywhere(Transport, u16),
}

impl Listener {
    fn transport(self) -> Transport {
        match self {
            Listener::At(transport, _) | Listener::Everywhere(transport, _) => transport,
        }
    }

    /// The same for another transport.
    fn over(self, transport: Transport) -> Listener {
        match self {
            Listener::At(_, address) => Listener::At(transport, address),
            Listener::Everywhere(_, port) => Listener::Everywhere(transport, port),
        }
    }
}

/// Binds every listener, UDP with a socket for each shard. UDP and TCP on one address share a port.
pub(super) fn bind(
    transports: &Transports,
    listeners: &[Listener],
    shards: usize,
) -> Result<Vec<Vec<UdpListener>>, EndpointError> {
    let mut sockets = Vec::new();
    for &listener in listeners {
        let has_both = |other| listeners.contains(&listener.over(other));
        let binder = match listener.transport() {
            Transport::Udp if has_both(Transport::Tcp) => Binder::UdpAndTcp,
            Transport::Tcp if has_both(Transport::Udp) => continue,
            transport => Binder::Alone(transport),
        };
        let bind = |address| binder.bind(transports, address, shards);
        match listener {
            Listener::At(_, address) => sockets.extend(bind(address)?.sockets),
            Listener::Everywhere(_, port) => sockets.extend(everywhere(port, bind)?),
        }
    }
    Ok(sockets)
}

/// Binds a port of both families, or of the one that there is.
fn everywhere(
    port: u16,
    bind: impl Fn(SocketAddr) -> Result<Bound, BindError>,
) -> Result<Vec<Vec<UdpListener>>, BindError> {
    let v4 = |port| bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    let v6 = |port| bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    let first = match v4(port) {
        Err(error) if !error.is_in_use() => {
            tracing::debug!(%error, "without IPv4");
            // What went wrong with the first family is more likely what is wrong.
            return v6(port)
                .map(|bound| Vec::from_iter(bound.sockets))
                .map_err(|_| error);
        }
        first => first?,
    };
    let second = match v6(first.port) {
        // Another port, rather than none, where any will do.
        Err(error) if error.is_in_use() && port == 0 => v6(0),
        second => second,
    };
    let second = match second {
        Err(error) if !error.is_in_use() => {
            tracing::debug!(%error, "without IPv6");
            None
        }
        second => second?.sockets,
    };
    Ok(first.sockets.into_iter().chain(second).collect())
}

enum Binder {
    UdpAndTcp,
    Alone(Transport),
}

/// What was bound.
struct Bound {
    port: u16,
    /// None for a transport of connections.
    sockets: Option<Vec<UdpListener>>,
}

impl Binder {
    fn bind(
        &self,
        transports: &Transports,
        address: SocketAddr,
        shards: usize,
    ) -> Result<Bound, BindError> {
        let sockets = match self {
            Binder::UdpAndTcp => transports.bind_udp_and_tcp(address, shards)?,
            Binder::Alone(Transport::Udp) => transports.bind_udp(address, shards)?,
            Binder::Alone(transport) => {
                let local = transports.listen(*transport, address)?;
                return Ok(Bound {
                    port: local.port(),
                    sockets: None,
                });
            }
        };
        let local = sockets.first().map(UdpListener::local_addr);
        Ok(Bound {
            port: local.map_or(address.port(), |local| local.port()),
            sockets: Some(sockets),
        })
    }
}
