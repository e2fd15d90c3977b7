//! From a URI to destinations.
//!
//! Here is the part of RFC 3263 that needs no NAPTR or SRV record: numeric hosts, explicit ports, the transport parameter,
//! and for all else the addresses of the host with the transport's default port (§4.2). The rest is in `dns`.

use crate::failures::{Failures, NOBODY_KNOWS};
use crate::{Destination, Transport};
use async_trait::async_trait;
use sipora_message::{Host, Scheme, Uri};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Finds the destinations of a URI, best first (RFC 3263).
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// Returns at least one destination, or why there is none.
    async fn resolve(&self, target: &Uri) -> Result<Vec<Destination>, ResolveError>;
}

/// Says why a URI leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The URI is neither `sip` nor `sips` and names no host.
    #[error("`{0}` is no SIP URI and names no host")]
    Scheme(String),
    /// The `transport` parameter names none that exists, or one that a `sips` URI forbids.
    #[error("transport `{transport}` is not possible for `{uri}`")]
    Transport {
        /// The parameter's value.
        transport: String,
        /// The URI.
        uri: String,
    },
    /// The name has no address.
    #[error("`{0}` has no address")]
    NotFound(String),
    /// The domain says that it does not offer the service: its SRV records have the root as their only target (RFC 2782). Nobody
    /// looks for it elsewhere.
    #[error("`{0}` says that it does not offer SIP")]
    NotOffered(String),
    /// The lookup itself failed.
    #[error("cannot look up `{host}`: {message}")]
    Lookup {
        /// The name.
        host: String,
        /// The system's words.
        message: String,
    },
    /// The name servers of the system cannot be told, or not used.
    #[error("no name servers: {0}")]
    Configuration(String),
    /// The lookup took too long.
    #[error("looking up `{0}` took too long")]
    Timeout(String),
}

/// Resolves names by the operating system: its hosts file, its DNS servers, its cache.
///
/// A name whose lookup fails or takes too long is not looked up again for 5 s. Clones share what they remember.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    timeout: Duration,
    failures: Failures,
}

impl SystemResolver {
    /// Makes a resolver that gives a lookup 10 seconds: two tries of the usual 5 at the system's servers.
    pub fn new() -> SystemResolver {
        SystemResolver {
            timeout: Duration::from_secs(10),
            failures: Failures::default(),
        }
    }

    /// Gives a lookup another time.
    pub fn with_timeout(self, timeout: Duration) -> SystemResolver {
        SystemResolver { timeout, ..self }
    }
}

impl Default for SystemResolver {
    fn default() -> SystemResolver {
        SystemResolver::new()
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, target: &Uri) -> Result<Vec<Destination>, ResolveError> {
        let plan = Plan::of(target)?;
        let Wanted::Name(name) = &plan.host else {
            return Ok(plan.destinations(&[]));
        };
        if let Some(error) = self.failures.recent(Instant::now(), name) {
            return Err(error);
        }
        let lookup = tokio::net::lookup_host((name.as_str(), plan.port));
        let found = match timeout(self.timeout, lookup).await {
            Ok(Ok(found)) => found,
            failed => {
                let host = name.clone();
                let error = match failed {
                    Ok(Err(error)) => ResolveError::Lookup {
                        host,
                        message: error.to_string(),
                    },
                    _ => ResolveError::Timeout(host),
                };
                self.failures
                    .remember(Instant::now(), name.clone(), error.clone(), NOBODY_KNOWS);
                return Err(error);
            }
        };
        let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        plan.found(&addresses)
    }
}

/// Resolves names from a list given to it, and numeric hosts. For tests, and for closed networks.
///
/// ```
/// # use sipora_transport::{Destination, Resolver, StaticResolver};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let resolver = StaticResolver::new().with("sip.example.com", "192.0.2.7".parse()?);
/// let found = resolver.resolve(&"sip:bob@SIP.example.com;transport=tcp".parse()?).await?;
/// assert_eq!(found[0].to_string(), "TCP 192.0.2.7:5060");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct StaticResolver {
    hosts: BTreeMap<String, Vec<IpAddr>>,
}

impl StaticResolver {
    /// Makes a resolver that knows no name.
    pub fn new() -> StaticResolver {
        StaticResolver::default()
    }

