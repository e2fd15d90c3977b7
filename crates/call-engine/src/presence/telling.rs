//! NOTIFY, and how its news is found out (RFC 6665 §4.2.2).

use std::time::Duration;

use sipora_dialog_core::{ApiError, Body, NotifierRequest, SubscriptionKey, TerminationReason};
use sipora_message::{Request, Response, Scheme, Uri};
use sipora_transaction_core::{
    Context, Event, RequestError, RequestId, RequestOptions, SendError, Target,
};
use sipora_transport::{Flow, FlowId};

use super::compose::compose;
use super::subscribing::flows;
use super::{Agent, PIDF, Subject};
use crate::lookup::{self, Found};
use crate::metrics::count;
use crate::pending::Outcome;
use crate::relay::over;
use crate::{AddressOfRecord, Answer, StoreError};

/// A NOTIFY that waits for its answer.
pub(super) struct Sent {
    key: SubscriptionKey,
    cseq: u32,
    /// What is tried, once, should the flow turn out to be gone.
    fallback: Option<(Request, Uri)>,
}

impl Agent {
    /// Looks at what has changed and sends the NOTIFYs that are owed; called at the end of every input.
    pub(super) fn settle(&mut self, context: &mut Context<'_>) {
        for address in self.shared.changes.take() {
            self.look(context, &address);
        }
        // One document for all who watch the same user; they come one after the other.
        let mut last: Option<(AddressOfRecord, Body)> = None;
        while let Some(key) = self.notifier.poll_due() {
            let Some(subscription) = self.notifier.subscription(key) else {
                continue;
            };
            let told = match subscription.is_pending {
                true => None,
                false => self.watches.told(key),
            };
            let body = told.map(|(address, registration)| match &last {
                Some((same, body)) if same == address => body.clone(),
                _ => {
                    let now = context.now().instant;
                    let published = self.publications.documents(now, address);
                    let document = compose(address, registration.is_open, published);
                    let body = Body::new(PIDF, document.to_xml());
                    last = Some((address.clone(), body.clone()));
                    body
                }
            });
            let now = context.now().instant;
            if let Some(notify) = self.notifier.notify(now, key, body) {
                self.send(context, notify);
            }
            self.forget_if_over(key);
        }
        if self.notifier.is_empty()
            && let Some(done) = self.farewell.take()
        {
            // Whoever waited may have lost patience.
            _ = done.send(());
        }
        let counters = &self.shared.presence_counters;
        counters.set(&counters.subscriptions, self.notifier.len());
        counters.set(&counters.publications, self.publications.len());
        counters.set(&counters.publication_bytes, self.publications.bytes());
    }

    /// Sends a NOTIFY: over the flow that the last SUBSCRIBE came by where that leads to the watcher, which leads through
    /// NATs and over connections that only the watcher can open; else to where its URI leads. A SIPS watcher hears nothing
    /// in clear (RFC 5630 §5.1.1).
    fn send(&mut self, context: &mut Context<'_>, notify: NotifierRequest) {
        let NotifierRequest {
            key,
            request,
            next_hop,
            flow,
            ..
        } = notify;
        let is_sips = request.uri().is_ok_and(|uri| uri.scheme() == Scheme::Sips);
        let serves = |flow: &Flow| !is_sips || flow.transport.is_secure();
        let flow = flow.filter(|flow| serves(flow) && context.is_open(flow.id));
        let (target, fallback) = match flow {
            Some(flow) => (over(flow, &request), Some((request.clone(), next_hop))),
            None => (Target::Uri(next_hop), None),
        };
        let cseq = request.headers().cseq().map_or(0, |cseq| cseq.number);
        count(&self.shared.presence_counters.notifies);
        let sent = Sent {
            key,
            cseq,
            fallback,
        };
        self.dispatch(context, request, target, sent);
    }

    fn dispatch(
        &mut self,
        context: &mut Context<'_>,
        request: Request,
        target: Target,
        sent: Sent,
    ) {
        let options = RequestOptions::with_deadline(self.patience);
        let error = match context.send(request, target, options) {
            Ok(id) => {
                self.sent.insert(id, sent);
                return;
            }
            Err(error) => error,
        };
        tracing::debug!(%error, "a NOTIFY was not sent");
        let cseq = Some(sent.cseq);
        let error = match error {
            SendError::Overloaded => ApiError::Busy { cseq },
            _ => ApiError::Cancelled { cseq },
        };
        self.lost(context, sent.key, &error);
    }

