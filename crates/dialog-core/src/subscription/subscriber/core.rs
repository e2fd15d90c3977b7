//! [`Subscriber`]: every subscription of one endpoint.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_auth::AuthError;
use sipora_message::{
    HeaderName, Headers, Method, Request, RequestBuilder, Response, StatusCode, SubscriptionPhase,
    SubscriptionStateRef, Uri,
};
use sipora_transaction_core::{CallId, IdSource, Tag};

use super::usage::{Leaving, Sending, Usage};
use super::{
    Notification, NotifyAnswer, SubscriberEvent, SubscriberRequest, SubscriptionEnd,
    SubscriptionId, SubscriptionState,
};
use crate::subscription::package::{self, Undescribed};
use crate::subscription::timing::{later, retry_after};
use crate::subscription::{EventPackage, Forking, TerminationReason};
use crate::{ApiError, Dialog, DialogError, next_hop};

/// Holds the subscriptions of one user agent (RFC 6665 §4.1): a state machine without I/O and without a clock.
///
/// In: [`subscribe`](Self::subscribe), [`refresh`](Self::refresh), [`terminate`](Self::terminate) and
/// [`forget`](Self::forget); every NOTIFY, to be answered as [`handle_notify`](Self::handle_notify) says; the final answer
/// to each request, or why there was none; the time. Out: [`poll_request`](Self::poll_request),
/// [`poll_event`](Self::poll_event) and [`poll_timeout`](Self::poll_timeout). [`SubscriberApi`](crate::SubscriberApi) runs
/// one inside an endpoint.
///
/// A SUBSCRIBE that is forked makes one subscription for each dialog that its package allows, each with refreshes, times
/// and an end of its own.
///
/// Timer N runs from the answer to a SUBSCRIBE, not from its first copy: retries with credentials take their time, and
/// until the answer it is the transaction that ends the wait.
pub struct Subscriber {
    config: SubscriberConfig,
    packages: Vec<Arc<dyn EventPackage>>,
    ids: IdSource,
    sets: HashMap<u64, Set>,
    /// Call-ID and our tag.
    by_tag: HashMap<(Box<str>, Box<str>), u64>,
    timers: BTreeSet<(Instant, SubscriptionId)>,
    requests: VecDeque<SubscriberRequest>,
    events: VecDeque<SubscriberEvent>,
    next: u64,
    count: usize,
}

/// Settings of a [`Subscriber`].
#[derive(Debug, Clone)]
pub struct SubscriberConfig {
    /// How long a NOTIFY may take after the 2xx: timer N. Default 64 × T1, 32 s.
    pub timer_n: Duration,
    /// Subscriptions at once. Default 10,000.
    pub max_subscriptions: usize,
    /// Subscriptions of one SUBSCRIBE. Default 8; NOTIFYs of further notifiers get 481.
    pub max_forks: u8,
}

impl Default for SubscriberConfig {
    fn default() -> Self {
        Self {
            timer_n: Duration::from_secs(32),
            max_subscriptions: 10_000,
            max_forks: 8,
        }
    }
}

/// What to subscribe to.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Request-URI and To.
    pub target: Uri,
    /// From.
    pub from: Uri,
    /// Contact, where NOTIFYs are to be sent.
    pub contact: Uri,
    /// The event, with parameters where it has any: `presence`, `dialog;sla`.
    pub event: String,
    /// For how many seconds to ask; 0 asks for the present state alone (RFC 6665 §4.4.3).
    pub expires: u32,
    /// Header fields for every SUBSCRIBE: a preloaded Route, User-Agent. A Route goes into the first alone.
    pub headers: Vec<(HeaderName, String)>,
}

/// Refuses to subscribe. Nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There are as many subscriptions as [`SubscriberConfig::max_subscriptions`] allows.
    #[error("too many subscriptions")]
    TooMany,
    /// The request cannot be made.
    #[error("the SUBSCRIBE cannot be sent: {0}")]
    Invalid(String),
}

/// What one SUBSCRIBE made.
struct Set {
    call_id: CallId,
    tag: Tag,
    subscribe: Subscribe,
    package: Arc<dyn EventPackage>,
    /// The number last sent outside a dialog.
    cseq: u32,
    /// Until when other notifiers may be heard of; none while the SUBSCRIBE is under way.
    open_until: Option<Instant>,
    asked: u32,
    usages: Vec<Option<Usage>>,
}

