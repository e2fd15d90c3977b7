//! [`PublicationHandle`]: what a caller holds of a publication.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sipora_message::Uri;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::owner::{Details, Operation};
use super::publisher::Document;
use crate::registration::{RegistrationState, now};
use crate::states::{Life, States};
use crate::{Error, Result, SipResponse};

/// Tells what a publication is doing. Durations count from the moment at which the state was entered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PublicationState {
    /// The server has what was published.
    Published {
        /// For how many seconds, as granted last.
        expires: u32,
        /// When it will be refreshed.
        refresh_in: Duration,
    },
    /// A PUBLISH is under way.
    Publishing {
        /// How long the state lasts without it.
        expires_in: Duration,
    },
    /// The last PUBLISH failed for a reason that may pass; it will be sent again.
    Retrying {
        /// The failure.
        error: Arc<Error>,
        /// When it will be sent again.
        retry_in: Duration,
        /// How long the state lasts without it; zero when it has expired.
        expires_in: Duration,
    },
    /// The server refused for good; nothing is sent any more.
    Failed(Arc<Error>),
    /// What was published was removed.
    Removed,
    /// The handle was dropped or the coordinator shut down; the state expires by itself.
    Stopped,
}

/// Follows the states of a publication: see [`PublicationHandle::states`].
pub type PublicationStates = States<PublicationState>;

impl PublicationState {
    /// Tells whether the publication has ended.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            PublicationState::Failed(_) | PublicationState::Removed | PublicationState::Stopped
        )
    }
}

impl Life for PublicationState {
    fn is_last(&self) -> bool {
        self.is_terminal()
    }
}

/// A publication lives as a registration does; the one machine serves both.
impl From<RegistrationState> for PublicationState {
    fn from(state: RegistrationState) -> Self {
        match state {
            RegistrationState::Registered {
                expires,
                refresh_in,
            } => PublicationState::Published {
                expires,
                refresh_in,
            },
            // What is published lives at the server, whatever becomes of the way there: that flows end is not told to the
            // machine of a publication.
            RegistrationState::Refreshing { expires_in }
            | RegistrationState::FlowLost { expires_in, .. } => {
                PublicationState::Publishing { expires_in }
            }
            RegistrationState::Retrying {
                error,
                retry_in,
                expires_in,
            } => PublicationState::Retrying {
                error,
                retry_in,
                expires_in,
            },
            RegistrationState::Failed(error) => PublicationState::Failed(error),
            RegistrationState::Unregistered => PublicationState::Removed,
            RegistrationState::Stopped => PublicationState::Stopped,
        }
    }
}

/// Keeps event state published: as long as it lives, the state is refreshed before it expires (RFC 3903 §4.3).
///
/// Refreshes come as those of a [`RegistrationHandle`](crate::RegistrationHandle) do, and failures that may pass are followed
/// by further tries as there. When the server no longer knows the entity tag (412), the whole is published anew (§5).
///
/// Dropped, it stops refreshing at once, sends nothing, and the state expires by itself. [`remove`](Self::remove) removes
/// it.
///
/// One PUBLISH at a time: what is asked for while another is under way waits for its end (§4). A future of the operations
/// below that is dropped gives up the wait alone.
#[must_use = "a publication is refreshed as long as its handle lives"]
pub struct PublicationHandle {
    pub(super) link: Link,
    pub(super) target: Uri,
    pub(super) event: String,
}

pub(super) struct Link {
    pub(super) operations: mpsc::Sender<Operation>,
    pub(super) states: watch::Receiver<PublicationState>,
    pub(super) details: watch::Receiver<Details>,
    pub(super) task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PublicationHandle {
    /// Whose state it is.
    pub fn target_uri(&self) -> &str {
        self.target.as_str()
    }

    /// The event.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// What the publication is doing.
    pub fn state(&self) -> PublicationState {
        self.link.states.borrow().clone()
    }

    /// Follows what it is doing, beginning with the present state. Many readers may follow.
    pub fn states(&self) -> PublicationStates {
        States::new(self.link.states.clone())
    }

    /// How many seconds the newest 2xx granted.
    pub fn granted(&self) -> u32 {
        self.link.details.borrow().granted
    }

    /// How long the state still lasts; zero when it has expired.
    pub fn expires_in(&self) -> Duration {
        let until = self.link.details.borrow().until;
        until.saturating_duration_since(now())
    }

    /// The entity tag of the newest 2xx (SIP-ETag).
    pub fn entity_tag(&self) -> Option<String> {
        self.link.details.borrow().tag.clone()
    }

    /// The newest 2xx.
    pub fn response(&self) -> SipResponse {
        self.link.details.borrow().response.clone()
    }

    /// Refreshes now, and gives the seconds that are newly granted.
    ///
    /// # Errors
    ///
    /// Those of [`SipClient::publish`](crate::SipClient::publish); the publication takes the failure as one of its own
    /// refreshes.
    pub async fn refresh(&self) -> Result<u32> {
        self.ask(Operation::Refresh).await
    }

    /// Puts another document in the place of what is published (RFC 3903 §4.4), and gives the seconds that are granted.
    ///
    /// # Errors
    ///
    /// Those of [`SipClient::publish`](crate::SipClient::publish). After a failure that may pass, the new document is what
    /// is tried again.
    pub async fn modify(&self, content_type: &str, body: &str) -> Result<u32> {
        let document = Document {
            content_type: content_type.to_owned(),
            body: body.to_owned(),
        };
        self.ask(|reply| Operation::Modify(document, reply)).await
    }

    /// Removes what is published (RFC 3903 §4.5). What the server has lost already is removed; calling it again does
    /// nothing.
    ///
    /// # Errors
    ///
    /// Those of [`SipClient::publish`](crate::SipClient::publish). The publication then goes on.
    pub async fn remove(&self) -> Result<()> {
        if self.is_removed() {
            return Ok(());
        }
        match self.ask(Operation::Remove).await {
            // Somebody else's call was first.
            Err(Error::Closed) if self.is_removed() => Ok(()),
            result => result,
        }
    }

    fn is_removed(&self) -> bool {
        matches!(*self.link.states.borrow(), PublicationState::Removed)
    }

    async fn ask<T>(
        &self,
        operation: impl FnOnce(oneshot::Sender<Result<T>>) -> Operation,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.link.operations.send(operation(reply)).await;
        sent.map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

impl fmt::Debug for PublicationHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicationHandle")
            .field("target", &self.target)
            .field("event", &self.event)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
