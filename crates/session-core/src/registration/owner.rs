//! The task that owns a registration: one REGISTER at a time, by timer or at the handle's wish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::machine::{Input, Machine};
use super::registrant::{Granted, Registrant, later, now};
use super::{Binding, RegistrationState};
use crate::outgoing::Outbound;
use crate::{Error, Result, SipResponse};

/// What the handle asks of its task.
pub(crate) enum Operation {
    Refresh(oneshot::Sender<Result<u32>>),
    Query(oneshot::Sender<Result<Vec<Binding>>>),
    Unregister(oneshot::Sender<Result<()>>),
}

/// What the handle shows.
#[derive(Debug, Clone)]
pub(crate) struct Details {
    pub(crate) granted: u32,
    pub(crate) bound_until: Instant,
    pub(crate) response: SipResponse,
}

/// Tells the handle what happens. Dropped before an end was told, it tells [`RegistrationState::Stopped`].
pub(crate) struct Publisher {
    pub(crate) states: watch::Sender<RegistrationState>,
    pub(crate) details: watch::Sender<Details>,
}

impl Publisher {
    fn tell(&self, state: Option<RegistrationState>) {
        if let Some(state) = state {
            self.states.send_replace(state);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.states.send_if_modified(|state| {
            let open = !state.is_terminal();
            if open {
                *state = RegistrationState::Stopped;
            }
            open
        });
    }
}

pub(crate) struct Owner {
    pub(crate) registrant: Registrant,
    pub(crate) machine: Machine,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) operations: mpsc::Receiver<Operation>,
    pub(crate) publisher: Publisher,
}

impl Owner {
    /// Runs until the registration ends, or the handle is dropped, or the task is aborted.
    ///
    /// One loop serialises everything: RFC 3261 §10.2, "UAs MUST NOT send a new registration […] until they have received
    /// a final response from the registrar for the previous one or the previous REGISTER request has timed out". A caller
    /// that no longer waits changes nothing: what it asked for is done.
    pub(crate) async fn run(mut self) {
        while let Some(due) = self.machine.poll_timeout() {
            let operation = tokio::select! {
                biased;
                operation = self.operations.recv() => match operation {
                    Some(operation) => Some(operation),
                    None => break,
                },
                () = sleep_until(due) => None,
            };
            match operation {
                None if now() < due => {}
                None => {
                    let _ = self.refresh().await;
                }
                Some(Operation::Refresh(reply)) => {
                    let _ = reply.send(self.refresh().await);
                }
                Some(Operation::Query(reply)) => {
                    let _ = reply.send(self.registrant.query(&self.outbound).await);
                }
                Some(Operation::Unregister(reply)) => {
                    let _ = reply.send(self.unregister().await);
                }
            }
        }
        let stopped = self.machine.on(now(), Input::Stop, self.outbound.jitter());
        self.publisher.tell(stopped);
    }

    async fn refresh(&mut self) -> Result<u32> {
        self.step(Input::Send);
        match self.registrant.register(&self.outbound).await {
            Ok(Granted {
                seconds,
                asked_at,
                response,
                ..
            }) => {
                self.publisher.details.send_replace(Details {
                    granted: seconds,
                    bound_until: later(asked_at, Duration::from_secs(seconds.into())),
                    response,
                });
                self.step(Input::Granted { seconds, asked_at });
                Ok(seconds)
            }
            Err(error) => {
                tracing::warn!(call_id = %self.registrant.call_id, %error, "a registration could not be refreshed");
                self.step(Input::Failed(Arc::new(error.clone())));
                Err(error)
            }
        }
    }

    async fn unregister(&mut self) -> Result<()> {
        let response = self.registrant.remove(&self.outbound).await?;
        self.publisher.details.send_replace(Details {
            granted: 0,
            bound_until: now(),
            response,
        });
        self.step(Input::Removed);
        Ok(())
    }

    fn step(&mut self, input: Input) {
        // A coordinator that is closed will send nothing later either.
        let input = match input {
            Input::Failed(error) if matches!(*error, Error::Closed) => Input::Stop,
            other => other,
        };
        let state = self.machine.on(now(), input, self.outbound.jitter());
        self.publisher.tell(state);
    }
}

/// Sleeps a day at most: timers are not made for centuries, and a grant may be one.
pub(crate) async fn sleep_until(due: Instant) {
    let latest = later(now(), Duration::from_secs(86_400));
    tokio::time::sleep_until(due.min(latest).into()).await;
}
