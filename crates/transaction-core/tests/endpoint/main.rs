//! The endpoint with its users: on a simulated network in virtual time, and on the loopback interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod addresses;
mod audited;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
#[path = "../../../sip-transport/tests/authority/mod.rs"]
mod authority;
mod claims;
#[cfg(feature = "dns")]
mod dns;
mod forwarding;
mod lifecycle;
mod loopback;
mod manager;
#[cfg(feature = "dns")]
#[path = "../../../sip-transport/tests/name_server/mod.rs"]
mod name_server;
mod shards;
mod simulated;
mod slow;
mod stage;
mod streams;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod tls;
mod torture;
