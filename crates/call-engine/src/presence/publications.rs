//! What users publish about themselves (RFC 3903 §6): a state machine without I/O and without a clock.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use sipora_message::{HeaderName, Request, StatusCode};
use sipora_session_core::Presence;
use sipora_transaction_core::IdSource;

use super::{PACKAGE, PIDF};
use crate::AddressOfRecord;
use crate::policy::Expiry;
use crate::refusal::Refusal;

/// Holds every publication until it expires or is removed.
///
/// ```text
///                 PUBLISH, SIP-If-Match: none
///                             |
///                             v
///   refresh, no body    +-----------+   modify, a body
///   +-----------------> | published | <------------------+
///   |  a new SIP-ETag   +-----------+   a new SIP-ETag   |
///   +---------------------- |   | ----------------------+
///                           |   |
///            Expires: 0     |   |   its time is over
///                           v   v
///                          removed
/// ```
pub(crate) struct Publications {
    limits: Limits,
    expiry: Expiry,
    ids: IdSource,
    by_address: HashMap<AddressOfRecord, Vec<Publication>>,
    by_source: HashMap<IpAddr, usize>,
    timers: BTreeSet<(Instant, AddressOfRecord, u64)>,
    count: usize,
    bytes: usize,
    next: u64,
}

/// What publications may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) total: usize,
    /// From one address of the network; an IPv6 address counts by its first 64 bits.
    pub(crate) per_source: usize,
    /// Of one user.
    pub(crate) per_address: usize,
    /// One document.
    pub(crate) document_bytes: usize,
    /// All documents.
    pub(crate) bytes: usize,
}

struct Publication {
    /// The same from the first PUBLISH to the last, as no entity-tag is.
    number: u64,
    tag: Box<str>,
    presence: Presence,
    bytes: usize,
    source: IpAddr,
    expires_at: Instant,
}

/// What a PUBLISH that was accepted is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// SIP-ETag, which no publication of the address had before.
    pub(crate) tag: Box<str>,
    /// Expires.
    pub(crate) expires: u32,
    /// Whether watchers have something to hear.
    pub(crate) is_changed: bool,
}

impl Publications {
    pub(crate) fn new(limits: Limits, expiry: Expiry, ids: IdSource) -> Self {
        Self {
            limits,
            expiry,
            ids,
            by_address: HashMap::new(),
            by_source: HashMap::new(),
            timers: BTreeSet::new(),
            count: 0,
            bytes: 0,
            next: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The bytes of all documents, as they were sent.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a PUBLISH of `address`, whose sender may publish for it: steps 2 to 6 of RFC 3903 §6, in their order. Nothing
    /// is changed by one that is refused.
    pub(crate) fn publish(
        &mut self,
        now: Instant,
        address: &AddressOfRecord,
        source: IpAddr,
        request: &Request,
    ) -> Result<Published, Refusal> {
        check_event(request)?;
        let known = self.matching(now, address, request)?;
        let headers = request.headers();
        let asked = headers
            .expires()
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        let granted = self.expiry.grant(asked.unwrap_or(self.expiry.default))?;
        let document = document(request, self.limits.document_bytes)?;
        let wish = Wish {
            address,
            source: network(source),
            granted,
        };
        let is_changed = match (known, document) {
            (None, None) => {
                return Err(Refusal::bad_request("nothing is published, nor refreshed"));
            }
            (None, Some(document)) => return self.begin(now, &wish, document),
            (Some(number), _) if granted == 0 => self.remove(address, number),
            (Some(number), None) => {
                self.prolong(now, &wish, number);
                false
            }
            (Some(number), Some(document)) => self.modify(now, &wish, number, document)?,
        };
        let tag = self.tag();
        if let Some(publication) = known.and_then(|number| self.find(address, number)) {
            publication.tag.clone_from(&tag);
        }
        Ok(Published {
            tag,
            expires: granted,
            is_changed,
        })
    }

    /// Shows what is published for an address, each document with the number of its publication, in their order.
    pub(crate) fn documents(
        &self,
        now: Instant,
        address: &AddressOfRecord,
    ) -> impl Iterator<Item = (u64, &Presence)> {
        let all = self.by_address.get(address).into_iter().flatten();
        all.filter(move |one| one.expires_at > now)
            .map(|one| (one.number, &one.presence))
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _, _)| *at)
    }

