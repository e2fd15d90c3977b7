//! SIP transactions: the state machines of RFC 3261 §17 without I/O, and a tokio driver for them.
//!
//! The two main types are [`TransactionLayer`], a core that takes messages and time and gives back datagrams and events,
//! and [`Endpoint`], which runs that core over the flows of `sipora-transport` and hands requests to [`User`]s.
//! [`TransactionManager`] is an awaitable front for programs that only send requests.
#![forbid(unsafe_code)]

mod answers;
mod attempts;
mod config;
mod endpoint;
mod error;
mod event;
mod ids;
mod key;
mod layer;
mod machine;
mod manager;
mod metrics;
mod slab;
mod timers;

pub use answers::default_answer;
pub use attempts::OutgoingRequest;
pub use config::{Config, Timers};
pub use endpoint::{
    Claim, Context, Direction, Endpoint, EndpointBuilder, EndpointConfig, EndpointHandle,
    MessageObserver, RequestOptions, Target, User, UserHandle, owner,
};
pub use error::{
    CommandError, EndpointError, Gone, RequestError, SendError, TransactionError, TransportFailure,
};
pub use event::{Event, IncomingRequest, Open, Owner, Purpose, Transmit};
pub use ids::{AttemptId, Branch, CallId, IdSource, RequestId, ServerTransactionId, Tag};
pub use layer::TransactionLayer;
pub use manager::{TransactionId, TransactionManager};
pub use metrics::Metrics;
