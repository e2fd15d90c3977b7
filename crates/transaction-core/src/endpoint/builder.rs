//! Building an endpoint.

use super::{EndpointHandle, MessageObserver, User, UserHandle};
use crate::{Config, EndpointError, IdSource};
use sipora_transport::{Network, Resolver, Transport, TransportConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The transport.
    pub transport: Transport,
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
}

/// Holds the settings of the driver.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// Settings of the core.
    pub transactions: Config,
    /// Settings of the flows.
    pub transport: TransportConfig,
    /// Datagrams taken from a socket before other inputs get their turn. Default 64.
    pub batch: usize,
    /// Commands that wait for one user before [`CommandError::Full`](crate::CommandError). Default 1024.
    pub command_queue: usize,
    /// Names being resolved and connections being opened at once; more wait. Default 256.
    pub slow_tasks: usize,
    /// Time that a shutdown leaves to what is in flight. Default 5 s.
    pub drain: Duration,
}

/// Builds an [`Endpoint`].
pub struct EndpointBuilder {
    _private: (),
}

impl EndpointBuilder {
    /// Begins an endpoint on real sockets, without listeners and users.
    pub fn new() -> Self {
        unimplemented!()
    }

    /// Listens on an address. An endpoint needs at least one.
    pub fn listen(self, _transport: Transport, _address: SocketAddr) -> Self {
        unimplemented!()
    }

    /// Replaces the settings.
    pub fn config(self, _config: EndpointConfig) -> Self {
        unimplemented!()
    }

    /// Replaces the network. Default: `TokioNetwork`.
    pub fn network(self, _network: Arc<dyn Network>) -> Self {
        unimplemented!()
    }

    /// Replaces the resolver. Default: `SystemResolver`.
    pub fn resolver(self, _resolver: Arc<dyn Resolver>) -> Self {
        unimplemented!()
    }

    /// Replaces the source of identifiers. Default: unpredictable.
    pub fn ids(self, _ids: IdSource) -> Self {
        unimplemented!()
    }

    /// Adds a hook that sees every message.
    pub fn observer(self, _observer: Arc<dyn MessageObserver>) -> Self {
        unimplemented!()
    }

    /// Adds a user at the end of the order of claims.
    pub fn add_user<U: User>(&mut self, _user: U) -> UserHandle<U::Command> {
        unimplemented!()
    }

    /// Binds the listeners and starts the task. Fails when an address is taken.
    pub async fn build(self) -> Result<Endpoint, EndpointError> {
        unimplemented!()
    }
}

/// Owns the task that runs a [`TransactionLayer`](crate::TransactionLayer) over its flows.
///
/// Dropped, it stops at once; [`shutdown`](Endpoint::shutdown) lets it finish.
pub struct Endpoint {
    _private: (),
}

impl Endpoint {
    /// Begins a builder.
    pub fn builder() -> EndpointBuilder {
        EndpointBuilder::new()
    }

    /// Returns a handle.
    pub fn handle(&self) -> EndpointHandle {
        unimplemented!()
    }

    /// Returns the addresses that it listens on.
    pub fn local_addresses(&self) -> Vec<(Transport, SocketAddr)> {
        unimplemented!()
    }

    /// Answers new requests with 503, lets what is in flight finish within [`EndpointConfig::drain`], closes every flow
    /// and ends the task.
    pub async fn shutdown(self) {
        unimplemented!()
    }
}
