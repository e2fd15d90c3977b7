//! STUN messages (RFC 5389, RFC 8489), as far as keep-alives need them: Binding requests and their answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Names a STUN transaction.
pub(crate) type TransactionId = [u8; 12];

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StunMessage {
    /// A Binding request.
    Request {
        transaction: TransactionId,
        /// Attributes that have to be understood and are not, as many of them as an answer names.
        unknown: Vec<u16>,
        /// It ends with a fingerprint.
        has_fingerprint: bool,
    },
    /// A Binding success response.
    Success {
        transaction: TransactionId,
        /// XOR-MAPPED-ADDRESS: where our request came from, as the peer sees it.
        mapped: SocketAddr,
    },
    /// A Binding error response.
    Error {
        transaction: TransactionId,
        /// ERROR-CODE, 300 to 699.
        code: u16,
    },
}

/// Tells STUN from SIP by the first octet: "the first octet of a STUN Binding method has a value of 0 or 1, while the first
/// octet of a SIP message is never a 0 or 1" (RFC 5626 §8).
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0 | 1))
}

/// Reads a whole datagram; `None` for what is malformed, of another method, or an indication.
pub(crate) fn read(datagram: &[u8]) -> Option<StunMessage> {
    let (header, mut rest) = datagram.split_at_checked(HEADER)?;
    let (kind, length, cookie) = (word(header, 0)?, word(header, 2)?, header.get(4..8)?);
    // RFC 5389 §6: the length counts what follows the header, and attributes are padded to four octets.
    if cookie != COOKIE || usize::from(length) != rest.len() || rest.len() % 4 != 0 {
        return None;
    }
    let transaction: TransactionId = header.get(8..)?.try_into().ok()?;
    let (mut unknown, mut mapped, mut code) = (Vec::new(), None, None);
    let mut has_fingerprint = false;
    while !rest.is_empty() {
        // §15.5: the fingerprint "MUST be the last attribute".
        if has_fingerprint {
            return None;
        }
        let (name, length) = (word(rest, 0)?, usize::from(word(rest, 2)?));
        let value = rest.get(4..4 + length)?;
        match name {
            XOR_MAPPED_ADDRESS => mapped = mapped.or(address(value, &transaction)),
            ERROR_CODE => code = code.or(error_code(value)),
            FINGERPRINT => {
                let before = datagram.get(..datagram.len() - rest.len())?;
                if value != fingerprint(before).to_be_bytes() {
                    return None;
                }
                has_fingerprint = true;
            }
            // §15: below 0x8000 is what has to be understood.
            name if name < 0x8000 && !KNOWN.contains(&name) => note(&mut unknown, name),
            _ => {}
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
    match kind {
        BINDING_REQUEST => Some(StunMessage::Request {
            transaction,
            unknown,
            has_fingerprint,
        }),
        // §7.3.3, §7.3.4: an answer with what has to be understood and is not is discarded.
        _ if !unknown.is_empty() => None,
        BINDING_SUCCESS => Some(StunMessage::Success {
            transaction,
            mapped: mapped?,
        }),
        BINDING_ERROR => Some(StunMessage::Error {
            transaction,
            code: code?,
        }),
        _ => None,
    }
}

fn note(unknown: &mut Vec<u16>, name: u16) {
    if unknown.len() < MOST_UNKNOWN && !unknown.contains(&name) {
        unknown.push(name);
    }
}

/// Prints a Binding request, which needs no attributes (RFC 5626 §8).
pub(crate) fn request(transaction: &TransactionId) -> Vec<u8> {
    print(BINDING_REQUEST, transaction, &[], false)
}

/// Prints the answer to a Binding request from `source`.
///
/// With attributes that have to be understood and are not it is a 420 that names them (§7.3.1), else it holds
/// XOR-MAPPED-ADDRESS.
pub(crate) fn answer(
    transaction: &TransactionId,
    unknown: &[u16],
    source: SocketAddr,
    with_fingerprint: bool,
) -> Vec<u8> {
    if unknown.is_empty() {
        let mapped = xor_mapped(source, transaction);
        let attributes = [(XOR_MAPPED_ADDRESS, mapped)];
        return print(BINDING_SUCCESS, transaction, &attributes, with_fingerprint);
    }
    let names = unknown.iter().flat_map(|name| name.to_be_bytes()).collect();
    let mut code = vec![0, 0, 4, 20];
    code.extend_from_slice(b"Unknown Attribute");
    let attributes = [(ERROR_CODE, code), (UNKNOWN_ATTRIBUTES, names)];
    print(BINDING_ERROR, transaction, &attributes, with_fingerprint)
}

fn print(
    kind: u16,
    transaction: &TransactionId,
    attributes: &[(u16, Vec<u8>)],
    with_fingerprint: bool,
) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in attributes {
        body.extend_from_slice(&name.to_be_bytes());
        body.extend_from_slice(&(value.len() as u16).to_be_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = body.len() + if with_fingerprint { 8 } else { 0 };
    let mut message = Vec::with_capacity(HEADER + length);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(length as u16).to_be_bytes());
    message.extend_from_slice(&COOKIE);
    message.extend_from_slice(transaction);
    message.extend_from_slice(&body);
    if with_fingerprint {
        let value = fingerprint(&message);
        message.extend_from_slice(&FINGERPRINT.to_be_bytes());
        message.extend_from_slice(&4_u16.to_be_bytes());
        message.extend_from_slice(&value.to_be_bytes());
    }
    message
}

/// §15.2.
fn xor_mapped(address: SocketAddr, transaction: &TransactionId) -> Vec<u8> {
    let port = address.port() ^ COOKIE_WORD;
    let (family, octets) = match address.ip().to_canonical() {
        IpAddr::V4(v4) => (IPV4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (IPV6, v6.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend_from_slice(&port.to_be_bytes());
    value.extend(
        octets
            .iter()
            .zip(mask(transaction))
            .map(|(one, other)| one ^ other),
    );
    value
}

fn address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let (family, port) = (*value.get(1)?, word(value, 2)? ^ COOKIE_WORD);
    let octets = value.get(4..)?;
    let plain: Vec<u8> = octets
        .iter()
        .zip(mask(transaction))
        .map(|(one, other)| one ^ other)
        .collect();
    let ip: IpAddr = match (family, octets.len()) {
        (IPV4, 4) => Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?).into(),
        (IPV6, 16) => Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// What addresses are combined with: the cookie, and behind it the transaction.
fn mask(transaction: &TransactionId) -> impl Iterator<Item = u8> {
    COOKIE.into_iter().chain(*transaction)
}

/// §15.6: the class in three bits, and the number below 100.
fn error_code(value: &[u8]) -> Option<u16> {
    let (class, number) = (*value.get(2)? & 7, *value.get(3)?);
    let is_code = (3..=6).contains(&class) && number < 100;
    is_code.then(|| u16::from(class) * 100 + u16::from(number))
}

/// §15.5: "computed as the CRC-32 of the STUN message up to (but excluding) the FINGERPRINT attribute itself, XOR'ed with the
/// 32-bit value 0x5354554e", the length in the header being that of the whole.
fn fingerprint(before: &[u8]) -> u32 {
    let step = |crc: u32, octet: &u8| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ 0xedb8_8320,
            _ => crc >> 1,
        })
    };
    !before.iter().fold(u32::MAX, step) ^ 0x5354_554e
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_be_bytes)
}

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Its first half, which ports are combined with.
const COOKIE_WORD: u16 = 0x2112;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
/// MAPPED-ADDRESS, USERNAME, MESSAGE-INTEGRITY, ERROR-CODE, UNKNOWN-ATTRIBUTES, REALM, NONCE, XOR-MAPPED-ADDRESS: defined by RFC
/// 5389, so they are understood, and asked for by nobody here.
const KNOWN: [u16; 8] = [
    0x0001, 0x0006, 0x0008, 0x0009, 0x000a, 0x0014, 0x0015, 0x0020,
];
const IPV4: u8 = 1;
const IPV6: u8 = 2;
/// An answer names no more, so that it is not much larger than what was asked.
const MOST_UNKNOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex
            .bytes()
            .filter(u8::is_ascii_hexdigit)
            .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    fn transaction() -> TransactionId {
        bytes("b7e7a701bc34d686fa87dfae").try_into().unwrap()
    }

    /// RFC 5769 §2.1.
    const SAMPLE_REQUEST: &str = "
        0001 0058 2112a442 b7e7a701 bc34d686 fa87dfae
        8022 0010 5354554e 20746573 7420636c 69656e74
        0024 0004 6e0001ff
        8029 0008 932ff9b1 51263b36
        0006 0009 6576746a 3a683676 59202020
        0008 0014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
        8028 0004 e57a3bcf";

    /// RFC 5769 §2.2.
    const SAMPLE_IPV4: &str = "
        0101 003c 2112a442 b7e7a701 bc34d686 fa87dfae
        8022 000b 74657374 20766563 746f7220
        0020 0008 0001a147 e112a643
        0008 0014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
        8028 0004 c07d4c96";

    /// RFC 5769 §2.3.
    const SAMPLE_IPV6: &str = "
        0101 0048 2112a442 b7e7a701 bc34d686 fa87dfae
        8022 000b 74657374 20766563 746f7220
        0020 0014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
        0008 0014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
        8028 0004 c8fb0b4c";

    #[test]
    fn the_sample_request_of_rfc_5769_is_read() {
        let read = read(&bytes(SAMPLE_REQUEST));
        let owed = StunMessage::Request {
            transaction: transaction(),
            // PRIORITY, which belongs to ICE.
            unknown: vec![0x0024],
            has_fingerprint: true,
        };
        assert_eq!(read, Some(owed));
    }

    #[test]
    fn the_sample_answers_of_rfc_5769_are_read() {
        for (sample, mapped) in [
            (SAMPLE_IPV4, "192.0.2.1:32853"),
            (SAMPLE_IPV6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let owed = StunMessage::Success {
                transaction: transaction(),
                mapped: mapped.parse().unwrap(),
            };
            assert_eq!(read(&bytes(sample)), Some(owed));
        }
    }

    #[test]
    fn the_mapped_address_of_the_samples_is_printed_as_it_stands_there() {
        for (mapped, owed) in [
            ("192.0.2.1:32853", "0020 0008 0001a147 e112a643"),
            ("[::ffff:192.0.2.1]:32853", "0020 0008 0001a147 e112a643"),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                "0020 0014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9",
            ),
        ] {
            let printed = answer(&transaction(), &[], mapped.parse().unwrap(), false);
            assert_eq!(printed[HEADER..], bytes(owed));
        }
    }

    #[test]
    fn what_is_printed_is_read() {
        let id = transaction();
        let owed = StunMessage::Request {
            transaction: id,
            unknown: Vec::new(),
            has_fingerprint: false,
        };
        assert_eq!(read(&request(&id)), Some(owed));
        let source = "198.51.100.7:1024".parse().unwrap();
        for with_fingerprint in [false, true] {
            let success = answer(&id, &[], source, with_fingerprint);
            let owed = StunMessage::Success {
                transaction: id,
                mapped: source,
            };
            assert_eq!(read(&success), Some(owed));
            let refusal = answer(&id, &[0x24, 0x25, 0x26], source, with_fingerprint);
            let owed = StunMessage::Error {
                transaction: id,
                code: 420,
            };
            assert_eq!(read(&refusal), Some(owed));
        }
    }

    #[test]
    fn a_message_that_is_cut_or_changed_anywhere_is_none() {
        for sample in [SAMPLE_REQUEST, SAMPLE_IPV4, SAMPLE_IPV6] {
            let whole = bytes(sample);
            for length in 0..whole.len() {
                assert_eq!(read(&whole[..length]), None, "{length}");
            }
            // The fingerprint covers every bit before it, and its own name is what makes it one.
            for at in 0..whole.len() - 8 {
                let mut changed = whole.clone();
                changed[at] ^= 4;
                assert_eq!(read(&changed), None, "{at}");
            }
        }
        let mut longer = request(&transaction());
        longer.extend_from_slice(&[0; 4]);
        assert_eq!(read(&longer), None);
    }

    #[test]
    fn attributes_that_lie_about_their_length_are_none() {
        for attributes in [
            "8022 0005 41424344",
            "8022 ffff 41424344",
            "8022",
            "0006 0001",
        ] {
            let attributes = bytes(attributes);
            let mut message = request(&transaction());
            message[3] = attributes.len() as u8;
            message.extend_from_slice(&attributes);
            assert_eq!(read(&message), None, "{attributes:?}");
        }
    }

    #[test]
    fn other_methods_indications_and_answers_without_their_attribute_are_none() {
        for kind in ["0003", "0011", "0101", "0111", "0002"] {
            let mut message = request(&transaction());
            message.splice(..2, bytes(kind));
            assert_eq!(read(&message), None, "{kind}");
        }
    }

    #[test]
    fn no_more_than_some_unknown_attributes_are_named() {
        let mut message = request(&transaction());
        for name in 0x0100..0x0180_u16 {
            message.extend_from_slice(&name.to_be_bytes());
            message.extend_from_slice(&[0, 0]);
        }
        let length = (message.len() - HEADER) as u16;
        message.splice(2..4, length.to_be_bytes());
        let Some(StunMessage::Request { unknown, .. }) = read(&message) else {
            panic!("not read");
        };
        assert_eq!(unknown.len(), MOST_UNKNOWN);
        let refusal = answer(
            &transaction(),
            &unknown,
            "192.0.2.1:1".parse().unwrap(),
            true,
        );
        assert!(refusal.len() < message.len());
    }
}
