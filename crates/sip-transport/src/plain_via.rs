//! The top Via as almost everybody writes it, stamped and read as text.
//!
//! A stamped request is a message of its own, so that to parse a request, stamp it and read its Via again would be to parse
//! it nearly twice. Here the Via is stamped before the message is parsed, where it is the first header field and has nothing
//! in it but a host, a port and plain parameters. Everything else is left to [`stamp`](crate::stamp) and
//! [`response_route`](crate::response_route), whose outcome is the same.

use crate::via::{decimal, literal, push_address, push_decimal};
use memchr::memchr;
use sipora_message::Via;
use std::net::SocketAddr;
use std::ops::Range;

/// The datagram with its top Via stamped, and the two pieces that this put in; `None` where it is no plain request that
/// asks for its source port.
///
/// It is the right one only if it can be parsed, and its Via read.
pub(crate) fn stamped_datagram(
    bytes: &[u8],
    source: SocketAddr,
) -> Option<(Vec<u8>, [Range<usize>; 2])> {
    let start = line_end(bytes)?;
    let (start_line, rest) = bytes.split_at_checked(start)?;
    if !start_line.first()?.is_ascii_alphabetic() || start_line.starts_with(b"SIP/") {
        return None;
    }
    let end = start + line_end(rest)?;
    let via = bytes.get(start..end)?.strip_suffix(b"\r\n")?;
    if !via.starts_with(b"Via: SIP/2.0/UDP ") || matches!(bytes.get(end), None | Some(b' ' | b'\t'))
    {
        return None;
    }
    let params_start = memchr(b';', via)?;
    let (_, params) = via.split_at_checked(params_start + 1)?;
    if !is_plain(params) {
        return None;
    }
    let mut asks_at = None;
    let mut at = start + params_start + 1;
    for param in split(params) {
        at += param.len();
        if begins_with(param, b"rport") {
            asks_at = match asks_at {
                None if param.len() == b"rport".len() => Some(at),
                _ => return None,
            };
        } else if begins_with(param, b"received") {
            return None;
        }
        at += 1;
    }
    let asks_at = asks_at?;
    let mut stamped = Vec::with_capacity(bytes.len() + ROOM);
    stamped.extend_from_slice(bytes.get(..asks_at)?);
    stamped.push(b'=');
    push_decimal(&mut stamped, source.port());
    let port = asks_at..stamped.len();
    stamped.extend_from_slice(bytes.get(asks_at..end - 2)?);
    let received_at = stamped.len();
    stamped.extend_from_slice(RECEIVED);
    push_address(&mut stamped, source.ip().to_canonical());
    let received = received_at..stamped.len();
    stamped.extend_from_slice(bytes.get(end - 2..)?);
    Some((stamped, [port, received]))
}

/// Where a Via sends answers, as far as it is plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By its `rport` and `received`, to where the request came from.
    Back,
    /// By its sent-by, since no parameter tells another way.
    SentBy,
    /// It has to be read.
    Unknown,
}

/// Says where a Via sends the answers to a request that came from that peer.
pub(crate) fn way(via: &Via<'_>, peer: SocketAddr) -> Way {
    let params = via.params().as_bytes();
    if !is_plain(params) {
        return Way::Unknown;
    }
    let text = |value| std::str::from_utf8(value).ok();
    let (mut has_port, mut has_address) = (false, false);
    for param in split(params) {
        if let Some(value) = param.strip_prefix(b"rport=") {
            has_port = text(value).and_then(decimal) == Some(peer.port());
            if !has_port {
                return Way::Unknown;
            }
        } else if let Some(value) = param.strip_prefix(b"received=") {
            has_address = text(value).and_then(literal) == Some(peer.ip());
            if !has_address {
                return Way::Unknown;
            }
        } else if tells_way(param) {
            return Way::Unknown;
        }
    }
    match (has_port, has_address) {
        (true, true) => Way::Back,
        (false, false) => Way::SentBy,
        _ => Way::Unknown,
    }
}

