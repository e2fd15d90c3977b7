//! The request, before and after: what RFC 3261 §16.3 checks, and what §16.6 makes of it.

use sipora_message::{BuildError, HeaderName, Request, Scheme, StatusCode, Uri, UriRef};

use crate::refusal::Refusal;

/// What of a request a proxy changes, found out once for all its branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    /// `Max-Forwards` of the copies.
    hops: u8,
    /// Routes at the top that lead here, to be taken off (§16.4).
    own_routes: usize,
    /// `Max-Breadth`, if it came with one.
    breadth: Option<u32>,
}

impl Checked {
    /// Divides what may be under way at once among so many copies (RFC 5393 §5.3.3): none gets more than its share, and
    /// contacts that lead back here for other users cannot multiply.
    pub(crate) fn shares(
        &self,
        copies: usize,
    ) -> Result<impl Iterator<Item = u32> + use<>, Refusal> {
        let copies = u32::try_from(copies).unwrap_or(u32::MAX).max(1);
        let most = DEFAULT_BREADTH.max(copies);
        let breadth = self.breadth.map_or(most, |breadth| breadth.min(most));
        if breadth < copies {
            let status = StatusCode::new(440).unwrap_or(StatusCode::LOOP_DETECTED);
            return Err(Refusal::new(status, "Max-Breadth Exceeded"));
        }
        let (share, over) = (breadth / copies, breadth % copies);
        Ok((0..copies).map(move |place| share + u32::from(place < over)))
    }
}

/// Checks what a proxy has to check (§16.3), but for loops and credentials.
///
/// `leads_here` tells whether a URI names this server. Require is not looked at: it is for the user agent at the end.
pub(crate) fn check(
    request: &Request,
    leads_here: impl Fn(&UriRef<'_>) -> bool,
) -> Result<Checked, Refusal> {
    let headers = request.headers();
    let max_forwards = headers
        .max_forwards()
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    // Step 3: "If the request contains a Max-Forwards header field with a field value of zero (0), the element MUST NOT
    // forward the request."; §16.6 step 3: without the field "the proxy MUST add one with a field value, which SHOULD be 70".
    let hops = match max_forwards {
        None => DEFAULT_HOPS,
        Some(left) => left.checked_sub(1).ok_or_else(|| {
            Refusal::new(
                StatusCode::TOO_MANY_HOPS,
                StatusCode::TOO_MANY_HOPS.default_reason(),
            )
        })?,
    };
    // Step 5: "if there are one or more option-tags this element does not understand, the element MUST return a 420 (Bad
    // Extension) response", and it understands none.
    let unsupported: Vec<&str> = headers
        .proxy_require()
        .filter(|tag| !tag.is_empty())
        .collect();
    if !unsupported.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_EXTENSION, "Bad Extension")
            .with_header(HeaderName::Unsupported, unsupported.join(", ")));
    }
    let breadth = breadth(request)?;
    let own_routes = own_routes(request, leads_here)?;
    Ok(Checked {
        hops,
        own_routes,
        breadth,
    })
}

/// Counts the routes at the top, which all have to lead here: a served user is reached from here, not by way of somebody
/// whom the sender names.
pub(crate) fn own_routes(
    request: &Request,
    leads_here: impl Fn(&UriRef<'_>) -> bool,
) -> Result<usize, Refusal> {
    let mut own_routes = 0;
    for route in request.headers().routes() {
        let route = route.map_err(|error| Refusal::bad_request(error.to_string()))?;
        if !leads_here(&route.uri()) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "Route Leads Elsewhere"));
        }
        own_routes += 1;
    }
    Ok(own_routes)
}

fn breadth(request: &Request) -> Result<Option<u32>, Refusal> {
    let Some(text) = request.headers().text(&HeaderName::from(MAX_BREADTH)) else {
        return Ok(None);
    };
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::bad_request("Max-Breadth is no number"));
    }
    Ok(Some(text.parse().unwrap_or(u32::MAX)))
}

