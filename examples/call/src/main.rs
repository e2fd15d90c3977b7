//! A phone in the terminal, without sound: it calls, is called, holds, transfers and hangs up.
//!
//! Each line that is typed is a wish; what becomes of it, and what the other side does, is printed. Session descriptions are made
//! up: they name a port that nobody listens on.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod keyboard;
mod phone;
mod talk;
mod words;

use std::net::IpAddr;
use std::ops::ControlFlow;

use clap::Parser;
use sipora_session_core::{Credentials, Error, SessionManagerBuilder};

use keyboard::Keyboard;
use phone::Phone;
use talk::next;
use words::said;

/// Calls, and is called, in the terminal; without sound
///
/// `help` says what can be typed once it waits for calls. `quit`, the end of the input, Ctrl-C and SIGTERM hang up, and end it.
#[derive(Parser)]
struct Arguments {
    /// Who you are
    user: String,

    /// The port to wait at; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// The address to wait at
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,

    /// Your domain
    #[arg(long, default_value = "127.0.0.1")]
    domain: String,

    /// A proxy that calls go through
    #[arg(long)]
    proxy: Option<String>,

    /// Your password
    #[arg(long, env = "SIPORA_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

#[tokio::main]
async fn main() {
    let end = run().await.map_err(|error| eprintln!("{error}"));
    // The thread that waits for a line would keep the program from its end.
    std::process::exit(i32::from(end.is_err()));
}

async fn run() -> Result<(), Error> {
    let arguments = Arguments::parse();
    let user = &arguments.user;
    let mut builder = SessionManagerBuilder::new()
        .with_bind_address(arguments.address)
        .with_sip_port(arguments.port)
        .with_identity(&format!("sip:{user}@{}", arguments.domain))
        .with_transfers()
        .enable_sip_client();
    if let Some(proxy) = &arguments.proxy {
        builder = builder.with_outbound_proxy(proxy);
    }
    if let Some(password) = &arguments.password {
        builder = builder.with_credentials(Credentials::new(user.as_str(), password.as_str()));
    }
    let (client, mut calls) = builder.build_with_calls().await?;
    let address = client.local_address();
    println!("{user} waits at sip:{user}@{address}; type help for what can be typed");

    let mut phone = Phone::new(client);
    let mut keyboard = Keyboard::new();
    loop {
        tokio::select! {
            line = keyboard.next() => match phone.does(&line, &mut keyboard).await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break,
                Err(error) => println!("not done: {}", said(&error)),
            },
            Some(call) = calls.next() => phone.is_called(call).await,
            event = next(&mut phone.call) => phone.tells(event).await,
            event = next(&mut phone.aside) => phone.tells_aside(event).await,
        }
    }
    phone.ends().await;
    Ok(())
}