impl Subscriber {
    /// Begins without subscriptions. Events of other names than those of `packages` may be subscribed to as well.
    pub fn new(
        config: SubscriberConfig,
        packages: Vec<Arc<dyn EventPackage>>,
        ids: IdSource,
    ) -> Self {
        Self {
            config,
            packages,
            ids,
            sets: HashMap::new(),
            by_tag: HashMap::new(),
            timers: BTreeSet::new(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
            next: 0,
            count: 0,
        }
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Subscribes: the SUBSCRIBE comes out of [`poll_request`](Self::poll_request).
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; nothing is kept then.
    pub fn subscribe(
        &mut self,
        now: Instant,
        subscribe: Subscribe,
    ) -> Result<SubscriptionId, SubscribeError> {
        if self.count >= self.config.max_subscriptions {
            return Err(SubscribeError::TooMany);
        }
        let name = subscribe.event.split(';').next().unwrap_or("").trim();
        let known = self.packages.iter().find(|one| one.name() == name).cloned();
        let package = known.unwrap_or_else(|| Arc::new(Undescribed(name.into())));
        let id = SubscriptionId {
            set: self.next,
            place: 0,
        };
        let mut set = Set {
            call_id: self.ids.call_id(),
            tag: self.ids.tag(),
            asked: subscribe.expires,
            subscribe,
            package,
            cseq: 0,
            open_until: None,
            usages: vec![Some(Usage::new())],
        };
        let request = set.initial().map_err(SubscribeError::Invalid)?;
        if request.headers().event().ok().flatten().is_none() {
            return Err(SubscribeError::Invalid("no event".to_owned()));
        }
        let hop = next_hop(&request).map_err(|error| SubscribeError::Invalid(error.to_string()))?;
        if let Some(Some(usage)) = set.usages.first_mut() {
            usage.sending = Some(Sending::new(set.asked, now));
        }
        self.next += 1;
        self.count += 1;
        let key = (set.call_id.as_str().into(), set.tag.as_str().into());
        self.by_tag.insert(key, id.set);
        self.sets.insert(id.set, set);
        self.requests.push_back(SubscriberRequest {
            id,
            request,
            next_hop: hop,
        });
        Ok(id)
    }

    /// Refreshes now. While a SUBSCRIBE is under way it is that one whose end is told. False where there is no such
    /// subscription, or it is about to end.
    pub fn refresh(&mut self, now: Instant, id: SubscriptionId) -> bool {
        let Some(usage) = self.usage(id) else {
            return false;
        };
        if usage.leaving != Leaving::No {
            return false;
        }
        if let Some(sending) = &mut usage.sending {
            sending.is_wanted = true;
            return true;
        }
        if usage.dialog.is_none() {
            return false;
        }
        self.send(now, id, None, true);
        self.reschedule(id);
        self.usage(id).is_some()
    }

    /// Ends a subscription: a SUBSCRIBE with an expiry of zero goes out as soon as it can; the end is told when the last
    /// NOTIFY has come, or timer N. False where there is no such subscription.
    pub fn terminate(&mut self, now: Instant, id: SubscriptionId) -> bool {
        let Some(usage) = self.usage(id) else {
            return false;
        };
        if usage.leaving == Leaving::No {
            usage.leaving = Leaving::Wanted;
            usage.refresh_at = None;
        }
        self.leave(now, id);
        self.reschedule(id);
        true
    }

    /// Gives a subscription up, without a word: the next NOTIFY gets 481, which ends it at the notifier.
    pub fn forget(&mut self, id: SubscriptionId) {
        if self.usage(id).is_some() {
            self.end(id, SubscriptionEnd::Stopped);
        }
    }

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
        self.failed(now, id, wait.map(|wait| wait.seconds));
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
            _ => self.failed(now, id, None),
        }
    }

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
        self.events
            .push_back(SubscriberEvent::Notified { id, notification });
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
            return self.end(id, end);
        }
        usage.notified(now, &state, asked, jitter);
        let state = usage.state(now);
        self.events.push_back(SubscriberEvent::State { id, state });
        self.leave(now, id);
        self.reschedule(id);
    }

    /// The next request to send. Its answer goes to [`handle_response`](Self::handle_response) or
    /// [`handle_failure`](Self::handle_failure).
    pub fn poll_request(&mut self) -> Option<SubscriberRequest> {
        self.requests.pop_front()
    }

    /// The next thing to tell the application.
    pub fn poll_event(&mut self) -> Option<SubscriberEvent> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due: refreshes, and ends what was not confirmed or refreshed in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(usage) = self.usage(id) {
                usage.scheduled = None;
            }
            let due = |time: Option<Instant>| time.is_some_and(|time| time <= now);
            let Some(usage) = self.usage(id) else {
                continue;
            };
            if due(usage.notify_by) {
                // A fetch that was heard of has what it came for.
                let end = match usage.leaving {
                    Leaving::No if usage.dialog.is_none() || usage.expires_at.is_some() => {
                        SubscriptionEnd::NoNotify
                    }
                    _ => SubscriptionEnd::Unsubscribed,
                };
                self.end(id, end);
            } else if due(usage.expires_at) {
                self.end(id, SubscriptionEnd::Expired);
            } else if due(usage.refresh_at) {
                self.send(now, id, None, false);
            }
            self.reschedule(id);
        }
    }

    /// Sends a SUBSCRIBE of a subscription. `again` is the one that got 423.
    fn send(&mut self, now: Instant, id: SubscriptionId, again: Option<Sending>, is_wanted: bool) {
        let Some(set) = self.sets.get_mut(&id.set) else {
            return;
        };
        let asked = set.asked;
        let Some(Some(usage)) = set.usages.get_mut(usize::from(id.place)) else {
            return;
        };
        let is_leaving = usage.leaving != Leaving::No;
        let expires = if is_leaving { 0 } else { asked };
        let built = match &mut usage.dialog {
            Some(dialog) => dialog
                .request(Method::Subscribe, 1)
                .ok_or_else(|| "no CSeq number is left".to_owned())
                .map(|builder| {
                    set.subscribe
                        .complete(builder, expires, false, &*set.package)
                })
                .and_then(|builder| builder.build().map_err(|error| error.to_string()))
                .map(|request| (request, dialog.next_hop().clone())),
            None => set.initial().and_then(|request| {
                let hop = next_hop(&request).map_err(|error| error.to_string())?;
                Ok((request, hop))
            }),
        };
        let Ok((request, next_hop)) = built else {
            return self.end(id, SubscriptionEnd::Expired);
        };
        if let Some(usage) = self.usage(id) {
            usage.refresh_at = None;
            usage.sending = Some(Sending {
                is_second: again.is_some(),
                is_wanted,
                ..Sending::new(expires, now)
            });
            if is_leaving {
                usage.leaving = Leaving::Said;
            }
        }
        self.requests.push_back(SubscriberRequest {
            id,
            request,
            next_hop,
        });
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
            if sending.is_wanted {
                let result = Ok(response.clone());
                self.events
                    .push_back(SubscriberEvent::Refreshed { id, result });
            }
            self.events.push_back(SubscriberEvent::State { id, state });
        }
        self.leave(now, id);
        self.reschedule(id);
    }

    /// A refresh failed; RFC 6665 §4.1.2.2: the subscription is "still considered valid for the duration of the most
    /// recently known Expires value".
    fn failed(&mut self, now: Instant, id: SubscriptionId, asked: Option<u32>) {
        if let Some(usage) = self.usage(id) {
            usage.failures = usage.failures.saturating_add(1);
            usage.notify_by = None;
            usage.refresh_at = Some(later(now, retry_after(usage.failures, asked)));
        }
        self.leave(now, id);
        self.reschedule(id);
    }

    /// Sends the last SUBSCRIBE if it is wanted and can be sent: within a dialog, with no other under way.
    fn leave(&mut self, now: Instant, id: SubscriptionId) {
        let ready = self.usage(id).is_some_and(|usage| {
            usage.leaving == Leaving::Wanted && usage.dialog.is_some() && usage.sending.is_none()
        });
        if ready {
            self.send(now, id, None, false);
        }
    }

    fn end(&mut self, id: SubscriptionId, end: SubscriptionEnd) {
        let state = SubscriptionState::Terminated(end);
        let usage = self.usage(id);
        let was_first = usage.as_ref().is_some_and(|usage| !usage.is_accepted);
        // The answer to the first SUBSCRIBE is still owed; a fetch may end before it comes.
        if was_first && matches!(&state, SubscriptionState::Terminated(end) if end.is_by_notify()) {
            let response = None;
            self.events
                .push_back(SubscriberEvent::Accepted { id, response });
        }
        self.remove(id);
        self.events.push_back(SubscriberEvent::State { id, state });
    }

    fn remove(&mut self, id: SubscriptionId) {
        if let Some(at) = self.usage(id).and_then(|usage| usage.scheduled.take()) {
            self.timers.remove(&(at, id));
        }
        self.requests.retain(|request| request.id != id);
        let Some(set) = self.sets.get_mut(&id.set) else {
            return;
        };
        if let Some(place) = set.usages.get_mut(usize::from(id.place))
            && place.take().is_some()
        {
            self.count -= 1;
        }
        if set.usages.iter().all(Option::is_none)
            && let Some(set) = self.sets.remove(&id.set)
        {
            let key = (set.call_id.as_str().into(), set.tag.as_str().into());
            self.by_tag.remove(&key);
        }
    }

    /// Sets the alarm of a subscription.
    fn reschedule(&mut self, id: SubscriptionId) {
        let Some(usage) = self.usage(id) else {
            return;
        };
        let next = usage.next();
        let before = std::mem::replace(&mut usage.scheduled, next);
        if let Some(at) = before {
            self.timers.remove(&(at, id));
        }
        if let Some(at) = next {
            self.timers.insert((at, id));
        }
    }

    /// Whether anything is left of the SUBSCRIBE that made this subscription.
    pub(super) fn knows(&self, id: SubscriptionId) -> bool {
        self.sets.contains_key(&id.set)
    }

    fn usage(&mut self, id: SubscriptionId) -> Option<&mut Usage> {
        let set = self.sets.get_mut(&id.set)?;
        set.usages.get_mut(usize::from(id.place))?.as_mut()
    }

    fn place(&mut self, number: u64, place: Place) -> Option<SubscriptionId> {
        let set = self.sets.get_mut(&number)?;
        let at = match place {
            Place::Known(at) => at,
            Place::New => {
                let at = u8::try_from(set.usages.len()).ok()?;
                set.usages.push(Some(Usage {
                    is_accepted: true,
                    ..Usage::new()
                }));
                self.count += 1;
                at
            }
        };
        Some(SubscriptionId {
            set: number,
            place: at,
        })
    }

    fn jitter(&mut self) -> u16 {
        self.ids.number_in(0, 1000) as u16
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Known(u8),
    New,
}

