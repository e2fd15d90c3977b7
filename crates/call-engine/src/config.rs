//! The settings of an engine.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sipora_auth::Algorithm;
use sipora_transaction_core::{IdSource, MessageObserver, Timers};
use sipora_transport::trace::Tracer;
use sipora_transport::{Network, Resolver, Tls, Transport, TransportConfig};

use crate::policy::Expiry;
use crate::{Error, LocationStore, PresenceConfig, Result, UserStore, Users, WatcherPolicy};

/// Says what a [`CallCenterEngine`](crate::CallCenterEngine) listens on, which domains it serves, and who its users are.
///
/// Every setting takes whatever it is given; [`CallCenterEngine::new`](crate::CallCenterEngine::new) reports what cannot
/// be used. Either users or [`without_authentication`](Self::without_authentication) is needed; the rest is optional:
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | [`with_udp_listener`](Self::with_udp_listener), [`with_tcp_listener`](Self::with_tcp_listener) | both on `0.0.0.0:5060` | RFC 3261 §18.2.1: a server listens on both, on the default port |
/// | [`with_tls_listener`](Self::with_tls_listener), [`with_ws_listener`](Self::with_ws_listener), [`with_wss_listener`](Self::with_wss_listener) | none | they need a certificate, or are for browsers |
/// | [`with_advertised_host`](Self::with_advertised_host) | the local address that leads to the peer | |
/// | [`with_domain`](Self::with_domain) | the hosts listened on and the advertised host | a registrar for one machine needs no name |
/// | [`with_digest_algorithms`](Self::with_digest_algorithms) | MD5 alone | many phones know nothing else and give up on what they do not know |
/// | [`with_nonce_lifetime`](Self::with_nonce_lifetime) | 300 s | a phone that refreshes through a NAT is not challenged each time |
/// | [`with_nonce_key`](Self::with_nonce_key) | random | a client with a nonce of an earlier run is told that it is stale, and goes on |
/// | [`with_expires`](Self::with_expires) | 3600 s, from 60 s to 7200 s | an hour is what clients ask for; below a minute, refreshes are all that a server does |
/// | [`with_max_contacts`](Self::with_max_contacts) | 10 | a person has fewer devices; a proxy forks to each of them |
/// | [`with_max_relayed`](Self::with_max_relayed) | 10,000 | requests that wait for contacts; at 5 KB each that is 50 MB; a tenth for one sender |
/// | [`with_shards`](Self::with_shards) | 1 | what several cost more for each request pays only where one core is not enough |
/// | [`with_presence`](Self::with_presence) | on, with [`PresenceConfig`]'s defaults | who chats wants to see who is there |
/// | [`with_watcher_policy`](Self::with_watcher_policy) | users of a served domain may watch each other | they know each other; a public server has a policy of its own |
/// | [`with_location_store`](Self::with_location_store) | [`MemoryStore`](crate::MemoryStore) | |
#[must_use = "a configuration does nothing until it is given to CallCenterEngine::new"]
pub struct CallCenterConfig {
    pub(crate) listeners: Vec<(Transport, String)>,
    pub(crate) advertised: Option<String>,
    pub(crate) domains: Vec<String>,
    pub(crate) users: Vec<(String, String)>,
    pub(crate) users_files: Vec<PathBuf>,
    pub(crate) user_store: Option<Arc<dyn UserStore>>,
    pub(crate) without_authentication: bool,
    pub(crate) algorithms: Option<Vec<Algorithm>>,
    pub(crate) nonce_lifetime: Option<Duration>,
    pub(crate) nonce_key: Option<[u8; 32]>,
    pub(crate) expiry: Option<(u32, u32, u32)>,
    pub(crate) max_contacts: Option<usize>,
    pub(crate) max_relayed: Option<usize>,
    pub(crate) shards: Option<usize>,
    pub(crate) presence: Option<PresenceConfig>,
    pub(crate) watcher_policy: Option<Arc<dyn WatcherPolicy>>,
    pub(crate) store: Option<Arc<dyn LocationStore>>,
    pub(crate) server_name: Option<String>,
    pub(crate) timers: Option<Timers>,
    pub(crate) transport: Option<TransportConfig>,
    pub(crate) tls: Option<Tls>,
    pub(crate) ids: Option<IdSource>,
    pub(crate) network: Option<Arc<dyn Network>>,
    pub(crate) observer: Option<Arc<dyn MessageObserver>>,
    pub(crate) tracer: Option<Arc<Tracer>>,
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
}

