//! [`Call`] and [`IncomingCalls`]: calls for applications.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use sipora_message::{HeaderName, Reason, Request, Response, StatusCode, Uri};
use sipora_transaction_core::{EndpointBuilder, IdSource};
use tokio::sync::{mpsc, oneshot};

use super::core::{CallKey, Calls};
use super::event::{CallEnd, CallError, CallEvent, Invite};
use super::inbox::Inbox;
use super::outside_api::IncomingRefers;
use super::reliable::Answer;
use super::replacing::Related;
use super::shards::Ways;
use super::user::{Act, CallUser, Command, Last, Left, Offered, Open, Restore};
use super::{
    CallConfig, CallMetrics, CallRequest, CallState, Refer, ReferAnswer, ReferId, Rejection,
};
use crate::{Authorizer, Body, DialogId};

/// The part of [`UnifiedDialogApi`](crate::UnifiedDialogApi) that makes calls.
#[derive(Debug, Clone)]
pub(crate) struct CallsApi {
    pub(super) ways: Arc<Ways>,
}

impl CallsApi {
    pub(crate) fn add_to(
        builder: &mut EndpointBuilder,
        config: CallConfig,
    ) -> (Self, IncomingCalls) {
        let (sender, receiver) = mpsc::channel(config.backlog.max(1));
        let (refers, referred) = mpsc::channel(config.backlog.max(1));
        let shards = builder.shards();
        let ids: Vec<IdSource> = (0..shards).map(|_| builder.split_ids()).collect();
        let mut ids = ids.into_iter();
        let ways = Arc::new(Ways::new(shards));
        let users = builder.add_users(|shard| {
            // There is one for each.
            let ids = ids.next().unwrap_or_else(IdSource::unpredictable);
            let core = Calls::new(config.clone(), ids).of_shard(shard, shards);
            let senders = (sender.clone(), refers.clone());
            CallUser::new(core, senders, ways.clone(), shard)
        });
        ways.lead_to(users);
        let api = Self { ways };
        let calls = IncomingCalls {
            api: api.clone(),
            receiver,
            refers: Some(IncomingRefers {
                api: api.clone(),
                receiver: referred,
            }),
        };
        (api, calls)
    }

    pub(crate) async fn invite(
        &self,
        invite: Invite,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<Call, CallError> {
        let (reply, answer) = oneshot::channel();
        let open = Open {
            invite,
            authorizer,
            reply,
        };
        let mut opening = Opening { api: self, answer };
        let command = Command::Invite(Box::new(open));
        self.ways.send(self.ways.next(), command).await?;
        let answered = (&mut opening.answer).await;
        let offered = answered.unwrap_or(Err(CallError::Closed))?;
        Ok(Call::new(self.clone(), offered))
    }

    pub(crate) async fn restore(
        &self,
        state: CallState,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<Call, CallError> {
        let (reply, answer) = oneshot::channel();
        let restore = Restore {
            state,
            authorizer,
            reply,
        };
        let mut opening = Opening { api: self, answer };
        let command = Command::Restore(Box::new(restore));
        self.ways.send(self.ways.next(), command).await?;
        let answered = (&mut opening.answer).await;
        let offered = answered.unwrap_or(Err(CallError::Closed))?;
        Ok(Call::new(self.clone(), offered))
    }

    pub(crate) async fn detach_all(&self) -> Result<Vec<CallState>, CallError> {
        let ways = &self.ways;
        let mut gathered = Gathered {
            ways,
            states: Vec::new(),
        };
        for shard in 0..ways.shards() {
            let (reply, states) = oneshot::channel();
            ways.send(shard, Command::DetachAll(reply)).await?;
            let states = states.await.map_err(|_| CallError::Closed)?;
            gathered.states.extend(states);
        }
        Ok(std::mem::take(&mut gathered.states))
    }

    pub(crate) fn metrics(&self) -> CallMetrics {
        self.ways.metrics()
    }
}

/// A call that is being begun: who stops waiting for it gives it up, even if it has begun just now.
struct Opening<'a> {
    api: &'a CallsApi,
    answer: oneshot::Receiver<Result<Offered, CallError>>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(offered)) = self.answer.try_recv() {
            drop(Call::new(self.api.clone(), offered));
        }
    }
}

