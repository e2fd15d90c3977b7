//! [`Call`]: what an application holds of a call.

mod answers;
mod changes;
mod refers;

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use sipora_message::{Reason, Request, Response, StatusCode};
use tokio::sync::oneshot;

pub use refers::ReferReporter;

use super::api::CallsApi;
use super::command::{Act, Command, Left, Offered};
use super::core::CallKey;
use super::event::{CallEnd, CallError, CallEvent};
use super::inbox::Inbox;
use super::replacing::Related;
use super::request::CallRequest;
use super::state::CallState;
use crate::DialogId;

/// A call, from its INVITE to its end, whoever began it.
///
/// What happens in it are [`CallEvent`]s, read by [`next`](Self::next); [`CallEvent::Ended`] is the last. What an application
/// wants of it are methods, which give [`CallError::Gone`] where they come too late.
///
/// | wish | whose INVITE | what is sent |
/// | --- | --- | --- |
/// | [`ring`](Self::ring), [`progress`](Self::progress) | the peer's | 101 to 199 |
/// | [`progress_reliably`](Self::progress_reliably) | the peer's | 101 to 199, until its PRACK comes |
/// | [`accept`](Self::accept) | the peer's, first or later | 200, until its ACK comes |
/// | [`accept_replacing`](Self::accept_replacing) | the peer's first, which [`replaces`](Self::replaces) another call | 200, and BYE or CANCEL in the other |
/// | [`reject`](Self::reject), [`redirect`](Self::redirect) | the peer's, first or later | 300 to 699 |
/// | [`acknowledge`](Self::acknowledge) | ours, without an offer | ACK with the answer |
/// | [`acknowledge_progress`](Self::acknowledge_progress) | ours, without an offer | PRACK with the answer |
/// | [`answer`](Self::answer), [`refuse`](Self::refuse) | none: an offer in an UPDATE or PRACK | its answer |
/// | [`update`](Self::update) | either's | UPDATE in the dialog |
/// | [`reinvite`](Self::reinvite), [`reoffer`](Self::reoffer), [`refresh`](Self::refresh) | ours, later | INVITE in the dialog |
/// | [`request`](Self::request) | either's | INFO, MESSAGE, OPTIONS |
/// | [`refer`](Self::refer) | either's | REFER |
/// | [`accept_refer`](Self::accept_refer), [`reject_refer`](Self::reject_refer) | either's | the answer to a REFER |
/// | [`report_refer`](Self::report_refer) | either's | NOTIFY |
/// | [`hang_up`](Self::hang_up) | either's | CANCEL, 480 or BYE, whichever is right |
/// | [`detach`](Self::detach) | either's | nothing: another process goes on with it |
///
/// Dropped, it is hung up.
pub struct Call {
    key: CallKey,
    api: CallsApi,
    invite: Option<Box<Request>>,
    related: Option<Box<Related>>,
    inbox: Inbox,
    /// The peer's re-INVITE that was read last.
    reinvite: Option<u32>,
    /// The UPDATE or PRACK with an offer that was read last.
    offer: Option<u32>,
    /// How it ended, once that was read.
    end: Option<Box<CallEnd>>,
}

impl Call {
    pub(super) fn new(api: CallsApi, offered: Offered) -> Self {
        Self {
            key: offered.key,
            api,
            invite: offered.invite,
            related: offered.related,
            inbox: offered.inbox,
            reinvite: None,
            offer: None,
            end: None,
        }
    }

    /// Names the call; no other of the endpoint has the name, ever.
    pub fn key(&self) -> CallKey {
        self.key
    }

    /// The call of ours whose place this one takes when [`accept_replacing`](Self::accept_replacing) accepts it (RFC 3891): that one
    /// then ends with [`CallEnd::Replaced`]. Whether the peer may do that is the application's to find out, before it accepts: the peer
    /// has proved to be who the other call is with, or the Referred-By of its INVITE names that user. [`accept`](Self::accept) does not
    /// do it, and to refuse this one leaves the other call as it is. Only with [`CallConfig::takes_replaces`](crate::CallConfig::takes_replaces).
    pub fn replaces(&self) -> Option<CallKey> {
        self.related.as_ref()?.replaces
    }

