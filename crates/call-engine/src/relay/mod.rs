//! The relay: MESSAGE and OPTIONS to a user go to every contact of that user, as a stateful proxy sends them (RFC 3261 §16).
//!
//! Who sends proves to be the user that From names; nobody else's messages are carried. All contacts are asked at once,
//! whatever their `q`: a message belongs on every device of a person, and OPTIONS asks for no more than one answer. Each is
//! reached over the flow that its REGISTER came by, which leads through NATs and over connections that only the phone can
//! open; a contact whose flow is gone is located by its URI where somebody may listen there, and else passed over until it
//! registers again. A request to a `sips` URI goes to `sips` contacts over TLS, and to nobody else (RFC 5630).

mod context;
mod forks;
mod metrics;
mod request;
mod way;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sipora_message::{HeaderName, Method, Request, Response, Scheme, StatusCode};
use sipora_transaction_core::{
    Claim, Context, Event, IncomingRequest, RequestError, RequestId, RequestOptions, SendError,
    Target, User,
};

use crate::gate::{Access, Asker, Gate, Secrets, Stopped};
use crate::lookup::{self, in_time};
use crate::metrics::count;
use crate::options;
use crate::pending::{Jobs, Outcome, Pending};
use crate::refusal::Refusal;
use crate::registrar::Shared;
use crate::source::network;
use crate::{AddressOfRecord, Answer, Binding, StoreError};
use context::Final;
use forks::{Branch, Forks, NoRoom, Sender};
pub(crate) use metrics::RelayCounters;
pub use metrics::RelayMetrics;
pub(crate) use request::own_routes;
use way::{NoWay, belongs};
pub(crate) use way::{over, way};

/// Carries requests to users, inside an endpoint's task.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    jobs: Jobs,
    forks: Forks,
    /// Requests that may wait for contacts at once.
    limit: usize,
    /// Time that a contact has to answer.
    patience: Duration,
    gate: Gate,
}

impl Relay {
    pub(crate) fn new(shared: Arc<Shared>, jobs: Jobs, limit: usize, t1: Duration) -> Self {
        Self {
            gate: Gate::new(Arc::clone(&shared), Asker::Relay),
            shared,
            jobs,
            forks: Forks::default(),
            limit,
            patience: t1.saturating_mul(PATIENCE_IN_T1),
        }
    }

    /// §16.3: may the request be forwarded, and who sends it?
    fn relay(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: AddressOfRecord,
    ) {
        count(&self.shared.relay_counters.requests);
        if let Err(refusal) = self.check(context, incoming, &address) {
            return self.refuse_stranger(context, incoming, &refusal);
        }
        let realm = self.realm(context, &incoming.request, &address);
        match self.gate.secrets(&incoming.request, &realm) {
            None => self.find(context, incoming, address),
            Some(Answer::Now(secrets)) => self.judge(context, incoming, address, secrets),
            Some(Answer::Later(secrets)) => {
                self.later(context, incoming, async {
                    Outcome::Secrets(in_time(secrets).await)
                });
            }
        }
    }

    fn check(
        &self,
        context: &Context<'_>,
        incoming: &IncomingRequest,
        address: &AddressOfRecord,
    ) -> Result<request::Checked, Refusal> {
        let now = context.now().instant;
        let domains = &self.shared.domains;
        let checked = request::check(&incoming.request, |uri| domains.leads_here(uri, now))?;
        if self.forks.is_loop(address, &incoming.request) {
            let status = StatusCode::LOOP_DETECTED;
            return Err(Refusal::new(status, status.default_reason()));
        }
        Ok(checked)
    }

    /// The sender's own domain where that is served here; a stranger is asked in the domain of whom it wants to reach.
    fn realm(&self, context: &Context<'_>, request: &Request, address: &AddressOfRecord) -> String {
        let sender = self.sender(context, request);
        sender.as_ref().unwrap_or(address).domain().to_owned()
    }

