//! [`SessionManagerBuilder`]: where a client starts.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sipora_auth::Credentials;
use sipora_dialog_core::EventPackage;
use sipora_transaction_core::{IdSource, MessageObserver, Timers};
use sipora_transport::{Network, Resolver, Tls};

use super::SessionCoordinator;
use crate::flows::{KeepAlive, UdpKeepAlive};
use crate::registration::Backoff;
use crate::{Error, IncomingCalls, Result, SessionHandler};

/// Builds a [`SessionCoordinator`]: sockets, timers, identity, credentials.
///
/// Every setting is optional, no setter fails, and [`build`](Self::build) reports what cannot be used. The defaults:
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | [`with_sip_port`](Self::with_sip_port) | 0: a free port, the same for UDP and TCP | clients need no known port, and several run on one host |
/// | [`with_bind_address`](Self::with_bind_address) | 0.0.0.0, and `::` where the host has IPv6 | reachable from every network that the host has |
/// | [`with_advertised_address`](Self::with_advertised_address) | the local address that leads to the peer | Via and Contact never carry 0.0.0.0 |
/// | [`with_outbound_proxy`](Self::with_outbound_proxy) | none | the target is located by its own URI |
/// | [`with_user_agent`](Self::with_user_agent) | `Sipora/<version>` | RFC 3261 §20.41 |
/// | [`with_identity`](Self::with_identity) | `sip:anonymous@anonymous.invalid` | From of requests that name nobody (RFC 3261 §8.1.1.3) |
/// | [`with_credentials`](Self::with_credentials) | none | |
/// | [`with_handler`](Self::with_handler) | OPTIONS is answered with what this client can do, MESSAGE with 405 | RFC 3261 §11.2, §8.2.1 |
/// | [`with_event_package`](Self::with_event_package) | none: SUBSCRIBE is answered with 489 where there is a handler, else 405 | RFC 6665 §4.2.1.1 |
/// | [`with_timers`](Self::with_timers) | T1 500 ms, T2 4 s, T4 5 s | RFC 3261 table 4 |
/// | [`with_request_timeout`](Self::with_request_timeout) | 64 × T1: 32 s | how long a transaction tries (timer F) |
/// | [`with_registration_backoff`](Self::with_registration_backoff) | 30 s, at most 1800 s | RFC 5626 §4.5 |
/// | [`with_resolver`](Self::with_resolver) | the operating system's | |
/// | [`with_tls`](Self::with_tls) | none: no `sips` | whom to believe is for the application to say |
/// | [`with_tls_listener`](Self::with_tls_listener) | none: requests come over the connections that are there | a client has no certificate |
/// | [`with_keep_alive`](Self::with_keep_alive) | connections of registrations: what the registrar says, else 120 s; of subscriptions: 120 s | RFC 5626 §4.4, RFC 6223 |
/// | [`with_udp_keep_alive`](Self::with_udp_keep_alive) | none, unless the registrar says that it answers STUN | RFC 5626 §8, RFC 6223 |
/// | [`with_network`](Self::with_network) | the operating system's | tests bring a simulated one |
/// | [`with_observer`](Self::with_observer) | none | |
/// | [`with_id_source`](Self::with_id_source) | unpredictable | tests bring a seeded one |
/// | [`with_transfers`](Self::with_transfers) | none are taken: REFER is answered with 405, and calls take no other's place | who transfers us chooses whom we call (RFC 3515 §5) |
/// | [`with_messages_in_calls`](Self::with_messages_in_calls) | none are taken: MESSAGE within a call is answered with 405 | a 200 says that somebody reads it |
/// | [`with_info_package`](Self::with_info_package) | none: INFO of a package is answered with 469, INFO without one is taken | RFC 6086 §4.2.2 |
/// | [`build_with_calls`](Self::build_with_calls) | [`build`](Self::build): INVITE is answered with 405 | who takes calls has to answer them |
/// | [`enable_sip_client`](Self::enable_sip_client) | off | a process that only answers needs no client |
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), sipora_session_core::Error> {
/// use sipora_session_core::SessionManagerBuilder;
///
/// let coordinator = SessionManagerBuilder::new()
///     .with_bind_address([127, 0, 0, 1].into())
///     .enable_sip_client()
///     .build()
///     .await?;
/// assert_ne!(coordinator.local_address().port(), 0);
/// coordinator.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct SessionManagerBuilder {
    pub(super) port: u16,
    /// None: every address of both families.
    pub(super) bind_address: Option<IpAddr>,
    pub(super) advertised: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) user_agent: String,
    pub(super) identity: String,
    pub(super) credentials: Vec<Credentials>,
    pub(super) handler: Option<Arc<dyn SessionHandler>>,
    pub(super) packages: Vec<Arc<dyn EventPackage>>,
    pub(super) timers: Timers,
    pub(super) request_timeout: Option<Duration>,
    pub(super) backoff: Backoff,
    pub(super) resolver: Option<Arc<dyn Resolver>>,
    pub(super) tls: Option<Tls>,
    pub(super) tls_port: Option<u16>,
    pub(super) keep_alive: KeepAlive,
    pub(super) udp_keep_alive: Option<UdpKeepAlive>,
    pub(super) network: Option<Arc<dyn Network>>,
    pub(super) observer: Option<Arc<dyn MessageObserver>>,
    pub(super) ids: Option<IdSource>,
    pub(super) is_client: bool,
    pub(super) has_transfers: bool,
    pub(super) has_messages_in_calls: bool,
    pub(super) info_packages: Vec<String>,
}

