//! SUBSCRIBE (RFC 6665 §4.2.1, RFC 3856 §6.6).

use sipora_dialog_core::{Offer, Subscribed, TerminationReason};
use sipora_message::{Request, ResponseBuilder, Scheme, StatusCode, Uri, UriRef};
use sipora_transaction_core::{Context, IncomingRequest};
use sipora_transport::{Flow, FlowId, Transport};

use super::watches::{Registration, dialog_key};
use super::{Agent, WatcherDecision};
use crate::lookup::{self, Found, in_time};
use crate::pending::Outcome;
use crate::refusal::Refusal;
use crate::relay::way;
use crate::{AddressOfRecord, Answer, Binding};

impl Agent {
    /// Asks whether there is such a user, and what is bound.
    pub(super) fn find(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: AddressOfRecord,
    ) {
        match lookup::user(&self.shared, &address, context.now()) {
            Answer::Now(found) => self.found(context, incoming, &address, found),
            Answer::Later(found) => self.later(context, incoming, async {
                Outcome::Found(in_time(found).await)
            }),
        }
    }

    pub(super) fn found(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: &AddressOfRecord,
        found: Found,
    ) {
        let refusal = match found {
            Ok(Some(bindings)) => return self.offered(context, incoming, address, &bindings),
            Ok(None) => {
                let status = StatusCode::NOT_FOUND;
                Refusal::new(status, status.default_reason())
            }
            Err(error) => self.shared.answers.store_failed(&error),
        };
        self.refuse(context, incoming, &refusal);
    }

    /// Lets the rules of subscriptions look at a SUBSCRIBE.
    fn offered(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: &AddressOfRecord,
        bindings: &[Binding],
    ) {
        let now = context.now().instant;
        // Whatever port or parameters the watcher wrote: it watches the address-of-record.
        let canonical = canonical(&incoming.request, address);
        let request = canonical.as_ref().unwrap_or(&incoming.request);
        match self.notifier.handle_subscribe(now, request, &incoming.flow) {
            Subscribed::Offer(offer) => self.decide(context, incoming, address, *offer, bindings),
            Subscribed::Answer(answer) => self.answer(context, incoming, *answer),
            _ => {
                let status = StatusCode::SERVER_INTERNAL_ERROR;
                self.refuse(context, incoming, &Refusal::new(status, "Not Understood"));
            }
        }
    }

    fn decide(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: &AddressOfRecord,
        offer: Offer,
        bindings: &[Binding],
    ) {
        let watcher = self.sender(context, &incoming.request);
        let is_pending = match self.decision(watcher.as_ref(), address) {
            WatcherDecision::Allow => false,
            WatcherDecision::Pending => true,
            WatcherDecision::Refuse => {
                let status = StatusCode::FORBIDDEN;
                let refusal = Refusal::new(status, "You May Not Watch");
                return self.refuse(context, incoming, &refusal);
            }
        };
        let Some(dialog) = dialog_key(&incoming.request) else {
            let refusal = Refusal::bad_request("From has no tag");
            return self.refuse(context, incoming, &refusal);
        };
        let contact = contact(context, &incoming.flow, offer.resource());
        let now = context.now().instant;
        let (key, answer) = match self.notifier.accept(now, offer, is_pending, &contact) {
            Ok(accepted) => accepted,
            Err(answer) => return self.answer(context, incoming, *answer),
        };
        tracing::debug!(
            peer = %incoming.flow.remote,
            call_id = incoming.request.headers().call_id().unwrap_or_default(),
            %address,
            is_pending,
            "subscribed"
        );
        let registration = self.registration(context, bindings);
        self.watches
            .begin(key, address.clone(), watcher, dialog, registration);
        self.watches.lives_on(address, flows(bindings));
        self.shared.changes.watch(address);
        // Before the NOTIFY, which `settle` sends.
        self.shared.answers.send(context, incoming, answer);
        // The store was asked before anybody told us of changes; bindings may be changed by other tasks at any time.
        self.look(context, address);
    }

