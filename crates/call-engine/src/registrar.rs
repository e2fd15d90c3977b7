//! The registrar: what happens to a REGISTER, step by step (RFC 3261 §10.3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_dialog_core::has_foreign_body;
use sipora_message::{HeaderName, Method, Request, StatusCode};
use sipora_transaction_core::{Claim, Context, Event, IncomingRequest, User};

use crate::answer::{Answers, Date};
use crate::clock::Clock;
use crate::domains::Domains;
use crate::gate::{Access, Gate, Secrets, Stopped};
use crate::keep_alive;
use crate::location::{Applied, Change, ChangeError, LocationStore};
use crate::metrics::{Counters, add, count};
use crate::notify;
use crate::options;
use crate::pending::{Jobs, Outcome, Pending};
use crate::policy::{self, Expiry, MAX_CALL_ID_BYTES};
use crate::presence::{Changes, PresenceCounters};
use crate::refusal::Refusal;
use crate::relay::RelayCounters;
use crate::{AddressOfRecord, Answer, Binding, Origin, StoreError};

/// Answers REGISTER and OPTIONS, and refuses NOTIFY, inside an endpoint's task.
pub(crate) struct Registrar {
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: Jobs,
    pub(crate) gate: Gate,
    pub(crate) next_sweep: Option<Instant>,
    pub(crate) date: Date,
}

/// What the registrar and the engine's handle both use.
pub(crate) struct Shared {
    pub(crate) domains: Domains,
    pub(crate) store: Arc<dyn LocationStore>,
    pub(crate) access: Access,
    pub(crate) expiry: Expiry,
    pub(crate) max_contacts: usize,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) relay_counters: RelayCounters,
    pub(crate) presence_counters: PresenceCounters,
    /// Whether SUBSCRIBE and PUBLISH are answered.
    pub(crate) has_presence: bool,
    /// Of bindings that watchers want to hear of.
    pub(crate) changes: Changes,
    pub(crate) answers: Answers,
}

impl Registrar {
    /// Steps 1 to 3: is the request for us, can we do what it requires, and who sends it?
    ///
    /// Whoever is refused here is a stranger, and costs no transaction.
    fn register(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) {
        count(&self.shared.counters.registers);
        let address = match self.address(context, &incoming.request) {
            Ok(address) => address,
            Err(refusal) => return self.refuse_stranger(context, incoming, &refusal),
        };
        match self.gate.secrets(&incoming.request, address.domain()) {
            None => self.update(context, incoming, address),
            Some(Answer::Now(secrets)) => self.judge(context, incoming, address, secrets),
            Some(Answer::Later(secrets)) => {
                self.later(
                    context,
                    incoming,
                    async move { Outcome::Secrets(secrets.await) },
                );
            }
        }
    }

