//! The task that owns a publication: one PUBLISH at a time, by timer or at the handle's wish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::PublicationState;
use super::publisher::{Document, Published, Publisher};
use crate::outgoing::Outbound;
use crate::registration::{Input, Machine, RegistrationState, later, now, sleep_until};
use crate::{Error, Result, SipResponse};

/// What the handle asks of its task.
pub(crate) enum Operation {
    Refresh(oneshot::Sender<Result<u32>>),
    Modify(Document, oneshot::Sender<Result<u32>>),
    Remove(oneshot::Sender<Result<()>>),
}

/// What the handle shows.
#[derive(Debug, Clone)]
pub(crate) struct Details {
    pub(crate) granted: u32,
    pub(crate) until: Instant,
    pub(crate) tag: Option<String>,
    pub(crate) response: SipResponse,
}

/// Tells the handle what happens. Dropped before an end was told, it tells [`PublicationState::Stopped`].
pub(crate) struct Told {
    pub(crate) states: watch::Sender<PublicationState>,
    pub(crate) details: watch::Sender<Details>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.states.send_if_modified(|state| {
            let is_open = !state.is_terminal();
            if is_open {
                *state = PublicationState::Stopped;
            }
            is_open
        });
    }
}

pub(crate) struct Owner {
    pub(crate) publisher: Publisher,
    pub(crate) machine: Machine,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) operations: mpsc::Receiver<Operation>,
    pub(crate) told: Told,
    /// The server does not have the newest document yet.
    pub(crate) is_behind: bool,
}

impl Owner {
    /// Runs until the publication ends, or the handle is dropped, or the task is aborted.
    ///
    /// One loop serialises everything: RFC 3903 §4, "EPAs MUST NOT send a new PUBLISH request […] until they have received
    /// a final response from the ESC for the previous one or the previous PUBLISH request has timed out".
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
            // Who no longer waits changes nothing: what was asked for is done.
            match operation {
                None if now() < due => {}
                None => {
                    let _ = self.keep(None).await;
                }
                Some(Operation::Refresh(reply)) => {
                    let _ = reply.send(self.keep(None).await);
                }
                Some(Operation::Modify(document, reply)) => {
                    let _ = reply.send(self.keep(Some(document)).await);
                }
                Some(Operation::Remove(reply)) => {
                    let _ = reply.send(self.remove().await);
                }
            }
        }
        self.step(Input::Stop);
    }

    async fn keep(&mut self, document: Option<Document>) -> Result<u32> {
        self.step(Input::Send);
        let result = match document {
            Some(document) => {
                self.publisher.document = document;
                self.is_behind = true;
                self.publisher.publish(&self.outbound).await
            }
            // A change that did not arrive is made up for.
            None if self.is_behind => self.publisher.publish(&self.outbound).await,
            None => self.publisher.refresh(&self.outbound).await,
        };
        match result {
            Ok(Published {
                seconds,
                asked_at,
                response,
            }) => {
                self.is_behind = false;
                self.told.details.send_replace(Details {
                    granted: seconds,
                    until: later(asked_at, Duration::from_secs(seconds.into())),
                    tag: self.publisher.tag.clone(),
                    response,
                });
                self.step(Input::Granted { seconds, asked_at });
                Ok(seconds)
            }
            Err(error) => {
                let call_id = &self.publisher.call_id;
                tracing::warn!(%call_id, %error, "a publication could not be kept");
                self.step(Input::Failed(Arc::new(error.clone())));
                Err(error)
            }
        }
    }

    async fn remove(&mut self) -> Result<()> {
        if let Err(error) = self.publisher.remove(&self.outbound).await {
            // Servers that count failures would ban us for the next refresh.
            if matches!(error, Error::AuthenticationFailed { .. }) {
                self.step(Input::Refused(Arc::new(error.clone())));
            }
            return Err(error);
        }
        self.step(Input::Removed);
        Ok(())
    }

    fn step(&mut self, input: Input) {
        // A coordinator that is closed will send nothing later either.
        let input = match input {
            Input::Failed(error) if matches!(*error, Error::Closed) => Input::Stop,
            other => other,
        };
        let state: Option<RegistrationState> =
            self.machine.on(now(), input, self.outbound.jitter());
        if let Some(state) = state {
            self.told.states.send_replace(state.into());
        }
    }
}
