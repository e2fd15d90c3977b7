//! What users call.

mod builder;
mod client;
mod coordinator;

pub use builder::SessionManagerBuilder;
pub use client::SipClient;
pub use coordinator::{ListenerAddress, SessionCoordinator};
