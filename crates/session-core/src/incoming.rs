//! Requests that come in: claimed inside the endpoint, answered by the application outside of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sipora_dialog_core::has_foreign_body;
use sipora_message::{HeaderName, Method, Request, Response, ResponseBuilder, Scheme, StatusCode};
use sipora_transaction_core::{
    Claim, Context, EndpointHandle, Event, IncomingRequest, ServerTransactionId, Tag, User,
    UserHandle,
};
use sipora_transport::Flow;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::{Id, JoinError, JoinSet};

use crate::flows::Board as Flows;
use crate::watcher::{Board, Command, Decision, Shared};
use crate::{Answer, Incoming, SessionHandler, SubscribeAnswer, Watcher};

/// Claims OPTIONS outside dialogs and, where there is a handler, MESSAGE and NOTIFY. What it does not claim gets the
/// endpoint's default answers.
pub(crate) struct SessionUser {
    abilities: Arc<Abilities>,
    /// `None`: there is no handler, and the answer is made here.
    jobs: Option<mpsc::Sender<Job>>,
    flows: Arc<Flows>,
}

/// What this coordinator can do, and what it calls itself.
#[derive(Debug, Default)]
pub(crate) struct Abilities {
    pub(crate) server: String,
    pub(crate) has_handler: bool,
    /// The client is enabled: NOTIFY is taken by its subscriptions.
    pub(crate) is_client: bool,
    /// Calls are made and taken.
    pub(crate) has_calls: bool,
    /// Calls are transferred.
    pub(crate) has_transfers: bool,
    /// What calls understand, as Supported lists it.
    pub(crate) extensions: String,
    /// The events that are served, as Allow-Events lists them.
    pub(crate) events: String,
}

/// A request for the application.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    request: Request,
    transaction: ServerTransactionId,
    flow: Flow,
    /// The tag of its answers: the same for every copy of the request.
    tag: Tag,
    abilities: Arc<Abilities>,
    /// The subscription that a SUBSCRIBE wants.
    wanted: Option<Arc<Shared>>,
}

impl Job {
    pub(crate) fn new(
        context: &Context<'_>,
        incoming: &IncomingRequest,
        abilities: &Arc<Abilities>,
    ) -> Self {
        Self {
            request: incoming.request.clone(),
            transaction: incoming.transaction,
            flow: incoming.flow,
            tag: context.keyed_tag(&incoming.request),
            abilities: abilities.clone(),
            wanted: None,
        }
    }

    pub(crate) fn about(self, wanted: Arc<Shared>) -> Self {
        Self {
            wanted: Some(wanted),
            ..self
        }
    }

    /// Hands it to the application.
    ///
    /// # Errors
    ///
    /// The answer that it gets instead: 503 with Retry-After, where too many wait.
    pub(crate) fn hand_to(self, jobs: &mpsc::Sender<Job>) -> Result<(), Option<Response>> {
        jobs.try_send(self).map_err(|error| {
            let (TrySendError::Full(job) | TrySendError::Closed(job)) = error;
            let busy = Answer::new(StatusCode::SERVICE_UNAVAILABLE);
            response(&job, busy.with_header(HeaderName::RetryAfter, RETRY_AFTER))
        })
    }
}

impl SessionUser {
    pub(crate) fn new(
        abilities: Arc<Abilities>,
        jobs: Option<mpsc::Sender<Job>>,
        flows: Arc<Flows>,
    ) -> Self {
        Self {
            abilities,
            jobs,
            flows,
        }
    }
}

impl User for SessionUser {
    type Command = std::convert::Infallible;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        if !self.methods().contains(incoming.request.method()) || !is_for_us(&incoming.request) {
            return Claim::Passed;
        }
        let job = Job::new(context, incoming, &self.abilities);
        let answered = match (&self.jobs, wrong(&incoming.request)) {
            (_, Some(answer)) => response(&job, answer),
            (None, None) => response(&job, Answer::ok()),
            (Some(jobs), None) => match job.hand_to(jobs) {
                Ok(()) => None,
                Err(response) => response,
            },
        };
        if let Some(response) = answered {
            let _ = context.respond(incoming.transaction, response);
        }
        Claim::Taken
    }

    /// One request that came by two ways is one request for the application (RFC 3261 §8.2.2.2).
    fn refuses_merged(&self, _: &IncomingRequest) -> bool {
        true
    }

    fn on_event(&mut self, _: &mut Context<'_>, event: Event) {
        if let Event::FlowClosed { flow } = event {
            self.flows.closed(flow);
        }
    }

    fn on_command(&mut self, _: &mut Context<'_>, command: Self::Command) {
        match command {}
    }

    fn methods(&self) -> Vec<Method> {
        match self.jobs {
            None => vec![Method::Options],
            Some(_) => vec![Method::Options, Method::Message, Method::Notify],
        }
    }
}

