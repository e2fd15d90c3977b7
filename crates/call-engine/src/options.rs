//! OPTIONS to the server: what it can do (RFC 3261 §11.2).

use sipora_message::{HeaderName, Method, Request, StatusCode};
use sipora_transaction_core::{Claim, Context, IncomingRequest};

use crate::metrics::count;
use crate::presence;
use crate::refusal::Refusal;
use crate::registrar::{Shared, no_body, require};

/// Answers an OPTIONS outside of a dialog: to this server or a served domain with 200 and what it can do, to anything else
/// with 404. One to a user of a served domain does not come here; the relay takes it.
pub(crate) fn on_request(
    shared: &Shared,
    context: &mut Context<'_>,
    incoming: &IncomingRequest,
) -> Claim {
    let headers = incoming.request.headers();
    if headers.to().is_ok_and(|to| to.tag().is_some()) {
        // Inside a dialog, and none is ours: the endpoint answers 481.
        return Claim::Passed;
    }
    count(&shared.counters.options);
    match check(shared, context, &incoming.request) {
        Ok(()) => answer_server(shared, context, incoming),
        Err(refusal) => {
            let reason = Some(&*refusal.reason);
            let (status, lines) = (refusal.status, &refusal.headers);
            shared
                .answers
                .stateless(context, incoming, status, reason, lines);
        }
    }
    Claim::Taken
}

fn check(shared: &Shared, context: &Context<'_>, request: &Request) -> Result<(), Refusal> {
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
    no_body(request)?;
    if uri.user().is_none() && shared.domains.leads_here(&uri, context.now().instant) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::NOT_FOUND, "Not Found"))
}

/// "Allow, Accept, Accept-Encoding, Accept-Language, and Supported header fields SHOULD be present in a 200 (OK) response
/// to an OPTIONS request."
fn answer_server(shared: &Shared, context: &mut Context<'_>, incoming: &IncomingRequest) {
    // What is published.
    let accept = if shared.has_presence {
        presence::PIDF
    } else {
        ""
    };
    let mut answer = context
        .answer(&incoming.request, StatusCode::OK)
        .header(HeaderName::Allow, allow(shared))
        // "An empty Accept header field means that no formats are acceptable" (§20.1).
        .header(HeaderName::Accept, accept)
        .header(HeaderName::AcceptEncoding, "identity")
        .header(HeaderName::AcceptLanguage, "en")
        // "If empty, it means that no extensions are supported" (§20.37).
        .header(HeaderName::Supported, "");
    if shared.has_presence {
        // RFC 3903 §7, RFC 6665 §4.4.4: which events there are.
        answer = answer.header(HeaderName::AllowEvents, presence::PACKAGE);
    }
    shared.answers.send(context, incoming, answer);
}

/// The methods that this server answers itself, as in Allow, whatever it carries to users.
pub(crate) fn allow(shared: &Shared) -> String {
    let presence = shared.has_presence.then_some(presence::METHODS);
    let methods = METHODS.into_iter().chain(presence.into_iter().flatten());
    let names: Vec<String> = methods.map(|method| method.as_str().to_owned()).collect();
    names.join(", ")
}

/// What the registrar answers.
pub(crate) const METHODS: [Method; 2] = [Method::Register, Method::Options];
