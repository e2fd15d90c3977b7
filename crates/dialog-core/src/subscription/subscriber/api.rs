//! [`SubscriberApi`] and [`Subscription`]: the subscriber for applications.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use sipora_message::Response;
use sipora_transaction_core::{EndpointBuilder, UserHandle};
use tokio::sync::{mpsc, oneshot, watch};

use super::inbox::Inbox;
use super::user::{Command, Open, Opened, SubscriberUser, join};
use super::{
    Notification, Subscribe, Subscriber, SubscriberConfig, SubscriptionEnd, SubscriptionState,
};
use crate::subscription::EventPackage;
use crate::user::Abandoned;
use crate::{ApiError, ApiResult, Authorizer};

/// Subscribes through an endpoint (RFC 6665 §4.1). Cheap to clone.
///
/// It answers every NOTIFY that comes to the endpoint, as [`Subscriber::handle_notify`] says.
#[derive(Debug, Clone)]
pub struct SubscriberApi {
    user: UserHandle<Command>,
    abandoned: Arc<Abandoned>,
    next_key: Arc<AtomicU64>,
}

impl SubscriberApi {
    /// Adds the subscriber to an endpoint that is being built.
    pub fn add_to(
        builder: &mut EndpointBuilder,
        config: SubscriberConfig,
        packages: Vec<Arc<dyn EventPackage>>,
    ) -> Self {
        let core = Subscriber::new(config, packages, builder.split_ids());
        let abandoned = Arc::new(Abandoned::default());
        let user = builder.add_user(SubscriberUser::new(core, abandoned.clone()));
        Self {
            user,
            abandoned,
            next_key: Arc::default(),
        }
    }

    /// Subscribes, and waits until the notifier has accepted: for the 2xx or, where that is lost, for a NOTIFY.
    ///
    /// Challenges are answered by `authorizer`, those to refreshes too. A 423 is tried once more with its Min-Expires.
    /// `timeout` bounds each SUBSCRIBE with its retries. A future that is dropped gives the subscription up.
    ///
    /// # Errors
    ///
    /// The end that the subscription came to before it began: [`SubscriptionEnd::Refused`] with the answer,
    /// [`SubscriptionEnd::NoAnswer`] with [`ApiError::Busy`] where there are too many subscriptions,
    /// [`ApiError::InvalidRequest`], [`ApiError::Timeout`], [`ApiError::Transport`] or [`ApiError::Cancelled`].
    pub async fn subscribe(
        &self,
        subscribe: Subscribe,
        authorizer: Option<Arc<dyn Authorizer>>,
        timeout: Duration,
    ) -> Result<Subscription, SubscriptionEnd> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let closed = || SubscriptionEnd::NoAnswer(ApiError::Cancelled { cseq: None });
        let open = Open {
            key,
            subscribe,
            authorizer,
            timeout,
            reply,
        };
        let guard = Guard {
            user: self.user.clone(),
            abandoned: self.abandoned.clone(),
            word: join(key, 0),
        };
        let send = self.user.send(Command::Open(Box::new(open)));
        match tokio::time::timeout(timeout, send).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(closed()),
            Err(_) => return Err(SubscriptionEnd::NoAnswer(ApiError::Busy { cseq: None })),
        }
        let opened = answer.await.unwrap_or_else(|_| Err(closed()))?;
        Ok(Subscription::new(opened, guard))
    }
}

/// A subscription, and the dialog that it lives in.
///
/// It is refreshed before it expires. Dropped, it is given up without a word: the next NOTIFY gets 481, which ends it at the
/// notifier too. [`terminate`](Self::terminate) says so at once.
pub struct Subscription {
    response: Option<Response>,
    inbox: Inbox,
    states: watch::Receiver<SubscriptionState>,
    forks: Option<mpsc::Receiver<Opened>>,
    guard: Guard,
    key: u64,
    place: u8,
}

impl Subscription {
    fn new(opened: Opened, guard: Guard) -> Self {
        Self {
            response: opened.response,
            inbox: opened.inbox,
            states: opened.states,
            forks: opened.forks,
            key: opened.key,
            place: opened.place,
            guard,
        }
    }

    /// The 2xx to the first SUBSCRIBE; none where only a NOTIFY told that it was accepted.
    pub fn response(&self) -> Option<&Response> {
        self.response.as_ref()
    }

    /// What it is doing.
    pub fn state(&self) -> SubscriptionState {
        self.states.borrow().clone()
    }

    /// Follows what it is doing; the newest state waits, those before it are lost.
    pub fn watch(&self) -> watch::Receiver<SubscriptionState> {
        self.states.clone()
    }

    /// Waits for the next notification. `None` when it is over and every notification has been read.
    ///
    /// 32 wait; then the oldest is given up, and the next one read says how many ([`Notification::missed`]). Nothing is
    /// lost when the future is dropped. One task reads at a time.
    pub async fn next(&self) -> Option<Notification> {
        self.inbox.next().await
    }

    /// Does what [`next`](Self::next) does, for streams.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Notification>> {
        self.inbox.poll_next(context)
    }

    /// Waits for a further subscription of the same SUBSCRIBE, which was forked (RFC 6665 §4.1.4), where the package allows
    /// more than one. `None` when there can be none.
    pub async fn next_fork(&mut self) -> Option<Subscription> {
        let opened = self.forks.as_mut()?.recv().await?;
        let guard = Guard {
            user: self.guard.user.clone(),
            abandoned: self.guard.abandoned.clone(),
            word: join(opened.key, opened.place),
        };
        Some(Subscription::new(opened, guard))
    }

    /// Refreshes now, and gives the answer, whatever its status. Dropped, the future gives up the wait alone.
    ///
    /// # Errors
    ///
    /// [`ApiError`]; [`ApiError::Cancelled`] also when the subscription is over or is being ended.
    pub async fn refresh(&self) -> ApiResult<Response> {
        let (reply, answer) = oneshot::channel();
        let closed = || ApiError::Cancelled { cseq: None };
        let command = Command::Refresh(self.key, self.place, reply);
        let sent = self.guard.user.send(command).await;
        sent.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Ends it with a SUBSCRIBE with an expiry of zero, and waits for the end: the last NOTIFY, or timer N. What that
    /// NOTIFY tells can still be read. Dropped, the future gives up the wait alone.
    pub async fn terminate(&self) -> SubscriptionEnd {
        let command = Command::Terminate(self.key, self.place);
        // Where the endpoint has ended, so has the subscription.
        let _ = self.guard.user.send(command).await;
        let mut states = self.states.clone();
        let state = states.wait_for(SubscriptionState::is_terminal).await;
        match state.as_deref() {
            Ok(SubscriptionState::Terminated(end)) => end.clone(),
            _ => SubscriptionEnd::Stopped,
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("state", &*self.states.borrow())
            .finish_non_exhaustive()
    }
}

/// Tells the user that a subscription, or the future that waited for it, was dropped.
struct Guard {
    user: UserHandle<Command>,
    abandoned: Arc<Abandoned>,
    word: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.abandoned.push(self.word);
        // A full queue means that commands wait, and each of them makes the user look.
        let _ = self.user.try_send(Command::Reap);
    }
}
