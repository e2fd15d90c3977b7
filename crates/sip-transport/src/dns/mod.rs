//! Location by NAPTR, SRV, A and AAAA records: the whole of RFC 3263 §4.

mod order;
mod records;

use crate::failures::{Failures, NOBODY_KNOWS};
use crate::resolver::{MOST_DESTINATIONS, Plan, Wanted};
use crate::{Destination, ResolveError, Resolver, Transport};
use async_trait::async_trait;
use futures_util::future::join_all;
use order::{Naptr, Service, Srv};
use records::Records;
use sipora_message::Uri;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Resolves names as RFC 3263 §4 has it: NAPTR records tell the transport, SRV records the servers, A and AAAA records their
/// addresses.
///
/// - A numeric host, or a port in the URI, asks for no NAPTR and no SRV record; nor does a `transport` parameter for a NAPTR.
/// - Servers are tried by priority, those of one priority in an order drawn by their weights, each with all its addresses.
/// - What the hosts file of the system names, and `localhost`, is where it says, and no name server is asked.
/// - A domain without any of these records is asked at its own address: UDP, or TLS for `sips`, at the default port.
/// - The certificate has to carry the host of the URI, whatever names DNS leads to (RFC 5922 §7.3).
/// - Answers are remembered for as long as they say, and that something is not there as well; 8,192 of them at most.
/// - Up to three name servers are asked at once, so that a dead one among them costs nothing. Where nobody answers, that is told
///   after 5 s at the latest, and for 5 s from then on at once.
///
/// Clones share what they remember. It has to be used inside a tokio runtime.
///
/// ```no_run
/// # use sipora_transport::{DnsResolver, Resolver};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let resolver = DnsResolver::from_system()?;
/// for destination in resolver.resolve(&"sip:bob@example.com".parse()?).await? {
///     println!("{destination}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct DnsResolver {
    records: Records,
    failures: Failures,
    transports: Vec<Transport>,
    timeout: Duration,
}

impl DnsResolver {
    /// Asks the name servers of the system.
    pub fn from_system() -> Result<DnsResolver, ResolveError> {
        Ok(DnsResolver::over(Records::from_system()?))
    }

