//! What the index holds of a message is what its parsers find: each value that was read when the message was indexed is
//! held against the accessor that reads all values of the field from their text.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::LazyLock;

use proptest::prelude::*;
use sipora_message::{
    ContactRef, HeaderName, Headers, Limits, Message, NameAddr, Request, UriRef, Via,
};

/// The messages of the benchmarks and the torture messages of RFC 4475 and RFC 5118.
static MESSAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folders = [
        "benches/messages",
        "../testkit/fixtures/rfc4475",
        "../testkit/fixtures/rfc5118",
    ];
    let paths = folders.iter().flat_map(|folder| {
        let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
        let entries = std::fs::read_dir(folder).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    });
    let is_message = |path: &std::path::PathBuf| {
        path.extension()
            .is_some_and(|kind| kind == "dat" || kind == "sip")
    };
    let found: Vec<_> = paths
        .filter(is_message)
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert_eq!(found.len(), 14 + 61);
    found
});

fn hold(bytes: &[u8]) {
    let message = match Message::parse(bytes.to_vec(), &Limits::default()) {
        Ok(message) => message,
        Err(error) => match error.request() {
            Some(request) => request.clone().into(),
            None => return,
        },
    };
    hold_headers(message.headers());
    if let Message::Request(request) = &message {
        let parsed = UriRef::parse(request.uri_text());
        assert_eq!(request.uri().map(uri), parsed.map(uri));
        // What is put in front, or in the place of the top Via, is found out again; the rest moves along.
        let top = "SIP/2.0/TLS proxy.example.com:5061;branch=z9hG4bKnew;rport";
        hold_headers(request.with_top_via(top).headers());
        if let Some(stamped) = request.with_top_via_replaced(top.as_bytes()) {
            hold_headers(stamped.headers());
            assert_eq!(stamped.headers().via().unwrap().port(), Some(5061));
        }
    }
}

fn hold_headers(headers: Headers<'_>) {
    match (headers.via(), headers.vias().next()) {
        (indexed, Some(parsed)) => assert_eq!(indexed.map(via), parsed.map(via)),
        (indexed, None) => assert!(indexed.unwrap_err().is_missing()),
    }
    for (indexed, name) in [
        (headers.from(), HeaderName::From),
        (headers.to(), HeaderName::To),
    ] {
        let parsed: Vec<_> = headers.addresses(&name).collect();
        match (indexed, &parsed[..]) {
            (Ok(indexed), [Ok(parsed)]) => assert_eq!(address(indexed), address(*parsed)),
            (Ok(_), parsed) => panic!("{name} is read of {parsed:?}"),
            // A comma with nothing behind it is one value to those who walk, and two to those who want one.
            (Err(_), _) => {}
        }
    }
    if let (Ok(indexed), Ok(parsed)) = (headers.contact(), headers.contacts()) {
        let first = parsed.as_slice().first();
        assert_eq!(indexed.as_ref().map(contact), first.map(contact));
    }
    if let Ok(id) = headers.call_id() {
        assert_eq!(headers.first(&HeaderName::CallId), Some(id.as_bytes()));
        assert_eq!(headers.count(&HeaderName::CallId), 1);
    }
    if let Ok(cseq) = headers.cseq() {
        let value = headers.text(&HeaderName::CSeq).unwrap();
        let (number, method) = value.split_once(char::is_whitespace).unwrap();
        assert_eq!(number.parse(), Ok(cseq.number));
        assert_eq!(method.trim(), cseq.method.as_str());
        assert_eq!(headers.count(&HeaderName::CSeq), 1);
    }
    if let Ok(Some(hops)) = headers.max_forwards() {
        let value = headers.text(&HeaderName::MaxForwards).unwrap();
        assert_eq!(value.parse(), Ok(hops));
        assert_eq!(headers.count(&HeaderName::MaxForwards), 1);
    }
    // The places of the lines are those that a walk over all of them finds.
    for header in headers.iter() {
        let name = header.name();
        let walked: Vec<_> = headers.iter().filter(|line| line.is(&name)).collect();
        assert_eq!(
            headers.first(&name),
            walked.first().map(|line| line.value())
        );
        assert_eq!(headers.count(&name), walked.len());
    }
}

fn via(via: Via<'_>) -> String {
    let sent_by = (via.host_str(), via.port());
    let bytes = (via.as_bytes(), via.params().as_bytes(), via.branch());
    let route = (via.rport(), via.received(), via.maddr(), via.ttl());
    format!(
        "{} {} {sent_by:?} {bytes:?} {route:?}",
        via.version(),
        via.transport()
    )
}

