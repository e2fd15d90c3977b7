//! What a server does to the top Via of a request, and reads from it for the response.

use crate::plain_via::Way;
use crate::{Destination, Flow, Transport, plain_via};
use sipora_message::{Request, Response, Via};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Stamps the top Via with where the request came from.
///
/// RFC 3261 §18.2.1: a server MUST add `received` when the Via's host is a name or another address than the source's.
/// RFC 3581 §4: where the client sent `rport`, the server MUST set it to the source port and MUST add `received`.
/// A `received` or `rport` value that the client wrote itself is replaced: it would send our responses to somebody else.
///
/// Gives the request back untouched where there is nothing to stamp, or where its top Via cannot be read.
pub fn stamp(request: Request, source: SocketAddr) -> Request {
    stamped(&request, source).unwrap_or(request)
}

/// The stamped request, where there is something to stamp.
pub(crate) fn stamped(request: &Request, source: SocketAddr) -> Option<Request> {
    let via = request.headers().via().ok()?;
    let ip = source.ip().to_canonical();
    let is_elsewhere = via.host().ip() != Some(ip);
    let whole = via.as_bytes();
    let params = via.params().as_bytes();
    if !is_elsewhere && plain_via::asks_nothing(params) {
        return None;
    }
    let before = match params {
        [] => whole,
        params => whole.get(..(params.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?)?,
    };
    let mut value = Vec::with_capacity(whole.len() + ROOM);
    value.extend_from_slice(before);
    let (mut asks_port, mut had_received) = (false, false);
    for param in via.params().iter() {
        if param.is("received") {
            had_received = true;
            continue;
        }
        let (name, raw) = param.as_bytes();
        value.push(b';');
        value.extend_from_slice(name);
        if param.is("rport") {
            asks_port = true;
            value.push(b'=');
            push_decimal(&mut value, source.port());
        } else if let Some(raw) = raw {
            value.push(b'=');
            value.extend_from_slice(raw);
        }
    }
    if asks_port || is_elsewhere {
        // RFC 3261 §25.1, `via-received`: an IPv6 address stands without brackets.
        value.extend_from_slice(b";received=");
        push_address(&mut value, ip);
    } else if !had_received {
        return None;
    }
    request.with_top_via_replaced(&value)
}

/// `;rport=65535;received=255.255.255.255`, and more for IPv6.
const ROOM: usize = 64;

pub(crate) fn push_address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                push_decimal(out, octet.into());
            }
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// Much cheaper than by `write!`, for what is in every answer.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u16) {
    let digit = |number: u16| b'0' + (number % 10) as u8;
    for power in [10_000, 1_000, 100, 10] {
        if number >= power {
            out.push(digit(number / power));
        }
    }
    out.push(digit(number));
}

/// Tells where a response goes by its top Via (RFC 3261 §18.2.2, RFC 3581 §4): for UDP always, for a stream when its
/// connection is gone.
///
/// `None` for WebSocket, whose clients cannot be connected to, and when the Via cannot be read or names a host that [`stamp`] has not put an address beside.
pub fn response_destination(response: &Response, transport: Transport) -> Option<SocketAddr> {
    if is_web_socket(transport) {
        return None;
    }
    destination(&response.headers().via().ok()?, transport)
}

/// RFC 7118 §5.3: responses can only be sent over the connection that is there. Its clients take none, and their sent-by is
/// a name that does not exist.
fn is_web_socket(transport: Transport) -> bool {
    matches!(transport, Transport::Ws | Transport::Wss)
}

/// The address in sent-by, unless a name stands there.
fn sent_by(via: &Via<'_>, transport: Transport) -> Option<SocketAddr> {
    let port = via.port().unwrap_or(transport.default_port());
    via.host().ip().map(|ip| SocketAddr::new(ip, port))
}

