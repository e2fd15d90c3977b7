//! An awaitable front for programs that only send requests.

use crate::{
    Claim, CommandError, Context, EndpointBuilder, Event, IncomingRequest, RequestError, RequestId,
    RequestOptions, SendError, Target, TransactionError, User, UserHandle,
};
use sipora_message::{Method, Request, Response, Scheme};
use sipora_transport::{Destination, Transport};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Names a request that a [`TransactionManager`] sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(RequestId);

impl fmt::Display for TransactionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Sends requests outside of dialogs and waits for their final answers. Cheap to clone.
///
/// It is a [`User`] that claims no requests, so it can share an endpoint with any others.
#[derive(Debug, Clone)]
pub struct TransactionManager {
    handle: UserHandle<Command>,
}

impl TransactionManager {
    /// Adds a manager to an endpoint that is being built.
    pub fn add_to(builder: &mut EndpointBuilder) -> Self {
        Self {
            handle: builder.add_user(Waiters::default()),
        }
    }

    /// Sends a request and names it. It goes by the transport of its Request-URI (`sips`, `transport=`), or else by UDP, and
    /// carries no Via of ours.
    ///
    /// INVITE, ACK and CANCEL are refused: their answers are a dialog layer's to deal with. An answer for which nobody waits
    /// is kept for 32 s.
    pub async fn create_non_dialog_transaction(
        &self,
        request: Request,
        destination: SocketAddr,
    ) -> Result<TransactionId, TransactionError> {
        if matches!(
            request.method(),
            Method::Invite | Method::Ack | Method::Cancel
        ) {
            return Err(TransactionError::MethodRefused(
                request.method().as_str().into(),
            ));
        }
        let target = Destination {
            transport: transport_of(&request),
            address: destination,
            server_name: request.uri().ok().map(|uri| uri.host().to_string().into()),
        };
        let (reply, outcome) = oneshot::channel();
        let target = Target::Destinations(vec![target]);
        self.handle
            .send(Command::Create {
                request: Box::new(request),
                target,
                reply,
            })
            .await?;
        outcome.await.map_err(|_| CommandError::Closed)?
    }

    /// Waits for the final answer, whatever its status. When the time, which begins now, is over, or when the future is
    /// dropped, the request is given up and its id forgotten.
    pub async fn wait_for_response(
        &self,
        id: TransactionId,
        timeout: Duration,
    ) -> Result<Response, TransactionError> {
        let (reply, outcome) = oneshot::channel();
        let _guard = Abandon {
            handle: &self.handle,
            id: id.0,
        };
        self.handle
            .send(Command::Wait {
                id: id.0,
                timeout,
                reply,
            })
            .await?;
        outcome.await.map_err(|_| CommandError::Closed)?
    }
}

/// Gives a request up when its waiter goes away. Where the queue is full, the waiter's own timeout does it.
struct Abandon<'a> {
    handle: &'a UserHandle<Command>,
    id: RequestId,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        let _ = self.handle.try_send(Command::Abandon(self.id));
    }
}

/// `sips` means TLS, or WSS where WebSocket is asked for (RFC 3263 §4.1, RFC 7118 §5.5).
fn transport_of(request: &Request) -> Transport {
    let Ok(uri) = request.uri() else {
        return Transport::Udp;
    };
    let named = uri
        .transport()
        .and_then(|name| name.parse::<Transport>().ok());
    match (uri.scheme(), named) {
        (Scheme::Sips, Some(Transport::Ws | Transport::Wss)) => Transport::Wss,
        (Scheme::Sips, _) => Transport::Tls,
        (_, Some(transport)) => transport,
        (_, None) => Transport::Udp,
    }
}

type Outcome = Result<Response, TransactionError>;

#[derive(Debug)]
enum Command {
    Create {
        request: Box<Request>,
        target: Target,
        reply: oneshot::Sender<Result<TransactionId, TransactionError>>,
    },
    Wait {
        id: RequestId,
        timeout: Duration,
        reply: oneshot::Sender<Outcome>,
    },
    Abandon(RequestId),
}

