//! The gate: who sends a request, proven with digest credentials (RFC 3261 §22). Registrar, relay and presence agent each
//! have one; what the user may then do is theirs to say.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sipora_auth::{Authenticator, Challenger, Claims, Reason, Secret, Verdict};
use sipora_message::{Request, StatusCode};
use sipora_transaction_core::{Context, IncomingRequest};

use crate::metrics::count;
use crate::pace::Pace;
use crate::refusal::Refusal;
use crate::registrar::Shared;
use crate::users::UserStore;
use crate::{Answer, StoreError};

/// Whether users have to prove who they are.
pub(crate) enum Access {
    /// Nobody is asked.
    Open,
    /// Everybody is.
    Digest {
        /// Asks with 401, as who answers a request itself.
        authenticator: Box<Authenticator>,
        /// Asks with 407 those who want something relayed.
        proxy: Box<Authenticator>,
        users: Arc<dyn UserStore>,
    },
}

/// What a request claims, and the secret of each username that it claims, if there is such a user.
pub(crate) struct Secrets {
    claims: Box<Claims>,
    users: Vec<(String, Option<Secret>)>,
}

/// Asks for credentials and judges them, for one part of the server.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    asker: Asker,
    /// Of the log lines about wrong credentials.
    wrong_credentials: Pace,
}

/// The part of the server that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Registrar,
    Relay,
    Presence,
}

impl Asker {
    /// Who answers a request itself asks with 401, who carries it on with 407 (RFC 3261 §22.1).
    fn challenger(self) -> Challenger {
        match self {
            Asker::Registrar | Asker::Presence => Challenger::Server,
            Asker::Relay => Challenger::Proxy,
        }
    }
}

/// Why a request did not pass.
pub(crate) enum Stopped {
    /// It was answered with a challenge.
    Challenged,
    /// It is a stranger's, and is to be answered with this, without a transaction.
    Stranger(Refusal),
    /// The store of users failed.
    Failed(Refusal),
}

impl Gate {
    pub(crate) fn new(shared: Arc<Shared>, asker: Asker) -> Self {
        Self {
            shared,
            asker,
            wrong_credentials: Pace::default(),
        }
    }

    /// Asks for the secrets of those who claim to have sent a request; `None` where nobody is asked who they are.
    pub(crate) fn secrets(
        &self,
        request: &Request,
        realm: &str,
    ) -> Option<Answer<Result<Secrets, StoreError>>> {
        let Access::Digest { users, .. } = &self.shared.access else {
            return None;
        };
        let claims = self.authenticator()?.ask_in(realm).claims(request);
        Some(secrets_of(users.as_ref(), Box::new(claims), realm))
    }

    /// Judges the credentials of a request, and gives the user of the realm who sent it. A challenge that is due is sent.
    pub(crate) fn judge(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        realm: &str,
        secrets: Result<Secrets, StoreError>,
    ) -> Result<Box<str>, Stopped> {
        let shared = Arc::clone(&self.shared);
        let forbidden = || Stopped::Stranger(Refusal::new(StatusCode::FORBIDDEN, "Forbidden"));
        let authenticator = self.authenticator().ok_or_else(forbidden)?;
        let secrets =
            secrets.map_err(|error| Stopped::Failed(shared.answers.store_failed(&error)))?;
        let lookup = |_: &str, username: &str| {
            let known = secrets
                .users
                .iter()
                .find(|(claimed, _)| claimed == username);
            known.and_then(|(_, secret)| secret.clone())
        };
        let now = context.now();
        let verdict = authenticator.ask_in(realm).verify_claims(
            now.wall,
            &incoming.request,
            &secrets.claims,
            &lookup,
            |uri| shared.domains.leads_here(uri, now.instant),
        );
        match verdict {
            Verdict::Accepted(identity) => Ok(user_of(&identity.username, realm).into()),
            Verdict::Challenge { stale, reason, .. } => {
                let claimed = secrets.users.first().map_or("", |(username, _)| username);
                self.count(context, incoming, realm, claimed, reason);
                self.challenge(context, incoming, realm, stale);
                Err(Stopped::Challenged)
            }
            Verdict::Malformed { error } => {
                Err(Stopped::Stranger(Refusal::bad_request(error.to_string())))
            }
            // A verdict of a later version that this one does not know lets nobody in.
            _ => Err(forbidden()),
        }
    }

