//! What SUBSCRIBEs do (RFC 6665 §4.2.1).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{
    EventRef, HeaderName, Headers, Request, Response, ResponseBuilder, StatusCode,
};
use sipora_transport::{Flow, Transport};

use super::core::resource_key;
use super::usage::{Ending, Haste, Usage};
use super::{Notifier, NotifierEnd, Offer, Subscribed, SubscriptionKey};
use crate::dialog::unfolded;
use crate::subscription::EventPackage;
use crate::subscription::timing::later;
use crate::{Dialog, DialogError, has_foreign_body};

impl Notifier {
    /// Takes a SUBSCRIBE that came over `flow`. By RFC 6665 §4.2.1, in this order: 489 with Allow-Events for other events than
    /// those of the packages; 513 for what takes more than 8 KiB to remember; 415 for a body that the package has no use for; within a dialog 481 where there is none, 403 for
    /// another event (§4.5.2), 500 out of order; outside 482 for a merged request, 503 with Retry-After at a limit, 406 where
    /// no type is acceptable, 400 for what makes no dialog; 423 with Min-Expires.
    pub fn handle_subscribe(&mut self, now: Instant, request: &Request, flow: &Flow) -> Subscribed {
        match self.subscribe(now, request, flow) {
            Ok(offer) => Subscribed::Offer(Box::new(offer)),
            Err(answer) => Subscribed::Answer(answer),
        }
    }

