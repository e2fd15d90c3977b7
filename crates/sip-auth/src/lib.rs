//! Digest access authentication for SIP, client and server.
#![forbid(unsafe_code)]

mod algorithm;
mod answer;
mod calculation;
mod challenge;
mod challenger;
mod client;
mod config;
mod credentials;
mod error;
mod nonce;
mod parameters;
mod replay;
mod secret;
mod server;
mod session;

pub use algorithm::{Algorithm, Hash, Qop, UnknownName};
pub use answer::DigestResponse;
pub use challenge::Challenge;
pub use challenger::Challenger;
pub use client::ClientAuthenticator;
pub use config::AuthenticatorConfig;
pub use credentials::Credentials;
pub use error::AuthError;
pub use parameters::SyntaxError;
pub use secret::{Secret, SecretStore};
pub use server::{Ask, Authenticator, Identity, Metrics, Reason, Verdict};
