//! Subscriptions of others to what this application tells (RFC 6665 §4.2).

mod handle;
mod shared;
mod user;

pub use handle::{SubscribeAnswer, Watcher, WatcherEnd};
pub(crate) use shared::{Board, Shared};
pub(crate) use user::{Command, Decision, WatcherUser};
