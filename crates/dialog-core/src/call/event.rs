//! What happens in a call, and how it ends.

use sipora_message::{HeaderName, Request, Response, Uri};
use sipora_transaction_core::Target;

use super::core::CallKey;
use super::refer::{ReferReport, Referral};
use crate::{ApiError, Body};

/// Asks for a call: what its INVITE says (RFC 3261 §13.2.1).
///
/// ```
/// use sipora_dialog_core::{Body, Invite};
/// use sipora_message::Uri;
///
/// let bob = Uri::parse("sip:bob@biloxi.example.com")?;
/// let alice = Uri::parse("sip:alice@atlanta.example.com")?;
/// let contact = Uri::parse("sip:alice@192.0.2.101:5060")?;
/// let invite = Invite::new(bob, alice, contact).body(Body::new("application/sdp", "v=0\r\n..."));
/// # let _ = invite;
/// # Ok::<(), sipora_message::UriError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Invite {
    pub(super) uri: Uri,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) call_id: Option<String>,
    pub(super) contact: Uri,
    pub(super) body: Option<Body>,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) target: Option<Target>,
}

impl Invite {
    /// Makes an INVITE to `uri`, its Request-URI and To, from `from`, to be reached at `contact` in the call.
    pub fn new(uri: Uri, from: Uri, contact: Uri) -> Self {
        Self {
            from: format!("<{from}>"),
            to: format!("<{uri}>"),
            call_id: None,
            uri,
            contact,
            body: None,
            headers: Vec::new(),
            target: None,
        }
    }

    /// Names the caller, with a display name: `"Alice" <sip:alice@atlanta.example.com>`. A tag is added.
    pub fn from(mut self, address: impl Into<String>) -> Self {
        self.from = address.into();
        self
    }

    /// Names who is called, where it is not the Request-URI.
    pub fn to(mut self, address: impl Into<String>) -> Self {
        self.to = address.into();
        self
    }

    /// Sets the Call-ID, which is an unguessable one of its own otherwise: to that of an INVITE that was redirected, which it is
    /// "RECOMMENDED" to keep (RFC 3261 §8.1.3.4), or of the other side of a gateway.
    pub fn call_id(mut self, call_id: impl Into<String>) -> Self {
        self.call_id = Some(call_id.into());
        self
    }

    /// Adds a body, as a rule the offer. Without one the offer comes with the 2xx, and its answer is
    /// [`Call::acknowledge`](crate::Call::acknowledge)'s.
    pub fn body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// Limits how long the peer may take to accept: then the INVITE is cancelled (RFC 3261 §13.2.1), and whoever knows Expires has
    /// stopped ringing by itself.
    pub fn expires(self, seconds: u32) -> Self {
        self.header(HeaderName::Expires, seconds.to_string())
    }

    /// Adds a header field; Route is one of them.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Replaces a call of whom is called (RFC 3891), which must understand it; [`DialogId::replaces`](crate::DialogId::replaces)
    /// names a call of ours.
    pub fn replaces(self, dialog: &sipora_message::DialogId) -> Self {
        self.header(HeaderName::Replaces, dialog.to_string())
            .header(HeaderName::Require, "replaces")
    }

    /// Says that who is called knows us from another dialog, and may let us in for that (RFC 4538).
    pub fn target_dialog(self, dialog: &sipora_message::TargetDialog) -> Self {
        self.header(HeaderName::TargetDialog, dialog.to_string())
    }

    /// Sends the INVITE there, and not where its Route or Request-URI leads: through an outbound proxy. What follows in the
    /// call goes by its route set.
    pub fn via(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }
}

