//! The rules of RFC 3903 §6.

use sipora_message::Limits as MessageLimits;

use super::*;

const LIMITS: Limits = Limits {
    total: 5,
    per_source: 3,
    per_address: 2,
    document_bytes: 1000,
    bytes: 4000,
};
const EXPIRY: Expiry = Expiry {
    default: 1800,
    minimum: 60,
    maximum: 3600,
};
const TYPE: &str = "Event: presence\r\nContent-Type: application/pidf+xml\r\n";

struct Lab {
    publications: Publications,
    start: Instant,
    source: IpAddr,
}

fn lab() -> Lab {
    Lab {
        publications: Publications::new(LIMITS, EXPIRY, IdSource::from_number(1)),
        start: Instant::now(),
        source: "192.0.2.7".parse().unwrap(),
    }
}

fn document(basic: &str) -> String {
    format!(
        "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:alice@example.com'>\
         <tuple id='t'><status><basic>{basic}</basic></status></tuple></presence>"
    )
}

fn request(lines: &str, body: &str) -> Request {
    let text = format!(
        "PUBLISH sip:alice@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\n\
         To: <sip:alice@example.com>\r\nFrom: <sip:alice@example.com>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 PUBLISH\r\n\
         {lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Request::parse(text, &MessageLimits::default()).unwrap()
}

fn address(user: &str) -> AddressOfRecord {
    format!("sip:{user}@example.com").parse().unwrap()
}

impl Lab {
    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn of(
        &mut self,
        user: &str,
        seconds: u64,
        lines: &str,
        body: &str,
    ) -> Result<Published, Refusal> {
        let (now, source) = (self.at(seconds), self.source);
        let request = request(lines, body);
        self.publications
            .publish(now, &address(user), source, &request)
    }

    /// Alice's.
    fn publish(&mut self, seconds: u64, lines: &str, body: &str) -> Result<Published, Refusal> {
        self.of("alice", seconds, lines, body)
    }

    fn initial(&mut self, seconds: u64, expires: u32) -> Published {
        let lines = format!("{TYPE}Expires: {expires}\r\n");
        self.publish(seconds, &lines, &document("open")).unwrap()
    }

    fn refused(&mut self, lines: &str, body: &str) -> u16 {
        let before = self.shown(0).len();
        let refusal = self.publish(0, lines, body).unwrap_err();
        assert_eq!(
            self.shown(0).len(),
            before,
            "something was changed: {lines}"
        );
        refusal.status.as_u16()
    }

    /// Whether each of alice's publications is open.
    fn shown(&self, seconds: u64) -> Vec<bool> {
        let alice = address("alice");
        let documents = self.publications.documents(self.at(seconds), &alice);
        let basics = documents.map(|(_, presence)| presence.basic());
        basics
            .map(|basic| basic == Some(sipora_session_core::Basic::Open))
            .collect()
    }

    /// Everything that is counted is there, and nothing else.
    fn assert_whole(&self) {
        let Publications {
            by_address,
            by_source,
            timers,
            count,
            bytes,
            ..
        } = &self.publications;
        let all = || by_address.values().flatten();
        assert!(by_address.values().all(|list| !list.is_empty()));
        assert_eq!(all().count(), *count);
        assert_eq!(timers.len(), *count);
        assert_eq!(all().map(|one| one.bytes).sum::<usize>(), *bytes);
        assert_eq!(by_source.values().sum::<usize>(), *count);
    }
}

fn if_match(tag: &str) -> String {
    format!("Event: presence\r\nSIP-If-Match: {tag}\r\n")
}

#[test]
fn what_is_published_is_shown_until_it_expires() {
    let mut lab = lab();
    let published = lab.initial(0, 120);
    assert_eq!((published.expires, published.is_changed), (120, true));
    assert_eq!(lab.shown(119), [true]);
    assert_eq!(lab.publications.poll_timeout(), Some(lab.at(120)));
    assert!(lab.publications.handle_timeout(lab.at(119)).is_empty());
    assert!(lab.shown(120).is_empty(), "shown, though not yet removed");
    let changed = lab.publications.handle_timeout(lab.at(120));
    assert_eq!(changed, [address("alice")]);
    assert_eq!(lab.publications.poll_timeout(), None);
    lab.assert_whole();
}

#[test]
fn each_answer_has_an_entity_tag_of_its_own_and_only_the_last_one_matches() {
    let mut lab = lab();
    let mut tags = vec![lab.initial(0, 600).tag];
    for _ in 0..5 {
        let lines = if_match(tags.last().unwrap());
        let refreshed = lab.publish(1, &lines, "").unwrap();
        assert!(!refreshed.is_changed);
        assert!(!tags.contains(&refreshed.tag));
        assert_eq!(lab.refused(&lines, ""), 412);
        tags.push(refreshed.tag);
    }
    assert_eq!(lab.shown(1), [true]);
    assert!(tags.iter().all(|tag| tag.len() == 32));
    lab.assert_whole();
}

#[test]
fn a_refresh_keeps_the_body_and_a_modification_replaces_it() {
    let mut lab = lab();
    let first = lab.initial(0, 120);
    let refreshed = lab
        .publish(60, &(if_match(&first.tag) + "Expires: 120\r\n"), "")
        .unwrap();
    assert!(lab.publications.handle_timeout(lab.at(120)).is_empty());
    assert_eq!(lab.shown(179), [true]);
    let lines = format!("{TYPE}SIP-If-Match: {}\r\n", refreshed.tag);
    let modified = lab.publish(100, &lines, &document("closed")).unwrap();
    assert!(modified.is_changed);
    assert_eq!(modified.expires, 1800);
    assert_eq!(lab.shown(100), [false]);
    let lines = format!("{TYPE}SIP-If-Match: {}\r\n", modified.tag);
    let same = lab.publish(100, &lines, &document("closed")).unwrap();
    assert!(!same.is_changed, "watchers have nothing to hear");
    lab.assert_whole();
}

#[test]
fn expires_0_removes_at_once_and_stores_nothing() {
    let mut lab = lab();
    let fetched = lab.initial(0, 0);
    assert_eq!((fetched.expires, fetched.is_changed), (0, false));
    assert!(lab.shown(0).is_empty());
    assert_eq!(lab.refused(&if_match(&fetched.tag), ""), 412);
    let first = lab.initial(0, 600);
    let lines = if_match(&first.tag) + "Expires: 0\r\n";
    let removed = lab.publish(1, &lines, "").unwrap();
    assert_eq!((removed.expires, removed.is_changed), (0, true));
    assert!(lab.shown(1).is_empty());
    assert_eq!(lab.refused(&lines, ""), 412);
    lab.assert_whole();
}

#[test]
fn expiries_are_granted_by_default_shortened_or_refused() {
    let mut lab = lab();
    let mut granted = |lines: &str| {
        let lines = format!("{TYPE}{lines}");
        let body = document("open");
        let published = lab.publish(0, &lines, &body)?;
        let lines = if_match(&published.tag) + "Expires: 0\r\n";
        lab.publish(0, &lines, "")?;
        Ok::<u32, Refusal>(published.expires)
    };
    assert_eq!(granted(""), Ok(1800));
    assert_eq!(granted("Expires: 60\r\n"), Ok(60));
    assert_eq!(granted("Expires: 99999\r\n"), Ok(3600));
    let refusal = granted("Expires: 59\r\n").unwrap_err();
    assert_eq!(refusal.status, StatusCode::INTERVAL_TOO_BRIEF);
    assert_eq!(refusal.headers, [(HeaderName::MinExpires, "60".to_owned())]);
    assert_eq!(granted("Expires: x\r\n").unwrap_err().status.as_u16(), 400);
}

#[test]
fn what_is_wrong_is_told_in_the_order_of_the_rfc_and_changes_nothing() {
    let mut lab = lab();
    let tag = lab.initial(0, 600).tag;
    let open = document("open");
    let long = format!("{open}{}", " ".repeat(1000));
    let two = format!("{TYPE}SIP-If-Match: {tag}, {tag}\r\n");
    let gzip = format!("{TYPE}Content-Encoding: gzip\r\n");
    let modify = format!("{TYPE}SIP-If-Match: {tag}\r\n");
    let twice = format!("{TYPE}SIP-If-Match: {tag}\r\nSIP-If-Match: {tag}\r\n");
    for (lines, body, owed) in [
        ("Content-Type: application/pidf+xml\r\n", &*open, 489),
        ("Event: dialog\r\nSIP-If-Match: wrong\r\n", &open, 489),
        (&two, &open, 400),
        (&twice, &open, 400),
        (
            "Event: presence\r\nSIP-If-Match: wrong\r\nExpires: 1\r\n",
            "",
            412,
        ),
        (
            "Event: presence\r\nExpires: 1\r\nContent-Type: text/plain\r\n",
            "hello",
            423,
        ),
        (
            "Event: presence\r\nContent-Type: text/plain\r\n",
            "hello",
            415,
        ),
        ("Event: presence\r\n", &open, 415),
        (&gzip, "\u{1f}\u{8b}", 415),
        (TYPE, &long, 413),
        (TYPE, "<presence", 400),
        (TYPE, "", 400),
        (&modify, "<presence", 400),
    ] {
        assert_eq!(lab.refused(lines, body), owed, "{lines}");
    }
    // The tag that was refused a modification still serves.
    assert!(lab.publish(0, &if_match(&tag), "").is_ok());
    lab.assert_whole();
}

#[test]
fn a_tag_serves_its_own_address_alone() {
    let mut lab = lab();
    let tag = lab.initial(0, 600).tag;
    let refusal = lab.of("bob", 0, &if_match(&tag), "").unwrap_err();
    assert_eq!(refusal.status.as_u16(), 412);
    assert_eq!(lab.shown(0), [true]);
}

#[test]
fn limits_are_told_with_503_and_what_is_there_can_still_be_refreshed() {
    let mut lab = lab();
    let body = document("open");
    let first = lab.initial(0, 600);
    lab.initial(0, 600);
    let reason = |lab: &mut Lab, user: &str| {
        let refusal = lab.of(user, 0, TYPE, &body).unwrap_err();
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refusal.headers[0].0, HeaderName::RetryAfter);
        refusal.reason.into_owned()
    };
    assert!(reason(&mut lab, "alice").contains("One User"));
    lab.of("bob", 0, TYPE, &body).unwrap();
    assert!(reason(&mut lab, "bob").contains("One Address"));
    lab.source = "2001:db8::1".parse().unwrap();
    lab.of("bob", 0, TYPE, &body).unwrap();
    lab.source = "2001:db8::2".parse().unwrap();
    lab.of("carol", 0, TYPE, &body).unwrap();
    assert!(reason(&mut lab, "carol").contains("Too Many"));
    assert!(lab.publish(0, &if_match(&first.tag), "").is_ok());
    lab.assert_whole();
    let all = lab.publications.handle_timeout(lab.at(4000));
    assert_eq!(all.len(), 3, "{all:?}: once for two that expire at once");
    assert_eq!((lab.publications.len(), lab.publications.bytes()), (0, 0));
    lab.assert_whole();
}

