//! The torture messages of RFC 4475 and RFC 5118 against the parser column of their manifests.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sipora_message::{
    Host, Limits, Message, Method, ParseErrorKind, Request, Response, StatusCode,
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/fixtures");

struct Row {
    name: String,
    section: String,
    class: String,
    outcome: String,
    bytes: Vec<u8>,
    size: usize,
}

fn rows(rfc: &str) -> Vec<Row> {
    let manifest = std::fs::read_to_string(format!("{FIXTURES}/{rfc}/MANIFEST.tsv")).unwrap();
    manifest
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            Row {
                name: fields[0].into(),
                section: fields[2].into(),
                class: fields[3].into(),
                outcome: fields[4].into(),
                bytes: std::fs::read(format!("{FIXTURES}/{rfc}/{}", fields[1])).unwrap(),
                size: fields[6].parse().unwrap(),
            }
        })
        .collect()
}

fn fixture(name: &str) -> Vec<u8> {
    ["rfc4475", "rfc5118"]
        .iter()
        .find_map(|rfc| std::fs::read(format!("{FIXTURES}/{rfc}/{name}.dat")).ok())
        .unwrap()
}

fn request(name: &str) -> Request {
    Request::parse(fixture(name), &Limits::default()).unwrap()
}

fn response(name: &str) -> Response {
    Response::parse(fixture(name), &Limits::default()).unwrap()
}

/// What the parser and the validator made of the bytes.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Parsed, and fit to be processed.
    Sound,
    /// Parsed, and owed that status.
    Owed(u16),
    /// Not parsed, but readable enough to be answered with that status.
    Answerable(u16),
    /// Not parsed, nothing to answer.
    Silent,
}

fn verdict(bytes: &[u8]) -> (Verdict, String) {
    match Message::parse(bytes.to_vec(), &Limits::default()) {
        Ok(message) => match message.check() {
            Ok(()) => (Verdict::Sound, String::new()),
            Err(rejection) => (
                Verdict::Owed(rejection.status.as_u16()),
                rejection.to_string(),
            ),
        },
        Err(error) => match error.request() {
            Some(_) => (
                Verdict::Answerable(error.status().as_u16()),
                error.to_string(),
            ),
            None => (Verdict::Silent, error.to_string()),
        },
    }
}

/// Whether a verdict is one that the manifest's outcome allows the parser.
fn allowed(row: &Row, verdict: &Verdict, is_request: bool) -> bool {
    let refused = |status| matches!(verdict, Verdict::Owed(owed) | Verdict::Answerable(owed) if *owed == status);
    match row.outcome.as_str() {
        // The layers above decide these; the parser has to yield a message without fault.
        "accept" | "200" | "401-or-200" | "406-or-400" | "415" | "416" | "416-or-404" | "420"
        | "501" => *verdict == Verdict::Sound,
        "400-or-accept" | "accept-or-400" => *verdict == Verdict::Sound || refused(400),
        // Only the registrar refuses it.
        "400" if row.name == "unksm2" => *verdict == Verdict::Sound,
        "400" => refused(400),
        "501-or-400" => refused(501) || refused(400),
        "505" => *verdict == Verdict::Owed(505),
        // bcast is well-formed, and dropped for its second Via.
        "drop" if row.name == "bcast" => *verdict == Verdict::Sound,
        "drop" => !is_request && *verdict != Verdict::Sound,
        other => panic!("unknown outcome {other}"),
    }
}

