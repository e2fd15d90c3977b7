//! Typed header fields.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use sipora_message::{
    Address, CSeq, Contacts, HeaderName, Headers, Limits, Message, Method, Request, Uri,
};

/// A message with the given header lines.
fn message(lines: &str) -> Message {
    Message::parse(
        format!("OPTIONS sip:a@b SIP/2.0\r\n{lines}\r\n\r\n"),
        &Limits::default(),
    )
    .unwrap()
}

/// What `read` makes of the header fields of a message with the given lines.
fn with<T>(lines: &str, read: impl Fn(Headers<'_>) -> T) -> T {
    read(message(lines).headers())
}

/// The reason for which `read` fails, and what stands at the offset it names.
fn refusal<T: std::fmt::Debug>(
    lines: &str,
    read: impl Fn(Headers<'_>) -> Result<T, sipora_message::HeaderError>,
) -> (&'static str, String) {
    let message = message(lines);
    let error = read(message.headers())
        .map(|value| format!("{value:?}"))
        .unwrap_err();
    let at = String::from_utf8_lossy(&message.as_bytes()[error.offset()..]).into_owned();
    (error.reason(), at)
}

#[test]
fn compact_folded_repeated_and_listed_fields_look_the_same() {
    for lines in [
        "Route: <sip:a;lr>, <sip:b>;x=\"1,2\", <sip:c,d@e>",
        "Route: <sip:a;lr>\r\nroute: <sip:b>;x=\"1,2\"\r\nROUTE : <sip:c,d@e>",
        "Route:\r\n <sip:a;lr>\r\n ,\r\n\t<sip:b> ; x = \"1,2\"\r\nRoute: <sip:c,d@e>",
    ] {
        let uris = with(lines, |headers| {
            headers
                .routes()
                .map(|route| route.unwrap().uri().to_string())
                .collect::<Vec<_>>()
        });
        assert_eq!(uris, ["sip:a;lr", "sip:b", "sip:c,d@e"], "{lines}");
    }
    assert_eq!(
        with("i: 1@h", |headers| headers.call_id().unwrap().to_owned()),
        "1@h"
    );
    assert_eq!(
        with("k: path,outbound\r\nSupported: gruu", |headers| headers
            .supported()
            .count()),
        3
    );
    assert!(with("k: Path", |headers| headers.supports("path")));
}

#[test]
fn a_bad_field_costs_its_neighbours_nothing() {
    let bytes = b"OPTIONS sip:a@b SIP/2.0\r\nSubject: \xff\xfe\r\nFrom: \"\xe9\" <sip:a@b>;tag=1\r\nCSeq: x\r\n\
        Contact: <<>\r\nTo : <sip:c@d>\r\n\r\n";
    let request = Request::parse(&bytes[..], &Limits::default()).unwrap();
    let headers = request.headers();
    assert_eq!(headers.from().unwrap().tag(), Some("1"));
    assert_eq!(headers.from().unwrap().display().unwrap(), "\u{fffd}");
    assert_eq!(headers.to().unwrap().uri().as_str(), "sip:c@d");
    assert_eq!(headers.first(&HeaderName::Subject), Some(&b"\xff\xfe"[..]));
    assert!(headers.cseq().is_err() && headers.contacts().is_err());
}

#[test]
fn addresses_in_all_their_forms() {
    for (value, display, uri, tag) in [
        ("sip:a@b;tag=1", None, "sip:a@b", Some("1")),
        ("<sip:a@b;x=y>;tag=1", None, "sip:a@b;x=y", Some("1")),
        (
            "Alice <sip:a@b> ; tag = 1",
            Some("Alice"),
            "sip:a@b",
            Some("1"),
        ),
        ("A. B <sip:a@b>", Some("A. B"), "sip:a@b", None),
        (
            "\"A, \\\"B\\\" <x>\"<sip:a@b>;tag=",
            Some("A, \"B\" <x>"),
            "sip:a@b",
            None,
        ),
        (
            "Zo\u{eb} (home) <sip:a@b>",
            Some("Zo\u{eb} (home)"),
            "sip:a@b",
            None,
        ),
        ("\"\" <tel:+1>", Some(""), "tel:+1", None),
        ("isbn:2983792873", None, "isbn:2983792873", None),
    ] {
        let lines = format!("From: {value}");
        let found = message(&lines);
        let Ok(from) = found.headers().from() else {
            assert!(
                value.ends_with('='),
                "{value}: {:?}",
                found.headers().from()
            );
            continue;
        };
        assert_eq!(from.display().as_deref(), display, "{value}");
        assert_eq!((from.uri().as_str(), from.tag()), (uri, tag), "{value}");
        assert_eq!(from.as_bytes(), value.as_bytes());
    }
}

#[test]
fn addresses_that_are_none_say_where() {
    for (value, reason, at) in [
        ("Bell, A <sip:a@b>", "no address", ", A"),
        ("\"A <sip:a@b>", "unbalanced quote", "\"A"),
        ("A\" <sip:a@b>", "unbalanced quote", "\" <"),
        ("<sip:a@b", "no > behind the URI", "<sip"),
        ("< sip:a@b>", "no scheme", " sip"),
        (
            "sip:a@b?x=y",
            "a URI with headers outside angle brackets",
            "?x",
        ),
        ("<sip:a@b>;;", "malformed parameters", ";;"),
        ("<sip:a@b> x", "something behind the address", "x"),
        ("<sip:a@b>, <sip:c@d>", "more than one address", ", <"),
        ("", "no address", ""),
    ] {
        let (found, place) = refusal(&format!("To: {value}"), |headers| {
            headers.to().map(|to| to.tag().is_some())
        });
        assert_eq!(found, reason, "{value}");
        assert!(place.starts_with(at), "{value}: {place}");
    }
}

#[test]
fn fields_that_stand_alone_are_refused_twice_and_missed_when_absent() {
    assert_eq!(
        refusal("To: sip:a@b\r\nt: sip:c@d", |h| h.to().map(drop)).0,
        "given twice"
    );
    assert_eq!(
        refusal("CSeq: 1 A\r\nCSeq: 1 A", |h| h.cseq()).0,
        "given twice"
    );
    assert_eq!(
        refusal("Max-Forwards: 1\r\nMax-Forwards: 1", |h| h.max_forwards()).0,
        "given twice"
    );
    let missing = message("Subject: x");
    for error in [
        missing.headers().via().unwrap_err(),
        missing.headers().from().unwrap_err(),
        missing.headers().cseq().unwrap_err(),
    ] {
        assert!(error.is_missing());
    }
    assert_eq!(
        missing.headers().call_id().unwrap_err().to_string(),
        "Call-ID: missing at offset 39"
    );
}

#[test]
fn numbers_outside_their_range_are_refused_not_wrapped() {
    assert_eq!(
        with("CSeq: 4294967295 INVITE", |h| h.cseq().unwrap().number),
        u32::MAX
    );
    for cseq in [
        "4294967296 INVITE",
        "-1 INVITE",
        "1",
        "INVITE",
        "1 INVITE x",
        "1INVITE",
        "1 IN<VITE",
        "",
    ] {
        assert!(
            with(&format!("CSeq: {cseq}"), |h| h.cseq().is_err()),
            "{cseq}"
        );
    }
    assert_eq!(
        with("Max-Forwards: 255", |h| h.max_forwards()),
        Ok(Some(255))
    );
    assert!(with("Max-Forwards: 256", |h| h.max_forwards().is_err()));
    assert_eq!(
        with("Expires: 4294967295", |h| h.expires()),
        Ok(Some(u32::MAX))
    );
    assert!(with("Expires: 4294967296", |h| h.expires().is_err()));
    assert_eq!(with("Min-Expires: 60", |h| h.min_expires()), Ok(Some(60)));
    assert_eq!(with("Subject: x", |h| h.expires()), Ok(None));
}

#[test]
fn contacts_carry_their_preference_and_time() {
    let lines = "Contact: \"A\" <sip:a@b:5070;transport=tcp>;q=0.7;expires=60;reg-id=1\
        ;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"\r\nm: sip:c@d;q=1.000;expires=bad, <sip:e@f>";
    let message = message(lines);
    let contacts = message.headers().contacts().unwrap();
    let [one, two, three] = contacts.as_slice() else {
        panic!("{contacts:?}")
    };
    assert_eq!(
        (one.q().unwrap().to_string(), one.expires()),
        ("0.7".to_owned(), Some(60))
    );
    assert_eq!(
        one.instance().unwrap(),
        "<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"
    );
    assert_eq!(
        (one.reg_id(), one.display().unwrap().as_ref()),
        (Some(1), "A")
    );
    assert_eq!(
        (two.q().unwrap().to_string(), two.expires()),
        ("1".to_owned(), Some(3600))
    );
    assert_eq!(
        (three.q(), three.expires(), three.instance()),
        (None, None, None)
    );
    for q in ["1.1", "1.001", "2", "0.1234", "-0", ".5", "", "0,5", "0.x"] {
        assert!(
            with(&format!("Contact: <sip:a@b>;q={q}"), |h| h
                .contacts()
                .is_err()),
            "{q}"
        );
    }
}

#[test]
fn star_stands_alone() {
    assert!(with("Contact: *", |h| h.contacts().unwrap().is_star()));
    assert!(
        matches!(message("Subject: x").headers().contacts(), Ok(Contacts::List(list)) if list.is_empty())
    );
    for lines in [
        "Contact: *\r\nContact: <sip:a@b>",
        "Contact: *, <sip:a@b>",
        "Contact: <sip:a@b>\r\nm: *",
        "m: *\r\nm: *",
    ] {
        assert!(with(lines, |h| h.contacts().is_err()), "{lines}");
    }
}

#[test]
fn via_gives_what_a_response_needs() {
    let message = message(
        "Via: SIP/2.0/UDP [::1]:5070;rport=5071;received=192.0.2.1;branch=z9hG4bKa;ttl=3;maddr=224.2.0.1",
    );
    let via = message.headers().via().unwrap();
    assert_eq!(
        (via.transport(), via.port(), via.rport()),
        ("UDP", Some(5070), Some(Some(5071)))
    );
    assert_eq!(via.received(), Some("192.0.2.1".parse().unwrap()));
    assert_eq!(
        (via.branch(), via.ttl(), via.maddr()),
        (Some("z9hG4bKa"), Some(3), Some("224.2.0.1"))
    );
    assert!(via.has_unique_branch());
    assert_eq!(
        with("v: SIP/2.0/TCP h;rport", |h| h.via().unwrap().rport()),
        Some(None)
    );
    assert_eq!(with("v: SIP/2.0/TCP h", |h| h.via().unwrap().rport()), None);
    assert_eq!(
        with("v: SIP/2.0/TCP h : 5080 ;a", |h| h.via().unwrap().port()),
        Some(5080)
    );
    assert_eq!(
        with("v: SIP/2.0/TCP h: 5080", |h| h.via().unwrap().port()),
        Some(5080)
    );
    assert!(with("v: SIP/2.0/UDP h;branch=z9hG4bK", |h| !h
        .via()
        .unwrap()
        .has_unique_branch()));
    for via in [
        "SIP/2.0 h",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0/UDPh",
        "HTTP/1.1/TCP h",
        "SIP/2.0/UDP h:x",
        "SIP/2.0/UDP h:99999",
        "SIP/2.0/UDP h;;",
        "SIP/2.0/UDP h i",
        "SIP/2.0/UDP [::1",
        "",
    ] {
        assert!(with(&format!("Via: {via}"), |h| h.via().is_err()), "{via}");
    }
}

#[test]
fn challenges_and_credentials_share_one_grammar() {
    let read = |lines: &str| {
        with(lines, |headers| {
            headers
                .challenges(&HeaderName::WwwAuthenticate)
                .map(|value| {
                    value.map_or("error".to_owned(), |value| {
                        let params: Vec<_> = value
                            .params()
                            .map(|(name, value)| format!("{name}={value}"))
                            .collect();
                        format!("{} {}", value.scheme(), params.join("|"))
                    })
                })
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(
        read(
            "WWW-Authenticate: Digest realm=\"a, \\\"b\\\"\", qop=\"auth,auth-int\",nonce=\"x==\" ,\r\n algorithm=MD5"
        ),
        ["Digest realm=a, \"b\"|qop=auth,auth-int|nonce=x==|algorithm=MD5"]
    );
    assert_eq!(
        read(
            "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\", Basic realm=\"b\", NTLM, Digest realm = c\r\n\
            WWW-Authenticate: digest stale=true"
        ),
        [
            "Digest realm=a|nonce=1",
            "Basic realm=b",
            "NTLM ",
            "Digest realm=c",
            "digest stale=true"
        ]
    );
    assert_eq!(read("WWW-Authenticate: Bearer dGVzdA=="), ["Bearer "]);
    assert_eq!(
        read("WWW-Authenticate: Digest realm=\"a\r\nWWW-Authenticate: Basic realm=b"),
        ["error", "Basic realm=b"]
    );
    for broken in [
        "Digest",
        "Digest realm",
        "Digest =x",
        "Digest realm=\"a\" nonce=b",
        "",
        "\"x\"",
    ] {
        let found = read(&format!("WWW-Authenticate: {broken}"));
        assert!(
            found == ["error"] || found == ["Digest "],
            "{broken}: {found:?}"
        );
    }
    let odd = message("Authorization: NoOneKnowsThisScheme opaque-data=here");
    let value = odd
        .headers()
        .credentials(&HeaderName::Authorization)
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(
        (value.scheme(), value.param("Opaque-Data").unwrap().as_ref()),
        ("NoOneKnowsThisScheme", "here")
    );
}

#[test]
fn retry_after_warning_and_media_types() {
    let lines = "Retry-After: 18000 (in (a) meeting);duration=3600\r\nWarning: 307 isi.edu \"not \\\"here\\\"\", \
        399 h \"b\"\r\nContent-Type: multipart/mixed ; boundary=\"a b\"\r\nAccept: application/sdp;level=1, text/*, bad";
    let message = message(lines);
    let headers = message.headers();
    let retry = headers.retry_after().unwrap().unwrap();
    assert_eq!((retry.seconds, retry.duration()), (18_000, Some(3600)));
    assert_eq!(retry.comment().unwrap(), "in (a) meeting");
    let warnings: Vec<_> = headers.warnings().map(Result::unwrap).collect();
    assert_eq!(
        (warnings[0].code, warnings[0].text().as_ref()),
        (307, "not \"here\"")
    );
    assert_eq!((warnings[1].code, warnings[1].agent().as_ref()), (399, "h"));
    let kind = headers.content_type().unwrap().unwrap();
    assert!(kind.is("Multipart", "mixed"));
    assert_eq!(kind.params().get("boundary").unwrap(), "a b");
    let accept: Vec<_> = headers
        .accept()
        .map(|range| range.map_or("error", |range| range.subtype()))
        .collect();
    assert_eq!(accept, ["sdp", "*", "error"]);
    assert!(with("Retry-After: 949302838503028349304023988", |h| h
        .retry_after()
        .is_err()));
    assert!(with("Retry-After: 5 (open", |h| h.retry_after().is_err()));
    assert!(with("Warning: 1812 overture \"x\"", |h| h
        .warnings()
        .next()
        .unwrap()
        .is_err()));
    let methods: Vec<_> = with("Allow: INVITE,ACK\r\nAllow: X-Y, <", |h| {
        h.allow().collect()
    });
    assert_eq!(
        methods,
        [Method::Invite, Method::Ack, Method::Other("X-Y".into())]
    );
}

proptest! {
    #[test]
    fn any_address_survives_printing_and_parsing(
        display in proptest::option::of("[^\r\n\0]{0,20}"), user in "[^\r\n]{1,12}",
        params in proptest::collection::vec(("[a-z.+-]{1,8}", proptest::option::of("[^\r\n\0]{0,12}")), 0..4),
    ) {
        let uri = Uri::sip(Some(&user), "example.com", None).unwrap();
        let mut address = Address::new(&uri);
        if let Some(display) = &display {
            address = address.with_display(display);
        }
        for (name, value) in &params {
            address = address.with_param(name, value.as_deref());
        }
        let message = message(&format!("To: {address}"));
        let to = message.headers().to().unwrap();
        prop_assert_eq!(to.uri().as_str(), uri.as_str());
        prop_assert_eq!(to.display().map(String::from), display);
        let found: Vec<_> = to.params().iter()
            .map(|param| (param.name().to_owned(), param.value().map(String::from))).collect();
        prop_assert_eq!(found, params);
    }

    #[test]
    fn any_cseq_survives_printing_and_parsing(number in any::<u32>(), method in "[A-Z!%*_+`'~.-]{1,12}") {
        let cseq = CSeq { number, method: method.parse().unwrap() };
        prop_assert_eq!(with(&format!("CSeq: {cseq}"), |headers| headers.cseq()), Ok(cseq));
    }

    #[test]
    fn any_header_value_is_read_back_byte_for_byte(name in "X-[A-Za-z]{1,12}", value in "[!-~]([ -~\u{a0}-\u{ff}]{0,30}[!-~])?") {
        let message = message(&format!("{name}: {value}\r\n{name}2:{value}\r\nAfter: 1"));
        let headers = message.headers();
        prop_assert_eq!(headers.first(&HeaderName::from(name.as_str())), Some(value.as_bytes()));
        prop_assert_eq!(headers.nth(1).unwrap().value(), value.as_bytes());
        prop_assert_eq!(headers.nth(2).unwrap().value(), b"1");
    }
}

#[test]
fn white_space_stands_around_the_slashes_and_the_colon_of_a_via() {
    for via in [
        "SIP/2.0/ UDP h:5070",
        "SIP/2.0/\r\n UDP h:5070",
        "SIP/2.0 /UDP h:5070",
        "SIP/2.0/UDP h:\r\n 5070",
        "SIP/2.0/UDP h :\t5070",
    ] {
        with(&format!("Via: {via};branch=z9hG4bK1"), |headers| {
            let via = headers.via().unwrap();
            assert_eq!((via.transport(), via.version()), ("UDP", "2.0"));
            assert_eq!((via.host_str(), via.port()), ("h", Some(5070)));
            assert_eq!(via.branch(), Some("z9hG4bK1"));
        });
    }
}