impl CallCenterConfig {
    /// Begins with the defaults.
    pub fn new() -> Self {
        Self {
            listeners: Vec::new(),
            advertised: None,
            domains: Vec::new(),
            users: Vec::new(),
            users_files: Vec::new(),
            user_store: None,
            without_authentication: false,
            algorithms: None,
            nonce_lifetime: None,
            nonce_key: None,
            expiry: None,
            max_contacts: None,
            max_relayed: None,
            shards: None,
            presence: Some(PresenceConfig::new()),
            watcher_policy: None,
            store: None,
            server_name: None,
            timers: None,
            transport: None,
            tls: None,
            ids: None,
            network: None,
            observer: None,
            tracer: None,
            resolver: None,
        }
    }

    /// Listens on `HOST:PORT` over UDP. May be called again; port 0 takes a free port.
    pub fn with_udp_listener(self, address: impl Into<String>) -> Self {
        self.with_listener(Transport::Udp, address)
    }

    /// Listens on `HOST:PORT` over TCP. May be called again; port 0 takes a free port.
    pub fn with_tcp_listener(self, address: impl Into<String>) -> Self {
        self.with_listener(Transport::Tcp, address)
    }

    /// Listens on `HOST:PORT` over TLS, with the certificate of [`with_tls`](Self::with_tls). May be called again; port 0 takes
    /// a free port. Needs one of the features `tls-ring` and `tls-aws-lc-rs`.
    pub fn with_tls_listener(self, address: impl Into<String>) -> Self {
        self.with_listener(Transport::Tls, address)
    }

    /// Listens on `HOST:PORT` for WebSocket (RFC 7118), as clients in browsers speak it. May be called again; port 0 takes a
    /// free port. Needs the feature `ws`.
    pub fn with_ws_listener(self, address: impl Into<String>) -> Self {
        self.with_listener(Transport::Ws, address)
    }

    /// Listens on `HOST:PORT` for WebSocket within TLS, with the certificate of [`with_tls`](Self::with_tls). May be called
    /// again; port 0 takes a free port.
    pub fn with_wss_listener(self, address: impl Into<String>) -> Self {
        self.with_listener(Transport::Wss, address)
    }

    /// Speaks TLS with this certificate, and believes these roots. Keep a clone, whose [`reload`](Tls::reload) reads a renewed
    /// certificate.
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    fn with_listener(mut self, transport: Transport, address: impl Into<String>) -> Self {
        self.listeners.push((transport, address.into()));
        self
    }

    /// Names this host, instead of a local address, wherever the server writes its own: a name, or the outside of a NAT.
    pub fn with_advertised_host(mut self, host: impl Into<String>) -> Self {
        self.advertised = Some(host.into());
        self
    }

    /// Serves a domain: its addresses-of-record are kept here. May be called again.
    ///
    /// Any port matches. Without it, the domains are the addresses listened on, the advertised host, for a listener on every
    /// address (`0.0.0.0`, `[::]`) each address of the machine, and `localhost` where a listener is on that or on every
    /// address.
    pub fn with_domain(mut self, name: impl Into<String>) -> Self {
        self.domains.push(name.into());
        self
    }

