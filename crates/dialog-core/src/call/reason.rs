//! Why calls end: what BYE and CANCEL say of it in Reason (RFC 3326).

use sipora_message::StatusCode;

use super::event::CallEnd;

/// §3.1: another has accepted the call, which nobody has missed.
pub(super) const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// The time that the caller gives for an answer is over (RFC 3261 §13.2.1).
pub(super) const UNANSWERED: &str = "SIP;cause=408;text=\"Not answered in time\"";

/// The answer to a request within the call that ends it (RFC 3261 §12.2.1.2, RFC 5057 §5.1).
pub(super) fn of_status(status: StatusCode) -> Box<str> {
    let reason = format!(
        "SIP;cause={};text=\"{}\"",
        status.as_u16(),
        status.default_reason()
    );
    reason.into()
}

/// What we know ourselves of how a call ends, where no answer has ended it.
pub(super) fn of_end(end: &CallEnd) -> Option<&'static str> {
    Some(match end {
        CallEnd::Expired => "SIP;cause=408;text=\"Session expired\"",
        CallEnd::NotAcknowledged => "SIP;cause=408;text=\"No ACK\"",
        CallEnd::NotDescribed => "SIP;cause=488;text=\"No session description\"",
        CallEnd::Lost => "SIP;cause=408;text=\"No answer\"",
        _ => return None,
    })
}