/// Makes the copy of a request that goes to one contact (§16.6). The transaction layer puts our Via on top.
///
/// Credentials for `realm`, which were for us, stay here; so does an asserted identity, which nobody asserted whom we
/// trust (RFC 3325 §5). All else is as it came, byte for byte.
pub(crate) fn copy_for(
    request: &Request,
    contact: &Uri,
    checked: Checked,
    breadth: u32,
    realm: Option<&str>,
) -> Result<Request, BuildError> {
    let headers = request.headers();
    let mut edit = request
        .edit()
        .uri(contact)
        .set(HeaderName::MaxForwards, checked.hops)
        .set(HeaderName::from(MAX_BREADTH), breadth);
    for _ in 0..checked.own_routes {
        edit = edit.remove_first_value(HeaderName::Route);
    }
    if let Some(realm) = realm {
        let foreign: Vec<String> = headers
            .credentials(&HeaderName::ProxyAuthorization)
            .flatten()
            .filter(|value| value.param("realm").is_none_or(|found| found != realm))
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        edit = edit
            .remove(HeaderName::ProxyAuthorization)
            .remove(HeaderName::PAssertedIdentity);
        for value in foreign {
            edit = edit.append(HeaderName::ProxyAuthorization, value);
        }
    }
    if !headers.contains(&HeaderName::ContentLength) {
        // A datagram may do without; the connection that the copy may leave by may not (§18.3).
        let kind = headers.text(&HeaderName::ContentType);
        let named = kind.as_deref().unwrap_or("application/octet-stream");
        edit = edit.body(named, request.body().to_vec());
        if kind.is_none() {
            edit = edit.remove(HeaderName::ContentType);
        }
    }
    edit.build()
}

/// Makes a Request-URI with this scheme of a contact; `None` where it can have none.
///
/// §16.6 step 2: what a Request-URI must not hold is taken off, which is URI headers and the parameter `method` (§19.1.1).
/// A SIPS contact may become a SIP URI (RFC 5630 §5.3), and not the other way round.
pub(crate) fn request_uri(contact: &str, scheme: Scheme) -> Option<Uri> {
    let uri = UriRef::parse(contact).ok()?;
    if !uri.is_sip() || (uri.scheme(), scheme) == (Scheme::Sip, Scheme::Sips) {
        return None;
    }
    let (_, contact) = contact.split_once(':')?;
    let host = contact.rfind('@').map_or(0, |at| at + 1);
    let (user, rest) = contact.split_at_checked(host)?;
    let rest = rest.split('?').next().unwrap_or(rest);
    let mut pieces = rest.split(';');
    let scheme = match scheme {
        Scheme::Sips => "sips",
        _ => "sip",
    };
    let mut text = format!("{scheme}:{user}{}", pieces.next()?);
    for parameter in pieces.filter(|parameter| !is_method(parameter)) {
        text.push(';');
        text.push_str(parameter);
    }
    Uri::parse(&text).ok()
}

fn is_method(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default();
    name.trim().eq_ignore_ascii_case("method")
}

const DEFAULT_HOPS: u8 = 70;
/// RFC 5393 §5.3.3: of a request without the field; and no more is granted to one that asks for more.
const DEFAULT_BREADTH: u32 = 60;
const MAX_BREADTH: &str = "Max-Breadth";

#[cfg(test)]
mod tests {
    use sipora_message::Limits;

    use super::*;

    fn request(lines: &str, body: &str) -> Request {
        let text = format!(
            "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\n\
             v: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK0\r\nTo: <sip:bob@example.com>\r\n\
             From: <sip:alice@example.com>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nX-Odd:  kept \r\n{lines}\r\n{body}"
        );
        Request::parse(text, &Limits::default()).unwrap()
    }

    fn checked(lines: &str) -> Result<Checked, u16> {
        let here = |uri: &UriRef<'_>| uri.host_str() == "example.com";
        check(&request(lines, ""), here).map_err(|refusal| refusal.status.as_u16())
    }

    fn copy(lines: &str, body: &str) -> Request {
        let here = |uri: &UriRef<'_>| uri.host_str() == "example.com";
        let request = request(lines, body);
        let contact = Uri::parse("sip:bob@192.0.2.9:5070;ob").unwrap();
        let checked = check(&request, here).unwrap();
        copy_for(&request, &contact, checked, 7, Some("example.com")).unwrap()
    }

    #[test]
    fn hops_are_counted_down_to_483() {
        assert_eq!(checked("Max-Forwards: 0\r\n"), Err(483));
        assert_eq!(checked("Max-Forwards: 1\r\n").unwrap().hops, 0);
        assert_eq!(checked("Max-Forwards: 70\r\n").unwrap().hops, 69);
        assert_eq!(checked("").unwrap().hops, 70);
    }

