//! Calls between user agents of this crate, and with peers that do as a test tells them, on the simulated network.
//!
//! `SIPORA_SEEDS=1000` runs more seeds of what is tested on bad networks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod agreed;
mod attended;
mod calling;
mod challenged;
mod early;
mod exchange;
mod given_up;
mod handover;
mod heard;
mod held;
mod misused;
mod phone;
mod pickup;
mod redirected;
mod requested;
mod rough;
#[path = "../support/mod.rs"]
mod support;
mod taking;
mod transferred;
mod unanswered;
mod updated;
