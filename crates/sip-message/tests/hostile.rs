//! Hostile input: nothing panics, everything read stays inside the message.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::sync::LazyLock;

use proptest::prelude::*;
use sipora_message::{
    FeatureValue, Fragment, Frame, HeaderName, Headers, Limits, Message, Request, Response,
    StatusCode, StreamFramer, Uri,
};

static FIXTURES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut found = Vec::new();
    for rfc in ["rfc4475", "rfc5118"] {
        let folder = format!("{}/../testkit/fixtures/{rfc}", env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let messages = files
            .iter()
            .filter(|path| path.extension().is_some_and(|ext| ext == "dat"));
        found.extend(messages.map(|path| std::fs::read(path).unwrap()));
    }
    assert_eq!(found.len(), 61);
    found
});

/// Reads all that can be read of a message.
fn read_everything(message: &Message) {
    let headers = message.headers();
    let _ = (message.check(), message.body().len(), message.to_bytes());
    read_headers(headers);
    match message {
        Message::Request(request) => read_request(request),
        Message::Response(response) => {
            let _ = response.reason();
            let edited = response.edit().remove_first_value(HeaderName::Via).build();
            assert!(edited.is_ok() || response.headers().is_empty());
        }
    }
}

fn read_headers(headers: Headers<'_>) {
    if let Ok(from) = headers.from() {
        black_box((from.display(), from.tag(), from.uri().host()));
    }
    if let Ok(to) = headers.to() {
        black_box((to.display(), to.tag(), to.params().iter().count()));
    }
    let _ = black_box((headers.call_id(), headers.cseq(), headers.max_forwards()));
    let _ = black_box((headers.expires(), headers.min_expires(), headers.date()));
    for via in headers.vias().flatten() {
        black_box((
            via.received(),
            via.rport(),
            via.ttl(),
            via.host(),
            via.maddr(),
        ));
    }
    for contact in headers
        .contacts()
        .iter()
        .flat_map(|contacts| contacts.as_slice())
    {
        black_box((
            contact.q(),
            contact.expires(),
            contact.instance(),
            contact.reg_id(),
        ));
    }
    black_box((
        headers.routes().count(),
        headers.record_routes().count(),
        headers.path().count(),
    ));
    black_box((
        headers.require().count(),
        headers.supports("path"),
        headers.allow().count(),
    ));
    let _ = black_box((
        headers.accept().count(),
        headers.content_type().is_ok(),
        headers.content_length(),
    ));
    for warning in headers.warnings().flatten() {
        black_box((warning.text(), warning.agent()));
    }
    if let Ok(Some(retry)) = headers.retry_after() {
        black_box((
            retry.comment(),
            retry.duration(),
            retry.params().iter().count(),
        ));
    }
    black_box((headers.user_agent(), headers.server()));
    read_extensions(headers);
    for header in headers.iter() {
        let name = header.name();
        black_box((
            header.text(),
            header.raw_name(),
            headers.list(&name).count(),
        ));
        black_box(headers.addresses(&name).count());
        for value in headers.credentials(&name).flatten() {
            black_box((
                value.param("realm"),
                value.params().count(),
                value.count("nonce"),
            ));
        }
    }
}

/// What a registrar does not look at.
fn read_extensions(headers: Headers<'_>) {
    black_box(headers.event().ok().flatten().map(|event| event.id()));
    let state = headers.subscription_state().ok().flatten();
    black_box(state.map(|state| (state.phase(), state.expires(), state.retry_after())));
    let target = headers.refer_to().ok().flatten();
    black_box(target.map(|target| target.uri().header("Replaces")));
    black_box((headers.referred_by().is_ok(), headers.reply_to().is_ok()));
    black_box((
        headers.replaces().is_ok(),
        headers.join().is_ok(),
        headers.target_dialog().is_ok(),
    ));
    black_box(
        (
            headers.session_expires().is_ok(),
            headers.min_se(),
            headers.flow_timer(),
        )
            .0,
    );
    black_box((
        headers.rack().is_ok(),
        headers.rseq().is_ok(),
        headers.session_id().is_ok(),
    ));
    black_box((
        headers.p_asserted_identity().count(),
        headers.privacy().count(),
    ));
    for reason in headers.reasons().flatten() {
        black_box((reason.cause(), reason.text()));
    }
    for preference in headers
        .accept_contact()
        .chain(headers.reject_contact())
        .flatten()
    {
        for feature in preference.features() {
            black_box(FeatureValue::list(&feature.value()).count());
        }
    }
    for entry in headers.history_info().flatten() {
        black_box((entry.path().count(), entry.change(), entry.reason()));
    }
    black_box((
        headers.accept_encoding().count(),
        headers.accept_language().count(),
    ));
    black_box((
        headers.timestamp().is_ok(),
        headers.mime_version().is_ok(),
        headers.priority().is_ok(),
    ));
    black_box((
        headers.sip_etag().is_ok(),
        headers.in_reply_to().count(),
        headers.call_info().count(),
    ));
    let _ = black_box(headers.authentication_info(&HeaderName::AuthenticationInfo));
}

fn read_request(request: &Request) {
    let _ = request
        .uri()
        .map(|uri| (uri.host(), uri.params().count(), uri.headers().count()));
    let via = request.with_top_via("SIP/2.0/UDP h;branch=z9hG4bKx\r\nEvil: 1");
    assert_eq!(via.headers().len(), request.headers().len() + 1);
    assert!(!via.headers().contains(&"Evil".into()));
    let answer = Response::for_request(request, StatusCode::BAD_REQUEST)
        .to_tag("t")
        .build()
        .unwrap();
    let again = Response::parse(answer.to_bytes(), &Limits::default());
    assert!(again.is_ok(), "{again:?}");
    let edited = request
        .edit()
        .uri(&Uri::parse("sip:next@example.com").unwrap())
        .remove_first_value(HeaderName::Route)
        .set(HeaderName::MaxForwards, 9)
        .build();
    if let Ok(edited) = edited {
        assert_eq!(edited.body(), request.body());
    }
}

