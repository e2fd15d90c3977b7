//! The transaction user behind [`UnifiedDialogApi`](crate::UnifiedDialogApi).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sipora_auth::AuthError;
use sipora_message::{HeaderName, Request, Response, StatusCode};
use sipora_transaction_core::{
    Claim, Context, Event, IncomingRequest, RequestError, RequestId, RequestOptions, Target, User,
};
use sipora_transport::{Destination, Flow};
use tokio::sync::oneshot;

use crate::check::MAX_CSEQ;
use crate::numbered::Numbered;
use crate::{ApiError, ApiResult, Authorizer, Exchange, TransactionId};

/// Runs inside the endpoint: it holds the requests that wait for their final answer, and answers challenges.
#[derive(Default)]
pub(crate) struct DialogUser {
    pending: Numbered<RequestId, Pending>,
    /// The current request of each key.
    requests: Numbered<u64, RequestId>,
    abandoned: Arc<Abandoned>,
}

/// What the API tells the user.
pub(crate) enum Command {
    /// Sends a request.
    Send(Box<Outgoing>),
    /// Looks at what was [`Abandoned`].
    Reap,
}

/// A request on its way in.
pub(crate) struct Outgoing {
    pub(crate) key: u64,
    pub(crate) request: Request,
    pub(crate) cseq: u32,
    pub(crate) target: Target,
    pub(crate) authorizer: Option<Arc<dyn Authorizer>>,
    pub(crate) timeout: Duration,
    pub(crate) deadline: Instant,
    pub(crate) offers_keep_alives: bool,
    pub(crate) reply: oneshot::Sender<ApiResult<Exchange>>,
}

/// What was left in destructors, which cannot wait: the keys of requests whose futures were dropped, as a rule.
///
/// A full command queue can refuse the word that a future was dropped; then the commands that fill it make the user look
/// here soon. It holds no more keys than there were futures at once.
#[derive(Debug)]
pub(crate) struct Abandoned<T = u64>(Mutex<Vec<T>>);

impl<T> Default for Abandoned<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Abandoned<T> {
    pub(crate) fn push(&self, key: T) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(key);
    }

    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request that waits for its final answer.
struct Pending {
    key: u64,
    request: Request,
    cseq: u32,
    authorizer: Option<Arc<dyn Authorizer>>,
    retries: u8,
    timeout: Duration,
    deadline: Instant,
    offers_keep_alives: bool,
    reply: oneshot::Sender<ApiResult<Exchange>>,
}

impl Pending {
    /// Tells how long it has waited: all that was allowed, or whole seconds less where timer F was sooner.
    fn waited(&self, now: Instant) -> Duration {
        match self.deadline.saturating_duration_since(now) {
            Duration::ZERO => self.timeout,
            left => Duration::from_secs(self.timeout.saturating_sub(left).as_secs()),
        }
    }
}

impl DialogUser {
    pub(crate) fn new(abandoned: Arc<Abandoned>) -> Self {
        Self {
            abandoned,
            ..Self::default()
        }
    }

    fn send(&mut self, context: &mut Context<'_>, outgoing: Outgoing) {
        // The future may have been dropped while its command waited.
        if outgoing.reply.is_closed() {
            return;
        }
        let mut request = outgoing.request;
        if let Some(authorizer) = &outgoing.authorizer {
            let headers = authorizer.preempt(&request, &cnonce(context));
            if !headers.is_empty() {
                request = match with_credentials(&request, &headers, None) {
                    Ok(request) => request,
                    Err(error) => return reply(outgoing.reply, Err(error)),
                };
            }
        }
        let pending = Pending {
            key: outgoing.key,
            request,
            cseq: outgoing.cseq,
            authorizer: outgoing.authorizer,
            retries: 0,
            timeout: outgoing.timeout,
            deadline: outgoing.deadline,
            offers_keep_alives: outgoing.offers_keep_alives,
            reply: outgoing.reply,
        };
        self.dispatch(context, pending, outgoing.target, None);
    }

    /// Hands a request to the transaction layer. `sent` is the CSeq number that went out before it.
    fn dispatch(
        &mut self,
        context: &mut Context<'_>,
        pending: Pending,
        target: Target,
        sent: Option<u32>,
    ) {
        let left = pending
            .deadline
            .saturating_duration_since(context.now().instant);
        if left.is_zero() {
            let after = pending.timeout;
            return reply(pending.reply, Err(ApiError::Timeout { after, cseq: sent }));
        }
        let mut options = RequestOptions::with_deadline(left);
        options.offers_keep_alives = pending.offers_keep_alives;
        match context.send(pending.request.clone(), target, options) {
            Ok(id) => {
                self.requests.insert(pending.key, id);
                self.pending.insert(id, pending);
            }
            Err(error) => reply(pending.reply, Err(ApiError::from_send(error, sent))),
        }
    }

