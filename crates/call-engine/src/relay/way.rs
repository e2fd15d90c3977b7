//! The way to a contact, and whether its answer would find the way back.

use sipora_message::{Request, Response, Uri};
use sipora_transaction_core::Target;
use sipora_transport::{Destination, Flow, Transport};

use crate::Binding;

/// Finds the way to a contact, and the one that is left should that turn out to be gone.
///
/// The flow of the REGISTER comes first. A copy too large for a datagram goes to the same address over TCP if that can be
/// had (§18.1.1), which the transaction layer sees to for addresses and not for flows.
pub(crate) fn way(
    binding: &Binding,
    contact: &Uri,
    copy: &Request,
    is_open: impl Fn(&Flow) -> bool,
) -> (Target, Option<Uri>) {
    let Some(flow) = binding.flow().filter(is_open) else {
        return (Target::Uri(contact.clone()), None);
    };
    (over(flow, copy), Some(contact.clone()))
}

/// Sends over a flow, but for what is too large for it.
pub(crate) fn over(flow: Flow, request: &Request) -> Target {
    let is_large = request.as_bytes().len() + VIA_BYTES > DATAGRAM_LIMIT;
    match flow.transport {
        Transport::Udp if is_large => Target::Destinations(vec![Destination::udp(flow.remote)]),
        _ => Target::Flow(flow),
    }
}

/// Says whether an answer, our Via taken off, would reach who sent the request: a contact may answer anything.
pub(crate) fn belongs(response: &Response, request: &Request) -> bool {
    let (given, asked) = (response.headers(), request.headers());
    let via = given.vias().nth(1).and_then(Result::ok);
    let same_branch = match (via, asked.via()) {
        (Some(found), Ok(sent)) => found.branch() == sent.branch(),
        _ => false,
    };
    let same_number = match (given.cseq(), asked.cseq()) {
        (Ok(found), Ok(sent)) => found.number == sent.number,
        _ => false,
    };
    same_branch && same_number
}

/// RFC 3261 §18.1.1.
const DATAGRAM_LIMIT: usize = 1300;
/// Room for the Via that is still to come.
const VIA_BYTES: usize = 100;
