//! What comes from the peers: whose it is, the ACKs to our 2xx, and BYE (RFC 3261 §12.2.2, §13.3.1.4, §15.1.2).

use std::time::Instant;

use sipora_message::{HeaderName, Method, Request, Response, ResponseBuilder, StatusCode};
use sipora_transaction_core::{IncomingRequest, ServerTransactionId, Tag};

use super::core::{CallKey, Calls, Output};
use super::event::{CallEnd, CallEvent};
use super::offer::has_description;
use super::refer::REFER;
use super::replacing::Found;
use super::said::fingerprint;
use super::server::{InviteServer, ServerState};
use super::session::{SessionInput, SessionState};
use crate::DialogError;

impl Calls {
    /// Takes a request that matches no transaction; says whether it is a call's. `identity` gives, where it begins one, the tag and
    /// the contact that [`first_invite`](Self::first_invite) wants.
    pub(crate) fn handle_request(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        identity: impl FnOnce() -> (Tag, String),
    ) -> bool {
        let request = &incoming.request;
        let headers = request.headers();
        let method = request.method();
        let is_ack = *method == Method::Ack;
        if *method == Method::Cancel {
            return false;
        }
        let Some(our_tag) = headers.to().ok().and_then(|to| to.tag()) else {
            match method {
                Method::Invite => {
                    let (tag, contact) = identity();
                    self.first_invite(now, incoming, tag.as_str(), contact, Found::default());
                    return true;
                }
                Method::Refer => return self.referred_outside(now, incoming, identity),
                Method::Options if self.config.answers_options => {
                    let (tag, _) = identity();
                    self.asked_for_options_outside(incoming, tag.as_str());
                    return true;
                }
                _ => return false,
            }
        };
        let Some((key, their_tag)) = self.find(request, our_tag) else {
            return *method == Method::Notify && self.first_notify(now, incoming, our_tag);
        };
        if is_ack {
            self.take_flow(incoming, key);
            self.acknowledged(request, key);
        } else if matches!(method, Method::Subscribe | Method::Notify) && !is_of_refer(request) {
            // Another usage of the dialog (RFC 5057), another user's.
            return false;
        } else {
            self.within_dialog(now, incoming, key, their_tag);
        }
        self.settle(key);
        true
    }

