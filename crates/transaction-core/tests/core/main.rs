//! The core alone, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod attempts;
mod avoiding;
mod bench;
mod cancelling;
mod client_invite;
mod client_non_invite;
mod limits;
mod matching;
mod merged;
mod server_invite;
mod server_non_invite;
mod timer_c;