fn address(address: NameAddr<'_>) -> String {
    let bytes = (address.as_bytes(), address.params().as_bytes());
    format!(
        "{bytes:?} {:?} {:?} {}",
        address.display(),
        address.tag(),
        uri(address.uri())
    )
}

fn contact(contact: &ContactRef<'_>) -> String {
    let binding = (contact.q(), contact.expires(), contact.instance());
    format!("{} {binding:?}", address(contact.address()))
}

fn uri(uri: UriRef<'_>) -> String {
    let place = (
        uri.scheme(),
        uri.user(),
        uri.password(),
        uri.host_str(),
        uri.port(),
    );
    let rest: (Vec<_>, Vec<_>) = (uri.params().collect(), uri.headers().collect());
    format!("{} {place:?} {rest:?}", uri.as_str())
}

#[test]
fn every_message_reads_the_same_from_its_index() {
    for message in MESSAGES.iter() {
        hold(message);
        for end in 0..message.len() {
            hold(&message[..end]);
        }
    }
}

/// Pieces of which values are made that a quick reader could mistake for what it knows.
const PIECES: &[&str] = &[
    "SIP/2.0/UDP ",
    "SIP/2.0/TCP\t",
    "sip/2.0/udp ",
    "SIP / 2.0 / TLS ",
    "host",
    "192.0.2.1",
    ".",
    "[2001:db8::1]",
    ":5060",
    ":65536",
    ":",
    " : 5060",
    ";branch=z9hG4bKx",
    ";Branch=",
    ";branch",
    "; branch = a",
    ";rport",
    ";ttl=1",
    "\"Alice\" ",
    "\"A \\\" B\"",
    "\"open",
    "Alice ",
    "  ",
    "A. B. ",
    "\u{e4} ",
    "<",
    ">",
    "<>",
    "sip:",
    "sips:",
    "SIP:",
    "tel:+1",
    "alice",
    "alice:secret",
    "%41",
    "#",
    "@",
    "@host",
    ";lr",
    ";x=y",
    ";x=",
    ";=",
    "=",
    "==",
    "?a=b",
    "?",
    ";tag=1",
    ";TAG=2",
    ";tag",
    ";tag=\"q\"",
    ";tag=\"",
    ";q=0.5",
    ";q=2",
    ";q",
    ";expires=60",
    ";expires=x",
    ";expires",
    ";+sip.instance=\"<urn:uuid:1>\"",
    ";a=b c",
    ",",
    ", ",
    "*",
    "\r\n ",
    "\r\n",
    "\t",
    " ",
    "1 INVITE",
    "70",
    "4294967296",
    "INVITE",
    "999999999999999999999999",
];

const NAMES: &[&str] = &[
    "Via",
    "v",
    "From",
    "f",
    "To",
    "t",
    "Contact",
    "m",
    "Call-ID",
    "i",
    "CSeq",
    "Max-Forwards",
    "Route",
    "Subject",
    "x-other",
    "VIA ",
    "Content-Length",
    "l",
];

/// Values that are right, and then have something inserted.
const RIGHT: &[&str] = &[
    "SIP/2.0/UDP host:5060;branch=z9hG4bK1;rport",
    "\"Alice\" <sip:alice@example.com:5060;transport=tcp>;tag=1;x",
    "<sips:alice@192.0.2.1>;expires=60;q=0.7;+sip.instance=\"<urn:uuid:1>\"",
    "Alice B <sip:example.com;lr>",
    "sip:alice@192.0.2.1:5061;tag=1;expires=60",
    "sips:example.com",
    "1 INVITE",
    "70",
];

fn value() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(PIECES);
    let pieces = proptest::collection::vec(piece.clone(), 0..7).prop_map(|pieces| pieces.concat());
    let nearly_right = (
        proptest::sample::select(RIGHT),
        any::<proptest::sample::Index>(),
        piece,
    );
    let nearly_right = nearly_right.prop_map(|(right, at, piece)| {
        let (before, after) = right.split_at(at.index(right.len() + 1));
        format!("{before}{piece}{after}")
    });
    prop_oneof![
        pieces,
        nearly_right,
        proptest::sample::select(RIGHT).prop_map(str::to_owned)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn lines_of_any_pieces_read_the_same_from_their_index(
        start in proptest::sample::select(&["INVITE sip:b@example.com SIP/2.0", "SIP/2.0 200 OK", "INVITE  sip:a SIP/2.0"][..]),
        target in value(),
        lines in proptest::collection::vec((proptest::sample::select(NAMES), value()), 0..9),
    ) {
        let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        hold(format!("{start}\r\n{lines}\r\n").as_bytes());
        hold(format!("INVITE {target} SIP/2.0\r\n{lines}\r\n").as_bytes());
    }

    #[test]
    fn mutated_messages_read_the_same_from_their_index(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), proptest::sample::select(PIECES)), 1..6),
    ) {
        let mut message = MESSAGES[which.index(MESSAGES.len())].clone();
        for (at, piece) in changes {
            let at = at.index(message.len() + 1);
            message.splice(at..at, piece.bytes());
        }
        hold(&message);
    }
}

