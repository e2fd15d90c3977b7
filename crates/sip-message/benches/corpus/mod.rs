//! The messages that are measured, and the job that is done on each.

use std::hint::black_box;

use bytes::Bytes;
use sipora_message::{Limits, Message, Response, StatusCode};

macro_rules! corpus {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../messages/", $name, ".sip")))),*]
    };
}

/// What a registrar, a proxy and a phone see in a day: of each message one, written for this purpose.
pub(crate) const CORPUS: &[(&str, &[u8])] = corpus![
    "register" "register-challenge" "register-ok" "invite" "ringing" "invite-ok" "ack" "bye" "options"
    "subscribe" "notify" "message" "publish" "compact"
];

/// The whole corpus, as transports hand datagrams over: on the heap, shared.
pub(crate) fn datagrams() -> Vec<Bytes> {
    CORPUS.iter().map(|(_, bytes)| datagram(bytes)).collect()
}

pub(crate) fn datagram(bytes: &[u8]) -> Bytes {
    let bytes = Bytes::from(bytes.to_vec());
    drop(bytes.clone());
    bytes
}

/// Parse, validate, and read Request-URI host, branch, tags, Call-ID, CSeq and Contact.
pub(crate) fn job(datagram: &Bytes) {
    let message = Message::parse(datagram.clone(), &Limits::default()).unwrap();
    message.check().unwrap();
    if let Message::Request(request) = &message {
        black_box(request.uri().unwrap().host_str());
    }
    let headers = message.headers();
    black_box(headers.via().unwrap().branch());
    black_box(headers.from().unwrap().tag());
    black_box(headers.to().unwrap().tag());
    black_box(headers.call_id().unwrap());
    black_box(headers.cseq().unwrap());
    black_box(
        headers
            .contact()
            .unwrap()
            .map(|contact| (contact.uri().host_str(), contact.uri().port())),
    );
}

/// A server's answer to a request, printed; nothing for a response.
pub(crate) fn answer(message: &Message) {
    if let Message::Request(request) = message {
        let answer = Response::for_request(request, StatusCode::OK).to_tag("b27e1a1d33761e85");
        black_box(answer.build().unwrap());
    }
}

pub(crate) fn messages() -> Vec<Message> {
    let parse = |datagram| Message::parse(datagram, &Limits::default()).unwrap();
    datagrams().into_iter().map(parse).collect()
}
