//! That no parser takes more than linear time, counted in bytes looked at (see [`scan`](crate::scan)), not by a clock.
//!
//! 64 KiB of whatever makes careless parsers go over their input again and again are put before every accessor. A
//! quadratic one would look at 2^32 bytes, linear ones are held to [`FACTOR`] looks at each byte.

mod accessors;
mod corpus;

use self::accessors::accessors;
use self::corpus::{PIECES, STARTS, WORST};
use crate::scan::visited;
use crate::*;

const SIZE: usize = 64 * 1024;

/// How often a byte may be looked at. A header value is cut out, measured, taken apart and, parameter by parameter,
/// read again by the accessors that ask for one; the dearest of them ask for six.
const FACTOR: u64 = 40;

fn limits() -> Limits {
    Limits {
        start_line: 1 << 20,
        header_line: 1 << 20,
        header_bytes: 1 << 22,
        header_count: 100_000,
        ..Limits::default()
    }
}

fn repeated(piece: &str) -> String {
    filled(piece, SIZE)
}

fn filled(piece: &str, size: usize) -> String {
    piece.repeat(size / piece.len())
}

fn ignore<T>(_: T) {}

/// Runs `work` and holds it to `factor` looks at each of `size` bytes.
#[track_caller]
fn linear(what: &str, size: usize, factor: u64, work: impl FnOnce()) -> u64 {
    let count = visited(work);
    let bound = factor * size as u64;
    assert!(
        count <= bound,
        "{what}: {count} bytes looked at, {} times each",
        count / size as u64
    );
    count
}

#[test]
fn a_parser_that_goes_over_its_input_again_and_again_would_be_noticed() {
    let text = repeated(",");
    let quadratic = visited(|| {
        for at in 0..512 {
            let _ = scan::rfind(b'x', &text.as_bytes()[at..]);
        }
    });
    assert!(quadratic > FACTOR * SIZE as u64);
}

#[test]
fn every_accessor_is_linear_in_its_header_field() {
    let limits = limits();
    let accessors = accessors();
    let mut dearest = (0, String::new());
    for (name, start) in STARTS {
        let worst = WORST.iter().map(|piece| (piece, SIZE));
        let other = PIECES.iter().map(|piece| (piece, SIZE / 16));
        for (piece, size) in worst.chain(other) {
            let text = format!(
                "OPTIONS sip:a@b SIP/2.0\r\n{name}: {start}{}\r\n\r\n",
                filled(piece, size)
            );
            let size = text.len();
            let mut parsed = None;
            linear(
                &format!("parsing {name}: {start}{piece:?}"),
                size,
                FACTOR,
                || {
                    parsed = Some(Message::parse(text, &limits).unwrap());
                },
            );
            let message = parsed.unwrap();
            for (accessor, read) in &accessors {
                let what = format!("{accessor} of {name}: {start}{piece:?}");
                let count = linear(&what, size, FACTOR, || read(message.headers()));
                dearest = dearest.max((count, what));
            }
            linear(
                &format!("check of {name}: {start}{piece:?}"),
                size,
                FACTOR,
                || ignore(message.check()),
            );
        }
    }
    // The bound is near what happens, or it would prove little.
    assert!(dearest.0 > FACTOR / 10 * SIZE as u64, "{dearest:?}");
}

#[test]
fn every_accessor_is_linear_in_the_number_of_lines() {
    let limits = limits();
    for (name, start) in STARTS {
        let line = format!("{name}: {start}\r\n");
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{}\r\n", repeated(&line));
        let (size, message) = (text.len(), Message::parse(text, &limits).unwrap());
        for (accessor, read) in accessors() {
            linear(
                &format!("{accessor} of lines {line:?}"),
                size,
                FACTOR,
                || read(message.headers()),
            );
        }
    }
    let text = format!(
        "OPTIONS sip:a@b SIP/2.0\r\n{}\r\n",
        repeated("Via: SIP/2.0/UDP h\r\n")
    );
    let message = Message::parse(text, &limits).unwrap();
    assert_eq!(message.headers().vias().flatten().count(), SIZE / 20);
}

