//! Transaction users: what runs inside a shard and decides about requests.

use super::Context;
use crate::{CommandError, Event, IncomingRequest, Owner};
use sipora_message::{Method, Request};
use std::fmt;
use std::task;
use std::time::Instant;
use tokio::sync::mpsc;

/// Decides about requests and hears what became of its own: a registrar, a proxy, a dialog layer.
///
/// A user runs inside a task of the endpoint and never waits. What takes time (a database, an application) is started
/// elsewhere and comes back as a command through the user's [`UserHandle`].
pub trait User: Send + 'static {
    /// What its handle can tell it.
    type Command: Send + 'static;

    /// Decides whether a request is its own. Called for each request that matches no transaction, ACK included, in the
    /// order in which users were added, until one of them takes it.
    ///
    /// What it takes it has to answer in the end: an INVITE within [`Timers::forgotten`](crate::Timers::forgotten) of its
    /// last answer, any other request before its client has given up (64*T1).
    fn on_request(&mut self, context: &mut Context<'_>, request: &IncomingRequest) -> Claim;

    /// Says whether the endpoint is to refuse a request with 482 that this user has before it already, come by another way
    /// (RFC 3261 §8.2.2.2): a request that a proxy forked, and two branches of which ended here. Asked before
    /// [`on_request`](User::on_request) about requests that the user may turn out not to want.
    ///
    /// A user agent, a registrar and whoever else serves requests itself says yes. A proxy says no, which is the default:
    /// it may get a request twice, and forwards it each time. What counts is what this user took before; that a request
    /// went through a proxy in the same endpoint first makes it no merged one.
    fn refuses_merged(&self, request: &IncomingRequest) -> bool {
        let _ = request;
        false
    }

    /// Hears about a request or transaction of its own, or about a closed flow.
    fn on_event(&mut self, context: &mut Context<'_>, event: Event);

    /// Obeys its handle.
    fn on_command(&mut self, context: &mut Context<'_>, command: Self::Command);

    /// Wakes up: the time that [`next_timeout`](User::next_timeout) named has come.
    fn on_timeout(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// Names the time at which it wants to be woken. Asked after every call into the user.
    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Hears that the endpoint is shutting down: no new requests will come, and none can be sent but BYE, CANCEL and ACK, whose
    /// answers the shutdown waits for in its time. What else a user wants to say to its peers at the end, such as that it
    /// unregisters, it has to say before.
    fn on_shutdown(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// Lists the methods that it may claim, for the `Allow` of default answers, and, where there are several shards and one
    /// such user, for the others to know what to ask it about: with an empty list, about everything.
    fn methods(&self) -> Vec<Method> {
        Vec::new()
    }
}

/// Says whether a user takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The request is this user's: it has answered, or will.
    Taken,
    /// The next user is asked.
    Passed,
}

/// Sends commands to a user inside an endpoint. Cheap to clone.
pub struct UserHandle<C> {
    pub(crate) sender: mpsc::Sender<C>,
    pub(crate) owner: Owner,
}

impl<C> UserHandle<C> {
    /// Sends a command if there is room for it.
    pub fn try_send(&self, command: C) -> Result<(), CommandError> {
        self.sender.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Full,
            mpsc::error::TrySendError::Closed(_) => CommandError::Closed,
        })
    }

    /// Sends a command, waiting for room.
    pub async fn send(&self, command: C) -> Result<(), CommandError> {
        self.sender
            .send(command)
            .await
            .map_err(|_| CommandError::Closed)
    }

    /// Waits until the endpoint has ended.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Says whether the endpoint has ended.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns the user's place in the order of claims.
    pub fn owner(&self) -> Owner {
        self.owner
    }
}

impl<C> Clone for UserHandle<C> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            owner: self.owner,
        }
    }
}

impl<C> fmt::Debug for UserHandle<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UserHandle")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// A place in the order of claims, as one shard sees it.
pub(super) enum Chair {
    /// A user sits in this shard.
    Taken {
        user: Box<dyn AnyUser>,
        /// For all shards, and not only for this one.
        is_alone: bool,
    },
    /// There is one user for all shards, in the first, who may claim these methods; any where there are none.
    Elsewhere(Vec<Method>),
}

impl Chair {
    /// Puts a user and its queue of commands in a shard.
    pub(super) fn taken<U: User>(user: U, commands: mpsc::Receiver<U::Command>) -> Self {
        Self::Taken {
            user: Box::new(Seat::new(user, commands)),
            is_alone: false,
        }
    }

    /// Makes its user that of all shards.
    pub(super) fn alone(mut self) -> Self {
        if let Self::Taken { is_alone, .. } = &mut self {
            *is_alone = true;
        }
        self
    }

    pub(super) fn methods(&self) -> Vec<Method> {
        match self {
            Self::Taken { user, .. } => user.methods(),
            Self::Elsewhere(methods) => methods.clone(),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Taken { user, .. } => user.next_timeout(),
            Self::Elsewhere(_) => None,
        }
    }

    /// Says whether a user in the first shard is to be asked about a request. What belongs to another request, and is listed
    /// by nobody, always may be its.
    pub(super) fn wants(&self, request: &Request) -> bool {
        let Self::Elsewhere(methods) = self else {
            return false;
        };
        let method = request.method();
        let follows = matches!(method, Method::Ack | Method::Cancel | Method::Prack);
        follows || methods.is_empty() || methods.contains(method)
    }
}

/// A user whose type of commands the shard need not know.
pub(super) trait AnyUser: Send {
    fn on_request(&mut self, context: &mut Context<'_>, request: &IncomingRequest) -> Claim;
    fn refuses_merged(&self, request: &IncomingRequest) -> bool;
    fn on_event(&mut self, context: &mut Context<'_>, event: Event);
    fn on_timeout(&mut self, context: &mut Context<'_>);
    fn on_shutdown(&mut self, context: &mut Context<'_>);
    fn next_timeout(&self) -> Option<Instant>;
    fn methods(&self) -> Vec<Method>;
    /// Obeys one command and says whether there was one.
    fn poll_command(&mut self, task: &mut task::Context<'_>, context: &mut Context<'_>) -> bool;
}

pub(super) struct Seat<U: User> {
    user: U,
    commands: mpsc::Receiver<U::Command>,
}

impl<U: User> Seat<U> {
    pub(super) fn new(user: U, commands: mpsc::Receiver<U::Command>) -> Self {
        Self { user, commands }
    }
}

impl<U: User> AnyUser for Seat<U> {
    fn on_request(&mut self, context: &mut Context<'_>, request: &IncomingRequest) -> Claim {
        self.user.on_request(context, request)
    }

    fn refuses_merged(&self, request: &IncomingRequest) -> bool {
        self.user.refuses_merged(request)
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        self.user.on_event(context, event);
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        self.user.on_timeout(context);
    }

    fn on_shutdown(&mut self, context: &mut Context<'_>) {
        self.user.on_shutdown(context);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.user.next_timeout()
    }

    fn methods(&self) -> Vec<Method> {
        self.user.methods()
    }

    fn poll_command(&mut self, task: &mut task::Context<'_>, context: &mut Context<'_>) -> bool {
        let task::Poll::Ready(Some(command)) = self.commands.poll_recv(task) else {
            return false;
        };
        self.user.on_command(context, command);
        true
    }
}
