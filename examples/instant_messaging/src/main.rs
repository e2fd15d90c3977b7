//! Two users chat in the terminal through a registrar: run it once for each of them.
//!
//! Each line that is typed goes to the other as a MESSAGE (RFC 3428), by way of the server, and says what became of it
//! if it was not delivered. What the other types is printed. The end of the input, Ctrl-D, or Ctrl-C unregisters and ends.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::sync::Arc;

use async_trait::async_trait;
use clap::Parser;
use sipora_session_core::{
    Answer, Credentials, Error, Incoming, SessionHandler, SessionManagerBuilder, SipClient,
    StatusCode,
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Chats with another user of a SIP server.
#[derive(Parser)]
struct Arguments {
    /// The server, as in sip:127.0.0.1:5060 or sip:example.com;transport=tcp
    server: String,

    /// The domain of both users
    #[arg(long, default_value = "127.0.0.1")]
    domain: String,

    /// Who you are
    user: String,

    /// Whom to chat with
    other: String,

    /// Your password
    #[arg(long, env = "SIPORA_PASSWORD", hide_env_values = true)]
    password: String,
}

/// Prints what comes in.
struct Screen;

#[async_trait]
impl SessionHandler for Screen {
    async fn on_message(&self, incoming: &Incoming<'_>) -> Answer {
        if !incoming.is_text() {
            return Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .with_header("Accept", "text/plain");
        }
        // A peer's control characters stay out of the terminal.
        let text = incoming.text().replace(|c: char| c.is_control(), " ");
        println!("{}: {text}", incoming.from());
        Answer::ok()
    }
}

#[tokio::main]
async fn main() {
    let end = run().await.map_err(|error| eprintln!("{error}"));
    // The thread that waits for a line would keep the program from its end.
    std::process::exit(i32::from(end.is_err()));
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let failed = |what| move |error: Error| format!("cannot {what}: {error}");
    let arguments = Arguments::parse();
    let Arguments { server, domain, .. } = &arguments;
    let me = format!("sip:{}@{domain}", arguments.user);
    let other = format!("sip:{}@{domain}", arguments.other);

    let credentials = Credentials::new(arguments.user.as_str(), arguments.password.as_str());
    // Every request goes by way of the server, whatever the domain resolves to.
    let client = SessionManagerBuilder::new()
        .with_identity(&me)
        .with_credentials(credentials)
        .with_outbound_proxy(server)
        .with_handler(Arc::new(Screen))
        .enable_sip_client()
        .build()
        .await?;
    let contact = client.contact_uri(&arguments.user, server).await?;
    let registrar = format!("sip:{domain}");
    let registration = client.register(&registrar, &me, &contact, 600).await;
    let registration = registration.map_err(failed("register"))?;
    println!("registered as {me}; type to write to {other}, Ctrl-D or Ctrl-C to end");

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Ok(Some(line)) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        match client.send_message(&other, &line, None).await {
            Ok(answer) if answer.is_success() => {}
            Ok(answer) => println!("not delivered: {} {}", answer.status(), answer.reason()),
            Err(error) => println!("not delivered: {error}"),
        }
    }

    let ended = registration.unregister().await;
    ended.map_err(failed("unregister"))?;
    client.shutdown().await;
    Ok(())
}
