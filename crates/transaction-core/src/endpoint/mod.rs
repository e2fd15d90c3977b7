//! The driver: cores, their flows and their users in a task for each shard.

mod builder;
mod context;
mod core;
mod handle;
mod listeners;
mod observer;
mod router;
mod shard;
mod signal;
mod target;
mod user;

pub use builder::{Endpoint, EndpointBuilder, EndpointConfig};
pub use context::Context;
pub use handle::EndpointHandle;
pub use router::owner;
pub use target::{RequestOptions, Target};
pub use user::{Claim, User, UserHandle};
