//! The connections that registrations live on: how they are kept alive, and the news of their end.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sipora_message::Response;
use sipora_transaction_core::EndpointHandle;
use sipora_transport::{Flow, FlowId};
use tokio::sync::watch;

use crate::registration::now;

/// Tells those who live on a flow that it has ended.
///
/// It holds one entry for each flow that somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Entries>);

type Entries = BTreeMap<(FlowId, SocketAddr), watch::Sender<bool>>;

impl Board {
    /// A flow ended; over UDP, all that share its socket.
    pub(crate) fn closed(&self, flow: FlowId) {
        let mut entries = self.lock();
        let ended: Vec<_> = entries
            .range((flow, LOWEST)..)
            .map(|(key, _)| *key)
            .take_while(|key| key.0 == flow)
            .collect();
        for key in ended {
            if let Some(sender) = entries.remove(&key) {
                sender.send_replace(true);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What registrations know of flows.
pub(crate) struct Flows {
    pub(crate) board: Arc<Board>,
    pub(crate) endpoint: EndpointHandle,
    pub(crate) keep_alive: KeepAlive,
}

/// How the connections of registrations are kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// Not at all.
    Never,
    /// As the registrar says, else as seems sensible.
    Sensible,
    /// As configured for every connection, or more often if the registrar says so.
    Every(Duration),
}

impl Flows {
    /// Watches the connection over which a registrar granted a binding, and keeps it alive.
    ///
    /// Flows of UDP do not end by themselves.
    pub(crate) fn follow(&self, flow: Flow, granted: &Response) -> Option<Watched> {
        if !flow.transport.is_stream() {
            return None;
        }
        self.keep_alive(flow.id, granted);
        let key = (flow.id, flow.remote);
        let news = {
            let mut entries = self.board.lock();
            let sender = entries
                .entry(key)
                .or_insert_with(|| watch::Sender::new(false));
            sender.subscribe()
        };
        if !self.endpoint.is_open(flow.id) {
            // Its end may have been told before anybody watched.
            self.board.closed(flow.id);
        }
        Some(Watched {
            key,
            since: now(),
            news,
            board: self.board.clone(),
        })
    }

    /// RFC 5626 §4.4: "The UA MUST send keep-alives at least as often as this number of seconds". Who does not say so may not
    /// know what a ping is.
    fn keep_alive(&self, flow: FlowId, granted: &Response) {
        let wanted = granted.headers().flow_timer().ok().flatten();
        let wanted = wanted
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.into()).max(SHORTEST));
        match (self.keep_alive, wanted) {
            (KeepAlive::Never, _) | (KeepAlive::Every(_), None) => {}
            (KeepAlive::Sensible, None) => self.endpoint.try_keep_alive(flow, SENSIBLE),
            (KeepAlive::Sensible, Some(wanted)) => self.endpoint.keep_alive(flow, Some(wanted)),
            (KeepAlive::Every(every), Some(wanted)) => {
                self.endpoint.keep_alive(flow, Some(wanted.min(every)));
            }
        }
    }
}

/// A flow whose end its holder waits for.
#[derive(Debug)]
pub(crate) struct Watched {
    key: (FlowId, SocketAddr),
    since: Instant,
    news: watch::Receiver<bool>,
    board: Arc<Board>,
}

impl Watched {
    /// Waits for the end.
    pub(crate) async fn ended(&mut self) {
        // A sender that is gone without a word leaves nobody to tell of an end.
        if self.news.wait_for(|ended| *ended).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells how long the flow has served.
    pub(crate) fn age(&self) -> Duration {
        now().saturating_duration_since(self.since)
    }

    /// Counts from when an earlier watch of the same flow began.
    pub(crate) fn continues(mut self, earlier: Option<&Watched>) -> Watched {
        if let Some(earlier) = earlier.filter(|earlier| earlier.key == self.key) {
            self.since = earlier.since;
        }
        self
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut entries = self.board.lock();
        let is_last = |sender: &watch::Sender<bool>| sender.receiver_count() <= 1;
        if entries.get(&self.key).is_some_and(is_last) {
            entries.remove(&self.key);
        }
    }
}

const LOWEST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// RFC 5626 §4.4.1: "the default configurable upper bound SHOULD be 120 seconds".
const SENSIBLE: Duration = Duration::from_secs(120);
/// A registrar that wants pings more often has made a mistake.
const SHORTEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(board: &Arc<Board>, flow: u64) -> Watched {
        let key = (
            FlowId::from_u64(flow),
            "[2001:db8::1]:5060".parse().unwrap(),
        );
        let mut entries = board.lock();
        let sender = entries
            .entry(key)
            .or_insert_with(|| watch::Sender::new(false));
        Watched {
            key,
            since: now(),
            news: sender.subscribe(),
            board: board.clone(),
        }
    }

    #[tokio::test]
    async fn the_end_of_a_flow_is_told_to_those_who_live_on_it_alone() {
        let board = Arc::<Board>::default();
        let mut watches = [watched(&board, 1), watched(&board, 1), watched(&board, 2)];
        board.closed(FlowId::from_u64(1));
        let [one, two, other] = &mut watches;
        one.ended().await;
        two.ended().await;
        assert!(!*other.news.borrow());
        assert_eq!(board.lock().len(), 1, "the other one's");
    }

    #[tokio::test]
    async fn nothing_is_kept_for_flows_that_nobody_watches() {
        let board = Arc::<Board>::default();
        let (one, two) = (watched(&board, 1), watched(&board, 1));
        drop(one);
        assert_eq!(board.lock().len(), 1);
        drop(two);
        assert_eq!(board.lock().len(), 0);
    }
}