    fn on_response(
        &mut self,
        context: &mut Context<'_>,
        id: RequestId,
        response: Response,
        flow: Flow,
        destination: Option<Destination>,
    ) {
        // RFC 3261 §8.1.3.2 and §17.1.2: a provisional answer ends nothing.
        if response.status().is_provisional() {
            return;
        }
        let Some(mut pending) = self.take(id) else {
            return;
        };
        if pending.reply.is_closed() {
            return;
        }
        let mut refusal = None;
        if let Some(authorizer) = pending.authorizer.clone() {
            authorizer.learn(&pending.request, &response);
            match retry(
                &pending.request,
                pending.cseq,
                pending.retries,
                &*authorizer,
                &response,
                &cnonce(context),
            ) {
                Retry::Send(request) => {
                    let call_id = request.headers().call_id().unwrap_or_default();
                    tracing::debug!(call_id, peer = %flow, "a challenge is answered");
                    let sent = Some(pending.cseq);
                    pending.request = *request;
                    pending.cseq += 1;
                    pending.retries += 1;
                    // RFC 3261 §22.2 and RFC 3263: the nonce is that of the target that challenged.
                    let target = match destination {
                        Some(destination) => Target::Destinations(vec![destination]),
                        None => Target::Flow(flow),
                    };
                    return self.dispatch(context, pending, target, sent);
                }
                Retry::No(reason) => refusal = reason,
            }
        }
        let exchange = Exchange {
            transaction_id: TransactionId::of(&response),
            response,
            request: pending.request,
            cseq: pending.cseq,
            flow,
            destination,
            retries: pending.retries,
            refusal,
        };
        reply(pending.reply, Ok(exchange));
    }

    fn on_failed(&mut self, now: Instant, id: RequestId, error: RequestError) {
        if let Some(pending) = self.take(id) {
            let error = ApiError::from_request(error, pending.waited(now), pending.cseq);
            reply(pending.reply, Err(error));
        }
    }

    fn reap(&mut self, context: &mut Context<'_>) {
        for key in self.abandoned.take() {
            if let Some(id) = self.requests.remove(&key) {
                self.pending.remove(&id);
                context.abandon(id);
            }
        }
    }

    fn take(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.requests.remove(&pending.key);
        Some(pending)
    }
}

impl User for DialogUser {
    type Command = Command;

    fn on_request(&mut self, _: &mut Context<'_>, _: &IncomingRequest) -> Claim {
        Claim::Passed
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Response {
                request,
                response,
                flow,
                destination,
            } => {
                self.on_response(context, request, response, flow, destination);
            }
            Event::Failed { request, error } => {
                self.on_failed(context.now().instant, request, error);
            }
            _ => {}
        }
    }

    fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
        self.reap(context);
        match command {
            Command::Send(outgoing) => self.send(context, *outgoing),
            Command::Reap => {}
        }
    }
}

pub(crate) enum Retry {
    Send(Box<Request>),
    No(Option<AuthError>),
}

/// Decides whether an answer is a challenge to answer, and makes the request for it.
pub(crate) fn retry(
    request: &Request,
    cseq: u32,
    retries: u8,
    authorizer: &dyn Authorizer,
    response: &Response,
    cnonce: &str,
) -> Retry {
    let status = response.status();
    if status != StatusCode::UNAUTHORIZED && status != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Retry::No(None);
    }
    if retries >= MAX_RETRIES || cseq >= MAX_CSEQ {
        return Retry::No(None);
    }
    let headers = match authorizer.authorize(request, response, cnonce) {
        Ok(headers) => headers,
        Err(refusal) => return Retry::No(Some(refusal)),
    };
    match with_credentials(request, &headers, Some(cseq + 1)) {
        Ok(request) => Retry::Send(Box::new(request)),
        Err(_) => Retry::No(None),
    }
}

/// Replaces the credentials of a request, and its CSeq number where one is given; Call-ID and From tag stay
/// (RFC 3261 §8.1.3.5, §22.2).
pub(crate) fn with_credentials(
    request: &Request,
    headers: &[(HeaderName, String)],
    cseq: Option<u32>,
) -> ApiResult<Request> {
    let mut edit = request
        .edit()
        .remove(HeaderName::Authorization)
        .remove(HeaderName::ProxyAuthorization);
    if let Some(cseq) = cseq {
        edit = edit.set(HeaderName::CSeq, format!("{cseq} {}", request.method()));
    }
    for (name, value) in headers {
        edit = edit.append(name.clone(), value);
    }
    edit.build()
        .map_err(|error| ApiError::invalid("Authorization", error.to_string()))
}

pub(crate) fn cnonce(context: &mut Context<'_>) -> String {
    context.ids().tag().as_str().to_owned()
}

/// Who waited may have gone in the meantime; then there is nobody to tell.
fn reply(sender: oneshot::Sender<ApiResult<Exchange>>, result: ApiResult<Exchange>) {
    let _ = sender.send(result);
}

/// Times that one request is sent again: a server and two proxies, each with one stale nonce.
const MAX_RETRIES: u8 = 6;
