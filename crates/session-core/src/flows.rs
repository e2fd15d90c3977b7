//! The connections that registrations live on: how they are kept alive, and the news of their end.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sipora_dialog_core::Exchange;
use sipora_transaction_core::EndpointHandle;
use sipora_transport::{Flow, FlowId, StunFailure};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::registration::{Jitter, now};

/// Tells those who live on a flow that it has ended.
///
/// It holds one entry for each flow that somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Entries>);

type Entries = BTreeMap<Key, Entry>;
type Key = (FlowId, SocketAddr);

/// A flow that somebody watches.
#[derive(Debug, Default)]
struct Entry {
    news: watch::Sender<Option<End>>,
    /// How a flow of UDP is kept alive, and what does it.
    udp: Option<UdpKeepAlive>,
    work: Option<AbortOnDrop>,
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It served.
    Served,
    /// RFC 5626 §4.5: "if keep-alives are in use on this flow, at least one subsequent keep-alive response was received", or it
    /// was no success.
    NeverAnswered,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

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
            if let Some(entry) = entries.remove(&key) {
                entry.news.send_replace(Some(End::Served));
            }
        }
    }

    /// A flow of UDP leads nowhere any more.
    fn failed(&self, key: Key, end: End) {
        let entry = self.lock().remove(&key);
        if let Some(entry) = entry {
            entry.news.send_replace(Some(end));
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
    pub(crate) udp: Option<UdpKeepAlive>,
}

/// What keeps the way of registrations over UDP open through a NAT, and finds out that it is not any more.
///
/// Without one, a NAT forgets the way after half a minute or some minutes, and requests of others do not arrive until the next
/// refresh. A registrar that asks for it gets [`Stun`](Self::Stun) whatever was set: with Flow-Timer, with `ob` in Path, or by taking our
/// offer of keep-alives (RFC 6223).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UdpKeepAlive {
    /// STUN Binding requests, each after a random 80 to 100 % of this time (RFC 5626 §4.4.2, which recommends 29 s). Where no
    /// answer comes, or the registrar sees us at another address than before, the registration is made anew. Only for a
    /// registrar, or outbound proxy, that is known to answer STUN on its SIP port (RFC 5626 §8), as that of Sipora does.
    Stun(Duration),
    /// Line ends, which nobody answers, each after a random 80 to 100 % of this time: the NAT keeps the way, and nothing is
    /// found out.
    LineEnds(Duration),
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

impl KeepAlive {
    /// How often connections are pinged because subscriptions live on them: those of every kind are, where that is configured.
    pub(crate) fn of_subscriptions(self) -> Option<Duration> {
        (self == KeepAlive::Sensible).then_some(SENSIBLE)
    }
}

impl Flows {
    /// Watches the flow over which a registrar granted a binding, and keeps it alive. `None` for one over UDP that is not kept
    /// alive, and whose end nobody would notice.
    pub(crate) fn follow(&self, exchange: &Exchange) -> Option<Watched> {
        let flow = exchange.flow;
        let udp = match flow.transport.is_stream() {
            true => {
                self.keep_alive(flow.id, wanted(exchange, SENSIBLE));
                None
            }
            false => Some(self.udp(exchange)?),
        };
        let key = (flow.id, flow.remote);
        let news = {
            let mut entries = self.board.lock();
            let entry = entries.entry(key).or_default();
            // The last REGISTER over a flow decides how it is kept alive.
            if entry.udp != udp {
                entry.udp = udp;
                entry.work = udp.map(|udp| AbortOnDrop(self.work(flow, udp)));
            }
            entry.news.subscribe()
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

    /// Says whether registrars are told that keep-alives can be had (RFC 6223).
    pub(crate) fn offers_keep_alives(&self) -> bool {
        self.keep_alive != KeepAlive::Never
    }

    /// RFC 5626 §8: no STUN without "an explicit indication": a Flow-Timer, `ob` in the Path, our offer that was taken
    /// (RFC 6223), or a setting.
    fn udp(&self, exchange: &Exchange) -> Option<UdpKeepAlive> {
        let has_ob = || {
            let headers = exchange.response.headers();
            let mut paths = headers.path().filter_map(Result::ok);
            paths.any(|path| path.uri().param("ob").is_some())
        };
        let wanted = wanted(exchange, SENSIBLE_UDP).or_else(|| has_ob().then_some(SENSIBLE_UDP));
        match (self.udp, wanted) {
            (Some(UdpKeepAlive::Stun(every)), Some(wanted)) => {
                Some(UdpKeepAlive::Stun(every.min(wanted)))
            }
            (_, Some(wanted)) if self.keep_alive != KeepAlive::Never => {
                Some(UdpKeepAlive::Stun(wanted))
            }
            (set, _) => set,
        }
    }

    /// Keeps a flow of UDP alive for as long as somebody watches it.
    fn work(&self, flow: Flow, udp: UdpKeepAlive) -> AbortHandle {
        let endpoint = self.endpoint.clone();
        let UdpKeepAlive::Stun(every) = udp else {
            return tokio::spawn(line_ends(endpoint, flow, udp)).abort_handle();
        };
        let board = Arc::downgrade(&self.board);
        let work = async move {
            let failure = endpoint.stun_keep_alive(flow, every).await;
            tracing::info!(peer = %flow.remote, %failure, "the way to the registrar is lost");
            let end = match failure {
                StunFailure::NoAnswer {
                    was_answered: false,
                }
                | StunFailure::Refused(_) => End::NeverAnswered,
                _ => End::Served,
            };
            if let Some(board) = board.upgrade() {
                board.failed((flow.id, flow.remote), end);
            }
        };
        tokio::spawn(work).abort_handle()
    }

    /// RFC 5626 §4.4: "The UA MUST send keep-alives at least as often as this number of seconds". Who does not say so may not
    /// know what a ping is.
    fn keep_alive(&self, flow: FlowId, wanted: Option<Duration>) {
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

/// How often who granted a binding wants keep-alives: what Flow-Timer says, what stands in the place of our offer (RFC 6223), or the
/// shorter of the two. `ours` is for who wants them and does not say how often.
fn wanted(exchange: &Exchange, ours: Duration) -> Option<Duration> {
    let timer = exchange.response.headers().flow_timer().ok().flatten();
    let timer = timer
        .filter(|seconds| *seconds > 0)
        .map(|seconds| Duration::from_secs(seconds.into()));
    let taken = exchange.keep_alive().map(|every| match every {
        Duration::ZERO => ours,
        every => every,
    });
    let wanted = [timer, taken].into_iter().flatten().min();
    wanted.map(|every| every.max(SHORTEST))
}

async fn line_ends(endpoint: EndpointHandle, flow: Flow, udp: UdpKeepAlive) {
    let (UdpKeepAlive::Stun(every) | UdpKeepAlive::LineEnds(every)) = udp;
    let every = every.max(Duration::from_secs(1));
    let mut random = RandomState::new();
    loop {
        let jitter = Jitter::new(random.hash_one(flow.id));
        random = RandomState::new();
        let latest = every.min(LONGEST);
        tokio::time::sleep(jitter.between(latest / 10 * 8, latest)).await;
        endpoint.send_line_ends(&flow);
    }
}

/// A flow whose end its holder waits for.
#[derive(Debug)]
pub(crate) struct Watched {
    key: Key,
    since: Instant,
    news: watch::Receiver<Option<End>>,
    board: Arc<Board>,
}

impl Watched {
    /// Waits for the end.
    pub(crate) async fn ended(&mut self) {
        // A sender that is gone without a word leaves nobody to tell of an end.
        if self.news.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells how long the flow has served.
    pub(crate) fn age(&self) -> Duration {
        match *self.news.borrow() {
            Some(End::NeverAnswered) => Duration::ZERO,
            _ => now().saturating_duration_since(self.since),
        }
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
        let is_last = |entry: &Entry| entry.news.receiver_count() <= 1;
        // Ended and begun again by somebody else: then the entry is that one's.
        let is_ours = self.news.borrow().is_none();
        if is_ours && entries.get(&self.key).is_some_and(is_last) {
            entries.remove(&self.key);
        }
    }
}

const LOWEST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// RFC 5626 §4.4.1: "the default configurable upper bound SHOULD be 120 seconds".
const SENSIBLE: Duration = Duration::from_secs(120);
/// RFC 5626 §4.4.2: "SHOULD be a random number between 24 and 29 seconds".
const SENSIBLE_UDP: Duration = Duration::from_secs(29);
/// Longer than any NAT remembers.
const LONGEST: Duration = Duration::from_secs(86_400);
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
        let entry = entries.entry(key).or_default();
        Watched {
            key,
            since: now(),
            news: entry.news.subscribe(),
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
        assert!(other.news.borrow().is_none());
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