/// Calls that some shards have let go of: who stops waiting for the others ends them.
struct Gathered<'a> {
    ways: &'a Ways,
    states: Vec<CallState>,
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        if !self.states.is_empty() {
            self.ways.end(std::mem::take(&mut self.states));
        }
    }
}

/// Gives the calls that come in, one after the other. Dropped, every call that comes gets 480.
#[derive(Debug)]
pub struct IncomingCalls {
    api: CallsApi,
    receiver: mpsc::Receiver<Offered>,
    refers: Option<IncomingRefers>,
}

impl IncomingCalls {
    /// Waits for the next call. `None` when the endpoint has ended. Nothing is lost when the future is dropped.
    ///
    /// A call that nobody takes rings without a sound: its first answer, 100 apart, is the application's. It may have been
    /// cancelled when it is taken.
    pub async fn next(&mut self) -> Option<Call> {
        let offered = self.receiver.recv().await?;
        Some(Call::new(self.api.clone(), offered))
    }

    /// Takes what gives the REFERs outside of calls, once. They come with
    /// [`CallConfig::max_refers_outside`](crate::CallConfig::max_refers_outside) alone, and get 480 where nobody has taken it when the
    /// calls are let go of.
    pub fn take_refers(&mut self) -> Option<IncomingRefers> {
        self.refers.take()
    }
}

impl Drop for IncomingCalls {
    fn drop(&mut self) {
        self.receiver.close();
        // Those that nobody has taken are refused.
        while let Ok(offered) = self.receiver.try_recv() {
            drop(Call::new(self.api.clone(), offered));
        }
    }
}

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
    /// How it ended, once that was read.
    end: Option<Box<CallEnd>>,
}

