//! [`Watcher`]: what an application holds of somebody's subscription.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sipora_dialog_core::{Body, NotifierEnd, TerminationReason};
use sipora_message::{StatusCode, Uri};
use sipora_transaction_core::UserHandle;

use super::shared::{Board, Shared, Wishes};
use super::user::Command;
use crate::{Answer, Error, Result};

/// Somebody's subscription to what this application tells (RFC 6665 §4.2). It comes with
/// [`SessionHandler::on_subscribe`](crate::SessionHandler::on_subscribe).
///
/// [`notify`](Self::notify) says what there is to tell: the subscriber gets it with the first NOTIFY, again after each of its
/// refreshes, and whenever it changes, no sooner than the package's
/// [interval](crate::EventPackage::notify_interval) after the one before; of changes that come faster, the newest. What is
/// said before the subscription is accepted is kept for its first NOTIFY. Nothing here waits, and nothing fails for want of
/// room.
///
/// Refreshes, expiry, and the order of NOTIFYs are seen to. [`ended`](Self::ended) tells the end.
///
/// Dropped, the subscription ends with the reason `probation` and a wait of a minute: nobody serves it any more.
/// [`terminate`](Self::terminate) gives a reason of one's own.
pub struct Watcher {
    shared: Arc<Shared>,
    board: Board,
    user: UserHandle<Command>,
}

/// How an application answers a SUBSCRIBE.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SubscribeAnswer {
    /// Allowed: 200, and a NOTIFY with what [`Watcher::notify`] has said by now.
    Active,
    /// Somebody has to be asked first: 200, and a NOTIFY that says `pending` and nothing else. [`Watcher::allow`] or
    /// [`Watcher::terminate`] follows.
    Pending,
    /// No: 403, 404, 489, 603 and the like (RFC 6665 §4.2.1.3). An answer below 300 is sent as 500.
    Refuse(Answer),
}

/// How somebody's subscription came to its end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WatcherEnd {
    /// Its subscriber ended it, or had only asked for the present state.
    Unsubscribed,
    /// It was not refreshed.
    Expired,
    /// [`Watcher::terminate`] ended it.
    Terminated,
    /// Its subscriber refused a NOTIFY in a way that ends it (RFC 6665 §4.2.2).
    Refused(StatusCode),
    /// A NOTIFY got no answer, or its subscriber could not be reached.
    Unreachable(Arc<Error>),
    /// It never began, as the answer to the SUBSCRIBE was a refusal, or the coordinator has ended.
    Stopped,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, board: Board, user: UserHandle<Command>) -> Self {
        Self {
            shared,
            board,
            user,
        }
    }

    /// The event, without parameters.
    pub fn event(&self) -> &str {
        &self.shared.event
    }

    /// What is watched: the Request-URI.
    pub fn resource(&self) -> &Uri {
        &self.shared.resource
    }

    /// Who watches, as From said: a URI. A server on the way may have checked that; without one, anybody can write anything
    /// there.
    pub fn subscriber(&self) -> &str {
        &self.shared.subscriber
    }

    /// For how many seconds it was granted at first; 0 asks for the present state alone, and ends with the first NOTIFY.
    pub fn expires(&self) -> u32 {
        self.shared.expires
    }

    /// Says what there is to tell: the whole state, in the place of what was said before.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] for a content type that is none, [`Error::Closed`] when it has ended.
    pub fn notify(&self, content_type: &str, body: impl Into<Bytes>) -> Result<()> {
        if !is_media_type(content_type) {
            let reason = format!("`{}` is no media type", content_type.escape_debug());
            return Err(Error::request("Content-Type", reason));
        }
        let body = Body::new(content_type, body);
        self.wish(|wishes| {
            wishes.body = Some(body);
            wishes.has_changed = true;
        })
    }

    /// Allows a subscription that is pending; a NOTIFY tells the state that [`notify`](Self::notify) has said.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when it has ended.
    pub fn allow(&self) -> Result<()> {
        self.wish(|wishes| wishes.is_allowed = true)
    }

    /// Ends it with a last NOTIFY that says why, and when to come again where that is up to us: RFC 6665 §4.1.3 has the
    /// meanings. Calling it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when it has ended.
    pub fn terminate(
        &self,
        reason: TerminationReason,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let seconds = |wait: Duration| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        let ending = (reason, retry_after.map(seconds));
        self.wish(|wishes| wishes.ending = wishes.ending.take().or(Some(ending)))
    }

    /// The end, where it has come.
    pub fn end(&self) -> Option<WatcherEnd> {
        self.shared.end.borrow().clone()
    }

    /// Waits for the end. Dropped, the future gives up the wait alone.
    pub async fn ended(&self) -> WatcherEnd {
        let mut end = self.shared.end.subscribe();
        let end = end.wait_for(Option::is_some).await;
        let end = end.ok().and_then(|end| end.clone());
        end.unwrap_or(WatcherEnd::Stopped)
    }

    fn wish(&self, wish: impl FnOnce(&mut Wishes)) -> Result<()> {
        if self.shared.end.borrow().is_some() {
            return Err(Error::Closed);
        }
        self.board.wish(&self.shared, wish);
        // A full queue means that commands wait, and each of them makes the user look.
        let _ = self.user.try_send(Command::Look);
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.terminate(TerminationReason::Probation, Some(UNSERVED));
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("event", &self.shared.event)
            .field("resource", &self.shared.resource)
            .field("subscriber", &self.shared.subscriber)
            .field("end", &*self.shared.end.borrow())
            .finish_non_exhaustive()
    }
}

impl From<NotifierEnd> for WatcherEnd {
    fn from(end: NotifierEnd) -> Self {
        match end {
            NotifierEnd::Unsubscribed => WatcherEnd::Unsubscribed,
            NotifierEnd::Expired => WatcherEnd::Expired,
            NotifierEnd::Terminated => WatcherEnd::Terminated,
            NotifierEnd::Refused(status) => WatcherEnd::Refused(status),
            NotifierEnd::Unreachable(error) => WatcherEnd::Unreachable(Arc::new(error.into())),
            _ => WatcherEnd::Stopped,
        }
    }
}

/// Whether a line could stand in Content-Type: a NOTIFY that cannot be made would end the subscription.
fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
        !part.is_empty() && part.chars().all(is_of_token)
    };
    let name = text.split(';').next().unwrap_or_default().trim();
    let parts = name.split_once('/');
    let is_line = !text.chars().any(char::is_control);
    is_line && parts.is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// After this time who subscribed may look whether somebody serves it again.
const UNSERVED: Duration = Duration::from_secs(60);