    /// Adds an address of a name, after those that it has.
    pub fn with(mut self, host: &str, address: IpAddr) -> StaticResolver {
        self.hosts
            .entry(host.to_ascii_lowercase())
            .or_default()
            .push(address);
        self
    }
}

#[async_trait]
impl Resolver for StaticResolver {
    async fn resolve(&self, target: &Uri) -> Result<Vec<Destination>, ResolveError> {
        let plan = Plan::of(target)?;
        match &plan.host {
            Wanted::Address(_) => Ok(plan.destinations(&[])),
            Wanted::Name(name) => plan.found(self.hosts.get(name).map_or(&[], Vec::as_slice)),
        }
    }
}

/// What RFC 3263 §4.1 and §4.2 make of a URI before any lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) transport: Transport,
    pub(crate) host: Wanted,
    port: u16,
    /// The host of the URI, that a certificate has to carry (RFC 5922 §4).
    server_name: Box<str>,
    /// The URI says the transport, the port, or that every hop has to be secure.
    #[cfg_attr(not(feature = "dns"), allow(dead_code))]
    pub(crate) names_transport: bool,
    #[cfg_attr(not(feature = "dns"), allow(dead_code))]
    pub(crate) names_port: bool,
    #[cfg_attr(not(feature = "dns"), allow(dead_code))]
    pub(crate) is_secure: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Address(IpAddr),
    /// In lower case.
    Name(String),
}

impl Plan {
    pub(crate) fn of(target: &Uri) -> Result<Plan, ResolveError> {
        if !target.is_sip() {
            return Err(ResolveError::Scheme(target.as_str().into()));
        }
        let transport = transport(target)?;
        // RFC 3263 §4: TARGET is the value of `maddr` if there is one, else the host.
        let maddr = target.maddr().filter(|maddr| !maddr.is_empty());
        let host = match maddr {
            Some(maddr) => named(maddr),
            None => match target.host() {
                Host::V4(ip) => Wanted::Address(ip.into()),
                Host::V6(ip) => Wanted::Address(ip.into()),
                Host::Name(name) => Wanted::Name(name.to_ascii_lowercase()),
            },
        };
        // RFC 2606 §2: such a name never has an address. Clients of WebSocket have them (RFC 7118 §8): only their connection
        // leads to them, and nobody is asked.
        if let Wanted::Name(name) = &host
            && (name == "invalid" || name.ends_with(".invalid"))
        {
            return Err(ResolveError::NotFound(name.clone()));
        }
        Ok(Plan {
            transport,
            host,
            port: target.port().unwrap_or(transport.default_port()),
            server_name: target.host_str().into(),
            names_transport: target.transport().is_some(),
            names_port: target.port().is_some(),
            is_secure: target.scheme() == Scheme::Sips,
        })
    }

    pub(crate) fn found(&self, addresses: &[IpAddr]) -> Result<Vec<Destination>, ResolveError> {
        let destinations = self.destinations(addresses);
        match (&self.host, destinations.is_empty()) {
            (Wanted::Name(name), true) => Err(ResolveError::NotFound(name.clone())),
            _ => Ok(destinations),
        }
    }

    pub(crate) fn destinations(&self, addresses: &[IpAddr]) -> Vec<Destination> {
        let numeric = match self.host {
            Wanted::Address(ip) => Some(ip),
            Wanted::Name(_) => None,
        };
        let all = numeric.iter().chain(addresses);
        self.all(all.map(|ip| (self.transport, SocketAddr::new(*ip, self.port))))
    }

    /// Makes destinations of addresses, each once, and no more than are of use.
    pub(crate) fn all(
        &self,
        addresses: impl IntoIterator<Item = (Transport, SocketAddr)>,
    ) -> Vec<Destination> {
        let mut destinations: Vec<Destination> = Vec::new();
        for (transport, address) in addresses {
            let has_name = transport.is_secure() || transport == Transport::Ws;
            let destination = Destination {
                transport,
                address,
                server_name: has_name.then(|| self.server_name.clone()),
            };
            if destinations.len() < MOST_DESTINATIONS && !destinations.contains(&destination) {
                destinations.push(destination);
            }
        }
        destinations
    }
}

