//! A SIP client: registration, OPTIONS and raw requests with digest authentication.
#![forbid(unsafe_code)]

mod api;
mod error;
mod handler;
mod incoming;
mod outgoing;
mod registration;
mod response;
mod uri;

pub use api::{ListenerAddress, SessionCoordinator, SessionManagerBuilder, SipClient};
pub use error::{Error, Result};
pub use handler::{Answer, Incoming, SessionHandler};
pub use registration::{Binding, RegistrationHandle, RegistrationState, RegistrationStates};
pub use response::SipResponse;

pub use sipora_auth::Credentials;
pub use sipora_dialog_core::TransactionId;
pub use sipora_message as message;
pub use sipora_message::{HeaderName, Method, Request, StatusCode, Uri};
pub use sipora_transaction_core::{Direction, IdSource, MessageObserver, Metrics, Timers, TransportFailure};
pub use sipora_transport::{Flow, Network, Now, Resolver, StaticResolver, SystemResolver, TokioNetwork, Transport};
