//! The client side: answers to challenges, and credentials sent before anybody asks.

use std::collections::VecDeque;
use std::fmt;

use sipora_message::{AuthValue, HeaderError, HeaderName, Headers, Method, Request, Response};

use crate::answer::DigestResponse;
use crate::calculation::Covered;
use crate::challenge::Challenge;
use crate::challenger::Challenger;
use crate::credentials::Credentials;
use crate::error::AuthError;
use crate::parameters::is_quotable;
use crate::session::{Scope, Session};

/// Answers digest challenges for one user agent and remembers each realm's nonce.
///
/// It has no clock and no randomness: the caller brings a `cnonce`, unguessable and new for each call.
/// The strongest algorithm wins, whatever the order of the challenges (SHA-512-256, SHA-256, MD5; among equals the
/// topmost); what is unknown is skipped (RFC 8760 §2.4). `auth` is preferred to `auth-int`.
pub struct ClientAuthenticator {
    credentials: Vec<Credentials>,
    /// The newest is last.
    sessions: Vec<Session>,
    /// Nonces that came with `stale=true`, the newest last: none of them may be called stale at its first use.
    after_stale: VecDeque<String>,
}

impl ClientAuthenticator {
    /// Makes an authenticator that has one set of credentials.
    pub fn new(credentials: Credentials) -> Self {
        ClientAuthenticator {
            credentials: vec![credentials],
            sessions: Vec::new(),
            after_stale: VecDeque::new(),
        }
    }

    /// Adds credentials. Those kept for the realm that asks are used before those for any realm, then those kept for
    /// proxies before those for everybody; among equals the first.
    pub fn add(&mut self, credentials: Credentials) {
        self.credentials.push(credentials);
    }

    /// Answers the challenges that `response` made to `request`.
    ///
    /// Gives the header fields for the retry. They take the place of **every** `Authorization` and
    /// `Proxy-Authorization` of the request: what the request carried for other realms is among them, counted up. The
    /// retry also needs CSeq + 1 and a new branch, and keeps Call-ID and From tag (RFC 3261 §22.2, §8.1.3.5).
    ///
    /// # Errors
    ///
    /// [`AuthError::Rejected`] when a realm asks again that was just answered: a wrong password never goes out twice.
    /// With `stale=true` the answer is made once more with the new nonce; when that is stale too,
    /// [`AuthError::StaleAgain`]. A nonce that has served before may be replaced once without `stale=true`, because
    /// servers exist that forget to say so. [`AuthError::NoCredentials`] and [`AuthError::NoUsableChallenge`] mean that
    /// the 401 or 407 is the final answer.
    pub fn answer(
        &mut self,
        request: &Request,
        response: &Response,
        cnonce: &str,
    ) -> Result<Vec<(HeaderName, String)>, AuthError> {
        let asked = Asked::of(request);
        if !is_quotable(cnonce) {
            return Err(AuthError::NotRepresentable { what: "cnonce" });
        }
        let challenges = strongest_of_each_realm(response.headers())?;
        // Credentials stay in the retries, so this also bounds how often a hostile server can invent another realm.
        if asked.carried.len() >= MAX_CREDENTIALS {
            return Err(AuthError::TooManyRealms);
        }
        let mut answered = Vec::new();
        let mut unknown = None;
        for (challenger, challenge) in challenges {
            let realm = challenge.realm.clone();
            self.check_retry(&asked, challenger, &challenge)?;
            match self.begin(&asked, challenger, challenge)? {
                true if answered.len() < MAX_CREDENTIALS => answered.push((challenger, realm)),
                true => {}
                false => unknown = unknown.or(Some(realm)),
            }
        }
        if let (true, Some(realm)) = (answered.is_empty(), unknown) {
            return Err(AuthError::NoCredentials { realm });
        }
        Ok(self.collect(&asked, &answered, cnonce))
    }

    /// Gives credentials for a request that nobody has challenged yet, where a session fits it.
    ///
    /// A server's session fits requests to the same host or with the same Call-ID; a proxy's, requests with the same
    /// Call-ID, and when the credentials are kept for its realm (RFC 3261 §22.3), those that begin on the same way, by the
    /// first Route or else the host: a stranger learns nothing to guess a password from. Nothing fits ACK, which
    /// repeats the credentials of its INVITE, and CANCEL, which nobody may challenge (§22.1).
    pub fn preempt(&mut self, request: &Request, cnonce: &str) -> Vec<(HeaderName, String)> {
        if matches!(request.method(), Method::Ack | Method::Cancel) || !is_quotable(cnonce) {
            return Vec::new();
        }
        let asked = Asked::of(request);
        self.sessions
            .iter_mut()
            .filter(|session| asked.is_within(session))
            .filter_map(|session| {
                let answer = session.authorize(asked.covered, cnonce)?;
                Some((session.challenger.credentials_header(), answer.to_string()))
            })
            .collect()
    }

