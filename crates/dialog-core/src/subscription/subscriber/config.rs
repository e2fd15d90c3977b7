//! What a [`Subscriber`](super::Subscriber) is told: its settings, and what to subscribe to.

use std::time::Duration;

use sipora_message::{HeaderName, RequestBuilder, Uri};

use crate::subscription::EventPackage;

/// Settings of a [`Subscriber`](super::Subscriber).
#[derive(Debug, Clone)]
pub struct SubscriberConfig {
    /// How long a NOTIFY may take after the 2xx: timer N. Default 64 × T1, 32 s.
    pub timer_n: Duration,
    /// Subscriptions at once. Default 10,000.
    pub max_subscriptions: usize,
    /// Subscriptions of one SUBSCRIBE. Default 8; NOTIFYs of further notifiers get 481.
    pub max_forks: u8,
    /// How often connections that subscriptions live on are pinged (RFC 5626 §4.4), so that one that is dead is found out and
    /// replaced before the next refresh. None by default: what ends without a word is noticed then.
    pub keep_alive: Option<Duration>,
    /// Whether NOTIFYs whose To has no tag, which no SUBSCRIBE of ours can have asked for, are left to other users of the
    /// endpoint. Default no: they get 481 (RFC 6665 §4.1.3). Voice mail systems send message summaries like that.
    pub leaves_unsolicited: bool,
}

impl Default for SubscriberConfig {
    fn default() -> Self {
        Self {
            timer_n: Duration::from_secs(32),
            max_subscriptions: 10_000,
            max_forks: 8,
            keep_alive: None,
            leaves_unsolicited: false,
        }
    }
}

/// What to subscribe to.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Request-URI and To.
    pub target: Uri,
    /// From.
    pub from: Uri,
    /// Contact, where NOTIFYs are to be sent.
    pub contact: Uri,
    /// The event, with parameters where it has any: `presence`, `dialog;sla`.
    pub event: String,
    /// For how many seconds to ask; 0 asks for the present state alone (RFC 6665 §4.4.3).
    pub expires: u32,
    /// Header fields for every SUBSCRIBE: a preloaded Route, User-Agent. A Route goes into the first alone.
    pub headers: Vec<(HeaderName, String)>,
}

impl Subscribe {
    pub(super) fn complete(
        &self,
        mut builder: RequestBuilder,
        expires: u32,
        is_first: bool,
        package: &dyn EventPackage,
    ) -> RequestBuilder {
        for (name, value) in &self.headers {
            if is_first || *name != HeaderName::Route {
                builder = builder.header(name.clone(), value);
            }
        }
        let accept = package.accept().join(", ");
        if !accept.is_empty() {
            builder = builder.header(HeaderName::Accept, accept);
        }
        builder
            .contact(format!("<{}>", self.contact))
            .header(HeaderName::Event, &self.event)
            .expires(expires)
    }
}

/// Refuses to subscribe. Nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There are as many subscriptions as [`SubscriberConfig::max_subscriptions`] allows.
    #[error("too many subscriptions")]
    TooMany,
    /// The request cannot be made.
    #[error("the SUBSCRIBE cannot be sent: {0}")]
    Invalid(String),
}
