//! Digest access authentication for SIP, both sides (RFC 7616, RFC 8760, RFC 3261 §22).
//!
//! A client answers challenges with [`ClientAuthenticator`]; a server challenges and verifies with [`Authenticator`]. Both
//! read and write header fields of [`sipora_message`] and do nothing else: no I/O, no clock, no randomness. The time, the
//! key and the `cnonce` come from the caller, so every exchange can be replayed in a test.
//!
//! ```
//! use std::time::SystemTime;
//!
//! use sipora_auth::{Authenticator, AuthenticatorConfig, ClientAuthenticator, Credentials, Secret, Verdict};
//! use sipora_message::{Limits, Request, Response};
//!
//! # fn request(authorization: &str) -> Request {
//! #     let text = format!("REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
//! #         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\n\
//! #         Call-ID: 1@192.0.2.1\r\nCSeq: 1 REGISTER\r\n{authorization}Content-Length: 0\r\n\r\n");
//! #     Request::parse(text.into_bytes(), &Limits::default()).unwrap()
//! # }
//! # fn unauthorized(lines: &[(sipora_message::HeaderName, String)]) -> Response {
//! #     let lines: String = lines.iter().map(|(name, value)| format!("{}: {value}\r\n", name.as_str())).collect();
//! #     let text = format!("SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
//! #         From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>;tag=2\r\n\
//! #         Call-ID: 1@192.0.2.1\r\nCSeq: 1 REGISTER\r\n{lines}Content-Length: 0\r\n\r\n");
//! #     Response::parse(text.into_bytes(), &Limits::default()).unwrap()
//! # }
//! # let key = [0; 32]; // from a random source
//! let server = Authenticator::new(key, AuthenticatorConfig::new("example.com"));
//! let users = |_realm: &str, name: &str| (name == "alice").then(|| Secret::password("wonderland"));
//! let mut client = ClientAuthenticator::new(Credentials::new("alice", "wonderland"));
//!
//! // The first request has no credentials: it is challenged.
//! let first = request("");
//! let now = SystemTime::now();
//! let Verdict::Challenge { stale, .. } = server.verify(now, &first, &users, |_| false) else { panic!() };
//! let refusal = unauthorized(&server.challenge(now, &first, stale));
//!
//! // The second carries the answer.
//! let answer = client.answer(&first, &refusal, "0a4f113b")?;
//! let (name, value) = &answer[0];
//! let second = request(&format!("{}: {value}\r\n", name.as_str()));
//! let Verdict::Accepted(user) = server.verify(now, &second, &users, |_| false) else { panic!() };
//! assert_eq!(user.username, "alice");
//! # Ok::<(), sipora_auth::AuthError>(())
//! ```
//!
//! # Features
//!
//! None: everything is always there.
//!
//! # RFC sections
//!
//! | section | what | where |
//! | --- | --- | --- |
//! | RFC 7616 §3.3, §3.4 | challenges and credentials, quoted and unquoted parameters, `username*` | [`Challenge`], [`DigestResponse`] |
//! | RFC 7616 §3.4.1 to §3.4.3 | `response`, `-sess`, `auth-int` | checked with the published vectors |
//! | RFC 7616 §3.4.4 | `userhash` is read; on neither side is a username hashed | |
//! | RFC 7616 §3.5 | `nextnonce` is followed; `rspauth` is not checked, and a server sends neither | [`ClientAuthenticator::learn`] |
//! | RFC 7616 §3.6 | nonce count, credentials before a challenge | [`ClientAuthenticator::preempt`] |
//! | RFC 8760 §2.3 | one challenge an algorithm, in the order of preference | [`AuthenticatorConfig::algorithms`] |
//! | RFC 8760 §2.4 | several realms, unknown challenges skipped; the strongest wins rather than the topmost | [`ClientAuthenticator::answer`] |
//! | RFC 8760 §2.6 | the digest `uri` is checked; a body that is empty is hashed as one | [`Ask::verify`] |
//! | RFC 3261 §22.1 | rejected credentials are not sent again; ACK and CANCEL | [`AuthError::Rejected`] |
//! | RFC 3261 §22.3 | 401 and 407 together, values of other realms left alone | [`Challenger`] |
//! | RFC 2069 | answered; accepted only on request | [`AuthenticatorConfig::accept_without_qop`] |
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
#[cfg(test)]
mod testing;

pub use algorithm::{Algorithm, Hash, Qop, UnknownName};
pub use answer::DigestResponse;
pub use challenge::Challenge;
pub use challenger::Challenger;
pub use client::ClientAuthenticator;
pub use config::AuthenticatorConfig;
pub use credentials::Credentials;
pub use error::AuthError;
pub use secret::{Secret, SecretStore};
pub use server::{Ask, Authenticator, Claims, Identity, Metrics, Reason, Verdict};

/// Compiles the program of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
