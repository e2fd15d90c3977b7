//! [`NotifierApi`]: the notifier inside an endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{Method, Uri};
use sipora_transaction_core::{
    Claim, CommandError, Context, EndpointBuilder, Event, IncomingRequest, Target, User, UserHandle,
};
use sipora_transport::{Flow, Transport};

use super::core::{Notifier, NotifierConfig, NotifierSubscription, SubscriptionKey};
use super::{Body, Decision, Offer, Subscribed};
use crate::outbox::{Outbox, Outgoing};
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

    /// Gives the present state for a NOTIFY. Not asked for subscriptions that are pending: they are told nothing.
    fn state(&mut self, subscription: &NotifierSubscription) -> Option<Body>;
}

/// Tells a notifier inside an endpoint what has changed. Cheap to clone.
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
        let core = Notifier::new(config, packages, builder.split_ids());
        let user = builder.add_user(NotifierUser {
            core,
            source,
            outbox: Outbox::new(),
            authorizer,
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
    core: Notifier,
    source: S,
    outbox: Outbox<SubscriptionKey>,
    authorizer: Option<Arc<dyn Authorizer>>,
}

impl<S: EventSource> NotifierUser<S> {
    fn drain(&mut self, context: &mut Context<'_>) {
        while let Some(key) = self.core.poll_due() {
            let Some(subscription) = self.core.subscription(key) else {
                continue;
            };
            let body = match subscription.is_pending {
                true => None,
                false => self.source.state(&subscription),
            };
            let now = context.now().instant;
            let Some(notify) = self.core.notify(now, key, body) else {
                continue;
            };
            let outgoing = Outgoing {
                key,
                request: notify.request,
                target: Target::Uri(notify.next_hop),
                authorizer: self.authorizer.clone(),
                timeout: TIMEOUT,
            };
            if let Some(outcome) = self.outbox.send(context, outgoing)
                && let Err(error) = outcome.result
            {
                self.core.handle_failure(now, outcome.key, &error);
            }
        }
    }

    fn offered(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest, offer: Offer) {
        let is_pending = match self.source.on_subscribe(&offer) {
            Decision::Refuse(status) => {
                let answer = context.answer(&incoming.request, status).build();
                if let Ok(response) = answer {
                    let _ = context.respond_stateless(incoming.transaction, response);
                }
                return;
            }
            Decision::Active => false,
            Decision::Pending => true,
        };
        let contact = contact(context, &incoming.flow, offer.resource());
        let now = context.now().instant;
        let (key, answer) = self.core.accept(now, offer, is_pending, &contact);
        if let Some(subscription) = self.core.subscription(key) {
            self.source.on_accepted(&subscription);
        }
        if let Ok(response) = answer.build() {
            let _ = context.respond(incoming.transaction, response);
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
        let (now, source) = (context.now().instant, incoming.flow.remote.ip());
        match self.core.handle_subscribe(now, request, source) {
            Subscribed::Answer(answer) => {
                let tag = context.keyed_tag(request);
                if let Ok(response) = answer.to_tag(tag.as_str()).build() {
                    let _ = context.respond(incoming.transaction, response);
                }
            }
            Subscribed::Offer(offer) => self.offered(context, incoming, *offer),
        }
        self.drain(context);
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        let now = context.now().instant;
        if let Some(outcome) = self.outbox.on_event(context, event) {
            match outcome.result {
                Ok(exchange) => {
                    let (key, response) = (outcome.key, &exchange.response);
                    self.core.handle_response(now, key, exchange.cseq, response);
                }
                Err(error) => self.core.handle_failure(now, outcome.key, &error),
            }
        }
        self.drain(context);
    }

    fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
        // What has ended stays so.
        let _ = match command {
            Command::Changed(package, resource) => {
                self.core.changed(&package, &resource);
                Ok(())
            }
            Command::Activate(key) => self.core.activate(key),
            Command::Terminate(key, reason, retry_after) => {
                self.core.terminate(key, &reason, retry_after)
            }
        };
        self.drain(context);
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        self.core.handle_timeout(context.now().instant);
        self.drain(context);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }

    fn methods(&self) -> Vec<Method> {
        vec![Method::Subscribe]
    }
}

/// Where the peer of a flow reaches us, for what it watches.
fn contact(context: &Context<'_>, flow: &Flow, resource: &Uri) -> String {
    let sent_by = context.sent_by(flow);
    let user = resource.user().map(|user| format!("{user}@"));
    let transport = match flow.transport {
        Transport::Udp => String::new(),
        other => format!(";transport={}", other.parameter()),
    };
    format!("sip:{}{sent_by}{transport}", user.unwrap_or_default())
}

/// How long a NOTIFY may take: 64 × T1.
const TIMEOUT: Duration = Duration::from_secs(32);
