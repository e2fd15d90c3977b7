//! What a server does to the top Via of a request, and reads from it for the response.

use crate::{Destination, Flow, Transport};
use sipora_message::{Limits, Message, Request, Response, Via};
use std::net::{IpAddr, SocketAddr};

/// Stamps the top Via with where the request came from.
///
/// RFC 3261 §18.2.1: a server MUST add `received` when the Via's host is a name or another address than the source's.
/// RFC 3581 §4: where the client sent `rport`, the server MUST set it to the source port and MUST add `received`.
/// A `received` or `rport` value that the client wrote itself is replaced: it would send our responses to somebody else.
///
/// Gives the request back untouched where there is nothing to stamp, or where its top Via cannot be read.
pub fn stamp(request: Request, source: SocketAddr) -> Request {
    let Some(stamped) = stamped_bytes(&request, source) else { return request };
    match Message::parse(stamped, &STAMPED) {
        Ok(Message::Request(stamped)) => stamped,
        // A request that was malformed elsewhere is so still; what can be read of it now has its stamp.
        Err(error) => error.request().cloned().unwrap_or(request),
        Ok(Message::Response(_)) => request,
    }
}

/// A message that was within its limits and grew by a stamp is not measured again.
const STAMPED: Limits = Limits {
    start_line: usize::MAX,
    header_line: usize::MAX,
    header_count: usize::MAX,
    header_bytes: usize::MAX,
    body: usize::MAX,
};

fn stamped_bytes(request: &Request, source: SocketAddr) -> Option<Vec<u8>> {
    let headers = request.headers();
    let via = headers.via().ok()?;
    let ip = source.ip().to_canonical();
    let asks_port = via.params().contains("rport");
    if !asks_port && !via.params().contains("received") && via.host().ip() == Some(ip) {
        return None;
    }

    let message = request.as_bytes();
    let start = offset(message, via.as_bytes())?;
    let end = start + via.as_bytes().len();
    let params = via.params().as_bytes();
    let params_start = if params.is_empty() { end } else { offset(message, params)? };

    let mut stamp = Vec::with_capacity(params.len() + 64);
    for param in via.params().iter().filter(|param| !param.name().eq_ignore_ascii_case("received")) {
        stamp.push(b';');
        stamp.extend_from_slice(param.name().as_bytes());
        if param.name().eq_ignore_ascii_case("rport") {
            stamp.extend_from_slice(format!("={}", source.port()).as_bytes());
        } else if let Some(value) = param.raw_value() {
            stamp.push(b'=');
            stamp.extend_from_slice(value);
        }
    }
    if asks_port || via.host().ip() != Some(ip) {
        // RFC 3261 §25.1, `via-received`: an IPv6 address stands without brackets.
        stamp.extend_from_slice(format!(";received={ip}").as_bytes());
    }
    Some([message.get(..params_start)?, &stamp, message.get(end..)?].concat())
}

/// Tells where a slice of a message begins in it.
fn offset(message: &[u8], part: &[u8]) -> Option<usize> {
    let offset = (part.as_ptr() as usize).checked_sub(message.as_ptr() as usize)?;
    (offset.checked_add(part.len())? <= message.len()).then_some(offset)
}

/// Tells where a response goes by its top Via (RFC 3261 §18.2.2, RFC 3581 §4): for UDP always, for a stream when its
/// connection is gone.
///
/// `None` when the Via cannot be read or names a host that [`stamp`] has not put an address beside.
pub fn response_destination(response: &Response, transport: Transport) -> Option<SocketAddr> {
    destination(&response.headers().via().ok()?, transport)
}

fn destination(via: &Via<'_>, transport: Transport) -> Option<SocketAddr> {
    let port = via.port().unwrap_or(transport.default_port());
    let address = |ip: IpAddr, port: u16| Some(SocketAddr::new(ip, port));
    if transport == Transport::Udp
        && let Some(multicast) = via.maddr().and_then(literal)
    {
        // RFC 3261 §18.2.2: the response MUST be forwarded to `maddr`, at the sent-by port.
        return address(multicast, port);
    }
    let ip = via.received().or(via.host().ip())?;
    if transport == Transport::Udp
        && let Some(Some(rport)) = via.rport()
    {
        // RFC 3581 §4: to the address of `received` and the port of `rport`.
        return address(ip, rport);
    }
    address(ip, port)
}

/// Reads an address with or without the brackets of an IPv6 reference.
fn literal(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok()
}

/// Holds the way back of a request's responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseRoute {
    /// The flow to try first: for a stream the connection that the request came over; for UDP the socket that it came to,
    /// and the address that its Via demands.
    pub flow: Flow,
    /// Where to connect to when the connection is gone. None for UDP.
    pub fallback: Option<Destination>,
}

/// Tells which way the responses of a request go that came over `flow` and has been stamped (RFC 3261 §18.2.2).
///
/// A Via that cannot be read sends them back to where the request came from.
pub fn response_route(request: &Request, flow: &Flow) -> ResponseRoute {
    let to = request.headers().via().ok().and_then(|via| destination(&via, flow.transport));
    if flow.transport == Transport::Udp {
        // RFC 3581 §4: from the socket that the request came to.
        return ResponseRoute { flow: Flow { remote: to.unwrap_or(flow.remote), ..*flow }, fallback: None };
    }
    ResponseRoute { flow: *flow, fallback: to.map(|address| Destination::new(flow.transport, address)) }
}
