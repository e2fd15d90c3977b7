//! The server side: challenges, and the verdict on what comes back.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use sipora_message::{AuthValue, HeaderName, Request, UriRef};
use subtle::ConstantTimeEq;

use crate::algorithm::{Algorithm, Qop};
use crate::answer::DigestResponse;
use crate::calculation::{Covered, Hex};
use crate::challenge::Challenge;
use crate::config::{AuthenticatorConfig, without_repetition};
use crate::error::AuthError;
use crate::nonce::{Nonces, Origin};
use crate::parameters::Parameters;
use crate::replay::{Count, ReplayGuard, Use};
use crate::secret::{Secret, SecretStore};

/// Challenges requests and verifies digest credentials, for a registrar, a user agent server or a proxy.
///
/// It keeps no state for a challenge. Its nonces carry their issue time and a proof made with the key, so every node with
/// that key takes them, also after a restart. What it does remember, up to a fixed number, is which nonce counts were used.
/// One authenticator serves all threads of a node; give it a key from a good random source, and keep the key secret.
///
/// ACK and CANCEL MUST NOT be challenged (RFC 3261 §22.1): do not verify them, or ignore a [`Verdict::Challenge`].
pub struct Authenticator {
    config: AuthenticatorConfig,
    nonces: Nonces,
    replay: ReplayGuard,
    lifetime: u64,
}

impl Authenticator {
    /// Makes an authenticator. Nodes that share users share the key.
    pub fn new(key: [u8; 32], config: AuthenticatorConfig) -> Self {
        let lifetime = u64::try_from(config.nonce_lifetime.as_millis()).unwrap_or(u64::MAX);
        Authenticator {
            nonces: Nonces::new(&key),
            replay: ReplayGuard::new(config.replay_capacity, lifetime),
            lifetime,
            config,
        }
    }

    /// Begins a challenge or a verification in the configured realm.
    pub fn ask(&self) -> Ask<'_> {
        self.ask_in(&self.config.realm)
    }

    /// Begins a challenge or a verification in another realm: a server of several domains has a realm for each.
    pub fn ask_in<'a>(&'a self, realm: &'a str) -> Ask<'a> {
        Ask {
            authenticator: self,
            realm,
            algorithms: None,
        }
    }

    /// Verifies a request in the configured realm; see [`Ask::verify`].
    pub fn verify(
        &self,
        now: SystemTime,
        request: &Request,
        secrets: &(impl SecretStore + ?Sized),
        serves: impl Fn(&UriRef<'_>) -> bool,
    ) -> Verdict {
        self.ask().verify(now, request, secrets, serves)
    }

    /// Makes the challenges for a request in the configured realm; see [`Ask::challenge`].
    pub fn challenge(
        &self,
        now: SystemTime,
        request: &Request,
        stale: bool,
    ) -> Vec<(HeaderName, String)> {
        self.ask().challenge(now, request, stale)
    }

    /// Gives the settings.
    pub fn config(&self) -> &AuthenticatorConfig {
        &self.config
    }

    /// Counts what is remembered for replay protection.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            nonces_tracked: self.replay.tracked(),
            nonces_capacity: self.replay.capacity(),
            nonces_dropped_early: self.replay.dropped_early(),
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// One challenge or verification in one realm, perhaps with algorithms of its own.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    authenticator: &'a Authenticator,
    realm: &'a str,
    algorithms: Option<&'a [Algorithm]>,
}

impl<'a> Ask<'a> {
    /// Offers and accepts these algorithms instead of the configured ones: what one user's phone can do.
    #[must_use]
    pub fn algorithms(mut self, algorithms: &'a [Algorithm]) -> Self {
        self.algorithms = Some(algorithms);
        self
    }

    /// Makes the header fields of a 401 or 407: one line for each algorithm, in the order of preference (RFC 8760 §2.3).
    ///
    /// Pass `stale` on from [`Verdict::Challenge`].
    pub fn challenge(
        &self,
        now: SystemTime,
        request: &Request,
        stale: bool,
    ) -> Vec<(HeaderName, String)> {
        let headers = request.headers();
        let context = [HeaderName::Via, HeaderName::CallId, HeaderName::CSeq]
            .map(|name| headers.first(&name).unwrap_or_default());
        let name = self.authenticator.config.challenger.challenge_header();
        self.challenges(milliseconds(now), &context, stale)
            .into_iter()
            .map(|challenge| (name.clone(), challenge.to_string()))
            .collect()
    }

