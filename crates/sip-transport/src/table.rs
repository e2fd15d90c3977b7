//! The table that every flow resolves in. No guard of its maps leaves this module.

use crate::connection::Connection;
use crate::{CloseReason, DatagramSender, Destination, Flow, FlowId, OpenError, Transport};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::oneshot;

/// What a flow's id resolves to.
#[derive(Debug, Clone)]
pub(crate) enum Resolved {
    Socket(Arc<Socket>),
    Connection(Arc<Connection>),
}

/// A bound UDP socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) id: FlowId,
    pub(crate) local: SocketAddr,
    pub(crate) sender: Arc<dyn DatagramSender>,
}

impl Socket {
    /// Sends a datagram from `local`: RFC 3581 §4 has a response leave from the address and port at which its request came in,
    /// which NATs and clients expect of everything else too.
    pub(crate) fn try_send(
        &self,
        local: SocketAddr,
        bytes: &[u8],
        remote: SocketAddr,
    ) -> io::Result<()> {
        if local.ip() == self.local.ip() {
            return self.sender.try_send_to(bytes, remote);
        }
        self.sender.try_send_from(local.ip(), bytes, remote)
    }
}

/// What is told to those who wait for a connection.
type Opened = Result<FlowId, OpenError>;

/// What a connection is found by when another request goes the same way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Route {
    transport: Transport,
    address: SocketAddr,
    /// Whom the peer has proved to be, in lower case: what goes to one domain is not sent to whoever answers at the same
    /// address for another. None for what is not secure.
    name: Option<Box<str>>,
}

impl Route {
    pub(crate) fn to(destination: &Destination) -> Route {
        let name = destination.server_name.as_deref();
        let transport = destination.transport;
        let name = name.filter(|_| transport.is_secure() || transport == Transport::Ws);
        Route {
            transport: destination.transport,
            address: destination.address,
            name: name.map(|name| name.to_ascii_lowercase().into()),
        }
    }

