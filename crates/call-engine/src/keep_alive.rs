//! Keep-alives that devices offer to send (RFC 6223), so that it is noticed when one has gone without a word.

use std::borrow::Cow;
use std::time::Duration;

use sipora_message::Request;
use sipora_transaction_core::{Context, IncomingRequest};
use sipora_transport::Transport;

/// Takes the offer that a REGISTER makes, if it makes one, and returns the request to answer: with the time that is wanted
/// between keep-alives in the top Via, where the answer repeats it.
///
/// RFC 6223: "The parameter value, if present and with a value other than zero, represents a recommended keep-alive frequency,
/// given in seconds", and who recommends it may take a connection for dead over which none came (RFC 5626 §4.4). The last
/// REGISTER over a connection decides.
pub(crate) fn accept<'a>(
    context: &mut Context<'_>,
    incoming: &'a IncomingRequest,
    is_bound: bool,
) -> Cow<'a, Request> {
    let (request, flow) = (&incoming.request, incoming.flow);
    let interval = match flow.transport {
        Transport::Udp => DATAGRAMS,
        _ => CONNECTIONS,
    };
    let answered = match is_bound {
        true => with_interval(request, interval),
        false => None,
    };
    if flow.transport.is_stream() {
        let within = answered.is_some().then_some(interval + GRACE);
        context.expect_keep_alives(flow.id, within);
    }
    answered.map_or(Cow::Borrowed(request), Cow::Owned)
}

/// The request with a value for `keep` in its top Via; `None` where there is none, or it has a value.
fn with_interval(request: &Request, interval: Duration) -> Option<Request> {
    let via = request.headers().via().ok()?;
    if !may_offer(via.params().as_bytes()) {
        return None;
    }
    let is_offer = |(name, value): &(&[u8], Option<&[u8]>)| {
        name.eq_ignore_ascii_case(b"keep") && value.is_none()
    };
    let mut parameters = via.params().iter().map(|parameter| parameter.as_bytes());
    let (name, _) = parameters.find(is_offer)?;
    let text = via.as_bytes();
    let start = (name.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let (before, after) = text.split_at_checked(start.checked_add(name.len())?)?;
    let value = format!("={}", interval.as_secs());
    request.with_top_via_replaced(&[before, value.as_bytes(), after].concat())
}

/// Whether there is a `keep` at all, in which letters ever; without an early end, so that it is cheap.
fn may_offer(params: &[u8]) -> bool {
    let letters = |text: &[u8]| <[u8; 4]>::try_from(text).map(u32::from_ne_bytes);
    let keep = u32::from_ne_bytes(*b"keep");
    params.windows(4).fold(false, |found, text| {
        found | letters(text).is_ok_and(|letters| letters | 0x2020_2020 == keep)
    })
}

/// RFC 5626 §4.4.1: a good user experience wants failures to be detected in 120 s.
const CONNECTIONS: Duration = Duration::from_secs(120);
/// RFC 5626 §4.4.2: many NATs forget a way of UDP after 30 s.
const DATAGRAMS: Duration = Duration::from_secs(29);
/// "To account for transport delay" (RFC 5626 §4.4): TCP has sent what was lost four times by then.
const GRACE: Duration = Duration::from_secs(30);
