//! The core: every transaction of one shard, without I/O and without a clock.

mod client;
mod requests;
mod server;

use crate::attempts::{Client, Exchange};
use crate::avoid::Avoided;
use crate::key::{KeyMaker, KeyMap};
use crate::machine::Alarm;
use crate::merged::{Origin, Origins};
use crate::server::Server;
use crate::shelf::Shelf;
use crate::slab::{MOST_VALUES, Slab, is_mostly_empty};
use crate::timers::{Clock, Entry, Holder, Tick, TimerQueue, Whose};
use crate::{
    AttemptId, Config, Event, IdSource, IncomingRequest, Metrics, Open, Owner, Purpose,
    ServerTransactionId, Tag, Transmit, TransportFailure,
};
use bytes::Bytes;
use sipora_message::{Message, Request, StatusCode};
use sipora_transport::{Flow, FlowId, Now};
use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

/// Runs the transactions of RFC 3261 §17: messages and time go in, bytes and events come out.
///
/// After each call of a `handle_…`, `send_request`, `respond` and so on, its owner drains
/// [`poll_transmit`](Self::poll_transmit), [`poll_open`](Self::poll_open) and [`poll_event`](Self::poll_event), and calls
/// [`handle_timeout`](Self::handle_timeout) not before [`poll_timeout`](Self::poll_timeout).
pub struct TransactionLayer {
    config: Config,
    ids: IdSource,
    keys: KeyMaker,
    exchanges: Slab<Exchange>,
    clients: Slab<Client>,
    client_keys: KeyMap,
    /// The client transactions on each way, to be found when it fails: a connection's number, or the hash of a socket and a
    /// peer, and the transaction.
    clients_on: BTreeSet<(u64, u64)>,
    avoided: Avoided,
    servers: Slab<Server>,
    server_keys: KeyMap,
    /// The final answers of [`servers`](Self::servers).
    shelf: Shelf,
    origins: Origins,
    /// Of the request that a user was asked about last: who takes it is known by the same.
    last_origin: Option<(ServerTransactionId, Owner, Option<Origin>)>,
    timers: TimerQueue,
    clock: Clock,
    transmits: VecDeque<Transmit>,
    opens: VecDeque<Open>,
    events: VecDeque<(Owner, Event)>,
    draining: bool,
    metrics: Metrics,
}

impl TransactionLayer {
    /// Makes a core without transactions.
    pub fn new(config: Config, mut ids: IdSource) -> Self {
        let keys = KeyMaker::new(&mut ids);
        Self::of_shard(0, config, ids, keys)
    }

    /// Makes the cores of an endpoint, one for each shard, which share the caps evenly. They have one secret, so
    /// that all give a copy of a request the same To tag; their ids and branches tell them apart.
    pub(crate) fn shards(config: Config, mut ids: IdSource, shards: u8) -> Vec<Self> {
        if shards < 2 {
            return vec![Self::new(config, ids)];
        }
        let keys = KeyMaker::new(&mut ids);
        let share = |cap: usize| cap.div_ceil(usize::from(shards));
        let config = Config {
            max_server_transactions: share(config.max_server_transactions),
            max_requests: share(config.max_requests),
            max_client_transactions: share(config.max_client_transactions),
            max_avoided: share(config.max_avoided),
            ..config
        };
        (0..shards)
            .map(|shard| {
                let ids = ids.split().of_shard(shard);
                Self::of_shard(shard, config.clone(), ids, keys.clone())
            })
            .collect()
    }

    fn of_shard(shard: u8, mut config: Config, ids: IdSource, keys: KeyMaker) -> Self {
        for cap in [
            &mut config.max_server_transactions,
            &mut config.max_requests,
            &mut config.max_client_transactions,
        ] {
            *cap = (*cap).min(MOST_VALUES);
        }
        Self {
            keys,
            avoided: Avoided::new(config.max_avoided),
            config,
            ids,
            exchanges: Slab::of_shard(shard),
            clients: Slab::of_shard(shard),
            client_keys: KeyMap::default(),
            clients_on: BTreeSet::new(),
            servers: Slab::of_shard(shard),
            server_keys: KeyMap::default(),
            shelf: Shelf::default(),
            origins: Origins::default(),
            last_origin: None,
            timers: TimerQueue::default(),
            clock: Clock::default(),
            transmits: VecDeque::new(),
            opens: VecDeque::new(),
            events: VecDeque::new(),
            draining: false,
            metrics: Metrics::default(),
        }
    }

