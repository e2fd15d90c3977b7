//! [`SessionCoordinator`]: a running client.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sipora_auth::Credentials;
use sipora_dialog_core::CallMetrics;
use sipora_message::{Method, Request, RequestBuilder, Uri};
use sipora_transaction_core::{Endpoint, EndpointHandle, Metrics};
use sipora_transport::Transport;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::SipClient;
use crate::calls::{self, CallHandle, CallOptions, CallState};
use crate::outgoing::Outbound;
use crate::publication::{self, Document};
use crate::registration::{self, Wish};
use crate::{
    Error, PublicationHandle, ReachabilityHandle, RegistrationHandle, Result, SipResponse,
    SubscriptionHandle, reachability, subscription, uri,
};

/// A running client: it owns the sockets, the transactions and the tasks of its registrations.
///
/// [`SessionManagerBuilder`](crate::SessionManagerBuilder) makes it; what it does is the trait [`SipClient`]. Dropped, it
/// stops at once, and registrations with it; [`shutdown`](Self::shutdown) lets what is in flight finish.
pub struct SessionCoordinator {
    pub(super) inner: Inner,
}

pub(super) struct Inner {
    pub(super) outbound: Arc<Outbound>,
    pub(super) endpoint: EndpointHandle,
    pub(super) listeners: Vec<ListenerAddress>,
    /// Subscriptions of others to what the application tells.
    pub(super) watchers: Arc<AtomicUsize>,
    /// Whether `enable_sip_client` was called.
    pub(super) is_client: bool,
    /// Whether `build_with_calls` was.
    pub(super) has_calls: bool,
    pub(super) running: Mutex<Option<Running>>,
    /// True once everything has ended.
    pub(super) ended: watch::Sender<bool>,
}

/// What a shutdown ends.
pub(super) struct Running {
    pub(super) owner: Endpoint,
    /// Registrations, and what serves the handler.
    pub(super) tasks: JoinSet<()>,
}

/// An address that is listened on; prints as `udp 127.0.0.1:5060`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ListenerAddress {
    /// The transport.
    pub transport: Transport,
    /// The address as bound, with the port that the system chose where none was asked for.
    pub address: SocketAddr,
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport.parameter(), self.address)
    }
}

