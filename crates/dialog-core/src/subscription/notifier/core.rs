//! [`Notifier`]: every subscription to what one endpoint tells.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{Aor, HeaderName, Method, Response, StatusCode, SubscriptionState, UriRef};
use sipora_transaction_core::IdSource;

use super::usage::{Ending, Haste, Usage};
use super::{
    Body, NotifierConfig, NotifierEnd, NotifierError, NotifierRequest, NotifierSubscription,
    SubscriptionKey,
};
use crate::ApiError;
use crate::subscription::timing::{later, seconds_left};
use crate::subscription::{EventPackage, TerminationReason};

/// Holds the subscriptions to what one user agent tells (RFC 6665 §4.2): a state machine without I/O and without a clock.
///
/// ```text
///      SUBSCRIBE, allowed             SUBSCRIBE, undecided
///              |                               |
///              v                               v
///         +--------+        activate      +---------+
///         | active | <------------------- | pending |
///         +--------+                      +---------+
///              |    expired, ended by either side,   |
///              +---> NOTIFY refused or lost  <-------+
///                              |
///                              v
///                         terminated
/// ```
///
/// In: every SUBSCRIBE ([`handle_subscribe`](Self::handle_subscribe)), the application's decision
/// ([`accept`](Self::accept)), changes of what is watched ([`changed`](Self::changed)), the answers to NOTIFYs, the time.
/// Out: [`poll_due`](Self::poll_due) names a subscription that owes a NOTIFY; [`notify`](Self::notify) makes it from the
/// state as it is then; [`poll_ended`](Self::poll_ended) tells what has ended. [`NotifierApi`](crate::NotifierApi) runs one inside an endpoint.
///
/// One NOTIFY of a subscription is under way at a time, so that they arrive in order, and no two follow each other sooner
/// than the package allows ([`EventPackage::notify_interval`]); what changes meanwhile is told by one more, with the newest
/// state. The NOTIFY that a SUBSCRIBE wants, and the last one, do not wait.
pub struct Notifier {
    pub(super) config: NotifierConfig,
    pub(super) packages: Vec<Arc<dyn EventPackage>>,
    pub(super) ids: IdSource,
    pub(super) subscriptions: HashMap<SubscriptionKey, Usage>,
    /// Call-ID and the subscriber's tag.
    pub(super) by_peer: HashMap<(Box<str>, Box<str>), SubscriptionKey>,
    pub(super) by_source: HashMap<IpAddr, usize>,
    pub(super) by_resource: HashMap<Box<str>, HashSet<SubscriptionKey>>,
    pub(super) timers: BTreeSet<(Instant, SubscriptionKey)>,
    pub(super) due: VecDeque<SubscriptionKey>,
    /// What nobody has been told of, as far as there is room; `None` where nobody asks.
    pub(super) ended: Option<VecDeque<(SubscriptionKey, NotifierEnd)>>,
    pub(super) next: u64,
}

impl Notifier {
    /// Begins without subscriptions; `packages` are the events that there are.
    pub fn new(
        config: NotifierConfig,
        packages: Vec<Arc<dyn EventPackage>>,
        ids: IdSource,
    ) -> Self {
        Self {
            config,
            packages,
            ids,
            subscriptions: HashMap::new(),
            by_peer: HashMap::new(),
            by_source: HashMap::new(),
            by_resource: HashMap::new(),
            timers: BTreeSet::new(),
            due: VecDeque::new(),
            ended: None,
            next: 0,
        }
    }

    /// Keeps the ends of subscriptions for [`poll_ended`](Self::poll_ended), which then has to be asked.
    #[must_use]
    pub fn with_ends(mut self) -> Self {
        self.ended = Some(VecDeque::new());
        self
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// Shows the subscriptions to what `resource` is, of every package: as they are when what is watched is gone, or moves.
    pub fn watching<'a>(
        &self,
        resource: impl Into<UriRef<'a>>,
    ) -> impl Iterator<Item = NotifierSubscription> {
        let keys = self.by_resource.get(&*resource_key(resource));
        keys.into_iter()
            .flatten()
            .filter_map(|key| self.subscription(*key))
    }

