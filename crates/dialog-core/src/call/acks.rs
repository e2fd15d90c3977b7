//! ACKs to the 2xx of INVITEs of ours (RFC 3261 §13.2.2.4), and the BYE to who has accepted and is not wanted.

use std::sync::Arc;

use sipora_message::{HeaderName, Method, Request, Uri};
use sipora_transaction_core::Target;

use super::client::{Accepted, Acknowledgment, InviteClient};
use super::core::{CallKey, Calls, Exchange, ExchangeKey, Output, Within};
use super::event::CallError;
use super::outgoing::FIRST_CSEQ;
use super::said::Said;
use super::session::SessionInput;
use crate::{Authorizer, Body, Dialog};

impl Calls {
    /// Gives the answer to the offer in a 2xx to our INVITE, in its ACK (RFC 3261 §13.2.2.4).
    pub(crate) fn acknowledge(&mut self, key: CallKey, body: Body) -> Result<(), CallError> {
        let call = self.call(key)?;
        let Some(exchange) = call.client else {
            return Err(CallError::Gone);
        };
        self.send_ack(exchange, Some(&body))
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
            Some(body) => {
                session.offer.answer_sent();
                session.said = Some(Said::from(body.clone()));
            }
            None => session.offer.withdrawn(),
        }
        session.on(SessionInput::Acknowledged);
        let next_hop = session.dialog.next_hop().clone();
        let (target, fallback) = call.way(&next_hop);
        accepted.ack = Some(Acknowledgment {
            request: ack.clone(),
            target: target.clone(),
            next_hop,
        });
        call.client = None;
        self.outputs.push_back(Output::Send {
            exchange: None,
            request: ack,
            target,
            fallback,
        });
        Ok(())
    }

    /// The INVITE that the call has waited for has its ACK.
    pub(super) fn acknowledged_all(&mut self, key: CallKey) {
        if let Some(call) = self.calls.get_mut(&key) {
            call.client = None;
        }
    }

    pub(super) fn ack_at_once(
        &mut self,
        client: &InviteClient,
        tag: &str,
    ) -> Option<Acknowledgment> {
        let call = self.calls.get_mut(&client.call)?;
        let session = call.session(tag)?;
        let request = ack(&session.dialog, client.cseq, &client.credentials, None)?;
        session.on(SessionInput::Acknowledged);
        let next_hop = session.dialog.next_hop().clone();
        let (target, fallback) = call.way(&next_hop);
        Some(self.send_detached(request, target, fallback, next_hop))
    }

    /// Acknowledges a 2xx in a dialog that is not, or no more, one of the call's.
    pub(super) fn ack_apart(
        &mut self,
        client: &InviteClient,
        dialog: &Dialog,
    ) -> Option<Acknowledgment> {
        let request = ack(dialog, client.cseq, &client.credentials, None)?;
        let next_hop = dialog.next_hop();
        let (target, fallback) = match self.calls.get(&client.call) {
            Some(call) => call.way(next_hop),
            None => (Target::Uri(next_hop.clone()), None),
        };
        Some(self.send_detached(request, target, fallback, next_hop.clone()))
    }

    fn send_detached(
        &mut self,
        request: Request,
        target: Target,
        fallback: Option<Uri>,
        next_hop: Uri,
    ) -> Acknowledgment {
        self.outputs.push_back(Output::Send {
            exchange: None,
            request: request.clone(),
            target: target.clone(),
            fallback,
        });
        Acknowledgment {
            request,
            target,
            next_hop,
        }
    }

    /// Acknowledges a 2xx of a call that is over, and ends its dialog.
    pub(super) fn farewell(
        &mut self,
        call: CallKey,
        mut dialog: Dialog,
        cseq: u32,
        credentials: &[(HeaderName, String)],
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Option<Acknowledgment> {
        let request = ack(&dialog, cseq, credentials, None)?;
        let next_hop = dialog.next_hop().clone();
        let target = Target::Uri(next_hop.clone());
        let acknowledged = self.send_detached(request, target.clone(), None, next_hop);
        let bye = dialog.request(Method::Bye, FIRST_CSEQ)?.build().ok()?;
        let within = Within {
            call,
            tag: dialog.id().remote_tag.clone(),
            method: Method::Bye,
            cseq: dialog.local_cseq().unwrap_or(FIRST_CSEQ),
            request: bye,
            retries: 0,
            authorizer,
            asked: None,
            refer: None,
        };
        self.send_within(within, target, None);
        Some(acknowledged)
    }
}

/// Makes the ACK to a 2xx; "the ACK MUST contain the same credentials as the INVITE" (RFC 3261 §13.2.2.4).
pub(super) fn ack(
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
