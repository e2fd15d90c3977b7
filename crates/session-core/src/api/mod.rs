//! What users call.

mod assembly;
mod builder;
mod client;
mod coordinator;
mod settings;

pub use builder::SessionManagerBuilder;
pub use client::SipClient;
pub use coordinator::{ListenerAddress, SessionCoordinator};