/// Tells what happened in a call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallEvent {
    /// A provisional answer to our INVITE, 100 excepted. Each To tag is an early dialog of its own; a body with an INVITE
    /// that carried the offer is the answer of that dialog: early media.
    Progress(Response),
    /// A reliable provisional answer to our INVITE without an offer carries one: its answer is
    /// [`Call::acknowledge_progress`](crate::Call::acknowledge_progress)'s. Until then the peer goes on repeating it, and after
    /// 64*T1 it gives up.
    EarlyOffer(Response),
    /// A reliable provisional answer to our re-INVITE came, and was acknowledged: what it carries is the answer to the offer in
    /// the re-INVITE, and the session has changed with it.
    ReinviteProgress(Response),
    /// The PRACK to a reliable provisional answer of ours came. It carries the answer where that carried the offer.
    ProgressAcknowledged(Request),
    /// The peer has sent an offer in an UPDATE or a PRACK: [`Call::answer`](crate::Call::answer) it, or
    /// [`Call::refuse`](crate::Call::refuse) it, at once; after 32*T1 it gets 504.
    Offered(Request),
    /// Our INVITE was accepted, and acknowledged. Where the INVITE carried no offer and this 2xx does, nothing is
    /// acknowledged until the answer is given to [`Call::acknowledge`](crate::Call::acknowledge).
    Answered(Response),
    /// The ACK to our 2xx came. It carries the answer where the 2xx carried the offer.
    Acknowledged(Request),
    /// The peer wants to change the session: [`Call::accept`](crate::Call::accept) or
    /// [`Call::reject`](crate::Call::reject) it.
    Reinvited(Request),
    /// The peer's re-INVITE does not wait any more. The peer has withdrawn it, or nobody answered it, past its Expires or
    /// [`CallConfig::max_ringing`](crate::CallConfig::max_ringing): it was refused with 487, or, where the session had changed within it
    /// already, accepted (RFC 6141 §3.3, §3.8); after half an hour the transaction layer has refused it with 408. Or the peer has not acknowledged a reliable provisional answer to it, or not answered
    /// the offer in one: it was refused with 504 or 400 (RFC 3262 §3, §5).
    ReinviteCancelled,
    /// Our re-INVITE was accepted: the session has changed. As with [`Answered`](Self::Answered), an offer in it wants its
    /// answer.
    ReinviteAccepted(Response),
    /// A re-INVITE that refreshed the session (RFC 4028) was accepted, and its answer is another than the peer's last: that one holds.
    /// Where the answer is the same nothing has happened, and this does not come.
    Refreshed(Response),
    /// Our re-INVITE was refused: the session is as it was.
    ReinviteRefused(Response),
    /// An INFO came, of a package of [`CallConfig::info_packages`](crate::CallConfig::info_packages) or of none. It has had its
    /// 200 (RFC 6086 §4.2.2).
    Info(Request),
    /// A MESSAGE came, which [`CallConfig::takes_messages`](crate::CallConfig::takes_messages) asked for. It has had its 200.
    Message(Request),
    /// The peer wants us to call somebody else, which [`CallConfig::takes_refers`](crate::CallConfig::takes_refers) asked for:
    /// a transfer (RFC 3515). Who does not answer within 32*T1 has it accepted, and may still decide.
    Referred(Box<Referral>),
    /// The peer tells what came of a REFER of ours.
    ReferReport(Box<ReferReport>),
    /// The session has ended, by BYE from either side, but the outcome of a REFER is still told in its dialog:
    /// [`Ended`](Self::Ended) follows after that. Where nothing is told any more, `Ended` comes at once, and not this.
    SessionEnded,
    /// The session wants to be refreshed (RFC 4028), and we do not know what to say of it: [`Call::refresh`](crate::Call::refresh)
    /// with the description that holds. Comes in a call that another process has handed over without that, and in one where our last
    /// description was an offer that the peer has not answered.
    RefreshDue,
    /// Our re-INVITE was refused, although the session had changed within it. Nobody knows what holds now: make an offer, as close
    /// to the session before as possible (RFC 6141 §3.4).
    ReinviteUndone(Response),
    /// Our UPDATE was accepted: where it carried an offer and this carries the answer, the session has changed.
    UpdateAccepted(Response),
    /// Our UPDATE was refused: the session is as it was. 504 says that a re-INVITE has better prospects, since somebody has to be
    /// asked (RFC 3311 §5.2).
    UpdateRefused(Response),
    /// Our UPDATE could not be sent, for lack of room, or not be sent again, after it had met the peer's, since the peer takes UPDATE
    /// no more: the session is as it was. Or its early dialog has ended, and the call goes on in another.
    UpdateFailed(ApiError),
    /// The call is over. It is the last event, and is never lost.
    Ended(CallEnd),
}

