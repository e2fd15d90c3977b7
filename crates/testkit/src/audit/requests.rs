//! Rules for requests.

use super::ledger::{Key, Ledger};
use super::{Record, Rule, Sighting, dialogs};
use sipora_message::{HeaderName, Method, Request};

pub(super) fn see(ledger: &mut Ledger, sighting: &Sighting<'_>, request: Request) {
    let headers = request.headers();
    let Some(Ok(top)) = headers.vias().next() else {
        return;
    };
    if !top.has_unique_branch() {
        let reason = "the branch has no magic cookie".to_owned();
        return ledger.object(sighting, Rule::Branch, reason);
    }
    if !top
        .transport()
        .eq_ignore_ascii_case(sighting.transport.as_str())
    {
        let reason = format!(
            "Via says {}, sent over {}",
            top.transport(),
            sighting.transport
        );
        ledger.object(sighting, Rule::Via, reason);
    }
    let Some(key) = Key::new(&top, request.method()) else {
        return;
    };
    max_forwards(ledger, sighting, &request);
    if let Some(before) = ledger.record(&key) {
        let is_same = before.request.as_bytes() == request.as_bytes();
        return repeated(ledger, sighting, &request, is_same);
    }
    match request.method() {
        Method::Ack => ack(ledger, sighting, &key, &request),
        Method::Cancel => cancel(ledger, sighting, &key, &request),
        _ => {
            if let Some(first) = ledger.first_use(&key, sighting.source.ip()) {
                let reason = format!("branch {} was used by {}", key.branch, first.method);
                ledger.object(sighting, Rule::Branch, reason);
            }
        }
    }
    dialogs::asked(ledger, sighting, &request);
    let record = Record {
        source: sighting.source.ip(),
        destination: sighting.destination,
        is_provisional: false,
        finals: Vec::new(),
        request,
    };
    ledger.begin(key, record);
}

/// §8.1.1.6: "A UAC MUST insert a Max-Forwards header field into each request"; §16.6 step 3: a proxy decrements it.
fn max_forwards(ledger: &mut Ledger, sighting: &Sighting<'_>, request: &Request) {
    let headers = request.headers();
    let Ok(Some(left)) = headers.max_forwards() else {
        return ledger.object(sighting, Rule::MaxForwards, "it is missing".to_owned());
    };
    let Some(Ok(second)) = headers.vias().nth(1) else {
        return;
    };
    let received = Key::new(&second, request.method());
    let before = received
        .and_then(|key| ledger.record(&key)?.request.headers().max_forwards().ok())
        .flatten();
    // An ACK or CANCEL of a proxy's own is no copy of what it received, and has but one Via.
    if let Some(before) = before
        && u16::from(left) + 1 != u16::from(before)
    {
        let reason = format!("forwarded with {left} though received with {before}");
        ledger.object(sighting, Rule::MaxForwards, reason);
    }
}

fn repeated(ledger: &mut Ledger, sighting: &Sighting<'_>, request: &Request, is_same: bool) {
    if !is_same {
        let (rule, reason) = match request.method() {
            // Another refusal with another To tag may have come (§17.1.1.3).
            Method::Ack => return,
            _ => (Rule::Retransmission, "it differs from what was sent before"),
        };
        ledger.object(sighting, rule, reason.to_owned());
    } else if sighting.transport.is_stream() && *request.method() != Method::Ack {
        let reason = "it was sent again over a stream".to_owned();
        ledger.object(sighting, Rule::Retransmission, reason);
    }
}

fn ack(ledger: &mut Ledger, sighting: &Sighting<'_>, key: &Key, ack: &Request) {
    let Some(invite) = ledger.record(&key.of_method(Method::Invite)) else {
        if ledger.first_use(key, sighting.source.ip()).is_some() {
            let reason = format!("branch {} was used by another request", key.branch);
            ledger.object(sighting, Rule::Branch, reason);
        }
        if !ledger.is_accepted(ack.headers()) {
            let reason = "it has neither the branch of an INVITE nor the call of a 2xx".to_owned();
            ledger.object(sighting, Rule::Ack, reason);
        }
        return;
    };
    let to_tag = ack.headers().to().ok().and_then(|to| to.tag());
    let refusal = invite
        .finals
        .iter()
        .find(|answer| answer.status >= 300 && answer.to_tag.as_deref() == to_tag);
    let mut reason = difference(&invite.request, ack);
    if refusal.is_none() {
        reason = reason.or_else(|| {
            let reason = match invite.finals.iter().any(|answer| answer.status < 300) {
                true => "the ACK of a 2xx has the branch of its INVITE",
                false => "no refusal has its To tag",
            };
            Some(reason.to_owned())
        });
    }
    if invite.destination != sighting.destination {
        reason = reason.or_else(|| Some("it does not go where its INVITE went".to_owned()));
    }
    if let Some(reason) = reason {
        ledger.object(sighting, Rule::Ack, reason);
    }
}

fn cancel(ledger: &mut Ledger, sighting: &Sighting<'_>, key: &Key, cancel: &Request) {
    let Some(cancelled) = ledger.named_by(key, sighting.source.ip()) else {
        let reason = "no request has its branch".to_owned();
        return ledger.object(sighting, Rule::Cancel, reason);
    };
    let mut reason = difference(&cancelled.request, cancel);
    let to = |request: &Request| request.headers().text(&HeaderName::To).map(String::from);
    if to(&cancelled.request) != to(cancel) {
        reason = reason.or_else(|| Some("To differs from its request's".to_owned()));
    }
    for name in [HeaderName::Require, HeaderName::ProxyRequire] {
        if cancel.headers().contains(&name) {
            reason = reason.or_else(|| Some(format!("it has {}", name.as_str())));
        }
    }
    if !cancelled.is_provisional && cancelled.finals.is_empty() {
        reason = reason.or_else(|| Some("its request has had no provisional answer".to_owned()));
    }
    if cancelled.destination != sighting.destination {
        reason = reason.or_else(|| Some("it does not go where its request went".to_owned()));
    }
    if let Some(reason) = reason {
        ledger.object(sighting, Rule::Cancel, reason);
    }
}

/// What an ACK or CANCEL does not have in common with its request, but should (§17.1.1.3, §9.1): Request-URI, the top Via and
/// no other, From, Call-ID, the number of CSeq, and all Route values.
fn difference(request: &Request, derived: &Request) -> Option<String> {
    let (one, other) = (request.headers(), derived.headers());
    if request.uri_text() != derived.uri_text() {
        return Some("another Request-URI".to_owned());
    }
    if other.vias().count() != 1 {
        return Some("it has not exactly one Via".to_owned());
    }
    let (Ok(via), Ok(same_via)) = (one.via(), other.via()) else {
        return Some("a Via cannot be read".to_owned());
    };
    if via.as_bytes() != same_via.as_bytes() {
        return Some("another top Via".to_owned());
    }
    for name in [HeaderName::From, HeaderName::CallId] {
        if one.text(&name) != other.text(&name) {
            return Some(format!("{} differs", name.as_str()));
        }
    }
    if one.cseq().ok().map(|cseq| cseq.number) != other.cseq().ok().map(|cseq| cseq.number) {
        return Some("the number of CSeq differs".to_owned());
    }
    if !one
        .list(&HeaderName::Route)
        .eq(other.list(&HeaderName::Route))
    {
        return Some("Route differs".to_owned());
    }
    None
}
