//! What users publish about themselves (RFC 3903 §6): a state machine without I/O and without a clock.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sipora_message::{HeaderName, Request, StatusCode};
use sipora_session_core::Presence;
use sipora_transaction_core::IdSource;

use super::{PACKAGE, PIDF};
use crate::AddressOfRecord;
use crate::policy::Expiry;
use crate::refusal::Refusal;
use crate::source::network;

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

impl Limits {
    /// What the documents of one user may have together, since every watcher gets all of it: two of the largest, which a
    /// datagram still holds.
    fn bytes_of_address(&self) -> usize {
        self.document_bytes.saturating_mul(2)
    }
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

    /// The bytes of all documents, as they were sent or as they are passed on, whichever is more.
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
        if document.bytes > before {
            let of_address = self.bytes_of(wish.address).saturating_sub(before) + document.bytes;
            if of_address > self.limits.bytes_of_address() {
                return Err(self.full("Too Much Is Published Of One User"));
            }
            if bytes > self.limits.bytes {
                return Err(self.full("Too Much Is Published"));
            }
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
        } else if self.bytes_of(wish.address) + bytes > self.limits.bytes_of_address() {
            "Too Much Is Published Of One User"
        } else {
            return Ok(());
        };
        Err(self.full(reason))
    }

    fn bytes_of(&self, address: &AddressOfRecord) -> usize {
        let all = self.by_address.get(address).into_iter().flatten();
        all.map(|one| one.bytes).sum()
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
        Ok(presence) => {
            // Watchers get it as it is written again, which may take more: every quote becomes six bytes.
            let bytes = presence.to_xml().len().max(body.len());
            if bytes > limit {
                return Err(refused(StatusCode::REQUEST_ENTITY_TOO_LARGE));
            }
            Ok(Some(Document { presence, bytes }))
        }
        Err(error) => {
            tracing::debug!(%error, "a malformed presence document");
            Err(Refusal::bad_request("Malformed Presence Document"))
        }
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
#[path = "publications_tests.rs"]
mod tests;
