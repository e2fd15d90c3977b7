//! What an application answers to requests that come in.

use std::borrow::Cow;
use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use sipora_message::{HeaderName, Request, StatusCode};
use sipora_transport::{Flow, Transport};

use crate::{BodyError, MessageSummary, SubscribeAnswer, Watcher};

/// Answers the requests that come to a coordinator. Every method has a default, and so will those that later versions add.
///
/// A method that takes more than 5 s is given up and 500 (Server Internal Error) sent in its place, as when it panics: the
/// peer gives up after 32 s, and a late answer is worse than an honest one (RFC 4320 §4.2). It runs in a task of its own,
/// beside others; 32 run at once, 128 more wait, and requests beyond that get 503. It awaits and does not block: what blocks
/// its thread cannot be given up.
///
/// ```
/// use async_trait::async_trait;
/// use sipora_session_core::{Answer, Incoming, SessionHandler, StatusCode};
///
/// struct Reader;
///
/// #[async_trait]
/// impl SessionHandler for Reader {
///     async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
///         if !incoming.is_text() {
///             return Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).with_header("Accept", "text/plain");
///         }
///         println!("{}: {}", incoming.from(), incoming.text());
///         Answer::ok()
///     }
/// }
/// ```
#[async_trait]
pub trait SessionHandler: Send + Sync + 'static {
    /// Answers OPTIONS outside any dialog; by default with 200 and what this coordinator can do (RFC 3261 §11.2).
    ///
    /// One with a body that is no session description, and not optional, gets 415 without being offered. An answer of 200 gets Allow, Accept, Accept-Encoding, Accept-Language and Supported where the application did not
    /// set them. A status below 200 makes no final answer and is sent as 500.
    async fn on_options(&self, incoming: &Incoming<'_>) -> Answer {
        let _ = incoming;
        Answer::ok()
    }

    /// Answers MESSAGE outside any dialog, an instant message (RFC 3428); by default with 405 (Method Not Allowed) and an
    /// Allow without it, which is what RFC 3261 §8.2.1 has for a method that is recognized but not supported. The same
    /// goes for a coordinator without a handler.
    ///
    /// [`Answer::ok`] says that the message was delivered. A body that cannot be shown deserves 415
    /// ([`StatusCode::UNSUPPORTED_MEDIA_TYPE`]) with the types that can in Accept. A 2xx carries no body (RFC 3428 §7): one
    /// that the application sets is left out.
    ///
    /// The answer of OPTIONS lists MESSAGE in Allow wherever there is a handler; one that keeps this default may set its
    /// own Allow in [`on_options`](Self::on_options).
    async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
        let _ = incoming;
        Answer::new(StatusCode::METHOD_NOT_ALLOWED)
    }

    /// Answers NOTIFY outside any subscription; by default with 481, as RFC 6665 §4.1.3 has it.
    ///
    /// Voice mail systems and PBXes send message summaries unasked; [`Answer::ok`] takes one. What a NOTIFY tells is in
    /// [`Incoming::event`] and [`Incoming::message_summary`]. One within a dialog is never offered: it belongs to a
    /// [`SubscriptionHandle`](crate::SubscriptionHandle), or to nobody and gets 481. One that names no event gets 489.
    async fn on_notify(&self, incoming: &Incoming<'_>) -> Answer {
        let _ = incoming;
        Answer::new(StatusCode::CALL_DOES_NOT_EXIST).with_reason("Subscription does not exist")
    }

    /// Answers SUBSCRIBE to one of the events that
    /// [`with_event_package`](crate::SessionManagerBuilder::with_event_package) named; by default with 489 (Bad Event), which
    /// every other event gets without being offered.
    ///
    /// `watcher` is the subscription: to be kept as long as it is to be served. Offered are first SUBSCRIBEs alone, which the
    /// rules of RFC 6665 §4.2.1 let pass; refreshes and ends are seen to. Who has to ask somebody answers
    /// [`SubscribeAnswer::Pending`]: "notifiers MUST NOT wait for a user response".
    ///
    /// 5,000 subscriptions may live at once, whoever has them: behind a proxy all seem to come from one address. Without a
    /// proxy it is this method that keeps one [source](Incoming::source) from taking them all.
    ///
    /// ```
    /// use async_trait::async_trait;
    /// use sipora_session_core::{Answer, Incoming, SessionHandler, StatusCode, SubscribeAnswer, Watcher};
    /// use std::sync::Mutex;
    ///
    /// struct Station {
    ///     watchers: Mutex<Vec<Watcher>>,
    /// }
    ///
    /// #[async_trait]
    /// impl SessionHandler for Station {
    ///     async fn on_subscribe(&self, incoming: &Incoming<'_>, watcher: Watcher) -> SubscribeAnswer {
    ///         if incoming.from() != "sip:alice@example.com" {
    ///             return SubscribeAnswer::Refuse(Answer::new(StatusCode::FORBIDDEN));
    ///         }
    ///         let _ = watcher.notify("text/plain", "sunny");
    ///         let mut watchers = self.watchers.lock().unwrap();
    ///         watchers.retain(|other| other.end().is_none());
    ///         watchers.push(watcher);
    ///         SubscribeAnswer::Active
    ///     }
    /// }
    ///
    /// impl Station {
    ///     fn tell(&self, weather: &'static str) {
    ///         for watcher in self.watchers.lock().unwrap().iter() {
    ///             // Who has gone hears nothing.
    ///             let _ = watcher.notify("text/plain", weather);
    ///         }
    ///     }
    /// }
    /// ```
    async fn on_subscribe(&self, incoming: &Incoming<'_>, watcher: Watcher) -> SubscribeAnswer {
        let _ = (incoming, watcher);
        SubscribeAnswer::Refuse(Answer::new(StatusCode::BAD_EVENT))
    }
}