fn read(bytes: &[u8]) {
    match Message::parse(bytes.to_vec(), &Limits::default()) {
        Ok(message) => {
            read_everything(&message);
            let again = Message::parse(message.to_bytes(), &Limits::default()).unwrap();
            assert_eq!(again.as_bytes(), message.as_bytes());
        }
        Err(error) => {
            let _ = (error.to_string(), error.status());
            assert!(error.offset() <= bytes.len());
            if let Some(request) = error.request() {
                read_headers(request.headers());
                let answer = Response::for_request(request, error.status())
                    .to_tag("t")
                    .build()
                    .unwrap();
                assert!(Response::parse(answer.to_bytes(), &Limits::default()).is_ok());
            }
        }
    }
    if let Ok(fragment) = Fragment::parse(bytes.to_vec(), &Limits::default()) {
        read_headers(fragment.headers());
    }
    let mut framer = StreamFramer::new(Limits::default());
    framer.push(bytes);
    while let Some(frame) = framer.next() {
        if let Frame::Message(message) = frame {
            read_headers(message.headers());
        }
    }
}

#[test]
fn every_prefix_of_every_torture_message_is_survived() {
    for message in FIXTURES.iter() {
        let step = (message.len() / 200).max(1);
        for end in (0..message.len()).step_by(step) {
            read(&message[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn mutated_torture_messages_are_survived(
        which in 0usize..61,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0u8..4, any::<u8>()), 1..12),
    ) {
        const SPECIAL: &[u8] = b"\r\n \t:;,<>\"\\@%=?/[]()*\0\xff09";
        let mut message = FIXTURES[which].clone();
        for (at, how, byte) in changes {
            let at = at.index(message.len().max(1)).min(message.len().saturating_sub(1));
            match how {
                0 if !message.is_empty() => message[at] = byte,
                1 if !message.is_empty() => message[at] = SPECIAL[usize::from(byte) % SPECIAL.len()],
                2 if !message.is_empty() => drop(message.remove(at)),
                _ => message.insert(at, SPECIAL[usize::from(byte) % SPECIAL.len()]),
            }
        }
        read(&message);
    }

    #[test]
    fn lines_of_anything_are_survived(lines in proptest::collection::vec("[A-Za-z-]{0,9} ?:?[ -~\u{e4}\t]{0,40}", 0..12)) {
        read(format!("OPTIONS sip:a@b SIP/2.0\r\n{}\r\n\r\n", lines.join("\r\n")).as_bytes());
    }

    #[test]
    fn bytes_of_any_kind_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }
}

/// The values that make careless parsers quadratic, 64 KiB each, at every typed accessor. With 10^9 steps each this
/// test would not end.
#[test]
fn sixty_four_kibibytes_of_separators_are_read_in_linear_time() {
    let limits = Limits {
        header_line: 1 << 20,
        header_bytes: 1 << 22,
        header_count: 100_000,
        ..Limits::default()
    };
    let fields = [
        ("Via", "SIP/2.0/UDP h;branch=z"),
        ("From", "<sip:a@b>"),
        ("Contact", "<sip:a@b>"),
        ("Route", ""),
        ("WWW-Authenticate", "Digest a=b"),
        ("Warning", ""),
        ("Accept", "a/b"),
    ];
    let pieces = [
        ",",
        "\"",
        "<",
        ";",
        "=",
        "\\",
        "(",
        "\r\n ",
        "%",
        "<sip:a@b>,",
        "a=b,",
        "a b,",
        ";a=b",
        "SIP/2.0/UDP h,",
        "Digest a=b, ",
        "<sip:a",
        "\"a\",",
        "sip:a@b;",
        "[",
        ":",
    ];
    for (name, start) in fields {
        for piece in pieces {
            let value = piece.repeat(65_536 / piece.len());
            let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{name}: {start}{value}\r\n\r\n");
            let message = Message::parse(text, &limits).unwrap();
            let _ = message.check();
            read_headers(message.headers());
        }
    }
    let lines = "Via: SIP/2.0/UDP h\r\n".repeat(60_000);
    let message =
        Message::parse(format!("OPTIONS sip:a@b SIP/2.0\r\n{lines}\r\n"), &limits).unwrap();
    assert_eq!(message.headers().vias().count(), 60_000);
}

#[test]
fn limits_name_the_status_that_is_owed() {
    let limits = Limits {
        start_line: 60,
        header_line: 60,
        header_count: 3,
        header_bytes: 200,
        body: 10,
    };
    let status = |text: String| Message::parse(text, &limits).unwrap_err().status().as_u16();
    assert_eq!(
        status(format!(
            "OPTIONS sip:{} SIP/2.0\r\nVia: x\r\n\r\n",
            "a".repeat(60)
        )),
        414
    );
    assert_eq!(
        status(format!(
            "OPTIONS sip:a SIP/2.0\r\nVia: {}\r\n\r\n",
            "a".repeat(60)
        )),
        513
    );
    assert_eq!(
        status(format!(
            "OPTIONS sip:a SIP/2.0\r\n{}\r\n",
            "a: b\r\n".repeat(4)
        )),
        513
    );
    assert_eq!(
        status(format!(
            "OPTIONS sip:a SIP/2.0\r\n{}\r\n",
            format!("a: {}\r\n", "b".repeat(50)).repeat(4)
        )),
        513
    );
    assert_eq!(
        status("OPTIONS sip:a SIP/2.0\r\n\r\n12345678901".to_owned()),
        413
    );
}