#[test]
fn start_lines_and_header_sections_are_indexed_in_linear_time() {
    let limits = limits();
    for piece in PIECES.iter().chain(&[
        "\r\n", "\n", "\r", "\r\n\t", "a:\r\n", "a: b\r\n", ":\r\n", "\r\n\r\n",
    ]) {
        let many = repeated(piece);
        for text in [
            many.clone(),
            format!("OPTIONS {many} SIP/2.0\r\n\r\n"),
            format!("OPTIONS sip:a SIP/2.0\r\n{many}\r\n\r\n"),
            format!("SIP/2.0 200 {many}\r\n\r\n"),
            format!("SIP/2.0 200 OK\r\nContent-Length: {many}\r\n\r\n"),
        ] {
            let size = text.len();
            linear(&format!("datagram of {piece:?}"), size, FACTOR, || {
                ignore(Message::parse(text.clone(), &limits))
            });
            linear(&format!("fragment of {piece:?}"), size, FACTOR, || {
                ignore(Fragment::parse(text.clone(), &limits))
            });
            linear(&format!("stream of {piece:?}"), size, FACTOR, || {
                let mut framer = StreamFramer::new(limits);
                for chunk in text.as_bytes().chunks(7) {
                    framer.push(chunk);
                    while framer.next().is_some() {}
                }
            });
        }
    }
}

#[test]
fn uris_are_linear_and_comparing_them_is_bounded() {
    for piece in PIECES {
        let many = repeated(piece);
        for start in [
            "",
            "sip:",
            "sip:a@",
            "sip:a@b;",
            "sip:a@b?",
            "sip:a@b:",
            "sip:a@b;x=",
            "tel:",
            "tel:+1;",
            "urn:a:",
            "x:",
        ] {
            let text = format!("{start}{many}");
            linear(&format!("URI {start}{piece:?}"), text.len(), FACTOR, || {
                let Ok(uri) = UriRef::parse(&text) else {
                    return;
                };
                let _ = (
                    uri.user_decoded(),
                    uri.host(),
                    uri.params().count(),
                    uri.headers().count(),
                );
                let _ = (
                    uri.transport(),
                    uri.header("x"),
                    uri.telephone().map(|tel| tel.digits()),
                );
                let _ = (Aor::from_uri(uri), uri.urn().is_some());
            });
        }
    }
    // As many parameters and headers as a URI may have, as long as they may be: each is held against each.
    let long = "a".repeat(SIZE / 200);
    let pairs = |separator: &str| {
        (0..99)
            .map(|n| format!("{separator}{long}{n}=x"))
            .collect::<String>()
    };
    let text = format!("sip:a@b{}?x=y{}", pairs(";"), pairs("&"));
    let uri = Uri::parse(&text).unwrap();
    linear("equivalence", text.len(), 100 * FACTOR, || {
        assert!(uri.equivalent(&uri))
    });
}

#[test]
fn bodies_are_taken_apart_in_linear_time() {
    let limits = MultipartLimits::default();
    for boundary in [
        "b",
        "-",
        "--",
        "b--",
        "----------------------------------------------------------------------",
    ] {
        let lines = [
            "--b\r\n",
            "--b",
            "\r\n--b",
            "\r\n--b\r\n",
            "--b \t \r\n",
            "--",
            "\r\n",
            "-",
            "\r\n--",
            "--b--",
            "a: b\r\n",
        ];
        for piece in lines {
            let many = repeated(&piece.replace('b', boundary));
            let head = format!(
                "OPTIONS sip:a@b SIP/2.0\r\nContent-Type: multipart/mixed;boundary=\"{boundary}\"\r\n\r\n"
            );
            let text = format!("{head}--{boundary}\r\n{many}\r\n--{boundary}--");
            let (size, message) = (
                text.len(),
                Message::parse(text, &super::Limits::default()).unwrap(),
            );
            // Each byte of the body may begin a boundary of up to 72 bytes.
            linear(
                &format!("multipart of {piece:?}, {boundary:?}"),
                size,
                100,
                || {
                    let kind = message.headers().content_type().unwrap().unwrap();
                    let Ok(multipart) = Multipart::parse(kind, message.body(), &limits) else {
                        return;
                    };
                    for part in multipart.parts() {
                        ignore(part.multipart());
                    }
                },
            );
        }
    }
}

#[test]
fn answers_and_edits_are_linear() {
    let limits = limits();
    for line in [
        "Via: SIP/2.0/UDP h\r\n",
        "Route: <sip:a>,<sip:b>\r\n",
        "Record-Route: <sip:a;lr>\r\n",
        "X: y\r\n",
    ] {
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{}\r\n", repeated(line));
        let (size, request) = (text.len(), Request::parse(text, &limits).unwrap());
        linear(&format!("answer to {line:?}"), size, FACTOR, || {
            ignore(
                Response::for_request(&request, StatusCode::OK)
                    .to_tag("t")
                    .record_route()
                    .build(),
            );
        });
        linear(&format!("edit of {line:?}"), size, 2 * FACTOR, || {
            let edit = request
                .edit()
                .prepend("Via", "SIP/2.0/UDP p")
                .remove_first_value("Route");
            ignore(
                edit.set_first_value("Via", "SIP/2.0/UDP q")
                    .set("Max-Forwards", 3)
                    .remove("X")
                    .build(),
            );
        });
    }
}
