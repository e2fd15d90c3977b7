//! How messages look where a program prints them: a line, without what does not belong into a log.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use sipora_message::{
    Fragment, Frame, HeaderName, Limits, Message, Method, Request, Response, StreamFramer, Uri,
};

const BYE: &str = "BYE sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
    From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>;tag=2\r\nCall-ID: 1\r\nCSeq: 3 BYE\r\n\
    Authorization: Digest username=\"a\", response=\"secret\"\r\n\r\n";

/// Longer than any line of ours may get.
const BOUND: usize = 2_000;

fn parse(text: impl Into<bytes::Bytes>) -> Message {
    Message::parse(text, &Limits::default()).unwrap()
}

fn request(text: &str) -> Request {
    Request::parse(text.to_owned(), &Limits::default()).unwrap()
}

#[test]
fn a_request_shows_its_start_line_its_number_and_how_much_there_is() {
    let shown = "Request(BYE sip:bob@192.0.2.2, CSeq 3 BYE, 6 header fields, 0 octets of body)";
    assert_eq!(format!("{:?}", request(BYE)), shown);
    // Nothing of it is a structure to lay out, and a message is what it is.
    assert_eq!(format!("{:#?}", request(BYE)), shown);
    assert_eq!(format!("{:?}", parse(BYE)), shown);
}

#[test]
fn a_response_shows_the_same_of_itself() {
    let text = "SIP/2.0 183 Session Progress\r\nCSeq: 1 INVITE\r\n\r\nsecret";
    let shown = "Response(183 Session Progress, CSeq 1 INVITE, 1 header fields, 6 octets of body)";
    assert_eq!(format!("{:?}", parse(text)), shown);
}

#[test]
fn what_cannot_be_read_is_left_out_or_escaped() {
    let text = b"SIP/2.0 200 O\x1b[31mK\xff\r\nCSeq: none\r\n\r\n";
    let shown = "Response(200 O\\u{1b}[31mK\u{fffd}, 1 header fields, 0 octets of body)";
    assert_eq!(format!("{:?}", parse(&text[..])), shown);
}

#[test]
fn a_password_in_the_request_uri_is_not_shown() {
    let shown = format!("{:?}", request(&BYE.replace("bob@", "bob:secret@")));
    assert!(
        shown.starts_with("Request(BYE sip:bob:***@192.0.2.2, "),
        "{shown}"
    );
}

#[test]
fn what_is_long_is_cut() {
    let long = "x".repeat(5_000);
    let texts = [
        BYE.replace("bob", &long),
        BYE.replace("BYE", &long),
        format!("SIP/2.0 200 {long}\r\n\r\n"),
    ];
    for text in texts {
        let shown = format!("{:?}", parse(text));
        assert!(shown.len() < BOUND && shown.contains("x…"), "{shown}");
    }
}

#[test]
fn a_fragment_shows_its_start_line() {
    let shown = |text: &'static str| {
        let fragment = Fragment::parse(text, &Limits::default()).unwrap();
        format!("{fragment:?}")
    };
    assert_eq!(
        shown("SIP/2.0 180 Ringing"),
        "Fragment(180 Ringing, 0 header fields, 0 octets of body)"
    );
    assert_eq!(
        shown("Authorization: secret\r\n\r\nsecret"),
        "Fragment(1 header fields, 6 octets of body)"
    );
    assert!(
        shown("BYE sip:a@b SIP/2.0\r\nCSeq: 3 BYE")
            .starts_with("Fragment(BYE sip:a@b, CSeq 3 BYE, ")
    );
}

#[test]
fn what_messages_are_made_from_and_into_tells_no_secret() {
    let bye = request(BYE);
    let edit = bye
        .edit()
        .set(HeaderName::Authorization, "secret")
        .body("text/plain", "secret");
    let builder = Request::builder(Method::Message, &Uri::parse("sip:a@b").unwrap())
        .header(HeaderName::Authorization, "secret")
        .body("text/plain", "secret");
    let response = Response::for_request(&bye, 200.try_into().unwrap())
        .header(HeaderName::from("X-Secret"), "secret")
        .body("text/plain", "secret");
    let printed = response.clone().print().unwrap();
    let mut framer = StreamFramer::new(Limits::default());
    framer.push(b"BYE sip:a@b SIP/2.0\r\nAuthorization: secret\r\nCSeq\r\n\r\n");
    let before = format!("{framer:?}");
    let frame = framer.next();
    assert!(matches!(frame, Some(Frame::Error(_))), "{frame:?}");
    for shown in [
        format!("{edit:?}"),
        format!("{builder:?}"),
        format!("{response:?}"),
        format!("{printed:?}"),
        format!("{frame:?}"),
        before,
    ] {
        let octets = format!("{:?}", b"secret").replace(['[', ']'], "");
        let tells = ["secret", &octets].iter().any(|it| shown.contains(*it));
        assert!(!tells && shown.len() < BOUND, "{shown}");
    }
}

proptest! {
    #[test]
    fn any_octets_are_shown_in_a_short_line_that_prints(
        uri in proptest::collection::vec(any::<u8>(), 0..600),
        reason in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let texts = [
            [b"BYE ", &uri[..], b" SIP/2.0\r\nCSeq: 1 BYE\r\n\r\n"].concat(),
            [b"SIP/2.0 200 ", &reason[..], b"\r\nCSeq: 1 BYE\r\n\r\n"].concat(),
        ];
        for text in texts {
            let shown = match Message::parse(text, &Limits::default()) {
                Ok(message) => format!("{message:?}"),
                Err(error) => format!("{:?}", error.request()),
            };
            prop_assert!(shown.len() < BOUND, "{}", shown);
            prop_assert!(!shown.contains(char::is_control), "{}", shown);
        }
    }
}
