//! The engine: an endpoint with a registrar, a relay and a presence agent in it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sipora_auth::{Authenticator, AuthenticatorConfig, Challenger};
use sipora_message::Scheme;
use sipora_transaction_core::{
    Endpoint, EndpointConfig, EndpointError, EndpointHandle, IdSource, UserHandle,
};
use sipora_transport::trace::{TraceMetrics, Tracer};
use sipora_transport::{Advertised, BindError, Flow, Network, TokioNetwork, Transport};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::answer::Answers;
use crate::clock::Clock;
use crate::config::UserSource;
use crate::domains::Domains;
use crate::gate::{Access, Asker, Gate};
use crate::metrics::{Counters, RegistrarMetrics};
use crate::pending::Jobs;
use crate::presence::{Agent, Changes, Command, PresenceCounters, PresenceMetrics};
use crate::registrar::{Registrar, Shared};
use crate::relay::{self, Relay, RelayCounters, RelayMetrics};
use crate::{
    AddressOfRecord, Answer, Binding, CallCenterConfig, Cursor, Error, MemoryStore, Page, Result,
    UserStore, Users,
};

/// A SIP server that answers REGISTER by itself, carries MESSAGE and OPTIONS to the users who are registered, and tells
/// those who watch them of their presence.
///
/// It owns its sockets and everything that it knows; two engines in one process share nothing. It runs until
/// [`shutdown`](Self::shutdown), or until the last `Arc` is dropped, which ends it at once.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), sipora_call_engine::Error> {
/// use sipora_call_engine::{CallCenterConfig, CallCenterEngine};
///
/// let config = CallCenterConfig::new()
///     .with_udp_listener("127.0.0.1:0")
///     .with_domain("example.com")
///     .with_user("alice", "wonderland");
/// let engine = CallCenterEngine::new(config).await?;
/// assert_ne!(engine.listeners()[0].address.port(), 0);
/// assert!(engine.bindings("sip:alice@example.com").await?.is_empty());
/// engine.shutdown().await;
/// # Ok(()) }
/// ```
pub struct CallCenterEngine {
    shared: Arc<Shared>,
    users: Option<Arc<Users>>,
    network: Arc<dyn Network>,
    handle: EndpointHandle,
    tracer: Option<Arc<Tracer>>,
    /// The presence agent, if there is one.
    agent: Option<UserHandle<Command>>,
    listeners: Vec<ListenerAddress>,
    running: Mutex<Option<Running>>,
    /// Closed once nothing runs any more.
    ended: watch::Receiver<()>,
}

/// What ends with the engine.
struct Running {
    endpoint: Endpoint,
    workers: Vec<AbortOnDrop>,
    /// Dropped after the rest; who waits for the end waits for that.
    until: watch::Sender<()>,
}

