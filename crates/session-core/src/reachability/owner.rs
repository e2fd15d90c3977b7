//! The task that asks.

use std::sync::Arc;
use std::time::Instant;

use sipora_message::{Response, StatusCode, Uri};
use tokio::sync::{Notify, watch};

use super::Reachability;
use super::pace::Pace;
use crate::outgoing::Outbound;
use crate::registration::{later, now, sleep_until};
use crate::{Error, SipResponse};

pub(crate) struct Owner {
    pub(super) target: Uri,
    pub(super) outbound: Arc<Outbound>,
    pub(super) pace: Pace,
    pub(super) probe: Arc<Notify>,
    pub(super) told: Told,
}

/// Tells the handle what was found. Dropped, it tells [`Reachability::Stopped`].
pub(crate) struct Told(pub(super) watch::Sender<Reachability>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.send_replace(Reachability::Stopped);
    }
}

impl Owner {
    /// Asks until the coordinator ends, or the task is aborted. One request at a time: the next one waits for the end of the
    /// one before.
    pub(crate) async fn run(mut self) {
        loop {
            let asked_at = now();
            let answer = self.outbound.options(&self.target).await;
            let Some(due) = self.found(asked_at, answer) else {
                return;
            };
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.probe.notified() => {}
            }
        }
    }

    /// Tells what an answer, or its absence, says, and gives the time of the next request.
    fn found(&mut self, asked_at: Instant, answer: crate::Result<Response>) -> Option<Instant> {
        let jitter = self.outbound.jitter();
        let error = match answer {
            Ok(response) if !is_absence(response.status()) => {
                self.told.0.send_replace(Reachability::Reachable {
                    round_trip: now().saturating_duration_since(asked_at),
                    status: response.status(),
                });
                return Some(later(asked_at, self.pace.after_answer(jitter)));
            }
            Ok(response) => Error::Rejected(SipResponse::from(response)),
            Err(Error::Closed) => return None,
            // That there is no room here says nothing about the target.
            Err(Error::Busy) => return Some(later(now(), self.pace.after_answer(jitter))),
            Err(error) => error,
        };
        let wait = self.pace.after_failure(error.retry_after(), jitter);
        tracing::debug!(target_uri = %self.target, %error, "a target cannot be reached");
        let error = Arc::new(error);
        self.told
            .0
            .send_replace(Reachability::Unreachable { error });
        Some(later(now(), wait))
    }
}

/// Answers that somebody on the way gives for a target that is not there: 408 and 504 (nobody answered), 430 (RFC 5626 §11.6,
/// the flow is gone), 480 (not registered), 502 and 503 (not able to).
fn is_absence(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 430 | 480 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_s_408_is_an_absence_and_a_404_is_none() {
        assert!(is_absence(StatusCode::REQUEST_TIMEOUT));
        assert!(!is_absence(StatusCode::NOT_FOUND));
    }
}
