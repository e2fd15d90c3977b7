//! [`Subscriber`]: every subscription of one endpoint.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use sipora_message::Method;
use sipora_transaction_core::IdSource;

use super::set::{Place, Set};
use super::usage::{Leaving, Sending, Usage};
use super::{
    RefreshFailure, Subscribe, SubscribeError, SubscriberConfig, SubscriberEvent,
    SubscriberRequest, SubscriptionEnd, SubscriptionId, SubscriptionState,
};
use crate::next_hop;
use crate::subscription::EventPackage;
use crate::subscription::package::Undescribed;

/// Holds the subscriptions of one user agent (RFC 6665 §4.1): a state machine without I/O and without a clock.
///
/// In: [`subscribe`](Self::subscribe), [`refresh`](Self::refresh), [`terminate`](Self::terminate) and
/// [`forget`](Self::forget); every NOTIFY, to be answered as [`handle_notify`](Self::handle_notify) says; the final answer
/// to each request, or why there was none; the end of the flow that it came by; the time. Out: [`poll_request`](Self::poll_request),
/// [`poll_event`](Self::poll_event) and [`poll_timeout`](Self::poll_timeout). [`SubscriberApi`](crate::SubscriberApi) runs
/// one inside an endpoint.
///
/// A SUBSCRIBE that is forked makes one subscription for each dialog that its package allows, each with refreshes, times
/// and an end of its own.
///
/// Timer N runs from the answer to a SUBSCRIBE, not from its first copy: retries with credentials take their time, and
/// until the answer it is the transaction that ends the wait.
pub struct Subscriber {
    pub(super) config: SubscriberConfig,
    pub(super) packages: Vec<Arc<dyn EventPackage>>,
    pub(super) ids: IdSource,
    pub(super) sets: HashMap<u64, Set>,
    /// Call-ID and our tag.
    pub(super) by_tag: HashMap<(Box<str>, Box<str>), u64>,
    pub(super) timers: BTreeSet<(Instant, SubscriptionId)>,
    pub(super) requests: VecDeque<SubscriberRequest>,
    pub(super) events: VecDeque<SubscriberEvent>,
    pub(super) next: u64,
    pub(super) count: usize,
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

    pub(super) fn leaves_unsolicited(&self) -> bool {
        self.config.leaves_unsolicited
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
                let cause = usage.failure.take();
                self.end(id, SubscriptionEnd::Expired { cause });
            } else if due(usage.refresh_at) {
                self.send(now, id, None, false);
            }
            self.reschedule(id);
        }
    }

    /// Sends a SUBSCRIBE of a subscription. `again` is the one that got 423.
    pub(super) fn send(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        again: Option<Sending>,
        is_wanted: bool,
    ) {
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
        let (request, next_hop) = match built {
            Ok(built) => built,
            Err(problem) => {
                let cause = Some(Box::new(RefreshFailure::Invalid(problem)));
                return self.end(id, SubscriptionEnd::Expired { cause });
            }
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

    /// Sends the last SUBSCRIBE if it is wanted and can be sent: within a dialog, with no other under way.
    pub(super) fn leave(&mut self, now: Instant, id: SubscriptionId) {
        let ready = self.usage(id).is_some_and(|usage| {
            usage.leaving == Leaving::Wanted && usage.dialog.is_some() && usage.sending.is_none()
        });
        if ready {
            self.send(now, id, None, false);
        }
    }

    pub(super) fn end(&mut self, id: SubscriptionId, end: SubscriptionEnd) {
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

    pub(super) fn remove(&mut self, id: SubscriptionId) {
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
    pub(super) fn reschedule(&mut self, id: SubscriptionId) {
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

    pub(super) fn usage(&mut self, id: SubscriptionId) -> Option<&mut Usage> {
        let set = self.sets.get_mut(&id.set)?;
        set.usages.get_mut(usize::from(id.place))?.as_mut()
    }

    pub(super) fn place(&mut self, number: u64, place: Place) -> Option<SubscriptionId> {
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

    pub(super) fn jitter(&mut self) -> u16 {
        self.ids.number_in(0, 1000) as u16
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