    /// Asks these name servers.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<DnsResolver, ResolveError> {
        Ok(DnsResolver::over(Records::at(servers)?))
    }

    fn over(records: Records) -> DnsResolver {
        DnsResolver {
            records,
            failures: Failures::default(),
            transports: vec![Transport::Udp, Transport::Tcp],
            timeout: Duration::from_secs(5),
        }
    }

    /// Says which transports may be chosen where a `sip` URI names none, the best first for domains without NAPTR records.
    /// Default UDP and TCP; add TLS where it has been set up. A `sips` URI, or one that names its transport, needs no leave.
    pub fn with_transports(mut self, transports: &[Transport]) -> DnsResolver {
        self.transports = transports.to_vec();
        self
    }

    /// Gives all lookups for a URI together another time. Default 5 s: what one question may take with its second try, and 2 s
    /// for another.
    pub fn with_timeout(mut self, timeout: Duration) -> DnsResolver {
        self.timeout = timeout;
        self
    }

    async fn locate(&self, plan: &Plan, name: &str) -> Result<Vec<Destination>, ResolveError> {
        if plan.names_port || self.records.is_local(name) {
            return self.directly(plan, name).await;
        }
        let mut servers = Vec::new();
        for (transport, found) in self.servers(plan, name).await? {
            servers.extend(found.into_iter().map(|server| (transport, server)));
        }
        let Some(servers) = Some(servers).filter(|servers| !servers.is_empty()) else {
            return self.directly(plan, name).await;
        };
        if servers.iter().all(|(_, server)| server.target.is_empty()) {
            return Err(ResolveError::NotOffered(name.into()));
        }
        // Sorted by now, and drawn: what does not fit would be tried last.
        let mut reachable = Vec::new();
        let lookups = servers
            .iter()
            .filter(|(_, server)| !server.target.is_empty())
            .take(MOST_DESTINATIONS)
            .map(|(_, server)| self.addresses(&server.target));
        let mut failure = None;
        let found = join_all(lookups).await;
        let targets = servers
            .iter()
            .filter(|(_, server)| !server.target.is_empty());
        for ((transport, server), addresses) in targets.zip(found) {
            match addresses {
                Ok(addresses) => reachable.extend(
                    addresses
                        .into_iter()
                        .map(|ip| (*transport, SocketAddr::new(ip, server.port))),
                ),
                Err(error) => failure = Some(error),
            }
        }
        let destinations = plan.all(reachable);
        match (destinations.is_empty(), failure) {
            (false, _) => Ok(destinations),
            (true, Some(error)) => Err(error),
            (true, None) => Err(ResolveError::NotFound(name.into())),
        }
    }

    /// The servers of each transport that may be used, in order. Empty when no record tells any.
    async fn servers(
        &self,
        plan: &Plan,
        name: &str,
    ) -> Result<Vec<(Transport, Vec<Srv>)>, ResolveError> {
        let services = self.services(plan, name).await;
        let lookups = services
            .iter()
            .map(|service| self.records.srv(&service.name));
        let (mut found, mut failure) = (Vec::new(), None);
        for (service, records) in services.iter().zip(join_all(lookups).await) {
            match records {
                Ok(records) if records.is_empty() => {}
                // A root as the only target: the service is decidedly not there, and nobody looks for it elsewhere.
                Ok(records) if records.iter().all(|record| record.target.is_empty()) => {
                    found.push((service.transport, records));
                }
                Ok(records) => found.push((service.transport, order::servers(records, below))),
                Err(message) => failure = Some(message),
            }
        }
        match failure {
            // To go on would be to ask, for what may be a hiccup, a machine that is perhaps no SIP server.
            Some(message) if found.is_empty() => Err(ResolveError::Lookup {
                host: name.into(),
                message,
            }),
            _ => Ok(found),
        }
    }

    async fn services(&self, plan: &Plan, name: &str) -> Vec<Service> {
        if plan.names_transport {
            return Service::of(plan.transport, name).into_iter().collect();
        }
        let speaks = |transport: Transport| match plan.is_secure {
            // RFC 3263 §4.1: for `sips`, only what begins with SIPS.
            true => transport == Transport::Tls,
            false => self.transports.contains(&transport),
        };
        let services = order::services(self.naptr(name).await, speaks);
        if !services.is_empty() {
            return services;
        }
        let transports: &[Transport] = match plan.is_secure {
            true => &[Transport::Tls],
            false => &self.transports,
        };
        transports
            .iter()
            .filter_map(|transport| Service::of(*transport, name))
            .collect()
    }

    /// Name servers that do not know the type, and drop the question, are common at home: that nobody answers counts as that
    /// nothing is there, is not waited for as long as other answers, and is remembered.
    async fn naptr(&self, name: &str) -> Vec<Naptr> {
        let question = format!("NAPTR {name}");
        if self.failures.recent(Instant::now(), &question).is_some() {
            return Vec::new();
        }
        match timeout(NAPTR_TIME, self.records.naptr(name)).await {
            Ok(Ok(found)) => found,
            _ => {
                let error = ResolveError::Timeout(name.into());
                let now = Instant::now();
                self.failures.remember(now, question, error, WITHOUT_NAPTR);
                Vec::new()
            }
        }
    }

    /// RFC 3263 §4.2: without SRV records, or where they are not asked for, the addresses of the name itself.
    async fn directly(&self, plan: &Plan, name: &str) -> Result<Vec<Destination>, ResolveError> {
        plan.found(&self.addresses(name).await?)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.records.addresses(host).await;
        let found = found.map_err(|message| ResolveError::Lookup {
            host: host.into(),
            message,
        })?;
        Ok(by_family(found, has_way))
    }
}

