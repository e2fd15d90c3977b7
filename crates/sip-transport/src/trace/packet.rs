//! Packets as a network card would have seen them: Ethernet, IP, UDP or TCP.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What is in an IP packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Segment<'a> {
    Udp(&'a [u8]),
    Tcp(Tcp<'a>),
}

/// A segment of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tcp<'a> {
    pub(super) flags: u8,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) payload: &'a [u8],
}

pub(super) const SYN: u8 = 0x02;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// The largest message that fits into a datagram: 65,535 bytes with the headers of UDP and IPv4 (RFC 768, RFC 791).
pub(super) const LARGEST_UDP: usize = 65_507;

/// Bytes of one TCP segment. More than any network takes at once, so that few messages are in pieces.
pub(super) const LARGEST_TCP: usize = 60_000;

/// Builds the Ethernet frame that carries a segment, with true lengths and checksums.
pub(super) fn frame(source: SocketAddr, destination: SocketAddr, segment: Segment<'_>) -> Vec<u8> {
    let (from, to) = same_family(source.ip(), destination.ip());
    let body = transport(source.port(), destination.port(), segment);
    let (protocol, checksum_at) = match segment {
        Segment::Udp(_) => (UDP, 6),
        Segment::Tcp(_) => (TCP, 16),
    };
    let mut frame = Vec::with_capacity(ETHERNET + 40 + body.len());
    // Locally administered addresses, which no card has. They say nothing; the frame needs some.
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend_from_slice(&[0x08, 0x00]);
            // RFC 791 §3.1: no options, do not fragment, 64 hops.
            let mut header = [0; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&length(20 + body.len()));
            header[6] = 0x40;
            header[8] = 64;
            header[9] = protocol;
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            let checksum = Sum::default().add(&header).checksum();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend_from_slice(&header);
        }
        _ => {
            let (from, to) = (v6(from), v6(to));
            frame.extend_from_slice(&[0x86, 0xdd]);
            // RFC 8200 §3.
            frame.extend_from_slice(&[0x60, 0, 0, 0]);
            frame.extend_from_slice(&length(body.len()));
            frame.extend_from_slice(&[protocol, 64]);
            frame.extend_from_slice(&from.octets());
            frame.extend_from_slice(&to.octets());
        }
    }
    let checksum = pseudo_header(from, to, protocol, body.len())
        .add(&body)
        .checksum();
    // RFC 768: of UDP, a sum of zero is sent as its complement, as zero says that there is none.
    let checksum = match (protocol, checksum) {
        (UDP, 0) => u16::MAX,
        (_, checksum) => checksum,
    };
    let begin = frame.len() + checksum_at;
    frame.extend_from_slice(&body);
    if let Some(place) = frame.get_mut(begin..begin + 2) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    frame
}

/// Builds the transport's header, without a checksum yet, and what it carries.
fn transport(source: u16, destination: u16, segment: Segment<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&source.to_be_bytes());
    body.extend_from_slice(&destination.to_be_bytes());
    let payload = match segment {
        Segment::Udp(payload) => {
            body.extend_from_slice(&length(8 + payload.len()));
            body.extend_from_slice(&[0; 2]);
            payload
        }
        Segment::Tcp(tcp) => {
            // RFC 9293 §3.1: no options, the largest window.
            body.extend_from_slice(&tcp.sequence.to_be_bytes());
            body.extend_from_slice(&tcp.acknowledged.to_be_bytes());
            body.extend_from_slice(&[0x50, tcp.flags, 0xff, 0xff, 0, 0, 0, 0]);
            tcp.payload
        }
    };
    body.extend_from_slice(payload);
    body
}

/// RFC 9293 §3.1, RFC 8200 §8.1.
fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Sum {
    let sum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Sum::default().add(&from.octets()).add(&to.octets()),
        _ => Sum::default().add(&v6(from).octets()).add(&v6(to).octets()),
    };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    sum.add(&length.to_be_bytes()).add(&[0, protocol])
}

/// A sum of 16-bit words, as RFC 1071 has it. Only the last part may have an odd length.
#[derive(Debug, Clone, Copy, Default)]
struct Sum(u64);

impl Sum {
    fn add(mut self, bytes: &[u8]) -> Sum {
        for word in bytes.chunks(2) {
            let high = word.first().copied().unwrap_or_default();
            let low = word.get(1).copied().unwrap_or_default();
            self.0 += u64::from(u16::from_be_bytes([high, low]));
        }
        self
    }

    fn checksum(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        // No more than 16 bits are left.
        !u16::try_from(sum).unwrap_or_default()
    }
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// Two addresses of different families are written as IPv6, of which IPv4 is a part.
fn same_family(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    match one.is_ipv4() == other.is_ipv4() {
        true => (one, other),
        false => (v6(one).into(), v6(other).into()),
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

const ETHERNET: usize = 14;
const UDP: u8 = 17;
const TCP: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The example of RFC 1071 §3: the sum is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().add(&bytes).checksum(), !0xddf2);
    }

    #[test]
    fn a_packet_that_arrives_whole_sums_to_nothing() {
        for (from, to) in [
            ("192.0.2.1:1", "192.0.2.2:2"),
            ("[2001:db8::1]:1", "192.0.2.2:2"),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            for payload in [&b"odd"[..], b"even"] {
                let frame = frame(from, to, Segment::Udp(payload));
                let (from, to) = same_family(from.ip(), to.ip());
                let begin = if from.is_ipv4() { 34 } else { 54 };
                let body = &frame[begin..];
                assert_eq!(body.len(), 8 + payload.len());
                let sum = pseudo_header(from, to, UDP, body.len()).add(body);
                assert_eq!(sum.checksum(), 0);
            }
        }
    }
}
