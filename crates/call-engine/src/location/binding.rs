//! A contact bound to an address-of-record, as small as it can be.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use sipora_transport::{Flow, FlowId, Transport};

use super::Timestamp;

/// Holds a contact that is bound to an address-of-record.
///
/// A registrar holds a great many of these, so the three texts share one allocation of their exact size and the source
/// address is packed.
#[derive(Clone)]
pub struct Binding {
    /// URI, parameters, Call-ID, one after the other.
    text: Box<str>,
    uri_end: u16,
    parameters_end: u16,
    /// Thousandths; [`NO_Q`] where the Contact said none.
    q: u16,
    cseq: u32,
    expires: Timestamp,
    source: PackedAddress,
    transport: Transport,
    /// [`NO_FLOW`] where the REGISTER came to another process.
    flow: u64,
}

/// Says where a REGISTER came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The transport it came by.
    pub transport: Transport,
    /// The address it came from.
    pub source: SocketAddr,
    /// The flow it came by; `None` for one of another process.
    pub flow: Option<FlowId>,
}

impl From<Flow> for Origin {
    fn from(flow: Flow) -> Self {
        Self {
            transport: flow.transport,
            source: flow.remote,
            flow: Some(flow.id),
        }
    }
}

/// The texts and numbers that a [`Binding`] is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BindingParts<'a> {
    pub(crate) uri: &'a str,
    pub(crate) parameters: &'a str,
    pub(crate) call_id: &'a str,
    pub(crate) cseq: u32,
    pub(crate) q: Option<u16>,
    pub(crate) expires: Timestamp,
    pub(crate) origin: Origin,
}

impl Binding {
    /// Makes a binding, as a store does that reads one back.
    ///
    /// `None` where URI and parameters together are longer than 65,535 bytes.
    pub fn restore(
        uri: &str,
        parameters: &str,
        call_id: &str,
        cseq: u32,
        q: Option<u16>,
        expires: Timestamp,
        origin: Origin,
    ) -> Option<Self> {
        Self::from_parts(BindingParts {
            uri,
            parameters,
            call_id,
            cseq,
            q,
            expires,
            origin,
        })
    }

    pub(crate) fn from_parts(parts: BindingParts<'_>) -> Option<Self> {
        let uri_end = u16::try_from(parts.uri.len()).ok()?;
        let parameters_end = uri_end.checked_add(u16::try_from(parts.parameters.len()).ok()?)?;
        let mut text = String::with_capacity(usize::from(parameters_end) + parts.call_id.len());
        text.push_str(parts.uri);
        text.push_str(parts.parameters);
        text.push_str(parts.call_id);
        Some(Self {
            text: text.into_boxed_str(),
            uri_end,
            parameters_end,
            q: parts.q.map_or(NO_Q, |q| q.min(1000)),
            cseq: parts.cseq,
            expires: parts.expires,
            source: PackedAddress::pack(parts.origin.source),
            transport: parts.origin.transport,
            flow: parts.origin.flow.map_or(NO_FLOW, FlowId::as_u64),
        })
    }

    /// The contact's URI, as registered.
    pub fn uri(&self) -> &str {
        self.text.get(..usize::from(self.uri_end)).unwrap_or("")
    }

    /// The parameters of the Contact besides `q` and `expires`, each with its semicolon.
    pub fn parameters(&self) -> &str {
        self.text
            .get(usize::from(self.uri_end)..usize::from(self.parameters_end))
            .unwrap_or("")
    }

    /// Call-ID of the REGISTER that made or last changed the binding.
    pub fn call_id(&self) -> &str {
        self.text
            .get(usize::from(self.parameters_end)..)
            .unwrap_or("")
    }

    /// CSeq of that REGISTER.
    pub fn cseq(&self) -> u32 {
        self.cseq
    }

    /// The preference in thousandths, 0 to 1000; `None` where the Contact said none, which means 1000.
    pub fn q(&self) -> Option<u16> {
        (self.q != NO_Q).then_some(self.q)
    }

    /// When the binding ends unless it is refreshed.
    pub fn expires_at(&self) -> Timestamp {
        self.expires
    }