    /// Steps 1, 2 and 5: the address-of-record, or why there is none.
    fn address(
        &self,
        context: &Context<'_>,
        request: &Request,
    ) -> Result<AddressOfRecord, Refusal> {
        let now = context.now().instant;
        let shared = &self.shared;
        let uri = request
            .uri()
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        if !uri.is_sip() {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_URI_SCHEME,
                "Unsupported URI Scheme",
            ));
        }
        if !shared.domains.leads_here(&uri, now) {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "Domain Not Served Here",
            ));
        }
        require(request)?;
        no_body(request)?;
        let headers = request.headers();
        let to = headers
            .to()
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        if !to.uri().is_sip() {
            // RFC 3261 §10.2: To is "a SIP URI or SIPS URI"; RFC 4475 §3.3.4 asks for 400.
            return Err(Refusal::bad_request("To is no SIP URI"));
        }
        // "If the address-of-record is not valid for the domain in the Request-URI, the registrar MUST send a 404". Valid
        // is any domain that is served here: the Request-URI may name one of them or this server itself.
        let not_found = || Refusal::new(StatusCode::NOT_FOUND, "No Such Address Here");
        if !shared.domains.served(to.uri().host(), now) {
            return Err(not_found());
        }
        AddressOfRecord::from_uri(to.uri()).ok_or_else(not_found)
    }

    /// Step 4: is it who it says, and may that user change that address?
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: AddressOfRecord,
        secrets: Result<Secrets, StoreError>,
    ) {
        let judged = self
            .gate
            .judge(context, incoming, address.domain(), secrets);
        match judged {
            Ok(user) if *user == *address.user() => self.update(context, incoming, address),
            // "If the authenticated user is not authorized to modify bindings, the registrar MUST return a 403".
            Ok(_) => {
                let refusal = Refusal::new(StatusCode::FORBIDDEN, "Not Your Address");
                self.refuse(context, incoming, &refusal);
            }
            Err(Stopped::Challenged) => {}
            Err(Stopped::Stranger(refusal)) => self.refuse_stranger(context, incoming, &refusal),
            Err(Stopped::Failed(refusal)) => self.refuse(context, incoming, &refusal),
        }
    }

    /// Steps 6 and 7: what is asked for, and whether it may be.
    fn update(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: AddressOfRecord,
    ) {
        let now = self.shared.clock.timestamp(context.now());
        let change = match self.change(incoming, &address) {
            Ok(change) => change,
            Err(refusal) => return self.refuse(context, incoming, &refusal),
        };
        let Some(change) = change else {
            return match self.shared.store.bindings(&address, now) {
                Answer::Now(listed) => self.listed(context, incoming, listed),
                Answer::Later(future) => {
                    self.later(
                        context,
                        incoming,
                        async move { Outcome::Listed(future.await) },
                    );
                }
            };
        };
        match self.shared.store.apply(change, now) {
            Answer::Now(applied) => self.applied(context, incoming, Some(&address), applied),
            Answer::Later(future) => {
                self.later(
                    context,
                    incoming,
                    async move { Outcome::Applied(future.await) },
                );
            }
        }
    }

    fn change(
        &self,
        incoming: &IncomingRequest,
        address: &AddressOfRecord,
    ) -> Result<Option<Change>, Refusal> {
        let bad_request =
            |error: sipora_message::HeaderError| Refusal::bad_request(error.to_string());
        let Some(update) = policy::read(&incoming.request, &self.shared.expiry)? else {
            return Ok(None);
        };
        let headers = incoming.request.headers();
        let call_id = headers.call_id().map_err(bad_request)?;
        if call_id.len() > MAX_CALL_ID_BYTES {
            return Err(Refusal::new(
                StatusCode::MESSAGE_TOO_LARGE,
                "Call-ID Too Long",
            ));
        }
        let cseq = headers.cseq().map_err(bad_request)?.number;
        let origin = Origin::from(incoming.flow);
        let change = Change::new(address.clone(), call_id, cseq, update, origin);
        Ok(Some(change.with_max_contacts(self.shared.max_contacts)))
    }

    /// Step 8: "The registrar returns a 200 (OK) response" that lists every binding, or says why nothing was changed.
    fn applied(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: Option<&AddressOfRecord>,
        applied: Result<Applied, ChangeError>,
    ) {
        let counters = &self.shared.counters;
        let applied = match applied {
            Ok(applied) => applied,
            Err(error) => {
                if matches!(error, ChangeError::Failed(_)) {
                    // What a store failed to report it may have done all the same.
                    self.tell_watchers(incoming, address);
                }
                let out_of_order = matches!(error, ChangeError::OutOfOrder { .. });
                let refusal = self.shared.answers.change_refused(context, error);
                if !out_of_order {
                    return self.refuse(context, incoming, &refusal);
                }
                count(&counters.out_of_order);
                log(incoming, &refusal);
                return self.shared.answers.refuse(context, incoming, &refusal);
            }
        };
        count(&counters.updates);
        add(&counters.bindings_added, applied.added);
        add(&counters.bindings_removed, applied.removed);
        tracing::debug!(
            peer = %incoming.flow.remote,
            call_id = incoming.request.headers().call_id().unwrap_or_default(),
            added = applied.added,
            removed = applied.removed,
            bindings = applied.bindings.len(),
            "registered"
        );
        self.schedule_sweep(context);
        self.tell_watchers(incoming, address);
        let answered = keep_alive::accept(context, incoming, !applied.bindings.is_empty());
        self.list(context, incoming, &answered, &applied.bindings);
    }

    /// Tells that the bindings of an address may have changed. It is read again where that took time.
    fn tell_watchers(&self, incoming: &IncomingRequest, address: Option<&AddressOfRecord>) {
        if let Some(address) = address {
            return self.shared.changes.tell(address);
        }
        let to = incoming.request.headers().to().ok();
        if let Some(address) = to.and_then(|to| AddressOfRecord::from_uri(to.uri())) {
            self.shared.changes.tell(&address);
        }
    }

    fn listed(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        listed: Result<Vec<Binding>, StoreError>,
    ) {
        match listed {
            Ok(bindings) => {
                count(&self.shared.counters.queries);
                self.list(context, incoming, &incoming.request, &bindings);
            }
            Err(error) => {
                let refusal = self.shared.answers.store_failed(&error);
                self.refuse(context, incoming, &refusal);
            }
        }
    }

    fn list(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        request: &Request,
        bindings: &[Binding],
    ) {
        let now = self.shared.clock.timestamp(context.now());
        self.shared
            .answers
            .bindings(context, incoming, request, bindings, now, &mut self.date);
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
            self.refuse(context, incoming, &refusal);
        }
    }

    fn resume(&mut self, context: &mut Context<'_>, pending: Pending) {
        let incoming = &pending.subject;
        match pending.outcome {
            Outcome::Applied(applied) => self.applied(context, incoming, None, applied),
            Outcome::Listed(listed) => self.listed(context, incoming, listed),
            // The address was read before, so it is there.
            Outcome::Secrets(secrets) => match self.address(context, &incoming.request) {
                Ok(address) => self.judge(context, incoming, address, secrets),
                Err(refusal) => self.refuse(context, incoming, &refusal),
            },
            Outcome::Found(_) | Outcome::Lost => {
                self.tell_watchers(incoming, None);
                let refusal = self
                    .shared
                    .answers
                    .store_failed(&StoreError::new("its work ended without an answer"));
                self.refuse(context, incoming, &refusal);
            }
        }
    }

    fn refuse(&self, context: &mut Context<'_>, incoming: &IncomingRequest, refusal: &Refusal) {
        log(incoming, refusal);
        self.shared.answers.count(&self.shared.counters, refusal);
        self.shared.answers.refuse(context, incoming, refusal);
    }

    fn refuse_stranger(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        refusal: &Refusal,
    ) {
        log(incoming, refusal);
        self.shared.answers.count(&self.shared.counters, refusal);
        let reason = Some(&*refusal.reason);
        self.shared
            .answers
            .stateless(context, incoming, refusal.status, reason, &refusal.headers);
    }

    /// Plans the next look at what has expired: when it does, but not more often than once a second.
    fn schedule_sweep(&mut self, context: &Context<'_>) {
        if self.next_sweep.is_some() {
            return;
        }
        let now = context.now();
        let wait = self.shared.store.next_expiry().map(|at| {
            self.shared
                .clock
                .timestamp(now)
                .until(at)
                .clamp(SWEEP_PAUSE, SWEEP_AT_LATEST)
        });
        self.next_sweep = wait.and_then(|wait| now.instant.checked_add(wait));
    }
}