    /// The call, and its dialog by the peer's tag, that a request stands in.
    fn find<'a>(&mut self, request: &'a Request, our_tag: &str) -> Option<(CallKey, &'a str)> {
        let key = *self.by_tag.get(our_tag)?;
        let headers = request.headers();
        let from = headers.from().ok()?;
        let their_tag = from.tag().unwrap_or_default();
        let session = self.calls.get_mut(&key)?.session(their_tag)?;
        let is_same = headers.call_id().ok()? == &*session.dialog.id().call_id;
        is_same.then_some((key, their_tag))
    }

    /// Who came by a connection of its own, with nobody between, and comes by another, is reached over the newest: the one before is
    /// gone, or soon will be.
    fn take_flow(&mut self, incoming: &IncomingRequest, key: CallKey) {
        let call = self.calls.get_mut(&key);
        if let Some(call) = call.filter(|call| call.flow.is_some() || call.wants_flow)
            && incoming.flow.transport.is_stream()
            && incoming.request.headers().vias().count() == 1
        {
            call.flow = Some(Box::new(incoming.flow));
            call.wants_flow = false;
        }
    }

    fn within_dialog(&mut self, now: Instant, incoming: &IncomingRequest, key: CallKey, tag: &str) {
        let request = &incoming.request;
        let Some(session) = self.calls.get_mut(&key).and_then(|call| call.session(tag)) else {
            return;
        };
        let state = session.state;
        if let Err(error) = session.dialog.receive(request) {
            // §12.2.2: lower than the last: "the UAS MUST reject" it "with a 500".
            let status = match error {
                DialogError::OutOfOrder { .. } => StatusCode::SERVER_INTERNAL_ERROR,
                _ => StatusCode::BAD_REQUEST,
            };
            let builder = self.begin(request, status);
            return self.respond(incoming.transaction, builder);
        }
        self.take_flow(incoming, key);
        // RFC 3891 §3: "if a Replaces header field is present in a request other than INVITE, the UAS MUST reject the request with
        // a 400"; in one that begins no call there is nothing to replace with.
        if self.config.takes_replaces && request.headers().contains(&HeaderName::Replaces) {
            let builder = self.begin(request, StatusCode::BAD_REQUEST);
            return self.respond(
                incoming.transaction,
                builder.reason("Bad Request (Replaces)"),
            );
        }
        // Never for ACK and CANCEL (§8.2.2.3).
        if let Some(unknown) = self.config.not_understood(request) {
            return self.refuse_extension(incoming, &unknown);
        }
        let describes = matches!(
            request.method(),
            Method::Invite | Method::Update | Method::Prack
        );
        if describes && self.config.is_foreign(request) {
            let builder = self.begin(request, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            let builder = self.config.add_accepted(builder);
            return self.respond(incoming.transaction, builder);
        }
        match request.method() {
            // The call in it is over already.
            Method::Bye if state == SessionState::Lingering => {
                let builder = self.begin(request, StatusCode::CALL_DOES_NOT_EXIST);
                self.respond(incoming.transaction, builder);
            }
            Method::Bye => self.ended_by_peer(now, incoming, key, tag),
            // RFC 5407 §2: in Mortal "BYE can be accepted, and the other messages ... are responded to with an error".
            // They belong to another usage, which goes on (RFC 5057 §5.5).
            Method::Notify => self.notified(now, incoming, key, tag),
            Method::Subscribe => self.refer_subscribed(now, incoming, key, tag),
            _ if matches!(state, SessionState::Mortal | SessionState::Lingering) => {
                let builder = self.begin(request, StatusCode::CALL_DOES_NOT_EXIST);
                self.respond(incoming.transaction, builder);
            }
            Method::Invite => self.reinvited(now, incoming, key),
            Method::Options => self.asked_for_options(incoming),
            Method::Info => self.informed(incoming, key),
            Method::Refer if self.config.takes_refers => {
                self.asked_to_refer(now, incoming, key, tag);
            }
            // Outside of calls it would be taken, as Allow says.
            Method::Refer if self.config.knows_refer() => {
                let builder = self.begin(request, StatusCode::FORBIDDEN);
                self.respond(incoming.transaction, builder);
            }
            Method::Message if self.config.takes_messages => self.written_to(incoming, key),
            Method::Prack => self.pracked(now, incoming, key, tag),
            Method::Update => self.updated(now, incoming, key, tag),
            method => {
                // Not 481, which would end the call at the peer.
                let status = match method {
                    Method::Other(_) => StatusCode::NOT_IMPLEMENTED,
                    _ => StatusCode::METHOD_NOT_ALLOWED,
                };
                let builder = self
                    .begin(request, status)
                    .header(HeaderName::Allow, &self.allow);
                self.respond(incoming.transaction, builder);
            }
        }
    }

    /// Takes an ACK to a 2xx of ours.
    pub(super) fn acknowledged(&mut self, request: &Request, key: CallKey) {
        let cseq = request.headers().cseq().map_or(0, |cseq| cseq.number);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let matches = |server: &InviteServer| !server.is_pending() && server.cseq == cseq;
        let Some(at) = call.servers.iter().position(matches) else {
            // A copy.
            return;
        };
        let server = call.servers.remove(at);
        let late_prack = server.late_prack();
        let ServerState::Accepted(sent) = server.state else {
            return;
        };
        call.late_prack = late_prack.map(Box::new);
        let describes = has_description(request.headers(), request.body());
        if let Some(session) = call.confirmed() {
            session.on(SessionInput::Acknowledged);
            if sent.has_offer {
                match describes {
                    true => {
                        let heard = fingerprint(request.headers(), request.body());
                        session.offer.answer_received(heard);
                    }
                    false => session.answer_withdrawn(),
                }
            }
        }
        if server.is_first && sent.has_offer && !describes {
            // §13.2.2.4: "If the 2xx contains an offer ... the ACK MUST carry an answer in its body". Of a later one, the session
            // there was remains.
            return self.bye(key, CallEnd::NotDescribed);
        }
        let hangs_up = call.hangs_up && !call.unacknowledged();
        if !server.is_refresh {
            self.tell(key, CallEvent::Acknowledged(request.clone()));
        }
        if hangs_up {
            self.bye(key, CallEnd::HungUp);
        }
    }

    /// "If the server retransmits the 2xx response for 64*T1 seconds without receiving an ACK, the dialog is confirmed, but the
    /// session SHOULD be terminated. This is accomplished with a BYE" (RFC 3261 §13.3.1.4, §14.2). Not so where we have "received a
    /// new re-INVITE with a higher CSeq sequence number" (RFC 6141 §5.4): it may have lost its address, and has come again.
    pub(super) fn not_acknowledged(&mut self, key: CallKey, at: usize) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        if !call.servers.remove(at).is_overtaken {
            return self.bye(key, CallEnd::NotAcknowledged);
        }
        if !call.unacknowledged()
            && let Some(session) = call.confirmed()
        {
            session.on(SessionInput::Acknowledged);
        }
        if call.hangs_up && !call.unacknowledged() {
            self.bye(key, CallEnd::HungUp);
        }
    }

    /// Takes a BYE within a dialog (RFC 3261 §15.1.2).
    pub(super) fn ended_by_peer(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        key: CallKey,
        tag: &str,
    ) {
        let builder = self.begin(&incoming.request, StatusCode::OK);
        self.respond(incoming.transaction, builder);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let session = call.session(tag);
        let state = session.as_ref().map(|session| session.state);
        if let Some(session) = session.filter(|it| it.state == SessionState::Mortal) {
            // Both sides hung up at once (RFC 5407 §3.2.1): ours is still to be answered.
            session.both_ended = true;
            return;
        }
        if call.pending_server().is_some() {
            // "The UAS MUST still respond to any pending requests received for that dialog", "RECOMMENDED" with 487.
            self.refuse_pending(key, StatusCode::REQUEST_TERMINATED);
        }
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let is_early = state == Some(SessionState::Early);
        let mut sessions = call.sessions.iter();
        let others_ring = sessions.any(|it| it.remote_tag() != tag && it.is_up());
        if !(is_early && others_ring) {
            call.end = Some(Box::new(CallEnd::PeerHungUp(incoming.request.clone())));
        }
        match is_early {
            true => self.early_ended(key, tag),
            false => self.let_go_of_invite(key),
        }
        self.leave(now, key, tag);
        if is_early {
            self.drop_open(key);
            self.cancel_if_alone(key);
            return;
        }
        self.refuse_offered(key, StatusCode::REQUEST_TERMINATED);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        // RFC 5407 §3.1.6: the 2xx whose ACK was lost is not repeated any more.
        call.servers.clear();
        call.glare = None;
        call.timer = None;
    }

    /// Refuses what requires an extension that we do not understand (RFC 3261 §8.2.2.3).
    pub(super) fn refuse_extension(&mut self, incoming: &IncomingRequest, unknown: &str) {
        let builder = self.begin(&incoming.request, StatusCode::BAD_EXTENSION);
        let builder = builder.header(HeaderName::Unsupported, unknown);
        self.respond(incoming.transaction, builder);
    }

    /// Begins an answer to a request within a dialog.
    pub(super) fn begin(&self, request: &Request, status: StatusCode) -> ResponseBuilder {
        let builder = Response::for_request(request, status);
        match &self.config.product {
            Some(product) => builder.header(HeaderName::Server, product),
            None => builder,
        }
    }

    pub(super) fn respond(&mut self, transaction: ServerTransactionId, builder: ResponseBuilder) {
        match builder.print() {
            Ok(response) => self
                .outputs
                .push_back(Output::Respond(transaction, response)),
            Err(error) => tracing::debug!(%error, "no answer can be made to the request"),
        }
    }
}

/// Says whether SUBSCRIBE or NOTIFY are about the subscription that a REFER makes.
fn is_of_refer(request: &Request) -> bool {
    let event = request.headers().event();
    event.is_ok_and(|event| event.is_some_and(|it| it.package().eq_ignore_ascii_case(REFER)))
}
