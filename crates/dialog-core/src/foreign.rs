//! Bodies that nobody understands (RFC 3261 §8.2.3).

use sipora_message::{Headers, MediaType, Multipart, MultipartLimits, Part, Request};

/// Says whether a request has a body that must be understood and is not: "if there are any bodies whose type (indicated by the
/// Content-Type), language (indicated by the Content-Language) or encoding (indicated by the Content-Encoding) are not understood,
/// and that body part is not optional (as indicated by the Content-Disposition header field), the UAS MUST reject the request with a
/// 415" (RFC 3261 §8.2.3), with what is understood in Accept and Accept-Encoding.
///
/// `types` are those that are understood, as in Accept: `application/sdp`. Encodings are not, and languages all. A multipart body is
/// understood where its parts are that must be. A request without a body costs no more than a look at its length.
///
/// ```
/// use sipora_dialog_core::has_foreign_body;
/// use sipora_message::{Method, Request, Uri};
///
/// let uri = Uri::parse("sip:bob@example.com")?;
/// let request = Request::builder(Method::Options, &uri)
///     .from("<sip:alice@example.com>;tag=1")
///     .to("<sip:bob@example.com>")
///     .call_id("a")
///     .cseq(1)
///     .body("text/plain", "hello")
///     .build()?;
/// assert!(has_foreign_body(&request, &["application/sdp"]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn has_foreign_body(request: &Request, types: &[&str]) -> bool {
    let body = request.body();
    if body.is_empty() {
        return false;
    }
    let headers = request.headers();
    let media = headers.content_type().ok().flatten();
    is_foreign(&headers, media, |media| {
        is_one_of(media, types) || {
            let parts = Multipart::parse(*media, body, &MultipartLimits::default());
            parts.is_ok_and(|parts| is_understood(media, &parts, types))
        }
    })
}

/// Says so of a body, or of a part of one, by its header fields.
pub(crate) fn is_foreign(
    headers: &Headers<'_>,
    media: Option<MediaType<'_>>,
    is_known: impl FnOnce(&MediaType<'_>) -> bool,
) -> bool {
    let disposition = headers.content_disposition().ok().flatten();
    if disposition.is_some_and(|disposition| disposition.is_optional()) {
        return false;
    }
    let is_identity = |encoding: &str| encoding.eq_ignore_ascii_case("identity");
    if !headers.content_encoding().all(is_identity) {
        return true;
    }
    media.is_none_or(|media| !is_known(&media))
}

/// Every part is, or, of those that say the same, any (RFC 2046 §5.1.4). How deep parts are nested is limited where they are read.
fn is_understood(media: &MediaType<'_>, parts: &Multipart<'_>, types: &[&str]) -> bool {
    let is_foreign = |part: &Part<'_>| {
        is_foreign(&part.headers(), part.content_type().ok(), |media| {
            let inner = || part.multipart();
            is_one_of(media, types)
                || inner().is_ok_and(|inner| is_understood(media, &inner, types))
        })
    };
    let mut all = parts.parts().iter();
    match media.subtype().eq_ignore_ascii_case("alternative") {
        true => all.any(|part| !is_foreign(part)),
        false => !all.any(is_foreign),
    }
}

fn is_one_of(media: &MediaType<'_>, types: &[&str]) -> bool {
    let is = |named: (&str, &str)| media.is(named.0, named.1);
    types.iter().any(|one| one.split_once('/').is_some_and(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipora_message::{Limits, Method, Uri};

    fn request(headers: &str, body: &str) -> Request {
        let text = format!(
            "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:h>\r\n\
             Call-ID: c\r\nCSeq: 1 OPTIONS\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Request::parse(text.into_bytes(), &Limits::default()).unwrap()
    }

    fn is_refused(headers: &str) -> bool {
        has_foreign_body(&request(headers, "v=0\r\n"), &["application/sdp"])
    }

    #[test]
    fn what_is_no_body_or_optional_or_known_is_not_foreign() {
        let uri = Uri::parse("sip:h").unwrap();
        let bare = Request::builder(Method::Options, &uri);
        let bare = bare.from("<sip:a@h>;tag=1").to("<sip:h>").call_id("c");
        assert!(!has_foreign_body(&bare.cseq(1).build().unwrap(), &[]));
        // A type of nothing is nothing.
        assert!(!has_foreign_body(
            &request("Content-Type: text/plain\r\n", ""),
            &[]
        ));
        assert!(!is_refused("Content-Type: Application/SDP;charset=x\r\n"));
        assert!(!is_refused("c: application/sdp\r\ne: identity\r\n"));
        assert!(!is_refused(
            "Content-Type: text/plain\r\nContent-Disposition: render;handling=optional\r\n"
        ));
        assert!(!is_refused(
            "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n\
             Content-Disposition: x;HANDLING=Optional\r\n"
        ));
    }

    #[test]
    fn what_is_not_known_and_not_optional_is_foreign() {
        for headers in [
            "",
            "Content-Type: text/plain\r\n",
            "Content-Type: nonsense\r\n",
            "Content-Type: application/sdp\r\nContent-Encoding: gzip\r\n",
            "Content-Type: application/sdp\r\nContent-Encoding: identity, x\r\n",
            "Content-Type: text/plain\r\nContent-Disposition: session;handling=required\r\n",
            "Content-Type: text/plain\r\nContent-Disposition: session\r\n",
            "Content-Type: multipart/mixed\r\n",
        ] {
            assert!(is_refused(headers), "{headers}");
        }
        let sdp = request("Content-Type: application/sdp\r\n", "v=0\r\n");
        assert!(has_foreign_body(&sdp, &[]));
    }

    #[test]
    fn of_several_parts_those_count_that_must_be_understood() {
        const SDP: &str = "Content-Type: application/sdp\r\n\r\nv=0\r\n";
        const XML: &str = "Content-Type: application/xml\r\n\r\n<a/>\r\n";
        const PICTURE: &str =
            "Content-Type: image/png\r\nContent-Disposition: icon;handling=optional\r\n\r\nx\r\n";
        const INNER: &str = "Content-Type: multipart/mixed;boundary=i\r\n\r\n\
                             --i\r\nContent-Type: application/xml\r\n\r\n<a/>\r\n--i--\r\n";
        let cases: [(&str, &[&str], bool); 6] = [
            ("mixed", &[SDP, PICTURE], false),
            ("mixed", &[PICTURE], false),
            ("mixed", &[SDP, XML], true),
            ("mixed", &[SDP, INNER], true),
            ("alternative", &[XML, SDP], false),
            ("alternative", &[XML], true),
        ];
        for (kind, parts, refused) in cases {
            let parts: String = parts.iter().map(|part| format!("--b\r\n{part}")).collect();
            let request = request(
                &format!("Content-Type: multipart/{kind};boundary=b\r\n"),
                &format!("{parts}--b--\r\n"),
            );
            assert_eq!(
                has_foreign_body(&request, &["application/sdp"]),
                refused,
                "{kind} {parts}"
            );
        }
    }
}
