//! [`NotifierRunner`]: a notifier inside a transaction user.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{Request, StatusCode, Uri};
use sipora_transaction_core::{Context, Event, IncomingRequest, ServerTransactionId, Target};
use sipora_transport::{Destination, Transport};

use super::{
    Body, Notifier, NotifierRequest, NotifierSubscription, Offer, Subscribed, SubscriptionKey,
};
use crate::Authorizer;
use crate::outbox::{Outbox, Outgoing};

/// Runs a [`Notifier`] inside a [`User`](sipora_transaction_core::User) of one's own: it answers SUBSCRIBEs and sends
/// NOTIFYs. [`NotifierApi`](crate::NotifierApi) is such a user, for who needs no other.
///
/// It is for servers that take time to decide (a database, a policy), or that serve more than subscriptions:
///
/// - [`on_request`](Self::on_request) gets each SUBSCRIBE that the user claims. The [`Offer`] that it gives can be kept,
///   with `incoming.transaction`, until [`accept`](Self::accept) or [`refuse`](Self::refuse).
/// - [`on_event`](Self::on_event) gets each event, and gives back those that are none of its own.
/// - [`on_timeout`](Self::on_timeout) and [`next_timeout`](Self::next_timeout) are the user's own.
/// - What has changed is told by [`notifier_mut`](Self::notifier_mut).
/// - After each of them [`send_due`](Self::send_due) sends the NOTIFYs that are owed.
///
/// ```
/// use sipora_dialog_core::{Body, NotifierRunner, NotifierSubscription, Offer};
/// use sipora_message::{Method, StatusCode, Uri};
/// use sipora_transaction_core::{Claim, Context, Event, IncomingRequest, ServerTransactionId, User};
/// use std::collections::HashMap;
/// use std::time::Instant;
///
/// struct Presence {
///     runner: NotifierRunner,
///     undecided: HashMap<ServerTransactionId, Offer>,
/// }
///
/// enum Command {
///     Decided { transaction: ServerTransactionId, is_allowed: bool },
///     Changed(Uri),
/// }
///
/// fn document(subscription: &NotifierSubscription) -> Option<Body> {
///     Some(Body::new("application/pidf+xml", format!("<presence entity=\"{}\"/>", subscription.resource)))
/// }
///
/// impl User for Presence {
///     type Command = Command;
///
///     fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
///         if *incoming.request.method() != Method::Subscribe {
///             return Claim::Passed;
///         }
///         if let Some(offer) = self.runner.on_request(context, incoming) {
///             // Here somebody is asked, who answers by a command.
///             self.undecided.insert(incoming.transaction, offer);
///         }
///         self.runner.send_due(context, document);
///         Claim::Taken
///     }
///
///     fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
///         match command {
///             Command::Decided { transaction, is_allowed } => match self.undecided.remove(&transaction) {
///                 Some(offer) if is_allowed => drop(self.runner.accept(context, transaction, offer, false)),
///                 Some(offer) => self.runner.refuse(context, transaction, &offer, StatusCode::FORBIDDEN),
///                 None => {}
///             },
///             Command::Changed(resource) => {
///                 let now = context.now().instant;
///                 self.runner.notifier_mut().changed(now, "presence", &resource);
///             }
///         }
///         self.runner.send_due(context, document);
///     }
///
///     fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
///         let _others = self.runner.on_event(context, event);
///         self.runner.send_due(context, document);
///     }
///
///     fn on_timeout(&mut self, context: &mut Context<'_>) {
///         self.runner.on_timeout(context);
///         self.runner.send_due(context, document);
///     }
///
///     fn next_timeout(&self) -> Option<Instant> {
///         self.runner.next_timeout()
///     }
///
///     fn methods(&self) -> Vec<Method> {
///         vec![Method::Subscribe]
///     }
/// }
/// ```
pub struct NotifierRunner {
    notifier: Notifier,
    outbox: Outbox<SubscriptionKey>,
    authorizer: Option<Arc<dyn Authorizer>>,
}

impl NotifierRunner {
    /// Runs `notifier`; `authorizer` answers challenges to its NOTIFYs.
    pub fn new(notifier: Notifier, authorizer: Option<Arc<dyn Authorizer>>) -> Self {
        Self {
            notifier,
            outbox: Outbox::new(),
            authorizer,
        }
    }

    /// The notifier, to look at.
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The notifier, to be told what changed, what is allowed and what has ended. What it then owes is sent by
    /// [`send_due`](Self::send_due).
    pub fn notifier_mut(&mut self) -> &mut Notifier {
        &mut self.notifier
    }

    /// Takes a SUBSCRIBE, and answers it if the rules do: a refresh, an end, an error ([`Notifier::handle_subscribe`]). Else
    /// it is an offer, which somebody has to accept or refuse before its client gives up (32 s).
    ///
    /// A user that serves requests refuses merged ones
    /// ([`User::refuses_merged`](sipora_transaction_core::User::refuses_merged)), so that nobody is asked twice.
    ///
    /// Whether the request may be served at all, its credentials, Require and Request-URI, is for the user to have seen to.
    pub fn on_request(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
    ) -> Option<Offer> {
        let (now, request) = (context.now().instant, &incoming.request);
        match self.notifier.handle_subscribe(now, request, &incoming.flow) {
            Subscribed::Offer(offer) => Some(*offer),
            Subscribed::Answer(answer) => {
                let tag = context.keyed_tag(request);
                if let Ok(response) = answer.to_tag(tag.as_str()).build() {
                    let transaction = incoming.transaction;
                    let is_first = request.headers().to().is_ok_and(|to| to.tag().is_none());
                    // A refusal outside any dialog has changed nothing: a copy gets the same, and a request that was put
                    // right is no merged one.
                    let _ = match is_first {
                        true => context.respond_stateless(transaction, response),
                        false => context.respond(transaction, response),
                    };
                }
                None
            }
        }
    }

