//! The peers' INVITEs, by which calls begin and change (RFC 3261 §13.3, §14.2).

use std::time::{Duration, Instant};

use sipora_message::{HeaderName, Request, ResponseBuilder, StatusCode};
use sipora_transaction_core::IncomingRequest;

use super::Reliability;
use super::core::{CallKey, Calls, Output};
use super::event::CallEvent;
use super::extensions::{RELIABLE, Support};
use super::offer::{OfferAnswer, has_description};
use super::record::Call;
use super::replacing::{Found, Related};
use super::said::fingerprint;
use super::server::{InviteServer, ServerState};
use super::session::Session;
use crate::{Dialog, DialogError};

impl Calls {
    /// Refuses a request that would begin a call, or asks whether one may begin, where there is no room, it requires what nobody
    /// knows here, or has a body that nobody understands (RFC 3261 §8.2.2.3, §8.2.3).
    pub(super) fn refusal_at_once(&mut self, request: &Request) -> Option<ResponseBuilder> {
        if self.calls.len() >= self.config.max_calls {
            self.metrics.refused_for_lack_of_room += 1;
            return Some(self.no_room(request));
        }
        if let Some(unknown) = self.config.not_understood(request) {
            let builder = self.begin(request, StatusCode::BAD_EXTENSION);
            return Some(builder.header(HeaderName::Unsupported, unknown));
        }
        if self.config.is_foreign(request) {
            let builder = self.begin(request, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            return Some(self.config.add_accepted(builder));
        }
        None
    }

    fn no_room(&self, request: &Request) -> ResponseBuilder {
        let builder = self.begin(request, StatusCode::SERVICE_UNAVAILABLE);
        builder.header(HeaderName::RetryAfter, BUSY_SECONDS)
    }

    /// Takes a request that begins a call. `tag` is the To tag that its answers have; `contact` is ours; `found` is what other shards
    /// know of the calls that it names.
    pub(super) fn first_invite(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        tag: &str,
        contact: String,
        found: Found,
    ) {
        let request = &incoming.request;
        if self.by_tag.contains_key(tag) {
            self.metrics.refused_for_lack_of_room += 1;
            let builder = self.no_room(request).to_tag(tag);
            return self.respond(incoming.transaction, builder);
        }
        if let Some(builder) = self.refusal_at_once(request) {
            return self.respond(incoming.transaction, builder.to_tag(tag));
        }
        let peer_reliable = Support::of(request.headers(), RELIABLE);
        if self.config.reliability == Reliability::Required && peer_reliable == Support::No {
            // RFC 3261 §21.4.16.
            let builder = self.begin(request, StatusCode::EXTENSION_REQUIRED);
            let builder = builder.to_tag(tag).header(HeaderName::Require, RELIABLE);
            return self.respond(incoming.transaction, builder);
        }
        if self.config.is_too_short(request) {
            let min_se = self.config.min_se();
            let builder = self.begin(request, StatusCode::SESSION_INTERVAL_TOO_SMALL);
            let builder = builder.to_tag(tag).header(HeaderName::MinSe, min_se);
            return self.respond(incoming.transaction, builder);
        }
        let replaced = found.replaces;
        let replaced = replaced.unwrap_or_else(|| self.replaced_by(request.headers()));
        let replacing = match replaced {
            Ok(replacing) => replacing.map(Box::new),
            Err(status) => {
                let builder = self.begin(request, status).to_tag(tag);
                return self.respond(incoming.transaction, builder);
            }
        };
        let related = Related {
            replaces: replacing.as_ref().map(|replacing| replacing.old),
            target: found
                .target
                .unwrap_or_else(|| self.targeted_by(request.headers())),
        };
        let dialog = match Dialog::of_request(request, tag) {
            Ok(dialog) => dialog,
            Err(error) => {
                // §8.1.1.8: an INVITE has one Contact.
                let builder = self.begin(request, StatusCode::BAD_REQUEST).to_tag(tag);
                let builder = builder.reason(&format!("Bad Request ({})", reason(&error)));
                return self.respond(incoming.transaction, builder);
            }
        };
        let headers = request.headers();
        let has_offer = has_description(headers, request.body());
        let mut offer = OfferAnswer::default();
        if has_offer {
            offer.offer_received(fingerprint(headers, request.body()));
        }
        let key = self.next_call();
        let mut call = Call::new(false, tag, contact);
        call.replaces = replacing;
        call.authorizer = self.config.authorizer.clone();
        let comes_directly =
            headers.vias().count() == 1 && !headers.contains(&HeaderName::RecordRoute);
        let is_way_back = incoming.flow.transport.is_stream() && comes_directly;
        call.flow = is_way_back.then(|| Box::new(incoming.flow));
        call.add_server(InviteServer {
            transaction: incoming.transaction,
            cseq: headers.cseq().map_or(0, |cseq| cseq.number),
            request: Some(Box::new(request.clone())),
            is_first: true,
            has_offer,
            state: pending(now, self.config.max_ringing),
            peer_reliable,
            reliable: None,
            expires: expiry(now, request),
            has_described: false,
            is_refresh: false,
            is_overtaken: false,
            is_withdrawn: false,
            before: None,
        });
        let mut session = Session::new(dialog, offer);
        session.learn(headers);
        call.add_session(session);
        self.insert(key, call);
        self.pending.insert(incoming.transaction, key);
        self.outputs
            .push_back(Output::Incoming(key, request.clone(), related));
        self.settle(key);
    }

    /// Takes an INVITE within a dialog. Its CSeq is in order.
    pub(super) fn reinvited(&mut self, now: Instant, incoming: &IncomingRequest, key: CallKey) {
        let request = &incoming.request;
        let has_offer = has_description(request.headers(), request.body());
        let max_ringing = self.config.max_ringing;
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        // §14.2: a second INVITE before the final answer to the first "MUST" get "a 500 ... with a Retry-After header field with
        // a randomly chosen value of between 0 and 10 seconds".
        // RFC 6337 §4.3, UAS-UsI: nor before the final answer to an UPDATE. Who only waits for an ACK to hang up takes none either:
        // a peer that asks again and again would never get its BYE.
        if call.pending_server().is_some() || call.offered.is_some() || call.hangs_up {
            return self.refuse_for_now(incoming);
        }
        // §14.2: "while an INVITE it had sent on that dialog is in progress MUST return a 491"; RFC 5407 §3.1.5: and while an
        // offer of ours waits for its answer.
        let crosses = call.client.is_some() || call.servers.len() >= MAX_UNACKNOWLEDGED;
        let waits = call
            .confirmed()
            .is_some_and(|session| session.offer.is_ours() || session.offer.is_theirs());
        if crosses || waits {
            let builder = self.begin(request, StatusCode::REQUEST_PENDING);
            return self.respond(incoming.transaction, builder);
        }
        if self.config.is_too_short(request) {
            let min_se = self.config.min_se();
            let builder = self.begin(request, StatusCode::SESSION_INTERVAL_TOO_SMALL);
            let builder = builder.header(HeaderName::MinSe, min_se);
            return self.respond(incoming.transaction, builder);
        }
        call.has_changed = false;
        let servers = call.servers.iter_mut();
        servers.for_each(|server| server.is_overtaken = true);
        if let (true, Some(session)) = (has_offer, call.confirmed()) {
            let heard = fingerprint(request.headers(), request.body());
            session.offer.offer_received(heard);
        }
        call.add_server(InviteServer {
            transaction: incoming.transaction,
            cseq: request.headers().cseq().map_or(0, |cseq| cseq.number),
            request: Some(Box::new(request.clone())),
            is_first: false,
            has_offer,
            state: pending(now, max_ringing),
            peer_reliable: Support::of(request.headers(), RELIABLE),
            reliable: None,
            expires: expiry(now, request),
            has_described: false,
            is_refresh: false,
            is_overtaken: false,
            is_withdrawn: false,
            before: None,
        });
        self.pending.insert(incoming.transaction, key);
        if let Some(said) = self.unchanged(key)
            && self.accept(now, key, Some(said)).is_ok()
        {
            let servers = self.calls.get_mut(&key).map(|call| &mut call.servers);
            if let Some(server) = servers.and_then(|servers| servers.last_mut()) {
                server.is_refresh = true;
            }
            return;
        }
        self.tell(key, CallEvent::Reinvited(request.clone()));
    }
}

/// "The UAS core sets a timer for the number of seconds indicated in the header field value" (RFC 3261 §13.3.1).
pub(super) fn expiry(now: Instant, invite: &Request) -> Option<Instant> {
    let seconds = invite.headers().expires().ok().flatten()?;
    now.checked_add(Duration::from_secs(seconds.into()))
}

fn pending(now: Instant, max_ringing: Duration) -> ServerState {
    ServerState::Pending {
        provisional: None,
        repeat: None,
        gives_up: now + max_ringing,
    }
}

/// A reason phrase that says which header field is wrong, and repeats nothing that the peer sent.
fn reason(error: &DialogError) -> &'static str {
    match error {
        DialogError::Missing("Contact") => "Contact is missing",
        DialogError::Missing(_) => "Contact has to be one SIP or SIPS URI",
        _ => "a header field cannot be read",
    }
}

/// Seconds of the Retry-After for lack of room.
pub(super) const BUSY_SECONDS: u32 = 5;

/// INVITEs of the peer's whose ACK is still to come, before the next gets 491.
const MAX_UNACKNOWLEDGED: usize = 4;
