//! [`SessionManagerBuilder`]: where a client starts.

/// Builds a [`SessionCoordinator`](crate::SessionCoordinator): sockets, timers, identity, credentials.
///
/// Every setting is optional. The defaults make a client on port 5060 of every local IPv4 address, over UDP and TCP:
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | [`with_sip_port`](Self::with_sip_port) | 5060 | RFC 3261 §19.1.2; 0 takes a free port, the same for UDP and TCP |
/// | [`with_bind_address`](Self::with_bind_address) | 0.0.0.0 | reachable from every network that the host has |
/// | [`with_advertised_address`](Self::with_advertised_address) | the local address that leads to the peer | Via and Contact never carry 0.0.0.0 |
/// | [`with_outbound_proxy`](Self::with_outbound_proxy) | none | RFC 3263 finds the target |
/// | [`with_user_agent`](Self::with_user_agent) | `Sipora/<version>` | RFC 3261 §20.41 |
/// | [`with_identity`](Self::with_identity) | `sip:anonymous@anonymous.invalid` | From of requests that name no one (RFC 3261 §8.1.1.3) |
/// | [`with_credentials`](Self::with_credentials) | none | may be called once for each realm |
/// | [`with_handler`](Self::with_handler) | answers OPTIONS with what this client can do | |
/// | [`with_timers`](Self::with_timers) | T1 500 ms, T2 4 s, T4 5 s | RFC 3261 table 4 |
/// | [`with_request_timeout`](Self::with_request_timeout) | 32 s | 64 × T1: how long a transaction tries (timer F) |
/// | [`enable_sip_client`](Self::enable_sip_client) | off | a process that only answers needs no client |
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), sipora_session_core::Error> {
/// use sipora_session_core::SessionManagerBuilder;
///
/// let coordinator = SessionManagerBuilder::new()
///     .with_bind_address("127.0.0.1".parse().unwrap())
///     .with_sip_port(0)
///     .enable_sip_client()
///     .build()
///     .await?;
/// assert_ne!(coordinator.local_address().port(), 0);
/// coordinator.shutdown().await;
/// # Ok(()) }
/// ```
pub struct SessionManagerBuilder {}

/* The methods:

    pub fn new() -> Self
    /// Takes this port for UDP and TCP alike; 0 takes a free one. An occupied port is an error of `build`.
    pub fn with_sip_port(self, port: u16) -> Self
    pub fn with_bind_address(self, address: IpAddr) -> Self
    /// Puts `host` (a name or an address; and `host:port`, behind a NAT that maps ports) into Via and into `contact_uri`, in the place of the local address.
    pub fn with_advertised_address(self, address: &str) -> Self           // checked by build: Error::InvalidConfiguration
    /// Sends every request to this proxy first, as a preloaded Route with `lr` (RFC 3261 §8.1.2). sip:/sips: URI text
    pub fn with_outbound_proxy(self, uri: &str) -> Self                   // checked by build: InvalidUri
    pub fn with_user_agent(self, text: &str) -> Self
    pub fn with_identity(self, uri: &str) -> Self
    pub fn with_credentials(self, credentials: Credentials) -> Self       // may repeat, one per realm; without realm fits any
    pub fn with_handler(self, handler: Arc<dyn SessionHandler>) -> Self
    pub fn with_timers(self, timers: Timers) -> Self
    pub fn with_request_timeout(self, Duration) -> Self
    pub fn with_resolver(self, Arc<dyn Resolver>) -> Self
    pub fn with_network(self, Arc<dyn Network>) -> Self                   // simulated network, for tests
    pub fn with_observer(self, Arc<dyn MessageObserver>) -> Self          // sees every message
    pub fn enable_sip_client(self) -> Self
    pub async fn build(self) -> Result<Arc<SessionCoordinator>>

SessionCoordinator:
    pub fn local_address(&self) -> SocketAddr   // as bound
    pub fn contact_uri(&self, user: &str) -> String     // `sip:user@host:port` that leads to this coordinator (user escaped)
    pub fn metrics(&self) -> Metrics
    pub async fn shutdown(&self)    // stops refreshes (bindings expire by themselves), ends what is in flight within 5 s, closes sockets. Idempotent.

RegistrationHandle (#[non_exhaustive] pub fields): transaction_id: TransactionId (Display), expires: u32, contact_uri: String, registrar_uri: String
    pub fn state(&self) -> RegistrationState
    pub fn states(&self) -> RegistrationStates      // stream, coalescing: a slow reader sees the newest; async fn next() -> Option<RegistrationState>; implements futures_core::Stream
    pub async fn refresh(&self) -> Result<u32>      // now; gives the newly granted seconds
    pub async fn query(&self) -> Result<Vec<Binding>>      // REGISTER without Contact: all bindings that the registrar has
    pub async fn unregister(&self) -> Result<()>    // removes our contact only
enum RegistrationState (non_exhaustive): Registered { expires: u32, at: Instant? }, Refreshing, Retrying { reason: String, retry_in: Duration } , Expired, Unregistered
   terminal ones: Unregistered, Stopped. 
Binding { uri: String, expires: u32, q: Option<f32>, .. }
SipResponse: status() -> u16-ish StatusCode, reason() -> &str, header(name) -> Option<&str>, headers() iterator in order, body() -> &[u8], typed: message() -> &sipora_message::Response
SessionHandler: #[async_trait] on_options(&self, request: &Request) -> Answer { Answer::ok() }
Error: InvalidUri{argument, uri, offset, reason}, InvalidConfiguration, NotSupported(how), NotImplemented, ProtocolError, Timeout, AuthenticationFailed{reason, response}, Rejected(SipResponse), Transport(source), Closed
*/
