//! The validator: what is readable, but not fit to be processed.

use crate::classes::offset_in;
use crate::error::{HeaderError, Rejection};
use crate::header_name::{HeaderName, Known};
use crate::headers::Headers;
use crate::index::filed;
use crate::method::Method;
use crate::request::Request;
use crate::response::Response;
use crate::status::StatusCode;
use crate::uri::UriRef;

pub(crate) fn request(request: &Request) -> Result<(), Rejection> {
    if is_sound(request) {
        debug_assert_eq!(unsoundness(request), Ok(()));
        return Ok(());
    }
    unsoundness(request)
}

fn unsoundness(request: &Request) -> Result<(), Rejection> {
    version(request.version(), request.as_bytes())?;
    request_uri(request)?;
    let headers = request.headers();
    mandatory(headers)?;
    // RFC 3261 §8.1.1.5: "The method MUST match that of the request."
    let cseq = headers.cseq()?;
    if cseq.method != request.method {
        let status = match request.method {
            Method::Other(_) => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        };
        let value = headers.first(&HeaderName::CSeq).unwrap_or_default();
        return Err(Rejection::new(
            status,
            Some(HeaderName::CSeq),
            offset_in(request.as_bytes(), value),
            "CSeq method is not the request's",
        ));
    }
    headers.max_forwards()?;
    contacts(headers)?;
    Ok(())
}

pub(crate) fn response(response: &Response) -> Result<(), Rejection> {
    let is_sound = response.raw.index.facts().has_mandatory()
        && response.version.of(response.as_bytes()) == b"SIP/2.0";
    if is_sound {
        debug_assert_eq!(mandatory(response.headers()), Ok(()));
        return Ok(());
    }
    version(response.version(), response.as_bytes())?;
    mandatory(response.headers())?;
    Ok(())
}

/// Whether the facts of the index (see [`index`](crate::index)) answer every question below: then nothing has to be
/// parsed again. `false` means only that they do not.
fn is_sound(request: &Request) -> bool {
    let facts = request.raw.index.facts();
    let is_single = |id| filed(request.raw.index.table(), id).len() == 1;
    facts.has_mandatory()
        && facts.uri().is_some()
        && request.exact
        && request.version.of(request.as_bytes()) == b"SIP/2.0"
        && facts
            .cseq()
            .is_some_and(|cseq| request.method.place() == Some(cseq.method))
        && (facts.max_forwards().is_some() || facts.has_none(Known::MaxForwards as u8))
        && match facts.contact() {
            Some(_) => is_single(Known::Contact as u8),
            None => facts.has_none(Known::Contact as u8),
        }
}

fn version(version: &str, bytes: &[u8]) -> Result<(), Rejection> {
    // RFC 3261 §7.1: "The SIP-Version string is case-insensitive, but implementations MUST send upper-case."
    if version.eq_ignore_ascii_case("SIP/2.0") {
        return Ok(());
    }
    Err(Rejection::new(
        StatusCode::VERSION_NOT_SUPPORTED,
        None,
        offset_in(bytes, version.as_bytes()),
        "Version Not Supported",
    ))
}

fn request_uri(request: &Request) -> Result<(), Rejection> {
    let text = request.uri_text();
    let start = offset_in(request.as_bytes(), text.as_bytes());
    let refused =
        |at: usize, reason| Rejection::new(StatusCode::BAD_REQUEST, None, start + at, reason);
    let uri =
        UriRef::parse(text).map_err(|error| refused(error.offset(), "Malformed Request-URI"))?;
    if uri.is_sip() && uri.has_headers() {
        // RFC 3261 §19.1.1: headers have no place in a Request-URI.
        return Err(refused(0, "Headers in the Request-URI"));
    }
    if !request.exact {
        return Err(refused(0, "Extra white space in the start line"));
    }
    Ok(())
}

/// What RFC 3261 §8.1.1 asks of every message, Max-Forwards excepted: a request of RFC 2543 has none.
fn mandatory(headers: Headers<'_>) -> Result<(), HeaderError> {
    headers.via()?;
    headers.from()?;
    headers.to()?;
    headers.call_id()?;
    headers.cseq()?;
    Ok(())
}

fn contacts(headers: Headers<'_>) -> Result<(), HeaderError> {
    if headers.all(&HeaderName::Contact).any(|value| value == b"*") {
        headers.contacts()?;
        return Ok(());
    }
    headers
        .contact_iter()
        .try_for_each(|contact| contact.map(drop))
}
