//! The presence agent: who watches a user hears whether that user is registered, and what the user publishes (RFC 3856,
//! RFC 3903, RFC 6665).
//!
//! ```text
//!   PUBLISH ----> publications --+
//!                                +--> compose --> NOTIFY
//!   REGISTER ---> location store-+                  ^
//!                   (changes)                       |
//!   SUBSCRIBE --> gate --> watcher policy --> notifier, watches
//! ```
//!
//! What is known of a watched user's registration is kept with the watchers, so that a NOTIFY never waits for a store: the
//! store is asked before a subscription is accepted, when the registrar tells of a change ([`Changes`]), when the last
//! binding expires, and when a subscription is refreshed.

mod changes;
mod compose;
mod metrics;
mod publications;
mod publishing;
mod settings;
mod subscribing;
mod telling;
mod watcher_policy;
mod watches;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_dialog_core::{EventPackage, Notifier, TerminationReason};
use sipora_message::{HeaderName, Method, Request, StatusCode};
use sipora_transaction_core::{Claim, Context, Event, IdSource, IncomingRequest, RequestId, User};
use tokio::sync::oneshot;

use crate::gate::{Asker, Gate, Secrets, Stopped};
use crate::lookup::in_time;
use crate::metrics::count;
use crate::notify::UNKNOWN_SUBSCRIPTION;
use crate::pending::{Jobs, Outcome, Pending};
use crate::refusal::Refusal;
use crate::registrar::{Shared, require};
use crate::relay::own_routes;
use crate::{AddressOfRecord, Answer, StoreError};
pub(crate) use changes::Changes;
pub(crate) use metrics::PresenceCounters;
pub use metrics::PresenceMetrics;
use publications::{Publications, check_event};
pub use settings::PresenceConfig;
use telling::Sent;
pub use watcher_policy::{WatcherDecision, WatcherPolicy};
use watches::Watches;

/// Answers SUBSCRIBE and PUBLISH and sends NOTIFY, inside an endpoint's task.
pub(crate) struct Agent {
    shared: Arc<Shared>,
    jobs: Jobs<Subject>,
    gate: Gate,
    policy: Arc<dyn WatcherPolicy>,
    publications: Publications,
    notifier: Notifier,
    watches: Watches,
    /// NOTIFYs that wait for their answers.
    sent: HashMap<RequestId, Sent>,
    /// Time that a NOTIFY has to be answered.
    patience: Duration,
    /// Who waits until every watcher has been told that the server ends.
    farewell: Option<oneshot::Sender<()>>,
}

/// What the agent is told.
pub(crate) enum Command {
    /// What waited for a store goes on.
    Goes(Pending<Subject>),
    /// There is something in [`Changes`].
    Changed,
    /// The watcher policy is to decide about the watchers of an address again.
    Reconsider(AddressOfRecord),
    /// The server ends; says when its watchers have been told.
    End(oneshot::Sender<()>),
}

impl From<Pending<Subject>> for Command {
    fn from(pending: Pending<Subject>) -> Self {
        Command::Goes(pending)
    }
}

/// What waits for a store.
pub(crate) enum Subject {
    Request(IncomingRequest),
    /// A look at a watched user, and its number.
    Look(AddressOfRecord, u64),
}

/// What a request is about.
#[derive(Debug, Clone)]
enum Aim {
    /// A PUBLISH for a user.
    Publication(AddressOfRecord),
    /// A SUBSCRIBE that wants to watch a user.
    Subscription(AddressOfRecord),
    /// A SUBSCRIBE within a dialog: it refreshes, or ends.
    Refresh,
}

impl Agent {
    pub(crate) fn new(
        shared: Arc<Shared>,
        jobs: Jobs<Subject>,
        settings: &PresenceConfig,
        policy: Option<Arc<dyn WatcherPolicy>>,
        mut ids: IdSource,
        t1: Duration,
    ) -> crate::Result<Self> {
        let package = Package(settings.notify_interval());
        let publications = Publications::new(settings.limits(), settings.expiry()?, ids.split());
        Ok(Self {
            gate: Gate::new(Arc::clone(&shared), Asker::Presence),
            shared,
            jobs,
            policy: policy.unwrap_or_else(|| Arc::new(watcher_policy::Everybody)),
            publications,
            notifier: Notifier::new(settings.notifier(), vec![Arc::new(package)], ids),
            watches: Watches::default(),
            sent: HashMap::new(),
            patience: t1.saturating_mul(64),
            farewell: None,
        })
    }

    fn take(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) {
        let counters = &self.shared.presence_counters;
        count(match incoming.request.method() {
            Method::Publish => &counters.publishes,
            _ => &counters.subscribes,
        });
        let aim = match self.aim(context, &incoming.request) {
            Ok(aim) => aim,
            Err(refusal) => return self.refuse_stranger(context, incoming, &refusal),
        };
        let Some(realm) = self.realm(context, &incoming.request, &aim) else {
            return self.refuse_stranger(context, incoming, &unknown_subscription());
        };
        match self.gate.secrets(&incoming.request, &realm) {
            None => self.admitted(context, incoming, aim),
            Some(Answer::Now(secrets)) => self.judge(context, incoming, aim, &realm, secrets),
            Some(Answer::Later(secrets)) => self.later(context, incoming, async {
                Outcome::Secrets(in_time(secrets).await)
            }),
        }
    }