    /// Gives the verdict on the credentials of a request.
    ///
    /// `serves` is asked whether a digest `uri` that is not equivalent to the Request-URI names a domain that is served
    /// here or an address of our own: proxies rewrite Request-URIs (RFC 8760 §2.6). Whether the user may act for the
    /// address in To or From is for the caller to decide.
    pub fn verify(
        &self,
        now: SystemTime,
        request: &Request,
        secrets: &(impl SecretStore + ?Sized),
        serves: impl Fn(&UriRef<'_>) -> bool,
    ) -> Verdict {
        self.verify_claims(now, request, &self.claims(request), secrets, serves)
    }

    /// The same for credentials that were read already with [`claims`](Self::claims), of this request and in this realm.
    pub fn verify_claims(
        &self,
        now: SystemTime,
        request: &Request,
        claims: &Claims,
        secrets: &(impl SecretStore + ?Sized),
        serves: impl Fn(&UriRef<'_>) -> bool,
    ) -> Verdict {
        let covered = Covered {
            method: request.method().as_str(),
            uri: request.uri_text(),
            body: request.body(),
        };
        let is_ours = |uri: &str| {
            if uri == request.uri_text() {
                return true;
            }
            let Ok(uri) = UriRef::parse(uri) else {
                return false;
            };
            let requested = request.uri();
            requested.is_ok_and(|requested| requested.equivalent(uri)) || serves(&uri)
        };
        let mut verdict = None;
        for answer in &claims.answers {
            let next = self.judge(milliseconds(now), answer, covered, secrets, &is_ours);
            if let Verdict::Accepted(_) = next {
                return next;
            }
            // Among several that fail, the one with a right digest says most.
            let better = matches!(
                next,
                Verdict::Malformed { .. } | Verdict::Challenge { stale: true, .. }
            );
            if verdict.is_none() || better {
                verdict = Some(next);
            }
        }
        match (verdict, &claims.malformed) {
            (Some(verdict), _) => verdict,
            (None, Some(error)) => Verdict::Malformed {
                error: error.clone(),
            },
            (None, None) => Verdict::challenge(Reason::NoCredentials, None),
        }
    }

    /// Lists the users whom the credentials for this realm claim to come from, unverified; none where a challenge is due.
    ///
    /// For a store that has to wait: find their secrets first, then give them to [`verify`](Self::verify).
    pub fn usernames(&self, request: &Request) -> Vec<String> {
        self.claims(request).usernames()
    }

    /// Reads the credentials for this realm, unverified: to find the secrets of their users and then to
    /// [`verify_claims`](Self::verify_claims).
    ///
    /// RFC 3261 §22.3: values for other realms are not ours to consume, nor to complain about.
    pub fn claims(&self, request: &Request) -> Claims {
        let name = self.authenticator.config.challenger.credentials_header();
        let mut answers = Vec::new();
        let mut malformed = None;
        for value in request.headers().credentials(&name) {
            let answer = value.map_err(AuthError::from).and_then(|v| self.read(v));
            match answer {
                Ok(Some(_)) if answers.len() >= MAX_ANSWERS => {}
                Ok(answer) => answers.extend(answer),
                Err(error) => malformed = malformed.or(Some(error)),
            }
        }
        Claims { answers, malformed }
    }

    fn challenges(&self, now: u64, context: &[&[u8]], stale: bool) -> Vec<Challenge> {
        let authenticator = self.authenticator;
        let issued = authenticator.replay.issue_time(now);
        let nonce = authenticator.nonces.issue(issued, self.realm, context);
        let algorithms = without_repetition(self.offered().iter().copied());
        let challenge = |algorithm| Challenge {
            realm: self.realm.to_owned(),
            nonce: nonce.clone(),
            opaque: None,
            algorithm,
            qops: authenticator.config.qops.clone(),
            stale,
            userhash: false,
        };
        algorithms.into_iter().map(challenge).collect()
    }

    fn offered(&self) -> &[Algorithm] {
        match self.algorithms {
            Some(list) if !list.is_empty() => list,
            _ => &self.authenticator.config.algorithms,
        }
    }

    /// Reads one set of credentials; `None` where it is not for us.
    fn read(&self, value: AuthValue<'_>) -> Result<Option<DigestResponse>, AuthError> {
        let parameters = Parameters::from(value);
        // RFC 3261 §22.4: other schemes are not accepted, whatever they look like.
        if !parameters.is_digest() {
            return Ok(None);
        }
        if parameters.unique("realm")?.is_some_and(|r| r != self.realm) {
            return Ok(None);
        }
        let answer = DigestResponse::from_parameters(&parameters)?;
        // RFC 8760 §2.7: an empty value means that the client has not yet received a challenge.
        let is_answer = !answer.nonce.is_empty() && !answer.response.is_empty();
        Ok(is_answer.then_some(answer))
    }

    fn judge(
        &self,
        now: u64,
        answer: &DigestResponse,
        covered: Covered<'_>,
        secrets: &(impl SecretStore + ?Sized),
        is_ours: &impl Fn(&str) -> bool,
    ) -> Verdict {
        let challenge = |reason| Verdict::challenge(reason, Some(answer.username.clone()));
        let algorithm = match answer.algorithm() {
            Some(algorithm) if self.accepts(algorithm, &answer.username, secrets) => algorithm,
            _ => return challenge(Reason::AlgorithmNotOffered),
        };
        let qop = match &answer.protection {
            None if self.authenticator.config.accept_without_qop => None,
            Some(sent) if sent.qop.is_some_and(|qop| self.offers(qop)) => sent.qop,
            _ => return challenge(Reason::QopNotOffered),
        };
        // The digest covers the URI as the client wrote it, which the Request-URI need no longer be.
        let covered = Covered {
            uri: &answer.uri,
            ..covered
        };
        if !self.is_right(answer, algorithm, covered, secrets) {
            return challenge(Reason::WrongCredentials);
        }
        if !is_ours(&answer.uri) {
            return Verdict::Malformed {
                error: AuthError::ForeignUri,
            };
        }
        if let Some(reason) = self.spend_nonce(now, answer) {
            return challenge(reason);
        }
        Verdict::Accepted(Identity {
            username: answer.username.clone(),
            realm: self.realm.to_owned(),
            algorithm,
            qop,
        })
    }

    fn accepts(
        &self,
        algorithm: Algorithm,
        username: &str,
        secrets: &(impl SecretStore + ?Sized),
    ) -> bool {
        match secrets.algorithms(self.realm, username) {
            Some(list) => list.contains(&algorithm),
            None => self.offered().contains(&algorithm),
        }
    }

    fn offers(&self, qop: Qop) -> bool {
        self.authenticator.config.qops.contains(&qop)
    }

    /// Compares the digest in constant time, after the same work for known and unknown users.
    fn is_right(
        &self,
        answer: &DigestResponse,
        algorithm: Algorithm,
        covered: Covered<'_>,
        secrets: &(impl SecretStore + ?Sized),
    ) -> bool {
        let hash = algorithm.hash();
        // No challenge of ours asks for a hashed username, so one that is hashed is nobody's.
        let secret = match answer.is_userhash() {
            true => None,
            false => secrets.secret(self.realm, &answer.username),
        };
        let (base, known) = Secret::base(secret.as_ref(), hash, &answer.username, self.realm);
        let expected = answer.expected(algorithm, &base, covered);
        let sent = Hex::parse(hash, &answer.response);
        let (Some(expected), Some(sent)) = (expected, sent) else {
            return false;
        };
        let same = expected.as_bytes().ct_eq(sent.as_bytes());
        (same & subtle::Choice::from(u8::from(known))).into()
    }

    /// Uses the nonce up to its count; gives the reason when it does not serve any more.
    ///
    /// Only those who know a secret come this far, so strangers cannot fill the table.
    fn spend_nonce(&self, now: u64, answer: &DigestResponse) -> Option<Reason> {
        let authenticator = self.authenticator;
        let origin = authenticator.nonces.recognize(&answer.nonce, self.realm);
        let Origin::Ours { issued, tag } = origin else {
            return Some(Reason::NonceUnknown);
        };
        let expires = issued.saturating_add(authenticator.lifetime);
        if expires <= now || issued > now.saturating_add(CLOCK_SKEW) {
            return Some(Reason::NonceExpired);
        }
        let nc = answer.nonce_count().unwrap_or(1);
        match authenticator.replay.note(now, Count { tag, issued, nc }) {
            Use::First => None,
            Use::Again => Some(Reason::NonceReused),
            Use::Forgotten => Some(Reason::NonceExpired),
        }
    }
}

/// What a request says of who sent it, read but not verified, for one realm.
#[derive(Clone, Debug)]
pub struct Claims {
    answers: Vec<DigestResponse>,
    /// What is wrong with credentials that cannot be read.
    malformed: Option<AuthError>,
}

impl Claims {
    /// Lists the users whom the credentials claim to come from; none where a challenge is due.
    pub fn usernames(&self) -> Vec<String> {
        let names = self.answers.iter().map(|answer| answer.username.clone());
        without_repetition(names)
    }
}

/// What [`Ask::verify`] found.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The digest is right, its nonce fresh, its count unused.
    Accepted(Identity),
    /// Answer 401 or 407 with the lines of [`Ask::challenge`].
    Challenge {
        /// The digest was right and only the nonce was not: the client may try again without asking anybody.
        stale: bool,
        /// Why; for logs and for limits on failures, not for the peer.
        reason: Reason,
        /// The username in the credentials, as claimed.
        username: Option<String>,
    },
    /// Answer 400 (RFC 7616 §3.4: a parameter is improper or missing; §3.4.6: the digest `uri` is for something else).
    Malformed {
        /// What is wrong.
        error: AuthError,
    },
}

impl Verdict {
    fn challenge(reason: Reason, username: Option<String>) -> Self {
        Verdict::Challenge {
            stale: reason.is_stale(),
            reason,
            username,
        }
    }
}

/// Who sent a request: a user of a realm, not yet the owner of an address.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The username in the credentials.
    pub username: String,
    /// The realm that the user belongs to.
    pub realm: String,
    /// The algorithm of the digest.
    pub algorithm: Algorithm,
    /// The quality of protection; `None` only where answers without it are accepted.
    pub qop: Option<Qop>,
}

