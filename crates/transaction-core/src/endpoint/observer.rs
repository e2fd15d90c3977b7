//! A hook that sees every message.

use sipora_transport::{Flow, Now};

/// Says which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It was received.
    In,
    /// It was handed to its flow.
    Out,
}

/// Sees every message of an endpoint as it came or left, for logs and tests. Bytes may hold credentials.
///
/// It runs inside the endpoint's task and must not block.
pub trait MessageObserver: Send + Sync + 'static {
    /// Sees one message.
    fn on_message(&self, now: Now, direction: Direction, flow: &Flow, bytes: &[u8]);
}