#[async_trait]
impl Resolver for DnsResolver {
    async fn resolve(&self, target: &Uri) -> Result<Vec<Destination>, ResolveError> {
        let plan = Plan::of(target)?;
        let Wanted::Name(name) = &plan.host else {
            return Ok(plan.destinations(&[]));
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let question = question(&plan, name);
        if let Some(error) = self.failures.recent(Instant::now(), &question) {
            return Err(error);
        }
        let found = timeout(self.timeout, self.locate(&plan, name)).await;
        let found = found.unwrap_or_else(|_| Err(ResolveError::Timeout(name.into())));
        if let Err(error @ (ResolveError::Timeout(_) | ResolveError::Lookup { .. })) = &found {
            let now = Instant::now();
            self.failures
                .remember(now, question, error.clone(), NOBODY_KNOWS);
        }
        found
    }
}

/// What is asked for a plan, of all that may be asked for a name.
fn question(plan: &Plan, name: &str) -> String {
    match (plan.names_port, plan.names_transport, plan.is_secure) {
        (true, _, _) => format!("A {name}"),
        (false, true, _) => format!("{} {name}", plan.transport),
        (false, false, true) => format!("sips {name}"),
        (false, false, false) => format!("sip {name}"),
    }
}

/// RFC 6724 §6, its rules 1 and 6: IPv6 before IPv4, but behind it where this machine has no way there.
fn by_family(found: Vec<IpAddr>, has_way: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let (mut v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv6);
    if v4.is_empty() || v6.first().is_some_and(|ip| has_way(*ip)) {
        v6.extend(v4);
        return v6;
    }
    v4.into_iter().chain(v6).collect()
}

/// Connecting a UDP socket sends nothing; it makes the kernel look for a way.
fn has_way(ip: IpAddr) -> bool {
    let socket = match ip {
        IpAddr::V4(_) => UdpSocket::bind("0.0.0.0:0"),
        IpAddr::V6(_) => UdpSocket::bind("[::]:0"),
    };
    socket.is_ok_and(|socket| socket.connect((ip, 5060)).is_ok())
}

/// Draws a number. It spreads load, and nobody gains by guessing it.
fn below(limit: u64) -> u64 {
    RandomState::new().hash_one(()) % limit.max(1)
}

/// Time for the answer to the question that not every name server knows.
const NAPTR_TIME: Duration = Duration::from_secs(2);

/// How long it is believed that a name server does not know NAPTR records.
const WITHOUT_NAPTR: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_comes_first_where_there_is_a_way() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(by_family(vec![v4, v6], |_| true), [v6, v4]);
        assert_eq!(by_family(vec![v6, v4], |_| false), [v4, v6]);
        assert_eq!(by_family(vec![v6], |_| false), [v6]);
    }

    #[tokio::test]
    async fn what_the_hosts_file_names_is_asked_of_nobody() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let records = Records::at(&[silent.local_addr().unwrap()]).unwrap();
        let file = "192.0.2.7 Pbx.Example.com pbx # ours\n192.0.2.8 pbx.example.com\n";
        let resolver = DnsResolver::over(records.with_hosts(file));
        for (uri, found) in [
            (
                "sip:bob@PBX.example.com",
                &["UDP 192.0.2.7:5060", "UDP 192.0.2.8:5060"][..],
            ),
            ("sip:pbx:5070", &["UDP 192.0.2.7:5070"]),
            ("sip:pbx.;transport=tcp", &["TCP 192.0.2.7:5060"]),
        ] {
            let destinations = resolver.resolve(&uri.parse().unwrap()).await.unwrap();
            let destinations: Vec<String> = destinations.iter().map(|to| to.to_string()).collect();
            assert_eq!(destinations, found, "{uri}");
        }
        // RFC 6761 §6.3, where the file does not name it.
        for uri in ["sip:localhost", "sip:pbx.localhost"] {
            let destinations = resolver.resolve(&uri.parse().unwrap()).await.unwrap();
            assert!(
                destinations.iter().all(|to| to.address.ip().is_loopback()),
                "{uri}"
            );
        }
        silent.set_nonblocking(true).unwrap();
        assert!(
            silent.recv(&mut [0; 512]).is_err(),
            "a name server was asked"
        );
    }
}
