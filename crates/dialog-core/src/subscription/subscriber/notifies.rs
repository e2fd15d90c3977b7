//! What NOTIFYs do (RFC 6665 §4.1.3).

use std::time::{Duration, Instant};

use sipora_message::{HeaderName, Request, StatusCode, SubscriptionPhase, SubscriptionStateRef};

use super::set::{Place, Set};
use super::usage::Leaving;
use super::{
    Notification, NotifyAnswer, Subscriber, SubscriberEvent, SubscriptionEnd, SubscriptionId,
};
use crate::subscription::TerminationReason;
use crate::subscription::package;
use crate::{Dialog, DialogError};

impl Subscriber {
    /// Takes a NOTIFY, and tells how to answer it. The rules of RFC 6665 §4.1.3, in this order: 400 for what lacks From
    /// tag or Call-ID, 489 without Event, 481 outside any subscription, 489 for another event than the dialog's, 400
    /// without Subscription-State, 415 and the package's word on the body, 500 out of order; else 200.
    ///
    /// What is not answered with 200 has no effect.
    pub fn handle_notify(&mut self, now: Instant, notify: &Request) -> NotifyAnswer {
        self.notify(now, notify).unwrap_or_else(|refusal| refusal)
    }

    fn notify(&mut self, now: Instant, notify: &Request) -> Result<NotifyAnswer, NotifyAnswer> {
        let headers = notify.headers();
        let bad = |reason: &str| NotifyAnswer::because(StatusCode::BAD_REQUEST, reason);
        let nobody = || {
            let reason = "Subscription does not exist";
            NotifyAnswer::because(StatusCode::CALL_DOES_NOT_EXIST, reason)
        };
        let bad_event = |set: Option<&Set>| {
            let allowed = set.map(|set| set.package.name().to_owned());
            let headers = allowed.map(|name| (HeaderName::AllowEvents, name));
            NotifyAnswer {
                headers: headers.into_iter().collect(),
                ..NotifyAnswer::new(StatusCode::BAD_EVENT)
            }
        };
        let event = headers.event().map_err(|_| bad("Event cannot be read"))?;
        let event = event.ok_or_else(|| bad_event(None))?;
        let call_id = headers.call_id().map_err(|_| bad("Call-ID"))?;
        let from = headers.from().map_err(|_| bad("From"))?;
        let remote_tag = from.tag().ok_or_else(|| bad("From has no tag"))?;
        let to = headers.to().map_err(|_| bad("To"))?;
        let local_tag = to.tag().ok_or_else(nobody)?;
        let key = (call_id.into(), local_tag.into());
        let number = *self.by_tag.get(&key).ok_or_else(nobody)?;
        let set = self.sets.get(&number).ok_or_else(nobody)?;
        if !set.is_about(&event) {
            return Err(bad_event(Some(set)));
        }
        let state = headers.subscription_state();
        let state = state.map_err(|_| bad("Subscription-State cannot be read"))?;
        let state = state.ok_or_else(|| bad("Subscription-State is missing"))?;
        let place = set.place_of(now, remote_tag, self.config.max_forks);
        let place = place.ok_or_else(nobody)?;
        if place == Place::New && self.count >= self.config.max_subscriptions {
            return Err(nobody());
        }
        package::check(&*set.package, notify).map_err(|refusal| {
            let accept = set.package.accept().join(", ");
            let is_type = refusal.status == StatusCode::UNSUPPORTED_MEDIA_TYPE;
            NotifyAnswer {
                status: refusal.status,
                reason: (!refusal.reason.is_empty()).then_some(refusal.reason),
                headers: is_type
                    .then_some((HeaderName::Accept, accept))
                    .into_iter()
                    .collect(),
            }
        })?;
        let id = self.place(number, place).ok_or_else(nobody)?;
        self.in_dialog(id, notify).inspect_err(|_| {
            // A NOTIFY that made no dialog made no subscription either.
            if place == Place::New {
                self.remove(id);
            }
        })?;
        if place == Place::New {
            let origin = SubscriptionId { place: 0, ..id };
            self.events
                .push_back(SubscriberEvent::Forked { origin, id });
        }
        self.take(now, id, notify, state);
        Ok(NotifyAnswer::new(StatusCode::OK))
    }

    /// Puts a NOTIFY into the order of its dialog; the first one makes the dialog.
    fn in_dialog(&mut self, id: SubscriptionId, notify: &Request) -> Result<(), NotifyAnswer> {
        let refused = |error: DialogError| match error {
            DialogError::OutOfOrder { .. } => {
                NotifyAnswer::because(StatusCode::SERVER_INTERNAL_ERROR, error.to_string())
            }
            other => NotifyAnswer::because(StatusCode::BAD_REQUEST, other.to_string()),
        };
        let cseq = self.sets.get(&id.set).map_or(0, |set| set.cseq);
        let Some(usage) = self.usage(id) else {
            return Ok(());
        };
        match &mut usage.dialog {
            Some(dialog) => {
                dialog.receive(notify).map_err(refused)?;
                dialog.refresh_target(notify.headers());
            }
            None => usage.dialog = Some(Dialog::of_notify(notify, cseq).map_err(refused)?),
        }
        Ok(())
    }

    fn take(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        notify: &Request,
        state: SubscriptionStateRef<'_>,
    ) {
        let phase = state.phase();
        let notification = Box::new(Notification {
            request: notify.clone(),
            phase,
            missed: 0,
        });
        let notified = SubscriberEvent::Notified { id, notification };
        let asked = self.sets.get(&id.set).map_or(0, |set| set.asked);
        let jitter = self.jitter();
        let Some(usage) = self.usage(id) else {
            return;
        };
        if phase == SubscriptionPhase::Terminated {
            let reason = TerminationReason::read(state.reason());
            let is_ours = usage.leaving == Leaving::Said || asked == 0;
            let is_plain = matches!(
                reason,
                TerminationReason::Timeout | TerminationReason::Unspecified
            );
            let end = if is_ours && is_plain {
                SubscriptionEnd::Unsubscribed
            } else {
                SubscriptionEnd::ByNotifier {
                    reason,
                    retry_after: state
                        .retry_after()
                        .map(|seconds| Duration::from_secs(seconds.into())),
                }
            };
            // It can still be read after the end.
            self.events.push_back(notified);
            return self.end(id, end);
        }
        usage.notified(now, &state, asked, jitter);
        let state = usage.state(now);
        // Who has read a notification sees the state that it told.
        self.events.push_back(SubscriberEvent::State { id, state });
        self.events.push_back(notified);
        self.leave(now, id);
        self.reschedule(id);
    }
}
