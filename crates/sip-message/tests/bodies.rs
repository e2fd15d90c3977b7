//! Multipart bodies and fragments of messages.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::collection::vec;
use proptest::prelude::*;
use sipora_message::{
    BuildError, Fragment, FragmentStart, HeaderName, Limits, Message, Method, Multipart,
    MultipartBuilder, MultipartError, MultipartErrorKind, MultipartLimits, ParseErrorKind,
    StatusCode,
};

fn message(content_type: &str, body: &[u8]) -> Message {
    let mut text =
        format!("MESSAGE sip:a@b SIP/2.0\r\nContent-Type: {content_type}\r\n\r\n").into_bytes();
    text.extend_from_slice(body);
    Message::parse(text, &Limits::default()).unwrap()
}

fn parse<'a>(
    message: &'a Message,
    limits: &MultipartLimits,
) -> Result<Multipart<'a>, MultipartError> {
    let kind = message.headers().content_type().unwrap().unwrap();
    Multipart::parse(kind, message.body(), limits)
}

/// The bodies of the parts, or what is wrong.
fn bodies(content_type: &str, body: &str) -> Result<Vec<String>, MultipartErrorKind> {
    let message = message(content_type, body.as_bytes());
    let found = parse(&message, &MultipartLimits::default()).map_err(|error| error.kind())?;
    Ok(found
        .parts()
        .iter()
        .map(|part| String::from_utf8_lossy(part.body()).into_owned())
        .collect())
}

const MIXED: &str = "multipart/mixed;boundary=b";

#[test]
fn a_body_is_taken_apart_at_its_boundary_and_nowhere_else() {
    // RFC 2046 §5.1.1: preamble, epilogue, white space behind a boundary, boundaries inside lines, an empty part.
    let body = "preamble --b\r\n--b \t\r\n\r\none --b\r\n--bc\r\n-- b\r\n\r\n--b\r\nX: y\r\n\r\n\r\n--b\r\n\r\n\r\n--b--\r\nepilogue\r\n--b\r\n";
    assert_eq!(
        bodies(MIXED, body).unwrap(),
        ["one --b\r\n--bc\r\n-- b\r\n", "", ""]
    );
    assert_eq!(bodies(MIXED, "--b\r\n\r\nx\r\n--b--").unwrap(), ["x"]);
    assert_eq!(
        bodies(
            "Multipart/Mixed ; boundary=\"b b:1\"",
            "--b b:1\r\n\r\nx\r\n--b b:1--"
        )
        .unwrap(),
        ["x"]
    );
    // A part may end with its header fields.
    assert_eq!(bodies(MIXED, "--b\r\nX: y\r\n\r\n--b--").unwrap(), [""]);
    assert_eq!(bodies(MIXED, "--b\r\n--b--").unwrap(), [""]);
}

#[test]
fn what_is_no_multipart_says_so() {
    use MultipartErrorKind::*;
    for (content_type, body, kind) in [
        (
            "text/plain;boundary=b",
            "--b\r\n\r\n\r\n--b--",
            NotMultipart,
        ),
        ("multipart/mixed", "--b\r\n\r\n\r\n--b--", Boundary),
        (
            "multipart/mixed;boundary=\"\"",
            "--\r\n\r\n\r\n----",
            Boundary,
        ),
        (
            "multipart/mixed;boundary=\"b \"",
            "--b \r\n\r\n\r\n--b --",
            Boundary,
        ),
        (
            "multipart/mixed;boundary=\"a\\\"b\"",
            "--a\"b\r\n\r\n\r\n--a\"b--",
            Boundary,
        ),
        (MIXED, "", NoPart),
        (MIXED, "no boundary", NoPart),
        (MIXED, "--b--\r\n", NoPart),
        (MIXED, "--b\r\n\r\ncut off", NotClosed),
        (MIXED, "--b\r\n\r\none\r\n--b", NotClosed),
        (MIXED, "--b\r\nno header field\r\n\r\nx\r\n--b--", Headers),
        (MIXED, "--b\r\nX: y\rZ: w\r\n\r\nx\r\n--b--", Headers),
    ] {
        assert_eq!(
            bodies(content_type, body),
            Err(kind),
            "{content_type}: {body:?}"
        );
    }
    let long = "b".repeat(71);
    assert_eq!(
        bodies(&format!("multipart/mixed;boundary={long}"), "x"),
        Err(Boundary)
    );
    let error = parse(
        &message(MIXED, b"--b\r\n\r\n1\r\n--b\r\nbad\r\n\r\n--b--"),
        &MultipartLimits::default(),
    )
    .unwrap_err();
    assert_eq!((error.kind(), error.offset()), (Headers, 15));
    assert_eq!(
        error.to_string(),
        "malformed header fields in a part at offset 15 of the body"
    );
}