    #[test]
    fn breadth_is_divided_and_never_grows() {
        let shares = |lines: &str, copies| -> Result<Vec<u32>, u16> {
            let shares = checked(lines)?.shares(copies);
            shares
                .map(Iterator::collect)
                .map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(shares("", 1), Ok(vec![60]));
        assert_eq!(shares("", 7), Ok(vec![9, 9, 9, 9, 8, 8, 8]));
        assert_eq!(shares("", 100), Ok(vec![1; 100]));
        assert_eq!(shares("Max-Breadth: 5\r\n", 2), Ok(vec![3, 2]));
        assert_eq!(shares("Max-Breadth: 99999999999\r\n", 1), Ok(vec![60]));
        assert_eq!(shares("Max-Breadth: 1\r\n", 2), Err(440));
        assert_eq!(shares("Max-Breadth: 0\r\n", 1), Err(440));
        assert_eq!(shares("Max-Breadth: -1\r\n", 1), Err(400));
    }

    #[test]
    fn what_a_proxy_must_understand_is_refused_and_what_the_end_must_is_not() {
        assert_eq!(checked("Proxy-Require: foo, bar\r\n"), Err(420));
        assert!(checked("Require: foo\r\n").is_ok());
    }

    #[test]
    fn own_routes_are_taken_off_and_others_are_refused() {
        let own = "Route: <sip:example.com;lr>, <sip:example.com:5070;lr>\r\n";
        assert_eq!(checked(own).unwrap().own_routes, 2);
        assert!(!copy(own, "").headers().contains(&HeaderName::Route));
        let other = "Route: <sip:example.com;lr>\r\nRoute: <sip:elsewhere.example;lr>\r\n";
        assert_eq!(checked(other), Err(403));
    }

    #[test]
    fn a_copy_has_the_contact_s_uri_one_hop_less_and_all_else_as_it_came() {
        let copy = copy("Max-Forwards: 9\r\nl: 5\r\nc: text/plain\r\n", "hello");
        assert_eq!(copy.uri_text(), "sip:bob@192.0.2.9:5070;ob");
        assert_eq!(copy.headers().max_forwards().unwrap(), Some(8));
        assert_eq!(copy.headers().text(&"Max-Breadth".into()).unwrap(), "7");
        assert_eq!(copy.body(), b"hello");
        let text = String::from_utf8_lossy(copy.as_bytes()).into_owned();
        assert!(text.contains("\r\nX-Odd:  kept \r\n"), "{text}");
        assert!(
            text.contains("\r\nv: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK0\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_copy_says_its_length_where_the_request_did_not() {
        let with_body = copy("Content-Type: text/plain\r\n", "hello");
        assert_eq!(with_body.headers().content_length().unwrap(), Some(5));
        assert_eq!(with_body.body(), b"hello");
        assert_eq!(with_body.headers().count(&HeaderName::ContentType), 1);
        let without = copy("", "");
        assert_eq!(without.headers().content_length().unwrap(), Some(0));
        assert!(!without.headers().contains(&HeaderName::ContentType));
    }

    #[test]
    fn our_credentials_stay_here_and_others_go_on() {
        let credentials = |realm: &str| {
            format!(
                "Proxy-Authorization: Digest username=\"alice\", realm=\"{realm}\", nonce=\"1\", uri=\"sip:x\", response=\"2\"\r\n"
            )
        };
        let lines = format!(
            "{}{}P-Asserted-Identity: <sip:bob@example.com>\r\n",
            credentials("example.com"),
            credentials("elsewhere.example")
        );
        let copy = copy(&lines, "");
        let headers = copy.headers();
        let left: Vec<_> = headers.all(&HeaderName::ProxyAuthorization).collect();
        assert_eq!(left.len(), 1);
        assert!(String::from_utf8_lossy(left[0]).contains("elsewhere.example"));
        assert!(!headers.contains(&HeaderName::PAssertedIdentity));
    }

    #[test]
    fn a_contact_becomes_a_request_uri_without_what_that_may_not_hold() {
        let uri = |contact: &str| request_uri(contact, Scheme::Sip).map(|uri| uri.to_string());
        for (contact, owed) in [
            ("sip:bob@192.0.2.9:5070;ob", "sip:bob@192.0.2.9:5070;ob"),
            (
                "sip:bob@192.0.2.9;method=INVITE;transport=tcp?subject=x",
                "sip:bob@192.0.2.9;transport=tcp",
            ),
            ("sip:b?b@192.0.2.9", "sip:b?b@192.0.2.9"),
            ("sip:192.0.2.9?a=b", "sip:192.0.2.9"),
        ] {
            assert_eq!(uri(contact).as_deref(), Some(owed));
        }
        assert_eq!(
            uri("SIPS:bob@192.0.2.9").as_deref(),
            Some("sip:bob@192.0.2.9")
        );
        for contact in ["tel:+123", "mailto:bob@example.com"] {
            assert_eq!(uri(contact), None);
        }
        assert!(request_uri("sip:bob@192.0.2.9", Scheme::Sips).is_none());
        let sips = request_uri("sips:bob@192.0.2.9", Scheme::Sips).unwrap();
        assert_eq!(sips.to_string(), "sips:bob@192.0.2.9");
    }
}
