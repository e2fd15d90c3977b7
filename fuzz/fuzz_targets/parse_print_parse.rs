//! A message that was read can be printed anew from its parts, and what was printed reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipora_message::{HeaderName, Headers, Limits, Message, Request, Response};

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::parse(data.to_vec(), &Limits::default()) else {
        return;
    };
    match &message {
        Message::Request(request) => {
            if let Ok(copy) = request.edit().build() {
                same_message(request.headers(), request.body(), &copy.into());
            }
            if let Some(built) = rebuild(request) {
                same_fields(request.headers(), &built.into());
            }
            let below = request.with_top_via("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKnew");
            assert!(below.as_bytes().len() > request.as_bytes().len());
            let again = Message::parse(below.to_bytes(), &Limits::default());
            let again = again.expect("a message below one more Via is a message");
            assert_eq!(again.headers().len(), request.headers().len() + 1);
            assert_eq!(again.body(), request.body());
        }
        Message::Response(response) => {
            if let Ok(copy) = response.edit().build() {
                same_message(response.headers(), response.body(), &copy.into());
            }
            let mut builder = Response::builder(response.status()).reason(&response.reason());
            for header in printable(response.headers()) {
                builder = builder.header(header.0, header.1);
            }
            if let Ok(built) = builder.build() {
                same_fields(response.headers(), &built.into());
            }
        }
    }
});

fn rebuild(request: &Request) -> Option<Request> {
    let uri = request.to_uri().ok()?;
    let mut builder = Request::builder(request.method().clone(), &uri);
    for (name, value) in printable(request.headers()) {
        builder = builder.header(name, value);
    }
    builder.build().ok()
}

/// What a builder takes: Content-Length is its own business.
fn printable(headers: Headers<'_>) -> Vec<(HeaderName, String)> {
    headers
        .iter()
        .map(|header| (header.name(), header.text().into_owned()))
        .filter(|(name, _)| *name != HeaderName::ContentLength)
        .collect()
}

/// An edit without changes changes nothing.
fn same_message(headers: Headers<'_>, body: &[u8], copy: &Message) {
    assert_eq!(copy.headers().len(), headers.len());
    for (one, two) in headers.iter().zip(copy.headers().iter()) {
        assert_eq!(one.raw_name(), two.raw_name());
        assert_eq!(one.value(), two.value());
    }
    assert_eq!(copy.body(), body);
    parses(copy);
}

/// The same fields in the same order, but for Content-Length and a Max-Forwards that the builder adds.
fn same_fields(headers: Headers<'_>, built: &Message) {
    parses(built);
    let mut expected = printable(headers);
    let mut found = printable(built.headers());
    if !headers.contains(&HeaderName::MaxForwards) {
        found.retain(|(name, _)| *name != HeaderName::MaxForwards);
    }
    for (_, value) in expected.iter_mut().chain(&mut found) {
        // White space at the end of what had been a fold is not kept.
        *value = value.trim().to_owned();
    }
    assert_eq!(expected, found);
}

fn parses(message: &Message) {
    let again = Message::parse(message.to_bytes(), &Limits::default());
    let again = again.expect("what was printed can be read");
    assert_eq!(again.as_bytes(), message.as_bytes());
}