#[test]
fn the_bytes_of_all_documents_are_limited() {
    let mut lab = lab();
    lab.publications.limits.bytes = passed_on(&document("open")) * 2 - 1;
    let tag = lab.initial(0, 600).tag;
    let refusal = lab.publish(0, TYPE, &document("open")).unwrap_err();
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
    let longer = document("open").replace("<tuple", &format!("{}<tuple", " ".repeat(300)));
    let lines = format!("{TYPE}SIP-If-Match: {tag}\r\n");
    let refusal = lab.publish(0, &lines, &longer).unwrap_err();
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(lab.publish(0, &lines, &document("closed")).is_ok());
    lab.assert_whole();
}

/// The bytes of a document as watchers get it.
fn passed_on(document: &str) -> usize {
    let presence = Presence::parse(document.as_bytes()).unwrap();
    presence.to_xml().len()
}

#[test]
fn a_document_that_grows_when_it_is_passed_on_counts_as_what_it_becomes() {
    let mut lab = lab();
    let end = format!("<note>{}</note></presence>", "'".repeat(500));
    let quotes = document("open").replace("</presence>", &end);
    let namespace = format!("<presence xmlns:x='urn:{}'", "x".repeat(200));
    let end = format!("{}</presence>", "<x:y/>".repeat(10));
    let declared = document("open")
        .replace("<presence", &namespace)
        .replace("</presence>", &end);
    for document in [quotes, declared] {
        assert!(document.len() < LIMITS.document_bytes, "{}", document.len());
        let refusal = lab.publish(0, TYPE, &document).unwrap_err();
        assert_eq!(refusal.status, StatusCode::REQUEST_ENTITY_TOO_LARGE);
    }
    assert!(lab.initial(0, 600).is_changed);
    assert_eq!(lab.publications.bytes(), passed_on(&document("open")));
    lab.assert_whole();
}

#[test]
fn one_user_s_documents_are_no_larger_than_two_of_the_largest() {
    let mut lab = lab();
    lab.publications.limits.document_bytes = passed_on(&document("open"));
    lab.publications.limits.per_address = 9;
    lab.publications.limits.per_source = 9;
    let tag = lab.initial(0, 600).tag;
    lab.initial(0, 600);
    let refusal = lab.publish(0, TYPE, &document("open")).unwrap_err();
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refusal.reason.contains("Too Much"), "{}", refusal.reason);
    lab.of("bob", 0, TYPE, &document("open")).unwrap();
    let lines = format!("{TYPE}SIP-If-Match: {tag}\r\n");
    assert!(lab.publish(0, &lines, &document("open")).is_ok());
    lab.assert_whole();
}
