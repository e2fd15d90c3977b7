//! The settings of the server side.

use std::time::Duration;

use crate::algorithm::{Algorithm, Qop};
use crate::challenger::Challenger;

/// Settings of an [`Authenticator`](crate::Authenticator).
///
/// ```
/// use std::time::Duration;
/// use sipora_auth::{Algorithm, AuthenticatorConfig};
///
/// let config = AuthenticatorConfig::new("example.com")
///     .algorithms([Algorithm::Sha256, Algorithm::Md5])
///     .nonce_lifetime(Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct AuthenticatorConfig {
    pub(crate) realm: String,
    pub(crate) challenger: Challenger,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) qops: Vec<Qop>,
    pub(crate) nonce_lifetime: Duration,
    pub(crate) replay_capacity: usize,
    pub(crate) accept_without_qop: bool,
}

impl AuthenticatorConfig {
    /// Makes the default settings for a realm. RFC 3261 §22.1: realms MUST be globally unique; a domain name is.
    pub fn new(realm: impl Into<String>) -> Self {
        AuthenticatorConfig {
            realm: realm.into(),
            challenger: Challenger::Server,
            algorithms: vec![Algorithm::Md5],
            qops: vec![Qop::Auth],
            nonce_lifetime: Duration::from_secs(300),
            replay_capacity: 131_072,
            accept_without_qop: false,
        }
    }

    /// Sets who asks. Default: [`Challenger::Server`], which answers 401.
    #[must_use]
    pub fn challenger(mut self, challenger: Challenger) -> Self {
        self.challenger = challenger;
        self
    }

    /// Sets the algorithms on offer, the preferred one first; each gets a challenge of its own (RFC 8760 §2.3). Repeated
    /// ones are left out, and an empty list changes nothing.
    ///
    /// Default: MD5 alone, because many phones know nothing else and give up on what they do not know. `SHA-256, MD5`
    /// is what RFC 8760 asks for.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let list = without_repetition(algorithms);
        if !list.is_empty() {
            self.algorithms = list;
        }
        self
    }

    /// Sets the qualities of protection on offer. An empty list changes nothing: servers MUST always send qop (RFC 3261
    /// §22.4).
    ///
    /// Default: `auth` alone, because bodies are rewritten on many ways and some clients stumble over a list.
    #[must_use]
    pub fn qops(mut self, qops: impl IntoIterator<Item = Qop>) -> Self {
        let list = without_repetition(qops);
        if !list.is_empty() {
            self.qops = list;
        }
        self
    }

    /// Sets how long a nonce serves. Default: 300 s, which covers the keep-alive traffic of a phone behind NAT without a
    /// new challenge, and keeps captured messages useful for no longer.
    #[must_use]
    pub fn nonce_lifetime(mut self, lifetime: Duration) -> Self {
        self.nonce_lifetime = lifetime;
        self
    }

    /// Sets how many used nonces are remembered at most. Default: 131,072, which takes at most some 6 MB and covers 430 new
    /// nonces a second for 300 s. Above that rate nonces become stale earlier; nobody is refused.
    #[must_use]
    pub fn replay_capacity(mut self, nonces: usize) -> Self {
        self.replay_capacity = nonces;
        self
    }

    /// Accepts answers without qop from clients of RFC 2069, each nonce once. Default: no, because an attacker on the
    /// way who removes qop takes away the replay protection.
    #[must_use]
    pub fn accept_without_qop(mut self, accept: bool) -> Self {
        self.accept_without_qop = accept;
        self
    }
}

pub(crate) fn without_repetition<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut list = Vec::new();
    for item in items {
        if !list.contains(&item) {
            list.push(item);
        }
    }
    list
}