impl Set {
    /// Whether an event is the one of this subscription (RFC 6665 §8.2.1).
    fn is_about(&self, event: &sipora_message::EventRef<'_>) -> bool {
        let mut parts = self.subscribe.event.split(';').map(str::trim);
        let package = parts.next().unwrap_or_default();
        let id = parts.find_map(|part| part.strip_prefix("id="));
        event.package() == package && event.id().as_deref() == id
    }

    /// Finds whose a NOTIFY with this From tag is: a dialog that is known, the first, or a further one.
    fn place_of(&self, now: Instant, remote_tag: &str, max_forks: u8) -> Option<Place> {
        let known = |usage: &Option<Usage>| {
            let dialog = usage.as_ref().and_then(|usage| usage.dialog.as_ref());
            dialog.is_some_and(|dialog| &*dialog.id().remote_tag == remote_tag)
        };
        if let Some(at) = self.usages.iter().position(known) {
            return u8::try_from(at).ok().map(Place::Known);
        }
        if let Some(Some(first)) = self.usages.first()
            && first.dialog.is_none()
        {
            return Some(Place::Known(0));
        }
        // RFC 6665 §4.1.2.4: after timer N, no further dialogs.
        let is_open = self.open_until.is_none_or(|until| now < until);
        let is_room = self.usages.len() < usize::from(max_forks);
        let may_fork = self.package.forking() == Forking::EveryDialog;
        (may_fork && is_open && is_room).then_some(Place::New)
    }

