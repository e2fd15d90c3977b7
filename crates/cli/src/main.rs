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
mod input;
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
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::Local(format!("cannot start: {error}")))?;
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve::run(arguments).await,
            Command::Options(arguments) => options::run(arguments).await,
            Command::Register(arguments) => register::run(arguments).await,
            Command::Message(arguments) => message::run(arguments).await,
            Command::Subscribe(arguments) => subscribe::run(arguments).await,
            Command::Publish(arguments) => publish::run(arguments).await,
        }
    });
    // A name lookup that hangs in the system's resolver must not hold up the end.
    runtime.shutdown_background();
    result
}
