//! Calls: the rules of RFC 3261 §12 to §15 against a phone that does what a test tells it, and the flows of RFC 3665, RFC 5359 and
//! RFC 5407 between two user agents, on the simulated network and under the wire auditor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(unreachable_pub)]

mod after_bye;
mod any_peer;
mod callee;
mod caller;
mod early_answers;
mod early_dialogs;
mod ends;
mod flows_3665;
mod flows_5359;
mod forks;
mod handover;
mod handover_rough;
#[cfg(feature = "serde")]
mod handover_saved;
mod messages;
mod patient;
mod proxy;
mod races_5407;
mod reasons;
mod refer;
mod refer_outside;
mod refers_ending;
mod refreshes;
mod reinvite_answers;
mod reliable_callee;
mod reliable_caller;
mod replaces;
mod rough;
mod sharded;
mod support;
mod targets;
mod targets_6141;
mod timer;
mod too_short;
mod undone;
mod updates;
#[cfg(feature = "serde")]
mod used_up;
mod withdrawn;
