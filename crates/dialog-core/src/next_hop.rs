//! Where a request goes first.

use sipora_message::{Request, Scheme, Uri};

use crate::error::{ApiError, ApiResult};

/// Gives the URI to locate for a request (RFC 3261 §8.1.2): the first Route if it is a loose router's, else the
/// Request-URI. A SIPS Request-URI makes a SIPS URI of either: "independent of which URI is used as input" (§8.1.2), such a
/// request leaves over TLS.
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
            let is_secure = request.uri().is_ok_and(|uri| uri.scheme() == Scheme::Sips);
            return sip("Route", if is_secure { uri.to_sips() } else { uri });
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

#[cfg(test)]
mod tests {
    use sipora_message::Method;

    use super::*;

    #[test]
    fn a_sips_request_uri_makes_the_first_hop_a_sips_uri() {
        let hop = |uri: &str, route: &str| {
            let request = Request::builder(Method::Options, &Uri::parse(uri).unwrap())
                .from("<sip:alice@example.com>;tag=1")
                .to("<sip:bob@example.com>")
                .call_id("1")
                .cseq(1)
                .route(route)
                .build()
                .unwrap();
            next_hop(&request).unwrap().to_string()
        };
        let route = "<sip:192.0.2.1:5070;transport=tcp;lr>";
        assert_eq!(
            hop("sips:bob@example.com", route),
            "sips:192.0.2.1:5070;transport=tcp;lr"
        );
        assert_eq!(
            hop("sip:bob@example.com", route),
            "sip:192.0.2.1:5070;transport=tcp;lr"
        );
        assert_eq!(
            hop("sip:bob@example.com", "<sips:192.0.2.1;lr>"),
            "sips:192.0.2.1;lr"
        );
    }
}