impl CallCenterEngine {
    /// Reads the users, binds the listeners and starts to answer.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for a setting that cannot be used, [`Error::UsersFile`] and [`Error::UsersLine`] for a users
    /// file, [`Error::Bind`] for an address that is taken. Nothing is left running then.
    pub async fn new(config: CallCenterConfig) -> Result<Arc<Self>> {
        // Files and names of hosts are read where it does not matter how long they take.
        let (mut config, users, listeners) = tokio::task::spawn_blocking(move || {
            let mut config = config;
            let users = config.take_users()?;
            let listeners = config.resolved_listeners()?;
            Ok::<_, Error>((config, users, listeners))
        })
        .await
        .map_err(|error| Error::Configuration {
            setting: "users",
            reason: error.to_string(),
        })??;

        let network = config
            .network
            .take()
            .unwrap_or_else(|| Arc::new(TokioNetwork::new()));
        let addresses: Vec<SocketAddr> = listeners.iter().map(|(_, address)| *address).collect();
        let mut ids = config.ids.take().unwrap_or_else(IdSource::unpredictable);
        let (access, users) = access(&config, users, &mut ids);
        let shared = Arc::new(Shared {
            domains: Domains::new(
                &config.domains,
                config.advertised.as_deref(),
                &addresses,
                Arc::clone(&network),
            )?,
            store: config
                .store
                .take()
                .unwrap_or_else(|| Arc::new(MemoryStore::new())),
            access,
            expiry: config.expiry()?,
            max_contacts: config.max_contacts()?,
            clock: Clock::starting(network.now()),
            counters: Counters::default(),
            relay_counters: RelayCounters::default(),
            presence_counters: PresenceCounters::default(),
            has_presence: config.presence.is_some(),
            changes: Changes::default(),
            answers: Answers::new(config.server_name.as_deref().unwrap_or(SERVER)),
        });

        let (relay_jobs, relay_worker) = Jobs::new();
        let limit = config.max_relayed();
        let endpoint = endpoint_config(&mut config)?;
        let t1 = endpoint.transactions.timers.t1;
        let mut builder = Endpoint::builder()
            .config(endpoint)
            .ids(ids)
            .network(Arc::clone(&network));
        for (transport, address) in &listeners {
            builder = builder.listen(*transport, *address);
        }
        if let Some(observer) = config.observer.take() {
            builder = builder.observer(observer);
        }
        if let Some(resolver) = config.resolver.take() {
            builder = builder.resolver(resolver);
        }
        // First, since it takes OPTIONS to users, and the registrar the rest. There is one: it counts what each sender holds.
        let relay = builder.add_user(Relay::new(Arc::clone(&shared), relay_jobs, limit, t1));
        let mut registrar_workers = Vec::new();
        let registrars = builder.add_users(|_| {
            let (jobs, worker) = Jobs::new();
            registrar_workers.push(worker);
            Registrar {
                shared: Arc::clone(&shared),
                jobs,
                gate: Gate::new(Arc::clone(&shared), Asker::Registrar),
                next_sweep: None,
                date: crate::answer::Date::default(),
            }
        });
        let mut workers = Vec::new();
        let mut agent = None;
        if let Some(settings) = config.presence.take() {
            let (jobs, worker) = Jobs::new();
            let policy = config.watcher_policy.take();
            let ids = builder.split_ids();
            let user = Agent::new(Arc::clone(&shared), jobs, &settings, policy, ids, t1)?;
            let user = builder.add_user(user);
            shared.changes.wake(user.clone());
            workers.push(AbortOnDrop(tokio::spawn(worker.run(user.clone()))));
            agent = Some(user);
        }
        let endpoint = builder.build().await.map_err(not_built)?;
        let listeners = endpoint
            .local_addresses()
            .into_iter()
            .map(|(transport, address)| ListenerAddress { transport, address })
            .collect();
        let (until, ended) = watch::channel(());
        for (worker, registrar) in registrar_workers.into_iter().zip(registrars) {
            workers.push(AbortOnDrop(tokio::spawn(worker.run(registrar))));
        }
        workers.push(AbortOnDrop(tokio::spawn(relay_worker.run(relay))));
        Ok(Arc::new(Self {
            shared,
            users,
            network,
            handle: endpoint.handle(),
            tracer: config.tracer.take(),
            agent,
            listeners,
            running: Mutex::new(Some(Running {
                endpoint,
                workers,
                until,
            })),
            ended,
        }))
    }

    /// Returns the addresses listened on, their ports filled in.
    pub fn listeners(&self) -> Vec<ListenerAddress> {
        self.listeners.clone()
    }

    /// Returns the list of users, which may be changed at any time; `None` without authentication and with a
    /// [`UserStore`] of your own.
    pub fn users(&self) -> Option<&Users> {
        self.users.as_deref()
    }

    /// Returns the bindings of an address-of-record, such as `sip:alice@example.com`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUri`] when the text is no address-of-record, [`Error::Store`] when the store failed.
    pub async fn bindings(&self, address: &str) -> Result<Vec<Binding>> {
        let address: AddressOfRecord = address.parse()?;
        Ok(self
            .shared
            .store
            .bindings(&address, self.now())
            .wait()
            .await?)
    }

    /// Says whether requests can be sent to a binding now.
    ///
    /// They cannot where the connection that it was made over has ended, and the device alone can open another: over TLS
    /// and WebSocket, behind a NAT, under a name of `.invalid`, and where it said so (`ob`, `reg-id`). The binding stays until
    /// it expires, and is passed over meanwhile; the device's next REGISTER makes it reachable again.
    pub fn is_reachable(&self, binding: &Binding) -> bool {
        let is_open = |flow: &Flow| self.handle.is_open(flow.id);
        [Scheme::Sip, Scheme::Sips]
            .into_iter()
            .any(|scheme| relay::way(binding, scheme, is_open).is_ok())
    }