    /// Takes a message that came in. The top Via of a request has been stamped
    /// ([`sipora_transport::stamp`]).
    ///
    /// Gives back a request that matched no transaction, for a user to claim with [`assign`](Self::assign) and to answer;
    /// everything else has been dealt with.
    #[must_use = "the request waits for an answer"]
    pub fn handle_message(
        &mut self,
        now: Now,
        message: Message,
        flow: Flow,
    ) -> Option<IncomingRequest> {
        match message {
            Message::Request(request) => self.handle_request(now, request, flow),
            Message::Response(response) => {
                self.handle_response(now, response, flow);
                None
            }
        }
    }

    /// Takes what could be read of a request that is no SIP message, and answers it where that is possible: with `status`,
    /// or with what [`Request::check`] finds to be owed where that says more than 400.
    pub fn handle_malformed(
        &mut self,
        request: Option<&Request>,
        status: StatusCode,
        reason: &str,
        flow: Flow,
    ) {
        self.metrics.malformed_received += 1;
        if let Some(request) = request {
            self.reject_malformed(request, status, reason, flow);
        }
    }

    /// Lets alarms go off that are due. Where thousands are, it leaves some for later, so that other inputs get their turn;
    /// [`poll_timeout`](Self::poll_timeout) is then in the past.
    pub fn handle_timeout(&mut self, now: Now) {
        for _ in 0..ALARMS_AT_ONCE {
            let Some(holder) = self.timers.pop_due(now.instant, &mut self.clock) else {
                return;
            };
            match holder.whose() {
                Whose::Client(id) => self.client_alarm(now, id),
                Whose::Server(id) => self.server_alarm(now, id),
                Whose::Exchange(id) => self.exchange_alarm(now, id),
            }
        }
    }

    /// Takes the news that bytes of [`poll_transmit`](Self::poll_transmit) could not be handed to their flow.
    pub fn handle_transport_error(&mut self, now: Now, purpose: Purpose, error: TransportFailure) {
        self.metrics.transport_errors += 1;
        match purpose {
            Purpose::Attempt(AttemptId(id)) => self.client_transport_error(now, id, error),
            Purpose::Answer(id) => self.server_transport_error(now, id, error),
            Purpose::Stateless | Purpose::Detached => {}
        }
    }

    /// Takes the news that a connection has ended: requests that wait for an answer over it go on to their next target.
    pub fn handle_flow_closed(&mut self, now: Now, flow: FlowId) {
        for id in self.clients_over(flow.as_u64(), |over| over.id == flow) {
            self.client_transport_error(now, id, TransportFailure::Closed);
        }
    }

    /// Takes the news that the network could not deliver a datagram to a peer (RFC 3261 §18.4: ICMP errors).
    pub fn handle_unreachable(&mut self, now: Now, flow: Flow, error: TransportFailure) {
        // Which of our addresses the datagram left from is not reported.
        let socket = flow.id.socket();
        let is_it = |over: &Flow| over.id.socket() == socket && over.remote == flow.remote;
        for id in self.clients_over(self.way(&flow), is_it) {
            self.client_transport_error(now, id, error.clone());
        }
    }