    /// The address in From, if it is one of a served domain.
    fn sender(&self, context: &Context<'_>, request: &Request) -> Option<AddressOfRecord> {
        self.shared.domains.sender(request, context.now().instant)
    }

    /// Whose share of the room a request takes: the user's who has proven to have sent it; else that of where it comes from.
    fn held_by(&self, context: &Context<'_>, incoming: &IncomingRequest) -> Sender {
        let proven = match self.shared.access {
            Access::Open => None,
            Access::Digest { .. } => self.sender(context, &incoming.request),
        };
        let source = || Sender::Source(network(incoming.flow.remote.ip()));
        proven.map_or_else(source, Sender::User)
    }

    /// §16.3 step 6: is it who it says, and is From that user's?
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: AddressOfRecord,
        secrets: Result<Secrets, StoreError>,
    ) {
        let realm = self.realm(context, &incoming.request, &address);
        match self.gate.judge(context, incoming, &realm, secrets) {
            Ok(user) => {
                let sender = self.sender(context, &incoming.request);
                if sender.is_some_and(|sender| *sender.user() == *user) {
                    return self.find(context, incoming, address);
                }
                let refusal = Refusal::new(StatusCode::FORBIDDEN, "From Is Not Yours");
                self.refuse(context, incoming, &refusal);
            }
            Err(Stopped::Challenged) => {}
            Err(Stopped::Stranger(refusal)) => self.refuse_stranger(context, incoming, &refusal),
            Err(Stopped::Failed(refusal)) => self.refuse(context, incoming, &refusal),
        }
    }

    /// §16.5: the contacts of the address.
    fn find(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: AddressOfRecord,
    ) {
        match lookup::user(&self.shared, &address, context.now()) {
            Answer::Now(found) => self.found(context, incoming, address, found),
            Answer::Later(found) => {
                self.later(context, incoming, async {
                    Outcome::Found(in_time(found).await)
                });
            }
        }
    }

    fn found(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: AddressOfRecord,
        found: Result<Option<Vec<Binding>>, StoreError>,
    ) {
        let refusal = |status: StatusCode| Refusal::new(status, status.default_reason());
        // Where anybody may register, whoever is registered is there.
        let is_open = matches!(self.shared.access, Access::Open);
        match found {
            Ok(Some(bindings)) if is_open && bindings.is_empty() => {
                self.refuse(context, incoming, &refusal(StatusCode::NOT_FOUND));
            }
            Ok(Some(bindings)) => self.fork(context, incoming, address, &bindings),
            // "If the target set is empty, the proxy MUST return an error response, which SHOULD be the 480"; 404 is for
            // who knows that there is no such user (§21.4.5).
            Ok(None) => self.refuse(context, incoming, &refusal(StatusCode::NOT_FOUND)),
            Err(error) => {
                let refusal = self.shared.answers.store_failed(&error);
                self.refuse(context, incoming, &refusal);
            }
        }
    }

    /// §16.6: a copy to each contact, all at once.
    fn fork(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: AddressOfRecord,
        bindings: &[Binding],
    ) {
        let bytes = forks::size(&incoming.request, bindings.len());
        let sender = self.held_by(context, incoming);
        if let Err(no_room) = self.forks.check_room(self.limit, &sender, bytes) {
            let reason = match no_room {
                NoRoom::ForAnybody => "Too Many Requests Are Relayed",
                NoRoom::ForThisSender => {
                    count(&self.shared.relay_counters.over_share);
                    "Too Many Of Your Requests Are Relayed"
                }
            };
            let refusal = self.shared.answers.overloaded(context, reason);
            return self.refuse(context, incoming, &refusal);
        }
        let checked = match self.check(context, incoming, &address) {
            Ok(checked) => checked,
            Err(refusal) => return self.refuse(context, incoming, &refusal),
        };
        let request = &incoming.request;
        let scheme = request.uri().map_or(Scheme::Sip, |uri| uri.scheme());
        let realm = match self.shared.access {
            Access::Open => None,
            Access::Digest { .. } => Some(self.realm(context, request, &address)),
        };
        let deadline = context.now().instant + self.patience;
        let (mut ways, mut obstacles) = (Vec::new(), Vec::new());
        for binding in bindings {
            match way(binding, scheme, |flow| context.is_open(flow.id)) {
                Ok(way) => ways.push(way),
                Err(no_way) => obstacles.push(no_way),
            }
        }
        let is_lost = |no_way: &&NoWay| matches!(no_way, NoWay::FlowLost { .. });
        let lost = obstacles.iter().filter(is_lost).count() as u64;
        let counters = &self.shared.relay_counters;
        counters.unreachable.fetch_add(lost, Ordering::Relaxed);
        if ways.is_empty() {
            return self.refuse(context, incoming, &nobody(&obstacles));
        }
        let shares = match checked.shares(ways.len()) {
            Ok(shares) => shares,
            Err(refusal) => return self.refuse(context, incoming, &refusal),
        };
        let mut branches = Vec::new();
        let mut overloaded = false;
        for (way, share) in ways.into_iter().zip(shares) {
            let contact = way.uri.clone();
            let copy = match request::copy_for(request, &contact, checked, share, realm.as_deref())
            {
                Ok(copy) => copy,
                Err(error) => {
                    tracing::debug!(%contact, %error, "no copy can be made for a contact");
                    continue;
                }
            };
            let Some((target, fallback)) = way.targets(&copy) else {
                continue;
            };
            let fallback = fallback.map(|uri| (copy.clone(), uri));
            let options = RequestOptions::with_deadline(self.patience);
            match context.send(copy, target, options) {
                Ok(id) => branches.push((id, Branch::new(fallback, deadline))),
                Err(error) => {
                    overloaded |= matches!(error, SendError::Overloaded | SendError::ShuttingDown);
                    tracing::debug!(%contact, %error, "a copy was not sent");
                }
            }
        }
        counters
            .branches
            .fetch_add(branches.len() as u64, Ordering::Relaxed);
        if branches.is_empty() {
            let refusal = match overloaded {
                true => self
                    .shared
                    .answers
                    .overloaded(context, "Too Many Requests In Flight"),
                false => unavailable(),
            };
            return self.refuse(context, incoming, &refusal);
        }
        tracing::debug!(
            peer = %incoming.flow.remote,
            call_id = request.headers().call_id().unwrap_or_default(),
            %address,
            branches = branches.len(),
            "relayed"
        );
        self.forks
            .begin(incoming.clone(), address, sender, branches);
        self.publish(&counters.pending);
    }

    /// §16.7: the final answer of a branch.
    fn answered(&mut self, context: &mut Context<'_>, id: RequestId, response: Response) {
        let belongs = self
            .forks
            .incoming(id)
            .is_some_and(|incoming| belongs(&response, &incoming.request));
        let Some(branch) = self.forks.take(id) else {
            return;
        };
        let ended = self.forks.end(branch, |context| match belongs {
            true => context.answer(response),
            // It would not find its way back.
            false => context.failure(),
        });
        self.finish(context, ended);
    }

    /// §16.9: a branch that ended without an answer. One whose flow is gone is located by its contact's URI.
    fn failed(&mut self, context: &mut Context<'_>, id: RequestId, error: &RequestError) {
        let Some(mut branch) = self.forks.take(id) else {
            return;
        };
        let left = branch
            .deadline
            .saturating_duration_since(context.now().instant);
        if let (RequestError::Transport(_), Some((copy, contact))) = (error, branch.fallback.take())
        {
            let options = RequestOptions::with_deadline(left);
            if let Ok(id) = context.send(copy, Target::Uri(contact), options) {
                return self.forks.put_back(id, branch);
            }
        }
        let ended = self.forks.end(branch, context::ResponseContext::failure);
        self.finish(context, ended);
    }

    fn finish(&mut self, context: &mut Context<'_>, ended: Option<(IncomingRequest, Final)>) {
        self.publish(&self.shared.relay_counters.pending);
        let Some((incoming, given)) = ended else {
            return;
        };
        match given {
            // §16.7 step 3: "The proxy removes the topmost Via header field value from the response."
            Final::Answer(response) => {
                let built = response.edit().remove_first_value(HeaderName::Via).build();
                match built {
                    Ok(response) => {
                        count(&self.shared.relay_counters.answers);
                        // Gone: the sender waits no longer.
                        _ = context.respond(incoming.transaction, response);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "an answer could not be passed on");
                        let status = StatusCode::BAD_GATEWAY;
                        let refusal = Refusal::new(status, status.default_reason());
                        self.refuse(context, &incoming, &refusal);
                    }
                }
            }
            Final::Own(StatusCode::TEMPORARILY_UNAVAILABLE) => {
                self.refuse(context, &incoming, &unavailable());
            }
            Final::Own(status) => {
                let refusal = Refusal::new(status, status.default_reason());
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
        if self.jobs.start(incoming.clone(), work).is_err() {
            let refusal = self
                .shared
                .answers
                .overloaded(context, "Too Many Requests Wait");
            self.refuse_stranger(context, incoming, &refusal);
        }
    }

    fn refuse(&self, context: &mut Context<'_>, incoming: &IncomingRequest, refusal: &Refusal) {
        self.shared.relay_counters.refused(refusal.status);
        self.shared.answers.refuse(context, incoming, refusal);
    }

    fn refuse_stranger(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        refusal: &Refusal,
    ) {
        self.shared.relay_counters.refused(refusal.status);
        let reason = Some(&*refusal.reason);
        self.shared
            .answers
            .stateless(context, incoming, refusal.status, reason, &refusal.headers);
    }

    fn publish(&self, pending: &AtomicU64) {
        pending.store(self.forks.len() as u64, Ordering::Relaxed);
    }

    /// Says what is to be done with a request.
    fn aim(&self, context: &Context<'_>, request: &Request) -> Aim {
        let is_message = *request.method() == Method::Message;
        if !is_message && *request.method() != Method::Options {
            return Aim::NotOurs;
        }
        // OPTIONS to anything but a user is the registrar's to answer.
        let refused = |status: StatusCode| match is_message {
            true => Aim::Refuse(Refusal::new(status, status.default_reason())),
            false => Aim::NotOurs,
        };
        let now = context.now().instant;
        let uri = match request.uri() {
            Ok(uri) if uri.is_sip() => uri,
            Ok(_) => return refused(StatusCode::UNSUPPORTED_URI_SCHEME),
            Err(_) => return refused(StatusCode::BAD_REQUEST),
        };
        if uri.user().is_none() && self.shared.domains.leads_here(&uri, now) {
            // The server itself reads no messages.
            let allow = options::allow(&self.shared);
            return match refused(StatusCode::METHOD_NOT_ALLOWED) {
                Aim::Refuse(refusal) => Aim::Refuse(refusal.with_header(HeaderName::Allow, allow)),
                other => other,
            };
        }
        match AddressOfRecord::from_uri(uri) {
            Some(address) if self.shared.domains.served(uri.host(), now) => Aim::User(address),
            // Not an open relay: other domains have servers of their own.
            _ => refused(StatusCode::NOT_FOUND),
        }
    }
}

