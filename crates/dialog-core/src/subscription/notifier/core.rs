//! [`Notifier`]: every subscription to what one endpoint tells.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{
    Aor, EventRef, HeaderName, Headers, Method, Request, Response, ResponseBuilder, StatusCode,
    SubscriptionState, Uri, UriRef,
};
use sipora_transaction_core::IdSource;
use sipora_transport::Flow;

use super::{Body, NotifierError, Offer, Subscribed};
use crate::subscription::timing::{later, seconds_left};
use crate::subscription::{EventPackage, TerminationReason};
use crate::{ApiError, Dialog, DialogError};

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
/// state as it is then. [`NotifierApi`](crate::NotifierApi) runs one inside an endpoint.
///
/// One NOTIFY of a subscription is under way at a time, so that they arrive in order, and no two follow each other sooner
/// than the package allows ([`EventPackage::notify_interval`]); what changes meanwhile is told by one more, with the newest
/// state. The NOTIFY that a SUBSCRIBE wants, and the last one, do not wait.
pub struct Notifier {
    config: NotifierConfig,
    packages: Vec<Arc<dyn EventPackage>>,
    ids: IdSource,
    subscriptions: HashMap<SubscriptionKey, Usage>,
    /// Call-ID and the subscriber's tag.
    by_peer: HashMap<(Box<str>, Box<str>), SubscriptionKey>,
    by_source: HashMap<IpAddr, usize>,
    by_resource: HashMap<Box<str>, HashSet<SubscriptionKey>>,
    timers: BTreeSet<(Instant, SubscriptionKey)>,
    due: VecDeque<SubscriptionKey>,
    next: u64,
}

/// Settings of a [`Notifier`].
#[derive(Debug, Clone)]
pub struct NotifierConfig {
    /// Shorter wishes get 423, if they are below an hour and above zero (RFC 6665 §4.2.1.1). Default 60 s.
    pub min_expires: u32,
    /// Longer ones are granted this. Default an hour.
    pub max_expires: u32,
    /// What a SUBSCRIBE without Expires gets. Default an hour.
    pub default_expires: u32,
    /// Subscriptions at once; beyond, 503 with Retry-After. Default 100,000.
    pub max_subscriptions: usize,
    /// Subscriptions from one address at once; beyond, 503 with Retry-After. Default 5,000: an office behind one address
    /// fits, a flood does not. Proxies in front want more. IPv6 addresses count by their first 64 bits.
    pub max_per_source: usize,
}

impl Default for NotifierConfig {
    fn default() -> Self {
        Self {
            min_expires: 60,
            max_expires: 3600,
            default_expires: 3600,
            max_subscriptions: 100_000,
            max_per_source: 5_000,
        }
    }
}

/// Names a subscription to what we tell. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionKey(u64);

/// A subscription, as the application may look at it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotifierSubscription {
    /// Its name.
    pub key: SubscriptionKey,
    /// The event, without parameters.
    pub package: String,
    /// What is watched.
    pub resource: Uri,
    /// Whether nobody has allowed it yet.
    pub is_pending: bool,
    /// Whether the NOTIFY that is due is its last.
    pub is_ending: bool,
    /// Who watches, as From said it: a URI. What it is worth is for the application to know.
    pub subscriber: String,
    /// When it ends if it is not refreshed.
    pub expires_at: Instant,
}

/// A NOTIFY to be sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotifierRequest {
    /// On whose behalf.
    pub key: SubscriptionKey,
    /// The request, without Via.
    pub request: Request,
    /// The URI to locate, where there is no flow or it has ended.
    pub next_hop: Uri,
    /// The flow by which the last SUBSCRIBE came, where it leads to the subscriber itself: no route is set, and nobody else
    /// has put a Via on the request. Behind a NAT, or with a Contact that nobody can connect to, it is the only way. It may
    /// have been closed; over UDP it is our socket with the peer's address.
    pub flow: Option<Flow>,
}

struct Usage {
    dialog: Dialog,
    event: String,
    resource: Uri,
    source: IpAddr,
    flow: Option<Flow>,
    /// The least time between two NOTIFYs.
    interval: Duration,
    contact: String,
    is_pending: bool,
    expires_at: Instant,
    /// Reason and retry-after of the last NOTIFY, which is owed.
    ending: Option<(String, Option<u32>)>,
    is_sending: bool,
    is_due: bool,
    /// Whether the NOTIFY that is due waits for nothing but the answer to the one before.
    is_prompt: bool,
    is_queued: bool,
    /// A NOTIFY that can wait is not sent before: the one before was sent just now, or was refused for the moment.
    not_before: Option<Instant>,
    scheduled: Option<Instant>,
}

impl Usage {
    fn package(&self) -> &str {
        let name = self.event.split(';').next();
        name.unwrap_or_default().trim()
    }

