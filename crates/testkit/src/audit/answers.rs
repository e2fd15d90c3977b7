//! Rules for responses.

use super::ledger::{Final, Key, Ledger};
use super::{Record, Rule, Sighting, dialogs};
use sipora_message::{HeaderName, Headers, Limits, Method, Response, StatusCode};

pub(super) fn see(ledger: &mut Ledger, sighting: &Sighting<'_>, response: &Response) {
    let headers = response.headers();
    let (Some(Ok(top)), Ok(cseq)) = (headers.vias().next(), headers.cseq()) else {
        return;
    };
    // A peer of RFC 2543 cannot be followed.
    let Some(key) = Key::new(&top, &cseq.method).filter(|_| top.has_unique_branch()) else {
        return;
    };
    let Some(record) = ledger.record(&key) else {
        let reason = "no request has its branch, sent-by and method".to_owned();
        return ledger.object(sighting, Rule::Answer, reason);
    };
    let status = response.status();
    let is_invite = cseq.method == Method::Invite;
    let mut found = Vec::new();
    if !has_same_vias(record, headers) {
        found.push((Rule::Via, "its Via values are not the request's".to_owned()));
    }
    if let Some(reason) = difference(record, headers, status) {
        found.push((Rule::Answer, reason));
    }
    if !is_invite && status.is_provisional() && status != StatusCode::TRYING {
        found.push((Rule::NonInvite, "only 100 is allowed".to_owned()));
    }
    if !is_invite && status == StatusCode::REQUEST_TIMEOUT {
        found.push((Rule::NonInvite, "408 is not allowed".to_owned()));
    }
    found.extend(against_earlier(record, sighting, response, is_invite));
    for (rule, reason) in found {
        ledger.object(sighting, rule, reason);
    }
    let request = ledger.record(&key).map(|record| record.request.clone());
    if let Some(request) = request {
        dialogs::answered(ledger, &request, response);
    }
    remember(ledger, &key, response, is_invite);
}

fn remember(ledger: &mut Ledger, key: &Key, response: &Response, is_invite: bool) {
    let status = response.status();
    if is_invite && status.is_success() {
        ledger.accept(response.headers());
    }
    let Some(record) = ledger.record_mut(key) else {
        return;
    };
    if status.is_provisional() {
        record.is_provisional = true;
        return;
    }
    let is_known = record
        .finals
        .iter()
        .any(|answer| answer.bytes == response.as_bytes());
    if !is_known && record.finals.len() < MOST_FINALS {
        record.finals.push(Final {
            status: status.as_u16(),
            to_tag: tag(response.headers()).map(str::to_owned),
            bytes: response.to_bytes(),
        });
    }
}

/// One final answer, octet for octet; only an INVITE may be accepted more than once (RFC 6026 §7.2).
fn against_earlier(
    record: &Record,
    sighting: &Sighting<'_>,
    response: &Response,
    is_invite: bool,
) -> Option<(Rule, String)> {
    let first = record.finals.first()?;
    let status = response.status().as_u16();
    if status < 200 {
        let reason = format!("a provisional answer after {}", first.status);
        return Some((Rule::FinalAnswer, reason));
    }
    let both_accept = is_invite && status < 300 && first.status < 300;
    let is_same = |answer: &Final| answer.bytes == response.as_bytes();
    if record.finals.iter().any(is_same) {
        let may_repeat = !sighting.transport.is_stream() || both_accept;
        let reason = "it was sent again over a stream".to_owned();
        return (!may_repeat).then_some((Rule::Retransmission, reason));
    }
    if both_accept {
        return None;
    }
    let tag = tag(response.headers());
    if status != first.status || tag != first.to_tag.as_deref() {
        let reason = format!("{status} after {}, or another To tag", first.status);
        return Some((Rule::FinalAnswer, reason));
    }
    // An answer that nobody remembers is made anew, with what follows from the time.
    if lasting(&first.bytes) == lasting(response.as_bytes()) {
        return None;
    }
    let reason = "it differs from what was sent before".to_owned();
    Some((Rule::Retransmission, reason))
}

/// The header fields that two answers to one request have to share even where no transaction is kept.
fn lasting(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let response = Response::parse(bytes.to_vec(), &Limits::default()).ok()?;
    let passing = [
        HeaderName::WwwAuthenticate,
        HeaderName::ProxyAuthenticate,
        HeaderName::RetryAfter,
        HeaderName::Date,
        HeaderName::Timestamp,
    ];
    let headers = response.headers();
    let lasting = headers
        .iter()
        .filter(|header| !passing.iter().any(|name| header.is(name)));
    let lasting = lasting.map(|header| (header.raw_name().to_owned(), header.value().to_vec()));
    Some(lasting.collect())
}

/// §8.2.6.2: "The Via header field values in the response MUST equal the Via header field values in the request and MUST
/// maintain the same ordering", save for what the server put in: `received` and `rport`.
fn has_same_vias(record: &Record, headers: Headers<'_>) -> bool {
    let request = record.request.headers();
    if request.vias().count() != headers.vias().count() {
        return false;
    }
    request.vias().zip(headers.vias()).all(|pair| match pair {
        (Ok(one), Ok(other)) => {
            one.transport() == other.transport()
                && one.host_str() == other.host_str()
                && one.port() == other.port()
                && one.branch() == other.branch()
        }
        _ => false,
    })
}

/// §8.2.6.2: From, Call-ID and CSeq are the request's, and so is To save for its tag, which every answer but 100 has.
fn difference(record: &Record, headers: Headers<'_>, status: StatusCode) -> Option<String> {
    let request = record.request.headers();
    for name in [HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        if request.text(&name) != headers.text(&name) {
            return Some(format!("{} is not the request's", name.as_str()));
        }
    }
    let (Ok(asked), Ok(answered)) = (request.to(), headers.to()) else {
        return Some("To cannot be read".to_owned());
    };
    if asked.uri().to_string() != answered.uri().to_string() {
        return Some("To is not the request's".to_owned());
    }
    match (asked.tag(), answered.tag()) {
        (Some(asked), Some(answered)) if asked == answered => None,
        (Some(_), _) => Some("the To tag is not the request's".to_owned()),
        (None, None) if status != StatusCode::TRYING => Some("To has no tag".to_owned()),
        (None, _) => None,
    }
}

fn tag(headers: Headers<'_>) -> Option<&str> {
    headers.to().ok()?.tag()
}

/// Final answers to one request that are remembered: a call that forks may be accepted several times.
const MOST_FINALS: usize = 16;
