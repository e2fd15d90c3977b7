//! SIP requests outside and inside dialogs, with authenticated retry, and calls.
//!
//! The two main types are [`UnifiedDialogApi`], which sends a request through an
//! [`Endpoint`](sipora_transaction_core::Endpoint) and waits for its final answer, and [`Authorizer`], which answers the
//! challenges on the way; [`DigestAuthorizer`] does so with digest credentials. Within dialogs ([`Dialog`]) there are
//! subscriptions: [`SubscriberApi`] asks, [`NotifierApi`] tells. And there are calls: [`UnifiedDialogApi::invite`] makes them,
//! [`IncomingCalls`] gives those that come, and a [`Call`] is one of either.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use sipora_dialog_core::{ApiError, UnifiedDialogApi};
//! use sipora_message::{Method, Request, Uri};
//! use sipora_transaction_core::Endpoint;
//! use sipora_transport::Transport;
//! use std::time::Duration;
//!
//! let mut builder = Endpoint::builder().listen(Transport::Udp, "127.0.0.1:0".parse()?);
//! let dialogs = UnifiedDialogApi::add_to(&mut builder);
//! let endpoint = builder.build().await?;
//!
//! let request = Request::builder(Method::Options, &Uri::parse("sip:127.0.0.1:9")?)
//!     .to("<sip:127.0.0.1:9>")
//!     .from("<sip:probe@127.0.0.1>;tag=a1")
//!     .call_id("an-example")
//!     .cseq(1)
//!     .build()?;
//! let nobody = "127.0.0.1:9".parse()?;
//! match dialogs.send_non_dialog_request(request, nobody, Duration::from_millis(50)).await {
//!     Ok(response) => println!("{}", response.status()),
//!     Err(ApiError::Timeout { .. } | ApiError::Transport { .. }) => println!("nobody there"),
//!     Err(error) => return Err(error.into()),
//! }
//! endpoint.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! A call, both sides of which are here:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use sipora_dialog_core::{Body, CallConfig, CallEnd, Invite, UnifiedDialogApi};
//! use sipora_message::Uri;
//! use sipora_transaction_core::Endpoint;
//! use sipora_transport::Transport;
//!
//! let mut builder = Endpoint::builder().listen(Transport::Udp, "127.0.0.1:0".parse()?);
//! let (dialogs, mut incoming) = UnifiedDialogApi::add_with_calls(&mut builder, CallConfig::default());
//! let endpoint = builder.build().await?;
//! let (_, address) = endpoint.handle().local_addresses()[0];
//!
//! // Bob rings, answers, and waits for the end.
//! let bob = tokio::spawn(async move {
//!     let mut call = incoming.next().await?;
//!     call.ring().await.ok()?;
//!     call.accept(Body::new("application/sdp", "v=0\r\n")).await.ok()?;
//!     Some(call.ended().await)
//! });
//!
//! // Alice calls, waits for the answer, and hangs up.
//! let (to, from) = (format!("sip:bob@{address}"), format!("sip:alice@{address}"));
//! let invite = Invite::new(Uri::parse(&to)?, Uri::parse(&from)?, Uri::parse(&from)?)
//!     .body(Body::new("application/sdp", "v=0\r\n"));
//! let mut call = dialogs.invite(invite, None).await?;
//! if let Ok(response) = call.answered().await {
//!     println!("{} {}", response.status(), response.reason());
//!     call.hang_up().await?;
//! }
//! assert!(matches!(call.ended().await, CallEnd::HungUp));
//! assert!(matches!(bob.await?, Some(CallEnd::PeerHungUp(_))));
//! endpoint.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! A process that is to be replaced lets go of its calls without a BYE ([`UnifiedDialogApi::detach_calls`]), and the next goes on
//! with them ([`UnifiedDialogApi::restore_call`]); what goes from one to the other is [`CallState`].
//!
//! OPTIONS within a call is answered here. Outside of calls, where trunks and proxies ask by it whether anybody is there, it gets 405
//! from the endpoint, unless a user of the endpoint takes it, as session-core has one, or [`CallConfig::answers_options`] is set
//! (RFC 3261 §11.2).
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `serde` | no | [`CallState`] can be serialised and deserialised |
//!
//! # Where the RFCs are
//!
//! | clause | module or item |
//! | --- | --- |
//! | RFC 3261 §8.1.1, what a request must have | [`ApiError::InvalidRequest`] |
//! | RFC 3261 §8.1.2, where it goes | [`next_hop`] |
//! | RFC 3261 §8.1.3.5 and §22.2, retry with credentials | [`UnifiedDialogApi::send_authorized`] |
//! | RFC 3261 §8.2.3, bodies that nobody understands | [`has_foreign_body`], [`CallConfig::body_types`] |
//! | RFC 3261 §12, dialogs | [`Dialog`] |
//! | RFC 3261 §13, §14, §15 and §9, calls; RFC 5407, their races | [`Call`], [`CallEvent`], [`CallEnd`] |
//! | RFC 3262, reliable provisional answers | [`Call::progress_reliably`], [`Call::acknowledge_progress`], [`Reliability`] |
//! | RFC 3311, UPDATE; RFC 6141, what it means for re-INVITEs | [`Call::update`], [`CallEvent::Offered`], [`CallEvent::ReinviteUndone`] |
//! | RFC 3264, RFC 6337 §2, who owes an offer or an answer | [`Call::accept`], [`Call::acknowledge`], [`Call::reinvite`] |
//! | RFC 6086, INFO; RFC 5057, what a failed request ends | [`Call::request`], [`CallEvent::Info`] |
//! | RFC 3515, RFC 4488, REFER; RFC 5057 §5.5, a dialog that it shares with a call | [`Call::refer`], [`CallEvent::Referred`] |
//! | RFC 3515, RFC 6665 §4.4.1, REFER outside of dialogs | [`UnifiedDialogApi::refer`], [`IncomingRefers`] |
//! | RFC 3891, Replaces; RFC 4538, Target-Dialog | [`Call::replaces`], [`Call::accept_replacing`], [`Refer::to_call`], [`Call::target_dialog`] |
//! | RFC 3326, Reason | [`Call::hang_up_because`], [`CallEnd::PeerCancelled`], [`CallEnd::was_answered_elsewhere`] |
//! | RFC 4028, session timers | [`CallConfig::session_expires`], [`CallEnd::Expired`] |
//! | RFC 3261 §22, RFC 7616, RFC 8760, digest | [`DigestAuthorizer`] |
//! | RFC 6665 §4.1, subscribers | [`Subscriber`], [`SubscriberApi`] |
//! | RFC 6665 §4.2, notifiers | [`Notifier`], [`NotifierApi`], [`NotifierRunner`] |
//! | RFC 6665 §5, event packages, their pace (§5.4.10) | [`EventPackage`] |
#![forbid(unsafe_code)]

