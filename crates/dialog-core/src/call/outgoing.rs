//! INVITEs of ours, and what is answered to them (RFC 3261 §13.2, §14.1, §9.1).

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{HeaderName, Method, Request, RequestBuilder, Response, StatusCode, Uri};
use sipora_transaction_core::Target;
use sipora_transport::{Destination, Flow};

use super::client::{Accepted, ClientInput, ClientState, InviteClient, credentials};
use super::core::{Call, CallKey, Calls, Exchange, ExchangeKey, Glare, Output, Within};
use super::event::{CallEnd, CallError, CallEvent, Invite};
use super::offer::{OfferAnswer, has_description};
use super::session::{Session, SessionInput, SessionState, to_tag};
use super::{ALLOW, is_challenge};
use crate::user::{Retry, retry, with_credentials};
use crate::{ApiError, Authorizer, Body, Dialog};

impl Calls {
    /// Begins a call.
    pub(crate) fn invite(
        &mut self,
        invite: Invite,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<CallKey, CallError> {
        if self.calls.len() >= self.config.max_calls {
            self.metrics.refused_for_lack_of_room += 1;
            return Err(CallError::Busy);
        }
        let tag = self.ids.tag();
        let contact = format!("<{}>", invite.contact);
        let mut builder = Request::builder(Method::Invite, &invite.uri)
            .from(format!("{};tag={tag}", invite.from))
            .to(&invite.to)
            .call_id(self.ids.call_id())
            .cseq(FIRST_CSEQ);
        for (name, value) in &invite.headers {
            builder = builder.header(name.clone(), value);
        }
        let request = self.finish_invite(builder, &contact, invite.body.as_ref())?;
        let target = match invite.target.clone() {
            Some(target) => target,
            None => crate::next_hop(&request)
                .map(Target::Uri)
                .map_err(|error| CallError::Invalid(error.to_string()))?,
        };
        let key = self.next_call();
        let mut call = Call::new(true, tag.as_str(), contact);
        call.authorizer = authorizer.clone();
        let exchange = self.next_exchange();
        call.client = Some(exchange);
        self.insert(key, call);
        let client = InviteClient {
            call: key,
            within: None,
            state: ClientState::Calling,
            cseq: FIRST_CSEQ,
            uri: invite.uri,
            has_offer: has_description(request.headers(), request.body()),
            request: Some(Box::new(request)),
            body: None,
            target: Some(target),
            authorizer,
            retries: 0,
            glares: 0,
            credentials: Vec::new(),
            accepted: Vec::new(),
        };
        self.send_invite(exchange, client, None);
        Ok(key)
    }

    /// Sends a re-INVITE: to change the session with an offer in `body`, or to ask the peer for one without.
    pub(crate) fn reinvite(&mut self, key: CallKey, body: Option<Body>) -> Result<(), CallError> {
        self.reinvite_again(key, body, 0)
    }

    /// Sends a re-INVITE that met the peer's once more (RFC 3261 §14.1).
    pub(super) fn again_after_glare(&mut self, key: CallKey, glare: Glare) {
        let (at, count, body) = (glare.at, glare.count, glare.body);
        match self.reinvite_again(key, body.clone(), count) {
            Ok(()) => {}
            // The peer's own is under way: after it.
            Err(CallError::NotNow(_)) => {
                if let Ok(call) = self.call(key) {
                    let at = at + GLARE_STEP;
                    call.glare = Some(Glare { at, body, count });
                }
            }
            Err(_) => {}
        }
    }

    fn reinvite_again(
        &mut self,
        key: CallKey,
        body: Option<Body>,
        glares: u8,
    ) -> Result<(), CallError> {
        let call = self.call(key)?;
        // RFC 3261 §14.1: "a UAC MUST NOT initiate a new INVITE transaction within a dialog while another INVITE transaction
        // is in progress in either direction".
        if call.client.is_some() || !call.servers.is_empty() || call.glare.is_some() {
            return Err(CallError::NotNow("another INVITE is in progress"));
        }
        let (contact, authorizer) = (call.contact.clone(), call.authorizer.clone());
        let session = call.confirmed().ok_or(CallError::Gone)?;
        if session.offer.is_ours() || session.offer.is_theirs() {
            return Err(CallError::NotNow("an offer has no answer yet"));
        }
        let builder = session.dialog.request(Method::Invite, FIRST_CSEQ);
        let builder = builder.ok_or(CallError::Gone)?;
        let tag: Box<str> = session.remote_tag().into();
        let (next_hop, uri) = (
            session.dialog.next_hop().clone(),
            session.dialog.remote_target().clone(),
        );
        let cseq = session.dialog.local_cseq().unwrap_or(FIRST_CSEQ);
        let request = self.finish_invite(builder, &contact, body.as_ref())?;
        let has_offer = has_description(request.headers(), request.body());
        let exchange = self.next_exchange();
        let call = self.call(key)?;
        if let (true, Some(session)) = (has_offer, call.session(&tag)) {
            session.offer.offer_sent();
        }
        call.client = Some(exchange);
        let (target, fallback) = call.way(&next_hop);
        let client = InviteClient {
            call: key,
            within: Some(tag),
            state: ClientState::Calling,
            cseq,
            uri,
            request: Some(Box::new(request)),
            body,
            target: Some(target),
            authorizer,
            retries: 0,
            glares,
            credentials: Vec::new(),
            has_offer,
            accepted: Vec::new(),
        };
        self.send_invite(exchange, client, fallback);
        Ok(())
    }

    /// Gives the answer to the offer in a 2xx to our INVITE, in its ACK (RFC 3261 §13.2.2.4).
    pub(crate) fn acknowledge(&mut self, key: CallKey, body: Body) -> Result<(), CallError> {
        let call = self.call(key)?;
        let Some(exchange) = call.client else {
            return Err(CallError::Gone);
        };
        self.send_ack(exchange, Some(&body))
    }

    /// Cancels an INVITE that has no final answer (RFC 3261 §9.1).
    pub(super) fn cancel(&mut self, exchange: ExchangeKey) {
        let Some(Exchange::Invite(client)) = self.exchanges.get_mut(&exchange) else {
            return;
        };
        if client.on(ClientInput::Cancel) {
            self.outputs.push_back(Output::Cancel(exchange));
        }
    }

    /// Says whether a 2xx of this INVITE waits for its ACK.
    pub(super) fn awaits_ack(&self, exchange: ExchangeKey) -> bool {
        let Some(Exchange::Invite(client)) = self.exchanges.get(&exchange) else {
            return false;
        };
        client
            .accepted
            .iter()
            .any(|accepted| accepted.ack.is_none())
    }

    /// Sends the ACK that a 2xx waits for.
    pub(super) fn send_ack(
        &mut self,
        exchange: ExchangeKey,
        body: Option<&Body>,
    ) -> Result<(), CallError> {
        let Some(Exchange::Invite(client)) = self.exchanges.get_mut(&exchange) else {
            return Err(CallError::Gone);
        };
        let waits = |accepted: &&mut Accepted| accepted.ack.is_none();
        let accepted = client.accepted.iter_mut().find(waits);
        let accepted = accepted.ok_or(CallError::NotNow("there is nothing to acknowledge"))?;
        let call = self.calls.get_mut(&client.call).ok_or(CallError::Gone)?;
        let session = call.session(&accepted.tag).ok_or(CallError::Gone)?;
        let ack = ack(&session.dialog, client.cseq, &client.credentials, body)
            .ok_or_else(|| CallError::Invalid("the body cannot be sent".to_owned()))?;
        match body {
            Some(_) => session.offer.answer_sent(),
            None => session.offer.withdrawn(),
        }
        session.on(SessionInput::Acknowledged);
        let next_hop = session.dialog.next_hop().clone();
        let (target, fallback) = call.way(&next_hop);
        accepted.ack = Some((ack.clone(), target.clone()));
        call.client = None;
        self.outputs.push_back(Output::Send {
            exchange: None,
            request: ack,
            target,
            fallback,
        });
        Ok(())
    }

    fn finish_invite(
        &self,
        mut builder: RequestBuilder,
        contact: &str,
        body: Option<&Body>,
    ) -> Result<Request, CallError> {
        builder = builder.contact(contact).header(HeaderName::Allow, ALLOW);
        if let Some(product) = &self.config.product {
            builder = builder.header(HeaderName::UserAgent, product);
        }
        if let Some(body) = body {
            builder = builder.body(&body.content_type, body.bytes.clone());
        }
        builder
            .build()
            .map_err(|error| CallError::Invalid(error.to_string()))
    }

    fn send_invite(
        &mut self,
        exchange: ExchangeKey,
        mut client: InviteClient,
        fallback: Option<Uri>,
    ) {
        let (Some(mut request), Some(target)) = (client.request.take(), client.target.take())
        else {
            return;
        };
        if let Some(authorizer) = client.authorizer.as_ref().filter(|_| client.retries == 0) {
            let headers = authorizer.preempt(&request, self.ids.tag().as_str());
            if !headers.is_empty()
                && let Ok(authorized) = with_credentials(&request, &headers, None)
            {
                *request = authorized;
            }
        }
        client.credentials = credentials(&request);
        self.outputs.push_back(Output::Send {
            exchange: Some(exchange),
            request: (*request).clone(),
            target,
            fallback,
        });
        client.request = Some(request);
        let invite = Exchange::Invite(Box::new(client));
        self.exchanges.insert(exchange, invite);
    }

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
                self.within_answered(exchange, within, response, from);
                key
            }
            None => return,
        };
        self.settle(call);
    }

    /// Takes the news that no 2xx will come any more for an INVITE that was accepted.
    pub(crate) fn handle_ended(&mut self, exchange: ExchangeKey) {
        let Some(Exchange::Invite(client)) = self.exchanges.get(&exchange) else {
            return;
        };
        let key = client.call;
        self.forget(exchange);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        // What was accepted was ended at once, and no other fork has accepted.
        if call.client == Some(exchange) && call.confirmed().is_none() {
            call.client = None;
            call.sessions
                .retain(|session| session.state == SessionState::Mortal);
            call.end.get_or_insert(CallEnd::HungUp);
            self.settle(key);
        }
    }

    /// Takes the news that a request of ours got no answer.
    pub(crate) fn handle_failed(&mut self, exchange: ExchangeKey, error: ApiError) {
        let key = match self.exchanges.remove(&exchange) {
            Some(Exchange::Invite(client)) => {
                self.invite_failed(exchange, &client, error);
                client.call
            }
            Some(Exchange::Within(within)) => {
                self.within_failed(&within);
                within.call
            }
            None => return,
        };
        self.settle(key);
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
            if status != StatusCode::TRYING && client.within.is_none() {
                self.rings(&client, response);
            }
            self.exchanges.insert(exchange, Exchange::Invite(client));
            return;
        }
        if status.is_success() {
            self.accepted(&mut client, response);
            self.exchanges.insert(exchange, Exchange::Invite(client));
            return;
        }
        self.refused(now, exchange, client, response, from);
    }

    /// A provisional answer: each To tag is an early dialog (RFC 3261 §12.1, §13.2.2.1).
    fn rings(&mut self, client: &InviteClient, response: Response) {
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        let headers = response.headers();
        if let Some(tag) = to_tag(headers) {
            let is_answer = client.has_offer && has_description(headers, response.body());
            if call.session(&tag).is_none()
                && call.sessions.len() < MAX_FORKS
                && let Ok(dialog) = Dialog::of_invite(client.cseq, &response, &client.uri)
            {
                let offer = first_offer(client);
                call.add_session(Session::new(dialog, offer));
            }
            if let Some(session) = call.session(&tag) {
                session.dialog.refresh_target(headers);
                if is_answer {
                    session.offer.answer_received();
                }
            }
        }
        self.tell(client.call, CallEvent::Progress(response));
    }

    /// A 2xx: "the UAC core MUST generate an ACK request for each 2xx received" (RFC 3261 §13.2.2.4).
    fn accepted(&mut self, client: &mut InviteClient, response: Response) {
        let was_cancelled = client.state == ClientState::Cancelling;
        client.on(ClientInput::Accepted);
        client.request = None;
        client.body = None;
        let tag = to_tag(response.headers()).unwrap_or_default();
        if let Some(accepted) = client.accepted.iter().find(|known| known.tag == tag) {
            // §13.2.2.4: "The ACK MUST be passed to the client transport every time a retransmission of the 2xx" comes.
            if let Some((request, target)) = accepted.ack.clone() {
                self.outputs.push_back(Output::Send {
                    exchange: None,
                    request,
                    target,
                    fallback: None,
                });
            }
            return;
        }
        if client.accepted.len() >= MAX_FORKS {
            return;
        }
        let ack = match client.within.is_some() {
            true => self.session_changed(client, &tag, response),
            false => self.answered(client, &tag, response, was_cancelled),
        };
        client.accepted.push(Accepted { tag, ack });
    }

    /// The INVITE that begins a call was accepted; gives the ACK, if it could be made at once.
    fn answered(
        &mut self,
        client: &InviteClient,
        tag: &str,
        response: Response,
        was_cancelled: bool,
    ) -> Option<(Request, Target)> {
        let made = Dialog::of_invite(client.cseq, &response, &client.uri);
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
        let is_taken = call.confirmed().is_some() || call.hangs_up;
        let session = call.session(tag)?;
        if is_taken || was_cancelled || session.state == SessionState::Mortal {
            return self.unwanted(client, tag, &response, was_cancelled);
        }
        session.accepted(&response);
        let has_body = has_description(response.headers(), response.body());
        let is_offer = has_body && !client.has_offer;
        if is_offer {
            session.offer.offer_received();
        } else if has_body {
            session.offer.answer_received();
        }
        // The other early dialogs end, though their 2xx may still come (§13.2.2.4); those are then made anew.
        call.sessions
            .retain(|session| session.remote_tag() == tag || session.state == SessionState::Mortal);
        self.tell(client.call, CallEvent::Answered(response));
        if is_offer {
            return None;
        }
        self.ack_at_once(client, tag)
    }

    /// A 2xx that nobody wants: it comes from another fork, crossed the CANCEL, or its early dialog was ended with BYE. It is
    /// acknowledged, and ended.
    fn unwanted(
        &mut self,
        client: &InviteClient,
        tag: &str,
        response: &Response,
        was_cancelled: bool,
    ) -> Option<(Request, Target)> {
        let call = self.calls.get_mut(&client.call)?;
        let session = call.session(tag)?;
        // RFC 5407 §3.1.3: the BYE is on its way already.
        let has_bye = session.state == SessionState::Mortal;
        session.dialog.confirm(response);
        session.on(SessionInput::Accepted);
        let acknowledged = self.ack_at_once(client, tag);
        if !has_bye {
            self.bye_for(client.call, tag);
        }
        let call = self.calls.get_mut(&client.call)?;
        if was_cancelled {
            call.sessions
                .retain(|session| session.state != SessionState::Early);
            call.client = None;
            call.end.get_or_insert(CallEnd::Cancelled);
        } else if call.confirmed().is_some() {
            self.metrics.forks_ended += 1;
        } else if !call.has_early() {
            // Its last early dialog was ended with BYE, and was accepted meanwhile.
            call.client = None;
            call.end.get_or_insert(CallEnd::HungUp);
        }
        acknowledged
    }

    /// A re-INVITE of ours was accepted.
    fn session_changed(
        &mut self,
        client: &InviteClient,
        tag: &str,
        response: Response,
    ) -> Option<(Request, Target)> {
        let session = self
            .calls
            .get_mut(&client.call)
            .and_then(|call| call.session(tag));
        let Some(session) = session.filter(|session| session.is_confirmed()) else {
            // RFC 5407 §3.2.3: the BYE has been sent, and the 2xx wants its ACK all the same.
            let dialog = Dialog::of_invite(client.cseq, &response, &client.uri).ok()?;
            let request = ack(&dialog, client.cseq, &client.credentials, None)?;
            let target = Target::Uri(dialog.next_hop().clone());
            return Some(self.send_detached(request, target, None));
        };
        session.dialog.refresh_target(response.headers());
        let has_body = has_description(response.headers(), response.body());
        let is_offer = has_body && !client.has_offer;
        if is_offer {
            session.offer.offer_received();
        } else if has_body {
            session.offer.answer_received();
        } else {
            session.offer.withdrawn();
        }
        self.tell(client.call, CallEvent::ReinviteAccepted(response));
        if is_offer {
            return None;
        }
        self.ack_at_once(client, tag)
    }

    fn ack_at_once(&mut self, client: &InviteClient, tag: &str) -> Option<(Request, Target)> {
        let call = self.calls.get_mut(&client.call)?;
        let session = call.session(tag)?;
        let request = ack(&session.dialog, client.cseq, &client.credentials, None)?;
        session.on(SessionInput::Acknowledged);
        let next_hop = session.dialog.next_hop().clone();
        let is_confirmed = session.is_confirmed();
        let (target, fallback) = call.way(&next_hop);
        if is_confirmed {
            call.client = None;
        }
        Some(self.send_detached(request, target, fallback))
    }

    fn send_detached(
        &mut self,
        request: Request,
        target: Target,
        fallback: Option<Uri>,
    ) -> (Request, Target) {
        self.outputs.push_back(Output::Send {
            exchange: None,
            request: request.clone(),
            target: target.clone(),
            fallback,
        });
        (request, target)
    }

    /// Acknowledges a 2xx of a call that is over, and ends its dialog.
    fn farewell(
        &mut self,
        call: CallKey,
        mut dialog: Dialog,
        cseq: u32,
        credentials: &[(HeaderName, String)],
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Option<(Request, Target)> {
        let request = ack(&dialog, cseq, credentials, None)?;
        let target = Target::Uri(dialog.next_hop().clone());
        let acknowledged = self.send_detached(request, target.clone(), None);
        let bye = dialog.request(Method::Bye, FIRST_CSEQ)?.build().ok()?;
        let within = Within {
            call,
            tag: dialog.id().remote_tag.clone(),
            method: Method::Bye,
            cseq: dialog.local_cseq().unwrap_or(FIRST_CSEQ),
            request: bye,
            retries: 0,
            authorizer,
        };
        self.send_within(within, target, None);
        Some(acknowledged)
    }

    fn refused(
        &mut self,
        now: Instant,
        exchange: ExchangeKey,
        mut client: Box<InviteClient>,
        response: Response,
        from: Target,
    ) {
        if client.state != ClientState::Cancelling
            && is_challenge(&response)
            && self.invite_again(&mut client, &response)
        {
            client.target = Some(from);
            self.send_invite(exchange, *client, None);
            return;
        }
        let is_caller = self
            .calls
            .get(&client.call)
            .is_some_and(|call| call.is_caller);
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        if call.client == Some(exchange) {
            call.client = None;
        }
        let Some(tag) = &client.within else {
            let end = match client.state {
                ClientState::Cancelling => CallEnd::Cancelled,
                _ => CallEnd::Refused(response),
            };
            call.end.get_or_insert(end);
            // §13.2.2.3: "Early dialogs ... are terminated".
            call.sessions
                .retain(|session| session.state == SessionState::Mortal);
            return;
        };
        let session = call.session(tag).filter(|session| session.is_confirmed());
        let Some(session) = session else {
            return;
        };
        session.offer.withdrawn();
        match response.status() {
            StatusCode::REQUEST_PENDING if client.glares < MAX_GLARES => {
                // §14.1: the owner of the Call-ID waits 2.1 to 4 s, the other 0 to 2 s, "in units of 10 ms".
                let (low, high) = if is_caller { (210, 400) } else { (0, 200) };
                let wait = Duration::from_millis(10 * self.ids.number_in(low, high));
                call.glare = Some(Glare {
                    at: now + wait,
                    body: client.body,
                    count: client.glares + 1,
                });
            }
            // §12.2.1.2: "If the response for a request within a dialog is a 481 or a 408 ..., the UAC SHOULD terminate the
            // dialog."
            StatusCode::CALL_DOES_NOT_EXIST | StatusCode::REQUEST_TIMEOUT => {
                self.bye(client.call, CallEnd::Lost);
            }
            _ => self.tell(client.call, CallEvent::ReinviteRefused(response)),
        }
    }

    /// Makes an INVITE anew with credentials, if there are any for its challenge.
    fn invite_again(&mut self, client: &mut InviteClient, response: &Response) -> bool {
        let (Some(authorizer), Some(request)) = (&client.authorizer, &client.request) else {
            return false;
        };
        let session = client.within.as_ref().and_then(|tag| {
            let call = self.calls.get_mut(&client.call)?;
            call.session(tag)
        });
        let last = session
            .as_ref()
            .and_then(|session| session.dialog.local_cseq());
        let last = last.unwrap_or(client.cseq).max(client.cseq);
        let cnonce = self.ids.tag();
        let again = retry(
            request,
            last,
            client.retries,
            &**authorizer,
            response,
            cnonce.as_str(),
        );
        let Retry::Send(request) = again else {
            return false;
        };
        if let Some(session) = session {
            session.dialog.sent(last + 1);
        }
        client.request = Some(request);
        client.cseq = last + 1;
        client.retries += 1;
        client.state = ClientState::Calling;
        true
    }

    fn invite_failed(&mut self, exchange: ExchangeKey, client: &InviteClient, error: ApiError) {
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        if call.client == Some(exchange) {
            call.client = None;
        }
        if client.within.is_some() {
            if let Some(session) = call.confirmed() {
                session.offer.withdrawn();
                self.bye(client.call, CallEnd::Lost);
            }
            return;
        }
        let end = match client.state {
            ClientState::Cancelling => CallEnd::Cancelled,
            _ => CallEnd::Failed(error),
        };
        call.end.get_or_insert(end);
        call.sessions
            .retain(|session| session.state == SessionState::Mortal);
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

/// Makes the ACK to a 2xx; "the ACK MUST contain the same credentials as the INVITE" (RFC 3261 §13.2.2.4).
fn ack(
    dialog: &Dialog,
    cseq: u32,
    credentials: &[(HeaderName, String)],
    body: Option<&Body>,
) -> Option<Request> {
    let mut builder = dialog.ack(cseq);
    for (name, value) in credentials {
        builder = builder.header(name.clone(), value);
    }
    if let Some(body) = body {
        builder = builder.body(&body.content_type, body.bytes.clone());
    }
    builder.build().ok()
}

/// The CSeq number of the first request that a side sends.
pub(super) const FIRST_CSEQ: u32 = 1;

/// Dialogs that one INVITE may make; a 2xx beyond them is not acknowledged. No proxy forks as far.
const MAX_FORKS: usize = 32;

/// Times that a re-INVITE is sent again for 491. Each has one chance in two at least.
const MAX_GLARES: u8 = 8;

/// How long a re-INVITE that is due again waits for the peer's, before it looks again.
const GLARE_STEP: Duration = Duration::from_millis(200);
