//! INVITEs of ours, and what cancels them (RFC 3261 §13.2, §14.1, §9.1).

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{HeaderName, Method, Request, RequestBuilder, Response, StatusCode, Uri};
use sipora_transaction_core::Target;

use super::client::{ClientInput, ClientState, InviteClient, credentials};
use super::core::{CallKey, Calls, Exchange, ExchangeKey, Output};
use super::event::{CallError, CallEvent, Invite};
use super::invited::expiry;
use super::offer::{check_described, has_description, is_description};
use super::packages::recv_info;
use super::record::{Call, Glare};
use crate::user::with_credentials;
use crate::{ApiError, Authorizer, Body};

impl Calls {
    /// Begins a call.
    pub(crate) fn invite(
        &mut self,
        now: Instant,
        invite: Invite,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<CallKey, CallError> {
        if self.calls.len() >= self.config.max_calls {
            self.metrics.refused_for_lack_of_room += 1;
            return Err(CallError::Busy);
        }
        // RFC 3261 §19.1.1, §19.1.5: what asks for something else than an INVITE must not be called, and neither may be sent.
        if invite.uri.has_headers() || invite.uri.param("method").is_some() {
            return Err(CallError::Invalid(
                "the Request-URI has headers or a method: Uri::to_request_uri has none".to_owned(),
            ));
        }
        check_described(invite.body.as_ref())?;
        let tag = self.ids.tag();
        let contact = format!("<{}>", invite.contact);
        let mut builder = Request::builder(Method::Invite, &invite.uri)
            .from(format!("{};tag={tag}", invite.from))
            .to(&invite.to)
            .cseq(FIRST_CSEQ);
        builder = match &invite.call_id {
            Some(call_id) => builder.call_id(call_id),
            None => builder.call_id(self.ids.call_id()),
        };
        for (name, value) in &invite.headers {
            builder = builder.header(name.clone(), value);
        }
        let request = self.finish_invite(None, builder, &contact, invite.body.as_ref())?;
        let target = match invite.target.clone() {
            Some(target) => target,
            None => crate::next_hop(&request)
                .map(Target::Uri)
                .map_err(|error| CallError::Invalid(error.to_string()))?,
        };
        let key = self.next_call();
        let mut call = Call::new(true, tag.as_str(), contact);
        call.authorizer = authorizer.clone();
        call.expires = expiry(now, &request);
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
            is_refresh: false,
            lengthened: 0,
            credentials: Vec::new(),
            accepted: Vec::new(),
            ended: Vec::new(),
            numbers: Vec::new(),
            dialog: None,
            progress: Vec::new(),
        };
        self.send_invite(exchange, client, None);
        self.settle(key);
        Ok(key)
    }

    /// Sends a re-INVITE: to change the session with an offer in `body`, or to ask the peer for one without.
    pub(crate) fn reinvite(&mut self, key: CallKey, body: Option<Body>) -> Result<(), CallError> {
        check_described(body.as_ref())?;
        self.reinvite_again(key, body, 0, false)
    }

    /// Replaces the offer of a re-INVITE or UPDATE that is to be sent once more: what was agreed on meanwhile may want another.
    pub(crate) fn reoffer(&mut self, key: CallKey, body: Body) -> Result<(), CallError> {
        if !is_description(Some(&body), &[]) {
            return Err(CallError::BodyNeeded("an offer replaces an offer"));
        }
        let glare = self.call(key)?.glare.as_mut();
        let glare = glare.filter(|glare| glare.body.is_some() && !glare.is_refresh);
        glare.ok_or(CallError::Gone)?.body = Some(body);
        Ok(())
    }

    /// Sends a re-INVITE or UPDATE that met the peer's once more (RFC 3261 §14.1, RFC 3311 §5.3).
    pub(super) fn again_after_glare(&mut self, key: CallKey, glare: Glare) {
        let Glare {
            at,
            count,
            body,
            update,
            is_refresh,
        } = glare;
        // Whoever has changed the session meanwhile has refreshed it.
        if is_refresh && !self.is_refreshing(key) {
            return;
        }
        let sent = match update.clone() {
            Some(tag) => self.update_again(key, tag, body.clone(), count, is_refresh),
            None => self.reinvite_again(key, body.clone(), count, is_refresh),
        };
        match sent {
            Ok(()) => {}
            // The peer's own is under way: after it.
            Err(CallError::NotNow(_)) => {
                if let Ok(call) = self.call(key) {
                    let at = at + GLARE_STEP;
                    call.glare = Some(Box::new(Glare {
                        at,
                        body,
                        count,
                        update,
                        is_refresh,
                    }));
                }
            }
            Err(CallError::Gone) => self.never_again(key, update.is_some()),
            // The peer has said meanwhile that it takes UPDATE no more.
            Err(_) if is_refresh => self.refresh_refused(at, key, None, Method::Update),
            Err(error) if update.is_some() => {
                let error = ApiError::invalid("Allow", error.to_string());
                self.tell(key, CallEvent::UpdateFailed(error));
            }
            // What was sent once can be sent again.
            Err(_) => {}
        }
    }

