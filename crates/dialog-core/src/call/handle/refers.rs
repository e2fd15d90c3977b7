//! How an application transfers calls, and is transferred (RFC 3515).

use sipora_message::StatusCode;
use tokio::sync::oneshot;

use super::Call;
use crate::call::api::CallsApi;
use crate::call::command::{Act, Command, Last, Left};
use crate::call::core::CallKey;
use crate::call::event::CallError;
use crate::call::refer::{Refer, ReferAnswer, ReferId};

impl Call {
    /// Refers the peer to somebody else, and gives its final answer: a blind transfer (RFC 3515, RFC 5589 §6). What comes of it
    /// are [`CallEvent::ReferReport`](crate::CallEvent::ReferReport)s, which may come even before the answer, and go on after the call has been hung up:
    /// [`CallEvent::SessionEnded`](crate::CallEvent::SessionEnded) comes then, and [`CallEvent::Ended`](crate::CallEvent::Ended) when all is told.
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

    /// Accepts a REFER of the peer's, which [`CallEvent::Referred`](crate::CallEvent::Referred) told of: whom it names is called now, by the application.
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
    pub(in crate::call) fn new(call: CallKey, id: ReferId, api: CallsApi) -> Self {
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
