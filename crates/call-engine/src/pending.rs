//! Work that takes time: it runs on the runtime, and its outcome comes back to whoever started it as a command.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use sipora_transaction_core::{IncomingRequest, UserHandle};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::gate::Secrets;
use crate::location::{Applied, ChangeError};
use crate::{Binding, StoreError};

/// What goes on, as a rule a request, with what it waited for.
pub(crate) struct Pending<S = IncomingRequest> {
    pub(crate) subject: S,
    pub(crate) outcome: Outcome,
}

/// What a request waited for.
pub(crate) enum Outcome {
    /// A change of bindings was applied or refused.
    Applied(Result<Applied, ChangeError>),
    /// The bindings of an address.
    Listed(Result<Vec<Binding>, StoreError>),
    /// The secrets of those who claim to have sent it.
    Secrets(Result<Secrets, StoreError>),
    /// The bindings of a user whom something is for; `None` where there is no such user.
    Found(Result<Option<Vec<Binding>>, StoreError>),
    /// The work panicked, or did not end in time.
    Lost,
}

/// Starts work.
pub(crate) struct Jobs<S = IncomingRequest> {
    sender: mpsc::Sender<Job<S>>,
}

struct Job<S> {
    subject: S,
    work: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    deadline: Instant,
}

/// There is no room for more work.
pub(crate) struct Full;

impl<S: Send + 'static> Jobs<S> {
    pub(crate) fn new() -> (Jobs<S>, Worker<S>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Jobs { sender }, Worker { receiver })
    }

    pub(crate) fn start(
        &self,
        subject: S,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> Result<(), Full> {
        let job = Job {
            subject,
            work: Box::pin(work),
            deadline: Instant::now() + PATIENCE,
        };
        self.sender.try_send(job).map_err(|_| Full)
    }
}

/// Runs work, so much at once, until its user is gone.
pub(crate) struct Worker<S = IncomingRequest> {
    receiver: mpsc::Receiver<Job<S>>,
}

impl<S: Send + 'static> Worker<S> {
    pub(crate) async fn run<C: From<Pending<S>> + Send>(mut self, user: UserHandle<C>) {
        let mut running = JoinSet::new();
        let mut waiting: HashMap<Id, S> = HashMap::new();
        loop {
            tokio::select! {
                job = self.receiver.recv(), if running.len() < AT_ONCE => {
                    let Some(job) = job else { break };
                    let work = timeout_at(job.deadline, job.work);
                    let started = running.spawn(async { work.await.unwrap_or(Outcome::Lost) });
                    waiting.insert(started.id(), job.subject);
                }
                Some(ended) = running.join_next_with_id() => {
                    let (id, outcome) = match ended {
                        Ok((id, outcome)) => (id, outcome),
                        Err(error) => (error.id(), Outcome::Lost),
                    };
                    let Some(subject) = waiting.remove(&id) else { continue };
                    if user.send(Pending { subject, outcome }.into()).await.is_err() {
                        break;
                    }
                }
            }
        }
    }
}

/// Work that waits to be started. With what runs, all that a stalled store can hold; the rest gets 503.
const QUEUE: usize = 1024;
/// Work that runs at once: a database has fewer connections.
const AT_ONCE: usize = 256;
/// Time that work may take, waiting for its turn included: clients give up after 32 s (Timer F).
const PATIENCE: Duration = Duration::from_secs(30);
