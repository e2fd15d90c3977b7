//! The side that subscribes (RFC 6665 §4.1).

mod answers;
mod api;
mod config;
mod core;
mod event;
mod inbox;
mod notifies;
mod set;
mod usage;
mod user;

pub use api::{SubscriberApi, Subscription};
pub use config::{Subscribe, SubscribeError, SubscriberConfig};
pub use core::Subscriber;
pub use event::{
    Notification, NotifyAnswer, RefreshFailure, SubscriberEvent, SubscriberRequest,
    SubscriptionEnd, SubscriptionId, SubscriptionState,
};
