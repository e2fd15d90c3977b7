//! What applications, and other shards, ask of the user that runs the calls.

use std::sync::Arc;

use sipora_message::{Reason, Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::core::CallKey;
use super::event::{CallError, Invite};
use super::inbox::Inbox;
use super::outside_api::OpenRefer;
use super::refer::{Refer, ReferAnswer, ReferId};
use super::rejection::Rejection;
use super::reliable::Answer;
use super::replacing::Related;
use super::request::CallRequest;
use super::shards::Letter;
use super::state::CallState;
use crate::{Authorizer, Body, DialogId};

pub(super) enum Command {
    Invite(Box<Open>),
    Act(CallKey, Act, oneshot::Sender<Result<(), CallError>>),
    /// Answers what was read: the request with this number, none for the INVITE that began the call.
    Answer(
        CallKey,
        Act,
        Option<u32>,
        oneshot::Sender<Result<(), CallError>>,
    ),
    Ask(
        CallKey,
        Box<CallRequest>,
        oneshot::Sender<Result<Response, CallError>>,
    ),
    Refer(
        CallKey,
        Box<Refer>,
        oneshot::Sender<Result<ReferAnswer, CallError>>,
    ),
    ReferOutside(Box<OpenRefer>),
    Dialog(CallKey, oneshot::Sender<Result<DialogId, CallError>>),
    Export(CallKey, oneshot::Sender<Result<CallState, CallError>>),
    Detach(CallKey, oneshot::Sender<Result<CallState, CallError>>),
    DetachAll(oneshot::Sender<Vec<CallState>>),
    Restore(Box<Restore>),
    /// Nobody wants these any more.
    End(Vec<CallState>),
    /// Comes from another shard.
    Letter(Box<Letter>),
    /// Looks at what was abandoned, and written.
    Reap,
}

/// What is left to be done when something is dropped.
#[derive(Debug)]
pub(super) enum Left {
    /// The call is hung up.
    Call(CallKey),
    /// A REFER of the peer's is told of, or refused where that is not decided yet.
    Refer(CallKey, ReferId, Last),
}

impl Left {
    /// Where it is done.
    pub(super) fn call(&self) -> CallKey {
        let (Self::Call(key) | Self::Refer(key, ..)) = self;
        *key
    }
}

/// The last word on a REFER.
#[derive(Debug)]
pub(super) enum Last {
    Reported(StatusCode),
    Rejected(StatusCode),
}

pub(super) struct Open {
    pub(super) invite: Invite,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    pub(super) reply: oneshot::Sender<Result<Offered, CallError>>,
}

pub(super) struct Restore {
    pub(super) state: CallState,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    pub(super) reply: oneshot::Sender<Result<Offered, CallError>>,
}

/// What an application wants of a call.
pub(super) enum Act {
    /// And whether it is to be sent reliably.
    Progress(Answer, bool),
    Accept(Option<Body>),
    /// The call may take the place of the one that it names.
    AcceptReplacing(Option<Body>),
    Reject(Rejection),
    Acknowledge(Body),
    AcknowledgeProgress(Box<str>, Body),
    Answer(Body),
    Refuse(StatusCode),
    Reinvite(Option<Body>),
    Reoffer(Body),
    Refresh(Body),
    Update(Option<Box<str>>, Option<Body>),
    EndEarly(Box<str>),
    AcceptRefer(ReferId),
    RejectRefer(ReferId, StatusCode),
    ReportRefer(ReferId, StatusCode),
    HangUp(Option<Reason>),
}

/// A call on its way to an application.
pub(super) struct Offered {
    pub(super) key: CallKey,
    pub(super) invite: Option<Box<Request>>,
    /// None where it names no other call.
    pub(super) related: Option<Box<Related>>,
    pub(super) inbox: Inbox,
}
