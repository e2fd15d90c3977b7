//! Calls with SIPp, over real UDP: its built-in scenarios, and those in `tests/scenarios`. Skipped where SIPp is not installed,
//! unless `SIPORA_REQUIRE_PEERS` is set.
//!
//! `SIPORA_CALLS` and `SIPORA_RATE` (calls a second) raise the load; the defaults leave room on a machine that does much else.
//! Time is real, but for what a call or its leftovers wait for without a peer: then the clock is put forward.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]
#![allow(unreachable_pub)]

mod built_in;
mod cancelled;
mod changed;
mod early;
mod everything;
mod forked;
mod peer;
mod timers;
mod transferred;