impl SessionManagerBuilder {
    /// Begins with the defaults.
    pub fn new() -> Self {
        Self {
            port: 0,
            bind_address: None,
            advertised: None,
            proxy: None,
            user_agent: concat!("Sipora/", env!("CARGO_PKG_VERSION")).to_owned(),
            identity: "sip:anonymous@anonymous.invalid".to_owned(),
            credentials: Vec::new(),
            handler: None,
            packages: Vec::new(),
            timers: Timers::default(),
            request_timeout: None,
            backoff: Backoff::default(),
            resolver: None,
            tls: None,
            tls_port: None,
            keep_alive: KeepAlive::Sensible,
            udp_keep_alive: None,
            network: None,
            observer: None,
            ids: None,
            is_client: false,
            has_transfers: false,
            has_messages_in_calls: false,
            info_packages: Vec::new(),
        }
    }

    /// Takes this port, for UDP and TCP alike, IPv4 and IPv6; 0 takes a free one. An occupied port is [`Error::Listen`].
    pub fn with_sip_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Listens on this address of the host, IPv4 or IPv6, and no other: `::` is IPv6 alone. Hosts of the other family are
    /// still reached, and answer; they cannot send requests here, so that neither side can be called by the other (a call needs a
    /// Contact that leads back).
    pub fn with_bind_address(mut self, address: IpAddr) -> Self {
        self.bind_address = Some(address);
        self
    }

    /// Puts this host, a name or an address, into Via and into [`contact_uri`](SessionCoordinator::contact_uri), in the
    /// place of the local address: the outside of a NAT. `host:port` replaces the port too; an IPv6 address stands in
    /// brackets then.
    pub fn with_advertised_address(mut self, address: &str) -> Self {
        self.advertised = Some(address.to_owned());
        self
    }

    /// Sends every request to this proxy first, as a preloaded Route (RFC 3261 §8.1.2), `lr` added where it lacks. A raw
    /// request that has a Route of its own keeps that alone.
    pub fn with_outbound_proxy(mut self, uri: &str) -> Self {
        self.proxy = Some(uri.to_owned());
        self
    }

    /// Replaces the text of User-Agent in requests and of Server in answers.
    pub fn with_user_agent(mut self, text: &str) -> Self {
        self.user_agent = text.to_owned();
        self
    }

    /// Names the From of what says no other: OPTIONS, MESSAGE, SUBSCRIBE, PUBLISH, raw requests without From, and calls without
    /// [`with_from`](crate::CallOptions::with_from), whose Contact has its user, and Referred-By in transfers.
    pub fn with_identity(mut self, uri: &str) -> Self {
        self.identity = uri.to_owned();
        self
    }

