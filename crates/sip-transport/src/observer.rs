//! The hook that sees every message.

use crate::{Flow, Now};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Says which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It was received.
    In,
    /// It was handed to its flow.
    Out,
}

/// Shows one message on its way. Its bytes may hold credentials.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// When it was seen.
    pub now: Now,
    /// Which way it went.
    pub direction: Direction,
    /// What it went over, with the peer's address.
    pub flow: Flow,
    /// Our address: what the peer sent to, or sees as the source. Of a socket that is bound to a wildcard, the address that
    /// packets to this peer leave from.
    pub local: SocketAddr,
    /// The message as it stands on the wire, in clear where the transport is encrypted. Of a stream that cannot be divided
    /// into messages, what was read and makes no sense.
    pub bytes: &'a [u8],
}

/// Sees every message of its [`Transports`](crate::Transports), for traces, logs and tests: what came and what was sent, over
/// every transport, retransmissions and bytes that are no message included. Keep-alives are not shown.
///
/// It runs inside the tasks that receive and send, and must not block: [`Tracer`](crate::trace::Tracer) is one that hands
/// everything to a thread. A message that leaves is shown before its answer can come, and so also when its flow then fails.
pub trait MessageObserver: Send + Sync + 'static {
    /// Sees one message.
    fn on_message(&self, message: &Observed<'_>);
}

/// The observer of some transports, if they have one.
#[derive(Clone, Default)]
pub(crate) struct Observer(pub(crate) Option<Arc<dyn MessageObserver>>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