    /// Adds a user of every served domain.
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// Adds the users of a file, `user:password` a line (see [`Users::load`](crate::Users::load)). It is read once, when
    /// the engine starts.
    pub fn with_users_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.users_files.push(path.into());
        self
    }

    /// Asks a store of your own for users, instead of a list.
    pub fn with_user_store(mut self, store: Arc<dyn UserStore>) -> Self {
        self.user_store = Some(store);
        self
    }

    /// Lets anybody register, watch and publish for any user of a served domain, and send MESSAGE and OPTIONS to them under
    /// any name.
    pub fn without_authentication(mut self) -> Self {
        self.without_authentication = true;
        self
    }

    /// Offers these digest algorithms, one challenge each, the preferred one first.
    pub fn with_digest_algorithms(
        mut self,
        algorithms: impl IntoIterator<Item = Algorithm>,
    ) -> Self {
        self.algorithms = Some(algorithms.into_iter().collect());
        self
    }

    /// Sets how long a nonce serves before the client has to take a new one.
    pub fn with_nonce_lifetime(mut self, lifetime: Duration) -> Self {
        self.nonce_lifetime = Some(lifetime);
        self
    }

    /// Sets the key of the nonces: with the same key they serve on every node, and past a restart. Keep it secret.
    pub fn with_nonce_key(mut self, key: [u8; 32]) -> Self {
        self.nonce_key = Some(key);
        self
    }

    /// Sets the seconds that are granted to who asks for none, the fewest that are accepted, and the most that are granted.
    ///
    /// Who asks for fewer than `minimum` gets 423 and is told the minimum; who asks for more than `maximum` gets `maximum`.
    /// The minimum is at most 3600: RFC 3261 §10.3 lets nobody refuse an hour.
    pub fn with_expires(mut self, default: u32, minimum: u32, maximum: u32) -> Self {
        self.expiry = Some((default, minimum, maximum));
        self
    }

    /// Sets how many contacts an address-of-record may have. A REGISTER that would bind more is refused with 403.
    pub fn with_max_contacts(mut self, limit: usize) -> Self {
        self.max_contacts = Some(limit);
        self
    }

    /// Sets how many requests to users may wait for their contacts at once, 10,000 unless given. With their copies they may
    /// hold 16 KiB each on average. One sender may have a tenth of that, and no fewer than 10. Beyond any of it a request is
    /// answered with 503 and Retry-After.
    pub fn with_max_relayed(mut self, limit: usize) -> Self {
        self.max_relayed = Some(limit);
        self
    }

    /// Sets among how many tasks the work is divided, from 1, the default, to 128: no more than there are cores. REGISTERs are
    /// served by all of them, each those of the peers that the system gives it, or of its connections; what is relayed,
    /// subscriptions and publications by the first.
    pub fn with_shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Sets how long subscriptions and publications last, and how many there may be.
    pub fn with_presence(mut self, settings: PresenceConfig) -> Self {
        self.presence = Some(settings);
        self
    }

    /// Answers neither SUBSCRIBE nor PUBLISH.
    pub fn without_presence(mut self) -> Self {
        self.presence = None;
        self
    }

    /// Lets this policy decide who may watch whom, instead of every user of a served domain watching every other.
    pub fn with_watcher_policy(mut self, policy: Arc<dyn WatcherPolicy>) -> Self {
        self.watcher_policy = Some(policy);
        self
    }

    /// Keeps bindings in this store.
    pub fn with_location_store(mut self, store: Arc<dyn LocationStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets the `Server` header field of answers. Default `Sipora/<version>`; an empty text leaves it out.
    pub fn with_server_name(mut self, text: impl Into<String>) -> Self {
        self.server_name = Some(text.into());
        self
    }

    /// Sets the transaction timers (RFC 3261 table 4).
    pub fn with_timers(mut self, timers: Timers) -> Self {
        self.timers = Some(timers);
        self
    }

    /// Sets the limits of connections and messages. Its advertised address gives way to
    /// [`with_advertised_host`](Self::with_advertised_host).
    pub fn with_transport_config(mut self, config: TransportConfig) -> Self {
        self.transport = Some(config);
        self
    }

    /// Finds contacts that are names by this resolver instead of the operating system's addresses alone.
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Takes random numbers from this source instead of the operating system's: a seeded one in tests, never elsewhere.
    pub fn with_id_source(mut self, ids: IdSource) -> Self {
        self.ids = Some(ids);
        self
    }

    /// Runs on this network instead of the operating system's: a simulated one in tests.
    pub fn with_network(mut self, network: Arc<dyn Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// Shows every message to this observer.
    pub fn with_observer(mut self, observer: Arc<dyn MessageObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Shows every message to this tracer, in the place of another observer, and what it has counted in
    /// [`EngineMetrics::trace`](crate::EngineMetrics::trace).
    pub fn with_tracer(mut self, tracer: Arc<Tracer>) -> Self {
        self.observer = Some(tracer.clone());
        self.tracer = Some(tracer);
        self
    }

    /// Looks the listeners' names up. Blocks where one is a name and no address.
    pub(crate) fn resolved_listeners(&self) -> Result<Vec<(Transport, SocketAddr)>> {
        if self.listeners.is_empty() {
            let any = SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT));
            return Ok(vec![(Transport::Udp, any), (Transport::Tcp, any)]);
        }
        self.listeners
            .iter()
            .map(|(transport, text)| Ok((*transport, address_of(text)?)))
            .collect()
    }

    pub(crate) fn expiry(&self) -> Result<Expiry> {
        let (default, minimum, maximum) = self.expiry.unwrap_or(DEFAULT_EXPIRES);
        Expiry::checked("expires", default, minimum, maximum)
    }

    pub(crate) fn max_contacts(&self) -> Result<usize> {
        match self.max_contacts.unwrap_or(DEFAULT_MAX_CONTACTS) {
            limit @ 1..=MOST_CONTACTS => Ok(limit),
            _ => Err(Error::Configuration {
                setting: "max contacts",
                reason: format!(
                    "a number from 1 to {MOST_CONTACTS}, since every contact is compared with every other"
                ),
            }),
        }
    }

    pub(crate) fn shards(&self) -> Result<usize> {
        match self.shards.unwrap_or(1) {
            shards @ 1..=MOST_SHARDS => Ok(shards),
            _ => Err(Error::Configuration {
                setting: "shards",
                reason: format!(
                    "a number from 1 to {MOST_SHARDS}, and of no use past that of the cores"
                ),
            }),
        }
    }

    pub(crate) fn max_relayed(&self) -> usize {
        self.max_relayed.unwrap_or(crate::relay::DEFAULT_LIMIT)
    }

    /// Gives whom to ask for secrets; `None` where nobody is asked. Blocks while it reads files.
    pub(crate) fn take_users(&mut self) -> Result<Option<UserSource>> {
        let listed = !self.users.is_empty() || !self.users_files.is_empty();
        let wrong = |reason: &str| {
            Err(Error::Configuration {
                setting: "users",
                reason: reason.to_owned(),
            })
        };
        match (listed, self.user_store.take(), self.without_authentication) {
            (false, None, true) => Ok(None),
            (false, None, false) => {
                wrong("there are none; add some, or let anybody in with without_authentication()")
            }
            (_, _, true) => {
                wrong("there are some, and without_authentication() asks nobody for a password")
            }
            (true, Some(_), false) => wrong("a list and a store of your own exclude each other"),
            (false, Some(store), false) => Ok(Some(UserSource::Store(store))),
            (true, None, false) => {
                let users = Users::new();
                for path in &self.users_files {
                    users.load(path)?;
                }
                for (name, password) in self.users.drain(..) {
                    users.add(&name, &password)?;
                }
                Ok(Some(UserSource::List(Arc::new(users))))
            }
        }
    }
}

