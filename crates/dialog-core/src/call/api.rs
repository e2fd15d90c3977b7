//! [`IncomingCalls`], and the part of [`UnifiedDialogApi`](crate::UnifiedDialogApi) that makes calls.

use std::sync::Arc;

use sipora_transaction_core::{EndpointBuilder, IdSource};
use tokio::sync::{mpsc, oneshot};

use super::command::{Command, Offered, Open, Restore};
use super::core::Calls;
use super::event::{CallError, Invite};
use super::handle::Call;
use super::outside_api::IncomingRefers;
use super::state::CallState;
use super::user::CallUser;
use super::ways::Ways;
use super::{CallConfig, CallMetrics};
use crate::Authorizer;

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
