//! The state of the network.

use super::Conditions;
use super::datagram::Mailbox;
use super::stream::{Accepting, Connection};
use crate::audit::{Auditor, Sighting};
use crate::{Fate, Packet};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sipora_transport::{Now, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) type HostId = usize;

type Observer = Box<dyn Fn(&Packet) + Send + Sync>;

/// A bound address: that of a host's, a loopback or a wildcard.
pub(super) type Bound = (HostId, SocketAddr);

pub(super) struct World {
    seed: u64,
    random: StdRng,
    start: Instant,
    hosts: Vec<Vec<IpAddr>>,
    conditions: Conditions,
    ways: BTreeMap<(IpAddr, IpAddr), Conditions>,
    parted: BTreeSet<(IpAddr, IpAddr)>,
    /// Told when two addresses are joined again.
    pub(super) joined: Arc<Notify>,
    next_port: BTreeMap<HostId, u16>,
    /// The sockets at an address, among which its peers are divided.
    pub(super) datagram: BTreeMap<Bound, Vec<u64>>,
    pub(super) mailboxes: BTreeMap<u64, Mailbox>,
    /// When the last datagram of a way arrives, so that the next does not overtake it.
    pub(super) last_arrival: BTreeMap<(SocketAddr, SocketAddr), Instant>,
    pub(super) listeners: BTreeMap<Bound, Accepting>,
    pub(super) connections: BTreeMap<u64, Connection>,
    last_id: u64,
    packets: VecDeque<Packet>,
    observers: Vec<Observer>,
    pub(super) auditor: Arc<Auditor>,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World {
            seed,
            random: StdRng::seed_from_u64(seed),
            start: Instant::now(),
            hosts: Vec::new(),
            conditions: Conditions::perfect(),
            ways: BTreeMap::new(),
            parted: BTreeSet::new(),
            joined: Arc::new(Notify::new()),
            next_port: BTreeMap::new(),
            datagram: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            last_id: 0,
            packets: VecDeque::new(),
            observers: Vec::new(),
            auditor: Arc::default(),
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn now(&self) -> Now {
        let instant = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + EPOCH + instant.duration_since(self.start);
        Now {
            instant: instant.into_std(),
            wall,
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn add_host(&mut self, addresses: &[IpAddr]) -> HostId {
        assert!(!addresses.is_empty(), "a host has an address");
        for address in addresses {
            assert!(
                self.host_of(*address).is_none(),
                "another host has {address}"
            );
        }
        self.hosts.push(addresses.to_vec());
        self.hosts.len() - 1
    }

    pub(super) fn first_address(&self, host: HostId) -> IpAddr {
        self.hosts[host][0]
    }

    fn host_of(&self, address: IpAddr) -> Option<HostId> {
        self.hosts
            .iter()
            .position(|addresses| addresses.contains(&address))
    }

    /// Finds the host that packets from `from` to an address come to.
    pub(super) fn destination_host(&self, from: HostId, address: IpAddr) -> Option<HostId> {
        if address.is_loopback() {
            Some(from)
        } else {
            self.host_of(address)
        }
    }

    /// Chooses the address that packets to another leave from.
    pub(super) fn source_for(&self, host: HostId, remote: IpAddr) -> io::Result<IpAddr> {
        if remote.is_loopback() {
            return Ok(loopback(remote.is_ipv4()));
        }
        let own = self.hosts[host]
            .iter()
            .find(|address| address.is_ipv4() == remote.is_ipv4());
        own.copied()
            .ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
    }

    pub(super) fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    pub(super) fn set_way(&mut self, from: IpAddr, to: IpAddr, conditions: Conditions) {
        self.ways.insert((from, to), conditions);
    }

    pub(super) fn conditions(&self, from: IpAddr, to: IpAddr) -> Conditions {
        self.ways
            .get(&(from, to))
            .unwrap_or(&self.conditions)
            .clone()
    }

    pub(super) fn part(&mut self, one: IpAddr, two: IpAddr) {
        self.parted.insert(pair(one, two));
    }

    pub(super) fn join(&mut self, one: IpAddr, two: IpAddr) {
        self.parted.remove(&pair(one, two));
        self.joined.notify_waiters();
        self.connections.values_mut().for_each(Connection::wake);
    }

    pub(super) fn is_parted(&self, one: IpAddr, two: IpAddr) -> bool {
        self.parted.contains(&pair(one, two))
    }

    pub(super) fn reset(&mut self, one: IpAddr, two: IpAddr) -> usize {
        let between = |connection: &&mut Connection| {
            pair(connection.ends[0].ip(), connection.ends[1].ip()) == pair(one, two)
        };
        self.connections
            .values_mut()
            .filter(between)
            .map(Connection::reset)
            .count()
    }

    /// Checks that an address may be bound, and chooses the port if none is named.
    pub(super) fn bindable<T>(
        &mut self,
        host: HostId,
        local: SocketAddr,
        bound: impl Fn(&World) -> &BTreeMap<Bound, T>,
    ) -> io::Result<SocketAddr> {
        let ip = local.ip();
        let own = &self.hosts[host];
        let has_family = own.iter().any(|other| other.is_ipv4() == ip.is_ipv4());
        let is_there = match ip.is_unspecified() {
            true => has_family,
            false => ip.is_loopback() || own.contains(&ip),
        };
        if !is_there {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let is_taken = |world: &World, port: u16| {
            bound(world).keys().any(|(other, address)| {
                let same_ip =
                    address.ip() == ip || address.ip().is_unspecified() || ip.is_unspecified();
                *other == host
                    && address.port() == port
                    && address.is_ipv4() == ip.is_ipv4()
                    && same_ip
            })
        };
        if local.port() == 0 {
            loop {
                let port = self.ephemeral_port(host);
                if !is_taken(self, port) {
                    return Ok(SocketAddr::new(ip, port));
                }
            }
        }
        if is_taken(self, local.port()) {
            Err(io::ErrorKind::AddrInUse.into())
        } else {
            Ok(local)
        }
    }

    pub(super) fn ephemeral_port(&mut self, host: HostId) -> u16 {
        let next = self.next_port.entry(host).or_insert(FIRST_EPHEMERAL);
        let port = *next;
        *next = next.checked_add(1).unwrap_or(FIRST_EPHEMERAL);
        port
    }

    /// Finds what is bound to an address on a host: the address itself before a wildcard.
    pub(super) fn find<T>(
        bound: &BTreeMap<Bound, T>,
        host: HostId,
        address: SocketAddr,
    ) -> Option<&T> {
        let wildcard: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        bound
            .get(&(host, address))
            .or_else(|| bound.get(&(host, SocketAddr::new(wildcard, address.port()))))
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        // No draw for what never happens: a perfect network runs alike under every seed.
        probability > 0.0 && self.random.random_bool(probability.min(1.0))
    }

    pub(super) fn random(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.random.random_range(range)
    }

    pub(super) fn delay(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let micros = |duration: &Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let (least, most) = (micros(range.start()), micros(range.end()));
        if least >= most {
            *range.start()
        } else {
            Duration::from_micros(self.random(least..=most))
        }
    }

    pub(super) fn record(
        &mut self,
        transport: Transport,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: Bytes,
        fate: Fate,
    ) {
        let at = Instant::now().duration_since(self.start);
        let packet = Packet {
            at,
            transport,
            source,
            destination,
            bytes,
            fate,
        };
        self.auditor.see(Sighting::from(&packet));
        self.observers.iter().for_each(|observer| observer(&packet));
        if self.packets.len() >= MOST_PACKETS {
            self.packets.pop_front();
        }
        self.packets.push_back(packet);
    }

    pub(super) fn observe(&mut self, observer: Observer) {
        self.observers.push(observer);
    }

    pub(super) fn packets(&self) -> Vec<Packet> {
        self.packets.iter().cloned().collect()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

fn pair(one: IpAddr, two: IpAddr) -> (IpAddr, IpAddr) {
    if one <= two { (one, two) } else { (two, one) }
}

fn loopback(v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    }
}

/// The wall clock at the beginning of every network: 2026-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// The first of the ports that are chosen for programs (RFC 6335 §6).
const FIRST_EPHEMERAL: u16 = 49_152;

/// Packets that are remembered.
const MOST_PACKETS: usize = 10_000;
