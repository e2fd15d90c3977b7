//! Calls that are transferred, by us or by the peer (RFC 3515, RFC 5589).

use std::sync::Arc;

use sipora_dialog_core::Refer;
use sipora_message::{Method, StatusCode};

use super::reporter::Reporter;
use super::{CallHandle, CallOptions, TransferRequest, follow};
use crate::{Error, Result, SipResponse, uri};

impl CallHandle {
    /// Transfers the peer: asks it to call `target_uri` (REFER, RFC 5589 §6), and gives its answer. What comes of it is told as
    /// [`CallEvent::TransferProgress`](crate::CallEvent::TransferProgress); who has transferred then hangs up, and need not wait for that.
    ///
    /// The peer may ask its user first, and take up to 64 × T1 (32 s). [`hang_up`](Self::hang_up) may be called meanwhile, and
    /// [`next`](Self::next) afterwards: events wait. Dropped, the future gives up the answer and not the transfer.
    ///
    /// ```no_run
    /// # async fn example(call: &sipora_session_core::CallHandle) -> Result<(), sipora_session_core::Error> {
    /// use std::time::Duration;
    ///
    /// let asks = call.transfer("sip:carol@example.com");
    /// match tokio::time::timeout(Duration::from_secs(10), asks).await {
    ///     Ok(answer) => println!("goes along: {}", answer?.status()),
    ///     // Nobody decides there.
    ///     Err(_) => call.hang_up().await?,
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] where the peer does not want to, [`Error::NotNow`] before the call is up, [`Error::InvalidUri`]; those of [`request`](Self::request).
    pub async fn transfer(&self, target_uri: &str) -> Result<SipResponse> {
        let target = uri::contact("target_uri", target_uri)?;
        self.refer(Refer::to(target)).await
    }

    /// Transfers the peer to whom `other` is a call with, an attended transfer (REFER with Replaces, RFC 5589 §7.3): the peer calls
    /// there, at the Contact of that call, and takes our place in it. What comes of it is told as
    /// [`CallEvent::TransferProgress`](crate::CallEvent::TransferProgress), here; when it has succeeded, `other` ends with
    /// [`PeerHungUp`](crate::CallEnd::PeerHungUp), and this one wants to be hung up. When it has not, both are as they were.
    ///
    /// ```no_run
    /// # async fn example(client: std::sync::Arc<sipora_session_core::SessionCoordinator>, mut to_bob: sipora_session_core::CallHandle)
    /// # -> Result<(), sipora_session_core::Error> {
    /// # const SDP: &str = "v=0\r\n...";
    /// use sipora_session_core::{CallEvent, SipClient};
    ///
    /// // Bob waits while Carol is asked.
    /// to_bob.hold().await?;
    /// let mut to_carol = client.call("sip:carol@example.com", Some(SDP)).await?;
    /// to_carol.answered().await?;
    /// // She wants to speak with him.
    /// to_bob.transfer_to(&to_carol).await?;
    /// while let Some(event) = to_bob.next().await {
    ///     let CallEvent::TransferProgress(report) = event else { continue };
    ///     if report.is_over {
    ///         match report.has_succeeded() {
    ///             true => to_bob.hang_up().await?,
    ///             false => to_bob.resume().await?,
    ///         }
    ///         break;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`transfer`](Self::transfer); [`Error::NotNow`] where `other` is not up: then the choice is to wait, or to hang it up and
    /// [`transfer`](Self::transfer), semi-attended (RFC 5589 §7.6). [`Error::InvalidRequest`] where it is this call, or one of another coordinator.
    pub async fn transfer_to(&self, other: &CallHandle) -> Result<SipResponse> {
        self.check_other(other)?;
        self.refer(Refer::to_call(&other.call)).await
    }

    /// Does what [`transfer_to`](Self::transfer_to) does, where the Contact of that call is nothing that others can call, as behind
    /// many a NAT: the peer calls `target_uri`, as a rule the address that was called for `other` (RFC 5589 §7.5).
    ///
    /// # Errors
    ///
    /// As there; [`Error::InvalidUri`].
    pub async fn transfer_to_address(
        &self,
        other: &CallHandle,
        target_uri: &str,
    ) -> Result<SipResponse> {
        self.check_other(other)?;
        let target = uri::target("target_uri", target_uri, &Method::Invite)?;
        self.refer(Refer::to_call_at(&other.call, target)).await
    }

    fn check_other(&self, other: &CallHandle) -> Result<()> {
        let wrong = |reason: &str| Err(Error::request("other", reason));
        if !Arc::ptr_eq(&self.outbound, &other.outbound) {
            return wrong("is a call of another coordinator");
        }
        if self.key() == other.key() {
            return wrong("is the call itself");
        }
        Ok(())
    }

    /// Does what the peer asks for with a transfer: calls whom it names, with its Referred-By, and in the place of another call where
    /// it says so. Of the other header fields in Refer-To the INVITE has Subject and User-to-User, unless `options` have them: "not all
    /// of them should be honored" (RFC 3261 §19.1.5). What comes of the new call is told to the peer as its handle is read, and 487 where that is dropped before it has
    /// come to anything; but nothing more once the handle of this call is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::TooLate`] where it was refused, [`Error::InvalidRequest`] where it asks for something else than a call; those of
    /// [`call_with`](crate::SipClient::call_with). The peer is told of all but the first.
    pub async fn follow(&self, wish: &TransferRequest, options: CallOptions) -> Result<CallHandle> {
        let id = wish.referral.id;
        // Dropped in here, it is told all the same.
        let mut reporter = Reporter::new(self.call.reporter(id));
        if let Err(error) = self.call.accept_refer(id).await {
            reporter.silence();
            return Err(error.into());
        }
        match follow(&self.outbound, wish, options).await {
            Ok((call, outgoing, target)) => {
                let mut handle = Self::outgoing(call, outgoing, target);
                handle.reporter = Some(reporter);
                Ok(handle)
            }
            Err(error) => {
                reporter.report(StatusCode::SERVICE_UNAVAILABLE).await;
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
        let refer = refer.referred_by(format!("<{}>", self.local));
        let answer = SipResponse::from(self.call.refer(refer).await?.response);
        match answer.is_success() {
            true => Ok(answer),
            false => Err(Error::Rejected(answer)),
        }
    }
}
