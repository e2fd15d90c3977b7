//! Requests that come in: claimed inside the endpoint, answered by the application outside of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sipora_message::{HeaderName, Method, Request, Response, ResponseBuilder, Scheme, StatusCode};
use sipora_transaction_core::{
    Claim, Context, EndpointHandle, Event, IncomingRequest, ServerTransactionId, Tag, User,
};
use sipora_transport::Flow;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

use crate::{Answer, Incoming, SessionHandler};

/// Claims OPTIONS outside dialogs, and MESSAGE where there is a handler. What it does not claim gets the endpoint's default
/// answers.
pub(crate) struct SessionUser {
    server: String,
    /// `None`: there is no handler, and the answer is made here.
    jobs: Option<mpsc::Sender<Job>>,
    /// The client is enabled: NOTIFY is taken by its subscriptions.
    is_client: bool,
}

/// A request for the application.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    request: Request,
    transaction: ServerTransactionId,
    flow: Flow,
    /// The tag of its answers: the same for every copy of the request.
    tag: Tag,
    has_handler: bool,
    is_client: bool,
}

impl SessionUser {
    pub(crate) fn new(server: String, jobs: Option<mpsc::Sender<Job>>, is_client: bool) -> Self {
        Self {
            server,
            jobs,
            is_client,
        }
    }
}

impl User for SessionUser {
    type Command = std::convert::Infallible;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        if !self.methods().contains(incoming.request.method()) || !is_for_us(&incoming.request) {
            return Claim::Passed;
        }
        let job = Job {
            request: incoming.request.clone(),
            transaction: incoming.transaction,
            flow: incoming.flow,
            tag: context.keyed_tag(&incoming.request),
            has_handler: self.jobs.is_some(),
            is_client: self.is_client,
        };
        let (job, answer) = match &self.jobs {
            None => (job, Answer::ok()),
            Some(jobs) => match jobs.try_send(job) {
                Ok(()) => return Claim::Taken,
                Err(
                    mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job),
                ) => {
                    let busy = Answer::new(StatusCode::SERVICE_UNAVAILABLE);
                    (job, busy.with_header(HeaderName::RetryAfter, RETRY_AFTER))
                }
            },
        };
        if let Some(response) = response(&job, answer, &self.server) {
            let _ = context.respond(job.transaction, response);
        }
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, _: &mut Context<'_>, command: Self::Command) {
        match command {}
    }

    fn methods(&self) -> Vec<Method> {
        match self.jobs {
            None => vec![Method::Options],
            Some(_) => vec![Method::Options, Method::Message],
        }
    }
}

/// Requests that the rules of RFC 3261 §8.2 let pass; what they stop, the endpoint answers with 416, 420 or 481.
fn is_for_us(request: &Request) -> bool {
    let headers = request.headers();
    let scheme = request.uri().map(|uri| uri.scheme());
    matches!(scheme, Ok(Scheme::Sip | Scheme::Sips | Scheme::Tel))
        && headers.require().next().is_none()
        && headers.to().is_ok_and(|to| to.tag().is_none())
}

/// Makes the answer, or 500 where the application's cannot be sent.
fn response(job: &Job, answer: Answer, server: &str) -> Option<Response> {
    let built = if answer.status.is_final() {
        printed(job, answer, server)
    } else {
        None
    };
    built.or_else(|| printed(job, Answer::new(StatusCode::SERVER_INTERNAL_ERROR), server))
}

fn printed(job: &Job, answer: Answer, server: &str) -> Option<Response> {
    let mut builder = Response::for_request(&job.request, answer.status).to_tag(job.tag.as_str());
    if let Some(reason) = &answer.reason {
        builder = builder.reason(reason);
    }
    let is_options = *job.request.method() == Method::Options;
    match answer.status {
        StatusCode::OK if is_options => {
            let allow = allowed(job.has_handler, job.is_client);
            builder = with_capabilities(builder, allow, &answer.headers);
        }
        // RFC 3261 §21.4.6: "The response MUST include an Allow header field".
        StatusCode::METHOD_NOT_ALLOWED if !has(&answer.headers, &HeaderName::Allow) => {
            builder = builder.header(HeaderName::Allow, allowed(false, job.is_client));
        }
        _ => {}
    }
    if !has(&answer.headers, &HeaderName::Server) {
        builder = builder.header(HeaderName::Server, server);
    }
    for (name, value) in answer.headers {
        builder = builder.header(name, value);
    }
    // RFC 3428 §7: "A 2xx response to a MESSAGE request MUST NOT contain a body."
    let may_have_body = is_options || !answer.status.is_success();
    if let Some((content_type, body)) = answer.body.filter(|_| may_have_body) {
        builder = builder.body(&content_type, body);
    }
    builder.build().ok()
}

