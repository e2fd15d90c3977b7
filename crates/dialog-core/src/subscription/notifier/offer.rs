//! What goes into and out of a [`Notifier`](super::Notifier).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sipora_message::{Request, Response, ResponseBuilder, Scheme, StatusCode, Uri};
use sipora_transport::Flow;

use crate::{ApiError, Dialog};

/// What to do with a SUBSCRIBE.
#[derive(Debug)]
#[non_exhaustive]
pub enum Subscribed {
    /// Answer with this, with a To tag where there is none. A refresh that was accepted owes its NOTIFY.
    Answer(Box<ResponseBuilder>),
    /// Somebody wants a new subscription; the application decides.
    Offer(Box<Offer>),
}

/// A new subscription that the rules allow, for the application to decide on: see [`Decision`].
///
/// It belongs to nobody until it is [accepted](super::Notifier::accept) or [refused](Self::refuse), and can be kept as long
/// as the SUBSCRIBE may go unanswered; how many are kept is for who keeps them to limit. Dropped, it leaves nothing behind.
#[derive(Debug, Clone)]
pub struct Offer {
    pub(super) request: Request,
    pub(super) event: String,
    pub(super) event_id: Option<String>,
    pub(super) resource: Uri,
    pub(super) granted: u32,
    pub(super) source: IpAddr,
    pub(super) flow: Flow,
    pub(super) interval: Duration,
    pub(super) dialog: Dialog,
    pub(super) tag: String,
}

impl Offer {
    /// The SUBSCRIBE.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The event, without parameters.
    pub fn package(&self) -> &str {
        self.event.split(';').next().unwrap_or_default().trim()
    }

    /// What is to be watched: the Request-URI.
    pub fn resource(&self) -> &Uri {
        &self.resource
    }

    /// For how many seconds it will be granted; 0 for the present state alone.
    pub fn expires(&self) -> u32 {
        self.granted
    }

    /// The address that it came from; of an IPv6 address the network of 64 bits.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// The flow that it came over.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Who wants it, as From says: a URI. That it is true is for who authenticates the request to see to.
    pub fn subscriber(&self) -> &str {
        self.dialog.remote_uri()
    }

    /// Whether our Contact has to be a SIPS URI: RFC 3261 §12.1.1 looks at the Request-URI and the top Record-Route, or the
    /// Contact where there is none.
    pub(super) fn is_secure(&self) -> bool {
        self.resource.scheme() == Scheme::Sips || self.dialog.next_hop().scheme() == Scheme::Sips
    }

    /// Begins the answer that refuses it: 403, 404, 603 and the like (RFC 6665 §4.2.1.3).
    pub fn refuse(&self, status: StatusCode) -> ResponseBuilder {
        Response::for_request(&self.request, status).to_tag(&self.tag)
    }
}

/// What an application says to an [`Offer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Allowed: `active`.
    Active,
    /// Somebody else has to say: `pending`, and a NOTIFY that tells nothing.
    Pending,
    /// No: 403, 404, 603 and the like (RFC 6665 §4.2.1.3).
    Refuse(StatusCode),
}

/// A body: its media type and its octets. INVITE, INFO, MESSAGE, NOTIFY and answers carry one; what is in it is the application's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its media type.
    pub content_type: String,
    /// Its octets.
    pub bytes: Bytes,
}

impl Body {
    /// Makes a body.
    pub fn new(content_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self {
            content_type: content_type.to_owned(),
            bytes: bytes.into(),
        }
    }
}

/// Names a subscription to what we tell. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionKey(pub(super) u64);

/// A subscription, as the application may look at it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotifierSubscription {
    /// Its name.
    pub key: SubscriptionKey,
    /// The event, without parameters.
    pub package: String,
    /// What is watched.
    pub resource: Uri,
    /// Whether nobody has allowed it yet.
    pub is_pending: bool,
    /// Whether the NOTIFY that is due is its last.
    pub is_ending: bool,
    /// Who watches, as From said it: a URI. What it is worth is for the application to know.
    pub subscriber: String,
    /// When it ends if it is not refreshed.
    pub expires_at: Instant,
}

/// A NOTIFY to be sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotifierRequest {
    /// On whose behalf.
    pub key: SubscriptionKey,
    /// The request, without Via.
    pub request: Request,
    /// The URI to locate, where there is no flow or it has ended.
    pub next_hop: Uri,
    /// The flow by which the last SUBSCRIBE came, where it leads to the subscriber itself: no route is set, and nobody else
    /// has put a Via on the request; over UDP, `rport` or the port in Via says that it listens where it sends from. Behind a
    /// NAT, or with a Contact that nobody can connect to, it is the only way. It may have been closed; over UDP it is our
    /// socket with the peer's address.
    pub flow: Option<Flow>,
}

/// How a subscription to what we tell came to its end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NotifierEnd {
    /// Its subscriber ended it, or had only asked for the present state.
    Unsubscribed,
    /// It was not refreshed.
    Expired,
    /// We ended it: [`Notifier::terminate`](super::Notifier::terminate).
    Terminated,
    /// A NOTIFY was refused in a way that ends it (RFC 6665 §4.2.2).
    Refused(StatusCode),
    /// A NOTIFY got no answer, or could not be sent.
    Unreachable(ApiError),
}

/// Refuses to do something with a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotifierError {
    /// There is none of this name, or no more.
    #[error("no such subscription")]
    Unknown,
}
