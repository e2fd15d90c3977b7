//! Who asks: the server itself, or a proxy on the way.

use sipora_message::{HeaderName, StatusCode};

/// Tells who asks for credentials, which decides the status and the header fields (RFC 3261 §22.2 and §22.3).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Challenger {
    /// A user agent server, registrar or redirect server: 401, `WWW-Authenticate`, `Authorization`.
    Server,
    /// A proxy: 407, `Proxy-Authenticate`, `Proxy-Authorization`.
    Proxy,
}

impl Challenger {
    /// Gives the status of the response that asks.
    pub fn status(self) -> StatusCode {
        match self {
            Challenger::Server => StatusCode::UNAUTHORIZED,
            Challenger::Proxy => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        }
    }

    /// Names the header field of a challenge.
    pub fn challenge_header(self) -> HeaderName {
        match self {
            Challenger::Server => HeaderName::WwwAuthenticate,
            Challenger::Proxy => HeaderName::ProxyAuthenticate,
        }
    }

    /// Names the header field of the credentials that answer it.
    pub fn credentials_header(self) -> HeaderName {
        match self {
            Challenger::Server => HeaderName::Authorization,
            Challenger::Proxy => HeaderName::ProxyAuthorization,
        }
    }

    pub(crate) fn information_header(self) -> HeaderName {
        match self {
            Challenger::Server => HeaderName::AuthenticationInfo,
            Challenger::Proxy => HeaderName::ProxyAuthenticationInfo,
        }
    }

    pub(crate) const BOTH: [Challenger; 2] = [Challenger::Server, Challenger::Proxy];
}