    fn subscribe(
        &mut self,
        now: Instant,
        request: &Request,
        flow: &Flow,
    ) -> Result<Offer, Box<ResponseBuilder>> {
        let headers = request.headers();
        let answer = |status| Box::new(Response::for_request(request, status));
        let bad = |reason: &str| Box::new(answer(StatusCode::BAD_REQUEST).reason(reason));
        let event = headers.event().map_err(|_| bad("Event cannot be read"))?;
        let package = event.and_then(|event| self.package(&event));
        let (Some(event), Some(package)) = (event, package) else {
            let mut answer = answer(StatusCode::BAD_EVENT);
            let names = self.allow_events();
            if !names.is_empty() {
                answer = Box::new(answer.header(HeaderName::AllowEvents, names));
            }
            return Err(answer);
        };
        if remembered(request) > REMEMBERED {
            return Err(answer(StatusCode::MESSAGE_TOO_LARGE));
        }
        if has_foreign_body(request, package.filters()) {
            let answer = answer(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .header(HeaderName::Accept, package.filters().join(", "))
                .header(HeaderName::AcceptEncoding, "identity");
            return Err(Box::new(answer));
        }
        let call_id = headers.call_id().map_err(|_| bad("Call-ID"))?;
        let from = headers.from().map_err(|_| bad("From"))?;
        let remote_tag = from.tag().ok_or_else(|| bad("From has no tag"))?;
        let expires = headers.expires().map_err(|_| bad("Expires"))?;
        let to = headers.to().map_err(|_| bad("To"))?;
        let asked = expires.unwrap_or(self.config.default_expires);
        if let Some(local_tag) = to.tag() {
            let known = self.by_peer.get(&(call_id.into(), remote_tag.into()));
            let known = known.copied().filter(|key| {
                let usage = self.subscriptions.get(key);
                usage.is_some_and(|usage| *usage.dialog.id().local_tag == *local_tag)
            });
            let answer = self.refresh(now, request, flow, known, &event, asked);
            return Err(Box::new(answer));
        }
        let source = network(flow.remote.ip());
        self.check_room(request, call_id, remote_tag, source)?;
        if !is_acceptable(headers, package.accept()) {
            return Err(answer(StatusCode::NOT_ACCEPTABLE));
        }
        let tag = self.ids.tag().to_string();
        let dialog = Dialog::of_request(request, &tag);
        let dialog = dialog.map_err(|error| bad(&error.to_string()))?;
        let resource = request.uri().map_err(|_| bad("Request-URI"))?.to_owned();
        if self.is_too_brief(asked) {
            return Err(Box::new(self.too_brief(request)));
        }
        Ok(Offer {
            request: request.clone(),
            event: unfolded(event.as_bytes()),
            event_id: event.id().map(|id| id.into_owned()),
            resource,
            granted: asked.min(self.config.max_expires),
            source,
            flow: *flow,
            interval: package.notify_interval(),
            dialog,
            tag,
        })
    }

    /// Whether one more subscription has a place. Asked again when the application has decided, which may have taken time.
    fn check_room(
        &self,
        request: &Request,
        call_id: &str,
        remote_tag: &str,
        source: IpAddr,
    ) -> Result<(), Box<ResponseBuilder>> {
        let answer = |status| Response::for_request(request, status);
        // RFC 3261 §8.2.2.2: the same request by another way.
        if self
            .by_peer
            .contains_key(&(call_id.into(), remote_tag.into()))
        {
            return Err(Box::new(answer(StatusCode::LOOP_DETECTED)));
        }
        if let Some(limit) = self.limit(source) {
            let answer = answer(StatusCode::SERVICE_UNAVAILABLE).reason(limit);
            return Err(Box::new(answer.header(HeaderName::RetryAfter, RETRY_AFTER)));
        }
        Ok(())
    }

    fn refresh(
        &mut self,
        now: Instant,
        request: &Request,
        flow: &Flow,
        known: Option<SubscriptionKey>,
        event: &EventRef<'_>,
        asked: u32,
    ) -> ResponseBuilder {
        let answer = |status| Response::for_request(request, status);
        let is_too_brief = self.is_too_brief(asked);
        let granted = asked.min(self.config.max_expires);
        let found = known.and_then(|key| Some((key, self.subscriptions.get_mut(&key)?)));
        let Some((key, usage)) = found else {
            let reason = "Subscription does not exist";
            return answer(StatusCode::CALL_DOES_NOT_EXIST).reason(reason);
        };
        if usage.ending.is_some() {
            return answer(StatusCode::CALL_DOES_NOT_EXIST);
        }
        // RFC 6665 §8.2.1: type and `id` count.
        let is_same = usage.package() == event.package()
            && usage.event_id.as_deref() == event.id().as_deref();
        if !is_same {
            return answer(StatusCode::FORBIDDEN).reason("Dialog sharing is not supported");
        }
        match usage.dialog.receive(request) {
            Ok(()) => {}
            Err(DialogError::OutOfOrder { .. }) => {
                return answer(StatusCode::SERVER_INTERNAL_ERROR).reason("CSeq is out of order");
            }
            Err(error) => return answer(StatusCode::BAD_REQUEST).reason(&error.to_string()),
        }
        if is_too_brief {
            return self.too_brief(request);
        }
        usage.dialog.refresh_target(request.headers());
        usage.flow = way_back(request, &usage.dialog, flow);
        usage.expires_at = later(now, Duration::from_secs(granted.into()));
        if granted == 0 {
            usage.ending = Some(Ending::timeout(NotifierEnd::Unsubscribed));
        }
        let answer = answer(StatusCode::OK)
            .contact(format!("<{}>", usage.contact))
            .header(HeaderName::Expires, granted);
        self.owes(now, key, Haste::Prompt);
        answer
    }

    /// Takes an offer, and gives the subscription and the answer, which has to leave before the NOTIFY that is due.
    /// `contact` is where the subscriber can reach us.
    ///
    /// An offer can be kept while the application makes up its mind: what it says about time counts from now.
    ///
    /// # Errors
    ///
    /// The answer to send instead, where the decision took time: 482 when the same SUBSCRIBE, which came by another way too,
    /// has been accepted meanwhile (RFC 3261 §8.2.2.2), 503 with Retry-After when a limit has been reached.
    pub fn accept(
        &mut self,
        now: Instant,
        offer: Offer,
        is_pending: bool,
        contact: &str,
    ) -> Result<(SubscriptionKey, ResponseBuilder), Box<ResponseBuilder>> {
        let Offer {
            request,
            event,
            event_id,
            resource,
            granted,
            source,
            flow,
            interval,
            dialog,
            tag,
        } = offer;
        let (call_id, remote_tag) = (&*dialog.id().call_id, &*dialog.id().remote_tag);
        self.check_room(&request, call_id, remote_tag, source)
            .map_err(|answer| answer.to_tag(&tag))?;
        let key = SubscriptionKey(self.next);
        self.next += 1;
        let id = dialog.id();
        let peer = (id.call_id.clone(), id.remote_tag.clone());
        self.by_peer.insert(peer, key);
        *self.by_source.entry(source).or_default() += 1;
        let watched = self.by_resource.entry(resource_key(&resource)).or_default();
        watched.insert(key);
        let ending = (granted == 0).then(|| Ending::timeout(NotifierEnd::Unsubscribed));
        self.subscriptions.insert(
            key,
            Usage {
                flow: way_back(&request, &dialog, &flow),
                dialog,
                event,
                event_id,
                resource,
                source,
                interval,
                contact: contact.to_owned(),
                is_pending,
                expires_at: later(now, Duration::from_secs(granted.into())),
                ending,
                is_sending: false,
                is_due: false,
                is_prompt: false,
                is_queued: false,
                not_before: None,
                scheduled: None,
            },
        );
        // RFC 6665 §4.2.1.2: a NOTIFY follows every 2xx at once.
        self.owes(now, key, Haste::Prompt);
        let answer = Response::for_request(&request, StatusCode::OK)
            .to_tag(&tag)
            .record_route()
            .contact(format!("<{contact}>"))
            .header(HeaderName::Expires, granted);
        Ok((key, answer))
    }

    /// The names of the packages, as Allow-Events lists them.
    pub fn allow_events(&self) -> String {
        let names: Vec<&str> = self.packages.iter().map(|one| one.name()).collect();
        names.join(", ")
    }

    fn package(&self, event: &EventRef<'_>) -> Option<Arc<dyn EventPackage>> {
        let known = |one: &&Arc<dyn EventPackage>| one.name() == event.package();
        self.packages.iter().find(known).cloned()
    }

    /// The limit that stands against one more subscription from here.
    fn limit(&self, source: IpAddr) -> Option<&'static str> {
        if self.subscriptions.len() >= self.config.max_subscriptions {
            return Some("Too Many Subscriptions");
        }
        let from_here = self.by_source.get(&source).copied().unwrap_or_default();
        let is_over = from_here >= self.config.max_per_source;
        is_over.then_some("Too Many Subscriptions From One Address")
    }

