//! Registers an address and keeps it registered until Ctrl-C.
//!
//! `cargo run -p sipora-session-core --example register -- sip:alice@127.0.0.1 --registrar sip:127.0.0.1:5060`
//!
//! The password comes from the environment variable `SIPORA_PASSWORD`, so that it stands in no process list.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use sipora_session_core::message::Uri;
use sipora_session_core::{Credentials, Error, SessionManagerBuilder, SipClient};

const USAGE: &str = "usage: register ADDRESS-OF-RECORD [--registrar URI] [--user NAME] [--expires SECONDS] [--proxy URI]

The password is taken from the environment variable SIPORA_PASSWORD.";

struct Arguments {
    address: String,
    registrar: String,
    user: String,
    expires: u32,
    proxy: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let mut builder = SessionManagerBuilder::new().enable_sip_client();
    if let Ok(password) = std::env::var("SIPORA_PASSWORD") {
        builder = builder.with_credentials(Credentials::new(arguments.user.as_str(), password));
    }
    if let Some(proxy) = &arguments.proxy {
        builder = builder.with_outbound_proxy(proxy);
    }
    let coordinator = builder.build().await?;

    let contact = coordinator
        .contact_uri(&arguments.user, &arguments.registrar)
        .await?;
    let registration = coordinator
        .register(
            &arguments.registrar,
            &arguments.address,
            &contact,
            arguments.expires,
        )
        .await?;
    println!("{contact} is bound to {}", arguments.address);

    let mut states = registration.states();
    loop {
        tokio::select! {
            state = states.next() => match state {
                Some(state) => println!("{state}"),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => {
                registration.unregister().await?;
                println!("unregistered");
                break;
            }
        }
    }
    coordinator.shutdown().await;
    Ok(())
}

fn arguments() -> Result<Arguments, String> {
    let mut address = None;
    let (mut registrar, mut user, mut expires, mut proxy) = (None, None, 3600, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--registrar" => registrar = Some(value()?),
            "--user" => user = Some(value()?),
            "--expires" => expires = value()?.parse().map_err(|_| "--expires needs a number")?,
            "--proxy" => proxy = Some(value()?),
            _ if word.starts_with('-') || address.is_some() => {
                return Err(format!("unexpected {word}"));
            }
            _ => address = Some(word),
        }
    }
    let address = address.ok_or("which address?")?;
    let uri = Uri::parse(&address).map_err(|error| error.to_string())?;
    let name = uri.user_decoded().unwrap_or_default().into_owned();
    // The registrar of an address is the host of the address (RFC 3261 §10.2).
    let host = uri.port().map_or(uri.host_str().to_owned(), |port| {
        format!("{}:{port}", uri.host_str())
    });
    Ok(Arguments {
        registrar: registrar.unwrap_or(format!("{}:{host}", uri.scheme_str())),
        user: user.unwrap_or(name),
        address,
        expires,
        proxy,
    })
}