    /// Accepts an offer, at once or later, and answers its transaction with 200. Its first NOTIFY is owed.
    ///
    /// `None` where it was too late: the same SUBSCRIBE has been accepted by another way (482), or a limit has been reached
    /// (503); that is then answered.
    pub fn accept(
        &mut self,
        context: &mut Context<'_>,
        transaction: ServerTransactionId,
        offer: Offer,
        is_pending: bool,
    ) -> Option<NotifierSubscription> {
        let contact = contact(context, &offer);
        let now = context.now().instant;
        let (key, answer) = match self.notifier.accept(now, offer, is_pending, &contact) {
            Ok((key, answer)) => (Some(key), answer),
            Err(answer) => (None, *answer),
        };
        if let Ok(response) = answer.build() {
            // A client that has given up refuses the NOTIFY, and with it the subscription.
            let _ = context.respond(transaction, response);
        }
        self.notifier.subscription(key?)
    }

    /// Refuses an offer.
    pub fn refuse(
        &mut self,
        context: &mut Context<'_>,
        transaction: ServerTransactionId,
        offer: &Offer,
        status: StatusCode,
    ) {
        if let Ok(response) = context.answer(offer.request(), status).build() {
            let _ = context.respond_stateless(transaction, response);
        }
    }

    /// Sends every NOTIFY that is owed. `state` gives what there is to tell; it is not asked for subscriptions that are
    /// pending, which are told nothing.
    ///
    /// A NOTIFY goes back over the flow of the last SUBSCRIBE while that is open and leads to the subscriber
    /// ([`NotifierRequest::flow`]); else, and when the flow turns out to be gone, its URI is located.
    pub fn send_due(
        &mut self,
        context: &mut Context<'_>,
        mut state: impl FnMut(&NotifierSubscription) -> Option<Body>,
    ) {
        while let Some(key) = self.notifier.poll_due() {
            let Some(subscription) = self.notifier.subscription(key) else {
                continue;
            };
            let body = match subscription.is_pending {
                true => None,
                false => state(&subscription),
            };
            let now = context.now().instant;
            let Some(notify) = self.notifier.notify(now, key, body) else {
                continue;
            };
            let (target, fallback) = way(context, &notify);
            let outgoing = Outgoing {
                key,
                request: notify.request,
                target,
                fallback,
                authorizer: self.authorizer.clone(),
                timeout: TIMEOUT,
            };
            if let Some(outcome) = self.outbox.send(context, outgoing)
                && let Err(error) = outcome.result
            {
                self.notifier.handle_failure(now, outcome.key, &error);
            }
        }
    }

    /// Takes what became of its NOTIFYs, and gives back an event that is about something else.
    pub fn on_event(&mut self, context: &mut Context<'_>, event: Event) -> Option<Event> {
        if !self.outbox.is_about(&event) {
            return Some(event);
        }
        let outcome = self.outbox.on_event(context, event)?;
        let now = context.now().instant;
        match outcome.result {
            Ok(exchange) => {
                let (key, response) = (outcome.key, &exchange.response);
                let cseq = exchange.cseq;
                self.notifier.handle_response(now, key, cseq, response);
            }
            Err(error) => self.notifier.handle_failure(now, outcome.key, &error),
        }
        None
    }

    /// Does what the time asks for.
    pub fn on_timeout(&mut self, context: &mut Context<'_>) {
        self.notifier.handle_timeout(context.now().instant);
    }

    /// When [`on_timeout`](Self::on_timeout) wants to be called; too early does no harm.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.notifier.poll_timeout()
    }
}

impl std::fmt::Debug for NotifierRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotifierRunner")
            .field("notifier", &self.notifier)
            .finish_non_exhaustive()
    }
}

/// The way of a NOTIFY, and the one that is left should that turn out to be gone.
///
/// What is too large for a datagram goes to the same address over TCP if that can be had (RFC 3261 §18.1.1), which the
/// transaction layer sees to for addresses and not for flows.
fn way(context: &Context<'_>, notify: &NotifierRequest) -> (Target, Option<Uri>) {
    let uri = notify.next_hop.clone();
    let Some(flow) = notify.flow.filter(|flow| context.is_open(flow.id)) else {
        return (Target::Uri(uri), None);
    };
    let target = match flow.transport {
        Transport::Udp if is_large(&notify.request) => {
            Target::Destinations(vec![Destination::udp(flow.remote)])
        }
        _ => Target::Flow(flow),
    };
    (target, Some(uri))
}

fn is_large(request: &Request) -> bool {
    request.as_bytes().len() + VIA_BYTES > DATAGRAM_LIMIT
}

/// Where the peer of a flow reaches us, for what it watches.
fn contact(context: &Context<'_>, offer: &Offer) -> String {
    let user = offer.resource().user();
    crate::contact::of_flow(context, offer.flow(), user, offer.is_secure())
}

/// How long a NOTIFY may take: 64 × T1.
const TIMEOUT: Duration = Duration::from_secs(32);

/// RFC 3261 §18.1.1.
const DATAGRAM_LIMIT: usize = 1300;

/// Room for the Via that is still to come.
const VIA_BYTES: usize = 100;
