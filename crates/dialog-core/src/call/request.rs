//! What an application asks the peer of a call for, other than to change the session or end it.

use sipora_message::{HeaderName, Method};

use crate::Body;

/// A request within a call, for its method `request`: INFO (RFC 6086), MESSAGE (RFC 3428) or OPTIONS (RFC 3261 §11).
///
/// ```
/// # use sipora_dialog_core::{Body, CallRequest};
/// // As most telephones send a key that was pressed, without a package.
/// let key = CallRequest::info(Body::new("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"));
/// // As RFC 6086 has it.
/// let floor = CallRequest::info_package("g.example", Some(Body::new("text/plain", "floor")));
/// # let _ = (key, floor);
/// ```
#[derive(Debug, Clone)]
pub struct CallRequest {
    pub(super) method: Method,
    pub(super) package: Option<Box<str>>,
    pub(super) body: Option<Body>,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) to_tag: Option<Box<str>>,
}

impl CallRequest {
    /// An INFO without a package, of the kind that RFC 6086 §2 calls legacy: both sides know what it means from elsewhere.
    pub fn info(body: Body) -> Self {
        Self::new(Method::Info, Some(body))
    }

    /// An INFO of a package. A `body` of it is marked as the package's (RFC 6086 §4.3.1). It can be sent to peers alone that have
    /// named the package in Recv-Info.
    pub fn info_package(package: &str, body: Option<Body>) -> Self {
        Self {
            package: Some(package.into()),
            ..Self::new(Method::Info, body)
        }
    }

    /// A MESSAGE. RFC 3428 §4 would rather have it outside of dialogs; within one it reaches the very user agent that is in the
    /// call. Who takes none answers 405.
    pub fn message(body: Body) -> Self {
        Self::new(Method::Message, Some(body))
    }

    /// An OPTIONS: what does the peer understand, and is it there?
    pub fn options() -> Self {
        Self::new(Method::Options, None)
    }

    /// Adds a header field.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends it in the early dialog of the user agent with this To tag, while our INVITE has no final answer. Without, it goes
    /// in the dialog that is confirmed, or the only early one.
    pub fn to_tag(mut self, tag: &str) -> Self {
        self.to_tag = Some(tag.into());
        self
    }

    fn new(method: Method, body: Option<Body>) -> Self {
        Self {
            method,
            package: None,
            body,
            headers: Vec::new(),
            to_tag: None,
        }
    }
}