/// Says how a call ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallEnd {
    /// Our INVITE was refused, or redirected: the answer tells.
    Refused(Response),
    /// Our INVITE got no answer.
    Failed(ApiError),
    /// Our INVITE was cancelled, by us, or because its Expires had passed, before it was accepted; or was accepted too late and
    /// ended with BYE.
    Cancelled,
    /// The peer has cancelled its INVITE before we accepted it; the CANCEL tells why, where it has a Reason:
    /// [`was_answered_elsewhere`](Self::was_answered_elsewhere).
    PeerCancelled(Request),
    /// We refused the peer's INVITE.
    Rejected,
    /// The peer's INVITE rang for too long: past its Expires (RFC 3261 §13.3.1), or
    /// [`CallConfig::max_ringing`](crate::CallConfig::max_ringing).
    NotAnswered,
    /// Another call, which the application accepted, has taken its place (RFC 3891): we sent BYE or CANCEL.
    Replaced(CallKey),
    /// We sent BYE.
    HungUp,
    /// The peer sent BYE; the request tells why, where it has a Reason (RFC 3326).
    PeerHungUp(Request),
    /// Our 2xx was never acknowledged and we sent BYE (RFC 3261 §13.3.1.4), or a reliable provisional answer never was and the
    /// INVITE was refused with 504 (RFC 3262 §3).
    NotAcknowledged,
    /// The peer owed an offer or the answer to one, and sent none, in a 2xx, ACK or PRACK: there can be no session. The call was
    /// ended with BYE, or refused with 400.
    NotDescribed,
    /// The peer does not know the dialog any more, or is silent: a request within it got no answer, or one that ends the call
    /// by the table of RFC 5057 §5.1, as 408 and 481 do. We sent BYE (RFC 3261 §12.2.1.2).
    Lost,
    /// The session was not refreshed in time (RFC 4028 §10); we sent BYE.
    Expired,
    /// It goes on elsewhere: [`Call::detach`](crate::Call::detach) has given its state, and nothing was said to the peer.
    Detached,
    /// The endpoint has ended.
    Closed,
}

impl CallEnd {
    /// Says whether the peer has given up its call since somebody else has accepted it: nobody has missed it (RFC 3326 §3.1).
    pub fn was_answered_elsewhere(&self) -> bool {
        let (Self::PeerCancelled(request) | Self::PeerHungUp(request)) = self else {
            return false;
        };
        let mut reasons = request.headers().reasons().flatten();
        reasons.any(|it| it.protocol().eq_ignore_ascii_case("SIP") && it.cause() == Some(200))
    }
}

/// Refuses what an application asks of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It is too late: the call, or the INVITE or offer in question, is over; or there never was one to answer.
    #[error("it is too late for that, or there never was anything to do it with")]
    Gone,
    /// It is too early, or something else is under way: an INVITE in either direction, or an offer without answer.
    #[error("{0}")]
    NotNow(&'static str),
    /// The peer does not support what this needs.
    #[error("the peer does not support {0}")]
    NotSupported(&'static str),
    /// The offer of the INVITE has to be answered, or one has to be made: a body is needed.
    #[error("a session description is needed: {0}")]
    BodyNeeded(&'static str),
    /// A header field or status is not what it has to be.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The request got no final answer.
    #[error(transparent)]
    Failed(ApiError),
    /// There are as many calls as there may be, or too many requests in flight.
    #[error("too many calls")]
    Busy,
    /// The API was added without calls ([`UnifiedDialogApi::add_with_calls`](crate::UnifiedDialogApi::add_with_calls)).
    #[error("the dialog layer was added without calls")]
    NotEnabled,
    /// The endpoint has ended.
    #[error("the endpoint has ended")]
    Closed,
}
