//! REFERs outside of dialogs for applications: [`OutgoingRefer`] and [`SentRefer`], [`IncomingRefers`] and [`IncomingRefer`].

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use sipora_message::{Request, StatusCode, Uri};
use sipora_transaction_core::Target;
use tokio::sync::{mpsc, oneshot};

use super::api::CallsApi;
use super::command::{Act, Command, Left};
use super::core::CallKey;
use super::event::{CallError, CallEvent};
use super::handle::ReferReporter;
use super::inbox::Inbox;
use super::refer::{Refer, ReferAnswer, ReferReport, ReferTo, Referral};
use super::referred::asks_for_silence;
use super::replacing::Related;
use super::user::CallUser;
use crate::Authorizer;

/// Refers somebody with whom there is no dialog, for [`UnifiedDialogApi::refer`](crate::UnifiedDialogApi::refer): a phone that is to call
/// at a click (RFC 5359 §2.18), or the peer of a call whose Contact is a GRUU (RFC 7647 §4).
///
/// ```
/// use sipora_dialog_core::{OutgoingRefer, Refer};
/// use sipora_message::Uri;
///
/// let phone = Uri::parse("sip:alice@192.0.2.7:5060")?;
/// let me = Uri::parse("sip:alice@atlanta.example.com")?;
/// let here = Uri::parse("sip:alice@192.0.2.101:5060")?;
/// let carol = Uri::parse("sip:carol@chicago.example.com")?;
/// let refer = OutgoingRefer::new(phone, me, here, Refer::to(carol));
/// # let _ = refer;
/// # Ok::<(), sipora_message::UriError>(())
/// ```
#[derive(Debug, Clone)]
pub struct OutgoingRefer {
    pub(super) uri: Uri,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) contact: Uri,
    pub(super) refer: Refer,
    pub(super) target: Option<Target>,
}

impl OutgoingRefer {
    /// Makes a REFER to `uri`, its Request-URI and To, from `from`, whose outcome is told to `contact`.
    pub fn new(uri: Uri, from: Uri, contact: Uri, refer: Refer) -> Self {
        Self {
            from: format!("<{from}>"),
            to: format!("<{uri}>"),
            uri,
            contact,
            refer,
            target: None,
        }
    }

    /// Names who refers, with a display name: `"Alice" <sip:alice@atlanta.example.com>`. A tag is added.
    pub fn from(mut self, address: impl Into<String>) -> Self {
        self.from = address.into();
        self
    }

    /// Names who is referred, where it is not the Request-URI.
    pub fn to(mut self, address: impl Into<String>) -> Self {
        self.to = address.into();
        self
    }

    /// Sends the REFER there, and not where its Route or Request-URI leads: through an outbound proxy.
    pub fn via(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }
}

/// A REFER of ours outside of dialogs, and what is told of it.
///
/// Dropped, nobody listens any more: the next NOTIFY gets 481, which ends the subscription at the peer. What it was referred to goes
/// on all the same (RFC 3515 §2.4.4).
pub struct SentRefer {
    answer: ReferAnswer,
    listener: Listener,
}

impl SentRefer {
    /// What was answered to it.
    pub fn answer(&self) -> &ReferAnswer {
        &self.answer
    }

