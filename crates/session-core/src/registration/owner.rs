//! The task that owns a registration: one REGISTER at a time, by timer or at the handle's wish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::RegistrationState;
use super::inbox::{Inbox, Operation, tell};
use super::machine::{Input, Machine};
use super::registrant::{Granted, Registrant, later, now};
use crate::flows::Watched;
use crate::outgoing::Outbound;
use crate::{Error, Result, SipResponse};

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
    /// What the binding was last made over; `None` once its end was heard of.
    pub(crate) flow: Option<Watched>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) publisher: Publisher,
    pub(crate) inbox: OpenInbox,
}

/// The inbox of a task that runs: closed when it ends, however it does.
pub(crate) struct OpenInbox(pub(crate) Arc<Inbox>);

impl Drop for OpenInbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Owner {
    /// Runs until the registration ends, or the task is aborted because its handle or its coordinator is gone.
    ///
    /// One loop serialises everything: RFC 3261 §10.2, "UAs MUST NOT send a new registration […] until they have received
    /// a final response from the registrar for the previous one or the previous REGISTER request has timed out".
    pub(crate) async fn run(mut self) {
        let inbox = self.inbox.0.clone();
        while let Some(due) = self.machine.poll_timeout() {
            let operation = tokio::select! {
                biased;
                // First, so that no flood of queries keeps a binding from being refreshed.
                () = sleep_until(due) => Operation::Refresh,
                age = ended(&mut self.flow) => {
                    self.flow = None;
                    self.step(Input::FlowLost { age });
                    continue;
                }
                operation = inbox.next() => operation,
            };
            match operation {
                Operation::Refresh => {
                    let outcome = self.refresh().await;
                    // Who asked while it was under way wanted nothing else.
                    tell(inbox.take(), &outcome);
                }
                Operation::Query => {
                    // Who asks from here on wants to know what is bound then.
                    let waiters = inbox.take();
                    let outcome = self.registrant.query(&self.outbound).await;
                    self.heed(&outcome);
                    tell(waiters, &outcome);
                }
                Operation::Unregister => {
                    let outcome = self.unregister().await;
                    self.heed(&outcome);
                    tell(inbox.take(), &outcome);
                }
            }
        }
    }

    async fn refresh(&mut self) -> Result<u32> {
        self.step(Input::Send);
        match self.registrant.register(&self.outbound).await {
            Ok(Granted {
                seconds,
                asked_at,
                response,
                flow,
                ..
            }) => {
                self.flow = flow.map(|flow| flow.continues(self.flow.as_ref()));
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

    /// Ends the registration where credentials were refused: servers that count failures would ban us for the next refresh.
    fn heed<T>(&mut self, outcome: &Result<T>) {
        if let Err(error @ Error::AuthenticationFailed { .. }) = outcome {
            self.step(Input::Refused(Arc::new(error.clone())));
        }
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

/// Waits for the end of a flow, and tells how long it has served.
async fn ended(flow: &mut Option<Watched>) -> Duration {
    match flow {
        Some(flow) => {
            flow.ended().await;
            flow.age()
        }
        None => std::future::pending().await,
    }
}

/// Sleeps a day at a time: timers are not made for centuries, and a grant may be one.
pub(crate) async fn sleep_until(due: Instant) {
    while now() < due {
        let latest = later(now(), Duration::from_secs(86_400));
        tokio::time::sleep_until(due.min(latest).into()).await;
    }
}