impl SessionCoordinator {
    /// The address that UDP and TCP are bound to. Bound to every address of the host, it says so: 0.0.0.0, beside which there
    /// is `::` among the [`listeners`](Self::listeners) where the host has IPv6.
    pub fn local_address(&self) -> SocketAddr {
        let listeners = &self.inner.listeners;
        listeners
            .first()
            .map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |listener| {
                listener.address
            })
    }

    /// Every address that is listened on.
    pub fn listeners(&self) -> Vec<ListenerAddress> {
        self.inner.listeners.clone()
    }

    /// Gives the contact by which `target_uri` can reach `user` here, as in `sip:alice@192.0.2.1:5061;transport=tcp`.
    ///
    /// The target is resolved as a request to it would be, the outbound proxy first. Host and port are those that were
    /// [advertised](crate::SessionManagerBuilder::with_advertised_address), else of the local address that leads to the
    /// target, over the transport that it is reached by. `user` is escaped; an empty one is left out.
    ///
    /// It promises no more than there is. Nobody can connect to a client of WebSocket, whose host is a random name under
    /// `.invalid` that stays the same for this coordinator (RFC 7118), nor to one of TLS without
    /// [a listener](crate::SessionManagerBuilder::with_tls_listener), whose contact says `ob`: requests come over the connection
    /// that is there (RFC 5626 §4.3).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUri`] for a target that is no `sip:` or `sips:` URI, [`Error::Transport`] when it cannot be resolved
    /// or no local address leads to it, [`Error::Timeout`] when its resolution takes longer than a request may.
    pub async fn contact_uri(&self, user: &str, target_uri: &str) -> Result<String> {
        let target = uri::next_hop("target_uri", target_uri)?;
        let contact = self.inner.outbound.contact(user, &target).await?;
        Ok(contact.as_str().to_owned())
    }

    /// Begins a request outside any dialog with what RFC 3261 §8.1.1 requires: To (the target), From (the identity, with a
    /// tag), Call-ID, CSeq 1, Max-Forwards, User-Agent and, with an outbound proxy, Route. Header fields and a body of
    /// one's own come next, then [`send_raw_request`](SipClient::send_raw_request). For another From or To, build the
    /// whole with [`Request::builder`].
    pub fn request(&self, method: Method, target: &Uri) -> RequestBuilder {
        self.inner.outbound.begin_new(method, target)
    }

    /// Goes on with a call that another process, or another coordinator, has let go of: [`CallHandle::detach`]. Nothing is sent for
    /// that, but ACKs that may have been lost. Challenges are answered with `credentials` first, and with those of the builder.
    ///
    /// The peer sends its requests where our Contact and its route set lead, and this coordinator has to be reached there: it has
    /// address and port of the one before it, or stands behind the proxy in the route set, or says where it is
    /// ([`CallState::with_contact`]) and then [changes](CallHandle::change) the session. A session timer that has run out meanwhile ends the call
    /// as soon as it is restored.
    ///
    /// ```no_run
    /// # async fn example(client: std::sync::Arc<sipora_session_core::SessionCoordinator>, states: Vec<sipora_session_core::CallState>)
    /// # -> Result<(), sipora_session_core::Error> {
    /// // As they were read from where the process before this one has written them.
    /// for state in states {
    ///     match client.restore_call(state, None).await {
    ///         Ok(mut call) => drop(tokio::spawn(async move { call.ended().await })),
    ///         Err(error) => eprintln!("a call is lost: {error}"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Closed`]; [`Error::NotSupported`] without
    /// [`build_with_calls`](crate::SessionManagerBuilder::build_with_calls), [`Error::InvalidRequest`] where the call is here already.
    /// The state is used up then; whoever wants to try again has a clone of it.
    pub async fn restore_call(
        &self,
        state: CallState,
        credentials: Option<Credentials>,
    ) -> Result<CallHandle> {
        self.check_calls("restore_call")?;
        calls::restore(&self.inner.outbound, state, credentials).await
    }

    /// Counts calls: what there is of them now, and what has been; zero without
    /// [`build_with_calls`](crate::SessionManagerBuilder::build_with_calls).
    pub fn call_metrics(&self) -> CallMetrics {
        self.inner.outbound.dialogs.call_metrics()
    }

    /// Counts what the transaction layer did and holds.
    pub fn metrics(&self) -> Metrics {
        self.inner.endpoint.metrics()
    }

    /// How many subscriptions of others there are to what this application tells: see
    /// [`on_subscribe`](crate::SessionHandler::on_subscribe). Up to 5,000; then SUBSCRIBE is answered with 503.
    pub fn watcher_count(&self) -> usize {
        self.inner.watchers.load(Ordering::Relaxed)
    }

    /// Ends everything, and waits for the end.
    ///
    /// Registrations stop being refreshed and expire by themselves; [`unregister`](RegistrationHandle::unregister) before,
    /// to have them removed. Who has subscribed to this application hears nothing of the end;
    /// [`terminate`](crate::Watcher::terminate) before, to tell them. Calls that ring are refused, our own that are
    /// not answered yet cancelled, those that are up hung up. Requests in flight, those of registrations and those that the handler is answering among
    /// them, get up to 5 s to finish; then their callers are told [`Error::Closed`], as everybody who calls later, and as a
    /// `register` that is granted in the meantime: nobody would refresh it. Calling it again waits for the same end.
    pub async fn shutdown(&self) {
        let running = self.inner.lock().take();
        if let Some(mut running) = running {
            // Told even if this future is dropped half-way: dropping ends everything too.
            let _ended = Ended(&self.inner.ended);
            // First the endpoint, which lets nothing new begin, so that the tasks see the end of what they have in flight.
            running.owner.shutdown().await;
            running.tasks.shutdown().await;
            return;
        }
        let mut ended = self.inner.ended.subscribe();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    fn client(&self, operation: &'static str) -> Result<&Arc<Outbound>> {
        if !self.inner.is_client {
            let how = "call enable_sip_client() on the SessionManagerBuilder";
            return Err(Error::NotSupported { operation, how });
        }
        if self.inner.lock().is_none() {
            return Err(Error::Closed);
        }
        Ok(&self.inner.outbound)
    }

    fn check_calls(&self, operation: &'static str) -> Result<()> {
        if !self.inner.has_calls {
            let how = calls::WITH_CALLS;
            return Err(Error::NotSupported { operation, how });
        }
        Ok(())
    }

    async fn register_wish(
        &self,
        operation: &'static str,
        wish: Wish<'_>,
    ) -> Result<RegistrationHandle> {
        let outbound = self.client(operation)?;
        registration::register(outbound, wish, |owner| self.inner.spawn(owner.run())).await
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task that a shutdown ends.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<AbortHandle> {
        let mut running = self.lock();
        let tasks = &mut running.as_mut().ok_or(Error::Closed)?.tasks;
        while tasks.try_join_next().is_some() {}
        Ok(tasks.spawn(task))
    }
}

/// Sets the mark that a shutdown has ended.
struct Ended<'a>(&'a watch::Sender<bool>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

#[async_trait]
impl SipClient for SessionCoordinator {
    async fn register(
        &self,
        registrar_uri: &str,
        from_uri: &str,
        contact_uri: &str,
        expires: u32,
    ) -> Result<RegistrationHandle> {
        let wish = Wish {
            registrar_uri,
            from_uri,
            contact_uri,
            expires,
            credentials: None,
        };
        self.register_wish("register", wish).await
    }

    async fn register_with_credentials(
        &self,
        registrar_uri: &str,
        from_uri: &str,
        contact_uri: &str,
        expires: u32,
        credentials: Credentials,
    ) -> Result<RegistrationHandle> {
        let wish = Wish {
            registrar_uri,
            from_uri,
            contact_uri,
            expires,
            credentials: Some(credentials),
        };
        self.register_wish("register_with_credentials", wish).await
    }

    async fn send_options(&self, target_uri: &str) -> Result<SipResponse> {
        let outbound = self.client("send_options")?;
        let target = uri::target("target_uri", target_uri, &Method::Options)?;
        outbound.check_next_hop(&target)?;
        Ok(outbound.options(&target).await?.into())
    }

    async fn send_message(
        &self,
        target_uri: &str,
        body: &str,
        content_type: Option<&str>,
    ) -> Result<SipResponse> {
        let outbound = self.client("send_message")?;
        let target = uri::target("target_uri", target_uri, &Method::Message)?;
        outbound.check_next_hop(&target)?;
        let answer = outbound.message(&target, body, content_type).await?;
        Ok(answer.into())
    }

    async fn send_raw_request(&self, request: Request, timeout: Duration) -> Result<SipResponse> {
        let outbound = self.client("send_raw_request")?;
        Ok(outbound.raw(request, timeout).await?.into())
    }

    async fn subscribe(
        &self,
        target_uri: &str,
        event: &str,
        expires: u32,
    ) -> Result<SubscriptionHandle> {
        let outbound = self.client("subscribe")?;
        let target = uri::target("target_uri", target_uri, &Method::Subscribe)?;
        let user = outbound.identity.user_decoded();
        let user = user.unwrap_or_default().into_owned();
        let contact = outbound.contact(&user, &target).await?;
        subscription::subscribe(outbound, target, contact, event, expires).await
    }

    async fn publish(
        &self,
        target_uri: &str,
        event: &str,
        content_type: &str,
        body: &str,
        expires: u32,
    ) -> Result<PublicationHandle> {
        let outbound = self.client("publish")?;
        let target = uri::target("target_uri", target_uri, &Method::Publish)?;
        outbound.check_next_hop(&target)?;
        let document = Document {
            content_type: content_type.to_owned(),
            body: body.to_owned(),
        };
        publication::publish(outbound, target, event, document, expires, |owner| {
            self.inner.spawn(owner.run())
        })
        .await
    }

    async fn call(&self, target_uri: &str, sdp: Option<&str>) -> Result<CallHandle> {
        let options = match sdp {
            Some(sdp) => CallOptions::new().with_sdp(sdp),
            None => CallOptions::new(),
        };
        self.call_with(target_uri, options).await
    }

    async fn call_with(&self, target_uri: &str, options: CallOptions) -> Result<CallHandle> {
        let outbound = self.client("call")?;
        self.check_calls("call")?;
        let target = uri::target("target_uri", target_uri, &Method::Invite)?;
        calls::call(outbound, target, options).await
    }

    async fn watch_reachability(
        &self,
        target_uri: &str,
        interval: Duration,
    ) -> Result<ReachabilityHandle> {
        let outbound = self.client("watch_reachability")?;
        let target = uri::target("target_uri", target_uri, &Method::Options)?;
        outbound.check_next_hop(&target)?;
        reachability::watch_reachability(outbound, target, interval, |owner| {
            self.inner.spawn(owner.run())
        })
    }
}

impl fmt::Debug for SessionCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCoordinator")
            .field("listeners", &self.inner.listeners)
            .field("is_client", &self.inner.is_client)
            .finish_non_exhaustive()
    }
}
