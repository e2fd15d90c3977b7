//! What the answers to SUBSCRIBEs do (RFC 6665 §4.1.2).

use std::time::{Duration, Instant};

use sipora_auth::AuthError;
use sipora_message::{Headers, Response, StatusCode};

use super::usage::{Leaving, Sending};
use super::{RefreshFailure, Subscriber, SubscriberEvent, SubscriptionEnd, SubscriptionId};
use crate::subscription::timing::{later, retry_after};
use crate::{ApiError, Dialog};

impl Subscriber {
    /// Takes the final answer to a SUBSCRIBE. `cseq` is the number last sent, `refusal` says why a challenge was not
    /// answered.
    pub fn handle_response(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        cseq: u32,
        response: &Response,
        refusal: Option<AuthError>,
    ) {
        let Some(sending) = self.answered(id, Some(cseq)) else {
            return;
        };
        let status = response.status();
        if status.is_success() {
            return self.accepted(now, id, sending, response);
        }
        let headers = response.headers();
        // RFC 6665 §4.1.2.1, RFC 3261 §10.2.8: once more with what the notifier wants.
        let minimum = headers.min_expires().ok().flatten().unwrap_or_default();
        let is_better = minimum > sending.asked && minimum <= MAX_MIN_EXPIRES;
        if status == StatusCode::INTERVAL_TOO_BRIEF
            && is_better
            && sending.asked > 0
            && !sending.is_second
        {
            if let Some(set) = self.sets.get_mut(&id.set) {
                set.asked = minimum;
            }
            self.send(now, id, Some(sending), sending.is_wanted);
            return self.reschedule(id);
        }
        if sending.is_wanted {
            let result = Ok(response.clone());
            self.events
                .push_back(SubscriberEvent::Refreshed { id, result });
        }
        let is_first = self.usage(id).is_some_and(|usage| !usage.is_accepted);
        let is_last = self
            .usage(id)
            .is_some_and(|usage| usage.leaving == Leaving::Said);
        if is_first || is_last || ends_the_usage(status) {
            let response = response.clone();
            let refusal = refusal.map(Box::new);
            return self.end(id, SubscriptionEnd::Refused { response, refusal });
        }
        let wait = headers.retry_after().ok().flatten();
        let reason = response.reason().chars().take(LONGEST_REASON).collect();
        let failure = RefreshFailure::Refused { status, reason };
        self.failed(now, id, failure, wait.map(|wait| wait.seconds));
    }

    /// Takes the news that a SUBSCRIBE got no answer.
    pub fn handle_failure(&mut self, now: Instant, id: SubscriptionId, error: ApiError) {
        let Some(sending) = self.answered(id, error.cseq()) else {
            return;
        };
        let Some(usage) = self.usage(id) else {
            return;
        };
        let (is_first, is_heard) = (!usage.is_accepted, usage.dialog.is_some());
        let is_last = usage.leaving == Leaving::Said;
        if sending.is_wanted && !is_first {
            let result = Err(error.clone());
            self.events
                .push_back(SubscriberEvent::Refreshed { id, result });
        }
        match (is_first, is_heard) {
            // The 2xx was lost, but a NOTIFY came: the subscription is there (RFC 6665 §4.1.2.4).
            (true, true) => {
                let by = later(now, self.config.timer_n);
                if let Some(usage) = self.usage(id) {
                    usage.is_accepted = true;
                    if sending.asked == 0 {
                        usage.notify_by = Some(by);
                    }
                }
                let response = None;
                self.events
                    .push_back(SubscriberEvent::Accepted { id, response });
                self.leave(now, id);
                self.reschedule(id);
            }
            (true, false) => self.end(id, SubscriptionEnd::NoAnswer(error)),
            _ if is_last => self.end(id, SubscriptionEnd::NoAnswer(error)),
            _ => self.failed(now, id, RefreshFailure::NoAnswer(error), None),
        }
    }

    /// Notes that no SUBSCRIBE is under way any more.
    fn answered(&mut self, id: SubscriptionId, cseq: Option<u32>) -> Option<Sending> {
        let set = self.sets.get_mut(&id.set)?;
        let usage = set.usages.get_mut(usize::from(id.place))?.as_mut()?;
        let sending = usage.sending.take()?;
        if let Some(cseq) = cseq {
            if usage.is_accepted {
                usage.dialog.iter_mut().for_each(|dialog| dialog.sent(cseq));
            } else {
                // Every dialog that it made counts on from it, also those that a NOTIFY told of before its answer.
                set.cseq = set.cseq.max(cseq);
                let usages = set.usages.iter_mut().flatten();
                let dialogs = usages.filter_map(|usage| usage.dialog.as_mut());
                dialogs.for_each(|dialog| dialog.sent(cseq));
            }
        }
        Some(sending)
    }