impl Call {
    fn new(api: CallsApi, offered: Offered) -> Self {
        Self {
            key: offered.key,
            api,
            invite: offered.invite,
            related: offered.related,
            inbox: offered.inbox,
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
    /// do it, and to refuse this one leaves the other call as it is. Only with [`CallConfig::takes_replaces`].
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
        if let Poll::Ready(Some(CallEvent::Ended(end))) = &event {
            self.end = Some(Box::new(end.clone()));
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

    /// Answers the peer's INVITE with 180.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where it has its final answer.
    pub async fn ring(&self) -> Result<(), CallError> {
        self.progress(StatusCode::RINGING, None).await
    }

    /// Answers the peer's INVITE with 101 to 199, as often as wanted; a `body` is early media. The answer sent last is repeated
    /// every minute (RFC 3261 §13.3.1.1). It is sent as [`progress_reliably`](Self::progress_reliably) does where the peer
    /// requires that, or supports it and there is a session description in it.
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring); [`CallError::Invalid`] for any other status.
    pub async fn progress(&self, status: StatusCode, body: Option<Body>) -> Result<(), CallError> {
        self.progresses(status, body, false).await
    }

    /// Answers the peer's INVITE with 101 to 199, reliably (RFC 3262): it is repeated until its PRACK comes, of which
    /// [`CallEvent::ProgressAcknowledged`] tells, and where none has come after 64*T1 the INVITE is refused with 504.
    ///
    /// One is on its way at a time; up to eight wait for their turn. The first `body` is the answer to the INVITE's offer, or the
    /// offer where it has none, and the answer to that comes in the PRACK. [`accept`](Self::accept) then needs no body, and waits
    /// for the PRACK.
    ///
    /// # Errors
    ///
    /// As [`progress`](Self::progress); [`CallError::NotSupported`] where the peer does not know it or
    /// [`CallConfig::reliability`] excludes it, [`CallError::BodyNeeded`] where an offer has to be made.
    pub async fn progress_reliably(
        &self,
        status: StatusCode,
        body: Option<Body>,
    ) -> Result<(), CallError> {
        self.progresses(status, body, true).await
    }

    async fn progresses(
        &self,
        status: StatusCode,
        body: Option<Body>,
        reliably: bool,
    ) -> Result<(), CallError> {
        let answer = Answer {
            status,
            body,
            headers: Vec::new(),
        };
        self.act(Act::Progress(answer, reliably)).await
    }

    /// Accepts the peer's INVITE, the first or the one that [`CallEvent::Reinvited`] told of. `body` is the answer to its
    /// offer, or the offer where it has none; [`CallEvent::Acknowledged`] follows, or the end of the call after 64*T1. Where a
    /// reliable provisional answer carried it, `None` is enough, and a body is left out (RFC 6337 §3.1.1); the 2xx then waits for
    /// the PRACK of that answer.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where it has its final answer, as after a CANCEL; [`CallError::BodyNeeded`] where `body` is no session
    /// description; [`CallError::NotNow`] where another call would be hung up for this one:
    /// [`accept_replacing`](Self::accept_replacing).
    pub async fn accept(&self, body: impl Into<Option<Body>>) -> Result<(), CallError> {
        self.act(Act::Accept(body.into())).await
    }

    /// Accepts the peer's INVITE as [`accept`](Self::accept) does, and has the call take the place of the one that it
    /// [`replaces`](Self::replaces), which is hung up, whoever holds it: "the UA MUST verify that the initiator of the new INVITE is
    /// authorized to replace the matched dialog" (RFC 3891 §3), and who calls this has. A call that replaces none is accepted as by
    /// `accept`, which is also for what comes later in this one.
    ///
    /// # Errors
    ///
    /// As there; [`CallError::Gone`] too where the other call has ended meanwhile: this one was refused for it, with 603.
    pub async fn accept_replacing(&self, body: impl Into<Option<Body>>) -> Result<(), CallError> {
        self.act(Act::AcceptReplacing(body.into())).await
    }

    /// Refuses the peer's INVITE, the first or a later one, with 300 to 699. To refuse a later one changes nothing;
    /// it cannot be refused ([`CallError::NotNow`]) once an offer has been answered within it, by PRACK or UPDATE (RFC 6141 §3.3).
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring); [`CallError::Invalid`] for any other status.
    pub async fn reject(&self, status: StatusCode) -> Result<(), CallError> {
        self.reject_with(Rejection::new(status)).await
    }

    /// Does what [`reject`](Self::reject) does, and says more: a reason phrase, header fields, a body.
    ///
    /// # Errors
    ///
    /// As there; [`CallError::Invalid`] for what cannot be sent too, and then nothing is refused yet.
    pub async fn reject_with(&self, rejection: Rejection) -> Result<(), CallError> {
        self.act(Act::Reject(rejection)).await
    }

    /// Sends the peer elsewhere, with 302 (RFC 3261 §13.3.1.2); the first place is best, and says so by its q where there are
    /// several.
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring); [`CallError::Invalid`] for no place at all.
    pub async fn redirect(&self, places: &[Uri]) -> Result<(), CallError> {
        if places.is_empty() {
            return Err(CallError::Invalid("there is no place to go to".to_owned()));
        }
        let mut rejection = Rejection::new(StatusCode::MOVED_TEMPORARILY);
        for (at, uri) in places.iter().enumerate() {
            let contact = match places.len() {
                1 => format!("<{uri}>"),
                all => format!("<{uri}>;q={}", preference(at, all)),
            };
            rejection = rejection.header(HeaderName::Contact, contact);
        }
        self.reject_with(rejection).await
    }

    /// Answers the offer that came with the 2xx to an INVITE of ours that had none, in the ACK.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] or [`CallError::NotNow`] where nothing waits for it.
    pub async fn acknowledge(&self, body: Body) -> Result<(), CallError> {
        self.act(Act::Acknowledge(body)).await
    }

    /// Answers the offer in a reliable provisional answer to an INVITE of ours that had none, from the user agent with this To
    /// tag, in the PRACK ([`CallEvent::EarlyOffer`]).
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where no such answer waits for it; [`CallError::BodyNeeded`] where `body` is no session description.
    pub async fn acknowledge_progress(&self, to_tag: &str, body: Body) -> Result<(), CallError> {
        self.act(Act::AcknowledgeProgress(to_tag.into(), body))
            .await
    }

    /// Answers the offer that [`CallEvent::Offered`] told of.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where there is none, or it has been refused meanwhile; [`CallError::BodyNeeded`] where `body` is no
    /// session description.
    pub async fn answer(&self, body: Body) -> Result<(), CallError> {
        self.act(Act::Answer(body)).await
    }

