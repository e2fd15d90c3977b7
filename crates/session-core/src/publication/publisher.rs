//! The PUBLISHes of one publication.

use std::time::Instant;

use sipora_dialog_core::Exchange;
use sipora_message::{HeaderName, Method, StatusCode, Uri};
use sipora_transaction_core::{CallId, Tag};

use crate::outgoing::{Identity, Outbound, last_cseq};
use crate::registration::{expires_header, min_expires, now};
use crate::{Error, Result, SipResponse};

/// What is published.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) content_type: String,
    pub(crate) body: String,
}

/// One piece of event state at one server.
pub(crate) struct Publisher {
    pub(super) target: Uri,
    pub(super) event: String,
    pub(super) document: Document,
    /// The entity tag of what the server has of us.
    pub(super) tag: Option<String>,
    pub(super) call_id: CallId,
    pub(super) from_tag: Tag,
    pub(super) cseq: u32,
    pub(super) asked: u32,
}

/// A 2xx to a PUBLISH.
pub(super) struct Published {
    pub(super) seconds: u32,
    pub(super) asked_at: Instant,
    pub(super) response: SipResponse,
}

/// RFC 3903 §4.1, table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// Initial, or Modify where there is an entity tag.
    Put,
    Refresh,
    Remove,
}

impl Publisher {
    /// Publishes the document: as new state, or in the place of what is there.
    pub(super) async fn publish(&mut self, outbound: &Outbound) -> Result<Published> {
        self.kept(outbound, Operation::Put).await
    }

    /// Lets what is there last longer.
    pub(super) async fn refresh(&mut self, outbound: &Outbound) -> Result<Published> {
        self.kept(outbound, Operation::Refresh).await
    }

    /// Removes what is there. What is gone already is removed.
    pub(super) async fn remove(&mut self, outbound: &Outbound) -> Result<()> {
        if self.tag.is_none() {
            return Ok(());
        }
        let deadline = now() + outbound.timeout;
        let exchange = self.send(outbound, Operation::Remove, deadline).await?;
        if exchange.response.status() != StatusCode::CONDITIONAL_REQUEST_FAILED {
            accepted(outbound, &exchange)?;
        }
        self.tag = None;
        Ok(())
    }

    async fn kept(&mut self, outbound: &Outbound, operation: Operation) -> Result<Published> {
        let deadline = now() + outbound.timeout;
        let mut operation = match self.tag {
            None => Operation::Put,
            Some(_) => operation,
        };
        let (mut is_longer, mut is_new) = (false, self.tag.is_none());
        loop {
            let asked_at = now();
            let exchange = self.send(outbound, operation, deadline).await?;
            let response = &exchange.response;
            match response.status() {
                // RFC 3903 §5: the entity tag is discarded, and the whole is published anew.
                StatusCode::CONDITIONAL_REQUEST_FAILED if !is_new => {
                    self.tag = None;
                    is_new = true;
                    operation = Operation::Put;
                }
                StatusCode::INTERVAL_TOO_BRIEF if !is_longer => {
                    let Some(minimum) = min_expires(response, self.asked) else {
                        accepted(outbound, &exchange)?;
                        return Err(Error::Closed);
                    };
                    self.asked = minimum;
                    is_longer = true;
                }
                _ => {
                    accepted(outbound, &exchange)?;
                    return self.published(exchange, asked_at);
                }
            }
        }
    }

    fn published(&mut self, exchange: Exchange, asked_at: Instant) -> Result<Published> {
        let response = exchange.response;
        let tag = response.headers().sip_etag().ok().flatten();
        // RFC 3903 §4.1: "For each successful PUBLISH request, the ESC will generate and assign an entity-tag".
        self.tag = tag.map(str::to_owned);
        // §4.2: the server "may lower the suggested lifetime […] but it will never extend it".
        let seconds = expires_header(&response)
            .unwrap_or(self.asked)
            .min(self.asked);
        let response = SipResponse::from(response);
        let reason = match (&self.tag, seconds) {
            (None, _) => "no entity tag (SIP-ETag)",
            (_, 0) => "nothing is granted",
            _ => {
                return Ok(Published {
                    seconds,
                    asked_at,
                    response,
                });
            }
        };
        let reason = reason.to_owned();
        Err(Error::ProtocolError { reason, response })
    }

    async fn send(
        &mut self,
        outbound: &Outbound,
        operation: Operation,
        deadline: Instant,
    ) -> Result<Exchange> {
        self.cseq += 1;
        let identity = Identity {
            from: &outbound.identity,
            from_tag: &self.from_tag,
            to: &self.target,
            call_id: &self.call_id,
            cseq: self.cseq,
        };
        let expires = match operation {
            Operation::Remove => 0,
            _ => self.asked,
        };
        let mut builder = outbound
            .begin(Method::Publish, &self.target, &identity)
            .header(HeaderName::Event, &self.event)
            .expires(expires);
        if let Some(tag) = &self.tag {
            builder = builder.header(HeaderName::SipIfMatch, tag);
        }
        if operation == Operation::Put {
            builder = builder.body(&self.document.content_type, self.document.body.clone());
        }
        let request = builder
            .build()
            .map_err(|error| Error::request("PUBLISH", error.to_string()))?;
        let left = deadline.saturating_duration_since(now());
        let result = outbound
            .send(request, outbound.authorizer.clone(), left)
            .await;
        self.cseq = last_cseq(&result, self.cseq);
        result.map_err(|error| match Error::from(error) {
            // What a first answer took, a 412 say, belongs to the wait.
            Error::Timeout { after } => Error::Timeout {
                after: after.saturating_add(outbound.timeout.saturating_sub(left)),
            },
            other => other,
        })
    }
}

/// Sorts final answers: a 2xx goes on, everything else is an error.
fn accepted(outbound: &Outbound, exchange: &Exchange) -> Result<()> {
    let status = exchange.response.status();
    if status.is_success() {
        return Ok(());
    }
    let response = SipResponse::from(exchange.response.clone());
    if !matches!(status.as_u16(), 401 | 407) || outbound.credentials.is_empty() {
        return Err(Error::Rejected(response));
    }
    let reason = match &exchange.refusal {
        Some(refusal) => refusal.to_string(),
        None => "the server keeps asking for credentials".to_owned(),
    };
    Err(Error::AuthenticationFailed { reason, response })
}
