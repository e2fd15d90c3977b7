//! The trait [`SipClient`]: what a SIP client does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sipora_message::Request;

use crate::{
    CallHandle, CallOptions, Credentials, Error, PublicationHandle, ReachabilityHandle,
    RegistrationHandle, Result, SipResponse, SubscriptionHandle,
};

/// Does what a SIP client does: it registers, asks for capabilities, subscribes, publishes, calls, and sends messages and
/// requests of its own making.
///
/// Implemented for [`SessionCoordinator`](crate::SessionCoordinator) and for an `Arc` of whatever implements it, so that
/// `Arc<SessionCoordinator>` and `Arc<dyn SipClient>` are clients too. On a coordinator that was built without
/// [`enable_sip_client`], every method fails with [`Error::NotSupported`]. Methods that were added
/// later have default bodies, so that implementations of one's own keep compiling.
///
/// # Answers and errors
///
/// The `send_*` methods give **any** final answer as `Ok`: a 404 is data, with its status, reason, headers and body.
/// [`register`], `subscribe` and `publish` give `Ok` for a 2xx alone. `call` gives `Ok` when the INVITE is on its way; what comes of it,
/// and what can go wrong in a call, is said by [`CallHandle`]. What can go wrong:
///
/// | error | when | was anything sent? |
/// | --- | --- | --- |
/// | [`Error::NotSupported`] | the coordinator is no client | no |
/// | [`Error::InvalidUri`] | an argument is no URI of the kind needed; names argument, place and reason | no |
/// | [`Error::InvalidRequest`] | a raw request, a message or an INVITE cannot be sent as it is; names the header | no |
/// | [`Error::NotImplemented`] | the next hop wants a transport that this version does not speak, such as TLS | no |
/// | [`Error::Rejected`] | `register`, `subscribe`, `publish`, [`CallHandle::answered`], [`CallHandle::transfer`]: a final answer that is no 2xx | yes |
/// | [`Error::AuthenticationFailed`] | `register`, `subscribe`, `publish`, [`CallHandle::answered`]: credentials were there, and 401 or 407 is the final answer | yes |
/// | [`Error::ProtocolError`] | `register`, `publish`: a 2xx that grants nothing; `publish`: one without entity tag | yes |
/// | [`Error::Timeout`] | no final answer in time | perhaps |
/// | [`Error::Transport`] | the target cannot be resolved or reached | perhaps |
/// | [`Error::Busy`] | too many requests are in flight, or too many subscriptions or calls live | no |
/// | [`Error::TooLate`], [`Error::NotNow`] | in a [`CallHandle`]: the peer was faster, or something else comes first | no |
/// | [`Error::RegistrationEnded`] | a [`RegistrationHandle`] whose registration was refused for good; names the cause | no |
/// | [`Error::Closed`] | the coordinator was shut down, or what a handle stands for has ended | perhaps |
///
/// # Who sends
///
/// [`register`] names its user itself. What else is sent comes from the builder's identity ([`with_identity`]); without one
/// From is `sip:anonymous@anonymous.invalid`, which servers that relay, tell and take state for their own users alone answer
/// with 403, even where the credentials are right.
///
/// # URIs
///
/// URIs are `sip:` or `sips:` URIs as text (RFC 3261 §19.1), such as `sip:alice@example.com`. The transport follows from
/// the `transport` parameter of the target (else UDP), the port from the URI, the address from the resolver. Over UDP, a
/// request larger than 1300 bytes moves to TCP (RFC 3261 §18.1.1). An outbound proxy, where the builder was given one,
/// comes first.
///
/// # Credentials
///
/// A 401 or 407 is answered with what fits its realm, under CSeq + 1, at the target that challenged; later requests to the
/// same server carry the answer from the start. A password that was refused is not sent again.
///
/// # Cancellation
///
/// A future of this trait that is dropped leaves nothing behind: its transaction is forgotten and retransmissions end.
/// What was already sent may still be acted on by the peer: a dropped `register` may leave a binding that expires by
/// itself.
///
/// [`enable_sip_client`]: crate::SessionManagerBuilder::enable_sip_client
/// [`with_identity`]: crate::SessionManagerBuilder::with_identity
/// [`register`]: SipClient::register
/// [`Error::NotSupported`]: crate::Error::NotSupported
/// [`Error::InvalidRequest`]: crate::Error::InvalidRequest
/// [`Error::NotImplemented`]: crate::Error::NotImplemented
/// [`Error::ProtocolError`]: crate::Error::ProtocolError
/// [`Error::Busy`]: crate::Error::Busy
/// [`Error::RegistrationEnded`]: crate::Error::RegistrationEnded
/// [`Error::Closed`]: crate::Error::Closed
/// [`Error::Rejected`]: crate::Error::Rejected
/// [`Error::AuthenticationFailed`]: crate::Error::AuthenticationFailed
/// [`Error::Timeout`]: crate::Error::Timeout
/// [`Error::Transport`]: crate::Error::Transport
/// [`Error::TooLate`]: crate::Error::TooLate
/// [`Error::NotNow`]: crate::Error::NotNow
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
    /// [`unregister`]ed. The builder's request timeout, 32 s by default, bounds the whole.
    ///
    /// # Errors
    ///
    /// Those of the table above. Nothing is refreshed after an error: the first REGISTER either succeeds or is the
    /// caller's to repeat.
    ///
    /// [`SessionCoordinator::contact_uri`]: crate::SessionCoordinator::contact_uri
    /// [`Unregistered`]: crate::RegistrationState::Unregistered
    /// [`unregister`]: RegistrationHandle::unregister
    async fn register(
        &self,
        registrar_uri: &str,
        from_uri: &str,
        contact_uri: &str,
        expires: u32,
    ) -> Result<RegistrationHandle>;

    /// Does what [`register`](SipClient::register) does, with credentials for this registration alone.
    ///
    /// They come before those of the builder, and serve this registration's refreshes, queries and removal too. Without a
    /// realm they answer the registrar, whatever the builder has; proxies are then answered from the builder's credentials
    /// where one of those fits.
    ///
    /// # Errors
    ///
    /// As [`register`](SipClient::register).
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
    /// From is the builder's identity ([`with_identity`](crate::SessionManagerBuilder::with_identity)). The
    /// builder's request timeout, 32 s by default, bounds the whole.
    ///
    /// # Errors
    ///
    /// Those of the table above, [`Timeout`](crate::Error::Timeout) and [`Transport`](crate::Error::Transport) foremost.
    async fn send_options(&self, target_uri: &str) -> Result<SipResponse>;

    /// Sends `body` to `target_uri` as an instant message, with MESSAGE (RFC 3428), and gives its final answer.
    ///
    /// - `content_type`: what `body` is; `text/plain;charset=UTF-8` unless given. Any type is sent.
    ///
    /// From is the builder's identity ([`with_identity`](crate::SessionManagerBuilder::with_identity)). A challenge of a
    /// proxy or of the receiver is answered with the builder's credentials; where none fit, the 401 or 407 is the answer. A
    /// message too large for a datagram goes over TCP.
    ///
    /// A 2xx says that the receiver's user agent has the message (202: that a relay keeps it for later), not that anybody
    /// has read it. After [`Timeout`](crate::Error::Timeout) and [`Transport`](crate::Error::Transport) nobody knows
    /// whether it arrived. A message starts no dialog: the next one is a request of its own. It waits until the one before
    /// to the same target has had its answer, which RFC 3428 §8 demands; the builder's request timeout bounds that too.
    ///
    /// ```no_run
    /// # async fn example(alice: &sipora_session_core::SessionCoordinator) -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::SipClient;
    ///
    /// let answer = alice.send_message("sip:bob@example.com", "Lunch?", None).await?;
    /// if !answer.is_success() {
    ///     println!("not delivered: {} {}", answer.status(), answer.reason());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for a content type that is none. Else those of the table above.
    async fn send_message(
        &self,
        target_uri: &str,
        body: &str,
        content_type: Option<&str>,
    ) -> Result<SipResponse>;

    /// Sends `request` outside any dialog to where its Route and Request-URI lead, and gives the final answer.
    ///
    /// The way to send what this trait has no method for, and to add headers of one's own:
    ///
    /// ```no_run
    /// # async fn example(coordinator: &sipora_session_core::SessionCoordinator) -> Result<(), Box<dyn std::error::Error>> {
    /// use sipora_session_core::{Method, SipClient, Uri};
    /// use std::time::Duration;
    ///
    /// let request = coordinator
    ///     .request(Method::Info, &Uri::parse("sip:bob@example.com")?)
    ///     .header("X-Ticket", "4711")
    ///     .body("text/plain", "hello")
    ///     .build()?;
    /// let answer = coordinator.send_raw_request(request, Duration::from_secs(10)).await?;
    /// println!("{} {}", answer.status(), answer.reason());
    /// # Ok(()) }
    /// ```
    ///
    /// What RFC 3261 §8.1.1 requires and the request lacks is added: To (the Request-URI; a REGISTER needs its own), From
    /// (the builder's identity), a From tag, Call-ID, CSeq, Max-Forwards, User-Agent, and the Route of an outbound proxy.
    /// What is there stays as it is.
    ///
    /// A challenge is answered with the builder's credentials, under CSeq + 1; where none fit, the 401 or 407 is the
    /// answer. A request that has an Authorization or Proxy-Authorization already is not authenticated further.
    ///
    /// `timeout` bounds the whole: resolving, connecting, every target tried, the retry with credentials. A transaction
    /// never lasts longer than 64 × T1, 32 s by default.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for INVITE, ACK and CANCEL, which are not requests with one final
    /// answer; for a request that has a Via, which belongs to the transaction; for a CSeq that names another method; and
    /// for a next hop that is no SIP URI. Else those of the table above.
    async fn send_raw_request(&self, request: Request, timeout: Duration) -> Result<SipResponse>;

    /// Subscribes to `event` at `target_uri` for `expires` seconds, and keeps the subscription alive (RFC 6665 §4.1).
    ///
    /// ```no_run
    /// # async fn example(coordinator: &sipora_session_core::SessionCoordinator) -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::SipClient;
    ///
    /// let mut mailbox = coordinator.subscribe("sip:alice@example.com", "message-summary", 3600).await?;
    /// while let Some(notification) = mailbox.next().await {
    ///     if let Some(Ok(summary)) = notification.message_summary() {
    ///         println!("{:?}", summary.class("voice-message"));
    ///     }
    /// }
    /// println!("over: {:?}", mailbox.state());
    /// # Ok(()) }
    /// ```
    ///
    /// It returns when the notifier has accepted, with a 2xx or, where that is lost, a NOTIFY; the state may still be
    /// [pending](crate::SubscriptionState::Pending). From is the builder's
    /// identity ([`with_identity`](crate::SessionManagerBuilder::with_identity)), Contact leads to this coordinator.
    /// Challenges are answered with the builder's credentials, a 423 with its Min-Expires, once. An expiry of zero asks for
    /// the present state alone. 10,000 subscriptions may live at once; then [`Busy`](crate::Error::Busy).
    ///
    /// # Errors
    ///
    /// Those of the table above; a refusal is [`Rejected`](crate::Error::Rejected), or
    /// [`AuthenticationFailed`](crate::Error::AuthenticationFailed). The default body gives
    /// [`NotImplemented`](crate::Error::NotImplemented).
    async fn subscribe(
        &self,
        target_uri: &str,
        event: &str,
        expires: u32,
    ) -> Result<SubscriptionHandle> {
        let _ = (target_uri, event, expires);
        let what = "subscribe".to_owned();
        Err(Error::NotImplemented { what })
    }

    /// Publishes `body` as the state of `target_uri` in `event` for `expires` seconds, and keeps it published (RFC 3903).
    ///
    /// From is the builder's identity ([`with_identity`](crate::SessionManagerBuilder::with_identity)). Challenges are
    /// answered with the builder's credentials, a 423 with its Min-Expires, once.
    ///
    /// # Errors
    ///
    /// Those of the table above; a refusal is [`Rejected`](crate::Error::Rejected), or
    /// [`AuthenticationFailed`](crate::Error::AuthenticationFailed); an expiry of zero is
    /// [`InvalidRequest`](crate::Error::InvalidRequest); a 2xx without entity tag, or that grants nothing,
    /// [`ProtocolError`](crate::Error::ProtocolError). The default body gives
    /// [`NotImplemented`](crate::Error::NotImplemented).
    async fn publish(
        &self,
        target_uri: &str,
        event: &str,
        content_type: &str,
        body: &str,
        expires: u32,
    ) -> Result<PublicationHandle> {
        let _ = (target_uri, event, content_type, body, expires);
        let what = "publish".to_owned();
        Err(Error::NotImplemented { what })
    }

    /// Calls `target_uri` with INVITE (RFC 3261 §13), and returns when that is on its way; signalling only.
    ///
    /// - `sdp`: the offer, sent as it is; with `None` the peer makes it, and [`CallHandle::acknowledge`] answers it.
    ///
    /// ```no_run
    /// # async fn example(coordinator: &sipora_session_core::SessionCoordinator) -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::{CallEvent, SipClient};
    ///
    /// let mut call = coordinator.call("sip:bob@example.com", Some("v=0\r\n...")).await?;
    /// while let Some(event) = call.next().await {
    ///     match &event {
    ///         CallEvent::Progress(answer) => println!("{} {}", answer.status(), answer.reason()),
    ///         CallEvent::Answered(_) => println!("{:?}", event.sdp()),
    ///         CallEvent::ChangeRequested(_) => call.accept("v=0\r\n...").await?,
    ///         CallEvent::Ended(end) => println!("over: {end:?}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// From is the builder's identity ([`with_identity`](crate::SessionManagerBuilder::with_identity)), Contact leads to this
    /// coordinator, an outbound proxy comes first; [`call_with`](SipClient::call_with) says more. Challenges are answered with the
    /// builder's credentials. What becomes of the call, a refusal and a silent peer too, are its events: dropped, the handle hangs
    /// up. The coordinator is one that [`build_with_calls`](crate::SessionManagerBuilder::build_with_calls) has made.
    ///
    /// # Errors
    ///
    /// [`NotSupported`](crate::Error::NotSupported), [`InvalidUri`](crate::Error::InvalidUri),
    /// [`NotImplemented`](crate::Error::NotImplemented) and [`Transport`](crate::Error::Transport) for the target,
    /// [`Busy`](crate::Error::Busy), [`Closed`](crate::Error::Closed). The default body gives
    /// [`NotImplemented`](crate::Error::NotImplemented).
    async fn call(&self, target_uri: &str, sdp: Option<&str>) -> Result<CallHandle> {
        let _ = (target_uri, sdp);
        let what = "call".to_owned();
        Err(Error::NotImplemented { what })
    }

    /// Does what [`call`](SipClient::call) does, with another From, credentials of its own, further header fields, or places to
    /// follow a redirection to.
    ///
    /// # Errors
    ///
    /// As [`call`](SipClient::call); [`InvalidRequest`](crate::Error::InvalidRequest) where the INVITE cannot be written with these
    /// options.
    async fn call_with(&self, target_uri: &str, options: CallOptions) -> Result<CallHandle> {
        let _ = (target_uri, options);
        let what = "call_with".to_owned();
        Err(Error::NotImplemented { what })
    }

    /// Asks `target_uri` with OPTIONS every `interval`, and tells whether it answers, until the handle is dropped.
    ///
    /// It returns at once; [`ReachabilityHandle`] says what counts as an answer, and when the next request goes out.
    ///
    /// ```no_run
    /// # async fn example(coordinator: &sipora_session_core::SessionCoordinator) -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::{Reachability, SipClient};
    /// use std::time::Duration;
    ///
    /// let trunk = coordinator.watch_reachability("sip:trunk.example.com", Duration::from_secs(30)).await?;
    /// let mut states = trunk.states();
    /// while let Some(state) = states.next().await {
    ///     match state {
    ///         Reachability::Reachable { round_trip, .. } => println!("up: {round_trip:?}"),
    ///         Reachability::Unreachable { error } => println!("down: {error}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidUri`](crate::Error::InvalidUri) and [`NotImplemented`](crate::Error::NotImplemented) for the target,
    /// [`InvalidConfiguration`](crate::Error::InvalidConfiguration) for an interval below a second or above a day. What
    /// becomes of the requests is a state, not an error. The default body gives
    /// [`NotImplemented`](crate::Error::NotImplemented).
    async fn watch_reachability(
        &self,
        target_uri: &str,
        interval: Duration,
    ) -> Result<ReachabilityHandle> {
        let _ = (target_uri, interval);
        let what = "watch_reachability".to_owned();
        Err(Error::NotImplemented { what })
    }
}

