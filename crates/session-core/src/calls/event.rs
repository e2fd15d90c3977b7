//! What happens in a call.

use std::sync::Arc;

use sipora_dialog_core::{Call, CallEvent as Event};
use sipora_message::{Headers, Multipart, MultipartLimits, Request, Uri};

use super::reporter::Undecided;
use super::{CallEnd, TransferReport, TransferRequest};
use crate::SipResponse;

/// Tells what happened in a call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallEvent {
    /// A provisional answer to our INVITE, 100 excepted: 180 says that it rings there. With a session description it is early
    /// media. Where the INVITE was forked, each [To tag](SipResponse::to_tag) is another user agent.
    Progress(SipResponse),
    /// Our INVITE was redirected, and has gone to this place now: see
    /// [`CallOptions::follow_redirects`](crate::CallOptions::follow_redirects).
    Redirected(Uri),
    /// Our INVITE was accepted, by the user agent with this [To tag](SipResponse::to_tag): early media of others are over. Where it had no offer, this answer has one, which
    /// [`acknowledge`](crate::CallHandle::acknowledge) wants to answer; else it is acknowledged. Where the answer to our offer came before,
    /// reliably, this one need not have it: [`remote_sdp`](crate::CallHandle::remote_sdp) has it in either case.
    Answered(SipResponse),
    /// The ACK to what we accepted came: the call is up. It has the answer where the offer was ours, which [`sdp`](Self::sdp) gives.
    Acknowledged(Request),
    /// The caller has acknowledged what [`progress`](crate::CallHandle::progress) told it reliably, as with early media where it knows
    /// that (PRACK, RFC 3262). It has the answer where the offer was ours.
    ProgressAcknowledged(Request),
    /// Before it answers our INVITE, which had no offer, the peer makes one (RFC 3262 §5):
    /// [`acknowledge`](crate::CallHandle::acknowledge) answers it. Until then it goes on repeating it, and after 64 × T1 gives up.
    EarlyOffer(SipResponse),
    /// The peer wants to change the session, as to hold it, by a re-INVITE or an UPDATE: [`accept`](crate::CallHandle::accept) or
    /// [`reject`](crate::CallHandle::reject) says what becomes of it; who says nothing for 15 minutes has refused it. A re-INVITE without a description asks for an offer. An
    /// UPDATE wants to be answered at once: after 32 × T1 it gets 504 (RFC 3311 §5.2).
    ChangeRequested(Request),
    /// The peer has withdrawn that wish, or nobody answered its re-INVITE in time; or it has not acknowledged what
    /// [`progress`](crate::CallHandle::progress) told it reliably, or not answered the offer in that. The session is as it was, but for what
    /// was agreed on by then.
    ChangeWithdrawn,
    /// The peer has accepted what [`change`](crate::CallHandle::change) asked for. Where that was an offer of the peer's, this
    /// answer has it, and [`acknowledge`](crate::CallHandle::acknowledge) answers it. It comes too where we have asked for nothing but
    /// to refresh the session (RFC 4028), and the peer's answer is another than before.
    Changed(SipResponse),
    /// The peer has refused it: the session is as it was, but for what the peer had answered before that, reliably (RFC 6141 §3.4), as
    /// [`remote_sdp`](crate::CallHandle::remote_sdp) then says, and the call stays up. A 503 without a Via was made here: of a change that did
    /// not get to the peer, since its port is closed, say, or nothing leads there (RFC 3261 §8.1.3.1). Of a peer that is silent
    /// [`CallEnd::Lost`] tells.
    ChangeRefused(SipResponse),
    /// An INFO came (RFC 6086), such as a key that was pressed: one without a package, or of one that
    /// [`with_info_package`](crate::SessionManagerBuilder::with_info_package) named. It has had its 200.
    ///
    /// What a request says is read from the [`Request`](crate::Request) itself: [`headers`](crate::Request::headers) and
    /// [`body`](crate::Request::body).
    ///
    /// ```
    /// use sipora_session_core::{CallEvent, HeaderName, Request};
    ///
    /// /// The key of an `application/dtmf-relay`, as in `Signal=5`.
    /// fn key(info: &Request) -> Option<&str> {
    ///     let kind = info.headers().content_type().ok().flatten()?;
    ///     if !kind.is("application", "dtmf-relay") {
    ///         return None;
    ///     }
    ///     let text = std::str::from_utf8(info.body()).ok()?;
    ///     let mut lines = text.lines().filter_map(|line| line.split_once('='));
    ///     lines.find(|(name, _)| name.trim() == "Signal").map(|(_, key)| key.trim())
    /// }
    ///
    /// fn tell(event: &CallEvent) {
    ///     if let CallEvent::Info(info) = event {
    ///         // Any header field by its name, as text.
    ///         let package = info.headers().text(&HeaderName::from("Info-Package"));
    ///         println!("package {package:?}, key {:?}", key(info));
    ///     }
    /// }
    /// # let text = "INFO sip:a@b SIP/2.0\r\nc: application/dtmf-relay\r\n\r\nSignal=5\r\nDuration=160\r\n";
    /// # let info = Request::parse(text, &sipora_session_core::message::Limits::default())?;
    /// # assert_eq!(key(&info), Some("5"));
    /// # tell(&CallEvent::Info(info));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Info(Request),
    /// A MESSAGE came within the call, which
    /// [`with_messages_in_calls`](crate::SessionManagerBuilder::with_messages_in_calls) asked for. It has had its 200. Its type and
    /// text are read as those of an [`Info`](Self::Info) are.
    Message(Request),
    /// The peer wants us to call somebody else ([`with_transfers`](crate::SessionManagerBuilder::with_transfers)):
    /// [`follow`](crate::CallHandle::follow) or [`refuse_transfer`](crate::CallHandle::refuse_transfer). Dropped, it is refused with
    /// 603; kept without a word for 32 × T1 it is accepted, and may still be decided.
    TransferRequested(TransferRequest),
    /// What came of a transfer that we asked for. None comes of one that the peer accepts with `Refer-Sub: false` (RFC 4488): it tells
    /// nothing. Which of two transfers a report is of it does not say: who asks for another waits for the end of the first.
    TransferProgress(TransferReport),
    /// The session is over, and what comes of a transfer is still told: [`Ended`](Self::Ended) follows after that. Where nothing is
    /// to be told, `Ended` comes at once, and not this.
    SessionEnded,
    /// The call is over. It is the last event, and is never lost.
    Ended(CallEnd),
}

