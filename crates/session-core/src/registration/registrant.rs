//! The REGISTERs of one registration: they share Call-ID and From tag, and number through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_dialog_core::{Authorizer, Exchange, TransactionId};
use sipora_message::{HeaderName, Method, Response, Uri};
use sipora_transaction_core::{CallId, Tag};

use super::Binding;
use super::expiry;
use crate::flows::Watched;
use crate::outgoing::{Identity, Outbound, last_cseq};
use crate::{Error, Result, SipResponse};

/// One address-of-record at one registrar.
///
/// RFC 3261 §10.2: "All registrations from a UAC SHOULD use the same Call-ID header field value for registrations sent to
/// a particular registrar", and CSeq goes up by one with each.
pub(crate) struct Registrant {
    pub(crate) registrar: Uri,
    pub(crate) address_of_record: Uri,
    pub(crate) contact: Uri,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) has_credentials: bool,
    pub(crate) call_id: CallId,
    pub(crate) from_tag: Tag,
    /// The number last sent.
    pub(crate) cseq: u32,
    /// What to ask for, in seconds; a 423 raises it.
    pub(crate) asked: u32,
}

/// A 2xx to a REGISTER for our contact.
pub(crate) struct Granted {
    pub(crate) seconds: u32,
    pub(crate) asked_at: Instant,
    pub(crate) response: SipResponse,
    pub(crate) transaction_id: TransactionId,
    /// The flow of the REGISTER, over which the registrar may reach us, where such flows end.
    pub(crate) flow: Option<Watched>,
}

impl Registrant {
    /// Binds our contact, and tries once more after a 423 (RFC 3261 §10.2.8).
    pub(crate) async fn register(&mut self, outbound: &Outbound) -> Result<Granted> {
        let deadline = now() + outbound.timeout;
        let mut asked_at = now();
        let mut exchange = self.send(outbound, Some(self.asked), deadline).await?;
        if let Some(minimum) = self.too_brief(&exchange.response) {
            self.asked = minimum;
            asked_at = now();
            exchange = self.send(outbound, Some(minimum), deadline).await?;
        }
        let exchange = self.accepted(exchange)?;
        let seconds = match self.asked {
            0 => 0,
            asked => expiry::granted(&exchange.response, &self.contact, asked),
        };
        let flow = outbound.flows.follow(&exchange);
        let response = SipResponse::from(exchange.response);
        if seconds == 0 && self.asked > 0 {
            let reason = format!("{} s were asked for and 0 s granted", self.asked);
            return Err(Error::ProtocolError { reason, response });
        }
        Ok(Granted {
            seconds,
            asked_at,
            response,
            transaction_id: exchange.transaction_id,
            flow,
        })
    }

    /// What to ask for after a 423; a removal is never too brief.
    fn too_brief(&self, response: &Response) -> Option<u32> {
        let status = response.status().as_u16();
        (status == 423 && self.asked > 0)
            .then(|| expiry::min_expires(response, self.asked))
            .flatten()
    }

    /// Removes our contact, and no other (RFC 3261 §10.2.2).
    pub(crate) async fn remove(&mut self, outbound: &Outbound) -> Result<SipResponse> {
        let exchange = self
            .send(outbound, Some(0), now() + outbound.timeout)
            .await?;
        Ok(self.accepted(exchange)?.response.into())
    }

    /// Fetches every binding of the address-of-record: a REGISTER without Contact (RFC 3261 §10.2.3).
    pub(crate) async fn query(&mut self, outbound: &Outbound) -> Result<Vec<Binding>> {
        let exchange = self.send(outbound, None, now() + outbound.timeout).await?;
        let response = self.accepted(exchange)?.response;
        let default = expiry::expires_header(&response);
        Ok(expiry::bindings(&response)
            .into_iter()
            .map(|listed| Binding {
                is_ours: listed.uri.equivalent(&self.contact),
                uri: listed.uri.as_str().to_owned(),
                expires: listed.expires.or(default).unwrap_or_default(),
                q: listed.q,
            })
            .collect())
    }

    async fn send(
        &mut self,
        outbound: &Outbound,
        expires: Option<u32>,
        deadline: Instant,
    ) -> Result<Exchange> {
        self.cseq += 1;
        let identity = Identity {
            from: &self.address_of_record,
            from_tag: &self.from_tag,
            to: &self.address_of_record,
            call_id: &self.call_id,
            cseq: self.cseq,
        };
        let mut builder = outbound.begin(Method::Register, &self.registrar, &identity);
        if let Some(expires) = expires {
            // Both forms, the same value: registrars exist that read one of them only.
            builder = builder
                .header(
                    HeaderName::Contact,
                    format!("<{}>;expires={expires}", self.contact),
                )
                .header(HeaderName::Expires, expires.to_string());
        }
        let request = builder
            .build()
            .map_err(|error| Error::request("REGISTER", error.to_string()))?;
        let left = deadline.saturating_duration_since(now());
        let authorizer = self.authorizer.clone();
        // RFC 6223: what is negotiated lasts until the next REGISTER that binds, which offers it anew.
        let result = match expires {
            Some(1..) => outbound.send_binding(request, authorizer, left).await,
            _ => outbound.send(request, authorizer, left).await,
        };
        self.cseq = last_cseq(&result, self.cseq);
        result.map_err(|error| match Error::from(error) {
            // What a first answer took, a 423 say, belongs to the wait.
            Error::Timeout { after } => Error::Timeout {
                after: after.saturating_add(outbound.timeout.saturating_sub(left)),
            },
            other => other,
        })
    }

    /// Sorts final answers: a 2xx goes on, everything else is an error.
    fn accepted(&self, exchange: Exchange) -> Result<Exchange> {
        let status = exchange.response.status();
        if status.is_success() {
            return Ok(exchange);
        }
        let response = SipResponse::from(exchange.response);
        if !matches!(status.as_u16(), 401 | 407) || !self.has_credentials {
            return Err(Error::Rejected(response));
        }
        let reason = match exchange.refusal {
            Some(refusal) => refusal.to_string(),
            None => "the registrar keeps asking for credentials".to_owned(),
        };
        Err(Error::AuthenticationFailed { reason, response })
    }
}

/// The time by tokio's clock, which is virtual in tests.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Adds nothing where the sum would overflow.
pub(crate) fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or(from)
}