/// The user behind the manager.
#[derive(Debug, Default)]
struct Waiters {
    entries: HashMap<RequestId, Entry>,
    /// When entries are to be dropped.
    expiries: BTreeSet<(Instant, RequestId)>,
}

#[derive(Debug)]
struct Entry {
    state: State,
    expires: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// On its way; nobody waits yet.
    Sent,
    Awaited(oneshot::Sender<Outcome>),
    /// Nobody waited when it came.
    Kept(Outcome),
}

impl Waiters {
    fn expire_at(&mut self, id: RequestId, at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut entry.expires, at) {
            self.expiries.remove(&(before, id));
        }
        if let Some(at) = at {
            self.expiries.insert((at, id));
        }
    }

    fn remove(&mut self, id: RequestId) -> Option<State> {
        let entry = self.entries.remove(&id)?;
        if let Some(at) = entry.expires {
            self.expiries.remove(&(at, id));
        }
        Some(entry.state)
    }

    fn finish(&mut self, now: Instant, id: RequestId, outcome: Outcome) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if matches!(entry.state, State::Sent) {
            entry.state = State::Kept(outcome);
            self.expire_at(id, now.checked_add(KEPT));
            return;
        }
        if let Some(State::Awaited(reply)) = self.remove(id) {
            // A waiter that went away at this moment wants nothing.
            let _ = reply.send(outcome);
        }
    }

    fn wait(
        &mut self,
        now: Instant,
        id: RequestId,
        timeout: Duration,
        reply: oneshot::Sender<Outcome>,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            let _ = reply.send(Err(TransactionError::Unknown));
            return;
        };
        if matches!(entry.state, State::Sent) {
            entry.state = State::Awaited(reply);
            self.expire_at(id, now.checked_add(timeout));
            return;
        }
        let outcome = match entry.state {
            // Two waiters for one answer: the first gets it.
            State::Awaited(_) => Err(TransactionError::Unknown),
            _ => match self.remove(id) {
                Some(State::Kept(outcome)) => outcome,
                _ => Err(TransactionError::Unknown),
            },
        };
        let _ = reply.send(outcome);
    }
}

impl User for Waiters {
    type Command = Command;

    fn on_request(&mut self, _context: &mut Context<'_>, _request: &IncomingRequest) -> Claim {
        Claim::Passed
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        let now = context.now().instant;
        match event {
            Event::Response {
                request, response, ..
            } if response.status().is_final() => {
                self.finish(now, request, Ok(response));
            }
            Event::Failed { request, error } => self.finish(now, request, Err(error.into())),
            _ => {}
        }
    }

    fn on_command(&mut self, context: &mut Context<'_>, command: Command) {
        let now = context.now().instant;
        match command {
            Command::Create { reply, .. } if self.entries.len() >= MOST_ENTRIES => {
                let _ = reply.send(Err(SendError::Overloaded.into()));
            }
            Command::Create {
                request,
                target,
                reply,
            } => match context.send(*request, target, RequestOptions::default()) {
                Ok(id) => {
                    self.entries.insert(
                        id,
                        Entry {
                            state: State::Sent,
                            expires: None,
                        },
                    );
                    if reply.send(Ok(TransactionId(id))).is_err() {
                        self.remove(id);
                        context.abandon(id);
                    }
                }
                Err(error) => {
                    let _ = reply.send(Err(error.into()));
                }
            },
            Command::Wait { id, timeout, reply } => self.wait(now, id, timeout, reply),
            Command::Abandon(id) => {
                // A waiter that has had its answer finds nothing here.
                if self.remove(id).is_some() {
                    context.abandon(id);
                }
            }
        }
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now().instant;
        while let Some(&(at, id)) = self.expiries.first() {
            if at > now {
                return;
            }
            if let Some(State::Awaited(reply)) = self.remove(id) {
                let _ = reply.send(Err(RequestError::Timeout.into()));
            }
            context.abandon(id);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.expiries.first().map(|&(at, _)| at)
    }
}

/// How long an answer is kept for which nobody waits: as long as the request itself may take.
const KEPT: Duration = Duration::from_secs(32);

/// Requests on their way and answers kept, all together: as many as the core takes by default.
const MOST_ENTRIES: usize = 100_000;
