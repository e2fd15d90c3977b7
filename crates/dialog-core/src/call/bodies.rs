//! Bodies that we cannot understand (RFC 3261 §8.2.3).

use sipora_message::{HeaderName, Request, ResponseBuilder};

use super::CallConfig;
use crate::foreign::is_foreign;

impl CallConfig {
    /// Whether a request has a body that nobody here understands, and that must be understood: "if there are any bodies whose type,
    /// language or encoding are not understood, and that body part is not optional, the UAS MUST reject the request with a 415".
    pub(super) fn is_foreign(&self, request: &Request) -> bool {
        let headers = request.headers();
        if request.body().is_empty() {
            return false;
        }
        let media = headers.content_type().ok().flatten();
        is_foreign(&headers, media, |media| {
            let is = |known: &str| {
                let known = known.split_once('/');
                known.is_some_and(|(kind, subtype)| media.is(kind, subtype))
            };
            is(SDP)
                || media.kind().eq_ignore_ascii_case("multipart")
                || self.body_types.iter().any(|known| is(known))
        })
    }

    /// Says in a 415 what would be understood.
    pub(super) fn add_accepted(&self, builder: ResponseBuilder) -> ResponseBuilder {
        builder
            .header(HeaderName::Accept, self.accepted())
            .header(HeaderName::AcceptEncoding, "identity")
    }

    /// The value of Accept.
    pub(super) fn accepted(&self) -> String {
        let mut types = vec![SDP];
        types.extend(self.body_types.iter().map(String::as_str));
        types.join(", ")
    }
}

const SDP: &str = "application/sdp";