    /// Removes what has expired, and names the addresses that it was published for.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<AddressOfRecord> {
        let mut changed = Vec::new();
        while let Some((at, address, number)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.remove(&address, number);
            if changed.last() != Some(&address) {
                changed.push(address);
            }
        }
        changed
    }

    /// Step 3: the publication that SIP-If-Match names; `None` for a PUBLISH without it.
    fn matching(
        &self,
        now: Instant,
        address: &AddressOfRecord,
        request: &Request,
    ) -> Result<Option<u64>, Refusal> {
        // "the ESC checks whether the header field contains a single entity-tag. If not, [...] the ESC MUST return with a
        // 400": the typed header is an error then.
        let tag = request
            .headers()
            .sip_if_match()
            .map_err(|_| Refusal::bad_request("SIP-If-Match is no single entity-tag"))?;
        let Some(tag) = tag else { return Ok(None) };
        let mut all = self.by_address.get(address).into_iter().flatten();
        let found = all.find(|one| *one.tag == *tag && one.expires_at > now);
        let status = StatusCode::CONDITIONAL_REQUEST_FAILED;
        let refusal = || Refusal::new(status, status.default_reason());
        found.map(|one| Some(one.number)).ok_or_else(refusal)
    }

    fn begin(
        &mut self,
        now: Instant,
        wish: &Wish<'_>,
        document: Document,
    ) -> Result<Published, Refusal> {
        let tag = self.tag();
        // "The ESC MUST NOT store any event state as a result of such a request."
        let is_kept = wish.granted > 0;
        if is_kept {
            self.check_room(wish, document.bytes)?;
            let expires_at = later(now, wish.granted);
            self.next += 1;
            let place = (expires_at, wish.address.clone(), self.next);
            self.timers.insert(place);
            *self.by_source.entry(wish.source).or_default() += 1;
            self.count += 1;
            self.bytes += document.bytes;
            let all = self.by_address.entry(wish.address.clone()).or_default();
            all.push(Publication {
                number: self.next,
                tag: tag.clone(),
                presence: document.presence,
                bytes: document.bytes,
                source: wish.source,
                expires_at,
            });
        }
        Ok(Published {
            tag,
            expires: wish.granted,
            is_changed: is_kept,
        })
    }

    fn modify(
        &mut self,
        now: Instant,
        wish: &Wish<'_>,
        number: u64,
        document: Document,
    ) -> Result<bool, Refusal> {
        let before = self
            .find(wish.address, number)
            .map_or(0, |publication| publication.bytes);
        let bytes = self.bytes.saturating_sub(before) + document.bytes;
        if bytes > self.limits.bytes && document.bytes > before {
            return Err(self.full("Too Much Is Published"));
        }
        self.bytes = bytes;
        self.prolong(now, wish, number);
        let Some(publication) = self.find(wish.address, number) else {
            return Ok(false);
        };
        publication.bytes = document.bytes;
        let before = std::mem::replace(&mut publication.presence, document.presence);
        Ok(before != publication.presence)
    }

    fn prolong(&mut self, now: Instant, wish: &Wish<'_>, number: u64) {
        let expires_at = later(now, wish.granted);
        let Some(publication) = self.find(wish.address, number) else {
            return;
        };
        let before = std::mem::replace(&mut publication.expires_at, expires_at);
        self.timers.remove(&(before, wish.address.clone(), number));
        self.timers
            .insert((expires_at, wish.address.clone(), number));
    }

    fn remove(&mut self, address: &AddressOfRecord, number: u64) -> bool {
        let Some(all) = self.by_address.get_mut(address) else {
            return false;
        };
        let Some(place) = all.iter().position(|one| one.number == number) else {
            return false;
        };
        let gone = all.remove(place);
        if all.is_empty() {
            self.by_address.remove(address);
        }
        self.timers
            .remove(&(gone.expires_at, address.clone(), number));
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(gone.bytes);
        if let Some(count) = self.by_source.get_mut(&gone.source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&gone.source);
            }
        }
        true
    }

    fn find(&mut self, address: &AddressOfRecord, number: u64) -> Option<&mut Publication> {
        let all = self.by_address.get_mut(address)?;
        all.iter_mut().find(|one| one.number == number)
    }

    fn check_room(&mut self, wish: &Wish<'_>, bytes: usize) -> Result<(), Refusal> {
        let of_address = self.by_address.get(wish.address).map_or(0, Vec::len);
        let from_source = self.by_source.get(&wish.source).copied();
        let reason = if self.count >= self.limits.total {
            "Too Many Publications"
        } else if self.bytes.saturating_add(bytes) > self.limits.bytes {
            "Too Much Is Published"
        } else if from_source.unwrap_or_default() >= self.limits.per_source {
            "Too Many Publications From One Address"
        } else if of_address >= self.limits.per_address {
            "Too Many Publications Of One User"
        } else {
            return Ok(());
        };
        Err(self.full(reason))
    }

    /// 503 with a Retry-After that is not the same for all, or they would all come back at once.
    fn full(&mut self, reason: &'static str) -> Refusal {
        let seconds = self.ids.number_in(RETRY_AFTER.0, RETRY_AFTER.1);
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
            .with_header(HeaderName::RetryAfter, seconds.to_string())
    }

    /// An entity-tag of 128 random bits: none comes twice, and nobody who has not got it can name it.
    fn tag(&mut self) -> Box<str> {
        let mut bytes = [0; 16];
        self.ids.fill(&mut bytes);
        format!("{:032x}", u128::from_be_bytes(bytes)).into()
    }
}

