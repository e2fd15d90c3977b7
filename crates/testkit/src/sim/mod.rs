//! A network in one process and in virtual time.
//!
//! All state is in one [`World`](world::World) behind one lock, all its maps are ordered, and every chance is drawn from one
//! seeded source in the order of events: on one thread and in virtual time the same seed gives the same run.

mod datagram;
mod stream;
mod world;

use crate::Packet;
use crate::audit::Auditor;
use async_trait::async_trait;
use sipora_transport::{DatagramSocket, Network, Now, Stream, StreamListener};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use world::{HostId, World};

/// Holds what a way through the network does to what goes over it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditions {
    /// The chance that a datagram is lost.
    pub loss: f64,
    /// The chance that a datagram arrives twice.
    pub duplication: f64,
    /// The chance that a datagram is overtaken by those sent after it.
    pub reordering: f64,
    /// The time that anything takes. Datagrams that are not reordered, and bytes of a connection, stay in order.
    pub delay: RangeInclusive<Duration>,
    /// The chance that bytes written to a connection arrive in pieces.
    pub fragmentation: f64,
    /// Whether a datagram to a port that nobody listens on is reported to its sender, as ICMP does.
    pub reports_unreachable: bool,
}

impl Conditions {
    /// Loses nothing, and takes a millisecond.
    pub fn perfect() -> Conditions {
        Conditions {
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            delay: Duration::from_millis(1)..=Duration::from_millis(1),
            fragmentation: 0.0,
            reports_unreachable: true,
        }
    }

    /// Is a bad mobile link: a tenth is lost, some comes twice or late, nothing takes less than 20 ms.
    pub fn rough() -> Conditions {
        Conditions {
            loss: 0.1,
            duplication: 0.05,
            reordering: 0.1,
            delay: Duration::from_millis(20)..=Duration::from_millis(120),
            fragmentation: 0.3,
            reports_unreachable: false,
        }
    }
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions::perfect()
    }
}

/// Is a simulated network. Clones are the same network.
#[derive(Debug, Clone)]
pub struct SimNetwork {
    world: Arc<Mutex<World>>,
}

impl SimNetwork {
    /// Makes a perfect network whose chances come from a seed. Has to be called inside a tokio runtime whose time is paused.
    pub fn new(seed: u64) -> SimNetwork {
        SimNetwork {
            world: Arc::new(Mutex::new(World::new(seed))),
        }
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.world().seed()
    }

    /// Adds a host with one address.
    pub fn host(&self, address: IpAddr) -> SimHost {
        self.host_with(&[address])
    }

    /// Adds a host with several addresses. Panics when another host has one of them.
    pub fn host_with(&self, addresses: &[IpAddr]) -> SimHost {
        let id = self.world().add_host(addresses);
        SimHost {
            network: self.clone(),
            id,
        }
    }

    /// Sets what every way does that has no conditions of its own.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.world().set_conditions(conditions);
    }

    /// Sets what the way from one address to another does, in that direction.
    pub fn set_way(&self, from: IpAddr, to: IpAddr, conditions: Conditions) {
        self.world().set_way(from, to, conditions);
    }

    /// Parts two addresses: datagrams between them are lost, connections stall.
    pub fn part(&self, one: IpAddr, two: IpAddr) {
        self.world().part(one, two);
    }

    /// Joins two addresses again: what connections had stalled goes on.
    pub fn join(&self, one: IpAddr, two: IpAddr) {
        self.world().join(one, two);
    }

    /// Resets every connection between two addresses, and returns how many there were.
    pub fn reset(&self, one: IpAddr, two: IpAddr) -> usize {
        self.world().reset(one, two)
    }

    /// Draws a number from the network's source, for choices that a scenario leaves to chance.
    pub fn random(&self, range: RangeInclusive<u64>) -> u64 {
        self.world().random(range)
    }

    /// Calls a function for every packet, as it is sent. It must not touch the network.
    pub fn observe(&self, observer: impl Fn(&Packet) + Send + Sync + 'static) {
        self.world().observe(Box::new(observer));
    }

    /// Returns what watches every message that is sent.
    pub fn auditor(&self) -> Arc<Auditor> {
        Arc::clone(&self.world().auditor)
    }

    /// Returns what was sent: the last 10,000 packets.
    pub fn packets(&self) -> Vec<Packet> {
        self.world().packets()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is a host of a [`SimNetwork`]: the [`Network`] that programs on it see.
///
/// It has its addresses and a loopback of its own.
#[derive(Debug, Clone)]
pub struct SimHost {
    network: SimNetwork,
    id: HostId,
}

impl SimHost {
    /// Returns the network that it is part of.
    pub fn network(&self) -> &SimNetwork {
        &self.network
    }

    /// Returns its first address.
    pub fn address(&self) -> IpAddr {
        self.network.world().first_address(self.id)
    }
}

#[async_trait]
impl Network for SimHost {
    fn now(&self) -> Now {
        self.network.world().now()
    }

    fn local_ip_for(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        self.network.world().source_for(self.id, remote.ip())
    }

    fn bind_datagram(&self, local: SocketAddr, sockets: usize) -> io::Result<Vec<DatagramSocket>> {
        datagram::bind(&self.network, self.id, local, sockets)
    }

    fn listen(&self, local: SocketAddr) -> io::Result<Box<dyn StreamListener>> {
        stream::listen(&self.network, self.id, local)
    }

    async fn connect(
        &self,
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<Box<dyn Stream>> {
        stream::connect(&self.network, self.id, local, remote).await
    }
}
