//! What can go wrong.

use sipora_transport::BindError;

/// Says that a transaction no longer takes an answer: it has had its final one, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the transaction has had its final answer or has ended")]
pub struct Gone;

/// Names why bytes did not leave or a flow did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportFailure {
    /// The peer refused the connection.
    #[error("connection refused")]
    Refused,
    /// The flow is closed.
    #[error("flow closed")]
    Closed,
    /// The name of the target could not be resolved.
    #[error("cannot resolve the target: {0}")]
    Resolve(Box<str>),
    /// Anything else, in the words of the transport.
    #[error("{0}")]
    Other(Box<str>),
}

/// Ends a request that got no final answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No final answer came in time.
    #[error("no answer in time")]
    Timeout,
    /// No target could be reached.
    #[error("transport failure: {0}")]
    Transport(#[source] TransportFailure),
    /// The request was cancelled here, and no answer came.
    #[error("cancelled")]
    Cancelled,
}

/// Refuses to send a request at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// A CANCEL is made by cancelling the request that it is for.
    #[error("CANCEL is sent by cancelling its request")]
    CancelRefused,
    /// The request lacks a header field without which it cannot be a transaction, or has a bad one.
    #[error("request cannot be sent: {0}")]
    Invalid(Box<str>),
    /// Too many requests are in flight.
    #[error("too many requests in flight")]
    Overloaded,
    /// The endpoint is shutting down.
    #[error("endpoint is shutting down")]
    ShuttingDown,
}

/// Tells a handle why its command did not reach the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The bounded queue of commands is full.
    #[error("the command queue is full")]
    Full,
    /// The endpoint has ended.
    #[error("the endpoint has ended")]
    Closed,
}

/// Says why an endpoint could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// A listener could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There is no listener.
    #[error("an endpoint needs a listener")]
    NoListener,
    /// The number of shards was changed after users had been made for each.
    #[error("the number of shards was changed after users were added")]
    ShardsChanged,
}

/// Ends an operation of [`TransactionManager`](crate::TransactionManager).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// INVITE, ACK and CANCEL have rules of their own and need a dialog layer.
    #[error("{0} is not sent by a non-dialog transaction")]
    MethodRefused(Box<str>),
    /// The request could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The request got no final answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The transaction is not known: it was waited for already, or too long ago.
    #[error("no such transaction")]
    Unknown,
    /// The endpoint did not take the command.
    #[error(transparent)]
    Command(#[from] CommandError),
}
