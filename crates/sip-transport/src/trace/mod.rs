//! Traces: every message as text, in a capture file, or at a collector.
//!
//! A [`Tracer`] is a [`MessageObserver`]: what it sees goes into a bounded queue, and a thread of its own hands it to its
//! [`TraceSink`]s: [`TextTrace`] for people, [`PcapTrace`] for Wireshark and sngrep, [`HepTrace`] for Homer and its like.
//! Receiving and sending never wait for it: where the disk or the terminal is too slow, messages are left out of the trace,
//! counted in [`TraceMetrics::dropped`] and told in the log.
//!
//! ```
//! use sipora_transport::trace::{PcapTrace, TextTrace, Tracer};
//! use sipora_transport::{TokioNetwork, TransportConfig, Transports};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("calls.pcap");
//! let tracer = Arc::new(Tracer::new(vec![
//!     Box::new(PcapTrace::append(&path)?),
//!     Box::new(TextTrace::to(std::io::stderr())),
//! ]));
//! let (transports, inbound) = Transports::with_observer(
//!     Arc::new(TokioNetwork::new()), TransportConfig::default(), tracer.clone());
//! // … at the end:
//! transports.shutdown().await;
//! tracer.flush(Duration::from_secs(1));
//! # Ok(()) }
//! ```
//!
//! The endpoint of `sipora-transaction-core`, `SessionManagerBuilder` and `CallCenterConfig` take a tracer as their observer.
//!
//! Traces show credentials: whoever reads an `Authorization` value can try passwords against it until one fits, and bodies
//! are what people wrote to each other. Files are made for their owner alone (mode 0600, on Unix).

mod file;
mod hep;
mod packet;
mod pcap;
mod text;

pub use hep::HepTrace;
pub use pcap::PcapTrace;
pub use text::TextTrace;

use crate::pace::Pace;
use crate::{Direction, Flow, MessageObserver, Now, Observed};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tracing::warn;

/// Takes messages, one after the other, on the tracer's thread. May block.
pub trait TraceSink: Send + 'static {
    /// Names it for the log, as by its file.
    fn name(&self) -> &str;

    /// Takes a message, and may keep it until it is [flushed](TraceSink::flush).
    fn write(&mut self, message: &Observed<'_>) -> io::Result<()>;

    /// Writes what it has kept. Called whenever no message waits, and so soon after each.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Opens its file again by its name, which somebody may have moved away.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows every message to its sinks, on a thread of its own. Dropped, it lets the thread write what waits and end.
pub struct Tracer {
    queue: SyncSender<Job>,
    shared: Arc<Counters>,
    pace: Pace,
}

/// Holds what a tracer has counted. All but the gauge only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TraceMetrics {
    /// Messages that were taken for the trace.
    pub messages: u64,
    /// Messages left out because the sinks are too slow.
    pub dropped: u64,
    /// Failures of sinks, such as a full disk. What a failing write held is not in the trace.
    pub failures: u64,
    /// Bytes that wait for the sinks (a gauge).
    pub waiting_bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    messages: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
    waiting: AtomicUsize,
}

enum Job {
    Message(Kept),
    Flush(SyncSender<()>),
    Reopen,
}

/// A message at its exact size.
struct Kept {
    now: Now,
    direction: Direction,
    flow: Flow,
    local: SocketAddr,
    bytes: Box<[u8]>,
}

impl Tracer {
    /// Starts the thread.
    pub fn new(sinks: Vec<Box<dyn TraceSink>>) -> Tracer {
        let (queue, jobs) = sync_channel(WAITING_MESSAGES);
        let shared = Arc::new(Counters::default());
        let counters = shared.clone();
        let thread = thread::Builder::new().name("sip-trace".into());
        if let Err(error) = thread.spawn(move || work(sinks, &jobs, &counters)) {
            // The queue has no reader then, and every message counts as dropped.
            warn!(%error, "no thread for the trace");
        }
        Tracer {
            queue,
            shared,
            pace: Pace::new(LOG_PERIOD),
        }
    }

