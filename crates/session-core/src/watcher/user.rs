//! [`WatcherUser`]: the notifier of a coordinator, inside the endpoint.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sipora_dialog_core::{
    Authorizer, EventPackage, Notifier, NotifierConfig, NotifierRunner, Offer, SubscriptionKey,
};
use sipora_message::{Method, Response};
use sipora_transaction_core::{
    Claim, Context, Event, IdSource, IncomingRequest, ServerTransactionId, User,
};
use tokio::sync::mpsc;

use super::WatcherEnd;
use super::shared::{Board, Shared};
use crate::incoming::{Abilities, Job};

/// Claims SUBSCRIBE. What the rules of RFC 6665 §4.2.1 let pass waits for the application.
pub(crate) struct WatcherUser {
    runner: NotifierRunner,
    jobs: mpsc::Sender<Job>,
    abilities: Arc<Abilities>,
    undecided: HashMap<ServerTransactionId, (Offer, Served)>,
    watchers: HashMap<SubscriptionKey, Served>,
    /// The subscriptions of handles.
    keys: HashMap<u64, SubscriptionKey>,
    board: Board,
    count: Arc<AtomicUsize>,
    next: u64,
}

pub(crate) enum Command {
    /// The application has decided, or was too late.
    Decided(ServerTransactionId, Decision),
    /// Looks at the board.
    Look,
}

pub(crate) enum Decision {
    Accept { is_pending: bool },
    Refuse(Box<Response>),
}

/// A subscription whose handle hears of its end, whatever becomes of the user.
struct Served(Arc<Shared>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.finish(WatcherEnd::Stopped);
    }
}

impl WatcherUser {
    pub(crate) fn new(
        packages: Vec<Arc<dyn EventPackage>>,
        ids: IdSource,
        authorizer: Arc<dyn Authorizer>,
        jobs: mpsc::Sender<Job>,
        abilities: Arc<Abilities>,
        board: Board,
        count: Arc<AtomicUsize>,
    ) -> Self {
        let config = NotifierConfig {
            max_subscriptions: MAX_WATCHERS,
            max_per_source: MAX_WATCHERS,
            ..NotifierConfig::default()
        };
        let notifier = Notifier::new(config, packages, ids).with_ends();
        Self {
            runner: NotifierRunner::new(notifier, Some(authorizer)),
            jobs,
            abilities,
            undecided: HashMap::new(),
            watchers: HashMap::new(),
            keys: HashMap::new(),
            board,
            count,
            next: 0,
        }
    }

    /// Lets the application decide, where there is room for one more that waits.
    fn offered(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest, offer: Offer) {
        let shared = Arc::new(Shared::new(self.next, &offer));
        self.next += 1;
        let job = Job::new(context, incoming, &self.abilities);
        let job = job.about(shared.clone());
        match job.hand_to(&self.jobs) {
            Ok(()) => {
                let waits = (offer, Served(shared));
                self.undecided.insert(incoming.transaction, waits);
            }
            Err(Some(response)) => {
                let _ = context.respond(incoming.transaction, response);
            }
            Err(None) => {}
        }
    }

    fn decided(
        &mut self,
        context: &mut Context<'_>,
        transaction: ServerTransactionId,
        decision: Decision,
    ) {
        let Some((offer, served)) = self.undecided.remove(&transaction) else {
            return;
        };
        let is_pending = match decision {
            Decision::Accept { is_pending } => is_pending,
            Decision::Refuse(response) => {
                let _ = context.respond(transaction, *response);
                return;
            }
        };
        let accepted = self.runner.accept(context, transaction, offer, is_pending);
        let Some(subscription) = accepted else {
            return;
        };
        let key = subscription.key;
        self.keys.insert(served.0.id, key);
        self.look(context.now().instant, key, &served.0);
        self.watchers.insert(key, served);
    }

    /// Does what the handle of a subscription wishes.
    fn look(&mut self, now: Instant, key: SubscriptionKey, shared: &Shared) {
        let wishes = shared.wishes().look();
        let notifier = self.runner.notifier_mut();
        // What has ended stays so.
        if wishes.is_allowed {
            let is_pending = notifier.subscription(key).is_some_and(|one| one.is_pending);
            if is_pending {
                let _ = notifier.activate(now, key);
            }
        }
        if wishes.has_changed {
            notifier.changed_for(now, key);
        }
        if let Some((reason, retry_after)) = wishes.ending {
            let _ = notifier.terminate(now, key, &reason, retry_after);
        }
    }

    fn look_at_all(&mut self, now: Instant) {
        for id in self.board.take() {
            // One that is undecided is looked at when it is accepted.
            let Some(key) = self.keys.get(&id).copied() else {
                continue;
            };
            if let Some(shared) = self.watchers.get(&key).map(|served| served.0.clone()) {
                self.look(now, key, &shared);
            }
        }
    }

    /// Sends what is owed, and tells what has ended.
    fn drain(&mut self, context: &mut Context<'_>) {
        let watchers = &self.watchers;
        self.runner.send_due(context, |subscription| {
            let served = watchers.get(&subscription.key)?;
            served.0.wishes().body.clone()
        });
        while let Some((key, end)) = self.runner.notifier_mut().poll_ended() {
            if let Some(served) = self.watchers.remove(&key) {
                self.keys.remove(&served.0.id);
                served.0.finish(end.into());
            }
        }
        let count = self.runner.notifier().len();
        self.count.store(count, Ordering::Relaxed);
    }
}

impl User for WatcherUser {
    type Command = Command;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        // Extensions that are required, and other schemes, get the endpoint's 420 and 416.
        let is_sip = request.uri().is_ok_and(|uri| uri.is_sip());
        if *request.method() != Method::Subscribe
            || request.headers().require().next().is_some()
            || !is_sip
        {
            return Claim::Passed;
        }
        if let Some(offer) = self.runner.on_request(context, incoming) {
            self.offered(context, incoming, offer);
        }
        self.drain(context);
        Claim::Taken
    }

    /// One request that came by two ways is one request for the application (RFC 3261 §8.2.2.2).
    fn refuses_merged(&self, _: &IncomingRequest) -> bool {
        true
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        let _ = self.runner.on_event(context, event);
        self.drain(context);
    }

    fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
        if let Command::Decided(transaction, decision) = command {
            self.decided(context, transaction, decision);
        }
        self.look_at_all(context.now().instant);
        self.drain(context);
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        self.runner.on_timeout(context);
        self.drain(context);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.runner.next_timeout()
    }

    fn methods(&self) -> Vec<Method> {
        match self.abilities.events.is_empty() {
            true => Vec::new(),
            false => vec![Method::Subscribe],
        }
    }
}

/// Subscriptions at once, from all sources: those of a user agent come through one proxy or few. Beyond, 503.
const MAX_WATCHERS: usize = 5_000;
