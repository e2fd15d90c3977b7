//! Streams: however they are cut, the same messages come out.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use sipora_message::{Frame, Limits, Message, ParseErrorKind, StreamFramer};

const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n\
    From: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n";

fn with_body(body: &str) -> String {
    format!("{REGISTER}l: {}\r\n\r\n{body}", body.len())
}

/// All frames but pongs, as text, of a stream cut into chunks of the given sizes.
fn frames(stream: &[u8], cuts: &[usize], limits: Limits) -> Vec<String> {
    let mut framer = StreamFramer::new(limits);
    let mut out = Vec::new();
    let mut rest = stream;
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(cuts.next().unwrap().clamp(1, rest.len()));
        framer.push(chunk);
        while let Some(frame) = framer.next() {
            match frame {
                Frame::Message(message) => {
                    out.push(String::from_utf8_lossy(message.as_bytes()).into_owned())
                }
                Frame::Ping => out.push("ping".into()),
                Frame::Error(error) => {
                    let answerable = error.request().is_some();
                    out.push(format!(
                        "{:?} {} {answerable}",
                        error.error().kind(),
                        error.is_recoverable()
                    ));
                }
                _ => {}
            }
        }
        rest = after;
    }
    out
}

fn whole(stream: &[u8]) -> Vec<String> {
    frames(stream, &[], Limits::default())
}

#[test]
fn messages_follow_each_other_at_content_length() {
    let stream = format!(
        "{}{}{}",
        with_body("one\r\n\r\n"),
        with_body(""),
        with_body("two")
    );
    assert_eq!(
        whole(stream.as_bytes()),
        [with_body("one\r\n\r\n"), with_body(""), with_body("two")]
    );
}

#[test]
fn every_cut_gives_what_the_datagram_parse_gives() {
    let stream = format!("\r\n\r\n{}\r\n{}\r\n\r\n", with_body("body"), with_body(""));
    let expected = [
        "ping".to_owned(),
        with_body("body"),
        with_body(""),
        "ping".to_owned(),
    ];
    for cut in 1..stream.len() {
        assert_eq!(
            frames(stream.as_bytes(), &[cut], Limits::default()),
            expected,
            "cut at {cut}"
        );
    }
    let bytewise = vec![1; stream.len()];
    assert_eq!(
        frames(stream.as_bytes(), &bytewise, Limits::default()),
        expected
    );
    let datagram = Message::parse(with_body("body"), &Limits::default()).unwrap();
    assert_eq!(datagram.as_bytes(), with_body("body").as_bytes());
}

#[test]
fn a_lone_line_end_is_a_pong() {
    let mut framer = StreamFramer::new(Limits::default());
    framer.push(b"\r");
    assert!(framer.next().is_none());
    framer.push(b"\n");
    assert!(matches!(framer.next(), Some(Frame::Pong)));
    assert!(framer.next().is_none() && !framer.is_partial());
    framer.push(b"\r\n");
    assert!(matches!(framer.next(), Some(Frame::Ping)));
}

#[test]
fn a_defect_that_leaves_the_length_alone_costs_one_message_only() {
    let broken = format!("{REGISTER}no colon here\r\nl: 4\r\n\r\nbody");
    let stream = format!("{broken}{}", with_body("next"));
    assert_eq!(
        whole(stream.as_bytes()),
        ["HeaderLine true true".to_owned(), with_body("next")]
    );
}

#[test]
fn a_message_without_a_trustworthy_length_ends_the_stream() {
    for (length, kind) in [
        ("", "NoContentLength"),
        ("l: 5\r\nContent-Length: 6\r\n", "ContentLengthConflict"),
        ("l: -999\r\n", "ContentLength"),
        ("l: 99999999999999999999\r\n", "ContentLength"),
        ("l: 5\r\nX: a\nl: 6\r\n", "BareLineEnd"),
        ("l: 5\r\nX: a\rb\r\n", "BareLineEnd"),
        ("l: 4294967295\r\n", "BodyTooLong"),
    ] {
        let stream = format!("{REGISTER}{length}\r\nhello{}", with_body(""));
        assert_eq!(
            whole(stream.as_bytes()),
            [format!("{kind} false true")],
            "{length:?}"
        );
    }
}

#[test]
fn nothing_is_held_after_the_stream_is_lost() {
    let mut framer = StreamFramer::new(Limits::default());
    framer.push(b"\rx");
    assert!(matches!(framer.next(), Some(Frame::Error(error)) if !error.is_recoverable()));
    framer.push(&[b'a'; 100_000]);
    assert!(framer.next().is_none());
    assert_eq!(framer.buffered(), 0);
    assert!(framer.is_lost());
}

