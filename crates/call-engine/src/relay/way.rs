//! The way to a contact, and whether its answer would find the way back.

use std::net::IpAddr;

use sipora_message::{Request, Response, Scheme, Uri, UriRef};
use sipora_transaction_core::Target;
use sipora_transport::{Destination, Flow, Transport};

use super::request;
use crate::Binding;

/// Holds the way to a contact.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// The Request-URI.
    pub(crate) uri: Uri,
    /// The flow of the REGISTER, where it is there. It comes first.
    flow: Option<Flow>,
    /// What is located where there is no flow, or where it turns out to be gone.
    located: Option<Uri>,
}

/// Says why there is no way to a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// It is no SIP URI.
    NotSip,
    /// A SIPS request, and a contact that is none: RFC 5630 §5.3, "the proxy MUST NOT forward the request to the URI indicated
    /// in the Contact header field".
    SipsNotAllowed,
    /// A SIPS contact, and neither a connection within TLS nor a name to open one to.
    SipsRequired,
    /// The connection of its REGISTER has ended, and it is for the device to open another. Such a binding stays until it
    /// expires or the device comes back.
    FlowLost {
        /// The contact said that flows are all it is reached by (RFC 5626): `ob`, `reg-id`.
        is_outbound: bool,
    },
}

impl Way {
    /// Where the copy goes, and where it goes next if it finds the flow gone.
    ///
    /// A copy too large for a datagram goes to the same address over TCP if that can be had (§18.1.1), which the transaction
    /// layer sees to for addresses and not for flows.
    pub(crate) fn targets(self, copy: &Request) -> Option<(Target, Option<Uri>)> {
        match (self.flow, self.located) {
            (Some(flow), located) => Some((over(flow, copy), located)),
            (None, Some(located)) => Some((Target::Uri(located), None)),
            (None, None) => None,
        }
    }
}

/// Finds the way to a contact for a request whose URI has this scheme.
pub(crate) fn way(
    binding: &Binding,
    requested: Scheme,
    is_open: impl Fn(&Flow) -> bool,
) -> Result<Way, NoWay> {
    let contact = UriRef::parse(binding.uri()).map_err(|_| NoWay::NotSip)?;
    if !contact.is_sip() {
        return Err(NoWay::NotSip);
    }
    let is_secure = contact.scheme() == Scheme::Sips;
    if requested == Scheme::Sips && !is_secure {
        return Err(NoWay::SipsNotAllowed);
    }
    let uri = request::request_uri(binding.uri(), requested).ok_or(NoWay::NotSip)?;
    // RFC 5630 §5.3: a SIPS contact is reached over TLS, also by a SIP request.
    let serves = |transport: Transport| !is_secure || transport.is_secure();
    let bound = binding.flow().filter(|flow| serves(flow.transport));
    let flow = bound.filter(is_open);
    let located = can_be_located(binding, contact)
        .then(|| request::request_uri(binding.uri(), contact.scheme()))
        .flatten();
    if flow.is_some() || located.is_some() {
        return Ok(Way { uri, flow, located });
    }
    match is_secure && bound.is_none() {
        true => Err(NoWay::SipsRequired),
        false => Err(NoWay::FlowLost {
            is_outbound: is_outbound(binding, contact),
        }),
    }
}

/// Says whether somebody listens where the contact's URI leads, as far as can be told: a datagram goes anywhere, and a
/// connection to whoever accepts one. A device behind a NAT does not, and clients of TLS and WebSocket do not either, which
/// have no certificate and no listener; a server does that names itself.
fn can_be_located(binding: &Binding, contact: UriRef<'_>) -> bool {
    let host = contact.host_str();
    let labels = host.trim_end_matches('.').rsplit('.').next();
    // RFC 7118 §5.1: for those who have no name that others could look up.
    if labels.is_some_and(|last| last.eq_ignore_ascii_case("invalid")) {
        return false;
    }
    if is_outbound(binding, contact) {
        return false;
    }
    let named = contact.param("transport").flatten().unwrap_or_default();
    let way = named.parse().unwrap_or(match contact.scheme() {
        Scheme::Sips => Transport::Tls,
        _ => binding.transport(),
    });
    let address = contact.host().ip();
    match way {
        Transport::Udp | Transport::Tcp if contact.scheme() == Scheme::Sips => address.is_none(),
        Transport::Udp | Transport::Tcp => {
            let source = binding.source().ip();
            !address.is_some_and(|address| is_private(address) && !is_private(source))
        }
        Transport::Tls => address.is_none(),
        _ => false,
    }
}