fn destination(via: &Via<'_>, transport: Transport) -> Option<SocketAddr> {
    let port = via.port().unwrap_or(transport.default_port());
    let (mut received, mut rport, mut multicast) = (None, None, None);
    for param in via.params().iter() {
        let value = || {
            param
                .raw_value()
                .and_then(|raw| std::str::from_utf8(raw).ok())
        };
        // The first of each name counts.
        if param.is("received") {
            received = received.or_else(|| Some(value().and_then(literal)));
        } else if param.is("rport") {
            rport = rport.or_else(|| Some(value().and_then(decimal)));
        } else if param.is("maddr") {
            multicast = multicast.or_else(|| Some(value().and_then(literal)));
        }
    }
    let address = |ip: IpAddr, port: u16| Some(SocketAddr::new(ip, port));
    if transport == Transport::Udp
        && let Some(multicast) = multicast.flatten().filter(IpAddr::is_multicast)
    {
        // RFC 3261 §18.2.2: the response MUST be forwarded to `maddr`, at the sent-by port. Clients write it when they send to
        // a multicast group (§18.1.1), and for nothing but such a group is it believed: otherwise anyone could have our
        // responses, retransmissions and all, sent to a third party without even forging his address.
        return address(multicast, port);
    }
    let ip = received.flatten().or_else(|| via.host().ip())?;
    if transport == Transport::Udp
        && let Some(rport) = rport.flatten()
    {
        // RFC 3581 §4: to the address of `received` and the port of `rport`.
        return address(ip, rport);
    }
    address(ip, port)
}

/// Reads a port: digits and nothing else.
pub(crate) fn decimal(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Reads an address with or without the brackets of an IPv6 reference.
pub(crate) fn literal(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().ok()
}

/// Holds the way back of a request's responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseRoute {
    /// The flow to try first: for a stream the connection that the request came over; for UDP the socket that it came to,
    /// and the address that its Via demands.
    pub flow: Flow,
    /// Where to connect to when the connection is gone. None for UDP and WebSocket.
    pub fallback: Option<Destination>,
}

