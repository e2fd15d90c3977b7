//! The error of this crate.

use std::time::Duration;

use sipora_message::Method;
use sipora_transaction_core::{CommandError, RequestError, SendError, TransportFailure};

/// The result of the operations of [`UnifiedDialogApi`](crate::UnifiedDialogApi).
pub type ApiResult<T> = Result<T, ApiError>;

/// Tells why a request got no final answer. A final answer, whatever its status, is never an error here.
///
/// The variants that can follow something sent carry `cseq`, the CSeq number last used: a retry with credentials uses up
/// numbers, and who sends the next request of the same Call-ID must go on above them (RFC 3261 §8.1.1.5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// INVITE, ACK and CANCEL are not requests with one final answer. Nothing was sent.
    #[error(
        "{method} cannot be sent outside a dialog with one final answer to wait for: {instead}"
    )]
    MethodNotAllowed {
        /// The method.
        method: Method,
        /// What sends it.
        instead: &'static str,
    },
    /// The request lacks what RFC 3261 §8.1.1 requires, or has what it must not have. Nothing was sent.
    #[error("invalid request: {header}: {reason}")]
    InvalidRequest {
        /// The header field, or `Request-URI`.
        header: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No final answer came in time.
    #[error("no final answer within {after:?}")]
    Timeout {
        /// How long was waited: the time allowed, or the time of the transactions, where that was shorter.
        after: Duration,
        /// The CSeq number last sent.
        cseq: Option<u32>,
    },
    /// No target could be reached: it could not be resolved, refused the connection, or reported an error.
    #[error("cannot reach the target: {source}")]
    Transport {
        /// What happened to the target tried last.
        source: TransportFailure,
        /// The CSeq number last sent.
        cseq: Option<u32>,
    },
    /// The endpoint was shut down, or ended, before a final answer came; or the early dialog of an UPDATE did.
    #[error("it was given up: the endpoint was shut down, or the dialog has ended")]
    Cancelled {
        /// The CSeq number last sent; `None` when it is not known.
        cseq: Option<u32>,
    },
    /// Too many requests are in flight or waiting; later there may be room.
    #[error("too many requests in flight")]
    Busy {
        /// The CSeq number last sent; `None` when nothing was.
        cseq: Option<u32>,
    },
}

impl ApiError {
    /// Gives the CSeq number last sent, where something was sent and its number is known.
    pub fn cseq(&self) -> Option<u32> {
        match self {
            ApiError::MethodNotAllowed { .. } | ApiError::InvalidRequest { .. } => None,
            ApiError::Timeout { cseq, .. }
            | ApiError::Transport { cseq, .. }
            | ApiError::Cancelled { cseq }
            | ApiError::Busy { cseq } => *cseq,
        }
    }

    pub(crate) fn invalid(header: &str, reason: impl Into<String>) -> Self {
        ApiError::InvalidRequest {
            header: header.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn from_send(error: SendError, cseq: Option<u32>) -> Self {
        match error {
            SendError::Overloaded => ApiError::Busy { cseq },
            SendError::ShuttingDown => ApiError::Cancelled { cseq },
            SendError::CancelRefused => ApiError::MethodNotAllowed {
                method: Method::Cancel,
                instead: CANCEL_INSTEAD,
            },
            other => ApiError::invalid("request", other.to_string()),
        }
    }

    pub(crate) fn from_request(error: RequestError, after: Duration, cseq: u32) -> Self {
        let cseq = Some(cseq);
        match error {
            RequestError::Timeout => ApiError::Timeout { after, cseq },
            RequestError::Transport(source) => ApiError::Transport { source, cseq },
            _ => ApiError::Cancelled { cseq },
        }
    }

    pub(crate) fn from_command(error: CommandError) -> Self {
        match error {
            CommandError::Full => ApiError::Busy { cseq: None },
            _ => ApiError::Cancelled { cseq: None },
        }
    }
}

pub(crate) const CANCEL_INSTEAD: &str = "a CANCEL is made by cancelling its INVITE";