    /// Tells of a change that cannot be sent once more, since the numbers of the dialog are used up; where the call has ended
    /// meanwhile, or ends, nothing.
    fn never_again(&mut self, key: CallKey, is_update: bool) {
        if !self.calls.get(&key).is_some_and(|call| call.is_up()) {
            return;
        }
        let event = match is_update {
            true => Some(CallEvent::UpdateFailed(ApiError::Cancelled { cseq: None })),
            false => {
                let refusal = Response::builder(StatusCode::SERVICE_UNAVAILABLE).build();
                refusal.ok().map(CallEvent::ReinviteRefused)
            }
        };
        if let Some(event) = event {
            self.tell(key, event);
        }
    }

    /// Sends a re-INVITE, perhaps once more (§14.1), or to refresh the session.
    pub(super) fn reinvite_again(
        &mut self,
        key: CallKey,
        body: Option<Body>,
        glares: u8,
        is_refresh: bool,
    ) -> Result<(), CallError> {
        let call = self.call(key)?;
        // RFC 3261 §14.1: "a UAC MUST NOT initiate a new INVITE transaction within a dialog while another INVITE transaction
        // is in progress in either direction".
        if call.client.is_some() || !call.servers.is_empty() || call.glare.is_some() {
            return Err(CallError::NotNow("another INVITE is in progress"));
        }
        // RFC 6337 §4.3, UAC-UI.
        if call.updating.is_some() || call.offered.is_some() {
            return Err(CallError::NotNow("an UPDATE is in progress"));
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
        let dialog = Box::new(session.dialog.clone());
        let request = self.finish_invite(Some(key), builder, &contact, body.as_ref())?;
        let has_offer = has_description(request.headers(), request.body());
        let exchange = self.next_exchange();
        let call = self.call(key)?;
        if let (true, Some(session)) = (has_offer, call.session(&tag)) {
            session.offer.offer_sent();
        }
        call.client = Some(exchange);
        call.has_changed = false;
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
            is_refresh,
            lengthened: 0,
            credentials: Vec::new(),
            has_offer,
            accepted: Vec::new(),
            ended: Vec::new(),
            numbers: Vec::new(),
            dialog: Some(dialog),
            progress: Vec::new(),
        };
        self.send_invite(exchange, client, fallback);
        Ok(())
    }

    /// Cancels an INVITE that has no final answer (RFC 3261 §9.1).
    pub(super) fn cancel(&mut self, exchange: ExchangeKey, reason: Option<Box<str>>) {
        let Some(Exchange::Invite(client)) = self.exchanges.get_mut(&exchange) else {
            return;
        };
        if client.on(ClientInput::Cancel) {
            self.outputs.push_back(Output::Cancel(exchange, reason));
        }
    }

    fn finish_invite(
        &self,
        call: Option<CallKey>,
        mut builder: RequestBuilder,
        contact: &str,
        body: Option<&Body>,
    ) -> Result<Request, CallError> {
        // RFC 6086 §5.2.3: "MUST include a Recv-Info header field in the initial INVITE request, even if the sender is not
        // willing to receive INFO requests associated with any Info Package".
        builder = builder
            .contact(contact)
            .header(HeaderName::Allow, &self.allow)
            .header(recv_info(), &self.recv_info);
        builder = self.config.add_options(builder);
        builder = self.add_timer(call, builder);
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

    pub(super) fn send_invite(
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
}

/// The CSeq number of the first request that a side sends.
pub(super) const FIRST_CSEQ: u32 = 1;

/// How long a re-INVITE that is due again waits for the peer's, before it looks again.
const GLARE_STEP: Duration = Duration::from_millis(200);
