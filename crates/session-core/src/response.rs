//! [`SipResponse`]: a final answer as data.

use std::borrow::Cow;
use std::fmt;

use sipora_message::{HeaderName, Response, StatusCode};

/// Holds a final answer: status, reason, every header field in order, and the body. Cheap to clone.
///
/// ```
/// use sipora_session_core::SipResponse;
/// use sipora_session_core::message::{Limits, Response};
///
/// let text = "SIP/2.0 200 OK\r\nContact: <sip:a@192.0.2.1>\r\nm: <sip:a@192.0.2.2>\r\n\r\n";
/// let response = SipResponse::from(Response::parse(text, &Limits::default())?);
/// assert_eq!(response.status().as_u16(), 200);
/// assert_eq!(response.header("contact").as_deref(), Some("<sip:a@192.0.2.1>"));
/// assert_eq!(response.headers_named("Contact").count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SipResponse {
    message: Response,
}

impl SipResponse {
    /// The status code; prints as its number.
    pub fn status(&self) -> StatusCode {
        self.message.status()
    }

    /// The reason phrase, as the peer wrote it.
    pub fn reason(&self) -> Cow<'_, str> {
        self.message.reason()
    }

    /// Tells whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        self.status().is_success()
    }

    /// The value of the first header field of this name, in any case, long or compact.
    ///
    /// Octets that are no UTF-8 become U+FFFD; [`message`](Self::message) has them as they came.
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let name = HeaderName::parse(name)?;
        self.message
            .headers()
            .first(&name)
            .map(String::from_utf8_lossy)
    }

    /// The tag in To: the user agent that has answered. Where a request was forked, answers differ by it.
    pub fn to_tag(&self) -> Option<&str> {
        self.message.headers().to().ok()?.tag()
    }

    /// The values of every header field of this name, one for each line.
    pub fn headers_named(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        HeaderName::parse(name)
            .into_iter()
            .flat_map(|name| self.message.headers().all(&name).collect::<Vec<_>>())
            .map(String::from_utf8_lossy)
    }

    /// Every header field in order: canonical name and value.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, Cow<'_, str>)> {
        self.message
            .headers()
            .iter()
            .map(|header| (header.name(), String::from_utf8_lossy(header.value())))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.message.body()
    }

    /// The message, for typed access to its header fields.
    pub fn message(&self) -> &Response {
        &self.message
    }
}

impl From<Response> for SipResponse {
    fn from(message: Response) -> Self {
        SipResponse { message }
    }
}

/// Shows the start line alone: headers may hold what does not belong into a log.
impl fmt::Debug for SipResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SipResponse({} {})", self.status(), self.reason())
    }
}
