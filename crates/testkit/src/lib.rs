//! What Sipora's own tests stand on: a simulated network, a runner of seeds, a wire auditor, and fixtures. Not published.
//!
//! [`SimNetwork`] is a network in one process, in virtual time: it loses, duplicates, reorders and delays datagrams, delays,
//! fragments and resets connections, and parts hosts, all from one seed. Its [`SimHost`]s implement
//! [`Network`](sipora_transport::Network), so that whatever is written against that trait runs on it. [`for_each_seed`] runs a
//! scenario under many seeds and says how to replay the one that failed. The network's [`Auditor`](audit::Auditor) watches
//! every message, and fails scenarios in which one breaks a rule of RFC 3261.
//!
//! ```
//! use sipora_testkit::{Conditions, for_each_seed};
//! use sipora_transport::{TransportConfig, Transports};
//! use std::sync::Arc;
//!
//! for_each_seed(0..3, |network| async move {
//!     network.set_conditions(Conditions { loss: 0.0, ..Conditions::rough() });
//!     let host = network.host("192.0.2.1".parse().unwrap());
//!     let (transports, _inbound) = Transports::new(Arc::new(host), TransportConfig::default());
//!     let sockets = transports.bind_udp("192.0.2.1:5060".parse().unwrap(), 1).unwrap();
//!     assert_eq!(sockets[0].local_addr().port(), 5060);
//! });
//! ```

#![forbid(unsafe_code)]

pub mod audit;
pub mod fixtures;
mod log;
mod seeds;
mod sim;

pub use log::{Fate, Packet};
pub use seeds::{for_each_seed, seeds};
pub use sim::{Conditions, SimHost, SimNetwork};

/// The programs of the project's README: they have to compile. Here, since a published crate cannot reach that file.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct ProjectReadme;

/// This crate's own README, whose program has to run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