/// Where a request is to go.
enum Aim {
    /// To a user of a served domain.
    User(AddressOfRecord),
    /// Nowhere.
    Refuse(Refusal),
    /// That is for somebody else to say.
    NotOurs,
}

impl User for Relay {
    type Command = Pending;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        match self.aim(context, &incoming.request) {
            Aim::User(address) => self.relay(context, incoming, address),
            Aim::Refuse(refusal) => {
                count(&self.shared.relay_counters.requests);
                self.refuse_stranger(context, incoming, &refusal);
            }
            Aim::NotOurs => return Claim::Passed,
        }
        Claim::Taken
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Response {
                request, response, ..
            } if response.status().is_final() => self.answered(context, request, response),
            Event::Failed { request, error } => self.failed(context, request, &error),
            _ => {}
        }
    }

    fn on_command(&mut self, context: &mut Context<'_>, pending: Pending) {
        let incoming = &pending.subject;
        let Aim::User(address) = self.aim(context, &incoming.request) else {
            // The address was read before, so it is there, unless the machine's own addresses have changed since.
            let status = StatusCode::NOT_FOUND;
            let refusal = Refusal::new(status, status.default_reason());
            return self.refuse(context, incoming, &refusal);
        };
        match pending.outcome {
            Outcome::Secrets(secrets) => self.judge(context, incoming, address, secrets),
            Outcome::Found(found) => self.found(context, incoming, address, found),
            _ => {
                let error = StoreError::new("its work ended without an answer");
                self.found(context, incoming, address, Err(error));
            }
        }
    }

    fn methods(&self) -> Vec<Method> {
        vec![Method::Message, Method::Options]
    }
}

