//! Where a request goes first.

use sipora_message::{Request, Uri};

use crate::error::{ApiError, ApiResult};

/// Gives the URI to locate for a request (RFC 3261 §8.1.2): the first Route if it is a loose router's, else the
/// Request-URI.
///
/// # Errors
///
/// [`ApiError::InvalidRequest`] when the Route or the Request-URI that counts cannot be read, or is no SIP URI: a `tel:`
/// URI cannot be located.
pub fn next_hop(request: &Request) -> ApiResult<Uri> {
    if let Some(route) = request.headers().routes().next() {
        let route = route.map_err(|error| ApiError::invalid("Route", error.to_string()))?;
        let uri = route.uri().to_owned();
        if uri.is_loose_router() {
            return sip("Route", uri);
        }
    }
    let uri = request
        .uri()
        .map_err(|error| ApiError::invalid("Request-URI", error.to_string()))?;
    sip("Request-URI", uri.to_owned())
}

fn sip(place: &str, uri: Uri) -> ApiResult<Uri> {
    if uri.is_sip() {
        return Ok(uri);
    }
    Err(ApiError::invalid(
        place,
        format!("a {} URI cannot be located", uri.scheme_str()),
    ))
}