#[test]
fn parts_are_found_by_type_and_by_content_id() {
    // RFC 5621 §3, RFC 3892 §4.
    let body = b"--b\r\nContent-Type: application/SDP\r\n\r\nv=0\r\n\r\n--b\r\nc: message/sipfrag;version=2.0\r\n\
        Content-ID: <20398@h>\r\nContent-Disposition: aib; handling=optional\r\n\r\n\x00\xff\r\n\r\n--b\r\n\r\nplain\r\n--b--\r\n";
    let message = message(MIXED, body);
    let found = parse(&message, &MultipartLimits::default()).unwrap();
    assert_eq!(found.find("application", "sdp").unwrap().body(), b"v=0\r\n");
    let proof = found.by_content_id("20398@h").unwrap();
    assert_eq!(
        (proof.content_id(), proof.body()),
        (Some("<20398@h>"), &b"\x00\xff\r\n"[..])
    );
    assert!(
        proof
            .headers()
            .content_disposition()
            .unwrap()
            .unwrap()
            .is_optional()
    );
    assert_eq!(
        found.by_content_id("<20398@h>").unwrap().as_bytes(),
        proof.as_bytes()
    );
    assert_eq!(found.find("text", "plain").unwrap().body(), b"plain");
    assert!(found.find("image", "png").is_none() && found.by_content_id("x").is_none());
}