/// RFC 3263 §4.1: the `transport` parameter decides; without one it is UDP, and TLS for `sips`. RFC 3261 §26.2.2: `sips`
/// means TLS whatever the parameter names beneath it.
fn transport(target: &Uri) -> Result<Transport, ResolveError> {
    let secure = target.scheme() == Scheme::Sips;
    let Some(parameter) = target.transport() else {
        return Ok(if secure {
            Transport::Tls
        } else {
            Transport::Udp
        });
    };
    match (parameter.parse(), secure) {
        (Ok(Transport::Tcp), true) => Ok(Transport::Tls),
        (Ok(Transport::Ws), true) => Ok(Transport::Wss),
        (Ok(transport), true) if transport.is_secure() => Ok(transport),
        (Ok(transport), false) => Ok(transport),
        _ => Err(ResolveError::Transport {
            transport: parameter.into(),
            uri: target.as_str().into(),
        }),
    }
}

fn named(host: &str) -> Wanted {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match bare.parse() {
        Ok(ip) => Wanted::Address(ip),
        Err(_) => Wanted::Name(host.to_ascii_lowercase()),
    }
}

/// Addresses that are tried for one name. More than eight that all fail take longer than any request lives.
pub(crate) const MOST_DESTINATIONS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(uri: &str) -> Result<(Transport, Wanted, u16), ResolveError> {
        let plan = Plan::of(&Uri::parse(uri).unwrap())?;
        Ok((plan.transport, plan.host, plan.port))
    }

    fn address(text: &str) -> Wanted {
        Wanted::Address(text.parse().unwrap())
    }

    fn name(text: &str) -> Wanted {
        Wanted::Name(text.into())
    }

    #[test]
    fn a_numeric_host_is_udp_at_the_default_port() {
        assert_eq!(
            plan("sip:bob@192.0.2.1"),
            Ok((Transport::Udp, address("192.0.2.1"), 5060))
        );
        assert_eq!(
            plan("sip:[2001:db8::1]:5070"),
            Ok((Transport::Udp, address("2001:db8::1"), 5070))
        );
    }

    #[test]
    fn the_transport_parameter_decides() {
        assert_eq!(
            plan("sip:bob@Example.com;transport=TCP"),
            Ok((Transport::Tcp, name("example.com"), 5060))
        );
        assert_eq!(
            plan("sip:bob@example.com;transport=tls"),
            Ok((Transport::Tls, name("example.com"), 5061))
        );
        let error = plan("sip:bob@example.com;transport=sctp").unwrap_err();
        assert!(matches!(error, ResolveError::Transport { transport, .. } if transport == "sctp"));
    }

    #[test]
    fn sips_is_tls_on_every_way() {
        assert_eq!(
            plan("sips:bob@example.com"),
            Ok((Transport::Tls, name("example.com"), 5061))
        );
        assert_eq!(
            plan("sips:bob@example.com;transport=tcp"),
            Ok((Transport::Tls, name("example.com"), 5061))
        );
        assert_eq!(
            plan("sips:bob@example.com;transport=ws"),
            Ok((Transport::Wss, name("example.com"), 443))
        );
        assert!(plan("sips:bob@example.com;transport=udp").is_err());
    }

    #[test]
    fn maddr_replaces_the_host_but_not_the_name_on_the_certificate() {
        let plan = Plan::of(&Uri::parse("sips:bob@example.com;maddr=192.0.2.9").unwrap()).unwrap();
        assert_eq!(plan.host, address("192.0.2.9"));
        let found = plan.destinations(&[]);
        assert_eq!(found[0].server_name.as_deref(), Some("example.com"));
    }

    #[test]
    fn invalid_names_lead_nowhere_and_nobody_is_asked() {
        let error = plan("sip:q1w2e3@df7jal23ls0d.Invalid;transport=ws").unwrap_err();
        assert_eq!(error, ResolveError::NotFound("df7jal23ls0d.invalid".into()));
    }

    #[test]
    fn a_telephone_number_names_no_host() {
        assert!(matches!(
            plan("tel:+15551234567"),
            Err(ResolveError::Scheme(_))
        ));
    }

    #[test]
    fn the_same_address_twice_is_one_destination() {
        let plan = Plan::of(&Uri::parse("sip:example.com").unwrap()).unwrap();
        let twice = [
            "192.0.2.1".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
            "192.0.2.2".parse().unwrap(),
        ];
        assert_eq!(plan.found(&twice).unwrap().len(), 2);
        assert_eq!(
            plan.found(&[]),
            Err(ResolveError::NotFound("example.com".into()))
        );
    }
}
