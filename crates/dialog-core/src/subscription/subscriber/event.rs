//! What comes out of a [`Subscriber`](super::Subscriber).

use std::time::Duration;

use sipora_auth::AuthError;
use sipora_message::{HeaderName, Request, Response, StatusCode, SubscriptionPhase, Uri};

use crate::ApiError;
use crate::subscription::{Resubscribe, TerminationReason};

/// Names a subscription of ours. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId {
    /// The SUBSCRIBE that began it.
    pub(super) set: u64,
    /// Its place among those that the SUBSCRIBE made.
    pub(super) place: u8,
}

/// What a subscription is doing, as its subscriber sees it (RFC 6665 §4.1.2).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SubscriptionState {
    /// SUBSCRIBE was sent, or accepted; no NOTIFY has come yet (`notify_wait`).
    Waiting,
    /// The notifier has not decided yet.
    Pending {
        /// How long it lasts if it is not refreshed.
        expires_in: Duration,
    },
    /// Accepted.
    Active {
        /// How long it lasts if it is not refreshed.
        expires_in: Duration,
    },
    /// Over. Nothing is sent any more, and no other state follows.
    Terminated(SubscriptionEnd),
}

/// Why a subscription is over.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SubscriptionEnd {
    /// We ended it, or only asked for the present state with an expiry of zero.
    Unsubscribed,
    /// The notifier ended it.
    ByNotifier {
        /// Why.
        reason: TerminationReason,
        /// The time that it wants us to wait.
        retry_after: Option<Duration>,
    },
    /// A SUBSCRIBE was refused: the first, or a refresh, in a way that ends the subscription (RFC 6665 §4.1.2.2).
    Refused {
        /// The answer.
        response: Response,
        /// Why a 401 or 407 was not answered.
        refusal: Option<Box<AuthError>>,
    },
    /// The first SUBSCRIBE, or the one that was to end it, got no answer.
    NoAnswer(ApiError),
    /// No NOTIFY followed an accepted SUBSCRIBE (timer N, RFC 6665 §4.1.2.4).
    NoNotify,
    /// It could not be refreshed in time.
    Expired {
        /// What became of the last refresh; none where there was none to come.
        cause: Option<Box<RefreshFailure>>,
    },
    /// It was given up here: dropped, or the endpoint ended.
    Stopped,
}

/// What became of a refresh that did not succeed, and did not end the subscription by itself.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshFailure {
    /// It was refused.
    #[error("{status} {reason}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The reason phrase, as much of it as a person reads.
        reason: String,
    },
    /// It got no answer.
    #[error(transparent)]
    NoAnswer(ApiError),
    /// It could not be made.
    #[error("the SUBSCRIBE cannot be sent: {0}")]
    Invalid(String),
}

impl SubscriptionState {
    /// Tells whether it is over.
    pub fn is_terminal(&self) -> bool {
        matches!(self, SubscriptionState::Terminated(_))
    }
}

impl SubscriptionEnd {
    /// Tells when to subscribe again, where a notifier ended it; for other ends `None`: that is the application's decision.
    pub fn resubscribe(&self) -> Option<Resubscribe> {
        match self {
            SubscriptionEnd::ByNotifier {
                reason,
                retry_after,
            } => Some(reason.resubscribe(*retry_after)),
            _ => None,
        }
    }

    /// Whether a NOTIFY said so: then the SUBSCRIBE had been accepted, whatever became of its answer.
    pub(super) fn is_by_notify(&self) -> bool {
        matches!(
            self,
            SubscriptionEnd::Unsubscribed | SubscriptionEnd::ByNotifier { .. }
        )
    }
}

/// A NOTIFY that was accepted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Notification {
    /// The NOTIFY as it came.
    pub request: Request,
    /// What it says about the subscription.
    pub phase: SubscriptionPhase,
    /// How many notifications before this one were given up, because nobody read them in time.
    pub missed: u64,
}

impl Notification {
    /// The body; empty where the notifier had nothing to tell.
    pub fn body(&self) -> &[u8] {
        self.request.body()
    }

    /// The media type of the body, without parameters, in lower case.
    pub fn content_type(&self) -> Option<String> {
        let content_type = self.request.headers().content_type().ok().flatten()?;
        Some(format!("{}/{}", content_type.kind(), content_type.subtype()).to_lowercase())
    }
}

/// What happened to a subscription.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SubscriberEvent {
    /// The first SUBSCRIBE was accepted: by a 2xx, or by a NOTIFY where the 2xx was lost.
    Accepted {
        /// The subscription.
        id: SubscriptionId,
        /// The 2xx.
        response: Option<Response>,
    },
    /// A refresh came to its end; the state tells the rest.
    Refreshed {
        /// The subscription.
        id: SubscriptionId,
        /// Its answer, whatever its status, or why there was none.
        result: Result<Response, ApiError>,
    },
    /// A notifier made a further subscription of a SUBSCRIBE that was forked; its first notification follows.
    Forked {
        /// The subscription that asked.
        origin: SubscriptionId,
        /// The new one.
        id: SubscriptionId,
    },
    /// A NOTIFY was accepted.
    Notified {
        /// The subscription.
        id: SubscriptionId,
        /// The NOTIFY.
        notification: Box<Notification>,
    },
    /// The state changed. After `Terminated` nothing more comes.
    State {
        /// The subscription.
        id: SubscriptionId,
        /// The new state.
        state: SubscriptionState,
    },
}

/// A SUBSCRIBE to be sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SubscriberRequest {
    /// On whose behalf.
    pub id: SubscriptionId,
    /// The request, without Via.
    pub request: Request,
    /// The URI to locate.
    pub next_hop: Uri,
}

/// How to answer a NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotifyAnswer {
    /// The status.
    pub status: StatusCode,
    /// A reason phrase of its own.
    pub reason: Option<String>,
    /// Header fields that the status wants.
    pub headers: Vec<(HeaderName, String)>,
}

impl NotifyAnswer {
    pub(super) fn new(status: StatusCode) -> Self {
        Self {
            status,
            reason: None,
            headers: Vec::new(),
        }
    }

    pub(super) fn because(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..Self::new(status)
        }
    }
}
