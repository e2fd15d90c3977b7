//! The address that a Via or Contact of ours carries.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::via::push_address;

/// Holds a `sent-by`: the host and port at which we can be reached (RFC 3261 §18.1.1).
///
/// Displayed as in a Via: `192.0.2.1:5060`, `[2001:db8::1]:5060`, `sip.example.com:5060`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SentBy {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// Whether requests of the peer may come over the same connection, as `alias` in a Via says (RFC 5923 §8.1): over TLS,
    /// where we listen for it too and have a certificate to show. Not displayed.
    pub alias: bool,
}

impl fmt::Display for SentBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for SentBy {
    fn from(address: SocketAddr) -> SentBy {
        let host = match address {
            // Much cheaper than by its `Display`, for what every Contact asks for.
            SocketAddr::V4(v4) => {
                let mut host = Vec::with_capacity("255.255.255.255".len());
                push_address(&mut host, IpAddr::V4(*v4.ip()));
                String::from_utf8(host).unwrap_or_default()
            }
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        SentBy {
            host: host.into(),
            port: address.port(),
            alias: false,
        }
    }
}
