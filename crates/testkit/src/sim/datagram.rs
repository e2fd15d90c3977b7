//! Datagrams.

use super::SimNetwork;
use super::world::{HostId, World};
use crate::Fate;
use bytes::Bytes;
use sipora_transport::{Datagram, DatagramReceiver, DatagramSender, DatagramSocket, Transport};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// What has been sent to a socket and not been received yet.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// By the time of arrival, then by order of sending.
    arriving: BTreeMap<(Instant, u64), Arriving>,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Arriving {
    Bytes {
        source: SocketAddr,
        to: IpAddr,
        bytes: Bytes,
    },
    Unreachable {
        remote: SocketAddr,
    },
}

impl Mailbox {
    fn put(&mut self, at: Instant, id: u64, arriving: Arriving) {
        if self.arriving.len() < MOST_WAITING {
            self.arriving.insert((at, id), arriving);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

pub(super) fn bind(
    network: &SimNetwork,
    host: HostId,
    local: SocketAddr,
    sockets: usize,
) -> io::Result<Vec<DatagramSocket>> {
    let mut world = network.world();
    let local = world.bindable(host, local, |world| &world.datagram)?;
    let ids: Vec<u64> = (0..sockets.max(1)).map(|_| world.next_id()).collect();
    for id in &ids {
        world.mailboxes.insert(*id, Mailbox::default());
    }
    world.datagram.insert((host, local), ids.clone());
    let socket = |id: &u64| {
        let end = Arc::new(End {
            network: network.clone(),
            host,
            local,
            id: *id,
        });
        DatagramSocket {
            sender: Arc::new(SimSender { end: end.clone() }),
            receiver: Box::new(SimReceiver { end, alarm: None }),
        }
    };
    Ok(ids.iter().map(socket).collect())
}

/// A bound socket; it is free again when both its halves are dropped.
#[derive(Debug)]
struct End {
    network: SimNetwork,
    host: HostId,
    local: SocketAddr,
    id: u64,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut world = self.network.world();
        world.mailboxes.remove(&self.id);
        let key = (self.host, self.local);
        let Some(ids) = world.datagram.get_mut(&key) else {
            return;
        };
        ids.retain(|id| *id != self.id);
        if ids.is_empty() {
            world.datagram.remove(&key);
        }
    }
}

#[derive(Debug)]
struct SimSender {
    end: Arc<End>,
}

impl DatagramSender for SimSender {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.end.local)
    }

    fn try_send_to(&self, bytes: &[u8], remote: SocketAddr) -> io::Result<()> {
        self.end.send(self.end.local.ip(), bytes, remote)
    }

    fn try_send_from(&self, local: IpAddr, bytes: &[u8], remote: SocketAddr) -> io::Result<()> {
        self.end.send(local, bytes, remote)
    }
}

impl End {
    /// Sends from an address of the host, or from one that the host chooses.
    fn send(&self, from: IpAddr, bytes: &[u8], remote: SocketAddr) -> io::Result<()> {
        let End {
            host, local, id, ..
        } = *self;
        if bytes.len() > LARGEST {
            return Err(io::Error::from_raw_os_error(EMSGSIZE));
        }
        if local.is_ipv4() != remote.is_ipv4() || remote.port() == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut world = self.network.world();
        let ip = if from.is_unspecified() {
            world.source_for(host, remote.ip())?
        } else if world.destination_host(host, from) == Some(host) {
            from
        } else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let source = SocketAddr::new(ip, local.port());
        let bytes = Bytes::copy_from_slice(bytes);
        let fate = send(&mut world, (host, id), source, remote, &bytes);
        world.record(Transport::Udp, source, remote, bytes, fate);
        Ok(())
    }
}