#[test]
fn an_endless_header_section_is_cut_off_at_the_limit() {
    let limits = Limits {
        header_bytes: 4096,
        start_line: 100,
        ..Limits::default()
    };
    for (start, kind) in [
        ("", ParseErrorKind::StartLineTooLong),
        (
            "OPTIONS sip:a SIP/2.0\r\nX: ",
            ParseErrorKind::HeadersTooLong,
        ),
        (
            "OPTIONS sip:a SIP/2.0\r\nX: a\r\n ",
            ParseErrorKind::HeadersTooLong,
        ),
    ] {
        let mut framer = StreamFramer::new(limits);
        framer.push(start.as_bytes());
        let mut most = 0;
        let error = loop {
            framer.push(&[b'a'; 64]);
            most = most.max(framer.buffered());
            match framer.next() {
                None => {}
                Some(Frame::Error(error)) => break error,
                Some(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(error.error().kind(), kind);
        assert!(!error.is_recoverable());
        assert!(most <= limits.header_bytes + 64);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_comes() {
    let mut framer = StreamFramer::new(Limits {
        body: 10,
        ..Limits::default()
    });
    framer.push(format!("{REGISTER}l: 11\r\n\r\n").as_bytes());
    let Some(Frame::Error(error)) = framer.next() else {
        panic!()
    };
    assert_eq!(error.error().kind(), ParseErrorKind::BodyTooLong);
    assert_eq!(error.error().status().as_u16(), 413);
    assert_eq!(error.request().unwrap().headers().call_id(), Ok("1"));
}

#[test]
fn the_torture_messages_frame_as_their_readme_says() {
    let fixture = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/fixtures/rfc4475");
        std::fs::read(format!("{folder}/{name}.dat")).unwrap()
    };
    let found = whole(&fixture("dblreq"));
    assert_eq!(found.len(), 3);
    assert!(found[0].starts_with("REGISTER") && found[1].starts_with("INVITE"));
    assert_eq!(found[2], "StartLine false false");
    assert!(whole(&fixture("clerr")).is_empty());
    assert!(whole(&fixture("baddn")).is_empty());
    for (name, kind) in [
        ("ncl", "ContentLength"),
        ("mcl01", "ContentLengthConflict"),
        ("inv2543", "NoContentLength"),
    ] {
        assert_eq!(
            whole(&fixture(name)),
            [format!("{kind} false true")],
            "{name}"
        );
    }
}

#[test]
fn a_stream_of_single_bytes_takes_linear_time() {
    // A framer that scanned from the start at each byte would look at 3 * 10^10 of them here.
    let stream = with_body(&"x".repeat(250_000));
    let cuts = vec![1; stream.len()];
    assert_eq!(frames(stream.as_bytes(), &cuts, Limits::default()).len(), 1);
}

proptest! {
    #[test]
    fn any_stream_gives_the_same_frames_however_it_is_cut(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just(with_body("")), Just(with_body("a\r\nb")), Just("\r\n".to_owned()), Just("\r\n\r\n".to_owned()),
                Just(format!("{REGISTER}\r\n")), Just(format!("{REGISTER}: x\r\nl: 0\r\n\r\n")), Just("\r".to_owned()),
                Just(format!("{REGISTER}X: a\n\r\n\r\n")), "[ -~\r\n]{0,12}",
            ], 0..6),
        cuts in proptest::collection::vec(1usize..200, 0..40),
    ) {
        let stream = pieces.concat();
        prop_assert_eq!(frames(stream.as_bytes(), &cuts, Limits::default()), whole(stream.as_bytes()));
    }
}

#[test]
fn a_length_that_another_reader_may_see_ends_the_stream() {
    let limits = Limits {
        header_line: 64,
        ..Limits::default()
    };
    let long = format!("Content-Length:{}100\r\n", " ".repeat(64));
    let folded = " Content-Length: 100\r\n";
    let rest = REGISTER.split_once("\r\n").unwrap().1;
    for (line, kind) in [(&*long, "HeaderLineTooLong"), (folded, "HeaderLine")] {
        let smuggled = with_body("");
        let stream = format!("REGISTER sip:b SIP/2.0\r\n{line}{rest}l: 0\r\n\r\n{smuggled}");
        assert_eq!(
            frames(stream.as_bytes(), &[], limits),
            [format!("{kind} false true")]
        );
    }
}

#[test]
fn a_message_that_is_kept_keeps_nothing_else() {
    let mut framer = StreamFramer::new(Limits::default());
    let message = with_body("");
    framer.push(message.repeat(100).as_bytes());
    let Some(Frame::Message(first)) = framer.next() else {
        panic!("no message");
    };
    let Some(Frame::Message(second)) = framer.next() else {
        panic!("no message");
    };
    // Alone in its buffer, a message can be taken over without a copy, and is not larger than it says.
    drop(second);
    let length = first.as_bytes().len();
    let bytes = first.to_bytes();
    drop(first);
    let buffer = bytes.try_into_mut().unwrap();
    assert_eq!(buffer.capacity(), length);
}

#[test]
fn a_response_whose_status_line_cannot_be_read_costs_nobody_the_connection() {
    let stream = b"SIP/2.0 4294967301 No\r\nContent-Length: 3\r\n\r\nabcSIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n";
    for cut in 0..=stream.len() {
        let mut framer = StreamFramer::new(Limits::default());
        let mut frames = Vec::new();
        for part in [&stream[..cut], &stream[cut..]] {
            framer.push(part);
            frames.extend(std::iter::from_fn(|| framer.next()));
        }
        let [Frame::Error(error), Frame::Message(Message::Response(next))] = &frames[..] else {
            panic!("{frames:?}");
        };
        assert!(error.is_recoverable() && error.request().is_none());
        assert_eq!(next.status().as_u16(), 200);
    }
}

#[test]
fn an_unreadable_status_line_ends_the_stream_where_nobody_knows_its_end() {
    for rest in [
        "",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: x\r\n",
        "no field\r\nContent-Length: 0\r\n",
    ] {
        let mut framer = StreamFramer::new(Limits::default());
        framer.push(format!("SIP/2.0 4294967301 No\r\n{rest}\r\n").as_bytes());
        let Some(Frame::Error(error)) = framer.next() else {
            panic!("{rest}");
        };
        assert!(!error.is_recoverable(), "{rest}");
    }
}
