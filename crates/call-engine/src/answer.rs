//! How answers are written.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sipora_message::{HeaderName, Request, ResponseBuilder, StatusCode, format_date};
use sipora_transaction_core::{Context, IncomingRequest};

use crate::location::ChangeError;
use crate::metrics::{Counters, count};
use crate::refusal::Refusal;
use crate::{Binding, StoreError, Timestamp};

/// Writes answers and hands them to the endpoint.
pub(crate) struct Answers {
    /// The `Server` header field; empty for none.
    server: Box<str>,
}

impl Answers {
    pub(crate) fn new(server: &str) -> Self {
        Self {
            server: server.into(),
        }
    }

    /// 200 to a REGISTER. It "MUST contain Contact header field values enumerating all current bindings. Each Contact
    /// value MUST feature an "expires" parameter indicating its expiration interval chosen by the registrar. The response
    /// SHOULD include a Date header field." (RFC 3261 §10.3) It repeats the Vias of `request`.
    pub(crate) fn bindings(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        request: &Request,
        bindings: &[Binding],
        now: Timestamp,
        date: &mut Date,
    ) {
        let mut answer = context.answer(request, StatusCode::OK);
        let mut contact = String::new();
        for binding in bindings {
            contact.clear();
            write_contact(&mut contact, binding, now);
            answer = answer.text(HeaderName::Contact, &contact);
        }
        answer = answer.text(HeaderName::Date, date.at(context.now().wall));
        self.send(context, incoming, answer);
    }

    /// A refusal that the transaction keeps, so that a retransmission gets the same.
    pub(crate) fn refuse(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        refusal: &Refusal,
    ) {
        let answer = self.refusal(
            context,
            incoming,
            refusal.status,
            Some(&refusal.reason),
            &refusal.headers,
        );
        self.send(context, incoming, answer);
    }

    /// An answer to a stranger, which nobody remembers: a copy of the request is judged again, with the same outcome.
    pub(crate) fn stateless(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        status: StatusCode,
        reason: Option<&str>,
        headers: &[(HeaderName, String)],
    ) {
        let answer = self.refusal(context, incoming, status, reason, headers);
        match self.finish(answer).print() {
            // Gone: the peer has had an answer.
            Ok(response) => _ = context.respond_stateless(incoming.transaction, response),
            Err(error) => tracing::warn!(%error, "an answer could not be written"),
        }
    }

    fn refusal(
        &self,
        context: &Context<'_>,
        incoming: &IncomingRequest,
        status: StatusCode,
        reason: Option<&str>,
        headers: &[(HeaderName, String)],
    ) -> ResponseBuilder {
        let mut answer = context.answer(&incoming.request, status);
        if let Some(reason) = reason {
            answer = answer.reason(&printable(reason));
        }
        headers.iter().fold(answer, |answer, (name, value)| {
            answer.header(name.clone(), printable(value))
        })
    }

    /// Sends an answer, and gives its status.
    pub(crate) fn send(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        answer: ResponseBuilder,
    ) -> StatusCode {
        let response = self.finish(answer).print().or_else(|error| {
            tracing::warn!(%error, "an answer could not be written");
            context
                .answer(&incoming.request, StatusCode::SERVER_INTERNAL_ERROR)
                .print()
        });
        let Ok(response) = response else {
            return StatusCode::SERVER_INTERNAL_ERROR;
        };
        let status = response.status();
        // Gone: the transaction ended while a store took its time.
        _ = context.respond(incoming.transaction, response);
        status
    }

    fn finish(&self, answer: ResponseBuilder) -> ResponseBuilder {
        match self.server.is_empty() {
            true => answer,
            false => answer.text(HeaderName::Server, &self.server),
        }
    }

    /// What a change that was not made is answered with.
    pub(crate) fn change_refused(&self, context: &mut Context<'_>, error: ChangeError) -> Refusal {
        match error {
            // "Otherwise, the update MUST be aborted and the request fails." 500 is the one failure that RFC 3261 §10.3
            // names, and what §12.2.2 gives a CSeq out of order.
            ChangeError::OutOfOrder { .. } => {
                Refusal::new(StatusCode::SERVER_INTERNAL_ERROR, "CSeq Out Of Order")
            }
            // Not 503: the server is well, and to come back or go elsewhere would not help.
            ChangeError::TooManyContacts { .. } => {
                Refusal::new(StatusCode::FORBIDDEN, "Too Many Contacts")
            }
            ChangeError::Full => self.overloaded(context, "Location Service Full"),
            ChangeError::Failed(error) => self.store_failed(&error),
        }
    }

    /// "If any one of them fails (for example, because the back-end database commit failed), the request MUST fail with a
    /// 500 (Server Error) response".
    pub(crate) fn store_failed(&self, error: &StoreError) -> Refusal {
        tracing::error!(%error, "a store failed");
        Refusal::new(StatusCode::SERVER_INTERNAL_ERROR, "Store Failure")
    }

    /// 503 with a Retry-After that is not the same for all, or they would all come back at once.
    pub(crate) fn overloaded(&self, context: &mut Context<'_>, reason: &'static str) -> Refusal {
        let seconds = context.ids().number_in(RETRY_AFTER.0, RETRY_AFTER.1);
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
            .with_header(HeaderName::RetryAfter, seconds.to_string())
    }

    pub(crate) fn count(&self, counters: &Counters, refusal: &Refusal) {
        let counter = match refusal.status {
            StatusCode::FORBIDDEN => &counters.forbidden,
            StatusCode::NOT_FOUND => &counters.not_found,
            StatusCode::BAD_EXTENSION => &counters.bad_extensions,
            StatusCode::INTERVAL_TOO_BRIEF => &counters.too_brief,
            StatusCode::SERVICE_UNAVAILABLE => &counters.overloaded,
            StatusCode::SERVER_INTERNAL_ERROR => &counters.store_failures,
            _ => &counters.bad_requests,
        };
        count(counter);
    }
}

/// Writes one Contact value. The URI stands in angle brackets, so that its parameters stay its own (RFC 4475 §3.3.12).
fn write_contact(out: &mut String, binding: &Binding, now: Timestamp) {
    let (uri, parameters) = (binding.uri(), binding.parameters());
    out.reserve(uri.len() + parameters.len() + MARKS);
    out.push('<');
    out.push_str(uri);
    out.push('>');
    if let Some(q) = binding.q().and_then(sipora_message::Q::from_thousandths) {
        // Writing to a string cannot fail.
        let _ = write!(out, ";q={q}");
    }
    out.push_str(parameters);
    out.push_str(";expires=");
    let _ = write!(out, "{}", binding.remaining_seconds(now));
}

/// `<>;q=0.500;expires=4294967295`
const MARKS: usize = 32;

/// The text of a Date header field, printed once a second.
#[derive(Default)]
pub(crate) struct Date {
    second: Option<Duration>,
    text: String,
}

impl Date {
    fn at(&mut self, now: SystemTime) -> &str {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = Duration::from_secs(now.as_secs());
        if self.second != Some(second) {
            self.second = Some(second);
            self.text = format_date(UNIX_EPOCH + second);
        }
        &self.text
    }
}

/// Some of what is repeated comes from a peer, and a line end in it would be a header field of the peer's making.
fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.into();
    }
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(shown).collect::<String>().into()
}

/// Seconds: long enough for a storm to thin out, short enough for a phone that nobody can call.
const RETRY_AFTER: (u64, u64) = (10, 40);