/// Says whether parameters of a Via plainly have none in them that tells where answers go, or that a server writes.
pub(crate) fn asks_nothing(params: &[u8]) -> bool {
    is_plain(params) && !split(params).any(tells_way)
}

fn tells_way(param: &[u8]) -> bool {
    begins_with(param, b"rport") || begins_with(param, b"received") || begins_with(param, b"maddr")
}

/// Where the line ends that the bytes begin with, its line end included.
fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr(b'\n', bytes).map(|at| at + 1)
}

/// What stands between semicolons.
fn split(params: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(params);
    std::iter::from_fn(move || {
        let params = rest?;
        let Some((param, behind)) = memchr(b';', params).and_then(|at| params.split_at_checked(at))
        else {
            return rest.take();
        };
        rest = behind.get(1..);
        Some(param)
    })
}

/// No white space, no quotes, no second Via.
fn is_plain(params: &[u8]) -> bool {
    // Without an early end, so that it is done many bytes at a time.
    params.iter().fold(true, |plain, byte| {
        plain & (b'!'..=b'~').contains(byte) & (*byte != b'"') & (*byte != b',')
    })
}

#[inline]
fn begins_with<const N: usize>(param: &[u8], name: &[u8; N]) -> bool {
    param
        .get(..N)
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// `=65535;received=255.255.255.255`, and more for IPv6.
const ROOM: usize = 64;

const RECEIVED: &[u8] = b";received=";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::Stamped;
    use crate::{Flow, FlowId, Inbound, Payload, Transport, response_route, stamp};
    use sipora_message::{Limits, Message, Request};

    fn request(lines: &str) -> String {
        format!(
            "OPTIONS sip:bob@example.com SIP/2.0\r\n{lines}\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\n\
             Call-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 2\r\n\r\nhi"
        )
    }

    /// What it makes of a request whose header fields begin with these lines, and what stamping makes of it.
    fn both(lines: &str, source: &str) -> (Option<Vec<u8>>, Vec<u8>) {
        let (text, source) = (request(lines), source.parse().unwrap());
        let early = stamped_datagram(text.as_bytes(), source);
        let early = early.map(|(stamped, added)| {
            let parsed = Message::parse(stamped.clone(), &Limits::default()).unwrap();
            let flow = Flow {
                id: FlowId::from_u64(1),
                transport: Transport::Udp,
                remote: source,
            };
            let inbound = Inbound {
                stamped: Stamped::With(added),
                ..Inbound::new(flow, Payload::Message(parsed))
            };
            assert_eq!(inbound.as_received().as_deref(), Some(text.as_bytes()));
            stamped
        });
        let late = stamp(Request::parse(text, &Limits::default()).unwrap(), source);
        (early, late.as_bytes().to_vec())
    }

    #[test]
    fn a_plain_via_is_stamped_as_any_other() {
        for via in [
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport",
            "SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK1",
            "SIP/2.0/UDP a.example;branch=z9hG4bK1;RPort",
            "SIP/2.0/UDP a.example;rport",
            "SIP/2.0/UDP [2001:db8::1]:5060;ttl=1;rport;x=[::1]",
            "SIP/2.0/UDP a;rport;maddr=224.0.1.75",
        ] {
            for source in [
                "192.0.2.1:9988",
                "[2001:db8::1]:5",
                "[::ffff:192.0.2.1]:65535",
            ] {
                let (early, late) = both(&format!("Via: {via}\r\nMax-Forwards: 70"), source);
                assert_eq!(early.as_deref(), Some(&*late), "{via} {source}");
            }
        }
    }

    #[test]
    fn every_other_via_is_left_alone() {
        for lines in [
            "v: SIP/2.0/UDP a;rport",
            "Via : SIP/2.0/UDP a;rport",
            "Via: SIP / 2.0 / UDP a;rport",
            "Via: SIP/2.0/TCP a;rport",
            "Via: SIP/2.0/UDP a",
            "Via: SIP/2.0/UDP a;branch=z9hG4bK1",
            "Via: SIP/2.0/UDP a;rport=1",
            "Via: SIP/2.0/UDP a;rport;rport",
            "Via: SIP/2.0/UDP a;rport;Received=192.0.2.9",
            "Via: SIP/2.0/UDP a;rport;x=\"a;b\"",
            "Via: SIP/2.0/UDP a;rport ;x",
            "Via: SIP/2.0/UDP a;rport, SIP/2.0/UDP b",
            "Via: SIP/2.0/UDP a\r\n ;rport",
            "Via: SIP/2.0/UDP a;rport\r\n ;x",
            "Max-Forwards: 70\r\nVia: SIP/2.0/UDP a;rport",
        ] {
            let (early, _) = both(lines, "192.0.2.1:9988");
            assert_eq!(early, None, "{lines}");
        }
    }

    #[test]
    fn responses_and_rubbish_are_left_alone() {
        let source = "192.0.2.1:9988".parse().unwrap();
        for text in [
            "",
            "\r\n",
            "\r\nOPTIONS sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a;rport\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;rport\r\n\r\n",
            "OPTIONS sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a;rport\n\r\n",
            "OPTIONS sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a;rport\r\n",
            "OPTIONS sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a;rport",
            "OPTIONS sip:b SIP/2.0\r\n",
        ] {
            assert_eq!(stamped_datagram(text.as_bytes(), source), None, "{text:?}");
        }
    }

    #[test]
    fn parameters_that_tell_the_way_are_seen_however_they_are_written() {
        for (params, nothing) in [
            ("", true),
            ("branch=z9hG4bK1", true),
            ("branch=z9hG4bK1;alias;keep", true),
            ("branch=z9hG4bK1;RPORT", false),
            ("rport=1;branch=z9hG4bK1", false),
            ("branch=z9hG4bK1;Received=192.0.2.1", false),
            ("maddr=224.0.1.75;branch=z9hG4bK1", false),
            ("branch=z9hG4bK1; rport", false),
            ("x=\";\"", false),
        ] {
            assert_eq!(asks_nothing(params.as_bytes()), nothing, "{params}");
        }
    }

    #[test]
    fn answers_go_where_the_whole_via_sends_them() {
        let peer: SocketAddr = "192.0.2.1:9988".parse().unwrap();
        let flow = Flow {
            id: FlowId::from_u64(1),
            transport: Transport::Udp,
            remote: peer,
        };
        for (params, expected) in [
            ("branch=z9hG4bK1", Way::SentBy),
            ("branch=z9hG4bK1;keep;x=y", Way::SentBy),
            ("rport=9988;received=192.0.2.1", Way::Back),
            ("branch=z9hG4bK1;rport=9988;received=192.0.2.1;x", Way::Back),
            ("rport=9989;received=192.0.2.1", Way::Unknown),
            ("rport=9988;received=192.0.2.2", Way::Unknown),
            ("rport=9988", Way::Unknown),
            ("received=192.0.2.1", Way::Unknown),
            ("rport;rport=9988;received=192.0.2.1", Way::Unknown),
            ("rport=1;rport=9988;received=192.0.2.1", Way::Unknown),
            (
                "rport=9988;RECEIVED=192.0.2.2;received=192.0.2.1",
                Way::Unknown,
            ),
            (
                "rport=9988;received=192.0.2.1;Maddr=224.0.1.75",
                Way::Unknown,
            ),
            ("rport=9988;received=192.0.2.1;x=\";\"", Way::Unknown),
        ] {
            let text = request(&format!("Via: SIP/2.0/UDP 10.0.0.1;{params}"));
            let request = Request::parse(text, &Limits::default()).unwrap();
            let via = request.headers().via().unwrap();
            assert_eq!(way(&via, peer), expected, "{params}");
            let to = response_route(&request, &flow).flow.remote;
            assert!(expected != Way::Back || to == peer, "{params}");
            assert!(
                expected != Way::SentBy || to == "10.0.0.1:5060".parse().unwrap(),
                "{params}"
            );
        }
    }
}
