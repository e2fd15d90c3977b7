//! Two users see each other's presence in the terminal, through a server: run it once for each of them.
//!
//! Whoever runs it watches the other (SUBSCRIBE, RFC 6665) and publishes that they are there (PUBLISH, RFC 3903). A line
//! that is typed becomes the remark that the other sees, an empty one says that they are away. The end of the input,
//! Ctrl-D, or Ctrl-C removes what is published, unsubscribes, and ends.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use sipora_session_core::{
    Basic, Credentials, Error, Notification, Presence, SessionManagerBuilder, SipClient, Tuple,
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Shows the presence of another user of a SIP server, and publishes yours.
#[derive(Parser)]
struct Arguments {
    /// The server, as in sip:127.0.0.1:5060 or sip:example.com;transport=tcp
    server: String,

    /// The domain of both users
    #[arg(long, default_value = "127.0.0.1")]
    domain: String,

    /// Who you are
    user: String,

    /// Whom to watch
    other: String,

    /// Your password
    #[arg(long, env = "SIPORA_PASSWORD", hide_env_values = true)]
    password: String,
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
        .enable_sip_client()
        .build()
        .await?;
    // Both are refreshed for as long as their handles live.
    let (pidf, here) = (Presence::CONTENT_TYPE, document(&me, "here"));
    let publication = client.publish(&me, "presence", pidf, &here, 600).await;
    let publication = publication.map_err(failed("publish"))?;
    let subscription = client.subscribe(&other, "presence", 600).await;
    let mut subscription = subscription.map_err(failed("subscribe"))?;
    println!("you are {me}; type a remark, or nothing when you are away, Ctrl-D or Ctrl-C to end");

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            notification = subscription.next() => match notification {
                Some(notification) => show(&notification),
                None => {
                    println!("{other} can be watched no longer: {:?}", subscription.state());
                    break;
                }
            },
            _ = tokio::signal::ctrl_c() => break,
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { break };
                let document = document(&me, line.trim());
                if let Err(error) = publication.modify(pidf, &document).await {
                    println!("not published: {error}");
                }
            }
        }
    }

    publication.remove().await.map_err(failed("unpublish"))?;
    let ended = subscription.terminate().await;
    ended.map_err(failed("unsubscribe"))?;
    client.shutdown().await;
    Ok(())
}

/// Makes the document that is published: open with a remark, closed without.
fn document(me: &str, remark: &str) -> String {
    let tuple = Tuple::new("terminal").with_contact(me);
    let tuple = match remark {
        "" => tuple.with_basic(Basic::Closed),
        remark => tuple.with_basic(Basic::Open).with_note(remark),
    };
    Presence::new(me).with_tuple(tuple).to_xml()
}

/// Prints what a NOTIFY tells of the other. While nobody has decided whether it may, it tells nothing.
fn show(notification: &Notification) {
    let Some(Ok(presence)) = notification.presence() else {
        return;
    };
    let is_there = presence.basic() == Some(Basic::Open);
    let status = if is_there { "there" } else { "away" };
    let mut line = format!("{} is {status}", presence.entity);
    for remark in presence.tuples.iter().flat_map(|tuple| &tuple.notes) {
        line.push_str(&format!(": {remark}"));
    }
    // A peer's control characters stay out of the terminal.
    println!("{}", line.replace(|c: char| c.is_control(), " "));
}