fn is_outbound(binding: &Binding, contact: UriRef<'_>) -> bool {
    let is_reg_id = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("reg-id")
    };
    contact.param("ob").is_some() || binding.parameters().split(';').any(is_reg_id)
}

/// Addresses that mean something else elsewhere.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// Sends over a flow, but for what is too large for it.
pub(crate) fn over(flow: Flow, request: &Request) -> Target {
    let is_large = request.as_bytes().len() + VIA_BYTES > DATAGRAM_LIMIT;
    match flow.transport {
        Transport::Udp if is_large => Target::Destinations(vec![Destination::udp(flow.remote)]),
        _ => Target::Flow(flow),
    }
}

/// Says whether an answer, our Via taken off, would reach who sent the request: a contact may answer anything.
pub(crate) fn belongs(response: &Response, request: &Request) -> bool {
    let (given, asked) = (response.headers(), request.headers());
    let via = given.vias().nth(1).and_then(Result::ok);
    let same_branch = match (via, asked.via()) {
        (Some(found), Ok(sent)) => found.branch() == sent.branch(),
        _ => false,
    };
    let same_number = match (given.cseq(), asked.cseq()) {
        (Ok(found), Ok(sent)) => found.number == sent.number,
        _ => false,
    };
    same_branch && same_number
}

