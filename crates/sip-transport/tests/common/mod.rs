//! What the tests share; not every one needs all of it.
#![allow(dead_code)]

use bytes::Bytes;
use sipora_message::{Message, Method, Request, Response, StatusCode, Uri};
use sipora_transport::{Flow, Inbound, Payload, Transports};

/// Prints an OPTIONS as a client transaction would: with a Via for the flow on top.
pub(crate) fn options(transports: &Transports, flow: &Flow, branch: &str) -> Request {
    let uri = Uri::parse("sip:bob@example.com").unwrap();
    let request = Request::builder(Method::Options, &uri)
        .from("<sip:alice@example.com>;tag=1")
        .to("<sip:bob@example.com>")
        .call_id("call")
        .cseq(1)
        .build()
        .unwrap();
    let via = format!(
        "SIP/2.0/{} {};branch=z9hG4bK{branch};rport",
        flow.transport,
        transports.sent_by(flow)
    );
    request.with_top_via(&via)
}

/// Prints a 200.
pub(crate) fn ok(request: &Request) -> Bytes {
    Response::for_request(request, StatusCode::OK)
        .to_tag("2")
        .build()
        .unwrap()
        .to_bytes()
}

/// Takes a request out of what came in, or tells what came instead.
pub(crate) fn request(inbound: Inbound) -> (Flow, Request) {
    match inbound.payload {
        Payload::Message(Message::Request(request)) => (inbound.flow, request),
        other => panic!("no request but {other:?}"),
    }
}

/// Takes a response out of what came in, or tells what came instead.
pub(crate) fn response(inbound: Inbound) -> Response {
    match inbound.payload {
        Payload::Message(Message::Response(response)) => response,
        other => panic!("no response but {other:?}"),
    }
}