    /// Counts the bindings that cannot be [reached](Self::is_reachable). It looks at every one, a page at a time: not for
    /// every second.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store failed.
    pub async fn unreachable_count(&self) -> Result<usize> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.bindings_page(after.as_ref(), PAGE).await?;
            let bindings = page.addresses.iter().flat_map(|(_, bindings)| bindings);
            count += bindings.filter(|one| !self.is_reachable(one)).count();
            after = match page.next {
                None => return Ok(count),
                next => next,
            };
            tokio::task::yield_now().await;
        }
    }

    /// Removes all bindings of an address-of-record and says how many there were.
    ///
    /// A device that still runs binds itself again with its next refresh.
    ///
    /// # Errors
    ///
    /// As [`bindings`](Self::bindings).
    pub async fn remove_bindings(&self, address: &str) -> Result<usize> {
        let address: AddressOfRecord = address.parse()?;
        let store = &self.shared.store;
        let removed = store.remove(&address, self.now()).wait().await?;
        self.shared.changes.tell(&address);
        Ok(removed)
    }

    /// Lets the [`WatcherPolicy`](crate::WatcherPolicy) decide again about those who watch an address-of-record, such as
    /// `sip:alice@example.com`: who was pending and may watch now is told the present state, who may watch no longer is told
    /// so. Does nothing without presence.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUri`] when the text is no address-of-record.
    pub async fn reconsider_watchers(&self, address: &str) -> Result<()> {
        let address: AddressOfRecord = address.parse()?;
        if let Some(agent) = &self.agent {
            // Ended: nobody watches any more.
            _ = agent.send(Command::Reconsider(address)).await;
        }
        Ok(())
    }

    /// Returns the number of bindings; some of those that expired within the last minute may be among them.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store failed.
    pub async fn binding_count(&self) -> Result<usize> {
        Ok(self.shared.store.count().wait().await?)
    }

    /// Returns a page of all bindings, at most `limit` addresses, from the cursor of the page before.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store failed or did not make the cursor.
    pub async fn bindings_page(&self, after: Option<&Cursor>, limit: usize) -> Result<Page> {
        Ok(self
            .shared
            .store
            .page(after, limit, self.now())
            .wait()
            .await?)
    }

    /// Returns the moment that [`Binding::remaining`] wants.
    pub fn now(&self) -> crate::Timestamp {
        self.shared.clock.timestamp(self.network.now())
    }

    /// Returns what has been counted so far.
    pub fn metrics(&self) -> EngineMetrics {
        EngineMetrics {
            registrar: self.shared.counters.snapshot(),
            relay: self.shared.relay_counters.snapshot(),
            presence: self.shared.presence_counters.snapshot(),
            bindings: match self.shared.store.count() {
                Answer::Now(count) => count.ok(),
                Answer::Later(_) => None,
            },
            authentication: match &self.shared.access {
                Access::Open => None,
                Access::Digest { authenticator, .. } => Some(authenticator.metrics()),
            },
            proxy_authentication: match &self.shared.access {
                Access::Open => None,
                Access::Digest { proxy, .. } => Some(proxy.metrics()),
            },
            transactions: self.handle.metrics(),
            transport: self.handle.transport_metrics(),
            trace: self.tracer.as_deref().map(Tracer::metrics),
        }
    }

    /// Takes no new requests, finishes what is in flight within 5 s, and closes every socket.
    ///
    /// Watchers are told that their subscriptions end (`deactivated`), as far as there is time. Requests that come meanwhile
    /// are answered with 503. When it returns, nothing of the engine runs any more; calling
    /// it again does nothing, and waits for the end all the same. Bindings stay where they are: in memory they are gone
    /// with the last `Arc`.
    pub async fn shutdown(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Running {
            endpoint,
            workers,
            until,
        }) = running
        {
            self.end_subscriptions().await;
            endpoint.shutdown().await;
            for worker in workers {
                worker.stop().await;
            }
            drop(until);
        }
        // Nothing is ever sent: this waits until whoever came first has dropped its end.
        while self.ended.clone().changed().await.is_ok() {}
    }
}

impl CallCenterEngine {
    /// Tells watchers that their subscriptions end. What the endpoint has not sent when its shutdown begins is not sent.
    async fn end_subscriptions(&self) {
        let Some(agent) = &self.agent else { return };
        let (done, told) = oneshot::channel();
        let work = async {
            agent.send(Command::End(done)).await.ok()?;
            told.await.ok()
        };
        // A task that does not get to it in time has more to do than that.
        _ = tokio::time::timeout(FAREWELL, work).await;
    }
}

