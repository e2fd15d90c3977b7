//! Bodies of notifications, as types.

mod message_summary;
#[cfg(feature = "pidf")]
mod pidf;

pub use message_summary::{MessageCount, MessageSummary};
#[cfg(feature = "pidf")]
pub use pidf::{Basic, Extension, Presence, Tuple};

/// Says why a body cannot be read as what it claims to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {reason}")]
pub struct BodyError {
    pub(crate) kind: &'static str,
    pub(crate) reason: String,
}

impl BodyError {
    pub(crate) fn new(kind: &'static str, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }
}
