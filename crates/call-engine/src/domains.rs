//! Which domains are served here, and which hosts are this server's own.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sipora_message::{Host, Request, Uri, UriRef};
use sipora_transport::Network;

use crate::{AddressOfRecord, Error, Result};

/// Tells the domains that this server serves from all others.
///
/// Hosts compare without case, addresses as addresses, and the port never counts.
pub(crate) struct Domains {
    /// Domains given by name; empty where the own hosts are served.
    served: Hosts,
    /// Addresses listened on, the advertised host, and `localhost` where that is one of them.
    own: Hosts,
    /// A listener is bound to every address of the machine.
    wildcard: Option<LocalAddresses>,
}

impl Domains {
    pub(crate) fn new(
        domains: &[String],
        advertised: Option<&str>,
        listeners: &[SocketAddr],
        network: Arc<dyn Network>,
    ) -> Result<Self> {
        let mut served = Hosts::default();
        for domain in domains {
            served.insert(domain, "domain")?;
        }
        let mut own = Hosts::default();
        if let Some(host) = advertised {
            own.insert(host, "advertised host")?;
        }
        let mut wildcard = false;
        for listener in listeners {
            wildcard |= listener.ip().is_unspecified();
            if listener.ip().is_loopback() || listener.ip().is_unspecified() {
                own.names.insert("localhost".into());
            }
            own.addresses.insert(listener.ip());
        }
        Ok(Self {
            served,
            own,
            wildcard: wildcard.then(|| LocalAddresses::new(network)),
        })
    }

    /// Says whether addresses-of-record of this domain are kept here, and under which name.
    pub(crate) fn served(&self, host: Host<'_>, now: Instant) -> bool {
        if self.served.is_empty() {
            return self.is_own(host, now);
        }
        self.served.contains(host)
    }

    /// Says whether a host is this server itself.
    pub(crate) fn is_own(&self, host: Host<'_>, now: Instant) -> bool {
        if self.own.contains(host) {
            return true;
        }
        match (&self.wildcard, host.ip()) {
            (Some(local), Some(address)) => local.contains(address, now),
            _ => false,
        }
    }

    /// Gives the address in From, if it is one of a served domain.
    pub(crate) fn sender(&self, request: &Request, now: Instant) -> Option<AddressOfRecord> {
        let from = request.headers().from().ok()?;
        let served = self.served(from.uri().host(), now);
        let sender = AddressOfRecord::from_uri(from.uri())?;
        (from.uri().is_sip() && served).then_some(sender)
    }

    /// Says whether a URI leads here: to a served domain or to this server.
    pub(crate) fn leads_here(&self, uri: &UriRef<'_>, now: Instant) -> bool {
        let host = uri.host();
        uri.is_sip() && (self.served(host, now) || self.is_own(host, now))
    }
}

/// A set of hosts: names in lower case, and addresses. Mostly of one or two, for which a tree is the cheapest set.
#[derive(Default)]
struct Hosts {
    names: BTreeSet<Box<str>>,
    addresses: BTreeSet<IpAddr>,
}

impl Hosts {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.addresses.is_empty()
    }

    /// Takes in a host as a program or person writes it: a name, an address, an IPv6 address with or without brackets.
    fn insert(&mut self, host: &str, setting: &'static str) -> Result<()> {
        let uri = Uri::sip(None, host, None)
            .ok()
            .filter(|uri| uri.port().is_none() && uri.params().next().is_none());
        let Some(uri) = uri else {
            return Err(Error::Configuration {
                setting,
                reason: format!("{host:?} is neither a host name nor an address"),
            });
        };
        match uri.host() {
            Host::Name(name) => self.names.insert(name.to_ascii_lowercase().into()),
            Host::V4(address) => self.addresses.insert(address.into()),
            Host::V6(address) => self.addresses.insert(address.into()),
        };
        Ok(())
    }

    fn contains(&self, host: Host<'_>) -> bool {
        match host {
            Host::Name(name) if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                self.names.contains(name.to_ascii_lowercase().as_str())
            }
            Host::Name(name) => self.names.contains(name),
            Host::V4(address) => self.addresses.contains(&IpAddr::V4(address)),
            Host::V6(address) => self.addresses.contains(&IpAddr::V6(address)),
        }
    }
}

/// Answers whether an address is one of the machine's, by the way that a packet to it would take.
///
/// A machine's addresses come and go, so an answer is kept for half a minute only; and a peer that asks for one address
/// after the other is not to fill the memory, so it begins anew when it is full.
struct LocalAddresses {
    network: Arc<dyn Network>,
    known: Mutex<HashMap<IpAddr, (bool, Instant)>>,
}

impl LocalAddresses {
    fn new(network: Arc<dyn Network>) -> Self {
        Self {
            network,
            known: Mutex::default(),
        }
    }

    fn contains(&self, address: IpAddr, now: Instant) -> bool {
        if address.is_loopback() {
            return true;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((local, at)) = known.get(&address)
            && now.saturating_duration_since(*at) < KEPT
        {
            return *local;
        }
        let port = 5060;
        let local = self
            .network
            .local_ip_for(SocketAddr::new(address, port))
            .is_ok_and(|from| from == address);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(address, (local, now));
        local
    }
}

const KEPT: Duration = Duration::from_secs(30);
const MAX_KNOWN: usize = 1024;
