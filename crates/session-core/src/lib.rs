//! A SIP client: registration, instant messages, calls (signalling), subscriptions, presence and other published state, OPTIONS
//! and raw requests, with digest authentication.
//!
//! The two main types are [`SessionManagerBuilder`], which opens the sockets, and [`SessionCoordinator`], which is the
//! running client; what it does is the trait [`SipClient`]. A registration lives as long as its [`RegistrationHandle`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use sipora_session_core::{SessionManagerBuilder, SipClient};
//!
//! let coordinator = SessionManagerBuilder::new().with_sip_port(5061).enable_sip_client().build().await?;
//! let registration = coordinator.register(
//!     "sip:registrar.example.com", "sip:alice@example.com", "sip:alice@192.168.1.100:5060", 3600).await?;
//! println!("Registered: {}", registration.transaction_id);
//! # Ok(()) }
//! ```
//!
//! Two of them on one machine, one asking the other:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), sipora_session_core::Error> {
//! use sipora_session_core::{SessionManagerBuilder, SipClient};
//!
//! let bob = SessionManagerBuilder::new().with_bind_address([127, 0, 0, 1].into()).build().await?;
//! let alice = SessionManagerBuilder::new()
//!     .with_bind_address([127, 0, 0, 1].into())
//!     .enable_sip_client()
//!     .build()
//!     .await?;
//! let answer = alice.send_options(&format!("sip:{}", bob.local_address())).await?;
//! assert!(answer.is_success());
//! println!("{} {}: {:?}", answer.status(), answer.reason(), answer.header("Allow"));
//! alice.shutdown().await;
//! bob.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `pidf` | yes | [`Presence`], read with quick-xml, and written; NOTIFYs of `presence` whose document makes no sense get 400 |
//! | `serde` | no | [`CallState`] can be serialised and deserialised |
//! | `tls-ring`, `tls-aws-lc-rs` | no | TLS, for [`SessionManagerBuilder::with_tls`], with one library of cryptography or the other |
//! | `ws` | no | WebSocket to servers; within TLS with one of the above |
//! | `dns` | no | `DnsResolver`: NAPTR and SRV records, for [`SessionManagerBuilder::with_resolver`] |
//!
//! # Where the RFCs are
//!
//! | clause | item |
//! | --- | --- |
//! | RFC 3261 §8.1.1, what a request carries | [`SipClient::send_raw_request`], [`SessionCoordinator::request`] |
//! | RFC 3261 §8.1.2, outbound proxy | [`SessionManagerBuilder::with_outbound_proxy`] |
//! | RFC 3261 §10.2, registering, refreshing, removing, fetching bindings | [`SipClient::register`], [`RegistrationHandle`] |
//! | RFC 3261 §10.2.8, 423 | [`SipClient::register`] |
//! | RFC 3261 §11, OPTIONS, both ways | [`SipClient::send_options`], [`SessionHandler::on_options`] |
//! | RFC 3261 §11, OPTIONS again and again | [`SipClient::watch_reachability`], [`ReachabilityHandle`] |
//! | RFC 3428, MESSAGE, both ways | [`SipClient::send_message`], [`SessionHandler::on_message`] |
//! | RFC 3261 §22, RFC 7616, RFC 8760, digest | [`SessionManagerBuilder::with_credentials`] |
//! | RFC 3261 §13 to §15 and §9, calls, both ways | [`SipClient::call`], [`IncomingCalls`], [`CallHandle`] |
//! | RFC 3261 §8.1.3.4, redirections of calls | [`CallOptions::follow_redirects`], [`CallHandle::redirect`] |
//! | RFC 6086, INFO within calls | [`CallHandle::request`], [`CallEvent::Info`], [`SessionManagerBuilder::with_info_package`] |
//! | RFC 3428, MESSAGE within calls | [`CallHandle::request`], [`CallEvent::Message`], [`SessionManagerBuilder::with_messages_in_calls`] |
//! | RFC 3515, RFC 5589, transfer, all roles | [`CallHandle::transfer`], [`CallHandle::transfer_to`], [`CallHandle::follow`] |
//! | RFC 3891, calls that take the place of others | [`CallHandle::replaces`], [`CallHandle::accept_replacing`], [`CallOptions::replacing`] |
//! | RFC 3264 §8.4, hold | [`CallHandle::hold`], [`CallHandle::resume`], [`MediaDirection`] |
//! | RFC 3261 §12, calls that go on in another process | [`CallHandle::detach`], [`SessionCoordinator::restore_call`] |
//! | RFC 6665 §4.1, subscribing | [`SipClient::subscribe`], [`SubscriptionHandle`] |
//! | RFC 6665 §4.2, being subscribed to | [`SessionManagerBuilder::with_event_package`], [`SessionHandler::on_subscribe`], [`Watcher`] |
//! | RFC 6665 §4.1.3, NOTIFY that nobody asked for | [`SessionHandler::on_notify`] |
//! | RFC 3903, publishing | [`SipClient::publish`], [`PublicationHandle`] |
//! | RFC 3842, message summaries; RFC 3863, presence documents | [`MessageSummary`], [`Presence`] |
//! | RFC 5626 §4.5, back-off | [`SessionManagerBuilder::with_registration_backoff`] |
//! | RFC 5626 §4.4, RFC 6223, keep-alives, offered to registrars | [`SessionManagerBuilder::with_keep_alive`], [`UdpKeepAlive`] |
//!
//! Transactions are `sipora-transaction-core`'s, flows `sipora-transport`'s, the grammar `sipora-message`'s, which is
//! re-exported as the module `message`: where its examples say `sipora_message`, `sipora_session_core::message` is the same.
#![forbid(unsafe_code)]

