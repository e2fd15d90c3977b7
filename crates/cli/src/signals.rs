//! The signals that end the program, and the one that makes a server read its users again.

use std::time::Duration;

use crate::exit::Failure;

/// How long a removal at the end may take: what init systems and people wait before they kill.
pub(crate) const GOODBYE: Duration = Duration::from_secs(5);

/// Listens for SIGINT (Ctrl-C) and SIGTERM. From here on neither kills the process by itself.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn listen() -> Result<Signals, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::Local(format!("cannot listen for signals: {error}")))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one and gives its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

impl Signals {
    /// Waits for an answer, but no longer than until a signal comes.
    pub(crate) async fn or<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            answer = answer => Ok(answer),
            signal = self.next() => Err(Failure::NoAnswer(format!("{signal}: stopped before an answer came"))),
        }
    }
}

/// Listens for SIGHUP. From here on it does not kill the process.
#[cfg(unix)]
pub(crate) struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    pub(crate) fn listen() -> Result<Hangups, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup())
            .map(Hangups)
            .map_err(|error| Failure::Local(format!("cannot listen for signals: {error}")))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Is never told anything.
#[cfg(not(unix))]
pub(crate) struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    pub(crate) fn listen() -> Result<Hangups, Failure> {
        Ok(Hangups)
    }

    /// Waits for ever.
    pub(crate) async fn next(&mut self) {
        std::future::pending().await
    }
}

/// Listens for Ctrl-C.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn listen() -> Result<Signals, Failure> {
        Ok(Signals)
    }

    /// Waits for the next one and gives its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            // Without a way to be told to stop, run until killed.
            Err(_) => std::future::pending().await,
        }
    }
}