/// Who is asked for secrets.
pub(crate) enum UserSource {
    List(Arc<Users>),
    Store(Arc<dyn UserStore>),
}

impl Default for CallCenterConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Leaves out passwords and keys.
impl fmt::Debug for CallCenterConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CallCenterConfig")
            .field("listeners", &self.listeners)
            .field("advertised", &self.advertised)
            .field("domains", &self.domains)
            .field("users", &self.users.len())
            .field("users_files", &self.users_files)
            .field("without_authentication", &self.without_authentication)
            .field("expiry", &self.expiry)
            .field("max_contacts", &self.max_contacts)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// Devices that one person has, with room to spare.
pub(crate) const DEFAULT_MAX_CONTACTS: usize = 10;
const DEFAULT_EXPIRES: (u32, u32, u32) = (3600, 60, 7200);
const DEFAULT_PORT: u16 = 5060;
const MOST_CONTACTS: usize = 100;
const MOST_SHARDS: usize = 128;
pub(crate) const ONE_HOUR: u32 = 3600;

fn address_of(text: &str) -> Result<SocketAddr> {
    let wrong = |reason: String| Error::Configuration {
        setting: "listener",
        reason,
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let name = match text.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => name,
        _ => return Err(wrong(format!("{text:?} is no HOST:PORT"))),
    };
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| wrong(format!("the host {name:?} does not resolve: {error}")))?;
    found
        .next()
        .ok_or_else(|| wrong(format!("the host {name:?} has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(mut config: CallCenterConfig) -> String {
        let found = config
            .take_users()
            .map(|_| ())
            .and_then(|()| config.expiry().map(|_| ()))
            .and_then(|()| config.max_contacts().map(|_| ()))
            .and_then(|()| config.shards().map(|_| ()))
            .and_then(|()| config.resolved_listeners().map(|_| ()));
        found.unwrap_err().to_string()
    }

    #[test]
    fn users_and_no_authentication_need_each_other_s_absence() {
        assert!(refused(CallCenterConfig::new()).contains("there are none"));
        let both = CallCenterConfig::new()
            .with_user("a", "b")
            .without_authentication();
        assert!(refused(both).contains("asks nobody"));
        let twice = CallCenterConfig::new()
            .with_user("a", "b")
            .with_user_store(Arc::new(Users::new()));
        assert!(refused(twice).contains("exclude"));
    }

    #[test]
    fn impossible_expiries_contacts_and_listeners_are_refused() {
        let config = || CallCenterConfig::new().without_authentication();
        assert!(refused(config().with_expires(3600, 0, 7200)).contains("minimum"));
        assert!(refused(config().with_expires(3600, 3601, 7200)).contains("minimum"));
        assert!(refused(config().with_expires(30, 60, 7200)).contains("default"));
        assert!(refused(config().with_max_contacts(0)).contains("from 1"));
        assert!(refused(config().with_shards(0)).contains("from 1"));
        assert!(refused(config().with_shards(129)).contains("to 128"));
        assert!(refused(config().with_udp_listener("127.0.0.1")).contains("127.0.0.1"));
        assert!(refused(config().with_tcp_listener("127.0.0.1:99999")).contains("no HOST:PORT"));
        let unknown = refused(config().with_udp_listener("no such name:5060"));
        assert!(
            unknown.contains("\"no such name\" does not resolve"),
            "{unknown}"
        );
    }

    #[test]
    fn a_configuration_never_shows_passwords_or_keys() {
        let config = CallCenterConfig::new()
            .with_user("alice", "swordfish")
            .with_nonce_key([7; 32]);
        let text = format!("{config:?}");
        assert!(
            !text.contains("swordfish") && !text.contains("7, 7"),
            "{text}"
        );
    }
}
