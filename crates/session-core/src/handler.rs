//! What an application answers to requests that come in.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use sipora_message::{HeaderName, Request, StatusCode};
use sipora_transport::{Flow, Transport};

/// Answers the requests that come to a coordinator. Every method has a default; later versions add methods for MESSAGE,
/// NOTIFY and SUBSCRIBE, which will have defaults too.
///
/// A method that takes more than 5 s is given up and 500 (Server Internal Error) sent in its place, as when it panics: the
/// peer gives up after 32 s, and a late answer is worse than an honest one (RFC 4320 §4.2). It runs in a task of its own,
/// beside others; 32 run at once, 128 more wait, and requests beyond that get 503.
///
/// ```
/// use async_trait::async_trait;
/// use sipora_session_core::{Answer, Incoming, SessionHandler, StatusCode};
///
/// struct Busy;
///
/// #[async_trait]
/// impl SessionHandler for Busy {
///     async fn on_options(&self, incoming: &Incoming<'_>) -> Answer {
///         println!("asked by {}", incoming.source());
///         Answer::new(StatusCode::BUSY_HERE)
///     }
/// }
/// ```
#[async_trait]
pub trait SessionHandler: Send + Sync + 'static {
    /// Answers OPTIONS outside any dialog; by default with 200 and what this coordinator can do (RFC 3261 §11.2).
    ///
    /// An answer of 200 gets Allow, Accept, Accept-Encoding, Accept-Language and Supported where the application did not
    /// set them. A status below 200 makes no final answer and is sent as 500.
    async fn on_options(&self, incoming: &Incoming<'_>) -> Answer {
        let _ = incoming;
        Answer::ok()
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