#[async_trait]
impl<T: SipClient + ?Sized> SipClient for Arc<T> {
    async fn register(
        &self,
        registrar_uri: &str,
        from_uri: &str,
        contact_uri: &str,
        expires: u32,
    ) -> Result<RegistrationHandle> {
        (**self)
            .register(registrar_uri, from_uri, contact_uri, expires)
            .await
    }

    async fn register_with_credentials(
        &self,
        registrar_uri: &str,
        from_uri: &str,
        contact_uri: &str,
        expires: u32,
        credentials: Credentials,
    ) -> Result<RegistrationHandle> {
        (**self)
            .register_with_credentials(registrar_uri, from_uri, contact_uri, expires, credentials)
            .await
    }

    async fn send_options(&self, target_uri: &str) -> Result<SipResponse> {
        (**self).send_options(target_uri).await
    }

    async fn send_message(
        &self,
        target_uri: &str,
        body: &str,
        content_type: Option<&str>,
    ) -> Result<SipResponse> {
        (**self).send_message(target_uri, body, content_type).await
    }

    async fn send_raw_request(&self, request: Request, timeout: Duration) -> Result<SipResponse> {
        (**self).send_raw_request(request, timeout).await
    }

    async fn subscribe(
        &self,
        target_uri: &str,
        event: &str,
        expires: u32,
    ) -> Result<SubscriptionHandle> {
        (**self).subscribe(target_uri, event, expires).await
    }

    async fn publish(
        &self,
        target_uri: &str,
        event: &str,
        content_type: &str,
        body: &str,
        expires: u32,
    ) -> Result<PublicationHandle> {
        (**self)
            .publish(target_uri, event, content_type, body, expires)
            .await
    }

    async fn watch_reachability(
        &self,
        target_uri: &str,
        interval: Duration,
    ) -> Result<ReachabilityHandle> {
        (**self).watch_reachability(target_uri, interval).await
    }

    async fn call(&self, target_uri: &str, sdp: Option<&str>) -> Result<CallHandle> {
        (**self).call(target_uri, sdp).await
    }

    async fn call_with(&self, target_uri: &str, options: CallOptions) -> Result<CallHandle> {
        (**self).call_with(target_uri, options).await
    }
}
