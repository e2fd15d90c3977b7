//! [`Notification`]: what a notifier tells.

use sipora_message::{Request, SubscriptionPhase};

use crate::{BodyError, MessageSummary};

/// What a NOTIFY told: its body as octets, and typed where the type is one that this crate knows.
#[derive(Debug, Clone)]
pub struct Notification {
    inner: sipora_dialog_core::Notification,
}

impl Notification {
    pub(super) fn new(inner: sipora_dialog_core::Notification) -> Self {
        Self { inner }
    }

    /// The body; empty where the notifier has nothing to tell, as long as a subscription is pending for one.
    pub fn body(&self) -> &[u8] {
        self.inner.body()
    }

    /// The media type of the body, without parameters, in lower case; none where there is no body.
    pub fn content_type(&self) -> Option<String> {
        self.inner.content_type()
    }

    /// What the NOTIFY says about the subscription.
    pub fn phase(&self) -> SubscriptionPhase {
        self.inner.phase
    }

    /// How many notifications before this one were given up, because they were not read in time.
    pub fn missed(&self) -> u64 {
        self.inner.missed
    }

    /// The NOTIFY, every header field of it.
    pub fn request(&self) -> &Request {
        &self.inner.request
    }

    /// The body as a message summary (RFC 3842); `None` for other types.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when it claims to be one and is none.
    pub fn message_summary(&self) -> Option<Result<MessageSummary, BodyError>> {
        self.is("application/simple-message-summary")
            .then(|| MessageSummary::parse(self.body()))
    }

    /// The body as a presence document (RFC 3863); `None` for other types.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when it claims to be one and is none. In the event `presence` such a NOTIFY got 400 and is not seen
    /// here.
    #[cfg(feature = "pidf")]
    pub fn presence(&self) -> Option<Result<crate::Presence, BodyError>> {
        self.is("application/pidf+xml")
            .then(|| crate::Presence::parse(self.body()))
    }

    fn is(&self, media_type: &str) -> bool {
        !self.body().is_empty() && self.content_type().as_deref() == Some(media_type)
    }
}
