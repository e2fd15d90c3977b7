//! The side that notifies (RFC 6665 §4.2).

mod api;
mod core;
mod offer;
mod runner;

pub use api::{EventSource, NotifierApi};
pub use core::{Notifier, NotifierConfig, NotifierRequest, NotifierSubscription, SubscriptionKey};
pub use offer::{Body, Decision, NotifierError, Offer, Subscribed};
pub use runner::NotifierRunner;