    /// Waits for what the peer tells next; `None` once everything is told, which is at once where the REFER was refused, or the peer
    /// tells nothing of it (RFC 4488). Where a proxy has sent the REFER to several, each tells of its own; From of its
    /// [`ReferReport::notify`] says who. A peer that has said nothing for 64*T1 is given up, as is one whose time is over.
    pub async fn next(&mut self) -> Option<ReferReport> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Does what [`next`](Self::next) does, for streams.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<ReferReport>> {
        while let Some(event) = std::task::ready!(self.listener.inbox.poll_next(context)) {
            if let CallEvent::ReferReport(report) = event {
                return Poll::Ready(Some(*report));
            }
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for SentRefer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentRefer")
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}

/// Gives the REFERs outside of dialogs that come in, one after the other: see
/// [`IncomingCalls::take_refers`](crate::IncomingCalls::take_refers). Dropped, every such REFER gets 480.
#[derive(Debug)]
pub struct IncomingRefers {
    pub(super) api: CallsApi,
    pub(super) receiver: mpsc::Receiver<OfferedRefer>,
}

impl IncomingRefers {
    /// Waits for the next REFER. `None` when the endpoint has ended. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<IncomingRefer> {
        let offered = self.receiver.recv().await?;
        Some(offered.taken(self.api.clone()))
    }
}

impl Drop for IncomingRefers {
    fn drop(&mut self) {
        self.receiver.close();
        // Those that nobody has taken are refused.
        while let Ok(offered) = self.receiver.try_recv() {
            drop(offered.taken(self.api.clone()));
        }
    }
}

/// A peer wants us to call somebody, without being in a call with us (RFC 3515): [`accept`](Self::accept) or
/// [`reject`](Self::reject) it, and then tell what came of it, by [`report`](Self::report).
///
/// Who does not decide within 32*T1 has it accepted, and may still decide: the peer is told that it has to wait. Whether this peer may
/// have us call anybody is the application's to find out (RFC 3515 §5): by its credentials, or by the call that it is in.
///
/// Dropped, it is refused with 603 where it is not decided yet; where it is, and no final status has been reported, the peer is told
/// that nothing more will come (`terminated;reason=giveup`).
pub struct IncomingRefer {
    referral: Referral,
    related: Related,
    listener: Listener,
}

impl IncomingRefer {
    /// What is asked for: whom to call, and the INVITE that does.
    pub fn referral(&self) -> &Referral {
        &self.referral
    }

    /// The REFER.
    pub fn request(&self) -> &Request {
        &self.referral.request
    }

    /// The call of ours that the peer names in Target-Dialog (RFC 4538): it is in that call itself, or was told of it by somebody
    /// who is, and the application may let it in for that.
    pub fn target_dialog(&self) -> Option<CallKey> {
        self.related.target
    }

    /// Accepts it, with 200: whom it names is called now, by the application.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where it is accepted or refused already, or the peer does not listen any more.
    pub async fn accept(&self) -> Result<(), CallError> {
        self.act(Act::AcceptRefer(self.referral.id)).await
    }

    /// Refuses it, with 300 to 699; 603 is usual.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept); [`CallError::Invalid`] for any other status.
    pub async fn reject(&self, status: StatusCode) -> Result<(), CallError> {
        self.act(Act::RejectRefer(self.referral.id, status)).await
    }

    /// Tells the peer what came of it: the status that was answered to the request that it asked for. The first final one is the last
    /// that is told (`terminated;reason=noresource`). A peer that wants to hear nothing (RFC 4488) is told nothing.
    ///
    /// # Errors
    ///
    /// [`CallError::NotNow`] where it is not accepted yet; [`CallError::Gone`] where nobody listens any more.
    pub async fn report(&self, status: StatusCode) -> Result<(), CallError> {
        match self.act(Act::ReportRefer(self.referral.id, status)).await {
            Err(CallError::Gone) if asks_for_silence(self.request().headers()) => Ok(()),
            outcome => outcome,
        }
    }

    /// Tells the peer what came of it where this is not at hand, while it lives.
    pub fn reporter(&self) -> ReferReporter {
        let Listener { key, api, .. } = &self.listener;
        ReferReporter::new(*key, self.referral.id, api.clone())
    }

    /// Waits until nothing more can be told: the last is told, the peer does not listen any more, or its time is over.
    pub async fn ended(&mut self) {
        let inbox = &self.listener.inbox;
        while poll_fn(|context| inbox.poll_next(context)).await.is_some() {}
    }

    async fn act(&self, act: Act) -> Result<(), CallError> {
        let Listener { key, api, .. } = &self.listener;
        let (reply, outcome) = oneshot::channel();
        let command = Command::Act(*key, act, reply);
        api.ways.send(key.shard(), command).await?;
        outcome.await.unwrap_or(Err(CallError::Closed))
    }
}

impl fmt::Debug for IncomingRefer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingRefer")
            .field("id", &self.referral.id)
            .finish_non_exhaustive()
    }
}

