//! Messages from scratch, and copies with changes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use sipora_message::{
    Address, BuildError, HeaderName, Limits, Message, Method, PrintedResponse, Request,
    RequestBuilder, Response, StatusCode, Uri,
};

fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap()
}

fn options() -> RequestBuilder {
    Request::builder(Method::Options, &uri("sip:bob@example.com"))
        .from("<sip:alice@example.com>;tag=1")
        .to("<sip:bob@example.com>")
        .call_id("1@h")
        .cseq(7)
}

const RECEIVED: &str = "INVITE sip:bob@example.com SIP/2.0\r\nv:SIP/2.0/UDP a;branch=z9hG4bK1 ,\r\n SIP/2.0/UDP b\r\n\
    X-Odd :  kept  \r\nRoute: <sip:p1;lr>, <sip:p2;lr>\r\nMax-Forwards: 070\r\nt: <sip:bob@example.com>\r\n\
    f: <sip:alice@example.com>;tag=1\r\nTimestamp: 54\r\nRecord-Route: <sip:p1;lr>\r\ni: 1@h\r\nCSeq: 7 INVITE\r\n\
    l: 5\r\n\r\nhello";

fn received() -> Request {
    Request::parse(RECEIVED, &Limits::default()).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_request_is_printed_with_what_every_request_needs() {
    let request = options()
        .header("X-Note", 1)
        .body("text/plain", "hi")
        .build()
        .unwrap();
    assert_eq!(
        text(request.as_bytes()),
        "OPTIONS sip:bob@example.com SIP/2.0\r\nMax-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=1\r\n\
         To: <sip:bob@example.com>\r\nCall-ID: 1@h\r\nCSeq: 7 OPTIONS\r\nX-Note: 1\r\nContent-Type: text/plain\r\n\
         Content-Length: 2\r\n\r\nhi"
    );
    assert_eq!(
        request
            .with_top_via("SIP/2.0/UDP h;branch=z9hG4bK1")
            .check(),
        Ok(())
    );
}

#[test]
fn what_would_be_a_broken_request_is_not_built() {
    let build = |builder: RequestBuilder| builder.build().map(drop);
    let bare = Request::builder(Method::Options, &uri("sip:a@b"));
    assert_eq!(build(bare), Err(BuildError::Missing(HeaderName::From)));
    assert_eq!(
        build(options().to("sip:x@y")),
        Err(BuildError::Duplicate(HeaderName::To))
    );
    assert_eq!(
        build(options().header("l", "3")),
        Err(BuildError::Reserved(HeaderName::ContentLength))
    );
    assert_eq!(
        build(options().header("a b", "3")),
        Err(BuildError::HeaderName("a b".into()))
    );
    let odd = Request::builder(Method::Other("A B".into()), &uri("sip:a@b"));
    assert_eq!(
        build(odd.from("a").to("b").call_id("c").cseq(1)),
        Err(BuildError::StartLine)
    );
    let bad = Address::new(&uri("sip:a@b")).with_display("a\r\nX: y");
    assert_eq!(
        build(options().contact(bad)),
        Err(BuildError::Injection(HeaderName::Contact))
    );
}

#[test]
fn an_answer_copies_what_its_request_says() {
    let answer = Response::for_request(&received(), StatusCode::OK)
        .to_tag("t1")
        .record_route()
        .contact("<sip:bob@h>")
        .build()
        .unwrap();
    assert_eq!(
        text(answer.as_bytes()),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1 ,\r\n SIP/2.0/UDP b\r\nRecord-Route: <sip:p1;lr>\r\n\
         From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>;tag=t1\r\nCall-ID: 1@h\r\n\
         CSeq: 7 INVITE\r\nContact: <sip:bob@h>\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(answer.check(), Ok(()));
    assert_eq!(answer.headers().vias().count(), 2);
}

#[test]
fn a_to_tag_is_added_only_where_there_is_none() {
    let request = received()
        .edit()
        .set("To", "<sip:bob@example.com>;tag=old")
        .build()
        .unwrap();
    let answer = Response::for_request(&request, StatusCode::OK)
        .to_tag("new")
        .build()
        .unwrap();
    assert_eq!(answer.headers().to().unwrap().tag(), Some("old"));
    let refused = Response::for_request(&request, StatusCode::OK)
        .to_tag("a\r\nb")
        .build();
    assert!(refused.is_err());
}

#[test]
fn trying_carries_the_timestamp_and_others_do_not() {
    let answer = |status| Response::for_request(&received(), status).build().unwrap();
    assert_eq!(
        answer(StatusCode::TRYING)
            .headers()
            .text(&HeaderName::Timestamp)
            .unwrap(),
        "54"
    );
    assert!(
        !answer(StatusCode::OK)
            .headers()
            .contains(&HeaderName::Timestamp)
    );
}

#[test]
fn a_via_in_front_leaves_all_else_in_place() {
    let request = received();
    let sent = request.with_top_via("SIP/2.0/TCP me;branch=z9hG4bKx");
    assert_eq!(sent.headers().via().unwrap().branch(), Some("z9hG4bKx"));
    assert_eq!(
        text(sent.as_bytes()),
        RECEIVED.replacen("v:", "Via: SIP/2.0/TCP me;branch=z9hG4bKx\r\nv:", 1)
    );
    let parsed = Request::parse(sent.to_bytes(), &Limits::default()).unwrap();
    let offsets = |request: &Request| {
        request
            .headers()
            .iter()
            .map(|line| line.offset())
            .collect::<Vec<_>>()
    };
    assert_eq!(offsets(&sent), offsets(&parsed));
    assert_eq!((sent.body(), sent.check()), (&b"hello"[..], Ok(())));
    let bare = Request::parse("OPTIONS sip:a SIP/2.0\r\n\r\n", &Limits::default()).unwrap();
    assert_eq!(
        text(bare.with_top_via("x").as_bytes()),
        "OPTIONS sip:a SIP/2.0\r\nVia: x\r\n\r\n"
    );
}

#[test]
fn a_proxy_changes_what_it_has_to_and_nothing_else() {
    let forwarded = received()
        .edit()
        .uri(&uri("sip:bob@192.0.2.4"))
        .set_first_value("Via", "SIP/2.0/UDP a;branch=z9hG4bK1;received=192.0.2.1")
        .prepend("Via", "SIP/2.0/UDP proxy;branch=z9hG4bK2")
        .remove_first_value("Route")
        .prepend("Record-Route", "<sip:proxy;lr>")
        .set("Max-Forwards", 69)
        .build()
        .unwrap();
    let expected = RECEIVED
        .replace("INVITE sip:bob@example.com SIP", "INVITE sip:bob@192.0.2.4 SIP")
        .replace(
            "v:SIP/2.0/UDP a;branch=z9hG4bK1 ,\r\n SIP/2.0/UDP b\r\n",
            "Via: SIP/2.0/UDP proxy;branch=z9hG4bK2\r\nv:SIP/2.0/UDP a;branch=z9hG4bK1;received=192.0.2.1 ,\r\n SIP/2.0/UDP b\r\n",
        )
        .replace("<sip:p1;lr>, <sip:p2;lr>", "<sip:p2;lr>")
        .replace("Record-Route: <", "Record-Route: <sip:proxy;lr>\r\nRecord-Route: <")
        .replace("Max-Forwards: 070", "Max-Forwards: 69");
    assert_eq!(text(forwarded.as_bytes()), expected);
}

#[test]
fn the_first_value_of_a_list_is_changed_and_its_surroundings_are_not() {
    let edited =
        |line: &str,
         edit: &dyn Fn(sipora_message::Edit<Request>) -> sipora_message::Edit<Request>| {
            let source = format!("OPTIONS sip:a SIP/2.0\r\nX:  1\r\n{line}\r\nY:2\t\r\n\r\n");
            let request = Request::parse(source, &Limits::default()).unwrap();
            let edited = edit(request.edit()).build().unwrap();
            let text = text(edited.as_bytes()).to_owned();
            let inner = text
                .strip_prefix("OPTIONS sip:a SIP/2.0\r\nX:  1\r\n")
                .unwrap();
            inner.strip_suffix("Y:2\t\r\n\r\n").unwrap().to_owned()
        };
    for (line, replaced, removed) in [
        (
            "v : a;b=\"1,2\" ,\r\n\tc , d",
            "v : NEW ,\r\n\tc , d\r\n",
            "v : c , d\r\n",
        ),
        ("Via:<x,y>;z,c", "Via:NEW,c\r\n", "Via:c\r\n"),
        ("VIA: a ", "VIA: NEW \r\n", ""),
        ("Via: , a,, b,", "Via: , NEW,, b,\r\n", "Via: , b,\r\n"),
        ("Via:", "Via:NEW\r\n", ""),
        ("Via: ,\r\n ,", "Via:NEW\r\n", ""),
        ("Via: a\r\nv: b", "Via: NEW\r\nv: b\r\n", "v: b\r\n"),
    ] {
        assert_eq!(
            edited(line, &|edit| edit.set_first_value("Via", "NEW")),
            replaced,
            "{line:?}"
        );
        assert_eq!(
            edited(line, &|edit| edit.remove_first_value("v")),
            removed,
            "{line:?}"
        );
    }
    let twice = |edit: sipora_message::Edit<Request>| {
        edit.remove_first_value("Via").set_first_value("Via", "NEW")
    };
    assert_eq!(edited("v: a, b ,c", &twice), "v: NEW ,c\r\n");
    let failed = received()
        .edit()
        .set_first_value("Via", "a\r\nX: y")
        .build();
    assert_eq!(
        failed.map(drop),
        Err(BuildError::Injection(HeaderName::Via))
    );
}

#[test]
fn edits_remove_append_and_replace_bodies() {
    let edited = received()
        .edit()
        .remove("x-odd")
        .append("User-Agent", "test")
        .body("text/plain", "longer body")
        .build()
        .unwrap();
    let headers = edited.headers();
    assert!(!headers.contains(&"X-Odd".into()));
    assert_eq!(
        (
            headers.content_length(),
            headers.count(&HeaderName::ContentLength)
        ),
        (Ok(Some(11)), 1)
    );
    assert_eq!(
        (edited.body(), headers.user_agent().unwrap().as_ref()),
        (&b"longer body"[..], "test")
    );
    let failed = received().edit().append("X", "a\nb").build();
    assert_eq!(failed.map(drop), Err(BuildError::Injection("X".into())));
    let response = Response::for_request(&received(), StatusCode::OK)
        .build()
        .unwrap();
    let popped = response.edit().remove_first_value("Via").build().unwrap();
    assert_eq!(popped.headers().vias().count(), 1);
    let popped = popped.edit().remove_first_value("Via").build().unwrap();
    assert_eq!(popped.headers().count(&HeaderName::Via), 0);
}

#[test]
fn an_edit_without_changes_is_the_same_bytes() {
    assert_eq!(
        received().edit().build().unwrap().as_bytes(),
        RECEIVED.as_bytes()
    );
}

proptest! {
    #[test]
    fn no_value_becomes_a_header_of_its_own(value in "([ -~]|\r|\n|\0|\u{e4}){0,30}", name in "Z([A-Z]|\r|\n|:| ){1,6}") {
        let dangerous = value.contains(['\r', '\n', '\0']);
        match options().header("X-Value", &value).build() {
            Ok(request) => {
                prop_assert!(!dangerous);
                prop_assert_eq!(request.headers().len(), 7);
                let found = request.headers().text(&"X-Value".into()).unwrap();
                prop_assert_eq!(found.as_ref(), value.trim_matches([' ', '\t']));
            }
            Err(error) => prop_assert!(dangerous, "{}", error),
        }
        let named = options().header(name.as_str(), "v").build();
        prop_assert_eq!(named.is_ok(), name.bytes().all(|byte| byte.is_ascii_uppercase()));
    }

    #[test]
    fn what_is_built_parses_to_the_same_message(
        headers in proptest::collection::vec(("X-[A-Z]{1,5}", "[!-~]{1,20}"), 0..80),
        body in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut builder = options();
        for (name, value) in &headers {
            builder = builder.header(name.as_str(), value);
        }
        let built = builder.body("application/octet-stream", body.clone()).build().unwrap();
        let parsed = Message::parse(built.to_bytes(), &Limits::default()).unwrap();
        prop_assert_eq!(parsed.body(), &body[..]);
        let custom: Vec<_> = parsed.headers().iter()
            .filter(|line| line.raw_name().starts_with("X-"))
            .map(|line| (line.raw_name().to_owned(), line.text().into_owned())).collect();
        prop_assert_eq!(custom, headers);
        prop_assert_eq!(built.with_top_via("SIP/2.0/UDP h").check(), Ok(()));
    }
}

#[test]
fn content_length_is_reserved_by_whatever_name() {
    for name in ["Content-Length", "l", "CONTENT-LENGTH"] {
        let other = HeaderName::Other(name.into());
        let edited = received().edit().append(other.clone(), 5).build();
        assert_eq!(edited.unwrap_err(), BuildError::Reserved(other.clone()));
        let built = options().header(other.clone(), 5).build();
        assert_eq!(built.unwrap_err(), BuildError::Reserved(other));
    }
}

/// The lines of a request as its index has them, and as parsing its bytes again finds them.
fn indexed_twice(request: &Request) -> [Vec<(String, String, usize)>; 2] {
    let lines = |request: &Request| {
        let line = |line: sipora_message::Header<'_>| {
            let value = String::from_utf8_lossy(line.value()).into_owned();
            (line.raw_name().to_owned(), value, line.offset())
        };
        request.headers().iter().map(line).collect()
    };
    let again = Request::parse(request.to_bytes(), &Limits::default()).unwrap();
    assert_eq!(again.body(), request.body());
    assert_eq!(again.uri_text(), request.uri_text());
    [lines(request), lines(&again)]
}

#[test]
fn an_index_that_moved_along_is_the_index_of_the_new_bytes() {
    let request = received();
    for value in [
        "SIP/2.0/UDP c",
        " SIP/2.0/UDP c;branch=z9hG4bK77777777777\t",
        "x\r\ny",
    ] {
        let [moved, parsed] = indexed_twice(&request.with_top_via(value));
        assert_eq!(moved, parsed, "{value:?}");
        let stamped = request.with_top_via_replaced(value.as_bytes()).unwrap();
        let [moved, parsed] = indexed_twice(&stamped);
        assert_eq!(moved, parsed, "{value:?}");
    }
    let text = "OPTIONS sip:a@b SIP/2.0\r\n\r\n";
    let bare = Request::parse(text, &Limits::default()).unwrap();
    let [moved, parsed] = indexed_twice(&bare.with_top_via("SIP/2.0/UDP c"));
    assert_eq!(moved, parsed);
}

#[test]
fn a_via_goes_behind_the_start_line_even_if_nothing_follows_it() {
    let broken = Message::parse("OPTIONS sip:a@b SIP/2.0 \r\n", &Limits::default()).unwrap_err();
    let request = broken.request().unwrap().with_top_via("SIP/2.0/UDP c");
    assert_eq!(
        text(request.as_bytes()),
        "OPTIONS sip:a@b SIP/2.0 \r\nVia: SIP/2.0/UDP c\r\n"
    );
    assert_eq!(request.headers().via().unwrap().host_str(), "c");
}

#[test]
fn what_is_printed_takes_no_more_room_than_its_bytes() {
    let request = options().body("text/plain", "hi").build().unwrap();
    let given = options().max_forwards(5).build().unwrap();
    let edited = received().edit().remove(HeaderName::Via).build().unwrap();
    let replaced = received().edit().body("text/plain", "x").build().unwrap();
    let stamped = received().with_top_via_replaced(b"SIP/2.0/UDP c").unwrap();
    let added = received().with_top_via("SIP/2.0/UDP c");
    for request in [request, given, edited, replaced, stamped, added] {
        let printed = request.as_bytes().len();
        let bytes = request.to_bytes();
        drop(request);
        assert_eq!(bytes.try_into_mut().unwrap().capacity(), printed);
    }
}

/// Builds with debug assertions, of which this test is one, hold every answer's index against that of who reads its bytes.
#[test]
fn what_an_answer_copies_is_what_is_read_of_it() {
    let vias = "v: SIP/2.0/UDP a;branch=z9hG4bK1 , SIP/2.0/TCP b\r\n".repeat(60);
    let behind = format!("From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n{vias}");
    let long = format!("To: <sip:b@b>;x={}\r\n", "y".repeat(65_520));
    for lines in [
        "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n",
        "v: SIP/2.0/UDP a;branch=z9hG4bK1,\r\n SIP/2.0/UDP b\r\nf:<sip:a@a>;tag=1  \r\nt : \"B\" <sip:b@b>\r\n\t;x=y\r\n",
        "VIA:   SIP/2.0/UDP a\r\nFrom: a\r\nFrom: b\r\nTo: <sip:b@b>;tag\r\nto: <sip:c@c>;tag=4\r\n",
        "Via: ?\r\nRecord-Route: <sip:p;lr>, <sip:q;lr>\r\nTo: sip:b@b\r\nTimestamp: 54\r\nrecord-route:\r\n",
        "To: <sip:b@b>;tag=2\r\nTo: <sip:b@b>\r\nX: y\r\nVia:\r\nContact: *\r\nMax-Forwards: 7\r\n",
        &vias,
        &behind,
        &long,
        "",
    ] {
        let text = format!(
            "INVITE sip:b@b SIP/2.0\r\n{lines}Call-ID: x y\r\nCSeq: 01 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        let (Ok(request) | Err(Some(request))) =
            Request::parse(text, &Limits::default()).map_err(|error| error.request().cloned())
        else {
            panic!("{lines}");
        };
        for status in [StatusCode::TRYING, StatusCode::OK] {
            let answer = Response::for_request(&request, status)
                .record_route()
                .to_tag("314159")
                .contact("<sip:b@192.0.2.4>;expires=60")
                .header(HeaderName::from("X-Two"), " spaces around ")
                .header(HeaderName::Via, "SIP/2.0/UDP last")
                .build()
                .unwrap();
            let read = Response::parse(answer.to_bytes(), &Limits::default()).unwrap();
            let shown = |response: &Response| {
                let headers = response.headers();
                format!(
                    "{headers:?} {:?} {:?} {:?} {:?} {:?}",
                    headers.via().map(|via| via.as_bytes().to_vec()),
                    headers.from().map(|from| from.tag().map(str::to_owned)),
                    headers.to().map(|to| to.tag().map(str::to_owned)),
                    headers.cseq(),
                    headers.contact().map(|contact| contact.is_some()),
                )
            };
            assert_eq!(shown(&answer), shown(&read), "{lines}");
            let twice =
                Response::for_request(&request, status).header(HeaderName::CSeq, "1 INVITE");
            assert!(twice.build().is_err());
        }
    }
}

#[test]
fn a_response_is_printed_as_it_is_built() {
    let text = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nv: SIP/2.0/UDP b\r\n\
                Record-Route: <sip:p.example.com;lr>\r\nFrom: <sip:a@example.com>;tag=1\r\nT: <sip:bob@example.com>\r\n\
                i: c\r\nCSeq:  1 INVITE\r\n\r\n";
    let invite = Request::parse(text, &Limits::default()).unwrap();
    let builder = Response::for_request(&invite, StatusCode::OK)
        .to_tag("2")
        .record_route()
        .text(HeaderName::Contact, "<sip:bob@b>")
        .body("text/plain", "hello");
    let printed = builder.clone().print().unwrap();
    let built = builder.build().unwrap();
    assert_eq!(printed.status(), StatusCode::OK);
    assert_eq!(printed.as_bytes(), built.as_bytes());
    assert_eq!(PrintedResponse::from(built), printed);
}

#[test]
fn a_text_is_refused_as_any_other_value() {
    let builder = || Response::builder(StatusCode::OK);
    let injected = builder().text(HeaderName::Contact, "<sip:a>\r\nX: y");
    assert_eq!(
        injected.print().map(drop),
        Err(BuildError::Injection(HeaderName::Contact))
    );
    let twice = builder()
        .text(HeaderName::Date, "x")
        .text(HeaderName::Date, "y");
    assert_eq!(
        twice.print().map(drop),
        Err(BuildError::Duplicate(HeaderName::Date))
    );
    let reserved = builder().text(HeaderName::ContentLength, "1");
    assert_eq!(
        reserved.print().map(drop),
        Err(BuildError::Reserved(HeaderName::ContentLength))
    );
}