    /// The way back over a connection that we accepted. None for what is secure: a client has proved nothing by connecting
    /// from an address, so that it gets what belongs to its connection and nothing else, unless its certificate says more
    /// ([`Table::add_alias`]).
    pub(crate) fn back(flow: &Flow) -> Option<Route> {
        (!flow.transport.is_secure()).then_some(Route {
            transport: flow.transport,
            address: flow.remote,
            name: None,
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    last: AtomicU64,
    flows: DashMap<FlowId, Resolved>,
    routes: DashMap<Route, FlowId>,
    /// Bounded by the number of sockets that the program binds, in the order of binding.
    sockets: RwLock<Vec<Arc<Socket>>>,
    /// Bounded by the number of listeners.
    listeners: RwLock<Vec<(Transport, SocketAddr)>>,
    /// Connections being opened, and who waits. Bounded by the number of connections.
    opening: Mutex<BTreeMap<Route, Vec<oneshot::Sender<Opened>>>>,
    open: AtomicUsize,
    sources: DashMap<IpAddr, usize>,
}

/// What [`Table::join_opening`] found.
pub(crate) enum Joined {
    /// The connection exists.
    Exists(Arc<Connection>),
    /// Somebody is opening it already.
    Waiting(oneshot::Receiver<Opened>),
    /// The caller has to open it, and to tell everyone by [`Table::finish_opening`].
    First(oneshot::Receiver<Opened>),
}

impl Table {
    /// Numbers the next flow.
    pub(crate) fn next_id(&self) -> FlowId {
        FlowId::from_u64(self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }

    pub(crate) fn resolve(&self, id: FlowId) -> Option<Resolved> {
        self.flows
            .get(&id.socket())
            .map(|entry| entry.value().clone())
    }

    pub(crate) fn add_socket(&self, socket: Socket) {
        let socket = Arc::new(socket);
        self.flows
            .insert(socket.id, Resolved::Socket(socket.clone()));
        write(&self.sockets).push(socket);
    }

    pub(crate) fn remove_socket(&self, id: FlowId) {
        self.flows.remove(&id);
        write(&self.sockets).retain(|socket| socket.id != id);
    }

    /// Returns the socket to reach `remote` by: one bound to the address that packets to it leave from, else a wildcard one,
    /// else the first of its family.
    pub(crate) fn socket_towards(
        &self,
        remote: SocketAddr,
        source: impl FnOnce() -> IpAddr,
    ) -> Option<Arc<Socket>> {
        let sockets = read(&self.sockets);
        let family = || {
            sockets
                .iter()
                .filter(|socket| socket.local.is_ipv4() == remote.is_ipv4())
        };
        let first = family().next()?;
        if family().all(|socket| socket.local.ip() == first.local.ip()) {
            return Some(first.clone());
        }
        let source = source();
        family()
            .find(|socket| socket.local.ip() == source)
            .or_else(|| family().find(|socket| socket.local.ip().is_unspecified()))
            .or_else(|| family().next())
            .cloned()
    }

    pub(crate) fn add_listener(&self, transport: Transport, local: SocketAddr) {
        let mut listeners = write(&self.listeners);
        if !listeners.contains(&(transport, local)) {
            listeners.push((transport, local));
        }
    }

    pub(crate) fn remove_listener(&self, transport: Transport, local: SocketAddr) {
        let shared = read(&self.sockets)
            .iter()
            .any(|socket| transport == Transport::Udp && socket.local == local);
        if !shared {
            write(&self.listeners).retain(|listener| *listener != (transport, local));
        }
    }

    pub(crate) fn listeners(&self) -> Vec<(Transport, SocketAddr)> {
        read(&self.listeners).clone()
    }

    /// Tells whether any listener has the port.
    pub(crate) fn listens_on(&self, port: u16) -> bool {
        read(&self.listeners)
            .iter()
            .any(|(_, listener)| listener.port() == port)
    }

    /// Returns the listener that a peer on our address `local` would find: of the transport, at best of the same address.
    pub(crate) fn listener_for(
        &self,
        transport: Transport,
        local: SocketAddr,
    ) -> Option<SocketAddr> {
        let listeners = read(&self.listeners);
        let candidates = || {
            listeners
                .iter()
                .filter(|(of, address)| *of == transport && address.is_ipv4() == local.is_ipv4())
                .map(|(_, address)| *address)
        };
        candidates()
            .find(|address| address.ip() == local.ip())
            .or_else(|| candidates().find(|address| address.ip().is_unspecified()))
            .or_else(|| candidates().next())
    }

    pub(crate) fn add_connection(&self, connection: Arc<Connection>) {
        let flow = connection.flow;
        if let Some(route) = &connection.route {
            self.routes.insert(route.clone(), flow.id);
        }
        self.flows.insert(flow.id, Resolved::Connection(connection));
    }

    /// Enters a connection that we accepted under the address at which its peer says that it listens, for each domain that the
    /// peer has proved to be (RFC 5923 §8.2). A connection that leads there already stays the one that is used. Only the first
    /// address of a connection counts.
    pub(crate) fn add_alias(&self, connection: &Connection, address: SocketAddr) {
        let named = |domain: &str| Route {
            transport: connection.flow.transport,
            address,
            name: Some(domain.into()),
        };
        let domains = connection.peer_domains.iter().take(MOST_ALIASES);
        let routes: Box<[Route]> = domains.map(|domain| named(domain)).collect();
        if connection.aliases.set(routes).is_err() {
            return;
        }
        let routes = connection.aliases.get().into_iter().flatten();
        for route in routes {
            if self.connection_to(route).is_none() {
                self.routes.insert(route.clone(), connection.flow.id);
            }
        }
        if self.resolve(connection.flow.id).is_none() {
            // It has ended meanwhile.
            self.remove_route(connection);
        }
    }

    /// Makes a connection's id resolve no more.
    pub(crate) fn remove_connection(&self, connection: &Connection) {
        self.remove_route(connection);
        self.flows.remove(&connection.flow.id);
    }

    /// Makes a connection be used for nothing new, while its id still resolves.
    pub(crate) fn remove_route(&self, connection: &Connection) {
        let aliases = connection.aliases.get().into_iter().flatten();
        for route in connection.route.iter().chain(aliases) {
            self.routes
                .remove_if(route, |_, id| *id == connection.flow.id);
        }
    }

    pub(crate) fn connection_to(&self, route: &Route) -> Option<Arc<Connection>> {
        let id = self.routes.get(route).map(|entry| *entry.value())?;
        match self.resolve(id)? {
            Resolved::Connection(connection) => Some(connection),
            Resolved::Socket(_) => None,
        }
    }

    /// Asks every connection to end.
    pub(crate) fn close_all(&self, reason: &CloseReason) {
        let all: Vec<Resolved> = self
            .flows
            .iter()
            .map(|entry| entry.value().clone())
            .collect();
        for resolved in all {
            if let Resolved::Connection(connection) = resolved {
                connection.end(reason.clone());
            }
        }
    }

    pub(crate) fn join_opening(&self, route: Route) -> Joined {
        let mut opening = lock(&self.opening);
        // Again under the lock: who opened it enters the connection first and leaves `opening` after.
        if let Some(connection) = self.connection_to(&route) {
            return Joined::Exists(connection);
        }
        let (tell, told) = oneshot::channel();
        let Some(waiters) = opening.get_mut(&route) else {
            opening.insert(route, vec![tell]);
            return Joined::First(told);
        };
        // Those who have given up leave their place to those who come.
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(tell);
        Joined::Waiting(told)
    }

    /// Tells everyone who waits that nothing will come.
    pub(crate) fn abandon_openings(&self) {
        lock(&self.opening).clear();
    }

    pub(crate) fn finish_opening(&self, route: &Route, outcome: &Opened) {
        for waiter in lock(&self.opening).remove(route).unwrap_or_default() {
            // Nobody to tell: they gave up, and the connection stays for the next.
            let _ = waiter.send(outcome.clone());
        }
    }

    /// Counts a connection against the limits, until the permit is dropped.
    pub(crate) fn admit(
        self: &Arc<Table>,
        source: Option<IpAddr>,
        limits: Admission,
    ) -> Result<Permit, Refusal> {
        let mut permit = Permit {
            table: self.clone(),
            source: None,
        };
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits.total {
            return Err(Refusal::Total);
        }
        let Some(source) = source else {
            return Ok(permit);
        };
        let source = network(source);
        let mut count = self.sources.entry(source).or_insert(0);
        if *count >= limits.per_source {
            return Err(Refusal::PerSource);
        }
        *count += 1;
        permit.source = Some(source);
        Ok(permit)
    }

    pub(crate) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    pub(crate) total: usize,
    pub(crate) per_source: usize,
}

/// Why a connection is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Total,
    PerSource,
}

/// A place among the connections.
#[derive(Debug)]
pub(crate) struct Permit {
    table: Arc<Table>,
    source: Option<IpAddr>,
}

impl Permit {
    /// Tells whether the peer connected to us.
    pub(crate) fn is_accepted(&self) -> bool {
        self.source.is_some()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.table.open.fetch_sub(1, Ordering::Relaxed);
        let Some(source) = self.source else { return };
        if let Entry::Occupied(mut entry) = self.table.sources.entry(source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// What one peer has of IPv6 is a whole network of 64 bits.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Takes a lock. No code that holds one of ours can panic half-way through a change, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Domains of one certificate that requests go back to over its connection: more than a company has.
const MOST_ALIASES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(total: usize, per_source: usize) -> Admission {
        Admission { total, per_source }
    }

    fn ip(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    #[test]
    fn a_permit_counts_until_it_is_dropped() {
        let table = Arc::new(Table::default());
        let first = table.admit(ip(1), limits(2, 1)).unwrap();
        assert_eq!(
            table.admit(ip(1), limits(2, 1)).unwrap_err(),
            Refusal::PerSource
        );
        let second = table.admit(ip(2), limits(2, 1)).unwrap();
        assert_eq!(
            table.admit(ip(3), limits(2, 1)).unwrap_err(),
            Refusal::Total
        );
        assert_eq!(table.connections(), 2);
        drop((first, second));
        assert_eq!(table.connections(), 0);
        assert!(
            table.sources.is_empty(),
            "a source without connections is forgotten"
        );
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_source() {
        let table = Arc::new(Table::default());
        let from = |text: &str| table.admit(Some(text.parse().unwrap()), limits(10, 1));
        let first = from("2001:db8::1").unwrap();
        assert_eq!(
            from("2001:db8::ffff:ffff:ffff:ffff").unwrap_err(),
            Refusal::PerSource
        );
        let other = from("2001:db8:0:1::1").unwrap();
        drop((first, other));
        assert!(table.sources.is_empty());
    }

    #[test]
    fn those_who_wait_for_the_same_connection_are_told_together() {
        let table = Table::default();
        let route = Route::to(&Destination::tcp("192.0.2.1:5060".parse().unwrap()));
        let Joined::First(mut first) = table.join_opening(route.clone()) else {
            panic!("nobody was there before")
        };
        let Joined::Waiting(mut second) = table.join_opening(route.clone()) else {
            panic!("somebody is opening it")
        };
        table.finish_opening(&route, &Ok(FlowId::from_u64(7)));
        assert_eq!(first.try_recv().unwrap(), Ok(FlowId::from_u64(7)));
        assert_eq!(second.try_recv().unwrap(), Ok(FlowId::from_u64(7)));
        assert!(
            matches!(table.join_opening(route), Joined::First(_)),
            "the next opens anew"
        );
    }

    #[test]
    fn who_opens_is_not_replaced_when_those_who_waited_give_up() {
        let table = Table::default();
        let route = Route::to(&Destination::tcp("192.0.2.1:5060".parse().unwrap()));
        drop(table.join_opening(route.clone()));
        assert!(matches!(table.join_opening(route), Joined::Waiting(_)));
    }

    #[test]
    fn a_secure_connection_to_one_name_is_none_to_another() {
        let to = |transport, name: Option<&str>| {
            Route::to(&Destination {
                transport,
                address: "192.0.2.1:5061".parse().unwrap(),
                server_name: name.map(Into::into),
            })
        };
        let (tls, tcp) = (Transport::Tls, Transport::Tcp);
        assert_eq!(to(tls, Some("a.example")), to(tls, Some("A.example")));
        assert_ne!(to(tls, Some("a.example")), to(tls, Some("b.example")));
        assert_ne!(to(tls, Some("a.example")), to(tls, None));
        assert_eq!(to(tcp, Some("a.example")), to(tcp, Some("b.example")));
    }
}
