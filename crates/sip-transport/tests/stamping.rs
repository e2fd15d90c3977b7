//! Stamping moves the index of a request along; it must come to what a parser would make of the stamped bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sipora_message::{Limits, Message, Request};
use sipora_testkit::fixtures;
use sipora_transport::stamp;

fn shown(request: &Request) -> String {
    let headers = request.headers();
    let lines: Vec<_> = headers
        .iter()
        .map(|header| (header.name(), header.value()))
        .collect();
    format!("{} {lines:?} {:?}", request.uri_text(), request.body())
}

#[test]
fn a_stamped_request_is_indexed_as_if_it_had_been_parsed() {
    let mut stamped_ones = 0;
    for fixture in fixtures::rfc4475().into_iter().chain(fixtures::rfc5118()) {
        let Ok(Message::Request(request)) =
            Message::parse(fixture.bytes.clone(), &Limits::default())
        else {
            continue;
        };
        let stamped = stamp(request.clone(), "[2001:db8::9]:50601".parse().unwrap());
        stamped_ones += usize::from(stamped.as_bytes() != request.as_bytes());
        let parsed = Request::parse(stamped.to_bytes(), &Limits::default()).unwrap();
        assert_eq!(shown(&stamped), shown(&parsed), "{}", fixture.name);
        let (stamped, plain) = (stamped.headers(), request.headers());
        assert_eq!(stamped.len(), plain.len(), "{}", fixture.name);
        assert_eq!(
            stamped.vias().count(),
            plain.vias().count(),
            "{}",
            fixture.name
        );
    }
    assert!(stamped_ones > 20, "{stamped_ones}");
}
