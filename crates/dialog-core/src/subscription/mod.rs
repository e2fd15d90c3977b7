//! The subscription usage of a dialog (RFC 6665): [`Subscriber`] asks, [`Notifier`] tells.
//!
//! Both are state machines without I/O and without a clock; [`SubscriberApi`] and [`NotifierApi`] run them inside an
//! endpoint. What an event package adds is an [`EventPackage`].

mod notifier;
mod package;
mod reason;
mod subscriber;
mod timing;

pub use notifier::{
    Body, Decision, EventSource, Notifier, NotifierApi, NotifierConfig, NotifierEnd, NotifierError,
    NotifierRequest, NotifierRunner, NotifierSubscription, Offer, Subscribed, SubscriptionKey,
};
pub use package::{
    BodyRefusal, CustomPackage, EventPackage, Forking, MessageSummaryPackage, PresencePackage,
};
pub use reason::{Resubscribe, TerminationReason};
pub use subscriber::{
    Notification, NotifyAnswer, RefreshFailure, Subscribe, SubscribeError, Subscriber,
    SubscriberApi, SubscriberConfig, SubscriberEvent, SubscriberRequest, Subscription,
    SubscriptionEnd, SubscriptionId, SubscriptionState,
};
pub use timing::refresh_after;
