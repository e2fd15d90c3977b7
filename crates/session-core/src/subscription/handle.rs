//! [`SubscriptionHandle`]: what a caller holds of a subscription.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sipora_dialog_core::{Subscription, SubscriptionEnd, SubscriptionState};
use sipora_message::Uri;

use super::{Notification, failure};
use crate::states::States;
use crate::{BodyError, Error, MessageSummary, Result, SipResponse};

/// Follows the states of a subscription: see [`SubscriptionHandle::states`].
pub type SubscriptionStates = States<SubscriptionState>;

/// Keeps a subscription alive, and tells what its notifier tells. It owns the dialog.
///
/// # Life
///
/// It is refreshed before it expires: at half the granted time when that is below 120 s, 60 s before its end when it is below
/// 600 s, else a tenth before its end; up to a tenth sooner, at random. What the newest NOTIFY says about the time counts. A
/// refresh that fails is tried again after 30 s, 60 s and so on, or as Retry-After says, as long as the subscription lasts.
/// Where the connection that it was last refreshed over ends, it is refreshed over another within a second, with back-off where
/// connections end soon after each other (RFC 5626 §4.5); the notifier then sends its present state. The connection is pinged
/// every 120 s unless [`without_keep_alive`](crate::SessionManagerBuilder::without_keep_alive) was called.
///
/// It ends when [`terminate`](Self::terminate) is called, when the notifier says so, when a refresh is refused in a way that
/// ends it (404, 405, 410, 416, 480 to 485, 489, 501, 604; RFC 6665 §4.1.2.2), when no NOTIFY follows a SUBSCRIBE within
/// 64 × T1 (timer N), or when it could not be refreshed in time; [`state`](Self::state) then is
/// [`Terminated`](SubscriptionState::Terminated) and tells which. A new subscription is a new call of
/// [`subscribe`](crate::SipClient::subscribe); [`SubscriptionEnd::resubscribe`] says when the notifier wants one.
///
/// Dropped, it is given up without a word: the next NOTIFY gets 481, which ends it at the notifier too.
#[must_use = "a subscription is refreshed as long as its handle lives"]
pub struct SubscriptionHandle {
    link: Subscription,
    target: Uri,
    event: String,
    has_credentials: bool,
}

impl SubscriptionHandle {
    pub(super) fn new(
        link: Subscription,
        target: Uri,
        event: String,
        has_credentials: bool,
    ) -> Self {
        Self {
            link,
            target,
            event,
            has_credentials,
        }
    }

    /// What is watched.
    pub fn target_uri(&self) -> &str {
        self.target.as_str()
    }

    /// The event.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// What it is doing.
    pub fn state(&self) -> SubscriptionState {
        self.link.state()
    }

    /// Follows what it is doing, beginning with the present state. Many readers may follow.
    pub fn states(&self) -> SubscriptionStates {
        States::new(self.link.watch())
    }

    /// The 2xx to the first SUBSCRIBE; none where it was lost and a NOTIFY told that the subscription is there.
    pub fn response(&self) -> Option<SipResponse> {
        self.link.response().cloned().map(SipResponse::from)
    }

    /// Waits for the next notification; `None` when the subscription is over and everything has been read. What came before
    /// the 2xx is not lost.
    ///
    /// 32 wait for their reader; then the oldest is given up, and [`Notification::missed`] of the next one counts it.
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Notification> {
        self.link.next().await.map(Notification::new)
    }