    /// Refuses the offer that [`CallEvent::Offered`] told of, with 300 to 699, as a rule 488: the session is as it was.
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer); [`CallError::Invalid`] for any other status.
    pub async fn refuse(&self, status: StatusCode) -> Result<(), CallError> {
        self.act(Act::Refuse(status)).await
    }

    /// Asks the peer to change the session: with an offer, to hold and resume too, or for an offer of its own with `None`.
    /// [`CallEvent::ReinviteAccepted`] or [`CallEvent::ReinviteRefused`] follows; while it is under way, the session is as before.
    ///
    /// A re-INVITE that meets the peer's (491) is sent again after the time of RFC 3261 §14.1, unless the call ends before, with the
    /// same offer: who answers the peer's meanwhile has another sent by [`reoffer`](Self::reoffer).
    ///
    /// # Errors
    ///
    /// [`CallError::NotNow`] while another INVITE is under way, in either direction.
    pub async fn reinvite(&self, body: Option<Body>) -> Result<(), CallError> {
        self.act(Act::Reinvite(body)).await
    }

    /// Replaces the offer of a [`reinvite`](Self::reinvite) or [`update`](Self::update) that met the peer's (491) and waits to be sent
    /// again: before the peer's is answered, since a description that differs from the last has a higher version (RFC 3264 §8).
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where none waits; [`CallError::BodyNeeded`] where `body` is no session description.
    pub async fn reoffer(&self, body: Body) -> Result<(), CallError> {
        self.act(Act::Reoffer(body)).await
    }

    /// Refreshes the session by a re-INVITE that says once more what holds, as [`CallEvent::RefreshDue`] asks for: its answer is told
    /// only where it is another than before, and a refusal is not.
    ///
    /// # Errors
    ///
    /// As [`reinvite`](Self::reinvite), and where no session timer runs; [`CallError::BodyNeeded`] where `body` is no session
    /// description.
    pub async fn refresh(&self, body: Body) -> Result<(), CallError> {
        self.act(Act::Refresh(body)).await
    }

    /// Changes the session by UPDATE (RFC 3311), which the peer has to answer at once: with an offer, or with `None` to tell where we
    /// can be reached. It goes into the dialog that is confirmed, or the only early one.
    /// [`CallEvent::UpdateAccepted`] or [`CallEvent::UpdateRefused`] follows. When the call is up, [`reinvite`](Self::reinvite) is
    /// "RECOMMENDED" (§5.1).
    ///
    /// One that meets an offer of the peer's (491) is sent again after the time of §5.3, unless the call ends before, with the same
    /// offer. Until then there is no other change, and another offer in its place by [`reoffer`](Self::reoffer) alone.
    ///
    /// # Errors
    ///
    /// [`CallError::NotSupported`] where the peer has not said that it understands UPDATE; [`CallError::NotNow`] while another
    /// UPDATE is under way or an offer has no answer, before an early dialog has a session, and where there are several such.
    pub async fn update(&self, body: Option<Body>) -> Result<(), CallError> {
        self.act(Act::Update(None, body)).await
    }

    /// Does what [`update`](Self::update) does, in the dialog with the user agent with this To tag.
    ///
    /// # Errors
    ///
    /// As there; [`CallError::Gone`] where there is no such dialog.
    pub async fn update_early(&self, to_tag: &str, body: Option<Body>) -> Result<(), CallError> {
        self.act(Act::Update(Some(to_tag.into()), body)).await
    }

    /// Ends one early dialog of our INVITE, that of the user agent with this To tag, with BYE; the others ring on. Rarely wanted
    /// (RFC 3261 §15): [`hang_up`](Self::hang_up) cancels them all.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where there is no such early dialog.
    pub async fn end_early(&self, to_tag: &str) -> Result<(), CallError> {
        self.act(Act::EndEarly(to_tag.into())).await
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

    /// Refers the peer to somebody else, and gives its final answer: a blind transfer (RFC 3515, RFC 5589 §6). What comes of it
    /// are [`CallEvent::ReferReport`]s, which may come even before the answer, and go on after the call has been hung up:
    /// [`CallEvent::SessionEnded`] comes then, and [`CallEvent::Ended`] when all is told.
    ///
    /// RFC 7647 §4 wants REFER outside of dialogs to peers whose Contact is a GRUU: [`UnifiedDialogApi::refer`](crate::UnifiedDialogApi::refer)
    /// with [`Refer::target_dialog`]. This one stands within the call.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request); [`CallError::NotNow`] before the call is up, [`CallError::Busy`] with four REFERs that are still
    /// told of.
    pub async fn refer(&self, refer: Refer) -> Result<ReferAnswer, CallError> {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Refer(self.key, Box::new(refer), reply);
        self.tell(command).await?;
        outcome.await.unwrap_or(Err(CallError::Closed))
    }

    /// Accepts a REFER of the peer's, which [`CallEvent::Referred`] told of: whom it names is called now, by the application.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where it is accepted or refused already.
    pub async fn accept_refer(&self, id: ReferId) -> Result<(), CallError> {
        self.act(Act::AcceptRefer(id)).await
    }

    /// Refuses a REFER of the peer's, with 300 to 699; 603 is what RFC 5057 §5.6 advises.
    ///
    /// # Errors
    ///
    /// As [`accept_refer`](Self::accept_refer); [`CallError::Invalid`] for any other status.
    pub async fn reject_refer(&self, id: ReferId, status: StatusCode) -> Result<(), CallError> {
        self.act(Act::RejectRefer(id, status)).await
    }

    /// Tells the peer what came of the REFER that was accepted: the status that was answered to the request. The first final one
    /// is the last that is told. It can be told after the call has been hung up.
    ///
    /// # Errors
    ///
    /// [`CallError::NotNow`] where the REFER is not accepted yet; [`CallError::Gone`] where nobody listens any more.
    pub async fn report_refer(&self, id: ReferId, status: StatusCode) -> Result<(), CallError> {
        self.act(Act::ReportRefer(id, status)).await
    }

    /// Tells the peer what came of a REFER of its, where this call is not at hand: with whom the REFER names.
    pub fn reporter(&self, id: ReferId) -> ReferReporter {
        ReferReporter::new(self.key, id, self.api.clone())
    }

    async fn tell(&self, command: Command) -> Result<(), CallError> {
        self.api.ways.send(self.key.shard(), command).await
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

/// Tells the peer what came of a REFER of its, as [`Call::report_refer`] does, for who follows the call that the REFER asked for and
/// not the one that it came in: see [`Call::reporter`].
#[derive(Debug, Clone)]
pub struct ReferReporter {
    call: CallKey,
    id: ReferId,
    api: CallsApi,
}

impl ReferReporter {
    pub(super) fn new(call: CallKey, id: ReferId, api: CallsApi) -> Self {
        Self { call, id, api }
    }

    /// Tells it.
    ///
    /// # Errors
    ///
    /// As [`Call::report_refer`].
    pub async fn report(&self, status: StatusCode) -> Result<(), CallError> {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Act(self.call, Act::ReportRefer(self.id, status), reply);
        self.api.ways.send(self.call.shard(), command).await?;
        outcome.await.unwrap_or(Err(CallError::Closed))
    }

    /// Tells it without waiting for anything, as in a destructor; before the call itself ends, where that is dropped at the same time.
    pub fn try_report(&self, status: StatusCode) {
        let last = Last::Reported(status);
        self.api.ways.leave(Left::Refer(self.call, self.id, last));
    }

    /// Refuses the REFER without waiting for anything, as in a destructor: where it was accepted or refused already, nothing
    /// happens.
    pub fn try_reject(&self, status: StatusCode) {
        let last = Last::Rejected(status);
        self.api.ways.leave(Left::Refer(self.call, self.id, last));
    }
}

/// The q of a place among others, from 1 down to above 0: values without q are all alike (RFC 3261 §16.6).
fn preference(at: usize, all: usize) -> String {
    let thousandths = 1000 * all.saturating_sub(at) / all.max(1);
    let q = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    q.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::preference;

    #[test]
    fn each_place_is_preferred_to_the_next() {
        let all = |count| (0..count).map(move |at| preference(at, count));
        assert_eq!(all(2).collect::<Vec<_>>(), ["1", "0.5"]);
        assert_eq!(all(3).collect::<Vec<_>>(), ["1", "0.666", "0.333"]);
        assert_eq!(all(1000).next_back().as_deref(), Some("0.001"));
    }
}