impl CallEvent {
    /// The session description that came with it, where it is text; also out of a multipart body.
    pub fn sdp(&self) -> Option<&str> {
        match self {
            Self::Progress(response)
            | Self::EarlyOffer(response)
            | Self::Answered(response)
            | Self::Changed(response)
            | Self::ChangeRefused(response) => {
                description(&response.message().headers(), response.body())
            }
            Self::Acknowledged(request)
            | Self::ProgressAcknowledged(request)
            | Self::ChangeRequested(request) => description(&request.headers(), request.body()),
            _ => None,
        }
    }

    /// `None` for what this crate has no word for.
    pub(super) fn of(event: Event, call: &Call, has_credentials: bool) -> Option<Self> {
        Some(match event {
            Event::Progress(response) => Self::Progress(response.into()),
            Event::Answered(response) => Self::Answered(response.into()),
            Event::Acknowledged(ack) => Self::Acknowledged(ack),
            Event::ProgressAcknowledged(prack) => Self::ProgressAcknowledged(prack),
            Event::EarlyOffer(response) => Self::EarlyOffer(response.into()),
            Event::Reinvited(request) | Event::Offered(request) => Self::ChangeRequested(request),
            Event::ReinviteCancelled => Self::ChangeWithdrawn,
            Event::ReinviteAccepted(response) | Event::Refreshed(response) => {
                Self::Changed(response.into())
            }
            Event::ReinviteRefused(response) | Event::ReinviteUndone(response) => {
                Self::ChangeRefused(response.into())
            }
            Event::Info(info) => Self::Info(info),
            Event::Message(message) => Self::Message(message),
            Event::Referred(referral) => Self::TransferRequested(TransferRequest {
                _undecided: Arc::new(Undecided::new(call.reporter(referral.id))),
                referral: *referral,
            }),
            Event::ReferReport(report) => Self::TransferProgress(TransferReport::of(&report)),
            Event::SessionEnded => Self::SessionEnded,
            Event::Ended(end) => Self::Ended(CallEnd::of(end, has_credentials)),
            _ => return None,
        })
    }
}

/// The session description in the body of a message, if there is one: the body, or the first part of it that is one
/// (RFC 5621 §4).
pub(super) fn description<'a>(headers: &Headers<'_>, body: &'a [u8]) -> Option<&'a str> {
    let content_type = headers.content_type().ok()??;
    let body = match content_type.is("application", "sdp") {
        true => body,
        false => {
            let limits = MultipartLimits::default();
            described_part(&Multipart::parse(content_type, body, &limits).ok()?)?
        }
    };
    let sdp = std::str::from_utf8(body).ok()?;
    (!sdp.is_empty()).then_some(sdp)
}

/// The parts have fewer levels of their own, by the limits.
fn described_part<'a>(multipart: &Multipart<'a>) -> Option<&'a [u8]> {
    let mut parts = multipart.parts().iter();
    parts.find_map(|part| {
        let is_sdp = part.content_type().ok()?.is("application", "sdp");
        match is_sdp {
            true => Some(part.body()),
            false => described_part(&part.multipart().ok()?),
        }
    })
}
