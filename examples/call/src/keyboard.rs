//! What the user types, and whoever tells the program to end.

use std::pin::Pin;

use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

pub(crate) struct Keyboard {
    lines: Lines<BufReader<Stdin>>,
    /// Listens from the beginning: a signal is not missed while something else is done.
    stop: Pin<Box<dyn Future<Output = ()>>>,
}

impl Keyboard {
    pub(crate) fn new() -> Self {
        Self {
            lines: BufReader::new(tokio::io::stdin()).lines(),
            stop: Box::pin(stop()),
        }
    }

    /// A line; where there are no more, or by Ctrl-C or SIGTERM, the user wants to quit.
    pub(crate) async fn next(&mut self) -> String {
        let line = tokio::select! {
            line = self.lines.next_line() => line.ok().flatten(),
            () = &mut self.stop => None,
        };
        line.map_or_else(|| "quit".to_owned(), |line| line.trim().to_owned())
    }
}

/// Waits for SIGTERM or Ctrl-C.
async fn stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    // Without signals it runs until it is killed.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
