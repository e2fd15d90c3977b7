//! Where names lead: by DNS, as RFC 3263 has it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use sipora_session_core::message::Uri;
use sipora_session_core::{
    Destination, DnsResolver, ResolveError, Resolver, SystemResolver, Transport,
};

use crate::exit::{Failure, chain};

/// Gives what resolves names: the name servers of the command line alone or, without any, the system's.
///
/// `has_tls` tells whether DNS may lead a `sip` URI to TLS.
pub(crate) fn resolver(
    servers: &[SocketAddr],
    has_tls: bool,
) -> Result<Arc<dyn Resolver>, Failure> {
    let mut transports = vec![Transport::Udp, Transport::Tcp];
    if has_tls {
        transports.push(Transport::Tls);
    }
    if !servers.is_empty() {
        return DnsResolver::with_servers(servers)
            .map(|dns| Arc::new(dns.with_transports(&transports)) as Arc<dyn Resolver>)
            .map_err(|error| Failure::Local(chain(&error)));
    }
    match DnsResolver::from_system() {
        Ok(dns) => Ok(Arc::new(Names {
            dns: dns.with_transports(&transports),
            system: SystemResolver::new(),
        })),
        Err(error) => {
            tracing::info!("no NAPTR and SRV records: {}", chain(&error));
            Ok(Arc::new(SystemResolver::new()))
        }
    }
}

/// Asks DNS, and where that knows nothing the system, which may know more than DNS does: multicast DNS, containers, a
/// directory service.
#[derive(Debug)]
struct Names {
    dns: DnsResolver,
    system: SystemResolver,
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, target: &Uri) -> Result<Vec<Destination>, ResolveError> {
        match self.dns.resolve(target).await {
            Err(unknown @ ResolveError::NotFound(_)) => {
                let found = self.system.resolve(target).await;
                found.map_err(|_| unknown)
            }
            decided => decided,
        }
    }
}

/// Reads the address of a name server: an IP address, with a port where that is not 53.
pub(crate) fn name_server(text: &str) -> Result<SocketAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(text).parse().ok();
    match address {
        Some(address) => Ok(SocketAddr::new(address, DNS_PORT)),
        None => text
            .parse()
            .map_err(|_| "expected an IP address and a port, as in 192.0.2.53:53".to_owned()),
    }
}

const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_with_or_without_its_port() {
        for (text, address) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ] {
            assert_eq!(name_server(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "ns.example.com",
            "192.0.2.53:",
            "192.0.2.53:65536",
            ":53",
        ] {
            assert!(name_server(text).is_err(), "{text}");
        }
    }
}
