//! Where the answers to challenges come from.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sipora_auth::{AuthError, ClientAuthenticator, Credentials};
use sipora_message::{HeaderName, Request, Response};

/// Answers challenges, inside the endpoint's task: it computes and never waits.
///
/// [`DigestAuthorizer`] is the implementation over `sipora-auth`. `cnonce` is unguessable and new for each call.
pub trait Authorizer: Send + Sync {
    /// Gives header fields for a request that nobody has challenged yet; none by default.
    fn preempt(&self, request: &Request, cnonce: &str) -> Vec<(HeaderName, String)> {
        let _ = (request, cnonce);
        Vec::new()
    }

    /// Gives the header fields for the retry of `request`, as it was last sent, which `challenge` (401 or 407) answered.
    ///
    /// They take the place of every `Authorization` and `Proxy-Authorization` that the request has. An error ends the
    /// exchange, with the challenge as its answer.
    fn authorize(
        &self,
        request: &Request,
        challenge: &Response,
        cnonce: &str,
    ) -> Result<Vec<(HeaderName, String)>, AuthError>;

    /// Sees the final answer to a request that went out with credentials, for what it says about later ones.
    fn learn(&self, request: &Request, response: &Response) {
        let _ = (request, response);
    }
}

impl fmt::Debug for dyn Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorizer")
    }
}

/// Answers digest challenges (RFC 3261 §22, RFC 7616, RFC 8760) and remembers nonces between requests.
///
/// ```
/// use sipora_dialog_core::DigestAuthorizer;
/// use sipora_auth::Credentials;
///
/// let authorizer = DigestAuthorizer::new([Credentials::new("alice", "wonderland")]);
/// # let _ = authorizer;
/// ```
pub struct DigestAuthorizer(Mutex<ClientAuthenticator>);

impl DigestAuthorizer {
    /// Makes an authorizer with these credentials; `None` when there are none.
    ///
    /// Credentials kept for the realm that asks come before those for any realm, then those kept
    /// [for proxies](Credentials::for_proxies) before those for everybody; among equals the first wins.
    pub fn new(credentials: impl IntoIterator<Item = Credentials>) -> Option<Self> {
        let mut credentials = credentials.into_iter();
        let mut authenticator = ClientAuthenticator::new(credentials.next()?);
        for more in credentials {
            authenticator.add(more);
        }
        Some(Self(Mutex::new(authenticator)))
    }

    /// Nothing that panics runs under the lock, so a poisoned one holds what it held.
    fn lock(&self) -> MutexGuard<'_, ClientAuthenticator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authorizer for DigestAuthorizer {
    fn preempt(&self, request: &Request, cnonce: &str) -> Vec<(HeaderName, String)> {
        self.lock().preempt(request, cnonce)
    }

    fn authorize(
        &self,
        request: &Request,
        challenge: &Response,
        cnonce: &str,
    ) -> Result<Vec<(HeaderName, String)>, AuthError> {
        self.lock().answer(request, challenge, cnonce)
    }

    fn learn(&self, request: &Request, response: &Response) {
        self.lock().learn(request, response);
    }
}

impl fmt::Debug for DigestAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DigestAuthorizer")
            .field(&*self.lock())
            .finish()
    }
}