    /// Makes a SUBSCRIBE outside any dialog.
    fn initial(&mut self) -> Result<Request, String> {
        self.cseq += 1;
        let Subscribe { target, from, .. } = &self.subscribe;
        let builder = Request::builder(Method::Subscribe, target)
            .from(format!("<{from}>;tag={}", self.tag))
            .to(format!("<{target}>"))
            .call_id(&self.call_id)
            .cseq(self.cseq);
        let package = &*self.package;
        let builder = self.subscribe.complete(builder, self.asked, true, package);
        builder.build().map_err(|error| error.to_string())
    }
}

impl Subscribe {
    fn complete(
        &self,
        mut builder: RequestBuilder,
        expires: u32,
        is_first: bool,
        package: &dyn EventPackage,
    ) -> RequestBuilder {
        for (name, value) in &self.headers {
            if is_first || *name != HeaderName::Route {
                builder = builder.header(name.clone(), value);
            }
        }
        let accept = package.accept().join(", ");
        if !accept.is_empty() {
            builder = builder.header(HeaderName::Accept, accept);
        }
        builder
            .contact(format!("<{}>", self.contact))
            .header(HeaderName::Event, &self.event)
            .expires(expires)
    }
}

impl Sending {
    fn new(asked: u32, at: Instant) -> Self {
        Self {
            asked,
            at,
            is_heard: false,
            is_timed: false,
            is_second: false,
            is_wanted: false,
        }
    }
}

impl SubscriptionEnd {
    /// Whether a NOTIFY said so: then the SUBSCRIBE had been accepted, whatever became of its answer.
    fn is_by_notify(&self) -> bool {
        matches!(
            self,
            SubscriptionEnd::Unsubscribed | SubscriptionEnd::ByNotifier { .. }
        )
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("config", &self.config)
            .field("subscriptions", &self.count)
            .finish_non_exhaustive()
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

/// A month: a notifier that wants more has made a mistake.
const MAX_MIN_EXPIRES: u32 = 30 * 86_400;