/// Tells which way the responses of a request go that came over `flow` and has been stamped (RFC 3261 §18.2.2).
///
/// A Via that cannot be read sends them back to where the request came from.
pub fn response_route(request: &Request, flow: &Flow) -> ResponseRoute {
    let via = request.headers().via().ok();
    let to = match &via {
        Some(via) if flow.transport == Transport::Udp => match plain_via::way(via, flow.remote) {
            Way::Back => Some(flow.remote),
            Way::SentBy => sent_by(via, flow.transport),
            Way::Unknown => destination(via, flow.transport),
        },
        Some(via) => destination(via, flow.transport),
        None => None,
    };
    // The way back to a link-local address needs the zone that it came from.
    let to = to.map(|mut to| {
        if let (SocketAddr::V6(to), SocketAddr::V6(from)) = (&mut to, flow.remote)
            && to.ip() == from.ip()
        {
            to.set_scope_id(from.scope_id());
        }
        to
    });
    if flow.transport == Transport::Udp {
        // RFC 3581 §4: from the socket that the request came to.
        return ResponseRoute {
            flow: Flow {
                remote: to.unwrap_or(flow.remote),
                ..*flow
            },
            fallback: None,
        };
    }
    ResponseRoute {
        flow: *flow,
        fallback: to
            .filter(|_| !is_web_socket(flow.transport))
            .map(|address| Destination::new(flow.transport, address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlowId;
    use sipora_message::Limits;

    fn request(via: &str) -> Request {
        let text = format!(
            "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=1\r\n\
             To: <sip:bob@example.com>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 2\r\n\r\nhi"
        );
        Request::parse(text, &Limits::default()).unwrap()
    }

    fn stamped(via: &str, source: &str) -> String {
        let stamped = stamp(request(via), source.parse().unwrap());
        assert_eq!(stamped.body(), b"hi");
        assert_eq!(stamped.headers().cseq().unwrap().number, 1);
        stamped
            .headers()
            .text(&sipora_message::HeaderName::Via)
            .unwrap()
            .into_owned()
    }

    fn route(via: &str, source: &str, transport: Transport) -> ResponseRoute {
        let remote = source.parse().unwrap();
        let flow = Flow {
            id: FlowId::from_u64(1),
            transport,
            remote,
        };
        response_route(&stamp(request(via), remote), &flow)
    }

    /// Over UDP.
    fn goes_to(via: &str, source: &str) -> String {
        route(via, source, Transport::Udp).flow.remote.to_string()
    }

    #[test]
    fn a_name_in_sent_by_gets_received() {
        let via = stamped(
            "SIP/2.0/UDP bobspc.biloxi.com:5060;branch=z9hG4bK1",
            "192.0.2.4:5060",
        );
        assert_eq!(
            via,
            "SIP/2.0/UDP bobspc.biloxi.com:5060;branch=z9hG4bK1;received=192.0.2.4"
        );
    }

    #[test]
    fn another_address_in_sent_by_gets_received() {
        let via = stamped("SIP/2.0/UDP 10.1.1.1;branch=z9hG4bK1", "192.0.2.4:9988");
        assert_eq!(
            via,
            "SIP/2.0/UDP 10.1.1.1;branch=z9hG4bK1;received=192.0.2.4"
        );
    }

    #[test]
    fn the_right_address_without_rport_is_left_alone() {
        let via = "SIP/2.0/UDP 192.0.2.4:5062;branch=z9hG4bK1";
        assert_eq!(stamped(via, "192.0.2.4:9988"), via);
    }

    #[test]
    fn rport_gets_the_port_and_received_even_where_it_is_the_same() {
        let via = stamped(
            "SIP/2.0/UDP 192.0.2.4:9988;rport;branch=z9hG4bK1",
            "192.0.2.4:9988",
        );
        assert_eq!(
            via,
            "SIP/2.0/UDP 192.0.2.4:9988;rport=9988;branch=z9hG4bK1;received=192.0.2.4"
        );
    }

    #[test]
    fn what_the_client_wrote_into_received_and_rport_is_replaced() {
        let via = stamped(
            "SIP/2.0/UDP 192.0.2.4;received=203.0.113.9;rport=53;branch=z9hG4bK1",
            "192.0.2.4:5060",
        );
        assert_eq!(
            via,
            "SIP/2.0/UDP 192.0.2.4;rport=5060;branch=z9hG4bK1;received=192.0.2.4"
        );
        let via = stamped(
            "SIP/2.0/UDP 192.0.2.4;received=203.0.113.9;branch=z9hG4bK1",
            "192.0.2.4:5060",
        );
        assert_eq!(via, "SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1");
    }

    #[test]
    fn only_the_top_via_is_stamped() {
        let via = stamped(
            "SIP/2.0/UDP a.example;rport;branch=z9hG4bK2 , SIP/2.0/TCP b.example;rport",
            "192.0.2.4:1",
        );
        assert_eq!(
            via,
            "SIP/2.0/UDP a.example;rport=1;branch=z9hG4bK2;received=192.0.2.4 , SIP/2.0/TCP b.example;rport"
        );
    }

    #[test]
    fn an_ipv6_source_is_written_without_brackets() {
        let via = stamped(
            "SIP/2.0/UDP [2001:db8::9:255];branch=z9hG4bKas3",
            "[2001:db8::1]:5060",
        );
        assert_eq!(
            via,
            "SIP/2.0/UDP [2001:db8::9:255];branch=z9hG4bKas3;received=2001:db8::1"
        );
    }

    #[test]
    fn a_via_without_parameters_and_a_folded_one_are_stamped() {
        assert_eq!(
            stamped("SIP/2.0/UDP a.example", "192.0.2.4:1"),
            "SIP/2.0/UDP a.example;received=192.0.2.4"
        );
        let via = stamped(
            "SIP / 2.0 / UDP\r\n  a.example ; rport ;\r\n branch = z9hG4bK1",
            "192.0.2.4:1",
        );
        let via: String = via.split_whitespace().collect();
        assert_eq!(
            via,
            "SIP/2.0/UDPa.example;rport=1;branch=z9hG4bK1;received=192.0.2.4"
        );
    }

    #[test]
    fn an_unreadable_via_is_left_alone_and_answered_where_it_came_from() {
        let via = "SIP/2.0/UDP";
        assert_eq!(stamped(via, "192.0.2.4:1"), via);
        assert_eq!(goes_to(via, "192.0.2.4:1"), "192.0.2.4:1");
    }

    #[test]
    fn with_rport_a_response_goes_to_where_the_request_came_from() {
        assert_eq!(
            goes_to(
                "SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bKkjshdyff",
                "192.0.2.1:9988"
            ),
            "192.0.2.1:9988"
        );
    }

    #[test]
    fn without_rport_a_response_goes_to_the_port_of_sent_by() {
        assert_eq!(
            goes_to(
                "SIP/2.0/UDP 10.1.1.1:4540;branch=z9hG4bK1",
                "192.0.2.1:9988"
            ),
            "192.0.2.1:4540"
        );
        assert_eq!(
            goes_to("SIP/2.0/UDP a.example;branch=z9hG4bK1", "192.0.2.1:9988"),
            "192.0.2.1:5060"
        );
        assert_eq!(
            goes_to(
                "SIP/2.0/UDP [2001:db8::1]:5070;branch=z9hG4bK1",
                "[2001:db8::1]:9"
            ),
            "[2001:db8::1]:5070"
        );
    }

    #[test]
    fn a_link_local_address_keeps_its_zone() {
        let via = "SIP/2.0/UDP [fe80::1]:5070;branch=z9hG4bK1";
        assert_eq!(goes_to(via, "[fe80::1%3]:9988"), "[fe80::1%3]:5070");
        let elsewhere = "SIP/2.0/UDP a.example;rport;branch=z9hG4bK1";
        assert_eq!(goes_to(elsewhere, "[fe80::1%3]:9988"), "[fe80::1%3]:9988");
    }

    #[test]
    fn a_multicast_maddr_goes_before_received_on_udp_alone() {
        let via = "SIP/2.0/UDP a.example:5070;maddr=224.2.0.1;branch=z9hG4bK1";
        assert_eq!(goes_to(via, "192.0.2.1:9988"), "224.2.0.1:5070");
        let elsewhere = via.replace("224.2.0.1", "203.0.113.9");
        assert_eq!(
            goes_to(&elsewhere, "192.0.2.1:9988"),
            "192.0.2.1:5070",
            "a third party gets nothing"
        );
        let route = route(&via.replace("UDP", "TCP"), "192.0.2.1:9988", Transport::Tcp);
        assert_eq!(
            route.fallback,
            Some(Destination::tcp("192.0.2.1:5070".parse().unwrap()))
        );
    }

    #[test]
    fn over_tcp_a_response_goes_back_on_its_connection_else_to_received_at_the_sent_by_port() {
        let route = route(
            "SIP/2.0/TCP a.example:5071;rport;branch=z9hG4bK1",
            "192.0.2.1:49152",
            Transport::Tcp,
        );
        assert_eq!(route.flow.remote, "192.0.2.1:49152".parse().unwrap());
        assert_eq!(
            route.fallback,
            Some(Destination::tcp("192.0.2.1:5071".parse().unwrap()))
        );
    }

    #[test]
    fn over_websocket_there_is_no_way_but_the_connection() {
        let via = "SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK1";
        let found = route(via, "192.0.2.1:49152", Transport::Ws);
        assert_eq!(found.flow.remote, "192.0.2.1:49152".parse().unwrap());
        assert_eq!(found.fallback, None);
        let stamped = stamp(request(via), "192.0.2.1:49152".parse().unwrap());
        let response = Response::for_request(&stamped, sipora_message::StatusCode::OK)
            .build()
            .unwrap();
        assert_eq!(response_destination(&response, Transport::Wss), None);
    }

    #[test]
    fn a_response_tells_the_same_way_as_its_request() {
        let request = stamp(
            request("SIP/2.0/UDP a.example;rport;branch=z9hG4bK1"),
            "192.0.2.1:9988".parse().unwrap(),
        );
        let response = Response::for_request(&request, sipora_message::StatusCode::OK)
            .build()
            .unwrap();
        let destination = response_destination(&response, Transport::Udp);
        assert_eq!(destination, Some("192.0.2.1:9988".parse().unwrap()));
    }
}
