//! The program `sipora`: a SIP registrar, and a SIP client for the command line.
//!
//! A thin layer over `sipora-call-engine` (`sipora serve`) and `sipora-session-core` (the client commands: `sipora options`,
//! `register`, `message`, `subscribe`, `publish`). Standard output carries results, standard error everything else; the exit
//! status is one of [`exit`].

#![forbid(unsafe_code)]

mod addresses;
mod arguments;
mod client;
mod config;
mod exit;
mod expires;
mod input;
mod listen;
mod log;
mod message;
mod names;
mod notified;
mod open_files;
mod options;
mod output;
mod presence_settings;
mod publish;
mod register;
mod serve;
mod signals;
mod subscribe;
mod time;
mod tls;
mod trace;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;

use crate::arguments::{Arguments, Command};
use crate::exit::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error cannot be written, the exit status still tells.
            let _ = writeln!(io::stderr(), "sipora: {failure}");
            failure.into()
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Err(exit::usage(&error)),
        Err(help) => return Ok(help.print()?),
    };
    log::start(&arguments.command);
    let many = runtime::Builder::new_multi_thread;
    match arguments.command {
        Command::Serve(arguments) => {
            let settings = serve::Settings::from_arguments(arguments)?;
            let threads = match settings.is_one_task() {
                true => runtime::Builder::new_current_thread(),
                false => many(),
            };
            run_on(threads, serve::run(settings))
        }
        Command::Options(arguments) => run_on(many(), options::run(arguments)),
        Command::Register(arguments) => run_on(many(), register::run(arguments)),
        Command::Message(arguments) => run_on(many(), message::run(arguments)),
        Command::Subscribe(arguments) => run_on(many(), subscribe::run(arguments)),
        Command::Publish(arguments) => run_on(many(), publish::run(arguments)),
    }
}

fn run_on(
    mut threads: runtime::Builder,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = threads
        .enable_all()
        .build()
        .map_err(|error| Failure::Local(format!("cannot start: {error}")))?;
    let result = runtime.block_on(command);
    // A name lookup that hangs in the system's resolver must not hold up the end.
    runtime.shutdown_background();
    result
}