    /// RFC 6665 §4.2.1.1: 423 "if and only if the expiration interval is greater than zero AND smaller than one hour AND
    /// less than a notifier-configured minimum".
    fn is_too_brief(&self, asked: u32) -> bool {
        asked > 0 && asked < 3600 && asked < self.config.min_expires
    }

    fn too_brief(&self, request: &Request) -> ResponseBuilder {
        Response::for_request(request, StatusCode::INTERVAL_TOO_BRIEF)
            .header(HeaderName::MinExpires, self.config.min_expires)
    }
}

/// The flow of a SUBSCRIBE, where it leads to the subscriber: a proxy between us that set no route passes nothing on to it,
/// and who sends datagrams from another port than it listens on hears nothing at the former.
fn way_back(request: &Request, dialog: &Dialog, flow: &Flow) -> Option<Flow> {
    let headers = request.headers();
    let is_from_subscriber = dialog.is_direct() && headers.vias().count() == 1;
    // RFC 3581 §3: who sends `rport` "MUST be prepared to receive the response on the same IP address and port".
    let is_symmetric = || {
        headers.via().is_ok_and(|via| {
            let listens = via.port().unwrap_or(DEFAULT_PORT);
            via.rport().is_some() || listens == flow.remote.port()
        })
    };
    let is_way = is_from_subscriber && (flow.transport != Transport::Udp || is_symmetric());
    is_way.then_some(*flow)
}

/// Octets of a SUBSCRIBE that a subscription keeps.
fn remembered(request: &Request) -> usize {
    let headers = request.headers();
    let length = |name: &HeaderName| headers.all(name).map(<[u8]>::len).sum::<usize>();
    let names = [
        HeaderName::CallId,
        HeaderName::Contact,
        HeaderName::Event,
        HeaderName::From,
        HeaderName::RecordRoute,
        HeaderName::To,
    ];
    request.uri_text().len() + names.iter().map(length).sum::<usize>()
}

/// What one subscriber has of IPv6 is a whole network of 64 bits.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Whether a SUBSCRIBE takes one of these types: without Accept it takes the package's own (RFC 6665 §3.1.3).
fn is_acceptable(headers: Headers<'_>, offered: &[&str]) -> bool {
    if offered.is_empty() || !headers.contains(&HeaderName::Accept) {
        return true;
    }
    headers.list(&HeaderName::Accept).any(|value| {
        let value = String::from_utf8_lossy(value);
        let wanted = value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        offered.iter().any(|one| {
            let is_kind = |kind: &str| {
                wanted
                    .strip_suffix("/*")
                    .is_some_and(|want| want.eq_ignore_ascii_case(kind))
            };
            let kind = one.split('/').next().unwrap_or_default();
            wanted == "*/*" || is_kind(kind) || wanted.eq_ignore_ascii_case(one)
        })
    })
}

/// The most that is kept of one SUBSCRIBE. A Record-Route of ten hops takes 2 KiB; without a limit, the subscriptions that one
/// source may have would take 300 MiB.
const REMEMBERED: usize = 8 * 1024;

/// The port of a Via that names none (RFC 3261 §18.2.2).
const DEFAULT_PORT: u16 = 5060;

/// Seconds after which a subscriber that found no room may come again.
const RETRY_AFTER: &str = "60";
