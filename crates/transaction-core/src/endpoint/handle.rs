//! What a program holds of an endpoint.

use crate::{CommandError, Gone, Metrics, ServerTransactionId};
use sipora_message::Response;
use sipora_transport::Transport;
use std::net::SocketAddr;

/// Speaks to an endpoint from any task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EndpointHandle {
    _private: (),
}

impl EndpointHandle {
    /// Answers a transaction from outside the endpoint's task. `Ok(Err(Gone))`: the answer came too late.
    pub async fn respond(&self, _transaction: ServerTransactionId, _response: Response) -> Result<Result<(), Gone>, CommandError> {
        unimplemented!()
    }

    /// Returns the addresses that the endpoint listens on.
    pub fn local_addresses(&self) -> Vec<(Transport, SocketAddr)> {
        unimplemented!()
    }

    /// Returns what the endpoint counted, as of its last turn.
    pub fn metrics(&self) -> Metrics {
        unimplemented!()
    }

    /// Begins the shutdown and returns at once.
    pub fn begin_shutdown(&self) {
        unimplemented!()
    }
}