    /// Returns what has been counted.
    pub fn metrics(&self) -> TraceMetrics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TraceMetrics {
            messages: load(&self.shared.messages),
            dropped: load(&self.shared.dropped),
            failures: load(&self.shared.failures),
            waiting_bytes: self.shared.waiting.load(Ordering::Relaxed) as u64,
        }
    }

    /// Waits until what has been seen so far is written, at most `patience`, and tells whether it is. Blocks its thread.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, is_done) = sync_channel(1);
        let deadline = Instant::now() + patience;
        let mut job = Job::Flush(done);
        loop {
            match self.queue.try_send(job) {
                Ok(()) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    return is_done.recv_timeout(left).is_ok();
                }
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => job = back,
                Err(TrySendError::Full(_)) => return false,
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets the sinks open their files again by their names, after somebody has moved the old ones away. What was seen before
    /// goes to the old ones. Does not wait; `false` when the queue is full and nothing will happen.
    pub fn reopen(&self) -> bool {
        self.queue.try_send(Job::Reopen).is_ok()
    }

    fn try_keep(&self, message: &Observed<'_>) -> bool {
        let length = message.bytes.len();
        let waiting = self.shared.waiting.fetch_add(length, Ordering::Relaxed);
        let kept = waiting.saturating_add(length) <= WAITING_BYTES
            && self
                .queue
                .try_send(Job::Message(Kept::from(message)))
                .is_ok();
        if !kept {
            self.shared.waiting.fetch_sub(length, Ordering::Relaxed);
        }
        kept
    }
}

impl MessageObserver for Tracer {
    fn on_message(&self, message: &Observed<'_>) {
        if self.try_keep(message) {
            self.shared.messages.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.pace.admit(message.now.instant) {
            let messages = held_back.saturating_add(1);
            warn!(
                messages,
                "left out of the trace, which is written too slowly"
            );
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

impl From<&Observed<'_>> for Kept {
    fn from(message: &Observed<'_>) -> Kept {
        Kept {
            now: message.now,
            direction: message.direction,
            flow: message.flow,
            local: message.local,
            bytes: message.bytes.into(),
        }
    }
}

impl Kept {
    fn as_observed(&self) -> Observed<'_> {
        Observed {
            now: self.now,
            direction: self.direction,
            flow: self.flow,
            local: self.local,
            bytes: &self.bytes,
        }
    }
}

/// A sink and what has gone wrong with it.
struct Watched {
    sink: Box<dyn TraceSink>,
    pace: Pace,
}

impl Watched {
    fn watch(
        &mut self,
        counters: &Counters,
        act: impl FnOnce(&mut dyn TraceSink) -> io::Result<()>,
    ) {
        let Err(error) = act(&mut *self.sink) else {
            return;
        };
        counters.failures.fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.pace.admit(Instant::now()) {
            warn!(trace = self.sink.name(), %error, held_back, "the trace cannot be written");
        }
    }
}

fn work(sinks: Vec<Box<dyn TraceSink>>, jobs: &Receiver<Job>, counters: &Counters) {
    let mut sinks: Vec<Watched> = sinks
        .into_iter()
        .map(|sink| Watched {
            sink,
            pace: Pace::new(LOG_PERIOD),
        })
        .collect();
    let mut each = |act: &mut dyn FnMut(&mut dyn TraceSink) -> io::Result<()>| {
        for sink in &mut sinks {
            sink.watch(counters, &mut *act);
        }
    };
    loop {
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Disconnected) => return each(&mut |sink| sink.flush()),
            Err(TryRecvError::Empty) => {
                each(&mut |sink| sink.flush());
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            }
        };
        match job {
            Job::Message(message) => {
                each(&mut |sink| sink.write(&message.as_observed()));
                counters
                    .waiting
                    .fetch_sub(message.bytes.len(), Ordering::Relaxed);
            }
            Job::Flush(done) => {
                each(&mut |sink| sink.flush());
                // Who has given up needs no word.
                let _ = done.try_send(());
            }
            Job::Reopen => each(&mut |sink| {
                // What cannot be written to the old one is lost; the new one may be better.
                let flushed = sink.flush();
                sink.reopen().and(flushed)
            }),
        }
    }
}

/// Time between two log lines of a kind: a full disk stays full for a while.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Messages that wait for the thread: a second of a busy server, some 12,000 requests with their answers. A megabyte of room.
const WAITING_MESSAGES: usize = 8_192;

/// Bytes that wait for the thread: all of them, at two kilobytes each.
const WAITING_BYTES: usize = 16 * 1024 * 1024;

/// Returns who sent a message and who was to get it.
fn ends(message: &Observed<'_>) -> (SocketAddr, SocketAddr) {
    match message.direction {
        Direction::In => (message.flow.remote, message.local),
        Direction::Out => (message.local, message.flow.remote),
    }
}
