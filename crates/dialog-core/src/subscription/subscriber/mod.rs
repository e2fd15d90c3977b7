//! The side that subscribes (RFC 6665 §4.1).

mod api;
mod core;
mod event;
mod inbox;
mod usage;
mod user;

pub use api::{SubscriberApi, Subscription};
pub use core::{Subscribe, SubscribeError, Subscriber, SubscriberConfig};
pub use event::{
    Notification, NotifyAnswer, SubscriberEvent, SubscriberRequest, SubscriptionEnd,
    SubscriptionId, SubscriptionState,
};
