//! Messages for a collector, in the Homer Encapsulation Protocol, version 3.

use super::{TraceSink, ends};
use crate::Observed;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::UNIX_EPOCH;

/// Sends each message to a collector such as Homer's, as HEP version 3 over UDP, in clear and with all that it holds.
///
/// Every packet names protocol, addresses, ports and time of the message, and its Call-ID as the correlation. What does not fit
/// into a datagram is cut off at its end. Nobody confirms what was received: a collector that is not there is noticed where the
/// network reports it, and told in the log.
#[derive(Debug)]
pub struct HepTrace {
    socket: UdpSocket,
    name: String,
    capture_id: u32,
    password: Option<Box<str>>,
    packet: Vec<u8>,
}

impl HepTrace {
    /// Sends to this collector. Homer listens on port 9060.
    pub fn to(collector: SocketAddr) -> io::Result<HepTrace> {
        let any: IpAddr = match collector {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(collector)?;
        Ok(HepTrace {
            socket,
            name: format!("HEP {collector}"),
            capture_id: 1,
            password: None,
            packet: Vec::new(),
        })
    }

    /// Tells the collector which of its sources this is. Default 1.
    pub fn capture_id(mut self, id: u32) -> HepTrace {
        self.capture_id = id;
        self
    }

    /// Sends a password with every packet, in clear, for collectors that want one.
    pub fn password(mut self, password: &str) -> HepTrace {
        self.password = Some(password.into());
        self
    }

    fn fill(&mut self, message: &Observed<'_>) {
        let since = message.now.wall.duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let (source, destination) = ends(message);
        let packet = &mut self.packet;
        packet.clear();
        packet.extend_from_slice(b"HEP3\0\0");
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                chunk(packet, FAMILY, &[2]);
                chunk(packet, SOURCE_V4, &from.octets());
                chunk(packet, DESTINATION_V4, &to.octets());
            }
            (from, to) => {
                chunk(packet, FAMILY, &[10]);
                chunk(packet, SOURCE_V6, &v6(from));
                chunk(packet, DESTINATION_V6, &v6(to));
            }
        }
        let protocol = if message.flow.transport.is_stream() {
            6
        } else {
            17
        };
        chunk(packet, PROTOCOL, &[protocol]);
        chunk(packet, SOURCE_PORT, &source.port().to_be_bytes());
        chunk(packet, DESTINATION_PORT, &destination.port().to_be_bytes());
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        chunk(packet, SECONDS, &seconds.to_be_bytes());
        chunk(packet, MICROSECONDS, &since.subsec_micros().to_be_bytes());
        chunk(packet, TYPE, &[SIP]);
        chunk(packet, CAPTURE_ID, &self.capture_id.to_be_bytes());
        if let Some(password) = &self.password {
            chunk(packet, PASSWORD, password.as_bytes());
        }
        if let Some(call_id) = call_id(message.bytes) {
            chunk(packet, CORRELATION, call_id);
        }
        let room = LARGEST.saturating_sub(packet.len() + CHUNK_HEADER);
        let payload = message.bytes.get(..room).unwrap_or(message.bytes);
        chunk(packet, PAYLOAD, payload);
        let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        if let Some(place) = packet.get_mut(4..6) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

impl TraceSink for HepTrace {
    fn name(&self) -> &str {
        &self.name
    }

    fn write(&mut self, message: &Observed<'_>) -> io::Result<()> {
        self.fill(message);
        match self.socket.send(&self.packet) {
            // The report about an earlier packet, which takes the place of this one's sending: it may arrive all the same.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.socket.send(&self.packet).and(Err(error))
            }
            sent => sent.map(|_| ()),
        }
    }
}

/// Writes a chunk of the vendor 0, which is HEP itself: vendor, type, length with these six bytes, what it carries.
fn chunk(packet: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let room = usize::from(u16::MAX) - CHUNK_HEADER;
    let payload = payload.get(..room).unwrap_or(payload);
    let length = u16::try_from(payload.len() + CHUNK_HEADER).unwrap_or(u16::MAX);
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(payload);
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Finds the Call-ID in bytes that may be no message; a value of unreasonable length is none.
fn call_id(bytes: &[u8]) -> Option<&[u8]> {
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii_end();
        if name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i") {
            let value = value.get(1..)?.trim_ascii();
            return (!value.is_empty() && value.len() <= LONGEST_CALL_ID).then_some(value);
        }
    }
    None
}

const CHUNK_HEADER: usize = 6;

/// Bytes of a packet: what UDP takes over IPv4.
const LARGEST: usize = 65_507;

/// What a collector's table can be expected to hold.
const LONGEST_CALL_ID: usize = 1_024;

/// Protocol type of HEP.
const SIP: u8 = 1;

const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const SOURCE_V4: u16 = 3;
const DESTINATION_V4: u16 = 4;
const SOURCE_V6: u16 = 5;
const DESTINATION_V6: u16 = 6;
const SOURCE_PORT: u16 = 7;
const DESTINATION_PORT: u16 = 8;
const SECONDS: u16 = 9;
const MICROSECONDS: u16 = 10;
const TYPE: u16 = 11;
const CAPTURE_ID: u16 = 12;
const PASSWORD: u16 = 14;
const PAYLOAD: u16 = 15;
const CORRELATION: u16 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_is_found_whatever_its_name_and_only_before_the_body() {
        let found = |text: &'static str| call_id(text.as_bytes());
        assert_eq!(
            found("OPTIONS sip:a SIP/2.0\r\nCALL-ID : a@b \r\n\r\n"),
            Some(&b"a@b"[..])
        );
        assert_eq!(found("OPTIONS sip:a SIP/2.0\ni:x\n\n"), Some(&b"x"[..]));
        assert_eq!(found("SIP/2.0 200 OK\r\nTo: a\r\n\r\nCall-ID: b\r\n"), None);
        assert_eq!(found("\x00\x01rubbish"), None);
    }
}
