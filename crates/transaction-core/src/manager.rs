//! An awaitable front for programs that only send requests.

use crate::{Endpoint, EndpointBuilder, TransactionError};
use sipora_message::{Request, Response};
use std::net::SocketAddr;
use std::time::Duration;

/// Names a request that a [`TransactionManager`] sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(u64);

/// Sends requests outside of dialogs and waits for their final answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TransactionManager {
    _private: (),
}

impl TransactionManager {
    /// Adds a manager to an endpoint that is being built. It claims no requests.
    pub fn add_to(_builder: &mut EndpointBuilder) -> Self {
        unimplemented!()
    }

    /// Sends a request and names it. Transport from `transport=` or `sips` of the Request-URI, else UDP.
    pub async fn create_non_dialog_transaction(&self, _request: Request, _destination: SocketAddr) -> Result<TransactionId, TransactionError> {
        unimplemented!()
    }

    /// Waits for the final answer. The time begins now. When it is over, or when the future is dropped, the request is
    /// given up.
    pub async fn wait_for_response(&self, _id: TransactionId, _timeout: Duration) -> Result<Response, TransactionError> {
        unimplemented!()
    }
}
