//! [`UnifiedDialogApi`]: requests and their final answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sipora_message::{Request, Response, Scheme};
use sipora_transaction_core::{EndpointBuilder, Target, UserHandle};
use sipora_transport::{Destination, Transport};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::call::CallsApi;
use crate::user::{Abandoned, Command, DialogUser, Outgoing};
use crate::{
    ApiError, ApiResult, Authorizer, Call, CallConfig, CallError, CallMetrics, CallState, Exchange,
    IncomingCalls, Invite, OutgoingRefer, SentRefer, check,
};

/// Sends requests through an endpoint and waits for their final answers. Cheap to clone.
///
/// # What it sends
///
/// Any method but INVITE, ACK and CANCEL ([`ApiError::MethodNotAllowed`]). The request is complete but for Via, which is
/// the transaction layer's: To, From with a tag, Call-ID, CSeq and Max-Forwards are there, once each
/// ([`ApiError::InvalidRequest`] names what is not; nothing is sent then).
///
/// # What comes back
///
/// The first final answer, whatever its status. Provisional answers do not end the wait. Without a final answer:
///
/// | error | when |
/// | --- | --- |
/// | [`ApiError::Timeout`] | no final answer within `timeout`, or within 64 × T1 of the last attempt (timer F) |
/// | [`ApiError::Transport`] | no target could be reached |
/// | [`ApiError::Cancelled`] | the endpoint was shut down |
/// | [`ApiError::Busy`] | too many requests are in flight |
///
/// `timeout` bounds the whole: waiting for a place in the queue, name resolution, connecting, every target, every retry
/// with credentials.
///
/// # Cancellation
///
/// A future that is dropped leaves nothing behind: the transaction is forgotten, retransmissions end, a late answer is
/// dropped. What was sent may still be acted on.
#[derive(Debug, Clone)]
pub struct UnifiedDialogApi {
    /// One for each shard.
    users: Arc<[(UserHandle<Command>, Arc<Abandoned>)]>,
    next_key: Arc<AtomicU64>,
    calls: Option<CallsApi>,
}

impl UnifiedDialogApi {
    /// Adds the dialog layer to an endpoint that is being built, without calls: INVITEs are left to other users.
    pub fn add_to(builder: &mut EndpointBuilder) -> Self {
        let mut abandoned = Vec::new();
        let users = builder.add_users(|_| {
            let lost: Arc<Abandoned> = Arc::default();
            abandoned.push(lost.clone());
            DialogUser::new(lost)
        });
        Self {
            users: users.into_iter().zip(abandoned).collect(),
            next_key: Arc::default(),
            calls: None,
        }
    }

    /// Adds the dialog layer with calls (RFC 3261 §13): it takes every INVITE that no user before it has taken, and whatever
    /// stands in the dialogs of its calls.
    ///
    /// Where an endpoint has several shards ([`EndpointConfig::shards`](sipora_transaction_core::EndpointConfig::shards), to be set
    /// before), each has calls of its own: those whose Call-ID leads to it. Nobody needs to know which. Each has an equal part of
    /// [`CallConfig::max_calls`], rounded up.
    pub fn add_with_calls(
        builder: &mut EndpointBuilder,
        config: CallConfig,
    ) -> (Self, IncomingCalls) {
        let mut api = Self::add_to(builder);
        let (calls, incoming) = CallsApi::add_to(builder, config);
        api.calls = Some(calls);
        (api, incoming)
    }

