//! What a request must have before it may leave (RFC 3261 §8.1.1).

use sipora_message::{HeaderName, Method, Request};

use crate::error::{ApiError, ApiResult, CANCEL_INSTEAD};

/// Checks a request and gives its CSeq number.
///
/// Via is the transaction layer's: each attempt prints its own.
pub(crate) fn outgoing(request: &Request) -> ApiResult<u32> {
    let instead = match request.method() {
        Method::Invite => "calls are made through a session API",
        Method::Ack => "an ACK follows the answer to its INVITE",
        Method::Cancel => CANCEL_INSTEAD,
        _ => return headers(request),
    };
    Err(ApiError::MethodNotAllowed {
        method: request.method().clone(),
        instead,
    })
}

fn headers(request: &Request) -> ApiResult<u32> {
    let headers = request.headers();
    if headers.first(&HeaderName::Via).is_some() {
        return Err(ApiError::invalid(
            "Via",
            "the transaction layer adds it, one for each attempt",
        ));
    }
    for name in [
        HeaderName::To,
        HeaderName::From,
        HeaderName::CallId,
        HeaderName::CSeq,
        HeaderName::MaxForwards,
    ] {
        match headers.all(&name).count() {
            1 => {}
            0 => return Err(ApiError::invalid(name.as_str(), "is missing")),
            _ => return Err(ApiError::invalid(name.as_str(), "occurs more than once")),
        }
    }
    let unreadable =
        |name: &str, error: &dyn std::fmt::Display| ApiError::invalid(name, error.to_string());
    headers.to().map_err(|error| unreadable("To", &error))?;
    let from = headers.from().map_err(|error| unreadable("From", &error))?;
    if from.tag().is_none() {
        return Err(ApiError::invalid("From", "has no tag"));
    }
    headers
        .call_id()
        .map_err(|error| unreadable("Call-ID", &error))?;
    headers
        .max_forwards()
        .map_err(|error| unreadable("Max-Forwards", &error))?;
    let cseq = headers.cseq().map_err(|error| unreadable("CSeq", &error))?;
    if cseq.method != *request.method() {
        return Err(ApiError::invalid(
            "CSeq",
            format!(
                "names {}, the request line {}",
                cseq.method,
                request.method()
            ),
        ));
    }
    // RFC 3261 §8.1.1.5: "MUST be expressible as a 32-bit unsigned integer and MUST be less than 2**31".
    if cseq.number > MAX_CSEQ {
        return Err(ApiError::invalid("CSeq", "is not below 2^31"));
    }
    Ok(cseq.number)
}

/// The highest CSeq number.
pub(crate) const MAX_CSEQ: u32 = (1 << 31) - 1;
