//! [`Rejection`]: how the peer's INVITE is refused.

use sipora_message::{HeaderName, StatusCode};

use crate::Body;

/// Refuses an INVITE of the peer's, with more than a status: [`Call::reject_with`](crate::Call::reject_with).
///
/// ```
/// use sipora_dialog_core::Rejection;
/// use sipora_message::{HeaderName, StatusCode};
///
/// let at_lunch = Rejection::new(StatusCode::BUSY_HERE)
///     .reason("At lunch")
///     .header(HeaderName::RetryAfter, "1800");
/// # let _ = at_lunch;
/// ```
#[derive(Debug, Clone)]
pub struct Rejection {
    pub(super) status: StatusCode,
    pub(super) reason: Option<String>,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Option<Body>,
}

impl Rejection {
    /// Refuses with this status, 300 to 699, and its usual reason phrase.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            reason: None,
            headers: Vec::new(),
            body: None,
        }
    }

    /// Replaces the reason phrase, which people may be shown.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds a header field: Retry-After with 480, 486 and 603, Warning with 488, Contact with 3xx.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a body.
    pub fn body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }
}
