//! Calls: INVITE, the dialogs that come of it, and BYE (RFC 3261 §12 to §15).
//!
//! [`Calls`](core::Calls) is the core, which knows neither sockets nor clocks; its parts are state machines, one a file:
//! an INVITE of ours ([`client`]), one of the peer's ([`server`]), a dialog ([`session`]), offer and answer ([`offer`]), the
//! reliable provisional answers to an INVITE ([`reliable`]). What is left of a call for another process is its [`state`].
//! [`user`] runs it inside an endpoint, and is asked by [`command`]s; [`api`] and [`handle`] are what applications see.

mod acks;
mod answered;
mod answering;
mod api;
mod asking;
mod bodies;
mod client;
mod command;
mod config;
mod core;
mod effect;
mod event;
mod extensions;
mod handle;
mod handover;
mod inbox;
mod incoming;
mod invited;
mod messages;
mod metrics;
mod obeying;
mod offer;
mod offered;
mod outgoing;
mod outside;
mod outside_api;
mod outside_taken;
mod packages;
mod places;
mod prack;
mod progressed;
mod reason;
mod record;
mod refer;
mod referred;
mod referring;
mod refused;
mod rejection;
mod reliable;
mod replacing;
mod request;
mod said;
#[cfg(feature = "serde")]
mod saved;
mod server;
mod session;
mod shards;
mod state;
mod telling;
mod timer;
mod update;
mod user;
mod ways;
mod withdrawn;
mod within;

use sipora_message::{Response, StatusCode};

pub(crate) use api::CallsApi;
pub use api::IncomingCalls;
pub use config::{CallConfig, Reliability};
pub use core::CallKey;
pub use event::{CallEnd, CallError, CallEvent, Invite};
pub use handle::{Call, ReferReporter};
pub use metrics::CallMetrics;
pub use outside_api::{IncomingRefer, IncomingRefers, OutgoingRefer, SentRefer};
pub use refer::{Refer, ReferAnswer, ReferId, ReferReport, Referral};
pub use rejection::Rejection;
pub use request::CallRequest;
pub use state::CallState;

/// What we understand in a call.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY, PRACK, UPDATE";

/// Times that a re-INVITE or UPDATE is sent again for 491. Each has one chance in two at least.
const MAX_GLARES: u8 = 8;

fn is_challenge(response: &Response) -> bool {
    matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
    )
}
