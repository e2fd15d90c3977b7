//! The error of this crate.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sipora_dialog_core::ApiError;
use sipora_transaction_core::TransportFailure;
use sipora_transport::Transport;

use crate::SipResponse;

/// The result of what this crate does; with a second type it is that of the standard library, so that `*` may be imported.
///
/// ```
/// use sipora_session_core::*;
///
/// fn port(text: &str) -> Result<u16, std::num::ParseIntError> {
///     text.parse()
/// }
/// # assert_eq!(port("5060"), Ok(5060));
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Tells what went wrong, and where the peer said something, what it said.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is no URI of the kind that is needed. Nothing was sent.
    #[error("{argument} `{uri}`: {reason}{}", Place(*.offset))]
    InvalidUri {
        /// The argument or setting.
        argument: &'static str,
        /// The text that was given; what may be a password in it is `***`.
        uri: String,
        /// The byte of the text that was given at which it is wrong; 0 also where it is wrong as a whole.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// A setting of the builder cannot be used.
    #[error("{setting}: {reason}")]
    InvalidConfiguration {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A request that the caller made, or an answer in a call, cannot be sent as it is. Nothing was sent.
    #[error("it cannot be sent as it is: {header}: {reason}")]
    InvalidRequest {
        /// The header field, or `method`, `Request-URI` or `body`.
        header: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address cannot be listened on; as a rule, somebody else has the port.
    #[error("cannot listen on {transport} {address}: {source}")]
    Listen {
        /// The transport.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The coordinator was built without what this needs.
    #[error("{operation} is not enabled: {how}")]
    NotSupported {
        /// What was called.
        operation: &'static str,
        /// How to enable it.
        how: &'static str,
    },
    /// This version of the crate cannot do it yet.
    #[error("{what} is not implemented in this version")]
    NotImplemented {
        /// What it cannot do.
        what: String,
    },
    /// The peer answered with something that makes no sense.
    #[error("the answer makes no sense: {reason}")]
    ProtocolError {
        /// What is wrong with it.
        reason: String,
        /// The answer.
        response: SipResponse,
    },
    /// No final answer came in time.
    #[error("no final answer within {after:?}")]
    Timeout {
        /// How long was waited: the time allowed, or the time of the transactions, where that was shorter.
        after: Duration,
    },
    /// Credentials were there, and the peer did not take them or asked for others.
    #[error("authentication failed: {reason}")]
    AuthenticationFailed {
        /// Why, in words.
        reason: String,
        /// The last 401 or 407.
        response: SipResponse,
    },
    /// The final answer is a refusal.
    #[error("rejected: {} {}", .0.status(), .0.reason())]
    Rejected(SipResponse),
    /// The peer cannot be reached: its name does not resolve, the connection was refused or broke.
    #[error("cannot reach the peer: {source}")]
    Transport {
        /// What happened to the target tried last.
        source: TransportFailure,
    },
    /// Too many requests are in flight; later there may be room.
    #[error("too many requests in flight")]
    Busy,
    /// The call is over, or what was to be answered in it: the peer was faster.
    #[error("it is too late for that")]
    TooLate,
    /// Something else in the call comes first: an INVITE in either direction, or an offer that has no answer yet.
    #[error("{reason}")]
    NotNow {
        /// What is under way.
        reason: &'static str,
    },
    /// The registration has ended by itself, for good: [`RegistrationState::Failed`](crate::RegistrationState::Failed).
    #[error("the registration has ended: {cause}")]
    RegistrationEnded {
        /// What ended it.
        cause: Arc<Error>,
    },
    /// The coordinator was shut down, or the registration, subscription or publication has ended.
    #[error("the coordinator was shut down, or what the handle stands for has ended")]
    Closed,
}

impl Error {
    /// Gives the peer's final answer, where there was one.
    pub fn response(&self) -> Option<&SipResponse> {
        match self {
            Error::Rejected(response)
            | Error::AuthenticationFailed { response, .. }
            | Error::ProtocolError { response, .. } => Some(response),
            Error::RegistrationEnded { cause } => cause.response(),
            _ => None,
        }
    }

    /// Tells whether the same request may succeed later: no answer, no connection, or an answer that says "not now".
    ///
    /// 408, 480, 500, 502, 503, 504 and 429 say so, and any other refusal that names a time in Retry-After. A registration
    /// that fails like this is tried again; after any other failure it ends.
    pub fn is_temporary(&self) -> bool {
        match self {
            Error::Timeout { .. }
            | Error::Transport { .. }
            | Error::Busy
            | Error::ProtocolError { .. } => true,
            Error::Rejected(response) => {
                matches!(
                    response.status().as_u16(),
                    408 | 429 | 480 | 500 | 502 | 503 | 504
                ) || self.retry_after().is_some()
            }
            _ => false,
        }
    }

    /// Gives the time that the peer asks to wait, from Retry-After (RFC 3261 §20.33).
    pub fn retry_after(&self) -> Option<Duration> {
        let Error::Rejected(response) = self else {
            return None;
        };
        let headers = response.message().headers();
        let wait = headers.retry_after().ok().flatten()?;
        Some(Duration::from_secs(wait.seconds.into()))
    }

    pub(crate) fn uri(
        argument: &'static str,
        uri: &str,
        offset: usize,
        reason: impl Into<String>,
    ) -> Self {
        Error::InvalidUri {
            argument,
            uri: without_password(uri),
            offset,
            reason: reason.into(),
        }
    }

    pub(crate) fn request(header: &str, reason: impl Into<String>) -> Self {
        Error::InvalidRequest {
            header: header.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn setting(setting: &'static str, reason: impl Into<String>) -> Self {
        Error::InvalidConfiguration {
            setting,
            reason: reason.into(),
        }
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::MethodNotAllowed { method, instead } => Error::request(
                "method",
                format!("{method} is not sent like this: {instead}"),
            ),
            ApiError::InvalidRequest { header, reason } => Error::InvalidRequest { header, reason },
            ApiError::Timeout { after, .. } => Error::Timeout { after },
            ApiError::Transport { source, .. } => Error::Transport { source },
            ApiError::Busy { .. } => Error::Busy,
            _ => Error::Closed,
        }
    }
}

/// Prints where a text is wrong, if that is a place in it.
struct Place(usize);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            offset => write!(f, ", at offset {offset}"),
        }
    }
}

/// Hides what stands between the user and the host of a text that is meant to be a URI, and perhaps is none.
fn without_password(text: &str) -> String {
    let Some((user_info, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    // An address, where a URI is wanted.
    let bare = user_info.trim_start_matches('<');
    let (bracket, user_info) = user_info.split_at(user_info.len() - bare.len());
    let starts_with = |scheme: &str| {
        let start = user_info.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let scheme = ["sip:", "sips:"]
        .into_iter()
        .find(|scheme| starts_with(scheme));
    let (scheme, user_info) = user_info.split_at(scheme.map_or(0, str::len));
    match user_info.split_once(':') {
        Some((user, _)) => format!("{bracket}{scheme}{user}:***@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Limits, Response};

    fn rejected(status: u16, extra: &str) -> Error {
        let text = format!(
            "SIP/2.0 {status} No\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:a@h>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 REGISTER\r\n{extra}Content-Length: 0\r\n\r\n"
        );
        let response = Response::parse(text.into_bytes(), &Limits::default()).unwrap();
        Error::Rejected(response.into())
    }

    #[test]
    fn refusals_that_say_not_now_are_temporary() {
        for status in [408, 429, 480, 500, 502, 503, 504] {
            assert!(rejected(status, "").is_temporary(), "{status}");
        }
        for status in [
            301, 400, 401, 403, 404, 405, 416, 420, 423, 501, 505, 513, 600, 603,
        ] {
            assert!(!rejected(status, "").is_temporary(), "{status}");
        }
        assert!(rejected(404, "Retry-After: 10\r\n").is_temporary());
        assert!(
            Error::Timeout {
                after: Duration::ZERO
            }
            .is_temporary()
        );
        assert!(!Error::Closed.is_temporary());
    }

    #[test]
    fn retry_after_is_read_with_comment_and_parameters() {
        let wait = |value: &str| rejected(503, &format!("Retry-After: {value}\r\n")).retry_after();
        assert_eq!(
            wait("18000;duration=3600"),
            Some(Duration::from_secs(18_000))
        );
        assert_eq!(wait("120 (in a meeting)"), Some(Duration::from_secs(120)));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("99999999999"), None);
        assert_eq!(rejected(503, "").retry_after(), None);
    }

    #[test]
    fn the_answer_behind_an_error_is_at_hand() {
        let error = rejected(403, "");
        assert_eq!(
            error.response().map(|response| response.status().as_u16()),
            Some(403)
        );
        assert_eq!(error.to_string(), "rejected: 403 No");
        assert!(Error::Closed.response().is_none());
    }

    #[test]
    fn a_password_in_a_uri_is_not_repeated() {
        for (text, shown) in [
            ("sip:alice:secret@exa mple", "sip:alice:***@exa mple"),
            ("SIPS:alice:se@cret@[::1", "SIPS:alice:***@[::1"),
            ("alice:secret@example.com", "alice:***@example.com"),
            ("sip:alice@[::1", "sip:alice@[::1"),
            ("sip:[::1]:x", "sip:[::1]:x"),
            ("é:ü@x", "é:***@x"),
            ("<sip:bob@h>", "<sip:bob@h>"),
            ("<sip:bob:se@h>", "<sip:bob:***@h>"),
        ] {
            let error = Error::uri("from_uri", text, 4, "wrong");
            assert_eq!(
                error.to_string(),
                format!("from_uri `{shown}`: wrong, at offset 4")
            );
        }
    }

    #[test]
    fn a_text_that_is_wrong_as_a_whole_names_no_place() {
        let error = Error::uri("contact_uri", "*", 0, "no contact");
        assert_eq!(error.to_string(), "contact_uri `*`: no contact");
    }

    #[test]
    fn the_end_of_a_registration_names_its_cause() {
        let cause = Arc::new(rejected(403, ""));
        let error = Error::RegistrationEnded { cause };
        assert_eq!(
            error.to_string(),
            "the registration has ended: rejected: 403 No"
        );
        assert!(error.response().is_some() && !error.is_temporary());
    }

    #[test]
    fn errors_travel_between_threads() {
        fn travels<T: Send + Sync + 'static>() {}
        travels::<Error>();
    }
}
