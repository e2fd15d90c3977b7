//! What parsing and answering cost on the heap.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use allocation_counter::measure;
use sipora_message::{HeaderName, Limits, Request, Response, StatusCode};

const REGISTER: &[u8] = b"REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK74b43;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice\" <sip:alice@example.com>;tag=9fxced76sl\r\n\
    To: <sip:alice@example.com>\r\n\
    Call-ID: 3848276298220188511@192.0.2.7\r\n\
    CSeq: 1 REGISTER\r\n\
    Contact: <sip:alice@192.0.2.7:5060;transport=udp>;expires=3600\r\n\
    Authorization: Digest username=\"alice\", realm=\"example.com\", nonce=\"x\", uri=\"sip:example.com\"\r\n\
    Content-Length: 0\r\n\r\n";

#[test]
fn a_message_is_parsed_checked_and_read_in_one_allocation() {
    let limits = Limits::default();
    let counted = measure(|| {
        let request = Request::parse(REGISTER, &limits).unwrap();
        request.check().unwrap();
        let headers = request.headers();
        assert_eq!(headers.via().unwrap().branch(), Some("z9hG4bK74b43"));
        assert_eq!(headers.from().unwrap().tag(), Some("9fxced76sl"));
        assert_eq!(headers.to().unwrap().tag(), None);
        assert_eq!(headers.cseq().unwrap().number, 1);
        assert_eq!(headers.contact().unwrap().unwrap().expires(), Some(3600));
        assert_eq!(request.uri().unwrap().host_str(), "example.com");
    });
    assert_eq!(counted.count_total, 1);
}

#[test]
fn a_clone_and_its_parts_allocate_nothing() {
    let request = Request::parse(REGISTER, &Limits::default()).unwrap();
    let counted = measure(|| {
        let clone = request.clone();
        assert_eq!(clone.to_bytes().len(), REGISTER.len());
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn an_answer_costs_its_bytes_and_its_index() {
    let request = Request::parse(REGISTER, &Limits::default()).unwrap();
    let challenge =
        "Digest realm=\"example.com\", nonce=\"NzQ5ZTk3ZDI5ZmQ5\", qop=\"auth\", algorithm=MD5";
    let counted = measure(|| {
        let answer = Response::for_request(&request, StatusCode::UNAUTHORIZED)
            .to_tag("2493k59kd")
            .header(HeaderName::WwwAuthenticate, challenge)
            .build();
        assert!(answer.is_ok());
    });
    assert_eq!(counted.count_total, 2, "{counted:?}");
    let counted = measure(|| {
        let answer = Response::for_request(&request, StatusCode::OK)
            .to_tag("2493k59kd")
            .contact("<sip:alice@192.0.2.7:5060;transport=udp>;expires=3600")
            .contact("<sip:alice@192.0.2.8:5060;transport=tcp>;expires=1800")
            .header(HeaderName::Date, "Sat, 13 Nov 2010 23:29:00 GMT")
            .build();
        assert!(answer.is_ok());
    });
    assert_eq!(counted.count_total, 2, "{counted:?}");
}

#[test]
fn a_message_of_countless_headers_takes_no_more_than_its_limits() {
    let limits = Limits::default();
    let lines = "a:b\r\n".repeat(100_000);
    let text = bytes::Bytes::from(format!("OPTIONS sip:a SIP/2.0\r\n{lines}\r\n"));
    let counted = measure(|| {
        assert!(Request::parse(text.clone(), &limits).is_err());
    });
    assert!(counted.bytes_max < 32 * 1024, "{counted:?}");
}
