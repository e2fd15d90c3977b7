//! [`NotifierApi`]: the notifier inside an endpoint.

use std::sync::Arc;
use std::time::Instant;

use sipora_message::{Method, Uri};
use sipora_transaction_core::{
    Claim, CommandError, Context, EndpointBuilder, Event, IncomingRequest, User, UserHandle,
};

use super::{
    Body, Decision, Notifier, NotifierConfig, NotifierEnd, NotifierRunner, NotifierSubscription,
    Offer, SubscriptionKey,
};
use crate::subscription::{EventPackage, TerminationReason};
use crate::{ApiError, ApiResult, Authorizer};

/// Decides about subscriptions and knows what to tell. It runs inside the endpoint's task: it computes and never waits
/// ("notifiers MUST NOT wait for a user response", RFC 6665 §4.2.1.1); who has to ask somebody says [`Decision::Pending`].
pub trait EventSource: Send + 'static {
    /// Decides about a new subscription. `key` names it if it is accepted.
    fn on_subscribe(&mut self, offer: &Offer) -> Decision;

    /// Hears that a subscription was made.
    fn on_accepted(&mut self, subscription: &NotifierSubscription) {
        let _ = subscription;
    }

    /// Hears that a subscription has ended, and how.
    fn on_ended(&mut self, key: SubscriptionKey, end: &NotifierEnd) {
        let _ = (key, end);
    }

    /// Gives the present state for a NOTIFY. Not asked for subscriptions that are pending: they are told nothing.
    fn state(&mut self, subscription: &NotifierSubscription) -> Option<Body>;
}

/// Tells a notifier inside an endpoint what has changed. Cheap to clone. A future that is dropped while it waits for room has
/// told nothing.
#[derive(Debug, Clone)]
pub struct NotifierApi {
    user: UserHandle<Command>,
}

enum Command {
    Changed(String, Uri),
    Activate(SubscriptionKey),
    Terminate(SubscriptionKey, TerminationReason, Option<u32>),
}

impl NotifierApi {
    /// Adds a notifier to an endpoint that is being built. It claims every SUBSCRIBE; `authorizer` answers challenges to its
    /// NOTIFYs.
    pub fn add_to(
        builder: &mut EndpointBuilder,
        config: NotifierConfig,
        packages: Vec<Arc<dyn EventPackage>>,
        source: impl EventSource,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Self {
        let core = Notifier::new(config, packages, builder.split_ids()).with_ends();
        let user = builder.add_user(NotifierUser {
            runner: NotifierRunner::new(core, authorizer),
            source,
        });
        Self { user }
    }

    /// Lets every active subscription of `package` to `resource` be told its present state.
    ///
    /// # Errors
    ///
    /// [`ApiError::Cancelled`] when the endpoint has ended.
    pub async fn changed(&self, package: &str, resource: &Uri) -> ApiResult<()> {
        let command = Command::Changed(package.to_owned(), resource.clone());
        self.send(command).await
    }

    /// Allows a subscription that was pending; one that has ended stays so.
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed).
    pub async fn activate(&self, key: SubscriptionKey) -> ApiResult<()> {
        self.send(Command::Activate(key)).await
    }

    /// Ends a subscription, and says why; one that has ended stays so.
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed).
    pub async fn terminate(
        &self,
        key: SubscriptionKey,
        reason: TerminationReason,
        retry_after: Option<u32>,
    ) -> ApiResult<()> {
        self.send(Command::Terminate(key, reason, retry_after))
            .await
    }

    async fn send(&self, command: Command) -> ApiResult<()> {
        let sent = self.user.send(command).await;
        sent.map_err(|_: CommandError| ApiError::Cancelled { cseq: None })
    }
}

struct NotifierUser<S> {
    runner: NotifierRunner,
    source: S,
}

impl<S: EventSource> NotifierUser<S> {
    fn drain(&mut self, context: &mut Context<'_>) {
        let source = &mut self.source;
        self.runner
            .send_due(context, |subscription| source.state(subscription));
        while let Some((key, end)) = self.runner.notifier_mut().poll_ended() {
            self.source.on_ended(key, &end);
        }
    }

    fn offered(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest, offer: Offer) {
        let transaction = incoming.transaction;
        let is_pending = match self.source.on_subscribe(&offer) {
            Decision::Refuse(status) => {
                return self.runner.refuse(context, transaction, &offer, status);
            }
            Decision::Active => false,
            Decision::Pending => true,
        };
        let accepted = self.runner.accept(context, transaction, offer, is_pending);
        if let Some(subscription) = accepted {
            self.source.on_accepted(&subscription);
        }
    }
}

impl<S: EventSource> User for NotifierUser<S> {
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

    /// One request that came by two ways is one request (RFC 3261 §8.2.2.2).
    fn refuses_merged(&self, _: &IncomingRequest) -> bool {
        true
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        let _ = self.runner.on_event(context, event);
        self.drain(context);
    }

    fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
        let now = context.now().instant;
        let notifier = self.runner.notifier_mut();
        // What has ended stays so.
        let _ = match command {
            Command::Changed(package, resource) => {
                notifier.changed(now, &package, &resource);
                Ok(())
            }
            Command::Activate(key) => notifier.activate(now, key),
            Command::Terminate(key, reason, retry_after) => {
                notifier.terminate(now, key, &reason, retry_after)
            }
        };
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
        vec![Method::Subscribe]
    }
}
