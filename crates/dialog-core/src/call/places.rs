//! Where requests go, and where we are reached.

use std::net::{IpAddr, SocketAddr};

use sipora_message::{HeaderName, Host, Request, Scheme, Uri, UriRef};
use sipora_transaction_core::{Context, Target};
use sipora_transport::{Destination, Flow, Transport};

/// Spares the resolver a URI that says its address itself (RFC 3263 §4.1, §4.2).
pub(super) fn locate(uri: Uri) -> Target {
    let ip = match uri.host() {
        Host::V4(address) => IpAddr::V4(address),
        Host::V6(address) => IpAddr::V6(address),
        Host::Name(_) => return Target::Uri(uri),
    };
    let is_plain = uri.scheme() == Scheme::Sip && uri.maddr().is_none();
    let transport = match uri.transport() {
        None => Some(Transport::Udp),
        Some(name) if name.eq_ignore_ascii_case("udp") => Some(Transport::Udp),
        Some(name) if name.eq_ignore_ascii_case("tcp") => Some(Transport::Tcp),
        Some(_) => None,
    };
    match transport.filter(|_| is_plain) {
        Some(transport) => {
            let address = SocketAddr::new(ip, uri.port().unwrap_or(5060));
            Target::Destinations(vec![Destination::new(transport, address)])
        }
        None => Target::Uri(uri),
    }
}

/// Where the peer of a flow reaches us in the call that its INVITE begins.
pub(super) fn contact(context: &Context<'_>, request: &Request, flow: &Flow) -> String {
    let uri = request.uri().ok();
    let is_sips = |uri: UriRef<'_>| uri.scheme() == Scheme::Sips;
    // RFC 3261 §12.1.1: a Request-URI that is SIPS wants a SIPS Contact, and so does the first Record-Route, or the Contact where
    // there is none.
    let headers = request.headers();
    let routed = headers.addresses(&HeaderName::RecordRoute).next();
    let asks = match &routed {
        Some(route) => route.as_ref().is_ok_and(|route| is_sips(route.uri())),
        None => {
            let contact = headers.contact().ok().flatten();
            contact.is_some_and(|contact| is_sips(contact.uri()))
        }
    };
    let is_secure = asks || uri.is_some_and(is_sips);
    let user = uri.and_then(|uri| uri.user());
    crate::contact::field_of_flow(context, flow, user, is_secure)
}