    /// The call of ours that the peer names in Target-Dialog (RFC 4538): it is in that call itself, or was told of it by somebody
    /// who is, and the application may let it in for that.
    pub fn target_dialog(&self) -> Option<CallKey> {
        self.related.as_ref()?.target
    }

    /// Names its dialog: the one that is confirmed, or the only early one.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where there is none.
    pub async fn dialog(&self) -> Result<DialogId, CallError> {
        let (reply, dialog) = oneshot::channel();
        self.tell(Command::Dialog(self.key, reply)).await?;
        dialog.await.unwrap_or(Err(CallError::Closed))
    }

    /// Gives the state of the call, for another process that is to go on with it should this one fail. What happens in the call
    /// afterwards is not in it: to hand the call over, [`detach`](Self::detach) it.
    ///
    /// # Errors
    ///
    /// As [`detach`](Self::detach).
    pub async fn export(&self) -> Result<CallState, CallError> {
        let (reply, state) = oneshot::channel();
        self.tell(Command::Export(self.key, reply)).await?;
        state.await.unwrap_or(Err(CallError::Closed))
    }

    /// Lets go of the call without a word to the peer, and gives its state, for
    /// [`UnifiedDialogApi::restore_call`](crate::UnifiedDialogApi::restore_call) in another process or endpoint. Its last event is
    /// [`CallEnd::Detached`]. What the peer sends in it gets no answer here for 64*T1, so that copies of it find who goes on;
    /// dropped after this, the call goes on.
    ///
    /// It is a call that is up, with nothing under way: INVITEs, UPDATEs and PRACKs of either side have their answers and ACKs, the
    /// requests of [`request`](Self::request) theirs, and no REFER is told of any more.
    ///
    /// # Errors
    ///
    /// [`CallError::NotNow`] while something is under way, or before the call is up, and the call is as it was: a moment later it
    /// may be possible. [`CallError::Gone`] where the call is over, or ends. A future that is dropped has left the call as it was, or
    /// has ended it.
    pub async fn detach(&self) -> Result<CallState, CallError> {
        let (reply, state) = oneshot::channel();
        self.tell(Command::Detach(self.key, reply)).await?;
        state.await.unwrap_or(Err(CallError::Closed))
    }

    /// The INVITE that the peer began the call with; none where we did, or once [`take_invite`](Self::take_invite) has it.
    pub fn invite(&self) -> Option<&Request> {
        self.invite.as_deref()
    }

    /// Takes the INVITE out, whose octets need not be kept for as long as the call.
    pub fn take_invite(&mut self) -> Option<Request> {
        self.invite.take().map(|invite| *invite)
    }

    /// Waits for the next event; `None` after [`CallEvent::Ended`]. Nothing is lost when the future is dropped.
    ///
    /// 32 events wait; then provisional answers are given up, and after them the oldest. The end never is.
    pub async fn next(&mut self) -> Option<CallEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Does what [`next`](Self::next) does, for streams.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<CallEvent>> {
        let event = self.inbox.poll_next(context);
        let number = |request: &Request| request.headers().cseq().ok().map(|cseq| cseq.number);
        match &event {
            Poll::Ready(Some(CallEvent::Ended(end))) => self.end = Some(Box::new(end.clone())),
            Poll::Ready(Some(CallEvent::Reinvited(invite))) => self.reinvite = number(invite),
            Poll::Ready(Some(CallEvent::Offered(request))) => self.offer = number(request),
            _ => {}
        }
        event
    }

    /// Waits until our INVITE is accepted, and gives its 2xx. Provisional answers are passed over.
    ///
    /// # Errors
    ///
    /// How the call ended without, also where that was read before.
    pub async fn answered(&mut self) -> Result<Response, CallEnd> {
        loop {
            match self.next().await {
                Some(CallEvent::Answered(response)) => return Ok(response),
                Some(CallEvent::Ended(end)) => return Err(end),
                Some(_) => {}
                None => return Err(self.remembered()),
            }
        }
    }