    /// Finds out what a request is about, and whether that is here: RFC 3903 §6 step 1, RFC 3261 §8.2.
    fn aim(&self, context: &Context<'_>, request: &Request) -> Result<Aim, Refusal> {
        let refused = |status: StatusCode| Err(Refusal::new(status, status.default_reason()));
        let (now, domains) = (context.now().instant, &self.shared.domains);
        let bad = |error: String| Refusal::bad_request(error);
        let uri = request.uri().map_err(|error| bad(error.to_string()))?;
        if !uri.is_sip() {
            return refused(StatusCode::UNSUPPORTED_URI_SCHEME);
        }
        check_size(request)?;
        require(request)?;
        own_routes(request, |uri| domains.leads_here(uri, now))?;
        let to = request.headers().to();
        let to = to.map_err(|error| bad(error.to_string()))?;
        let is_publish = *request.method() == Method::Publish;
        if to.tag().is_some() {
            return match is_publish {
                // A PUBLISH belongs to no dialog.
                true => refused(StatusCode::CALL_DOES_NOT_EXIST),
                false => check_event(request).map(|()| Aim::Refresh),
            };
        }
        let served = domains.served(uri.host(), now);
        let Some(address) = AddressOfRecord::from_uri(uri).filter(|_| served) else {
            // The server itself is nobody, and other domains have servers of their own.
            return refused(StatusCode::NOT_FOUND);
        };
        check_event(request)?;
        Ok(match is_publish {
            true => Aim::Publication(address),
            false => Aim::Subscription(address),
        })
    }

    /// The domain that the sender is a user of, as far as it says: its own where that is served here. A stranger is asked in
    /// the domain of whom it wants to watch; within a dialog there are no strangers.
    fn realm(&self, context: &Context<'_>, request: &Request, aim: &Aim) -> Option<String> {
        let domain = |address: &AddressOfRecord| address.domain().to_owned();
        let sender = self.sender(context, request);
        match aim {
            Aim::Publication(address) => Some(domain(address)),
            Aim::Subscription(address) => Some(domain(sender.as_ref().unwrap_or(address))),
            Aim::Refresh if self.is_open() => Some(String::new()),
            Aim::Refresh => sender.as_ref().map(domain),
        }
    }

    /// The address in From, if it is one of a served domain.
    fn sender(&self, context: &Context<'_>, request: &Request) -> Option<AddressOfRecord> {
        self.shared.domains.sender(request, context.now().instant)
    }

    fn is_open(&self) -> bool {
        matches!(self.shared.access, crate::gate::Access::Open)
    }

    /// Is it who it says, and may that user send this?
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        aim: Aim,
        realm: &str,
        secrets: Result<Secrets, StoreError>,
    ) {
        let user = match self.gate.judge(context, incoming, realm, secrets) {
            Ok(user) => user,
            Err(Stopped::Challenged) => return,
            Err(Stopped::Stranger(refusal)) => {
                return self.refuse_stranger(context, incoming, &refusal);
            }
            Err(Stopped::Failed(refusal)) => return self.refuse(context, incoming, &refusal),
        };
        let (is_allowed, reason) = match &aim {
            Aim::Publication(address) => (*address.user() == *user, "Not Your Address"),
            Aim::Subscription(_) | Aim::Refresh => {
                let sender = self.sender(context, &incoming.request);
                let is_own = sender.is_some_and(|sender| *sender.user() == *user);
                (is_own, "From Is Not Yours")
            }
        };
        if is_allowed {
            return self.admitted(context, incoming, aim);
        }
        let refusal = Refusal::new(StatusCode::FORBIDDEN, reason);
        self.refuse(context, incoming, &refusal);
    }

    fn admitted(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest, aim: Aim) {
        match aim {
            Aim::Publication(address) => self.publish(context, incoming, &address),
            Aim::Subscription(address) => self.find(context, incoming, address),
            Aim::Refresh => self.refresh(context, incoming),
        }
    }

    fn resume(&mut self, context: &mut Context<'_>, pending: Pending<Subject>) {
        let incoming = match pending.subject {
            Subject::Request(incoming) => incoming,
            Subject::Look(address, number) => {
                let found = match pending.outcome {
                    Outcome::Found(found) => found,
                    _ => Err(lost()),
                };
                return self.looked(context, &address, number, found);
            }
        };
        // What was read before is there, unless the machine's own addresses have changed since.
        let aim = match self.aim(context, &incoming.request) {
            Ok(aim) => aim,
            Err(refusal) => return self.refuse(context, &incoming, &refusal),
        };
        match (pending.outcome, aim) {
            (Outcome::Secrets(secrets), aim) => {
                let realm = self.realm(context, &incoming.request, &aim);
                let realm = realm.unwrap_or_default();
                self.judge(context, &incoming, aim, &realm, secrets);
            }
            (Outcome::Found(found), Aim::Subscription(address)) => {
                self.found(context, &incoming, &address, found);
            }
            _ => {
                let refusal = self.shared.answers.store_failed(&lost());
                self.refuse(context, &incoming, &refusal);
            }
        }
    }

    /// Hands work that takes time to the runtime. Its outcome comes back as a command.
    fn later(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let subject = Subject::Request(incoming.clone());
        if self.jobs.start(subject, work).is_err() {
            let answers = &self.shared.answers;
            let refusal = answers.overloaded(context, "Too Many Requests Wait");
            self.refuse_stranger(context, incoming, &refusal);
        }
    }

    fn refuse(&self, context: &mut Context<'_>, incoming: &IncomingRequest, refusal: &Refusal) {
        self.shared.presence_counters.refused(refusal.status);
        self.shared.answers.refuse(context, incoming, refusal);
    }

    fn refuse_stranger(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        refusal: &Refusal,
    ) {
        self.shared.presence_counters.refused(refusal.status);
        let reason = Some(&*refusal.reason);
        let answers = &self.shared.answers;
        answers.stateless(context, incoming, refusal.status, reason, &refusal.headers);
    }

    /// Tells every watcher that the server ends: "deactivated", to subscribe anew at once, to whoever serves then. The last
    /// NOTIFY waits for the answer to the one before.
    fn end(&mut self, context: &Context<'_>, done: oneshot::Sender<()>) {
        self.farewell = Some(done);
        let now = context.now().instant;
        for key in self.watches.keys() {
            // One that has ended stays so.
            let reason = TerminationReason::Deactivated;
            _ = self.notifier.terminate(now, key, &reason, None);
        }
    }
}