#[test]
fn every_torture_message_has_the_verdict_of_its_manifest() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for rfc in ["rfc4475", "rfc5118"] {
        for row in rows(rfc) {
            assert_eq!(
                row.bytes.len(),
                row.size,
                "{}: not the bytes of the RFC",
                row.name
            );
            let (verdict, why) = verdict(&row.bytes);
            let is_request = !row.bytes.starts_with(b"SIP/");
            let ok = allowed(&row, &verdict, is_request);
            let Row {
                name,
                section,
                class,
                outcome,
                ..
            } = &row;
            let verdict = format!("{verdict:?}");
            let mark = if ok { "ok" } else { "WRONG" };
            println!(
                "{rfc} {section:<9} {name:<30} {class:<9} {outcome:<14} {verdict:<16} {mark:<5} {why}"
            );
            if !ok {
                wrong.push(row.name);
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 61);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn wsinv_is_read_through_its_folds_and_white_space() {
    let request = request("wsinv");
    let headers = request.headers();
    assert_eq!(headers.max_forwards(), Ok(Some(68)));
    let cseq = headers.cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (9, Method::Invite));
    assert_eq!(headers.to().unwrap().tag(), Some("1918181833n"));
    assert_eq!(headers.from().unwrap().tag(), Some("98asjd8"));
    assert_eq!(
        headers.from().unwrap().display().unwrap(),
        r#"J Rosenberg \""#
    );
    let vias: Vec<_> = headers.vias().map(Result::unwrap).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!(
        (vias[0].transport(), vias[0].branch()),
        ("UDP", Some("390skdjuw"))
    );
    assert!(!vias[0].has_unique_branch());
    assert_eq!(
        (vias[1].transport(), vias[1].branch()),
        ("TCP", Some("z9hG4bK9ikj8"))
    );
    assert_eq!(vias[1].host(), Host::Name("spindle.example.com"));
    assert_eq!(vias[2].branch(), Some("z9hG4bK30239"));
    let contact = headers.contact().unwrap().unwrap();
    assert_eq!(contact.q().unwrap().thousandths(), 330);
    assert_eq!(contact.params().get("newparam").unwrap(), "newvalue");
    assert_eq!(contact.params().find("secondparam").unwrap().value(), None);
    let unusual = headers.first(&"UnknownHeaderWithUnusualValue".into());
    assert_eq!(unusual, Some(&b";;,,;;,;"[..]));
    assert_eq!(headers.text(&"Subject".into()).unwrap(), "");
    assert_eq!(
        headers.text(&"NewFangledHeader".into()).unwrap(),
        "newfangled value continued newfangled value"
    );
    let route = headers.routes().next().unwrap().unwrap();
    assert!(route.uri().is_loose_router());
    assert_eq!(request.body().len(), 150);
}

#[test]
fn intmeth_keeps_every_odd_octet() {
    let request = request("intmeth");
    assert_eq!(
        request.method().as_str(),
        "!interesting-Method0123456789_*+`.%indeed'~"
    );
    let uri = request.uri().unwrap();
    assert_eq!(
        uri.user(),
        Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
    );
    assert_eq!(
        uri.password(),
        Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")
    );
    let headers = request.headers();
    assert_eq!(
        headers.to().unwrap().display().unwrap(),
        "BEL:\u{7} NUL:\0 DEL:\u{7f}"
    );
    let from = headers.from().unwrap();
    assert_eq!(from.display().unwrap(), "token1~` token2'+_ token3*%!.-");
    assert_eq!(
        from.params().get("fromParam''~+*_!.-%").unwrap(),
        "работающий"
    );
    assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(
        headers.call_id().unwrap(),
        r#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#
    );
    assert_eq!(headers.max_forwards(), Ok(Some(255)));
    assert_eq!(
        headers.text(&"extensionHeader-!.%*+_`'~".into()).unwrap(),
        "\u{feff}大停電"
    );
}

#[test]
fn escapes_are_read_once_and_only_in_uris() {
    let request = request("esc01");
    assert_eq!(
        request.uri().unwrap().user_decoded().unwrap(),
        "sips:user@example.com"
    );
    let to = request.headers().to().unwrap();
    assert_eq!(to.uri().user_decoded().unwrap(), "user");
    let contact = request.headers().contact().unwrap().unwrap().uri();
    assert!(contact.is_loose_router());
    assert_eq!(contact.param("name"), Some(Some("v%61lue%25%34%31")));

    let request = self::request("esc02");
    assert_eq!(request.method(), &Method::Other("RE%47IST%45R".into()));
    assert_eq!(request.headers().contacts().unwrap().as_slice().len(), 2);
    assert_eq!(request.headers().to().unwrap().display().unwrap(), "%Z%45");
    assert!(request.headers().contains(&"C%6Fntact".into()));

    let request = self::request("semiuri");
    assert_eq!(
        request.uri().unwrap().user_decoded().unwrap(),
        "user;par=u@example.net"
    );
    assert_eq!(request.uri().unwrap().host(), Host::Name("example.com"));
    assert_eq!(request.uri().unwrap().params().count(), 0);
}

#[test]
fn nul_in_a_user_cuts_nothing_short() {
    let request = request("escnull");
    let contacts = request.headers().contacts().unwrap();
    let [one, two] = contacts.as_slice() else {
        panic!("{contacts:?}")
    };
    assert_eq!(one.uri().user_decoded().unwrap(), "\0");
    assert_eq!(two.uri().user_decoded().unwrap(), "\0\0");
    assert!(!one.uri().equivalent(two.uri()));
}

#[test]
fn long_values_are_cut_nowhere() {
    let request = request("longreq");
    let vias: Vec<_> = request.headers().vias().map(Result::unwrap).collect();
    assert_eq!(vias.len(), 34);
    assert!(vias[33].branch().unwrap().ends_with("branchvalue"));
    assert_eq!(vias[0].branch(), None);
    assert_eq!(request.headers().from().unwrap().tag().unwrap().len(), 155);
}

#[test]
fn bytes_behind_content_length_are_discarded_from_a_datagram() {
    let request = request("dblreq");
    assert_eq!(request.method(), &Method::Register);
    assert_eq!(request.body(), b"");
    assert!(request.as_bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
}

#[test]
fn a_request_without_content_length_keeps_its_whole_body() {
    assert_eq!(request("inv2543").body().len(), 105);
    assert_eq!(request("mpart01").body().len(), 553);
}

#[test]
fn responses_keep_their_reason_whatever_it_is() {
    assert!(
        response("unreason")
            .reason()
            .starts_with("= 2**3 * 5**2 но сто")
    );
    assert_eq!(response("noreason").reason(), "");
    let bare = Response::parse("SIP/2.0 100\r\n\r\n", &Limits::default()).unwrap();
    assert_eq!(
        (bare.status(), bare.reason().len()),
        (StatusCode::TRYING, 0)
    );
}

#[test]
fn what_can_be_read_of_a_broken_request_can_be_answered() {
    for (name, kind) in [
        ("clerr", ParseErrorKind::BodyTooShort),
        ("ncl", ParseErrorKind::ContentLength),
        ("mcl01", ParseErrorKind::ContentLengthConflict),
        ("baddn", ParseErrorKind::NoBlankLine),
    ] {
        let error = Message::parse(fixture(name), &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}");
        let answer = Response::for_request(error.request().unwrap(), error.status())
            .to_tag("x")
            .build()
            .unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            answer.headers().call_id().unwrap().split('.').next(),
            Some(name)
        );
        if name != "baddn" {
            assert_eq!(answer.check(), Ok(()), "{name}");
        }
    }
}

#[test]
fn display_names_with_a_bare_comma_are_refused_with_the_header_named() {
    let mut bytes = fixture("baddn");
    bytes.extend_from_slice(b"\r\n");
    let request = Request::parse(bytes.clone(), &Limits::default()).unwrap();
    let rejection = request.check().unwrap_err();
    assert_eq!(rejection.header.unwrap().as_str(), "From");
    assert!(bytes[rejection.offset..].starts_with(b", Alexander"));
}

#[test]
fn contact_parameters_outside_the_brackets_belong_to_the_header() {
    let request = request("cparam01");
    let contact = request.headers().contact().unwrap().unwrap();
    assert!(contact.params().contains("unknownparam"));
    assert_eq!(contact.uri().as_str(), "sip:+19725552222@gw1.example.net");
    let request = self::request("cparam02");
    let contact = request.headers().contact().unwrap().unwrap();
    assert_eq!(contact.uri().param("unknownparam"), Some(None));
    let request = self::request("regescrt");
    let contact = request.headers().contact().unwrap().unwrap();
    assert_eq!(
        contact.uri().headers().next(),
        Some(("Route", "%3Csip:sip.example.com%3E"))
    );
}

#[test]
fn ipv6_hosts_have_the_address_that_the_manifest_names() {
    let uri = |name: &str| request(name).to_uri().unwrap();
    let v6 = |text: &str| Host::V6(text.parse().unwrap());
    assert_eq!(
        (uri("ipv6-good").host(), uri("ipv6-good").port()),
        (v6("2001:db8::10"), None)
    );
    let ambiguous = uri("port-ambiguous");
    assert_eq!(
        (ambiguous.host(), ambiguous.port()),
        (v6("2001:db8::10:5070"), None)
    );
    let clear = uri("port-unambiguous");
    assert_eq!(
        (clear.host(), clear.port()),
        (v6("2001:db8::10"), Some(5070))
    );
    assert_eq!(
        uri("ipv6-bug-abnf-3-colons").host(),
        v6("2001:db8::192.0.2.1")
    );
    assert!(uri("ipv6-bug-abnf-3-colons").equivalent(&uri("ipv6-correct-abnf-2-colons")));
    for name in [
        "via-received-param-with-delim",
        "via-received-param-no-delim",
    ] {
        let request = request(name);
        let via = request.headers().via().unwrap();
        assert_eq!(
            via.received(),
            Some("2001:db8::9:255".parse().unwrap()),
            "{name}"
        );
        assert!(via.has_unique_branch());
    }
    let request = request("ipv4-mapped-ipv6");
    let vias: Vec<_> = request.headers().vias().map(Result::unwrap).collect();
    assert_eq!(
        (vias[0].host(), vias[0].port()),
        (v6("::ffff:192.0.2.10"), Some(19823))
    );
    assert_eq!(vias[1].host(), v6("::ffff:c000:202"));
}
