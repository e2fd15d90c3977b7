//! The driver: a core, its flows and its users in one task.

mod builder;
mod context;
mod core;
mod handle;
mod observer;
mod shard;
mod target;
mod user;

pub use builder::{Endpoint, EndpointBuilder, EndpointConfig};
pub use context::Context;
pub use handle::EndpointHandle;
pub use shard::owner;
pub use target::{RequestOptions, Target};
pub use user::{Claim, User, UserHandle};