/// A request that came in.
#[derive(Debug)]
pub struct Incoming<'a> {
    pub(crate) request: &'a Request,
    pub(crate) flow: Flow,
}

impl Incoming<'_> {
    /// The request, its top Via stamped with `received` and `rport`.
    pub fn request(&self) -> &Request {
        self.request
    }

    /// The address that it came from.
    pub fn source(&self) -> SocketAddr {
        self.flow.remote
    }

    /// The transport that it came over.
    pub fn transport(&self) -> Transport {
        self.flow.transport
    }

    /// The URI in From: who says to have sent it. A server that the request came through may have checked that; without
    /// one, anybody can write anything there.
    pub fn from(&self) -> &str {
        let from = self.request.headers().from();
        from.map_or("", |from| from.uri().as_str())
    }

    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        self.request.body()
    }

    /// The body as text, what is not UTF-8 replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.request.body())
    }

    /// What the body is, as in `text/plain;charset=UTF-8`.
    pub fn content_type(&self) -> Option<Cow<'_, str>> {
        self.request.headers().text(&HeaderName::ContentType)
    }

    /// The event of a NOTIFY or SUBSCRIBE, without parameters.
    pub fn event(&self) -> Option<String> {
        let event = self.request.headers().event().ok().flatten()?;
        Some(event.package().to_owned())
    }

    /// The body as a message summary (RFC 3842); `None` for other types.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when it claims to be one and is none; such a request deserves 400.
    pub fn message_summary(&self) -> Option<Result<MessageSummary, BodyError>> {
        self.is("application", "simple-message-summary")
            .then(|| MessageSummary::parse(self.body()))
    }

    /// The body as a presence document (RFC 3863); `None` for other types.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when it claims to be one and is none; such a request deserves 400.
    #[cfg(feature = "pidf")]
    pub fn presence(&self) -> Option<Result<crate::Presence, BodyError>> {
        self.is("application", "pidf+xml")
            .then(|| crate::Presence::parse(self.body()))
    }

    /// Whether the body is `text/plain`.
    pub fn is_text(&self) -> bool {
        self.is("text", "plain")
    }

    fn is(&self, kind: &str, subtype: &str) -> bool {
        let content_type = self.request.headers().content_type();
        matches!(content_type, Ok(Some(is)) if is.is(kind, subtype))
    }
}

/// A final answer that an application gives.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) reason: Option<String>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Option<(String, Bytes)>,
}

impl Answer {
    /// Makes an answer with this status and its usual reason phrase.
    pub fn new(status: StatusCode) -> Self {
        Answer {
            status,
            reason: None,
            headers: Vec::new(),
            body: None,
        }
    }

    /// Makes a 200 (OK).
    pub fn ok() -> Self {
        Answer::new(StatusCode::OK)
    }

    /// Replaces the reason phrase.
    #[must_use]
    pub fn with_reason(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// Adds a header field. One that cannot be sent (a line end in it, say) makes the answer a 500.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<HeaderName>, value: &str) -> Self {
        self.headers.push((name.into(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = Some((content_type.to_owned(), body.into()));
        self
    }
}