    /// Takes from a response what it says about later requests: `nextnonce` (RFC 7616 §3.5).
    pub fn learn(&mut self, request: &Request, response: &Response) {
        for challenger in Challenger::BOTH {
            let Some(next) = next_nonce(response.headers(), challenger) else {
                continue;
            };
            // The header names no realm: with one set of credentials there is no doubt whose nonce it is.
            let mut carried = request
                .headers()
                .credentials(&challenger.credentials_header());
            let (Some(Ok(value)), None) = (carried.next(), carried.next()) else {
                continue;
            };
            let Ok(answer) = DigestResponse::try_from(value) else {
                continue;
            };
            let session = self
                .sessions
                .iter_mut()
                .find(|s| s.is(challenger, &answer.realm) && s.nonce() == answer.nonce);
            if let Some(session) = session {
                session.adopt(next);
            }
        }
    }

    /// Forgets every nonce, so that the next request goes out without credentials.
    pub fn forget(&mut self) {
        self.sessions.clear();
        self.after_stale.clear();
    }

    /// Refuses to answer a realm that has just refused our answer.
    fn check_retry(
        &mut self,
        asked: &Asked<'_>,
        challenger: Challenger,
        challenge: &Challenge,
    ) -> Result<(), AuthError> {
        let realm = challenge.realm.as_str();
        let Some(sent) = asked.credentials_for(challenger, realm) else {
            return Ok(());
        };
        let session = self.sessions.iter().find(|s| s.is(challenger, realm));
        let first_answer = Session::was_first_answer(session, sent);
        let same_nonce = challenge.nonce == sent.nonce;
        let issued_as_fresh = first_answer && self.after_stale.contains(&sent.nonce);
        let error = match (challenge.stale, first_answer) {
            (true, _) if same_nonce || issued_as_fresh => AuthError::StaleAgain {
                realm: realm.to_owned(),
            },
            (true, _) => return Ok(()),
            // The nonce has served before; it may have expired on a server that does not say stale=true.
            (false, false) if !same_nonce => return Ok(()),
            // RFC 3261 §22.1: MUST NOT re-attempt requests with the credentials that have just been rejected.
            (false, _) => AuthError::Rejected {
                realm: realm.to_owned(),
            },
        };
        self.sessions.retain(|s| !s.is(challenger, realm));
        Err(error)
    }

    /// Begins the session that answers `challenge`; false when there are no credentials for its realm.
    fn begin(
        &mut self,
        asked: &Asked<'_>,
        challenger: Challenger,
        challenge: Challenge,
    ) -> Result<bool, AuthError> {
        let best = self
            .credentials
            .iter()
            .filter_map(|c| Some((c.fitness(challenger, challenge.realm())?, c)))
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((_, credentials)) = best else {
            return Ok(false);
        };
        if !is_quotable(credentials.username()) {
            return Err(AuthError::NotRepresentable { what: "username" });
        }
        let scope = Scope {
            host: asked.host.clone(),
            first_hop: asked.first_hop.clone(),
            call_id: asked.call_id.to_owned(),
            configured: credentials.realm().is_some(),
        };
        // Also where no credentials were sent: some servers say stale=true in every challenge.
        if challenge.stale {
            if self.after_stale.len() >= MAX_AFTER_STALE {
                self.after_stale.pop_front();
            }
            self.after_stale.push_back(challenge.nonce.clone());
        }
        let before = self
            .sessions
            .iter()
            .position(|s| s.is(challenger, challenge.realm()))
            .map(|place| self.sessions.remove(place));
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.remove(0);
        }
        let mut session = Session::start(challenger, challenge, credentials, scope);
        if let Some(before) = before {
            session.go_on(before);
        }
        self.sessions.push(session);
        Ok(true)
    }

    /// Gives the answers, and after them what the request carried for realms that did not ask.
    fn collect(
        &mut self,
        asked: &Asked<'_>,
        answered: &[(Challenger, String)],
        cnonce: &str,
    ) -> Vec<(HeaderName, String)> {
        let mut result = Vec::new();
        for (challenger, realm) in answered {
            result.extend(self.authorize(asked, *challenger, realm, cnonce));
        }
        for carried in &asked.carried {
            let realm = carried.answer.as_ref().map(|answer| answer.realm.as_str());
            let challenger = carried.challenger;
            if answered
                .iter()
                .any(|(c, r)| *c == challenger && realm == Some(r))
            {
                continue;
            }
            let renewed = realm.and_then(|realm| self.authorize(asked, challenger, realm, cnonce));
            // Credentials that came from elsewhere stay as they are.
            let name = challenger.credentials_header();
            result.push(renewed.unwrap_or_else(|| (name, carried.value.clone())));
        }
        result
    }

    fn authorize(
        &mut self,
        asked: &Asked<'_>,
        challenger: Challenger,
        realm: &str,
        cnonce: &str,
    ) -> Option<(HeaderName, String)> {
        let session = self.sessions.iter_mut().find(|s| s.is(challenger, realm))?;
        let answer = session.authorize(asked.covered, cnonce)?;
        Some((challenger.credentials_header(), answer.to_string()))
    }
}

