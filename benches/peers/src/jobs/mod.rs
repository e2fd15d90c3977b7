//! The job, once for each parser: parse the datagram, validate it, hand over the values.
//!
//! Validating means for each that a message without a readable top Via, From, To, Call-ID and CSeq is refused, a request
//! whose CSeq names another method too, and a Max-Forwards or a Contact that cannot be read. Each parser does it with
//! the cheapest calls that its documentation offers; where it has no validator, reading the typed header is it.

pub mod ezk;
pub mod rsip;
pub mod rsipstack;
pub mod rvoip;
pub mod sipora;

/// Why a message was refused, for the report.
pub type Refusal = Box<dyn std::error::Error>;