/// RFC 3261 §18.1.1.
const DATAGRAM_LIMIT: usize = 1300;
/// Room for the Via that is still to come.
const VIA_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use sipora_transport::FlowId;

    use super::*;
    use crate::{Origin, Timestamp};

    /// What is tried for a contact that was bound over a transport: `flow`, `uri`, both or nothing.
    fn tried(
        requested: Scheme,
        contact: &str,
        transport: Transport,
        source: &str,
        flow: Option<bool>,
    ) -> Result<(String, Vec<String>), NoWay> {
        let (uri, parameters) = contact.split_once(' ').unwrap_or((contact, ""));
        let origin = Origin {
            transport,
            source: source.parse().unwrap(),
            flow: flow.map(|_| FlowId::from_u64(7)),
        };
        let end = Timestamp::from_millis(1);
        let binding = Binding::restore(uri, parameters, "1", 1, None, end, origin).unwrap();
        let way = way(&binding, requested, |_| flow == Some(true))?;
        let mut tried: Vec<_> = way.flow.iter().map(|_| "flow".to_owned()).collect();
        tried.extend(way.located.iter().map(Uri::to_string));
        Ok((way.uri.to_string(), tried))
    }

    fn ways(contact: &str, transport: Transport, flow: Option<bool>) -> Result<Vec<String>, NoWay> {
        let tried = tried(Scheme::Sip, contact, transport, "198.51.100.7:1024", flow);
        tried.map(|(_, tried)| tried)
    }

    const LOST: NoWay = NoWay::FlowLost { is_outbound: false };

    #[test]
    fn the_flow_comes_first_and_then_who_may_be_found_by_its_uri() {
        let uri = "sip:bob@198.51.100.7:5070".to_owned();
        for transport in [Transport::Udp, Transport::Tcp] {
            let both = vec!["flow".to_owned(), uri.clone()];
            assert_eq!(ways(&uri, transport, Some(true)), Ok(both));
            assert_eq!(ways(&uri, transport, Some(false)), Ok(vec![uri.clone()]));
            assert_eq!(ways(&uri, transport, None), Ok(vec![uri.clone()]));
        }
    }

    #[test]
    fn who_only_its_connection_reaches_is_not_looked_for() {
        for (contact, transport) in [
            ("sip:bob@198.51.100.7:5070", Transport::Tls),
            ("sip:bob@198.51.100.7:5070", Transport::Ws),
            ("sip:bob@example.org;transport=ws", Transport::Wss),
            ("sip:bob@df7jal23ls0d.invalid", Transport::Tcp),
            ("sip:bob@df7jal23ls0d.INVALID.", Transport::Tcp),
            // Behind a NAT.
            ("sip:bob@192.168.1.7:5070;transport=tcp", Transport::Tcp),
            ("sip:bob@[fd00::7]", Transport::Tcp),
            ("sip:bob@198.51.100.7;transport=tls", Transport::Tcp),
            ("sip:bob@198.51.100.7;transport=sctp", Transport::Ws),
        ] {
            assert_eq!(
                ways(contact, transport, Some(true)),
                Ok(vec!["flow".into()])
            );
            assert_eq!(
                ways(contact, transport, Some(false)),
                Err(LOST),
                "{contact}"
            );
            assert_eq!(ways(contact, transport, None), Err(LOST), "{contact}");
        }
        for contact in [
            "sip:bob@198.51.100.7;ob",
            "sip:bob@198.51.100.7 ;+a=b;reg-id=1",
        ] {
            let lost = ways(contact, Transport::Tcp, Some(false));
            assert_eq!(
                lost,
                Err(NoWay::FlowLost { is_outbound: true }),
                "{contact}"
            );
        }
    }

    #[test]
    fn a_server_that_names_itself_may_be_connected_to_over_tls() {
        let uri = "sip:bob@pbx.example.org;transport=tls";
        assert_eq!(ways(uri, Transport::Tls, Some(false)), Ok(vec![uri.into()]));
        let uri = "sips:bob@pbx.example.org";
        let found = tried(
            Scheme::Sip,
            uri,
            Transport::Tls,
            "198.51.100.7:1",
            Some(false),
        );
        let owed = ("sip:bob@pbx.example.org".to_owned(), vec![uri.to_owned()]);
        assert_eq!(found, Ok(owed), "a SIP request, over TLS");
    }

    #[test]
    fn within_one_private_network_addresses_mean_the_same() {
        let uri = "sip:bob@192.168.1.7:5070;transport=tcp";
        let found = tried(
            Scheme::Sip,
            uri,
            Transport::Tcp,
            "192.168.1.7:999",
            Some(false),
        );
        assert_eq!(found.unwrap().1, [uri]);
    }

    #[test]
    fn sips_goes_over_tls_to_sips_contacts_and_nowhere_else() {
        let sips = "sips:bob@192.0.2.9;transport=ws";
        let found = |requested, contact, transport, is_open| {
            tried(requested, contact, transport, "192.0.2.9:9", Some(is_open))
        };
        let over_flow = |uri: &str| Ok((uri.to_owned(), vec!["flow".to_owned()]));
        for transport in [Transport::Tls, Transport::Wss] {
            assert_eq!(found(Scheme::Sips, sips, transport, true), over_flow(sips));
            // RFC 5630 §5.3: "the proxy MUST replace that SIPS scheme with a SIP scheme […] MUST use TLS".
            let sip = "sip:bob@192.0.2.9;transport=ws";
            assert_eq!(found(Scheme::Sip, sips, transport, true), over_flow(sip));
            assert_eq!(found(Scheme::Sip, sips, transport, false), Err(LOST));
            let refused = found(Scheme::Sips, sip, transport, true);
            assert_eq!(refused, Err(NoWay::SipsNotAllowed));
        }
        for requested in [Scheme::Sip, Scheme::Sips] {
            for transport in [Transport::Udp, Transport::Tcp, Transport::Ws] {
                let refused = found(requested, "sips:bob@192.0.2.9", transport, true);
                assert_eq!(refused, Err(NoWay::SipsRequired), "{transport}");
            }
        }
    }

    #[test]
    fn what_is_no_sip_uri_has_no_way() {
        for contact in ["tel:+123", "mailto:bob@example.com"] {
            assert_eq!(
                ways(contact, Transport::Udp, Some(true)),
                Err(NoWay::NotSip)
            );
        }
    }
}
