//! What is answered to INVITEs of ours: early dialogs, and every 2xx of a fork (RFC 3261 §13.2.2).

use std::time::Instant;

use sipora_message::{Response, StatusCode};
use sipora_transaction_core::Target;
use sipora_transport::{Destination, Flow};

use super::client::{Accepted, Acknowledgment, ClientInput, ClientState, InviteClient};
use super::core::{CallKey, Calls, Exchange, ExchangeKey, Output};
use super::event::{CallEnd, CallEvent};
use super::offer::{OfferAnswer, has_description};
use super::reason;
use super::said::fingerprint;
use super::session::{Session, SessionInput, to_tag};
use crate::Dialog;

impl Calls {
    /// Takes a response to a request of ours.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        exchange: ExchangeKey,
        response: Response,
        flow: Flow,
        destination: Option<Destination>,
    ) {
        let from = match destination {
            Some(destination) => Target::Destinations(vec![destination]),
            None => Target::Flow(flow),
        };
        let call = match self.exchanges.remove(&exchange) {
            Some(Exchange::Invite(client)) => {
                let key = client.call;
                self.invite_answered(now, exchange, client, response, from);
                key
            }
            Some(Exchange::Within(within)) => {
                let key = within.call;
                self.within_answered(now, exchange, within, response, from);
                key
            }
            None => return,
        };
        self.settle(call);
    }

    /// Takes a 2xx to an INVITE that was given up: a session is there that nobody wants.
    pub(crate) fn handle_stray(&mut self, response: &Response) {
        let headers = response.headers();
        let (Ok(cseq), Ok(Some(contact))) = (headers.cseq(), headers.contact()) else {
            return;
        };
        let uri = contact.uri().to_owned();
        if let Ok(dialog) = Dialog::of_invite(cseq.number, response, &uri) {
            self.farewell(CallKey(0), dialog, cseq.number, &[], None);
        }
    }

    fn invite_answered(
        &mut self,
        now: Instant,
        exchange: ExchangeKey,
        mut client: Box<InviteClient>,
        response: Response,
        from: Target,
    ) {
        let status = response.status();
        if let (Some(authorizer), Some(request), true) =
            (&client.authorizer, &client.request, status.is_final())
        {
            authorizer.learn(request, &response);
        }
        if status.is_provisional() {
            client.on(ClientInput::Provisional);
            if status != StatusCode::TRYING {
                self.progressed(&mut client, response);
            }
            self.exchanges.insert(exchange, Exchange::Invite(client));
            return;
        }
        if status.is_success() {
            let agreed = self.config.agreed(&response);
            let tag = client.tag_of(&response);
            let is_copy = client.accepted.iter().any(|known| known.tag == tag);
            self.accepted(&mut client, response);
            let call = self.calls.get_mut(&client.call);
            let confirmed = call.and_then(|call| call.confirmed());
            if !is_copy && confirmed.is_some_and(|session| *session.remote_tag() == *tag) {
                self.refreshed(now, client.call, agreed);
            }
            self.exchanges.insert(exchange, Exchange::Invite(client));
            return;
        }
        self.refused(now, exchange, client, response, from);
    }

    /// An unreliable provisional answer: each To tag is an early dialog (RFC 3261 §12.1, §13.2.2.1). It does not refresh the
    /// target of one that is there (RFC 6141 §4.7).
    pub(super) fn rings(&mut self, client: &InviteClient, response: Response) {
        let headers = response.headers();
        if let Some(tag) = to_tag(headers) {
            self.add_early(client, &response, &tag);
            let call = self.calls.get_mut(&client.call);
            if let Some(session) = call.and_then(|call| call.session(&tag)) {
                session.learn(headers);
                if client.has_offer && has_description(headers, response.body()) {
                    let heard = fingerprint(headers, response.body());
                    session.offer.preview_received(heard);
                }
            }
        }
        self.tell(client.call, CallEvent::Progress(response));
    }

    /// Makes the early dialog of a provisional answer, where there is none with its tag.
    pub(super) fn add_early(&mut self, client: &InviteClient, response: &Response, tag: &str) {
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        if call.session(tag).is_none()
            && call.sessions.len() + client.ended.len() < MAX_FORKS
            && let Ok(dialog) = Dialog::of_invite(client.cseq, response, &client.uri)
        {
            let offer = first_offer(client);
            call.add_session(Session::new(dialog, offer));
        }
    }

    /// A 2xx: "the UAC core MUST generate an ACK request for each 2xx received" (RFC 3261 §13.2.2.4).
    fn accepted(&mut self, client: &mut InviteClient, response: Response) {
        let was_cancelled = client.state == ClientState::Cancelling;
        client.on(ClientInput::Accepted);
        let tag = client.tag_of(&response);
        if let Some(accepted) = client.accepted.iter().find(|known| known.tag == tag) {
            // §13.2.2.4: "The ACK MUST be passed to the client transport every time a retransmission of the 2xx" comes.
            if let Some(ack) = accepted.ack.clone() {
                let (target, fallback) = match self.calls.get(&client.call) {
                    Some(call) => call.way(&ack.next_hop),
                    None => (ack.target, Some(ack.next_hop)),
                };
                self.outputs.push_back(Output::Send {
                    exchange: None,
                    request: ack.request,
                    target,
                    fallback,
                });
            }
            return;
        }
        if client.accepted.len() >= MAX_FORKS {
            return;
        }
        let is_outside = client.within.as_ref().is_some_and(|it| *it != tag);
        let ack = match (&client.within, is_outside) {
            (_, true) => match self.accepted_outside(client, &response) {
                Some(ack) => Some(ack),
                None => return,
            },
            (Some(_), _) => self.session_changed(client, &tag, response),
            (None, _) => self.answered(client, &tag, response, was_cancelled),
        };
        if !is_outside {
            client.request = None;
            client.body = None;
        }
        client.accepted.push(Accepted { tag, ack });
    }

    /// The INVITE that begins a call was accepted; gives the ACK, if it could be made at once.
    fn answered(
        &mut self,
        client: &mut InviteClient,
        tag: &str,
        response: Response,
        was_cancelled: bool,
    ) -> Option<Acknowledgment> {
        if client.has_ended(tag) {
            return self.accepted_too_late(client, &response, was_cancelled);
        }
        let made = client.dialog_of(tag, &response);
        let Some(call) = self.calls.get_mut(&client.call) else {
            let dialog = made.ok()?;
            self.metrics.forks_ended += 1;
            let authorizer = client.authorizer.clone();
            return self.farewell(
                client.call,
                dialog,
                client.cseq,
                &client.credentials,
                authorizer,
            );
        };
        if call.session(tag).is_none() {
            let dialog = made.ok()?;
            let offer = first_offer(client);
            call.add_session(Session::new(dialog, offer));
        }
        let is_taken = call.confirmed().is_some() || call.hangs_up || call.end.is_some();
        let session = call.session(tag)?;
        if is_taken || was_cancelled {
            return self.unwanted(client, tag, &response, was_cancelled);
        }
        session.accepted(&response);
        session.learn(response.headers());
        // RFC 6337 §3.1.1: after a reliable provisional answer with a description, the others are none.
        let has_described = client.has_described(tag);
        let has_body = has_description(response.headers(), response.body());
        let is_offer = has_body && !client.has_offer && !has_described;
        let heard = fingerprint(response.headers(), response.body());
        if is_offer {
            session.offer.offer_received(heard);
        } else if has_body && !has_described {
            session.offer.answer_received(heard);
        }
        if !has_described {
            session.said = client.offered();
        }
        // §13.2.1: the first reliable answer has to carry what the INVITE leaves open. Many a peer takes the preview for it.
        let is_described = match client.has_offer {
            _ if has_described => !client.awaits_answer(tag),
            true => !session.offer.is_ours() || session.offer.settles_for_preview(),
            false => is_offer,
        };
        call.expires = None;
        if is_described {
            self.tell(client.call, CallEvent::Answered(response));
        }
        // Though their 2xx may still come (§13.2.2.4); those are then made anew.
        client.leaves(self.early_dialogs_end(client.call, Some(tag)));
        if !is_described {
            let acknowledged = self.ack_at_once(client, tag);
            self.acknowledged_all(client.call);
            self.bye(client.call, CallEnd::NotDescribed);
            return acknowledged;
        }
        if is_offer {
            return None;
        }
        self.acknowledged_all(client.call);
        self.ack_at_once(client, tag)
    }

    /// A 2xx that nobody wants: it comes from another fork, crossed the CANCEL, or the call has ended otherwise. It is
    /// acknowledged, and ended; what the call still has to acknowledge stays as it is.
    fn unwanted(
        &mut self,
        client: &mut InviteClient,
        tag: &str,
        response: &Response,
        was_cancelled: bool,
    ) -> Option<Acknowledgment> {
        let call = self.calls.get_mut(&client.call)?;
        let is_fork = call.confirmed().is_some() || call.end.is_some();
        let session = call.session(tag)?;
        session.dialog.confirm(response);
        session.on(SessionInput::Accepted);
        let acknowledged = self.ack_at_once(client, tag);
        let call = self.calls.get_mut(&client.call)?;
        // Where the first of two that crossed the CANCEL has ended the call, nobody has taken it.
        let is_cancelled = matches!(call.end.as_deref(), Some(CallEnd::Cancelled));
        let why = match is_fork && !was_cancelled && !is_cancelled {
            true => Some(reason::ELSEWHERE.into()),
            false => call.reason.clone(),
        };
        self.bye_for(client.call, tag, why.as_deref());
        if is_fork && !was_cancelled {
            self.metrics.forks_ended += 1;
        }
        self.given_up(client, was_cancelled);
        acknowledged
    }

    /// A 2xx of an early dialog whose BYE has been sent or received, whether that has its answer or not: there is no other BYE to
    /// send, and "the UAC sends an ACK to 200 in order to complete the INVITE transaction" (RFC 5407 §3.1.3).
    fn accepted_too_late(
        &mut self,
        client: &mut InviteClient,
        response: &Response,
        was_cancelled: bool,
    ) -> Option<Acknowledgment> {
        let dialog = Dialog::of_invite(client.cseq, response, &client.uri).ok()?;
        let acknowledged = self.ack_apart(client, &dialog);
        self.given_up(client, was_cancelled);
        acknowledged
    }

    /// What was accepted is not wanted: the call is over unless another of its dialogs is there.
    fn given_up(&mut self, client: &mut InviteClient, was_cancelled: bool) {
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        if was_cancelled {
            call.client = None;
            call.ends_as(CallEnd::Cancelled);
            client.leaves(self.early_dialogs_end(client.call, None));
        } else if call.confirmed().is_none() && !call.has_early() {
            // Its last early dialog was ended with BYE, and was accepted meanwhile.
            call.client = None;
            call.ends_as(CallEnd::HungUp);
        }
    }

    /// A re-INVITE of ours was accepted.
    fn session_changed(
        &mut self,
        client: &InviteClient,
        tag: &str,
        response: Response,
    ) -> Option<Acknowledgment> {
        let session = self
            .calls
            .get_mut(&client.call)
            .and_then(|call| call.session(tag));
        let Some(session) = session.filter(|session| session.is_confirmed()) else {
            // RFC 5407 §3.2.3: the BYE has been sent, and the 2xx wants its ACK all the same, by the route set that there was: re-INVITEs
            // "do not cause the dialog's route set to be modified" (RFC 3261 §12.2).
            let mut dialog = client.dialog.clone()?;
            dialog.refresh_target(response.headers());
            return self.ack_apart(client, &dialog);
        };
        session.dialog.refresh_target(response.headers());
        session.learn(response.headers());
        let has_described = client.has_described(tag);
        let has_body = has_description(response.headers(), response.body());
        let is_offer = has_body && !client.has_offer && !has_described;
        let heard = fingerprint(response.headers(), response.body());
        let mut is_new = false;
        if is_offer {
            session.offer.offer_received(heard);
        } else if has_body && !has_described {
            is_new = session.offer.answer_received(heard);
            session.said = client.offered();
        } else if !has_described || client.awaits_answer(tag) {
            // The 2xx may not come before the PRACK of an offer (RFC 3262 §5), which nobody sends any more.
            session.offer.withdrawn();
        }
        match client.is_refresh {
            false => self.tell(client.call, CallEvent::ReinviteAccepted(response)),
            // An offer that is made anew may be answered anew (RFC 3264 §8): then the session has changed, though we have not asked
            // for that.
            true if is_new => self.tell(client.call, CallEvent::Refreshed(response)),
            true => {}
        }
        if is_offer {
            return None;
        }
        self.acknowledged_all(client.call);
        self.ack_at_once(client, tag)
    }

    /// Somebody else has accepted a re-INVITE, by the To tag of the 2xx: that is a dialog of its own, which nobody wants (RFC 3261
    /// §13.2.2.4). The re-INVITE still has no answer in its dialog.
    fn accepted_outside(
        &mut self,
        client: &InviteClient,
        response: &Response,
    ) -> Option<Acknowledgment> {
        let dialog = Dialog::of_invite(client.cseq, response, &client.uri).ok()?;
        self.metrics.forks_ended += 1;
        let authorizer = client.authorizer.clone();
        self.farewell(
            client.call,
            dialog,
            client.cseq,
            &client.credentials,
            authorizer,
        )
    }
}

/// The offer state of a dialog that an INVITE of ours begins.
fn first_offer(client: &InviteClient) -> OfferAnswer {
    let mut offer = OfferAnswer::default();
    if client.has_offer {
        offer.offer_sent();
    }
    offer
}

/// Dialogs that one INVITE may make; a 2xx beyond them is not acknowledged. No proxy forks as far.
pub(super) const MAX_FORKS: usize = 32;