    /// When the NOTIFY that is due may leave, where that is later than now; its answer is waited for first.
    fn waits_until(&self, now: Instant) -> Option<Instant> {
        let waits = self.is_due && !self.is_sending && !self.is_prompt;
        self.not_before.filter(|at| waits && *at > now)
    }

    /// Owes the same once more, after a time.
    fn try_again(&mut self, now: Instant, wait: Duration) {
        self.is_due = true;
        self.not_before = self.not_before.max(Some(later(now, wait)));
    }
}

/// Whether a NOTIFY waits for its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// Something changed: the package's interval counts.
    Change,
    /// A SUBSCRIBE wants it, or it is the last.
    Prompt,
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
            next: 0,
        }
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

    /// Takes a SUBSCRIBE that came over `flow`. By RFC 6665 §4.2.1, in this order: 489 with Allow-Events for other events than
    /// those of the packages; within a dialog 481 where there is none, 403 for another event (§4.5.2), 500 out of order;
    /// outside 482 for a merged request, 503 with Retry-After at a limit, 406 where no type is acceptable, 400 for what
    /// makes no dialog; 423 with Min-Expires.
    pub fn handle_subscribe(&mut self, now: Instant, request: &Request, flow: &Flow) -> Subscribed {
        match self.subscribe(now, request, flow) {
            Ok(offer) => Subscribed::Offer(Box::new(offer)),
            Err(answer) => Subscribed::Answer(answer),
        }
    }

    fn subscribe(
        &mut self,
        now: Instant,
        request: &Request,
        flow: &Flow,
    ) -> Result<Offer, Box<ResponseBuilder>> {
        let headers = request.headers();
        let answer = |status| Box::new(Response::for_request(request, status));
        let bad = |reason: &str| Box::new(answer(StatusCode::BAD_REQUEST).reason(reason));
        let event = headers.event().map_err(|_| bad("Event cannot be read"))?;
        let package = event.and_then(|event| self.package(&event));
        let (Some(event), Some(package)) = (event, package) else {
            let answer = answer(StatusCode::BAD_EVENT);
            let names: Vec<&str> = self.packages.iter().map(|one| one.name()).collect();
            let answer = answer.header(HeaderName::AllowEvents, names.join(", "));
            return Err(Box::new(answer));
        };
        let call_id = headers.call_id().map_err(|_| bad("Call-ID"))?;
        let from = headers.from().map_err(|_| bad("From"))?;
        let remote_tag = from.tag().ok_or_else(|| bad("From has no tag"))?;
        let expires = headers.expires().map_err(|_| bad("Expires"))?;
        let to = headers.to().map_err(|_| bad("To"))?;
        let asked = expires.unwrap_or(self.config.default_expires);
        if let Some(local_tag) = to.tag() {
            let known = self.by_peer.get(&(call_id.into(), remote_tag.into()));
            let known = known.copied().filter(|key| {
                let usage = self.subscriptions.get(key);
                usage.is_some_and(|usage| *usage.dialog.id().local_tag == *local_tag)
            });
            let answer = self.refresh(now, request, flow, known, &event, asked);
            return Err(Box::new(answer));
        }
        let source = network(flow.remote.ip());
        self.check_room(request, call_id, remote_tag, source)?;
        if !is_acceptable(headers, package.accept()) {
            return Err(answer(StatusCode::NOT_ACCEPTABLE));
        }
        let tag = self.ids.tag().to_string();
        let dialog = Dialog::of_request(request, &tag);
        let dialog = dialog.map_err(|error| bad(&error.to_string()))?;
        let resource = request.uri().map_err(|_| bad("Request-URI"))?.to_owned();
        if self.is_too_brief(asked) {
            return Err(Box::new(self.too_brief(request)));
        }
        Ok(Offer {
            request: request.clone(),
            event: String::from_utf8_lossy(event.as_bytes()).into_owned(),
            resource,
            granted: asked.min(self.config.max_expires),
            source,
            flow: *flow,
            interval: package.notify_interval(),
            dialog,
            tag,
        })
    }

    /// Whether one more subscription has a place. Asked again when the application has decided, which may have taken time.
    fn check_room(
        &self,
        request: &Request,
        call_id: &str,
        remote_tag: &str,
        source: IpAddr,
    ) -> Result<(), Box<ResponseBuilder>> {
        let answer = |status| Response::for_request(request, status);
        // RFC 3261 §8.2.2.2: the same request by another way.
        if self
            .by_peer
            .contains_key(&(call_id.into(), remote_tag.into()))
        {
            return Err(Box::new(answer(StatusCode::LOOP_DETECTED)));
        }
        if let Some(limit) = self.limit(source) {
            let answer = answer(StatusCode::SERVICE_UNAVAILABLE).reason(limit);
            return Err(Box::new(answer.header(HeaderName::RetryAfter, RETRY_AFTER)));
        }
        Ok(())
    }

    fn refresh(
        &mut self,
        now: Instant,
        request: &Request,
        flow: &Flow,
        known: Option<SubscriptionKey>,
        event: &EventRef<'_>,
        asked: u32,
    ) -> ResponseBuilder {
        let answer = |status| Response::for_request(request, status);
        let is_too_brief = self.is_too_brief(asked);
        let granted = asked.min(self.config.max_expires);
        let found = known.and_then(|key| Some((key, self.subscriptions.get_mut(&key)?)));
        let Some((key, usage)) = found else {
            let reason = "Subscription does not exist";
            return answer(StatusCode::CALL_DOES_NOT_EXIST).reason(reason);
        };
        if usage.ending.is_some() {
            return answer(StatusCode::CALL_DOES_NOT_EXIST);
        }
        if !is_event(&usage.event, event) {
            return answer(StatusCode::FORBIDDEN).reason("Dialog sharing is not supported");
        }
        match usage.dialog.receive(request) {
            Ok(()) => {}
            Err(DialogError::OutOfOrder { .. }) => {
                return answer(StatusCode::SERVER_INTERNAL_ERROR).reason("CSeq is out of order");
            }
            Err(error) => return answer(StatusCode::BAD_REQUEST).reason(&error.to_string()),
        }
        if is_too_brief {
            return self.too_brief(request);
        }
        usage.dialog.refresh_target(request.headers());
        usage.flow = way_back(request, &usage.dialog, flow);
        usage.expires_at = later(now, Duration::from_secs(granted.into()));
        if granted == 0 {
            usage.ending = Some(("timeout".to_owned(), None));
        }
        let answer = answer(StatusCode::OK)
            .contact(format!("<{}>", usage.contact))
            .header(HeaderName::Expires, granted);
        self.owes(now, key, Haste::Prompt);
        answer
    }

    /// Takes an offer, and gives the subscription and the answer, which has to leave before the NOTIFY that is due.
    /// `contact` is where the subscriber can reach us.
    ///
    /// An offer can be kept while the application makes up its mind: what it says about time counts from now.
    ///
    /// # Errors
    ///
    /// The answer to send instead, where the decision took time: 482 when the same SUBSCRIBE, which came by another way too,
    /// has been accepted meanwhile (RFC 3261 §8.2.2.2), 503 with Retry-After when a limit has been reached.
    pub fn accept(
        &mut self,
        now: Instant,
        offer: Offer,
        is_pending: bool,
        contact: &str,
    ) -> Result<(SubscriptionKey, ResponseBuilder), Box<ResponseBuilder>> {
        let Offer {
            request,
            event,
            resource,
            granted,
            source,
            flow,
            interval,
            dialog,
            tag,
        } = offer;
        let (call_id, remote_tag) = (&*dialog.id().call_id, &*dialog.id().remote_tag);
        self.check_room(&request, call_id, remote_tag, source)
            .map_err(|answer| answer.to_tag(&tag))?;
        let key = SubscriptionKey(self.next);
        self.next += 1;
        let id = dialog.id();
        let peer = (id.call_id.clone(), id.remote_tag.clone());
        self.by_peer.insert(peer, key);
        *self.by_source.entry(source).or_default() += 1;
        let watched = self.by_resource.entry(resource_key(&resource)).or_default();
        watched.insert(key);
        let ending = (granted == 0).then(|| ("timeout".to_owned(), None));
        self.subscriptions.insert(
            key,
            Usage {
                flow: way_back(&request, &dialog, &flow),
                dialog,
                event,
                resource,
                source,
                interval,
                contact: contact.to_owned(),
                is_pending,
                expires_at: later(now, Duration::from_secs(granted.into())),
                ending,
                is_sending: false,
                is_due: false,
                is_prompt: false,
                is_queued: false,
                not_before: None,
                scheduled: None,
            },
        );
        // RFC 6665 §4.2.1.2: a NOTIFY follows every 2xx at once.
        self.owes(now, key, Haste::Prompt);
        let answer = Response::for_request(&request, StatusCode::OK)
            .to_tag(&tag)
            .record_route()
            .contact(format!("<{contact}>"))
            .header(HeaderName::Expires, granted);
        Ok((key, answer))
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

    /// Allows a subscription that was pending.
    ///
    /// # Errors
    ///
    /// [`NotifierError::Unknown`] where it has ended.
    pub fn activate(&mut self, now: Instant, key: SubscriptionKey) -> Result<(), NotifierError> {
        let usage = self.subscriptions.get_mut(&key);
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
            usage.ending = Some((reason.as_str().to_owned(), retry_after));
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
            Some((reason, retry_after)) => terminated(reason, *retry_after),
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
        let is_last = usage.ending.is_some();
        if is_last || request.is_none() {
            self.remove(key);
        } else {
            self.wake(now, key);
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
            return self.remove(key);
        } else if let Ok(Some(wait)) = headers.retry_after() {
            usage.try_again(now, Duration::from_secs(wait.seconds.min(3600).into()));
        }
        self.wake(now, key);
    }

    /// Takes the news that a NOTIFY got no answer: RFC 6665 §4.2.2, "the notifier SHOULD remove the subscription". One that
    /// could not leave for want of room stays.
    pub fn handle_failure(&mut self, now: Instant, key: SubscriptionKey, error: &ApiError) {
        if !matches!(error, ApiError::Busy { .. }) {
            return self.remove(key);
        }
        if let Some(usage) = self.subscriptions.get_mut(&key) {
            usage.is_sending = false;
            usage.try_again(now, BUSY);
            self.wake(now, key);
        }
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
                usage.ending = Some(("timeout".to_owned(), None));
                self.owes(now, key, Haste::Prompt);
            } else {
                self.wake(now, key);
            }
        }
    }

    fn owes(&mut self, now: Instant, key: SubscriptionKey, haste: Haste) {
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

    fn remove(&mut self, key: SubscriptionKey) {
        let Some(usage) = self.subscriptions.remove(&key) else {
            return;
        };
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

    fn package(&self, event: &EventRef<'_>) -> Option<Arc<dyn EventPackage>> {
        let known = |one: &&Arc<dyn EventPackage>| one.name() == event.package();
        self.packages.iter().find(known).cloned()
    }

    /// The limit that stands against one more subscription from here.
    fn limit(&self, source: IpAddr) -> Option<&'static str> {
        if self.subscriptions.len() >= self.config.max_subscriptions {
            return Some("Too Many Subscriptions");
        }
        let from_here = self.by_source.get(&source).copied().unwrap_or_default();
        let is_over = from_here >= self.config.max_per_source;
        is_over.then_some("Too Many Subscriptions From One Address")
    }

    /// RFC 6665 §4.2.1.1: 423 "if and only if the expiration interval is greater than zero AND smaller than one hour AND
    /// less than a notifier-configured minimum".
    fn is_too_brief(&self, asked: u32) -> bool {
        asked > 0 && asked < 3600 && asked < self.config.min_expires
    }

    fn too_brief(&self, request: &Request) -> ResponseBuilder {
        Response::for_request(request, StatusCode::INTERVAL_TOO_BRIEF)
            .header(HeaderName::MinExpires, self.config.min_expires)
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

/// The flow of a SUBSCRIBE, where it leads to the subscriber: a proxy between us that set no route passes nothing on to it.
fn way_back(request: &Request, dialog: &Dialog, flow: &Flow) -> Option<Flow> {
    let is_from_subscriber = dialog.is_direct() && request.headers().vias().count() == 1;
    is_from_subscriber.then_some(*flow)
}

/// What one subscriber has of IPv6 is a whole network of 64 bits.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
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

/// Compares an event with one that is kept as text: type and `id` count (RFC 6665 §8.2.1).
fn is_event(kept: &str, event: &EventRef<'_>) -> bool {
    let mut parts = kept.split(';').map(str::trim);
    let package = parts.next().unwrap_or_default();
    let id = parts.find_map(|part| part.strip_prefix("id="));
    event.package() == package && event.id().as_deref() == id
}

/// The address-of-record where there is one, so that parameters do not tell resources apart.
fn resource_key<'a>(resource: impl Into<UriRef<'a>>) -> Box<str> {
    let resource = resource.into();
    match Aor::from_uri(resource) {
        Ok(address) => address.as_str().into(),
        Err(_) => resource.as_str().into(),
    }
}

/// Whether a SUBSCRIBE takes one of these types: without Accept it takes the package's own (RFC 6665 §3.1.3).
fn is_acceptable(headers: Headers<'_>, offered: &[&str]) -> bool {
    if offered.is_empty() || !headers.contains(&HeaderName::Accept) {
        return true;
    }
    headers.list(&HeaderName::Accept).any(|value| {
        let value = String::from_utf8_lossy(value);
        let wanted = value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        offered.iter().any(|one| {
            let is_kind = |kind: &str| {
                wanted
                    .strip_suffix("/*")
                    .is_some_and(|want| want.eq_ignore_ascii_case(kind))
            };
            let kind = one.split('/').next().unwrap_or_default();
            wanted == "*/*" || is_kind(kind) || wanted.eq_ignore_ascii_case(one)
        })
    })
}

/// RFC 6665 §4.2.2: after these answers to a NOTIFY "the notifier MUST remove the corresponding subscription".
fn ends_the_usage(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604
    )
}

/// Seconds after which a subscriber that found no room may come again.
const RETRY_AFTER: &str = "60";

/// How long a NOTIFY waits for room to be sent.
const BUSY: Duration = Duration::from_secs(5);
