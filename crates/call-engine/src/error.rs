//! What can go wrong outside of requests.

use std::io;
use std::path::PathBuf;

use crate::StoreError;

/// Says why an engine could not start or could not do what its program asked.
///
/// What goes wrong with a request is no error here: the peer gets an answer, and [`EngineMetrics`] counts it.
///
/// [`EngineMetrics`]: crate::EngineMetrics
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listener could not be bound.
    #[error("cannot listen on {listener}: {source}")]
    Bind {
        /// The transport and address, as in `udp 127.0.0.1:5060`.
        listener: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A setting cannot be used.
    #[error("{setting}: {reason}")]
    Configuration {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The users file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    UsersFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line of the users file is not `user:password`.
    #[error("{}:{line}: {reason}", path.display())]
    UsersLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it. Never its text, which may be a password.
        reason: String,
    },
    /// A user's name or password cannot be used.
    #[error("user {name:?}: {reason}")]
    InvalidUser {
        /// The name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A text is not the URI of an address-of-record.
    #[error("{uri:?} is no address-of-record: {reason}")]
    InvalidUri {
        /// The text.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