impl fmt::Debug for CallCenterEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CallCenterEngine")
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// An address that an engine listens on. Displayed as `udp 127.0.0.1:5060`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerAddress {
    /// The transport.
    pub transport: Transport,
    /// The address.
    pub address: SocketAddr,
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {}",
            self.transport.as_str().to_ascii_lowercase(),
            self.address
        )
    }
}

/// Holds what an engine has counted so far.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct EngineMetrics {
    /// Requests by what became of them, and bindings.
    pub registrar: RegistrarMetrics,
    /// Requests to users.
    pub relay: RelayMetrics,
    /// Subscriptions and publications; zeros where there is no presence.
    pub presence: PresenceMetrics,
    /// Bindings stored now; `None` where the store does not know at once.
    pub bindings: Option<usize>,
    /// Replay protection of registrations, subscriptions and publications; `None` without authentication.
    pub authentication: Option<sipora_auth::Metrics>,
    /// Replay protection of requests to users; `None` without authentication.
    pub proxy_authentication: Option<sipora_auth::Metrics>,
    /// Transactions and messages.
    pub transactions: sipora_transaction_core::Metrics,
    /// Sockets and connections; zeros once the engine has ended.
    pub transport: sipora_transport::Metrics,
    /// The trace; `None` where there is none that [`with_tracer`](CallCenterConfig::with_tracer) names.
    pub trace: Option<TraceMetrics>,
}

/// A task that does not outlive its owner.
struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    async fn stop(mut self) {
        self.0.abort();
        // Aborted, as was asked for, or ended before.
        _ = (&mut self.0).await;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn access(
    config: &CallCenterConfig,
    users: Option<UserSource>,
    ids: &mut IdSource,
) -> (Access, Option<Arc<Users>>) {
    let (store, list): (Arc<dyn UserStore>, _) = match users {
        None => return (Access::Open, None),
        Some(UserSource::List(users)) => (Arc::clone(&users) as Arc<dyn UserStore>, Some(users)),
        Some(UserSource::Store(store)) => (store, None),
    };
    // Each request names its realm, the domain of its address; this one is never used.
    let mut settings = AuthenticatorConfig::new("sip");
    if let Some(algorithms) = &config.algorithms {
        settings = settings.algorithms(algorithms.iter().copied());
    }
    if let Some(lifetime) = config.nonce_lifetime {
        settings = settings.nonce_lifetime(lifetime);
    }
    let key = config.nonce_key.unwrap_or_else(|| {
        let mut key = [0; 32];
        ids.fill(&mut key);
        key
    });
    let for_proxy = settings.clone().challenger(Challenger::Proxy);
    let access = Access::Digest {
        authenticator: Box::new(Authenticator::new(key, settings)),
        proxy: Box::new(Authenticator::new(key, for_proxy)),
        users: store,
    };
    (access, list)
}

fn endpoint_config(config: &mut CallCenterConfig) -> Result<EndpointConfig> {
    let mut endpoint = EndpointConfig {
        shards: config.shards()?,
        ..EndpointConfig::default()
    };
    if let Some(timers) = config.timers.take() {
        endpoint.transactions.timers = timers;
    }
    if let Some(transport) = config.transport.take() {
        endpoint.transport = transport;
    }
    if let Some(tls) = config.tls.take() {
        endpoint.transport.tls = Some(tls);
    }
    if let Some(host) = &config.advertised {
        endpoint.transport.advertised = Some(Advertised {
            host: host.as_str().into(),
            port: None,
        });
    }
    Ok(endpoint)
}

fn not_built(error: EndpointError) -> Error {
    match error {
        EndpointError::Bind(BindError {
            transport,
            address,
            source,
        }) => Error::Bind {
            listener: ListenerAddress { transport, address }.to_string(),
            source,
        },
        other => Error::Configuration {
            setting: "listener",
            reason: other.to_string(),
        },
    }
}

/// Addresses that are looked at in one go.
const PAGE: usize = 1_000;
/// For the farewell to watchers, before the shutdown.
const FAREWELL: Duration = Duration::from_secs(1);
/// Who answers, for whoever reads a trace.
const SERVER: &str = concat!("Sipora/", env!("CARGO_PKG_VERSION"));
