//! A SIP registrar server.
#![forbid(unsafe_code)]

mod answer;
mod clock;
mod config;
mod domains;
mod engine;
mod error;
mod location;
mod metrics;
mod options;
mod pending;
mod policy;
mod refusal;
mod registrar;
mod users;

pub use config::CallCenterConfig;
pub use engine::{CallCenterEngine, EngineMetrics, ListenerAddress};
pub use error::{Error, Result};
pub use location::{
    AddressOfRecord, Answer, Applied, Binding, Change, ChangeError, ContactChange, Cursor, LocationStore, MemoryStore,
    Origin, Page, Registered, StoreError, Timestamp, Update, register,
};
pub use metrics::RegistrarMetrics;
pub use sipora_auth::{Algorithm, Secret};
pub use users::{UserStore, Users};