/// Whose publication it is, and for how long.
struct Wish<'a> {
    address: &'a AddressOfRecord,
    source: IpAddr,
    granted: u32,
}

struct Document {
    presence: Presence,
    bytes: usize,
}

/// Step 2: "If the Event header field is missing or contains an event package which the ESC does not support, the ESC MUST
/// respond to the PUBLISH request with a 489 (Bad Event) response". RFC 6665 §4.2.1.1 says the same of SUBSCRIBE.
pub(super) fn check_event(request: &Request) -> Result<(), Refusal> {
    match request.headers().event() {
        Ok(Some(event)) if event.package() == PACKAGE => Ok(()),
        Ok(_) => {
            let status = StatusCode::BAD_EVENT;
            let refusal = Refusal::new(status, status.default_reason());
            Err(refusal.with_header(HeaderName::AllowEvents, PACKAGE))
        }
        Err(error) => Err(Refusal::bad_request(error.to_string())),
    }
}

/// Step 5: the document, if there is one.
fn document(request: &Request, limit: usize) -> Result<Option<Document>, Refusal> {
    let body = request.body();
    if body.is_empty() {
        return Ok(None);
    }
    let headers = request.headers();
    let refused = |status: StatusCode| Refusal::new(status, status.default_reason());
    let encodings = headers.list(&HeaderName::ContentEncoding);
    if encodings
        .into_iter()
        .any(|encoding| !encoding.eq_ignore_ascii_case(b"identity"))
    {
        let refusal = refused(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        return Err(refusal.with_header(HeaderName::AcceptEncoding, "identity"));
    }
    let is_pidf = match headers.content_type() {
        Ok(content_type) => content_type.is_some_and(|one| one.is("application", "pidf+xml")),
        Err(error) => return Err(Refusal::bad_request(error.to_string())),
    };
    if !is_pidf {
        let refusal = refused(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        return Err(refusal.with_header(HeaderName::Accept, PIDF));
    }
    if body.len() > limit {
        return Err(refused(StatusCode::REQUEST_ENTITY_TOO_LARGE));
    }
    match Presence::parse(body) {
        Ok(presence) => Ok(Some(Document {
            presence,
            bytes: body.len(),
        })),
        Err(error) => {
            tracing::debug!(%error, "a malformed presence document");
            Err(Refusal::bad_request("Malformed Presence Document"))
        }
    }
}

/// What one peer has of IPv6 is a whole network of 64 bits.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Never, where the clock cannot say it.
fn later(now: Instant, seconds: u32) -> Instant {
    now.checked_add(Duration::from_secs(seconds.into()))
        .unwrap_or(now)
}

/// Seconds.
const RETRY_AFTER: (u64, u64) = (10, 40);

#[cfg(test)]
mod tests {
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
        lab.publications.limits.bytes = document("open").len() * 2 - 1;
        let tag = lab.initial(0, 600).tag;
        let refusal = lab.publish(0, TYPE, &document("open")).unwrap_err();
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        let longer = document("open").replace("<tuple", &format!("{}<tuple", " ".repeat(200)));
        let lines = format!("{TYPE}SIP-If-Match: {tag}\r\n");
        let refusal = lab.publish(0, &lines, &longer).unwrap_err();
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(lab.publish(0, &lines, &document("closed")).is_ok());
        lab.assert_whole();
    }
}
