//! Looking records up, with hickory and its cache.

use super::order::{Naptr, Srv};
use crate::ResolveError;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, ResolverBuilder, TokioResolver};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Looks records up. What is found, and that nothing is there, is remembered for as long as the records say.
#[derive(Clone)]
pub(super) struct Records {
    resolver: TokioResolver,
    hosts: Arc<Hosts>,
}

impl Records {
    pub(super) fn from_system() -> Result<Records, ResolveError> {
        let builder = TokioResolver::builder_tokio().map_err(|error| unusable(&error))?;
        Records::build(builder)
    }

    pub(super) fn at(servers: &[SocketAddr]) -> Result<Records, ResolveError> {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                way.port = server.port();
                way
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Records::build(TokioResolver::builder_with_config(
            config,
            TokioRuntimeProvider::default(),
        ))
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Records, ResolveError> {
        limit(builder.options_mut());
        let resolver = builder.build().map_err(|error| unusable(&error))?;
        let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
        Ok(Records { resolver, hosts })
    }

    #[cfg(test)]
    pub(super) fn with_hosts(mut self, file: &str) -> Records {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(file.as_bytes()).unwrap();
        self.hosts = Arc::new(hosts);
        self
    }

    /// Whether the hosts file says where a name is, or RFC 6761 §6.3 does.
    pub(super) fn is_local(&self, host: &str) -> bool {
        is_loopback(host) || !self.pinned(host).is_empty()
    }

    /// What the hosts file says.
    fn pinned(&self, host: &str) -> Vec<IpAddr> {
        let Ok(name) = Name::from_ascii(format!("{host}.")) else {
            return Vec::new();
        };
        let lines = [RecordType::A, RecordType::AAAA]
            .map(|kind| Query::query(name.clone(), kind))
            .map(|query| self.hosts.lookup_static_host(&query));
        let found = lines.iter().flatten().flat_map(Lookup::answers);
        found.filter_map(|record| record.data.ip_addr()).collect()
    }

    pub(super) async fn naptr(&self, domain: &str) -> Result<Vec<Naptr>, String> {
        let found = self.records(domain, RecordType::NAPTR).await?;
        let naptr = found.into_iter().filter_map(|record| match record {
            RData::NAPTR(naptr) => Some(Naptr {
                order: naptr.order,
                preference: naptr.preference,
                flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
                services: String::from_utf8_lossy(&naptr.services).into_owned(),
                replacement: text(&naptr.replacement),
            }),
            _ => None,
        });
        Ok(naptr.collect())
    }

    pub(super) async fn srv(&self, name: &str) -> Result<Vec<Srv>, String> {
        let found = self.records(name, RecordType::SRV).await?;
        let srv = found.into_iter().filter_map(|record| match record {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: text(&srv.target),
            }),
            _ => None,
        });
        Ok(srv.collect())
    }

    /// A and AAAA, and what the hosts file says.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let pinned = self.pinned(host);
        if !pinned.is_empty() {
            return Ok(pinned);
        }
        // With a dot it is complete; without one it may be a name of the local network.
        let found = match host.contains('.') || is_loopback(host) {
            true => self.resolver.lookup_ip(format!("{host}.")).await,
            false => self.resolver.lookup_ip(host).await,
        };
        match found {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) => nothing(&error),
        }
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, String> {
        match self.resolver.lookup(format!("{name}."), kind).await {
            Ok(found) => Ok(found
                .answers()
                .iter()
                .map(|record| record.data.clone())
                .collect()),
            Err(error) => nothing(&error),
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// That nothing is there is an answer; that nobody knows is none.
fn nothing<T>(error: &NetError) -> Result<Vec<T>, String> {
    if error.is_no_records_found() {
        return Ok(Vec::new());
    }
    Err(error.to_string())
}

fn limit(options: &mut ResolverOpts) {
    options.cache_size = CACHE;
    options.positive_max_ttl = Some(LONGEST);
    options.negative_max_ttl = Some(LONGEST_NEGATIVE);
    options.timeout = QUERY;
    // A second time, that is. Within each, lost datagrams are sent again.
    options.attempts = 1;
    options.num_concurrent_reqs = AT_ONCE;
    // We read it ourselves, once, and before any record is asked for.
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}

/// Without the dot at its end.
fn text(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

fn unusable(error: &NetError) -> ResolveError {
    ResolveError::Configuration(error.to_string())
}

/// Answers that are remembered. A domain takes about six: those of a thousand domains fit.
const CACHE: u64 = 8_192;
/// The longest that an answer is believed, whatever it says: a mistake in a zone is over within a day.
const LONGEST: Duration = Duration::from_secs(86_400);
/// The longest that it is believed that something is not there: a name that has just been entered is found soon.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(300);
/// Time for one query, of which there are two: who asks others has the answer by the second.
const QUERY: Duration = Duration::from_millis(1_500);
/// Name servers that are asked at once: as many as a resolv.conf has.
const AT_ONCE: usize = 3;
