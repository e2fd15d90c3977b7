//! The side that notifies (RFC 6665 §4.2).

mod api;
mod config;
mod core;
mod offer;
mod runner;
mod subscribes;
mod usage;

pub use api::{EventSource, NotifierApi};
pub use config::NotifierConfig;
pub use core::Notifier;
pub use offer::{
    Body, Decision, NotifierEnd, NotifierError, NotifierRequest, NotifierSubscription, Offer,
    Subscribed, SubscriptionKey,
};
pub use runner::NotifierRunner;