impl User for Registrar {
    type Command = Pending;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        match incoming.request.method() {
            Method::Register => self.register(context, incoming),
            Method::Options => return options::on_request(&self.shared, context, incoming),
            Method::Notify => notify::on_request(&self.shared, context, incoming),
            _ => return Claim::Passed,
        }
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, context: &mut Context<'_>, pending: Pending) {
        self.resume(context, pending);
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now();
        if self.next_sweep.is_none_or(|at| at > now.instant) {
            return;
        }
        self.next_sweep = None;
        let swept = self
            .shared
            .store
            .sweep(self.shared.clock.timestamp(now), SWEEP_BATCH);
        add(&self.shared.counters.bindings_expired, swept);
        if swept >= SWEEP_BATCH {
            // There is more; other inputs get their turn in between.
            self.next_sweep = now.instant.checked_add(SWEEP_BREATH);
        }
        self.schedule_sweep(context);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.next_sweep
    }

    fn methods(&self) -> Vec<Method> {
        options::METHODS.to_vec()
    }
}

fn log(incoming: &IncomingRequest, refusal: &Refusal) {
    tracing::debug!(
        peer = %incoming.flow.remote,
        call_id = incoming.request.headers().call_id().unwrap_or_default(),
        status = refusal.status.as_u16(),
        reason = &*refusal.reason,
        "refused"
    );
}

/// Step 2: "the registrar MUST process the Require header field values as described for UASs in Section 8.2.2". No
/// extension is supported here.
pub(crate) fn require(request: &Request) -> Result<(), Refusal> {
    let unsupported: Vec<&str> = request
        .headers()
        .require()
        .filter(|tag| !tag.is_empty())
        .collect();
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::BAD_EXTENSION, "Bad Extension")
        .with_header(HeaderName::Unsupported, unsupported.join(", ")))
}

/// No body means anything to a registrar, nor to a server that is asked what it can do: what must be understood gets 415 (RFC 3261
/// §8.2.3). "An empty Accept header field means that no formats are acceptable" (§20.1).
pub(crate) fn no_body(request: &Request) -> Result<(), Refusal> {
    if !has_foreign_body(request, &[]) {
        return Ok(());
    }
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(Refusal::new(status, status.default_reason())
        .with_header(HeaderName::Accept, "")
        .with_header(HeaderName::AcceptEncoding, "identity"))
}

/// What has expired is never shown, so there is no haste.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// With [`SWEEP_BATCH`], a hundred thousand a second: faster than requests can bind them.
const SWEEP_BREATH: Duration = Duration::from_millis(10);
/// A store's next expiry may come nearer without a word to us, when another node changes it.
const SWEEP_AT_LATEST: Duration = Duration::from_secs(60);
/// Addresses swept at once: some hundred microseconds of the endpoint's task.
const SWEEP_BATCH: usize = 1000;