    /// Tells that what `resource` is has changed: each subscription to it owes a NOTIFY, but for those that are pending.
    /// Addresses are compared as registrars compare them (RFC 3261 §10.3).
    pub fn changed<'a>(&mut self, now: Instant, package: &str, resource: impl Into<UriRef<'a>>) {
        let watched = self.by_resource.get(&*resource_key(resource));
        let keys: Vec<SubscriptionKey> = watched.into_iter().flatten().copied().collect();
        for key in keys {
            let usage = self.subscriptions.get(&key);
            if usage.is_some_and(|usage| !usage.is_pending && usage.package() == package) {
                self.owes(now, key, Haste::Change);
            }
        }
    }

    /// Tells that what one subscription watches has changed; one that is pending or has ended owes nothing for it.
    pub fn changed_for(&mut self, now: Instant, key: SubscriptionKey) {
        let usage = self.subscriptions.get(&key);
        if usage.is_some_and(|usage| !usage.is_pending) {
            self.owes(now, key, Haste::Change);
        }
    }

    /// Allows a subscription that was pending.
    ///
    /// # Errors
    ///
    /// [`NotifierError::Unknown`] where it has ended, or owes its last NOTIFY alone.
    pub fn activate(&mut self, now: Instant, key: SubscriptionKey) -> Result<(), NotifierError> {
        let usage = self.subscriptions.get_mut(&key);
        let usage = usage.filter(|usage| usage.ending.is_none());
        usage.ok_or(NotifierError::Unknown)?.is_pending = false;
        self.owes(now, key, Haste::Change);
        Ok(())
    }

    /// Ends a subscription with a last NOTIFY.
    ///
    /// # Errors
    ///
    /// [`NotifierError::Unknown`] where it has ended.
    pub fn terminate(
        &mut self,
        now: Instant,
        key: SubscriptionKey,
        reason: &TerminationReason,
        retry_after: Option<u32>,
    ) -> Result<(), NotifierError> {
        let usage = self.subscriptions.get_mut(&key);
        let usage = usage.ok_or(NotifierError::Unknown)?;
        if usage.ending.is_none() {
            usage.ending = Some(Ending {
                reason: reason.as_str().to_owned(),
                retry_after,
                end: NotifierEnd::Terminated,
            });
        }
        self.owes(now, key, Haste::Prompt);
        Ok(())
    }

    /// Shows a subscription.
    pub fn subscription(&self, key: SubscriptionKey) -> Option<NotifierSubscription> {
        let usage = self.subscriptions.get(&key)?;
        Some(NotifierSubscription {
            key,
            package: usage.package().to_owned(),
            resource: usage.resource.clone(),
            is_pending: usage.is_pending,
            is_ending: usage.ending.is_some(),
            subscriber: usage.dialog.remote_uri().to_owned(),
            expires_at: usage.expires_at,
        })
    }

    /// Names a subscription that owes a NOTIFY, and can send it; [`notify`](Self::notify) has to follow.
    pub fn poll_due(&mut self) -> Option<SubscriptionKey> {
        while let Some(key) = self.due.pop_front() {
            let Some(usage) = self.subscriptions.get_mut(&key) else {
                continue;
            };
            usage.is_queued = false;
            if usage.is_due && !usage.is_sending {
                return Some(key);
            }
        }
        None
    }

    /// Makes the NOTIFY that a subscription owes. Its answer goes to [`handle_response`](Self::handle_response) or
    /// [`handle_failure`](Self::handle_failure). After the last NOTIFY nothing is left of the subscription.
    pub fn notify(
        &mut self,
        now: Instant,
        key: SubscriptionKey,
        body: Option<Body>,
    ) -> Option<NotifierRequest> {
        let usage = self.subscriptions.get_mut(&key)?;
        usage.is_due = false;
        usage.is_prompt = false;
        usage.is_sending = true;
        usage.not_before = Some(later(now, usage.interval));
        let state = match &usage.ending {
            Some(ending) => terminated(&ending.reason, ending.retry_after),
            None => {
                let left = seconds_left(usage.expires_at, now);
                match usage.is_pending {
                    true => SubscriptionState::pending(left).to_string(),
                    false => SubscriptionState::active(left).to_string(),
                }
            }
        };
        let (next_hop, flow) = (usage.dialog.next_hop().clone(), usage.flow);
        let request = usage.dialog.request(Method::Notify, 1).and_then(|builder| {
            let mut builder = builder
                .contact(format!("<{}>", usage.contact))
                .header(HeaderName::Event, &usage.event)
                .header(HeaderName::SubscriptionState, state);
            if let Some(body) = body {
                builder = builder.body(&body.content_type, body.bytes);
            }
            builder.build().ok()
        });
        match usage.ending.take().map(|ending| ending.end) {
            Some(end) => self.remove(key, end),
            None if request.is_none() => {
                let error = ApiError::invalid("NOTIFY", "cannot be made");
                self.remove(key, NotifierEnd::Unreachable(error));
            }
            None => self.wake(now, key),
        }
        Some(NotifierRequest {
            key,
            request: request?,
            next_hop,
            flow,
        })
    }

    /// Takes the final answer to a NOTIFY. `cseq` is the number last sent.
    pub fn handle_response(
        &mut self,
        now: Instant,
        key: SubscriptionKey,
        cseq: u32,
        response: &Response,
    ) {
        let Some(usage) = self.subscriptions.get_mut(&key) else {
            return;
        };
        usage.is_sending = false;
        usage.dialog.sent(cseq);
        let (status, headers) = (response.status(), response.headers());
        if status.is_success() {
            usage.dialog.refresh_target(headers);
        } else if ends_the_usage(status) {
            return self.remove(key, NotifierEnd::Refused(status));
        } else if let Ok(Some(wait)) = headers.retry_after() {
            // A wait of zero, again and again, would be a NOTIFY for each answer.
            let seconds = wait.seconds.clamp(1, 3600);
            usage.try_again(now, Duration::from_secs(seconds.into()));
        }
        self.wake(now, key);
    }

    /// Takes the news that a NOTIFY got no answer: RFC 6665 §4.2.2, "the notifier SHOULD remove the subscription". One that
    /// could not leave for want of room stays.
    pub fn handle_failure(&mut self, now: Instant, key: SubscriptionKey, error: &ApiError) {
        if !matches!(error, ApiError::Busy { .. }) {
            return self.remove(key, NotifierEnd::Unreachable(error.clone()));
        }
        if let Some(usage) = self.subscriptions.get_mut(&key) {
            usage.is_sending = false;
            usage.try_again(now, BUSY);
            self.wake(now, key);
        }
    }

    /// The next subscription that has ended, and how, where they are [kept](Self::with_ends). Nothing is left of it. Who asks
    /// too seldom loses the oldest: no more wait than there may be [subscriptions](NotifierConfig::max_subscriptions).
    pub fn poll_ended(&mut self) -> Option<(SubscriptionKey, NotifierEnd)> {
        self.ended.as_mut()?.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Ends what was not refreshed, with a NOTIFY that says `timeout` (RFC 6665 §4.2.1.4).
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(usage) = self.subscriptions.get_mut(&key) else {
                continue;
            };
            usage.scheduled = None;
            if usage.expires_at <= now && usage.ending.is_none() {
                usage.ending = Some(Ending::timeout(NotifierEnd::Expired));
                self.owes(now, key, Haste::Prompt);
            } else {
                self.wake(now, key);
            }
        }
    }

    pub(super) fn owes(&mut self, now: Instant, key: SubscriptionKey, haste: Haste) {
        if let Some(usage) = self.subscriptions.get_mut(&key) {
            usage.is_due = true;
            usage.is_prompt |= haste == Haste::Prompt;
            self.wake(now, key);
        }
    }

    /// Lets a NOTIFY that is due leave now, or sets the timer for it and for the end.
    fn wake(&mut self, now: Instant, key: SubscriptionKey) {
        let Some(usage) = self.subscriptions.get_mut(&key) else {
            return;
        };
        let turn = usage.waits_until(now);
        if usage.is_due && !usage.is_sending && turn.is_none() && !usage.is_queued {
            usage.is_queued = true;
            self.due.push_back(key);
        }
        let end = usage.ending.is_none().then_some(usage.expires_at);
        let next = [end, turn].into_iter().flatten().min();
        let before = std::mem::replace(&mut usage.scheduled, next);
        if let Some(at) = before {
            self.timers.remove(&(at, key));
        }
        if let Some(at) = next {
            self.timers.insert((at, key));
        }
    }

    fn remove(&mut self, key: SubscriptionKey, end: NotifierEnd) {
        let Some(usage) = self.subscriptions.remove(&key) else {
            return;
        };
        if let Some(ended) = &mut self.ended {
            if ended.len() >= self.config.max_subscriptions {
                ended.pop_front();
            }
            ended.push_back((key, end));
        }
        let id = usage.dialog.id();
        let peer = (id.call_id.clone(), id.remote_tag.clone());
        self.by_peer.remove(&peer);
        if let Some(at) = usage.scheduled {
            self.timers.remove(&(at, key));
        }
        if let Some(count) = self.by_source.get_mut(&usage.source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&usage.source);
            }
        }
        let resource = resource_key(&usage.resource);
        if let Some(keys) = self.by_resource.get_mut(&resource) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_resource.remove(&resource);
            }
        }
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("config", &self.config)
            .field("subscriptions", &self.subscriptions.len())
            .finish_non_exhaustive()
    }
}

fn terminated(reason: &str, retry_after: Option<u32>) -> String {
    let state = SubscriptionState::terminated(reason);
    match (state, retry_after) {
        (Ok(state), Some(seconds)) => state.with_retry_after(seconds).to_string(),
        (Ok(state), None) => state.to_string(),
        (Err(_), _) => "terminated".to_owned(),
    }
}

/// The address-of-record where there is one, so that parameters do not tell resources apart.
pub(super) fn resource_key<'a>(resource: impl Into<UriRef<'a>>) -> Box<str> {
    let resource = resource.into();
    match Aor::from_uri(resource) {
        Ok(address) => address.as_str().into(),
        Err(_) => resource.as_str().into(),
    }
}

/// RFC 6665 §4.2.2: after these answers to a NOTIFY "the notifier MUST remove the corresponding subscription".
fn ends_the_usage(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604
    )
}

/// How long a NOTIFY waits for room to be sent.
const BUSY: Duration = Duration::from_secs(5);