    /// Hears what became of a NOTIFY.
    pub(super) fn heard(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Response {
                request, response, ..
            } if response.status().is_final() => self.answered(context, request, &response),
            Event::Failed { request, error } => self.failed(context, request, error),
            Event::FlowClosed { flow } => self.flow_closed(context, flow),
            _ => {}
        }
    }

    fn answered(&mut self, context: &Context<'_>, id: RequestId, response: &Response) {
        let Some(Sent { key, cseq, .. }) = self.sent.remove(&id) else {
            return;
        };
        if !response.status().is_success() {
            count(&self.shared.presence_counters.notifies_failed);
        }
        let now = context.now().instant;
        self.notifier.handle_response(now, key, cseq, response);
        self.forget_if_over(key);
    }

    fn failed(&mut self, context: &mut Context<'_>, id: RequestId, error: RequestError) {
        let Some(mut sent) = self.sent.remove(&id) else {
            return;
        };
        let cseq = Some(sent.cseq);
        let error = match error {
            RequestError::Transport(source) => {
                if let Some((request, uri)) = sent.fallback.take() {
                    return self.dispatch(context, request, Target::Uri(uri), sent);
                }
                ApiError::Transport { source, cseq }
            }
            RequestError::Timeout => ApiError::Timeout {
                after: self.patience,
                cseq,
            },
            _ => ApiError::Cancelled { cseq },
        };
        self.lost(context, sent.key, &error);
    }

    fn lost(&mut self, context: &Context<'_>, key: SubscriptionKey, error: &ApiError) {
        count(&self.shared.presence_counters.notifies_failed);
        let now = context.now().instant;
        self.notifier.handle_failure(now, key, error);
        self.forget_if_over(key);
    }

    fn forget_if_over(&mut self, key: SubscriptionKey) {
        if self.notifier.subscription(key).is_some() {
            return;
        }
        if let Some(address) = self.watches.end(key) {
            self.shared.changes.forget(&address);
        }
    }

    /// Asks whether a watched user is still there, and what is bound.
    pub(super) fn look(&mut self, context: &mut Context<'_>, address: &AddressOfRecord) {
        let Some(number) = self.watches.begin_look(address) else {
            return;
        };
        match lookup::user(&self.shared, address, context.now()) {
            Answer::Now(found) => self.looked(context, address, number, found),
            Answer::Later(found) => {
                let subject = Subject::Look(address.clone(), number);
                let work = async { Outcome::Found(found.await) };
                if self.jobs.start(subject, work).is_err() {
                    let error = StoreError::new("too much waits for the store");
                    self.looked(context, address, number, Err(error));
                }
            }
        }
    }

    pub(super) fn looked(
        &mut self,
        context: &mut Context<'_>,
        address: &AddressOfRecord,
        number: u64,
        found: Found,
    ) {
        let Some(is_outdated) = self.watches.end_look(address, number) else {
            return;
        };
        match found {
            Ok(Some(bindings)) => {
                let registration = self.registration(context, &bindings);
                self.watches.lives_on(address, flows(&bindings));
                if self.watches.seen(address, registration) {
                    self.changed(context, address);
                }
            }
            Ok(None) => return self.gone(context, address),
            // Watchers keep what they know; it is no news that a store fails.
            Err(error) => {
                tracing::error!(%error, %address, "a watched address could not be looked up");
                let again = context.now().instant.checked_add(LOOK_AGAIN);
                return self.watches.look_at(address, again);
            }
        }
        if is_outdated {
            self.look(context, address);
        }
    }

    /// A connection has ended. Whose binding was made over it is looked at in a while: most phones are back by then, and
    /// their watchers need not hear of it.
    pub(super) fn flow_closed(&mut self, context: &Context<'_>, flow: FlowId) {
        let at = context.now().instant.checked_add(BACK_BY_THEN);
        for address in self.watches.those_on(flow) {
            self.watches.look_before(&address, at);
        }
    }

    /// Tells those who watch a user that there is no such user any more.
    fn gone(&mut self, context: &Context<'_>, address: &AddressOfRecord) {
        let now = context.now().instant;
        for key in self.watches.keys_of(address) {
            self.watches.refuse(key);
            // One that has ended stays so.
            let reason = TerminationReason::NoResource;
            _ = self.notifier.terminate(now, key, &reason, None);
        }
    }
}

/// Time that a phone has to come back: RFC 5626 §4.5 has it try at once, and the next time after half a minute.
const BACK_BY_THEN: Duration = Duration::from_secs(10);

/// Time that a store has to recover.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
