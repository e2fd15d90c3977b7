//! A SIP server: a registrar (RFC 3261 §10.3) that carries messages between its users (RFC 3428) and tells them of each
//! other's presence (RFC 3856).
//!
//! [`CallCenterEngine`] is the server: it owns sockets, answers REGISTER and OPTIONS, knows who is registered where,
//! relays MESSAGE and OPTIONS to them, and answers SUBSCRIBE and PUBLISH for their presence.
//! [`CallCenterConfig`] says what it listens on, which domains it serves, and who its users are.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), sipora_call_engine::Error> {
//! use sipora_call_engine::{CallCenterConfig, CallCenterEngine};
//!
//! let config = CallCenterConfig::new()
//!     .with_udp_listener("127.0.0.1:0")
//!     .with_tcp_listener("127.0.0.1:0")
//!     .with_domain("example.com")
//!     .with_user("alice", "wonderland");
//! let engine = CallCenterEngine::new(config).await?;
//! for listener in engine.listeners() {
//!     println!("listening on {listener}");
//! }
//! assert_eq!(engine.binding_count().await?, 0);
//! engine.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! # Stores
//!
//! Bindings live in a [`LocationStore`], in memory ([`MemoryStore`]) unless another is given; users come from a list
//! ([`Users`], filled by the program or from a file) or from a [`UserStore`]. Both traits answer at once or later, so that a
//! database may take its time without stopping the server. The rules of RFC 3261 §10.3 are one function, [`register`], that
//! every location store runs inside its own transaction.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `tls-ring`, `tls-aws-lc-rs` | no | TLS listeners, with one library of cryptography or the other |
//! | `ws` | no | WebSocket listeners; within TLS with one of the above |
//!
//! # RFC sections
//!
//! | section | what |
//! | --- | --- |
//! | RFC 3261 §10.3 | the registrar; steps 1 to 5 and 8 in `registrar`, 6 and 7 in `policy` and [`register`] |
//! | RFC 3261 §11.2 | OPTIONS to the server |
//! | RFC 3261 §16, RFC 4320 §4.2, RFC 5393 §4.2, §5 | MESSAGE and OPTIONS to a user, relayed to every contact: `relay` |
//! | RFC 3856, RFC 6665 §4.2 | presence: `presence::subscribing`, `presence::telling`, over dialog-core's `Notifier` |
//! | RFC 6665 §4.1.3 | NOTIFY gets 481, as nothing is watched from here: `notify` |
//! | RFC 3903 §6 | publications: `presence::publications` |
//! | RFC 3863 §4.1 | the composed document: `presence::compose` |
//! | RFC 3261 §8.2.2 | Require: 420 with Unsupported, as no extension is supported |
//! | RFC 3261 §19.1.4 | contacts compare as URIs, pairwise |
//! | RFC 3261 §22, RFC 7616, RFC 8760 | digest authentication, through `sipora-auth`; one realm a domain |
//! | RFC 6223 | `keep` in the Via of a REGISTER is accepted; a connection over which no keep-alive comes is closed |
//! | RFC 5630 §5.2 | one address for `sip:` and `sips:`; a SIPS Contact needs a SIPS Request-URI |
//!
//! SUBSCRIBE is answered here and never relayed: one for another event than `presence` gets 489, whatever the user's devices
//! could do.
//!
//! Not supported, and not claimed in `Supported`: Path (RFC 3327), Outbound (RFC 5626), GRUU (RFC 5627).
#![forbid(unsafe_code)]

mod answer;
mod clock;
mod config;
mod domains;
mod engine;
mod error;
mod gate;
mod keep_alive;
mod location;
mod lookup;
mod metrics;
mod notify;
mod options;
mod pace;
mod pending;
mod policy;
mod presence;
mod refusal;
mod registrar;
mod relay;
mod source;
mod users;

pub use config::CallCenterConfig;
pub use engine::{CallCenterEngine, EngineMetrics, ListenerAddress};
pub use error::{Error, Result};
pub use location::{
    AddressOfRecord, Answer, Applied, Binding, Change, ChangeError, ContactChange, Cursor,
    LocationStore, MemoryStore, Origin, Page, Registered, StoreError, Timestamp, Update, register,
};
pub use metrics::RegistrarMetrics;
pub use presence::{PresenceConfig, PresenceMetrics, WatcherDecision, WatcherPolicy};
pub use relay::RelayMetrics;
pub use sipora_auth::{Algorithm, Secret};
pub use sipora_message as message;
pub use sipora_transaction_core::{Direction, IdSource, MessageObserver, Observed, Timers};
pub use sipora_transport::{
    ClientAuth, Flow, FlowId, Network, Now, Pem, Roots, Tls, TlsConfig, TlsError, TlsProvider,
    Transport, TransportConfig, trace,
};
pub use users::{UserStore, Users};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
