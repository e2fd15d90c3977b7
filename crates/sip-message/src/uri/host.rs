//! Hosts, with and without a port (RFC 3261 §25.1, RFC 5954).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::UriError;
use crate::classes::{HOST, leading_decimal, run};
use crate::scan;

/// The host of a URI or of a Via: a name or an address.
///
/// Addresses compare as addresses (RFC 5954 §4.2), names without case.
#[derive(Debug, Clone, Copy)]
pub enum Host<'a> {
    /// A domain name, as written.
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Reads a host that was checked before.
    pub(crate) fn read(text: &'a str) -> Host<'a> {
        if let Some(address) = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
        {
            return v6(address).map_or(Host::Name(text), Host::V6);
        }
        v4(text).map_or(Host::Name(text), Host::V4)
    }

    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address) => Some(IpAddr::V6(*address)),
        }
    }
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two),
            (Host::V4(one), Host::V4(two)) => one == two,
            (Host::V6(one), Host::V6(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for Host<'_> {}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(address) => write!(f, "{address}"),
            Host::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// Reads four numbers as [`Ipv4Addr`]'s parser does, in a third of its time: every message has several.
fn v4(text: &str) -> Option<Ipv4Addr> {
    if !text.as_bytes().last()?.is_ascii_digit() {
        return None;
    }
    let mut octets = [0; 4];
    let mut place = octets.iter_mut();
    let (mut number, mut digits) = (0u16, 0);
    for &byte in text.as_bytes() {
        match byte {
            // No more than three, and no zero in front of others.
            b'0'..=b'9' if digits < 3 && (digits == 0 || number > 0) => {
                number = number * 10 + u16::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 => {
                *place.next()? = u8::try_from(number).ok()?;
                (number, digits) = (0, 0);
            }
            _ => return None,
        }
    }
    *place.next()? = u8::try_from(number).ok()?;
    place.next().is_none().then_some(octets.into())
}

/// What [`host_port`] found: lengths from the start of its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostPort {
    pub(crate) host_len: usize,
    pub(crate) port: Option<u16>,
    pub(crate) len: usize,
}

/// Reads `host [ ":" port ]` at the start of `bytes`; what follows is the caller's.
#[inline]
pub(crate) fn host_port(bytes: &[u8]) -> Result<HostPort, UriError> {
    let host_len = host_len(bytes)?;
    let none = HostPort {
        host_len,
        port: None,
        len: host_len,
    };
    if bytes.get(host_len) != Some(&b':') {
        return Ok(none);
    }
    let digits = bytes.get(host_len + 1..).unwrap_or_default();
    let (count, number) = leading_decimal(digits);
    let port = number.and_then(|port| u16::try_from(port).ok());
    if port.is_none() {
        return Err(UriError::new("invalid port", host_len + 1));
    }
    Ok(HostPort {
        host_len,
        port,
        len: host_len + 1 + count,
    })
}

#[inline]
fn host_len(bytes: &[u8]) -> Result<usize, UriError> {
    if bytes.first() == Some(&b'[') {
        let Some(end) = scan::find(b']', bytes) else {
            return Err(UriError::new("no ] after an IPv6 address", 0));
        };
        let address = bytes.get(1..end).and_then(|text| scan::text(text));
        return match address.and_then(v6) {
            Some(_) => Ok(end + 1),
            None => Err(UriError::new("invalid IPv6 address", 1)),
        };
    }
    let len = run(bytes, HOST);
    if len == 0 {
        return Err(UriError::new("empty host", 0));
    }
    if bytes.first() == Some(&b'.') {
        return Err(UriError::new("host begins with a dot", 0));
    }
    Ok(len)
}

/// Reads an IPv6 address. The three colons of RFC 5118 §4.10, which the grammar of RFC 3261 allowed before an IPv4
/// tail, are read as two.
pub(crate) fn v6(text: &str) -> Option<Ipv6Addr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (before, after) = text.split_once(":::")?;
    if !after.contains('.') || text.len() > 64 {
        return None;
    }
    format!("{before}::{after}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_are_read_as_the_standard_library_reads_them() {
        for text in [
            "",
            "0.0.0.0",
            "192.0.2.1",
            "255.255.255.255",
            "256.1.1.1",
            "1.2.3",
            "1.2.3.",
            "1.2.3.4.",
            "1.2.3.4.5",
            ".1.2.3.4",
            "1..2.3",
            "01.2.3.4",
            "00.0.0.0",
            "0.0.0.00",
            "1.2.3.0004",
            "1.2.3.1000",
            "1.2.3.a",
            "a.2.3.4",
            "1.2.3.-4",
            "65536.1.1.1",
            "4294967296",
            "1.2.3.4a",
            "10.20.30.40",
            "a.example",
            "é1",
        ] {
            assert_eq!(v4(text), text.parse().ok(), "{text}");
        }
    }
}