    /// The notifications as a stream, which shares its place with [`next`](Self::next).
    pub fn notifications(&mut self) -> Notifications<'_> {
        Notifications { link: &self.link }
    }

    /// Waits for a further subscription of the same SUBSCRIBE, where it was forked to several notifiers and the event allows
    /// it, as `message-summary` does (RFC 3842 §3.10). `None` when there can be none any more.
    pub async fn next_fork(&mut self) -> Option<SubscriptionHandle> {
        let link = self.link.next_fork().await?;
        Some(Self::new(
            link,
            self.target.clone(),
            self.event.clone(),
            self.has_credentials,
        ))
    }

    /// The presence documents among the notifications (RFC 3863), read; shares its place with [`next`](Self::next). In the
    /// event `presence` what makes no sense got 400 and is not seen here; in others it is an error, and the next one follows.
    #[cfg(feature = "pidf")]
    pub fn presence(&mut self) -> Documents<'_, crate::Presence> {
        Documents {
            link: &self.link,
            read: Notification::presence,
        }
    }

    /// The message summaries among the notifications (RFC 3842), read; shares its place with [`next`](Self::next). What is
    /// none is an error, and the next one follows.
    pub fn message_summaries(&mut self) -> Documents<'_, MessageSummary> {
        Documents {
            link: &self.link,
            read: Notification::message_summary,
        }
    }

    /// Refreshes now, and gives the seconds that are granted; the notifier sends its present state again.
    ///
    /// A 2xx "MUST contain an Expires header field" (RFC 6665 §4.2.1.1); where a notifier forgets it, what was asked for
    /// counts, or what a NOTIFY has said since.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](crate::SipClient::subscribe); the subscription takes the failure as one of its own refreshes.
    /// [`Error::Closed`] when it is over.
    pub async fn refresh(&self) -> Result<u32> {
        let response = self.link.refresh().await?;
        if response.status().is_success() {
            let granted = response.headers().expires().ok().flatten();
            return Ok(granted.unwrap_or_else(|| self.seconds_left()));
        }
        let refused = SubscriptionEnd::Refused {
            response,
            refusal: None,
        };
        Err(failure(refused, self.has_credentials))
    }

    fn seconds_left(&self) -> u32 {
        let left = match self.state() {
            SubscriptionState::Active { expires_in }
            | SubscriptionState::Pending { expires_in } => expires_in,
            _ => return 0,
        };
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// Ends the subscription with an expiry of zero, and waits for its end: the last NOTIFY, which can still be read, or
    /// 64 × T1. Calling it again does nothing. Dropped, the future gives up the wait alone.
    ///
    /// # Errors
    ///
    /// The SUBSCRIBE that was to end it was refused or not answered. The subscription is over all the same: its next NOTIFY
    /// gets 481.
    pub async fn terminate(&self) -> Result<()> {
        match self.link.terminate().await {
            end @ (SubscriptionEnd::Refused { .. } | SubscriptionEnd::NoAnswer(_)) => {
                Err(failure(end, self.has_credentials))
            }
            SubscriptionEnd::Stopped => Err(Error::Closed),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for SubscriptionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionHandle")
            .field("target", &self.target)
            .field("event", &self.event)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// The notifications of a subscription: see [`SubscriptionHandle::notifications`].
#[derive(Debug)]
pub struct Notifications<'a> {
    link: &'a Subscription,
}

impl Stream for Notifications<'_> {
    type Item = Notification;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Notification>> {
        let next = self.link.poll_next(context);
        next.map(|notification| notification.map(Notification::new))
    }
}

/// Notifications of one type, read: see [`SubscriptionHandle::presence`] and [`SubscriptionHandle::message_summaries`].
/// Notifications without a body, or with one of another type, are passed over.
pub struct Documents<'a, T> {
    link: &'a Subscription,
    read: fn(&Notification) -> Option<std::result::Result<T, BodyError>>,
}

impl<T> Documents<'_, T> {
    /// Waits for the next; `None` when the subscription is over. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<std::result::Result<T, BodyError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<T> Stream for Documents<'_, T> {
    type Item = std::result::Result<T, BodyError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(notification) = ready!(self.link.poll_next(context)) else {
                return Poll::Ready(None);
            };
            let document = (self.read)(&Notification::new(notification));
            if document.is_some() {
                return Poll::Ready(document);
            }
        }
    }
}

impl<T> fmt::Debug for Documents<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").finish_non_exhaustive()
    }
}
