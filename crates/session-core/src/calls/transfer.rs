//! Transfers: what is asked of us, and what comes of those that we ask for (RFC 3515, RFC 5589).

use std::sync::Arc;

use sipora_dialog_core::{ReferReport, Referral};
use sipora_message::{DialogId, Request, StatusCode, Uri};

use super::reporter::Undecided;
use super::{CallEnd, CallEvent};
use crate::{Error, Result};

/// The peer wants us to call somebody else: [`CallHandle::follow`](crate::CallHandle::follow) does, and
/// [`CallHandle::refuse_transfer`](crate::CallHandle::refuse_transfer) does not.
///
/// Dropped with all its clones before either, it is refused with 603.
///
/// Who refers us chooses whom we call, and who pays (RFC 3515 §5): to ask a person, or to know the peer, is the application's.
#[derive(Debug, Clone)]
pub struct TransferRequest {
    pub(super) referral: Referral,
    pub(super) _undecided: Arc<Undecided>,
}

impl TransferRequest {
    /// Whom to call, as the peer has written it: parameters and header fields of the URI are still there.
    pub fn target(&self) -> Option<Uri> {
        self.referral.refer_to()
    }

    /// Who refers us, as it says itself (RFC 3892); not proven.
    pub fn referred_by(&self) -> Option<String> {
        self.referral.referred_by()
    }

    /// Whether the call that is to be made takes the place of another one at whom we are to call: an attended transfer.
    pub fn is_attended(&self) -> bool {
        self.target()
            .is_some_and(|target| target.header("Replaces").is_some())
    }

    /// Where the INVITE goes, and what it replaces.
    pub(super) fn place(&self) -> Result<(Uri, Option<DialogId>)> {
        let wrong = |reason: &str| Error::request("Refer-To", reason);
        let named = self.target().filter(Uri::is_sip);
        let named = named.ok_or_else(|| wrong("is no SIP URI"))?;
        let method = named.param("method").flatten();
        if method.is_some_and(|method| method != "INVITE") {
            return Err(wrong("asks for something else than a call"));
        }
        let target = self.referral.request_uri();
        let target = target.ok_or_else(|| wrong("cannot be called"))?;
        let replaces = named.header("Replaces").map(|value| value.parse());
        let replaces = replaces.transpose();
        let replaces = replaces.map_err(|_| wrong("names no call to replace"))?;
        Ok((target, replaces))
    }

    /// The REFER.
    pub fn request(&self) -> &Request {
        &self.referral.request
    }
}

/// What came of a transfer that we asked for, as the peer tells it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransferReport {
    /// How the call stands that the peer makes: the status of its newest answer, 200 once it is up. None where the peer did not
    /// say, or has fallen silent.
    pub status: Option<StatusCode>,
    /// Nothing more will be told.
    pub is_over: bool,
}

impl TransferReport {
    pub(super) fn of(report: &ReferReport) -> Self {
        Self {
            status: report.status,
            is_over: report.is_over,
        }
    }

    /// Says whether the peer is in a call with whom it was transferred to.
    pub fn has_succeeded(&self) -> bool {
        self.status.is_some_and(StatusCode::is_success)
    }
}

/// What an event of the call that a transfer has us make says to who asked for it.
pub(super) fn told_of(event: &CallEvent) -> Option<StatusCode> {
    match event {
        CallEvent::Progress(answer) | CallEvent::Answered(answer) => Some(answer.status()),
        CallEvent::Ended(CallEnd::Failed(error)) => Some(match error {
            Error::Rejected(answer)
            | Error::AuthenticationFailed {
                response: answer, ..
            } => answer.status(),
            Error::Timeout { .. } => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }),
        CallEvent::Ended(_) => Some(StatusCode::REQUEST_TERMINATED),
        _ => None,
    }
}