impl fmt::Debug for ClientAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthenticator")
            .field("credentials", &self.credentials)
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

/// What a request brings: what its digest covers, where it goes, and the credentials that it carries.
struct Asked<'a> {
    covered: Covered<'a>,
    host: String,
    /// The host of the first Route, or the same as `host`.
    first_hop: String,
    call_id: &'a str,
    carried: Vec<Carried>,
}

struct Carried {
    challenger: Challenger,
    value: String,
    /// `None`: not digest credentials that this crate can read.
    answer: Option<DigestResponse>,
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request) -> Self {
        let mut carried = Vec::new();
        for challenger in Challenger::BOTH {
            let values = request
                .headers()
                .credentials(&challenger.credentials_header());
            for value in values.flatten() {
                // A fold may stand in a message that came from elsewhere, and not in a value that goes out.
                let parameters =
                    String::from_utf8_lossy(value.as_bytes()).replace(['\r', '\n'], " ");
                carried.push(Carried {
                    challenger,
                    value: format!("{} {parameters}", value.scheme()),
                    answer: DigestResponse::try_from(value).ok(),
                });
            }
        }
        let host = match request.uri() {
            Ok(uri) => uri.host_str().to_ascii_lowercase(),
            Err(_) => String::new(),
        };
        let first_hop = match request.headers().routes().next() {
            Some(Ok(route)) => route.uri().host_str().to_ascii_lowercase(),
            Some(Err(_)) => String::new(),
            None => host.clone(),
        };
        Asked {
            covered: Covered {
                method: request.method().as_str(),
                uri: request.uri_text(),
                body: request.body(),
            },
            host,
            first_hop,
            call_id: request.headers().call_id().unwrap_or_default(),
            carried,
        }
    }

    fn credentials_for(&self, challenger: Challenger, realm: &str) -> Option<&DigestResponse> {
        self.carried
            .iter()
            .filter(|carried| carried.challenger == challenger)
            .filter_map(|carried| carried.answer.as_ref())
            .find(|answer| answer.realm == realm)
    }

    fn is_within(&self, session: &Session) -> bool {
        let scope = &session.scope;
        let same_call = !self.call_id.is_empty() && scope.call_id == self.call_id;
        let same = |one: &str, other: &str| !one.is_empty() && one == other;
        let same_way = match session.challenger {
            Challenger::Server => same(&scope.host, &self.host),
            Challenger::Proxy => scope.configured && same(&scope.first_hop, &self.first_hop),
        };
        same_call || same_way
    }
}

/// Reads the challenges and keeps the best of each realm, in the order in which the realms appear.
fn strongest_of_each_realm(
    headers: Headers<'_>,
) -> Result<Vec<(Challenger, Challenge)>, AuthError> {
    let mut best: Vec<(Challenger, Challenge)> = Vec::new();
    let mut skipped = None;
    for challenger in Challenger::BOTH {
        for value in headers.challenges(&challenger.challenge_header()) {
            match read(value) {
                Ok(challenge) => keep_strongest(&mut best, challenger, challenge),
                Err(error) => skipped = Some(error),
            }
        }
    }
    if !best.is_empty() {
        return Ok(best);
    }
    let reason = match skipped {
        Some(error) => error.to_string(),
        None => "there is none".to_owned(),
    };
    Err(AuthError::NoUsableChallenge { reason })
}

fn read(value: Result<AuthValue<'_>, HeaderError>) -> Result<Challenge, AuthError> {
    Challenge::try_from(value?)
}

fn keep_strongest(
    best: &mut Vec<(Challenger, Challenge)>,
    challenger: Challenger,
    challenge: Challenge,
) {
    let rival = best
        .iter_mut()
        .find(|(other, rival)| *other == challenger && rival.realm == challenge.realm);
    match rival {
        None => best.push((challenger, challenge)),
        Some((_, rival)) if challenge.algorithm.hash() > rival.algorithm.hash() => {
            *rival = challenge;
        }
        Some(_) => {}
    }
}

/// Finds `nextnonce` in `Authentication-Info`, which has parameters but no scheme (RFC 3261 §20.6).
fn next_nonce(headers: Headers<'_>, challenger: Challenger) -> Option<&str> {
    headers
        .list(&challenger.information_header())
        .filter_map(|element| std::str::from_utf8(element).ok()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("nextnonce"))
        .map(|(_, value)| value.trim().trim_matches('"'))
        // RFC 7616 §3.3 advises nonces of hexadecimal or Base64; one with escapes is not worth a parser.
        .filter(|nonce| !nonce.is_empty() && !nonce.contains(['\\', '"']))
}

/// One request carries credentials for this many realms at most: more than any chain of proxies asks for.
const MAX_CREDENTIALS: usize = 8;

/// Realms remembered; the oldest goes first. A user agent talks to a few.
const MAX_SESSIONS: usize = 16;

/// Nonces remembered as issued with `stale=true`: one for each request that may be in flight at a time.
const MAX_AFTER_STALE: usize = 32;
