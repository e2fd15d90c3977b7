//! The log: on standard error, told what to hold by `RUST_LOG` or else by `-v`.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::Command;

/// Starts the log for a command.
pub(crate) fn start(command: &Command) {
    let filter = EnvFilter::builder()
        .with_default_directive(level(command).into())
        .from_env_lossy();
    let colours =
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(io::stderr)
        .init();
}

/// A server says what it does; a client command's errors are its own one line, so the log is for the curious.
fn level(command: &Command) -> LevelFilter {
    match command {
        Command::Serve(arguments) => match arguments.verbose {
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        },
        Command::Options(arguments) => client_level(arguments.client.verbose),
        Command::Register(arguments) => client_level(arguments.client.verbose),
        Command::Message(arguments) => client_level(arguments.client.verbose),
        Command::Subscribe(arguments) => client_level(arguments.client.verbose),
        Command::Publish(arguments) => client_level(arguments.client.verbose),
    }
}

fn client_level(verbose: u8) -> LevelFilter {
    match verbose {
        0 | 1 => LevelFilter::OFF,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