    /// Takes a SUBSCRIBE within a dialog. Whoever sends it is the user that From names, and has to be the one who watches.
    pub(super) fn refresh(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) {
        let key = self.watches.of_dialog(&incoming.request);
        if let Some(key) = key
            && !self.is_open()
            && self.watches.watcher(key) != self.sender(context, &incoming.request).as_ref()
        {
            let refusal = Refusal::new(StatusCode::FORBIDDEN, "Not Your Subscription");
            return self.refuse(context, incoming, &refusal);
        }
        let now = context.now().instant;
        let request = &incoming.request;
        let taken = self.notifier.handle_subscribe(now, request, &incoming.flow);
        if let Subscribed::Answer(answer) = taken {
            self.answer(context, incoming, *answer);
        }
        // Bindings may have changed without a word to us: another server has the same store.
        let address = key.and_then(|key| self.watches.address(key).cloned());
        if let Some(address) = address {
            self.look(context, &address);
        }
    }

    /// Asks the policy about everybody who watches an address.
    pub(super) fn reconsider(&mut self, context: &Context<'_>, address: &AddressOfRecord) {
        let now = context.now().instant;
        for key in self.watches.keys_of(address) {
            // What has ended stays so.
            _ = match self.decision(self.watches.watcher(key), address) {
                WatcherDecision::Allow => {
                    let subscription = self.notifier.subscription(key);
                    match subscription.is_some_and(|subscription| subscription.is_pending) {
                        true => self.notifier.activate(now, key),
                        false => Ok(()),
                    }
                }
                WatcherDecision::Pending => Ok(()),
                WatcherDecision::Refuse => {
                    self.watches.refuse(key);
                    let reason = TerminationReason::Rejected;
                    self.notifier.terminate(now, key, &reason, None)
                }
            };
        }
    }

    fn decision(
        &self,
        watcher: Option<&AddressOfRecord>,
        address: &AddressOfRecord,
    ) -> WatcherDecision {
        // Only who has proven it is the user himself.
        match watcher == Some(address) && !self.is_open() {
            true => WatcherDecision::Allow,
            false => self.policy.decide(watcher, address),
        }
    }

    fn answer(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        answer: ResponseBuilder,
    ) {
        let tag = context.keyed_tag(&incoming.request);
        let answer = answer.to_tag(tag.as_str());
        let status = self.shared.answers.send(context, incoming, answer);
        if !status.is_success() {
            self.shared.presence_counters.refused(status);
        }
    }

    /// Who is bound where nobody can reach him any more is not registered, as far as watchers are concerned: a phone whose
    /// connection has died does not ring. The binding is there all the same, until it expires or the phone comes back.
    pub(super) fn registration(&self, context: &Context<'_>, bindings: &[Binding]) -> Registration {
        let now = context.now();
        let timestamp = self.shared.clock.timestamp(now);
        let is_reachable = |binding: &&Binding| {
            let schemes = [Scheme::Sip, Scheme::Sips];
            let is_open = |flow: &Flow| context.is_open(flow.id);
            let is_way = |scheme| way(binding, scheme, is_open).is_ok();
            // Where it came to another process, that one knows; what is no SIP URI leads elsewhere, and not over a flow.
            binding.flow().is_none() || !leads_by_sip(binding) || schemes.into_iter().any(is_way)
        };
        let live = bindings
            .iter()
            .filter(|binding| !binding.is_expired(timestamp))
            .filter(is_reachable);
        let last = live.map(Binding::expires_at).max();
        Registration {
            is_open: last.is_some(),
            until: last.and_then(|last| now.instant.checked_add(timestamp.until(last))),
        }
    }
}

/// The connections that bindings were made over.
pub(super) fn flows(bindings: &[Binding]) -> impl Iterator<Item = FlowId> {
    let flows = bindings.iter().filter_map(Binding::flow);
    let streams = flows.filter(|flow| flow.transport.is_stream());
    streams.map(|flow| flow.id)
}

fn leads_by_sip(binding: &Binding) -> bool {
    UriRef::parse(binding.uri()).is_ok_and(|uri| uri.is_sip())
}

fn canonical(request: &Request, address: &AddressOfRecord) -> Option<Request> {
    let uri = address.to_uri()?;
    request.edit().uri(&uri).build().ok()
}

/// Where the watcher reaches us within the dialog.
fn contact(context: &Context<'_>, flow: &Flow, resource: &Uri) -> String {
    let sent_by = context.sent_by(flow);
    let user = resource.user().map(|user| format!("{user}@"));
    let transport = match flow.transport {
        Transport::Udp => String::new(),
        other => format!(";transport={}", other.parameter()),
    };
    format!("sip:{}{sent_by}{transport}", user.unwrap_or_default())
}