    /// Takes out the next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        pop(&mut self.transmits)
    }

    /// Takes out the next wish for a flow.
    pub fn poll_open(&mut self) -> Option<Open> {
        pop(&mut self.opens)
    }

    /// Takes out the next event and whom it is for.
    pub fn poll_event(&mut self) -> Option<(Owner, Event)> {
        pop(&mut self.events)
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due. It may turn out that nothing was.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next(&self.clock)
    }

    /// Refuses new requests from now on: those received with a stateless 503, our own with
    /// [`SendError::ShuttingDown`](crate::SendError::ShuttingDown). BYE, CANCEL and ACK, which end something, still pass.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Says whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Says whether nothing waits for a final answer, ours or a peer's.
    pub fn is_idle(&self) -> bool {
        // An INVITE that was accepted has had its answer; it only listens for more of them.
        self.metrics.unanswered == 0 && self.exchanges.iter().all(|(_, exchange)| exchange.accepted)
    }

    /// Returns the source of identifiers.
    pub fn ids(&mut self) -> &mut IdSource {
        &mut self.ids
    }

    /// Returns the To tag that every copy of this request gets, without anything being remembered.
    pub fn keyed_tag(&self, request: &Request) -> Tag {
        Tag::new(self.keys.tag(request).as_str())
    }

    /// Returns the settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns what was counted.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            server_transactions: self.servers.len() as u64,
            requests: self.exchanges.len() as u64,
            client_transactions: self.clients.len() as u64,
            origins: self.origins.len() as u64,
            targets_avoided: self.avoided.len() as u64,
            timer_entries: self.timers.len() as u64,
            ..self.metrics
        }
    }

    /// What [`clients_on`](Self::clients_on) knows a flow by.
    fn way(&self, flow: &Flow) -> u64 {
        match flow.transport.is_stream() {
            true => flow.id.as_u64(),
            false => self.keys.way(flow),
        }
    }

    /// The client transactions on a way. Two ways may have one number.
    fn clients_over(&self, way: u64, is_it: impl Fn(&Flow) -> bool) -> Vec<u64> {
        let over = |id: &u64| {
            let running = self.clients.get(*id)?.running.as_ref()?;
            Some(Flow::from(running.flow))
        };
        self.clients_on
            .range((way, 0)..=(way, u64::MAX))
            .map(|(_, id)| *id)
            .filter(|id| over(id).is_some_and(|flow| is_it(&flow)))
            .collect()
    }

    fn transmit(&mut self, flow: Flow, bytes: Bytes, purpose: Purpose) {
        self.transmits.push_back(Transmit {
            flow,
            bytes,
            purpose,
        });
    }

    /// Makes sure that the queue wakes a holder at its next alarm.
    fn arm(&mut self, holder: Holder) {
        let entry = match holder.whose() {
            Whose::Client(id) => self
                .clients
                .get_mut(id)
                .map(|client| (client.next_alarm(), &mut client.queued)),
            Whose::Server(id) => self
                .servers
                .get_mut(id)
                .map(|server| (server.next_alarm(), &mut server.queued)),
            Whose::Exchange(id) => self
                .exchanges
                .get_mut(id)
                .map(|exchange| (exchange.next_alarm(), &mut exchange.queued)),
        };
        let Some((Some(at), queued)) = entry else {
            return;
        };
        let Some(entry) = *queued else {
            *queued = Some(self.timers.insert(at, holder));
            return;
        };
        // One that comes up too early wakes the endpoint for nothing, which costs more than moving it: an INVITE that is answered
        // at once would do so after the 200 ms of its 100, a request after T1.
        if self.timers.tick(entry) != Some(at) {
            self.timers.shift(entry, at);
        }
    }

    fn disarm(&mut self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.timers.remove(entry);
        }
    }
}

impl std::fmt::Debug for TransactionLayer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TransactionLayer")
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

/// Does to an alarm's time what a machine wants.
fn set(time: &mut Option<Tick>, alarm: Alarm, clock: &mut Clock, now: Now) {
    match alarm {
        Alarm::Keep => {}
        Alarm::Off => *time = None,
        Alarm::After(wait) => *time = Some(clock.after(now.instant, wait)),
    }
}

/// Takes the first of a queue, and gives memory back that a burst took.
fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if first.is_none() && queue.capacity() > 4096 {
        queue.shrink_to(1024);
    }
    first
}

/// Gives memory back that a burst took, now and then.
fn trim<T>(slab: &mut Slab<T>, keys: &mut KeyMap) {
    slab.trim();
    if is_mostly_empty(keys.len(), keys.capacity()) {
        keys.shrink_to(keys.len() * 2);
    }
}

/// Alarms that go off in one turn: a millisecond of work.
const ALARMS_AT_ONCE: usize = 1024;
