//! Bodies that we cannot understand (RFC 3261 §8.2.3).

use sipora_message::{HeaderName, Request, ResponseBuilder};

use super::CallConfig;

impl CallConfig {
    /// Whether a request has a body that nobody here understands, and that must be understood: "if there are any bodies whose type,
    /// language or encoding are not understood, and that body part is not optional, the UAS MUST reject the request with a 415".
    pub(super) fn is_foreign(&self, request: &Request) -> bool {
        let headers = request.headers();
        if request.body().is_empty() {
            return false;
        }
        let disposition = headers.content_disposition().ok().flatten();
        if disposition.is_some_and(|disposition| disposition.is_optional()) {
            return false;
        }
        let is_encoded = headers
            .content_encoding()
            .any(|encoding| !encoding.eq_ignore_ascii_case("identity"));
        if is_encoded {
            return true;
        }
        let Ok(Some(media)) = headers.content_type() else {
            return true;
        };
        let (kind, subtype) = (media.kind(), media.subtype());
        let is = |known: &str| {
            known.split_once('/').is_some_and(|(known, sub)| {
                known.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype)
            })
        };
        let is_known = is(SDP)
            || kind.eq_ignore_ascii_case("multipart")
            || self.body_types.iter().any(|known| is(known));
        !is_known
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
