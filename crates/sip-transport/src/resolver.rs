//! From a URI to destinations.

use crate::Destination;
use async_trait::async_trait;
use sipora_message::Uri;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

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
    /// The URI is not a `sip` or `sips` URI.
    #[error("`{0}` is no SIP URI and names no host")]
    Scheme(String),
}

/// Resolves names by the operating system.
#[derive(Debug, Clone, Default)]
pub struct SystemResolver {
    _private: (),
}

impl SystemResolver {
    /// Makes the resolver.
    pub fn new() -> SystemResolver {
        SystemResolver::default()
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, _target: &Uri) -> Result<Vec<Destination>, ResolveError> {
        unimplemented!()
    }
}

/// Resolves names from a list given to it.
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
        self.hosts.entry(host.to_ascii_lowercase()).or_default().push(address);
        self
    }
}

#[async_trait]
impl Resolver for StaticResolver {
    async fn resolve(&self, _target: &Uri) -> Result<Vec<Destination>, ResolveError> {
        unimplemented!()
    }
}
