//! The transports that SIP runs over.

use std::fmt;
use std::str::FromStr;

/// Names a transport of RFC 3261 §7.1 and RFC 7118.
///
/// UDP and TCP are always there; the others need a feature each, without which opening them is
/// [`OpenError::Unsupported`](crate::OpenError::Unsupported).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Transport {
    /// UDP: a message is a datagram.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS (RFC 7118).
    Wss,
}

impl Transport {
    /// Returns the token of a Via header field: `UDP`, `TCP`, `TLS`, `WS`, `WSS`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// Returns the value of a URI's `transport` parameter: `udp`, `tcp`, `tls`, `ws`, `wss`.
    pub const fn parameter(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// Tells whether the transport retransmits by itself (RFC 3261 §17.1.1.1).
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// Tells whether messages come over connections. True for everything but UDP.
    pub const fn is_stream(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// Tells whether the transport is encrypted, as a `sips` URI demands (RFC 3261 §26.2.2).
    pub const fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// Returns the port where none is named: 5060, 5061 for TLS (RFC 3261 §19.1.2), 80 and 443 for WebSocket.
    pub const fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says that a token names none of the transports of [`Transport`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown transport `{0}`")]
pub struct UnknownTransport(pub String);

impl FromStr for Transport {
    type Err = UnknownTransport;

    /// Reads a Via token or a `transport` parameter; case does not matter (RFC 3261 §7.3.1).
    fn from_str(text: &str) -> Result<Transport, UnknownTransport> {
        [
            Transport::Udp,
            Transport::Tcp,
            Transport::Tls,
            Transport::Ws,
            Transport::Wss,
        ]
        .into_iter()
        .find(|transport| transport.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| UnknownTransport(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_whatever_their_case() {
        assert_eq!("udp".parse(), Ok(Transport::Udp));
        assert_eq!("Wss".parse(), Ok(Transport::Wss));
        assert_eq!(
            "sctp".parse::<Transport>(),
            Err(UnknownTransport("sctp".into()))
        );
    }

    #[test]
    fn only_udp_is_unreliable() {
        assert!(!Transport::Udp.is_reliable());
        assert!(Transport::Tcp.is_reliable() && Transport::Ws.is_reliable());
    }
}