#[test]
fn parts_nest_as_deep_as_the_limits_allow() {
    let nest = |levels: usize| {
        let (mut kind, mut body) = ("text/plain".to_owned(), bytes::Bytes::from("core"));
        for level in 0..levels {
            (kind, body) = MultipartBuilder::new("mixed", &format!("b{level}"))
                .part(&kind, body)
                .build()
                .unwrap();
        }
        message(&kind, &body)
    };
    let depth = |message: &Message, limits: &MultipartLimits| {
        let mut found = parse(message, limits)?;
        for depth in 1.. {
            let part = found.parts()[0].clone();
            match part.multipart() {
                Ok(inner) => found = inner,
                Err(error) if error.kind() == MultipartErrorKind::NotMultipart => {
                    return Ok((depth, part.body().to_vec()));
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!()
    };
    let limits = MultipartLimits::default();
    assert_eq!(depth(&nest(4), &limits).unwrap(), (4, b"core".to_vec()));
    assert_eq!(
        depth(&nest(5), &limits).unwrap_err().kind(),
        MultipartErrorKind::TooDeep
    );
    let none = MultipartLimits { depth: 0, ..limits };
    assert_eq!(
        depth(&nest(1), &none).unwrap_err().kind(),
        MultipartErrorKind::TooDeep
    );
}

#[test]
fn limits_of_a_multipart_body_hold() {
    let many = |parts: usize| {
        message(
            MIXED,
            format!("{}--b--", "--b\r\n\r\nx\r\n".repeat(parts)).as_bytes(),
        )
    };
    let limits = MultipartLimits {
        parts: 3,
        header_count: 2,
        header_bytes: 64,
        ..MultipartLimits::default()
    };
    assert_eq!(parse(&many(3), &limits).unwrap().parts().len(), 3);
    assert_eq!(
        parse(&many(4), &limits).unwrap_err().kind(),
        MultipartErrorKind::TooManyParts
    );
    for lines in [
        "a: b\r\na: b\r\na: b\r\n".to_owned(),
        format!("a: {}\r\n", "b".repeat(70)),
    ] {
        let message = message(MIXED, format!("--b\r\n{lines}\r\nx\r\n--b--").as_bytes());
        assert_eq!(
            parse(&message, &limits).unwrap_err().kind(),
            MultipartErrorKind::Headers
        );
        assert!(parse(&message, &MultipartLimits::default()).is_ok());
    }
}

#[test]
fn what_would_be_a_broken_multipart_is_not_built() {
    let build = |builder: MultipartBuilder| builder.build().map(drop);
    assert_eq!(
        build(MultipartBuilder::new("mixed", "b")),
        Err(BuildError::Missing(HeaderName::ContentType))
    );
    assert_eq!(
        build(MultipartBuilder::new("mixed", "b\r\n").part("a/b", "x")),
        Err(BuildError::Boundary)
    );
    assert_eq!(
        build(MultipartBuilder::new("mixed", "b").part("a/b", "x --b y")),
        Err(BuildError::Boundary)
    );
    assert_eq!(
        build(MultipartBuilder::new("mixed", "b").part("a/b\r\nX: y", "x")),
        Err(BuildError::Injection(HeaderName::ContentType))
    );
    assert_eq!(
        build(MultipartBuilder::new("mi xed", "b").part("a/b", "x")),
        Err(BuildError::HeaderName("mi xed".into()))
    );
}

#[test]
fn fragments_have_a_start_line_header_fields_and_a_body_or_some_of_them() {
    // The examples of RFC 3420 §3.
    let parse = |text: &str| Fragment::parse(text.to_owned(), &Limits::default()).unwrap();
    let request = parse("INVITE sip:alice@atlanta.com SIP/2.0\r\n");
    assert_eq!(
        request.start(),
        FragmentStart::Request {
            method: &Method::Invite,
            uri: "sip:alice@atlanta.com"
        }
    );
    assert_eq!(
        (request.body(), request.headers().len(), request.status()),
        (None, 0, None)
    );
    let response = parse("SIP/2.0 603 Declined\r\n");
    assert_eq!(
        response.start(),
        FragmentStart::Response {
            status: StatusCode::DECLINE,
            reason: "Declined"
        }
    );
    let fields = parse(
        "From: Alice <sip:alice@atlanta.com>;tag=1\r\nDate: Thu, 21 Feb 2002 13:02:03 GMT\r\nCall-ID: a84b4c76e66710\r\n",
    );
    assert_eq!(
        (fields.start(), fields.headers().from().unwrap().tag()),
        (FragmentStart::None, Some("1"))
    );
    let body = parse("From: <sip:a@b>\r\nContent-Type: text/plain\r\n\r\nText\r\n\r\nmore");
    assert_eq!(body.body(), Some(&b"Text\r\n\r\nmore"[..]));
    let nothing = parse("\r\n");
    assert_eq!(
        (nothing.body(), nothing.headers().len()),
        (Some(&b""[..]), 0)
    );
    for text in [
        "SIP/2.0 100 Trying",
        "SIP/2.0 100 Trying\r\nTo: <sip:a@b>",
        "To: <sip:a@b>",
    ] {
        let fragment = parse(text);
        assert!(
            fragment.as_bytes().ends_with(b"\r\n") && fragment.body().is_none(),
            "{text}"
        );
    }
    assert_eq!(
        parse("SIP/2.0 100 Trying\r\nTo: <sip:a@b>")
            .headers()
            .to()
            .unwrap()
            .uri()
            .host_str(),
        "b"
    );
    assert_eq!(parse("Via: SIP/2.0/UDP a SIP/2.0").headers().len(), 1);
}

#[test]
fn what_is_no_fragment_says_where() {
    let kind = |text: &str| {
        Fragment::parse(text.to_owned(), &Limits::default())
            .unwrap_err()
            .kind()
    };
    assert_eq!(kind(""), ParseErrorKind::Empty);
    assert_eq!(kind("no header field"), ParseErrorKind::HeaderLine);
    assert_eq!(kind("SIP/2.0 999999 x"), ParseErrorKind::StatusCode);
    assert_eq!(kind("A: b\rC: d\r\n"), ParseErrorKind::BareLineEnd);
    let small = Limits {
        header_count: 1,
        body: 3,
        ..Limits::default()
    };
    assert_eq!(
        Fragment::parse("A: b\r\nC: d\r\n", &small)
            .unwrap_err()
            .kind(),
        ParseErrorKind::TooManyHeaders
    );
    assert_eq!(
        Fragment::parse("A: b\r\n\r\nbody", &small)
            .unwrap_err()
            .kind(),
        ParseErrorKind::BodyTooLong
    );
}

proptest! {
    #[test]
    fn what_is_built_is_taken_apart_again(parts in vec((vec(any::<u8>(), 0..60), "[!-~]{1,9}"), 1..8)) {
        let mut builder = MultipartBuilder::new("related", "=_b 1'?");
        for (body, id) in &parts {
            builder = builder.part("application/octet-stream", body.clone()).header("Content-ID", id);
        }
        let (content_type, body) = builder.build().unwrap();
        let message = message(&content_type, &body);
        let found = parse(&message, &MultipartLimits::default()).unwrap();
        let read: Vec<_> = found.parts().iter()
            .map(|part| (part.body().to_vec(), part.content_id().unwrap().to_owned())).collect();
        prop_assert_eq!(read, parts);
    }

    #[test]
    fn bodies_of_any_bytes_are_survived(pieces in vec(prop_oneof![
        Just(b"--b".to_vec()), Just(b"\r\n".to_vec()), Just(b"--".to_vec()), Just(b"X: y".to_vec()),
        Just(b"SIP/2.0 200 OK".to_vec()), vec(any::<u8>(), 0..6),
    ], 0..24)) {
        let body = pieces.concat();
        let message = message(MIXED, &body);
        if let Ok(found) = parse(&message, &MultipartLimits::default()) {
            prop_assert!(!found.parts().is_empty());
            for part in found.parts() {
                prop_assert!(part.body().len() <= part.as_bytes().len());
                let _ = (part.multipart(), part.content_id(), part.content_type().is_ok());
            }
        }
        if let Ok(fragment) = Fragment::parse(body.clone(), &Limits::default()) {
            prop_assert!(fragment.as_bytes().starts_with(&body));
        }
    }
}
