//! What a user can do while it is called.

use super::{RequestOptions, Target};
use crate::{Gone, IdSource, RequestId, SendError, ServerTransactionId, Tag};
use sipora_message::{Request, Response, ResponseBuilder, StatusCode};
use sipora_transport::{Flow, FlowId, Now, SentBy};

/// Gives a [`User`](super::User) the endpoint for the time of one call.
pub struct Context<'a> {
    _core: &'a mut (),
}

impl Context<'_> {
    /// Returns the time of the input that is being handled.
    pub fn now(&self) -> Now {
        unimplemented!()
    }

    /// Returns the source of branches, tags, Call-IDs and jitter.
    pub fn ids(&mut self) -> &mut IdSource {
        unimplemented!()
    }

    /// Sends a request, without a Via of ours, and names it. Its responses come as [`Event`](crate::Event)s.
    ///
    /// An ACK (to a 2xx) is sent once and gets no events.
    pub fn send(&mut self, _request: Request, _target: Target, _options: RequestOptions) -> Result<RequestId, SendError> {
        unimplemented!()
    }

    /// Cancels a request of the user's (RFC 3261 §9.1). An INVITE goes on until its final answer comes.
    pub fn cancel(&mut self, _request: RequestId) {
        unimplemented!()
    }

    /// Forgets a request: no more events come for it, save the 2xx of an INVITE.
    pub fn abandon(&mut self, _request: RequestId) {
        unimplemented!()
    }

    /// Answers a transaction. Provisional answers as often as wanted, one final one.
    pub fn respond(&mut self, _transaction: ServerTransactionId, _response: Response) -> Result<(), Gone> {
        unimplemented!()
    }

    /// Answers a transaction with a final response and forgets it: a retransmission will be a new request.
    pub fn respond_stateless(&mut self, _transaction: ServerTransactionId, _response: Response) -> Result<(), Gone> {
        unimplemented!()
    }

    /// Begins an answer to a request, with a To tag that is the same for every copy of it.
    pub fn answer(&self, _request: &Request, _status: StatusCode) -> ResponseBuilder {
        unimplemented!()
    }

    /// Returns the To tag of [`answer`](Context::answer).
    pub fn keyed_tag(&self, _request: &Request) -> Tag {
        unimplemented!()
    }

    /// Returns the host and port by which a peer can reach the local end of a flow, for Contact.
    pub fn sent_by(&self, _flow: &Flow) -> Option<SentBy> {
        unimplemented!()
    }

    /// Closes a flow.
    pub fn close(&mut self, _flow: FlowId) {
        unimplemented!()
    }

    /// Says whether the endpoint is shutting down.
    pub fn is_shutting_down(&self) -> bool {
        unimplemented!()
    }
}