    /// What is left of the binding's time.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        now.until(self.expires)
    }

    /// What is left in whole seconds, rounded up: a binding that lives is never said to have 0 seconds left, which
    /// would say that it is gone.
    pub fn remaining_seconds(&self, now: Timestamp) -> u32 {
        let left = self.remaining(now);
        // What is left of a second counts as one, what is left of a millisecond does not.
        let seconds = left.as_secs() + u64::from(left.subsec_millis() > 0);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// Whether the binding has ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    /// The transport that the REGISTER came by.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The address that the REGISTER came from.
    pub fn source(&self) -> SocketAddr {
        self.source.unpack()
    }

    /// The flow that the REGISTER came by; `None` where it came to another process.
    pub fn flow(&self) -> Option<Flow> {
        (self.flow != NO_FLOW).then(|| Flow {
            id: FlowId::from_u64(self.flow),
            transport: self.transport,
            remote: self.source(),
        })
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Binding")
            .field("uri", &self.uri())
            .field("parameters", &self.parameters())
            .field("call_id", &self.call_id())
            .field("cseq", &self.cseq)
            .field("q", &self.q())
            .field("expires", &self.expires)
            .field("transport", &self.transport)
            .field("source", &self.source())
            .finish_non_exhaustive()
    }
}

const NO_Q: u16 = u16::MAX;
/// Flows are numbered through, and no process sees so many.
const NO_FLOW: u64 = u64::MAX;

/// A socket address in 22 bytes instead of 32. An IPv4 address stands as its IPv4-mapped form and is told apart by
/// `v4`, since a peer may well have the mapped address itself.
#[derive(Clone, Copy)]
struct PackedAddress {
    octets: [u8; 16],
    scope: [u8; 4],
    port: u16,
    v4: bool,
}

impl PackedAddress {
    fn pack(address: SocketAddr) -> Self {
        let (octets, scope) = match address {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped().octets(), 0),
            SocketAddr::V6(v6) => (v6.ip().octets(), v6.scope_id()),
        };
        Self {
            octets,
            scope: scope.to_ne_bytes(),
            port: address.port(),
            v4: address.is_ipv4(),
        }
    }

    fn unpack(self) -> SocketAddr {
        let v6 = Ipv6Addr::from(self.octets);
        match v6.to_ipv4_mapped() {
            Some(v4) if self.v4 => SocketAddr::new(IpAddr::V4(v4), self.port),
            _ => SocketAddr::V6(SocketAddrV6::new(
                v6,
                self.port,
                0,
                u32::from_ne_bytes(self.scope),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(source: &str) -> Binding {
        Binding::restore(
            "sip:alice@192.0.2.4:5060",
            ";+sip.instance=\"<urn:uuid:1>\"",
            "a84b4c76e66710",
            7,
            Some(700),
            Timestamp::from_millis(10_500),
            Origin {
                transport: Transport::Udp,
                source: source.parse().unwrap(),
                flow: None,
            },
        )
        .unwrap()
    }

    #[test]
    fn the_three_texts_come_back() {
        let binding = binding("192.0.2.4:5060");
        assert_eq!(binding.uri(), "sip:alice@192.0.2.4:5060");
        assert_eq!(binding.parameters(), ";+sip.instance=\"<urn:uuid:1>\"");
        assert_eq!(binding.call_id(), "a84b4c76e66710");
        assert_eq!(binding.q(), Some(700));
    }

    #[test]
    fn source_addresses_survive_packing() {
        for source in [
            "192.0.2.4:5060",
            "[2001:db8::1]:5061",
            "[::ffff:192.0.2.4]:1",
            "[fe80::1%3]:9",
        ] {
            assert_eq!(
                binding(source).source(),
                source.parse().unwrap(),
                "{source}"
            );
        }
    }

    #[test]
    fn what_is_left_is_rounded_up_and_zero_only_when_it_is_over() {
        let binding = binding("192.0.2.4:5060");
        let left = |millis| binding.remaining_seconds(Timestamp::from_millis(millis));
        assert_eq!(left(500), 10);
        assert_eq!(left(501), 10);
        assert_eq!(left(10_499), 1);
        assert_eq!(left(10_500), 0);
        assert!(binding.is_expired(Timestamp::from_millis(10_500)));
        assert!(!binding.is_expired(Timestamp::from_millis(10_499)));
    }

    #[test]
    fn a_text_too_long_for_its_lengths_is_no_binding() {
        let origin = Origin {
            transport: Transport::Tcp,
            source: "192.0.2.4:5060".parse().unwrap(),
            flow: Some(FlowId::from_u64(3)),
        };
        let restore = |uri: &str, parameters: &str| {
            Binding::restore(
                uri,
                parameters,
                "1",
                1,
                None,
                Timestamp::from_millis(1),
                origin,
            )
        };
        let uri = format!("sip:{}@example.com", "a".repeat(65_000));
        assert!(restore(&uri, &";x".repeat(300)).is_none());
        assert_eq!(
            restore(&uri, ";x").unwrap().flow().unwrap().id,
            FlowId::from_u64(3)
        );
    }

    #[test]
    fn a_binding_is_at_most_72_bytes_and_its_text() {
        assert!(size_of::<Binding>() <= 72, "{}", size_of::<Binding>());
    }
}
