//! The error of this crate.

use sipora_message::HeaderError;

/// Tells why a challenge cannot be answered, or what is wrong with a challenge or with credentials.
///
/// No variant carries a password, a digest, or a value that a peer chose other than a realm.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The server refused the credentials: the same realm asks again, and not because the nonce was stale.
    #[error("the credentials for realm \"{realm}\" were rejected")]
    Rejected {
        /// The realm that refused.
        realm: String,
    },
    /// The server called a nonce stale that it had just issued. Trying again would go on for ever.
    #[error("realm \"{realm}\" called a fresh nonce stale; the credentials may be wrong")]
    StaleAgain {
        /// The realm that asks again and again.
        realm: String,
    },
    /// There are no credentials for any of the realms that ask.
    #[error("no credentials for realm \"{realm}\"")]
    NoCredentials {
        /// The first realm that asks.
        realm: String,
    },
    /// The response asks for no digest of a kind that this crate computes.
    #[error("no challenge that can be answered: {reason}")]
    NoUsableChallenge {
        /// What was wrong with the last challenge that was skipped.
        reason: String,
    },
    /// A username holds a character that no SIP header can carry (CR, LF or NUL).
    #[error("the {what} cannot be put into a header")]
    NotRepresentable {
        /// Which value.
        what: &'static str,
    },
    /// The request already carries credentials for as many realms as one request may have.
    #[error("too many realms ask for credentials")]
    TooManyRealms,
    /// The digest is right, but for a URI that is neither the Request-URI nor ours (RFC 7616 §3.4.6: 400).
    #[error("the digest uri is neither the Request-URI nor one that is served here")]
    ForeignUri,
    /// A header field does not follow the grammar of challenges and credentials.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A parameter is not UTF-8.
    #[error("the parameter {parameter} is not UTF-8")]
    NotUtf8 {
        /// Its name.
        parameter: &'static str,
    },
    /// The scheme is not `Digest`. RFC 3261 §22.4: servers MUST NOT accept or request Basic.
    #[error("the scheme is not Digest")]
    NotDigest,
    /// A parameter that is required is missing.
    #[error("the parameter {parameter} is missing")]
    Missing {
        /// Its name.
        parameter: &'static str,
    },
    /// A parameter occurs twice.
    #[error("the parameter {parameter} occurs twice")]
    Duplicate {
        /// Its name.
        parameter: &'static str,
    },
    /// A parameter has a value that its grammar does not allow.
    #[error("the parameter {parameter} has an invalid value")]
    Invalid {
        /// Its name.
        parameter: &'static str,
    },
    /// An algorithm that this crate does not know.
    #[error("unknown digest algorithm")]
    UnknownAlgorithm,
    /// No quality of protection that this crate knows.
    #[error("unknown quality of protection")]
    UnknownQop,
}

impl AuthError {
    /// Tells whether the server saw the credentials and refused them; asking a person for others may help.
    pub fn is_rejected(&self) -> bool {
        matches!(
            self,
            AuthError::Rejected { .. } | AuthError::StaleAgain { .. }
        )
    }
}
