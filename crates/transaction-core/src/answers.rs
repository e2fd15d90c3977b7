//! What is answered to a request that no user claimed (RFC 3261 §8.2).

use sipora_message::{HeaderName, Method, Request, Response, ResponseBuilder, StatusCode};

/// Makes the answer to a request that nobody claimed; an ACK gets none.
///
/// In this order: 481 for a CANCEL that matched nothing (§9.2); 501 for a method that nobody knows; 416 for a scheme other
/// than `sip`, `sips` and `tel` (§8.2.2.1); 420 with Unsupported where extensions are required (§8.2.2.3); 481 for a
/// request with a To tag (§12.2.2), and for a method that is allowed and has no place outside of dialogs, such as BYE (§15.1.2); 405
/// with Allow for the rest (§8.2.1). The caller adds the To tag.
pub fn default_answer(request: &Request, allow: &[Method]) -> Option<ResponseBuilder> {
    let headers = request.headers();
    let answer = |status| Some(Response::for_request(request, status));
    match request.method() {
        Method::Ack => return None,
        Method::Cancel => return answer(StatusCode::CALL_DOES_NOT_EXIST),
        Method::Other(_) => {
            return answer(StatusCode::NOT_IMPLEMENTED).map(|builder| with_allow(builder, allow));
        }
        _ => {}
    }
    if !has_known_scheme(request.uri_text()) {
        return answer(StatusCode::UNSUPPORTED_URI_SCHEME);
    }
    let required: Vec<&str> = headers.require().collect();
    if !required.is_empty() {
        let unsupported = required.join(", ");
        return answer(StatusCode::BAD_EXTENSION)
            .map(|builder| builder.header(HeaderName::Unsupported, unsupported));
    }
    let has_dialog = headers.to().is_ok_and(|to| to.tag().is_some());
    let wants_dialog = matches!(
        request.method(),
        Method::Bye | Method::Info | Method::Prack | Method::Update
    );
    if has_dialog || (wants_dialog && allow.contains(request.method())) {
        return answer(StatusCode::CALL_DOES_NOT_EXIST);
    }
    answer(StatusCode::METHOD_NOT_ALLOWED).map(|builder| with_allow(builder, allow))
}

/// §21.4.6: a 405 "MUST include an Allow header field containing a list of valid methods", which may be empty (§20.5).
fn with_allow(builder: ResponseBuilder, allow: &[Method]) -> ResponseBuilder {
    let list: Vec<&str> = allow.iter().map(Method::as_str).collect();
    builder.header(HeaderName::Allow, list.join(", "))
}

fn has_known_scheme(uri: &str) -> bool {
    let scheme = uri.split(':').next().unwrap_or("");
    ["sip", "sips", "tel"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
}
