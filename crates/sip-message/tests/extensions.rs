//! The header fields of the extensions, and those of RFC 3261 that a registrar does not need.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use sipora_message::{
    DialogId, Disposition, FeatureValue, HeaderError, HeaderName, Headers, Limits, Message, Method,
    Priority, Privacy, Refresher, SessionExpires, SessionId, SubscriptionPhase, TargetChange,
};

fn message(lines: &str) -> Message {
    let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{lines}\r\n\r\n");
    Message::parse(text, &Limits::default()).unwrap()
}

/// Why `read` refuses the lines.
fn refusal(lines: &str, read: impl Fn(Headers<'_>) -> Result<(), HeaderError>) -> &'static str {
    match read(message(lines).headers()) {
        Ok(_) => panic!("{lines} is read"),
        Err(error) => error.reason(),
    }
}

#[test]
fn an_event_names_its_package_templates_and_id() {
    for lines in [
        "Event: presence.winfo ; id=7",
        "o: presence.winfo;id=\"7\"",
        "EVENT:\r\n presence.winfo\r\n ;id = 7",
    ] {
        let message = message(lines);
        let event = message.headers().event().unwrap().unwrap();
        assert_eq!(
            (event.package(), event.base(), event.id().as_deref()),
            ("presence.winfo", "presence", Some("7"))
        );
        assert_eq!(event.templates().collect::<Vec<_>>(), ["winfo"]);
    }
    let two = message("Event: reg;id=1;x=y");
    let three = message("Event: reg;id=2");
    let (one, other) = (
        two.headers().event().unwrap().unwrap(),
        three.headers().event().unwrap().unwrap(),
    );
    assert!(one.matches(&one) && !one.matches(&other));
    assert_eq!(
        refusal("Event: a\r\no: b", |h| h.event().map(drop)),
        "given twice"
    );
    assert_eq!(
        refusal("Event: a, b", |h| h.event().map(drop)),
        "something behind the value"
    );
    assert_eq!(refusal("Event: ;id=1", |h| h.event().map(drop)), "no value");
    assert_eq!(
        message("u: presence, dialog\r\nAllow-Events: reg")
            .headers()
            .allow_events()
            .count(),
        3
    );
    assert!(message("X: y").headers().event().unwrap().is_none());
}

#[test]
fn a_subscription_state_says_how_long_or_why_not() {
    let active = message("Subscription-State: Active;expires=600000");
    let state = active.headers().subscription_state().unwrap().unwrap();
    assert_eq!(
        (state.phase(), state.expires(), state.reason()),
        (SubscriptionPhase::Active, Some(600_000), None)
    );
    let over = message(
        "Subscription-State: terminated;reason=probation;retry-after=60;expires=99999999999",
    );
    let state = over.headers().subscription_state().unwrap().unwrap();
    assert_eq!(
        (state.phase(), state.expires()),
        (SubscriptionPhase::Terminated, None)
    );
    assert_eq!(
        (state.reason(), state.retry_after()),
        (Some("probation"), Some(60))
    );
    let odd = message("Subscription-State: sleeping");
    assert_eq!(
        odd.headers().subscription_state().unwrap().unwrap().phase(),
        SubscriptionPhase::Other
    );
}

#[test]
fn replaces_and_join_need_one_tag_of_each_kind() {
    // RFC 3891 §6.1.
    let found = message(
        "Replaces: 98732@sip.example.com\r\n  ;from-tag=r33th4x0r;to-tag=ff87ff;early-only",
    );
    let replaces = found.headers().replaces().unwrap().unwrap();
    assert_eq!(
        (replaces.call_id(), replaces.to_tag(), replaces.from_tag()),
        ("98732@sip.example.com", "ff87ff", "r33th4x0r")
    );
    assert!(replaces.is_early_only());
    assert_eq!(
        replaces.to_owned(),
        DialogId::new("98732@sip.example.com", "ff87ff", "r33th4x0r")
            .unwrap()
            .early_only()
    );
    for bad in [
        "a;to-tag=1",
        "a;from-tag=1",
        "a;to-tag=1;from-tag=2;to-tag=3",
        "a;to-tag;from-tag=1",
        ";to-tag=1;from-tag=2",
        "a;to-tag=1;from-tag=2, b",
    ] {
        assert!(
            message(&format!("Replaces: {bad}"))
                .headers()
                .replaces()
                .is_err(),
            "{bad}"
        );
        assert!(
            message(&format!("Join: {bad}")).headers().join().is_err(),
            "{bad}"
        );
    }
    assert_eq!(
        refusal(
            "Replaces: a;to-tag=1;from-tag=2\r\nReplaces: a;to-tag=1;from-tag=2",
            |h| h.replaces().map(drop)
        ),
        "given twice"
    );
    let odd = message("Target-Dialog: <a>\"b\"{c}@[::1] ;local-tag=kkaz-;remote-tag=6544");
    let target = odd.headers().target_dialog().unwrap().unwrap();
    assert_eq!(
        (target.call_id(), target.local_tag(), target.remote_tag()),
        ("<a>\"b\"{c}@[::1]", "kkaz-", "6544")
    );
    let answered =
        message("In-Reply-To: 70710@saturn.bell-tel.com, <\"1@h\r\nIn-Reply-To: 17320@saturn");
    assert_eq!(
        answered.headers().in_reply_to().collect::<Vec<_>>(),
        ["70710@saturn.bell-tel.com", "<\"1@h", "17320@saturn"]
    );
    assert!("a;to-tag=1".parse::<DialogId>().is_err());
    assert!(DialogId::new("a;b", "1", "2").is_err() && DialogId::new("a", "1,", "2").is_err());
}

#[test]
fn a_refer_names_one_target_and_what_to_send_there() {
    let lines = "r: Fred <sip:dave@denver.example.org;method=INVITE?Replaces=12345%40192.168.118.3%3Bto-tag%3D12345%3B\
        from-tag%3D5FFE-3994&Accept-Contact=*>\r\nb: <sip:referror@referrer.example>;cid=\"2UWQFN309shb3@referrer.example\"";
    let message = message(lines);
    let target = message.headers().refer_to().unwrap().unwrap();
    assert_eq!(target.uri().param("method"), Some(Some("INVITE")));
    let replaces: DialogId = target.uri().header("Replaces").unwrap().parse().unwrap();
    assert_eq!(
        (replaces.call_id(), replaces.from_tag()),
        ("12345@192.168.118.3", "5FFE-3994")
    );
    let by = message.headers().referred_by().unwrap().unwrap();
    assert_eq!(
        by.params().get("cid").unwrap(),
        "2UWQFN309shb3@referrer.example"
    );
    assert_eq!(
        refusal("Refer-To: <sip:a@b>, <sip:c@d>", |h| h.refer_to().map(drop)),
        "more than one address"
    );
    assert_eq!(
        refusal("Refer-To: <sip:a@b>\r\nr: <sip:c@d>", |h| h
            .refer_to()
            .map(drop)),
        "given twice"
    );
    let reply = self::message("Reply-To: Bob <sip:bob@biloxi.com>");
    assert_eq!(
        reply.headers().reply_to().unwrap().unwrap().uri().user(),
        Some("bob")
    );
}

#[test]
fn session_timers_and_reliable_responses_are_numbers_in_their_range() {
    let read = |lines: &str| message(lines).headers().session_expires();
    assert_eq!(
        read("x: 4000;Refresher=UAC"),
        Ok(Some(SessionExpires {
            seconds: 4000,
            refresher: Some(Refresher::Uac)
        }))
    );
    assert_eq!(
        read("Session-Expires: 90;x=y"),
        Ok(Some(SessionExpires {
            seconds: 90,
            refresher: None
        }))
    );
    for bad in [
        "",
        "x",
        "4294967296",
        "-1",
        "90;refresher",
        "90;refresher=both",
        "90 90",
    ] {
        assert!(read(&format!("x: {bad}")).is_err(), "{bad}");
    }
    assert_eq!(
        message("Min-SE: 3600;lr").headers().min_se(),
        Ok(Some(3600))
    );
    assert_eq!(
        message("Flow-Timer: 120").headers().flow_timer(),
        Ok(Some(120))
    );
    let rack = message("RAck: 776656\r\n 1 INVITE")
        .headers()
        .rack()
        .unwrap()
        .unwrap();
    assert_eq!(
        (rack.rseq, rack.cseq, rack.method),
        (776_656, 1, Method::Invite)
    );
    for bad in [
        "1 1",
        "1 INVITE",
        "1 1 INVITE x",
        "4294967296 1 INVITE",
        "1 -1 INVITE",
        "",
        "1  1",
    ] {
        assert!(
            message(&format!("RAck: {bad}")).headers().rack().is_err(),
            "{bad}"
        );
    }
    assert_eq!(
        message("RSeq: 4294967295").headers().rseq(),
        Ok(Some(u32::MAX))
    );
    assert_eq!(
        refusal("RSeq: 0", |h| h.rseq().map(drop)),
        "not a number from 1 to 2^32 - 1"
    );
}

#[test]
fn identities_and_privacy() {
    let lines = "P-Asserted-Identity: \"Cullen Jennings\" <sip:fluffy@cisco.com>\r\nP-Asserted-Identity: tel:+14085264000\r\n\
        P-Preferred-Identity: <sip:a@b>, <tel:+1>\r\nPrivacy: ID ; critical\r\nPrivacy: history,x-more";
    let message = message(lines);
    let headers = message.headers();
    let asserted: Vec<_> = headers
        .p_asserted_identity()
        .map(|id| id.unwrap().uri().to_string())
        .collect();
    assert_eq!(asserted, ["sip:fluffy@cisco.com", "tel:+14085264000"]);
    assert_eq!(headers.p_preferred_identity().flatten().count(), 2);
    let wishes: Vec<_> = headers.privacy().collect();
    assert_eq!(
        wishes,
        [
            Privacy::Id,
            Privacy::Critical,
            Privacy::History,
            Privacy::Other("x-more")
        ]
    );
}

#[test]
fn reasons_come_one_a_protocol() {
    let message = message(
        "Reason: SIP ;cause=580 ;text=\"Precondition, Failure\", Q.850;cause=16\r\nReason: x;cause=bad",
    );
    let reasons: Vec<_> = message.headers().reasons().map(Result::unwrap).collect();
    let [sip, q850, other] = reasons.as_slice() else {
        panic!("{reasons:?}")
    };
    assert_eq!(
        (sip.protocol(), sip.cause(), sip.text().as_deref()),
        ("SIP", Some(580), Some("Precondition, Failure"))
    );
    assert_eq!((q850.protocol(), q850.cause()), ("Q.850", Some(16)));
    assert_eq!((other.cause(), other.text()), (None, None));
}

#[test]
fn caller_preferences_name_features() {
    // RFC 3841 §9.2, RFC 3840 §9.
    let lines = "a: *;audio;require, *;video;explicit\r\n\
        Accept-Contact: *;methods=\"BYE,!REFER\";+x.y=\"<a, b>,#>=5,TRUE\";q=0.4\r\nj: *;actor=\"msg-taker\"\r\n\
        d: proxy, No-Fork\r\nRequest-Disposition: x-odd";
    let message = message(lines);
    let headers = message.headers();
    let wanted: Vec<_> = headers.accept_contact().map(Result::unwrap).collect();
    assert!(wanted[0].is_required() && !wanted[0].is_explicit() && wanted[1].is_explicit());
    assert_eq!(
        wanted[0]
            .features()
            .map(|feature| feature.value().into_owned())
            .collect::<Vec<_>>(),
        ["TRUE"]
    );
    let features: Vec<_> = wanted[2].features().collect();
    assert_eq!(
        features
            .iter()
            .map(|feature| feature.name())
            .collect::<Vec<_>>(),
        ["methods", "+x.y"]
    );
    let value = features[1].value();
    assert_eq!(
        FeatureValue::list(&value).collect::<Vec<_>>(),
        [
            FeatureValue::String {
                text: "a, b",
                negated: false
            },
            FeatureValue::Number {
                text: ">=5",
                negated: false
            },
            FeatureValue::Boolean {
                value: true,
                negated: false
            },
        ]
    );
    assert_eq!(headers.reject_contact().flatten().count(), 1);
    let words: Vec<_> = headers.request_disposition().collect();
    assert_eq!(
        words,
        [
            Disposition::Proxy,
            Disposition::NoFork,
            Disposition::Other("x-odd")
        ]
    );
    assert!(
        self::message("Accept-Contact: sip:a")
            .headers()
            .accept_contact()
            .next()
            .unwrap()
            .is_err()
    );
}

#[test]
fn a_contact_shows_its_gruus_and_features() {
    let lines = "Contact: <sip:callee@192.0.2.1>;pub-gruu=\"sip:callee@example.com;gr=urn:uuid:f81d4fae\"\
        ;temp-gruu=\"sip:tgruu.7hs==jd7vnzga5w7fajsc7-ajd6fabz0f8g5@example.com;gr\"\
        ;+sip.instance=\"<urn:uuid:f81d4fae>\";audio;video=\"FALSE\";expires=3600;x-unknown";
    let message = message(lines);
    let contact = message.headers().contact().unwrap().unwrap();
    assert_eq!(
        contact.pub_gruu().unwrap(),
        "sip:callee@example.com;gr=urn:uuid:f81d4fae"
    );
    assert_eq!(
        contact.temp_gruu().unwrap(),
        "sip:tgruu.7hs==jd7vnzga5w7fajsc7-ajd6fabz0f8g5@example.com;gr"
    );
    let names: Vec<_> = contact.features().map(|feature| feature.name()).collect();
    assert_eq!(names, ["+sip.instance", "audio", "video"]);
    assert_eq!(contact.feature("VIDEO").unwrap().value(), "FALSE");
}

#[test]
fn history_is_indexed_and_keeps_its_reasons() {
    // RFC 7044 §5.3.
    let lines = "History-Info: <sip:bob@example.com>;index=1, <sip:bob@192.0.2.4?Reason=SIP%3Bcause%3D302&Privacy=history>;index=1.1;rc=1\r\n\
        History-Info: <sip:office@example.com>;index=1.2;mp=1, <sip:x@y>, <sip:z@y>;index=1.x";
    let message = message(lines);
    let entries: Vec<_> = message.headers().history_info().collect();
    let moved = entries[1].as_ref().unwrap();
    assert_eq!(
        (moved.index(), moved.change()),
        ("1.1", Some(TargetChange::RegisteredContact("1")))
    );
    assert_eq!(
        (moved.reason().as_deref(), moved.privacy().as_deref()),
        (Some("SIP;cause=302"), Some("history"))
    );
    assert_eq!(
        entries[2].as_ref().unwrap().path().collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(
        entries[2].as_ref().unwrap().change(),
        Some(TargetChange::Mapped("1"))
    );
    assert_eq!(entries[3].as_ref().unwrap_err().reason(), "no index");
    assert_eq!(
        entries[4].as_ref().unwrap_err().reason(),
        "an index that is not numbers and dots"
    );
}

#[test]
fn session_ids_have_two_halves_or_one() {
    let read = |value: &str| {
        message(&format!("Session-ID: {value}"))
            .headers()
            .session_id()
    };
    let id = SessionId {
        local: 0xab30_317f_1a78_4dc4_8ff8_24d0_d371_5d86,
        remote: Some(SessionId::NIL),
    };
    assert_eq!(
        read("AB30317f1a784dc48ff824d0d3715d86; remote=00000000000000000000000000000000"),
        Ok(Some(id))
    );
    assert_eq!(
        read("ab30317f1a784dc48ff824d0d3715d86"),
        Ok(Some(SessionId { remote: None, ..id }))
    );
    for bad in [
        "",
        "ab30",
        "+b30317f1a784dc48ff824d0d3715d86",
        "ab30317f1a784dc48ff824d0d3715d86;remote",
        "ab30317f1a784dc48ff824d0d3715d86;remote=1",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_acceptable_and_what_a_body_is_for() {
    let lines = "Accept-Encoding: gzip;q=0.5, *\r\nAccept-Language: da, en-gb;q=0.8, en;q=2\r\ne: gzip, deflate\r\n\
        Content-Language: fr\r\nContent-Disposition: Session;handling=Optional\r\nMIME-Version: 1.0";
    let message = message(lines);
    let headers = message.headers();
    let encodings: Vec<_> = headers
        .accept_encoding()
        .map(|found| found.unwrap())
        .map(|found| (found.value(), found.q().map(|q| q.thousandths())))
        .collect();
    assert_eq!(encodings, [("gzip", Some(500)), ("*", None)]);
    let languages: Vec<_> = headers
        .accept_language()
        .map(|found| found.map(|found| found.value()))
        .collect();
    assert_eq!(languages[1].as_ref().unwrap(), &"en-gb");
    assert_eq!(
        languages[2].as_ref().unwrap_err().reason(),
        "a q that is not 0 to 1"
    );
    assert_eq!(
        headers.content_encoding().collect::<Vec<_>>(),
        ["gzip", "deflate"]
    );
    assert_eq!(headers.content_language().collect::<Vec<_>>(), ["fr"]);
    let purpose = headers.content_disposition().unwrap().unwrap();
    assert!(purpose.is("session") && purpose.is_optional());
    assert!(
        !self::message("Content-Disposition: icon")
            .headers()
            .content_disposition()
            .unwrap()
            .unwrap()
            .is_optional()
    );
    assert_eq!(headers.mime_version(), Ok(Some("1.0")));
    assert!(
        self::message("MIME-Version: 1")
            .headers()
            .mime_version()
            .is_err()
    );
}

#[test]
fn texts_times_and_tags() {
    let lines = "s: Need more\r\n boxes\r\nOrganization: Boxes by Bob\r\nPriority: Emergency\r\nTimestamp: 54.21 0.5\r\n\
        SIP-ETag: dx200xyz\r\nSIP-If-Match: a b";
    let message = message(lines);
    let headers = message.headers();
    assert_eq!(headers.subject().unwrap(), "Need more boxes");
    assert_eq!(headers.organization().unwrap(), "Boxes by Bob");
    assert_eq!(headers.priority(), Ok(Some(Priority::Emergency)));
    let time = headers.timestamp().unwrap().unwrap();
    assert_eq!(
        (time.time, time.delay),
        ("54.21", Some(Duration::from_millis(500)))
    );
    assert_eq!(headers.sip_etag(), Ok(Some("dx200xyz")));
    assert_eq!(headers.sip_if_match().unwrap_err().reason(), "not a token");
    for bad in ["", ".5", "a", "1 x", "1..2", "1 99999999999999999999"] {
        assert!(
            self::message(&format!("Timestamp: {bad}"))
                .headers()
                .timestamp()
                .is_err(),
            "{bad}"
        );
    }
    assert_eq!(
        self::message("Timestamp: 1 .25")
            .headers()
            .timestamp()
            .unwrap()
            .unwrap()
            .delay,
        Some(Duration::from_millis(250))
    );
}

#[test]
fn infos_are_uris_of_any_scheme_with_parameters() {
    let lines = "Call-Info: <http://wwww.example.com/alice/photo.jpg> ;purpose=icon,\r\n <http://www.example.com/alice/> ;purpose=info\r\n\
        Alert-Info: <http://www.example.com/sounds/moo.wav>\r\nError-Info: <sip:not-in-service-recording@atlanta.com>";
    let message = message(lines);
    let headers = message.headers();
    let purposes: Vec<_> = headers
        .call_info()
        .map(|info| info.unwrap().params().get("purpose").unwrap().into_owned())
        .collect();
    assert_eq!(purposes, ["icon", "info"]);
    assert_eq!(
        headers
            .alert_info()
            .next()
            .unwrap()
            .unwrap()
            .uri()
            .scheme_str(),
        "http"
    );
    assert!(headers.error_info().next().unwrap().unwrap().uri().is_sip());
}

#[test]
fn authentication_info_is_a_list_without_a_scheme() {
    let message = message(
        "Authentication-Info: nextnonce=\"47364c23432d2e131a5fb210812c\",\r\n rspauth=\"6629\", qop=auth,nc=00000001",
    );
    let info = message
        .headers()
        .authentication_info(&HeaderName::AuthenticationInfo)
        .unwrap()
        .unwrap();
    assert_eq!(info.next_nonce().unwrap(), "47364c23432d2e131a5fb210812c");
    assert_eq!(
        (
            info.response_auth().unwrap().as_ref(),
            info.param("NC").unwrap().as_ref()
        ),
        ("6629", "00000001")
    );
    assert_eq!(info.params().count(), 4);
    for bad in ["", "a", "a=b c=d", "a=b,", "Digest a=b"] {
        let message = self::message(&format!("Authentication-Info: {bad}"));
        assert!(
            message
                .headers()
                .authentication_info(&HeaderName::AuthenticationInfo)
                .is_err(),
            "{bad}"
        );
    }
}

#[test]
fn compact_forms_and_long_ones_are_one_header_field() {
    let pairs = [
        ("a", "Accept-Contact"),
        ("b", "Referred-By"),
        ("c", "Content-Type"),
        ("d", "Request-Disposition"),
        ("e", "Content-Encoding"),
        ("f", "From"),
        ("i", "Call-ID"),
        ("j", "Reject-Contact"),
        ("k", "Supported"),
        ("l", "Content-Length"),
        ("m", "Contact"),
        ("o", "Event"),
        ("r", "Refer-To"),
        ("s", "Subject"),
        ("t", "To"),
        ("u", "Allow-Events"),
        ("v", "Via"),
        ("x", "Session-Expires"),
        ("y", "Identity"),
    ];
    for (compact, long) in pairs {
        assert_eq!(HeaderName::from(compact), HeaderName::from(long));
        assert_eq!(HeaderName::from(compact).as_str(), long);
    }
}