    /// Waits until the call is over, and says how it ended, also where that was read before. Every change of the session that the peer
    /// wants meanwhile is refused with 488, every REFER with 603.
    pub async fn ended(&mut self) -> CallEnd {
        loop {
            match self.next().await {
                Some(CallEvent::Ended(end)) => return end,
                Some(CallEvent::Reinvited(_)) => {
                    // Where it was cancelled meanwhile it is over all the same.
                    let _ = self.reject(StatusCode::NOT_ACCEPTABLE_HERE).await;
                }
                Some(CallEvent::Referred(referral)) => {
                    let _ = self.reject_refer(referral.id, StatusCode::DECLINE).await;
                }
                Some(CallEvent::Offered(_)) => {
                    let _ = self.refuse(StatusCode::NOT_ACCEPTABLE_HERE).await;
                }
                Some(_) => {}
                None => return self.remembered(),
            }
        }
    }

    /// How it ended, where that was read before.
    fn remembered(&self) -> CallEnd {
        let end = self.end.as_deref();
        end.cloned().unwrap_or(CallEnd::Closed)
    }

    /// Ends the call: with CANCEL while our INVITE has no final answer, with 480 while the peer's has none, else with BYE; one
    /// that we accepted after its ACK, for which it may have to wait. [`CallEvent::Ended`] follows when it is done.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where the call is over.
    pub async fn hang_up(&self) -> Result<(), CallError> {
        self.act(Act::HangUp(None)).await
    }

    /// Does what [`hang_up`](Self::hang_up) does, and tells the peer why, in the Reason of the CANCEL or BYE (RFC 3326): the cause of a
    /// gateway's other side, or the answer that a third party gave. A 480 says nothing more: [`reject_with`](Self::reject_with).
    ///
    /// Calls that end by themselves say why without being told: an INVITE that another has accepted, or that has expired; a session
    /// that has; a peer that does not acknowledge, or answer, or has forgotten the call.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn hang_up_because(&self, reason: Reason) -> Result<(), CallError> {
        self.act(Act::HangUp(Some(reason))).await
    }

    /// Sends a request within the call, and gives its final answer, whatever it says. In an early dialog too, so that INFO
    /// and others can be sent while it rings.
    ///
    /// Answers that end the call by the table of RFC 5057 §5.1 end it: 481 and silence, of an INFO, and 404 and the like of any.
    /// Dropped, the future gives up the answer and not the request.
    ///
    /// # Errors
    ///
    /// [`CallError::Failed`] where no final answer came; [`CallError::NotNow`] for a package that the peer does not take, or for
    /// want of a dialog yet; [`CallError::Gone`] where there is none any more, or several early ones and no
    /// [`to_tag`](CallRequest::to_tag); [`CallError::Busy`] with 16 under way.
    pub async fn request(&self, request: CallRequest) -> Result<Response, CallError> {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Ask(self.key, Box::new(request), reply);
        self.tell(command).await?;
        outcome.await.unwrap_or(Err(CallError::Closed))
    }

    async fn tell(&self, command: Command) -> Result<(), CallError> {
        self.api.ways.send(self.key.shard(), command).await
    }

    /// Answers the peer's INVITE, or what else has an offer, if it is the one that was read.
    async fn answers(&self, act: Act) -> Result<(), CallError> {
        let read = match act {
            Act::Answer(_) | Act::Refuse(_) => self.offer,
            _ => self.reinvite,
        };
        let (reply, outcome) = oneshot::channel();
        let command = Command::Answer(self.key, act, read, reply);
        self.tell(command).await?;
        outcome.await.unwrap_or(Err(CallError::Closed))
    }

    async fn act(&self, act: Act) -> Result<(), CallError> {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Act(self.key, act, reply);
        self.tell(command).await?;
        outcome.await.unwrap_or(Err(CallError::Closed))
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.inbox.is_over() {
            return;
        }
        self.api.ways.leave(Left::Call(self.key));
    }
}