/// The answer where no contact can be reached.
fn nobody(obstacles: &[NoWay]) -> Refusal {
    let warned = |code: &str| unavailable().with_header(HeaderName::Warning, code);
    let is_lost = |no_way: &NoWay| matches!(no_way, NoWay::FlowLost { .. });
    // A SIPS contact that cannot be reached now is one all the same: to ask for SIP instead would not help.
    if obstacles.contains(&NoWay::SipsNotAllowed) && !obstacles.iter().any(is_lost) {
        // RFC 5630 §5.3: "MUST reject it with a 480 […] SHOULD include a Warning header with warn-code 380".
        return warned("380 sipora \"SIPS Not Allowed\"");
    }
    if obstacles.contains(&NoWay::SipsRequired) {
        return warned("381 sipora \"SIPS Required\"");
    }
    let is_outbound = |no_way: &NoWay| *no_way == NoWay::FlowLost { is_outbound: true };
    if !obstacles.is_empty() && obstacles.iter().all(is_outbound) {
        // RFC 5626 §5.3, of who has asked to be reached by flows alone.
        let status = StatusCode::new(430).unwrap_or(StatusCode::TEMPORARILY_UNAVAILABLE);
        return Refusal::new(status, "Flow Failed");
    }
    unavailable()
}

/// RFC 4320 §4.2: no 408 to a request that is no INVITE; §21.4.18: "currently unavailable" is what a proxy says that has
/// nowhere to send a request now.
fn unavailable() -> Refusal {
    let status = StatusCode::TEMPORARILY_UNAVAILABLE;
    Refusal::new(status, status.default_reason())
}

/// Time for contacts to answer: 20 s with T1 at 500 ms. With what a store may take, less than the 64*T1 after which the
/// sender gives up, so that it hears of a contact that does not answer.
const PATIENCE_IN_T1: u32 = 40;
/// Requests that wait for contacts at once, unless the configuration says otherwise: two thousand a second over 5 s.
pub(crate) const DEFAULT_LIMIT: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_what_would_help() {
        let lost = NoWay::FlowLost { is_outbound: false };
        for (obstacles, warning) in [
            (&[NoWay::SipsNotAllowed, NoWay::NotSip][..], Some("380")),
            (&[NoWay::SipsRequired, NoWay::NotSip], Some("381")),
            // There is a SIPS contact, which is away.
            (&[NoWay::SipsNotAllowed, lost], None),
            (&[lost], None),
        ] {
            let refusal = format!("{:?}", nobody(obstacles));
            for code in ["380", "381"] {
                let is_told = refusal.contains(&format!("{code} sipora"));
                assert_eq!(is_told, warning == Some(code), "{refusal}");
            }
        }
    }
}
