//! What a user can do while it is called.

use super::core::{Core, Job};
use super::{RequestOptions, Target};
use crate::{
    Gone, IdSource, OutgoingRequest, Owner, RequestId, SendError, ServerTransactionId, Tag,
};
use sipora_message::{PrintedResponse, Request, ResponseBuilder, StatusCode};
use sipora_transport::{Flow, FlowId, Now, SentBy};
use std::time::Duration;

/// Gives a [`User`](super::User) the endpoint for the time of one call.
pub struct Context<'a> {
    core: &'a mut Core,
    owner: Owner,
}

impl<'a> Context<'a> {
    pub(super) fn new(core: &'a mut Core, owner: Owner) -> Self {
        Self { core, owner }
    }

    /// Returns the time of the input that is being handled.
    pub fn now(&self) -> Now {
        self.core.now
    }

    /// Returns the source of branches, tags, Call-IDs and jitter.
    pub fn ids(&mut self) -> &mut IdSource {
        self.core.layer.ids()
    }

    /// Sends a request, without a Via of ours, and names it. Its responses come as [`Event`](crate::Event)s.
    ///
    /// An ACK, which is for a 2xx, is sent once and gets no events.
    pub fn send(
        &mut self,
        request: Request,
        target: Target,
        options: RequestOptions,
    ) -> Result<RequestId, SendError> {
        let mut outgoing = OutgoingRequest {
            request,
            targets: Vec::new(),
            flow: None,
            deadline: options.deadline,
            timer_c: options.timer_c,
            offers_keep_alives: options.offers_keep_alives,
            owner: self.owner,
        };
        let mut uri = None;
        match target {
            Target::Uri(target) => uri = Some(target),
            Target::Destinations(targets) => outgoing.targets = targets,
            Target::Flow(flow) => outgoing.flow = Some(flow),
        }
        if uri.is_none() && outgoing.flow.is_none() && outgoing.targets.is_empty() {
            return Err(SendError::Invalid("there is no target".into()));
        }
        let id = self.core.layer.send_request(self.core.now, outgoing)?;
        if let Some(uri) = uri {
            self.core.begin(Job::Resolve(id, uri));
        }
        Ok(id)
    }

    /// Cancels a request of the user's (RFC 3261 §9.1). An INVITE goes on until its final answer comes.
    pub fn cancel(&mut self, request: RequestId) {
        self.core.layer.cancel(self.core.now, request);
    }

    /// Does what [`cancel`](Self::cancel) does, and says why, with this value of Reason (RFC 3326).
    pub fn cancel_because(&mut self, request: RequestId, reason: &str) {
        let now = self.core.now;
        self.core.layer.cancel_because(now, request, Some(reason));
    }

    /// Forgets a request: no more events come for it, save every 2xx of an INVITE.
    pub fn abandon(&mut self, request: RequestId) {
        self.core.layer.abandon(self.core.now, request);
    }

    /// Answers a transaction: provisional answers as often as wanted, one final one. Takes a
    /// [`Response`](sipora_message::Response), or one that was only [printed](ResponseBuilder::print).
    pub fn respond(
        &mut self,
        transaction: ServerTransactionId,
        response: impl Into<PrintedResponse>,
    ) -> Result<(), Gone> {
        self.core
            .layer
            .respond(self.core.now, transaction, response)
    }

    /// Answers a transaction with a final response and forgets it: a retransmission will be a new request.
    ///
    /// For challenges, refusals to strangers and shedding. Its To tag should be that of [`answer`](Self::answer).
    pub fn respond_stateless(
        &mut self,
        transaction: ServerTransactionId,
        response: impl Into<PrintedResponse>,
    ) -> Result<(), Gone> {
        self.core.layer.respond_stateless(transaction, response)
    }

    /// Leaves a request without an answer and forgets it: a copy of it will be a new request. For what somebody else is to answer.
    pub fn forget(&mut self, transaction: ServerTransactionId) {
        self.core.layer.forget(transaction);
    }

    /// Begins an answer to a request, with a To tag that is the same for every copy of it.
    pub fn answer(&self, request: &Request, status: StatusCode) -> ResponseBuilder {
        self.core.layer.answer(request, status)
    }

    /// Returns the To tag of [`answer`](Context::answer).
    pub fn keyed_tag(&self, request: &Request) -> Tag {
        self.core.layer.keyed_tag(request)
    }

    /// Returns the host and port by which the peer of a flow can reach us, for Contact.
    pub fn sent_by(&self, flow: &Flow) -> SentBy {
        self.core.transports.sent_by(flow)
    }

    /// Says whether a flow can still be sent on.
    pub fn is_open(&self, flow: FlowId) -> bool {
        self.core.transports.is_open(flow)
    }

    /// Pings the peer of a connection this often from now on, without knowing whether it answers: see
    /// [`Transports::try_keep_alive`](sipora_transport::Transports::try_keep_alive).
    pub fn try_keep_alive(&mut self, flow: FlowId, interval: Duration) {
        self.core.transports.try_keep_alive(flow, interval);
    }

    /// Closes a connection once what is queued on it has been written.
    pub fn close(&mut self, flow: FlowId) {
        self.core.transports.close(flow);
    }

    /// Closes a connection over which nothing has come for this long: [`Transports::expect_keep_alives`].
    ///
    /// [`Transports::expect_keep_alives`]: sipora_transport::Transports::expect_keep_alives
    pub fn expect_keep_alives(&mut self, flow: FlowId, within: Option<Duration>) {
        self.core.transports.expect_keep_alives(flow, within);
    }

    /// Says whether the endpoint is shutting down.
    pub fn is_shutting_down(&self) -> bool {
        self.core.layer.is_draining()
    }

    /// Names the shard that requests in the dialogs with this Call-ID come to (see [`owner`](super::owner)); 0 where there is one
    /// shard.
    pub fn home(&self, call_id: &str) -> usize {
        self.core.router.home(call_id)
    }

    /// Returns the user's place in the order of claims.
    pub fn owner(&self) -> Owner {
        self.owner
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Context")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
