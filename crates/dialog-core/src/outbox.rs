//! Requests that a user inside the endpoint sends, with authenticated retry, until their final answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipora_message::{Request, Response, Uri};
use sipora_transaction_core::{Context, Event, RequestError, RequestId, RequestOptions, Target};
use sipora_transport::{Destination, Flow};

use crate::user::{Retry, cnonce, retry, with_credentials};
use crate::{ApiError, ApiResult, Authorizer, Exchange, TransactionId};

/// Holds the requests in flight of one user; `K` says on whose behalf each is.
pub(crate) struct Outbox<K> {
    waiting: HashMap<RequestId, Waiting<K>>,
}

struct Waiting<K> {
    key: K,
    request: Request,
    cseq: u32,
    retries: u8,
    authorizer: Option<Arc<dyn Authorizer>>,
    fallback: Option<Uri>,
    timeout: Duration,
    deadline: Instant,
}

impl<K> Waiting<K> {
    /// Tells how long it has waited: all that was allowed, or whole seconds less where timer F was sooner.
    fn waited(&self, now: Instant) -> Duration {
        match self.deadline.saturating_duration_since(now) {
            Duration::ZERO => self.timeout,
            left => Duration::from_secs(self.timeout.saturating_sub(left).as_secs()),
        }
    }
}

/// A request on its way out.
pub(crate) struct Outgoing<K> {
    pub(crate) key: K,
    pub(crate) request: Request,
    pub(crate) target: Target,
    /// Where it goes when the target cannot be reached.
    pub(crate) fallback: Option<Uri>,
    pub(crate) authorizer: Option<Arc<dyn Authorizer>>,
    pub(crate) timeout: Duration,
}

/// What became of one.
pub(crate) struct Outcome<K> {
    pub(crate) key: K,
    pub(crate) result: ApiResult<Exchange>,
}

impl<K: Copy> Outbox<K> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: HashMap::new(),
        }
    }

    /// Sends a request; what cannot be sent has its outcome at once.
    pub(crate) fn send(
        &mut self,
        context: &mut Context<'_>,
        outgoing: Outgoing<K>,
    ) -> Option<Outcome<K>> {
        let Outgoing {
            key,
            mut request,
            target,
            fallback,
            authorizer,
            timeout,
        } = outgoing;
        if let Some(authorizer) = &authorizer {
            let headers = authorizer.preempt(&request, &cnonce(context));
            if !headers.is_empty()
                && let Ok(authorized) = with_credentials(&request, &headers, None)
            {
                request = authorized;
            }
        }
        let now = context.now().instant;
        let waiting = Waiting {
            key,
            cseq: request.headers().cseq().map_or(0, |cseq| cseq.number),
            request,
            retries: 0,
            authorizer,
            fallback,
            timeout,
            deadline: now.checked_add(timeout).unwrap_or(now),
        };
        self.dispatch(context, waiting, target, None)
    }

    fn dispatch(
        &mut self,
        context: &mut Context<'_>,
        waiting: Waiting<K>,
        target: Target,
        sent: Option<u32>,
    ) -> Option<Outcome<K>> {
        let left = waiting
            .deadline
            .saturating_duration_since(context.now().instant);
        let options = RequestOptions::with_deadline(left);
        let (key, after) = (waiting.key, waiting.timeout);
        let failed = |error| {
            let result = Err(error);
            Some(Outcome { key, result })
        };
        if left.is_zero() {
            return failed(ApiError::Timeout { after, cseq: sent });
        }
        match context.send(waiting.request.clone(), target, options) {
            Ok(id) => {
                self.waiting.insert(id, waiting);
                None
            }
            Err(error) => failed(ApiError::from_send(error, sent)),
        }
    }

    /// Tells whether an event is about a request that waits here.
    pub(crate) fn is_about(&self, event: &Event) -> bool {
        match event {
            Event::Response { request, .. } | Event::Failed { request, .. } => {
                self.waiting.contains_key(request)
            }
            _ => false,
        }
    }

    /// Takes an event of the user's; gives the outcome of a request that has ended by it.
    pub(crate) fn on_event(
        &mut self,
        context: &mut Context<'_>,
        event: Event,
    ) -> Option<Outcome<K>> {
        match event {
            Event::Response { response, .. } if response.status().is_provisional() => None,
            Event::Response {
                request,
                response,
                flow,
                destination,
            } => {
                let waiting = self.waiting.remove(&request)?;
                self.on_response(context, waiting, response, flow, destination)
            }
            Event::Failed { request, error } => {
                let mut waiting = self.waiting.remove(&request)?;
                if let RequestError::Transport(_) = error
                    && let Some(uri) = waiting.fallback.take()
                {
                    let sent = Some(waiting.cseq);
                    return self.dispatch(context, waiting, Target::Uri(uri), sent);
                }
                let waited = waiting.waited(context.now().instant);
                let error = ApiError::from_request(error, waited, waiting.cseq);
                Some(Outcome {
                    key: waiting.key,
                    result: Err(error),
                })
            }
            _ => None,
        }
    }

    fn on_response(
        &mut self,
        context: &mut Context<'_>,
        mut waiting: Waiting<K>,
        response: Response,
        flow: Flow,
        destination: Option<Destination>,
    ) -> Option<Outcome<K>> {
        let mut refusal = None;
        if let Some(authorizer) = waiting.authorizer.clone() {
            authorizer.learn(&waiting.request, &response);
            let cnonce = cnonce(context);
            match retry(
                &waiting.request,
                waiting.cseq,
                waiting.retries,
                &*authorizer,
                &response,
                &cnonce,
            ) {
                Retry::Send(request) => {
                    let sent = Some(waiting.cseq);
                    waiting.request = *request;
                    waiting.cseq += 1;
                    waiting.retries += 1;
                    let target = match destination {
                        Some(destination) => Target::Destinations(vec![destination]),
                        None => Target::Flow(flow),
                    };
                    return self.dispatch(context, waiting, target, sent);
                }
                Retry::No(reason) => refusal = reason,
            }
        }
        let exchange = Exchange {
            transaction_id: TransactionId::of(&response),
            response,
            request: waiting.request,
            cseq: waiting.cseq,
            flow,
            destination,
            retries: waiting.retries,
            refusal,
        };
        Some(Outcome {
            key: waiting.key,
            result: Ok(exchange),
        })
    }

    /// Forgets every request of this key.
    pub(crate) fn abandon(&mut self, context: &mut Context<'_>, matches: impl Fn(K) -> bool) {
        self.waiting.retain(|id, waiting| {
            let gone = matches(waiting.key);
            if gone {
                context.abandon(*id);
            }
            !gone
        });
    }
}
