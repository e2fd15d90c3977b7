//! The trait [`SipClient`]: what a SIP client does outside calls.

use std::time::Duration;

use async_trait::async_trait;
use sipora_message::Request;

use crate::{Credentials, RegistrationHandle, Result, SipResponse};

/// Does what a SIP client does outside calls: it registers, asks for capabilities and sends requests of its own making.
///
/// Implemented for `Arc<SessionCoordinator>`, once [`enable_sip_client`] was called on its builder; on a coordinator that
/// was built without it, every method fails with [`Error::NotSupported`].
///
/// # Answers and errors
///
/// The `send_*` methods give **any** final answer as `Ok`: a 404 is data, with its status, reason, headers and body.
/// [`register`] gives `Ok` for a 2xx alone; any other final answer is [`Error::Rejected`] with the answer in it, or
/// [`Error::AuthenticationFailed`] where credentials were there and the registrar did not take them. No final answer is
/// [`Error::Timeout`]; a target that cannot be reached is [`Error::Transport`].
///
/// # URIs
///
/// URIs are `sip:` or `sips:` URIs as text (RFC 3261 §19.1), such as `sip:alice@example.com`. One that cannot be read is
/// [`Error::InvalidUri`], which names the argument, the URI, the place and the reason; nothing is sent then.
/// The transport follows from `sips` or `;transport=` of the target (else UDP), the port from the URI, the address from
/// DNS. An outbound proxy, where the builder was given one, comes first.
///
/// # Cancellation
///
/// A future of this trait that is dropped leaves nothing behind: its transaction is forgotten and retransmissions end.
/// What was already sent may still be acted on by the peer.
///
/// [`enable_sip_client`]: crate::SessionManagerBuilder::enable_sip_client
/// [`register`]: SipClient::register
/// [`Error::NotSupported`]: crate::Error::NotSupported
/// [`Error::Rejected`]: crate::Error::Rejected
/// [`Error::AuthenticationFailed`]: crate::Error::AuthenticationFailed
/// [`Error::Timeout`]: crate::Error::Timeout
/// [`Error::Transport`]: crate::Error::Transport
/// [`Error::InvalidUri`]: crate::Error::InvalidUri
#[async_trait]
pub trait SipClient: Send + Sync {
    /// Binds `contact_uri` to the address-of-record `from_uri` at `registrar_uri`, and keeps it bound (RFC 3261 §10.2).
    ///
    /// - `registrar_uri`: where the REGISTER goes; also its Request-URI, so it has no user part, as in `sip:example.com`.
    /// - `from_uri`: the address-of-record, as in `sip:alice@example.com`; it is both To and From.
    /// - `contact_uri`: where requests for the address-of-record shall be sent, as in `sip:alice@192.168.1.100:5060`;
    ///   [`SessionCoordinator::contact_uri`] builds the one that leads to this coordinator.
    /// - `expires`: how long, in seconds, to ask for. The registrar decides: [`RegistrationHandle::expires`] is what it
    ///   granted. Zero removes the binding at once; the handle is then [`Unregistered`] and refreshes nothing.
    ///
    /// A challenge is answered with the credentials of the builder. A 423 (Interval Too Brief) is tried once more with the
    /// registrar's Min-Expires. After a 2xx the binding is refreshed before it expires, until the handle is dropped or
    /// [`unregister`]ed.
    ///
    /// # Errors
    ///
    /// [`Rejected`] for any final answer but a 2xx, [`AuthenticationFailed`] where the registrar refused the credentials
    /// or asked for others, and those that are common to this trait. Nothing is refreshed after an error: the first
    /// REGISTER either succeeds or is the caller's to repeat.
    ///
    /// [`SessionCoordinator::contact_uri`]: crate::SessionCoordinator::contact_uri
    /// [`Unregistered`]: crate::RegistrationState::Unregistered
    /// [`unregister`]: RegistrationHandle::unregister
    /// [`Rejected`]: crate::Error::Rejected
    /// [`AuthenticationFailed`]: crate::Error::AuthenticationFailed
    async fn register(
        &self,
        registrar_uri: &str,
        from_uri: &str,
        contact_uri: &str,
        expires: u32,
    ) -> Result<RegistrationHandle>;

    /// Does what [`register`](SipClient::register) does, with credentials for this registration alone.
    ///
    /// They come before those of the builder and serve this registration's refreshes, queries and removal too.
    async fn register_with_credentials(
        &self,
        registrar_uri: &str,
        from_uri: &str,
        contact_uri: &str,
        expires: u32,
        credentials: Credentials,
    ) -> Result<RegistrationHandle>;

    /// Asks `target_uri` what it can do, with OPTIONS (RFC 3261 §11), and gives its final answer.
    ///
    /// Waits for the builder's request timeout, 32 s by default (64 × T1).
    async fn send_options(&self, target_uri: &str) -> Result<SipResponse>;

    /// Sends `request` outside any dialog to where its Request-URI and Route lead, and gives the final answer.
    ///
    /// The way to send what this trait has no method for, and to add headers of one's own. Any method goes but INVITE, ACK
    /// and CANCEL, which are not requests with one final answer: [`Error::ProtocolError`].
    ///
    /// What RFC 3261 §8.1.1 requires and the request lacks is added: To (the Request-URI), From (the builder's identity),
    /// a From tag, Call-ID, CSeq, Max-Forwards, User-Agent. What is there stays as it is. Via belongs to the transaction:
    /// a request that carries one is refused with [`Error::ProtocolError`]. A challenge is answered with the builder's credentials, under
    /// CSeq + 1; without any that fit, the 401 or 407 is the answer.
    ///
    /// `timeout` bounds the whole: DNS, connecting, every target tried, the retry with credentials.
    ///
    /// [`Error::ProtocolError`]: crate::Error::ProtocolError
    async fn send_raw_request(&self, request: Request, timeout: Duration) -> Result<SipResponse>;
}
