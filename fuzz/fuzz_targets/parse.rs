//! Any bytes may be a datagram: parsing ends, and so does every accessor on what came of it.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use sipora_message::{HeaderName, Limits, Message, StatusCode, Uri, UriRef};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(uri) = Uri::parse(text) {
            read_uri(uri.as_ref());
            assert!(
                uri.equivalent(&uri),
                "a URI is not equivalent to itself: {text:?}"
            );
        }
    }
    let limits = Limits::default();
    match Message::parse(data.to_vec(), &limits) {
        Ok(message) => {
            // Line ends before the start line are ignored (RFC 3261 §7.5).
            let mut received = data;
            while let Some(rest) = received.strip_prefix(b"\r\n") {
                received = rest;
            }
            assert!(
                received.starts_with(message.as_bytes()),
                "a message is not what was received"
            );
            read(&message);
            again(&message, &limits);
        }
        Err(error) => {
            black_box((error.to_string(), error.status(), error.offset()));
            if let Some(request) = error.request() {
                read(&Message::Request(request.clone()));
            }
        }
    }
});

/// Reads everything that a receiver may ask for. An error is an answer; a panic is not.
fn read(message: &Message) {
    black_box(message.check().err().map(|rejection| rejection.to_string()));
    let headers = message.headers();
    for header in headers.iter() {
        let name = header.name();
        black_box((
            header.text(),
            headers.count(&name),
            headers.list(&name).count(),
            headers.challenges(&name).count(),
        ));
    }
    for address in [headers.from(), headers.to()].into_iter().flatten() {
        black_box((address.display(), address.tag()));
        read_uri(address.uri());
    }
    for address in headers.routes().chain(headers.record_routes()).flatten() {
        read_uri(address.uri());
    }
    for via in headers.vias().flatten() {
        black_box((
            via.transport(),
            via.host(),
            via.port(),
            via.branch(),
            via.received(),
            via.rport(),
            via.ttl(),
        ));
    }
    if let Ok(contacts) = headers.contacts() {
        for contact in contacts.as_slice() {
            black_box((
                contact.q(),
                contact.expires(),
                contact.instance(),
                contact.reg_id(),
            ));
            read_uri(contact.uri());
        }
    }
    for name in [HeaderName::Authorization, HeaderName::WwwAuthenticate] {
        for value in headers.credentials(&name).flatten() {
            black_box((value.scheme(), value.params().count(), value.param("nonce")));
        }
    }
    black_box((
        headers.call_id().is_ok(),
        headers.cseq().is_ok(),
        headers.max_forwards().is_ok(),
    ));
    black_box((
        headers.expires().is_ok(),
        headers.min_expires().is_ok(),
        headers.retry_after().is_ok(),
    ));
    black_box((
        headers.content_type().is_ok(),
        headers.content_length().is_ok(),
        headers.date().is_ok(),
    ));
    black_box((
        headers.require().count(),
        headers.allow().count(),
        headers.warnings().count(),
    ));
    if let Message::Request(request) = message {
        black_box((request.method(), request.version()));
        if let Ok(uri) = request.uri() {
            read_uri(uri);
        }
        // Whatever came, an answer to it can be built or is refused; what is built can be read.
        if let Ok(answer) =
            sipora_message::Response::for_request(request, StatusCode::BAD_REQUEST).build()
        {
            let text = answer.to_bytes();
            assert!(
                Message::parse(text.clone(), &Limits::default()).is_ok(),
                "cannot read our own answer: {text:?}"
            );
        }
    }
}

fn read_uri(uri: UriRef<'_>) {
    black_box((
        uri.scheme(),
        uri.user_decoded(),
        uri.host(),
        uri.port(),
        uri.transport(),
        uri.params().count(),
    ));
    black_box((uri.headers().count(), uri.to_owned().as_str().len()));
}

/// The bytes of a message are a message, the same one.
fn again(message: &Message, limits: &Limits) {
    let same = Message::parse(message.to_bytes(), limits).expect("it was parsed before");
    assert_eq!(same.as_bytes(), message.as_bytes());
    assert_eq!(same.body(), message.body());
    assert_eq!(same.headers().len(), message.headers().len());
}