#[test]
fn an_address_without_brackets_reads_the_same_from_the_index() {
    for (value, uri, tag) in [
        ("sip:a@192.0.2.1:5061", "sip:a@192.0.2.1:5061", None),
        ("sips:example.com;tag=1", "sips:example.com", Some("1")),
        ("sip:a@b;x=y;tag=1;z", "sip:a@b", Some("1")),
        ("sip:a@b ; tag=1", "sip:a@b", Some("1")),
        ("sip:a@b\r\n ;tag=1", "sip:a@b", Some("1")),
        ("sip:12;tag=1", "sip:12", Some("1")),
        (
            "sip:a@[2001:db8::1]:5060;tag=1",
            "sip:a@[2001:db8::1]:5060",
            Some("1"),
        ),
    ] {
        let text = format!(
            "OPTIONS sip:a SIP/2.0\r\nFrom: {value}\r\nTo: {value}\r\nContact: {value}\r\n\r\n"
        );
        hold(text.as_bytes());
        let message = Message::parse(text, &Limits::default()).unwrap();
        let headers = message.headers();
        let contact = headers.contact().unwrap().unwrap().address();
        for address in [headers.from(), headers.to(), Ok(contact)] {
            let address = address.unwrap_or_else(|error| panic!("{value}: {error}"));
            assert_eq!(address.uri().as_str(), uri, "{value}");
            assert_eq!(address.tag(), tag, "{value}");
        }
    }
    for value in [
        "sip:a?b@c",
        "sip:a,b@c",
        "sip:a@b?x=y",
        "sip:a@b>",
        "sip:",
        "sip:@b",
        "sip:a@b:",
    ] {
        let text = format!("OPTIONS sip:a SIP/2.0\r\nFrom: {value}\r\nContact: {value}\r\n\r\n");
        hold(text.as_bytes());
        let message = Message::parse(text, &Limits::default()).unwrap();
        assert!(message.headers().from().is_err(), "{value}");
    }
}

#[test]
fn a_name_is_found_however_far_down_its_first_line_is() {
    for count in [46, 47, 48, 49, 253, 254, 255, 256, 300] {
        let limits = Limits {
            header_count: 1_000,
            ..Limits::default()
        };
        let many = "X-Other: 1\r\n".repeat(count);
        let hot = "To: <sip:a@b>\r\nVia: SIP/2.0/UDP a\r\nSubject: 1\r\nVia: SIP/2.0/UDP b\r\nSubject: 2\r\n";
        let text = format!("OPTIONS sip:a SIP/2.0\r\n{many}{hot}\r\n");
        let message = Message::parse(text, &limits).unwrap();
        let headers = message.headers();
        assert_eq!(headers.len(), count + 5);
        assert_eq!(headers.first(&HeaderName::Subject), Some(&b"1"[..]));
        assert_eq!(headers.count(&HeaderName::Subject), 2);
        assert_eq!(headers.via().unwrap().host_str(), "a");
        assert_eq!(headers.vias().count(), 2);
        assert!(headers.to().is_ok() && !headers.contains(&HeaderName::From));
        hold_headers(headers);
    }
}

#[test]
fn what_is_known_of_a_line_stays_true_however_many_vias_come_before_it() {
    let text = "INVITE sip:a SIP/2.0\r\nTo: <sip:t@h>;tag=5\r\nCall-ID: cid\r\nFrom: <sip:f@h>;tag=7\r\n\r\n";
    let mut request = Request::parse(text, &Limits::default()).unwrap();
    for count in 1..300 {
        request = request.with_top_via(&format!("SIP/2.0/UDP h{count};branch=z9hG4bK{count}"));
        let headers = request.headers();
        assert_eq!(headers.from().unwrap().tag(), Some("7"), "{count} Vias");
        assert_eq!(headers.to().unwrap().tag(), Some("5"), "{count} Vias");
        assert_eq!(headers.call_id(), Ok("cid"), "{count} Vias");
    }
}