/// The answer to an OPTIONS with a body that is not understood (RFC 3261 §8.2.3), and to a NOTIFY that names no event (RFC 6665 §8.2.1),
/// whoever might want it.
fn wrong(request: &Request) -> Option<Answer> {
    match request.method() {
        Method::Options if has_foreign_body(request, &[SDP]) => {
            let unsupported = Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            let unsupported = unsupported.with_header(HeaderName::Accept, SDP);
            return Some(unsupported.with_header(HeaderName::AcceptEncoding, "identity"));
        }
        Method::Notify => {}
        _ => return None,
    }
    match request.headers().event() {
        Ok(Some(_)) => None,
        Ok(None) => Some(Answer::new(StatusCode::BAD_EVENT)),
        Err(_) => Some(Answer::new(StatusCode::BAD_REQUEST).with_reason("Event cannot be read")),
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
fn response(job: &Job, answer: Answer) -> Option<Response> {
    let built = match answer.status.is_final() {
        true => printed(job, answer),
        false => None,
    };
    built.or_else(|| printed(job, Answer::new(StatusCode::SERVER_INTERNAL_ERROR)))
}

fn printed(job: &Job, answer: Answer) -> Option<Response> {
    let abilities = &*job.abilities;
    let method = job.request.method();
    let mut builder = Response::for_request(&job.request, answer.status).to_tag(job.tag.as_str());
    if let Some(reason) = &answer.reason {
        builder = builder.reason(reason);
    }
    let is_options = *method == Method::Options;
    let mut lists_events = false;
    match answer.status {
        StatusCode::OK if is_options => {
            builder = with_capabilities(builder, abilities, &answer.headers);
            lists_events = true;
        }
        // RFC 3261 §21.4.6: "The response MUST include an Allow header field".
        StatusCode::METHOD_NOT_ALLOWED if !has(&answer.headers, &HeaderName::Allow) => {
            builder = builder.header(HeaderName::Allow, abilities.allow(Some(method)));
        }
        // RFC 6665 §8.3.2: "This response MUST contain an Allow-Events header field".
        StatusCode::BAD_EVENT => lists_events = true,
        _ => {}
    }
    let events = &abilities.events;
    if lists_events && !events.is_empty() && !has(&answer.headers, &HeaderName::AllowEvents) {
        builder = builder.header(HeaderName::AllowEvents, events);
    }
    if !has(&answer.headers, &HeaderName::Server) {
        builder = builder.header(HeaderName::Server, &abilities.server);
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
    abilities: &Abilities,
    own: &[(HeaderName, String)],
) -> ResponseBuilder {
    let capabilities = [
        (HeaderName::Allow, &*abilities.allow(None)),
        (HeaderName::Accept, SDP),
        (HeaderName::AcceptEncoding, "identity"),
        (HeaderName::AcceptLanguage, "en"),
        (HeaderName::Supported, &abilities.extensions),
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

/// What serves requests that wait, outside the endpoint.
pub(crate) struct Desk {
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) handler: Arc<dyn SessionHandler>,
    pub(crate) endpoint: EndpointHandle,
    pub(crate) board: Board,
    pub(crate) watchers: UserHandle<Command>,
}

/// What an application has said.
enum Said {
    Answer(Answer),
    Subscribe(SubscribeAnswer),
}

impl Desk {
    /// Lets the application answer: some requests at once, the rest waits in the channel.
    pub(crate) async fn serve(mut self) {
        let mut running: JoinSet<Said> = JoinSet::new();
        let mut waiting: HashMap<Id, Job> = HashMap::new();
        loop {
            tokio::select! {
                job = self.jobs.recv(), if running.len() < CONCURRENT => {
                    let Some(job) = job else { return };
                    let task = running.spawn(self.ask(job.clone()));
                    waiting.insert(task.id(), job);
                }
                Some(result) = running.join_next_with_id() => {
                    let (id, said) = finished(result);
                    if let Some(job) = waiting.remove(&id) {
                        self.answer(&job, said).await;
                    }
                }
            }
        }
    }

    /// Sends an answer. Where it comes too late, or everything has been shut down, nobody waits for it any more.
    async fn answer(&self, job: &Job, said: Said) {
        let accept = |is_pending| Decision::Accept { is_pending };
        let (decision, answer) = match said {
            Said::Subscribe(SubscribeAnswer::Active) => (Some(accept(false)), None),
            Said::Subscribe(SubscribeAnswer::Pending) => (Some(accept(true)), None),
            Said::Subscribe(SubscribeAnswer::Refuse(answer)) if answer.status.as_u16() < 300 => {
                (None, Some(Answer::new(StatusCode::SERVER_INTERNAL_ERROR)))
            }
            Said::Subscribe(SubscribeAnswer::Refuse(answer)) | Said::Answer(answer) => {
                (None, Some(answer))
            }
        };
        let response = answer.and_then(|answer| response(job, answer));
        if job.wanted.is_none() {
            if let Some(response) = response {
                let _ = self.endpoint.respond(job.transaction, response).await;
            }
            return;
        }
        let refusal = response.map(|response| Decision::Refuse(Box::new(response)));
        if let Some(decision) = decision.or(refusal) {
            let command = Command::Decided(job.transaction, decision);
            let _ = self.watchers.send(command).await;
        }
    }

    fn ask(&self, job: Job) -> impl Future<Output = Said> + Send + 'static {
        let handler = self.handler.clone();
        let watcher = job
            .wanted
            .clone()
            .map(|wanted| Watcher::new(wanted, self.board.clone(), self.watchers.clone()));
        async move {
            let incoming = Incoming {
                request: &job.request,
                flow: job.flow,
            };
            let said = async {
                if let Some(watcher) = watcher {
                    return Said::Subscribe(handler.on_subscribe(&incoming, watcher).await);
                }
                Said::Answer(match job.request.method() {
                    Method::Message => handler.on_message(&incoming).await,
                    Method::Notify => handler.on_notify(&incoming).await,
                    _ => handler.on_options(&incoming).await,
                })
            };
            let said = tokio::time::timeout(HANDLER_DEADLINE, said).await;
            said.unwrap_or_else(|_| {
                tracing::warn!(peer = %job.flow, "the session handler took too long");
                Said::Answer(Answer::new(StatusCode::SERVER_INTERNAL_ERROR))
            })
        }
    }
}

fn finished(result: Result<(Id, Said), JoinError>) -> (Id, Said) {
    match result {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "the session handler failed");
            let answer = Answer::new(StatusCode::SERVER_INTERNAL_ERROR);
            (error.id(), Said::Answer(answer))
        }
    }
}

impl Abilities {
    /// Lists what is taken: what calls are made of, MESSAGE and NOTIFY by an application, NOTIFY by the client's subscriptions too, SUBSCRIBE where
    /// events are served.
    fn allow(&self, except: Option<&Method>) -> String {
        let methods = [
            (Method::Invite, self.has_calls),
            (Method::Ack, self.has_calls),
            (Method::Cancel, self.has_calls),
            (Method::Bye, self.has_calls),
            (Method::Info, self.has_calls),
            (Method::Prack, self.has_calls),
            (Method::Update, self.has_calls),
            (Method::Refer, self.has_calls && self.has_transfers),
            (Method::Options, true),
            (Method::Message, self.has_handler),
            (Method::Notify, self.has_handler || self.is_client),
            (Method::Subscribe, !self.events.is_empty()),
        ];
        let allowed = methods
            .iter()
            .filter(|(method, is_taken)| *is_taken && Some(method) != except);
        let names: Vec<&str> = allowed.map(|(method, _)| method.as_str()).collect();
        names.join(", ")
    }
}

/// The bodies of OPTIONS that are understood.
const SDP: &str = "application/sdp";

/// Requests that wait for the application: four rounds of what runs at once.
pub(crate) const WAITING: usize = 128;

/// Requests that the application answers at once.
const CONCURRENT: usize = 32;

/// The time that an application has; the peer's transaction lasts 32 s, and asks again several times before.
const HANDLER_DEADLINE: Duration = Duration::from_secs(5);

/// Seconds after which a refused peer may come again.
const RETRY_AFTER: &str = "5";