    fn accepted(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        sending: Sending,
        response: &Response,
    ) {
        let headers = response.headers();
        // RFC 6665 §4.1.2.1: the value "cannot be larger" than what was asked for.
        let asked = sending.asked;
        let granted = headers.expires().ok().flatten().unwrap_or(asked).min(asked);
        let notify_by = match response.status() {
            // RFC 5839 §5.2: no NOTIFY will be generated; there is nothing to wait for but the expiry, if there is any.
            StatusCode::NO_NOTIFICATION if asked > 0 => None,
            _ => Some(later(now, self.config.timer_n)),
        };
        let jitter = self.jitter();
        let Some(set) = self.sets.get_mut(&id.set) else {
            return;
        };
        if set.open_until.is_none() {
            set.open_until = Some(later(now, self.config.timer_n));
        }
        let Some(Some(usage)) = set.usages.get_mut(usize::from(id.place)) else {
            return;
        };
        let is_first = !usage.is_accepted;
        usage.granted(sending, granted, jitter);
        if !sending.is_heard || asked == 0 {
            usage.notify_by = notify_by;
        }
        if let Some(dialog) = &mut usage.dialog
            && is_from(dialog, headers)
        {
            dialog.refresh_target(headers);
        }
        let state = usage.state(now);
        if is_first {
            let response = Some(response.clone());
            self.events
                .push_back(SubscriberEvent::Accepted { id, response });
        } else {
            // Who hears that it was refreshed sees for how long.
            self.events.push_back(SubscriberEvent::State { id, state });
            if sending.is_wanted {
                let result = Ok(response.clone());
                self.events
                    .push_back(SubscriberEvent::Refreshed { id, result });
            }
        }
        self.leave(now, id);
        self.reschedule(id);
    }

    /// Takes the news that the flow of the last SUBSCRIBE, over which NOTIFYs come through a NAT and from who has no other way
    /// to us, has ended after this time. The subscription goes on at the notifier, and is refreshed over another flow: within
    /// a second, but with back-off where flows end one soon after the other (RFC 5626 §4.5).
    ///
    /// A notifier that has asked for patience gets it.
    pub fn handle_flow_lost(&mut self, now: Instant, id: SubscriptionId, served: Duration) {
        let spread = SPREAD / 1_000 * u32::from(self.jitter());
        let Some(usage) = self.usage(id) else {
            return;
        };
        let was_refused = matches!(
            usage.failure.as_deref(),
            Some(RefreshFailure::Refused { .. })
        );
        // One that is under way takes another flow by itself, or fails.
        let is_quiet = usage.leaving == Leaving::No && usage.sending.is_none();
        if usage.dialog.is_none() || !is_quiet || was_refused {
            return;
        }
        usage.brief_flows = match served < BRIEF {
            true => usage.brief_flows.saturating_add(1),
            false => 0,
        };
        let wait = match usage.brief_flows {
            0 | 1 => spread,
            brief => retry_after(brief - 1, None),
        };
        let at = later(now, wait);
        // Never later than planned, unless what was planned is to try again what failed because the flow was ending.
        let planned = usage.refresh_at.filter(|_| usage.failures == 0);
        usage.refresh_at = Some(planned.map_or(at, |planned| planned.min(at)));
        self.reschedule(id);
    }

    /// A refresh failed; RFC 6665 §4.1.2.2: the subscription is "still considered valid for the duration of the most
    /// recently known Expires value".
    fn failed(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        failure: RefreshFailure,
        asked: Option<u32>,
    ) {
        if let Some(usage) = self.usage(id) {
            usage.failure = Some(Box::new(failure));
            usage.failures = usage.failures.saturating_add(1);
            usage.notify_by = None;
            usage.refresh_at = Some(later(now, retry_after(usage.failures, asked)));
        }
        self.leave(now, id);
        self.reschedule(id);
    }
}

/// Whether a 2xx comes from the notifier of this dialog, and not from another that the SUBSCRIBE was forked to.
fn is_from(dialog: &Dialog, headers: Headers<'_>) -> bool {
    let tag = headers.to().ok().and_then(|to| to.tag());
    tag == Some(&*dialog.id().remote_tag)
}

/// RFC 6665 §4.1.2.2: after these answers to a refresh "the subscriber MUST consider the subscription terminated".
fn ends_the_usage(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604
    )
}

/// Of a peer's words as many as a person reads.
const LONGEST_REASON: usize = 200;
/// What those whose connections a notifier took along when it ended spread over.
const SPREAD: Duration = Duration::from_secs(1);
/// A flow that ends sooner has not served: who closes every connection is not to be subscribed to in a loop.
const BRIEF: Duration = Duration::from_secs(30);
/// A month: a notifier that wants more has made a mistake.
const MAX_MIN_EXPIRES: u32 = 30 * 86_400;
