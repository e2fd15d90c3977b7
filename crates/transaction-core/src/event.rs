//! What goes out of the core: events for transaction users, bytes for flows, wishes for flows.

use crate::{AttemptId, RequestError, RequestId, ServerTransactionId, TransportFailure};
use bytes::Bytes;
use sipora_message::{Request, Response};
use sipora_transport::{Destination, Flow, FlowId};

/// Names the transaction user that a request or transaction belongs to: its place in the order of claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u16);

/// A request that matched no transaction.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IncomingRequest {
    /// The request, its top Via stamped with `received` and `rport` (RFC 3261 §18.2.1, RFC 3581).
    pub request: Request,
    /// What to answer by. An ACK takes no answer: for it every answer is [`Gone`](crate::Gone).
    pub transaction: ServerTransactionId,
    /// The flow it came by.
    pub flow: Flow,
}

/// Tells a transaction user what happened to its requests and transactions.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A response to a request of ours. A non-INVITE request gets one final response; an INVITE that was accepted may
    /// get several 2xx (RFC 6026 §7.2), each of which wants its ACK; one may come from an earlier target even after the
    /// request has failed or was abandoned, and then wants its BYE too.
    Response {
        /// The request it answers.
        request: RequestId,
        /// The response, our own Via still on top.
        response: Response,
        /// The flow it came by.
        flow: Flow,
        /// The target that answered.
        destination: Option<Destination>,
    },
    /// A request of ours ended without a final response.
    Failed {
        /// The request.
        request: RequestId,
        /// Why.
        error: RequestError,
    },
    /// An INVITE of ours that was accepted takes no more 2xx; its id is now unknown.
    Ended {
        /// The request.
        request: RequestId,
    },
    /// A CANCEL came for a server transaction that has no final answer yet. The CANCEL itself has been answered with
    /// 200; the user owes the transaction its 487 (RFC 3261 §9.2).
    Cancelled {
        /// The transaction to end.
        transaction: ServerTransactionId,
        /// The CANCEL, for its Reason header field.
        cancel: Request,
    },
    /// The refusal of an INVITE was acknowledged.
    Acknowledged {
        /// The transaction.
        transaction: ServerTransactionId,
    },
    /// The refusal of an INVITE was never acknowledged (Timer H).
    NotAcknowledged {
        /// The transaction.
        transaction: ServerTransactionId,
    },
    /// An answer could not be handed to its flow (RFC 6026 §7.1: the transaction goes on).
    AnswerFailed {
        /// The transaction.
        transaction: ServerTransactionId,
        /// Why.
        error: TransportFailure,
    },
    /// A flow ended. Every user hears of it.
    FlowClosed {
        /// The flow, which will never be used again.
        flow: FlowId,
    },
}

/// Bytes to put on a flow.
#[derive(Debug, Clone)]
pub struct Transmit {
    /// Where to. Over UDP `flow.remote` is the address to send to.
    pub flow: Flow,
    /// One whole message.
    pub bytes: Bytes,
    /// What the bytes are for; goes back into
    /// [`handle_transport_error`](crate::TransactionLayer::handle_transport_error) when they cannot be sent.
    pub purpose: Purpose,
}

/// Says on whose behalf bytes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// A request of ours.
    Attempt(AttemptId),
    /// The answer of a server transaction.
    Answer(ServerTransactionId),
    /// An answer that nobody remembers.
    Stateless,
    /// An ACK or CANCEL; its failure ends nothing.
    Detached,
}

/// Asks the driver for a flow; it answers with [`flow_ready`](crate::TransactionLayer::flow_ready) or
/// [`flow_failed`](crate::TransactionLayer::flow_failed).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Open {
    /// A flow to this destination.
    Destination(AttemptId, Destination),
    /// What to print in a Via for this flow, if it is still there.
    Flow(AttemptId, Flow),
}
