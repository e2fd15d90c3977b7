//! Contacts that lead to a coordinator: which address and transport a peer finds it at.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sipora_message::Uri;
use sipora_transaction_core::TransportFailure;
use sipora_transport::{Advertised, Destination, Network, Resolver, Transport};

use crate::{Error, ListenerAddress, Result};

/// What a coordinator knows of where it can be reached.
pub(crate) struct Contacts {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) advertised: Option<Advertised>,
    pub(crate) listeners: Vec<ListenerAddress>,
    /// The host of Contacts that no connection can be opened to: a name that is found nowhere (RFC 7118).
    pub(crate) nowhere: String,
}

impl Contacts {
    /// Makes the contact of `user` for who is reached by way of `next`.
    pub(crate) async fn leading_to(&self, user: &str, next: &Uri, is_secure: bool) -> Result<Uri> {
        let destinations = self.resolver.resolve(next).await.map_err(|error| {
            let failure = TransportFailure::Resolve(error.to_string().into());
            Error::Transport { source: failure }
        })?;
        let (transport, local) = self.way_to(&destinations).ok_or_else(|| {
            let failure = TransportFailure::Other("no local address leads to it".into());
            Error::Transport { source: failure }
        })?;
        self.contact(user, transport, local, is_secure)
    }

    /// Finds the first destination that a listener of ours leads to, and our address on that way. Over WebSocket, and over TLS
    /// without a listener, requests come back over the connection, and the address is that of TCP.
    fn way_to(&self, destinations: &[Destination]) -> Option<(Transport, SocketAddr)> {
        destinations.iter().find_map(|destination| {
            let listener = self.listeners.iter().find(|listener| {
                let like = match self.listens_for(destination.transport) {
                    true => destination.transport,
                    false => Transport::Tcp,
                };
                listener.transport == like
                    && listener.address.is_ipv4() == destination.address.is_ipv4()
            })?;
            let mut local = listener.address;
            if local.ip().is_unspecified() {
                local.set_ip(self.network.local_ip_for(destination.address).ok()?);
            }
            Some((destination.transport, local))
        })
    }

    fn listens_for(&self, transport: Transport) -> bool {
        self.listeners.iter().any(|one| one.transport == transport)
    }

    /// RFC 3261 §8.1.1.8: what goes to a `sips` URI MUST carry a `sips` Contact.
    fn contact(
        &self,
        user: &str,
        transport: Transport,
        local: SocketAddr,
        is_secure: bool,
    ) -> Result<Uri> {
        let user = (!user.is_empty()).then_some(user);
        let is_web_socket = matches!(transport, Transport::Ws | Transport::Wss);
        let (host, port) = match &self.advertised {
            _ if is_web_socket => (self.nowhere.clone(), None),
            Some(advertised) => (
                advertised.host.to_string(),
                Some(advertised.port.unwrap_or(local.port())),
            ),
            None => (host(local.ip()), Some(local.port())),
        };
        let mut contact = Uri::builder(&host);
        if let Some(port) = port {
            contact = contact.port(port);
        }
        if is_secure {
            contact = contact.secure();
        }
        if let Some(user) = user {
            contact = contact.user(user);
        }
        if transport == Transport::Tls && !self.listens_for(transport) {
            contact = contact.param("ob", None);
        }
        // RFC 7118 §5.2 has `ws` for both kinds; `sips` alone says TLS (RFC 3261 §26.2.2).
        let contact = match (transport, is_secure) {
            (Transport::Udp, _) | (Transport::Tls, true) => contact,
            (Transport::Wss, _) => contact.param("transport", Some("ws")),
            (other, _) => contact.param("transport", Some(other.parameter())),
        };
        contact.build().map_err(|error| {
            Error::uri(
                "user",
                user.unwrap_or_default(),
                error.offset(),
                error.reason(),
            )
        })
    }
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}
