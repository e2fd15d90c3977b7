//! What is shown, in words.

use sipora_session_core::{CallEnd, Error};

pub(crate) const HELP: &str = "\
call URI, answer, reject, redirect URI, hold, resume, hang up, transfer URI, consult URI and transfer, follow, decline, help, quit
transfer URI sends the peer on; consult URI holds it and calls somebody else, with whom transfer then connects it
when who was consulted hangs up, or you do, or nobody can be reached there, the first call is the current one again";

pub(crate) fn said(error: &Error) -> String {
    let text = match error {
        Error::InvalidUri { uri, reason, .. } => match has_sip_scheme(uri) {
            true => format!("`{uri}`: {reason}"),
            false => format!("`{uri}` is no SIP URI, as sip:bob@host is"),
        },
        error => error.to_string(),
    };
    shown(&text)
}

fn has_sip_scheme(uri: &str) -> bool {
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|it| it.eq_ignore_ascii_case("sip") || it.eq_ignore_ascii_case("sips"))
}

pub(crate) fn told(end: &CallEnd) -> String {
    match end {
        CallEnd::Failed(error) => said(error),
        CallEnd::HungUp => "hung up".to_owned(),
        CallEnd::PeerHungUp(_) => "the peer hung up".to_owned(),
        CallEnd::PeerCancelled(_) if end.was_answered_elsewhere() => {
            "answered elsewhere".to_owned()
        }
        CallEnd::Cancelled | CallEnd::PeerCancelled(_) => "cancelled".to_owned(),
        CallEnd::Rejected => "refused".to_owned(),
        CallEnd::Replaced(_) => "another has taken its place".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Keeps a peer's control characters out of the terminal.
pub(crate) fn shown(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}