    /// Begins a call: sends its INVITE, and waits for no answer. What is answered are the call's
    /// [events](crate::CallEvent); challenges, to its later requests too, are answered by `authorizer`.
    ///
    /// A future that is dropped gives the call up.
    ///
    /// # Errors
    ///
    /// [`CallError::Busy`], [`CallError::Invalid`], [`CallError::Closed`], and [`CallError::NotEnabled`] where the layer was added by
    /// [`add_to`](Self::add_to).
    pub async fn invite(
        &self,
        invite: Invite,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<Call, CallError> {
        let calls = self.calls.as_ref().ok_or(CallError::NotEnabled)?;
        calls.invite(invite, authorizer).await
    }

    /// Refers somebody with whom there is no dialog (RFC 3515), and waits for the answer; what comes of it is told afterwards, by
    /// [`SentRefer::next`]. Challenges are answered by `authorizer`.
    ///
    /// A future that is dropped gives the REFER up: what has left may be acted on, and nobody listens.
    ///
    /// # Errors
    ///
    /// [`CallError::Failed`] where no final answer came; [`CallError::NotNow`] where the call that it names is not up;
    /// [`CallError::Busy`], [`CallError::Invalid`], [`CallError::Closed`], and [`CallError::NotEnabled`] where the layer was added by
    /// [`add_to`](Self::add_to). What was refused is no error: [`SentRefer::answer`] says so.
    pub async fn refer(
        &self,
        refer: OutgoingRefer,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<SentRefer, CallError> {
        let calls = self.calls.as_ref().ok_or(CallError::NotEnabled)?;
        calls.refer(refer, authorizer).await
    }

    /// Goes on with a call that another process, or another endpoint, has [let go of](Call::detach). Nothing is sent for that, but
    /// ACKs that may have been lost. Challenges are answered by `authorizer`, since credentials are not in the state; without, in a
    /// call that the peer began, by [`CallConfig::authorizer`].
    ///
    /// The peer sends its requests where our Contact and its route set lead, and this endpoint has to be reached there: it has the
    /// address of the one before it, or stands behind the proxy in the route set, or says where it is
    /// ([`CallState::with_contact`]) and sends an UPDATE or re-INVITE. A session timer that has run out meanwhile ends the call as
    /// soon as it is restored.
    ///
    /// # Errors
    ///
    /// [`CallError::Busy`], [`CallError::Closed`], [`CallError::NotEnabled`], and [`CallError::Invalid`] where the call is here
    /// already. The state is used up then, as the authorizer is; whoever wants to try again has a clone of it.
    pub async fn restore_call(
        &self,
        state: CallState,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<Call, CallError> {
        let calls = self.calls.as_ref().ok_or(CallError::NotEnabled)?;
        calls.restore(state, authorizer).await
    }

    /// Lets go of all calls that are up and in which nothing is under way, as [`Call::detach`] does, and gives their states: a
    /// process that hands over does not hang up its calls. The others stay, and are counted in
    /// [`call_metrics`](Self::call_metrics); after a moment it can be tried again, until those that are left are hung up by the
    /// endpoint's shutdown.
    ///
    /// While the endpoint shuts down afterwards, requests in these calls get no answer if they are BYEs, and else 503.
    ///
    /// # Errors
    ///
    /// [`CallError::Closed`], and [`CallError::NotEnabled`].
    pub async fn detach_calls(&self) -> Result<Vec<CallState>, CallError> {
        let calls = self.calls.as_ref().ok_or(CallError::NotEnabled)?;
        calls.detach_all().await
    }

    /// Gives the counts of calls, as of the endpoint's last turn with any of them.
    pub fn call_metrics(&self) -> CallMetrics {
        self.calls
            .as_ref()
            .map(CallsApi::metrics)
            .unwrap_or_default()
    }

    /// Sends `request` outside any dialog to `destination`, and gives its final answer as it came, a 401 too.
    ///
    /// `destination` takes the place of Route and Request-URI for finding the next hop; the request itself stays as it
    /// is. The transport follows from the Request-URI: TLS for `sips`, else its `transport` parameter, else UDP; the name
    /// that a TLS certificate must carry is the host of the Request-URI.
    ///
    /// # Errors
    ///
    /// As [`UnifiedDialogApi`] tells.
    pub async fn send_non_dialog_request(
        &self,
        request: Request,
        destination: SocketAddr,
        timeout: Duration,
    ) -> ApiResult<Response> {
        let target = Target::Destinations(vec![located(&request, destination)?]);
        self.send_request_to(request, target, timeout).await
    }

    /// Sends `request` outside any dialog to `target`: a URI to be located (RFC 3263), addresses, or a flow.
    ///
    /// [`next_hop`](crate::next_hop) gives the URI that RFC 3261 §8.1.2 sends a request to.
    ///
    /// # Errors
    ///
    /// As [`UnifiedDialogApi`] tells.
    pub async fn send_request_to(
        &self,
        request: Request,
        target: Target,
        timeout: Duration,
    ) -> ApiResult<Response> {
        let exchange = self.exchange(request, target, None, timeout, false).await?;
        Ok(exchange.response)
    }

    /// Does what [`send_request_to`](Self::send_request_to) does, and answers challenges through `authorizer`.
    ///
    /// A retry has a new branch and the next CSeq number, keeps Call-ID and From tag, and goes to the target that
    /// challenged. When the authorizer gives up, the challenge is the answer, with the reason in
    /// [`Exchange::refusal`].
    ///
    /// # Errors
    ///
    /// As [`UnifiedDialogApi`] tells; [`ApiError::cseq`] then gives the CSeq number last sent.
    pub async fn send_authorized(
        &self,
        request: Request,
        target: Target,
        authorizer: Arc<dyn Authorizer>,
        timeout: Duration,
    ) -> ApiResult<Exchange> {
        self.exchange(request, target, Some(authorizer), timeout, false)
            .await
    }

    /// Does what [`send_authorized`](Self::send_authorized) does, and offers to keep the way of the request alive, as a REGISTER does
    /// whose sender will (RFC 6223). Where the answer takes that ([`Exchange::keep_alive`]), the sender has to.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send_offering_keep_alives(
        &self,
        request: Request,
        target: Target,
        authorizer: Arc<dyn Authorizer>,
        timeout: Duration,
    ) -> ApiResult<Exchange> {
        self.exchange(request, target, Some(authorizer), timeout, true)
            .await
    }

    /// Says whether the endpoint has ended.
    pub fn is_closed(&self) -> bool {
        self.users.iter().all(|(user, _)| user.is_closed())
    }

    /// Who sends the request with this key: the shards take turns.
    fn user(&self, key: u64) -> Option<&(UserHandle<Command>, Arc<Abandoned>)> {
        let shard = key.checked_rem(self.users.len() as u64)?;
        self.users.get(usize::try_from(shard).ok()?)
    }

    async fn exchange(
        &self,
        request: Request,
        target: Target,
        authorizer: Option<Arc<dyn Authorizer>>,
        timeout: Duration,
        offers_keep_alives: bool,
    ) -> ApiResult<Exchange> {
        let cseq = check::outgoing(&request)?;
        let timeout = timeout.min(MAX_TIMEOUT);
        let deadline = Instant::now() + timeout;
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing {
            key,
            request,
            cseq,
            target,
            authorizer,
            timeout,
            deadline: deadline.into_std(),
            offers_keep_alives,
            reply,
        };
        let send = self
            .user(key)
            .ok_or(ApiError::Cancelled { cseq: None })?
            .0
            .send(Command::Send(Box::new(outgoing)));
        tokio::time::timeout_at(deadline, send)
            .await
            .map_err(|_| ApiError::Busy { cseq: None })?
            .map_err(ApiError::from_command)?;
        let guard = Guard {
            api: self,
            key,
            armed: true,
        };
        let result = answer.await;
        guard.disarm();
        // The user ended without an answer: the endpoint is gone.
        result.unwrap_or(Err(ApiError::Cancelled { cseq: None }))
    }
}

/// Tells the user that a future was dropped.
struct Guard<'a> {
    api: &'a UnifiedDialogApi,
    key: u64,
    armed: bool,
}

impl Guard<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.armed {
            let Some((user, abandoned)) = self.api.user(self.key) else {
                return;
            };
            abandoned.push(self.key);
            // A full queue means that commands wait, and each of them makes the user look.
            let _ = user.try_send(Command::Reap);
        }
    }
}

/// Adds to an address the transport and the TLS name that the Request-URI asks for.
fn located(request: &Request, address: SocketAddr) -> ApiResult<Destination> {
    let Ok(uri) = request.uri() else {
        return Ok(Destination::udp(address));
    };
    let transport = match (uri.scheme(), uri.transport()) {
        (Scheme::Sips, None) => Transport::Tls,
        (Scheme::Sips, Some(name)) if name.eq_ignore_ascii_case("ws") => Transport::Wss,
        (Scheme::Sips, Some(name)) if !name.eq_ignore_ascii_case("wss") => Transport::Tls,
        (_, None) => Transport::Udp,
        (_, Some(name)) => name.parse().map_err(|_| {
            ApiError::invalid("Request-URI", format!("names the unknown transport {name}"))
        })?,
    };
    let mut destination = Destination::new(transport, address);
    if transport.is_secure() {
        destination.server_name = Some(uri.host_str().into());
    }
    Ok(destination)
}

/// The longest wait, a day: more is a mistake, and sums of times stay far from overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);