/// RFC 3261 §11.2: "Allow, Accept, Accept-Encoding, Accept-Language, and Supported header fields SHOULD be present".
fn with_capabilities(
    mut builder: ResponseBuilder,
    allow: &str,
    own: &[(HeaderName, String)],
) -> ResponseBuilder {
    let capabilities = [
        (HeaderName::Allow, allow),
        (HeaderName::Accept, "application/sdp"),
        (HeaderName::AcceptEncoding, "identity"),
        (HeaderName::AcceptLanguage, "en"),
        (HeaderName::Supported, ""),
    ];
    for (name, value) in capabilities {
        if !has(own, &name) {
            builder = builder.header(name, value);
        }
    }
    builder
}

fn has(headers: &[(HeaderName, String)], name: &HeaderName) -> bool {
    headers.iter().any(|(other, _)| other == name)
}

/// Lets the application answer: some requests at once, the rest waits in the channel.
pub(crate) async fn serve(
    mut jobs: mpsc::Receiver<Job>,
    handler: Arc<dyn SessionHandler>,
    endpoint: EndpointHandle,
    server: String,
) {
    let mut running: JoinSet<Answer> = JoinSet::new();
    let mut waiting: HashMap<Id, Job> = HashMap::new();
    loop {
        tokio::select! {
            job = jobs.recv(), if running.len() < CONCURRENT => {
                let Some(job) = job else { return };
                let task = running.spawn(ask(handler.clone(), job.clone()));
                waiting.insert(task.id(), job);
            }
            Some(result) = running.join_next_with_id() => {
                let (id, answer) = finished(result);
                let Some(job) = waiting.remove(&id) else { continue };
                if let Some(response) = response(&job, answer, &server) {
                    // Too late or shut down: nobody waits for the answer any more.
                    let _ = endpoint.respond(job.transaction, response).await;
                }
            }
        }
    }
}

async fn ask(handler: Arc<dyn SessionHandler>, job: Job) -> Answer {
    let incoming = Incoming {
        request: &job.request,
        flow: job.flow,
    };
    let answer = async {
        match job.request.method() {
            Method::Message => handler.on_message(&incoming).await,
            _ => handler.on_options(&incoming).await,
        }
    };
    let answer = tokio::time::timeout(HANDLER_DEADLINE, answer).await;
    answer.unwrap_or_else(|_| {
        tracing::warn!(peer = %job.flow, "the session handler took too long");
        Answer::new(StatusCode::SERVER_INTERNAL_ERROR)
    })
}

fn finished(result: Result<(Id, Answer), JoinError>) -> (Id, Answer) {
    match result {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "the session handler failed");
            (error.id(), Answer::new(StatusCode::SERVER_INTERNAL_ERROR))
        }
    }
}

/// Lists what is taken: MESSAGE by an application, NOTIFY by the client's subscriptions.
fn allowed(takes_messages: bool, is_client: bool) -> &'static str {
    match (takes_messages, is_client) {
        (false, false) => "OPTIONS",
        (true, false) => "OPTIONS, MESSAGE",
        (false, true) => "OPTIONS, NOTIFY",
        (true, true) => "OPTIONS, MESSAGE, NOTIFY",
    }
}

/// Requests that wait for the application: four rounds of what runs at once.
pub(crate) const WAITING: usize = 128;

/// Requests that the application answers at once.
const CONCURRENT: usize = 32;

/// The time that an application has; the peer's transaction lasts 32 s, and asks again several times before.
const HANDLER_DEADLINE: Duration = Duration::from_secs(5);

/// Seconds after which a refused peer may come again.
const RETRY_AFTER: &str = "5";