impl User for Agent {
    type Command = Command;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        if !METHODS.contains(incoming.request.method()) {
            return Claim::Passed;
        }
        self.take(context, incoming);
        self.settle(context);
        Claim::Taken
    }

    /// What was forked on its way here is published once.
    fn refuses_merged(&self, incoming: &IncomingRequest) -> bool {
        METHODS.contains(incoming.request.method())
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        self.heard(context, event);
        self.settle(context);
    }

    fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
        match command {
            Command::Goes(pending) => self.resume(context, pending),
            Command::Changed => {}
            Command::Reconsider(address) => self.reconsider(context, &address),
            Command::End(done) => self.end(context, done),
        }
        self.settle(context);
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now().instant;
        self.notifier.handle_timeout(now);
        for address in self.publications.handle_timeout(now) {
            self.changed(context, &address);
        }
        for address in self.watches.handle_timeout(now) {
            self.look(context, &address);
        }
        self.settle(context);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let timers = [
            self.notifier.poll_timeout(),
            self.publications.poll_timeout(),
            self.watches.poll_timeout(),
        ];
        timers.into_iter().flatten().min()
    }

    fn methods(&self) -> Vec<Method> {
        METHODS.to_vec()
    }
}

/// The event package, at the pace that is configured.
struct Package(Duration);

impl EventPackage for Package {
    fn name(&self) -> &str {
        PACKAGE
    }

    fn accept(&self) -> &[&str] {
        &[PIDF]
    }

    fn notify_interval(&self) -> Duration {
        self.0
    }
}

/// Refuses what would hold more memory than its share: for as long as a subscription or publication lasts, what these say is
/// kept.
fn check_size(request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let sizes = KEPT.map(|name| headers.all(&name).map(<[u8]>::len).sum::<usize>());
    if sizes.into_iter().sum::<usize>() + request.uri_text().len() <= MAX_KEPT_BYTES {
        return Ok(());
    }
    let status = StatusCode::MESSAGE_TOO_LARGE;
    Err(Refusal::new(status, status.default_reason()))
}

fn unknown_subscription() -> Refusal {
    let status = StatusCode::CALL_DOES_NOT_EXIST;
    Refusal::new(status, UNKNOWN_SUBSCRIPTION)
}

fn lost() -> StoreError {
    StoreError::new("its work ended without an answer")
}

/// What is kept of a SUBSCRIBE, with its Request-URI.
const KEPT: [HeaderName; 6] = [
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::Contact,
    HeaderName::RecordRoute,
    HeaderName::Event,
];
/// Bytes of that: a way by half a dozen proxies fits, and all the subscriptions that there may be fit into memory.
const MAX_KEPT_BYTES: usize = 2048;
/// What the agent answers.
pub(crate) const METHODS: [Method; 2] = [Method::Subscribe, Method::Publish];
/// The event package that there is.
pub(crate) const PACKAGE: &str = "presence";
/// The type of its documents.
pub(crate) const PIDF: &str = "application/pidf+xml";
