//! OPTIONS: what this server can do, and whether a user is there (RFC 3261 §11.2).

use std::sync::Arc;

use sipora_message::{HeaderName, Method, StatusCode};
use sipora_transaction_core::{Claim, Context, IncomingRequest};

use crate::metrics::count;
use crate::pending::Outcome;
use crate::refusal::Refusal;
use crate::registrar::{Access, Registrar, Shared, require};
use crate::{AddressOfRecord, Answer, StoreError};

/// Answers an OPTIONS outside of a dialog.
///
/// - To this server or a served domain: 200 with what it can do.
/// - To a user of a served domain: "The response code chosen MUST be the same that would have been chosen had the request
///   been an INVITE". This server takes no calls to anywhere yet, so that is 480 for a user that there is, as from a proxy
///   that "does not currently have a valid forwarding location" (§21.4.18), and 404 for one that there is not.
/// - To anything else: 404.
pub(crate) fn on_request(
    registrar: &mut Registrar,
    context: &mut Context<'_>,
    incoming: &IncomingRequest,
) -> Claim {
    let headers = incoming.request.headers();
    if headers.to().is_ok_and(|to| to.tag().is_some()) {
        // Inside a dialog, and none is ours: the endpoint answers 481.
        return Claim::Passed;
    }
    let shared = Arc::clone(&registrar.shared);
    count(&shared.counters.options);
    match target(&shared, context, incoming) {
        Ok(Target::Server) => answer_server(&shared, context, incoming),
        Ok(Target::User(address)) => is_there(registrar, context, incoming, address),
        Err(refusal) => stateless(&shared, context, incoming, &refusal),
    }
    Claim::Taken
}

enum Target {
    Server,
    User(AddressOfRecord),
}

fn target(
    shared: &Shared,
    context: &Context<'_>,
    incoming: &IncomingRequest,
) -> Result<Target, Refusal> {
    let now = context.now().instant;
    let request = &incoming.request;
    let uri = request
        .uri()
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    if !uri.is_sip() {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_URI_SCHEME,
            "Unsupported URI Scheme",
        ));
    }
    require(request)?;
    if uri.user().is_none() && shared.domains.leads_here(&uri, now) {
        return Ok(Target::Server);
    }
    let not_found = || Refusal::new(StatusCode::NOT_FOUND, "Not Found");
    if !shared.domains.served(uri.host(), now) {
        return Err(not_found());
    }
    AddressOfRecord::from_uri(uri)
        .map(Target::User)
        .ok_or_else(not_found)
}

/// "Allow, Accept, Accept-Encoding, Accept-Language, and Supported header fields SHOULD be present in a 200 (OK) response
/// to an OPTIONS request."
fn answer_server(shared: &Shared, context: &mut Context<'_>, incoming: &IncomingRequest) {
    let allow: Vec<&str> = METHODS.iter().map(Method::as_str).collect();
    let answer = context
        .answer(&incoming.request, StatusCode::OK)
        .header(HeaderName::Allow, allow.join(", "))
        // Bodies are not looked at, so any will do.
        .header(HeaderName::Accept, "*/*")
        .header(HeaderName::AcceptEncoding, "identity")
        .header(HeaderName::AcceptLanguage, "en")
        // "If empty, it means that no extensions are supported" (§20.37).
        .header(HeaderName::Supported, "");
    shared.answers.send(context, incoming, answer);
}

/// Where users are known, they tell; where anybody may register, whoever is registered is there.
fn is_there(
    registrar: &mut Registrar,
    context: &mut Context<'_>,
    incoming: &IncomingRequest,
    address: AddressOfRecord,
) {
    let shared = Arc::clone(&registrar.shared);
    let status = |found| match found {
        true => StatusCode::TEMPORARILY_UNAVAILABLE,
        false => StatusCode::NOT_FOUND,
    };
    let answer = match &shared.access {
        Access::Digest { users, .. } => match users.secret(address.user(), address.domain()) {
            Answer::Now(secret) => Answer::Now(secret.map(|secret| status(secret.is_some()))),
            Answer::Later(secret) => {
                Answer::later(async move { secret.await.map(|secret| status(secret.is_some())) })
            }
        },
        Access::Open => {
            match shared
                .store
                .bindings(&address, shared.clock.timestamp(context.now()))
            {
                Answer::Now(bindings) => {
                    Answer::Now(bindings.map(|bindings| status(!bindings.is_empty())))
                }
                Answer::Later(bindings) => Answer::later(async move {
                    bindings.await.map(|bindings| status(!bindings.is_empty()))
                }),
            }
        }
    };
    match answer {
        Answer::Now(status) => answer_user(&shared, context, incoming, status),
        Answer::Later(status) => {
            let work = async move { Outcome::Answered(status.await) };
            if registrar.jobs.start(incoming.clone(), work).is_err() {
                let refusal = shared.answers.overloaded(context, "Too Many Requests Wait");
                stateless(&shared, context, incoming, &refusal);
            }
        }
    }
}

pub(crate) fn answer_user(
    shared: &Shared,
    context: &mut Context<'_>,
    incoming: &IncomingRequest,
    status: Result<StatusCode, StoreError>,
) {
    let refusal = match status {
        Ok(status) => Refusal::new(status, status.default_reason()),
        Err(error) => shared.answers.store_failed(&error),
    };
    stateless(shared, context, incoming, &refusal);
}

fn stateless(
    shared: &Shared,
    context: &mut Context<'_>,
    incoming: &IncomingRequest,
    refusal: &Refusal,
) {
    shared.answers.stateless(
        context,
        incoming,
        refusal.status,
        Some(&refusal.reason),
        &refusal.headers,
    );
}

/// What this server answers.
pub(crate) const METHODS: [Method; 2] = [Method::Register, Method::Options];