/// Who is told of a REFER, or tells of it: dropped, it is given up.
struct Listener {
    key: CallKey,
    api: CallsApi,
    inbox: Inbox,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.inbox.is_over() {
            self.api.ways.leave(Left::Call(self.key));
        }
    }
}

/// A REFER on its way to an application.
#[derive(Debug)]
pub(super) struct OfferedRefer {
    key: CallKey,
    referral: Referral,
    related: Related,
    inbox: Inbox,
}

impl OfferedRefer {
    fn taken(self, api: CallsApi) -> IncomingRefer {
        let Self {
            key,
            referral,
            related,
            inbox,
        } = self;
        IncomingRefer {
            referral,
            related,
            listener: Listener { key, api, inbox },
        }
    }
}

/// A REFER of ours on its way to the shard that sends it.
pub(super) struct OpenRefer {
    refer: OutgoingRefer,
    authorizer: Option<Arc<dyn Authorizer>>,
    opened: oneshot::Sender<Result<(CallKey, Inbox), CallError>>,
    reply: oneshot::Sender<Result<ReferAnswer, CallError>>,
}

impl CallsApi {
    pub(crate) async fn refer(
        &self,
        refer: OutgoingRefer,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<SentRefer, CallError> {
        let (opened, opening) = oneshot::channel();
        let (reply, outcome) = oneshot::channel();
        // Whom a call is with is known where that lives.
        let shard = match &refer.refer.to {
            ReferTo::Call(other, _) => other.shard(),
            ReferTo::Uri(_) => self.ways.next(),
        };
        let open = OpenRefer {
            refer,
            authorizer,
            opened,
            reply,
        };
        let mut opening = Opening { api: self, opening };
        let command = Command::ReferOutside(Box::new(open));
        self.ways.send(shard, command).await?;
        let answered = (&mut opening.opening).await;
        let (key, inbox) = answered.unwrap_or(Err(CallError::Closed))?;
        let api = self.clone();
        // Who does not wait for the answer gives the REFER up.
        let listener = Listener { key, api, inbox };
        let answer = outcome.await.unwrap_or(Err(CallError::Closed))?;
        Ok(SentRefer { answer, listener })
    }
}

/// A REFER that is being sent: who stops waiting for it gives it up, even if it has been sent just now.
struct Opening<'a> {
    api: &'a CallsApi,
    opening: oneshot::Receiver<Result<(CallKey, Inbox), CallError>>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.opening.close();
        if let Ok(Ok((key, inbox))) = self.opening.try_recv() {
            let api = self.api.clone();
            drop(Listener { key, api, inbox });
        }
    }
}

impl CallUser {
    /// Sends a REFER of ours outside of dialogs.
    pub(super) fn refer_outside(
        &mut self,
        context: &mut sipora_transaction_core::Context<'_>,
        open: OpenRefer,
    ) {
        let OpenRefer {
            refer,
            authorizer,
            opened,
            reply,
        } = open;
        if opened.is_closed() {
            return;
        }
        // What comes of it comes to the shard that its Call-ID leads to.
        let call_id = self.call_id(context);
        let sent = self.core.refer_outside(refer, &call_id, authorizer);
        let (key, id, asked) = match sent {
            Ok(sent) => sent,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let inbox = self.link(key);
        self.wait_for_refer(asked, id, reply);
        if opened.send(Ok((key, inbox))).is_err() {
            // It is there.
            let _ = self.core.abandon(context.now().instant, key);
        }
    }

    /// Offers a REFER of a peer's outside of dialogs to the application; says what it is refused with where that takes none.
    pub(super) fn offer_refer(
        &mut self,
        now: std::time::Instant,
        key: CallKey,
        referral: Referral,
        related: Related,
    ) {
        let id = referral.id;
        let inbox = self.link(key);
        let offered = OfferedRefer {
            key,
            referral,
            related,
            inbox,
        };
        let status = match self.refers.try_send(offered) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.core.call_refused();
                StatusCode::SERVICE_UNAVAILABLE
            }
            Err(mpsc::error::TrySendError::Closed(_)) => StatusCode::TEMPORARILY_UNAVAILABLE,
        };
        // It was offered just now, so that it waits for an answer.
        let _ = self.core.reject_refer(now, key, id, status);
    }
}