mod api;
mod bodies;
mod calls;
mod contacts;
mod error;
mod flows;
mod handler;
mod incoming;
mod outgoing;
mod publication;
mod reachability;
mod registration;
mod response;
mod states;
mod subscription;
mod turns;
mod uri;
mod watcher;

pub use api::{ListenerAddress, SessionCoordinator, SessionManagerBuilder, SipClient};
#[cfg(feature = "pidf")]
pub use bodies::{Basic, Extension, Presence, Tuple};
pub use bodies::{BodyError, MessageCount, MessageSummary};
pub use calls::{
    CallEnd, CallEvent, CallHandle, CallOptions, CallState, IncomingCalls, MediaDirection,
    TransferReport, TransferRequest,
};
pub use error::{Error, Result};
pub use flows::UdpKeepAlive;
pub use handler::{Answer, Incoming, SessionHandler};
pub use publication::{PublicationHandle, PublicationState, PublicationStates};
pub use reachability::{Reachability, ReachabilityHandle, ReachabilityStates};
pub use registration::{Binding, RegistrationHandle, RegistrationState, RegistrationStates};
pub use response::SipResponse;
pub use states::{Life, States};
pub use subscription::{
    Documents, Notification, Notifications, SubscriptionHandle, SubscriptionStates,
};
pub use watcher::{SubscribeAnswer, Watcher, WatcherEnd};

pub use sipora_auth::{AuthError, Credentials};
pub use sipora_dialog_core::{
    ApiError, Body, BodyRefusal, CallKey, CallMetrics, CallRequest, CustomPackage, EventPackage,
    Forking, MessageSummaryPackage, PresencePackage, RefreshFailure, Resubscribe, SubscriptionEnd,
    SubscriptionState, TerminationReason, TransactionId,
};
pub use sipora_message as message;
pub use sipora_message::{
    HeaderName, Method, Reason, Request, RequestBuilder, Response, StatusCode, SubscriptionPhase,
    Uri,
};
pub use sipora_transaction_core::{
    Direction, IdSource, MessageObserver, Metrics, Observed, Timers, TransportFailure,
};
#[cfg(feature = "dns")]
pub use sipora_transport::DnsResolver;
pub use sipora_transport::{
    ClientAuth, Destination, Flow, Network, Now, Pem, ResolveError, Resolver, Roots,
    StaticResolver, SystemResolver, Tls, TlsConfig, TlsError, TlsProvider, TokioNetwork, Transport,
    trace,
};

/// The programs of this crate's README.
#[cfg(all(doctest, feature = "pidf"))]
#[doc = include_str!("../README.md")]
struct Readme;