    /// Adds credentials; may be called for each realm. Those kept for the realm that asks come before those for any.
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials.push(credentials);
        self
    }

    /// Lets the application answer what comes in.
    pub fn with_handler(mut self, handler: Arc<dyn SessionHandler>) -> Self {
        self.handler = Some(handler);
        self
    }

    /// Lets others subscribe to this event; may be called for each. The handler decides, in
    /// [`on_subscribe`](SessionHandler::on_subscribe). [`CustomPackage`](crate::CustomPackage) describes an event of one's
    /// own.
    pub fn with_event_package(mut self, package: impl EventPackage) -> Self {
        self.packages.push(Arc::new(package));
        self
    }

    /// Replaces the timers of transactions.
    pub fn with_timers(mut self, timers: Timers) -> Self {
        self.timers = timers;
        self
    }

    /// Bounds each call but `send_raw_request`, which has a bound of its own: resolving, connecting, every target, every
    /// retry. A transaction never lasts longer than 64 × T1 all the same. More than a day counts as a day.
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = Some(timeout);
        self
    }

    /// Sets the wait after a failed refresh, which doubles up to `max`: between `base` and twice `base` after the first
    /// failure. More than thirty days counts as thirty.
    pub fn with_registration_backoff(mut self, base: Duration, max: Duration) -> Self {
        self.backoff = Backoff { base, max };
        self
    }

    /// Replaces what resolves names.
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Speaks TLS, to `sips` URIs and to those with `transport=tls`, as these settings say: whom to believe, and which
    /// certificate to show where one is asked for. Without them, such targets are
    /// [`NotImplemented`](crate::Error::NotImplemented). Requests of the peer come over the connection that was opened to it,
    /// and to [`with_tls_listener`](Self::with_tls_listener). Needs one of the features `tls-ring` and `tls-aws-lc-rs`.
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Listens for TLS too, on this port, or on a free one where it is 0. Needs [`with_tls`](Self::with_tls) with a certificate
    /// of our own, which peers have to believe: few clients have one.
    pub fn with_tls_listener(mut self, port: u16) -> Self {
        self.tls_port = Some(port);
        self
    }

    /// Pings over every connection this often, each time after a random 80 to 100 % of it (RFC 5626 §4.4.1); one without an
    /// answer within 10 s is closed. For servers that are known to answer: RFC 5626 recommends 120 s.
    ///
    /// Without it, connections that registrations and subscriptions live on are pinged alone: as often as the registrar
    /// says, by Flow-Timer or by its answer to the offer in our Via (`keep`, RFC 6223), else every 120 s, and then a ping without an answer ends only a connection over which one was answered
    /// before. See [`RegistrationHandle`](crate::RegistrationHandle) for what follows.
    pub fn with_keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = KeepAlive::Every(interval);
        self
    }

    /// Keeps registrations over UDP reachable through a NAT.
    pub fn with_udp_keep_alive(mut self, how: UdpKeepAlive) -> Self {
        self.udp_keep_alive = Some(how);
        self
    }

    /// Sends no pings over connections, and no STUN because a registrar asks for it, and offers none: for devices whose battery
    /// counts. A connection that dies without a word is found out at the next refresh.
    pub fn without_keep_alive(mut self) -> Self {
        self.keep_alive = KeepAlive::Never;
        self
    }

    /// Replaces the network, as by a simulated one.
    pub fn with_network(mut self, network: Arc<dyn Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// Shows every message to `observer`, credentials and all.
    pub fn with_observer(mut self, observer: Arc<dyn MessageObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Replaces the source of tags, branches, Call-IDs and jitter. One that can be predicted belongs in tests alone.
    pub fn with_id_source(mut self, ids: IdSource) -> Self {
        self.ids = Some(ids);
        self
    }

    /// Lets peers transfer our calls: a REFER within one is [`CallEvent::TransferRequested`](crate::CallEvent::TransferRequested), for
    /// the application to follow or refuse, and an INVITE with Replaces says which call it is to take the place of
    /// ([`CallHandle::replaces`](crate::CallHandle::replaces)), for the application to accept
    /// ([`accept_replacing`](crate::CallHandle::accept_replacing)) or refuse. Without it REFER gets 405, and
    /// such an INVITE is a call like others, or gets 420 where it requires to be more. To transfer others it is not needed.
    pub fn with_transfers(mut self) -> Self {
        self.has_transfers = true;
        self
    }

    /// Takes MESSAGE within calls (RFC 3428), as of a chat beside a talk: [`CallEvent::Message`](crate::CallEvent::Message), which the
    /// application has to show, since it has had its 200 by then. Without it they get 405, which a
    /// [`CallRequest::message`](crate::CallRequest::message) of the peer's has for its answer. A MESSAGE outside of calls is the
    /// handler's ([`on_message`](SessionHandler::on_message)).
    pub fn with_messages_in_calls(mut self) -> Self {
        self.has_messages_in_calls = true;
        self
    }

    /// Takes INFO of this package within calls (RFC 6086), and says so to each peer (Recv-Info); may be called for each. It comes as
    /// [`CallEvent::Info`](crate::CallEvent::Info). INFO of others gets 469, and [`CallHandle::request`](crate::CallHandle::request)
    /// sends none of a package that the peer has not named. INFO without a package is always taken.
    pub fn with_info_package(mut self, name: &str) -> Self {
        self.info_packages.push(name.to_owned());
        self
    }

    /// Enables the operations of [`SipClient`](crate::SipClient); without it they fail with [`Error::NotSupported`].
    pub fn enable_sip_client(mut self) -> Self {
        self.is_client = true;
        self
    }

    /// Checks the settings, binds the sockets and starts.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfiguration`] and [`Error::InvalidUri`] name the setting; [`Error::Listen`] names the transport
    /// and the address that cannot be had.
    pub async fn build(self) -> Result<Arc<SessionCoordinator>> {
        let (coordinator, _) = self.build_either(false).await?;
        Ok(coordinator)
    }

    /// Does what [`build`](Self::build) does, for calls: [`SipClient::call`](crate::SipClient::call) makes them where
    /// [`enable_sip_client`](Self::enable_sip_client) was called, and [`IncomingCalls`] gives those that others make. Dropped, it
    /// refuses them with 480; a coordinator of [`build`](Self::build) refuses every INVITE with 405.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::{CallEnd, SessionManagerBuilder, SipClient};
    ///
    /// // A session without media: the first port that nobody listens on.
    /// const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    ///
    /// let here = || SessionManagerBuilder::new().with_bind_address([127, 0, 0, 1].into());
    /// let (bob, mut calls) = here().build_with_calls().await?;
    /// let bob_answers = tokio::spawn(async move {
    ///     let mut call = calls.next().await?;
    ///     println!("{} calls", call.remote_uri());
    ///     call.ring().await.ok()?;
    ///     call.accept(SDP).await.ok()?;
    ///     Some(call.ended().await)
    /// });
    ///
    /// let (alice, _) = here().enable_sip_client().build_with_calls().await?;
    /// let mut call = alice.call(&format!("sip:bob@{}", bob.local_address()), Some(SDP)).await?;
    /// let answer = call.answered().await?;
    /// println!("{} {}", answer.status(), answer.reason());
    /// call.hang_up().await?;
    /// assert!(matches!(call.ended().await, CallEnd::HungUp));
    /// assert!(matches!(bob_answers.await, Ok(Some(CallEnd::PeerHungUp(_)))));
    /// # alice.shutdown().await;
    /// # bob.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub async fn build_with_calls(self) -> Result<(Arc<SessionCoordinator>, IncomingCalls)> {
        let (coordinator, calls) = self.build_either(true).await?;
        calls.map(|calls| (coordinator, calls)).ok_or(Error::Closed)
    }
}

impl Default for SessionManagerBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SessionManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManagerBuilder")
            .field("port", &self.port)
            .field("bind_address", &self.bind_address)
            .field("advertised", &self.advertised)
            .field("proxy", &self.proxy)
            .field("credentials", &self.credentials)
            .field("is_client", &self.is_client)
            .finish_non_exhaustive()
    }
}