mod api;
mod authorizer;
mod call;
mod check;
mod contact;
mod dialog;
mod error;
mod exchange;
mod foreign;
mod next_hop;
mod numbered;
mod outbox;
mod subscription;
mod user;

pub use api::UnifiedDialogApi;
pub use authorizer::{Authorizer, DigestAuthorizer};
pub use call::{
    Call, CallConfig, CallEnd, CallError, CallEvent, CallKey, CallMetrics, CallRequest, CallState,
    IncomingCalls, IncomingRefer, IncomingRefers, Invite, OutgoingRefer, Refer, ReferAnswer,
    ReferId, ReferReport, ReferReporter, Referral, Rejection, Reliability, SentRefer,
};
pub use dialog::{Dialog, DialogError, DialogId};
pub use error::{ApiError, ApiResult};
pub use exchange::{Exchange, TransactionId};
pub use foreign::has_foreign_body;
pub use next_hop::next_hop;
pub use sipora_transaction_core::Target;
pub use subscription::{
    Body, BodyRefusal, CustomPackage, Decision, EventPackage, EventSource, Forking,
    MessageSummaryPackage, Notification, Notifier, NotifierApi, NotifierConfig, NotifierEnd,
    NotifierError, NotifierRequest, NotifierRunner, NotifierSubscription, NotifyAnswer, Offer,
    PresencePackage, RefreshFailure, Resubscribe, Subscribe, SubscribeError, Subscribed,
    Subscriber, SubscriberApi, SubscriberConfig, SubscriberEvent, SubscriberRequest, Subscription,
    SubscriptionEnd, SubscriptionId, SubscriptionKey, SubscriptionState, TerminationReason,
    refresh_after,
};

/// The program of this crate's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