    fn count(
        &mut self,
        context: &Context<'_>,
        incoming: &IncomingRequest,
        realm: &str,
        claimed: &str,
        reason: Reason,
    ) {
        let (challenges, wrong_credentials) = self.counters();
        if !reason.is_failure() {
            return count(challenges);
        }
        count(wrong_credentials);
        // For operators, and for programs that watch for guessing.
        if let Some(held_back) = self.wrong_credentials.admit(context.now().instant) {
            let username: String = claimed.chars().take(MAX_LOGGED_CHARACTERS).collect();
            let (peer, method) = (incoming.flow.remote, incoming.request.method().as_str());
            tracing::info!(%peer, method, realm, ?username, held_back, "wrong credentials");
        }
    }

    fn challenge(
        &self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        realm: &str,
        stale: bool,
    ) {
        let Some(authenticator) = self.authenticator() else {
            return;
        };
        let now = context.now().wall;
        let lines = authenticator
            .ask_in(realm)
            .challenge(now, &incoming.request, stale);
        let status = self.asker.challenger().status();
        let answers = &self.shared.answers;
        answers.stateless(context, incoming, status, None, &lines);
    }

    fn authenticator(&self) -> Option<&Authenticator> {
        match (&self.shared.access, self.asker.challenger()) {
            (Access::Open, _) => None,
            (Access::Digest { proxy, .. }, Challenger::Proxy) => Some(proxy),
            (Access::Digest { authenticator, .. }, _) => Some(authenticator),
        }
    }

    /// Challenges, and wrong credentials.
    fn counters(&self) -> (&AtomicU64, &AtomicU64) {
        let (registrar, relay) = (&self.shared.counters, &self.shared.relay_counters);
        let presence = &self.shared.presence_counters;
        match self.asker {
            Asker::Registrar => (&registrar.challenges, &registrar.wrong_credentials),
            Asker::Relay => (&relay.challenges, &relay.wrong_credentials),
            Asker::Presence => (&presence.challenges, &presence.wrong_credentials),
        }
    }
}

fn secrets_of(
    users: &dyn UserStore,
    claims: Box<Claims>,
    domain: &str,
) -> Answer<Result<Secrets, StoreError>> {
    let asked = claims.usernames().into_iter().map(|username| {
        let answer = users.secret(user_of(&username, domain), domain);
        (username, answer)
    });
    let asked: Vec<(String, Answer<_>)> = asked.collect();
    let is_there = |(_, answer): &(String, Answer<_>)| matches!(answer, Answer::Now(_));
    if asked.iter().all(is_there) {
        let secrets = asked
            .into_iter()
            .filter_map(|(username, answer)| match answer {
                Answer::Now(secret) => Some(secret.map(|secret| (username, secret))),
                Answer::Later(_) => None,
            });
        let users: Result<Vec<_>, StoreError> = secrets.collect();
        return Answer::Now(users.map(|users| Secrets { claims, users }));
    }
    Answer::later(async move {
        let mut users = Vec::new();
        for (username, answer) in asked {
            users.push((username, answer.wait().await?));
        }
        Ok(Secrets { claims, users })
    })
}

/// Some clients log in as `user@domain`; that is the same user.
fn user_of<'a>(username: &'a str, domain: &str) -> &'a str {
    match username.rsplit_once('@') {
        Some((user, of)) if of.eq_ignore_ascii_case(domain) => user,
        _ => username,
    }
}

/// Of a name that a stranger sent.
const MAX_LOGGED_CHARACTERS: usize = 64;