/// Tells why a request is challenged.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There are no credentials for the realm.
    NoCredentials,
    /// The user is unknown or the digest wrong; which of them, nobody is told.
    WrongCredentials,
    /// The algorithm is not one on offer.
    AlgorithmNotOffered,
    /// The quality of protection is missing, or not one on offer.
    QopNotOffered,
    /// The nonce is too old, or from a node whose clock is far ahead.
    NonceExpired,
    /// The nonce was not made with our key for this realm.
    NonceUnknown,
    /// The nonce count was used before: a replay, or a client that does not count.
    NonceReused,
}

impl Reason {
    /// Tells whether the digest was right and the nonce alone was not.
    pub fn is_stale(self) -> bool {
        matches!(
            self,
            Reason::NonceExpired | Reason::NonceUnknown | Reason::NonceReused
        )
    }

    /// Tells whether somebody guessed wrong: what limits on failed logins count.
    pub fn is_failure(self) -> bool {
        self == Reason::WrongCredentials
    }
}

/// A snapshot of the replay protection.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Nonces that are remembered.
    pub nonces_tracked: usize,
    /// Nonces that can be remembered.
    pub nonces_capacity: usize,
    /// Nonces forgotten before they expired, because the table was full. Growing: raise the capacity.
    pub nonces_dropped_early: u64,
}

fn milliseconds(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How far the clocks of nodes may be apart, in milliseconds.
const CLOCK_SKEW: u64 = 30_000;

/// Credentials of one realm that are looked at in one request. More than one is rare (RFC 3261 §22.3), and each costs a digest.
const MAX_ANSWERS: usize = 4;
