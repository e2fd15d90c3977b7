//! Calls that are transferred, by us or by the peer (RFC 3515, RFC 5589).

use sipora_dialog_core::Refer;
use sipora_message::StatusCode;

use super::{CallHandle, CallOptions, TransferRequest, follow};
use crate::{Error, Result, SipResponse, uri};

impl CallHandle {
    /// Transfers the peer: asks it to call `target_uri` (REFER, RFC 5589 §6), and gives its answer. What comes of it is told as
    /// [`CallEvent::TransferProgress`]; who has transferred then hangs up, and need not wait for that.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] where the peer does not want to, [`Error::InvalidUri`]; those of [`request`](Self::request).
    pub async fn transfer(&self, target_uri: &str) -> Result<SipResponse> {
        let target = uri::contact("target_uri", target_uri)?;
        self.refer(Refer::to(target)).await
    }

    /// Does what the peer asks for with a transfer: calls whom it names, with its Referred-By, and in the place of another call where
    /// it says so. What comes of the new call is told to the peer as its handle is read.
    ///
    /// # Errors
    ///
    /// [`Error::TooLate`] where it was refused, [`Error::InvalidRequest`] where it asks for something else than a call; those of
    /// [`call_with`](crate::SipClient::call_with). The peer is told of all but the first.
    pub async fn follow(&self, wish: &TransferRequest, options: CallOptions) -> Result<CallHandle> {
        let id = wish.referral.id;
        self.call.accept_refer(id).await?;
        let reporter = self.call.reporter(id);
        match follow(&self.outbound, wish, options).await {
            Ok((call, outgoing, target)) => {
                let mut handle = Self::outgoing(call, outgoing, target);
                handle.reporter = Some(reporter);
                Ok(handle)
            }
            Err(error) => {
                let _ = reporter.report(StatusCode::SERVICE_UNAVAILABLE).await;
                Err(error)
            }
        }
    }

    /// Refuses a transfer that the peer asks for, with 300 to 699: 603 is what RFC 5057 §5.6 advises.
    ///
    /// # Errors
    ///
    /// [`Error::TooLate`] where it was accepted or refused already.
    pub async fn refuse_transfer(&self, wish: &TransferRequest, status: StatusCode) -> Result<()> {
        Ok(self.call.reject_refer(wish.referral.id, status).await?)
    }

    async fn refer(&self, refer: Refer) -> Result<SipResponse> {
        let from = self
            .outgoing
            .as_ref()
            .map_or(&self.outbound.identity, |out| &out.from);
        let refer = refer.referred_by(format!("<{from}>"));
        let answer = SipResponse::from(self.call.refer(refer).await?.response);
        match answer.is_success() {
            true => Ok(answer),
            false => Err(Error::Rejected(answer)),
        }
    }
}