fn send(
    world: &mut World,
    (host, sender): (HostId, u64),
    source: SocketAddr,
    remote: SocketAddr,
    bytes: &Bytes,
) -> Fate {
    let conditions = world.conditions(source.ip(), remote.ip());
    if world.is_parted(source.ip(), remote.ip()) || world.chance(conditions.loss) {
        return Fate::Lost;
    }
    let Some(to) = world.destination_host(host, remote.ip()) else {
        return Fate::Lost;
    };
    let now = Instant::now();
    let delay = world.delay(&conditions.delay);
    let Some(socket) =
        World::find(&world.datagram, to, remote).map(|ids| ids[division(source, ids.len())])
    else {
        if conditions.reports_unreachable {
            // There and back again.
            put(
                world,
                sender,
                now + delay + delay,
                Arriving::Unreachable { remote },
            );
        }
        return Fate::Unreachable;
    };
    let mut arrival = now + delay;
    if world.chance(conditions.reordering) {
        // Held up for as long as the next few take.
        let most = u64::try_from(conditions.delay.end().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(3)
            .max(3);
        arrival += Duration::from_millis(world.random(1..=most));
    } else {
        let last = world
            .last_arrival
            .entry((source, remote))
            .or_insert(arrival);
        arrival = arrival.max(*last);
        *last = arrival;
    }
    put(
        world,
        socket,
        arrival,
        Arriving::Bytes {
            source,
            to: remote.ip(),
            bytes: bytes.clone(),
        },
    );
    let first = arrival - now;
    if !world.chance(conditions.duplication) {
        return Fate::Delivered(first);
    }
    let second = first + world.delay(&conditions.delay);
    put(
        world,
        socket,
        now + second,
        Arriving::Bytes {
            source,
            to: remote.ip(),
            bytes: bytes.clone(),
        },
    );
    Fate::Duplicated(first, second)
}

fn put(world: &mut World, socket: u64, at: Instant, arriving: Arriving) {
    let id = world.next_id();
    if let Some(mailbox) = world.mailboxes.get_mut(&socket) {
        mailbox.put(at, id, arriving);
    }
}

/// Divides peers among the sockets of one address, as the kernel does: by a hash of theirs, always alike.
fn division(source: SocketAddr, sockets: usize) -> usize {
    let ip = match source.ip() {
        std::net::IpAddr::V4(ip) => u128::from(ip.to_bits()),
        std::net::IpAddr::V6(ip) => ip.to_bits(),
    };
    let mixed = (ip ^ u128::from(source.port()))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        >> 64;
    usize::try_from(mixed % sockets.max(1) as u128).unwrap_or(0)
}

#[derive(Debug)]
struct SimReceiver {
    end: Arc<End>,
    /// Rings when the next datagram arrives.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl DatagramReceiver for SimReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Datagram>> {
        loop {
            let next = {
                let mut world = self.end.network.world();
                let Some(mailbox) = world.mailboxes.get_mut(&self.end.id) else {
                    return Poll::Pending;
                };
                match mailbox.arriving.first_entry() {
                    Some(entry) if entry.key().0 <= Instant::now() => {
                        let is_wildcard = self.end.local.ip().is_unspecified();
                        return Poll::Ready(Ok(receive(entry.remove(), buffer, is_wildcard)));
                    }
                    entry => {
                        let next = entry.map(|entry| entry.key().0);
                        mailbox.waker = Some(cx.waker().clone());
                        next
                    }
                }
            };
            let Some(next) = next else {
                return Poll::Pending;
            };
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(sleep_until(next)));
            if alarm.deadline() != next {
                alarm.as_mut().reset(next);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.alarm = None;
        }
    }
}

fn receive(arriving: Arriving, buffer: &mut [u8], is_wildcard: bool) -> Datagram {
    match arriving {
        Arriving::Bytes { source, to, bytes } => {
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            Datagram::Received {
                length,
                source,
                local: is_wildcard.then_some(to),
            }
        }
        Arriving::Unreachable { remote } => Datagram::Unreachable {
            remote,
            kind: io::ErrorKind::ConnectionRefused,
        },
    }
}

/// The largest payload over IPv4.
const LARGEST: usize = 65_507;

/// What Linux says to a larger one.
const EMSGSIZE: i32 = 90;

/// Datagrams that wait at a socket; a kernel's buffer is full at about as many.
const MOST_WAITING: usize = 2_048;
